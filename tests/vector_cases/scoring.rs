//! What a policy says conduct costs: its extension 2.

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
use crate::forge::Value::Uint;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

/// The most a cost can be, in thousandths of a point.
const MOST: u64 = 1_000_000;

/// One value put where a path leads.
type Put<'a> = (&'a [usize], Value);

/// The defaults, except for these values.
fn value(puts: Vec<Put<'_>>) -> Value {
    let uints = |values: &[u64]| values.iter().copied().map(Uint).collect::<Vec<_>>();
    let mut scores = uints(&[500, 0, 200]);
    scores.push(list(uints(&[100_000, 100_000, 50_000])));
    scores.push(list(uints(&[5_000, 3_600_000, 300, 20_000, 100])));
    scores.push(Uint(3_600));
    let mut quarantine = uints(&[10_000, 20, 50]);
    quarantine.push(list(uints(&[60_000, 3_600_000, 600_000])));
    quarantine.push(Uint(3));
    let defaults = list([list(scores), list(quarantine)]);
    puts.into_iter()
        .fold(defaults, |value, (path, put)| value.with(path, put))
}

fn extension(id: u64, critical: bool, value: Vec<u8>) -> Value {
    list([Uint(id), Value::Bool(critical), bin(value)])
}

fn of(extensions: Vec<Value>) -> Vault {
    with("policy", |f| f.set(&[9], list(extensions)))
}

pub(super) fn scoring(book: &mut Book) {
    places(book);
    forms(book);
    scores(book);
    quarantine(book);
    order(book);
}

/// The extension among others.
fn places(book: &mut Book) {
    let two = |critical| extension(2, critical, value(vec![(&[0, 0], Uint(400))]).encode());
    let approval = || extension(1, true, list([list([text("a"), Uint(1)])]).encode());
    let ill = deny(MALFORMED_EXTENSION);
    let about = "A policy says what conduct costs at most once, in order, and never aside";
    for (name, extensions, claim) in [
        ("one", vec![two(true)], Allow),
        ("not-critical", vec![two(false)], ill),
        ("twice", vec![two(true), two(true)], ill),
        ("after-approval", vec![approval(), two(true)], Allow),
        ("before-approval", vec![two(true), approval()], ill),
    ] {
        let name = format!("scoring-{name}");
        state(book, &name, about, claim, &of(extensions), |_| {});
    }
}

/// A case of the extension alone.
fn case(book: &mut Book, name: &str, about: &str, claim: Claim, bytes: Vec<u8>) {
    let vault = of(vec![extension(2, true, bytes)]);
    state(
        book,
        &format!("scoring-{name}"),
        about,
        claim,
        &vault,
        |_| {},
    );
}

/// A case of the defaults with other values in places.
fn put(book: &mut Book, name: &str, about: &str, claim: Claim, puts: Vec<Put<'_>>) {
    case(book, name, about, claim, value(puts).encode());
}

/// The forms of the values, and what the defaults are.
fn forms(book: &mut Book) {
    let some = || value(vec![(&[0, 0], Uint(400))]).encode();
    let about = "What conduct costs is two lists of numbers, read to their end";
    let (kind, length) = (deny(MALFORMED_WRONG_TYPE), deny(MALFORMED_WRONG_LENGTH));
    let truncated = deny(MALFORMED_TRUNCATED);
    let mut cut = some();
    cut.pop();
    for (name, bytes, claim) in [
        ("value-empty", vec![], truncated),
        ("value-cut", cut, truncated),
        (
            "value-trailing",
            [some(), vec![0]].concat(),
            deny(MALFORMED_TRAILING_BYTES),
        ),
        (
            "value-of-one",
            list([value(vec![]).at(&[0]).clone()]).encode(),
            length,
        ),
    ] {
        case(book, name, about, claim, bytes);
    }
    let lists: [(&str, &[usize]); 5] = [
        ("scores", &[0]),
        ("costs", &[0, 3]),
        ("gains", &[0, 4]),
        ("quarantine", &[1]),
        ("times", &[1, 3]),
    ];
    for (name, path) in lists {
        let mut long = value(vec![]).at(path).clone();
        long.items().push(Uint(1));
        let long = vec![(path, long)];
        put(book, &format!("{name}-too-long"), about, length, long);
        let nil = vec![(path, Value::Nil)];
        put(book, &format!("{name}-as-nil"), about, kind, nil);
    }
    let wide = Value::Raw(vec![0xcd, 0, 100]);
    let wrong = deny(MALFORMED_NOT_CANONICAL);
    put(book, "alarm-too-wide", about, wrong, vec![(&[0, 2], wide)]);
    let float = Value::Raw(vec![0xca, 0x7f, 0xc0, 0, 0]);
    put(
        book,
        "reward-as-float",
        about,
        kind,
        vec![(&[0, 4, 0], float)],
    );

    let about = "The defaults are said by saying nothing";
    let ill = deny(MALFORMED_EXTENSION);
    put(book, "defaults", about, ill, vec![]);
    let last = vec![(&[1usize, 4][..], Uint(2))];
    put(book, "defaults-but-the-last", about, Allow, last);
    let trailing = [value(vec![]).encode(), vec![0]].concat();
    let claim = deny(MALFORMED_TRAILING_BYTES);
    case(book, "defaults-trailing", about, claim, trailing);
}

