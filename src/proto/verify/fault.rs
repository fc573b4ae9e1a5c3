//! What a signed object proves against its own signer, to anybody and at any time.
//!
//! Everything a finding rests on is signed by the culprit, and decides by its bytes alone: no clock,
//! no policy, no place of delivery and no word of whoever brought it has a say. A message delivered
//! late, twice, elsewhere, or with other content or another chain attached therefore proves nothing
//! against the agent that signed it.

use bytes::Bytes;

use crate::proto::breaker::is_signer_caused;
use crate::proto::chain::Chain;
use crate::proto::chain::LEAF_MISMATCH;
use crate::proto::delegation::Link;
use crate::proto::delegation::Parent;
use crate::proto::envelope::Auth;
use crate::proto::envelope::Claims;
use crate::proto::envelope::Content;
use crate::proto::envelope::UnverifiedEnvelope;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::identity::PublicKey;
use crate::proto::limits::CHAIN_MAX;
use crate::proto::limits::CONTROL_MAX;
use crate::proto::names::Tag;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::UntrustedRoot;
use crate::proto::replay::MessageId;
use crate::proto::scope::Action;
use crate::proto::scope::Need;
use crate::proto::score::Misbehaviour;
use crate::proto::signing::Authentic;
use crate::proto::signing::Budget;
use crate::proto::signing::ObjectId;
use crate::proto::time::Timestamp;
use crate::proto::trust::TrustState;

/// A fault that its culprit's signature proves.
///
/// Holding one tells you that a registered key, not revoked, signed the object that `evidence`
/// names, and that the object is at fault by itself.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Fault {
    /// The agent whose key signed it.
    pub culprit: AgentId,
    /// That key.
    pub key: KeyBytes,
    /// What is wrong.
    pub misbehaviour: Misbehaviour,
    /// The object id of the message's header, or of the link.
    pub evidence: ObjectId,
    /// What tells it from the signer's other faults.
    pub sighting: FaultId,
    /// From when on it can have been signed, by the signer's own words.
    pub from: Timestamp,
    /// Until when it was of use, by the signer's own words.
    pub until: Timestamp,
}

/// What tells faults of one signer apart.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FaultId {
    /// A message, which is the same under every header with its id.
    Message(MessageId),
    /// A link.
    Link(ObjectId),
}

/// Why bytes prove nothing against anybody.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NotEvidence {
    /// They are no message of this mesh, or its signatures do not verify: anybody can have made
    /// them.
    #[error("unproved: {0}")]
    Unproved(Rejection),
    /// The key belongs to nobody, or was revoked: whoever has it is not the agent.
    #[error("the signer is nobody's key now: {0}")]
    Signer(Rejection),
    /// An answer is authorised by its request, which it does not name in words.
    #[error("an answer does not say what it answers")]
    Answer,
    /// The signer did nothing wrong that this shows.
    #[error("nothing in it is the signer's fault")]
    NoFault,
}

/// Looks for a fault in a frame as it came from the bus, the content of which may have been left
/// out: an empty byte string stands for it then. A bad link counts against its minter, everything
/// else against the sender.
///
/// It costs at most ten signatures.
///
/// # Errors
///
/// [`NotEvidence`] when nothing is proved.
pub fn find_fault(frame: &Bytes, trust: &TrustState) -> Result<Fault, NotEvidence> {
    let unproved = NotEvidence::Unproved;
    let evidence = UnverifiedEnvelope::cut(frame).map_err(unproved)?;
    let chain = match Chain::parse(evidence.chain.clone()) {
        Ok(chain) => chain,
        Err(rejection) => return minted(&evidence.chain, trust, rejection),
    };
    let claims = &evidence.claims;
    if claims.mesh != trust.mesh() || chain.mesh() != trust.mesh() {
        return Err(unproved(OTHER_MESH));
    }
    if chain.leaf().id() != claims.leaf {
        return Err(unproved(LEAF_MISMATCH));
    }
    let key = chain.leaf().holder();
    let (culprit, public) = signer(&key, trust)?;
    let mut budget = Budget::message();
    let chain = chain.verify(trust, &mut budget).map_err(unproved)?;
    authenticate(&evidence, &public, &mut budget).map_err(unproved)?;
    Ok(Fault {
        culprit,
        key,
        misbehaviour: fault_of(&evidence, &chain)?,
        evidence: Tag::Envelope.digest(&evidence.header),
        sighting: FaultId::Message(claims.mid),
        from: claims.issued,
        until: claims.issued.plus(u64::from(claims.ttl_ms)),
    })
}

/// What of a refused frame is worth reporting: the frame, without its content where that has no
/// say. `None` when the refusal is not its signer's doing, or the evidence does not fit a report.
pub(crate) fn evidence_of(frame: &Bytes, why: &Rejection) -> Option<Bytes> {
    if !is_signer_caused(why) {
        return None;
    }
    let place = match why {
        Rejection::Malformed { place, .. } | Rejection::TooLarge { place, .. } => Some(place),
        _ => None,
    };
    let evidence = match place {
        Some(Place::Content) => frame.clone(),
        _ => {
            let content = UnverifiedEnvelope::cut(frame).ok()?.content.len();
            let header = match content {
                0..=0xff => 2,
                0x100..=0xffff => 3,
                _ => 5,
            };
            // The content is what a frame ends with.
            let rest = frame.len().checked_sub(content + header)?;
            [&frame[..rest], &NO_CONTENT[..]].concat().into()
        }
    };
    (evidence.len() <= EVIDENCE_BYTES).then_some(evidence)
}

