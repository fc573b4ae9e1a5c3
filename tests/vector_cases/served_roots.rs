//! A trust root that follows another: of the same mesh, signed by the keys of both.

use trustmesh::proto::names::Tag;

use super::Allow;
use super::Book;
use super::Claim;
use super::Held;
use super::codes::*;
use super::deny;
use super::play::Play;
use super::print;
use super::print::Print;
use super::print::id_of;
use super::print::succeed;
use super::root::LONGEST;
use super::served::NEW;
use super::vault::File;
use super::vault::keeper;
use super::vault::role;
use crate::forge::HOUR;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::value::bin;
use crate::forge::value::list;

/// The extension that names mesh and root before.
pub(super) fn lineage(mesh: &[u8], previous: [u8; 32]) -> Value {
    print::ext(2, bin([mesh, &previous].concat()))
}

/// An honest root after `before`, of the mesh of the first one, with another key for the root
/// role.
pub(super) fn after(first: &File, before: &File, version: u64) -> File {
    let mut root = first.clone();
    let key = |version: u64| keeper(1, version as usize - 1);
    root.set(&[1], Value::Uint(version));
    root.set(&[3, 0], role(1, 1, &[key(version)]));
    let mesh = &id_of(first)[..16];
    root.set(&[6], list([lineage(mesh, id_of(before))]));
    let signed = |position: u64, key: Party| (Value::Uint(position), key, Tag::TrustRoot);
    root.signers = vec![signed(0, key(version)), signed(128, key(version - 1))];
    root
}

/// The second root.
pub(super) fn second() -> File {
    let first = print::root();
    after(&first, &first, 2)
}

pub fn write(book: &mut Book) {
    let about = "The next root is signed by the root keys before and after";
    book.case("accepted", about, Allow, || {
        succeed(NEW, &second().encode(), 2)
    });
    fields(book);
    lineages(book);
    signatures(book);
    thresholds(book);
    sequences(book);
}

fn case(book: &mut Book, name: &str, about: &str, claim: Claim, change: fn(&mut File)) {
    let mut root = second();
    change(&mut root);
    book.case(name, about, claim, || succeed(NEW, &root.encode(), 2));
}

fn fields(book: &mut Book) {
    let about = "The version of the next root is one more";
    for version in [0, 1, 3, 258] {
        let mut root = second();
        root.set(&[1], Value::Uint(version));
        let name = format!("version-{version}");
        let claim = deny(UNSUPPORTED_VERSION);
        book.case(&name, about, claim, || succeed(NEW, &root.encode(), 2));
    }
    let about = "What holds of a first root holds of a later one";
    case(book, "window-400-days", about, Allow, |f| {
        f.set(&[5], Value::Uint(NOW - HOUR + LONGEST))
    });
    let lifetime = deny(MALFORMED_LIFETIME);
    case(book, "window-too-long", about, lifetime, |f| {
        f.set(&[5], Value::Uint(NOW - HOUR + LONGEST + 1))
    });
    let magic = deny(MALFORMED_BAD_MAGIC);
    case(book, "magic", about, magic, |f| f.magic = b"TMBU".to_vec());
    let kind = deny(MALFORMED_OUT_OF_RANGE);
    case(book, "kind-2", about, kind, |f| f.kind = Value::Uint(2));
    let trailing = deny(MALFORMED_TRAILING_BYTES);
    case(book, "trailing", about, trailing, |f| f.tail = vec![0]);
    let about = "A later root may have another name, other roles and other keys";
    case(book, "other-name", about, Allow, |f| {
        f.set(&[2], Value::Str(b"renamed".to_vec()))
    });
    case(book, "without-scores", about, Allow, |f| {
        f.body.items()[3].items().pop();
    });
    case(book, "other-registrar", about, Allow, |f| {
        f.set(&[3, 2], role(3, 1, &[keeper(3, 1)]))
    });
    case(book, "same-keys", about, Allow, |f| {
        f.set(&[3, 0], role(1, 1, &[keeper(1, 0)]));
        f.signers[0].1 = keeper(1, 0);
    });
}

