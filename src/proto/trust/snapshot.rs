//! Which trust state is the newest: timestamp, snapshot and parts (protocol §9.9).
//!
//! ```text
//! timestamp  [v, mesh, epoch, nbf, exp, snapshot epoch, snapshot digest, root version, root id, ext]
//! snapshot   [v, mesh, epoch, nbf, exp, [[kind, index, epoch, digest bin32]…], ext]
//! ```
//!
//! The timestamp names the snapshot, the snapshot every part, each by epoch and by the digest of
//! the whole file. Where a file comes from, and whatever else is said about it there, means nothing.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Edition;
use super::files::begin_body;
use super::files::read_body;
use crate::proto::identity::SigningKey;
use crate::proto::names::Tag;
use crate::proto::rejection::Malformed;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::StaleState;
use crate::proto::rejection::UntrustedRoot;
use crate::proto::root::FileKind;
use crate::proto::root::SignedFile;
use crate::proto::root::TrustRoot;
use crate::proto::root::sign_file;
use crate::proto::signing::ObjectId;
use crate::proto::time::ClockSkew;
use crate::proto::time::Timestamp;
use crate::proto::time::Validity;
use crate::proto::wire;
use crate::proto::wire::Reader;
use crate::proto::wire::bin;

/// How long a timestamp is fresh, in milliseconds: four are made in that time.
pub const TIMESTAMP_TTL_MS: u64 = 20_000;

/// How often a timestamp is made, in milliseconds.
pub const TIMESTAMP_EVERY_MS: u64 = 5_000;

/// Most parts of a snapshot: 256 shards of the registry, as many of scores, and 511 segments of
/// revocations.
pub const PARTS_MAX: usize = 1_024;

/// The digest a file is named by: `SHA-256("trust-part" tag || file)`.
pub fn digest_of(file: &[u8]) -> ObjectId {
    Tag::TrustPart.digest(file)
}

/// Which part of a trust state.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PartKey {
    /// Registry, policy, revocations, scores or books.
    pub kind: FileKind,
    /// Its number among those of its kind, from 0.
    pub index: u16,
}

/// An edition of a part.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PartEdition {
    /// Its epoch.
    pub epoch: u64,
    /// The digest of its file, [`digest_of`].
    pub digest: ObjectId,
}

/// A checked timestamp.
///
/// Holding one tells you that the timestamp role of the root it was opened under signed it. It is
/// the only thing that says which trust state is the newest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustTime {
    epoch: u64,
    issued: Timestamp,
    until: Timestamp,
    snapshot: PartEdition,
    root: (u32, ObjectId),
    digest: ObjectId,
    file: Bytes,
}

/// What a new timestamp shall say.
#[derive(Clone, Copy, Debug)]
pub struct TrustTimeDraft {
    /// One more than that of the timestamp before.
    pub epoch: u64,
    /// When it is made. It is fresh for [`TIMESTAMP_TTL_MS`].
    pub issued: Timestamp,
    /// The newest snapshot.
    pub snapshot: PartEdition,
    /// Version and id of the newest trust root.
    pub root: (u32, ObjectId),
}

impl TrustTimeDraft {
    /// Signs the timestamp with keys of the timestamp role.
    ///
    /// # Errors
    ///
    /// [`Rejection::Malformed`] at the end of time.
    pub fn sign(
        &self,
        root: &TrustRoot,
        signers: &[(u8, &SigningKey)],
    ) -> Result<Bytes, Rejection> {
        let until = self.issued.plus(TIMESTAMP_TTL_MS);
        let validity = Validity::new(self.issued, until).ok_or(LIFETIME)?;
        let epoch = self.epoch;
        let edition = Edition { epoch, validity };
        let mut body = begin_body(FileKind::Timestamp, root.mesh(), edition);
        wire::encode_into(&mut body, &self.snapshot.epoch);
        wire::encode_into(&mut body, bin(&self.snapshot.digest.0));
        wire::encode_into(&mut body, &self.root.0);
        wire::encode_into(&mut body, bin(&self.root.1.0));
        body.push(0x90);
        Ok(sign_file(FileKind::Timestamp, &body, signers))
    }
}

