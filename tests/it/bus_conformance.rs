//! One suite for every bus: the in-process one must do what NATS does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use trustmesh::bus::Bus;
use trustmesh::bus::ConnectOptions;
use trustmesh::bus::FlushErrorKind;
use trustmesh::bus::HeaderMap;
use trustmesh::bus::HeaderName;
use trustmesh::bus::HeaderValue;
use trustmesh::bus::Outgoing;
use trustmesh::bus::PublishErrorKind;
use trustmesh::bus::State;
use trustmesh::bus::StatusCode;
use trustmesh::bus::SubscribeErrorKind;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::bus::memory::MemoryOptions;
use trustmesh::bus::nats::NatsBus;

use crate::support::arrived;
use crate::support::eventually;
use crate::support::nats;
use crate::support::next;
use crate::support::rest;
use crate::support::settle;
use crate::support::text;
use crate::support::unique;

/// A server to connect to.
trait Server {
    async fn open(&self, setup: Setup) -> Arc<dyn Bus>;

    async fn connect(&self) -> Arc<dyn Bus> {
        self.open(Setup::default()).await
    }
}

#[derive(Default)]
struct Setup {
    no_echo: bool,
    capacity: Option<usize>,
}

impl Server for MemoryBus {
    async fn open(&self, setup: Setup) -> Arc<dyn Bus> {
        let mut options = MemoryOptions::default();
        if setup.no_echo {
            options = options.no_echo();
        }
        if let Some(capacity) = setup.capacity {
            options = options.subscription_capacity(capacity);
        }
        Arc::new(self.connect_with(options))
    }
}

impl Server for nats::NatsServer {
    async fn open(&self, setup: Setup) -> Arc<dyn Bus> {
        let mut options = ConnectOptions::new();
        if setup.no_echo {
            options = options.no_echo();
        }
        if let Some(capacity) = setup.capacity {
            options = options.subscription_capacity(capacity);
        }
        let bus = NatsBus::connect(self.url(), options).await;
        Arc::new(bus.expect("the server is up"))
    }
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
                super::$claim(super::nats::shared().await).await;
            })*
        }
    };
}

on_every_bus! {
    a_pattern_gets_exactly_the_subjects_it_matches
    a_published_wildcard_is_a_literal
    a_subject_with_an_empty_token_reaches_nobody
    a_queue_group_gets_each_message_once
    every_group_and_every_plain_subscriber_gets_each_message
    a_group_spans_patterns
    a_request_is_answered
    a_request_to_nobody_is_refused_to_the_asker_alone
    echo_is_on_unless_switched_off
    without_echo_another_member_of_the_group_is_chosen
    the_size_limit_counts_headers
    a_full_subscription_drops_the_newest_and_goes_on
    unsubscribing_ends_the_stream_after_what_was_delivered
    dropping_a_subscription_unsubscribes
    draining_a_subscription_ends_it_after_what_was_delivered
    draining_ends_streams_and_refuses_what_follows
    headers_arrive_as_sent
    messages_of_one_publisher_stay_in_order
    malformed_names_are_refused_before_sending
    a_line_break_in_a_header_is_refused_before_sending
    a_second_connection_has_counters_of_its_own
    reconnecting_keeps_subscriptions
}

async fn a_pattern_gets_exactly_the_subjects_it_matches(server: &impl Server) {
    let bus = server.connect().await;
    let top = unique();
    let tails = [
        "a", "b", "a.b", "a.a", "b.b", "a.b.c", "a.a.a", "A", "ab", "*a.b", "a.>x",
    ];
    let cases: [(&str, &[&str]); 8] = [
        ("a", &["a"]),
        ("*", &["a", "b", "A", "ab"]),
        (">", &tails),
        ("a.>", &["a.b", "a.a", "a.b.c", "a.a.a", "a.>x"]),
        ("*.b", &["a.b", "b.b", "*a.b"]),
        ("a.*.c", &["a.b.c"]),
        ("*.*.*", &["a.b.c", "a.a.a"]),
        ("*a.b", &["*a.b"]),
    ];
    let mut subscribers = Vec::new();
    for (pattern, expected) in cases {
        let subject = format!("{top}.{pattern}");
        let subscriber = bus.subscribe(subject.into(), None).await.unwrap();
        subscribers.push((pattern, expected, subscriber));
    }
    for tail in tails {
        let subject = format!("{top}.{tail}");
        bus.publish(Outgoing::new(subject, tail)).await.unwrap();
    }
    settle(&*bus).await;
    for (pattern, expected, mut subscriber) in subscribers {
        assert_eq!(arrived(&mut subscriber), expected, "{pattern}");
    }
}

