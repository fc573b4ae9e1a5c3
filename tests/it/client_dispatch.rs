//! From acceptance to handler: checked once more, isolated, counted; and under trust state that
//! changes all the while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::Message;
use trustmesh::audit::AuditEvent;
use trustmesh::audit::Word;
use trustmesh::bus::Outgoing;
use trustmesh::bus::RequestErrorKind;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::client::home::Home;
use trustmesh::proto::limits::HOPS_MAX;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::scope::Action;
use trustmesh::proto::trust::Admission;
use trustmesh::proto::trust::TrustState;
use trustmesh::services::authority::Authority;

use crate::support::eventually;
use crate::support::mesh::BRIEFLY;
use crate::support::mesh::Held;
use crate::support::mesh::Mesh;
use crate::support::mesh::balances;
use crate::support::mesh::consume;
use crate::support::mesh::decisions;
use crate::support::mesh::denied;
use crate::support::mesh::draft;
use crate::support::mesh::message;
use crate::support::mesh::policy;
use crate::support::mesh::recorded;
use crate::support::mesh::sealed;
use crate::support::mesh::settled;
use crate::support::mesh::with_broken_payload;
use crate::support::mesh::with_broken_signature;

/// Handlers of a service that run at once.
const AT_ONCE: u64 = 64;

async fn two(mesh: &mut Mesh) -> (Client, Client) {
    let alice = mesh.join("alice", &["pub+req:work.>"]).await;
    let bob = mesh.join("bob", &["sub+serve:work.>"]).await;
    (alice, bob)
}

fn letter(mesh: &Mesh, from: &Client, subject: &str) -> Outgoing {
    sealed(&draft(mesh.now(), Action::Publish, subject), from)
}

/// Lets a message wait behind a full service, then changes the world, then makes room: the class
/// under which the waiting message is withdrawn.
async fn withdrawn_after(change: impl FnOnce(&mut Mesh, &Client, &Client)) -> String {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let held = Held::serve(&bob, "work.a").await;
    let mut audit = bob.audit();
    for _ in 0..AT_ONCE {
        mesh.forge(&letter(&mesh, &alice, "work.a"));
    }
    held.begun(AT_ONCE as usize).await;
    let waiting = letter(&mesh, &alice, "work.a");
    mesh.forge(&waiting);
    eventually("it is accepted", || bob.counters().allowed > AT_ONCE).await;
    change(&mut mesh, &alice, &bob);
    held.release(100);
    let counters = settled(&bob, AT_ONCE + 1).await;
    assert_eq!((counters.handler_runs, counters.withdrawn), (AT_ONCE, 1));
    let events = recorded(&bob, &mut audit).await;
    let mut objects = events.iter().filter_map(|event| match event {
        AuditEvent::Decision(decision) => decision.object.clone(),
        _ => None,
    });
    let last = objects.next_back().unwrap();
    let mut withdrawn = events.into_iter().filter_map(|event| match event {
        AuditEvent::Withdrawn { object, class, .. } => Some((object, class)),
        _ => None,
    });
    let (object, class) = withdrawn.next().expect("it was withdrawn");
    assert!(withdrawn.next().is_none());
    assert_eq!(object, last, "the event names the message");
    class
}

#[tokio::test]
async fn a_message_that_expires_in_the_queue_is_withdrawn() {
    let class = withdrawn_after(|mesh, _, _| mesh.clock.advance(Duration::from_secs(16)));
    assert_eq!(class.await, "Expired");
}

#[tokio::test]
async fn a_message_whose_sender_is_revoked_in_the_meantime_is_withdrawn() {
    let class = withdrawn_after(|mesh, alice, _| mesh.authority.revoke_key(alice.key()).unwrap());
    assert_eq!(class.await, "Revoked");
}

#[tokio::test]
async fn a_message_that_policy_denies_in_the_meantime_is_withdrawn() {
    let deny = r#"{ "name": "no", "effect": "deny", "actions": ["pub"], "subjects": "work.>" }"#;
    let class = withdrawn_after(|mesh, _, _| mesh.authority.set_policy(policy(deny)).unwrap());
    assert_eq!(class.await, "PolicyDenied");
}

