//! `token`: chains of authority. An authority issues the first link, holders attenuate.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use trustmesh::client::Terms;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::rejection::Place;
use trustmesh::proto::scope::Capability;
use trustmesh::proto::scope::Scope;
use trustmesh::proto::time::ClockSkew;
use trustmesh::services::authority::DEPTH_DEFAULT;

use super::OK;
use super::Outcome;
use super::agent::GRANT_TTL;
use super::agent::scope;
use super::agent::scope_text;
use crate::cli::Global;
use crate::failure::Failure;
use crate::output::BAD;
use crate::output::GOOD;
use crate::output::NAME;
use crate::output::Output;
use crate::output::styled;
use crate::setting::GRANT_FILE;
use crate::setting::Setting;
use crate::setting::now;
use crate::text;

/// Issue grants, and hand parts of them on.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  trustmesh token issue planner --allow 'pub:tasks.>' --ttl 8h
  trustmesh token attenuate reader --agent planner --allow 'req:store.docs.>' --ttl 10m --diff")]
pub enum Token {
    Issue(Issue),
    Attenuate(Attenuate),
}

/// Issue a root grant to an enrolled agent, in place of the one it has.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  trustmesh token issue planner                     the same scope again, from now
  trustmesh token issue planner --allow 'pub:tasks.>' --ttl 8h --depth 1")]
pub struct Issue {
    /// The agent.
    holder: String,
    /// What it may do; may be repeated. The scope of its present grant by default.
    #[arg(long, value_name = "CAPABILITY")]
    allow: Vec<String>,
    /// How long it lasts.
    #[arg(long, default_value = GRANT_TTL, value_parser = text::duration, value_name = "DURATION")]
    ttl: Duration,
    /// How many links may follow it.
    #[arg(long, default_value_t = DEPTH_DEFAULT, value_name = "N")]
    depth: u8,
    #[command(flatten)]
    how: How,
}

/// Hand some of an agent's authority to another agent. It can only become less.
#[derive(Args, Debug)]
#[command(after_help = "Without --out the chain is printed as base64.

Examples:
  trustmesh token attenuate reader --agent planner --allow 'req:store.docs.>' --ttl 10m
  trustmesh token attenuate reader --agent planner --allow 'req:store.>' --diff --dry-run")]
