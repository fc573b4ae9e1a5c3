//! A trust root after the first, looked at by itself (protocol §9.8).

use bytes::Bytes;

use super::Draft;
use super::Lineage;
use super::PREDECESSOR;
use super::Role;
use super::TrustRoot;
use super::UntrustedRoot;
use crate::proto::identity::KeyBytes;
use crate::proto::identity::PublicKey;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::signing::MeshId;
use crate::proto::signing::ObjectId;
use crate::proto::time::Validity;

/// A trust root after the first, without the one that it follows (protocol §9.8).
///
/// Holding one tells you what the file says, that every key in it is acceptable, and that the
/// threshold of its *own* root keys signed it. Whoever makes up keys can make such a file, for any
/// mesh: whether the root before it signed it too is what leads to it, and that was not asked.
///
/// So it describes itself, for people, and vouches for nothing. Its keys come as bytes, and no
/// [`TrustRoot`] is made of it; only the root before it makes one, of the file, with
/// [`TrustRoot::succeed`]:
///
/// ```compile_fail
/// use trustmesh::proto::root::{TrustRoot, UnchainedRoot};
///
/// fn anchor(root: UnchainedRoot) -> TrustRoot {
///     root
/// }
/// ```
///
/// ```compile_fail
/// use trustmesh::proto::root::{TrustRoot, UnchainedRoot};
///
/// fn anchor(root: &UnchainedRoot) -> TrustRoot {
///     root.says.clone() // a private field
/// }
/// ```
#[derive(Debug)]
pub struct UnchainedRoot {
    /// Nothing but its fields is ever handed out: as a whole it would pass for a checked root.
    says: TrustRoot,
    lineage: Lineage,
    signers: Vec<u8>,
}

impl UnchainedRoot {
    /// Decodes a root after the first, of whatever version, and checks its own signatures. Those
    /// by keys of the root before it are not looked at, nor is whether it holds now.
    ///
    /// # Errors
    ///
    /// As [`TrustRoot::succeed`], where it does not depend on the root before:
    /// [`Rejection::UnsupportedVersion`] of a first root, which [`TrustRoot::parse`] reads, and
    /// [`Rejection::UntrustedRoot`] when it names no root before it or too few of its own root
    /// keys signed.
    pub fn parse(file: &Bytes) -> Result<Self, Rejection> {
        let Draft {
            root: says,
            lineage,
            file,
        } = Draft::read(file, 2..=u32::MAX)?;
        let (place, reason) = (Place::TrustFile, UntrustedRoot::Lineage);
        let lineage = lineage.ok_or(Rejection::UntrustedRoot { place, reason })?;
        let own = says.roles.get(&Role::Root).cloned().unwrap_or_default();
        file.check_own(&own)?;
        Ok(Self {
            says,
            lineage,
            signers: file.signers().collect(),
        })
    }

    /// The object id, which the root after it names.
    pub fn id(&self) -> ObjectId {
        self.says.id
    }

    /// The mesh it says to be of.
    pub fn mesh(&self) -> MeshId {
        self.lineage.mesh
    }

    /// The id of the root that it says to follow.
    pub fn previous(&self) -> ObjectId {
        self.lineage.previous
    }

    /// Which root of its mesh it says to be: 2 or more.
    pub fn version(&self) -> u32 {
        self.says.version
    }

    /// The name of the mesh, for people.
    pub fn name(&self) -> &str {
        &self.says.name
    }

    /// When it is meant to hold.
    pub fn validity(&self) -> Validity {
        self.says.validity
    }

    /// Whether it is for a development mesh (protocol §9.3).
    pub fn is_dev(&self) -> bool {
        self.says.dev
    }

    /// The keys it names for a role, of which nobody said yet that they may speak for the mesh.
    pub fn keys(&self, role: Role) -> impl Iterator<Item = KeyBytes> {
        self.says.keys(role).iter().map(PublicKey::bytes)
    }

    /// How many keys of a role would have to sign together; 0 when it does not name the role.
    pub fn threshold(&self, role: Role) -> u8 {
        self.says.threshold(role)
    }

    /// The positions of the keys that signed it, among its own root keys.
    pub fn signers(&self) -> impl Iterator<Item = u8> {
        let own = |position: &u8| *position < PREDECESSOR;
        self.signers.iter().copied().filter(own)
    }

    /// The positions of the keys that are said to have signed it, among the root keys of the root
    /// before it.
    pub fn predecessors(&self) -> impl Iterator<Item = u8> {
        let signers = self.signers.iter();
        signers.filter_map(|position| position.checked_sub(PREDECESSOR))
    }
}

#[cfg(test)]
#[path = "unchained_tests.rs"]
mod tests;
