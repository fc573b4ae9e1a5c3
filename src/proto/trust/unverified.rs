//! A trust file by itself: what it says, before anybody asks who signed it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Edition;
use super::files::read_body;
use super::files::read_entries;
use super::files::read_scores;
use super::snapshot::PartEdition;
use super::snapshot::PartKey;
use super::snapshot::read_edition;
use super::snapshot::read_parts;
use crate::proto::certificate::UnverifiedCertificate;
use crate::proto::identity::AgentId;
use crate::proto::policy::Policy;
use crate::proto::rejection::Malformed;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::UntrustedRoot;
use crate::proto::revocation::RevocationSet;
use crate::proto::root::FileKind;
use crate::proto::root::SignedFile;
use crate::proto::root::TrustRoot;
use crate::proto::signing::MeshId;
use crate::proto::signing::ObjectId;

/// A trust file, other than a trust root, that was decoded and not checked.
///
/// Holding one tells you that the bytes are canonical and nothing about who signed them: no
/// [`TrustState`](super::TrustState) is made of it.
#[derive(Debug)]
pub struct UnverifiedFile {
    file: SignedFile,
    mesh: MeshId,
    edition: Edition,
    content: FileContent,
    shard: Option<(u16, u16)>,
}

/// What a trust file says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FileContent {
    /// The certificates of agents, not checked either.
    Registry(Vec<UnverifiedCertificate>),
    /// A policy.
    Policy(Policy),
    /// What was revoked.
    Revocations(RevocationSet),
    /// Scores, 0 to 1000.
    Scores(BTreeMap<AgentId, u16>),
    /// The newest snapshot, and version and id of the newest trust root.
    Timestamp {
        /// The snapshot.
        snapshot: PartEdition,
        /// Version and id.
        root: (u32, ObjectId),
    },
    /// The parts of a served trust state.
    Snapshot(BTreeMap<PartKey, PartEdition>),
    /// Books of a verifier service, as it encodes them.
    Books(Bytes),
}

impl UnverifiedFile {
    /// Decodes a file of this kind.
    ///
    /// # Errors
    ///
    /// `Malformed`, `TooLarge` or `UnsupportedVersion`; a trust root, which vouches for itself, is
    /// read by [`TrustRoot::parse`] and is `Malformed` here.
    pub fn parse(kind: FileKind, bytes: &Bytes) -> Result<Self, Rejection> {
        let file = SignedFile::parse(kind, bytes)?;
        let mut mesh = MeshId([0; 16]);
        let any = |found| {
            mesh = found;
            Ok(())
        };
        let (edition, mut content, extensions) = read_body(kind, &file.body, any, |r| {
            Ok(match kind {
                FileKind::Registry => {
                    let entries = read_entries(r)?;
                    let parsed = entries.iter().map(UnverifiedCertificate::parse);
                    FileContent::Registry(parsed.collect::<Result<_, _>>()?)
                }
                FileKind::Policy => FileContent::Policy(Policy::read(r)?),
                FileKind::Revocations => FileContent::Revocations(RevocationSet::read(r)?),
                FileKind::Scores => FileContent::Scores(read_scores(r)?.into_iter().collect()),
                FileKind::Timestamp => FileContent::Timestamp {
                    snapshot: read_edition(r)?,
                    root: (r.number_of()?, r.object_id()?),
                },
                FileKind::Snapshot => FileContent::Snapshot(read_parts(r)?),
                FileKind::Books => FileContent::Books(r.bin(usize::MAX)?),
                FileKind::Root => return Err(r.fault(Malformed::OutOfRange)),
            })
        })?;
        if let (FileContent::Revocations(set), Some(value)) = (&mut content, extensions.retirements)
        {
            set.read_retirements(&value, Place::TrustFile)?;
        }
        Ok(Self {
            file,
            mesh,
            edition,
            content,
            shard: extensions.shard,
        })
    }

    /// The object id.
    pub fn id(&self) -> ObjectId {
        self.file.kind().tag().digest(&self.file.body)
    }

    /// The mesh it says to be of.
    pub fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// Its epoch and window.
    pub fn edition(&self) -> Edition {
        self.edition
    }

    /// Which part it is and of how many (protocol §9.4); `None` for the whole of its kind.
    pub fn shard(&self) -> Option<(u16, u16)> {
        self.shard
    }

    /// What it says.
    pub fn content(&self) -> &FileContent {
        &self.content
    }

    /// The positions of the keys that are said to have signed it, among those of its role.
    pub fn signers(&self) -> impl Iterator<Item = u8> {
        self.file.signers()
    }

    /// Checks that the role of this root that must sign it did.
    ///
    /// # Errors
    ///
    /// `UntrustedRoot` or `BadSignature`.
    pub fn check_signed(&self, root: &TrustRoot) -> Result<(), Rejection> {
        if self.mesh != root.mesh() {
            let (place, reason) = (Place::TrustFile, UntrustedRoot::OtherMesh);
            return Err(Rejection::UntrustedRoot { place, reason });
        }
        root.check_file(self.file.kind().role(), &self.file)
    }
}
