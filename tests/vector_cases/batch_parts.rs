//! The proof of a batch and the body in it: each value missing, doubled, of another type, at its
//! bounds; and which of two faults is reported.

use super::Allow;
use super::Book;
use super::Claim;
use super::audit;
use super::batch::Change;
use super::batch::batch;
use super::batch::changed;
use super::batch::letters;
use super::codes::*;
use super::deny;
use super::deny_at;
use super::frame::event;
use super::frame::usable;
use super::play::Play;
use crate::forge::Batch;
use crate::forge::ChainSpec;
use crate::forge::HOUR;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::batch::*;
use crate::forge::letter;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

pub(super) fn write(book: &mut Book) {
    modes(book);
    proofs(book);
    bodies(book);
    sizes(book);
    paths(book);
    order(book);
    audits(book);
}

/// The middle one of a batch of five, its body changed and signed.
fn with_body(change: impl FnOnce(Batch) -> Batch) -> Play {
    Play::message(&change(batch(5)).letter(2))
}

/// The middle one of a batch of five, its proof changed.
fn with_proof(change: impl FnOnce(Value) -> Value) -> Play {
    Play::message(&batch(5).letter_with(2, change))
}

/// The form of signature is that of the mode, and the mode is signed.
fn modes(book: &mut Book) {
    let about = "What a frame has in place of its signature is what its mode asks for";
    let wrong = deny(MALFORMED_WRONG_TYPE);
    book.case("signature-in-mode-2", about, wrong, || {
        Play::message(&batch(1).letters[0])
    });
    book.case("proof-in-mode-1", about, wrong, || {
        let letter = batch(1).letter(0).set(letter::MODE, Value::Uint(1));
        Play::message(&letter.edit(|l| l.frame_mode = Value::Uint(1)))
    });
    for mode in [0, 3, 255] {
        let name = format!("proof-in-mode-{mode}");
        book.case(&name, about, wrong, || {
            let letter = batch(1).letter(0).set(letter::MODE, Value::Uint(mode));
            Play::message(&letter.edit(|l| l.frame_mode = Value::Uint(mode)))
        });
    }
    let about = "The frame's mode is the header's mode";
    let mismatch = deny(MALFORMED_MODE_MISMATCH);
    book.case("header-of-mode-1", about, mismatch, || {
        let mut batch = batch(1);
        let alone = batch.letters[0].clone().set(letter::MODE, Value::Uint(1));
        batch = Batch::with_leaves(vec![alone.clone()], vec![leaf(&alone.header_encoded())]);
        Play::message(&batch.letter(0))
    });
    book.case("header-of-mode-2-signed-alone", about, mismatch, || {
        Play::message(&batch(1).letters[0].clone().edit(|l| {
            l.frame_mode = Value::Uint(1);
        }))
    });
    let about = "The signature of a batch says nothing of a header by itself, nor the reverse";
    let bad = deny(BAD_SIGNATURE);
    book.case("signature-of-the-batch-alone", about, bad, || {
        let alone = event();
        let batch = batch(1);
        let signature = batch.proof(0).at(&[SIGNATURE]).clone();
        Play::message(&alone.edit(|l| l.signature = Some(signature)))
    });
    book.case("signature-of-the-header-in-a-batch", about, bad, || {
        Play::message(&batch(1).letter_with(0, |proof| {
            let header = batch(1).letters[0].header_encoded();
            let signer = Party::named("alice");
            let signature = signer.sign(trustmesh::proto::names::Tag::Envelope, &header);
            proof.with(&[SIGNATURE], bin(signature))
        }))
    });
}

