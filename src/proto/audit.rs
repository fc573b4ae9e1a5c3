//! Audit: every decision as an event, every event in a hash chain, every batch signed (protocol
//! §17).
//!
//! One decision makes one [`Decision`]. The emitter numbers events and chains them: a record's
//! `prev` is the digest of the line before it, so that editing, dropping or reordering a record
//! shows in the next. Records travel as JSON lines, the payload of an envelope that the emitter
//! signs under its certificate; [`AuditReader`] checks all of it.
//!
//! Events hold no payloads and no secrets. What was not authenticated is marked `claimed`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;

use super::certificate::Certificate;
use super::chain::VerifiedChain;
use super::control::Moment;
use super::control::open_certified;
use super::envelope::Claims;
use super::identity::AgentId;
use super::identity::KeyBytes;
use super::names::PAYLOAD_AUDIT;
use super::names::Tag;
use super::rejection::Malformed;
use super::rejection::Place;
use super::rejection::Rejection;
use super::rejection::SubjectMismatch;
use super::rejection::UnexpectedReply;
use super::replay::MessageId;
use super::scope::Action;
use super::signing::ObjectId;
use super::time::ClockSkew;
use super::time::Timestamp;
use super::trust::TrustState;

/// Version of the record schema, `v` of every line (protocol §17.3).
pub const RECORD_VERSION: u8 = 1;

/// A place for one event that has already been reserved.
///
/// Taken before a message is verified, so that what cannot be recorded is not decided, and never
/// blocking: where the audit is full, taking the slot fails (strict) or yields one that counts the
/// event into a gap (available).
///
/// ```
/// use trustmesh::proto::audit::{AuditSlot, Decision};
///
/// /// Keeps decisions in memory.
/// struct Kept<'a>(&'a mut Vec<Decision>);
///
/// impl AuditSlot for Kept<'_> {
///     fn fill(self, decision: Decision) {
///         self.0.push(decision);
///     }
/// }
/// ```
///
/// [`ReplayGuard`](super::replay::ReplayGuard) shows one in use.
pub trait AuditSlot {
    /// Puts the decision into the slot. It must neither block nor fail: by now the message is
    /// decided.
    fn fill(self, decision: Decision);
}

/// The facts of one decision, as known when it was made. It holds no payload, application header or
/// secret of the message.
#[derive(Clone, Debug)]
pub struct Decision {
    /// When it was made.
    pub at: Timestamp,
    /// Why the message was refused; `None` when it was accepted.
    pub rejection: Option<Rejection>,
    /// The subject it was delivered on, by the bus's word.
    pub delivered: String,
    /// Length of the frame in bytes.
    pub len: usize,
    /// For unauthenticated refusals, SHA-256 of the first
    /// [`AUDIT_DIGEST_PREFIX`](super::limits::AUDIT_DIGEST_PREFIX) bytes, without a tag.
    pub digest: Option<[u8; 32]>,
    /// What the header says, when it could be decoded.
    pub header: Option<HeaderFacts>,
    /// Whether the sender's signature verified; if not, the header is a claim.
    pub authentic: bool,
    /// The chain, when every signature of it verified.
    pub chain: Option<VerifiedChain>,
    /// The one state the decision was made under.
    pub trust: Arc<TrustState>,
    /// What verifying cost, when somebody measured it, in nanoseconds.
    pub cost_ns: Option<u64>,
}

/// What an event keeps of a header. Owns its text, so that no event keeps a message buffer alive.
#[derive(Clone, Debug)]
pub struct HeaderFacts {
    /// The action.
    pub action: Action,
    /// The message id.
    pub mid: MessageId,
    /// The object id of the header, which names the message.
    pub object: ObjectId,
    /// The request answered.
    pub in_reply_to: Option<ObjectId>,
    /// The sender's key: the last holder of the chain, once the chain was found to be the header's.
    pub sender: Option<KeyBytes>,
    /// The W3C trace context, 55 characters.
    pub traceparent: Option<String>,
    /// How often the work was forwarded, 0 to 16.
    pub hops: u8,
}

