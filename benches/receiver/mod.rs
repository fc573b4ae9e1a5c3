//! A receiver and what is sent to it, for the benchmarks of deciding.

#![allow(dead_code)] // Each benchmark uses its own part.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;

use trustmesh::proto::audit::AuditSlot;
use trustmesh::proto::audit::Decision;
use trustmesh::proto::chain::Credential;
use trustmesh::proto::chain::VerifiedChain;
use trustmesh::proto::envelope::EnvelopeDraft;
use trustmesh::proto::identity::KeyBytes;
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

use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::unique;

pub const SUBJECT: &str = "orders.eu.created";
pub const CAPABILITIES: [&str; 2] = ["pub+req+delegate:orders.>", "sub+delegate:prices.*.spot"];
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

/// A slot that keeps what it is given.
struct Kept<'a>(&'a mut Option<Decision>);

impl AuditSlot for Kept<'_> {
    fn fill(self, decision: Decision) {
        *self.0 = Some(decision);
    }
}

/// A receiver with what it remembers.
pub struct Receiver {
    me: KeyBytes,
    trust: Arc<TrustState>,
    own: VerifiedChain,
    pattern: SubjectPattern,
    verifier: Verifier,
    guard: ReplayGuard,
    rates: RateLimiter,
}

impl Receiver {
    /// Bob, of the mesh most benchmarks play in.
    pub fn new() -> Self {
        Self::of(&Mesh::new())
    }

    /// Bob, a member of this mesh.
    pub fn of(mesh: &Mesh) -> Self {
        let bob = Party::named("bob");
        let own = mesh.grant(&bob, 0, &["sub:orders.>"]).chain().clone();
        Self::holding(bob.bytes(), own, mesh.trust())
    }

    /// The holder of a key and of a chain to subscribe under.
    pub fn holding(me: KeyBytes, own: VerifiedChain, trust: Arc<TrustState>) -> Self {
        let skew = ClockSkew::default();
        Self {
            me,
            trust,
            own,
            pattern: SubjectPattern::parse("orders.>").unwrap(),
            verifier: Verifier::new(me, skew),
            guard: ReplayGuard::new(skew, None),
            rates: RateLimiter::default(),
        }
    }

    /// A verifier of this receiver with an empty cache.
    pub fn cold(&self) -> Verifier {
        Verifier::new(self.me, self.verifier.skew())
    }

    /// What a decision is made under.
    pub fn scene(&self) -> Scene<'_> {
        Scene {
            now: Timestamp::from_millis(NOW),
            trust: &self.trust,
            sessions: &(),
        }
    }

    /// Whether the frame is accepted.
    pub fn verify(&mut self, verifier: Option<&Verifier>, frame: &Bytes) -> bool {
        self.decide(verifier, frame, Nowhere)
    }

    /// The decision on a frame.
    pub fn decision(&mut self, frame: &Bytes) -> Decision {
        let mut decision = None;
        self.decide(None, frame, Kept(&mut decision));
        decision.unwrap()
    }

    fn decide(&mut self, verifier: Option<&Verifier>, frame: &Bytes, slot: impl AuditSlot) -> bool {
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
        verdict.record(slot).is_ok()
    }
}

/// A credential of this many delegations, in the mesh most benchmarks play in.
pub fn credential(delegations: usize) -> Credential {
    let holders: Vec<Party> = HOLDERS[8 - delegations..]
        .iter()
        .map(|name| Party::named(name))
        .collect();
    let holders: Vec<&Party> = holders.iter().collect();
    Mesh::new().line(&holders, &CAPABILITIES)
}

pub fn draft() -> EnvelopeDraft {
    let subject = Subject::parse(SUBJECT).unwrap();
    let now = Timestamp::from_millis(NOW);
    let mut draft = EnvelopeDraft::new(MessageId(unique()), now, Action::Publish, subject);
    draft.payload = Bytes::from_static(&[0x5a; 256]);
    draft
}

pub fn signed(credential: &Credential) -> Bytes {
    draft().sign(credential).unwrap().into_bytes()
}

/// So many envelopes that share a signature.
pub fn batch(credential: &Credential, size: usize) -> Vec<Bytes> {
    let drafts: Vec<EnvelopeDraft> = (0..size).map(|_| draft()).collect();
    let signed = EnvelopeDraft::sign_together(&drafts, credential).unwrap();
    let frames = signed.into_iter();
    frames.map(|envelope| envelope.into_bytes()).collect()
}

/// An envelope with a signature that is well-formed and wrong.
pub fn spoiled(credential: &Credential) -> Bytes {
    let mut frame = signed(credential).to_vec();
    // The signature follows the header; a bit of its scalar keeps it well-formed.
    let header = usize::from(frame[8]);
    frame[9 + header + 2 + 40] ^= 1;
    Bytes::from(frame)
}

/// 1 KiB that begins with `prefix` and goes on with noise, which follows from `seed`.
pub fn garbage(prefix: &[u8], seed: &mut u64) -> Bytes {
    let mut bytes = prefix.to_vec();
    while bytes.len() < 1024 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        bytes.extend_from_slice(&seed.to_be_bytes());
    }
    bytes.truncate(1024);
    Bytes::from(bytes)
}
