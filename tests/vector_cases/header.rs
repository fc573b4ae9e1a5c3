//! The header: every field missing, doubled, of another type, out of range, and at its bounds.

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::frame::event;
use super::frame::usable;
use super::play::Play;
use super::play::Waiting;
use crate::forge::ChainSpec;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::letter::*;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

/// The request an answer of these cases names.
pub const REQUEST: [u8; 32] = [7; 32];

/// A valid request by alice, meant for bob.
pub fn request() -> Letter {
    Letter::request(&ChainSpec::down(&Mesh::new(), &["alice"]), "store.docs.get")
        .set(AUDIENCE, bin(Party::named("bob").bytes().0))
}

/// A valid answer by alice to bob's request.
pub fn answer() -> Letter {
    let bob = Party::named("bob");
    let inbox = format!("_INBOX.{}.1", bob.bytes().to_nkey());
    let chain = ChainSpec::down(&Mesh::new(), &["alice"]);
    let request = trustmesh::proto::signing::ObjectId(REQUEST);
    Letter::answer(&chain, &inbox, &bob, request)
}

/// What bob waits for.
pub fn waiting() -> Waiting {
    Waiting {
        request: REQUEST,
        subject: "store.docs.get".into(),
        audience: None,
    }
}

/// A letter that has every field but one filled in: an answer has `in_reply_to`, a request the
/// rest.
fn full(field: usize) -> Letter {
    if field == IN_REPLY_TO {
        answer()
    } else {
        request()
    }
}

fn play(letter: &Letter) -> Play {
    if letter.header.at(&[ACTION]) == &Value::Uint(8) {
        Play::answer(letter, Some(waiting()))
    } else {
        Play::message(letter)
    }
}

/// The letter with its header's tree changed after the digest was filled in, and signed so.
fn with_header(letter: Letter, change: impl FnOnce(Value) -> Value) -> Letter {
    let header = change(letter.header_tree()).encode();
    letter.edit(|l| l.header_bytes = Some(header))
}

pub fn write(book: &mut Book) {
    book.case(
        "accepted-request",
        "A request with every field it can have",
        Allow,
        || play(&request()),
    );
    book.case(
        "accepted-answer",
        "An answer with every field it can have",
        Allow,
        || play(&answer()),
    );
    arity(book);
    types(book);
    lengths(book);
    ranges(book);
    texts(book);
    combinations(book);
}

fn arity(book: &mut Book) {
    for (index, field) in HEADER_FIELDS.iter().enumerate() {
        let about = format!("A header of fifteen values, its {field} left out");
        book.case(
            &format!("without-{field}"),
            &about,
            deny(MALFORMED_WRONG_LENGTH),
            || {
                play(&with_header(full(index), |mut tree| {
                    tree.items().remove(index);
                    tree
                }))
            },
        );
        let about = format!("A header of seventeen values, its {field} given twice");
        book.case(
            &format!("with-{field}-twice"),
            &about,
            deny(MALFORMED_WRONG_LENGTH),
            || {
                play(&with_header(full(index), |mut tree| {
                    let again = tree.items()[index].clone();
                    tree.items().insert(index, again);
                    tree
                }))
            },
        );
    }
    let about = "The header's array has a seventeenth value";
    book.case("with-one-more", about, deny(MALFORMED_WRONG_LENGTH), || {
        play(&with_header(request(), |mut tree| {
            tree.items().push(Value::Nil);
            tree
        }))
    });
    let about = "A header without values";
    book.case("no-values", about, deny(MALFORMED_WRONG_LENGTH), || {
        play(&with_header(request(), |_| list([])))
    });
    for (name, tail) in [
        ("zero", vec![0]),
        ("nil", vec![0xc0]),
        ("empty-array", vec![0x90]),
    ] {
        let about = "Nothing follows the header's last value inside the signed bytes";
        let name = format!("trailing-{name}");
        book.case(&name, about, deny(MALFORMED_TRAILING_BYTES), || {
            let letter = request();
            let bytes = [letter.header_encoded(), tail].concat();
            play(&letter.edit(|l| l.header_bytes = Some(bytes)))
        });
    }
    for len in [1, 2, 20, 60, 100] {
        let about = "The signed bytes end before the header's last value";
        book.case(
            &format!("cut-after-{len}"),
            about,
            deny(MALFORMED_TRUNCATED),
            || {
                let letter = request();
                let bytes = letter.header_encoded()[..len].to_vec();
                play(&letter.edit(|l| l.header_bytes = Some(bytes)))
            },
        );
    }
}

