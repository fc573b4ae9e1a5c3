//! Both sides of a handshake and everything they say, with every value replaceable.

use hmac::Hmac;
use hmac::KeyInit as _;
use hmac::Mac as _;
use sha2::Sha256;

use trustmesh::proto::names::Tag;

use super::json::Json;
use super::json::hex;
use super::json::words;
use super::play::Kind;
use super::play::Play;
use crate::forge::ChainSpec;
use crate::forge::HOUR;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::mesh::window;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

pub(super) const NONCE_I: [u8; 32] = [0x11; 32];
pub(super) const NONCE_R: [u8; 32] = [0x22; 32];
pub(super) const SECRET: [u8; 32] = [0x33; 32];
pub(super) const INSTANCE: [u8; 8] = [0x44; 8];
pub(super) const SESSION: [u8; 16] = [0x55; 16];
/// A quarter of an hour in milliseconds.
pub(super) const QUARTER: u64 = HOUR / 4;

/// One side.
#[derive(Clone)]
pub(super) struct Side {
    pub(super) who: Party,
    pub(super) chain: ChainSpec,
    pub(super) certificate: Vec<u8>,
}

impl Side {
    pub(super) fn of(name: &str) -> Self {
        Self::in_mesh(&Mesh::new(), name)
    }

    fn in_mesh(mesh: &Mesh, name: &str) -> Self {
        let who = Party::named(name);
        let validity = match name {
            "kim" => window(NOW - 2 * HOUR, NOW - HOUR),
            "leo" => window(NOW + HOUR, NOW + 2 * HOUR),
            _ => window(NOW - HOUR, NOW + HOUR),
        };
        Self {
            certificate: mesh.certificate(&who, validity).to_vec(),
            chain: ChainSpec::down(mesh, &[name]),
            who,
        }
    }

    pub(super) fn json(&self) -> Json {
        Json::Map(vec![
            ("id", words(&self.who.name)),
            ("seed", hex(self.who.seed)),
            ("certificate", hex(&self.certificate)),
            ("chain", hex(self.chain.encode())),
        ])
    }

    /// The object id of the certificate: of the body, the first of its four values.
    pub(super) fn certificate_id(&self) -> [u8; 32] {
        // An array header and a byte string with a one-byte length.
        let body = &self.certificate[3..3 + usize::from(self.certificate[2])];
        Tag::Certificate.digest(body).0
    }
}

/// Both sides and everything they say; what a step says of the one before is filled in from it.
#[derive(Clone)]
pub(super) struct Shake {
    pub(super) i: Side,
    pub(super) r: Side,
    pub(super) time: u64,
    pub(super) hello: Value,
    /// Replaces the cookie that the responder would have made.
    pub(super) cookie: Option<Value>,
    pub(super) challenge: Edit,
    pub(super) proof: Edit,
    pub(super) confirm: Edit,
}

/// Changes to a body: what stands at a path instead.
pub(super) type Edit = Vec<(Vec<usize>, Value)>;

pub(super) fn apply(edit: &[(Vec<usize>, Value)], body: Value) -> Value {
    edit.iter()
        .fold(body, |body, (path, value)| body.with(path, value.clone()))
}

impl Shake {
    pub(super) fn new() -> Self {
        Self::between("alice", "bob")
    }

    pub(super) fn between(i: &str, r: &str) -> Self {
        Self::in_mesh(&Mesh::new(), i, r)
    }

    pub(super) fn in_mesh(mesh: &Mesh, i: &str, r: &str) -> Self {
        let (i, r) = (Side::in_mesh(mesh, i), Side::in_mesh(mesh, r));
        let hello = list([
            Value::Uint(1),
            bin(mesh.id().0),
            text(&i.who.name),
            bin(i.who.bytes().0),
            text(&r.who.name),
            bin(r.who.bytes().0),
            bin(NONCE_I),
            Value::Uint(3),
            list([]),
        ]);
        Self {
            i,
            r,
            time: NOW,
            hello,
            cookie: None,
            challenge: Vec::new(),
            proof: Vec::new(),
            confirm: Vec::new(),
        }
    }

    pub(super) fn hello_id(&self) -> [u8; 32] {
        Tag::Hello.digest(&self.hello.encode()).0
    }

