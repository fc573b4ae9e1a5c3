//! The trust root: which keys may speak for the mesh, and the files they sign (protocol §9.2).
//!
//! ```text
//! file   "TMTS" [fv, kind, body bin, [[index u8, signature bin64]…]]
//! root   [v, version, name, [[role, threshold, [key bin32…]]…], nbf, exp, ext]
//! ```
//!
//! A signature names its key by position among the keys of the role that must sign; it selects and
//! never supplies. A root is signed by the threshold of its own root keys. The mesh is named by
//! the first 16 bytes of the id of its first root, so a root vouches for exactly one mesh. A later
//! root names the mesh and the root before it, and is signed by the thresholds of both (protocol
//! §9.8): whoever pinned the first is led to the last.

mod unchained;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bytes::Bytes;

use super::identity::KeyBytes;
use super::identity::PublicKey;
use super::identity::Signature;
use super::identity::SigningKey;
use super::limits::ROLE_KEYS_MAX;
use super::limits::TRUST_FILE_MAX;
use super::names::EXT_DEV;
use super::names::EXT_LINEAGE;
use super::names::FRAME_VERSION;
use super::names::MAGIC_TRUST;
use super::names::OBJECT_VERSION;
use super::names::Tag;
use super::rejection::Malformed;
use super::rejection::Place;
use super::rejection::Rejection;
use super::rejection::UntrustedRoot;
use super::scope::checked_text;
use super::signing;
use super::signing::Authentic;
use super::signing::MeshId;
use super::signing::ObjectId;
use super::time::Timestamp;
use super::time::Validity;
use super::wire;
use super::wire::Reader;
use super::wire::bin;

pub use self::unchained::UnchainedRoot;

/// Longest name of a mesh in bytes (protocol §9.2).
pub const MESH_NAME_MAX: usize = 64;

/// Longest lifetime of a trust root in milliseconds, 400 days: a yearly ceremony with a month to
/// spare. Every other file lives for [`LIFETIME_MAX_MS`](super::limits::LIFETIME_MAX_MS) at the
/// most.
pub const ROOT_LIFETIME_MAX_MS: u64 = 400 * 24 * 3_600_000;

/// What a key of the trust root may sign (protocol §9.2). The number is its number on the wire.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
#[repr(u8)]
pub enum Role {
    /// The trust root itself.
    Root = 1,
    /// Root grants.
    Issuer = 2,
    /// Agent certificates and the registry.
    Registrar = 3,
    /// Revocation lists.
    Revoker = 4,
    /// Policy bundles.
    Policy = 5,
    /// Timestamps and snapshots. A mesh whose root has this role is a *served* one (protocol §9.9).
    Timestamp = 6,
    /// Trust scores.
    Scores = 7,
}

impl Role {
    /// Every role, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Root,
        Self::Issuer,
        Self::Registrar,
        Self::Revoker,
        Self::Policy,
        Self::Timestamp,
        Self::Scores,
    ];

    /// The role's name in lower case, as in the table of protocol §9.2.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuer => "issuer",
            Self::Registrar => "registrar",
            Self::Revoker => "revoker",
            Self::Policy => "policy",
            Self::Timestamp => "timestamp",
            Self::Scores => "scores",
        }
    }

    fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|role| *role as u64 == number)
    }
}

/// The keys of one role, and how many must sign together (protocol §9.2).
#[derive(Clone, Debug, Default)]
pub struct RoleKeys {
    pub(crate) threshold: u8,
    pub(crate) keys: Vec<PublicKey>,
}

