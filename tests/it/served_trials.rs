//! A served mesh under traffic whose verifier service dies, is taken over, and replaces keys.

use std::sync::Arc;
use std::time::Duration;

use trustmesh::Client;
use trustmesh::client::clock::Clock;
use trustmesh::client::clock::ManualClock;
use trustmesh::client::clock::SystemClock;
use trustmesh::client::enrol::Enrolled;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::scope::Action;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::Admission;
use trustmesh::services::authority::Authority;
use trustmesh::services::verifier::VerifierOptions;

use crate::support::eventually;
use crate::support::mesh::consume;
use crate::support::mesh::draft;
use crate::support::mesh::policy;
use crate::support::mesh::sealed;
use crate::support::nats;
use crate::support::plane::Wire;
use crate::support::plane::id;
use crate::support::plane::key;
use crate::support::saved::Saved;
use crate::support::saved::enrolled;
use crate::support::saved::revoked;
use crate::support::served::Served;
use crate::support::traffic::Notices;
use crate::support::traffic::Traffic;
use crate::support::unique;

const RESTARTS: u64 = 20;

const GRACE: Duration = Duration::from_secs(30);

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
    /// TS-4, PO-9: nobody is refused because the service died, and no state goes back.
    a_verifier_that_is_killed_again_and_again_costs_no_message
    /// TS-4: a standby with the keys and the store alone has all that was published.
    a_standby_takes_over_under_traffic
    /// TS-4, PO-9: what the last publication changed is in the books of a standby one behind.
    a_standby_that_is_one_publication_behind_takes_it_over
    /// PO-9: a clock that was set back between two runs is not taken for a rollback.
    a_verifier_that_starts_with_an_earlier_clock_is_believed
    /// RV-12: nothing honest is refused in the grace, nothing of the old key accepted after it.
    a_rotation_under_load_refuses_nobody_and_then_the_old_key
}

fn all(mesh: &Served) -> String {
    mesh.subject(">")
}

fn to_bob(mesh: &Served) -> String {
    mesh.subject("bob")
}

/// Alice and bob know of each other, so that what follows is traffic of a mesh at work.
async fn pair(mesh: &Served) -> (Client, Client) {
    let alice = mesh.agent("alice", &[&format!("pub:{}", all(mesh))]).await;
    let bob = mesh.agent("bob", &[&format!("sub:{}", all(mesh))]).await;
    eventually("bob knows alice", || enrolled(&bob, "alice")).await;
    (alice, bob)
}

/// Looks all the time whether the state that a client decides by went back.
fn watch(client: &Client) -> tokio::task::JoinHandle<()> {
    let client = client.clone();
    tokio::spawn(async move {
        let mut look = tokio::time::interval(Duration::from_millis(1));
        let mut last = (0, 0);
        loop {
            let trust = client.trust();
            let time = trust.time().unwrap();
            let now = (time.snapshot().epoch, time.epoch());
            assert!(now.0 >= last.0 && now.1 >= last.1, "{last:?} then {now:?}");
            last = now;
            look.tick().await;
        }
    })
}

