//! jsonwebtoken: a chain of EdDSA tokens of our own making, since there is no standard one.
//!
//! Each hop is a token signed by the holder above. It names its parent by digest, its holder's key
//! as `cnf` (RFC 7800), and what it may reach; the call is a token signed by the last holder, in
//! the manner of DPoP (RFC 9449), with digests of the last hop and the payload. The library checks
//! signatures, `exp` and `aud`. Everything that makes the tokens a chain is code around it.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use jsonwebtoken::Validation;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;

use crate::scene::By;
use crate::scene::HOLDERS;
use crate::scene::Peer;
use crate::scene::Plan;
use crate::scene::SUBJECT;
use crate::scene::Setting;
use crate::scene::Verdict;
use crate::scene::Wire;
use crate::scene::frame;
use crate::scene::holders;
use crate::scene::now;
use crate::scene::payload;
use crate::scene::reaches;
use crate::scene::seed;
use crate::scene::spoil_last;
use crate::scene::spoil_signature;
use crate::scene::unframe;

pub struct Jwts {
    keys: HashMap<&'static str, Key>,
    root: DecodingKey,
    one: Vec<String>,
    three: Vec<String>,
}

struct Key {
    encoding: EncodingKey,
    public: String,
}

pub struct Receiver {
    validation: Validation,
    call_validation: Validation,
    /// By their tokens: the last holder's key, what it may reach, until when.
    kept: Option<HashMap<Vec<u8>, Leaf>>,
}

/// What a verified chain comes down to.
#[derive(Clone)]
pub struct Leaf {
    key: DecodingKey,
    scope: String,
    until: u64,
    digest: String,
}

#[derive(Deserialize, Serialize)]
struct Hop {
    /// The digest of the token above.
    #[serde(skip_serializing_if = "Option::is_none")]
    prt: Option<String>,
    iat: u64,
    exp: u64,
    cnf: Confirmation,
    act: String,
    scope: String,
}

#[derive(Deserialize, Serialize)]
struct Confirmation {
    jwk: Jwk,
}

#[derive(Deserialize, Serialize)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
}

#[derive(Deserialize, Serialize)]
struct Call {
    /// The digest of the last hop.
    ath: String,
    iat: u64,
    exp: u64,
    jti: String,
    aud: String,
    act: String,
    sub: String,
    /// The digest of the payload.
    pld: String,
}

impl Jwts {
    pub fn new() -> Self {
        let names = ["root", "stranger", "mallory"].into_iter().chain(HOLDERS);
        let keys: HashMap<_, _> = names.map(|name| (name, Key::named(name))).collect();
        let mut peer = Self {
            root: DecodingKey::from_ed_components(&keys["root"].public).unwrap(),
            keys,
            one: Vec::new(),
            three: Vec::new(),
        };
        peer.one = peer.chain(&Plan::honest(1));
        peer.three = peer.chain(&Plan::honest(3));
        peer
    }

    fn line(&self, hops: usize) -> &[String] {
        if hops == 1 { &self.one } else { &self.three }
    }

    fn chain(&self, plan: &Plan) -> Vec<String> {
        let mut chain: Vec<String> = Vec::new();
        for hop in 0..plan.scopes.len() {
            let mut token = self.link(plan, hop, chain.last());
            if plan.bad_signature == Some(hop) {
                let (signed, signature) = token.rsplit_once('.').unwrap();
                let signature = spoil_signature(&URL_SAFE_NO_PAD.decode(signature).unwrap());
                token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
            }
            chain.push(token);
        }
        chain
    }

    /// The token of one hop.
    fn link(&self, plan: &Plan, hop: usize, parent: Option<&String>) -> String {
        let holders = holders(plan.scopes.len() - 1);
        let root = if plan.strange_root {
            "stranger"
        } else {
            "root"
        };
        let issuer = if hop == 0 { root } else { holders[hop - 1] };
        let (iat, exp) = plan.window(hop);
        let claims = Hop {
            prt: parent.map(|parent| digest(parent.as_bytes())),
            iat,
            exp,
            cnf: Confirmation {
                jwk: Jwk {
                    kty: "OKP".to_owned(),
                    crv: "Ed25519".to_owned(),
                    x: self.keys[holders[hop]].public.clone(),
                },
            },
            act: "pub".to_owned(),
            scope: plan.scopes[hop].to_owned(),
        };
        let header = Header::new(Algorithm::EdDSA);
        jsonwebtoken::encode(&header, &claims, &self.keys[issuer].encoding).unwrap()
    }

