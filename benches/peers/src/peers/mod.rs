//! One file for each library.

pub mod agent_mesh_protocol;
pub mod agentmesh;
pub mod biscuit;
pub mod first_contact;
pub mod jwt;
pub mod tenuo;
pub mod trustmesh;
pub mod ucan;
