//! A served trust state written by hand: parts, the snapshot of them, the timestamp of it.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;

use trustmesh::proto::names::Tag;

use super::Held;
use super::Play;
use super::json::Json;
use super::json::hex;
use super::json::words;
use super::play::Kind;
use super::vault;
use super::vault::File;
use super::vault::Paper;
use super::vault::Vault;
use super::vault::keeper;
use super::vault::role;
use crate::forge::HOUR;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::value::bin;
use crate::forge::value::list;

/// The numbers of the kinds.
pub const REGISTRY: u64 = 2;
pub const POLICY: u64 = 3;
pub const REVOCATIONS: u64 = 4;
pub const SCORES: u64 = 5;
pub const BOOKS: u64 = 8;

/// How long a timestamp is fresh, in milliseconds.
pub const TTL: u64 = 20_000;

/// The first root of a served mesh: all seven roles, a key each.
pub fn root() -> File {
    let mut root = vault::root();
    let roles = (1..8).map(|number| role(number, 1, &[keeper(number as usize, 0)]));
    root.set(&[3], list(roles));
    root
}

/// The id of a root.
pub fn id_of(root: &File) -> [u8; 32] {
    Tag::TrustRoot.digest(&root.body.encode()).0
}

/// The digest a file is named by.
pub fn digest(file: &[u8]) -> [u8; 32] {
    Tag::TrustPart.digest(file).0
}

/// An extension of a file.
pub fn ext(id: u64, value: Value) -> Value {
    list([Value::Uint(id), Value::Bool(true), value])
}

/// The extension that says which part a file is.
pub fn shard(index: u16, count: u16) -> Value {
    ext(16, bin([index.to_be_bytes(), count.to_be_bytes()].concat()))
}

/// Puts extensions into a file, whose last value they are.
pub fn extend(file: &mut File, extensions: impl IntoIterator<Item = Value>) {
    *file.body.items().last_mut().unwrap() = list(extensions);
}

type Change = Rc<dyn Fn(&mut File)>;

/// One state of a served mesh.
#[derive(Clone)]
pub struct Print {
    pub mesh: Vec<u8>,
    /// Version and id of the root the timestamp names.
    pub root: (u64, [u8; 32]),
    pub time: u64,
    pub issued: u64,
    pub snapshot: u64,
    pub parts: BTreeMap<(u64, u64), Bytes>,
    /// Who signs timestamp and snapshot.
    pub keeper: Party,
    pub edit_snapshot: Change,
    pub edit_time: Change,
    /// Epochs of parts where the snapshot names other ones.
    pub named: BTreeMap<(u64, u64), u64>,
}

impl Print {
    /// An honest state: epoch `time` of the timestamp, `epoch` of everything else; alice and bob.
    pub fn new(time: u64, epoch: u64) -> Self {
        Self::under(&root(), time, epoch)
    }

    /// The same under any first root.
    pub fn under(root: &File, time: u64, epoch: u64) -> Self {
        let id = id_of(root);
        let mut print = Self {
            mesh: id[..16].to_vec(),
            root: (1, id),
            time,
            issued: NOW,
            snapshot: epoch,
            parts: BTreeMap::new(),
            keeper: keeper(6, 0),
            edit_snapshot: Rc::new(|_| {}),
            edit_time: Rc::new(|_| {}),
            named: BTreeMap::new(),
        };
        for kind in [REGISTRY, POLICY, REVOCATIONS] {
            let file = print.file(kind);
            print = print.part(kind, 0, file);
        }
        print
    }

    /// An honest file of a kind, of the epoch of the snapshot.
    pub fn file(&self, kind: u64) -> File {
        let mut vault = Vault::under(root());
        vault.mesh.clone_from(&self.mesh);
        let papers = ["alice", "bob"].map(|name| Paper::of(&self.mesh, &Party::named(name)));
        vault = vault.papers(&papers).scored(list([]));
        let mut file = match kind {
            REGISTRY => vault.registry,
            POLICY => vault.policy,
            REVOCATIONS => vault.revocations,
            SCORES => vault.scores.unwrap(),
            _ => {
                let mut body = vault.registry.body;
                body.items()[5] = bin(b"books");
                File::new(BOOKS, 3, Tag::Books, body)
            }
        };
        file.set(&[1], bin(&self.mesh));
        file.set(&[2], Value::Uint(self.snapshot));
        file
    }

    /// With this part.
    pub fn part(mut self, kind: u64, index: u64, file: File) -> Self {
        self.parts.insert((kind, index), file.encode());
        self
    }

    /// With a changed part of a kind, in the place of the honest one.
    pub fn with(self, kind: u64, change: impl FnOnce(&mut File)) -> Self {
        let mut file = self.file(kind);
        change(&mut file);
        self.part(kind, 0, file)
    }

