//! The press of a served mesh: turns the books into signed parts, of which only those that changed
//! are new (protocol §9.9).

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::hash::Hasher as _;

use bytes::Bytes;

use crate::proto::identity::KeyBytes;
use crate::proto::identity::SigningKey;
use crate::proto::limits::LIFETIME_MAX_MS;
use crate::proto::rejection::Rejection;
use crate::proto::revocation::RevocationSet;
use crate::proto::root::FileKind;
use crate::proto::root::Role;
use crate::proto::root::TrustRoot;
use crate::proto::signing::ObjectId;
use crate::proto::time::Timestamp;
use crate::proto::trust::Bulletin;
use crate::proto::trust::Edition;
use crate::proto::trust::Extent;
use crate::proto::trust::FileDraft;
use crate::proto::trust::PartEdition;
use crate::proto::trust::PartKey;
use crate::proto::trust::REGISTRY_SHARDS_MAX;
use crate::proto::trust::Snapshot;
use crate::proto::trust::TrustTimeDraft;
use crate::proto::trust::digest_of;
use crate::proto::trust::shard_of;

use super::window;

/// Agents per shard of the registry, on average, before it gets twice as many shards: some 130 KiB.
const SHARD_AGENTS: usize = 400;

/// Names in a segment of revocations before the next begins: some 70 KiB.
const SEGMENT_NAMES: usize = 2_000;

/// Scores in a shard: some 60 KiB.
const SHARD_SCORES: usize = 2_000;

/// A part is signed anew when less than this is left of its window, though it did not change.
const RENEW_BELOW_MS: u64 = LIFETIME_MAX_MS / 2;

/// What is to be published.
pub(super) struct Books<'a> {
    pub(super) certificates: &'a BTreeMap<KeyBytes, Bytes>,
    pub(super) policy: &'a crate::proto::policy::Policy,
    pub(super) revocations: &'a RevocationSet,
    pub(super) scores: &'a BTreeMap<crate::proto::identity::AgentId, u16>,
    /// The books proper, in chunks that change independently.
    pub(super) chunks: Vec<Vec<u8>>,
}

/// The role keys that sign trust state, and the root they are of.
pub(super) struct Signers<'a> {
    pub(super) root: &'a TrustRoot,
    pub(super) keys: &'a BTreeMap<Role, SigningKey>,
}

impl Signers<'_> {
    fn of(&self, kind: FileKind) -> Vec<(u8, &SigningKey)> {
        let role = kind.role();
        let Some(key) = self.keys.get(&role) else {
            return Vec::new();
        };
        let public = key.public();
        // The position of our key among those of its role; without one, readers refuse the file.
        let position = self
            .root
            .keys(role)
            .iter()
            .position(|known| *known == public);
        position
            .and_then(|index| u8::try_from(index).ok())
            .map(|index| (index, key))
            .into_iter()
            .collect()
    }
}

/// A part as it was signed last.
#[derive(Clone, Debug)]
struct Sheet {
    named: PartEdition,
    until: Timestamp,
    /// Fingerprint of the content, to see whether it changed.
    content: u64,
    file: Bytes,
}

/// What was signed last.
#[derive(Debug, Default)]
pub(super) struct Press {
    root: Option<ObjectId>,
    sheets: BTreeMap<PartKey, Sheet>,
    /// Revocations by segment; only the last one grows.
    segments: Vec<RevocationSet>,
    /// All of them together.
    revoked: RevocationSet,
    snapshot: Option<(PartEdition, Bytes, Timestamp)>,
    /// The epoch of the last snapshot and its parts.
    epoch: u64,
    /// The epoch of the last timestamp.
    time: u64,
}

impl Press {
    /// The epoch of the last snapshot.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Grows with the clock, so that a restart that forgot the last number goes on above it.
    fn next_time(&self, now: Timestamp) -> u64 {
        (self.time + 1).max(now.as_millis())
    }

    /// Never signs at or below these epochs again.
    pub(super) fn continue_after(&mut self, epoch: u64, time: u64) {
        self.epoch = self.epoch.max(epoch);
        self.time = self.time.max(time);
    }

