//! The replay floor: what an identity remembers of accepted messages across restarts.
//!
//! Message ids are remembered in memory alone, and a restart forgets them. On disk there is only a
//! ceiling: nothing issued after it was ever accepted. After a restart, what was issued up to the
//! ceiling may have been accepted before and is refused. The ceiling is raised in steps, before a
//! message above it is accepted, so that one write serves two seconds of messages; a clean
//! shutdown lowers it to the last message accepted.
//!
//! No file means no memory, whatever the reason: a state directory that was deleted looks like one
//! that never was. The floor is then the largest time of issue that can have been accepted until
//! now, `start + skew`. An identity new on disk is given its file when it is saved, so a first
//! run refuses nothing that it ought to accept.
//!
//! Each running receiver of an identity keeps a ceiling of its own, in `replay-floor`,
//! `replay-floor.1` and so on, because one must not lower what another has raised. A receiver
//! takes the first place that is free, and begins at the highest ceiling of all that have ended;
//! those that still run remember for themselves. Places are told apart by locks, which end with
//! the process. The directory belongs on a local file system, and must not be restored from a
//! backup: an old ceiling says too little.

use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use sha2::Digest as _;
use sha2::Sha256;

use crate::files;
use crate::files::FileError;
use crate::files::Lock;
use crate::proto::rejection::Overloaded;
use crate::proto::rejection::Rejection;
use crate::proto::time::ClockSkew;
use crate::proto::time::Timestamp;

/// How far the ceiling is raised above the message that needs it, in milliseconds: one durable
/// write every two seconds, and as much is refused after a crash without cause.
const STEP_MS: u64 = 2_000;

/// How far ahead of the clock a stored ceiling may be, beside step and skew, in milliseconds. By
/// more, the clock was set back, and everything would be refused until it has caught up.
const AHEAD_MS: u64 = 60_000;

/// Most receivers of one identity that run at the same time on one machine.
const PLACES_MAX: usize = 64;

/// Largest file: a heading, a number of up to 20 digits and a digest in hexadecimal.
const FILE_MAX: usize = 128;

/// First line of the file.
const HEADING: &str = "trustmesh replay floor 1";

/// The stored ceiling of one running receiver. Its place is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct ReplayFloor {
    path: PathBuf,
    /// What the file says, or less.
    ceiling: AtomicU64,
    /// The latest time of issue that was let through, or that asked to be.
    highest: AtomicU64,
    writing: Mutex<()>,
    _place: Lock,
}

impl ReplayFloor {
    /// Takes a place beside `path` and says what was issued when, at the latest, may have been
    /// accepted before: the floor. `start` is now.
    ///
    /// # Errors
    ///
    /// [`FloorError`] when a file cannot be used; then nothing may be accepted.
    pub(crate) fn open(
        path: &Path,
        start: Timestamp,
        skew: ClockSkew,
    ) -> Result<(Self, Timestamp), FloorError> {
        if let Some(parent) = path.parent() {
            files::private_directory(parent)?;
        }
        // One at a time, so that a place that is only being looked at does not seem taken.
        let _alone = Lock::wait(&with_suffix(path, ".open"))?;
        let (own, place, floor) = take_place(path, start.plus(skew.as_millis()))?;
        if floor.since(start) > skew.as_millis() + STEP_MS + AHEAD_MS {
            return Err(FloorError::Ahead {
                path: own,
                floor,
                now: start,
            });
        }
        // From here on a crash is one of a receiver that had begun at this floor.
        files::replace(&own, render(floor).as_bytes())?;
        let this = Self {
            path: own,
            ceiling: AtomicU64::new(floor.as_millis()),
            highest: AtomicU64::new(floor.as_millis()),
            writing: Mutex::new(()),
            _place: place,
        };
        Ok((this, floor))
    }

    /// Gives an identity that is new on disk its file: whatever it accepted before was issued at
    /// or before `until`. A file that exists stays as it is.
    ///
    /// # Errors
    ///
    /// [`FileError`] when it cannot be written.
    pub(crate) fn create(path: &Path, until: Timestamp) -> Result<(), FileError> {
        if let Some(parent) = path.parent() {
            files::private_directory(parent)?;
        }
        match files::create(path, render(until).as_bytes()) {
            Err(FileError::Exists { .. }) => Ok(()),
            other => other,
        }
    }

