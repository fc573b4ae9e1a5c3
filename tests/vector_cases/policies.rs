//! What policy and scores say, as files.

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::files::MONTH;
use super::files::with;
use super::root::state;
use super::vault::Vault;
use crate::forge::Value;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

pub(super) fn ceilings(book: &mut Book) {
    let of = |values: [u64; 3]| with("policy", |f| f.set(&[5], list(values.map(Value::Uint))));
    let range = deny(MALFORMED_OUT_OF_RANGE);
    for (name, values, claim) in [
        ("least", [1, 1, 1], Allow),
        ("most", [120_000, MONTH, MONTH], Allow),
        ("envelope-0", [0, 1, 1], range),
        ("grant-0", [1, 0, 1], range),
        ("delegation-0", [1, 1, 0], range),
        ("envelope-over", [120_001, 1, 1], range),
        ("grant-over", [1, MONTH + 1, 1], range),
        ("delegation-over", [1, 1, MONTH + 1], range),
        ("envelope-4-gib", [1 << 32, 1, 1], range),
    ] {
        let about = "The ceilings are 1 ms to 2 minutes, 30 days and 30 days";
        state(
            book,
            &format!("ceilings-{name}"),
            about,
            claim,
            &of(values),
            |_| {},
        );
    }
    let two = with("policy", |f| {
        f.set(&[5], list([Value::Uint(1), Value::Uint(1)]))
    });
    let length = deny(MALFORMED_WRONG_LENGTH);
    state(
        book,
        "ceilings-of-two",
        "There are three ceilings",
        length,
        &two,
        |_| {},
    );
}

/// Ascending lists: of agents and keys in policy, and of all three in revocations.
pub(super) fn lists(book: &mut Book) {
    let ids = |names: &[&str]| list(names.iter().map(|name| text(name)));
    let blobs = |firsts: &[u8]| list(firsts.iter().map(|first| bin([*first; 32])));
    let places: [(&str, &str, Vec<usize>, bool); 7] = [
        ("blocked-agents", "policy", vec![6, 0], true),
        ("blocked-keys", "policy", vec![6, 1], false),
        ("allowed-agents", "policy", vec![7, 0], true),
        ("allowed-keys", "policy", vec![7, 1], false),
        ("revoked-links", "revocations", vec![5], false),
        ("revoked-keys", "revocations", vec![6], false),
        ("revoked-agents", "revocations", vec![7], true),
    ];
    for (what, name, path, agents) in places {
        let put = |value: Value| {
            with(name, |f| {
                if path[0] == 7 && name == "policy" {
                    f.set(&[7], list([list([]), list([])]));
                }
                f.set(&path, value);
            })
        };
        let pick =
            |names: &[&str], firsts: &[u8]| put(if agents { ids(names) } else { blobs(firsts) });
        let duplicate = deny(MALFORMED_DUPLICATE);
        let about = "A list stands in strictly ascending order of bytes";
        for (order, vault, claim) in [
            ("ascending", pick(&["a", "a/b", "b"], &[1, 2, 200]), Allow),
            ("descending", pick(&["b", "a"], &[2, 1]), duplicate),
            ("twice", pick(&["a", "a"], &[7, 7]), duplicate),
        ] {
            state(
                book,
                &format!("{what}-{order}"),
                about,
                claim,
                &vault,
                |_| {},
            );
        }
        let about = "A list holds agent ids, or keys and object ids of 32 bytes";
        let (odd, code) = if agents {
            (put(ids(&["Not An Id"])), MALFORMED_BAD_AGENT_ID)
        } else {
            (put(list([bin([1; 31])])), MALFORMED_WRONG_LENGTH)
        };
        state(
            book,
            &format!("{what}-none"),
            about,
            deny(code),
            &odd,
            |_| {},
        );
        let nil = put(Value::Nil);
        state(
            book,
            &format!("{what}-as-nil"),
            about,
            deny(MALFORMED_WRONG_TYPE),
            &nil,
            |_| {},
        );
    }
}

