//! How many instructions the hot paths take, counted by callgrind: the same number on a busy
//! machine as on a calm one.
//!
//! ```text
//! scripts/check-instructions
//! ```
//!
//! Valgrind emulates a processor without the SHA extensions. Hashing therefore counts for several
//! times what it costs; a number says that a path does more or less than before, not how long it
//! takes.
//!
//! Keys, ids and times are fixed, so that every run signs and verifies the same bytes. Each path
//! runs in a process of its own, and what it works on is made and dropped uncounted.

use std::hint::black_box;

use bytes::Bytes;
use gungraun::Callgrind;
use gungraun::LibraryBenchmarkConfig;
use gungraun::library_benchmark;
use gungraun::library_benchmark_group;
use gungraun::main;

use trustmesh::proto::audit::Decision;
use trustmesh::proto::audit::RecordChain;
use trustmesh::proto::chain::Credential;
use trustmesh::proto::envelope::EnvelopeDraft;
use trustmesh::proto::envelope::SignedEnvelope;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::scope::Action;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::verify::Verifier;
use trustmesh::proto::verify::check_send;

#[path = "../../tests/forge/mod.rs"]
mod forge;
#[path = "../receiver/mod.rs"]
mod receiver;

use forge::Mesh;
use receiver::Receiver;
use receiver::SUBJECT;
use receiver::batch;
use receiver::credential;
use receiver::draft;
use receiver::garbage;
use receiver::signed;
use receiver::spoiled;

const BATCH: usize = 64;

fn to_sign(count: usize) -> (Vec<EnvelopeDraft>, Credential) {
    let drafts = (0..count).map(|_| draft()).collect();
    (drafts, credential(3))
}

#[library_benchmark]
#[bench::delegations_3(args = (1), setup = to_sign)]
fn sign(
    (drafts, credential): (Vec<EnvelopeDraft>, Credential),
) -> (Result<SignedEnvelope, Rejection>, Credential) {
    (black_box(&drafts[0]).sign(&credential), credential)
}

#[library_benchmark]
#[bench::delegations_3(args = (BATCH), setup = to_sign)]
fn sign_64_together(
    (drafts, credential): (Vec<EnvelopeDraft>, Credential),
) -> (Result<Vec<SignedEnvelope>, Rejection>, Credential) {
    let drafts = black_box(drafts);
    (
        EnvelopeDraft::sign_together(&drafts, &credential),
        credential,
    )
}

/// What is verified by whom, and how it has to end.
struct Delivery {
    receiver: Receiver,
    /// With a cache of its own, when not the receiver's.
    verifier: Option<Verifier>,
    frames: Vec<Bytes>,
    accepted: bool,
}

impl Delivery {
    fn run(mut self) -> Self {
        for frame in &self.frames {
            let accepted = self
                .receiver
                .verify(self.verifier.as_ref(), black_box(frame));
            assert_eq!(accepted, self.accepted);
        }
        self
    }
}

/// A receiver that has met a chain and a credential of it.
fn met(delegations: usize) -> (Receiver, Credential) {
    let mut receiver = Receiver::new();
    let credential = credential(delegations);
    assert!(receiver.verify(None, &signed(&credential)));
    (receiver, credential)
}

fn warm(delegations: usize) -> Delivery {
    let (receiver, credential) = met(delegations);
    Delivery {
        frames: vec![signed(&credential)],
        receiver,
        verifier: None,
        accepted: true,
    }
}

fn new_chain(delegations: usize) -> Delivery {
    let delivery = warm(delegations);
    Delivery {
        verifier: Some(delivery.receiver.cold()),
        ..delivery
    }
}

/// All messages of a batch but the first, which has been verified.
fn known_batch(delegations: usize) -> Delivery {
    let (mut receiver, credential) = met(delegations);
    let mut frames = batch(&credential, BATCH);
    assert!(receiver.verify(None, &frames.remove(0)));
    Delivery {
        receiver,
        verifier: None,
        frames,
        accepted: true,
    }
}

