//! A bus in this process with NATS subject semantics, and a hostile one on demand.
//!
//! [`MemoryBus`] is the server, [`MemoryConnection`] a client of it. It does what nats-server and
//! `async_nats` together do: wildcards, queue groups, "no responders" answers, echo, size limit,
//! bounded subscriptions that drop the newest message. Publishing needs no runtime.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use futures::StreamExt;
//! use trustmesh::bus::memory::MemoryBus;
//! use trustmesh::bus::{Bus, Outgoing};
//!
//! let connection = MemoryBus::new().connect();
//! let mut orders = connection.subscribe("orders.*".into(), None).await?;
//! connection.publish(Outgoing::new("orders.new", "tea")).await?;
//! assert_eq!(orders.next().await.unwrap().payload, "tea");
//! # Ok(())
//! # }
//! ```
//!
//! Tests turn it against its users: [`MemoryBus::inject`] lets faults happen to messages,
//! [`MemoryBus::forge`] delivers what nobody published, [`MemoryBus::tap`] records for replay,
//! [`MemoryBus::bucket`] tampers with what is stored.

mod store;

use std::fmt;
use std::future::ready;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

pub(super) use self::store::Buckets;
pub use self::store::{BucketState, MemoryBucket};
use super::exchange::{Endpoint, Exchange, Route};
use super::faults::{Dice, Faults, InFlight};
use super::store::{BucketConfig, Store, StoreError};
use super::{
    Bus, BusFuture, BusSubscriber, Closed, ConnectError, Delivery, DrainError, FlushError,
    FlushErrorKind, Outgoing, PublishError, PublishErrorKind, RawSubscriber, ReconnectError,
    ServerInfo, State, Statistics, Subject, SubscribeError, SubscribeErrorKind, UnsubscribeError,
    is_one_word,
};

/// The server: what connections to it share. Clones are the same server.
///
/// ```
/// use trustmesh::bus::memory::MemoryBus;
/// use trustmesh::bus::{Bus, Outgoing};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = MemoryBus::seeded(7);
/// let (alice, bob) = (bus.connect(), bus.connect());
/// let tap = bus.tap();
/// let _orders = bob.subscribe("orders.>".into(), None).await?;
/// alice.publish(Outgoing::new("orders.new", "tea")).await?;
///
/// let seen = tap.take();
/// assert_eq!(seen[0].payload, "tea");
/// assert_eq!(bus.forge(seen[0].clone()), 1); // the same once more, from nobody
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct MemoryBus {
    exchange: Arc<Mutex<Exchange>>,
}

impl MemoryBus {
    /// A server whose choice of queue group members is random but the same in every run.
    pub fn new() -> Self {
        Self::default()
    }

    /// A server whose choice of queue group members follows from `seed`.
    pub fn seeded(seed: u64) -> Self {
        let bus = Self::default();
        bus.exchange().dice = Dice::seeded(seed);
        bus
    }

    /// Connects with the options `async_nats` and nats-server have by default.
    pub fn connect(&self) -> MemoryConnection {
        self.connect_with(MemoryOptions::default())
    }

    /// Connects with other options. The connection ends by [`Bus::drain`].
    pub fn connect_with(&self, options: MemoryOptions) -> MemoryConnection {
        let mut exchange = self.exchange();
        let endpoint = Endpoint {
            id: exchange.number(),
            options,
            closed: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            statistics: Arc::default(),
        };
        endpoint.statistics.connects.fetch_add(1, Ordering::Relaxed);
        MemoryConnection {
            bus: self.clone(),
            endpoint: Arc::new(endpoint),
        }
    }

    /// Puts `faults` in force in place of any others, whose held messages are delivered; see
    /// [`MemoryBus::heal`].
    pub fn inject(&self, faults: Faults) {
        self.heal();
        self.exchange().faults = Some(faults);
    }

    /// Ends all faults and delivers what they held back. Delayed messages stay delayed.
    pub fn heal(&self) {
        let mut exchange = self.exchange();
        let held = exchange.faults.take().into_iter().flat_map(Faults::release);
        for message in held {
            exchange.route(&message.route, message.delivery, None);
        }
    }

    /// Delivers a message nobody published to those who listen on its subject, status line and
    /// all. Faults do not touch it. Says how many subscriptions it went to.
    pub fn forge(&self, delivery: impl Into<Delivery>) -> usize {
        let delivery = delivery.into();
        let route = delivery.subject.clone();
        self.forge_at(&route, delivery)
    }

    /// Like [`MemoryBus::forge`], but to those who listen on `route`, whatever subject the delivery
    /// names.
    pub fn forge_at(&self, route: &str, delivery: impl Into<Delivery>) -> usize {
        self.exchange().route(route, delivery.into(), None)
    }

