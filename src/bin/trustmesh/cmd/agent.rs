//! `agent`: who belongs to the mesh.

use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use serde::Serialize;
use trustmesh::client::home::Home;
use trustmesh::proto::certificate::Certificate;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::envelope::inbox_prefix;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::rejection::Place;
use trustmesh::proto::scope::InvalidScope;
use trustmesh::proto::scope::Scope;
use trustmesh::proto::subject::SubjectPattern;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::TrustState;
use trustmesh::services::authority::DEPTH_DEFAULT;

use super::OK;
use super::Outcome;
use crate::cli::Global;
use crate::failure::Failure;
use crate::failure::verdict;
use crate::operator;
use crate::operator::NewAgent;
use crate::operator::Operation;
use crate::output::NAME;
use crate::output::Output;
use crate::output::styled;
use crate::output::table;
use crate::setting::Setting;
use crate::setting::now;
use crate::text;

/// How long a grant lasts, unless something else is asked for: a day, less the minute it is
/// backdated by.
pub const GRANT_TTL: &str = "23h59m";

/// Enrol agents, and see who is enrolled.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  trustmesh agent add planner --allow 'pub:tasks.>' --allow 'req+delegate:tools.>'
  trustmesh agent list")]
pub enum Agent {
    Add(Add),
    List(List),
    Show(Show),
}

/// Enrol an agent: make its key, certify it, and grant it a scope.
#[derive(Args, Debug)]
#[command(
    after_help = "A capability is ACTION[+ACTION…]:PATTERN with the actions pub, sub, req, serve, delegate.

Examples:
  trustmesh agent add planner --allow 'pub:tasks.>'
  trustmesh agent add team/reader --allow 'req+delegate:store.docs.>' --depth 1 --ttl 2h"
)]
pub struct Add {
    /// Its id, for example planner or team/reader.
    id: String,
    /// What it may do; may be repeated.
    #[arg(long, required = true, value_name = "CAPABILITY")]
    allow: Vec<String>,
    /// How many links may follow its own grant.
    #[arg(long, default_value_t = DEPTH_DEFAULT, value_name = "N")]
    depth: u8,
    /// How long the grant lasts.
    #[arg(long, default_value = GRANT_TTL, value_parser = text::duration, value_name = "DURATION")]
    ttl: Duration,
    /// Check everything, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// List the agents of the mesh.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  trustmesh agent list
  trustmesh agent list --json")]
pub struct List {}

/// Show everything about one agent.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  trustmesh agent show planner
  trustmesh agent show planner --json")]
pub struct Show {
    /// Its id.
    id: String,
}

pub fn run(command: Agent, global: &Global, output: &Output) -> Outcome {
    let setting = Setting::of(global)?;
    match command {
        Agent::Add(args) => add(&args, &setting, output),
        Agent::List(_) => list(&setting, output),
        Agent::Show(args) => show(&args.id, &setting, output),
    }
}

/// Reads capabilities, naming the one that is none.
pub fn scope(texts: &[String]) -> anyhow::Result<Scope> {
    let mut capabilities = Vec::new();
    for text in texts {
        let capability = text.parse().map_err(|why| {
            // Where exactly a pattern is wrong, the pattern itself says.
            let pattern = text.split_once(':').map(|(_, p)| SubjectPattern::parse(p));
            let why = match (why, pattern) {
                (InvalidScope::Pattern, Some(Err(pattern))) => pattern.to_string(),
                (other, _) => other.to_string(),
            };
            Failure::usage(format!("{text:?} is no capability: {why}"))
                .next("write it like pub:orders.> or req+delegate:store.docs.>")
        })?;
        capabilities.push(capability);
    }
    Ok(Scope::new(capabilities)?)
}

fn add(args: &Add, setting: &Setting, output: &Output) -> Outcome {
    // Says what is wrong before anything is asked of anybody.
    scope(&args.allow)?;
    setting.authority()?;
    let operation = Operation::Agent(NewAgent {
        id: args.id.clone(),
        allow: args.allow.clone(),
        depth: args.depth,
        grant_ttl_ms: u64::try_from(args.ttl.as_millis()).unwrap_or(u64::MAX),
        token_ttl_ms: 0,
    });
    let done = match args.dry_run {
        true => operator::rehearse(setting.path(), &operation)?,
        false => operator::change(setting.path(), &operation)?,
    };
    let grant = done.grant.as_deref().unwrap_or_default().as_bytes();
    let grant = Chain::parse(data_encoding::BASE64.decode(grant)?.into())?;
    let verb = if args.dry_run {
        "would enrol"
    } else {
        "enrolled"
    };
    let (holder, until) = (grant.leaf().holder(), grant.leaf().validity().until());
    let (key, end) = (holder.to_nkey(), text::utc(until));
    output.line(format_args!("{verb} {}", styled(NAME, &args.id)))?;
    output.line(format_args!("  key    {key}"))?;
    output.line(format_args!("  grant  {} until {end}", scope_text(&grant)))?;
    output.object(&serde_json::json!({
        "id": args.id, "key": holder.to_string(), "nkey": key,
        "grant": grant.leaf().id().to_string(), "until": until.as_millis(),
        "reach": done.reach.word(), "dry_run": args.dry_run,
    }))?;
    done.reach.settled()?;
    Ok(OK)
}

/// Says what to do about an id that is enrolled already, or is none.
pub fn taken(error: trustmesh::services::authority::AuthorityError, id: &str) -> anyhow::Error {
    use trustmesh::services::authority::AuthorityError;
    match error {
        AuthorityError::Taken => Failure::usage(format!("{id:?} is enrolled already"))
            .next(format!(
                "trustmesh token issue {id} --allow … gives it another grant"
            ))
            .into(),
        AuthorityError::AgentId(why) => Failure::usage(format!("{id:?} names no agent: {why}"))
            .next("write it like planner or team/reader")
            .into(),
        other => other.into(),
    }
}

/// What is known of one agent.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    spiffe: String,
    key: String,
    nkey: String,
    did: String,
    inbox: String,
    certificate: String,
    from: u64,
    until: u64,
    standing: String,
    score: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<Grant>,
}

