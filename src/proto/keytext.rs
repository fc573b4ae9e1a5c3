//! Keys as text: PEM, NATS nkeys, `did:key` and hexadecimal (protocol §4.2).
//!
//! | form | example | for |
//! |---|---|---|
//! | PKCS#8 PEM (RFC 8410) | `-----BEGIN PRIVATE KEY-----` | key files |
//! | SPKI PEM (RFC 8410) | `-----BEGIN PUBLIC KEY-----` | exchange with OpenSSL and others |
//! | nkey | `UAYHR…`, secret `SUAC…` | NATS configuration, inbox names |
//! | did:key | `did:key:z6Mk…` | agent frameworks |
//! | hexadecimal | `d75a98…` | logs; it is how [`KeyBytes`] prints |
//!
//! Each key has one text in each form, and only that text is read back: a second spelling of a key
//! would be a second identity to whatever compares texts. PEM is the exception, since tools
//! differ in line ends and in what they write above the key.

use ed25519_dalek::pkcs8;
use zeroize::Zeroizing;

use super::identity::KEY_LEN;
use super::identity::KeyBytes;
use super::identity::PublicKey;
use super::identity::SigningKey;
use super::identity::WeakKey;

/// DER before the 32 bytes of a private key, RFC 8410 §7: version 0, id-Ed25519, and the key as an
/// OCTET STRING within an OCTET STRING. Every length in it is fixed, so the prefix is too.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
];

/// DER before the 32 bytes of a public key, RFC 8410 §4: id-Ed25519 and a BIT STRING.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// `ed25519-pub` as a varint, from the multicodec table.
const MULTICODEC: [u8; 2] = [0xed, 0x01];

/// Longest `did:key` of an Ed25519 key: the prefix and 34 bytes in base 58. Decoding base 58 is
/// quadratic, so longer texts are refused unread.
const DID_KEY_MAX: usize = "did:key:z".len() + 47;

/// The role byte of a user, github.com/nats-io/nkeys `strkey.go`.
const NKEY_USER: u8 = 20 << 3;

/// The role byte of a seed, whose low bits carry the role of its key.
const NKEY_SEED: u8 = 18 << 3;

impl KeyBytes {
    /// The bytes as a NATS user nkey: `U` and 55 more of `A-Z2-7`. It is one valid subject token.
    ///
    /// ```
    /// use trustmesh::proto::identity::KeyBytes;
    ///
    /// let nkey = KeyBytes([7; 32]).to_nkey();
    /// assert_eq!((nkey.len(), &nkey[..1]), (56, "U"));
    /// assert_eq!(KeyBytes::from_nkey(&nkey)?, KeyBytes([7; 32]));
    /// # Ok::<(), trustmesh::proto::keytext::InvalidKeyText>(())
    /// ```
    pub fn to_nkey(&self) -> String {
        let mut payload = [0; 1 + KEY_LEN];
        payload[0] = NKEY_USER;
        payload[1..].copy_from_slice(&self.0);
        data_encoding::BASE32_NOPAD.encode(&with_crc::<35>(&payload)[..])
    }

    /// Reads a NATS user nkey.
    ///
    /// # Errors
    ///
    /// [`InvalidKeyText::Malformed`] for anything else, [`InvalidKeyText::Checksum`] when a
    /// character is wrong, [`InvalidKeyText::OtherKind`] for another role, such as an account.
    pub fn from_nkey(text: &str) -> Result<Self, InvalidKeyText> {
        let bytes = decode_nkey::<35>(text)?;
        match bytes.first_chunk::<33>() {
            Some([NKEY_USER, key @ ..]) => Ok(Self(*key)),
            _ => Err(InvalidKeyText::OtherKind),
        }
    }

    /// Reads 64 lower-case hexadecimal digits, as [`KeyBytes`] prints them.
    ///
    /// # Errors
    ///
    /// [`InvalidKeyText::Malformed`] for anything else, upper-case digits included.
    pub fn from_hex(text: &str) -> Result<Self, InvalidKeyText> {
        let mut key = [0; KEY_LEN];
        decode_exact(&data_encoding::HEXLOWER, text.as_bytes(), &mut key)?;
        Ok(Self(key))
    }
}

