//! What runs beside agents: the authority of a mesh.

pub mod authority;
pub(crate) mod publisher;
