//! Envelopes that share a signature: the tree, the signer, and that each is decided by itself.

use trustmesh::proto::names::Tag;

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::deny_at;
use super::frame::event;
use super::header::answer;
use super::header::request;
use super::header::waiting;
use super::play::Play;
use super::signature::above;
use super::signature::sign_with;
use super::signature::turned;
use crate::forge::Batch;
use crate::forge::ChainSpec;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::batch::*;
use crate::forge::chain::PUB;
use crate::forge::chain::scope;
use crate::forge::letter;
use crate::forge::unique;
use crate::forge::value::bin;
use crate::forge::value::text;

/// Makes a letter of a batch.
pub(super) type Change = Box<dyn Fn(Batch) -> Letter>;

/// So many events by the last holder of a chain.
pub(super) fn letters(chain: &ChainSpec, count: usize) -> Vec<Letter> {
    let first = Letter::publish(chain, "orders.eu.new");
    let next = |_| first.clone().set(letter::MID, bin(unique()));
    (0..count).map(next).collect()
}

/// A batch of so many events by alice.
pub(super) fn batch(count: usize) -> Batch {
    Batch::of(letters(&ChainSpec::down(&Mesh::new(), &["alice"]), count))
}

/// A case on a batch of five events.
pub(super) fn changed(book: &mut Book, name: &str, about: &str, claim: Claim, make: Change) {
    book.case(name, about, claim, || Play::message(&make(batch(5))));
}

pub fn write(book: &mut Book) {
    accepted(book);
    mixed(book);
    super::batch_parts::write(book);
    trees(book);
    signers(book);
    signatures(book);
    contents(book);
    replays(book);
    met_before(book);
    policies(book);
}

fn accepted(book: &mut Book) {
    let about = "Each message of a batch is proved by its own path";
    for size in 1..=17_usize {
        for index in 0..size {
            let name = format!("of-{size}-at-{index}");
            book.case(&name, about, Allow, || {
                Play::message(&batch(size).letter(index))
            });
        }
    }
    for (size, index) in [
        (255, 0),
        (255, 127),
        (255, 128),
        (255, 253),
        (255, 254),
        (256, 0),
        (256, 127),
        (256, 128),
        (256, 254),
        (256, 255),
    ] {
        let name = format!("of-{size}-at-{index}");
        book.case(&name, about, Allow, || {
            Play::message(&batch(size).letter(index))
        });
    }
}

/// One signer's messages of every kind, on several subjects, under several chains.
fn mixed(book: &mut Book) {
    let all = || {
        let below = ChainSpec::down(&Mesh::new(), &["carol", "alice"]);
        Batch::of([
            event(),
            event().set(letter::SUBJECT, text("notes.a")),
            request(),
            answer(),
            Letter::publish(&below, "orders.us.new").payload("other"),
        ])
    };
    let about = "One batch holds messages of every kind, subject and chain of its signer";
    for (index, name) in ["event", "subject", "request", "answer", "chain"]
        .into_iter()
        .enumerate()
    {
        book.case(&format!("mixed-{name}"), about, Allow, || {
            let letter = all().letter(index);
            if name == "answer" {
                Play::answer(&letter, Some(waiting()))
            } else {
                Play::message(&letter)
            }
        });
    }
    let about = "The signature of a batch comes on top of those of the longest chain";
    book.case("mixed-nine-links", about, Allow, || {
        let chain = ChainSpec::down(&Mesh::new(), &super::chain::NINE);
        Play::message(&Batch::of(letters(&chain, 2)).letter(1))
    });
    let about = "A message of a batch is held to where it belongs, as any other";
    book.case(
        "mixed-answer-not-asked",
        about,
        deny(UNEXPECTED_REPLY_NOT_ASKED),
        || Play::message(&all().letter(3)),
    );
    book.case(
        "mixed-moved",
        about,
        deny(SUBJECT_MISMATCH_DELIVERED),
        || {
            let other = Play::message(&all().letter(1));
            Play::message(&all().letter(0)).edit(|play| play.subject = other.subject)
        },
    );
    book.case(
        "mixed-under-another-chain",
        about,
        deny(CHAIN_BROKEN_LEAF_MISMATCH),
        || {
            let batch = all();
            let chain = batch.letters[4].chain.clone();
            Play::message(&batch.letter(0).edit(|l| l.chain = chain))
        },
    );
    book.case(
        "mixed-not-covered",
        about,
        deny_at(SCOPE_EXCEEDED_NOT_GRANTED, 0),
        || {
            let chain = ChainSpec::down(&Mesh::new(), &["alice"])
                .edit(0, |link| link.scope = scope(&[(PUB, "notes.>")]));
            let more = Letter::publish(&chain, "orders.eu.new");
            Play::message(&Batch::of([event(), more]).letter(1))
        },
    );
}

