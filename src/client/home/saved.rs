//! The trust files of a folder, and the roots that lead to the one they are signed under.

use std::path::Path;
use std::path::PathBuf;

use bytes::Bytes;

use super::HomeError;
use super::layout;
use super::settings::pin_in;
use crate::files;
use crate::proto::limits::TRUST_FILE_MAX;
use crate::proto::root::FileKind;
use crate::proto::signing::ObjectId;
use crate::proto::trust::Admission;
use crate::proto::trust::TrustFiles;
use crate::proto::trust::TrustState;
use crate::proto::trust::admit_root;

/// The trust state of the files in a folder: the `trust/` of whoever keeps the mesh, or a copy of
/// it. Beside the files, `root.id` pins the first trust root, and `root.2.tm` and so on lead from
/// it to the newest, whose keys signed the files (protocol §9.8).
///
/// It is what to judge by afterwards. In a served mesh it lets no agent act, since it has no
/// timestamp.
///
/// # Errors
///
/// [`HomeError::Absent`], [`HomeError::File`], [`HomeError::Pin`] or [`HomeError::Refused`],
/// naming the file at fault: there is no state from part of the files.
///
/// ```
/// use trustmesh::client::home::trust_in;
/// use trustmesh::proto::trust::Admission;
/// use trustmesh::services::authority::Authority;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # if cfg!(not(unix)) { return Ok(()) }
/// # let directory = tempfile::tempdir()?;
/// # let home = directory.path();
/// let mut mesh = Authority::served("shop")?;
/// mesh.replace_roles(Default::default())?;
/// mesh.save(home)?;
///
/// let trust = trust_in(&home.join("trust"), Admission::Production)?;
/// assert_eq!(trust.root().version(), 2);
/// assert_eq!(trust.root().first(), mesh.root_id());
/// # Ok(())
/// # }
/// ```
pub fn trust_in(folder: &Path, admission: Admission) -> Result<TrustState, HomeError> {
    Saved::read(folder)?.assemble(admission, pin_in(folder)?)
}

/// What lies in a trust folder, unchecked.
pub(crate) struct Saved {
    folder: PathBuf,
    pub(crate) files: TrustFiles,
    /// The roots after the first, in order.
    pub(crate) later_roots: Vec<Bytes>,
}

impl Saved {
    /// Reads the folder as it is before or after a save that leads on to another root, also while
    /// it is saved to or when that was interrupted: the newest root says which files count.
    pub(crate) fn read(folder: &Path) -> Result<Self, HomeError> {
        let mut later_roots = read_later_roots(folder)?;
        loop {
            let files = layout::read_trust_files_under(folder, version_of(&later_roots));
            let again = read_later_roots(folder)?;
            if again.len() == later_roots.len() {
                return Ok(Self {
                    folder: folder.to_owned(),
                    files: files?,
                    later_roots,
                });
            }
            // Saved meanwhile: what was read may be of either.
            later_roots = again;
        }
    }

    /// The version of the newest root that lies in a folder now.
    pub(crate) fn root_version_in(folder: &Path) -> Result<u32, HomeError> {
        Ok(version_of(&read_later_roots(folder)?))
    }

    /// The version of the newest root.
    pub(crate) fn root_version(&self) -> u32 {
        version_of(&self.later_roots)
    }

    pub(crate) fn assemble(
        &self,
        admission: Admission,
        pin: Option<ObjectId>,
    ) -> Result<TrustState, HomeError> {
        let refused = |name: &str, why| HomeError::refused(self.folder.join(name), why);
        let by_kind = |(kind, why)| refused(layout::file_name(kind), why);
        let root = admit_root(&self.files.root, admission, pin);
        let mut root = root.map_err(|why| by_kind((FileKind::Root, why)))?;
        for (version, later) in (2u32..).zip(&self.later_roots) {
            let name = layout::later_root_name(version);
            root = root.succeed(later).map_err(|why| refused(&name, why))?;
        }
        TrustState::assemble_under(root, &self.files).map_err(by_kind)
    }
}

/// The roots after the first, in order: up to the first version that is missing.
fn read_later_roots(folder: &Path) -> Result<Vec<Bytes>, HomeError> {
    let mut roots = Vec::new();
    for version in 2u32.. {
        let path = folder.join(layout::later_root_name(version));
        match files::read_if_there(&path, TRUST_FILE_MAX)? {
            Some(root) => roots.push(root.into()),
            None => break,
        }
    }
    Ok(roots)
}

fn version_of(later_roots: &[Bytes]) -> u32 {
    u32::try_from(later_roots.len() + 1).unwrap_or(u32::MAX)
}