pub(super) fn rules(book: &mut Book) {
    let honest = |name: &str| {
        list([
            text(name),
            Value::Uint(1),
            Value::Uint(1),
            text("a.>"),
            Value::Nil,
            Value::Nil,
            Value::Nil,
            Value::Nil,
            Value::Bool(false),
            Value::Uint(7),
        ])
    };
    let many = |rules: Vec<Value>| with("policy", |f| f.set(&[8], list(rules)));
    let range = deny(MALFORMED_OUT_OF_RANGE);
    let long = "n".repeat(65);
    let pair = |a: u64, b: u64| list([Value::Uint(a), Value::Uint(b)]);
    let rows: Vec<(&str, usize, Value, Claim)> = vec![
        ("plain", 0, text("r"), Allow),
        ("name-64-bytes", 0, text(&long[..64]), Allow),
        ("name-65-bytes", 0, text(&long), deny(TOO_LARGE)),
        ("name-empty", 0, text(""), range),
        ("name-as-nil", 0, Value::Nil, deny(MALFORMED_WRONG_TYPE)),
        ("effect-0", 1, Value::Uint(0), Allow),
        ("effect-2", 1, Value::Uint(2), range),
        (
            "effect-as-bool",
            1,
            Value::Bool(true),
            deny(MALFORMED_WRONG_TYPE),
        ),
        ("actions-0", 2, Value::Uint(0), range),
        ("actions-47", 2, Value::Uint(47), Allow),
        ("actions-16", 2, Value::Uint(16), range),
        ("actions-256", 2, Value::Uint(256), range),
        ("pattern-all", 3, text(">"), Allow),
        ("pattern-empty", 3, text(""), deny(MALFORMED_BAD_SUBJECT)),
        ("pattern-bad", 3, text("a..b"), deny(MALFORMED_BAD_SUBJECT)),
        ("pattern-long", 3, text(&"s".repeat(256)), deny(TOO_LARGE)),
        ("age-0", 4, Value::Uint(0), Allow),
        ("age-highest", 4, Value::Uint(u64::from(u32::MAX)), Allow),
        ("age-over", 4, Value::Uint(1 << 32), range),
        ("depth-255", 5, Value::Uint(255), Allow),
        ("depth-256", 5, Value::Uint(256), range),
        ("rate", 6, pair(1, 1), Allow),
        (
            "rate-highest",
            6,
            pair(u64::from(u32::MAX), u64::from(u32::MAX)),
            Allow,
        ),
        ("rate-count-0", 6, pair(0, 1), range),
        ("rate-per-0", 6, pair(1, 0), range),
        ("rate-over", 6, pair(1 << 32, 1), range),
        (
            "rate-of-one",
            6,
            list([Value::Uint(1)]),
            deny(MALFORMED_WRONG_LENGTH),
        ),
        ("score-1000", 7, Value::Uint(1_000), Allow),
        ("score-1001", 7, Value::Uint(1_001), range),
        ("score-65536", 7, Value::Uint(65_536), range),
        (
            "score-negative",
            7,
            Value::Raw(vec![0xff]),
            deny(MALFORMED_WRONG_TYPE),
        ),
        (
            "score-as-float",
            7,
            Value::Raw(vec![0xca, 0, 0, 0, 0]),
            deny(MALFORMED_WRONG_TYPE),
        ),
        ("session", 8, Value::Bool(true), Allow),
        (
            "session-as-number",
            8,
            Value::Uint(0),
            deny(MALFORMED_WRONG_TYPE),
        ),
        ("modes-0", 9, Value::Uint(0), range),
        ("modes-1", 9, Value::Uint(1), Allow),
        ("modes-8", 9, Value::Uint(8), range),
        ("modes-as-nil", 9, Value::Nil, deny(MALFORMED_WRONG_TYPE)),
    ];
    for (name, index, value, claim) in rows {
        let about = "A rule at the bounds of its fields, or beyond";
        let vault = many(vec![honest("r").with(&[index], value)]);
        state(book, &format!("rule-{name}"), about, claim, &vault, |_| {});
    }
    for (name, index, value) in [
        ("age", 4, Value::Uint(5)),
        ("depth", 5, Value::Uint(5)),
        ("rate", 6, pair(1, 1)),
        ("score", 7, Value::Uint(0)),
        ("session", 8, Value::Bool(true)),
        ("modes", 9, Value::Uint(1)),
    ] {
        let about = "A deny rule has no limits";
        let rule = honest("r").with(&[1], Value::Uint(0)).with(&[index], value);
        state(
            book,
            &format!("rule-deny-with-{name}"),
            about,
            range,
            &many(vec![rule]),
            |_| {},
        );
    }
    let about = "No two rules have one name";
    let duplicate = deny(MALFORMED_DUPLICATE);
    state(
        book,
        "rules-two",
        about,
        Allow,
        &many(vec![honest("a"), honest("A")]),
        |_| {},
    );
    let same = many(vec![honest("b"), honest("a"), honest("b")]);
    state(book, "rules-same-name", about, duplicate, &same, |_| {});
    let about = "A policy has at most 256 rules";
    for (count, claim) in [(256, Allow), (257, deny(TOO_LARGE))] {
        let rules = (0..count).map(|n| honest(&format!("{n:x}"))).collect();
        state(
            book,
            &format!("rules-{count}"),
            about,
            claim,
            &many(rules),
            |_| {},
        );
    }
    let about = "A rule is an array of ten values";
    let length = deny(MALFORMED_WRONG_LENGTH);
    let mut short = honest("r");
    short.items().pop();
    state(
        book,
        "rule-of-nine",
        about,
        length,
        &many(vec![short]),
        |_| {},
    );
    let mut long = honest("r");
    long.items().push(Value::Nil);
    state(
        book,
        "rule-of-eleven",
        about,
        length,
        &many(vec![long]),
        |_| {},
    );
}

