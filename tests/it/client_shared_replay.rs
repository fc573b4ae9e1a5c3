//! One replay memory for all members of a queue group, in whatever process, and for all runs.

use std::error::Error as _;
use std::time::Duration;

use futures::StreamExt;
use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::Identity;
use trustmesh::Message;
use trustmesh::Service;
use trustmesh::bus::Bus;
use trustmesh::bus::ConnectOptions as NatsOptions;
use trustmesh::bus::Outgoing;
use trustmesh::bus::RequestErrorKind;
use trustmesh::bus::SubscribeErrorKind;
use trustmesh::bus::memory::MemoryBucket;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::bus::nats::NatsBus;
use trustmesh::bus::store::StoreError;
use trustmesh::client::Counters;
use trustmesh::proto::envelope::inbox_prefix;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::scope::Action;

use crate::support::PATIENCE;
use crate::support::eventually;
use crate::support::mesh::Mesh;
use crate::support::mesh::balances;
use crate::support::mesh::consume;
use crate::support::mesh::decisions;
use crate::support::mesh::draft;
use crate::support::mesh::message;
use crate::support::mesh::sealed;
use crate::support::mesh::settled;
use crate::support::nats;
use crate::support::unique;

/// Where clients meet, and where anybody can send again what was sent.
trait Place {
    async fn enter(&self, options: ConnectOptions) -> Client;

    async fn send(&self, message: &Outgoing);
}

impl Place for MemoryBus {
    async fn enter(&self, options: ConnectOptions) -> Client {
        options.connect_bus(self.connect()).await.unwrap()
    }

    async fn send(&self, message: &Outgoing) {
        self.forge(message.clone());
    }
}

impl Place for nats::NatsServer {
    async fn enter(&self, options: ConnectOptions) -> Client {
        options.connect(self.url()).await.unwrap()
    }

    async fn send(&self, message: &Outgoing) {
        let bus = NatsBus::connect(self.url(), NatsOptions::new()).await;
        let bus = bus.expect("the server is up");
        bus.publish(message.clone()).await.unwrap();
        bus.flush().await.unwrap();
    }
}

macro_rules! in_every_place {
    ($($claim:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $claim() {
                super::$claim(&super::MemoryBus::new()).await;
            })*
        }

        mod nats_server {
            $(#[tokio::test]
            async fn $claim() {
                super::$claim(super::nats::jetstream().await).await;
            })*
        }
    };
}

in_every_place! {
    three_members_run_the_handler_of_a_replayed_message_once
    a_later_run_refuses_what_an_earlier_one_accepted
    a_stream_comes_out_whole_and_in_order
}

/// The sender, and agents that may work.
async fn staff(mesh: &mut Mesh, place: &impl Place) -> (Client, Vec<Identity>) {
    let may = ["pub+req:tasks.>"];
    let sender = mesh.authority.agent("alice", may).unwrap();
    let sender = place.enter(mesh.options(sender)).await;
    let workers = ["w1", "w2", "w3"].map(|id| {
        let may = ["sub+serve:tasks.>", "req:nobody"];
        mesh.authority.agent(id, may).unwrap()
    });
    (sender, workers.into())
}

/// Waits until the server knows what this client subscribed to: it answers in order, and has an
/// answer to a request to nobody.
async fn ready(client: &Client) {
    let answer = client.request("nobody", "".into()).await;
    assert_eq!(answer.unwrap_err().kind(), RequestErrorKind::NoResponders);
}

async fn work(client: &Client, pattern: &str) -> Service {
    let handler = |task: Message| async move { Ok::<_, String>(task.payload) };
    let tasks = client.subscription(pattern.to_owned()).queue("workers");
    let service = tasks.shared_replay().serve(handler).await;
    ready(client).await;
    service.unwrap()
}

/// Waits until so many messages were decided by these together, and nothing is in flight.
async fn together(clients: &[Client], received: u64) -> Vec<Counters> {
    let read = || -> Vec<Counters> { clients.iter().map(Client::counters).collect() };
    eventually("all is received and decided", || {
        let counters = read();
        counters.iter().map(|c| c.received).sum::<u64>() >= received
            && counters.iter().all(balances)
    })
    .await;
    read()
}

fn sum(counters: &[Counters], of: impl Fn(&Counters) -> u64) -> u64 {
    counters.iter().map(of).sum()
}

