//! The audit of a client: complete, exact, attributed, bounded, and never about itself.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::watch;
use trustmesh::AuditMode;
use trustmesh::AuditOptions;
use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::audit;
use trustmesh::audit::AuditEvent;
use trustmesh::audit::AuditItem;
use trustmesh::audit::AuditRecord;
use trustmesh::audit::AuditSubscriber;
use trustmesh::audit::Word;
use trustmesh::bus;
use trustmesh::bus::Bus;
use trustmesh::bus::BusFuture;
use trustmesh::bus::BusSubscriber;
use trustmesh::bus::ConnectError;
use trustmesh::bus::DrainError;
use trustmesh::bus::FlushError;
use trustmesh::bus::Outgoing;
use trustmesh::bus::PublishError;
use trustmesh::bus::ReconnectError;
use trustmesh::bus::ServerInfo;
use trustmesh::bus::State;
use trustmesh::bus::Statistics;
use trustmesh::bus::Subject;
use trustmesh::bus::SubscribeError;
use trustmesh::bus::memory::MemoryConnection;
use trustmesh::bus::nats::NatsBus;
use trustmesh::bus::store::BucketConfig;
use trustmesh::bus::store::Store;
use trustmesh::bus::store::StoreError;
use trustmesh::error::Denied;
use trustmesh::proto::names::Tag;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::scope::Action;
use trustmesh::services::authority::Authority;

use crate::support::PATIENCE;
use crate::support::eventually;
use crate::support::mesh::Mesh;
use crate::support::mesh::balances;
use crate::support::mesh::consume;
use crate::support::mesh::counted;
use crate::support::mesh::denied;
use crate::support::mesh::draft;
use crate::support::mesh::recorded;
use crate::support::mesh::refusals;
use crate::support::mesh::sealed;
use crate::support::mesh::settled;
use crate::support::mesh::with_broken_payload;
use crate::support::mesh::with_broken_signature;
use crate::support::nats;
use crate::support::next;
use crate::support::settle;
use crate::support::unique;

async fn two(mesh: &mut Mesh) -> (Client, Client) {
    let alice = mesh.join("alice", &["pub+req:work.>"]).await;
    let bob = mesh.join("bob", &["sub+serve:work.>"]).await;
    (alice, bob)
}

async fn auditor(mesh: &mut Mesh) -> (Client, AuditSubscriber) {
    let auditor = mesh.join("auditor", &["sub:trustmesh.audit.*"]).await;
    let items = audit::subscribe(&auditor).await.unwrap();
    (auditor, items)
}

async fn item(items: &mut AuditSubscriber) -> Result<AuditItem, Denied> {
    let item = tokio::time::timeout(PATIENCE, items.next()).await;
    item.expect("an item in time").expect("the stream goes on")
}

fn letter(mesh: &Mesh, from: &Client, subject: &str) -> Outgoing {
    sealed(&draft(mesh.now(), Action::Publish, subject), from)
}