/// What a policy says needs an approval: its extension 1.
pub(super) fn approvals(book: &mut Book) {
    let need = |pattern: &str, actions: u64| list([text(pattern), Value::Uint(actions)]);
    let extension = |id: u64, critical: bool, value: Value| {
        list([Value::Uint(id), Value::Bool(critical), value])
    };
    let asking = |needs: Vec<Value>| extension(1, true, bin(list(needs).encode()));
    let of = |extensions: Vec<Value>| with("policy", |f| f.set(&[9], list(extensions)));
    let some = || asking(vec![need("a.>", 1)]);
    let ill = deny(MALFORMED_EXTENSION);
    let (range, large) = (deny(MALFORMED_OUT_OF_RANGE), deny(TOO_LARGE));
    let (duplicate, kind) = (deny(MALFORMED_DUPLICATE), deny(MALFORMED_WRONG_TYPE));
    let length = deny(MALFORMED_WRONG_LENGTH);
    let many = |count: usize| {
        let needs = (0..count).map(|n| need(&format!("s{n:03}"), 13));
        asking(needs.collect())
    };
    let about = "A policy has extensions that are known, each once and in order, and no others";
    let critical = |id, flag| extension(id, flag, bin(list([need("a", 1)]).encode()));
    let rows: Vec<(&str, Vec<Value>, Claim)> = vec![
        ("one", vec![some()], Allow),
        ("not-critical", vec![critical(1, false)], ill),
        ("id-0", vec![critical(0, true)], ill),
        ("id-highest", vec![critical(65_535, false)], ill),
        ("id-65536", vec![critical(65_536, true)], range),
        ("twice", vec![some(), some()], ill),
        (
            "of-two-values",
            vec![list([Value::Uint(1), Value::Bool(true)])],
            length,
        ),
        ("nine", vec![some(); 9], large),
        ("as-nil", vec![Value::Nil], kind),
        ("value-as-list", vec![extension(1, true, list([]))], kind),
        (
            "value-32769-bytes",
            vec![extension(1, true, bin(vec![0; 32_769]))],
            large,
        ),
        (
            "value-empty",
            vec![extension(1, true, bin([]))],
            deny(MALFORMED_TRUNCATED),
        ),
        (
            "value-trailing",
            vec![extension(
                1,
                true,
                bin([list([need("a", 1)]).encode(), vec![0]].concat()),
            )],
            deny(MALFORMED_TRAILING_BYTES),
        ),
    ];
    for (name, extensions, claim) in rows {
        let name = format!("approval-ext-{name}");
        state(book, &name, about, claim, &of(extensions), |_| {});
    }
    let about = "Which messages need an approval: 1 to 64 patterns in order, with their actions";
    let rows: Vec<(&str, Value, Claim)> = vec![
        ("none", asking(vec![]), ill),
        ("64", many(64), Allow),
        ("65", many(65), large),
        ("actions-13", asking(vec![need("a", 13)]), Allow),
        ("actions-0", asking(vec![need("a", 0)]), range),
        ("actions-sub", asking(vec![need("a", 2)]), range),
        ("actions-sub-too", asking(vec![need("a", 3)]), range),
        ("actions-delegate", asking(vec![need("a", 32)]), range),
        ("actions-16", asking(vec![need("a", 16)]), range),
        ("actions-256", asking(vec![need("a", 256)]), range),
        (
            "pattern-empty",
            asking(vec![need("", 1)]),
            deny(MALFORMED_BAD_SUBJECT),
        ),
        (
            "pattern-bad",
            asking(vec![need("a..b", 1)]),
            deny(MALFORMED_BAD_SUBJECT),
        ),
        (
            "pattern-long",
            asking(vec![need(&"s".repeat(256), 1)]),
            large,
        ),
        (
            "pattern-twice",
            asking(vec![need("a", 1), need("a", 4)]),
            duplicate,
        ),
        (
            "descending",
            asking(vec![need("b", 1), need("a", 1)]),
            duplicate,
        ),
        (
            "ascending",
            asking(vec![need("a", 1), need("a.b", 1), need("b", 1)]),
            Allow,
        ),
        ("of-one", asking(vec![list([text("a")])]), length),
        ("as-nil", asking(vec![Value::Nil]), kind),
    ];
    for (name, extension, claim) in rows {
        let name = format!("approval-needs-{name}");
        state(book, &name, about, claim, &of(vec![extension]), |_| {});
    }
}

