//! What verifying costs, beside the bare signatures it is made of.
//!
//! `V` is one `verify_strict` over 200 bytes, `S` one signature; everything else is read as a
//! multiple of these from the same run. No envelope is verified twice: a receiver never does that
//! either, and a repeated one would be refused as a replay before its signature.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::BatchSize;
use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use ed25519_dalek::Signer as _;

use trustmesh::proto::audit::AuditSlot;
use trustmesh::proto::audit::Decision;
use trustmesh::proto::chain::Credential;
use trustmesh::proto::chain::VerifiedChain;
use trustmesh::proto::envelope::EnvelopeDraft;
use trustmesh::proto::policy::RateLimiter;
use trustmesh::proto::replay::MessageId;
use trustmesh::proto::replay::ReplayGuard;
use trustmesh::proto::scope::Action;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::subject::SubjectPattern;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::TrustState;
use trustmesh::proto::verify::Arrival;
use trustmesh::proto::verify::Route;
use trustmesh::proto::verify::Scene;
use trustmesh::proto::verify::Verifier;

#[path = "../tests/forge/mod.rs"]
mod forge;

use forge::Mesh;
use forge::NOW;
use forge::Party;
use forge::unique;

const SUBJECT: &str = "orders.eu.created";
const CAPABILITIES: [&str; 2] = ["pub+req+delegate:orders.>", "sub+delegate:prices.*.spot"];
const HOLDERS: [&str; 9] = [
    "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "alice",
];

/// A slot that drops what it is given: what an audit costs is measured elsewhere.
struct Nowhere;

impl AuditSlot for Nowhere {
    fn fill(self, decision: Decision) {
        black_box(&decision);
    }
}

/// A receiver, bob, and senders at every depth.
struct Receiver {
    mesh: Mesh,
    trust: std::sync::Arc<TrustState>,
    own: VerifiedChain,
    pattern: SubjectPattern,
    verifier: Verifier,
    guard: ReplayGuard,
    rates: RateLimiter,
}

impl Receiver {
    fn new() -> Self {
        let mesh = Mesh::new();
        let bob = Party::named("bob");
        let own = mesh.grant(&bob, 0, &["sub:orders.>"]).chain().clone();
        let skew = ClockSkew::default();
        Self {
            trust: mesh.trust(),
            own,
            pattern: SubjectPattern::parse("orders.>").unwrap(),
            verifier: Verifier::new(bob.bytes(), skew),
            guard: ReplayGuard::new(skew, None),
            rates: RateLimiter::default(),
            mesh,
        }
    }

    /// A credential of this many delegations.
    fn credential(&self, delegations: usize) -> Credential {
        let holders: Vec<Party> = HOLDERS[8 - delegations..]
            .iter()
            .map(|name| Party::named(name))
            .collect();
        self.mesh
            .line(&holders.iter().collect::<Vec<_>>(), &CAPABILITIES)
    }

    /// Whether the frame is accepted.
    fn verify(&mut self, verifier: Option<&Verifier>, frame: &Bytes) -> bool {
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
        let verifier = verifier.unwrap_or(&self.verifier);
        let (guard, rates) = (&mut self.guard, &mut self.rates);
        let verdict = verifier.verify(frame, &arrival, &scene, guard, rates);
        verdict.record(Nowhere).is_ok()
    }
}

/// Bob's verifier, with an empty cache.
fn cold() -> Verifier {
    Verifier::new(Party::named("bob").bytes(), ClockSkew::default())
}

fn draft() -> EnvelopeDraft {
    let subject = Subject::parse(SUBJECT).unwrap();
    let now = Timestamp::from_millis(NOW);
    let mut draft = EnvelopeDraft::new(MessageId(unique()), now, Action::Publish, subject);
    draft.payload = Bytes::from_static(&[0x5a; 256]);
    draft
}

fn signed(credential: &Credential) -> Bytes {
    draft().sign(credential).unwrap().into_bytes()
}

