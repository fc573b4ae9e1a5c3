//! A bus with eavesdroppers, rogue members and status lines; once in this process, where it
//! matters once more on NATS.

use std::error::Error as _;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use trustmesh::AuditOptions;
use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::Message;
use trustmesh::audit::AuditEvent;
use trustmesh::bus;
use trustmesh::bus::Bus;
use trustmesh::bus::Delivery;
use trustmesh::bus::HeaderMap;
use trustmesh::bus::Outgoing;
use trustmesh::bus::PublishErrorKind;
use trustmesh::bus::RequestErrorKind;
use trustmesh::bus::StatusCode;
use trustmesh::bus::SubscribeErrorKind;
use trustmesh::bus::faults::Fault;
use trustmesh::bus::faults::Faults;
use trustmesh::bus::faults::Rule;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::bus::nats::NatsBus;
use trustmesh::error::NoAnswer;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::scope::Action;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::subject::Subject;
use trustmesh::services::authority::Authority;

use crate::support::arrived;
use crate::support::eventually;
use crate::support::mesh::BRIEFLY;
use crate::support::mesh::Held;
use crate::support::mesh::Mesh;
use crate::support::mesh::balances;
use crate::support::mesh::consume;
use crate::support::mesh::denied;
use crate::support::mesh::draft;
use crate::support::mesh::only;
use crate::support::mesh::recorded;
use crate::support::mesh::sealed;
use crate::support::mesh::settled;
use crate::support::mesh::with_broken_payload;
use crate::support::mesh::with_broken_signature;
use crate::support::nats;
use crate::support::next;
use crate::support::settle;
use crate::support::unique;

/// NA-1: what could break a protocol line is an error before any byte is sent.
#[tokio::test]
async fn subjects_groups_and_headers_from_user_data_cannot_break_a_line() {
    let mut mesh = Mesh::new();
    let identity = mesh.authority.agent("alice", ["pub+sub+req:>"]).unwrap();
    let options = mesh
        .options(identity)
        .audit(AuditOptions::default().unpublished());
    let alice = options.connect_bus(mesh.bus.connect()).await.unwrap();
    let tap = mesh.bus.tap();
    let broken = [
        "a b",
        "a\tb",
        "a\r\nPUB loot 1\r\nx",
        "a\nb",
        "a\0b",
        "",
        "a..b",
        ".a",
        "a.",
    ];
    for subject in broken {
        let error = alice.publish(subject, "x".into()).await.unwrap_err();
        assert_eq!(
            error.kind(),
            PublishErrorKind::InvalidSubject,
            "{subject:?}"
        );
        let error = alice.request(subject, "x".into()).await.unwrap_err();
        assert_eq!(
            error.kind(),
            RequestErrorKind::InvalidSubject,
            "{subject:?}"
        );
        let sent = alice.publish_with_reply("a", subject, "x".into());
        let error = sent.await.unwrap_err();
        assert_eq!(
            error.kind(),
            PublishErrorKind::InvalidSubject,
            "{subject:?}"
        );
        let error = alice.subscribe(subject).await.unwrap_err();
        assert_eq!(
            error.kind(),
            SubscribeErrorKind::InvalidSubject,
            "{subject:?}"
        );
    }
    // A wildcard is no address.
    for subject in ["a.*", "a.>"] {
        let error = alice.publish(subject, "x".into()).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::InvalidSubject);
    }
    for group in ["a b", "a\tb", "a\r\nUNSUB 1", ""] {
        let error = alice
            .queue_subscribe("a", group.to_owned())
            .await
            .unwrap_err();
        assert_eq!(
            error.kind(),
            SubscribeErrorKind::InvalidQueueName,
            "{group:?}"
        );
    }
    // What async_nats does not check in a map that came through serde.
    for json in [
        r#"{"A":["x\ry"]}"#,
        r#"{"A":["x", "x\ny"]}"#,
        r#"{"A":["x\u0000"]}"#,
    ] {
        let headers: HeaderMap = serde_json::from_str(json).unwrap();
        let sent = alice.publish_with_headers("a", headers, "x".into()).await;
        let error = sent.unwrap_err();
        assert_eq!(denied(&error).class(), Class::Malformed, "{json}");
    }
    assert_eq!(tap.take().len(), 0);
    // TAB and blanks within a value break nothing and arrive as they are.
    let mut got = alice.subscribe("a").await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("A", " x\ty ");
    let sent = alice.publish_with_headers("a", headers.clone(), "x".into());
    sent.await.unwrap();
    let message = got.next().await.unwrap();
    assert_eq!(message.headers, Some(headers));
}

