//! Handshakes and delegations in a served mesh.

use std::time::Duration;

use trustmesh::Client;
use trustmesh::audit::AuditEvent;
use trustmesh::audit::SessionRole;
use trustmesh::bus::faults::Fault;
use trustmesh::bus::faults::Faults;
use trustmesh::bus::faults::Rule;
use trustmesh::client::AuditStream;
use trustmesh::error::HandshakeError;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::scope::Scope;

use crate::support::eventually;
use crate::support::mesh::recorded;
use crate::support::plane::Wire;
use crate::support::plane::id;
use crate::support::served::Served;

async fn told(client: &Client, audit: &mut AuditStream) -> Vec<(SessionRole, Option<String>)> {
    let events = recorded(client, audit).await.into_iter();
    let sessions = events.filter_map(|event| match event {
        AuditEvent::Session { role, class, .. } => Some((role, class)),
        _ => None,
    });
    sessions.collect()
}

/// HS-3: peers that the service has revoked or blocked, or never met, are refused at once, and the
/// audit says which.
#[tokio::test]
async fn a_peer_in_bad_standing_gets_no_session_in_a_served_mesh() {
    let mesh = Served::new(Wire::memory()).await;
    let alice = mesh.agent("alice", &["pub:x"]).await;
    for peer in ["revoked", "blocked"] {
        mesh.agent(peer, &["sub:x"]).await;
    }
    let blocking = Policy::from_json(
        r#"{ "rules": [ { "name": "all", "effect": "allow", "actions": ["pub", "sub"],
                          "subjects": ">" } ],
             "blocked": { "agents": ["blocked"] } }"#,
    );
    let blocking = blocking.unwrap();
    let changed = mesh.change(move |mesh| {
        mesh.set_policy(blocking)?;
        mesh.revoke_agent("revoked")
    });
    changed.await.unwrap();
    let revoked = || {
        alice
            .trust()
            .revocations()
            .agents()
            .contains(&id("revoked"))
    };
    eventually("alice knows", revoked).await;
    let mut audit = alice.audit();
    for (peer, class) in [
        ("revoked", Class::Revoked),
        ("blocked", Class::Blocked),
        ("nobody", Class::UnknownAgent),
    ] {
        let refused = alice.handshake(&id(peer)).await;
        assert!(
            matches!(refused, Err(HandshakeError::Refused(why)) if why.class() == class),
            "{peer}"
        );
        let expected = [(SessionRole::Initiator, Some(class.name().to_owned()))];
        assert_eq!(told(&alice, &mut audit).await, expected);
    }
}

/// HS-3: one that was revoked in mid-run gets no confirmation, and both sides say so.
#[tokio::test]
async fn an_initiator_that_the_service_revoked_is_not_confirmed() {
    let mesh = Served::new(Wire::memory()).await;
    let alice = mesh.agent("alice", &["pub:x"]).await;
    let bob = mesh.agent("bob", &["sub:x"]).await;
    let _listens = bob.subscribe("x").await.unwrap();
    let met = || !alice.trust().certificates_of(bob.id()).is_empty();
    eventually("alice has met bob", met).await;
    alice.handshake(bob.id()).await.unwrap();
    let (mut ours, mut theirs) = (alice.audit(), bob.audit());
    // What was before is not asked for.
    told(&alice, &mut ours).await;
    told(&bob, &mut theirs).await;
    mesh.change(|mesh| mesh.revoke_agent("alice"))
        .await
        .unwrap();
    let revoked = || bob.trust().revocations().agents().contains(alice.id());
    eventually("bob knows", revoked).await;
    tokio::time::pause();
    alice.handshake(bob.id()).await.unwrap_err();
    tokio::time::resume();
    let told_bob = told(&bob, &mut theirs).await;
    let expected = (SessionRole::Responder, Some("Revoked".to_owned()));
    assert_eq!(told_bob, [expected]);
    let failed = (SessionRole::Initiator, Some("HandshakeFailed".to_owned()));
    assert_eq!(told(&alice, &mut ours).await, [failed]);
}

/// HS-3: one that the responder has not heard of gets no confirmation, and both sides say so.
#[tokio::test(start_paused = true)]
async fn an_initiator_that_the_responder_does_not_know_is_not_confirmed() {
    let mesh = Served::new(Wire::memory()).await;
    let bob = mesh.agent("bob", &["sub:x"]).await;
    let _listens = bob.subscribe("x").await.unwrap();
    let lost = Rule::on(format!("{}.trust", mesh.prefix), Fault::Drop);
    mesh.memory().inject(Faults::seeded(1).with(lost));
    let carol = mesh.agent("carol", &["pub:x"]).await;
    assert!(bob.trust().certificates_of(carol.id()).is_empty());
    let (mut hers, mut his) = (carol.audit(), bob.audit());
    let refused = carol.handshake(bob.id()).await.unwrap_err();
    assert!(matches!(refused, HandshakeError::TimedOut), "{refused}");
    let unknown = (SessionRole::Responder, Some("UnknownAgent".to_owned()));
    assert_eq!(told(&bob, &mut his).await, [unknown]);
    let failed = (SessionRole::Initiator, Some("HandshakeFailed".to_owned()));
    assert_eq!(told(&carol, &mut hers).await, [failed]);
}

/// RV-8: a delegation that says no time of its own lives as long as policy lets it, never for ever,
/// and is in the audit.
#[tokio::test]
async fn a_delegation_without_a_time_gets_that_of_policy() {
    let mesh = Served::new(Wire::memory()).await;
    let alice = mesh.agent("alice", &["pub+delegate:x"]).await;
    let bob = mesh.agent("bob", &["sub:x"]).await;
    let met = || !alice.trust().certificates_of(bob.id()).is_empty();
    eventually("alice has met bob", met).await;
    let mut audit = alice.audit();
    let scope = || Scope::parse(["pub:x"]).unwrap();
    let given = alice.delegate_by_default(bob.id(), scope()).unwrap();
    let most = alice.trust().policy().ttl().delegation_ms;
    assert_eq!(given.leaf().validity().millis(), most);
    assert!(alice.delegate(bob.id(), scope(), Duration::MAX).is_err());
    let noted = recorded(&alice, &mut audit).await;
    let link = given.leaf().id().to_string();
    assert!(noted.iter().any(|event| match event {
        AuditEvent::Notice { topic, text } => topic == "delegated" && text.contains(&link),
        _ => false,
    }));
}
