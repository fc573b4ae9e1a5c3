//! Where things lie in a mesh directory.

use std::ffi::OsStr;
use std::path::Path;
use std::path::PathBuf;

use bytes::Bytes;

use super::HomeError;
use crate::files;
use crate::files::FileError;
use crate::proto::identity::AgentId;
use crate::proto::limits::TRUST_FILE_MAX;
use crate::proto::rejection::Rejection;
use crate::proto::root::FileKind;
use crate::proto::root::Role;
use crate::proto::trust::TrustFiles;

pub(crate) const KEY_FILE: &str = "key.pem";
pub(crate) const CERTIFICATE_FILE: &str = "certificate.bin";
pub(crate) const GRANT_FILE: &str = "grant.chain";
/// How the agent logs in to its nats-server.
pub(crate) const LOGIN_FILE: &str = "nats.login";
pub(crate) const NEXT_KEY_FILE: &str = "next-key.pem";
pub(crate) const NEXT_GRANT_FILE: &str = "next-grant.chain";
/// The pin beside the trust files.
pub(super) const PIN_NAME: &str = "root.id";
pub(crate) const FLOOR_FILE: &str = "state/replay-floor";

pub(crate) fn trust_directory(home: &Path) -> PathBuf {
    home.join("trust")
}

pub(crate) fn trust_file(home: &Path, kind: FileKind) -> PathBuf {
    trust_directory(home).join(file_name(kind))
}

/// The name of a trust file in its folder.
pub(super) fn file_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Root => "root.tm",
        FileKind::Registry => "registry.tm",
        FileKind::Policy => "policy.tm",
        FileKind::Revocations => "revocations.tm",
        FileKind::Scores => "scores.tm",
        FileKind::Timestamp => "timestamp.tm",
        FileKind::Snapshot => "snapshot.tm",
        FileKind::Books => "books.tm",
    }
}

/// A trust root after the first.
pub(crate) fn later_root_file(home: &Path, version: u32) -> PathBuf {
    trust_directory(home).join(later_root_name(version))
}

/// The name of a trust root after the first in its folder.
pub(super) fn later_root_name(version: u32) -> String {
    format!("root.{version}.tm")
}

/// The version of the root in a file of this name, when it is one after the first.
pub(crate) fn later_root_version(name: &str) -> Option<u32> {
    comes_with(Path::new(file_name(FileKind::Root)), name)
}

/// The newest trust state of a served mesh.
pub(crate) fn served_directory(home: &Path) -> PathBuf {
    trust_directory(home).join("served")
}

pub(crate) fn pin_file(home: &Path) -> PathBuf {
    trust_directory(home).join(PIN_NAME)
}

/// An id has no dot and its token no separator, so this stays inside the home.
pub(crate) fn agent_directory(home: &Path, id: &AgentId) -> PathBuf {
    home.join("agents").join(id.token())
}

pub(crate) fn authority_directory(home: &Path) -> PathBuf {
    home.join("authority")
}

pub(crate) fn role_file(home: &Path, role: Role) -> PathBuf {
    authority_directory(home).join(format!("{}.pem", role.name()))
}

pub(crate) fn ledger_file(home: &Path) -> PathBuf {
    authority_directory(home).join("ledger.bin")
}

/// The name of a file while it comes with a trust root after the first: that of the file, with the
/// root's version. It counts where that root is the newest, in place of the file itself. With the
/// first root nothing comes: it is the file itself.
pub(crate) fn coming_with(path: &Path, version: u32) -> PathBuf {
    if version <= 1 {
        return path.to_owned();
    }
    let part = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (stem, end) = (part(path.file_stem()), part(path.extension()));
    path.with_file_name(format!("{stem}.{version}.{end}"))
}

/// The version in a name of [`coming_with`].
pub(crate) fn comes_with(path: &Path, name: &str) -> Option<u32> {
    let version = name.split('.').nth(1)?.parse().ok()?;
    let same = coming_with(path, version).file_name() == Some(OsStr::new(name));
    (same && version > 1).then_some(version)
}

/// What is wrong with a trust file.
pub(crate) fn refused(home: &Path, kind: FileKind, why: Rejection) -> HomeError {
    HomeError::refused(trust_file(home, kind), why)
}

/// The trust files in a folder, unchecked. Only the scores may be missing.
pub(super) fn read_trust_files(folder: &Path) -> Result<TrustFiles, HomeError> {
    read_trust_files_under(folder, 1)
}

/// The trust files in a folder whose newest root has this version, unchecked.
pub(super) fn read_trust_files_under(folder: &Path, root: u32) -> Result<TrustFiles, HomeError> {
    let path = |kind| folder.join(file_name(kind));
    let coming = |kind| files::read_if_there(&coming_with(&path(kind), root), TRUST_FILE_MAX);
    let read = |kind| match coming(kind)? {
        Some(bytes) => Ok(Bytes::from(bytes)),
        None => read_part(&path(kind), TRUST_FILE_MAX),
    };
    let scores = match coming(FileKind::Scores)? {
        Some(bytes) => Some(bytes),
        None => files::read_if_there(&path(FileKind::Scores), TRUST_FILE_MAX)?,
    };
    Ok(TrustFiles {
        root: read_part(&path(FileKind::Root), TRUST_FILE_MAX)?,
        registry: read(FileKind::Registry)?,
        policy: read(FileKind::Policy)?,
        revocations: read(FileKind::Revocations)?,
        scores: scores.map(Bytes::from),
    })
}

pub(super) fn read_part(path: &Path, limit: usize) -> Result<Bytes, HomeError> {
    match files::read(path, limit) {
        Ok(bytes) => Ok(bytes.into()),
        Err(FileError::Absent { path }) => Err(HomeError::Absent {
            path,
            next: "copy it from the authority",
        }),
        Err(error) => Err(error.into()),
    }
}
