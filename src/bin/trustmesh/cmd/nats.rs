//! `nats`: what a nats-server has to know of the mesh.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;
use trustmesh::client::home::Home;
use trustmesh::client::home::Login;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::names::PREFIX;
use trustmesh::proto::rejection::Place;
use trustmesh::proto::scope::Capability;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::TrustState;
use trustmesh::proto::verify;
use trustmesh::proto::verify::Scene;
use trustmesh::services::permissions;
use trustmesh::services::permissions::Connection;
use trustmesh::services::permissions::Member;
use trustmesh::services::permissions::Mesh;
use trustmesh::services::permissions::Plan;
use trustmesh::services::permissions::ServerTls;
use trustmesh::services::permissions::Who;

use super::OK;
use super::Outcome;
use crate::cli::Global;
use crate::failure::Failure;
use crate::failure::verdict;
use crate::output::Output;
use crate::output::WARN;
use crate::output::styled;
use crate::output::table;
use crate::setting::Setting;
use crate::setting::now;

/// Work factor of the hashes. Passwords are 32 random bytes: no work makes them harder to guess,
/// and the server does it at every connection.
const BCRYPT_COST: u32 = 4;

/// The user that newcomers share. Where an agent has that id, the two are refused.
const NEWCOMERS: &str = "newcomers";

/// Configure the nats-server of the mesh.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  trustmesh nats config
  trustmesh nats config --nkeys --out /etc/nats/mesh.conf")]
pub enum Nats {
    Config(Config),
}

/// Write users and permissions for nats-server, from registry and grants.
#[derive(Args, Debug)]
#[command(
    after_help = "Each agent gets what its grant allows, its own inbox, audit and handshakes, and nothing else. Its
login is written to nats.login in its directory, where it is found by itself; the server gets a hash.
Delegations are not seen: who acts under one needs --also, or --delegable.

Examples:
  trustmesh nats config --also 'worker=req:store.docs.>'
  trustmesh nats config --mtls --tls-cert server.pem --tls-key server.key --tls-ca ca.pem"
)]
pub struct Config {
    /// Where to write; nats.conf in the mesh directory by default.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Know agents by certificates that name spiffe://MESH/agent/ID, not by passwords.
    #[arg(long, conflicts_with = "nkeys", requires = "tls_ca")]
    mtls: bool,
    /// Know agents by connection keys (nkeys), not by passwords.
    #[arg(long)]
    nkeys: bool,
    /// The server's certificate, where the server finds it.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<String>,
    /// The key of that certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<String>,
    /// Who issues the certificates of agents.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_ca: Option<String>,
    /// Let an agent do more than its own grant says; may be repeated.
    #[arg(long, value_name = "ID=CAPABILITY")]
    also: Vec<String>,
    /// Let every agent do whatever some grant allows to be handed on.
    #[arg(long)]
    delegable: bool,
    /// Add a user for those who want to join with a token; its login is newcomers.login.
    #[arg(long)]
    newcomers: bool,
    /// Replace the file, also if it was not written by this command.
    #[arg(long)]
    force: bool,
    /// Check everything, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// An agent of the registry, and what its grant allows.
#[derive(Default)]
struct Found {
    keys: Vec<KeyBytes>,
    granted: Vec<Capability>,
}

/// Who connects how, beside the registry: certificates have no room for it.
#[derive(Serialize)]
struct Named {
    agent: String,
    keys: Vec<String>,
    method: &'static str,
    user: String,
}

pub fn run(command: &Nats, global: &Global, output: &Output) -> Outcome {
    let Nats::Config(args) = command;
    config(args, &Setting::of(global)?, output)
}

fn config(args: &Config, setting: &Setting, output: &Output) -> Outcome {
    if args.nkeys && !cfg!(feature = "nkeys") {
        return Err(Failure::usage("this program cannot log in with nkeys")
            .next("build it with --features cli,nkeys")
            .into());
    }
    let (home, trust) = (setting.open()?, setting.trust()?);
    let file = args.out.clone();
    let file = file.unwrap_or_else(|| setting.path().join("nats.conf"));
    let there = existing(&file, args.force)?;
    let mut found = look_up(&home, &trust, now()?, output);
    let all: Vec<Capability> = found.values().flat_map(|f| f.granted.clone()).collect();
    for given in &args.also {
        let (agent, capability) = also(given, &found)?;
        found.entry(agent).or_default().granted.push(capability);
    }
    if args.delegable {
        let handed_on = permissions::delegable(&all);
        for found in found.values_mut() {
            found.granted.extend(handed_on.clone());
        }
    }
    let mut logins = Vec::new();
    let mut members = Vec::new();
    for (agent, found) in &found {
        members.push(Member {
            agent: agent.clone(),
            keys: found.keys.clone(),
            capabilities: found.granted.clone(),
            connection: connection(
                args,
                &trust,
                &format!("agent/{agent}"),
                agent.as_str(),
                home.login_path(agent),
                &mut logins,
            )?,
        });
    }
    let newcomers = args.newcomers.then(|| {
        let path = setting.path().join("newcomers.login");
        connection(args, &trust, NEWCOMERS, NEWCOMERS, path, &mut logins)
    });
    let mesh = Mesh {
        id: trust.mesh(),
        prefix: PREFIX.to_owned(),
        identities: trust.certificates().map(|c| c.claims().key).collect(),
        newcomers: newcomers.transpose()?,
    };
    let plan = permissions::derive(&mesh, members).map_err(unusable)?;
    let text = plan.render(server_tls(args).as_ref()).map_err(unusable)?;
    let unchanged = there.as_deref() == Some(text.as_str());
    if !args.dry_run {
        for (path, login, replaces) in &logins {
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory)?;
            }
            if *replaces {
                output.note(format_args!("replaced {}", path.display()));
                login.replace(path)?;
            } else {
                login.create(path)?;
            }
        }
        write(&file, &text)?;
        let names = serde_json::to_string_pretty(&named(&plan, &found))? + "\n";
        write(&setting.path().join("trust/connections.json"), &names)?;
    }
    let verb = match (args.dry_run, there.is_some(), unchanged) {
        (_, _, true) => "unchanged:",
        (true, false, _) => "would write",
        (true, true, _) => "would replace",
        (false, false, _) => "wrote",
        (false, true, _) => "replaced",
    };
    tell(&plan, &found, &format!("{verb} {}", file.display()), output)?;
    if args.tls_cert.is_none() {
        output.note(format_args!(
            "{} without --tls-cert, logins and payloads cross the network in plain text",
            styled(WARN, "warning:")
        ));
    }
    Ok(OK)
}

