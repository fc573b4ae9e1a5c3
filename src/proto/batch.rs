//! Batches: one signature over many envelopes, each of which can be proved alone (protocol §12.5).
//!
//! ```text
//! leaf     SHA-256(00 ‖ tag "envelope" ‖ header)          node   SHA-256(01 ‖ left ‖ right)
//! body     [v, mesh bin16, key bin32, n, root bin32, ext]   signed under the tag "batch"
//! in the frame, instead of a signature     [body bin, signature bin64, index, path bin]
//! ```
//!
//! The tree is that of RFC 9162 §2.1.1: level by level, neighbours are joined, and a node without a
//! neighbour moves up as it is. The path of a leaf holds the neighbours on its way to the root, so
//! its length follows from index and size. Leaves and nodes are hashed apart, so that no node can
//! be taken for a header, and a leaf is never an object id.
//!
//! What a batch vouches for is that its signer made each header in it, and nothing else: every
//! other check is made for every message, as if it had been signed alone.

use bytes::Bytes;
use sha2::Digest as _;
use sha2::Sha256;

use super::identity::KeyBytes;
use super::identity::PublicKey;
use super::identity::SIGNATURE_LEN;
use super::identity::Signature;
use super::identity::SigningKey;
use super::limits::BATCH_BODY_MAX;
use super::limits::BATCH_MAX;
use super::limits::BATCH_PATH_MAX;
use super::names::OBJECT_VERSION;
use super::names::Tag;
use super::rejection::KeyMismatch;
use super::rejection::Malformed;
use super::rejection::Place;
use super::rejection::Rejection;
use super::rejection::UntrustedRoot;
use super::signing;
use super::signing::Authentic;
use super::signing::MeshId;
use super::signing::ObjectId;
use super::wire;
use super::wire::Reader;
use super::wire::bin;

/// A hash in a tree.
pub(crate) type Node = [u8; NODE_LEN];

/// Bytes of a node.
pub(crate) const NODE_LEN: usize = 32;

const PLACE: Place = Place::Batch;

/// What a batch says.
///
/// By itself it proves nothing; inside an [`Authentic`] its key signed it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BatchClaims {
    /// The mesh.
    pub mesh: MeshId,
    /// The key that signed it: that of the last holder of the chain of every envelope in it.
    pub key: KeyBytes,
    /// How many envelopes are in it: 1 to [`BATCH_MAX`].
    pub size: u16,
    root: Node,
}

/// A root that was computed from a header and its path.
pub(crate) struct Root(Node);

impl BatchClaims {
    /// The root of its tree.
    pub fn root(&self) -> ObjectId {
        ObjectId(self.root)
    }

    /// Whether this is the root that was signed.
    pub(crate) fn has_root(&self, root: &Root) -> bool {
        self.root == root.0
    }

    fn encode(&self) -> Vec<u8> {
        let ext: [(); 0] = [];
        wire::encode(&(
            OBJECT_VERSION,
            bin(&self.mesh.0),
            bin(&self.key.0),
            self.size,
            bin(&self.root),
            &ext[..],
        ))
    }

    fn parse(body: &Bytes) -> Result<Self, Rejection> {
        let mut r = Reader::new(body, PLACE);
        r.array_of(6)?;
        let found = r.uint()?;
        if found != OBJECT_VERSION {
            return Err(Rejection::UnsupportedVersion {
                place: PLACE,
                found,
            });
        }
        let (mesh, key, size) = (MeshId(r.bin_of()?), r.key()?, r.number_of::<u16>()?);
        if !(1..=BATCH_MAX).contains(&usize::from(size)) {
            return Err(r.fault(Malformed::OutOfRange));
        }
        let claims = Self {
            mesh,
            key,
            size,
            root: r.bin_of()?,
        };
        if r.array()? != 0 {
            return Err(r.fault(Malformed::Extension));
        }
        r.finish()?;
        Ok(claims)
    }
}

/// The proof that came with an envelope: its batch, and its place in it. Nothing is checked yet.
#[derive(Clone, Debug)]
pub struct BatchProof {
    claims: BatchClaims,
    body: Bytes,
    signature: Signature,
    index: usize,
    path: Bytes,
}

