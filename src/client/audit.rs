//! The emitter's side of the audit: records decisions without ever blocking, and publishes them.
//!
//! Decisions go through a bounded queue to one task, which numbers, chains, signs and publishes
//! them in batches on `<prefix>.audit.<id>`, over the client's second connection. A full queue
//! refuses messages in strict mode and is counted into a gap event in available mode.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;
use tokio::sync::broadcast;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::clock::Clock;
use super::control::Control;
use super::counters::Tally;
use super::counters::count;
use super::standing::CurrentStanding;
use super::task;
use crate::bus::Outgoing;
use crate::proto::audit::AuditEvent;
use crate::proto::audit::AuditRecord;
use crate::proto::audit::AuditSlot;
use crate::proto::audit::Decision;
use crate::proto::audit::RecordChain;
use crate::proto::audit::audit_subject;
use crate::proto::envelope::EnvelopeDraft;
use crate::proto::identity::AgentId;
use crate::proto::identity::SigningKey;
use crate::proto::limits::RESERVE;
use crate::proto::limits::TTL_MAX_MS;
use crate::proto::names::PAYLOAD_AUDIT;
use crate::proto::rejection::Class;
use crate::proto::replay::MessageId;
use crate::proto::scope::Action;
use crate::proto::signing::MeshId;
use crate::proto::subject::Subject;
use crate::proto::time::Timestamp;

/// Decisions waiting to be recorded. An entry is a few hundred bytes.
const QUEUE: usize = 16_384;

/// Records kept for a reader in this process that is slower than the traffic.
const IN_PROCESS: usize = 16_384;

/// Refusals of one class recorded one by one within a second; the rest are counted.
pub(crate) const SINGLE_REFUSALS_PER_SECOND: u32 = 200;

/// A batch is sent when it has this many records …
const BATCH_RECORDS: usize = 256;

/// … or this many bytes …
const BATCH_BYTES: usize = 128 * 1024;

/// … or when its first record has waited this long.
const BATCH_WAIT: Duration = Duration::from_millis(20);

/// How long a writer that was just woken lets decisions gather before it looks again: it is not
/// woken for every single one, which would cost each message a turn of another thread. The queue
/// fills in that time at more than a million decisions a second only.
const GATHER: Duration = Duration::from_millis(10);

/// How long to wait before publishing again what the bus did not take.
const RETRY: Duration = Duration::from_millis(250);

/// What to do with messages while the audit is full (protocol §17.6): 16,384 decisions wait to be
/// recorded, as when the bus takes nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum AuditMode {
    /// Refuse them, as
    /// [`AuditUnavailable`](crate::proto::rejection::Rejection::AuditUnavailable): nothing
    /// happens that is not recorded.
    #[default]
    Strict,
    /// Decide them, and record in a `gap` event how many decisions are missing.
    Available,
}

/// Where a client's audit goes, besides its in-process stream. By default it is strict and
/// published on the bus, on `<prefix>.audit.<id>`.
///
/// ```
/// use trustmesh::{AuditMode, AuditOptions, ConnectOptions};
/// use trustmesh::bus::memory::MemoryBus;
/// use trustmesh::services::authority::Authority;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("audit.jsonl");
/// let agent = Authority::dev("demo")?.agent("worker", ["sub:tasks"])?;
/// let audit = AuditOptions::default().mode(AuditMode::Available).file(&path);
/// let client = ConnectOptions::new(agent)
///     .audit(audit.unpublished())
///     .connect_bus(MemoryBus::new().connect())
///     .await?;
/// client.flush_audit().await;
/// assert!(std::fs::read_to_string(&path)?.contains("dev-mesh"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct AuditOptions {
    pub(crate) mode: AuditMode,
    pub(crate) publish: bool,
    pub(crate) file: Option<PathBuf>,
}

impl Default for AuditOptions {
    /// Strict, and published on the bus.
    fn default() -> Self {
        Self {
            mode: AuditMode::Strict,
            publish: true,
            file: None,
        }
    }
}

impl AuditOptions {
    /// What to do while the audit is full; [`AuditMode::Strict`] by default.
    #[must_use]
    pub fn mode(mut self, mode: AuditMode) -> Self {
        self.mode = mode;
        self
    }

    /// Keeps the audit off the bus: only the in-process stream and the file have it, and nobody
    /// else can check it.
    #[must_use]
    pub fn unpublished(mut self) -> Self {
        self.publish = false;
        self
    }

    /// Appends every record to a file, one JSON line each, made when it is first needed. The lines
    /// are those on the bus, without the signature.
    ///
    /// A file that cannot be opened or written is logged as an error and left alone from then on,
    /// in either mode: it never stands in for the bus.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }
}

