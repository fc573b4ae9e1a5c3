//! The four handshake messages, attacked one by one without a bus.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_bytes::Bytes as Bin;
use trustmesh::proto::chain::Credential;
use trustmesh::proto::handshake::AwaitingConfirm;
use trustmesh::proto::handshake::Initiator;
use trustmesh::proto::handshake::Party;
use trustmesh::proto::handshake::Responder;
use trustmesh::proto::handshake::Session;
use trustmesh::proto::handshake::SessionTable;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::limits::CHALLENGE_TTL_MS;
use trustmesh::proto::limits::SESSIONS_MAX;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::HandshakeFailed;
use trustmesh::proto::rejection::Overloaded;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::scope::Scope;
use trustmesh::proto::signing::Budget;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::TrustState;
use trustmesh::proto::verify::Scene;

use crate::support::mesh::Mesh;

const SKEW: fn() -> ClockSkew = ClockSkew::default;

fn failed(reason: HandshakeFailed) -> Rejection {
    Rejection::HandshakeFailed { reason }
}

/// Two agents that can see every byte of their handshakes.
struct Pair {
    mesh: Mesh,
    trust: Arc<TrustState>,
    alice: Party,
    bob: Party,
}

impl Pair {
    fn new() -> Self {
        let mut mesh = Mesh::new();
        let alice = enrol(&mut mesh, "alice");
        let bob = enrol(&mut mesh, "bob");
        let trust = mesh.authority.publish().unwrap().current();
        Self {
            mesh,
            trust,
            alice,
            bob,
        }
    }

    fn now(&self) -> Timestamp {
        self.mesh.now()
    }

    fn hello(&self, nonce: u8) -> (Initiator, Bytes) {
        let (id, key) = (self.bob.id.clone(), key_of(&self.bob));
        Initiator::hello(self.alice.clone(), id, key, [nonce; 32])
    }

    fn responder(&self) -> Responder {
        Responder::new(self.bob.clone(), [1; 8], [9; 32])
    }

    fn challenge(&self, responder: &Responder, hello: &Bytes) -> Result<Bytes, Rejection> {
        responder.challenge(hello, [200; 32], self.now())
    }

    fn confirm(
        &self,
        responder: &mut Responder,
        proof: &Bytes,
    ) -> Result<(Session, Bytes), Rejection> {
        self.confirm_at(self.now(), responder, proof)
    }

    fn confirm_at(
        &self,
        now: Timestamp,
        responder: &mut Responder,
        proof: &Bytes,
    ) -> Result<(Session, Bytes), Rejection> {
        responder.confirm(proof, [5; 16], &scene(now, &self.trust), SKEW())
    }

    fn conclude(&self, state: &AwaitingConfirm, confirm: &Bytes) -> Result<Session, Rejection> {
        state.confirm(confirm, &scene(self.now(), &self.trust), SKEW())
    }
}

fn enrol(mesh: &mut Mesh, id: &str) -> Party {
    let id = AgentId::parse(id).unwrap();
    let key = Arc::new(SigningKey::generate().unwrap());
    let certificate = mesh.authority.enrol(&id, &key).unwrap();
    let trust = mesh.authority.publish().unwrap().current();
    let scope = Scope::parse(["req:tools.>"]).unwrap();
    let hour = Duration::from_secs(3600);
    let grant = mesh.authority.grant(&key.public().bytes(), scope, 3, hour);
    let chain = grant.unwrap().verify(&*trust, &mut Budget::message());
    let credential = chain.unwrap().hold(key).unwrap();
    Party {
        id,
        certificate,
        credential,
    }
}

fn key_of(party: &Party) -> KeyBytes {
    let credential: &Credential = &party.credential;
    credential.key().public().bytes()
}

fn scene(now: Timestamp, trust: &Arc<TrustState>) -> Scene<'_> {
    Scene {
        now,
        trust,
        sessions: &(),
    }
}

