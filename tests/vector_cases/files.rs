//! Registry, policy, revocations and scores as files, and a state that replaces another.

use trustmesh::proto::names::Tag;

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::json::words;
use super::play::Play;
use super::policies::approvals;
use super::policies::ceilings;
use super::policies::lists;
use super::policies::rules;
use super::policies::scores;
use super::root::state;
use super::scoring::scoring;
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
pub(super) const MONTH: u64 = 30 * 24 * HOUR;

pub(super) fn scored() -> Vault {
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

pub(super) fn with(name: &str, change: impl FnOnce(&mut File)) -> Vault {
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
    approvals(book);
    scoring(book);
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
    let unknown = list([Value::Uint(99), Value::Bool(false), bin([])]);
    let one = if file == "policy" {
        unknown
    } else {
        Value::Nil
    };
    case("ext", about, deny(MALFORMED_EXTENSION), &|f| {
        f.set(&[last], list([one.clone()]))
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