/// What does not lead to the root that was signed.
fn trees(book: &mut Book) {
    let bad = deny(BAD_SIGNATURE);
    let mut put = |name: &str, about: &str, make: Change| changed(book, name, about, bad, make);
    let about = "Header, index and path together lead to the root that was signed";
    put(
        "path-of-another-index",
        about,
        Box::new(|batch| {
            let other = bin(batch.path(1).concat());
            batch.letter_with(2, |proof| proof.with(&[PATH], other))
        }),
    );
    for index in [0, 1, 3] {
        put(
            &format!("index-{index}-for-2"),
            about,
            Box::new(move |batch| {
                let at = Value::Uint(index);
                batch.letter_with(2, |proof| proof.with(&[INDEX], at))
            }),
        );
    }
    put(
        "proof-of-another-index",
        about,
        Box::new(|batch| {
            let other = batch.proof(1);
            batch.letter_with(2, |_| other)
        }),
    );
    put(
        "path-exchanged",
        about,
        Box::new(|batch| {
            let mut path = batch.path(2);
            path.swap(0, 1);
            batch.letter_with(2, |proof| proof.with(&[PATH], bin(path.concat())))
        }),
    );
    put(
        "path-turned",
        about,
        Box::new(|batch| {
            let mut path = batch.path(2);
            path.reverse();
            batch.letter_with(2, |proof| proof.with(&[PATH], bin(path.concat())))
        }),
    );
    for level in 0..3 {
        put(
            &format!("neighbour-of-another-at-{level}"),
            about,
            Box::new(move |batch| {
                let mut path = batch.path(2);
                path[level] = batch.leaves[0];
                batch.letter_with(2, |proof| proof.with(&[PATH], bin(path.concat())))
            }),
        );
        put(
            &format!("neighbour-bit-at-{level}"),
            about,
            Box::new(move |batch| {
                let mut path = batch.path(2);
                path[level][31] ^= 1;
                batch.letter_with(2, |proof| proof.with(&[PATH], bin(path.concat())))
            }),
        );
    }
    put(
        "own-leaf-for-neighbour",
        about,
        Box::new(|batch| {
            let mut path = batch.path(2);
            path[0] = batch.leaves[2];
            batch.letter_with(2, |proof| proof.with(&[PATH], bin(path.concat())))
        }),
    );
    put(
        "other-root",
        about,
        Box::new(|batch| batch.set(ROOT, bin([1; 32])).letter(2)),
    );
    put(
        "leaf-for-root",
        about,
        Box::new(|batch| {
            let leaf = bin(batch.leaves[2]);
            batch.set(ROOT, leaf).letter(2)
        }),
    );
    put(
        "n-4-of-5",
        "How many there are is signed, and decides how the tree is made",
        Box::new(|batch| {
            let path = bin(batch.path(2)[..2].concat());
            let other = batch.set(SIZE, Value::Uint(4));
            other.letter_with(2, |proof| proof.with(&[PATH], path))
        }),
    );
    put(
        "leaf-of-another-batch",
        "A header that stands in one batch stands in no other",
        Box::new(|batch| {
            let other = Batch::of(batch.letters[..3].iter().cloned().chain([event()]));
            let proof = batch.proof(3);
            other.letter_with(3, |_| proof)
        }),
    );
    put(
        "root-of-another-batch",
        "A header that stands in one batch stands in no other",
        Box::new(|batch| {
            let path = bin(batch.path(2).concat());
            let mut other = Batch::of(letters(&ChainSpec::down(&Mesh::new(), &["alice"]), 5));
            other.letters = batch.letters;
            other.letter_with(2, |proof| proof.with(&[PATH], path))
        }),
    );
    put(
        "header-changed",
        "A header that was changed afterwards is not in the batch",
        Box::new(|batch| batch.letter(2).set(letter::TTL, Value::Uint(9_999))),
    );
    let about =
        "How many there are is the signer's word: a path of the same form has the same root";
    changed(
        book,
        "n-6-of-5-at-2",
        about,
        Allow,
        Box::new(|batch| batch.set(SIZE, Value::Uint(6)).letter(2)),
    );
    changed(
        book,
        "n-6-of-5-at-4",
        about,
        deny(MALFORMED_WRONG_LENGTH),
        Box::new(|batch| batch.set(SIZE, Value::Uint(6)).letter(4)),
    );
    hashing(book);
}

