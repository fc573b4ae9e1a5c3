//! What the fuzz targets share: the forge of the tests, changes to make to honest objects, and
//! naive readings of the protocol to hold the crate against.

pub mod change;
pub mod pack;
pub mod plan;
pub mod reference;

#[path = "../../tests/forge/mod.rs"]
pub mod forge;

/// The mesh the targets play in: not that of the test vectors, in which other objects are honest too.
pub fn mesh() -> forge::Mesh {
    let mut mesh = forge::Mesh::new();
    mesh.name = "fuzz".into();
    mesh
}
