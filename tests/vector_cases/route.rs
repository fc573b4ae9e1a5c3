//! Where a message arrives: subject, reply, subscription, audience, inbox.

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::frame::event;
use super::header::request;
use super::play::Play;
use crate::forge::ChainSpec;
use crate::forge::Mesh;
use crate::forge::Party;
use crate::forge::chain::REQ;
use crate::forge::chain::scope;
use crate::forge::letter::AUDIENCE;
use crate::forge::letter::REPLY;
use crate::forge::letter::SUBJECT;
use crate::forge::value::bin;
use crate::forge::value::text;

pub fn write(book: &mut Book) {
    delivered(book);
    replies(book);
    subscriptions(book);
    audiences(book);
    inboxes(book);
}

fn delivered(book: &mut Book) {
    book.case("accepted", "Delivered where it was sent", Allow, || {
        Play::message(&event())
    });
    for (name, subject) in [
        ("sibling", "orders.us.new"),
        ("shorter", "orders.eu"),
        ("longer", "orders.eu.new.x"),
        ("case", "orders.EU.new"),
        ("pattern", "orders.*.new"),
        ("empty", ""),
    ] {
        let about = "The subject delivered is the one signed, byte for byte";
        book.case(
            &format!("moved-{name}"),
            about,
            deny(SUBJECT_MISMATCH_DELIVERED),
            || Play::message(&event()).edit(|play| play.subject = subject.into()),
        );
    }
}

fn replies(book: &mut Book) {
    let alice = Party::named("alice").bytes().to_nkey();
    let rewritten = deny(SUBJECT_MISMATCH_REPLY_REWRITTEN);
    for (name, reply) in [
        ("removed", None),
        ("own-inbox", Some(format!("_INBOX.{alice}.2"))),
        ("service-import", Some("_R_.x7Yb2Q.k3".to_owned())),
        ("jetstream", Some("$JS.API.STREAM.PURGE.AUDIT".to_owned())),
        ("empty", Some(String::new())),
    ] {
        let about = "The reply subject delivered is the one signed, though a server rewrote it";
        book.case(&format!("reply-{name}"), about, rewritten, || {
            Play::message(&request()).edit(|play| play.reply = reply)
        });
    }
    let about = "A reply subject that was not signed";
    book.case("reply-added", about, rewritten, || {
        Play::message(&event()).edit(|play| play.reply = Some("orders.answers".into()))
    });
}

fn subscriptions(book: &mut Book) {
    let outside = deny(SUBJECT_MISMATCH_NOT_SUBSCRIBED);
    for (name, pattern, claim) in [
        ("exact", "orders.eu.new", Allow),
        ("star", "orders.*.new", Allow),
        ("arrow", "orders.>", Allow),
        ("sibling", "orders.us.*", outside),
        ("star-is-one", "orders.*", outside),
        ("arrow-is-one-more", "orders.eu.new.>", outside),
        ("case", "Orders.>", outside),
    ] {
        let about = "A message is one of the subscription it was delivered to";
        book.case(&format!("subscribed-{name}"), about, claim, || {
            Play::message(&event()).edit(|play| play.pattern = pattern.into())
        });
    }
    let about = "A wildcard subscription receives no reserved first token";
    book.case("subscribed-reserved", about, outside, || {
        Play::message(&event().set(SUBJECT, text("$SYS.x")))
    });
    let about = "An answer has no place where messages and requests are expected";
    book.case(
        "answer-on-a-subscription",
        about,
        deny(UNEXPECTED_REPLY_NOT_ASKED),
        || Play::message(&super::header::answer()),
    );
    book.case(
        "answer-on-its-inbox",
        about,
        deny(UNEXPECTED_REPLY_NOT_ASKED),
        || Play::message(&super::header::answer()).edit(|play| play.pattern = "_INBOX.>".into()),
    );
}

fn audiences(book: &mut Book) {
    let other = deny(WRONG_AUDIENCE);
    let rows: [(&str, [u8; 32], Claim); 6] = [
        ("receiver", Party::named("bob").bytes().0, Allow),
        ("sender", Party::named("alice").bytes().0, other),
        ("somebody", Party::named("carol").bytes().0, other),
        ("stranger", Party::named("mallory").bytes().0, other),
        ("zero", [0; 32], other),
        ("no-key", [0xff; 32], other),
    ];
    for (name, audience, claim) in rows {
        let about = "A message with an audience is for the holder of that key";
        book.case(&format!("audience-{name}"), about, claim, || {
            Play::message(&event().set(AUDIENCE, bin(audience)))
        });
        book.case(&format!("request-audience-{name}"), about, claim, || {
            Play::message(&request().set(AUDIENCE, bin(audience)))
        });
    }
}

fn inboxes(book: &mut Book) {
    let key = |name: &str| Party::named(name).bytes().to_nkey();
    let (alice, bob) = (key("alice"), key("bob"));
    let outside = deny(SUBJECT_MISMATCH_REPLY_NOT_OWN_INBOX);
    let rows = [
        ("one-token", format!("_INBOX.{alice}.1"), Allow),
        ("three-tokens", format!("_INBOX.{alice}.a.b.c"), Allow),
        ("prefix-alone", format!("_INBOX.{alice}"), outside),
        ("of-the-receiver", format!("_INBOX.{bob}.1"), outside),
        ("of-nobody", "_INBOX.1".to_owned(), outside),
        ("longer-token", format!("_INBOX.{alice}x.1"), outside),
        ("further-in", format!("x._INBOX.{alice}.1"), outside),
        ("lower-case", format!("_inbox.{alice}.1"), outside),
        (
            "lower-case-key",
            format!("_INBOX.{}.1", alice.to_lowercase()),
            outside,
        ),
        (
            "jetstream",
            "$JS.API.STREAM.PURGE.AUDIT".to_owned(),
            outside,
        ),
        ("plain", "orders.answers".to_owned(), outside),
    ];
    for (name, reply, claim) in rows {
        let about = "Answers are asked for below the sender's own inbox, and nowhere else";
        book.case(&format!("inbox-{name}"), about, claim, || {
            Play::message(&request().set(REPLY, text(&reply)))
        });
    }
    let about = "The inbox is the last holder's, not one of a holder above";
    book.case("inbox-of-a-holder-above", about, outside, || {
        let chain = ChainSpec::down(&Mesh::new(), &["alice", "carol"])
            .edit(1, |link| link.scope = scope(&[(REQ, ">")]));
        let letter = crate::forge::Letter::request(&chain, "store.docs.get");
        Play::message(&letter.set(REPLY, text(&format!("_INBOX.{alice}.1"))))
    });
}
