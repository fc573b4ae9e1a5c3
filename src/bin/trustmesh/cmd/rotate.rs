//! `rotate`: another key for an agent.
//!
//! What is new is complete beside the old before anything is replaced, so that a rotation that was
//! interrupted is completed by the next one:
//!
//! ```text
//! next.pem    the new key, before it is asked for
//! next.chain  its grant
//! next.bin    its certificate, last: from then on there is no way back
//! ```

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use trustmesh::AuditOptions;
use trustmesh::Client;
use trustmesh::client::home::Home;
use trustmesh::client::plane::Rotated;
use trustmesh::keyfile;
use trustmesh::keyfile::KeyFileError;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::join::JoinToken;

use super::OK;
use super::Outcome;
use super::agent::scope;
use super::join_token;
use super::join_token::Terms;
use super::join_token::agent_id;
use crate::cli::Global;
use crate::failure::Failure;
use crate::operator;
use crate::operator::NewAgent;
use crate::operator::Operation;
use crate::output::NAME;
use crate::output::Output;
use crate::output::styled;
use crate::setting::Setting;
use crate::text;
use crate::traffic;

/// Give an agent another key; with --recover, let one whose key is lost join again
#[derive(Args, Debug)]
#[command(
    after_help = "The agent's own rotation keeps the old key working for the service's grace. --recover is the operator's: it
revokes the agent's keys at once, and makes a token with which the agent enrolls again, under a new key.

Examples:
  trustmesh rotate planner
  trustmesh rotate planner --recover --allow 'pub:tasks.>' --out planner.token"
)]
pub struct Rotate {
    /// The agent.
    #[arg(value_parser = agent_id)]
    id: AgentId,
    /// Revoke its keys and make a join token for it, where the role keys are.
    #[arg(long)]
    recover: bool,
    #[command(flatten)]
    terms: Terms,
    /// How long the token is good for.
    #[arg(long, default_value = "1h", value_parser = text::duration, value_name = "DURATION")]
    ttl: Duration,
    /// Write the token to this new file, readable by its owner alone.
    #[arg(long, value_name = "FILE", requires = "recover")]
    out: Option<PathBuf>,
    /// Check everything, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

pub fn run(args: &Rotate, global: &Global, output: &Output) -> Outcome {
    let global = Global {
        agent: Some(args.id.to_string()),
        ..global.clone()
    };
    let setting = Setting::of(&global)?;
    if args.recover {
        return recover(args, &setting, output);
    }
    if !args.terms.allow.is_empty() {
        return Err(
            Failure::usage("--allow goes with --recover: a rotation changes no scope").into(),
        );
    }
    super::wait_for(rotate(args, &setting, output))
}

fn recover(args: &Rotate, setting: &Setting, output: &Output) -> Outcome {
    // Says what is missing, where the keys are not here.
    setting.authority()?;
    if args.terms.allow.is_empty() {
        return Err(
            Failure::usage(format!("what may {} do from now on?", args.id))
                .next("say it: --allow 'pub:orders.>'; trustmesh agent show tells what it had")
                .into(),
        );
    }
    scope(&args.terms.allow)?;
    if args
        .out
        .as_ref()
        .is_some_and(|path| path.symlink_metadata().is_ok())
    {
        // Before anything is revoked.
        return Err(Failure::usage("the file for the token exists already")
            .next("give the name of a new file")
            .into());
    }
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let operation = Operation::Recover(NewAgent {
        id: args.id.to_string(),
        allow: args.terms.allow.clone(),
        depth: args.terms.depth,
        grant_ttl_ms: millis(args.terms.grant_ttl),
        token_ttl_ms: millis(args.ttl),
    });
    if args.dry_run {
        operator::rehearse(setting.path(), &operation)?;
        output.result(
            format_args!("would revoke the keys of {}, and make a token", args.id),
            &serde_json::json!({"id": args.id.as_str(), "dry_run": true}),
        )?;
        return Ok(OK);
    }
    let done = operator::change(setting.path(), &operation)?;
    let token: JoinToken = done.token.unwrap_or_default().parse()?;
    output.note(format_args!("the keys of {} are revoked", args.id));
    join_token::tell(&token, args.out.as_deref(), false, output)?;
    done.reach.settled()?;
    Ok(OK)
}

async fn rotate(args: &Rotate, setting: &Setting, output: &Output) -> Outcome {
    let next = Next::of(setting, &args.id);
    if args.dry_run {
        let identity = setting.identity()?;
        let id = styled(NAME, &args.id);
        output.result(
            format_args!("would rotate {id} from {}", identity.key().to_nkey()),
            &serde_json::json!({"id": args.id.as_str(), "from": identity.key().to_string(), "dry_run": true}),
        )?;
        return Ok(OK);
    }
    if !next.is_complete() {
        let (_, client) = setting.connect(AuditOptions::default(), output).await?;
        let rotated = ask(&next, &client).await;
        traffic::ended(&client, rotated).await?;
    }
    let key = next.take(&setting.open()?, &args.id)?;
    let nkey = key.public().bytes().to_nkey();
    output.line(format_args!("rotated {}", styled(NAME, &args.id)))?;
    output.line(format_args!("  key    {nkey}"))?;
    output.object(&serde_json::json!({
        "id": args.id.as_str(), "key": key.public().bytes().to_string(), "nkey": nkey,
        "dry_run": false,
    }))?;
    output
        .note("restart what runs as it, and delegate to the new key what was delegated to the old");
    Ok(OK)
}

async fn ask(next: &Next, client: &Client) -> anyhow::Result<()> {
    let key = next.key()?;
    let rotated = client.rotate(&key).await;
    next.keep(&rotated.map_err(traffic::explain_service)?)?;
    traffic::finish(client).await
}

/// What an agent goes on with.
struct Next(PathBuf);

impl Next {
    fn of(setting: &Setting, id: &AgentId) -> Self {
        Self(setting.agent_directory(id))
    }