async fn a_published_wildcard_is_a_literal(server: &impl Server) {
    let bus = server.connect().await;
    let top = unique();
    let star = format!("{top}.*");
    let rest = format!("{top}.>");
    let mut stars = bus.subscribe(star.as_str().into(), None).await.unwrap();
    let mut rests = bus.subscribe(rest.as_str().into(), None).await.unwrap();
    let mut words = bus
        .subscribe(format!("{top}.a").into(), None)
        .await
        .unwrap();
    bus.publish(Outgoing::new(star, "star")).await.unwrap();
    bus.publish(Outgoing::new(rest, "rest")).await.unwrap();
    settle(&*bus).await;
    assert_eq!(arrived(&mut stars), ["star", "rest"]);
    assert_eq!(arrived(&mut rests), ["star", "rest"]);
    assert!(arrived(&mut words).is_empty());
}

async fn a_subject_with_an_empty_token_reaches_nobody(server: &impl Server) {
    let bus = server.connect().await;
    let (top, inbox) = (unique(), unique());
    let mut all = bus
        .subscribe(format!("{top}.>").into(), None)
        .await
        .unwrap();
    let mut answers = bus.subscribe(inbox.as_str().into(), None).await.unwrap();
    for subject in [format!("{top}..a"), format!("{top}.a."), format!("{top}.")] {
        let message = Outgoing::new(subject, "lost").with_reply(inbox.as_str());
        bus.publish(message).await.unwrap();
        let answer = next(&mut answers).await;
        assert_eq!(answer.status, Some(StatusCode::NO_RESPONDERS));
    }
    assert!(arrived(&mut all).is_empty());
}

async fn a_queue_group_gets_each_message_once(server: &impl Server) {
    let (publisher, bus) = (server.connect().await, server.connect().await);
    let jobs = unique();
    let mut members = Vec::new();
    for _ in 0..3 {
        let member = bus
            .subscribe(jobs.as_str().into(), Some("workers".to_owned()))
            .await;
        members.push(member.unwrap());
    }
    settle(&*bus).await;
    let sent: BTreeSet<String> = (0..90).map(|job| job.to_string()).collect();
    for job in &sent {
        publisher
            .publish(Outgoing::new(jobs.as_str(), job.clone()))
            .await
            .unwrap();
    }
    settle(&*publisher).await;
    settle(&*bus).await;
    let shares: Vec<_> = members.iter_mut().map(arrived).collect();
    assert!(
        shares.iter().all(|share| !share.is_empty()),
        "all take part: {shares:?}"
    );
    let got: Vec<String> = shares.concat();
    assert_eq!(got.len(), sent.len());
    assert_eq!(BTreeSet::from_iter(got), sent);
}

async fn every_group_and_every_plain_subscriber_gets_each_message(server: &impl Server) {
    let bus = server.connect().await;
    let news = unique();
    let mut subscribers = Vec::new();
    for queue in [Some("red"), Some("blue"), None, None] {
        let queue = queue.map(str::to_owned);
        subscribers.push(bus.subscribe(news.as_str().into(), queue).await.unwrap());
    }
    for item in ["one", "two"] {
        bus.publish(Outgoing::new(news.as_str(), item))
            .await
            .unwrap();
    }
    settle(&*bus).await;
    for subscriber in &mut subscribers {
        assert_eq!(arrived(subscriber), ["one", "two"]);
    }
}

async fn a_group_spans_patterns(server: &impl Server) {
    let bus = server.connect().await;
    let top = unique();
    let mut members = Vec::new();
    for pattern in ["a", "*", ">"] {
        let pattern = format!("{top}.{pattern}").into();
        members.push(
            bus.subscribe(pattern, Some("one".to_owned()))
                .await
                .unwrap(),
        );
    }
    for _ in 0..60 {
        bus.publish(Outgoing::new(format!("{top}.a"), "x"))
            .await
            .unwrap();
    }
    settle(&*bus).await;
    let shares: Vec<usize> = members
        .iter_mut()
        .map(|member| arrived(member).len())
        .collect();
    assert_eq!(shares.iter().sum::<usize>(), 60, "{shares:?}");
    assert!(!shares.contains(&0), "{shares:?}");
}

