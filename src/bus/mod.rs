//! A place to publish and subscribe bytes.