/// FR-1, FR-5 across processes: three members, each with an identity, a connection and a memory of
/// its own.
async fn three_members_run_the_handler_of_a_replayed_message_once(place: &impl Place) {
    let mut mesh = Mesh::new();
    let (alice, workers) = staff(&mut mesh, place).await;
    let subject = format!("tasks.{}", unique());
    let mut clients = Vec::new();
    let mut services = Vec::new();
    for identity in workers {
        let client = place.enter(mesh.options(identity)).await;
        services.push(work(&client, &subject).await);
        clients.push(client);
    }
    for round in 1..=2 {
        let copy = sealed(&draft(mesh.now(), Action::Publish, &subject), &alice);
        for _ in 0..60 {
            place.send(&copy).await;
        }
        let counters = together(&clients, round * 60).await;
        assert_eq!(sum(&counters, |c| c.handler_runs), round);
        assert_eq!(sum(&counters, |c| c.denied_of(Class::Replay)), round * 59);
        // Each member was asked, or this shows nothing.
        assert!(counters.iter().all(|c| c.received > 0), "{counters:?}");
    }
}

async fn a_later_run_refuses_what_an_earlier_one_accepted(place: &impl Place) {
    let mut mesh = Mesh::new();
    let (alice, workers) = staff(&mut mesh, place).await;
    for group in [None, Some("workers")] {
        let subject = format!("tasks.{}", unique());
        let copy = sealed(&draft(mesh.now(), Action::Publish, &subject), &alice);
        for run in 0..3 {
            // A new process knows what its identity says, and nothing else.
            let client = place.enter(mesh.options(workers[0].clone())).await;
            let mut tasks = client.subscription(subject.clone()).shared_replay();
            if let Some(group) = group {
                tasks = tasks.queue(group);
            }
            let _taken = consume(tasks.subscribe().await.unwrap());
            ready(&client).await;
            let mut audit = client.audit();
            place.send(&copy).await;
            let counters = settled(&client, 1).await;
            assert_eq!(counters.handler_runs, u64::from(run == 0));
            if run > 0 {
                let decided = decisions(&client, &mut audit).await;
                assert_eq!(decided[0].code, Some(1203));
            }
        }
    }
}

async fn a_stream_comes_out_whole_and_in_order(place: &impl Place) {
    let mut mesh = Mesh::new();
    let (alice, workers) = staff(&mut mesh, place).await;
    let subject = format!("tasks.{}", unique());
    let client = place.enter(mesh.options(workers[0].clone())).await;
    let tasks = client.subscription(subject.clone()).shared_replay();
    let mut tasks = tasks.subscribe().await.unwrap();
    ready(&client).await;
    for number in 0..300 {
        let payload = number.to_string().into();
        alice.publish(subject.clone(), payload).await.unwrap();
    }
    for number in 0..300 {
        assert_eq!(message(&mut tasks).await.payload, number.to_string());
    }
    tasks.unsubscribe().await.unwrap();
    let end = tokio::time::timeout(PATIENCE, tasks.next()).await;
    assert!(end.expect("an end in time").is_none());
}

fn bucket(mesh: &Mesh) -> MemoryBucket {
    let name = format!("TRUSTMESH_REPLAY_{}", mesh.authority.mesh());
    mesh.bus.bucket(&name)
}

/// Two workers of one group in one process space, a sender, and the bucket.
async fn scene(mesh: &mut Mesh) -> (Client, Client, MemoryBucket) {
    let alice = mesh.join("alice", &["pub:tasks.>"]).await;
    let bob = mesh.join("bob", &["sub+serve:tasks.>", "req:nobody"]).await;
    let bucket = bucket(mesh);
    (alice, bob, bucket)
}

#[tokio::test]
async fn without_the_store_messages_are_refused_and_nothing_is_consumed() {
    let mut mesh = Mesh::ruled(
        r#"{ "name": "one", "effect": "allow", "actions": ["pub"], "subjects": "tasks.>",
             "rate": { "count": 1, "per_ms": 60000 } }"#,
    );
    let (alice, bob, bucket) = scene(&mut mesh).await;
    let _service = work(&bob, "tasks.>").await;
    let mut audit = bob.audit();
    let copy = sealed(&draft(mesh.now(), Action::Publish, "tasks.a"), &alice);
    bucket.set_unreachable(true);
    for sent in 1..=3 {
        mesh.forge(&copy);
        let counters = settled(&bob, sent).await;
        assert_eq!(counters.denied_of(Class::Overloaded), sent);
        assert_eq!(counters.handler_runs, 0);
    }
    assert_eq!(decisions(&bob, &mut audit).await[0].code, Some(2407));
    // The rate of one an hour has not been used up, nor the message's id.
    bucket.set_unreachable(false);
    mesh.forge(&copy);
    assert_eq!(settled(&bob, 4).await.handler_runs, 1);
    mesh.forge(&copy);
    assert_eq!(settled(&bob, 5).await.denied_of(Class::Replay), 1);
}

