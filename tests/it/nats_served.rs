//! A served mesh.