#[derive(Serialize)]
struct Grant {
    link: String,
    scope: Vec<String>,
    depth: u8,
    from: u64,
    until: u64,
}

impl<'a> Row<'a> {
    fn of(certificate: &'a Certificate, trust: &TrustState, now: Timestamp) -> Self {
        let claims = certificate.claims();
        let id = certificate.agent();
        Self {
            id: id.as_str(),
            spiffe: format!("spiffe://{}/agent/{id}", trust.root().name()),
            key: claims.key.to_string(),
            nkey: claims.key.to_nkey(),
            did: certificate.key().to_did_key(),
            inbox: inbox_prefix(&claims.key),
            certificate: certificate.id().to_string(),
            from: claims.validity.from().as_millis(),
            until: claims.validity.until().as_millis(),
            standing: standing(certificate, trust, now),
            score: trust.score(id),
            grant: None,
        }
    }

    fn with_grant(self, chain: Option<Chain>) -> Self {
        let grant = chain.map(|chain| {
            let leaf = chain.leaf();
            Grant {
                link: leaf.id().to_string(),
                scope: leaf.scope().to_strings(),
                depth: leaf.remaining(),
                from: leaf.validity().from().as_millis(),
                until: leaf.validity().until().as_millis(),
            }
        });
        Self { grant, ..self }
    }
}

/// `live`, or what stands in the way.
pub fn standing(certificate: &Certificate, trust: &TrustState, now: Timestamp) -> String {
    let place = Place::Certificate;
    let standing = trust
        .check_standing(&certificate.claims().key, now, ClockSkew::default(), place)
        .and_then(|certificate| trust.revocations().check_agent(certificate, now, place));
    match standing {
        Ok(()) => "live".to_owned(),
        Err(rejection) => rejection.class().name().to_owned(),
    }
}

