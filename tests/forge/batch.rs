//! Batches whose every field, leaf, path, tag, signer and signature can be replaced.
//!
//! The tree is written as RFC 9162 has it, by splitting lists; the crate goes level by level.

use sha2::Digest as _;
use sha2::Sha256;

use trustmesh::proto::names::Tag;

use super::Letter;
use super::Party;
use super::Value;
use super::letter;
use super::value::bin;
use super::value::list;

/// A hash in a tree.
pub type Node = [u8; 32];

/// Positions in the body.
pub const VERSION: usize = 0;
pub const MESH: usize = 1;
pub const KEY: usize = 2;
pub const SIZE: usize = 3;
pub const ROOT: usize = 4;
pub const EXT: usize = 5;

/// The names of the body's fields, by position.
pub const BODY_FIELDS: [&str; 6] = ["v", "mesh", "key", "n", "root", "ext"];

/// Positions in a proof.
pub const BODY: usize = 0;
pub const SIGNATURE: usize = 1;
pub const INDEX: usize = 2;
pub const PATH: usize = 3;

/// The names of a proof's values, by position.
pub const PROOF_FIELDS: [&str; 4] = ["body", "signature", "index", "path"];

/// Letters under one signature.
#[derive(Clone, Debug)]
pub struct Batch {
    pub letters: Vec<Letter>,
    pub leaves: Vec<Node>,
    /// The body's tree.
    pub body: Value,
    /// These bytes instead of the body's tree.
    pub body_bytes: Option<Vec<u8>>,
    pub signer: Party,
    pub tag: Tag,
    /// This signature instead of a made one.
    pub signature: Option<Value>,
}

impl Batch {
    /// A valid batch of these letters, which are all of one signer; it makes them ones of mode 2.
    pub fn of(letters: impl IntoIterator<Item = Letter>) -> Self {
        let letters: Vec<Letter> = letters.into_iter().map(in_mode_2).collect();
        let leaves = letters.iter().map(|letter| leaf(&letter.header_encoded()));
        Self::with_leaves(letters.clone(), leaves.collect())
    }

    /// A batch with these leaves, whatever the letters come to.
    pub fn with_leaves(letters: Vec<Letter>, leaves: Vec<Node>) -> Self {
        let signer = letters[0].signer.clone();
        let body = list([
            Value::Uint(1),
            letters[0].header.at(&[letter::MESH]).clone(),
            bin(signer.bytes().0),
            Value::Uint(leaves.len() as u64),
            bin(tree_hash(&leaves)),
            list([]),
        ]);
        Self {
            letters,
            leaves,
            body,
            body_bytes: None,
            signer,
            tag: Tag::Batch,
            signature: None,
        }
    }

    /// The batch with one field of its body replaced.
    pub fn set(mut self, field: usize, value: Value) -> Self {
        self.body.items()[field] = value;
        self
    }

    pub fn edit(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn body_encoded(&self) -> Vec<u8> {
        self.body_bytes
            .clone()
            .unwrap_or_else(|| self.body.encode())
    }

    /// The neighbours of a leaf on its way to the root.
    pub fn path(&self, index: usize) -> Vec<Node> {
        path(index, &self.leaves)
    }

    /// The proof of a letter, as it stands in the frame.
    pub fn proof(&self, index: usize) -> Value {
        let body = self.body_encoded();
        let made = || bin(self.signer.sign(self.tag, &body));
        list([
            bin(&body),
            self.signature.clone().unwrap_or_else(made),
            Value::Uint(index as u64),
            bin(self.path(index).concat()),
        ])
    }

    /// A letter with its proof.
    pub fn letter(&self, index: usize) -> Letter {
        self.letter_with(index, |proof| proof)
    }

    /// A letter with its proof changed.
    pub fn letter_with(&self, index: usize, change: impl FnOnce(Value) -> Value) -> Letter {
        let proof = change(self.proof(index));
        let letter = self.letters[index].clone();
        letter.edit(|l| l.signature = Some(proof))
    }
}

/// A letter that says in frame and header that it is signed in a batch.
pub fn in_mode_2(letter: Letter) -> Letter {
    letter
        .set(letter::MODE, Value::Uint(2))
        .edit(|l| l.frame_mode = Value::Uint(2))
}

/// The leaf of a header.
pub fn leaf(header: &[u8]) -> Node {
    hash(&[&[0], &Tag::Envelope.bytes(), header])
}

/// The node above two others.
pub fn join(left: &Node, right: &Node) -> Node {
    hash(&[&[1], left, right])
}

/// The digest of parts, one after the other.
pub fn hash(parts: &[&[u8]]) -> Node {
    Sha256::digest(parts.concat()).into()
}

/// MTH of RFC 9162 §2.1.1, over leaves that are hashed already.
pub fn tree_hash(leaves: &[Node]) -> Node {
    match leaves {
        [] => hash(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            join(&tree_hash(left), &tree_hash(right))
        }
    }
}

/// PATH of RFC 9162 §2.1.3.1.
pub fn path(index: usize, leaves: &[Node]) -> Vec<Node> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let at = split(leaves.len());
    let (left, right) = leaves.split_at(at);
    let (mut below, beside) = if index < at {
        (path(index, left), tree_hash(right))
    } else {
        (path(index - at, right), tree_hash(left))
    };
    below.push(beside);
    below
}

/// The largest power of two below a number.
fn split(len: usize) -> usize {
    len.next_power_of_two() / 2
}