fn lineages(book: &mut Book) {
    let about = "A later root names the mesh and the root before it";
    let broken = deny(UNTRUSTED_ROOT_LINEAGE);
    case(book, "no-lineage", about, broken, |f| f.set(&[6], list([])));
    case(book, "other-mesh", about, broken, |f| {
        f.set(&[6], list([lineage(&[7; 16], id_of(&print::root()))]))
    });
    case(book, "other-before", about, broken, |f| {
        let mesh = id_of(&print::root());
        f.set(&[6], list([lineage(&mesh[..16], [7; 32])]))
    });
    let about = "The lineage is looked at before any signature";
    case(book, "other-before-unsigned", about, broken, |f| {
        f.set(&[6], list([lineage(&[7; 16], [7; 32])]));
        f.signers.clear();
    });
    let about = "The lineage has 48 bytes";
    let length = deny(MALFORMED_WRONG_LENGTH);
    case(book, "lineage-47-bytes", about, length, |f| {
        f.set(&[6], list([print::ext(2, bin([0; 47]))]))
    });
    case(book, "lineage-49-bytes", about, length, |f| {
        f.set(&[6], list([print::ext(2, bin([0; 49]))]))
    });
    let about = "The extensions of a later root are 1 and 2, critical, ascending, once";
    let extension = deny(MALFORMED_EXTENSION);
    case(book, "extension-3", about, extension, |f| {
        f.set(&[6], list([print::ext(3, bin([]))]))
    });
    case(book, "lineage-not-critical", about, extension, |f| {
        let value = bin([0; 48]);
        f.set(
            &[6],
            list([list([Value::Uint(2), Value::Bool(false), value])]),
        )
    });
    case(book, "lineage-twice", about, extension, |f| {
        let one = f.body.at(&[6, 0]).clone();
        f.body.items()[6].items().push(one);
    });
    case(book, "dev-after-lineage", about, extension, |f| {
        f.body.items()[6].items().push(print::ext(1, bin([])))
    });
    case(book, "dev-twice", about, extension, |f| {
        let dev = print::ext(1, bin([]));
        f.set(&[6], list([dev.clone(), dev]))
    });
    let large = deny(TOO_LARGE);
    case(book, "extensions-three", about, large, |f| {
        let dev = print::ext(1, bin([]));
        let one = f.body.at(&[6, 0]).clone();
        f.set(&[6], list([dev, one.clone(), one]))
    });
    let about = "A mesh turns neither into one for development nor out of it";
    let dev = deny(UNTRUSTED_ROOT_DEV_MESH);
    case(book, "becomes-development", about, dev, |f| {
        f.body.items()[6].items().insert(0, print::ext(1, bin([])));
    });
    let about = "A first root has no lineage";
    let mut first = print::root();
    first.set(&[6], list([lineage(&[7; 16], [7; 32])]));
    super::root::state(
        book,
        "first-with-lineage",
        about,
        extension,
        &super::vault::Vault::under(first),
        |_| {},
    );
}

