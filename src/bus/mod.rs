//! A place to publish and subscribe bytes.
//!
//! This ring moves messages and believes nothing: what a [`Bus`] hands over is a [`Delivery`],
//! the bus's word for who sent what where. Trust begins one ring further out.
//!
//! ```text
//! Outgoing ──publish──▶ Bus ──▶ BusSubscriber ──▶ Delivery (unverified)
//!                        │
//!                        ├─ nats::NatsBus            NATS, kept alive where async_nats would end
//!                        └─ memory::MemoryConnection the same semantics in this process
//! ```
//!
//! Both buses pass one conformance suite. Types that users of `async_nats` already have in their
//! programs ([`Subject`], [`HeaderMap`], the error kinds…) are `async_nats`'s own, re-exported.

mod exchange;
pub mod faults;
pub mod memory;
pub mod nats;
pub mod store;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub use async_nats::client::{FlushError, FlushErrorKind};
pub use async_nats::connection::State;
pub use async_nats::{
    ConnectError, ConnectErrorKind, ConnectOptions, HeaderMap, HeaderName, HeaderValue,
    PublishError, PublishErrorKind, Request, RequestError, RequestErrorKind, ServerAddr,
    ServerInfo, Statistics, StatusCode, Subject, SubscribeError, SubscribeErrorKind, ToServerAddrs,
    ToSubject,
};
use bytes::Bytes;
use futures_util::Stream;
use thiserror::Error;

use self::store::BucketConfig;
use self::store::Store;
use self::store::StoreError;

/// What an asynchronous method of [`Bus`] returns, boxed so that the trait stays object-safe.
/// Dropping it gives the operation up; a message may have been sent all the same.
pub type BusFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One connection to a message bus with NATS subject semantics.
///
/// Messages of one publisher to one subscriber stay in order; nothing else is promised. The bus
/// may drop, repeat, delay, rewrite or invent messages, and callers must not rely on it for more.
///
/// After [`Bus::drain`] every publish, subscribe and flush fails with a source of [`Closed`].
pub trait Bus: fmt::Debug + Send + Sync + 'static {
    /// Queues a message for sending. `Ok` means queued, never delivered.
    ///
    /// Subject, reply subject, headers and size are checked before any byte leaves.
    ///
    /// # Errors
    ///
    /// [`PublishErrorKind::InvalidSubject`] for a subject or reply subject that is empty or holds
    /// white space, [`PublishErrorKind::MaxPayloadExceeded`] when headers and payload together
    /// exceed [`Bus::max_payload`], [`PublishErrorKind::Send`] for a header that holds a line
    /// break and after [`Bus::drain`].
    fn publish(&self, message: Outgoing) -> BusFuture<'_, Result<(), PublishError>>;

    /// Asks for every message on `subject`, which may hold the wildcards `*` and `>`.
    ///
    /// With `queue`, each message goes to one member of all subscriptions of that group name.
    /// `Ok` means asked for: a message to oneself proves the subscription ready.
    ///
    /// # Errors
    ///
    /// [`SubscribeErrorKind::InvalidSubject`] and [`SubscribeErrorKind::InvalidQueueName`] for
    /// malformed names, [`SubscribeErrorKind::Other`] after [`Bus::drain`].
    fn subscribe(
        &self,
        subject: Subject,
        queue: Option<String>,
    ) -> BusFuture<'_, Result<BusSubscriber, SubscribeError>>;

    /// Waits until everything published so far has left this process. No server round trip.
    ///
    /// # Errors
    ///
    /// [`FlushErrorKind::SendError`] after [`Bus::drain`].
    fn flush(&self) -> BusFuture<'_, Result<(), FlushError>>;

    /// Closes the connection gently: what was published is written, messages already delivered
    /// to subscriptions still come out of them, then their streams end.
    ///
    /// # Errors
    ///
    /// [`DrainError`] when the connection was already drained or is gone.
    fn drain(&self) -> BusFuture<'_, Result<(), DrainError>>;

    /// The largest message the bus takes, headers and payload together, in bytes. What applications
    /// can send is less: see [`Client::max_payload`](crate::Client::max_payload).
    fn max_payload(&self) -> usize;

    /// Whether the bus can be reached right now. A drained connection is disconnected.
    fn state(&self) -> State;

    /// Counters of this connection alone; they keep counting across a re-dial.
    ///
    /// Ask again rather than keep the handle: a re-dial begins a new one where the old ended.
    fn statistics(&self) -> Arc<Statistics>;

    /// What the server said about itself when it was last connected to. Unauthenticated.
    fn server_info(&self) -> ServerInfo;

    /// Opens another connection to the same bus with the same options, so that our own traffic
    /// does not appear in the counters of the user's connection.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], what connecting says; a drained connection can still be asked.
    fn second(&self) -> BusFuture<'_, Result<Arc<dyn Bus>, ConnectError>>;

    /// Opens a bucket of the bus's compare-and-set store, over this connection. What a bucket may
    /// be believed, [`store`] says.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] for a malformed name, before anything is sent;
    /// [`StoreError::Unreachable`] when the bus has no store, or is away; [`StoreError::Config`]
    /// when the bucket exists and is another than asked for, or the server did not do as asked;
    /// [`StoreError::Refused`] when it does not exist and was not to be created.
    fn store<'a>(
        &'a self,
        bucket: &'a BucketConfig,
    ) -> BusFuture<'a, Result<Arc<dyn Store>, StoreError>>;

    /// How often a connection that had died for good was replaced by a new one.
    fn redials(&self) -> u64;

    /// What an operator must know about the server, in one line: that it is too old, and was
    /// accepted all the same. `None` when there is nothing.
    fn warning(&self) -> Option<String> {
        None
    }

    /// How often there was a new [`warning`](Self::warning) since the bus was made, as after a
    /// reconnect to another server.
    fn warnings(&self) -> u64 {
        0
    }

    /// Drops the current connection to the server and makes a new one.
    ///
    /// # Errors
    ///
    /// [`ReconnectError`] after [`Bus::drain`].
    fn force_reconnect(&self) -> BusFuture<'_, Result<(), ReconnectError>>;
}

