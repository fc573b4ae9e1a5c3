//! What a nats-server should let each agent do, worked out from registry and grants.
//!
//! The server enforces the coarse part of what agents verify themselves: a stranger cannot
//! subscribe, an agent cannot write another's audit, and nobody but the verifier writes the trust
//! state. It is a second line, never the first: what it lets through is verified all the same.
//!
//! ```text
//! registry, grants ──Member──▶ derive ──▶ Plan ──render──▶ nats-server configuration
//!                                          └─ what could not be expressed, with the reason
//! ```
//!
//! # What an agent gets
//!
//! | subjects | publish | subscribe |
//! |---|---|---|
//! | what a grant allows | PUB and REQ | SUB, where constrained as a member of the groups only |
//! | `_INBOX.<own nkey>.>` | | yes |
//! | `_INBOX.*.hs.*` | yes: answers to handshakes | |
//! | `_INBOX.*.rn.*` | yes: delegations minted again | |
//! | `_INBOX.*.>` | with SERVE: answers | |
//! | `<prefix>.audit.<own id>` | yes | |
//! | `<prefix>.agent.*.renew` | yes | its own |
//! | `<prefix>.handshake.<own id>` and below | | yes |
//! | `<prefix>.handshake.*`, `<prefix>.handshake.*.*` | yes | |
//! | `<prefix>.trust` | the verifier | yes |
//! | `<prefix>.verifier.<verb>` | yes | the verifier, and `$SRV.>` |
//! | `$KV.TRUSTMESH_<mesh>.>` | the verifier; denied to others | |
//! | `$JS.API.…KV_TRUSTMESH_<mesh>` | reading; the verifier makes the bucket, and removes old parts | |
//! | `$KV.TRUSTMESH_REPLAY_<mesh>.>` | with SUB: claims in the shared replay memory | |
//! | `$JS.API.…KV_TRUSTMESH_REPLAY_<mesh>` | with SUB: reading, and making it | |
//!
//! Everything else is denied, all of `$JS` and `$SYS` with it. Nobody may change or delete the two
//! buckets, and nobody but the verifier may purge one: it is the trust state's, and it can write
//! that anyway.
//!
//! *Newcomers*, who have no certificate, share [one user](Mesh::newcomers). It reads the trust
//! state, publishes `<prefix>.verifier.enrol`, and listens to `_INBOX.*.en.>`: one newcomer sees
//! the answers to another, in which nothing is secret.
//!
//! Connections must ask for answers in the inbox they may listen to. A
//! [`Client`](crate::Client) does so by itself. For a bus of your own set `custom_inbox_prefix`:
//! to [`inbox_prefix`](crate::proto::envelope::inbox_prefix) of the verifier's key for those of a
//! [`VerifierService`](crate::services::verifier::VerifierService), and to
//! [`newcomer_inbox`](crate::client::enrol::newcomer_inbox) for joining.
//!
//! # What it is not
//!
//! *Delegations are not seen.* A chain that one agent hands to another lives on the bus, and no
//! configuration knows it. Whoever acts under one needs the subjects in its
//! [`Member::capabilities`] beside those of its own grant: named one by one, or
//! [everything that may be handed on](delegable). Without, the server refuses what the mesh would
//! allow, never the other way around.
//!
//! *Answers do not use `allow_responses`.* That lets a connection publish on any reply subject it
//! was sent, deny list or not, and whoever publishes chooses that subject: two agents acting
//! together could write anywhere. An answer that reaches a wrong inbox is refused there.
//!
//! *Capabilities that begin with a wildcard are left out*, since for a server `>` contains every
//! inbox. Name the first tokens instead. Constraints to recipients are the receivers' to check.

mod derive;
mod render;

use std::collections::BTreeSet;

use serde::Serialize;

pub use self::derive::bucket;
pub use self::derive::delegable;
pub use self::derive::derive;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::scope::Capability;
use crate::proto::signing::MeshId;

/// The id reserved for the verifier of a mesh.
pub const VERIFIER: &str = "verifier";

/// The first words of a rendered configuration.
pub const MARK: &str = "# Permissions of the trustmesh mesh ";

/// The mesh permissions are derived for.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// Its id, which names the bucket of its trust state.
    pub id: MeshId,
    /// First token of its own subjects, [`PREFIX`](crate::proto::names::PREFIX) unless the clients
    /// use another.
    pub prefix: String,
    /// Every identity key of the registry, also of agents that get no user. None may be a
    /// connection key.
    pub identities: BTreeSet<KeyBytes>,
    /// How those connect who have no certificate yet. `None` lets nobody join over this server.
    pub newcomers: Option<Connection>,
}

