//! Handshakes over the bus, and policies that ask for a session.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use serde_bytes::Bytes as Bin;
use trustmesh::Client;
use trustmesh::Message;
use trustmesh::Service;
use trustmesh::audit::AuditEvent;
use trustmesh::audit::SessionRole;
use trustmesh::audit::Word;
use trustmesh::bus::Bus;
use trustmesh::bus::Outgoing;
use trustmesh::bus::faults::Fault;
use trustmesh::bus::faults::Faults;
use trustmesh::bus::faults::Rule;
use trustmesh::error::HandshakeError;
use trustmesh::error::RefusedByPeer;
use trustmesh::proto::envelope::inbox_prefix;
use trustmesh::proto::handshake;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::limits::HELLOS_PER_SECOND;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::PolicyDenied;
use trustmesh::proto::rejection::Rejection;

use crate::support::arrived;
use crate::support::mesh::Mesh;
use crate::support::mesh::consume;
use crate::support::mesh::policy;
use crate::support::mesh::recorded;
use crate::support::mesh::settled;

/// Below `gate` a session is asked for.
const GATE: &str = r#"{ "name": "gate", "effect": "allow", "actions": ["pub", "req"],
    "subjects": "gate.>", "session": true }"#;

const EVERYTHING: [&str; 1] = ["pub+sub+req+serve+delegate:>"];

async fn serve(client: &Client, subject: &str) -> Service {
    let name = client.id().to_string();
    let handler = move |_: Message| {
        let name = Bytes::from(name.clone());
        async move { Ok::<_, String>(name) }
    };
    client.serve(subject.to_owned(), handler).await.unwrap()
}

/// The sessions a client's audit tells of: role, and class of the refusal.
async fn sessions(
    client: &Client,
    stream: &mut trustmesh::client::AuditStream,
) -> Vec<(SessionRole, Option<String>)> {
    let events = recorded(client, stream).await.into_iter();
    events
        .filter_map(|event| match event {
            AuditEvent::Session { role, class, .. } => Some((role, class)),
            _ => None,
        })
        .collect()
}

/// Whether `to` accepts from `from` what needs a session.
async fn admits(from: &Client, to: &Client, subject: &str) -> bool {
    let taken = consume(to.subscribe(subject.to_owned()).await.unwrap());
    let before = to.counters().received;
    from.publish(subject.to_owned(), "x".into()).await.unwrap();
    settled(to, before + 1).await;
    taken.count() == 1
}

#[tokio::test]
async fn a_request_that_needs_a_session_gets_one_and_is_sent_again() {
    let mut mesh = Mesh::ruled(GATE);
    let bob = mesh.join("bob", &EVERYTHING).await;
    let alice = mesh.join("alice", &EVERYTHING).await;
    let service = serve(&bob, "gate.tool").await;
    let mut audit = bob.audit();

    for _ in 0..3 {
        let answer = alice.request("gate.tool", "x".into()).await.unwrap();
        assert_eq!(answer.payload, "bob");
    }
    let counters = settled(&bob, 4).await;
    assert_eq!(counters.denied_of(Class::PolicyDenied), 1, "only the first");
    assert_eq!(counters.handler_runs, 3);
    assert_eq!(counters.refusals_sent, 1);
    let events = recorded(&bob, &mut audit).await;
    let session = |event: &AuditEvent| matches!(event, AuditEvent::Session { .. });
    assert_eq!(events.iter().filter(|event| session(event)).count(), 1);
    service.stop().await;
}

