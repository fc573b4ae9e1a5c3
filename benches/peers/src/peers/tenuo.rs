//! tenuo: warrants down to alice, and her proof of possession over tool and arguments.
//!
//! As in its README: `Authorizer::check_chain` over a decoded stack. Nothing in it remembers calls;
//! its security page asks for a memory of `dedup_key` around it where replay matters.

use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Duration;

use sha2::Digest as _;
use tenuo::Authorizer;
use tenuo::ConstraintSet;
use tenuo::ConstraintValue;
use tenuo::Exact;
use tenuo::Pattern;
use tenuo::Signature;
use tenuo::SignedRevocationList;
use tenuo::SigningKey;
use tenuo::Warrant;
use tenuo::Wildcard;
use tenuo::wire;
use tenuo::wire::WarrantStack;

use crate::scene::By;
use crate::scene::HOLDERS;
use crate::scene::LIFETIME;
use crate::scene::Peer;
use crate::scene::Plan;
use crate::scene::SUBJECT;
use crate::scene::Setting;
use crate::scene::Verdict;
use crate::scene::Wire;
use crate::scene::frame;
use crate::scene::holders;
use crate::scene::payload;
use crate::scene::scopes;
use crate::scene::seed;
use crate::scene::spoil_last;
use crate::scene::spoil_signature;
use crate::scene::unframe;

const TOOL: &str = "publish";

pub struct Tenuo {
    keys: Keys,
    one: Line,
    three: Line,
}

/// Everybody's key.
struct Keys(HashMap<&'static str, SigningKey>);

/// Alice's chain.
struct Line {
    warrants: Vec<Warrant>,
    encoded: Vec<u8>,
}

pub struct Receiver {
    authorizer: Authorizer,
    seen: HashSet<String>,
    kept: Option<HashMap<Vec<u8>, WarrantStack>>,
}

impl Tenuo {
    pub fn new() -> Self {
        let names = ["root", "stranger", "mallory"].into_iter().chain(HOLDERS);
        let keys = names.map(|name| (name, SigningKey::from_bytes(&seed(name))));
        let keys = Keys(keys.collect());
        let line = |hops| {
            let mut warrants = vec![keys.grant(hops)];
            for hop in 1..=hops {
                warrants.push(keys.delegate(&warrants[hop - 1], hops, hop));
            }
            let encoded = wire::encode_stack(&WarrantStack(warrants.clone())).unwrap();
            Line { warrants, encoded }
        };
        Self {
            one: line(1),
            three: line(3),
            keys,
        }
    }

    fn line(&self, hops: usize) -> &Line {
        if hops == 1 { &self.one } else { &self.three }
    }
}

impl Peer for Tenuo {
    type Receiver = Receiver;

    fn name(&self) -> &'static str {
        "tenuo"
    }

    // Decoding a stack verifies it, and checking it verifies it again; a user can keep the decoded.
    fn keeper(&self) -> Option<By> {
        Some(By::Caller)
    }

    // Receivers have no identity.
    fn receiver(&self, setting: Setting) -> Receiver {
        let mut list = SignedRevocationList::builder().version(1);
        if setting.revoked {
            list = list.revoke(self.three.warrants[1].id().to_string());
        }
        let root = self.keys.of("root");
        let list = list.build(root).unwrap();
        Receiver {
            authorizer: Authorizer::builder()
                .trusted_root(root.public_key())
                .revocation_list(list, root.public_key())
                .build()
                .unwrap(),
            seen: HashSet::new(),
            kept: setting.keeps.then(HashMap::new),
        }
    }

    fn mint(&self, hops: usize) -> Vec<u8> {
        let parent = &self.line(hops).warrants[hops - 1];
        wire::encode(&self.keys.delegate(parent, hops, hops)).unwrap()
    }

    fn call(&self, hops: usize) -> Wire {
        let Line { warrants, encoded } = self.line(hops);
        let payload = payload();
        let arguments = arguments(SUBJECT, &payload);
        let proof = warrants[hops].sign(self.keys.of("alice"), TOOL, &arguments);
        let proof = proof.unwrap().to_bytes();
        Wire {
            subject: SUBJECT,
            bytes: frame(&[encoded, &proof, payload.as_bytes()]),
        }
    }

    // Builders refuse what does not narrow, so honest warrants are written over and signed again.
    fn forge(&self, plan: &Plan) -> Wire {
        let root = if plan.strange_root {
            "stranger"
        } else {
            "root"
        };
        let mut warrants: Vec<Warrant> = Vec::new();
        for (hop, honest) in self.three.warrants.iter().enumerate() {
            let issuer = if hop == 0 { root } else { HOLDERS[hop - 1] };
            let issuer = self.keys.of(issuer);
            let mut payload = honest.payload.clone();
            payload.issuer = issuer.public_key();
            payload.tools = [(TOOL.to_owned(), constraints(plan.scopes[hop]))].into();
            (payload.issued_at, payload.expires_at) = plan.window(hop);
            payload.parent_hash = warrants
                .last()
                .map(|parent| sha2::Sha256::digest(&parent.payload_bytes).into());
            let payload_bytes = wire::to_vec(&payload).unwrap();
            let preimage = [&[honest.envelope_version], &payload_bytes[..]].concat();
            let mut signature = issuer.sign(&preimage);
            if plan.bad_signature == Some(hop) {
                let spoiled = spoil_signature(&signature.to_bytes());
                signature = Signature::from_bytes(&spoiled).unwrap();
            }
            warrants.push(Warrant {
                payload,
                signature,
                payload_bytes,
                envelope_version: honest.envelope_version,
            });
        }
        let payload = payload();
        let arguments = arguments(plan.subject, &payload);
        let caller = if plan.stolen { "mallory" } else { "alice" };
        let proof = warrants[3]
            .sign(self.keys.of(caller), TOOL, &arguments)
            .unwrap();
        let stack = wire::encode_stack(&WarrantStack(warrants)).unwrap();
        let bytes = frame(&[&stack, &proof.to_bytes(), payload.as_bytes()]);
        Wire {
            subject: plan.subject,
            bytes: match plan.other_payload {
                true => spoil_last(&bytes),
                false => bytes,
            },
        }
    }

    fn verify(&self, receiver: &mut Receiver, wire: &Wire) -> Verdict {
        let parts = unframe(&wire.bytes).ok_or(By::Caller)?;
        let [stack, proof, payload] = parts[..] else {
            return Err(By::Caller);
        };
        let payload = std::str::from_utf8(payload).map_err(|_| By::Caller)?;
        let arguments = arguments(wire.subject, payload);
        let proof = proof.try_into().map_err(|_| By::Caller)?;
        let proof = Signature::from_bytes(proof).map_err(|_| By::Library)?;
        let decoded;
        let stack = match &mut receiver.kept {
            Some(kept) => {
                if !kept.contains_key(stack) {
                    let decoded = wire::decode_stack(stack).map_err(|_| By::Library)?;
                    kept.insert(stack.to_owned(), decoded);
                }
                &kept[stack]
            }
            None => {
                decoded = wire::decode_stack(stack).map_err(|_| By::Library)?;
                &decoded
            }
        };
        receiver
            .authorizer
            .check_chain(&stack.0, TOOL, &arguments, Some(&proof), &[])
            .map_err(|_| By::Library)?;
        let leaf = stack.leaf().ok_or(By::Caller)?;
        match receiver.seen.insert(leaf.dedup_key(TOOL, &arguments)) {
            true => Ok(()),
            false => Err(By::Caller),
        }
    }
}