/// AU-1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_mixed_messages_are_accounted_for_one_by_one() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let taken = consume(bob.subscribe("work.>").await.unwrap());
    let mut stream = bob.audit();
    let kinds = 8;
    let each = 10_000 / kinds;
    for _ in 0..each {
        let valid = letter(&mesh, &alice, "work.a");
        mesh.forge(&valid);
        mesh.forge(&valid);
        mesh.forge(&Outgoing {
            payload: with_broken_payload(&letter(&mesh, &alice, "work.a").payload),
            ..valid.clone()
        });
        mesh.forge(&Outgoing {
            payload: with_broken_signature(&letter(&mesh, &alice, "work.a").payload),
            ..valid.clone()
        });
        mesh.forge(&Outgoing::new("work.b", valid.payload));
        let early = mesh.now().minus(60_000);
        mesh.forge(&sealed(&draft(early, Action::Publish, "work.a"), &alice));
        mesh.forge(&Outgoing::new("work.a", "not an envelope"));
        mesh.forge(&letter(&mesh, &bob, "work.a"));
    }
    let counters = settled(&bob, 10_000).await;
    assert_eq!((counters.allowed, counters.handler_runs), (each, each));
    taken.reaches(each).await;
    let expected = [
        ("BadSignature", 2 * each),
        ("Expired", each),
        ("Malformed", each),
        ("Replay", each),
        ("SubjectMismatch", each),
        // Of what bob signs and may not send, twenty are judged; then he is not listened to.
        ("Blocked", each - 20),
        ("ScopeExceeded", 20),
    ];
    let expected = expected
        .map(|(class, count)| (class.to_owned(), count))
        .into();
    assert_eq!(counted(&counters), expected);
    let events = recorded(&bob, &mut stream).await;
    assert_eq!(refusals(&events), expected);
    let allowed = events.iter().filter_map(|event| match event {
        AuditEvent::Decision(decision) if decision.verdict == Word::Allow => decision.mid.clone(),
        _ => None,
    });
    let allowed: Vec<String> = allowed.collect();
    let distinct: BTreeSet<&String> = allowed.iter().collect();
    assert_eq!(
        (allowed.len(), distinct.len()),
        (each as usize, each as usize)
    );
}

/// What a refusal says depends on what was proved: claims are called claims.
#[tokio::test]
async fn a_refusal_tells_claims_from_facts() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let _taken = consume(bob.subscribe("work.a").await.unwrap());
    let mut stream = bob.audit();
    let honest = letter(&mesh, &alice, "work.a");
    let broken = Outgoing {
        payload: with_broken_signature(&honest.payload),
        ..honest.clone()
    };
    let garbage = Outgoing::new("work.a", vec![7; 1000]);
    for message in [&honest, &honest, &broken, &garbage] {
        mesh.forge(message);
    }
    settled(&bob, 4).await;
    let told = crate::support::mesh::decisions(&bob, &mut stream).await;
    let [accepted, replay, broken, garbage] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(
        (accepted.claimed, accepted.sender.as_deref()),
        (false, Some("alice"))
    );
    assert!(accepted.digest.is_none() && accepted.cost_ns.is_some());
    // The signature of a replay is never looked at again.
    assert_eq!(
        (replay.claimed, replay.sender.as_deref()),
        (true, Some("alice"))
    );
    assert_eq!(replay.class.as_deref(), Some("Replay"));
    // This one's id was accepted before as well: still a claim.
    assert!(broken.claimed);
    assert_eq!((garbage.len, garbage.sender.as_deref()), (1000, None));
    let digest = <sha2::Sha256 as sha2::Digest>::digest([7; 256]);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        garbage.digest.as_deref(),
        Some(&digest[..]),
        "of the first 256 bytes"
    );
}

