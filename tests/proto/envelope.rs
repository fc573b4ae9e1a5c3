//! EN: the envelope.

use bytes::Bytes;

use trustmesh::proto::limits::APP_HEADERS_BYTES_MAX;
use trustmesh::proto::limits::APP_HEADERS_MAX;
use trustmesh::proto::limits::CHAIN_MAX;
use trustmesh::proto::limits::EXTENSIONS_BYTES_MAX;
use trustmesh::proto::limits::EXTENSIONS_MAX;
use trustmesh::proto::limits::GRANTS_BYTES_MAX;
use trustmesh::proto::limits::GRANTS_MAX;
use trustmesh::proto::limits::HEADER_MAX;
use trustmesh::proto::limits::PAYLOAD_TYPE_MAX;
use trustmesh::proto::limits::SUBJECT_MAX;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::Malformed;
use trustmesh::proto::rejection::Place;
use trustmesh::proto::rejection::Rejection;

use crate::forge::Letter;
use crate::forge::Party;
use crate::forge::Stage;
use crate::forge::Value;
use crate::forge::letter::AUDIENCE;
use crate::forge::letter::CONTENT_HASH;
use crate::forge::letter::CONTENT_LEN;
use crate::forge::letter::EXT;
use crate::forge::letter::MODE;
use crate::forge::letter::PAYLOAD_TYPE;
use crate::forge::letter::SUBJECT;
use crate::forge::letter::VERSION;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

const SUBJ: &str = "orders.eu.new";

fn letter(stage: &Stage) -> Letter {
    Letter::publish(&stage.chain(&["alice"]), SUBJ)
}

/// The forge and the crate agree on what a valid frame is: without this nothing below means much.
#[test]
fn a_forged_but_faithful_frame_is_accepted() {
    let mut stage = Stage::default();
    let chain = stage.chain(&["alice", "carol", "dave"]);
    let accepted = stage.accepts(&Letter::publish(&chain, SUBJ).frame());
    assert_eq!(accepted.sender().as_str(), "dave");
    assert_eq!(&accepted.payload()[..], b"payload");
    stage.accepts(&Letter::request(&chain, SUBJ).frame());
}

/// EN-1: every bit of a frame with more than 1 KiB of payload, flipped one at a time: none is
/// accepted, none panics, by a receiver that knows the chain as by one that does not.
#[test]
fn no_flipped_bit_is_accepted() {
    let stage = Stage::default();
    let chain = stage.chain(&["alice", "carol"]);
    let frame = Letter::publish(&chain, SUBJ).payload([0x5a; 1040]).frame();
    let flip = |range: std::ops::Range<usize>| {
        let mut stage = Stage::default();
        stage.accepts(&Letter::publish(&chain, SUBJ).frame());
        let mut refused = 0;
        for bit in range {
            let mut bytes = frame.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let outcome = stage.decide(&bytes.into(), SUBJ, None);
            assert!(
                outcome.result.is_err(),
                "bit {} of byte {}",
                bit % 8,
                bit / 8
            );
            refused += 1;
        }
        assert_eq!(stage.guard.len(), 1);
        assert!(stage.decide(&frame, SUBJ, None).result.is_ok());
        refused
    };
    let bits = frame.len() * 8;
    let total = std::thread::scope(|scope| {
        let half = scope.spawn(|| flip(0..bits / 2));
        flip(bits / 2..bits) + half.join().unwrap()
    });
    assert_eq!(total, bits);
}

/// EN-1: any part of one valid frame in place of the same part of another.
#[test]
fn no_part_of_another_valid_frame_fits() {
    let mut stage = Stage::default();
    let (one, other) = (stage.chain(&["alice"]), stage.chain(&["carol", "alice"]));
    let first = Letter::publish(&one, SUBJ).payload("first").tree();
    let second = Letter::publish(&other, SUBJ).payload("other").tree();
    let swapped = |part: usize| -> Bytes {
        let tree = first.with(&[part], second.at(&[part]).clone());
        [b"TMSH", &tree.encode()[..]].concat().into()
    };
    stage.refuses(&swapped(2), Class::ChainBroken);
    stage.refuses(&swapped(3), Class::BadSignature);
    stage.refuses(&swapped(4), Class::ChainBroken);
    stage.refuses(&swapped(5), Class::BadSignature);
}

