//! Claims about the text forms, against RFC 8410, the did:key test vectors, texts that OpenSSL
//! printed, and the nkeys crate.

use proptest::prelude::*;

use super::*;
use crate::proto::subject::Subject;

/// RFC 8410 §10.3, the first example.
const RFC_8410_V1: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";

/// RFC 8410 §10.3, the second: version 2 with an attribute and the public key.
const RFC_8410_V2: &str = "-----BEGIN PRIVATE KEY-----
MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB
Z9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PRIVATE KEY-----
";

/// RFC 8410 §10.1.
const RFC_8410_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
";

/// `openssl genpkey -algorithm x25519`: the same structure, another algorithm.
const X25519: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VuBCIEICDRJbUCPaxbS61uxdHB3HlSD9J8PsMWVQAl/cc9IRRL
-----END PRIVATE KEY-----
";

/// `openssl ecparam -name prime256v1 -genkey | openssl pkey -pubout`.
const P256_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEZj1Sl05hQE63XwhB4k9s8WJjQuaw
zmxOZXdjW4upXLi9tNwhdlXZAT+bJYNM+nLo8MT+mRX2p1w0vDf92fTcdg==
-----END PUBLIC KEY-----
";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; KEY_LEN]).unwrap()
}

/// PEM of any length, in the 64-character lines of RFC 7468 §2.
fn private_pem(der: &[u8]) -> String {
    let base64 = data_encoding::BASE64.encode(der);
    let lines: Vec<_> = base64
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    )
}

#[test]
fn the_examples_of_rfc_8410_are_read_and_written() {
    let key = SigningKey::from_pkcs8_pem(RFC_8410_V1).unwrap();
    assert_eq!(key.to_pkcs8_pem().as_str(), RFC_8410_V1);
    assert_eq!(key.public().to_spki_pem(), RFC_8410_PUBLIC);
    assert_eq!(PublicKey::from_spki_pem(RFC_8410_PUBLIC), Ok(key.public()));
    let second = SigningKey::from_pkcs8_pem(RFC_8410_V2).unwrap();
    assert_eq!(second.public(), key.public());
}

#[test]
fn line_ends_and_text_before_the_key_do_not_matter() {
    for text in [
        RFC_8410_V1.replace('\n', "\r\n"),
        format!("ed25519, test only\n{RFC_8410_V1}"),
    ] {
        assert!(SigningKey::from_pkcs8_pem(&text).is_ok(), "{text}");
    }
}

/// CL-6, RUSTSEC-2022-0093.
#[test]
fn a_private_key_beside_a_foreign_public_key_is_refused() {
    let der = |public: &[u8], unused_bits: u8| {
        let mut der = vec![0x30, 0x51, 2, 1, 1];
        der.extend(&PKCS8_PREFIX[5..]);
        der.extend([7; 32]);
        der.extend([0x81, 0x21, unused_bits]);
        der.extend(public);
        private_pem(&der)
    };
    let own = key(7).public().bytes().0;
    assert!(SigningKey::from_pkcs8_pem(&der(&own, 0)).is_ok());
    let refused = |text: &str| SigningKey::from_pkcs8_pem(text).unwrap_err();
    assert_eq!(
        refused(&der(&key(8).public().bytes().0, 0)),
        InvalidKeyText::Mismatch
    );
    assert_eq!(refused(&der(&[0; 32], 0)), InvalidKeyText::Mismatch);
    // A bit string that is no whole number of bytes must not pass for an absent public key.
    let mut even = own;
    even[31] &= 0xfe;
    assert_eq!(refused(&der(&even, 1)), InvalidKeyText::Mismatch);
}

#[test]
fn pem_of_anything_else_is_refused() {
    let private = |text: &str| SigningKey::from_pkcs8_pem(text).unwrap_err();
    let public = |text: &str| PublicKey::from_spki_pem(text).unwrap_err();
    assert_eq!(private(X25519), InvalidKeyText::OtherKind);
    assert_eq!(private(RFC_8410_PUBLIC), InvalidKeyText::OtherKind);
    assert_eq!(public(RFC_8410_V1), InvalidKeyText::OtherKind);
    assert_eq!(public(P256_PUBLIC), InvalidKeyText::OtherKind);
    let encrypted = RFC_8410_V1.replace("PRIVATE", "ENCRYPTED PRIVATE");
    assert_eq!(private(&encrypted), InvalidKeyText::OtherKind);

    assert_eq!(private(&RFC_8410_V1.repeat(2)), InvalidKeyText::Malformed);
    let long = [&PKCS8_PREFIX[..], &[7; 32], &[0]].concat();
    let short = [
        &[0x30, 0x2d],
        &PKCS8_PREFIX[2..13],
        &[0x21, 4, 0x1f],
        &[7; 31][..],
    ]
    .concat();
    let zero = [&PKCS8_PREFIX[..], &[0; 32]].concat();
    assert_eq!(private(&private_pem(&long)), InvalidKeyText::Malformed);
    assert_eq!(private(&private_pem(&short)), InvalidKeyText::Malformed);
    assert_eq!(private(&private_pem(&zero)), InvalidKeyText::ZeroSeed);
    let small_order = [&SPKI_PREFIX[..], &[0; 32]].concat();
    assert_eq!(
        public(&pem(SPKI_LABEL, &small_order)),
        InvalidKeyText::Weak(WeakKey)
    );
}

