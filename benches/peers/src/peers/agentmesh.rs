//! agentmesh: a `ScopeChain` down to alice, and her signature over the call.
//!
//! The links of such a chain are not signed; the crate says so of their field `parent_signature`.
//! A receiver knows each agent's key by its DID, as the crate's `TrustHandshake` does. The crate has
//! a list of revoked names, which its user has to ask.

use std::collections::HashMap;

use agentmesh::AgentIdentity;
use agentmesh::DelegationLink;
use agentmesh::PublicIdentity;
use agentmesh::RevocationList;
use agentmesh::ScopeChain;

use crate::scene::By;
use crate::scene::Peer;
use crate::scene::Plan;
use crate::scene::SUBJECT;
use crate::scene::Setting;
use crate::scene::Verdict;
use crate::scene::Wire;
use crate::scene::frame;
use crate::scene::holders;
use crate::scene::payload;
use crate::scene::spoil_last;
use crate::scene::unframe;

const SPONSOR: &str = "owner@example.com";

pub struct Agentmesh {
    alice: AgentIdentity,
    mallory: AgentIdentity,
    one: Line,
    three: Line,
}

/// A chain of all delegations but the last, and of all.
struct Line {
    parent: ScopeChain,
    chain: ScopeChain,
    encoded: Vec<u8>,
}

pub struct Receiver {
    agents: HashMap<String, PublicIdentity>,
    revoked: RevocationList,
}

impl Agentmesh {
    pub fn new() -> Self {
        let line = |hops| {
            let plan = Plan::honest(hops);
            let parent = chain(&plan, hops - 1);
            let chain = chain(&plan, hops);
            let encoded = serde_json::to_vec(&chain).unwrap();
            Line {
                parent,
                chain,
                encoded,
            }
        };
        let agent = |name| AgentIdentity::generate(name, Vec::new()).unwrap();
        Self {
            alice: agent("alice"),
            mallory: agent("mallory"),
            one: line(1),
            three: line(3),
        }
    }

    fn line(&self, hops: usize) -> &Line {
        if hops == 1 { &self.one } else { &self.three }
    }

    fn sign(&self, caller: &AgentIdentity, subject: &'static str, chain: &[u8]) -> Wire {
        let payload = payload();
        let signature = caller.sign(message(subject, payload.as_bytes()).as_slice());
        Wire {
            subject,
            bytes: frame(&[chain, &signature, payload.as_bytes()]),
        }
    }
}

impl Peer for Agentmesh {
    type Receiver = Receiver;

    fn name(&self) -> &'static str {
        "agentmesh"
    }

    // There are no signatures of a chain to save.
    fn keeper(&self) -> Option<By> {
        None
    }

    // Receivers have no identity.
    fn receiver(&self, setting: Setting) -> Receiver {
        let revoked = RevocationList::new();
        if setting.revoked {
            revoked.revoke(&self.three.chain.links[0].child_did, "left");
        }
        let public = AgentIdentity::from_json(&self.alice.to_json().unwrap()).unwrap();
        Receiver {
            agents: HashMap::from([(public.did.clone(), public)]),
            revoked,
        }
    }

    fn mint(&self, hops: usize) -> Vec<u8> {
        let mut chain = self.line(hops).parent.clone();
        let link = link(&Plan::honest(hops), hops, &chain);
        chain.add_link(link).unwrap();
        serde_json::to_vec(&chain).unwrap()
    }

    fn call(&self, hops: usize) -> Wire {
        self.sign(&self.alice, SUBJECT, &self.line(hops).encoded)
    }

    // A stranger writes the sponsor's name into a chain of his own.
    fn forge(&self, plan: &Plan) -> Wire {
        let chain = serde_json::to_vec(&chain(plan, 3)).unwrap();
        let caller = if plan.stolen {
            &self.mallory
        } else {
            &self.alice
        };
        let wire = self.sign(caller, plan.subject, &chain);
        Wire {
            bytes: match plan.other_payload {
                true => spoil_last(&wire.bytes),
                false => wire.bytes,
            },
            ..wire
        }
    }

    fn verify(&self, receiver: &mut Receiver, wire: &Wire) -> Verdict {
        let parts = unframe(&wire.bytes).ok_or(By::Caller)?;
        let [chain, signature, payload] = parts[..] else {
            return Err(By::Caller);
        };
        let chain: ScopeChain = serde_json::from_slice(chain).map_err(|_| By::Caller)?;
        if !chain.is_valid() {
            return Err(By::Library);
        }
        let agent = receiver.agents.get(&chain.leaf_did).ok_or(By::Caller)?;
        if !agent.verify(&message(wire.subject, payload), signature) {
            return Err(By::Library);
        }
        let mut holders = chain.links.iter().map(|link| &link.child_did);
        let fits = chain.root_sponsor_email == SPONSOR
            && chain.leaf_capabilities.contains(&name(wire.subject))
            && !holders.any(|did| receiver.revoked.is_revoked(did));
        if fits { Ok(()) } else { Err(By::Caller) }
    }
}

/// A chain of this many links; the root's grant is not one.
fn chain(plan: &Plan, hops: usize) -> ScopeChain {
    let holder = holders(plan.scopes.len() - 1)[0];
    let mut chain = ScopeChain::new(SPONSOR, vec![name(plan.scopes[0])], &did(holder)).unwrap();
    for hop in 1..=hops {
        let mut link = link(plan, hop, &chain);
        if plan.bad_signature == Some(hop) {
            link.parent_signature = "0".repeat(64);
        }
        // As `add_link`, but for the checks.
        chain.leaf_did = link.child_did.clone();
        chain.leaf_capabilities = link.delegated_capabilities.clone();
        chain.links.push(link);
        chain.total_depth = hop as u32;
        chain.chain_hash = chain.compute_hash();
    }
    chain
}

/// A link; a dishonest holder says that he had what he hands on.
fn link(plan: &Plan, hop: usize, chain: &ScopeChain) -> DelegationLink {
    let holders = holders(plan.scopes.len() - 1);
    let (above, scope) = (plan.scopes[hop - 1], plan.scopes[hop]);
    let had = match crate::scene::reaches(above, scope) {
        true => above,
        false => scope,
    };
    let mut link = DelegationLink::new(
        hop as u32 - 1,
        &did(holders[hop - 1]),
        &did(holders[hop]),
        vec![name(had)],
        vec![name(scope)],
        chain.links.last().map(|link| link.link_hash.clone()),
    )
    .unwrap();
    let (_, until) = plan.window(hop);
    link.expires_at_secs = Some(until);
    link
}

fn did(name: &str) -> String {
    format!("did:agentmesh:{name}")
}

/// A scope as the crate writes capabilities: `orders:eu:*`.
fn name(scope: &str) -> String {
    let name = scope.replace('.', ":");
    match name.ends_with(':') {
        true => format!("{name}*"),
        false => name,
    }
}

fn message(subject: &str, payload: &[u8]) -> Vec<u8> {
    [subject.as_bytes(), payload].concat()
}
