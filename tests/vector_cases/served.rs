//! Timestamp, snapshot and bulletin of a served trust state, heard by a reader that holds nothing.

use trustmesh::proto::names::Tag;

use super::Allow;
use super::Book;
use super::Claim;
use super::Held;
use super::codes::*;
use super::deny;
use super::files::MONTH;
use super::print;
use super::print::BOOKS;
use super::print::POLICY;
use super::print::Print;
use super::print::SCORES;
use super::print::TTL;
use super::print::advanced;
use super::print::digest;
use super::print::framed;
use super::print::hear;
use super::served_parts;
use super::vault::File;
use super::vault::keeper;
use super::vault::role;
use crate::forge::HOUR;
use crate::forge::NOW;
use crate::forge::Value;
use crate::forge::value::bin;
use crate::forge::value::list;

/// A reader that knows the first root and nothing else.
pub const NEW: &str = "served-new";

/// Adds the case that a new reader hears a state.
pub(super) fn heard(book: &mut Book, name: &str, about: &str, claim: Claim, print: &Print) {
    book.case(name, about, claim, || print.heard_by(NEW));
}

pub fn write(book: &mut Book) {
    book.held_state(
        NEW,
        Held {
            about: "The first root of a served mesh, and nothing heard yet".into(),
            root: print::root().encode(),
            later: Vec::new(),
            bulletin: None,
        },
    );
    let about = "A timestamp names a snapshot, which names registry, policy and revocations";
    heard(book, "accepted", about, Allow, &Print::new(1, 1));
    heads(book, "timestamp", |print, change| print.timestamp(change));
    heads(book, "snapshot", |print, change| print.snapshot(change));
    times(book);
    naming(book);
    lists(book);
    bulletins(book);
    flips(book);
    served_parts::write(book);
}

type Edit = fn(Print, fn(&mut File)) -> Print;

/// What both files of the timestamp role have in common.
fn heads(book: &mut Book, file: &str, edit: Edit) {
    let mut case = |name: &str, about: &str, claim: Claim, change: fn(&mut File)| {
        let print = edit(Print::new(1, 1), change);
        heard(book, &format!("{file}-{name}"), about, claim, &print);
    };
    let about = "A file of the timestamp role begins as every trust file does";
    case("magic", about, deny(MALFORMED_BAD_MAGIC), |f| {
        f.magic = b"TMSH".to_vec()
    });
    case("frame-version-2", about, deny(UNSUPPORTED_VERSION), |f| {
        f.version = Value::Uint(2)
    });
    case("kind-2", about, deny(MALFORMED_OUT_OF_RANGE), |f| {
        f.kind = Value::Uint(2)
    });
    case("kind-exchanged", about, deny(MALFORMED_OUT_OF_RANGE), |f| {
        f.kind = match f.kind {
            Value::Uint(6) => Value::Uint(7),
            _ => Value::Uint(6),
        }
    });
    case("trailing", about, deny(MALFORMED_TRAILING_BYTES), |f| {
        f.tail = vec![0]
    });
    let about = "The timestamp role signs it, and no other, under the tag of its kind";
    let bad = deny(BAD_SIGNATURE);
    case("signed-by-the-root", about, bad, |f| {
        f.signers[0].1 = keeper(1, 0)
    });
    case("signed-by-the-registrar", about, bad, |f| {
        f.signers[0].1 = keeper(3, 0)
    });
    case("signed-under-the-other-tag", about, bad, |f| {
        f.signers[0].2 = match f.signers[0].2 {
            Tag::Timestamp => Tag::Snapshot,
            _ => Tag::Timestamp,
        }
    });
    case("signed-under-trust-part", about, bad, |f| {
        f.signers[0].2 = Tag::TrustPart
    });
    let few = deny(UNTRUSTED_ROOT_THRESHOLD);
    case("unsigned", about, few, |f| f.signers.clear());
    case("signed-by-position-1", about, few, |f| {
        f.signers[0].0 = Value::Uint(1)
    });
    let about = "The signatures are checked before the body is decoded";
    case("bad-signature-and-body", about, bad, |f| {
        f.signers[0].1 = keeper(1, 0);
        f.body = Value::Raw(vec![0xc0]);
    });
    let about = "It names version, mesh, epoch and window";
    case("v-2", about, deny(UNSUPPORTED_VERSION), |f| {
        f.set(&[0], Value::Uint(2))
    });
    case("other-mesh", about, deny(UNTRUSTED_ROOT_OTHER_MESH), |f| {
        f.set(&[1], bin([1; 16]))
    });
    case("mesh-15-bytes", about, deny(MALFORMED_WRONG_LENGTH), |f| {
        f.set(&[1], bin([1; 15]))
    });
    case("epoch-as-nil", about, deny(MALFORMED_WRONG_TYPE), |f| {
        f.set(&[2], Value::Nil)
    });
    case("no-time", about, deny(MALFORMED_LIFETIME), |f| {
        f.set(&[4], Value::Uint(NOW - HOUR))
    });
    let about = "It has no extensions, and nothing follows its last value";
    let extension = deny(MALFORMED_EXTENSION);
    case("ext-16", about, extension, |f| {
        print::extend(f, [print::shard(0, 1)])
    });
    case("ext-2", about, extension, |f| {
        print::extend(f, [print::ext(2, bin([0x90]))])
    });
    case("ext-of-nil", about, extension, |f| {
        print::extend(f, [Value::Nil])
    });
    case("ext-as-nil", about, deny(MALFORMED_WRONG_TYPE), |f| {
        *f.body.items().last_mut().unwrap() = Value::Nil;
    });
    case("without-ext", about, deny(MALFORMED_WRONG_LENGTH), |f| {
        f.body.items().pop();
    });
    case("with-one-more", about, deny(MALFORMED_WRONG_LENGTH), |f| {
        f.body.items().push(Value::Nil);
    });
    case(
        "body-trailing",
        about,
        deny(MALFORMED_TRAILING_BYTES),
        |f| {
            f.body = Value::Raw([f.body.encode(), vec![0]].concat());
        },
    );
}

