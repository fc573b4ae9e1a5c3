//! Signatures over labelled bodies, and the proof that one was checked (protocol §2.4).
//!
//! Nothing in trustmesh signs or verifies bare bytes: both go through [`Tag`], so that a signature
//! made for one kind of object is worth nothing for another. The tags stand in
//! [`names`](super::names).

use std::fmt;

use sha2::Digest as _;
use sha2::Sha256;

use super::batch::BatchClaims;
use super::batch::Root;
use super::identity::PublicKey;
use super::identity::Signature;
use super::identity::SigningKey;
use super::limits::HEADER_MAX;
use super::limits::LINKS_MAX;
use super::names::Tag;
use super::rejection::Place;
use super::rejection::Rejection;

/// The id of a signed object: `SHA-256(tag || body)` (protocol §2.4). Signatures are never part of
/// it.
///
/// It also holds labelled digests of other bytes. It prints as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectId(pub [u8; 32]);

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", data_encoding::HEXLOWER.encode_display(&self.0))
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Tag {
    /// `SHA-256(tag bytes || body)`: the object id of a body, or a labelled digest.
    pub fn digest(self, body: &[u8]) -> ObjectId {
        let mut hash = Sha256::new();
        hash.update(self.bytes());
        hash.update(body);
        ObjectId(hash.finalize().into())
    }
}

/// A mesh (trust domain): the first 16 bytes of the id of its first trust root (protocol §9.2).
///
/// It prints as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct MeshId(pub [u8; 16]);

impl fmt::Debug for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", data_encoding::HEXLOWER.encode_display(&self.0))
    }
}

impl fmt::Display for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Claims whose signature was checked.
///
/// Holding one tells you that a key the verifier looked up itself, by position in a chain or in
/// the trust root, signed exactly the bytes these claims were decoded from, under the tag of their
/// type. It owns the claims it vouches for, so evidence for one message cannot stand in for
/// another.
///
/// Nothing public makes one; it comes out of a check of this crate and nowhere else:
///
/// ```compile_fail
/// use trustmesh::proto::signing::Authentic;
///
/// let forged = Authentic { claims: "anything" }; // a private field, and no constructor
/// ```
#[derive(Clone, Debug)]
pub struct Authentic<T> {
    claims: T,
}

impl<T> Authentic<T> {
    /// Checks `signature` over `tag || body`, of which `claims` are the decoded form.
    ///
    /// # Errors
    ///
    /// [`Rejection::BadSignature`], naming `place`.
    pub(crate) fn check(
        tag: Tag,
        body: &[u8],
        claims: T,
        key: &PublicKey,
        signature: &Signature,
        place: Place,
    ) -> Result<Self, Rejection> {
        if with_tag(tag, body, |input| key.verifies(input, signature)) {
            Ok(Self { claims })
        } else {
            Err(Rejection::BadSignature { place })
        }
    }

    /// Takes claims from a batch whose signature was checked. `root` was computed from the bytes
    /// the claims were decoded from.
    ///
    /// # Errors
    ///
    /// [`Rejection::BadSignature`], naming the batch, when it is not the root that was signed.
    pub(crate) fn in_batch(
        batch: &Authentic<BatchClaims>,
        root: &Root,
        claims: T,
    ) -> Result<Self, Rejection> {
        if batch.claims().has_root(root) {
            Ok(Self { claims })
        } else {
            Err(Rejection::BadSignature {
                place: Place::Batch,
            })
        }
    }

    /// The claims the signature was checked over.
    pub fn claims(&self) -> &T {
        &self.claims
    }
}

/// The work one message may cause, counted down as it is spent.
///
/// One is made per message and passed along, so that no path through a chain, a nested grant or a
/// retry can cost more signatures than its longest legitimate form.
///
/// ```
/// use trustmesh::proto::rejection::Place;
/// use trustmesh::proto::signing::Budget;
///
/// let mut budget = Budget::message();
/// while budget.spend_signature(Place::Chain).is_ok() {}
/// assert_eq!(budget.spent(), 11); // nine links, the envelope and an approval
/// ```
#[derive(Debug)]
pub struct Budget {
    signatures: u32,
    spent: u32,
}

impl Budget {
    /// The budget of one message: a chain of [`LINKS_MAX`] links, the envelope and an approval, 11
    /// signature checks.
    pub const fn message() -> Self {
        Self {
            signatures: LINKS_MAX as u32 + 2,
            spent: 0,
        }
    }

    /// Takes one signature check out of the budget.
    ///
    /// # Errors
    ///
    /// [`Rejection::TooLarge`] naming `place`, with the budget's size as limit, when nothing is
    /// left.
    pub fn spend_signature(&mut self, place: Place) -> Result<(), Rejection> {
        if self.spent >= self.signatures {
            return Err(Rejection::TooLarge {
                place,
                limit: self.signatures,
            });
        }
        self.spent += 1;
        Ok(())
    }

    /// Signature checks spent so far.
    pub const fn spent(&self) -> u32 {
        self.spent
    }
}

/// Signs `body` under `tag`.
pub(crate) fn sign(tag: Tag, body: &[u8], key: &SigningKey) -> Signature {
    with_tag(tag, body, |input| key.sign_raw(input))
}

/// Calls `f` with `tag || body`. Bodies on the message path are short and stay on the stack.
fn with_tag<R>(tag: Tag, body: &[u8], f: impl FnOnce(&[u8]) -> R) -> R {
    const TAG: usize = 24;
    if body.len() <= HEADER_MAX {
        let mut input = [0u8; TAG + HEADER_MAX];
        input[..TAG].copy_from_slice(&tag.bytes());
        input[TAG..TAG + body.len()].copy_from_slice(body);
        f(&input[..TAG + body.len()])
    } else {
        let mut input = Vec::with_capacity(TAG + body.len());
        input.extend_from_slice(&tag.bytes());
        input.extend_from_slice(body);
        f(&input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A signature made under one tag verifies under no other.
    #[test]
    fn every_tag_is_refused_for_every_other() {
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        for (len, body) in [(5, vec![1; 5]), (4000, vec![2; 4000])] {
            for made in Tag::ALL {
                let signature = sign(made, &body, &key);
                for asked in Tag::ALL {
                    let found =
                        Authentic::check(asked, &body, (), &key.public(), &signature, Place::Frame);
                    assert_eq!(found.is_ok(), made == asked, "{made:?} as {asked:?}, {len}");
                }
            }
        }
    }
}
