//! How an agent logs in to its nats-server: what `trustmesh nats config` leaves in its directory.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroizing;

use super::HomeError;
use crate::bus;
use crate::keyfile;
use crate::keyfile::KeyFileError;
use crate::proto::identity::KeyBytes;
use crate::proto::identity::SigningKey;

/// A user and its secret at a nats-server. They say who connects, never who sends: the key is
/// another than the agent's, and messages prove themselves.
///
/// It prints without the secret.
///
/// ```
/// use trustmesh::client::home::Login;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # if cfg!(not(unix)) { return Ok(()) }
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("nats.login");
/// let login = Login::new_password("planner")?;
/// login.create(&path)?;
/// assert!(Login::load(&path)? == login);
/// assert_eq!(format!("{login:?}"), r#"Password("planner")"#);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub enum Login {
    /// User and password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Zeroizing<String>,
    },
    /// The seed of a connection key, an nkey. Connecting with it needs the feature `nkeys`.
    Nkey(Zeroizing<String>),
}

/// The file: one of the two.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, untagged)]
enum File {
    Password {
        user: String,
        password: Zeroizing<String>,
    },
    Nkey {
        nkey: Zeroizing<String>,
    },
}

impl Login {
    /// A new password of 32 random bytes for a user.
    ///
    /// # Errors
    ///
    /// [`KeyGeneration`](crate::proto::identity::KeyGeneration) when there are no random numbers.
    pub fn new_password(
        user: impl Into<String>,
    ) -> Result<Self, crate::proto::identity::KeyGeneration> {
        // A seed is 32 random bytes; that this one could sign is of no interest.
        let random = SigningKey::generate()?;
        let password = data_encoding::BASE64URL_NOPAD.encode(&random.seed()[..]);
        Ok(Self::Password {
            user: user.into(),
            password: password.into(),
        })
    }

    /// A new connection key.
    ///
    /// # Errors
    ///
    /// [`KeyGeneration`](crate::proto::identity::KeyGeneration) when there are no random numbers.
    pub fn new_nkey() -> Result<Self, crate::proto::identity::KeyGeneration> {
        Ok(Self::Nkey(SigningKey::generate()?.to_nkey_seed()))
    }

    /// The public key of a connection key; `None` for a password.
    pub fn nkey(&self) -> Option<KeyBytes> {
        match self {
            Self::Password { .. } => None,
            Self::Nkey(seed) => {
                let key = SigningKey::from_nkey_seed(seed).ok()?;
                Some(key.public().bytes())
            }
        }
    }

    /// Reads the file, which nobody but its owner may use.
    ///
    /// # Errors
    ///
    /// [`HomeError::Key`] as [`keyfile::load`], [`HomeError::Login`] when the file holds no login.
    pub fn load(path: &Path) -> Result<Self, HomeError> {
        let text = keyfile::load_text(path)?;
        let no_login = || HomeError::Login {
            path: path.to_owned(),
        };
        let login = match serde_json::from_str(&text).map_err(|_| no_login())? {
            File::Password { user, password } => Self::Password { user, password },
            File::Nkey { nkey } => Self::Nkey(nkey),
        };
        match &login {
            Self::Password { user, password } if user.is_empty() || password.is_empty() => {
                Err(no_login())
            }
            Self::Nkey(_) if login.nkey().is_none() => Err(no_login()),
            _ => Ok(login),
        }
    }

    /// [`load`](Self::load), where it is no error that there is no such file.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_if_there(path: &Path) -> Result<Option<Self>, HomeError> {
        match Self::load(path) {
            Ok(login) => Ok(Some(login)),
            Err(HomeError::Key(KeyFileError::Io { source, .. }))
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes a new file, readable by its owner alone.
    ///
    /// # Errors
    ///
    /// As [`keyfile::create`].
    pub fn create(&self, path: &Path) -> Result<(), HomeError> {
        Ok(keyfile::create_text(path, &self.text())?)
    }

    /// Writes the file in place of what is there.
    ///
    /// # Errors
    ///
    /// As [`keyfile::replace`].
    pub fn replace(&self, path: &Path) -> Result<(), HomeError> {
        Ok(keyfile::replace_text(path, &self.text())?)
    }

    /// The same options, logging in like this.
    ///
    /// # Errors
    ///
    /// [`HomeError::NoNkeys`] for a connection key without the feature `nkeys`.
    pub fn apply(&self, options: bus::ConnectOptions) -> Result<bus::ConnectOptions, HomeError> {
        match self {
            Self::Password { user, password } => {
                Ok(options.user_and_password(user.clone(), password.to_string()))
            }
            #[cfg(feature = "nkeys")]
            Self::Nkey(seed) => Ok(options.nkey(seed.to_string())),
            #[cfg(not(feature = "nkeys"))]
            Self::Nkey(_) => Err(HomeError::NoNkeys),
        }
    }

    fn text(&self) -> Zeroizing<String> {
        let file = match self.clone() {
            Self::Password { user, password } => File::Password { user, password },
            Self::Nkey(nkey) => File::Nkey { nkey },
        };
        let mut text = serde_json::to_string(&file)
            // Two strings, which JSON can always express.
            .expect("a login is expressible in JSON");
        text.push('\n');
        text.into()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => f.debug_tuple("Password").field(user).finish(),
            Self::Nkey(_) => {
                let key = self.nkey().map(|key| key.to_nkey());
                f.debug_tuple("Nkey").field(&key).finish()
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_private_and_survives_its_file() {
        use std::os::unix::fs::PermissionsExt as _;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nats.login");
        assert!(Login::load_if_there(&path).unwrap().is_none());
        for login in [
            Login::new_password("team/reader").unwrap(),
            Login::new_nkey().unwrap(),
        ] {
            login.replace(&path).unwrap();
            assert!(Login::load(&path).unwrap() == login);
            assert!(
                login.create(&path).is_err(),
                "never overwritten by accident"
            );
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Login::load(&path), Err(HomeError::Key(_))));
    }

    #[test]
    fn what_is_no_login_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nats.login");
        for text in [
            "{}",
            r#"{"user":"a","password":""}"#,
            r#"{"user":"a","password":"b","nkey":"c"}"#,
            r#"{"nkey":"SUAAAA"}"#,
            "planner",
        ] {
            keyfile::replace_text(&path, text).unwrap();
            let error = Login::load(&path).unwrap_err();
            assert!(matches!(error, HomeError::Login { .. }), "{text}: {error}");
        }
    }

    /// OB-1: no secret is printed.
    #[test]
    fn a_login_prints_without_its_secret() {
        let Login::Password { password, .. } = Login::new_password("a").unwrap() else {
            panic!("a password was asked for");
        };
        assert_eq!(password.len(), 43);
        let login = Login::Password {
            user: "a".to_owned(),
            password: password.clone(),
        };
        assert!(!format!("{login:?}").contains(password.as_str()));
        let Login::Nkey(seed) = Login::new_nkey().unwrap() else {
            panic!("an nkey was asked for");
        };
        assert!(!format!("{:?}", Login::Nkey(seed.clone())).contains(seed.as_str()));
    }
}
