//! Conversations with a real nats-server, and what the README says about one.

use crate::conversation::play;
use crate::conversation::play_file;
use crate::conversation::section;
use crate::place::Place;

/// The newcomer's path stands in the README, and is played from there.
#[test]
fn from_nothing_to_a_refused_attack() {
    let readme = include_str!("../../README.md");
    let heading = "## From nothing to a refused attack";
    play("README.md", section(readme, heading), Place::new());
}

/// Two agents that share nothing but a verifier, and what happens to one that is revoked; from the
/// README as well.
#[test]
fn two_agents_and_a_verifier() {
    let readme = include_str!("../../README.md");
    let heading = "## Two agents and a verifier";
    play("README.md", section(readme, heading), Place::new());
}

/// Joining by a token file, and everything a served mesh is told while it runs.
#[test]
fn served_mesh() {
    play_file("conversations/served-mesh.md", Place::new());
}

/// A handshake, a request, a verified answer; the audit has both sides.
#[test]
fn request_and_reply() {
    play_file("conversations/request-and-reply.md", Place::new());
}

/// Authority handed over with a message, and messages for somebody else.
#[test]
fn delegation() {
    play_file("conversations/delegation.md", Place::new());
}

/// Counts and timeouts decide the exit code.
#[test]
fn counts_and_timeouts() {
    play_file("conversations/counts-and-timeouts.md", Place::new());
}

/// Members of a queue group share the messages.
#[test]
fn queue_group() {
    play_file("conversations/queue-group.md", Place::new());
}

/// What each filter of the audit lets through, and its JSON.
#[test]
fn audit_filters() {
    play_file("conversations/audit-filters.md", Place::new());
}