    /// Signs what changed, a snapshot when anything did, and a timestamp in any case.
    pub(super) fn print(
        &mut self,
        books: &Books<'_>,
        signers: &Signers<'_>,
        now: Timestamp,
    ) -> Result<Bulletin, Rejection> {
        // Under another root every part must be signed again.
        let fresh_root = self.root != Some(signers.root.id());
        if fresh_root {
            self.sheets.clear();
        }
        let epoch = self.epoch + 1;
        let mut run = Run {
            old: &self.sheets,
            new: BTreeMap::new(),
            changed: Vec::new(),
            edition: Edition {
                epoch,
                validity: window(now, LIFETIME_MAX_MS)?,
            },
            signers,
            now,
        };
        run.registry(books.certificates);
        run.part(
            FileKind::Policy,
            Extent::Whole,
            FileDraft::Policy(books.policy),
            || {
                let mut bytes = Vec::new();
                books.policy.write(&mut bytes);
                fingerprint(&bytes)
            },
        );
        let segments = self.segments_with(books.revocations);
        for (index, segment) in (0u16..).zip(&segments) {
            let extent = Extent::Shard { index, count: 0 };
            run.part(
                FileKind::Revocations,
                extent,
                FileDraft::Revocations(segment),
                || fingerprint(&(segment.len(), segment.retirements())),
            );
        }
        run.scores(books.scores);
        let count = u16::try_from(books.chunks.len()).unwrap_or(u16::MAX);
        for (index, chunk) in (0..count).zip(&books.chunks) {
            let extent = Extent::Shard { index, count };
            run.part(FileKind::Books, extent, FileDraft::Books(chunk), || {
                fingerprint(chunk)
            });
        }
        let Run { new, changed, .. } = run;
        let same = changed.is_empty() && new.len() == self.sheets.len();
        let stale = |until: Timestamp| until.since(now) < RENEW_BELOW_MS;
        let snapshot = match &self.snapshot {
            Some((named, file, until)) if same && !stale(*until) => (*named, file.clone(), *until),
            _ => {
                let edition = Edition {
                    epoch,
                    validity: window(now, LIFETIME_MAX_MS)?,
                };
                let parts = new.iter().map(|(key, sheet)| (*key, sheet.named)).collect();
                let keys = signers.of(FileKind::Snapshot);
                let file = Snapshot::sign(signers.root, edition, &parts, &keys);
                let digest = digest_of(&file);
                (
                    PartEdition { epoch, digest },
                    file,
                    edition.validity.until(),
                )
            }
        };
        let draft = TrustTimeDraft {
            epoch: self.next_time(now),
            issued: now,
            snapshot: snapshot.0,
            root: (signers.root.version(), signers.root.id()),
        };
        let timestamp = draft.sign(signers.root, &signers.of(FileKind::Timestamp))?;
        let parts = changed
            .iter()
            .filter(|key| key.kind != FileKind::Books)
            .filter_map(|key| new.get(key))
            .map(|sheet| sheet.file.clone())
            .collect();
        let bulletin = Bulletin {
            timestamp,
            snapshot: snapshot.1.clone(),
            parts,
        };
        self.epoch = self.epoch.max(snapshot.0.epoch);
        self.time = draft.epoch;
        self.root = Some(signers.root.id());
        self.sheets = new;
        self.segments = segments;
        self.revoked = books.revocations.clone();
        self.snapshot = Some(snapshot);
        Ok(bulletin)
    }

    /// The segments that were there, with what was revoked since: the last one grows until it is
    /// full.
    fn segments_with(&self, all: &RevocationSet) -> Vec<RevocationSet> {
        let mut segments = self.segments.clone();
        if segments.is_empty() {
            segments.push(RevocationSet::default());
        }
        if all.len() == self.revoked.len() && all.contains(&self.revoked) {
            return segments;
        }
        for revocation in all.beyond(&self.revoked) {
            if segments
                .last()
                .is_none_or(|last| last.len() >= SEGMENT_NAMES)
            {
                segments.push(RevocationSet::default());
            }
            if let Some(last) = segments.last_mut() {
                last.revoke(revocation);
            }
        }
        segments
    }