/// Arrays of another length, and values of another type or in another encoding.
fn proofs(book: &mut Book) {
    let length = deny(MALFORMED_WRONG_LENGTH);
    for (index, field) in PROOF_FIELDS.iter().enumerate() {
        let about = format!("A proof of three values, its {field} left out");
        book.case(&format!("proof-without-{field}"), &about, length, || {
            with_proof(|mut proof| {
                proof.items().remove(index);
                proof
            })
        });
        let about = format!("A proof of five values, its {field} given twice");
        book.case(&format!("proof-with-{field}-twice"), &about, length, || {
            with_proof(|mut proof| {
                let again = proof.at(&[index]).clone();
                proof.items().insert(index, again);
                proof
            })
        });
        let honest = batch(5).proof(2).at(&[index]).clone();
        encodings(book, "proof", field, &honest, |value| {
            with_proof(|proof| proof.with(&[index], value))
        });
    }
    for (form, value) in batch(5).proof(2).longer().into_iter().enumerate() {
        let about = "A proof in an encoding longer than need be";
        let name = format!("proof-longer-{form}");
        book.case(&name, about, deny(MALFORMED_NOT_CANONICAL), || {
            with_proof(|_| value)
        });
    }
    let about = "A proof of no values";
    book.case("proof-of-no-values", about, length, || {
        with_proof(|_| list([]))
    });
    for len in [0, 32, 63, 65, 128] {
        let about = "A signature is 64 bytes, no fewer and no more";
        let name = format!("signature-of-{len}-bytes");
        book.case(&name, about, length, || {
            with_proof(|proof| proof.with(&[SIGNATURE], bin(vec![7; len])))
        });
    }
}

/// A value in the encodings that it has not.
fn encodings(
    book: &mut Book,
    what: &str,
    field: &str,
    honest: &Value,
    put: impl Fn(Value) -> Play,
) {
    let kinds = honest.other_types();
    for (kind, value) in kinds.into_iter().filter(|(kind, _)| usable(kind)) {
        let about = format!("The {field} of a {what} is written as another type: {kind}");
        let name = format!("{what}-{field}-as-{kind}");
        book.case(&name, &about, deny(MALFORMED_WRONG_TYPE), || put(value));
    }
    let forms = honest.longer();
    let last = forms.len() - 1;
    for (form, value) in forms.into_iter().enumerate() {
        let about = format!("The {field} of a {what} in an encoding longer than need be");
        let name = format!("{what}-{field}-longer-{form}");
        // The last form of a small number is the signed one, which is another type.
        let signed = matches!(honest, Value::Uint(_)) && form == last;
        let code = if signed {
            MALFORMED_WRONG_TYPE
        } else {
            MALFORMED_NOT_CANONICAL
        };
        book.case(&name, &about, deny(code), || put(value));
    }
}

fn bodies(book: &mut Book) {
    let length = deny(MALFORMED_WRONG_LENGTH);
    for (index, field) in BODY_FIELDS.iter().enumerate() {
        let about = format!("A batch of five fields, its {field} left out");
        book.case(&format!("body-without-{field}"), &about, length, || {
            with_body(|batch| {
                batch.edit(|b| {
                    b.body.items().remove(index);
                })
            })
        });
        let about = format!("A batch of seven fields, its {field} given twice");
        book.case(&format!("body-with-{field}-twice"), &about, length, || {
            with_body(|batch| {
                let again = batch.body.at(&[index]).clone();
                batch.edit(|b| b.body.items().insert(index, again))
            })
        });
        let honest = batch(5).body.at(&[index]).clone();
        encodings(book, "body", field, &honest, |value| {
            with_body(|batch| batch.set(index, value))
        });
    }
    let mut put = |name: &str, about: &str, code: u16, field: usize, value: Value| {
        book.case(name, about, deny(code), || {
            with_body(|batch| batch.set(field, value))
        });
    };
    let about = "The only version of a batch is 1";
    for version in [0, 2, 255, 1 << 32] {
        let name = format!("v-{version}");
        let version = Value::Uint(version);
        put(&name, about, UNSUPPORTED_VERSION, VERSION, version);
    }
    for (field, lens) in [
        (MESH, [0, 15, 17, 256]),
        (KEY, [0, 31, 33, 256]),
        (ROOT, [0, 31, 33, 64]),
    ] {
        for len in lens {
            let name = format!("{}-of-{len}-bytes", BODY_FIELDS[field]);
            let about = "Mesh, key and root have one length each";
            // A field that makes the body too large is not looked at.
            let code = if len == 256 {
                TOO_LARGE
            } else {
                MALFORMED_WRONG_LENGTH
            };
            put(&name, about, code, field, bin(vec![7; len]));
        }
    }
    let about = "A batch has no extensions";
    let some = list([Value::Nil]);
    put("ext-not-empty", about, MALFORMED_EXTENSION, EXT, some);
    for (name, tail) in [("zero", &[0][..]), ("nil", &[0xc0])] {
        let about = "Nothing follows a batch's last field";
        let name = format!("body-trailing-{name}");
        book.case(&name, about, deny(MALFORMED_TRAILING_BYTES), || {
            with_body(|batch| {
                let bytes = [&batch.body.encode()[..], tail].concat();
                batch.edit(|b| b.body_bytes = Some(bytes))
            })
        });
    }
    for (len, code) in [(128, MALFORMED_TRAILING_BYTES), (129, TOO_LARGE)] {
        let about = "A batch is 128 bytes at the most";
        book.case(&format!("body-of-{len}-bytes"), about, deny(code), || {
            with_body(|batch| {
                let mut bytes = batch.body.encode();
                bytes.resize(len, 0);
                batch.edit(|b| b.body_bytes = Some(bytes))
            })
        });
    }
    for cut in [0, 1, 2, 40, 89] {
        let about = "A batch cut short";
        let name = format!("body-cut-after-{cut}");
        book.case(&name, about, deny(MALFORMED_TRUNCATED), || {
            with_body(|batch| {
                let bytes = batch.body.encode()[..cut].to_vec();
                batch.edit(|b| b.body_bytes = Some(bytes))
            })
        });
    }
}