/// Each member asks for its own session, and every request is answered.
#[tokio::test]
async fn every_member_of_a_queue_group_gets_its_session() {
    let mut mesh = Mesh::ruled(GATE);
    let mut members = Vec::new();
    for id in ["w/1", "w/2", "w/3"] {
        let member = mesh.join(id, &EVERYTHING).await;
        let name = Bytes::from(id);
        let handler = move |_: Message| {
            let name = name.clone();
            async move { Ok::<_, String>(name) }
        };
        let group = "workers".to_owned();
        let service = member
            .queue_serve("gate.work", group, handler)
            .await
            .unwrap();
        members.push((member, service));
    }
    let alice = mesh.join("alice", &EVERYTHING).await;
    let mut by_member: BTreeMap<Bytes, u32> = BTreeMap::new();
    for _ in 0..40 {
        let answer = alice.request("gate.work", "x".into()).await.unwrap();
        *by_member.entry(answer.payload).or_default() += 1;
    }
    assert_eq!(by_member.values().sum::<u32>(), 40);
    assert_eq!(by_member.len(), 3, "all members work: {by_member:?}");
    for (member, service) in members {
        service.stop().await;
        let counters = member.counters();
        let runs = u64::from(by_member[member.id().as_str().as_bytes()]);
        assert_eq!(counters.handler_runs, runs);
        assert_eq!(counters.denied_total(), 1, "asked once: {counters:?}");
    }
}

/// Three processes of one agent are three parties: a session with one is none with the others.
#[tokio::test]
async fn every_process_of_an_agent_gets_its_session() {
    let mut mesh = Mesh::ruled(GATE);
    let bob = mesh.authority.agent("bob", EVERYTHING).unwrap();
    let mut services = Vec::new();
    for _ in 0..3 {
        let process = mesh.enter(bob.clone()).await;
        let handler = |_: Message| async { Ok::<_, String>(Bytes::new()) };
        let service = process.queue_serve("gate.work", "g".to_owned(), handler);
        services.push((process.clone(), service.await.unwrap()));
    }
    let alice = mesh.join("alice", &EVERYTHING).await;
    for _ in 0..40 {
        alice.request("gate.work", "x".into()).await.unwrap();
    }
    for (process, service) in services {
        service.stop().await;
        assert_eq!(process.counters().denied_total(), 1);
        assert!(process.counters().handler_runs > 0);
    }
}

/// Nobody is sent to a stranger for a session, and a peer that asks again and again is given up.
#[tokio::test]
async fn a_peer_that_asks_for_a_session_again_is_a_refusal() {
    let mut mesh = Mesh::ruled(GATE);
    let bob = mesh.join("bob", &EVERYTHING).await;
    let alice = mesh.join("alice", &EVERYTHING).await;
    let _service = serve(&bob, "gate.tool").await;
    // Bob never hears of the proof; alice believes in a session that bob has not.
    let lost = Fault::alter(|delivery| {
        if handshake::step(&delivery.payload) == Ok(3) {
            delivery.payload = Bytes::new();
        }
    });
    mesh.bus
        .inject(Faults::seeded(1).with(Rule::on("trustmesh.handshake.>", lost)));
    let error = alice.request("gate.tool", "x".into()).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.is::<RefusedByPeer>(), "{error:?}");
    assert_eq!(settled(&bob, 1).await.handler_runs, 0);
}

/// HS-3: both sides' audits say what happened.
#[tokio::test(start_paused = true)]
async fn a_handshake_with_a_peer_in_bad_standing_is_audited_by_class() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &EVERYTHING).await;
    let mut audit = alice.audit();
    let ids = ["nobody", "blocked", "revoked"].map(|id| AgentId::parse(id).unwrap());
    for id in &ids[1..] {
        mesh.join(id.as_str(), &EVERYTHING).await;
    }
    let rule = r#"{ "rules": [ { "name": "all", "effect": "allow",
        "actions": ["pub", "sub", "req", "serve"], "subjects": ">" } ],
        "blocked": { "agents": ["blocked"] } }"#;
    let blocking = trustmesh::proto::policy::Policy::from_json(rule).unwrap();
    mesh.authority.set_policy(blocking).unwrap();
    mesh.authority.revoke_agent("revoked").unwrap();
    let classes = [Class::UnknownAgent, Class::Blocked, Class::Revoked];
    for (id, class) in ids.iter().zip(classes) {
        let error = alice.handshake(id).await.unwrap_err();
        let HandshakeError::Refused(rejection) = error else {
            panic!("{error}");
        };
        assert_eq!(rejection.class(), class);
        let told = sessions(&alice, &mut audit).await;
        assert_eq!(
            told,
            [(SessionRole::Initiator, Some(class.name().to_owned()))]
        );
    }
}