    /// Signs a timestamp for the snapshot that was signed last, while nothing changed.
    /// `None` when there is none, or it must be signed anew.
    pub(super) fn beat(
        &mut self,
        signers: &Signers<'_>,
        now: Timestamp,
    ) -> Result<Option<Bulletin>, Rejection> {
        let soon = |until: Timestamp| until.since(now) < RENEW_BELOW_MS;
        let Some((named, file, until)) = &self.snapshot else {
            return Ok(None);
        };
        let due = soon(*until) || self.sheets.values().any(|sheet| soon(sheet.until));
        if due || self.root != Some(signers.root.id()) {
            return Ok(None);
        }
        let draft = TrustTimeDraft {
            epoch: self.next_time(now),
            issued: now,
            snapshot: *named,
            root: (signers.root.version(), signers.root.id()),
        };
        let timestamp = draft.sign(signers.root, &signers.of(FileKind::Timestamp))?;
        self.time = draft.epoch;
        let snapshot = file.clone();
        let parts = Vec::new();
        Ok(Some(Bulletin {
            timestamp,
            snapshot,
            parts,
        }))
    }

    /// Every part of the last snapshot, by digest.
    pub(super) fn parts(&self) -> HashMap<ObjectId, Bytes> {
        let sheets = self.sheets.values();
        sheets
            .map(|sheet| (sheet.named.digest, sheet.file.clone()))
            .collect()
    }
}

/// One run of the press.
struct Run<'a> {
    old: &'a BTreeMap<PartKey, Sheet>,
    new: BTreeMap<PartKey, Sheet>,
    changed: Vec<PartKey>,
    edition: Edition,
    signers: &'a Signers<'a>,
    now: Timestamp,
}

impl Run<'_> {
    fn part(
        &mut self,
        kind: FileKind,
        extent: Extent,
        draft: FileDraft<'_>,
        content: impl FnOnce() -> u64,
    ) {
        let index = match extent {
            Extent::Whole => 0,
            Extent::Shard { index, .. } => index,
        };
        let (key, content) = (PartKey { kind, index }, content());
        let kept = self.old.get(&key).filter(|sheet| {
            sheet.content == content && sheet.until.since(self.now) >= RENEW_BELOW_MS
        });
        let sheet = kept.cloned().unwrap_or_else(|| {
            let signers = self.signers.of(kind);
            let file = draft.sign_part(self.signers.root.mesh(), self.edition, extent, &signers);
            self.changed.push(key);
            let (epoch, digest) = (self.edition.epoch, digest_of(&file));
            Sheet {
                named: PartEdition { epoch, digest },
                until: self.edition.validity.until(),
                content,
                file,
            }
        });
        self.new.insert(key, sheet);
    }

    fn registry(&mut self, certificates: &BTreeMap<KeyBytes, Bytes>) {
        let wanted = certificates
            .len()
            .div_ceil(SHARD_AGENTS)
            .next_power_of_two();
        let before = self
            .old
            .keys()
            .filter(|key| key.kind == FileKind::Registry)
            .count();
        // Never fewer than before: every change of the number signs everything again.
        let count = wanted.max(before).min(REGISTRY_SHARDS_MAX.into()) as u16;
        let mut shards = vec![Vec::new(); usize::from(count)];
        for (key, bytes) in certificates {
            shards[usize::from(shard_of(key, count))].push(bytes.clone());
        }
        for (index, shard) in (0..count).zip(&shards) {
            let extent = match count {
                1 => Extent::Whole,
                _ => Extent::Shard { index, count },
            };
            self.part(
                FileKind::Registry,
                extent,
                FileDraft::Registry(shard),
                || fingerprint(&(count, shard)),
            );
        }
    }

    fn scores(&mut self, scores: &BTreeMap<crate::proto::identity::AgentId, u16>) {
        let entries: Vec<_> = scores.iter().collect();
        let wanted = entries.len().div_ceil(SHARD_SCORES).max(1);
        let before = self
            .old
            .keys()
            .filter(|key| key.kind == FileKind::Scores)
            .count();
        let count = wanted.max(before).min(REGISTRY_SHARDS_MAX.into());
        let size = entries.len().div_ceil(count).max(1);
        let mut chunks = entries.chunks(size);
        let count = count as u16;
        for index in 0..count {
            let chunk = chunks.next().unwrap_or_default().iter();
            let shard: BTreeMap<_, _> = chunk.map(|(id, score)| ((*id).clone(), **score)).collect();
            let extent = match count {
                1 => Extent::Whole,
                _ => Extent::Shard { index, count },
            };
            self.part(FileKind::Scores, extent, FileDraft::Scores(&shard), || {
                fingerprint(&(count, &shard))
            });
        }
    }
}

/// Tells contents of one run of the process apart; nothing is believed because of it.
fn fingerprint(content: &impl std::hash::Hash) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}
