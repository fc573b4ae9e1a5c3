//! Handlers: run for verified messages, checked once more at the start, isolated from each other.

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::Client;
use super::Shared;
use super::counters::count;
use super::guards::lock;
use super::message::Message;
use super::subscriber::Subscriber;
use super::task;
use crate::bus::HeaderMap;
use crate::bus::SubscribeError;
use crate::bus::ToSubject;
use crate::proto::audit::AuditEvent;
use crate::proto::chain::VerifiedChain;
use crate::proto::rejection::Internal;
use crate::proto::rejection::Rejection;
use crate::proto::verify;

/// Handlers of one service that run at once. More messages wait, checked again when their turn
/// comes.
const CONCURRENCY: usize = 64;

/// NATS's own convention for a service that failed.
const ERROR_HEADER: &str = "Nats-Service-Error";
const ERROR_CODE_HEADER: &str = "Nats-Service-Error-Code";

impl Client {
    /// Runs a handler for every verified message on a subject, up to 64 at a time. For requests,
    /// what the handler returns is the answer; an error becomes an answer with the header
    /// `Nats-Service-Error`, at most 1,024 characters of the error's text.
    ///
    /// Needs SUB on the subject, and SERVE to answer.
    ///
    /// Right before a handler starts, the message is checked again for what time and trust state
    /// can have changed. A handler that panics is audited and costs nobody else anything.
    ///
    /// The service runs until the returned value is dropped or stopped, or the client drained.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    ///
    /// ```
    /// # use trustmesh::ConnectOptions;
    /// use trustmesh::Message;
    /// # use trustmesh::bus::memory::MemoryBus;
    /// # use trustmesh::services::authority::Authority;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut mesh = Authority::dev("demo")?;
    /// # let planner = mesh.agent("planner", ["req:tools.>"])?;
    /// # let tool = mesh.agent("tool", ["sub+serve:tools.>"])?;
    /// # let bus = MemoryBus::new();
    /// # let planner = ConnectOptions::new(planner).connect_bus(bus.connect()).await?;
    /// # let tool = ConnectOptions::new(tool).connect_bus(bus.connect()).await?;
    /// let upper = |request: Message| async move {
    ///     let text = String::from_utf8(request.payload.to_vec())?;
    ///     Ok::<_, std::string::FromUtf8Error>(text.to_uppercase().into())
    /// };
    /// let service = tool.serve("tools.upper", upper).await?;
    ///
    /// let answer = planner.request("tools.upper", "tea".into()).await?;
    /// assert_eq!(answer.payload, "TEA");
    /// service.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn serve<S, H, F, E>(&self, subject: S, handler: H) -> Result<Service, SubscribeError>
    where
        S: ToSubject,
        H: Fn(Message) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Bytes, E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let subscriber = self.subscribe(subject).await?;
        Ok(start(self.shared.clone(), subscriber, handler))
    }

    /// [`serve`](Self::serve), as a member of a queue group.
    ///
    /// # Errors
    ///
    /// As [`queue_subscribe`](Self::queue_subscribe).
    pub async fn queue_serve<S, H, F, E>(
        &self,
        subject: S,
        queue_group: String,
        handler: H,
    ) -> Result<Service, SubscribeError>
    where
        S: ToSubject,
        H: Fn(Message) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Bytes, E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let subscriber = self.queue_subscribe(subject, queue_group).await?;
        Ok(start(self.shared.clone(), subscriber, handler))
    }
}

/// A running service; dropping it stops the service after the messages it has received. Handlers
/// that run then run on.
#[derive(Debug)]
#[must_use = "dropping a service stops it"]
pub struct Service {
    stop: Option<oneshot::Sender<()>>,
    done: watch::Receiver<bool>,
}

impl Service {
    /// Stops the service and waits until its last handler has ended, those of messages already
    /// received included. Cancelling stops it all the same, without waiting.
    pub async fn stop(mut self) {
        // Dropping the sender is the signal.
        self.stop = None;
        // An error means that the service is gone, which is what is waited for.
        let _ = self.done.wait_for(|done| *done).await;
    }
}

/// The services of one client, so that draining can wait for them.
#[derive(Debug, Default)]
pub(crate) struct Services(Mutex<Vec<(watch::Sender<bool>, JoinHandle<()>)>>);

impl Services {
    /// Stops every service and waits for their handlers.
    pub(crate) async fn stop(&self) {
        let running = std::mem::take(&mut *lock(&self.0));
        for (stop, task) in running {
            // A service that has ended needs no stopping.
            let _ = stop.send(true);
            // A service task does not panic: handlers are isolated.
            let _ = task.await;
        }
    }
}

