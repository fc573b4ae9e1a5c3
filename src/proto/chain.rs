//! Chains of authority, from an issuer of the mesh down to the key that acts (protocol §7).
//!
//! ```text
//! bytes ──Chain::parse──▶ Chain ──verify(anchors, budget)──▶ VerifiedChain ──hold(key)──▶ Credential
//!                           ▲                                                               │
//!                           └────────────────────────── delegate ◀──────────────────────────┘
//! ```
//!
//! A [`Chain`] is well-formed: everything that its bytes alone decide has been decided, which is
//! parentage, distinct holders, depth, windows and attenuation. A [`VerifiedChain`] also has its
//! signatures checked. Neither says that the chain holds *now*: windows against the clock,
//! certificates, revocation and policy are checked for every message.

use std::sync::Arc;

use bytes::Bytes;

use super::delegation::Link;
use super::delegation::LinkDraft;
use super::delegation::Parent;
use super::identity::KeyBytes;
use super::identity::PublicKey;
use super::identity::SigningKey;
use super::limits::CHAIN_MAX;
use super::limits::LINK_MAX;
use super::limits::LINKS_MAX;
use super::names::Tag;
use super::rejection::ChainBroken;
use super::rejection::DepthExceeded;
use super::rejection::Place;
use super::rejection::Rejection;
use super::rejection::ScopeExceeded;
use super::rejection::UntrustedRoot;
use super::scope::Need;
use super::scope::SubscribeNeed;
use super::signing::Authentic;
use super::signing::Budget;
use super::signing::MeshId;
use super::signing::ObjectId;
use super::time::ClockSkew;
use super::time::Timestamp;
use super::wire::Reader;

/// Where the keys that verify a chain come from: never from the chain.
///
/// [`TrustState`](super::trust::TrustState) is the one implementation this crate has. What it
/// answers must not depend on the chain asked about.
pub trait Anchors {
    /// The imported key, when it holds the issuer role in this mesh.
    fn issuer(&self, key: &KeyBytes) -> Option<PublicKey>;

    /// The imported key, when it belongs to a registered agent.
    fn holder(&self, key: &KeyBytes) -> Option<PublicKey>;
}

/// A well-formed chain of links (protocol §7.2).
///
/// Holding one tells you that the bytes are canonical, that there are 1 to [`LINKS_MAX`] links,
/// each naming the one above, that issuer and holders are distinct, and that every link narrows
/// the one above. Nothing is known about signatures: see [`VerifiedChain`].
#[derive(Clone, Debug)]
pub struct Chain {
    bytes: Bytes,
    digest: ObjectId,
    mesh: MeshId,
    issuer: KeyBytes,
    links: Vec<Link>,
}

impl Chain {
    /// Decodes `[[body bin, signature bin64]…]`.
    ///
    /// At most [`CHAIN_MAX`] bytes and [`LINKS_MAX`] links. The faults are looked for in the order
    /// of protocol §7.2, and the first is reported.
    ///
    /// # Errors
    ///
    /// [`Rejection::TooLarge`], [`Rejection::Malformed`], [`Rejection::UnsupportedVersion`],
    /// [`Rejection::ChainBroken`], [`Rejection::DepthExceeded`] or [`Rejection::ScopeExceeded`],
    /// naming the link where the fault lies in one. No signature is looked at.
    pub fn parse(bytes: Bytes) -> Result<Self, Rejection> {
        let digest = Self::digest_of(&bytes)?;
        Self::parse_with_digest(bytes, digest)
    }

    /// The links that can be decoded, up to the first that cannot: for looking at a chain that
    /// [`parse`](Self::parse) refuses. They may neither belong together nor narrow each other.
    pub fn readable_links(bytes: &Bytes) -> Vec<Link> {
        let mut links = Vec::new();
        let mut r = Reader::new(bytes, Place::Chain);
        let len = r.array().unwrap_or(0).min(LINKS_MAX) as u8;
        for index in 0..len {
            match read_link(&mut r, index) {
                Ok(link) => links.push(link),
                Err(_) => break,
            }
        }
        links
    }

