//! Authority handed over with a message: used explicitly, never lent, never more than was given.

use std::time::Duration;

use bytes::Bytes;
use trustmesh::Client;
use trustmesh::Message;
use trustmesh::error::Denied;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::rejection::ChainBroken;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::DepthExceeded;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::scope::Action;
use trustmesh::proto::scope::Scope;

use crate::support::mesh::Mesh;
use crate::support::mesh::consume;
use crate::support::mesh::decisions;
use crate::support::mesh::denied;
use crate::support::mesh::draft;
use crate::support::mesh::message;
use crate::support::mesh::sealed;
use crate::support::mesh::settled;

const A_MINUTE: Duration = Duration::from_secs(60);

/// A planner that owns the store, a worker that it may hand work to, and the store.
struct Cast {
    mesh: Mesh,
    planner: Client,
    worker: Client,
    store: Client,
}

impl Cast {
    async fn new() -> Self {
        let mut mesh = Mesh::new();
        let planner = mesh
            .join("planner", &["pub:work.>", "pub+req+delegate:store.>"])
            .await;
        let worker = mesh.join("worker", &["sub:work.>", "pub:own.>"]).await;
        let store = mesh.join("store", &["sub+serve:store.>"]).await;
        Self {
            mesh,
            planner,
            worker,
            store,
        }
    }

    fn grant(&self, to: &Client, scope: &str) -> Chain {
        let scope = Scope::parse([scope]).unwrap();
        self.planner.delegate(to.id(), scope, A_MINUTE).unwrap()
    }

    /// What the worker receives when the planner hands it these chains.
    async fn handed(&self, grants: &[Bytes]) -> Message {
        let mut messages = self.worker.subscribe("work.a").await.unwrap();
        let mut draft = draft(self.mesh.now(), Action::Publish, "work.a");
        draft.grants = grants.to_vec();
        self.mesh.forge(&sealed(&draft, &self.planner));
        message(&mut messages).await
    }
}

fn refused(message: &Message) -> Rejection {
    let Denied(rejection) = message.granted().map(drop).unwrap_err();
    rejection
}

#[tokio::test]
async fn what_was_handed_over_can_be_acted_with_and_every_hop_is_told() {
    let cast = Cast::new().await;
    let taken = consume(cast.store.subscribe("store.*").await.unwrap());
    let mut audit = cast.store.audit();
    let mut messages = cast.worker.subscribe("work.a").await.unwrap();
    let chain = cast.grant(&cast.worker, "pub:store.read");
    let sent = cast.planner.compose("work.a").grant(&chain).publish();
    sent.await.unwrap();
    let received = message(&mut messages).await;
    let acting = received.acting().unwrap();
    acting.publish("store.read", "x".into()).await.unwrap();
    settled(&cast.store, 1).await;
    assert_eq!(taken.count(), 1);
    let decision = decisions(&cast.store, &mut audit).await.remove(0);
    assert_eq!(decision.sender.as_deref(), Some("worker"));
    let holders: Vec<_> = decision
        .chain
        .iter()
        .map(|hop| hop.holder.as_str())
        .collect();
    assert_eq!(holders, ["planner", "worker"]);
    assert_eq!(decision.chain[1].scope, ["pub:store.read"]);
    assert_eq!(decision.hops, 1);
}

/// One's own authority is never lent to what one does for another, nor the other way round.
#[tokio::test]
async fn acting_for_another_uses_the_others_authority_and_nothing_else() {
    let cast = Cast::new().await;
    let chain = cast.grant(&cast.worker, "pub:store.read");
    let received = cast.handed(&[chain.bytes().clone()]).await;
    let acting = received.acting().unwrap();
    // Its own authority is not there …
    let error = acting.publish("own.log", "x".into()).await.unwrap_err();
    assert_eq!(denied(&error).class(), Class::ScopeExceeded);
    // … nor more of the other's than was given.
    let error = acting.publish("store.write", "x".into()).await.unwrap_err();
    assert_eq!(denied(&error).class(), Class::ScopeExceeded);
    let error = acting.request("store.read", "x".into()).await.unwrap_err();
    assert_eq!(denied(&error).class(), Class::ScopeExceeded);
    // By itself it has its own, and not the other's.
    for own in [&cast.worker, &received.client()] {
        own.publish("own.log", "x".into()).await.unwrap();
        let error = own.publish("store.read", "x".into()).await.unwrap_err();
        assert_eq!(denied(&error).class(), Class::ScopeExceeded);
    }
    // Explicitly taken into use, it is the same credential.
    let with = cast.worker.with(received.granted().unwrap());
    assert_eq!(with.credential().chain().depth(), 1);
    with.publish("store.read", "x".into()).await.unwrap();
}

