//! One file a command.

pub mod agent;
pub mod audit;
pub mod can_i;
pub mod check;
pub mod completions;
pub mod context;
pub mod enroll;
pub mod init;
pub mod inspect;
pub mod join_token;
pub mod key;
pub mod nats;
pub mod policy;
pub mod publish;
pub mod renew;
pub mod reply;
pub mod request;
pub mod revoke;
pub mod root;
pub mod rotate;
pub mod serve;
pub mod subscribe;
pub mod token;
pub mod trust;
pub mod verify;
pub mod why;

use std::future::Future;

use crate::cli::Cli;
use crate::cli::Command;
use crate::output::Output;

/// What a command ends with: its exit code, or why it did not succeed.
pub type Outcome = anyhow::Result<u8>;

/// Everything went well.
pub const OK: u8 = 0;

/// Runs the command.
pub fn run(cli: Cli, output: &Output) -> Outcome {
    let global = cli.global.without_empty();
    match cli.command {
        Command::Init(args) => init::run(&args, &global, output),
        Command::Check(args) => check::run(&args, &global, output),
        Command::Key(args) => key::run(args, output),
        Command::Agent(args) => agent::run(args, &global, output),
        Command::Token(args) => token::run(args, &global, output),
        Command::Serve(args) => wait_for(serve::run(&args, &global, output)),
        Command::JoinToken(args) => join_token::run(&args, &global, output),
        Command::Enroll(args) => wait_for(enroll::run(&args, &global, output)),
        Command::Revoke(args) => revoke::run(&args, &global, output),
        Command::Rotate(args) => rotate::run(&args, &global, output),
        Command::Renew(args) => wait_for(renew::run(&args, &global, output)),
        Command::Root(args) => root::run(args, &global, output),
        Command::Trust(args) => trust::run(args, &global, output),
        Command::CanI(args) => can_i::run(&args, &global, output),
        Command::Policy(args) => policy::run(args, &global, output),
        Command::Pub(args) => wait_for(publish::run(&args, &global, output)),
        Command::Sub(args) => wait_for(subscribe::run(&args, &global, output)),
        Command::Request(args) => wait_for(request::run(&args, &global, output)),
        Command::Reply(args) => wait_for(reply::run(&args, &global, output)),
        Command::Audit(args) => wait_for(audit::run(args, &global, output)),
        Command::Nats(args) => nats::run(&args, &global, output),
        Command::Context(args) => context::run(args, &global, output),
        Command::Completions(args) => completions::run(&args),
        Command::Verify(args) => verify::run(&args, &global, output),
        Command::Inspect(args) => inspect::run(&args, &global, output),
        Command::Why(args) => why::run(&args, output),
    }
}

/// Runs a command that talks to a server.
pub fn wait_for(command: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(command)
}
