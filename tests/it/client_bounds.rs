//! What a client keeps, however many there are of what its peers choose.

use trustmesh::bus::Outgoing;
use trustmesh::bus::memory::MemoryOptions;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::scope::Action;

use crate::support::mesh::Mesh;
use crate::support::mesh::consume;
use crate::support::mesh::draft;
use crate::support::mesh::sealed;
use crate::support::mesh::settled;
use crate::support::mesh::with_broken_signature;

const SUBJECTS: u64 = 100_000;

/// How many are on their way at once: fewer than a subscription holds.
const BURST: u64 = 1_000;

/// DO-12: a hundred thousand subjects and message ids make no series of their own: counters have
/// the classes of refusal and nothing that a peer chooses.
#[tokio::test(flavor = "multi_thread")]
async fn counters_have_no_series_for_what_peers_choose() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &["pub:orders.>"]).await;
    let bob = mesh.join("bob", &["sub:>"]).await;
    let _heard = consume(bob.subscribe("orders.>").await.unwrap());
    for number in 0..SUBJECTS {
        let subject = format!("orders.n{number}");
        // One in a hundred is valid, one in a hundred is for elsewhere, the rest is noise.
        let frame = match number % 100 {
            0 => sealed(&draft(mesh.now(), Action::Publish, &subject), &alice),
            1 => {
                let other = sealed(&draft(mesh.now(), Action::Publish, "orders.x"), &alice);
                Outgoing::new(subject, other.payload)
            }
            _ => Outgoing::new(subject, number.to_be_bytes().to_vec()),
        };
        mesh.forge(&frame);
        if (number + 1) % BURST == 0 {
            settled(&bob, number + 1).await;
        }
    }
    let counters = settled(&bob, SUBJECTS).await;
    assert_eq!(counters.allowed, SUBJECTS / 100);
    let classes: Vec<_> = counters.denied.keys().copied().collect();
    assert_eq!(classes, [Class::Malformed, Class::SubjectMismatch]);
}

/// DO-5: a flood that nobody can keep up with is bounded by what a subscription holds. What was
/// dropped is counted, what was not is decided, and right afterwards an honest message is handled.
#[tokio::test]
async fn a_flood_beyond_what_a_subscription_holds_is_bounded_and_then_over() {
    const ROOM: usize = 1_000;
    const FLOOD: u64 = 100_000;
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &["pub:orders.>"]).await;
    let bob = mesh.authority.agent("bob", ["sub:>"]).unwrap();
    let bus = MemoryOptions::default().subscription_capacity(ROOM);
    let bus = mesh.bus.connect_with(bus);
    let bob = mesh.options(bob).connect_bus(bus.clone());
    let bob = bob.await.unwrap();
    let heard = consume(bob.subscribe("orders.>").await.unwrap());
    let honest = |subject| sealed(&draft(mesh.now(), Action::Publish, subject), &alice);
    let broken = with_broken_signature(&honest("orders.a").payload);
    // Nobody else runs meanwhile.
    for _ in 0..FLOOD {
        mesh.forge(&Outgoing::new("orders.a", broken.clone()));
    }
    let held = FLOOD - bus.dropped();
    assert_eq!(held, ROOM as u64);
    let counters = settled(&bob, held).await;
    assert_eq!(counters.denied_of(Class::BadSignature), held);
    for sent in 1..=100 {
        mesh.forge(&honest("orders.b"));
        settled(&bob, held + sent).await;
    }
    assert_eq!(bus.dropped(), FLOOD - held);
    heard.reaches(100).await;
}
