//! Trust files written by hand: every value, signer, tag and signature can be replaced.

use bytes::Bytes;

use trustmesh::proto::names::Tag;
use trustmesh::proto::trust::TrustFiles;

use crate::forge::HOUR;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

/// The names of the roles, by number.
const ROLES: [&str; 8] = [
    "",
    "root",
    "issuer",
    "registrar",
    "revoker",
    "policy",
    "timestamp",
    "scores",
];

/// The `n`th key of a role.
pub fn keeper(role: usize, n: usize) -> Party {
    Party::named(&format!("vault/{}/{n}", ROLES[role]))
}

/// One file.
#[derive(Clone)]
pub struct File {
    pub magic: Vec<u8>,
    pub version: Value,
    pub kind: Value,
    pub body: Value,
    /// Position, key and tag of each signature.
    pub signers: Vec<(Value, Party, Tag)>,
    /// These instead of made ones.
    pub signatures: Option<Value>,
    /// After everything else.
    pub tail: Vec<u8>,
}

impl File {
    /// A file by the first key of its role.
    pub fn new(kind: u64, role: usize, tag: Tag, body: Value) -> Self {
        Self {
            magic: b"TMTS".to_vec(),
            version: Value::Uint(1),
            kind: Value::Uint(kind),
            body,
            signers: vec![(Value::Uint(0), keeper(role, 0), tag)],
            signatures: None,
            tail: Vec::new(),
        }
    }

    /// The values after the magic.
    pub fn tree(&self) -> Value {
        let body = self.body.encode();
        let made =
            || {
                list(self.signers.iter().map(|(index, signer, tag)| {
                    list([index.clone(), bin(signer.sign(*tag, &body))])
                }))
            };
        let signatures = self.signatures.clone().unwrap_or_else(made);
        list([
            self.version.clone(),
            self.kind.clone(),
            bin(&body),
            signatures,
        ])
    }

    pub fn encode(&self) -> Bytes {
        [&self.magic[..], &self.tree().encode(), &self.tail]
            .concat()
            .into()
    }

    /// The body with the value at `path` replaced.
    pub fn set(&mut self, path: &[usize], value: Value) {
        self.body = self.body.with(path, value);
    }
}

/// A certificate.
#[derive(Clone)]
pub struct Paper {
    pub body: Value,
    pub registrar: Value,
    pub signer: Party,
    pub tag: Tag,
    pub possessor: Party,
    pub possession_tag: Tag,
    /// These bytes instead of the four values.
    pub bytes: Option<Vec<u8>>,
}

impl Paper {
    /// An honest certificate of an agent.
    pub fn of(mesh: &[u8], who: &Party) -> Self {
        let body = list([
            Value::Uint(1),
            bin(mesh),
            bin(&who.seed[..16]),
            text(&who.name),
            bin(who.bytes().0),
            Value::Uint(NOW - HOUR),
            Value::Uint(NOW + HOUR),
            Value::Nil,
            Value::Uint(0),
            list([]),
        ]);
        Self {
            body,
            registrar: Value::Uint(0),
            signer: keeper(3, 0),
            tag: Tag::Certificate,
            possessor: who.clone(),
            possession_tag: Tag::Possession,
            bytes: None,
        }
    }

    /// The four values.
    pub fn tree(&self) -> Value {
        let body = self.body.encode();
        let id = Tag::Certificate.digest(&body);
        list([
            bin(&body),
            self.registrar.clone(),
            bin(self.signer.sign(self.tag, &body)),
            bin(self.possessor.sign(self.possession_tag, &id.0)),
        ])
    }

    pub fn encode(&self) -> Vec<u8> {
        self.bytes.clone().unwrap_or_else(|| self.tree().encode())
    }
}

/// A role as it stands in a root.
pub fn role(number: u64, threshold: u64, keys: &[Party]) -> Value {
    let keys = keys.iter().map(|key| bin(key.bytes().0));
    list([Value::Uint(number), Value::Uint(threshold), list(keys)])
}

/// The body of an honest root with the six roles that sign, a key each.
pub fn root() -> File {
    let roles = [1, 2, 3, 4, 5, 7].map(|number| role(number as u64, 1, &[keeper(number, 0)]));
    let body = list([
        Value::Uint(1),
        Value::Uint(1),
        text("vault"),
        list(roles),
        Value::Uint(NOW - HOUR),
        Value::Uint(NOW + 24 * HOUR),
        list([]),
    ]);
    File::new(1, 1, Tag::TrustRoot, body)
}

/// All files of a mesh with one agent.
#[derive(Clone)]
pub struct Vault {
    pub mesh: Vec<u8>,
    pub root: File,
    pub registry: File,
    pub policy: File,
    pub revocations: File,
    pub scores: Option<File>,
}

impl Vault {
    pub fn new() -> Self {
        Self::under(root())
    }

    /// Honest files under any root.
    pub fn under(root: File) -> Self {
        let mesh = Tag::TrustRoot.digest(&root.body.encode()).0[..16].to_vec();
        let head = |content: Vec<Value>| {
            let head = [
                Value::Uint(1),
                bin(&mesh),
                Value::Uint(1),
                Value::Uint(NOW - HOUR),
                Value::Uint(NOW + HOUR),
            ];
            list(head.into_iter().chain(content).chain([list([])]))
        };
        let paper = Paper::of(&mesh, &Party::named("alice"));
        let ceilings = list([120_000, 86_400_000, 3_600_000].map(Value::Uint));
        let policy = vec![ceilings, list([list([]), list([])]), Value::Nil, list([])];
        let revocations = vec![list([]), list([]), list([])];
        Self {
            registry: File::new(2, 3, Tag::Registry, head(vec![list([bin(paper.encode())])])),
            policy: File::new(3, 5, Tag::Policy, head(policy)),
            revocations: File::new(4, 4, Tag::Revocations, head(revocations)),
            scores: None,
            mesh,
            root,
        }
    }

    /// With scores, by name in order.
    pub fn scored(mut self, scores: Value) -> Self {
        let mut body = self.revocations.body.clone();
        let items = body.items();
        items.splice(5..8, [scores]);
        self.scores = Some(File::new(5, 7, Tag::Scores, body));
        self
    }

    /// With these certificates.
    pub fn papers(mut self, papers: &[Paper]) -> Self {
        let papers = papers.iter().map(|paper| bin(paper.encode()));
        self.registry.set(&[5], list(papers));
        self
    }

    pub fn files(&self) -> TrustFiles {
        TrustFiles {
            root: self.root.encode(),
            registry: self.registry.encode(),
            policy: self.policy.encode(),
            revocations: self.revocations.encode(),
            scores: self.scores.as_ref().map(File::encode),
        }
    }
}
