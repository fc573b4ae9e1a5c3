//! A mesh directory: where an agent's key, certificate and grant lie, and the trust files it
//! decides by.
//!
//! ```text
//! <home>/trust/      root.tm  registry.tm  policy.tm  revocations.tm  scores.tm   signed, public
//!                    root.2.tm …         trust roots after the first, where the authority works;
//!                                        what came with one may have its version as well
//!                    served/             what a served mesh's verifier service said last
//!                    root.id             the trust root to accept, in hexadecimal; optional
//! <home>/agents/<id>/key.pem             private, mode 0600
//!                    certificate.bin  grant.chain
//!                    nats.login          how it logs in to nats-server, mode 0600; optional
//!                    next-key.pem  next-grant.chain   while the key is rotated
//!                    state/replay-floor  what was accepted before a restart
//! <home>/authority/  <role>.pem          role keys; only where the authority works
//! ```
//!
//! `/` in an agent id is written `~`. The environment may say more: `TRUSTMESH_HOME` and
//! `TRUSTMESH_AGENT` what [`Identity::from_env`] loads, `TRUSTMESH_ROOT` the id of the trust root
//! to accept, `TRUSTMESH_DEV=1` that a development mesh is acceptable. Without a pinned root,
//! whoever may write the directory says whom to trust.
//!
//! Everything here reads files and blocks meanwhile.

mod error;
pub(crate) mod layout;
mod login;
mod saved;
mod settings;
mod store;

use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use bytes::Bytes;

use self::layout::CERTIFICATE_FILE;
use self::layout::FLOOR_FILE;
use self::layout::GRANT_FILE;
use self::layout::KEY_FILE;
use self::layout::LOGIN_FILE;
use self::layout::agent_directory;
use self::layout::read_part;
use self::layout::read_trust_files;
use self::layout::served_directory;
use self::layout::trust_directory;
use self::layout::trust_file;
use self::settings::Env;
use self::settings::admission;
use self::settings::pin;
use self::settings::set;
use crate::bus::Bus;
use crate::client::clock::Clock;
use crate::client::clock::SystemClock;
use crate::client::feed::Feed;
use crate::client::feed::FeedError;
use crate::client::feed::Origin;
use crate::client::identity::Identity;
use crate::client::identity::Provenance;
use crate::client::identity::TrustHandle;
use crate::keyfile;
use crate::keyfile::KeyFileError;
use crate::proto::certificate::CERTIFICATE_MAX;
use crate::proto::certificate::Certificate;
use crate::proto::certificate::UnverifiedCertificate;
use crate::proto::chain::Chain;
use crate::proto::identity::AgentId;
use crate::proto::identity::SigningKey;
use crate::proto::limits::CHAIN_MAX;
use crate::proto::limits::TRUST_FILE_MAX;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::StaleState;
use crate::proto::root::FileKind;
use crate::proto::root::Role;
use crate::proto::root::TrustRoot;
use crate::proto::signing::ObjectId;
use crate::proto::time::ClockSkew;
use crate::proto::trust::Admission;
use crate::proto::trust::TrustState;
use crate::proto::verify;
use crate::proto::verify::Scene;

pub(crate) use self::saved::Saved;

pub use self::error::HomeError;
pub use self::login::Login;
pub use self::saved::trust_in;
pub use self::settings::AGENT_VARIABLE;
pub use self::settings::DEV_VARIABLE;
pub use self::settings::HOME_VARIABLE;
pub use self::settings::ROOT_VARIABLE;

/// A mesh directory. Every identity loaded from it shares one trust state, and so do its clones.
///
/// ```
/// use trustmesh::client::home::Home;
/// use trustmesh::services::authority::Authority;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # if cfg!(not(unix)) { return Ok(()) }
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path();
/// let mut mesh = Authority::dev("demo")?;
/// let planner = mesh.agent("planner", ["req:tools.>"])?;
/// mesh.save(path)?;
/// mesh.save_agent(path, &planner)?;
///
/// let home = Home::open(path)?.danger_allow_dev();
/// assert_eq!(home.identity("planner")?.key(), planner.key());
///
/// mesh.revoke_agent("planner")?;
/// mesh.save(path)?;
/// home.reload(&*home.trust()?)?;
/// assert!(home.identity("planner").is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Home {
    path: PathBuf,
    admission: Admission,
    pin: Option<ObjectId>,
    clock: Arc<dyn Clock>,
    trust: Arc<Mutex<Option<Held>>>,
}

