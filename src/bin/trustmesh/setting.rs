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
use trustmesh::bus::ServerInfo;
use trustmesh::bus::nats::Caution;
use trustmesh::bus::nats::NatsBus;
use trustmesh::bus::nats::OldServer;
use trustmesh::client::clock::Clock as _;
use trustmesh::client::clock::SystemClock;
use trustmesh::client::home::DEV_VARIABLE;
use trustmesh::client::home::Home;
use trustmesh::client::home::HomeError;
use trustmesh::client::home::Login;
use trustmesh::error::ConnectError;
use trustmesh::proto::envelope::inbox_prefix;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::rejection::Place;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::rejection::UntrustedRoot;
use trustmesh::proto::root::TrustRoot;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::Admission;
use trustmesh::proto::trust::TrustState;
use trustmesh::services::authority::Authority;

use crate::cli::Global;
use crate::contexts::Context;
use crate::contexts::Contexts;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::WARN;
use crate::output::styled;
use crate::text;

/// The mesh directory when nothing names one.
pub const HOME_DEFAULT: &str = "trustmesh";

/// The server when nothing names one.
pub const SERVER_DEFAULT: &str = "127.0.0.1:4222";

/// The key of an agent, in its directory.
const KEY_FILE: &str = "key.pem";

/// The grant of an agent, in its directory.
pub const GRANT_FILE: &str = "grant.chain";

/// The trust state of a served mesh, in a mesh directory.
const SERVED_FOLDER: &str = "trust/served";

/// How long a server may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Where a command takes place.
#[derive(Debug)]
pub struct Setting {
    home: PathBuf,
    agent: Option<String>,
    server: String,
    tls: Tls,
    dev: bool,
}

