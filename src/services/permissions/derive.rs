//! From what an agent may do to what its connection may.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::Connection;
use super::Member;
use super::Mesh;
use super::Omission;
use super::Plan;
use super::PlanError;
use super::Rules;
use super::User;
use super::VERIFIER;
use super::Who;
use super::Why;
use crate::proto::audit::audit_subject;
use crate::proto::envelope::inbox_prefix;
use crate::proto::handshake::handshake_subject;
use crate::proto::identity::KeyBytes;
use crate::proto::names::INBOX;
use crate::proto::names::REPLAY_BUCKET;
use crate::proto::request::Verb;
use crate::proto::request::control_subject;
use crate::proto::request::enrol_subject;
use crate::proto::request::remint_subject;
use crate::proto::scope::Action;
use crate::proto::scope::Capability;
use crate::proto::signing::MeshId;
use crate::proto::subject::Subject;
use crate::proto::subject::SubjectPattern;

/// What of JetStream's interface would change or remove a bucket.
const BUCKET_CHANGES: [&str; 8] = [
    "STREAM.CREATE",
    "STREAM.PURGE",
    "STREAM.UPDATE",
    "STREAM.DELETE",
    "STREAM.RESTORE",
    "STREAM.MSG.DELETE",
    "STREAM.PEER.REMOVE",
    "STREAM.LEADER.STEPDOWN",
];

/// Those of them by which a bucket is made.
const MAKING: usize = 1;

/// Those by which the verifier makes its bucket, and removes parts that nobody needs any more.
const KEEPING: usize = 2;

/// What reads a bucket.
const BUCKET_READS: [&str; 2] = ["STREAM.INFO", "STREAM.MSG.GET"];

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
///     newcomers: None,
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
    let identities = members.iter().flat_map(|member| member.keys.clone());
    let identities: BTreeSet<KeyBytes> = identities.chain(mesh.identities.clone()).collect();
    let users = members.into_iter().map(|member| user(mesh, member));
    let users: Vec<User> = users.chain(newcomers(mesh)).collect();
    let mut seen: BTreeMap<String, &Who> = BTreeMap::new();
    for User {
        who, connection, ..
    } in &users
    {
        if matches!(connection, Connection::Nkey(key) if identities.contains(key)) {
            return Err(PlanError::IdentityKey { who: who.clone() });
        }
        if let Some(first) = seen.insert(connection.user(), who) {
            let (first, second) = (first.clone(), who.clone());
            return Err(PlanError::SharedUser { first, second });
        }
    }
    Ok(Plan {
        mesh: mesh.id,
        users,
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
        who: Who::Agent(member.agent),
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

/// Those who have no certificate yet.
fn newcomers(mesh: &Mesh) -> Option<User> {
    let bucket = bucket(mesh.id);
    let mut publish = apis(&BUCKET_READS, &bucket);
    publish.push(enrol_subject(&mesh.prefix));
    Some(User {
        who: Who::Newcomers,
        connection: mesh.newcomers.clone()?,
        publish: Rules {
            allow: without_repetition(publish),
            deny: Vec::new(),
        },
        subscribe: Rules {
            allow: vec![format!("{INBOX}.*.en.>")],
            deny: Vec::new(),
        },
        omitted: Vec::new(),
    })
}

/// Subjects of JetStream's interface for a bucket.
fn apis(what: &[&str], bucket: &str) -> Vec<String> {
    let subject = |what| format!("$JS.API.{what}.KV_{bucket}");
    what.iter().map(subject).collect()
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
        let (prefix, state) = (&mesh.prefix, bucket(mesh.id));
        let replay = format!("{REPLAY_BUCKET}{}", mesh.id);
        let shake = handshake_subject(prefix, &member.agent, None);
        let mut publish = vec![
            audit_subject(prefix, &member.agent),
            format!("{prefix}.handshake.*"),
            format!("{prefix}.handshake.*.*"),
            format!("{prefix}.agent.*.renew"),
            format!("{INBOX}.*.hs.*"),
            format!("{INBOX}.*.rn.*"),
        ];
        publish.extend(Verb::ALL.map(|verb| control_subject(prefix, verb)));
        publish.extend(apis(&BUCKET_READS, &state));
        let mut subscribe = vec![format!("{shake}.*"), format!("{prefix}.trust"), shake];
        subscribe.push(remint_subject(prefix, &member.agent));
        let inboxes = member.keys.iter().map(inbox_prefix);
        subscribe.extend(inboxes.map(|inbox| format!("{inbox}.>")));
        let may = |action| {
            let mut capabilities = member.capabilities.iter();
            capabilities.any(|given: &Capability| given.actions().has(action))
        };
        if is_verifier || may(Action::Serve) {
            publish.push(format!("{INBOX}.*.>"));
        }
        let claims = format!("$KV.{replay}.>");
        let (made, mut deny) = if may(Action::Subscribe) {
            publish.extend(apis(&BUCKET_READS, &replay));
            publish.push(claims);
            (MAKING, Vec::new())
        } else {
            (0, vec![claims])
        };
        publish.extend(apis(&BUCKET_CHANGES[..made], &replay));
        deny.extend(apis(&BUCKET_CHANGES[made..], &replay));
        let entries = format!("$KV.{state}.>");
        let kept = if is_verifier {
            publish.extend([entries, format!("{prefix}.trust")]);
            subscribe.extend([format!("{prefix}.{VERIFIER}.>"), "$SRV.>".to_owned()]);
            KEEPING
        } else {
            deny.push(entries);
            0
        };
        publish.extend(apis(&BUCKET_CHANGES[..kept], &state));
        deny.extend(apis(&BUCKET_CHANGES[kept..], &state));
        let below = |what: &str| format!("{prefix}.{what}.>");
        let no_subscribe = ["handshake", VERIFIER, "agent"].map(below).to_vec();
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
