//! What an operator looks at in a mesh, and changes: in its directory, or through the verifier service
//! that runs on it.
//!
//! A running service owns the books. It listens on `authority/serve.sock`, which lies in a directory
//! of its owner's alone; a request is a line of JSON, and so is its answer. While no service runs,
//! the change is made to the directory, under the lock that a service holds as long as it runs: the
//! two never write at the same time.

use std::collections::BTreeMap;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use trustmesh::Identity;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::root::Role;
use trustmesh::proto::signing::ObjectId;
use trustmesh::services::authority::Authority;
use trustmesh::services::authority::JoinTerms;
use trustmesh::services::verifier::PublicationError;
use trustmesh::services::verifier::VerifierService;

use crate::failure::Failure;
use crate::failure::INTERNAL;
use crate::failure::Report;
use crate::failure::exit_code;
use crate::history::History;
use crate::reach::Reach;
use crate::setting::keeps_served;

/// The longest request or answer: a policy of 256 rules, escaped.
pub const LINE_MAX: u64 = 4 * 1024 * 1024;

/// How long the service may take to do what it is asked: it publishes before it answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// How long to wait for a service that is starting or ending.
const LOCK_WITHIN: Duration = Duration::from_secs(5);

/// What can be asked of a running service.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Request {
    /// A look at the books.
    Look(Look),
    /// A change to them.
    Change(Operation),
}

/// A look at the books.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "look", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Look {
    /// How an agent's score came about.
    History {
        /// Its id.
        id: String,
    },
}

/// A change to the books.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Operation {
    /// Takes authority back.
    Revoke {
        /// What.
        #[serde(flatten)]
        target: Target,
    },
    /// Puts a policy in force.
    Policy {
        /// The policy, as in its file.
        rules: String,
    },
    /// Enrols an agent under a new key, which is written to the mesh directory.
    Agent(NewAgent),
    /// Lets an agent whose key is lost join again.
    Recover(NewAgent),
    /// Leads the mesh on to another trust root.
    Succeed {
        /// The roles that get another key, which is made where the books are.
        replace: Vec<String>,
    },
}

/// What is revoked.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", content = "id", rename_all = "kebab-case")]
pub enum Target {
    /// A link, by its object id.
    Link(String),
    /// A key, in hexadecimal.
    Key(String),
    /// An agent.
    Agent(String),
}

impl Target {
    /// What it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Link(_) => "link",
            Self::Key(_) => "key",
            Self::Agent(_) => "agent",
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        match self {
            Self::Link(id) | Self::Key(id) | Self::Agent(id) => id,
        }
    }
}

/// An agent, and what it is to have.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NewAgent {
    /// Its id.
    pub id: String,
    /// Its capabilities.
    pub allow: Vec<String>,
    /// How many links may follow its grant.
    pub depth: u8,
    /// How long its grants last, in milliseconds.
    pub grant_ttl_ms: u64,
    /// How long a join token is good for, in milliseconds.
    pub token_ttl_ms: u64,
}

/// What a change yields.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Yield {
    /// A join token. It is a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The grant of a new agent, in base 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// A new trust root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<NewRoot>,
    /// How far it got.
    #[serde(flatten)]
    pub reach: Reach,
}

/// A trust root that follows another.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NewRoot {
    /// Its version.
    pub version: u32,
    /// Its id.
    pub id: String,
    /// When it ends, in milliseconds since 1970.
    pub until: u64,
}

/// What a change makes, before it is stored.
enum Made {
    Nothing,
    Token(String),
    Agent(Box<(Identity, Chain)>),
    Root(NewRoot),
}

/// An answer on the socket.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Answer<T> {
    /// Why not.
    Refused {
        /// The exit code.
        exit: u8,
        /// What went wrong.
        error: String,
        /// What to do.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// Done.
    Done(T),
}

impl<T> Answer<T> {
    /// The answer that an outcome is.
    pub fn of(outcome: anyhow::Result<T>) -> Self {
        match outcome {
            Ok(done) => Self::Done(done),
            Err(error) => {
                let report = Report::of(&error);
                Self::Refused {
                    exit: exit_code(&error),
                    error: report.error,
                    next: report.next,
                }
            }
        }
    }

    #[cfg(unix)]
    fn outcome(self) -> anyhow::Result<T> {
        match self {
            Self::Done(done) => Ok(done),
            Self::Refused { exit, error, next } => {
                let failure = Failure::relayed(exit, error);
                Err(match next {
                    Some(next) => failure.next(next),
                    None => failure,
                }
                .into())
            }
        }
    }
}

