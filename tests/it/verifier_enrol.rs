//! Joining a mesh through the verifier service, on an honest bus and on a hostile one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trustmesh::audit::AuditEvent;
use trustmesh::audit::AuditItem;
use trustmesh::bus::Bus;
use trustmesh::bus::Outgoing;
use trustmesh::bus::faults::Fault;
use trustmesh::bus::faults::Faults;
use trustmesh::bus::faults::Rule;
use trustmesh::client::enrol::EnrolError;
use trustmesh::client::enrol::Enrolled;
use trustmesh::proto::enrol::EnrolFrame;
use trustmesh::proto::enrol::EnrolRefused;
use trustmesh::proto::enrol::Enrollee;
use trustmesh::proto::enrol::Offer;
use trustmesh::proto::envelope::inbox_prefix;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::join::JoinToken;
use trustmesh::proto::request::enrol_subject;
use trustmesh::proto::root::TrustRoot;
use trustmesh::proto::signing::ObjectId;
use trustmesh::services::authority::Authority;
use trustmesh::services::verifier::VerifierOptions;

use crate::support::PATIENCE;
use crate::support::arrived;
use crate::support::mesh::message;
use crate::support::next;
use crate::support::plane::Plane;
use crate::support::plane::Wire;
use crate::support::plane::id;
use crate::support::plane::key;
use crate::support::plane::terms;
use crate::support::settle;

fn refused(outcome: Result<Enrolled, EnrolError>) -> EnrolRefused {
    match outcome {
        Err(EnrolError::Refused(reason)) => reason,
        other => panic!("no refusal: {other:?}"),
    }
}

/// Two agents join and talk.
async fn two_agents_join_and_talk(wire: Wire) {
    let plane = Plane::new(wire).await;
    let alice = plane.agent("alice", &["pub:greet.>"]).await;
    let bob = plane.agent("bob", &["sub:greet.>"]).await;
    let mut greetings = bob.subscribe("greet.>").await.unwrap();
    settle(&*plane.wire.raw().await).await;
    bob.flush().await.unwrap();
    loop {
        alice.publish("greet.bob", "hello".into()).await.unwrap();
        let heard = tokio::time::timeout(Duration::from_millis(500), message(&mut greetings));
        if let Ok(heard) = heard.await {
            assert_eq!(heard.sender().as_str(), "alice");
            break;
        }
    }
    let until = plane.trust.current();
    let until = until.certificates_of(alice.id())[0].claims().validity;
    assert!(until.millis() <= 24 * 3_600_000);
    assert!(plane.service.stop().await.is_some());
}

#[tokio::test]
async fn agents_join_and_talk_in_process() {
    two_agents_join_and_talk(Wire::memory()).await;
}

#[tokio::test]
async fn agents_join_and_talk_over_nats() {
    two_agents_join_and_talk(Wire::nats().await).await;
}

