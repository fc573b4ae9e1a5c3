//! The command line's tests: what people read in a terminal, word for word.
//!
//! ```text
//! tests/cmd/help/           every --help                                         run by trycmd
//! tests/cmd/offline/        what needs no server, a file per command             run by trycmd
//! tests/cmd/conversations/  several terminals and a real nats-server             run by conversation.rs
//! tests/cmd/mistakes/       ten typical mistakes and what is said about them     run by conversation.rs
//! tests/cmd/roots.rs        how inspect shows trust roots after the first
//! tests/cmd/scores.rs       how a score came about, after a real fault
//! tests/cmd/succession.rs   a mesh that went on to another trust root, command by command
//! tests/cmd/outages.rs      what an operator is told while nothing can be published
//! tests/cmd/permissions.rs  what `nats config` writes, given to a real nats-server
//! tests/cmd/threats.rs      the threat catalogue's groups CL and OB
//! ```
//!
//! `TRYCMD=overwrite` writes the files of the first two anew. Run everything with `scripts/test`.

#![cfg(feature = "cli")]

#[path = "cmd/conversation.rs"]
mod conversation;
#[path = "cmd/conversations.rs"]
mod conversations;
#[path = "cmd/listening.rs"]
mod listening;
#[path = "cmd/mistakes.rs"]
mod mistakes;
#[path = "cmd/outages.rs"]
mod outages;
#[path = "cmd/permissions.rs"]
mod permissions;
#[path = "cmd/place.rs"]
mod place;
#[path = "cmd/roots.rs"]
mod roots;
#[path = "cmd/scores.rs"]
mod scores;
#[path = "cmd/succession.rs"]
mod succession;
#[path = "cmd/threats.rs"]
mod threats;
#[path = "cmd/transcripts.rs"]
mod transcripts;

#[path = "forge/mod.rs"]
mod forge;

#[path = "it/support/certificates.rs"]
mod certificates;

// The integration tests use more of it than these.
#[allow(dead_code)]
#[path = "it/support/nats.rs"]
mod nats;
