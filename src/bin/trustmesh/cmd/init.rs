//! `init`: a mesh of one's own.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use trustmesh::Identity;
use trustmesh::client::clock::SystemClock;
use trustmesh::proto::policy::Policy;
use trustmesh::services::authority::Authority;

use super::OK;
use super::Outcome;
use super::context::absolute;
use crate::cli::Global;
use crate::contexts::Context;
use crate::contexts::Contexts;
use crate::failure::Failure;
use crate::output::NAME;
use crate::output::Output;
use crate::output::WARN;
use crate::output::styled;
use crate::setting::HOME_DEFAULT;

/// The policy of a new mesh, as it is written beside it: what was granted is permitted, and whoever
/// asks for something has proved itself in a handshake first.
const POLICY: &str = r#"{
  "rules": [
    { "name": "events", "effect": "allow", "actions": ["pub", "sub"], "subjects": ">" },
    { "name": "requests", "effect": "allow", "actions": ["req"], "subjects": ">", "session": true },
    { "name": "answers", "effect": "allow", "actions": ["serve"], "subjects": ">" }
  ]
}
"#;

/// The policy file in the mesh directory, for people to edit and push.
pub const POLICY_FILE: &str = "policy.json";

/// Who lives in a development mesh, and what each may do.
const INHABITANTS: [(&str, &[&str]); 3] = [
    ("alice", &["pub+req+delegate:demo.>"]),
    ("bob", &["pub+sub+serve:demo.>"]),
    ("auditor", &["sub:trustmesh.audit.*"]),
];

/// Make a mesh: keys for every role, a trust root, a policy. Nothing is ever overwritten.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  trustmesh init --dev                  a mesh to try things with: alice, bob, an auditor
  trustmesh init /srv/shop --served     a mesh for production; then: trustmesh serve")]
pub struct Init {
    /// The directory to make it in.
    #[arg(value_name = "DIR", default_value = HOME_DEFAULT)]
    directory: PathBuf,
    /// The name of the mesh; the directory's own by default.
    #[arg(long)]
    name: Option<String>,
    /// A mesh that lives from a verifier service: agents enrol, renew and revoke over the bus, and
    /// refuse to act when they hear nothing new. Without it, agents go by signed files alone.
    #[arg(long)]
    served: bool,
    /// Make no context for it; otherwise it is used from now on.
    #[arg(long)]
    no_context: bool,
    /// Say what would be made, and make nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Made<'a> {
    mesh: String,
    name: &'a str,
    home: &'a Path,
    root: String,
    dev: bool,
    served: bool,
    agents: Vec<&'a str>,
    context: Option<&'a str>,
    dry_run: bool,
}

pub fn run(args: &Init, global: &Global, output: &Output) -> Outcome {
    let next = make(args, global, output)?;
    output.note(next);
    Ok(OK)
}

/// Makes the mesh; what to do next.
fn make(args: &Init, global: &Global, output: &Output) -> anyhow::Result<&'static str> {
    let home = absolute(&args.directory)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(&home)?,
    };
    refuse_existing(&args.directory)?;
    let mut authority = create(&name, args.served, global.dev)?;
    let mut agents = Vec::new();
    if global.dev && !args.served {
        for (id, scope) in INHABITANTS {
            agents.push(authority.agent(id, scope)?);
        }
    }
    let context = (!args.no_context).then_some(name.as_str());
    if !args.dry_run {
        write(&home, &mut authority, &agents, global.dev && !args.served)?;
        if let Some(context) = context {
            remember(context, &home, global)?;
        }
    }
    let made = Made {
        mesh: authority.mesh().to_string(),
        name: &name,
        home: &home,
        root: authority.root_id().to_string(),
        dev: global.dev,
        served: args.served,
        agents: agents.iter().map(|a| a.id().as_str()).collect(),
        context,
        dry_run: args.dry_run,
    };
    tell(&made, &args.directory, output)?;
    Ok(match (made.served, made.dev) {
        (true, _) => {
            "next: trustmesh serve; then, for each agent: trustmesh join-token, trustmesh enroll"
        }
        (false, true) => "next: trustmesh sub 'demo.>' --agent bob",
        (false, false) => "next: trustmesh agent add planner --allow 'pub:tasks.>'",
    })
}

