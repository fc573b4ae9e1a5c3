//! A zero-trust bus for agents.

pub mod bus;
pub mod keyfile;
pub mod proto;
