//! Sixty-four tasks at once, and what one client keeps: the messages it has met, the challenges it
//! has confirmed, the numbers of its audit records.
//!
//! All of it is behind locks, so a fault would be something looked at under one and used under the
//! next. `tests/proto/schedules.rs` goes through every order of such steps.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;

use futures::StreamExt;
use futures::future::join_all;
use tokio::sync::Barrier;
use trustmesh::Subscriber;
use trustmesh::audit;
use trustmesh::audit::AuditEvent;
use trustmesh::audit::AuditItem;
use trustmesh::audit::SessionRole;
use trustmesh::audit::Word;
use trustmesh::bus::Outgoing;
use trustmesh::bus::faults::Fault;
use trustmesh::bus::faults::Faults;
use trustmesh::bus::faults::Rule;
use trustmesh::proto::handshake;
use trustmesh::proto::handshake::handshake_subject;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::scope::Action;

use crate::support::PATIENCE;
use crate::support::eventually;
use crate::support::mesh::Mesh;
use crate::support::mesh::consume;
use crate::support::mesh::draft;
use crate::support::mesh::recorded;
use crate::support::mesh::refusals;
use crate::support::mesh::sealed;
use crate::support::mesh::settled;

const TASKS: usize = 64;

/// Delivers each task's messages, all tasks at once.
async fn deliver(mesh: &Mesh, of: impl Fn(usize) -> Vec<Outgoing>) {
    let start = Arc::new(Barrier::new(TASKS));
    let tasks = (0..TASKS).map(|task| {
        let (start, bus, messages) = (start.clone(), mesh.bus.clone(), of(task));
        tokio::spawn(async move {
            start.wait().await;
            for message in messages {
                assert_eq!(bus.forge(message), 1);
                tokio::task::yield_now().await;
            }
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
}

/// CC-2, FR-5: 64 copies of each message are handed to the 64 members of a group at once. One copy
/// of each is handled, and all others are replays.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_copies_at_64_members_one_is_handled() {
    const MESSAGES: usize = 100;
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &["pub:work.>"]).await;
    let bob = mesh.join("bob", &["sub:work.>"]).await;
    let mut stream = bob.audit();
    let runs: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
    let run = |mut member: Subscriber| {
        let runs = runs.clone();
        tokio::spawn(async move {
            while let Some(message) = member.next().await {
                let mut runs = runs.lock().unwrap();
                *runs.entry(message.subject.to_string()).or_default() += 1;
            }
        })
    };
    let mut members = Vec::new();
    for _ in 0..TASKS {
        let member = bob.queue_subscribe("work.>", "group".to_owned());
        members.push(run(member.await.unwrap()));
    }
    let letter = |n| {
        sealed(
            &draft(mesh.now(), Action::Publish, &format!("work.{n}")),
            &alice,
        )
    };
    let letters: Vec<Outgoing> = (0..MESSAGES).map(letter).collect();
    deliver(&mesh, |_| letters.clone()).await;

    let copies = (MESSAGES * TASKS) as u64;
    let counters = settled(&bob, copies).await;
    assert_eq!(counters.handler_runs, MESSAGES as u64);
    assert_eq!(counters.denied_of(Class::Replay), copies - MESSAGES as u64);
    eventually("all are handled", || runs.lock().unwrap().len() == MESSAGES).await;
    assert!(runs.lock().unwrap().values().all(|count| *count == 1));
    let told = refusals(&recorded(&bob, &mut stream).await);
    let replays = copies - MESSAGES as u64;
    assert_eq!(told, [("Replay".to_owned(), replays)].into());
    for member in members {
        member.abort();
    }
}

/// CC-2: what 64 tasks decide at once is numbered by one, without a gap and without a double, and
/// each decision is recorded once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_decisions_of_64_tasks_are_numbered_without_gap_or_double() {
    const EACH: usize = 100;
    let mut mesh = Mesh::new();
    // Before bob has anything to record.
    let auditor = mesh.join("auditor", &["sub:trustmesh.audit.*"]).await;
    let mut items = audit::subscribe(&auditor).await.unwrap();
    let alice = mesh.join("alice", &["pub:work.>"]).await;
    let bob = mesh.join("bob", &["sub:work.>"]).await;
    let mut taken = Vec::new();
    for task in 0..TASKS {
        let subscribed = bob.subscribe(format!("work.{task}")).await;
        taken.push(consume(subscribed.unwrap()));
    }
    let sent = Mutex::new(BTreeSet::new());
    let letter = |task| {
        let draft = draft(mesh.now(), Action::Publish, &format!("work.{task}"));
        sent.lock().unwrap().insert(draft.mid.to_string());
        sealed(&draft, &alice)
    };
    deliver(&mesh, |task| (0..EACH).map(|_| letter(task)).collect()).await;
    settled(&bob, (TASKS * EACH) as u64).await;
    bob.flush_audit().await;

    // An item of the reader's is a record only where it follows from the one before.
    let (mut numbers, mut decided) = (Vec::new(), Vec::new());
    while decided.len() < TASKS * EACH {
        let item = tokio::time::timeout(PATIENCE, items.next()).await;
        let item = item.expect("an item in time").expect("the stream goes on");
        let AuditItem::Record(record) = item.unwrap() else {
            panic!("a gap, a double or a fork");
        };
        if record.emitter != "bob" {
            continue;
        }
        numbers.push(record.seq);
        if let AuditEvent::Decision(decision) = record.event {
            assert_eq!(decision.verdict, Word::Allow);
            decided.push(decision.mid.unwrap());
        }
    }
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64));
    let decided: BTreeSet<String> = decided.into_iter().collect();
    assert_eq!(decided, sent.into_inner().unwrap());
    for taken in taken {
        taken.reaches(EACH as u64).await;
    }
}