fn unusable(error: permissions::PlanError) -> anyhow::Error {
    Failure::usage(error.to_string())
        .next("trustmesh agent list")
        .into()
}

/// What lies where the configuration goes, if it may be replaced.
fn existing(file: &Path, force: bool) -> anyhow::Result<Option<String>> {
    match std::fs::read(file) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if !force && !text.starts_with(permissions::MARK) {
                let text = format!("{} was not written by this command", file.display());
                return Err(Failure::usage(text)
                    .next("choose another --out FILE, or add --force")
                    .into());
            }
            Ok(Some(text))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(Failure::config(format!("cannot read {}: {error}", file.display())).into())
        }
    }
}

/// The agents in good standing, and what their grants allow now.
fn look_up(
    home: &Home,
    trust: &std::sync::Arc<TrustState>,
    now: Timestamp,
    output: &Output,
) -> BTreeMap<AgentId, Found> {
    let (skew, place) = (ClockSkew::default(), Place::Certificate);
    let mut agents: BTreeMap<AgentId, Found> = BTreeMap::new();
    for certificate in trust.certificates() {
        let key = certificate.claims().key;
        let standing = trust
            .check_standing(&key, now, skew, place)
            .and_then(|certificate| trust.revocations().check_agent(certificate, now, place));
        match standing {
            Ok(()) => {
                let agent = certificate.agent().clone();
                agents.entry(agent).or_default().keys.push(key);
            }
            Err(why) => output.note(format_args!(
                "{}: left out, {}",
                certificate.agent(),
                verdict(&why)
            )),
        }
    }
    let sessions = &();
    let scene = Scene {
        now,
        trust,
        sessions,
    };
    for (agent, found) in &mut agents {
        found.keys.sort();
        let Ok(chain) = home.grant(agent) else {
            output.note(format_args!("{agent}: no grant here, it may only connect"));
            continue;
        };
        match verify::verify_chain(chain, &scene, skew) {
            Ok(chain) if found.keys.contains(&chain.leaf().holder()) => {
                found.granted = chain.leaf().scope().capabilities().to_vec();
            }
            Ok(_) => output.note(format_args!("{agent}: its grant is for another key")),
            Err(why) => output.note(format_args!("{agent}: its grant is {}", verdict(&why))),
        }
    }
    agents
}

