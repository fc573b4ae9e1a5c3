//! The parts of a served trust state: each by itself, and how they fit together.

use trustmesh::proto::names::Tag;

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::print;
use super::print::POLICY;
use super::print::Print;
use super::print::REGISTRY;
use super::print::REVOCATIONS;
use super::print::SCORES;
use super::print::advanced;
use super::print::hear;
use super::print::shard;
use super::served::NEW;
use super::served::heard;
use super::vault::File;
use super::vault::Paper;
use super::vault::keeper;
use crate::forge::HOUR;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

pub fn write(book: &mut Book) {
    for (kind, name) in [
        (REGISTRY, "registry"),
        (POLICY, "policy"),
        (REVOCATIONS, "revocations"),
        (SCORES, "scores"),
    ] {
        heads(book, kind, name);
    }
    naming(book);
    shards(book);
    counts(book);
    certificates(book);
    lists(book);
    extensions(book);
    windows(book);
}

/// A state with a changed part.
fn with(kind: u64, change: impl FnOnce(&mut File)) -> Print {
    let print = Print::new(1, 1);
    let mut file = print.file(kind);
    change(&mut file);
    // What the file says of its epoch is not what the snapshot says, where it is damaged.
    print
        .part(kind, 0, file)
        .edit(|print| print.named.extend([((kind, 0), 1)]))
}

fn heads(book: &mut Book, kind: u64, name: &str) {
    let mut case = |word: &str, about: &str, claim: Claim, change: fn(&mut File)| {
        heard(
            book,
            &format!("part-{name}-{word}"),
            about,
            claim,
            &with(kind, change),
        );
    };
    let about = "A part is a trust file, signed by the threshold of the role of its kind";
    let bad = deny(BAD_SIGNATURE);
    case("signed-by-the-timestamp", about, bad, |f| {
        f.signers[0].1 = keeper(6, 0)
    });
    case("signed-under-snapshot", about, bad, |f| {
        f.signers[0].2 = Tag::Snapshot
    });
    case("unsigned", about, deny(UNTRUSTED_ROOT_THRESHOLD), |f| {
        f.signers.clear()
    });
    case("other-kind", about, deny(MALFORMED_OUT_OF_RANGE), |f| {
        f.kind = Value::Uint(7)
    });
    case("other-mesh", about, deny(UNTRUSTED_ROOT_OTHER_MESH), |f| {
        f.set(&[1], bin([1; 16]))
    });
    case("no-time", about, deny(MALFORMED_LIFETIME), |f| {
        f.set(&[4], Value::Uint(NOW - HOUR))
    });
    case("trailing", about, deny(MALFORMED_TRAILING_BYTES), |f| {
        f.tail = vec![0]
    });
    let about = "An extension that is not one of this kind of file is refused";
    let extension = deny(MALFORMED_EXTENSION);
    case("ext-3", about, extension, |f| {
        print::extend(f, [print::ext(3, bin([]))])
    });
    case("ext-17", about, extension, |f| {
        print::extend(f, [print::ext(17, bin([]))])
    });
    // A policy has a list of its own (protocol §10.7).
    let nil = match kind {
        POLICY => deny(MALFORMED_WRONG_TYPE),
        _ => extension,
    };
    case("ext-of-nil", about, nil, |f| print::extend(f, [Value::Nil]));
    case("ext-as-nil", about, deny(MALFORMED_WRONG_TYPE), |f| {
        *f.body.items().last_mut().unwrap() = Value::Nil;
    });
}

fn naming(book: &mut Book) {
    let incomplete = deny(STALE_STATE_INCOMPLETE);
    let about = "A part has the epoch and the index by which the snapshot names it";
    for epoch in [0, 2] {
        let print = Print::new(1, 1).edit(|p| p.named.extend([((POLICY, 0), epoch)]));
        heard(
            book,
            &format!("part-named-epoch-{epoch}"),
            about,
            incomplete,
            &print,
        );
    }
    let print = Print::new(1, 1);
    let other = |index: u16| {
        let mut file = print.file(REVOCATIONS);
        print::extend(&mut file, [shard(index, 0)]);
        print.clone().part(REVOCATIONS, 0, file)
    };
    heard(book, "part-index-0", about, Allow, &other(0));
    heard(book, "part-index-1-for-0", about, incomplete, &other(1));
    let about = "The epoch is checked after the whole part";
    let print =
        with(POLICY, |f| f.signers.clear()).edit(|print| print.named.extend([((POLICY, 0), 2)]));
    let few = deny(UNTRUSTED_ROOT_THRESHOLD);
    heard(book, "part-unsigned-of-other-epoch", about, few, &print);
    let about = "Every part but the books is needed";
    for (kind, name) in [
        (REGISTRY, "registry"),
        (POLICY, "policy"),
        (REVOCATIONS, "revocations"),
    ] {
        let print = Print::new(1, 1).edit(|print| drop(print.parts.remove(&(kind, 0))));
        heard(
            book,
            &format!("part-{name}-not-named"),
            about,
            incomplete,
            &print,
        );
    }
}