    /// Records from now on what is published, as published, until the tap is dropped.
    pub fn tap(&self) -> Tap {
        let tap = Tap::default();
        self.exchange().listen_in(&tap.recorded);
        tap
    }

    fn exchange(&self) -> MutexGuard<'_, Exchange> {
        // A panic under the lock can at worst lose a message, which a bus may do.
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, message: Outgoing, from: &Arc<Endpoint>) {
        let mut exchange = self.exchange();
        exchange.record(&message);
        let Some(faults) = &mut exchange.faults else {
            let route = message.subject.clone();
            return exchange.carry(&route, message.into(), from);
        };
        for InFlight {
            route,
            delivery,
            delay,
        } in faults.strike(message)
        {
            match Handle::try_current().ok().filter(|_| !delay.is_zero()) {
                Some(runtime) => {
                    let bus = self.clone();
                    let from = Arc::clone(from);
                    runtime.spawn(async move {
                        tokio::time::sleep(delay).await;
                        bus.exchange().carry(&route, delivery, &from);
                    });
                }
                None => exchange.carry(&route, delivery, from),
            }
        }
    }
}

impl fmt::Debug for MemoryBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exchange = self.exchange();
        f.debug_struct("MemoryBus")
            .field("subscriptions", &exchange.subscriptions())
            .field("faults", &exchange.faults)
            .finish_non_exhaustive()
    }
}

/// How a [`MemoryConnection`] behaves; named as in `async_nats::ConnectOptions`.
///
/// ```
/// use trustmesh::bus::Bus as _;
/// use trustmesh::bus::memory::{MemoryBus, MemoryOptions};
///
/// let small = MemoryOptions::default().max_payload(1024).no_echo();
/// assert_eq!(MemoryBus::new().connect_with(small).max_payload(), 1024);
/// ```
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    subscription_capacity: usize,
    pub(super) no_echo: bool,
    max_payload: usize,
}

impl MemoryOptions {
    /// How many messages wait in a subscription before it drops new ones; 65,536 by default, at
    /// least 1.
    pub fn subscription_capacity(mut self, messages: usize) -> Self {
        self.subscription_capacity = messages.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Do not deliver what this connection publishes to its own subscriptions.
    pub fn no_echo(mut self) -> Self {
        self.no_echo = true;
        self
    }

    /// The largest message taken, headers and payload together, in bytes; 1 MiB by default.
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }
}

impl Default for MemoryOptions {
    /// 65,536 messages a subscription as in `async_nats`, echo, 1 MiB as in nats-server.
    fn default() -> Self {
        Self {
            subscription_capacity: 65_536,
            no_echo: false,
            max_payload: 1024 * 1024,
        }
    }
}

/// A client of a [`MemoryBus`]. Clones are the same client. Give it to
/// [`ConnectOptions::connect_bus`](crate::ConnectOptions::connect_bus).
#[derive(Clone)]
pub struct MemoryConnection {
    bus: MemoryBus,
    endpoint: Arc<Endpoint>,
}

impl MemoryConnection {
    /// How many messages this connection's subscriptions dropped because they were full.
    pub fn dropped(&self) -> u64 {
        self.endpoint.dropped.load(Ordering::Relaxed)
    }

    fn open(&self) -> Result<(), Closed> {
        match self.endpoint.closed.load(Ordering::Acquire) {
            true => Err(Closed),
            false => Ok(()),
        }
    }

    fn send(&self, message: Outgoing) -> Result<(), PublishError> {
        message.check(self.max_payload())?;
        self.open()
            .map_err(|closed| PublishError::with_source(PublishErrorKind::Send, closed))?;
        let statistics = &self.endpoint.statistics;
        let size = message.payload.len() + message.subject.len();
        statistics.out_messages.fetch_add(1, Ordering::Relaxed);
        statistics
            .out_bytes
            .fetch_add(size as u64, Ordering::Relaxed);
        self.bus.publish(message, &self.endpoint);
        Ok(())
    }

    fn listen(&self, pattern: Subject, queue: Option<String>) -> Result<Inbox, SubscribeError> {
        if !pattern.is_valid() {
            return Err(SubscribeError::new(SubscribeErrorKind::InvalidSubject));
        }
        if queue.as_deref().is_some_and(|queue| !is_one_word(queue)) {
            return Err(SubscribeError::new(SubscribeErrorKind::InvalidQueueName));
        }
        let (sender, receiver) = mpsc::channel(self.endpoint.options.subscription_capacity);
        let owner = Arc::clone(&self.endpoint);
        let mut exchange = self.bus.exchange();
        // Under the lock: draining takes it too, and must not miss a subscription.
        self.open()
            .map_err(|closed| SubscribeError::with_source(SubscribeErrorKind::Other, closed))?;
        let id = exchange.add(Route {
            owner,
            pattern: pattern.clone(),
            queue,
            sender,
        });
        Ok(Inbox {
            connection: self.clone(),
            id,
            pattern,
            receiver,
        })
    }