/// AU-4, AU-15: whoever may write to the audit subject of another cannot speak for it.
#[tokio::test]
async fn nobody_speaks_for_another_in_the_audit() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let mallory = mesh.join("mallory", &["pub:trustmesh.>"]).await;
    let tap = mesh.bus.tap();
    let (_auditor, mut items) = auditor(&mut mesh).await;
    let _taken = consume(bob.subscribe("work.a").await.unwrap());
    alice.publish("work.a", "x".into()).await.unwrap();
    settled(&bob, 1).await;
    for client in [&alice, &bob, &mallory] {
        client.flush_audit().await;
    }
    let batches = tap.take();
    let of = |id: &str| {
        let subject = format!("trustmesh.audit.{id}");
        let found = batches.iter().rfind(|m| m.subject.as_str() == subject);
        found.expect("a batch").clone()
    };
    let mut records = 0;
    while records < 2 {
        if let AuditItem::Record(record) = item(&mut items).await.unwrap() {
            records += usize::from(record.emitter == "bob");
        }
    }
    let forgeries = [
        // Under her own chain, which covers the subject.
        (
            letter(&mesh, &mallory, "trustmesh.audit.bob").payload,
            Class::UnexpectedReply,
        ),
        // Her own batch, delivered as his.
        (of("mallory").payload, Class::SubjectMismatch),
        // His batch, changed.
        (with_broken_payload(&of("bob").payload), Class::BadSignature),
        (
            with_broken_signature(&of("bob").payload),
            Class::BadSignature,
        ),
        (Bytes::from_static(b"garbage"), Class::Malformed),
    ];
    let mut his = bob.audit();
    for (payload, class) in forgeries {
        mesh.bus
            .forge(Outgoing::new("trustmesh.audit.bob", payload));
        let Denied(rejection) = loop {
            // Others' batches may come in between.
            if let Err(error) = item(&mut items).await {
                break error;
            }
        };
        assert_eq!(rejection.class(), class);
    }
    // His own batch once more says nothing twice.
    mesh.forge(&of("bob"));
    while !matches!(item(&mut items).await, Ok(AuditItem::Duplicate { .. })) {}
    // And his audit goes on where it was, without a gap.
    alice.publish("work.a", "x".into()).await.unwrap();
    settled(&bob, 2).await;
    loop {
        match item(&mut items).await.unwrap() {
            AuditItem::Record(record) if record.emitter == "bob" => {
                assert!(matches!(record.event, AuditEvent::Decision(_)));
                break;
            }
            AuditItem::Record(_) | AuditItem::Duplicate { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        recorded(&bob, &mut his).await.len(),
        1,
        "forgeries are no events of his"
    );
}

/// AU-3 live: what the bus drops shows as a gap with its exact bounds.
#[tokio::test]
async fn a_batch_that_never_arrives_is_a_gap() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let (_auditor, mut items) = auditor(&mut mesh).await;
    let _taken = consume(bob.subscribe("work.a").await.unwrap());
    for round in 0..3 {
        if round == 1 {
            let drop = bus::faults::Rule::on("trustmesh.audit.bob", bus::faults::Fault::Drop);
            mesh.bus.inject(bus::faults::Faults::seeded(1).with(drop));
        }
        alice.publish("work.a", "x".into()).await.unwrap();
        alice.publish("work.a", "x".into()).await.unwrap();
        settled(&bob, 2 * round + 2).await;
        bob.flush_audit().await;
        mesh.bus.heal();
    }
    let mut seen = Vec::new();
    while seen.len() < 6 {
        match item(&mut items).await.unwrap() {
            AuditItem::Record(record) if record.emitter == "bob" => {
                seen.push(record.seq..record.seq)
            }
            AuditItem::Missing {
                emitter, from, to, ..
            } => {
                assert_eq!(emitter.as_str(), "bob");
                seen.push(from..to);
            }
            AuditItem::Record(_) => {}
            other => panic!("{other:?}"),
        }
    }
    // The notice of a development mesh, then two records a round.
    assert_eq!(seen, [0..0, 1..1, 2..2, 3..5, 5..5, 6..6]);
}

/// AU-14, at a scale of 10,000: singles up to the stated rate, then exact counts.
#[tokio::test(start_paused = true)]
async fn a_burst_of_invalid_messages_is_aggregated_exactly() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let _taken = consume(bob.subscribe("work.a").await.unwrap());
    let mut stream = bob.audit();
    bob.flush_audit().await;
    let tap = mesh.bus.tap();
    let broken = Outgoing {
        payload: with_broken_signature(&letter(&mesh, &alice, "work.a").payload),
        ..letter(&mesh, &alice, "work.a")
    };
    for _ in 0..1_000 {
        mesh.forge(&broken);
        for _ in 0..9 {
            mesh.forge(&Outgoing::new("work.a", "garbage"));
        }
    }
    let counters = settled(&bob, 10_000).await;
    assert_eq!(counters.denied_of(Class::Malformed), 9_000);
    assert_eq!(counters.denied_of(Class::BadSignature), 1_000);
    let events = recorded(&bob, &mut stream).await;
    assert_eq!(refusals(&events), counted(&counters));
    assert_eq!(counters.audit_decisions, 400, "200 of a class in a second");
    assert_eq!(counters.audit_aggregated, 9_600);
    let published: usize = tap.take().iter().map(|m| m.payload.len()).sum();
    assert!(
        published < 400 * 1_000,
        "{published} bytes for 10,000 messages"
    );
}

