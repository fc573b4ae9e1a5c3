//! A running participant.

pub mod clock;
pub mod identity;
