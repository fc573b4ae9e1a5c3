//! The content: what the header commits to, application headers, granted chains, payload.

use sha2::Digest as _;

use trustmesh::proto::names::Tag;

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::frame::event;
use super::play::Play;
use crate::forge::Letter;
use crate::forge::Value;
use crate::forge::letter::CONTENT_HASH;
use crate::forge::letter::CONTENT_LEN;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

fn pair(name: &str, value: &str) -> Value {
    list([text(name), text(value)])
}

fn with_content(headers: Vec<Value>, grants: Vec<Value>) -> Letter {
    event().edit(|l| l.content = list([list(headers), list(grants), bin(b"payload")]))
}

pub fn write(book: &mut Book) {
    commitment(book);
    shape(book);
    headers(book);
    grants(book);
}

fn commitment(book: &mut Book) {
    let about = "The content is what the header commits to, under the tag for content";
    for (name, payload) in [("other-payload", &b"PAYLOAD"[..]), ("one-bit", b"qayload")] {
        book.case(name, about, deny(BAD_SIGNATURE), || {
            let signed = event();
            let header = signed.header_encoded();
            Play::message(
                &signed
                    .payload(payload)
                    .edit(|l| l.header_bytes = Some(header)),
            )
        });
    }
    let about_longer = "Content of another length than signed is refused before any signature";
    book.case(
        "longer-payload",
        about_longer,
        deny(MALFORMED_CONTENT_LENGTH),
        || {
            let signed = event();
            let header = signed.header_encoded();
            Play::message(
                &signed
                    .payload("payload!")
                    .edit(|l| l.header_bytes = Some(header)),
            )
        },
    );
    let digest = |name: &str, hash: fn(&[u8]) -> Vec<u8>, claim: Claim, book: &mut Book| {
        book.case(name, about, claim, || {
            let content = event().content.encode();
            Play::message(&event().edit(|l| {
                l.keep_digest = true;
                l.header.items()[CONTENT_HASH] = bin(hash(&content));
                l.header.items()[CONTENT_LEN] = Value::Uint(content.len() as u64);
            }))
        });
    };
    digest(
        "digest-tagged",
        |c| Tag::Content.digest(c).0.to_vec(),
        Allow,
        book,
    );
    digest(
        "digest-without-tag",
        |c| sha2::Sha256::digest(c).to_vec(),
        deny(BAD_SIGNATURE),
        book,
    );
    digest(
        "digest-envelope",
        |c| Tag::Envelope.digest(c).0.to_vec(),
        deny(BAD_SIGNATURE),
        book,
    );
    digest("digest-zero", |_| vec![0; 32], deny(BAD_SIGNATURE), book);
    let inner = |c: &[u8]| Tag::Content.digest(&c[5..]).0.to_vec();
    digest("digest-of-payload-alone", inner, deny(BAD_SIGNATURE), book);
    let about = "Two valid events whose contents were exchanged on the way";
    book.case("exchanged", about, deny(BAD_SIGNATURE), || {
        let both = event();
        let (one, other) = (both.clone().payload("one"), both.payload("two"));
        let header = one.header_encoded();
        Play::message(&other.edit(|l| l.header_bytes = Some(header)))
    });
}

fn shape(book: &mut Book) {
    let mut case = |name: &str, about: &str, claim: Claim, content: Value| {
        book.case(name, about, claim, || {
            Play::message(&event().edit(|l| l.content = content))
        });
    };
    let about = "Content is an array of headers, grants and payload";
    let whole = || list([list([]), list([]), bin(b"payload")]);
    case("accepted", about, Allow, whole());
    case(
        "payload-empty",
        "A payload may be empty",
        Allow,
        whole().with(&[2], bin([])),
    );
    let long = bin(vec![b'x'; 300]);
    case(
        "payload-300-bytes",
        "A payload under a two-byte length",
        Allow,
        whole().with(&[2], long),
    );
    let length = deny(MALFORMED_WRONG_LENGTH);
    case("of-no-values", about, length, list([]));
    case("of-two-values", about, length, list([list([]), list([])]));
    case(
        "of-four-values",
        about,
        length,
        list([list([]), list([]), bin([]), Value::Nil]),
    );
    case(
        "not-an-array",
        about,
        deny(MALFORMED_WRONG_TYPE),
        bin(b"payload"),
    );
    case(
        "empty",
        about,
        deny(MALFORMED_TRUNCATED),
        Value::Raw(Vec::new()),
    );
    let tail = [whole().encode(), vec![0xc0]].concat();
    let about_tail = "Nothing follows the content's last value";
    case(
        "trailing",
        about_tail,
        deny(MALFORMED_TRAILING_BYTES),
        Value::Raw(tail),
    );
    let cut = whole().encode();
    let cut = Value::Raw(cut[..cut.len() - 1].to_vec());
    case("cut", about, deny(MALFORMED_TRUNCATED), cut);
    for (name, index) in [("headers", 0), ("grants", 1), ("payload", 2)] {
        let value = whole().at(&[index]).clone();
        for (kind, other) in value.other_types() {
            if super::frame::usable(kind) && kind != "list" {
                let name = format!("{name}-as-{kind}");
                let about = format!("A part of the content is written as another type: {kind}");
                case(
                    &name,
                    &about,
                    deny(MALFORMED_WRONG_TYPE),
                    whole().with(&[index], other),
                );
            }
        }
        for (form, longer) in value.longer().into_iter().enumerate() {
            let name = format!("{name}-longer-{form}");
            let about = "A part of the content in an encoding longer than need be";
            case(
                &name,
                about,
                deny(MALFORMED_NOT_CANONICAL),
                whole().with(&[index], longer),
            );
        }
    }
}

