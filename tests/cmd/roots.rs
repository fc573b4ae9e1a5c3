//! Trust roots after the first, as `inspect` shows them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use serde_json::Value;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::root::Role;
use trustmesh::services::authority::Authority;

use crate::place::Place;

const BEFORE: &str = "signatures by the keys of the root before it";

/// The three roots of a served mesh in `shop`, which keeps the first alone.
fn roots(place: &Place) -> Vec<Bytes> {
    place.expect(0, &["init", "shop", "--served", "--no-context"]);
    let mut mesh = Authority::open(place.join("shop")).unwrap();
    for _ in 0..2 {
        let root = SigningKey::generate().unwrap();
        mesh.replace_roles(BTreeMap::from([(Role::Root, root)]))
            .unwrap();
    }
    mesh.roots()
}

/// What is shown of a file, which can be read.
fn shown(place: &Place, arguments: &[&str]) -> Value {
    let (out, _) = place.expect(0, &[&["inspect", "--json"], arguments].concat());
    serde_json::from_str(&out).unwrap()
}

/// Whether a list of the shown has a line that begins so.
fn says(shown: &Value, list: &str, line: &str) -> bool {
    let lines = shown[list].as_array().unwrap();
    lines.iter().any(|l| l.as_str().unwrap().starts_with(line))
}

/// The file with one bit turned in its last signature, which is by a key of the root before.
fn damaged(root: &Bytes) -> Vec<u8> {
    let mut bytes = root.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    bytes
}

#[test]
fn a_later_root_is_checked_by_the_one_in_use() {
    let place = Place::new();
    let roots = roots(&place);
    let put = |name: &str, bytes: &[u8]| fs::write(place.join(name), bytes).unwrap();
    put("second.tm", &roots[1]);
    put("third.tm", &roots[2]);
    put("damaged.tm", &damaged(&roots[1]));
    for mesh in [["--home", "shop"], ["--trust", "shop"]] {
        let look = |name: &str| shown(&place, &[&[name], &mesh[..]].concat());
        let second = look("second.tm");
        assert!(says(&second, "checked", BEFORE), "{second}");
        assert!(says(&second, "checked", "it follows the root in use"));
        assert_eq!(second["version"], 2);

        let damaged = look("damaged.tm");
        assert_eq!(damaged["against"][0]["class"], "BadSignature", "{damaged}");
        assert!(!says(&damaged, "checked", BEFORE));
        assert!(!says(&damaged, "checked", "it follows"));

        // Between the third and the first is one that is not at hand.
        let third = look("third.tm");
        assert!(says(&third, "not_checked", BEFORE), "{third}");
        assert!(says(&third, "not_checked", "whether it is trusted"));
    }
    let alone = shown(&place, &["second.tm"]);
    assert!(says(&alone, "not_checked", BEFORE), "{alone}");
    assert!(says(&alone, "not_checked", "whether it is yours"));
}

/// The mesh in use has gone on to a later root: every root of its line is shown as such, and a
/// damaged copy of the root in use is not taken for it.
#[test]
fn the_roots_of_the_mesh_in_use_are_at_hand() {
    let place = Place::new();
    let roots = roots(&place);
    let put = |name: &str, bytes: &[u8]| fs::write(place.join(name), bytes).unwrap();
    put("shop/trust/root.2.tm", &roots[1]);
    put("shop/trust/root.3.tm", &roots[2]);
    put("second.tm", &roots[1]);
    put("third.tm", &roots[2]);
    put("damaged.tm", &damaged(&roots[2]));
    let look = |name: &str| shown(&place, &[name, "--home", "shop"]);
    let first = look("shop/trust/root.tm");
    assert!(
        says(&first, "checked", "it is the first root of the mesh in use"),
        "{first}"
    );
    let second = look("second.tm");
    assert!(says(&second, "checked", BEFORE), "{second}");
    assert!(says(&second, "not_checked", "whether it is trusted"));
    let third = look("third.tm");
    assert!(says(&third, "checked", BEFORE), "{third}");
    assert!(says(&third, "checked", "it is the root in use"));
    let damaged = look("damaged.tm");
    assert_eq!(damaged["against"][0]["class"], "BadSignature", "{damaged}");
    assert!(!says(&damaged, "checked", "it is the root in use"));
}

/// Agents keep later roots under other names than the authority; a mesh directory shows each once.
#[test]
fn a_mesh_directory_shows_its_later_roots() {
    let place = Place::new();
    let roots = roots(&place);
    let put = |name: &str, bytes: &[u8]| fs::write(place.join(name), bytes).unwrap();
    fs::create_dir_all(place.join("shop/trust/served")).unwrap();
    put("shop/trust/root.2.tm", &roots[1]);
    put("shop/trust/served/root.2", &roots[1]);
    put("shop/trust/served/root.3", &roots[2]);
    let shop = shown(&place, &["shop"]);
    let files = shop["files"].as_array().unwrap();
    let shown_roots: Vec<&Value> = files
        .iter()
        .filter(|file| file["kind"] == "trust root")
        .collect();
    let versions: Vec<&Value> = shown_roots.iter().map(|root| &root["version"]).collect();
    assert_eq!(versions, [1, 2, 3]);
    for root in &shown_roots[1..] {
        assert!(says(root, "checked", BEFORE), "{root}");
    }
    let third = shown(&place, &["shop/trust/served/root.3"]);
    assert!(says(&third, "checked", BEFORE), "{third}");

    // A root whose own signatures fail is not shown as one, and the code is that of its class.
    let mut broken = roots[2].to_vec();
    let signature = broken.len() - 69 - 10;
    broken[signature] ^= 1;
    put("shop/trust/served/root.3", &broken);
    let (out, _) = place.expect(14, &["inspect", "shop"]);
    assert!(out.contains("unreadable     BadSignature 401"), "{out}");
}

/// What the transcript about roots looks at are the roots of the test vectors.
#[test]
fn the_roots_of_the_transcript_are_those_of_the_vectors() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (file, vector) in [
        ("vault/root.tm", "states/served-new"),
        ("vault/root.2.tm", "succession/accepted"),
        ("vault/root.3.tm", "succession/two-then-three"),
        ("own-damaged.tm", "succession/own-by-another"),
        ("before-damaged.tm", "succession/before-by-another"),
        ("other-before.tm", "succession/other-before"),
    ] {
        let vector = fs::read(tests.join(format!("vectors/{vector}.json"))).unwrap();
        let vector: Value = serde_json::from_slice(&vector).unwrap();
        let root = vector["root"].as_str().unwrap();
        let root = data_encoding::HEXLOWER.decode(root.as_bytes()).unwrap();
        let file = tests.join("cmd/offline/roots.in").join(file);

        assert!(fs::read(&file).unwrap() == root, "write {}", file.display());
    }
}
