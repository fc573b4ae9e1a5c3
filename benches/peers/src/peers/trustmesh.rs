//! trustmesh: envelopes in mode 1, verified as the client does it.

use std::sync::Arc;

use trustmesh::proto::audit::AuditSlot;
use trustmesh::proto::audit::Decision;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::chain::Credential;
use trustmesh::proto::chain::VerifiedChain;
use trustmesh::proto::delegation::LinkDraft;
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

use crate::forge::ChainSpec;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::chain::DELEGATE;
use crate::forge::chain::PUB;
use crate::forge::chain::scope;
use crate::forge::chain::tag_at;
use crate::forge::letter::AUDIENCE;
use crate::forge::unique;
use crate::forge::value::Value;
use crate::forge::value::bin;
use crate::scene::By;
use crate::scene::HOLDERS;
use crate::scene::Peer;
use crate::scene::Plan;
use crate::scene::SUBJECT;
use crate::scene::Setting;
use crate::scene::Verdict;
use crate::scene::Who;
use crate::scene::Wire;
use crate::scene::holders;
use crate::scene::payload;
use crate::scene::scopes;
use crate::scene::spoil_last;
use crate::scene::spoil_signature;

const MEMBERS: [&str; 7] = ["bob", "frank", "carol", "dave", "erin", "alice", "mallory"];

/// A mesh, and alice's credentials in it. It plays at an instant of its own.
pub struct Trustmesh {
    mesh: Mesh,
    trust: Arc<TrustState>,
    trust_after_revocation: Arc<TrustState>,
    /// By number of delegations: what alice calls with, and the link she got and from whom.
    one: (Credential, Credential, LinkDraft),
    three: (Credential, Credential, LinkDraft),
    /// What bob and frank may subscribe to.
    own: [VerifiedChain; 2],
    bob: Party,
    subject: Subject,
}

pub struct Receiver {
    pub trust: Arc<TrustState>,
    pub own: VerifiedChain,
    pub pattern: SubjectPattern,
    pub verifier: Verifier,
    pub guard: ReplayGuard,
    pub rates: RateLimiter,
}

/// Drops what it is given.
struct Nowhere;

impl AuditSlot for Nowhere {
    fn fill(self, decision: Decision) {
        std::hint::black_box(&decision);
    }
}

impl Trustmesh {
    pub fn new() -> Self {
        let mesh = Mesh::with(&MEMBERS);
        let one = line(&mesh, 1);
        let three = line(&mesh, 3);
        let mut after = mesh.clone();
        after.revoked.revoke_link(three.0.chain().links()[1].id());
        let own = [Who::Bob, Who::Frank].map(|who| {
            let me = Party::named(who.name());
            mesh.grant(&me, 0, &["sub:orders.>"]).chain().clone()
        });
        Self {
            own,
            trust: mesh.trust(),
            trust_after_revocation: after.trust(),
            one,
            three,
            bob: Party::named("bob"),
            subject: Subject::parse(SUBJECT).unwrap(),
            mesh,
        }
    }

    fn line(&self, hops: usize) -> &(Credential, Credential, LinkDraft) {
        if hops == 1 { &self.one } else { &self.three }
    }
}

impl Peer for Trustmesh {
    type Receiver = Receiver;

