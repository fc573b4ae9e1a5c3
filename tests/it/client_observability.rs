//! What a client lets others see: its peers, its logs, its debug output, its audit.

use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use data_encoding::BASE64;
use data_encoding::HEXLOWER;
use futures::StreamExt;
use trustmesh::AuditOptions;
use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::Message;
use trustmesh::bus;
use trustmesh::bus::Bus;
use trustmesh::bus::HeaderMap;
use trustmesh::bus::Outgoing;
use trustmesh::bus::nats::NatsBus;
use trustmesh::error::RefusedByPeer;
use trustmesh::keyfile;
use trustmesh::proto::envelope::Claims;
use trustmesh::proto::envelope::UnverifiedEnvelope;
use trustmesh::proto::names::Tag;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::scope::Action;
use trustmesh::proto::scope::Scope;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::time::Timestamp;
use trustmesh::services::authority::Authority;

use crate::support::eventually;
use crate::support::mesh::Mesh;
use crate::support::mesh::consume;
use crate::support::mesh::draft;
use crate::support::mesh::message;
use crate::support::mesh::sealed;
use crate::support::mesh::settled;
use crate::support::mesh::with_broken_payload;
use crate::support::mesh::with_broken_signature;
use crate::support::nats;
use crate::support::next;

/// Everything logged while the guard lives, on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn listen(&self, filter: &str) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn text(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

const CANARY: &str = "canary-3f9c1e";

/// The private key of a client, in every form in which it might leak.
fn forms_of_key(client: &Client) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    keyfile::create(&path, client.credential().key()).unwrap();
    let pem = std::fs::read_to_string(&path).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = BASE64.decode(body.as_bytes()).unwrap();
    // RFC 8410: the seed is an octet string of 32 bytes inside another.
    let at = der
        .windows(4)
        .position(|w| w == [0x04, 0x22, 0x04, 0x20])
        .unwrap()
        + 4;
    let seed = &der[at..at + 32];
    let debug = format!("{seed:?}");
    let debug = debug.trim_matches(['[', ']']).as_bytes().to_vec();
    let hex = HEXLOWER.encode(seed);
    vec![
        seed.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        BASE64.encode(seed).into_bytes(),
        debug,
        body.as_bytes()[body.len() - 40..].to_vec(),
    ]
}

fn holds(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|window| window == needle)
}

