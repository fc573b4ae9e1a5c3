//! `renew`: certificate and grant of an agent for another term.

use clap::Args;
use trustmesh::AuditOptions;
use trustmesh::Client;
use trustmesh::proto::identity::AgentId;

use super::OK;
use super::Outcome;
use super::join_token::agent_id;
use crate::cli::Global;
use crate::output::NAME;
use crate::output::Output;
use crate::output::styled;
use crate::setting::Setting;
use crate::text;
use crate::traffic;

/// Renew an agent's certificate and grant now; sub, reply and audit tail do so by themselves
#[derive(Args, Debug)]
#[command(
    after_help = "A certificate that has expired cannot be renewed any more: trustmesh rotate --recover lets its agent join
again.

Examples:
  trustmesh renew planner
  trustmesh renew planner --json"
)]
pub struct Renew {
    /// The agent, whose key has to be here.
    #[arg(value_parser = agent_id)]
    id: AgentId,
    /// Say until when certificate and grant hold now, and ask for nothing.
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(args: &Renew, global: &Global, output: &Output) -> Outcome {
    let global = Global {
        agent: Some(args.id.to_string()),
        ..global.clone()
    };
    let setting = Setting::of(&global)?;
    if args.dry_run {
        let identity = setting.identity()?;
        let until = identity.grant().leaf().validity().until();
        let id = styled(NAME, &args.id);
        output.result(
            format_args!("would renew {id}; its grant holds until {}", text::utc(until)),
            &serde_json::json!({"id": args.id.as_str(), "grant_until": until.as_millis(), "dry_run": true}),
        )?;
        return Ok(OK);
    }
    let (_, client) = setting.connect(AuditOptions::default(), output).await?;
    let renewed = renew(args, &client, output).await;
    traffic::ended(&client, renewed).await
}

async fn renew(args: &Renew, client: &Client, output: &Output) -> Outcome {
    let certificate = client.renew().await.map_err(traffic::explain_service)?;
    let grant = client
        .renew_grant()
        .await
        .map_err(traffic::explain_service)?;
    traffic::finish(client).await?;
    output.line(format_args!("renewed {}", styled(NAME, &args.id)))?;
    output.line(format_args!(
        "  certificate  until {}",
        text::utc(certificate)
    ))?;
    output.line(format_args!("  grant        until {}", text::utc(grant)))?;
    output.object(&serde_json::json!({
        "id": args.id.as_str(), "certificate_until": certificate.as_millis(),
        "grant_until": grant.as_millis(), "dry_run": false,
    }))?;
    Ok(OK)
}