fn also(given: &str, found: &BTreeMap<AgentId, Found>) -> anyhow::Result<(AgentId, Capability)> {
    let wrong = |what: String| Failure::usage(what).next("write it like worker=req:store.docs.>");
    let (agent, capability) = given
        .split_once('=')
        .ok_or_else(|| wrong(format!("{given:?} names no agent")))?;
    let agent = AgentId::parse(agent).map_err(|why| wrong(format!("{agent:?}: {why}")))?;
    if !found.contains_key(&agent) {
        return Err(wrong(format!("no agent {agent} in good standing")).into());
    }
    let capability = capability
        .parse()
        .map_err(|why| wrong(format!("{capability:?} is no capability: {why}")))?;
    Ok((agent, capability))
}

/// How the server shall know somebody: by certificate as `below` the mesh's SPIFFE id, or by the
/// login at `path`. One that is there is kept.
fn connection(
    args: &Config,
    trust: &TrustState,
    below: &str,
    name: &str,
    path: PathBuf,
    logins: &mut Vec<(PathBuf, Login, bool)>,
) -> anyhow::Result<Connection> {
    if args.mtls {
        let mesh = trust.root().name();
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
        if mesh.is_empty() || !mesh.bytes().all(plain) {
            let text = format!("{mesh:?} cannot stand in a SPIFFE id");
            return Err(Failure::usage(text).next("use passwords or --nkeys").into());
        }
        let user = format!("spiffe://{mesh}/{below}");
        return Ok(Connection::Certificate { user });
    }
    let held = Login::load_if_there(&path)?;
    let fits = held.as_ref().is_some_and(|login| match login {
        Login::Password { user, .. } => !args.nkeys && user == name,
        _ => args.nkeys,
    });
    let login = match held.clone().filter(|_| fits) {
        Some(login) => login,
        None => {
            let login = if args.nkeys {
                Login::new_nkey()?
            } else {
                Login::new_password(name)?
            };
            logins.push((path, login.clone(), held.is_some()));
            login
        }
    };
    match (login.nkey(), login) {
        (Some(key), _) => Ok(Connection::Nkey(key)),
        (None, Login::Password { user, password }) => {
            let hash = hashed(&user, &password)?;
            Ok(Connection::Password { user, hash })
        }
        (None, _) => Err(Failure::config(format!("the login of {name} cannot be used")).into()),
    }
}

/// The password as bcrypt hash. The salt comes from user and password, so that the same logins make
/// the same file; two passwords of 32 random bytes never share one.
fn hashed(user: &str, password: &str) -> anyhow::Result<String> {
    let digest = Sha256::digest(format!("{user}\0{password}"));
    let mut salt = [0; 16];
    salt.copy_from_slice(&digest[..16]);
    Ok(bcrypt::hash_with_salt(password, BCRYPT_COST, salt)?.to_string())
}

fn server_tls(args: &Config) -> Option<ServerTls> {
    Some(ServerTls {
        certificate: args.tls_cert.clone()?,
        key: args.tls_key.clone()?,
        ca: args.tls_ca.clone(),
    })
}

fn of<'a>(who: &Who, found: &'a BTreeMap<AgentId, Found>) -> Option<&'a Found> {
    match who {
        Who::Agent(agent) => found.get(agent),
        Who::Newcomers => None,
    }
}

fn named(plan: &Plan, found: &BTreeMap<AgentId, Found>) -> Vec<Named> {
    let users = plan.users().iter();
    let named = users.map(|user| Named {
        agent: user.who.to_string(),
        keys: of(&user.who, found)
            .map(|found| found.keys.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        method: user.connection.method(),
        user: user.connection.user(),
    });
    named.collect()
}

/// Writes a file whole.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, path)?;
    Ok(())
}

fn tell(
    plan: &Plan,
    found: &BTreeMap<AgentId, Found>,
    first: &str,
    output: &Output,
) -> anyhow::Result<()> {
    output.line(first)?;
    let mut rows = Vec::new();
    let mut said = BTreeSet::new();
    for user in plan.users() {
        let granted = of(&user.who, found).map(|found| &found.granted);
        let granted: Vec<String> = granted
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        rows.push([
            user.who.to_string(),
            user.connection.method().to_owned(),
            granted.join(" "),
        ]);
        output.object(&serde_json::json!({
            "agent": user.who.to_string(), "method": user.connection.method(),
            "user": user.connection.user(), "publish": user.publish,
            "subscribe": user.subscribe, "omitted": user.omitted,
        }))?;
        for left in &user.omitted {
            let text = format!(
                "{}: {} is left out ({}): {}",
                user.who, left.capability, left.half, left.why
            );
            if said.insert(text.clone()) {
                output.note(format_args!("{} {text}", styled(WARN, "warning:")));
            }
        }
    }
    if !rows.is_empty() {
        output.line(table(["AGENT", "BY", "SCOPE"], rows))?;
    }
    Ok(())
}