fn signatures(book: &mut Book) {
    let few = deny(UNTRUSTED_ROOT_THRESHOLD);
    let bad = deny(BAD_SIGNATURE);
    let about = "Positions below 128 are the root's own keys, from 128 on those of the root before";
    case(book, "by-the-new-alone", about, few, |f| {
        f.signers.pop();
    });
    case(book, "by-the-old-alone", about, few, |f| {
        f.signers.remove(0);
    });
    case(book, "unsigned", about, few, |f| f.signers.clear());
    case(book, "by-own-position-1", about, few, |f| {
        f.signers[0].0 = Value::Uint(1)
    });
    case(book, "by-position-127", about, few, |f| {
        f.signers[0].0 = Value::Uint(127)
    });
    case(book, "by-position-129", about, few, |f| {
        f.signers[1].0 = Value::Uint(129)
    });
    case(book, "by-position-255", about, few, |f| {
        f.signers[1].0 = Value::Uint(255)
    });
    case(book, "own-by-another", about, bad, |f| {
        f.signers[0].1 = keeper(3, 0)
    });
    case(book, "before-by-another", about, bad, |f| {
        f.signers[1].1 = keeper(3, 0)
    });
    case(book, "keys-exchanged", about, bad, |f| {
        let (one, other) = (f.signers[0].1.clone(), f.signers[1].1.clone());
        (f.signers[0].1, f.signers[1].1) = (other, one);
    });
    case(book, "under-another-tag", about, bad, |f| {
        f.signers[1].2 = Tag::Snapshot
    });
    let about = "Signatures are in the order of their positions";
    let order = deny(MALFORMED_DUPLICATE);
    case(book, "descending", about, order, |f| f.signers.reverse());
    case(book, "same-twice", about, order, |f| {
        let last = f.signers[1].clone();
        f.signers.push(last);
    });
    let about = "A later root has at most 32 signatures";
    for (count, claim) in [(32u64, few), (33, deny(TOO_LARGE))] {
        let mut root = second();
        let one = root.signers[0].clone();
        root.signers = (0..count)
            .map(|n| {
                let mut signer = one.clone();
                signer.0 = Value::Uint(n);
                signer
            })
            .collect();
        let name = format!("signatures-{count}");
        book.case(&name, about, claim, || succeed(NEW, &root.encode(), 2));
    }
}

fn thresholds(book: &mut Book) {
    let few = deny(UNTRUSTED_ROOT_THRESHOLD);
    let old = [keeper(1, 0), keeper(1, 1), keeper(1, 2)];
    let mut first = print::root();
    first.set(&[3, 0], role(1, 2, &old));
    let state = "succession-two-of-three";
    first.signers = (0..2)
        .map(|n| (Value::Uint(n), old[n as usize].clone(), Tag::TrustRoot))
        .collect();
    book.held_state(
        state,
        Held {
            about: "The first root of a served mesh, signed by two of three keys".into(),
            root: first.encode(),
            later: Vec::new(),
            bulletin: None,
        },
    );
    let new = [keeper(1, 5), keeper(1, 6)];
    let mut next = after(&first, &first, 2);
    next.set(&[3, 0], role(1, 2, &new));
    let about = "Each of the two roots has its own threshold, and both have to be met";
    for (name, own, before, claim) in [
        ("both", &[0usize, 1][..], &[0usize, 2][..], Allow),
        ("all", &[0, 1], &[0, 1, 2], Allow),
        ("one-of-the-old", &[0, 1], &[2], few),
        ("one-of-the-new", &[1], &[0, 1, 2], few),
        ("none-of-the-old", &[0, 1], &[], few),
    ] {
        let mut root = next.clone();
        let own = own
            .iter()
            .map(|n| (Value::Uint(*n as u64), new[*n].clone(), Tag::TrustRoot));
        let before = before.iter().map(|n| {
            (
                Value::Uint(128 + *n as u64),
                old[*n].clone(),
                Tag::TrustRoot,
            )
        });
        root.signers = own.chain(before).collect();
        book.case(&format!("threshold-{name}"), about, claim, || {
            succeed(state, &root.encode(), 2)
        });
    }
    let about = "A signature that does not verify refuses the root, even when enough others do";
    let mut root = next;
    root.signers = vec![
        (Value::Uint(0), new[0].clone(), Tag::TrustRoot),
        (Value::Uint(1), new[1].clone(), Tag::TrustRoot),
        (Value::Uint(128), old[0].clone(), Tag::TrustRoot),
        (Value::Uint(129), old[1].clone(), Tag::TrustRoot),
        (Value::Uint(130), keeper(3, 0), Tag::TrustRoot),
    ];
    book.case(
        "threshold-and-a-forgery",
        about,
        deny(BAD_SIGNATURE),
        || succeed(state, &root.encode(), 2),
    );
}

