//! Certificates, where a registry is read.

use trustmesh::proto::names::Tag;

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::frame::usable;
use super::roles::weak_keys;
use super::root::state;
use super::vault::Paper;
use super::vault::Vault;
use super::vault::keeper;
use crate::forge::HOUR;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

const FIELDS: [&str; 10] = [
    "v",
    "mesh",
    "serial",
    "agent",
    "key",
    "nbf",
    "exp",
    "prev",
    "key_epoch",
    "ext",
];

fn honest() -> Paper {
    Paper::of(&Vault::new().mesh, &Party::named("alice"))
}

/// A registry of one certificate that was changed.
fn with(change: impl FnOnce(&mut Paper)) -> Vault {
    let mut paper = honest();
    change(&mut paper);
    Vault::new().papers(&[paper])
}

/// With one field of the body replaced, and signed so.
fn set(index: usize, value: Value) -> Vault {
    with(|paper| paper.body = paper.body.with(&[index], value))
}

pub fn write(book: &mut Book) {
    let about = "A certificate with everything in order";
    state(book, "accepted", about, Allow, &with(|_| {}), |_| {});
    fields(book);
    values(book);
    agents(book);
    signatures(book);
    outside(book);
    registry(book);
}

fn fields(book: &mut Book) {
    for (index, field) in FIELDS.iter().enumerate() {
        let length = deny(MALFORMED_WRONG_LENGTH);
        let about = format!("A certificate whose {field} is left out");
        let vault = with(|paper| drop(paper.body.items().remove(index)));
        state(
            book,
            &format!("without-{field}"),
            &about,
            length,
            &vault,
            |_| {},
        );
        let about = format!("A certificate whose {field} is given twice");
        let vault = with(|paper| {
            let again = paper.body.items()[index].clone();
            paper.body.items().insert(index, again);
        });
        state(
            book,
            &format!("with-{field}-twice"),
            &about,
            length,
            &vault,
            |_| {},
        );
        let base = if *field == "prev" {
            bin([1; 32])
        } else {
            honest().body.at(&[index]).clone()
        };
        for (kind, value) in base.other_types() {
            let skipped = !matches!(kind, "nil" | "text" | "bin");
            if !usable(kind) || skipped || (*field == "prev" && kind == "nil") {
                continue;
            }
            let about = format!("The {field} of a certificate is written as another type: {kind}");
            let name = format!("{field}-as-{kind}");
            state(
                book,
                &name,
                &about,
                deny(MALFORMED_WRONG_TYPE),
                &set(index, value),
                |_| {},
            );
        }
    }
    for (field, longer) in [
        (0, vec![0xcc, 1]),
        (3, vec![0xd9, 1, b'a']),
        (8, vec![0xcc, 0]),
    ] {
        let about = "A value of a certificate in an encoding longer than need be";
        let name = format!("{}-longer", FIELDS[field]);
        let vault = set(field, Value::Raw(longer));
        state(
            book,
            &name,
            about,
            deny(MALFORMED_NOT_CANONICAL),
            &vault,
            |_| {},
        );
    }
    let about = "Nothing follows the last value of the body";
    let vault = with(|paper| {
        let bytes = [paper.body.encode(), vec![0xc0]].concat();
        paper.body = Value::Raw(bytes);
    });
    state(
        book,
        "body-trailing",
        about,
        deny(MALFORMED_TRAILING_BYTES),
        &vault,
        |_| {},
    );
    let about = "A body that ends before its last value";
    let vault = with(|paper| paper.body = Value::Raw(paper.body.encode()[..60].to_vec()));
    state(
        book,
        "body-cut",
        about,
        deny(MALFORMED_TRUNCATED),
        &vault,
        |_| {},
    );
}