/// CL-4: a key file cut anywhere.
#[test]
fn truncated_pem_is_refused_at_every_length() {
    for text in [RFC_8410_V1, RFC_8410_V2, RFC_8410_PUBLIC] {
        for end in 0..text.trim_end().len() {
            let cut = &text[..end];
            assert!(SigningKey::from_pkcs8_pem(cut).is_err(), "{cut}");
            assert!(PublicKey::from_spki_pem(cut).is_err(), "{cut}");
        }
    }
}

/// github.com/w3c-ccg/did-key-spec, test vectors; the last is RFC 8032 §7.1 TEST 1.
#[test]
fn did_keys_are_those_of_the_specification() {
    let mut seed = [0; KEY_LEN];
    seed[31] = 1;
    let rfc_8032 = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let cases = [
        (
            SigningKey::from_seed(&seed).unwrap().public(),
            "did:key:z6MkjchhfUsD6mmvni8mCdXHw216Xrm9bQe2mBH1P5RDjVJG",
        ),
        (
            PublicKey::import(&KeyBytes::from_hex(rfc_8032).unwrap()).unwrap(),
            "did:key:z6MktwupdmLXVVqTzCw4i46r4uGyosGXRnR3XjN4Zq7oMMsw",
        ),
    ];
    for (key, did) in cases {
        assert_eq!(key.to_did_key(), did);
        assert_eq!(PublicKey::from_did_key(did), Ok(key));
    }
}

#[test]
fn other_did_texts_are_refused() {
    use InvalidKeyText::*;

    let did = |prefix: &[u8], key: &[u8]| {
        format!(
            "did:key:z{}",
            bs58::encode([prefix, key].concat()).into_string()
        )
    };
    let good = key(7).public();
    let bytes = good.bytes().0;
    assert_eq!(PublicKey::from_did_key(&did(&MULTICODEC, &bytes)), Ok(good));
    let cases = [
        (String::new(), Malformed),
        (good.to_did_key().to_uppercase(), Malformed),
        (good.to_did_key().replace(":z", ":m"), Malformed),
        (good.to_did_key() + "#key-1", Malformed),
        (good.to_did_key() + " ", Malformed),
        ("did:key:z".to_owned() + &"1".repeat(1 << 20), Malformed),
        (did(&MULTICODEC, &bytes[..31]), Malformed),
        (did(&[0xec, 0x01], &bytes), OtherKind), // x25519-pub
        (did(&MULTICODEC, &[0; 32]), Weak(WeakKey)),
    ];
    for (text, error) in cases {
        assert_eq!(PublicKey::from_did_key(&text), Err(error), "{text:.80}");
    }
}

/// The reference implementation for Rust is the judge, both ways.
#[test]
fn nkeys_are_those_of_the_nkeys_crate() {
    for seed in 1..=255 {
        let ours = key(seed);
        let theirs = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, [seed; 32]).unwrap();
        assert_eq!(ours.public().to_nkey(), theirs.public_key());
        assert_eq!(*ours.to_nkey_seed(), theirs.seed().unwrap());
        assert_eq!(
            PublicKey::from_nkey(&theirs.public_key()),
            Ok(ours.public())
        );
        let read = SigningKey::from_nkey_seed(&theirs.seed().unwrap()).unwrap();
        assert_eq!(read.public(), ours.public());
    }
}

#[test]
fn nkeys_of_other_roles_are_refused() {
    use nkeys::KeyPairType::*;

    for role in [Account, Operator, Server, Cluster] {
        let theirs = nkeys::KeyPair::new_from_raw(role, [7; 32]).unwrap();
        let (public, seed) = (theirs.public_key(), theirs.seed().unwrap());
        assert_eq!(
            PublicKey::from_nkey(&public),
            Err(InvalidKeyText::OtherKind)
        );
        let refused = SigningKey::from_nkey_seed(&seed).unwrap_err();
        assert_eq!(refused, InvalidKeyText::OtherKind);
    }
}