/// Files for a TLS connection to the server.
#[derive(Debug, Default)]
struct Tls {
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
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
                tls_ca: context.tls_ca,
                ..Context::default()
            }
        } else {
            context
        };
        // As the `nats` command names them.
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let file = |name, other| set(name).map(PathBuf::from).or(other);
        let tls = Tls {
            ca: file("NATS_CA", context.tls_ca),
            cert: file("NATS_CERT", context.tls_cert),
            key: file("NATS_KEY", context.tls_key),
        };
        Ok(Self {
            tls,
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

    /// Which trust roots are acceptable.
    pub fn admission(&self) -> Admission {
        let set = std::env::var_os(DEV_VARIABLE).is_some_and(|value| value == "1");
        match self.dev || set {
            true => Admission::DangerDevelopment,
            false => Admission::Production,
        }
    }

    /// Refuses the root of a development mesh outside development mode.
    pub fn admit(&self, root: &TrustRoot) -> anyhow::Result<()> {
        if root.is_dev() && self.admission() == Admission::Production {
            let (place, reason) = (Place::TrustFile, UntrustedRoot::DevMesh);
            return Err(Failure::refused(Rejection::UntrustedRoot { place, reason })
                .fact("state", self.home.display().to_string())
                .next("add --dev, if this is a development machine")
                .into());
        }
        Ok(())
    }

    /// Whether the authority of a served mesh is here.
    pub fn keeps_served(&self) -> bool {
        keeps_served(&self.home)
    }

    /// Where an agent's key, certificate and grant lie, or will.
    pub fn agent_directory(&self, id: &AgentId) -> PathBuf {
        self.home.join("agents").join(id.token())
    }

    /// The trust state of the mesh.
    pub fn trust(&self) -> anyhow::Result<Arc<TrustState>> {
        if self.keeps_served() {
            // Newer than what agents of this directory last heard.
            self.open()?;
            let state = Authority::saved_state(&self.home)?;
            self.admit(state.root())?;
            return Ok(Arc::new(state));
        }
        Ok(self.open()?.trust().map_err(explain)?.current())
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
        let id = AgentId::parse(agent).map_err(|why| {
            Failure::usage(format!("{agent:?} names no agent: {why}")).next("trustmesh agent list")
        })?;
        let home = self.open()?;
        match home.identity(agent) {
            Err(HomeError::Absent { .. }) if !self.known(agent).unwrap_or(true) => {
                let text = format!("no agent {agent:?} in {}", self.home.display());
                Err(Failure::config(text).next("trustmesh agent list").into())
            }
            Err(HomeError::OtherKey { path }) => Err(self.other_key(&home, &id, &path)),
            Err(HomeError::Refused { path, why, .. })
                if matches!(why, Rejection::StaleState { .. }) =>
            {
                Err(self.stale(&id, &path, why))
            }
            // As the bus would have told a moment later.
            Err(HomeError::Refused { why, .. })
                if matches!(why, Rejection::Revoked { .. }) && is_served(&self.home) =>
            {
                Err(self.not_held(why))
            }
            Err(HomeError::Refused { path, why, .. }) if path.ends_with(GRANT_FILE) => {
                Err(self.refused_grant(&home, &id, &path, why))
            }
            other => other.map_err(explain),
        }
    }

    /// Says that nobody can act as this agent now.
    fn not_held(&self, why: Rejection) -> anyhow::Error {
        let agent = self.agent.as_deref().unwrap_or_default();
        Failure::refused(why)
            .fact("asked", format!("to act as {agent}"))
            .into()
    }

    /// Says whose key it is that lies where another's should.
    fn other_key(&self, home: &Home, agent: &AgentId, certificate: &Path) -> anyhow::Error {
        let path = home.agent_directory(agent).join(KEY_FILE);
        let held = trustmesh::keyfile::load(&path).map(|key| key.public().bytes());
        let owner = held.ok().and_then(|key| {
            let trust = self.trust().ok()?;
            let owner = trust.certificate(&key)?.agent().to_string();
            Some(owner)
        });
        let text = format!("{} is not the key of {agent}", path.display());
        Failure::config(text)
            .fact("asked", format!("to act as {agent}"))
            .fact("held", match owner {
                Some(owner) => format!("the key of {owner}"),
                None => "a key of nobody in this mesh".to_owned(),
            })
            .fact("file", format!("{} certifies another key", certificate.display()))
            .next(format!(
                "restore the key that was made with the certificate; if it is lost: trustmesh revoke {agent}, and enrol another agent"
            ))
            .into()
    }

    /// Says which of two is out of date, trust files or this machine's clock.
    fn stale(&self, agent: &AgentId, path: &Path, why: Rejection) -> anyhow::Error {
        let mut failure = Failure::refused(why)
            .fact("asked", format!("to act as {agent}"))
            .fact("file", path.display().to_string())
            .next("trustmesh policy push signs the files again; copy trust/ from there");
        if let (Ok(now), Ok(trust)) = (now(), self.trust()) {
            let from = trust.root().validity().from();
            failure = failure.fact("clock", text::utc(now));
            if now < from {
                failure = failure
                    .fact("mesh", format!("began at {}", text::utc(from)))
                    .next("set the clock right: chronyc tracking, or timedatectl");
            }
        }
        failure.into()
    }

    /// Says what a grant holds that no longer, or not yet, does.
    fn refused_grant(
        &self,
        home: &Home,
        agent: &AgentId,
        path: &Path,
        why: Rejection,
    ) -> anyhow::Error {
        let mut failure = Failure::refused(why)
            .fact("asked", format!("to act as {agent}"))
            .fact("file", path.display().to_string());
        if let (Ok(grant), Ok(trust)) = (home.grant(agent), self.trust()) {
            failure = failure.holding(&grant, &trust);
        }
        if matches!(why, Rejection::Expired { .. }) {
            failure = failure.next(format!(
                "trustmesh token issue {agent}, where the authority's keys are"
            ));
        }
        failure.into()
    }

    fn known(&self, agent: &str) -> anyhow::Result<bool> {
        let trust = self.trust()?;
        Ok(trust.certificates().any(|c| c.agent().as_str() == agent))
    }

    /// Gets the first trust state of a served mesh, where there is none yet.
    async fn begin(&self) -> anyhow::Result<()> {
        let home = self.open()?;
        let first = matches!(home.trust(), Err(HomeError::Absent { path, .. })
            if path.ends_with(SERVED_FOLDER));
        if first {
            home.catch_up(&self.bus().await?).await?;
        }
        Ok(())
    }

    /// Connects the agent.
    pub async fn connect(
        &self,
        audit: AuditOptions,
        output: &Output,
    ) -> anyhow::Result<(Identity, Client)> {
        self.begin().await?;
        let identity = self.identity()?;
        let client = ConnectOptions::new(identity.clone())
            .nats(self.nats_options()?)
            .audit(audit)
            .connect(self.server.as_str())
            .await
            .map_err(|error| match error {
                ConnectError::Bus(error) => self.not_reached(&error),
                ConnectError::Identity(why) => self.not_held(why),
                other => other.into(),
            })?;
        if identity.trust().current().root().is_dev() {
            let path = self.home.display();
            output.note(format_args!(
                "{} trusting the development mesh in {path}",
                styled(WARN, "warning:")
            ));
        }
        if self.is_plain(&client.server_info()) {
            output.note(format_args!(
                "{} payloads leave this machine in plain text: signed, not encrypted",
                styled(WARN, "warning:")
            ));
        }
        Ok((identity, client))
    }

    /// Whether what is sent leaves this machine as it is.
    pub fn is_plain(&self, info: &ServerInfo) -> bool {
        let place = without_credentials(&self.server);
        let host = place.rsplit("://").next().unwrap_or(&place);
        let near = ["127.", "localhost", "[::1]"];
        !info.tls_required && !near.iter().any(|name| host.starts_with(name))
    }

    /// Connects to the bus alone, as anybody who may log in could.
    pub async fn bus(&self) -> anyhow::Result<NatsBus> {
        self.bus_with(Caution::Strict).await
    }

    /// Connects to the bus with the inbox of a key, which a server that knows it lets it have.
    pub async fn bus_of(&self, key: &KeyBytes) -> anyhow::Result<NatsBus> {
        let options = self.nats_options()?.custom_inbox_prefix(inbox_prefix(key));
        NatsBus::connect_with(self.server.as_str(), options, Caution::Strict)
            .await
            .map_err(|error| self.not_reached(&error))
    }

    /// Connects to whatever server is there, to say what is wrong with it.
    pub async fn any_bus(&self) -> anyhow::Result<NatsBus> {
        self.bus_with(Caution::DangerLenient).await
    }

    async fn bus_with(&self, caution: Caution) -> anyhow::Result<NatsBus> {
        NatsBus::connect_with(self.server.as_str(), self.nats_options()?, caution)
            .await
            .map_err(|error| self.not_reached(&error))
    }

    /// How the agent logs in, where its directory says so.
    fn login(&self) -> anyhow::Result<Option<Login>> {
        let id = self.agent.as_deref().and_then(|id| AgentId::parse(id).ok());
        match (id, Home::open(&self.home)) {
            (Some(id), Ok(home)) => Ok(home.login(&id)?),
            _ => Ok(None),
        }
    }

    fn with_tls(&self, options: bus::ConnectOptions) -> anyhow::Result<bus::ConnectOptions> {
        let Tls { ca, cert, key } = &self.tls;
        for path in [ca, cert, key].into_iter().flatten() {
            if !path.is_file() {
                let text = format!("{} is no file", path.display());
                return Err(Failure::config(text)
                    .next("correct NATS_CA, NATS_CERT and NATS_KEY, or the context")
                    .into());
            }
        }
        // Whoever says how to know the server does not want to talk to another in plain text.
        let asked = ca.is_some() || cert.is_some();
        let mut options = if asked {
            options.require_tls(true)
        } else {
            options
        };
        if let Some(ca) = ca {
            options = options.add_root_certificates(ca.clone());
        }
        match (cert, key) {
            (Some(cert), Some(key)) => {
                Ok(options.add_client_certificate(cert.clone(), key.clone()))
            }
            (None, None) => Ok(options),
            _ => Err(Failure::usage("NATS_CERT and NATS_KEY go together")
                .next("set both, or neither")
                .into()),
        }
    }

    fn nats_options(&self) -> anyhow::Result<bus::ConnectOptions> {
        if without_credentials(&self.server) != self.server {
            // What stands in an address ends up in arguments, logs and histories.
            let server = without_credentials(&self.server);
            let text = format!("the address of the server, {server}, came with user or password");
            return Err(Failure::usage(text)
                .next("leave them out, and set NATS_USER and NATS_PASSWORD")
                .into());
        }
        let options = bus::ConnectOptions::new()
            .connection_timeout(CONNECT_WITHIN)
            .name("trustmesh");
        let options = self.with_tls(options)?;
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        // Secrets never come as flags: arguments are visible to everyone on the machine.
        match (set("NATS_USER"), set("NATS_PASSWORD")) {
            (Some(user), Some(password)) => Ok(options.user_and_password(user, password)),
            (None, None) => match self.login()? {
                Some(login) => Ok(login.apply(options)?),
                None => Ok(options),
            },
            _ => Err(Failure::usage("NATS_USER and NATS_PASSWORD go together")
                .next("set both, or neither")
                .into()),
        }
    }

    fn not_reached(&self, error: &bus::ConnectError) -> anyhow::Error {
        // The address may hold a password.
        let server = without_credentials(&self.server);
        if error.kind() == bus::ConnectErrorKind::AuthorizationViolation {
            let text = format!("the nats-server at {server} refuses the login");
            return Failure::unreachable(text)
                .next("trustmesh nats config writes logins; or set NATS_USER and NATS_PASSWORD")
                .into();
        }
        if let Some(old) =
            std::error::Error::source(error).and_then(|e| e.downcast_ref::<OldServer>())
        {
            return Failure::unreachable(old.to_string())
                .next("install a newer nats-server")
                .into();
        }
        Failure::unreachable(format!("no nats-server answers at {server}: {error}"))
            .next("start one (nats-server), or give --server URL")
            .into()
    }
}

/// Whether the authority of a served mesh lies in a directory.
pub fn keeps_served(home: &Path) -> bool {
    home.join("authority").is_dir() && is_served(home)
}

/// Whether a directory is one of a served mesh.
pub fn is_served(home: &Path) -> bool {
    let root = std::fs::read(home.join("trust/root.tm"));
    let root = root.map(|bytes| TrustRoot::parse(&bytes.into()));
    matches!(root, Ok(Ok(root)) if root.is_served())
}

/// Says which file is refused, and which switch accepts a development mesh.
fn explain(error: HomeError) -> anyhow::Error {
    match &error {
        HomeError::Refused {
            path,
            why: why @ Rejection::UntrustedRoot { reason, .. },
            ..
        } if *reason == UntrustedRoot::DevMesh => Failure::refused(*why)
            .fact("file", path.display().to_string())
            .next("add --dev, if this is a development machine")
            .into(),
        HomeError::Refused { path, why, next } => Failure::refused(*why)
            .fact("file", path.display().to_string())
            .next(*next)
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
