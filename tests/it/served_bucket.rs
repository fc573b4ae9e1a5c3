//! A served mesh whose bucket is damaged while its verifier service is down.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trustmesh::client::clock::Clock;
use trustmesh::client::clock::ManualClock;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::scope::Action;
use trustmesh::proto::scope::Scope;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::Admission;

use crate::support::PATIENCE;
use crate::support::bucket::Bucket;
use crate::support::eventually;
use crate::support::mesh::consume;
use crate::support::mesh::denied;
use crate::support::mesh::draft;
use crate::support::mesh::sealed;
use crate::support::nats;
use crate::support::plane::Wire;
use crate::support::saved::Saved;
use crate::support::saved::enrolled;
use crate::support::saved::revoked;
use crate::support::traffic::Notices;

#[derive(Clone, Copy)]
enum Damage {
    Purged,
    RolledUp,
    CarriageReturn,
    Garbage,
    Truncated,
    Empty,
}

impl Damage {
    async fn apply(self, bucket: Bucket<'_>) {
        let put = |value: Bytes| bucket.overwrite("head", value);
        match self {
            Self::Purged => bucket.wipe().await,
            Self::RolledUp => bucket.roll_up("x".into()).await,
            Self::CarriageReturn => put("\r".into()).await,
            Self::Garbage => put(vec![0xc1; 70_000].into()).await,
            Self::Truncated => {
                let head = bucket.read("head").await.unwrap();
                put(head.slice(..head.len() - 1)).await;
            }
            Self::Empty => put(Bytes::new()).await,
        }
    }
}

/// TS-4, RV-10: with each damage, in process and on a real server, nothing that was revoked counts
/// again, nobody begins by it, and the service repairs it when it is back.
macro_rules! each_damage {
    ($($claim:ident: $damage:ident)*) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $claim() {
                super::makes_nothing_valid(super::Wire::memory(), super::Damage::$damage).await;
            })*
        }

        mod nats_server {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $claim() {
                let wire = super::Wire::Nats(super::nats::jetstream().await.url());
                super::makes_nothing_valid(wire, super::Damage::$damage).await;
            })*
        }
    };
}

each_damage! {
    a_purged_bucket_makes_nothing_valid: Purged
    a_bucket_rolled_up_by_a_header_makes_nothing_valid: RolledUp
    a_carriage_return_for_a_head_makes_nothing_valid: CarriageReturn
    garbage_for_a_head_makes_nothing_valid: Garbage
    a_truncated_head_makes_nothing_valid: Truncated
    an_empty_head_makes_nothing_valid: Empty
}

async fn makes_nothing_valid(wire: Wire, damage: Damage) {
    let mut mesh = Saved::new(wire).await;
    let (send, hear) = (mesh.mesh.may("pub"), mesh.mesh.may("sub"));
    let mallory = mesh.mesh.agent("mallory", &[&send]).await;
    let bob = mesh.mesh.agent("bob", &[&hear]).await;
    let (newcomer, root) = mesh.mesh.join("carol", &[&hear]).await;
    let notices = Notices::of(&bob);
    let _heard = consume(bob.subscribe(mesh.mesh.subject(">")).await.unwrap());
    mesh.revoke("mallory".into()).await;
    eventually("bob knows", || revoked(&bob, "mallory")).await;
    mesh.kill().await;
    damage.apply(Bucket(&mesh.mesh)).await;
    // Who is new does not begin by that.
    let bus = mesh.mesh.wire.raw().await;
    let begun = newcomer.clone().follow(root, Admission::Production, &*bus);
    assert!(begun.await.is_err());
    // Who was there before looks after a silence, says so, and goes on by what it had.
    eventually("bob looks", || notices.any_of_trust()).await;
    assert!(revoked(&bob, "mallory"));
    let now = mesh.mesh.clock.now().unwrap();
    let late = draft(now, Action::Publish, &mesh.mesh.subject("bob"));
    let late = sealed(&late, &mallory);
    bus.publish(late).await.unwrap();
    eventually("bob refuses", || {
        bob.counters().denied_of(Class::Revoked) == 1
    })
    .await;
    assert_eq!(bob.counters().allowed, 0);

    mesh.start_again().await;
    mesh.revoke("trudy".into()).await;
    eventually("bob knows", || revoked(&bob, "trudy")).await;
    assert!(revoked(&bob, "mallory"));
    let dan = mesh.mesh.agent("dan", &[&hear]).await;
    assert!(revoked(&dan, "mallory") && revoked(&dan, "trudy") && enrolled(&dan, "carol"));
}