impl PublicKey {
    /// The key as a NATS user nkey: `U…`, 56 characters.
    pub fn to_nkey(&self) -> String {
        self.bytes().to_nkey()
    }

    /// Imports a NATS user nkey.
    ///
    /// # Errors
    ///
    /// As [`KeyBytes::from_nkey`], and [`InvalidKeyText::Weak`] when the bytes are no acceptable
    /// key.
    pub fn from_nkey(text: &str) -> Result<Self, InvalidKeyText> {
        Ok(Self::import(&KeyBytes::from_nkey(text)?)?)
    }

    /// The key as a W3C `did:key`, `did:key:z6Mk…`.
    ///
    /// ```
    /// use trustmesh::proto::identity::PublicKey;
    ///
    /// let did = "did:key:z6MktwupdmLXVVqTzCw4i46r4uGyosGXRnR3XjN4Zq7oMMsw";
    /// assert_eq!(PublicKey::from_did_key(did)?.to_did_key(), did);
    /// # Ok::<(), trustmesh::proto::keytext::InvalidKeyText>(())
    /// ```
    pub fn to_did_key(&self) -> String {
        let mut bytes = [0; 2 + KEY_LEN];
        bytes[..2].copy_from_slice(&MULTICODEC);
        bytes[2..].copy_from_slice(&self.bytes().0);
        format!("did:key:z{}", bs58::encode(bytes).into_string())
    }

    /// Imports a `did:key`, without fragment.
    ///
    /// # Errors
    ///
    /// [`InvalidKeyText::Malformed`] for anything else, [`InvalidKeyText::OtherKind`] when it
    /// names a key of another algorithm, [`InvalidKeyText::Weak`].
    pub fn from_did_key(text: &str) -> Result<Self, InvalidKeyText> {
        let encoded = text
            .strip_prefix("did:key:z")
            .filter(|_| text.len() <= DID_KEY_MAX)
            .ok_or(InvalidKeyText::Malformed)?;
        let bytes = bs58::decode(encoded)
            .into_vec()
            .map_err(|_| InvalidKeyText::Malformed)?;
        let key = bytes
            .strip_prefix(&MULTICODEC)
            .ok_or(InvalidKeyText::OtherKind)?;
        let key = key.try_into().map_err(|_| InvalidKeyText::Malformed)?;
        Ok(Self::import(&KeyBytes(key))?)
    }

    /// The key as SubjectPublicKeyInfo PEM (RFC 8410 §4), which OpenSSL reads.
    ///
    /// ```
    /// use trustmesh::proto::identity::{PublicKey, SigningKey};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let key = SigningKey::generate()?.public();
    /// let pem = key.to_spki_pem();
    /// assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----"));
    /// assert_eq!(PublicKey::from_spki_pem(&pem)?, key);
    /// # Ok(())
    /// # }
    /// ```
    pub fn to_spki_pem(&self) -> String {
        let mut der = [0; SPKI_PREFIX.len() + KEY_LEN];
        der[..SPKI_PREFIX.len()].copy_from_slice(&SPKI_PREFIX);
        der[SPKI_PREFIX.len()..].copy_from_slice(&self.bytes().0);
        pem(SPKI_LABEL, &der)
    }

    /// Imports SubjectPublicKeyInfo PEM.
    ///
    /// # Errors
    ///
    /// [`InvalidKeyText::Malformed`] for anything else, [`InvalidKeyText::OtherKind`] for PEM of
    /// something other than an Ed25519 public key, [`InvalidKeyText::Weak`].
    pub fn from_spki_pem(text: &str) -> Result<Self, InvalidKeyText> {
        let (label, der) =
            pkcs8::Document::from_pem(text).map_err(|_| InvalidKeyText::Malformed)?;
        if label != SPKI_LABEL {
            return Err(InvalidKeyText::OtherKind);
        }
        let info: pkcs8::spki::SubjectPublicKeyInfoRef<'_> =
            der.decode_msg().map_err(|_| InvalidKeyText::Malformed)?;
        if info.algorithm != pkcs8::ALGORITHM_ID {
            return Err(InvalidKeyText::OtherKind);
        }
        let key = info
            .subject_public_key
            .as_bytes()
            .and_then(|key| key.try_into().ok());
        Ok(Self::import(&KeyBytes(
            key.ok_or(InvalidKeyText::Malformed)?,
        ))?)
    }
}

