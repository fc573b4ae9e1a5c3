//! What a verifier service says while what it has decided cannot be published.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use trustmesh::bus::BusFuture;
use trustmesh::bus::store::StoreError;
use trustmesh::client::clock::SystemClock;
use trustmesh::client::plane::PlaneError;
use trustmesh::proto::enrol::EnrolRefused;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::scope::Scope;
use trustmesh::services::authority::Authority;
use trustmesh::services::verifier::Publication;
use trustmesh::services::verifier::PublicationError;
use trustmesh::services::verifier::ToStore;
use trustmesh::services::verifier::VerifierOptions;
use trustmesh::services::verifier::VerifierService;

use crate::support::eventually;
use crate::support::mesh::policy;
use crate::support::nats::NatsServer;
use crate::support::plane::Wire;
use crate::support::plane::id;
use crate::support::plane::key;
use crate::support::saved::Saved;
use crate::support::saved::enrolled;
use crate::support::saved::revoked;
use crate::support::served::Served;
use crate::support::unique;

/// To the store, as long as that is there.
struct Breakable {
    store: ToStore,
    outage: Arc<Outage>,
}

/// Whether it is away, and how often that was noticed.
#[derive(Default)]
struct Outage {
    on: AtomicBool,
    noticed: AtomicU64,
}

impl Publication for Breakable {
    fn publish<'a>(
        &'a mut self,
        authority: &'a mut Authority,
    ) -> BusFuture<'a, Result<(), PublicationError>> {
        if self.outage.on.load(Ordering::SeqCst) {
            self.outage.noticed.fetch_add(1, Ordering::SeqCst);
            let gone = StoreError::Unreachable("gone".to_owned());
            return Box::pin(async { Err(gone.into()) });
        }
        self.store.publish(authority)
    }

    fn beat<'a>(
        &'a mut self,
        authority: &'a mut Authority,
    ) -> BusFuture<'a, Result<(), PublicationError>> {
        self.store.beat(authority)
    }
}

/// A served mesh whose publications can be made to fail.
async fn breakable() -> (Served, Arc<Outage>) {
    let mut books = Authority::served("test").unwrap();
    let identity = books.verifier(Arc::new(key())).unwrap();
    books.set_policy(policy("")).unwrap();
    let mut mesh = Served {
        wire: Wire::memory(),
        prefix: unique(),
        clock: Arc::new(SystemClock::new()),
        mesh: books.mesh(),
        service: None,
    };
    let outage = Arc::new(Outage::default());
    let bus = mesh.memory();
    let to = Breakable {
        store: ToStore::on(bus.connect()).prefix(mesh.prefix.clone()),
        outage: outage.clone(),
    };
    let (options, settings) = (mesh.options(identity), VerifierOptions::default());
    let service = VerifierService::start(books, options, bus.connect(), to, settings).await;
    mesh.service = Some(service.unwrap());
    (mesh, outage)
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, PlaneError>) -> EnrolRefused {
    match outcome {
        Err(PlaneError::Refused(reason)) => reason,
        other => panic!("no refusal: {other:?}"),
    }
}

/// The operator is told that a revocation is in the books and nobody goes by it yet; it is made up
/// for as soon as the server is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_without_a_server_is_not_called_published() {
    let mut server = NatsServer::start_jetstream().await;
    let mesh = Served::new(Wire::Nats(server.url())).await;
    let bob = mesh.agent("bob", &["sub:greet.>"]).await;
    server.kill().await;
    let service = mesh.service.as_ref().unwrap();
    let changed = service.change(|mesh| mesh.revoke_agent("mallory")).await;
    let changed = changed.unwrap();
    changed.outcome.unwrap();
    let why = changed.published.unwrap_err();
    let unreachable = matches!(why, PublicationError::Store(StoreError::Unreachable(_)));
    assert!(unreachable, "{why:?}");
    assert!(!revoked(&bob, "mallory"));
    server.restart().await;
    eventually("bob knows", || revoked(&bob, "mallory")).await;
}

/// Agents are told as well, and nothing is used up by it: what they ask for again is done, once.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_asked_for_in_vain_it_can_ask_for_again() {
    let (mesh, outage) = breakable().await;
    let alice = mesh.agent("alice", &["pub+delegate:greet.>"]).await;
    let bob = mesh.agent("bob", &["sub:greet.>"]).await;
    let carol = mesh.agent("carol", &["sub:greet.>"]).await;
    eventually("alice knows bob", || enrolled(&alice, "bob")).await;
    let scope = Scope::parse(["pub:greet.bob"]).unwrap();
    let given = alice.delegate(&id("bob"), scope, Duration::from_secs(60));
    let given = given.unwrap();
    let link = given.leaf().id();

    outage.on.store(true, Ordering::SeqCst);
    let told = alice.revoke_link(&given, 1).await;
    assert_eq!(refused(told), EnrolRefused::Unavailable);
    assert!(!bob.trust().revocations().links().contains(&link));
    // What is certified comes late, and is asked for until it does.
    let next = SigningKey::generate().unwrap();
    let heal = async {
        let noticed = outage.noticed.load(Ordering::SeqCst);
        let again = || outage.noticed.load(Ordering::SeqCst) >= noticed + 4;
        eventually("they are refused again and again", again).await;
        outage.on.store(false, Ordering::SeqCst);
    };
    let (renewed, rotated, ()) = tokio::join!(bob.renew(), carol.rotate(&next), heal);
    renewed.unwrap();
    rotated.unwrap();
    eventually("the revocation is made up for", || {
        bob.trust().revocations().links().contains(&link)
    })
    .await;
    alice.revoke_link(&given, 1).await.unwrap();
    let public = next.public().bytes();
    eventually("bob knows the key", || {
        bob.trust().certificate(&public).is_some()
    })
    .await;
}

/// What was saved and not published when a service died is published by the next.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_saved_and_not_published_is_published_by_the_next_run() {
    let mut server = NatsServer::start_jetstream().await;
    let mut saved = Saved::new(Wire::Nats(server.url())).await;
    let bob = saved.mesh.agent("bob", &["sub:greet.>"]).await;
    server.kill().await;
    let service = saved.mesh.service.as_ref().unwrap();
    let changed = service.change(|mesh| mesh.revoke_agent("mallory")).await;
    assert!(changed.unwrap().in_force().is_err());
    saved.kill().await;
    server.restart().await;
    saved.start_again().await;
    eventually("bob knows", || revoked(&bob, "mallory")).await;
}
