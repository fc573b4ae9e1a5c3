//! From one served state to the next: forward only, and the same epoch is the same thing.

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::files::with;
use super::json::words;
use super::play::Play;
use super::print;
use super::print::POLICY;
use super::print::Print;
use super::print::REGISTRY;
use super::print::REVOCATIONS;
use super::print::SCORES;
use super::print::advanced;
use super::print::digest;
use super::print::framed;
use super::print::hear;
use super::print::shard;
use super::served_parts::cut;
use super::vault::File;
use super::vault::Paper;
use super::vault::Vault;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::value::bin;
use crate::forge::value::list;

/// A reader that holds epoch 5 of everything, with scores, and a link revoked.
pub(super) const HELD: &str = "served-held";

fn links(firsts: &[u8]) -> Value {
    list(firsts.iter().map(|first| bin([*first; 32])))
}

/// The held state, of these epochs.
fn state(time: u64, epoch: u64) -> Print {
    let print = Print::new(time, epoch);
    let scores = print.file(SCORES);
    print
        .with(REVOCATIONS, |f| f.set(&[5], links(&[1])))
        .part(SCORES, 0, scores)
}

/// The same parts under a snapshot of another epoch.
fn snapshot_at(time: u64, epoch: u64) -> Print {
    state(time, 5).edit(|print| print.snapshot = epoch)
}

/// A reader that holds it hears this; two keys, one revoked link.
fn heard(print: &Print) -> Play {
    let facts = advanced(print.time, print.snapshot, 2, 1);
    print.heard_by(HELD).edit(|play| play.facts = facts)
}

pub fn write(book: &mut Book) {
    let about = "A served state that is held: epoch 5 of everything, a link revoked";
    book.held_state(HELD, state(5, 5).held(about));
    timestamps(book);
    snapshots(book);
    parts(book);
    resharding(book);
    revocations(book);
    sequences(book);
    statics(book);
}

fn timestamps(book: &mut Book) {
    let mut case = |name: &str, about: &str, claim: Claim, print: Print| {
        book.case(name, about, claim, || heard(&print));
    };
    let (rollback, fork) = (deny(STALE_STATE_ROLLBACK), deny(STALE_STATE_EQUIVOCATION));
    let about = "The epoch of the timestamp does not fall";
    case("time-newer", about, Allow, state(6, 5));
    case("time-much-newer", about, Allow, state(120, 5));
    case("time-older", about, rollback, state(4, 5));
    case("time-older-snapshot-newer", about, rollback, state(4, 6));
    let about = "The same epoch of a timestamp is the same timestamp";
    let later = state(5, 5).edit(|print| print.issued = NOW + 1);
    case("time-equal-later", about, fork, later);
    case("time-equal-other-snapshot", about, fork, state(5, 6));
    let about = "A timestamp that is held already changes nothing";
    book.case("time-same", about, Allow, || {
        heard(&state(5, 5)).edit(|play| play.facts = vec![("progress", words("unchanged"))])
    });
    book.case("time-same-with-garbage", about, Allow, || {
        let tree = state(5, 5).tree([]).with(&[2], bin(b"garbage"));
        hear(HELD, framed(&tree), &[])
            .edit(|play| play.facts = vec![("progress", words("unchanged"))])
    });
    let about = "A newer timestamp of the snapshot that is held needs nothing else";
    book.case("time-newer-alone", about, Allow, || {
        hear(HELD, state(6, 5).bare(), &[]).edit(|play| play.facts = advanced(6, 5, 2, 1))
    });
    book.case("time-newer-with-garbage", about, Allow, || {
        let tree = state(6, 5).tree([]).with(&[2], bin(b"garbage"));
        hear(HELD, framed(&tree), &[]).edit(|play| play.facts = advanced(6, 5, 2, 1))
    });
    let about = "A timestamp is checked before it is compared with the one that is held";
    book.case("time-older-forged", about, deny(BAD_SIGNATURE), || {
        heard(&state(4, 5).timestamp(|f| f.signers[0].1 = super::vault::keeper(1, 0)))
    });
    book.case(
        "time-older-of-another-root",
        about,
        deny(UNTRUSTED_ROOT_LINEAGE),
        || heard(&state(4, 5).edit(|print| print.root.0 = 2)),
    );
}