/// Trees that are hashed in another way.
fn hashing(book: &mut Book) {
    let bad = deny(BAD_SIGNATURE);
    type Leaf = fn(&[u8]) -> Node;
    let leaves: [(&str, Leaf); 7] = [
        ("like-a-node", |header| {
            hash(&[&[1], &Tag::Envelope.bytes(), header])
        }),
        ("without-prefix", |header| Tag::Envelope.digest(header).0),
        ("without-tag", |header| hash(&[&[0], header])),
        ("without-both", |header| hash(&[header])),
        ("under-the-tag-batch", |header| {
            hash(&[&[0], &Tag::Batch.bytes(), header])
        }),
        ("prefix-behind", |header| {
            hash(&[&Tag::Envelope.bytes(), &[0], header])
        }),
        ("of-the-object-id", |header| {
            leaf(&Tag::Envelope.digest(header).0)
        }),
    ];
    for (name, make) in leaves {
        let about = "A leaf is SHA-256 of 00, the tag envelope and the header";
        book.case(&format!("leaf-{name}"), about, bad, || {
            let letters = batch(3).letters;
            let leaves = letters.iter().map(|l| make(&l.header_encoded())).collect();
            Play::message(&Batch::with_leaves(letters, leaves).letter(1))
        });
    }
    type Join = fn(&Node, &Node) -> Node;
    let nodes: [(&str, Join); 5] = [
        ("like-a-leaf", |l, r| hash(&[&[0], l, r])),
        ("without-prefix", |l, r| hash(&[l, r])),
        ("turned", |l, r| join(r, l)),
        ("sorted", |l, r| join(l.min(r), l.max(r))),
        ("with-tag", |l, r| hash(&[&[1], &Tag::Batch.bytes(), l, r])),
    ];
    for (name, make) in nodes {
        let about = "A node is SHA-256 of 01 and the nodes below, left before right";
        book.case(&format!("node-{name}"), about, bad, || {
            let mut batch = batch(2);
            if name == "sorted" && batch.leaves[0] < batch.leaves[1] {
                batch = Batch::of(batch.letters.into_iter().rev());
            }
            let root = make(&batch.leaves[0], &batch.leaves[1]);
            Play::message(&batch.set(ROOT, bin(root)).letter(0))
        });
    }
    let about = "A node of a tree is no leaf, and a leaf no node";
    book.case("node-for-a-leaf", about, bad, || {
        // Of four, two nodes stand below the root; taken for leaves they are a batch of two.
        let four = batch(4);
        let right = join(&four.leaves[2], &four.leaves[3]);
        let two = four.set(SIZE, Value::Uint(2));
        Play::message(&two.letter_with(0, |proof| proof.with(&[PATH], bin(right))))
    });
    book.case("node-for-the-root", about, bad, || {
        let four = batch(4);
        let left = join(&four.leaves[0], &four.leaves[1]);
        let root = bin(left);
        Play::message(&four.set(ROOT, root).letter(0))
    });
    let about = "A header whose bytes are those of a node is no header";
    book.case(
        "node-for-a-header",
        about,
        deny(MALFORMED_WRONG_TYPE),
        || {
            let four = batch(4);
            let node = [&[1][..], &four.leaves[0], &four.leaves[1]].concat();
            let right = join(&four.leaves[2], &four.leaves[3]);
            let two = four.set(SIZE, Value::Uint(2));
            let letter = two.letter_with(0, |proof| proof.with(&[PATH], bin(right)));
            Play::message(&letter.edit(|l| l.header_bytes = Some(node)))
        },
    );
}

