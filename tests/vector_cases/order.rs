//! Two faults at once: the first in the order of the checks is the one reported. Messages here,
//! and the parts they are decided from in `order_parts`.

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
use super::play::Waiting;
use crate::forge::ChainSpec;
use crate::forge::HOUR;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::chain::scope;
use crate::forge::letter::*;
use crate::forge::value::bin;
use crate::forge::value::text;

fn old(letter: Letter) -> Letter {
    letter.set(ISSUED, Value::Uint(NOW - HOUR))
}

fn forged(letter: Letter) -> Letter {
    letter.edit(|l| l.signature = Some(bin([1; 64])))
}

fn sent(holders: &[&str]) -> Letter {
    Letter::publish(&ChainSpec::down(&Mesh::new(), holders), "orders.eu.new")
}

pub fn write(book: &mut Book) {
    book.case("none", "No fault at all", Allow, || Play::message(&event()));
    let elsewhere = |play: Play| play.edit(|play| play.subject = "notes.a".into());
    type Make = Box<dyn Fn() -> Play>;
    let rows: Vec<(&str, Claim, Make)> = vec![
        (
            "magic-and-all-else",
            deny(MALFORMED_BAD_MAGIC),
            Box::new(|| {
                Play::message(&event().edit(|l| {
                    l.magic = b"XXXX".to_vec();
                    l.frame_version = Value::Uint(9);
                }))
            }),
        ),
        (
            "version-and-mode",
            deny(UNSUPPORTED_VERSION),
            Box::new(|| {
                Play::message(&event().edit(|l| {
                    l.frame_version = Value::Uint(9);
                    l.frame_mode = Value::Nil;
                }))
            }),
        ),
        (
            "header-version-and-mode",
            deny(UNSUPPORTED_VERSION),
            Box::new(|| {
                Play::message(
                    &event()
                        .set(VERSION, Value::Uint(2))
                        .set(MODE, Value::Uint(2)),
                )
            }),
        ),
        (
            "trailing-bytes-and-bad-header",
            deny(MALFORMED_TRAILING_BYTES),
            Box::new(|| {
                let letter = event().set(VERSION, Value::Uint(2));
                let bytes = [&letter.frame()[..], &[0]].concat();
                Play::message(&letter).bytes(bytes)
            }),
        ),
        (
            "mesh-and-subject",
            deny(UNTRUSTED_ROOT_OTHER_MESH),
            Box::new(move || elsewhere(Play::message(&event().set(MESH, bin([1; 16]))))),
        ),
        (
            "subject-and-reply",
            deny(SUBJECT_MISMATCH_DELIVERED),
            Box::new(move || elsewhere(Play::message(&request())).edit(|play| play.reply = None)),
        ),
        (
            "reply-and-pattern",
            deny(SUBJECT_MISMATCH_REPLY_REWRITTEN),
            Box::new(|| {
                Play::message(&request()).edit(|play| {
                    play.reply = None;
                    play.pattern = "notes.>".into();
                })
            }),
        ),
        (
            "pattern-and-audience",
            deny(SUBJECT_MISMATCH_NOT_SUBSCRIBED),
            Box::new(|| {
                Play::message(&event().set(AUDIENCE, bin([1; 32])))
                    .edit(|play| play.pattern = "notes.>".into())
            }),
        ),
        (
            "audience-and-time",
            deny(WRONG_AUDIENCE),
            Box::new(|| Play::message(&old(event()).set(AUDIENCE, bin([1; 32])))),
        ),
        (
            "time-and-freshness",
            deny(EXPIRED),
            Box::new(|| {
                let now = NOW + 2 * HOUR;
                Play::message(&event()).at(now)
            }),
        ),
        (
            "freshness-and-receiver",
            deny(STALE_STATE_REGISTRY),
            Box::new(|| {
                let now = NOW + 2 * HOUR;
                Play::message(&event().set(ISSUED, Value::Uint(now))).at(now)
            }),
        ),
        (
            "receiver-and-chain",
            deny(UNKNOWN_AGENT),
            Box::new(|| {
                Play::message(&event().edit(|l| l.chain = vec![0x90])).state("receiver-unknown")
            }),
        ),
        (
            "time-and-chain",
            deny(EXPIRED),
            Box::new(|| Play::message(&old(event()).edit(|l| l.chain = vec![0x90]))),
        ),
        (
            "chain-and-leaf",
            deny_at(DEPTH_EXCEEDED_REMAINING, 0),
            Box::new(|| {
                let chain = ChainSpec::down(&Mesh::new(), &["alice"]);
                let chain = chain.edit(0, |link| link.remaining = Value::Uint(9));
                Play::message(&Letter::publish(&chain, "orders.eu.new").set(LEAF, bin([0; 32])))
            }),
        ),
        (
            "leaf-and-unknown",
            deny(CHAIN_BROKEN_LEAF_MISMATCH),
            Box::new(|| Play::message(&sent(&["mallory"]).set(LEAF, bin([0; 32])))),
        ),
        (
            "issuer-and-unknown",
            deny(UNTRUSTED_ROOT_NOT_ISSUER),
            Box::new(|| {
                let mut chain = ChainSpec::down(&Mesh::new(), &["mallory"]);
                chain.issuer = Party::named("bob");
                Play::message(&Letter::publish(&chain, "orders.eu.new"))
            }),
        ),
        (
            "first-holder-first",
            deny_at(EXPIRED, 0),
            Box::new(|| Play::message(&sent(&["kim", "mallory"])).state("troubled")),
        ),
        (
            "unknown-and-inbox",
            deny_at(UNKNOWN_AGENT, 0),
            Box::new(|| {
                let chain = ChainSpec::down(&Mesh::new(), &["mallory"]);
                Play::message(&Letter::request(&chain, "a.b").set(REPLY, text("x.y")))
            }),
        ),
        (
            "inbox-and-link-window",
            deny(SUBJECT_MISMATCH_REPLY_NOT_OWN_INBOX),
            Box::new(|| {
                let chain = ChainSpec::down(&Mesh::new(), &["alice"])
                    .edit(0, |link| link.until = Value::Uint(NOW - HOUR / 4));
                Play::message(&Letter::request(&chain, "a.b").set(REPLY, text("x.y")))
            }),
        ),
        (
            "unknown-and-link-window",
            deny_at(UNKNOWN_AGENT, 1),
            Box::new(|| {
                let chain = ChainSpec::down(&Mesh::new(), &["alice", "mallory"]);
                let end = |link: &mut crate::forge::chain::LinkSpec| {
                    link.until = Value::Uint(NOW - HOUR / 4);
                };
                Play::message(&Letter::publish(
                    &chain.edit(0, end).edit(1, end),
                    "orders.eu.new",
                ))
            }),
        ),
        (
            "link-window-and-signature",
            deny_at(EXPIRED, 1),
            Box::new(|| {
                let chain = ChainSpec::down(&Mesh::new(), &["alice", "carol"])
                    .edit(0, |link| link.signature = Some(bin([1; 64])))
                    .edit(1, |link| link.until = Value::Uint(NOW - HOUR / 4));
                Play::message(&Letter::publish(&chain, "orders.eu.new"))
            }),
        ),
        (
            "link-signature-and-revoked",
            deny_at(BAD_SIGNATURE, 1),
            Box::new(|| {
                let chain = ChainSpec::down(&Mesh::new(), &["mia", "carol"])
                    .edit(1, |link| link.signature = Some(bin([1; 64])));
                Play::message(&Letter::publish(&chain, "orders.eu.new")).state("troubled")
            }),
        ),
        (
            "blocked-and-revoked-below",
            deny_at(BLOCKED_AGENT, 1),
            Box::new(|| Play::message(&sent(&["mia", "pete"])).state("troubled")),
        ),
        (
            "revoked-and-signature",
            deny_at(REVOKED_KEY, 0),
            Box::new(|| Play::message(&forged(sent(&["mia"]))).state("troubled")),
        ),
        (
            "signature-and-content",
            deny(BAD_SIGNATURE),
            Box::new(|| {
                let letter = forged(event()).edit(|l| l.content = Value::Raw(b"?".to_vec()));
                Play::message(&letter)
            }),
        ),
        (
            "content-and-scope",
            deny(MALFORMED_WRONG_TYPE),
            Box::new(|| {
                let chain = ChainSpec::down(&Mesh::new(), &["alice"])
                    .edit(0, |link| link.scope = scope(&[]));
                let letter = Letter::publish(&chain, "orders.eu.new");
                Play::message(&letter.edit(|l| l.content = Value::Raw(vec![0xc0])))
            }),
        ),
        (
            "scope-and-lifetime",
            deny_at(SCOPE_EXCEEDED_NOT_GRANTED, 0),
            Box::new(|| {
                let chain = ChainSpec::down(&Mesh::new(), &["alice"]).edit(0, |link| {
                    link.scope = scope(&[]);
                    link.until = Value::Uint(NOW + 25 * HOUR);
                });
                Play::message(&Letter::publish(&chain, "orders.eu.new"))
            }),
        ),
        (
            "lifetime-and-policy",
            deny_at(SCOPE_EXCEEDED_LIFETIME, 0),
            Box::new(|| {
                let chain = ChainSpec::down(&Mesh::new(), &["alice"])
                    .edit(0, |link| link.until = Value::Uint(NOW + 25 * HOUR));
                let letter = Letter::publish(&chain, "orders.eu.new");
                Play::message(&letter).state("policy-no-rule")
            }),
        ),
        (
            "lifetime-before-signatures-alone",
            deny_at(SCOPE_EXCEEDED_LIFETIME, 0),
            Box::new(|| {
                Play::chain(&ChainSpec::down(&Mesh::new(), &["alice"]).edit(0, |link| {
                    link.until = Value::Uint(NOW + 25 * HOUR);
                    link.signature = Some(bin([1; 64]));
                }))
            }),
        ),
        (
            "holder-last-alone",
            deny_at(BAD_SIGNATURE, 0),
            Box::new(|| {
                Play::chain(&ChainSpec::down(&Mesh::new(), &["alice"]).edit(0, |link| {
                    link.signature = Some(bin([1; 64]));
                }))
                .edit(|play| play.holder = Party::named("carol").bytes())
            }),
        ),
        (
            "kind-and-request",
            deny(UNEXPECTED_REPLY_NOT_A_REPLY),
            Box::new(|| {
                let letter = sent(&["alice"]);
                Play::answer(
                    &letter,
                    Some(Waiting {
                        request: [9; 32],
                        ..waiting()
                    }),
                )
            }),
        ),
        (
            "request-and-audience",
            deny(UNEXPECTED_REPLY_OTHER_REQUEST),
            Box::new(|| {
                let letter = answer().set(AUDIENCE, bin([1; 32]));
                Play::answer(
                    &letter,
                    Some(Waiting {
                        request: [9; 32],
                        ..waiting()
                    }),
                )
            }),
        ),
        (
            "responder-and-standing",
            deny(UNEXPECTED_REPLY_OTHER_RESPONDER),
            Box::new(|| {
                let carol = Some(Party::named("carol").bytes());
                let waiting = Waiting {
                    audience: carol,
                    ..waiting()
                };
                Play::answer(&answer(), Some(waiting)).state("blocked-and-allowed")
            }),
        ),
        (
            "array-claim-and-count",
            deny(MALFORMED_TRUNCATED),
            Box::new(|| Play::message(&event().set(EXT, Value::Raw(vec![0x99])))),
        ),
        (
            "text-length-and-utf-8",
            deny(TOO_LARGE),
            Box::new(|| Play::message(&event().set(PAYLOAD_TYPE, Value::Str(vec![0xff; 97])))),
        ),
        (
            "content-length-and-mesh",
            deny(MALFORMED_CONTENT_LENGTH),
            Box::new(|| {
                let letter = event().set(MESH, bin([1; 16]));
                let header = letter.header_tree().with(&[CONTENT_LEN], Value::Uint(1));
                Play::message(&letter.edit(|l| l.header_bytes = Some(header.encode())))
            }),
        ),
        (
            "audience-and-early",
            deny(WRONG_AUDIENCE),
            Box::new(|| {
                let letter = event().set(ISSUED, Value::Uint(NOW + HOUR));
                Play::message(&letter.set(AUDIENCE, bin([1; 32])))
            }),
        ),
        (
            "floor-and-seen",
            deny(REPLAY_BEFORE_RESTART),
            Box::new(|| {
                let floor = |play: Play| play.edit(|play| play.floor = Some(NOW - 1_000));
                let first = event();
                let second = first.clone().set(ISSUED, Value::Uint(NOW - 2_000));
                floor(Play::message(&second)).after(floor(Play::message(&first)), Allow)
            }),
        ),
        (
            "leaf-and-responder",
            deny(CHAIN_BROKEN_LEAF_MISMATCH),
            Box::new(|| {
                let waiting = Waiting {
                    audience: Some(Party::named("carol").bytes()),
                    ..waiting()
                };
                Play::answer(&answer().set(LEAF, bin([0; 32])), Some(waiting))
            }),
        ),
    ];
    for (name, claim, make) in rows {
        let about = "Two faults at once: the first in the order of the checks is reported";
        book.case(name, about, claim, make);
    }
    super::order_parts::write(book);
}
