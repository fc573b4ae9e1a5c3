//! The trust state (protocol §9): everything a decision depends on besides the message, as one
//! immutable value.
//!
//! A [`TrustState`] is assembled from signed files and never changes; a newer one replaces it as a
//! whole, so that no decision mixes two states. Missing state never permits: a mesh without a
//! policy denies everything, an agent without a certificate is unknown, one without a score has
//! the lowest.

mod unverified;

use std::collections::HashMap;

use bytes::Bytes;

use super::certificate::CERTIFICATE_MAX;
use super::certificate::Certificate;
use super::certificate::UnverifiedCertificate;
use super::chain::Anchors;
use super::delegation::read_validity;
use super::identity::AgentId;
use super::identity::KeyBytes;
use super::identity::PublicKey;
use super::identity::SigningKey;
use super::names::OBJECT_VERSION;
use super::policy::Policy;
use super::rejection::Malformed;
use super::rejection::Place;
use super::rejection::Rejection;
use super::rejection::StaleState;
use super::rejection::UntrustedRoot;
use super::revocation::RevocationSet;
use super::revocation::read_agent;
use super::root::FileKind;
use super::root::Role;
use super::root::SignedFile;
use super::root::TrustRoot;
use super::root::sign_file;
use super::signing::MeshId;
use super::signing::ObjectId;
use super::time::ClockSkew;
use super::time::Timestamp;
use super::time::Validity;
use super::wire;
use super::wire::Reader;
use super::wire::bin;

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
#[derive(Debug)]
pub struct TrustState {
    root: TrustRoot,
    issuers: HashMap<KeyBytes, PublicKey>,
    by_key: HashMap<KeyBytes, Certificate>,
    by_id: HashMap<AgentId, Vec<KeyBytes>>,
    by_certificate: HashMap<ObjectId, KeyBytes>,
    policy: Policy,
    revocations: RevocationSet,
    scores: HashMap<AgentId, u16>,
    registry_edition: Edition,
    policy_edition: Edition,
    revocations_edition: Edition,
    scores_edition: Option<Edition>,
}

