//! `join-token`: let an agent that makes its own key join a served mesh.

use std::io::IsTerminal as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use trustmesh::keyfile;
use trustmesh::keyfile::KeyFileError;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::join::JoinToken;
use trustmesh::services::authority::Authority;
use trustmesh::services::authority::DEPTH_DEFAULT;
use trustmesh::services::authority::JoinTerms;

use super::OK;
use super::Outcome;
use super::agent::GRANT_TTL;
use super::agent::scope;
use crate::cli::Global;
use crate::failure::Failure;
use crate::output::NAME;
use crate::output::Output;
use crate::output::WARN;
use crate::output::styled;
use crate::setting::Setting;
use crate::text;

/// Make a token with which one agent can join a served mesh, once
#[derive(Args, Debug)]
#[command(
    after_help = "The token is a secret, and printed unless --out names a file for it. It works whether or not the verifier
service runs now.

Examples:
  trustmesh join-token --id planner --allow 'pub:tasks.>' --out planner.token
  trustmesh join-token --allow 'sub:tasks.>' | ssh host trustmesh enroll worker --token-file -"
)]
pub struct MakeToken {
    /// The agent it is for; without it, the agent chooses a free id.
    #[arg(long, value_name = "ID", value_parser = agent_id)]
    id: Option<AgentId>,
    #[command(flatten)]
    terms: Terms,
    /// How long the token is good for.
    #[arg(long, default_value = "1h", value_parser = text::duration, value_name = "DURATION")]
    ttl: Duration,
    /// Who asked for it: with this agent, its token is revoked as well.
    #[arg(long, value_name = "ID", value_parser = agent_id)]
    sponsor: Option<AgentId>,
    /// Write it to this new file, readable by its owner alone.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Check everything, and make no token.
    #[arg(long)]
    dry_run: bool,
}

/// What an agent is given when it joins, and again at each renewal.
#[derive(Args, Clone, Debug)]
pub struct Terms {
    /// What it may do; may be repeated.
    #[arg(long, value_name = "CAPABILITY")]
    pub allow: Vec<String>,
    /// How many links may follow its grants.
    #[arg(long, default_value_t = DEPTH_DEFAULT, value_name = "N")]
    pub depth: u8,
    /// How long each grant lasts; it is renewed while the agent runs.
    #[arg(long, default_value = GRANT_TTL, value_parser = text::duration, value_name = "DURATION")]
    pub grant_ttl: Duration,
}

impl Terms {
    /// The terms of a token for an agent.
    pub fn of(&self, agent: Option<AgentId>) -> anyhow::Result<JoinTerms> {
        if self.allow.is_empty() {
            return Err(Failure::usage("nothing is allowed: what may it do?")
                .next("say it: --allow 'pub:orders.>'")
                .into());
        }
        let terms = JoinTerms::new(scope(&self.allow)?);
        Ok(JoinTerms {
            agent,
            depth: self.depth,
            grant_ttl: self.grant_ttl,
            ..terms
        })
    }
}

/// Reads an agent's id.
pub fn agent_id(text: &str) -> Result<AgentId, String> {
    AgentId::parse(text).map_err(|why| format!("it names no agent: {why}"))
}

pub fn run(args: &MakeToken, global: &Global, output: &Output) -> Outcome {
    let setting = Setting::of(global)?;
    let authority = setting.authority()?;
    let terms = JoinTerms {
        ttl: args.ttl,
        sponsor: args.sponsor.clone(),
        ..args.terms.of(args.id.clone())?
    };
    let token = sign(&authority, &terms)?;
    tell(&token, args.out.as_deref(), args.dry_run, output)
}

/// Makes a token with the registrar's key.
pub fn sign(authority: &Authority, terms: &JoinTerms) -> anyhow::Result<JoinToken> {
    if !authority.is_served() {
        return Err(
            Failure::config("the mesh is a static one: there is no service to join by")
                .next("trustmesh agent add enrols an agent in a mesh of signed files")
                .into(),
        );
    }
    Ok(authority.join_token(terms)?)
}

/// Prints a token, or writes it to a file.
pub fn tell(token: &JoinToken, out: Option<&Path>, dry_run: bool, output: &Output) -> Outcome {
    let claims = token.claims();
    let who = claims.agent.as_ref().map(AgentId::as_str);
    let scope = claims.scope.to_strings();
    let until = text::utc(claims.until);
    let mut facts = serde_json::json!({
        "token_id": token.id().to_string(), "agent": who, "scope": scope, "depth": claims.depth,
        "until": claims.until.as_millis(), "out": out, "dry_run": dry_run,
    });
    let whose = styled(NAME, who.unwrap_or("whoever has it first"));
    let what = format!("token for {whose}: {}, until {until}", scope.join(" "));
    match out {
        _ if dry_run => output.result(format_args!("would make a {what}"), &facts)?,
        Some(path) => {
            keyfile::create_text(path, &format!("{}\n", &*token.to_text())).map_err(unwritable)?;
            let path = path.display();
            output.result(format_args!("made a {what}\n  in {path}"), &facts)?;
        }
        None => {
            facts["token"] = (*token.to_text()).clone().into();
            output.result(&*token.to_text(), &facts)?;
            output.note(format_args!("made a {what}"));
            if std::io::stdout().is_terminal() {
                let warning = styled(WARN, "warning:");
                output.note(format_args!(
                    "{warning} it is a secret, and on this screen: --out FILE keeps it in a file"
                ));
            }
        }
    }
    Ok(OK)
}

fn unwritable(error: KeyFileError) -> anyhow::Error {
    match error {
        KeyFileError::Exists { path } => {
            let text = format!("{} exists already", path.display());
            Failure::usage(text)
                .next("give the name of a new file")
                .into()
        }
        other => other.into(),
    }
}