/// PO-9, PO-10: a client that has no memory of its own believes an older head, but no longer than
/// it may go without a fresh one, and it is corrected when the service is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_client_under_an_older_head_is_stale_within_the_bound() {
    a_new_client_is_stale_within_the_bound(Wire::memory()).await;
}

/// The same on a real server.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_client_under_an_older_head_is_stale_within_the_bound_on_a_server() {
    let wire = Wire::Nats(nats::jetstream().await.url());
    a_new_client_is_stale_within_the_bound(wire).await;
}

async fn a_new_client_is_stale_within_the_bound(wire: Wire) {
    let start = Timestamp::from_millis(1_800_000_000_000);
    let clock = Arc::new(ManualClock::at(start));
    let own = clock.clone();
    let mut mesh = Saved::by(wire, clock.clone(), || {
        Arc::new(ManualClock::at(own.now().unwrap()))
    })
    .await;
    let (topic, all) = (mesh.mesh.topic(), mesh.mesh.subject(">"));
    let (send, hear) = (mesh.mesh.may("pub"), mesh.mesh.may("sub"));
    let mallory = mesh.mesh.agent("mallory", &[&send]).await;
    let bob = mesh.mesh.agent("bob", &[&hear]).await;
    let caps = [&*format!("pub+sub+req+delegate:{all}")];
    let (carol, root) = mesh.mesh.join("carol", &caps).await;
    let old = Bucket(&mesh.mesh).read("head").await.unwrap();
    mesh.revoke("mallory".into()).await;
    eventually("bob knows", || revoked(&bob, "mallory")).await;
    mesh.kill().await;
    Bucket(&mesh.mesh).overwrite("head", old).await;

    let bus = mesh.mesh.wire.raw().await;
    let identity = carol.follow(root, Admission::Production, &*bus).await;
    let carol = mesh.mesh.enter(identity.unwrap()).await;
    let _heard = consume(carol.subscribe(all).await.unwrap());
    assert!(revoked(&bob, "mallory") && !revoked(&carol, "mallory"));
    let delegate = || {
        let scope = Scope::parse([&send]).unwrap();
        let delegated = carol.delegate(bob.id(), scope, Duration::from_secs(60));
        delegated.map_err(|error| error.0.class())
    };
    assert!(delegate().is_ok());
    clock.advance(Duration::from_secs(21));
    assert_eq!(delegate().unwrap_err(), Class::StaleState);
    clock.advance(Duration::from_secs(40));
    let stale = carol.request(format!("{topic}.bob"), "hello".into()).await;
    assert_eq!(denied(&stale.unwrap_err()).class(), Class::StaleState);
    clock.advance(Duration::from_secs(540));
    let stale = carol.publish(format!("{topic}.bob"), "hello".into()).await;
    assert_eq!(denied(&stale.unwrap_err()).class(), Class::StaleState);
    let by_mallory = || {
        let now = clock.now().unwrap();
        sealed(
            &draft(now, Action::Publish, &format!("{topic}.carol")),
            &mallory,
        )
    };
    // Again and again: the server may not know yet that she listens.
    let refuses = async |class| {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        while carol.counters().denied_of(class) == 0 {
            pace.tick().await;
            bus.publish(by_mallory()).await.unwrap();
        }
    };
    let seen = tokio::time::timeout(PATIENCE, refuses(Class::StaleState)).await;
    seen.expect("carol refuses what is stale");

    let folder = mesh.folder.path().to_owned();
    let again = Arc::new(ManualClock::at(clock.now().unwrap()));
    mesh.start_from(&folder, again, true).await;
    eventually("carol knows", || revoked(&carol, "mallory")).await;
    assert!(delegate().is_ok());
    let seen = tokio::time::timeout(PATIENCE, refuses(Class::Revoked)).await;
    seen.expect("carol refuses who is revoked");
    assert_eq!(carol.counters().allowed, 0);
}
