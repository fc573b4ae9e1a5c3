//! What grows with what: the cost of a decision by the length of the chain, the size of its scope,
//! the senders that take turns, the subscriptions of the receiver, and the agents and revocations of
//! the mesh; and what a large mesh costs its members besides.
//!
//! ```text
//! cargo bench --bench growth                        every table
//! cargo bench --bench growth -- chain|scope|senders|subscriptions|mesh    one of them
//! cargo bench --bench growth -- --csv FILE          … adding the ratios to FILE
//! cargo bench --bench growth -- --rounds 3          … with fewer rounds
//! cargo bench --bench growth -- --size 10           … of one size, for a profiler
//! ```
//!
//! Every table alternates between the sizes round by round, so that a busy moment of the machine
//! meets all of them. The baseline is the smallest size: a ratio is the median over the rounds of
//! what the size cost by what the smallest cost in the same round, with the middle half of the
//! rounds beside it.

#[path = "../../tests/forge/mod.rs"]
mod forge;
#[path = "../receiver/mod.rs"]
mod receiver;

mod decisions;
mod meshes;
mod subscriptions;
mod table;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use self::table::Table;

const TABLES: [(&str, Measure); 5] = [
    ("chain", decisions::by_chain),
    ("scope", decisions::by_scope),
    ("senders", decisions::by_senders),
    ("subscriptions", subscriptions::by_subscriptions),
    ("mesh", meshes::by_mesh),
];

type Measure = fn(&mut Table) -> Result<(), Error>;
type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench growth: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let (mut only, mut size, mut csv, mut rounds) = (None, None, None, 401);
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--csv" => csv = Some(PathBuf::from(value()?)),
            "--size" => size = Some(value()?.parse()?),
            "--rounds" => rounds = value()?.parse::<usize>()?.max(1),
            // What cargo says by itself.
            "--bench" => {}
            _ if TABLES.iter().any(|(name, _)| *name == arg) => only = Some(arg),
            _ => return Err(format!("what is {arg}?").into()),
        }
    }
    let mut table = Table::new(rounds, size, csv);
    for (name, measure) in TABLES {
        if only.as_deref().is_none_or(|only| only == name) {
            measure(&mut table)?;
        }
    }
    Ok(())
}