/// How many there are in a batch, and which of them this is.
fn sizes(book: &mut Book) {
    let range = deny(MALFORMED_OUT_OF_RANGE);
    let about = "A batch is of 1 to 256 messages";
    for size in [0, 257, 65_535, 65_536, 1 << 32] {
        book.case(&format!("n-{size}"), about, range, || {
            with_body(|batch| batch.set(SIZE, Value::Uint(size)))
        });
    }
    let nine = "Of 257, all but the last have a path of nine hashes, and the last has no index";
    book.case("of-257-at-0", nine, deny(TOO_LARGE), || {
        Play::message(&batch(257).letter(0))
    });
    book.case("of-257-at-256", nine, range, || {
        Play::message(&batch(257).letter(256))
    });
    let about = "The index is below the number of messages";
    for (size, index) in [
        (1, 1),
        (1, 255),
        (2, 2),
        (5, 5),
        (5, 7),
        (17, 17),
        (255, 255),
        (256, 256),
        (256, 65_536),
    ] {
        let name = format!("of-{size}-at-{index}");
        book.case(&name, about, range, || {
            let at = Value::Uint(index);
            Play::message(&batch(size).letter_with(0, |proof| proof.with(&[INDEX], at)))
        });
    }
}

/// The length of a path follows from index and size.
fn paths(book: &mut Book) {
    let length = deny(MALFORMED_WRONG_LENGTH);
    let about = "A path has the hashes that index and size ask for, no fewer and no more";
    type Lengthen = fn(Vec<u8>) -> Vec<u8>;
    let changes: [(&str, Lengthen); 7] = [
        ("empty", |_| Vec::new()),
        ("a-hash-short", |path| path[32..].to_vec()),
        ("a-hash-short-at-the-top", |path| {
            path[..path.len() - 32].to_vec()
        }),
        ("a-hash-long", |path| [&path[..], &[7; 32]].concat()),
        ("its-last-hash-twice", |path| {
            [&path[..], &path[path.len() - 32..]].concat()
        }),
        ("a-byte-short", |path| path[..path.len() - 1].to_vec()),
        ("a-byte-long", |path| [&path[..], &[0]].concat()),
    ];
    for (name, change) in changes {
        book.case(&format!("path-{name}"), about, length, || {
            Play::message(&batch(5).letter_with(2, |proof| lengthened(proof, change)))
        });
    }
    for (name, path) in [("hash", 32), ("zero-byte", 1)] {
        book.case(&format!("path-of-one-{name}"), about, length, || {
            let path = bin(vec![0; path]);
            Play::message(&batch(1).letter_with(0, |proof| proof.with(&[PATH], path)))
        });
    }
    book.case("path-of-another-length", about, length, || {
        // Of five, the last has one neighbour, every other three.
        Play::message(&batch(5).letter_with(4, |proof| {
            proof.with(&[PATH], bin(batch(5).path(3).concat()))
        }))
    });
    let about = "What is without a neighbour moves up as it is, and is not joined with itself";
    book.case("last-joined-with-itself", about, length, || {
        let three = batch(3);
        let (left, last) = (join(&three.leaves[0], &three.leaves[1]), three.leaves[2]);
        let odd = three.set(ROOT, bin(join(&left, &join(&last, &last))));
        Play::message(&odd.letter_with(2, |proof| proof.with(&[PATH], bin([last, left].concat()))))
    });
    let about = "A path is 256 bytes at the most";
    for (name, len, claim) in [
        ("path-of-257-bytes", 257, deny(TOO_LARGE)),
        ("path-of-9-hashes", 288, deny(TOO_LARGE)),
        ("path-of-8-hashes-for-3", 256, length),
    ] {
        book.case(name, about, claim, || {
            with_proof(|proof| proof.with(&[PATH], bin(vec![7; len])))
        });
    }
}