/// Makes a served mesh in a directory, and uses it.
pub fn make_served(directory: &Path, global: &Global, output: &Output) -> anyhow::Result<()> {
    let init = Init {
        directory: directory.to_owned(),
        name: None,
        served: true,
        no_context: false,
        dry_run: false,
    };
    make(&init, global, output).map(drop)
}

fn create(name: &str, served: bool, dev: bool) -> anyhow::Result<Authority> {
    let mut authority = match (served, dev) {
        (false, true) => return Ok(Authority::dev(name)?),
        (false, false) => Authority::new(name)?,
        (true, dev) => Authority::served_with_clock(name, dev, Arc::new(SystemClock::new()))?,
    };
    authority.set_policy(Policy::from_json(POLICY)?)?;
    Ok(authority)
}

/// The directory's name, as the name of a mesh.
fn name_of(home: &Path) -> anyhow::Result<String> {
    let name = home.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| {
        Failure::usage("the directory's name is no name for a mesh")
            .next("give --name")
            .into()
    })
}

fn refuse_existing(directory: &Path) -> anyhow::Result<()> {
    for part in ["trust", "authority", "agents", POLICY_FILE] {
        let path = directory.join(part);
        if path.symlink_metadata().is_ok() {
            let text = format!("{} exists already: nothing was changed", path.display());
            return Err(Failure::usage(text).next("choose another directory").into());
        }
    }
    Ok(())
}

fn write(
    home: &Path,
    authority: &mut Authority,
    agents: &[Identity],
    without_policy: bool,
) -> anyhow::Result<()> {
    authority.save(home)?;
    for agent in agents {
        authority.save_agent(home, agent)?;
    }
    if !without_policy {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .open(home.join(POLICY_FILE))?;
        std::io::Write::write_all(&mut file, POLICY.as_bytes())?;
    }
    Ok(())
}

/// Makes a context for the mesh, and uses it.
fn remember(name: &str, home: &Path, global: &Global) -> anyhow::Result<()> {
    let mut contexts = Contexts::load()?;
    let context = Context {
        home: Some(home.to_owned()),
        dev: global.dev,
        ..Context::default()
    };
    contexts.contexts.insert(name.to_owned(), context);
    contexts.current = Some(name.to_owned());
    contexts.save()
}

fn tell(made: &Made<'_>, directory: &Path, output: &Output) -> anyhow::Result<()> {
    let kind = match (made.dev, made.served) {
        (true, true) => "served development mesh",
        (true, false) => "development mesh",
        (false, true) => "served mesh",
        (false, false) => "mesh",
    };
    let verb = if made.dry_run { "would make" } else { "made" };
    let (name, home) = (styled(NAME, made.name), directory.display());
    output.line(format_args!("{verb} the {kind} {name} in {home}/"))?;
    output.line(format_args!("  root   {}", made.root))?;
    for (id, scope) in INHABITANTS.iter().filter(|_| made.dev && !made.served) {
        output.line(format_args!("  agent  {:<8} {}", id, scope.join(" ")))?;
    }
    output.object(made)?;
    if made.dev {
        output.note(format_args!(
            "{} all keys of a development mesh lie together here: for trying things only",
            styled(WARN, "warning:")
        ));
    }
    match (made.dev, made.served) {
        (true, _) => {}
        (false, true) => output.note(format_args!(
            "{home}/authority never leaves; agents get a join token, and nothing else"
        )),
        (false, false) => output.note(format_args!(
            "keep {home}/authority offline; agents get {home}/trust and their own directory"
        )),
    }
    Ok(())
}
