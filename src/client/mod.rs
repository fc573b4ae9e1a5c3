//! A running participant: the swap-in bus client.
//!
//! ```text
//! publish, request ──▶ outbound (check, sign) ──▶ Bus ──▶ inbound (verify, audit) ──▶ Subscriber, serve
//!                                                  │
//!                                    control ──────┘  second connection: audit, handshakes
//! ```

mod answers;
mod approvals;
pub mod audit;
pub(crate) mod audit_reader;
pub mod clock;
pub(crate) mod control;
mod counters;
mod delegate;
mod draft;
pub mod enrol;
pub(crate) mod feed;
pub(crate) mod floor;
mod guards;
pub mod home;
pub mod identity;
mod inbound;
pub mod join;
mod line;
mod message;
mod options;
mod outbound;
mod outbox;
mod peers;
pub mod plane;
pub(crate) mod random;
mod refusals;
mod reload;
mod remint;
mod reporter;
mod request;
mod seldom;
mod serve;
mod shared;
mod shared_replay;
mod standing;
mod subscriber;
mod subscription;
pub(crate) mod task;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use self::audit::AuditMode;
pub use self::audit::AuditOptions;
pub use self::audit::AuditStream;
pub use self::counters::Counters;
pub use self::delegate::Terms;
pub use self::draft::Draft;
pub use self::feed::FeedError;
pub use self::identity::Identity;
pub use self::message::Message;
pub use self::options::ConnectOptions;
pub use self::serve::Service;
pub use self::subscriber::Subscriber;
pub use self::subscription::Subscription;
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
use crate::proto::chain::Credential;
use crate::proto::envelope::Claims;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::replay::Takers;
use crate::proto::scope::group_is_valid;
use crate::proto::subject::SubjectPattern;
use crate::proto::trust::TrustState;
use crate::proto::verify;
use control::Control;
use guards::ReplayScope;
use outbound::Letter;
use shared::Shared;
use shared_replay::Claimant;
use standing::Backing;
use subscriber::Intake;

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
    pub(crate) backing: Backing,
    pub(crate) traceparent: Option<Bytes>,
    pub(crate) hops: u8,
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
    pub(crate) fn start(
        options: ConnectOptions,
        bus: Arc<dyn Bus>,
        control: Arc<Control>,
    ) -> Result<Self, ConnectError> {
        let feed = options.identity.feed.clone();
        let shared = Shared::start(options, bus, control)?;
        if let Some(feed) = feed {
            shared.tasks.spawn(feed.run(Arc::downgrade(&shared)));
        }
        Ok(Self::of(&shared))
    }

    /// A client with this agent's own authority, that begins work of its own.
    pub(crate) fn of(shared: &Arc<Shared>) -> Self {
        let voice = Voice {
            backing: Backing::Own,
            traceparent: None,
            hops: 0,
        };
        Self {
            shared: shared.clone(),
            voice,
        }
    }

    /// A client with this agent's own authority that continues the work of a message.
    pub(crate) fn following(shared: &Arc<Shared>, claims: &Claims) -> Self {
        let voice = Voice {
            backing: Backing::Own,
            traceparent: claims.extensions.traceparent.clone(),
            hops: claims.extensions.hops.saturating_add(1),
        };
        Self {
            shared: shared.clone(),
            voice,
        }
    }

    /// The agent this client is, whatever credential it sends under.
    pub fn id(&self) -> &AgentId {
        &self.shared.identity.id
    }

    /// The trust state it decides by as of now.
    pub fn trust(&self) -> Arc<TrustState> {
        self.shared.identity.trust.current()
    }

    /// Its public key: below the inbox of this key its answers arrive.
    pub fn key(&self) -> KeyBytes {
        self.shared.identity.key()
    }

    /// The credential it sends, subscribes and delegates under: its own grant's, unless
    /// [`with`](Self::with) gave it another. Its own is the current one, which is renewed while it
    /// runs.
    pub fn credential(&self) -> Credential {
        self.voice.backing.credential(&self.shared)
    }

    /// The same client, sending under another credential: authority that was handed over to it is
    /// used explicitly, never mixed with its own.
    ///
    /// The credential must be for this agent's own key; with another nothing is sent, as
    /// [`Rejection::ChainBroken`].
    ///
    /// ```
    /// use futures_util::StreamExt as _;
    /// # use std::time::Duration;
    /// # use trustmesh::ConnectOptions;
    /// # use trustmesh::bus::memory::MemoryBus;
    /// use trustmesh::proto::scope::Scope;
    /// # use trustmesh::services::authority::Authority;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut mesh = Authority::dev("demo")?;
    /// # let planner = mesh.agent("planner", ["pub:work", "pub+delegate:store.>"])?;
    /// # let worker = mesh.agent("worker", ["sub:work"])?;
    /// # let bus = MemoryBus::new();
    /// # let planner = ConnectOptions::new(planner).connect_bus(bus.connect()).await?;
    /// # let worker = ConnectOptions::new(worker).connect_bus(bus.connect()).await?;
    /// let mut work = worker.subscribe("work").await?;
    /// let scope = Scope::parse(["pub:store.a"])?;
    /// let grant = planner.delegate(worker.id(), scope, Duration::from_secs(30))?;
    /// planner.compose("work").grant(&grant).publish().await?;
    ///
    /// let message = work.next().await.ok_or("closed")?;
    /// let acting = worker.with(message.granted()?);
    /// acting.publish("store.a", "1".into()).await?;
    /// assert!(worker.publish("store.a", "2".into()).await.is_err()); // not on its own authority
    /// assert!(acting.publish("store.b", "3".into()).await.is_err()); // not handed over
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with(&self, credential: Credential) -> Self {
        let voice = Voice {
            backing: Backing::Lent(credential),
            ..self.voice.clone()
        };
        Self {
            shared: self.shared.clone(),
            voice,
        }
    }

    /// The same client, sending as part of the work that a W3C `traceparent` names. It travels
    /// signed (protocol §12.4).
    ///
    /// # Errors
    ///
    /// [`Denied`] with [`Rejection::Malformed`] when the text is no version-00 traceparent: 55
    /// bytes, lower case.
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

    /// Publishes a message. `Ok` means queued, never delivered.
    ///
    /// It lives for [`ConnectOptions::ttl`], 10 s by default. On the reply subject of a request
    /// received before, the message is the answer to it; a request can be answered until 10 minutes
    /// after it was issued, and of those received the last 65,536 (protocol §15.2).
    ///
    /// While others are being sent, a message waits for some 150 µs to be signed with them (protocol
    /// §12.5). [`flush`](Self::flush) and [`drain`](Self::drain) wait for what is queued; what the
    /// bus then does not take is told to whoever publishes next.
    ///
    /// # Errors
    ///
    /// The kinds of `async_nats`: [`PublishErrorKind::InvalidSubject`] for a subject outside the
    /// grammar of protocol §5.1, [`PublishErrorKind::MaxPayloadExceeded`] over
    /// [`max_payload`](Self::max_payload), and [`PublishErrorKind::Send`], with a source of
    /// [`Denied`] when every receiver would refuse the message or of [`Closed`](crate::bus::Closed)
    /// after [`drain`](Self::drain).
    ///
    /// ```
    /// use std::error::Error as _;
    ///
    /// # use trustmesh::ConnectOptions;
    /// use trustmesh::Denied;
    /// # use trustmesh::bus::memory::MemoryBus;
    /// use trustmesh::proto::rejection::Class;
    /// # use trustmesh::services::authority::Authority;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let planner = Authority::dev("demo")?.agent("planner", ["pub:tasks.>"])?;
    /// # let bus = MemoryBus::new();
    /// # let planner = ConnectOptions::new(planner).connect_bus(bus.connect()).await?;
    /// planner.publish("tasks.index", "docs/".into()).await?;
    ///
    /// let error = planner.publish("orders.new", "1".into()).await.err().ok_or("it was sent")?;
    /// let denied = error.source().and_then(|source| source.downcast_ref::<Denied>());
    /// assert_eq!(denied.map(|denied| denied.0.class()), Some(Class::ScopeExceeded));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn publish<S: ToSubject>(
        &self,
        subject: S,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let subject = subject.to_subject();
        self.post(Letter {
            subject,
            payload,
            ..Letter::default()
        })
        .await
    }

    /// Publishes a message with application headers, which travel signed inside the envelope.
    ///
    /// At most 64 headers of 16 KiB together.
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
        let subject = subject.to_subject();
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
    /// inbox: see [`new_inbox`](Self::new_inbox). It is a request, and needs REQ. Up to 128 answers
    /// are accepted there within five minutes (protocol §15.1).
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish); [`PublishErrorKind::InvalidSubject`] for another reply
    /// subject, [`PublishErrorKind::Send`] when 16,384 reply subjects are open.
    ///
    /// ```
    /// use futures_util::StreamExt as _;
    /// # use trustmesh::ConnectOptions;
    /// # use trustmesh::bus::memory::MemoryBus;
    /// # use trustmesh::services::authority::Authority;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut mesh = Authority::dev("demo")?;
    /// # let asker = mesh.agent("asker", ["req:poll"])?;
    /// # let voter = mesh.agent("voter", ["sub+serve:poll"])?;
    /// # let bus = MemoryBus::new();
    /// # let asker = ConnectOptions::new(asker).connect_bus(bus.connect()).await?;
    /// # let voter = ConnectOptions::new(voter).connect_bus(bus.connect()).await?;
    /// # let _service = voter.serve("poll", |_| async { Ok::<_, String>("yes".into()) }).await?;
    /// let inbox = asker.new_inbox();
    /// let mut answers = asker.subscribe(inbox.clone()).await?;
    /// asker.publish_with_reply("poll", inbox, "tea?".into()).await?;
    /// let answer = answers.next().await.ok_or("closed")?;
    /// assert_eq!((answer.sender().as_str(), &answer.payload[..]), ("voter", &b"yes"[..]));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn publish_with_reply<S: ToSubject, R: ToSubject>(
        &self,
        subject: S,
        reply: R,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let subject = subject.to_subject();
        let reply = Some(reply.to_subject());
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
        let subject = subject.to_subject();
        let reply = Some(reply.to_subject());
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

    /// Sends a request and waits for its one verified answer, for
    /// [`ConnectOptions::request_timeout`], 10 s by default. A peer whose policy asks for a session
    /// gets one, and the request is sent again within the same time. Where policy asks for an
    /// approval and there is none, the chain is [presented](Self::present) first, within that time
    /// too.
    ///
    /// Cancelling gives the answer's slot up.
    ///
    /// # Errors
    ///
    /// The kinds of `async_nats`. [`TimedOut`](crate::bus::RequestErrorKind::TimedOut) has a source
    /// of [`NoAnswer`](crate::error::NoAnswer), which tells how many answers were refused;
    /// [`Other`](crate::bus::RequestErrorKind::Other) one of [`Denied`] when every receiver would
    /// refuse the request, or of [`RefusedByPeer`](crate::error::RefusedByPeer) when the peer did;
    /// `NoResponders` when the bus says that nobody listens; `InvalidSubject` and
    /// `MaxPayloadExceeded` as for [`publish`](Self::publish).
    ///
    /// ```
    /// # use trustmesh::ConnectOptions;
    /// # use trustmesh::bus::memory::MemoryBus;
    /// # use trustmesh::services::authority::Authority;
    /// #
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut mesh = Authority::dev("demo")?;
    /// # let planner = mesh.agent("planner", ["req:tools.>"])?;
    /// # let tool = mesh.agent("tool", ["sub+serve:tools.>"])?;
    /// # let bus = MemoryBus::new();
    /// # let planner = ConnectOptions::new(planner).connect_bus(bus.connect()).await?;
    /// # let tool = ConnectOptions::new(tool).connect_bus(bus.connect()).await?;
    /// # let echo = |m: trustmesh::Message| async move { Ok::<_, String>(m.payload) };
    /// # let _service = tool.serve("tools.>", echo).await?;
    /// let answer = planner.request("tools.echo", "hello".into()).await?;
    /// assert_eq!(answer.payload, "hello");
    /// assert_eq!(answer.sender().as_str(), "tool");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn request<S: ToSubject>(
        &self,
        subject: S,
        payload: Bytes,
    ) -> Result<Message, RequestError> {
        let subject = subject.to_subject();
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
        let subject = subject.to_subject();
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
    /// A timeout of the request takes the place of this client's.
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
            subject: subject.to_subject(),
            headers: request.headers,
            payload: request.payload.unwrap_or_default(),
            ..Letter::default()
        };
        self.ask(letter, timeout).await
    }

    /// Subscribes. Needs SUB for the whole pattern, except below this agent's own inbox (protocol
    /// §6.4, §10.6). There only answers to requests of this agent come out, see
    /// [`publish_with_reply`](Self::publish_with_reply).
    ///
    /// The authority must last: when the chain it subscribed under ends, is revoked or loses its
    /// policy, further messages are refused (protocol §13.3).
    ///
    /// # Errors
    ///
    /// The kinds of `async_nats`: [`SubscribeErrorKind::InvalidSubject`], and
    /// [`SubscribeErrorKind::Other`] with a source of [`Denied`] when authority or policy do not
    /// allow it, or of [`Closed`](crate::bus::Closed) after [`drain`](Self::drain).
    ///
    /// ```
    /// use futures_util::StreamExt as _;
    /// # use trustmesh::ConnectOptions;
    /// # use trustmesh::bus::memory::MemoryBus;
    /// # use trustmesh::services::authority::Authority;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut mesh = Authority::dev("demo")?;
    /// # let planner = mesh.agent("planner", ["pub:tasks.>"])?;
    /// # let worker = mesh.agent("worker", ["sub:tasks.>"])?;
    /// # let bus = MemoryBus::new();
    /// # let planner = ConnectOptions::new(planner).connect_bus(bus.connect()).await?;
    /// # let worker = ConnectOptions::new(worker).connect_bus(bus.connect()).await?;
    /// let mut tasks = worker.subscribe("tasks.*").await?;
    /// planner.publish("tasks.index", "docs/".into()).await?;
    /// let task = tasks.next().await.ok_or("closed")?;
    /// assert_eq!((task.sender().as_str(), &task.payload[..]), ("planner", &b"docs/"[..]));
    ///
    /// assert!(worker.subscribe(">").await.is_err()); // more than was granted
    /// # Ok(())
    /// # }
    /// ```
    pub async fn subscribe<S: ToSubject>(&self, subject: S) -> Result<Subscriber, SubscribeError> {
        self.open(&subject.to_subject(), None, false).await
    }

    /// Subscribes as a member of a queue group: each message goes to one member. The members within
    /// a process share one replay memory (protocol §14.4); those in several processes do where they
    /// ask for it, see [`Subscription::shared_replay`].
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe); [`SubscribeErrorKind::InvalidQueueName`] unless the name
    /// is 1 to 96 bytes of printable ASCII without blanks.
    pub async fn queue_subscribe<S: ToSubject>(
        &self,
        subject: S,
        queue_group: String,
    ) -> Result<Subscriber, SubscribeError> {
        self.open(&subject.to_subject(), Some(queue_group), false)
            .await
    }

    /// Describes a subscription with options: a queue group, a shared replay memory.
    ///
    /// [`Subscription`] has an example.
    pub fn subscription<S: ToSubject>(&self, subject: S) -> Subscription {
        Subscription::new(self.clone(), subject.to_subject())
    }

    /// Waits until everything published so far has left this process. No server round trip, and
    /// nothing about the audit: see [`flush_audit`](Self::flush_audit).
    ///
    /// # Errors
    ///
    /// [`FlushErrorKind::SendError`](crate::bus::FlushErrorKind::SendError) after
    /// [`drain`](Self::drain).
    pub async fn flush(&self) -> Result<(), FlushError> {
        self.shared.outbox.flush().await;
        self.shared.bus.flush().await
    }

    /// Drains the connection: subscriptions end after what they have received, services finish
    /// their handlers (30 s at most), the audit is handed to the bus (5 s at most). Further
    /// commands fail. Clones and the messages received share the connection.
    ///
    /// Cancelling ends the waiting: services stop all the same, and the connection may stay open.
    ///
    /// # Errors
    ///
    /// [`DrainError`](crate::bus::DrainError) when the connection was drained already or is gone.
    pub async fn drain(&self) -> Result<(), crate::bus::DrainError> {
        let shared = &self.shared;
        if tokio::time::timeout(HANDLERS_MAY_TAKE, shared.services.stop())
            .await
            .is_err()
        {
            tracing::warn!(agent = %shared.identity.id, "handlers did not end; draining without");
        }
        shared.outbox.close().await;
        let drained = shared.bus.drain().await;
        if tokio::time::timeout(AUDIT_MAY_TAKE, shared.audit.flush())
            .await
            .is_err()
        {
            tracing::warn!(agent = %shared.identity.id, "the bus does not take the audit");
        }
        drained
    }

    /// How long requests wait by default; `None` is for ever.
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

    /// What the server said about itself, unauthenticated, with the true `max_payload` less the
    /// envelope's share.
    pub fn server_info(&self) -> ServerInfo {
        let mut info = self.shared.bus.server_info();
        info.max_payload = self.max_payload();
        info
    }

    /// Drops the connection to the server and makes a new one, with every subscription.
    ///
    /// # Errors
    ///
    /// [`ReconnectError`] after [`drain`](Self::drain).
    pub async fn force_reconnect(&self) -> Result<(), ReconnectError> {
        self.shared.bus.force_reconnect().await
    }

    /// What was received, accepted, refused and recorded since this client was made, by all its
    /// clones.
    pub fn counters(&self) -> Counters {
        self.shared.tally.read()
    }

    /// The audit records of this client from now on, in this process. Every caller gets a stream of
    /// its own.
    ///
    /// ```
    /// # use futures_util::StreamExt as _;
    /// # use trustmesh::ConnectOptions;
    /// use trustmesh::audit::AuditEvent;
    /// # use trustmesh::bus::memory::MemoryBus;
    /// # use trustmesh::services::authority::Authority;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let echo = Authority::dev("demo")?.agent("echo", ["pub+sub:echo"])?;
    /// # let echo = ConnectOptions::new(echo).connect_bus(MemoryBus::new().connect()).await?;
    /// let mut records = echo.audit();
    /// # let mut messages = echo.subscribe("echo").await?;
    /// # echo.publish("echo", "hello".into()).await?;
    /// # messages.next().await.ok_or("closed")?;
    /// while let Some(record) = records.next().await {
    ///     if let AuditEvent::Decision(decision) = record.event {
    ///         assert_eq!(decision.sender.as_deref(), Some("echo"));
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn audit(&self) -> AuditStream {
        AuditStream::new(self.shared.audit.subscribe())
    }

    /// Waits until every decision so far was handed to the bus and the audit file. While the bus
    /// takes nothing it waits on; cancelling loses nothing.
    pub async fn flush_audit(&self) {
        self.shared.audit.flush().await;
    }

    /// Begins a message with more than a subject and a payload: an audience, granted authority, a
    /// lifetime.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # use trustmesh::ConnectOptions;
    /// # use trustmesh::bus::memory::MemoryBus;
    /// # use trustmesh::services::authority::Authority;
    /// #
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut mesh = Authority::dev("demo")?;
    /// # let planner = mesh.agent("planner", ["pub:tasks.>"])?;
    /// # let worker = mesh.agent("worker", ["sub:x"])?;
    /// # let planner = ConnectOptions::new(planner).connect_bus(MemoryBus::new().connect()).await?;
    /// let draft = planner.compose("tasks.index").payload("docs/").payload_type("text/plain");
    /// draft.audience(worker.key()).ttl(Duration::from_secs(2)).publish().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn compose<S: ToSubject>(&self, subject: S) -> Draft {
        Draft::new(self.clone(), subject.to_subject())
    }

    pub(crate) async fn post(&self, letter: Letter) -> Result<(), PublishError> {
        let (reply, audience) = (letter.reply.clone(), letter.audience);
        let sealed = self.seal(letter)?;
        if let Some(reply) = reply {
            let pending = sealed.pending(audience);
            if !self.shared.slots.open_inbox(&reply, pending, sealed.at) {
                let source = "too many open reply subjects";
                return Err(PublishError::with_source(PublishErrorKind::Send, source));
            }
        }
        self.shared.note_bus();
        self.shared.outbox.send(sealed.post).await
    }

    async fn open(
        &self,
        subject: &BusSubject,
        group: Option<String>,
        shared_replay: bool,
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
        let credential = &self.credential();
        if !inbox {
            let (now, trust) = shared.moment().map_err(denied)?;
            let scene = shared.scene(now, &trust);
            verify::check_subscribe(credential, &pattern, group.as_deref(), &scene, shared.skew)
                .map_err(denied)?;
        }
        let claimant = match shared_replay {
            true if inbox => {
                let source = "answers count once as it is";
                return Err(SubscribeError::with_source(
                    SubscribeErrorKind::Other,
                    source,
                ));
            }
            true => Some(self.claimant(&pattern, group.as_deref()).await?),
            false => None,
        };
        shared.listen().await;
        let raw = shared.bus.subscribe(subject.clone(), group.clone()).await?;
        let scope = ReplayScope {
            pattern: pattern.as_str().to_owned(),
            group,
        };
        let guard = shared.guards.open(&scope);
        let own = self.voice.backing.clone();
        let intake = Intake {
            pattern,
            own,
            scope,
            guard,
            inbox,
        };
        Ok(Subscriber::new(raw, shared.clone(), intake, claimant))
    }

    /// Opens the shared replay memory for a subscription.
    async fn claimant(
        &self,
        pattern: &SubjectPattern,
        group: Option<&str>,
    ) -> Result<Claimant, SubscribeError> {
        let shared = &self.shared;
        let other = SubscribeErrorKind::Other;
        let mesh = shared.identity.trust.current().mesh();
        let opened = shared.shared_replay.open(&shared.control, mesh).await;
        let token = random::random();
        Ok(Claimant {
            memory: shared.shared_replay.clone(),
            store: opened.map_err(|error| SubscribeError::with_source(other, error))?,
            pattern: pattern.as_str().to_owned(),
            takers: match group {
                Some(group) => Takers::Group(group.to_owned()),
                None => Takers::Agent(self.key()),
            },
            token: token
                .map_err(|error| SubscribeError::with_source(other, Denied(error.into())))?,
        })
    }
}