    /// The digest a chain is cached by: over its exact bytes, after the size check.
    pub(crate) fn digest_of(bytes: &Bytes) -> Result<ObjectId, Rejection> {
        if bytes.len() > CHAIN_MAX {
            return Err(Rejection::TooLarge {
                place: Place::Chain,
                limit: CHAIN_MAX as u32,
            });
        }
        Ok(Tag::Chain.digest(bytes))
    }

    pub(crate) fn parse_with_digest(bytes: Bytes, digest: ObjectId) -> Result<Self, Rejection> {
        let place = Place::Chain;
        let mut r = Reader::new(&bytes, place);
        let len = r.array()?;
        if len == 0 {
            return Err(Rejection::ChainBroken {
                place,
                reason: ChainBroken::Empty,
            });
        }
        if len > LINKS_MAX {
            return Err(Rejection::DepthExceeded {
                place,
                reason: DepthExceeded::Links,
            });
        }
        let mut links: Vec<Link> = Vec::with_capacity(len);
        for index in 0..len as u8 {
            let link = read_link(&mut r, index)?;
            check_distinct(&links, &link, index)?;
            if let Some(parent) = links.last() {
                link.check_attenuates(parent, index)?;
            }
            links.push(link);
        }
        r.finish()?;
        let Some(Link {
            parent: Parent::Issuer { mesh, key: issuer },
            ..
        }) = links.first()
        else {
            return Err(NOT_ISSUER);
        };
        let (mesh, issuer) = (*mesh, *issuer);
        Ok(Self {
            bytes,
            digest,
            mesh,
            issuer,
            links,
        })
    }

    /// A root grant: a chain of one link, signed by an issuer.
    ///
    /// Whether the key has the issuer role in the mesh is not asked here, but by whoever verifies.
    ///
    /// # Errors
    ///
    /// Whatever [`parse`](Self::parse) would refuse: a window over 30 days
    /// ([`Rejection::Malformed`]), more than 8 delegations below ([`Rejection::DepthExceeded`]),
    /// the issuer as holder ([`Rejection::ChainBroken`]), a link over [`LINK_MAX`] bytes
    /// ([`Rejection::TooLarge`]).
    pub fn root_grant(
        mesh: MeshId,
        draft: &LinkDraft,
        issuer: &SigningKey,
    ) -> Result<Self, Rejection> {
        let parent = Parent::Issuer {
            mesh,
            key: issuer.public().bytes(),
        };
        let mut bytes = vec![0x91];
        bytes.extend_from_slice(&Link::sign(parent, draft, issuer));
        Self::parse(bytes.into())
    }

    /// Checks every signature (protocol §7.3): link 0 by the issuer, each other by the holder of
    /// the one above. Each costs one of the budget.
    ///
    /// # Errors
    ///
    /// [`Rejection::UntrustedRoot`] when `anchors` knows no such issuer,
    /// [`Rejection::UnknownAgent`] naming a holder it does not know, [`Rejection::BadSignature`]
    /// naming the link, and [`Rejection::TooLarge`] when the budget is used up.
    pub fn verify(
        self,
        anchors: &dyn Anchors,
        budget: &mut Budget,
    ) -> Result<VerifiedChain, Rejection> {
        let mut signer = anchors.issuer(&self.issuer).ok_or(NOT_ISSUER)?;
        for (index, link) in self.links.iter().enumerate() {
            let place = Place::Hop(index as u8);
            budget.spend_signature(place)?;
            Authentic::check(link.tag(), &link.body, (), &signer, &link.signature, place)?;
            if index + 1 < self.links.len() {
                signer = anchors
                    .holder(&link.holder)
                    .ok_or(Rejection::UnknownAgent {
                        place: Place::Holder(index as u8),
                    })?;
            }
        }
        Ok(VerifiedChain(Arc::new(self)))
    }

    /// The exact bytes it was read from.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The digest of the exact bytes, under the tag `chain` (protocol §7.3).
    pub fn digest(&self) -> ObjectId {
        self.digest
    }

    /// The links, root grant first: 1 to [`LINKS_MAX`].
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The last link, whose holder acts under the chain.
    pub fn leaf(&self) -> &Link {
        // `parse` refuses chains without links.
        &self.links[self.links.len() - 1]
    }

    /// The number of delegations below the root grant, 0 to 8.
    pub fn depth(&self) -> u8 {
        self.links.len() as u8 - 1
    }

