//! How long a revocation takes from the verifier service to every receiver: twenty agents on one
//! local nats-server, a thousand revocations.
//!
//! ```text
//! cargo bench --bench revocation              the table below
//! cargo bench --bench revocation -- --test    a few, to see that it runs
//! ```
//!
//! The time runs from the operator's call until the trust state that a receiver decides by has the
//! revocation: from then on it accepts nothing under it. A sender whose key is revoked in the middle
//! goes on sending all the same, and what each receiver accepts of it is counted. The bar is 250 ms
//! for 99 of 100. It needs a `nats-server`: named in `NATS_SERVER_BIN`, on the `PATH`, or in
//! `.tools/`, where `scripts/test` puts one.

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
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::watch;
use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::Subscriber;
use trustmesh::audit::AuditEvent;
use trustmesh::audit::Word;
use trustmesh::bus::Bus as _;
use trustmesh::bus::Outgoing;
use trustmesh::bus::nats::NatsBus;
use trustmesh::client::clock::Clock as _;
use trustmesh::client::clock::SystemClock;
use trustmesh::client::enrol::Enrolment;
use trustmesh::client::join::fetch_root;
use trustmesh::proto::envelope::EnvelopeDraft;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::replay::MessageId;
use trustmesh::proto::scope::Action;
use trustmesh::proto::scope::Scope;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::trust::Admission;
use trustmesh::services::authority::Authority;
use trustmesh::services::authority::JoinTerms;
use trustmesh::services::verifier::ToStore;
use trustmesh::services::verifier::VerifierOptions;
use trustmesh::services::verifier::VerifierService;

const AGENTS: usize = 20;

const REVOCATIONS: usize = 1_000;

/// Within which 99 of 100 must be known.
const BAR: Duration = Duration::from_millis(250);

/// How often each receiver's state is looked at: what is measured is late by so much.
const LOOK: Duration = Duration::from_micros(250);

/// Whatever takes this long does not happen any more.
const PATIENCE: Duration = Duration::from_secs(60);

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new();
    let outcome = runtime
        .map_err(Error::from)
        .and_then(|runtime| runtime.block_on(run()));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("bench revocation: the bar is missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench revocation: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<bool, Error> {
    let server = Server::start()?;
    let count = if env::args().any(|arg| arg == "--test") {
        20
    } else {
        REVOCATIONS
    };
    let mesh = Mesh::start(server.url()).await?;
    let mut receivers = Vec::new();
    for n in 0..AGENTS {
        receivers.push(mesh.agent(&format!("r{n}"), "sub:news").await?);
    }
    let mallory = mesh.agent("mallory", "pub:news").await?;
    let mut streams = Vec::new();
    for receiver in &receivers {
        let stream = receiver.subscribe("news").await?;
        streams.push((receiver.clone(), tokio::spawn(consume(stream))));
    }
    let known = |receiver: &Client| !receiver.trust().certificates_of(mallory.id()).is_empty();
    wait(|| receivers.iter().all(known)).await?;
    let acceptances = acceptances(&receivers);
    let traffic = tokio::spawn(keep_sending(mesh.bus().await?, mallory.clone()));

    let (told, ask) = watch::channel(None::<Asked>);
    let observers: Vec<_> = receivers
        .iter()
        .map(|receiver| tokio::spawn(observe(receiver.clone(), ask.clone(), count)))
        .collect();
    let mut epoch_of_mallory = u64::MAX;
    let mut answered = Vec::with_capacity(count);
    for n in 0..count {
        // In the middle it is the sender that all of them hear all the time.
        let name = if n == count / 2 {
            "mallory".to_owned()
        } else {
            format!("gone{n}")
        };
        let revoked = AgentId::parse(&name)?;
        let began = Instant::now();
        let asked = Asked { n, revoked, began };
        told.send(Some(asked.clone()))?;
        let change = mesh.service.change(move |mesh| mesh.revoke_agent(&name));
        change.await.ok_or("the service ended")?.in_force()??;
        answered.push(began.elapsed());
        let has = |receiver: &Client| receiver.trust().revocations().has_agent(&asked.revoked);
        wait(|| receivers.iter().all(has)).await?;
        if asked.revoked == *mallory.id() {
            let published = mesh.service.change(|mesh| mesh.publish());
            let state = published
                .await
                .ok_or("the service ended")?
                .in_force()??
                .current();
            epoch_of_mallory = state.epochs().revocations;
        }
    }
    drop(told);
    let mut every = Vec::new();
    println!(
        "{:>10} {:>9} {:>9} {:>9}",
        "receiver", "p50 ms", "p99 ms", "max ms"
    );
    for (n, observer) in observers.into_iter().enumerate() {
        let mut taken = observer.await?;
        if taken.len() != count {
            return Err(format!("r{n} saw {} of {count}", taken.len()).into());
        }
        print(&format!("r{n}"), &mut taken);
        every.append(&mut taken);
    }
    print("all", &mut every);
    print("answered", &mut answered);
    traffic.abort();
    let mut accepted = 0;
    for receiver in &receivers {
        receiver.flush_audit().await;
        accepted += receiver.counters().allowed;
    }
    let count = || acceptances.lock().map_or(0, |epochs| epochs.len() as u64);
    wait(|| count() == accepted).await?;
    let epochs = acceptances
        .lock()
        .map_err(|_| "a reader of the audit panicked")?;
    let late = epochs
        .iter()
        .filter(|epoch| **epoch >= epoch_of_mallory)
        .count();
    println!("of the revoked sender {accepted} accepted before, {late} by a receiver that knew");
    let p99 = quantile(&mut every, 0.99);
    println!("p99 {:.2} ms, bar {} ms", millis(p99), BAR.as_millis());
    Ok(p99 <= BAR && late == 0 && accepted > 0)
}