/// What a new trust root shall say (protocol §9.2).
///
/// ```
/// use std::collections::BTreeMap;
///
/// use trustmesh::proto::identity::SigningKey;
/// use trustmesh::proto::root::{Role, RootDraft, TrustRoot};
/// use trustmesh::proto::time::{Timestamp, Validity};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (root, issuer) = (SigningKey::generate()?, SigningKey::generate()?);
/// let (from, until) = (Timestamp::from_millis(0), Timestamp::from_millis(86_400_000));
/// let draft = RootDraft {
///     name: "demo".into(),
///     roles: BTreeMap::from([
///         (Role::Root, (1, vec![root.public().bytes()])),
///         (Role::Issuer, (1, vec![issuer.public().bytes()])),
///     ]),
///     validity: Validity::new(from, until).ok_or("empty")?,
///     dev: false,
/// };
/// let file = draft.sign(&[(0, &root)])?;
/// assert_eq!(TrustRoot::parse(&file)?.name(), "demo");
/// assert!(draft.sign(&[(0, &issuer)]).is_err()); // not a key of the root role
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RootDraft {
    /// The name of the mesh, for people: at most [`MESH_NAME_MAX`] bytes, which may be none.
    pub name: String,
    /// The threshold of each role and its keys, 1 to [`ROLE_KEYS_MAX`]. A role that is missing
    /// signs nothing.
    pub roles: BTreeMap<Role, (u8, Vec<KeyBytes>)>,
    /// When the root holds, at most [`ROOT_LIFETIME_MAX_MS`] long.
    pub validity: Validity,
    /// Whether this is a development mesh, which only development mode accepts (protocol §9.3).
    pub dev: bool,
}

/// What leads from one trust root to the next (protocol §9.8).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Lineage {
    mesh: MeshId,
    previous: ObjectId,
}

/// A signature position of this and above names a key of the root before; below it, one of the
/// root's own keys.
const PREDECESSOR: u8 = 128;

impl RootDraft {
    /// Signs the root with keys of its root role, each with its position among them. The order of
    /// `signers` does not matter.
    ///
    /// # Errors
    ///
    /// Whatever [`TrustRoot::parse`] would refuse: too few signers or one that is no root key
    /// ([`Rejection::UntrustedRoot`], [`Rejection::BadSignature`]), a position given twice, a
    /// threshold that is 0 or over the number of keys ([`Rejection::Malformed`]), a weak key
    /// ([`Rejection::WeakKey`]).
    pub fn sign(&self, signers: &[(u8, &SigningKey)]) -> Result<Bytes, Rejection> {
        let file = sign_file(FileKind::Root, &self.body(1, None), signers);
        TrustRoot::parse(&file)?;
        Ok(file)
    }

    /// Signs the root as the next one after `before`, with keys of its own root role and keys of
    /// the root role of `before`, each with its position (protocol §9.8).
    ///
    /// # Errors
    ///
    /// Whatever [`TrustRoot::succeed`] would refuse.
    pub fn sign_after(
        &self,
        before: &TrustRoot,
        own: &[(u8, &SigningKey)],
        predecessors: &[(u8, &SigningKey)],
    ) -> Result<Bytes, Rejection> {
        let lineage = Lineage {
            mesh: before.mesh(),
            previous: before.id(),
        };
        let body = self.body(before.version.saturating_add(1), Some(lineage));
        let raised = |(index, key): &(u8, _)| (index.saturating_add(PREDECESSOR), *key);
        let signers: Vec<(u8, &SigningKey)> = own
            .iter()
            .copied()
            .chain(predecessors.iter().map(raised))
            .collect();
        let file = sign_file(FileKind::Root, &body, &signers);
        before.succeed(&file)?;
        Ok(file)
    }

    fn body(&self, version: u32, lineage: Option<Lineage>) -> Vec<u8> {
        let roles: Vec<_> = self
            .roles
            .iter()
            .map(|(role, (threshold, keys))| {
                let keys: Vec<_> = keys.iter().map(|key| bin(&key.0)).collect();
                (*role as u8, *threshold, keys)
            })
            .collect();
        let lineage = lineage.map(|Lineage { mesh, previous }| {
            let mut value = mesh.0.to_vec();
            value.extend_from_slice(&previous.0);
            value
        });
        let mut ext: Vec<(u16, bool, &serde_bytes::Bytes)> = Vec::new();
        if self.dev {
            ext.push((EXT_DEV, true, bin(&[])));
        }
        if let Some(value) = &lineage {
            ext.push((EXT_LINEAGE, true, bin(value)));
        }
        wire::encode(&(
            OBJECT_VERSION,
            version,
            self.name.as_str(),
            roles,
            self.validity.from().as_millis(),
            self.validity.until().as_millis(),
            ext,
        ))
    }
}