    /// The mesh the root grant says it is of. Compared with the trust state's when it is used.
    pub fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// The key that the root grant says issued it.
    pub fn issuer(&self) -> KeyBytes {
        self.issuer
    }

    /// Checks that every link holds at `now` (protocol §14.2), first link first.
    ///
    /// # Errors
    ///
    /// [`Rejection::NotYetValid`] or [`Rejection::Expired`], naming the link.
    pub fn check_validity(&self, now: Timestamp, skew: ClockSkew) -> Result<(), Rejection> {
        for (index, link) in self.links.iter().enumerate() {
            let place = Place::Hop(index as u8);
            link.validity
                .check(now, skew)
                .map_err(|outside| outside.at(place))?;
        }
        Ok(())
    }

    /// Checks that **every** link covers `need`.
    pub(crate) fn check_covers(&self, need: &Need<'_>) -> Result<(), Rejection> {
        self.each_scope(|scope| scope.covers(need))
    }

    /// Checks that **every** link covers a subscription.
    pub(crate) fn check_covers_subscription(
        &self,
        need: &SubscribeNeed<'_>,
    ) -> Result<(), Rejection> {
        self.each_scope(|scope| scope.covers_subscription(need))
    }

    fn each_scope(
        &self,
        check: impl Fn(&super::scope::Scope) -> Result<(), ScopeExceeded>,
    ) -> Result<(), Rejection> {
        for (index, link) in self.links.iter().enumerate() {
            let place = Place::Hop(index as u8);
            check(&link.scope).map_err(|reason| Rejection::ScopeExceeded { place, reason })?;
        }
        Ok(())
    }
}

const NOT_ISSUER: Rejection = Rejection::UntrustedRoot {
    place: Place::Issuer,
    reason: UntrustedRoot::NotIssuer,
};

/// Reads `[body bin, signature bin64]`.
fn read_link(r: &mut Reader<'_>, index: u8) -> Result<Link, Rejection> {
    r.array_of(2)?;
    let body = r.bin(LINK_MAX).map_err(|rejection| match rejection {
        Rejection::TooLarge { limit, .. } => Rejection::TooLarge {
            place: Place::Hop(index),
            limit,
        },
        other => other,
    })?;
    let signature = r.bin_of()?;
    Link::parse(index, body, signature)
}

fn check_distinct(above: &[Link], link: &Link, index: u8) -> Result<(), Rejection> {
    let issuer = match above.first().unwrap_or(link).parent {
        Parent::Issuer { key, .. } => key == link.holder,
        Parent::Link(_) => false,
    };
    if issuer || above.iter().any(|other| other.holder == link.holder) {
        let place = Place::Hop(index);
        return Err(Rejection::ChainBroken {
            place,
            reason: ChainBroken::RepeatedHolder,
        });
    }
    Ok(())
}

/// A chain whose every signature was checked against keys from the trust state.
///
/// Holding one tells you that an issuer of the mesh made the root grant and that each holder, with
/// a registered key, signed the link below its own. Cloning shares it. It does not tell you that
/// the chain holds now: that is decided per message.
///
/// ```
/// use trustmesh::proto::signing::Budget;
/// use trustmesh::services::authority::Authority;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut mesh = Authority::dev("demo")?;
/// let planner = mesh.agent("planner", ["req+delegate:tools.>"])?;
/// let trust = planner.trust().current();
///
/// let chain = planner.grant().clone().verify(&*trust, &mut Budget::message())?;
/// assert_eq!(chain.depth(), 0);
/// assert_eq!(chain.leaf().holder(), planner.key());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct VerifiedChain(Arc<Chain>);

impl VerifiedChain {
    /// Takes the chain into use with the key of its last holder.
    ///
    /// Whether the chain holds now is not asked: see [`accept_chain`](super::verify::accept_chain),
    /// which asks it first.
    ///
    /// # Errors
    ///
    /// [`Rejection::ChainBroken`] with [`NotOurs`](ChainBroken::NotOurs), naming the last link,
    /// when `key` is not that holder's.
    pub fn hold(self, key: Arc<SigningKey>) -> Result<Credential, Rejection> {
        self.check_held_by(&key.public().bytes())?;
        Ok(Credential { chain: self, key })
    }

