//! What a proof and a confirmation are held to: cookie, standing of the peer, end of the session.

use trustmesh::proto::names::Tag;

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::deny_at;
use super::json::hex;
use super::shake::NONCE_R;
use super::shake::QUARTER;
use super::shake::Shake;
use super::shake::Side;
use super::shake::framed;
use super::shake::newest;
use super::shake::session;
use crate::forge::ChainSpec;
use crate::forge::HOUR;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::mesh::window;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

pub(super) fn proof(book: &mut Book) {
    let transcript = deny(HANDSHAKE_FAILED_TRANSCRIPT);
    let about = "The challenge in a proof answers the hello in it, and is of this process";
    book.case("proof-changed-hello", about, transcript, || {
        let shake = Shake::new();
        let challenge = shake.challenge().encode();
        shake
            .edit(|s| {
                s.hello = s.hello.with(&[7], Value::Uint(1));
                s.proof.push((vec![2], bin(challenge)));
            })
            .play(3)
    });
    book.case("proof-other-instance", about, transcript, || {
        Shake::new()
            .edit(|s| s.challenge.push((vec![4], bin([9; 8]))))
            .play(3)
    });
    carried(book);
    let about = "The hello in a proof is held to what a hello is held to";
    for (name, index, value, code) in [
        ("other-mesh", 1, bin([1; 16]), UNTRUSTED_ROOT_OTHER_MESH),
        ("for-another", 4, text("carol"), HANDSHAKE_FAILED_NOT_FOR_ME),
        ("modes-4", 7, Value::Uint(4), HANDSHAKE_FAILED_VERSION),
        ("nonce-zero", 6, bin([0; 32]), HANDSHAKE_FAILED_NONCE),
        (
            "nonce-of-the-challenge",
            6,
            bin(NONCE_R),
            HANDSHAKE_FAILED_NONCE,
        ),
    ] {
        book.case(&format!("proof-hello-{name}"), about, deny(code), || {
            Shake::new()
                .edit(|s| s.hello = s.hello.with(&[index], value))
                .play(3)
        });
    }
    let about = "Certificate and chain are those the body names, and the peer's own";
    let other = deny(KEY_MISMATCH_OTHER_CERTIFICATE);
    book.case("proof-certificate-not-named", about, other, || {
        Shake::new()
            .edit(|s| s.proof.push((vec![3], bin([9; 32]))))
            .play(3)
    });
    book.case("proof-certificate-of-another", about, other, || {
        let carol = Side::of("carol").certificate;
        let shake = Shake::new();
        let tree = shake.tree(3).with(&[4], bin(carol));
        shake.read(3, framed(&tree))
    });
    book.case("proof-certificate-not-registered", about, other, || {
        Shake::new()
            .edit(|s| {
                let window = window(NOW - HOUR, NOW + 2 * HOUR);
                s.i.certificate = Mesh::new().certificate(&s.i.who, window).to_vec();
            })
            .play(3)
    });
    book.case(
        "proof-leaf-not-named",
        about,
        deny(CHAIN_BROKEN_LEAF_MISMATCH),
        || {
            Shake::new()
                .edit(|s| s.proof.push((vec![4], bin([9; 32]))))
                .play(3)
        },
    );
    book.case(
        "proof-chain-of-another",
        about,
        deny(KEY_MISMATCH_OTHER_AGENT),
        || {
            Shake::new()
                .edit(|s| s.i.chain = Side::of("carol").chain)
                .play(3)
        },
    );
    book.case("proof-chain-empty", about, deny(CHAIN_BROKEN_EMPTY), || {
        let shake = Shake::new();
        let tree = shake.tree(3).with(&[5], bin([0x90]));
        shake.read(3, framed(&tree))
    });
    book.case("proof-chain-of-8193-bytes", about, deny(TOO_LARGE), || {
        let shake = Shake::new();
        let tree = shake.tree(3).with(&[5], bin([0; 8_193]));
        shake.read(3, framed(&tree))
    });
    book.case(
        "proof-certificate-of-513-bytes",
        about,
        deny(TOO_LARGE),
        || {
            let shake = Shake::new();
            let tree = shake.tree(3).with(&[4], bin([0; 513]));
            shake.read(3, framed(&tree))
        },
    );
    book.case(
        "proof-certificate-empty",
        about,
        deny(MALFORMED_TRUNCATED),
        || {
            let shake = Shake::new();
            let tree = shake.tree(3).with(&[4], bin([]));
            shake.read(3, framed(&tree))
        },
    );
    let about = "The proof is signed by the initiator's key under its own tag";
    let bad = deny(BAD_SIGNATURE);
    for tag in [Tag::Confirm, Tag::Envelope, Tag::Hello, Tag::Possession] {
        book.case(
            &format!("proof-signed-under-{}", tag.name()),
            about,
            bad,
            || {
                let shake = Shake::new();
                let signature = shake.i.who.sign(tag, &shake.proof().encode());
                let tree = shake.tree(3).with(&[3], bin(signature));
                shake.read(3, framed(&tree))
            },
        );
    }
    book.case("proof-signed-by-another", about, bad, || {
        let shake = Shake::new();
        let signature = Party::named("carol").sign(Tag::Proof, &shake.proof().encode());
        let tree = shake.tree(3).with(&[3], bin(signature));
        shake.read(3, framed(&tree))
    });
    book.case(
        "proof-signature-of-63-bytes",
        about,
        deny(MALFORMED_WRONG_LENGTH),
        || {
            let shake = Shake::new();
            let tree = shake.tree(3).with(&[3], bin([7; 63]));
            shake.read(3, framed(&tree))
        },
    );
}

