//! Approvals whose every field, signer, tag and signature can be replaced.

use trustmesh::proto::names::Tag;
use trustmesh::proto::root::Role;

use super::ChainSpec;
use super::HOUR;
use super::Mesh;
use super::NOW;
use super::Party;
use super::Value;
use super::value::bin;
use super::value::list;

/// Positions in the body.
pub const VERSION: usize = 0;
pub const MESH: usize = 1;
pub const LEAF: usize = 2;
pub const CHAIN: usize = 3;
pub const REGISTRY: usize = 4;
pub const REVOCATIONS: usize = 5;
pub const POLICY: usize = 6;
pub const FROM: usize = 7;
pub const UNTIL: usize = 8;
pub const EXT: usize = 9;

/// An approval to be.
#[derive(Clone, Debug)]
pub struct ApprovalSpec {
    pub body: Value,
    pub registrar: Value,
    pub signer: Party,
    pub tag: Tag,
    /// This signature instead of a made one.
    pub signature: Option<Value>,
}

impl ApprovalSpec {
    /// A valid approval of a chain: from half an hour ago to in half an hour.
    pub fn of(mesh: &Mesh, chain: &ChainSpec) -> Self {
        let body = list([
            Value::Uint(1),
            bin(mesh.id().0),
            bin(chain.leaf().0),
            bin(Tag::Chain.digest(&chain.encode()).0),
            Value::Uint(mesh.epochs[0]),
            Value::Uint(mesh.epochs[2]),
            Value::Uint(mesh.epochs[1]),
            Value::Uint(NOW - HOUR / 2),
            Value::Uint(NOW + HOUR / 2),
            list([]),
        ]);
        Self {
            body,
            registrar: Value::Uint(0),
            signer: mesh.role(Role::Registrar),
            tag: Tag::Approval,
            signature: None,
        }
    }

    /// The approval with one field of its body replaced.
    pub fn set(mut self, field: usize, value: Value) -> Self {
        self.body.items()[field] = value;
        self
    }

    pub fn edit(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The three values.
    pub fn tree(&self) -> Value {
        let body = self.body.encode();
        let made = || bin(self.signer.sign(self.tag, &body));
        let signature = self.signature.clone().unwrap_or_else(made);
        list([bin(&body), self.registrar.clone(), signature])
    }

    pub fn encode(&self) -> Vec<u8> {
        self.tree().encode()
    }
}

/// Bytes as a header's extension 4.
pub fn extension(approval: impl AsRef<[u8]>) -> Value {
    list([list([Value::Uint(4), Value::Bool(false), bin(approval)])])
}