impl BatchProof {
    /// Reads `[body bin, signature bin64, index, path bin]`. The path has exactly the length that
    /// index and size dictate.
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Rejection> {
        r.array_of(4)?;
        let body = r.bin(BATCH_BODY_MAX)?;
        let signature = Signature(r.bin_of()?);
        let index = usize::from(r.number_of::<u8>()?);
        let path = r.bin(BATCH_PATH_MAX * NODE_LEN)?;
        let claims = BatchClaims::parse(&body)?;
        let size = usize::from(claims.size);
        let malformed = |reason| Rejection::Malformed {
            place: PLACE,
            reason,
        };
        if index >= size {
            return Err(malformed(Malformed::OutOfRange));
        }
        if path.len() != path_len(index, size) * NODE_LEN {
            return Err(malformed(Malformed::WrongLength));
        }
        Ok(Self {
            claims,
            body,
            signature,
            index,
            path,
        })
    }

    /// What the batch says.
    pub fn claims(&self) -> &BatchClaims {
        &self.claims
    }

    /// Which of its envelopes this is, counted from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many hashes lead from this envelope to the root.
    pub fn path_len(&self) -> usize {
        self.path.len() / NODE_LEN
    }

    /// What identifies the batch to a cache: body and signature together.
    pub(crate) fn digest(&self) -> ObjectId {
        let mut hash = Sha256::new();
        hash.update(Tag::Batch.bytes());
        hash.update(self.signature.0);
        hash.update(&self.body);
        ObjectId(hash.finalize().into())
    }

    /// Checks that the batch is of this mesh and signer.
    pub(crate) fn check_signer(&self, mesh: MeshId, signer: &KeyBytes) -> Result<(), Rejection> {
        if self.claims.mesh != mesh {
            return Err(Rejection::UntrustedRoot {
                place: PLACE,
                reason: UntrustedRoot::OtherMesh,
            });
        }
        if self.claims.key != *signer {
            return Err(Rejection::KeyMismatch {
                place: PLACE,
                reason: KeyMismatch::OtherAgent,
            });
        }
        Ok(())
    }

    /// The root that follows from a header in the place the proof gives it. It has to be the one
    /// the batch names.
    pub(crate) fn root_of(&self, header: &[u8]) -> Result<Root, Rejection> {
        let (mut index, mut size) = (self.index, usize::from(self.claims.size));
        let mut node = leaf(header);
        let mut path = self.path.chunks_exact(NODE_LEN);
        while size > 1 {
            if index ^ 1 < size {
                // `read` made sure that there are as many.
                let neighbour = path.next().unwrap_or_default();
                node = if index & 1 == 0 {
                    join(&node, neighbour)
                } else {
                    join(neighbour, &node)
                };
            }
            (index, size) = (index / 2, size.div_ceil(2));
        }
        let root = Root(node);
        if self.claims.has_root(&root) {
            Ok(root)
        } else {
            Err(Rejection::BadSignature { place: PLACE })
        }
    }

    /// Checks the signature of the batch.
    pub(crate) fn authenticate(
        &self,
        key: &PublicKey,
    ) -> Result<Authentic<BatchClaims>, Rejection> {
        let claims = self.claims.clone();
        Authentic::check(Tag::Batch, &self.body, claims, key, &self.signature, PLACE)
    }
}

/// Headers that share one signature.
#[derive(Debug)]
pub(crate) struct SignedBatch {
    body: Vec<u8>,
    signature: Signature,
    /// Leaves first, the root last.
    levels: Vec<Vec<Node>>,
}

impl SignedBatch {
    /// Signs headers together: 1 to [`BATCH_MAX`] of them, all made for `key`.
    pub(crate) fn sign<'a>(
        headers: impl IntoIterator<Item = &'a [u8]>,
        mesh: MeshId,
        key: &SigningKey,
    ) -> Result<Self, Rejection> {
        let leaves: Vec<Node> = headers.into_iter().map(leaf).collect();
        let size = leaves.len();
        if !(1..=BATCH_MAX).contains(&size) {
            return Err(Rejection::TooLarge {
                place: PLACE,
                limit: BATCH_MAX as u32,
            });
        }
        let levels = levels(leaves);
        let claims = BatchClaims {
            mesh,
            key: key.public().bytes(),
            size: size as u16,
            // The last level of a tree that is not empty has one node.
            root: levels[levels.len() - 1][0],
        };
        let body = claims.encode();
        let signature = signing::sign(Tag::Batch, &body, key);
        Ok(Self {
            body,
            signature,
            levels,
        })
    }

    /// Appends the proof of the header at `index`, as it stands in the frame.
    pub(crate) fn write_proof(&self, index: usize, out: &mut Vec<u8>) {
        let mut path = Vec::with_capacity(BATCH_PATH_MAX * NODE_LEN);
        let mut at = index;
        for level in &self.levels {
            if let Some(neighbour) = level.get(at ^ 1) {
                path.extend_from_slice(neighbour);
            }
            at /= 2;
        }
        let proof = (bin(&self.body), bin(&self.signature.0), index, bin(&path));
        wire::encode_into(out, &proof);
    }

    /// At most so many bytes has a proof.
    pub(crate) const PROOF_MAX: usize =
        BATCH_BODY_MAX + SIGNATURE_LEN + BATCH_PATH_MAX * NODE_LEN + 16;
}