/// Who a user of the server is.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Who {
    /// An agent.
    Agent(AgentId),
    /// Whoever wants to join.
    Newcomers,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Agent(agent) => agent.fmt(f),
            Self::Newcomers => f.write_str("newcomers"),
        }
    }
}

/// One agent: what it may do, and how it connects.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its id.
    pub agent: AgentId,
    /// Its identity keys, each of which names an inbox: one, or two while it changes its key.
    pub keys: Vec<KeyBytes>,
    /// What its grants allow, and what it shall be able to do under other chains.
    pub capabilities: Vec<Capability>,
    /// How the server knows it.
    pub connection: Connection,
}

/// How a server knows who connects. It is never by the identity key: a server chooses what a
/// connection key signs.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub enum Connection {
    /// By user and password.
    Password {
        /// The user.
        user: String,
        /// The password, as bcrypt hash.
        hash: String,
    },
    /// By a client certificate that names this user (`verify_and_map`).
    Certificate {
        /// The URI among its alternative names, or its distinguished name.
        user: String,
    },
    /// By the signature of a connection key, an nkey.
    Nkey(KeyBytes),
}

impl Connection {
    /// What stands in the configuration for the user.
    pub fn user(&self) -> String {
        match self {
            Self::Password { user, .. } | Self::Certificate { user } => user.clone(),
            Self::Nkey(key) => key.to_nkey(),
        }
    }

    /// `password`, `certificate` or `nkey`.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Password { .. } => "password",
            Self::Certificate { .. } => "certificate",
            Self::Nkey(_) => "nkey",
        }
    }
}

impl std::fmt::Debug for Connection {
    /// Shows no hash.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({:?})", self.method(), self.user())
    }
}

/// Why no permissions can be derived or written down.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The prefix is not a single token of a subject.
    #[error("the prefix is no subject token")]
    Prefix,
    /// Two would connect as the same user.
    #[error("{first} and {second} have the same connection user")]
    SharedUser {
        /// One.
        first: Who,
        /// The other.
        second: Who,
    },
    /// A connection key is an identity key.
    #[error("the connection key of {who} is an identity key: give it one of its own")]
    IdentityKey {
        /// Who would connect with it.
        who: Who,
    },
    /// Text that cannot stand in a configuration: empty, over 1,024 bytes, or with control
    /// characters.
    #[error("the {what} holds what cannot stand in a configuration")]
    Text {
        /// Which text.
        what: &'static str,
    },
}

/// Subjects that are allowed, and those that are denied all the same.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Rules {
    /// Everything else is denied. Never empty, since to a server that would allow everything.
    pub allow: Vec<String>,
    /// What a wider allowance does not reach.
    pub deny: Vec<String>,
}

/// What a capability could not be turned into.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Omission {
    /// The capability.
    pub capability: String,
    /// Which half of it: `publish` or `subscribe`.
    pub half: &'static str,
    /// Why it is left out.
    pub why: Why,
}

/// Why a capability is left out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Its first token is a wildcard, which to a server contains inboxes and system subjects.
    #[error("it begins with a wildcard, which for a server contains every inbox")]
    Wildcard,
    /// It reaches into subjects of the protocol itself.
    #[error("it reaches into the mesh's own subjects")]
    Reserved,
    /// The name of a queue group would be read as a pattern.
    #[error("a server would read the name of its queue group as a pattern")]
    Group,
}

/// One user of the server.
#[derive(Clone, Debug)]
pub struct User {
    /// Who it is.
    pub who: Who,
    /// How it connects.
    pub connection: Connection,
    /// Where it may publish.
    pub publish: Rules,
    /// What it may subscribe to; a second word is the queue group it then has to join.
    pub subscribe: Rules,
    /// What was left out.
    pub omitted: Vec<Omission>,
}

/// What a server should enforce, agent by agent. Holding one tells you that no two agents share a
/// user, that no connection key is an identity key, and that every user has an allow list of both
/// kinds.
#[derive(Clone, Debug)]
pub struct Plan {
    mesh: MeshId,
    users: Vec<User>,
}

/// The files of a server's own TLS, as it shall find them.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// Its certificate, in PEM.
    pub certificate: String,
    /// The key of that, in PEM.
    pub key: String,
    /// Who issues the certificates of clients; with [`Connection::Certificate`] it is needed.
    pub ca: Option<String>,
}

impl Plan {
    /// The users: agents sorted by id, then the newcomers.
    pub fn users(&self) -> &[User] {
        &self.users
    }
}

#[cfg(test)]
mod tests;