/// A byte string of nothing.
const NO_CONTENT: [u8; 2] = [0xc4, 0];

/// Most bytes of a piece of evidence: a report of one fits its envelope.
const EVIDENCE_BYTES: usize = CONTROL_MAX - 64;

/// The fault of an object of another mesh.
const OTHER_MESH: Rejection = Rejection::UntrustedRoot {
    place: Place::Header,
    reason: UntrustedRoot::OtherMesh,
};

/// A key that retires at whatever time is nobody's any more: who has it now cannot be told, since
/// no time decides a fault.
const END_OF_TIME: Timestamp = Timestamp::from_millis(u64::MAX);

/// The agent behind a key, and the key.
fn signer(key: &KeyBytes, trust: &TrustState) -> Result<(AgentId, PublicKey), NotEvidence> {
    let place = Place::Header;
    let unknown = NotEvidence::Signer(Rejection::UnknownAgent { place });
    let certificate = trust.certificate(key).ok_or(unknown)?;
    trust
        .revocations()
        .check_agent(certificate, END_OF_TIME, place)
        .map_err(NotEvidence::Signer)?;
    Ok((certificate.agent().clone(), *certificate.key()))
}

/// Checks that the sender signed the header, by itself or in a batch.
fn authenticate(
    evidence: &UnverifiedEnvelope,
    key: &PublicKey,
    budget: &mut Budget,
) -> Result<(), Rejection> {
    let (header, claims) = (&evidence.header, &evidence.claims);
    budget.spend_signature(Place::Header)?;
    match &evidence.auth {
        Auth::Single(signature) => {
            let place = Place::Header;
            Authentic::check(Tag::Envelope, header, (), key, signature, place)?;
        }
        Auth::Batch(proof) => {
            proof.check_signer(claims.mesh, &key.bytes())?;
            let root = proof.root_of(header)?;
            Authentic::in_batch(&proof.authenticate(key)?, &root, ())?;
        }
    }
    Ok(())
}

/// What is wrong with an authentic message, as far as its own bytes decide.
fn fault_of(evidence: &UnverifiedEnvelope, chain: &Chain) -> Result<Misbehaviour, NotEvidence> {
    let claims = &evidence.claims;
    if claims.action != Action::Serve && chain.check_covers(&need(claims)).is_err() {
        return Ok(Misbehaviour::ScopeExceeded);
    }
    match Content::open(&evidence.content, claims) {
        Err(Rejection::Malformed { .. } | Rejection::TooLarge { .. }) => {
            Ok(Misbehaviour::MalformedContent)
        }
        _ if claims.action == Action::Serve => Err(NotEvidence::Answer),
        // The content was left out, or is another than was signed: anybody can have put it there.
        _ => Err(NotEvidence::NoFault),
    }
}

fn need(claims: &Claims) -> Need<'_> {
    Need {
        action: claims.action,
        subject: &claims.subject,
        audience: claims.audience.as_ref(),
    }
}

/// Looks for a link that is wider than the one above it, signed by the holder of that one. The link
/// commits to the bytes of the one above, so that nobody can have put another in its place.
fn minted(bytes: &Bytes, trust: &TrustState, why: Rejection) -> Result<Fault, NotEvidence> {
    let unproved = NotEvidence::Unproved;
    if bytes.len() > CHAIN_MAX {
        return Err(unproved(why));
    }
    let links = Chain::readable_links(bytes);
    let ours = links.first().map(Link::parent);
    if !matches!(ours, Some(Parent::Issuer { mesh, .. }) if mesh == trust.mesh()) {
        return Err(unproved(why));
    }
    for (index, pair) in links.windows(2).enumerate() {
        let [parent, link] = pair else { continue };
        let misbehaviour = match link.check_attenuates(parent, index as u8 + 1) {
            Ok(()) => continue,
            Err(Rejection::ScopeExceeded { .. }) => Misbehaviour::ScopeExceeded,
            Err(Rejection::DepthExceeded { .. }) => Misbehaviour::DepthExceeded,
            Err(other) => return Err(unproved(other)),
        };
        return accuse(parent, link, misbehaviour, trust);
    }
    Err(unproved(why))
}

fn accuse(
    parent: &Link,
    link: &Link,
    misbehaviour: Misbehaviour,
    trust: &TrustState,
) -> Result<Fault, NotEvidence> {
    let key = parent.holder();
    let (culprit, public) = signer(&key, trust)?;
    let place = Place::Chain;
    Authentic::check(link.tag(), &link.body, (), &public, &link.signature, place)
        .map_err(NotEvidence::Unproved)?;
    Ok(Fault {
        culprit,
        key,
        misbehaviour,
        evidence: link.id(),
        sighting: FaultId::Link(link.id()),
        from: link.validity().from(),
        until: link.validity().until(),
    })
}
