//! Private keys on disk: written whole and readable by their owner alone, or not at all.
//!
//! A key file is PKCS#8 PEM (see [`keytext`](crate::proto::keytext)) with mode `0600`. It has that
//! mode from birth, under a temporary name in the same directory, and takes its real name only
//! once every byte is on disk. A crash therefore leaves the old file, the new file or no file,
//! never a part of one; at worst a temporary file stays, as private as the key.
//!
//! Only Unix says by mode bits who may read a file. Elsewhere every function here fails with
//! [`io::ErrorKind::Unsupported`] rather than store a key that others may read.

use std::fs::File;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::files::step;
use crate::proto::identity::SigningKey;
use crate::proto::keytext::InvalidKeyText;

/// Largest key file, in bytes. Ours have 119; this leaves room for text above the key and keeps a
/// wrong path, such as a disk image, from being read into memory.
pub const KEY_FILE_MAX: usize = 16 * 1024;

/// Writes `key` to a new file.
///
/// On return the file survives a power failure.
///
/// # Errors
///
/// [`KeyFileError::Exists`] when there is anything at `path`, even a dangling symbolic link;
/// [`KeyFileError::Io`].
///
/// ```
/// use trustmesh::keyfile;
/// use trustmesh::proto::identity::SigningKey;
///
/// # if cfg!(not(unix)) { return Ok(()) }
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("planner.key");
/// let key = SigningKey::generate()?;
/// keyfile::create(&path, &key)?;
/// assert_eq!(keyfile::load(&path)?.public(), key.public());
/// assert!(keyfile::create(&path, &key).is_err(), "a key is never overwritten by accident");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn create(path: &Path, key: &SigningKey) -> Result<(), KeyFileError> {
    create_text(path, &key.to_pkcs8_pem())
}

/// [`create`], for another secret that is kept as a key is.
///
/// # Errors
///
/// As [`create`].
pub fn create_text(path: &Path, secret: &str) -> Result<(), KeyFileError> {
    let temporary = Temporary::write(path, secret)?;
    // Unlike a rename, a hard link refuses to take a name that is in use.
    let named = step().and_then(|()| std::fs::hard_link(&temporary.path, path));
    named.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists {
            path: path.to_owned(),
        },
        _ => KeyFileError::io("name", path)(error),
    })?;
    drop(temporary);
    sync_directory(path)
}

/// Writes `key` to a file in place of what is there, if anything. A symbolic link is replaced
/// itself; what it points to stays as it is.
///
/// On return the new key survives a power failure.
///
/// # Errors
///
/// [`KeyFileError::Io`]. The file is then still the old one, unless what failed was `sync the
/// directory of`: the new key is in place, but a power failure might still undo that.
///
/// ```
/// use trustmesh::keyfile;
/// use trustmesh::proto::identity::SigningKey;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # if cfg!(not(unix)) { return Ok(()) }
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("planner.key");
/// keyfile::create(&path, &SigningKey::generate()?)?;
/// let next = SigningKey::generate()?;
/// keyfile::replace(&path, &next)?;
/// assert_eq!(keyfile::load(&path)?.public(), next.public());
/// # Ok(())
/// # }
/// ```
pub fn replace(path: &Path, key: &SigningKey) -> Result<(), KeyFileError> {
    replace_text(path, &key.to_pkcs8_pem())
}

/// [`replace`], for another secret that is kept as a key is.
///
/// # Errors
///
/// As [`replace`].
pub fn replace_text(path: &Path, secret: &str) -> Result<(), KeyFileError> {
    let temporary = Temporary::write(path, secret)?;
    step()
        .and_then(|()| std::fs::rename(&temporary.path, path))
        .map_err(KeyFileError::io("replace", path))?;
    temporary.renamed();
    sync_directory(path)
}

/// Reads a key from a regular file that nobody but its owner may use, through no symbolic link and
/// no further than [`KEY_FILE_MAX`] bytes. What was read is wiped.
///
/// # Errors
///
/// [`KeyFileError::Symlink`], [`KeyFileError::NotAFile`], [`KeyFileError::Permissions`] when
/// anybody but the owner may use the file, [`KeyFileError::Empty`], [`KeyFileError::TooLarge`],
/// [`KeyFileError::Key`] when it holds no key, [`KeyFileError::Io`], also when there is no file.
pub fn load(path: &Path) -> Result<SigningKey, KeyFileError> {
    let file = open(path)?;
    let bytes = read(file, path)?;
    // What is not UTF-8 is no PEM.
    std::str::from_utf8(&bytes)
        .map_err(|_| InvalidKeyText::Malformed)
        .and_then(SigningKey::from_pkcs8_pem)
        .map_err(|source| KeyFileError::Key {
            path: path.to_owned(),
            source,
        })
}