/// AU-15.
#[tokio::test]
async fn the_audit_of_the_audit_is_nothing() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let (auditor, mut items) = auditor(&mut mesh).await;
    let watcher = mesh.join("watcher", &["sub:>"]).await;
    let everything = consume(watcher.subscribe(">").await.unwrap());
    let mut seen = watcher.audit();
    let _taken = consume(bob.subscribe("work.a").await.unwrap());
    // Invalid messages on audit and handshake subjects.
    for _ in 0..100 {
        for subject in [
            "trustmesh.audit.bob",
            "trustmesh.audit.watcher",
            "trustmesh.x",
        ] {
            mesh.forge(&Outgoing::new(subject, "garbage"));
        }
    }
    let mut errors = 0;
    while errors < 200 {
        errors += usize::from(item(&mut items).await.is_err());
    }
    // True traffic, whose audit everybody hears in turn.
    for _ in 0..5 {
        alice.publish("work.a", "x".into()).await.unwrap();
        for client in [&alice, &bob, &watcher, &auditor] {
            client.flush_audit().await;
        }
    }
    let counters = settled(&watcher, 5).await;
    assert!(counters.control >= 300, "{counters:?}");
    assert_eq!(everything.count(), 5);
    let told = recorded(&watcher, &mut seen).await;
    let own = told.iter().filter(|e| matches!(e, AuditEvent::Decision(_)));
    assert_eq!(own.count(), 5, "{told:?}");
    // With nobody saying anything, nothing is published any more.
    for client in [&alice, &bob, &watcher, &auditor] {
        client.flush_audit().await;
    }
    let tap = mesh.bus.tap();
    for client in [&alice, &bob, &watcher, &auditor] {
        client.flush_audit().await;
    }
    assert_eq!(tap.take().len(), 0);
    assert_eq!(auditor.counters().received, 0);
}

/// The audit is not for everybody.
#[tokio::test]
async fn reading_the_audit_needs_a_grant_and_a_plain_subscription_does_not_yield_it() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let error = audit::subscribe(&alice).await.unwrap_err();
    assert_eq!(denied(&error).class(), Class::ScopeExceeded);
    let auditor = mesh.join("auditor", &["sub:trustmesh.audit.*"]).await;
    let plain = consume(auditor.subscribe("trustmesh.audit.*").await.unwrap());
    let _taken = consume(bob.subscribe("work.a").await.unwrap());
    alice.publish("work.a", "x".into()).await.unwrap();
    settled(&bob, 1).await;
    bob.flush_audit().await;
    eventually("the batch arrives", || auditor.counters().control > 0).await;
    assert_eq!((plain.count(), auditor.counters().received), (0, 0));
}

/// The lines of a file, each following from the one before.
fn checked_lines(path: &Path) -> Vec<AuditRecord> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'));
    let mut prev = String::new();
    let mut records: Vec<AuditRecord> = Vec::new();
    for line in text.lines() {
        let record: AuditRecord = serde_json::from_str(line).unwrap();
        match records.last() {
            Some(before) if before.run == record.run => {
                assert_eq!((record.seq, &record.prev), (before.seq + 1, &prev));
            }
            _ => assert_eq!((record.seq, record.prev.trim_matches('0')), (0, "")),
        }
        prev = Tag::AuditRecord.digest(line.as_bytes()).to_string();
        records.push(record);
    }
    records
}

