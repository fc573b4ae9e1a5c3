//! The trust root, and what is signed by it as a file.

use trustmesh::proto::names::Tag;

use super::Allow;
use super::Book;
use super::Claim;
use super::State;
use super::codes::*;
use super::deny;
use super::frame::usable;
use super::play::Play;
use super::vault;
use super::vault::File;
use super::vault::Vault;
use super::vault::keeper;
use super::vault::role;
use crate::forge::HOUR;
use crate::forge::NOW;
use crate::forge::Value;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

/// 400 days in milliseconds.
const LONGEST: u64 = 400 * 24 * HOUR;

/// Adds a state and the case that it is put together, or not.
pub fn state(
    book: &mut Book,
    name: &str,
    about: &str,
    claim: Claim,
    vault: &Vault,
    change: impl FnOnce(&mut State),
) {
    let state = format!("{}-{name}", book.group);
    book.files_state(&state, about, vault.files(), change);
    book.case(name, about, claim, || Play::trust(&state));
}

/// The root changed; every other file is honest under it.
fn with_root(change: impl FnOnce(&mut File)) -> Vault {
    let mut root = vault::root();
    change(&mut root);
    Vault::under(root)
}

pub fn write(book: &mut Book) {
    let about = "Root, registry, policy and revocations, each in order";
    state(book, "accepted", about, Allow, &Vault::new(), |_| {});
    frame(book);
    signatures(book);
    fields(book);
    roles(book);
    windows(book);
    development(book);
    pins(book);
}

fn frame(book: &mut Book) {
    let mut case = |name: &str, about: &str, code: u16, change: fn(&mut File)| {
        state(book, name, about, deny(code), &with_root(change), |_| {});
    };
    let about = "A trust file begins with TMTS";
    case("magic-envelope", about, MALFORMED_BAD_MAGIC, |f| {
        f.magic = b"TMSH".to_vec()
    });
    case("magic-lower-case", about, MALFORMED_BAD_MAGIC, |f| {
        f.magic = b"tmts".to_vec()
    });
    let about = "The only version of a file is 1";
    case("frame-version-0", about, UNSUPPORTED_VERSION, |f| {
        f.version = Value::Uint(0)
    });
    case("frame-version-2", about, UNSUPPORTED_VERSION, |f| {
        f.version = Value::Uint(2)
    });
    let about = "A file says of which kind it is";
    for (kind, name) in [(0, "kind-0"), (2, "kind-registry"), (6, "kind-6")] {
        let mut root = vault::root();
        root.kind = Value::Uint(kind);
        state(
            book,
            name,
            about,
            deny(MALFORMED_OUT_OF_RANGE),
            &Vault::under(root),
            |_| {},
        );
    }
    let mut case = |name: &str, about: &str, code: u16, change: fn(&mut File)| {
        state(book, name, about, deny(code), &with_root(change), |_| {});
    };
    let about = "A file is an array of version, kind, body and signatures, and nothing follows";
    case("kind-as-text", about, MALFORMED_WRONG_TYPE, |f| {
        f.kind = text("root")
    });
    case("kind-longer", about, MALFORMED_NOT_CANONICAL, |f| {
        f.kind = Value::Raw(vec![0xcc, 1])
    });
    case("trailing", about, MALFORMED_TRAILING_BYTES, |f| {
        f.tail = vec![0]
    });
    case("signatures-as-nil", about, MALFORMED_WRONG_TYPE, |f| {
        f.signatures = Some(Value::Nil)
    });
    case("signatures-as-bin", about, MALFORMED_WRONG_TYPE, |f| {
        f.signatures = Some(bin([7; 64]))
    });
    for (name, bytes, code) in [
        ("empty", &b""[..], MALFORMED_BAD_MAGIC),
        ("magic-alone", b"TMTS", MALFORMED_TRUNCATED),
        (
            "of-three-values",
            b"TMTS\x93\x01\x01\xc4\x00",
            MALFORMED_WRONG_LENGTH,
        ),
        (
            "of-five-values",
            b"TMTS\x95\x01\x01\xc4\x00\x90\xc0",
            MALFORMED_WRONG_LENGTH,
        ),
        (
            "as-a-map",
            b"TMTS\x82\x01\x01\xc4\x00",
            MALFORMED_WRONG_TYPE,
        ),
        (
            "body-empty",
            b"TMTS\x94\x01\x01\xc4\x00\x90",
            MALFORMED_TRUNCATED,
        ),
    ] {
        let name = format!("file-{name}");
        state(book, &name, about, deny(code), &Vault::new(), |state| {
            state.files.root = bytes.to_vec().into();
        });
    }
}

