//! Header extensions: known, unknown, critical, misplaced, at their limits.

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::frame::event;
use super::play::Play;
use crate::forge::Value;
use crate::forge::letter::EXT;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn ext(id: u64, critical: bool, value: impl AsRef<[u8]>) -> Value {
    list([Value::Uint(id), Value::Bool(critical), bin(value)])
}

pub fn write(book: &mut Book) {
    let ill = deny(MALFORMED_EXTENSION);
    let mut case = |name: &str, about: &str, claim: Claim, extensions: Vec<Value>| {
        book.case(name, about, claim, || {
            Play::message(&event().set(EXT, list(extensions)))
        });
    };
    let about = "Extension 1, not critical, is three epochs in 24 bytes";
    case("epochs", about, Allow, vec![ext(1, false, [0; 24])]);
    case("epochs-23-bytes", about, ill, vec![ext(1, false, [0; 23])]);
    case("epochs-25-bytes", about, ill, vec![ext(1, false, [0; 25])]);
    case("epochs-empty", about, ill, vec![ext(1, false, [])]);
    case("epochs-critical", about, ill, vec![ext(1, true, [0; 24])]);

    let about = "Extension 2, not critical, is a traceparent of version 00";
    case("trace", about, Allow, vec![ext(2, false, TRACE)]);
    case("trace-critical", about, ill, vec![ext(2, true, TRACE)]);
    case("trace-short", about, ill, vec![ext(2, false, &TRACE[..54])]);
    case(
        "trace-long",
        about,
        ill,
        vec![ext(2, false, format!("{TRACE}0"))],
    );
    case("trace-empty", about, ill, vec![ext(2, false, [])]);
    let upper = TRACE.replace("af", "AF");
    case("trace-upper-case", about, ill, vec![ext(2, false, upper)]);
    let version = TRACE.replacen("00", "01", 1);
    case("trace-version", about, ill, vec![ext(2, false, version)]);
    for at in [2, 35, 52] {
        let mut odd = TRACE.as_bytes().to_vec();
        odd[at] = b'_';
        case(
            &format!("trace-dash-{at}"),
            about,
            ill,
            vec![ext(2, false, odd)],
        );
    }

    let about = "Extension 3, critical, counts how often the work was forwarded: 1 to 16";
    case("hops-1", about, Allow, vec![ext(3, true, [1])]);
    case("hops-16", about, Allow, vec![ext(3, true, [16])]);
    case("hops-0", about, ill, vec![ext(3, true, [0])]);
    case(
        "hops-17",
        about,
        deny(DEPTH_EXCEEDED_HOPS),
        vec![ext(3, true, [17])],
    );
    case(
        "hops-255",
        about,
        deny(DEPTH_EXCEEDED_HOPS),
        vec![ext(3, true, [255])],
    );
    case("hops-empty", about, ill, vec![ext(3, true, [])]);
    case("hops-2-bytes", about, ill, vec![ext(3, true, [0, 1])]);
    case("hops-not-critical", about, ill, vec![ext(3, false, [1])]);

    let about = "Extension 4, not critical, is an approval: ignored where policy asks for none";
    case("unknown", about, Allow, vec![ext(4, false, b"?")]);
    case("approval-empty", about, Allow, vec![ext(4, false, b"")]);
    let about = "An unknown extension may be ignored unless it is critical";
    case("unknown-5", about, Allow, vec![ext(5, false, b"?")]);
    case("unknown-5-critical", about, ill, vec![ext(5, true, b"?")]);
    case(
        "unknown-highest",
        about,
        Allow,
        vec![ext(65_535, false, [])],
    );
    case("unknown-critical", about, ill, vec![ext(4, true, b"?")]);
    case(
        "unknown-highest-critical",
        about,
        ill,
        vec![ext(65_535, true, [])],
    );
    case(
        "id-65536",
        about,
        deny(MALFORMED_OUT_OF_RANGE),
        vec![ext(65_536, false, [])],
    );

    let about = "Extensions stand in strictly ascending order of their ids";
    let (epochs, trace, hops) = (
        ext(1, false, [0; 24]),
        ext(2, false, TRACE),
        ext(3, true, [1]),
    );
    let all = vec![epochs.clone(), trace.clone(), hops.clone()];
    case("all-three", about, Allow, all);
    case("twice", about, ill, vec![trace.clone(), trace.clone()]);
    case(
        "unknown-twice",
        about,
        ill,
        vec![ext(9, false, []), ext(9, false, [])],
    );
    case("descending", about, ill, vec![hops, epochs]);

    let about = "There are at most 8 extensions";
    let several = |count: u64| {
        (4..4 + count)
            .map(|id| ext(id, false, []))
            .collect::<Vec<_>>()
    };
    case("8-of-them", about, Allow, several(8));
    case("9-of-them", about, deny(TOO_LARGE), several(9));

    let about = "The values of all extensions have at most 512 bytes together";
    case("512-bytes", about, Allow, vec![ext(4, false, [0; 512])]);
    case(
        "513-bytes",
        about,
        deny(TOO_LARGE),
        vec![ext(4, false, [0; 513])],
    );
    let two = |more: usize| vec![ext(4, false, [0; 256]), ext(5, false, vec![0; 256 + more])];
    case("512-bytes-in-two", about, Allow, two(0));
    case("513-bytes-in-two", about, deny(TOO_LARGE), two(1));

    let about = "An extension is an array of id, critical and value";
    let short = list([Value::Uint(4), Value::Bool(false)]);
    case(
        "of-two-values",
        about,
        deny(MALFORMED_WRONG_LENGTH),
        vec![short],
    );
    let long = list([Value::Uint(4), Value::Bool(false), bin([]), Value::Nil]);
    case(
        "of-four-values",
        about,
        deny(MALFORMED_WRONG_LENGTH),
        vec![long],
    );
    for (name, index, value) in [
        ("id-as-text", 0, text("4")),
        ("critical-as-number", 1, Value::Uint(0)),
        ("critical-as-nil", 1, Value::Nil),
        ("value-as-text", 2, text("v")),
        ("value-as-nil", 2, Value::Nil),
    ] {
        let odd = ext(4, false, []).with(&[index], value);
        case(name, about, deny(MALFORMED_WRONG_TYPE), vec![odd]);
    }
    let longer = ext(4, false, []).with(&[0], Value::Raw(vec![0xcc, 4]));
    case(
        "id-longer",
        about,
        deny(MALFORMED_NOT_CANONICAL),
        vec![longer],
    );
    let longer = ext(4, false, []).with(&[2], Value::Raw(vec![0xc5, 0, 0]));
    case(
        "value-longer",
        about,
        deny(MALFORMED_NOT_CANONICAL),
        vec![longer],
    );
}