fn signers(book: &mut Book) {
    let other = deny(KEY_MISMATCH_OTHER_AGENT);
    let about = "A batch is of the key that the chain of each message in it ends with";
    for liar in ["carol", "bob", "mallory"] {
        let who = Party::named(liar);
        let signer = who.clone();
        changed(
            book,
            &format!("key-of-{liar}"),
            about,
            other,
            Box::new(move |batch| {
                let batch = batch.set(KEY, bin(signer.bytes().0));
                let letter = batch.edit(|b| b.signer = signer.clone()).letter(2);
                letter.edit(|l| l.signer = Party::named("alice"))
            }),
        );
        changed(
            book,
            &format!("key-of-{liar}-signed-by-alice"),
            about,
            other,
            Box::new(move |batch| batch.set(KEY, bin(who.bytes().0)).letter(2)),
        );
    }
    book.case("key-of-the-holder-above", about, other, || {
        let chain = ChainSpec::down(&Mesh::new(), &["carol", "alice"]);
        let carol = Party::named("carol");
        let batch = Batch::of(letters(&chain, 2)).set(KEY, bin(carol.bytes().0));
        Play::message(&batch.edit(|b| b.signer = carol).letter(1))
    });
    book.case("message-of-another-signer", about, other, || {
        let chain = ChainSpec::down(&Mesh::new(), &["carol"]);
        let foreign = Letter::publish(&chain, "orders.eu.new");
        Play::message(&Batch::of([event(), foreign]).letter(1))
    });
    let about = "A batch is of the mesh of the messages in it";
    changed(
        book,
        "other-mesh",
        about,
        deny(UNTRUSTED_ROOT_OTHER_MESH),
        Box::new(|batch| batch.set(MESH, bin([1; 16])).letter(2)),
    );
}

fn signatures(book: &mut Book) {
    let bad = deny(BAD_SIGNATURE);
    for tag in Tag::ALL {
        let about = format!("A batch signed under the tag {}", tag.name());
        let claim = if tag == Tag::Batch { Allow } else { bad };
        let make = move |batch: Batch| batch.edit(|b| b.tag = tag).letter(2);
        let name = format!("as-{}", tag.name());
        changed(book, &name, &about, claim, Box::new(make));
    }
    let signed = |sign: fn(&Party, &Batch) -> [u8; 64]| -> Change {
        Box::new(move |batch| {
            let signature = bin(sign(&batch.signer.clone(), &batch));
            batch.edit(|b| b.signature = Some(signature)).letter(2)
        })
    };
    let about = "Signed without any tag";
    let bare = signed(|who, batch| who.sign_raw(&batch.body_encoded()));
    changed(book, "as-nothing", about, bad, bare);
    let about = "A batch is signed by the key that it names and by nobody else";
    for liar in ["carol", "bob", "mallory"] {
        let make = move |batch: Batch| batch.edit(|b| b.signer = Party::named(liar)).letter(2);
        let name = format!("signed-by-{liar}");
        book.case(&name, about, bad, || {
            let letter = make(batch(5));
            Play::message(&letter.edit(|l| l.signer = Party::named("alice")))
        });
    }
    let about = "A signature that a lenient verifier would take";
    let zero = signed(|_, _| [0; 64]);
    changed(book, "signature-all-zero", about, bad, zero);
    let malleable = signed(|who, batch| above(who.sign(Tag::Batch, &batch.body_encoded())));
    changed(book, "signature-s-plus-l", about, bad, malleable);
    let cofactor = signed(|who, batch| {
        let message = [&Tag::Batch.bytes()[..], &batch.body_encoded()].concat();
        sign_with(who, &message, turned)
    });
    changed(book, "signature-times-cofactor", about, bad, cofactor);
    let other = signed(|who, batch| {
        let other = batch.clone().set(SIZE, Value::Uint(6));
        who.sign(Tag::Batch, &other.body_encoded())
    });
    changed(book, "signature-of-another-body", about, bad, other);
}

fn contents(book: &mut Book) {
    let about = "The content of a message in a batch is the one that its header names";
    let bad = deny(BAD_SIGNATURE);
    let damaged = |batch: Batch, index: usize, payload: &str| {
        let header = batch.letters[index].header_encoded();
        let letter = batch.letter(index).payload(payload);
        letter.edit(|l| l.header_bytes = Some(header))
    };
    changed(
        book,
        "content-changed",
        about,
        bad,
        Box::new(move |batch| damaged(batch, 2, "PAYLOAD")),
    );
    book.case("content-exchanged", about, bad, || {
        let all = [event().payload("first  "), event().payload("second ")];
        Play::message(&damaged(Batch::of(all), 0, "second "))
    });
}