fn noise(prefix: &str) -> Delivery {
    let (receiver, _) = met(3);
    Delivery {
        receiver,
        verifier: None,
        frames: vec![garbage(prefix.as_bytes(), &mut 1)],
        accepted: false,
    }
}

fn bad_signature(delegations: usize) -> Delivery {
    let (receiver, credential) = met(delegations);
    Delivery {
        receiver,
        verifier: None,
        frames: vec![spoiled(&credential)],
        accepted: false,
    }
}

#[library_benchmark]
#[bench::delegations_0(args = (0), setup = warm)]
#[bench::delegations_3(args = (3), setup = warm)]
fn verify_warm(delivery: Delivery) -> Delivery {
    delivery.run()
}

#[library_benchmark]
#[bench::delegations_3(args = (3), setup = new_chain)]
fn verify_cold(delivery: Delivery) -> Delivery {
    delivery.run()
}

#[library_benchmark]
#[bench::delegations_3(args = (3), setup = known_batch)]
fn verify_63_of_known_batch(delivery: Delivery) -> Delivery {
    delivery.run()
}

#[library_benchmark]
#[bench::noise(args = (""), setup = noise)]
#[bench::noise_after_magic(args = ("TMSH"), setup = noise)]
#[bench::bad_signature(args = (3), setup = bad_signature)]
fn refuse(delivery: Delivery) -> Delivery {
    delivery.run()
}

/// An audit in which the chain has been met, as in all but the first line of a sender.
fn accepted(delegations: usize) -> (RecordChain, Decision, String) {
    let (mut receiver, credential) = met(delegations);
    let mut decide = || receiver.decision(&signed(&credential));
    let (first, second) = (decide(), decide());
    assert!(second.rejection.is_none());
    let mut chain = RecordChain::new(forge::Party::named("bob").id(), [3; 8]);
    let mut line = String::new();
    chain.append_decision(&first, &mut line);
    line.clear();
    (chain, second, line)
}

#[library_benchmark]
#[bench::delegations_3(args = (3), setup = accepted)]
fn audit_append_decision(
    (mut chain, decision, mut line): (RecordChain, Decision, String),
) -> (RecordChain, Decision, String) {
    chain.append_decision(black_box(&decision), &mut line);
    (chain, decision, line)
}

/// A mesh whose policy has so many rules, of which the last permits the message.
fn ruled(rules: usize) -> (Receiver, Credential, Subject) {
    let rule = |number| {
        format!(
            r#"{{ "name": "r{number}", "effect": "allow", "actions": ["pub"],
                  "subjects": "{}" }}"#,
            match number + 1 == rules {
                true => "orders.>".to_owned(),
                false => format!("orders.*.kind-{number}"),
            }
        )
    };
    let policy: Vec<String> = (0..rules).map(rule).collect();
    let mesh = Mesh::new().policy(&format!(r#"{{ "rules": [{}] }}"#, policy.join(",")));
    let receiver = Receiver::of(&mesh);
    let credential = credential(3);
    // Once unmeasured: the certificates are verified when they are first looked up.
    let subject = Subject::parse(SUBJECT).unwrap();
    may_send(&receiver, &credential, &subject).unwrap();
    (receiver, credential, subject)
}

fn may_send(
    receiver: &Receiver,
    credential: &Credential,
    subject: &Subject,
) -> Result<(), Rejection> {
    let (scene, skew) = (receiver.scene(), ClockSkew::default());
    check_send(
        credential,
        Action::Publish,
        subject,
        None,
        10_000,
        &scene,
        skew,
    )
}

#[library_benchmark]
#[bench::rules_1(args = (1), setup = ruled)]
#[bench::rules_20(args = (20), setup = ruled)]
fn check_send_by(
    (receiver, credential, subject): (Receiver, Credential, Subject),
) -> (Receiver, Credential, Result<(), Rejection>) {
    let checked = may_send(&receiver, &credential, black_box(&subject));
    (receiver, credential, checked)
}

library_benchmark_group!(
    name = hot,
    benchmarks = [
        sign,
        sign_64_together,
        verify_warm,
        verify_63_of_known_batch,
        verify_cold,
        refuse,
        audit_append_decision,
        check_send_by
    ]
);

main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = hot
);
