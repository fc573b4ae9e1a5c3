//! The arguments every command shares, and the list of commands.

use std::path::PathBuf;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;

use crate::cmd;

/// Make a mesh of agents, look inside anything it signs, and learn why something was refused.
#[derive(Debug, Parser)]
#[command(
    name = "trustmesh",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Examples:
  trustmesh init --dev                  a mesh to try things with
  trustmesh why 1502                    what a refusal means and what to do

What is not given as a flag comes from the environment, then from the context in use."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command understands.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Common options")]
pub struct Global {
    /// The mesh directory.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "TRUSTMESH_HOME",
        hide_env_values = true
    )]
    pub home: Option<PathBuf>,
    /// The agent to act as.
    #[arg(
        long,
        global = true,
        value_name = "ID",
        env = "TRUSTMESH_AGENT",
        hide_env_values = true
    )]
    pub agent: Option<String>,
    /// The nats-server.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "NATS_URL",
        hide_env_values = true
    )]
    pub server: Option<String>,
    /// Accept a development mesh, whose keys lie together on one machine.
    #[arg(long, global = true)]
    pub dev: bool,
    /// Take what is not given from this context.
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "TRUSTMESH_CONTEXT",
        hide_env_values = true
    )]
    pub context: Option<String>,
    /// Print results as JSON, one object a line.
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results only.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Colours.
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t = Color::Auto
    )]
    pub color: Color,
}

/// When to use colours. The variants have no documentation, because clap would then print every
/// help in its long form.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Color {
    // On a terminal, unless `NO_COLOR` is set.
    Auto,
    Always,
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(cmd::init::Init),
    Check(cmd::check::Check),
    #[command(subcommand)]
    Key(cmd::key::Key),
    #[command(subcommand)]
    Agent(cmd::agent::Agent),
    #[command(subcommand)]
    Token(cmd::token::Token),
    Revoke(cmd::revoke::Revoke),
    CanI(cmd::can_i::CanI),
    #[command(subcommand)]
    Policy(cmd::policy::Policy),
    Pub(cmd::publish::Pub),
    Sub(cmd::subscribe::Sub),
    Request(cmd::request::Request),
    Reply(cmd::reply::Reply),
    #[command(subcommand)]
    Audit(cmd::audit::Audit),
    #[command(subcommand)]
    Context(cmd::context::Context),
    Completions(cmd::completions::Completions),
    Verify(cmd::verify::Verify),
    Inspect(cmd::inspect::Inspect),
    Why(cmd::why::Why),
}