/// EN-2: no signature, and signatures of every wrong length, are no signature.
#[test]
fn signatures_that_are_none_are_refused() {
    let mut stage = Stage::default();
    for len in [0, 1, 32, 63, 65, 128, 300] {
        let frame = letter(&stage)
            .edit(|l| l.signature = Some(bin(vec![7; len])))
            .frame();
        let refusal = stage.refuses(&frame, Class::Malformed);
        assert_eq!(refusal.code(), 105, "{len} bytes");
    }
    let frame = letter(&stage)
        .edit(|l| l.signature = Some(Value::Nil))
        .frame();
    stage.refuses(&frame, Class::Malformed);
    let frame = letter(&stage)
        .edit(|l| l.signature = Some(bin([0; 64])))
        .frame();
    stage.refuses(&frame, Class::BadSignature);
}

/// EN-3: the other encodings of a valid signature's scalar and point are other signatures.
#[test]
fn signatures_are_not_malleable() {
    // The group order L, little endian (RFC 8032 §5.1).
    let mut order = [0u8; 32];
    order[..16].copy_from_slice(&[
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14,
    ]);
    order[31] = 0x10;
    let mut stage = Stage::default();
    let honest = letter(&stage);
    let signature = honest.signer.sign(honest.tag, &honest.header_encoded());

    let mut plus_order = signature;
    let mut carry = 0u16;
    for (byte, add) in plus_order[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    let mut negative_r = signature;
    negative_r[31] ^= 0x80;
    // y = p + 1 is a non-canonical encoding of the neutral element.
    let mut loose_r = signature;
    loose_r[..32].copy_from_slice(&[0xff; 32]);
    (loose_r[0], loose_r[31]) = (0xee, 0x7f);
    for forged in [plus_order, negative_r, loose_r] {
        let frame = honest
            .clone()
            .edit(|l| l.signature = Some(bin(forged)))
            .frame();
        let refusal = stage.refuses(&frame, Class::BadSignature);
        assert_eq!(refusal.place(), Some(Place::Header));
    }
    stage.accepts(&honest.frame());
}

/// EN-4: the content of one valid envelope in another, of the same length.
#[test]
fn contents_cannot_be_swapped() {
    let mut stage = Stage::default();
    let base = letter(&stage);
    let first = base.clone().payload("buy 10").header_tree();
    let frame = base
        .payload("buy 99")
        .edit(|l| (l.header, l.keep_digest) = (first, true))
        .frame();
    let refusal = stage.refuses(&frame, Class::BadSignature);
    assert_eq!(refusal.place(), Some(Place::Content));
}

/// EN-5 and NA-8: a valid envelope republished on another subject.
#[test]
fn an_envelope_is_for_its_subject_alone() {
    let mut stage = Stage::default();
    let frame = letter(&stage).frame();
    for other in [
        "orders.eu.old",
        "orders.eu",
        "orders.eu.new.x",
        "ORDERS.EU.NEW",
        "",
    ] {
        let refusal = stage.refuses_on(&frame, Class::SubjectMismatch, other, None);
        assert_eq!(refusal.code(), 901);
    }
    stage.accepts(&frame);
}

/// EN-6: an envelope for another receiver.
#[test]
fn an_envelope_is_for_its_audience_alone() {
    let mut stage = Stage::default();
    let to = |stage: &Stage, who: &str| {
        letter(stage)
            .set(AUDIENCE, bin(Party::named(who).bytes().0))
            .frame()
    };
    let frame = to(&stage, "carol");
    stage.refuses(&frame, Class::WrongAudience);
    let frame = to(&stage, "bob");
    stage.accepts(&frame);
}

/// EN-7: no version and no mode but the known ones, and no fallback.
#[test]
fn unknown_versions_are_refused() {
    let mut stage = Stage::default();
    for version in [0, 2, 255, u64::MAX] {
        let v = Value::Uint(version);
        let unsupported = Class::UnsupportedVersion;
        let frame = letter(&stage).edit(|l| l.frame_version = v.clone()).frame();
        assert_eq!(
            stage.refuses(&frame, unsupported).place(),
            Some(Place::Frame)
        );
        let frame = letter(&stage).set(VERSION, v.clone()).frame();
        assert_eq!(
            stage.refuses(&frame, unsupported).place(),
            Some(Place::Header)
        );
        let chain = stage.chain(&["alice", "carol"]);
        for index in [0, 1] {
            let chain = chain.clone().edit(index, |link| link.version = v.clone());
            let frame = Letter::publish(&chain, SUBJ).frame();
            assert_eq!(stage.refuses(&frame, unsupported).hop(), Some(index as u8));
        }
    }
    for mode in [0, 3, 4, 255, u64::MAX] {
        let mode = Value::Uint(mode);
        let frame = letter(&stage)
            .set(MODE, mode.clone())
            .edit(|l| l.frame_mode = mode)
            .frame();
        assert_eq!(
            stage.refuses(&frame, Class::UnsupportedVersion).place(),
            Some(Place::Header)
        );
    }
    // A version that is missing leaves a field too few: there is nothing to read a version from.
    let mut missing = letter(&stage);
    missing.header = missing.header_tree();
    missing.keep_digest = true;
    missing.header.items().remove(VERSION);
    stage.refuses(&missing.frame(), Class::Malformed);
    // There is no algorithm to name: a name is one field too many.
    let mut named = letter(&stage);
    named.header.items().push(text("none"));
    stage.refuses(&named.frame(), Class::Malformed);
}

/// EN-8: a field twice, a field too many, an unknown critical extension, an extension twice or out
/// of order.
#[test]
fn unknown_and_repeated_fields_are_refused() {
    let mut stage = Stage::default();
    for field in 0..=EXT {
        let mut twice = letter(&stage);
        (twice.header, twice.keep_digest) = (twice.header_tree(), true);
        let value = twice.header.at(&[field]).clone();
        twice.header.items().insert(field, value);
        stage.refuses(&twice.frame(), Class::Malformed);
    }
    let ext = |id: u64, critical: bool, value: &[u8]| {
        list([Value::Uint(id), Value::Bool(critical), bin(value)])
    };
    let epochs = ext(1, false, &[0; 24]);
    for extensions in [
        vec![ext(99, true, b"")],
        vec![ext(0, true, b"")],
        vec![epochs.clone(), epochs.clone()],
        vec![ext(9, false, b""), epochs.clone()],
        vec![ext(1, true, &[0; 24])],
        vec![ext(1, false, &[0; 23])],
        vec![ext(2, false, b"00-no-trace")],
        vec![ext(3, false, &[1])],
        vec![ext(3, true, &[0])],
        vec![ext(3, true, &[])],
        vec![ext(3, true, &[1, 1])],
        vec![ext(0x1_0000, false, b"")],
    ] {
        let frame = letter(&stage).set(EXT, list(extensions.clone())).frame();
        let refusal = stage.refuses(&frame, Class::Malformed);
        assert_eq!(refusal.place(), Some(Place::Header), "{extensions:?}");
    }
    // What its sender says may be ignored is ignored.
    let frame = letter(&stage)
        .set(EXT, list([epochs, ext(99, false, b"?")]))
        .frame();
    stage.accepts(&frame);
}

fn pair(name: usize, value: usize) -> Value {
    list([text(&"n".repeat(name)), text(&"v".repeat(value))])
}

/// EN-9: everything at its limit is accepted, one more is too large.
#[test]
fn limits_are_exact() {
    let mut stage = Stage::default();
    let base = letter(&stage);
    let subject = |len: usize| base.clone().set(SUBJECT, text(&"s".repeat(len)));
    let kind = |len: usize| base.clone().set(PAYLOAD_TYPE, text(&"t".repeat(len)));
    let headers = |pairs: Vec<Value>| base.clone().edit(|l| l.content.items()[0] = list(pairs));
    let grants = |sizes: &[usize]| {
        let grants = list(sizes.iter().map(|size| bin(vec![0; *size])));
        base.clone().edit(|l| l.content.items()[1] = grants)
    };
    let extension = |id: usize, len: usize| {
        list([
            Value::Uint(100 + id as u64),
            Value::Bool(false),
            bin(vec![0; len]),
        ])
    };
    let extensions = |lens: &[usize]| {
        let values = lens.iter().enumerate().map(|(id, len)| extension(id, *len));
        base.clone().set(EXT, list(values))
    };
    let half = APP_HEADERS_BYTES_MAX / 2;
    let cases = [
        (
            subject(SUBJECT_MAX),
            subject(SUBJECT_MAX + 1),
            Place::Header,
        ),
        (
            kind(PAYLOAD_TYPE_MAX),
            kind(PAYLOAD_TYPE_MAX + 1),
            Place::Header,
        ),
        (
            extensions(&[EXTENSIONS_BYTES_MAX]),
            extensions(&[EXTENSIONS_BYTES_MAX + 1]),
            Place::Header,
        ),
        (
            extensions(&[EXTENSIONS_BYTES_MAX - 1, 1]),
            extensions(&[EXTENSIONS_BYTES_MAX, 1]),
            Place::Header,
        ),
        (
            extensions(&[1; EXTENSIONS_MAX]),
            extensions(&[1; EXTENSIONS_MAX + 1]),
            Place::Header,
        ),
        (
            headers(vec![pair(half, half)]),
            headers(vec![pair(half, half), pair(1, 0)]),
            Place::Content,
        ),
        (
            headers(vec![pair(1, 2 * half - 1)]),
            headers(vec![pair(1, 2 * half)]),
            Place::Content,
        ),
        (
            headers(vec![pair(1, 1); APP_HEADERS_MAX]),
            headers(vec![pair(1, 1); APP_HEADERS_MAX + 1]),
            Place::Content,
        ),
        (
            grants(&[CHAIN_MAX, GRANTS_BYTES_MAX - CHAIN_MAX]),
            grants(&[CHAIN_MAX, GRANTS_BYTES_MAX - CHAIN_MAX, 1]),
            Place::Content,
        ),
        (
            grants(&[CHAIN_MAX]),
            grants(&[CHAIN_MAX + 1]),
            Place::Content,
        ),
        (
            grants(&[1; GRANTS_MAX]),
            grants(&[1; GRANTS_MAX + 1]),
            Place::Content,
        ),
    ];
    for (at_limit, above, place) in cases {
        let renew = |l: Letter| l.set(crate::forge::letter::MID, bin(crate::forge::unique()));
        stage.accepts(&renew(at_limit).frame());
        let refusal = stage.refuses(&renew(above).frame(), Class::TooLarge);
        assert_eq!(refusal.place(), Some(place));
    }
    for (len, class) in [
        (HEADER_MAX, Class::Malformed),
        (HEADER_MAX + 1, Class::TooLarge),
    ] {
        let frame = base
            .clone()
            .edit(|l| l.header_bytes = Some(vec![0; len]))
            .frame();
        stage.refuses(&frame, class);
    }
    for (len, class) in [
        (CHAIN_MAX, Class::Malformed),
        (CHAIN_MAX + 1, Class::TooLarge),
    ] {
        let frame = base.clone().edit(|l| l.chain = vec![0; len]).frame();
        stage.refuses(&frame, class);
    }
}

/// EN-11: invalid UTF-8 and NUL in every text of a frame.
#[test]
fn text_must_be_text() {
    let mut stage = Stage::default();
    for bad in [&b"a\xff"[..], b"a\0b", b"\xc0\x80", b"\xed\xa0\x80"] {
        let bad = Value::Str(bad.to_vec());
        for field in [SUBJECT, PAYLOAD_TYPE] {
            let frame = letter(&stage).set(field, bad.clone()).frame();
            assert_eq!(stage.refuses(&frame, Class::Malformed).code(), 107);
        }
        for pair in [[bad.clone(), text("v")], [text("n"), bad.clone()]] {
            let headers = list([list(pair)]);
            let frame = letter(&stage)
                .edit(|l| l.content.items()[0] = headers)
                .frame();
            assert_eq!(stage.refuses(&frame, Class::Malformed).code(), 107);
        }
        let headers = [
            ["a:b", "v"],
            ["", "v"],
            ["a b", "v"],
            ["n", "v\r"],
            ["n", "v\nw"],
        ];
        for pair in headers {
            let headers = list([list(pair.map(text))]);
            let frame = letter(&stage)
                .edit(|l| l.content.items()[0] = headers)
                .frame();
            assert_eq!(stage.refuses(&frame, Class::Malformed).code(), 107);
        }
        let chain = stage.chain(&["alice"]).edit(0, |link| {
            link.scope = link.scope.with(&[0, 1], bad.clone());
        });
        let frame = Letter::publish(&chain, SUBJ).frame();
        assert_eq!(stage.refuses(&frame, Class::Malformed).hop(), Some(0));
    }
}

/// EN-12: another valid, wider chain of the same agent in place of the attached one.
#[test]
fn a_wider_chain_of_the_same_agent_cannot_be_swapped_in() {
    use crate::forge::chain::PUB;
    use crate::forge::chain::scope;

    let mut stage = Stage::default();
    let narrow = stage
        .chain(&["alice"])
        .edit(0, |l| l.scope = scope(&[(PUB, "notes.>")]));
    let wide = stage.chain(&["alice"]);
    stage.accepts(&Letter::publish(&wide, SUBJ).frame());
    let swapped = Letter::publish(&narrow, SUBJ).edit(|l| l.chain = wide.encode());
    let refusal = stage.refuses(&swapped.frame(), Class::ChainBroken);
    assert_eq!(refusal.code(), 1403);
    let honest = Letter::publish(&narrow, SUBJ).frame();
    assert_eq!(stage.refuses(&honest, Class::ScopeExceeded).hop(), Some(0));
}

/// EN-13: what the bus adds outside the frame is not even an input: the handler's view is made of
/// signed bytes alone, and nothing can be put beside them.
#[test]
fn the_handler_sees_only_what_was_signed() {
    let mut stage = Stage::default();
    let headers = list([list([text("content-type"), text("text/plain")])]);
    let signed = letter(&stage).edit(|l| l.content.items()[0] = headers);
    let accepted = stage.accepts(&signed.frame());
    let seen: Vec<_> = accepted.headers().collect();
    assert_eq!(seen, [("content-type", "text/plain")]);
    assert_eq!(accepted.sender_key(), Party::named("alice").bytes());
    let mut more = signed.frame().to_vec();
    more.extend_from_slice(&list([text("sender"), text("carol")]).encode());
    stage.refuses(&more.into(), Class::Malformed);
}

/// EN-14: frame and header name different modes, or the signed length is not the content's.
#[test]
fn what_is_said_twice_must_agree() {
    let mut stage = Stage::default();
    for (frame_mode, header_mode) in [(3, 1), (0, 1), (255, 1), (1, 2), (1, 3), (3, 2)] {
        let frame = letter(&stage)
            .set(MODE, Value::Uint(header_mode))
            .edit(|l| l.frame_mode = Value::Uint(frame_mode))
            .frame();
        let refusal = stage.refuses(&frame, Class::Malformed);
        let mismatch = Rejection::Malformed {
            place: Place::Frame,
            reason: Malformed::ModeMismatch,
        };
        assert_eq!(refusal, mismatch, "{frame_mode} and {header_mode}");
    }
    let honest = letter(&stage);
    let tree = honest.header_tree();
    let Value::Uint(len) = tree.at(&[CONTENT_LEN]).clone() else {
        panic!("a length is a number");
    };
    for wrong in [
        0,
        len - 1,
        len + 1,
        u64::from(u32::MAX),
        u64::from(u32::MAX) + 1,
    ] {
        let frame = honest
            .clone()
            .edit(|l| {
                l.header = tree.with(&[CONTENT_LEN], Value::Uint(wrong));
                l.keep_digest = true;
            })
            .frame();
        stage.refuses(&frame, Class::Malformed);
    }
    let wrong_hash = tree.with(&[CONTENT_HASH], bin([0; 32]));
    let frame = honest
        .edit(|l| (l.header, l.keep_digest) = (wrong_hash, true))
        .frame();
    assert_eq!(
        stage.refuses(&frame, Class::BadSignature).place(),
        Some(Place::Content)
    );
}
