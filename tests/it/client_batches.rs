//! Messages that are signed together: every one verified, each once, in order, nothing lost.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::join_all;
use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::Subscriber;
use trustmesh::bus::Bus as _;
use trustmesh::bus::PublishErrorKind;
use trustmesh::services::authority::Authority;

use super::support::eventually;
use super::support::mesh::Mesh;
use super::support::mesh::message;
use super::support::nats;

const EVERYTHING: [&str; 1] = ["pub+sub+req+serve:work.>"];

/// Publishes `count` numbers without a pause.
async fn burst(client: &Client, count: u32) {
    for number in 0..count {
        let payload = Bytes::copy_from_slice(&number.to_be_bytes());
        client.publish("work.item", payload).await.unwrap();
    }
}

/// Receives `count` numbers in order, and counts them by mode.
async fn received(subscriber: &mut Subscriber, count: u32) -> BTreeMap<u8, u32> {
    let mut modes = BTreeMap::new();
    for number in 0..count {
        let message = message(subscriber).await;
        assert_eq!(message.payload[..], number.to_be_bytes());
        *modes.entry(message.verified().claims().mode).or_default() += 1;
    }
    modes
}

#[tokio::test]
async fn a_burst_is_signed_together_and_arrives_in_order() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &EVERYTHING).await;
    let bob = mesh.join("bob", &EVERYTHING).await;
    let mut items = bob.subscribe("work.>").await.unwrap();
    burst(&alice, 2_000).await;
    let modes = received(&mut items, 2_000).await;
    assert_eq!(modes[&1] + modes[&2], 2_000, "{modes:?}");
    assert!(modes[&2] > 1_900, "{modes:?}");
    let counters = bob.counters();
    assert_eq!((counters.allowed, counters.denied_total()), (2_000, 0));
}

#[tokio::test]
async fn the_first_message_is_signed_alone() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &EVERYTHING).await;
    let mut items = alice.subscribe("work.>").await.unwrap();
    burst(&alice, 1).await;
    assert_eq!(received(&mut items, 1).await, BTreeMap::from([(1, 1)]));
}

/// Signed policy says which subjects take batches, and the sender obeys: nothing is refused.
#[tokio::test]
async fn where_policy_allows_no_batches_each_message_is_signed_alone() {
    let rules = r#"{ "name": "single", "effect": "allow", "actions": ["pub"],
                     "subjects": "work.>", "modes": [1] }"#;
    let mut mesh = Mesh::ruled(rules);
    let alice = mesh.join("alice", &EVERYTHING).await;
    let bob = mesh.join("bob", &EVERYTHING).await;
    let mut items = bob.subscribe("work.>").await.unwrap();
    burst(&alice, 300).await;
    assert_eq!(received(&mut items, 300).await, BTreeMap::from([(1, 300)]));
    assert_eq!(bob.counters().denied_total(), 0);
}

#[tokio::test]
async fn requests_and_answers_are_signed_together_too() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &EVERYTHING).await;
    let bob = mesh.join("bob", &EVERYTHING).await;
    let echo = |message: trustmesh::Message| async move { Ok::<_, String>(message.payload) };
    let _service = bob.serve("work.echo", echo).await.unwrap();
    let ask = |number: u32| alice.request("work.echo", number.to_string().into());
    let answers = join_all((0..128).map(ask)).await;
    let mut batched = 0;
    for (number, answer) in answers.into_iter().enumerate() {
        let answer = answer.unwrap();
        assert_eq!(answer.payload, number.to_string());
        batched += u32::from(answer.verified().claims().mode == 2);
    }
    assert!(batched > 64, "{batched} of 128 answers");
}

