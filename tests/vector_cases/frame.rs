//! The outer frame: magic, six values, nothing after them.

use super::Allow;
use super::Book;
use super::codes::*;
use super::deny;
use super::play::Play;
use crate::forge::ChainSpec;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::Value;
use crate::forge::letter::MODE;
use crate::forge::value::bin;
use crate::forge::value::list;

const PARTS: [&str; 6] = ["version", "mode", "header", "signature", "chain", "content"];

/// A valid event by alice.
pub fn event() -> Letter {
    Letter::publish(&ChainSpec::down(&Mesh::new(), &["alice"]), "orders.eu.new")
}

fn framed(letter: &Letter, tree: &Value) -> Play {
    let bytes = [&letter.magic[..], &tree.encode()].concat();
    Play::message(letter).bytes(bytes)
}

pub fn write(book: &mut Book) {
    magic(book);
    arity(book);
    values(book);
    encodings(book);
    ends(book);
}

fn magic(book: &mut Book) {
    book.case(
        "accepted",
        "An event whose every part is in order",
        Allow,
        || Play::message(&event()),
    );
    for (name, magic) in [
        ("magic-handshake", *b"TMHS"),
        ("magic-trust-file", *b"TMTS"),
        ("magic-lower-case", *b"tmsh"),
        ("magic-last-byte", *b"TMSI"),
        ("magic-zero", [0; 4]),
    ] {
        let about = "A frame begins with the four bytes TMSH and no others";
        book.case(name, about, deny(MALFORMED_BAD_MAGIC), || {
            Play::message(&event().edit(|l| l.magic = magic.to_vec()))
        });
    }
    for (name, bytes, code) in [
        ("empty", &b""[..], MALFORMED_BAD_MAGIC),
        ("magic-cut", b"TMS", MALFORMED_BAD_MAGIC),
        ("magic-alone", b"TMSH", MALFORMED_TRUNCATED),
        ("text-of-a-plain-message", b"hello", MALFORMED_BAD_MAGIC),
        ("array-header-alone", b"TMSH\x96", MALFORMED_TRUNCATED),
    ] {
        let about = "A frame that ends inside or right after its magic is no frame";
        book.case(name, about, deny(code), || {
            Play::message(&event()).bytes(bytes)
        });
    }
}

fn arity(book: &mut Book) {
    for (index, part) in PARTS.iter().enumerate() {
        let name = format!("without-{part}");
        let about = format!("A frame of five values, its {part} left out");
        book.case(&name, &about, deny(MALFORMED_WRONG_LENGTH), || {
            let letter = event();
            let mut tree = letter.tree();
            tree.items().remove(index);
            framed(&letter, &tree)
        });
        let name = format!("with-{part}-twice");
        let about = format!("A frame of seven values, its {part} given twice");
        book.case(&name, &about, deny(MALFORMED_WRONG_LENGTH), || {
            let letter = event();
            let mut tree = letter.tree();
            let again = tree.items()[index].clone();
            tree.items().insert(index, again);
            framed(&letter, &tree)
        });
    }
    let about = "A map cannot stand for the frame's array";
    book.case("map-for-array", about, deny(MALFORMED_WRONG_TYPE), || {
        let letter = event();
        let mut bytes = letter.frame().to_vec();
        bytes[4] = 0x83;
        Play::message(&letter).bytes(bytes)
    });
}

fn values(book: &mut Book) {
    for version in [0, 2, 127, 255, 1 << 32] {
        let name = format!("version-{version}");
        let about = "The only frame version is 1";
        book.case(&name, about, deny(UNSUPPORTED_VERSION), || {
            Play::message(&event().edit(|l| l.frame_version = Value::Uint(version)))
        });
    }
    for mode in [0, 3, 4, 255, 1 << 32] {
        let name = format!("mode-{mode}-in-both-places");
        let about = "Modes other than 1 and 2 are not spoken, even when frame and header agree";
        book.case(&name, about, deny(UNSUPPORTED_VERSION), || {
            let letter = event().set(MODE, Value::Uint(mode));
            Play::message(&letter.edit(|l| l.frame_mode = Value::Uint(mode)))
        });
        let name = format!("mode-{mode}-in-the-frame");
        let about = "The frame's mode is the header's mode";
        book.case(&name, about, deny(MALFORMED_MODE_MISMATCH), || {
            Play::message(&event().edit(|l| l.frame_mode = Value::Uint(mode)))
        });
        let name = format!("mode-{mode}-in-the-header");
        book.case(&name, about, deny(MALFORMED_MODE_MISMATCH), || {
            Play::message(&event().set(MODE, Value::Uint(mode)))
        });
    }
    let about = "Mode 2 asks for the proof of a batch, and a signature is none";
    let wrong = deny(MALFORMED_WRONG_TYPE);
    book.case("mode-2-in-both-places", about, wrong, || {
        let letter = event().set(MODE, Value::Uint(2));
        Play::message(&letter.edit(|l| l.frame_mode = Value::Uint(2)))
    });
    book.case("mode-2-in-the-frame", about, wrong, || {
        Play::message(&event().edit(|l| l.frame_mode = Value::Uint(2)))
    });
    let about = "The frame's mode is the header's mode";
    book.case(
        "mode-2-in-the-header",
        about,
        deny(MALFORMED_MODE_MISMATCH),
        || Play::message(&event().set(MODE, Value::Uint(2))),
    );
    for len in [0, 32, 63, 65, 128, 256] {
        let name = format!("signature-of-{len}-bytes");
        let about = "A signature is 64 bytes, no fewer and no more";
        book.case(&name, about, deny(MALFORMED_WRONG_LENGTH), || {
            Play::message(&event().edit(|l| l.signature = Some(bin(vec![7; len]))))
        });
    }
    let about = "A signature of 64 zero bytes is well-formed and verifies for nobody";
    book.case("signature-all-zero", about, deny(BAD_SIGNATURE), || {
        Play::message(&event().edit(|l| l.signature = Some(bin([0; 64]))))
    });
    let about = "An empty header is no header";
    book.case("header-empty", about, deny(MALFORMED_TRUNCATED), || {
        Play::message(&event().edit(|l| l.header_bytes = Some(Vec::new())))
    });
    let about = "An empty byte string holds no chain, not even one without links";
    book.case("chain-empty", about, deny(MALFORMED_TRUNCATED), || {
        Play::message(&event().edit(|l| l.chain = Vec::new()))
    });
    let about = "A frame without content has content of another length than signed";
    book.case(
        "content-empty",
        about,
        deny(MALFORMED_CONTENT_LENGTH),
        || {
            let letter = event();
            framed(&letter, &letter.tree().with(&[5], bin([])))
        },
    );
}

