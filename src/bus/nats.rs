//! NATS as a [`Bus`], kept alive where `async_nats` alone would end.
//!
//! One header value with a bare carriage return panics the connection task of every `async_nats`
//! subscriber that receives it (nats-io/nats.rs#1612). Afterwards publishing fails and
//! subscriptions end, for good. Anyone who may publish can do that to everyone who listens, so
//! [`NatsBus`] notices, dials again with the same options, restores every subscription and goes
//! on. Programs built with `panic = "abort"` cannot be helped that way: they stop.

mod origin;
mod store;
mod supervision;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::client::traits::Publisher;
use async_nats::message::OutboundMessage;

use self::origin::Origin;
pub use self::origin::{Caution, OldServer, SERVER_FLOOR};
use self::store::NatsStore;
use self::supervision::{Phase, Shared, Wish};
use super::store::{BucketConfig, Store, StoreError};
use super::{
    Bus, BusFuture, BusSubscriber, ConnectError, ConnectErrorKind, ConnectOptions, DrainError,
    FlushError, FlushErrorKind, Outgoing, PublishError, PublishErrorKind, ReconnectError,
    ServerAddr, ServerInfo, State, Statistics, Subject, SubscribeError, SubscribeErrorKind,
    ToServerAddrs, is_one_word,
};

/// How long [`Bus::drain`] waits for queued messages to be written when the server is away.
const DRAIN_WRITES: Duration = Duration::from_secs(5);

/// A supervised connection to NATS. Clones share it.
///
/// While a connection is being replaced, publish and flush wait, as they do while `async_nats`
/// itself reconnects. Messages that arrive in that gap are lost, as they are in any other.
#[derive(Clone)]
pub struct NatsBus {
    shared: Arc<Shared>,
}

impl NatsBus {
    /// Connects with `options`, which also govern every later re-dial and [`Bus::second`], and with
    /// the default [`Caution`].
    ///
    /// Must be called within a tokio runtime; that runtime carries the connection. User and
    /// password may stand in the addresses, percent-encoded, or a token alone: then every address
    /// has the same, and they win over those of `options`. Neither errors nor `Debug` show them.
    ///
    /// TLS is used when an address begins with `tls://`, when `options` require it or name an
    /// issuer's or a client's certificate file, or when the server says so. All but the last hold
    /// against somebody who speaks in the server's place. A whole `tls_client_config` cannot be
    /// seen in `options`: require TLS beside it.
    ///
    /// # Errors
    ///
    /// [`ConnectErrorKind::ServerParse`] for addresses that are none or do not agree on user and
    /// password, [`ConnectErrorKind::Io`] with a source of [`OldServer`], otherwise what
    /// `async_nats` says of the first connection. Later ones are tried again, as `options` say.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use trustmesh::bus::nats::NatsBus;
    /// use trustmesh::bus::{Bus, ConnectOptions, Outgoing};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let options = ConnectOptions::new().connection_timeout(Duration::from_secs(2));
    /// let bus = NatsBus::connect("127.0.0.1:4222", options).await?;
    /// bus.publish(Outgoing::new("orders.new", "tea")).await?;
    /// bus.flush().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(
        addrs: impl ToServerAddrs,
        options: ConnectOptions,
    ) -> Result<Self, ConnectError> {
        Self::connect_with(addrs, options, Caution::default()).await
    }

    /// [`connect`](Self::connect), with another [`Caution`].
    ///
    /// It is applied whenever this bus dials, and to the server that `async_nats` finds when it
    /// reconnects by itself: strictly, a server that is too old is left as soon as the bus is used,
    /// nothing that it delivers comes out, and the addresses are dialled until another answers.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn connect_with(
        addrs: impl ToServerAddrs,
        options: ConnectOptions,
        caution: Caution,
    ) -> Result<Self, ConnectError> {
        let addrs: Vec<ServerAddr> = addrs
            .to_server_addrs()
            .map_err(|err| ConnectError::with_source(ConnectErrorKind::ServerParse, err))?
            .collect();
        Self::dial(Arc::new(Origin::new(addrs, options, caution)?)).await
    }

    async fn dial(origin: Arc<Origin>) -> Result<Self, ConnectError> {
        let client = origin.dial().await?;
        let shared = Arc::new(Shared::new(origin, client));
        Ok(Self { shared })
    }
}

