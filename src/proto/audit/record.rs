//! Events, and the records that chain them (protocol §17.3, §17.4).

use serde::Deserialize;
use serde::Serialize;

use super::Decision;
use super::line;
use super::line::ChainTexts;
use crate::proto::identity::AgentId;
use crate::proto::names::Tag;
use crate::proto::signing::ObjectId;
use crate::proto::time::Timestamp;

/// Version of the record schema, `v` of every line (protocol §17.3).
pub const RECORD_VERSION: u8 = 1;

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
    /// Class of the rejection, by [name](crate::proto::rejection::Class::name).
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
/// By itself it proves nothing. What an [`AuditReader`](super::AuditReader) hands out was signed by its emitter.
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
    texts: ChainTexts,
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
            texts: ChainTexts::default(),
        }
    }

    /// Appends an event; returns the record and its line, without line break. The next record is
    /// chained to exactly the bytes of that line.
    pub fn append(&mut self, at: Timestamp, event: AuditEvent) -> (AuditRecord, String) {
        let record = self.next(at, event);
        let line = record.line();
        self.advance(line.as_bytes());
        (record, line)
    }

    /// Appends the event of a decision, its line to `out`, without line break: the line that
    /// [`append`](Self::append) would give.
    pub fn append_decision(&mut self, decision: &Decision, out: &mut String) {
        let start = out.len();
        line::push_number(out, "{\"v\":", u64::from(RECORD_VERSION));
        line::push_text(out, ",\"emitter\":", self.emitter.as_str());
        line::push_text(out, ",\"run\":", &self.run);
        line::push_number(out, ",\"seq\":", self.seq);
        line::push_hex(out, ",\"prev\":", &self.prev.0);
        line::push_number(out, ",\"time\":", decision.at.as_millis());
        self.texts.push_decision(out, decision);
        out.push('}');
        self.advance(&out.as_bytes()[start..]);
    }

    /// The record that appending an event would give.
    pub(crate) fn next(&self, at: Timestamp, event: AuditEvent) -> AuditRecord {
        AuditRecord {
            v: RECORD_VERSION,
            emitter: self.emitter.to_string(),
            run: self.run.clone(),
            seq: self.seq,
            prev: self.prev.to_string(),
            time: at.as_millis(),
            event,
        }
    }

    fn advance(&mut self, line: &[u8]) {
        self.seq += 1;
        self.prev = Tag::AuditRecord.digest(line);
    }
}