/// NA-2: `>` grants nothing that belongs to the server or to others' inboxes.
#[tokio::test]
async fn a_wide_scope_does_not_reach_reserved_subjects() {
    let mut mesh = Mesh::new();
    let alice = mesh
        .join("alice", &["pub+sub+req+serve:>", "sub:*.>"])
        .await;
    let bob = mesh.join("bob", &["sub:>"]).await;
    let tap = mesh.bus.tap();
    let inbox = bob.new_inbox();
    let reserved = [
        "$SYS.REQ.USER.INFO",
        "$JS.API.STREAM.NAMES",
        "$KV.bucket.key",
        &inbox,
    ];
    for subject in reserved {
        let error = alice
            .publish(subject.to_owned(), "x".into())
            .await
            .unwrap_err();
        assert_eq!(denied(&error).class(), Class::ScopeExceeded, "{subject}");
        let error = alice
            .request(subject.to_owned(), "x".into())
            .await
            .unwrap_err();
        assert_eq!(denied(&error).class(), Class::ScopeExceeded, "{subject}");
    }
    let patterns = [
        "$SYS.>",
        "$JS.API.>",
        "$KV.>",
        "_INBOX.>",
        "_INBOX.*.>",
        &inbox,
    ];
    for pattern in patterns {
        let error = alice.subscribe(pattern.to_owned()).await.unwrap_err();
        assert_eq!(denied(&error).class(), Class::ScopeExceeded, "{pattern}");
    }
    let sent = tap.take();
    assert!(
        sent.iter()
            .all(|m| m.subject.starts_with("trustmesh.audit.")),
        "{sent:?}"
    );
    // What a subscription to everything is handed of that kind is refused.
    let taken = consume(alice.subscribe(">").await.unwrap());
    let loot = sealed(&draft(mesh.now(), Action::Publish, &inbox), &alice);
    mesh.forge(&loot);
    assert_eq!(
        settled(&alice, 1).await.denied_of(Class::SubjectMismatch),
        1
    );
    assert_eq!(taken.count(), 0);
}

/// Everything an eavesdropper can put where an answer is awaited.
async fn answer_first(
    eve: &dyn Bus,
    mallory: &Client,
    alice: &Client,
    overheard: &Delivery,
) -> u32 {
    let reply = overheard.reply.clone().expect("a request");
    let request = overheard.payload.clone();
    let mut forged = draft(mesh_time(), Action::Serve, &reply);
    forged.in_reply_to = Some(ObjectId([1; 32]));
    forged.audience = Some(alice.key());
    let by_mallory = sealed(&forged, mallory).payload;
    let frames = [
        Bytes::new(),
        Bytes::from_static(b"sure, go ahead"),
        request.clone(),
        with_broken_signature(&request),
        with_broken_signature(&by_mallory),
        by_mallory,
    ];
    let count = frames.len() as u32;
    for frame in frames {
        eve.publish(Outgoing::new(reply.clone(), frame))
            .await
            .unwrap();
    }
    eve.flush().await.unwrap();
    count
}

fn mesh_time() -> trustmesh::proto::time::Timestamp {
    trustmesh::proto::time::Timestamp::from_millis(1_800_000_000_000)
}

/// NA-3.
#[tokio::test]
async fn an_eavesdropper_that_answers_first_is_refused_and_the_true_answer_counts() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &["req:tools.>"]).await;
    let bob = mesh.join("bob", &["sub+serve:tools.>"]).await;
    let mallory = mesh.join("mallory", &["pub:other"]).await;
    let eve = mesh.bus.connect();
    let mut ear = eve.subscribe("tools.>".into(), None).await.unwrap();
    let held = Held::serve(&bob, "tools.a").await;
    let asker = alice.clone();
    let asked = tokio::spawn(async move { asker.request("tools.a", "true".into()).await });
    let overheard = next(&mut ear).await;
    let forged = answer_first(&eve, &mallory, &alice, &overheard).await;
    settled(&alice, forged.into()).await;
    held.release(1);
    assert_eq!(asked.await.unwrap().unwrap().sender(), bob.id());
    let counters = settled(&alice, u64::from(forged) + 1).await;
    assert_eq!(
        (counters.allowed, counters.denied_total()),
        (1, forged.into())
    );
}

