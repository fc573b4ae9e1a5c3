//! The files of a trust state (protocol §9.4): reading what was signed, signing what is new.

use std::collections::HashMap;

use bytes::Bytes;

use super::Edition;
use super::registry::Shard;
use crate::proto::certificate::CERTIFICATE_MAX;
use crate::proto::delegation::read_validity;
use crate::proto::identity::AgentId;
use crate::proto::identity::SigningKey;
use crate::proto::names::EXT_RETIREMENTS;
use crate::proto::names::EXT_SHARD;
use crate::proto::names::OBJECT_VERSION;
use crate::proto::policy::Policy;
use crate::proto::rejection::Malformed;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::UntrustedRoot;
use crate::proto::revocation::RevocationSet;
use crate::proto::revocation::read_agent;
use crate::proto::root::FileKind;
use crate::proto::root::SignedFile;
use crate::proto::root::TrustRoot;
use crate::proto::root::sign_file;
use crate::proto::signing::MeshId;
use crate::proto::wire;
use crate::proto::wire::Reader;
use crate::proto::wire::bin;

/// The encoded certificates of a registry, for the registrar's books.
pub(crate) fn registry_entries(root: &TrustRoot, file: &Bytes) -> Result<Vec<Bytes>, Rejection> {
    let Opened { content, .. } = Opened::whole(root, FileKind::Registry, file)?;
    match content {
        Content::Registry(shard) => Ok(shard.entries()),
        _ => Ok(Vec::new()),
    }
}

pub(super) fn read_entries(r: &mut Reader<'_>) -> Result<Vec<Bytes>, Rejection> {
    let len = r.array()?;
    (0..len).map(|_| r.bin(CERTIFICATE_MAX)).collect()
}

/// What the extensions of a file say.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    /// The retirements of a revocation list, still encoded.
    pub(super) retirements: Option<Bytes>,
    /// Which part of how many this is; `None` for the whole in one file.
    pub(super) shard: Option<(u16, u16)>,
}

impl Extensions {
    /// Reads the extensions of a file, in ascending order of their ids. What is not known is
    /// refused, and whatever is wrong within the list is the same fault.
    fn read(r: &mut Reader<'_>, kind: FileKind) -> Result<Self, Rejection> {
        let len = r.array()?;
        let fault = r.fault(Malformed::Extension);
        Self::read_list(r, kind, len).map_err(|_| fault)
    }

    fn read_list(r: &mut Reader<'_>, kind: FileKind, len: usize) -> Result<Self, Rejection> {
        let (mut found, mut last) = (Self::default(), 0);
        for _ in 0..len {
            r.array_of(3)?;
            let id = r.number_of::<u16>()?;
            let fault = r.fault(Malformed::Extension);
            if id <= last || !r.boolean()? {
                return Err(fault);
            }
            last = id;
            match (id, kind) {
                (EXT_RETIREMENTS, FileKind::Revocations) => {
                    found.retirements = Some(r.bin(usize::MAX)?);
                }
                (
                    EXT_SHARD,
                    FileKind::Registry | FileKind::Revocations | FileKind::Scores | FileKind::Books,
                ) => {
                    let [a, b, c, d] = r.bin_of()?;
                    let shard = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                    found.shard = Some(shard);
                }
                _ => return Err(fault),
            }
        }
        Ok(found)
    }

    /// Refuses part of a file where the whole is needed.
    fn check_whole(&self) -> Result<(), Rejection> {
        match self.shard {
            None => Ok(()),
            Some(_) => Err(Rejection::Malformed {
                place: Place::TrustFile,
                reason: Malformed::Extension,
            }),
        }
    }
}

/// A file that was opened: its window, its content, and which part of the whole it is.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) edition: Edition,
    pub(super) content: Content,
    /// Index and count.
    pub(super) shard: (u16, u16),
}

/// The content of an opened file.
#[derive(Debug)]
pub(super) enum Content {
    Registry(Shard),
    Policy(Policy),
    Revocations(RevocationSet),
    Scores(HashMap<AgentId, u16>),
    Books(Bytes),
}

impl Opened {
    /// Opens a file of a static mesh, which holds all there is of its kind (protocol §9.5).
    pub(super) fn whole(root: &TrustRoot, kind: FileKind, file: &Bytes) -> Result<Self, Rejection> {
        Self::read(root, kind, file, Shard::verify_all, Extensions::check_whole)
    }

    /// Opens a part of a served trust state (protocol §9.9). Certificates are verified when they
    /// are first looked up: the registrar signed the part as a whole.
    pub(super) fn part(root: &TrustRoot, kind: FileKind, file: &Bytes) -> Result<Self, Rejection> {
        Self::read(root, kind, file, |_| Ok(()), |_| Ok(()))
    }