impl HeaderFacts {
    pub(crate) fn of(claims: &Claims, header: &[u8]) -> Self {
        let traceparent = claims.extensions.traceparent.as_ref();
        Self {
            action: claims.action,
            mid: claims.mid,
            object: Tag::Envelope.digest(header),
            in_reply_to: claims.in_reply_to,
            sender: None,
            traceparent: traceparent.map(|t| String::from_utf8_lossy(t).into_owned()),
            hops: claims.extensions.hops,
        }
    }
}

impl Decision {
    /// The event that stands for this decision (protocol §17.4). Names of agents come from the
    /// registry, never from the message.
    pub fn event(&self) -> AuditEvent {
        let epochs = self.trust.epochs();
        let header = self.header.as_ref();
        let sender = header.and_then(|h| h.sender);
        let certificate = sender.and_then(|key| self.trust.certificate(&key));
        AuditEvent::Decision(DecisionEvent {
            verdict: if self.rejection.is_none() {
                Word::Allow
            } else {
                Word::Deny
            },
            class: self.rejection.map(|r| r.class().name().to_owned()),
            code: self.rejection.map(|r| r.code()),
            reason: self.rejection.map(|r| r.to_string()),
            hop: self.rejection.and_then(|r| r.hop()),
            subject: self.delivered.clone(),
            action: header.map(|h| h.action.name().to_owned()),
            sender: certificate.map(|c| c.agent().to_string()),
            sender_key: sender.map(|key| key.to_string()),
            claimed: !self.authentic,
            mid: header.map(|h| h.mid.to_string()),
            object: header.map(|h| h.object.to_string()),
            in_reply_to: header.and_then(|h| h.in_reply_to).map(|id| id.to_string()),
            issuer: self.chain.as_ref().map(|chain| chain.issuer().to_string()),
            chain: self
                .chain
                .as_ref()
                .map(|chain| self.hops(chain))
                .unwrap_or_default(),
            trace: header.and_then(|h| h.traceparent.clone()),
            hops: header.map_or(0, |h| h.hops),
            len: self.len,
            digest: self.digest.map(|d| data_encoding::HEXLOWER.encode(&d)),
            registry: epochs.registry,
            revocations: epochs.revocations,
            policy: epochs.policy,
            cost_ns: self.cost_ns,
        })
    }

    fn hops(&self, chain: &VerifiedChain) -> Vec<HopEvent> {
        let hop = |link: &super::delegation::Link| HopEvent {
            link: link.id().to_string(),
            holder: self.trust.name_of(&link.holder()),
            key: link.holder().to_string(),
            scope: link.scope().to_strings(),
            until: link.validity().until().as_millis(),
            remaining: link.remaining(),
        };
        chain.links().iter().map(hop).collect()
    }
}

/// What happened (protocol §17.4). As JSON, `kind` says which.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every event is a decision"
)]
#[non_exhaustive]
pub enum AuditEvent {
    /// A message was accepted or refused.
    Decision(DecisionEvent),
    /// An accepted message was withdrawn before its handler ran: expired or revoked meanwhile, or
    /// its handler panicked.
    Withdrawn {
        /// Object id of the message.
        object: String,
        /// Class of the rejection.
        class: String,
        /// Its code.
        code: u16,
    },
    /// Refusals of one class that were counted instead of recorded one by one.
    Aggregate {
        /// Their class.
        class: String,
        /// How many.
        count: u64,
    },
    /// Events that could not be recorded.
    Gap {
        /// How many.
        count: u64,
    },
    /// A mutual handshake succeeded, or failed.
    Session {
        /// The peer, as registered; a claim when the handshake failed.
        peer: String,
        /// Which side this emitter was on.
        role: SessionRole,
        /// Until when the session lasts, in milliseconds since the epoch.
        until: Option<u64>,
        /// Why it failed.
        class: Option<String>,
        /// The code of that.
        code: Option<u16>,
    },
    /// Something an operator must know: development mode, a replaced connection, a clock jump.
    Notice {
        /// A stable word for it.
        topic: String,
        /// The same for people.
        text: String,
    },
}

/// The side an emitter was on in a handshake.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionRole {
    /// It began the handshake.
    Initiator,
    /// It answered.
    Responder,
}

/// Allow or deny.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Accepted.
    Allow,
    /// Refused.
    Deny,
}

