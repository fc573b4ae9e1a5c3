//! Who an agent is: ids, keys and signatures. The one door to Ed25519 (protocol §2.2).
//!
//! Every signature in trustmesh is made and checked here, by one predicate: keys are 32 canonical
//! bytes of a point that is not of small order, and signatures verify by RFC 8032 with the strict
//! rules of `verify_strict`. No type of the underlying library appears in the public API.

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::Signer as _;
use ed25519_dalek::Verifier as _;
use zeroize::Zeroizing;

/// Bytes of a public key and of a secret seed (RFC 8032 §5.1.5).
pub const KEY_LEN: usize = 32;

/// Bytes of a signature (RFC 8032 §5.1.6).
pub const SIGNATURE_LEN: usize = 64;

/// The points of small order, each in its one canonical encoding. There are eight, as many as the
/// cofactor (RFC 8032 §5.1).
const SMALL_ORDER: [[u8; KEY_LEN]; 8] = [
    [
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00,
    ],
    [
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x80,
    ],
    [
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x85,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0xfa,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x7f,
    ],
];

/// Longest agent id, in bytes (protocol §4.1). An id becomes a subject token and a file name, and
/// both must stay far below the 255 bytes that subjects and file systems allow.
pub const AGENT_ID_MAX: usize = 96;

/// The name of an agent within its mesh, for example `planner` or `team/researcher-1` (protocol
/// §4.1).
///
/// Holding one tells you that the text is at most [`AGENT_ID_MAX`] bytes of segments
/// `[a-z0-9][a-z0-9_-]*` joined by `/`. It therefore has no dot, wildcard, blank, upper-case or
/// control character, and is safe as (part of) a subject, a file name, a metric label and a log
/// line once [`token`](Self::token) has replaced `/`. Ids are never normalised: two ids are the
/// same agent exactly when their bytes are equal.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AgentId(Arc<str>);

impl AgentId {
    /// Parses an id.
    ///
    /// # Errors
    ///
    /// [`InvalidAgentId`] when the text is empty, too long or has a segment outside the grammar.
    ///
    /// ```
    /// use trustmesh::proto::identity::AgentId;
    ///
    /// assert_eq!(AgentId::parse("team/researcher-1")?.token(), "team~researcher-1");
    /// assert!(AgentId::parse("../planner").is_err());
    /// # Ok::<(), trustmesh::proto::identity::InvalidAgentId>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, InvalidAgentId> {
        let segment_ok = |segment: &str| {
            let mut bytes = segment.bytes();
            bytes
                .next()
                .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                && bytes.all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
        };
        if text.len() <= AGENT_ID_MAX && text.split('/').all(segment_ok) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidAgentId)
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as one subject token or file name: `/` written `~`. No two ids have the same token.
    pub fn token(&self) -> String {
        self.0.replace('/', "~")
    }

    /// The id that [`token`](Self::token) was made from.
    ///
    /// # Errors
    ///
    /// [`InvalidAgentId`] when no id has this token.
    pub fn from_token(token: &str) -> Result<Self, InvalidAgentId> {
        if token.contains('/') {
            return Err(InvalidAgentId);
        }
        Self::parse(&token.replace('~', "/"))
    }
}

impl fmt::Debug for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not an agent id: 1 to [`AGENT_ID_MAX`] bytes of `[a-z0-9][a-z0-9_-]*` segments
/// joined by `/` (protocol §4.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an agent id is at most 96 bytes of lower-case segments [a-z0-9][a-z0-9_-]* joined by '/'")]
pub struct InvalidAgentId;

/// The 32 bytes of a public key as they stand in a signed object.
///
/// Holding one says nothing about the bytes: they may be no key at all. [`PublicKey`] is the
/// checked form. It prints as 64 lower-case hexadecimal digits; other texts are in
/// [`keytext`](super::keytext).
///
/// ```
/// use trustmesh::proto::identity::KeyBytes;
/// use trustmesh::proto::identity::PublicKey;
///
/// let text = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
/// let bytes = KeyBytes::from_hex(text)?;
/// assert_eq!(bytes.to_string(), text);
/// assert!(PublicKey::import(&bytes).is_ok());
/// assert!(PublicKey::import(&KeyBytes([0; 32])).is_err()); // of small order
/// # Ok::<(), trustmesh::proto::keytext::InvalidKeyText>(())
/// ```
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyBytes(pub [u8; KEY_LEN]);

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", data_encoding::HEXLOWER.encode_display(&self.0))
    }
}

impl fmt::Display for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An imported Ed25519 public key.
///
/// Holding one tells you that its bytes are the canonical encoding of a curve point which is not
/// of small order, and that the point is already decompressed, so that verifying costs no more
/// than the verification.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