/// ID-4: 64 at once with one token: one wins, and the others are told.
async fn one_token_admits_one(wire: Wire) {
    let plane = Arc::new(Plane::new(wire).await);
    let token = plane.token(terms(&["sub:x"])).await;
    let tries = (0..64).map(|n| {
        let (plane, token) = (plane.clone(), token.clone());
        tokio::spawn(async move { plane.join(&token, &format!("a{n}"), key()).await })
    });
    let tries: Vec<_> = tries.collect();
    let mut admitted = 0;
    for outcome in tries {
        match outcome.await.unwrap() {
            Ok(_) => admitted += 1,
            Err(EnrolError::Refused(EnrolRefused::TokenUsed)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(admitted, 1);
    // The service and the one that joined.
    assert_eq!(plane.trust.current().certificates().count(), 2);
}

#[tokio::test]
async fn one_token_admits_one_of_64_in_process() {
    one_token_admits_one(Wire::memory()).await;
}

#[tokio::test]
async fn one_token_admits_one_of_64_over_nats() {
    one_token_admits_one(Wire::nats().await).await;
}

/// ID-4, ID-5, ID-11: what is not to be had is refused with its reason, once the token is genuine.
#[tokio::test]
async fn a_genuine_token_is_told_why_it_is_refused() {
    let plane = Plane::new(Wire::memory()).await;
    let token = plane.token(terms(&["sub:x"])).await;
    let first = plane.join(&token, "alice", key()).await.unwrap();
    let token = plane.token(terms(&["sub:x"])).await;
    let taken = plane.join(&token, "alice", key()).await;
    assert_eq!(refused(taken), EnrolRefused::IdTaken);
    let reserved = plane.join(&token, "verifier/b", key()).await;
    assert_eq!(refused(reserved), EnrolRefused::Reserved);
    let bus = plane.wire.raw().await;
    let shared = plane.enrolment(&token).agent(id("bob"));
    let shared = shared.join(&*bus, first.key.clone()).await;
    assert_eq!(refused(shared), EnrolRefused::KeyTaken);
    let stolen = key();
    let public = stolen.public().bytes();
    let revoked = plane.service.change(move |mesh| mesh.revoke_key(public));
    revoked.await.unwrap().in_force().unwrap().unwrap();
    let revoked = plane.join(&token, "bob", stolen).await;
    assert_eq!(refused(revoked), EnrolRefused::Revoked);
    plane.clock.advance(Duration::from_secs(8 * 24 * 3600));
    let late = plane.join(&token, "bob", key()).await;
    assert_eq!(refused(late), EnrolRefused::TokenExpired);
}

/// ID-4: who asks for an id that is another's is refused, the service's audit says who asked for
/// what and why not, and the registry is as it was.
#[tokio::test]
async fn a_second_key_for_a_taken_id_is_refused_and_in_the_audit() {
    let plane = Plane::new(Wire::memory()).await;
    let watches = format!("sub:{}.audit.*", plane.prefix);
    let auditor = plane.agent("auditor", &[&watches]).await;
    let token = plane.token(terms(&["sub:x"])).await;
    let first = plane.join(&token, "alice", key()).await.unwrap();
    let mut audit = trustmesh::audit::subscribe(&auditor).await.unwrap();
    let before = plane.trust.current().registered();
    let (token, mallory) = (plane.token(terms(&["sub:x"])).await, key());
    let asking = mallory.public().bytes().to_string();
    let taken = plane.join(&token, "alice", mallory).await;
    assert_eq!(refused(taken), EnrolRefused::IdTaken);
    let told = async {
        loop {
            let item = futures::StreamExt::next(&mut audit).await.unwrap();
            let Ok(AuditItem::Record(record)) = item else {
                continue;
            };
            match record.event {
                AuditEvent::Notice { topic, text } if text.contains(&asking) => {
                    return (topic, text);
                }
                _ => {}
            }
        }
    };
    let (topic, text) = tokio::time::timeout(PATIENCE, told).await.unwrap();
    assert_eq!(topic, "enrol");
    assert!(text.contains(EnrolRefused::IdTaken.name()), "{text}");
    let trust = plane.trust.current();
    assert_eq!(trust.registered(), before);
    let [certificate] = &trust.certificates_of(&id("alice"))[..] else {
        panic!("alice has one key");
    };
    assert_eq!(certificate.claims().key, first.key.public().bytes());
}

/// Without a genuine token one answer looks like the other, whether the agent exists or not.
#[tokio::test]
async fn who_has_no_token_cannot_find_out_who_exists() {
    let plane = Plane::new(Wire::memory()).await;
    plane.agent("alice", &["sub:x"]).await;
    // A registrar of its own, of a mesh that says to be this one.
    let forged = forged_token(&plane);
    let mut answers = Vec::new();
    for agent in ["alice", "nobody", "verifier"] {
        let asking = key();
        let (subject, inbox) = (enrol_subject(&plane.prefix), inbox(&asking));
        let bus = plane.wire.raw().await;
        let mut raw = bus.subscribe(inbox.as_str().into(), None).await.unwrap();
        let hello = forged_hello(&plane, &forged, agent, &asking);
        bus.publish(Outgoing::new(subject, hello).with_reply(inbox))
            .await
            .unwrap();
        let root = TrustRoot::parse(&plane.root).unwrap();
        let EnrolFrame::Refused(refusal) =
            EnrolFrame::parse(&next(&mut raw).await.payload).unwrap()
        else {
            panic!("an answer of another kind");
        };
        answers.push(refusal.verify(&root, &[refusal.about()]));
    }
    assert_eq!(answers, [Some(EnrolRefused::Refused); 3]);
}

/// A token for this mesh, signed by a stranger.
fn forged_token(plane: &Plane) -> JoinToken {
    let other = Authority::dev("other").unwrap();
    let mut claims = other
        .join_token(&terms(&["sub:x"]))
        .unwrap()
        .claims()
        .clone();
    let secret = Arc::new(key());
    claims.mesh = plane.trust.current().mesh();
    claims.key = secret.public().bytes();
    JoinToken::sign(&claims, (0, &key()), secret).unwrap()
}

/// The hello of somebody whose software does not look at the token. The frame is
/// `"TMEN" [1, 1, body]`.
fn forged_hello(plane: &Plane, token: &JoinToken, agent: &str, asking: &SigningKey) -> Bytes {
    let root = TrustRoot::parse(&plane.root).unwrap();
    assert!(Enrollee::new(token, asking, Some(&id(agent)), &root, [1; 16]).is_err());
    let bin = push_bin;
    let mut body = vec![0x96, 1];
    bin(&mut body, token.statement());
    body.push(0xa0 | agent.len() as u8);
    body.extend_from_slice(agent.as_bytes());
    bin(&mut body, &asking.public().bytes().0);
    bin(&mut body, &[1; 16]);
    body.push(0x90);
    let mut frame = b"TMEN\x93\x01\x01".to_vec();
    bin(&mut frame, &body);
    frame.into()
}

fn push_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    match u8::try_from(bytes.len()) {
        Ok(len) => out.extend_from_slice(&[0xc4, len]),
        Err(_) => {
            out.push(0xc5);
            out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

fn inbox(key: &SigningKey) -> String {
    format!("{}.test", inbox_prefix(&key.public().bytes()))
}

/// An enrolment by hand, frame by frame.
struct ByHand {
    bus: Arc<dyn Bus>,
    answers: trustmesh::bus::BusSubscriber,
    subject: String,
    inbox: String,
}

impl ByHand {
    async fn new(plane: &Plane, key: &SigningKey) -> Self {
        let (bus, inbox) = (plane.wire.raw().await, inbox(key));
        let answers = bus.subscribe(inbox.as_str().into(), None).await.unwrap();
        let subject = enrol_subject(&plane.prefix);
        Self {
            bus,
            answers,
            subject,
            inbox,
        }
    }

    async fn ask(&mut self, frame: Bytes) -> EnrolFrame {
        let frame = Outgoing::new(self.subject.as_str(), frame);
        let sent = self.bus.publish(frame.with_reply(self.inbox.as_str()));
        sent.await.unwrap();
        EnrolFrame::parse(&next(&mut self.answers).await.payload).unwrap()
    }

    async fn offer(&mut self, enrollee: &Enrollee<'_>) -> Offer {
        match self.ask(enrollee.hello()).await {
            EnrolFrame::Offer { offer, .. } => offer,
            other => panic!("no offer: {other:?}"),
        }
    }

    async fn refusal(&mut self, plane: &Plane, frame: Bytes) -> EnrolRefused {
        let root = TrustRoot::parse(&plane.root).unwrap();
        match self.ask(frame).await {
            EnrolFrame::Refused(refusal) => refusal.verify(&root, &[refusal.about()]).unwrap(),
            other => panic!("no refusal: {other:?}"),
        }
    }
}

fn begin<'a>(
    plane: &Plane,
    token: &'a JoinToken,
    key: &'a SigningKey,
    agent: &str,
    nonce: u8,
) -> Enrollee<'a> {
    let root = TrustRoot::parse(&plane.root).unwrap();
    Enrollee::new(token, key, Some(&id(agent)), &root, [nonce; 16]).unwrap()
}

#[tokio::test]
async fn a_replayed_proof_is_refused() {
    let plane = Plane::new(Wire::memory()).await;
    let (token, worker) = (plane.token(terms(&["sub:x"])).await, key());
    let mut hand = ByHand::new(&plane, &worker).await;
    let enrollee = begin(&plane, &token, &worker, "worker", 1);
    let offer = hand.offer(&enrollee).await;
    let (_, proof) = enrollee.answer(&enrollee.hello_id(), &offer).unwrap();
    let welcome = hand.ask(proof.clone()).await;
    assert!(matches!(welcome, EnrolFrame::Welcome(_)));
    assert_eq!(hand.refusal(&plane, proof).await, EnrolRefused::Offer);
}

#[tokio::test]
async fn an_offer_that_waited_too_long_is_refused() {
    let plane = Plane::new(Wire::memory()).await;
    let (token, worker) = (plane.token(terms(&["sub:x"])).await, key());
    let mut hand = ByHand::new(&plane, &worker).await;
    let enrollee = begin(&plane, &token, &worker, "worker", 1);
    let offer = hand.offer(&enrollee).await;
    let (_, proof) = enrollee.answer(&enrollee.hello_id(), &offer).unwrap();
    plane.clock.advance(Duration::from_millis(10_001));
    assert_eq!(hand.refusal(&plane, proof).await, EnrolRefused::Offer);
}

#[tokio::test]
async fn an_offer_with_another_body_or_of_another_token_is_refused() {
    let plane = Plane::new(Wire::memory()).await;
    let (token, worker) = (plane.token(terms(&["sub:x"])).await, key());
    let other = plane.token(terms(&["pub:>"])).await;
    let mut hand = ByHand::new(&plane, &worker).await;
    let enrollee = begin(&plane, &token, &worker, "worker", 1);
    let offer = hand.offer(&enrollee).await;
    let mut claims = offer.claims().unwrap();
    claims.key_epoch = 7;
    let mut swapped = offer.clone();
    swapped.body = claims.body().into();
    let (_, proof) = enrollee.answer(&enrollee.hello_id(), &swapped).unwrap();
    assert_eq!(hand.refusal(&plane, proof).await, EnrolRefused::Offer);
    let greedy = begin(&plane, &other, &worker, "worker", 2);
    let (_, proof) = greedy.answer(&greedy.hello_id(), &offer).unwrap();
    assert_eq!(hand.refusal(&plane, proof).await, EnrolRefused::Offer);
}

/// ID-12, HS-4: what is enrolled is what the token says, whatever is asked.
#[tokio::test]
async fn a_token_without_scope_yields_a_certificate_alone() {
    let plane = Plane::new(Wire::memory()).await;
    let token = plane.token(terms(&[])).await;
    let enrolled = plane.join(&token, "guest", key()).await.unwrap();
    assert!(enrolled.grant.is_none());
    assert!(enrolled.identity(plane.trust.clone()).is_err());
    assert!(plane.trust.current().certificate_of(&id("guest")));
}

trait Registered {
    fn certificate_of(&self, agent: &trustmesh::proto::identity::AgentId) -> bool;
}

impl Registered for trustmesh::proto::trust::TrustState {
    fn certificate_of(&self, agent: &trustmesh::proto::identity::AgentId) -> bool {
        !self.certificates_of(agent).is_empty()
    }
}

/// Whoever sees every frame can neither join by them nor take the place of who does.
#[tokio::test]
async fn an_eavesdropper_gains_nothing() {
    let plane = Plane::new(Wire::memory()).await;
    let tap = plane.memory().tap();
    let token = plane.token(terms(&["sub:x"])).await;
    let enrolled = plane.join(&token, "worker", key()).await.unwrap();
    let seen = tap.take();
    let secret = token.to_text();
    let frames: Vec<_> = seen
        .iter()
        .filter(|message| message.payload.starts_with(b"TMEN"))
        .collect();
    assert_eq!(frames.len(), 4);
    // The seed is the last thing in the token before its check of four bytes.
    let raw = data_encoding_of(&secret);
    let seed = &raw[raw.len() - 36..raw.len() - 4];
    for frame in &frames {
        let mut windows = frame.payload.windows(32);
        assert!(!windows.any(|window| window == seed));
    }
    // Everything is sent again, to his own inbox and to the old one.
    let spy = key();
    let bus = plane.wire.raw().await;
    let mut answers = bus
        .subscribe(inbox(&spy).as_str().into(), None)
        .await
        .unwrap();
    for frame in &frames {
        for reply in [inbox(&spy), "stolen.inbox".to_owned()] {
            let again = Outgoing::new(enrol_subject(&plane.prefix), frame.payload.clone());
            bus.publish(again.with_reply(reply)).await.unwrap();
        }
    }
    plane.caught_up().await;
    settle(&*bus).await;
    assert!(arrived(&mut answers).is_empty());
    let trust = plane.trust.current();
    assert_eq!(trust.certificates().count(), 2);
    assert!(trust.certificate(&enrolled.key.public().bytes()).is_some());
}

fn data_encoding_of(text: &str) -> Vec<u8> {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let value = |c: u8| digits.iter().position(|d| *d == c).unwrap() as u32;
    let (mut bits, mut held, mut out) = (0, 0u32, Vec::new());
    for c in text.bytes().skip(4) {
        held = held << 6 | value(c);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    out
}

/// Messages that are lost, doubled, delayed and damaged: in the end the agent has joined, once.
#[tokio::test]
async fn an_agent_joins_over_a_bus_that_loses_doubles_and_damages() {
    for seed in 1..=3 {
        let plane = Plane::new(Wire::memory()).await;
        let token = plane.token(terms(&["sub:x"])).await;
        plane.memory().inject(
            Faults::seeded(seed)
                .with(Rule::on(">", Fault::Drop).chance(0.3))
                .with(Rule::on(">", Fault::Duplicate(2)).chance(0.3))
                .with(Rule::on(">", Fault::Corrupt).chance(0.2))
                .with(Rule::on(">", Fault::Delay(Duration::from_millis(5))).chance(0.3)),
        );
        let bus = plane.wire.raw().await;
        let enrolment = plane.enrolment(&token).agent(id("worker"));
        let enrolment = enrolment.timeout(Duration::from_secs(60));
        let enrolled = enrolment.join(&*bus, Arc::new(key())).await.unwrap();
        plane.memory().heal();
        let trust = plane.trust.current();
        let registered = trust.certificate(&enrolled.key.public().bytes()).unwrap();
        assert_eq!(registered.agent().as_str(), "worker");
        assert_eq!(trust.certificates().count(), 2);
    }
}

/// A welcome that never arrives: the agent asks again and gets the same certificate.
#[tokio::test]
async fn a_lost_welcome_is_sent_again() {
    let plane = Plane::new(Wire::memory()).await;
    let (token, worker) = (plane.token(terms(&["sub:x"])).await, key());
    let mut hand = ByHand::new(&plane, &worker).await;
    let mut given = Vec::new();
    for nonce in [1, 2] {
        let enrollee = begin(&plane, &token, &worker, "worker", nonce);
        let offer = hand.offer(&enrollee).await;
        let (_, proof) = enrollee.answer(&enrollee.hello_id(), &offer).unwrap();
        let EnrolFrame::Welcome(welcome) = hand.ask(proof).await else {
            panic!("no welcome");
        };
        given.push((welcome.certificate, welcome.grant));
    }
    assert_eq!(given[0], given[1]);
}

/// DO-11: a flood of hellos is limited, and agents that have joined go on verifying each other.
#[tokio::test]
async fn a_flood_of_hellos_is_limited_and_leaves_agents_alone() {
    let mut settings = VerifierOptions::default();
    settings.hellos_per_second = 50;
    let plane = Plane::with(Wire::memory(), settings, |_| {}).await;
    let alice = plane.agent("alice", &["pub:greet.>"]).await;
    let bob = plane.agent("bob", &["sub:greet.>"]).await;
    let mut greetings = bob.subscribe("greet.>").await.unwrap();
    let flooder = key();
    let bus = plane.wire.raw().await;
    let mut answers = bus
        .subscribe(inbox(&flooder).as_str().into(), None)
        .await
        .unwrap();
    let token = forged_token(&plane);
    for n in 0..5_000 {
        let hello = forged_hello(&plane, &token, &format!("a{n}"), &flooder);
        let hello = Outgoing::new(enrol_subject(&plane.prefix), hello);
        bus.publish(hello.with_reply(inbox(&flooder)))
            .await
            .unwrap();
        if n % 1_000 == 0 {
            alice.publish("greet.bob", "hello".into()).await.unwrap();
            assert_eq!(message(&mut greetings).await.sender().as_str(), "alice");
        }
    }
    plane.caught_up().await;
    settle(&*bus).await;
    // The clock stands still: it is all one second.
    assert!(arrived(&mut answers).len() <= 50);
    plane.clock.advance(Duration::from_secs(1));
    let joined = plane.agent("carol", &["sub:x"]).await;
    assert_eq!(joined.id().as_str(), "carol");
}

/// What does not go to the asker's own inbox is not answered, so that nobody is hit through the
/// service.
#[tokio::test]
async fn answers_go_to_the_askers_own_inbox_only() {
    let plane = Plane::new(Wire::memory()).await;
    let (token, worker) = (plane.token(terms(&["sub:x"])).await, key());
    let enrollee = begin(&plane, &token, &worker, "worker", 1);
    let bus = plane.wire.raw().await;
    let mut victim = bus.subscribe("victim.>".into(), None).await.unwrap();
    let hello = Outgoing::new(enrol_subject(&plane.prefix), enrollee.hello());
    bus.publish(hello.with_reply("victim.inbox")).await.unwrap();
    plane.caught_up().await;
    settle(&*bus).await;
    assert!(arrived(&mut victim).is_empty());
}

/// A refusal that the registrar did not sign ends nothing.
#[tokio::test]
async fn a_forged_refusal_does_not_end_an_enrolment() {
    use trustmesh::proto::enrol::Refusal;

    let plane = Plane::new(Wire::memory()).await;
    let token = plane.token(terms(&["sub:x"])).await;
    let stranger = key();
    // Every hello comes back as a refusal, ahead of the offer.
    let about = ObjectId([0; 32]);
    let refusal = Refusal::frame(&about, EnrolRefused::TokenUsed, (0, &stranger));
    let fault = Fault::alter(move |delivery| {
        if delivery.payload.starts_with(b"TMEN\x93\x01\x02") {
            delivery.payload = refusal.clone();
        }
    });
    plane
        .memory()
        .inject(Faults::seeded(1).with(Rule::on("_INBOX.>", fault).times(1)));
    let joined = plane.join(&token, "worker", key()).await.unwrap();
    assert_eq!(joined.agent.as_str(), "worker");
}

/// A revoked registrar admits nobody.
#[tokio::test]
async fn a_token_of_a_revoked_registrar_is_refused() {
    let plane = Plane::new(Wire::memory()).await;
    let token = plane.token(terms(&["sub:x"])).await;
    let root = TrustRoot::parse(&plane.root).unwrap();
    let registrar = root.keys(trustmesh::proto::root::Role::Registrar)[0].bytes();
    let revoked = plane.service.change(move |mesh| mesh.revoke_key(registrar));
    revoked.await.unwrap().in_force().unwrap().unwrap();
    let outcome = plane.join(&token, "worker", key()).await;
    assert_eq!(refused(outcome), EnrolRefused::TokenRevoked);
}

/// A token of another mesh is noticed before anything is sent.
#[tokio::test]
async fn a_token_of_another_mesh_is_not_used_here() {
    let plane = Plane::new(Wire::memory()).await;
    let foreign = Authority::dev("other").unwrap();
    let foreign = foreign.join_token(&terms(&["sub:x"])).unwrap();
    let outcome = plane.join(&foreign, "worker", key()).await;
    assert!(matches!(outcome, Err(EnrolError::Root)));
}
