//! The verifier service: an agent of the mesh that holds its online role keys and answers who wants
//! to join, to go on, or to take something back (protocol §22).
//!
//! ```text
//! <prefix>.verifier.enrol    frames, without certificate: hello → offer → proof → welcome
//! <prefix>.verifier.renew    certificate, or root grant, for another term
//! <prefix>.verifier.rotate   another key for the same agent
//! <prefix>.verifier.revoke   a link one signed, or one's own key
//! <prefix>.verifier.approve  one's own chain, where policy asks for an approval
//! <prefix>.verifier.report   evidence of what somebody did, which counts against its score
//! $SRV.PING | INFO | STATS   as NATS knows services
//! ```
//!
//! One task owns the books and decides one message after the other, so that races are settled by
//! order. What it decides is [published](Publication) before it is answered.

mod desk;
pub mod evidence;
mod limits;
mod micro;
mod publication;
mod publisher;
mod store;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::SelectAll;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::desk::BookChange;
use self::desk::Command;
use self::desk::Desk;
use self::micro::Micro;
use crate::bus::Bus;
use crate::bus::BusSubscriber;
use crate::bus::Outgoing;
use crate::bus::Subject;
use crate::bus::SubscribeError;
use crate::client::Client;
use crate::client::ConnectOptions;
use crate::client::control::Control;
use crate::client::random::random;
use crate::client::task;
use crate::error::ConnectError;
use crate::proto::enrol::EnrolRefused;
use crate::proto::limits::SERVED_CERTIFICATE_MS;
use crate::proto::names::VERIFIER_ID;
use crate::proto::request::Verb;
use crate::proto::request::control_subject;
use crate::proto::request::enrol_subject;
use crate::services::authority::Authority;
use crate::services::authority::ROTATION_GRACE_MS;

pub use self::publication::InProcess;
pub use self::publication::Publication;
pub use self::publication::ToDirectory;
pub use self::publisher::PublicationError;
pub use self::store::ToStore;

/// How often the service looks what has become due.
const TICK: Duration = Duration::from_secs(1);

/// Commands of the operator that wait at once; the next caller waits.
const COMMANDS: usize = 16;

/// How much the service gives and does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifierOptions {
    /// How long certificates last: 12 hours by default, 24 at the most.
    pub certificate_ttl: Duration,
    /// How long a key works after it was rotated away: 10 minutes by default.
    pub rotation_grace: Duration,
    /// Enrolment hellos answered a second, whoever sends them; a flood costs a tenth of a core.
    pub hellos_per_second: u32,
    /// Enrolment proofs checked a second.
    pub proofs_per_second: u32,
    /// Control requests checked a second.
    pub requests_per_second: u32,
    /// Control requests of one key served a second.
    pub requests_per_key: u32,
    /// Links that one key can revoke a second.
    pub revocations_per_second: u32,
    /// Links that one key can revoke a day.
    pub revocations_per_day: u32,
    /// Pieces of evidence heard a second, whoever reports them: up to ten signatures each.
    pub reports_per_second: u32,
    /// Pieces of evidence of one reporter heard a second.
    pub reports_per_key: u32,
}

impl Default for VerifierOptions {
    fn default() -> Self {
        Self {
            certificate_ttl: Duration::from_millis(SERVED_CERTIFICATE_MS),
            rotation_grace: Duration::from_millis(ROTATION_GRACE_MS),
            hellos_per_second: 1_000,
            proofs_per_second: 500,
            requests_per_second: 1_000,
            requests_per_key: 20,
            revocations_per_second: 10,
            revocations_per_day: 1_000,
            reports_per_second: 50,
            reports_per_key: 4,
        }
    }
}

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierError {
    /// The identity does not hold, or the bus cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It cannot listen.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// The identity is not the service's: see [`Authority::verifier`].
    #[error("the service runs as the agent `verifier` of its own mesh")]
    Identity,
    /// The books could not be published.
    #[error("the books could not be published")]
    Publication,
}