/// The names of agents whose keys are in shard `index` of `count`.
fn members(index: u16, count: u16) -> Vec<Party> {
    let names = ["alice", "bob", "carol", "dave", "erin", "frank", "grace"];
    let parties = names.map(Party::named).into_iter();
    parties
        .filter(|party| u16::from(party.bytes().0[0]) & (count - 1) == index)
        .collect()
}

/// A shard of the registry with these agents.
fn registry(print: &Print, who: &[Party], extent: Option<(u16, u16)>) -> File {
    let mut file = print.file(REGISTRY);
    let papers = who
        .iter()
        .map(|who| bin(Paper::of(&print.mesh, who).encode()));
    file.set(&[5], list(papers));
    if let Some((index, count)) = extent {
        print::extend(&mut file, [shard(index, count)]);
    }
    file
}

/// A state whose registry is cut in `count` shards.
pub(super) fn cut(mut print: Print, count: u16) -> Print {
    print.parts.remove(&(REGISTRY, 0));
    for index in 0..count {
        let file = registry(&print, &members(index, count), Some((index, count)));
        print = print.part(REGISTRY, index.into(), file);
    }
    print
}

fn shards(book: &mut Book) {
    let about = "A key is in the shard of the low bits of its first byte";
    for count in [1, 2, 4, 256] {
        let print = cut(Print::new(1, 1), count);
        book.case(&format!("shards-{count}"), about, Allow, || {
            let facts = advanced(1, 1, 7, 0);
            print.heard_by(NEW).edit(|play| play.facts = facts)
        });
    }
    let print = Print::new(1, 1);
    let range = deny(MALFORMED_OUT_OF_RANGE);
    let stray = {
        let misplaced = registry(&print, &members(1, 2), Some((0, 2)));
        cut(print.clone(), 2).part(REGISTRY, 0, misplaced)
    };
    heard(book, "shard-with-a-stray-key", about, range, &stray);
    let about = "The number of shards is a power of two up to 256, and an index lies below it";
    for (index, count) in [(0, 0), (0, 3), (0, 512), (1, 1), (2, 2)] {
        let file = registry(&print, &[], Some((index, count)));
        let print = print.clone().part(REGISTRY, 0, file);
        let name = format!("shard-{index}-of-{count}");
        heard(book, &name, about, range, &print);
    }
    let incomplete = deny(STALE_STATE_INCOMPLETE);
    let about = "A registry has as many shards as each of them says";
    let without = |index: u64| {
        cut(Print::new(1, 1), 4).edit(|print| drop(print.parts.remove(&(REGISTRY, index))))
    };
    heard(book, "shards-without-0", about, incomplete, &without(0));
    heard(book, "shards-without-2", about, incomplete, &without(2));
    heard(book, "shards-without-3", about, incomplete, &without(3));
    let mixed = {
        let whole = registry(&print, &[], Some((0, 4)));
        cut(Print::new(1, 1), 2).part(REGISTRY, 0, whole)
    };
    heard(book, "shards-of-two-counts", about, incomplete, &mixed);
    let about = "A key stands in its shard once";
    let alice = Party::named("alice");
    let twice = registry(&print, &[alice.clone(), alice], None);
    let twice = print.clone().part(REGISTRY, 0, twice);
    heard(book, "key-twice", about, deny(MALFORMED_DUPLICATE), &twice);
}