fn scores(book: &mut Book) {
    let range = deny(MALFORMED_OUT_OF_RANGE);
    let about = "How scores are computed, at the bounds of each number and beyond";
    let least = || -> Vec<Put<'_>> {
        vec![
            (&[0, 0], Uint(0)),
            (&[0, 2], Uint(0)),
            (&[0, 3], list([1, 1, 1].map(Uint))),
            (&[0, 4], list([0, 1, 0, 0, 0].map(Uint))),
            (&[0, 5], Uint(1)),
        ]
    };
    let most = || -> Vec<Put<'_>> {
        vec![
            (&[0, 0], Uint(1_000)),
            (&[0, 1], Uint(1_000)),
            (&[0, 2], Uint(1_000)),
            (&[0, 3], list([MOST; 3].map(Uint))),
            (&[0, 4], list([MOST / 2, MONTH, 0, MOST, 0].map(Uint))),
            (&[0, 5], Uint(MONTH / 1_000)),
        ]
    };
    put(book, "scores-least", about, Allow, least());
    put(book, "scores-most", about, Allow, most());
    let odd = |reward: u64| -> Vec<Put<'_>> {
        vec![(&[0, 3, 1], Uint(10_001)), (&[0, 4, 0], Uint(reward))]
    };
    let rows: Vec<(&str, Claim, Vec<Put<'_>>)> = vec![
        (
            "start-over",
            range,
            vec![
                (&[0, 0], Uint(1_001)),
                (&[0, 4], list([1, 1, 0, 0, 0].map(Uint))),
            ],
        ),
        ("start-65536", range, vec![(&[0, 0], Uint(65_536))]),
        ("start-at-floor", Allow, vec![(&[0, 1], Uint(500))]),
        ("start-below-floor", range, vec![(&[0, 1], Uint(501))]),
        ("alarm-over", range, vec![(&[0, 2], Uint(1_001))]),
        ("cost-scope-0", range, vec![(&[0, 3, 0], Uint(0))]),
        ("cost-scope-over", range, vec![(&[0, 3, 0], Uint(MOST + 1))]),
        ("cost-depth-over", range, vec![(&[0, 3, 1], Uint(MOST + 1))]),
        (
            "cost-content-over",
            range,
            vec![(&[0, 3, 2], Uint(MOST + 1))],
        ),
        (
            "cost-content-0-without-reward",
            range,
            vec![(&[0, 3, 2], Uint(0)), (&[0, 4, 0], Uint(0))],
        ),
        ("reward-half-of-a-cost", Allow, odd(5_000)),
        ("reward-over-half-of-a-cost", range, odd(5_001)),
        ("reward-25001", range, vec![(&[0, 4, 0], Uint(25_001))]),
        ("quiet-0", range, vec![(&[0, 4, 1], Uint(0))]),
        ("quiet-over", range, vec![(&[0, 4, 1], Uint(MONTH + 1))]),
        ("sum-1000", Allow, vec![(&[0, 4, 2], Uint(400))]),
        ("sum-1001", range, vec![(&[0, 4, 2], Uint(401))]),
        (
            "sum-65535-each",
            range,
            vec![(&[0, 4, 2], Uint(65_535)), (&[0, 4, 4], Uint(65_535))],
        ),
        (
            "endorsement-over",
            range,
            vec![(&[0, 4, 3], Uint(MOST + 1))],
        ),
        ("lapse-0", range, vec![(&[0, 5], Uint(0))]),
        (
            "lapse-over",
            range,
            vec![(&[0, 5], Uint(MONTH / 1_000 + 1))],
        ),
        ("lapse-4-gib", range, vec![(&[0, 5], Uint(1 << 32))]),
    ];
    for (name, claim, puts) in rows {
        put(book, name, about, claim, puts);
    }
}

