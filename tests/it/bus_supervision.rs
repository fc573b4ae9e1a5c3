//! A NATS connection survives what ends `async_nats`'s, and gives up only where it should.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use trustmesh::bus::Bus;
use trustmesh::bus::BusSubscriber;
use trustmesh::bus::ConnectOptions;
use trustmesh::bus::Outgoing;
use trustmesh::bus::PublishErrorKind;
use trustmesh::bus::State;
use trustmesh::bus::nats::NatsBus;

use crate::support::eventually;
use crate::support::nats;
use crate::support::nats::NatsServer;
use crate::support::next;
use crate::support::rest;
use crate::support::settle;
use crate::support::text;
use crate::support::unique;

/// Publishes a header value with a bare carriage return, which no client library would, and
/// waits until the server has passed it on.
async fn publish_poison(server: &NatsServer, subject: &str) {
    let mut wire = TcpStream::connect(("127.0.0.1", server.port()))
        .await
        .unwrap();
    let block = "NATS/1.0\r\nA: b\rc\r\n\r\n";
    let (header, total) = (block.len(), block.len() + 1);
    let commands = format!(
        "CONNECT {{\"verbose\":false,\"headers\":true}}\r\n\
         HPUB {subject} {header} {total}\r\n{block}x\r\nPING\r\n"
    );
    wire.write_all(commands.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"PONG\r\n") {
        assert_ne!(
            wire.read_buf(&mut heard).await.unwrap(),
            0,
            "the server takes the message"
        );
    }
}

async fn connect(server: &NatsServer) -> NatsBus {
    let bus = NatsBus::connect(server.url(), ConnectOptions::new()).await;
    bus.expect("the server is up")
}

async fn listen(bus: &NatsBus, subject: &str) -> BusSubscriber {
    bus.subscribe(subject.into(), None).await.unwrap()
}

async fn hears(bus: &NatsBus, subscriber: &mut BusSubscriber, subject: &str, message: &str) {
    bus.publish(Outgoing::new(subject, message.to_owned()))
        .await
        .unwrap();
    assert_eq!(text(next(subscriber).await), message);
}

#[tokio::test]
async fn a_bare_carriage_return_ends_a_plain_subscriber() {
    let server = nats::shared().await;
    let subject = unique();
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut subscriber = client.subscribe(subject.clone()).await.unwrap();
    client
        .publish(subject.clone(), "ready".into())
        .await
        .unwrap();
    assert!(subscriber.next().await.is_some());
    publish_poison(server, &subject).await;
    // If this fails, async_nats has learnt to live with it: supervision may be retired.
    assert!(subscriber.next().await.is_none());
    assert!(client.publish(subject, "dead".into()).await.is_err());
}

#[tokio::test]
async fn a_killed_connection_is_replaced_and_streams_go_on() {
    let server = nats::shared().await;
    let bus = connect(server).await;
    let (poisoned, bystander, jobs) = (unique(), unique(), unique());
    let mut poisoned_stream = listen(&bus, &poisoned).await;
    let mut bystander_stream = listen(&bus, &bystander).await;
    let queue = Some("workers".to_owned());
    let mut jobs_stream = bus.subscribe(jobs.as_str().into(), queue).await.unwrap();
    hears(&bus, &mut poisoned_stream, &poisoned, "before").await;
    bus.publish(Outgoing::new(bystander.as_str(), "kept"))
        .await
        .unwrap();
    settle(&bus).await;
    let counted = bus.statistics().in_messages.load(Ordering::Relaxed);

    for kills in 1..=3 {
        publish_poison(server, &poisoned).await;
        // Every stream sees the death; one re-dial follows.
        let watch = async {
            tokio::select! {
                _ = poisoned_stream.next() => panic!("nothing was sent"),
                () = eventually("a re-dial", || bus.redials() == kills) => {}
            }
        };
        watch.await;
        hears(&bus, &mut poisoned_stream, &poisoned, "after").await;
        hears(&bus, &mut jobs_stream, &jobs, "job").await;
        assert_eq!((bus.state(), bus.redials()), (State::Connected, kills));
    }
    assert_eq!(text(next(&mut bystander_stream).await), "kept");
    hears(&bus, &mut bystander_stream, &bystander, "new").await;
    assert!(bus.statistics().in_messages.load(Ordering::Relaxed) >= counted + 7);
    assert!(format!("{bus:?}").contains("redials: 3"), "{bus:?}");
}

#[tokio::test]
async fn a_publisher_notices_when_nobody_polls() {
    let server = nats::shared().await;
    let bus = connect(server).await;
    let (poisoned, inbox) = (unique(), unique());
    let mut unpolled = listen(&bus, &poisoned).await;
    settle(&bus).await;
    publish_poison(server, &poisoned).await;
    // Publishing may succeed until the death is noticed; it never fails.
    while bus.redials() == 0 {
        bus.publish(Outgoing::new(inbox.as_str(), "x"))
            .await
            .unwrap();
        bus.flush().await.unwrap();
    }
    hears(&bus, &mut unpolled, &poisoned, "restored").await;
    let mut later = listen(&bus, &inbox).await;
    hears(&bus, &mut later, &inbox, "new").await;
}

