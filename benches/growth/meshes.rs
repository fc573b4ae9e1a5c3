//! Meshes of 10 to 100,000 agents and as many revocations: what they cost a member that reads their
//! state, and a receiver that decides by it.
//!
//! For a cold start the baseline is one `verify_strict` per part.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use trustmesh::client::clock::ManualClock;
use trustmesh::proto::chain::Credential;
use trustmesh::proto::chain::VerifiedChain;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::rejection::Place;
use trustmesh::proto::revocation::Revocation;
use trustmesh::proto::scope::Scope;
use trustmesh::proto::signing::Budget;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::Admission;
use trustmesh::proto::trust::Bulletin;
use trustmesh::proto::trust::Follower;
use trustmesh::proto::trust::Progress;
use trustmesh::proto::trust::TrustState;
use trustmesh::services::authority::Authority;

use super::Error;
use super::decisions::Company;
use super::decisions::MODES;
use super::forge::NOW;
use super::forge::mesh::OPEN_POLICY;
use super::receiver::Receiver;
use super::table::Table;

const SIZES: [u32; 5] = [10, 100, 1_000, 10_000, 100_000];

/// The senders that take turns, as many in every mesh: what grows is the mesh.
const SENDERS: usize = 8;

/// Prints what reading each mesh costs, then measures decisions in all of them by turns.
pub fn by_mesh(table: &mut Table) -> Result<(), Error> {
    println!(
        "{:>8} {:>6} {:>10} {:>10} {:>9} {:>10} {:>8}",
        "agents", "parts", "bytes", "cold", "memory", "one more", "look-up"
    );
    let states: Result<Vec<Settled>, Error> = SIZES.into_iter().map(read).collect();
    let states = states?;
    println!();
    for mode in MODES {
        let title = format!("agents and revocations, {}", mode.name);
        let case = |(size, state): (u32, &Settled)| {
            let (me, own) = &state.receiver;
            let receiver = Receiver::holding(*me, own.clone(), state.trust.clone());
            Company::new(receiver, state.senders.clone(), mode).case(size as usize)
        };
        let cases = SIZES.into_iter().zip(&states).map(case);
        table.measure(&title, cases.collect())?;
    }
    Ok(())
}

/// A mesh that is read, with a receiver and senders in it.
struct Settled {
    trust: Arc<TrustState>,
    receiver: (KeyBytes, VerifiedChain),
    senders: Vec<Credential>,
}

fn read(size: u32) -> Result<Settled, Error> {
    let mut mesh = mesh(size);
    let members: Vec<Arc<SigningKey>> = (0..=SENDERS)
        .map(|number| member(&mut mesh, &format!("member-{number}")))
        .collect();
    mesh.publish()?;
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

    println!(
        "{size:>8} {:>6} {bytes:>10} {:>10} {:>6} MiB {:>10} {:>5} ns",
        parts.len(),
        milliseconds(cold),
        memory / 1024,
        milliseconds(warm),
        look_up(&next, &members[0].public().bytes()).as_nanos(),
    );
    let hold = |key: &Arc<SigningKey>, scope: &str| {
        let scope = Scope::parse([scope])?;
        let chain = mesh.grant(&key.public().bytes(), scope, 0, HOUR)?;
        let chain = chain.verify(&*next, &mut Budget::message())?;
        Ok::<_, Error>(chain.hold(key.clone())?)
    };
    let own = hold(&members[0], "sub:orders.>")?.chain().clone();
    let senders = members[1..].iter().map(|key| hold(key, "pub:orders.>"));
    let senders: Result<Vec<Credential>, Error> = senders.collect();
    Ok(Settled {
        receiver: (members[0].public().bytes(), own),
        senders: senders?,
        trust: next,
    })
}

/// A served mesh with so many agents, and as many revocations of links.
fn mesh(size: u32) -> Authority {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(NOW)));
    let mut mesh = Authority::served_with_clock("growth", false, clock).unwrap();
    mesh.set_policy(Policy::from_json(OPEN_POLICY).unwrap())
        .unwrap();
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

fn member(mesh: &mut Authority, id: &str) -> Arc<SigningKey> {
    let key = SigningKey::generate().unwrap();
    mesh.enrol(&AgentId::parse(id).unwrap(), &key).unwrap();
    Arc::new(key)
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
    let (now, skew) = (Timestamp::from_millis(NOW), ClockSkew::default());
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

const HOUR: Duration = Duration::from_secs(3_600);

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}
