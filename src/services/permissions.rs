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
//! | `<prefix>.handshake.<own id>` and below | | yes |
//! | `<prefix>.handshake.*`, `<prefix>.handshake.*.*` | yes | |
//! | `<prefix>.agent.<own id>.renew` | | yes |
//! | `<prefix>.agent.*.renew` | yes | |
//! | `<prefix>.trust` | the verifier | yes |
//! | `<prefix>.verifier.>` | yes | the verifier |
//! | `$KV.TRUSTMESH_<mesh>.>` | the verifier; denied to others | |
//! | `$JS.API.…KV_TRUSTMESH_<mesh>` | reading; the verifier also makes the bucket | |
//!
//! Everything else is denied, all of `$JS` and `$SYS` with it. Nobody may purge or delete the
//! bucket of the trust state.
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

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

use crate::proto::audit::audit_subject;
use crate::proto::envelope::inbox_prefix;
use crate::proto::handshake::handshake_subject;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::names::INBOX;
use crate::proto::request::remint_subject;
use crate::proto::scope::Action;
use crate::proto::scope::Capability;
use crate::proto::signing::MeshId;
use crate::proto::subject::Subject;
use crate::proto::subject::SubjectPattern;

/// The id reserved for the verifier of a mesh.
pub const VERIFIER: &str = "verifier";

/// The first words of a rendered configuration.
pub const MARK: &str = "# Permissions of the trustmesh mesh ";

/// What of JetStream's interface would change or remove the bucket of the trust state.
const BUCKET_CHANGES: [&str; 8] = [
    "STREAM.CREATE",
    "STREAM.UPDATE",
    "STREAM.DELETE",
    "STREAM.PURGE",
    "STREAM.RESTORE",
    "STREAM.MSG.DELETE",
    "STREAM.PEER.REMOVE",
    "STREAM.LEADER.STEPDOWN",
];

/// Those of them that the verifier needs to make its bucket.
const BUCKET_MAKING: usize = 2;

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
    /// Two agents would connect as the same user.
    #[error("{first} and {second} have the same connection user")]
    SharedUser {
        /// One agent.
        first: AgentId,
        /// The other.
        second: AgentId,
    },
    /// A connection key is an identity key.
    #[error("the connection key of {agent} is an identity key: give it one of its own")]
    IdentityKey {
        /// The agent that would connect with it.
        agent: AgentId,
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
    /// The agent.
    pub agent: AgentId,
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

/// Works out what each agent may do on the server.
///
/// ```
/// use std::collections::BTreeSet;
///
/// use trustmesh::proto::identity::{AgentId, KeyBytes};
/// use trustmesh::proto::signing::MeshId;
/// use trustmesh::services::permissions::{Connection, Member, Mesh, derive};
///
/// let mesh = Mesh {
///     id: MeshId([7; 16]),
///     prefix: "trustmesh".to_owned(),
///     identities: BTreeSet::new(),
/// };
/// let planner = Member {
///     agent: AgentId::parse("planner")?,
///     keys: vec![KeyBytes([1; 32])],
///     capabilities: vec!["req:tools.>".parse()?],
///     connection: Connection::Certificate { user: "spiffe://shop/agent/planner".to_owned() },
/// };
/// let plan = derive(&mesh, vec![planner])?;
/// let publish = &plan.users()[0].publish;
/// assert!(publish.allow.contains(&"tools.>".to_owned()));
/// assert!(publish.allow.contains(&"trustmesh.audit.planner".to_owned()));
/// assert!(plan.render(None)?.contains(r#"user: "spiffe://shop/agent/planner""#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`PlanError`]; there is no plan for some agents only.
pub fn derive(mesh: &Mesh, mut members: Vec<Member>) -> Result<Plan, PlanError> {
    if Subject::parse(&mesh.prefix).is_err() || mesh.prefix.contains('.') {
        return Err(PlanError::Prefix);
    }
    members.sort_by(|a, b| a.agent.cmp(&b.agent));
    let mut seen: BTreeMap<String, AgentId> = BTreeMap::new();
    let identities = members.iter().flat_map(|member| member.keys.clone());
    let identities: BTreeSet<KeyBytes> = identities.chain(mesh.identities.clone()).collect();
    for member in &members {
        if matches!(&member.connection, Connection::Nkey(key) if identities.contains(key)) {
            let agent = member.agent.clone();
            return Err(PlanError::IdentityKey { agent });
        }
        let agent = member.agent.clone();
        if let Some(first) = seen.insert(member.connection.user(), agent) {
            let second = member.agent.clone();
            return Err(PlanError::SharedUser { first, second });
        }
    }
    let users = members.into_iter().map(|member| user(mesh, member));
    Ok(Plan {
        mesh: mesh.id,
        users: users.collect(),
    })
}

/// What of these capabilities may be handed on: the most that any delegation below them can give.
pub fn delegable<'a>(capabilities: impl IntoIterator<Item = &'a Capability>) -> Vec<Capability> {
    let capabilities = capabilities.into_iter();
    capabilities
        .filter(|capability| capability.actions().has(Action::Delegate))
        .cloned()
        .collect()
}

