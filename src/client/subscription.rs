//! A subscription with more than a subject.

use std::fmt::Display;
use std::future::Future;

use bytes::Bytes;

use super::Client;
use super::message::Message;
use super::serve;
use super::serve::Service;
use super::subscriber::Subscriber;
use crate::bus::Subject;
use crate::bus::SubscribeError;

/// A subscription being described: see [`Client::subscription`].
///
/// Here three processes of a queue group share their replay memory, so that whatever anybody sends
/// again, one of them runs a handler for it once:
///
/// ```
/// # use futures_util::StreamExt as _;
/// # use trustmesh::ConnectOptions;
/// # use trustmesh::bus::memory::MemoryBus;
/// # use trustmesh::services::authority::Authority;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut mesh = Authority::dev("demo")?;
/// # let planner = mesh.agent("planner", ["pub:tasks.>"])?;
/// # let worker = mesh.agent("worker", ["sub:tasks.>"])?;
/// # let bus = MemoryBus::new();
/// # let planner = ConnectOptions::new(planner).connect_bus(bus.connect()).await?;
/// # let worker = ConnectOptions::new(worker).connect_bus(bus.connect()).await?;
/// let tasks = worker.subscription("tasks.*").queue("workers").shared_replay();
/// let mut tasks = tasks.subscribe().await?;
/// planner.publish("tasks.index", "docs/".into()).await?;
/// assert_eq!(tasks.next().await.ok_or("closed")?.payload, "docs/");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a subscription does nothing until it is subscribed or served"]
pub struct Subscription {
    client: Client,
    subject: Subject,
    group: Option<String>,
    shared_replay: bool,
}

impl Subscription {
    pub(crate) fn new(client: Client, subject: Subject) -> Self {
        Self {
            client,
            subject,
            group: None,
            shared_replay: false,
        }
    }

    /// As a member of a queue group: each message goes to one member.
    pub fn queue(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Shares the replay memory through the bus's store (protocol §14.6), which NATS has with
    /// JetStream: of all members of the queue group that say so, one takes a message, and one that
    /// an earlier run of any of them took is refused. Without a queue group it is all subscriptions
    /// of this agent on this pattern, in whatever process.
    ///
    /// A message costs a round trip to the store; up to 64 are under way, and come out in order.
    /// While the store does not answer, messages are refused as
    /// [`Overloaded`](crate::proto::rejection::Overloaded::SharedReplay).
    ///
    /// A client takes at most 65,536 messages of one sender in three minutes, and refuses more of
    /// that sender alone.
    ///
    /// It holds against whoever sends messages again. It does not hold against the bus itself, nor
    /// against others that may write to the bucket: who removes claims can replay what they were
    /// for to another process, and who makes claims first can keep messages from everybody.
    pub fn shared_replay(mut self) -> Self {
        self.shared_replay = true;
        self
    }

    /// Subscribes.
    ///
    /// # Errors
    ///
    /// As [`Client::queue_subscribe`]. With [`shared_replay`](Self::shared_replay) also
    /// [`SubscribeErrorKind::Other`](crate::bus::SubscribeErrorKind::Other) when the store cannot
    /// be used, with a [`StoreError`](crate::bus::store::StoreError) among its sources, and below
    /// this agent's own inbox, where each answer counts once as it is.
    pub async fn subscribe(self) -> Result<Subscriber, SubscribeError> {
        let Self {
            client,
            subject,
            group,
            shared_replay,
        } = self;
        client.open(&subject, group, shared_replay).await
    }

    /// Subscribes and runs a handler for every message, as [`Client::serve`].
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    pub async fn serve<H, F, E>(self, handler: H) -> Result<Service, SubscribeError>
    where
        H: Fn(Message) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Bytes, E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let shared = self.client.shared.clone();
        let subscriber = self.subscribe().await?;
        Ok(serve::start(shared, subscriber, handler))
    }
}