/// One decision (protocol §17.4). Ids, keys and digests are lower-case hexadecimal.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct DecisionEvent {
    /// Allow or deny.
    pub verdict: Word,
    /// Class of the rejection, by [name](super::rejection::Class::name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Code of the rejection, class × 100 + reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// The rejection in words, which are not fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The link concerned; 0 is the root grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hop: Option<u8>,
    /// The subject it was delivered on.
    pub subject: String,
    /// `pub`, `req` or `serve`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The sender, as registered for its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// The sender's key, the last holder of the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_key: Option<String>,
    /// Whether sender, action and ids are claims, because the signature did not verify or was
    /// never looked at.
    pub claimed: bool,
    /// The message id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mid: Option<String>,
    /// The object id of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The request this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<String>,
    /// The issuer of the root grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The links, when all their signatures verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<HopEvent>,
    /// The W3C `traceparent` the sender signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// How often the work was forwarded, 0 to 16.
    #[serde(default)]
    pub hops: u8,
    /// Length of the frame in bytes.
    pub len: usize,
    /// For unauthenticated refusals, SHA-256 of the first 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Epoch of the registry decided under.
    pub registry: u64,
    /// Epoch of the revocation list decided under.
    pub revocations: u64,
    /// Epoch of the policy decided under.
    pub policy: u64,
    /// What verifying cost, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_ns: Option<u64>,
}

/// One link of the chain of a decision, root grant first (protocol §17.4).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HopEvent {
    /// Object id of the link.
    pub link: String,
    /// Who received the authority: the registered agent, or the key when there is none.
    pub holder: String,
    /// With which key.
    pub key: String,
    /// What may be done, as capability text (protocol §6.6).
    pub scope: Vec<String>,
    /// Until when, in milliseconds since the epoch.
    pub until: u64,
    /// How many delegations may follow, 0 to 8.
    pub remaining: u8,
}

/// An event with its place in the emitter's sequence: one JSON line (protocol §17.3).
///
/// By itself it proves nothing. What an [`AuditReader`] hands out was signed by its emitter.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct AuditRecord {
    /// Version of this schema, [`RECORD_VERSION`].
    pub v: u8,
    /// The agent that decided.
    pub emitter: String,
    /// The run of that agent: 8 random bytes a process, in hexadecimal.
    pub run: String,
    /// Number of the record within the run, from 0.
    pub seq: u64,
    /// Digest of the line before in hexadecimal, 64 zeros for the first.
    pub prev: String,
    /// The emitter's time in milliseconds since the epoch.
    pub time: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: AuditEvent,
}

impl AuditRecord {
    /// Reads a line, without its line break. A record has one encoding, so that two readers cannot
    /// take one line for different things: any other spelling is none.
    pub fn parse(line: &str) -> Option<Self> {
        let record: Self = serde_json::from_str(line).ok()?;
        (record.line() == line).then_some(record)
    }

    fn line(&self) -> String {
        serde_json::to_string(self)
            // Records are structs of text and numbers, which JSON can always express.
            .expect("an audit record is expressible in JSON")
    }
}

/// Numbers and chains the records of one emitter (protocol §17.3), from 0 and from a `prev` of
/// zeros.
///
/// ```
/// use trustmesh::proto::audit::{AuditEvent, RecordChain};
/// use trustmesh::proto::identity::AgentId;
/// use trustmesh::proto::time::Timestamp;
///
/// let mut chain = RecordChain::new(AgentId::parse("worker")?, [7; 8]);
/// let gap = AuditEvent::Gap { count: 3 };
/// let (first, line) = chain.append(Timestamp::from_millis(1), gap.clone());
/// let (second, _) = chain.append(Timestamp::from_millis(2), gap);
/// assert_eq!((first.seq, second.seq), (0, 1));
/// assert!(line.contains(r#""kind":"gap","count":3"#) && !line.contains('\n'));
/// assert_ne!(second.prev, first.prev);
/// # Ok::<(), trustmesh::proto::identity::InvalidAgentId>(())
/// ```
#[derive(Debug)]
pub struct RecordChain {
    emitter: AgentId,
    run: String,
    seq: u64,
    prev: ObjectId,
}

impl RecordChain {
    /// The beginning of a run, named by 8 random bytes.
    pub fn new(emitter: AgentId, run: [u8; 8]) -> Self {
        let run = data_encoding::HEXLOWER.encode(&run);
        Self {
            emitter,
            run,
            seq: 0,
            prev: ObjectId([0; 32]),
        }
    }

