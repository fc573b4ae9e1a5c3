//! The in-process bus misbehaves exactly as told, and repeatably.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use trustmesh::bus::Bus;
use trustmesh::bus::BusSubscriber;
use trustmesh::bus::Delivery;
use trustmesh::bus::HeaderMap;
use trustmesh::bus::Outgoing;
use trustmesh::bus::StatusCode;
use trustmesh::bus::faults::Fault;
use trustmesh::bus::faults::Faults;
use trustmesh::bus::faults::Rule;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::bus::memory::MemoryConnection;
use trustmesh::bus::memory::MemoryOptions;

use crate::support::arrived;
use crate::support::next;
use crate::support::settle;

async fn listen(connection: &MemoryConnection, subject: &str) -> BusSubscriber {
    connection.subscribe(subject.into(), None).await.unwrap()
}

async fn publish(connection: &MemoryConnection, subject: &str, messages: &[&str]) {
    for message in messages {
        let message = Outgoing::new(subject, message.to_string());
        connection.publish(message).await.unwrap();
    }
}

/// What is left of the messages 0 to 99 under `rule`.
async fn fate(seed: u64, rule: Rule) -> Vec<String> {
    let bus = MemoryBus::new();
    let connection = bus.connect();
    let mut subscriber = listen(&connection, "a.b").await;
    bus.inject(Faults::seeded(seed).with(rule));
    for number in 0..100 {
        let message = Outgoing::new("a.b", number.to_string());
        connection.publish(message).await.unwrap();
    }
    bus.heal();
    arrived(&mut subscriber)
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn rules_choose_by_pattern_count_and_chance() {
    assert!(fate(1, Rule::on("a.*", Fault::Drop)).await.is_empty());
    assert_eq!(fate(1, Rule::on("b.*", Fault::Drop)).await, numbers(0..100));
    assert_eq!(
        fate(1, Rule::on(">", Fault::Drop).times(3)).await,
        numbers(3..100)
    );
    let left = fate(1, Rule::on("a.b", Fault::Drop).chance(0.5))
        .await
        .len();
    assert!((25..75).contains(&left), "{left}");
    assert_eq!(
        fate(1, Rule::on("a.b", Fault::Drop).chance(0.0))
            .await
            .len(),
        100
    );
}

#[tokio::test]
async fn the_same_seed_means_the_same_fate() {
    for fault in [
        Fault::Drop,
        Fault::Duplicate(2),
        Fault::Reorder(10),
        Fault::Corrupt,
    ] {
        let rule = || Rule::on("a.b", fault.clone()).chance(0.4);
        assert_eq!(fate(7, rule()).await, fate(7, rule()).await);
        assert_ne!(fate(7, rule()).await, fate(8, rule()).await, "{fault:?}");
    }
}

#[tokio::test]
async fn duplicates_are_as_many_as_asked_for() {
    let left = fate(1, Rule::on("a.b", Fault::Duplicate(2)).times(1)).await;
    assert_eq!(left[..4], ["0", "0", "0", "1"]);
    assert_eq!(left.len(), 102);
}

#[tokio::test]
async fn reordering_loses_nothing() {
    let mut left = fate(1, Rule::on("a.b", Fault::Reorder(30))).await;
    assert_ne!(left, numbers(0..100));
    assert_eq!(
        left[90..],
        numbers(90..100),
        "healing releases what was held, in order"
    );
    left.sort_by_key(|number| number.parse::<u32>().unwrap());
    assert_eq!(left, numbers(0..100));
}

#[tokio::test]
async fn corruption_flips_one_bit() {
    let bus = MemoryBus::new();
    let connection = bus.connect();
    let mut subscriber = listen(&connection, "a").await;
    bus.inject(Faults::seeded(3).with(Rule::on("a", Fault::Corrupt)));
    for _ in 0..50 {
        connection
            .publish(Outgoing::new("a", vec![0; 8]))
            .await
            .unwrap();
        let bits = next(&mut subscriber).await.payload;
        assert_eq!(bits.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    }
    connection.publish(Outgoing::new("a", "")).await.unwrap();
    assert!(next(&mut subscriber).await.payload.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_is_overtaken() {
    let bus = MemoryBus::new();
    let connection = bus.connect();
    let mut subscriber = listen(&connection, "a").await;
    let delay = Duration::from_secs(9);
    bus.inject(Faults::seeded(0).with(Rule::on("a", Fault::Delay(delay)).times(1)));
    let start = Instant::now();
    publish(&connection, "a", &["slow", "fast"]).await;
    assert_eq!(next(&mut subscriber).await.payload, "fast");
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(next(&mut subscriber).await.payload, "slow");
    assert!(start.elapsed() >= delay, "{:?}", start.elapsed());
}

#[tokio::test]
async fn subjects_replies_and_headers_can_be_rewritten() {
    let bus = MemoryBus::new();
    let connection = bus.connect();
    let (mut a, mut b) = (
        listen(&connection, "a").await,
        listen(&connection, "b").await,
    );
    let mut headers = HeaderMap::new();
    headers.insert("Priority", "high");
    bus.inject(
        Faults::seeded(0)
            .with(Rule::on("a", Fault::Reroute("b".into())).times(1))
            .with(Rule::on("c", Fault::Reply(Some("$JS.API".into()))))
            .with(Rule::on("c", Fault::Headers(Some(headers))))
            .with(Rule::on("c", Fault::Reroute("b".into())))
            .with(Rule::on("c", Fault::Relabel("z".into())))
            .with(Rule::on(
                "d",
                Fault::alter(|delivery| delivery.payload = "altered".into()),
            ))
            .with(Rule::on("d", Fault::Reroute("a".into()))),
    );
    publish(&connection, "a", &["rerouted", "untouched"]).await;
    let message = next(&mut b).await;
    assert_eq!(
        (message.subject.as_str(), &message.payload[..]),
        ("b", &b"rerouted"[..])
    );
    assert_eq!(next(&mut a).await.payload, "untouched");

    publish(&connection, "c", &["c"]).await;
    let message = next(&mut b).await;
    assert_eq!(message.subject.as_str(), "z");
    assert_eq!(message.reply.as_deref(), Some("$JS.API"));
    assert!(message.headers.unwrap().get("Priority").is_some());

    publish(&connection, "d", &["d"]).await;
    let message = next(&mut a).await;
    assert_eq!(
        (message.subject.as_str(), &message.payload[..]),
        ("a", &b"altered"[..])
    );
}

#[tokio::test]
async fn a_dropped_request_is_silence_not_a_refusal() {
    let bus = MemoryBus::new();
    let connection = bus.connect();
    let mut answers = listen(&connection, "inbox").await;
    bus.inject(Faults::seeded(0).with(Rule::on("service", Fault::Drop)));
    let request = || Outgoing::new("service", "?").with_reply("inbox");
    connection.publish(request()).await.unwrap();
    assert!(arrived(&mut answers).is_empty());
    bus.heal();
    connection.publish(request()).await.unwrap();
    assert_eq!(
        next(&mut answers).await.status,
        Some(StatusCode::NO_RESPONDERS)
    );
}

#[tokio::test]
async fn what_nobody_published_can_be_delivered() {
    let bus = MemoryBus::new();
    let connection = bus.connect();
    let (mut a, mut all) = (
        listen(&connection, "a").await,
        listen(&connection, ">").await,
    );
    let forged = Delivery {
        reply: Some("b".into()),
        status: Some(StatusCode::TIMEOUT),
        description: Some("Forged".to_owned()),
        ..Outgoing::new("a", "x").into()
    };
    assert_eq!(bus.forge(forged.clone()), 2);
    let message = next(&mut a).await;
    assert_eq!(
        (message.status, message.reply),
        (forged.status, forged.reply.clone())
    );
    assert_eq!(next(&mut all).await.description, forged.description);
    assert_eq!(bus.forge_at("elsewhere", forged), 1);
    assert_eq!(next(&mut all).await.subject.as_str(), "a");
    assert!(arrived(&mut a).is_empty());
    assert_eq!(
        connection.statistics().out_messages.load(Ordering::Relaxed),
        0
    );
}

#[tokio::test]
async fn a_tap_records_what_was_published_for_replay() {
    let bus = MemoryBus::new();
    let connection = bus.connect();
    publish(&connection, "a", &["unrecorded"]).await;
    let tap = bus.tap();
    bus.inject(Faults::seeded(0).with(Rule::on("a", Fault::Drop)));
    let message = Outgoing::new("a", "secret").with_reply("b");
    connection.publish(message).await.unwrap();
    let recorded = tap.take();
    assert_eq!(recorded.len(), 1);
    assert_eq!(recorded[0].reply.as_deref(), Some("b"));

    let mut subscriber = listen(&connection, "a").await;
    assert_eq!(bus.forge(recorded[0].clone()), 1);
    assert_eq!(next(&mut subscriber).await.payload, "secret");
    assert!(tap.take().is_empty(), "a replay is not published");
}

#[tokio::test]
async fn dropped_messages_are_counted() {
    let bus = MemoryBus::new();
    let connection = bus.connect_with(MemoryOptions::default().subscription_capacity(1));
    let mut subscriber = listen(&connection, "a").await;
    publish(&connection, "a", &["1", "2", "3"]).await;
    settle(&connection).await;
    assert_eq!(connection.dropped(), 2);
    assert_eq!(arrived(&mut subscriber), ["1"]);
}

#[test]
fn publishing_needs_no_runtime() {
    let bus = MemoryBus::new();
    let connection = bus.connect();
    bus.inject(Faults::seeded(0).with(Rule::on("a", Fault::Delay(Duration::from_secs(1)))));
    let first = futures::executor::block_on(async {
        let mut subscriber = listen(&connection, "a").await;
        publish(&connection, "a", &["x"]).await;
        futures::StreamExt::next(&mut subscriber).await
    });
    assert_eq!(first.unwrap().payload, "x");
}
