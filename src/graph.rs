//! The authorization graph: who may do what on whose authority, and who did, from audit records
//! alone.
//!
//! ```text
//! issuer ──grants scope──▶ agent ──delegates less──▶ agent        authority, from accepted chains
//! sender ──action, subject──▶ deciding agent                      use, accepted and refused
//! verifier ──joined, rotated──▶ agent                             keys, as the service says
//! ```
//!
//! Authority is drawn only where a message was accepted under it. A refused message whose sender
//! was never authenticated is drawn from what it [claims](Node::Claimed) to be, never from the
//! agent it names.

mod draw;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

use crate::proto::audit::AuditEvent;
use crate::proto::audit::AuditRecord;
use crate::proto::audit::DecisionEvent;
use crate::proto::audit::HopEvent;
use crate::proto::audit::Word;
use crate::proto::identity::AgentId;
use crate::proto::limits::LINKS_MAX;
use crate::proto::names::INBOX;
use crate::proto::names::VERIFIER_ID;

/// Refused uses kept one by one. Whoever reaches the bus can invent subjects; above this number
/// refusals are counted on one edge per deciding agent.
const REFUSED_USES_MAX: usize = 1024;

/// The agent that the notices about keys are from.
static SERVICE: LazyLock<Node> = LazyLock::new(|| Node::Agent(VERIFIER_ID.to_owned()));

/// Someone in the graph. Compared by text as it stands in the records; it prints unescaped, see
/// [`visible`].
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Node {
    /// A key with the issuer role, where authority begins.
    Issuer(String),
    /// An agent, as registered, or its key when nobody is registered for it.
    Agent(String),
    /// The sender that unauthenticated messages claimed to be from.
    Claimed(String),
    /// The senders of messages that name none which could be read.
    Unknown,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issuer(key) => write!(f, "issuer {}", key.get(..8).unwrap_or(key)),
            Self::Agent(id) => f.write_str(id),
            Self::Claimed(id) => write!(f, "claims to be {id}"),
            Self::Unknown => f.write_str("unknown sender"),
        }
    }
}

/// A link of an accepted chain: authority that one handed to another, as the deciding agents
/// recorded it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// Object id of the link, in hexadecimal.
    pub link: String,
    /// Object id of the link above; `None` for a root grant.
    pub above: Option<String>,
    /// Who handed it on.
    pub from: Node,
    /// Who received it.
    pub to: Node,
    /// What may be done, as capability text (protocol §6.6).
    pub scope: Vec<String>,
    /// The first instant after it, in milliseconds since the epoch.
    pub until: u64,
}

/// A way in which one agent used another: the key under which messages are counted.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Use {
    /// Who sent.
    pub from: Node,
    /// Who received, and decided.
    pub to: Node,
    /// `pub`, `req` or `serve`; empty when the message could not be read.
    pub action: String,
    /// Where; everything below an inbox counts as the inbox, `_INBOX.>`.
    pub subject: String,
}

/// What became of the messages of one [`Use`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Outcomes {
    /// How many were accepted.
    pub allowed: u64,
    /// How many were refused, by the [name](crate::proto::rejection::Class::name) of the class.
    pub refused: BTreeMap<String, u64>,
}

/// What the verifier service did about an agent's key, by its own notices in the audit.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Certification {
    /// The agent joined, under its first key.
    Joined,
    /// It got another key.
    Rotated,
}

impl fmt::Display for Certification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Joined => "joined",
            Self::Rotated => "rotated",
        })
    }
}

impl Certification {
    /// What a notice of the service says that it did, and for whom. A notice that it refused, or
    /// that a key's time is over, says nothing of the kind.
    fn read(topic: &str, text: &str) -> Option<(Self, AgentId)> {
        let mut words = text.split(' ');
        let agent = AgentId::parse(words.next()?).ok()?;
        match (topic, words.next()?, words.next()?) {
            ("enrol", "joined", "under") => Some((Self::Joined, agent)),
            ("rotate", "under", key) if key.ends_with(':') => Some((Self::Rotated, agent)),
            _ => None,
        }
    }
}

