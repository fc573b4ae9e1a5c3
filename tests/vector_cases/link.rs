//! One link: every field of a root grant and of a delegation.

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::deny_at;
use super::frame::usable;
use super::play::Play;
use crate::forge::ChainSpec;
use crate::forge::HOUR;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Value;
use crate::forge::chain::tag_at;
use crate::forge::value::bin;
use crate::forge::value::list;

const ROOT: [&str; 10] = [
    "v",
    "mesh",
    "issuer",
    "holder",
    "nbf",
    "exp",
    "remaining",
    "scope",
    "nonce",
    "ext",
];
const DELEGATION: [&str; 9] = [
    "v",
    "parent",
    "holder",
    "nbf",
    "exp",
    "remaining",
    "scope",
    "nonce",
    "ext",
];

/// A day in milliseconds.
const DAY: u64 = 24 * HOUR;

/// A root grant to alice, delegated to carol.
pub fn pair() -> ChainSpec {
    ChainSpec::down(&Mesh::new(), &["alice", "carol"])
}

/// The chain up to `index`, so that a fault in its last link is the only one there can be.
fn upto(index: usize) -> ChainSpec {
    let mut chain = pair();
    chain.links.truncate(index + 1);
    chain
}

fn fields(index: usize) -> &'static [&'static str] {
    if index == 0 { &ROOT } else { &DELEGATION }
}

/// What a link is called in the names of cases.
fn called(index: usize) -> &'static str {
    if index == 0 { "root" } else { "delegation" }
}

/// The body of link `index` as a tree.
pub fn body(chain: &ChainSpec, index: usize) -> Value {
    let above = match index {
        0 => vec![bin(&chain.mesh), bin(chain.issuer.bytes().0)],
        _ => vec![bin(tag_at(index - 1).digest(&chain.bodies()[index - 1]).0)],
    };
    chain.links[index].tree(above)
}

/// The chain with the body of its last link changed, and signed so.
fn with_body(chain: ChainSpec, change: impl FnOnce(Value) -> Value) -> ChainSpec {
    let index = chain.links.len() - 1;
    let body = change(body(&chain, index)).encode();
    chain.edit(index, |link| link.body = Some(body))
}

pub fn write(book: &mut Book) {
    book.case("accepted-root", "A root grant by itself", Allow, || {
        Play::chain(&upto(0))
    });
    book.case(
        "accepted-delegation",
        "A root grant and a delegation",
        Allow,
        || Play::chain(&upto(1)),
    );
    for index in 0..2 {
        arity(book, index);
        types(book, index);
        lengths(book, index);
        ranges(book, index);
    }
    lifetimes(book);
    frame(book);
}

fn arity(book: &mut Book, index: usize) {
    let (kind, claim) = (called(index), deny_at(MALFORMED_WRONG_LENGTH, index as u8));
    for (at, field) in fields(index).iter().enumerate() {
        let about = format!("A {kind} link whose {field} is left out");
        book.case(&format!("{kind}-without-{field}"), &about, claim, || {
            Play::chain(&with_body(upto(index), |mut tree| {
                tree.items().remove(at);
                tree
            }))
        });
        let about = format!("A {kind} link whose {field} is given twice");
        book.case(&format!("{kind}-with-{field}-twice"), &about, claim, || {
            Play::chain(&with_body(upto(index), |mut tree| {
                let again = tree.items()[at].clone();
                tree.items().insert(at, again);
                tree
            }))
        });
    }
    let about = "The position alone says which schema a link has";
    let wrong = if index == 0 {
        "root-as-delegation"
    } else {
        "delegation-as-root"
    };
    book.case(wrong, about, claim, || {
        Play::chain(&with_body(upto(index), |mut tree| {
            if index == 0 {
                tree.items().remove(1);
            } else {
                tree.items().insert(1, bin([1; 16]));
            }
            tree
        }))
    });
    for (name, tail) in [("nil", 0xc0), ("zero", 0)] {
        let about = "Nothing follows a link's last value";
        let claim = deny_at(MALFORMED_TRAILING_BYTES, index as u8);
        book.case(&format!("{kind}-trailing-{name}"), about, claim, || {
            let chain = upto(index);
            let body = [body(&chain, index).encode(), vec![tail]].concat();
            Play::chain(&chain.edit(index, |link| link.body = Some(body)))
        });
    }
    let about = "A link that ends before its last value";
    for len in [0, 1, 40, 80] {
        let claim = deny_at(MALFORMED_TRUNCATED, index as u8);
        book.case(&format!("{kind}-cut-after-{len}"), about, claim, || {
            let chain = upto(index);
            let body = body(&chain, index).encode()[..len].to_vec();
            Play::chain(&chain.edit(index, |link| link.body = Some(body)))
        });
    }
}

