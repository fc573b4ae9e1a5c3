//! One hop of authority: a root grant or a delegation (protocol §7.1).
//!
//! ```text
//! root grant  [v, mesh bin16, issuer bin32, holder bin32, nbf, exp, remaining, scope, nonce bin16, ext]
//! delegation  [v, parent bin32,             holder bin32, nbf, exp, remaining, scope, nonce bin16, ext]
//! ```
//!
//! A delegation commits to its whole ancestry through `parent`, the object id of the link above.
//! No link says who signed it: the key that verifies link *i* is the holder of link *i − 1*, by
//! position, so it can be neither forgotten nor chosen by the message.

use bytes::Bytes;

use super::identity::KeyBytes;
use super::identity::SIGNATURE_LEN;
use super::identity::Signature;
use super::identity::SigningKey;
use super::limits::LIFETIME_MAX_MS;
use super::limits::REMAINING_MAX;
use super::names::OBJECT_VERSION;
use super::names::Tag;
use super::rejection::ChainBroken;
use super::rejection::DepthExceeded;
use super::rejection::Malformed;
use super::rejection::Place;
use super::rejection::Rejection;
use super::rejection::ScopeExceeded;
use super::scope::Scope;
use super::signing;
use super::signing::MeshId;
use super::signing::ObjectId;
use super::time::Timestamp;
use super::time::Validity;
use super::wire;
use super::wire::Reader;
use super::wire::bin;

/// What a new link shall say (protocol §7.1). Give it to [`Credential::delegate`] or
/// [`Chain::root_grant`], which refuse what no receiver would accept.
///
/// [`Credential::delegate`]: super::chain::Credential::delegate
/// [`Chain::root_grant`]: super::chain::Chain::root_grant
#[derive(Clone, Debug)]
pub struct LinkDraft {
    /// Who receives the authority: neither the issuer nor a holder above.
    pub holder: KeyBytes,
    /// When it holds, at most [`LIFETIME_MAX_MS`] long; for a delegation, inside the parent's
    /// window.
    pub validity: Validity,
    /// How many further delegations may follow, 0 to [`REMAINING_MAX`]; for a delegation, fewer
    /// than the parent's.
    pub remaining: u8,
    /// What may be done; for a delegation, contained in the parent's.
    pub scope: Scope,
    /// 16 random bytes, so that two links of the same content have two ids.
    pub nonce: [u8; 16],
}

/// What stands above a link. For link 0 it is the issuer, for every other the link before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parent {
    /// Nothing: this is a root grant by an issuer of a mesh.
    Issuer {
        /// The mesh.
        mesh: MeshId,
        /// The issuer's key, which must hold that role in the mesh.
        key: KeyBytes,
    },
    /// The link with this object id.
    Link(ObjectId),
}

/// A decoded link of a chain (protocol §7.1). By itself it proves nothing: its signature has not
/// been checked. Links are read as part of a [`Chain`](super::chain::Chain).
#[derive(Clone, Debug)]
pub struct Link {
    pub(crate) parent: Parent,
    pub(crate) holder: KeyBytes,
    pub(crate) validity: Validity,
    pub(crate) remaining: u8,
    pub(crate) scope: Scope,
    pub(crate) id: ObjectId,
    pub(crate) body: Bytes,
    pub(crate) signature: Signature,
}

impl Link {
    /// What stands above, as the link says.
    pub fn parent(&self) -> Parent {
        self.parent
    }

    /// The key the authority was given to.
    pub fn holder(&self) -> KeyBytes {
        self.holder
    }

    /// When the link holds; inside the window of the link above, as every
    /// [`Chain`](super::chain::Chain) is.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// How many delegations may still follow, 0 to [`REMAINING_MAX`].
    pub fn remaining(&self) -> u8 {
        self.remaining
    }

    /// What may be done.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The link's object id: what revocation names.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// The tag this link is signed under.
    pub(crate) fn tag(&self) -> Tag {
        match self.parent {
            Parent::Issuer { .. } => Tag::RootGrant,
            Parent::Link(_) => Tag::Delegation,
        }
    }

    /// Signs a new link; the result is the wire form `[body, signature]` of one element.
    pub(crate) fn sign(parent: Parent, draft: &LinkDraft, key: &SigningKey) -> Vec<u8> {
        let (tag, body) = encode_body(parent, draft);
        let signature = signing::sign(tag, &body, key);
        wire::encode(&(bin(&body), bin(&signature.0)))
    }