/// The authorization graph of a mesh.
///
/// Depends on the records alone, and on their order only where emitters contradict each other.
///
/// The records should come from an [`AuditReader`](crate::proto::audit::AuditReader): nothing is
/// verified here. Refused uses are kept one by one up to 1,024, then counted on one edge per
/// deciding agent; everything else grows with what was accepted.
///
/// ```
/// use trustmesh::audit::AuditRecord;
/// use trustmesh::graph::AuthorizationGraph;
///
/// let line = r#"{"v":1,"emitter":"reader","run":"00","seq":0,"prev":"00","time":0,
///     "kind":"decision","verdict":"deny","class":"Replay","subject":"read","action":"req",
///     "sender":"planner","claimed":true,"len":9,"registry":1,"revocations":1,"policy":1}"#;
/// let record: AuditRecord = serde_json::from_str(line)?;
///
/// let mut graph = AuthorizationGraph::new();
/// graph.add(&record);
/// assert!(graph.to_mermaid().contains("claims to be planner"));
/// assert_eq!(graph.grants().count(), 0);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct AuthorizationGraph {
    grants: BTreeMap<String, Grant>,
    leaves: BTreeSet<String>,
    uses: BTreeMap<Use, Outcomes>,
    certified: BTreeMap<(Node, Certification), u64>,
    refused_uses: usize,
    unfounded: u64,
    contradictions: u64,
}