/// What came of a change to the books.
#[derive(Debug)]
#[must_use = "a change that was not published is nothing that anybody else goes by"]
pub struct Changed<T> {
    /// What the change returned.
    pub outcome: T,
    /// Whether the books were published with it.
    ///
    /// When they were not, they are changed all the same, and the service tries again every second
    /// and with the next change; until then others go by what was published before, and a service
    /// that dies has lost the change unless its [`Publication`] had saved it. After
    /// [`Superseded`](PublicationError::Superseded) the service ends, and the change counts nowhere:
    /// it is to be made at the other.
    pub published: Result<(), PublicationError>,
}

impl<T> Changed<T> {
    /// What the change returned, when everybody who hears the mesh goes by it.
    ///
    /// # Errors
    ///
    /// [`PublicationError`], as in [`published`](Self::published).
    pub fn in_force(self) -> Result<T, PublicationError> {
        self.published.map(|()| self.outcome)
    }
}

/// A running verifier service. Dropped, it ends at once; [`stop`](Self::stop) ends it in order.
///
/// ```
/// use std::sync::Arc;
///
/// use trustmesh::ConnectOptions;
/// use trustmesh::bus::memory::MemoryBus;
/// use trustmesh::proto::identity::SigningKey;
/// use trustmesh::services::authority::Authority;
/// use trustmesh::services::verifier::{InProcess, VerifierOptions, VerifierService};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut mesh = Authority::dev("demo")?;
/// let identity = mesh.verifier(Arc::new(SigningKey::generate()?))?;
/// let (bus, options) = (MemoryBus::new(), ConnectOptions::new(identity));
/// let service = VerifierService::start(
///     mesh,
///     options,
///     bus.connect(),
///     InProcess,
///     VerifierOptions::default(),
/// )
/// .await?;
///
/// // The operator's changes go through the service, which publishes them.
/// let revoked = service.change(|mesh| mesh.revoke_agent("planner")).await;
/// revoked.ok_or("the service has ended")?.in_force()??;
/// let _mesh = service.stop().await;
/// # Ok(())
/// # }
/// ```
pub struct VerifierService {
    commands: mpsc::Sender<Command>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Authority>,
}

impl fmt::Debug for VerifierService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifierService").finish_non_exhaustive()
    }
}

