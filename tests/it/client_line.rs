//! Messages verified ahead on every core: in order, once each, and judged by the moment they are
//! handed out.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::StreamExt as _;
use trustmesh::Client;
use trustmesh::bus::Outgoing;
use trustmesh::proto::audit::Word;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::scope::Action;

use super::support::eventually;
use super::support::mesh::Mesh;
use super::support::mesh::consume;
use super::support::mesh::decisions;
use super::support::mesh::draft;
use super::support::mesh::message;
use super::support::mesh::policy;
use super::support::mesh::sealed;
use super::support::mesh::settled;
use super::support::mesh::with_broken_payload;
use super::support::mesh::with_broken_signature;

const EVERYTHING: [&str; 1] = ["pub+sub:work.>"];

/// A message with a signature of its own, and a number in it.
fn numbered(mesh: &Mesh, by: &Client, number: u32) -> Outgoing {
    let mut draft = draft(mesh.now(), Action::Publish, "work.item");
    draft.payload = Bytes::copy_from_slice(&number.to_be_bytes());
    sealed(&draft, by)
}

fn number_in(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload.try_into().unwrap())
}

/// Whichever worker is done first, what is yielded and recorded has the order of
/// arrival, and forged, damaged and repeated messages in between change nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_workers_verify_comes_out_in_the_order_of_arrival() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &EVERYTHING).await;
    let bob = mesh.join("bob", &EVERYTHING).await;
    let mut items = bob.subscribe("work.>").await.unwrap();
    let mut audit = bob.audit();
    let (mut sent, mut expected) = (0, Vec::new());
    let mut send = |message: &Outgoing, word| {
        assert_eq!(mesh.forge(message), 1);
        sent += 1;
        expected.push(word);
    };
    for number in 0..600 {
        let message = numbered(&mesh, &alice, number);
        send(&message, Word::Allow);
        match number % 4 {
            0 => send(&message, Word::Deny),
            1 => {
                let mut forged = numbered(&mesh, &alice, number);
                forged.payload = with_broken_signature(&forged.payload);
                send(&forged, Word::Deny);
            }
            2 => {
                let mut damaged = numbered(&mesh, &alice, number);
                damaged.payload = with_broken_payload(&damaged.payload);
                send(&damaged, Word::Deny);
            }
            _ => send(&Outgoing::new("work.item", "garbage"), Word::Deny),
        }
    }
    for number in 0..600 {
        assert_eq!(number_in(&message(&mut items).await.payload), number);
    }
    eventually("the last of them is refused, which no message says", || {
        assert!(items.next().now_or_never().is_none());
        bob.counters().received == sent
    })
    .await;
    let counters = settled(&bob, sent).await;
    assert_eq!((counters.allowed, counters.denied_total()), (600, 600));
    let decided = decisions(&bob, &mut audit).await;
    let words: Vec<Word> = decided.iter().map(|decision| decision.verdict).collect();
    // Refusals beyond 200 a second are counted instead of recorded.
    let allowed = |words: &[Word]| words.iter().filter(|word| **word == Word::Allow).count();
    assert_eq!(allowed(&words), 600);
    let whole = words.len().min(400);
    assert_eq!(words[..whole], expected[..whole]);
}

/// FR-1 side by side: of sixty-four copies that are verified at once, one is accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_copies_verified_at_once_one_is_accepted() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &EVERYTHING).await;
    let bob = mesh.join("bob", &EVERYTHING).await;
    let mut items = bob.subscribe("work.>").await.unwrap();
    let once = numbered(&mesh, &alice, 7);
    for _ in 0..64 {
        mesh.forge(&once);
    }
    mesh.forge(&numbered(&mesh, &alice, 8));
    for number in [7, 8] {
        assert_eq!(number_in(&message(&mut items).await.payload), number);
    }
    let counters = bob.counters();
    assert_eq!(counters.denied_of(Class::Replay), 63);
}

