//! Answers, where they are waited for.

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::deny_at;
use super::header::REQUEST;
use super::header::answer;
use super::header::request;
use super::header::waiting;
use super::play::Play;
use super::play::Waiting;
use crate::forge::ChainSpec;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::chain::EVERYTHING;
use crate::forge::chain::PUB;
use crate::forge::chain::REQ;
use crate::forge::chain::SERVE;
use crate::forge::chain::scope;
use crate::forge::letter::*;
use crate::forge::value::bin;

fn inbox() -> String {
    format!("_INBOX.{}.1", Party::named("bob").bytes().to_nkey())
}

/// An answer by carol under these capabilities.
fn under(capabilities: &[(u64, &str)]) -> Letter {
    let chain =
        ChainSpec::down(&Mesh::new(), &["carol"]).edit(0, |link| link.scope = scope(capabilities));
    let request = trustmesh::proto::signing::ObjectId(REQUEST);
    Letter::answer(&chain, &inbox(), &Party::named("bob"), request)
}

pub fn write(book: &mut Book) {
    let plain = |name: &str, about: &str, claim: Claim, book: &mut Book, letter: fn() -> Letter| {
        book.case(name, about, claim, || {
            Play::answer(&letter(), Some(waiting()))
        });
    };
    plain(
        "accepted",
        "The answer that is waited for",
        Allow,
        book,
        answer,
    );

    let about = "An answer is taken where a request waits for it, and for no other request";
    book.case(
        "no-request",
        about,
        deny(UNEXPECTED_REPLY_NO_REQUEST),
        || Play::answer(&answer(), None),
    );
    book.case(
        "other-request",
        about,
        deny(UNEXPECTED_REPLY_OTHER_REQUEST),
        || {
            let other = Waiting {
                request: [8; 32],
                ..waiting()
            };
            Play::answer(&answer(), Some(other))
        },
    );
    let about = "What arrives in an inbox and is no answer";
    let not = deny(UNEXPECTED_REPLY_NOT_A_REPLY);
    plain("event", about, not, book, || {
        Letter::publish(&ChainSpec::down(&Mesh::new(), &["carol"]), &inbox())
    });
    plain("request", about, not, book, || {
        Letter::request(&ChainSpec::down(&Mesh::new(), &["carol"]), &inbox())
    });
    book.case(
        "event-without-a-request",
        about,
        deny(UNEXPECTED_REPLY_NO_REQUEST),
        || {
            let letter = Letter::publish(&ChainSpec::down(&Mesh::new(), &["carol"]), &inbox());
            Play::answer(&letter, None)
        },
    );
    let about = "One's own request, echoed into one's own inbox, is no answer";
    book.case("own-request", about, not, || {
        let own = Letter::request(&ChainSpec::down(&Mesh::new(), &["bob"]), "store.docs.get");
        let waiting = Waiting {
            request: own.id().0,
            ..waiting()
        };
        Play::answer(&own, Some(waiting))
    });
    authority(book);
    responders(book);
    arrival(book);
    let about = "The same answer a second time";
    book.case("twice", about, deny(REPLAY_SEEN), || {
        let letter = answer();
        let first = Play::answer(&letter, Some(waiting()));
        Play::answer(&letter, Some(waiting())).after(first, Allow)
    });
    let about = "A refused answer leaves nothing behind: the true one is still accepted";
    book.case("after-a-forgery", about, Allow, || {
        let forged = answer().edit(|l| l.signer = Party::named("dave"));
        let first = Play::answer(&forged, Some(waiting()));
        Play::answer(&answer(), Some(waiting())).after(first, deny(BAD_SIGNATURE))
    });
}