fn signatures(book: &mut Book) {
    let three: Vec<_> = (0..3).map(|n| keeper(1, n)).collect();
    let of_three = |threshold: u64, signers: &[u64]| {
        with_root(|root| {
            root.set(&[3, 0], role(1, threshold, &three));
            root.signers = signers
                .iter()
                .map(|n| (Value::Uint(*n), keeper(1, *n as usize), Tag::TrustRoot))
                .collect();
        })
    };
    let too_few = deny(UNTRUSTED_ROOT_THRESHOLD);
    let about = "As many keys of the role sign as its threshold says";
    for (name, threshold, signers, claim) in [
        ("two-of-three", 2, &[0, 2][..], Allow),
        ("two-of-three-last", 2, &[1, 2], Allow),
        ("three-of-three", 3, &[0, 1, 2], Allow),
        ("three-where-two-are-asked", 2, &[0, 1, 2], Allow),
        ("one-of-two", 2, &[1], too_few),
        ("two-of-asked-three", 3, &[0, 1], too_few),
        ("none", 1, &[], too_few),
    ] {
        state(
            book,
            &format!("signed-{name}"),
            about,
            claim,
            &of_three(threshold, signers),
            |_| {},
        );
    }
    let about = "Signatures stand in strictly ascending order of their keys";
    for (name, signers) in [("descending", &[2, 0][..]), ("same-twice", &[1, 1])] {
        let claim = deny(MALFORMED_DUPLICATE);
        state(
            book,
            &format!("signed-{name}"),
            about,
            claim,
            &of_three(2, signers),
            |_| {},
        );
    }
    let about = "A signature that does not verify refuses the file, even when enough others do";
    let mut vault = of_three(2, &[0, 1, 2]);
    vault.root.signers[2].1 = keeper(2, 0);
    state(
        book,
        "signed-one-too-many-bad",
        about,
        deny(BAD_SIGNATURE),
        &vault,
        |_| {},
    );
    let mut vault = of_three(1, &[0, 1]);
    vault.root.signers[0].1 = keeper(2, 0);
    state(
        book,
        "signed-first-bad",
        about,
        deny(BAD_SIGNATURE),
        &vault,
        |_| {},
    );
    let mut case = |name: &str, about: &str, claim: Claim, change: fn(&mut File)| {
        state(book, name, about, claim, &with_root(change), |_| {});
    };
    let about = "A signature is by a key of the role, which its position selects";
    case("signed-by-the-issuer", about, deny(BAD_SIGNATURE), |f| {
        f.signers[0].1 = keeper(2, 0)
    });
    case("signed-by-no-position", about, too_few, |f| {
        f.signers[0].0 = Value::Uint(1)
    });
    case("signed-by-position-255", about, too_few, |f| {
        f.signers[0].0 = Value::Uint(255)
    });
    case(
        "signed-by-position-256",
        about,
        deny(MALFORMED_OUT_OF_RANGE),
        |f| {
            f.signers[0].0 = Value::Uint(256);
        },
    );
    let about = "A file is signed under the tag of its kind";
    for (tag, name) in [
        (Tag::Registry, "registry"),
        (Tag::Policy, "policy"),
        (Tag::Certificate, "certificate"),
        (Tag::Envelope, "envelope"),
    ] {
        let vault = with_root(|f| f.signers[0].2 = tag);
        let name = format!("signed-under-{name}");
        state(book, &name, about, deny(BAD_SIGNATURE), &vault, |_| {});
    }
    let about = "A signature is a pair of position and 64 bytes";
    for (name, signatures, code) in [
        (
            "of-63-bytes",
            list([list([Value::Uint(0), bin([7; 63])])]),
            MALFORMED_WRONG_LENGTH,
        ),
        (
            "of-65-bytes",
            list([list([Value::Uint(0), bin([7; 65])])]),
            MALFORMED_WRONG_LENGTH,
        ),
        (
            "alone",
            list([list([bin([7; 64])])]),
            MALFORMED_WRONG_LENGTH,
        ),
        (
            "with-more",
            list([list([Value::Uint(0), bin([7; 64]), Value::Nil])]),
            MALFORMED_WRONG_LENGTH,
        ),
        (
            "as-text",
            list([list([Value::Uint(0), text("s")])]),
            MALFORMED_WRONG_TYPE,
        ),
        (
            "position-as-nil",
            list([list([Value::Nil, bin([7; 64])])]),
            MALFORMED_WRONG_TYPE,
        ),
        (
            "zero",
            list([list([Value::Uint(0), bin([0; 64])])]),
            BAD_SIGNATURE,
        ),
        (
            "17-of-them",
            list((0..17).map(|n| list([Value::Uint(n), bin([7; 64])]))),
            TOO_LARGE,
        ),
        (
            "16-of-them",
            list((0..16).map(|n| list([Value::Uint(n), bin([7; 64])]))),
            BAD_SIGNATURE,
        ),
    ] {
        let vault = with_root(|f| f.signatures = Some(signatures));
        state(
            book,
            &format!("signature-{name}"),
            about,
            deny(code),
            &vault,
            |_| {},
        );
    }
}

