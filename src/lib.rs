//! A zero-trust bus for agents: a handler runs only on a message whose every hop has been checked,
//! and the compiler knows it.
//!
//! Put [`Client`] where `async_nats::Client` was. From then on every message an agent sends is a
//! signed envelope that carries its chain of delegations, and every message that reaches a handler
//! has had its signature, each link of that chain, its scope, freshness, revocation state and
//! policy checked. What fails is refused before a handler runs, and every decision, yes or no, is
//! an audit event.
//!
//! ```text
//!              grants            delegates, narrowed        delegates, narrower
//!   issuer ─────────────▶ planner ─────────────▶ researcher ─────────────▶ tool
//!                            │                       │                      │
//!                            ▼                       ▼                      ▼
//!  ═══ bus ═════ envelope [ header · signature · chain · content ] ═══════════════════
//!                                                                           │ verify every hop
//!                                                        refused ◀──────────┤
//!                                                           │               ▼
//!                                                           └──▶ audit ◀── handler
//! ```
//!
//! ```
//! use futures_util::StreamExt as _;
//! use trustmesh::{ConnectOptions, bus::memory::MemoryBus, services::authority::Authority};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut mesh = Authority::dev("demo")?;                        // a mesh that trusts itself
//!     let planner = mesh.agent("planner", ["pub:tasks.>"])?;         // who may do what
//!     let worker = mesh.agent("worker", ["sub:tasks.>"])?;
//!
//!     let bus = MemoryBus::new();                                    // or .connect("127.0.0.1:4222")
//!     let planner = ConnectOptions::new(planner).connect_bus(bus.connect()).await?;
//!     let worker = ConnectOptions::new(worker).connect_bus(bus.connect()).await?;
//!
//!     let mut tasks = worker.subscribe("tasks.>").await?;
//!     planner.publish("tasks.index", "docs/".into()).await?;
//!     let task = tasks.next().await.ok_or("closed")?;                // verified, or it would not be here
//!     println!("{} asks for {:?}", task.sender(), task.payload);
//!     Ok(())
//! }
//! ```
//!
//! # Map
//!
//! Four rings; each knows only the rings inside it.
//!
//! | ring | what it is |
//! |---|---|
//! | [`proto`] | the protocol: pure, synchronous, deterministic; start reading here |
//! | [`bus`] | a place to publish and subscribe bytes: NATS, or in this process |
//! | [`client`] | a running participant: the swap-in client |
//! | [`services`] | what runs beside agents: the authority of a mesh |
//!
//! [`audit`] reads a mesh's audit from outside, [`manual`] holds the protocol's normative text. Holding a value tells you something: each type that
//! is a proof says what it proves, first of all
//! [`VerifiedEnvelope`](proto::verify::VerifiedEnvelope).

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod audit;
pub mod bus;
pub mod client;
pub mod error;
mod files;
pub mod graph;
pub mod keyfile;
pub mod manual;
pub mod proto;
pub mod services;

pub use client::AuditMode;
pub use client::AuditOptions;
pub use client::AuditStream;
pub use client::Client;
pub use client::ConnectOptions;
pub use client::Counters;
pub use client::Draft;
pub use client::Identity;
pub use client::Message;
pub use client::Service;
pub use client::Subscriber;
pub use client::Subscription;
pub use error::Denied;

/// Connects the agent that the environment names to NATS: `TRUSTMESH_HOME` is the mesh directory,
/// `TRUSTMESH_AGENT` the agent in it.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = trustmesh::connect("127.0.0.1:4222").await?;
/// client.publish("tasks.index", "docs/".into()).await?;
/// # Ok(())
/// # }
/// ```
///
/// User and password may stand in the address, percent-encoded; otherwise the login in the agent's
/// directory counts, where [`client::home`] says.
///
/// # Errors
///
/// [`ConnectError::Home`](error::ConnectError::Home) when the environment names no usable identity,
/// [`ConnectError::Bus`](error::ConnectError::Bus) when the server cannot be reached, and as
/// [`ConnectOptions::connect_bus`].
pub async fn connect(servers: impl bus::ToServerAddrs) -> Result<Client, error::ConnectError> {
    ConnectOptions::new(Identity::from_env()?)
        .connect(servers)
        .await
}

pub use bus::HeaderMap;
pub use bus::Request;
pub use bus::StatusCode;
pub use bus::Subject;
pub use bytes::Bytes;

/// Compiles and runs the programs of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
