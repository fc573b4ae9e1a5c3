//! One suite for every bus's store: the in-process one must do what JetStream does.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use serde_json::Value;
use serde_json::json;
use trustmesh::bus::Bus;
use trustmesh::bus::ConnectOptions;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::bus::nats::NatsBus;
use trustmesh::bus::store::BucketConfig;
use trustmesh::bus::store::Entry;
use trustmesh::bus::store::Expect;
use trustmesh::bus::store::Store;
use trustmesh::bus::store::StoreError;

use crate::support::PATIENCE;
use crate::support::nats;
use crate::support::unique;

/// A server with a store, and what whoever runs it can do.
trait Server {
    async fn connect(&self) -> Arc<dyn Bus>;

    /// Removes every entry.
    async fn wipe(&self, bucket: &str);

    /// Writes what nobody wrote.
    async fn overwrite(&self, bucket: &str, key: &str, value: Bytes);

    async fn open(&self, config: &BucketConfig) -> Arc<dyn Store> {
        let opened = self.connect().await.store(config).await;
        opened.expect("the bucket opens")
    }
}

impl Server for MemoryBus {
    async fn connect(&self) -> Arc<dyn Bus> {
        Arc::new(MemoryBus::connect(self))
    }

    async fn wipe(&self, bucket: &str) {
        self.bucket(bucket).wipe();
    }

    async fn overwrite(&self, bucket: &str, key: &str, value: Bytes) {
        self.bucket(bucket).overwrite(key, value);
    }
}

impl Server for nats::NatsServer {
    async fn connect(&self) -> Arc<dyn Bus> {
        let bus = NatsBus::connect(self.url(), ConnectOptions::new()).await;
        Arc::new(bus.expect("the server is up"))
    }

    async fn wipe(&self, bucket: &str) {
        ask(
            self,
            &format!("$JS.API.STREAM.PURGE.KV_{bucket}"),
            json!({}),
        )
        .await;
    }

    async fn overwrite(&self, bucket: &str, key: &str, value: Bytes) {
        let raw = raw(self).await;
        let put = raw.request(format!("$KV.{bucket}.{key}"), value).await;
        put.expect("the server takes it");
    }
}

/// Somebody else on the bus, who may do what the protocol allows.
async fn raw(server: &nats::NatsServer) -> async_nats::Client {
    let client = async_nats::connect(server.url()).await;
    client.expect("the server is up")
}

async fn ask(server: &nats::NatsServer, subject: &str, body: Value) -> Value {
    let raw = raw(server).await;
    let answer = raw
        .request(subject.to_owned(), body.to_string().into())
        .await;
    serde_json::from_slice(&answer.expect("an answer").payload).expect("JSON")
}

fn config() -> BucketConfig {
    BucketConfig::new(unique())
}