fn snapshots(book: &mut Book) {
    let mut case = |name: &str, about: &str, claim: Claim, print: Print| {
        book.case(name, about, claim, || heard(&print));
    };
    let (rollback, fork) = (deny(STALE_STATE_ROLLBACK), deny(STALE_STATE_EQUIVOCATION));
    let about = "The epoch of the snapshot does not fall, and the same epoch is the same snapshot";
    case("snapshot-newer", about, Allow, snapshot_at(6, 6));
    case("snapshot-older", about, rollback, snapshot_at(6, 4));
    let other = snapshot_at(6, 5).snapshot(|f| f.set(&[4], Value::Uint(NOW + 1)));
    case("snapshot-equal-other", about, fork, other);
    let about = "Timestamp and snapshot are compared before the snapshot is read";
    book.case("snapshot-older-not-sent", about, rollback, || {
        let tree = snapshot_at(6, 4).tree([]).with(&[2], bin(b"garbage"));
        hear(HELD, framed(&tree), &[])
    });
}

fn parts(book: &mut Book) {
    let (rollback, fork) = (deny(STALE_STATE_ROLLBACK), deny(STALE_STATE_EQUIVOCATION));
    for (kind, name) in [
        (REGISTRY, "registry"),
        (POLICY, "policy"),
        (REVOCATIONS, "revocations"),
        (SCORES, "scores"),
    ] {
        let about = "No part falls back, and the same epoch is the same part";
        let mut case = |word: &str, claim: Claim, change: fn(&mut File)| {
            let print = snapshot_at(6, 6);
            let mut file = print.file(kind);
            if kind == REVOCATIONS {
                file.set(&[5], links(&[1]));
            }
            file.set(&[2], Value::Uint(5));
            change(&mut file);
            let print = print.part(kind, 0, file);
            book.case(&format!("{name}-{word}"), about, claim, || heard(&print));
        };
        case("newer", Allow, |f| f.set(&[2], Value::Uint(6)));
        case("same", Allow, |_| {});
        case("older", rollback, |f| f.set(&[2], Value::Uint(4)));
        case("equal-other", fork, |f| f.set(&[4], Value::Uint(NOW + 1)));
    }
    let about = "Scores, once there, stay";
    let gone = snapshot_at(6, 6).edit(|print| drop(print.parts.remove(&(SCORES, 0))));
    book.case("scores-gone", about, rollback, || heard(&gone));
    let about = "Only what is new is needed";
    let newer = snapshot_at(6, 6).with(POLICY, |_| {});
    let policy = newer.parts[&(POLICY, 0)].clone();
    book.case("new-policy-alone", about, Allow, || {
        let facts = advanced(6, 6, 2, 1);
        hear(HELD, newer.bare(), std::slice::from_ref(&policy)).edit(|play| play.facts = facts)
    });
    book.case("new-policy-missing", about, Allow, || {
        let facts = print::missing(&[digest(&policy)]);
        hear(HELD, newer.bare(), &[]).edit(|play| play.facts = facts)
    });
    let about = "A segment of revocations may be added, and none may go";
    let more = |print: Print| {
        let mut file = print.file(REVOCATIONS);
        print::extend(&mut file, [shard(1, 0)]);
        print.part(REVOCATIONS, 1, file)
    };
    let two = more(snapshot_at(6, 6));
    book.case("segment-added", about, Allow, || heard(&two));
    book.case("segment-gone", about, rollback, || {
        heard(&snapshot_at(7, 7)).after(heard(&two), Allow)
    });
    let about = "Scores may be added";
    book.case("scores-added", about, Allow, || {
        let print = Print::new(2, 2);
        let scores = print.file(SCORES);
        let first = Print::new(1, 1).heard_by(super::served::NEW);
        print
            .part(SCORES, 0, scores)
            .heard_by(super::served::NEW)
            .after(first, Allow)
    });
}

