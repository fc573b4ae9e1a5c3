//! Following a served trust state (protocol §9.11): forward only, and only what is signed.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Admission;
use super::Bulletin;
use super::Part;
use super::PartEdition;
use super::Snapshot;
use super::TrustState;
use super::TrustTime;
use super::admit_root;
use super::check_root_of;
use super::snapshot::digest_of;
use crate::proto::rejection::Rejection;
use crate::proto::root::FileKind;
use crate::proto::root::TrustRoot;
use crate::proto::signing::ObjectId;

/// A reader of one mesh's trust state, which goes from one state to the next.
///
/// Whatever feeds it may lie: the bus, the store, a cache on disk. What it holds was signed, is
/// complete, and never goes back: the state it holds is its floor.
#[derive(Debug)]
pub struct Follower {
    root: Arc<TrustRoot>,
    /// The encoded roots after the first, which lead to the one that is held.
    later_roots: Vec<Bytes>,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    state: Arc<TrustState>,
    parts: Vec<Arc<Part>>,
    timestamp: Bytes,
    snapshot: Bytes,
}

/// What came of a bulletin.
#[derive(Debug)]
pub enum Progress {
    /// It is the newest known already.
    Unchanged,
    /// A newer timestamp or a newer state, which is held from now on.
    Advanced(Arc<TrustState>),
    /// These parts are needed before it can be told. Nothing changed.
    Missing(Vec<ObjectId>),
}

impl Follower {
    /// Begins with the first root of the mesh.
    ///
    /// # Errors
    ///
    /// As [`admit_root`].
    pub fn new(
        root: &Bytes,
        admission: Admission,
        pin: Option<ObjectId>,
    ) -> Result<Self, Rejection> {
        Ok(Self {
            root: Arc::new(admit_root(root, admission, pin)?),
            later_roots: Vec::new(),
            held: None,
        })
    }

    /// The newest root.
    pub fn root(&self) -> &Arc<TrustRoot> {
        &self.root
    }

    /// The encoded roots after the first, in order.
    pub fn later_roots(&self) -> &[Bytes] {
        &self.later_roots
    }

    /// The state that is held.
    pub fn state(&self) -> Option<&Arc<TrustState>> {
        self.held.as_ref().map(|held| &held.state)
    }

    /// The bulletin of the state that is held, without parts: what to keep as a floor.
    pub fn bulletin(&self) -> Option<Bulletin> {
        self.held.as_ref().map(|held| Bulletin {
            timestamp: held.timestamp.clone(),
            snapshot: held.snapshot.clone(),
            parts: Vec::new(),
        })
    }

    /// The files of the state that is held, by digest.
    pub fn files(&self) -> impl Iterator<Item = (ObjectId, Bytes)> {
        let parts = self.held.iter().flat_map(|held| &held.parts);
        parts.map(|part| (part.named().digest, part.file().clone()))
    }

    /// Goes on to the next root (protocol §9.8). The state that is held stays until one signed
    /// under the new root comes.
    ///
    /// # Errors
    ///
    /// As [`TrustRoot::succeed`]; nothing changed.
    pub fn succeed(&mut self, root: &Bytes) -> Result<(), Rejection> {
        self.root = Arc::new(self.root.succeed(root)?);
        self.later_roots.push(root.clone());
        Ok(())
    }

    /// Takes in a bulletin. `fetch` hands over files by digest; what it hands over is checked.
    ///
    /// # Errors
    ///
    /// Why the bulletin is no newer state of this mesh: [`Rejection::StaleState`] with
    /// [`Rollback`](crate::proto::rejection::StaleState::Rollback) or
    /// [`Equivocation`](crate::proto::rejection::StaleState::Equivocation) when it goes back or
    /// contradicts what is held; [`Rejection::UntrustedRoot`] when it was made under another root,
    /// perhaps one that follows; [`Rejection::BadSignature`] and others for what is not signed or
    /// not sound. Nothing changed.
    pub fn hear(
        &mut self,
        bulletin: &Bulletin,
        mut fetch: impl FnMut(&ObjectId) -> Option<Bytes>,
    ) -> Result<Progress, Rejection> {
        if self
            .held
            .as_ref()
            .is_some_and(|held| held.timestamp == bulletin.timestamp)
        {
            return Ok(Progress::Unchanged);
        }
        let root = self.root.clone();
        let time = TrustTime::open(&root, &bulletin.timestamp)?;
        // Before any part is asked for: those of another root would be of no use.
        check_root_of(&time, &root)?;
        // One timestamp of a root leads to no state of another.
        let same_root = |state: &TrustState| state.root().id() == root.id();
        if let Some(held) = &mut self.held {
            if let Some(newest) = held.state.time() {
                time.check_follows(newest)?;
            }
            if same_root(&held.state)
                && held
                    .state
                    .time()
                    .is_some_and(|t| t.snapshot() == time.snapshot())
            {
                held.state = Arc::new(held.state.at(time)?);
                held.timestamp = bulletin.timestamp.clone();
                return Ok(Progress::Advanced(held.state.clone()));
            }
        }
        let snapshot = Arc::new(Snapshot::open(&root, time.snapshot(), &bulletin.snapshot)?);
        let held = self.held.as_ref();
        let known: HashMap<PartEdition, &Arc<Part>> = held
            .filter(|held| same_root(&held.state))
            .map(|held| held.parts.iter().map(|part| (part.named(), part)).collect())
            .unwrap_or_default();
        let sent: HashMap<ObjectId, &Bytes> = bulletin
            .parts
            .iter()
            .map(|part| (digest_of(part), part))
            .collect();
        let (mut parts, mut missing) = (Vec::new(), Vec::new());
        for (key, named) in snapshot.parts() {
            if key.kind == FileKind::Books {
                continue;
            }
            if let Some(part) = known.get(named).filter(|part| part.key() == *key) {
                parts.push((*part).clone());
                continue;
            }
            let file = sent.get(&named.digest).copied().cloned();
            match file.or_else(|| fetch(&named.digest)) {
                Some(file) => parts.push(Arc::new(Part::open(&root, *key, *named, &file)?)),
                None => missing.push(named.digest),
            }
        }
        if !missing.is_empty() {
            return Ok(Progress::Missing(missing));
        }
        let before = held.map(|held| &*held.state);
        let state = TrustState::compose(root, time, snapshot, &parts, before)?;
        if let Some(before) = before {
            state.check_replaces(before)?;
        }
        let state = Arc::new(state);
        self.held = Some(Held {
            state: state.clone(),
            parts,
            timestamp: bulletin.timestamp.clone(),
            snapshot: bulletin.snapshot.clone(),
        });
        Ok(Progress::Advanced(state))
    }
}