/// Every level of the tree, leaves first.
fn levels(leaves: Vec<Node>) -> Vec<Vec<Node>> {
    let mut levels = vec![leaves];
    while let Some(level) = levels.last().filter(|level| level.len() > 1) {
        let above = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => join(left, right),
                // Without a neighbour a node moves up as it is.
                _ => pair[0],
            })
            .collect();
        levels.push(above);
    }
    levels
}

/// How many neighbours a leaf has on its way to the root.
fn path_len(mut index: usize, mut size: usize) -> usize {
    let mut len = 0;
    while size > 1 {
        len += usize::from(index ^ 1 < size);
        (index, size) = (index / 2, size.div_ceil(2));
    }
    len
}

fn leaf(header: &[u8]) -> Node {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(Tag::Envelope.bytes());
    hash.update(header);
    hash.finalize().into()
}

fn join(left: &[u8], right: &[u8]) -> Node {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9162 §2.1.1, as it is written there.
    fn tree_hash(leaves: &[Node]) -> Node {
        if leaves.len() == 1 {
            return leaves[0];
        }
        let split = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(split);
        join(&tree_hash(left), &tree_hash(right))
    }

    fn headers(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|n| n.to_be_bytes().to_vec()).collect()
    }

    fn proofs(count: usize) -> (Vec<Vec<u8>>, Vec<BatchProof>) {
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        let headers = headers(count);
        let slices = headers.iter().map(Vec::as_slice);
        let batch = SignedBatch::sign(slices, MeshId([1; 16]), &key).unwrap();
        let proof = |index| {
            let mut bytes = Vec::new();
            batch.write_proof(index, &mut bytes);
            assert!(bytes.len() <= SignedBatch::PROOF_MAX);
            let bytes = Bytes::from(bytes);
            let mut r = Reader::new(&bytes, PLACE);
            let proof = BatchProof::read(&mut r).unwrap();
            r.finish().unwrap();
            proof
        };
        let proofs = (0..count).map(proof).collect();
        (headers, proofs)
    }

    #[test]
    fn the_tree_is_that_of_rfc_9162() {
        for count in (1..=17).chain([255, 256]) {
            let headers = headers(count);
            let leaves: Vec<Node> = headers.iter().map(|header| leaf(header)).collect();
            let levels = levels(leaves.clone());
            assert_eq!(levels.last().unwrap()[..], [tree_hash(&leaves)], "{count}");
        }
    }

    #[test]
    fn every_header_is_proved_in_its_place_and_in_no_other() {
        for count in (1..=17).chain([64, 255, 256]) {
            let (headers, proofs) = proofs(count);
            for (index, proof) in proofs.iter().enumerate() {
                proof.root_of(&headers[index]).unwrap();
                let other = &headers[(index + 1) % count];
                assert_eq!(proof.root_of(other).is_ok(), count == 1, "{count} {index}");
            }
        }
    }

    #[test]
    fn a_batch_is_of_one_signer_and_mesh() {
        let (_, proofs) = proofs(3);
        let key = SigningKey::from_seed(&[7; 32]).unwrap().public();
        let other = SigningKey::from_seed(&[8; 32]).unwrap().public();
        let proof = &proofs[0];
        proof.check_signer(MeshId([1; 16]), &key.bytes()).unwrap();
        assert!(proof.check_signer(MeshId([2; 16]), &key.bytes()).is_err());
        assert!(proof.check_signer(MeshId([1; 16]), &other.bytes()).is_err());
        proof.authenticate(&key).unwrap();
        assert!(proof.authenticate(&other).is_err());
    }

    #[test]
    fn a_batch_has_1_to_256_headers() {
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        for count in [0, 257] {
            let headers = headers(count);
            let slices = headers.iter().map(Vec::as_slice);
            assert!(SignedBatch::sign(slices, MeshId([1; 16]), &key).is_err());
        }
    }
}
