//! `audit`: what everybody decided.

use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use futures_util::StreamExt as _;
use trustmesh::AuditOptions;
use trustmesh::Client;
use trustmesh::Denied;
use trustmesh::Identity;
use trustmesh::audit::AuditItem;
use trustmesh::proto::audit::AuditEvent;
use trustmesh::proto::audit::AuditRecord;
use trustmesh::proto::audit::Word;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::subject::SubjectPattern;

use super::OK;
use super::Outcome;
use crate::cli::Global;
use crate::failure::Failure;
use crate::output::BAD;
use crate::output::Output;
use crate::output::styled;
use crate::setting::Setting;
use crate::text;
use crate::traffic;

/// A record contradicts another.
const TAMPERED: u8 = 20;
/// Records are missing.
const INCOMPLETE: u8 = 21;

/// Read the audit of the mesh.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  trustmesh audit tail --agent auditor
  trustmesh audit tail --agent auditor --denied")]
pub enum Audit {
    Tail(Tail),
}

/// Print decisions as they are made. Every gap and contradiction is printed too.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit code 20 when records contradict one another, 21 when some are missing, 3 when --timeout comes
before --count.

Examples:
  trustmesh audit tail --agent auditor
  trustmesh audit tail --agent auditor --class Replay --emitter store --json"
)]
pub struct Tail {
    /// Only what this agent decided; may be repeated.
    #[arg(long, value_name = "ID")]
    emitter: Vec<String>,
    /// Only refusals of this class; may be repeated.
    #[arg(long, value_name = "CLASS", value_parser = class)]
    class: Vec<Class>,
    /// Only refusals.
    #[arg(long)]
    denied: bool,
    /// Only decisions about these subjects.
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    subject: Option<SubjectPattern>,
    /// End after this many records.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after this long.
    #[arg(long, value_parser = text::duration, value_name = "DURATION")]
    timeout: Option<Duration>,
}

fn class(text: &str) -> Result<Class, String> {
    Class::ALL
        .into_iter()
        .find(|class| class.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| "no such class: trustmesh why lists them".to_owned())
}

fn pattern(text: &str) -> Result<SubjectPattern, String> {
    SubjectPattern::parse(text).map_err(|why| why.to_string())
}

pub async fn run(command: Audit, global: &Global, output: &Output) -> Outcome {
    let Audit::Tail(args) = command;
    let setting = Setting::of(global)?;
    let (identity, client) = setting.connect(AuditOptions::default(), output).await?;
    traffic::stay(&client);
    let read = tail(&args, &identity, &client, output).await;
    traffic::ended(&client, read).await
}

async fn tail(args: &Tail, identity: &Identity, client: &Client, output: &Output) -> Outcome {
    let items = trustmesh::audit::subscribe(client).await;
    let asked = || "sub trustmesh.audit.*".to_owned();
    let mut items = items.map_err(|error| traffic::explain(error, asked(), identity))?;
    client.flush().await?;
    let end = traffic::asked_to_end();
    tokio::pin!(end);
    output.note(format_args!("reading the audit as {}", client.id()));
    let timeout = traffic::after(args.timeout);
    tokio::pin!(timeout);
    let (mut seen, mut code) = (0, OK);
    while args.count.is_none_or(|count| seen < count) {
        tokio::select! {
            item = items.next() => {
                let Some(item) = item else { break };
                seen += u64::from(show(&item, args, &mut code, output)?);
            }
            () = &mut timeout => break,
            () = &mut end => break,
        }
    }
    traffic::finish(client).await?;
    match (code, args.count) {
        (OK, Some(count)) if seen < count => {
            let text = format!("{seen} records came in time");
            Err(Failure::unreachable(text).next("trustmesh check").into())
        }
        _ => Ok(code),
    }
}

/// Prints an item; says whether it was a record that was asked for.
fn show(
    item: &Result<AuditItem, Denied>,
    args: &Tail,
    code: &mut u8,
    output: &Output,
) -> anyhow::Result<bool> {
    let (problem, text) = match item {
        Ok(AuditItem::Record(record)) => {
            let wanted = args.wants(record);
            if wanted {
                output.result(traffic::audit_line(record), record)?;
            }
            return Ok(wanted);
        }
        Ok(AuditItem::Duplicate { emitter, seq, .. }) => {
            (OK, format!("{emitter} #{seq} came twice"))
        }
        Ok(AuditItem::Missing {
            emitter, from, to, ..
        }) => (
            INCOMPLETE,
            format!("{emitter} #{from} up to #{to} are missing"),
        ),
        Ok(AuditItem::Fork { emitter, seq, .. }) => (
            TAMPERED,
            format!("{emitter} #{seq} does not follow what came before it"),
        ),
        Ok(other) => (TAMPERED, format!("{other:?}")),
        Err(denied) => (OK, format!("somebody sent what is no audit: {denied}")),
    };
    *code = match (*code, problem) {
        (TAMPERED, _) | (_, TAMPERED) => TAMPERED,
        (old, new) => old.max(new),
    };
    output.note(format_args!(
        "{} {}",
        styled(BAD, "!"),
        text::visible(&text)
    ));
    Ok(false)
}

impl Tail {
    fn wants(&self, record: &AuditRecord) -> bool {
        let of_emitter = self.emitter.is_empty() || self.emitter.contains(&record.emitter);
        of_emitter && self.wants_event(&record.event)
    }

    fn wants_event(&self, event: &AuditEvent) -> bool {
        let choosy = self.denied || !self.class.is_empty() || self.subject.is_some();
        let class_wanted = |name: &str| {
            self.class.is_empty() || self.class.iter().any(|class| class.name() == name)
        };
        match event {
            AuditEvent::Decision(decision) => {
                let denied = decision.verdict == Word::Deny;
                let class = decision.class.as_deref();
                (denied || !self.denied && self.class.is_empty())
                    && class.is_none_or(class_wanted)
                    && self.subject_wanted(&decision.subject)
            }
            AuditEvent::Withdrawn { class, .. } | AuditEvent::Aggregate { class, .. } => {
                class_wanted(class) && self.subject.is_none()
            }
            // What is lost may be what was asked for.
            AuditEvent::Gap { .. } => true,
            _ => !choosy,
        }
    }

    fn subject_wanted(&self, subject: &str) -> bool {
        self.subject.as_ref().is_none_or(|pattern| {
            Subject::parse(subject).is_ok_and(|subject| pattern.matches(&subject))
        })
    }
}