pub(super) fn cookies(book: &mut Book) {
    let cookie = deny(HANDSHAKE_FAILED_COOKIE);
    let about = "A challenge may be answered for 10 seconds by the responder's clock, without skew";
    for (name, now, claim) in [
        ("at-once", NOW, Allow),
        ("last-instant", NOW + 10_000, Allow),
        ("too-late", NOW + 10_001, cookie),
        ("before-it-was-made", NOW - 1, cookie),
    ] {
        book.case(&format!("cookie-{name}"), about, claim, || {
            let shake = Shake::new();
            let mut play = shake.play(3).at(now);
            // The end of the session follows the clock, and so does the answer.
            let until = now + QUARTER;
            let body = shake.confirm(until).encode();
            let signature = shake.r.who.sign(Tag::Confirm, &body);
            let tree = shake
                .tree(4)
                .with(&[2], bin(&body))
                .with(&[3], bin(signature));
            play.facts = vec![
                ("answer", hex(framed(&tree))),
                ("session", session(&shake.i.who, until)),
            ];
            play
        });
    }
    let about = "A cookie is the responder's own, over exactly this challenge";
    book.case("cookie-of-another-process", about, cookie, || {
        Shake::new().edit(|s| s.cookie = Some(bin([9; 32]))).play(3)
    });
    book.case("cookie-other-time", about, cookie, || {
        Shake::new()
            .edit(|s| s.challenge.push((vec![3], Value::Uint(NOW - 1))))
            .play(3)
    });
    book.case("cookie-other-nonce", about, cookie, || {
        Shake::new()
            .edit(|s| s.challenge.push((vec![2], bin([9; 32]))))
            .play(3)
    });
    book.case("cookie-of-another-hello", about, cookie, || {
        let shake = Shake::new();
        let Value::Bin(old) = shake.challenge().at(&[5]).clone() else {
            panic!("a cookie is bytes")
        };
        shake
            .edit(|s| {
                s.hello = s.hello.with(&[7], Value::Uint(1));
                s.cookie = Some(bin(old));
            })
            .play(3)
    });
    let about = "A challenge is used once";
    book.case("cookie-twice", about, cookie, || {
        let shake = Shake::new();
        shake.play(3).after(shake.play(3), Allow)
    });
    book.case("cookie-twice-other-proof", about, cookie, || {
        let shake = Shake::new();
        let again = shake
            .clone()
            .edit(|s| s.i.chain = ChainSpec::down(&Mesh::new(), &["alice"]));
        again.play(3).after(shake.play(3), Allow)
    });
    let about = "A proof that is refused leaves its challenge usable";
    book.case("cookie-after-a-forgery", about, Allow, || {
        let shake = Shake::new();
        let tree = shake.tree(3).with(&[3], bin([7; 64]));
        shake
            .play(3)
            .after(shake.read(3, framed(&tree)), deny(BAD_SIGNATURE))
    });
}

