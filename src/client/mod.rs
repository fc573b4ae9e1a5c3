//! A running participant: the swap-in bus client.
//!
//! ```text
//! publish, request ──▶ outbound (check, sign) ──▶ Bus ──▶ inbound (verify, audit) ──▶ Subscriber, serve
//!                                                  │
//!                                    control ──────┘  second connection: audit, handshakes
//! ```

mod answers;
pub mod audit;
pub(crate) mod audit_reader;
pub mod clock;
mod control;
mod counters;
mod draft;
pub(crate) mod floor;
mod guards;
pub mod identity;
mod inbound;
mod message;
mod options;
mod outbound;
mod peers;
pub(crate) mod random;
mod refusals;
mod request;
mod serve;
mod subscriber;
pub(crate) mod task;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OnceCell;

pub use self::audit::AuditMode;
pub use self::audit::AuditOptions;
pub use self::audit::AuditStream;
pub use self::counters::Counters;
pub use self::draft::Draft;
pub use self::identity::Identity;
pub use self::message::Message;
pub use self::options::ConnectOptions;
pub use self::serve::Service;
pub use self::subscriber::Subscriber;
use crate::bus::Bus;
use crate::bus::FlushError;
use crate::bus::HeaderMap;
use crate::bus::PublishError;
use crate::bus::PublishErrorKind;
use crate::bus::ReconnectError;
use crate::bus::RequestError;
use crate::bus::ServerInfo;
use crate::bus::State;
use crate::bus::Statistics;
use crate::bus::Subject as BusSubject;
use crate::bus::SubscribeError;
use crate::bus::SubscribeErrorKind;
use crate::bus::ToSubject;
use crate::error::ConnectError;
use crate::error::Denied;
use crate::proto::audit::AuditEvent;
use crate::proto::certificate::UnverifiedCertificate;
use crate::proto::chain::Chain;
use crate::proto::chain::Credential;
use crate::proto::delegation::LinkDraft;
use crate::proto::envelope::Claims;
use crate::proto::envelope::inbox_prefix;
use crate::proto::handshake::Responder;
use crate::proto::handshake::SessionTable;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::policy::RateLimiter;
use crate::proto::rejection::DepthExceeded;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::scope::Scope;
use crate::proto::scope::group_is_valid;
use crate::proto::subject::Subject;
use crate::proto::subject::SubjectPattern;
use crate::proto::time::ClockSkew;
use crate::proto::time::Timestamp;
use crate::proto::time::Validity;
use crate::proto::verify;
use crate::proto::verify::Pending;
use crate::proto::verify::Verifier;
use answers::Slots;
use audit::AuditLog;
use audit::Emitter;
use clock::Clock;
use control::Control;
use counters::Tally;
use floor::ReplayFloor;
use guards::Guards;
use guards::ReplayScope;
use identity::Provenance;
use inbound::Expect;
use outbound::Letter;
use outbound::Requests;
use peers::Peers;
use random::random;
use refusals::Refusals;
use subscriber::Intake;
use task::TaskSet;

/// How long draining waits for running handlers.
const HANDLERS_MAY_TAKE: Duration = Duration::from_secs(30);

/// How long draining waits for the bus to take the audit.
const AUDIT_MAY_TAKE: Duration = Duration::from_secs(5);

/// A client of a verified bus, to be used where `async_nats::Client` was.
///
/// Everything it sends is signed under its credential, everything it receives has been verified.
/// Cloning shares the connection.
///
/// There is no way around verification: the connection underneath is never handed out.
///
/// ```
/// use futures_util::StreamExt as _;
/// use trustmesh::ConnectOptions;
/// use trustmesh::bus::memory::MemoryBus;
/// use trustmesh::services::authority::Authority;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut mesh = Authority::dev("demo")?;
/// let alice = mesh.agent("alice", ["pub:greet.*"])?;
/// let bob = mesh.agent("bob", ["sub:greet.>"])?;
///
/// let bus = MemoryBus::new();
/// let alice = ConnectOptions::new(alice).connect_bus(bus.connect()).await?;
/// let bob = ConnectOptions::new(bob).connect_bus(bus.connect()).await?;
///
/// let mut greetings = bob.subscribe("greet.>").await?;
/// alice.publish("greet.bob", "hello".into()).await?;
/// let message = greetings.next().await.ok_or("the stream ended")?;
/// assert_eq!(message.sender().as_str(), "alice");
///
/// // Alice was not granted this subject: nothing is sent.
/// assert!(alice.publish("orders.new", "1".into()).await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) voice: Voice,
}