/// The same frame with `from`, which stands in it once, replaced by `to`.
fn edited(frame: &Bytes, from: &[u8], to: &[u8]) -> Bytes {
    let places: Vec<usize> = (0..=frame.len() - from.len())
        .filter(|at| frame[*at..].starts_with(from))
        .collect();
    let [at] = places[..] else {
        panic!("{} places", places.len());
    };
    let mut edited = frame.to_vec();
    edited.splice(at..at + from.len(), to.iter().copied());
    edited.into()
}

/// A hello with any nonce and modes.
fn hello_of(pair: &Pair, nonce: &[u8], version: u8, modes: u8) -> Bytes {
    let (alice, bob) = (key_of(&pair.alice), key_of(&pair.bob));
    let ext: [u8; 0] = [];
    let body = rmp_serde::to_vec(&(
        version,
        Bin::new(&pair.mesh.authority.mesh().0),
        pair.alice.id.as_str(),
        Bin::new(&alice.0),
        pair.bob.id.as_str(),
        Bin::new(&bob.0),
        Bin::new(nonce),
        modes,
        ext,
    ));
    let mut frame = b"TMHS".to_vec();
    let parts = rmp_serde::to_vec(&(1u8, 1u8, Bin::new(&body.unwrap())));
    frame.extend(parts.unwrap());
    frame.into()
}

#[test]
fn four_messages_make_one_session_with_the_same_id_and_end_on_both_sides() {
    let pair = Pair::new();
    let mut responder = pair.responder();
    let (initiator, hello) = pair.hello(1);
    assert_eq!(
        hello,
        hello_of(&pair, &[1; 32], 1, 3),
        "the test's own encoder agrees"
    );
    let challenge = pair.challenge(&responder, &hello).unwrap();
    let (awaiting, instance, proof) = initiator.answer(&challenge).unwrap();
    assert_eq!(instance, [1; 8]);
    let (theirs, confirm) = pair.confirm(&mut responder, &proof).unwrap();
    let ours = pair.conclude(&awaiting, &confirm).unwrap();
    assert_eq!((ours.id, ours.until), (theirs.id, theirs.until));
    assert_eq!((&ours.peer, &theirs.peer), (&pair.bob.id, &pair.alice.id));
    let life = ours.until.since(pair.now());
    assert_eq!(life, 15 * 60_000, "no chain ends sooner");
}

/// HS-1: a recorded confirmation belongs to its own handshake.
#[test]
fn a_recorded_confirmation_ends_no_other_handshake() {
    let pair = Pair::new();
    let mut responder = pair.responder();
    let (first, hello) = pair.hello(1);
    let challenge = pair.challenge(&responder, &hello).unwrap();
    let (_, _, proof) = first.answer(&challenge).unwrap();
    let (_, recorded) = pair.confirm(&mut responder, &proof).unwrap();

    let (second, hello) = pair.hello(2);
    let next = pair.challenge(&responder, &hello).unwrap();
    let (awaiting, _, _) = second.answer(&next).unwrap();
    let replayed = pair.conclude(&awaiting, &recorded).unwrap_err();
    assert_eq!(replayed, failed(HandshakeFailed::Transcript));
    // Nor does the recorded challenge start the second one.
    let replayed = second.answer(&challenge).unwrap_err();
    assert_eq!(replayed, failed(HandshakeFailed::Transcript));
}

/// HS-1: a challenge is answered once.
#[test]
fn a_challenge_is_used_once() {
    let pair = Pair::new();
    let mut responder = pair.responder();
    let (initiator, hello) = pair.hello(1);
    let challenge = pair.challenge(&responder, &hello).unwrap();
    let (_, _, proof) = initiator.answer(&challenge).unwrap();
    assert!(pair.confirm(&mut responder, &proof).is_ok());
    let again = pair.confirm(&mut responder, &proof).unwrap_err();
    assert_eq!(again, failed(HandshakeFailed::Cookie));
    // A used cookie is remembered for as long as it would be accepted, to the millisecond.
    let last = pair.now().plus(CHALLENGE_TTL_MS);
    let again = pair.confirm_at(last, &mut responder, &proof).unwrap_err();
    assert_eq!(again, failed(HandshakeFailed::Cookie));
}

