//! Joining a mesh: an agent without certificate gets one from the verifier service.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::clock::Clock;
use super::clock::SystemClock;
use super::identity::Identity;
use super::identity::TrustHandle;
use super::random::random;
use crate::bus::Bus;
use crate::bus::Outgoing;
use crate::bus::Subject;
use crate::proto::chain::Chain;
use crate::proto::enrol::Admitted;
use crate::proto::enrol::EnrolFrame;
use crate::proto::enrol::EnrolRefused;
use crate::proto::enrol::Enrollee;
use crate::proto::envelope::inbox_prefix;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::identity::SigningKey;
use crate::proto::join::JoinToken;
use crate::proto::names::PREFIX;
use crate::proto::rejection::Rejection;
use crate::proto::request::enrol_subject;
use crate::proto::root::TrustRoot;
use crate::proto::signing::ObjectId;
use crate::proto::time::ClockSkew;

/// How long joining may take by default.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How long to wait for an answer before asking again.
const AGAIN: Duration = Duration::from_millis(750);

/// Proofs sent in answer to one hello. Offers are unsigned, so anybody can send some; the true one
/// must still be answered.
const PROOFS_MAX: usize = 8;

/// Where the NATS connection of a newcomer with this key has to ask for answers
/// (`custom_inbox_prefix`) at a server that lets newcomers do nothing but join.
pub fn newcomer_inbox(key: &KeyBytes) -> String {
    format!("{}.en", inbox_prefix(key))
}

/// How an agent joins: under which id, and where the service listens.
///
/// ```
/// # use std::sync::Arc;
/// # use trustmesh::ConnectOptions;
/// use trustmesh::bus::memory::MemoryBus;
/// use trustmesh::client::enrol::Enrolment;
/// use trustmesh::proto::identity::{AgentId, SigningKey};
/// use trustmesh::proto::scope::Scope;
/// use trustmesh::services::authority::{Authority, JoinTerms};
/// # use trustmesh::services::verifier::{InProcess, VerifierOptions, VerifierService};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut mesh = Authority::dev("demo")?;
/// # let identity = mesh.verifier(Arc::new(SigningKey::generate()?))?;
/// let token = mesh.join_token(&JoinTerms::new(Scope::parse(["sub:tasks.>"])?))?;
/// let root = mesh.trust_root();
/// # let (bus, options) = (MemoryBus::new(), ConnectOptions::new(identity));
/// # let settings = VerifierOptions::default();
/// # let service =
/// #     VerifierService::start(mesh, options, bus.connect(), InProcess, settings).await?;
///
/// let key = Arc::new(SigningKey::generate()?); // it never leaves this process
/// let worker = Enrolment::new(token, root).agent(AgentId::parse("worker")?);
/// let enrolled = worker.join(&bus.connect(), key.clone()).await?;
/// assert_eq!(enrolled.agent.as_str(), "worker");
/// assert_eq!(enrolled.grant.ok_or("no grant")?.leaf().holder(), key.public().bytes());
/// # drop(service);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Enrolment {
    token: JoinToken,
    root: Bytes,
    later_roots: Vec<Bytes>,
    agent: Option<AgentId>,
    prefix: String,
    timeout: Duration,
    skew: ClockSkew,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enrolment")
            .field("token", &self.token)
            .field("agent", &self.agent)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// What joining yields. All of it was checked under the trust root that the token pins, or the one
/// that it [led to](Enrolment::led_to).
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// The agent.
    pub agent: AgentId,
    /// Its key.
    pub key: Arc<SigningKey>,
    /// Its certificate, encoded.
    pub certificate: Bytes,
    /// Its root grant, unless the token gives no authority.
    pub grant: Option<Chain>,
    /// The trust root to pin.
    pub root: ObjectId,
}

impl Enrolled {
    /// The identity to connect with, once a trust state of the mesh is at hand.
    ///
    /// # Errors
    ///
    /// The enrolment itself when it has no grant: such an agent acts on what is handed to it, and
    /// has nothing of its own to connect under.
    pub fn identity(self, trust: Arc<TrustHandle>) -> Result<Identity, Box<Self>> {
        let Some(grant) = self.grant.clone() else {
            return Err(Box::new(self));
        };
        let (id, certificate) = (self.agent, self.certificate);
        Ok(Identity::fresh(id, self.key, certificate, grant, trust))
    }
}