enum Entry {
    Decision(Box<Decision>),
    Event(Timestamp, Box<AuditEvent>),
    Flush(oneshot::Sender<()>),
}

/// The handle through which decisions are recorded.
#[derive(Debug)]
pub(crate) struct AuditLog {
    queue: mpsc::Sender<Entry>,
    mode: AuditMode,
    books: Arc<Books>,
    stream: broadcast::Sender<AuditRecord>,
    /// Told when somebody waits for what is in the queue.
    hurry: Arc<Notify>,
}

/// What is counted beside the queue.
#[derive(Debug)]
struct Books {
    tally: Arc<Tally>,
    gap: AtomicU64,
    singles: [AtomicU32; Class::ALL.len()],
    aggregates: [AtomicU64; Class::ALL.len()],
}

/// Who signs the batches.
pub(crate) struct Emitter {
    pub(crate) id: AgentId,
    pub(crate) key: Arc<SigningKey>,
    pub(crate) standing: CurrentStanding,
    pub(crate) mesh: MeshId,
    pub(crate) prefix: String,
    pub(crate) run: [u8; 8],
}

impl AuditLog {
    pub(crate) fn start(
        emitter: Emitter,
        options: AuditOptions,
        control: Arc<Control>,
        clock: Arc<dyn Clock>,
        tally: Arc<Tally>,
    ) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        let (stream, _) = broadcast::channel(IN_PROCESS);
        let books = Arc::new(Books {
            tally,
            gap: AtomicU64::new(0),
            singles: std::array::from_fn(|_| AtomicU32::new(0)),
            aggregates: std::array::from_fn(|_| AtomicU64::new(0)),
        });
        let hurry = Arc::new(Notify::new());
        let writer = Writer {
            chain: RecordChain::new(emitter.id.clone(), emitter.run),
            emitter,
            control: options.publish.then_some(control),
            file: options.file.map(LogFile::Closed),
            clock,
            books: books.clone(),
            stream: stream.clone(),
            waiting: Lines::default(),
            oldest: None,
            hurry: hurry.clone(),
        };
        task::spawn(writer.run(entries));
        Self {
            queue,
            mode: options.mode,
            books,
            stream,
            hurry,
        }
    }

    /// Reserves a place for one decision, without waiting. `None` when the audit is full and
    /// strict: the message must be refused undecided.
    pub(crate) fn slot(&self) -> Option<Slot<'_>> {
        let permit = self.queue.try_reserve().ok();
        if permit.is_none() && self.mode == AuditMode::Strict {
            return None;
        }
        Some(Slot {
            permit,
            books: &self.books,
        })
    }

    /// [`slot`](Self::slot), to be kept while the decision waits for others.
    pub(crate) fn slot_to_keep(&self) -> Option<KeptSlot> {
        let permit = self.queue.clone().try_reserve_owned().ok();
        if permit.is_none() && self.mode == AuditMode::Strict {
            return None;
        }
        Some(KeptSlot {
            permit,
            books: self.books.clone(),
        })
    }

    /// Records something that is no decision. When the audit is full it counts into the gap.
    pub(crate) fn event(&self, at: Timestamp, event: AuditEvent) {
        if self
            .queue
            .try_send(Entry::Event(at, Box::new(event)))
            .is_err()
        {
            self.books.gap.fetch_add(1, Relaxed);
        }
    }

    /// The records from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<AuditRecord> {
        self.stream.subscribe()
    }

    /// Waits until everything recorded so far was handed to bus and file.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.queue.send(Entry::Flush(done)).await.is_ok() {
            self.hurry.notify_one();
            // The task answers or is gone; either way there is nothing more to wait for.
            let _ = flushed.await;
        }
    }
}

/// A reserved place in the audit.
pub(crate) struct Slot<'a> {
    permit: Option<mpsc::Permit<'a, Entry>>,
    books: &'a Books,
}

impl AuditSlot for Slot<'_> {
    fn fill(self, decision: Decision) {
        let send = self.permit.map(|permit| |entry| permit.send(entry));
        self.books.file(decision, send);
    }
}

/// A [`Slot`] that outlives the call that reserved it.
pub(crate) struct KeptSlot {
    permit: Option<mpsc::OwnedPermit<Entry>>,
    books: Arc<Books>,
}

impl AuditSlot for KeptSlot {
    fn fill(self, decision: Decision) {
        let send = self.permit.map(|permit| {
            |entry| {
                permit.send(entry);
            }
        });
        self.books.file(decision, send);
    }
}