    fn invoke(&self, caller: &str, subject: &'static str, chain: &[String]) -> Wire {
        let payload = payload();
        let now = now();
        let claims = Call {
            ath: digest(chain.last().unwrap().as_bytes()),
            iat: now,
            exp: now + 10,
            jti: URL_SAFE_NO_PAD.encode(crate::forge::unique()),
            aud: "bob".to_owned(),
            act: "pub".to_owned(),
            sub: subject.to_owned(),
            pld: digest(payload.as_bytes()),
        };
        let header = Header::new(Algorithm::EdDSA);
        let call = jsonwebtoken::encode(&header, &claims, &self.keys[caller].encoding).unwrap();
        Wire {
            subject,
            bytes: frame(&[
                chain.join("~").as_bytes(),
                call.as_bytes(),
                payload.as_bytes(),
            ]),
        }
    }

    fn verify_chain(&self, receiver: &Receiver, tokens: &str) -> Result<Leaf, By> {
        let mut above: Option<Leaf> = None;
        for token in tokens.split('~') {
            let key = above.as_ref().map_or(&self.root, |above| &above.key);
            let hop = jsonwebtoken::decode::<Hop>(token, key, &receiver.validation);
            let hop = hop.map_err(|_| By::Library)?.claims;
            let parent = above.as_ref().map(|above| &above.digest);
            let narrows = above
                .as_ref()
                .is_none_or(|above| reaches(&above.scope, &hop.scope) && hop.exp <= above.until);
            if hop.prt.as_ref() != parent || !narrows || hop.act != "pub" {
                return Err(By::Caller);
            }
            let key = DecodingKey::from_ed_components(&hop.cnf.jwk.x);
            above = Some(Leaf {
                key: key.map_err(|_| By::Library)?,
                scope: hop.scope,
                until: hop.exp,
                digest: digest(token.as_bytes()),
            });
        }
        above.ok_or(By::Caller)
    }
}

impl Peer for Jwts {
    type Receiver = Receiver;

    fn name(&self) -> &'static str {
        "jsonwebtoken"
    }

    // What a chain comes down to is kept by the code around the library, like all of the chain.
    fn keeper(&self) -> Option<By> {
        Some(By::Caller)
    }

    // Neither replay nor revocation: a user would keep each `jti` and a list of hops.
    fn receiver(&self, setting: Setting) -> Receiver {
        let validation = Validation::new(Algorithm::EdDSA);
        let mut call_validation = validation.clone();
        call_validation.set_audience(&[setting.who.name()]);
        Receiver {
            validation,
            call_validation,
            kept: setting.keeps.then(HashMap::new),
        }
    }

    fn mint(&self, hops: usize) -> Vec<u8> {
        let parent = &self.line(hops)[hops - 1];
        self.link(&Plan::honest(hops), hops, Some(parent))
            .into_bytes()
    }

    fn call(&self, hops: usize) -> Wire {
        self.invoke("alice", SUBJECT, self.line(hops))
    }

    fn forge(&self, plan: &Plan) -> Wire {
        let caller = if plan.stolen { "mallory" } else { "alice" };
        let wire = self.invoke(caller, plan.subject, &self.chain(plan));
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
        let [tokens, call, payload] = parts[..] else {
            return Err(By::Caller);
        };
        let known = receiver.kept.as_ref().and_then(|kept| kept.get(tokens));
        let leaf = match known {
            Some(leaf) if leaf.until > now() => leaf.clone(),
            _ => {
                let text = std::str::from_utf8(tokens).map_err(|_| By::Caller)?;
                let leaf = self.verify_chain(receiver, text)?;
                if let Some(kept) = &mut receiver.kept {
                    kept.insert(tokens.to_owned(), leaf.clone());
                }
                leaf
            }
        };
        let call = jsonwebtoken::decode::<Call>(call, &leaf.key, &receiver.call_validation);
        let call = call.map_err(|_| By::Library)?.claims;
        let fits = call.ath == leaf.digest
            && call.act == "pub"
            && call.sub == wire.subject
            && reaches(&leaf.scope, wire.subject)
            && call.pld == digest(payload);
        if fits { Ok(()) } else { Err(By::Caller) }
    }
}

impl Key {
    fn named(name: &str) -> Self {
        let signing = SigningKey::from_bytes(&seed(name));
        // PKCS #8, RFC 8410.
        let prefix = [
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22,
            0x04, 0x20,
        ];
        Self {
            encoding: EncodingKey::from_ed_der(&[&prefix[..], &seed(name)].concat()),
            public: URL_SAFE_NO_PAD.encode(signing.verifying_key().as_bytes()),
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(bytes))
}