/// Why an agent did not join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolError {
    /// The service refused, and signed it.
    #[error("the verifier refused: {0}")]
    Refused(EnrolRefused),
    /// Token, trust roots and id do not belong together, or time and randomness cannot be had.
    #[error("the token cannot be used here: {0}")]
    Token(Rejection),
    /// The trust root is not the one that the token pins.
    #[error("the trust root is not the one that the join token pins")]
    Root,
    /// No answer that verifies came in time.
    #[error("the verifier did not answer in time")]
    TimedOut,
    /// The bus could not be used.
    #[error("the bus failed: {0}")]
    Bus(String),
}

impl Enrolment {
    /// By this token, in the mesh of this trust root: the encoded file, which must be the one the
    /// token pins, wherever it comes from.
    pub fn new(token: JoinToken, root: Bytes) -> Self {
        Self {
            token,
            root,
            later_roots: Vec::new(),
            agent: None,
            prefix: PREFIX.to_owned(),
            timeout: TIMEOUT,
            skew: ClockSkew::default(),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Under the newest of the trust roots that follow the first, in order, as
    /// [`fetch_later_roots`](super::join::fetch_later_roots) fetches them: its keys are those of the
    /// registrar and the issuer now. The first one stays what is pinned.
    #[must_use]
    pub fn led_to(mut self, later_roots: Vec<Bytes>) -> Self {
        self.later_roots = later_roots;
        self
    }

    /// Under this id; needed when the token names none.
    #[must_use]
    pub fn agent(mut self, agent: AgentId) -> Self {
        self.agent = Some(agent);
        self
    }

    /// First token of trustmesh's own subjects, as in
    /// [`ConnectOptions::prefix`](super::ConnectOptions::prefix).
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long to try, 15 s by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// By another clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Joins under `key`, asking again while answers are lost. The key stays here: what travels are
    /// signatures.
    ///
    /// Cancelled or timed out, the agent may be enrolled all the same; joining again with the same
    /// token and key yields the same certificate.
    ///
    /// # Errors
    ///
    /// [`EnrolError`]. Unsigned refusals and answers that do not verify are passed over.
    pub async fn join(&self, bus: &dyn Bus, key: Arc<SigningKey>) -> Result<Enrolled, EnrolError> {
        let root = TrustRoot::parse(&self.root).map_err(EnrolError::Token)?;
        if root.id() != self.token.claims().root {
            return Err(EnrolError::Root);
        }
        let pin = root.id();
        let mut later = self.later_roots.iter();
        let root = later.try_fold(root, |root, later| root.succeed(later));
        let root = root.map_err(EnrolError::Token)?;
        let attempt = self.attempt(bus, &key, &root);
        let outcome = tokio::time::timeout(self.timeout, attempt).await;
        let admitted = outcome.map_err(|_| EnrolError::TimedOut)??;
        Ok(Enrolled {
            agent: admitted.claims.agent,
            certificate: admitted.certificate,
            grant: admitted.grant,
            root: pin,
            key,
        })
    }

    async fn attempt(
        &self,
        bus: &dyn Bus,
        key: &SigningKey,
        root: &TrustRoot,
    ) -> Result<Admitted, EnrolError> {
        let failed = |error: &dyn std::fmt::Display| EnrolError::Bus(error.to_string());
        let token: [u8; 12] = random().map_err(|error| EnrolError::Token(error.into()))?;
        let token = data_encoding::HEXLOWER.encode(&token);
        let inbox = format!("{}.{token}", newcomer_inbox(&key.public().bytes()));
        let raw = bus.subscribe(Subject::from(inbox.clone()), None).await;
        let mut raw = raw.map_err(|error| failed(&error))?;
        let subject = enrol_subject(&self.prefix);
        // Answers to an earlier hello count as well: under load they come late.
        let mut rounds: Vec<Round<'_>> = Vec::new();
        loop {
            let mut round = Round::begin(&self.token, key, self.agent.as_ref(), root)?;
            let hello = Outgoing::new(subject.as_str(), round.enrollee.hello());
            let sent = bus.publish(hello.with_reply(inbox.as_str())).await;
            sent.map_err(|error| failed(&error))?;
            round.asked.push(round.enrollee.hello_id());
            rounds.push(round);
            let until = Instant::now() + AGAIN;
            while let Ok(delivery) = tokio::time::timeout_at(until, raw.next()).await {
                let delivery = delivery.ok_or_else(|| failed(&crate::bus::Closed))?;
                if delivery.status.is_some() {
                    continue;
                }
                match self.take(&mut rounds, &delivery.payload, root) {
                    Step::Admitted(admitted) => return Ok(*admitted),
                    Step::Prove(proof) => {
                        let proof = Outgoing::new(subject.as_str(), proof);
                        let sent = bus.publish(proof.with_reply(inbox.as_str())).await;
                        sent.map_err(|error| failed(&error))?;
                    }
                    Step::Refused(reason) => return Err(EnrolError::Refused(reason)),
                    Step::Again => break,
                    Step::Nothing => {}
                }
            }
        }
    }

    /// What a frame is to the hellos so far. Anybody can send to an inbox; what is no step of this
    /// enrolment is nothing.
    fn take(&self, rounds: &mut [Round<'_>], frame: &Bytes, root: &TrustRoot) -> Step {
        match EnrolFrame::parse(frame) {
            Ok(EnrolFrame::Offer { hello, offer }) => {
                let mut rounds = rounds.iter_mut();
                let Some(round) = rounds.find(|round| round.enrollee.hello_id() == hello) else {
                    return Step::Nothing;
                };
                match round.enrollee.answer(&hello, &offer) {
                    Ok((certificate, proof)) if round.asked.len() <= PROOFS_MAX => {
                        round.asked.push(certificate);
                        Step::Prove(proof)
                    }
                    _ => Step::Nothing,
                }
            }
            Ok(EnrolFrame::Welcome(welcome)) => {
                let Ok(now) = self.clock.now() else {
                    return Step::Nothing;
                };
                let mut admitted = rounds
                    .iter()
                    .map(|round| round.enrollee.admit(&welcome, root, now, self.skew));
                let admitted = admitted.find_map(Result::ok);
                admitted.map_or(Step::Nothing, |admitted| Step::Admitted(Box::new(admitted)))
            }
            Ok(EnrolFrame::Refused(refusal)) => {
                let mut hellos = rounds.iter().map(|round| round.enrollee.hello_id());
                let about_hello = hellos.any(|hello| hello == refusal.about());
                let asked: Vec<ObjectId> = rounds
                    .iter()
                    .flat_map(|round| round.asked.iter().copied())
                    .collect();
                match refusal.verify(root, &asked) {
                    // An earlier proof may have been accepted, its welcome lost: the answer to
                    // another hello tells.
                    Some(reason) if !about_hello && may_be_ours(reason) => Step::Again,
                    Some(reason) if !reason.is_transient() => Step::Refused(reason),
                    _ => Step::Nothing,
                }
            }
            _ => Step::Nothing,
        }
    }
}

/// One hello, and what was asked in its course.
struct Round<'a> {
    enrollee: Enrollee<'a>,
    asked: Vec<ObjectId>,
}

impl<'a> Round<'a> {
    fn begin(
        token: &'a JoinToken,
        key: &'a SigningKey,
        agent: Option<&AgentId>,
        root: &TrustRoot,
    ) -> Result<Self, EnrolError> {
        let nonce = random().map_err(|error| EnrolError::Token(error.into()))?;
        let enrollee = Enrollee::new(token, key, agent, root, nonce).map_err(EnrolError::Token)?;
        Ok(Self {
            enrollee,
            asked: Vec::new(),
        })
    }
}

/// Whether a proof is refused like this when the same enrolment was completed before.
const fn may_be_ours(reason: EnrolRefused) -> bool {
    matches!(
        reason,
        EnrolRefused::TokenUsed
            | EnrolRefused::IdTaken
            | EnrolRefused::KeyTaken
            | EnrolRefused::NotCurrent
    )
}

enum Step {
    Nothing,
    Again,
    Prove(Bytes),
    Admitted(Box<Admitted>),
    Refused(EnrolRefused),
}
