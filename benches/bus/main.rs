//! What signing and verifying cost on a bus: plain `async_nats` and trustmesh beside each other on
//! one local nats-server, and trustmesh in this process.
//!
//! ```text
//! cargo bench --bench bus                      every table
//! cargo bench --bench bus -- requests|flow|pour   one of them
//! cargo bench --bench bus -- flow --size 256 --stage 3   … of one size, of one kind of client
//! cargo bench --bench bus -- flow --csv FILE   … adding what flowed to FILE
//! cargo bench --bench bus -- --test            once through everything, to see that it runs
//! ```
//!
//! Every table alternates between the clients round by round, so that a busy moment of the
//! machine meets all of them, and prints medians with the spread over the rounds. It needs a
//! `nats-server`: named in `NATS_SERVER_BIN`, on the `PATH`, or in `.tools/`, where `scripts/test`
//! puts one.

mod server;
mod stage;

use std::env;
use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use ed25519_dalek::Signer as _;
use ed25519_dalek::SigningKey;
use tokio::runtime::Runtime;

use self::server::Server;
use self::server::own_spent;
use self::stage::SIGNED_SINGLY;
use self::stage::Stage;
use self::stage::stages;

/// Payload sizes of requests, in bytes: a word, and a small document.
const REQUEST_SIZES: [usize; 2] = [16, 256];

/// Requests on their way at once.
const CONCURRENCY: [usize; 3] = [1, 16, 128];

/// Payload sizes of the messages of a stream, in bytes.
const SIZES: [usize; 4] = [64, 256, 1_024, 16_384];

/// Messages on their way at once when throughput is measured. None is dropped: a subscription
/// holds far more.
const WINDOWS: [usize; 2] = [256, 2_048];

/// Bytes beyond which a round has fewer messages.
const ROUND_BYTES: usize = 64 * 1024 * 1024;

/// Whatever takes this long does not happen any more.
const PATIENCE: Duration = Duration::from_secs(60);

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench bus: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let plan = Plan::from_args()?;
    let server = Server::start()?;
    let runtime = Runtime::new()?;
    let mut stages = runtime.block_on(stages(&server.url()))?;
    if let Some(only) = plan.stage {
        stages = stages.into_iter().skip(only).take(1).collect();
    }
    runtime.block_on(async {
        if plan.has("requests") {
            requests(&stages, &plan).await?;
        }
        if plan.has("flow") {
            flow(&stages, &plan, &server).await?;
        }
        if plan.has("pour") {
            pour(&stages, &plan).await?;
        }
        Ok(())
    })
}

/// What to measure, and how much of it.
struct Plan {
    table: Option<String>,
    size: Option<usize>,
    stage: Option<usize>,
    csv: Option<PathBuf>,
    rounds: usize,
    requests: usize,
    messages: usize,
    poured: usize,
}

impl Plan {
    fn from_args() -> Result<Self, Error> {
        let mut plan = Self {
            table: None,
            size: None,
            stage: None,
            csv: None,
            rounds: 15,
            requests: 640,
            messages: 20_000,
            poured: 50_000,
        };
        let mut args = env::args().skip(1);
        while let Some(arg) = args.next() {
            if arg == "--csv" {
                plan.csv = Some(args.next().ok_or("--csv needs a file")?.into());
                continue;
            }
            let mut number = || -> Result<usize, Error> {
                let text = args.next().ok_or_else(|| format!("{arg} needs a number"))?;
                Ok(text.parse()?)
            };
            match arg.as_str() {
                "--size" => plan.size = Some(number()?),
                "--stage" => plan.stage = Some(number()?),
                "--rounds" => plan.rounds = number()?.max(1),
                "--test" => {
                    plan.rounds = 2;
                    (plan.requests, plan.messages, plan.poured) = (128, 500, 500);
                }
                // What cargo says by itself.
                "--bench" => {}
                "requests" | "flow" | "pour" => plan.table = Some(arg),
                _ => return Err(format!("what is {arg}?").into()),
            }
        }
        Ok(plan)
    }

