//! All links together: number, order, parents, holders, signatures, windows, hop by hop.

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::deny_at;
use super::link::pair;
use super::play::Play;
use crate::forge::ChainSpec;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::letter::LEAF;
use crate::forge::value::bin;
use crate::forge::value::list;

/// As many holders as there can be links; bob is the receiver and none of them.
pub const NINE: [&str; 9] = [
    "alice", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy",
];

fn down(holders: &[&str]) -> ChainSpec {
    ChainSpec::down(&Mesh::new(), holders)
}

fn sent(chain: &ChainSpec) -> Play {
    Play::message(&Letter::publish(chain, "orders.eu.new"))
}

/// The chain by itself: what is said of its links is the same with and without a message.
fn alone(chain: &ChainSpec) -> Play {
    Play::chain(chain)
}

pub fn write(book: &mut Book) {
    counts(book);
    order(book);
    holders(book);
    windows(book);
    signatures(book);
    every_hop(book);
    size(book);
}

fn counts(book: &mut Book) {
    for count in 1..=9 {
        let about = format!("An event under a chain of {count} link(s)");
        book.case(&format!("links-{count}"), &about, Allow, || {
            sent(&down(&NINE[..count]))
        });
    }
    let ten: Vec<&str> = NINE.into_iter().chain(["mallory"]).collect();
    let about = "A chain has at most 9 links, whatever else is wrong with it";
    book.case("links-10", about, deny(DEPTH_EXCEEDED_LINKS), || {
        sent(&down(&ten))
    });
    book.case("alone-links-10", about, deny(DEPTH_EXCEEDED_LINKS), || {
        Play::chain(&down(&ten))
    });
    book.case(
        "alone-links-9",
        "A chain of nine, as its holder receives it",
        Allow,
        || Play::chain(&down(&NINE)),
    );
    let about = "A chain has at least one link";
    book.case("links-0", about, deny(CHAIN_BROKEN_EMPTY), || {
        let letter = Letter::publish(&pair(), "orders.eu.new");
        Play::message(&letter.edit(|l| l.chain = vec![0x90]))
    });
    book.case("alone-links-0", about, deny(CHAIN_BROKEN_EMPTY), || {
        Play::chain(&pair()).bytes([0x90])
    });
    let rows: [(&str, Vec<u8>, u16); 7] = [
        ("bytes-empty", vec![], MALFORMED_TRUNCATED),
        ("bytes-nil", vec![0xc0], MALFORMED_WRONG_TYPE),
        ("bytes-map", vec![0x80], MALFORMED_WRONG_TYPE),
        (
            "array-16-of-none",
            vec![0xdc, 0, 0],
            MALFORMED_NOT_CANONICAL,
        ),
        (
            "array-32-of-none",
            vec![0xdd, 0, 0, 0, 0],
            MALFORMED_NOT_CANONICAL,
        ),
        (
            "claims-4-gib",
            vec![0xdd, 0xff, 0xff, 0xff, 0xff],
            MALFORMED_TRUNCATED,
        ),
        ("claims-one", vec![0x91], MALFORMED_TRUNCATED),
    ];
    for (name, bytes, code) in rows {
        let about = "Bytes that are no canonical array of links";
        book.case(name, about, deny(code), || {
            Play::chain(&pair()).bytes(&bytes)
        });
    }
    for (name, tail) in [("nil", vec![0xc0]), ("chain", vec![0x90])] {
        let about = "Nothing follows a chain's last link";
        let name = format!("trailing-{name}");
        book.case(&name, about, deny(MALFORMED_TRAILING_BYTES), || {
            let chain = pair();
            Play::chain(&chain).bytes([chain.encode(), tail].concat())
        });
    }
}