/// HS-1: a challenge lives ten seconds.
#[test]
fn a_challenge_expires() {
    let pair = Pair::new();
    let (initiator, hello) = pair.hello(1);
    let mut responder = pair.responder();
    let challenge = pair.challenge(&responder, &hello).unwrap();
    let (_, _, proof) = initiator.answer(&challenge).unwrap();
    let late = pair.now().plus(CHALLENGE_TTL_MS + 1);
    let error = pair.confirm_at(late, &mut responder, &proof).unwrap_err();
    assert_eq!(error, failed(HandshakeFailed::Cookie));
    let early = pair.now().minus(1);
    let error = pair.confirm_at(early, &mut responder, &proof).unwrap_err();
    assert_eq!(error, failed(HandshakeFailed::Cookie));
    let last = pair.now().plus(CHALLENGE_TTL_MS);
    assert!(pair.confirm_at(last, &mut responder, &proof).is_ok());
}

/// HS-1: a process recognises its own challenges and no others.
#[test]
fn the_challenge_of_another_process_is_refused() {
    let pair = Pair::new();
    let (initiator, hello) = pair.hello(1);
    let elsewhere = Responder::new(pair.bob.clone(), [1; 8], [8; 32]);
    let challenge = pair.challenge(&elsewhere, &hello).unwrap();
    let (_, _, proof) = initiator.answer(&challenge).unwrap();
    let error = pair.confirm(&mut pair.responder(), &proof).unwrap_err();
    assert_eq!(error, failed(HandshakeFailed::Cookie));
}

/// HS-1: nobody but the asker can use its challenge up.
#[test]
fn a_proof_that_does_not_verify_leaves_the_challenge_usable() {
    let pair = Pair::new();
    let mut responder = pair.responder();
    let (initiator, hello) = pair.hello(1);
    let challenge = pair.challenge(&responder, &hello).unwrap();
    let (_, _, proof) = initiator.answer(&challenge).unwrap();
    let mut broken = proof.to_vec();
    // The signature follows the body: flipping the last byte of the chain would do as well.
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let refused = pair.confirm(&mut responder, &broken.into()).unwrap_err();
    assert_ne!(refused.class(), Class::HandshakeFailed, "{refused}");
    assert!(pair.confirm(&mut responder, &proof).is_ok());
}

/// HS-2: the responder keeps nothing for a hello, which its signature alone shows: `&self`.
#[test]
fn hellos_leave_no_state_behind() {
    let pair = Pair::new();
    let responder = pair.responder();
    let before = format!("{responder:?}");
    for nonce in 1..=100 {
        let (_, hello) = pair.hello(nonce);
        pair.challenge(&responder, &hello).unwrap();
    }
    assert_eq!(format!("{responder:?}"), before);
}

/// HS-3: an initiator this side does not know, has blocked or has revoked is refused at its proof.
#[test]
fn an_initiator_in_bad_standing_is_refused_by_class() {
    let mut pair = Pair::new();
    let mut responder = pair.responder();
    let (initiator, hello) = pair.hello(1);
    let challenge = pair.challenge(&responder, &hello).unwrap();
    let (_, _, proof) = initiator.answer(&challenge).unwrap();

    let mut strangers = Mesh::new();
    enrol(&mut strangers, "alice");
    let unknown = Pair {
        trust: strangers.authority.publish().unwrap().current(),
        ..Pair::new()
    };
    let error = responder.confirm(&proof, [5; 16], &scene(pair.now(), &unknown.trust), SKEW());
    assert_eq!(error.unwrap_err().class(), Class::UnknownAgent);

    let blocked = r#"{ "rules": [], "blocked": { "agents": ["alice"] } }"#;
    let blocked = trustmesh::proto::policy::Policy::from_json(blocked).unwrap();
    pair.mesh.authority.set_policy(blocked).unwrap();
    pair.trust = pair.mesh.authority.publish().unwrap().current();
    let error = pair.confirm(&mut responder, &proof).unwrap_err();
    assert_eq!(error.class(), Class::Blocked);

    let open = crate::support::mesh::policy("");
    pair.mesh.authority.set_policy(open).unwrap();
    pair.mesh.authority.revoke_agent("alice").unwrap();
    pair.trust = pair.mesh.authority.publish().unwrap().current();
    let error = pair.confirm(&mut responder, &proof).unwrap_err();
    assert_eq!(error.class(), Class::Revoked);
}

