//! What runs beside agents: the authority of a mesh, the verifier service that speaks for it, and
//! the permissions that a nats-server derives from it.

pub mod authority;
pub mod permissions;
pub mod verifier;
