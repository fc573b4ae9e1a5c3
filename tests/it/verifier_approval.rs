//! Approvals that agents get from the verifier service, by presenting their chains to it.

use std::time::Duration;

use futures::StreamExt;
use trustmesh::Client;
use trustmesh::Message;
use trustmesh::audit::AuditEvent;
use trustmesh::client::plane::PlaneError;
use trustmesh::proto::chain::Credential;
use trustmesh::proto::enrol::EnrolRefused;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::rejection::ChainBroken;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::scope::Scope;

use crate::support::eventually;
use crate::support::mesh::denied;
use crate::support::mesh::message;
use crate::support::mesh::policy;
use crate::support::mesh::recorded;
use crate::support::nats;
use crate::support::plane::Wire;
use crate::support::served::Served;
use crate::support::unique;

/// Refused for want of an approval.
const NOT_APPROVED: u16 = 2008;

async fn jetstream() -> Wire {
    Wire::Nats(nats::jetstream().await.url())
}

/// Permits everything, and asks for approvals below `top`.
fn asking(top: &str) -> Policy {
    let text = format!(
        r#"{{ "rules": [ {{ "name": "all", "effect": "allow",
            "actions": ["pub", "sub", "req", "serve"], "subjects": ">" }} ],
          "approval": [ {{ "subjects": "{top}.>", "actions": ["pub", "req"] }} ] }}"#
    );
    Policy::from_json(&text).unwrap()
}

/// Publishes another policy, and waits until everybody has it.
async fn decree(mesh: &Served, new: Policy, agents: &[&Client]) {
    mesh.change(|mesh| mesh.set_policy(new)).await.unwrap();
    let published = mesh.change(|mesh| mesh.publish().unwrap()).await;
    let epoch = published.current().epochs().policy;
    for agent in agents {
        let knows = || agent.trust().epochs().policy >= epoch;
        eventually("the policy is known", knows).await;
    }
}

async fn code(client: &Client, subject: String) -> u16 {
    let sent = client.publish(subject, "1".into()).await;
    denied(&sent.unwrap_err()).code()
}

/// How often a client says that it was given an approval.
fn approvals(events: &[AuditEvent]) -> usize {
    let approved = |event: &&AuditEvent| match event {
        AuditEvent::Notice { topic, .. } => topic == "approved",
        _ => false,
    };
    events.iter().filter(approved).count()
}

