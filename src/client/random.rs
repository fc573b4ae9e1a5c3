//! Random bytes for everything outside the protocol, which is handed its own.

use crate::proto::identity::KeyGeneration;

/// Bytes nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], KeyGeneration> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| KeyGeneration::Random)?;
    Ok(bytes)
}
