//! `pub`: send a signed message by hand.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use trustmesh::AuditOptions;
use trustmesh::Client;
use trustmesh::Draft;
use trustmesh::HeaderMap;
use trustmesh::Identity;
use trustmesh::bus::Bus as _;
use trustmesh::bus::Outgoing;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::limits::CHAIN_MAX;
use trustmesh::proto::rejection::Place;
use trustmesh::proto::time::ClockSkew;

use super::OK;
use super::Outcome;
use super::can_i::concrete;
use crate::cli::Global;
use crate::failure::Failure;
use crate::output::Output;
use crate::setting::Setting;
use crate::setting::now;
use crate::text;
use crate::traffic;

/// Largest frame that is read from a file: what nats-server takes by default.
const FRAME_MAX: u64 = 1024 * 1024;

/// Sign a message and publish it.
#[derive(Args, Debug)]
#[command(
    after_help = "With --frame, bytes recorded by sub --save are published as they are: nothing is signed.
Receivers refuse what does not verify; that is a way to see them do it.

Examples:
  trustmesh pub orders.new '{\"id\": 7}' --agent planner
  trustmesh pub orders.new --frame seen/1.tmsh"
)]
pub struct Pub {
    /// Where to.
    subject: String,
    /// What; - is standard input.
    #[arg(required_unless_present = "frame")]
    payload: Option<String>,
    #[command(flatten)]
    envelope: Envelope,
    /// Publish the bytes of this file, unsigned and as nobody.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["payload", "to", "header", "grant", "ttl"])]
    frame: Option<PathBuf>,
}

/// What goes on an envelope besides subject and payload.
#[derive(Args, Debug)]
pub struct Envelope {
    /// The one agent it is meant for.
    #[arg(long, value_name = "ID")]
    to: Option<String>,
    /// A header, signed with the message; may be repeated.
    #[arg(long, value_name = "NAME:VALUE")]
    header: Vec<String>,
    /// A chain to hand over with it, from token attenuate; may be repeated.
    #[arg(long, value_name = "FILE")]
    grant: Vec<PathBuf>,
    /// For how long it may be accepted.
    #[arg(long, value_parser = text::duration, value_name = "DURATION")]
    ttl: Option<Duration>,
}

pub async fn run(args: &Pub, global: &Global, output: &Output) -> Outcome {
    let setting = Setting::of(global)?;
    concrete(&args.subject)?;
    if let Some(path) = &args.frame {
        return replay(&setting, &args.subject, path, output).await;
    }
    let payload = traffic::payload(args.payload.as_deref().unwrap_or("-"))?;
    let (identity, client) = setting.connect(AuditOptions::default(), output).await?;
    let length = payload.len();
    let draft = client.compose(args.subject.clone()).payload(payload);
    let draft = args.envelope.put_on(draft, &identity)?;
    draft
        .publish()
        .await
        .map_err(|error| traffic::explain(error, format!("pub {}", args.subject), &identity))?;
    traffic::finish(&client).await?;
    said(&args.subject, length, &client, output)
}

fn said(subject: &str, length: usize, client: &Client, output: &Output) -> Outcome {
    let agent = client.id();
    output.result(
        format_args!("published {subject} as {agent}, {length} bytes"),
        &serde_json::json!({"subject": subject, "agent": agent.as_str(), "bytes": length}),
    )?;
    Ok(OK)
}

impl Envelope {
    /// Puts everything on a draft.
    pub fn put_on(&self, mut draft: Draft, identity: &Identity) -> anyhow::Result<Draft> {
        if let Some(to) = &self.to {
            let id = AgentId::parse(to)
                .map_err(|why| Failure::usage(format!("{to:?} names no agent: {why}")))?;
            let trust = identity.trust().current();
            let key = trust
                .live_key(&id, now()?, ClockSkew::default(), Place::Handshake)
                .map_err(|rejection| {
                    Failure::refused(rejection).fact("asked", format!("a message for {id}"))
                })?;
            draft = draft.audience(key);
        }
        if !self.header.is_empty() {
            draft = draft.headers(headers(&self.header)?);
        }
        for path in &self.grant {
            draft = draft.grant(&chain(path)?);
        }
        if let Some(ttl) = self.ttl {
            draft = draft.ttl(ttl);
        }
        Ok(draft)
    }
}

fn headers(given: &[String]) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for text in given {
        let bad =
            || Failure::usage(format!("{text:?} is no header")).next("write it like Trace-Id:7");
        let (name, value) = text.split_once(':').ok_or_else(bad)?;
        let name: trustmesh::bus::HeaderName = name.trim().parse().map_err(|_| bad())?;
        let value: trustmesh::bus::HeaderValue = value.trim().parse().map_err(|_| bad())?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Reads a chain, as it was written or as it was printed.
pub fn chain(path: &Path) -> anyhow::Result<Chain> {
    let cannot = |why: String| {
        Failure::usage(format!(
            "cannot read a chain from {}: {why}",
            path.display()
        ))
    };
    let bytes = read(path, 2 * CHAIN_MAX as u64).map_err(|why| cannot(why.to_string()))?;
    let binary = data_encoding::BASE64
        .decode(bytes.trim_ascii())
        .unwrap_or(bytes);
    Ok(Chain::parse(binary.into()).map_err(|rejection| cannot(rejection.to_string()))?)
}

fn read(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, most), &mut bytes)?;
    Ok(bytes)
}

/// Publishes bytes as they are.
async fn replay(setting: &Setting, subject: &str, path: &Path, output: &Output) -> Outcome {
    let frame = read(path, FRAME_MAX)
        .map_err(|why| Failure::usage(format!("cannot read {}: {why}", path.display())))?;
    let length = frame.len();
    let bus = setting.bus().await?;
    bus.publish(Outgoing::new(subject.to_owned(), frame))
        .await?;
    bus.flush().await?;
    bus.drain().await?;
    output.result(
        format_args!("published {length} bytes to {subject} as they are; nothing was signed"),
        &serde_json::json!({"subject": subject, "bytes": length, "signed": false}),
    )?;
    Ok(OK)
}