impl Books {
    /// Files a decision: by itself, in an aggregate, or, when nothing can be sent, in the gap.
    fn file(&self, decision: Decision, send: Option<impl FnOnce(Entry)>) {
        if let Some(rejection) = decision.rejection {
            let class = rejection.class() as usize - 1;
            if self.singles[class].fetch_add(1, Relaxed) >= SINGLE_REFUSALS_PER_SECOND {
                self.aggregates[class].fetch_add(1, Relaxed);
                count(&self.tally.audit_aggregated);
                return;
            }
        }
        match send {
            Some(send) => {
                count(&self.tally.audit_decisions);
                send(Entry::Decision(Box::new(decision)));
            }
            None => {
                count(&self.tally.audit_lost);
                self.gap.fetch_add(1, Relaxed);
            }
        }
    }
}

/// The audit of one client, as a stream of records within the process.
///
/// A reader that falls behind by more than 16,384 records misses some; the gap shows in their
/// numbers, and [`missed`](Self::missed) counts them.
#[derive(Debug)]
pub struct AuditStream {
    records: broadcast::Receiver<AuditRecord>,
    missed: u64,
}

impl AuditStream {
    pub(crate) fn new(records: broadcast::Receiver<AuditRecord>) -> Self {
        Self { records, missed: 0 }
    }