pub(crate) fn start<H, F, E>(shared: Arc<Shared>, mut subscriber: Subscriber, handler: H) -> Service
where
    H: Fn(Message) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Bytes, E>> + Send + 'static,
    E: Display + Send + 'static,
{
    subscriber.counts_runs = false;
    let (stop, stopped) = oneshot::channel();
    let (drain, draining) = watch::channel(false);
    let (ended, done) = watch::channel(false);
    let handler = Arc::new(handler);
    let running = async move {
        run(subscriber, handler, stopped, draining).await;
        // Nobody may be waiting.
        let _ = ended.send(true);
    };
    let handle = task::spawn(running);
    let mut services = lock(&shared.services.0);
    services.retain(|(_, task)| !task.is_finished());
    services.push((drain, handle));
    Service {
        stop: Some(stop),
        done,
    }
}

async fn run<H, F, E>(
    mut subscriber: Subscriber,
    handler: Arc<H>,
    mut stopped: oneshot::Receiver<()>,
    mut draining: watch::Receiver<bool>,
) where
    H: Fn(Message) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Bytes, E>> + Send + 'static,
    E: Display + Send + 'static,
{
    let limit = Arc::new(Semaphore::new(CONCURRENCY));
    let mut crew = task::Crew::default();
    let mut stopping = false;
    loop {
        let next = tokio::select! {
            biased;
            _ = &mut stopped, if !stopping => None,
            // The client was drained, or is gone with everything else.
            _ = draining.changed(), if !stopping => None,
            message = subscriber.next() => match message {
                Some(message) => Some(message),
                None => break,
            },
        };
        let Some(message) = next else {
            stopping = true;
            // What was received still comes out; a connection that is gone ends the stream too.
            let _ = subscriber.drain().await;
            continue;
        };
        // The semaphore is never closed, so a permit always comes.
        let Ok(permit) = limit.clone().acquire_owned().await else {
            break;
        };
        let (handler, own) = (handler.clone(), subscriber.authority());
        crew.spawn(async move {
            dispatch(message, &own, handler).await;
            drop(permit);
        });
    }
    crew.join().await;
}

async fn dispatch<H, F, E>(message: Message, own: &VerifiedChain, handler: Arc<H>)
where
    H: Fn(Message) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Bytes, E>> + Send + 'static,
    E: Display + Send + 'static,
{
    let shared = message.shared().clone();
    if let Err(rejection) = recheck(&shared, &message, own) {
        withdraw(&shared, &message, rejection);
        return;
    }
    count(&shared.tally.handler_runs);
    let asked = message.reply.is_some();
    let (back, reply) = (message.client(), message.reply.clone());
    let span = tracing::info_span!(
        "handle",
        agent = %shared.identity.id,
        subject = %message.subject,
        sender = %message.sender(),
        mid = %message.verified().claims().mid,
    );
    let ran = AssertUnwindSafe(async { handler(message.clone()).await })
        .catch_unwind()
        .instrument(span)
        .await;
    let answer = match ran {
        Ok(answer) => answer,
        Err(_) => {
            count(&shared.tally.handler_panics);
            panicked(&shared, &message);
            return;
        }
    };
    let Some(reply) = reply.filter(|_| asked) else {
        return;
    };
    let sent = match answer {
        Ok(payload) => back.publish(reply, payload).await,
        Err(error) => {
            back.publish_with_headers(reply, error_headers(&error.to_string()), Bytes::new())
                .await
        }
    };
    if let Err(error) = sent {
        tracing::warn!(agent = %shared.identity.id, %error, "an answer could not be sent");
    }
}

fn error_headers(text: &str) -> HeaderMap {
    // A header is one line.
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(1024)
        .collect();
    let mut headers = HeaderMap::new();
    headers.insert(ERROR_HEADER, line.as_str());
    headers.insert(ERROR_CODE_HEADER, "500");
    headers
}

fn recheck(shared: &Shared, message: &Message, own: &VerifiedChain) -> Result<(), Rejection> {
    let (now, trust) = shared.moment()?;
    let (scene, verified) = (shared.scene(now, &trust), message.verified());
    verified.recheck(&scene, shared.skew)?;
    verify::check_receiver(own, &verified.claims().subject, &scene, shared.skew)
}

/// The message will not be handled after all.
fn withdraw(shared: &Shared, message: &Message, rejection: Rejection) {
    count(&shared.tally.withdrawn);
    tracing::info!(agent = %shared.identity.id, %rejection, "withdrawn before its handler ran");
    event(shared, message, rejection);
}

fn panicked(shared: &Shared, message: &Message) {
    tracing::error!(agent = %shared.identity.id, subject = %message.subject, "a handler panicked");
    event(
        shared,
        message,
        Rejection::Internal {
            reason: Internal::Handler,
        },
    );
}

fn event(shared: &Shared, message: &Message, rejection: Rejection) {
    let Ok(now) = shared.clock.now() else { return };
    let event = AuditEvent::Withdrawn {
        object: message.verified().id().to_string(),
        class: rejection.class().name().to_owned(),
        code: rejection.code(),
    };
    shared.audit.event(now, event);
}
