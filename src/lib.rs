//! A zero-trust bus for agents.

pub mod bus;
pub mod proto;
