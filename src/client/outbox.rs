//! The outbox: a message is signed alone when there is time, and together with others when there
//! is not.
//!
//! ```text
//! nothing signed lately ──▶ sign alone, publish at once                    (mode 1)
//! otherwise             ──▶ queue ──▶ 256, or what came by the end of the interval
//!                                     that the last signature began ──▶ sign once  (mode 2)
//! … and where policy allows no batches: sign alone ──▶ queue ──▶ out with what came by then (mode 1)
//! ```
//!
//! So an idle client has the latency of one signature, and sender and receivers gain the more there
//! is to send. The interval is 150 µs, and longer after a large batch: when a hundred messages come
//! in it, each is worth a tenth of what its signature costs, and has others in front of it anyway.
//! The order in which one task publishes is kept: while anything is queued, everything queues
//! behind it. As with `async_nats`, that a message was taken means that it is queued; when
//! the bus then refuses it, the next to publish is told.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use super::message::bus_subject;
use super::task;
use crate::bus::Bus;
use crate::bus::Closed;
use crate::bus::Outgoing;
use crate::bus::PublishError;
use crate::bus::PublishErrorKind;
use crate::bus::Subject as BusSubject;
use crate::proto::envelope::EnvelopeDraft;
use crate::proto::envelope::SignedEnvelope;
use crate::proto::envelope::UnsignedEnvelope;
use crate::proto::identity::SigningKey;
use crate::proto::limits::BATCH_MAX;
use crate::proto::signing::ObjectId;

/// How long after a signature the next one waits for company. A receiver needs some 40 µs for a
/// signature, so this leaves it two thirds of a core even when batches stay small. And it is less
/// than a request and its answer take one after the other, in process too, so those never wait.
const INTERVAL: Duration = Duration::from_micros(150);

/// How much longer the next interval is for every message of a batch: the interval grows when more
/// than 100,000 messages a second come …
const INTERVAL_EACH: Duration = Duration::from_micros(10);

/// … up to this. A publisher that lets no more than 100 messages be on their way would otherwise wait
/// for its own.
const INTERVAL_MAX: Duration = Duration::from_micros(600);

/// Messages that wait to be signed, as many as `async_nats` itself queues; a publisher that is
/// faster waits.
const QUEUE: usize = 2_048;

/// Content of a batch, in bytes, beyond which it is signed: large messages gain nothing by company,
/// and a batch is in memory twice.
const BATCH_BYTES: usize = 1024 * 1024;

/// A message on its way out.
pub(crate) enum Post {
    /// Signed, and to be sent at once when nothing else waits.
    Signed(Addressed<SignedEnvelope>),
    /// Signed, and to be sent with others.
    Grouped(Addressed<SignedEnvelope>),
    /// To be signed with others.
    Unsigned(Addressed<UnsignedEnvelope>),
}

impl Post {
    /// The object id of the message.
    pub(crate) fn id(&self) -> ObjectId {
        match self {
            Self::Signed(message) | Self::Grouped(message) => message.envelope.id(),
            Self::Unsigned(message) => message.envelope.id(),
        }
    }
}

/// An envelope, and where it goes.
pub(crate) struct Addressed<E> {
    pub(crate) envelope: E,
    pub(crate) subject: BusSubject,
    pub(crate) reply: Option<BusSubject>,
}

impl<E> Addressed<E> {
    /// The envelope of a draft, with the addresses of that draft.
    pub(crate) fn to(draft: &EnvelopeDraft, envelope: E) -> Self {
        Self {
            envelope,
            subject: bus_subject(&draft.subject),
            reply: draft.reply.as_ref().map(bus_subject),
        }
    }
}

impl From<Addressed<SignedEnvelope>> for Outgoing {
    fn from(message: Addressed<SignedEnvelope>) -> Self {
        Self {
            subject: message.subject,
            reply: message.reply,
            headers: None,
            payload: message.envelope.into_bytes(),
        }
    }
}

enum Item {
    Post(Post),
    Flush(oneshot::Sender<()>),
}

/// Where messages wait. Those that wait when it is dropped are still sent.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Item>,
    pace: Arc<Pace>,
    bus: Arc<dyn Bus>,
}

/// What publishers and the writer know of each other.
#[derive(Debug)]
struct Pace {
    started: Instant,
    /// When something was signed last, in microseconds since the start; 0 for never.
    signed: AtomicU64,
    /// For how long from then on the next message waits for company, in microseconds.
    interval: AtomicU64,
    /// Told when a whole batch waits.
    full: Notify,
    /// Messages queued and not yet handed to the bus.
    waiting: AtomicUsize,
    /// The bus refused a queued message.
    refused: AtomicBool,
    /// The client is drained: nothing is taken any more.
    closed: AtomicBool,
}

impl Pace {
    /// Notes a signature over so many messages.
    fn note_signature(&self, messages: usize) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let each = u32::try_from(messages).unwrap_or(u32::MAX);
        let interval = INTERVAL_EACH
            .saturating_mul(each)
            .clamp(INTERVAL, INTERVAL_MAX);
        self.interval.store(micros(interval), Ordering::Relaxed);
        let now = micros(self.started.elapsed()).max(1);
        self.signed.store(now, Ordering::Relaxed);
    }

    /// How much is left of the interval that the last signature began.
    fn left(&self) -> Option<Duration> {
        let signed = self.signed.load(Ordering::Relaxed);
        let interval = self.interval.load(Ordering::Relaxed);
        let until = self.started + Duration::from_micros(signed + interval);
        let left = until.saturating_duration_since(Instant::now());
        (signed > 0 && !left.is_zero()).then_some(left)
    }

    /// Notes a message that waits.
    fn note_waiting(&self) {
        if self.waiting.fetch_add(1, Ordering::AcqRel) + 1 == BATCH_MAX {
            self.full.notify_one();
        }
    }

    fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }
}

