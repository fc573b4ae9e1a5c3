//! What signing and verifying cost on a bus: plain `async_nats` and trustmesh beside each other on
//! one local nats-server, and trustmesh in this process.
//!
//! ```text
//! cargo bench --bench bus                 the comparison below, then criterion's own report
//! cargo bench --bench bus -- --test       once through everything, to see that it runs
//! ```
//!
//! The comparison alternates between the clients round by round, so that a busy moment of the
//! machine meets all of them. It needs a `nats-server`: named in `NATS_SERVER_BIN`, on the `PATH`,
//! or in `.tools/`, where `scripts/test` puts one.

use std::env;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use criterion::BenchmarkId;
use criterion::Criterion;
use criterion::Throughput;
use futures::StreamExt;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use trustmesh::ConnectOptions;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::services::authority::Authority;

/// Payload sizes, in bytes: a word, and a small document.
const SIZES: [usize; 2] = [16, 256];

/// Messages on their way at once when throughput is measured. None is dropped: a subscription
/// holds far more.
const WINDOWS: [usize; 2] = [256, 2_048];

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
    let server = Server::start()?;
    let runtime = Runtime::new()?;
    let stages = runtime.block_on(stages(&server.url()))?;
    let plan = if env::args().any(|arg| arg == "--test") {
        Plan {
            rounds: 2,
            requests: 5,
            messages: 500,
        }
    } else {
        Plan {
            rounds: 15,
            requests: 400,
            messages: 20_000,
        }
    };
    runtime.block_on(compare(&stages, plan))?;
    let mut criterion = Criterion::default().configure_from_args();
    measure(&mut criterion, &runtime, &stages);
    criterion.final_summary();
    drop(stages);
    Ok(())
}

/// How much the comparison does.
#[derive(Clone, Copy)]
struct Plan {
    rounds: usize,
    requests: usize,
    messages: usize,
}

/// Measures every client in every round, and prints medians with the spread over the rounds.
async fn compare(stages: &[Stage], plan: Plan) -> Result<(), Error> {
    let Plan {
        rounds,
        requests,
        messages,
    } = plan;
    println!("request and reply, {rounds} rounds of {requests}, in µs");
    println!(
        "{:<20} {:>5}  {:>7} {:>15}  {:>7}  {:>6}",
        "", "bytes", "p50", "(of rounds)", "p99", "ratio"
    );
    for size in SIZES {
        let mut rows: Vec<Latencies> = stages.iter().map(|_| Latencies::default()).collect();
        for _ in 0..rounds {
            for (stage, row) in stages.iter().zip(&mut rows) {
                row.add_round(stage.latencies(requests, size).await?);
            }
        }
        let plain = rows[0].quantile(0.5);
        for (stage, row) in stages.iter().zip(&rows) {
            let (least, most) = row.spread();
            println!(
                "{:<20} {size:>5}  {:>7.1} {:>15}  {:>7.1}  {:>6.2}",
                stage.name,
                row.quantile(0.5),
                format!("({least:.1}–{most:.1})"),
                row.quantile(0.99),
                row.quantile(0.5) / plain,
            );
        }
        let added = rows[1].quantile(0.5) - plain;
        println!("signing and verifying add {added:.1} µs at p50; the bar is 250");
    }
    println!("\npublish to verified handler, 256 bytes, {rounds} rounds of {messages}, in 1/s");
    for window in WINDOWS {
        println!("{window} on their way");
        let mut rates: Vec<Vec<f64>> = stages.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (stage, rates) in stages.iter().zip(&mut rates) {
                let spent = stage.flow(messages, 256, window).await?;
                rates.push(messages as f64 / spent.as_secs_f64());
            }
        }
        for rates in &mut rates {
            rates.sort_by(f64::total_cmp);
        }
        let median = |rates: &[f64]| rates[rates.len() / 2];
        let plain = median(&rates[0]);
        for (stage, rates) in stages.iter().zip(&rates) {
            let (least, most) = (rates[0], rates[rates.len() - 1]);
            println!(
                "{:<20} {:>9.0} {:>22}  {:>6.2}",
                stage.name,
                median(rates),
                format!("({least:.0}–{most:.0})"),
                median(rates) / plain,
            );
        }
    }
    println!();
    Ok(())
}

