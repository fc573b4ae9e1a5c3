//! Random bytes of the operating system.

use crate::proto::identity::KeyGeneration;
use crate::proto::rejection::Internal;
use crate::proto::rejection::Rejection;

/// `N` random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], KeyGeneration> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| KeyGeneration::Random)?;
    Ok(bytes)
}

impl From<KeyGeneration> for Rejection {
    fn from(_: KeyGeneration) -> Self {
        Self::Internal {
            reason: Internal::Random,
        }
    }
}
