//! The trust state (protocol §9): everything a decision depends on besides the message, as one
//! immutable value.
//!
//! A [`TrustState`] is assembled from signed files and never changes; a newer one replaces it as a
//! whole, so that no decision mixes two states. Missing state never permits: a mesh without a
//! policy denies everything, an agent without a certificate is unknown, one without a score has
//! the lowest.
//!
//! ```text
//! static   TrustFiles ──assemble──▶ TrustState                     files' windows bound it
//! served   timestamp ▶ snapshot ▶ parts ──compose──▶ TrustState    the timestamp's age does, too
//! ```

mod bulletin;
mod files;
mod follower;
mod part;
mod registry;
mod snapshot;
mod unverified;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::certificate::Certificate;
use super::chain::Anchors;
use super::identity::AgentId;
use super::identity::KeyBytes;
use super::identity::PublicKey;
use super::policy::Policy;
use super::rejection::Place;
use super::rejection::Rejection;
use super::rejection::StaleState;
use super::rejection::UntrustedRoot;
use super::revocation::RevocationSet;
use super::root::FileKind;
use super::root::Role;
use super::root::TrustRoot;
use super::scope::Action;
use super::signing::MeshId;
use super::signing::ObjectId;
use super::time::ClockSkew;
use super::time::Timestamp;
use super::time::Validity;

use self::files::Content;
use self::files::Opened;
use self::part::PartContent;
use self::registry::Registry;
use self::snapshot::INCOMPLETE;

pub use self::bulletin::BULLETIN_MAX;
pub use self::bulletin::Bulletin;
pub use self::files::Extent;
pub use self::files::FileDraft;
pub(crate) use self::files::registry_entries;
pub use self::follower::Follower;
pub use self::follower::Progress;
pub use self::part::Part;
pub use self::registry::REGISTRY_SHARDS_MAX;
pub use self::registry::shard_of;
pub use self::snapshot::PARTS_MAX;
pub use self::snapshot::PartEdition;
pub use self::snapshot::PartKey;
pub use self::snapshot::Purpose;
pub use self::snapshot::Snapshot;
pub use self::snapshot::TIMESTAMP_EVERY_MS;
pub use self::snapshot::TIMESTAMP_TTL_MS;
pub use self::snapshot::TrustTime;
pub use self::snapshot::TrustTimeDraft;
pub use self::snapshot::digest_of;
pub use self::unverified::FileContent;
pub use self::unverified::UnverifiedFile;

/// The signed files a trust state is made of (protocol §9.1), unchecked, each at most 64 MiB.
#[derive(Clone, Debug)]
pub struct TrustFiles {
    /// The trust root.
    pub root: Bytes,
    /// The registry of agent certificates.
    pub registry: Bytes,
    /// The policy.
    pub policy: Bytes,
    /// The revocation list.
    pub revocations: Bytes,
    /// Trust scores, when the mesh keeps any.
    pub scores: Option<Bytes>,
}

/// Which trust roots are acceptable (protocol §9.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    /// Only ordinary meshes.
    Production,
    /// Development meshes as well: their keys lie together on one machine.
    DangerDevelopment,
}

/// Epoch and window of one file. It replaces a file whose epoch is not higher (protocol §9.6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Edition {
    /// Number of the file, never lower than that of the one it replaces.
    pub epoch: u64,
    /// When the file holds, at most 30 days long.
    pub validity: Validity,
}

/// Epochs of registry, revocations and policy, as named in envelopes and audit events (protocol
/// §12.4, §17.4).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Epochs {
    /// Of the registry.
    pub registry: u64,
    /// Of the revocation list.
    pub revocations: u64,
    /// Of the policy.
    pub policy: u64,
}