/// The number of shards of a kind changes.
fn resharding(book: &mut Book) {
    let rollback = deny(STALE_STATE_ROLLBACK);
    let about = "Where the number of shards changes, all are newer than any before";
    let cut_of = |time: u64, epoch: u64, count: u16| cut(state(time, epoch), count);
    let all = |print: &Print| {
        let facts = advanced(print.time, print.snapshot, 7, 1);
        print.heard_by(HELD).edit(|play| play.facts = facts)
    };
    let newer = cut_of(6, 6, 2);
    book.case("reshard-newer", about, Allow, || all(&newer));
    let equal = cut_of(6, 5, 2).edit(|print| print.snapshot = 6);
    book.case("reshard-equal", about, rollback, || all(&equal));
    let older = cut_of(6, 4, 2).edit(|print| {
        print.snapshot = 6;
        let five = state(6, 5);
        for kind in [POLICY, REVOCATIONS, SCORES] {
            let file = five.parts[&(kind, 0)].clone();
            print.parts.insert((kind, 0), file);
        }
    });
    book.case("reshard-older", about, rollback, || all(&older));
    let one_old = {
        let old = cut_of(6, 5, 2).parts[&(REGISTRY, 1)].clone();
        cut_of(6, 6, 2).edit(|print| drop(print.parts.insert((REGISTRY, 1), old)))
    };
    book.case("reshard-one-not-newer", about, rollback, || all(&one_old));
    let about = "Fewer shards are as good as more";
    book.case("reshard-back-to-one", about, Allow, || {
        all(&cut_of(7, 7, 1)).after(all(&cut_of(6, 6, 4)), Allow)
    });
    let about = "One shard may be replaced alone, and none goes back alone";
    let replaced = |old: u64, new: u64| {
        let shard = cut_of(7, new, 2).parts[&(REGISTRY, 1)].clone();
        cut_of(7, old, 2).edit(|print| {
            print.snapshot = 9;
            print.parts.insert((REGISTRY, 1), shard);
        })
    };
    let first = || all(&cut_of(6, 6, 2));
    book.case("shard-newer", about, Allow, || {
        all(&replaced(6, 7)).after(first(), Allow)
    });
    book.case("shard-older", about, rollback, || {
        all(&replaced(6, 5)).after(first(), Allow)
    });
}

fn revocations(book: &mut Book) {
    let rollback = deny(STALE_STATE_ROLLBACK);
    let newer = |firsts: &[u8]| {
        let mut print = snapshot_at(6, 6);
        let mut file = print.file(REVOCATIONS);
        file.set(&[5], links(firsts));
        print = print.part(REVOCATIONS, 0, file);
        print
    };
    let about = "What was revoked stays revoked";
    book.case("link-added", about, Allow, || {
        heard(&newer(&[1, 2])).edit(|play| play.facts = advanced(6, 6, 2, 2))
    });
    book.case("link-gone", about, rollback, || heard(&newer(&[])));
    book.case("link-exchanged", about, rollback, || heard(&newer(&[2])));
    let about = "A revocation may move to another segment";
    let moved = {
        let mut print = newer(&[]);
        let mut file = print.file(REVOCATIONS);
        file.set(&[5], links(&[1]));
        print::extend(&mut file, [shard(1, 0)]);
        print = print.part(REVOCATIONS, 1, file);
        print
    };
    book.case("link-in-another-segment", about, Allow, || heard(&moved));
}

