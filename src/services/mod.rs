//! What runs beside agents: the authority of a mesh, and the permissions a server derives from it.

pub mod authority;
pub mod permissions;