    /// Appends an event; returns the record and its line, without line break. The next record is
    /// chained to exactly the bytes of that line.
    pub fn append(&mut self, at: Timestamp, event: AuditEvent) -> (AuditRecord, String) {
        let record = AuditRecord {
            v: RECORD_VERSION,
            emitter: self.emitter.to_string(),
            run: self.run.clone(),
            seq: self.seq,
            prev: self.prev.to_string(),
            time: at.as_millis(),
            event,
        };
        let line = record.line();
        self.seq += 1;
        self.prev = Tag::AuditRecord.digest(line.as_bytes());
        (record, line)
    }
}

/// The subject `<prefix>.audit.<id>` (protocol §4.4), the id as a token.
pub fn audit_subject(prefix: &str, emitter: &AgentId) -> String {
    format!("{prefix}.audit.{}", emitter.token())
}

/// What an audit reader found in a batch (protocol §17.5), in the order of the batch.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly every item is a record")]
#[non_exhaustive]
pub enum AuditItem {
    /// A record, in its place.
    Record(AuditRecord),
    /// Records of a run that never arrived.
    Missing {
        /// The emitter.
        emitter: AgentId,
        /// Its run.
        run: String,
        /// First missing number.
        from: u64,
        /// First number after the gap.
        to: u64,
    },
    /// A record that was already read; it is not repeated.
    Duplicate {
        /// The emitter.
        emitter: AgentId,
        /// Its run.
        run: String,
        /// The number.
        seq: u64,
    },
    /// A record that does not follow from the one before, or a first one that claims to follow
    /// from something: two histories of one run exist.
    Fork {
        /// The emitter.
        emitter: AgentId,
        /// Its run.
        run: String,
        /// The number of the record that does not fit.
        seq: u64,
    },
}

/// Runs of one emitter a reader keeps its place in. An emitter can begin as many as it likes.
const RUNS_PER_EMITTER: usize = 64;

/// Where the reader stands in one run.
#[derive(Debug)]
struct Position {
    run: String,
    next: u64,
    prev: String,
}

/// Checks audit batches and restores the order of each emitter (protocol §17.1, §17.5).
///
/// The authority for `<prefix>.audit.<id>` is the live certificate of `<id>`, never a chain: no
/// grant lets an agent speak for another in the audit. It remembers its place in the last 64 runs
/// of each emitter.
///
/// ```
/// use trustmesh::ConnectOptions;
/// use trustmesh::bus::memory::MemoryBus;
/// use trustmesh::client::clock::{Clock, SystemClock};
/// use trustmesh::proto::audit::{AuditItem, AuditReader};
/// use trustmesh::proto::time::ClockSkew;
/// use trustmesh::services::authority::Authority;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut mesh = Authority::dev("demo")?;
/// let (bus, worker) = (MemoryBus::new(), mesh.agent("worker", ["sub:tasks"])?);
/// let trust = worker.trust().current();
/// let tap = bus.tap();
/// let worker = ConnectOptions::new(worker).connect_bus(bus.connect()).await?;
/// worker.flush_audit().await; // a notice: this is a development mesh
///
/// let mut reader = AuditReader::new("trustmesh", ClockSkew::default());
/// let now = SystemClock::new().now()?;
/// let batches = tap.take();
/// assert!(!batches.is_empty());
/// for batch in batches {
///     let items = reader.read(&batch.payload, &batch.subject, &trust, now)?;
///     assert!(items.iter().all(|item| matches!(item, AuditItem::Record(_))));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AuditReader {
    prefix: String,
    skew: ClockSkew,
    /// Per emitter, the run read last at the end.
    runs: HashMap<AgentId, Vec<Position>>,
}

impl AuditReader {
    /// A reader that has seen nothing, for the audit subjects below `prefix`.
    pub fn new(prefix: &str, skew: ClockSkew) -> Self {
        Self {
            prefix: prefix.to_owned(),
            skew,
            runs: HashMap::new(),
        }
    }

