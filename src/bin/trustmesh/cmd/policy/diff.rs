//! `policy diff`: what one policy says that another does not.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use trustmesh::proto::policy::Agents;
use trustmesh::proto::policy::Policy;

use super::conduct;
use super::conduct::Section;
use super::read;
use crate::cmd::OK;
use crate::cmd::Outcome;
use crate::output::BAD;
use crate::output::GOOD;
use crate::output::Output;
use crate::output::WARN;
use crate::output::styled;
use crate::text::visible;

/// The policies differ.
const DIFFERENT: u8 = 1;

/// Compare two policy files: rules, ceilings, lists, approvals and what conduct costs.
#[derive(Args, Debug)]
#[command(
    after_help = "The order of rules and how the files are written make no difference. Exit code \
    0 when both say the same, 1 when they differ.

Examples:
  trustmesh policy diff old.json new.json
  trustmesh policy diff old.json new.json --json"
)]
pub struct Diff {
    /// The one file, JSON.
    old: PathBuf,
    /// The other file, JSON.
    new: PathBuf,
}

/// What a policy says of one kind, by name.
type Entries = BTreeMap<String, String>;

/// A kind of entry, and how a policy's are found.
type Kind = (&'static str, fn(&Policy) -> Entries);

/// One thing that one policy says and the other does not.
#[derive(Debug, Serialize)]
struct Difference {
    change: &'static str,
    what: &'static str,
    name: String,
    old: Option<String>,
    new: Option<String>,
}

pub fn run(args: &Diff, output: &Output) -> Outcome {
    let differences = differences(&read(&args.old)?, &read(&args.new)?);
    for difference in &differences {
        difference.tell(output)?;
        output.object(difference)?;
    }
    if differences.is_empty() {
        output.line("both say the same")?;
        return Ok(OK);
    }
    Ok(DIFFERENT)
}

impl Difference {
    fn tell(&self, output: &Output) -> anyhow::Result<()> {
        let (what, name) = (self.what, visible(&self.name));
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => {
                output.line(format_args!("{} {what} {name}", styled(WARN, "~")))?;
                output.line(format_args!("    was {old}"))?;
                output.line(format_args!("    is  {new}"))
            }
            (None, Some(new)) => {
                output.line(format_args!("{} {what} {name}: {new}", styled(GOOD, "+")))
            }
            (old, None) => {
                let old = old.as_deref().unwrap_or_default();
                output.line(format_args!("{} {what} {name}: {old}", styled(BAD, "-")))
            }
        }
    }
}

fn differences(old: &Policy, new: &Policy) -> Vec<Difference> {
    let kinds: [Kind; 7] = [
        ("ceiling", ceilings),
        ("blocked", |policy| listed(policy.blocked())),
        ("allowed", |policy| allowed(policy.allowed())),
        ("rule", rules),
        ("approval", approval),
        ("scores", |policy| numbers(&conduct::scores(policy))),
        ("quarantine", |policy| numbers(&conduct::quarantine(policy))),
    ];
    let mut out = Vec::new();
    for (what, of) in kinds {
        let (old, new) = (of(old), of(new));
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let (old, new) = (old.get(name).cloned(), new.get(name).cloned());
            let change = match (&old, &new) {
                (Some(old), Some(new)) if old == new => continue,
                (Some(_), Some(_)) => "changed",
                (None, _) => "added",
                (_, None) => "removed",
            };
            let name = name.clone();
            out.push(Difference {
                change,
                what,
                name,
                old,
                new,
            });
        }
    }
    out
}

fn ceilings(policy: &Policy) -> Entries {
    let ttl = policy.ttl();
    let entries = [
        ("envelope_ms", u64::from(ttl.envelope_ms)),
        ("grant_ms", ttl.grant_ms),
        ("delegation_ms", ttl.delegation_ms),
    ];
    let entries = entries.map(|(name, millis)| (name.to_owned(), format!("{millis} ms")));
    entries.into_iter().collect()
}

fn listed(agents: &Agents) -> Entries {
    let ids = agents.ids().map(|id| (id.to_string(), "agent".to_owned()));
    let keys = agents.keys().map(|key| (key.to_string(), "key".to_owned()));
    ids.chain(keys).collect()
}

/// Whether there is an allow list at all is the greater difference: an empty one stops everybody.
fn allowed(agents: Option<&Agents>) -> Entries {
    let mut entries = agents.map(listed).unwrap_or_default();
    let whom = match agents {
        None => "everybody",
        Some(_) => "those listed",
    };
    entries.insert("agents in general".to_owned(), whom.to_owned());
    entries
}

fn rules(policy: &Policy) -> Entries {
    let rules = policy.rules().iter();
    rules
        .map(|rule| (rule.name().to_owned(), rule.to_string()))
        .collect()
}

fn approval(policy: &Policy) -> Entries {
    let needs = policy.approval().iter();
    needs
        .map(|need| (need.subjects().to_string(), need.actions().to_string()))
        .collect()
}

/// Every number has a value in every policy, so that none is added or removed.
fn numbers(section: &Section) -> Entries {
    let numbers = section.numbers.iter();
    numbers
        .map(|number| (number.name.to_owned(), number.value.to_string()))
        .collect()
}