/// CC-5: a message that was verified ahead and then waited is refused when its sender was
/// blocked meanwhile, and when it expired.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_waited_is_judged_by_the_moment_it_is_handed_out() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &EVERYTHING).await;
    let carol = mesh.join("carol", &EVERYTHING).await;
    let bob = mesh.join("bob", &EVERYTHING).await;
    let mut items = bob.subscribe("work.>").await.unwrap();
    for number in 0..20 {
        let by = if number % 2 == 0 { &alice } else { &carol };
        mesh.forge(&numbered(&mesh, by, number));
    }
    // The first poll reads all of them ahead.
    assert_eq!(number_in(&message(&mut items).await.payload), 0);
    let rules = r#"{ "blocked": { "agents": ["alice"] },
        "rules": [ { "name": "all", "effect": "allow", "actions": ["pub", "sub"],
                     "subjects": ">" } ] }"#;
    let blocking = Policy::from_json(rules).unwrap();
    mesh.authority.set_policy(blocking).unwrap();
    for number in (1..10).step_by(2) {
        assert_eq!(number_in(&message(&mut items).await.payload), number);
    }
    mesh.clock.advance(Duration::from_secs(600));
    assert!(items.next().now_or_never().is_none());
    eventually("all are decided", || {
        let _ = items.next().now_or_never();
        bob.counters().denied_total() == 14
    })
    .await;
    let counters = bob.counters();
    assert_eq!(counters.allowed, 6);
    assert!(counters.denied_of(Class::Blocked) >= 4);
    assert!(counters.denied_of(Class::Expired) >= 5);
}

/// No more come out than were asked for, however many were verified ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_limit_holds_for_what_was_verified_ahead() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &EVERYTHING).await;
    let bob = mesh.join("bob", &EVERYTHING).await;
    let mut items = bob.subscribe("work.>").await.unwrap();
    for number in 0..50 {
        mesh.forge(&numbered(&mesh, &alice, number));
    }
    assert_eq!(number_in(&message(&mut items).await.payload), 0);
    items.unsubscribe_after(5).await.unwrap();
    for number in 1..5 {
        assert_eq!(number_in(&message(&mut items).await.payload), number);
    }
    assert!(items.next().await.is_none());
    assert_eq!(bob.counters().allowed, 5);
}

/// A flood on one subscription costs another its turn and no more: on one thread a message among
/// twenty thousand forged ones elsewhere is heard long before they are refused.
#[tokio::test]
async fn a_flood_on_one_subscription_starves_no_other() {
    const FLOOD: u64 = 20_000;
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &["pub+sub:>"]).await;
    let bob = mesh.join("bob", &["pub+sub:>"]).await;
    let _flooded = consume(bob.subscribe("work.>").await.unwrap());
    let mut quiet = bob.subscribe("quiet").await.unwrap();
    let mut forged = numbered(&mesh, &alice, 7);
    forged.payload = with_broken_signature(&forged.payload);
    for _ in 0..FLOOD {
        mesh.forge(&forged);
    }
    mesh.forge(&sealed(
        &draft(mesh.now(), Action::Publish, "quiet"),
        &alice,
    ));
    assert_eq!(message(&mut quiet).await.subject.as_str(), "quiet");
    let refused = bob.counters().denied_total();
    assert!(refused < FLOOD / 10, "{refused} were refused first");
}

/// CC-5: while policy changes between being verified and being decided, a decision is one of the
/// state that it names.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_changes_while_it_waits_makes_no_mixed_decision() {
    const DENY: &str = r#"{ "name": "no", "effect": "deny", "actions": ["pub"],
        "subjects": "work.>" }"#;
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &EVERYTHING).await;
    let bob = mesh.join("bob", &EVERYTHING).await;
    let mut items = bob.subscribe("work.>").await.unwrap();
    let mut audit = bob.audit();
    let mut denying = BTreeMap::new();
    let mut sent = 0;
    for round in 0..40 {
        let denies = round % 2 == 0;
        for number in 0..8 {
            sent += 1;
            mesh.forge(&numbered(&mesh, &alice, number));
        }
        // They are with the workers when policy changes.
        let _ = items.next().now_or_never();
        let rules = policy(if denies { DENY } else { "" });
        mesh.authority.set_policy(rules).unwrap();
        denying.insert(bob.trust().epochs().policy, denies);
        mesh.clock.advance(Duration::from_secs(1));
        eventually("all are decided", || {
            let _ = items.next().now_or_never();
            bob.counters().received == sent
        })
        .await;
    }
    let decided = decisions(&bob, &mut audit).await;
    for decision in &decided {
        let denied = decision.verdict == Word::Deny;
        let by_state = denying.get(&decision.policy).copied().unwrap_or_default();
        assert_eq!(denied, by_state, "{decision:?}");
    }
    assert!(
        decided
            .iter()
            .any(|decision| decision.verdict == Word::Deny)
    );
}
