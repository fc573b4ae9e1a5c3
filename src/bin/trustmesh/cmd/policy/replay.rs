//! `policy replay`: which decisions of the past another policy would have changed.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::io::BufReader;
use std::io::IsTerminal as _;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use trustmesh::audit::AuditEvent;
use trustmesh::audit::AuditRecord;
use trustmesh::audit::DecisionEvent;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::TrustState;

use super::facts::Fate;
use super::facts::fate;
use super::read;
use crate::cli::Global;
use crate::cmd::OK;
use crate::cmd::Outcome;
use crate::failure::Failure;
use crate::output::BAD;
use crate::output::GOOD;
use crate::output::Output;
use crate::output::styled;
use crate::setting::Setting;
use crate::text;
use crate::text::visible;

/// A decision would change.
const CHANGED: u8 = 1;

/// Longest line of audit: a decision about a chain of nine links comes to about 16 KiB.
const LINE_MAX: u64 = 1024 * 1024;

/// How often a terminal is told how far it is.
const EVERY: Duration = Duration::from_secs(1);

/// Say which recorded decisions a policy would have changed.
#[derive(Args, Debug)]
#[command(
    after_help = "Reads what trustmesh audit tail --json prints. A record does not hold all that \
    policy asks about, such as ages, lifetimes, scores, sessions and rates; where one of these \
    decides, the decision is counted as one that cannot be told, unless the policy of then is \
    given and asked for as much: with --old as a file, with --mesh for the decisions that were \
    made under the policy of that mesh, by its epoch. Exit code 0 when no decision would change, \
    1 when one would.

Examples:
  trustmesh policy replay new.json --audit audit.jsonl
  trustmesh policy replay new.json --audit audit.jsonl --old old.json --json"
)]
pub struct Replay {
    /// The policy to try, JSON.
    new: PathBuf,
    /// The recorded audit, JSON lines; - for standard input.
    #[arg(long, value_name = "FILE")]
    audit: PathBuf,
    /// The policy under which all the decisions were made, JSON.
    #[arg(long, value_name = "FILE", conflicts_with = "mesh")]
    old: Option<PathBuf>,
    /// A mesh directory: its policy, for the decisions that were made under it.
    #[arg(long, value_name = "DIR")]
    mesh: Option<PathBuf>,
}

/// How many decisions had which fate.
#[derive(Debug, Default, Serialize)]
struct Tally {
    decisions: u64,
    same: u64,
    refused: u64,
    allowed: u64,
    cannot_tell: BTreeMap<&'static str, u64>,
    /// Refusals that were only counted, and events that were lost.
    not_recorded: u64,
    /// Records of other things than decisions.
    others: u64,
}

/// What is known of the policy that decided.
enum Before {
    Unknown,
    File(Box<Policy>),
    State(Arc<TrustState>),
}

impl Before {
    fn of(&self, event: &DecisionEvent) -> Option<&Policy> {
        match self {
            Self::Unknown => None,
            Self::File(policy) => Some(policy),
            Self::State(state) => (state.epochs().policy == event.policy).then(|| state.policy()),
        }
    }
}

#[derive(Serialize)]
struct Change<'a> {
    emitter: &'a str,
    run: &'a str,
    seq: u64,
    time: u64,
    action: Option<&'a str>,
    subject: &'a str,
    sender: Option<&'a str>,
    was: &'static str,
    was_code: Option<u16>,
    would: &'static str,
    code: Option<u16>,
    rules: &'a [String],
}

pub fn run(args: &Replay, global: &Global, output: &Output) -> Outcome {
    let new = read(&args.new)?;
    let in_force = |mesh: &PathBuf| {
        let mut there = global.clone();
        there.home = Some(mesh.clone());
        Setting::of(&there)?.trust()
    };
    let before = match (&args.old, &args.mesh) {
        (Some(file), _) => Before::File(Box::new(read(file)?)),
        (None, Some(mesh)) => Before::State(in_force(mesh)?),
        (None, None) => Before::Unknown,
    };
    let tally = if args.audit.as_os_str() == "-" {
        replay(std::io::stdin().lock(), &new, &before, output)?
    } else {
        let cannot = |why: std::io::Error| {
            Failure::usage(format!("{}: {why}", args.audit.display()))
                .next("trustmesh audit tail --json > FILE records it")
        };
        let file = std::fs::File::open(&args.audit).map_err(cannot)?;
        replay(BufReader::new(file), &new, &before, output)?
    };
    tally.tell(output)?;
    output.object(&serde_json::json!({ "summary": tally }))?;
    let changed = tally.refused + tally.allowed > 0;
    Ok(if changed { CHANGED } else { OK })
}

