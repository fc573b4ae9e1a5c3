//! `request`: ask, and get a verified answer.

use std::time::Duration;

use clap::Args;
use trustmesh::AuditOptions;
use trustmesh::bus::RequestErrorKind;

use super::OK;
use super::Outcome;
use super::can_i::concrete;
use super::publish::Envelope;
use crate::cli::Global;
use crate::failure::Failure;
use crate::output::Output;
use crate::setting::Setting;
use crate::text;
use crate::traffic;

/// Sign a request, and print the verified answer.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  trustmesh request tools.search 'rust' --agent planner
  trustmesh request tools.search - --agent planner --timeout 30s < query.json")]
pub struct Request {
    /// Where to.
    subject: String,
    /// What; - is standard input.
    payload: String,
    #[command(flatten)]
    envelope: Envelope,
    /// How long to wait for the answer.
    #[arg(long, default_value = "5s", value_parser = text::duration, value_name = "DURATION")]
    timeout: Duration,
}

pub async fn run(args: &Request, global: &Global, output: &Output) -> Outcome {
    let setting = Setting::of(global)?;
    concrete(&args.subject)?;
    let payload = traffic::payload(&args.payload)?;
    let (identity, client) = setting.connect(AuditOptions::default(), output).await?;
    let mut decisions = client.audit();
    let draft = client.compose(args.subject.clone()).payload(payload);
    let draft = args.envelope.put_on(draft, &identity)?;
    let answer = draft.timeout(Some(args.timeout)).request().await;
    client.flush_audit().await;
    // Answers that were refused are no result, but they explain a missing one.
    while let Some(record) = decisions.try_next() {
        traffic::show_refusal(&record, output)?;
    }
    let asked = format!("req {}", args.subject);
    let answer = answer.map_err(|error| match error.kind() {
        RequestErrorKind::NoResponders => {
            Failure::unreachable(format!("nobody listens on {}", args.subject))
                .next("start the responder: trustmesh reply SUBJECT …")
                .into()
        }
        _ => traffic::explain(error, asked, &identity),
    })?;
    traffic::show_message(&answer, &identity.trust().current(), output)?;
    traffic::finish(&client).await?;
    Ok(OK)
}