impl Bus for NatsBus {
    fn publish(&self, message: Outgoing) -> BusFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            message.check(self.max_payload())?;
            loop {
                let link = self.shared.live().await;
                let link = link
                    .map_err(|closed| PublishError::with_source(PublishErrorKind::Send, closed))?;
                // Cloned because async_nats drops what it could not send.
                let outbound = OutboundMessage {
                    subject: message.subject.clone(),
                    reply: message.reply.clone(),
                    headers: message.headers.clone(),
                    payload: message.payload.clone(),
                };
                match link.client.publish_message(outbound).await {
                    Err(err) if err.kind() == PublishErrorKind::Send => self.shared.lost(&link),
                    answer => return answer,
                }
            }
        })
    }

    fn subscribe(
        &self,
        subject: Subject,
        queue: Option<String>,
    ) -> BusFuture<'_, Result<BusSubscriber, SubscribeError>> {
        Box::pin(async move {
            if !subject.is_valid() {
                return Err(SubscribeError::new(SubscribeErrorKind::InvalidSubject));
            }
            if queue.as_deref().is_some_and(|queue| !is_one_word(queue)) {
                return Err(SubscribeError::new(SubscribeErrorKind::InvalidQueueName));
            }
            let wish = Wish { subject, queue };
            let (link, mut subscription) = self.shared.want(wish.clone())?;
            // A lost link needs no asking here: whoever replaces it serves every open wish.
            if link.phase == Phase::Live && self.shared.holds(&link) {
                match wish.subscribe(&link.client).await {
                    Ok(inner) => subscription.begin(link, inner),
                    Err(err) if err.kind() == SubscribeErrorKind::Other => self.shared.lost(&link),
                    Err(err) => return Err(err),
                }
            }
            Ok(BusSubscriber::new(subscription))
        })
    }

    fn flush(&self) -> BusFuture<'_, Result<(), FlushError>> {
        Box::pin(async move {
            loop {
                let link = self.shared.live().await;
                let link = link
                    .map_err(|closed| FlushError::with_source(FlushErrorKind::SendError, closed))?;
                match link.client.flush().await {
                    Ok(()) => return Ok(()),
                    Err(_) => self.shared.lost(&link),
                }
            }
        })
    }

    fn drain(&self) -> BusFuture<'_, Result<(), DrainError>> {
        Box::pin(async move {
            let link = self.shared.link();
            if link.phase == Phase::Live {
                // async_nats closes the socket without waiting for its write buffer.
                let written = tokio::time::timeout(DRAIN_WRITES, link.client.flush()).await;
                if !matches!(written, Ok(Ok(()))) {
                    tracing::warn!("draining before all published messages were written");
                }
            }
            self.shared.close().map_err(DrainError)?;
            // A dead task cannot drain and needs not.
            let _ = self.shared.link().client.drain().await;
            Ok(())
        })
    }

    fn max_payload(&self) -> usize {
        self.shared.link().client.max_payload()
    }

    fn state(&self) -> State {
        let link = self.shared.link();
        match link.phase {
            Phase::Live => link.client.connection_state(),
            Phase::Lost | Phase::Closed => State::Disconnected,
        }
    }

    fn statistics(&self) -> Arc<Statistics> {
        self.shared.link().client.statistics()
    }

    fn server_info(&self) -> ServerInfo {
        self.shared.link().client.server_info()
    }

    fn second(&self) -> BusFuture<'_, Result<Arc<dyn Bus>, ConnectError>> {
        Box::pin(async move {
            let second = Self::dial(self.shared.origin().clone()).await?;
            Ok(Arc::new(second) as Arc<dyn Bus>)
        })
    }

    fn store<'a>(
        &'a self,
        bucket: &'a BucketConfig,
    ) -> BusFuture<'a, Result<Arc<dyn Store>, StoreError>> {
        Box::pin(NatsStore::open(self.shared.clone(), bucket.clone()))
    }

    fn redials(&self) -> u64 {
        self.shared.redials()
    }

    fn warnings(&self) -> u64 {
        self.shared.warnings()
    }

    fn warning(&self) -> Option<String> {
        let old = origin::old_server(&self.shared.link().client)?;
        Some(old.to_string())
    }

    fn force_reconnect(&self) -> BusFuture<'_, Result<(), ReconnectError>> {
        Box::pin(async move {
            let link = self.shared.live().await.map_err(ReconnectError)?;
            if link.client.force_reconnect().await.is_err() {
                self.shared.lost(&link);
            }
            Ok(())
        })
    }
}

impl fmt::Debug for NatsBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsBus")
            .field("servers", self.shared.origin())
            .field("phase", &self.shared.link().phase)
            .field("redials", &self.redials())
            .finish_non_exhaustive()
    }
}