/// Runs each claim on each bus.
macro_rules! on_every_bus {
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

on_every_bus! {
    of_many_who_create_a_key_one_succeeds
    a_write_happens_only_on_what_was_expected
    what_is_removed_leaves_nothing
    a_wiped_bucket_is_empty_and_goes_on
    an_entry_is_gone_after_its_age_and_can_be_created_once
    a_bucket_configured_otherwise_is_not_used
    many_may_open_a_bucket_at_once
    a_bucket_that_must_exist_is_not_created
    a_value_beyond_the_limit_is_an_error_both_ways
    a_full_bucket_refuses_and_forgets_nothing
    keys_are_listed_by_prefix_and_no_more_than_asked
    malformed_names_are_refused
    a_closed_connection_has_no_store
}

async fn of_many_who_create_a_key_one_succeeds(server: &impl Server) {
    let config = config();
    let connections = [server.open(&config).await, server.open(&config).await];
    let create = |n: usize| {
        let store = connections[n % 2].clone();
        async move { store.put("k", n.to_string().into(), Expect::Absent).await }
    };
    let outcomes = join_all((0..64).map(create)).await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.iter().partition(|outcome| outcome.is_ok());
    assert_eq!((won.len(), lost.len()), (1, 63));
    assert!(
        lost.iter().all(|o| **o == Err(StoreError::Conflict)),
        "{lost:?}"
    );
    let winner = outcomes.iter().position(Result::is_ok).unwrap();
    let entry = connections[0].get("k").await.unwrap().unwrap();
    assert_eq!(entry.value, winner.to_string());
}

async fn a_write_happens_only_on_what_was_expected(server: &impl Server) {
    let store = server.open(&config()).await;
    for revision in [0, 1, 7] {
        let refused = store
            .put("k", "no".into(), Expect::Revision(revision))
            .await;
        assert_eq!(refused, Err(StoreError::Conflict));
    }
    assert_eq!(store.get("k").await, Ok(None));
    let first = store.put("k", "a".into(), Expect::Absent).await.unwrap();
    let other = store.put("l", "x".into(), Expect::Any).await.unwrap();
    let second = store
        .put("k", "b".into(), Expect::Revision(first))
        .await
        .unwrap();
    assert!(first < other && other < second);
    let late = store.put("k", "c".into(), Expect::Revision(first)).await;
    assert_eq!(late, Err(StoreError::Conflict));
    let value = Bytes::from_static(b"b");
    let entry = Entry {
        value,
        revision: second,
    };
    assert_eq!(store.get("k").await, Ok(Some(entry)));
    store.put("k", "".into(), Expect::Any).await.unwrap();
    assert_eq!(store.get("k").await.unwrap().unwrap().value, "");
}

async fn what_is_removed_leaves_nothing(server: &impl Server) {
    let store = server.open(&config()).await;
    for _ in 0..3 {
        let made = store.put("a.b", "v".into(), Expect::Absent).await.unwrap();
        store.remove("a.b").await.unwrap();
        assert_eq!(store.get("a.b").await, Ok(None));
        let late = store.put("a.b", "v".into(), Expect::Revision(made)).await;
        assert_eq!(late, Err(StoreError::Conflict));
        assert_eq!(store.keys("", 10).await, Ok(Vec::new()));
    }
    store.remove("never.there").await.unwrap();
}

async fn a_wiped_bucket_is_empty_and_goes_on(server: &impl Server) {
    let config = config();
    let store = server.open(&config).await;
    let made = store.put("k", "v".into(), Expect::Absent).await.unwrap();
    server.wipe(&config.name).await;
    assert_eq!(store.get("k").await, Ok(None));
    let late = store.put("k", "w".into(), Expect::Revision(made)).await;
    assert_eq!(late, Err(StoreError::Conflict));
    assert!(store.put("k", "w".into(), Expect::Absent).await.unwrap() > made);
}

async fn an_entry_is_gone_after_its_age_and_can_be_created_once(server: &impl Server) {
    let config = config().with_max_age(Duration::from_millis(300));
    let store = server.open(&config).await;
    store.put("k", "v".into(), Expect::Absent).await.unwrap();
    let early = store.put("k", "v".into(), Expect::Absent).await;
    assert_eq!(early, Err(StoreError::Conflict));
    let gone = async {
        while store.get("k").await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it ages");
    let create = || store.put("k", "v".into(), Expect::Absent);
    let again = join_all((0..16).map(|_| create())).await;
    assert_eq!(again.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

async fn a_bucket_configured_otherwise_is_not_used(server: &impl Server) {
    let config = config().with_max_age(Duration::from_secs(60));
    server.open(&config).await;
    server.open(&config.clone().existing()).await;
    let bus = server.connect().await;
    let age = |seconds| Duration::from_secs(seconds);
    for other in [
        config.clone().with_max_age(age(61)),
        config.clone().with_max_bytes(1 << 20),
        config.clone().with_max_value_bytes(1000),
        BucketConfig {
            max_age: None,
            ..config.clone()
        },
    ] {
        for other in [other.clone(), other.existing()] {
            let refused = bus.store(&other).await.unwrap_err();
            assert!(matches!(refused, StoreError::Config(_)), "{refused:?}");
        }
    }
}

async fn many_may_open_a_bucket_at_once(server: &impl Server) {
    let config = config();
    let stores = join_all((0..16).map(|_| server.open(&config))).await;
    for (n, store) in stores.iter().enumerate() {
        let put = store.put("k", "v".into(), Expect::Absent).await;
        assert_eq!(put.is_ok(), n == 0);
    }
}

async fn a_bucket_that_must_exist_is_not_created(server: &impl Server) {
    let bus = server.connect().await;
    let config = config();
    for _ in 0..2 {
        let refused = bus.store(&config.clone().existing()).await.unwrap_err();
        assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
    }
    bus.store(&config).await.unwrap();
    bus.store(&config.existing()).await.unwrap();
}

async fn a_value_beyond_the_limit_is_an_error_both_ways(server: &impl Server) {
    let config = config().with_max_value_bytes(100);
    let store = server.open(&config).await;
    let large = Bytes::from(vec![7; 101]);
    let too_large = StoreError::TooLarge {
        bytes: 101,
        most: 100,
    };
    let put = store.put("k", large.clone(), Expect::Any).await;
    assert_eq!(put, Err(too_large.clone()));
    store.put("k", large.slice(1..), Expect::Any).await.unwrap();
    server.overwrite(&config.name, "k", large).await;
    assert_eq!(store.get("k").await, Err(too_large));
    // It is there all the same.
    let create = store.put("k", "v".into(), Expect::Absent).await;
    assert_eq!(create, Err(StoreError::Conflict));
}

async fn a_full_bucket_refuses_and_forgets_nothing(server: &impl Server) {
    let store = server.open(&config().with_max_bytes(4_000)).await;
    let value = Bytes::from(vec![0; 500]);
    let mut held = 0;
    let refused = loop {
        let put = store
            .put(&format!("k{held}"), value.clone(), Expect::Absent)
            .await;
        match put {
            Ok(_) => held += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
    assert!((4..8).contains(&held), "{held}");
    assert_eq!(store.keys("", 100).await.unwrap().len(), held);
    store.remove("k0").await.unwrap();
    store.put("k0", value, Expect::Absent).await.unwrap();
}

async fn keys_are_listed_by_prefix_and_no_more_than_asked(server: &impl Server) {
    let store = server.open(&config()).await;
    for key in ["head", "part.a", "part.ab", "part.b", "partner", "p"] {
        store.put(key, "v".into(), Expect::Absent).await.unwrap();
    }
    let list = async |prefix, most| store.keys(prefix, most).await.unwrap();
    assert_eq!(list("part.", 10).await, ["part.a", "part.ab", "part.b"]);
    assert_eq!(list("part.a", 10).await, ["part.a", "part.ab"]);
    assert_eq!(list("part", 10).await.len(), 4);
    assert_eq!(list("", 10).await.len(), 6);
    assert_eq!(list("", 4).await.len(), 4);
    assert!(list("none", 10).await.is_empty());
    assert!(list("", 0).await.is_empty());
}

async fn malformed_names_are_refused(server: &impl Server) {
    let bus = server.connect().await;
    let long = "b".repeat(65);
    for name in ["", "a.b", "a b", "a\r\nPUB x 0\r\n", "*", "ü", &long] {
        let refused = bus.store(&BucketConfig::new(name)).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Invalid(_)),
            "{name:?}: {refused:?}"
        );
    }
    let store = bus.store(&config()).await.unwrap();
    // The counter of messages sent shows that none was.
    let sent = || {
        let statistics = bus.statistics();
        statistics
            .out_messages
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    let before = sent();
    for key in [
        "",
        ".",
        "a..b",
        "a b",
        "a\r\nPUB x 0\r\n",
        "*",
        "a.>",
        "ü",
        "a/b",
    ] {
        let invalid = StoreError::Invalid("the key");
        assert_eq!(store.get(key).await, Err(invalid.clone()), "{key:?}");
        assert_eq!(store.remove(key).await, Err(invalid.clone()), "{key:?}");
        let put = store.put(key, "v".into(), Expect::Any).await;
        assert_eq!(put, Err(invalid), "{key:?}");
    }
    assert!(store.keys("a.>", 10).await.is_err());
    assert_eq!(sent(), before);
}

async fn a_closed_connection_has_no_store(server: &impl Server) {
    let bus = server.connect().await;
    let config = config();
    let store = bus.store(&config).await.unwrap();
    bus.drain().await.unwrap();
    let gone = [
        store.get("k").await.unwrap_err(),
        store.put("k", "v".into(), Expect::Any).await.unwrap_err(),
        bus.store(&config).await.unwrap_err(),
    ];
    for gone in gone {
        assert!(matches!(gone, StoreError::Unreachable(_)), "{gone:?}");
    }
}

#[tokio::test]
async fn a_key_marked_deleted_by_another_client_is_absent_and_can_be_created_once() {
    let server = nats::jetstream().await;
    let config = config();
    let store = server.open(&config).await;
    let raw = raw(server).await;
    for operation in ["DEL", "PURGE"] {
        store.put("k", "v".into(), Expect::Any).await.unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", operation);
        let subject = format!("$KV.{}.k", config.name);
        let request = async_nats::Request::new().headers(headers);
        raw.send_request(subject, request).await.unwrap();
        assert_eq!(store.get("k").await, Ok(None));
        let create = || store.put("k", "v".into(), Expect::Absent);
        let created = join_all((0..16).map(|_| create())).await;
        assert_eq!(created.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        assert!(created.contains(&Err(StoreError::Conflict)));
    }
}

/// One header with a bare carriage return ends the connection of every `async_nats` client that is
/// delivered it.
#[tokio::test]
async fn a_stored_bare_carriage_return_harms_no_reader() {
    let server = nats::jetstream().await;
    let config = config();
    let bus = server.connect().await;
    let store = bus.store(&config).await.unwrap();
    let subject = format!("$KV.{}.k", config.name);
    hostile_publish(server, &subject, "X: a\rb", "poison").await;
    let read = async {
        loop {
            match store.get("k").await.unwrap() {
                Some(entry) => break entry,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let entry = tokio::time::timeout(PATIENCE, read).await.unwrap();
    assert_eq!(entry.value, "poison");
    store
        .put("k", "v".into(), Expect::Revision(entry.revision))
        .await
        .unwrap();
    assert_eq!(bus.redials(), 0);
}

#[tokio::test]
async fn one_message_can_neither_empty_a_bucket_nor_delete_from_it() {
    let server = nats::jetstream().await;
    let config = config();
    let store = server.open(&config).await;
    store.put("k", "v".into(), Expect::Absent).await.unwrap();
    let raw = raw(server).await;
    for scope in ["all", "sub"] {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Rollup", scope);
        let request = async_nats::Request::new().headers(headers);
        let subject = format!("$KV.{}.other", config.name);
        let answer = raw.send_request(subject, request).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert!(answer["error"].is_object(), "{answer}");
    }
    let delete = format!("$JS.API.STREAM.MSG.DELETE.KV_{}", config.name);
    let answer = ask(server, &delete, json!({ "seq": 1 })).await;
    assert!(answer["error"].is_object(), "{answer}");
    assert!(store.get("k").await.unwrap().is_some());
}

#[tokio::test]
async fn a_squatted_message_id_swallows_no_write() {
    let server = nats::jetstream().await;
    let config = config();
    let store = server.open(&config).await;
    let raw = raw(server).await;
    for id in ["k", "v", "0", "1"] {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        let request = async_nats::Request::new().headers(headers);
        let subject = format!("$KV.{}.squat", config.name);
        raw.send_request(subject, request).await.unwrap();
    }
    store.put("k", "v".into(), Expect::Absent).await.unwrap();
    assert_eq!(store.get("k").await.unwrap().unwrap().value, "v");
}

/// Answers in the server's place: acknowledgements of a duplicate, of another stream, of nothing.
#[tokio::test]
async fn an_acknowledgement_that_is_none_is_an_error() {
    let server = nats::NatsServer::start().await;
    let raw = raw(&server).await;
    let mut asked = raw.subscribe("$JS.API.>").await.unwrap();
    let mut puts = raw.subscribe("$KV.>").await.unwrap();
    raw.flush().await.unwrap();
    let config = config().with_timeout(Duration::from_millis(500));
    let bus = server.connect().await;
    let stream = format!("KV_{}", config.name);
    let server_side = async {
        let info = asked.next().await.unwrap();
        let missing = json!({"error": {"code": 404, "err_code": 10059, "description": "none"}});
        let reply = info.reply.unwrap();
        raw.publish(reply, missing.to_string().into())
            .await
            .unwrap();
        let create = asked.next().await.unwrap();
        let body: Value = serde_json::from_slice(&create.payload).unwrap();
        let done = json!({ "config": body }).to_string();
        raw.publish(create.reply.unwrap(), done.into())
            .await
            .unwrap();
        for ack in [
            json!({"stream": stream, "seq": 3, "duplicate": true}).to_string(),
            json!({"stream": "KV_other", "seq": 3}).to_string(),
            json!({"stream": stream, "seq": 0}).to_string(),
            "+OK".to_owned(),
            String::new(),
        ] {
            let put = puts.next().await.unwrap();
            raw.publish(put.reply.unwrap(), ack.into()).await.unwrap();
        }
        // The last is not answered at all.
        puts.next().await.unwrap();
    };
    let client_side = async {
        let store = bus.store(&config).await.unwrap();
        for _ in 0..5 {
            let put = store.put("k", "v".into(), Expect::Absent).await;
            assert!(matches!(put, Err(StoreError::Refused(_))), "{put:?}");
        }
        let put = store.put("k", "v".into(), Expect::Absent).await;
        assert!(matches!(put, Err(StoreError::Unreachable(_))), "{put:?}");
    };
    tokio::join!(server_side, client_side);
}

/// What an older server does: it takes the options it does not know and drops them.
#[tokio::test]
async fn an_option_the_server_dropped_is_noticed() {
    let server = nats::NatsServer::start().await;
    let raw = raw(&server).await;
    let mut asked = raw.subscribe("$JS.API.>").await.unwrap();
    raw.flush().await.unwrap();
    let bus = server.connect().await;
    let config = config();
    let server_side = async {
        let info = asked.next().await.unwrap();
        let missing = json!({"error": {"code": 404, "err_code": 10059, "description": "none"}});
        let reply = info.reply.unwrap();
        raw.publish(reply, missing.to_string().into())
            .await
            .unwrap();
        let create = asked.next().await.unwrap();
        let mut body: Value = serde_json::from_slice(&create.payload).unwrap();
        body.as_object_mut().unwrap().remove("deny_delete");
        let done = json!({ "config": body }).to_string();
        raw.publish(create.reply.unwrap(), done.into())
            .await
            .unwrap();
    };
    let (_, opened) = tokio::join!(server_side, bus.store(&config));
    assert!(matches!(opened, Err(StoreError::Config(_))), "{opened:?}");
}

#[tokio::test]
async fn without_jetstream_there_is_no_store() {
    let server = nats::shared().await;
    let opened = server.connect().await.store(&config()).await;
    assert!(
        matches!(opened, Err(StoreError::Unreachable(_))),
        "{opened:?}"
    );
}

#[tokio::test]
async fn a_store_is_unreachable_while_its_server_is_down_and_then_goes_on() {
    let mut server = nats::NatsServer::start_jetstream().await;
    let config = config().with_timeout(Duration::from_secs(1));
    let bus = server.connect().await;
    let store = bus.store(&config).await.unwrap();
    server.kill().await;
    let down = store.put("k", "v".into(), Expect::Absent).await;
    assert!(matches!(down, Err(StoreError::Unreachable(_))), "{down:?}");
    server.restart().await;
    let back = async {
        while let Err(error) = store.get("k").await {
            assert!(
                matches!(error, StoreError::Unreachable(_) | StoreError::Refused(_)),
                "{error:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back)
        .await
        .expect("it comes back");
}

#[tokio::test]
async fn a_bucket_in_memory_can_be_rolled_back_cut_off_and_slowed() {
    let bus = MemoryBus::new();
    let config = config();
    let store = Server::open(&bus, &config).await;
    let hostile = bus.bucket(&config.name);
    let before = hostile.state();
    store.put("k", "v".into(), Expect::Absent).await.unwrap();
    hostile.roll_back(before);
    assert_eq!(store.put("k", "v".into(), Expect::Absent).await, Ok(1));

    hostile.set_unreachable(true);
    let cut = store.put("l", "v".into(), Expect::Absent).await;
    assert!(matches!(cut, Err(StoreError::Unreachable(_))));
    hostile.set_unreachable(false);
    hostile.lose_answers(1);
    let lost = store.put("m", "v".into(), Expect::Absent).await;
    assert!(matches!(lost, Err(StoreError::Unreachable(_))));
    assert_eq!(store.keys("", 10).await.unwrap(), ["k", "m"]);

    tokio::time::pause();
    hostile.set_delay(config.timeout);
    let slow = store.get("k").await;
    assert!(matches!(slow, Err(StoreError::Unreachable(_))));
}

/// Publishes with a header that no client library would write.
async fn hostile_publish(server: &nats::NatsServer, subject: &str, header: &str, payload: &str) {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    let address = ("127.0.0.1", server.port());
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let block = format!("NATS/1.0\r\n{header}\r\n\r\n");
    let (head, all) = (block.len(), block.len() + payload.len());
    let lines = format!(
        "CONNECT {{\"verbose\":false,\"headers\":true}}\r\n\
         HPUB {subject} {head} {all}\r\n{block}{payload}\r\nPING\r\n"
    );
    socket.write_all(lines.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.windows(4).any(|window| window == b"PONG") {
        let mut chunk = [0; 1024];
        let read = socket.read(&mut chunk).await.unwrap();
        assert!(read > 0, "the server hung up");
        seen.extend_from_slice(&chunk[..read]);
    }
}