/// Policy may come to ask for an approval that an accepted message does not carry.
#[tokio::test]
async fn a_message_that_needs_an_approval_in_the_meantime_is_withdrawn() {
    let asking = r#"{ "rules": [ { "name": "all", "effect": "allow", "actions": ["pub", "sub"],
        "subjects": ">" } ], "approval": [ { "subjects": "work.>", "actions": ["pub"] } ] }"#;
    let asking = trustmesh::proto::policy::Policy::from_json(asking).unwrap();
    let class = withdrawn_after(move |mesh, _, _| mesh.authority.set_policy(asking).unwrap());
    assert_eq!(class.await, "PolicyDenied");
}

#[tokio::test]
async fn a_message_is_withdrawn_when_its_receiver_is_revoked_in_the_meantime() {
    let class = withdrawn_after(|mesh, _, _| mesh.authority.revoke_agent("bob").unwrap());
    assert_eq!(class.await, "Revoked");
}

#[tokio::test]
async fn a_message_is_withdrawn_when_trust_goes_stale_in_the_meantime() {
    let month = Duration::from_secs(31 * 24 * 3600);
    let class = withdrawn_after(move |mesh, _, _| mesh.clock.advance(month));
    assert_eq!(class.await, "StaleState");
}

/// What waits in the bus's own queue is decided when its turn comes, not before.
#[tokio::test]
async fn a_message_that_expires_before_it_is_looked_at_is_denied() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let subscriber = bob.subscribe("work.a").await.unwrap();
    mesh.forge(&letter(&mesh, &alice, "work.a"));
    mesh.clock.advance(Duration::from_secs(16));
    let taken = consume(subscriber);
    assert_eq!(settled(&bob, 1).await.denied_of(Class::Expired), 1);
    assert_eq!(taken.count(), 0);
}

/// PO-10 at its bound: beyond the thirty days of the trust files nothing is sent or accepted.
#[tokio::test]
async fn beyond_the_life_of_the_trust_files_nothing_is_decided_in_favour() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let taken = consume(bob.subscribe("work.a").await.unwrap());
    mesh.clock.advance(Duration::from_secs(31 * 24 * 3600));
    let error = alice.publish("work.a", "x".into()).await.unwrap_err();
    assert_eq!(denied(&error).class(), Class::StaleState);
    let error = bob.subscribe("work.b").await.unwrap_err();
    assert_eq!(denied(&error).class(), Class::StaleState);
    mesh.forge(&letter(&mesh, &alice, "work.a"));
    assert_eq!(settled(&bob, 1).await.denied_of(Class::StaleState), 1);
    assert_eq!(taken.count(), 0);
}

/// DO-8: handlers that panic, hang or block their thread cost nobody else anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_panics_hangs_or_blocks_stops_no_other() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let handler = move |message: Message| {
        let blocked = blocked.clone();
        async move {
            match &message.payload[..] {
                b"panic" => panic!("as asked"),
                b"hang" => std::future::pending().await,
                b"block" => drop(blocked.lock().unwrap().recv()),
                _ => {}
            }
            Ok::<_, String>(message.payload)
        }
    };
    let service = bob.serve("work.a", handler).await.unwrap();
    let mut audit = bob.audit();
    for payload in ["panic", "hang", "block"] {
        alice.publish("work.a", payload.into()).await.unwrap();
    }
    for number in 0..50 {
        let asked = alice.request("work.a", format!("{number}").into()).await;
        assert_eq!(asked.unwrap().payload, format!("{number}"));
    }
    unblock.send(()).unwrap();
    eventually("the panic is caught", || bob.counters().handler_panics == 1).await;
    let counters = settled(&bob, 53).await;
    assert_eq!(counters.allowed, 53);
    let events = recorded(&bob, &mut audit).await;
    let internal = events.iter().filter(
        |event| matches!(event, AuditEvent::Withdrawn { class, .. } if class == "Internal"),
    );
    assert_eq!(internal.count(), 1);
    drop(service);
}

