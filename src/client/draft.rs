//! A message with more than a subject and a payload.

use std::time::Duration;

use bytes::Bytes;

use super::Client;
use super::message::Message;
use super::outbound::Letter;
use crate::bus::HeaderMap;
use crate::bus::PublishError;
use crate::bus::RequestError;
use crate::bus::Subject as BusSubject;
use crate::proto::chain::Chain;
use crate::proto::identity::KeyBytes;

/// A message being composed: see [`Client::compose`].
///
/// Here a worker reads from a store on the authority that came with its task:
///
/// ```
/// use std::time::Duration;
///
/// # use trustmesh::ConnectOptions;
/// use trustmesh::Message;
/// # use trustmesh::bus::memory::MemoryBus;
/// use trustmesh::proto::scope::Scope;
/// # use trustmesh::services::authority::Authority;
///
/// # type Error = Box<dyn std::error::Error + Send + Sync>;
/// #
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let mut mesh = Authority::dev("demo")?;
/// # let bus = MemoryBus::new();
/// # let planner = mesh.agent("planner", ["req:work.>", "req+delegate:store.>"])?;
/// # let worker = mesh.agent("worker", ["sub+serve:work.>"])?;
/// # let store = mesh.agent("store", ["sub+serve:store.>"])?;
/// # let planner = ConnectOptions::new(planner).connect_bus(bus.connect()).await?;
/// # let worker = ConnectOptions::new(worker).connect_bus(bus.connect()).await?;
/// # let store = ConnectOptions::new(store).connect_bus(bus.connect()).await?;
/// # let read = |_: Message| async { Ok::<_, Error>("a report".into()) };
/// # let _store = store.serve("store.read", read).await?;
/// let work = |task: Message| async move {
///     let answer = task.acting()?.request("store.read", task.payload.clone()).await?;
///     Ok::<_, Error>(answer.payload)
/// };
/// let _service = worker.serve("work.read", work).await?;
///
/// let scope = Scope::parse(["req:store.read"])?;
/// let grant = planner.delegate(worker.id(), scope, Duration::from_secs(30))?;
/// let draft = planner.compose("work.read").payload("report.txt").grant(&grant);
/// assert_eq!(draft.request().await?.payload, "a report");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a draft does nothing until it is published or sent as a request"]
pub struct Draft {
    client: Client,
    letter: Letter,
    timeout: Option<Duration>,
}

impl Draft {
    pub(crate) fn new(client: Client, subject: BusSubject) -> Self {
        let timeout = client.timeout();
        Self {
            client,
            letter: Letter {
                subject,
                ..Letter::default()
            },
            timeout,
        }
    }

    /// The payload; empty by default.
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.letter.payload = payload.into();
        self
    }

    /// Application headers, in place of any before: at most 64, of 16 KiB together.
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.letter.headers = Some(headers);
        self
    }

    /// What the payload is: a media type or the like, at most 96 bytes. `trustmesh/…` is taken by
    /// this crate's own.
    pub fn payload_type(mut self, payload_type: &'static str) -> Self {
        self.letter.payload_type = payload_type;
        self
    }

    /// The one key it is meant for; others refuse it. Of a request it is the only one that can
    /// answer.
    pub fn audience(mut self, key: KeyBytes) -> Self {
        self.letter.audience = Some(key);
        self
    }

    /// Hands authority over with the message. For a queue group, one chain per known member: at
    /// most 8, of 16 KiB together.
    pub fn grant(mut self, chain: &Chain) -> Self {
        self.letter.grants.push(chain.bytes().clone());
        self
    }

    /// For how long it may be accepted, in place of the client's lifetime; 1 ms to 120 s. Anything
    /// else is refused when it is sent.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        // A lifetime out of range is refused when the envelope is made.
        self.letter.ttl_ms = Some(u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX));
        self
    }

    /// How long a request waits for its answer, in place of the client's timeout; `None` waits for
    /// ever.
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// Publishes it.
    ///
    /// On the reply subject of a request received before it is the answer, and goes to the
    /// requester's key whatever [`audience`](Self::audience) says.
    ///
    /// # Errors
    ///
    /// As [`Client::publish`].
    pub async fn publish(self) -> Result<(), PublishError> {
        self.client.post(self.letter).await
    }

    /// Sends it as a request and waits for the answer.
    ///
    /// # Errors
    ///
    /// As [`Client::request`].
    pub async fn request(self) -> Result<Message, RequestError> {
        self.client.ask(self.letter, self.timeout).await
    }
}
