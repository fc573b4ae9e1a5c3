//! agent-mesh-protocol: a chain of certificates down to alice, and her signed envelope.
//!
//! As the bus of the same project uses it: JSON on the wire, `SignedEnvelope::verify`, and around
//! it the sender's root, the recipient and a memory of nonces. The envelope names no subject, so it
//! travels in the payload. Certificates state an expiry, which the crate documents as a claim that
//! its consumers may impose; neither its own `verify` nor the bus does. Scopes are sets of names;
//! subjects stand on the axis of hosts.

use std::collections::BTreeSet;
use std::collections::HashSet;

use agent_mesh_protocol::AgentKey;
use agent_mesh_protocol::AgentMetadata;
use agent_mesh_protocol::Caveats;
use agent_mesh_protocol::CertChain;
use agent_mesh_protocol::Fingerprint;
use agent_mesh_protocol::Issuer;
use agent_mesh_protocol::Recipient;
use agent_mesh_protocol::RevocationEntry;
use agent_mesh_protocol::RevocationLog;
use agent_mesh_protocol::RevocationState;
use agent_mesh_protocol::Scope;
use agent_mesh_protocol::SerdeSig;
use agent_mesh_protocol::SignedEnvelope;
use agent_mesh_protocol::UserKey;
use chrono::DateTime;
use chrono::SecondsFormat;
use chrono::Utc;
use ed25519_dalek_2::Signature;
use ed25519_dalek_2::Signer as _;
use ed25519_dalek_2::SigningKey;

use crate::scene::By;
use crate::scene::HOLDERS;
use crate::scene::PAYLOAD;
use crate::scene::Peer;
use crate::scene::Plan;
use crate::scene::SUBJECT;
use crate::scene::SUBJECTS;
use crate::scene::Setting;
use crate::scene::Verdict;
use crate::scene::Wire;
use crate::scene::payload;
use crate::scene::reaches;
use crate::scene::seed;
use crate::scene::spoil_signature;

pub struct AgentMesh {
    root: UserKey,
    stranger: UserKey,
    one: Vec<AgentKey>,
    three: Vec<AgentKey>,
}

pub struct Receiver {
    me: Recipient,
    revocations: RevocationState,
    seen: HashSet<[u8; 24]>,
}

impl AgentMesh {
    pub fn new() -> Self {
        let root = UserKey::generate();
        let line = |hops| {
            let plan = Plan::honest(hops);
            let mut agents = vec![AgentKey::issue(&root, metadata(&plan, 0))];
            for hop in 1..=hops {
                agents.push(agents[hop - 1].delegate(metadata(&plan, hop)).unwrap());
            }
            agents
        };
        Self {
            one: line(1),
            three: line(3),
            stranger: UserKey::generate(),
            root,
        }
    }

    fn line(&self, hops: usize) -> &[AgentKey] {
        if hops == 1 { &self.one } else { &self.three }
    }
}

impl Peer for AgentMesh {
    type Receiver = Receiver;