#[tokio::test]
async fn the_audit_file_has_every_record_of_every_run_as_a_checked_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &["pub:work.>"]).await;
    let identity = mesh.authority.agent("bob", ["sub:work.>"]).unwrap();
    for run in 0..2u64 {
        let kept = AuditOptions::default().unpublished().file(&path);
        let options = mesh.options(identity.clone()).audit(kept);
        let bob = options.connect_bus(mesh.bus.connect()).await.unwrap();
        let mut stream = bob.audit();
        let _taken = consume(bob.subscribe("work.a").await.unwrap());
        let tap = mesh.bus.tap();
        for _ in 0..10 {
            alice.publish("work.a", "x".into()).await.unwrap();
        }
        mesh.forge(&Outgoing::new("work.a", "garbage"));
        settled(&bob, 11).await;
        let in_process = recorded(&bob, &mut stream).await;
        let in_file = checked_lines(&path);
        let runs: BTreeSet<&str> = in_file.iter().map(|r| r.run.as_str()).collect();
        assert_eq!(runs.len() as u64, run + 1);
        let last = in_file.iter().rev().take(in_process.len()).rev();
        assert!(last.map(|record| &record.event).eq(in_process.iter()));
        assert!(
            tap.take()
                .iter()
                .all(|m| m.subject.as_str() != "trustmesh.audit.bob")
        );
        assert_eq!(bob.counters().audit_published, 0);
    }
}

#[tokio::test]
async fn the_stream_ends_with_the_client() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let taken = consume(bob.subscribe("work.a").await.unwrap());
    let mut stream = bob.audit();
    alice.publish("work.a", "x".into()).await.unwrap();
    settled(&bob, 1).await;
    drop(taken);
    drop(bob);
    let mut records = Vec::new();
    while let Some(record) = stream.next().await {
        records.push(record);
    }
    assert!(
        records
            .iter()
            .any(|r| matches!(r.event, AuditEvent::Decision(_)))
    );
    let consecutive = records
        .windows(2)
        .all(|pair| pair[1].seq == pair[0].seq + 1);
    assert!(consecutive && stream.missed() == 0);
}

/// A bus whose second connection takes nothing while it is stalled.
#[derive(Debug)]
struct Stalling {
    inner: Arc<dyn Bus>,
    stalled: watch::Receiver<bool>,
    second: bool,
}

impl Stalling {
    fn new(inner: MemoryConnection) -> (Self, watch::Sender<bool>) {
        let (lever, stalled) = watch::channel(true);
        let inner = Arc::new(inner);
        let bus = Self {
            inner,
            stalled,
            second: false,
        };
        (bus, lever)
    }
}

impl Bus for Stalling {
    fn publish(&self, message: Outgoing) -> BusFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            if self.second {
                let mut stalled = self.stalled.clone();
                // The test may have ended.
                let _ = stalled.wait_for(|stalled| !*stalled).await;
            }
            self.inner.publish(message).await
        })
    }

    fn subscribe(
        &self,
        subject: Subject,
        queue: Option<String>,
    ) -> BusFuture<'_, Result<BusSubscriber, SubscribeError>> {
        self.inner.subscribe(subject, queue)
    }

    fn flush(&self) -> BusFuture<'_, Result<(), FlushError>> {
        self.inner.flush()
    }

    fn drain(&self) -> BusFuture<'_, Result<(), DrainError>> {
        self.inner.drain()
    }

    fn max_payload(&self) -> usize {
        self.inner.max_payload()
    }

    fn state(&self) -> State {
        self.inner.state()
    }

    fn statistics(&self) -> Arc<Statistics> {
        self.inner.statistics()
    }

    fn server_info(&self) -> ServerInfo {
        self.inner.server_info()
    }

    fn second(&self) -> BusFuture<'_, Result<Arc<dyn Bus>, ConnectError>> {
        Box::pin(async move {
            let second = Self {
                inner: self.inner.second().await?,
                stalled: self.stalled.clone(),
                second: true,
            };
            Ok(Arc::new(second) as Arc<dyn Bus>)
        })
    }

    fn store<'a>(
        &'a self,
        bucket: &'a BucketConfig,
    ) -> BusFuture<'a, Result<Arc<dyn Store>, StoreError>> {
        self.inner.store(bucket)
    }

    fn redials(&self) -> u64 {
        self.inner.redials()
    }

    fn force_reconnect(&self) -> BusFuture<'_, Result<(), ReconnectError>> {
        self.inner.force_reconnect()
    }
}

