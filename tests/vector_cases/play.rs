//! What a receiver is given in a case: one input, and what makes the receiver.

use trustmesh::proto::identity::KeyBytes;

use super::Claim;
use super::expectation;
use super::json::Json;
use super::json::hex;
use super::json::or_null;
use super::json::words;
use crate::forge::ChainSpec;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::chain::SUB;
use crate::forge::chain::scope;
use crate::forge::letter::REPLY;
use crate::forge::letter::SUBJECT;
use crate::forge::value::bin;

/// The kinds of case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Message,
    Answer,
    Chain,
    Trust,
    Follow,
    Handshake,
    Audit,
    Subjects,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Answer => "answer",
            Self::Chain => "chain",
            Self::Trust => "trust",
            Self::Follow => "follow",
            Self::Handshake => "handshake",
            Self::Audit => "audit",
            Self::Subjects => "subjects",
        }
    }
}

/// A request that waits: its id, its subject, and the key it was meant for.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub request: [u8; 32],
    pub subject: String,
    pub audience: Option<KeyBytes>,
}

/// One input, and what makes its receiver.
#[derive(Clone, Debug)]
pub struct Play {
    pub kind: Kind,
    /// Empty for tables of subjects.
    pub state: String,
    pub now: u64,
    pub skew: u64,
    pub bytes: Vec<u8>,
    pub subject: String,
    pub reply: Option<String>,
    pub me: Party,
    /// The chain the receiver subscribed under.
    pub own: Vec<u8>,
    pub pattern: String,
    pub sessions: Option<Vec<KeyBytes>>,
    pub floor: Option<u64>,
    pub pending: Option<Waiting>,
    pub holder: KeyBytes,
    /// Fields of the other kinds, in the order they are written.
    pub more: Vec<(&'static str, Json)>,
    /// What `expect` also says when the case is allowed.
    pub facts: Vec<(&'static str, Json)>,
    before: Vec<(Play, Claim)>,
}

/// The receiver of messages: bob, subscribed to everything under a grant of his own.
pub fn own_chain(mesh: &Mesh) -> Vec<u8> {
    ChainSpec::down(mesh, &["bob"])
        .edit(0, |link| {
            link.remaining = Value::Uint(0);
            link.scope = scope(&[(SUB, ">")]);
            link.nonce = bin(*b"the receiver's  ");
        })
        .encode()
}

impl Play {
    pub fn new(kind: Kind, state: &str) -> Self {
        let me = Party::named("bob");
        Self {
            kind,
            state: state.to_owned(),
            now: NOW,
            skew: 5_000,
            bytes: Vec::new(),
            subject: String::new(),
            reply: None,
            holder: me.bytes(),
            me,
            own: Vec::new(),
            pattern: ">".into(),
            sessions: None,
            floor: None,
            pending: None,
            more: Vec::new(),
            facts: Vec::new(),
            before: Vec::new(),
        }
    }

    /// A letter, delivered to bob as its header says it was sent.
    pub fn message(letter: &Letter) -> Self {
        let mut play = Self::new(Kind::Message, "mesh").carrying(letter);
        play.own = own_chain(&Mesh::new());
        play
    }

    /// A letter, delivered into bob's inbox.
    pub fn answer(letter: &Letter, pending: Option<Waiting>) -> Self {
        let mut play = Self::new(Kind::Answer, "mesh").carrying(letter);
        play.pending = pending;
        play
    }

    /// A chain, handed to its last holder.
    pub fn chain(chain: &ChainSpec) -> Self {
        let mut play = Self::new(Kind::Chain, "mesh");
        play.holder = chain.leaf_holder().bytes();
        play.bytes = chain.encode();
        play
    }

    /// A state, put together.
    pub fn trust(state: &str) -> Self {
        let mut play = Self::new(Kind::Trust, state);
        play.more = vec![("replaces", Json::Null)];
        play
    }

    fn carrying(mut self, letter: &Letter) -> Self {
        let text = |field: usize| match &letter.header {
            Value::Array(items) => match items.get(field) {
                Some(Value::Str(bytes)) => String::from_utf8(bytes.clone()).ok(),
                _ => None,
            },
            _ => None,
        };
        self.bytes = letter.frame().to_vec();
        self.subject = text(SUBJECT).unwrap_or_else(|| "orders.eu.new".into());
        self.reply = text(REPLY);
        let payload = match &letter.content {
            Value::Array(items) => items.get(2),
            _ => None,
        };
        // What has no payload is refused, and has no facts.
        let Some(Value::Bin(payload)) = payload else {
            return self;
        };
        self.facts = vec![
            ("id", hex(letter.id().0)),
            ("sender", words(&letter.signer.name)),
            ("payload", hex(payload)),
        ];
        self
    }

    pub fn at(mut self, now: u64) -> Self {
        self.now = now;
        self
    }

    pub fn skew(mut self, skew: u64) -> Self {
        self.skew = skew;
        self
    }

    pub fn state(mut self, state: &str) -> Self {
        self.state = state.to_owned();
        self
    }

    /// These bytes instead.
    pub fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.bytes = bytes.as_ref().to_vec();
        self
    }

    pub fn edit(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The same receiver was given `earlier` before, oldest first.
    pub fn after(mut self, earlier: Play, claim: Claim) -> Self {
        self.before.push((earlier, claim));
        self
    }

    fn input(&self) -> Vec<(&'static str, Json)> {
        let mut out = Vec::new();
        let delivered = || {
            Json::Map(vec![
                ("subject", words(&self.subject)),
                ("reply", or_null(self.reply.as_ref(), words)),
            ])
        };
        match self.kind {
            Kind::Message => {
                let receiver = Json::Map(vec![
                    ("key", hex(self.me.bytes().0)),
                    ("chain", hex(&self.own)),
                    ("pattern", words(&self.pattern)),
                ]);
                out.extend([("delivered", delivered()), ("receiver", receiver)]);
                if let Some(sessions) = &self.sessions {
                    let keys = sessions.iter().map(|key| hex(key.0)).collect();
                    out.push(("sessions", Json::List(keys)));
                }
                if let Some(floor) = self.floor {
                    out.push(("floor", Json::Number(floor)));
                }
            }
            Kind::Answer => {
                let receiver = Json::Map(vec![("key", hex(self.me.bytes().0))]);
                let pending = or_null(self.pending.as_ref(), |waiting| {
                    Json::Map(vec![
                        ("request", hex(waiting.request)),
                        ("subject", words(&waiting.subject)),
                        ("audience", or_null(waiting.audience, |key| hex(key.0))),
                    ])
                });
                out.extend([
                    ("delivered", delivered()),
                    ("receiver", receiver),
                    ("pending", pending),
                ]);
            }
            Kind::Chain => out.push(("holder", hex(self.holder.0))),
            Kind::Audit => out.push(("delivered", delivered())),
            Kind::Trust | Kind::Follow | Kind::Handshake | Kind::Subjects => {}
        }
        out.extend(self.more.iter().cloned());
        if !matches!(self.kind, Kind::Trust | Kind::Follow | Kind::Subjects) {
            out.push(("bytes", hex(&self.bytes)));
        }
        out
    }

    /// The fields of the case, from `state` on.
    pub fn fields(&self, claim: Claim) -> Vec<(&'static str, Json)> {
        let mut out = Vec::new();
        if !self.state.is_empty() {
            out.push(("state", words(&self.state)));
        }
        out.push(("now", Json::Number(self.now)));
        out.push(("skew", Json::Number(self.skew)));
        out.push(("expect", expectation(claim, self.facts.clone())));
        if !self.before.is_empty() {
            let earlier = self.before.iter().map(|(play, claim)| {
                let mut fields = vec![("now", Json::Number(play.now))];
                fields.push(("expect", expectation(*claim, play.facts.clone())));
                fields.extend(play.input());
                Json::Map(fields)
            });
            out.push(("preceded_by", Json::Table(earlier.collect())));
        }
        out.extend(self.input());
        out
    }
}