/// The trust state of a home, and what keeps it up to date in a served mesh.
#[derive(Clone)]
struct Held {
    trust: Arc<TrustHandle>,
    feed: Option<Arc<Feed>>,
}

impl Home {
    /// The mesh directory at `path`. Nothing but a pinned root is read yet.
    ///
    /// The environment decides which trust root is acceptable, as the module says.
    ///
    /// # Errors
    ///
    /// [`HomeError::Absent`] when there is none; [`HomeError::Pin`], [`HomeError::TwoPins`],
    /// [`HomeError::DevSwitch`] or [`HomeError::File`] when pin or development switch cannot be
    /// understood.
    ///
    /// ```no_run
    /// use trustmesh::client::home::Home;
    ///
    /// let identity = Home::open("/etc/trustmesh")?.identity("planner")?;
    /// # Ok::<(), trustmesh::client::home::HomeError>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self, HomeError> {
        Self::open_with(path.as_ref(), &|name| std::env::var_os(name))
    }

    /// The mesh directory that `TRUSTMESH_HOME` names.
    ///
    /// # Errors
    ///
    /// [`HomeError::Unset`], and as [`open`](Self::open).
    pub fn from_env() -> Result<Self, HomeError> {
        Self::from_env_with(&|name| std::env::var_os(name))
    }

    fn from_env_with(env: Env<'_>) -> Result<Self, HomeError> {
        let path = set(env, HOME_VARIABLE).ok_or(HomeError::Unset {
            variable: HOME_VARIABLE,
            meaning: "the mesh directory, which `trustmesh init` makes",
        })?;
        Self::open_with(Path::new(&path), env)
    }

    fn open_with(path: &Path, env: Env<'_>) -> Result<Self, HomeError> {
        let trust = trust_directory(path);
        if !trust.is_dir() {
            return Err(HomeError::Absent {
                path: trust,
                next: "give the path of a mesh directory, or make one with `trustmesh init`",
            });
        }
        Ok(Self {
            path: path.to_owned(),
            admission: admission(env)?,
            pin: pin(path, env)?,
            clock: Arc::new(SystemClock::new()),
            trust: Arc::default(),
        })
    }

    /// Accepts a development mesh, whose role keys lie unprotected on one machine (protocol §9.3).
    /// A pinned root is still the only one accepted.
    #[must_use]
    pub fn danger_allow_dev(self) -> Self {
        Self {
            admission: Admission::DangerDevelopment,
            // What was loaded stays with those who did not ask for this.
            trust: Arc::default(),
            ..self
        }
    }

    /// Loads by another clock; clients have their own, see
    /// [`ConnectOptions::clock`](crate::ConnectOptions::clock).
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Loads an agent: its key, certificate and grant, and the trust files.
    ///
    /// Holding the identity tells you that at this moment all of them belong together: the
    /// certificate is the registered one of the key and the agent, and the grant is a verified
    /// chain of this mesh for that key, in which nothing has expired or was revoked.
    ///
    /// # Errors
    ///
    /// [`HomeError`], naming the file at fault and what to do: [`Agent`](HomeError::Agent) and
    /// [`Absent`](HomeError::Absent) for an agent that is not here, [`Key`](HomeError::Key),
    /// [`OtherAgent`](HomeError::OtherAgent), [`OtherKey`](HomeError::OtherKey) and
    /// [`NotRegistered`](HomeError::NotRegistered) for parts that do not belong together,
    /// [`Refused`](HomeError::Refused) for what verification refuses, [`File`](HomeError::File).
    pub fn identity(&self, agent: &str) -> Result<Identity, HomeError> {
        let id = AgentId::parse(agent).map_err(|why| HomeError::Agent {
            given: agent.chars().take(120).collect(),
            why,
        })?;
        let directory = agent_directory(&self.path, &id);
        if !directory.is_dir() {
            return Err(HomeError::Absent {
                path: directory,
                next: "enrol the agent with the authority, or correct the agent's id",
            });
        }
        let Held { trust, feed } = self.held()?;
        store::finish_rotation(&directory)?;
        let key = load_key(&directory)?;
        let certificate = check_certificate(&directory, &id, &key, &trust.current())?;
        let grant = self.check_grant(&directory, &key, &trust.current())?;
        Ok(Identity {
            id,
            key,
            certificate,
            grant,
            trust,
            provenance: Provenance::Stateful(directory.join(FLOOR_FILE)),
            home: Some(self.clone()),
            feed,
        })
    }

    /// The directory, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the key, certificate and grant of an agent lie, or would. It is inside
    /// [`path`](Self::path) whatever the id.
    pub fn agent_directory(&self, agent: &AgentId) -> PathBuf {
        agent_directory(&self.path, agent)
    }

    /// The grant of an agent, decoded; whether it holds is not looked at.
    ///
    /// # Errors
    ///
    /// [`HomeError::Absent`] when there is none, [`HomeError::Refused`] when it is no chain,
    /// [`HomeError::File`].
    pub fn grant(&self, agent: &AgentId) -> Result<Chain, HomeError> {
        read_grant(&agent_directory(&self.path, agent))
    }

    /// Where the [`Login`] of an agent to its nats-server lies, or would.
    pub fn login_path(&self, agent: &AgentId) -> PathBuf {
        self.agent_directory(agent).join(LOGIN_FILE)
    }

    /// How an agent logs in to its nats-server; `None` when nothing says how.
    ///
    /// # Errors
    ///
    /// As [`Login::load`].
    pub fn login(&self, agent: &AgentId) -> Result<Option<Login>, HomeError> {
        Login::load_if_there(&self.login_path(agent))
    }

    /// The trust state that identities from here share, loaded now if it was not before. Later
    /// changes to the files count once they are [reloaded](Self::reload).
    ///
    /// # Errors
    ///
    /// [`HomeError::Absent`], [`HomeError::File`] or [`HomeError::Refused`], naming the file at
    /// fault: there is no state from part of the files.
    pub fn trust(&self) -> Result<Arc<TrustHandle>, HomeError> {
        self.held().map(|held| held.trust)
    }

    /// Brings the trust state of a served mesh up to date with what the bus has, and keeps it in
    /// the directory. A directory that never had one gets its first, by the pinned trust root. In a
    /// static mesh there is nothing to do.
    ///
    /// # Errors
    ///
    /// [`FeedError`]: what was held stays. [`FeedError::Refused`] with a rollback or an equivocation
    /// means that somebody works on the bus.
    pub async fn catch_up(&self, bus: &dyn Bus) -> Result<(), FeedError> {
        let cache = |why: HomeError| FeedError::Cache(why.to_string());
        match self.held() {
            Ok(Held { feed: None, .. }) => Ok(()),
            Ok(Held {
                feed: Some(feed), ..
            }) => feed.catch_up(bus).await,
            Err(HomeError::Absent { path, .. }) if path == served_directory(&self.path) => {
                let origin = self.origin().map_err(cache)?;
                Feed::begin(origin.ok_or(FeedError::Absent)?, bus)
                    .await
                    .map(drop)
            }
            Err(HomeError::Refused { why, .. }) => Err(FeedError::Refused(why)),
            Err(error) => Err(cache(error)),
        }
    }

    fn held(&self) -> Result<Held, HomeError> {
        // A panic elsewhere leaves the option whole.
        let mut held = self.trust.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = &*held {
            return Ok(held.clone());
        }
        let read = match self.resume_feed()? {
            Some(feed) => Held {
                trust: feed.handle().clone(),
                feed: Some(feed),
            },
            None => Held {
                trust: Arc::new(TrustHandle::new(self.read_trust()?)),
                feed: None,
            },
        };
        *held = Some(read.clone());
        Ok(read)
    }

    /// Where the feed of a served mesh begins.
    fn origin(&self) -> Result<Option<Origin>, HomeError> {
        let path = trust_file(&self.path, FileKind::Root);
        let root = read_part(&path, TRUST_FILE_MAX)?;
        // Whether the root is acceptable is asked where it is used.
        if !TrustRoot::parse(&root).is_ok_and(|root| root.is_served()) {
            return Ok(None);
        }
        Ok(Some(Origin {
            root,
            admission: self.admission,
            pin: self.pin,
            cache: Some(served_directory(&self.path)),
        }))
    }

    /// What the last run knew of the trust state, in a served mesh.
    fn resume_feed(&self) -> Result<Option<Arc<Feed>>, HomeError> {
        let Some(origin) = self.origin()? else {
            return Ok(None);
        };
        let cache = served_directory(&self.path);
        match Feed::resume(origin) {
            Ok(feed) => Ok(Some(feed)),
            Err(FeedError::Absent) => Err(HomeError::Absent {
                path: cache,
                next: "enrol the agent with the verifier service",
            }),
            Err(FeedError::Refused(why)) => Err(HomeError::refused(cache, why)),
            Err(error) => Err(HomeError::Cache {
                path: cache,
                why: error.to_string(),
            }),
        }
    }

    /// Reads the trust files again and moves `trust` on to them (protocol §9.6).
    ///
    /// # Errors
    ///
    /// [`HomeError::Refused`] when a file is broken, older than what is held, or of another mesh,
    /// [`HomeError::Absent`] or [`HomeError::File`] when one cannot be read; `trust` then stays as
    /// it is.
    ///
    /// In a served mesh nothing is read: what the bus says is the trust state.
    pub fn reload(&self, trust: &TrustHandle) -> Result<(), HomeError> {
        if trust.current().root().is_served() {
            return Ok(());
        }
        let newer = self.read_trust()?;
        trust
            .replace(newer)
            .map_err(|why| HomeError::refused(trust_directory(&self.path), why))
    }

    fn read_trust(&self) -> Result<Arc<TrustState>, HomeError> {
        let files = read_trust_files(&trust_directory(&self.path))?;
        let state = TrustState::assemble_naming(&files, self.admission, self.pin)
            .map_err(|(kind, why)| layout::refused(&self.path, kind, why))?;
        if state.root().is_dev() {
            tracing::warn!(mesh = state.root().name(), "trusting a development mesh");
        }
        Ok(Arc::new(state))
    }

    fn check_grant(
        &self,
        directory: &Path,
        key: &Arc<SigningKey>,
        trust: &Arc<TrustState>,
    ) -> Result<Chain, HomeError> {
        let grant = read_grant(directory)?;
        let blame = |why| HomeError::refused(self.at_fault(directory, &grant, &why), why);
        let scene = Scene {
            now: self.clock.now().map_err(blame)?,
            trust,
            sessions: &(),
        };
        verify::load_chain(grant.clone(), key, &scene, ClockSkew::default()).map_err(blame)?;
        Ok(grant)
    }

    /// The file to look at when a grant does not hold.
    fn at_fault(&self, directory: &Path, grant: &Chain, why: &Rejection) -> PathBuf {
        let kind = match why {
            Rejection::StaleState { reason } => match reason {
                StaleState::TrustRoot => FileKind::Root,
                StaleState::Registry => FileKind::Registry,
                StaleState::Policy => FileKind::Policy,
                StaleState::Revocations => FileKind::Revocations,
                StaleState::Scores => FileKind::Scores,
                _ => return self.path.clone(),
            },
            Rejection::NotYetValid { place, .. }
            | Rejection::Expired { place, .. }
            | Rejection::Revoked { place, .. }
            | Rejection::Blocked { place, .. }
                if *place == Place::Holder(grant.depth()) =>
            {
                return directory.join(CERTIFICATE_FILE);
            }
            _ => return directory.join(GRANT_FILE),
        };
        trust_file(&self.path, kind)
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Home")
            .field("path", &self.path)
            .field("admission", &self.admission)
            .field("pin", &self.pin)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Loads the agent that `TRUSTMESH_AGENT` names from the mesh directory that `TRUSTMESH_HOME`
    /// names.
    ///
    /// ```no_run
    /// use trustmesh::Identity;
    ///
    /// // TRUSTMESH_HOME=/etc/trustmesh TRUSTMESH_AGENT=planner
    /// let planner = Identity::from_env()?;
    /// # Ok::<(), trustmesh::client::home::HomeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HomeError::Unset`], and as [`Home::open`] and [`Home::identity`].
    pub fn from_env() -> Result<Self, HomeError> {
        Self::from_env_with(&|name| std::env::var_os(name))
    }

    fn from_env_with(env: Env<'_>) -> Result<Self, HomeError> {
        let home = Home::from_env_with(env)?;
        let agent = set(env, AGENT_VARIABLE).ok_or(HomeError::Unset {
            variable: AGENT_VARIABLE,
            meaning: "the id of an agent in the mesh directory",
        })?;
        home.identity(&agent.to_string_lossy())
    }

    /// How the agent logs in to its nats-server, where its directory says so.
    pub(crate) fn login(&self) -> Result<Option<Login>, HomeError> {
        let home = self.home.as_ref();
        home.map_or(Ok(None), |home| home.login(&self.id))
    }

    /// Reads the trust files again and moves on to them, with everybody who shares this trust
    /// state. An identity that was not loaded from a mesh directory has nothing to read.
    ///
    /// # Errors
    ///
    /// As [`Home::reload`]: what was held stays.
    pub fn reload(&self) -> Result<(), HomeError> {
        match &self.home {
            Some(home) => home.reload(&self.trust),
            None => Ok(()),
        }
    }
}

