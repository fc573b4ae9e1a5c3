//! Keeps one bus on one connection after another, and its subscriptions with it.
//!
//! ```text
//!            task killed              dialled, subscriptions asked for
//! Live ──────────────────▶ Lost ──────────────────────────────────────▶ Live (next generation)
//!   └─ drained, or at async_nats's reconnect limit ──▶ Closed
//! ```
//!
//! Whoever notices a death (a stream that ends, a command that cannot be sent) says so; the first
//! to say it starts the one task that dials again.
//!
//! `async_nats` also reconnects by itself, perhaps to a server that would not have been dialled
//! twice. So every use of a link looks at the server first: strictly, one that is too old is left
//! like a dead connection, and nothing that it delivers comes out.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_nats::Client;
use futures_util::Stream;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::origin::Caution;
use super::origin::Origin;
use super::origin::old_server;
use crate::bus::{
    BusFuture, Closed, Delivery, RawSubscriber, State, Statistics, Subject, SubscribeError,
    SubscribeErrorKind, UnsubscribeError,
};

/// The pause before dialling again when the last connection died young, and the first step of
/// the doubling while dialling fails: short beside any timeout, long enough not to spin.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Where the doubling stops; `async_nats` waits no longer than this between its own attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// A connection that lived this long is replaced without a pause.
const LIVED: Duration = Duration::from_secs(1);

/// How long after a reconnect every use looks at the server, and how long after a look none does
/// without a reconnect: `async_nats` counts a connection just before it tells whose it is.
const LOOK: Duration = Duration::from_secs(1);

/// What all clones of a bus and its subscriptions hold together.
pub(super) struct Shared {
    origin: Arc<Origin>,
    link: watch::Sender<Link>,
    wanted: Mutex<Wanted>,
    redials: AtomicU64,
    looks: Looks,
    runtime: Handle,
}

/// When the server was last looked at. Times are milliseconds from `began`.
struct Looks {
    began: Instant,
    /// The connections made when last looked.
    connects: AtomicU64,
    /// Until when every use looks.
    unsettled: AtomicU64,
    /// When the last look was.
    last: AtomicU64,
    /// Of the connections made, the last whose server was warned of.
    warned_at: AtomicU64,
    warnings: AtomicU64,
}

impl Looks {
    fn new(connects: u64) -> Self {
        Self {
            began: Instant::now(),
            connects: connects.into(),
            unsettled: 0.into(),
            last: 0.into(),
            warned_at: connects.into(),
            warnings: 0.into(),
        }
    }

    /// Whether whoever uses a connection, the `connects`th, has to look at its server.
    fn is_due(&self, connects: u64) -> bool {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (now, look) = (millis(self.began.elapsed()), millis(LOOK));
        if self.connects.swap(connects, Ordering::Relaxed) != connects {
            let until = now.saturating_add(look);
            self.unsettled.store(until, Ordering::Relaxed);
        }
        let unsettled = now <= self.unsettled.load(Ordering::Relaxed);
        let stale = now.saturating_sub(self.last.load(Ordering::Relaxed)) >= look;
        if unsettled || stale {
            self.last.store(now, Ordering::Relaxed);
        }
        unsettled || stale
    }
}

/// One `async_nats` connection, the `generation`th of its bus.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) client: Arc<Client>,
    generation: u64,
    pub(super) phase: Phase,
    since: Instant,
    /// Its server may not be used, nor what that delivered.
    left: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
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
pub(super) struct Wish {
    pub(super) subject: Subject,
    pub(super) queue: Option<String>,
}

impl Wish {
    pub(super) async fn subscribe(
        &self,
        client: &Client,
    ) -> Result<async_nats::Subscriber, SubscribeError> {
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
            left: Arc::default(),
        }
    }
}

impl Shared {
    /// Must be called within the tokio runtime that shall carry re-dials.
    pub(super) fn new(origin: Arc<Origin>, client: Client) -> Self {
        let looks = Looks::new(connects(&client));
        Self {
            origin,
            looks,
            link: watch::Sender::new(Link::new(client, 0)),
            wanted: Mutex::default(),
            redials: AtomicU64::new(0),
            runtime: Handle::current(),
        }
    }

    /// What the first connection was made from.
    pub(super) fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    pub(super) fn redials(&self) -> u64 {
        self.redials.load(Ordering::Relaxed)
    }

    /// How often a server was met that there is a warning about, but for the first.
    pub(super) fn warnings(&self) -> u64 {
        self.looks.warnings.load(Ordering::Relaxed)
    }