fn quarantine(book: &mut Book) {
    let range = deny(MALFORMED_OUT_OF_RANGE);
    let about = "When a key is quarantined, at the bounds of each number and beyond";
    let whole = |window, bad, percent, times: [u64; 3], relapse| -> Vec<Put<'static>> {
        let mut values = [window, bad, percent].map(Uint).to_vec();
        values.extend([list(times.map(Uint)), Uint(relapse)]);
        vec![(&[1], list(values))]
    };
    let rows: Vec<(&str, Claim, Vec<Put<'_>>)> = vec![
        (
            "quarantine-least",
            Allow,
            whole(1_000, 1, 1, [1_000, 1_000, 0], 1),
        ),
        (
            "quarantine-most",
            Allow,
            whole(600_000, 256, 100, [MONTH, MONTH, MONTH], 256),
        ),
        ("window-under", range, vec![(&[1, 0], Uint(999))]),
        ("window-over", range, vec![(&[1, 0], Uint(600_001))]),
        ("bad-0", range, vec![(&[1, 1], Uint(0)), (&[1, 4], Uint(0))]),
        ("bad-257", range, vec![(&[1, 1], Uint(257))]),
        ("percent-0", range, vec![(&[1, 2], Uint(0))]),
        ("percent-101", range, vec![(&[1, 2], Uint(101))]),
        ("percent-256", range, vec![(&[1, 2], Uint(256))]),
        ("first-under", range, vec![(&[1, 3, 0], Uint(999))]),
        (
            "first-over-longest",
            range,
            vec![(&[1, 3, 1], Uint(59_999))],
        ),
        ("longest-over", range, vec![(&[1, 3, 1], Uint(MONTH + 1))]),
        ("probation-over", range, vec![(&[1, 3, 2], Uint(MONTH + 1))]),
        ("relapse-0", range, vec![(&[1, 4], Uint(0))]),
        ("relapse-over-bad", range, vec![(&[1, 4], Uint(21))]),
    ];
    for (name, claim, puts) in rows {
        put(book, name, about, claim, puts);
    }
}

/// Two faults, of which the first that is read is told.
fn order(book: &mut Book) {
    let (range, kind) = (deny(MALFORMED_OUT_OF_RANGE), deny(MALFORMED_WRONG_TYPE));
    let about = "A number that its type cannot hold is refused at once, others after their list";
    let rows: [(&str, Claim, Vec<Put<'_>>); 4] = [
        (
            "start-65536-and-floor-as-nil",
            range,
            vec![(&[0, 0], Uint(65_536)), (&[0, 1], Value::Nil)],
        ),
        (
            "start-1001-and-floor-as-nil",
            kind,
            vec![(&[0, 0], Uint(1_001)), (&[0, 1], Value::Nil)],
        ),
        (
            "lapse-0-and-quarantine-as-nil",
            range,
            vec![(&[0, 5], Uint(0)), (&[1], Value::Nil)],
        ),
        (
            "window-0-and-relapse-as-nil",
            kind,
            vec![(&[1, 0], Uint(0)), (&[1, 4], Value::Nil)],
        ),
    ];
    for (name, claim, puts) in rows {
        put(book, name, about, claim, puts);
    }
    let trailing = [value(vec![(&[1, 4], Uint(0))]).encode(), vec![0]].concat();
    case(book, "relapse-0-and-trailing", about, range, trailing);
}
