//! `completions`: what a shell needs to complete commands.

use clap::Args;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::OK;
use super::Outcome;
use crate::cli::Cli;

/// Print a completion script for a shell.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  trustmesh completions bash > ~/.local/share/bash-completion/completions/trustmesh
  trustmesh completions fish > ~/.config/fish/completions/trustmesh.fish")]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

pub fn run(args: &Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "trustmesh", &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script)?;
    Ok(OK)
}
