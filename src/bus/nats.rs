//! NATS as a [`Bus`], kept alive where `async_nats` alone would end.
//!
//! One header value with a bare carriage return panics the connection task of every `async_nats`
//! subscriber that receives it (nats-io/nats.rs#1612). Afterwards publishing fails and
//! subscriptions end, for good. Anyone who may publish can do that to everyone who listens, so
//! [`NatsBus`] notices, dials again with the same options, restores every subscription and goes
//! on. Programs built with `panic = "abort"` cannot be helped that way: they stop.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use async_nats::Client;
use async_nats::client::traits::Publisher;
use async_nats::message::OutboundMessage;
use futures_util::Stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Bus;
use super::BusFuture;
use super::BusSubscriber;
use super::Closed;
use super::ConnectError;
use super::ConnectErrorKind;
use super::ConnectOptions;
use super::Delivery;
use super::DrainError;
use super::FlushError;
use super::FlushErrorKind;
use super::Outgoing;
use super::PublishError;
use super::PublishErrorKind;
use super::RawSubscriber;
use super::ReconnectError;
use super::ServerAddr;
use super::ServerInfo;
use super::State;
use super::Statistics;
use super::Subject;
use super::SubscribeError;
use super::SubscribeErrorKind;
use super::ToServerAddrs;
use super::UnsubscribeError;
use super::is_one_word;

/// The pause before dialling again when the last connection died young, and the first step of
/// the doubling while dialling fails: short beside any timeout, long enough not to spin.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Where the doubling stops; `async_nats` waits no longer than this between its own attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// A connection that lived this long is replaced without a pause.
const LIVED: Duration = Duration::from_secs(1);

/// How long [`Bus::drain`] waits for queued messages to be written when the server is away.
const DRAIN_WRITES: Duration = Duration::from_secs(5);

/// A supervised connection to NATS. Clones share it.
///
/// While a connection is being replaced, publish and flush wait, as they do while `async_nats`
/// itself reconnects. Messages that arrive in that gap are lost, as they are in any other.
#[derive(Clone)]
pub struct NatsBus {
    shared: Arc<Shared>,
}

impl NatsBus {
    /// Connects with `options`, which also govern every later re-dial and [`Bus::second`].
    ///
    /// Must be called within a tokio runtime; that runtime carries the connection.
    ///
    /// # Errors
    ///
    /// What `async_nats` says, without the credentials an address may hold.
    pub async fn connect(
        addrs: impl ToServerAddrs,
        options: ConnectOptions,
    ) -> Result<Self, ConnectError> {
        let addrs: Vec<ServerAddr> = addrs
            .to_server_addrs()
            .map_err(|err| ConnectError::with_source(ConnectErrorKind::ServerParse, err))?
            .collect();
        Self::dial(addrs, options).await
    }

    async fn dial(addrs: Vec<ServerAddr>, options: ConnectOptions) -> Result<Self, ConnectError> {
        let client = async_nats::connect_with_options(&addrs, options.clone()).await?;
        let link = Link::new(client, 0);
        let shared = Arc::new(Shared {
            addrs,
            options,
            link: watch::Sender::new(link),
            wanted: Mutex::default(),
            redials: AtomicU64::new(0),
            runtime: Handle::current(),
        });
        Ok(Self { shared })
    }
}