    pub(super) fn link(&self) -> Link {
        self.link.borrow().clone()
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        // No panic can leave the map half-changed.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current link, once its task runs and its server may be used.
    pub(super) async fn live(self: &Arc<Self>) -> Result<Link, Closed> {
        loop {
            let mut link = self.link();
            if link.phase == Phase::Lost {
                let mut links = self.link.subscribe();
                let settled = links.wait_for(|link| link.phase != Phase::Lost).await;
                link = settled.map_err(|_| Closed)?.clone();
            }
            match link.phase {
                Phase::Closed => return Err(Closed),
                Phase::Live | Phase::Lost if self.holds(&link) => return Ok(link),
                Phase::Live | Phase::Lost => {}
            }
        }
    }

    /// Whether the server of a link may be used. If not, the link is left.
    pub(super) fn holds(self: &Arc<Self>, link: &Link) -> bool {
        if link.left.load(Ordering::Relaxed) {
            return false;
        }
        let connects = connects(&link.client);
        let is_current = self.link.borrow().generation == link.generation;
        if !is_current || !self.looks.is_due(connects) {
            return true;
        }
        let Some(old) = old_server(&link.client) else {
            return true;
        };
        match self.origin.caution() {
            Caution::DangerLenient => {
                if self.looks.warned_at.swap(connects, Ordering::Relaxed) != connects {
                    tracing::warn!(%old, "an old server is used");
                    self.looks.warnings.fetch_add(1, Ordering::Relaxed);
                }
                true
            }
            Caution::Strict => {
                link.left.store(true, Ordering::Relaxed);
                if self.lose(link, Phase::Lost) {
                    tracing::warn!(%old, "the server is left, dialling again");
                    let left = link.client.clone();
                    self.runtime.spawn(async move {
                        // Whether or not it is told goodbye, it is left.
                        let _ = left.drain().await;
                    });
                }
                false
            }
        }
    }

    /// Enters a wish into the book, together with the link it has to be asked for on.
    pub(super) fn want(
        self: &Arc<Self>,
        wish: Wish,
    ) -> Result<(Link, Subscription), SubscribeError> {
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
    pub(super) fn lost(self: &Arc<Self>, link: &Link) {
        // A task that gave up at the reconnect limit leaves Disconnected behind, or Pending when
        // it never connected. One that was connected to the end was killed.
        let killed = link.client.connection_state() == State::Connected;
        let phase = if killed { Phase::Lost } else { Phase::Closed };
        if self.lose(link, phase) && phase == Phase::Lost {
            tracing::warn!("a malformed message ended the NATS connection, dialling again");
        }
    }

    /// Gives a link up. False when somebody did before.
    fn lose(self: &Arc<Self>, link: &Link, phase: Phase) -> bool {
        let news = self.link.send_if_modified(|current| {
            let news = current.generation == link.generation && current.phase == Phase::Live;
            if news {
                current.phase = phase;
            }
            news
        });
        match phase {
            Phase::Lost if news => {
                let redial = Redial {
                    shared: Arc::downgrade(self),
                    settled: false,
                };
                self.runtime.spawn(redial.run(link.clone()));
            }
            Phase::Closed if news => self.wanted().open.clear(),
            _ => {}
        }
        news
    }

    /// Ends the bus: no later link, and streams end with what they have.
    pub(super) fn close(&self) -> Result<(), Closed> {
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
                            let connects = connects(&link.client);
                            self.looks.warned_at.store(connects, Ordering::Relaxed);
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
            match shared.origin.dial().await {
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

/// How many connections were made.
fn connects(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
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
pub(super) struct Subscription {
    shared: Arc<Shared>,
    id: u64,
    subject: Subject,
    /// Oldest first; only the last can be on a living link.
    parts: VecDeque<Part>,
    successors: mpsc::UnboundedReceiver<Part>,
}

impl Subscription {
    /// Adds the part on the link the wish was entered for.
    pub(super) fn begin(&mut self, link: Link, part: async_nats::Subscriber) {
        self.parts.push_back((link, part));
    }

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
            if let Some((link, part)) = self.parts.front_mut()
                && let Some(message) = ready!(Pin::new(part).poll_next(cx))
            {
                let link = link.clone();
                if !self.shared.holds(&link) {
                    continue;
                }
                return Poll::Ready(Some(message.into()));
            }
            // Ended because asked to, or because its connection died. In the first case the
            // wish is out of the book, its sender gone, and nothing follows.
            if let Some((link, _)) = self.parts.pop_front()
                && self.shared.wanted().open.contains_key(&self.id)
            {
                self.shared.lost(&link);
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
