//! A zero-trust bus for agents.

pub mod audit;
pub mod bus;
pub mod client;
pub mod error;
mod files;
pub mod graph;
pub mod keyfile;
pub mod proto;
pub mod services;

pub use client::AuditMode;
pub use client::AuditOptions;
pub use client::Client;
pub use client::ConnectOptions;
pub use client::Identity;
pub use client::Message;
pub use client::Service;
pub use client::Subscriber;
