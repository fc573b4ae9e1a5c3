//! ucan: a token for each hop and one for the call, which names the others by content id.
//!
//! As in its crate documentation: `ProofChain`, of whose capabilities the user looks for one that
//! is enough and comes from the root. Keys are the user's to bring, so these sign and verify with
//! ed25519-dalek as the bare measure does. The payload's digest travels as a fact, and who a call is
//! for as its audience; comparing both is the user's.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::anyhow;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::Signer as _;
use ed25519_dalek::SigningKey;
use ed25519_dalek::VerifyingKey;
use futures::executor::block_on;
use sha2::Digest as _;
use ucan::Ucan;
use ucan::builder::UcanBuilder;
use ucan::capability::Ability;
use ucan::capability::CapabilitySemantics;
use ucan::capability::CapabilityView;
use ucan::capability::Scope;
use ucan::chain::ProofChain;
use ucan::crypto::KeyMaterial;
use ucan::crypto::did::DidParser;
use ucan::crypto::did::ED25519_MAGIC_BYTES;
use ucan::crypto::did::KeyConstructorSlice;
use ucan::store::MemoryStore;
use ucan::store::UcanJwtStore as _;
use url::Url;

use crate::scene::By;
use crate::scene::HOLDERS;
use crate::scene::Peer;
use crate::scene::Plan;
use crate::scene::Setting;
use crate::scene::Verdict;
use crate::scene::Wire;
use crate::scene::frame;
use crate::scene::holders;
use crate::scene::payload;
use crate::scene::reaches;
use crate::scene::seed;
use crate::scene::spoil_last;
use crate::scene::spoil_signature;
use crate::scene::unframe;

const KEYS: &KeyConstructorSlice = &[(ED25519_MAGIC_BYTES, import)];
const DIGEST: &str = "payload";

pub struct Ucans {
    keys: HashMap<&'static str, Key>,
    one: Vec<Ucan>,
    three: Vec<Ucan>,
    one_encoded: Vec<String>,
    three_encoded: Vec<String>,
}

pub struct Receiver {
    me: String,
    root: String,
    /// Keys and proofs met before.
    kept: Option<(DidParser, MemoryStore)>,
}

/// A key and its DID.
#[derive(Clone)]
struct Key {
    did: Arc<str>,
    signing: Option<Arc<SigningKey>>,
    verifying: VerifyingKey,
}

impl Key {
    fn named(name: &str) -> Self {
        let signing = SigningKey::from_bytes(&seed(name));
        let verifying = signing.verifying_key();
        let bytes = [ED25519_MAGIC_BYTES, verifying.as_bytes()].concat();
        Self {
            did: format!("did:key:z{}", bs58::encode(bytes).into_string()).into(),
            signing: Some(Arc::new(signing)),
            verifying,
        }
    }
}

fn import(bytes: Vec<u8>) -> anyhow::Result<Box<dyn KeyMaterial>> {
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| anyhow!("no key"))?;
    Ok(Box::new(Key {
        did: "".into(), // only asked of who signs
        signing: None,
        verifying: VerifyingKey::from_bytes(&bytes)?,
    }))
}

#[async_trait]
impl KeyMaterial for Key {
    fn get_jwt_algorithm_name(&self) -> String {
        "EdDSA".to_owned()
    }

    async fn get_did(&self) -> anyhow::Result<String> {
        Ok(self.did.to_string())
    }

    async fn sign(&self, payload: &[u8]) -> anyhow::Result<Vec<u8>> {
        let key = self.signing.as_ref().ok_or(anyhow!("no signing key"))?;
        Ok(key.sign(payload).to_bytes().to_vec())
    }

    async fn verify(&self, payload: &[u8], signature: &[u8]) -> anyhow::Result<()> {
        let signature = ed25519_dalek::Signature::from_slice(signature)?;
        Ok(self.verifying.verify_strict(payload, &signature)?)
    }
}