/// A checked trust root (protocol §9.2).
///
/// Holding one tells you that the file was signed by the threshold of its own root keys and that
/// every key in it is acceptable and of prime order. Whether it is *your* root is told by the id of
/// the [`first`](Self::first), which is compared with a pinned one or comes from a place you trust.
#[derive(Clone, Debug)]
pub struct TrustRoot {
    id: ObjectId,
    first: ObjectId,
    mesh: MeshId,
    version: u32,
    name: String,
    roles: BTreeMap<Role, RoleKeys>,
    validity: Validity,
    dev: bool,
}

/// A root that was decoded, before anybody asks who signed it.
#[derive(Debug)]
struct Draft {
    root: TrustRoot,
    lineage: Option<Lineage>,
    file: SignedFile,
}

impl TrustRoot {
    /// Decodes and checks the first root of a mesh (protocol §9.1, §9.2). Whether it holds now is
    /// not looked at.
    ///
    /// # Errors
    ///
    /// [`Rejection::Malformed`], [`Rejection::TooLarge`], [`Rejection::UnsupportedVersion`],
    /// [`Rejection::WeakKey`], [`Rejection::BadSignature`] or, with too few signatures,
    /// [`Rejection::UntrustedRoot`].
    pub fn parse(file: &Bytes) -> Result<Self, Rejection> {
        let Draft { root, file, .. } = Draft::read(file, 1..=1)?;
        let keys = root.roles.get(&Role::Root).cloned().unwrap_or_default();
        file.check_signatures(&keys)?;
        Ok(root)
    }

    /// Decodes and checks the root that follows this one (protocol §9.8): of the same mesh, of the
    /// next version, naming this one, signed by the thresholds of both. Whether it holds now is
    /// not looked at. Without the root before it, a later one can only be looked at: see
    /// [`UnchainedRoot`].
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse); [`Rejection::UnsupportedVersion`] when it is not of the next
    /// version, [`Rejection::UntrustedRoot`] when it follows another root or turns a mesh into, or
    /// out of, one for development.
    pub fn succeed(&self, file: &Bytes) -> Result<Self, Rejection> {
        let place = Place::TrustFile;
        let found = u64::MAX;
        let next = self.version.checked_add(1);
        let next = next.ok_or(Rejection::UnsupportedVersion { place, found })?;
        let Draft {
            mut root,
            lineage,
            file,
        } = Draft::read(file, next..=next)?;
        let expected = Lineage {
            mesh: self.mesh,
            previous: self.id,
        };
        let untrusted = |reason| Rejection::UntrustedRoot { place, reason };
        if lineage != Some(expected) {
            return Err(untrusted(UntrustedRoot::Lineage));
        }
        if root.dev != self.dev {
            return Err(untrusted(UntrustedRoot::DevMesh));
        }
        let own = root.roles.get(&Role::Root).cloned().unwrap_or_default();
        let before = self.roles.get(&Role::Root).cloned().unwrap_or_default();
        file.check_succession(&own, &before)?;
        root.first = self.first;
        root.mesh = self.mesh;
        Ok(root)
    }
}

impl Draft {
    /// Decodes a root of one of these versions.
    fn read(file: &Bytes, versions: RangeInclusive<u32>) -> Result<Self, Rejection> {
        // A root after the first is signed by the keys of two.
        let most = if versions == (1..=1) { 1 } else { 2 } * ROLE_KEYS_MAX;
        let file = SignedFile::parse_signed_by(FileKind::Root, file, most)?;
        let (place, body) = (Place::TrustFile, &file.body);
        let mut r = Reader::new(body, place);
        r.array_of(7)?;
        let unsupported = |found| Rejection::UnsupportedVersion { place, found };
        let found = r.uint()?;
        if found != OBJECT_VERSION {
            return Err(unsupported(found));
        }
        let found = r.uint()?;
        let version = u32::try_from(found).ok();
        let version = version.filter(|version| versions.contains(version));
        let version = version.ok_or(unsupported(found))?;
        let name = checked_text(&r.text(MESH_NAME_MAX)?).to_owned();
        let roles = read_roles(&mut r)?;
        let (from, until) = (r.uint()?, r.uint()?);
        let validity = Validity::new(Timestamp::from_millis(from), Timestamp::from_millis(until))
            .filter(|validity| validity.millis() <= ROOT_LIFETIME_MAX_MS)
            .ok_or_else(|| r.fault(Malformed::Lifetime))?;
        let (dev, lineage) = read_ext(&mut r, version)?;
        r.finish()?;
        let id = Tag::TrustRoot.digest(body);
        let mut mesh = [0; 16];
        mesh.copy_from_slice(&id.0[..16]);
        let root = TrustRoot {
            id,
            first: id,
            mesh: MeshId(mesh),
            version,
            name,
            roles,
            validity,
            dev,
        };
        Ok(Self {
            root,
            lineage,
            file,
        })
    }
}