/// On whose authority, and as part of which work, a client speaks.
#[derive(Clone)]
pub(crate) struct Voice {
    pub(crate) credential: Credential,
    pub(crate) traceparent: Option<Bytes>,
    pub(crate) hops: u8,
}

/// What all clones of a client, its subscriptions and messages share.
pub(crate) struct Shared {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) control: Arc<Control>,
    pub(crate) identity: Identity,
    pub(crate) own: Credential,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) skew: ClockSkew,
    pub(crate) ttl_ms: u32,
    pub(crate) prefix: String,
    pub(crate) verifier: Verifier,
    pub(crate) rates: Mutex<RateLimiter>,
    pub(crate) sessions: Mutex<SessionTable>,
    pub(crate) requests: Mutex<Requests>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) audit: AuditLog,
    pub(crate) tally: Arc<Tally>,
    pub(crate) peers: Peers,
    pub(crate) listening: OnceCell<()>,
    pub(crate) tasks: TaskSet,
    pub(crate) floor: Option<ReplayFloor>,
    guards: Guards,
    refusals: Refusals,
    answering: OnceCell<()>,
    services: serve::Services,
    request_timeout: Option<Duration>,
    redials_seen: AtomicU64,
    tokens: AtomicU64,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.control.begin_closing();
        if let Some(floor) = &self.floor {
            if let Err(error) = floor.close() {
                tracing::warn!(%error, "the replay floor could not be stored exactly");
            }
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("agent", &self.shared.identity.id)
            .field("bus", &self.shared.bus)
            .finish_non_exhaustive()
    }
}

impl Client {
    pub(crate) fn start(options: ConnectOptions, bus: Arc<dyn Bus>) -> Result<Self, ConnectError> {
        let ConnectOptions {
            identity,
            skew,
            clock,
            prefix,
            ..
        } = options;
        if Subject::parse(&prefix).is_err() || prefix.contains('.') {
            return Err(ConnectError::Prefix);
        }
        let trust = identity.trust.current();
        let now = clock.now()?;
        let scene = verify::Scene {
            now,
            trust: &trust,
            sessions: &(),
        };
        let own = verify::accept_chain(identity.grant.clone(), &identity.key, &scene, skew)?;
        let certificate = UnverifiedCertificate::parse(&identity.certificate)?.id();
        let (floor, since) = open_floor(&identity.provenance, now, skew)?;

        let tally = Arc::new(Tally::default());
        let control = Arc::new(Control::beside(bus.clone()));
        let emitter = Emitter {
            id: identity.id.clone(),
            key: identity.key.clone(),
            certificate,
            mesh: trust.mesh(),
            prefix: prefix.clone(),
            run: random()?,
        };
        let audit = AuditLog::start(
            emitter,
            options.audit,
            control.clone(),
            clock.clone(),
            tally.clone(),
        );
        if trust.root().is_dev() {
            let text = "development mesh: its role keys lie together in one place".to_owned();
            audit.event(
                now,
                AuditEvent::Notice {
                    topic: "dev-mesh".to_owned(),
                    text,
                },
            );
        }
        let party = crate::proto::handshake::Party {
            id: identity.id.clone(),
            certificate: identity.certificate.clone(),
            credential: own.clone(),
        };
        let responder = Responder::new(party, random()?, random()?);
        let shared = Arc::new_cyclic(|weak| Shared {
            verifier: Verifier::new(identity.key.public().bytes(), skew),
            rates: Mutex::default(),
            sessions: Mutex::default(),
            requests: Mutex::default(),
            slots: Arc::default(),
            guards: Guards::new(skew, since),
            peers: Peers::new(responder),
            refusals: Refusals::start(weak.clone()),
            redials_seen: AtomicU64::new(bus.redials()),
            tokens: AtomicU64::new(0),
            bus,
            control,
            identity,
            own: own.clone(),
            clock,
            skew,
            ttl_ms: options.ttl_ms,
            prefix,
            audit,
            tally,
            listening: OnceCell::new(),
            answering: OnceCell::new(),
            tasks: TaskSet::default(),
            floor,
            services: serve::Services::default(),
            request_timeout: options.request_timeout,
        });
        let voice = Voice {
            credential: own,
            traceparent: None,
            hops: 0,
        };
        Ok(Self { shared, voice })
    }