/// Changes a mesh: through the service that runs on the directory, or in the directory itself.
pub fn change(home: &Path, operation: &Operation) -> anyhow::Result<Yield> {
    if !keeps_served(home) {
        return change_directory(home, operation);
    }
    let deadline = std::time::Instant::now() + LOCK_WITHIN;
    loop {
        if let Some(done) = ask_service(home, &Request::Change(operation.clone()))? {
            return Ok(done);
        }
        match Keeper::take(home)? {
            Some(_keeper) => return change_directory(home, operation),
            None if std::time::Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            None => {
                let text = "a verifier service holds the mesh, and does not answer its operator";
                return Err(Failure::unreachable(text)
                    .next("wait until it has started or ended, and try again")
                    .into());
            }
        }
    }
}

/// How an agent's score came about, when a service runs on the directory that can say so.
pub fn ask_history(home: &Path, id: &AgentId) -> anyhow::Result<Option<History>> {
    let id = id.to_string();
    ask_service(home, &Request::Look(Look::History { id }))
}

/// Answers a request within a running service, in a line of JSON.
pub async fn answer_within(
    service: &VerifierService,
    home: &Path,
    request: Request,
) -> serde_json::Result<Vec<u8>> {
    match request {
        Request::Look(Look::History { id }) => {
            serde_json::to_vec(&Answer::of(history_within(service, &id).await))
        }
        Request::Change(operation) => {
            serde_json::to_vec(&Answer::of(change_within(service, home, operation).await))
        }
    }
}

async fn history_within(service: &VerifierService, id: &str) -> anyhow::Result<History> {
    let id = AgentId::parse(id)?;
    let history = service.look(move |authority| History::of(authority, &id));
    history.await.ok_or_else(|| ending().into())
}

fn ending() -> Failure {
    Failure::unreachable("the verifier service is ending")
}

/// Checks a change, and makes none.
pub fn rehearse(home: &Path, operation: &Operation) -> anyhow::Result<Yield> {
    let mut authority = Authority::open(home)?;
    let made = operation.apply(&mut authority)?;
    Ok(match made {
        Made::Agent(agent) => Yield {
            grant: Some(data_encoding::BASE64.encode(agent.1.bytes())),
            ..Yield::default()
        },
        Made::Root(root) => Yield {
            root: Some(root),
            ..Yield::default()
        },
        Made::Nothing | Made::Token(_) => Yield::default(),
    })
}

fn change_directory(home: &Path, operation: &Operation) -> anyhow::Result<Yield> {
    let mut authority = Authority::open(home)?;
    let made = operation.apply(&mut authority)?;
    authority.save(home)?;
    let done = made.store(&authority, home)?;
    let reach = Reach::Directory;
    Ok(Yield { reach, ..done })
}

/// Makes a change within a running service.
async fn change_within(
    service: &VerifierService,
    home: &Path,
    operation: Operation,
) -> anyhow::Result<Yield> {
    let changed = service.change(move |authority| operation.apply(authority));
    let changed = changed.await.ok_or_else(ending)?;
    let made = changed.outcome?;
    let reach = match changed.published {
        Ok(()) => Reach::Published,
        Err(error @ PublicationError::Superseded) => {
            let failure = Failure::relayed(INTERNAL, format!("not done: {error}"));
            return Err(failure.next("make the change where that one runs").into());
        }
        Err(error) => Reach::Pending(error.to_string()),
    };
    // Published or not, the books have it: a key that was made is not to be lost.
    let home = home.to_owned();
    let stored = service.look(move |authority| made.store(authority, &home));
    let done = stored.await.ok_or_else(ending)??;
    Ok(Yield { reach, ..done })
}

impl Operation {
    fn apply(&self, authority: &mut Authority) -> anyhow::Result<Made> {
        match self {
            Self::Revoke { target } => {
                match target {
                    Target::Link(id) => authority.revoke_link(ObjectId(digits(id)?))?,
                    Target::Key(key) => authority.revoke_key(KeyBytes(digits(key)?))?,
                    Target::Agent(id) => authority.revoke_agent(id)?,
                }
                Ok(Made::Nothing)
            }
            Self::Policy { rules } => {
                authority.set_policy(Policy::from_json(rules)?)?;
                Ok(Made::Nothing)
            }
            Self::Agent(new) => {
                let identity = authority
                    .agent(&new.id, &new.allow)
                    .map_err(|error| crate::cmd::agent::taken(error, &new.id))?;
                let scope = crate::cmd::agent::scope(&new.allow)?;
                let ttl = Duration::from_millis(new.grant_ttl_ms);
                let grant = authority.grant(&identity.key(), scope, new.depth, ttl)?;
                Ok(Made::Agent(Box::new((identity, grant))))
            }
            Self::Recover(new) => {
                let token = authority.recover(&new.terms()?)?;
                authority.publish()?;
                Ok(Made::Token(token.to_text().to_string()))
            }
            Self::Succeed { replace } => {
                let mut keys = BTreeMap::new();
                for name in replace {
                    let role = Role::ALL.into_iter().find(|role| role.name() == name);
                    let role =
                        role.ok_or_else(|| Failure::usage(format!("{name:?} is no role")))?;
                    keys.insert(role, SigningKey::generate()?);
                }
                authority.replace_roles(keys)?;
                let root = authority.current_root()?;
                Ok(Made::Root(NewRoot {
                    version: root.version(),
                    id: root.id().to_string(),
                    until: root.validity().until().as_millis(),
                }))
            }
        }
    }
}