async fn a_request_is_answered(server: &impl Server) {
    let (asker, responder) = (server.connect().await, server.connect().await);
    let (service, inbox) = (unique(), unique());
    let mut requests = responder
        .subscribe(service.as_str().into(), None)
        .await
        .unwrap();
    settle(&*responder).await;
    let mut answers = asker.subscribe(inbox.as_str().into(), None).await.unwrap();
    let request = Outgoing::new(service.as_str(), "how much?").with_reply(inbox.as_str());
    asker.publish(request).await.unwrap();

    let request = next(&mut requests).await;
    assert_eq!(request.subject.as_str(), service);
    assert_eq!(request.reply.as_deref(), Some(inbox.as_str()));
    let answer = Outgoing::new(request.reply.unwrap(), "42");
    responder.publish(answer).await.unwrap();

    let answer = next(&mut answers).await;
    assert_eq!(answer.payload, "42");
    assert_eq!((answer.status, answer.reply), (None, None));
}

async fn a_request_to_nobody_is_refused_to_the_asker_alone(server: &impl Server) {
    let (asker, other) = (server.connect().await, server.connect().await);
    let (service, inbox) = (unique(), unique());
    let mut overheard = other.subscribe(inbox.as_str().into(), None).await.unwrap();
    settle(&*other).await;
    let mut answers = asker.subscribe(inbox.as_str().into(), None).await.unwrap();
    let request = Outgoing::new(service.as_str(), "anyone?").with_reply(inbox.as_str());
    asker.publish(request).await.unwrap();

    let answer = next(&mut answers).await;
    assert_eq!(answer.status, Some(StatusCode::NO_RESPONDERS));
    assert_eq!(answer.subject.as_str(), inbox);
    assert_eq!((answer.reply, answer.description), (None, None));
    assert!(answer.payload.is_empty());
    let headers = answer
        .headers
        .expect("a status line comes with a header block");
    assert_eq!(
        headers.get("Nats-Subject").map(|v| v.as_str()),
        Some(service.as_str())
    );
    settle(&*other).await;
    assert!(arrived(&mut overheard).is_empty());
}

async fn echo_is_on_unless_switched_off(server: &impl Server) {
    let loud = server.connect().await;
    let quiet = server
        .open(Setup {
            no_echo: true,
            ..Setup::default()
        })
        .await;
    for (bus, expected) in [(loud, vec!["other", "self"]), (quiet, vec!["other"])] {
        let subject = unique();
        let other = server.connect().await;
        let mut subscriber = bus.subscribe(subject.as_str().into(), None).await.unwrap();
        settle(&*bus).await;
        other
            .publish(Outgoing::new(subject.as_str(), "other"))
            .await
            .unwrap();
        settle(&*other).await;
        bus.publish(Outgoing::new(subject.as_str(), "self"))
            .await
            .unwrap();
        settle(&*bus).await;
        assert_eq!(arrived(&mut subscriber), expected);
    }
}

async fn without_echo_another_member_of_the_group_is_chosen(server: &impl Server) {
    let quiet = server
        .open(Setup {
            no_echo: true,
            ..Setup::default()
        })
        .await;
    let other = server.connect().await;
    let (jobs, group) = (unique(), Some("workers".to_owned()));
    let mut own = quiet
        .subscribe(jobs.as_str().into(), group.clone())
        .await
        .unwrap();
    let mut others = other.subscribe(jobs.as_str().into(), group).await.unwrap();
    settle(&*other).await;
    for _ in 0..20 {
        quiet
            .publish(Outgoing::new(jobs.as_str(), "job"))
            .await
            .unwrap();
    }
    settle(&*quiet).await;
    settle(&*other).await;
    assert!(arrived(&mut own).is_empty());
    assert_eq!(arrived(&mut others).len(), 20);
}

async fn the_size_limit_counts_headers(server: &impl Server) {
    let bus = server.connect().await;
    let subject = unique();
    let mut subscriber = bus.subscribe(subject.as_str().into(), None).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("A", "b");
    let block = "NATS/1.0\r\nA: b\r\n\r\n".len();
    let limit = bus.max_payload();

    for (size, headers) in [(limit, None), (limit - block, Some(headers))] {
        let of = |size: usize| Outgoing {
            headers: headers.clone(),
            ..Outgoing::new(subject.as_str(), Bytes::from(vec![0; size]))
        };
        bus.publish(of(size)).await.unwrap();
        assert_eq!(next(&mut subscriber).await.payload.len(), size);
        let error = bus.publish(of(size + 1)).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::MaxPayloadExceeded);
    }
    assert_eq!(bus.state(), State::Connected);
}

