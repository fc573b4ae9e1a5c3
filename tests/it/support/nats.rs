//! Real NATS servers for tests: from a local image where a Docker engine answers, otherwise from
//! a `nats-server` binary, never from a registry.
//!
//! Whatever way the test process ends, its servers end with it: a watchdog shell reads from a pipe
//! only this process holds, and when that closes it kills what it watches.

use std::env;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::LazyLock;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use testcontainers_modules::nats::Nats;
use testcontainers_modules::testcontainers::ContainerAsync;
use testcontainers_modules::testcontainers::ContainerRequest;
use testcontainers_modules::testcontainers::ImageExt;
use testcontainers_modules::testcontainers::core::IntoContainerPort;
use testcontainers_modules::testcontainers::runners::AsyncRunner;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

/// The image `scripts/test` builds from the server binary.
const IMAGE: &str = "trustmesh-test/nats";

/// Its tag, and the server's version. Also in `scripts/test`.
const VERSION: &str = "2.12.8";

/// A password for users of test servers, and its bcrypt hash.
pub const PASSWORD: &str = "3EqErmB4wKClkTNvDcFQgUdpwLl0FFNQj5bRjWpms7o";
pub const HASH: &str = "$2b$04$TRJn3TuwEuchpb3g2j6GSuowyLKkO1JLAUOcbSzgBFTgAcq/dZHHe";

/// How long a server may take to answer: far more than it needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const INSTRUCTIONS: &str = "\
no NATS server to test against. Run scripts/test, which provides one, or
  - build the image trustmesh-test/nats:2.12.8 where a Docker engine runs, or
  - name a server binary in NATS_SERVER_BIN, or put nats-server on the PATH or in .tools/";

/// Servers outlive the tests that start them, so they are looked after on a runtime of their own,
/// whose clock no test pauses.
static KEEPER: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime for the servers")
});

static SOURCE: LazyLock<Option<Source>> = LazyLock::new(Source::find);

static SHARED: OnceCell<NatsServer> = OnceCell::const_new();

/// The server all tests share that need nothing special. Use subjects of your own on it.
pub async fn shared() -> &'static NatsServer {
    SHARED.get_or_init(NatsServer::start).await
}

static JETSTREAM: OnceCell<NatsServer> = OnceCell::const_new();

/// The server with JetStream that all tests share. Use bucket names of your own on it.
pub async fn jetstream() -> &'static NatsServer {
    JETSTREAM.get_or_init(NatsServer::start_jetstream).await
}

/// A running nats-server on a loopback port.
pub struct NatsServer {
    /// Where JetStream of a process keeps its files, across restarts; that of a container keeps
    /// them within.
    _files: Option<tempfile::TempDir>,
    port: u16,
    /// There whenever nothing is being done to it.
    running: Option<Running>,
}

