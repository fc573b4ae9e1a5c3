//! One file a command.

pub mod completions;
pub mod context;
pub mod inspect;
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
    let global = cli.global;
    match cli.command {
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