#[test]
fn a_mistyped_or_cut_nkey_is_refused() {
    let key = key(7);
    let (public, seed) = (key.public().to_nkey(), key.to_nkey_seed());
    for (at, old) in public.char_indices() {
        let new = if old == 'A' { "B" } else { "A" };
        let mut typo = public.clone();
        typo.replace_range(at..=at, new);
        assert_eq!(
            KeyBytes::from_nkey(&typo),
            Err(InvalidKeyText::Checksum),
            "{typo}"
        );
        assert_eq!(
            KeyBytes::from_nkey(&public[..at]),
            Err(InvalidKeyText::Malformed)
        );
    }
    let malformed = [
        public.to_lowercase(),
        format!("{public}="),
        format!("{public}\n"),
        format!("{}0", &public[..55]),
        seed.to_string(),
    ];
    for text in malformed {
        assert_eq!(
            KeyBytes::from_nkey(&text),
            Err(InvalidKeyText::Malformed),
            "{text}"
        );
    }
    // 58 characters hold two bits more than 36 bytes: they must be zero, or a seed had four texts.
    let last = seed.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let next = alphabet[alphabet.find(last).unwrap() + 1..]
        .chars()
        .next()
        .unwrap();
    let other = format!("{}{next}", &seed[..57]);
    assert_eq!(
        SigningKey::from_nkey_seed(&other).unwrap_err(),
        InvalidKeyText::Malformed
    );
    assert!(SigningKey::from_nkey_seed(&public).is_err());
}

#[test]
fn hexadecimal_is_lower_case_and_complete() {
    let bytes = key(7).public().bytes();
    let text = bytes.to_string();
    assert_eq!(KeyBytes::from_hex(&text), Ok(bytes));
    let refused = [
        text.to_uppercase(),
        text[1..].to_owned(),
        format!("{text}0"),
        "g".repeat(64),
    ];
    for text in refused {
        assert_eq!(
            KeyBytes::from_hex(&text),
            Err(InvalidKeyText::Malformed),
            "{text}"
        );
    }
}

/// The catalogue of parametrised CRC algorithms: the check value of CRC-16/XMODEM.
#[test]
fn the_checksum_is_crc_16_xmodem() {
    assert_eq!(crc16(b"123456789"), 0x31c3);
}

proptest! {
    #[test]
    fn every_key_survives_every_form(seed: [u8; KEY_LEN]) {
        prop_assume!(seed != [0; KEY_LEN]);
        let key = SigningKey::from_seed(&seed).unwrap();
        let public = key.public();
        prop_assert_eq!(PublicKey::from_spki_pem(&public.to_spki_pem()), Ok(public));
        prop_assert_eq!(PublicKey::from_did_key(&public.to_did_key()), Ok(public));
        prop_assert_eq!(PublicKey::from_nkey(&public.to_nkey()), Ok(public));
        let bytes = public.bytes();
        prop_assert_eq!(KeyBytes::from_hex(&bytes.to_string()), Ok(bytes));
        let read = [
            SigningKey::from_pkcs8_pem(&key.to_pkcs8_pem()).unwrap(),
            SigningKey::from_nkey_seed(&key.to_nkey_seed()).unwrap(),
        ];
        prop_assert!(read.iter().all(|read| read.seed() == key.seed()));
    }

    #[test]
    fn any_bytes_have_an_nkey_that_is_a_subject_token(bytes: [u8; KEY_LEN]) {
        let text = KeyBytes(bytes).to_nkey();
        prop_assert_eq!(KeyBytes::from_nkey(&text), Ok(KeyBytes(bytes)));
        prop_assert!(text.starts_with('U') && text.len() == 56);
        prop_assert_eq!(Subject::parse(&text).unwrap().tokens().count(), 1);
    }

    #[test]
    fn no_text_makes_a_reader_panic(
        text in "\\PC{0,80}|[A-Z2-7]{54,60}|did:key:z[1-9A-Za-z]{0,48}|[0-9a-f]{64}|\
                 -----BEGIN PRIVATE KEY-----\n[A-Za-z0-9+/=\n]{0,99}\n-----END PRIVATE KEY-----"
    ) {
        prop_assert!(SigningKey::from_pkcs8_pem(&text).is_err());
        prop_assert!(SigningKey::from_nkey_seed(&text).is_err());
        prop_assert!(PublicKey::from_spki_pem(&text).is_err());
        prop_assert!(PublicKey::from_did_key(&text).is_err());
        prop_assert!(KeyBytes::from_nkey(&text).is_err());
        let hex = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        prop_assert_eq!(KeyBytes::from_hex(&text).is_ok(), hex);
    }
}