    fn file(&self, end: &str) -> PathBuf {
        self.0.join(format!("next.{end}"))
    }

    fn is_complete(&self) -> bool {
        self.file("bin").exists()
    }

    /// The key of an earlier try, or a new one.
    fn key(&self) -> anyhow::Result<SigningKey> {
        let path = self.file("pem");
        let key = SigningKey::generate()?;
        match keyfile::create(&path, &key) {
            Ok(()) => Ok(key),
            Err(KeyFileError::Exists { .. }) => Ok(keyfile::load(&path)?),
            Err(error) => Err(error.into()),
        }
    }

    fn keep(&self, rotated: &Rotated) -> anyhow::Result<()> {
        if let Some(grant) = &rotated.grant {
            write(&self.file("chain"), grant.bytes())?;
        }
        write(&self.file("bin"), &rotated.certificate)
    }

    /// Puts everything in place; what is done already is done again.
    fn take(&self, home: &Home, id: &AgentId) -> anyhow::Result<SigningKey> {
        let certificate = std::fs::read(self.file("bin"))?;
        let key = match self.file("pem").exists() {
            true => keyfile::load(&self.file("pem"))?,
            false => keyfile::load(&self.0.join("key.pem"))?,
        };
        if let Ok(grant) = std::fs::read(self.file("chain")) {
            home.store_grant(id, &Chain::parse(grant.into())?)?;
        }
        home.store_certificate(id, &certificate.into())?;
        keyfile::replace(&self.0.join("key.pem"), &key)?;
        // The certificate last: it is what says that there is something to complete.
        for end in ["chain", "pem", "bin"] {
            let path = self.file(end);
            if path.exists() {
                std::fs::remove_file(path)?;
            }
        }
        Ok(key)
    }
}

/// Writes a file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::File::create(&temporary)?;
    std::io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    Ok(std::fs::rename(&temporary, path)?)
}