/// One immutable state of trust.
///
/// Holding one tells you that every file in it was signed by the threshold of the role that must
/// sign it, that every certificate was signed by a registrar and proved possession, and that no
/// key belongs to two agents. It does not tell you that the files hold now: see
/// [`check_fresh`](Self::check_fresh).
///
/// ```
/// use trustmesh::proto::trust::Admission;
/// use trustmesh::proto::trust::TrustState;
/// use trustmesh::services::authority::Authority;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut mesh = Authority::dev("demo")?;
/// mesh.agent("planner", ["req:tools.>"])?;
/// let (files, pin) = (mesh.trust_files()?, Some(mesh.root_id()));
///
/// let state = TrustState::assemble(&files, Admission::DangerDevelopment, pin)?;
/// assert_eq!(state.certificates().count(), 1);
/// assert!(TrustState::assemble(&files, Admission::Production, pin).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TrustState {
    root: Arc<TrustRoot>,
    issuers: Arc<HashMap<KeyBytes, PublicKey>>,
    registry: Registry,
    policy: Arc<Policy>,
    revocations: RevocationSet,
    /// In one or several tables, none of which has an agent of another.
    scores: Vec<Arc<HashMap<AgentId, u16>>>,
    editions: Editions,
    served: Option<Served>,
}

/// The newest epoch of each kind of file, and the window in which all of its files hold.
#[derive(Clone, Copy, Debug)]
struct Editions {
    registry: Edition,
    policy: Edition,
    revocations: Edition,
    scores: Option<Edition>,
}

/// What a served state was composed from.
#[derive(Clone, Debug)]
struct Served {
    time: TrustTime,
    snapshot: Arc<Snapshot>,
}

impl TrustState {
    /// Checks the files of a static mesh and puts them together (protocol §9.5).
    ///
    /// `pin` is the id of the one trust root that is accepted; without it, whoever could write the
    /// root file is trusted. Windows are not looked at.
    ///
    /// # Errors
    ///
    /// The first fault of any file, since a state is never assembled from part of them:
    /// [`Rejection::UntrustedRoot`] for a root that is not the pinned one or not admitted, a file
    /// of another mesh or with too few signatures; [`Rejection::Malformed`],
    /// [`Rejection::TooLarge`], [`Rejection::UnsupportedVersion`], [`Rejection::BadSignature`],
    /// [`Rejection::WeakKey`].
    pub fn assemble(
        files: &TrustFiles,
        admission: Admission,
        pin: Option<ObjectId>,
    ) -> Result<Self, Rejection> {
        Self::assemble_naming(files, admission, pin).map_err(|(_, rejection)| rejection)
    }

    /// [`assemble`](Self::assemble), naming the file at fault.
    pub(crate) fn assemble_naming(
        files: &TrustFiles,
        admission: Admission,
        pin: Option<ObjectId>,
    ) -> Result<Self, (FileKind, Rejection)> {
        let root = admit_root(&files.root, admission, pin).map_err(|why| (FileKind::Root, why))?;
        Self::assemble_under(root, files)
    }

    /// [`assemble`](Self::assemble), under a root that was admitted before, or one that follows it.
    pub(crate) fn assemble_under(
        root: TrustRoot,
        files: &TrustFiles,
    ) -> Result<Self, (FileKind, Rejection)> {
        let fault = |kind| move |rejection| (kind, rejection);
        let open =
            |kind, file: &Bytes| Opened::whole(&root, kind, file).map_err(|error| (kind, error));
        let registry = open(FileKind::Registry, &files.registry)?;
        let policy = open(FileKind::Policy, &files.policy)?;
        let revocations = open(FileKind::Revocations, &files.revocations)?;
        let scores = files.scores.as_ref();
        let scores = scores
            .map(|file| open(FileKind::Scores, file))
            .transpose()?;
        let editions = Editions {
            registry: registry.edition,
            policy: policy.edition,
            revocations: revocations.edition,
            scores: scores.as_ref().map(|scores| scores.edition),
        };
        let (Content::Registry(shard), Content::Policy(policy), Content::Revocations(revocations)) =
            (registry.content, policy.content, revocations.content)
        else {
            // Each was opened as what it is.
            return Err((FileKind::Registry, INCOMPLETE));
        };
        let scores = match scores.map(|scores| scores.content) {
            Some(Content::Scores(scores)) => vec![Arc::new(scores)],
            _ => Vec::new(),
        };
        shard.check_distinct().map_err(fault(FileKind::Registry))?;
        Ok(Self {
            issuers: issuers(&root),
            root: Arc::new(root),
            registry: Registry::of(vec![Arc::new(shard)]),
            policy: Arc::new(policy),
            revocations,
            scores,
            editions,
            served: None,
        })
    }

