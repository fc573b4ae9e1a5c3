//! Batches whose signature verified, with what is known of their trees.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use bytes::Bytes;

use super::shares::Shares;
use crate::proto::batch::BatchClaims;
use crate::proto::batch::BatchProof;
use crate::proto::batch::KnownNodes;
use crate::proto::batch::Root;
use crate::proto::identity::KeyBytes;
use crate::proto::identity::Signature;
use crate::proto::limits::BATCH_CACHE;
use crate::proto::limits::BATCH_SHARE;
use crate::proto::rejection::Rejection;
use crate::proto::signing::Authentic;

/// A bounded memory of batches by their root, with a share for each sender.
///
/// A root names its batch: whoever signs it had the headers, which name their sender. One is met
/// again only with the very same body and signature.
#[derive(Debug)]
pub(super) struct Batches(Shares<Arc<KnownBatch>>);

/// A batch whose signature verified.
pub(super) struct KnownBatch {
    batch: Authentic<BatchClaims>,
    body: Bytes,
    signature: Signature,
    nodes: Mutex<KnownNodes>,
}

impl fmt::Debug for KnownBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KnownBatch").field(&self.batch).finish()
    }
}

impl Batches {
    pub(super) fn new() -> Self {
        Self(Shares::new(BATCH_CACHE, BATCH_SHARE))
    }

    /// The batch of a proof, if its signature verified before.
    pub(super) fn get(&self, proof: &BatchProof) -> Option<Arc<KnownBatch>> {
        let known = self.0.get(&proof.claims().root())?;
        proof.is_of(&known.body, &known.signature).then_some(known)
    }

    /// Remembers the batch of a proof, and how `header` stands in it.
    pub(super) fn insert(
        &self,
        sender: &KeyBytes,
        proof: &BatchProof,
        batch: Authentic<BatchClaims>,
        header: &[u8],
    ) {
        let mut nodes = KnownNodes::of(&batch);
        // It stands in it, or the batch would not be remembered; nodes only save hashing.
        let _ = proof.root_among(header, &mut nodes);
        let (body, signature) = proof.batch();
        let known = KnownBatch {
            batch,
            // A copy, so that the message it came with is not kept alive.
            body: Bytes::copy_from_slice(body),
            signature: *signature,
            nodes: Mutex::new(nodes),
        };
        self.0
            .insert(sender, proof.claims().root(), Arc::new(known));
    }
}

impl KnownBatch {
    pub(super) fn batch(&self) -> &Authentic<BatchClaims> {
        &self.batch
    }

    /// The root that follows from a header, which has to be that of this batch.
    pub(super) fn root_of(&self, proof: &BatchProof, header: &[u8]) -> Result<Root, Rejection> {
        // A panic while nodes are changed leaves fewer known, and each of them is true.
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        proof.root_among(header, &mut nodes)
    }
}