fn list(setting: &Setting, output: &Output) -> Outcome {
    let (home, now) = (setting.open()?, now()?);
    let trust = setting.trust()?;
    let mut certificates: Vec<_> = trust.certificates().collect();
    certificates.sort_by_key(|certificate| certificate.agent().clone());
    let mut rows = Vec::new();
    for certificate in certificates {
        let row = Row::of(certificate, &trust, now);
        let grant = home.grant(certificate.agent()).ok();
        rows.push([
            row.id.to_owned(),
            row.standing.clone(),
            text::short(&row.key).to_owned(),
            grant
                .as_ref()
                .map_or_else(|| "-".into(), |grant| left(grant, now)),
            grant.as_ref().map_or_else(|| "-".into(), scope_text),
        ]);
        output.object(&row.with_grant(grant))?;
    }
    if rows.is_empty() {
        output.note("no agents yet: trustmesh agent add");
    } else {
        output.line(table(["ID", "STANDING", "KEY", "GRANT", "SCOPE"], rows))?;
    }
    Ok(OK)
}

fn show(id: &str, setting: &Setting, output: &Output) -> Outcome {
    let (home, now) = (setting.open()?, now()?);
    let trust = setting.trust()?;
    let agent = AgentId::parse(id)
        .map_err(|why| Failure::usage(format!("{id:?} names no agent: {why}")))?;
    let certificates = trust.certificates_of(&agent);
    if certificates.is_empty() {
        let text = format!("no agent {id:?} in {}", setting.path().display());
        return Err(Failure::usage(text).next("trustmesh agent list").into());
    }
    for certificate in certificates {
        show_one(certificate, &home, &trust, now, output)?;
    }
    Ok(OK)
}

fn show_one(
    certificate: &Certificate,
    home: &Home,
    trust: &TrustState,
    now: Timestamp,
    output: &Output,
) -> anyhow::Result<()> {
    let row = Row::of(certificate, trust, now);
    let grant = home.grant(certificate.agent()).ok();
    output.line(styled(NAME, row.id))?;
    let line = |name: &str, text: String| output.line(format_args!("  {name:<12} {text}"));
    line("standing", row.standing.clone())?;
    line("spiffe", row.spiffe.clone())?;
    line("key", row.key.clone())?;
    line("nkey", row.nkey.clone())?;
    line("did", row.did.clone())?;
    line("inbox", format!("{}.>", row.inbox))?;
    let window = |from, until| {
        let (from, until) = (Timestamp::from_millis(from), Timestamp::from_millis(until));
        format!("{} to {}", text::utc(from), text::utc(until))
    };
    line("certificate", window(row.from, row.until))?;
    if let Some(score) = row.score {
        line("score", score.to_string())?;
    }
    match &grant {
        Some(chain) => {
            let validity = chain.leaf().validity();
            let window = window(validity.from().as_millis(), validity.until().as_millis());
            line("grant", scope_text(chain))?;
            line(
                "",
                format!("{window}, {}", text::may_follow(chain.leaf().remaining())),
            )?;
        }
        None => line("grant", "not in this directory".to_owned())?,
    }
    output.object(&row.with_grant(grant))
}

/// What the last link of a chain allows.
pub fn scope_text(chain: &Chain) -> String {
    chain.leaf().scope().to_strings().join(" ")
}

fn left(chain: &Chain, now: Timestamp) -> String {
    let until = chain.leaf().validity().until();
    match verdict_at(chain, now) {
        Some(text) => text,
        None => format!("{} left", text::span(until.since(now))),
    }
}

fn verdict_at(chain: &Chain, now: Timestamp) -> Option<String> {
    let checked = chain.check_validity(now, ClockSkew::default());
    checked.err().map(|rejection| {
        let text = verdict(&rejection);
        text.split(' ').next().unwrap_or_default().to_owned()
    })
}
