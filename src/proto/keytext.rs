//! Keys as text.
