//! Every window at its bounds, with and without tolerance, and one millisecond beyond.

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::deny_at;
use super::frame::event;
use super::play::Play;
use super::play::own_chain;
use crate::forge::ChainSpec;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::letter::ISSUED;
use crate::forge::letter::TTL;
use crate::forge::mesh::window;
use crate::forge::value::bin;

/// A minute in milliseconds: the half of every narrow window here.
const MINUTE: u64 = 60_000;

/// The first instants in and after a narrow window, with a tolerance, and what is expected there.
fn bounds(early: Claim, late: Claim) -> Vec<(String, u64, u64, Claim)> {
    let mut out = Vec::new();
    for skew in [0, 5_000, 10_000] {
        let (from, until) = (NOW - MINUTE, NOW + MINUTE);
        out.extend([
            (format!("begins-{skew}"), from - skew, skew, Allow),
            (format!("before-{skew}"), from - skew - 1, skew, early),
            (format!("last-{skew}"), until + skew - 1, skew, Allow),
            (format!("over-{skew}"), until + skew, skew, late),
        ]);
    }
    out
}

/// An event made at `now` under a chain that holds for the minute before and after [`NOW`].
fn narrow(now: u64, chain: ChainSpec) -> Letter {
    Letter::publish(&chain, "orders.eu.new").set(ISSUED, Value::Uint(now))
}

pub fn write(book: &mut Book) {
    envelope(book);
    links(book);
    certificates(book);
    files(book);
    receiver(book);
}

/// The envelope's own bounds are both inclusive.
fn envelope(book: &mut Book) {
    for (skew, ttl) in [
        (0, 1),
        (0, 10_000),
        (1, 1),
        (5_000, 10_000),
        (10_000, 120_000),
    ] {
        let rows = [
            ("first", NOW - skew, Allow),
            ("early", NOW - skew - 1, deny(NOT_YET_VALID)),
            ("last", NOW + ttl + skew, Allow),
            ("late", NOW + ttl + skew + 1, deny(EXPIRED)),
        ];
        for (name, now, claim) in rows {
            let name = format!("envelope-{name}-ttl-{ttl}-skew-{skew}");
            let about = "An envelope holds from iat - skew to iat + ttl + skew, both included";
            book.case(&name, about, claim, || {
                Play::message(&event().set(TTL, Value::Uint(ttl)))
                    .at(now)
                    .skew(skew)
            });
        }
    }
    let about = "A clock near the end of time wraps nowhere";
    book.case("clock-at-the-end-of-time", about, deny(EXPIRED), || {
        Play::message(&event()).at(u64::MAX)
    });
    book.case("clock-at-the-epoch", about, deny(NOT_YET_VALID), || {
        Play::message(&event()).at(0)
    });
}

fn links(book: &mut Book) {
    for (index, hop) in [(0, 0), (1, 1)] {
        let claims = (deny_at(NOT_YET_VALID, hop), deny_at(EXPIRED, hop));
        for (name, now, skew, claim) in bounds(claims.0, claims.1) {
            let about = "A link holds from nbf - skew on and until before exp + skew";
            let narrowed = || {
                let chain = ChainSpec::down(&Mesh::new(), &["alice", "carol"]);
                (index..2).fold(chain, |chain, at| {
                    chain.edit(at, |link| {
                        link.from = Value::Uint(NOW - MINUTE);
                        link.until = Value::Uint(NOW + MINUTE);
                    })
                })
            };
            book.case(&format!("link-{index}-{name}"), about, claim, || {
                Play::message(&narrow(now, narrowed())).at(now).skew(skew)
            });
            if skew == 5_000 {
                book.case(&format!("chain-link-{index}-{name}"), about, claim, || {
                    Play::chain(&narrowed()).at(now).skew(skew)
                });
            }
        }
    }
}