fn types(book: &mut Book) {
    for (index, field) in HEADER_FIELDS.iter().enumerate() {
        let (kinds, forms) = {
            let tree = full(index).header_tree();
            (
                tree.at(&[index]).other_types(),
                tree.at(&[index]).longer().len(),
            )
        };
        let nilable = (REPLY..=IN_REPLY_TO).contains(&index);
        // What is no value of any field is tried on four of them.
        let thorough = matches!(index, VERSION | MID | SUBJECT | EXT);
        let rare = |kind: &str| matches!(kind, "float" | "map" | "ext" | "bool");
        let kinds = kinds
            .into_iter()
            .filter(|(kind, _)| usable(kind) && (thorough || !rare(kind)));
        for (kind, value) in kinds.filter(|(kind, _)| !(nilable && *kind == "nil")) {
            let name = format!("{field}-as-{kind}");
            let about = format!("The header's {field} is written as another type: {kind}");
            book.case(&name, &about, deny(MALFORMED_WRONG_TYPE), || {
                play(&with_header(full(index), |tree| tree.with(&[index], value)))
            });
        }
        let small = matches!(index, VERSION | MODE | ACTION | CONTENT_LEN);
        for form in 0..forms {
            let signed = small && form == forms - 1;
            let code = if signed {
                MALFORMED_WRONG_TYPE
            } else {
                MALFORMED_NOT_CANONICAL
            };
            let name = format!("{field}-longer-{form}");
            let about = format!("The header's {field} in an encoding longer than need be");
            book.case(&name, &about, deny(code), || {
                play(&with_header(full(index), |tree| {
                    let longer = tree.at(&[index]).longer().remove(form);
                    tree.with(&[index], longer)
                }))
            });
        }
    }
    for (name, marker) in [("int-16", 0xd1), ("int-32", 0xd2), ("int-64", 0xd3)] {
        let width = 1 << (marker - 0xd0);
        let about = "A signed encoding of a number, though the number is not negative";
        let name = format!("ttl-as-{name}");
        book.case(&name, about, deny(MALFORMED_WRONG_TYPE), || {
            let bytes = [&[marker][..], &10_000_u64.to_be_bytes()[8 - width..]].concat();
            play(&with_header(request(), |tree| {
                tree.with(&[TTL], Value::Raw(bytes))
            }))
        });
    }
    for (name, header) in [("16", &[0xdd, 0, 0, 0, 16][..]), ("map", &[0xde, 0, 8])] {
        let code = if name == "map" {
            MALFORMED_WRONG_TYPE
        } else {
            MALFORMED_NOT_CANONICAL
        };
        let about = "The header's array under another marker";
        book.case(&format!("array-as-{name}"), about, deny(code), || {
            let letter = request();
            // Sixteen elements take a three-byte array header.
            let bytes = [header, &letter.header_encoded()[3..]].concat();
            play(&letter.edit(|l| l.header_bytes = Some(bytes)))
        });
    }
}

fn lengths(book: &mut Book) {
    let fields = [MESH, MID, AUDIENCE, IN_REPLY_TO, LEAF, CONTENT_HASH];
    for index in fields {
        let field = HEADER_FIELDS[index];
        let right = if index <= MID { 16 } else { 32 };
        for len in [0, right - 1, right + 1, 256] {
            let name = format!("{field}-of-{len}-bytes");
            let about = format!("The header's {field} is {right} bytes, no fewer and no more");
            book.case(&name, &about, deny(MALFORMED_WRONG_LENGTH), || {
                let value = bin(vec![1; len]);
                play(&with_header(full(index), |tree| tree.with(&[index], value)))
            });
        }
    }
}

