//! Files on disk, other than keys: read no further than their limit, written whole or not at all.
//!
//! A file is written under a temporary name in its own directory and takes its real name once
//! every byte is on disk, so a crash leaves the old file, the new file or no file. Private keys
//! have [`keyfile`](crate::keyfile), which also looks at who may read them.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

/// Why a file other than a key was not read or written. The text names the file and never repeats
/// its contents.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// There is no such file.
    #[error("{path} does not exist")]
    Absent {
        /// The path.
        path: PathBuf,
    },
    /// There is something at the path already.
    #[error("{path} exists already")]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// A directory, device, pipe or socket.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// More bytes than such a file can have.
    #[error("{path} is larger than the {limit} bytes such a file may have")]
    TooLarge {
        /// The path.
        path: PathBuf,
        /// The limit in bytes.
        limit: usize,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {why}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The operating system's reason.
        why: io::Error,
    },
}

impl FileError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |why| match why.kind() {
            io::ErrorKind::NotFound if action == "open" => Self::Absent { path },
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            _ => Self::Io { action, path, why },
        }
    }
}

/// Reads a regular file of at most `limit` bytes, whatever size it says it has.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, FileError> {
    let file = open(path).map_err(FileError::io("open", path))?;
    let metadata = file.metadata().map_err(FileError::io("inspect", path))?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(FileError::io("read", path))?;
    if bytes.len() > limit {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

/// [`read`], where it is no error that there is no such file.
pub(crate) fn read_if_there(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, FileError> {
    match read(path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(FileError::Absent { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file in place of what is there, if anything. On return it survives a power failure.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = Temporary::write(path, bytes)?;
    step()
        .and_then(|()| std::fs::rename(&temporary.0, path))
        .map_err(FileError::io("replace", path))?;
    temporary.renamed();
    sync_directory(path)
}

/// Gives a file another name, in place of what has that name. Nothing happens when the file is not
/// there.
pub(crate) fn rename_if_there(from: &Path, to: &Path) -> Result<(), FileError> {
    match step().and_then(|()| std::fs::rename(from, to)) {
        Ok(()) => sync_directory(to),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(FileError::io("replace", to)(error)),
    }
}

/// Removes a file. Nothing happens when it is not there.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), FileError> {
    match step().and_then(|()| std::fs::remove_file(path)) {
        Ok(()) => sync_directory(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(FileError::io("remove", path)(error)),
    }
}

/// The names in a directory that are text.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>, FileError> {
    let cannot = |error| FileError::io("list", directory)(error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(cannot)? {
        names.extend(entry.map_err(cannot)?.file_name().into_string());
    }
    Ok(names)
}

/// Writes a new file; [`FileError::Exists`] when there is anything at `path`.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = Temporary::write(path, bytes)?;
    // Unlike a rename, a hard link refuses to take a name that is in use.
    step()
        .and_then(|()| std::fs::hard_link(&temporary.0, path))
        .map_err(FileError::io("name", path))?;
    drop(temporary);
    sync_directory(path)
}

/// Makes a directory and those above it, unless they exist. New ones are the owner's alone.
pub(crate) fn private_directory(path: &Path) -> Result<(), FileError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(FileError::io("create the directory", path))
}

/// A lock that ends with the value, or with the process. It binds only those who ask for it.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock kept in the file at `path`, or `None` when somebody holds it.
    pub(crate) fn take(path: &Path) -> Result<Option<Self>, FileError> {
        let file = lock_file(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(FileError::io("lock", path)(error)),
        }
    }

    /// Takes the lock once whoever holds it has let go.
    pub(crate) fn wait(path: &Path) -> Result<Self, FileError> {
        let file = lock_file(path)?;
        file.lock().map_err(FileError::io("lock", path))?;
        Ok(Self { _file: file })
    }
}

fn lock_file(path: &Path) -> Result<File, FileError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(path)
        .map_err(FileError::io("create the lock", path))
}

/// Opens without waiting for anybody to write to a pipe.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    options.open(path)
}

/// Creates a file that only its owner may write, whatever the umask.
fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o644);
    options.open(path)
}

/// A complete file under a name of its own, removed again unless renamed.
struct Temporary(PathBuf);

impl Temporary {
    /// Writes beside `target`, since neither a link nor a rename crosses file systems.
    fn write(target: &Path, bytes: &[u8]) -> Result<Self, FileError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|error| FileError::io("name a file beside", target)(error.into()))?;
        let suffix = data_encoding::HEXLOWER.encode(&random);
        let path = target.with_file_name(format!(".trustmesh-{suffix}.tmp"));
        let mut file = step()
            .and_then(|()| create_new(&path))
            .map_err(FileError::io("write beside", target))?;
        let temporary = Self(path);
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(FileError::io("write", &temporary.0))?;
        Ok(temporary)
    }

    /// There is no such name any more.
    fn renamed(mut self) {
        self.0 = PathBuf::new();
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() && step().is_ok() {
            // Should this fail, a stray file stays that nothing reads.
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

/// Makes a new name durable: it is part of the directory, not of the file.
#[cfg(unix)]
fn sync_directory(path: &Path) -> Result<(), FileError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(FileError::io("sync the directory of", path))
}

/// Elsewhere directories cannot be synced; the file system's journal has to do.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> Result<(), FileError> {
    Ok(())
}

/// Called before each change to a file system; only a test makes it fail.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "in tests it fails")]
pub(crate) fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) use self::crash::step;

/// A process that dies between two changes to its files.
#[cfg(test)]
pub(crate) mod crash {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Lets this thread make that many changes to files while `run` does, and none after them.
    pub(crate) fn after<T>(changes: usize, run: impl FnOnce() -> T) -> T {
        LEFT.set(Some(changes));
        let done = run();
        LEFT.set(None);
        done
    }

    pub(crate) fn step() -> io::Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => Err(io::Error::other("the process is dead")),
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_is_replaced_whole_and_created_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        create(&path, b"one").unwrap();
        assert!(matches!(
            create(&path, b"two"),
            Err(FileError::Exists { .. })
        ));
        replace(&path, b"three").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"three");
        assert_eq!(names(directory.path()), ["file"], "nothing stray is left");
    }

    #[test]
    fn what_is_no_small_regular_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert!(matches!(read(&path, 9), Err(FileError::Absent { .. })));
        assert!(read_if_there(&path, 9).unwrap().is_none());
        std::fs::write(&path, [0; 10]).unwrap();
        assert!(matches!(
            read(&path, 9),
            Err(FileError::TooLarge { limit: 9, .. })
        ));
        let error = read(directory.path(), 9).unwrap_err();
        assert!(matches!(error, FileError::NotAFile { .. }), "{error}");
    }

    #[test]
    fn a_lock_has_one_holder_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = Lock::take(&path).unwrap();
        assert!(held.is_some());
        assert!(Lock::take(&path).unwrap().is_none());
        drop(held);
        assert!(Lock::take(&path).unwrap().is_some());
    }
}