fn types(book: &mut Book, index: usize) {
    let kind = called(index);
    for (at, field) in fields(index).iter().enumerate() {
        let value = body(&upto(index), index).at(&[at]).clone();
        for (other, replaced) in value.other_types() {
            // The rest are tried on headers; which marker is no number is the same everywhere.
            if !usable(other) || matches!(other, "float" | "map" | "ext" | "bool") && at > 4 {
                continue;
            }
            let about = format!("The {field} of a {kind} link is written as another type: {other}");
            let claim = deny_at(MALFORMED_WRONG_TYPE, index as u8);
            book.case(&format!("{kind}-{field}-as-{other}"), &about, claim, || {
                Play::chain(&with_body(upto(index), |tree| tree.with(&[at], replaced)))
            });
        }
        let forms = value.longer();
        let last = forms.len().saturating_sub(1);
        for (form, longer) in forms.into_iter().enumerate() {
            let signed = matches!(*field, "v" | "remaining") && form == last;
            let code = if signed {
                MALFORMED_WRONG_TYPE
            } else {
                MALFORMED_NOT_CANONICAL
            };
            let about = format!("The {field} of a {kind} link in an encoding longer than need be");
            let claim = deny_at(code, index as u8);
            book.case(
                &format!("{kind}-{field}-longer-{form}"),
                &about,
                claim,
                || Play::chain(&with_body(upto(index), |tree| tree.with(&[at], longer))),
            );
        }
    }
}

fn lengths(book: &mut Book, index: usize) {
    let kind = called(index);
    for (at, field) in fields(index).iter().enumerate() {
        let right = match *field {
            "mesh" | "nonce" => 16,
            "issuer" | "holder" | "parent" => 32,
            _ => continue,
        };
        for len in [0, right - 1, right + 1] {
            let about = format!("The {field} of a link is {right} bytes, no fewer and no more");
            let claim = deny_at(MALFORMED_WRONG_LENGTH, index as u8);
            book.case(
                &format!("{kind}-{field}-of-{len}-bytes"),
                &about,
                claim,
                || {
                    Play::chain(&with_body(upto(index), |tree| {
                        tree.with(&[at], bin(vec![1; len]))
                    }))
                },
            );
        }
    }
}

fn ranges(book: &mut Book, index: usize) {
    let (kind, hop) = (called(index), index as u8);
    let last = fields(index).len() - 1;
    let remaining = last - 3;
    for version in [0, 2, 255] {
        let about = "The only version of a link is 1";
        let claim = deny_at(UNSUPPORTED_VERSION, hop);
        book.case(&format!("{kind}-v-{version}"), about, claim, || {
            Play::chain(&with_body(upto(index), |tree| {
                tree.with(&[0], Value::Uint(version))
            }))
        });
    }
    for (count, code) in [
        (9, DEPTH_EXCEEDED_REMAINING),
        (255, DEPTH_EXCEEDED_REMAINING),
        (256, MALFORMED_OUT_OF_RANGE),
    ] {
        let about = "At most 8 delegations may follow a link";
        book.case(
            &format!("{kind}-remaining-{count}"),
            about,
            deny_at(code, hop),
            || {
                let count = Value::Uint(count);
                Play::chain(&with_body(upto(index), |tree| {
                    tree.with(&[remaining], count)
                }))
            },
        );
    }
    for (name, ext) in [
        ("nil", Value::Nil),
        ("plain", list([Value::Uint(1), Value::Bool(false), bin([])])),
        (
            "critical",
            list([Value::Uint(1), Value::Bool(true), bin([])]),
        ),
    ] {
        let about = "A link has no extensions: what is not understood may restrict";
        let claim = deny_at(MALFORMED_EXTENSION, hop);
        book.case(&format!("{kind}-extension-{name}"), about, claim, || {
            Play::chain(&with_body(upto(index), |tree| {
                tree.with(&[last], list([ext]))
            }))
        });
    }
    for (name, from, until) in [
        ("empty-window", NOW, NOW),
        ("reversed-window", NOW + 1, NOW),
        ("window-from-end-of-time", u64::MAX, u64::MAX),
        ("window-31-days", NOW - DAY, NOW + 30 * DAY),
        ("window-30-days-and-1-ms", NOW, NOW + 30 * DAY + 1),
        ("window-for-ever", NOW - 1, u64::MAX),
        ("window-since-1970", 0, NOW + 1),
    ] {
        let about = "A link holds for at least 1 ms and at most 30 days";
        let claim = deny_at(MALFORMED_LIFETIME, hop);
        book.case(&format!("{kind}-{name}"), about, claim, || {
            Play::chain(&with_body(upto(index), |tree| {
                tree.with(&[remaining - 2], Value::Uint(from))
                    .with(&[remaining - 1], Value::Uint(until))
            }))
        });
    }
}

