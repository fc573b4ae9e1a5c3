//! A running participant.

pub mod clock;
pub(crate) mod floor;
pub mod home;
pub mod identity;