impl Keys {
    fn of(&self, name: &str) -> &SigningKey {
        &self.0[name]
    }

    /// The root's warrant of a chain of `hops` delegations.
    fn grant(&self, hops: usize) -> Warrant {
        Warrant::builder()
            .capability(TOOL, constraints(scopes(hops)[0]))
            .holder(self.of(holders(hops)[0]).public_key())
            .ttl(Duration::from_secs(LIFETIME))
            .build(self.of("root"))
            .unwrap()
    }

    /// The warrant of delegation `hop` of a chain of `hops`.
    fn delegate(&self, parent: &Warrant, hops: usize, hop: usize) -> Warrant {
        let holders = holders(hops);
        parent
            .attenuate()
            .capability(TOOL, constraints(scopes(hops)[hop]))
            .holder(self.of(holders[hop]).public_key())
            .ttl_capped_to_parent(Duration::from_secs(LIFETIME))
            .build(self.of(holders[hop - 1]))
            .unwrap()
    }
}

/// One subject or a prefix of subjects, and any payload: what is not named is refused.
fn constraints(scope: &str) -> ConstraintSet {
    let mut set = ConstraintSet::new();
    match scope.ends_with('.') {
        true => set.insert("subject", Pattern::new(&format!("{scope}*")).unwrap()),
        false => set.insert("subject", Exact::new(scope)),
    }
    set.insert("payload", Wildcard::new());
    set
}

fn arguments(subject: &str, payload: &str) -> HashMap<String, ConstraintValue> {
    let text = |text: &str| ConstraintValue::String(text.to_owned());
    HashMap::from([
        ("subject".to_owned(), text(subject)),
        ("payload".to_owned(), text(payload)),
    ])
}
