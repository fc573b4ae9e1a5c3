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

mod tree;

use bytes::Bytes;

pub(crate) use self::tree::KnownNodes;
use self::tree::NODE_LEN;
use self::tree::Node;
pub(crate) use self::tree::Root;
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

impl BatchClaims {
    /// The root of its tree.
    pub fn root(&self) -> ObjectId {
        ObjectId(self.root)
    }

    /// Whether this is the root that was signed.
    pub(crate) fn has_root(&self, root: &Root) -> bool {
        root.is(&self.root)
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
        if path.len() != tree::path_len(index, size) * NODE_LEN {
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

    /// Whether it comes with this very batch, signature included.
    pub(crate) fn is_of(&self, body: &Bytes, signature: &Signature) -> bool {
        self.body == body && self.signature == *signature
    }

    /// The body of the batch, and its signature.
    pub(crate) fn batch(&self) -> (&Bytes, &Signature) {
        (&self.body, &self.signature)
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
        let root = Root::from(header, self.index, self.claims.size.into(), &self.path);
        if self.claims.has_root(&root) {
            Ok(root)
        } else {
            Err(Rejection::BadSignature { place: PLACE })
        }
    }

    /// [`root_of`](Self::root_of) in a batch of which some is known already: the same answer, and
    /// no hash that was computed before.
    pub(crate) fn root_among(
        &self,
        header: &[u8],
        known: &mut KnownNodes,
    ) -> Result<Root, Rejection> {
        known
            .root_from(header, self.index, &self.path)
            .filter(|root| self.claims.has_root(root))
            .ok_or(Rejection::BadSignature { place: PLACE })
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
        let leaves: Vec<Node> = headers.into_iter().map(tree::leaf).collect();
        let size = leaves.len();
        if !(1..=BATCH_MAX).contains(&size) {
            return Err(Rejection::TooLarge {
                place: PLACE,
                limit: BATCH_MAX as u32,
            });
        }
        let levels = tree::levels(leaves);
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
        let mut path = [0; BATCH_PATH_MAX * NODE_LEN];
        let (mut at, mut len) = (index, 0);
        for level in &self.levels {
            if let Some(neighbour) = level.get(at ^ 1) {
                path[len..len + NODE_LEN].copy_from_slice(neighbour);
                len += NODE_LEN;
            }
            at /= 2;
        }
        let path = bin(&path[..len]);
        let proof = (bin(&self.body), bin(&self.signature.0), index, path);
        wire::encode_into(out, &proof);
    }

    /// At most so many bytes has a proof.
    pub(crate) const PROOF_MAX: usize =
        BATCH_BODY_MAX + SIGNATURE_LEN + BATCH_PATH_MAX * NODE_LEN + 16;
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
        tree::join(&tree_hash(left), &tree_hash(right))
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
            let leaves: Vec<Node> = headers.iter().map(|header| tree::leaf(header)).collect();
            let levels = tree::levels(leaves.clone());
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

    /// Whatever was met before, and in whichever order: with what is known a proof is judged as it is
    /// without.
    #[test]
    fn what_is_known_changes_no_answer() {
        for count in (1..=17).chain([63, 255, 256]) {
            let (headers, proofs) = proofs(count);
            let key = SigningKey::from_seed(&[7; 32]).unwrap().public();
            let mut known = KnownNodes::of(&proofs[0].authenticate(&key).unwrap());
            // Every index once, far apart, and then all again.
            let order = (0..2 * count).map(|n| n * 101 % count);
            for index in order {
                let (header, proof) = (&headers[index], &proofs[index]);
                let other = &headers[(index + 1) % count];
                for flipped in (0..proof.path.len()).step_by(NODE_LEN / 2) {
                    let mut damaged = proof.clone();
                    let mut path = damaged.path.to_vec();
                    path[flipped] ^= 1;
                    damaged.path = path.into();
                    assert!(damaged.root_of(header).is_err());
                    let found = damaged.root_among(header, &mut known);
                    assert!(found.is_err(), "{count} {index} {flipped}");
                }
                let found = proof.root_among(other, &mut known);
                assert_eq!(found.is_ok(), proof.root_of(other).is_ok());
                proof.root_among(header, &mut known).unwrap();
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