    fn open_bucket(&self, config: &BucketConfig) -> Result<Arc<dyn Store>, StoreError> {
        config.check()?;
        if self.open().is_err() {
            let closed = "the connection is closed".to_owned();
            return Err(StoreError::Unreachable(closed));
        }
        let bucket = self.bus.exchange().buckets.open(config)?;
        Ok(Arc::new(self::store::MemoryStore {
            connection: self.clone(),
            bucket,
            config: config.clone(),
        }))
    }

    fn close(&self) -> Result<(), DrainError> {
        let mut exchange = self.bus.exchange();
        if self.endpoint.closed.swap(true, Ordering::AcqRel) {
            return Err(DrainError(Closed));
        }
        exchange.remove_all(self.endpoint.id);
        Ok(())
    }
}

impl Bus for MemoryConnection {
    fn publish(&self, message: Outgoing) -> BusFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            // A loop of publishes must let subscribers run, as one over a socket does.
            tokio::task::consume_budget().await;
            self.send(message)
        })
    }

    fn subscribe(
        &self,
        subject: Subject,
        queue: Option<String>,
    ) -> BusFuture<'_, Result<BusSubscriber, SubscribeError>> {
        Box::pin(ready(self.listen(subject, queue).map(BusSubscriber::new)))
    }

    fn flush(&self) -> BusFuture<'_, Result<(), FlushError>> {
        let open = self.open();
        Box::pin(ready(open.map_err(|closed| {
            FlushError::with_source(FlushErrorKind::SendError, closed)
        })))
    }

    fn drain(&self) -> BusFuture<'_, Result<(), DrainError>> {
        Box::pin(ready(self.close()))
    }

    fn max_payload(&self) -> usize {
        self.endpoint.options.max_payload
    }

    fn state(&self) -> State {
        match self.open() {
            Ok(()) => State::Connected,
            Err(Closed) => State::Disconnected,
        }
    }

    fn statistics(&self) -> Arc<Statistics> {
        Arc::clone(&self.endpoint.statistics)
    }

    fn server_info(&self) -> ServerInfo {
        ServerInfo {
            server_name: "memory".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            max_payload: self.max_payload(),
            client_id: self.endpoint.id,
            headers: true,
            ..ServerInfo::default()
        }
    }

    fn second(&self) -> BusFuture<'_, Result<Arc<dyn Bus>, ConnectError>> {
        let second = self.bus.connect_with(self.endpoint.options.clone());
        Box::pin(ready(Ok(Arc::new(second) as Arc<dyn Bus>)))
    }

    fn store<'a>(
        &'a self,
        bucket: &'a BucketConfig,
    ) -> BusFuture<'a, Result<Arc<dyn Store>, StoreError>> {
        Box::pin(ready(self.open_bucket(bucket)))
    }

    fn redials(&self) -> u64 {
        0
    }

    fn force_reconnect(&self) -> BusFuture<'_, Result<(), ReconnectError>> {
        let open = self.open().map_err(ReconnectError);
        if open.is_ok() {
            self.endpoint
                .statistics
                .connects
                .fetch_add(1, Ordering::Relaxed);
        }
        Box::pin(ready(open))
    }
}

impl fmt::Debug for MemoryConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryConnection")
            .field("id", &self.endpoint.id)
            .field("options", &self.endpoint.options)
            .finish_non_exhaustive()
    }
}

/// A record of what was published on a [`MemoryBus`], before any fault. Grows until dropped.
#[derive(Debug, Default)]
pub struct Tap {
    recorded: Arc<Mutex<Vec<Outgoing>>>,
}

impl Tap {
    /// Takes what was recorded since the last time, oldest first.
    pub fn take(&self) -> Vec<Outgoing> {
        std::mem::take(&mut self.recorded.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One subscription, seen from the client.
struct Inbox {
    connection: MemoryConnection,
    id: u64,
    pattern: Subject,
    receiver: mpsc::Receiver<Delivery>,
}

impl Inbox {
    /// Takes the sender out of the server: what is in the channel comes out, then the end.
    fn end(&self) -> Result<(), UnsubscribeError> {
        self.connection.bus.exchange().remove(self.id);
        self.connection.open().map_err(UnsubscribeError)
    }
}

impl Stream for Inbox {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.receiver.poll_recv(cx)
    }
}

impl RawSubscriber for Inbox {
    fn unsubscribe(&mut self) -> BusFuture<'_, Result<(), UnsubscribeError>> {
        Box::pin(ready(self.end()))
    }

    fn drain(&mut self) -> BusFuture<'_, Result<(), UnsubscribeError>> {
        Box::pin(ready(self.end()))
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.connection.bus.exchange().remove(self.id);
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("subject", &self.pattern)
            .finish_non_exhaustive()
    }
}