/// The name of the KV bucket that holds a mesh's trust state.
pub fn bucket(mesh: MeshId) -> String {
    format!("TRUSTMESH_{mesh}")
}

fn user(mesh: &Mesh, member: Member) -> User {
    let is_verifier = member.agent.as_str() == VERIFIER;
    let own = Own::of(mesh, &member, is_verifier);
    let mut omitted = Vec::new();
    let mut half = |half, given: &Capability, rule: Result<Vec<String>, Why>| match rule {
        Ok(rules) => rules,
        Err(why) => {
            omitted.push(Omission {
                capability: given.to_string(),
                half,
                why,
            });
            Vec::new()
        }
    };
    let (mut publish, mut subscribe) = (own.publish.clone(), own.subscribe.clone());
    for given in &member.capabilities {
        let actions = given.actions();
        if actions.has(Action::Publish) || actions.has(Action::Request) {
            publish.extend(half("publish", given, own.publish_rule(given)));
        }
        if actions.has(Action::Subscribe) {
            subscribe.extend(half("subscribe", given, own.subscribe_rule(given)));
        }
    }
    User {
        agent: member.agent,
        connection: member.connection,
        publish: Rules {
            allow: without_repetition(publish),
            deny: own.deny,
        },
        subscribe: Rules {
            allow: without_repetition(subscribe),
            deny: Vec::new(),
        },
        omitted,
    }
}

/// What an agent needs to take part at all, and what no grant opens.
struct Own {
    publish: Vec<String>,
    subscribe: Vec<String>,
    deny: Vec<String>,
    no_publish: Vec<String>,
    no_subscribe: Vec<String>,
}

impl Own {
    fn of(mesh: &Mesh, member: &Member, is_verifier: bool) -> Self {
        let (prefix, bucket) = (&mesh.prefix, bucket(mesh.id));
        let shake = handshake_subject(prefix, &member.agent, None);
        let mut publish = vec![
            audit_subject(prefix, &member.agent),
            format!("{prefix}.handshake.*"),
            format!("{prefix}.handshake.*.*"),
            format!("{prefix}.{VERIFIER}.>"),
            format!("{INBOX}.*.hs.*"),
            format!("{prefix}.agent.*.renew"),
            format!("{INBOX}.*.rn.*"),
            format!("$JS.API.STREAM.INFO.KV_{bucket}"),
            format!("$JS.API.STREAM.MSG.GET.KV_{bucket}"),
            format!("$JS.API.DIRECT.GET.KV_{bucket}"),
            format!("$JS.API.DIRECT.GET.KV_{bucket}.>"),
        ];
        let mut subscribe = vec![format!("{shake}.*"), format!("{prefix}.trust"), shake];
        subscribe.push(remint_subject(prefix, &member.agent));
        let inboxes = member.keys.iter().map(inbox_prefix);
        subscribe.extend(inboxes.map(|inbox| format!("{inbox}.>")));
        let serves = |given: &Capability| given.actions().has(Action::Serve);
        if is_verifier || member.capabilities.iter().any(serves) {
            publish.push(format!("{INBOX}.*.>"));
        }
        let api = |what: &str| format!("$JS.API.{what}.KV_{bucket}");
        let mut deny: Vec<String> = BUCKET_CHANGES[BUCKET_MAKING..]
            .iter()
            .map(|w| api(w))
            .collect();
        if is_verifier {
            publish.extend(BUCKET_CHANGES[..BUCKET_MAKING].iter().map(|w| api(w)));
            publish.push(format!("$KV.{bucket}.>"));
            publish.push(format!("{prefix}.trust"));
            subscribe.push(format!("{prefix}.{VERIFIER}.>"));
            subscribe.push("$SRV.>".to_owned());
        } else {
            deny.extend(BUCKET_CHANGES[..BUCKET_MAKING].iter().map(|w| api(w)));
            deny.push(format!("$KV.{bucket}.>"));
        }
        let below = |what: &str| format!("{prefix}.{what}.>");
        let no_subscribe = ["agent", "handshake", VERIFIER].map(below).to_vec();
        let mut no_publish = no_subscribe.clone();
        no_publish.extend([below("audit"), format!("{prefix}.trust")]);
        Self {
            publish,
            subscribe,
            deny,
            no_publish,
            no_subscribe,
        }
    }

    fn publish_rule(&self, given: &Capability) -> Result<Vec<String>, Why> {
        let pattern = given.pattern();
        check(pattern, &self.publish, &self.no_publish)?;
        Ok(vec![pattern.as_str().to_owned()])
    }

    fn subscribe_rule(&self, given: &Capability) -> Result<Vec<String>, Why> {
        let pattern = given.pattern();
        check(pattern, &self.subscribe, &self.no_subscribe)?;
        let Some(groups) = given.groups() else {
            return Ok(vec![pattern.as_str().to_owned()]);
        };
        if groups.iter().any(|group| group.contains(['*', '>'])) {
            return Err(Why::Group);
        }
        let rules = groups.iter().map(|group| format!("{pattern} {group}"));
        Ok(rules.collect())
    }
}

