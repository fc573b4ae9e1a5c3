//! `serve`: the verifier service of a mesh.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use trustmesh::ConnectOptions;
use trustmesh::client::home::Home;
use trustmesh::keyfile;
use trustmesh::keyfile::KeyFileError;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::names::VERIFIER_ID;
use trustmesh::services::authority::Authority;
use trustmesh::services::verifier::ToStore;
use trustmesh::services::verifier::VerifierError;
use trustmesh::services::verifier::VerifierOptions;
use trustmesh::services::verifier::VerifierService;

use super::OK;
use super::Outcome;
use super::init;
use crate::cli::Global;
use crate::failure::Failure;
use crate::failure::INTERNAL;
use crate::operator::Keeper;
use crate::output::NAME;
use crate::output::Output;
use crate::output::styled;
use crate::setting::Setting;
use crate::setting::without_credentials;
use crate::text;
use crate::traffic;

/// How often to look whether the service goes on.
const LOOK: Duration = Duration::from_millis(500);

/// Run the verifier service: admit agents, renew them, and publish what is trusted, live
#[derive(Args, Debug)]
#[command(
    after_help = "It needs the mesh directory with its role keys, and a nats-server with JetStream. It runs until SIGINT
or SIGTERM. With --dev, a development mesh is made first where there is none. While it runs, revoke,
policy push, agent add, root succeed and rotate --recover go through it.

Examples:
  trustmesh serve --dev                 a mesh to try things with, and its service
  trustmesh serve --mesh /srv/shop --server tls://nats.example:4222"
)]
pub struct Serve {
    /// The mesh directory, instead of the one in use.
    #[arg(long, value_name = "DIR")]
    mesh: Option<PathBuf>,
    /// How long certificates last: 24h at the most.
    #[arg(long, default_value = "12h", value_parser = text::duration, value_name = "DURATION")]
    certificate_ttl: Duration,
    /// How long a key works after it was rotated away.
    #[arg(long, default_value = "10m", value_parser = text::duration, value_name = "DURATION")]
    grace: Duration,
}

pub async fn run(args: &Serve, global: &Global, output: &Output) -> Outcome {
    let global = Global {
        home: args.mesh.clone().or_else(|| global.home.clone()),
        ..global.clone()
    };
    let mut setting = Setting::of(&global)?;
    if global.dev && !setting.path().join("trust").exists() {
        init::make_served(setting.path(), &global, output)?;
        setting = Setting::of(&global)?;
    }
    let home = setting.path().to_owned();
    let Some(keeper) = keeper(&home, &setting)? else {
        let text = format!("{} is served already", home.display());
        return Err(Failure::usage(text)
            .next("end the other process first")
            .into());
    };
    let service = start(args, &setting, &home).await?;
    let name = setting.trust()?.root().name().to_owned();
    let operator = operator::listen(&home, output);
    let end = traffic::asked_to_end();
    tokio::pin!(end);
    let server = without_credentials(setting.server());
    output.result(
        format_args!("serving the mesh {}", styled(NAME, &name)),
        &serde_json::json!({"serving": name, "server": server, "home": home}),
    )?;
    let mut look = tokio::time::interval(LOOK);
    let superseded = loop {
        tokio::select! {
            () = &mut end => break false,
            stream = operator::next(&operator) => operator::answer(stream, &service, &home).await,
            _ = look.tick() => if !service.is_running() {
                break true;
            },
        }
    };
    operator::close(operator, &home);
    service.stop().await;
    drop(keeper);
    if superseded {
        let text = "another verifier service of this mesh has taken over";
        return Err(Failure::relayed(INTERNAL, text)
            .next("let one of the two run; this one has published nothing since")
            .into());
    }
    Ok(OK)
}

/// The right to write to the books, when the directory is that of a served mesh.
fn keeper(home: &Path, setting: &Setting) -> anyhow::Result<Option<Keeper>> {
    setting.open()?;
    if !setting.keeps_served() {
        // Says what is missing, where the keys are not here.
        Authority::open(home)?;
        let text = format!("the mesh in {} is a static one", home.display());
        return Err(Failure::config(text)
            .next("make a served one: trustmesh init DIR --served")
            .into());
    }
    Keeper::take(home)
}

async fn start(args: &Serve, setting: &Setting, home: &Path) -> anyhow::Result<VerifierService> {
    // Says first what is wrong with a development mesh in production.
    setting.trust()?;
    let mut authority = Authority::open(home)?;
    let key = Arc::new(service_key(home)?);
    let (bus, other) = (
        setting.bus_of(&key.public().bytes()).await?,
        setting.bus_of(&key.public().bytes()).await?,
    );
    let identity = authority.verifier(key)?;
    let mut options = VerifierOptions::default();
    options.certificate_ttl = args.certificate_ttl;
    options.rotation_grace = args.grace;
    let connect = ConnectOptions::new(identity);
    let publication = ToStore::on(other).saved_to(home);
    VerifierService::start(authority, connect, bus, publication, options)
        .await
        .map_err(|error| match error {
            VerifierError::Publication => {
                Failure::unreachable("the trust state could not be published")
                    .fact(
                        "usually",
                        "the nats-server runs without JetStream, or the login may not use it",
                    )
                    .next("nats-server -js; TRUSTMESH_LOG=warn says what the server answered")
                    .into()
            }
            other => anyhow::Error::from(other),
        })
}