impl TrustState {
    /// Checks the files and puts them together (protocol §9.5).
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
        let fault = |kind| move |rejection| (kind, rejection);
        let root = admit_root(&files.root, admission, pin).map_err(fault(FileKind::Root))?;
        let (registry_edition, certificates) = open(
            &root,
            Role::Registrar,
            FileKind::Registry,
            &files.registry,
            |r| read_certificates(r, &root),
        )
        .map_err(fault(FileKind::Registry))?;
        let (policy_edition, policy) = open(
            &root,
            Role::Policy,
            FileKind::Policy,
            &files.policy,
            Policy::read,
        )
        .map_err(fault(FileKind::Policy))?;
        let (revocations_edition, revocations) = open(
            &root,
            Role::Revoker,
            FileKind::Revocations,
            &files.revocations,
            RevocationSet::read,
        )
        .map_err(fault(FileKind::Revocations))?;
        let scores = files
            .scores
            .as_ref()
            .map(|file| open(&root, Role::Scores, FileKind::Scores, file, read_scores))
            .transpose()
            .map_err(fault(FileKind::Scores))?;
        let (scores_edition, scores) = scores.map_or_else(Default::default, |(edition, scores)| {
            (Some(edition), scores)
        });
        let issuers = root
            .keys(Role::Issuer)
            .iter()
            .map(|key| (key.bytes(), *key))
            .collect();
        let mut state = Self {
            root,
            issuers,
            by_key: HashMap::new(),
            by_id: HashMap::new(),
            by_certificate: HashMap::new(),
            policy,
            revocations,
            scores,
            registry_edition,
            policy_edition,
            revocations_edition,
            scores_edition,
        };
        for certificate in certificates {
            state
                .register(certificate)
                .map_err(fault(FileKind::Registry))?;
        }
        Ok(state)
    }

    fn register(&mut self, certificate: Certificate) -> Result<(), Rejection> {
        let key = certificate.claims().key;
        let agent = certificate.agent().clone();
        self.by_certificate.insert(certificate.id(), key);
        self.by_id.entry(agent).or_default().push(key);
        // One key, one certificate: a key can neither have two owners nor two terms.
        if self.by_key.insert(key, certificate).is_some() {
            let place = Place::TrustFile;
            return Err(Rejection::Malformed {
                place,
                reason: Malformed::Duplicate,
            });
        }
        Ok(())
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
            registry: self.registry_edition.epoch,
            revocations: self.revocations_edition.epoch,
            policy: self.policy_edition.epoch,
        }
    }

    /// The certificate of a key, live or not; `None` for a key nobody was certified under.
    pub fn certificate(&self, key: &KeyBytes) -> Option<&Certificate> {
        self.by_key.get(key)
    }

    /// The id of the agent a key was certified for, or the key in hexadecimal when for none.
    pub fn name_of(&self, key: &KeyBytes) -> String {
        self.by_key
            .get(key)
            .map_or_else(|| key.to_string(), |c| c.agent().to_string())
    }

    /// The certificate with this object id, live or not.
    pub fn certificate_with_id(&self, id: &ObjectId) -> Option<&Certificate> {
        self.by_certificate
            .get(id)
            .and_then(|key| self.by_key.get(key))
    }

    /// The certificates of an agent, live or not, highest key epoch first. An agent may have
    /// several keys.
    pub fn certificates_of(&self, agent: &AgentId) -> Vec<&Certificate> {
        let keys = self.by_id.get(agent).map(Vec::as_slice).unwrap_or_default();
        let mut found: Vec<_> = keys.iter().filter_map(|key| self.by_key.get(key)).collect();
        found.sort_by_key(|certificate| std::cmp::Reverse(certificate.claims().key_epoch));
        found
    }

    /// Every certificate, in no particular order.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.by_key.values()
    }

    /// The score of an agent, 0 to 1,000, when it has one. Policy takes a missing score for 0
    /// (protocol §10.4).
    pub fn score(&self, agent: &AgentId) -> Option<u16> {
        self.scores.get(agent).copied()
    }

    /// Every score.
    pub(crate) fn scores(&self) -> &HashMap<AgentId, u16> {
        &self.scores
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
            .by_key
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
                .and_then(|certificate| self.revocations.check_agent(certificate, place));
            match standing {
                Ok(()) => return Ok(key),
                Err(rejection) => fault = rejection,
            }
        }
        Err(fault)
    }

    /// Checks that every file holds at `now` (protocol §9.7).
    ///
    /// # Errors
    ///
    /// [`Rejection::StaleState`] for the first that does not, or not yet, in the order
    /// [`TrustRoot`](StaleState::TrustRoot), [`Registry`](StaleState::Registry),
    /// [`Policy`](StaleState::Policy), [`Revocations`](StaleState::Revocations),
    /// [`Scores`](StaleState::Scores).
    pub fn check_fresh(&self, now: Timestamp, skew: ClockSkew) -> Result<(), Rejection> {
        let windows = [
            (Some(self.root.validity()), StaleState::TrustRoot),
            (Some(self.registry_edition.validity), StaleState::Registry),
            (Some(self.policy_edition.validity), StaleState::Policy),
            (
                Some(self.revocations_edition.validity),
                StaleState::Revocations,
            ),
            (
                self.scores_edition.map(|edition| edition.validity),
                StaleState::Scores,
            ),
        ];
        for (window, reason) in windows {
            let holds = window.is_none_or(|w| w.check(now, skew).is_ok());
            if !holds {
                return Err(Rejection::StaleState { reason });
            }
        }
        Ok(())
    }

    /// Checks that this state may replace `older` (protocol §9.6): same root, no epoch lower, no
    /// scores gone, nothing un-revoked. Equal epochs may.
    ///
    /// # Errors
    ///
    /// [`Rejection::UntrustedRoot`] for another root, otherwise [`Rejection::StaleState`] with
    /// [`Rollback`](StaleState::Rollback).
    pub fn check_replaces(&self, older: &Self) -> Result<(), Rejection> {
        if self.root.id() != older.root.id() {
            let (place, reason) = (Place::TrustFile, UntrustedRoot::OtherMesh);
            return Err(Rejection::UntrustedRoot { place, reason });
        }
        let (new, old) = (self.epochs(), older.epochs());
        let forward = new.registry >= old.registry
            && new.revocations >= old.revocations
            && new.policy >= old.policy
            && self.scores_epoch() >= older.scores_epoch()
            && self.revocations.contains(&older.revocations);
        if forward {
            Ok(())
        } else {
            Err(Rejection::StaleState {
                reason: StaleState::Rollback,
            })
        }
    }

    /// The epoch of the scores; none is lower than any, so that scores, once held, stay.
    fn scores_epoch(&self) -> Option<u64> {
        self.scores_edition.map(|edition| edition.epoch)
    }
}

impl Anchors for TrustState {
    fn issuer(&self, key: &KeyBytes) -> Option<PublicKey> {
        self.issuers.get(key).copied()
    }

    fn holder(&self, key: &KeyBytes) -> Option<PublicKey> {
        self.by_key.get(key).map(|certificate| *certificate.key())
    }
}