/// DO-8: a handler that fails says so to its requester, on one line.
#[tokio::test]
async fn a_handlers_error_is_an_answer_with_the_service_error_header() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let fail = |_: Message| async { Err::<Bytes, _>("no such\r\nfile") };
    let _service = bob.serve("work.a", fail).await.unwrap();
    let answer = alice.request("work.a", "x".into()).await.unwrap();
    let headers = answer.headers.unwrap();
    let text = headers.get("Nats-Service-Error").unwrap();
    assert_eq!(text.as_str(), "no such  file");
    assert_eq!(
        headers.get("Nats-Service-Error-Code").unwrap().as_str(),
        "500"
    );
}

/// A panic is no answer: the requester learns nothing but that none came.
#[tokio::test(start_paused = true)]
async fn a_request_whose_handler_panics_times_out() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let fail = |message: Message| async move {
        assert!(message.payload.is_empty(), "secret-of-the-handler");
        Ok::<_, String>(Bytes::new())
    };
    let _service = bob.serve("work.a", fail).await.unwrap();
    let asked = alice
        .compose("work.a")
        .payload("x")
        .timeout(BRIEFLY)
        .request();
    assert_eq!(asked.await.unwrap_err().kind(), RequestErrorKind::TimedOut);
    assert_eq!(bob.counters().handler_panics, 1);
    alice.request("work.a", "".into()).await.unwrap();
}

/// DO-9: two services that forward to each other stop at the hop limit.
#[tokio::test]
async fn a_forwarding_loop_ends_at_the_hop_limit() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &["pub:loop.>"]).await;
    let ends = Arc::new(Mutex::new(Vec::new()));
    let mut services = Vec::new();
    let mut agents = Vec::new();
    for (id, at, next) in [("b", "loop.b", "loop.c"), ("c", "loop.c", "loop.b")] {
        let agent = mesh.join(id, &["pub+sub:loop.>"]).await;
        let ends = ends.clone();
        let forward = move |message: Message| {
            let ends = ends.clone();
            async move {
                let sent = message
                    .client()
                    .publish(next, message.payload.clone())
                    .await;
                if let Err(error) = sent {
                    ends.lock().unwrap().push(denied(&error).class());
                }
                Ok::<_, String>(Bytes::new())
            }
        };
        services.push(agent.serve(at, forward).await.unwrap());
        agents.push(agent);
    }
    alice.publish("loop.b", "round".into()).await.unwrap();
    eventually("the loop ends", || !ends.lock().unwrap().is_empty()).await;
    assert_eq!(*ends.lock().unwrap(), [Class::DepthExceeded]);
    let runs: u64 = agents
        .iter()
        .map(|agent| agent.counters().handler_runs)
        .sum();
    assert_eq!(runs, u64::from(HOPS_MAX) + 1);
}

/// DO-5, at a scale of 3,000 forgeries: none of the honest is lost, and every count reconciles.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_forgeries_loses_no_honest_message() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let taken = consume(bob.subscribe("work.a").await.unwrap());
    let mut audit = bob.audit();
    for _ in 0..300 {
        let honest = letter(&mesh, &alice, "work.a");
        for number in 0..10 {
            let payload = match number % 3 {
                0 => with_broken_signature(&honest.payload),
                1 => with_broken_payload(&honest.payload),
                _ => Bytes::from_static(b"nonsense"),
            };
            mesh.bus.forge(Outgoing::new("work.a", payload));
        }
        mesh.forge(&honest);
    }
    let counters = settled(&bob, 3_300).await;
    assert_eq!(counters.allowed, 300);
    taken.reaches(300).await;
    assert_eq!(counters.denied_of(Class::BadSignature), 2_100);
    assert_eq!(counters.denied_of(Class::Malformed), 900);
    let events = recorded(&bob, &mut audit).await;
    let told = crate::support::mesh::refusals(&events);
    assert_eq!(told, crate::support::mesh::counted(&counters));
}

