//! `revoke`: take authority back.

use clap::Args;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::trust::TrustState;

use super::OK;
use super::Outcome;
use crate::cli::Global;
use crate::failure::Failure;
use crate::output::Output;
use crate::setting::Setting;
use crate::text;

/// Revoke a link, a key or an agent, for good. Everything delegated below it dies with it.
#[derive(Args, Debug)]
#[command(
    after_help = "In a mesh of signed files, agents learn of a revocation when they read the files again.

Examples:
  trustmesh revoke planner
  trustmesh revoke link:9f3c… --dry-run    the ids of links: trustmesh inspect"
)]
pub struct Revoke {
    /// An agent's id, a key (U… or did:key:…), or the id of a link; link:…, key:… and agent:… say which.
    #[arg(value_name = "LINK|KEY|AGENT")]
    target: String,
    /// Say what would be revoked, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

enum Target {
    Link(ObjectId),
    Key(KeyBytes),
    Agent(AgentId),
}

pub fn run(args: &Revoke, global: &Global, output: &Output) -> Outcome {
    let setting = Setting::of(global)?;
    let mut authority = setting.authority()?;
    let trust = setting.trust()?;
    let target = find(&args.target, &trust)?;
    let (kind, id) = match &target {
        Target::Link(id) => ("link", id.to_string()),
        Target::Key(key) => ("key", key.to_string()),
        Target::Agent(id) => ("agent", id.to_string()),
    };
    match target {
        Target::Link(id) => authority.revoke_link(id)?,
        Target::Key(key) => authority.revoke_key(key)?,
        Target::Agent(id) => authority.revoke_agent(id.as_str())?,
    }
    if !args.dry_run {
        authority.save(setting.path())?;
    }
    let verb = if args.dry_run {
        "would revoke"
    } else {
        "revoked"
    };
    output.line(format_args!("{verb} the {kind} {id}, and all below it"))?;
    output.object(&serde_json::json!({"kind": kind, "id": id, "dry_run": args.dry_run}))?;
    if !args.dry_run {
        let trust = setting.path().join("trust");
        output.note(format_args!(
            "agents elsewhere learn of it once they have the new {} and read it",
            trust.display()
        ));
    }
    Ok(OK)
}

/// A word can be an id, a key or a link; what it cannot be decided from is refused.
fn find(text: &str, trust: &TrustState) -> anyhow::Result<Target> {
    if let Some(id) = text.strip_prefix("link:") {
        return Ok(Target::Link(ObjectId(digits(id)?)));
    }
    if let Some(key) = text.strip_prefix("key:") {
        return Ok(Target::Key(key_of(key)?));
    }
    if let Some(id) = text.strip_prefix("agent:") {
        return agent(id, trust);
    }
    if text.starts_with("did:key:") || KeyBytes::from_nkey(text).is_ok() {
        return Ok(Target::Key(key_of(text)?));
    }
    match digits(text) {
        Ok(bytes) if trust.certificate(&KeyBytes(bytes)).is_some() => {
            Ok(Target::Key(KeyBytes(bytes)))
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
    Ok(Target::Agent(id))
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