/// What is being revoked, since when.
#[derive(Clone)]
struct Asked {
    n: usize,
    revoked: AgentId,
    began: Instant,
}

/// How long each revocation took until this receiver decides by it.
async fn observe(
    receiver: Client,
    mut ask: watch::Receiver<Option<Asked>>,
    count: usize,
) -> Vec<Duration> {
    let mut taken = Vec::with_capacity(count);
    while taken.len() < count && ask.changed().await.is_ok() {
        let Some(asked) = ask.borrow_and_update().clone() else {
            continue;
        };
        let mut look = tokio::time::interval(LOOK);
        while !receiver.trust().revocations().has_agent(&asked.revoked) {
            look.tick().await;
        }
        taken.push(asked.began.elapsed());
        debug_assert_eq!(taken.len(), asked.n + 1);
    }
    taken
}

/// The epochs of the states by which messages were accepted: all of them are mallory's.
fn acceptances(receivers: &[Client]) -> Arc<Mutex<Vec<u64>>> {
    let accepted = Arc::new(Mutex::new(Vec::new()));
    for receiver in receivers {
        let (mut audit, accepted) = (receiver.audit(), accepted.clone());
        tokio::spawn(async move {
            while let Some(record) = audit.next().await {
                if let AuditEvent::Decision(decision) = record.event
                    && decision.verdict == Word::Allow
                    && let Ok(mut accepted) = accepted.lock()
                {
                    accepted.push(decision.revocations);
                }
            }
        });
    }
    accepted
}

/// Sends as the agent would if its own client did not refuse.
async fn keep_sending(bus: NatsBus, from: Client) -> Result<(), Error> {
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    for n in 0u128.. {
        pace.tick().await;
        let (mid, now) = (MessageId(n.to_be_bytes()), SystemClock::new().now()?);
        let draft = EnvelopeDraft::new(mid, now, Action::Publish, Subject::parse("news")?);
        let envelope = draft.sign(&from.credential())?;
        bus.publish(Outgoing::new("news", envelope.into_bytes()))
            .await?;
    }
    Ok(())
}

async fn consume(mut stream: Subscriber) {
    use futures::StreamExt as _;
    while stream.next().await.is_some() {}
}

async fn wait(mut holds: impl FnMut() -> bool) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > deadline {
            return Err("what was waited for did not happen".into());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn print(name: &str, taken: &mut [Duration]) {
    let [half, most, max] = [0.5, 0.99, 1.0].map(|share| millis(quantile(taken, share)));
    println!("{name:>10} {half:>9.2} {most:>9.2} {max:>9.2}");
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn quantile(taken: &mut [Duration], share: f64) -> Duration {
    taken.sort();
    let index = (share * (taken.len() - 1) as f64).round() as usize;
    taken[index]
}

/// A served mesh on the server.
struct Mesh {
    url: String,
    service: VerifierService,
}

impl Mesh {
    async fn start(url: String) -> Result<Self, Error> {
        let mut mesh = Authority::served("bench")?;
        mesh.set_policy(Policy::from_json(
            r#"{ "rules": [ { "name": "all", "effect": "allow", "actions": ["pub", "sub"],
                "subjects": ">" } ] }"#,
        )?)?;
        let identity = mesh.verifier(Arc::new(SigningKey::generate()?))?;
        let to = ToStore::on(connect(&url).await?);
        let (options, bus) = (ConnectOptions::new(identity), connect(&url).await?);
        let settings = VerifierOptions::default();
        let service = VerifierService::start(mesh, options, bus, to, settings).await?;
        Ok(Self { url, service })
    }

    async fn bus(&self) -> Result<NatsBus, Error> {
        connect(&self.url).await
    }

    /// An agent that joined by a token and follows the mesh.
    async fn agent(&self, id: &str, capability: &str) -> Result<Client, Error> {
        let terms = JoinTerms::new(Scope::parse([capability])?);
        let token = self.service.change(move |mesh| mesh.join_token(&terms));
        let token = token.await.ok_or("the service ended")?.outcome?;
        let bus = self.bus().await?;
        let root = fetch_root(&token, &bus).await?;
        let enrolment = Enrolment::new(token, root.clone()).agent(AgentId::parse(id)?);
        let enrolled = enrolment
            .join(&bus, Arc::new(SigningKey::generate()?))
            .await?;
        let identity = enrolled.follow(root, Admission::Production, &bus).await?;
        Ok(ConnectOptions::new(identity)
            .connect(self.url.as_str())
            .await?)
    }
}

async fn connect(url: &str) -> Result<NatsBus, Error> {
    let options = trustmesh::bus::ConnectOptions::new();
    Ok(NatsBus::connect(url, options).await?)
}

/// A nats-server of our own on a loopback port, ended with this value.
struct Server {
    child: Child,
    port: u16,
    _files: tempfile::TempDir,
}

impl Server {
    fn start() -> Result<Self, Error> {
        let binary = find_binary().ok_or(
            "no nats-server: name one in NATS_SERVER_BIN, put one on the PATH, or run \
             scripts/test, which puts one into .tools/",
        )?;
        let files = tempfile::tempdir()?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let child = Command::new(&binary)
            .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"])
            .arg(files.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{} cannot be run: {error}", binary.display()))?;
        let server = Self {
            child,
            port,
            _files: files,
        };
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