fn times(book: &mut Book) {
    let about = "A timestamp lives for 1 ms to 20 s, whatever the time is";
    let lifetime = deny(MALFORMED_LIFETIME);
    for (name, until, claim) in [
        ("1-ms", NOW + 1, Allow),
        ("20-s", NOW + TTL, Allow),
        ("20-s-and-1-ms", NOW + TTL + 1, lifetime),
        ("30-days-and-1-ms", NOW + MONTH + 1, lifetime),
    ] {
        let print = Print::new(1, 1).timestamp(move |f| f.set(&[4], Value::Uint(until)));
        heard(book, &format!("timestamp-of-{name}"), about, claim, &print);
    }
    let print = Print::new(1, 1).edit(|print| print.issued = 1);
    let about = "Hearing looks at no clock";
    heard(book, "timestamp-of-long-ago", about, Allow, &print);
    let about = "A snapshot holds for up to 30 days";
    for (name, until, claim) in [
        ("30-days", NOW - HOUR + MONTH, Allow),
        ("30-days-and-1-ms", NOW - HOUR + MONTH + 1, lifetime),
    ] {
        let print = Print::new(1, 1).snapshot(move |f| f.set(&[4], Value::Uint(until)));
        heard(book, &format!("snapshot-of-{name}"), about, claim, &print);
    }
    let about = "A role of two keys signs with as many as its threshold";
    let both = [keeper(6, 0), keeper(6, 1)];
    let mut root = print::root();
    root.set(&[3, 5], role(6, 2, &both));
    book.held_state(
        "served-by-two",
        Held {
            about: "A served mesh whose timestamp role needs two keys".into(),
            root: root.encode(),
            later: Vec::new(),
            bulletin: None,
        },
    );
    let twice = |f: &mut File| {
        let mut second = f.signers[0].clone();
        (second.0, second.1) = (Value::Uint(1), keeper(6, 1));
        f.signers.push(second);
    };
    let one = Print::under(&root, 1, 1);
    let rows = [
        (
            "by-two",
            one.clone().timestamp(twice).snapshot(twice),
            Allow,
        ),
        (
            "timestamp-by-one-of-two",
            one.clone().snapshot(twice),
            deny(UNTRUSTED_ROOT_THRESHOLD),
        ),
        (
            "snapshot-by-one-of-two",
            one.timestamp(twice),
            deny(UNTRUSTED_ROOT_THRESHOLD),
        ),
    ];
    for (name, print, claim) in rows {
        book.case(name, about, claim, || print.heard_by("served-by-two"));
    }
}