/// HS-3: an initiator in bad standing gets no confirmation, and both sides say so.
#[tokio::test(start_paused = true)]
async fn an_initiator_that_is_revoked_or_blocked_is_not_confirmed() {
    for class in [Class::Revoked, Class::Blocked] {
        let mut mesh = Mesh::new();
        let alice = mesh.join("alice", &EVERYTHING).await;
        let bob = mesh.join("bob", &EVERYTHING).await;
        let _service = serve(&bob, "tool").await;
        match class {
            Class::Revoked => mesh.authority.revoke_agent("alice").unwrap(),
            _ => {
                let blocking = r#"{ "rules": [], "blocked": { "agents": ["alice"] } }"#;
                let blocking = trustmesh::proto::policy::Policy::from_json(blocking).unwrap();
                mesh.authority.set_policy(blocking).unwrap();
            }
        }
        let (mut hers, mut his) = (alice.audit(), bob.audit());
        let error = alice.handshake(bob.id()).await.unwrap_err();
        assert!(
            matches!(error, HandshakeError::TimedOut),
            "no reason is given: {error}"
        );
        let failed = Some("HandshakeFailed".to_owned());
        let told = sessions(&alice, &mut hers).await;
        assert_eq!(told, [(SessionRole::Initiator, failed)]);
        let told = sessions(&bob, &mut his).await;
        let refused = Some(class.name().to_owned());
        assert_eq!(told, [(SessionRole::Responder, refused)]);
    }
}

/// HS-7: a session is with a key, and ends for it when the grace does in which it was rotated away.
#[tokio::test]
async fn a_session_with_a_rotated_key_ends_with_its_grace() {
    let mut mesh = Mesh::ruled(GATE);
    let alice = mesh.join("alice", &EVERYTHING).await;
    let bob = mesh.join("bob", &EVERYTHING).await;
    let taken = consume(bob.subscribe("gate.>").await.unwrap());
    alice.handshake(bob.id()).await.unwrap();
    let grace = mesh.now().plus(60_000);
    mesh.authority.retire_key(alice.key(), grace);
    mesh.authority.publish().unwrap();
    alice.publish("gate.a", "x".into()).await.unwrap();
    assert_eq!(settled(&bob, 1).await.allowed, 1);
    // Signed in the grace, heard after it.
    let late = crate::support::mesh::draft(
        grace.minus(1),
        trustmesh::proto::scope::Action::Publish,
        "gate.a",
    );
    let late = crate::support::mesh::sealed(&late, &alice);
    mesh.clock.advance(Duration::from_secs(60));
    mesh.forge(&late);
    assert_eq!(settled(&bob, 2).await.denied_of(Class::Revoked), 1);
    assert_eq!(taken.count(), 1);
    // Nor does it get another, whoever asks.
    tokio::time::pause();
    let again = alice.handshake(bob.id()).await.unwrap_err();
    assert!(matches!(again, HandshakeError::TimedOut), "{again}");
    let theirs = bob.handshake(alice.id()).await.unwrap_err();
    assert!(
        matches!(theirs, HandshakeError::Refused(why) if why.class() == Class::Revoked),
        "{theirs}"
    );
}