    fn has(&self, table: &str) -> bool {
        self.table.as_deref().is_none_or(|only| only == table)
    }

    /// Adds medians, and the least and the most of a round, to the file that was asked for.
    fn note(
        &self,
        stages: &[Stage],
        rows: &[Rates],
        size: usize,
        window: usize,
    ) -> Result<(), Error> {
        let Some(path) = &self.csv else {
            return Ok(());
        };
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        if file.metadata()?.len() == 0 {
            writeln!(file, "client,window,size,rate,low,high")?;
        }
        for (stage, Rates { rates, .. }) in stages.iter().zip(rows) {
            let (middle, low, high) = (rates[rates.len() / 2], rates[0], rates[rates.len() - 1]);
            let name = stage.name.trim();
            writeln!(
                file,
                "{name},{window},{size},{middle:.0},{low:.0},{high:.0}"
            )?;
        }
        Ok(())
    }

    fn sizes<'a>(&self, sizes: &'a [usize]) -> impl Iterator<Item = usize> + use<'a> {
        let only = self.size;
        sizes
            .iter()
            .copied()
            .filter(move |size| only.is_none_or(|only| only == *size))
    }
}

/// Requests and their answers, both signed and both verified.
async fn requests(stages: &[Stage], plan: &Plan) -> Result<(), Error> {
    let (rounds, count) = (plan.rounds, plan.requests);
    println!("request and reply, {rounds} rounds of {count}, in µs");
    for size in plan.sizes(&REQUEST_SIZES) {
        for at_once in CONCURRENCY {
            println!("{size} bytes, {at_once} at once");
            let mut rows: Vec<Latencies> = stages.iter().map(|_| Latencies::default()).collect();
            for _ in 0..rounds {
                for (stage, row) in stages.iter().zip(&mut rows) {
                    row.add_round(stage.latencies(count, size, at_once).await?);
                }
            }
            let plain = (rows[0].quantile(0.5), rows[0].quantile(0.99));
            for (stage, row) in stages.iter().zip(&rows) {
                let (least, most) = row.spread();
                let (p50, p99) = (row.quantile(0.5), row.quantile(0.99));
                println!(
                    "  {:<20} p50 {p50:>7.1} {:>16} {:>+8.1}   p99 {p99:>7.1}  {:.2}",
                    stage.name,
                    format!("({least:.0}–{most:.0})"),
                    p50 - plain.0,
                    p99 / plain.1,
                );
            }
        }
    }
    println!();
    Ok(())
}

/// A stream with a bounded number of messages on their way, and the processor time of it.
async fn flow(stages: &[Stage], plan: &Plan, server: &Server) -> Result<(), Error> {
    let rounds = plan.rounds;
    println!("publisher to verified subscriber, {rounds} rounds");
    let cores = std::thread::available_parallelism()?.get() as f64;
    let (mut bound, mut bare) = (0.0, Vec::new());
    for size in plan.sizes(&SIZES) {
        let messages = plan.messages.min(ROUND_BYTES / size);
        for window in WINDOWS {
            println!("{size} bytes, {window} of {messages} on their way");
            let mut rows: Vec<Rates> = stages.iter().map(|_| Rates::default()).collect();
            for _ in 0..rounds {
                bare.push(cores / sign_and_verify().as_secs_f64());
                for (stage, row) in stages.iter().zip(&mut rows) {
                    let before = (own_spent(), server.spent());
                    let spent = stage.flow(messages, size, window).await?;
                    row.rates.push(messages as f64 / spent.as_secs_f64());
                    row.charge(before, (own_spent(), server.spent()), messages);
                }
            }
            report(stages, &mut rows);
            plan.note(stages, &rows, size, window)?;
            bare.sort_by(f64::total_cmp);
            bound = bare[bare.len() / 2];
            let single = stages.iter().zip(&rows);
            if let Some((_, row)) = single.into_iter().find(|(s, _)| s.name == SIGNED_SINGLY) {
                let share = row.median() / bound;
                println!("  one by one {share:.2} of what {cores} cores can sign and verify");
            }
        }
    }
    println!("bare signatures and verifications on every core: {bound:.0} a second\n");
    Ok(())
}

