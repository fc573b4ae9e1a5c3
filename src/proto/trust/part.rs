//! One part of a served trust state, checked (protocol §9.9).

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Edition;
use super::files::Content;
use super::files::Opened;
use super::registry::Shard;
use super::snapshot::INCOMPLETE;
use super::snapshot::PartEdition;
use super::snapshot::PartKey;
use super::snapshot::digest_of;
use crate::proto::identity::AgentId;
use crate::proto::policy::Policy;
use crate::proto::rejection::Rejection;
use crate::proto::revocation::RevocationSet;
use crate::proto::root::TrustRoot;

/// A checked part of a trust state.
///
/// Holding one tells you that it is the very file a snapshot named, and that the role it is of
/// signed it under the root it was opened under. By itself it decides nothing: see
/// [`TrustState::compose`](super::TrustState::compose).
#[derive(Clone, Debug)]
pub struct Part {
    pub(super) key: PartKey,
    pub(super) named: PartEdition,
    pub(super) edition: Edition,
    /// How many parts of its kind there are.
    pub(super) count: u16,
    pub(super) content: PartContent,
    /// The file, whose bytes a registry shares anyway.
    file: Bytes,
}

#[derive(Clone, Debug)]
pub(super) enum PartContent {
    Registry(Arc<Shard>),
    Policy(Arc<Policy>),
    Revocations(Arc<RevocationSet>),
    Scores(Arc<HashMap<AgentId, u16>>),
    Books(Bytes),
}

impl Part {
    /// Checks the part that a snapshot names.
    ///
    /// # Errors
    ///
    /// [`Rejection::StaleState`] with
    /// [`Incomplete`](crate::proto::rejection::StaleState::Incomplete) when it is another file;
    /// otherwise as [`TrustState::assemble`](super::TrustState::assemble).
    pub fn open(
        root: &TrustRoot,
        key: PartKey,
        named: PartEdition,
        file: &Bytes,
    ) -> Result<Self, Rejection> {
        if digest_of(file) != named.digest {
            return Err(INCOMPLETE);
        }
        let opened = Opened::part(root, key.kind, file)?;
        let (index, count) = opened.shard;
        if index != key.index || opened.edition.epoch != named.epoch {
            return Err(INCOMPLETE);
        }
        let content = match opened.content {
            Content::Registry(shard) => {
                shard.check_distinct()?;
                PartContent::Registry(Arc::new(shard))
            }
            Content::Policy(policy) => PartContent::Policy(Arc::new(policy)),
            Content::Revocations(set) => PartContent::Revocations(Arc::new(set)),
            Content::Scores(scores) => PartContent::Scores(Arc::new(scores)),
            Content::Books(bytes) => PartContent::Books(bytes),
        };
        Ok(Self {
            key,
            named,
            edition: opened.edition,
            count,
            content,
            file: file.clone(),
        })
    }

    /// The books it holds, when it is such a part.
    pub fn books(&self) -> Option<&Bytes> {
        match &self.content {
            PartContent::Books(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The encoded certificates it holds, when it is a shard of the registry.
    pub fn certificates(&self) -> Vec<Bytes> {
        match &self.content {
            PartContent::Registry(shard) => shard.entries(),
            _ => Vec::new(),
        }
    }

    /// The file it was read from.
    pub fn file(&self) -> &Bytes {
        &self.file
    }

    /// Which part it is.
    pub fn key(&self) -> PartKey {
        self.key
    }

    /// Epoch and digest it is named by.
    pub fn named(&self) -> PartEdition {
        self.named
    }
}