    /// Puts the parts of a snapshot together to the state of a served mesh (protocol §9.9).
    ///
    /// `parts` are those of the snapshot, in any order; `before` is the state that this one will
    /// follow, with which it shares what did not change. Certificates are verified when they are
    /// first looked up. Windows are not looked at.
    ///
    /// # Errors
    ///
    /// [`Rejection::StaleState`] with [`Incomplete`](StaleState::Incomplete) when a part is
    /// missing, is not the one the snapshot names, or does not fit to its neighbours;
    /// [`Rejection::UntrustedRoot`] when the timestamp names another root.
    pub fn compose(
        root: Arc<TrustRoot>,
        time: TrustTime,
        snapshot: Arc<Snapshot>,
        parts: &[Arc<Part>],
        before: Option<&Self>,
    ) -> Result<Self, Rejection> {
        check_root_of(&time, &root)?;
        if snapshot.edition().epoch != time.snapshot().epoch {
            return Err(INCOMPLETE);
        }
        let parts = Parts::of(&snapshot, parts)?;
        let policy = match parts.only(FileKind::Policy)?.content {
            PartContent::Policy(ref policy) => policy.clone(),
            _ => return Err(INCOMPLETE),
        };
        let mut shards = Vec::new();
        for part in parts.complete(FileKind::Registry)? {
            match &part.content {
                PartContent::Registry(shard) => shards.push(shard.clone()),
                _ => return Err(INCOMPLETE),
            }
        }
        let mut lists = Vec::new();
        for part in parts.contiguous(FileKind::Revocations)? {
            match &part.content {
                PartContent::Revocations(set) => lists.push(set.clone()),
                _ => return Err(INCOMPLETE),
            }
        }
        let mut scores = Vec::new();
        if snapshot.count(FileKind::Scores) > 0 {
            for part in parts.complete(FileKind::Scores)? {
                match &part.content {
                    PartContent::Scores(table) => scores.push(table.clone()),
                    _ => return Err(INCOMPLETE),
                }
            }
        }
        let shared = before.filter(|before| before.has_settled_as(&snapshot));
        let revocations = RevocationSet::join(&lists, shared.map(|before| &before.revocations));
        let editions = Editions {
            registry: parts.edition(FileKind::Registry)?,
            policy: parts.edition(FileKind::Policy)?,
            revocations: parts.edition(FileKind::Revocations)?,
            scores: parts.edition(FileKind::Scores).ok(),
        };
        Ok(Self {
            issuers: issuers(&root),
            root,
            registry: Registry::of(shards),
            policy,
            revocations,
            scores,
            editions,
            served: Some(Served { time, snapshot }),
        })
    }

    /// The same state, as of a newer timestamp that names the same snapshot and root.
    ///
    /// # Errors
    ///
    /// [`Rejection::StaleState`] when the timestamp names another snapshot,
    /// [`Rejection::UntrustedRoot`] for another root.
    pub fn at(&self, time: TrustTime) -> Result<Self, Rejection> {
        check_root_of(&time, &self.root)?;
        let served = self.served.as_ref().ok_or(INCOMPLETE)?;
        if served.time.snapshot() != time.snapshot() {
            return Err(INCOMPLETE);
        }
        let snapshot = served.snapshot.clone();
        Ok(Self {
            served: Some(Served { time, snapshot }),
            ..self.clone()
        })
    }

    /// Whether a snapshot has the settled revocations of this state, and as many.
    fn has_settled_as(&self, snapshot: &Snapshot) -> bool {
        let Some(served) = &self.served else {
            return false;
        };
        let settled = |snapshot: &Snapshot| -> Vec<_> {
            let mut list: Vec<_> = snapshot.of_kind(FileKind::Revocations).collect();
            list.pop();
            list
        };
        settled(&served.snapshot) == settled(snapshot)
    }

    /// The newest timestamp of a served state; `None` for a static one.
    pub fn time(&self) -> Option<&TrustTime> {
        self.served.as_ref().map(|served| &served.time)
    }

