//! What a large mesh costs its members: reading a served trust state for the first time, going on
//! to the next, and deciding by it, for 10 to 100,000 agents and as many revocations.
//!
//! ```text
//! cargo bench --bench growth
//! ```
//!
//! The baseline is the mesh of ten agents in the same run; for a cold start it is one
//! `verify_strict` per part.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use trustmesh::client::clock::Clock as _;
use trustmesh::client::clock::SystemClock;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::rejection::Place;
use trustmesh::proto::revocation::Revocation;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::trust::Admission;
use trustmesh::proto::trust::Bulletin;
use trustmesh::proto::trust::Follower;
use trustmesh::proto::trust::Progress;
use trustmesh::proto::trust::TrustState;
use trustmesh::services::authority::Authority;

const SIZES: [u32; 5] = [10, 100, 1_000, 10_000, 100_000];

fn main() {
    println!(
        "{:>8} {:>6} {:>10} {:>10} {:>9} {:>10} {:>12}",
        "agents", "parts", "bytes", "cold", "memory", "one more", "look-up"
    );
    let mut baseline = None;
    for size in SIZES {
        let mut mesh = mesh(size);
        let member = member(&mut mesh, "last");
        let (bulletin, parts) = (mesh.bulletin().unwrap().clone(), mesh.parts());
        let bytes: usize = parts.values().map(Bytes::len).sum();

        let before = resident();
        let started = Instant::now();
        let mut follower = follower(&mesh);
        let state = hear(&mut follower, &bulletin, &parts);
        let cold = started.elapsed();
        let memory = resident().saturating_sub(before);

        mesh.revoke_agent("one-more").unwrap();
        let (bulletin, parts) = (mesh.bulletin().unwrap().clone(), mesh.parts());
        let started = Instant::now();
        let next = hear(&mut follower, &bulletin, &parts);
        let warm = started.elapsed();
        assert_eq!(next.revocations().len(), state.revocations().len() + 1);

        let look_up = look_up(&next, &member);
        let base = *baseline.get_or_insert(look_up);
        println!(
            "{size:>8} {:>6} {bytes:>10} {:>10} {:>6} MiB {:>10} {:>7} ns {:.2}",
            parts.len(),
            milliseconds(cold),
            memory / 1024,
            milliseconds(warm),
            look_up.as_nanos(),
            look_up.as_secs_f64() / base.as_secs_f64(),
        );
    }
}

/// A served mesh with so many agents, and as many revocations of links.
fn mesh(size: u32) -> Authority {
    let mut mesh = Authority::served("growth").unwrap();
    mesh.set_policy(Policy::default()).unwrap();
    for number in 0..size {
        let key = SigningKey::generate().unwrap();
        let id = AgentId::parse(&format!("agent-{number}")).unwrap();
        mesh.enrol(&id, &key).unwrap();
    }
    let links = (0..size).map(|number| {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        Revocation::Link(ObjectId(id))
    });
    mesh.revoke_all(links).unwrap();
    mesh
}

fn member(mesh: &mut Authority, id: &str) -> KeyBytes {
    let key = SigningKey::generate().unwrap();
    mesh.enrol(&AgentId::parse(id).unwrap(), &key).unwrap();
    mesh.publish().unwrap();
    key.public().bytes()
}

fn follower(mesh: &Authority) -> Follower {
    let pin = Some(mesh.root_id());
    Follower::new(&mesh.roots()[0], Admission::Production, pin).unwrap()
}

fn hear(
    follower: &mut Follower,
    bulletin: &Bulletin,
    parts: &HashMap<ObjectId, Bytes>,
) -> Arc<TrustState> {
    // As they come from a store: each part in a buffer of its own.
    let fetch = |digest: &ObjectId| parts.get(digest).map(|part| Bytes::copy_from_slice(part));
    match follower.hear(bulletin, fetch).unwrap() {
        Progress::Advanced(state) => state,
        other => panic!("{other:?}"),
    }
}

/// What a decision asks of the trust state for one holder: standing, revocation, score.
fn look_up(state: &TrustState, key: &KeyBytes) -> Duration {
    const ROUNDS: u32 = 200_000;
    let (now, skew) = (SystemClock::new().now().unwrap(), ClockSkew::default());
    let place = Place::Certificate;
    let ask = || {
        let certificate = state.check_standing(key, now, skew, place).unwrap();
        state
            .revocations()
            .check_agent(certificate, now, place)
            .unwrap();
        std::hint::black_box(state.score(certificate.agent()));
    };
    ask();
    let started = Instant::now();
    (0..ROUNDS).for_each(|_| ask());
    started.elapsed() / ROUNDS
}

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}
