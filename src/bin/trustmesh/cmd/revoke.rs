//! `revoke`: take authority back.

use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use trustmesh::AuditOptions;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::trust::TrustState;

use super::OK;
use super::Outcome;
use crate::cli::Global;
use crate::failure::Failure;
use crate::operator;
use crate::operator::Operation;
use crate::operator::Target;
use crate::output::Output;
use crate::reach::Reach;
use crate::setting::Setting;
use crate::text;

/// Revoke a link, a key or an agent, for good. Everything delegated below it dies with it.
#[derive(Args, Debug)]
#[command(
    after_help = "In a served mesh everybody knows within seconds, and at once where a message arrives; in a mesh of signed
files, agents learn of it when they read the files again. With --agent, an agent takes back a link that
it signed, through the verifier service; --chain is a chain that has it. trustmesh inspect shows ids.

Examples:
  trustmesh revoke planner
  trustmesh revoke link:9f3c… --agent planner --chain reader.chain"
)]
pub struct Revoke {
    /// An agent's id, a key (U… or did:key:…), or the id of a link; link:…, key:… and agent:… say which.
    #[arg(value_name = "LINK|KEY|AGENT")]
    target: String,
    /// The chain that has the link, when an agent takes it back.
    #[arg(long, value_name = "FILE")]
    chain: Option<PathBuf>,
    /// Say what would be revoked, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

pub fn run(args: &Revoke, global: &Global, output: &Output) -> Outcome {
    let setting = Setting::of(global)?;
    if let Some(path) = &args.chain {
        return super::wait_for(by_agent(args, path, &setting, output));
    }
    // Says what is missing, where the keys are not here.
    setting.authority()?;
    by_operator(args, &setting, output)
}

fn by_operator(args: &Revoke, setting: &Setting, output: &Output) -> Outcome {
    let target = find(&args.target, &*setting.trust()?)?;
    let (kind, id) = (target.kind(), target.id().to_owned());
    let operation = Operation::Revoke { target };
    let done = match args.dry_run {
        true => operator::rehearse(setting.path(), &operation)?,
        false => operator::change(setting.path(), &operation)?,
    };
    tell((kind, &id), done.reach.word(), args.dry_run, output)?;
    done.reach.tell(setting, output)?;
    Ok(OK)
}

/// An agent takes back what it gave.
async fn by_agent(args: &Revoke, path: &Path, setting: &Setting, output: &Output) -> Outcome {
    let chain = super::publish::chain(path)?;
    let text = args.target.strip_prefix("link:").unwrap_or(&args.target);
    let id = ObjectId(digits(text)?);
    let index = chain.links().iter().position(|link| link.id() == id);
    let index = index.ok_or_else(|| {
        Failure::usage(format!("{} has no link {id}", path.display())).next(format!(
            "trustmesh inspect {} shows its links",
            path.display()
        ))
    })?;
    let mut reach = Reach::Nowhere;
    if !args.dry_run {
        let (_, client) = setting.connect(AuditOptions::default(), output).await?;
        let revoked = client.revoke_link(&chain, index).await;
        let revoked = revoked.map_err(crate::traffic::explain_service);
        crate::traffic::ended(&client, revoked).await?;
        crate::traffic::finish(&client).await?;
        // The service answers once it has published.
        reach = Reach::Published;
    }
    tell(
        ("link", &id.to_string()),
        reach.word(),
        args.dry_run,
        output,
    )?;
    Ok(OK)
}

fn tell(
    (kind, id): (&str, &str),
    reach: &str,
    dry_run: bool,
    output: &Output,
) -> anyhow::Result<()> {
    let verb = match dry_run {
        true => "would revoke",
        false => "revoked",
    };
    output.line(format_args!("{verb} the {kind} {id}, and all below it"))?;
    output.object(&serde_json::json!({
        "kind": kind, "id": id, "reach": reach, "dry_run": dry_run,
    }))
}

/// A word can be an id, a key or a link; what it cannot be decided from is refused.
fn find(text: &str, trust: &TrustState) -> anyhow::Result<Target> {
    if let Some(id) = text.strip_prefix("link:") {
        return Ok(Target::Link(ObjectId(digits(id)?).to_string()));
    }
    if let Some(key) = text.strip_prefix("key:") {
        return Ok(Target::Key(key_of(key)?.to_string()));
    }
    if let Some(id) = text.strip_prefix("agent:") {
        return agent(id, trust);
    }
    if text.starts_with("did:key:") || KeyBytes::from_nkey(text).is_ok() {
        return Ok(Target::Key(key_of(text)?.to_string()));
    }
    match digits(text) {
        Ok(bytes) if trust.certificate(&KeyBytes(bytes)).is_some() => {
            Ok(Target::Key(KeyBytes(bytes).to_string()))
        }
        Ok(_) => Err(
            Failure::usage("64 digits that are no registered key: a link, or a key?")
                .next(format!("trustmesh revoke link:{text}, or key:{text}"))
                .into(),
        ),
        Err(_) => agent(text, trust),
    }
}

/// An agent that does not exist is a slip of the pen, and revoking it would help nobody.
fn agent(text: &str, trust: &TrustState) -> anyhow::Result<Target> {
    let id = AgentId::parse(text)
        .map_err(|why| Failure::usage(format!("{text:?} names no agent, key or link: {why}")))?;
    if trust.certificates_of(&id).is_empty() {
        return Err(Failure::usage(format!("no agent {text:?} in this mesh"))
            .next("trustmesh agent list")
            .into());
    }
    Ok(Target::Agent(id.to_string()))
}

fn key_of(text: &str) -> anyhow::Result<KeyBytes> {
    let key = text::public_key(text).map_err(Failure::usage)?;
    Ok(key.bytes())
}

fn digits(text: &str) -> anyhow::Result<[u8; 32]> {
    data_encoding::HEXLOWER_PERMISSIVE
        .decode(text.as_bytes())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Failure::usage(format!("{text:?} is not 64 hexadecimal digits")).into())
}