fn ranges(book: &mut Book) {
    for version in [0, 2, 255, u64::MAX] {
        let about = "The only object version is 1; there is no fall-back to another";
        book.case(
            &format!("v-{version}"),
            about,
            deny(UNSUPPORTED_VERSION),
            || play(&request().set(VERSION, Value::Uint(version))),
        );
    }
    for action in [0, 2, 3, 5, 12, 16, 32, 64, 255, 256] {
        let about = "An envelope publishes (1), requests (4) or serves (8), one at a time";
        book.case(
            &format!("action-{action}"),
            about,
            deny(MALFORMED_OUT_OF_RANGE),
            || Play::message(&event().set(ACTION, Value::Uint(action))),
        );
    }
    let far = "A lifetime is 1 to 120000 ms";
    for (ttl, claim) in [
        (0, deny(MALFORMED_LIFETIME)),
        (1, Allow),
        (120_000, Allow),
        (120_001, deny(MALFORMED_LIFETIME)),
        (u64::from(u32::MAX), deny(MALFORMED_LIFETIME)),
        (1 << 32, deny(MALFORMED_OUT_OF_RANGE)),
        (u64::MAX, deny(MALFORMED_OUT_OF_RANGE)),
    ] {
        book.case(&format!("ttl-{ttl}"), far, claim, || {
            Play::message(&event().set(TTL, Value::Uint(ttl)))
        });
    }
    for (name, issued, claim) in [
        ("iat-end-of-time", u64::MAX, deny(MALFORMED_LIFETIME)),
        (
            "iat-sum-just-overflows",
            u64::MAX - 9_999,
            deny(MALFORMED_LIFETIME),
        ),
        ("iat-sum-just-fits", u64::MAX - 10_000, deny(NOT_YET_VALID)),
        ("iat-zero", 0, deny(EXPIRED)),
        ("iat-in-seconds", NOW / 1000, deny(EXPIRED)),
        ("iat-in-microseconds", NOW * 1000, deny(NOT_YET_VALID)),
    ] {
        let about = "iat + ttl is a point in time that can be written";
        book.case(name, about, claim, || {
            Play::message(&event().set(ISSUED, Value::Uint(issued)))
        });
    }
    for (name, change, code) in [
        ("one-less", -1_i64, MALFORMED_CONTENT_LENGTH),
        ("one-more", 1, MALFORMED_CONTENT_LENGTH),
        ("4-gib", 1 << 32, MALFORMED_OUT_OF_RANGE),
    ] {
        let about = "The content is as long as signed";
        book.case(&format!("content_len-{name}"), about, deny(code), || {
            Play::message(&with_header(event(), |tree| {
                let Value::Uint(len) = tree.at(&[CONTENT_LEN]) else {
                    panic!("a length is a number");
                };
                let len = len.checked_add_signed(change).unwrap();
                tree.with(&[CONTENT_LEN], Value::Uint(len))
            }))
        });
    }
    for (len, code) in [(2048, MALFORMED_TRAILING_BYTES), (2049, TOO_LARGE)] {
        let about = "A header has at most 2048 bytes, before anything in it is read";
        book.case(&format!("of-{len}-bytes"), about, deny(code), || {
            let letter = event();
            let mut bytes = letter.header_encoded();
            bytes.resize(len, 0);
            Play::message(&letter.edit(|l| l.header_bytes = Some(bytes)))
        });
    }
    for (name, mesh) in [("other-mesh", [1; 16]), ("mesh-zero", [0; 16])] {
        let about = "A message of another mesh is for nobody here";
        book.case(name, about, deny(UNTRUSTED_ROOT_OTHER_MESH), || {
            Play::message(&event().set(MESH, bin(mesh)))
        });
    }
}