impl PublicKey {
    /// Imports a key.
    ///
    /// The steps are those of protocol §2.2. A key may still have a torsion component: see
    /// [`is_torsion_free`](Self::is_torsion_free).
    ///
    /// # Errors
    ///
    /// [`WeakKey`] when the bytes are not canonical, no point of the curve, or of small order.
    pub fn import(bytes: &KeyBytes) -> Result<Self, WeakKey> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes.0).map_err(|_| WeakKey)?;
        // Decompression accepts y ≥ p (RFC 8032 §5.1.3 does not): compressing again tells.
        let canonical = key.to_edwards().compress().to_bytes() == bytes.0;
        if canonical && !key.is_weak() {
            Ok(Self(key))
        } else {
            Err(WeakKey)
        }
    }

    /// Whether the point lies in the prime-order subgroup, as every key of a trust root and every
    /// certified key must (protocol §2.2).
    ///
    /// Costs about half a verification, so it is asked once: at enrolment and for trust-root keys.
    pub fn is_torsion_free(&self) -> bool {
        self.0.to_edwards().is_torsion_free()
    }

    /// The key's bytes, which are the ones it was imported from.
    pub fn bytes(&self) -> KeyBytes {
        KeyBytes(self.0.to_bytes())
    }

    /// Whether `signature` is this key's over exactly `message`: RFC 8032 §5.1.7 with canonical
    /// `S`, and neither `A` nor `R` of small order.
    ///
    /// This is the predicate of `verify_strict`, without decompressing `R`, which is a tenth of the
    /// work. `verify` recomputes `R` and accepts only its canonical encoding. So what it accepts
    /// could be decompressed, and is of small order exactly when it is one of eight encodings. `A`
    /// was found not to be of small order when it was imported.
    #[must_use]
    pub(crate) fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        let (r, _) = signature.0.split_at(KEY_LEN);
        if SMALL_ORDER.iter().any(|small| small == r) {
            return false;
        }
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0.verify(message, &signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.bytes(), f)
    }
}

/// The bytes are not a key we accept: non-canonical, no curve point, or of small order (protocol
/// §2.2). As a rejection it is code 501.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "not an acceptable Ed25519 public key (non-canonical, not on the curve, or of small order)"
)]
pub struct WeakKey;

/// The 64 bytes of a signature as they stand beside a signed object, `R ‖ S` of RFC 8032 §5.1.6.
/// Holding one says nothing about its validity.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Signature(pub [u8; SIGNATURE_LEN]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", data_encoding::HEXLOWER.encode_display(&self.0))
    }
}

/// An Ed25519 signing key.
///
/// It prints redacted, is wiped when dropped, and can be neither cloned nor serialised; share it
/// behind an [`Arc`]. What it signs is always domain-separated: see [`signing`](super::signing). To
/// keep it on disk, use [`keyfile`](crate::keyfile).
///
/// ```
/// use trustmesh::proto::identity::SigningKey;
///
/// let key = SigningKey::from_seed(&[7; 32])?;
/// assert!(format!("{key:?}").contains("redacted"));
/// assert!(SigningKey::from_seed(&[0; 32]).is_err());
/// assert_ne!(SigningKey::generate()?.public(), key.public());
/// # Ok::<(), trustmesh::proto::identity::KeyGeneration>(())
/// ```
pub struct SigningKey {
    secret: ed25519_dalek::SigningKey,
    public: PublicKey,
}

impl SigningKey {
    /// A new key from the operating system's random number generator.
    ///
    /// # Errors
    ///
    /// [`KeyGeneration::Random`] when the generator fails, [`KeyGeneration::ZeroSeed`] when it
    /// yields an all-zero seed.
    pub fn generate() -> Result<Self, KeyGeneration> {
        let mut seed = Zeroizing::new([0u8; KEY_LEN]);
        getrandom::fill(seed.as_mut_slice()).map_err(|_| KeyGeneration::Random)?;
        Self::from_seed(&seed)
    }

    /// The key of a 32-byte seed (RFC 8032 §5.1.5).
    ///
    /// The seed decides the key: the same seed gives the same key. The caller wipes its own copy.
    ///
    /// # Errors
    ///
    /// [`KeyGeneration::ZeroSeed`] when every byte is zero: a failed generator, never a key.
    pub fn from_seed(seed: &[u8; KEY_LEN]) -> Result<Self, KeyGeneration> {
        if seed.iter().all(|b| *b == 0) {
            return Err(KeyGeneration::ZeroSeed);
        }
        let secret = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = PublicKey(secret.verifying_key());
        Ok(Self { secret, public })
    }

    /// The public half, computed once from the secret.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The seed, for key files and text forms of this crate.
    pub(crate) fn seed(&self) -> Zeroizing<[u8; KEY_LEN]> {
        Zeroizing::new(self.secret.to_bytes())
    }

    /// Signs exactly `message`. Callers go through [`signing`](super::signing), which prefixes the
    /// domain label.
    pub(crate) fn sign_raw(&self, message: &[u8]) -> Signature {
        Signature(self.secret.sign(message).to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, secret redacted)", self.public.bytes())
    }
}

/// Why no signing key could be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyGeneration {
    /// The operating system's random number generator failed.
    #[error("the operating system's random number generator failed")]
    Random,
    /// The seed is all zero: a failed generator (protocol §2.2).
    #[error("an all-zero seed is no key")]
    ZeroSeed,
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