#[tokio::test]
async fn a_message_whose_claim_was_made_unheard_is_taken_when_it_comes_again() {
    let mut mesh = Mesh::new();
    let (alice, bob, bucket) = scene(&mut mesh).await;
    let _service = work(&bob, "tasks.>").await;
    let copy = sealed(&draft(mesh.now(), Action::Publish, "tasks.a"), &alice);
    bucket.lose_answers(1);
    mesh.forge(&copy);
    assert_eq!(settled(&bob, 1).await.denied_of(Class::Overloaded), 1);
    for sent in 2..=4 {
        mesh.forge(&copy);
        assert_eq!(settled(&bob, sent).await.handler_runs, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_holds_nothing_up_for_longer_than_its_patience() {
    let mut mesh = Mesh::new();
    let (alice, bob, bucket) = scene(&mut mesh).await;
    let _service = work(&bob, "tasks.>").await;
    bucket.set_delay(Duration::from_secs(3600));
    let started = tokio::time::Instant::now();
    for _ in 0..64 {
        let next = draft(mesh.now(), Action::Publish, "tasks.a");
        mesh.forge(&sealed(&next, &alice));
    }
    let counters = settled(&bob, 64).await;
    assert_eq!(counters.denied_of(Class::Overloaded), 64);
    // They waited together, not one after the other.
    assert!(started.elapsed() < Duration::from_secs(4));
}

/// Waits until everything else does: tokio's clock is paused, so it moves only then.
async fn idle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// FR-2 and RV-1 at dispatch: what changes between the claim and the handler still counts.
#[tokio::test(start_paused = true)]
async fn time_and_revocation_are_looked_at_again_after_the_claim() {
    let mut mesh = Mesh::new();
    let (alice, bob, bucket) = scene(&mut mesh).await;
    let mut tasks = bob.subscription("tasks.>").shared_replay();
    tasks = tasks.queue("workers");
    let _taken = consume(tasks.subscribe().await.unwrap());
    let mut audit = bob.audit();
    let send = || {
        mesh.forge(&sealed(
            &draft(mesh.now(), Action::Publish, "tasks.a"),
            &alice,
        ))
    };

    bucket.set_delay(Duration::from_millis(500));
    let claimed = async |count| eventually("a claim", || bucket.len() == count).await;
    // The answer takes a while: it is the same delay, but the claim is not made before its end.
    send();
    idle().await;
    mesh.clock.advance(Duration::from_secs(16));
    claimed(1).await;
    settled(&bob, 1).await;
    assert_eq!(bob.counters().denied_of(Class::Expired), 1);

    let send = || {
        mesh.forge(&sealed(
            &draft(mesh.now(), Action::Publish, "tasks.a"),
            &alice,
        ))
    };
    send();
    idle().await;
    mesh.authority.revoke_agent("alice").unwrap();
    mesh.authority.publish().unwrap();
    settled(&bob, 2).await;
    assert_eq!(bob.counters().denied_of(Class::Revoked), 1);
    assert_eq!(bob.counters().handler_runs, 0);
    assert_eq!(decisions(&bob, &mut audit).await.len(), 2);
}

#[tokio::test]
async fn a_forgery_is_never_claimed() {
    let mut mesh = Mesh::new();
    let (alice, bob, bucket) = scene(&mut mesh).await;
    let _service = work(&bob, "tasks.>").await;
    let mut copy = sealed(&draft(mesh.now(), Action::Publish, "tasks.a"), &alice);
    let honest = copy.clone();
    copy.payload = crate::support::mesh::with_broken_signature(&copy.payload);
    mesh.forge(&copy);
    settled(&bob, 1).await;
    assert!(bucket.is_empty());
    mesh.forge(&honest);
    assert_eq!(settled(&bob, 2).await.handler_runs, 1);
    assert_eq!(bucket.len(), 1);
}

/// What the bus does to its own store is beyond this defence; what a process accepted itself it
/// still knows.
#[tokio::test]
async fn a_wiped_store_lets_a_process_accept_nothing_twice() {
    let mut mesh = Mesh::new();
    let (alice, bob, bucket) = scene(&mut mesh).await;
    let _service = work(&bob, "tasks.>").await;
    let copy = sealed(&draft(mesh.now(), Action::Publish, "tasks.a"), &alice);
    for sent in 1..=3 {
        mesh.forge(&copy);
        assert_eq!(settled(&bob, sent).await.handler_runs, 1);
        bucket.wipe();
    }
}

#[tokio::test]
async fn groups_patterns_and_agents_do_not_take_each_others_messages() {
    let mut mesh = Mesh::new();
    let (alice, bob, _) = scene(&mut mesh).await;
    let carol = mesh.join("carol", &["sub:tasks.>"]).await;
    let open = async |client: &Client, pattern: &str, group: Option<&str>| {
        let mut tasks = client.subscription(pattern.to_owned()).shared_replay();
        if let Some(group) = group {
            tasks = tasks.queue(group);
        }
        tasks.subscribe().await.unwrap()
    };
    let mut all = vec![
        open(&bob, "tasks.*", None).await,
        open(&bob, "tasks.>", None).await,
        open(&carol, "tasks.*", None).await,
        open(&bob, "tasks.*", Some("g")).await,
        open(&carol, "tasks.*", Some("h")).await,
    ];
    alice.publish("tasks.a", "x".into()).await.unwrap();
    for tasks in &mut all {
        assert_eq!(message(tasks).await.payload, "x");
    }
}

#[tokio::test]
async fn no_more_messages_are_claimed_than_are_to_come_out() {
    let mut mesh = Mesh::new();
    let (alice, bob, bucket) = scene(&mut mesh).await;
    let tasks = bob.subscription("tasks.>").shared_replay();
    let mut tasks = tasks.subscribe().await.unwrap();
    tasks.unsubscribe_after(3).await.unwrap();
    for _ in 0..10 {
        alice.publish("tasks.a", "x".into()).await.unwrap();
    }
    let all: Vec<_> = tasks.collect().await;
    assert_eq!((all.len(), bucket.len()), (3, 3));
    assert!(balances(&bob.counters()));
}

#[tokio::test]
async fn a_read_that_is_given_up_loses_nothing() {
    let mut mesh = Mesh::new();
    let (alice, bob, bucket) = scene(&mut mesh).await;
    let tasks = bob.subscription("tasks.>").shared_replay();
    let mut tasks = tasks.subscribe().await.unwrap();
    tokio::time::pause();
    bucket.set_delay(Duration::from_millis(500));
    for number in 0..5 {
        let payload = number.to_string().into();
        alice.publish("tasks.a", payload).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let short = Duration::from_millis(50);
        if let Ok(task) = tokio::time::timeout(short, tasks.next()).await {
            seen.push(String::from_utf8(task.unwrap().payload.to_vec()).unwrap());
        }
    }
    assert_eq!(seen, ["0", "1", "2", "3", "4"]);
    assert!(balances(&bob.counters()));
}

/// The same over JetStream: while there is no bucket to claim in, nothing is taken, and nothing is
/// lost.
#[tokio::test]
async fn without_its_bucket_a_member_takes_nothing_and_then_goes_on() {
    let server = nats::jetstream().await;
    let mut mesh = Mesh::new();
    let (alice, workers) = staff(&mut mesh, server).await;
    let bob = server.enter(mesh.options(workers[0].clone())).await;
    let subject = format!("tasks.{}", unique());
    let _service = work(&bob, &subject).await;
    let raw = async_nats::connect(server.url()).await.unwrap();
    let bucket = format!("KV_TRUSTMESH_REPLAY_{}", mesh.authority.mesh());
    let delete = format!("$JS.API.STREAM.DELETE.{bucket}");
    raw.request(delete, "".into()).await.unwrap();
    let copy = sealed(&draft(mesh.now(), Action::Publish, &subject), &alice);
    server.send(&copy).await;
    let counters = settled(&bob, 1).await;
    assert_eq!(counters.denied_of(Class::Overloaded), 1);
    assert_eq!(counters.handler_runs, 0);
    // Another member opens the bucket, and with that makes it.
    let other = server.enter(mesh.options(workers[1].clone())).await;
    let elsewhere = format!("tasks.{}", unique());
    let _other = work(&other, &elsewhere).await;
    for sent in 2..=3 {
        server.send(&copy).await;
        assert_eq!(settled(&bob, sent).await.handler_runs, 1);
    }
}

#[tokio::test]
async fn where_the_store_cannot_be_used_nothing_is_subscribed_to() {
    let mut mesh = Mesh::new();
    let (_, bob, bucket) = scene(&mut mesh).await;
    let inbox = format!("{}.x", inbox_prefix(&bob.key()));
    let refused = bob.subscription(inbox).shared_replay().subscribe().await;
    assert_eq!(refused.unwrap_err().kind(), SubscribeErrorKind::Other);
    drop(bucket);

    // A server without JetStream has no store.
    let (plain, mut mesh) = (nats::shared().await, Mesh::new());
    let carol = mesh.authority.agent("carol", ["sub:tasks.>"]).unwrap();
    let carol = plain.enter(mesh.options(carol)).await;
    let refused = carol.subscription("tasks.>").shared_replay();
    let refused = refused.subscribe().await.unwrap_err();
    assert_eq!(refused.kind(), SubscribeErrorKind::Other);
    let ours = refused.source().expect("what cannot be used");
    let store = ours.source().and_then(|why| why.downcast_ref());
    assert!(
        matches!(store, Some(StoreError::Unreachable(_))),
        "{refused:?}"
    );
    carol.subscribe("tasks.>").await.unwrap();
}
