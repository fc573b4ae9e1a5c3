//! trustmesh again: a receiver that met neither the chain nor any of its holders.
//!
//! In other libraries keys travel in tokens. In trustmesh they come from the registry, and a
//! member of a served mesh verifies a holder's certificate when the holder is first looked up. A
//! cold verification finds that done; this is what it costs when it is not.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use trustmesh::client::clock::Clock as _;
use trustmesh::client::clock::SystemClock;
use trustmesh::proto::chain::Credential;
use trustmesh::proto::chain::VerifiedChain;
use trustmesh::proto::delegation::LinkDraft;
use trustmesh::proto::envelope::EnvelopeDraft;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::policy::RateLimiter;
use trustmesh::proto::replay::MessageId;
use trustmesh::proto::replay::ReplayGuard;
use trustmesh::proto::scope::Action;
use trustmesh::proto::scope::Scope;
use trustmesh::proto::signing::Budget;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::subject::SubjectPattern;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::trust::Admission;
use trustmesh::proto::trust::Follower;
use trustmesh::proto::trust::Progress;
use trustmesh::proto::trust::TrustState;
use trustmesh::proto::verify::Verifier;
use trustmesh::services::authority::Authority;

use super::trustmesh::Receiver;
use super::trustmesh::pattern;
use crate::contender::BATCH;
use crate::contender::Batch;
use crate::contender::Contender;
use crate::contender::What;
use crate::forge::Party;
use crate::forge::mesh::OPEN_POLICY;
use crate::forge::unique;
use crate::scene::By;
use crate::scene::HOLDERS;
use crate::scene::LIFETIME;
use crate::scene::SUBJECT;
use crate::scene::Verdict;
use crate::scene::Wire;
use crate::scene::holders;
use crate::scene::payload;
use crate::scene::scopes;
use crate::trials::Trial;

pub struct FirstContact {
    mesh: RefCell<Authority>,
    own: VerifiedChain,
    one: Credential,
    three: Credential,
    clock: SystemClock,
}

impl FirstContact {
    pub fn new() -> Self {
        let mut mesh = Authority::served("peers").unwrap();
        for name in HOLDERS.into_iter().chain(["bob"]) {
            let party = Party::named(name);
            mesh.enrol(&party.id(), &party.key).unwrap();
        }
        mesh.set_policy(Policy::from_json(OPEN_POLICY).unwrap())
            .unwrap();
        let trust = mesh.publish().unwrap().current();
        let grant = |name, scope: &str, depth| {
            let scope = Scope::parse([scope]).unwrap();
            let ttl = Duration::from_secs(LIFETIME);
            let chain = mesh.grant(&Party::named(name).bytes(), scope, depth, ttl);
            let chain = chain.unwrap().verify(&*trust, &mut Budget::message());
            chain.unwrap()
        };
        let line = |hops: usize| {
            let (holders, scopes) = (holders(hops), scopes(hops));
            let capability = |hop: usize| {
                let delegate = if hop < hops { "+delegate" } else { "" };
                format!("pub{delegate}:{}", pattern(scopes[hop]))
            };
            let key = |hop: usize| Party::named(holders[hop]).key;
            let chain = grant(holders[0], &capability(0), hops as u8);
            let mut credential = chain.hold(key(0)).unwrap();
            for hop in 1..=hops {
                let draft = LinkDraft {
                    holder: key(hop).public().bytes(),
                    validity: credential.chain().leaf().validity(),
                    remaining: (hops - hop) as u8,
                    scope: Scope::parse([capability(hop)]).unwrap(),
                    nonce: unique(),
                };
                let chain = credential.delegate(&draft).unwrap();
                let chain = chain.verify(&*trust, &mut Budget::message()).unwrap();
                credential = chain.hold(key(hop)).unwrap();
            }
            credential
        };
        Self {
            own: grant("bob", "sub:orders.>", 0),
            one: line(1),
            three: line(3),
            mesh: RefCell::new(mesh),
            clock: SystemClock::new(),
        }
    }

    /// The trust state as somebody has it who just heard of it, and has looked up himself.
    fn trust(&self) -> Arc<TrustState> {
        let mesh = self.mesh.borrow();
        let pin = Some(mesh.root_id());
        let mut follower = Follower::new(&mesh.roots()[0], Admission::Production, pin).unwrap();
        let parts = mesh.parts();
        let heard = follower.hear(mesh.bulletin().unwrap(), |part| parts.get(part).cloned());
        let Progress::Advanced(trust) = heard.unwrap() else {
            panic!("a first state is an advance");
        };
        assert!(trust.certificate(&Party::named("bob").bytes()).is_some());
        trust
    }

    fn receiver(&self) -> Receiver {
        let skew = ClockSkew::default();
        Receiver {
            trust: self.trust(),
            own: self.own.clone(),
            pattern: SubjectPattern::parse("orders.>").unwrap(),
            verifier: Verifier::new(Party::named("bob").bytes(), skew),
            guard: ReplayGuard::new(skew, None),
            rates: RateLimiter::default(),
        }
    }

    fn call(&self, hops: usize) -> Wire {
        let now = self.clock.now().unwrap();
        let subject = Subject::parse(SUBJECT).unwrap();
        let mut draft = EnvelopeDraft::new(MessageId(unique()), now, Action::Publish, subject);
        draft.audience = Some(Party::named("bob").bytes());
        draft.payload = payload().into();
        let alice = if hops == 1 { &self.one } else { &self.three };
        Wire {
            subject: SUBJECT,
            bytes: draft.sign(alice).unwrap().into_bytes(),
        }
    }
}

impl Contender for FirstContact {
    fn name(&self) -> &'static str {
        "trustmesh"
    }

    fn note(&self) -> &'static str {
        ", holders new as well"
    }

    fn keeper(&self) -> Option<By> {
        None
    }

    fn batch(&self, what: What) -> Option<Batch<'_>> {
        let What::Cold(hops) = what else {
            return None;
        };
        self.mesh.borrow_mut().beat().unwrap();
        let operation = |_| -> Box<dyn FnMut() + '_> {
            let (mut receiver, call) = (self.receiver(), self.call(hops));
            Box::new(move || receiver.verify(&call, self.clock.now().unwrap()).unwrap())
        };
        Some((0..BATCH).map(operation).collect())
    }

    fn bytes(&self, hops: usize) -> usize {
        self.call(hops).bytes.len()
    }

    fn attempt(&self, _trial: Trial) -> Option<Verdict> {
        None
    }
}
