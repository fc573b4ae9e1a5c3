//! Trust roots, and what leads from one to the next.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use bytes::Bytes;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::rejection::Place;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::rejection::UntrustedRoot;
use trustmesh::proto::root::Role;
use trustmesh::proto::root::TrustRoot;
use trustmesh::proto::root::UnchainedRoot;

use super::lens::Lens;
use super::sheet::Cell;
use super::sheet::Sheet;
use crate::object;
use crate::text::visible;

/// The first root of a trust folder.
pub const FIRST: &str = "root.tm";

/// Where agents of a served mesh keep the later roots they heard of, below the trust folder.
const SERVED: &str = "served";

const ANOTHER: &str = "whether it is trusted: another root is in use";

/// A trust root, of whatever version.
pub fn root(bytes: &Bytes, lens: &Lens) -> Result<Sheet, Rejection> {
    // Later roots may have more signatures, so what is no later root is told by its version.
    match UnchainedRoot::parse(bytes) {
        Ok(root) => Ok(later_root(&root, bytes, lens)),
        Err(Rejection::UnsupportedVersion { .. }) => {
            TrustRoot::parse(bytes).map(|root| first_root(&root, lens))
        }
        Err(why) => Err(why),
    }
}

fn first_root(root: &TrustRoot, lens: &Lens) -> Sheet {
    let keys = |role| root.keys(role).iter().map(|key| key.bytes()).collect();
    let sheet = heading(root.name())
        .text("id", root.id())
        .text("mesh", root.mesh())
        .row("version", Cell::Number(root.version().into()))
        .row("window", Cell::Window(root.validity(), lens.at))
        .row("development", Cell::Flag(root.is_dev()))
        .list("roles", roles(|role| root.threshold(role), keys))
        .checked("encoding, keys, its own signatures");
    match &lens.trust {
        Some(trust) if trust.root().id() == root.id() => sheet.checked("it is the root in use"),
        Some(trust) if trust.root().first() == root.id() => {
            sheet.checked("it is the first root of the mesh in use")
        }
        Some(_) => sheet.not_checked(ANOTHER),
        None => sheet.not_checked("whether it is yours: compare the id with a pinned one"),
    }
}

fn later_root(root: &UnchainedRoot, bytes: &Bytes, lens: &Lens) -> Sheet {
    let own = root.signers().map(|position| format!("own {position}"));
    let before = root.predecessors().map(|at| format!("before {at}"));
    let keys = |role| root.keys(role).collect();
    let sheet = heading(root.name())
        .text("id", root.id())
        .text("mesh", root.mesh())
        .row("version", Cell::Number(root.version().into()))
        .text("follows", root.previous())
        .row("window", Cell::Window(root.validity(), lens.at))
        .row("development", Cell::Flag(root.is_dev()))
        .row("signed by", Cell::List(own.chain(before).collect()))
        .list("roles", roles(|role| root.threshold(role), keys))
        .checked("encoding, keys, its own signatures");
    let (sheet, before) = match Lineage::of(root, bytes, lens) {
        Lineage::Follows(before) => {
            let what = "signatures by the keys of the root before it";
            (sheet.checked(what), Some(before))
        }
        Lineage::Refused(why) => return sheet.against(Some(why)),
        Lineage::Unknown => {
            let what = "signatures by the keys of the root before it (not at hand: give --trust \
                        DIR, or the folder where both lie)";
            (sheet.not_checked(what), None)
        }
    };
    match &lens.trust {
        Some(trust) if trust.root().id() == root.id() => sheet.checked("it is the root in use"),
        Some(trust) if before.is_some_and(|before| before.id() == trust.root().id()) => {
            sheet.checked("it follows the root in use")
        }
        Some(_) => sheet.not_checked(ANOTHER),
        None => sheet.not_checked("whether it is yours: a pinned id begins with the mesh"),
    }
}

/// What the roots at hand say of a later one.
enum Lineage<'a> {
    /// This one is named by it, and signed it.
    Follows(&'a TrustRoot),
    Refused(Rejection),
    /// The one before it is not at hand.
    Unknown,
}

impl<'a> Lineage<'a> {
    fn of(root: &UnchainedRoot, bytes: &Bytes, lens: &'a Lens) -> Self {
        let in_use = lens.trust.iter().map(|trust| trust.root());
        let at_hand: Vec<&TrustRoot> = in_use.chain(&lens.roots).collect();
        let named = at_hand.iter().find(|known| known.id() == root.previous());
        let same_mesh = |known: &&&TrustRoot| known.mesh() == root.mesh();
        // Of the same mesh, and in the place of the root that it names.
        let instead = || {
            let mut kin = at_hand.iter().filter(same_mesh);
            kin.find(|known| known.version().checked_add(1) == Some(root.version()))
        };
        if let Some(before) = named.or_else(instead) {
            return match before.succeed(bytes) {
                Ok(_) => Self::Follows(before),
                Err(why) => Self::Refused(why),
            };
        }
        if at_hand.is_empty() || at_hand.iter().any(|known| same_mesh(&known)) {
            return Self::Unknown;
        }
        let (place, reason) = (Place::TrustFile, UntrustedRoot::OtherMesh);
        Self::Refused(Rejection::UntrustedRoot { place, reason })
    }
}

