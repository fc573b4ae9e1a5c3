//! The verifier service: what speaks for a mesh while it runs.

pub mod evidence;
