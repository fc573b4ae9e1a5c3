//! What is new in a served trust state, as it travels (protocol §9.12).

use bytes::Bytes;

use crate::proto::names::FRAME_VERSION;
use crate::proto::names::MAGIC_BULLETIN;
use crate::proto::rejection::Malformed;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::wire;
use crate::proto::wire::Reader;
use crate::proto::wire::bin;

use super::snapshot::PARTS_MAX;

/// Largest bulletin in bytes: what a nats-server takes in one message by default, less a reserve.
pub const BULLETIN_MAX: usize = 1024 * 1024 - 16 * 1024;

/// The newest timestamp, with the snapshot it names and perhaps some of the parts.
///
/// It is an envelope without a signature: each file in it has its own, and whoever receives one
/// believes nothing before it was checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bulletin {
    /// The timestamp.
    pub timestamp: Bytes,
    /// The snapshot.
    pub snapshot: Bytes,
    /// Parts, to spare receivers the way to the store.
    pub parts: Vec<Bytes>,
}

impl Bulletin {
    /// `"TMBU"` and then `[fv, timestamp, snapshot, [part…]]`. Parts that would make it larger than
    /// [`BULLETIN_MAX`] are left out.
    pub fn to_bytes(&self) -> Bytes {
        let mut room = BULLETIN_MAX.saturating_sub(self.timestamp.len() + self.snapshot.len() + 64);
        let fits = |part: &&Bytes| {
            let left = room.checked_sub(part.len() + 8);
            room = left.unwrap_or(room);
            left.is_some()
        };
        let parts: Vec<_> = self
            .parts
            .iter()
            .filter(fits)
            .map(|part| bin(part))
            .collect();
        let mut bytes = MAGIC_BULLETIN.to_vec();
        let (timestamp, snapshot) = (bin(&self.timestamp), bin(&self.snapshot));
        wire::encode_into(&mut bytes, &(FRAME_VERSION, timestamp, snapshot, parts));
        bytes.into()
    }

    /// Decodes a bulletin. Nothing in it is checked.
    ///
    /// # Errors
    ///
    /// [`Rejection::TooLarge`], [`Rejection::Malformed`] or [`Rejection::UnsupportedVersion`].
    pub fn parse(bytes: &Bytes) -> Result<Self, Rejection> {
        let place = Place::TrustFile;
        if bytes.len() > BULLETIN_MAX {
            let limit = BULLETIN_MAX as u32;
            return Err(Rejection::TooLarge { place, limit });
        }
        if !bytes.starts_with(&MAGIC_BULLETIN) {
            let reason = Malformed::BadMagic;
            return Err(Rejection::Malformed { place, reason });
        }
        let mut r = Reader::starting_at(bytes, MAGIC_BULLETIN.len(), place);
        r.array_of(4)?;
        let found = r.uint()?;
        if found != FRAME_VERSION {
            return Err(Rejection::UnsupportedVersion { place, found });
        }
        let (timestamp, snapshot) = (r.bin(BULLETIN_MAX)?, r.bin(BULLETIN_MAX)?);
        let count = r.array_up_to(PARTS_MAX)?;
        let parts = (0..count)
            .map(|_| r.bin(BULLETIN_MAX))
            .collect::<Result<_, _>>()?;
        r.finish()?;
        Ok(Self {
            timestamp,
            snapshot,
            parts,
        })
    }
}