fn heading(name: &str) -> Sheet {
    Sheet::new("trust root")
        .titled(format!("trust root  {}", visible(name)))
        .text("name", name)
}

fn roles(threshold: impl Fn(Role) -> u8, keys: impl Fn(Role) -> Vec<KeyBytes>) -> Vec<Sheet> {
    let named = Role::ALL.into_iter().filter(|role| threshold(*role) > 0);
    let sheets = named.map(|role| {
        let keys = keys(role).iter().map(ToString::to_string).collect();
        Sheet::new("role")
            .titled(format!("role {}", role.name()))
            .text("name", role.name())
            .row("threshold", Cell::Number(threshold(role).into()))
            .row("keys", Cell::List(keys))
    });
    sheets.collect()
}

/// The trust folder of a mesh directory; of any other folder, itself.
pub fn folder_in(directory: &Path) -> PathBuf {
    let below = directory.join("trust");
    if below.is_dir() {
        below
    } else {
        directory.to_owned()
    }
}

/// The trust folder that a file lies in.
pub fn folder_around(file: &Path) -> Option<PathBuf> {
    let file = std::path::absolute(file).ok()?;
    let folder = file.parent()?;
    let above = folder.parent().filter(|_| folder.ends_with(SERVED));
    let above = above.filter(|above| above.join(FIRST).is_file());
    Some(above.unwrap_or(folder).to_owned())
}

/// The files of the roots after the first in a trust folder, by version: those of the authority,
/// and those that agents keep.
pub fn later_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    for (folder, suffix) in [(folder.to_owned(), ".tm"), (folder.join(SERVED), "")] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| version(name, suffix));
            if let Some(version) = version.filter(|_| entry.path().is_file()) {
                found.insert((version, suffix.is_empty(), entry.path()));
            }
        }
    }
    found.into_iter().map(|(_, _, path)| path).collect()
}

/// The version in the name of a later root's file.
fn version(name: &str, suffix: &str) -> Option<u32> {
    let number = name.strip_prefix("root.")?.strip_suffix(suffix)?;
    let version: u32 = number.parse().ok().filter(|version| *version > 1)?;
    // One name a version: no leading zero, no sign.
    (version.to_string() == number).then_some(version)
}

/// The roots of a trust folder, from the first on, as far as each leads to the next.
pub fn line(folder: &Path) -> Vec<TrustRoot> {
    let read = |path: &Path| object::read(path).ok().map(Bytes::from);
    let first = folder.join(FIRST);
    let first = Some(first).filter(|path| path.is_file());
    let first = first.and_then(|path| TrustRoot::parse(&read(&path)?).ok());
    let mut line = Vec::from_iter(first);
    for path in later_files(folder) {
        let next = line.last().zip(read(&path));
        line.extend(next.and_then(|(newest, file)| newest.succeed(&file).ok()));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_roots_lie_under_one_name_a_version() {
        assert_eq!(version("root.2.tm", ".tm"), Some(2));
        assert_eq!(version("root.10", ""), Some(10));
        for name in [
            "root.tm",
            "root.1.tm",
            "root.02.tm",
            "root.+2.tm",
            "root.2",
            "root.x.tm",
        ] {
            assert_eq!(version(name, ".tm"), None, "{name}");
        }
        for name in ["root.2.tm", "root.0", "root.id", "root.4294967296"] {
            assert_eq!(version(name, ""), None, "{name}");
        }
    }

    #[test]
    fn later_roots_are_found_in_the_order_of_their_versions() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path(SERVED)).unwrap();
        let names = ["root.2.tm", "served/root.2", "served/root.9", "root.10.tm"];
        for name in names.iter().rev().chain(&["root.tm", "served/head"]) {
            std::fs::write(path(name), "").unwrap();
        }
        std::fs::create_dir(path("root.3.tm")).unwrap();
        assert_eq!(later_files(folder.path()), names.map(path));
        for name in ["root.2.tm", "served/root.2"] {
            assert_eq!(folder_around(&path(name)).as_deref(), Some(folder.path()));
        }
        // None of these is a root.
        assert!(line(folder.path()).is_empty());
    }
}