/// How many requests the events call unanswered.
fn unanswered(events: &[AuditEvent]) -> usize {
    let topics = events.iter().filter_map(|event| match event {
        AuditEvent::Notice { topic, .. } => Some(topic.as_str()),
        _ => None,
    });
    topics.filter(|topic| *topic == "no-answer").count()
}

/// NA-3: what was refused is told when no true answer comes.
#[tokio::test(start_paused = true)]
async fn a_timeout_says_how_many_answers_were_refused() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &["req:tools.>"]).await;
    let mallory = mesh.join("mallory", &["pub:other"]).await;
    let eve = mesh.bus.connect();
    let mut ear = eve.subscribe("tools.>".into(), None).await.unwrap();
    let mut audit = alice.audit();
    let asker = alice.compose("tools.a").timeout(BRIEFLY);
    let asked = tokio::spawn(asker.request());
    let overheard = next(&mut ear).await;
    let forged = answer_first(&eve, &mallory, &alice, &overheard).await;
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), RequestErrorKind::TimedOut);
    let source = error.source().and_then(|s| s.downcast_ref());
    assert_eq!(source, Some(&NoAnswer { refused: forged }));
    let events = recorded(&alice, &mut audit).await;
    assert_eq!(unanswered(&events), 1);
}

/// A copy of a request, damaged by somebody else, must not end the request: the sender of the
/// copy is not the asker, so the asker is told nothing.
#[tokio::test]
async fn a_damaged_copy_of_a_request_does_not_cost_its_asker_the_answer() {
    let no = r#"{ "name": "no", "effect": "deny", "actions": ["req"], "subjects": "tools.no" }"#;
    let mut mesh = Mesh::ruled(no);
    let alice = mesh.join("alice", &["req:tools.>"]).await;
    let bob = mesh.join("bob", &["sub+serve:tools.>"]).await;
    let held = Held::serve(&bob, "tools.a").await;
    let refusing = Held::serve(&bob, "tools.no").await;
    let tap = mesh.bus.tap();
    let lost = Rule::on("tools.a", Fault::Drop).times(1);
    mesh.bus.inject(Faults::seeded(1).with(lost));
    let asker = alice.clone();
    let asked = tokio::spawn(async move { asker.request("tools.a", "true".into()).await });
    let mut sent = Vec::new();
    eventually("the request leaves", || {
        sent.extend(tap.take());
        sent.iter().any(|m| m.subject.as_str() == "tools.a")
    })
    .await;
    let request = only(sent, "tools.a");
    // The damaged copies come first.
    for payload in [
        with_broken_payload(&request.payload),
        with_broken_signature(&request.payload),
    ] {
        let copy = Outgoing {
            payload,
            ..request.clone()
        };
        mesh.forge(&copy);
    }
    settled(&bob, 2).await;
    // Refusals are signed one after the other: once one that may be told has been sent, those
    // before it have been dealt with.
    let mut denied = draft(mesh.now(), Action::Request, "tools.no");
    denied.reply = Some(Subject::parse(&alice.new_inbox()).unwrap());
    mesh.forge(&sealed(&denied, &alice));
    eventually("a refusal is sent", || bob.counters().refusals_sent > 0).await;
    assert_eq!(bob.counters().refusals_sent, 1);
    mesh.forge(&request);
    held.release(1);
    assert_eq!(asked.await.unwrap().unwrap().payload, "true");
    let counters = settled(&bob, 4).await;
    assert_eq!(counters.denied_of(Class::BadSignature), 2);
    assert_eq!(counters.handler_runs, 1);
    drop(refusing);
}