/// A chain that does not hold fails where it is used, not the message it came with.
#[tokio::test]
async fn a_bad_chain_fails_the_grant_and_not_the_message() {
    let cast = Cast::new().await;
    let good = cast.grant(&cast.worker, "pub:store.read").bytes().clone();
    let mut forged = good.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    for (bad, class) in [
        (Bytes::new(), Class::ChainBroken),
        (Bytes::from_static(b"junk"), Class::ChainBroken),
        (Bytes::from_static(&[0x90]), Class::ChainBroken),
        (Bytes::from(forged), Class::BadSignature),
    ] {
        let received = cast.handed(std::slice::from_ref(&bad)).await;
        assert_eq!(refused(&received).class(), class);
        assert!(received.acting().is_err());
        // A good one beside it still counts.
        let received = cast.handed(&[bad, good.clone()]).await;
        assert!(received.granted().is_ok());
    }
    assert_eq!(cast.worker.counters().denied_total(), 0);
    // No chain at all.
    let received = cast.handed(&[]).await;
    assert_eq!(refused(&received).class(), Class::ChainBroken);
}

#[tokio::test]
async fn a_chain_that_has_ended_since_is_refused_when_it_is_used() {
    let mut cast = Cast::new().await;
    let chain = cast.grant(&cast.worker, "pub:store.read");
    let received = cast.handed(&[chain.bytes().clone()]).await;
    let acting = received.acting().unwrap();
    cast.mesh.clock.advance(A_MINUTE + Duration::from_secs(6));
    assert_eq!(refused(&received).class(), Class::Expired);
    let error = acting.publish("store.read", "x".into()).await.unwrap_err();
    assert_eq!(denied(&error).class(), Class::Expired);

    let chain = cast.grant(&cast.worker, "pub:store.read");
    let received = cast.handed(&[chain.bytes().clone()]).await;
    let acting = received.acting().unwrap();
    cast.mesh.authority.revoke_link(chain.leaf().id()).unwrap();
    assert_eq!(refused(&received).class(), Class::Revoked);
    let error = acting.publish("store.read", "x".into()).await.unwrap_err();
    assert_eq!(denied(&error).class(), Class::Revoked);
}

/// RV-2 at the client: revoking the planner takes down what it handed on.
#[tokio::test]
async fn revoking_the_giver_revokes_what_it_gave() {
    let mut cast = Cast::new().await;
    let chain = cast.grant(&cast.worker, "pub:store.read");
    let received = cast.handed(&[chain.bytes().clone()]).await;
    let acting = received.acting().unwrap();
    let late = sealed(
        &draft(cast.mesh.now(), Action::Publish, "store.read"),
        &acting,
    );
    cast.mesh.authority.revoke_agent("planner").unwrap();
    let taken = consume(cast.store.subscribe("store.*").await.unwrap());
    cast.mesh.forge(&late);
    assert_eq!(settled(&cast.store, 1).await.denied_of(Class::Revoked), 1);
    assert_eq!(taken.count(), 0);
    let error = acting.publish("store.read", "x".into()).await.unwrap_err();
    assert_eq!(denied(&error).class(), Class::Revoked);
}

#[tokio::test]
async fn a_chain_for_somebody_else_is_none_for_me() {
    let mut cast = Cast::new().await;
    let other = cast.mesh.join("other", &["sub:work.>"]).await;
    let chain = cast.grant(&other, "pub:store.read");
    let received = cast.handed(&[chain.bytes().clone()]).await;
    let none = Rejection::ChainBroken {
        place: trustmesh::proto::rejection::Place::Content,
        reason: ChainBroken::Empty,
    };
    assert_eq!(refused(&received), none);
    // In a message to a group each member finds its own.
    let mine = cast.grant(&cast.worker, "pub:store.read");
    let received = cast
        .handed(&[chain.bytes().clone(), mine.bytes().clone()])
        .await;
    let credential = received.granted().unwrap();
    assert_eq!(credential.chain().digest(), mine.digest());
}

/// A chain is a grant only from the hand of the one who made it.
#[tokio::test]
async fn a_chain_passed_on_by_a_stranger_is_refused() {
    let mut cast = Cast::new().await;
    let mallory = cast.mesh.join("mallory", &["pub:work.>"]).await;
    let chain = cast.grant(&cast.worker, "pub:store.read");
    let mut messages = cast.worker.subscribe("work.a").await.unwrap();
    let sent = mallory.compose("work.a").grant(&chain).publish();
    sent.await.unwrap();
    let received = message(&mut messages).await;
    let Rejection::ChainBroken { reason, .. } = refused(&received) else {
        panic!("{:?}", refused(&received));
    };
    assert_eq!(reason, ChainBroken::NotOurs);
}

/// Another agent's credential is of no use without being that agent.
#[tokio::test]
async fn a_client_cannot_send_under_a_credential_of_another_key() {
    let cast = Cast::new().await;
    let tap = cast.mesh.bus.tap();
    let disguised = cast.worker.with(cast.planner.credential());
    let error = disguised
        .publish("store.read", "x".into())
        .await
        .unwrap_err();
    assert_eq!(denied(&error).class(), Class::ChainBroken);
    let sent = tap.take();
    assert!(
        sent.iter().all(|m| m.subject.starts_with("trustmesh.")),
        "{sent:?}"
    );
}