/// OB-1, AU-11: payloads and keys are in no log line, debug output, audit record or audit file.
#[tokio::test]
async fn payloads_and_keys_appear_in_no_log_debug_output_or_audit() {
    let log = Log::default();
    let _listening = log.listen("trace");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let mut mesh = Mesh::new();
    let tap = mesh.bus.tap();
    let all = ["pub+sub+req+serve+delegate:work.>"];
    let alice = mesh.join("alice", &all).await;
    let identity = mesh.authority.agent("bob", all).unwrap();
    let options = mesh.options(identity.clone());
    let options = options.audit(AuditOptions::default().file(&path));
    let mut debug = format!(
        "{options:?} {identity:?} {:?} {:?}",
        mesh.authority, mesh.bus
    );
    let bob = options.connect_bus(mesh.bus.connect()).await.unwrap();
    let mut stream = bob.audit();

    let handler = |message: Message| async move {
        assert!(message.payload != format!("{CANARY} panic"), "told to");
        Err::<Bytes, _>(CANARY)
    };
    let service = bob.serve("work.tool", handler).await.unwrap();
    let mut messages = bob.subscribe("work.a").await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("X-Secret", CANARY);
    let scope = Scope::parse(["pub:work.x"]).unwrap();
    let grant = alice
        .delegate(bob.id(), scope, std::time::Duration::from_secs(9))
        .unwrap();
    let draft_ = alice
        .compose("work.a")
        .payload(CANARY)
        .headers(headers.clone())
        .grant(&grant);
    debug += &format!("{draft_:?} {grant:?} {alice:?} {bob:?} {service:?} {messages:?}");
    draft_.publish().await.unwrap();
    let received = message(&mut messages).await;
    debug += &format!(
        "{received:?} {:?} {:#?}",
        received.verified(),
        received.verified().claims()
    );
    debug += &format!(
        "{:?} {:?}",
        received.granted().unwrap(),
        received.acting().unwrap()
    );
    let answer = alice
        .request_with_headers("work.tool", headers, CANARY.into())
        .await;
    debug += &format!("{answer:?}");
    alice
        .publish("work.tool", format!("{CANARY} panic").into())
        .await
        .unwrap();
    // And every way to be refused.
    let mut secret = draft(mesh.now(), Action::Publish, "work.a");
    secret.payload = CANARY.into();
    debug += &format!("{secret:?}");
    let valid = sealed(&secret, &alice);
    debug += &format!("{valid:?} {:?}", UnverifiedEnvelope::parse(&valid.payload));
    for payload in [
        valid.payload.clone(),
        valid.payload.clone(),
        with_broken_payload(&valid.payload),
        with_broken_signature(&valid.payload),
        Bytes::from_static(CANARY.as_bytes()),
    ] {
        mesh.forge(&Outgoing::new("work.a", payload));
    }
    let _taken = consume(messages);
    alice.handshake(bob.id()).await.unwrap();
    settled(&bob, 8).await;
    eventually("the panic is told", || bob.counters().handler_panics == 1).await;
    debug += &format!("{:?} {:?}", bob.counters(), alice.server_info());
    for error in [
        alice
            .publish("x", CANARY.into())
            .await
            .map_err(|e| format!("{e:?} {e}")),
        alice
            .publish("a b", CANARY.into())
            .await
            .map_err(|e| format!("{e:?} {e}")),
        alice
            .publish("work.a", vec![b'c'; 2_000_000].into())
            .await
            .map_err(|e| format!("{e:?}")),
    ] {
        debug += &error.unwrap_err();
    }
    bob.flush_audit().await;
    let mut records = String::new();
    while let Some(record) = stream.try_next() {
        records += &format!("{record:?}\n{}\n", serde_json::to_string(&record).unwrap());
    }
    let batches: Vec<u8> = tap
        .take()
        .iter()
        .filter(|m| m.subject.starts_with("trustmesh."))
        .flat_map(|m| m.payload.to_vec())
        .collect();
    let file = std::fs::read(&path).unwrap();
    let logged = log.text();
    assert!(
        logged.len() > 1_000 && holds(&logged, b"alice"),
        "it was listening"
    );
    assert!(file.len() > 1_000 && records.len() > 1_000 && batches.len() > 1_000);

    let places = [
        ("log", &logged[..]),
        ("debug", debug.as_bytes()),
        ("records", records.as_bytes()),
        ("batches", &batches),
        ("file", &file),
    ];
    let mut secrets = vec![
        CANARY.as_bytes().to_vec(),
        HEXLOWER.encode(CANARY.as_bytes()).into(),
    ];
    secrets.push(
        format!("{:?}", CANARY.as_bytes())
            .trim_matches(['[', ']'])
            .into(),
    );
    secrets.extend(forms_of_key(&alice));
    secrets.extend(forms_of_key(&bob));
    for (place, text) in places {
        for secret in &secrets {
            assert!(!holds(text, secret), "{place}: {}", secret.escape_ascii());
        }
    }
}

/// OB-1, with a connection that logs as well: ours at TRACE, everything else at DEBUG. At TRACE
/// `async_nats::connection` prints whole operations, payloads and CONNECT included; operators must
/// not turn that on.
#[tokio::test]
async fn on_nats_payloads_and_keys_appear_in_no_log_of_ours_and_in_none_at_debug() {
    let url = nats::shared().await.url();
    let subject = crate::support::unique();
    let log = Log::default();
    let listening = log.listen("debug,trustmesh=trace");
    let mut authority = Authority::dev("nats").unwrap();
    let identity = authority
        .agent("echo", [format!("pub+sub:{subject}")])
        .unwrap();
    let echo = ConnectOptions::new(identity).connect(url).await.unwrap();
    let mut messages = echo.subscribe(subject.clone()).await.unwrap();
    echo.publish(subject, CANARY.into()).await.unwrap();
    assert_eq!(message(&mut messages).await.payload, CANARY);
    echo.drain().await.unwrap();
    drop(listening);
    let logged = log.text();
    assert!(holds(&logged, b"echo"), "it was listening");
    assert!(!holds(&logged, CANARY.as_bytes()));
    for form in forms_of_key(&echo) {
        assert!(!holds(&logged, &form));
    }
}

/// Sends a crafted request and returns what the asker was told, if anything. `marker` is an agent
/// that policy denies `work.denied`: refusals are signed one after the other, so once its own
/// arrives, any before it has.
async fn told(mesh: &Mesh, bob: &Client, marker: &Client, request: Outgoing) -> Option<Claims> {
    let listener = mesh.bus.connect();
    let reply = request.reply.clone().unwrap();
    let mut asked = listener.subscribe(reply, None).await.unwrap();
    let last = ask(marker, mesh.now(), "work.denied");
    let reply = last.reply.clone().unwrap();
    let mut marked = listener.subscribe(reply, None).await.unwrap();
    let before = bob.counters();
    mesh.forge(&request);
    mesh.forge(&last);
    let after = settled(bob, before.received + 2).await;
    assert_eq!(after.denied_total(), before.denied_total() + 2);
    next(&mut marked).await;
    let answer = futures::FutureExt::now_or_never(asked.next()).flatten()?;
    let envelope = UnverifiedEnvelope::parse(&answer.payload).unwrap();
    Some(envelope.claims().clone())
}

