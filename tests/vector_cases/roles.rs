//! The roles of a trust root and their keys; its window, development and pins.

use trustmesh::proto::names::Tag;

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::root::LONGEST;
use super::root::state;
use super::root::with_root;
use super::vault::File;
use super::vault::Vault;
use super::vault::keeper;
use super::vault::role;
use crate::forge::NOW;
use crate::forge::Value;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

pub(super) fn roles(book: &mut Book) {
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

pub(super) fn windows(book: &mut Book) {
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

pub(super) fn development(book: &mut Book) {
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

pub(super) fn pins(book: &mut Book) {
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