    /// Checks one message, delivered on the subject `delivered`, and returns what is in it
    /// (protocol §17.1). There is no replay check: a batch that comes again yields duplicates.
    ///
    /// # Errors
    ///
    /// Why the batch is not an emitter's; nothing of it counts. Of the frame:
    /// [`Rejection::Malformed`], [`Rejection::TooLarge`], [`Rejection::UnsupportedVersion`],
    /// [`Rejection::DepthExceeded`]. Of its place and kind: [`Rejection::UntrustedRoot`],
    /// [`Rejection::SubjectMismatch`], [`Rejection::UnexpectedReply`], [`Rejection::ChainBroken`].
    /// Of its time and emitter: [`Rejection::NotYetValid`], [`Rejection::Expired`],
    /// [`Rejection::StaleState`], [`Rejection::UnknownAgent`], [`Rejection::Blocked`],
    /// [`Rejection::Revoked`], [`Rejection::BadSignature`].
    pub fn read(
        &mut self,
        frame: &Bytes,
        delivered: &str,
        trust: &TrustState,
        now: Timestamp,
    ) -> Result<Vec<AuditItem>, Rejection> {
        let (emitter, payload) = open_batch(&self.prefix, self.skew, frame, delivered, trust, now)?;
        let malformed = |reason| Rejection::Malformed {
            place: Place::Audit,
            reason,
        };
        let text = std::str::from_utf8(&payload).map_err(|_| malformed(Malformed::NotText))?;
        let mut records = Vec::new();
        for line in text.split_terminator('\n') {
            let record = AuditRecord::parse(line).ok_or(malformed(Malformed::WrongType))?;
            if record.v != RECORD_VERSION || record.emitter != emitter.as_str() {
                return Err(malformed(Malformed::FieldCombination));
            }
            records.push((record, Tag::AuditRecord.digest(line.as_bytes())));
        }
        let mut items = Vec::with_capacity(records.len());
        for (record, digest) in records {
            self.place(&emitter, record, digest, &mut items);
        }
        Ok(items)
    }

    fn place(
        &mut self,
        emitter: &AgentId,
        record: AuditRecord,
        digest: ObjectId,
        items: &mut Vec<AuditItem>,
    ) {
        let (emitter, run, seq) = (emitter.clone(), record.run.clone(), record.seq);
        let here = Position {
            run: run.clone(),
            next: seq.saturating_add(1),
            prev: digest.to_string(),
        };
        let runs = self.runs.entry(emitter.clone()).or_default();
        let known = runs.iter().position(|position| position.run == run);
        match known.map(|index| &runs[index]) {
            Some(position) if seq < position.next => {
                items.push(AuditItem::Duplicate { emitter, run, seq });
                return;
            }
            Some(position) if seq > position.next => {
                items.push(AuditItem::Missing {
                    emitter,
                    run,
                    from: position.next,
                    to: seq,
                });
            }
            Some(position) if position.prev != record.prev => {
                items.push(AuditItem::Fork { emitter, run, seq });
            }
            // Nothing comes before the first record of a run.
            None if seq == 0 && record.prev != ObjectId([0; 32]).to_string() => {
                items.push(AuditItem::Fork { emitter, run, seq });
            }
            _ => {}
        }
        match known {
            Some(index) => drop(runs.remove(index)),
            None if runs.len() >= RUNS_PER_EMITTER => drop(runs.remove(0)),
            None => {}
        }
        runs.push(here);
        items.push(AuditItem::Record(record));
    }
}

fn open_batch(
    prefix: &str,
    skew: ClockSkew,
    frame: &Bytes,
    delivered: &str,
    trust: &TrustState,
    now: Timestamp,
) -> Result<(AgentId, Bytes), Rejection> {
    let kind = |claims: &Claims| {
        if claims.action == Action::Publish && claims.payload_type[..] == *PAYLOAD_AUDIT.as_bytes()
        {
            return Ok(());
        }
        Err(Rejection::UnexpectedReply {
            reason: UnexpectedReply::NotAReply,
        })
    };
    let own_subject = |certificate: &Certificate| {
        if delivered == audit_subject(prefix, certificate.agent()) {
            return Ok(());
        }
        Err(Rejection::SubjectMismatch {
            reason: SubjectMismatch::Control,
        })
    };
    let moment = Moment { trust, now, skew };
    let batch = open_certified(frame, delivered, &moment, Place::Audit, kind, own_subject)?;
    Ok((batch.certificate.agent().clone(), batch.payload))
}
