//! What agents ask the verifier service: renewal, rotation, revocation.

use std::sync::Arc;
use std::time::Duration;

use trustmesh::Client;
use trustmesh::Identity;
use trustmesh::audit::AuditEvent;
use trustmesh::bus::Bus;
use trustmesh::bus::Outgoing;
use trustmesh::bus::faults::Fault;
use trustmesh::bus::faults::Faults;
use trustmesh::bus::faults::Rule;
use trustmesh::client::AuditStream;
use trustmesh::client::enrol::Enrolled;
use trustmesh::client::plane::PlaneError;
use trustmesh::client::plane::Rotated;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::control::ControlSender;
use trustmesh::proto::enrol::EnrolRefused;
use trustmesh::proto::envelope::inbox_prefix;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::replay::MessageId;
use trustmesh::proto::request::ControlRequest;
use trustmesh::proto::request::Verb;
use trustmesh::proto::request::control_subject;
use trustmesh::proto::scope::Scope;
use trustmesh::proto::subject::Subject;
use trustmesh::services::verifier::VerifierOptions;

use crate::support::arrived;
use crate::support::eventually;
use crate::support::mesh::denied;
use crate::support::mesh::message;
use crate::support::mesh::recorded;
use crate::support::next;
use crate::support::plane::Plane;
use crate::support::plane::Wire;
use crate::support::plane::id;
use crate::support::plane::key;
use crate::support::plane::terms;
use crate::support::settle;

const HOUR: Duration = Duration::from_secs(3600);