/// AU-8: while the bus does not take the audit, a strict client refuses and an available one
/// goes on; what is missing is counted exactly, and nothing stays broken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_audit_refuses_when_strict_and_counts_the_gap_when_available() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &["pub:work.>"]).await;
    let mut clients = Vec::new();
    for (id, mode) in [
        ("strict", AuditMode::Strict),
        ("available", AuditMode::Available),
    ] {
        let identity = mesh.authority.agent(id, ["sub:work.>"]).unwrap();
        let (bus, lever) = Stalling::new(mesh.bus.connect());
        let options = mesh
            .options(identity)
            .audit(AuditOptions::default().mode(mode));
        let client = options.connect_bus(bus).await.unwrap();
        let taken = consume(client.subscribe("work.a").await.unwrap());
        let events = Arc::new(Mutex::new(Vec::new()));
        let (mut stream, kept) = (client.audit(), events.clone());
        tokio::spawn(async move {
            while let Some(record) = stream.next().await {
                kept.lock().unwrap().push(record.event);
            }
            assert_eq!(stream.missed(), 0);
        });
        clients.push((client, lever, taken, events));
    }
    // The queue has 16,384 places, and a batch of 64 waits before it.
    let sent = 16_384 + 64 + 500;
    for _ in 0..sent {
        mesh.forge(&letter(&mesh, &alice, "work.a"));
    }
    let (strict, lever, taken, events) = &clients[0];
    let counters = settled(strict, sent).await;
    assert!(counters.unaudited >= 400, "{counters:?}");
    assert_eq!(
        counters.denied_of(Class::AuditUnavailable),
        counters.unaudited
    );
    assert_eq!(
        (counters.allowed, counters.audit_lost),
        (sent - counters.unaudited, 0)
    );
    taken.reaches(counters.allowed).await;
    lever.send(false).unwrap();
    strict.flush_audit().await;
    mesh.forge(&letter(&mesh, &alice, "work.a"));
    let after = settled(strict, sent + 1).await;
    assert_eq!(after.allowed, counters.allowed + 1, "traffic flows again");
    strict.flush_audit().await;
    eventually("every decision is told", || {
        let events = events.lock().unwrap();
        let told = events
            .iter()
            .filter(|e| matches!(e, AuditEvent::Decision(_)));
        told.count() as u64 == after.allowed
    })
    .await;

    let (available, lever, taken, events) = &clients[1];
    let counters = settled(available, sent + 1).await;
    assert_eq!(counters.denied_total(), 0);
    taken.reaches(sent + 1).await;
    assert!(counters.audit_lost >= 400, "{counters:?}");
    lever.send(false).unwrap();
    available.flush_audit().await;
    let sum = |events: &[AuditEvent]| {
        let gaps = events.iter().map(|event| match event {
            AuditEvent::Gap { count } => *count,
            _ => 0,
        });
        gaps.sum::<u64>()
    };
    eventually("the gap is told", || {
        let events = events.lock().unwrap();
        let told = events
            .iter()
            .filter(|e| matches!(e, AuditEvent::Decision(_)));
        told.count() as u64 == counters.audit_decisions && sum(&events) == counters.audit_lost
    })
    .await;
    assert!(balances(&available.counters()));
}