/// NA-6: a member of the group that never was one of the mesh.
#[tokio::test(start_paused = true)]
async fn a_rogue_group_member_that_swallows_requests_is_a_timeout_and_never_a_success() {
    let mut mesh = Mesh::new();
    mesh.bus = MemoryBus::seeded(3);
    let alice = mesh.join("alice", &["req:tools.>"]).await;
    let bob = mesh.join("bob", &["sub+serve:tools.>"]).await;
    let handler = |message: Message| async move { Ok::<_, String>(message.payload) };
    let group = || "workers".to_owned();
    let service = bob.queue_serve("tools.a", group(), handler).await.unwrap();
    let rogue = mesh.bus.connect();
    let swallowed = rogue.subscribe("tools.a".into(), Some(group())).await;
    let mut swallowed = swallowed.unwrap();
    let mut audit = alice.audit();
    let (mut answered, mut timed_out) = (0, 0);
    for number in 0..40 {
        let payload = format!("{number}");
        let asked = alice
            .compose("tools.a")
            .payload(payload.clone())
            .timeout(BRIEFLY);
        match asked.request().await {
            Ok(answer) => {
                assert_eq!(answer.payload, payload);
                answered += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), RequestErrorKind::TimedOut);
                let source = error.source().and_then(|s| s.downcast_ref());
                assert_eq!(source, Some(&NoAnswer { refused: 0 }));
                timed_out += 1;
            }
        }
    }
    assert_eq!(arrived(&mut swallowed).len(), timed_out);
    assert!(answered > 5 && timed_out > 5, "{answered} and {timed_out}");
    assert_eq!(bob.counters().handler_runs, answered as u64);
    let events = recorded(&alice, &mut audit).await;
    assert_eq!(unanswered(&events), timed_out);
    service.stop().await;
}

fn status(subject: &str, status: StatusCode) -> Delivery {
    Delivery {
        subject: subject.into(),
        reply: None,
        payload: Bytes::from_static(b"not a message"),
        headers: None,
        status: Some(status),
        description: Some("forged or not".to_owned()),
    }
}

/// NA-7.
#[tokio::test]
async fn status_lines_are_neither_messages_nor_attacks() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &["req+sub:tools.>"]).await;
    let bob = mesh.join("bob", &["sub+serve:tools.>"]).await;
    // Nobody listens: an error of the bus.
    let error = alice.request("tools.nobody", "x".into()).await.unwrap_err();
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
    // To a subscription they are nothing.
    let taken = consume(alice.subscribe("tools.news").await.unwrap());
    for code in [
        StatusCode::NO_RESPONDERS,
        StatusCode::TIMEOUT,
        StatusCode::NOT_FOUND,
    ] {
        mesh.bus.forge(status("tools.news", code));
    }
    // To a request, everything but "no responders" is nothing.
    let held = Held::serve(&bob, "tools.a").await;
    let asker = alice.clone();
    let asked = tokio::spawn(async move { asker.request("tools.a", "true".into()).await });
    let request = held.begun(1).await.remove(0);
    let reply = request.reply.unwrap();
    for code in [
        StatusCode::TIMEOUT,
        StatusCode::NOT_FOUND,
        StatusCode::IDLE_HEARTBEAT,
    ] {
        mesh.bus.forge(status(&reply, code));
    }
    held.release(1);
    assert_eq!(asked.await.unwrap().unwrap().payload, "true");
    let counters = settled(&alice, 1).await;
    assert_eq!((counters.allowed, counters.denied_total()), (1, 0));
    assert_eq!(taken.count(), 0);
}

/// NA-7: an answer with a status line is no answer.
#[tokio::test]
async fn a_true_answer_with_a_status_line_is_not_delivered() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &["sub:news"]).await;
    let bob = mesh.join("bob", &["pub:news"]).await;
    let taken = consume(alice.subscribe("news").await.unwrap());
    let true_frame = sealed(&draft(mesh.now(), Action::Publish, "news"), &bob);
    let mut marked = Delivery::from(true_frame.clone());
    marked.status = Some(StatusCode::TIMEOUT);
    mesh.bus.forge(marked);
    // The same frame without it is accepted: the marked one left no trace.
    mesh.forge(&true_frame);
    assert_eq!(settled(&alice, 1).await.allowed, 1);
    assert_eq!(taken.count(), 1);
}

