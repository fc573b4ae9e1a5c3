//! `verify`: judges envelopes offline, and holds this software to test vectors.

mod folder;
mod line;
mod stream;

use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use trustmesh::proto::time::Timestamp;

use self::stream::Bench;
use super::OK;
use super::Outcome;
use crate::cli::Global;
use crate::failure::Failure;
use crate::object;
use crate::output::Output;
use crate::setting;
use crate::text;
use crate::trust::Trust;

/// Judge envelopes offline: every signature, every hop, registry, revocation, scope, policy, time.
///
/// An INPUT is a file with one envelope (binary, hexadecimal or base 64), a file with one a line,
/// a test vector (.json) or a folder of them. Nothing, or -, is standard input: one envelope a
/// line, or {"bytes": HEX, "subject": …, "at": …, "request": HEX}.
///
/// What only the receiver knows is not checked, and named: whether it was delivered there, the
/// audience, the receiver's own authority, replays, sessions and rates.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  trustmesh verify message.bin --trust /srv/shop --at 2026-11-25T08:00:00Z
  trustmesh verify tests/vectors --json

An answer is judged beside its request: --request FILE. Exit codes: 0 accepted or as expected,
1 expectations not met, 2 nothing to judge, 10 to 19 the class of the first refusal.")]
pub struct Verify {
    /// What to judge.
    #[arg(value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    trust: Trust,
    /// Judge as of this time; now, when it is not given.
    #[arg(long, value_name = "TIME", value_parser = text::instant)]
    at: Option<Timestamp>,
    /// The subject the envelope was delivered on.
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// The request that the envelope answers.
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
}

pub fn run(args: &Verify, global: &Global, output: &Output) -> Outcome {
    let standard_input = [PathBuf::from("-")];
    let inputs = match &args.inputs[..] {
        [] => &standard_input[..],
        given => given,
    };
    // Vectors bring their own state and time: the mesh in use is opened once something needs it.
    let mut bench = None;
    let mut exit = OK;
    for input in inputs {
        let code = if input.is_dir() {
            folder::run(input, output)?
        } else if is_vector(input) {
            folder::run_one(input, output)?
        } else {
            let bench = match &mut bench {
                Some(bench) => bench,
                empty => empty.insert(open(args, global)?),
            };
            judge(input, bench, output)?
        };
        if exit == OK {
            exit = code;
        }
    }
    Ok(exit)
}

fn is_vector(input: &Path) -> bool {
    input
        .extension()
        .is_some_and(|extension| extension == "json")
}

fn open(args: &Verify, global: &Global) -> anyhow::Result<Bench> {
    let trust = args.trust.load(global)?;
    let at = args.at.map_or_else(setting::now, Ok)?;
    let mut bench = Bench::new(trust, at, args.subject.clone());
    if let Some(path) = &args.request {
        let bytes = object::read(path)?;
        let frame = match object::decode(&bytes) {
            Some(decoded) => decoded,
            None => bytes.into(),
        };
        bench.beside(&frame)?;
    }
    Ok(bench)
}

fn judge(input: &Path, bench: &mut Bench, output: &Output) -> Outcome {
    if input == Path::new("-") {
        return bench.stream(std::io::stdin().lock(), output);
    }
    let bytes = object::read(input)?;
    if bytes.trim_ascii().is_empty() {
        return Err(Failure::usage(format!("{} is empty", input.display())).into());
    }
    let several = bytes.trim_ascii().contains(&b'\n');
    let text = bytes.is_ascii();
    match object::decode(&bytes) {
        // A text broken into lines is one object, unless its first line is one already.
        Some(frame) if !several || !stream::begins_with_envelope(&bytes) => {
            bench.single(&frame, output)
        }
        _ if text => bench.stream(&bytes[..], output),
        _ => bench.single(&bytes.into(), output),
    }
}
