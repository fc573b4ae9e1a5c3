//! `reply`: answer requests by hand.

use std::convert::Infallible;

use bytes::Bytes;
use clap::Args;
use tokio::sync::mpsc;
use trustmesh::AuditOptions;
use trustmesh::Client;
use trustmesh::Identity;
use trustmesh::Message;

use super::OK;
use super::Outcome;
use super::can_i::group;
use super::can_i::pattern;
use crate::cli::Global;
use crate::output::Output;
use crate::setting::Setting;
use crate::traffic;

/// Answer every verified request, with a fixed text or with what was asked.
#[derive(Args, Debug)]
#[command(after_help = "The agent needs sub, to be asked, and serve, to answer.

Examples:
  trustmesh reply 'tools.search' '[]' --agent searcher
  trustmesh reply 'tools.>' --echo --agent searcher --queue tools")]
pub struct Reply {
    /// The subjects to answer on; wildcards are * and >.
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
    /// Share the replay memory with the group's other processes and with earlier runs; needs JetStream.
    #[arg(long)]
    shared_replay: bool,
    /// End after this many requests.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

pub async fn run(args: &Reply, global: &Global, output: &Output) -> Outcome {
    let setting = Setting::of(global)?;
    pattern(&args.pattern)?;
    args.queue.as_deref().map_or(Ok(()), group)?;
    let (identity, client) = setting.connect(AuditOptions::default(), output).await?;
    traffic::stay(&client);
    let answered = answer(args, &identity, &client, output).await;
    traffic::ended(&client, answered).await
}

async fn answer(args: &Reply, identity: &Identity, client: &Client, output: &Output) -> Outcome {
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
    let service = traffic::subscription(client, &args.pattern, &args.queue, args.shared_replay);
    let service = service.serve(answer).await;
    let asked = format!("sub+serve {}", args.pattern);
    let service = service.map_err(|error| traffic::explain(error, asked, identity))?;
    client.flush().await?;
    let end = traffic::asked_to_end();
    tokio::pin!(end);
    output.note(format_args!(
        "answering on {} as {}",
        args.pattern,
        client.id()
    ));
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
    traffic::finish(client).await?;
    Ok(OK)
}