pub struct Attenuate {
    /// Who receives it.
    peer: String,
    /// What it may do; may be repeated.
    #[arg(long, required = true, value_name = "CAPABILITY")]
    allow: Vec<String>,
    /// How long it lasts.
    #[arg(long, default_value = "10m", value_parser = text::duration, value_name = "DURATION")]
    ttl: Duration,
    /// How many links may follow it.
    #[arg(long, default_value_t = 0, value_name = "N")]
    depth: u8,
    /// A chain that was handed to the agent, instead of its own grant.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

#[derive(Args, Debug)]
struct How {
    /// Write the chain to this new file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Show what is granted (+), held and not granted (-), or both.
    #[arg(long)]
    diff: bool,
    /// Check everything, and write nothing.
    #[arg(long)]
    dry_run: bool,
}

pub fn run(command: Token, global: &Global, output: &Output) -> Outcome {
    let setting = Setting::of(global)?;
    match command {
        Token::Issue(args) => issue(&args, &setting, output),
        Token::Attenuate(args) => attenuate(&args, &setting, output),
    }
}

fn issue(args: &Issue, setting: &Setting, output: &Output) -> Outcome {
    let (authority, trust) = (setting.authority()?, setting.trust()?);
    let home = setting.open()?;
    let agent = agent_id(&args.holder)?;
    let key = trust
        .live_key(&agent, now()?, ClockSkew::default(), Place::Certificate)
        .map_err(|rejection| Failure::about_agent(rejection, format!("a grant for {agent}")))?;
    let old = home.grant(&agent).ok();
    let scope = match (&args.allow[..], &old) {
        ([], Some(old)) => old.leaf().scope().clone(),
        ([], None) => {
            return Err(
                Failure::usage(format!("{agent} has no grant here to renew"))
                    .next("say what it may do: --allow 'pub:orders.>'")
                    .into(),
            );
        }
        (texts, _) => scope(texts)?,
    };
    let chain = authority.grant(&key, scope, args.depth, args.ttl)?;
    if args.how.diff {
        let held = old.as_ref().map(|old| old.leaf().scope());
        diff(held, chain.leaf().scope(), output)?;
    }
    let place = match &args.how.out {
        Some(path) => path.clone(),
        None => home.agent_directory(&agent).join(GRANT_FILE),
    };
    if !args.how.dry_run {
        match &args.how.out {
            Some(path) => write_new(path, &chain)?,
            None => authority.save_grant(setting.path(), agent.as_str(), &chain)?,
        }
    }
    tell(&chain, &agent, Some(&place), args.how.dry_run, output)
}

fn attenuate(args: &Attenuate, setting: &Setting, output: &Output) -> Outcome {
    let identity = setting.identity()?;
    let trust = identity.trust().current();
    let peer = agent_id(&args.peer)?;
    let held = match &args.from {
        Some(path) => super::publish::chain(path)?,
        None => identity.grant().clone(),
    };
    let asked = format!(
        "{} for {peer}, for {}, {}",
        args.allow.join(" "),
        text::span(u64::try_from(args.ttl.as_millis()).unwrap_or(u64::MAX)),
        text::may_follow(args.depth)
    );
    let refused = |denied: trustmesh::Denied| {
        Failure::about_agent(denied.0, asked.clone()).holding(&held, &trust)
    };
    let scope = scope(&args.allow)?;
    let now = now()?;
    let credential = identity.credential(held.clone(), now).map_err(refused)?;
    let terms = Terms {
        scope,
        ttl: args.ttl,
        depth: args.depth,
        now,
        skew: ClockSkew::default(),
    };
    let chain = identity
        .delegate(&credential, &peer, terms)
        .map_err(refused)?;
    if args.how.diff {
        diff(Some(held.leaf().scope()), chain.leaf().scope(), output)?;
    }
    match &args.how.out {
        _ if args.how.dry_run => tell(&chain, &peer, None, true, output),
        Some(path) => {
            write_new(path, &chain)?;
            tell(&chain, &peer, Some(path), false, output)
        }
        None => {
            let text = data_encoding::BASE64.encode(chain.bytes());
            output.result(&text, &facts(&chain, &peer, None, false))?;
            Ok(OK)
        }
    }
}

fn agent_id(text: &str) -> anyhow::Result<AgentId> {
    AgentId::parse(text).map_err(|why| {
        Failure::usage(format!("{text:?} names no agent: {why}"))
            .next("trustmesh agent list")
            .into()
    })
}

fn write_new(path: &Path, chain: &Chain) -> anyhow::Result<()> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, chain.bytes()))
        .map_err(|why| {
            Failure::usage(format!("cannot write {}: {why}", path.display()))
                .next("give the name of a new file")
                .into()
        })
}

/// What each new capability is part of, and what was held and is not handed on.
fn diff(held: Option<&Scope>, new: &Scope, output: &Output) -> anyhow::Result<()> {
    let held = held.map(Scope::capabilities).unwrap_or_default();
    let kept = |old: &Capability| new.capabilities().contains(old);
    for old in held.iter().filter(|old| !kept(old)) {
        output.line(styled(BAD, format_args!("- {old}")))?;
    }
    for capability in new.capabilities() {
        if held.contains(capability) {
            output.line(format_args!("  {capability}"))?;
        } else {
            output.line(styled(GOOD, format_args!("+ {capability}")))?;
        }
    }
    Ok(())
}

fn facts(chain: &Chain, to: &AgentId, place: Option<&Path>, dry_run: bool) -> serde_json::Value {
    let leaf = chain.leaf();
    let scope = leaf.scope().to_strings();
    serde_json::json!({
        "link": leaf.id().to_string(),
        "holder": to.as_str(),
        "scope": scope,
        "from": leaf.validity().from().as_millis(),
        "until": leaf.validity().until().as_millis(),
        "remaining": leaf.remaining(),
        "depth": chain.depth(),
        "file": place,
        "chain": (place.is_none() && !dry_run).then(|| data_encoding::BASE64.encode(chain.bytes())),
        "dry_run": dry_run,
    })
}

fn tell(
    chain: &Chain,
    to: &AgentId,
    place: Option<&Path>,
    dry_run: bool,
    output: &Output,
) -> Outcome {
    let leaf = chain.leaf();
    let verb = if dry_run { "would issue" } else { "issued" };
    output.line(format_args!("{verb} to {}", styled(NAME, to)))?;
    output.line(format_args!("  scope  {}", scope_text(chain)))?;
    output.line(format_args!(
        "  until  {}",
        text::utc(leaf.validity().until())
    ))?;
    output.line(format_args!(
        "  depth  {}",
        text::may_follow(leaf.remaining())
    ))?;
    output.line(format_args!("  link   {}", leaf.id()))?;
    if let Some(place) = place.filter(|_| !dry_run) {
        output.line(format_args!("  file   {}", place.display()))?;
    }
    output.object(&facts(chain, to, place, dry_run))?;
    Ok(OK)
}