fn counts(book: &mut Book) {
    let incomplete = deny(STALE_STATE_INCOMPLETE);
    let part = |print: Print, kind: u64, index: u16, count: u16| {
        let mut file = print.file(kind);
        print::extend(&mut file, [shard(index, count)]);
        print.part(kind, index.into(), file)
    };
    let about = "There is one policy";
    let print = Print::new(1, 1);
    let policy = print.file(POLICY);
    let second = print.part(POLICY, 1, policy);
    heard(book, "policies-two", about, incomplete, &second);
    let about = "Segments of revocations are numbered from 0 without gap, whatever count they say";
    let three = (0..3).fold(Print::new(1, 1), |p, index| part(p, REVOCATIONS, index, 0));
    heard(book, "segments-three", about, Allow, &three);
    let counted = part(part(Print::new(1, 1), REVOCATIONS, 0, 9), REVOCATIONS, 1, 1);
    heard(book, "segments-of-any-count", about, Allow, &counted);
    let gap = part(Print::new(1, 1), REVOCATIONS, 2, 0);
    heard(book, "segments-with-a-gap", about, incomplete, &gap);
    let about = "Scores have as many parts as each of them says";
    let two = part(part(Print::new(1, 1), SCORES, 0, 2), SCORES, 1, 2);
    heard(book, "scores-of-two", about, Allow, &two);
    let three = part(part(Print::new(1, 1), SCORES, 0, 3), SCORES, 1, 3);
    heard(book, "scores-two-of-three", about, incomplete, &three);
    let second = part(Print::new(1, 1), SCORES, 1, 2);
    heard(book, "scores-second-alone", about, incomplete, &second);
    let any = (0..3).fold(Print::new(1, 1), |p, index| part(p, SCORES, index, 3));
    heard(book, "scores-of-three", about, Allow, &any);
}

/// A registrar signed the shard as a whole; a certificate in it that does not verify is nobody's.
fn certificates(book: &mut Book) {
    let about = "In a part, a certificate that does not verify leaves its key unknown";
    let print = Print::new(1, 1);
    let mut case = |name: &str, claim: Claim, keys: u64, change: fn(&mut Paper)| {
        let mut bob = Paper::of(&print.mesh, &Party::named("bob"));
        change(&mut bob);
        let alice = Paper::of(&print.mesh, &Party::named("alice"));
        let file = [alice, bob].map(|paper| bin(paper.encode()));
        let print = with(REGISTRY, |f| f.set(&[5], list(file)));
        book.case(&format!("certificate-{name}"), about, claim, || {
            let facts = advanced(1, 1, keys, 0);
            print.heard_by(NEW).edit(|play| play.facts = facts)
        });
    };
    case("honest", Allow, 2, |_| {});
    case("by-no-registrar", Allow, 1, |p| p.signer = keeper(1, 0));
    case("not-possessed", Allow, 1, |p| p.possessor = keeper(1, 0));
    case("of-another-mesh", Allow, 1, |p| {
        p.body = p.body.with(&[1], bin([1; 16]))
    });
    case("registrar-1", Allow, 1, |p| p.registrar = Value::Uint(1));
    case("with-ext", deny(MALFORMED_EXTENSION), 0, |p| {
        p.body = p.body.with(&[9], list([Value::Nil]))
    });
    case("empty", deny(MALFORMED_TRUNCATED), 0, |p| {
        p.bytes = Some(Vec::new())
    });
    case("513-bytes", deny(TOO_LARGE), 0, |p| {
        p.bytes = Some(vec![0; 513])
    });
}

/// Content of segments adds up.
fn lists(book: &mut Book) {
    let about = "What any segment revokes is revoked, once";
    let links = |firsts: &[u8]| list(firsts.iter().map(|first| bin([*first; 32])));
    let segment = |print: Print, index: u16, firsts: &[u8]| {
        let mut file = print.file(REVOCATIONS);
        file.set(&[5], links(firsts));
        print::extend(&mut file, [shard(index, 0)]);
        print.part(REVOCATIONS, index.into(), file)
    };
    for (name, one, other, revoked) in [
        ("disjoint", &[1u8, 2][..], &[3u8][..], 3),
        ("empty-first", &[], &[3], 1),
        ("empty-last", &[1, 2], &[], 2),
    ] {
        let print = segment(segment(Print::new(1, 1), 0, one), 1, other);
        book.case(&format!("segments-{name}"), about, Allow, || {
            let facts = advanced(1, 1, 2, revoked);
            print.heard_by(NEW).edit(|play| play.facts = facts)
        });
    }
    let order = deny(MALFORMED_DUPLICATE);
    let about = "Lists in a part are in order, as in a whole file";
    let print = with(REVOCATIONS, |f| f.set(&[5], links(&[2, 1])));
    heard(book, "segment-descending", about, order, &print);
    let about = "A score in a part is at most 1,000";
    let print = with(SCORES, |f| {
        f.set(&[5], list([list([text("alice"), Value::Uint(1_001)])]))
    });
    let range = deny(MALFORMED_OUT_OF_RANGE);
    heard(book, "part-score-1001", about, range, &print);
}

