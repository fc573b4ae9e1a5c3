//! Audit: every decision as an event, every event in a hash chain, every batch signed (protocol
//! §17).
//!
//! One decision makes one [`Decision`]. The emitter numbers events and chains them: a record's
//! `prev` is the digest of the line before it, so that editing, dropping or reordering a record
//! shows in the next. Records travel as JSON lines, the payload of an envelope that the emitter
//! signs under its certificate; [`AuditReader`] checks all of it.
//!
//! Events hold no payloads and no secrets. What was not authenticated is marked `claimed`.

mod line;
mod reader;
mod record;

use std::sync::Arc;

use super::chain::VerifiedChain;
use super::envelope::Claims;
use super::identity::KeyBytes;
use super::names::Tag;
use super::rejection::Rejection;
use super::replay::MessageId;
use super::scope::Action;
use super::signing::ObjectId;
use super::time::Timestamp;
use super::trust::TrustState;

pub use self::reader::AuditItem;
pub use self::reader::AuditReader;
pub use self::reader::audit_subject;
pub use self::record::AuditEvent;
pub use self::record::AuditRecord;
pub use self::record::DecisionEvent;
pub use self::record::HopEvent;
pub use self::record::RECORD_VERSION;
pub use self::record::RecordChain;
pub use self::record::SessionRole;
pub use self::record::Word;

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
