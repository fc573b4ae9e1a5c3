//! The protocol: pure, synchronous, deterministic.

pub mod identity;
pub mod keytext;
pub mod subject;
