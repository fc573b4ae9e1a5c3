//! The content of an envelope: application headers, granted chains, payload (protocol §12.3).

use std::fmt;

use bytes::Bytes;

use super::Claims;
use super::content_digest;
use super::header_is_valid;
use crate::proto::limits::APP_HEADERS_BYTES_MAX;
use crate::proto::limits::APP_HEADERS_MAX;
use crate::proto::limits::CHAIN_MAX;
use crate::proto::limits::GRANTS_BYTES_MAX;
use crate::proto::limits::GRANTS_MAX;
use crate::proto::rejection::Malformed;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::scope::checked_text;
use crate::proto::wire::Reader;

/// The decoded content of an envelope (protocol §12.3). It prints as sizes: what is in it is
/// nobody's but the handler's, and debug output ends up in logs.
#[derive(Clone)]
pub struct Content {
    pub(crate) headers: Vec<(Bytes, Bytes)>,
    pub(crate) grants: Vec<Bytes>,
    pub(crate) payload: Bytes,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("headers", &self.headers.len())
            .field("grants", &self.grants.len())
            .field("payload_len", &self.payload.len())
            .finish()
    }
}

impl Content {
    /// The application headers, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let headers = self.headers.iter();
        headers.map(|(name, value)| (checked_text(name), checked_text(value)))
    }

    /// The chains handed over with the message.
    pub fn grants(&self) -> &[Bytes] {
        &self.grants
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Checks the content against the digest the header commits to, then decodes it.
    pub(crate) fn open(content: &Bytes, claims: &Claims) -> Result<Self, Rejection> {
        let place = Place::Content;
        if content_digest(content, &[]) != claims.content_hash {
            return Err(Rejection::BadSignature { place });
        }
        let mut r = Reader::new(content, place);
        r.array_of(3)?;
        let count = r.array_up_to(APP_HEADERS_MAX)?;
        let mut headers = Vec::with_capacity(count);
        let mut total = 0;
        for _ in 0..count {
            r.array_of(2)?;
            let name = r.text(APP_HEADERS_BYTES_MAX)?;
            let value = r.text(APP_HEADERS_BYTES_MAX)?;
            total += name.len() + value.len();
            if total > APP_HEADERS_BYTES_MAX {
                return Err(Rejection::TooLarge {
                    place,
                    limit: APP_HEADERS_BYTES_MAX as u32,
                });
            }
            if !header_is_valid(checked_text(&name), checked_text(&value)) {
                return Err(r.fault(Malformed::NotText));
            }
            headers.push((name, value));
        }
        let count = r.array_up_to(GRANTS_MAX)?;
        let mut grants = Vec::with_capacity(count);
        let mut total = 0;
        for _ in 0..count {
            let grant = r.bin(CHAIN_MAX)?;
            total += grant.len();
            if total > GRANTS_BYTES_MAX {
                return Err(Rejection::TooLarge {
                    place,
                    limit: GRANTS_BYTES_MAX as u32,
                });
            }
            grants.push(grant);
        }
        let payload = r.bin(content.len())?;
        r.finish()?;
        Ok(Self {
            headers,
            grants,
            payload,
        })
    }
}
