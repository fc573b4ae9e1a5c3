//! A swarm of agents that indexes and summarises text files, while five adversaries attack it.
//!
//! ```text
//! cargo run --example swarm                # the documents of this project
//! cargo run --example swarm -- DIR         # the text files of another directory
//! NATS_URL=localhost:4222 cargo run --example swarm     # on a NATS server of its own
//! cargo run --example swarm -- --with-verifier     # with a verifier service, see midrun
//! ```
//!
//! ```text
//! issuer ─▶ planner ─▶ researcher/1…3 ─▶ tools/summarise ─▶ tools/reader ─▶ store     authority
//!              └─────▶ writer ──────────────────────────────────────────▶ store
//! ```
//!
//! Only the planner was granted anything to ask for. With every document it hands a researcher
//! authority over that one document; each hop hands on less, for a shorter time, and the store
//! reads a file only when the whole chain says so. The results, the audit's figures and the
//! authorization graph, drawn from audit events alone, are in `swarm-out/`. The exit status says
//! whether everything came out as expected.
//!
//! With `--with-verifier` the agents know a join token each and the bus, and no more. They join by a
//! verifier service, which changes what holds while they work: a score falls, an agent is revoked,
//! another gets a new key, and a new policy asks for approvals. On NATS the server needs JetStream.

mod adversary;
mod cast;
mod check;
mod documents;
mod ledger;
mod midrun;
mod plane;
mod planner;
mod raw;
mod report;
mod stage;
mod store;
mod team;
mod text;
mod venue;

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::cast::AUDITOR;
use crate::cast::Cast;
use crate::ledger::Ledger;
use crate::stage::say;

/// Any error of the swarm. There is nobody to handle kinds apart.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Where the results go, below the current directory.
const OUT: &str = "swarm-out";

/// The whole run takes a few seconds; a run that hangs is a failed run.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> ExitCode {
    let run = tokio::time::timeout(PATIENCE, run());
    match run
        .await
        .unwrap_or_else(|_| Err("the run took too long".into()))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            stage::failure(&fault.to_string());
            ExitCode::FAILURE
        }
    }
}

/// What the command line says.
#[derive(Default)]
struct Wishes {
    with_verifier: bool,
    directory: Option<PathBuf>,
}

impl Wishes {
    fn read() -> Self {
        let mut wishes = Self::default();
        for argument in std::env::args_os().skip(1) {
            if argument == "--with-verifier" {
                wishes.with_verifier = true;
            } else {
                wishes.directory.get_or_insert(argument.into());
            }
        }
        wishes
    }
}

async fn run() -> Result<(), Fault> {
    let wishes = Wishes::read();
    let library = documents::find(wishes.directory.as_deref())?;
    let out = Path::new(OUT);
    std::fs::create_dir_all(out)?;

    stage::scene("The cast");
    let mut cast = if wishes.with_verifier {
        Cast::found().await?
    } else {
        Cast::enrol()?
    };
    let ledger = Ledger::open(&cast.connect(AUDITOR).await?).await?;
    if let Some(plane) = cast.plane() {
        ledger.hears(plane).await?;
        cast.complete().await?;
    }
    let store = store::open(&cast, &library, out).await?;
    let mut team = team::assemble(&cast).await?;
    ledger.ready(store.client()).await?;
    let planner = planner::Planner::hire(&cast).await?;
    team::shake_hands(&cast, &planner).await?;

    stage::scene("The work, and five attacks on it");
    planner.try_a_path_trick().await?;
    let spy = adversary::Adversary::arrive(&mut cast, &ledger).await?;
    let (first, rest) = library.names.split_first().ok_or("no documents")?;
    let mut findings = vec![planner.research(first).await?];
    stage::chain(&ledger, "tools/reader", "store").await?;
    let struck = adversary::strike(spy, &ledger, &store).await?;
    let attacks = struck.refused.len();
    let (mut refused, mut turns) = (struck.refused, None);
    if let Some(plane) = cast.plane().cloned() {
        stage::scene("In mid-run");
        let mut play = midrun::Play {
            cast: &mut cast,
            plane,
            ledger: &ledger,
            planner: &planner,
            team: &mut team,
        };
        let done = play.run(&struck.evidence, first, rest).await?;
        findings.extend(done.findings);
        refused.extend(done.turns.refused());
        turns = Some(done.turns);
    } else {
        findings.extend(planner.research_all(rest).await?);
    }
    let told = planner.publish(&findings).await?;
    say("planner", &format!("the writer is done: {told}"));

    stage::scene("The check");
    check::report(&library, out)?;
    let records = ledger.complete(&cast).await?;
    ledger::summary(&records, &cast, &refused)?;
    let graph = ledger::draw(&records, out)?;
    if let Some(turns) = &turns {
        turns.check(&records, &graph, &cast.ids())?;
    }
    cast.dismiss().await;
    say(
        "swarm",
        &format!("report.md, index.md, graph.mmd, graph.dot are in {OUT}/"),
    );
    say(
        "swarm",
        &format!("{attacks}/5 attacks refused before any handler ran"),
    );
    Ok(())
}