/// Reads a trust root and decides whether it is acceptable here.
fn admit_root(
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

/// The encoded certificates of a registry, for the registrar's books.
pub(crate) fn registry_entries(root: &TrustRoot, file: &Bytes) -> Result<Vec<Bytes>, Rejection> {
    let opened = open(
        root,
        Role::Registrar,
        FileKind::Registry,
        file,
        read_entries,
    )?;
    Ok(opened.1)
}

fn read_entries(r: &mut Reader<'_>) -> Result<Vec<Bytes>, Rejection> {
    let len = r.array()?;
    (0..len).map(|_| r.bin(CERTIFICATE_MAX)).collect()
}

/// Opens a file: its signatures, then its body.
fn open<T>(
    root: &TrustRoot,
    role: Role,
    kind: FileKind,
    file: &Bytes,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, Rejection>,
) -> Result<(Edition, T), Rejection> {
    let file = SignedFile::parse(kind, file)?;
    root.check_file(role, &file)?;
    let check_mesh = |mesh| {
        let (place, reason) = (Place::TrustFile, UntrustedRoot::OtherMesh);
        if mesh == root.mesh() {
            Ok(())
        } else {
            Err(Rejection::UntrustedRoot { place, reason })
        }
    };
    read_body(kind, &file.body, check_mesh, read)
}

/// Reads a body `[v, mesh, epoch, nbf, exp, …content…, ext]`.
fn read_body<T>(
    kind: FileKind,
    body: &Bytes,
    check_mesh: impl FnOnce(MeshId) -> Result<(), Rejection>,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, Rejection>,
) -> Result<(Edition, T), Rejection> {
    let place = Place::TrustFile;
    let mut r = Reader::new(body, place);
    r.array_of(6 + content_len(kind))?;
    let found = r.uint()?;
    if found != OBJECT_VERSION {
        return Err(Rejection::UnsupportedVersion { place, found });
    }
    check_mesh(MeshId(r.bin_of()?))?;
    let edition = Edition {
        epoch: r.uint()?,
        validity: read_validity(&mut r)?,
    };
    let content = read(&mut r)?;
    // A policy reads its own extensions.
    if kind != FileKind::Policy && r.array()? != 0 {
        return Err(r.fault(Malformed::Extension));
    }
    r.finish()?;
    Ok((edition, content))
}

/// Values between the window and the extensions of each kind of file.
const fn content_len(kind: FileKind) -> usize {
    match kind {
        FileKind::Policy => 4,
        FileKind::Revocations => 3,
        _ => 1,
    }
}

fn read_certificates(r: &mut Reader<'_>, root: &TrustRoot) -> Result<Vec<Certificate>, Rejection> {
    let len = r.array()?;
    let mut certificates = Vec::new();
    for _ in 0..len {
        let bytes = r.bin(CERTIFICATE_MAX)?;
        let certificate = UnverifiedCertificate::parse(&bytes)?;
        certificates.push(certificate.verify(root.mesh(), root.keys(Role::Registrar))?);
    }
    Ok(certificates)
}

fn read_scores(r: &mut Reader<'_>) -> Result<HashMap<AgentId, u16>, Rejection> {
    let len = r.array()?;
    let mut scores = HashMap::new();
    let mut last: Option<AgentId> = None;
    for _ in 0..len {
        r.array_of(2)?;
        let agent = read_agent(r)?;
        let score: u16 = r.number_of()?;
        if score > 1000 {
            return Err(r.fault(Malformed::OutOfRange));
        }
        if last.as_ref().is_some_and(|last| *last >= agent) {
            return Err(r.fault(Malformed::Duplicate));
        }
        last = Some(agent.clone());
        scores.insert(agent, score);
    }
    Ok(scores)
}

/// The content of a new trust file (protocol §9.4).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FileDraft<'a> {
    /// A registry of encoded certificates.
    Registry(&'a [Bytes]),
    /// A policy.
    Policy(&'a Policy),
    /// A revocation list.
    Revocations(&'a RevocationSet),
    /// Scores, by agent.
    Scores(&'a std::collections::BTreeMap<AgentId, u16>),
}

impl FileDraft<'_> {
    /// Signs the file with keys of the role that must sign it, each with its position in the role.
    ///
    /// Nothing is checked here. What a reader would refuse, such as a window of more than 30 days
    /// or too few signers, comes out when the file is [assembled](TrustState::assemble).
    pub fn sign(&self, mesh: MeshId, edition: Edition, signers: &[(u8, &SigningKey)]) -> Bytes {
        let kind = match self {
            Self::Registry(_) => FileKind::Registry,
            Self::Policy(_) => FileKind::Policy,
            Self::Revocations(_) => FileKind::Revocations,
            Self::Scores(_) => FileKind::Scores,
        };
        // The outer array is written by hand because its contents write themselves.
        let mut body = vec![0x90 | (6 + content_len(kind)) as u8];
        wire::encode_into(&mut body, &OBJECT_VERSION);
        wire::encode_into(&mut body, bin(&mesh.0));
        wire::encode_into(&mut body, &edition.epoch);
        wire::encode_into(&mut body, &edition.validity.from().as_millis());
        wire::encode_into(&mut body, &edition.validity.until().as_millis());
        match self {
            Self::Registry(certificates) => {
                let list: Vec<_> = certificates.iter().map(|bytes| bin(bytes)).collect();
                wire::encode_into(&mut body, &list);
            }
            Self::Policy(policy) => policy.write(&mut body),
            Self::Revocations(set) => set.write(&mut body),
            Self::Scores(scores) => {
                let list: Vec<_> = scores.iter().map(|(id, s)| (id.as_str(), *s)).collect();
                wire::encode_into(&mut body, &list);
            }
        }
        if kind != FileKind::Policy {
            body.push(0x90);
        }
        sign_file(kind, &body, signers)
    }
}