/// What the timestamp says of snapshot and root.
fn naming(book: &mut Book) {
    let mut case = |name: &str, about: &str, claim: Claim, change: fn(&mut File)| {
        heard(
            book,
            &format!("timestamp-{name}"),
            about,
            claim,
            &Print::new(1, 1).timestamp(change),
        );
    };
    let about = "A timestamp names version and id of the root it is opened under";
    let lineage = deny(UNTRUSTED_ROOT_LINEAGE);
    case("of-root-2", about, lineage, |f| f.set(&[7], Value::Uint(2)));
    case("of-root-0", about, lineage, |f| f.set(&[7], Value::Uint(0)));
    case("of-another-root", about, lineage, |f| {
        f.set(&[8], bin([7; 32]))
    });
    case(
        "root-version-2-32",
        about,
        deny(MALFORMED_OUT_OF_RANGE),
        |f| f.set(&[7], Value::Uint(1 << 32)),
    );
    case(
        "root-id-31-bytes",
        about,
        deny(MALFORMED_WRONG_LENGTH),
        |f| f.set(&[8], bin([7; 31])),
    );
    let about = "The snapshot is the one the timestamp names, by digest and epoch";
    let incomplete = deny(STALE_STATE_INCOMPLETE);
    case("other-digest", about, incomplete, |f| {
        f.set(&[6], bin([7; 32]))
    });
    case("other-epoch", about, incomplete, |f| {
        f.set(&[5], Value::Uint(2))
    });
    case(
        "digest-31-bytes",
        about,
        deny(MALFORMED_WRONG_LENGTH),
        |f| f.set(&[6], bin([7; 31])),
    );
    case(
        "snapshot-epoch-as-nil",
        about,
        deny(MALFORMED_WRONG_TYPE),
        |f| f.set(&[5], Value::Nil),
    );
    let about = "The digest is looked at before the snapshot is read";
    book.case("snapshot-not-the-named", about, incomplete, || {
        let (print, other) = (Print::new(1, 1), Print::new(1, 2));
        let tree = print.tree([]).with(&[2], bin(other.snapshot_file()));
        hear(NEW, framed(&tree), &[])
    });
    book.case("snapshot-garbage", about, incomplete, || {
        let tree = Print::new(1, 1).tree([]).with(&[2], bin(b"garbage"));
        hear(NEW, framed(&tree), &[])
    });
    let about = "The root is looked at before the snapshot";
    book.case("other-root-and-no-snapshot", about, lineage, || {
        let print = Print::new(1, 1).timestamp(|f| f.set(&[8], bin([7; 32])));
        hear(NEW, framed(&print.tree([]).with(&[2], bin([]))), &[])
    });
}

/// The list of parts in a snapshot.
fn lists(book: &mut Book) {
    let mut case = |name: &str, about: &str, claim: Claim, change: fn(&mut File)| {
        heard(
            book,
            &format!("parts-{name}"),
            about,
            claim,
            &Print::new(1, 1).snapshot(change),
        );
    };
    let part = |kind: u64, index: u64| {
        let [kind, index, epoch] = [kind, index, 1].map(Value::Uint);
        list([kind, index, epoch, bin([7; 32])])
    };
    let range = deny(MALFORMED_OUT_OF_RANGE);
    let about = "A part is of kind 2, 3, 4, 5 or 8";
    case("kind-1", about, range, |f| {
        f.set(&[5, 0, 0], Value::Uint(1))
    });
    case("kind-6", about, range, |f| {
        f.set(&[5, 2, 0], Value::Uint(6))
    });
    case("kind-9", about, range, |f| {
        f.set(&[5, 2, 0], Value::Uint(9))
    });
    let about = "An index is a u16";
    case("index-65536", about, range, |f| {
        f.set(&[5, 0, 1], Value::Uint(65_536))
    });
    let about = "Parts are strictly ascending by kind and index";
    let order = deny(MALFORMED_DUPLICATE);
    case("twice", about, order, |f| {
        let first = f.body.at(&[5, 0]).clone();
        f.body.items()[5].items().insert(0, first);
    });
    case("descending", about, order, |f| {
        f.body.items()[5].items().swap(0, 1)
    });
    let about = "A part is an array of kind, index, epoch and digest";
    let length = deny(MALFORMED_WRONG_LENGTH);
    case("of-three", about, length, |f| {
        f.body.items()[5].items()[0].items().pop();
    });
    case("of-five", about, length, |f| {
        f.body.items()[5].items()[0].items().push(Value::Nil)
    });
    case("digest-33-bytes", about, length, |f| {
        f.set(&[5, 0, 3], bin([7; 33]))
    });
    case("as-nil", about, deny(MALFORMED_WRONG_TYPE), |f| {
        f.set(&[5], Value::Nil)
    });
    let about = "There are at most 1,024 parts";
    for (count, claim) in [(1_024, Allow), (1_025, deny(TOO_LARGE))] {
        let print = Print::new(1, 1).snapshot(move |f| {
            let parts = f.body.items()[5].items();
            let more = count - parts.len() as u64;
            parts.extend((0..more).map(|index| part(BOOKS, index)));
        });
        heard(book, &format!("parts-{count}"), about, claim, &print);
    }
    let about = "No parts are no state";
    let print = Print::new(1, 1).snapshot(|f| f.set(&[5], list([])));
    let incomplete = deny(STALE_STATE_INCOMPLETE);
    heard(book, "parts-none", about, incomplete, &print);
}

