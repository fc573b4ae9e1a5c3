//! Trust states made by those who may not, pushed to everybody and put into the store.

use std::sync::Arc;
use std::time::Duration;

use trustmesh::Client;
use trustmesh::audit::AuditEvent;
use trustmesh::bus::Outgoing;
use trustmesh::client::AuditStream;
use trustmesh::client::enrol::EnrolError;
use trustmesh::client::enrol::Enrolment;
use trustmesh::client::join::fetch_later_roots;
use trustmesh::client::join::fetch_root;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::root::Role;
use trustmesh::proto::trust::Bulletin;
use trustmesh::services::authority::Authority;

use crate::support::PATIENCE;
use crate::support::bucket::Bucket;
use crate::support::eventually;
use crate::support::mesh::policy;
use crate::support::nats;
use crate::support::plane::Wire;
use crate::support::plane::id;
use crate::support::plane::key;
use crate::support::plane::terms;
use crate::support::saved::enrolled;
use crate::support::saved::revoked;
use crate::support::served::Served;

async fn jetstream() -> Wire {
    Wire::Nats(nats::jetstream().await.url())
}

/// Pushes a bulletin to everybody, as anybody on the bus can.
async fn push(mesh: &Served, bulletin: &Bulletin) {
    let bus = mesh.wire.raw().await;
    let subject = format!("{}.trust", mesh.prefix);
    let sent = bus.publish(Outgoing::new(subject, bulletin.to_bytes()));
    sent.await.unwrap();
    bus.flush().await.unwrap();
}