fn certificates(book: &mut Book) {
    let mut mesh = Mesh::with(&["alice", "bob", "carol"]);
    mesh.members[0].1 = window(NOW - MINUTE, NOW + MINUTE);
    book.state("term", "Alice's certificate holds for two minutes", &mesh);
    let claims = (deny_at(NOT_YET_VALID, 0), deny_at(EXPIRED, 0));
    for (name, now, skew, claim) in bounds(claims.0, claims.1) {
        let about = "A holder's certificate holds from nbf - skew on and until before exp + skew";
        book.case(&format!("certificate-{name}"), about, claim, || {
            let chain = ChainSpec::down(&Mesh::new(), &["alice", "carol"]);
            Play::message(&narrow(now, chain))
                .at(now)
                .skew(skew)
                .state("term")
        });
    }
    let about = "The certificate of the holder in question, and of no other";
    book.case(
        "certificate-of-the-leaf",
        about,
        deny_at(EXPIRED, 1),
        || {
            let chain = ChainSpec::down(&Mesh::new(), &["carol", "alice"]);
            let now = NOW + 2 * MINUTE;
            Play::message(&narrow(now, chain)).at(now).state("term")
        },
    );
}

/// Each trust file, with all others good.
fn files(book: &mut Book) {
    let rows = [
        ("root", STALE_STATE_TRUST_ROOT),
        ("registry", STALE_STATE_REGISTRY),
        ("policy", STALE_STATE_POLICY),
        ("revocations", STALE_STATE_REVOCATIONS),
        ("scores", STALE_STATE_SCORES),
    ];
    for (index, (file, code)) in rows.into_iter().enumerate() {
        let mut mesh = Mesh::with(&["alice", "bob"]);
        mesh.scores = Some(Default::default());
        let brief = window(NOW - MINUTE, NOW + MINUTE);
        match index.checked_sub(1) {
            None => mesh.root_window = brief,
            Some(index) => mesh.windows[index] = brief,
        }
        let state = format!("brief-{file}");
        book.state(
            &state,
            &format!("The {file} file holds for two minutes"),
            &mesh,
        );
        for (name, now, skew, claim) in bounds(deny(code), deny(code)) {
            if skew != 5_000 {
                continue;
            }
            let about = format!("Nothing is accepted while the {file} file does not hold");
            book.case(&format!("{file}-{name}"), &about, claim, || {
                let letter = narrow(now, ChainSpec::down(&mesh, &["alice"]));
                let play = Play::message(&letter).at(now).skew(skew).state(&state);
                play.edit(|play| play.own = own_chain(&mesh))
            });
        }
        let about = format!("No chain is taken into use while the {file} file does not hold");
        book.case(
            &format!("{file}-over-for-a-chain"),
            &about,
            deny(code),
            || {
                let chain = ChainSpec::down(&mesh, &["alice"]);
                Play::chain(&chain).state(&state).at(NOW + 2 * MINUTE)
            },
        );
    }
}

/// The chain the receiver subscribed under.
fn receiver(book: &mut Book) {
    let claims = (deny(NOT_YET_VALID), deny(EXPIRED));
    for (name, now, skew, claim) in bounds(claims.0, claims.1) {
        let about = "A subscription receives while the chain it was made under holds";
        book.case(&format!("receiver-{name}"), about, claim, || {
            let chain = ChainSpec::down(&Mesh::new(), &["bob"]).edit(0, |link| {
                link.from = Value::Uint(NOW - MINUTE);
                link.until = Value::Uint(NOW + MINUTE);
                link.nonce = bin(*b"the receiver's  ");
            });
            let letter = narrow(now, ChainSpec::down(&Mesh::new(), &["alice"]));
            let play = Play::message(&letter).at(now).skew(skew);
            play.edit(|play| play.own = chain.encode())
        });
    }
    let about = "The receiver's own certificate counts as well as its chain";
    let mut mesh = Mesh::with(&["alice", "bob"]);
    mesh.members[1].1 = window(NOW - MINUTE, NOW + MINUTE);
    assert_eq!(mesh.members[1].0.name, Party::named("bob").name);
    book.state(
        "receiver-term",
        "Bob's certificate holds for two minutes",
        &mesh,
    );
    book.case("receiver-certificate", about, Allow, || {
        let chain = ChainSpec::down(&Mesh::new(), &["alice"]);
        Play::message(&narrow(NOW, chain)).state("receiver-term")
    });
    book.case("receiver-certificate-over", about, deny(EXPIRED), || {
        let (now, chain) = (NOW + 2 * MINUTE, ChainSpec::down(&Mesh::new(), &["alice"]));
        Play::message(&narrow(now, chain))
            .at(now)
            .state("receiver-term")
    });
}