fn replays(book: &mut Book) {
    let seen = deny(REPLAY_SEEN);
    let play = |batch: &Batch, index: usize| Play::message(&batch.letter(index));
    let about = "A message of a batch counts once, however it is proved";
    book.case("twice", about, seen, || {
        let batch = batch(5);
        play(&batch, 2).after(play(&batch, 2), Allow)
    });
    book.case("again-in-another-batch", about, seen, || {
        let first = batch(5);
        let second = Batch::of(first.letters[2..4].to_vec());
        play(&second, 0).after(play(&first, 2), Allow)
    });
    book.case("again-at-another-index", about, seen, || {
        let letter = event();
        let batch = Batch::of([letter.clone(), letter]);
        play(&batch, 1).after(play(&batch, 0), Allow)
    });
    book.case("again-by-itself", about, seen, || {
        let letter = event();
        let batch = Batch::of([letter.clone()]);
        Play::message(&letter).after(play(&batch, 0), Allow)
    });
    book.case("again-in-a-batch", about, seen, || {
        let letter = event();
        let batch = Batch::of([letter.clone()]);
        play(&batch, 0).after(Play::message(&letter), Allow)
    });
    book.case("same-mid-other-message", about, seen, || {
        let (first, second) = (event(), event().payload("other"));
        let mid = bin([1; 16]);
        let both = [
            first.set(letter::MID, mid.clone()),
            second.set(letter::MID, mid),
        ];
        let batch = Batch::of(both);
        play(&batch, 1).after(play(&batch, 0), Allow)
    });
    let about = "A replay is found before a batch is looked at";
    for (name, change) in [
        (
            "key",
            (|b: Batch| b.set(KEY, bin([1; 32]))) as fn(Batch) -> Batch,
        ),
        ("path", |b| b.set(ROOT, bin([1; 32]))),
        ("signature", |b| {
            b.edit(|b| b.signature = Some(bin([1; 64])))
        }),
    ] {
        book.case(&format!("replayed-before-{name}"), about, seen, || {
            let batch = batch(5);
            let second = change(batch.clone());
            play(&second, 2).after(play(&batch, 2), Allow)
        });
    }
    let about = "What may have been accepted before a restart is refused, in a batch as well";
    book.case(
        "before-the-floor",
        about,
        deny(REPLAY_BEFORE_RESTART),
        || play(&batch(5), 2).edit(|play| play.floor = Some(NOW)),
    );
}