/// The ceilings of the default policy, and of one that allows as much as there can be.
fn lifetimes(book: &mut Book) {
    let month = 30 * DAY;
    let json = format!(
        r#"{{ "ttl": {{ "grant_ms": {month}, "delegation_ms": {month} }}, "rules": [
            {{ "name": "all", "effect": "allow", "actions": ["pub", "sub"], "subjects": ">" }} ] }}"#
    );
    let mesh = Mesh::with(&["alice", "carol", "bob"]).policy(&json);
    book.state(
        "long-lived",
        "A policy that lets links live for 30 days",
        &mesh,
    );
    let window = |chain: ChainSpec, index: usize, millis: u64| {
        chain.edit(index, |link| {
            (link.from, link.until) = (Value::Uint(NOW - 1), Value::Uint(NOW - 1 + millis));
        })
    };
    let over = |hop| deny_at(SCOPE_EXCEEDED_LIFETIME, hop);
    let rows: [(&str, &str, usize, u64, Claim); 8] = [
        ("root-1-ms-over", "mesh", 0, DAY + 1, over(0)),
        ("root-24-hours", "mesh", 0, DAY, Allow),
        ("root-30-days-against-policy", "mesh", 0, month, over(0)),
        ("root-30-days", "long-lived", 0, month, Allow),
        (
            "delegation-1-ms-over",
            "long-lived-root",
            1,
            HOUR + 1,
            over(1),
        ),
        ("delegation-1-hour", "long-lived-root", 1, HOUR, Allow),
        ("delegation-30-days", "long-lived", 1, month, Allow),
        ("root-1-ms", "mesh", 0, 1, Allow),
    ];
    let json = format!(r#"{{ "ttl": {{ "grant_ms": {month} }}, "rules": [] }}"#);
    let mesh = Mesh::with(&["alice", "carol", "bob"]).policy(&json);
    book.state(
        "long-lived-root",
        "A policy that lets root grants live for 30 days",
        &mesh,
    );
    for (name, state, index, millis, claim) in rows {
        let about = "No link lives longer than policy allows: 24 hours and 1 hour by default";
        book.case(name, about, claim, || {
            let chain = window(upto(index), 0, if index == 0 { millis } else { month });
            Play::chain(&window(chain, index, millis))
                .state(state)
                .at(NOW - 1)
        });
    }
}

/// Body and signature, around a link.
fn frame(book: &mut Book) {
    for len in [0, 63, 65, 256] {
        let about = "The signature of a link is 64 bytes";
        book.case(
            &format!("signature-of-{len}-bytes"),
            about,
            deny(MALFORMED_WRONG_LENGTH),
            || Play::chain(&pair().edit(1, |link| link.signature = Some(bin(vec![7; len])))),
        );
    }
    type Change = fn(Value) -> Value;
    let trees: [(&str, Change, u16); 6] = [
        (
            "pair-of-one",
            |t| t.with(&[1], list([t.at(&[1, 0]).clone()])),
            MALFORMED_WRONG_LENGTH,
        ),
        (
            "pair-of-three",
            |t| {
                let (body, signature) = (t.at(&[1, 0]).clone(), t.at(&[1, 1]).clone());
                t.with(&[1], list([body, signature, Value::Nil]))
            },
            MALFORMED_WRONG_LENGTH,
        ),
        (
            "pair-as-bin",
            |t| t.with(&[1], bin(t.at(&[1]).encode())),
            MALFORMED_WRONG_TYPE,
        ),
        (
            "body-as-text",
            |t| t.with(&[1, 0], crate::forge::value::text("b")),
            MALFORMED_WRONG_TYPE,
        ),
        (
            "body-as-list",
            |t| t.with(&[1, 0], list([])),
            MALFORMED_WRONG_TYPE,
        ),
        (
            "body-longer",
            |t| t.with(&[1, 0], t.at(&[1, 0]).longer().remove(0)),
            MALFORMED_NOT_CANONICAL,
        ),
    ];
    for (name, change, code) in trees {
        let about = "A link is a pair of body and signature, as byte strings";
        book.case(name, about, deny(code), || {
            let chain = pair();
            Play::chain(&chain).bytes(change(chain.tree()).encode())
        });
    }
}