impl Bus for NatsBus {
    fn publish(&self, message: Outgoing) -> BusFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            message.check(self.max_payload())?;
            loop {
                let link = self.shared.live().await;
                let link = link
                    .map_err(|closed| PublishError::with_source(PublishErrorKind::Send, closed))?;
                // Cloned because async_nats drops what it could not send.
                let outbound = OutboundMessage {
                    subject: message.subject.clone(),
                    reply: message.reply.clone(),
                    headers: message.headers.clone(),
                    payload: message.payload.clone(),
                };
                match link.client.publish_message(outbound).await {
                    Err(err) if err.kind() == PublishErrorKind::Send => self.shared.lost(&link),
                    answer => return answer,
                }
            }
        })
    }

    fn subscribe(
        &self,
        subject: Subject,
        queue: Option<String>,
    ) -> BusFuture<'_, Result<BusSubscriber, SubscribeError>> {
        Box::pin(async move {
            if !subject.is_valid() {
                return Err(SubscribeError::new(SubscribeErrorKind::InvalidSubject));
            }
            if queue.as_deref().is_some_and(|queue| !is_one_word(queue)) {
                return Err(SubscribeError::new(SubscribeErrorKind::InvalidQueueName));
            }
            let wish = Wish { subject, queue };
            let (link, mut subscription) = self.shared.want(wish.clone())?;
            // A lost link needs no asking here: whoever replaces it serves every open wish.
            if link.phase == Phase::Live {
                match wish.subscribe(&link.client).await {
                    Ok(inner) => subscription.parts.push_back((link, inner)),
                    Err(err) if err.kind() == SubscribeErrorKind::Other => self.shared.lost(&link),
                    Err(err) => return Err(err),
                }
            }
            Ok(BusSubscriber::new(subscription))
        })
    }

    fn flush(&self) -> BusFuture<'_, Result<(), FlushError>> {
        Box::pin(async move {
            loop {
                let link = self.shared.live().await;
                let link = link
                    .map_err(|closed| FlushError::with_source(FlushErrorKind::SendError, closed))?;
                match link.client.flush().await {
                    Ok(()) => return Ok(()),
                    Err(_) => self.shared.lost(&link),
                }
            }
        })
    }

    fn drain(&self) -> BusFuture<'_, Result<(), DrainError>> {
        Box::pin(async move {
            let link = self.shared.link();
            if link.phase == Phase::Live {
                // async_nats closes the socket without waiting for its write buffer.
                let written = tokio::time::timeout(DRAIN_WRITES, link.client.flush()).await;
                if !matches!(written, Ok(Ok(()))) {
                    tracing::warn!("draining before all published messages were written");
                }
            }
            self.shared.close().map_err(DrainError)?;
            // A dead task cannot drain and needs not.
            let _ = self.shared.link().client.drain().await;
            Ok(())
        })
    }

    fn max_payload(&self) -> usize {
        self.shared.link.borrow().client.max_payload()
    }

    fn state(&self) -> State {
        let link = self.shared.link.borrow();
        match link.phase {
            Phase::Live => link.client.connection_state(),
            Phase::Lost | Phase::Closed => State::Disconnected,
        }
    }

    fn statistics(&self) -> Arc<Statistics> {
        self.shared.link.borrow().client.statistics()
    }

    fn server_info(&self) -> ServerInfo {
        self.shared.link.borrow().client.server_info()
    }

    fn second(&self) -> BusFuture<'_, Result<Arc<dyn Bus>, ConnectError>> {
        Box::pin(async move {
            let Shared { addrs, options, .. } = &*self.shared;
            let second = Self::dial(addrs.clone(), options.clone()).await?;
            Ok(Arc::new(second) as Arc<dyn Bus>)
        })
    }

    fn redials(&self) -> u64 {
        self.shared.redials.load(Ordering::Relaxed)
    }

    fn force_reconnect(&self) -> BusFuture<'_, Result<(), ReconnectError>> {
        Box::pin(async move {
            let link = self.shared.live().await.map_err(ReconnectError)?;
            if link.client.force_reconnect().await.is_err() {
                self.shared.lost(&link);
            }
            Ok(())
        })
    }
}

impl fmt::Debug for NatsBus {
    /// Names hosts and ports only: addresses may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addrs = self.shared.addrs.iter();
        let addrs: Vec<String> = addrs
            .map(|a| format!("{}:{}", a.host(), a.port()))
            .collect();
        f.debug_struct("NatsBus")
            .field("servers", &addrs)
            .field("phase", &self.shared.link.borrow().phase)
            .field("redials", &self.redials())
            .finish_non_exhaustive()
    }
}

/// What all clones of a bus and its subscriptions hold together.
struct Shared {
    addrs: Vec<ServerAddr>,
    options: ConnectOptions,
    link: watch::Sender<Link>,
    wanted: Mutex<Wanted>,
    redials: AtomicU64,
    runtime: Handle,
}

/// One `async_nats` connection, the `generation`th of its bus.
#[derive(Clone)]
struct Link {
    client: Arc<Client>,
    generation: u64,
    phase: Phase,
    since: Instant,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Its task runs; it may be reconnecting by itself.
    Live,
    /// Its task died; a successor is being dialled.
    Lost,
    /// Drained, or given up by `async_nats` at its own reconnect limit. Nothing follows.
    Closed,
}

/// The subscriptions to restore on the next link, by number.
#[derive(Default)]
struct Wanted {
    next: u64,
    open: BTreeMap<u64, Entry>,
}

struct Entry {
    wish: Wish,
    /// The newest link on which this was asked for.
    generation: u64,
    successors: mpsc::UnboundedSender<Part>,
}

