//! Reading what emitters published (protocol §17.1, §17.5).

use std::collections::HashMap;

use bytes::Bytes;

use super::record::AuditRecord;
use super::record::RECORD_VERSION;
use crate::proto::certificate::Certificate;
use crate::proto::control::Moment;
use crate::proto::control::open_certified;
use crate::proto::envelope::Claims;
use crate::proto::identity::AgentId;
use crate::proto::names::PAYLOAD_AUDIT;
use crate::proto::names::Tag;
use crate::proto::rejection::Malformed;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::SubjectMismatch;
use crate::proto::rejection::UnexpectedReply;
use crate::proto::scope::Action;
use crate::proto::signing::ObjectId;
use crate::proto::time::ClockSkew;
use crate::proto::time::Timestamp;
use crate::proto::trust::TrustState;

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
