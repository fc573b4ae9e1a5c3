//! One predicate for signatures: what trustmesh imports and verifies is what `ed25519-dalek` verifies
//! strictly, for any key and signature, above all for those on which implementations differ.
//!
//! An input that begins with a zero byte is key, signature and message as they stand; any other is
//! a signature made by hand and bent.

#![no_main]

use std::sync::OnceLock;

use arbitrary::Arbitrary;
use arbitrary::Unstructured;
use bytes::Bytes;
use curve25519_dalek::EdwardsPoint;
use curve25519_dalek::Scalar;
use curve25519_dalek::constants::EIGHT_TORSION;
use ed25519_dalek::VerifyingKey;
use libfuzzer_sys::fuzz_target;
use sha2::Digest as _;
use sha2::Sha512;

use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::identity::PublicKey;
use trustmesh::proto::identity::Signature;
use trustmesh::proto::join::UnverifiedJoin;
use trustmesh::proto::names::Tag;
use trustmesh::proto::signing::MeshId;
use trustmesh::proto::signing::ObjectId;
use trustmesh_fuzz::forge::NOW;
use trustmesh_fuzz::forge::Party;
use trustmesh_fuzz::forge::Value;
use trustmesh_fuzz::forge::value::bin;
use trustmesh_fuzz::forge::value::list;

/// The order of the base point, little-endian (RFC 8032 §5.1).
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// A signature to be, and how it is bent.
#[derive(Arbitrary, Debug)]
struct Plan {
    secret: [u8; 4],
    nonce: [u8; 4],
    message: [u8; 32],
    /// Points of small order added to the key and to R, out of eight.
    torsion: (u8, u8),
    /// How often the order of the base point is added to S.
    laps: u8,
    /// Whether y of the key and of R is written as y + p where that fits.
    long_y: (bool, bool),
    small_key: bool,
    small_r: bool,
    zero_s: bool,
    flips: Vec<(u8, u8)>,
}

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((0, rest)) => {
            let mut parts = [0; 128];
            let len = rest.len().min(128);
            parts[..len].copy_from_slice(&rest[..len]);
            let part = |at: usize| parts[at..][..32].try_into().expect("32 bytes");
            let signature = parts[32..96].try_into().expect("64 bytes");
            check(part(0), signature, part(96));
        }
        Some((_, rest)) => {
            if let Ok(plan) = Plan::arbitrary(&mut Unstructured::new(rest)) {
                let (key, signature) = plan.sign();
                check(key, signature, plan.message);
            }
        }
        None => {}
    }
});

/// Holds the crate and `verify_strict` against each other.
///
/// The crate signs and verifies nothing without a tag. The proof that a join token is held is a
/// signature by any key at all over any 32 bytes, under a tag.
fn check(key: [u8; 32], signature: [u8; 64], message: [u8; 32]) {
    let imported = PublicKey::import(&KeyBytes(key));
    let expected = VerifyingKey::from_bytes(&key).ok().filter(|found| {
        let canonical = found.to_edwards().compress().to_bytes() == key;
        canonical && !found.is_weak()
    });
    assert_eq!(imported.is_ok(), expected.is_some(), "import");
    if let Ok(imported) = imported {
        assert_eq!(imported.bytes(), KeyBytes(key));
        let point = expected.map(|key| key.to_edwards().is_torsion_free());
        assert_eq!(Some(imported.is_torsion_free()), point);
    }

    let statement = UnverifiedJoin::parse(&statement(key)).expect("a statement");
    let registrar = [registrar().key.public()];
    let statement = statement.verify(MeshId([7; 16]), &registrar);
    assert_eq!(
        statement.is_ok(),
        expected.is_some(),
        "a key in a statement"
    );
    if let (Ok(statement), Some(key)) = (statement, expected) {
        let input = signed(&message);
        let strict = key.verify_strict(&input, &ed25519_dalek::Signature::from_bytes(&signature));
        let ours = statement.check_proof(&ObjectId(message), &Signature(signature));
        assert_eq!(ours.is_ok(), strict.is_ok(), "verification");
    }
}

fn registrar() -> &'static Party {
    static REGISTRAR: OnceLock<Party> = OnceLock::new();
    REGISTRAR.get_or_init(|| Party::named("registrar"))
}

/// The statement of a join token with this key, signed by the registrar.
fn statement(key: [u8; 32]) -> Bytes {
    let body = list([
        Value::Uint(1),
        bin([7; 16]),
        bin([8; 32]),
        bin(key),
        Value::Nil,
        Value::Nil,
        list([]),
        Value::Uint(0),
        Value::Uint(1_000),
        Value::Uint(NOW),
        bin([9; 16]),
        list([]),
    ]);
    let body = body.encode();
    let signature = registrar().sign(Tag::JoinToken, &body);
    list([bin(body), Value::Uint(0), bin(signature)])
        .encode()
        .into()
}

/// What is signed for a message.
fn signed(message: &[u8; 32]) -> Vec<u8> {
    [&Tag::JoinProof.bytes()[..], message].concat()
}

impl Plan {
    /// RFC 8032 §5.1.6 with everything in hand.
    fn sign(&self) -> ([u8; 32], [u8; 64]) {
        let scalar = |label: u8, seed: [u8; 4]| {
            let digest = Sha512::new()
                .chain_update([label])
                .chain_update(seed)
                .finalize();
            Scalar::from_bytes_mod_order_wide(&digest.into())
        };
        let (secret, nonce) = (scalar(1, self.secret), scalar(2, self.nonce));
        let point = |scalar: Scalar, torsion: u8, small: bool, long: bool| {
            let torsion = EIGHT_TORSION[usize::from(torsion % 8)];
            let base = if small { Scalar::ZERO } else { scalar };
            encode(EdwardsPoint::mul_base(&base) + torsion, long)
        };
        let key = point(secret, self.torsion.0, self.small_key, self.long_y.0);
        let r = point(nonce, self.torsion.1, self.small_r, self.long_y.1);
        let mut hash = Sha512::new();
        hash.update(r);
        hash.update(key);
        hash.update(signed(&self.message));
        let challenge = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        let secret = if self.small_key { Scalar::ZERO } else { secret };
        let nonce = if self.small_r { Scalar::ZERO } else { nonce };
        let s = if self.zero_s {
            Scalar::ZERO
        } else {
            nonce + challenge * secret
        };
        let mut s = s.to_bytes();
        for _ in 0..self.laps % 16 {
            s = add(s, ORDER);
        }
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r);
        signature[32..].copy_from_slice(&s);
        for (at, bit) in self.flips.iter().take(3) {
            signature[usize::from(at % 64)] ^= 1 << (bit % 8);
        }
        (key, signature)
    }
}

/// A point's bytes; `long` writes y + p where 255 bits hold that, which is so for y below 19.
fn encode(point: EdwardsPoint, long: bool) -> [u8; 32] {
    let bytes = point.compress().to_bytes();
    let small =
        bytes[0] < 19 && bytes[1..31].iter().all(|byte| *byte == 0) && bytes[31] & 0x7f == 0;
    if !(long && small) {
        return bytes;
    }
    let mut prime = [0xff; 32];
    (prime[0], prime[31]) = (0xed, 0x7f);
    add(bytes, prime)
}

/// The sum of two numbers, little-endian, modulo 2^256.
fn add(left: [u8; 32], right: [u8; 32]) -> [u8; 32] {
    let mut carry = 0;
    let mut sum = [0; 32];
    for (index, out) in sum.iter_mut().enumerate() {
        let total = u16::from(left[index]) + u16::from(right[index]) + carry;
        *out = total as u8;
        carry = total >> 8;
    }
    sum
}