/// Subjects: one, or all with a prefix.
#[derive(Clone, PartialEq)]
struct Subjects(String);

impl Scope for Subjects {
    fn contains(&self, other: &Self) -> bool {
        reaches(&self.0, &other.0)
    }
}

impl TryFrom<Url> for Subjects {
    type Error = anyhow::Error;

    fn try_from(url: Url) -> anyhow::Result<Self> {
        match url.scheme() {
            "bus" => Ok(Self(url.path().to_owned())),
            _ => Err(anyhow!("no subject")),
        }
    }
}

impl std::fmt::Display for Subjects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bus:{}", self.0)
    }
}

#[derive(Clone, Eq, Ord, PartialEq, PartialOrd)]
struct Publish;

impl Ability for Publish {}

impl TryFrom<String> for Publish {
    type Error = anyhow::Error;

    fn try_from(text: String) -> anyhow::Result<Self> {
        match text.as_str() {
            "bus/publish" => Ok(Self),
            _ => Err(anyhow!("no action")),
        }
    }
}

impl std::fmt::Display for Publish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bus/publish")
    }
}

struct Semantics;

impl CapabilitySemantics<Subjects, Publish> for Semantics {}

fn view(scope: &str) -> CapabilityView<Subjects, Publish> {
    let url = format!("bus:{scope}");
    Semantics.parse(&url, "bus/publish", None).unwrap()
}

impl Ucans {
    pub fn new() -> Self {
        let names = ["root", "stranger", "mallory", "bob"]
            .into_iter()
            .chain(HOLDERS);
        let mut peer = Self {
            keys: names.map(|name| (name, Key::named(name))).collect(),
            one: Vec::new(),
            three: Vec::new(),
            one_encoded: Vec::new(),
            three_encoded: Vec::new(),
        };
        let encode = |chain: &[Ucan]| chain.iter().map(|ucan| ucan.encode().unwrap()).collect();
        peer.one = peer.chain(&Plan::honest(1));
        peer.three = peer.chain(&Plan::honest(3));
        peer.one_encoded = encode(&peer.one);
        peer.three_encoded = encode(&peer.three);
        peer
    }

    fn line(&self, hops: usize) -> (&[Ucan], &[String]) {
        match hops {
            1 => (&self.one, &self.one_encoded),
            _ => (&self.three, &self.three_encoded),
        }
    }

    fn chain(&self, plan: &Plan) -> Vec<Ucan> {
        let mut chain: Vec<Ucan> = Vec::new();
        for hop in 0..plan.scopes.len() {
            let mut ucan = self.link(plan, hop, chain.last());
            if plan.bad_signature == Some(hop) {
                ucan = spoil(&ucan);
            }
            chain.push(ucan);
        }
        chain
    }

    /// The token of one hop.
    fn link(&self, plan: &Plan, hop: usize, parent: Option<&Ucan>) -> Ucan {
        let holders = holders(plan.scopes.len() - 1);
        let root = if plan.strange_root {
            "stranger"
        } else {
            "root"
        };
        let (from, until) = plan.window(hop);
        let issuer = if hop == 0 { root } else { holders[hop - 1] };
        let mut builder = UcanBuilder::default()
            .issued_by(&self.keys[issuer])
            .for_audience(&self.keys[holders[hop]].did)
            .not_before(from)
            .with_expiration(until)
            .with_nonce()
            .claiming_capability(view(plan.scopes[hop]));
        if let Some(parent) = parent {
            builder = builder.witnessed_by(parent, None);
        }
        block_on(builder.build().unwrap().sign()).unwrap()
    }