/// Pushes a bulletin until the audit says that it was refused. It says so at most once in 5 s, and
/// not again while nothing has been right in between.
async fn refuses(audit: &mut AuditStream, mesh: &Served, bulletin: &Bulletin) -> String {
    while audit.try_next().is_some() {}
    let mut pace = tokio::time::interval(Duration::from_secs(1));
    let found = async {
        loop {
            tokio::select! {
                record = audit.next() => match record.unwrap().event {
                    AuditEvent::Notice { topic, text } if topic == "trust-refused" => return text,
                    _ => {}
                },
                _ = pace.tick() => push(mesh, bulletin).await,
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.expect("the audit says that something was refused")
}

/// What a client decides by.
fn held(client: &Client) -> (trustmesh::proto::trust::Epochs, usize) {
    let trust = client.trust();
    (trust.epochs(), trust.registered())
}

/// ID-8: a registry with one agent more, under a snapshot and a timestamp that are newer, all by an
/// agent's own keys. Pushed, then in the store as well: it is refused and said so, and what is known
/// stays; what is true is taken in afterwards.
async fn a_registry_made_by_an_agent_is_ignored(wire: Wire) {
    let mesh = Served::new(wire).await;
    let bob = mesh.agent("bob", &["sub:x"]).await;
    let mut audit = bob.audit();
    // The same mesh to look at, but for the keys that sign.
    let mut forger = Authority::served_with_clock("test", false, mesh.clock.clone()).unwrap();
    forger.set_policy(policy("")).unwrap();
    let key = SigningKey::generate().unwrap();
    forger.enrol(&id("mallory"), &key).unwrap();
    forger.publish().unwrap();
    let mut forged = forger.bulletin().unwrap().clone();
    forged.parts = forger.parts().into_values().collect();
    let genuine = mesh.change(|mesh| mesh.bulletin().unwrap().clone()).await;
    // The mesh's own, but for the last byte of a signature; then nothing of it is the mesh's.
    let mut broken = genuine.clone();
    let mut timestamp = broken.timestamp.to_vec();
    *timestamp.last_mut().unwrap() ^= 1;
    broken.timestamp = timestamp.into();
    let before = held(&bob);
    let text = refuses(&mut audit, &mesh, &broken).await;
    assert!(text.contains("signature"), "{text}");
    Bucket(&mesh).overwrite("head", forged.to_bytes()).await;
    refuses(&mut audit, &mesh, &forged).await;
    assert_eq!(held(&bob), before);
    assert!(!enrolled(&bob, "mallory"));
    mesh.change(|mesh| mesh.revoke_agent("trudy"))
        .await
        .unwrap();
    eventually("bob knows what is true", || revoked(&bob, "trudy")).await;
    assert!(!enrolled(&bob, "mallory"));
}

#[tokio::test(start_paused = true)]
async fn a_registry_made_by_an_agent_is_ignored_in_process() {
    a_registry_made_by_an_agent_is_ignored(Wire::memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_made_by_an_agent_is_ignored_over_nats() {
    a_registry_made_by_an_agent_is_ignored(jetstream().await).await;
}

/// ID-8: one push is enough to be told of it, when what is true has been looked at long ago.
#[tokio::test(start_paused = true)]
async fn a_single_forged_push_is_in_the_audit() {
    let mesh = Served::new(Wire::memory()).await;
    let bob = mesh.agent("bob", &["sub:x"]).await;
    let mut forged = mesh.change(|mesh| mesh.bulletin().unwrap().clone()).await;
    let mut timestamp = forged.timestamp.to_vec();
    *timestamp.last_mut().unwrap() ^= 1;
    forged.timestamp = timestamp.into();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (mut audit, before) = (bob.audit(), held(&bob));
    push(&mesh, &forged).await;
    let told = async {
        loop {
            match audit.next().await.unwrap().event {
                AuditEvent::Notice { topic, text } if topic == "trust-refused" => return text,
                _ => {}
            }
        }
    };
    let text = tokio::time::timeout(PATIENCE, told).await;
    let text = text.expect("the audit says that it was refused");
    assert!(text.contains("signature"), "{text}");
    assert_eq!(held(&bob), before);
}

/// RV-9: the keys of the service are replaced under a root that the one before signed, and everybody
/// goes on under it. Who has the keys from before, or makes a root alone, is no longer believed.
async fn replaced_keys_are_believed_by_the_root_alone(wire: Wire) {
    let mesh = Served::new(wire).await;
    let bob = mesh.agent("bob", &["sub:x"]).await;
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().to_owned();
    mesh.change(move |mesh| mesh.save(copy)).await.unwrap();
    let replaced = mesh.change(|mesh| {
        let new = |role| (role, SigningKey::generate().unwrap());
        mesh.replace_roles([Role::Timestamp, Role::Revoker].map(new).into())
    });
    replaced.await.unwrap();
    mesh.change(|mesh| mesh.revoke_agent("mallory"))
        .await
        .unwrap();
    eventually("bob follows", || revoked(&bob, "mallory")).await;
    assert_eq!(bob.trust().root().version(), 2);

    let mut audit = bob.audit();
    let mut thief = Authority::open_with_clock(folder.path(), mesh.clock.clone()).unwrap();
    for n in 0..20 {
        thief.revoke_agent(&format!("bob{n}")).unwrap();
    }
    let mut stolen = thief.bulletin().unwrap().clone();
    stolen.parts = thief.parts().into_values().collect();
    Bucket(&mesh).overwrite("head", stolen.to_bytes()).await;
    refuses(&mut audit, &mesh, &stolen).await;
    assert_eq!(bob.trust().root().version(), 2);
    // A third root by keys of somebody's own.
    let mut stranger = Authority::served_with_clock("test", false, mesh.clock.clone()).unwrap();
    stranger.set_policy(policy("")).unwrap();
    stranger.publish().unwrap();
    for _ in 0..2 {
        let none = std::collections::BTreeMap::new();
        stranger.replace_roles(none).unwrap();
    }
    let mut forged = stranger.bulletin().unwrap().clone();
    forged.parts = stranger.parts().into_values().collect();
    let third = stranger.roots()[2].clone();
    Bucket(&mesh).overwrite("root.3", third).await;
    refuses(&mut audit, &mesh, &forged).await;
    assert_eq!(bob.trust().root().version(), 2);
    assert!(!revoked(&bob, "bob0") && revoked(&bob, "mallory"));

    mesh.change(|mesh| mesh.revoke_agent("trudy"))
        .await
        .unwrap();
    eventually("bob knows what is true", || revoked(&bob, "trudy")).await;
    assert!(!revoked(&bob, "bob0"));
}

#[tokio::test(start_paused = true)]
async fn replaced_keys_are_believed_by_the_root_alone_in_process() {
    replaced_keys_are_believed_by_the_root_alone(Wire::memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_keys_are_believed_by_the_root_alone_over_nats() {
    replaced_keys_are_believed_by_the_root_alone(jetstream().await).await;
}

/// Under another registrar and another issuer agents join as before, by what the roots say and not
/// by what else lies in the store; tokens of the registrar before admit nobody.
async fn newcomers_are_led_to_the_newest_root(wire: Wire) {
    let mesh = Served::new(wire).await;
    let early = mesh.change(|mesh| mesh.join_token(&terms(&["sub:x"])));
    let early = early.await.unwrap();
    for _ in 0..2 {
        let replaced = mesh.change(|mesh| {
            let new = |role| (role, SigningKey::generate().unwrap());
            mesh.replace_roles([Role::Registrar, Role::Issuer].map(new).into())
        });
        replaced.await.unwrap();
    }
    Bucket(&mesh)
        .overwrite("root.4", b"nobody's"[..].into())
        .await;
    let bob = mesh.agent("bob", &["sub:x"]).await;
    assert_eq!(bob.trust().root().version(), 3);
    let bus = mesh.wire.raw().await;
    let root = fetch_root(&early, &*bus).await.unwrap();
    let enrolment = Enrolment::new(early, root.clone())
        .led_to(fetch_later_roots(&root, &*bus).await.unwrap())
        .agent(id("mallory"))
        .prefix(mesh.prefix.clone());
    let refused = enrolment.join(&*bus, Arc::new(key())).await.unwrap_err();
    assert!(matches!(refused, EnrolError::Token(_)), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn newcomers_are_led_to_the_newest_root_in_process() {
    newcomers_are_led_to_the_newest_root(Wire::memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newcomers_are_led_to_the_newest_root_over_nats() {
    newcomers_are_led_to_the_newest_root(jetstream().await).await;
}