/// HS-5: whichever message is lost, a session begins where it may and nowhere else.
#[tokio::test(start_paused = true)]
async fn a_lost_handshake_message_leaves_no_session_that_was_not_earned() {
    for lost in 1..=4 {
        let mut mesh = Mesh::ruled(GATE);
        let alice = mesh.join("alice", &EVERYTHING).await;
        let bob = mesh.join("bob", &EVERYTHING).await;
        let _service = serve(&bob, "tool").await;
        let lose = Fault::alter(move |delivery| {
            if handshake::step(&delivery.payload) == Ok(lost) {
                delivery.payload = Bytes::new();
            }
        });
        mesh.bus.inject(Faults::seeded(1).with(Rule::on(">", lose)));
        let error = alice.handshake(bob.id()).await.unwrap_err();
        assert!(
            matches!(error, HandshakeError::TimedOut),
            "H{lost}: {error}"
        );
        mesh.bus.heal();
        // The initiator's session begins with H4 alone.
        assert!(!admits(&bob, &alice, "gate.alice").await, "H{lost}");
        // The responder's begins with the first message after its confirmation.
        assert_eq!(admits(&alice, &bob, "gate.bob").await, lost == 4, "H{lost}");
        alice.handshake(bob.id()).await.unwrap();
        assert!(admits(&alice, &bob, "gate.bob").await, "H{lost}");
        assert!(admits(&bob, &alice, "gate.alice").await, "H{lost}");
    }
}

/// HS-6: options stripped in transit end in a failed handshake, not in a weaker session.
#[tokio::test(start_paused = true)]
async fn a_hello_changed_in_transit_makes_no_session() {
    // The last byte of a hello is its empty extensions, the one before its modes.
    for modes in [0, 1, 7] {
        let mut mesh = Mesh::ruled(GATE);
        let alice = mesh.join("alice", &EVERYTHING).await;
        let bob = mesh.join("bob", &EVERYTHING).await;
        let _service = serve(&bob, "tool").await;
        let (mut hers, mut his) = (alice.audit(), bob.audit());
        let change = Fault::alter(move |delivery| {
            let mut frame = delivery.payload.to_vec();
            let at = frame.len() - 2;
            frame[at] = modes;
            delivery.payload = frame.into();
        });
        let rule = Rule::on("trustmesh.handshake.bob", change);
        mesh.bus.inject(Faults::seeded(1).with(rule));
        let error = alice.handshake(bob.id()).await.unwrap_err();
        assert!(matches!(error, HandshakeError::TimedOut), "{error}");
        let failed = Some("HandshakeFailed".to_owned());
        let told = sessions(&alice, &mut hers).await;
        assert_eq!(told, [(SessionRole::Initiator, failed.clone())]);
        let told = sessions(&bob, &mut his).await;
        // Modes nobody has are refused by the responder, modes other than offered by the initiator.
        let expected = (SessionRole::Responder, failed);
        assert_eq!(told.is_empty(), modes != 0);
        assert!(told.iter().all(|refused| *refused == expected), "{told:?}");
        mesh.bus.heal();
        assert!(!admits(&alice, &bob, "gate.bob").await);
    }
}

/// HS-7: a session outlives no key.
#[tokio::test]
async fn a_session_with_a_revoked_key_admits_nothing() {
    let mut mesh = Mesh::ruled(GATE);
    let alice = mesh.join("alice", &EVERYTHING).await;
    let bob = mesh.join("bob", &EVERYTHING).await;
    let taken = consume(bob.subscribe("gate.>").await.unwrap());
    alice.handshake(bob.id()).await.unwrap();
    alice.publish("gate.a", "x".into()).await.unwrap();
    settled(&bob, 1).await;
    // Alice has not heard of the revocation: she signs as before.
    let late = crate::support::mesh::draft(
        mesh.now(),
        trustmesh::proto::scope::Action::Publish,
        "gate.a",
    );
    let late = crate::support::mesh::sealed(&late, &alice);
    mesh.authority.revoke_key(alice.key()).unwrap();
    mesh.forge(&late);
    let counters = settled(&bob, 2).await;
    assert_eq!(counters.denied_of(Class::Revoked), 1);
    assert_eq!(taken.count(), 1);
    // And a session ends by itself after a quarter of an hour.
    let carol = mesh.join("carol", &EVERYTHING).await;
    let session = carol.handshake(bob.id()).await.unwrap();
    carol.publish("gate.c", "x".into()).await.unwrap();
    assert_eq!(settled(&bob, 3).await.allowed, 2);
    mesh.clock
        .advance(Duration::from_millis(session.until.since(mesh.now())));
    carol.publish("gate.c", "x".into()).await.unwrap();
    let counters = settled(&bob, 4).await;
    assert_eq!(counters.denied_of(Class::PolicyDenied), 1);
}

