//! A zero-trust bus for agents.

pub mod bus;
pub mod client;
pub mod files;
pub mod keyfile;
pub mod proto;
pub mod services;