fn texts(book: &mut Book) {
    let long = |len: usize| "s".repeat(len);
    let tokens = |count: usize| vec!["t"; count].join(".");
    let bad = deny(MALFORMED_BAD_SUBJECT);
    let rows: [(&str, String, Claim); 16] = [
        ("one-byte", "s".into(), Allow),
        ("255-bytes", long(255), Allow),
        ("256-bytes", long(256), deny(TOO_LARGE)),
        ("16-tokens", tokens(16), Allow),
        ("17-tokens", tokens(17), bad),
        ("empty", String::new(), bad),
        ("empty-token", "orders..new".into(), bad),
        ("leading-dot", ".orders".into(), bad),
        ("trailing-dot", "orders.".into(), bad),
        ("blank", "orders.eu new".into(), bad),
        ("line-break", "orders.eu\r\nPUB".into(), bad),
        ("tab", "orders.\teu".into(), bad),
        ("delete", "orders.\u{7f}".into(), bad),
        ("umlaut", "orders.\u{e4}".into(), bad),
        ("star", "orders.*".into(), bad),
        ("arrow", "orders.>".into(), bad),
    ];
    for (name, subject, claim) in rows {
        let about = "A subject is 1 to 16 tokens of printable ASCII without wildcards, 255 bytes";
        book.case(&format!("subject-{name}"), about, claim, || {
            Play::message(&event().set(SUBJECT, text(&subject)))
        });
    }
    let raw: [(&str, &[u8]); 4] = [
        ("invalid-utf-8", b"orders.\xff"),
        ("overlong-utf-8", b"orders.\xc0\xae"),
        ("surrogate", b"orders.\xed\xa0\x80"),
        ("nul", b"orders.\0"),
    ];
    for (name, bytes) in raw {
        let about = "Text is valid UTF-8 without NUL";
        book.case(
            &format!("subject-{name}"),
            about,
            deny(MALFORMED_NOT_TEXT),
            || Play::message(&event().set(SUBJECT, Value::Str(bytes.to_vec()))),
        );
        book.case(
            &format!("payload_type-{name}"),
            about,
            deny(MALFORMED_NOT_TEXT),
            || Play::message(&event().set(PAYLOAD_TYPE, Value::Str(bytes.to_vec()))),
        );
    }
    for (name, reply) in [("empty", ""), ("wildcard", "_INBOX.*"), ("blank", "a b")] {
        let about = "A reply is a subject like any other";
        book.case(&format!("reply-{name}"), about, bad, || {
            Play::message(&request().set(REPLY, text(reply)))
        });
    }
    for (name, kind, claim) in [
        (
            "media-type",
            "application/json; charset=utf-8".to_owned(),
            Allow,
        ),
        ("utf-8", "\u{e4}/\u{2603}".to_owned(), Allow),
        ("96-bytes", long(96), Allow),
        ("97-bytes", long(97), deny(TOO_LARGE)),
    ] {
        let about = "A payload type is text of at most 96 bytes";
        book.case(&format!("payload_type-{name}"), about, claim, || {
            Play::message(&event().set(PAYLOAD_TYPE, text(&kind)))
        });
    }
}

fn combinations(book: &mut Book) {
    let bob = || bin(Party::named("bob").bytes().0);
    let named = || bin(REQUEST);
    type Make = Box<dyn Fn() -> Letter>;
    let rows: [(&str, Claim, Make); 10] = [
        (
            "event-with-audience",
            Allow,
            Box::new(move || event().set(AUDIENCE, bob())),
        ),
        (
            "request-without-audience",
            Allow,
            Box::new(|| request().set(AUDIENCE, Value::Nil)),
        ),
        (
            "event-with-reply",
            deny(MALFORMED_FIELD_COMBINATION),
            Box::new(|| request().set(ACTION, Value::Uint(1))),
        ),
        (
            "event-in-reply-to",
            deny(MALFORMED_FIELD_COMBINATION),
            Box::new(move || event().set(IN_REPLY_TO, named())),
        ),
        (
            "request-without-reply",
            deny(MALFORMED_FIELD_COMBINATION),
            Box::new(|| request().set(REPLY, Value::Nil)),
        ),
        (
            "request-in-reply-to",
            deny(MALFORMED_FIELD_COMBINATION),
            Box::new(move || request().set(IN_REPLY_TO, named())),
        ),
        (
            "answer-with-reply",
            deny(MALFORMED_FIELD_COMBINATION),
            Box::new(|| answer().set(REPLY, text("a.b"))),
        ),
        (
            "answer-to-no-request",
            deny(MALFORMED_FIELD_COMBINATION),
            Box::new(|| answer().set(IN_REPLY_TO, Value::Nil)),
        ),
        (
            "answer-to-nobody",
            deny(MALFORMED_FIELD_COMBINATION),
            Box::new(|| answer().set(AUDIENCE, Value::Nil)),
        ),
        (
            "lifetime-before-combination",
            deny(MALFORMED_LIFETIME),
            Box::new(|| request().set(REPLY, Value::Nil).set(TTL, Value::Uint(0))),
        ),
    ];
    for (name, claim, make) in rows {
        let about = "reply stands in requests, in_reply_to in answers, which name their asker";
        book.case(name, about, claim, || play(&make()));
    }
}