/// A message as the bus handed it over: every field is the bus's word, nothing is verified. It
/// prints without payload and headers.
#[derive(Clone)]
pub struct Delivery {
    /// Where the bus says the message was published.
    pub subject: Subject,
    /// Where the bus says an answer should go; not yet compared with what was signed.
    pub reply: Option<Subject>,
    /// The bytes, an envelope if anything.
    pub payload: Bytes,
    /// Headers outside any envelope. No decision reads them.
    pub headers: Option<HeaderMap>,
    /// Set when the bus itself speaks, for example 503 when nobody listens to a request.
    pub status: Option<StatusCode>,
    /// The text beside a status.
    pub description: Option<String>,
}

/// A message on its way to the bus. It prints without payload and headers.
///
/// ```
/// use trustmesh::bus::Outgoing;
///
/// let ask = Outgoing::new("tools.echo", "hello").with_reply("_INBOX.me.1");
/// assert_eq!(ask.reply.as_deref(), Some("_INBOX.me.1"));
/// ```
#[derive(Clone)]
pub struct Outgoing {
    /// Where to; a wildcard in it is delivered like any other character.
    pub subject: Subject,
    /// Where an answer should go.
    pub reply: Option<Subject>,
    /// Headers outside any envelope.
    pub headers: Option<HeaderMap>,
    /// The bytes.
    pub payload: Bytes,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("subject", &self.subject)
            .field("reply", &self.reply)
            .field("payload_len", &self.payload.len())
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("subject", &self.subject)
            .field("reply", &self.reply)
            .field("payload_len", &self.payload.len())
            .finish_non_exhaustive()
    }
}

impl Outgoing {
    /// A message without reply subject and headers. Nothing is checked before it is published.
    pub fn new(subject: impl Into<Subject>, payload: impl Into<Bytes>) -> Self {
        Self {
            subject: subject.into(),
            reply: None,
            headers: None,
            payload: payload.into(),
        }
    }

    /// The same message, asking for an answer at `reply`.
    pub fn with_reply(mut self, reply: impl Into<Subject>) -> Self {
        self.reply = Some(reply.into());
        self
    }

    /// The same message with `headers`.
    pub fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.headers = Some(headers);
        self
    }

    /// Refuses what would break the protocol's framing or exceed `max_payload`.
    ///
    /// `async_nats` checks the subject but not the reply, and header maps that came through serde
    /// are unchecked: either could carry a line break, and with it a second protocol command.
    fn check(&self, max_payload: usize) -> Result<(), PublishError> {
        let mut subjects = std::iter::once(&self.subject).chain(self.reply.as_ref());
        if !subjects.all(|subject| is_one_word(subject)) {
            return Err(PublishError::new(PublishErrorKind::InvalidSubject));
        }
        let headers = self.headers.as_ref().filter(|headers| !headers.is_empty());
        if headers.is_some_and(|headers| !are_one_line_each(headers)) {
            return Err(PublishError::with_source(
                PublishErrorKind::Send,
                "a header holds a line break",
            ));
        }
        let size = headers.map_or(0, header_bytes) + self.payload.len();
        if size > max_payload {
            return Err(PublishError::with_source(
                PublishErrorKind::MaxPayloadExceeded,
                format!("{size} bytes, of which the bus takes {max_payload}"),
            ));
        }
        Ok(())
    }
}

