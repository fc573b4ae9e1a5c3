//! Delegations that are minted again on request.

use std::time::Duration;

use trustmesh::Client;
use trustmesh::audit::AuditEvent;
use trustmesh::client::AuditStream;
use trustmesh::client::enrol::Enrolled;
use trustmesh::client::plane::PlaneError;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::enrol::EnrolRefused;
use trustmesh::proto::scope::Scope;

use crate::support::mesh::message;
use crate::support::mesh::recorded;
use crate::support::plane::Plane;
use crate::support::plane::Wire;
use crate::support::plane::id;
use crate::support::plane::key;

const MINUTE: Duration = Duration::from_secs(60);

/// A planner who hands on, a worker, and somebody who listens.
struct Cast {
    plane: Plane,
    planner: Client,
    worker: Client,
}

async fn cast(wire: Wire) -> Cast {
    let plane = Plane::new(wire).await;
    let planner = plane.agent("planner", &["pub+delegate:greet.>"]).await;
    let worker = plane.agent("worker", &["sub:greet.>"]).await;
    Cast {
        plane,
        planner,
        worker,
    }
}

impl Cast {
    fn given(&self) -> Chain {
        let scope = Scope::parse(["pub:greet.bob"]).unwrap();
        let given = self.planner.delegate(self.worker.id(), scope, MINUTE);
        given.unwrap()
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, PlaneError>) -> EnrolRefused {
    match outcome {
        Err(PlaneError::Refused(reason)) => reason,
        other => panic!("no refusal: {other:?}"),
    }
}

async fn notices(client: &Client, audit: &mut AuditStream) -> usize {
    let events = recorded(client, audit).await.into_iter();
    let reminted = |event: &AuditEvent| match event {
        AuditEvent::Notice { topic, .. } => topic == "reminted",
        _ => false,
    };
    events.filter(reminted).count()
}

/// The same again before the end, for as long again, and both sides say so.
async fn a_delegation_goes_on(wire: Wire) {
    let cast = cast(wire).await;
    let (planner, worker) = (&cast.planner, &cast.worker);
    planner.keep_delegations().await.unwrap();
    planner.keep_delegations().await.unwrap();
    let mut greetings = worker.subscribe("greet.>").await.unwrap();
    let (mut ours, mut theirs) = (planner.audit(), worker.audit());
    let mut chain = cast.given();
    for _ in 0..4 {
        cast.plane.clock.advance(MINUTE * 2 / 3);
        let again = worker.renew_delegation(&chain).await.unwrap();
        let (old, new) = (chain.leaf(), again.chain().leaf());
        assert_eq!(new.scope(), old.scope());
        assert_eq!(new.remaining(), old.remaining());
        assert_eq!(new.validity().millis(), old.validity().millis());
        assert!(new.validity().until() > old.validity().until());
        let acting = worker.with(again.clone());
        acting.publish("greet.bob", "hello".into()).await.unwrap();
        assert_eq!(message(&mut greetings).await.sender().as_str(), "worker");
        chain = Chain::clone(again.chain());
    }
    assert_eq!(notices(planner, &mut ours).await, 4);
    assert_eq!(notices(worker, &mut theirs).await, 4);
    // What ended is over.
    cast.plane.clock.advance(MINUTE + Duration::from_secs(1));
    let late = worker.renew_delegation(&chain).await;
    assert_eq!(refused(late), EnrolRefused::NoGrant);
}

#[tokio::test]
async fn a_delegation_goes_on_in_process() {
    a_delegation_goes_on(Wire::memory()).await;
}

#[tokio::test]
async fn a_delegation_goes_on_over_nats() {
    a_delegation_goes_on(Wire::nats().await).await;
}

/// A delegate that rotated its key gets the delegation for the new one, and the old key none.
#[tokio::test]
async fn a_rotated_key_gets_the_delegation_again() {
    let cast = cast(Wire::memory()).await;
    cast.planner.keep_delegations().await.unwrap();
    let chain = cast.given();
    let new = key();
    let rotated = cast.worker.rotate(&new).await.unwrap();
    let enrolled = Enrolled {
        agent: id("worker"),
        key: std::sync::Arc::new(new),
        certificate: rotated.certificate,
        grant: rotated.grant,
        root: cast.plane.trust.current().root().id(),
    };
    let identity = enrolled.identity(cast.plane.trust.clone()).unwrap();
    let newer = cast.plane.enter(identity).await;
    let again = newer.renew_delegation(&chain).await.unwrap();
    assert_eq!(again.chain().leaf().holder(), newer.key());
    let acting = newer.with(again);
    acting.publish("greet.bob", "hello".into()).await.unwrap();
    let old = cast.worker.renew_delegation(&chain).await;
    assert_eq!(refused(old), EnrolRefused::NotCurrent);
}

/// Nobody else gets it, nothing that was revoked comes back, and nothing outlives its
/// source.
#[tokio::test]
async fn only_what_holds_is_minted_again_and_only_for_its_delegate() {
    let cast = cast(Wire::memory()).await;
    let (planner, worker) = (&cast.planner, &cast.worker);
    planner.keep_delegations().await.unwrap();
    let chain = cast.given();
    let thief = cast.plane.agent("thief", &["sub:x"]).await;
    let stolen = thief.renew_delegation(&chain).await;
    assert_eq!(refused(stolen), EnrolRefused::NotYours);

    let kept = cast.given();
    planner.revoke_link(&chain, 1).await.unwrap();
    let revoked = worker.renew_delegation(&chain).await;
    assert_eq!(refused(revoked), EnrolRefused::Revoked);
    worker.renew_delegation(&kept).await.unwrap();
    // The planner's own grant is taken back: it has nothing to hand on.
    let own = planner.credential().chain().leaf().id();
    let change = cast.plane.service.change(move |mesh| mesh.revoke_link(own));
    change.await.unwrap().in_force().unwrap().unwrap();
    let orphaned = worker.renew_delegation(&kept).await;
    assert_eq!(refused(orphaned), EnrolRefused::Revoked);
}

/// Without being told to, nobody mints again; nor does a process that did not mint.
#[tokio::test]
async fn a_delegator_that_was_not_told_to_does_not_answer() {
    let cast = cast(Wire::memory()).await;
    let chain = cast.given();
    tokio::time::pause();
    let silent = cast.worker.renew_delegation(&chain).await;
    assert!(matches!(silent, Err(PlaneError::TimedOut)));
    let root = cast.worker.credential().chain().clone();
    let root = cast.worker.renew_delegation(&root).await;
    assert!(matches!(root, Err(PlaneError::Denied(_))));
}