    /// Makes sure that a message issued then will be refused after a restart. To be called before
    /// the message is accepted. Most calls read and write two numbers in memory; about one in two
    /// seconds waits for the disk.
    ///
    /// # Errors
    ///
    /// [`Overloaded::State`] when the ceiling cannot be stored: the message must not be accepted.
    pub(crate) fn admit(&self, issued: Timestamp) -> Result<(), Rejection> {
        let issued = issued.as_millis();
        // Before the ceiling is read: `close` lowers it first and then asks for the highest, so it
        // cannot miss a message that is let through here by the old ceiling.
        self.highest.fetch_max(issued, Ordering::SeqCst);
        if issued <= self.ceiling.load(Ordering::SeqCst) {
            return Ok(());
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if issued <= self.ceiling.load(Ordering::SeqCst) {
            return Ok(());
        }
        let raised = issued.saturating_add(STEP_MS);
        self.store(raised).map_err(|error| {
            tracing::error!(%error, "the replay floor cannot be stored; refusing");
            Rejection::Overloaded {
                reason: Overloaded::State,
            }
        })
    }

    /// Lowers the ceiling to the last message accepted, at a clean shutdown: nothing more than
    /// that is refused after a restart. A message admitted later raises it again.
    ///
    /// # Errors
    ///
    /// [`FileError`] when it cannot be stored; the file then still says more than enough.
    pub(crate) fn close(&self) -> Result<(), FileError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // Sends everybody the slow way, to wait for the lock.
        let before = self.ceiling.swap(0, Ordering::SeqCst);
        let exact = self.highest.load(Ordering::SeqCst);
        self.store(exact)
            .inspect_err(|_| self.ceiling.store(before, Ordering::SeqCst))
    }

    fn store(&self, ceiling: u64) -> Result<(), FileError> {
        let text = render(Timestamp::from_millis(ceiling));
        files::replace(&self.path, text.as_bytes())?;
        self.ceiling.store(ceiling, Ordering::SeqCst);
        Ok(())
    }
}

/// Why the replay floor is not known (protocol §14.5). Nothing may be accepted then, so no client
/// is made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FloorError {
    /// A file cannot be read or written.
    #[error("the replay floor cannot be kept: {0}")]
    File(#[from] FileError),
    /// A file does not say what was accepted.
    #[error(
        "{path} is damaged, so nobody knows what was accepted before: remove its directory and \
         start again; messages issued until a few seconds after that are then refused"
    )]
    Damaged {
        /// The path.
        path: PathBuf,
    },
    /// The clock was set back.
    #[error(
        "{path} says that messages issued up to {floor} were accepted, and now is {now}: correct \
         the clock; if it is right, remove the directory of that file and start again"
    )]
    Ahead {
        /// The path.
        path: PathBuf,
        /// The floor.
        floor: Timestamp,
        /// The time by the clock.
        now: Timestamp,
    },
    /// 64 clients of this identity run already, in whatever processes.
    #[error("{path}: {PLACES_MAX} receivers of this identity run already: stop some of them")]
    TooMany {
        /// The path.
        path: PathBuf,
    },
}

/// Takes the first free place and finds the highest ceiling of all free ones, or `unknown` when
/// the first file is missing.
fn take_place(path: &Path, unknown: Timestamp) -> Result<(PathBuf, Lock, Timestamp), FloorError> {
    let mut floor = Timestamp::default();
    let mut own = None;
    for number in 0..PLACES_MAX {
        let file = place(path, number);
        let stored = read(&file)?;
        if number == 0 && stored.is_none() {
            floor = unknown;
        }
        if stored.is_none() && own.is_some() {
            continue;
        }
        let Some(lock) = Lock::take(&with_suffix(&file, ".lock"))? else {
            continue;
        };
        // Read again: while it was not ours, its receiver may have raised it and ended.
        floor = floor.max(read(&file)?.unwrap_or_default());
        own = own.or(Some((file, lock)));
    }
    let (file, lock) = own.ok_or_else(|| FloorError::TooMany {
        path: path.to_owned(),
    })?;
    Ok((file, lock, floor))
}

fn place(path: &Path, number: usize) -> PathBuf {
    match number {
        0 => path.to_owned(),
        _ => with_suffix(path, &format!(".{number}")),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn read(path: &Path) -> Result<Option<Timestamp>, FloorError> {
    let damaged = || FloorError::Damaged {
        path: path.to_owned(),
    };
    let bytes = match files::read_if_there(path, FILE_MAX) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(FileError::TooLarge { .. }) => return Err(damaged()),
        Err(error) => return Err(error.into()),
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| damaged())?;
    let number = text.lines().nth(1).and_then(|line| line.parse().ok());
    let ceiling = Timestamp::from_millis(number.ok_or_else(damaged)?);
    // There is one way to write each ceiling.
    if render(ceiling) == text {
        Ok(Some(ceiling))
    } else {
        Err(damaged())
    }
}

/// The contents of the file. The digest tells damage; it is no protection against whoever may
/// write the file.
fn render(ceiling: Timestamp) -> String {
    let lines = format!("{HEADING}\n{}\n", ceiling.as_millis());
    let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(&lines));
    format!("{lines}{digest}\n")
}

#[cfg(test)]
#[path = "floor_tests.rs"]
mod tests;