/// ID-10, EN-13: NATS headers beside a valid message say nothing.
#[tokio::test]
async fn headers_outside_the_envelope_are_dropped() {
    let mut mesh = Mesh::new();
    let bob = mesh.join("bob", &["sub:news"]).await;
    let alice = mesh.join("alice", &["pub:news"]).await;
    let mut news = bob.subscribe("news").await.unwrap();
    let mut outside = HeaderMap::new();
    outside.insert("Nats-Request-Info", r#"{"acc":"ROOT","user":"admin"}"#);
    outside.insert("Sender", "admin");
    let frame = sealed(&draft(mesh.now(), Action::Publish, "news"), &alice);
    mesh.forge(&frame.with_headers(outside.clone()));
    let message = news.next().await.unwrap();
    assert_eq!((message.sender(), &message.headers), (alice.id(), &None));
    // Signed ones arrive, and are the sender's words, not the mesh's.
    let sent = alice.publish_with_headers("news", outside.clone(), "x".into());
    sent.await.unwrap();
    let message = news.next().await.unwrap();
    assert_eq!(
        (message.sender(), &message.headers),
        (alice.id(), &Some(outside))
    );
}

/// A mesh on the shared NATS server, with subjects of its own.
struct OnNats {
    authority: Authority,
    prefix: String,
    subject: String,
    url: String,
}

impl OnNats {
    async fn new() -> Self {
        Self {
            authority: Authority::dev("nats").unwrap(),
            prefix: unique(),
            subject: unique(),
            url: nats::shared().await.url(),
        }
    }

    async fn join(&mut self, id: &str, actions: &str) -> Client {
        let scope = format!("{actions}:{}.>", self.subject);
        let identity = self.authority.agent(id, [scope]).unwrap();
        let options = ConnectOptions::new(identity).prefix(&self.prefix);
        options.connect(&self.url).await.unwrap()
    }

    fn subject(&self, last: &str) -> String {
        format!("{}.{last}", self.subject)
    }

    /// Waits until the server has dealt with what this client asked for: it answers in order.
    async fn reached(&self, client: &Client) {
        let nobody = self.subject(&format!("nobody.{}", unique()));
        let error = client.request(nobody, "".into()).await.unwrap_err();
        assert_eq!(error.kind(), RequestErrorKind::NoResponders);
    }

    async fn raw(&self) -> NatsBus {
        let options = bus::ConnectOptions::new();
        NatsBus::connect(&self.url, options).await.unwrap()
    }
}

/// NA-3, on NATS.
#[tokio::test]
async fn on_nats_an_eavesdropper_that_answers_first_is_refused() {
    let mut mesh = OnNats::new().await;
    let alice = mesh.join("alice", "req").await;
    let bob = mesh.join("bob", "sub+serve+req").await;
    let mallory = mesh.join("mallory", "pub").await;
    let held = Held::serve(&bob, &mesh.subject("a")).await;
    mesh.reached(&bob).await;
    let eve = mesh.raw().await;
    let ear = eve.subscribe(mesh.subject(">").into(), None).await;
    let mut ear = ear.unwrap();
    settle(&eve).await;
    let (asker, subject) = (alice.clone(), mesh.subject("a"));
    let asked = tokio::spawn(async move { asker.request(subject, "true".into()).await });
    let overheard = next(&mut ear).await;
    let forged = answer_first(&eve, &mallory, &alice, &overheard).await;
    settled(&alice, forged.into()).await;
    held.release(1);
    assert_eq!(asked.await.unwrap().unwrap().sender(), bob.id());
    let counters = settled(&alice, u64::from(forged) + 1).await;
    assert_eq!(
        (counters.allowed, counters.denied_total()),
        (1, forged.into())
    );
}

/// NA-6, on NATS.
#[tokio::test]
async fn on_nats_a_rogue_group_member_that_swallows_requests_is_a_timeout() {
    let mut mesh = OnNats::new().await;
    let alice = mesh.join("alice", "req").await;
    let bob = mesh.join("bob", "sub+serve+req").await;
    let group = || "workers".to_owned();
    let handler = |message: Message| async move { Ok::<_, String>(message.payload) };
    let subject = mesh.subject("a");
    let service = bob.queue_serve(subject.clone(), group(), handler);
    let service = service.await.unwrap();
    mesh.reached(&bob).await;
    let rogue = mesh.raw().await;
    let swallowed = rogue.subscribe(subject.clone().into(), Some(group()));
    let mut swallowed = swallowed.await.unwrap();
    settle(&rogue).await;
    let mut audit = alice.audit();
    // All at once, so that those which the rogue has take no longer than one.
    let asked = (0..40).map(|number| {
        let payload = Bytes::from(format!("{number}"));
        let request = alice.compose(subject.clone()).payload(payload.clone());
        let request = request.timeout(Some(std::time::Duration::from_secs(1)));
        async move { (payload, request.request().await) }
    });
    let (mut answered, mut timed_out) = (0, 0);
    for (payload, outcome) in futures::future::join_all(asked).await {
        match outcome {
            Ok(answer) => {
                assert_eq!((answer.sender(), &answer.payload), (bob.id(), &payload));
                answered += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), RequestErrorKind::TimedOut);
                timed_out += 1;
            }
        }
    }
    settle(&rogue).await;
    assert_eq!(arrived(&mut swallowed).len(), timed_out);
    assert!(answered > 5 && timed_out > 5, "{answered} and {timed_out}");
    assert_eq!(bob.counters().handler_runs, answered);
    let events = recorded(&alice, &mut audit).await;
    assert_eq!(unanswered(&events), timed_out);
    service.stop().await;
}