impl TrustTime {
    /// Checks a timestamp. Whether it is fresh is not looked at.
    ///
    /// # Errors
    ///
    /// [`Rejection::Malformed`], [`Rejection::UnsupportedVersion`], [`Rejection::UntrustedRoot`]
    /// or [`Rejection::BadSignature`].
    pub fn open(root: &TrustRoot, file: &Bytes) -> Result<Self, Rejection> {
        let digest = digest_of(file);
        let (edition, (snapshot, named)) = open(root, FileKind::Timestamp, file, |r| {
            let snapshot = read_edition(r)?;
            Ok((snapshot, (r.number_of()?, r.object_id()?)))
        })?;
        if edition.validity.millis() > TIMESTAMP_TTL_MS {
            return Err(LIFETIME);
        }
        Ok(Self {
            epoch: edition.epoch,
            issued: edition.validity.from(),
            until: edition.validity.until(),
            snapshot,
            root: named,
            digest,
            file: file.clone(),
        })
    }

    /// The file it was read from.
    pub fn file(&self) -> &Bytes {
        &self.file
    }

    /// Its number, which grows with each.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// When it was made.
    pub fn issued(&self) -> Timestamp {
        self.issued
    }

    /// Until when it is fresh.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// The snapshot it names.
    pub fn snapshot(&self) -> PartEdition {
        self.snapshot
    }

    /// Version and id of the trust root it names.
    pub fn root(&self) -> (u32, ObjectId) {
        self.root
    }

    /// Checks that it is recent enough for what is to be decided, and not from the future.
    pub(super) fn check_age(
        &self,
        now: Timestamp,
        skew: ClockSkew,
        purpose: Purpose,
    ) -> Result<(), Rejection> {
        let ahead = self.issued.since(now) > skew.as_millis();
        if ahead || now.since(self.issued) > purpose.bound_ms() {
            return Err(Rejection::StaleState {
                reason: StaleState::Timestamp,
            });
        }
        Ok(())
    }

    /// Checks that it may follow `older`: its epochs are no lower, and the same epoch is the same
    /// thing.
    ///
    /// # Errors
    ///
    /// [`Rejection::StaleState`] with [`Rollback`](StaleState::Rollback) or
    /// [`Equivocation`](StaleState::Equivocation).
    pub fn check_follows(&self, older: &Self) -> Result<(), Rejection> {
        let own = |time: &Self| PartEdition {
            epoch: time.epoch,
            digest: time.digest,
        };
        own(self).check_follows(own(older))?;
        self.snapshot.check_follows(older.snapshot)
    }
}

impl PartEdition {
    /// Checks that an edition may follow another of the same thing.
    ///
    /// # Errors
    ///
    /// As [`TrustTime::check_follows`].
    pub fn check_follows(self, older: Self) -> Result<(), Rejection> {
        let reason = if self.epoch < older.epoch {
            StaleState::Rollback
        } else if self.epoch == older.epoch && self.digest != older.digest {
            StaleState::Equivocation
        } else {
            return Ok(());
        };
        Err(Rejection::StaleState { reason })
    }
}

/// What a decision is about, which says how old the newest timestamp may be (protocol §9.10).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// Authority and keys: delegating, taking authority over, enrolling, rotating. 20 s.
    Authority,
    /// Requests, their answers, and handshakes. 60 s.
    Request,
    /// Other messages, and subscriptions. 10 minutes.
    Publish,
    /// Reading what lies on disk, which is decided again before anything is done with it.
    Loading,
}

impl Purpose {
    /// How old the newest timestamp may be, in milliseconds.
    pub const fn bound_ms(self) -> u64 {
        match self {
            Self::Authority => TIMESTAMP_TTL_MS,
            Self::Request => 60_000,
            Self::Publish => 600_000,
            Self::Loading => u64::MAX,
        }
    }
}

/// A checked snapshot.
///
/// Holding one tells you that the timestamp role signed it, and that it is the one that a timestamp
/// named.
#[derive(Clone, Debug)]
pub struct Snapshot {
    edition: Edition,
    parts: BTreeMap<PartKey, PartEdition>,
}

impl Snapshot {
    /// Signs a new snapshot with keys of the timestamp role.
    pub fn sign(
        root: &TrustRoot,
        edition: Edition,
        parts: &BTreeMap<PartKey, PartEdition>,
        signers: &[(u8, &SigningKey)],
    ) -> Bytes {
        let mut body = begin_body(FileKind::Snapshot, root.mesh(), edition);
        let list: Vec<_> = parts
            .iter()
            .map(|(key, part)| (key.kind as u8, key.index, part.epoch, bin(&part.digest.0)))
            .collect();
        wire::encode_into(&mut body, &list);
        body.push(0x90);
        sign_file(FileKind::Snapshot, &body, signers)
    }