fn bulletins(book: &mut Book) {
    let mut case = |name: &str, about: &str, code: u16, bytes: Vec<u8>| {
        book.case(&format!("bulletin-{name}"), about, deny(code), || {
            hear(NEW, bytes, &[])
        });
    };
    let print = Print::new(1, 1);
    let files = || print.parts.values().cloned();
    let (whole, tree) = (print.bulletin(), print.tree(files()));
    let about = "A bulletin begins with TMBU and is an array of four";
    case("empty", about, MALFORMED_BAD_MAGIC, Vec::new());
    case("magic-of-a-file", about, MALFORMED_BAD_MAGIC, {
        [&b"TMTS"[..], &tree.encode()].concat()
    });
    case("magic-alone", about, MALFORMED_TRUNCATED, b"TMBU".to_vec());
    case("frame-version-2", about, UNSUPPORTED_VERSION, {
        framed(&tree.with(&[0], Value::Uint(2)))
    });
    case("of-three", about, MALFORMED_WRONG_LENGTH, {
        let mut tree = tree.clone();
        tree.items().pop();
        framed(&tree)
    });
    case("of-five", about, MALFORMED_WRONG_LENGTH, {
        let mut tree = tree.clone();
        tree.items().push(Value::Nil);
        framed(&tree)
    });
    case("timestamp-as-nil", about, MALFORMED_WRONG_TYPE, {
        framed(&tree.with(&[1], Value::Nil))
    });
    case("timestamp-as-text", about, MALFORMED_WRONG_TYPE, {
        framed(&tree.with(&[1], Value::Str(b"now".to_vec())))
    });
    case("parts-as-nil", about, MALFORMED_WRONG_TYPE, {
        framed(&tree.with(&[3], Value::Nil))
    });
    case("trailing", about, MALFORMED_TRAILING_BYTES, {
        [&whole[..], &[0]].concat()
    });
    case(
        "cut",
        about,
        MALFORMED_TRUNCATED,
        whole[..whole.len() - 1].to_vec(),
    );
    case("length-longer", about, MALFORMED_NOT_CANONICAL, {
        let longer = Value::Raw(vec![0xdd, 0, 0, 0, 0]);
        framed(&tree.with(&[3], longer))
    });
    let about = "A bulletin has at most 1,024 parts";
    case("of-1025-parts", about, TOO_LARGE, {
        framed(&tree.with(&[3], list((0..1_025).map(|_| bin([])))))
    });
    book.case("bulletin-of-1024-parts", about, Allow, || {
        let more = (0..1_021).map(|_| bytes::Bytes::new());
        let bytes = framed(&print.tree(files().chain(more)));
        hear(NEW, bytes, &[]).edit(|play| play.facts = advanced(1, 1, 2, 0))
    });
    let about = "Whatever is in a bulletin besides is not looked at";
    book.case("bulletin-with-garbage", about, Allow, || {
        let more = [b"garbage".to_vec().into()];
        let bytes = framed(&print.tree(files().chain(more)));
        hear(NEW, bytes, &[]).edit(|play| play.facts = advanced(1, 1, 2, 0))
    });
    let about =
        "A part that is not there is asked for, by its digest, in the order of the snapshot";
    let digests: Vec<_> = print.parts.values().map(|file| digest(file)).collect();
    let lacking = |missing: &[[u8; 32]], store: Vec<bytes::Bytes>| {
        hear(NEW, print.bare(), &store).edit(|play| play.facts = print::missing(missing))
    };
    book.case("missing-all", about, Allow, || lacking(&digests, vec![]));
    book.case("missing-one", about, Allow, || {
        lacking(&digests[1..2], {
            let policy = &print.parts[&(POLICY, 0)];
            files().filter(|file| file != policy).collect()
        })
    });
    let about = "Where a part comes from makes no difference";
    book.case("fetched", about, Allow, || {
        let store: Vec<_> = files().collect();
        hear(NEW, print.bare(), &store).edit(|play| play.facts = advanced(1, 1, 2, 0))
    });
    let about = "A fault in a part that is there counts for more than one that is missing";
    book.case("missing-and-faulty", about, deny(BAD_SIGNATURE), || {
        let print = Print::new(1, 1).with(4, |f| f.signers[0].1 = keeper(1, 0));
        let revocations = print.parts[&(4, 0)].clone();
        hear(NEW, print.bare(), &[revocations])
    });
    let about = "Books are nobody's but the verifier service's: a reader neither asks nor looks";
    let books = print.clone().part(BOOKS, 0, print.file(BOOKS));
    heard(book, "books-not-sent", about, Allow, &books);
    let forged = {
        let mut file = print.file(BOOKS);
        file.signers.clear();
        print.clone().part(BOOKS, 0, file)
    };
    heard(book, "books-unsigned", about, Allow, &forged);
    let about = "Scores are there or not";
    let scored = print.clone().part(SCORES, 0, print.file(SCORES));
    heard(book, "scores", about, Allow, &scored);
}