/// HS-8: fifteen agents, each shaking hands with each in both directions at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_in_both_directions_at_once_all_complete() {
    let mut mesh = Mesh::ruled(GATE);
    let mut agents = Vec::new();
    for number in 0..15 {
        let agent = mesh.join(&format!("a/{number}"), &EVERYTHING).await;
        let reader = consume(agent.subscribe(format!("gate.{number}")).await.unwrap());
        agents.push((agent, reader));
    }
    let pairs = agents.iter().flat_map(|(from, _)| {
        let others = agents.iter().filter(|(to, _)| to.id() != from.id());
        others.map(|(to, _)| async { from.handshake(to.id()).await.map(|s| (s.peer, s.id)) })
    });
    let outcomes = join_all(pairs).await;
    assert_eq!(outcomes.len(), 210);
    for outcome in outcomes {
        outcome.unwrap();
    }
    // Every pair has what it needs: no message is refused for want of a session.
    for (from, _) in &agents {
        for number in 0..15 {
            if from.id().as_str() != format!("a/{number}") {
                let subject = format!("gate.{number}");
                from.publish(subject, "x".into()).await.unwrap();
            }
        }
    }
    for (agent, _) in &agents {
        assert_eq!(settled(agent, 14).await.allowed, 14);
    }
}

/// Somebody who never was at the mesh, saying hello in the name of anybody.
fn hello_from(nobody: u32, mesh: &Mesh, to: &Client) -> Outgoing {
    let mut bytes = [3; 32];
    bytes[..4].copy_from_slice(&nobody.to_be_bytes());
    let (key, ext): (KeyBytes, [u8; 0]) = (KeyBytes(bytes), []);
    let id = format!("flood/{}", nobody % 1000);
    let body = rmp_serde::to_vec(&(
        1u8,
        Bin::new(&mesh.authority.mesh().0),
        id.as_str(),
        Bin::new(&key.0),
        to.id().as_str(),
        Bin::new(&to.key().0),
        Bin::new(&bytes),
        1u8,
        ext,
    ));
    let mut frame = b"TMHS".to_vec();
    frame.extend(rmp_serde::to_vec(&(1u8, 1u8, Bin::new(&body.unwrap()))).unwrap());
    let subject = format!("trustmesh.handshake.{}", to.id().token());
    Outgoing::new(subject, frame).with_reply(format!("{}.hs.x", inbox_prefix(&key)))
}

