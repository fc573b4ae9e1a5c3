//! What judging evidence from the command line costs: `trustmesh verify` over streams of 20,000 and
//! 200,000 envelopes that share a chain, beside the bare signature check of the same run.
//!
//! ```text
//! taskset -c 1 cargo bench --features cli --bench offline
//! ```
//!
//! Pinned to one core, the bare check and the command run on the same one, one after the other.

use std::fs::File;
use std::io::BufWriter;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use ed25519_dalek::Signer as _;

use trustmesh::proto::chain::Credential;
use trustmesh::proto::envelope::EnvelopeDraft;
use trustmesh::proto::replay::MessageId;
use trustmesh::proto::scope::Action;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::time::Timestamp;

#[path = "../tests/forge/mod.rs"]
mod forge;

use forge::Mesh;
use forge::NOW;
use forge::Party;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Mesh::new();
    write_trust(&mesh, folder.path());
    let holders = ["carol", "dave", "alice"].map(Party::named);
    let sender = mesh.line(
        &[&holders[0], &holders[1], &holders[2]],
        &["pub+delegate:orders.>"],
    );

    let bare = bare_rate();
    println!("bare verify_strict over 200 bytes   {bare:>9.0} a second");
    for count in [20_000, 200_000] {
        let stream = folder.path().join(format!("{count}.hex"));
        write_stream(&stream, &sender, count);
        let (took, peak) = judge(&stream, folder.path());
        let rate = f64::from(count) / took.as_secs_f64();
        println!(
            "verify, {count:>7} envelopes           {rate:>9.0} a second, \
             {:.2} of bare, peak {peak} KiB",
            rate / bare
        );
    }
}

fn write_trust(mesh: &Mesh, folder: &Path) {
    let files = mesh.files();
    for (name, bytes) in [
        ("root.tm", &files.root),
        ("registry.tm", &files.registry),
        ("policy.tm", &files.policy),
        ("revocations.tm", &files.revocations),
    ] {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

/// One envelope a line, in hexadecimal, each with an id of its own.
fn write_stream(path: &Path, sender: &Credential, count: u32) {
    let mut out = BufWriter::new(File::create(path).unwrap());
    let (now, subject) = (
        Timestamp::from_millis(NOW),
        Subject::parse("orders.eu.new").unwrap(),
    );
    for number in 0..count {
        let mut mid = [7; 16];
        mid[..4].copy_from_slice(&number.to_be_bytes());
        let mut draft = EnvelopeDraft::new(MessageId(mid), now, Action::Publish, subject.clone());
        draft.payload = "a payload of the ordinary kind, some sixty bytes long or so".into();
        let frame = draft.sign(sender).unwrap().into_bytes();
        writeln!(out, "{}", data_encoding::HEXLOWER.encode(&frame)).unwrap();
    }
    out.flush().unwrap();
}

/// Runs the command; returns how long it took, and the most memory it held.
fn judge(stream: &Path, trust: &Path) -> (Duration, u64) {
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_trustmesh"))
        .args([
            "verify",
            "-",
            "--json",
            "--quiet",
            "--at",
            &NOW.to_string(),
            "--trust",
        ])
        .arg(trust)
        .stdin(File::open(stream).unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut peak = 0;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        peak = peak_of(child.id()).unwrap_or(peak);
        std::thread::sleep(Duration::from_millis(20));
    };
    let took = started.elapsed();
    assert!(status.success(), "an envelope was refused: {status}");
    (took, peak)
}

/// The peak of a process's resident memory in KiB, as Linux counts it.
fn peak_of(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// Bare signature checks in a second.
fn bare_rate() -> f64 {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let message = [7; 200];
    let (signature, public) = (key.sign(&message), key.verifying_key());
    let count = 20_000;
    let started = Instant::now();
    for _ in 0..count {
        let holds = public.verify_strict(std::hint::black_box(&message), &signature);
        assert!(holds.is_ok());
    }
    f64::from(count) / started.elapsed().as_secs_f64()
}
