//! The documents: which files there are, and the subject tokens that name them on the bus.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::Fault;
use crate::stage::say;

/// Larger files would not fit into a message with the rest of it.
const BYTES_MAX: u64 = 256 * 1024;

/// More files would make a report nobody reads.
const FILES_MAX: usize = 64;

/// Longer names would not fit into a delegation that names them three times.
const NAME_MAX: usize = 120;

/// The text files of a directory.
pub struct Library {
    /// The directory.
    pub root: PathBuf,
    /// Paths below it, in order, with `/` between parts.
    pub names: Vec<String>,
}

/// Finds the text files in `dir` and its subdirectories; without one, this project's documents.
pub fn find(dir: Option<&Path>) -> Result<Library, Fault> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeMap::new();
    let root = match dir {
        Some(dir) => dir
            .canonicalize()
            .map_err(|e| format!("{}: {e}", dir.display()))?,
        None => project.canonicalize()?,
    };
    match dir {
        Some(_) => walk(&root, &root, 3, &mut found)?,
        None => {
            walk(&root, &root, 0, &mut found)?;
            walk(&root, &root.join("docs"), 0, &mut found)?;
        }
    }
    let usable = |(name, len): &(String, u64)| {
        let usable = *len <= BYTES_MAX && token(name).len() <= NAME_MAX;
        if !usable {
            say("swarm", &format!("leaving out {name}: too long"));
        }
        usable
    };
    let mut names: Vec<String> = found
        .into_iter()
        .filter(usable)
        .map(|(name, _)| name)
        .collect();
    if names.len() > FILES_MAX {
        say(
            "swarm",
            &format!("leaving out {} files: too many", names.len() - FILES_MAX),
        );
        names.truncate(FILES_MAX);
    }
    if names.is_empty() {
        return Err(format!("there are no text files in {}", root.display()).into());
    }
    Ok(Library { root, names })
}

fn walk(
    root: &Path,
    dir: &Path,
    depth: usize,
    found: &mut BTreeMap<String, u64>,
) -> Result<(), Fault> {
    // A project without docs/ has other documents.
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        // A name that is not UTF-8 cannot be printed in a report.
        let Some(name) = path.strip_prefix(root)?.to_str().map(str::to_owned) else {
            continue;
        };
        if kind.is_dir() && depth > 0 && !is_hidden(&path) {
            walk(root, &path, depth - 1, found)?;
        } else if kind.is_file() && is_text(&path) {
            found.insert(name, entry.metadata()?.len());
        }
    }
    Ok(())
}

fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || ["target", "node_modules", crate::OUT].contains(&&*name)
}

fn is_text(path: &Path) -> bool {
    let named = match path.extension().and_then(|e| e.to_str()) {
        Some(extension) => ["md", "txt", "rst", "adoc"].contains(&extension),
        None => path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with("LICENSE")),
    };
    named && fs::read(path).is_ok_and(|bytes| std::str::from_utf8(&bytes).is_ok())
}

/// A path as one subject token: `/` and `.` become `~` and `+`, what else a subject cannot hold
/// becomes `=` and two hex digits.
pub fn token(name: &str) -> String {
    let mut token = String::new();
    for byte in name.bytes() {
        match byte {
            b'/' => token.push('~'),
            b'.' => token.push('+'),
            b'-' | b'_' => token.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => token.push(char::from(byte)),
            _ => token.push_str(&format!("={byte:02X}")),
        }
    }
    token
}

/// The path that [`token`] was made from. It may be any path: see `store`.
pub fn from_token(token: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = token.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'~' => b'/',
            b'+' => b'.',
            b'=' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            _ => byte,
        });
    }
    String::from_utf8(bytes).ok()
}
