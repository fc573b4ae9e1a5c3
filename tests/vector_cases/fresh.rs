//! At most once: replays, and what may have been accepted before a restart.

use super::Allow;
use super::Book;
use super::codes::*;
use super::deny;
use super::frame::event;
use super::header::request;
use super::play::Play;
use crate::forge::ChainSpec;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::letter::ISSUED;
use crate::forge::letter::MID;
use crate::forge::letter::SUBJECT;
use crate::forge::letter::TTL;
use crate::forge::value::bin;
use crate::forge::value::text;

pub fn write(book: &mut Book) {
    replays(book);
    refused(book);
    floors(book);
}

fn replays(book: &mut Book) {
    let seen = deny(REPLAY_SEEN);
    let twice = |letter: &Letter, now: u64| {
        let first = Play::message(letter);
        Play::message(letter).at(now).after(first, Allow)
    };
    let about = "The same bytes a second time";
    book.case("event-twice", about, seen, || twice(&event(), NOW));
    book.case("request-twice", about, seen, || twice(&request(), NOW));
    let about = "A message is remembered for as long as it could be accepted";
    for (name, now, claim) in [
        ("a-second-later", NOW + 1_000, seen),
        ("at-the-last-instant", NOW + 15_000, seen),
        ("after-the-last-instant", NOW + 15_001, deny(EXPIRED)),
    ] {
        book.case(&format!("again-{name}"), about, claim, || {
            twice(&event(), now)
        });
    }
    let about = "A message id stands for one message of its sender, whatever that says";
    for (name, field, value) in [
        ("other-subject", SUBJECT, text("orders.us.new")),
        ("other-time", ISSUED, Value::Uint(NOW + 1)),
        ("other-ttl", TTL, Value::Uint(5)),
    ] {
        book.case(&format!("same-mid-{name}"), about, seen, || {
            let letter = event();
            let first = Play::message(&letter);
            Play::message(&letter.set(field, value)).after(first, Allow)
        });
    }
    book.case("same-mid-other-payload", about, seen, || {
        let letter = event();
        let first = Play::message(&letter);
        Play::message(&letter.payload("other")).after(first, Allow)
    });
    book.case("same-mid-other-chain", about, seen, || {
        let chain = ChainSpec::down(&Mesh::new(), &["carol", "alice"]);
        let first = event().set(MID, bin([1; 16]));
        let second = Letter::publish(&chain, "orders.eu.new").set(MID, bin([1; 16]));
        Play::message(&second).after(Play::message(&first), Allow)
    });
    let about = "Two senders may use one message id";
    book.case("same-mid-other-sender", about, Allow, || {
        let by = |name: &str| {
            let chain = ChainSpec::down(&Mesh::new(), &[name]);
            Letter::publish(&chain, "orders.eu.new").set(MID, bin([1; 16]))
        };
        Play::message(&by("carol")).after(Play::message(&by("alice")), Allow)
    });
    let about = "Another message under a chain met before is decided as if it had not been met";
    book.case("same-chain", about, Allow, || {
        let letter = event();
        let first = Play::message(&letter);
        Play::message(&letter.set(MID, bin([2; 16]))).after(first, Allow)
    });
    book.case(
        "same-chain-bad-signature",
        about,
        deny(BAD_SIGNATURE),
        || {
            let letter = event();
            let first = Play::message(&letter);
            let forged = letter
                .set(MID, bin([2; 16]))
                .edit(|l| l.signer = Party::named("carol"));
            Play::message(&forged).after(first, Allow)
        },
    );
    book.case(
        "same-links-bad-link-signature",
        about,
        super::deny_at(BAD_SIGNATURE, 0),
        || {
            let chain = ChainSpec::down(&Mesh::new(), &["alice"]);
            let first = Play::message(&Letter::publish(&chain, "orders.eu.new"));
            let forged = chain.edit(0, |link| link.signature = Some(bin([9; 64])));
            Play::message(&Letter::publish(&forged, "orders.eu.new")).after(first, Allow)
        },
    );
    book.case(
        "same-chain-expired-meanwhile",
        about,
        super::deny_at(EXPIRED, 0),
        || {
            let chain = ChainSpec::down(&Mesh::new(), &["alice"])
                .edit(0, |link| link.until = Value::Uint(NOW + 1));
            let first = Play::message(&Letter::publish(&chain, "orders.eu.new"));
            let letter = Letter::publish(&chain, "orders.eu.new");
            Play::message(&letter).at(NOW + 5_001).after(first, Allow)
        },
    );
}

/// What was refused is not remembered.
fn refused(book: &mut Book) {
    let about =
        "A refused message leaves no trace, so the same bytes are accepted where they belong";
    book.case("after-misdelivery", about, Allow, || {
        let letter = event();
        let first = Play::message(&letter).edit(|play| play.subject = "orders.us.new".into());
        Play::message(&letter).after(first, deny(SUBJECT_MISMATCH_DELIVERED))
    });
    book.case("after-too-early", about, Allow, || {
        let letter = event();
        let first = Play::message(&letter).at(NOW - 6_000);
        Play::message(&letter).after(first, deny(NOT_YET_VALID))
    });
    book.case("after-a-forgery-of-it", about, Allow, || {
        let letter = event();
        let forged = letter.clone().edit(|l| l.signature = Some(bin([1; 64])));
        Play::message(&letter).after(Play::message(&forged), deny(BAD_SIGNATURE))
    });
    book.case("after-damaged-content", about, Allow, || {
        let letter = event();
        let header = letter.header_encoded();
        let damaged = letter
            .clone()
            .payload("PAYLOAD")
            .edit(|l| l.header_bytes = Some(header));
        Play::message(&letter).after(Play::message(&damaged), deny(BAD_SIGNATURE))
    });
    let about = "A replay is found before a signature is looked at";
    book.case(
        "replayed-mid-before-signature",
        about,
        deny(REPLAY_SEEN),
        || {
            let letter = event();
            let first = Play::message(&letter);
            let forged = letter.edit(|l| l.signature = Some(bin([1; 64])));
            Play::message(&forged).after(first, Allow)
        },
    );
}

fn floors(book: &mut Book) {
    let about = "After a restart, what was issued at or before the floor is refused";
    let before = deny(REPLAY_BEFORE_RESTART);
    for (name, issued, claim) in [
        ("below", NOW - 1_001, before),
        ("at", NOW - 1_000, before),
        ("above", NOW - 999, Allow),
    ] {
        book.case(&format!("floor-{name}"), about, claim, || {
            let letter = event().set(ISSUED, Value::Uint(issued));
            Play::message(&letter).edit(|play| play.floor = Some(NOW - 1_000))
        });
    }
    let about = "The floor is found before a signature is looked at";
    book.case("floor-before-signature", about, before, || {
        let letter = event().edit(|l| l.signature = Some(bin([1; 64])));
        Play::message(&letter).edit(|play| play.floor = Some(NOW))
    });
}
