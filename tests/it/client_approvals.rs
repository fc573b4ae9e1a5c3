//! Approvals of a chain: asked for by policy, made by a registrar, carried by senders.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::audit::Word;
use trustmesh::client::clock::Clock;
use trustmesh::client::clock::ManualClock;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::scope::Action;
use trustmesh::proto::scope::Scope;
use trustmesh::proto::time::Timestamp;
use trustmesh::services::authority::Authority;
use trustmesh::services::authority::AuthorityError;

use super::support::mesh::Mesh;
use super::support::mesh::consume;
use super::support::mesh::decisions;
use super::support::mesh::denied;
use super::support::mesh::draft;
use super::support::mesh::message;
use super::support::mesh::sealed;
use super::support::mesh::settled;
use super::support::nats;
use super::support::unique;

/// A policy that permits everything, and asks for approvals of these messages.
fn asking(needs: &str) -> Policy {
    let text = format!(
        r#"{{ "rules": [ {{ "name": "all", "effect": "allow",
            "actions": ["pub", "sub", "req", "serve"], "subjects": ">" }} ],
          "approval": [ {needs} ] }}"#
    );
    Policy::from_json(&text).unwrap()
}

const PAYMENTS: &str = r#"{ "subjects": "payments.>", "actions": ["pub", "req"] }"#;

/// A mesh that asks for approvals of payments.
fn mesh() -> Mesh {
    let mut mesh = Mesh::new();
    mesh.authority.set_policy(asking(PAYMENTS)).unwrap();
    mesh
}

fn approve(mesh: &Mesh, client: &Client) {
    let approval = mesh.authority.approve(client.credential().chain());
    client.approved(approval.unwrap()).unwrap();
}

async fn code(client: &Client, subject: &str) -> u16 {
    let sent = client.publish(subject.to_owned(), "1".into()).await;
    denied(&sent.unwrap_err()).code()
}

#[tokio::test]
async fn a_message_that_needs_an_approval_is_not_sent_without() {
    let mut mesh = mesh();
    let alice = mesh.join("alice", &["pub:>"]).await;
    let bob = mesh.join("bob", &["sub:>"]).await;
    let mut all = bob.subscribe(">").await.unwrap();
    assert_eq!(code(&alice, "payments.new").await, 2008);
    alice.publish("notes.new", "2".into()).await.unwrap();
    assert!(message(&mut all).await.verified().approval().is_none());

    approve(&mesh, &alice);
    alice.publish("payments.new", "3".into()).await.unwrap();
    let paid = message(&mut all).await;
    let approval = paid.verified().approval().expect("it was asked for");
    assert_eq!(
        approval.claims().leaf,
        alice.credential().chain().leaf().id()
    );
    // Only where it is needed.
    alice.publish("notes.new", "4".into()).await.unwrap();
    let note = message(&mut all).await;
    assert_eq!(note.verified().claims().extensions.approval, None);
    assert_eq!(bob.counters().denied_total(), 0);
}

/// What a sender leaves out its receiver asks for.
#[tokio::test]
async fn a_receiver_refuses_what_needs_an_approval_and_has_none() {
    let mut mesh = mesh();
    let alice = mesh.join("alice", &["pub:>"]).await;
    let bob = mesh.join("bob", &["sub:>"]).await;
    let mut audit = bob.audit();
    let all = consume(bob.subscribe("payments.>").await.unwrap());
    let draft = draft(mesh.now(), Action::Publish, "payments.new");
    mesh.forge(&sealed(&draft, &alice));
    settled(&bob, 1).await;
    let decided = decisions(&bob, &mut audit).await;
    assert_eq!((decided[0].code, decided[0].claimed), (Some(2008), false));
    // It proves who asked, and runs nothing.
    assert_eq!(decided[0].sender.as_deref(), Some("alice"));
    assert_eq!(all.count(), 0);
}