/// A file beside the configuration: its name, by which the configuration names it, and its text.
pub type File = (&'static str, String);

impl NatsServer {
    /// Starts a server with the default configuration.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts a server with JetStream.
    pub async fn start_jetstream() -> Self {
        let files = tempfile::tempdir().expect("a folder for JetStream");
        let config = format!("jetstream {{ store_dir: {:?} }}", files.path());
        let mut server = Self::start_with(&config).await;
        server._files = Some(files);
        server
    }

    /// Starts a server whose configuration file holds `config`.
    pub async fn start_with(config: &str) -> Self {
        Self::start_with_files(config, Vec::new()).await
    }

    /// Starts a server whose configuration names these files.
    pub async fn start_with_files(config: &str, extra: Vec<File>) -> Self {
        let config = config.to_owned();
        let source = SOURCE.as_ref().unwrap_or_else(|| panic!("{INSTRUCTIONS}"));
        let start = KEEPER.spawn(async move {
            // Another program may take the free port before the server does.
            for _ in 0..5 {
                let port = free_port();
                if let Some(running) = Running::start(source, port, &config, &extra).await {
                    return Self {
                        _files: None,
                        port,
                        running: Some(running),
                    };
                }
            }
            panic!("nats-server does not start on any of five free ports");
        });
        start.await.expect("the server starts")
    }

    /// Where to connect.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port for those who speak the protocol themselves.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends the server without notice, as a crash would.
    pub async fn kill(&mut self) {
        self.having(|mut running| async {
            running.kill().await;
            running
        })
        .await;
    }

    /// Starts the server again, killed before if it was not, on the same port, with the same
    /// configuration and what JetStream had kept.
    pub async fn restart(&mut self) {
        let port = self.port;
        self.having(move |mut running| async move {
            running.kill().await;
            running.run().await;
            assert!(
                running.answers_on(port).await,
                "nats-server starts again on port {port}"
            );
            running
        })
        .await;
    }

    /// Does something to the server, where it is looked after.
    async fn having<T: Future<Output = Running> + Send + 'static>(
        &mut self,
        change: impl FnOnce(Running) -> T + Send + 'static,
    ) {
        let running = self.running.take().expect("nothing is being done to it");
        let changed = KEEPER.spawn(async move { change(running).await });
        self.running = Some(changed.await.expect("the server obeys"));
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let (done, wait) = mpsc::channel();
            KEEPER.spawn(async move {
                running.end().await;
                let _ = done.send(());
            });
            let _ = wait.recv();
        }
    }
}

/// A server, or one that was killed and can be run again.
enum Running {
    Container(Box<ContainerAsync<Nats>>, Watchdog),
    Process {
        command: Box<Command>,
        _folder: tempfile::TempDir,
        child: Option<(Child, Watchdog)>,
    },
}

impl Running {
    /// Starts a server and waits until it answers. None when it cannot have the port.
    async fn start(source: &Source, port: u16, config: &str, extra: &[File]) -> Option<Self> {
        let mut running = match source {
            Source::Docker => Self::container(port, config, extra).await?,
            Source::Binary(binary) => {
                let mut process = Self::process(binary, port, config, extra);
                process.run().await;
                process
            }
        };
        running.answers_on(port).await.then_some(running)
    }

    async fn container(port: u16, config: &str, extra: &[File]) -> Option<Self> {
        // By this label scripts/test sees that no container stays behind.
        let run = env::var("TRUSTMESH_TEST_RUN");
        let run = run.unwrap_or_else(|_| std::process::id().to_string());
        let mut request: ContainerRequest<Nats> = Nats::default()
            .with_name(IMAGE)
            .with_tag(VERSION)
            .with_copy_to("/nats.conf", config.as_bytes().to_vec())
            .with_cmd(["-c", "/nats.conf", "-a", "0.0.0.0", "-p", "4222"])
            .with_mapped_port(port, 4222.tcp())
            .with_label("trustmesh.test", run)
            // It is ready when it answers; the image's own conditions read log lines.
            .with_ready_conditions(Vec::new())
            .with_host_config_modifier(|host| {
                let bindings = host.port_bindings.iter_mut().flat_map(|b| b.values_mut());
                for binding in bindings.flatten().flatten() {
                    binding.host_ip = Some("127.0.0.1".to_owned());
                }
            });
        for (name, text) in extra {
            request = request.with_copy_to(format!("/{name}"), text.as_bytes().to_vec());
        }
        match request.start().await {
            Ok(container) => {
                let watchdog = Watchdog::over("docker rm --force --volumes", container.id());
                Some(Self::Container(Box::new(container), watchdog))
            }
            Err(error) if error.to_string().contains("port is already allocated") => None,
            Err(error) => panic!("{IMAGE}:{VERSION} does not start: {error}"),
        }
    }

