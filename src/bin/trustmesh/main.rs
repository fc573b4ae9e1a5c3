//! `trustmesh`: make a mesh, look inside anything it signs, and learn why something was refused.
//!
//! Results go to standard output, everything else to standard error. The exit code says what went
//! wrong: see [`failure`].

#![forbid(unsafe_code)]

mod advice;
mod cli;
mod cmd;
mod contexts;
mod failure;
mod history;
mod object;
mod operator;
mod output;
mod reach;
mod setting;
mod text;
mod traffic;
mod trust;
mod vectors;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::Cli;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results; anything else is a usage error, which clap exits
            // with 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::USAGE));
        }
    };
    let output = Output::new(&cli.global);
    start_logging();
    match cmd::run(cli, &output) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output.failure(&error);
            ExitCode::from(failure::exit_code(&error))
        }
    }
}

/// Logs go to standard error. `TRUSTMESH_LOG` says what is logged, for example `debug`; by
/// default only what a person must know.
///
/// At TRACE, the client of NATS prints whole operations, payloads and passwords included. So that
/// level is for what is ours, whatever is asked for.
fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_env_var("TRUSTMESH_LOG")
        .try_from_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    let without_payloads = tracing_subscriber::filter::filter_fn(|about| {
        *about.level() != tracing::Level::TRACE || about.target().starts_with("trustmesh")
    });
    let colour = anstream::AutoStream::choice(&std::io::stderr());
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(colour != anstream::ColorChoice::Never)
        .with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(lines.with_filter(without_payloads))
        .with(filter)
        .init();
}