fn fields(book: &mut Book) {
    const FIELDS: [&str; 7] = ["v", "version", "name", "roles", "nbf", "exp", "ext"];
    for (index, field) in FIELDS.iter().enumerate() {
        let length = deny(MALFORMED_WRONG_LENGTH);
        let vault = with_root(|f| drop(f.body.items().remove(index)));
        let about = format!("A root whose {field} is left out");
        state(
            book,
            &format!("without-{field}"),
            &about,
            length,
            &vault,
            |_| {},
        );
        let vault = with_root(|f| {
            let again = f.body.items()[index].clone();
            f.body.items().insert(index, again);
        });
        let about = format!("A root whose {field} is given twice");
        state(
            book,
            &format!("with-{field}-twice"),
            &about,
            length,
            &vault,
            |_| {},
        );
        let kinds = vault::root().body.at(&[index]).other_types();
        for (kind, value) in kinds.into_iter().filter(|(kind, _)| usable(kind)) {
            if !matches!(kind, "nil" | "text" | "bin") {
                continue;
            }
            let vault = with_root(|f| f.set(&[index], value));
            let about = format!("The root's {field} is written as another type: {kind}");
            let name = format!("{field}-as-{kind}");
            state(
                book,
                &name,
                &about,
                deny(MALFORMED_WRONG_TYPE),
                &vault,
                |_| {},
            );
        }
    }
    for index in [0, 1] {
        for version in [0, 2] {
            let vault = with_root(|f| f.set(&[index], Value::Uint(version)));
            let about = "The only versions are 1";
            let name = format!("{}-{version}", FIELDS[index]);
            state(
                book,
                &name,
                about,
                deny(UNSUPPORTED_VERSION),
                &vault,
                |_| {},
            );
        }
    }
    let about = "The name of a mesh is text of at most 64 bytes, for people";
    for (name, value, claim) in [
        ("name-empty", text(""), Allow),
        ("name-64-bytes", text(&"n".repeat(64)), Allow),
        ("name-65-bytes", text(&"n".repeat(65)), deny(TOO_LARGE)),
        ("name-utf-8", text("m\u{e4}sh"), Allow),
        ("name-nul", text("a\0"), deny(MALFORMED_NOT_TEXT)),
        (
            "name-not-utf-8",
            Value::Str(vec![0xff]),
            deny(MALFORMED_NOT_TEXT),
        ),
    ] {
        state(
            book,
            name,
            about,
            claim,
            &with_root(|f| f.set(&[2], value)),
            |_| {},
        );
    }
}