/// CC-3: with ten thousand messages in the queue, drained in the middle of the work, nothing is half done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_with_work_in_the_queue_finishes_what_was_received() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let handler = |message: Message| async move { Ok::<_, String>(message.payload) };
    let service = bob.serve("work.a", handler).await.unwrap();
    let auditor = mesh.join("auditor", &["sub:trustmesh.audit.*"]).await;
    let mut items = trustmesh::audit::subscribe(&auditor).await.unwrap();
    for _ in 0..10_000 {
        mesh.forge(&letter(&mesh, &alice, "work.a"));
    }
    eventually("the work has begun", || bob.counters().handler_runs > 0).await;
    bob.drain().await.unwrap();
    let counters = bob.counters();
    assert!(balances(&counters), "{counters:?}");
    assert_eq!((counters.received, counters.handler_runs), (10_000, 10_000));
    // The audit was handed over before draining returned.
    let mut told = 0;
    while told < 10_000 {
        let item = futures::StreamExt::next(&mut items).await.unwrap().unwrap();
        let trustmesh::audit::AuditItem::Record(record) = item else {
            panic!("{item:?}");
        };
        told +=
            u64::from(matches!(record.event, AuditEvent::Decision(_)) && record.emitter == "bob");
    }
    assert!(bob.publish("work.a", "x".into()).await.is_err());
    mesh.forge(&letter(&mesh, &alice, "work.a"));
    service.stop().await;
    assert_eq!(bob.counters().received, 10_000);
}

/// PO-1.
#[tokio::test]
async fn without_a_policy_nothing_is_sent_received_or_subscribed_to() {
    let mut mesh = Mesh::new();
    mesh.authority = Authority::with_clock("strict", mesh.clock.clone()).unwrap();
    let alice = mesh.join("alice", &["pub+sub+req:>"]).await;
    let error = alice.publish("a", "x".into()).await.unwrap_err();
    assert_eq!(denied(&error).class(), Class::PolicyDenied);
    let error = alice.request("a", "x".into()).await.unwrap_err();
    assert_eq!(denied(&error).class(), Class::PolicyDenied);
    let error = alice.subscribe("a").await.unwrap_err();
    assert_eq!(denied(&error).class(), Class::PolicyDenied);
    // Nor is it received, once what allowed the subscription is gone.
    mesh.authority.set_policy(policy("")).unwrap();
    let taken = consume(alice.subscribe("a").await.unwrap());
    mesh.authority.set_policy(Policy::default()).unwrap();
    mesh.forge(&letter(&mesh, &alice, "a"));
    assert_eq!(settled(&alice, 1).await.denied_of(Class::PolicyDenied), 1);
    assert_eq!(taken.count(), 0);
}