    /// A client with this agent's own authority that continues the work of a message.
    pub(crate) fn following(shared: &Arc<Shared>, claims: &Claims) -> Self {
        let voice = Voice {
            credential: shared.own.clone(),
            traceparent: claims.extensions.traceparent.clone(),
            hops: claims.extensions.hops.saturating_add(1),
        };
        Self {
            shared: shared.clone(),
            voice,
        }
    }

    /// The agent this client is.
    pub fn id(&self) -> &AgentId {
        &self.shared.identity.id
    }

    /// Its public key.
    pub fn key(&self) -> KeyBytes {
        self.shared.identity.key()
    }

    /// The credential it sends under.
    pub fn credential(&self) -> &Credential {
        &self.voice.credential
    }

    /// The same client, sending under another credential: authority that was handed over to it is
    /// used explicitly, never mixed with its own.
    #[must_use]
    pub fn with(&self, credential: Credential) -> Self {
        let voice = Voice {
            credential,
            ..self.voice.clone()
        };
        Self {
            shared: self.shared.clone(),
            voice,
        }
    }

    /// The same client, sending as part of the work that a W3C `traceparent` names.
    ///
    /// # Errors
    ///
    /// [`Denied`] when the text is no version-00 traceparent.
    pub fn with_traceparent(&self, traceparent: &str) -> Result<Self, Denied> {
        if !crate::proto::envelope::is_traceparent(traceparent.as_bytes()) {
            let reason = crate::proto::rejection::Malformed::Extension;
            return Err(Denied(Rejection::Malformed {
                place: Place::Header,
                reason,
            }));
        }
        let bytes = Bytes::copy_from_slice(traceparent.as_bytes());
        let voice = Voice {
            traceparent: Some(bytes),
            ..self.voice.clone()
        };
        Ok(Self {
            shared: self.shared.clone(),
            voice,
        })
    }

    /// Publishes a message. `Ok` means queued.
    ///
    /// On the reply subject of a request received before, the message is the answer to it.
    ///
    /// # Errors
    ///
    /// The kinds of `async_nats`; [`PublishErrorKind::Send`] with a source of [`Denied`] when every
    /// receiver would refuse the message.
    pub async fn publish<S: ToSubject>(
        &self,
        subject: S,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let subject = subject.to_subject().to_string();
        self.post(Letter {
            subject,
            payload,
            ..Letter::default()
        })
        .await
    }

    /// Publishes a message with application headers, which travel signed inside the envelope.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish).
    pub async fn publish_with_headers<S: ToSubject>(
        &self,
        subject: S,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let subject = subject.to_subject().to_string();
        let headers = Some(headers);
        self.post(Letter {
            subject,
            headers,
            payload,
            ..Letter::default()
        })
        .await
    }

    /// Publishes a message whose answers shall go to `reply`, which must be below this agent's own
    /// inbox: see [`new_inbox`](Self::new_inbox). Up to 128 answers are accepted there within five
    /// minutes.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish); [`PublishErrorKind::InvalidSubject`] for another reply
    /// subject.
    pub async fn publish_with_reply<S: ToSubject, R: ToSubject>(
        &self,
        subject: S,
        reply: R,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let subject = subject.to_subject().to_string();
        let reply = Some(reply.to_subject().to_string());
        self.post(Letter {
            subject,
            reply,
            payload,
            ..Letter::default()
        })
        .await
    }