impl Outbox {
    pub(crate) fn start(bus: Arc<dyn Bus>, key: Arc<SigningKey>) -> Self {
        let (queue, items) = mpsc::channel(QUEUE);
        let pace = Arc::new(Pace {
            started: Instant::now(),
            signed: AtomicU64::new(0),
            interval: AtomicU64::new(0),
            full: Notify::new(),
            waiting: AtomicUsize::new(0),
            refused: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        let writer = Writer {
            bus: bus.clone(),
            key,
            pace: pace.clone(),
        };
        task::spawn(writer.run(items));
        Self { queue, pace, bus }
    }

    /// Whether the next message had better be signed with others.
    pub(crate) fn is_busy(&self) -> bool {
        self.pace.is_waiting() || self.pace.left().is_some()
    }

    /// Notes that a message was signed alone.
    pub(crate) fn note_signature(&self) {
        self.pace.note_signature(1);
    }

    /// Sends a message; `Ok` means queued. Cancelling sends nothing or all of it.
    pub(crate) async fn send(&self, post: Post) -> Result<(), PublishError> {
        let closed = || PublishError::with_source(PublishErrorKind::Send, Closed);
        if self.pace.closed.load(Ordering::Relaxed) {
            return Err(closed());
        }
        if self.pace.refused.swap(false, Ordering::Relaxed) {
            let source = "the bus did not take a message that was queued before";
            return Err(PublishError::with_source(PublishErrorKind::Send, source));
        }
        let post = match post {
            Post::Signed(message) if !self.pace.is_waiting() => {
                return self.bus.publish(message.into()).await;
            }
            post => post,
        };
        let place = self.queue.reserve().await.map_err(|_| closed())?;
        self.pace.note_waiting();
        place.send(Item::Post(post));
        Ok(())
    }

    /// Takes nothing more, and waits until what was taken was handed to the bus.
    pub(crate) async fn close(&self) {
        self.pace.closed.store(true, Ordering::Relaxed);
        self.flush().await;
    }

    /// Waits until everything queued so far was handed to the bus.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.queue.send(Item::Flush(done)).await.is_ok() {
            // The writer answers or is gone; either way there is nothing more to wait for.
            let _ = flushed.await;
        }
    }
}

/// The task that signs and sends.
struct Writer {
    bus: Arc<dyn Bus>,
    key: Arc<SigningKey>,
    pace: Arc<Pace>,
}

impl Writer {
    async fn run(self, mut queue: mpsc::Receiver<Item>) {
        let mut items = Vec::with_capacity(BATCH_MAX);
        let mut together = Vec::with_capacity(BATCH_MAX);
        let mut bytes = 0;
        while queue.recv_many(&mut items, BATCH_MAX).await > 0 {
            self.gather(&mut queue, &mut items).await;
            for item in items.drain(..) {
                match item {
                    Item::Post(Post::Unsigned(unsigned)) => {
                        bytes += unsigned.envelope.content_len();
                        together.push(unsigned);
                        if bytes >= BATCH_BYTES {
                            bytes = 0;
                            self.sign(&mut together).await;
                        }
                    }
                    Item::Post(Post::Signed(message) | Post::Grouped(message)) => {
                        self.sign(&mut together).await;
                        self.publish(message.into()).await;
                    }
                    Item::Flush(done) => {
                        self.sign(&mut together).await;
                        // Whoever asked may have stopped waiting.
                        let _ = done.send(());
                    }
                }
            }
            bytes = 0;
            self.sign(&mut together).await;
        }
    }

    /// Lets more messages come until the interval is over or a batch is full.
    async fn gather(&self, queue: &mut mpsc::Receiver<Item>, items: &mut Vec<Item>) {
        let is_awaited = matches!(items.last(), Some(Item::Flush(_)));
        if items.len() >= BATCH_MAX || is_awaited {
            return;
        }
        if let Some(left) = self.pace.left() {
            tokio::select! {
                () = self.pace.full.notified() => {}
                () = task::pause(left) => {}
            }
            while items.len() < BATCH_MAX
                && let Ok(item) = queue.try_recv()
            {
                items.push(item);
            }
        }
    }

    /// Signs messages with one signature, and publishes them in their order.
    async fn sign(&self, together: &mut Vec<Addressed<UnsignedEnvelope>>) {
        if together.is_empty() {
            return;
        }
        let envelopes = together.iter().map(|unsigned| &unsigned.envelope);
        let signed = UnsignedEnvelope::sign_batch(envelopes, &self.key);
        self.pace.note_signature(together.len());
        let signed = match signed {
            Ok(signed) => signed,
            Err(rejection) => {
                // A batch is never larger than it may be, so this is a fault of ours.
                tracing::error!(%rejection, "messages could not be signed");
                self.refuse(together.len());
                together.clear();
                return;
            }
        };
        for (unsigned, envelope) in together.drain(..).zip(signed) {
            let (subject, reply) = (unsigned.subject, unsigned.reply);
            let message = Addressed {
                envelope,
                subject,
                reply,
            };
            self.publish(message.into()).await;
        }
    }

    async fn publish(&self, outgoing: Outgoing) {
        match self.bus.publish(outgoing).await {
            Ok(()) => {
                self.pace.waiting.fetch_sub(1, Ordering::AcqRel);
            }
            Err(error) => {
                tracing::warn!(%error, "the bus did not take a queued message");
                self.refuse(1);
            }
        }
    }

    fn refuse(&self, count: usize) {
        self.pace.refused.store(true, Ordering::Relaxed);
        self.pace.waiting.fetch_sub(count, Ordering::AcqRel);
    }
}