    /// The snapshot of a served state; `None` for a static one.
    pub fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.served.as_ref().map(|served| &served.snapshot)
    }

    /// The trust root all other files were checked against.
    pub fn root(&self) -> &TrustRoot {
        &self.root
    }

    /// The mesh, as its root names it.
    pub fn mesh(&self) -> MeshId {
        self.root.mesh()
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What was revoked.
    pub fn revocations(&self) -> &RevocationSet {
        &self.revocations
    }

    /// The epochs of registry, revocations and policy.
    pub fn epochs(&self) -> Epochs {
        Epochs {
            registry: self.editions.registry.epoch,
            revocations: self.editions.revocations.epoch,
            policy: self.editions.policy.epoch,
        }
    }

    /// The certificate of a key, live or not; `None` for a key nobody was certified under.
    pub fn certificate(&self, key: &KeyBytes) -> Option<&Certificate> {
        self.registry.get(key)
    }

    /// The id of the agent a key was certified for, or the key in hexadecimal when for none.
    pub fn name_of(&self, key: &KeyBytes) -> String {
        self.registry
            .get(key)
            .map_or_else(|| key.to_string(), |c| c.agent().to_string())
    }

    /// The certificate with this object id, live or not, or the one that renewed it for the same
    /// key.
    pub fn certificate_with_id(&self, id: &ObjectId) -> Option<&Certificate> {
        self.registry.with_id(id)
    }

    /// The certificates of an agent, live or not, highest key epoch first. An agent may have
    /// several keys.
    pub fn certificates_of(&self, agent: &AgentId) -> Vec<&Certificate> {
        let mut found = self.registry.of_agent(agent);
        found.sort_by_key(|certificate| std::cmp::Reverse(certificate.claims().key_epoch));
        found
    }

    /// Every certificate, in no particular order. In a served mesh this verifies all that were not
    /// looked up before, at some 120 µs each.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.registry
            .keys()
            .filter_map(|key| self.registry.get(key))
    }

    /// How many certificates there are.
    pub fn registered(&self) -> usize {
        self.registry.len()
    }

    /// The score of an agent, 0 to 1,000, when it has one. Policy takes a missing score for 0
    /// (protocol §10.4).
    pub fn score(&self, agent: &AgentId) -> Option<u16> {
        let find = |table: &Arc<HashMap<AgentId, u16>>| table.get(agent).copied();
        self.scores.iter().filter_map(find).min()
    }

    /// Every score, in no particular order.
    pub fn scores(&self) -> impl Iterator<Item = (&AgentId, u16)> {
        let entries = self.scores.iter().flat_map(|table| table.iter());
        entries.map(|(agent, score)| (agent, *score))
    }

    /// The highest epoch of any file.
    pub(crate) fn latest_epoch(&self) -> u64 {
        let Epochs {
            registry,
            revocations,
            policy,
        } = self.epochs();
        registry
            .max(revocations)
            .max(policy)
            .max(self.scores_epoch().unwrap_or(0))
    }

    /// Checks that a key belongs to an agent in good standing: known, with a live certificate, and
    /// stopped by no list (protocol §7.4, step 3). Revocation is checked separately.
    ///
    /// # Errors
    ///
    /// [`Rejection::UnknownAgent`], [`Rejection::NotYetValid`], [`Rejection::Expired`] or
    /// [`Rejection::Blocked`], naming `place`.
    pub fn check_standing(
        &self,
        key: &KeyBytes,
        now: Timestamp,
        skew: ClockSkew,
        place: Place,
    ) -> Result<&Certificate, Rejection> {
        let certificate = self
            .registry
            .get(key)
            .ok_or(Rejection::UnknownAgent { place })?;
        certificate
            .claims()
            .validity
            .check(now, skew)
            .map_err(|outside| outside.at(place))?;
        self.policy.check_lists(certificate, place)?;
        Ok(certificate)
    }

    /// The key an agent is reached under: of those in good standing and not revoked, the one of the
    /// highest key epoch.
    ///
    /// # Errors
    ///
    /// [`Rejection::UnknownAgent`] when the agent has no key, otherwise why the last of its keys is
    /// of no use: as [`check_standing`](Self::check_standing), or [`Rejection::Revoked`]. Each
    /// names `place`.
    pub fn live_key(
        &self,
        agent: &AgentId,
        now: Timestamp,
        skew: ClockSkew,
        place: Place,
    ) -> Result<KeyBytes, Rejection> {
        let mut fault = Rejection::UnknownAgent { place };
        for certificate in self.certificates_of(agent) {
            let key = certificate.claims().key;
            let standing = self
                .check_standing(&key, now, skew, place)
                .and_then(|certificate| self.revocations.check_agent(certificate, now, place));
            match standing {
                Ok(()) => return Ok(key),
                Err(rejection) => fault = rejection,
            }
        }
        Err(fault)
    }

    /// Checks that every file holds at `now` (protocol §9.7), and in a served mesh that the newest
    /// timestamp is recent enough for the purpose (§9.10).
    ///
    /// # Errors
    ///
    /// [`Rejection::StaleState`] for the first that does not, or not yet, in the order
    /// [`TrustRoot`](StaleState::TrustRoot), [`Registry`](StaleState::Registry),
    /// [`Policy`](StaleState::Policy), [`Revocations`](StaleState::Revocations),
    /// [`Scores`](StaleState::Scores), [`Timestamp`](StaleState::Timestamp).
    pub fn check_fresh(
        &self,
        now: Timestamp,
        skew: ClockSkew,
        purpose: Purpose,
    ) -> Result<(), Rejection> {
        let of = |edition: Edition| Some(edition.validity);
        let windows = [
            (Some(self.root.validity()), StaleState::TrustRoot),
            (of(self.editions.registry), StaleState::Registry),
            (of(self.editions.policy), StaleState::Policy),
            (of(self.editions.revocations), StaleState::Revocations),
            (self.editions.scores.and_then(of), StaleState::Scores),
        ];
        for (window, reason) in windows {
            let holds = window.is_none_or(|w| w.check(now, skew).is_ok());
            if !holds {
                return Err(Rejection::StaleState { reason });
            }
        }
        match &self.served {
            Some(served) => served.time.check_age(now, skew, purpose),
            // A root with a timestamp role is never content with files alone.
            None if self.root.is_served() => Err(Rejection::StaleState {
                reason: StaleState::Timestamp,
            }),
            None => Ok(()),
        }
    }

    /// Checks that this state may replace `older` (protocol §9.6): same root, no epoch lower, no
    /// scores gone, nothing un-revoked; in a served mesh (§9.11) the same root or a later one, and
    /// the same epoch of anything is the same content. In a static one, equal epochs may differ.
    ///
    /// # Errors
    ///
    /// [`Rejection::UntrustedRoot`] for another root, otherwise [`Rejection::StaleState`] with
    /// [`Rollback`](StaleState::Rollback) or [`Equivocation`](StaleState::Equivocation).
    pub fn check_replaces(&self, older: &Self) -> Result<(), Rejection> {
        let (root, before) = (&self.root, &older.root);
        let later = root.mesh() == before.mesh() && root.version() > before.version();
        if root.id() != before.id() && !later {
            let (place, reason) = (Place::TrustFile, UntrustedRoot::OtherMesh);
            return Err(Rejection::UntrustedRoot { place, reason });
        }
        let rollback = Rejection::StaleState {
            reason: StaleState::Rollback,
        };
        match (&self.served, &older.served) {
            (Some(new), Some(old)) => {
                new.time.check_follows(&old.time)?;
                new.snapshot.check_follows(&old.snapshot)?;
            }
            (None, Some(_)) => return Err(rollback),
            (_, None) => {}
        }
        let (new, old) = (self.epochs(), older.epochs());
        let forward = new.registry >= old.registry
            && new.revocations >= old.revocations
            && new.policy >= old.policy
            && self.scores_epoch() >= older.scores_epoch()
            && self.revocations.contains(&older.revocations);
        if forward { Ok(()) } else { Err(rollback) }
    }

    /// The epoch of the scores; none is lower than any, so that scores, once held, stay.
    fn scores_epoch(&self) -> Option<u64> {
        self.editions.scores.map(|edition| edition.epoch)
    }
}