fn extensions(book: &mut Book) {
    let extension = deny(MALFORMED_EXTENSION);
    let about = "Extensions are critical, ascending, and each of its form";
    let mut case = |name: &str, claim: Claim, list: Vec<Value>| {
        let print = with(REVOCATIONS, |f| print::extend(f, list));
        heard(book, &format!("part-ext-{name}"), about, claim, &print);
    };
    let late = |value: Value| print::ext(2, value);
    let one = bin(list([list([bin([7; 32]), Value::Uint(NOW)])]).encode());
    case("shard", Allow, vec![shard(0, 0)]);
    case("none", Allow, vec![]);
    case("shard-twice", extension, vec![shard(0, 0), shard(0, 0)]);
    case(
        "descending",
        extension,
        vec![shard(0, 0), late(one.clone())],
    );
    case(
        "shard-3-bytes",
        extension,
        vec![print::ext(16, bin([0; 3]))],
    );
    case(
        "shard-5-bytes",
        extension,
        vec![print::ext(16, bin([0; 5]))],
    );
    case(
        "shard-as-text",
        extension,
        vec![print::ext(16, text("0000"))],
    );
    case("shard-not-critical", extension, {
        vec![list([Value::Uint(16), Value::Bool(false), bin([0; 4])])]
    });
    case("of-two-values", extension, {
        vec![list([Value::Uint(16), Value::Bool(true)])]
    });
    case("id-0", extension, vec![print::ext(0, bin([]))]);
    case("id-65536", extension, vec![print::ext(65_536, bin([]))]);
    let about = "Only revocations retire keys";
    for (kind, name) in [(REGISTRY, "registry"), (SCORES, "scores")] {
        let print = with(kind, |f| print::extend(f, [late(one.clone())]));
        let name = format!("part-{name}-ext-2");
        heard(book, &name, about, extension, &print);
    }
    let about = "A policy is one part, and says nothing of it";
    let print = with(POLICY, |f| print::extend(f, [shard(0, 1)]));
    heard(book, "part-policy-ext-16", about, extension, &print);
    let about = "Retirements and shard stand together";
    let print = with(REVOCATIONS, |f| {
        print::extend(f, [late(one.clone()), shard(0, 0)])
    });
    book.case("part-ext-both", about, Allow, || {
        let facts = advanced(1, 1, 2, 1);
        print.heard_by(NEW).edit(|play| play.facts = facts)
    });
}

fn windows(book: &mut Book) {
    let about = "There is an instant at which all parts of a kind hold";
    let segment = |print: Print, index: u16, from: u64, until: u64| {
        let mut file = print.file(REVOCATIONS);
        file.set(&[3], Value::Uint(from));
        file.set(&[4], Value::Uint(until));
        print::extend(&mut file, [shard(index, 0)]);
        print.part(REVOCATIONS, index.into(), file)
    };
    let incomplete = deny(STALE_STATE_INCOMPLETE);
    for (name, from, claim) in [("meet", NOW - 1, Allow), ("apart", NOW, incomplete)] {
        let print = segment(Print::new(1, 1), 0, NOW - HOUR, NOW);
        let print = segment(print, 1, from, NOW + HOUR);
        heard(book, &format!("windows-{name}"), about, claim, &print);
    }
    let about = "Windows of different kinds need not meet to be put together";
    let print = with(POLICY, |f| {
        f.set(&[3], Value::Uint(1));
        f.set(&[4], Value::Uint(2));
    });
    heard(book, "windows-of-two-kinds", about, Allow, &print);
    let about = "A whole file stands for the one part of its kind";
    book.case("whole-registry", about, Allow, || {
        let print = Print::new(1, 1);
        hear(NEW, print.bulletin(), &[]).edit(|play| play.facts = advanced(1, 1, 2, 0))
    });
}