/// Reads another secret that is kept as a key is.
///
/// # Errors
///
/// As [`load`]; [`KeyFileError::Key`] for what is not UTF-8.
pub fn load_text(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let bytes = read(open(path)?, path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| KeyFileError::Key {
        path: path.to_owned(),
        source: InvalidKeyText::Malformed,
    })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Why a key file was not written or read. The text names the file and what to do, and never
/// repeats anything from within the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// There is something at the path already.
    #[error("{path} exists already: choose another path, or ask for it to be replaced")]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// Somebody other than the owner may read, write or run the file.
    #[error(
        "{path} is open to others (mode {mode:04o}): run `chmod 600 {path}`, \
         and replace the key if others had access to this machine"
    )]
    Permissions {
        /// The path.
        path: PathBuf,
        /// The file's permission bits.
        mode: u32,
    },
    /// The path is a symbolic link, so whoever may change the link chooses the key.
    #[error("{path} is a symbolic link: give the path of the key file itself")]
    Symlink {
        /// The path.
        path: PathBuf,
    },
    /// The path is a directory, device, pipe or socket.
    #[error("{path} is not a regular file: give the path of a key file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file has more than [`KEY_FILE_MAX`] bytes.
    #[error(
        "{path} is larger than any key file ({KEY_FILE_MAX} bytes): give the path of a key file"
    )]
    TooLarge {
        /// The path.
        path: PathBuf,
    },
    /// The file has no bytes.
    #[error("{path} is empty: restore it from a backup, or replace it with a new key")]
    Empty {
        /// The path.
        path: PathBuf,
    },
    /// The file holds no private key in PKCS#8 PEM.
    #[error("{path} holds no usable private key; restore it, or replace it with a new key")]
    Key {
        /// The path.
        path: PathBuf,
        /// What is wrong with the text.
        source: InvalidKeyText,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl KeyFileError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// A complete key file under a name of its own, removed again unless renamed.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// Writes the secret beside `target`, since neither a link nor a rename crosses file systems.
    fn write(target: &Path, secret: &str) -> Result<Self, KeyFileError> {
        let (file, temporary) = Self::new(target)?;
        let written = |mut file: File| {
            os::let_owner_in(&file)?;
            file.write_all(secret.as_bytes())?;
            file.sync_all()
        };
        written(file).map_err(KeyFileError::io("write", &temporary.path))?;
        Ok(temporary)
    }

    fn new(target: &Path) -> Result<(File, Self), KeyFileError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|error| KeyFileError::io("name a file beside", target)(error.into()))?;
        let suffix = data_encoding::HEXLOWER.encode(&random);
        let path = target.with_file_name(format!(".trustmesh-key-{suffix}.tmp"));
        let file = step()
            .and_then(|()| os::create_private(&path))
            .map_err(KeyFileError::io("create", &path))?;
        Ok((file, Self { path }))
    }

    /// There is no such name any more.
    fn renamed(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() && step().is_ok() {
            // Should this fail, a file stays that is as private as the key it was made for.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Makes a new name durable: it is part of the directory, not of the file.
fn sync_directory(path: &Path) -> Result<(), KeyFileError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(KeyFileError::io("sync the directory of", path))
}

/// Opens a private regular file that `path` itself names. All is asked of the open file, so that
/// exchanging the name meanwhile gains nothing.
fn open(path: &Path) -> Result<File, KeyFileError> {
    let file = os::open_named(path).map_err(|error| why_not_opened(path, error))?;
    let metadata = file.metadata().map_err(KeyFileError::io("inspect", path))?;
    if !metadata.is_file() {
        return Err(KeyFileError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mode = os::mode(&metadata).map_err(KeyFileError::io("inspect", path))?;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Permissions {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(file)
}

/// Systems disagree on the error for a link or a socket, so it is worked out from what is there.
fn why_not_opened(path: &Path, error: io::Error) -> KeyFileError {
    let path = path.to_owned();
    match path.symlink_metadata().map(|metadata| metadata.file_type()) {
        Ok(kind) if kind.is_symlink() => KeyFileError::Symlink { path },
        Ok(kind) if !kind.is_file() => KeyFileError::NotAFile { path },
        _ => KeyFileError::io("open", &path)(error),
    }
}

/// Reads at most [`KEY_FILE_MAX`] bytes, whatever size the file says it has.
fn read(file: File, path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    // Room for more than is read, so that no copy of a secret is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_MAX + 64));
    file.take(KEY_FILE_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(KeyFileError::io("read", path))?;
    match bytes.len() {
        0 => Err(KeyFileError::Empty {
            path: path.to_owned(),
        }),
        length if length > KEY_FILE_MAX => Err(KeyFileError::TooLarge {
            path: path.to_owned(),
        }),
        _ => Ok(bytes),
    }
}

#[cfg(unix)]
mod os {
    //! What differs between operating systems.

    use std::fs::File;
    use std::fs::Metadata;
    use std::fs::OpenOptions;
    use std::fs::Permissions;
    use std::io;
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    /// Creates a file that nobody but its owner may use, from its first moment.
    pub(super) fn create_private(path: &Path) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    }

    /// Gives the owner back what an odd umask took when the file was created.
    pub(super) fn let_owner_in(file: &File) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(0o600))
    }

    /// Opens what `path` itself names, through no symbolic link as its last component, and without
    /// waiting for anybody to write to a pipe.
    pub(super) fn open_named(path: &Path) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
    }

    pub(super) fn mode(metadata: &Metadata) -> io::Result<u32> {
        Ok(metadata.mode() & 0o7777)
    }
}

#[cfg(not(unix))]
mod os {
    //! What differs between operating systems.

    use std::fs::File;
    use std::fs::Metadata;
    use std::io;
    use std::path::Path;

    pub(super) fn create_private(_: &Path) -> io::Result<File> {
        Err(unsupported())
    }

    pub(super) fn let_owner_in(_: &File) -> io::Result<()> {
        Err(unsupported())
    }

    pub(super) fn open_named(_: &Path) -> io::Result<File> {
        Err(unsupported())
    }

    pub(super) fn mode(_: &Metadata) -> io::Result<u32> {
        Err(unsupported())
    }

    fn unsupported() -> io::Error {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "key files need Unix file permissions",
        )
    }
}

#[cfg(all(test, unix))]
#[path = "keyfile_tests.rs"]
mod tests;