    fn read(
        root: &TrustRoot,
        kind: FileKind,
        file: &Bytes,
        check: impl FnOnce(&Shard) -> Result<(), Rejection>,
        check_extent: impl FnOnce(&Extensions) -> Result<(), Rejection>,
    ) -> Result<Self, Rejection> {
        let file = SignedFile::parse(kind, file)?;
        root.check_file(kind.role(), &file)?;
        let check_mesh = |mesh| {
            let (place, reason) = (Place::TrustFile, UntrustedRoot::OtherMesh);
            if mesh == root.mesh() {
                Ok(())
            } else {
                Err(Rejection::UntrustedRoot { place, reason })
            }
        };
        let (edition, mut content, extensions) = read_body(kind, &file.body, check_mesh, |r| {
            Ok(match kind {
                FileKind::Registry => {
                    let shard = Shard::read(r, root)?;
                    check(&shard)?;
                    Content::Registry(shard)
                }
                FileKind::Policy => Content::Policy(Policy::read(r)?),
                FileKind::Revocations => Content::Revocations(RevocationSet::read(r)?),
                FileKind::Scores => Content::Scores(read_scores(r)?),
                FileKind::Books => Content::Books(r.bin(usize::MAX)?),
                FileKind::Root | FileKind::Timestamp | FileKind::Snapshot => {
                    return Err(r.fault(Malformed::OutOfRange));
                }
            })
        })?;
        check_extent(&extensions)?;
        let place = Place::TrustFile;
        if let (Content::Revocations(set), Some(value)) = (&mut content, &extensions.retirements) {
            set.read_retirements(value, place)?;
        }
        let shard = extensions.shard.unwrap_or((0, 1));
        if let Content::Registry(entries) = &mut content {
            entries.check_place(shard)?;
        }
        Ok(Self {
            edition,
            content,
            shard,
        })
    }
}

/// Reads a body `[v, mesh, epoch, nbf, exp, …content…, ext]`.
pub(super) fn read_body<T>(
    kind: FileKind,
    body: &Bytes,
    check_mesh: impl FnOnce(MeshId) -> Result<(), Rejection>,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, Rejection>,
) -> Result<(Edition, T, Extensions), Rejection> {
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
    let extensions = match kind {
        // A policy reads its own.
        FileKind::Policy => Extensions::default(),
        _ => Extensions::read(&mut r, kind)?,
    };
    r.finish()?;
    Ok((edition, content, extensions))
}

/// Values between the window and the extensions of each kind of file.
const fn content_len(kind: FileKind) -> usize {
    match kind {
        FileKind::Policy | FileKind::Timestamp => 4,
        FileKind::Revocations => 3,
        _ => 1,
    }
}

pub(super) fn read_scores(r: &mut Reader<'_>) -> Result<HashMap<AgentId, u16>, Rejection> {
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
    /// Books of a verifier service, as it encodes them.
    Books(&'a [u8]),
}

/// Which part of the whole a new file is (protocol §9.9).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Extent {
    /// All there is of its kind.
    Whole,
    /// One of several.
    Shard {
        /// Its number, from 0.
        index: u16,
        /// How many there are; 0 for revocations, of which there may always be more.
        count: u16,
    },
}

impl FileDraft<'_> {
    /// Signs the file with keys of the role that must sign it, each with its position in the role.
    ///
    /// Nothing is checked here. What a reader would refuse, such as a window of more than 30 days
    /// or too few signers, comes out when the file is [assembled](super::TrustState::assemble).
    pub fn sign(&self, mesh: MeshId, edition: Edition, signers: &[(u8, &SigningKey)]) -> Bytes {
        self.sign_part(mesh, edition, Extent::Whole, signers)
    }

    /// [`sign`](Self::sign), for a part of a served trust state (protocol §9.9).
    pub fn sign_part(
        &self,
        mesh: MeshId,
        edition: Edition,
        extent: Extent,
        signers: &[(u8, &SigningKey)],
    ) -> Bytes {
        let kind = match self {
            Self::Registry(_) => FileKind::Registry,
            Self::Policy(_) => FileKind::Policy,
            Self::Revocations(_) => FileKind::Revocations,
            Self::Scores(_) => FileKind::Scores,
            Self::Books(_) => FileKind::Books,
        };
        let mut body = begin_body(kind, mesh, edition);
        let mut ext: Vec<(u16, bool, serde_bytes::ByteBuf)> = Vec::new();
        match self {
            Self::Registry(certificates) => {
                let list: Vec<_> = certificates.iter().map(|bytes| bin(bytes)).collect();
                wire::encode_into(&mut body, &list);
            }
            Self::Policy(policy) => policy.write(&mut body),
            Self::Revocations(set) => {
                set.write(&mut body);
                if let Some(value) = set.write_retirements() {
                    ext.push((EXT_RETIREMENTS, true, value.into()));
                }
            }
            Self::Scores(scores) => {
                let list: Vec<_> = scores.iter().map(|(id, s)| (id.as_str(), *s)).collect();
                wire::encode_into(&mut body, &list);
            }
            Self::Books(bytes) => wire::encode_into(&mut body, bin(bytes)),
        }
        if let Extent::Shard { index, count } = extent {
            let value = [index.to_be_bytes(), count.to_be_bytes()].concat();
            ext.push((EXT_SHARD, true, value.into()));
        }
        // A policy has written its own.
        if kind != FileKind::Policy {
            wire::encode_into(&mut body, &ext);
        }
        sign_file(kind, &body, signers)
    }
}

/// Begins a body: the outer array, whose contents write themselves, up to the window.
pub(super) fn begin_body(kind: FileKind, mesh: MeshId, edition: Edition) -> Vec<u8> {
    let mut body = vec![0x90 | (6 + content_len(kind)) as u8];
    wire::encode_into(&mut body, &OBJECT_VERSION);
    wire::encode_into(&mut body, bin(&mesh.0));
    wire::encode_into(&mut body, &edition.epoch);
    wire::encode_into(&mut body, &edition.validity.from().as_millis());
    wire::encode_into(&mut body, &edition.validity.until().as_millis());
    body
}
