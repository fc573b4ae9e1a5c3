//! `sub`: receive verified messages, and see what is refused.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;
use trustmesh::AuditOptions;
use trustmesh::Client;
use trustmesh::Identity;
use trustmesh::Subject;
use trustmesh::bus::Bus as _;
use trustmesh::bus::BusSubscriber;

use super::OK;
use super::Outcome;
use super::can_i::group;
use super::can_i::pattern;
use crate::cli::Global;
use crate::failure::Failure;
use crate::failure::UNREACHABLE;
use crate::output::Output;
use crate::setting::Setting;
use crate::text;
use crate::traffic;

/// Print verified messages with the authority behind them, and refusals with their reason.
#[derive(Args, Debug)]
#[command(after_help = "Exit code 3 when --timeout comes before --count.

Examples:
  trustmesh sub 'orders.>' --agent worker
  trustmesh sub 'orders.>' --agent worker --count 1 --timeout 10s --json")]
pub struct Sub {
    /// The subjects to listen on; wildcards are * and >.
    pattern: String,
    /// As a member of this queue group.
    #[arg(long, value_name = "GROUP")]
    queue: Option<String>,
    /// Share the replay memory with the group's other processes and with earlier runs; needs JetStream.
    #[arg(long)]
    shared_replay: bool,
    /// End after this many verified messages.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after this long.
    #[arg(long, value_parser = text::duration, value_name = "DURATION")]
    timeout: Option<Duration>,
    /// Save every frame that arrives, verified or not, in this directory as 1.tmsh, 2.tmsh, …
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
}

pub async fn run(args: &Sub, global: &Global, output: &Output) -> Outcome {
    let setting = Setting::of(global)?;
    pattern(&args.pattern)?;
    args.queue.as_deref().map_or(Ok(()), group)?;
    let (identity, client) = setting.connect(AuditOptions::default(), output).await?;
    traffic::stay(&client);
    let listened = listen(args, &setting, &identity, &client, output).await;
    traffic::ended(&client, listened).await
}

async fn listen(
    args: &Sub,
    setting: &Setting,
    identity: &Identity,
    client: &Client,
    output: &Output,
) -> Outcome {
    let mut decisions = client.audit();
    let asked = || format!("sub {}", args.pattern);
    let messages = traffic::subscription(client, &args.pattern, &args.queue, args.shared_replay);
    let messages = messages.subscribe().await;
    let mut messages = messages.map_err(|e| traffic::explain(e, asked(), identity))?;
    let mut recorder = match &args.save {
        Some(directory) => Some(Recorder::start(setting, &args.pattern, directory).await?),
        None => None,
    };
    client.flush().await?;
    let end = traffic::asked_to_end();
    tokio::pin!(end);
    output.note(format_args!(
        "listening on {} as {}",
        args.pattern,
        client.id()
    ));
    let timeout = traffic::after(args.timeout);
    tokio::pin!(timeout);
    let trust = identity.trust();
    let mut seen = 0;
    let mut code = OK;
    while args.count.is_none_or(|count| seen < count) {
        tokio::select! {
            message = messages.next() => {
                let Some(message) = message else { break };
                traffic::show_message(&message, &trust.current(), output)?;
                seen += 1;
            }
            record = decisions.next() => {
                if let Some(record) = record {
                    traffic::show_refusal(&record, output)?;
                }
            }
            saved = Recorder::next(&mut recorder) => saved?,
            () = &mut timeout => {
                // Without a number to wait for, the time asked for is all there is to wait for.
                code = if args.count.is_some() { UNREACHABLE } else { OK };
                break;
            }
            () = &mut end => break,
        }
    }
    // What was refused just before the end is still told.
    client.flush_audit().await;
    while let Some(record) = decisions.try_next() {
        traffic::show_refusal(&record, output)?;
    }
    traffic::finish(client).await?;
    if code == UNREACHABLE {
        let text = format!("{seen} verified messages came in time");
        return Err(Failure::unreachable(text).next("trustmesh check").into());
    }
    Ok(code)
}

/// Writes down what anybody on the bus could.
struct Recorder {
    frames: BusSubscriber,
    directory: PathBuf,
    number: u64,
}

impl Recorder {
    async fn start(setting: &Setting, pattern: &str, directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let bus = setting.bus().await?;
        let frames = bus
            .subscribe(Subject::from(pattern.to_owned()), None)
            .await?;
        bus.flush().await?;
        Ok(Self {
            frames,
            directory: directory.to_owned(),
            number: 0,
        })
    }

    /// Saves the next frame; waits for ever when there is no recorder.
    async fn next(this: &mut Option<Self>) -> anyhow::Result<()> {
        let Some(recorder) = this else {
            return std::future::pending().await;
        };
        let Some(delivery) = recorder.frames.next().await else {
            return std::future::pending().await;
        };
        loop {
            recorder.number += 1;
            let path = recorder.directory.join(format!("{}.tmsh", recorder.number));
            let mut options = std::fs::OpenOptions::new();
            match options.write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    std::io::Write::write_all(&mut file, &delivery.payload)?;
                    return Ok(());
                }
                // An earlier recording stays.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