fn order(book: &mut Book) {
    let rows: [(&str, &str, &[usize], Claim); 6] = [
        (
            "link-dropped",
            "The second of four links is left out",
            &[0, 2, 3],
            deny_at(CHAIN_BROKEN_PARENT_MISMATCH, 1),
        ),
        (
            "root-dropped",
            "The root grant is left out",
            &[1, 2, 3],
            deny_at(MALFORMED_WRONG_LENGTH, 0),
        ),
        (
            "links-exchanged",
            "The second and third links changed places",
            &[0, 2, 1, 3],
            deny_at(CHAIN_BROKEN_PARENT_MISMATCH, 1),
        ),
        (
            "link-repeated",
            "The second link is given twice",
            &[0, 1, 1, 2, 3],
            deny_at(CHAIN_BROKEN_REPEATED_HOLDER, 2),
        ),
        (
            "root-repeated",
            "The root grant is given twice",
            &[0, 0, 1],
            deny_at(MALFORMED_WRONG_LENGTH, 1),
        ),
        ("in-order", "Four links in order", &[0, 1, 2, 3], Allow),
    ];
    for (name, about, places, claim) in rows {
        book.case(name, about, claim, || {
            let chain = down(&NINE[..4]);
            let mut tree = chain.tree();
            let links = tree.items().clone();
            Play::chain(&chain).bytes(list(places.iter().map(|at| links[*at].clone())).encode())
        });
    }
    let about = "The header names the last link of the chain that comes with it";
    let mismatch = deny(CHAIN_BROKEN_LEAF_MISMATCH);
    book.case("leaf-cut-off", about, mismatch, || {
        let chain = down(&NINE[..3]);
        let mut tree = chain.tree();
        tree.items().pop();
        let letter = Letter::publish(&chain, "orders.eu.new");
        Play::message(&letter.edit(|l| l.chain = tree.encode()))
    });
    book.case("leaf-of-another-chain", about, mismatch, || {
        let (signed, wider) = (down(&["carol", "alice"]), down(&["alice"]));
        let letter = Letter::publish(&signed, "orders.eu.new");
        Play::message(&letter.edit(|l| l.chain = wider.encode()))
    });
    book.case("leaf-zero", about, mismatch, || {
        Play::message(&Letter::publish(&pair(), "orders.eu.new").set(LEAF, bin([0; 32])))
    });
    book.case("leaf-names-the-root", about, mismatch, || {
        let chain = pair();
        let letter = Letter::publish(&chain, "orders.eu.new");
        Play::message(&letter.set(LEAF, bin(chain.link_id(0).0)))
    });
    for index in 1..4 {
        let about = "A delegation names the link above it by its object id";
        let claim = deny_at(CHAIN_BROKEN_PARENT_MISMATCH, index);
        book.case(&format!("parent-wrong-{index}"), about, claim, || {
            Play::chain(&down(&NINE[..4]).edit(usize::from(index), |link| {
                link.above = Some(vec![bin([index; 32])]);
            }))
        });
    }
    let about = "A delegation names its grandparent";
    book.case(
        "parent-skipped",
        about,
        deny_at(CHAIN_BROKEN_PARENT_MISMATCH, 2),
        || {
            let chain = down(&NINE[..3]);
            let root = chain.link_id(0).0;
            Play::chain(&chain.edit(2, |link| link.above = Some(vec![bin(root)])))
        },
    );
}

fn holders(book: &mut Book) {
    let repeated = |hop| deny_at(CHAIN_BROKEN_REPEATED_HOLDER, hop);
    let rows: [(&str, &[&str], Claim); 4] = [
        ("holder-again-at-once", &["alice", "alice"], repeated(1)),
        (
            "holder-again-later",
            &["alice", "carol", "alice"],
            repeated(2),
        ),
        (
            "holder-again-last",
            &["alice", "carol", "dave", "carol"],
            repeated(3),
        ),
        (
            "holders-distinct",
            &["alice", "carol", "dave", "erin"],
            Allow,
        ),
    ];
    for (name, holders, claim) in rows {
        let about = "No key stands twice in a chain";
        book.case(name, about, claim, || Play::chain(&down(holders)));
    }
    for index in [0, 2] {
        let about = "The issuer is none of the holders";
        let claim = repeated(index);
        book.case(&format!("issuer-holds-{index}"), about, claim, || {
            let issuer = Mesh::new().issuer();
            Play::chain(&down(&NINE[..3]).edit(usize::from(index), |l| l.give_to(&issuer)))
        });
    }
    let about = "A chain is taken into use by its last holder and by nobody else";
    for (name, holder) in [("above", "alice"), ("stranger", "bob")] {
        let claim = deny_at(CHAIN_BROKEN_NOT_OURS, 1);
        book.case(&format!("not-ours-{name}"), about, claim, || {
            Play::chain(&pair()).edit(|play| play.holder = Party::named(holder).bytes())
        });
    }
    let about = "A root grant is made by a key with the issuer role";
    for (name, who) in [
        ("agent", "bob"),
        ("registrar", "forge/registrar"),
        ("holder", "judy"),
    ] {
        let claim = deny(UNTRUSTED_ROOT_NOT_ISSUER);
        book.case(&format!("issuer-is-{name}"), about, claim, || {
            let mut chain = pair();
            chain.issuer = Party::named(who);
            Play::chain(&chain)
        });
        book.case(&format!("sent-issuer-is-{name}"), about, claim, || {
            let mut chain = pair();
            chain.issuer = Party::named(who);
            sent(&chain)
        });
    }
    let about = "A chain of another mesh";
    book.case("other-mesh", about, deny(UNTRUSTED_ROOT_OTHER_MESH), || {
        let mut chain = pair();
        chain.mesh = vec![1; 16];
        Play::chain(&chain)
    });
    book.case(
        "sent-other-mesh",
        about,
        deny(UNTRUSTED_ROOT_OTHER_MESH),
        || {
            let mut chain = pair();
            chain.mesh = vec![1; 16];
            let mesh = Mesh::new().id();
            let letter = Letter::publish(&chain, "orders.eu.new");
            Play::message(&letter.set(crate::forge::letter::MESH, bin(mesh.0)))
        },
    );
}