    /// [`publish_with_reply`](Self::publish_with_reply), with application headers.
    ///
    /// # Errors
    ///
    /// As [`publish_with_reply`](Self::publish_with_reply).
    pub async fn publish_with_reply_and_headers<S: ToSubject, R: ToSubject>(
        &self,
        subject: S,
        reply: R,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let subject = subject.to_subject().to_string();
        let reply = Some(reply.to_subject().to_string());
        let headers = Some(headers);
        self.post(Letter {
            subject,
            reply,
            headers,
            payload,
            ..Letter::default()
        })
        .await
    }

    /// Sends a request and waits for its one verified answer.
    ///
    /// Cancelling gives the answer's slot up.
    ///
    /// # Errors
    ///
    /// The kinds of `async_nats`. `TimedOut` has a source of [`NoAnswer`](crate::error::NoAnswer),
    /// which tells how many answers were refused; `Other` one of [`Denied`] when every receiver
    /// would refuse the request, or of [`RefusedByPeer`](crate::error::RefusedByPeer) when the
    /// peer did.
    pub async fn request<S: ToSubject>(
        &self,
        subject: S,
        payload: Bytes,
    ) -> Result<Message, RequestError> {
        let subject = subject.to_subject().to_string();
        self.ask(
            Letter {
                subject,
                payload,
                ..Letter::default()
            },
            self.timeout(),
        )
        .await
    }

    /// [`request`](Self::request), with application headers.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request).
    pub async fn request_with_headers<S: ToSubject>(
        &self,
        subject: S,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Message, RequestError> {
        let subject = subject.to_subject().to_string();
        let headers = Some(headers);
        self.ask(
            Letter {
                subject,
                headers,
                payload,
                ..Letter::default()
            },
            self.timeout(),
        )
        .await
    }

    /// Sends a request made with `async_nats`'s builder.
    ///
    /// A custom inbox of the request is not used: answers arrive in this agent's own.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request).
    pub async fn send_request<S: ToSubject>(
        &self,
        subject: S,
        request: crate::bus::Request,
    ) -> Result<Message, RequestError> {
        let timeout = request.timeout.unwrap_or(self.timeout());
        let letter = Letter {
            subject: subject.to_subject().to_string(),
            headers: request.headers,
            payload: request.payload.unwrap_or_default(),
            ..Letter::default()
        };
        self.ask(letter, timeout).await
    }

    /// Subscribes. Needs SUB for the whole pattern, except below this agent's own inbox.
    ///
    /// # Errors
    ///
    /// The kinds of `async_nats`; [`SubscribeErrorKind::Other`] with a source of [`Denied`] when
    /// authority or policy do not allow it.
    pub async fn subscribe<S: ToSubject>(&self, subject: S) -> Result<Subscriber, SubscribeError> {
        self.open(&subject.to_subject(), None).await
    }

    /// Subscribes as a member of a queue group.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    pub async fn queue_subscribe<S: ToSubject>(
        &self,
        subject: S,
        queue_group: String,
    ) -> Result<Subscriber, SubscribeError> {
        self.open(&subject.to_subject(), Some(queue_group)).await
    }

    /// Waits until everything published so far has left this process. No server round trip.
    ///
    /// # Errors
    ///
    /// As in `async_nats`.
    pub async fn flush(&self) -> Result<(), FlushError> {
        self.shared.bus.flush().await
    }

    /// Drains the connection: subscriptions end after what they have received, services finish
    /// their handlers (30 s at most), the audit is handed to the bus (5 s at most). Further
    /// commands fail.
    ///
    /// # Errors
    ///
    /// As in `async_nats`, when the connection is gone.
    pub async fn drain(&self) -> Result<(), crate::bus::DrainError> {
        let shared = &self.shared;
        if tokio::time::timeout(HANDLERS_MAY_TAKE, shared.services.stop())
            .await
            .is_err()
        {
            tracing::warn!(agent = %shared.identity.id, "handlers did not end; draining without");
        }
        let drained = shared.bus.drain().await;
        if tokio::time::timeout(AUDIT_MAY_TAKE, shared.audit.flush())
            .await
            .is_err()
        {
            tracing::warn!(agent = %shared.identity.id, "the bus does not take the audit");
        }
        drained
    }