    /// The next record; `None` when the client is gone.
    ///
    /// Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<AuditRecord> {
        loop {
            match self.records.recv().await {
                Ok(record) => return Some(record),
                Err(broadcast::error::RecvError::Lagged(missed)) => self.missed += missed,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// The next record, if one is there already; `None` says no more than that.
    pub fn try_next(&mut self) -> Option<AuditRecord> {
        loop {
            match self.records.try_recv() {
                Ok(record) => return Some(record),
                Err(broadcast::error::TryRecvError::Lagged(missed)) => self.missed += missed,
                Err(_) => return None,
            }
        }
    }

    /// Records that were missed for slowness, as far as was noticed by reading on.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

enum LogFile {
    Closed(PathBuf),
    Open(tokio::fs::File),
    Failed,
}

/// The task that writes the audit.
struct Writer {
    emitter: Emitter,
    chain: RecordChain,
    control: Option<Arc<Control>>,
    file: Option<LogFile>,
    clock: Arc<dyn Clock>,
    books: Arc<Books>,
    stream: broadcast::Sender<AuditRecord>,
    waiting: Lines,
    oldest: Option<Instant>,
    hurry: Arc<Notify>,
}

/// Lines on their way to the bus, each with its line break.
#[derive(Default)]
struct Lines {
    text: String,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Lines {
    fn push(&mut self, write: impl FnOnce(&mut String)) {
        write(&mut self.text);
        self.text.push('\n');
        self.ends.push(self.text.len());
    }

    /// The newest line.
    fn last(&self) -> &str {
        let before = self.ends.len().checked_sub(2);
        &self.text[before.map_or(0, |before| self.ends[before])..]
    }

    /// As many of the first lines as fit `room`, and at least one.
    fn first(&self, room: usize) -> (&str, usize) {
        let count = self.ends.partition_point(|end| *end <= room).max(1);
        let end = self.ends.get(count - 1).copied().unwrap_or_default();
        (&self.text[..end], count)
    }

    /// Drops the first `count` lines.
    fn drop_first(&mut self, count: usize) {
        if count >= self.ends.len() {
            self.clear();
            return;
        }
        let cut = self.ends[count - 1];
        self.text.drain(..cut);
        self.ends.drain(..count);
        for end in &mut self.ends {
            *end -= cut;
        }
    }

    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Entry>) {
        let mut entries = Vec::with_capacity(BATCH_RECORDS);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let deadline = self.oldest.map(|oldest| oldest + BATCH_WAIT);
            tokio::select! {
                // What is due comes first: in heavy traffic there is always something in the queue.
                biased;
                _ = second.tick() => self.settle().await,
                () = sleep_until(deadline) => self.send_batch().await,
                count = queue.recv_many(&mut entries, BATCH_RECORDS) => {
                    if count == 0 {
                        break;
                    }
                    for entry in entries.drain(..) {
                        self.take(entry).await;
                    }
                    if count < BATCH_RECORDS {
                        tokio::select! {
                            () = self.hurry.notified() => {}
                            () = tokio::time::sleep(GATHER) => {}
                        }
                    }
                }
            }
        }
        // The client is gone: write what is left, then let the connection go gently.
        self.settle().await;
        self.send_batch().await;
        if let Some(control) = &self.control {
            control.close().await;
        }
    }

    async fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Decision(decision) => self.append_decision(&decision).await,
            Entry::Event(at, event) => self.append(at, *event).await,
            Entry::Flush(done) => {
                self.settle().await;
                self.send_batch().await;
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
        }
    }

    /// Turns what was only counted into events, and begins a new second.
    async fn settle(&mut self) {
        // While time cannot be trusted the counts stay where they are.
        let Ok(now) = self.clock.now() else { return };
        let gap = self.books.gap.swap(0, Relaxed);
        if gap > 0 {
            self.append(now, AuditEvent::Gap { count: gap }).await;
        }
        for class in Class::ALL {
            let index = class as usize - 1;
            self.books.singles[index].store(0, Relaxed);
            let count = self.books.aggregates[index].swap(0, Relaxed);
            if count > 0 {
                let class = class.name().to_owned();
                self.append(now, AuditEvent::Aggregate { class, count })
                    .await;
            }
        }
    }

    async fn append(&mut self, at: Timestamp, event: AuditEvent) {
        let (record, line) = self.chain.append(at, event);
        // No reader in this process is no fault.
        let _ = self.stream.send(record);
        self.waiting.push(|text| text.push_str(&line));
        self.appended().await;
    }

    async fn append_decision(&mut self, decision: &Decision) {
        if self.stream.receiver_count() > 0 {
            let record = self.chain.next(decision.at, decision.event());
            // A reader that has just gone needs none.
            let _ = self.stream.send(record);
        }
        let chain = &mut self.chain;
        self.waiting
            .push(|text| chain.append_decision(decision, text));
        self.appended().await;
    }

    /// Sees to the line that was just put among those that wait.
    async fn appended(&mut self) {
        self.write_file().await;
        if self.control.is_none() {
            self.waiting.clear();
            return;
        }
        self.oldest.get_or_insert_with(Instant::now);
        if self.waiting.ends.len() >= BATCH_RECORDS || self.waiting.text.len() >= BATCH_BYTES {
            self.send_batch().await;
        }
    }

    /// Writes the newest line.
    async fn write_file(&mut self) {
        let Some(file) = &mut self.file else { return };
        let line = self.waiting.last();
        if let LogFile::Closed(path) = file {
            let opened = tokio::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(&*path)
                .await;
            *file = match opened {
                Ok(open) => LogFile::Open(open),
                Err(error) => {
                    tracing::error!(%error, "the audit file cannot be opened");
                    LogFile::Failed
                }
            };
        }
        if let LogFile::Open(open) = file {
            let written = async {
                open.write_all(line.as_bytes()).await?;
                open.flush().await
            };
            if let Err(error) = written.await {
                tracing::error!(%error, "the audit file cannot be written");
                *file = LogFile::Failed;
            }
        }
    }

    /// Signs and publishes what is waiting. Does not give up while the client lives: a bus that
    /// is away makes the queue fill, and that is the audit mode's business.
    async fn send_batch(&mut self) {
        self.oldest = None;
        let Some(control) = self.control.clone() else {
            return;
        };
        while !self.waiting.ends.is_empty() {
            let Some(count) = self.try_send(&control).await else {
                if control.is_closing() {
                    let lost = self.waiting.ends.len();
                    tracing::error!(lost, "audit records could not be published");
                    self.waiting.clear();
                    return;
                }
                tokio::time::sleep(RETRY).await;
                continue;
            };
            self.waiting.drop_first(count);
            self.books
                .tally
                .audit_published
                .fetch_add(count as u64, Relaxed);
        }
    }

    /// Publishes as many waiting records as fit one message; says how many.
    async fn try_send(&self, control: &Control) -> Option<usize> {
        let bus = control.bus().await.ok()?;
        let room = bus.max_payload().saturating_sub(RESERVE).min(BATCH_BYTES);
        let (payload, taken) = self.waiting.first(room);
        let outgoing = self.sign(Bytes::copy_from_slice(payload.as_bytes()))?;
        bus.publish(outgoing).await.ok()?;
        Some(taken)
    }

    fn sign(&self, payload: Bytes) -> Option<Outgoing> {
        let subject = audit_subject(&self.emitter.prefix, &self.emitter.id);
        let now = self.clock.now().ok()?;
        let mut mid = [0; 16];
        getrandom::fill(&mut mid).ok()?;
        let parsed = Subject::parse(&subject).ok()?;
        let mut draft = EnvelopeDraft::new(MessageId(mid), now, Action::Publish, parsed);
        draft.ttl_ms = TTL_MAX_MS;
        draft.payload_type = PAYLOAD_AUDIT;
        draft.payload = payload;
        // The certificate is the authority, so it stands where a leaf would, with no chain.
        let no_chain = Bytes::from_static(&[0x90]);
        let Emitter {
            mesh,
            standing,
            key,
            ..
        } = &self.emitter;
        let certificate = standing.load().certificate_id;
        let envelope = draft.sign_parts(*mesh, certificate, &no_chain, key).ok()?;
        Some(Outgoing::new(subject, envelope.into_bytes()))
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
