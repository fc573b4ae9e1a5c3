//! `root`: lead a served mesh on to another trust root.

use clap::Args;
use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use trustmesh::proto::root::Role;
use trustmesh::proto::time::Timestamp;

use super::OK;
use super::Outcome;
use crate::cli::Global;
use crate::failure::Failure;
use crate::operator;
use crate::operator::NewRoot;
use crate::operator::Operation;
use crate::output::NAME;
use crate::output::Output;
use crate::output::styled;
use crate::reach::Reach;
use crate::setting::Setting;
use crate::text;

/// Lead a served mesh on to another trust root.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  trustmesh root succeed
  trustmesh root succeed --replace timestamp --dry-run")]
pub enum Root {
    Succeed(Succeed),
}

/// Let a trust root follow the present one: from now, for 400 days, perhaps with other keys.
#[derive(Args, Debug)]
#[command(
    after_help = "Agents follow by themselves, also those that slept: they pinned the first root, and that stays. Without
--replace every role keeps its key. A key that is replaced is gone; --dry-run says what becomes of what
it signed. Copies of the mesh directory, as for a second service, must be made again.

Examples:
  trustmesh root succeed                           a root that nears its end
  trustmesh root succeed --replace root,timestamp  keys that somebody else may have"
)]
pub struct Succeed {
    /// Make another key for this role; may be repeated.
    #[arg(
        long,
        value_name = "ROLE",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(Role::ALL.map(Role::name))
    )]
    replace: Vec<String>,
    /// Say what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

pub fn run(command: Root, global: &Global, output: &Output) -> Outcome {
    let Root::Succeed(args) = command;
    succeed(&args, &Setting::of(global)?, output)
}

fn succeed(args: &Succeed, setting: &Setting, output: &Output) -> Outcome {
    // Says what is missing, where the keys are not here.
    setting.authority()?;
    let name = setting.trust()?.root().name().to_owned();
    if !setting.keeps_served() {
        let text = format!("the mesh {name} is a static one: no other root follows its root");
        return Err(Failure::config(text)
            .next("make a served mesh, and move the agents: trustmesh init DIR --served")
            .into());
    }
    let replaced = roles(&args.replace);
    let names: Vec<&str> = replaced.iter().map(|role| role.name()).collect();
    let replace = names.iter().map(|name| (*name).to_owned()).collect();
    let operation = Operation::Succeed { replace };
    let done = match args.dry_run {
        true => operator::rehearse(setting.path(), &operation)?,
        false => operator::change(setting.path(), &operation)?,
    };
    let root = done
        .root
        .ok_or_else(|| Failure::unreachable("the verifier service did not say what it made"))?;
    tell(&name, &root, args.dry_run, output)?;
    if !names.is_empty() {
        output.line(format_args!("  new    {}", names.join(", ")))?;
    }
    for role in &replaced {
        let text = consequence(*role);
        output.line(format_args!("  {:<9}  {text}", role.name()))?;
    }
    let consequences: Vec<_> = replaced
        .iter()
        .map(|role| serde_json::json!({"role": role.name(), "text": consequence(*role)}))
        .collect();
    output.object(&serde_json::json!({
        "version": root.version, "id": (!args.dry_run).then_some(root.id), "until": root.until,
        "replaced": names, "consequences": consequences,
        "reach": done.reach.word(), "dry_run": args.dry_run,
    }))?;
    if done.reach != Reach::Nowhere {
        output
            .note("make copies of the mesh directory again: those from before are led on no more");
    }
    done.reach.tell(setting, output)?;
    Ok(OK)
}

fn tell(name: &str, root: &NewRoot, dry_run: bool, output: &Output) -> anyhow::Result<()> {
    let verb = if dry_run { "would lead" } else { "led" };
    let (name, version) = (styled(NAME, name), root.version);
    let until = text::utc(Timestamp::from_millis(root.until));
    output.line(format_args!(
        "{verb} the mesh {name} on to trust root {version}, until {until}"
    ))?;
    if !dry_run {
        // What is rehearsed is made with other keys, at another time.
        output.line(format_args!("  root   {}", root.id))?;
    }
    Ok(())
}

/// The roles with these names, each once.
fn roles(names: &[String]) -> Vec<Role> {
    let named = |role: &Role| names.iter().any(|name| name == role.name());
    Role::ALL.into_iter().filter(named).collect()
}

/// What becomes of what the replaced key of a role has signed.
fn consequence(role: Role) -> &'static str {
    match role {
        Role::Root => "whoever has the old key can make no root that follows this one",
        Role::Issuer => {
            "every grant is void, and what was delegated below it: trustmesh token issue, for each agent"
        }
        Role::Registrar => {
            "agents keep their certificates; join tokens and approvals from before are void"
        }
        Role::Timestamp => "a service that has the old key is believed no more",
        _ => "signed again: agents notice nothing",
    }
}