impl SigningKey {
    /// The key as PKCS#8 version 1 PEM (RFC 8410 §7), 119 bytes, which OpenSSL reads. It is the
    /// secret, and wiped when the text is dropped.
    ///
    /// Version 1 holds the seed alone, so the file cannot disagree with itself.
    ///
    /// ```
    /// use trustmesh::proto::identity::SigningKey;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let key = SigningKey::generate()?;
    /// let pem = key.to_pkcs8_pem();
    /// assert_eq!(SigningKey::from_pkcs8_pem(&pem)?.public(), key.public());
    /// # Ok(())
    /// # }
    /// ```
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        let mut der = Zeroizing::new([0; PKCS8_PREFIX.len() + KEY_LEN]);
        der[..PKCS8_PREFIX.len()].copy_from_slice(&PKCS8_PREFIX);
        der[PKCS8_PREFIX.len()..].copy_from_slice(&self.seed()[..]);
        Zeroizing::new(pem(PKCS8_LABEL, &der[..]))
    }

    /// Reads PKCS#8 PEM, version 1 or 2.
    ///
    /// Version 2 (RFC 5958) has the public key beside the seed; it must be the seed's.
    ///
    /// # Errors
    ///
    /// [`InvalidKeyText::Malformed`] for anything else, [`InvalidKeyText::OtherKind`] for PEM of
    /// something other than an unencrypted Ed25519 private key, [`InvalidKeyText::Mismatch`] when
    /// the public key in it is not the seed's, [`InvalidKeyText::ZeroSeed`].
    pub fn from_pkcs8_pem(text: &str) -> Result<Self, InvalidKeyText> {
        let (label, der) =
            pkcs8::SecretDocument::from_pem(text).map_err(|_| InvalidKeyText::Malformed)?;
        if label != PKCS8_LABEL {
            return Err(InvalidKeyText::OtherKind);
        }
        let info: pkcs8::PrivateKeyInfoRef<'_> =
            der.decode_msg().map_err(|_| InvalidKeyText::Malformed)?;
        if info.algorithm != pkcs8::ALGORITHM_ID {
            return Err(InvalidKeyText::OtherKind);
        }
        let key = match info.private_key.as_bytes() {
            [4, 0x20, seed @ ..] => Self::from_seed_bytes(seed)?,
            _ => return Err(InvalidKeyText::Malformed),
        };
        // Signing with a public key that is not the seed's gives the seed away
        // (RUSTSEC-2022-0093). We never would; a file that asks for it is still broken.
        match info.public_key {
            Some(public) if public.as_bytes() != Some(&key.public().bytes().0[..]) => {
                Err(InvalidKeyText::Mismatch)
            }
            _ => Ok(key),
        }
    }

    /// The key as a NATS user seed: `SU…`, 58 characters. It is the secret, and wiped when the text
    /// is dropped.
    pub fn to_nkey_seed(&self) -> Zeroizing<String> {
        let mut payload = Zeroizing::new([0; 2 + KEY_LEN]);
        payload[..2].copy_from_slice(&NKEY_USER_SEED);
        payload[2..].copy_from_slice(&self.seed()[..]);
        Zeroizing::new(data_encoding::BASE32_NOPAD.encode(&with_crc::<36>(&payload[..])[..]))
    }

    /// Reads a NATS user seed.
    ///
    /// # Errors
    ///
    /// As [`KeyBytes::from_nkey`], and [`InvalidKeyText::ZeroSeed`].
    pub fn from_nkey_seed(text: &str) -> Result<Self, InvalidKeyText> {
        let bytes = decode_nkey::<36>(text)?;
        match bytes[..34].strip_prefix(&NKEY_USER_SEED) {
            Some(seed) => Self::from_seed_bytes(seed),
            None => Err(InvalidKeyText::OtherKind),
        }
    }

    fn from_seed_bytes(seed: &[u8]) -> Result<Self, InvalidKeyText> {
        let seed = seed.try_into().map_err(|_| InvalidKeyText::Malformed)?;
        Self::from_seed(seed).map_err(|_| InvalidKeyText::ZeroSeed)
    }
}