impl VerifierService {
    /// Starts the service with the books, as the identity that [`Authority::verifier`] made.
    /// Publishes; when this returns, the service listens.
    ///
    /// Must be called within a tokio runtime, which carries its task.
    ///
    /// # Errors
    ///
    /// [`VerifierError`]: nothing was started.
    pub async fn start(
        authority: Authority,
        options: ConnectOptions,
        bus: impl Bus,
        publication: impl Publication,
        settings: VerifierOptions,
    ) -> Result<Self, VerifierError> {
        let trust = options.identity.trust.current();
        let own = options.identity.id.as_str() == VERIFIER_ID && trust.mesh() == authority.mesh();
        if !own {
            return Err(VerifierError::Identity);
        }
        let bus: Arc<dyn Bus> = Arc::new(bus);
        let control = Arc::new(Control::beside(bus.clone()));
        let client = Client::start(options, bus, control)?;
        let shared = client.shared.clone();
        let now = shared.clock.now().map_err(ConnectError::from)?;
        let endpoints = endpoints(&shared.prefix);
        let id = data_encoding::HEXLOWER.encode(&random::<12>().map_err(ConnectError::from)?);
        let micro = Micro::new(id, now, endpoints.clone());
        let bus = shared.control.bus().await.map_err(ConnectError::from)?;
        let bus = bus.clone();
        let mut intake = Intake::open(&*bus, &endpoints, &micro).await?;
        let publication = Box::new(publication);
        let mut desk = Desk::new(authority, publication, client, settings.bounded(), micro)
            .map_err(ConnectError::from)?;
        let opened = desk.open_business().await;
        opened.map_err(|reason| match reason {
            EnrolRefused::KeyTaken => VerifierError::Identity,
            _ => VerifierError::Publication,
        })?;
        let (commands, mut asked) = mpsc::channel::<Command>(COMMANDS);
        let (stop, mut stopped) = oneshot::channel();
        let task = task::spawn(async move {
            let mut tick = tokio::time::interval(TICK);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                // No order among them: a flood on one is not to silence the others.
                let answer = tokio::select! {
                    _ = &mut stopped => break,
                    Some(command) = asked.recv() => { desk.command(command).await; None }
                    Some(frame) = intake.enrol.next() => desk.enrol(&frame).await,
                    Some(frame) = intake.control.next() => desk.request(&frame).await,
                    Some(frame) = intake.micro.next() => desk.micro(&frame),
                    _ = tick.tick() => { desk.tick().await; None }
                };
                send(&*bus, answer).await;
                if desk.is_superseded() {
                    tracing::warn!("another verifier service of this mesh has taken over");
                    break;
                }
            }
            desk.close().await;
            desk.into_authority()
        });
        Ok(Self {
            commands,
            stop: Some(stop),
            task,
        })
    }

    /// Lets the operator change the books, between two requests, and publishes them: what came of
    /// the two is told apart. `None` when the service has ended. Cancelling does not take the
    /// change back.
    pub async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Authority) -> T + Send + 'static,
    ) -> Option<Changed<T>> {
        let (tell, told) = oneshot::channel();
        let change: BookChange = Box::new(move |authority| {
            let outcome = change(authority);
            Box::new(move |published| {
                // Whoever asked may have stopped waiting.
                let _ = tell.send(Changed { outcome, published });
            })
        });
        self.commands.send(Command::Change(change)).await.ok()?;
        told.await.ok()
    }

    /// Lets the operator look at the books, between two requests. `None` when the service has ended.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Authority) -> T + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = oneshot::channel();
        let look = Box::new(move |authority: &Authority| {
            // Whoever asked may have stopped waiting.
            let _ = tell.send(look(authority));
        });
        self.commands.send(Command::Look(look)).await.ok()?;
        told.await.ok()
    }

    /// Whether the service goes on; it ends by itself when another of this mesh has taken over.
    pub fn is_running(&self) -> bool {
        !self.task.is_finished()
    }

    /// Ends the service: what it is deciding is answered, its audit is flushed. Returns the books.
    pub async fn stop(mut self) -> Option<Authority> {
        if let Some(stop) = self.stop.take() {
            // It may have ended by itself.
            let _ = stop.send(());
        }
        (&mut self.task).await.ok()
    }
}

impl Drop for VerifierService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where the service listens: each kind apart, so that none fills another's queue.
struct Intake {
    enrol: BusSubscriber,
    control: SelectAll<BusSubscriber>,
    micro: SelectAll<BusSubscriber>,
}

impl Intake {
    async fn open(
        bus: &dyn Bus,
        endpoints: &[(&'static str, String)],
        micro: &Micro,
    ) -> Result<Self, SubscribeError> {
        let subscribe = |subject: &str| bus.subscribe(Subject::from(subject), None);
        let (enrol, control) = endpoints.split_at(1);
        let mut intake = Self {
            enrol: subscribe(&enrol[0].1).await?,
            control: SelectAll::new(),
            micro: SelectAll::new(),
        };
        for (_, subject) in control {
            intake.control.push(subscribe(subject).await?);
        }
        for subject in micro.subjects() {
            intake.micro.push(subscribe(&subject).await?);
        }
        Ok(intake)
    }
}

/// Names and subjects of what is served, enrolment first.
fn endpoints(prefix: &str) -> Vec<(&'static str, String)> {
    let verbs = Verb::ALL.map(|verb| (verb.name(), control_subject(prefix, verb)));
    std::iter::once(("enrol", enrol_subject(prefix)))
        .chain(verbs)
        .collect()
}

async fn send(bus: &dyn Bus, answer: Option<Outgoing>) {
    let Some(answer) = answer else { return };
    if let Err(error) = bus.publish(answer).await {
        tracing::debug!(%error, "an answer could not be sent");
    }
}
