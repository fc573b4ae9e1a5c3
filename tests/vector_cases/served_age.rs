//! How old the newest timestamp may be: it depends on what is decided.

use trustmesh::proto::root::TrustRoot;
use trustmesh::proto::trust::Bulletin;

use super::Allow;
use super::Book;
use super::Claim;
use super::Held;
use super::audit;
use super::codes::*;
use super::deny;
use super::header::REQUEST;
use super::header::waiting;
use super::play::Play;
use super::play::own_chain;
use super::print::POLICY;
use super::print::Print;
use super::print::REGISTRY;
use super::print::REVOCATIONS;
use super::print::ask;
use super::shake::Shake;
use super::shake::newest;
use crate::forge::ChainSpec;
use crate::forge::HOUR;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::letter::ISSUED;
use crate::forge::value::list;
use trustmesh::proto::root::Role;
use trustmesh::proto::signing::ObjectId;

/// A served mesh of ten agents, whose newest timestamp was made at [`NOW`].
const STATE: &str = "age-held";

const BOUNDS: [(&str, u64); 3] = [
    ("authority", 20_000),
    ("request", 60_000),
    ("publish", 600_000),
];

fn mesh() -> Mesh {
    let mut mesh = Mesh::new();
    mesh.served = true;
    mesh
}

/// What a reader holds of a mesh.
fn held(mesh: &Mesh, about: &str, change: impl Fn(Print) -> Print) -> Held {
    let files = mesh.files();
    let id = TrustRoot::parse(&files.root).unwrap().id();
    let mut print = Print::new(1, 1);
    print.mesh = id.0[..16].to_vec();
    print.root = (1, id.0);
    print.keeper = mesh.role(Role::Timestamp);
    print.parts = [
        (REGISTRY, files.registry),
        (POLICY, files.policy),
        (REVOCATIONS, files.revocations),
    ]
    .map(|(kind, file)| ((kind, 0), file))
    .into();
    Held {
        about: about.into(),
        root: files.root,
        later: Vec::new(),
        bulletin: Some(change(print).bulletin()),
    }
}

pub fn write(book: &mut Book) {
    let about = "A served mesh of ten agents";
    book.held_state(STATE, held(&mesh(), about, |print| print));
    let short = "A timestamp that lives for a millisecond";
    let brief = |print: Print| print.timestamp(|f| f.set(&[4], Value::Uint(NOW + 1)));
    book.held_state("age-brief", held(&mesh(), short, brief));
    asking(book);
    deciding(book);
    unserved(book);
}

fn stale() -> Claim {
    deny(STALE_STATE_TIMESTAMP)
}

fn asking(book: &mut Book) {
    for (purpose, bound) in BOUNDS {
        let about = "A timestamp is recent enough up to the bound of the purpose, to which the \
                     tolerance adds nothing";
        for skew in [0, 5_000, 10_000] {
            for (word, now, claim) in [
                ("made", NOW, Allow),
                ("last", NOW + bound, Allow),
                ("over", NOW + bound + 1, stale()),
            ] {
                let name = format!("{purpose}-{word}-skew-{skew}");
                book.case(&name, about, claim, || ask(STATE, purpose, now).skew(skew));
            }
            let about = "A timestamp may be ahead of the clock by the tolerance";
            for (word, now, claim) in [
                ("ahead", NOW - skew, Allow),
                ("too-far-ahead", NOW - skew - 1, stale()),
            ] {
                let name = format!("{purpose}-{word}-skew-{skew}");
                book.case(&name, about, claim, || ask(STATE, purpose, now).skew(skew));
            }
        }
        let about = "The age is counted from when a timestamp was made, not from its end";
        let name = format!("{purpose}-brief-last");
        book.case(&name, about, Allow, || {
            ask("age-brief", purpose, NOW + bound)
        });
    }
    let about = "The windows of the files are looked at before the timestamp";
    let late = deny(STALE_STATE_REGISTRY);
    book.case("windows-before-timestamp", about, late, || {
        ask(STATE, "publish", NOW + HOUR + 5_000)
    });
    let about = "A timestamp of the same snapshot keeps a state fresh";
    let beat = |time: u64, issued: u64| {
        let print = Print::new(time, 1).edit(|print| print.issued = issued);
        print.heard_by(super::served::NEW)
    };
    let first = || beat(1, NOW);
    book.case("not-kept-fresh", about, stale(), || {
        ask(super::served::NEW, "authority", NOW + 20_001).after(first(), Allow)
    });
    book.case("kept-fresh", about, Allow, || {
        ask(super::served::NEW, "authority", NOW + 20_001)
            .after(first(), Allow)
            .after(beat(2, NOW + 5_000), Allow)
    });
    let about = "A newer timestamp that was made earlier counts, since its epoch is higher";
    book.case("made-earlier", about, stale(), || {
        ask(super::served::NEW, "authority", NOW + 20_000)
            .after(first(), Allow)
            .after(beat(2, NOW - 1), Allow)
    });
}

