//! A forge: signs any structure at all, so that tests can send what the crate would never write.
//!
//! Nothing here goes through the crate's encoder. [`value`] writes MessagePack by hand, canonical
//! or not; [`mesh`] makes a mesh from fixed seeds; [`chain`], [`letter`], [`batch`] and
//! [`approval`] make links, frames, batches and approvals whose every field, tag, signer and
//! signature can be replaced; [`stage`] is a receiver that holds each refusal to the rules of the threat catalogue.

#![allow(dead_code, unused_imports)] // Each test program uses its own part of the forge.

pub mod approval;
pub mod batch;
pub mod chain;
pub mod letter;
pub mod mesh;
pub mod stage;
pub mod value;

use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use sha2::Digest as _;

pub use batch::Batch;
pub use chain::ChainSpec;
pub use letter::Letter;
pub use mesh::Mesh;
pub use mesh::Party;
pub use stage::Stage;
pub use value::Value;

/// The instant at which tests play, in milliseconds since the epoch.
pub const NOW: u64 = 1_800_000_000_000;

/// An hour in milliseconds.
pub const HOUR: u64 = 3_600_000;

/// 16 bytes that differ from every other result: in this process, or, inside [`named`], among those
/// of the same name.
pub fn unique() -> [u8; 16] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut out = *b"forge...........";
    let number = match CASE.get() {
        Some((name, number)) => {
            CASE.set(Some((name, number + 1)));
            out[..8].copy_from_slice(&name);
            number
        }
        None => NEXT.fetch_add(1, Ordering::Relaxed),
    };
    out[8..].copy_from_slice(&number.to_be_bytes());
    out
}

thread_local! {
    static CASE: Cell<Option<([u8; 8], u64)>> = const { Cell::new(None) };
}

/// Runs `make` with a [`unique`] that depends on `name` alone: not on what else was made before,
/// nor in which thread.
pub fn named<R>(name: &str, make: impl FnOnce() -> R) -> R {
    let digest: [u8; 32] = sha2::Sha256::digest(name.as_bytes()).into();
    let mut prefix = [0; 8];
    prefix.copy_from_slice(&digest[..8]);
    let before = CASE.replace(Some((prefix, 1)));
    let made = make();
    CASE.set(before);
    made
}
