//! The example swarm, with a verifier service: it checks what it claims, and says so by its exit
//! status.

use std::path::Path;
use std::process::Command;
use std::process::Output;

use crate::support::nats::NatsServer;

/// Runs the example as a visitor does, in a directory of its own.
fn swarm(directory: &Path, arguments: &[&str], nats: Option<&str>) -> Output {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["run", "--quiet", "--manifest-path", manifest])
        .args(["--example", "swarm", "--"])
        .args(arguments)
        .current_dir(directory)
        .env_remove("NATS_URL");
    if let Some(url) = nats {
        command.env("NATS_URL", url);
    }
    command.output().expect("cargo runs")
}

fn check_with_verifier(nats: Option<&str>) {
    let directory = tempfile::tempdir().unwrap();
    let output = swarm(directory.path(), &["--with-verifier"], nats);
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{failed}");
    let lines = [
        "contractor  REFUSED TrustTooLow (2101)",
        "accomplice  REFUSED Revoked (1803)",
        "the old key  REFUSED Revoked (1802)",
        "planner  REFUSED PolicyDenied (2008)",
        "5/5 attacks refused before any handler ran",
    ];
    for line in lines {
        assert!(said.contains(line), "{line}\n{said}");
    }
    let graph = directory.path().join("swarm-out/graph.mmd");
    let graph = std::fs::read_to_string(graph).unwrap();
    let joined = graph.lines().filter(|line| line.contains("--o|\"joined"));
    assert!(joined.count() >= 10, "{graph}");
    assert!(graph.contains("joined<br/>rotated"), "{graph}");
}

#[test]
fn the_swarm_with_a_verifier_does_what_it_claims_in_process() {
    check_with_verifier(None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_swarm_with_a_verifier_does_what_it_claims_over_nats() {
    // Its own, since the example uses the subjects of the default prefix.
    let server = NatsServer::start_jetstream().await;
    let url = server.url();
    let run = tokio::task::spawn_blocking(move || check_with_verifier(Some(&url)));
    run.await.unwrap();
}

#[test]
fn the_swarm_without_a_verifier_does_what_it_claims() {
    let directory = tempfile::tempdir().unwrap();
    let output = swarm(directory.path(), &[], None);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("verifier  "), "{said}");
}