fn headers(book: &mut Book) {
    let mut case = |name: &str, about: &str, claim: Claim, headers: Vec<Value>| {
        book.case(name, about, claim, || {
            Play::message(&with_content(headers, Vec::new()))
        });
    };
    let odd = deny(MALFORMED_NOT_TEXT);
    let about = "A header name is printable ASCII without colon, a value is on one line";
    case(
        "header",
        about,
        Allow,
        vec![pair("Content-Type", "text/plain")],
    );
    case("header-value-empty", about, Allow, vec![pair("X", "")]);
    case(
        "header-value-utf-8",
        about,
        Allow,
        vec![pair("X", "\u{e4}\u{2603}")],
    );
    case(
        "header-value-blanks",
        about,
        Allow,
        vec![pair("X", " a\tb ")],
    );
    case(
        "header-given-twice",
        about,
        Allow,
        vec![pair("X", "1"), pair("X", "2")],
    );
    case("header-name-empty", about, odd, vec![pair("", "v")]);
    case("header-name-blank", about, odd, vec![pair("a b", "v")]);
    case("header-name-colon", about, odd, vec![pair("a:b", "v")]);
    case("header-name-umlaut", about, odd, vec![pair("\u{e4}", "v")]);
    case(
        "header-name-line-break",
        about,
        odd,
        vec![pair("a\nb", "v")],
    );
    case("header-name-nul", about, odd, vec![pair("a\0", "v")]);
    case("header-value-cr", about, odd, vec![pair("X", "a\rb")]);
    case("header-value-lf", about, odd, vec![pair("X", "a\nb")]);
    case("header-value-nul", about, odd, vec![pair("X", "a\0b")]);
    let raw = list([text("X"), Value::Str(vec![0xff])]);
    case("header-value-not-utf-8", about, odd, vec![raw]);
    let about = "A header is a pair";
    case(
        "header-of-one",
        about,
        deny(MALFORMED_WRONG_LENGTH),
        vec![list([text("X")])],
    );
    let three = list([text("X"), text("1"), text("2")]);
    case(
        "header-of-three",
        about,
        deny(MALFORMED_WRONG_LENGTH),
        vec![three],
    );
    let numbered = list([text("X"), Value::Uint(1)]);
    case(
        "header-value-as-number",
        about,
        deny(MALFORMED_WRONG_TYPE),
        vec![numbered],
    );
    let about = "There are at most 64 application headers";
    case("headers-64", about, Allow, vec![pair("X", ""); 64]);
    case(
        "headers-65",
        about,
        deny(TOO_LARGE),
        vec![pair("X", ""); 65],
    );
    let about = "Names and values of all headers have at most 16384 bytes together";
    let big = |len: usize| pair("X", &"v".repeat(len - 1));
    case(
        "headers-16384-bytes",
        about,
        Allow,
        vec![big(8_192), big(8_192)],
    );
    case(
        "headers-16385-bytes",
        about,
        deny(TOO_LARGE),
        vec![big(8_192), big(8_193)],
    );
}

fn grants(book: &mut Book) {
    let mut case = |name: &str, about: &str, claim: Claim, grants: Vec<Value>| {
        book.case(name, about, claim, || {
            Play::message(&with_content(Vec::new(), grants))
        });
    };
    let about = "Granted chains are handed over as bytes; they are verified where they are used";
    case("grant", about, Allow, vec![bin(b"any bytes")]);
    case("grant-empty", about, Allow, vec![bin([])]);
    case(
        "grant-as-text",
        about,
        deny(MALFORMED_WRONG_TYPE),
        vec![text("chain")],
    );
    case(
        "grant-as-list",
        about,
        deny(MALFORMED_WRONG_TYPE),
        vec![list([])],
    );
    let about = "There are at most 8 granted chains";
    case("grants-8", about, Allow, vec![bin([0]); 8]);
    case("grants-9", about, deny(TOO_LARGE), vec![bin([0]); 9]);
    let about = "A granted chain has at most 8192 bytes";
    case("grant-8192-bytes", about, Allow, vec![bin([0; 8_192])]);
    case(
        "grant-8193-bytes",
        about,
        deny(TOO_LARGE),
        vec![bin([0; 8_193])],
    );
    let about = "All granted chains have at most 16384 bytes together";
    case(
        "grants-16384-bytes",
        about,
        Allow,
        vec![bin([0; 8_192]), bin([0; 8_192])],
    );
    let over = vec![bin([0; 8_192]), bin([0; 8_192]), bin([0])];
    case("grants-16385-bytes", about, deny(TOO_LARGE), over);
}