/// A batch met before spares its signature, and nothing else.
fn met_before(book: &mut Book) {
    let play = |batch: &Batch, index: usize| Play::message(&batch.letter(index));
    let about = "Further messages of a batch that was met before";
    book.case("met-second", about, Allow, || {
        let batch = batch(5);
        play(&batch, 3).after(play(&batch, 2), Allow)
    });
    book.case("met-all", about, Allow, || {
        let batch = batch(3);
        play(&batch, 0)
            .after(play(&batch, 2), Allow)
            .after(play(&batch, 1), Allow)
    });
    let about = "A batch met before spares its signature, and nothing else";
    let bad = deny(BAD_SIGNATURE);
    type Again = fn(Batch) -> Letter;
    let rows: [(&str, Claim, Again); 12] = [
        ("header-not-in-it", bad, |batch| {
            let proof = batch.proof(3);
            Batch::of([event()]).letter_with(0, |_| proof)
        }),
        ("path", bad, |batch| {
            let path = bin(batch.path(2).concat());
            batch.letter_with(3, |proof| proof.with(&[PATH], path))
        }),
        ("index", bad, |batch| {
            batch.letter_with(3, |proof| proof.with(&[INDEX], Value::Uint(1)))
        }),
        ("signature", bad, |batch| {
            batch.edit(|b| b.signature = Some(bin([1; 64]))).letter(3)
        }),
        ("signature-of-another", bad, |batch| {
            let letter = batch.edit(|b| b.signer = Party::named("carol")).letter(3);
            letter.edit(|l| l.signer = Party::named("alice"))
        }),
        ("root", bad, |batch| {
            let honest = batch.proof(3).at(&[SIGNATURE]).clone();
            let other = batch.set(ROOT, bin([1; 32]));
            other.edit(|b| b.signature = Some(honest)).letter(3)
        }),
        ("body", bad, |batch| {
            // The same tree of a batch that says otherwise how many there are.
            let honest = batch.proof(3).at(&[SIGNATURE]).clone();
            let other = batch.set(SIZE, Value::Uint(6));
            other.edit(|b| b.signature = Some(honest)).letter(3)
        }),
        ("content", bad, |batch| {
            let header = batch.letters[3].header_encoded();
            let letter = batch.letter(3).payload("PAYLOAD");
            letter.edit(|l| l.header_bytes = Some(header))
        }),
        ("audience", deny(WRONG_AUDIENCE), |batch| {
            batch.letter(3).set(letter::AUDIENCE, bin([1; 32]))
        }),
        ("key", deny(KEY_MISMATCH_OTHER_AGENT), |batch| {
            let chain = ChainSpec::down(&Mesh::new(), &["carol"]);
            let proof = batch.proof(3);
            let foreign = Batch::of(letters(&chain, 1));
            foreign.letter_with(0, |_| proof)
        }),
        ("link-signature", deny_at(BAD_SIGNATURE, 0), |batch| {
            let chain = ChainSpec::down(&Mesh::new(), &["alice"])
                .edit(0, |link| link.signature = Some(bin([9; 64])));
            let other = Letter::publish(&chain, "orders.eu.new");
            Batch::of([batch.letters[2].clone(), other]).letter(1)
        }),
        ("time", deny(EXPIRED), |batch| {
            batch
                .letter(3)
                .set(letter::ISSUED, Value::Uint(NOW - 60_000))
        }),
    ];
    for (name, claim, again) in rows {
        book.case(&format!("met-{name}"), about, claim, || {
            let batch = batch(5);
            let first = play(&batch, 2);
            Play::message(&again(batch)).after(first, Allow)
        });
    }
    book.case("met-expired-meanwhile", about, deny(EXPIRED), || {
        let batch = batch(2);
        play(&batch, 1)
            .at(NOW + 15_001)
            .after(play(&batch, 0), Allow)
    });
    book.case(
        "met-chain-expired-meanwhile",
        about,
        deny_at(EXPIRED, 0),
        || {
            let chain = ChainSpec::down(&Mesh::new(), &["alice"])
                .edit(0, |link| link.until = Value::Uint(NOW + 1));
            let batch = Batch::of(letters(&chain, 2));
            play(&batch, 1)
                .at(NOW + 5_001)
                .after(play(&batch, 0), Allow)
        },
    );
    book.case(
        "met-not-covered",
        about,
        deny_at(SCOPE_EXCEEDED_NOT_GRANTED, 0),
        || {
            let chain = ChainSpec::down(&Mesh::new(), &["alice"])
                .edit(0, |link| link.scope = scope(&[(PUB, "notes.>")]));
            let more = Letter::publish(&chain, "orders.eu.new");
            let batch = Batch::of([event(), more]);
            play(&batch, 1).after(play(&batch, 0), Allow)
        },
    );
    let about =
        "A refused batch leaves nothing behind: what is wrong with one says nothing of others";
    book.case("after-a-forged-signature", about, Allow, || {
        let batch = batch(5);
        let forged = batch.clone().edit(|b| b.signature = Some(bin([1; 64])));
        play(&batch, 2).after(play(&forged, 2), bad)
    });
    book.case("after-a-refused-neighbour", about, Allow, || {
        let batch = batch(5);
        let lost = play(&batch, 1).edit(|play| play.subject = "orders.us.new".into());
        play(&batch, 2).after(lost, deny(SUBJECT_MISMATCH_DELIVERED))
    });
    book.case("after-another-path", about, Allow, || {
        let batch = batch(5);
        let path = bin(batch.path(1).concat());
        let broken = batch.letter_with(2, |proof| proof.with(&[PATH], path));
        play(&batch, 2).after(Play::message(&broken), bad)
    });
}

/// A rule says which modes it allows.
fn policies(book: &mut Book) {
    let mesh = Mesh::with(&["alice", "bob"]).policy(
        r#"{ "rules": [ { "name": "all", "effect": "allow", "actions": ["pub"],
            "subjects": ">", "modes": [3] }, { "name": "receive", "effect": "allow",
            "actions": ["sub"], "subjects": ">" } ] }"#,
    );
    book.state("policy-modes-3", "Envelope modes [3]", &mesh);
    let no = deny(POLICY_DENIED_MODE);
    for (modes, alone, together) in [
        ("1", Allow, no),
        ("2", no, Allow),
        ("1-2", Allow, Allow),
        ("2-3", no, Allow),
        ("3", no, no),
    ] {
        let about = "A rule allows the envelope modes it names";
        let state = format!("policy-modes-{modes}");
        book.case(&format!("modes-{modes}-alone"), about, alone, || {
            Play::message(&event()).state(&state)
        });
        book.case(&format!("modes-{modes}-together"), about, together, || {
            Play::message(&batch(2).letter(1)).state(&state)
        });
    }
    let about = "Each message of a batch is debited by itself";
    book.case("rate-of-each", about, deny(POLICY_DENIED_RATE), || {
        let batch = batch(3);
        let play = |index: usize| Play::message(&batch.letter(index)).state("policy-rate");
        play(2).after(play(0), Allow).after(play(1), Allow)
    });
}
