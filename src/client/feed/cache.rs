//! The newest trust state on disk: what a restart begins with, and never goes below.
//!
//! ```text
//! <cache>/root.<n>       trust roots after the first
//!         head           the newest bulletin, without parts
//!         part.<digest>  the parts it names
//! ```
//!
//! Parts are written before the head that names them, and removed after it.

use std::path::PathBuf;
use std::sync::Mutex;

use bytes::Bytes;

use super::FeedError;
use super::HEAD;
use super::part_key;
use super::root_key;
use crate::client::guards::lock;
use crate::files;
use crate::files::FileError;
use crate::proto::limits::TRUST_FILE_MAX;
use crate::proto::trust::BULLETIN_MAX;
use crate::proto::trust::Bulletin;
use crate::proto::trust::Follower;
use crate::proto::trust::PartEdition;
use crate::proto::trust::Progress;

/// A timestamp of the same snapshot is written when the one on disk is this much older, in
/// milliseconds: a floor for time that costs one write a minute.
const TIME_STEP_MS: u64 = 60_000;

/// A directory of trust state.
#[derive(Debug)]
pub(super) struct Cache {
    path: PathBuf,
    /// What is on disk, as far as known.
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    roots: usize,
    snapshot: Option<PartEdition>,
    issued_ms: u64,
}

impl Cache {
    pub(super) fn at(path: PathBuf) -> Self {
        let written = Mutex::default();
        Self { path, written }
    }

    /// Brings a follower to where the last run was. Nothing there is a first run.
    pub(super) fn load(&self, follower: &mut Follower) -> Result<(), FeedError> {
        while let Some(root) = self.read(&root_key(follower.root().version().saturating_add(1)))? {
            follower.succeed(&root)?;
        }
        let Some(head) = self.read(HEAD)? else {
            return Ok(());
        };
        let bulletin = Bulletin::parse(&head)?;
        let mut fault = None;
        let progress = follower.hear(&bulletin, |digest| match self.read(&part_key(digest)) {
            Ok(part) => part,
            Err(error) => {
                fault = Some(error);
                None
            }
        });
        if let Some(fault) = fault {
            return Err(fault.into());
        }
        match progress? {
            Progress::Missing(_) => Err(super::incomplete()),
            Progress::Advanced(_) | Progress::Unchanged => {
                *lock(&self.written) = written(follower);
                Ok(())
            }
        }
    }

    /// Keeps what the follower holds.
    pub(super) fn store(&self, follower: &Follower) -> Result<(), FileError> {
        let mut before = lock(&self.written);
        let now = written(follower);
        let same = before.snapshot == now.snapshot && before.roots == now.roots;
        if same && now.issued_ms < before.issued_ms.saturating_add(TIME_STEP_MS) {
            return Ok(());
        }
        let Some(bulletin) = follower.bulletin() else {
            return Ok(());
        };
        files::private_directory(&self.path)?;
        for (version, root) in (2u32..).zip(follower.later_roots()) {
            self.create(&root_key(version), root)?;
        }
        let parts: Vec<_> = follower
            .files()
            .map(|(digest, file)| (part_key(&digest), file))
            .collect();
        for (name, part) in &parts {
            self.create(name, part)?;
        }
        files::replace(&self.path.join(HEAD), &bulletin.to_bytes())?;
        *before = now;
        self.sweep(&parts);
        Ok(())
    }

    /// Removes parts that no head names any more. What cannot be removed now is later.
    fn sweep(&self, parts: &[(String, Bytes)]) {
        let Ok(entries) = std::fs::read_dir(&self.path) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_kept = parts.iter().any(|(kept, _)| *kept == name);
            if name.starts_with("part.") && !is_kept {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        match files::create(&self.path.join(name), bytes) {
            Err(FileError::Exists { .. }) => Ok(()),
            other => other,
        }
    }

    fn read(&self, name: &str) -> Result<Option<Bytes>, FileError> {
        let limit = if name == HEAD {
            BULLETIN_MAX
        } else {
            TRUST_FILE_MAX
        };
        let bytes = files::read_if_there(&self.path.join(name), limit)?;
        Ok(bytes.map(Bytes::from))
    }
}

fn written(follower: &Follower) -> Written {
    let time = follower.state().and_then(|state| state.time());
    Written {
        roots: follower.later_roots().len(),
        snapshot: time.map(|time| time.snapshot()),
        issued_ms: time.map_or(0, |time| time.issued().as_millis()),
    }
}