/// SERVE on the request's subject, and nothing about the inbox.
fn authority(book: &mut Book) {
    let none = deny_at(SCOPE_EXCEEDED_NOT_GRANTED, 0);
    type Granted = &'static [(u64, &'static str)];
    let rows: [(&str, Granted, Claim); 8] = [
        ("exact", &[(SERVE, "store.docs.get")], Allow),
        ("pattern", &[(SERVE, "store.>")], Allow),
        ("everything", &[(EVERYTHING, ">")], Allow),
        ("without-serve", &[(PUB | REQ, ">")], none),
        ("elsewhere", &[(SERVE, "notes.>")], none),
        ("above", &[(SERVE, "store.docs")], none),
        ("inbox-alone", &[(SERVE, "_INBOX.>")], none),
        ("publish-to-the-inbox", &[(PUB, "_INBOX.>")], none),
    ];
    for (name, capabilities, claim) in rows {
        let about =
            "An answer needs SERVE on the request's subject, and no authority over the inbox";
        book.case(&format!("serve-{name}"), about, claim, || {
            Play::answer(&under(capabilities), Some(waiting()))
        });
    }
    let about = "The subject is the request's, whatever inbox the answer came to";
    book.case("serve-of-another-request", about, none, || {
        let other = Waiting {
            subject: "store.other".into(),
            ..waiting()
        };
        Play::answer(&under(&[(SERVE, "store.docs.>")]), Some(other))
    });
    let json = r#"{ "rules": [ { "name": "receive", "effect": "allow", "actions": ["sub"],
        "subjects": ">" }, { "name": "docs", "effect": "allow", "actions": ["serve"],
        "subjects": "store.docs.>" } ] }"#;
    let mesh = Mesh::with(&["alice", "bob", "carol"]).policy(json);
    book.state(
        "serve-docs",
        "A policy that lets documents be served, and nothing else",
        &mesh,
    );
    let about = "Policy too is asked about the request's subject";
    book.case("policy", about, Allow, || {
        Play::answer(&answer(), Some(waiting())).state("serve-docs")
    });
    book.case(
        "policy-elsewhere",
        about,
        deny(POLICY_DENIED_NO_RULE),
        || {
            let other = Waiting {
                subject: "store.other".into(),
                ..waiting()
            };
            Play::answer(&answer(), Some(other)).state("serve-docs")
        },
    );
}

fn responders(book: &mut Book) {
    for (name, audience, claim) in [
        ("named", "alice", Allow),
        ("other", "carol", deny(UNEXPECTED_REPLY_OTHER_RESPONDER)),
        ("asker", "bob", deny(UNEXPECTED_REPLY_OTHER_RESPONDER)),
    ] {
        let about = "A request meant for one key is answered by that key alone";
        book.case(&format!("responder-{name}"), about, claim, || {
            let audience = Some(Party::named(audience).bytes());
            Play::answer(
                &answer(),
                Some(Waiting {
                    audience,
                    ..waiting()
                }),
            )
        });
    }
    let about = "An answer is for its asker";
    for (name, audience) in [("carol", "carol"), ("the-responder", "alice")] {
        book.case(&format!("for-{name}"), about, deny(WRONG_AUDIENCE), || {
            let key = Party::named(audience).bytes().0;
            Play::answer(&answer().set(AUDIENCE, bin(key)), Some(waiting()))
        });
    }
    let about = "An answer is signed by the last holder of its chain";
    book.case("signed-by-another", about, deny(BAD_SIGNATURE), || {
        let forged = answer().edit(|l| l.signer = Party::named("dave"));
        Play::answer(&forged, Some(waiting()))
    });
}

/// Where and when an answer arrives.
fn arrival(book: &mut Book) {
    let about = "The inbox delivered to is the one signed";
    book.case("moved", about, deny(SUBJECT_MISMATCH_DELIVERED), || {
        let other = format!("{}2", inbox());
        Play::answer(&answer(), Some(waiting())).edit(|play| play.subject = other)
    });
    let about = "An answer asks for no answer";
    book.case(
        "with-reply",
        about,
        deny(SUBJECT_MISMATCH_REPLY_REWRITTEN),
        || Play::answer(&answer(), Some(waiting())).edit(|play| play.reply = Some(inbox())),
    );
    let about = "An answer that came too late, or too early";
    for (name, issued, claim) in [
        ("late", NOW - 15_001, deny(EXPIRED)),
        ("just-in-time", NOW - 15_000, Allow),
        ("early", NOW + 5_001, deny(NOT_YET_VALID)),
        ("just-not-early", NOW + 5_000, Allow),
    ] {
        book.case(name, about, claim, || {
            let letter = answer().set(ISSUED, Value::Uint(issued));
            Play::answer(&letter, Some(waiting()))
        });
    }
    let about = "The request is named by the object id of its header";
    book.case("of-a-full-request", about, Allow, || {
        let asked = request();
        let waiting = Waiting {
            request: asked.id().0,
            ..waiting()
        };
        Play::answer(&answer().set(IN_REPLY_TO, bin(asked.id().0)), Some(waiting))
    });
}