#[tokio::test]
async fn an_approval_ends_with_its_time_and_with_its_policy() {
    let mut mesh = mesh();
    let alice = mesh.join("alice", &["pub:>"]).await;
    approve(&mesh, &alice);
    alice.publish("payments.new", "1".into()).await.unwrap();
    // An hour less the minute of backdating, and the skew.
    mesh.clock.advance(Duration::from_secs(59 * 60 + 5));
    assert_eq!(code(&alice, "payments.new").await, 2008);
    approve(&mesh, &alice);
    alice.publish("payments.new", "2".into()).await.unwrap();

    mesh.authority.set_policy(asking(PAYMENTS)).unwrap();
    assert_eq!(code(&alice, "payments.new").await, 2008);
    approve(&mesh, &alice);
    alice.publish("payments.new", "3".into()).await.unwrap();
}

#[tokio::test]
async fn answers_are_approved_by_the_subject_of_their_request() {
    let mut mesh = Mesh::new();
    let needs = r#"{ "subjects": "payments.>", "actions": ["serve"] }"#;
    mesh.authority.set_policy(asking(needs)).unwrap();
    let alice = mesh.join("alice", &["req:>"]).await;
    let bob = mesh.join("bob", &["sub+serve:payments.>"]).await;
    approve(&mesh, &bob);
    let echo = |message: trustmesh::Message| async move { Ok::<_, String>(message.payload) };
    let _service = bob.serve("payments.ask", echo).await.unwrap();
    let answer = alice.request("payments.ask", "?".into()).await.unwrap();
    assert_eq!(answer.payload, "?");
    assert!(answer.verified().approval().is_some());
}

/// The registrar checks the chain as a receiver would.
#[tokio::test]
async fn what_a_receiver_would_refuse_is_not_approved() {
    let mut mesh = mesh();
    let alice = mesh.join("alice", &["pub+delegate:>"]).await;
    let bob = mesh.join("bob", &["sub:>"]).await;
    let own = alice.credential().chain().clone();
    let refused = |mesh: &Mesh, chain| match mesh.authority.approve(chain) {
        Err(AuthorityError::Refused(rejection)) => rejection.code(),
        other => panic!("{other:?}"),
    };
    // A chain of another mesh.
    let mut other = Authority::dev_with_clock("other", mesh.clock.clone()).unwrap();
    let stranger = other.agent("alice", ["pub:>"]).unwrap();
    assert_eq!(refused(&mesh, stranger.grant()), 1701);
    // Not beyond the chain's end.
    let scope = Scope::parse(["pub:payments.>"]).unwrap();
    let short = alice.delegate(bob.id(), scope, Duration::from_secs(60));
    let short = short.unwrap();
    let approval = mesh.authority.approve(&short).unwrap();
    let approval = trustmesh::proto::approval::UnverifiedApproval::parse(&approval).unwrap();
    let until = short.leaf().validity().until();
    assert_eq!(approval.claims().validity.until(), until);
    mesh.clock.advance(Duration::from_secs(66));
    assert_eq!(refused(&mesh, &short), 1101);
    // A revoked link, and all below it.
    mesh.authority.revoke_link(own.leaf().id()).unwrap();
    assert_eq!(refused(&mesh, &own), 1801);
}

/// What is no approval for this client is not kept.
#[tokio::test]
async fn a_client_takes_no_approval_that_its_receivers_would_not_honour() {
    let mut mesh = mesh();
    let alice = mesh.join("alice", &["pub:>"]).await;
    let chain = alice.credential().chain().clone();
    let taken = |bytes: bytes::Bytes| alice.approved(bytes).map_err(|denied| denied.0.code());
    assert_eq!(taken("nothing".into()), Err(103));
    let good = mesh.authority.approve(&chain).unwrap();
    let mut bad = good.to_vec();
    *bad.last_mut().unwrap() ^= 1;
    assert_eq!(taken(bad.into()), Err(401));
    mesh.authority.set_policy(asking(PAYMENTS)).unwrap();
    assert_eq!(taken(good), Err(2302));
    let good = mesh.authority.approve(&chain).unwrap();
    mesh.clock.advance(Duration::from_secs(3_600));
    assert_eq!(taken(good), Err(1101));
    assert_eq!(code(&alice, "payments.new").await, 2008);
}