    /// How long requests wait by default.
    pub fn timeout(&self) -> Option<Duration> {
        self.shared.request_timeout
    }

    /// Counters of the connection, without audit and handshakes.
    pub fn statistics(&self) -> Arc<Statistics> {
        self.shared.bus.statistics()
    }

    /// Whether the bus can be reached right now.
    pub fn connection_state(&self) -> State {
        self.shared.bus.state()
    }

    /// What the server said about itself, with the true `max_payload` less the envelope's share.
    pub fn server_info(&self) -> ServerInfo {
        let mut info = self.shared.bus.server_info();
        info.max_payload = self.max_payload();
        info
    }

    /// Drops the connection to the server and makes a new one.
    ///
    /// # Errors
    ///
    /// As in `async_nats`.
    pub async fn force_reconnect(&self) -> Result<(), ReconnectError> {
        self.shared.bus.force_reconnect().await
    }

    /// What was received, accepted, refused and recorded.
    pub fn counters(&self) -> Counters {
        self.shared.tally.read()
    }

    /// The audit records of this client from now on, in this process.
    pub fn audit(&self) -> AuditStream {
        AuditStream::new(self.shared.audit.subscribe())
    }

    /// Waits until every decision so far was handed to the bus and the audit file.
    pub async fn flush_audit(&self) {
        self.shared.audit.flush().await;
    }

    /// Hands some of this client's authority to an agent, for `ttl` from now.
    ///
    /// The chain does nothing until it is sent: see [`Draft::grant`]. It can be delegated further
    /// as far as this credential allows.
    ///
    /// # Errors
    ///
    /// [`Denied`] when the peer is unknown, or the scope, the time or the depth exceed what this
    /// client holds. Nothing is clipped silently.
    pub fn delegate(&self, peer: &AgentId, scope: Scope, ttl: Duration) -> Result<Chain, Denied> {
        let depth = self.voice.credential.chain().leaf().remaining();
        let Some(depth) = depth.checked_sub(1) else {
            let (place, reason) = (Place::Chain, DepthExceeded::Remaining);
            return Err(Denied(Rejection::DepthExceeded { place, reason }));
        };
        self.delegate_to_depth(peer, scope, ttl, depth)
    }

