//! Offers of certificates, and how a process knows its own again without keeping them.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use hmac::Hmac;
use hmac::Mac as _;
use sha2::Sha256;

use super::EnrolRefused;
use crate::proto::certificate::CERTIFICATE_MAX;
use crate::proto::certificate::CertificateClaims;
use crate::proto::limits::OFFER_TTL_MS;
use crate::proto::limits::OFFERS_USED_MAX;
use crate::proto::names::Tag;
use crate::proto::rejection::Rejection;
use crate::proto::signing::ObjectId;
use crate::proto::time::Timestamp;
use crate::proto::wire::Reader;

/// Random bytes at the beginning of a cookie, and bytes of its HMAC after them.
const NONCE: usize = 16;

/// A certificate that would be given, as the registrar wrote it (protocol §22.4). Unsigned: only
/// who made it can tell.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The body of the certificate.
    pub body: Bytes,
    /// When it was offered, by the registrar's clock.
    pub time: Timestamp,
    /// What the registrar knows it by: 16 random bytes, so that the same offer can be made twice,
    /// and 16 of an HMAC.
    pub cookie: [u8; 32],
}

impl Offer {
    /// The certificate offered, decoded.
    ///
    /// # Errors
    ///
    /// [`Rejection::Malformed`] or [`Rejection::UnsupportedVersion`].
    pub fn claims(&self) -> Result<CertificateClaims, Rejection> {
        CertificateClaims::parse(&self.body)
    }

    /// The object id the certificate would have.
    pub fn certificate_id(&self) -> ObjectId {
        Tag::Certificate.digest(&self.body)
    }

    /// Reads `body, time, cookie`.
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Rejection> {
        Ok(Self {
            body: r.bin(CERTIFICATE_MAX)?,
            time: Timestamp::from_millis(r.uint()?),
            cookie: r.bin_of()?,
        })
    }
}

/// The cookie key of one process, and the cookies that were used. Nothing is kept per offer.
///
/// ```
/// use trustmesh::proto::enrol::{Cookies, EnrolRefused};
/// use trustmesh::proto::signing::ObjectId;
/// use trustmesh::proto::time::Timestamp;
///
/// let (asker, now) = (ObjectId([1; 32]), Timestamp::from_millis(1_000));
/// let mut cookies = Cookies::new([2; 32]); // random, outside examples
/// let offer = cookies.offer(&asker, vec![3].into(), [4; 16], now);
/// assert!(cookies.check(&asker, &offer, now).is_ok());
/// assert!(cookies.check(&ObjectId([9; 32]), &offer, now).is_err()); // made to somebody else
/// cookies.use_up(&offer);
/// assert_eq!(cookies.check(&asker, &offer, now), Err(EnrolRefused::Offer));
/// ```
pub struct Cookies {
    secret: zeroize::Zeroizing<[u8; 32]>,
    used: HashSet<[u8; 32]>,
    by_expiry: BTreeMap<u64, Vec<[u8; 32]>>,
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookies")
            .field("secret", &"redacted")
            .field("used", &self.used.len())
            .finish_non_exhaustive()
    }
}

impl Cookies {
    /// Begins with a key of 32 random bytes, which is wiped when dropped.
    pub fn new(secret: [u8; 32]) -> Self {
        Self {
            secret: zeroize::Zeroizing::new(secret),
            used: HashSet::new(),
            by_expiry: BTreeMap::new(),
        }
    }

    /// Offers a certificate to whoever `asker` names: a join token, or the certificate of the agent
    /// that asked. `nonce` is 16 random bytes. Changes nothing.
    pub fn offer(
        &self,
        asker: &ObjectId,
        body: Bytes,
        nonce: [u8; NONCE],
        now: Timestamp,
    ) -> Offer {
        let mac = self.mac(asker, &nonce, &body, now).finalize().into_bytes();
        let mut cookie = [0; 32];
        cookie[..NONCE].copy_from_slice(&nonce);
        cookie[NONCE..].copy_from_slice(&mac[..NONCE]);
        Offer {
            body,
            time: now,
            cookie,
        }
    }

    /// Checks that an offer was made here, to this asker, less than [`OFFER_TTL_MS`] ago, and was
    /// not used.
    ///
    /// # Errors
    ///
    /// [`EnrolRefused::Offer`], and [`EnrolRefused::Overloaded`] while [`OFFERS_USED_MAX`] used
    /// ones are remembered.
    pub fn check(
        &mut self,
        asker: &ObjectId,
        offer: &Offer,
        now: Timestamp,
    ) -> Result<(), EnrolRefused> {
        self.forget(now);
        // The offer was made by this process, so no skew applies.
        let in_time = offer.time <= now && now.since(offer.time) <= OFFER_TTL_MS;
        let (nonce, tail) = offer.cookie.split_at(NONCE);
        let mac = self.mac(asker, nonce, &offer.body, offer.time);
        // RFC 2104 §5: half of the output is enough.
        let ours = mac.verify_truncated_left(tail).is_ok();
        if !in_time || !ours || self.used.contains(&offer.cookie) {
            return Err(EnrolRefused::Offer);
        }
        if self.used.len() >= OFFERS_USED_MAX {
            return Err(EnrolRefused::Overloaded);
        }
        Ok(())
    }

    /// Remembers that an offer was taken up, until it is too old anyway.
    pub fn use_up(&mut self, offer: &Offer) {
        if self.used.insert(offer.cookie) {
            let expiry = offer.time.plus(OFFER_TTL_MS).as_millis();
            self.by_expiry.entry(expiry).or_default().push(offer.cookie);
        }
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some(entry) = self.by_expiry.first_entry() {
            if *entry.key() >= now.as_millis() {
                break;
            }
            for cookie in entry.remove() {
                self.used.remove(&cookie);
            }
        }
    }

    fn mac(&self, asker: &ObjectId, nonce: &[u8], body: &[u8], time: Timestamp) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(self.secret.as_slice())
            // RFC 2104: HMAC takes keys of any length.
            .expect("HMAC takes keys of any length");
        mac.update(&Tag::EnrolOffer.bytes());
        mac.update(&asker.0);
        mac.update(nonce);
        mac.update(&time.as_millis().to_be_bytes());
        // Last, for it alone has no fixed length.
        mac.update(body);
        mac
    }
}