async fn a_verifier_that_is_killed_again_and_again_costs_no_message(wire: Wire) {
    let mut mesh = Saved::new(wire).await;
    let (alice, bob) = pair(&mesh.mesh).await;
    let notices = [Notices::of(&alice), Notices::of(&bob)];
    let watches = [watch(&alice), watch(&bob)];
    let _heard = consume(bob.subscribe(all(&mesh.mesh)).await.unwrap());
    let traffic = Traffic::of(&alice, &to_bob(&mesh.mesh), &bob).await;
    let mut chance = 4u64;
    for round in 0..RESTARTS {
        let agent = format!("agent{round}");
        mesh.mesh.join(&agent, &["sub:greet.>"]).await;
        mesh.revoke(format!("gone{round}")).await;
        // It dies in the middle of this, at a point that differs each time.
        let service = mesh.mesh.service.as_ref().unwrap();
        let change = service.change(move |mesh| mesh.revoke_agent(&format!("perhaps{round}")));
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mut turns = chance >> 58;
        let moment = std::future::poll_fn(|turn| {
            turn.waker().wake_by_ref();
            turns = turns.saturating_sub(1);
            match turns {
                0 => std::task::Poll::Ready(()),
                _ => std::task::Poll::Pending,
            }
        });
        tokio::select! { _ = change => (), () = moment => () }
        mesh.kill().await;
        mesh.start_again().await;
    }
    let known = |client: &Client| {
        (0..RESTARTS)
            .all(|n| revoked(client, &format!("gone{n}")) && enrolled(client, &format!("agent{n}")))
    };
    for client in [&alice, &bob] {
        eventually("all that was done is there", || known(client)).await;
    }
    let sent = traffic.end().await;
    assert!(sent > 100);
    eventually("all arrived", || bob.counters().received == sent).await;
    assert_eq!(bob.counters().denied, [].into());
    assert_eq!(bob.counters().allowed, sent);
    for watch in watches {
        assert!(!watch.is_finished());
        watch.abort();
    }
    for notices in notices {
        assert_eq!(notices.of_distrust(), [""; 0]);
    }
    // And in the books.
    let state = mesh.mesh.change(|mesh| mesh.publish().map(|h| h.current()));
    let state = state.await.unwrap();
    assert!((0..RESTARTS).all(|n| {
        let agents = state.revocations().agents();
        agents.contains(&id(&format!("gone{n}")))
    }));
}

async fn a_standby_takes_over_under_traffic(wire: Wire) {
    let mut mesh = Saved::new(wire).await;
    let standby = tempfile::tempdir().unwrap();
    let copy = standby.path().to_owned();
    mesh.mesh.change(move |mesh| mesh.save(copy)).await.unwrap();
    let (alice, bob) = pair(&mesh.mesh).await;
    let notices = Notices::of(&bob);
    let _heard = consume(bob.subscribe(all(&mesh.mesh)).await.unwrap());
    let traffic = Traffic::of(&alice, &to_bob(&mesh.mesh), &bob).await;
    mesh.revoke("mallory".into()).await;
    mesh.kill().await;
    let clock = Arc::new(SystemClock::new());
    mesh.start_from(standby.path(), clock, false).await;
    mesh.revoke("trudy".into()).await;
    mesh.mesh.join("carol", &["sub:greet.>"]).await;
    eventually("bob knows", || {
        revoked(&bob, "trudy") && enrolled(&bob, "carol")
    })
    .await;
    assert!(revoked(&bob, "mallory") && enrolled(&bob, "alice"));
    let sent = traffic.end().await;
    eventually("all arrived", || bob.counters().received == sent).await;
    assert_eq!(bob.counters().denied, [].into());
    assert_eq!(notices.of_distrust(), [""; 0]);
}

async fn a_standby_that_is_one_publication_behind_takes_it_over(wire: Wire) {
    let mut mesh = Saved::new(wire).await;
    let (_, bob) = pair(&mesh.mesh).await;
    let notices = Notices::of(&bob);
    let standby = tempfile::tempdir().unwrap();
    let copy = standby.path().to_owned();
    mesh.mesh.change(move |mesh| mesh.save(copy)).await.unwrap();
    mesh.revoke("mallory".into()).await;
    eventually("bob knows", || revoked(&bob, "mallory")).await;
    mesh.kill().await;
    let clock = Arc::new(SystemClock::new());
    mesh.start_from(standby.path(), clock, false).await;
    mesh.revoke("trudy".into()).await;
    eventually("bob knows", || revoked(&bob, "trudy")).await;
    assert!(revoked(&bob, "mallory"));
    assert_eq!(notices.of_distrust(), [""; 0]);
}

async fn a_verifier_that_starts_with_an_earlier_clock_is_believed(wire: Wire) {
    let start = Timestamp::from_millis(1_800_000_000_000);
    let clock = || Arc::new(ManualClock::at(start));
    let mut mesh = Saved::by(wire, clock(), || clock()).await;
    let (_, bob) = pair(&mesh.mesh).await;
    let notices = Notices::of(&bob);
    mesh.kill().await;
    let earlier = ManualClock::at(Timestamp::from_millis(start.as_millis() - 2_000));
    let folder = mesh.folder.path().to_owned();
    mesh.start_from(&folder, Arc::new(earlier), true).await;
    mesh.revoke("mallory".into()).await;
    eventually("bob knows", || revoked(&bob, "mallory")).await;
    assert_eq!(notices.of_distrust(), [""; 0]);
}

