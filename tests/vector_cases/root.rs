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
use super::roles::development;
use super::roles::pins;
use super::roles::roles;
use super::roles::windows;
use super::vault;
use super::vault::File;
use super::vault::Vault;
use super::vault::keeper;
use super::vault::role;
use crate::forge::HOUR;
use crate::forge::Value;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

/// 400 days in milliseconds.
pub(super) const LONGEST: u64 = 400 * 24 * HOUR;

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
pub(super) fn with_root(change: impl FnOnce(&mut File)) -> Vault {
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