impl TrustRoot {
    /// The object id, which no other root has.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// The object id of the first root of its mesh, from which every root of the mesh was led to:
    /// what is pinned. Of the first root it is its own.
    pub fn first(&self) -> ObjectId {
        self.first
    }

    /// The mesh this root is of: the first 16 bytes of the id of its first root.
    pub fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// Which root of its mesh it is: 1 for the first.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Whether the mesh is served: its trust state is that which the timestamp role named last, and
    /// goes stale without it (protocol §9.9). A static mesh lives from files.
    pub fn is_served(&self) -> bool {
        self.roles.contains_key(&Role::Timestamp)
    }

    /// The name of the mesh, for people; it decides nothing.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When the root holds.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Whether this is a development mesh (protocol §9.3).
    pub fn is_dev(&self) -> bool {
        self.dev
    }

    /// The keys of a role; none when the root does not have it.
    pub fn keys(&self, role: Role) -> &[PublicKey] {
        self.roles.get(&role).map_or(&[], |keys| &keys.keys)
    }

    /// How many keys of a role must sign together; 0 when the root does not have it.
    pub fn threshold(&self, role: Role) -> u8 {
        self.roles.get(&role).map_or(0, |keys| keys.threshold)
    }

    /// Checks that a file was signed by the threshold of `role`.
    pub(crate) fn check_file(&self, role: Role, file: &SignedFile) -> Result<(), Rejection> {
        let keys = self.roles.get(&role).cloned().unwrap_or_default();
        file.check_signatures(&keys)
    }
}

fn read_roles(r: &mut Reader<'_>) -> Result<BTreeMap<Role, RoleKeys>, Rejection> {
    let mut roles = BTreeMap::new();
    for _ in 0..r.array_up_to(Role::ALL.len())? {
        r.array_of(3)?;
        let number = r.uint()?;
        let role = Role::from_number(number).ok_or_else(|| r.fault(Malformed::OutOfRange))?;
        if roles
            .last_key_value()
            .is_some_and(|(last, _)| *last >= role)
        {
            return Err(r.fault(Malformed::Duplicate));
        }
        let threshold: u8 = r.number_of()?;
        let len = r.array_up_to(ROLE_KEYS_MAX)?;
        let mut keys: Vec<PublicKey> = Vec::with_capacity(len);
        for _ in 0..len {
            let key = PublicKey::import(&r.key()?)
                .ok()
                .filter(PublicKey::is_torsion_free)
                .ok_or(Rejection::WeakKey { place: r.place() })?;
            if keys.contains(&key) {
                return Err(r.fault(Malformed::Duplicate));
            }
            keys.push(key);
        }
        if threshold == 0 || usize::from(threshold) > keys.len() {
            return Err(r.fault(Malformed::OutOfRange));
        }
        roles.insert(role, RoleKeys { threshold, keys });
    }
    Ok(roles)
}

/// Reads the extensions: whether the mesh is for development, and, from the second root on, what
/// the root follows.
fn read_ext(r: &mut Reader<'_>, version: u32) -> Result<(bool, Option<Lineage>), Rejection> {
    let first = version == 1;
    let (mut dev, mut lineage) = (false, None);
    for _ in 0..r.array_up_to(if first { 1 } else { 2 })? {
        r.array_of(3)?;
        let id = r.uint()?;
        let fault = r.fault(Malformed::Extension);
        let known = id == u64::from(EXT_DEV) && !dev && lineage.is_none()
            || id == u64::from(EXT_LINEAGE) && !first && lineage.is_none();
        if !(known && r.boolean()?) {
            return Err(fault);
        }
        if id == u64::from(EXT_DEV) {
            dev = r.bin(0)?.is_empty();
        } else {
            let value: [u8; 48] = r.bin_of()?;
            let (mut mesh, mut previous) = ([0; 16], [0; 32]);
            mesh.copy_from_slice(&value[..16]);
            previous.copy_from_slice(&value[16..]);
            let (mesh, previous) = (MeshId(mesh), ObjectId(previous));
            lineage = Some(Lineage { mesh, previous });
        }
    }
    Ok((dev, lineage))
}

