//! `enroll`: join a served mesh under a key of one's own.

use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use trustmesh::client::enrol::EnrolError;
use trustmesh::client::enrol::Enrolled;
use trustmesh::client::enrol::Enrolment;
use trustmesh::client::join::fetch_later_roots;
use trustmesh::client::join::fetch_root;
use trustmesh::client::join::joining_key;
use trustmesh::keyfile;
use trustmesh::proto::enrol::EnrolRefused;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::join::JoinToken;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::root::TrustRoot;
use trustmesh::services::authority::Authority;
use zeroize::Zeroizing;

use super::OK;
use super::Outcome;
use super::join_token;
use super::join_token::Terms;
use super::join_token::agent_id;
use super::serve::private_directory;
use crate::cli::Global;
use crate::failure::Failure;
use crate::object;
use crate::output::NAME;
use crate::output::Output;
use crate::output::styled;
use crate::setting::Setting;
use crate::text;

/// A token of one's own that was not used up yet, beside the agent's key.
const PENDING_FILE: &str = "join.token";

/// Join a served mesh: make a key, prove it, and keep what comes back
#[derive(Args, Debug)]
#[command(
    after_help = "The key is made here and never leaves. The trust root comes over the bus, and is the one that the token
pins. After a lost answer the same command again completes it. With --allow the token is made on the
spot, where the mesh directory with its role keys is.