async fn a_full_subscription_drops_the_newest_and_goes_on(server: &impl Server) {
    let bus = server
        .open(Setup {
            capacity: Some(2),
            ..Setup::default()
        })
        .await;
    let subject = unique();
    let mut subscriber = bus.subscribe(subject.as_str().into(), None).await.unwrap();
    for number in ["1", "2", "3", "4"] {
        bus.publish(Outgoing::new(subject.as_str(), number))
            .await
            .unwrap();
    }
    settle(&*bus).await;
    assert_eq!(arrived(&mut subscriber), ["1", "2"]);
    bus.publish(Outgoing::new(subject.as_str(), "5"))
        .await
        .unwrap();
    assert_eq!(text(next(&mut subscriber).await), "5");
    assert_eq!((bus.state(), bus.redials()), (State::Connected, 0));
}

async fn unsubscribing_ends_the_stream_after_what_was_delivered(server: &impl Server) {
    let bus = server.connect().await;
    let subject = unique();
    let mut subscriber = bus.subscribe(subject.as_str().into(), None).await.unwrap();
    bus.publish(Outgoing::new(subject.as_str(), "before"))
        .await
        .unwrap();
    settle(&*bus).await;
    subscriber.unsubscribe().await.unwrap();
    bus.publish(Outgoing::new(subject.as_str(), "after"))
        .await
        .unwrap();
    settle(&*bus).await;
    assert_eq!(rest(&mut subscriber).await, ["before"]);
}

async fn dropping_a_subscription_unsubscribes(server: &impl Server) {
    let bus = server.connect().await;
    let (service, inbox) = (unique(), unique());
    let requests = bus.subscribe(service.as_str().into(), None).await.unwrap();
    let mut answers = bus.subscribe(inbox.as_str().into(), None).await.unwrap();
    settle(&*bus).await;
    drop(requests);
    let request = Outgoing::new(service, "anyone?").with_reply(inbox);
    bus.publish(request).await.unwrap();
    assert_eq!(
        next(&mut answers).await.status,
        Some(StatusCode::NO_RESPONDERS)
    );
}

async fn draining_a_subscription_ends_it_after_what_was_delivered(server: &impl Server) {
    let bus = server.connect().await;
    let subject = unique();
    let mut subscriber = bus.subscribe(subject.as_str().into(), None).await.unwrap();
    for number in ["1", "2", "3"] {
        bus.publish(Outgoing::new(subject.as_str(), number))
            .await
            .unwrap();
    }
    settle(&*bus).await;
    subscriber.drain().await.unwrap();
    assert_eq!(rest(&mut subscriber).await, ["1", "2", "3"]);
    settle(&*bus).await;
}

async fn draining_ends_streams_and_refuses_what_follows(server: &impl Server) {
    let (bus, other) = (server.connect().await, server.connect().await);
    let (subject, last) = (unique(), unique());
    let mut elsewhere = other.subscribe(last.as_str().into(), None).await.unwrap();
    settle(&*other).await;
    let mut subscriber = bus.subscribe(subject.as_str().into(), None).await.unwrap();
    bus.publish(Outgoing::new(subject.as_str(), "delivered"))
        .await
        .unwrap();
    settle(&*bus).await;
    bus.publish(Outgoing::new(last, "written")).await.unwrap();
    bus.drain().await.unwrap();

    assert_eq!(rest(&mut subscriber).await, ["delivered"]);
    assert_eq!(text(next(&mut elsewhere).await), "written");
    let error = bus
        .publish(Outgoing::new(subject.as_str(), "late"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Send);
    let error = bus.subscribe(subject.into(), None).await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Other);
    assert_eq!(
        bus.flush().await.unwrap_err().kind(),
        FlushErrorKind::SendError
    );
    assert!(bus.drain().await.is_err());
    assert!(bus.force_reconnect().await.is_err());
    assert!(subscriber.unsubscribe().await.is_err());
    assert_eq!((bus.state(), bus.redials()), (State::Disconnected, 0));
}

async fn headers_arrive_as_sent(server: &impl Server) {
    let bus = server.connect().await;
    let subject = unique();
    let mut subscriber = bus.subscribe(subject.as_str().into(), None).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", "0123");
    headers.append("Way", "one");
    headers.append("Way", "another");
    headers.insert("Text", "with spaces, ünicode: and colons");
    let message = Outgoing::new(subject.as_str(), "x").with_headers(headers.clone());
    bus.publish(message).await.unwrap();
    bus.publish(Outgoing::new(subject.as_str(), "bare"))
        .await
        .unwrap();

    let message = next(&mut subscriber).await;
    assert_eq!((message.headers, message.status), (Some(headers), None));
    assert_eq!(next(&mut subscriber).await.headers, None);
}