impl From<Outgoing> for Delivery {
    /// The delivery an honest bus would make of this message.
    fn from(message: Outgoing) -> Self {
        Self {
            subject: message.subject,
            reply: message.reply,
            payload: message.payload,
            headers: message.headers,
            status: None,
            description: None,
        }
    }
}

/// A stream of deliveries that ends only when asked to: by [`unsubscribe`](Self::unsubscribe),
/// [`drain`](Self::drain), [`Bus::drain`], or the connection's own reconnect limit.
///
/// Full, it drops the newest message, like `async_nats`'s; dropped, it unsubscribes.
pub struct BusSubscriber {
    raw: Box<dyn RawSubscriber>,
}

impl BusSubscriber {
    /// Wraps a bus's own subscription, for implementations of [`Bus`].
    pub fn new(raw: impl RawSubscriber + 'static) -> Self {
        Self { raw: Box::new(raw) }
    }

    /// Stops the flow. What was already delivered still comes out, then the stream ends.
    ///
    /// # Errors
    ///
    /// [`UnsubscribeError`] when the connection is gone; the stream ends all the same.
    pub async fn unsubscribe(&mut self) -> Result<(), UnsubscribeError> {
        self.raw.unsubscribe().await
    }

    /// Stops the flow like [`unsubscribe`](Self::unsubscribe), but takes what the server had
    /// already sent.
    ///
    /// # Errors
    ///
    /// [`UnsubscribeError`] when the connection is gone; the stream ends all the same.
    pub async fn drain(&mut self) -> Result<(), UnsubscribeError> {
        self.raw.drain().await
    }
}

impl Stream for BusSubscriber {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        Pin::new(&mut *self.raw).poll_next(cx)
    }
}

impl fmt::Debug for BusSubscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.fmt(f)
    }
}

/// What a bus implements for [`BusSubscriber`] to wrap. The stream ends only as [`BusSubscriber`]
/// promises.
pub trait RawSubscriber: fmt::Debug + Send + Stream<Item = Delivery> + Unpin {
    /// See [`BusSubscriber::unsubscribe`].
    fn unsubscribe(&mut self) -> BusFuture<'_, Result<(), UnsubscribeError>>;

    /// See [`BusSubscriber::drain`].
    fn drain(&mut self) -> BusFuture<'_, Result<(), UnsubscribeError>>;
}

/// The connection was drained, or ended because its reconnect limit was reached. It is the source
/// of what then fails.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("connection closed")]
pub struct Closed;

/// The connection could not be drained.
///
/// `async_nats`'s own type of this name cannot be made outside it; so too the two below.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("failed to send drain: {0}")]
pub struct DrainError(#[source] pub Closed);

/// The subscription could not be ended at the server, because the connection is gone.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("failed to send unsubscribe: {0}")]
pub struct UnsubscribeError(#[source] pub Closed);

/// The connection could not be told to reconnect, because it was drained.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("failed to send reconnect: {0}")]
pub struct ReconnectError(#[source] pub Closed);

/// Whether `name` can stand in one protocol line: not empty, no white space.
fn is_one_word(name: &str) -> bool {
    !name.is_empty() && !name.contains([' ', '\t', '\r', '\n'])
}

fn are_one_line_each(headers: &HeaderMap) -> bool {
    headers.iter().all(|(name, values)| {
        let mut texts = std::iter::once(name.as_ref()).chain(values.iter().map(|v| v.as_str()));
        texts.all(|text: &str| !text.contains(['\r', '\n']))
    })
}

/// The header block's length on the wire, which counts towards the payload limit.
fn header_bytes(headers: &HeaderMap) -> usize {
    let lines = headers.iter().map(|(name, values)| {
        let name: &str = name.as_ref();
        let line =
            |value: &HeaderValue| name.len() + ": ".len() + value.as_str().len() + "\r\n".len();
        values.iter().map(line).sum::<usize>()
    });
    "NATS/1.0\r\n".len() + lines.sum::<usize>() + "\r\n".len()
}