/// The key of the service, which lies where an agent's does; made at the first start.
fn service_key(home: &Path) -> anyhow::Result<SigningKey> {
    let id = AgentId::parse(VERIFIER_ID)?;
    let directory = Home::open(home)?.agent_directory(&id);
    let path = directory.join("key.pem");
    private_directory(&directory)?;
    let key = SigningKey::generate()?;
    match keyfile::create(&path, &key) {
        Ok(()) => Ok(key),
        Err(KeyFileError::Exists { .. }) => Ok(keyfile::load(&path)?),
        Err(error) => Err(error.into()),
    }
}

/// Makes a directory and those above it, the owner's alone.
pub fn private_directory(path: &Path) -> anyhow::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(|why| Failure::config(format!("cannot make {}: {why}", path.display())).into())
}

/// The operator's socket.
#[cfg(unix)]
mod operator {
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::time::Duration;

    use tokio::io::AsyncBufReadExt as _;
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixListener;
    use tokio::net::UnixStream;
    use trustmesh::services::verifier::VerifierService;

    use crate::failure::Failure;
    use crate::operator::Answer;
    use crate::operator::LINE_MAX;
    use crate::operator::answer_within;
    use crate::operator::socket;
    use crate::output::Output;
    use crate::output::WARN;
    use crate::output::styled;

    /// How long an operator may take to say what it wants, and to hear the answer.
    const LINE_WITHIN: Duration = Duration::from_secs(5);

    /// Listens. The mesh is held by this process, so a socket that lies there is nobody's.
    pub fn listen(home: &Path, output: &Output) -> Option<UnixListener> {
        let path = socket(home);
        // There is none, as a rule.
        let _ = std::fs::remove_file(&path);
        let listening = UnixListener::bind(&path).and_then(|listener| {
            // The directory is its owner's alone; the socket as well.
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        });
        listening
            .inspect_err(|why| {
                let (warning, path) = (styled(WARN, "warning:"), path.display());
                output.note(format_args!(
                    "{warning} no operator can be heard on {path}: {why}; stop the service to make changes"
                ));
            })
            .ok()
    }

    /// The next operator. Dropped before one came, nothing is lost.
    pub async fn next(listener: &Option<UnixListener>) -> UnixStream {
        let Some(listener) = listener else {
            return std::future::pending().await;
        };
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return stream,
                // Out of file descriptors, perhaps: not at full speed.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Does what an operator wants. Whoever holds it up is left after a while.
    pub async fn answer(stream: UnixStream, service: &VerifierService, home: &Path) {
        if let Err(error) = converse(stream, service, home).await {
            tracing::warn!(%error, "an operator could not be answered");
        }
    }

    async fn converse(
        stream: UnixStream,
        service: &VerifierService,
        home: &Path,
    ) -> anyhow::Result<()> {
        let owner = std::fs::metadata(home.join("authority"))?.uid();
        let asker = stream.peer_cred()?.uid();
        anyhow::ensure!(asker == owner || asker == 0, "another user: {asker}");
        let (read, mut write) = stream.into_split();
        let mut line = String::new();
        let mut read = tokio::io::BufReader::new(read.take(LINE_MAX));
        tokio::time::timeout(LINE_WITHIN, read.read_line(&mut line)).await??;
        let mut answer = match serde_json::from_str(&line) {
            Ok(request) => answer_within(service, home, request).await?,
            Err(why) => {
                let failure = Failure::usage(format!("no request: {why}"));
                serde_json::to_vec(&Answer::<()>::of(Err(failure.into())))?
            }
        };
        answer.push(b'\n');
        tokio::time::timeout(LINE_WITHIN, write.write_all(&answer)).await??;
        Ok(())
    }

    /// Nobody is heard any more.
    pub fn close(listener: Option<UnixListener>, home: &Path) {
        if listener.is_some() {
            // The next service removes it as well.
            let _ = std::fs::remove_file(socket(home));
        }
    }
}

/// Without sockets in the file system, no operator is heard.
#[cfg(not(unix))]
mod operator {
    use std::path::Path;

    use trustmesh::services::verifier::VerifierService;

    use crate::output::Output;

    pub fn listen(_: &Path, _: &Output) {}

    pub async fn next(_: &()) {
        std::future::pending().await
    }

    pub async fn answer((): (), _: &VerifierService, _: &Path) {}

    pub fn close((): (), _: &Path) {}
}