    /// Checks the snapshot that a timestamp names.
    ///
    /// # Errors
    ///
    /// [`Rejection::StaleState`] with [`Incomplete`](StaleState::Incomplete) when it is not the one
    /// that is named; otherwise as [`TrustTime::open`].
    pub fn open(root: &TrustRoot, named: PartEdition, file: &Bytes) -> Result<Self, Rejection> {
        if digest_of(file) != named.digest {
            return Err(INCOMPLETE);
        }
        let (edition, parts) = open(root, FileKind::Snapshot, file, read_parts)?;
        if edition.epoch != named.epoch {
            return Err(INCOMPLETE);
        }
        Ok(Self { edition, parts })
    }

    /// Its epoch and window.
    pub fn edition(&self) -> Edition {
        self.edition
    }

    /// Its parts.
    pub fn parts(&self) -> &BTreeMap<PartKey, PartEdition> {
        &self.parts
    }

    /// How many parts of a kind there are.
    pub(super) fn count(&self, kind: FileKind) -> usize {
        self.of_kind(kind).count()
    }

    pub(super) fn of_kind(&self, kind: FileKind) -> impl Iterator<Item = (PartKey, PartEdition)> {
        let (first, last) = (
            PartKey { kind, index: 0 },
            PartKey {
                kind,
                index: u16::MAX,
            },
        );
        self.parts
            .range(first..=last)
            .map(|(key, part)| (*key, *part))
    }

    /// Checks that the parts may follow those of an older snapshot (protocol §9.11).
    pub(super) fn check_follows(&self, older: &Self) -> Result<(), Rejection> {
        let rollback = Rejection::StaleState {
            reason: StaleState::Rollback,
        };
        for kind in [
            FileKind::Registry,
            FileKind::Policy,
            FileKind::Revocations,
            FileKind::Scores,
        ] {
            let (before, after) = (older.count(kind), self.count(kind));
            let sharded = matches!(kind, FileKind::Registry | FileKind::Scores);
            let resharded = before != after && sharded;
            if resharded {
                // Shards have new meanings; they must all be newer than whatever there was.
                let newest = older.of_kind(kind).map(|(_, part)| part.epoch).max();
                if self
                    .of_kind(kind)
                    .any(|(_, part)| Some(part.epoch) <= newest)
                    || after == 0
                {
                    return Err(rollback);
                }
                continue;
            }
            for (key, part) in older.of_kind(kind) {
                match self.parts.get(&key) {
                    Some(newer) => newer.check_follows(part)?,
                    // Cut anew: that nothing was un-revoked is asked of the whole.
                    None if kind == FileKind::Revocations => {}
                    None => return Err(rollback),
                }
            }
        }
        Ok(())
    }
}

const LIFETIME: Rejection = Rejection::Malformed {
    place: Place::TrustFile,
    reason: Malformed::Lifetime,
};

/// A part is missing, or is not the one that is named.
pub(super) const INCOMPLETE: Rejection = Rejection::StaleState {
    reason: StaleState::Incomplete,
};

pub(super) fn read_edition(r: &mut Reader<'_>) -> Result<PartEdition, Rejection> {
    Ok(PartEdition {
        epoch: r.uint()?,
        digest: r.object_id()?,
    })
}

pub(super) fn read_parts(r: &mut Reader<'_>) -> Result<BTreeMap<PartKey, PartEdition>, Rejection> {
    let mut parts = BTreeMap::new();
    for _ in 0..r.array_up_to(PARTS_MAX)? {
        r.array_of(4)?;
        let number = r.uint()?;
        let kind = match number {
            2 => FileKind::Registry,
            3 => FileKind::Policy,
            4 => FileKind::Revocations,
            5 => FileKind::Scores,
            8 => FileKind::Books,
            _ => return Err(r.fault(Malformed::OutOfRange)),
        };
        let index = r.number_of()?;
        let key = PartKey { kind, index };
        if parts.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(r.fault(Malformed::Duplicate));
        }
        parts.insert(key, read_edition(r)?);
    }
    Ok(parts)
}

/// Opens a file of the timestamp role.
fn open<T>(
    root: &TrustRoot,
    kind: FileKind,
    file: &Bytes,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, Rejection>,
) -> Result<(Edition, T), Rejection> {
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
    let (edition, content, _) = read_body(kind, &file.body, check_mesh, read)?;
    Ok((edition, content))
}
