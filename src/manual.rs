//! The documents beside the code, as chapters.

/// The protocol, normative: from this text alone a compatible verifier can be written.
#[doc = include_str!("../docs/protocol.md")]
pub mod protocol {}

/// The shape of this crate, and the decisions behind it.
#[doc = include_str!("../ARCHITECTURE.md")]
pub mod architecture {}

/// What trustmesh defends, against whom, and the limits to know.
#[doc = include_str!("../SECURITY.md")]
pub mod security {}

/// What was measured, and how.
#[doc = include_str!("../docs/benchmarks.md")]
pub mod benchmarks {}
