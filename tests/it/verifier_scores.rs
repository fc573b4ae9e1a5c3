//! Scores that the verifier service keeps: what moves them, and what does not (group TS).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trustmesh::Client;
use trustmesh::HeaderMap;
use trustmesh::Message;
use trustmesh::bus::Outgoing;
use trustmesh::client::clock::ManualClock;
use trustmesh::client::plane::PlaneError;
use trustmesh::proto::enrol::EnrolRefused;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::scope::Action;
use trustmesh::proto::time::Timestamp;
use trustmesh::services::authority::Authority;

use crate::support::eventually;
use crate::support::mesh::denied;
use crate::support::mesh::draft;
use crate::support::mesh::message;
use crate::support::mesh::policy;
use crate::support::mesh::sealed;
use crate::support::mesh::with_broken_payload;
use crate::support::nats;
use crate::support::next;
use crate::support::plane::Plane;
use crate::support::plane::Wire;
use crate::support::plane::id;
use crate::support::plane::key;
use crate::support::plane::terms;
use crate::support::served::Served;
use crate::support::unique;

async fn jetstream() -> Wire {
    Wire::Nats(nats::jetstream().await.url())
}

fn score(client: &Client, agent: &str) -> Option<u16> {
    client.trust().score(&id(agent))
}

/// Delivers what somebody made, without a client.
async fn put(mesh: &Served, message: &Outgoing) {
    let bus = mesh.wire.raw().await;
    bus.publish(message.clone()).await.unwrap();
    bus.flush().await.unwrap();
}

/// A message that its sender has no authority for, signed all the same.
fn beyond(mesh: &Served, by: &Client, subject: &str) -> Outgoing {
    let now = mesh.clock.now().unwrap();
    sealed(&draft(now, Action::Publish, subject), by)
}

fn report_refused(outcome: Result<(), PlaneError>) -> EnrolRefused {
    match outcome {
        Err(PlaneError::Refused(reason)) => reason,
        other => panic!("no refusal: {other:?}"),
    }
}

/// One message beyond its scope, and an agent's score is down wherever a rule asks for more: its
/// receivers have reported it.
async fn misbehaviour_costs_what_a_score_is_asked_for(wire: Wire) {
    let mesh = Served::new(wire).await;
    let top = unique();
    let vip = format!(
        r#"{{ "name": "vip", "effect": "allow", "actions": ["req"],
              "subjects": "{top}.vip.>", "min_score": 450 }}"#
    );
    mesh.change(move |mesh| mesh.set_policy(policy(&vip)))
        .await
        .unwrap();
    let alice = mesh.agent("alice", &[&format!("req:{top}.vip.*")]).await;
    let everything = format!("sub+serve:{top}.>");
    let bob = mesh.agent("bob", &[&everything]).await;
    let carol = mesh.agent("carol", &[&everything]).await;
    let echo = |message: Message| async move { Ok::<_, String>(message.payload) };
    let _bob = bob.serve(format!("{top}.vip.bob"), echo).await.unwrap();
    let _carol = carol.serve(format!("{top}.vip.carol"), echo).await.unwrap();
    let _secrets = crate::support::mesh::consume(bob.subscribe(format!("{top}.s")).await.unwrap());
    bob.flush().await.unwrap();
    carol.flush().await.unwrap();
    for peer in ["bob", "carol"] {
        let subject = format!("{top}.vip.{peer}");
        alice.request(subject, "1".into()).await.unwrap();
    }
    assert_eq!(score(&alice, "alice"), Some(500));

    put(&mesh, &beyond(&mesh, &alice, &format!("{top}.s"))).await;
    for client in [&alice, &bob, &carol] {
        eventually("the score is known", || score(client, "alice") == Some(400)).await;
    }
    let outcome = alice.request(format!("{top}.vip.bob"), "2".into()).await;
    let (score, required) = (400, 450);
    let too_low = Rejection::TrustTooLow { score, required };
    assert_eq!(denied(&outcome.unwrap_err()), too_low);
    // Receivers go by the same, whatever her client thinks.
    for (peer, client) in [("bob", &bob), ("carol", &carol)] {
        let subject = format!("{top}.vip.{peer}");
        let mut draft = draft(mesh.clock.now().unwrap(), Action::Request, &subject);
        let inbox = trustmesh::proto::subject::Subject::parse(&alice.new_inbox()).unwrap();
        draft.reply = Some(inbox);
        put(&mesh, &sealed(&draft, &alice)).await;
        let refused = || client.counters().denied_of(Class::TrustTooLow) == 1;
        eventually("it is refused", refused).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn misbehaviour_costs_what_a_score_is_asked_for_in_process() {
    misbehaviour_costs_what_a_score_is_asked_for(Wire::memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn misbehaviour_costs_what_a_score_is_asked_for_over_nats() {
    misbehaviour_costs_what_a_score_is_asked_for(jetstream().await).await;
}

/// How often something was found against an agent.
async fn findings(mesh: &Served, agent: &str) -> usize {
    let agent = id(agent);
    mesh.change(move |mesh| {
        let causes = mesh.score_history(&agent);
        causes.filter(|cause| cause.evidence.is_some()).count()
    })
    .await
}

/// TS-1: nobody is framed. Messages that were replayed, misdelivered, damaged or robbed of their
/// content are no evidence, whoever brings them; a fault is counted once, whoever brings it.
#[tokio::test(flavor = "multi_thread")]
async fn a_victim_is_not_framed_through_reports() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_800_000_000_000)));
    let mesh = Served::by(Wire::memory(), clock.clone()).await;
    let alice = mesh.agent("alice", &["pub:orders.>"]).await;
    let bob = mesh.agent("bob", &["sub:>"]).await;
    let mallory = mesh.agent("mallory", &["sub:x"]).await;
    let _all = crate::support::mesh::consume(bob.subscribe(">").await.unwrap());
    let raw = mesh.wire.raw().await;
    let mut tap = raw.subscribe("orders.a".into(), None).await.unwrap();
    alice.publish("orders.a", "1".into()).await.unwrap();
    let honest = next(&mut tap).await.payload;
    let damaged = with_broken_payload(&honest);
    let copies = [
        ("orders.a", &honest),
        ("orders.b", &honest),
        ("orders.a", &damaged),
    ];
    for (subject, frame) in copies {
        put(&mesh, &Outgoing::new(subject, frame.clone())).await;
    }
    let refused = || bob.counters().denied_total() >= 3;
    eventually("bob refuses them", refused).await;
    let cut = honest.slice(..honest.len() - 1);
    for frame in [&honest, &damaged, &cut, &Bytes::from_static(b"nothing")] {
        let told = mallory.report_evidence(vec![frame.clone()]).await;
        assert_eq!(report_refused(told), EnrolRefused::NotEvidence);
    }
    // More than her share of a second.
    let told = mallory.report_evidence(vec![honest.clone()]).await;
    assert_eq!(report_refused(told), EnrolRefused::Overloaded);
    assert_eq!(findings(&mesh, "alice").await, 0);

    // What alice did do counts once, whoever says it and however often.
    clock.advance(Duration::from_secs(1));
    let fault = beyond(&mesh, &alice, "secrets.a").payload;
    for reporter in [&bob, &mallory, &mallory] {
        let told = reporter.report_evidence(vec![honest.clone(), fault.clone()]);
        told.await.unwrap();
    }
    assert_eq!(findings(&mesh, "alice").await, 1);
    eventually("it is known", || score(&bob, "alice") == Some(400)).await;
    assert_eq!(score(&bob, "mallory"), Some(500));
}

