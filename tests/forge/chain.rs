//! Chains whose every field, tag, signer and signature can be replaced.

use trustmesh::proto::names::Tag;
use trustmesh::proto::signing::ObjectId;

use super::HOUR;
use super::Mesh;
use super::NOW;
use super::Party;
use super::Value;
use super::unique;
use super::value::bin;
use super::value::list;
use super::value::text;

/// Actions as bits.
pub const PUB: u64 = 1;
pub const SUB: u64 = 2;
pub const REQ: u64 = 4;
pub const SERVE: u64 = 8;
pub const DELEGATE: u64 = 32;
pub const EVERYTHING: u64 = PUB | SUB | REQ | SERVE | DELEGATE;

/// A link to be.
#[derive(Clone, Debug)]
pub struct LinkSpec {
    /// The fields after the version and before the holder are filled in when the chain is written:
    /// mesh and issuer, or the parent's id.
    pub above: Option<Vec<Value>>,
    pub version: Value,
    pub holder: Value,
    pub from: Value,
    pub until: Value,
    pub remaining: Value,
    pub scope: Value,
    pub nonce: Value,
    pub ext: Value,
    /// Signed with this key instead of the previous holder's.
    pub signer: Option<Party>,
    /// Signed under this tag instead of the position's.
    pub tag: Option<Tag>,
    /// This body instead of the fields'.
    pub body: Option<Vec<u8>>,
    /// This signature instead of a made one.
    pub signature: Option<Value>,
    who: Party,
}

/// A scope of capabilities without constraints.
pub fn scope(capabilities: &[(u64, &str)]) -> Value {
    list(
        capabilities
            .iter()
            .map(|(actions, pattern)| capability(*actions, pattern, [])),
    )
}

/// One capability.
pub fn capability(
    actions: u64,
    pattern: &str,
    constraints: impl IntoIterator<Item = Value>,
) -> Value {
    list([Value::Uint(actions), text(pattern), list(constraints)])
}

/// A chain to be.
#[derive(Clone, Debug)]
pub struct ChainSpec {
    pub mesh: Vec<u8>,
    pub issuer: Party,
    pub links: Vec<LinkSpec>,
}

impl ChainSpec {
    /// A valid chain down these holders: everything on every subject.
    pub fn down(mesh: &Mesh, holders: &[&str]) -> Self {
        let link = |(index, name): (usize, &&str)| {
            let who = Party::named(name);
            LinkSpec {
                above: None,
                version: Value::Uint(1),
                holder: bin(who.bytes().0),
                from: Value::Uint(NOW - HOUR / 2),
                until: Value::Uint(NOW + HOUR / 2),
                remaining: Value::Uint(8_u64.saturating_sub(index as u64)),
                scope: scope(&[(EVERYTHING, ">")]),
                nonce: bin(unique()),
                ext: list([]),
                signer: None,
                tag: None,
                body: None,
                signature: None,
                who,
            }
        };
        Self {
            mesh: mesh.id().0.to_vec(),
            issuer: mesh.issuer(),
            links: holders.iter().enumerate().map(link).collect(),
        }
    }

    /// The last holder.
    pub fn leaf_holder(&self) -> &Party {
        &self.links.last().unwrap().who
    }

    /// The body of each link, by position.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        let mut bodies: Vec<Vec<u8>> = Vec::new();
        for (index, link) in self.links.iter().enumerate() {
            let above = link.above.clone().unwrap_or_else(|| match bodies.last() {
                None => vec![bin(&self.mesh), bin(self.issuer.bytes().0)],
                Some(parent) => vec![bin(tag_at(index - 1).digest(parent).0)],
            });
            let body = link
                .body
                .clone()
                .unwrap_or_else(|| link.tree(above).encode());
            bodies.push(body);
        }
        bodies
    }

    /// The chain as a tree of `[body, signature]`.
    pub fn tree(&self) -> Value {
        let bodies = self.bodies();
        let pairs = self.links.iter().zip(&bodies).enumerate();
        list(pairs.map(|(index, (link, body))| {
            let natural = match index {
                0 => &self.issuer,
                _ => &self.links[index - 1].who,
            };
            let signer = link.signer.as_ref().unwrap_or(natural);
            let tag = link.tag.unwrap_or(tag_at(index));
            let made = || bin(signer.sign(tag, body));
            let signature = link.signature.clone().unwrap_or_else(made);
            list([bin(body), signature])
        }))
    }

    pub fn encode(&self) -> Vec<u8> {
        self.tree().encode()
    }

    /// The object id of link `index`.
    pub fn link_id(&self, index: usize) -> ObjectId {
        tag_at(index).digest(&self.bodies()[index])
    }

    /// The object id of the last link.
    pub fn leaf(&self) -> ObjectId {
        self.link_id(self.links.len() - 1)
    }

    /// The chain with one link changed; links below name the changed one as their parent.
    pub fn edit(mut self, index: usize, change: impl FnOnce(&mut LinkSpec)) -> Self {
        change(&mut self.links[index]);
        self
    }
}

impl LinkSpec {
    /// The body as a tree, below `above`.
    pub fn tree(&self, above: Vec<Value>) -> Value {
        let mut fields = vec![self.version.clone()];
        fields.extend(above);
        fields.extend([
            self.holder.clone(),
            self.from.clone(),
            self.until.clone(),
            self.remaining.clone(),
            self.scope.clone(),
            self.nonce.clone(),
            self.ext.clone(),
        ]);
        list(fields)
    }

    /// Gives the link another holder, whose key signs the next.
    pub fn give_to(&mut self, who: &Party) {
        self.holder = bin(who.bytes().0);
        self.who = who.clone();
    }
}

/// The tag of a link at this position.
pub fn tag_at(index: usize) -> Tag {
    if index == 0 {
        Tag::RootGrant
    } else {
        Tag::Delegation
    }
}