pub(super) fn scores(book: &mut Book) {
    let entry = |name: &str, score: u64| list([text(name), Value::Uint(score)]);
    let of = |entries: Vec<Value>| Vault::new().scored(list(entries));
    let duplicate = deny(MALFORMED_DUPLICATE);
    let range = deny(MALFORMED_OUT_OF_RANGE);
    for (name, entries, claim) in [
        ("none", vec![], Allow),
        ("0-and-1000", vec![entry("a", 0), entry("b", 1_000)], Allow),
        ("1001", vec![entry("a", 1_001)], range),
        ("65536", vec![entry("a", 65_536)], range),
        ("of-a-stranger", vec![entry("nobody", 1)], Allow),
        ("descending", vec![entry("b", 1), entry("a", 1)], duplicate),
        ("twice", vec![entry("a", 1), entry("a", 1)], duplicate),
        ("bad-id", vec![entry("A", 1)], deny(MALFORMED_BAD_AGENT_ID)),
        (
            "of-one",
            vec![list([text("a")])],
            deny(MALFORMED_WRONG_LENGTH),
        ),
        (
            "as-float",
            vec![list([text("a"), Value::Raw(vec![0xca, 0x7f, 0xc0, 0, 0])])],
            deny(MALFORMED_WRONG_TYPE),
        ),
    ] {
        let about = "A score is a number from 0 to 1000, and each agent has one at most";
        state(
            book,
            &format!("score-{name}"),
            about,
            claim,
            &of(entries),
            |_| {},
        );
    }
}