/// TS-1: what agents say of their own scores changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_score_that_an_agent_reports_of_itself_is_ignored() {
    let mesh = Served::new(Wire::memory()).await;
    let alice = mesh.agent("alice", &["pub:notes"]).await;
    let bob = mesh.agent("bob", &["sub:notes"]).await;
    let mut notes = bob.subscribe("notes").await.unwrap();
    let raw = mesh.wire.raw().await;
    let mut tap = raw.subscribe("notes".into(), None).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("score", "1000");
    let boast = r#"{ "agent": "alice", "score": 1000 }"#;
    let sent = alice.publish_with_headers("notes", headers, boast.into());
    sent.await.unwrap();
    message(&mut notes).await;
    let boast = next(&mut tap).await.payload;
    let told = alice.report_evidence(vec![boast]).await;
    assert_eq!(report_refused(told), EnrolRefused::NotEvidence);
    // Whatever is published next.
    mesh.change(|mesh| mesh.set_score("somebody", 1))
        .await
        .unwrap();
    eventually("it is known", || score(&bob, "somebody").is_some()).await;
    assert_eq!(score(&bob, "alice"), Some(500));
}

/// A mesh whose service can be started again, by its own books or by others.
struct Lasting {
    mesh: Served,
    folder: tempfile::TempDir,
    key: Arc<SigningKey>,
    clock: Arc<ManualClock>,
}

impl Lasting {
    /// Its service saves the books, or writes them to the store alone.
    async fn new(saves: bool) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_800_000_000_000)));
        let mut books = Authority::served_with_clock("test", false, clock.clone()).unwrap();
        let key = Arc::new(key());
        let identity = books.verifier(key.clone()).unwrap();
        books.set_policy(policy("")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        books.save(folder.path()).unwrap();
        let mut mesh = Served {
            wire: Wire::memory(),
            prefix: unique(),
            clock: clock.clone(),
            mesh: books.mesh(),
            service: None,
        };
        let directory = saves.then(|| folder.path());
        mesh.service = Some(mesh.start(books, identity, directory).await);
        Self {
            mesh,
            folder,
            key,
            clock,
        }
    }

    /// The service ends, and another begins with what lies in the directory.
    async fn restart(&mut self) {
        self.mesh.service.take().unwrap().stop().await.unwrap();
        self.clock.advance(Duration::from_secs(1));
        let home = self.folder.path();
        let mut books = Authority::open_with_clock(home, self.clock.clone()).unwrap();
        let identity = books.verifier(self.key.clone()).unwrap();
        self.mesh.service = Some(self.mesh.start(books, identity, None).await);
    }
}