/// Whether a pattern can be given to a server as it is.
fn check(pattern: &SubjectPattern, own: &[String], reserved: &[String]) -> Result<(), Why> {
    let first = pattern.as_str().split('.').next();
    if matches!(first, Some("*" | ">")) {
        return Err(Why::Wildcard);
    }
    let parsed = |text: &String| SubjectPattern::parse(text).ok();
    let has_it = |own: SubjectPattern| own.contains(pattern);
    let meets = |reserved: SubjectPattern| reserved.overlaps(pattern);
    let reaches = reserved.iter().filter_map(parsed).any(meets);
    if reaches && !own.iter().filter_map(parsed).any(has_it) {
        return Err(Why::Reserved);
    }
    Ok(())
}

/// Sorts rules, and drops what another contains. A rule without group makes one with group worse
/// than useless: beside it a server would refuse every other group.
fn without_repetition(rules: Vec<String>) -> Vec<String> {
    let rules: Vec<String> = rules
        .into_iter()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let pattern = |rule: &str| SubjectPattern::parse(rule.split(' ').next().unwrap_or_default());
    let covered = |rule: &String| {
        rules.iter().any(|other| {
            other != rule
                && !other.contains(' ')
                && matches!((pattern(other), pattern(rule)), (Ok(o), Ok(r)) if o.contains(&r))
        })
    };
    rules
        .iter()
        .filter(|rule| !covered(rule))
        .cloned()
        .collect()
}

impl Plan {
    /// The users, sorted by agent.
    pub fn users(&self) -> &[User] {
        &self.users
    }

    /// Writes the plan down as configuration of a nats-server, to be used as it is or included.
    ///
    /// It holds no password, only hashes. Whoever is not in it can do nothing.
    ///
    /// # Errors
    ///
    /// [`PlanError::Text`] for a user, hash or path that cannot stand there.
    pub fn render(&self, tls: Option<&ServerTls>) -> Result<String, PlanError> {
        let mut out = format!("{MARK}{}.\n", self.mesh);
        out.push_str("# Written anew whenever registry or grants change: edit those instead.\n\n");
        if let Some(tls) = tls {
            out.push_str(&self.render_tls(tls)?);
        }
        out.push_str("authorization {\n  default_permissions {\n");
        out.push_str("    publish { deny: [\">\"] }\n    subscribe { deny: [\">\"] }\n  }\n");
        out.push_str("  users: [\n");
        for user in &self.users {
            out.push_str(&render_user(user)?);
        }
        out.push_str("  ]\n}\n");
        Ok(out)
    }

    fn render_tls(&self, tls: &ServerTls) -> Result<String, PlanError> {
        let mapped = |user: &User| matches!(user.connection, Connection::Certificate { .. });
        let mut out = String::from("tls {\n");
        let mut line = |name: &str, path: &str| -> Result<(), PlanError> {
            let path = quoted(path, "path of a TLS file")?;
            // Writing to a string does not fail.
            let _ = writeln!(out, "  {name}: {path}");
            Ok(())
        };
        line("cert_file", &tls.certificate)?;
        line("key_file", &tls.key)?;
        if let Some(ca) = &tls.ca {
            line("ca_file", ca)?;
        }
        if self.users.iter().any(mapped) {
            out.push_str("  verify_and_map: true\n");
        }
        out.push_str("}\n\n");
        Ok(out)
    }
}

fn render_user(user: &User) -> Result<String, PlanError> {
    let name = quoted(&user.connection.user(), "connection user")?;
    let login = match &user.connection {
        Connection::Password { hash, .. } => {
            format!("user: {name}\n      password: {}", quoted(hash, "hash")?)
        }
        Connection::Certificate { .. } => format!("user: {name}"),
        Connection::Nkey(_) => format!("nkey: {name}"),
    };
    let mut out = format!("    {{ # {}\n      {login}\n", user.agent);
    out.push_str("      permissions {\n");
    for (half, rules) in [("publish", &user.publish), ("subscribe", &user.subscribe)] {
        let _ = writeln!(out, "        {half} {{");
        for (word, subjects) in [("allow", &rules.allow), ("deny", &rules.deny)] {
            // To a server, an empty list is none at all.
            if subjects.is_empty() {
                continue;
            }
            let _ = writeln!(out, "          {word}: [");
            for subject in subjects {
                let _ = writeln!(out, "            {}", quoted(subject, "subject")?);
            }
            out.push_str("          ]\n");
        }
        out.push_str("        }\n");
    }
    out.push_str("      }\n    }\n");
    Ok(out)
}

/// A text in quotation marks, as nats-server reads it: `\"` and `\\` are what has to be escaped, and
/// nothing that would end a line gets in.
fn quoted(text: &str, what: &'static str) -> Result<String, PlanError> {
    if text.is_empty() || text.len() > 1024 || text.chars().any(char::is_control) {
        return Err(PlanError::Text { what });
    }
    let escaped = text.replace('\\', r"\\").replace('"', "\\\"");
    Ok(format!("\"{escaped}\""))
}

#[cfg(test)]
#[path = "permissions_tests.rs"]
mod tests;