fn measure(criterion: &mut Criterion, runtime: &Runtime, stages: &[Stage]) {
    let mut group = criterion.benchmark_group("request");
    for size in SIZES {
        for stage in stages {
            let id = BenchmarkId::new(stage.name, size);
            group.bench_function(id, |bencher| {
                bencher.to_async(runtime).iter_custom(async |count| {
                    let taken = stage.latencies(count as usize, size).await;
                    taken.expect("requests are answered").iter().sum()
                });
            });
        }
    }
    group.finish();
    let mut group = criterion.benchmark_group("publish");
    group.throughput(Throughput::Elements(1));
    for stage in stages {
        group.bench_function(BenchmarkId::new(stage.name, 256), |bencher| {
            bencher.to_async(runtime).iter_custom(async |count| {
                let spent = stage.flow(count as usize, 256, WINDOWS[0]).await;
                spent.expect("messages arrive")
            });
        });
    }
    group.finish();
}

/// Two clients of one kind: the first asks and publishes, the second answers and listens.
struct Stage {
    name: &'static str,
    /// The first tokens of its subjects.
    top: &'static str,
    near: Client,
    /// Given back by the listener, one a message.
    window: Arc<Semaphore>,
}

enum Client {
    Plain(async_nats::Client),
    Signed(trustmesh::Client),
}

async fn stages(url: &str) -> Result<Vec<Stage>, Error> {
    let mut mesh = Authority::dev("bench")?;
    let mut options = |name: &str| {
        let near = mesh.agent(&format!("{name}-near"), ["pub+req:bench.>"])?;
        let far = mesh.agent(&format!("{name}-far"), ["sub+serve:bench.>"])?;
        Ok::<_, Error>((ConnectOptions::new(near), ConnectOptions::new(far)))
    };
    let memory = MemoryBus::new();
    let plain = Stage::plain(url, "bench.plain").await?;
    let (near, far) = options("nats")?;
    let (near, far) = (near.connect(url).await?, far.connect(url).await?);
    let nats = Stage::signed("trustmesh/nats", "bench.nats", near, far).await?;
    let (near, far) = options("memory")?;
    let near = near.connect_bus(memory.connect()).await?;
    let far = far.connect_bus(memory.connect()).await?;
    let memory = Stage::signed("trustmesh/memory", "bench.memory", near, far).await?;
    Ok(vec![plain, nats, memory])
}