impl Purpose {
    /// What a message with an action is about.
    pub const fn of(action: Action) -> Self {
        match action {
            Action::Request | Action::Serve => Self::Request,
            _ => Self::Publish,
        }
    }
}

/// The parts of a snapshot, all there.
struct Parts<'a>(HashMap<PartKey, &'a Part>);

impl<'a> Parts<'a> {
    fn of(snapshot: &Snapshot, parts: &'a [Arc<Part>]) -> Result<Self, Rejection> {
        let found: HashMap<_, _> = parts.iter().map(|part| (part.key, &**part)).collect();
        // The books decide nothing, and only a verifier service has them.
        let mut named = snapshot
            .parts()
            .iter()
            .filter(|(key, _)| key.kind != FileKind::Books);
        if named.all(|(key, named)| found.get(key).is_some_and(|part| part.named == *named)) {
            Ok(Self(found))
        } else {
            Err(INCOMPLETE)
        }
    }

    /// The parts of a kind, numbered from 0 without gap.
    fn contiguous(&self, kind: FileKind) -> Result<Vec<&'a Part>, Rejection> {
        let mut list: Vec<_> = self
            .0
            .values()
            .filter(|part| part.key.kind == kind)
            .collect();
        list.sort_by_key(|part| part.key.index);
        let mut places = list.iter().zip(0u16..);
        if list.is_empty() || !places.all(|(part, index)| part.key.index == index) {
            return Err(INCOMPLETE);
        }
        Ok(list.into_iter().copied().collect())
    }

    /// The parts of a kind, as many as each says there are.
    fn complete(&self, kind: FileKind) -> Result<Vec<&'a Part>, Rejection> {
        let list = self.contiguous(kind)?;
        if list
            .iter()
            .any(|part| usize::from(part.count) != list.len())
        {
            return Err(INCOMPLETE);
        }
        Ok(list)
    }

    fn only(&self, kind: FileKind) -> Result<&'a Part, Rejection> {
        match self.complete(kind)?[..] {
            [part] => Ok(part),
            _ => Err(INCOMPLETE),
        }
    }

    /// The newest epoch among the parts of a kind, and the window in which all of them hold.
    fn edition(&self, kind: FileKind) -> Result<Edition, Rejection> {
        let list = self.contiguous(kind)?;
        let epoch = list.iter().map(|part| part.edition.epoch).max();
        let from = list.iter().map(|part| part.edition.validity.from()).max();
        let until = list.iter().map(|part| part.edition.validity.until()).min();
        let (Some(epoch), Some(from), Some(until)) = (epoch, from, until) else {
            return Err(INCOMPLETE);
        };
        let validity = Validity::new(from, until).ok_or(INCOMPLETE)?;
        Ok(Edition { epoch, validity })
    }
}

