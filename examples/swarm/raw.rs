//! The wire format, written by hand.
//!
//! An attacker is not bound by what this library agrees to sign. Everything here is made of bytes:
//! MessagePack and Ed25519, laid out as the protocol says, saying whatever the attacker likes.

use ed25519_dalek::Signer as _;
use ed25519_dalek::SigningKey;
use serde::Deserialize;
use serde::Serialize;
use serde_bytes::ByteBuf;
use trustmesh::proto::names::MAGIC_ENVELOPE;
use trustmesh::proto::names::Tag;
use trustmesh::proto::scope::Scope;

use crate::Fault;

/// An envelope frame: magic, then one array.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Frame {
    version: u8,
    mode: u8,
    header: ByteBuf,
    signature: ByteBuf,
    chain: ByteBuf,
    content: ByteBuf,
}

/// An envelope header, in the order of the wire.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Header {
    version: u8,
    mode: u8,
    mesh: ByteBuf,
    pub mid: ByteBuf,
    pub issued: u64,
    ttl_ms: u32,
    action: u8,
    pub subject: String,
    pub reply: Option<String>,
    audience: Option<ByteBuf>,
    in_reply_to: Option<ByteBuf>,
    pub leaf: ByteBuf,
    payload_type: String,
    content_hash: ByteBuf,
    content_len: u32,
    extensions: Vec<(u16, bool, ByteBuf)>,
}

/// A delegation, in the order of the wire.
#[derive(Serialize)]
pub struct Delegation {
    pub version: u8,
    pub parent: ByteBuf,
    pub holder: ByteBuf,
    pub from: u64,
    pub until: u64,
    pub remaining: u8,
    pub scope: Scope,
    pub nonce: ByteBuf,
    pub extensions: Vec<()>,
}

/// The links of a chain, each a body and a signature.
type Links = Vec<(ByteBuf, ByteBuf)>;

impl Frame {
    /// Takes a captured message apart.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let body = bytes.strip_prefix(&MAGIC_ENVELOPE).ok_or("no envelope")?;
        Ok(rmp_serde::from_slice(body)?)
    }

    /// What its header says.
    pub fn header(&self) -> Result<Header, Fault> {
        Ok(rmp_serde::from_slice(&self.header)?)
    }

    /// The same message with another header, signed with any key at all.
    pub fn with_header(mut self, header: &Header, key: &SigningKey) -> Result<Self, Fault> {
        self.header = rmp_serde::to_vec(header)?.into();
        self.signature = sign(Tag::Envelope, &self.header, key);
        Ok(self)
    }

    /// The same message under another chain.
    pub fn with_chain(mut self, chain: Vec<u8>) -> Self {
        self.chain = chain.into();
        self
    }

    /// The bytes for the bus.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Fault> {
        let mut bytes = MAGIC_ENVELOPE.to_vec();
        bytes.extend(rmp_serde::to_vec(self)?);
        Ok(bytes)
    }
}

/// Appends a delegation to a chain, signed with any key at all. Returns the chain and the id of
/// its new leaf.
pub fn extend_chain(
    chain: &[u8],
    link: &Delegation,
    key: &SigningKey,
) -> Result<(Vec<u8>, ByteBuf), Fault> {
    let mut links: Links = rmp_serde::from_slice(chain)?;
    let body = rmp_serde::to_vec(link)?;
    let id = Tag::Delegation.digest(&body).0.to_vec();
    let signature = sign(Tag::Delegation, &body, key);
    links.push((body.into(), signature));
    Ok((rmp_serde::to_vec(&links)?, id.into()))
}

fn sign(tag: Tag, body: &[u8], key: &SigningKey) -> ByteBuf {
    let input = [&tag.bytes(), body].concat();
    key.sign(&input).to_bytes().to_vec().into()
}
