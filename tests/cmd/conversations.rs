//! Conversations with a real nats-server, and what the README says about one.

use crate::conversation::play;
use crate::conversation::section;
use crate::place::Place;

/// The newcomer's path stands in the README, and is played from there.
#[test]
fn from_nothing_to_a_refused_attack() {
    let readme = include_str!("../../README.md");
    let heading = "## From nothing to a refused attack";
    play("README.md", section(readme, heading), Place::new());
}