    fn process(binary: &Path, port: u16, config: &str, extra: &[File]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the configuration");
        let file = folder.path().join("nats.conf");
        std::fs::write(&file, config).expect("the configuration is written");
        for (name, text) in extra {
            std::fs::write(folder.path().join(name), text).expect("the file is written");
        }
        let binary = binary.canonicalize().expect("the binary is there");
        let mut command = Command::new(binary);
        command.current_dir(folder.path());
        command
            .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-c"])
            .arg(&file);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self::Process {
            command: Box::new(command),
            _folder: folder,
            child: None,
        }
    }

    /// Runs a server that does not run.
    async fn run(&mut self) {
        match self {
            Self::Container(container, _) => {
                container.start().await.expect("the container starts again");
            }
            Self::Process { command, child, .. } => {
                let started = command.spawn().expect("nats-server can be run");
                let watchdog = Watchdog::over("kill -9", &started.id().to_string());
                *child = Some((started, watchdog));
            }
        }
    }

    /// Waits until the server answers; false when it ended, because it cannot have the port.
    async fn answers_on(&mut self, port: u16) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !answers(port).await {
            if let Self::Process { child, .. } = self
                && let Some((child, _)) = child
                && child.try_wait().expect("the child can be asked").is_some()
            {
                return false;
            }
            assert!(Instant::now() < deadline, "nats-server does not answer");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }

    /// Kills a server that runs.
    async fn kill(&mut self) {
        match self {
            Self::Container(container, _) => {
                if container.is_running().await.expect("docker says") {
                    let mut kill = tokio::process::Command::new("docker");
                    kill.args(["kill", "--signal", "KILL", container.id()]);
                    kill.stdout(Stdio::null());
                    let status = kill.status().await.expect("docker can be run");
                    assert!(status.success(), "the server is ours to kill");
                }
            }
            Self::Process { child, .. } => {
                if let Some((mut child, watchdog)) = child.take() {
                    child.kill().expect("the server is ours to kill");
                    child.wait().expect("the server ends");
                    watchdog.dismiss();
                }
            }
        }
    }

    async fn end(mut self) {
        match self {
            Self::Container(container, watchdog) => {
                container.rm().await.expect("the container is removed");
                watchdog.dismiss();
            }
            Self::Process { .. } => self.kill().await,
        }
    }
}

/// A shell that runs a command on its target when this process is gone.
struct Watchdog(Child);

impl Watchdog {
    fn over(command: &str, target: &str) -> Self {
        // The signals that end a test run from the terminal reach the whole process group.
        let script = format!("trap '' INT TERM HUP; read -r done || {command} \"$1\"");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "watchdog", target]);
        shell
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(shell.spawn().expect("sh can be run"))
    }

    fn dismiss(mut self) {
        let mut pipe = self.0.stdin.take().expect("the pipe was made at the start");
        pipe.write_all(b"done\n").expect("the watchdog listens");
        self.0.wait().expect("the watchdog ends");
    }
}

enum Source {
    Docker,
    Binary(PathBuf),
}

impl Source {
    /// `TRUSTMESH_TEST_NATS=docker` or `=binary` insists on one of the two.
    fn find() -> Option<Self> {
        let wish = env::var("TRUSTMESH_TEST_NATS").unwrap_or_default();
        let docker = || image_is_here().then_some(Self::Docker);
        let binary = || find_binary().map(Self::Binary);
        match wish.as_str() {
            "" => docker().or_else(binary),
            "docker" => docker(),
            "binary" => binary(),
            other => panic!("TRUSTMESH_TEST_NATS is docker or binary, not {other}"),
        }
    }
}

fn image_is_here() -> bool {
    let mut docker = Command::new("docker");
    docker.args(["image", "inspect", &format!("{IMAGE}:{VERSION}")]);
    docker
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    docker.status().is_ok_and(|status| status.success())
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

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("it was bound").port()
}

/// Whether a NATS server greets on `port`; that it accepts is not enough, Docker's proxy does too.
async fn answers(port: u16) -> bool {
    let mut greeting = [0; 4];
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else {
        return false;
    };
    stream.read_exact(&mut greeting).await.is_ok() && &greeting == b"INFO"
}