#[tokio::test]
async fn an_ended_subscription_is_not_restored() {
    let server = nats::shared().await;
    let bus = connect(server).await;
    let (poisoned, service, inbox) = (unique(), unique(), unique());
    let mut alive = listen(&bus, &poisoned).await;
    let mut unsubscribed = listen(&bus, &service).await;
    let mut drained = listen(&bus, &service).await;
    let dropped = listen(&bus, &service).await;
    unsubscribed.unsubscribe().await.unwrap();
    drained.drain().await.unwrap();
    drop(dropped);
    settle(&bus).await;
    publish_poison(server, &poisoned).await;
    while bus.redials() == 0 {
        bus.flush().await.unwrap();
    }
    assert!(rest(&mut unsubscribed).await.is_empty());
    assert!(rest(&mut drained).await.is_empty());
    let mut answers = listen(&bus, &inbox).await;
    let request = Outgoing::new(service, "anyone?").with_reply(inbox);
    bus.publish(request).await.unwrap();
    assert!(next(&mut answers).await.status.is_some());
    hears(&bus, &mut alive, &poisoned, "alive").await;
}

#[tokio::test]
async fn a_restarted_server_is_found_again() {
    let mut server = NatsServer::start().await;
    let options = ConnectOptions::new().reconnect_delay_callback(|_| Duration::from_millis(20));
    let bus = NatsBus::connect(server.url(), options).await.unwrap();
    let subject = unique();
    let mut subscriber = listen(&bus, &subject).await;
    hears(&bus, &mut subscriber, &subject, "before").await;

    server.kill().await;
    eventually("the loss", || bus.state() == State::Disconnected).await;
    server.restart().await;
    eventually("the return", || bus.state() == State::Connected).await;
    settle(&bus).await;
    hears(&bus, &mut subscriber, &subject, "after").await;
    assert_eq!(bus.redials(), 0, "async_nats reconnects by itself");
}

#[tokio::test]
async fn dialling_goes_on_until_the_server_is_back() {
    let mut server = NatsServer::start().await;
    let bus = connect(&server).await;
    let subject = unique();
    let mut subscriber = listen(&bus, &subject).await;
    settle(&bus).await;
    // Unpolled and unused, the dead connection is noticed only once the server is gone too.
    publish_poison(&server, &subject).await;
    server.kill().await;
    let publish = bus.publish(Outgoing::new(subject.as_str(), "patient"));
    let return_later = async {
        eventually("the loss", || bus.state() == State::Disconnected).await;
        assert_eq!(bus.redials(), 0);
        server.restart().await;
    };
    // Queued on the dead connection if that had not died yet, else published on the next.
    let (published, ()) = tokio::join!(publish, async {
        let _ = futures::poll!(subscriber.next());
        return_later.await;
    });
    published.unwrap();
    eventually("a re-dial", || bus.redials() == 1).await;
    settle(&bus).await;
    bus.publish(Outgoing::new(subject.as_str(), "back"))
        .await
        .unwrap();
    while text(next(&mut subscriber).await) != "back" {}
    assert_eq!(bus.state(), State::Connected);
}

#[tokio::test]
async fn the_reconnect_limit_of_the_options_is_respected() {
    let mut server = NatsServer::start().await;
    let options = ConnectOptions::new()
        .max_reconnects(2)
        .reconnect_delay_callback(|_| Duration::from_millis(1));
    let bus = NatsBus::connect(server.url(), options).await.unwrap();
    let subject = unique();
    let mut subscriber = listen(&bus, &subject).await;
    hears(&bus, &mut subscriber, &subject, "before").await;
    server.kill().await;
    assert!(rest(&mut subscriber).await.is_empty(), "the stream ends");
    let error = bus.publish(Outgoing::new(subject, "x")).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Send);
    assert_eq!((bus.state(), bus.redials()), (State::Disconnected, 0));
}

#[tokio::test]
async fn draining_while_the_connection_is_dead_ends_everything() {
    let server = nats::shared().await;
    let bus = connect(server).await;
    let subject = unique();
    let mut subscriber = listen(&bus, &subject).await;
    settle(&bus).await;
    publish_poison(server, &subject).await;
    bus.drain().await.unwrap();
    assert!(rest(&mut subscriber).await.is_empty());
    assert!(bus.publish(Outgoing::new(subject, "x")).await.is_err());
}

#[tokio::test]
async fn a_server_with_a_smaller_limit_is_believed() {
    let server = NatsServer::start_with("max_payload: 1024").await;
    let bus = connect(&server).await;
    assert_eq!(
        (bus.max_payload(), bus.server_info().max_payload),
        (1024, 1024)
    );
    let message = Outgoing::new(unique(), vec![0; 1025]);
    let error = bus.publish(message).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::MaxPayloadExceeded);
    settle(&bus).await;
}

#[tokio::test]
async fn credentials_in_addresses_are_never_shown() {
    let server = NatsServer::start_with("authorization { user: fox, password: hunter2 }").await;
    let port = server.port();
    let right = format!("nats://fox:hunter2@127.0.0.1:{port}");
    // async_nats reads no credentials out of addresses; people write them there all the same.
    let options = ConnectOptions::with_user_and_password("fox".into(), "hunter2".into());
    let bus = NatsBus::connect(right, options).await.unwrap();
    settle(&bus).await;
    let second = bus.second().await.unwrap();
    settle(&*second).await;
    let mut shown = format!("{bus:?} {second:?} {:?}", listen(&bus, "a").await);
    assert!(shown.contains(&format!("127.0.0.1:{port}")));

    for wrong in [
        format!("nats://fox:hunter2x@127.0.0.1:{port}"),
        "nats://fox:hunter2@127.0.0.1:1".to_owned(),
        "nats://fox:hunter2@127.0.0.1:99999".to_owned(),
        "nats://fox:hunter2@nowhere.invalid:1".to_owned(),
        "http://fox:hunter2@127.0.0.1:1".to_owned(),
        "fox:hunter2@[".to_owned(),
    ] {
        let error = NatsBus::connect(wrong, ConnectOptions::new())
            .await
            .unwrap_err();
        shown += &format!(" {error} {error:?}");
    }
    assert!(
        !shown.contains("hunter2") && !shown.contains("fox"),
        "{shown}"
    );
}