/// The peer's standing, by the reader's own trust state.
pub(super) fn peers(book: &mut Book) {
    for (name, who, code) in [
        ("unknown", "mallory", UNKNOWN_AGENT),
        ("expired", "kim", EXPIRED),
        ("not-yet-valid", "leo", NOT_YET_VALID),
        ("key-revoked", "mia", REVOKED_KEY),
        ("agent-revoked", "nick", REVOKED_AGENT),
        ("key-blocked", "olga", BLOCKED_KEY),
        ("agent-blocked", "pete", BLOCKED_AGENT),
    ] {
        let about = "An initiator in bad standing proves nothing; the fault lies in no link";
        book.case(&format!("initiator-{name}"), about, deny(code), || {
            Shake::between(who, "bob").play(3).state("troubled")
        });
        let about = "A responder in bad standing confirms nothing; the fault lies in no link";
        book.case(&format!("responder-{name}"), about, deny(code), || {
            Shake::between("alice", who).play(4).state("troubled")
        });
    }
    let about = "The certificate registered for the key is the peer's";
    book.case(
        "initiator-under-another-id",
        about,
        deny(KEY_MISMATCH_OTHER_AGENT),
        || {
            Shake::new()
                .edit(|s| s.hello = s.hello.with(&[2], text("carol")))
                .play(3)
        },
    );
    let about = "The chain is held to its standing, link by link";
    book.case(
        "initiator-chain-unknown-holder",
        about,
        deny_at(UNKNOWN_AGENT, 0),
        || {
            let chain = || ChainSpec::down(&Mesh::new(), &["mallory", "alice"]);
            Shake::new().edit(|s| s.i.chain = chain()).play(3)
        },
    );
    book.case(
        "initiator-chain-revoked-holder",
        about,
        deny_at(REVOKED_KEY, 0),
        || {
            let chain = || ChainSpec::down(&Mesh::new(), &["mia", "alice"]);
            Shake::new()
                .edit(|s| s.i.chain = chain())
                .play(3)
                .state("troubled")
        },
    );
    book.case(
        "initiator-chain-expired",
        about,
        deny_at(EXPIRED, 0),
        || {
            let end = |link: &mut crate::forge::chain::LinkSpec| {
                link.until = Value::Uint(NOW - HOUR / 4);
            };
            Shake::new()
                .edit(|s| s.i.chain = s.i.chain.clone().edit(0, end))
                .play(3)
        },
    );
    book.case(
        "initiator-chain-bad-signature",
        about,
        deny_at(BAD_SIGNATURE, 0),
        || {
            let forge = |link: &mut crate::forge::chain::LinkSpec| {
                link.signature = Some(bin([7; 64]));
            };
            Shake::new()
                .edit(|s| s.i.chain = s.i.chain.clone().edit(0, forge))
                .play(3)
        },
    );
    let about = "A session ends with the first link of either chain";
    book.case("initiator-chain-ends-soon", about, Allow, || {
        let soon = NOW + 60_000;
        let end = |link: &mut crate::forge::chain::LinkSpec| link.until = Value::Uint(soon);
        let shake = Shake::new().edit(|s| s.i.chain = s.i.chain.clone().edit(0, end));
        let body = shake.confirm(soon).encode();
        let signature = shake.r.who.sign(Tag::Confirm, &body);
        let tree = shake
            .tree(4)
            .with(&[2], bin(&body))
            .with(&[3], bin(signature));
        let mut play = shake.play(3);
        play.facts = vec![
            ("answer", hex(framed(&tree))),
            ("session", session(&shake.i.who, soon)),
        ];
        play
    });
    let about = "A chain past its end, within the tolerance still, begins no session";
    for (name, until) in [
        ("initiator-chain-ends-now", NOW),
        ("initiator-chain-ended-within-the-tolerance", NOW - 4_999),
    ] {
        book.case(name, about, deny(HANDSHAKE_FAILED_COOKIE), || {
            let end = |link: &mut crate::forge::chain::LinkSpec| link.until = Value::Uint(until);
            Shake::new()
                .edit(|s| s.i.chain = s.i.chain.clone().edit(0, end))
                .play(3)
        });
    }
    let about = "Nothing is confirmed while a trust file does not hold";
    book.case(
        "initiator-stale-state",
        about,
        deny(STALE_STATE_REGISTRY),
        || {
            let now = NOW + 2 * HOUR;
            Shake::new().edit(|s| s.time = now).play(3).at(now)
        },
    );
}

