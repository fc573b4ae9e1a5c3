//! What every connection of one bus is dialled from, and how far a server's word is taken.
//!
//! What a server says of itself and of its cluster arrives before anything is authenticated. So by
//! default only the addresses that were given are dialled, and a server too old to have the fixes
//! that matter is left again.

use std::fmt;

use async_nats::Client;
use async_nats::connection::State;
use thiserror::Error;

use crate::bus::{ConnectError, ConnectErrorKind, ConnectOptions, ServerAddr};

/// The oldest line of nats-server that still gets fixes this project relies on, as major and minor
/// version. Older ones answer "ok" to JetStream requests they only half understand.
pub const SERVER_FLOOR: (u32, u32) = (2, 10);

/// How much of a server's version is repeated to people: what a server sends is bounded.
const VERSION_SHOWN: usize = 32;

/// How far the word of a server is taken. It comes unauthenticated, and in plain text.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Caution {
    /// Only the addresses that were given are dialled, whatever a server says of its cluster, and
    /// a server below [`SERVER_FLOOR`] is refused with [`OldServer`].
    #[default]
    Strict,
    /// Addresses that a server names are dialled too, with the same user and password; an old
    /// server is a [warning](crate::bus::Bus::warning).
    DangerLenient,
}

/// The server is below [`SERVER_FLOOR`], or does not say a version that can be compared.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error(
    "nats-server {version} is older than {}.{}, which is the least that is used",
    SERVER_FLOOR.0,
    SERVER_FLOOR.1
)]
pub struct OldServer {
    /// What it said, in printable characters.
    pub version: String,
}

impl OldServer {
    /// Looks at a version as servers print it, for example `2.12.8`.
    fn check(version: &str) -> Result<(), Self> {
        let mut parts = version.trim_start_matches('v').split('.');
        let mut number = || parts.next()?.parse::<u32>().ok();
        match (number(), number()) {
            (Some(major), Some(minor)) if (major, minor) >= SERVER_FLOOR => Ok(()),
            _ => {
                let version = version.chars().filter(char::is_ascii_graphic);
                let version: String = version.take(VERSION_SHOWN).collect();
                let unsaid = version.is_empty();
                Err(Self {
                    version: if unsaid { "?".to_owned() } else { version },
                })
            }
        }
    }
}

/// Addresses without credentials, and options that have them.
pub(super) struct Origin {
    addrs: Vec<ServerAddr>,
    options: ConnectOptions,
    caution: Caution,
}

impl Origin {
    /// Takes user and password out of the addresses and into the options, where neither errors nor
    /// logs show them.
    pub(super) fn new(
        addrs: Vec<ServerAddr>,
        options: ConnectOptions,
        caution: Caution,
    ) -> Result<Self, ConnectError> {
        let wrong = |why| ConnectError::with_source(ConnectErrorKind::ServerParse, why);
        let login = Login::shared_by(&addrs).map_err(wrong)?;
        let addrs: Option<Vec<_>> = addrs.into_iter().map(bare).collect();
        let options = match names_certificates(&options) {
            true => options.require_tls(true),
            false => options,
        };
        let options = match login {
            None => options,
            Some(Login::Token(token)) => options.token(token),
            Some(Login::Password(user, password)) => options.user_and_password(user, password),
        };
        Ok(Self {
            addrs: addrs.ok_or_else(|| wrong(InvalidLogin::Unusable))?,
            options: match caution {
                Caution::Strict => options.ignore_discovered_servers(),
                Caution::DangerLenient => options,
            },
            caution,
        })
    }

    /// How far a server's word is taken.
    pub(super) fn caution(&self) -> Caution {
        self.caution
    }

    /// Makes a connection.
    pub(super) async fn dial(&self) -> Result<Client, ConnectError> {
        let client = async_nats::connect_with_options(&self.addrs, self.options.clone()).await?;
        let Some(old) = old_server(&client) else {
            return Ok(client);
        };
        match self.caution {
            Caution::DangerLenient => {
                tracing::warn!(%old, "an old server is used");
                Ok(client)
            }
            Caution::Strict => {
                // Whether or not it is told goodbye, it is left.
                let _ = client.drain().await;
                Err(ConnectError::with_source(ConnectErrorKind::Io, old))
            }
        }
    }
}