/// Windows against the window above, exactly and without tolerance.
fn windows(book: &mut Book) {
    let (from, until) = (NOW - 1_000_000, NOW + 1_000_000);
    let rows: [(&str, u64, u64, bool); 6] = [
        ("window-equal", from, until, true),
        ("window-inside", from + 1, until - 1, true),
        ("window-1-ms-early", from - 1, until, false),
        ("window-1-ms-late", from, until + 1, false),
        ("window-both", from - 1, until + 1, false),
        ("window-of-1-ms", NOW, NOW + 1, true),
    ];
    for (name, nbf, exp, fits) in rows {
        let about = "A delegation holds inside the window of the link above; skew plays no part";
        let claim = if fits {
            Allow
        } else {
            deny_at(SCOPE_EXCEEDED_WINDOW, 1)
        };
        book.case(name, about, claim, || {
            let outer = |link: &mut crate::forge::chain::LinkSpec| {
                (link.from, link.until) = (Value::Uint(from), Value::Uint(until));
            };
            Play::chain(&pair().edit(0, outer).edit(1, |link| {
                (link.from, link.until) = (Value::Uint(nbf), Value::Uint(exp));
            }))
        });
    }
    let rows: [(&str, u64, u64, bool); 7] = [
        ("remaining-8-7", 8, 7, true),
        ("remaining-8-0", 8, 0, true),
        ("remaining-1-0", 1, 0, true),
        ("remaining-8-8", 8, 8, false),
        ("remaining-1-1", 1, 1, false),
        ("remaining-0-0", 0, 0, false),
        ("remaining-2-3", 2, 3, false),
    ];
    for (name, above, below, fits) in rows {
        let about = "A delegation allows fewer further ones than the link above";
        let claim = if fits {
            Allow
        } else {
            deny_at(DEPTH_EXCEEDED_REMAINING, 1)
        };
        book.case(name, about, claim, || {
            let chain = pair().edit(0, |link| link.remaining = Value::Uint(above));
            Play::chain(&chain.edit(1, |link| link.remaining = Value::Uint(below)))
        });
    }
}

fn signatures(book: &mut Book) {
    let about = "The event is signed by the last holder and by nobody else";
    for liar in ["carol", "dave", "bob", "mallory", "forge/issuer"] {
        let name = format!("event-signed-by-{}", liar.replace('/', "-"));
        book.case(&name, about, deny(BAD_SIGNATURE), || {
            let letter = Letter::publish(&down(&["carol", "alice"]), "orders.eu.new");
            let play = Play::message(&letter.edit(|l| l.signer = Party::named(liar)));
            play.edit(|p| p.facts.clear())
        });
    }
    let about = "A stolen chain: its leaf is honest and its holder's key is not at hand";
    book.case("stolen-chain", about, deny(BAD_SIGNATURE), || {
        let letter = Letter::publish(&pair(), "orders.eu.new");
        Play::message(&letter.edit(|l| l.signer = Party::named("alice")))
    });
}