/// What was taken is on the bus once flushed, and still gets there when the client is dropped.
#[tokio::test]
async fn nothing_taken_is_lost() {
    let mut mesh = Mesh::new();
    let plain = mesh.bus.connect();
    let mut frames = plain.subscribe("work.>".into(), None).await.unwrap();
    let alice = mesh.join("alice", &EVERYTHING).await;
    burst(&alice, 700).await;
    alice.flush().await.unwrap();
    for number in 0..700 {
        let delivery = super::support::next(&mut frames).await;
        let payload = u32::to_be_bytes(number);
        assert!(delivery.payload.ends_with(&payload), "{number}");
    }
    burst(&alice, 700).await;
    drop(alice);
    for _ in 0..700 {
        super::support::next(&mut frames).await;
    }
    let bob = mesh.join("bob", &EVERYTHING).await;
    burst(&bob, 700).await;
    bob.drain().await.unwrap();
    for _ in 0..700 {
        super::support::next(&mut frames).await;
    }
    let late = bob.publish("work.item", "late".into()).await.unwrap_err();
    assert_eq!(late.kind(), PublishErrorKind::Send);
}

/// FR-1, FR-5: one message of a batch, delivered again, is a replay, and the rest of its batch is
/// not.
#[tokio::test]
async fn a_replayed_part_of_a_batch_is_a_replay() {
    let mut mesh = Mesh::new();
    let plain = mesh.bus.connect();
    let mut frames = plain.subscribe("work.>".into(), None).await.unwrap();
    let alice = mesh.join("alice", &EVERYTHING).await;
    let bob = mesh.join("bob", &EVERYTHING).await;
    let mut items = bob.subscribe("work.>").await.unwrap();
    burst(&alice, 40).await;
    let mut recorded = Vec::new();
    for _ in 0..40 {
        recorded.push(super::support::next(&mut frames).await);
    }
    received(&mut items, 40).await;
    for frame in &recorded {
        let again = trustmesh::bus::Outgoing::new("work.item", frame.payload.clone());
        mesh.forge(&again);
    }
    // Only a subscription that is polled refuses.
    let polling = tokio::spawn(async move { items.next().await.map(|_| ()) });
    eventually("every copy is refused", || {
        bob.counters()
            .denied_of(trustmesh::proto::rejection::Class::Replay)
            == 40
    })
    .await;
    polling.abort();
    assert_eq!(bob.counters().allowed, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_nats_a_burst_arrives_whole_and_in_order() {
    let server = nats::shared().await;
    let mut mesh = Authority::dev("burst").unwrap();
    let subject = format!("work.{}", super::support::unique());
    let mut clients = Vec::new();
    for id in ["alice", "bob"] {
        let identity = mesh.agent(id, EVERYTHING).unwrap();
        let options = ConnectOptions::new(identity);
        clients.push(options.connect(server.url()).await.unwrap());
    }
    let (alice, bob) = (&clients[0], &clients[1]);
    let mut items = bob.subscribe(subject.clone()).await.unwrap();
    bob.flush().await.unwrap();
    // A message that came proves the subscription, whatever the server did first.
    let probe = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            alice
                .publish(subject.clone(), "probe".into())
                .await
                .unwrap();
            let soon = Duration::from_millis(50);
            if let Ok(Some(_)) = tokio::time::timeout(soon, items.next()).await {
                return;
            }
        }
    });
    probe.await.unwrap();
    let sender = alice.clone();
    let sending = tokio::spawn(async move {
        for number in 0..5_000_u32 {
            let payload = Bytes::copy_from_slice(&number.to_be_bytes());
            sender.publish(subject.clone(), payload).await.unwrap();
        }
    });
    let mut modes = BTreeMap::<u8, u32>::new();
    let mut number = 0_u32;
    while number < 5_000 {
        let message = message(&mut items).await;
        if message.payload == "probe" {
            continue;
        }
        assert_eq!(message.payload[..], number.to_be_bytes());
        *modes.entry(message.verified().claims().mode).or_default() += 1;
        number += 1;
    }
    sending.await.unwrap();
    assert!(modes[&2] > 4_000, "{modes:?}");
}