/// An authority that was opened again approves under the epochs that are on disk.
#[cfg(unix)]
#[tokio::test]
async fn an_authority_that_was_opened_again_approves_for_those_who_read_its_files() {
    let home = tempfile::tempdir().unwrap();
    let mut mesh = mesh();
    let alice = mesh.authority.agent("alice", ["pub:>"]).unwrap();
    mesh.authority.save(home.path()).unwrap();
    mesh.authority.save_agent(home.path(), &alice).unwrap();
    let again = Authority::open_with_clock(home.path(), mesh.clock.clone()).unwrap();
    let approval = again.approve(alice.grant()).unwrap();
    let trust = alice.trust().current();
    // This process published no later epoch than it saved under.
    let reader = trustmesh::proto::approval::UnverifiedApproval::parse(&approval).unwrap();
    assert!(reader.claims().epochs.policy > trust.epochs().policy);
    mesh.authority.publish().unwrap();
    let later = again.approve(alice.grant()).unwrap();
    let later = trustmesh::proto::approval::UnverifiedApproval::parse(&later).unwrap();
    assert_eq!(reader.claims().epochs, later.claims().epochs);
}

/// The same over a real server.
#[tokio::test]
async fn approvals_travel_over_nats() {
    let server = nats::shared().await;
    let top = unique();
    let mut authority = Authority::dev("payments").unwrap();
    let needs = format!(r#"{{ "subjects": "{top}.>", "actions": ["pub"] }}"#);
    authority.set_policy(asking(&needs)).unwrap();
    let everything = format!("pub+sub:{top}.>");
    let alice = authority.agent("alice", [&everything]).unwrap();
    let chain = alice.grant().clone();
    let bob = authority.agent("bob", [&everything]).unwrap();
    let options = |identity| ConnectOptions::new(identity).prefix(unique());
    let alice = options(alice).connect(server.url()).await.unwrap();
    let bob = options(bob).connect(server.url()).await.unwrap();
    let mut items = bob.subscribe(format!("{top}.>")).await.unwrap();
    bob.flush().await.unwrap();
    assert_eq!(code(&alice, &format!("{top}.a")).await, 2008);
    alice.approved(authority.approve(&chain).unwrap()).unwrap();
    // The server may know of bob later than of the first message.
    let item = loop {
        alice.publish(format!("{top}.a"), "1".into()).await.unwrap();
        if let Ok(item) = tokio::time::timeout(Duration::from_secs(1), message(&mut items)).await {
            break item;
        }
    };
    assert!(item.verified().approval().is_some());
    alice.drain().await.unwrap();
    bob.drain().await.unwrap();
}

/// A clock that panics when told to.
struct Fragile {
    clock: Arc<ManualClock>,
    broken: AtomicBool,
}

impl Clock for Fragile {
    fn now(&self) -> Result<Timestamp, Rejection> {
        assert!(!self.broken.swap(false, Ordering::SeqCst), "broken");
        self.clock.now()
    }
}

/// PO-8: a fault of one's own while a message is decided is a refusal, and is recorded; the next
/// message is decided as ever.
#[tokio::test]
async fn a_panic_while_a_message_is_decided_is_a_refusal() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &["pub:>"]).await;
    let bob = mesh.authority.agent("bob", ["sub:>"]).unwrap();
    let clock = Arc::new(Fragile {
        clock: mesh.clock.clone(),
        broken: AtomicBool::new(false),
    });
    let options = ConnectOptions::new(bob).clock(clock.clone());
    let bob = options.connect_bus(mesh.bus.connect()).await.unwrap();
    let mut audit = bob.audit();
    let mut notes = bob.subscribe("notes").await.unwrap();
    clock.broken.store(true, Ordering::SeqCst);
    alice.publish("notes", "1".into()).await.unwrap();
    alice.publish("notes", "2".into()).await.unwrap();
    assert_eq!(message(&mut notes).await.payload, "2");
    let decided = decisions(&bob, &mut audit).await;
    let found: Vec<_> = decided.iter().map(|d| (d.verdict, d.code)).collect();
    assert_eq!(found, [(Word::Deny, Some(2603)), (Word::Allow, None)]);
}