impl Stage {
    async fn plain(url: &str, top: &'static str) -> Result<Self, Error> {
        let near = async_nats::connect(url).await?;
        let far = async_nats::connect(url).await?;
        let mut requests = far.subscribe(format!("{top}.ask")).await?;
        let mut news = far.subscribe(format!("{top}.flow")).await?;
        let window = Arc::new(Semaphore::new(0));
        let returned = window.clone();
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let Some(reply) = request.reply else { continue };
                if far.publish(reply, request.payload).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            while news.next().await.is_some() {
                returned.add_permits(1);
            }
        });
        let near = Client::Plain(near);
        Self {
            name: "async_nats",
            top,
            near,
            window,
        }
        .ready()
        .await
    }

    /// The same program with the types of trustmesh, except that messages go to a handler.
    async fn signed(
        name: &'static str,
        top: &'static str,
        near: trustmesh::Client,
        far: trustmesh::Client,
    ) -> Result<Self, Error> {
        let mut requests = far.subscribe(format!("{top}.ask")).await?;
        let window = Arc::new(Semaphore::new(0));
        let returned = window.clone();
        let handler = move |_| {
            returned.add_permits(1);
            std::future::ready(Ok::<_, std::convert::Infallible>(Bytes::new()))
        };
        let service = far.serve(format!("{top}.flow"), handler).await?;
        tokio::spawn(async move {
            // The service lives as long as the client that answers.
            let _service = service;
            while let Some(request) = requests.next().await {
                let Some(reply) = request.reply else { continue };
                if far.publish(reply, request.payload).await.is_err() {
                    return;
                }
            }
        });
        let near = Client::Signed(near);
        Self {
            name,
            top,
            near,
            window,
        }
        .ready()
        .await
    }

    /// Waits until both subscriptions are there: subscribing is no round trip.
    async fn ready(self) -> Result<Self, Error> {
        let deadline = Instant::now() + PATIENCE;
        while self.ask(Bytes::new()).await.is_err() {
            if Instant::now() > deadline {
                return Err(format!("{} does not answer", self.name).into());
            }
        }
        Ok(self)
    }

    /// How long each of `count` requests took, one after the other.
    async fn latencies(&self, count: usize, size: usize) -> Result<Vec<Duration>, Error> {
        let mut taken = Vec::with_capacity(count);
        for number in 0..count {
            let payload = distinct(number, size);
            let start = Instant::now();
            self.ask(payload).await?;
            taken.push(start.elapsed());
        }
        Ok(taken)
    }

    /// How long `count` messages take from the first publish to the last handler.
    async fn flow(&self, count: usize, size: usize, window: usize) -> Result<Duration, Error> {
        let payloads: Vec<Bytes> = (0..count).map(|number| distinct(number, size)).collect();
        let start = Instant::now();
        for (number, payload) in payloads.into_iter().enumerate() {
            if number >= window {
                self.returned(1).await?;
            }
            self.publish(payload).await?;
        }
        self.returned(count.min(window)).await?;
        Ok(start.elapsed())
    }

    async fn returned(&self, messages: usize) -> Result<(), Error> {
        let permits = self.window.acquire_many(messages as u32);
        let permits = match self.window.try_acquire_many(messages as u32) {
            Ok(permits) => permits,
            Err(_) => tokio::time::timeout(PATIENCE, permits).await??,
        };
        permits.forget();
        Ok(())
    }

    async fn ask(&self, payload: Bytes) -> Result<(), Error> {
        let subject = format!("{}.ask", self.top);
        match &self.near {
            Client::Plain(client) => drop(client.request(subject, payload).await?),
            Client::Signed(client) => drop(client.request(subject, payload).await?),
        }
        Ok(())
    }

    async fn publish(&self, payload: Bytes) -> Result<(), Error> {
        let subject = format!("{}.flow", self.top);
        match &self.near {
            Client::Plain(client) => client.publish(subject, payload).await?,
            Client::Signed(client) => client.publish(subject, payload).await?,
        }
        Ok(())
    }
}

/// A payload unlike those before it.
fn distinct(number: usize, size: usize) -> Bytes {
    let mut payload = vec![0; size];
    let number = number.to_be_bytes();
    payload[..number.len()].copy_from_slice(&number);
    payload.into()
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

/// A nats-server of our own on a loopback port, ended with this value.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start() -> Result<Self, Error> {
        let binary = find_binary().ok_or(
            "no nats-server: name one in NATS_SERVER_BIN, put one on the PATH, or run \
             scripts/test, which puts one into .tools/",
        )?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let child = Command::new(&binary)
            .args(["-a", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{} cannot be run: {error}", binary.display()))?;
        let server = Self { child, port };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                return Err(format!("{} does not answer", binary.display()).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find_binary() -> Option<PathBuf> {
    if let Some(named) = env::var_os("NATS_SERVER_BIN") {
        return Some(named.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools");
    let mut folders = env::split_paths(&path).chain([tools]);
    folders.find_map(|folder| Some(folder.join("nats-server")).filter(|file| file.is_file()))
}
