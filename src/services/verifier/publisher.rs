//! Publication of a served trust state: to the store, which is read after a silence, and as a push
//! to everybody who listens (protocol §9.12).
//!
//! Parts are written before the head that names them. The head is written by compare-and-set: of
//! two writers one finds out, before anybody has seen what it signed.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::bus::Bus;
use crate::bus::Outgoing;
use crate::bus::PublishError;
use crate::bus::Subject;
use crate::bus::store::Expect;
use crate::bus::store::Store;
use crate::bus::store::StoreError;
use crate::client::feed::HEAD;
use crate::client::feed::bulletin_subject;
use crate::client::feed::part_key;
use crate::client::feed::root_key;
use crate::client::feed::trust_bucket;
use crate::proto::rejection::Rejection;
use crate::proto::root::TrustRoot;
use crate::proto::signing::ObjectId;
use crate::proto::trust::Bulletin;
use crate::proto::trust::PARTS_MAX;
use crate::proto::trust::Snapshot;
use crate::proto::trust::TrustTime;
use crate::services::authority::Authority;
use crate::services::authority::AuthorityError;

/// Parts whose presence in the store is looked at with every publication.
const LOOKS: usize = 4;

/// Publications after which parts that no head names any more are removed from the store: readers
/// that are behind by as many have read a newer head.
const SWEEP_EVERY: u32 = 64;