fn lengthened(proof: Value, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Value {
    let Value::Bin(path) = proof.at(&[PATH]).clone() else {
        panic!("a path is bytes");
    };
    proof.with(&[PATH], bin(change(path)))
}

/// Two faults at once.
fn order(book: &mut Book) {
    let about = "Two faults at once: the first in the order of the checks is reported";
    let short = |proof: Value| proof.with(&[PATH], bin([]));
    let rows: Vec<(&str, Claim, Change)> = vec![
        (
            "path-size-and-version",
            deny(TOO_LARGE),
            Box::new(|batch| {
                let batch = batch.set(VERSION, Value::Uint(2));
                batch.letter_with(2, |proof| proof.with(&[PATH], bin([7; 257])))
            }),
        ),
        (
            "index-size-and-version",
            deny(MALFORMED_OUT_OF_RANGE),
            Box::new(|batch| {
                let batch = batch.set(VERSION, Value::Uint(2));
                batch.letter_with(2, |proof| proof.with(&[INDEX], Value::Uint(256)))
            }),
        ),
        (
            "n-and-root",
            deny(MALFORMED_OUT_OF_RANGE),
            Box::new(|batch| batch.set(SIZE, Value::Uint(0)).set(ROOT, bin([])).letter(2)),
        ),
        (
            "version-and-index",
            deny(UNSUPPORTED_VERSION),
            Box::new(|batch| {
                let batch = batch.set(VERSION, Value::Uint(2));
                batch.letter_with(2, |proof| proof.with(&[INDEX], Value::Uint(9)))
            }),
        ),
        (
            "extension-and-path",
            deny(MALFORMED_EXTENSION),
            Box::new(move |batch| {
                let batch = batch.set(EXT, list([Value::Nil]));
                batch.letter_with(2, short)
            }),
        ),
        (
            "index-and-path",
            deny(MALFORMED_OUT_OF_RANGE),
            Box::new(move |batch| {
                batch.letter_with(2, |proof| short(proof.with(&[INDEX], Value::Uint(5))))
            }),
        ),
        (
            "path-and-chain-size",
            deny(MALFORMED_WRONG_LENGTH),
            Box::new(move |batch| {
                let letter = batch.letter_with(2, short);
                letter.edit(|l| l.chain = vec![0; 8_193])
            }),
        ),
        (
            "header-size-and-proof",
            deny(TOO_LARGE),
            Box::new(move |batch| {
                let letter = batch.letter_with(2, short);
                letter.edit(|l| l.header_bytes = Some(vec![0; 2_049]))
            }),
        ),
        (
            "proof-and-header",
            deny(MALFORMED_WRONG_LENGTH),
            Box::new(move |batch| {
                let letter = batch.letter_with(2, short);
                letter.set(letter::VERSION, Value::Uint(2))
            }),
        ),
        (
            "late-and-key",
            deny(EXPIRED),
            Box::new(|batch| {
                let late = Value::Uint(NOW - HOUR);
                let batch = batch.set(KEY, bin([1; 32]));
                batch.letter(2).set(letter::ISSUED, late)
            }),
        ),
        (
            "leaf-and-key",
            deny(CHAIN_BROKEN_LEAF_MISMATCH),
            Box::new(|batch| {
                let batch = batch.set(KEY, bin([1; 32]));
                batch.letter(2).set(letter::LEAF, bin([0; 32]))
            }),
        ),
        (
            "mesh-and-key",
            deny(UNTRUSTED_ROOT_OTHER_MESH),
            Box::new(|batch| {
                let batch = batch.set(MESH, bin([1; 16])).set(KEY, bin([1; 32]));
                batch.letter(2)
            }),
        ),
        (
            "mesh-and-path",
            deny(UNTRUSTED_ROOT_OTHER_MESH),
            Box::new(|batch| {
                batch
                    .set(MESH, bin([1; 16]))
                    .set(ROOT, bin([1; 32]))
                    .letter(2)
            }),
        ),
        (
            "key-and-path",
            deny(KEY_MISMATCH_OTHER_AGENT),
            Box::new(|batch| {
                batch
                    .set(KEY, bin([1; 32]))
                    .set(ROOT, bin([1; 32]))
                    .letter(2)
            }),
        ),
        (
            "key-and-signature",
            deny(KEY_MISMATCH_OTHER_AGENT),
            Box::new(|batch| {
                let batch = batch.set(KEY, bin([1; 32]));
                batch.edit(|b| b.signature = Some(bin([1; 64]))).letter(2)
            }),
        ),
        (
            "key-and-content",
            deny(KEY_MISMATCH_OTHER_AGENT),
            Box::new(|batch| {
                let header = batch.letters[2].header_encoded();
                let letter = batch.set(KEY, bin([1; 32])).letter(2).payload("PAYLOAD");
                letter.edit(|l| l.header_bytes = Some(header))
            }),
        ),
        (
            "signature-and-content-form",
            deny(BAD_SIGNATURE),
            Box::new(|_| {
                let odd = event().edit(|l| l.content = Value::Raw(vec![0xc0]));
                let batch = Batch::of([odd]).edit(|b| b.signature = Some(bin([1; 64])));
                batch.letter(0)
            }),
        ),
        (
            "path-and-content-form",
            deny(BAD_SIGNATURE),
            Box::new(|_| {
                let odd = event().edit(|l| l.content = Value::Raw(vec![0xc0]));
                Batch::of([odd]).set(ROOT, bin([1; 32])).letter(0)
            }),
        ),
    ];
    for (name, claim, make) in rows {
        changed(book, &format!("order-{name}"), about, claim, make);
    }
    let about = "Two faults at once: the first in the order of the checks is reported";
    book.case(
        "order-trailing-and-proof",
        about,
        deny(MALFORMED_WRONG_LENGTH),
        || {
            let letter = batch(5).letter_with(2, short);
            let bytes = [&letter.frame()[..], &[0]].concat();
            Play::message(&letter).bytes(bytes)
        },
    );
    book.case(
        "order-revoked-and-key",
        about,
        deny_at(REVOKED_KEY, 0),
        || {
            let chain = ChainSpec::down(&Mesh::new(), &["mia"]);
            let batch = Batch::of(letters(&chain, 2)).set(KEY, bin([1; 32]));
            Play::message(&batch.letter(1)).state("troubled")
        },
    );
}

/// An audit batch is signed by itself.
fn audits(book: &mut Book) {
    let honest = || {
        let lines = audit::lines(&audit::run_of("alice", 1, 1));
        audit::batch("alice", &lines)
    };
    let about = "Records for the audit are in one envelope already: it is signed by itself";
    book.case("audit-in-mode-2", about, deny(UNSUPPORTED_VERSION), || {
        audit::read(&Batch::of([honest()]).letter(0), "")
    });
    let about = "Two faults at once: the first in the order of the checks is reported";
    book.case(
        "audit-kind-and-mode-2",
        about,
        deny(UNEXPECTED_REPLY_NOT_A_REPLY),
        || {
            let other = honest().set(letter::PAYLOAD_TYPE, text(""));
            audit::read(&Batch::of([other]).letter(0), "")
        },
    );
    book.case(
        "audit-mode-2-and-chain",
        about,
        deny(UNSUPPORTED_VERSION),
        || {
            let chain = ChainSpec::down(&Mesh::new(), &["alice"]).encode();
            let letter = honest().edit(|l| l.chain = chain);
            audit::read(&Batch::of([letter]).letter(0), "")
        },
    );
    book.case(
        "audit-mode-2-and-signature",
        about,
        deny(UNSUPPORTED_VERSION),
        || {
            let batch = Batch::of([honest()]).set(KEY, bin([1; 32]));
            audit::read(&batch.letter(0), "")
        },
    );
    let about = "An audit batch that is signed by itself";
    book.case("audit-in-mode-1", about, Allow, || {
        audit::read(&honest(), "r")
    });
}