/// CH-17: what exceeds one's own authority cannot be handed on.
#[tokio::test]
async fn delegating_more_than_one_has_is_refused_at_once() {
    let mut cast = Cast::new().await;
    let (planner, worker) = (&cast.planner, &cast.worker);
    let scope = |text: &str| Scope::parse([text]).unwrap();
    for wide in [
        "pub:>",
        "sub:store.read",
        "pub+serve:store.read",
        "pub:work.a",
    ] {
        let Denied(rejection) = planner
            .delegate(worker.id(), scope(wide), A_MINUTE)
            .unwrap_err();
        assert_eq!(rejection.class(), Class::ScopeExceeded, "{wide}");
    }
    let week = Duration::from_secs(7 * 24 * 3600);
    let long = planner.delegate(worker.id(), scope("pub:store.read"), week);
    assert_eq!(long.unwrap_err().0.class(), Class::ScopeExceeded);
    let none = planner.delegate(worker.id(), scope("pub:store.read"), Duration::ZERO);
    assert!(none.is_err() || none.unwrap().leaf().validity().until() <= cast.mesh.now());
    let deep = planner.delegate_to_depth(worker.id(), scope("pub:store.read"), A_MINUTE, 9);
    assert_eq!(deep.unwrap_err().0.class(), Class::DepthExceeded);
    // To nobody, to oneself, to the revoked.
    let nobody = trustmesh::proto::identity::AgentId::parse("nobody").unwrap();
    let error = planner.delegate(&nobody, scope("pub:store.read"), A_MINUTE);
    assert_eq!(error.unwrap_err().0.class(), Class::UnknownAgent);
    let error = planner.delegate(planner.id(), scope("pub:store.read"), A_MINUTE);
    assert_eq!(error.unwrap_err().0.class(), Class::ChainBroken);
    cast.mesh.authority.revoke_agent("worker").unwrap();
    let (planner, worker) = (&cast.planner, &cast.worker);
    let error = planner.delegate(worker.id(), scope("pub:store.read"), A_MINUTE);
    assert_eq!(error.unwrap_err().0.class(), Class::Revoked);
}

/// What may not be handed on further cannot be.
#[tokio::test]
async fn the_depth_given_with_a_grant_binds() {
    let mut cast = Cast::new().await;
    let other = cast.mesh.join("other", &["sub:work.>"]).await;
    let scope = || Scope::parse(["pub+delegate:store.read"]).unwrap();
    let chain = cast
        .planner
        .delegate_to_depth(cast.worker.id(), scope(), A_MINUTE, 0);
    let received = cast.handed(&[chain.unwrap().bytes().clone()]).await;
    let Denied(rejection) = received
        .acting()
        .unwrap()
        .delegate(other.id(), scope(), Duration::from_secs(10))
        .unwrap_err();
    let Rejection::DepthExceeded { reason, .. } = rejection else {
        panic!("{rejection}");
    };
    assert_eq!(reason, DepthExceeded::Remaining);
}

/// ID-12: an agent that has just been enrolled may nothing that was not granted.
#[tokio::test]
async fn a_fresh_agent_has_no_authority_beyond_its_grant() {
    let mut mesh = Mesh::new();
    let bob = mesh.join("bob", &["sub:work.>"]).await;
    let helper = mesh.join("admin-helper", &["sub:own.x"]).await;
    let error = helper.publish("work.a", "x".into()).await.unwrap_err();
    assert_eq!(denied(&error).class(), Class::ScopeExceeded);
    let error = helper.subscribe("work.a").await.unwrap_err();
    assert_eq!(denied(&error).class(), Class::ScopeExceeded);
    let taken = consume(bob.subscribe("work.a").await.unwrap());
    mesh.forge(&sealed(
        &draft(mesh.now(), Action::Publish, "work.a"),
        &helper,
    ));
    assert_eq!(settled(&bob, 1).await.denied_of(Class::ScopeExceeded), 1);
    assert_eq!(taken.count(), 0);
}

/// ID-1, ID-9: agents of another mesh, whatever they are called.
#[tokio::test]
async fn an_agent_of_another_mesh_is_a_stranger() {
    let mut mesh = Mesh::new();
    let bob = mesh.join("bob", &["sub:work.>"]).await;
    let mut elsewhere = Mesh::new();
    elsewhere.bus = mesh.bus.clone();
    let alice = elsewhere.join("bob", &["pub:work.>"]).await;
    let taken = consume(bob.subscribe("work.a").await.unwrap());
    alice.publish("work.a", "x".into()).await.unwrap();
    assert_eq!(settled(&bob, 1).await.denied_of(Class::UntrustedRoot), 1);
    assert_eq!(taken.count(), 0);
}