/// A request, whatever its asker's own client would say to it.
fn ask(by: &Client, at: Timestamp, subject: &str) -> Outgoing {
    let mut request = draft(at, Action::Request, subject);
    request.reply = Some(Subject::parse(&by.new_inbox()).unwrap());
    sealed(&request, by)
}

/// OB-2: an authenticated requester learns that it was refused; which check refused it makes no
/// difference to a single byte it could tell apart.
#[tokio::test]
async fn refusals_of_different_classes_look_the_same_to_the_requester() {
    let rules = r#"{ "name": "no", "effect": "deny", "actions": ["req"], "subjects": "work.denied" },
        { "name": "direct", "effect": "allow", "actions": ["req"], "subjects": "work.direct",
          "min_score": 500 }"#;
    let mut mesh = Mesh::ruled(rules);
    let alice = mesh.join("alice", &["req:work.>"]).await;
    let narrow = mesh.join("narrow", &["req:other.>"]).await;
    let bob = mesh.join("bob", &["sub+serve:work.>"]).await;
    let handler = |_: Message| async { Ok::<_, String>(Bytes::new()) };
    let _service = bob.serve("work.*", handler).await.unwrap();
    let mut seen = Vec::new();
    for (by, subject, class) in [
        (&narrow, "work.a", Class::ScopeExceeded),
        (&alice, "work.denied", Class::PolicyDenied),
        (&alice, "work.direct", Class::TrustTooLow),
    ] {
        let before = bob.counters().denied_of(class);
        let request = ask(by, mesh.now(), subject);
        let claims = told(&mesh, &bob, &alice, request).await.expect("a refusal");
        assert!(bob.counters().denied_of(class) > before);
        assert_eq!(claims.action, Action::Serve);
        assert_eq!(claims.audience, Some(by.key()));
        seen.push((
            claims.payload_type.clone(),
            claims.content_hash,
            claims.content_len,
            claims.extensions.clone(),
            claims.ttl_ms,
        ));
    }
    assert!(seen.iter().all(|refusal| *refusal == seen[0]), "{seen:?}");
}

/// OB-2: who is refused again and again is told of ten refusals in a second.
#[tokio::test(start_paused = true)]
async fn one_requester_is_told_of_ten_refusals_in_a_second() {
    let rules = r#"{ "name": "no", "effect": "deny", "actions": ["req"],
        "subjects": "work.denied" }"#;
    let mut mesh = Mesh::ruled(rules);
    let alice = mesh.join("alice", &["req:work.>"]).await;
    let other = mesh.join("other", &["req:work.>"]).await;
    let bob = mesh.join("bob", &["sub+serve:work.>"]).await;
    let handler = |_: Message| async { Ok::<_, String>(Bytes::new()) };
    let _service = bob.serve("work.*", handler).await.unwrap();
    for _ in 0..30 {
        mesh.forge(&ask(&alice, mesh.now(), "work.denied"));
    }
    // The queue is worked off in order: once another is told, nothing of alice's is left in it.
    mesh.forge(&ask(&other, mesh.now(), "work.denied"));
    settled(&bob, 31).await;
    eventually("eleven refusals", || bob.counters().refusals_sent >= 11).await;
    assert_eq!(bob.counters().refusals_sent, 10 + 1);
}

/// NA-3: a refusal that sends its requester to somebody else for a session is a refusal and no
/// more.
#[tokio::test]
async fn a_refusal_that_names_another_agent_leads_to_no_handshake() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &["req:work.>"]).await;
    let carol = mesh.join("carol", &["serve:work.>"]).await;
    let bob = mesh.join("bob", &["serve:work.>"]).await;
    let listener = mesh.bus.connect();
    let everything = |text| bus::Subject::from(text);
    let mut requests = listener
        .subscribe(everything("work.a"), None)
        .await
        .unwrap();
    let handshakes = everything("trustmesh.handshake.>");
    let mut handshakes = listener.subscribe(handshakes, None).await.unwrap();
    for (agent, key) in [
        (carol.id(), carol.key()),
        (carol.id(), bob.key()),
        (bob.id(), carol.key()),
    ] {
        let requester = alice.clone();
        let asking = tokio::spawn(async move { requester.request("work.a", "x".into()).await });
        let request = next(&mut requests).await;
        let envelope = UnverifiedEnvelope::parse(&request.payload).unwrap();
        let reply = envelope.claims().reply.clone().unwrap();
        let mut refusal = draft(mesh.now(), Action::Serve, reply.as_str());
        refusal.audience = Some(alice.key());
        refusal.in_reply_to = Some(Tag::Envelope.digest(&header_of(&request.payload)));
        refusal.payload_type = "trustmesh/refusal";
        let (key, instance) = (
            serde_bytes::Bytes::new(&key.0),
            serde_bytes::Bytes::new(&[7; 8]),
        );
        let hint = rmp_serde::to_vec(&(1, agent.as_str(), key, instance));
        refusal.payload = hint.unwrap().into();
        mesh.forge(&sealed(&refusal, &bob));
        let error = asking.await.unwrap().unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        assert!(source.is::<RefusedByPeer>(), "{error:?}");
    }
    assert!(futures::FutureExt::now_or_never(handshakes.next()).is_none());
}