/// One bit turned over on the way.
fn flips(book: &mut Book) {
    let print = Print::new(1, 1);
    let turned = |file: &[u8], at: usize| {
        let mut file = file.to_vec();
        file[at] ^= 1;
        bin(file)
    };
    let about = "No bit of a timestamp turns over unnoticed";
    let file = print.time_file();
    // Magic, array, version, kind and the head of the body come before it, the signature is last.
    let (body, signature) = (9, file.len() - 64);
    for (word, at) in [
        ("body-head", body),
        ("mesh", body + 5),
        ("epoch", body + 20),
        ("made", body + 29),
        ("snapshot-digest", body + 50),
        ("root-id", body + 100),
        ("signature-r", signature),
        ("signature-s", signature + 32),
        ("signature-last", signature + 63),
    ] {
        let name = format!("timestamp-flip-{word}");
        book.case(&name, about, deny(BAD_SIGNATURE), || {
            let files = print.parts.values().cloned();
            hear(
                NEW,
                framed(&print.tree(files).with(&[1], turned(&file, at))),
                &[],
            )
        });
    }
    let about = "No bit of a snapshot turns over unnoticed";
    let file = print.snapshot_file();
    for at in [0, 9, file.len() / 2, file.len() - 64, file.len() - 1] {
        let incomplete = deny(STALE_STATE_INCOMPLETE);
        book.case(&format!("snapshot-flip-{at}"), about, incomplete, || {
            let files = print.parts.values().cloned();
            hear(
                NEW,
                framed(&print.tree(files).with(&[2], turned(&file, at))),
                &[],
            )
        });
    }
    let about = "A part in which a bit turned over is another file, and the true one is missing";
    let policy = &print.parts[&(POLICY, 0)];
    for at in [0, 20, policy.len() - 1] {
        book.case(&format!("part-flip-{at}"), about, Allow, || {
            let index = print.parts.keys().position(|key| *key == (POLICY, 0));
            let files = print.parts.values().cloned();
            let tree = print
                .tree(files)
                .with(&[3, index.unwrap()], turned(policy, at));
            let lacking = print::missing(&[digest(policy)]);
            hear(NEW, framed(&tree), &[]).edit(|play| play.facts = lacking)
        });
    }
}
