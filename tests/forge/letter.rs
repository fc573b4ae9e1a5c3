//! Frames whose every field, tag, signer and signature can be replaced.

use bytes::Bytes;

use trustmesh::proto::names::Tag;
use trustmesh::proto::signing::ObjectId;

use super::ChainSpec;
use super::NOW;
use super::Party;
use super::Value;
use super::unique;
use super::value::bin;
use super::value::list;
use super::value::text;

/// Positions in the header.
pub const VERSION: usize = 0;
pub const MODE: usize = 1;
pub const MESH: usize = 2;
pub const MID: usize = 3;
pub const ISSUED: usize = 4;
pub const TTL: usize = 5;
pub const ACTION: usize = 6;
pub const SUBJECT: usize = 7;
pub const REPLY: usize = 8;
pub const AUDIENCE: usize = 9;
pub const IN_REPLY_TO: usize = 10;
pub const LEAF: usize = 11;
pub const PAYLOAD_TYPE: usize = 12;
pub const CONTENT_HASH: usize = 13;
pub const CONTENT_LEN: usize = 14;
pub const EXT: usize = 15;

/// The names of the header's fields, by position.
pub const HEADER_FIELDS: [&str; 16] = [
    "v",
    "mode",
    "mesh",
    "mid",
    "iat",
    "ttl",
    "action",
    "subject",
    "reply",
    "audience",
    "in_reply_to",
    "leaf",
    "payload_type",
    "content_hash",
    "content_len",
    "ext",
];

/// A frame to be.
#[derive(Clone, Debug)]
pub struct Letter {
    pub magic: Vec<u8>,
    pub frame_version: Value,
    pub frame_mode: Value,
    /// The header's tree; digest and length of the content are filled in unless `keep_digest`.
    pub header: Value,
    pub keep_digest: bool,
    /// These bytes instead of the header's tree.
    pub header_bytes: Option<Vec<u8>>,
    pub signer: Party,
    pub tag: Tag,
    /// This signature instead of a made one.
    pub signature: Option<Value>,
    pub chain: Vec<u8>,
    pub content: Value,
}

impl Letter {
    /// A valid event on `subject`, sent under `chain` by its last holder.
    pub fn publish(chain: &ChainSpec, subject: &str) -> Self {
        let header = list([
            Value::Uint(1),
            Value::Uint(1),
            bin(&chain.mesh),
            bin(unique()),
            Value::Uint(NOW),
            Value::Uint(10_000),
            Value::Uint(super::chain::PUB),
            text(subject),
            Value::Nil,
            Value::Nil,
            Value::Nil,
            bin(chain.leaf().0),
            text(""),
            Value::Nil,
            Value::Nil,
            list([]),
        ]);
        Self {
            magic: b"TMSH".to_vec(),
            frame_version: Value::Uint(1),
            frame_mode: Value::Uint(1),
            header,
            keep_digest: false,
            header_bytes: None,
            signer: chain.leaf_holder().clone(),
            tag: Tag::Envelope,
            signature: None,
            chain: chain.encode(),
            content: list([list([]), list([]), bin(b"payload")]),
        }
    }

    /// A valid request.
    pub fn request(chain: &ChainSpec, subject: &str) -> Self {
        let inbox = format!("_INBOX.{}.1", chain.leaf_holder().bytes().to_nkey());
        Self::publish(chain, subject)
            .set(ACTION, Value::Uint(super::chain::REQ))
            .set(REPLY, text(&inbox))
    }

    /// A valid answer to `request` by `asker`, delivered on `subject`.
    pub fn answer(chain: &ChainSpec, subject: &str, asker: &Party, request: ObjectId) -> Self {
        Self::publish(chain, subject)
            .set(ACTION, Value::Uint(super::chain::SERVE))
            .set(AUDIENCE, bin(asker.bytes().0))
            .set(IN_REPLY_TO, bin(request.0))
    }

    /// The letter with one header field replaced.
    pub fn set(mut self, field: usize, value: Value) -> Self {
        self.header.items()[field] = value;
        self
    }

    pub fn payload(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.content.items()[2] = bin(payload);
        self
    }

    pub fn edit(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The header's tree with the content's digest and length filled in.
    pub fn header_tree(&self) -> Value {
        if self.keep_digest {
            return self.header.clone();
        }
        let content = self.content.encode();
        self.header
            .with(&[CONTENT_HASH], bin(Tag::Content.digest(&content).0))
            .with(&[CONTENT_LEN], Value::Uint(content.len() as u64))
    }

    pub fn header_encoded(&self) -> Vec<u8> {
        let tree = || self.header_tree().encode();
        self.header_bytes.clone().unwrap_or_else(tree)
    }

    /// The object id.
    pub fn id(&self) -> ObjectId {
        Tag::Envelope.digest(&self.header_encoded())
    }

    /// What follows the magic, as a tree.
    pub fn tree(&self) -> Value {
        let header = self.header_encoded();
        let made = || bin(self.signer.sign(self.tag, &header));
        list([
            self.frame_version.clone(),
            self.frame_mode.clone(),
            bin(&header),
            self.signature.clone().unwrap_or_else(made),
            bin(&self.chain),
            bin(self.content.encode()),
        ])
    }

    pub fn frame(&self) -> Bytes {
        [&self.magic[..], &self.tree().encode()].concat().into()
    }
}
