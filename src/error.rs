//! Errors. What `async_nats` users match on are its own kinds, re-exported; our refusals are their
//! sources.

use crate::bus;
use crate::client::floor::FloorError;
use crate::client::home::HomeError;
use crate::proto::identity::KeyGeneration;
use crate::proto::rejection::Rejection;

/// A refusal of ours, as the source of a bus error or by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("refused: {0}")]
pub struct Denied(#[from] pub Rejection);

/// The peer verified the request and refused it. It does not say why; its audit does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the peer refused the request; its audit says why")]
pub struct RefusedByPeer;

/// No acceptable answer came in time.
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
    /// The identity does not hold: expired, revoked, of another mesh.
    #[error("the identity does not hold: {0}")]
    Identity(#[from] Rejection),
    /// The prefix cannot begin a subject.
    #[error("the prefix is no subject token")]
    Prefix,
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] KeyGeneration),
    /// The mesh directory cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The replay floor cannot be used.
    #[error(transparent)]
    Floor(#[from] FloorError),
}

/// Why a handshake did not complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer, or we, refused.
    #[error("handshake refused: {0}")]
    Refused(#[from] Rejection),
    /// The peer did not answer.
    #[error("the peer did not answer the handshake in time")]
    TimedOut,
    /// The bus could not be used.
    #[error("the bus failed: {0}")]
    Bus(String),
}