async fn messages_of_one_publisher_stay_in_order(server: &impl Server) {
    let bus = server.connect().await;
    let subject = unique();
    let mut subscriber = bus.subscribe(subject.as_str().into(), None).await.unwrap();
    let sent: Vec<String> = (0..2_000).map(|number| number.to_string()).collect();
    for number in &sent {
        bus.publish(Outgoing::new(subject.as_str(), number.clone()))
            .await
            .unwrap();
    }
    bus.flush().await.unwrap();
    settle(&*bus).await;
    assert_eq!(arrived(&mut subscriber), sent);
}

async fn malformed_names_are_refused_before_sending(server: &impl Server) {
    let bus = server.connect().await;
    let sent = bus.statistics().out_messages.load(Ordering::Relaxed);
    for bad in ["", "a b", "a\tb", "a\r\nPUB b 0\r\n", "a\n"] {
        let error = bus.publish(Outgoing::new(bad, "x")).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::InvalidSubject, "{bad:?}");
        let reply = Outgoing::new("a", "x").with_reply(bad);
        let error = bus.publish(reply).await.unwrap_err();
        assert_eq!(
            error.kind(),
            PublishErrorKind::InvalidSubject,
            "reply {bad:?}"
        );
        let error = bus.subscribe(bad.into(), None).await.unwrap_err();
        assert_eq!(error.kind(), SubscribeErrorKind::InvalidSubject, "{bad:?}");
        let error = bus
            .subscribe("a".into(), Some(bad.to_owned()))
            .await
            .unwrap_err();
        assert_eq!(
            error.kind(),
            SubscribeErrorKind::InvalidQueueName,
            "{bad:?}"
        );
    }
    for bad in [".a", "a.", "a..b"] {
        let error = bus.subscribe(bad.into(), None).await.unwrap_err();
        assert_eq!(error.kind(), SubscribeErrorKind::InvalidSubject, "{bad:?}");
    }
    bus.flush().await.unwrap();
    assert_eq!(bus.statistics().out_messages.load(Ordering::Relaxed), sent);
}

async fn a_line_break_in_a_header_is_refused_before_sending(server: &impl Server) {
    let bus = server.connect().await;
    // Deserialized values and static names are what async_nats does not check.
    let mut bad: Vec<HeaderMap> = [r#"{"A":["x\ry"]}"#, r#"{"A":["b", "x\ny"]}"#]
        .map(|json| serde_json::from_str(json).unwrap())
        .into();
    bad.push(HeaderMap::from_iter([(
        HeaderName::from_static("A: x\r\nB"),
        HeaderValue::from("x"),
    )]));
    for headers in bad {
        let message = Outgoing::new(unique(), "x").with_headers(headers.clone());
        let error = bus.publish(message).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Send, "{headers:?}");
    }
    settle(&*bus).await;
}

async fn a_second_connection_has_counters_of_its_own(server: &impl Server) {
    let bus = server.connect().await;
    let second = bus.second().await.unwrap();
    let subject = unique();
    let mut subscriber = bus.subscribe(subject.as_str().into(), None).await.unwrap();
    settle(&*bus).await;
    let (out, heard) = (
        bus.statistics().out_messages.load(Ordering::Relaxed),
        bus.statistics().in_messages.load(Ordering::Relaxed),
    );
    for _ in 0..3 {
        second
            .publish(Outgoing::new(subject.as_str(), "x"))
            .await
            .unwrap();
        next(&mut subscriber).await;
    }
    assert_eq!(second.statistics().out_messages.load(Ordering::Relaxed), 3);
    assert_eq!(bus.statistics().out_messages.load(Ordering::Relaxed), out);
    assert_eq!(
        bus.statistics().in_messages.load(Ordering::Relaxed),
        heard + 3
    );
    second.drain().await.unwrap();
    settle(&*bus).await;
}

async fn reconnecting_keeps_subscriptions(server: &impl Server) {
    let bus = server.connect().await;
    let subject = unique();
    let mut subscriber = bus.subscribe(subject.as_str().into(), None).await.unwrap();
    settle(&*bus).await;
    bus.force_reconnect().await.unwrap();
    let connects = bus.statistics();
    eventually("a second connect", || {
        connects.connects.load(Ordering::Relaxed) == 2
    })
    .await;
    settle(&*bus).await;
    bus.publish(Outgoing::new(subject.as_str(), "again"))
        .await
        .unwrap();
    assert_eq!(text(next(&mut subscriber).await), "again");
    assert_eq!((bus.redials(), bus.server_info().headers), (0, true));
}