fn roles(book: &mut Book) {
    let mut case = |name: &str, about: &str, claim: Claim, change: &dyn Fn(&mut File)| {
        state(book, name, about, claim, &with_root(change), |_| {});
    };
    let about = "A role is 1 to 7, and each stands once, in ascending order";
    let number = |n: u64| move |f: &mut File| f.set(&[3, 5, 0], Value::Uint(n));
    case("role-8", about, deny(MALFORMED_OUT_OF_RANGE), &number(8));
    case("role-0", about, deny(MALFORMED_OUT_OF_RANGE), &number(0));
    case("role-twice", about, deny(MALFORMED_DUPLICATE), &number(5));
    case(
        "role-descending",
        about,
        deny(MALFORMED_DUPLICATE),
        &number(1),
    );
    case("role-timestamp", about, Allow, &|f| {
        let roles = f.body.at(&[3]).clone();
        let Value::Array(mut roles) = roles else {
            panic!("roles are a list")
        };
        roles.insert(5, role(6, 1, &[keeper(6, 0)]));
        f.set(&[3], list(roles));
    });
    let about = "A root has at most seven roles";
    case("roles-8", about, deny(TOO_LARGE), &|f| {
        f.set(&[3], list((1..=8).map(|n| role(n, 1, &[keeper(1, 0)]))));
    });
    let about = "Who has no role signs nothing: a root without root keys vouches for nobody";
    case("roles-none", about, deny(UNTRUSTED_ROOT_THRESHOLD), &|f| {
        f.set(&[3], list([]))
    });
    let without = |index: usize| {
        move |f: &mut File| {
            let Value::Array(mut roles) = f.body.at(&[3]).clone() else {
                panic!("roles are a list")
            };
            roles.remove(index);
            f.set(&[3], list(roles));
        }
    };
    case(
        "role-root-missing",
        about,
        deny(UNTRUSTED_ROOT_THRESHOLD),
        &without(0),
    );
    case(
        "role-registrar-missing",
        about,
        deny(UNTRUSTED_ROOT_THRESHOLD),
        &without(2),
    );
    case(
        "role-revoker-missing",
        about,
        deny(UNTRUSTED_ROOT_THRESHOLD),
        &without(3),
    );
    case(
        "role-policy-missing",
        about,
        deny(UNTRUSTED_ROOT_THRESHOLD),
        &without(4),
    );
    case(
        "role-scores-missing",
        "Without scores, nobody has to sign them",
        Allow,
        &without(5),
    );
    case(
        "role-issuer-missing",
        "A mesh may grant nothing",
        Allow,
        &without(1),
    );
    let about = "A threshold is 1 to the number of keys";
    let threshold = |n: u64| move |f: &mut File| f.set(&[3, 1, 1], Value::Uint(n));
    case(
        "threshold-0",
        about,
        deny(MALFORMED_OUT_OF_RANGE),
        &threshold(0),
    );
    case(
        "threshold-2-of-1",
        about,
        deny(MALFORMED_OUT_OF_RANGE),
        &threshold(2),
    );
    case(
        "threshold-256",
        about,
        deny(MALFORMED_OUT_OF_RANGE),
        &threshold(256),
    );
    case(
        "threshold-0-of-0",
        about,
        deny(MALFORMED_OUT_OF_RANGE),
        &|f| {
            f.set(&[3, 1], role(2, 0, &[]));
        },
    );
    case(
        "threshold-1-of-0",
        about,
        deny(MALFORMED_OUT_OF_RANGE),
        &|f| {
            f.set(&[3, 1], role(2, 1, &[]));
        },
    );
    let about = "A role has at most 16 keys, none of them twice; a key may have several roles";
    let many = |count: usize| {
        move |f: &mut File| {
            let keys: Vec<_> = (0..count).map(|n| keeper(2, n)).collect();
            f.set(&[3, 1], role(2, count.min(16) as u64, &keys));
        }
    };
    case("keys-16", about, Allow, &many(16));
    case("keys-17", about, deny(TOO_LARGE), &many(17));
    case("key-twice", about, deny(MALFORMED_DUPLICATE), &|f| {
        f.set(&[3, 1], role(2, 1, &[keeper(2, 0), keeper(2, 0)]));
    });
    case("key-in-two-roles", about, Allow, &|f| {
        f.set(&[3, 1], role(2, 1, &[keeper(3, 0)]));
    });
    let about = "A role is an array of number, threshold and keys";
    case("role-of-two", about, deny(MALFORMED_WRONG_LENGTH), &|f| {
        f.set(&[3, 1], list([Value::Uint(2), Value::Uint(1)]));
    });
    case("role-as-number", about, deny(MALFORMED_WRONG_TYPE), &|f| {
        f.set(&[3, 1], Value::Uint(2))
    });
    case("key-as-text", about, deny(MALFORMED_WRONG_TYPE), &|f| {
        f.set(&[3, 1, 2, 0], text("key"));
    });
    for len in [0, 31, 33] {
        case(
            &format!("key-of-{len}-bytes"),
            about,
            deny(MALFORMED_WRONG_LENGTH),
            &move |f| {
                f.set(&[3, 1, 2, 0], bin(vec![1; len]));
            },
        );
    }
    for (name, bytes) in weak_keys() {
        let about = "A key of the root is a canonical point of prime order";
        case(&format!("key-{name}"), about, deny(WEAK_KEY), &move |f| {
            f.set(&[3, 1, 2, 0], bin(bytes));
        });
    }
}

