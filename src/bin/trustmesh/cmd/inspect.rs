//! placeholder
use super::Outcome;
use crate::cli::Global;
use crate::output::Output;
use clap::Args;

/// Placeholder
#[derive(Args, Debug)]
pub struct Inspect {}

pub fn run(_: &Inspect, _: &Global, _: &Output) -> Outcome {
    Ok(0)
}
