//! Keys that retire: revoked from an instant on, whatever time a message claims.

use super::Allow;
use super::Book;
use super::Claim;
use super::audit;
use super::codes::*;
use super::deny;
use super::deny_at;
use super::files::with;
use super::play::Play;
use super::play::own_chain;
use super::print;
use super::root::state;
use super::shake::Shake;
use crate::forge::ChainSpec;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::letter::ISSUED;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;
use trustmesh::proto::time::Timestamp;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub fn write(book: &mut Book) {
    content(book);
    standing(book);
    order(book);
}

/// The list in the extension.
fn content(book: &mut Book) {
    let mut case = |name: &str, about: &str, claim: Claim, value: Value| {
        let vault = with("revocations", |f| print::extend(f, [print::ext(2, value)]));
        state(book, name, about, claim, &vault, |_| {});
    };
    let entry = |first: u8, from: u64| list([bin([first; 32]), Value::Uint(from)]);
    let of = |entries: Vec<Value>| bin(list(entries).encode());
    let about = "Retirements are keys with their instants, strictly ascending by key";
    case("one", about, Allow, of(vec![entry(1, NOW)]));
    case("two", about, Allow, of(vec![entry(1, NOW), entry(2, 0)]));
    let order = deny(MALFORMED_DUPLICATE);
    case("descending", about, order, {
        of(vec![entry(2, NOW), entry(1, NOW)])
    });
    case("key-twice", about, order, {
        of(vec![entry(1, NOW), entry(1, NOW + 1)])
    });
    case("key-twice-before-its-instant", about, order, {
        of(vec![entry(1, NOW), list([bin([1; 32]), Value::Nil])])
    });
    let about = "A list of retirements is not empty";
    let extension = deny(MALFORMED_EXTENSION);
    case("none", about, extension, of(vec![]));
    let about = "Each retirement is an array of key and instant, and nothing follows the last";
    let length = deny(MALFORMED_WRONG_LENGTH);
    case("of-one-value", about, length, {
        of(vec![list([bin([1; 32])])])
    });
    case("key-31-bytes", about, length, {
        of(vec![list([bin([1; 31]), Value::Uint(NOW)])])
    });
    let kind = deny(MALFORMED_WRONG_TYPE);
    case("from-nil", about, kind, {
        of(vec![list([bin([1; 32]), Value::Nil])])
    });
    case("from-text", about, kind, {
        of(vec![list([bin([1; 32]), text("now")])])
    });
    case("not-canonical", about, deny(MALFORMED_NOT_CANONICAL), {
        of(vec![list([bin([1; 32]), Value::Raw(vec![0xcc, 1])])])
    });
    case("trailing", about, deny(MALFORMED_TRAILING_BYTES), {
        bin([list([entry(1, NOW)]).encode(), vec![0]].concat())
    });
    case("no-bytes", about, deny(MALFORMED_TRUNCATED), bin([]));
    let about = "The value is a byte string";
    case("as-a-list", about, extension, list([entry(1, NOW)]));
    case("as-text", about, extension, text(""));
    let about = "A retirement of a key that is nobody's is none the less one";
    case("of-no-point", about, Allow, of(vec![entry(0xff, NOW)]));
}

/// A mesh in which this party retires now.
fn mesh(who: &Party) -> Mesh {
    let mut mesh = Mesh::new();
    mesh.revoked.retire_key(who.bytes(), at(NOW));
    mesh
}

fn standing(book: &mut Book) {
    let (alice, bob) = (Party::named("alice"), Party::named("bob"));
    let about = "alice's key retires now";
    book.state("retired-alice", about, &mesh(&alice));
    book.state("retired-bob", "bob's key retires now", &mesh(&bob));
    let issuer = Mesh::new().issuer();
    let about = "The issuer's key retires now";
    book.state("retired-issuer", about, &mesh(&issuer));
    let letter = |holders: &[&str], issued: u64| {
        Letter::publish(&ChainSpec::down(&Mesh::new(), holders), "orders.eu.new")
            .set(ISSUED, Value::Uint(issued))
    };
    let about = "A key counts as revoked from the instant it retires, without tolerance";
    for (word, now, retired) in [("before", NOW - 1, false), ("from-then", NOW, true)] {
        let claim = |hop: Option<u8>| {
            if retired {
                Claim::Deny(REVOKED_RETIRED, hop)
            } else {
                Allow
            }
        };
        book.case(&format!("sender-{word}"), about, claim(Some(0)), || {
            Play::message(&letter(&["alice"], NOW))
                .state("retired-alice")
                .at(now)
        });
        book.case(&format!("above-{word}"), about, claim(Some(0)), || {
            Play::message(&letter(&["alice", "carol"], NOW))
                .state("retired-alice")
                .at(now)
        });
        book.case(&format!("below-{word}"), about, claim(Some(1)), || {
            Play::message(&letter(&["carol", "alice"], NOW))
                .state("retired-alice")
                .at(now)
        });
        book.case(&format!("issuer-{word}"), about, claim(None), || {
            Play::message(&letter(&["alice"], NOW))
                .state("retired-issuer")
                .at(now)
        });
        book.case(&format!("receiver-{word}"), about, claim(None), || {
            let mut play = Play::message(&letter(&["alice"], NOW));
            play.own = own_chain(&Mesh::new());
            play.state("retired-bob").at(now)
        });
        book.case(&format!("chain-{word}"), about, claim(Some(0)), || {
            Play::chain(&ChainSpec::down(&Mesh::new(), &["alice"]))
                .state("retired-alice")
                .at(now)
        });
    }
    let about = "Who shakes hands, and who writes the audit, is checked as a holder is";
    let alone = deny(REVOKED_RETIRED);
    for (word, now, claim) in [("before", NOW - 1, Allow), ("from-then", NOW, alone)] {
        book.case(&format!("audit-{word}"), about, claim, || {
            let payload = audit::lines(&audit::run_of("alice", 1, 1));
            let play = audit::read(&audit::batch("alice", &payload), "r");
            play.state("retired-alice").at(now)
        });
    }
    book.case("handshake-from-then", about, alone, || {
        Shake::new().play(3).state("retired-alice")
    });
    let about = "The time a message claims makes no difference";
    let retired = deny_at(REVOKED_RETIRED, 0);
    book.case("claims-to-be-older", about, retired, || {
        Play::message(&letter(&["alice"], NOW - 4_000)).state("retired-alice")
    });
    book.case("others-unaffected", about, Allow, || {
        Play::message(&letter(&["carol"], NOW)).state("retired-alice")
    });
}

/// A key, then its retirement, then its agent.
fn order(book: &mut Book) {
    let alice = Party::named("alice");
    let play = |state: &str| {
        Play::message(&Letter::publish(
            &ChainSpec::down(&Mesh::new(), &["alice"]),
            "orders.eu.new",
        ))
        .state(state)
    };
    let about = "Revoked before retired, retired before the agent";
    let mut both = mesh(&alice);
    both.revoked.revoke_key(alice.bytes());
    book.state("retired-and-revoked", about, &both);
    book.case("key-before-retired", about, deny_at(REVOKED_KEY, 0), || {
        play("retired-and-revoked")
    });
    let mut both = mesh(&alice);
    both.revoked.revoke_agent(alice.id());
    book.state("retired-and-agent", about, &both);
    let retired = deny_at(REVOKED_RETIRED, 0);
    book.case("retired-before-agent", about, retired, || {
        play("retired-and-agent")
    });
    book.case(
        "agent-while-not-retired",
        about,
        deny_at(REVOKED_AGENT, 0),
        || play("retired-and-agent").at(NOW - 1),
    );
}