/// CC-2, HS-1: 64 tasks deliver the same proof at once, to both subjects on which it is answered.
/// Its challenge is used once: there is one confirmation, and one session.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_copies_of_a_proof_one_is_confirmed() {
    const ROUNDS: usize = 5;
    let mut mesh = Mesh::new();
    let bob = mesh.join("bob", &["sub:work.>"]).await;
    let _listening = consume(bob.subscribe("work.>").await.unwrap());
    let (mut stream, tap) = (bob.audit(), mesh.bus.tap());
    let of_step = |seen: &[Outgoing], step| {
        let found = |message: &&Outgoing| handshake::step(&message.payload) == Ok(step);
        seen.iter().filter(found).cloned().collect::<Vec<_>>()
    };
    let lost = || {
        let lose = |delivery: &mut trustmesh::bus::Delivery| {
            if handshake::step(&delivery.payload) == Ok(3) {
                delivery.payload = "".into();
            }
        };
        Faults::seeded(1).with(Rule::on("trustmesh.handshake.>", Fault::alter(lose)))
    };
    for round in 0..ROUNDS {
        let asker = mesh.join(&format!("a/{round}"), &["req:work.>"]).await;
        // The proof itself is lost, and there is nothing but copies of it.
        mesh.bus.inject(lost());
        let (peer, seen) = (bob.id().clone(), Mutex::new(Vec::new()));
        let asked = tokio::spawn(async move { asker.handshake(&peer).await });
        eventually("a proof", || {
            let mut seen = seen.lock().unwrap();
            seen.extend(tap.take());
            !of_step(&seen, 3).is_empty()
        })
        .await;
        mesh.bus.heal();
        let mut seen = seen.into_inner().unwrap();
        let [proof] = &of_step(&seen, 3)[..] else {
            panic!("one challenge, one proof");
        };
        let anybodys = Outgoing {
            subject: handshake_subject("trustmesh", bob.id(), None).into(),
            ..proof.clone()
        };
        let copy = |task: usize| [proof, &anybodys][task % 2].clone();
        deliver(&mesh, |task| vec![copy(task)]).await;
        let session = asked.await.unwrap().unwrap();
        assert_eq!(session.peer, *bob.id());
        // Each subject is answered in order, and an honest handshake needs both: what came before
        // it has been dealt with.
        let honest = mesh.join(&format!("b/{round}"), &["req:work.>"]).await;
        honest.handshake(bob.id()).await.unwrap();
        seen.extend(tap.take());
        assert_eq!(of_step(&seen, 4).len(), 2, "the copies', and the honest");
    }
    let events = recorded(&bob, &mut stream).await;
    let confirmed = |event: &&AuditEvent| {
        matches!(
            event,
            AuditEvent::Session {
                role: SessionRole::Responder,
                class: None,
                ..
            }
        )
    };
    assert_eq!(events.iter().filter(confirmed).count(), 2 * ROUNDS);
}