Examples:
  trustmesh enroll planner --token-file planner.token
  trustmesh enroll worker --allow 'sub:tasks.>'"
)]
pub struct Enroll {
    /// The agent's id, for example planner or team/reader.
    #[arg(value_parser = agent_id)]
    id: AgentId,
    /// The join token, in a file; - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["allow", "mesh"])]
    token_file: Option<PathBuf>,
    /// Where the role keys are, when not in the directory the agent is kept in.
    #[arg(long, value_name = "DIR")]
    mesh: Option<PathBuf>,
    #[command(flatten)]
    terms: Terms,
    /// Check token and directory, and join nothing.
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(args: &Enroll, global: &Global, output: &Output) -> Outcome {
    let global = Global {
        agent: Some(args.id.to_string()),
        ..global.clone()
    };
    let setting = Setting::of(&global)?;
    let directory = setting.agent_directory(&args.id);
    let token = match &args.token_file {
        Some(path) => read(path)?,
        None => own(args, &setting, &directory)?,
    };
    if let Some(named) = token.claims().agent.as_ref().filter(|id| **id != args.id) {
        return Err(Failure::enrolment(EnrolRefused::OtherAgent)
            .fact("asked", format!("to join as {}", args.id))
            .fact("held", format!("a token for {named}"))
            .into());
    }
    if args.dry_run {
        let scope = token.claims().scope.to_strings();
        output.result(
            format_args!(
                "would enrol {}: {}",
                styled(NAME, &args.id),
                scope.join(" ")
            ),
            &serde_json::json!({"id": args.id.as_str(), "scope": scope, "dry_run": true}),
        )?;
        return Ok(OK);
    }
    let key = joining_key(setting.path(), &args.id, SigningKey::generate()?)?;
    let bus = setting.bus_of(&key.public().bytes()).await?;
    let root = fetch_root(&token, &bus).await?;
    // Before the token is used up.
    setting.admit(&TrustRoot::parse(&root)?)?;
    let enrolment = Enrolment::new(token, root.clone())
        .led_to(fetch_later_roots(&root, &bus).await?)
        .agent(args.id.clone());
    let enrolled = match enrolment.join(&bus, key).await {
        Ok(enrolled) => enrolled,
        Err(error) => return already(error, args, &setting, output),
    };
    enrolled
        .save(setting.path(), root, setting.admission(), &bus)
        .await?;
    // It is used up; should this fail, it is worth nothing all the same.
    let _ = std::fs::remove_file(directory.join(PENDING_FILE));
    tell(&enrolled, &setting, output)
}

/// A second time, with a token that was used up by the first, changes nothing.
fn already(error: EnrolError, args: &Enroll, setting: &Setting, output: &Output) -> Outcome {
    let reason = match error {
        EnrolError::Refused(reason) => reason,
        EnrolError::TimedOut => {
            return Err(Failure::unreachable("no verifier service answers")
                .fact("server", setting.server().to_owned())
                .next("start it where the role keys are: trustmesh serve")
                .into());
        }
        EnrolError::Token(
            why @ (Rejection::BadSignature { .. } | Rejection::UntrustedRoot { .. }),
        ) => {
            return Err(Failure::refused(why)
                .fact(
                    "held",
                    "a token that no registrar of the mesh signed, or none of today's",
                )
                .next("make another, where the role keys are: trustmesh join-token")
                .into());
        }
        other => return Err(other.into()),
    };
    let held = setting.identity().ok();
    let again = matches!(reason, EnrolRefused::TokenUsed | EnrolRefused::IdTaken);
    match held.filter(|_| again) {
        Some(identity) => {
            let _ = std::fs::remove_file(setting.agent_directory(&args.id).join(PENDING_FILE));
            let id = styled(NAME, &args.id);
            output.result(
                format_args!(
                    "{id} is enrolled here already, under {}",
                    identity.key().to_nkey()
                ),
                &serde_json::json!({
                    "id": args.id.as_str(), "key": identity.key().to_string(), "already": true,
                }),
            )?;
            Ok(OK)
        }
        None => Err(Failure::enrolment(reason)
            .fact("asked", format!("to join as {}", args.id))
            .into()),
    }
}

fn read(path: &Path) -> anyhow::Result<JoinToken> {
    let bytes = Zeroizing::new(object::read(path)?);
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    text.parse().map_err(|why| {
        Failure::usage(format!("{} holds no join token: {why}", path.display()))
            .next("trustmesh join-token makes one, where the role keys are")
            .into()
    })
}

/// A token made on the spot. It is kept until it is used up, so that after a lost answer the next
/// try is the same enrolment.
fn own(args: &Enroll, setting: &Setting, directory: &Path) -> anyhow::Result<JoinToken> {
    let mesh = args.mesh.as_deref().unwrap_or(setting.path());
    if !mesh.join("authority").is_dir() {
        let text = format!(
            "no role keys in {}: who admits {}?",
            mesh.display(),
            args.id
        );
        return Err(Failure::usage(text)
            .next("give --token-file FILE, with a token from trustmesh join-token")
            .into());
    }
    let terms = args.terms.of(Some(args.id.clone()))?;
    let token = join_token::sign(&Authority::open(mesh)?, &terms)?;
    if args.dry_run {
        return Ok(token);
    }
    let path = directory.join(PENDING_FILE);
    if let Ok(text) = keyfile::load_text(&path)
        && let Ok(pending) = text.parse::<JoinToken>()
        && pending.claims().scope == terms.scope
        && pending.claims().mesh == token.claims().mesh
        && pending.claims().until > crate::setting::now()?
    {
        return Ok(pending);
    }
    private_directory(directory)?;
    keyfile::replace_text(&path, &token.to_text())?;
    Ok(token)
}

fn tell(enrolled: &Enrolled, setting: &Setting, output: &Output) -> Outcome {
    let (id, key) = (&enrolled.agent, enrolled.key.public().bytes());
    output.line(format_args!("enrolled {}", styled(NAME, id)))?;
    output.line(format_args!("  key    {}", key.to_nkey()))?;
    output.line(format_args!("  root   {}", enrolled.root))?;
    let grant = enrolled.grant.as_ref().map(|grant| grant.leaf());
    if let Some(leaf) = grant {
        let (scope, until) = (
            leaf.scope().to_strings(),
            text::utc(leaf.validity().until()),
        );
        output.line(format_args!("  grant  {} until {until}", scope.join(" ")))?;
    }
    output.object(&serde_json::json!({
        "id": id.as_str(), "key": key.to_string(), "nkey": key.to_nkey(),
        "root": enrolled.root.to_string(), "home": setting.path(), "already": false,
        "grant": grant.map(|leaf| leaf.id().to_string()),
        "scope": grant.map(|leaf| leaf.scope().to_strings()),
        "until": grant.map(|leaf| leaf.validity().until().as_millis()),
    }))?;
    if grant.is_none() {
        output.note("it has no authority of its own: others have to delegate to it");
    }
    Ok(OK)
}