    /// [`delegate`](Self::delegate), allowing only `depth` further delegations below.
    ///
    /// # Errors
    ///
    /// As [`delegate`](Self::delegate).
    pub fn delegate_to_depth(
        &self,
        peer: &AgentId,
        scope: Scope,
        ttl: Duration,
        depth: u8,
    ) -> Result<Chain, Denied> {
        let holder = self.peer_key(peer)?;
        let (now, trust) = self.shared.moment()?;
        let parent = self.voice.credential.chain().leaf().validity();
        // Backdated by the skew, so that a peer whose clock is a little behind can use it at once.
        let from = now.minus(self.shared.skew.as_millis()).max(parent.from());
        let until = now.plus(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let validity = Validity::new(from, until).ok_or(Rejection::Malformed {
            place: Place::Chain,
            reason: crate::proto::rejection::Malformed::Lifetime,
        })?;
        let nonce = random().map_err(|_| Rejection::Internal {
            reason: crate::proto::rejection::Internal::Random,
        })?;
        let draft = LinkDraft {
            holder,
            validity,
            remaining: depth,
            scope,
            nonce,
        };
        let chain = self.voice.credential.delegate(&draft)?;
        trust.policy().check_lifetimes(&chain)?;
        Ok(chain)
    }

    /// Begins a message with more than a subject and a payload: an audience, granted authority, a
    /// lifetime.
    pub fn compose<S: ToSubject>(&self, subject: S) -> Draft {
        Draft::new(self.clone(), subject.to_subject().to_string())
    }

    pub(crate) async fn post(&self, letter: Letter) -> Result<(), PublishError> {
        let sealed = self.seal(&letter)?;
        if let Some(reply) = &letter.reply {
            let pending = sealed.pending(letter.audience);
            if !self.shared.slots.open_inbox(reply, pending, sealed.at) {
                let source = "too many open reply subjects";
                return Err(PublishError::with_source(PublishErrorKind::Send, source));
            }
        }
        self.shared.note_redials();
        self.shared.bus.publish(sealed.outgoing).await
    }

    async fn open(
        &self,
        subject: &BusSubject,
        group: Option<String>,
    ) -> Result<Subscriber, SubscribeError> {
        let shared = &self.shared;
        let invalid = SubscribeErrorKind::InvalidSubject;
        let pattern =
            SubjectPattern::parse(subject).map_err(|e| SubscribeError::with_source(invalid, e))?;
        if group.as_deref().is_some_and(|group| !group_is_valid(group)) {
            return Err(SubscribeError::new(SubscribeErrorKind::InvalidQueueName));
        }
        let denied =
            |rejection| SubscribeError::with_source(SubscribeErrorKind::Other, Denied(rejection));
        let inbox = shared.is_own_inbox_pattern(&pattern);
        let credential = &self.voice.credential;
        if !inbox {
            let (now, trust) = shared.moment().map_err(denied)?;
            let scene = shared.scene(now, &trust);
            verify::check_subscribe(credential, &pattern, group.as_deref(), &scene, shared.skew)
                .map_err(denied)?;
        }
        shared.listen().await;
        let raw = shared.bus.subscribe(subject.clone(), group.clone()).await?;
        let scope = ReplayScope {
            pattern: pattern.as_str().to_owned(),
            group,
        };
        let guard = shared.guards.open(&scope);
        let own = credential.chain().clone();
        let intake = Intake {
            pattern,
            own,
            scope,
            guard,
            inbox,
        };
        Ok(Subscriber::new(raw, shared.clone(), intake))
    }
}

/// The replay floor of an identity: what was issued at or before it may have been accepted by an
/// earlier run.
fn open_floor(
    provenance: &Provenance,
    now: Timestamp,
    skew: ClockSkew,
) -> Result<(Option<ReplayFloor>, Option<Timestamp>), ConnectError> {
    match provenance {
        Provenance::Fresh => Ok((None, None)),
        Provenance::Loaded => Ok((None, Some(now.plus(skew.as_millis())))),
        Provenance::Stateful(path) => {
            let (floor, since) = ReplayFloor::open(path, now, skew)?;
            Ok((Some(floor), Some(since)))
        }
    }
}

impl Shared {
    /// A random subject token.
    pub(crate) fn token(&self) -> String {
        let mut bytes = [0u8; 12];
        match getrandom::fill(&mut bytes) {
            Ok(()) => data_encoding::HEXLOWER.encode(&bytes),
            // Uniqueness within the process is all a token is for; authenticity never rests on it.
            Err(_) => format!("n{}", self.tokens.fetch_add(1, Relaxed)),
        }
    }

    /// Whether a pattern lies below this agent's own inbox, to which it needs no grant.
    fn is_own_inbox_pattern(&self, pattern: &SubjectPattern) -> bool {
        let prefix = inbox_prefix(&self.identity.key());
        pattern
            .as_str()
            .strip_prefix(prefix.as_str())
            .is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'))
    }

    /// Keeps what a closing subscription had accepted.
    pub(crate) fn retire(&self, intake: &Intake) {
        // While time cannot be trusted nothing is forgotten: the epoch expires nothing.
        let now = self.clock.now().unwrap_or_default();
        self.guards.retire(&intake.scope, &intake.guard, now);
    }

    /// The request an answer in a user's own inbox can be to.
    pub(crate) fn pending_at(&self, subject: &str, expect: &Expect<'_>) -> Option<Pending> {
        match expect {
            Expect::Subscription(intake) if intake.inbox => {
                self.slots.pending_in_inbox(subject, self.clock.now().ok()?)
            }
            _ => None,
        }
    }

    /// Says in the audit that a dead connection was replaced.
    pub(crate) fn note_redials(&self) {
        let redials = self.bus.redials();
        if self.redials_seen.swap(redials, Relaxed) != redials {
            let Ok(now) = self.clock.now() else { return };
            let text = format!("the bus connection died and was replaced ({redials} in all)");
            self.audit.event(
                now,
                AuditEvent::Notice {
                    topic: "redial".to_owned(),
                    text,
                },
            );
        }
    }
}