fn sequences(book: &mut Book) {
    let about = "A refused bulletin leaves what is held";
    let rollback = deny(STALE_STATE_ROLLBACK);
    let forged = state(9, 9).timestamp(|f| f.signers.clear());
    book.case("after-a-forgery", about, Allow, || {
        heard(&state(6, 5)).after(heard(&forged), deny(UNTRUSTED_ROOT_THRESHOLD))
    });
    let broken = snapshot_at(9, 9).with(POLICY, |f| f.signers.clear());
    book.case("after-a-broken-part", about, Allow, || {
        heard(&state(6, 5)).after(heard(&broken), deny(UNTRUSTED_ROOT_THRESHOLD))
    });
    let taken_back = snapshot_at(9, 9).with(REVOCATIONS, |_| {});
    book.case("after-a-rollback", about, Allow, || {
        heard(&state(6, 5)).after(heard(&taken_back), rollback)
    });
    let about = "A bulletin that lacks parts leaves what is held";
    let newer = snapshot_at(9, 9).with(POLICY, |_| {});
    let lacking = || {
        let policy = digest(&newer.parts[&(POLICY, 0)]);
        hear(HELD, newer.bare(), &[]).edit(|play| play.facts = print::missing(&[policy]))
    };
    book.case("after-a-lack", about, Allow, || {
        heard(&state(6, 5)).after(lacking(), Allow)
    });
    book.case("a-lack-made-good", about, Allow, || {
        heard(&newer).after(lacking(), Allow)
    });
    let about = "What was passed is not gone back to";
    book.case("back-to-the-first", about, rollback, || {
        heard(&state(5, 5))
            .after(heard(&state(6, 6)), Allow)
            .after(heard(&state(7, 6)), Allow)
    });
    let about = "Of two branches, the one heard first is kept";
    let branch = |firsts: &'static [u8]| {
        snapshot_at(6, 6).with(REVOCATIONS, move |f| f.set(&[5], links(firsts)))
    };
    book.case(
        "two-branches",
        about,
        deny(STALE_STATE_EQUIVOCATION),
        || {
            let one = heard(&branch(&[1, 2])).edit(|play| play.facts = advanced(6, 6, 2, 2));
            heard(&branch(&[1, 3])).after(one, Allow)
        },
    );
}

/// Retirements in static files that replace one another, and parts where whole files belong.
fn statics(book: &mut Book) {
    let retired = |epoch: u64, from: Option<u64>| -> Vault {
        with("revocations", |f| {
            f.set(&[2], Value::Uint(epoch));
            if let Some(from) = from {
                let entry = list([bin([2; 32]), Value::Uint(from)]);
                print::extend(f, [print::ext(2, bin(list([entry]).encode()))]);
            }
        })
    };
    let about = "A retirement may come earlier, and neither later nor go";
    let older = "follow-retired";
    book.files_state(
        older,
        "A key that retires in an hour",
        retired(5, Some(NOW + 9)).files(),
        |_| {},
    );
    let rollback = deny(STALE_STATE_ROLLBACK);
    for (name, from, claim) in [
        ("same", Some(NOW + 9), Allow),
        ("earlier", Some(NOW + 8), Allow),
        ("later", Some(NOW + 10), rollback),
        ("gone", None, rollback),
    ] {
        let state = format!("follow-retirement-{name}");
        book.files_state(&state, about, retired(6, from).files(), |_| {});
        book.case(&format!("retirement-{name}"), about, claim, || {
            Play::trust(&state).edit(|play| play.more = vec![("replaces", words(older))])
        });
    }
    let about = "Where the whole is needed, a part is refused";
    let extension = deny(MALFORMED_EXTENSION);
    for name in ["registry", "revocations", "scores"] {
        for (index, count) in [(0, 1), (3, 2)] {
            let vault = with(name, |f| print::extend(f, [shard(index, count)]));
            let case = format!("whole-{name}-shard-{index}-of-{count}");
            super::root::state(book, &case, about, extension, &vault, |_| {});
        }
    }
    let about = "In a whole registry every certificate is read before the first is verified";
    let papers = {
        let mesh = Vault::new().mesh;
        let mut forged = Paper::of(&mesh, &Party::named("alice"));
        forged.signer = super::vault::keeper(1, 0);
        let mut cut = Paper::of(&mesh, &Party::named("bob"));
        cut.bytes = Some(Vec::new());
        [forged, cut]
    };
    let vault = Vault::new().papers(&papers);
    let truncated = deny(MALFORMED_TRUNCATED);
    let name = "whole-registry-read-before-verified";
    super::root::state(book, name, about, truncated, &vault, |_| {});
}