/// HS-3, HS-4: the initiator too decides by its own trust state, whatever the peer presents.
#[test]
fn a_responder_in_bad_standing_is_refused_by_class() {
    let mut pair = Pair::new();
    let mut responder = pair.responder();
    let (initiator, hello) = pair.hello(1);
    let challenge = pair.challenge(&responder, &hello).unwrap();
    let (awaiting, _, proof) = initiator.answer(&challenge).unwrap();
    let (_, confirm) = pair.confirm(&mut responder, &proof).unwrap();
    pair.mesh.authority.revoke_key(key_of(&pair.bob)).unwrap();
    pair.trust = pair.mesh.authority.publish().unwrap().current();
    let error = pair.conclude(&awaiting, &confirm).unwrap_err();
    assert_eq!(error.class(), Class::Revoked);
}

/// HS-4: a certificate that is not the registered one is refused, though the key is right.
#[test]
fn a_presented_certificate_other_than_the_registered_one_is_refused() {
    let pair = Pair::new();
    let mut other = Mesh::new();
    // The same id and key, certified by the registrar of another mesh.
    let key = pair.alice.credential.key();
    let certificate = other.authority.enrol(&pair.alice.id, key).unwrap();
    let inflated = Party {
        certificate,
        ..pair.alice.clone()
    };
    let (bob, bobs_key) = (pair.bob.id.clone(), key_of(&pair.bob));
    let (initiator, hello) = Initiator::hello(inflated, bob, bobs_key, [1; 32]);
    let mut responder = pair.responder();
    let challenge = pair.challenge(&responder, &hello).unwrap();
    let (_, _, proof) = initiator.answer(&challenge).unwrap();
    let error = pair.confirm(&mut responder, &proof).unwrap_err();
    assert_eq!(error.class(), Class::KeyMismatch);
}

/// HS-6: what was lowered, raised or stripped in transit breaks the transcript.
#[test]
fn options_changed_in_transit_are_refused() {
    let pair = Pair::new();
    let mut responder = pair.responder();
    let (initiator, hello) = pair.hello(1);

    for modes in [0, 4] {
        let stripped = hello_of(&pair, &[1; 32], 1, modes);
        let error = pair.challenge(&responder, &stripped).unwrap_err();
        assert_eq!(error, failed(HandshakeFailed::Version));
    }
    for version in [0, 2] {
        let lowered = hello_of(&pair, &[1; 32], version, 3);
        let error = pair.challenge(&responder, &lowered).unwrap_err();
        assert_eq!(error.class(), Class::UnsupportedVersion);
    }

    // More or fewer modes than the initiator offered: the responder cannot tell, the initiator can.
    for modes in [1, 2, 7] {
        let changed = hello_of(&pair, &[1; 32], 1, modes);
        let challenge = pair.challenge(&responder, &changed).unwrap();
        let error = initiator.answer(&challenge).unwrap_err();
        assert_eq!(error, failed(HandshakeFailed::Transcript));
    }
    let raised = hello_of(&pair, &[1; 32], 1, 7);

    // A proof over another hello than the one challenged.
    let challenge = pair.challenge(&responder, &hello).unwrap();
    let (_, _, proof) = initiator.answer(&challenge).unwrap();
    let (hello, raised) = (&hello[8..], &raised[8..]);
    let swapped = edited(&proof, &hello[1..], &raised[1..]);
    let error = pair.confirm(&mut responder, &swapped).unwrap_err();
    assert_eq!(error, failed(HandshakeFailed::Transcript));
}

