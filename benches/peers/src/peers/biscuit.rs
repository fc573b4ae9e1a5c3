//! biscuit-auth: a block for each delegation; whoever has the token may use it.
//!
//! As in its crate documentation: rights in the authority block, checks in the others, facts about
//! the request and the policy from the authorizer. Its documentation leaves revocation to the
//! user, who is given an identifier for each block. Nobody signs a call, so nothing binds one.

use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use biscuit_auth::Biscuit;
use biscuit_auth::BlockBuilder;
use biscuit_auth::KeyPair;
use biscuit_auth::PrivateKey;
use biscuit_auth::PublicKey;
use biscuit_auth::builder::Algorithm;
use biscuit_auth::datalog::RunLimits;
use biscuit_auth::macros::authorizer;
use biscuit_auth::macros::biscuit;
use biscuit_auth::macros::block;

use crate::scene::By;
use crate::scene::Peer;
use crate::scene::Plan;
use crate::scene::SUBJECT;
use crate::scene::Setting;
use crate::scene::Verdict;
use crate::scene::Wire;
use crate::scene::frame;
use crate::scene::payload;
use crate::scene::seed;
use crate::scene::spoil_last;
use crate::scene::spoil_signature;
use crate::scene::unframe;

pub struct Biscuits {
    root: PublicKey,
    one: Line,
    three: Line,
}

/// Alice's token and the one it was made from.
struct Line {
    plan: Plan,
    parent: Biscuit,
    token: Biscuit,
    encoded: Vec<u8>,
}

pub struct Receiver {
    revoked: HashSet<Vec<u8>>,
    kept: Option<HashMap<Vec<u8>, Biscuit>>,
}

impl Biscuits {
    pub fn new() -> Self {
        let line = |hops| {
            let plan = Plan::honest(hops);
            let parent = chain(&plan, hops - 1);
            let token = parent.append(delegation(&plan, hops)).unwrap();
            let encoded = token.to_vec().unwrap();
            Line {
                plan,
                parent,
                token,
                encoded,
            }
        };
        Self {
            root: key("root").public(),
            one: line(1),
            three: line(3),
        }
    }

    fn line(&self, hops: usize) -> &Line {
        if hops == 1 { &self.one } else { &self.three }
    }
}

impl Peer for Biscuits {
    type Receiver = Receiver;

    fn name(&self) -> &'static str {
        "biscuit-auth"
    }

    // A `Biscuit` is a token whose signatures were checked; a user can keep it.
    fn keeper(&self) -> Option<By> {
        Some(By::Caller)
    }

    fn signs(&self) -> bool {
        false
    }

    // Receivers have no identity.
    fn receiver(&self, setting: Setting) -> Receiver {
        let identifiers = self.three.token.revocation_identifiers();
        let revoked = setting.revoked.then(|| identifiers[1].clone());
        Receiver {
            revoked: revoked.into_iter().collect(),
            kept: setting.keeps.then(HashMap::new),
        }
    }

    fn mint(&self, hops: usize) -> Vec<u8> {
        let Line { plan, parent, .. } = self.line(hops);
        let token = parent.append(delegation(plan, hops)).unwrap();
        token.to_vec().unwrap()
    }

    fn call(&self, hops: usize) -> Wire {
        Wire {
            subject: SUBJECT,
            bytes: frame(&[&self.line(hops).encoded, payload().as_bytes()]),
        }
    }

    // A thief's call is no different from alice's.
    fn forge(&self, plan: &Plan) -> Wire {
        let token = chain(plan, 3);
        let mut encoded = token.to_vec().unwrap();
        if let Some(hop) = plan.bad_signature {
            let signature = token.container().blocks[hop - 1].signature.to_bytes();
            let at = encoded
                .windows(signature.len())
                .position(|window| window == signature)
                .unwrap();
            encoded[at..at + signature.len()].copy_from_slice(&spoil_signature(signature));
        }
        let bytes = frame(&[&encoded, payload().as_bytes()]);
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
        let [encoded, _] = parts[..] else {
            return Err(By::Caller);
        };
        let read = || Biscuit::from(encoded, self.root).map_err(|_| By::Library);
        let token;
        let token = match &mut receiver.kept {
            Some(kept) => {
                if !kept.contains_key(encoded) {
                    kept.insert(encoded.to_owned(), read()?);
                }
                &kept[encoded]
            }
            None => {
                token = read()?;
                &token
            }
        };
        let mut identifiers = token.revocation_identifiers().into_iter();
        if identifiers.any(|identifier| receiver.revoked.contains(&identifier)) {
            return Err(By::Caller);
        }
        let authorizer = authorizer!(
            r#"
                operation("pub");
                resource({subject});
                time({now});
                allow if right($prefix, "pub"), resource($r), $r.starts_with($prefix);
            "#,
            subject = wire.subject,
            now = SystemTime::now(),
        );
        // Its default of one millisecond would refuse calls when the machine is busy.
        let limits = RunLimits {
            max_time: Duration::from_secs(1),
            ..RunLimits::default()
        };
        let mut authorizer = authorizer
            .set_limits(limits)
            .build(token)
            .map_err(|_| By::Library)?;
        authorizer.authorize().map(|_| ()).map_err(|_| By::Library)
    }
}

fn key(name: &str) -> KeyPair {
    let private = PrivateKey::from_bytes(&seed(name), Algorithm::Ed25519).unwrap();
    KeyPair::from(&private)
}

/// The token after this many delegations.
fn chain(plan: &Plan, hops: usize) -> Biscuit {
    let root = key(if plan.strange_root {
        "stranger"
    } else {
        "root"
    });
    let token = biscuit!(
        r#"
            right({scope}, "pub");
            check if time($time), $time < {expires};
        "#,
        scope = plan.scopes[0],
        expires = expiry(plan, 0),
    );
    let mut token = token.build(&root).unwrap();
    for hop in 1..=hops {
        token = token.append(delegation(plan, hop)).unwrap();
    }
    token
}

/// One delegation. Where it is wider than those above, it also claims the right.
fn delegation(plan: &Plan, hop: usize) -> BlockBuilder {
    let scope = plan.scopes[hop];
    let expires = expiry(plan, hop);
    if !scope.ends_with('.') {
        return block!(
            r#"
                check if operation("pub"), resource({scope});
                check if time($time), $time < {expires};
            "#
        );
    }
    let block = block!(
        r#"
            check if operation("pub"), resource($r), $r.starts_with({scope});
            check if time($time), $time < {expires};
        "#
    );
    match crate::scene::reaches(plan.scopes[hop - 1], scope) {
        true => block,
        false => block
            .fact(format!("right(\"{scope}\", \"pub\")").as_str())
            .unwrap(),
    }
}

fn expiry(plan: &Plan, hop: usize) -> SystemTime {
    let (_, until) = plan.window(hop);
    UNIX_EPOCH + Duration::from_secs(until)
}