/// Bytes that are no acceptable key, and why.
pub fn weak_keys() -> Vec<(&'static str, [u8; 32])> {
    let plain = |first: u8, last: u8| {
        let mut bytes = [0; 32];
        (bytes[0], bytes[31]) = (first, last);
        bytes
    };
    let near_p = |first: u8, last: u8| {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (first, last);
        bytes
    };
    let read = |text: &str| {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
        <[u8; 32]>::try_from(bytes).unwrap()
    };
    vec![
        ("neutral", plain(1, 0)),
        ("order-2", near_p(0xec, 0x7f)),
        ("order-4", plain(0, 0)),
        (
            "order-8",
            read("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
        ),
        ("order-4-above-p", near_p(0xed, 0x7f)),
        ("neutral-above-p", near_p(0xee, 0x7f)),
        ("neutral-with-sign", plain(1, 0x80)),
        ("no-point", plain(2, 0)),
        ("all-ones", [0xff; 32]),
        // Of the published edge cases: of order 8 times the prime order.
        (
            "mixed-order",
            read("cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d"),
        ),
    ]
}

fn windows(book: &mut Book) {
    let lifetime = deny(MALFORMED_LIFETIME);
    for (name, from, until, claim) in [
        ("400-days", NOW, NOW + LONGEST, Allow),
        ("400-days-and-1-ms", NOW, NOW + LONGEST + 1, lifetime),
        ("1-ms", NOW, NOW + 1, Allow),
        ("no-time", NOW, NOW, lifetime),
        ("reversed", NOW + 1, NOW, lifetime),
        ("for-ever", 0, u64::MAX, lifetime),
        ("over-long-ago", 1, 2, Allow),
        ("not-begun", u64::MAX - 1, u64::MAX, Allow),
    ] {
        let vault = with_root(|f| {
            f.set(&[4], Value::Uint(from));
            f.set(&[5], Value::Uint(until));
        });
        let about = "A root holds for 1 ms to 400 days; putting a state together looks at no clock";
        state(
            book,
            &format!("window-{name}"),
            about,
            claim,
            &vault,
            |_| {},
        );
    }
}

fn development(book: &mut Book) {
    let dev = |id: u64, critical: bool, value: &[u8]| {
        list([Value::Uint(id), Value::Bool(critical), bin(value)])
    };
    let about = "A development mesh is admitted where development is, and nowhere else";
    let vault = with_root(|f| f.set(&[6], list([dev(1, true, b"")])));
    state(book, "dev-admitted", about, Allow, &vault, |state| {
        state.dev = true
    });
    state(
        book,
        "dev-refused",
        about,
        deny(UNTRUSTED_ROOT_DEV_MESH),
        &vault,
        |_| {},
    );
    state(
        book,
        "no-dev-admitted",
        about,
        Allow,
        &Vault::new(),
        |state| state.dev = true,
    );
    let ill = deny(MALFORMED_EXTENSION);
    for (name, extensions, claim) in [
        ("2", vec![dev(2, true, b"")], ill),
        ("2-not-critical", vec![dev(2, false, b"")], ill),
        ("0", vec![dev(0, true, b"")], ill),
        ("1-not-critical", vec![dev(1, false, b"")], ill),
        ("1-with-a-value", vec![dev(1, true, b"x")], deny(TOO_LARGE)),
        (
            "twice",
            vec![dev(1, true, b""), dev(1, true, b"")],
            deny(TOO_LARGE),
        ),
        (
            "of-two",
            vec![list([Value::Uint(1), Value::Bool(true)])],
            deny(MALFORMED_WRONG_LENGTH),
        ),
        ("as-nil", vec![Value::Nil], deny(MALFORMED_WRONG_TYPE)),
    ] {
        let vault = with_root(|f| f.set(&[6], list(extensions)));
        let about = "The one extension of a root says that the mesh is for development";
        state(
            book,
            &format!("extension-{name}"),
            about,
            claim,
            &vault,
            |state| state.dev = true,
        );
    }
}

fn pins(book: &mut Book) {
    let id = |vault: &Vault| Tag::TrustRoot.digest(&vault.root.body.encode());
    let vault = Vault::new();
    let (right, mut wrong) = (id(&vault), id(&vault));
    wrong.0[31] ^= 1;
    let about = "Where a root is pinned by its object id, no other is accepted";
    state(book, "pin-right", about, Allow, &vault, |state| {
        state.pin = Some(right)
    });
    let no = deny(UNTRUSTED_ROOT_PIN);
    state(book, "pin-wrong", about, no, &vault, |state| {
        state.pin = Some(wrong)
    });
    let renamed = with_root(|f| f.set(&[2], text("vault2")));
    state(book, "pin-of-another-root", about, no, &renamed, |state| {
        state.pin = Some(right)
    });
    let dev = with_root(|f| {
        f.set(
            &[6],
            list([list([Value::Uint(1), Value::Bool(true), bin([])])]),
        );
    });
    state(book, "pin-before-development", about, no, &dev, |state| {
        state.pin = Some(right)
    });
}