async fn a_rotation_under_load_refuses_nobody_and_then_the_old_key(wire: Wire) {
    let start = Timestamp::from_millis(1_800_000_000_000);
    let clock = Arc::new(ManualClock::at(start));
    let mut books = Authority::served_with_clock("test", false, clock.clone()).unwrap();
    books.set_policy(policy("")).unwrap();
    let identity = books.verifier(Arc::new(key())).unwrap();
    let mut mesh = Served {
        wire,
        prefix: unique(),
        clock: clock.clone(),
        mesh: books.mesh(),
        service: None,
    };
    let mut settings = VerifierOptions::default();
    settings.rotation_grace = GRACE;
    let service = mesh.start_within(books, identity, None, settings);
    mesh.service = Some(service.await);
    let (old, bob) = pair(&mesh).await;
    let _heard = consume(bob.subscribe(all(&mesh)).await.unwrap());
    let by_old = Traffic::of(&old, &to_bob(&mesh), &bob).await;

    let new = key();
    let given = old.rotate(&new).await.unwrap();
    let successor = Enrolled {
        agent: id("alice"),
        key: Arc::new(new),
        certificate: given.certificate,
        grant: given.grant,
        root: mesh.change(|mesh| mesh.root_id()).await,
    };
    let bus = mesh.wire.raw().await;
    let root = mesh.change(|mesh| mesh.trust_root()).await;
    let identity = successor.follow(root, Admission::Production, &*bus).await;
    let new = mesh.enter(identity.unwrap()).await;
    // Who takes over waits until the others can know.
    let both = || bob.trust().certificates_of(&id("alice")).len() == 2;
    eventually("bob knows the new key", both).await;
    let by_new = Traffic::of(&new, &to_bob(&mesh), &bob).await;
    let half = |count: u64| {
        let before = bob.counters().allowed;
        let bob = &bob;
        async move { eventually("traffic", || bob.counters().allowed > before + count).await }
    };
    half(100).await;
    // In steps, or what is on its way would be old when it arrives.
    let step = Duration::from_secs(2);
    let mut left = GRACE - Duration::from_secs(6);
    while !left.is_zero() {
        clock.advance(left.min(step));
        left = left.saturating_sub(step);
        half(20).await;
    }
    half(100).await;
    let mut sent = by_old.end().await;
    eventually("the old traffic ends", || bob.counters().received >= sent).await;
    // The new one counts as well: by the time of so many more, the last of the old has come.
    half(300).await;
    assert_eq!(bob.counters().denied, [].into());
    // What it signs in time, for afterwards.
    let now = || clock.now().unwrap();
    let mut late: Vec<_> = (0..50)
        .map(|_| sealed(&draft(now(), Action::Publish, &to_bob(&mesh)), &old))
        .collect();
    clock.advance(Duration::from_secs(7));
    // No publication tells anybody: they know the instant, and it is over.
    for age in 0..50u64 {
        let claimed = Timestamp::from_millis(now().as_millis() - age * 1_000);
        late.push(sealed(
            &draft(claimed, Action::Publish, &to_bob(&mesh)),
            &old,
        ));
        let claimed = Timestamp::from_millis(now().as_millis() + age * 20);
        late.push(sealed(
            &draft(claimed, Action::Publish, &to_bob(&mesh)),
            &old,
        ));
    }
    half(50).await;
    sent += by_new.end().await;
    eventually("all arrived", || bob.counters().received == sent).await;
    assert_eq!(bob.counters().denied, [].into());
    let tries = late.len() as u64;
    for frame in late {
        bus.publish(frame).await.unwrap();
    }
    eventually("all is decided", || {
        bob.counters().received == sent + tries && bob.counters().denied_total() == tries
    })
    .await;
    assert_eq!(bob.counters().allowed, sent);
    assert!(bob.counters().denied_of(Class::Revoked) > 50);
    assert!(old.publish(to_bob(&mesh), "late".into()).await.is_err());
}
