//! `context`: named sets of home, agent and server.

use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use serde::Serialize;

use super::OK;
use super::Outcome;
use crate::cli::Global;
use crate::contexts::Context as Entry;
use crate::contexts::Contexts;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::table;
use crate::setting::without_credentials;

/// Name a mesh, an agent and a server once, and leave them out afterwards.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  trustmesh context use shop --home /srv/shop --agent planner
  trustmesh context ls")]
pub enum Context {
    Ls(Ls),
    Use(Use),
    Show(Show),
}

/// List the contexts; the one in use has a star.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  trustmesh context ls
  trustmesh context ls --json")]
pub struct Ls {}

/// Use a context from now on. With --home, --agent, --server or --dev it is made or changed first.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  trustmesh context use shop
  trustmesh context use shop --agent planner --server tls://nats:4222 --tls-ca ca.pem")]
pub struct Use {
    /// Its name.
    name: String,
    /// Who issues the server's certificate, in PEM; from then on TLS is required.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The certificate to show to the server, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of that certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// Show one context, or the one in use.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  trustmesh context show
  trustmesh context show shop --json")]
pub struct Show {
    /// Its name.
    name: Option<String>,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    current: bool,
    #[serde(flatten)]
    context: &'a Entry,
}

pub fn run(command: Context, global: &Global, output: &Output) -> Outcome {
    let contexts = Contexts::load()?;
    match command {
        Context::Ls(_) => list(&contexts, output),
        Context::Use(args) => switch(contexts, &args, global, output),
        Context::Show(args) => {
            let name = args
                .name
                .or_else(|| global.context.clone())
                .or_else(|| contexts.current.clone())
                .ok_or_else(|| {
                    Failure::config("no context is in use").next("trustmesh context ls")
                })?;
            show(&contexts, &name, output)
        }
    }
}

fn list(contexts: &Contexts, output: &Output) -> Outcome {
    let mut rows = Vec::new();
    for (name, context) in &contexts.contexts {
        let current = contexts.current.as_ref() == Some(name);
        output.object(&Row {
            name,
            current,
            context,
        })?;
        rows.push([
            format!("{}{name}", if current { "*" } else { " " }),
            path(context),
            context.agent.clone().unwrap_or_else(|| "-".into()),
            server(context),
            if context.dev {
                "dev".into()
            } else {
                String::new()
            },
        ]);
    }
    if rows.is_empty() {
        output.note("no contexts yet: trustmesh init makes one");
    } else {
        output.line(table([" NAME", "HOME", "AGENT", "SERVER", ""], rows))?;
    }
    Ok(OK)
}

fn switch(mut contexts: Contexts, args: &Use, global: &Global, output: &Output) -> Outcome {
    let name = args.name.as_str();
    let tls = args.tls_ca.is_some() || args.tls_cert.is_some();
    let changes = global.home.is_some() || global.agent.is_some() || global.server.is_some();
    if changes || global.dev || tls {
        let entry = contexts.contexts.entry(name.to_owned()).or_default();
        if let Some(home) = &global.home {
            entry.home = Some(absolute(home)?);
        }
        if let Some(agent) = &global.agent {
            entry.agent = Some(agent.clone());
        }
        if let Some(server) = &global.server {
            entry.server = Some(checked_server(server)?);
        }
        for (given, kept) in [
            (&args.tls_ca, &mut entry.tls_ca),
            (&args.tls_cert, &mut entry.tls_cert),
            (&args.tls_key, &mut entry.tls_key),
        ] {
            if let Some(path) = given {
                *kept = Some(absolute(path)?);
            }
        }
        entry.dev |= global.dev;
    }
    contexts.named(name)?;
    contexts.current = Some(name.to_owned());
    contexts.save()?;
    output.note(format_args!("using context {name}"));
    Ok(OK)
}

fn show(contexts: &Contexts, name: &str, output: &Output) -> Outcome {
    let context = contexts.named(name)?;
    let current = contexts.current.as_deref() == Some(name);
    output.line(format_args!("name    {name}"))?;
    output.line(format_args!("home    {}", path(context)))?;
    output.line(format_args!(
        "agent   {}",
        context.agent.as_deref().unwrap_or("-")
    ))?;
    output.line(format_args!("server  {}", server(context)))?;
    for (name, file) in [
        ("tls-ca", &context.tls_ca),
        ("tls-cert", &context.tls_cert),
        ("tls-key", &context.tls_key),
    ] {
        if let Some(file) = file {
            output.line(format_args!("{name:<8}{}", file.display()))?;
        }
    }
    if context.dev {
        output.line("dev     yes: a development mesh is accepted")?;
    }
    output.object(&Row {
        name,
        current,
        context,
    })?;
    Ok(OK)
}

fn path(context: &Entry) -> String {
    let path = context.home.as_ref();
    path.map_or_else(|| "-".into(), |path| path.display().to_string())
}

fn server(context: &Entry) -> String {
    let server = context.server.as_deref();
    server.map_or_else(|| "-".into(), without_credentials)
}

/// A context is used from any directory.
pub fn absolute(path: &std::path::Path) -> anyhow::Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}

/// The file of contexts holds no secret.
fn checked_server(server: &str) -> anyhow::Result<String> {
    if without_credentials(server) != server {
        return Err(Failure::usage("a context keeps no user or password")
            .next("set NATS_USER and NATS_PASSWORD in the environment")
            .into());
    }
    Ok(server.to_owned())
}