/// HS-6: one role's signature is not the other's.
#[test]
fn a_reflected_proof_confirms_nothing() {
    let pair = Pair::new();
    let responder = pair.responder();
    let (initiator, hello) = pair.hello(1);
    let challenge = pair.challenge(&responder, &hello).unwrap();
    let (awaiting, _, proof) = initiator.answer(&challenge).unwrap();
    let error = pair.conclude(&awaiting, &proof).unwrap_err();
    assert_eq!(error, failed(HandshakeFailed::Transcript));
    // Nor relabelled as the fourth step: the frame's version is 1, its step 3.
    let mut relabelled = proof.to_vec();
    assert_eq!(relabelled[5..7], [1, 3]);
    relabelled[6] = 4;
    assert!(pair.conclude(&awaiting, &relabelled.into()).is_err());
}

/// HS-9: nonces that are unusable.
#[test]
fn a_nonce_of_wrong_length_all_zero_or_the_peers_own_is_refused() {
    let pair = Pair::new();
    let responder = pair.responder();
    for nonce in [&[0; 32][..], &[1; 31], &[1; 33], &[]] {
        let hello = hello_of(&pair, nonce, 1, 3);
        let error = pair.challenge(&responder, &hello).unwrap_err();
        assert_eq!(
            error,
            failed(HandshakeFailed::Nonce),
            "{} bytes",
            nonce.len()
        );
    }
    let (initiator, hello) = pair.hello(200);
    let error = pair.challenge(&responder, &hello).unwrap_err();
    assert_eq!(error, failed(HandshakeFailed::Nonce), "the challenge's own");

    let other = responder.challenge(&hello, [7; 32], pair.now()).unwrap();
    let length = [&[0xc4, 32][..], &[7; 32]].concat();
    for nonce in [
        [&[0xc4, 32][..], &[0; 32]].concat(),
        [&[0xc4, 32][..], &[200; 32]].concat(),
    ] {
        let error = initiator.answer(&edited(&other, &length, &nonce));
        assert_eq!(error.unwrap_err(), failed(HandshakeFailed::Nonce));
    }
}

/// HS-5: what a session table holds counts when it should, and ends when it should.
#[test]
fn an_answered_session_counts_from_the_next_message_and_never_past_its_end() {
    let pair = Pair::new();
    let (now, key) = (pair.now(), key_of(&pair.alice));
    let until = now.plus(1_000);
    let session = Session {
        peer: pair.alice.id.clone(),
        key,
        until,
        id: [1; 16],
        newest: None,
    };
    let mut table = SessionTable::default();
    table.await_message(session.clone(), now).unwrap();
    assert!(table.get(&key, now).is_none() && table.is_empty());
    table.heard_from(&key_of(&pair.bob), now);
    assert!(table.is_empty(), "another peer's message says nothing");
    table.heard_from(&key, now);
    assert_eq!(table.get(&key, now).unwrap().id, [1; 16]);
    assert!(table.get(&key, until).is_none());
    assert!(table.get(&key, until.minus(1)).is_some());
    // One session a peer.
    table
        .begin(
            Session {
                id: [2; 16],
                ..session
            },
            now,
        )
        .unwrap();
    assert_eq!(table.len(), 1);
    table.end(&key);
    assert!(!table.expects(&key, now));
}

/// A table that is full of sessions admits no other, and forgets none that is not over.
#[test]
fn a_full_session_table_refuses_and_forgets_no_live_session() {
    let pair = Pair::new();
    let now = pair.now();
    let session = |number: usize, until: Timestamp| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        Session {
            peer: pair.alice.id.clone(),
            key: KeyBytes(key),
            until,
            id: [1; 16],
            newest: None,
        }
    };
    let mut table = SessionTable::default();
    for number in 0..SESSIONS_MAX {
        let until = now.plus(if number == 0 { 1_000 } else { 2_000 });
        table.begin(session(number, until), now).unwrap();
    }
    let another = session(SESSIONS_MAX, now.plus(9_000));
    let full = Rejection::Overloaded {
        reason: Overloaded::Sessions,
    };
    assert_eq!(table.begin(another.clone(), now), Err(full));
    assert_eq!(table.len(), SESSIONS_MAX);
    // A peer that is in the table may renew its session.
    table.begin(session(1, now.plus(3_000)), now).unwrap();
    // Room comes with the first that is over.
    table.begin(another, now.plus(1_000)).unwrap();
    assert_eq!(table.len(), SESSIONS_MAX);
}