fn bare(c: &mut Criterion) {
    let key = ed25519_dalek::SigningKey::from_bytes(&Party::named("alice").seed);
    let public = key.verifying_key();
    let mut number = 0u64;
    let mut message = move || {
        number += 1;
        let mut message = [0x5a; 200];
        message[..8].copy_from_slice(&number.to_be_bytes());
        message
    };
    let mut group = c.benchmark_group("bare");
    group.bench_function("sign (S)", |b| {
        b.iter_batched(&mut message, |m| key.sign(&m), BatchSize::SmallInput);
    });
    group.bench_function("verify_strict (V)", |b| {
        let signed = || {
            let message = message();
            (message, key.sign(&message))
        };
        b.iter_batched(
            signed,
            |(m, s)| public.verify_strict(&m, &s).is_ok(),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn sign(c: &mut Criterion) {
    let receiver = Receiver::new();
    let mut group = c.benchmark_group("sign");
    for delegations in [0, 3] {
        let credential = receiver.credential(delegations);
        group.bench_function(format!("{delegations} delegations"), |b| {
            b.iter_batched(draft, |d| d.sign(&credential), BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn verify(c: &mut Criterion) {
    let mut group = c.benchmark_group("verify");
    for delegations in [0, 1, 3, 8] {
        let mut receiver = Receiver::new();
        let credential = receiver.credential(delegations);
        assert!(receiver.verify(None, &signed(&credential)));
        group.bench_function(format!("warm, {delegations} delegations"), |b| {
            b.iter_batched(
                || signed(&credential),
                |frame| assert!(receiver.verify(None, &frame)),
                BatchSize::SmallInput,
            );
        });
        // The receiver is new to the chain; the trust state and its imported keys are not new.
        // Making and dropping its empty cache is not measured.
        let mut receiver = Receiver::new();
        group.bench_function(format!("cold, {delegations} delegations"), |b| {
            b.iter_batched(
                || (cold(), signed(&credential)),
                |(cold, frame)| {
                    assert!(receiver.verify(Some(&cold), &frame));
                    cold
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// Envelopes that share a signature, 64 at a time.
fn batches(c: &mut Criterion) {
    const SIZE: usize = 64;
    let drafts = || -> Vec<EnvelopeDraft> { (0..SIZE).map(|_| draft()).collect() };
    let mut group = c.benchmark_group("batch of 64");
    let receiver = RefCell::new(Receiver::new());
    let credential = receiver.borrow().credential(3);
    group.bench_function("sign all, 3 delegations", |b| {
        b.iter_batched(
            drafts,
            |drafts| EnvelopeDraft::sign_together(&drafts, &credential),
            BatchSize::SmallInput,
        );
    });
    // The first of each batch, with its signature, is verified where nothing is measured.
    let stock = RefCell::new(Vec::new());
    let next = || -> Bytes {
        let mut stock = stock.borrow_mut();
        if stock.is_empty() {
            let signed = EnvelopeDraft::sign_together(&drafts(), &credential).unwrap();
            stock.extend(signed.into_iter().map(|envelope| envelope.into_bytes()));
            let first = stock.pop().unwrap();
            assert!(receiver.borrow_mut().verify(None, &first));
        }
        stock.pop().unwrap()
    };
    group.bench_function("verify, batch met before, 3 delegations", |b| {
        b.iter_batched(
            next,
            |frame| assert!(receiver.borrow_mut().verify(None, &frame)),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn refuse(c: &mut Criterion) {
    let mut receiver = Receiver::new();
    let credential = receiver.credential(3);
    assert!(receiver.verify(None, &signed(&credential)));
    let mut seed = 1u64;
    let mut garbage = move |prefix: &[u8]| {
        let mut bytes = prefix.to_vec();
        while bytes.len() < 1024 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            bytes.extend_from_slice(&seed.to_be_bytes());
        }
        bytes.truncate(1024);
        Bytes::from(bytes)
    };
    let mut group = c.benchmark_group("refuse");
    group.bench_function("1 KiB of garbage", |b| {
        b.iter_batched(
            || garbage(b""),
            |frame| assert!(!receiver.verify(None, &frame)),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("1 KiB of garbage after the magic", |b| {
        b.iter_batched(
            || garbage(b"TMSH"),
            |frame| assert!(!receiver.verify(None, &frame)),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("bad signature, warm, 3 delegations", |b| {
        let spoiled = || {
            let mut frame = signed(&credential).to_vec();
            // The signature follows the header; a bit of its scalar keeps it well-formed.
            let header = usize::from(frame[8]);
            frame[9 + header + 2 + 40] ^= 1;
            Bytes::from(frame)
        };
        b.iter_batched(
            spoiled,
            |frame| assert!(!receiver.verify(None, &frame)),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn settings() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
}

criterion_group! {
    name = benches;
    config = settings();
    targets = bare, sign, verify, batches, refuse
}
criterion_main!(benches);