pub(super) fn confirm(book: &mut Book) {
    let mut case = |name: &str, about: &str, claim: Claim, index: usize, value: Value| {
        book.case(&format!("confirm-{name}"), about, claim, || {
            Shake::new()
                .edit(|s| s.confirm.push((vec![index], value)))
                .play(4)
        });
    };
    let about = "A confirmation is of the proof that was sent";
    case(
        "of-another-proof",
        about,
        deny(HANDSHAKE_FAILED_TRANSCRIPT),
        1,
        bin([9; 32]),
    );
    let about = "Certificate and chain are those the body names";
    let other = deny(KEY_MISMATCH_OTHER_CERTIFICATE);
    case("certificate-not-named", about, other, 2, bin([9; 32]));
    case(
        "leaf-not-named",
        about,
        deny(CHAIN_BROKEN_LEAF_MISMATCH),
        3,
        bin([9; 32]),
    );
    let about = "A session that is over when it begins is none";
    let over = deny(HANDSHAKE_FAILED_COOKIE);
    case("until-now", about, over, 5, Value::Uint(NOW));
    case("until-the-past", about, over, 5, Value::Uint(1));
    let until = |name: &str, about: &str, said: u64, counts: u64, book: &mut Book| {
        book.case(&format!("confirm-{name}"), about, Allow, || {
            let said = Value::Uint(said);
            let shake = Shake::new().edit(|s| s.confirm.push((vec![5], said)));
            let mut play = shake.play(4);
            play.facts = vec![("session", session(&shake.r.who, counts))];
            play
        });
    };
    let about = "A session ends when either side finds it to end";
    until("until-1-ms-from-now", about, NOW + 1, NOW + 1, book);
    until(
        "until-a-minute-from-now",
        about,
        NOW + 60_000,
        NOW + 60_000,
        book,
    );
    until("until-too-far", about, NOW + HOUR, NOW + QUARTER, book);
    until(
        "until-the-end-of-time",
        about,
        u64::MAX,
        NOW + QUARTER,
        book,
    );
    let about = "The confirmation is signed by the key that is meant, under its own tag";
    let bad = deny(BAD_SIGNATURE);
    for tag in [Tag::Proof, Tag::Envelope, Tag::Challenge] {
        book.case(
            &format!("confirm-signed-under-{}", tag.name()),
            about,
            bad,
            || {
                let shake = Shake::new();
                let body = shake.confirm(NOW + QUARTER).encode();
                let tree = shake.tree(4).with(&[3], bin(shake.r.who.sign(tag, &body)));
                shake.read(4, framed(&tree))
            },
        );
    }
    book.case("confirm-signed-by-another", about, bad, || {
        let shake = Shake::new();
        let body = shake.confirm(NOW + QUARTER).encode();
        let signature = Party::named("carol").sign(Tag::Confirm, &body);
        shake.read(4, framed(&shake.tree(4).with(&[3], bin(signature))))
    });
    let about = "One's own proof, sent back, confirms nothing";
    book.case(
        "confirm-reflected-proof",
        about,
        deny(HANDSHAKE_FAILED_TRANSCRIPT),
        || {
            let shake = Shake::new();
            shake.read(4, shake.frame(3))
        },
    );
    let about = "Another peer cannot confirm in the place of the one that is meant";
    book.case("confirm-by-another-peer", about, other, || {
        let shake = Shake::new();
        let carol = shake.clone().edit(|s| s.r = Side::of("carol"));
        shake.read(4, carol.frame(4))
    });
}

/// The newest timestamp that a proof and a confirmation may carry.
fn carried(book: &mut Book) {
    let extension = deny(MALFORMED_EXTENSION);
    for (step, word, at) in [(3, "proof", 5), (4, "confirm", 6)] {
        let mut case = |name: &str, about: &str, claim: Claim, ext: Vec<Value>| {
            book.case(&format!("{word}-newest-{name}"), about, claim, || {
                let add = |s: &mut Shake| {
                    let change = (vec![at], list(ext));
                    match step {
                        3 => s.proof.push(change),
                        _ => s.confirm.push(change),
                    }
                };
                Shake::new().edit(add).play(step)
            });
        };
        let about = "A proof and a confirmation may carry a timestamp, which decides nothing";
        case(
            "of-1-byte",
            about,
            Claim::Allow,
            vec![newest(1, false, &[0])],
        );
        case(
            "of-512-bytes",
            about,
            Claim::Allow,
            vec![newest(1, false, &[9; 512])],
        );
        let about = "What is carried is one timestamp, not critical, of 1 to 512 bytes";
        case(
            "of-513-bytes",
            about,
            extension,
            vec![newest(1, false, &[9; 513])],
        );
        case("critical", about, extension, vec![newest(1, true, &[9])]);
        case("other", about, extension, vec![newest(2, false, &[9])]);
        let twice = vec![newest(1, false, &[9]), newest(1, false, &[9])];
        case("twice", about, extension, twice);
        case("of-nil", about, extension, vec![Value::Nil]);
    }
}