/// AU-14: in a flood that does not end, refusals that were only counted are told every second, not
/// after it.
#[tokio::test(start_paused = true)]
async fn what_was_only_counted_is_told_while_the_flood_goes_on() {
    let mut mesh = Mesh::new();
    let bob = mesh.join("bob", &["sub:work.>"]).await;
    let _taken = consume(bob.subscribe("work.a").await.unwrap());
    let mut stream = bob.audit();
    let mut told = 0;
    for _ in 0..8_000 {
        mesh.forge(&Outgoing::new("work.a", "not an envelope"));
        tokio::time::sleep(Duration::from_micros(500)).await;
        while let Some(record) = stream.try_next() {
            told += match record.event {
                AuditEvent::Aggregate { count, .. } => count,
                _ => 0,
            };
        }
    }
    // Of 2,000 a second 200 are recorded one by one.
    assert!(told >= 3 * 1_700, "{told}");
}

/// A client whose audit nobody takes drains all the same, after the time it grants the bus.
#[tokio::test]
async fn draining_gives_a_stalled_audit_up_after_its_time() {
    let mut mesh = Mesh::new();
    let identity = mesh.authority.agent("bob", ["sub:work.>"]).unwrap();
    let (bus, _lever) = Stalling::new(mesh.bus.connect());
    let bob = mesh.options(identity).connect_bus(bus).await.unwrap();
    let _taken = consume(bob.subscribe("work.a").await.unwrap());
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    bob.drain().await.unwrap();
    let took = began.elapsed();
    let bounds = Duration::from_secs(5)..Duration::from_secs(36);
    assert!(bounds.contains(&took), "{took:?}");
    assert_eq!(bob.counters().audit_published, 0);
}

/// The audit over NATS, for those who verify it and for those who only look.
#[tokio::test]
async fn on_nats_the_audit_is_verified_and_ordered_and_readable_without_us() {
    let mut authority = Authority::dev("nats").unwrap();
    let (prefix, subject, url) = (unique(), unique(), nats::shared().await.url());
    let identity = |authority: &mut Authority, id: &str, scope: String| {
        let identity = authority.agent(id, [scope]).unwrap();
        ConnectOptions::new(identity).prefix(&prefix)
    };
    let reading = identity(&mut authority, "auditor", format!("sub+req:{prefix}.>"));
    let auditor = reading.connect(&url).await.unwrap();
    let mut items = audit::subscribe(&auditor).await.unwrap();
    let onlooker = NatsBus::connect(&url, bus::ConnectOptions::new())
        .await
        .unwrap();
    let plain = onlooker
        .subscribe(format!("{prefix}.audit.echo").into(), None)
        .await;
    let mut plain = plain.unwrap();
    settle(&onlooker).await;

    let echo = identity(&mut authority, "echo", format!("pub+sub:{subject}"));
    let echo = echo.connect(&url).await.unwrap();
    let taken = consume(echo.subscribe(subject.clone()).await.unwrap());
    for _ in 0..200 {
        echo.publish(subject.clone(), "canary-payload".into())
            .await
            .unwrap();
    }
    settled(&echo, 200).await;
    taken.reaches(200).await;
    echo.flush_audit().await;

    let mut decisions = 0;
    let mut next_seq = None;
    while decisions < 200 {
        let AuditItem::Record(record) = item(&mut items).await.unwrap() else {
            panic!("nothing is missing");
        };
        if record.emitter == "echo" {
            assert_eq!(record.seq, next_seq.unwrap_or(record.seq));
            next_seq = Some(record.seq + 1);
            decisions += usize::from(matches!(record.event, AuditEvent::Decision(_)));
        }
    }
    let mut lines = 0;
    while lines < next_seq.unwrap() {
        let batch = next(&mut plain).await.payload;
        assert!(batch.starts_with(b"TMSH") && batch.ends_with(b"}\n"));
        let start = batch
            .windows(5)
            .position(|w| w == br#"{"v":"#)
            .expect("a first line");
        let text = std::str::from_utf8(&batch[start..]).unwrap();
        for line in text.lines() {
            let record: AuditRecord = serde_json::from_str(line).unwrap();
            assert_eq!((record.seq, record.emitter.as_str()), (lines, "echo"));
            lines += 1;
        }
        assert!(!batch.windows(14).any(|w| w == b"canary-payload"));
    }
}