/// A stream whose publisher waits for nobody.
async fn pour(stages: &[Stage], plan: &Plan) -> Result<(), Error> {
    let rounds = plan.rounds;
    println!("publisher that waits for nobody to verified subscriber, {rounds} rounds");
    for size in plan.sizes(&SIZES) {
        let messages = plan.poured.min(ROUND_BYTES / size);
        println!("{size} bytes, {messages} published");
        let mut rows: Vec<Rates> = stages.iter().map(|_| Rates::default()).collect();
        for _ in 0..rounds {
            for (stage, row) in stages.iter().zip(&mut rows) {
                let outcome = stage.pour(messages, size).await?;
                let spent = outcome.spent.as_secs_f64();
                row.rates.push(outcome.arrived as f64 / spent);
                row.lost += messages - outcome.arrived;
            }
        }
        report(stages, &mut rows);
    }
    println!();
    Ok(())
}

/// What one signature and one verification cost, as bare as can be, one after the other.
fn sign_and_verify() -> Duration {
    let key = SigningKey::from_bytes(&[7; 32]);
    let message = [5; 200];
    let start = Instant::now();
    for _ in 0..1_000 {
        let signature = black_box(&key).sign(black_box(&message));
        let verified = key.verifying_key().verify_strict(&message, &signature);
        black_box(verified).expect("it was just signed");
    }
    start.elapsed() / 1_000
}

fn report(stages: &[Stage], rows: &mut [Rates]) {
    for row in rows.iter_mut() {
        row.rates.sort_by(f64::total_cmp);
    }
    let plain = rows[0].median();
    for (stage, row) in stages.iter().zip(rows) {
        let (least, most) = (row.rates[0], row.rates[row.rates.len() - 1]);
        print!(
            "  {:<20} {:>8.0} a second {:>18}  {:>5.2}",
            stage.name,
            row.median(),
            format!("({least:.0}–{most:.0})"),
            row.median() / plain,
        );
        if row.charged > 0 {
            let each = |spent: Duration| spent.as_secs_f64() * 1e6 / row.charged as f64;
            let (clients, server) = (each(row.clients), each(row.server));
            print!("   processor a message: clients {clients:.2} µs, server {server:.2} µs");
        }
        if row.lost > 0 {
            print!("   {} lost", row.lost);
        }
        println!();
    }
}

/// The throughput of one kind of client, by round, and what it cost.
#[derive(Default)]
struct Rates {
    rates: Vec<f64>,
    clients: Duration,
    server: Duration,
    charged: usize,
    lost: usize,
}

/// Processor time of the clients and of the server.
type Spent = (Option<Duration>, Option<Duration>);

impl Rates {
    fn median(&self) -> f64 {
        self.rates[self.rates.len() / 2]
    }

    fn charge(&mut self, before: Spent, after: Spent, messages: usize) {
        if let ((Some(ours), Some(its)), (Some(ours_now), Some(its_now))) = (before, after) {
            self.clients += ours_now - ours;
            self.server += its_now - its;
            self.charged += messages;
        }
    }
}

/// The latencies of one client, of all rounds together and by round.
#[derive(Default)]
struct Latencies {
    all: Vec<Duration>,
    medians: Vec<f64>,
}

impl Latencies {
    fn add_round(&mut self, mut taken: Vec<Duration>) {
        self.medians.push(quantile(&mut taken, 0.5));
        self.all.append(&mut taken);
    }

    /// In microseconds.
    fn quantile(&self, share: f64) -> f64 {
        quantile(&mut self.all.clone(), share)
    }

    /// The least and the largest median of a round, in microseconds.
    fn spread(&self) -> (f64, f64) {
        let least = self.medians.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.medians.iter().copied().fold(0.0, f64::max))
    }
}

/// In microseconds. There is at least one measurement in every round.
fn quantile(taken: &mut [Duration], share: f64) -> f64 {
    taken.sort();
    let index = (share * (taken.len() - 1) as f64).round() as usize;
    taken[index].as_secs_f64() * 1e6
}