/// PO-2, PO-9: what is broken, of another mesh or older is refused, and the last good state stays.
#[tokio::test]
async fn a_trust_state_that_cannot_be_used_leaves_the_last_good_one() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let taken = consume(bob.subscribe("work.a").await.unwrap());
    let mut audit = bob.audit();
    let handle = mesh.authority.publish().unwrap();
    let pin = Some(mesh.authority.root_id());
    let old = mesh.authority.trust_files().unwrap();
    let epoch = || handle.current().epochs();
    let dev = Admission::DangerDevelopment;

    assert!(Policy::from_json(r#"{ "rules": [ { "name": "x" } ] }"#).is_err());
    let good = mesh.authority.publish().unwrap().current().epochs();
    let mut broken = mesh.authority.trust_files().unwrap();
    broken.policy = with_broken_payload(&broken.policy);
    let error = TrustState::assemble(&broken, dev, pin).unwrap_err();
    assert_eq!(error.class(), Class::BadSignature, "{error}");
    let older = TrustState::assemble(&old, dev, pin).unwrap();
    let error = handle.replace(Arc::new(older)).unwrap_err();
    assert_eq!(error.class(), Class::StaleState);
    let mut elsewhere = Mesh::new();
    let other = elsewhere.authority.publish().unwrap().current();
    let error = handle.replace(other).unwrap_err();
    assert_eq!(error.class(), Class::UntrustedRoot);
    assert_eq!(epoch(), good);

    alice.publish("work.a", "x".into()).await.unwrap();
    assert_eq!(settled(&bob, 1).await.allowed, 1);
    assert_eq!(taken.count(), 1);
    let decided = decisions(&bob, &mut audit).await;
    assert_eq!(decided[0].policy, good.policy);
}

/// PO-2: files that are read again and cannot be used leave the last good state, and the audit says
/// so; files that can are in force.
#[tokio::test]
async fn a_broken_policy_that_is_read_again_is_in_the_audit() {
    let folder = tempfile::tempdir().unwrap();
    let mut mesh = Authority::dev("test").unwrap();
    let bob = mesh.agent("bob", ["sub:work.>"]).unwrap();
    mesh.save(folder.path()).unwrap();
    mesh.save_agent(folder.path(), &bob).unwrap();
    let home = Home::open(folder.path()).unwrap().danger_allow_dev();
    let options = ConnectOptions::new(home.identity("bob").unwrap());
    let bob = options
        .connect_bus(MemoryBus::new().connect())
        .await
        .unwrap();
    let mut audit = bob.audit();
    let policy = || bob.trust().epochs().policy;
    let good = policy();
    let path = folder.path().join("trust/policy.tm");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let error = bob.reload_trust().unwrap_err();
    assert!(error.to_string().contains("policy.tm"), "{error}");
    assert_eq!(policy(), good);
    std::fs::write(&path, &whole).unwrap();
    mesh.set_policy(Policy::default()).unwrap();
    mesh.save(folder.path()).unwrap();
    bob.reload_trust().unwrap();
    assert!(policy() > good);
    // Nothing is new, and nothing said.
    bob.reload_trust().unwrap();
    let events = recorded(&bob, &mut audit).await;
    let topic = |event: &AuditEvent| match event {
        AuditEvent::Notice { topic, .. } => Some(topic.clone()),
        _ => None,
    };
    let topics: Vec<String> = events.iter().filter_map(topic).collect();
    assert_eq!(topics, ["dev-mesh", "trust-refused", "trust-current"]);
}

/// PO-5: what the first hop allowed the second denies, and one trace tells of both.
#[tokio::test]
async fn a_denial_on_the_second_hop_shares_the_trace_of_the_first() {
    let gate = r#"{ "name": "gate", "effect": "allow", "actions": ["pub"],
        "subjects": "second.>", "session": true }"#;
    let mut mesh = Mesh::ruled(gate);
    let alice = mesh.join("alice", &["pub:first.>"]).await;
    let bob = mesh.join("bob", &["sub:first.>", "pub:second.>"]).await;
    let carol = mesh.join("carol", &["sub:second.>"]).await;
    let forward = |message: Message| async move {
        let client = message.client();
        let sent = client.publish("second.x", message.payload.clone());
        sent.await.map(|()| Bytes::new())
    };
    let _service = bob.serve("first.x", forward).await.unwrap();
    let taken = consume(carol.subscribe("second.x").await.unwrap());
    let (mut first, mut second) = (bob.audit(), carol.audit());
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced = alice.with_traceparent(trace).unwrap();
    traced.publish("first.x", "x".into()).await.unwrap();
    assert_eq!(settled(&carol, 1).await.denied_of(Class::PolicyDenied), 1);
    assert_eq!(taken.count(), 0);
    let first = decisions(&bob, &mut first).await.remove(0);
    let second = decisions(&carol, &mut second).await.remove(0);
    assert_eq!((first.verdict, second.verdict), (Word::Allow, Word::Deny));
    assert_eq!(first.trace.as_deref(), Some(trace));
    assert_eq!(second.trace.as_deref(), Some(trace));
    assert_eq!((first.hops, second.hops), (0, 1));
}

/// OB-5: a trace context is data. It changes no decision, no correlation, and no recording.
#[tokio::test]
async fn a_trace_context_changes_nothing_but_its_own_field() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let taken = consume(bob.subscribe("work.a").await.unwrap());
    let mut audit = bob.audit();
    // "Not sampled", all-zero, and somebody else's.
    let contexts = [
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        "00-00000000000000000000000000000000-0000000000000000-00",
        "00-ffffffffffffffffffffffffffffffff-ffffffffffffffff-ff",
    ];
    for context in contexts {
        let traced = alice.with_traceparent(context).unwrap();
        traced.publish("work.a", "x".into()).await.unwrap();
    }
    for context in [
        "",
        "01-4bf9",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
    ] {
        let error = alice.with_traceparent(context).unwrap_err();
        assert_eq!(error.0.class(), Class::Malformed);
    }
    settled(&bob, 3).await;
    assert_eq!(taken.count(), 3);
    let decided = decisions(&bob, &mut audit).await;
    let traces: Vec<_> = decided.iter().map(|d| d.trace.as_deref()).collect();
    assert_eq!(traces, contexts.map(Some));
    let mut mids: Vec<_> = decided.iter().map(|d| d.mid.clone()).collect();
    mids.dedup();
    assert_eq!(mids.len(), 3, "each has its own id");
}

