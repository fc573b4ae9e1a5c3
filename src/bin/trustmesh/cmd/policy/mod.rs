//! `policy`: what the mesh permits beyond what was granted.

pub mod conduct;
mod diff;
mod facts;
mod replay;

use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use trustmesh::proto::policy::Effect;
use trustmesh::proto::policy::Policy as Rules;
use trustmesh::proto::policy::Rule;
use trustmesh::proto::scope::Action;

use super::OK;
use super::Outcome;
use super::can_i::action_named;
use super::can_i::concrete;
use super::can_i::pattern;
use crate::cli::Global;
use crate::failure::Failure;
use crate::failure::class_code;
use crate::operator;
use crate::operator::Operation;
use crate::output::BAD;
use crate::output::GOOD;
use crate::output::Output;
use crate::output::styled;
use crate::setting::Setting;

/// Largest policy file: 256 rules of a few lines each.
const POLICY_FILE_MAX: u64 = 1024 * 1024;

/// Check, explain and compare policies, and put one in force.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  trustmesh policy check policy.json
  trustmesh policy explain req tools.search")]
pub enum Policy {
    Check(Check),
    Explain(Explain),
    Diff(diff::Diff),
    Replay(replay::Replay),
    Push(Push),
}

/// Check a policy file: unknown keys and misspelt actions are errors.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  trustmesh policy check policy.json
  trustmesh policy check policy.json --json")]
pub struct Check {
    /// The file, JSON.
    file: PathBuf,
}

/// Say which rules are about an action on a subject, and what follows.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  trustmesh policy explain req tools.search
  trustmesh policy explain sub 'orders.>' --file policy.json")]
pub struct Explain {
    /// pub, sub, req or serve.
    action: String,
    /// A subject; for sub, a pattern.
    subject: String,
    /// A policy file, instead of the policy in force.
    #[arg(long)]
    file: Option<PathBuf>,
}

/// Sign a policy and put it in force.
#[derive(Args, Debug)]
#[command(
    after_help = "In a served mesh agents follow the new policy at once; in a mesh of signed files, agents follow the new policy when they read the files again.

