//! What runs beside agents: the authority of a mesh, and the verifier service that speaks for it.

pub mod authority;
pub mod verifier;
