//! Generated files and the committed ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// What writes the generated files again.
pub const COMMAND: &str = "TRUSTMESH_BLESS=1 cargo test --test vectors";

/// Whether the files are to be written rather than compared.
pub fn blessing() -> bool {
    std::env::var_os("TRUSTMESH_BLESS").is_some_and(|value| value == "1")
}

/// A path below the crate.
pub fn below(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// How the JSON files below `root` differ from `wanted`, a text for each relative path; none
/// after a blessing.
pub fn differences(root: &str, wanted: &BTreeMap<String, String>) -> Vec<String> {
    let base = below(root);
    let mut faults = Vec::new();
    for found in json_files(&base) {
        if !wanted.contains_key(&found) {
            if blessing() {
                fs::remove_file(base.join(&found)).unwrap();
            } else {
                faults.push(format!("{root}/{found}: superfluous"));
            }
        }
    }
    for (path, text) in wanted {
        faults.extend(difference(
            &base.join(path),
            &format!("{root}/{path}"),
            text,
        ));
    }
    faults
}

/// How one file differs from `wanted`; not at all after a blessing.
pub fn difference(file: &Path, name: &str, wanted: &str) -> Option<String> {
    let committed = fs::read(file).ok();
    if committed.as_deref() == Some(wanted.as_bytes()) {
        return None;
    }
    if blessing() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, wanted).unwrap();
        return None;
    }
    let fault = if committed.is_some() {
        "different"
    } else {
        "missing"
    };
    Some(format!("{name}: {fault}"))
}

fn json_files(base: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let folders = fs::read_dir(base).into_iter().flatten().flatten();
    for folder in folders.filter(|entry| entry.path().is_dir()) {
        for file in fs::read_dir(folder.path()).unwrap().flatten() {
            let name = file.file_name().into_string().unwrap();
            if name.ends_with(".json") {
                let folder = folder.file_name().into_string().unwrap();
                out.push(format!("{folder}/{name}"));
            }
        }
    }
    out
}
