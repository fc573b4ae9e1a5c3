//! What may be done: capabilities on the wire, what covers a message, what narrows what.

use super::Allow;
use super::Book;
use super::Claim;
use super::attenuation::attenuation;
use super::attenuation::narrowed;
use super::codes::*;
use super::deny;
use super::deny_at;
use super::play::Play;
use crate::forge::ChainSpec;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::chain::DELEGATE;
use crate::forge::chain::EVERYTHING;
use crate::forge::chain::PUB;
use crate::forge::chain::REQ;
use crate::forge::chain::SERVE;
use crate::forge::chain::SUB;
use crate::forge::chain::capability;
use crate::forge::chain::scope;
use crate::forge::letter::AUDIENCE;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

pub(super) const SUBJECT: &str = "orders.eu.new";

/// Actions and a pattern.
pub(super) type One = (u64, &'static str);
/// Capabilities without constraints.
type Granted = &'static [One];

pub(super) fn alone() -> ChainSpec {
    ChainSpec::down(&Mesh::new(), &["alice"])
}

pub(super) fn groups(names: &[&str]) -> Value {
    list([Value::Uint(1), list(names.iter().map(|name| text(name)))])
}

pub(super) fn recipients(names: &[&str]) -> Value {
    let mut keys: Vec<_> = names
        .iter()
        .map(|name| Party::named(name).bytes().0)
        .collect();
    keys.sort_unstable();
    list([Value::Uint(2), list(keys.into_iter().map(bin))])
}

pub fn write(book: &mut Book) {
    let json = r#"{ "rules": [ { "name": "system", "effect": "allow", "actions": ["pub", "sub"],
        "subjects": "$SYS.>" }, { "name": "private", "effect": "allow",
        "actions": ["pub", "sub"], "subjects": "_private.>" }, { "name": "all", "effect": "allow",
        "actions": ["pub", "sub"], "subjects": ">" } ] }"#;
    let mesh = Mesh::with(&["alice", "bob", "carol"]).policy(json);
    book.state(
        "reserved",
        "A policy that permits reserved first tokens by name",
        &mesh,
    );
    wire(book);
    constraints(book);
    covers(book);
    attenuation(book);
    narrowed(book);
}

fn wire(book: &mut Book) {
    let mut case = |name: &str, about: &str, claim: Claim, scope: Value| {
        book.case(name, about, claim, || {
            Play::chain(&alone().edit(0, |link| link.scope = scope))
        });
    };
    let about = "A link has 0 to 16 capabilities";
    case("capabilities-0", about, Allow, list([]));
    let many = |count: usize| list(vec![capability(PUB, "a", []); count]);
    case("capabilities-16", about, Allow, many(16));
    case("capabilities-17", about, deny_at(TOO_LARGE, 0), many(17));
    let about = "Actions are a set of the bits 1, 2, 4, 8 and 32, and not empty";
    for bits in [1, 2, 4, 8, 32, 47] {
        case(
            &format!("actions-{bits}"),
            about,
            Allow,
            list([capability(bits, "a", [])]),
        );
    }
    for bits in [0, 16, 17, 63, 64, 128, 255, 256] {
        let claim = deny_at(MALFORMED_OUT_OF_RANGE, 0);
        case(
            &format!("actions-{bits}"),
            about,
            claim,
            list([capability(bits, "a", [])]),
        );
    }
    let about = "A capability's subjects are a pattern";
    let long = "s".repeat(256);
    let deep = vec!["t"; 17].join(".");
    for (name, pattern, claim) in [
        ("star", "*", Allow),
        ("arrow", ">", Allow),
        ("both", "a.*.>", Allow),
        ("255-bytes", &long[..255], Allow),
        ("16-tokens", &deep[2..], Allow),
        ("empty", "", deny_at(SCOPE_EXCEEDED_EMPTY_PATTERN, 0)),
        ("256-bytes", &long[..], deny_at(TOO_LARGE, 0)),
        ("17-tokens", &deep[..], deny_at(MALFORMED_BAD_SUBJECT, 0)),
        ("empty-token", "a..b", deny_at(MALFORMED_BAD_SUBJECT, 0)),
        (
            "arrow-in-the-middle",
            "a.>.b",
            deny_at(MALFORMED_BAD_SUBJECT, 0),
        ),
        ("star-in-a-token", "a.b*", deny_at(MALFORMED_BAD_SUBJECT, 0)),
        ("blank", "a b", deny_at(MALFORMED_BAD_SUBJECT, 0)),
        ("nul", "a\0", deny_at(MALFORMED_NOT_TEXT, 0)),
    ] {
        case(
            &format!("pattern-{name}"),
            about,
            claim,
            list([capability(PUB, pattern, [])]),
        );
    }
    let about = "A capability is an array of actions, pattern and constraints";
    let length = deny_at(MALFORMED_WRONG_LENGTH, 0);
    case(
        "of-two",
        about,
        length,
        list([list([Value::Uint(1), text("a")])]),
    );
    let four = list([Value::Uint(1), text("a"), list([]), Value::Nil]);
    case("of-four", about, length, list([four]));
    let honest = capability(PUB, "a", []);
    for (name, index, value, code) in [
        ("actions-as-text", 0, text("pub"), MALFORMED_WRONG_TYPE),
        (
            "actions-longer",
            0,
            Value::Raw(vec![0xcc, 1]),
            MALFORMED_NOT_CANONICAL,
        ),
        ("pattern-as-bin", 1, bin(b"a"), MALFORMED_WRONG_TYPE),
        ("pattern-as-nil", 1, Value::Nil, MALFORMED_WRONG_TYPE),
        (
            "pattern-longer",
            1,
            Value::Raw(vec![0xd9, 1, b'a']),
            MALFORMED_NOT_CANONICAL,
        ),
        ("constraints-as-nil", 2, Value::Nil, MALFORMED_WRONG_TYPE),
        (
            "constraints-as-map",
            2,
            Value::Raw(vec![0x80]),
            MALFORMED_WRONG_TYPE,
        ),
        (
            "constraints-longer",
            2,
            Value::Raw(vec![0xdc, 0, 0]),
            MALFORMED_NOT_CANONICAL,
        ),
    ] {
        case(
            name,
            about,
            deny_at(code, 0),
            list([honest.with(&[index], value)]),
        );
    }
}