/// A policy that comes in the middle asks for approvals: publishing waits for one that is asked
/// for, a request gets it by itself, and a policy after it asks for another.
async fn a_policy_in_mid_run_asks_for_approvals(wire: Wire) {
    let mesh = Served::new(wire).await;
    let top = unique();
    let caps = format!("pub+req:{top}.>");
    let alice = mesh.agent("alice", &[&caps]).await;
    let bob = mesh.agent("bob", &[&format!("sub+serve:{top}.>")]).await;
    let echo = |message: Message| async move { Ok::<_, String>(message.payload) };
    let _service = bob.serve(format!("{top}.ask"), echo).await.unwrap();
    let mut notes = bob.subscribe(format!("{top}.note")).await.unwrap();
    bob.flush().await.unwrap();
    let (note, ask) = (|| format!("{top}.note"), || format!("{top}.ask"));
    alice.publish(note(), "1".into()).await.unwrap();
    assert!(message(&mut notes).await.verified().approval().is_none());
    alice.request(ask(), "2".into()).await.unwrap();

    decree(&mesh, asking(&top), &[&alice, &bob]).await;
    let mut audit = alice.audit();
    assert_eq!(code(&alice, note()).await, NOT_APPROVED);
    let answer = alice.request(ask(), "3".into()).await.unwrap();
    assert_eq!(answer.payload, "3");
    // The approval that the request got is the chain's.
    alice.publish(note(), "4".into()).await.unwrap();
    assert!(message(&mut notes).await.verified().approval().is_some());
    let told = recorded(&alice, &mut audit).await;
    assert_eq!(approvals(&told), 1);

    decree(&mesh, policy(""), &[&alice, &bob]).await;
    decree(&mesh, asking(&top), &[&alice, &bob]).await;
    assert_eq!(code(&alice, note()).await, NOT_APPROVED);
    alice.present().await.unwrap();
    alice.publish(note(), "5".into()).await.unwrap();
    assert_eq!(message(&mut notes).await.payload, "5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_in_mid_run_asks_for_approvals_in_process() {
    a_policy_in_mid_run_asks_for_approvals(Wire::memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_in_mid_run_asks_for_approvals_over_nats() {
    a_policy_in_mid_run_asks_for_approvals(jetstream().await).await;
}

/// Many requests at once present their chain a few times at the most, and all come through.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_together_share_an_approval() {
    let mesh = Served::new(Wire::memory()).await;
    let alice = mesh.agent("alice", &["req:pay.>"]).await;
    let bob = mesh.agent("bob", &["sub+serve:pay.>"]).await;
    let echo = |message: Message| async move { Ok::<_, String>(message.payload) };
    let _service = bob.serve("pay.ask", echo).await.unwrap();
    decree(&mesh, asking("pay"), &[&alice, &bob]).await;
    let mut audit = alice.audit();
    let all = (0..100).map(|_| alice.request("pay.ask", "1".into()));
    let outcomes = futures::stream::iter(all).buffer_unordered(100);
    assert!(outcomes.all(|outcome| async move { outcome.is_ok() }).await);
    let told = recorded(&alice, &mut audit).await;
    assert_eq!(approvals(&told), 1);
}

/// What alice hands to bob, as bob's client takes it.
async fn handed(alice: &Client, bob: &Client) -> Credential {
    let mut orders = bob.subscribe("orders.bob").await.unwrap();
    let scope = Scope::parse(["pub:pay.bob"]).unwrap();
    let minute = Duration::from_secs(60);
    let grant = alice.delegate(bob.id(), scope, minute).unwrap();
    let order = alice.compose("orders.bob").grant(&grant);
    order.publish().await.unwrap();
    message(&mut orders).await.granted().unwrap()
}

/// Each chain needs its own approval, and nobody gets one for a chain that is another's.
#[tokio::test(flavor = "multi_thread")]
async fn the_approval_of_another_chain_does_not_help() {
    let mesh = Served::new(Wire::memory()).await;
    let caps = ["pub+delegate:pay.>", "pub:orders.*"];
    let alice = mesh.agent("alice", &caps).await;
    let bob = mesh.agent("bob", &["pub:pay.>", "sub:orders.bob"]).await;
    eventually("alice knows bob", || {
        !alice.trust().certificates_of(bob.id()).is_empty()
    })
    .await;
    let acting = bob.with(handed(&alice, &bob).await);
    decree(&mesh, asking("pay"), &[&alice, &bob]).await;
    bob.present().await.unwrap();
    bob.publish("pay.bob", "1".into()).await.unwrap();
    let under_the_other = || code(&acting, "pay.bob".to_owned());
    assert_eq!(under_the_other().await, NOT_APPROVED);
    // Neither for lack of an approval of one's own, nor of the key, can another's be presented.
    let others = alice.with(acting.credential()).present().await;
    let not_ours = Rejection::ChainBroken {
        place: trustmesh::proto::rejection::Place::Chain,
        reason: ChainBroken::NotOurs,
    };
    assert!(matches!(others, Err(PlaneError::Denied(why)) if why == not_ours));
    acting.present().await.unwrap();
    acting.publish("pay.bob", "2".into()).await.unwrap();
}

/// What was revoked is not approved, whoever asks, and a request does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_chain_is_not_approved() {
    let mesh = Served::new(Wire::memory()).await;
    let alice = mesh.agent("alice", &["pub+req:pay.>"]).await;
    decree(&mesh, asking("pay"), &[&alice]).await;
    alice.present().await.unwrap();
    let leaf = alice.credential().chain().leaf().id();
    mesh.change(move |mesh| mesh.revoke_link(leaf))
        .await
        .unwrap();
    let refused = alice.present().await;
    assert!(matches!(
        refused,
        Err(PlaneError::Refused(EnrolRefused::Revoked))
    ));
}

/// Without a service that answers, a request says why it was not sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_gets_no_approval_says_so() {
    let mut mesh = Served::new(Wire::memory()).await;
    let alice = mesh.agent("alice", &["req:pay.>"]).await;
    decree(&mesh, asking("pay"), &[&alice]).await;
    mesh.service.take().unwrap().stop().await.unwrap();
    let asked = trustmesh::bus::Request::new().timeout(Some(Duration::from_millis(200)));
    let outcome = alice.send_request("pay.ask", asked).await;
    assert_eq!(denied(&outcome.unwrap_err()).code(), NOT_APPROVED);
}
