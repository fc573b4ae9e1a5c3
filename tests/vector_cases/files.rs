//! Registry, policy, revocations and scores as files, and a state that replaces another.

use trustmesh::proto::names::Tag;

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::json::words;
use super::play::Play;
use super::root::state;
use super::vault;
use super::vault::File;
use super::vault::Vault;
use super::vault::keeper;
use crate::forge::HOUR;
use crate::forge::NOW;
use crate::forge::Value;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

/// A month in milliseconds.
const MONTH: u64 = 30 * 24 * HOUR;

fn scored() -> Vault {
    Vault::new().scored(list([list([text("alice"), Value::Uint(500)])]))
}

/// One file of a vault, by its name.
fn file<'a>(vault: &'a mut Vault, name: &str) -> &'a mut File {
    match name {
        "registry" => &mut vault.registry,
        "policy" => &mut vault.policy,
        "revocations" => &mut vault.revocations,
        _ => vault.scores.as_mut().unwrap(),
    }
}

fn with(name: &str, change: impl FnOnce(&mut File)) -> Vault {
    let mut vault = scored();
    change(file(&mut vault, name));
    vault
}

pub fn write(book: &mut Book) {
    state(book, "accepted", "All five files", Allow, &scored(), |_| {});
    for name in ["registry", "policy", "revocations", "scores"] {
        heads(book, name);
    }
    confusion(book);
    ceilings(book);
    lists(book);
    rules(book);
    scores(book);
    replacing(book);
}

/// What all four have in common.
fn heads(book: &mut Book, file: &str) {
    let mut case = |name: &str, about: &str, claim: Claim, change: &dyn Fn(&mut File)| {
        state(
            book,
            &format!("{file}-{name}"),
            about,
            claim,
            &with(file, change),
            |_| {},
        );
    };
    let about = "A file names its mesh, its epoch and its window";
    case("v-2", about, deny(UNSUPPORTED_VERSION), &|f| {
        f.set(&[0], Value::Uint(2))
    });
    let other = deny(UNTRUSTED_ROOT_OTHER_MESH);
    case("other-mesh", about, other, &|f| f.set(&[1], bin([1; 16])));
    case("mesh-15-bytes", about, deny(MALFORMED_WRONG_LENGTH), &|f| {
        f.set(&[1], bin([1; 15]))
    });
    case("epoch-0", about, Allow, &|f| f.set(&[2], Value::Uint(0)));
    case("epoch-highest", about, Allow, &|f| {
        f.set(&[2], Value::Uint(u64::MAX))
    });
    case("epoch-as-nil", about, deny(MALFORMED_WRONG_TYPE), &|f| {
        f.set(&[2], Value::Nil)
    });
    let window = |from: u64, until: u64| {
        move |f: &mut File| {
            f.set(&[3], Value::Uint(from));
            f.set(&[4], Value::Uint(until));
        }
    };
    let about = "A file other than the root holds for 1 ms to 30 days";
    case(
        "no-time",
        about,
        deny(MALFORMED_LIFETIME),
        &window(NOW, NOW),
    );
    case("30-days", about, Allow, &window(NOW, NOW + MONTH));
    case(
        "30-days-and-1-ms",
        about,
        deny(MALFORMED_LIFETIME),
        &window(NOW, NOW + MONTH + 1),
    );
    case(
        "over-long-ago",
        "Putting a state together looks at no clock",
        Allow,
        &window(1, 2),
    );
    let about = "A file has no extensions, and nothing follows its last value";
    let last = if file == "policy" {
        9
    } else if file == "revocations" {
        8
    } else {
        6
    };
    case("ext", about, deny(MALFORMED_EXTENSION), &|f| {
        f.set(&[last], list([Value::Nil]))
    });
    case("ext-as-nil", about, deny(MALFORMED_WRONG_TYPE), &|f| {
        f.set(&[last], Value::Nil)
    });
    case("without-ext", about, deny(MALFORMED_WRONG_LENGTH), &|f| {
        f.body.items().pop();
    });
    case("with-one-more", about, deny(MALFORMED_WRONG_LENGTH), &|f| {
        f.body.items().push(Value::Nil);
    });
    case(
        "body-trailing",
        about,
        deny(MALFORMED_TRAILING_BYTES),
        &|f| {
            f.body = Value::Raw([f.body.encode(), vec![0]].concat());
        },
    );
    case("content-as-nil", about, deny(MALFORMED_WRONG_TYPE), &|f| {
        f.set(&[5], Value::Nil)
    });
    let about = "A file is signed by the threshold of its role, under the tag of its kind";
    let bad = deny(BAD_SIGNATURE);
    case("signed-by-the-root", about, bad, &|f| {
        f.signers[0].1 = keeper(1, 0)
    });
    case("signed-under-envelope", about, bad, &|f| {
        f.signers[0].2 = Tag::Envelope
    });
    case("signed-under-trust-root", about, bad, &|f| {
        f.signers[0].2 = Tag::TrustRoot
    });
    case("unsigned", about, deny(UNTRUSTED_ROOT_THRESHOLD), &|f| {
        f.signers.clear()
    });
    let about = "The signatures are checked before the body is decoded";
    case("bad-signature-and-body", about, bad, &|f| {
        f.signers[0].1 = keeper(1, 0);
        f.body = Value::Raw(vec![0xc0]);
    });
}

