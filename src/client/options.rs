//! How a client connects.

use std::sync::Arc;
use std::time::Duration;

use super::Client;
use super::audit::AuditOptions;
use super::clock::Clock;
use super::clock::SystemClock;
use super::control::Control;
use super::feed::FeedError;
use super::identity::Identity;
use crate::bus;
use crate::bus::Bus;
use crate::bus::ToServerAddrs;
use crate::bus::nats::Caution;
use crate::bus::nats::NatsBus;
use crate::error::ConnectError;
use crate::proto::envelope::inbox_prefix;
use crate::proto::limits::TTL_DEFAULT_MS;
use crate::proto::limits::TTL_MAX_MS;
use crate::proto::names::PREFIX;
use crate::proto::time::ClockSkew;

/// How long a request waits for its answer, as in `async_nats`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long connecting waits for the newest trust state of a served mesh.
const TRUST_MAY_TAKE: Duration = Duration::from_secs(10);

/// How a client connects: an identity is required, everything else has a default.
///
/// ```
/// use std::time::Duration;
///
/// use trustmesh::ConnectOptions;
/// use trustmesh::bus::memory::MemoryBus;
/// use trustmesh::services::authority::Authority;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut mesh = Authority::dev("demo")?;
/// let planner = mesh.agent("planner", ["req:tools.>"])?;
/// let client = ConnectOptions::new(planner)
///     .request_timeout(Some(Duration::from_secs(2)))
///     .connect_bus(MemoryBus::new().connect())
///     .await?;
/// assert_eq!(client.id().as_str(), "planner");
/// # Ok(())
/// # }
/// ```
pub struct ConnectOptions {
    pub(crate) identity: Identity,
    pub(crate) nats: Option<bus::ConnectOptions>,
    pub(crate) caution: Caution,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) ttl_ms: u32,
    pub(crate) skew: ClockSkew,
    pub(crate) audit: AuditOptions,
    pub(crate) prefix: String,
    pub(crate) clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("agent", &self.identity.id)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl ConnectOptions {
    /// Options for this identity: NATS with the [`Login`](crate::client::home::Login) in the
    /// agent's directory, if there is one, and the addresses given only; requests of 10 s, envelopes of 10 s, a
    /// skew of 5 s, a strict audit on the bus.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            nats: None,
            caution: Caution::default(),
            request_timeout: Some(REQUEST_TIMEOUT),
            ttl_ms: TTL_DEFAULT_MS,
            skew: ClockSkew::default(),
            audit: AuditOptions::default(),
            prefix: PREFIX.to_owned(),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// The options of the NATS connection itself: TLS, credentials, reconnects. They govern every
    /// re-dial and the second connection as well, and the login in the agent's directory is then
    /// not used. [`connect_bus`](Self::connect_bus) does not use them.
    #[must_use]
    pub fn nats(mut self, options: bus::ConnectOptions) -> Self {
        self.nats = Some(options);
        self
    }

    /// How far the word of a server is taken: strictly, by default. [`connect_bus`](Self::connect_bus)
    /// does not use it.
    #[must_use]
    pub fn caution(mut self, caution: Caution) -> Self {
        self.caution = caution;
        self
    }

    /// How long a request waits for its answer, 10 s by default; `None` waits for ever.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// For how long an envelope may be accepted: 10 s by default, otherwise the nearest of 1 ms to
    /// [`TTL_MAX_MS`] (120 s). Policy may allow less, and then nothing is sent.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        let millis = u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX);
        self.ttl_ms = millis.clamp(1, TTL_MAX_MS);
        self
    }

    /// How far this clock and those of peers may differ, 5 s by default (protocol §14.1).
    #[must_use]
    pub fn clock_skew(mut self, skew: ClockSkew) -> Self {
        self.skew = skew;
        self
    }

    /// Where the audit goes, and what happens while it is full. By default it is strict and on the
    /// bus.
    #[must_use]
    pub fn audit(mut self, audit: AuditOptions) -> Self {
        self.audit = audit;
        self
    }

    /// First token of the subjects for audit and handshakes; `trustmesh` by default (protocol
    /// §4.4). Every agent of a mesh uses the same. What is no single token fails when connecting.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Another clock, for tests and simulations, in place of [`SystemClock`].
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Connects to NATS.
    ///
    /// Must be called within a tokio runtime, which carries the client's tasks.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Bus`] when the server cannot be reached or is too old, [`ConnectError::Home`]
    /// when the login of the agent cannot be used, and as [`connect_bus`](Self::connect_bus).
    pub async fn connect(mut self, servers: impl ToServerAddrs) -> Result<Client, ConnectError> {
        let nats = match (self.nats.take(), self.identity.login()?) {
            (Some(options), _) => options,
            (None, Some(login)) => login.apply(bus::ConnectOptions::new())?,
            (None, None) => bus::ConnectOptions::new(),
        };
        // A server that knows our permissions lets us listen below our own inbox only.
        let nats = nats.custom_inbox_prefix(inbox_prefix(&self.identity.key()));
        let bus = NatsBus::connect_with(servers, nats, self.caution).await?;
        self.connect_bus(bus).await
    }

    /// Takes a bus connection into use. Nothing is subscribed to yet.
    ///
    /// Must be called within a tokio runtime, which carries the client's tasks.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Identity`] when the identity does not hold now or the clock cannot be
    /// trusted, [`ConnectError::Prefix`], [`ConnectError::Floor`] when the replay floor of a loaded
    /// identity cannot be kept, [`ConnectError::Random`].
    ///
    /// In a served mesh the newest trust state is read first, on the second connection:
    /// [`ConnectError::Trust`] when there is none that the identity can be decided by.
    pub async fn connect_bus(self, bus: impl Bus) -> Result<Client, ConnectError> {
        let bus: Arc<dyn Bus> = Arc::new(bus);
        let control = Arc::new(Control::beside(bus.clone()));
        let behind = match &self.identity.feed {
            Some(feed) => tokio::time::timeout(TRUST_MAY_TAKE, feed.refresh(&control))
                .await
                .unwrap_or(Err(FeedError::TimedOut))
                .err(),
            None => None,
        };
        match (Client::start(self, bus, control), behind) {
            (Err(ConnectError::Identity(_)), Some(error)) => Err(ConnectError::Trust(error)),
            (started, _) => started,
        }
    }
}