fn values(book: &mut Book) {
    let month = 30 * 24 * HOUR;
    let length = deny(MALFORMED_WRONG_LENGTH);
    let rows: [(&str, usize, Value, Claim); 18] = [
        ("v-0", 0, Value::Uint(0), deny(UNSUPPORTED_VERSION)),
        ("v-2", 0, Value::Uint(2), deny(UNSUPPORTED_VERSION)),
        ("mesh-15-bytes", 1, bin([1; 15]), length),
        ("mesh-17-bytes", 1, bin([1; 17]), length),
        (
            "other-mesh",
            1,
            bin([1; 16]),
            deny(UNTRUSTED_ROOT_OTHER_MESH),
        ),
        ("serial-15-bytes", 2, bin([1; 15]), length),
        ("serial-17-bytes", 2, bin([1; 17]), length),
        ("serial-zero", 2, bin([0; 16]), Allow),
        ("key-31-bytes", 4, bin([1; 31]), length),
        ("key-33-bytes", 4, bin([1; 33]), length),
        ("key-empty", 4, bin([]), length),
        ("prev", 7, bin([1; 32]), Allow),
        ("prev-31-bytes", 7, bin([1; 31]), length),
        (
            "key_epoch-highest",
            8,
            Value::Uint(u64::from(u32::MAX)),
            Allow,
        ),
        (
            "key_epoch-too-high",
            8,
            Value::Uint(1 << 32),
            deny(MALFORMED_OUT_OF_RANGE),
        ),
        ("ext-nil", 9, list([Value::Nil]), deny(MALFORMED_EXTENSION)),
        (
            "ext-not-critical",
            9,
            list([list([Value::Uint(1), Value::Bool(false), bin([])])]),
            deny(MALFORMED_EXTENSION),
        ),
        (
            "nbf-after-exp",
            5,
            Value::Uint(NOW + 2 * HOUR),
            deny(MALFORMED_LIFETIME),
        ),
    ];
    for (name, index, value, claim) in rows {
        let about = "A field of a certificate at its bounds, or beyond";
        state(book, name, about, claim, &set(index, value), |_| {});
    }
    for (name, from, until, claim) in [
        ("1-ms", NOW, NOW + 1, Allow),
        ("no-time", NOW, NOW, deny(MALFORMED_LIFETIME)),
        ("30-days", NOW, NOW + month, Allow),
        (
            "30-days-and-1-ms",
            NOW,
            NOW + month + 1,
            deny(MALFORMED_LIFETIME),
        ),
        ("for-ever", 0, u64::MAX, deny(MALFORMED_LIFETIME)),
    ] {
        let about = "A certificate holds for 1 ms to 30 days";
        let vault = with(|paper| {
            let body = paper.body.with(&[5], Value::Uint(from));
            paper.body = body.with(&[6], Value::Uint(until));
        });
        state(
            book,
            &format!("window-{name}"),
            about,
            claim,
            &vault,
            |_| {},
        );
    }
    for (name, key) in weak_keys() {
        let about = "A certified key is a canonical point of prime order";
        let vault = set(4, bin(key));
        state(
            book,
            &format!("key-{name}"),
            about,
            deny(WEAK_KEY),
            &vault,
            |_| {},
        );
    }
}

fn agents(book: &mut Book) {
    let (long, longer) = ("a".repeat(96), "a".repeat(97));
    let bad = deny(MALFORMED_BAD_AGENT_ID);
    let rows: [(&str, &str, Claim); 24] = [
        ("one-letter", "a", Allow),
        ("one-digit", "0", Allow),
        ("segments", "team/a-1/b_2", Allow),
        ("96-bytes", &long, Allow),
        ("97-bytes", &longer, deny(TOO_LARGE)),
        ("empty", "", bad),
        ("upper-case", "Alice", bad),
        ("blank", "a b", bad),
        ("dot", "a.b", bad),
        ("dots", "..", bad),
        ("tilde", "a~b", bad),
        ("percent", "a%2eb", bad),
        ("star", "*", bad),
        ("leading-slash", "/a", bad),
        ("trailing-slash", "a/", bad),
        ("empty-segment", "a//b", bad),
        ("leading-dash", "-a", bad),
        ("leading-underscore", "_a", bad),
        ("leading-dash-inside", "a/-b", bad),
        ("line-break", "a\n", bad),
        ("umlaut", "\u{e4}", bad),
        ("backslash", "a\\b", bad),
        ("full-width", "\u{ff41}", bad),
        ("nul", "a\0", deny(MALFORMED_NOT_TEXT)),
    ];
    for (name, agent, claim) in rows {
        let about =
            "An agent id is segments of lower-case letters, digits, - and _, at most 96 bytes";
        state(
            book,
            &format!("agent-{name}"),
            about,
            claim,
            &set(3, text(agent)),
            |_| {},
        );
    }
}

fn signatures(book: &mut Book) {
    let bad = deny(BAD_SIGNATURE);
    let mut case = |name: &str, about: &str, claim: Claim, change: &dyn Fn(&mut Paper)| {
        state(book, name, about, claim, &with(change), |_| {});
    };
    let about = "A certificate is signed by a registrar, whom its position selects";
    case("signed-by-the-root", about, bad, &|p| {
        p.signer = keeper(1, 0)
    });
    case("signed-by-the-issuer", about, bad, &|p| {
        p.signer = keeper(2, 0)
    });
    case("signed-by-itself", about, bad, &|p| {
        p.signer = Party::named("alice")
    });
    let none = deny(UNTRUSTED_ROOT_THRESHOLD);
    case("registrar-1-of-one", about, none, &|p| {
        p.registrar = Value::Uint(1)
    });
    case("registrar-255", about, none, &|p| {
        p.registrar = Value::Uint(255)
    });
    case("registrar-256", about, deny(MALFORMED_OUT_OF_RANGE), &|p| {
        p.registrar = Value::Uint(256);
    });
    let about = "The certified key proves that it is possessed";
    case("possessed-by-another", about, bad, &|p| {
        p.possessor = Party::named("bob")
    });
    case("possessed-by-the-registrar", about, bad, &|p| {
        p.possessor = keeper(3, 0)
    });
    let about = "Each of the two signatures has a tag of its own";
    for tag in [
        Tag::Possession,
        Tag::Registry,
        Tag::RootGrant,
        Tag::Envelope,
    ] {
        case(&format!("signed-under-{}", tag.name()), about, bad, &|p| {
            p.tag = tag
        });
    }
    for tag in [Tag::Certificate, Tag::Envelope, Tag::Proof] {
        case(
            &format!("possessed-under-{}", tag.name()),
            about,
            bad,
            &|p| p.possession_tag = tag,
        );
    }
}