Examples:
  trustmesh policy push policy.json
  trustmesh policy push policy.json --dry-run"
)]
pub struct Push {
    /// The file, JSON.
    file: PathBuf,
    /// Check everything, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

pub fn run(command: Policy, global: &Global, output: &Output) -> Outcome {
    match command {
        Policy::Check(args) => check(&args.file, output),
        Policy::Explain(args) => explain(&args, global, output),
        Policy::Diff(args) => diff::run(&args, output),
        Policy::Replay(args) => replay::run(&args, global, output),
        Policy::Push(args) => push(&args, global, output),
    }
}

fn read(path: &Path) -> anyhow::Result<Rules> {
    parse(path, &read_text(path)?)
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    let cannot = |why: std::io::Error| Failure::config(format!("{}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(file, POLICY_FILE_MAX), &mut text)
        .map_err(cannot)?;
    Ok(text)
}

fn parse(path: &Path, text: &str) -> anyhow::Result<Rules> {
    let cannot = |why| Failure::config(format!("{}: {why}", path.display()));
    Ok(Rules::from_json(text).map_err(cannot)?)
}

fn check(path: &Path, output: &Output) -> Outcome {
    let policy = read(path)?;
    let count = policy.rules().len();
    output.line(format_args!("{}: {count} rules, sound", path.display()))?;
    for rule in policy.rules() {
        output.line(format_args!("  {}: {rule}", rule.name()))?;
    }
    for need in policy.approval() {
        output.line(format_args!("  needs approval: {need}"))?;
    }
    for section in conduct::said(&policy) {
        output.line(format_args!("  {}: {}", section.name, section.told()))?;
    }
    if count == 0 {
        output.note("a policy without rules denies everything");
    }
    let approval = policy.approval().len();
    output.object(&serde_json::json!({
        "file": path, "rules": count, "approval": approval,
        "scores": conduct::scores(&policy).json(),
        "quarantine": conduct::quarantine(&policy).json(),
        "sound": true,
    }))?;
    Ok(OK)
}

fn explain(args: &Explain, global: &Global, output: &Output) -> Outcome {
    let action = action_named(&args.action)?;
    let state;
    let from_file;
    let policy = match &args.file {
        Some(path) => {
            from_file = read(path)?;
            &from_file
        }
        None => {
            state = Setting::of(global)?.trust()?;
            state.policy()
        }
    };
    let about = rules_about(policy, action, &args.subject)?;
    let denies = about.iter().any(|rule| rule.effect() == Effect::Deny);
    let allows = about.iter().any(|rule| rule.effect() == Effect::Allow);
    let (permitted, why) = match (denies, allows) {
        (true, _) => (false, "a rule denies it, whatever others say"),
        (false, false) => (false, "no rule allows it"),
        (false, true) => (true, "within the limits of every rule below"),
    };
    let verdict = if permitted {
        styled(GOOD, "permitted")
    } else {
        styled(BAD, "denied")
    };
    output.line(format_args!(
        "{verdict}: {} {}: {why}",
        args.action, args.subject
    ))?;
    for rule in &about {
        output.line(format_args!("  {}: {rule}", rule.name()))?;
    }
    let need = approval(policy, action, &args.subject)?;
    if let Some(need) = &need
        && permitted
    {
        output.line(format_args!("  and the chain needs approval: {need}"))?;
    }
    for section in conduct::said(policy).filter(|_| permitted) {
        output.line(format_args!("  with {}: {}", section.name, section.told()))?;
    }
    let names: Vec<_> = about.iter().map(|rule| rule.name()).collect();
    output.object(&serde_json::json!({
        "verdict": if permitted { "allow" } else { "deny" },
        "action": args.action, "subject": args.subject, "rules": names,
        "approval": need,
        "scores": conduct::scores(policy).json(),
        "quarantine": conduct::quarantine(policy).json(),
    }))?;
    Ok(if permitted {
        OK
    } else {
        class_code(trustmesh::proto::rejection::Class::PolicyDenied)
    })
}

/// What makes a message need an approval of its chain; subscriptions need none.
fn approval(policy: &Rules, action: Action, text: &str) -> anyhow::Result<Option<String>> {
    if action == Action::Subscribe {
        return Ok(None);
    }
    let need = policy.asks_for_approval(action, &concrete(text)?);
    Ok(need.map(ToString::to_string))
}

/// The rules that have a say in a message, or in a subscription as a whole.
fn rules_about<'a>(policy: &'a Rules, action: Action, text: &str) -> anyhow::Result<Vec<&'a Rule>> {
    let rules = policy.rules().iter();
    if action != Action::Subscribe {
        let subject = concrete(text)?;
        return Ok(rules
            .filter(|rule| rule.matches(action, &subject))
            .collect());
    }
    let pattern = pattern(text)?;
    let about = |rule: &&Rule| {
        rule.actions().has(action)
            && match rule.effect() {
                // An overlap could deliver what is denied.
                Effect::Deny => rule.subjects().overlaps(&pattern),
                Effect::Allow => rule.subjects().contains(&pattern),
            }
    };
    Ok(rules.filter(about).collect())
}

fn push(args: &Push, global: &Global, output: &Output) -> Outcome {
    let setting = Setting::of(global)?;
    // Says what is missing, where the keys are not here.
    setting.authority()?;
    let text = read_text(&args.file)?;
    let count = parse(&args.file, &text)?.rules().len();
    let operation = Operation::Policy { rules: text };
    let done = match args.dry_run {
        true => operator::rehearse(setting.path(), &operation)?,
        false => operator::change(setting.path(), &operation)?,
    };
    let verb = if args.dry_run { "would sign" } else { "signed" };
    output.line(format_args!(
        "{verb} {}: {count} rules",
        args.file.display()
    ))?;
    output.object(&serde_json::json!({
        "file": args.file, "rules": count, "reach": done.reach.word(), "dry_run": args.dry_run,
    }))?;
    done.reach.tell(&setting, output)?;
    Ok(OK)
}