/// FR-1 and NA-8, on NATS.
#[tokio::test]
async fn on_nats_a_message_published_again_is_refused_here_and_elsewhere() {
    let mut mesh = OnNats::new().await;
    let alice = mesh.join("alice", "pub").await;
    let bob = mesh.join("bob", "sub+req").await;
    let taken = consume(bob.subscribe(mesh.subject("*")).await.unwrap());
    mesh.reached(&bob).await;
    let before = bob.counters().received;
    let eve = mesh.raw().await;
    let ear = eve.subscribe(mesh.subject("a").into(), None).await;
    let mut ear = ear.unwrap();
    settle(&eve).await;
    alice
        .publish(mesh.subject("a"), "once".into())
        .await
        .unwrap();
    let heard = next(&mut ear).await;
    for subject in ["a", "b"] {
        let copy = Outgoing::new(mesh.subject(subject), heard.payload.clone());
        eve.publish(copy).await.unwrap();
    }
    eve.flush().await.unwrap();
    let counters = settled(&bob, before + 3).await;
    assert_eq!(counters.denied_of(Class::Replay), 1);
    assert_eq!(counters.denied_of(Class::SubjectMismatch), 1);
    taken.reaches(counters.allowed).await;
}

/// NA-10: whatever a reconnect does to requests on their way, each is answered or an error, and
/// no handler runs twice for one message.
#[tokio::test]
async fn on_nats_requests_across_reconnects_are_answered_or_errors_and_run_once() {
    let mut mesh = OnNats::new().await;
    let alice = mesh.join("alice", "req").await;
    let bob = mesh.join("bob", "sub+serve+req").await;
    let ran = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = ran.clone();
    let handler = move |message: Message| {
        log.lock().unwrap().push(message.verified().claims().mid);
        async move { Ok::<_, String>(message.payload) }
    };
    let service = bob.serve(mesh.subject("a"), handler).await.unwrap();
    mesh.reached(&bob).await;
    let (mut answered, mut failed) = (0, 0);
    for round in 0..20u32 {
        let payload = Bytes::from(round.to_string());
        let draft = alice.compose(mesh.subject("a")).payload(payload.clone());
        let asked = draft
            .timeout(Some(std::time::Duration::from_millis(500)))
            .request();
        let cut = async {
            match round % 4 {
                0 => alice.force_reconnect().await.unwrap(),
                2 => bob.force_reconnect().await.unwrap(),
                _ => {}
            }
        };
        match tokio::join!(asked, cut).0 {
            Ok(answer) => {
                assert_eq!(answer.payload, payload);
                answered += 1;
            }
            Err(error) => {
                let kinds = [RequestErrorKind::TimedOut, RequestErrorKind::NoResponders];
                assert!(kinds.contains(&error.kind()), "{error:?}");
                failed += 1;
            }
        }
    }
    assert_eq!(answered + failed, 20);
    assert!(answered >= 5, "connections come back: {answered}");
    service.stop().await;
    let mut ran = ran.lock().unwrap().clone();
    let runs = ran.len();
    ran.sort_by_key(|mid| mid.0);
    ran.dedup();
    assert_eq!(ran.len(), runs, "no message ran twice");
    assert!(balances(&bob.counters()), "{:?}", bob.counters());
}