/// The four values around the body.
fn outside(book: &mut Book) {
    let length = deny(MALFORMED_WRONG_LENGTH);
    let wrong = deny(MALFORMED_WRONG_TYPE);
    let mut case = |name: &str, about: &str, claim: Claim, change: &dyn Fn(Value) -> Value| {
        let vault = with(|paper| paper.bytes = Some(change(paper.tree()).encode()));
        state(book, name, about, claim, &vault, |_| {});
    };
    let about = "A certificate is body, registrar, signature and proof of possession";
    for (index, part) in ["body", "registrar", "signature", "possession"]
        .iter()
        .enumerate()
    {
        case(&format!("without-{part}"), about, length, &|mut tree| {
            tree.items().remove(index);
            tree
        });
        case(&format!("{part}-as-nil"), about, wrong, &|tree| {
            tree.with(&[index], Value::Nil)
        });
        case(&format!("{part}-as-text"), about, wrong, &|tree| {
            tree.with(&[index], text("x"))
        });
    }
    case("with-one-more", about, length, &|mut tree| {
        tree.items().push(Value::Nil);
        tree
    });
    for (part, index) in [("signature", 2), ("possession", 3)] {
        for len in [0, 63, 65] {
            case(&format!("{part}-of-{len}-bytes"), about, length, &|tree| {
                tree.with(&[index], bin(vec![7; len]))
            });
        }
        case(
            &format!("{part}-all-zero"),
            about,
            deny(BAD_SIGNATURE),
            &|tree| tree.with(&[index], bin([0; 64])),
        );
    }
    case(
        "registrar-longer",
        about,
        deny(MALFORMED_NOT_CANONICAL),
        &|tree| tree.with(&[1], Value::Raw(vec![0xcc, 0])),
    );
    let about = "Nothing follows a certificate's last value";
    let vault = with(|paper| {
        paper.bytes = Some([paper.tree().encode(), vec![0]].concat());
    });
    state(
        book,
        "trailing",
        about,
        deny(MALFORMED_TRAILING_BYTES),
        &vault,
        |_| {},
    );
    let about = "A certificate has at most 512 bytes, before anything in it is read";
    for (len, code) in [(512, MALFORMED_WRONG_TYPE), (513, TOO_LARGE)] {
        let vault = with(|paper| paper.bytes = Some(vec![0; len]));
        state(
            book,
            &format!("of-{len}-bytes"),
            about,
            deny(code),
            &vault,
            |_| {},
        );
    }
    let vault = with(|paper| paper.bytes = Some(Vec::new()));
    state(
        book,
        "empty",
        "An empty certificate",
        deny(MALFORMED_TRUNCATED),
        &vault,
        |_| {},
    );
}

/// Several certificates together.
fn registry(book: &mut Book) {
    let paper = |name: &str| Paper::of(&Vault::new().mesh, &Party::named(name));
    let duplicate = deny(MALFORMED_DUPLICATE);
    let about = "A registry may be empty";
    state(
        book,
        "registry-empty",
        about,
        Allow,
        &Vault::new().papers(&[]),
        |_| {},
    );
    let about = "Two agents, in no particular order";
    let two = Vault::new().papers(&[paper("bob"), paper("alice")]);
    state(book, "registry-of-two", about, Allow, &two, |_| {});
    let about = "A key has one certificate";
    let twice = Vault::new().papers(&[paper("alice"), paper("alice")]);
    state(
        book,
        "registry-same-twice",
        about,
        duplicate,
        &twice,
        |_| {},
    );
    let mut renamed = paper("alice");
    renamed.body = renamed.body.with(&[3], text("bob"));
    let shared = Vault::new().papers(&[paper("alice"), renamed]);
    state(
        book,
        "registry-one-key-two-agents",
        about,
        duplicate,
        &shared,
        |_| {},
    );
    let mut renewed = paper("alice");
    renewed.body = renewed.body.with(&[6], Value::Uint(NOW + 2 * HOUR));
    let renewed = Vault::new().papers(&[paper("alice"), renewed]);
    state(
        book,
        "registry-one-key-two-terms",
        about,
        duplicate,
        &renewed,
        |_| {},
    );
    let about = "An agent may have two keys";
    let mut second = paper("bob");
    second.body = second.body.with(&[3], text("alice"));
    let rotated = Vault::new().papers(&[paper("alice"), second]);
    state(
        book,
        "registry-one-agent-two-keys",
        about,
        Allow,
        &rotated,
        |_| {},
    );
    let about = "One bad certificate refuses the registry, wherever it stands";
    let mut bad = paper("bob");
    bad.possessor = Party::named("carol");
    for (name, papers) in [
        ("first", [bad.clone(), paper("alice")]),
        ("last", [paper("alice"), bad]),
    ] {
        let vault = Vault::new().papers(&papers);
        let name = format!("registry-bad-{name}");
        state(book, &name, about, deny(BAD_SIGNATURE), &vault, |_| {});
    }
}
