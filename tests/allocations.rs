//! How often memory is asked for on the way of a message: counted, so that waste shows.

use std::hint::black_box;
use std::sync::Arc;

use allocation_counter::measure;
use bytes::Bytes;
use trustmesh::proto::chain::Credential;
use trustmesh::proto::chain::VerifiedChain;
use trustmesh::proto::envelope::EnvelopeDraft;
use trustmesh::proto::replay::MessageId;
use trustmesh::proto::replay::ReplayGuard;
use trustmesh::proto::scope::Action;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::subject::SubjectPattern;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::TrustState;
use trustmesh::proto::verify::Arrival;
use trustmesh::proto::verify::Examined;
use trustmesh::proto::verify::Route;
use trustmesh::proto::verify::Scene;
use trustmesh::proto::verify::Verifier;

mod forge;

use forge::Mesh;
use forge::NOW;
use forge::Party;
use forge::unique;

const SUBJECT: &str = "orders.eu.created";

/// Bob, who listens to alice.
struct Receiver {
    trust: Arc<TrustState>,
    own: VerifiedChain,
    pattern: SubjectPattern,
    verifier: Verifier,
    guard: ReplayGuard,
    alice: Credential,
}

impl Receiver {
    fn new(delegations: usize) -> Self {
        let mesh = Mesh::new();
        let bob = Party::named("bob");
        let holders = ["carol", "dave", "erin", "alice"].map(Party::named);
        let holders: Vec<&Party> = holders[3 - delegations..].iter().collect();
        let skew = ClockSkew::default();
        Self {
            trust: mesh.trust(),
            own: mesh.grant(&bob, 0, &["sub:orders.>"]).chain().clone(),
            pattern: SubjectPattern::parse("orders.>").unwrap(),
            verifier: Verifier::new(bob.bytes(), skew),
            guard: ReplayGuard::new(skew, None),
            alice: mesh.line(&holders, &["pub+delegate:orders.>"]),
        }
    }

    /// The pure part of a decision.
    fn examine(&self, frame: &Bytes) -> Examined {
        let scene = Scene {
            now: Timestamp::from_millis(NOW),
            trust: &self.trust,
            sessions: &(),
        };
        let arrival = Arrival {
            subject: SUBJECT,
            reply: None,
            route: Route::Subscription {
                pattern: &self.pattern,
                own: &self.own,
            },
        };
        self.verifier.examine(frame, &arrival, &scene, &self.guard)
    }

    /// How often examining a frame asks for memory, and for how much. On a bus the buffer it came in
    /// is shared already.
    fn cost(&self, frame: &Bytes) -> (u64, u64) {
        let _shared = frame.clone();
        let info = measure(|| {
            black_box(self.examine(frame));
        });
        (info.count_total, info.bytes_total)
    }
}

fn draft() -> EnvelopeDraft {
    let subject = Subject::parse(SUBJECT).unwrap();
    let now = Timestamp::from_millis(NOW);
    let mut draft = EnvelopeDraft::new(MessageId(unique()), now, Action::Publish, subject);
    draft.payload = Bytes::from_static(&[0x5a; 256]);
    draft
}

/// What the audit asks for: the subject a message was delivered on.
const SUBJECT_ONLY: (u64, u64) = (1, SUBJECT.len() as u64);

/// Verifying asks for no memory; the record of the decision keeps the subject.
#[test]
fn a_warm_verification_asks_for_nothing_but_the_subject() {
    for delegations in [0, 3] {
        let receiver = Receiver::new(delegations);
        let signed = || draft().sign(&receiver.alice).unwrap().into_bytes();
        receiver.examine(&signed());
        assert_eq!(receiver.cost(&signed()), SUBJECT_ONLY);
    }
}

#[test]
fn a_message_of_a_batch_met_before_asks_for_nothing_but_the_subject() {
    let receiver = Receiver::new(3);
    let drafts: Vec<EnvelopeDraft> = (0..64).map(|_| draft()).collect();
    let signed = EnvelopeDraft::sign_together(&drafts, &receiver.alice).unwrap();
    let mut frames = signed.into_iter().map(|envelope| envelope.into_bytes());
    receiver.examine(&frames.next().unwrap());
    for frame in frames {
        assert_eq!(receiver.cost(&frame), SUBJECT_ONLY);
    }
}

#[test]
fn refusing_garbage_asks_for_nothing_but_the_subject() {
    let receiver = Receiver::new(0);
    for start in [&b""[..], b"TMSH", b"TMSH\x96\x01\x01"] {
        let frame = Bytes::from([start, &[0xc4; 1024]].concat());
        assert_eq!(receiver.cost(&frame), SUBJECT_ONLY);
    }
}

/// Header, what stands before the payload, and the frame with what shares it: four a message, and a
/// few for a batch.
#[test]
fn signing_asks_four_times_a_message() {
    let receiver = Receiver::new(0);
    let one = draft();
    let info = measure(|| {
        black_box(one.sign(&receiver.alice).unwrap());
    });
    assert_eq!(info.count_total, 4);
    let drafts: Vec<EnvelopeDraft> = (0..64).map(|_| draft()).collect();
    let info = measure(|| {
        black_box(EnvelopeDraft::sign_together(&drafts, &receiver.alice).unwrap());
    });
    assert!(info.count_total <= 4 * 64 + 24, "{}", info.count_total);
}