    /// A call and its proofs.
    fn invoke(&self, caller: &str, plan: &Plan, leaf: &Ucan, proofs: &[String]) -> Wire {
        let payload = payload();
        let digest = base64(&sha2::Sha256::digest(payload.as_bytes()));
        let (from, until) = plan.window(proofs.len() - 1);
        let call = UcanBuilder::default()
            .issued_by(&self.keys[caller])
            .for_audience(&self.keys["bob"].did)
            .not_before(from)
            .with_expiration(until)
            .with_nonce()
            .claiming_capability(view(plan.subject))
            .with_fact(DIGEST, digest)
            .witnessed_by(leaf, None);
        let call = block_on(call.build().unwrap().sign()).unwrap();
        let call = call.encode().unwrap();
        let mut parts = vec![call.as_bytes()];
        parts.extend(proofs.iter().map(String::as_bytes));
        parts.push(payload.as_bytes());
        Wire {
            subject: plan.subject,
            bytes: frame(&parts),
        }
    }
}

impl Peer for Ucans {
    type Receiver = Receiver;

    fn name(&self) -> &'static str {
        "ucan"
    }

    // Keys and proofs can be kept; the chain is verified every time.
    fn keeper(&self) -> Option<By> {
        Some(By::Caller)
    }

    // Its documentation says nothing of revocation.
    fn receiver(&self, setting: Setting) -> Receiver {
        let empty = || (DidParser::new(KEYS), MemoryStore::default());
        Receiver {
            me: Key::named(setting.who.name()).did.to_string(),
            root: self.keys["root"].did.to_string(),
            kept: setting.keeps.then(empty),
        }
    }

    fn mint(&self, hops: usize) -> Vec<u8> {
        let (chain, _) = self.line(hops);
        let ucan = self.link(&Plan::honest(hops), hops, Some(&chain[hops - 1]));
        ucan.encode().unwrap().into_bytes()
    }

    fn call(&self, hops: usize) -> Wire {
        let (chain, encoded) = self.line(hops);
        self.invoke("alice", &Plan::honest(hops), &chain[hops], encoded)
    }

    fn forge(&self, plan: &Plan) -> Wire {
        let chain = self.chain(plan);
        let encoded: Vec<String> = chain.iter().map(|ucan| ucan.encode().unwrap()).collect();
        let caller = if plan.stolen { "mallory" } else { "alice" };
        let wire = self.invoke(caller, plan, &chain[3], &encoded);
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
        let [call, proofs @ .., payload] = &parts[..] else {
            return Err(By::Caller);
        };
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| By::Caller);
        let mut fresh;
        let (parser, store) = match &mut receiver.kept {
            Some((parser, store)) => (parser, store),
            None => {
                fresh = (DidParser::new(KEYS), MemoryStore::default());
                (&mut fresh.0, &mut fresh.1)
            }
        };
        for proof in proofs {
            block_on(store.write_token(text(proof)?)).map_err(|_| By::Library)?;
        }
        let chain = ProofChain::try_from_token_string(text(call)?, None, parser, store);
        let chain = block_on(chain).map_err(|_| By::Library)?;
        let wanted = view(wire.subject);
        // What a hop adds of its own stands there too, with that hop's issuer as its origin.
        let granted = chain
            .reduce_capabilities(&Semantics)
            .into_iter()
            .any(|info| {
                info.originators.contains(&receiver.root) && info.capability.enables(&wanted)
            });
        let digest = base64(&sha2::Sha256::digest(payload));
        let facts = chain.ucan().facts().as_ref();
        let named = facts.and_then(|facts| facts.get(DIGEST)?.as_str());
        let fits = granted && chain.ucan().audience() == receiver.me && named == Some(&digest);
        if fits { Ok(()) } else { Err(By::Caller) }
    }
}

/// The token with another signature.
fn spoil(ucan: &Ucan) -> Ucan {
    let mut parts: Vec<String> = ucan
        .encode()
        .unwrap()
        .split('.')
        .map(String::from)
        .collect();
    parts[2] = base64(&spoil_signature(ucan.signature()));
    Ucan::try_from(parts.join(".")).unwrap()
}

fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