    /// Checks that the last holder is the one with this key.
    ///
    /// # Errors
    ///
    /// `ChainBroken` when it is not.
    pub fn check_held_by(&self, key: &KeyBytes) -> Result<(), Rejection> {
        if self.leaf().holder() == *key {
            return Ok(());
        }
        Err(Rejection::ChainBroken {
            place: Place::Hop(self.depth()),
            reason: ChainBroken::NotOurs,
        })
    }
}

impl std::ops::Deref for VerifiedChain {
    type Target = Chain;

    fn deref(&self) -> &Chain {
        &self.0
    }
}

/// A verified chain with the key of its last holder: what an agent acts and delegates with.
///
/// Holding one tells you that the chain's signatures were checked and that the key is the one its
/// last link gives authority to. Whether receivers accept it now is decided by them, per message.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use trustmesh::proto::delegation::LinkDraft;
/// use trustmesh::proto::identity::{AgentId, SigningKey};
/// use trustmesh::proto::scope::Scope;
/// use trustmesh::proto::signing::Budget;
/// use trustmesh::services::authority::Authority;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut mesh = Authority::dev("demo")?;
/// let key = Arc::new(SigningKey::generate()?);
/// mesh.enrol(&AgentId::parse("planner")?, &key)?;
/// let scope = Scope::parse(["req+delegate:store.>"])?;
/// let grant = mesh.grant(&key.public().bytes(), scope, 1, Duration::from_secs(3600))?;
/// let trust = mesh.publish()?.current();
/// let credential = grant.verify(&*trust, &mut Budget::message())?.hold(key)?;
///
/// let mut draft = LinkDraft {
///     holder: SigningKey::generate()?.public().bytes(),
///     validity: credential.chain().leaf().validity(),
///     remaining: 0,
///     scope: Scope::parse(["req:store.docs"])?,
///     nonce: [1; 16], // random, outside examples
/// };
/// assert_eq!(credential.delegate(&draft)?.depth(), 1);
/// draft.scope = Scope::parse(["pub:store.docs"])?;
/// assert!(credential.delegate(&draft).is_err()); // never held
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Credential {
    chain: VerifiedChain,
    key: Arc<SigningKey>,
}

impl Credential {
    /// The chain, down to this credential's key.
    pub fn chain(&self) -> &VerifiedChain {
        &self.chain
    }

    /// The key of the chain's last holder.
    pub fn key(&self) -> &Arc<SigningKey> {
        &self.key
    }

    /// Hands on some of this authority: the chain so far and one more link, signed by this key.
    ///
    /// # Errors
    ///
    /// Whatever a receiver would refuse (protocol §7.6): [`Rejection::ScopeExceeded`] for a scope
    /// that is not contained in one delegable capability or a window outside this one,
    /// [`Rejection::DepthExceeded`] when `remaining` is not less than this link's,
    /// [`Rejection::ChainBroken`] for a holder who is in the chain already, [`Rejection::TooLarge`]
    /// for a link over [`LINK_MAX`] or a chain over [`CHAIN_MAX`] bytes, [`Rejection::Malformed`]
    /// for a capability without actions.
    pub fn delegate(&self, draft: &LinkDraft) -> Result<Chain, Rejection> {
        let parent = Parent::Link(self.chain.leaf().id());
        let link = Link::sign(parent, draft, &self.key);
        // An array of at most 15 elements has a one-byte header; a longer chain would be refused.
        let header = 0x90 | (self.chain.links().len() as u8 + 1).min(15);
        let old = &self.chain.bytes()[1..];
        let mut bytes = Vec::with_capacity(1 + old.len() + link.len());
        bytes.push(header);
        bytes.extend_from_slice(old);
        bytes.extend_from_slice(&link);
        Chain::parse(bytes.into())
    }
}

/// Reads a chain's bytes out of a signed object without decoding them.
pub(crate) fn read_bytes(r: &mut Reader<'_>) -> Result<Bytes, Rejection> {
    r.bin(CHAIN_MAX).map_err(|rejection| match rejection {
        Rejection::TooLarge { limit, .. } => Rejection::TooLarge {
            place: Place::Chain,
            limit,
        },
        other => other,
    })
}

/// The fault of a chain whose leaf the header does not name.
pub(crate) const LEAF_MISMATCH: Rejection = Rejection::ChainBroken {
    place: Place::Chain,
    reason: ChainBroken::LeafMismatch,
};