/// Why a state was not published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublicationError {
    /// Another writer with the same keys is at work.
    #[error("another verifier service of this mesh is at work")]
    Superseded,
    /// The store cannot be used.
    #[error("the store of the trust state: {0}")]
    Store(#[from] StoreError),
    /// The push was not taken; what it says is in the store.
    #[error("the bus: {0}")]
    Bus(#[from] PublishError),
    /// The authority could not sign or take over.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// The writer of one mesh's trust state.
#[derive(Debug)]
pub(crate) struct Publisher {
    bus: Arc<dyn Bus>,
    subject: Subject,
    store: Arc<dyn Store>,
    head: Option<u64>,
    /// Parts that are in the store, as far as known.
    written: HashSet<ObjectId>,
    roots: u32,
    looked: usize,
    published: u32,
}

/// What a store holds.
pub(crate) struct Found {
    pub(crate) bulletin: Bulletin,
    pub(crate) parts: HashMap<ObjectId, Bytes>,
    /// The epoch of its snapshot.
    pub(crate) epoch: u64,
    /// The epoch of its timestamp.
    pub(crate) time: u64,
}

impl Publisher {
    /// Opens the store of a mesh, and makes it where there is none.
    pub(crate) async fn open(
        bus: Arc<dyn Bus>,
        prefix: &str,
        authority: &Authority,
    ) -> Result<Self, PublicationError> {
        let store = bus.store(&trust_bucket(authority.mesh())).await?;
        Ok(Self {
            subject: Subject::from(bulletin_subject(prefix)),
            bus,
            store,
            head: None,
            written: HashSet::new(),
            roots: 0,
            looked: 0,
            published: 0,
        })
    }

    /// What the store holds, when it is signed by this mesh and whole. What is not is as good as
    /// nothing, and will be overwritten.
    pub(crate) async fn find(
        &mut self,
        authority: &Authority,
    ) -> Result<Option<Found>, PublicationError> {
        let entry = self.store.get(HEAD).await?;
        self.head = entry.as_ref().map(|entry| entry.revision);
        let root = authority.current_root().map_err(AuthorityError::from)?;
        let Some((bulletin, time)) = entry.and_then(|entry| signed(&root, &entry.value)) else {
            return Ok(None);
        };
        let snapshot = Snapshot::open(&root, time.snapshot(), &bulletin.snapshot);
        let Ok(snapshot) = snapshot else {
            return Ok(None);
        };
        let mut parts = HashMap::new();
        for named in snapshot.parts().values() {
            let Some(part) = self.store.get(&part_key(&named.digest)).await? else {
                return Ok(None);
            };
            parts.insert(named.digest, part.value);
        }
        Ok(Some(Found {
            bulletin,
            parts,
            epoch: time.snapshot().epoch,
            time: time.epoch(),
        }))
    }

    /// Publishes what the authority signed last.
    ///
    /// # Errors
    ///
    /// [`PublicationError::Superseded`] when another writer went on meanwhile: nothing of this
    /// state was seen by anybody.
    pub(crate) async fn publish(&mut self, authority: &Authority) -> Result<(), PublicationError> {
        let Some(bulletin) = authority.bulletin().cloned() else {
            return Ok(());
        };
        let parts = authority.parts();
        self.look(&parts).await?;
        loop {
            self.write_parts(authority, &parts).await?;
            let expect = self.head.map_or(Expect::Absent, Expect::Revision);
            let mut head = bulletin.clone();
            head.parts.clear();
            match self.store.put(HEAD, head.to_bytes(), expect).await {
                Ok(revision) => {
                    self.head = Some(revision);
                    break;
                }
                Err(StoreError::Conflict) => self.settle_conflict(authority, &bulletin).await?,
                Err(error) => return Err(error.into()),
            }
        }
        self.push(&bulletin).await?;
        self.published = self.published.wrapping_add(1);
        if self.published.is_multiple_of(SWEEP_EVERY) {
            self.sweep(&parts).await?;
        }
        Ok(())
    }

    async fn push(&self, bulletin: &Bulletin) -> Result<(), PublicationError> {
        let push = Outgoing::new(self.subject.clone(), bulletin.to_bytes());
        Ok(self.bus.publish(push).await?)
    }

    /// The head is not the one we wrote last: the bucket was emptied, rolled back or written to by
    /// somebody without keys, which is repaired, or by a writer with keys, who is left alone.
    async fn settle_conflict(
        &mut self,
        authority: &Authority,
        ours: &Bulletin,
    ) -> Result<(), PublicationError> {
        let entry = self.store.get(HEAD).await?;
        let root = authority.current_root().map_err(AuthorityError::from)?;
        if let Some(entry) = &entry
            && let Some((bulletin, theirs)) = signed(&root, &entry.value)
            && bulletin != *ours
            && is_newer(&root, &theirs, ours)
        {
            return Err(PublicationError::Superseded);
        }
        tracing::warn!(
            "the store of the trust state was changed by somebody else; writing it again"
        );
        self.head = entry.map(|entry| entry.revision);
        self.written.clear();
        self.roots = 0;
        Ok(())
    }

    async fn write_parts(
        &mut self,
        authority: &Authority,
        parts: &HashMap<ObjectId, Bytes>,
    ) -> Result<(), PublicationError> {
        for (version, root) in (1u32..).zip(authority.roots()).skip(self.roots as usize) {
            self.store
                .put(&root_key(version), root, Expect::Any)
                .await?;
            self.roots = version;
        }
        for (digest, part) in parts {
            if !self.written.contains(digest) {
                // Whatever lies there under the name of this content is not this content.
                self.store
                    .put(&part_key(digest), part.clone(), Expect::Any)
                    .await?;
                self.written.insert(*digest);
            }
        }
        Ok(())
    }

    /// Looks whether some of the parts are still what they were; each gets its turn.
    async fn look(&mut self, parts: &HashMap<ObjectId, Bytes>) -> Result<(), PublicationError> {
        let mut digests: Vec<_> = parts.keys().filter(|d| self.written.contains(d)).collect();
        digests.sort_unstable();
        let turn = digests
            .iter()
            .cycle()
            .skip(self.looked % digests.len().max(1));
        for digest in turn.take(LOOKS.min(digests.len())) {
            let entry = self.store.get(&part_key(digest)).await;
            if let Err(gone @ StoreError::Unreachable(_)) = entry {
                // Nothing else would be answered either, each after its time.
                return Err(gone.into());
            }
            let intact =
                matches!(&entry, Ok(Some(entry)) if parts.get(digest) == Some(&entry.value));
            if !intact {
                self.written.remove(*digest);
            }
        }
        self.looked = self.looked.wrapping_add(LOOKS);
        Ok(())
    }

    async fn sweep(&mut self, parts: &HashMap<ObjectId, Bytes>) -> Result<(), PublicationError> {
        let kept: HashSet<_> = parts.keys().map(part_key).collect();
        for key in self.store.keys("part.", 4 * PARTS_MAX).await? {
            if !kept.contains(&key) {
                self.store.remove(&key).await?;
            }
        }
        self.written.retain(|digest| parts.contains_key(digest));
        Ok(())
    }
}

/// A bulletin whose timestamp is signed under a root.
fn signed(root: &TrustRoot, bytes: &Bytes) -> Option<(Bulletin, TrustTime)> {
    let bulletin = Bulletin::parse(bytes).ok()?;
    let time = TrustTime::open(root, &bulletin.timestamp).ok()?;
    Some((bulletin, time))
}

/// Whether a head was signed by another writer that is no further behind than we are. What we
/// signed ourselves before, and somebody put back, is not.
fn is_newer(root: &TrustRoot, theirs: &TrustTime, ours: &Bulletin) -> bool {
    let ours: Result<_, Rejection> = TrustTime::open(root, &ours.timestamp);
    ours.is_ok_and(|ours| {
        let (a, b) = (theirs.snapshot(), ours.snapshot());
        theirs.epoch() >= ours.epoch() || a.epoch >= b.epoch && a.digest != b.digest
    })
}