/// What a restart does to scores, with or without books on disk.
async fn scores_are_kept(saves: bool) {
    let mut lasting = Lasting::new(saves).await;
    let alice = lasting.mesh.agent("alice", &["pub:orders"]).await;
    let bob = lasting.mesh.agent("bob", &["sub:orders"]).await;
    lasting
        .mesh
        .change(|mesh| mesh.set_score("bob", 300))
        .await
        .unwrap();
    let fault = beyond(&lasting.mesh, &alice, "secrets").payload;
    bob.report_evidence(vec![fault.clone()]).await.unwrap();
    eventually("it is known", || score(&bob, "alice") == Some(400)).await;
    if saves {
        // The store is lost as well: the directory alone has it.
        let bus = lasting.mesh.memory();
        bus.bucket(&lasting.mesh.bucket()).wipe();
    }
    lasting.restart().await;
    let carol = lasting.mesh.agent("carol", &["sub:orders"]).await;
    assert_eq!(score(&carol, "alice"), Some(400));
    assert_eq!(score(&carol, "bob"), Some(300));
    assert_eq!(findings(&lasting.mesh, "alice").await, 1);
    // What was counted is not counted again; what comes after it is.
    let told = bob.report_evidence(vec![fault]).await;
    assert_eq!(report_refused(told), EnrolRefused::NotEvidence);
    lasting.clock.advance(Duration::from_secs(6));
    let fault = beyond(&lasting.mesh, &alice, "secrets").payload;
    carol.report_evidence(vec![fault]).await.unwrap();
    eventually("it is known", || score(&carol, "alice") == Some(300)).await;
}

/// TS-4: a service that is started again from its directory has lost no score.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_scores() {
    scores_are_kept(true).await;
}

/// TS-4: a service with other books takes the scores over from the store.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_successor_keeps_scores() {
    scores_are_kept(false).await;
}

/// TS-4: what was counted in the last moment before a service ended is not forgotten.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_ends_leaves_no_finding_out() {
    let mut lasting = Lasting::new(true).await;
    let alice = lasting.mesh.agent("alice", &["pub:orders"]).await;
    let bob = lasting.mesh.agent("bob", &["sub:orders"]).await;
    let fault = beyond(&lasting.mesh, &alice, "secrets").payload;
    bob.report_evidence(vec![fault]).await.unwrap();
    lasting.restart().await;
    assert_eq!(findings(&lasting.mesh, "alice").await, 1);
}

/// TS-5: an agent that was taken off and joins again under a new key starts no higher, and neither
/// does whom it vouches for.
#[tokio::test(flavor = "multi_thread")]
async fn joining_again_under_a_new_key_starts_no_higher() {
    let mesh = Served::new(Wire::memory()).await;
    let alice = mesh.agent("alice", &["pub:orders"]).await;
    let bob = mesh.agent("bob", &["sub:orders"]).await;
    let fault = beyond(&mesh, &alice, "secrets").payload;
    bob.report_evidence(vec![fault]).await.unwrap();
    eventually("it is known", || score(&bob, "alice") == Some(400)).await;

    let again = terms(&["pub:orders"]).agent(id("alice"));
    let token = mesh.change(move |mesh| mesh.recover(&again)).await.unwrap();
    let root = mesh.change(|mesh| mesh.trust_root()).await;
    let bus = mesh.wire.raw().await;
    let enrol = |token, agent: &AgentId| {
        trustmesh::client::enrol::Enrolment::new(token, root.clone())
            .agent(agent.clone())
            .prefix(mesh.prefix.clone())
            .clock(mesh.clock.clone())
    };
    let enrolment = enrol(token, &id("alice"));
    enrolment.join(&*bus, Arc::new(key())).await.unwrap();
    let mut sponsored = terms(&["pub:orders"]);
    sponsored.sponsor = Some(id("alice"));
    let token = mesh.change(move |mesh| mesh.join_token(&sponsored));
    let token = token.await.unwrap();
    let enrolment = enrol(token, &id("friend"));
    enrolment.join(&*bus, Arc::new(key())).await.unwrap();
    eventually("the friend is known", || score(&bob, "friend").is_some()).await;
    assert_eq!(score(&bob, "friend"), Some(400));
    assert_eq!(score(&bob, "alice"), Some(400));
    assert_eq!(findings(&mesh, "alice").await, 1);
}

/// Renewing the certificate earns a little, once in an hour; what was earned lapses.
#[tokio::test]
async fn an_agent_earns_by_renewing_its_certificate() {
    let plane = Plane::new(Wire::memory()).await;
    let alice = plane.agent("alice", &["pub:x"]).await;
    let standing = || plane.trust.current().score(&id("alice"));
    assert_eq!(standing(), Some(500));
    alice.renew().await.unwrap();
    assert_eq!(standing(), Some(500));
    plane.pass(Duration::from_secs(3_600)).await;
    for _ in 0..3 {
        alice.renew().await.unwrap();
        assert_eq!(standing(), Some(505));
    }
    plane.clock.advance(Duration::from_secs(1_800));
    eventually("half a point lapses", || standing() == Some(504)).await;
}
