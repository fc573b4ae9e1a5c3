//! Errors. What `async_nats` users match on are its own kinds, re-exported; our refusals are their
//! sources.
//!
//! ```
//! use std::error::Error as _;
//!
//! use trustmesh::Denied;
//! use trustmesh::bus::{PublishError, PublishErrorKind};
//! use trustmesh::proto::rejection::{Class, Rejection};
//!
//! /// The refusal behind an error, when it is one.
//! fn refusal(error: &PublishError) -> Option<Rejection> {
//!     error.source()?.downcast_ref::<Denied>().map(|denied| denied.0)
//! }
//!
//! let error = PublishError::with_source(
//!     PublishErrorKind::Send,
//!     Denied(Rejection::WrongAudience),
//! );
//! assert_eq!(refusal(&error).map(|why| why.class()), Some(Class::WrongAudience));
//! ```

use crate::bus;
use crate::client::FeedError;
use crate::client::floor::FloorError;
use crate::client::home::HomeError;
use crate::proto::identity::KeyGeneration;
use crate::proto::rejection::Rejection;

/// A refusal of ours, as the source of a bus error or by itself. The rejection says why (protocol
/// §18).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("refused: {0}")]
pub struct Denied(#[from] pub Rejection);

/// The peer verified the request and refused it (protocol §15.3). It does not say why; its audit
/// does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the peer refused the request; its audit says why")]
pub struct RefusedByPeer;

/// No acceptable answer came in time. The client's audit has a notice of it, since somebody may
/// have swallowed the answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no acceptable answer in time; {refused} answer(s) were refused")]
pub struct NoAnswer {
    /// Answers that came and were refused by verification.
    pub refused: u32,
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The bus cannot be reached.
    #[error(transparent)]
    Bus(#[from] bus::ConnectError),
    /// The identity does not hold: expired, revoked, of another mesh. Or nothing can be decided
    /// now, since trust state or clock are of no use.
    #[error("the identity does not hold: {0}")]
    Identity(#[from] Rejection),
    /// The prefix is not a single token of a subject.
    #[error("the prefix is no subject token")]
    Prefix,
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] KeyGeneration),
    /// The environment names no usable identity: only from [`connect`](crate::connect) and
    /// [`Identity::from_env`](crate::Identity::from_env).
    #[error(transparent)]
    Home(#[from] HomeError),
    /// No trust state of the served mesh that the identity can be decided by.
    #[error("no trust state to decide by: {0}")]
    Trust(#[from] FeedError),
    /// The replay floor cannot be used.
    #[error(transparent)]
    Floor(#[from] FloorError),
}

/// Why a handshake did not complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// This side refused: the peer has no key in good standing, nothing can be decided now, or no
    /// further session can be held.
    #[error("handshake refused: {0}")]
    Refused(#[from] Rejection),
    /// No answer that proves the peer came within 5 s. A peer that refuses does not answer.
    #[error("the peer did not answer the handshake in time")]
    TimedOut,
    /// The bus could not be used.
    #[error("the bus failed: {0}")]
    Bus(String),
}