/// A subscription on one link. The stream of a [`Subscription`] is its parts, end to end.
type Part = (Link, async_nats::Subscriber);

#[derive(Clone)]
struct Wish {
    subject: Subject,
    queue: Option<String>,
}

impl Wish {
    async fn subscribe(&self, client: &Client) -> Result<async_nats::Subscriber, SubscribeError> {
        match &self.queue {
            Some(queue) => {
                client
                    .queue_subscribe(self.subject.clone(), queue.clone())
                    .await
            }
            None => client.subscribe(self.subject.clone()).await,
        }
    }
}

impl Link {
    fn new(client: Client, generation: u64) -> Self {
        Self {
            client: Arc::new(client),
            generation,
            phase: Phase::Live,
            since: Instant::now(),
        }
    }
}

impl Shared {
    fn link(&self) -> Link {
        self.link.borrow().clone()
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        // No panic can leave the map half-changed.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current link, once its task runs.
    async fn live(&self) -> Result<Link, Closed> {
        let mut link = self.link();
        if link.phase == Phase::Lost {
            let mut links = self.link.subscribe();
            let settled = links.wait_for(|link| link.phase != Phase::Lost).await;
            link = settled.map_err(|_| Closed)?.clone();
        }
        match link.phase {
            Phase::Closed => Err(Closed),
            Phase::Live | Phase::Lost => Ok(link),
        }
    }

    /// Enters a wish into the book, together with the link it has to be asked for on.
    fn want(self: &Arc<Self>, wish: Wish) -> Result<(Link, Subscription), SubscribeError> {
        let (successors, arriving) = mpsc::unbounded_channel();
        // Links change under this lock, so no wish falls between two of them.
        let mut wanted = self.wanted();
        let link = self.link();
        if link.phase == Phase::Closed {
            return Err(SubscribeError::with_source(
                SubscribeErrorKind::Other,
                Closed,
            ));
        }
        let id = wanted.next;
        wanted.next += 1;
        let generation = link.generation;
        let subject = wish.subject.clone();
        wanted.open.insert(
            id,
            Entry {
                wish,
                generation,
                successors,
            },
        );
        drop(wanted);
        let subscription = Subscription {
            shared: Arc::clone(self),
            id,
            subject,
            parts: VecDeque::new(),
            successors: arriving,
        };
        Ok((link, subscription))
    }

    /// Notes that the task of `link` is gone, and sees to a successor. Said twice, heard once.
    fn lost(self: &Arc<Self>, link: &Link) {
        // A task that gave up at the reconnect limit leaves Disconnected behind, or Pending when
        // it never connected. One that was connected to the end was killed.
        let killed = link.client.connection_state() == State::Connected;
        let phase = if killed { Phase::Lost } else { Phase::Closed };
        let news = self.link.send_if_modified(|current| {
            let news = current.generation == link.generation && current.phase == Phase::Live;
            if news {
                current.phase = phase;
            }
            news
        });
        match phase {
            Phase::Lost if news => {
                tracing::warn!("a malformed message ended the NATS connection, dialling again");
                let redial = Redial {
                    shared: Arc::downgrade(self),
                    settled: false,
                };
                self.runtime.spawn(redial.run(link.clone()));
            }
            Phase::Closed if news => self.wanted().open.clear(),
            _ => {}
        }
    }

    /// Ends the bus: no later link, and streams end with what they have.
    fn close(&self) -> Result<(), Closed> {
        let news = self.link.send_if_modified(|link| {
            std::mem::replace(&mut link.phase, Phase::Closed) != Phase::Closed
        });
        self.wanted().open.clear();
        if news { Ok(()) } else { Err(Closed) }
    }

    /// Makes `link` the current one, after every subscription asked for so far is asked for on it:
    /// whoever publishes next may expect the answer on one of them. False when it died meanwhile.
    async fn adopt(&self, link: Link) -> bool {
        loop {
            let missing: Vec<(u64, Wish)> = {
                let wanted = self.wanted();
                let open = wanted.open.iter();
                let behind = open.filter(|(_, entry)| entry.generation < link.generation);
                let missing: Vec<_> = behind.map(|(id, e)| (*id, e.wish.clone())).collect();
                if missing.is_empty() {
                    self.link.send_if_modified(|current| {
                        let expected = current.phase == Phase::Lost;
                        if expected {
                            *current = link.clone();
                            self.redials.fetch_add(1, Ordering::Relaxed);
                        }
                        expected
                    });
                    return true;
                }
                missing
            };
            for (id, wish) in missing {
                let Ok(inner) = wish.subscribe(&link.client).await else {
                    return false;
                };
                // Gone from the book meanwhile: `inner` is dropped and thereby unsubscribed.
                if let Some(entry) = self.wanted().open.get_mut(&id) {
                    entry.generation = link.generation;
                    let _ = entry.successors.send((link.clone(), inner));
                }
            }
        }
    }
}

/// The task that replaces a lost link. It ends with its bus, and closes it if it is cancelled.
struct Redial {
    shared: Weak<Shared>,
    settled: bool,
}

impl Redial {
    async fn run(mut self, lost: Link) {
        let mut pause = match lost.since.elapsed() < LIVED {
            true => FIRST_PAUSE,
            false => Duration::ZERO,
        };
        let mut generation = lost.generation;
        while !self.settled {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            generation += 1;
            let Some(shared) = self.shared.upgrade() else {
                return;
            };
            if shared.link.borrow().phase == Phase::Closed {
                return;
            }
            match async_nats::connect_with_options(&shared.addrs, shared.options.clone()).await {
                Ok(client) => {
                    carry(&lost.client.statistics(), &client.statistics());
                    self.settled = shared.adopt(Link::new(client, generation)).await;
                }
                Err(error) => tracing::warn!(%error, "dialling NATS again failed"),
            }
        }
    }
}

impl Drop for Redial {
    fn drop(&mut self) {
        // Cancelled with its runtime: waiting for a successor would be waiting for ever.
        if let Some(shared) = self.shared.upgrade().filter(|_| !self.settled) {
            let _ = shared.close();
        }
    }
}

/// Lets the counters of a new connection go on where the old one's ended.
fn carry(old: &Statistics, new: &Statistics) {
    let counters = [
        (&old.in_bytes, &new.in_bytes),
        (&old.out_bytes, &new.out_bytes),
        (&old.in_messages, &new.in_messages),
        (&old.out_messages, &new.out_messages),
        (&old.connects, &new.connects),
    ];
    for (old, new) in counters {
        new.fetch_add(old.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// A subscription that outlives the links it runs on.
struct Subscription {
    shared: Arc<Shared>,
    id: u64,
    subject: Subject,
    /// Oldest first; only the last can be on a living link.
    parts: VecDeque<Part>,
    successors: mpsc::UnboundedReceiver<Part>,
}

impl Subscription {
    /// Takes the wish out of the book, so that no part follows those at hand.
    fn forget(&mut self) {
        self.shared.wanted().open.remove(&self.id);
        while let Ok(part) = self.successors.try_recv() {
            self.parts.push_back(part);
        }
    }

    fn outcome(&self) -> Result<(), UnsubscribeError> {
        match self.shared.link.borrow().phase {
            Phase::Closed => Err(UnsubscribeError(Closed)),
            // With a dead link the server has forgotten the subscription by itself.
            Phase::Live | Phase::Lost => Ok(()),
        }
    }
}

impl Stream for Subscription {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            if let Some((_, part)) = self.parts.front_mut() {
                if let Some(message) = ready!(Pin::new(part).poll_next(cx)) {
                    return Poll::Ready(Some(message.into()));
                }
            }
            // Ended because asked to, or because its connection died. In the first case the
            // wish is out of the book, its sender gone, and nothing follows.
            if let Some((link, _)) = self.parts.pop_front() {
                if self.shared.wanted().open.contains_key(&self.id) {
                    self.shared.lost(&link);
                }
            }
            if self.parts.is_empty() {
                match ready!(self.successors.poll_recv(cx)) {
                    Some(part) => self.parts.push_back(part),
                    None => return Poll::Ready(None),
                }
            }
        }
    }
}

impl RawSubscriber for Subscription {
    fn unsubscribe(&mut self) -> BusFuture<'_, Result<(), UnsubscribeError>> {
        Box::pin(async move {
            self.forget();
            for (_, part) in &mut self.parts {
                let _ = part.unsubscribe().await;
            }
            self.outcome()
        })
    }

    fn drain(&mut self) -> BusFuture<'_, Result<(), UnsubscribeError>> {
        Box::pin(async move {
            self.forget();
            for (_, part) in &mut self.parts {
                let _ = part.drain().await;
            }
            self.outcome()
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.wanted().open.remove(&self.id);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

impl From<async_nats::Message> for Delivery {
    fn from(message: async_nats::Message) -> Self {
        Self {
            subject: message.subject,
            reply: message.reply,
            payload: message.payload,
            headers: message.headers,
            status: message.status,
            description: message.description,
        }
    }
}