    /// Decodes link `index` from its body. The position alone says which schema it has.
    pub(crate) fn parse(
        index: u8,
        body: Bytes,
        signature: [u8; SIGNATURE_LEN],
    ) -> Result<Self, Rejection> {
        let place = Place::Hop(index);
        let mut r = Reader::new(&body, place);
        r.array_of(if index == 0 { 10 } else { 9 })?;
        let version = r.uint()?;
        if version != OBJECT_VERSION {
            return Err(Rejection::UnsupportedVersion {
                place,
                found: version,
            });
        }
        let parent = if index == 0 {
            Parent::Issuer {
                mesh: MeshId(r.bin_of()?),
                key: r.key()?,
            }
        } else {
            Parent::Link(r.object_id()?)
        };
        let holder = r.key()?;
        let validity = read_validity(&mut r)?;
        let remaining = r.number_of::<u8>()?;
        if remaining > REMAINING_MAX {
            return Err(Rejection::DepthExceeded {
                place,
                reason: DepthExceeded::Remaining,
            });
        }
        let scope = Scope::read(&mut r)?;
        let _nonce: [u8; 16] = r.bin_of()?;
        // Links have no extensions; what is not understood may restrict, so it refuses.
        if r.array()? != 0 {
            return Err(r.fault(Malformed::Extension));
        }
        r.finish()?;
        let tag = if index == 0 {
            Tag::RootGrant
        } else {
            Tag::Delegation
        };
        let id = tag.digest(&body);
        let signature = Signature(signature);
        Ok(Self {
            parent,
            holder,
            validity,
            remaining,
            scope,
            id,
            body,
            signature,
        })
    }

    /// Checks that this link, at `index`, hands on no more than `parent` had.
    pub(crate) fn check_attenuates(&self, parent: &Self, index: u8) -> Result<(), Rejection> {
        let place = Place::Hop(index);
        if self.parent != Parent::Link(parent.id) {
            return Err(Rejection::ChainBroken {
                place,
                reason: ChainBroken::ParentMismatch,
            });
        }
        if self.remaining >= parent.remaining {
            return Err(Rejection::DepthExceeded {
                place,
                reason: DepthExceeded::Remaining,
            });
        }
        if !parent.validity.encloses(&self.validity) {
            return Err(Rejection::ScopeExceeded {
                place,
                reason: ScopeExceeded::Window,
            });
        }
        if !parent.scope.may_delegate(&self.scope) {
            return Err(Rejection::ScopeExceeded {
                place,
                reason: ScopeExceeded::Widened,
            });
        }
        Ok(())
    }
}

/// Reads `nbf, exp`: a window that is not empty and not longer than [`LIFETIME_MAX_MS`].
pub(crate) fn read_validity(r: &mut Reader<'_>) -> Result<Validity, Rejection> {
    let from = Timestamp::from_millis(r.uint()?);
    let until = Timestamp::from_millis(r.uint()?);
    Validity::new(from, until)
        .filter(|validity| validity.millis() <= LIFETIME_MAX_MS)
        .ok_or_else(|| r.fault(Malformed::Lifetime))
}

fn encode_body(parent: Parent, draft: &LinkDraft) -> (Tag, Vec<u8>) {
    let nbf = draft.validity.from().as_millis();
    let exp = draft.validity.until().as_millis();
    let holder = bin(&draft.holder.0);
    let nonce = bin(&draft.nonce);
    let ext: [(); 0] = [];
    match parent {
        Parent::Issuer { mesh, key } => {
            let body = wire::encode(&(
                OBJECT_VERSION,
                bin(&mesh.0),
                bin(&key.0),
                holder,
                nbf,
                exp,
                draft.remaining,
                &draft.scope,
                nonce,
                &ext[..],
            ));
            (Tag::RootGrant, body)
        }
        Parent::Link(id) => {
            let body = wire::encode(&(
                OBJECT_VERSION,
                bin(&id.0),
                holder,
                nbf,
                exp,
                draft.remaining,
                &draft.scope,
                nonce,
                &ext[..],
            ));
            (Tag::Delegation, body)
        }
    }
}