/// HS-2: of 100,000 hellos the budget of a second is answered, exactly, and an honest peer that
/// comes last has its session within the second.
#[tokio::test(start_paused = true)]
async fn a_flood_of_hellos_meets_a_budget_and_an_honest_handshake_completes() {
    let mut mesh = Mesh::new();
    let bob = mesh.join("bob", &EVERYTHING).await;
    let alice = mesh.join("alice", &EVERYTHING).await;
    let _service = serve(&bob, "tool").await;
    let eavesdropper = mesh.bus.connect();
    let mut answers = eavesdropper
        .subscribe("_INBOX.>".into(), None)
        .await
        .unwrap();
    let mut audit = bob.audit();
    // From one, then from a thousand.
    for number in 0..100_000 {
        let nobody = if number < 50_000 { 0 } else { number };
        mesh.forge(&hello_from(nobody, &mesh, &bob));
        // No more wait than a subscription holds.
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    // Frames that are no handshake at all cost even less.
    for _ in 0..100 {
        let garbage = Outgoing::new("trustmesh.handshake.bob", "TMHS garbage");
        mesh.forge(&garbage);
    }
    // Everything on one subscription is answered in order: alice's hello comes last, and the
    // budget is spent. She says it again when the next second has another.
    let began = tokio::time::Instant::now();
    alice.handshake(bob.id()).await.unwrap();
    assert!(began.elapsed() <= Duration::from_secs(1));
    let answered = arrived(&mut answers);
    // The flood's, and of alice's handshake the challenge and the confirmation.
    assert_eq!(answered.len(), HELLOS_PER_SECOND as usize + 2);
    let told = sessions(&bob, &mut audit).await;
    assert!(told.contains(&(SessionRole::Responder, Some("Overloaded".to_owned()))));
    assert!(
        told.len() < 20,
        "the audit is not amplified: {}",
        told.len()
    );
}

/// A stranger who hears the hello can answer first, and changes nothing by it.
#[tokio::test(start_paused = true)]
async fn forged_challenges_and_confirmations_do_not_stop_a_handshake() {
    let mut mesh = Mesh::new();
    let bob = mesh.join("bob", &EVERYTHING).await;
    let alice = mesh.join("alice", &EVERYTHING).await;
    let _service = serve(&bob, "tool").await;
    // Whoever hears the hello knows where its answer is awaited.
    let bus = mesh.bus.clone();
    let listener = mesh.bus.connect();
    let pattern = format!("trustmesh.handshake.{}", bob.id().token());
    let mut hellos = listener
        .subscribe(pattern.as_str().into(), None)
        .await
        .unwrap();
    let forger = tokio::spawn(async move {
        while let Some(hello) = futures::StreamExt::next(&mut hellos).await {
            let reply = hello.reply.expect("a hello asks for an answer");
            for step in [0u8, 2, 2, 2, 4, 4, 9] {
                let mut frame = b"TMHS".to_vec();
                frame.extend(rmp_serde::to_vec(&(1u8, step, Bin::new(b"junk"))).unwrap());
                bus.forge(Outgoing::new(reply.clone(), frame));
            }
        }
    });
    let session = alice.handshake(bob.id()).await.unwrap();
    assert_eq!(session.peer, *bob.id());
    forger.abort();
}

/// A hello's answer goes to the inbox of the key it names, and nowhere else.
#[tokio::test(start_paused = true)]
async fn a_hello_cannot_send_the_answer_to_somebody_else() {
    let mut mesh = Mesh::new();
    let bob = mesh.join("bob", &EVERYTHING).await;
    let victim = mesh.join("victim", &EVERYTHING).await;
    let _service = serve(&bob, "tool").await;
    let mut audit = bob.audit();
    let tap = mesh.bus.tap();
    for reply in ["orders.new".to_owned(), victim.new_inbox()] {
        let hello = hello_from(1, &mesh, &bob);
        mesh.forge(&hello.with_reply(reply));
    }
    // An honest handshake after it shows that both were dealt with.
    victim.handshake(bob.id()).await.unwrap();
    let told = sessions(&bob, &mut audit).await;
    assert!(told.contains(&(SessionRole::Responder, Some("SubjectMismatch".to_owned()))));
    let subjects: Vec<String> = tap.take().iter().map(|m| m.subject.to_string()).collect();
    let own = format!("{}.hs.", inbox_prefix(&victim.key()));
    let inbox = |s: &&String| !s.starts_with("trustmesh.");
    assert!(
        subjects.iter().filter(inbox).all(|s| s.starts_with(&own)),
        "{subjects:?}"
    );
}

/// A rule that asks for a session refuses what is published without one, and says why.
#[tokio::test]
async fn a_publication_without_the_session_policy_asks_for_is_denied() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &EVERYTHING).await;
    let bob = mesh.join("bob", &EVERYTHING).await;
    mesh.authority.set_policy(policy(GATE)).unwrap();
    let mut audit = bob.audit();
    assert!(!admits(&alice, &bob, "gate.a").await);
    let decided = crate::support::mesh::decisions(&bob, &mut audit).await;
    assert_eq!(decided[0].verdict, Word::Deny);
    let no_session = Rejection::PolicyDenied {
        reason: PolicyDenied::NoSession,
    };
    assert_eq!(decided[0].code, Some(no_session.code()));
    alice.handshake(bob.id()).await.unwrap();
    assert!(admits(&alice, &bob, "gate.a").await);
}