    pub(super) fn challenge(&self) -> Value {
        let mut mac = Hmac::<Sha256>::new_from_slice(&SECRET).unwrap();
        mac.update(&Tag::Challenge.bytes());
        mac.update(&self.hello_id());
        mac.update(&NONCE_R);
        mac.update(&self.time.to_be_bytes());
        mac.update(&INSTANCE);
        let made = bin(mac.finalize().into_bytes());
        let body = list([
            Value::Uint(1),
            bin(self.hello_id()),
            bin(NONCE_R),
            Value::Uint(self.time),
            bin(INSTANCE),
            self.cookie.clone().unwrap_or(made),
            list([]),
        ]);
        apply(&self.challenge, body)
    }

    pub(super) fn proof(&self) -> Value {
        let body = list([
            Value::Uint(1),
            bin(self.hello.encode()),
            bin(self.challenge().encode()),
            bin(self.i.certificate_id()),
            bin(self.i.chain.leaf().0),
            list([]),
        ]);
        apply(&self.proof, body)
    }

    pub(super) fn confirm(&self, until: u64) -> Value {
        let body = list([
            Value::Uint(1),
            bin(Tag::Proof.digest(&self.proof().encode()).0),
            bin(self.r.certificate_id()),
            bin(self.r.chain.leaf().0),
            bin(SESSION),
            Value::Uint(until),
            list([]),
        ]);
        apply(&self.confirm, body)
    }

    /// The values of the frame of a step.
    pub(super) fn tree(&self, step: u64) -> Value {
        let signed = |side: &Side, tag: Tag, body: Value| {
            let body = body.encode();
            let signature = side.who.sign(tag, &body);
            let (certificate, chain) = (bin(&side.certificate), bin(side.chain.encode()));
            list([
                Value::Uint(1),
                Value::Uint(step),
                bin(body),
                bin(signature),
                certificate,
                chain,
            ])
        };
        match step {
            1 => list([Value::Uint(1), Value::Uint(1), bin(self.hello.encode())]),
            2 => list([
                Value::Uint(1),
                Value::Uint(2),
                bin(self.challenge().encode()),
            ]),
            3 => signed(&self.i, Tag::Proof, self.proof()),
            _ => signed(&self.r, Tag::Confirm, self.confirm(NOW + QUARTER)),
        }
    }

    pub(super) fn frame(&self, step: u64) -> Vec<u8> {
        framed(&self.tree(step))
    }

    /// The frame of a step, given to the side it is for. What an allowed one answers is that of an
    /// honest handshake.
    pub(super) fn read(&self, step: u64, bytes: Vec<u8>) -> Play {
        let mut play = Play::new(Kind::Handshake, "mesh").bytes(bytes);
        play.more.push(("step", Json::Number(step)));
        let me = if step % 2 == 1 { &self.r } else { &self.i };
        play.more.push(("self", me.json()));
        if step % 2 == 1 {
            play.more.push(("instance", hex(INSTANCE)));
            play.more.push(("secret", hex(SECRET)));
        } else {
            let peer = vec![
                ("id", words(&self.r.who.name)),
                ("key", hex(self.r.who.bytes().0)),
            ];
            play.more.push(("peer", Json::Map(peer)));
        }
        match step {
            1 => play.more.push(("nonce", hex(NONCE_R))),
            3 => play.more.push(("session", hex(SESSION))),
            _ => play.more.push(("nonce", hex(NONCE_I))),
        }
        if step == 4 {
            play.more.push(("challenge", hex(self.frame(2))));
        }
        if step < 4 {
            play.facts.push(("answer", hex(self.frame(step + 1))));
        }
        if step > 2 {
            let peer = if step == 3 { &self.i.who } else { &self.r.who };
            play.facts.push(("session", session(peer, NOW + QUARTER)));
        }
        play
    }

    /// An honest frame of a step, given to the side it is for.
    pub(super) fn play(&self, step: u64) -> Play {
        self.read(step, self.frame(step))
    }

    pub(super) fn edit(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// The extension of a proof or confirmation that carries a timestamp.
pub(super) fn newest(id: u64, critical: bool, value: &[u8]) -> Value {
    list([Value::Uint(id), Value::Bool(critical), bin(value)])
}

pub(super) fn session(peer: &Party, until: u64) -> Json {
    Json::Map(vec![
        ("id", hex(SESSION)),
        ("peer", words(&peer.name)),
        ("key", hex(peer.bytes().0)),
        ("until", Json::Number(until)),
    ])
}

pub(super) fn framed(tree: &Value) -> Vec<u8> {
    [b"TMHS", &tree.encode()[..]].concat()
}