fn constraints(book: &mut Book) {
    let mut case = |name: &str, about: &str, claim: Claim, constraints: Vec<Value>| {
        book.case(name, about, claim, || {
            let scope = list([capability(SUB | PUB, "a", constraints)]);
            Play::chain(&alone().edit(0, |link| link.scope = scope))
        });
    };
    let ill = deny_at(MALFORMED_CONSTRAINT, 0);
    let about = "Constraint 1 names queue groups, constraint 2 recipients, in this order";
    case("groups", about, Allow, vec![groups(&["a", "b"])]);
    case(
        "recipients",
        about,
        Allow,
        vec![recipients(&["bob", "carol"])],
    );
    case(
        "groups-and-recipients",
        about,
        Allow,
        vec![groups(&["a"]), recipients(&["bob"])],
    );
    case(
        "recipients-and-groups",
        about,
        ill,
        vec![recipients(&["bob"]), groups(&["a"])],
    );
    case(
        "groups-twice",
        about,
        ill,
        vec![groups(&["a"]), groups(&["b"])],
    );
    case(
        "recipients-twice",
        about,
        ill,
        vec![recipients(&["bob"]), recipients(&["carol"])],
    );
    let about = "A constraint of an unknown kind refuses; it is never skipped";
    for kind in [0, 3, 255] {
        let odd = list([Value::Uint(kind), list([text("a")])]);
        case(&format!("kind-{kind}"), about, ill, vec![odd]);
    }
    let about = "A constraint names at least one value: none would leave nothing, or everything";
    case("groups-none", about, ill, vec![groups(&[])]);
    case("recipients-none", about, ill, vec![recipients(&[])]);
    let about = "The values of a constraint stand in strictly ascending order";
    case("groups-descending", about, ill, vec![groups(&["b", "a"])]);
    case("groups-same", about, ill, vec![groups(&["a", "a"])]);
    let same = list([Value::Uint(2), list([bin([1; 32]), bin([1; 32])])]);
    case("recipients-same", about, ill, vec![same]);
    let down = list([Value::Uint(2), list([bin([2; 32]), bin([1; 32])])]);
    case("recipients-descending", about, ill, vec![down]);
    let about = "A constraint names at most 16 values";
    let names: Vec<String> = (10..27).map(|n| format!("g{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    case("groups-16", about, Allow, vec![groups(&names[..16])]);
    case(
        "groups-17",
        about,
        deny_at(TOO_LARGE, 0),
        vec![groups(&names)],
    );
    let keys = |count: u8| list([Value::Uint(2), list((0..count).map(|n| bin([n; 32])))]);
    case("recipients-16", about, Allow, vec![keys(16)]);
    case(
        "recipients-17",
        about,
        deny_at(TOO_LARGE, 0),
        vec![keys(17)],
    );
    let about = "A queue group is 1 to 96 bytes of printable ASCII";
    let long = "g".repeat(97);
    case("group-96-bytes", about, Allow, vec![groups(&[&long[..96]])]);
    case(
        "group-97-bytes",
        about,
        deny_at(TOO_LARGE, 0),
        vec![groups(&[&long])],
    );
    case("group-empty", about, ill, vec![groups(&[""])]);
    case("group-blank", about, ill, vec![groups(&["a b"])]);
    case("group-umlaut", about, ill, vec![groups(&["\u{e4}"])]);
    case(
        "group-nul",
        about,
        deny_at(MALFORMED_NOT_TEXT, 0),
        vec![groups(&["a\0"])],
    );
    let about = "A recipient is a key of 32 bytes";
    let short = list([Value::Uint(2), list([bin([1; 31])])]);
    case(
        "recipient-31-bytes",
        about,
        deny_at(MALFORMED_WRONG_LENGTH, 0),
        vec![short],
    );
    let named = list([Value::Uint(2), list([text("bob")])]);
    case(
        "recipient-as-text",
        about,
        deny_at(MALFORMED_WRONG_TYPE, 0),
        vec![named],
    );
    let about = "A constraint is a pair of kind and values";
    let length = deny_at(MALFORMED_WRONG_LENGTH, 0);
    case(
        "constraint-of-one",
        about,
        length,
        vec![list([Value::Uint(1)])],
    );
    let three = list([Value::Uint(1), list([text("a")]), Value::Nil]);
    case("constraint-of-three", about, length, vec![three]);
}

/// One link, and whether it covers an event or a request.
pub(super) fn covers(book: &mut Book) {
    let none = deny_at(SCOPE_EXCEEDED_NOT_GRANTED, 0);
    let rows: [(&str, Granted, Claim); 17] = [
        ("exact", &[(PUB, SUBJECT)], Allow),
        ("star", &[(PUB, "orders.*.new")], Allow),
        ("arrow", &[(PUB, "orders.>")], Allow),
        ("all", &[(PUB, ">")], Allow),
        (
            "second-of-two",
            &[(PUB, "notes.>"), (PUB, "orders.>")],
            Allow,
        ),
        ("nothing", &[], none),
        ("other-subject", &[(PUB, "orders.us.new")], none),
        ("shorter", &[(PUB, "orders.eu")], none),
        ("longer", &[(PUB, "orders.eu.new.now")], none),
        ("arrow-needs-one-more", &[(PUB, "orders.eu.new.>")], none),
        ("star-is-one-token", &[(PUB, "orders.*")], none),
        ("case", &[(PUB, "Orders.eu.new")], none),
        ("other-action", &[(REQ | SERVE | SUB, ">")], none),
        ("delegate-is-no-publish", &[(DELEGATE, ">")], none),
        (
            "action-and-subject-apart",
            &[(PUB, "notes.>"), (REQ, "orders.>")],
            none,
        ),
        ("every-action", &[(EVERYTHING, "orders.>")], Allow),
        ("prefix-is-no-token", &[(PUB, "orders.e")], none),
    ];
    for (name, capabilities, claim) in rows {
        let about = "One capability covers both the action and the subject";
        book.case(&format!("covers-{name}"), about, claim, || {
            let chain = alone().edit(0, |link| link.scope = scope(capabilities));
            Play::message(&Letter::publish(&chain, SUBJECT))
        });
    }
    let about = "A request needs REQ, whatever else is granted";
    for (name, bits, claim) in [("req", REQ, Allow), ("pub", PUB | SERVE | SUB, none)] {
        book.case(&format!("request-with-{name}"), about, claim, || {
            let chain = alone().edit(0, |link| link.scope = scope(&[(bits, ">")]));
            Play::message(&Letter::request(&chain, SUBJECT))
        });
    }
    let about = "A wildcard first token covers no token that begins with $ or _";
    for (name, pattern, subject, claim) in [
        ("dollar-by-arrow", ">", "$SYS.REQ", none),
        ("dollar-by-star", "*.REQ", "$SYS.REQ", none),
        ("dollar-by-name", "$SYS.>", "$SYS.REQ", Allow),
        ("underscore-by-arrow", ">", "_private.x", none),
        ("underscore-by-name", "_private.*", "_private.x", Allow),
        ("dollar-inside", ">", "a.$SYS", Allow),
    ] {
        book.case(&format!("reserved-{name}"), about, claim, || {
            let chain = alone().edit(0, |link| link.scope = scope(&[(PUB, pattern)]));
            // Neither the receiver's subscription nor policy covers them by a wildcard either.
            Play::message(&Letter::publish(&chain, subject))
                .state("reserved")
                .edit(|play| play.pattern = subject.into())
        });
    }
    let only = |names: &[&str]| list([capability(PUB, ">", [recipients(names)])]);
    let about = "With recipients, an event names one of them as its audience";
    let refused = deny_at(SCOPE_EXCEEDED_RECIPIENT, 0);
    for (name, allowed, audience, claim) in [
        ("named", vec!["bob"], Some("bob"), Allow),
        ("one-of-two", vec!["bob", "carol"], Some("bob"), Allow),
        ("other", vec!["carol"], Some("bob"), refused),
        ("nobody", vec!["bob"], None, refused),
        (
            "somebody-else",
            vec!["carol"],
            Some("carol"),
            deny(WRONG_AUDIENCE),
        ),
    ] {
        book.case(&format!("recipient-{name}"), about, claim, || {
            let chain = alone().edit(0, |link| link.scope = only(&allowed));
            let audience = audience.map(|name| bin(Party::named(name).bytes().0));
            let letter = Letter::publish(&chain, SUBJECT);
            Play::message(&letter.set(AUDIENCE, audience.unwrap_or(Value::Nil)))
        });
    }
    let about = "An unconstrained capability beside a constrained one covers by itself";
    book.case("recipient-or-free", about, Allow, || {
        let both = list([
            capability(PUB, ">", [recipients(&["carol"])]),
            capability(PUB, ">", []),
        ]);
        let chain = alone().edit(0, |link| link.scope = both);
        Play::message(&Letter::publish(&chain, SUBJECT))
    });
}