/// A file of one kind where another is expected, by keys that may sign both.
fn confusion(book: &mut Book) {
    let shared = keeper(3, 0);
    let mut root = vault::root();
    for index in 2..6 {
        root.set(&[3, index, 2], list([bin(shared.bytes().0)]));
    }
    let mut vault = Vault::under(root);
    for file in [&mut vault.policy, &mut vault.revocations] {
        file.signers[0].1 = shared.clone();
    }
    let about = "One key may have several roles";
    state(book, "one-key-for-all", about, Allow, &vault, |_| {});
    let about = "Only kind and tag keep a file of one kind from standing for another";
    let kind = deny(MALFORMED_OUT_OF_RANGE);
    state(
        book,
        "policy-for-revocations",
        about,
        kind,
        &vault,
        |state| {
            state.files.revocations = state.files.policy.clone();
        },
    );
    state(book, "registry-for-policy", about, kind, &vault, |state| {
        state.files.policy = state.files.registry.clone();
    });
    let mut relabelled = vault.clone();
    relabelled.revocations = vault.policy.clone();
    relabelled.revocations.kind = Value::Uint(4);
    let bad = deny(BAD_SIGNATURE);
    state(book, "policy-relabelled", about, bad, &relabelled, |_| {});
    state(book, "root-for-registry", about, kind, &vault, |state| {
        state.files.registry = state.files.root.clone();
    });
}

fn ceilings(book: &mut Book) {
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
fn lists(book: &mut Book) {
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

fn rules(book: &mut Book) {
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

fn scores(book: &mut Book) {
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

/// A newer state in the place of an older one.
fn replacing(book: &mut Book) {
    let set = |firsts: &[u8]| list(firsts.iter().map(|first| bin([*first; 32])));
    let held = |epoch: u64| {
        let mut vault = Vault::new().scored(list([]));
        for name in ["registry", "policy", "revocations", "scores"] {
            file(&mut vault, name).set(&[2], Value::Uint(epoch));
        }
        vault.revocations.set(&[5], set(&[1]));
        vault.revocations.set(&[6], set(&[2]));
        vault.revocations.set(&[7], list([text("eve")]));
        vault
    };
    let about = "A state that is held: epoch 5 of everything, a link, a key and an agent revoked";
    book.files_state("held", about, held(5).files(), |_| {});
    let bare = {
        let mut vault = held(5);
        vault.scores = None;
        vault
    };
    book.files_state(
        "held-without-scores",
        "The same without scores",
        bare.files(),
        |_| {},
    );
    let rollback = deny(STALE_STATE_ROLLBACK);
    let edited = |change: &dyn Fn(&mut Vault)| {
        let mut vault = held(5);
        change(&mut vault);
        vault
    };
    let (link, agents) = (set(&[]), list([]));
    let mut rows: Vec<(String, Vault, &str, Claim)> = vec![
        ("same".into(), held(5), "held", Allow),
        ("newer".into(), held(6), "held", Allow),
        ("older".into(), held(4), "held", rollback),
        ("scores-gone".into(), bare.clone(), "held", rollback),
        ("scores-added".into(), held(5), "held-without-scores", Allow),
        ("without-scores".into(), bare, "held-without-scores", Allow),
        (
            "link-gone".into(),
            edited(&|v| v.revocations.set(&[5], link.clone())),
            "held",
            rollback,
        ),
        (
            "key-gone".into(),
            edited(&|v| v.revocations.set(&[6], link.clone())),
            "held",
            rollback,
        ),
        (
            "agent-gone".into(),
            edited(&|v| v.revocations.set(&[7], agents.clone())),
            "held",
            rollback,
        ),
        (
            "link-exchanged".into(),
            edited(&|v| v.revocations.set(&[5], set(&[3]))),
            "held",
            rollback,
        ),
        (
            "link-added".into(),
            edited(&|v| v.revocations.set(&[5], set(&[1, 3]))),
            "held",
            Allow,
        ),
        (
            "link-gone-in-a-newer".into(),
            edited(&|v| {
                v.revocations.set(&[2], Value::Uint(9));
                v.revocations.set(&[5], link.clone());
            }),
            "held",
            rollback,
        ),
        (
            "agent-gone-from-the-registry".into(),
            held(6).papers(&[]),
            "held",
            Allow,
        ),
        (
            "other-root".into(),
            {
                let mut root = vault::root();
                root.set(&[2], text("elsewhere"));
                let mut vault = Vault::under(root);
                vault.scores = None;
                vault
            },
            "held",
            deny(UNTRUSTED_ROOT_OTHER_MESH),
        ),
    ];
    for name in ["registry", "policy", "revocations", "scores"] {
        for (word, epoch, claim) in [("older", 4, rollback), ("newer", 6, Allow)] {
            let vault = edited(&|v| file(v, name).set(&[2], Value::Uint(epoch)));
            rows.push((format!("{name}-{word}"), vault, "held", claim));
        }
    }
    for (name, vault, older, claim) in rows {
        let about = "A newer state has the same root, no lower epoch, and takes no revocation back";
        let state = format!("replacing-{name}");
        book.files_state(&state, about, vault.files(), |_| {});
        book.case(&state.clone(), about, claim, || {
            Play::trust(&state).edit(|play| play.more = vec![("replaces", words(older))])
        });
    }
}
