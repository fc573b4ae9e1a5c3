//! The arguments every command shares, and the list of commands.

use std::path::PathBuf;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use clap::builder::OsStringValueParser;
use clap::builder::TypedValueParser as _;

use crate::cmd;

/// Make a mesh of agents, look inside anything it signs, and learn why something was refused.
#[derive(Debug, Parser)]
#[command(
    name = "trustmesh",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "What is not given as a flag comes from the environment, then from the context in use.
User and password of the server come from NATS_USER and NATS_PASSWORD, otherwise from nats.login in
the agent's directory; TLS files from NATS_CA, NATS_CERT and NATS_KEY. TRUSTMESH_LOG=debug logs more.
Exit codes: 0 done or accepted, 1 a fault, 2 used wrongly, 3 no server or no answer, 4 a bad
configuration or key file, 10 to 19 refused, 20 audit tampered with, 21 audit incomplete.

Examples:
  trustmesh init --dev                  a mesh to try things with
  trustmesh why 1502                    what a refusal means and what to do"
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
        hide_env_values = true,
        value_parser = OsStringValueParser::new().map(PathBuf::from)
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
    /// Accept a development mesh, whose keys lie together on one machine; with init, make one.
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
    /// When to use colours.
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t = Color::Auto
    )]
    pub color: Color,
}

impl Global {
    /// An empty variable is the same as none.
    #[must_use]
    pub fn without_empty(self) -> Self {
        let text = |given: Option<String>| given.filter(|text| !text.is_empty());
        Self {
            home: self.home.filter(|path| !path.as_os_str().is_empty()),
            agent: text(self.agent),
            server: text(self.server),
            context: text(self.context),
            ..self
        }
    }
}

/// Whether to use colours. The variants have no documentation, because clap would then print every
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
    Serve(cmd::serve::Serve),
    JoinToken(cmd::join_token::MakeToken),
    Enroll(cmd::enroll::Enroll),
    Revoke(cmd::revoke::Revoke),
    Rotate(cmd::rotate::Rotate),
    Renew(cmd::renew::Renew),
    #[command(subcommand)]
    Root(cmd::root::Root),
    #[command(subcommand)]
    Trust(cmd::trust::Trust),
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
    Nats(cmd::nats::Nats),
    #[command(subcommand)]
    Context(cmd::context::Context),
    Completions(cmd::completions::Completions),
    Verify(cmd::verify::Verify),
    Inspect(cmd::inspect::Inspect),
    Why(cmd::why::Why),
}