fn sequences(book: &mut Book) {
    let first = print::root();
    let (two, three) = (second(), after(&first, &second(), 3));
    let next = |root: &File, version: u64| succeed(NEW, &root.encode(), version);
    let about = "Roots are followed one by one";
    book.case("two-then-three", about, Allow, || {
        next(&three, 3).after(next(&two, 2), Allow)
    });
    book.case(
        "three-without-two",
        about,
        deny(UNSUPPORTED_VERSION),
        || next(&three, 3),
    );
    book.case("two-again", about, deny(UNSUPPORTED_VERSION), || {
        next(&two, 2).after(next(&two, 2), Allow)
    });
    book.case("first-again", about, deny(UNSUPPORTED_VERSION), || {
        next(&first, 1).after(next(&two, 2), Allow)
    });
    let about = "The third root names the mesh of the first, not of the second";
    let mut wrong = three.clone();
    let mesh = id_of(&two);
    wrong.set(&[6], list([lineage(&mesh[..16], id_of(&two))]));
    book.case(
        "mesh-of-the-second",
        about,
        deny(UNTRUSTED_ROOT_LINEAGE),
        || next(&wrong, 3).after(next(&two, 2), Allow),
    );
    let about = "A refused root leaves the one that is held";
    let mut forged = two.clone();
    forged.signers.pop();
    book.case("after-a-forgery", about, Allow, || {
        next(&two, 2).after(next(&forged, 2), deny(UNTRUSTED_ROOT_THRESHOLD))
    });
    let about = "What is heard is opened under the newest root, and names it";
    let under = |root: &File, version: u64| {
        Print::new(1, 1).edit(|print| print.root = (version, id_of(root)))
    };
    let hear = |print: &Print| -> Play { print.heard_by(NEW) };
    book.case("heard-under-the-second", about, Allow, || {
        hear(&under(&two, 2)).after(next(&two, 2), Allow)
    });
    let lineage = deny(UNTRUSTED_ROOT_LINEAGE);
    book.case("heard-under-the-first", about, lineage, || {
        hear(&Print::new(1, 1)).after(next(&two, 2), Allow)
    });
    book.case("heard-before-the-second", about, lineage, || {
        hear(&under(&two, 2))
    });
    let about = "Under another root every part counts anew";
    let mut moved = two.clone();
    moved.set(&[3, 2], role(3, 1, &[keeper(3, 1)]));
    let bad = deny(BAD_SIGNATURE);
    book.case("registry-by-the-old-registrar", about, bad, || {
        hear(&under(&moved, 2)).after(next(&moved, 2), Allow)
    });
    let resigned = |epoch: u64| {
        let print = Print::new(2, epoch).edit(|print| print.root = (2, id_of(&moved)));
        print.with(print::REGISTRY, |f| f.signers[0].1 = keeper(3, 1))
    };
    let about = "A certificate by a registrar that is gone is nobody's";
    book.case("certificates-by-the-old-registrar", about, Allow, || {
        let facts = print::advanced(2, 2, 0, 0);
        hear(&resigned(2))
            .edit(|play| play.facts = facts)
            .after(hear(&Print::new(1, 1)), Allow)
            .after(next(&moved, 2), Allow)
    });
    let about = "Another root does not take epochs back";
    let rollback = deny(STALE_STATE_ROLLBACK);
    book.case("epochs-go-on-under-another-root", about, rollback, || {
        hear(&resigned(1).edit(|print| print.time = 3))
            .after(hear(&Print::new(2, 2)), Allow)
            .after(next(&moved, 2), Allow)
    });
    let about = "What is held stays, until something is heard under the next root";
    book.case("held-after-succession", about, Allow, || {
        print::ask(NEW, "publish", NOW)
            .after(hear(&Print::new(1, 1)), Allow)
            .after(next(&two, 2), Allow)
    });
    book.case("same-bulletin-after-succession", about, Allow, || {
        let again = hear(&Print::new(1, 1));
        again
            .edit(|play| play.facts = vec![("progress", super::words("unchanged"))])
            .after(hear(&Print::new(1, 1)), Allow)
            .after(next(&two, 2), Allow)
    });
}