fn chain(name: &str) -> ChainSpec {
    ChainSpec::down(&mesh(), &[name])
}

/// What each kind of message asks for.
fn deciding(book: &mut Book) {
    let served = |mut play: Play, now: u64| {
        play.own = own_chain(&mesh());
        play.state(STATE).at(now)
    };
    let rows = |bound: u64| {
        [
            ("last", NOW + bound, Allow),
            ("over", NOW + bound + 1, stale()),
        ]
    };
    let about = "A message that asks for no answer is decided for ten minutes";
    for (word, now, claim) in rows(600_000) {
        book.case(&format!("message-{word}"), about, claim, || {
            let letter = Letter::publish(&chain("alice"), "orders.eu.new");
            served(Play::message(&letter.set(ISSUED, Value::Uint(now))), now)
        });
    }
    let about = "A request is decided for a minute";
    for (word, now, claim) in rows(60_000) {
        book.case(&format!("request-message-{word}"), about, claim, || {
            let letter = Letter::request(&chain("alice"), "orders.eu.new");
            served(Play::message(&letter.set(ISSUED, Value::Uint(now))), now)
        });
    }
    let about = "An answer is decided for a minute";
    for (word, now, claim) in rows(60_000) {
        book.case(&format!("answer-{word}"), about, claim, || {
            let bob = Party::named("bob");
            let inbox = format!("_INBOX.{}.1", bob.bytes().to_nkey());
            let letter = Letter::answer(&chain("carol"), &inbox, &bob, ObjectId(REQUEST));
            let letter = letter.set(ISSUED, Value::Uint(now));
            served(Play::answer(&letter, Some(waiting())), now)
        });
    }
    let about = "A handshake is decided for a minute";
    for (word, now, claim) in [("fresh", NOW, Allow), ("over", NOW + 60_001, stale())] {
        book.case(&format!("handshake-{word}"), about, claim, || {
            let held = held(&mesh(), "", |print| print);
            let bulletin = Bulletin::parse(&held.bulletin.unwrap().into()).unwrap();
            let shake = Shake::in_mesh(&mesh(), "alice", "bob").edit(|shake| {
                shake.time = now;
                let newest = newest(1, false, &bulletin.timestamp);
                shake.confirm.push((vec![6], list([newest])));
            });
            shake.play(3).state(STATE).at(now)
        });
    }
    let about = "The audit is read for ten minutes";
    for (word, now, claim) in rows(600_000) {
        book.case(&format!("audit-{word}"), about, claim, || {
            let payload = audit::lines(&audit::run_of("alice", 1, 1));
            let batch = audit::batch_in(&mesh(), "alice", &payload);
            let play = audit::read(&batch.set(ISSUED, Value::Uint(now)), "r");
            play.state(STATE).at(now)
        });
    }
    let about = "Authority is taken over for twenty seconds";
    for (word, now, claim) in rows(20_000) {
        book.case(&format!("chain-{word}"), about, claim, || {
            served(Play::chain(&chain("bob")), now)
        });
    }
}

/// Files alone are never enough where the root has a timestamp role.
fn unserved(book: &mut Book) {
    let about = "Files of a served mesh are put together, and decide nothing without a timestamp";
    let state = "age-files";
    book.state(
        state,
        "The files of a served mesh, and no timestamp",
        &mesh(),
    );
    book.case("files-assembled", about, Allow, || Play::trust(state));
    book.case("files-decide-nothing", about, stale(), || {
        let letter = Letter::publish(&chain("alice"), "orders.eu.new");
        let mut play = Play::message(&letter);
        play.own = own_chain(&mesh());
        play.state(state)
    });
}
