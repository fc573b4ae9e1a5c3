//! Random bytes of the operating system.

use std::sync::Mutex;

use super::guards::lock;
use crate::proto::identity::KeyGeneration;
use crate::proto::rejection::Internal;
use crate::proto::rejection::Rejection;
use crate::proto::replay::MessageId;

/// `N` random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], KeyGeneration> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| KeyGeneration::Random)?;
    Ok(bytes)
}

/// Bytes of a message id.
const ID: usize = 16;

/// Ids fetched at once: asking the operating system for every one costs as much as encoding a
/// message.
const FETCHED: usize = 256;

/// Message ids. They are random so that nobody else's can be the same; they are no secret.
#[derive(Debug, Default)]
pub(crate) struct MessageIds(Mutex<Vec<[u8; ID]>>);

impl MessageIds {
    /// One that was never given out.
    pub(crate) fn next(&self) -> Result<MessageId, KeyGeneration> {
        let mut fetched = lock(&self.0);
        if fetched.is_empty() {
            let bytes: [u8; ID * FETCHED] = random()?;
            fetched.extend_from_slice(bytes.as_chunks().0);
        }
        fetched.pop().map(MessageId).ok_or(KeyGeneration::Random)
    }
}

impl From<KeyGeneration> for Rejection {
    fn from(_: KeyGeneration) -> Self {
        Self::Internal {
            reason: Internal::Random,
        }
    }
}