/// The header of a frame: after magic, array, version and mode, as a byte string.
fn header_of(frame: &[u8]) -> Vec<u8> {
    let (start, len) = match frame[7] {
        0xc4 => (9, usize::from(frame[8])),
        _ => (10, usize::from(u16::from_be_bytes([frame[8], frame[9]]))),
    };
    frame[start..start + len].to_vec()
}

/// OB-2: whoever is not authenticated is told nothing at all.
#[tokio::test]
async fn an_unauthenticated_requester_is_told_nothing() {
    let rules = r#"{ "name": "no", "effect": "deny", "actions": ["req"],
        "subjects": "work.denied" }"#;
    let mut mesh = Mesh::ruled(rules);
    let alice = mesh.join("alice", &["req:work.>"]).await;
    let gone = mesh.join("gone", &["req:work.>"]).await;
    let blocked = mesh.join("blocked", &["req:work.>"]).await;
    let bob = mesh.join("bob", &["sub+serve:work.>"]).await;
    mesh.authority.revoke_agent("gone").unwrap();
    let text = format!(
        r#"{{ "blocked": {{ "agents": ["blocked"] }}, "rules": [ {rules}, {{ "name": "all",
            "effect": "allow", "actions": ["pub", "sub", "req", "serve"], "subjects": ">" }} ] }}"#
    );
    mesh.authority
        .set_policy(Policy::from_json(&text).unwrap())
        .unwrap();
    let mut elsewhere = Mesh::new();
    let stranger = elsewhere.join("alice", &["req:work.>"]).await;
    let handler = |_: Message| async { Ok::<_, String>(Bytes::new()) };
    let _service = bob.serve("work.*", handler).await.unwrap();
    let now = mesh.now();
    let ask = |by, at| ask(by, at, "work.a");
    let honest = ask(&alice, now);
    let with = |payload: Bytes| Outgoing {
        payload,
        ..honest.clone()
    };
    for (request, class) in [
        (ask(&stranger, now), Class::UntrustedRoot),
        (ask(&gone, now), Class::Revoked),
        (ask(&blocked, now), Class::Blocked),
        (ask(&alice, now.minus(60_000)), Class::Expired),
        (
            with(with_broken_signature(&honest.payload)),
            Class::BadSignature,
        ),
        (
            with(with_broken_payload(&honest.payload)),
            Class::BadSignature,
        ),
        (with(Bytes::from_static(b"garbage")), Class::Malformed),
    ] {
        let before = bob.counters().denied_of(class);
        let nothing = told(&mesh, &bob, &alice, request).await;
        assert!(nothing.is_none(), "{class:?}");
        assert!(bob.counters().denied_of(class) > before, "{class:?}");
    }
}

/// OB-3: what is in a server's address stays out of errors and debug output.
#[tokio::test]
async fn broker_credentials_appear_in_no_error_or_debug_output() {
    let server = nats::shared().await;
    let with_password = format!("nats://user:{CANARY}@127.0.0.1:{}", server.port());
    let connected = NatsBus::connect(with_password, bus::ConnectOptions::new()).await;
    let connected = connected.unwrap();
    let mut debug = format!("{connected:?} {:?}", connected.server_info());
    let mut authority = Authority::dev("nats").unwrap();
    let identity = authority.agent("a", ["pub:x"]).unwrap();
    let options = ConnectOptions::new(identity);
    let secret = bus::ConnectOptions::with_user_and_password("user".into(), CANARY.into());
    let options = options.nats(secret);
    debug += &format!("{options:?}");
    let client = options.connect(server.url()).await.unwrap();
    debug += &format!("{client:?}");
    client.drain().await.unwrap();
    let error = client.publish("x", "y".into()).await.unwrap_err();
    debug += &format!("{error:?} {error}");
    // Port 9 discards; nobody listens there.
    let nobody = format!("nats://user:{CANARY}@127.0.0.1:9");
    let error = NatsBus::connect(nobody, bus::ConnectOptions::new()).await;
    let error = error.unwrap_err();
    debug += &format!("{error:?} {error}");
    let error = NatsBus::connect(
        format!("nats://user:{CANARY}@:::"),
        bus::ConnectOptions::new(),
    );
    debug += &format!("{:?}", error.await.unwrap_err());
    assert!(!debug.contains(CANARY), "{debug}");
}
