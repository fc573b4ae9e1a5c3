//! A mesh that lives from its verifier service, over a bus that may lie.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trustmesh::Client;
use trustmesh::audit::AuditEvent;
use trustmesh::client::AuditStream;
use trustmesh::client::clock::ManualClock;
use trustmesh::client::home::Home;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::Admission;
use trustmesh::proto::trust::Bulletin;
use trustmesh::proto::trust::TrustState;
use trustmesh::services::authority::Authority;
use trustmesh::services::verifier::PublicationError;

use crate::support::PATIENCE;
use crate::support::bucket::Bucket;
use crate::support::eventually;
use crate::support::mesh::message;
use crate::support::nats;
use crate::support::plane::Wire;
use crate::support::plane::key;
use crate::support::served::Served;

async fn jetstream() -> Wire {
    Wire::Nats(nats::jetstream().await.url())
}

/// Runs each claim in process and on a real server.
macro_rules! on_every_bus {
    ($($(#[doc = $doc:literal])* $claim:ident)*) => {
        mod memory {
            $($(#[doc = $doc])* #[tokio::test(flavor = "multi_thread")]
            async fn $claim() {
                super::$claim(super::Wire::memory()).await;
            })*
        }

        mod nats_server {
            $($(#[doc = $doc])* #[tokio::test(flavor = "multi_thread")]
            async fn $claim() {
                super::$claim(super::jetstream().await).await;
            })*
        }
    };
}

on_every_bus! {
    agents_that_know_a_token_and_a_bus_talk
    /// RV-10: what was revoked while a receiver was away is known when it comes back.
    a_receiver_that_was_away_knows_what_was_revoked
    /// TS-4, RV-10: nothing becomes valid when the bucket is emptied, and it is written again.
    a_wiped_bucket_makes_nothing_valid_and_is_written_again
    /// PO-9: an older head in the store is refused and said in the audit.
    a_head_of_the_past_in_the_store_is_a_rollback
    a_poisoned_part_is_not_believed_and_is_repaired
    a_new_policy_reaches_everybody
    a_service_that_begins_later_takes_over_and_the_earlier_ends
}

/// Sends until the receiver takes it, and returns how often that took.
async fn get_through(from: &Client, to: &mut trustmesh::Subscriber, subject: &str) -> u32 {
    for tries in 1.. {
        from.publish(subject.to_owned(), "hello".into())
            .await
            .unwrap();
        from.flush().await.unwrap();
        let heard = tokio::time::timeout(Duration::from_millis(300), message(to));
        if heard.await.is_ok() {
            return tries;
        }
        assert!(tries < 100, "nothing gets through");
    }
    unreachable!()
}

fn state(client: &Client) -> Arc<TrustState> {
    client.trust()
}

fn revoked(client: &Client, agent: &str) -> bool {
    let agents = state(client).revocations().agents();
    agents.contains(&AgentId::parse(agent).unwrap())
}

async fn agents_that_know_a_token_and_a_bus_talk(wire: Wire) {
    let mesh = Served::new(wire).await;
    let alice = mesh.agent("alice", &[&mesh.may("pub")]).await;
    let bob = mesh.agent("bob", &[&mesh.may("sub")]).await;
    let mut greetings = bob.subscribe(mesh.subject(">")).await.unwrap();
    get_through(&alice, &mut greetings, &mesh.subject("bob")).await;
    // Bob was there before carol, and learns of her.
    let carol = mesh.agent("carol", &[&mesh.may("pub")]).await;
    get_through(&carol, &mut greetings, &mesh.subject("bob")).await;
    assert_eq!(bob.counters().denied_of(Class::BadSignature), 0);
}

async fn a_receiver_that_was_away_knows_what_was_revoked(wire: Wire) {
    let mesh = Served::new(wire).await;
    let alice = mesh.agent("alice", &[&mesh.may("pub")]).await;
    let folder = tempfile::tempdir().unwrap();
    let (enrolled, root) = mesh.join("bob", &[&mesh.may("sub")]).await;
    let bus = mesh.wire.raw().await;
    let saved = enrolled
        .save(folder.path(), root, Admission::Production, &*bus)
        .await;
    saved.unwrap();
    let home = || Home::open(folder.path()).unwrap();
    let bob = mesh.enter(home().identity("bob").unwrap()).await;
    let mut greetings = bob.subscribe(mesh.subject(">")).await.unwrap();
    get_through(&alice, &mut greetings, &mesh.subject("bob")).await;
    bob.drain().await.unwrap();
    drop((bob, greetings));

    mesh.change(|mesh| mesh.revoke_agent("alice"))
        .await
        .unwrap();
    let identity = home().identity("bob").unwrap();
    assert!(
        !identity
            .trust()
            .current()
            .revocations()
            .agents()
            .contains(alice.id())
    );
    let bob = mesh.enter(identity).await;
    // Before it receives anything.
    assert!(revoked(&bob, "alice"));
    // And the disk knows as well.
    let again = home().identity("bob").unwrap();
    assert!(
        again
            .trust()
            .current()
            .revocations()
            .agents()
            .contains(alice.id())
    );
}

async fn a_wiped_bucket_makes_nothing_valid_and_is_written_again(wire: Wire) {
    let mesh = Served::new(wire).await;
    let alice = mesh.agent("alice", &[&mesh.may("pub")]).await;
    let bob = mesh.agent("bob", &[&mesh.may("sub")]).await;
    mesh.change(|mesh| mesh.revoke_agent("mallory"))
        .await
        .unwrap();
    eventually("bob knows", || revoked(&bob, "mallory")).await;
    Bucket(&mesh).wipe().await;
    assert!(revoked(&bob, "mallory"));
    // The next publication finds out.
    mesh.change(|mesh| mesh.revoke_agent("trudy"))
        .await
        .unwrap();
    eventually("bob knows", || revoked(&bob, "trudy")).await;
    let carol = mesh.agent("carol", &[&mesh.may("sub")]).await;
    assert!(revoked(&carol, "mallory") && revoked(&carol, "trudy"));
    let mut greetings = carol.subscribe(mesh.subject(">")).await.unwrap();
    get_through(&alice, &mut greetings, &mesh.subject("carol")).await;
}

async fn a_head_of_the_past_in_the_store_is_a_rollback(wire: Wire) {
    let mesh = Served::new(wire).await;
    let bob = mesh.agent("bob", &[&mesh.may("sub")]).await;
    let old = Bucket(&mesh).read("head").await.unwrap();
    mesh.change(|mesh| mesh.revoke_agent("mallory"))
        .await
        .unwrap();
    eventually("bob knows", || revoked(&bob, "mallory")).await;
    // The service is gone, and the bus goes back in time.
    let mut mesh = mesh;
    drop(mesh.service.take());
    Bucket(&mesh).overwrite("head", old).await;
    let mut audit = bob.audit();
    let topic = async {
        loop {
            let record = audit.next().await.unwrap();
            if let AuditEvent::Notice { topic, .. } = record.event {
                return topic;
            }
        }
    };
    let topic = tokio::time::timeout(PATIENCE, topic).await.unwrap();
    assert_eq!(topic, "trust-rollback");
    assert!(revoked(&bob, "mallory"));
}

async fn a_poisoned_part_is_not_believed_and_is_repaired(wire: Wire) {
    let mesh = Served::new(wire).await;
    let alice = mesh.agent("alice", &[&mesh.may("pub")]).await;
    let snapshot = state(&alice).snapshot().unwrap().clone();
    for named in snapshot.parts().values() {
        let key = format!("part.{}", named.digest);
        Bucket(&mesh).overwrite(&key, "poison".into()).await;
    }
    // Nobody new can begin, until the service has looked at every part.
    for _ in 0..4 {
        mesh.change(|mesh| mesh.publish().map(drop)).await.unwrap();
    }
    let bob = mesh.agent("bob", &[&mesh.may("sub")]).await;
    let mut greetings = bob.subscribe(mesh.subject(">")).await.unwrap();
    get_through(&alice, &mut greetings, &mesh.subject("bob")).await;
}

async fn a_new_policy_reaches_everybody(wire: Wire) {
    let mesh = Served::new(wire).await;
    let alice = mesh.agent("alice", &[&mesh.may("pub")]).await;
    let before = state(&alice).epochs().policy;
    let all = mesh.subject(">");
    let deny =
        format!(r#"{{ "name": "no", "effect": "deny", "actions": ["pub"], "subjects": "{all}" }}"#);
    let policy = crate::support::mesh::policy(&deny);
    mesh.change(|mesh| mesh.set_policy(policy)).await.unwrap();
    eventually("alice knows", || state(&alice).epochs().policy > before).await;
    let denied = alice.publish(mesh.subject("bob"), "hello".into());
    assert!(denied.await.is_err());
}

async fn a_service_that_begins_later_takes_over_and_the_earlier_ends(wire: Wire) {
    let clock: Arc<dyn trustmesh::client::clock::Clock> =
        Arc::new(trustmesh::client::clock::SystemClock::new());
    let folder = tempfile::tempdir().unwrap();
    let mut books = Authority::served_with_clock("test", false, clock.clone()).unwrap();
    let verifier = Arc::new(key());
    let identity = books.verifier(verifier.clone()).unwrap();
    books.set_policy(crate::support::mesh::policy("")).unwrap();
    books.save(folder.path()).unwrap();
    let standby = |clock| Authority::open_with_clock(folder.path(), clock).unwrap();
    let mut mesh = Served {
        wire,
        prefix: crate::support::unique(),
        clock: clock.clone(),
        mesh: books.mesh(),
        service: None,
    };
    mesh.serve_as(books, identity).await;
    let alice = mesh.agent("alice", &[&mesh.may("pub")]).await;
    mesh.change(|mesh| mesh.revoke_agent("mallory"))
        .await
        .unwrap();

    // The other has nothing of that on disk; it has the keys and the store.
    let mut other = standby(clock);
    let identity = other.verifier(verifier).unwrap();
    let first = mesh.service.take().unwrap();
    mesh.service = Some(mesh.start(other, identity, None).await);
    let bob = mesh.agent("bob", &[&mesh.may("sub")]).await;
    assert!(revoked(&bob, "mallory"));
    let mut greetings = bob.subscribe(mesh.subject(">")).await.unwrap();
    get_through(&alice, &mut greetings, &mesh.subject("bob")).await;

    // The first finds out with its next publication, and nobody sees what it signed.
    let late = first.change(|mesh| mesh.revoke_agent("bob")).await;
    if let Some(late) = late {
        let why = late.published.unwrap_err();
        assert!(matches!(why, PublicationError::Superseded), "{why:?}");
    }
    let ended = tokio::time::timeout(PATIENCE, first.stop()).await;
    assert!(ended.is_ok());
    mesh.change(|mesh| mesh.revoke_agent("trudy"))
        .await
        .unwrap();
    eventually("bob knows", || revoked(&bob, "trudy")).await;
    assert!(!revoked(&bob, "bob"));
}

/// PO-10: a client that hears nothing goes stale, by class, and recovers when it hears again.
#[tokio::test]
async fn silence_makes_requests_stale_before_publications() {
    let start = Timestamp::from_millis(1_800_000_000_000);
    let clock = Arc::new(ManualClock::at(start));
    let mut mesh = Served::by(Wire::memory(), clock.clone()).await;
    let alice = mesh.agent("alice", &["pub+req+delegate:greet.>"]).await;
    drop(mesh.service.take());
    let bob = AgentId::parse("verifier").unwrap();
    let delegate = || {
        let scope = trustmesh::proto::scope::Scope::parse(["pub:greet.>"]).unwrap();
        alice.delegate(&bob, scope, Duration::from_secs(60))
    };
    let publish = || alice.publish("greet.bob", "hello".into());
    let request = || alice.request("greet.bob", "hello".into());
    let is_stale = |error: &dyn std::error::Error| {
        let denied = error
            .source()
            .and_then(|e| e.downcast_ref::<trustmesh::Denied>());
        denied.is_some_and(|denied| denied.0.class() == Class::StaleState)
    };
    assert!(delegate().is_ok());
    clock.advance(Duration::from_secs(21));
    assert_eq!(delegate().unwrap_err().0.class(), Class::StaleState);
    assert!(!is_stale(&request().await.unwrap_err()));
    clock.advance(Duration::from_secs(40));
    assert!(is_stale(&request().await.unwrap_err()));
    publish().await.unwrap();
    clock.advance(Duration::from_secs(540));
    assert!(is_stale(&publish().await.unwrap_err()));
}

/// The state of the service's books, and everything that belongs to it.
async fn published(mesh: &Served) -> (Bulletin, HashMap<ObjectId, Bytes>) {
    let read = |mesh: &mut Authority| (mesh.bulletin().unwrap().clone(), mesh.parts());
    mesh.change(read).await
}

/// Waits for a notice.
async fn notice(audit: &mut AuditStream, wanted: &str) {
    loop {
        let record = audit.next().await.unwrap();
        if matches!(&record.event, AuditEvent::Notice { topic, .. } if topic == wanted) {
            return;
        }
    }
}

/// A state that no push told of, and that one agent has read from the store.
#[tokio::test(start_paused = true)]
async fn a_peer_that_knows_more_is_a_reason_to_look() {
    let mut mesh = Served::new(Wire::memory()).await;
    let bob = mesh.agent("bob", &["sub:greet.>"]).await;
    let _greetings = bob.subscribe("greet.>").await.unwrap();
    let (alice, root) = mesh.join("alice", &["pub:greet.>"]).await;
    eventually("bob knows alice", || {
        !state(&bob).certificates_of(&alice.agent).is_empty()
    })
    .await;
    let mut books = mesh.service.take().unwrap().stop().await.unwrap();
    books.revoke_agent("mallory").unwrap();
    let newer = books.bulletin().unwrap().to_bytes();
    Bucket(&mesh).overwrite("head", newer).await;

    let began = tokio::time::Instant::now();
    let bus = mesh.wire.raw().await;
    let alice = alice
        .follow(root, Admission::Production, &*bus)
        .await
        .unwrap();
    let alice = mesh.enter(alice).await;
    assert!(revoked(&alice, "mallory") && !revoked(&bob, "mallory"));
    // Bob looked a moment ago, and does not look again within a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    alice.handshake(bob.id()).await.unwrap();
    eventually("bob looked", || revoked(&bob, "mallory")).await;
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "bob would have looked anyway"
    );
}

/// Two services with the same keys, each of which went on by itself.
#[tokio::test(start_paused = true)]
async fn a_peer_on_another_branch_is_reported() {
    let mut mesh = Served::new(Wire::memory()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    mesh.change(move |mesh| mesh.save(path)).await.unwrap();
    let alice = mesh.agent("alice", &["pub:greet.>"]).await;
    let (bob, root) = mesh.join("bob", &["sub:greet.>"]).await;
    eventually("alice knows bob", || {
        !state(&alice).certificates_of(&bob.agent).is_empty()
    })
    .await;
    let mut other = Authority::open_with_clock(folder.path(), mesh.clock.clone()).unwrap();
    let (bulletin, parts) = published(&mesh).await;
    other.take_over(&bulletin, &parts).unwrap();

    mesh.change(|mesh| mesh.revoke_agent("mallory"))
        .await
        .unwrap();
    eventually("alice knows", || revoked(&alice, "mallory")).await;
    drop(mesh.service.take());
    other.revoke_agent("trudy").unwrap();
    Bucket(&mesh)
        .overwrite("head", whole(&other).to_bytes())
        .await;
    let bus = mesh.wire.raw().await;
    let bob = bob
        .follow(root, Admission::Production, &*bus)
        .await
        .unwrap();
    let bob = mesh.enter(bob).await;
    let _greetings = bob.subscribe("greet.>").await.unwrap();
    assert!(revoked(&bob, "trudy") && !revoked(&bob, "mallory"));

    let mut audit = alice.audit();
    let began = tokio::time::Instant::now();
    alice.handshake(bob.id()).await.unwrap();
    notice(&mut audit, "trust-equivocation").await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "the store would have told as well"
    );
    assert!(revoked(&alice, "mallory"));
}

/// A bulletin with all of its parts.
fn whole(mesh: &Authority) -> Bulletin {
    Bulletin {
        parts: mesh.parts().into_values().collect(),
        ..mesh.bulletin().unwrap().clone()
    }
}

/// Pushes of garbage, of strangers and of the past neither fill the audit nor keep a client from
/// what is true.
#[tokio::test(start_paused = true)]
async fn a_flood_of_false_pushes_hides_nothing_and_says_little() {
    let mesh = Served::new(Wire::memory()).await;
    let bob = mesh.agent("bob", &["sub:greet.>"]).await;
    let (old, _) = published(&mesh).await;
    mesh.change(|mesh| mesh.revoke_agent("mallory"))
        .await
        .unwrap();
    eventually("bob knows", || revoked(&bob, "mallory")).await;
    let stranger = Served::new(Wire::memory()).await;
    let (foreign, _) = published(&stranger).await;
    let (current, _) = published(&mesh).await;

    let subject = format!("{}.trust", mesh.prefix);
    let mut audit = bob.audit();
    let flood = |payload: Bytes| {
        mesh.memory()
            .forge(trustmesh::bus::Outgoing::new(subject.as_str(), payload));
    };
    for round in 0..2_000 {
        flood(format!("garbage {round}").into());
        flood(foreign.to_bytes());
        flood(old.to_bytes());
        flood(current.to_bytes());
    }
    mesh.change(|mesh| mesh.revoke_agent("trudy"))
        .await
        .unwrap();
    let began = tokio::time::Instant::now();
    eventually("bob knows", || revoked(&bob, "trudy")).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    bob.flush_audit().await;
    let mut notices = 0;
    while let Some(record) = audit.try_next() {
        notices += u32::from(matches!(record.event, AuditEvent::Notice { .. }));
    }
    assert!((1..=4).contains(&notices), "{notices}");
}

/// A bus that repeats the newest bulletin it lets through hides no newer one: what is repeated is
/// no news, and the store is read.
#[tokio::test(start_paused = true)]
async fn repeating_the_newest_push_does_not_pass_for_news() {
    let mut mesh = Served::new(Wire::memory()).await;
    let bob = mesh.agent("bob", &["sub:greet.>"]).await;
    let (current, _) = published(&mesh).await;
    let mut books = mesh.service.take().unwrap().stop().await.unwrap();
    books.revoke_agent("mallory").unwrap();
    Bucket(&mesh)
        .overwrite("head", whole(&books).to_bytes())
        .await;
    let subject = format!("{}.trust", mesh.prefix);
    let began = tokio::time::Instant::now();
    while !revoked(&bob, "mallory") {
        let push = trustmesh::bus::Outgoing::new(subject.as_str(), current.to_bytes());
        mesh.memory().forge(push);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "the repetition passed for news"
        );
    }
}
