//! A second verifier, written in Python from the protocol's text, agrees with every test vector.

use std::process::Command;

/// The Python to use. Without one there is nothing to run, except where tests have to be complete.
fn python() -> Option<String> {
    let named = std::env::var("TRUSTMESH_PYTHON").ok();
    named.filter(|name| !name.is_empty()).or_else(|| {
        let found = Command::new("python3")
            .args(["-c", "import cryptography"])
            .status()
            .is_ok_and(|status| status.success());
        found.then(|| "python3".to_owned())
    })
}

#[test]
fn the_second_verifier_agrees_on_every_vector() {
    let Some(python) = python() else {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI needs Python with the package cryptography"
        );
        eprintln!("no Python with the package cryptography: nothing to compare");
        return;
    };
    let output = Command::new(python)
        .args(["examples/python/verify.py", "tests/vectors"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let (said, complaints) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}{complaints}");
    // Agreement about nothing would be none.
    let cases = said
        .split_whitespace()
        .find_map(|word| word.parse::<usize>().ok());
    assert!(cases.is_some_and(|cases| cases >= 400), "{said}");
}