impl AuthorizationGraph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what a record says. Records of handshakes and gaps say nothing about authority, nor do
    /// notices, except those of the verifier service about keys.
    pub fn add(&mut self, record: &AuditRecord) {
        let emitter = Node::Agent(record.emitter.clone());
        match &record.event {
            AuditEvent::Decision(decision) => self.add_decision(emitter, decision),
            AuditEvent::Aggregate { class, count } => {
                self.refuse(overflow(emitter), class, *count);
            }
            AuditEvent::Notice { topic, text } if record.emitter == VERIFIER_ID => {
                if let Some((what, agent)) = Certification::read(topic, text) {
                    let agent = Node::Agent(agent.as_str().to_owned());
                    *self.certified.entry((agent, what)).or_default() += 1;
                }
            }
            _ => {}
        }
    }

    /// Everyone in the graph: issuers, agents, claimed senders, unknown ones.
    pub fn nodes(&self) -> BTreeSet<&Node> {
        let grants = self.grants.values().flat_map(|g| [&g.from, &g.to]);
        let uses = self.uses.keys().flat_map(|u| [&u.from, &u.to]);
        let certified = self.certified.keys().map(|(agent, _)| agent);
        let service = (!self.certified.is_empty()).then(|| &*SERVICE);
        grants.chain(uses).chain(certified).chain(service).collect()
    }

    /// Every link under which a message was accepted, and every link above one, by link id.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values()
    }

    /// Who used whom, and what became of it, in order of sender.
    pub fn uses(&self) -> impl Iterator<Item = (&Use, &Outcomes)> {
        self.uses.iter()
    }

    /// Which agents the verifier service gave a key's certificate, why, and how often, in order of
    /// agent.
    pub fn certifications(&self) -> impl Iterator<Item = (&Node, Certification, u64)> {
        let certified = self.certified.iter();
        certified.map(|((agent, what), count)| (agent, *what, *count))
    }

    /// The links from a root grant down to the link with this object id, in hexadecimal. `None`
    /// when it is not in the graph, or the links do not lead to an issuer within nine steps.
    pub fn path(&self, link: &str) -> Option<Vec<&Grant>> {
        let mut path = Vec::new();
        let mut next = Some(link);
        while let Some(link) = next {
            // Records can claim anything, a circle too.
            if path.len() == LINKS_MAX {
                return None;
            }
            let grant = self.grants.get(link)?;
            next = grant.above.as_deref();
            path.push(grant);
        }
        path.reverse();
        matches!(path.first()?.from, Node::Issuer(_)).then_some(path)
    }

    /// A path from the root for every chain that a message was accepted under and that leads to an
    /// issuer.
    pub fn paths(&self) -> impl Iterator<Item = Vec<&Grant>> {
        self.leaves.iter().filter_map(|leaf| self.path(leaf))
    }

    /// Accepted messages for which the records show no path from an issuer to the sender. Always
    /// 0 where every emitter is honest.
    pub fn unfounded(&self) -> u64 {
        self.unfounded
    }

    /// Records that describe a link otherwise than an earlier one did, which stays. Always 0
    /// where every emitter is honest and no certificate has ended meanwhile.
    pub fn contradictions(&self) -> u64 {
        self.contradictions
    }

    fn add_decision(&mut self, emitter: Node, decision: &DecisionEvent) {
        let sender = decision.sender.clone().or(decision.sender_key.clone());
        let from = match sender {
            Some(sender) if decision.claimed => Node::Claimed(sender),
            Some(sender) => Node::Agent(sender),
            None => Node::Unknown,
        };
        let key = Use {
            from,
            to: emitter,
            action: decision.action.clone().unwrap_or_default(),
            subject: without_inbox_tail(&decision.subject),
        };
        if decision.verdict == Word::Deny {
            return self.refuse(key, decision.class.as_deref().unwrap_or("?"), 1);
        }
        self.uses.entry(key).or_default().allowed += 1;
        self.add_chain(decision);
        if !self.is_founded(decision) {
            self.unfounded += 1;
        }
    }

    fn refuse(&mut self, mut key: Use, class: &str, count: u64) {
        if !self.uses.contains_key(&key) {
            if self.refused_uses >= REFUSED_USES_MAX {
                key = overflow(key.to);
            }
            self.refused_uses += 1;
        }
        let refused = &mut self.uses.entry(key).or_default().refused;
        *refused.entry(class.to_owned()).or_default() += count;
    }

    fn add_chain(&mut self, decision: &DecisionEvent) {
        let Some(issuer) = &decision.issuer else {
            return;
        };
        let (mut from, mut above) = (Node::Issuer(issuer.clone()), None);
        for hop in &decision.chain {
            let to = Node::Agent(hop.holder.clone());
            let grant = Grant {
                link: hop.link.clone(),
                above: above.replace(hop.link.clone()),
                from: std::mem::replace(&mut from, to.clone()),
                to,
                scope: hop.scope.clone(),
                until: hop.until,
            };
            let known = self.grants.entry(hop.link.clone()).or_insert(grant.clone());
            if *known != grant {
                self.contradictions += 1;
            }
        }
        self.leaves.extend(above);
    }

    /// Whether the graph leads from the decision's issuer to its sender, by the links it names.
    fn is_founded(&self, decision: &DecisionEvent) -> bool {
        let (Some(leaf), Some(issuer)) = (decision.chain.last(), &decision.issuer) else {
            return false;
        };
        let Some(path) = self.path(&leaf.link) else {
            return false;
        };
        let same = |(grant, hop): (&&Grant, &HopEvent)| grant.link == hop.link;
        decision.sender_key.as_ref() == Some(&leaf.key)
            && path.len() == decision.chain.len()
            && path[0].from == Node::Issuer(issuer.clone())
            && path.iter().zip(&decision.chain).all(same)
    }
}

/// Text from a record, safe for terminals and files: what is not printable ASCII, and the
/// backslash, is written as a Rust escape. Two texts never look the same.
///
/// ```
/// use trustmesh::graph::visible;
///
/// assert_eq!(visible("tasks.index"), "tasks.index");
/// assert_eq!(visible("a\n\\b\u{202e}"), r"a\n\\b\u{202e}");
/// ```
pub fn visible(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        ' '..='~' if c != '\\' => c.to_string(),
        _ => c.escape_default().to_string(),
    });
    escaped.collect()
}

/// The edge for refusals that are only counted.
fn overflow(emitter: Node) -> Use {
    Use {
        from: Node::Unknown,
        to: emitter,
        action: String::new(),
        subject: "(not kept one by one)".to_owned(),
    }
}

/// Every request waits at a subject of its own below the asker's inbox; as a use they are one.
fn without_inbox_tail(subject: &str) -> String {
    match subject.split('.').next() {
        Some(INBOX) => format!("{INBOX}.>"),
        _ => subject.to_owned(),
    }
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