/// PO-6: a denied subject inside an allowed tree, with a plain subscription and in a queue group.
#[tokio::test]
async fn a_denied_subject_reaches_neither_a_plain_subscription_nor_a_queue_group() {
    let deny = |actions: &str| {
        let text = r#"{ "name": "secret", "effect": "deny", "actions": [ACTIONS],
            "subjects": "a.*.secret" }"#;
        text.replace("ACTIONS", actions)
    };
    // Denied to subscribers: a pattern that overlaps is refused as a whole.
    let mut mesh = Mesh::ruled(&deny(r#""sub""#));
    let bob = mesh.join("bob", &["sub:a.>"]).await;
    for pattern in ["a.>", "a.*.*", "a.b.secret"] {
        let error = bob.subscribe(pattern).await.unwrap_err();
        assert_eq!(denied(&error).class(), Class::PolicyDenied);
        let error = bob
            .queue_subscribe(pattern, "g".to_owned())
            .await
            .unwrap_err();
        assert_eq!(denied(&error).class(), Class::PolicyDenied);
    }
    assert!(bob.subscribe("a.b.open").await.is_ok());
    // Denied to publishers: refused on arrival, and before sending.
    let mut mesh = Mesh::ruled(&deny(r#""pub""#));
    let alice = mesh.join("alice", &["pub:a.>"]).await;
    let plain = mesh.join("plain", &["sub:a.>"]).await;
    let queued = mesh.join("queued", &["sub:a.>"]).await;
    let taken = [
        consume(plain.subscribe("a.>").await.unwrap()),
        consume(queued.queue_subscribe("a.>", "g".to_owned()).await.unwrap()),
    ];
    let error = alice.publish("a.b.secret", "x".into()).await.unwrap_err();
    assert_eq!(denied(&error).class(), Class::PolicyDenied);
    mesh.forge(&letter(&mesh, &alice, "a.b.secret"));
    mesh.forge(&letter(&mesh, &alice, "a.b.open"));
    for client in [&plain, &queued] {
        let counters = settled(client, 2).await;
        assert_eq!(counters.denied_of(Class::PolicyDenied), 1);
    }
    assert_eq!(taken.map(|t| t.count()), [1, 1]);
}

/// PO-7, CC-1, CC-5: a thousand reloads under load. Every decision names one epoch for the whole
/// of its trust state, and is what that epoch says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_decision_under_a_thousand_reloads_is_that_of_exactly_one_epoch() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let taken = consume(bob.subscribe("work.a").await.unwrap());
    let mut audit = bob.audit();
    let deny = r#"{ "name": "no", "effect": "deny", "actions": ["pub"], "subjects": "work.>" }"#;
    let policies = [policy(""), policy(deny)];
    let handle = mesh.authority.publish().unwrap();
    let mut allows = BTreeMap::from([(handle.current().epochs().policy, true)]);

    let (bus, now) = (mesh.bus.clone(), mesh.now());
    let load = tokio::spawn(async move {
        for _ in 0..3_000 {
            bus.forge(sealed(&draft(now, Action::Publish, "work.a"), &alice));
            tokio::task::yield_now().await;
        }
    });
    for reload in 0..1_000 {
        let allow = reload % 2 == 1;
        mesh.authority
            .set_policy(policies[usize::from(!allow)].clone())
            .unwrap();
        allows.insert(handle.current().epochs().policy, allow);
        tokio::task::yield_now().await;
    }
    load.await.unwrap();
    let counters = settled(&bob, 3_000).await;
    taken.reaches(counters.allowed).await;

    let events = recorded(&bob, &mut audit).await;
    let mut epochs = std::collections::BTreeSet::new();
    for event in &events {
        let AuditEvent::Decision(decision) = event else {
            continue;
        };
        let epoch = decision.policy;
        assert_eq!(
            (decision.registry, decision.revocations),
            (epoch, epoch),
            "no mixture"
        );
        let allowed = decision.verdict == Word::Allow;
        assert_eq!(
            allowed, allows[&epoch],
            "epoch {epoch}: {:?}",
            decision.class
        );
        epochs.insert(epoch);
    }
    assert!(
        epochs.len() > 10,
        "reloads and load overlapped: {}",
        epochs.len()
    );
    let told = crate::support::mesh::refusals(&events);
    assert_eq!(told, crate::support::mesh::counted(&counters));
}

/// RV-1, CC-5: from the epoch of a revocation on nothing of the revoked is accepted, and nothing
/// was refused before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_under_traffic_takes_hold_at_its_epoch() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let taken = consume(bob.subscribe("work.a").await.unwrap());
    let mut audit = bob.audit();
    let handle = mesh.authority.publish().unwrap();
    let (bus, now, key) = (mesh.bus.clone(), mesh.now(), alice.key());
    let load = tokio::spawn(async move {
        for _ in 0..1_000 {
            bus.forge(sealed(&draft(now, Action::Publish, "work.a"), &alice));
            tokio::task::yield_now().await;
        }
    });
    eventually("traffic flows", || taken.count() > 100).await;
    mesh.authority.revoke_key(key).unwrap();
    let since = handle.current().epochs().revocations;
    load.await.unwrap();
    let counters = settled(&bob, 1_000).await;
    assert!(counters.denied_of(Class::Revoked) > 0, "{counters:?}");
    for decision in decisions(&bob, &mut audit).await {
        let revoked = decision.class.as_deref() == Some("Revoked");
        assert_eq!(revoked, decision.revocations >= since);
        assert_eq!(revoked, decision.verdict == Word::Deny);
    }
}

/// A rate is the receiver's to judge, and is told as a policy denial.
#[tokio::test]
async fn what_exceeds_the_rate_is_denied_and_the_rest_is_not() {
    let rate = r#"{ "name": "slow", "effect": "allow", "actions": ["pub"], "subjects": "work.>",
        "rate": { "count": 3, "per_ms": 1000 } }"#;
    let mut mesh = Mesh::ruled(rate);
    let (alice, bob) = two(&mut mesh).await;
    let mut messages = bob.subscribe("work.a").await.unwrap();
    for _ in 0..5 {
        alice.publish("work.a", "x".into()).await.unwrap();
    }
    for _ in 0..3 {
        message(&mut messages).await;
    }
    let _taken = consume(messages);
    let counters = settled(&bob, 5).await;
    assert_eq!(counters.denied_of(Class::PolicyDenied), 2);
    mesh.clock.advance(Duration::from_secs(1));
    alice.publish("work.a", "x".into()).await.unwrap();
    assert_eq!(settled(&bob, 6).await.allowed, 4);
}

/// Trust scores: the least trusted hand counts, and no score is the lowest.
#[tokio::test]
async fn a_score_below_the_required_one_is_too_low_on_both_sides() {
    let scored = r#"{ "name": "scored", "effect": "allow", "actions": ["pub"],
        "subjects": "work.>", "min_score": 500 }"#;
    let mut mesh = Mesh::ruled(scored);
    let (alice, bob) = two(&mut mesh).await;
    let taken = consume(bob.subscribe("work.a").await.unwrap());
    for (score, accepted) in [(None, false), (Some(499), false), (Some(500), true)] {
        if let Some(score) = score {
            mesh.authority.set_score("alice", score).unwrap();
        }
        let before = bob.counters();
        let sent = alice.publish("work.a", "x".into()).await;
        assert_eq!(sent.is_ok(), accepted);
        if let Err(error) = sent {
            assert_eq!(denied(&error).class(), Class::TrustTooLow);
            mesh.forge(&letter(&mesh, &alice, "work.a"));
        }
        let counters = settled(&bob, before.received + 1).await;
        assert_eq!(counters.allowed - before.allowed, u64::from(accepted));
    }
    assert_eq!(taken.count(), 1);
}