fn read_grant(directory: &Path) -> Result<Chain, HomeError> {
    let path = directory.join(GRANT_FILE);
    Chain::parse(read_part(&path, CHAIN_MAX)?).map_err(|why| HomeError::refused(path, why))
}

fn load_key(directory: &Path) -> Result<Arc<SigningKey>, HomeError> {
    let path = directory.join(KEY_FILE);
    match keyfile::load(&path) {
        Ok(key) => Ok(Arc::new(key)),
        Err(KeyFileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Err(HomeError::Absent {
                path,
                next: "restore the key, or enrol the agent under a new one",
            })
        }
        Err(error) => Err(error.into()),
    }
}

fn check_certificate(
    directory: &Path,
    id: &AgentId,
    key: &SigningKey,
    trust: &TrustState,
) -> Result<Bytes, HomeError> {
    let path = directory.join(CERTIFICATE_FILE);
    let bytes = read_part(&path, CERTIFICATE_MAX)?;
    let certificate = UnverifiedCertificate::parse(&bytes)
        .map_err(|why| HomeError::refused(path.clone(), why))?;
    let claims = certificate.claims();
    if claims.agent != *id {
        return Err(HomeError::OtherAgent {
            path,
            found: claims.agent.clone(),
            expected: id.clone(),
        });
    }
    if claims.key != key.public().bytes() {
        return Err(HomeError::OtherKey { path });
    }
    let registered = trust.certificate(&claims.key).map(Certificate::id);
    // In a served mesh the certificate may be newer than the trust state on disk.
    if !trust.root().is_served() && registered != Some(certificate.id()) {
        return Err(HomeError::NotRegistered { path });
    }
    let id = certificate.id();
    // The id says nothing about the signatures, which peers will check.
    match certificate.verify(trust.mesh(), trust.root().keys(Role::Registrar)) {
        Ok(_) => Ok(bytes),
        // A later registrar signed it again, and what peers check is in the trust state.
        Err(_) if trust.root().version() > 1 && registered == Some(id) => Ok(bytes),
        Err(why) => Err(HomeError::refused(path, why)),
    }
}

#[cfg(all(test, unix))]
mod tests;