    fn name(&self) -> &'static str {
        "agent-mesh-protocol"
    }

    // An envelope is verified together with its chain.
    fn keeper(&self) -> Option<By> {
        None
    }

    fn receiver(&self, setting: Setting) -> Receiver {
        let mut log = RevocationLog::genesis(&self.root).unwrap();
        if setting.revoked {
            let agent = self.three[1].fingerprint();
            let entry = RevocationEntry::Revoke { agent };
            log.append(&self.root, entry).unwrap();
        }
        Receiver {
            me: address(setting.who.name()),
            revocations: log.verify().unwrap(),
            seen: HashSet::new(),
        }
    }

    // It makes the holder's key as well.
    fn mint(&self, hops: usize) -> Vec<u8> {
        let parent = &self.line(hops)[hops - 1];
        let agent = parent
            .delegate(metadata(&Plan::honest(hops), hops))
            .unwrap();
        serde_json::to_vec(agent.cert()).unwrap()
    }

    fn call(&self, hops: usize) -> Wire {
        let alice = &self.line(hops)[hops];
        let envelope = SignedEnvelope::new(alice, address("bob"), 1, content(SUBJECT));
        Wire {
            subject: SUBJECT,
            bytes: serde_json::to_vec(&envelope).unwrap().into(),
        }
    }

    fn forge(&self, plan: &Plan) -> Wire {
        let root = match plan.strange_root {
            true => &self.stranger,
            false => &self.root,
        };
        let mut chain: Option<CertChain> = None;
        for hop in 0..HOLDERS.len() {
            let metadata = metadata(plan, hop);
            let agent_pubkey = key(HOLDERS[hop]).verifying_key().to_bytes();
            let body = [&agent_pubkey[..], &serde_json::to_vec(&metadata).unwrap()].concat();
            let (issuer, mut signature) = match chain {
                None => (Issuer::User(root.public()), root.sign(&body)),
                Some(parent) => {
                    let issuer = Issuer::Agent {
                        pubkey: parent.agent_pubkey,
                        parent: Box::new(parent),
                    };
                    (issuer, key(HOLDERS[hop - 1]).sign(&body))
                }
            };
            if plan.bad_signature == Some(hop) {
                signature = Signature::from_bytes(&spoil_signature(&signature.to_bytes()));
            }
            chain = Some(CertChain {
                agent_pubkey,
                metadata,
                issuer,
                issuer_sig: SerdeSig(signature),
            });
        }
        let chain = chain.unwrap();
        let mallory = AgentKey::issue(&self.root, metadata(plan, 0));
        let alice = AgentKey::from_seed_and_cert(&seed("alice"), chain.clone()).unwrap();
        let caller = if plan.stolen { &mallory } else { &alice };
        let (to, content) = (address("bob"), content(plan.subject));
        let mut envelope = SignedEnvelope::new_with_signer(caller, chain, to, 1, content);
        if plan.other_payload {
            *envelope.payload.last_mut().unwrap() ^= 1;
        }
        Wire {
            subject: plan.subject,
            bytes: serde_json::to_vec(&envelope).unwrap().into(),
        }
    }

    fn verify(&self, receiver: &mut Receiver, wire: &Wire) -> Verdict {
        let envelope: SignedEnvelope =
            serde_json::from_slice(&wire.bytes).map_err(|_| By::Library)?;
        envelope.verify().map_err(|_| By::Library)?;
        let mut link = &envelope.cert_chain;
        let mut live = true;
        loop {
            live &= !receiver
                .revocations
                .revoked
                .contains(&link.agent_fingerprint());
            match &link.issuer {
                Issuer::Agent { parent, .. } => link = parent,
                Issuer::User(_) => break,
            }
        }
        let scope = &envelope.cert_chain.metadata.caveats.net;
        let asked = Scope::only([wire.subject.to_owned()]);
        let text = envelope.payload.get(..wire.subject.len());
        let fits = live
            && envelope.sender_user_fp() == receiver.revocations.user
            && envelope.recipient == receiver.me
            && asked.leq(scope)
            && text == Some(wire.subject.as_bytes())
            && envelope.payload.len() == wire.subject.len() + PAYLOAD
            && receiver.seen.insert(envelope.nonce);
        if fits { Ok(()) } else { Err(By::Caller) }
    }
}

fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(&seed(name))
}

fn address(name: &str) -> Recipient {
    Recipient::Direct {
        agent_fp: Fingerprint::of_bytes(key(name).verifying_key().as_bytes()),
    }
}

fn metadata(plan: &Plan, hop: usize) -> AgentMetadata {
    let (from, until) = plan.window(hop);
    let time = |seconds: u64| {
        let time: DateTime<Utc> = DateTime::from_timestamp(seconds as i64, 0).unwrap();
        time.to_rfc3339_opts(SecondsFormat::Secs, true)
    };
    let subjects: BTreeSet<String> = SUBJECTS
        .into_iter()
        .filter(|subject| reaches(plan.scopes[hop], subject))
        .map(String::from)
        .collect();
    AgentMetadata {
        role: "agent".to_owned(),
        host: "here".to_owned(),
        capabilities: vec!["pub".to_owned()],
        issued_at: time(from),
        expires_at: Some(time(until)),
        caveats: Caveats {
            net: Scope::Only(subjects),
            ..Caveats::top()
        },
    }
}

/// The subject and a new payload.
fn content(subject: &str) -> Vec<u8> {
    [subject, &payload()].concat().into_bytes()
}