fn refused<T: std::fmt::Debug>(outcome: Result<T, PlaneError>) -> EnrolRefused {
    match outcome {
        Err(PlaneError::Refused(reason)) => reason,
        other => panic!("no refusal: {other:?}"),
    }
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

/// What a rotation gave, with its key, as somebody to connect as.
fn rotated(plane: &Plane, agent: &str, key: SigningKey, rotated: Rotated) -> Identity {
    let enrolled = Enrolled {
        agent: id(agent),
        key: Arc::new(key),
        certificate: rotated.certificate,
        grant: rotated.grant,
        root: plane.trust.current().root().id(),
    };
    enrolled.identity(plane.trust.clone()).unwrap()
}

/// A certificate and a grant are renewed, and the client goes on under both.
async fn an_agent_goes_on(wire: Wire) {
    let plane = Plane::new(wire).await;
    let alice = plane.agent("alice", &["pub+sub:greet.>"]).await;
    let mut greetings = alice.subscribe("greet.>").await.unwrap();
    let first = alice.credential().chain().leaf().clone();
    plane.pass(8 * HOUR).await;
    let until = alice.renew().await.unwrap();
    assert!(until > plane.now().plus(11 * 3_600_000));
    let until = alice.renew_grant().await.unwrap();
    assert!(until > first.validity().until());
    let second = alice.credential().chain().leaf().clone();
    assert_eq!(second.scope(), first.scope());
    assert_eq!(second.validity().millis(), first.validity().millis());
    // Past the end of the first certificate, before that of the second.
    plane.pass(6 * HOUR).await;
    alice.publish("greet.me", "hello".into()).await.unwrap();
    assert_eq!(message(&mut greetings).await.sender().as_str(), "alice");
    // Past the end of the first grant: the subscription goes by the second.
    alice.renew().await.unwrap();
    plane.pass(11 * HOUR).await;
    alice.renew().await.unwrap();
    alice.publish("greet.me", "hello".into()).await.unwrap();
    assert_eq!(message(&mut greetings).await.sender().as_str(), "alice");
}

#[tokio::test]
async fn an_agent_goes_on_after_renewal_in_process() {
    an_agent_goes_on(Wire::memory()).await;
}

#[tokio::test]
async fn an_agent_goes_on_after_renewal_over_nats() {
    an_agent_goes_on(Wire::nats().await).await;
}

#[tokio::test]
async fn a_certificate_that_has_expired_cannot_renew_itself() {
    let plane = Plane::new(Wire::memory()).await;
    let alice = plane.agent("alice", &["pub:x"]).await;
    plane.clock.advance(13 * HOUR);
    tokio::time::pause();
    let outcome = alice.renew().await;
    assert!(matches!(
        outcome,
        Err(PlaneError::TimedOut | PlaneError::Denied(_))
    ));
}

/// The background asks in time, and the audit says so; what fails is tried again.
#[tokio::test]
async fn renewal_in_the_background_is_in_time_and_in_the_audit() {
    let plane = Plane::new(Wire::memory()).await;
    let alice = plane.agent("alice", &["pub:x"]).await;
    let mut audit = alice.audit();
    alice.keep_renewed();
    let window = |alice: &Client| {
        let trust = plane.trust.current();
        trust.certificates_of(alice.id())[0].claims().validity
    };
    let first = window(&alice);
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(window(&alice), first);
    plane.clock.advance(9 * HOUR);
    while window(&alice) == first {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::resume();
    wait_for_notice(&alice, &mut audit, "renewed").await;
}

async fn wait_for_notice(client: &Client, audit: &mut AuditStream, wanted: &str) {
    let look = async {
        loop {
            let events = recorded(client, audit).await;
            let found = events
                .iter()
                .any(|event| matches!(event, AuditEvent::Notice { topic, .. } if topic == wanted));
            if found {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(crate::support::PATIENCE, look).await;
    assert!(found.is_ok(), "no notice of {wanted}");
}

/// Answers are lost, doubled and damaged: renewal comes through, and rotation once.
#[tokio::test]
async fn renewal_and_rotation_come_through_a_hostile_bus() {
    let plane = Plane::new(Wire::memory()).await;
    let alice = plane.agent("alice", &["pub:x"]).await;
    // Requests and answers alone: what else passes, such as the audit, has a rhythm of its own, and
    // would draw from the same dice.
    let faults =
        ["trustmesh.verifier.>", "_INBOX.>"]
            .into_iter()
            .fold(Faults::seeded(3), |faults, on| {
                faults
                    .with(Rule::on(on, Fault::Drop).chance(0.2))
                    .with(Rule::on(on, Fault::Duplicate(1)).chance(0.3))
                    .with(Rule::on(on, Fault::Corrupt).chance(0.1))
            });
    plane.memory().inject(faults);
    while alice.renew().await.is_err() {}
    let new = key();
    let mut outcome = alice.rotate(&new).await;
    while outcome.is_err() {
        outcome = alice.rotate(&new).await;
    }
    plane.memory().heal();
    let trust = plane.trust.current();
    let keys = trust.certificates_of(&id("alice"));
    assert_eq!(keys.len(), 2);
    let claims = keys[0].claims();
    assert_eq!((claims.key, claims.key_epoch), (new.public().bytes(), 1));
}

/// RV-12 in small: both keys work through the grace, the old one not after it.
#[tokio::test]
async fn both_keys_work_through_the_grace_and_one_after_it() {
    let plane = Plane::new(Wire::memory()).await;
    let old = plane.agent("alice", &["pub+sub:greet.>"]).await;
    let bob = plane.agent("bob", &["sub:greet.>"]).await;
    let mut greetings = bob.subscribe("greet.>").await.unwrap();
    let new = key();
    let given = old.rotate(&new).await.unwrap();
    let new = plane.enter(rotated(&plane, "alice", new, given)).await;
    for client in [&old, &new] {
        client.publish("greet.bob", "hello".into()).await.unwrap();
        let heard = message(&mut greetings).await;
        assert_eq!(heard.sender().as_str(), "alice");
    }
    plane.clock.advance(Duration::from_secs(601));
    let old_key = old.key();
    let over = || plane.trust.current().revocations().has_key(&old_key);
    eventually("the old key is revoked", over).await;
    let error = old.publish("greet.bob", "late".into()).await.unwrap_err();
    assert_eq!(denied(&error).class(), Class::Revoked);
    new.publish("greet.bob", "hello".into()).await.unwrap();
    assert_eq!(message(&mut greetings).await.sender().as_str(), "alice");
}

/// RV-4: of two rotations at once one wins, and a rotation by the old key afterwards is refused.
#[tokio::test]
async fn rotations_that_race_are_settled() {
    let plane = Plane::new(Wire::memory()).await;
    let alice = plane.agent("alice", &["pub:x"]).await;
    let (one, two) = (key(), key());
    let (first, second) = tokio::join!(alice.rotate(&one), alice.rotate(&two));
    let outcomes = [first.map(drop), second.map(drop)];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let lost = outcomes.into_iter().find(Result::is_err).unwrap();
    assert_eq!(refused(lost), EnrolRefused::NotCurrent);
    assert_eq!(
        refused(alice.rotate(&key()).await),
        EnrolRefused::NotCurrent
    );
}

/// RV-4, ID-5: neither a key that is taken nor one that is a role's becomes an agent's by rotation.
#[tokio::test]
async fn a_rotation_to_a_key_that_is_taken_is_refused() {
    let plane = Plane::new(Wire::memory()).await;
    let alice = plane.agent("alice", &["pub:x"]).await;
    let bob = key();
    let token = plane.token(terms(&["pub:x"])).await;
    let enrolled = plane.join(&token, "bob", bob).await.unwrap();
    let taken = alice.rotate(&enrolled.key).await;
    assert_eq!(refused(taken), EnrolRefused::KeyTaken);
}

/// RV-4: nobody rotates another's key: the request is signed by the key that is replaced.
#[tokio::test]
async fn a_rotation_in_anothers_name_is_not_answered() {
    let plane = Plane::new(Wire::memory()).await;
    let alice = plane.agent("alice", &["pub:x"]).await;
    let mallory = key();
    let new = mallory.public().bytes();
    let request = ControlRequest::Rotate { key: new };
    let (bus, mut answers) = ask_as(&plane, &alice, &mallory, Verb::Rotate, &request).await;
    plane.caught_up().await;
    settle(&*bus).await;
    assert!(arrived(&mut answers).is_empty());
    assert_eq!(plane.trust.current().certificates_of(alice.id()).len(), 1);
}

/// Sends a request under the certificate of `agent`, signed by `key`, to be answered there.
async fn ask_as(
    plane: &Plane,
    agent: &Client,
    key: &SigningKey,
    verb: Verb,
    request: &ControlRequest,
) -> (Arc<dyn Bus>, trustmesh::bus::BusSubscriber) {
    let trust = plane.trust.current();
    let inbox = format!("{}.test", inbox_prefix(&agent.key()));
    let bus = plane.wire.raw().await;
    let answers = bus.subscribe(inbox.as_str().into(), None).await.unwrap();
    let sender = ControlSender {
        mesh: trust.mesh(),
        certificate: trust.certificate(&agent.key()).unwrap().id(),
        key,
    };
    let service = trust.certificates_of(&id("verifier"))[0].claims().key;
    let subject = control_subject(&plane.prefix, verb);
    let envelope = sender.ask(
        (MessageId([9; 16]), plane.now()),
        Subject::parse(&subject).unwrap(),
        Subject::parse(&inbox).unwrap(),
        service,
        request.encode(),
    );
    let frame = Outgoing::new(subject, envelope.unwrap().into_bytes()).with_reply(inbox);
    bus.publish(frame).await.unwrap();
    (bus, answers)
}

/// A request that is sent again is not served again.
#[tokio::test]
async fn a_replayed_request_is_not_answered() {
    let plane = Plane::new(Wire::memory()).await;
    let token = plane.token(terms(&["pub:x"])).await;
    let enrolled = plane.join(&token, "alice", key()).await.unwrap();
    let own = enrolled.key.clone();
    let alice = plane
        .enter(enrolled.identity(plane.trust.clone()).unwrap())
        .await;
    let (bus, mut answers) =
        ask_as(&plane, &alice, &own, Verb::Renew, &ControlRequest::Renew).await;
    next(&mut answers).await;
    let (_, mut again) = ask_as(&plane, &alice, &own, Verb::Renew, &ControlRequest::Renew).await;
    plane.caught_up().await;
    settle(&*bus).await;
    assert!(arrived(&mut again).is_empty());
}

/// Delegated authority, from alice to bob to carol.
async fn handed_on(alice: &Client, bob: &Client, carol: &Client) -> Chain {
    let scope = || Scope::parse(["pub+delegate:greet.>"]).unwrap();
    let to_bob = alice.delegate(bob.id(), scope(), minute()).unwrap();
    let trust = to_bob.clone();
    let mut orders = bob.subscribe("orders.bob").await.unwrap();
    alice
        .compose("orders.bob")
        .grant(&trust)
        .publish()
        .await
        .unwrap();
    let granted = message(&mut orders).await.granted().unwrap();
    let scope = Scope::parse(["pub:greet.dan"]).unwrap();
    bob.with(granted)
        .delegate(carol.id(), scope, minute())
        .unwrap()
}

struct Cast {
    plane: Plane,
    alice: Client,
    bob: Client,
    carol: Client,
    chain: Chain,
}

async fn cast(wire: Wire, settings: VerifierOptions) -> Cast {
    let plane = Plane::with(wire, settings, |_| {}).await;
    let caps = ["pub+delegate:greet.>", "pub:orders.*"];
    let alice = plane.agent("alice", &caps).await;
    let bob = plane.agent("bob", &["sub:orders.bob"]).await;
    let carol = plane.agent("carol", &["sub:x"]).await;
    let chain = handed_on(&alice, &bob, &carol).await;
    Cast {
        plane,
        alice,
        bob,
        carol,
        chain,
    }
}

/// A link is taken back by who signed it, and everything below it ends.
#[tokio::test]
async fn a_link_is_revoked_by_who_signed_it() {
    let cast = cast(Wire::memory(), VerifierOptions::default()).await;
    cast.alice.revoke_link(&cast.chain, 1).await.unwrap();
    let trust = cast.plane.trust.current();
    assert!(trust.revocations().has_link(&cast.chain.links()[1].id()));
    // Once more is no error.
    cast.alice.revoke_link(&cast.chain, 1).await.unwrap();
    cast.bob.revoke_link(&cast.chain, 2).await.unwrap();
}

/// RV-3: who neither signed the link nor is named by it is refused, and the audit says so.
#[tokio::test]
async fn a_link_is_not_revoked_by_others() {
    let cast = cast(Wire::memory(), VerifierOptions::default()).await;
    for (client, index) in [
        (&cast.carol, 1),
        (&cast.carol, 2),
        (&cast.bob, 1),
        (&cast.alice, 2),
        (&cast.alice, 0),
    ] {
        let outcome = client.revoke_link(&cast.chain, index).await;
        assert_eq!(refused(outcome), EnrolRefused::NotYours, "{index}");
    }
    let trust = cast.plane.trust.current();
    assert!(trust.revocations().links().is_empty());
}

/// RV-5: a link that nobody has seen yet is dead when it comes.
#[tokio::test]
async fn a_revocation_that_comes_before_its_link_bites() {
    let cast = cast(Wire::memory(), VerifierOptions::default()).await;
    let scope = Scope::parse(["pub:greet.dan"]).unwrap();
    let unseen = cast.alice.delegate(cast.bob.id(), scope, minute()).unwrap();
    cast.alice.revoke_link(&unseen, 1).await.unwrap();
    let mut orders = cast.bob.subscribe("orders.bob").await.unwrap();
    let sent = cast.alice.compose("orders.bob").grant(&unseen).publish();
    sent.await.unwrap();
    let granted = message(&mut orders).await.granted();
    assert_eq!(granted.unwrap_err().0.class(), Class::Revoked);
}

/// RV-6: what was revoked and is given once more, word for word, is another link: it counts, and the
/// one before stays dead.
#[tokio::test]
async fn the_same_authority_given_anew_counts_and_the_old_stays_dead() {
    let cast = cast(Wire::memory(), VerifierOptions::default()).await;
    let give = || {
        let scope = Scope::parse(["pub:greet.dan"]).unwrap();
        cast.alice.delegate(cast.bob.id(), scope, minute()).unwrap()
    };
    let first = give();
    cast.alice.revoke_link(&first, 1).await.unwrap();
    let second = give();
    // The clock stands still, so nothing differs but the nonce.
    let (one, other) = (first.leaf(), second.leaf());
    assert_eq!(
        (one.holder(), one.validity(), one.scope()),
        (other.holder(), other.validity(), other.scope())
    );
    assert_ne!(one.id(), other.id());
    let mut orders = cast.bob.subscribe("orders.bob").await.unwrap();
    for (chain, class) in [
        (&first, Some(Class::Revoked)),
        (&second, None),
        (&first, Some(Class::Revoked)),
    ] {
        let sent = cast.alice.compose("orders.bob").grant(chain).publish();
        sent.await.unwrap();
        let granted = message(&mut orders).await.granted();
        assert_eq!(granted.err().map(|refused| refused.0.class()), class);
    }
}

/// RV-7: a key that revoked itself is worth nothing from then on, and nothing brings it back.
#[tokio::test]
async fn a_revoked_key_does_not_come_back() {
    let plane = Plane::new(Wire::memory()).await;
    let token = plane.token(terms(&["pub:x"])).await;
    let enrolled = plane.join(&token, "alice", key()).await.unwrap();
    let own = enrolled.key.clone();
    let alice = plane
        .enter(enrolled.identity(plane.trust.clone()).unwrap())
        .await;
    alice.revoke_own_key().await.unwrap();
    let error = alice.publish("x", "late".into()).await.unwrap_err();
    assert_eq!(denied(&error).class(), Class::Revoked);
    // It asks for a certificate, and for a key in its place: no answer.
    for (verb, request) in [
        (Verb::Renew, ControlRequest::Renew),
        (
            Verb::Rotate,
            ControlRequest::Rotate {
                key: key().public().bytes(),
            },
        ),
    ] {
        let (bus, mut answers) = ask_as(&plane, &alice, &own, verb, &request).await;
        plane.caught_up().await;
        settle(&*bus).await;
        assert!(arrived(&mut answers).is_empty());
    }
    // Nor under another name.
    let token = plane.token(terms(&["pub:x"])).await;
    let bus = plane.wire.raw().await;
    let again = plane.enrolment(&token).agent(id("alias"));
    assert!(again.join(&*bus, own).await.is_err());
}

/// RV-11: one agent uses its quota up; another can still revoke.
#[tokio::test]
async fn a_quota_of_revocations_leaves_others_alone() {
    let mut settings = VerifierOptions::default();
    settings.revocations_per_day = 3;
    let cast = cast(Wire::memory(), settings).await;
    let link = || {
        let scope = Scope::parse(["pub:greet.dan"]).unwrap();
        cast.alice.delegate(cast.bob.id(), scope, minute()).unwrap()
    };
    for _ in 0..3 {
        cast.alice.revoke_link(&link(), 1).await.unwrap();
    }
    let over = cast.alice.revoke_link(&link(), 1).await;
    assert_eq!(refused(over), EnrolRefused::Quota);
    assert_eq!(cast.plane.trust.current().revocations().links().len(), 3);
    cast.bob.revoke_link(&cast.chain, 2).await.unwrap();
    // A key's last word about itself is heard.
    cast.alice.revoke_own_key().await.unwrap();
}

/// The service answers to what NATS asks services.
async fn the_service_is_found(wire: Wire) {
    let plane = Plane::new(wire).await;
    plane.agent("alice", &["pub:x"]).await;
    let bus = plane.wire.raw().await;
    let inbox = format!("{}.answers", plane.prefix);
    let mut answers = bus.subscribe(inbox.as_str().into(), None).await.unwrap();
    for (verb, name) in [("PING", ""), ("INFO", ".trustmesh-verifier"), ("STATS", "")] {
        let ask = Outgoing::new(format!("$SRV.{verb}{name}"), "");
        bus.publish(ask.with_reply(inbox.as_str())).await.unwrap();
        // Other tests' services share the server: ours is told by its subjects.
        let answer = loop {
            let answer = next(&mut answers).await;
            let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
            let ours = answer["endpoints"][0]["subject"].as_str();
            if ours.is_none_or(|subject| subject.starts_with(&plane.prefix)) {
                break answer;
            }
        };
        let kind = format!("io.nats.micro.v1.{}_response", verb.to_lowercase());
        assert_eq!(answer["type"], kind.as_str());
        assert_eq!(answer["name"], "trustmesh-verifier");
        if verb == "STATS" {
            assert_eq!(answer["started"], "2027-01-15T08:00:00.000Z");
            assert_eq!(answer["endpoints"][0]["num_requests"], 2);
        }
    }
}

#[tokio::test]
async fn the_service_is_found_as_nats_finds_services_in_process() {
    the_service_is_found(Wire::memory()).await;
}

#[tokio::test]
async fn the_service_is_found_as_nats_finds_services_over_nats() {
    the_service_is_found(Wire::nats().await).await;
}

/// The service renews its own certificate, and goes on answering.
#[tokio::test]
async fn the_service_outlives_its_own_certificate() {
    let plane = Plane::new(Wire::memory()).await;
    let alice = plane.agent("alice", &["pub:x"]).await;
    let own = |plane: &Plane| {
        let trust = plane.trust.current();
        trust.certificates_of(&id("verifier"))[0].id()
    };
    for _ in 0..3 {
        let before = own(&plane);
        plane.clock.advance(9 * HOUR);
        eventually("the service renews itself", || own(&plane) != before).await;
        alice.renew().await.unwrap();
    }
    let certificate = plane.trust.current();
    let claims = certificate.certificates_of(alice.id())[0].claims();
    assert_eq!(claims.key_epoch, 0);
    assert!(claims.previous.is_some());
}