impl NewAgent {
    /// The terms of a join token.
    pub fn terms(&self) -> anyhow::Result<JoinTerms> {
        let terms = JoinTerms::new(crate::cmd::agent::scope(&self.allow)?);
        Ok(JoinTerms {
            agent: Some(AgentId::parse(&self.id)?),
            depth: self.depth,
            grant_ttl: Duration::from_millis(self.grant_ttl_ms),
            ttl: Duration::from_millis(self.token_ttl_ms),
            ..terms
        })
    }
}

impl Made {
    /// Stores what was made, once the books have it.
    fn store(self, authority: &Authority, home: &Path) -> anyhow::Result<Yield> {
        match self {
            Self::Nothing => Ok(Yield::default()),
            Self::Token(text) => Ok(Yield {
                token: Some(text),
                ..Yield::default()
            }),
            Self::Root(root) => Ok(Yield {
                root: Some(root),
                ..Yield::default()
            }),
            Self::Agent(agent) => {
                let (identity, grant) = *agent;
                authority.save_agent(home, &identity)?;
                authority.save_grant(home, identity.id().as_str(), &grant)?;
                Ok(Yield {
                    grant: Some(data_encoding::BASE64.encode(grant.bytes())),
                    ..Yield::default()
                })
            }
        }
    }
}

/// The 32 bytes that 64 hexadecimal digits stand for.
fn digits(text: &str) -> anyhow::Result<[u8; 32]> {
    data_encoding::HEXLOWER_PERMISSIVE
        .decode(text.as_bytes())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Failure::usage(format!("{text:?} is not 64 hexadecimal digits")).into())
}

/// The right to write to the books in a directory; it ends with the value, or with the process.
#[derive(Debug)]
pub struct Keeper(#[expect(dead_code, reason = "the lock lives as long as the file")] File);

impl Keeper {
    /// Takes it; `None` when somebody has it.
    pub fn take(home: &Path) -> anyhow::Result<Option<Self>> {
        let path = home.join("authority/serve.lock");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let cannot =
            |why: std::io::Error| Failure::config(format!("cannot lock {}: {why}", path.display()));
        let file = options.open(&path).map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(why)) => Err(cannot(why).into()),
        }
    }
}

/// Where a service listens for its operator.
pub fn socket(home: &Path) -> PathBuf {
    home.join("authority/serve.sock")
}

/// Asks the service that runs on a directory; `None` when none does.
#[cfg(unix)]
fn ask_service<T: DeserializeOwned>(home: &Path, request: &Request) -> anyhow::Result<Option<T>> {
    use std::io::BufRead as _;
    use std::io::Read as _;
    use std::io::Write as _;

    let stream = match std::os::unix::net::UnixStream::connect(socket(home)) {
        Ok(stream) => stream,
        Err(error) if nobody_listens(&error) => return Ok(None),
        Err(error) => {
            let text = format!("cannot ask the verifier service that runs here: {error}");
            return Err(Failure::unreachable(text)
                .next("ask as the user that runs it")
                .into());
        }
    };
    let lost = |why: std::io::Error| {
        Failure::unreachable(format!("the verifier service did not answer: {why}"))
            .next("it may have done it all the same: look before asking again")
    };
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    let mut request = serde_json::to_vec(request)?;
    request.push(b'\n');
    (&stream).write_all(&request).map_err(lost)?;
    let mut line = String::new();
    std::io::BufReader::new((&stream).take(LINE_MAX))
        .read_line(&mut line)
        .map_err(lost)?;
    let answer: Answer<T> = serde_json::from_str(&line)
        .map_err(|_| lost(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)))?;
    answer.outcome().map(Some)
}

#[cfg(unix)]
fn nobody_listens(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    // A path too long for a socket is none that a service listens on either.
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::InvalidInput
    )
}

/// Elsewhere there are no key files that a service could be started with.
#[cfg(not(unix))]
fn ask_service<T: DeserializeOwned>(_: &Path, _: &Request) -> anyhow::Result<Option<T>> {
    Ok(None)
}