/// Why a text is no key. It never repeats any of the text, which may be a secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKeyText {
    /// Not in this form at all: wrong prefix, length, alphabet or structure.
    #[error("the text is not a key in this form")]
    Malformed,
    /// In this form, but at least one character is wrong.
    #[error("the checksum of the key is wrong: the text was mistyped or cut")]
    Checksum,
    /// A key, but of another algorithm or role, or public where a private key is needed.
    #[error("the text is another kind of key")]
    OtherKind,
    /// The public key beside the private key belongs to another private key.
    #[error("the private and the public key in the text do not belong together")]
    Mismatch,
    /// The seed is all zero: a failed generator, never a key.
    #[error("an all-zero seed is no key")]
    ZeroSeed,
    /// The public key is not one we accept.
    #[error(transparent)]
    Weak(#[from] WeakKey),
}

const PKCS8_LABEL: &str = "PRIVATE KEY";
const SPKI_LABEL: &str = "PUBLIC KEY";

/// The two prefix bytes of a user's seed: ten bits, five for "seed" and five for "user".
const NKEY_USER_SEED: [u8; 2] = [NKEY_SEED | (NKEY_USER >> 5), NKEY_USER << 3];

/// PEM of at most 48 bytes, which is one line of base 64 (RFC 7468 §3).
fn pem(label: &str, der: &[u8]) -> String {
    // Room for all of it, so that no copy of a secret is left behind by growing.
    let mut text = String::with_capacity(160);
    text.extend(["-----BEGIN ", label, "-----\n"]);
    data_encoding::BASE64.encode_append(der, &mut text);
    text.extend(["\n-----END ", label, "-----\n"]);
    text
}

/// `payload` and its checksum. `N` is the payload's length and two.
fn with_crc<const N: usize>(payload: &[u8]) -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    bytes[..N - 2].copy_from_slice(payload);
    bytes[N - 2..].copy_from_slice(&crc16(payload).to_le_bytes());
    bytes
}

/// The bytes of an nkey whose checksum is right.
fn decode_nkey<const N: usize>(text: &str) -> Result<Zeroizing<[u8; N]>, InvalidKeyText> {
    let mut bytes = Zeroizing::new([0; N]);
    decode_exact(
        &data_encoding::BASE32_NOPAD,
        text.as_bytes(),
        &mut bytes[..],
    )?;
    let (payload, crc) = bytes.split_at(N - 2);
    if crc == crc16(payload).to_le_bytes() {
        Ok(bytes)
    } else {
        Err(InvalidKeyText::Checksum)
    }
}

/// Decodes a text that must fill `out` exactly, without an intermediate copy.
fn decode_exact(
    encoding: &data_encoding::Encoding,
    text: &[u8],
    out: &mut [u8],
) -> Result<(), InvalidKeyText> {
    // `decode_mut` panics on any other length.
    if text.len() != encoding.encode_len(out.len()) {
        return Err(InvalidKeyText::Malformed);
    }
    match encoding.decode_mut(text, out) {
        Ok(length) if length == out.len() => Ok(()),
        _ => Err(InvalidKeyText::Malformed),
    }
}

/// CRC-16/XMODEM: polynomial 0x1021, start 0, nothing reflected.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    })
}

#[cfg(test)]
#[path = "keytext_tests.rs"]
mod tests;