/// The kinds of trust-state file (protocol §9.1). The number is its number on the wire.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
#[repr(u8)]
pub enum FileKind {
    /// Trust root.
    Root = 1,
    /// Registry.
    Registry = 2,
    /// Policy.
    Policy = 3,
    /// Revocations.
    Revocations = 4,
    /// Scores.
    Scores = 5,
    /// Timestamp: which snapshot is the newest.
    Timestamp = 6,
    /// Snapshot: the parts of one trust state.
    Snapshot = 7,
    /// What a verifier service must not forget; nobody else reads it.
    Books = 8,
}

impl FileKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Root,
        Self::Registry,
        Self::Policy,
        Self::Revocations,
        Self::Scores,
        Self::Timestamp,
        Self::Snapshot,
        Self::Books,
    ];

    /// The kind that a file says to be of.
    ///
    /// # Errors
    ///
    /// `Malformed` or `UnsupportedVersion` when it is no trust file.
    pub fn of(file: &Bytes) -> Result<Self, Rejection> {
        let mut r = SignedFile::reader(file)?;
        let kind = r.uint()?;
        let known = Self::ALL.into_iter().find(|known| *known as u64 == kind);
        known.ok_or_else(|| r.fault(Malformed::OutOfRange))
    }

    /// The kind's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "trust root",
            Self::Registry => "registry",
            Self::Policy => "policy",
            Self::Revocations => "revocations",
            Self::Scores => "scores",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Books => "books",
        }
    }

    /// The role that signs files of this kind.
    pub const fn role(self) -> Role {
        match self {
            Self::Root => Role::Root,
            Self::Registry | Self::Books => Role::Registrar,
            Self::Policy => Role::Policy,
            Self::Revocations => Role::Revoker,
            Self::Scores => Role::Scores,
            Self::Timestamp | Self::Snapshot => Role::Timestamp,
        }
    }

    pub(crate) const fn tag(self) -> Tag {
        match self {
            Self::Root => Tag::TrustRoot,
            Self::Registry => Tag::Registry,
            Self::Policy => Tag::Policy,
            Self::Revocations => Tag::Revocations,
            Self::Scores => Tag::Scores,
            Self::Timestamp => Tag::Timestamp,
            Self::Snapshot => Tag::Snapshot,
            Self::Books => Tag::Books,
        }
    }
}

/// A trust-state file cut into body and signatures.
#[derive(Debug)]
pub(crate) struct SignedFile {
    kind: FileKind,
    pub(crate) body: Bytes,
    signatures: Vec<(u8, Signature)>,
}