/// What can be wrong at each of nine hops.
fn every_hop(book: &mut Book) {
    for hop in 0..9_u8 {
        let index = usize::from(hop);
        let nine = || down(&NINE);
        let about = "The signature of one link of nine does not verify";
        book.case(
            &format!("signature-zero-at-{hop}"),
            about,
            deny_at(BAD_SIGNATURE, hop),
            || sent(&nine().edit(index, |link| link.signature = Some(bin([0; 64])))),
        );
        let about = "One link of nine is signed by somebody else than the holder above";
        book.case(
            &format!("stranger-signs-{hop}"),
            about,
            deny_at(BAD_SIGNATURE, hop),
            || sent(&nine().edit(index, |link| link.signer = Some(Party::named("mallory")))),
        );
        let about = "One link of nine is signed by the very holder it names";
        book.case(
            &format!("holder-signs-{hop}"),
            about,
            deny_at(BAD_SIGNATURE, hop),
            || alone(&nine().edit(index, |link| link.signer = Some(Party::named(NINE[index])))),
        );
        let about = "From one link of nine on, the chain has expired";
        book.case(
            &format!("expired-at-{hop}"),
            about,
            deny_at(EXPIRED, hop),
            || {
                sent(&(index..9).fold(nine(), |chain, at| {
                    chain.edit(at, |link| link.until = Value::Uint(NOW - 5_000))
                }))
            },
        );
        let about = "From one link of nine on, the chain does not hold yet";
        book.case(
            &format!("early-at-{hop}"),
            about,
            deny_at(NOT_YET_VALID, hop),
            || {
                alone(&(index..9).fold(nine(), |chain, at| {
                    chain.edit(at, |link| link.from = Value::Uint(NOW + 5_001))
                }))
            },
        );
        let about = "One holder of nine has no certificate";
        book.case(
            &format!("unknown-at-{hop}"),
            about,
            deny_at(UNKNOWN_AGENT, hop),
            || {
                let mut holders = NINE;
                holders[index] = "mallory";
                alone(&down(&holders))
            },
        );
    }
}

/// The longest chains and links there can be.
fn size(book: &mut Book) {
    use crate::forge::chain::EVERYTHING;
    use crate::forge::chain::scope;

    let about = "A chain has at most 8192 bytes, before anything in it is read";
    for (len, code) in [(8_192, MALFORMED_TRAILING_BYTES), (8_193, TOO_LARGE)] {
        book.case(&format!("of-{len}-bytes"), about, deny(code), || {
            let chain = pair();
            let mut bytes = chain.encode();
            bytes.resize(len, 0);
            Play::chain(&chain).bytes(bytes)
        });
        book.case(&format!("sent-of-{len}-bytes"), about, deny(code), || {
            let letter = Letter::publish(&pair(), "orders.eu.new");
            Play::message(&letter.edit(|l| l.chain.resize(len, 0)))
        });
    }
    // A capability of one-byte actions on a pattern of `len` bytes, from 32 on, takes len + 5.
    let filled = |chain: ChainSpec, index: usize, len: usize| {
        let base = super::link::body(&chain, index).encode().len();
        let pattern = "s".repeat(len - base - 5 - 2 * 205);
        let long = "l".repeat(200);
        let scope = scope(&[
            (EVERYTHING, ">"),
            (EVERYTHING, long.as_str()),
            (EVERYTHING, long.as_str()),
            (EVERYTHING, pattern.as_str()),
        ]);
        chain.edit(index, |link| link.scope = scope)
    };
    let about = "A link has at most 768 bytes";
    for (len, claims) in [
        (768, [Allow, Allow]),
        (769, [deny_at(TOO_LARGE, 0), deny_at(TOO_LARGE, 1)]),
    ] {
        for (index, claim) in claims.into_iter().enumerate() {
            book.case(
                &format!("link-{index}-of-{len}-bytes"),
                about,
                claim,
                || {
                    let chain = filled(down(&NINE[..index + 1]), index, len);
                    assert_eq!(chain.bodies()[index].len(), len);
                    Play::chain(&chain)
                },
            );
        }
    }
    let about = "Nine links of 768 bytes, the longest chain that can be";
    book.case("longest", about, Allow, || {
        let chain = (0..9).fold(down(&NINE), |chain, index| filled(chain, index, 768));
        sent(&chain)
    });
}