    fn name(&self) -> &'static str {
        "trustmesh"
    }

    fn keeper(&self) -> Option<By> {
        Some(By::Library)
    }

    // A new verifier has an empty cache of chains.
    fn receiver(&self, setting: Setting) -> Receiver {
        let me = Party::named(setting.who.name());
        let skew = ClockSkew::default();
        let trust = match setting.revoked {
            true => &self.trust_after_revocation,
            false => &self.trust,
        };
        Receiver {
            trust: trust.clone(),
            own: self.own[setting.who as usize].clone(),
            pattern: SubjectPattern::parse("orders.>").unwrap(),
            verifier: Verifier::new(me.bytes(), skew),
            guard: ReplayGuard::new(skew, None),
            rates: RateLimiter::default(),
        }
    }

    fn mint(&self, hops: usize) -> Vec<u8> {
        let (_, parent, draft) = self.line(hops);
        parent.delegate(draft).unwrap().bytes().to_vec()
    }

    fn call(&self, hops: usize) -> Wire {
        let now = Timestamp::from_millis(NOW);
        let mid = MessageId(unique());
        let mut draft = EnvelopeDraft::new(mid, now, Action::Publish, self.subject.clone());
        draft.audience = Some(self.bob.bytes());
        draft.payload = payload().into();
        let (alice, ..) = self.line(hops);
        Wire {
            subject: SUBJECT,
            bytes: draft.sign(alice).unwrap().into_bytes(),
        }
    }

    fn forge(&self, plan: &Plan) -> Wire {
        let mut spec = ChainSpec::down(&self.mesh, &HOLDERS);
        if plan.strange_root {
            spec.issuer = Party::named("stranger");
        }
        for (hop, reach) in plan.scopes.iter().enumerate() {
            let last = hop + 1 == plan.scopes.len();
            let actions = if last { PUB } else { PUB | DELEGATE };
            let link = &mut spec.links[hop];
            link.scope = scope(&[(actions, &pattern(reach))]);
            // The mesh has a clock of its own.
            let (from, until) = plan.window(hop);
            let here = |seconds: u64| NOW + 1_000 * seconds - 1_000 * crate::scene::start();
            link.from = Value::Uint(here(from));
            link.until = Value::Uint(here(until));
        }
        if let Some(hop) = plan.bad_signature {
            let signature = Party::named(HOLDERS[hop - 1]).sign(tag_at(hop), &spec.bodies()[hop]);
            spec.links[hop].signature = Some(bin(spoil_signature(&signature)));
        }
        let mut letter = Letter::publish(&spec, plan.subject)
            .set(AUDIENCE, bin(self.bob.bytes().0))
            .payload(payload());
        if plan.stolen {
            letter.signer = Party::named("mallory");
        }
        let bytes = letter.frame();
        Wire {
            subject: plan.subject,
            bytes: match plan.other_payload {
                true => spoil_last(&bytes),
                false => bytes,
            },
        }
    }

    fn verify(&self, receiver: &mut Receiver, wire: &Wire) -> Verdict {
        receiver.verify(wire, Timestamp::from_millis(NOW))
    }
}

impl Receiver {
    pub fn verify(&mut self, wire: &Wire, now: Timestamp) -> Verdict {
        let scene = Scene {
            now,
            trust: &self.trust,
            sessions: &(),
        };
        let arrival = Arrival {
            subject: wire.subject,
            reply: None,
            route: Route::Subscription {
                pattern: &self.pattern,
                own: &self.own,
            },
        };
        let (guard, rates) = (&mut self.guard, &mut self.rates);
        let verdict = self
            .verifier
            .verify(&wire.bytes, &arrival, &scene, guard, rates);
        match verdict.record(Nowhere) {
            Ok(_) => Ok(()),
            Err(_) => Err(By::Library),
        }
    }
}

/// Alice's credential of this many delegations, the one it came from, and the link between.
fn line(mesh: &Mesh, hops: usize) -> (Credential, Credential, LinkDraft) {
    let parties: Vec<Party> = holders(hops)
        .iter()
        .map(|name| Party::named(name))
        .collect();
    let drafts: Vec<LinkDraft> = scopes(hops)
        .iter()
        .enumerate()
        .map(|(hop, reach)| {
            let delegate = if hop < hops { "+delegate" } else { "" };
            let capability = format!("pub{delegate}:{}", pattern(reach));
            Mesh::draft(&parties[hop], (hops - hop) as u8, &[&capability])
        })
        .collect();
    let grant = Chain::root_grant(mesh.id(), &drafts[0], &mesh.issuer().key);
    let mut credential = mesh.hold(grant.unwrap(), &parties[0]);
    let mut parent = credential.clone();
    for hop in 1..=hops {
        parent = credential;
        credential = mesh.hold(parent.delegate(&drafts[hop]).unwrap(), &parties[hop]);
    }
    (credential, parent, drafts[hops].clone())
}

/// A scope as a subject pattern.
pub fn pattern(scope: &str) -> String {
    match scope.ends_with('.') {
        true => format!("{scope}>"),
        false => scope.to_owned(),
    }
}
