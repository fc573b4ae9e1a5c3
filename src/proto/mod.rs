//! The protocol: pure, synchronous, deterministic.

pub mod audit;
pub mod certificate;
pub mod chain;
pub mod delegation;
pub mod envelope;
pub mod handshake;
pub mod identity;
pub mod keytext;
pub mod limits;
pub mod names;
pub mod policy;
pub mod rejection;
pub mod replay;
pub mod revocation;
pub mod root;
pub mod scope;
pub mod signing;
pub mod subject;
pub mod time;
pub mod trust;
pub mod verify;
pub(crate) mod wire;