/// Whether options name a certificate, of an issuer or their own: who does means TLS, also when a
/// server, or somebody in its place, says that it has none.
///
/// What options hold shows in how they print and nowhere else. Should that change, TLS is required
/// of everybody, and tests fail.
fn names_certificates(options: &ConnectOptions) -> bool {
    let shown = format!("{options:?}");
    let none = [r#""certificates": []"#, r#""client_cert": None"#];
    none.iter().any(|none| !shown.contains(none))
}

/// What is wrong with the version of the server a client is connected to, if anything.
pub(super) fn old_server(client: &Client) -> Option<OldServer> {
    // With `retry_on_initial_connect` nobody may have said anything yet.
    if client.connection_state() == State::Pending {
        return None;
    }
    OldServer::check(&client.server_info().version).err()
}

/// How an address says who connects.
#[derive(Eq, PartialEq)]
enum Login {
    Token(String),
    Password(String, String),
}

/// Why what stands before the `@` of an address cannot be used. It never repeats it.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
enum InvalidLogin {
    #[error("the addresses of one connection come with different users or passwords")]
    Different,
    #[error("an address has a password, and no user")]
    NoUser,
    #[error("user or password of an address is no percent-encoded UTF-8")]
    Encoding,
    #[error("an address came with user or password, and cannot be used without")]
    Unusable,
}

impl Login {
    /// What all addresses say. Where one says nothing, it would be sent what is meant for another.
    fn shared_by(addrs: &[ServerAddr]) -> Result<Option<Self>, InvalidLogin> {
        let mut logins = addrs.iter().map(Self::of);
        let Some(first) = logins.next().transpose()? else {
            return Ok(None);
        };
        for login in logins {
            if login? != first {
                return Err(InvalidLogin::Different);
            }
        }
        Ok(first)
    }

    fn of(addr: &ServerAddr) -> Result<Option<Self>, InvalidLogin> {
        match (addr.username(), addr.password()) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(InvalidLogin::NoUser),
            (Some(token), None) => Ok(Some(Self::Token(decoded(token)?))),
            (Some(user), Some(password)) => {
                Ok(Some(Self::Password(decoded(user)?, decoded(password)?)))
            }
        }
    }
}

/// The address without what stands before its `@`.
fn bare(addr: ServerAddr) -> Option<ServerAddr> {
    if addr.username().is_none() && addr.password().is_none() {
        return Some(addr);
    }
    let mut url = addr.into_inner();
    url.set_password(None).ok()?;
    url.set_username("").ok()?;
    ServerAddr::from_url(url).ok()
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Result<String, InvalidLogin> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(InvalidLogin::Encoding);
        };
        // Two hexadecimal digits make a byte.
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).map_err(|_| InvalidLogin::Encoding)
}

impl fmt::Debug for Origin {
    /// Names hosts and ports only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addrs = self.addrs.iter();
        f.debug_list()
            .entries(addrs.map(|addr| format!("{}:{}", addr.host(), addr.port())))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(addrs: &[&str]) -> Result<Origin, ConnectError> {
        let addrs = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
        Origin::new(addrs, ConnectOptions::new(), Caution::Strict)
    }

    #[test]
    fn versions_are_compared_by_number() {
        for version in ["2.10.0", "2.12.8", "3.0", "v2.11.1-beta"] {
            assert_eq!(OldServer::check(version), Ok(()), "{version}");
        }
        for version in ["2.9.25", "1.4.1", "", "unknown", "2", "2.x.1"] {
            assert!(OldServer::check(version).is_err(), "{version}");
        }
        let long = OldServer::check(&"\u{1b}[31m9".repeat(99))
            .unwrap_err()
            .version;
        assert_eq!(long.len(), VERSION_SHOWN);
        assert!(!long.contains('\u{1b}'));
    }

    #[test]
    fn credentials_leave_the_addresses() {
        let origin = origin(&["nats://me:s%65cret@one:1", "nats://me:secret@two:2"]).unwrap();
        for addr in &origin.addrs {
            assert!(
                !addr.as_url_str().contains("secret"),
                "{}",
                addr.as_url_str()
            );
            assert!(!addr.as_url_str().contains("me"), "{}", addr.as_url_str());
        }
        assert_eq!(format!("{origin:?}"), r#"["one:1", "two:2"]"#);
    }

    /// NA-4: who names certificates gets TLS or nothing.
    #[test]
    fn certificates_require_tls_and_nothing_else_does() {
        let required = |options: ConnectOptions| {
            let addrs = vec!["one".parse().unwrap()];
            let origin = Origin::new(addrs, options, Caution::Strict).unwrap();
            format!("{:?}", origin.options).contains(r#""tls_required": true"#)
        };
        assert!(!required(ConnectOptions::new()));
        let named = ConnectOptions::new().name(r#""certificates": [], "client_cert": None"#);
        assert!(required(
            named.clone().add_root_certificates("ca.pem".into())
        ));
        assert!(required(
            named
                .clone()
                .add_client_certificate("cert.pem".into(), "key.pem".into())
        ));
        assert!(!required(named));
        assert!(required(ConnectOptions::new().require_tls(true)));
    }

    /// OB-3: what is wrong is said without repeating a secret.
    #[test]
    fn credentials_meant_for_one_server_are_not_sent_to_another() {
        for addrs in [
            &["nats://me:secret@one", "nats://two"][..],
            &["nats://me:secret@one", "nats://me:secret2@two"],
            &["nats://:secret@one"],
            &["nats://me:secret%f0@one"],
            &["nats://me:secret%4@one"],
        ] {
            let error = origin(addrs).unwrap_err();
            assert_eq!(error.kind(), ConnectErrorKind::ServerParse, "{addrs:?}");
            assert!(
                !format!("{error} {error:?}").contains("secret"),
                "{error:?}"
            );
        }
    }
}
