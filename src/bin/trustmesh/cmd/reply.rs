//! `reply`: answer requests by hand.

use std::convert::Infallible;

use bytes::Bytes;
use clap::Args;
use tokio::sync::mpsc;
use trustmesh::AuditOptions;
use trustmesh::Message;

use super::OK;
use super::Outcome;
use super::can_i::pattern;
use crate::cli::Global;
use crate::output::Output;
use crate::setting::Setting;
use crate::traffic;

/// Answer every verified request, with a fixed text or with what was asked.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  trustmesh reply 'tools.search' '[]' --agent searcher
  trustmesh reply 'tools.>' --echo --agent searcher --queue tools")]
pub struct Reply {
    /// Where, with wildcards if wanted.
    pattern: String,
    /// The answer.
    #[arg(required_unless_present = "echo")]
    payload: Option<String>,
    /// Answer with the payload of the request.
    #[arg(long, conflicts_with = "payload")]
    echo: bool,
    /// As a member of this queue group.
    #[arg(long, value_name = "GROUP")]
    queue: Option<String>,
    /// End after this many requests.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

pub async fn run(args: &Reply, global: &Global, output: &Output) -> Outcome {
    let setting = Setting::of(global)?;
    pattern(&args.pattern)?;
    let (identity, client) = setting.connect(AuditOptions::default(), output).await?;
    let mut decisions = client.audit();
    let (requests, mut seen) = mpsc::channel(64);
    let fixed = args
        .payload
        .as_ref()
        .map(|text| Bytes::copy_from_slice(text.as_bytes()));
    let answer = move |message: Message| {
        let answer = fixed.clone().unwrap_or_else(|| message.payload.clone());
        let requests = requests.clone();
        async move {
            // The command is ending when nobody counts any more; the answer still goes out.
            let _ = requests.send(message).await;
            Ok::<_, Infallible>(answer)
        }
    };
    let service = match &args.queue {
        Some(group) => {
            client
                .queue_serve(args.pattern.clone(), group.clone(), answer)
                .await
        }
        None => client.serve(args.pattern.clone(), answer).await,
    };
    let asked = format!("serve {}", args.pattern);
    let service = service.map_err(|error| traffic::explain(error, asked, &identity))?;
    client.flush().await?;
    output.note(format_args!(
        "answering on {} as {}",
        args.pattern,
        client.id()
    ));
    let end = traffic::asked_to_end();
    tokio::pin!(end);
    let mut count = 0;
    while args.count.is_none_or(|most| count < most) {
        tokio::select! {
            Some(message) = seen.recv() => {
                traffic::show_message(&message, &identity.trust().current(), output)?;
                count += 1;
            }
            record = decisions.next() => {
                if let Some(record) = record {
                    traffic::show_refusal(&record, output)?;
                }
            }
            () = &mut end => break,
        }
    }
    // Answers that are being made are finished first.
    service.stop().await;
    traffic::finish(&client).await?;
    Ok(OK)
}