    pub fn edit(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// With a changed snapshot, which the timestamp names all the same.
    pub fn snapshot(mut self, change: impl Fn(&mut File) + 'static) -> Self {
        self.edit_snapshot = Rc::new(change);
        self
    }

    /// With a changed timestamp.
    pub fn timestamp(mut self, change: impl Fn(&mut File) + 'static) -> Self {
        self.edit_time = Rc::new(change);
        self
    }

    fn head(&self, epoch: u64, from: u64, until: u64) -> Vec<Value> {
        let head = [1, epoch, from, until].map(Value::Uint);
        let [v, epoch, from, until] = head;
        vec![v, bin(&self.mesh), epoch, from, until]
    }

    pub fn snapshot_file(&self) -> Bytes {
        let parts = self.parts.iter().map(|((kind, index), file)| {
            let epoch = self.named.get(&(*kind, *index)).copied();
            let epoch = epoch.unwrap_or_else(|| epoch_of(file));
            let numbers = [*kind, *index, epoch].map(Value::Uint);
            list(numbers.into_iter().chain([bin(digest(file))]))
        });
        let mut body = self.head(self.snapshot, NOW - HOUR, NOW + HOUR);
        body.extend([list(parts), list([])]);
        let mut file = File::new(7, 6, Tag::Snapshot, Value::Array(body));
        file.signers[0].1 = self.keeper.clone();
        (self.edit_snapshot)(&mut file);
        file.encode()
    }

    pub fn time_file(&self) -> Bytes {
        let mut body = self.head(self.time, self.issued, self.issued + TTL);
        body.extend([
            Value::Uint(self.snapshot),
            bin(digest(&self.snapshot_file())),
            Value::Uint(self.root.0),
            bin(self.root.1),
            list([]),
        ]);
        let mut file = File::new(6, 6, Tag::Timestamp, Value::Array(body));
        file.signers[0].1 = self.keeper.clone();
        (self.edit_time)(&mut file);
        file.encode()
    }

    /// What follows the magic of the bulletin, as a tree: with these parts.
    pub fn tree(&self, parts: impl IntoIterator<Item = Bytes>) -> Value {
        list([
            Value::Uint(1),
            bin(self.time_file()),
            bin(self.snapshot_file()),
            list(parts.into_iter().map(bin)),
        ])
    }

    /// The bulletin, with every part that is no book.
    pub fn bulletin(&self) -> Vec<u8> {
        let parts = self.parts.iter().filter(|((kind, _), _)| *kind != BOOKS);
        framed(&self.tree(parts.map(|(_, file)| file.clone())))
    }

    /// The bulletin without parts.
    pub fn bare(&self) -> Vec<u8> {
        framed(&self.tree([]))
    }

    /// What a reader holds that heard this under the first root.
    pub fn held(&self, about: &str) -> Held {
        Held {
            about: about.to_owned(),
            root: root().encode(),
            later: Vec::new(),
            bulletin: Some(self.bulletin()),
        }
    }

    /// The case that a reader hears this; it has two keys, and nobody is revoked.
    pub fn heard_by(&self, state: &str) -> Play {
        let facts = advanced(self.time, self.snapshot, 2, 0);
        hear(state, self.bulletin(), &[]).edit(|play| play.facts = facts)
    }
}

/// The epoch in a part.
fn epoch_of(file: &[u8]) -> u64 {
    // The body's own encoding is fixed up to the epoch: see `Print::file`.
    let at = file
        .windows(18)
        .position(|bytes| bytes[0] == 0xc4 && bytes[1] == 16)
        .map_or(0, |at| at + 18);
    file.get(at).copied().map_or(0, u64::from)
}

/// A bulletin of a tree.
pub fn framed(tree: &Value) -> Vec<u8> {
    [&b"TMBU"[..], &tree.encode()].concat()
}

/// What `expect` says of a reader that went on.
pub fn advanced(time: u64, snapshot: u64, keys: u64, revoked: u64) -> Vec<(&'static str, Json)> {
    vec![
        ("progress", words("advanced")),
        ("time", Json::Number(time)),
        ("snapshot", Json::Number(snapshot)),
        ("keys", Json::Number(keys)),
        ("revoked", Json::Number(revoked)),
    ]
}

/// What `expect` says of a reader that lacks files.
pub fn missing(digests: &[[u8; 32]]) -> Vec<(&'static str, Json)> {
    let digests = digests.iter().map(hex).collect();
    vec![
        ("progress", words("missing")),
        ("missing", Json::List(digests)),
    ]
}

/// A reader hears a bulletin and may fetch these files.
pub fn hear(state: &str, bulletin: Vec<u8>, store: &[Bytes]) -> Play {
    Play::new(Kind::Follow, state).edit(|play| {
        play.more = vec![("bulletin", hex(&bulletin))];
        if !store.is_empty() {
            play.more
                .push(("store", Json::List(store.iter().map(hex).collect())));
        }
    })
}

/// A reader is given the next root.
pub fn succeed(state: &str, root: &Bytes, version: u64) -> Play {
    Play::new(Kind::Follow, state).edit(|play| {
        play.more = vec![("root", hex(root))];
        play.facts = vec![("version", Json::Number(version))];
    })
}

/// A reader is asked whether what it holds is fresh enough.
pub fn ask(state: &str, purpose: &str, now: u64) -> Play {
    Play::new(Kind::Follow, state).edit(|play| {
        play.more = vec![("purpose", words(purpose))];
        play.now = now;
    })
}