fn encodings(book: &mut Book) {
    for (index, part) in PARTS.iter().enumerate() {
        let kinds = event().tree().at(&[index]).other_types();
        for (kind, value) in kinds.into_iter().filter(|(kind, _)| usable(kind)) {
            let name = format!("{part}-as-{kind}");
            let about = format!("The frame's {part} is written as another type: {kind}");
            book.case(&name, &about, deny(MALFORMED_WRONG_TYPE), || {
                let letter = event();
                framed(&letter, &letter.tree().with(&[index], value))
            });
        }
        let forms = event().tree().at(&[index]).longer().len();
        for form in 0..forms {
            let name = format!("{part}-longer-{form}");
            let about = format!("The frame's {part} in an encoding longer than need be");
            // The last form of a small number is the signed one, which is another type.
            let signed = index < 2 && form == forms - 1;
            let code = if signed {
                MALFORMED_WRONG_TYPE
            } else {
                MALFORMED_NOT_CANONICAL
            };
            book.case(&name, &about, deny(code), || {
                let letter = event();
                let tree = letter.tree();
                let longer = tree.at(&[index]).longer().remove(form);
                framed(&letter, &tree.with(&[index], longer))
            });
        }
    }
    for (name, header) in [
        ("array-16", &[0xdc, 0, 6][..]),
        ("array-32", &[0xdd, 0, 0, 0, 6]),
    ] {
        let about = "The frame's array in an encoding longer than need be";
        book.case(name, about, deny(MALFORMED_NOT_CANONICAL), || {
            let letter = event();
            let bytes = [b"TMSH", header, &letter.frame()[5..]].concat();
            Play::message(&letter).bytes(bytes)
        });
    }
}

fn ends(book: &mut Book) {
    for (name, tail) in [("zero", &[0][..]), ("nil", &[0xc0]), ("magic", b"TMSH")] {
        let name = format!("trailing-{name}");
        let about = "Nothing follows a frame's last value";
        book.case(&name, about, deny(MALFORMED_TRAILING_BYTES), || {
            let letter = event();
            let bytes = [&letter.frame(), tail].concat();
            Play::message(&letter).bytes(bytes)
        });
    }
    let about = "Two frames in one message are none";
    book.case(
        "trailing-second-frame",
        about,
        deny(MALFORMED_TRAILING_BYTES),
        || {
            let letter = event();
            let bytes = [letter.frame(), letter.frame()].concat();
            Play::message(&letter).bytes(bytes)
        },
    );
    for part in 1..=16 {
        let name = format!("cut-{part:02}-of-17");
        let about = "A frame cut short, at one of sixteen places";
        book.case(&name, about, deny(MALFORMED_TRUNCATED), || {
            let letter = event();
            let frame = letter.frame();
            let len = 5 + (frame.len() - 5) * part / 17;
            Play::message(&letter).bytes(&frame[..len])
        });
    }
    let about = "The frame's last byte is missing";
    book.case("cut-last-byte", about, deny(MALFORMED_TRUNCATED), || {
        let letter = event();
        let frame = letter.frame();
        Play::message(&letter).bytes(&frame[..frame.len() - 1])
    });
    let about = "A claimed length of four gigabytes is refused for what is not there";
    book.case(
        "header-claims-4-gib",
        about,
        deny(MALFORMED_TRUNCATED),
        || {
            let letter = event();
            let huge = Value::Raw(vec![0xc6, 0xff, 0xff, 0xff, 0xff]);
            let rest = Value::Raw(Vec::new());
            let parts = [
                Value::Uint(1),
                Value::Uint(1),
                huge,
                rest.clone(),
                rest.clone(),
                rest,
            ];
            framed(&letter, &list(parts))
        },
    );
}

/// Whether a replacement of another type says what it is: a reserved marker or missing bytes do.
pub fn usable(kind: &str) -> bool {
    !matches!(kind, "nothing" | "numbers" | "reserved")
}
