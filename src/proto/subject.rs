//! Parsed bus addresses.