impl SignedFile {
    /// A reader of the file's values, which stands before its kind.
    fn reader(file: &Bytes) -> Result<Reader<'_>, Rejection> {
        let place = Place::TrustFile;
        if file.len() > TRUST_FILE_MAX {
            return Err(Rejection::TooLarge {
                place,
                limit: TRUST_FILE_MAX as u32,
            });
        }
        if !file.starts_with(&MAGIC_TRUST) {
            return Err(Rejection::Malformed {
                place,
                reason: Malformed::BadMagic,
            });
        }
        let mut r = Reader::starting_at(file, MAGIC_TRUST.len(), place);
        r.array_of(4)?;
        let found = r.uint()?;
        if found != FRAME_VERSION {
            return Err(Rejection::UnsupportedVersion { place, found });
        }
        Ok(r)
    }

    pub(crate) fn kind(&self) -> FileKind {
        self.kind
    }

    /// The positions of the keys that are said to have signed.
    pub(crate) fn signers(&self) -> impl Iterator<Item = u8> {
        self.signatures.iter().map(|(index, _)| *index)
    }

    pub(crate) fn parse(kind: FileKind, file: &Bytes) -> Result<Self, Rejection> {
        Self::parse_signed_by(kind, file, ROLE_KEYS_MAX)
    }

    /// Decodes a file with `most` signatures at the most.
    fn parse_signed_by(kind: FileKind, file: &Bytes, most: usize) -> Result<Self, Rejection> {
        let mut r = Self::reader(file)?;
        if r.uint()? != kind as u64 {
            return Err(r.fault(Malformed::OutOfRange));
        }
        let body = r.bin(TRUST_FILE_MAX)?;
        let mut signatures: Vec<(u8, Signature)> = Vec::new();
        for _ in 0..r.array_up_to(most)? {
            r.array_of(2)?;
            let index = r.number_of()?;
            if signatures.last().is_some_and(|(last, _)| *last >= index) {
                return Err(r.fault(Malformed::Duplicate));
            }
            signatures.push((index, Signature(r.bin_of()?)));
        }
        r.finish()?;
        Ok(Self {
            kind,
            body,
            signatures,
        })
    }

    /// Checks that at least the threshold of `role` signed. A signature that does not verify
    /// refuses the file, even when enough others do.
    fn check_signatures(&self, role: &RoleKeys) -> Result<(), Rejection> {
        self.check_positions(|index| role.keys.get(usize::from(index)))?;
        role.check_threshold(self.signatures.len())
    }

    /// Checks that the thresholds of a root and of the one before it signed.
    fn check_succession(&self, own: &RoleKeys, before: &RoleKeys) -> Result<(), Rejection> {
        self.check_positions(|index| match index.checked_sub(PREDECESSOR) {
            Some(index) => before.keys.get(usize::from(index)),
            None => own.keys.get(usize::from(index)),
        })?;
        let by_own = self.own_signatures().len();
        own.check_threshold(by_own)?;
        before.check_threshold(self.signatures.len() - by_own)
    }

    /// Checks that the threshold of a later root's own keys signed, and leaves aside the
    /// signatures by keys of the root before it.
    fn check_own(&self, own: &RoleKeys) -> Result<(), Rejection> {
        let signatures = self.own_signatures();
        self.check_each(signatures, |index| own.keys.get(usize::from(index)))?;
        own.check_threshold(signatures.len())
    }

    /// The signatures by a later root's own keys, which stand first: positions are ascending.
    fn own_signatures(&self) -> &[(u8, Signature)] {
        let is_own = |(index, _): &(u8, Signature)| *index < PREDECESSOR;
        let own = self.signatures.partition_point(is_own);
        self.signatures.get(..own).unwrap_or_default()
    }

    fn check_positions<'a>(
        &self,
        key_at: impl Fn(u8) -> Option<&'a PublicKey>,
    ) -> Result<(), Rejection> {
        self.check_each(&self.signatures, key_at)
    }

    fn check_each<'a>(
        &self,
        signatures: &[(u8, Signature)],
        key_at: impl Fn(u8) -> Option<&'a PublicKey>,
    ) -> Result<(), Rejection> {
        let place = Place::TrustFile;
        for (index, signature) in signatures {
            let key = key_at(*index).ok_or(TOO_FEW)?;
            Authentic::check(self.kind.tag(), &self.body, (), key, signature, place)?;
        }
        Ok(())
    }
}

/// Too few signatures, or one by no key of the role.
const TOO_FEW: Rejection = Rejection::UntrustedRoot {
    place: Place::TrustFile,
    reason: UntrustedRoot::Threshold,
};

impl RoleKeys {
    /// Checks a number of signatures by distinct keys; positions are strictly ascending.
    fn check_threshold(&self, signatures: usize) -> Result<(), Rejection> {
        if self.threshold == 0 || signatures < usize::from(self.threshold) {
            return Err(TOO_FEW);
        }
        Ok(())
    }
}

/// Writes a file: the body signed by keys of the role, in ascending position.
pub(crate) fn sign_file(kind: FileKind, body: &[u8], signers: &[(u8, &SigningKey)]) -> Bytes {
    let mut signers = signers.to_vec();
    signers.sort_by_key(|(index, _)| *index);
    let signatures: Vec<_> = signers
        .iter()
        .map(|(index, key)| (*index, signing::sign(kind.tag(), body, key)))
        .collect();
    let signatures: Vec<_> = signatures
        .iter()
        .map(|(index, signature)| (*index, bin(&signature.0)))
        .collect();
    let mut file = MAGIC_TRUST.to_vec();
    wire::encode_into(
        &mut file,
        &(FRAME_VERSION, kind as u8, bin(body), signatures),
    );
    file.into()
}
