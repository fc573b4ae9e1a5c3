//! A running participant.

pub mod clock;
pub(crate) mod floor;
pub mod identity;