/// Reads line by line and keeps only counts.
fn replay(
    mut input: impl BufRead,
    new: &Policy,
    before: &Before,
    output: &Output,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let (mut line, mut number) = (Vec::new(), 0u64);
    let (terminal, mut told) = (std::io::stderr().is_terminal(), Instant::now());
    loop {
        line.clear();
        let read = input.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(tally);
        }
        number += 1;
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        if text.is_empty() {
            continue;
        }
        let record = std::str::from_utf8(text).ok().and_then(AuditRecord::parse);
        // A line that is skipped would be a decision that nobody hears of.
        let record = record.ok_or_else(|| {
            Failure::usage(format!("line {number} is no record of audit"))
                .next("trustmesh audit tail --json prints records, a line each")
        })?;
        tally.take(&record, new, before, output)?;
        if terminal && told.elapsed() >= EVERY {
            told = Instant::now();
            output.note(format_args!("{number} records read"));
        }
    }
}

impl Tally {
    fn take(
        &mut self,
        record: &AuditRecord,
        new: &Policy,
        before: &Before,
        output: &Output,
    ) -> anyhow::Result<()> {
        let event = match &record.event {
            AuditEvent::Decision(event) => event,
            AuditEvent::Aggregate { count, .. } | AuditEvent::Gap { count } => {
                self.not_recorded = self.not_recorded.saturating_add(*count);
                return Ok(());
            }
            _ => {
                self.others += 1;
                return Ok(());
            }
        };
        self.decisions += 1;
        match fate(event, new, before.of(event)) {
            Fate::Same => self.same += 1,
            Fate::CannotTell(fact) => *self.cannot_tell.entry(fact).or_default() += 1,
            Fate::Refused { code, rules } => {
                self.refused += 1;
                show(record, event, Some(code), &rules, output)?;
            }
            Fate::Allowed { rules } => {
                self.allowed += 1;
                show(record, event, None, &rules, output)?;
            }
        }
        Ok(())
    }

    fn tell(&self, output: &Output) -> anyhow::Result<()> {
        output.line(format_args!(
            "{} decisions: {} stay, {} would be refused, {} would be allowed, {} cannot be told",
            self.decisions,
            self.same,
            self.refused,
            self.allowed,
            self.cannot_tell.values().sum::<u64>()
        ))?;
        for (fact, count) in &self.cannot_tell {
            output.line(format_args!("  {count}: not recorded is {fact}"))?;
        }
        if self.not_recorded > 0 {
            let text = "decisions were only counted, or lost";
            output.line(format_args!("and {} {text}", self.not_recorded))?;
        }
        Ok(())
    }
}

/// Prints a decision that would change; `code` when it would be refused.
fn show(
    record: &AuditRecord,
    event: &DecisionEvent,
    code: Option<u16>,
    rules: &[String],
    output: &Output,
) -> anyhow::Result<()> {
    let would = match code {
        Some(code) => styled(BAD, format!("would be refused {code}")),
        None => styled(GOOD, "would be allowed"),
    };
    let was = match event.code {
        Some(code) => format!("refused {code}"),
        None => "allowed".to_owned(),
    };
    let by = match rules {
        [] => String::new(),
        rules => format!(" by {}", visible(&rules.join(", "))),
    };
    output.line(format_args!(
        "{} {} #{} {} {} from {}: was {was}, {would}{by}",
        text::utc(Timestamp::from_millis(record.time)),
        visible(&record.emitter),
        record.seq,
        event.action.as_deref().unwrap_or("?"),
        visible(&event.subject),
        visible(event.sender.as_deref().unwrap_or("nobody known")),
    ))?;
    let word = |refused: bool| if refused { "deny" } else { "allow" };
    output.object(&Change {
        emitter: &record.emitter,
        run: &record.run,
        seq: record.seq,
        time: record.time,
        action: event.action.as_deref(),
        subject: &event.subject,
        sender: event.sender.as_deref(),
        was: word(event.code.is_some()),
        was_code: event.code,
        would: word(code.is_some()),
        code,
        rules,
    })
}
