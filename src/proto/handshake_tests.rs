use std::sync::Arc;
use std::sync::Barrier;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::proto::identity::SigningKey;
use crate::proto::scope::Scope;
use crate::proto::signing::Budget;
use crate::services::authority::Authority;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn party(mesh: &mut Authority, id: &str) -> Party {
    let id = AgentId::parse(id).unwrap();
    let key = Arc::new(SigningKey::generate().unwrap());
    let certificate = mesh.enrol(&id, &key).unwrap();
    let trust = mesh.publish().unwrap().current();
    let scope = Scope::parse(["req:tools.>"]).unwrap();
    let grant = mesh.grant(&key.public().bytes(), scope, 3, Duration::from_secs(3600));
    let chain = grant.unwrap().verify(&*trust, &mut Budget::message());
    let credential = chain.unwrap().hold(key).unwrap();
    Party {
        id,
        certificate,
        credential,
    }
}

/// CC-2: there is room for eight more used challenges when 64 proofs arrive at once. Eight are
/// confirmed, the memory is exactly full, and nothing in it can be used again.
#[test]
fn of_64_proofs_at_once_as_many_are_confirmed_as_there_is_room_for() {
    const ROOM: usize = 8;
    let clock = Arc::new(crate::client::clock::ManualClock::at(NOW));
    let mut mesh = Authority::dev_with_clock("test", clock).unwrap();
    let (alice, bob) = (party(&mut mesh, "alice"), party(&mut mesh, "bob"));
    let trust = mesh.publish().unwrap().current();
    let mut responder = Responder::new(bob.clone(), [1; 8], [9; 32]);
    let proofs: Vec<Bytes> = (1..=64)
        .map(|n| {
            let (asker, hello) =
                Initiator::hello(alice.clone(), bob.id.clone(), bob.key(), [n; 32]);
            let challenge = responder.challenge(&hello, [200; 32], NOW).unwrap();
            let (_, _, proof) = asker.answer(&challenge).unwrap();
            proof
        })
        .collect();
    for n in ROOM..SESSIONS_MAX {
        let mut cookie = [0; 32];
        cookie[..8].copy_from_slice(&n.to_be_bytes());
        responder.use_cookie(&Challenge {
            hello: ObjectId([0; 32]),
            nonce: [0; 32],
            time: NOW,
            instance: [1; 8],
            cookie,
        });
    }
    let (responder, start) = (Mutex::new(responder), Barrier::new(proofs.len()));
    let confirm = |proof: &Bytes| {
        let scene = Scene {
            now: NOW,
            trust: &trust,
            sessions: &(),
        };
        let mut responder = responder.lock().unwrap();
        let confirmed = responder.confirm(proof, [5; 16], &scene, ClockSkew::default());
        confirmed.map(drop)
    };
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let at_once = |proof| {
            start.wait();
            confirm(proof)
        };
        let threads: Vec<_> = proofs
            .iter()
            .map(|proof| scope.spawn(move || at_once(proof)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let full = Rejection::Overloaded {
        reason: Overloaded::Handshakes,
    };
    let confirmed = outcomes.iter().filter(|outcome| outcome.is_ok());
    assert_eq!(confirmed.count(), ROOM);
    let refused = outcomes.iter().filter(|outcome| **outcome == Err(full));
    assert_eq!(refused.count(), proofs.len() - ROOM);
    assert_eq!(responder.lock().unwrap().used.len(), SESSIONS_MAX);
    for (proof, outcome) in proofs.iter().zip(outcomes) {
        let again = match outcome {
            Ok(()) => failed(HandshakeFailed::Cookie),
            Err(full) => full,
        };
        assert_eq!(confirm(proof), Err(again));
    }
}
