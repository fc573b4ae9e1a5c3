//! Where a command takes place: which mesh, as which agent, on which server. A flag wins over the
//! environment, the environment over the context, the context over the default.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use trustmesh::AuditOptions;
use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::Identity;
use trustmesh::bus;
use trustmesh::bus::nats::NatsBus;
use trustmesh::client::clock::Clock as _;
use trustmesh::client::clock::SystemClock;
use trustmesh::client::home::Home;
use trustmesh::client::home::HomeError;
use trustmesh::error::ConnectError;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::rejection::UntrustedRoot;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::TrustState;
use trustmesh::services::authority::Authority;

use crate::cli::Global;
use crate::contexts::Context;
use crate::contexts::Contexts;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::WARN;
use crate::output::styled;

/// The mesh directory when nothing names one.
pub const HOME_DEFAULT: &str = "trustmesh";

/// The server when nothing names one.
pub const SERVER_DEFAULT: &str = "127.0.0.1:4222";

/// How long a server may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Where a command takes place.
#[derive(Debug)]
pub struct Setting {
    home: PathBuf,
    agent: Option<String>,
    server: String,
    dev: bool,
}

impl Setting {
    /// Puts flags, environment, context and defaults together.
    pub fn of(global: &Global) -> anyhow::Result<Self> {
        let contexts = Contexts::load()?;
        let context = match global.context.as_ref().or(contexts.current.as_ref()) {
            Some(name) => contexts.named(name)?.clone(),
            None => Context::default(),
        };
        // A context speaks of its own mesh: beside another mesh, its agent and its word on
        // development mode say nothing.
        let home = global
            .home
            .as_deref()
            .map(std::path::absolute)
            .transpose()?;
        let elsewhere = home.is_some() && home != context.home;
        let context = if elsewhere {
            Context {
                server: context.server,
                ..Context::default()
            }
        } else {
            context
        };
        Ok(Self {
            home: global
                .home
                .clone()
                .or(context.home)
                .unwrap_or_else(|| HOME_DEFAULT.into()),
            agent: global.agent.clone().or(context.agent),
            server: global
                .server
                .clone()
                .or(context.server)
                .unwrap_or_else(|| SERVER_DEFAULT.to_owned()),
            dev: global.dev || context.dev,
        })
    }

    /// The mesh directory.
    pub fn path(&self) -> &Path {
        &self.home
    }

    /// The server's address.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The agent, if one was named.
    pub fn agent(&self) -> Option<&str> {
        self.agent.as_deref()
    }

    /// The mesh directory, opened.
    pub fn open(&self) -> anyhow::Result<Home> {
        let home = Home::open(&self.home).map_err(|error| match error {
            HomeError::Absent { path, .. } => {
                Failure::config(format!("{} does not exist", path.display()))
                    .next("give --home DIR, or make a mesh: trustmesh init --dev")
                    .into()
            }
            other => anyhow::Error::from(other),
        })?;
        Ok(if self.dev {
            home.danger_allow_dev()
        } else {
            home
        })
    }

    /// The trust state of the mesh.
    pub fn trust(&self) -> anyhow::Result<Arc<TrustState>> {
        Ok(self.open()?.trust().map_err(explain_dev)?.current())
    }

    /// The authority of the mesh, whose role keys have to be here.
    pub fn authority(&self) -> anyhow::Result<Authority> {
        self.open()?;
        Ok(Authority::open(&self.home)?)
    }

    /// The agent to act as, loaded.
    pub fn identity(&self) -> anyhow::Result<Identity> {
        let agent = self.agent.as_deref().ok_or_else(|| {
            Failure::usage("no agent is named: which one is to act?")
                .next("give --agent ID; trustmesh agent list names them")
        })?;
        match self.open()?.identity(agent) {
            Err(HomeError::Absent { .. } | HomeError::Agent { .. })
                if !self.known(agent).unwrap_or(true) =>
            {
                let text = format!("no agent {agent:?} in {}", self.home.display());
                Err(Failure::config(text).next("trustmesh agent list").into())
            }
            other => other.map_err(explain_dev),
        }
    }

    fn known(&self, agent: &str) -> anyhow::Result<bool> {
        let trust = self.trust()?;
        Ok(trust.certificates().any(|c| c.agent().as_str() == agent))
    }

    /// Connects the agent.
    pub async fn connect(
        &self,
        audit: AuditOptions,
        output: &Output,
    ) -> anyhow::Result<(Identity, Client)> {
        let identity = self.identity()?;
        if identity.trust().current().root().is_dev() {
            let path = self.home.display();
            output.note(format_args!(
                "{} trusting the development mesh in {path}",
                styled(WARN, "warning:")
            ));
        }
        let client = ConnectOptions::new(identity.clone())
            .nats(self.nats_options()?)
            .audit(audit)
            .connect(self.server.as_str())
            .await
            .map_err(|error| match error {
                ConnectError::Bus(error) => self.not_reached(&error),
                other => other.into(),
            })?;
        Ok((identity, client))
    }

    /// Connects to the bus alone, as anybody could.
    pub async fn bus(&self) -> anyhow::Result<NatsBus> {
        NatsBus::connect(self.server.as_str(), self.nats_options()?)
            .await
            .map_err(|error| self.not_reached(&error))
    }

    fn nats_options(&self) -> anyhow::Result<bus::ConnectOptions> {
        let options = bus::ConnectOptions::new()
            .connection_timeout(CONNECT_WITHIN)
            .name("trustmesh");
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        // Secrets never come as flags: arguments are visible to everyone on the machine.
        match (set("NATS_USER"), set("NATS_PASSWORD")) {
            (Some(user), Some(password)) => Ok(options.user_and_password(user, password)),
            (None, None) => Ok(options),
            _ => Err(Failure::usage("NATS_USER and NATS_PASSWORD go together").into()),
        }
    }

    fn not_reached(&self, error: &bus::ConnectError) -> anyhow::Error {
        // The address may hold a password.
        let server = without_credentials(&self.server);
        Failure::unreachable(format!("no nats-server answers at {server}: {error}"))
            .next("start one (nats-server), or give --server URL; then trustmesh check")
            .into()
    }
}

/// Says which switch accepts a development mesh.
fn explain_dev(error: HomeError) -> anyhow::Error {
    match &error {
        HomeError::Refused {
            path,
            why: why @ Rejection::UntrustedRoot { reason, .. },
            ..
        } if *reason == UntrustedRoot::DevMesh => Failure::refused(*why)
            .fact("file", path.display().to_string())
            .next("add --dev, if this is a development machine")
            .into(),
        _ => error.into(),
    }
}

/// An address without the user and password it may hold.
pub fn without_credentials(address: &str) -> String {
    match (address.find("://"), address.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            format!("{}{}", &address[..scheme + 3], &address[at + 1..])
        }
        (None, Some(at)) => address[at + 1..].to_owned(),
        _ => address.to_owned(),
    }
}

/// Now.
pub fn now() -> anyhow::Result<Timestamp> {
    Ok(SystemClock::new().now()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OB-3: an address never shows its password.
    #[test]
    fn addresses_are_shown_without_credentials() {
        for (given, shown) in [
            ("nats://u:p@host:4222", "nats://host:4222"),
            ("u:p@host", "host"),
            ("tls://u:p@ss@host:1", "tls://host:1"),
            ("127.0.0.1:4222", "127.0.0.1:4222"),
        ] {
            assert_eq!(without_credentials(given), shown);
        }
    }
}