fn issuers(root: &TrustRoot) -> Arc<HashMap<KeyBytes, PublicKey>> {
    let keys = root.keys(Role::Issuer).iter();
    Arc::new(keys.map(|key| (key.bytes(), *key)).collect())
}

/// Checks that a timestamp is of the root it was opened under.
fn check_root_of(time: &TrustTime, root: &TrustRoot) -> Result<(), Rejection> {
    if time.root() == (root.version(), root.id()) {
        return Ok(());
    }
    let (place, reason) = (Place::TrustFile, UntrustedRoot::Lineage);
    Err(Rejection::UntrustedRoot { place, reason })
}

impl Anchors for TrustState {
    fn issuer(&self, key: &KeyBytes) -> Option<PublicKey> {
        self.issuers.get(key).copied()
    }

    fn holder(&self, key: &KeyBytes) -> Option<PublicKey> {
        self.registry.get(key).map(|certificate| *certificate.key())
    }
}

/// Reads the first trust root of a mesh and decides whether it is acceptable here (protocol §9.5,
/// steps 1 and 2).
///
/// # Errors
///
/// As [`TrustRoot::parse`]; [`Rejection::UntrustedRoot`] when it is not the pinned one or not
/// admitted.
pub fn admit_root(
    file: &Bytes,
    admission: Admission,
    pin: Option<ObjectId>,
) -> Result<TrustRoot, Rejection> {
    let place = Place::TrustFile;
    let untrusted = |reason| Rejection::UntrustedRoot { place, reason };
    let root = TrustRoot::parse(file)?;
    if pin.is_some_and(|pin| pin != root.id()) {
        return Err(untrusted(UntrustedRoot::Pin));
    }
    if root.is_dev() && admission == Admission::Production {
        return Err(untrusted(UntrustedRoot::DevMesh));
    }
    Ok(root)
}
