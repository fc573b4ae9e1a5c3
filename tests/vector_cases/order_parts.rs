//! Two faults at once in what messages are decided from, and in what is no message: chains,
//! standing, policy, trust files, handshakes, audit.

use super::Book;
use super::Claim;
use super::audit::batch;
use super::audit::lines;
use super::audit::read;
use super::audit::run_of;
use super::codes::*;
use super::deny;
use super::deny_at;
use super::frame::event;
use super::link::pair;
use super::play::Play;
use super::root::state;
use super::root::with_root;
use super::shake::Shake;
use super::shake::Side;
use super::shake::framed;
use super::vault::Paper;
use super::vault::Vault;
use crate::forge::ChainSpec;
use crate::forge::HOUR;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::chain::DELEGATE;
use crate::forge::chain::LinkSpec;
use crate::forge::chain::PUB;
use crate::forge::chain::scope;
use crate::forge::letter::*;
use crate::forge::mesh::window;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

const ABOUT: &str = "Two faults at once: the first in the order of the checks is reported";

pub(super) fn write(book: &mut Book) {
    chains(book);
    standing(book);
    limits(book);
    denials(book);
    files(book);
    frames(book);
    peers(book);
    audit(book);
}

fn sent(holders: &[&str]) -> Letter {
    Letter::publish(&ChainSpec::down(&Mesh::new(), holders), "orders.eu.new")
}

fn chains(book: &mut Book) {
    book.case(
        "mesh-and-freshness-alone",
        ABOUT,
        deny(UNTRUSTED_ROOT_OTHER_MESH),
        || {
            let mut chain = pair();
            chain.mesh = vec![1; 16];
            Play::chain(&chain).at(NOW + 2 * HOUR)
        },
    );
    book.case(
        "chain-mesh-and-issuer",
        ABOUT,
        deny(UNTRUSTED_ROOT_OTHER_MESH),
        || {
            let mut chain = ChainSpec::down(&Mesh::new(), &["alice"]);
            chain.mesh = vec![1; 16];
            chain.issuer = Party::named("carol");
            let letter = Letter::publish(&chain, "orders.eu.new");
            Play::message(&letter.set(MESH, bin(Mesh::new().id().0)))
        },
    );
    type Fault = fn(&mut LinkSpec);
    let parent: Fault = |link| link.above = Some(vec![bin([1; 32])]);
    let remaining: Fault = |link| link.remaining = Value::Uint(8);
    let window: Fault = |link| link.until = Value::Uint(NOW + HOUR);
    let wider: Fault = |link| link.scope = scope(&[(PUB | DELEGATE, "orders.>")]);
    for (name, first, second, code) in [
        (
            "parent-and-remaining",
            parent,
            remaining,
            CHAIN_BROKEN_PARENT_MISMATCH,
        ),
        (
            "remaining-and-window",
            remaining,
            window,
            DEPTH_EXCEEDED_REMAINING,
        ),
        ("window-and-scope", window, wider, SCOPE_EXCEEDED_WINDOW),
    ] {
        book.case(name, ABOUT, deny_at(code, 1), || {
            let narrow = scope(&[(PUB | DELEGATE, "orders.eu.>")]);
            let both = |link: &mut LinkSpec| {
                link.scope = narrow.clone();
                first(link);
                second(link);
            };
            let chain = pair().edit(0, |link| link.scope = narrow.clone());
            Play::chain(&chain.edit(1, both))
        });
    }
}

fn standing(book: &mut Book) {
    let mut mesh = Mesh::with(&["alice", "bob", "mia", "nick", "olga", "pete"]);
    let over = window(NOW - 2 * HOUR, NOW - HOUR);
    mesh.members.push((Party::named("kim"), over));
    for name in ["mia", "nick"] {
        mesh.revoked.revoke_key(Party::named(name).bytes());
    }
    mesh.revoked.revoke_agent(Party::named("nick").id());
    let mesh = mesh.policy(&format!(
        r#"{{ "blocked": {{ "agents": ["olga", "pete"], "keys": ["{}", "{}"] }},
            "allowed": {{ "agents": ["alice", "bob", "kim", "nick", "olga"] }},
            "rules": [ {{ "name": "all", "effect": "allow",
            "actions": ["pub", "sub", "req", "serve"], "subjects": ">" }} ] }}"#,
        Party::named("kim").bytes(),
        Party::named("olga").bytes(),
    ));
    book.state(
        "order-standing",
        "Agents with two faults each: over, blocked by key, by id, not allowed, revoked",
        &mesh,
    );
    for (name, who, code) in [
        ("certificate-and-blocked-key", "kim", EXPIRED),
        ("blocked-key-and-agent", "olga", BLOCKED_KEY),
        ("blocked-agent-and-not-allowed", "pete", BLOCKED_AGENT),
        ("revoked-key-and-agent", "nick", REVOKED_KEY),
    ] {
        book.case(name, ABOUT, deny_at(code, 0), || {
            Play::message(&sent(&[who])).state("order-standing")
        });
    }
    book.case(
        "audit-not-allowed-and-revoked",
        ABOUT,
        deny(BLOCKED_NOT_ALLOWED),
        || {
            let letter = batch("mia", &lines(&run_of("mia", 1, 1)));
            read(&letter, "").state("order-standing")
        },
    );
}

/// One rule with several limits, of which a message exceeds two.
fn limits(book: &mut Book) {
    let limited = |limits: &str| {
        let mut mesh = Mesh::with(&["alice", "bob", "carol", "dave"]).policy(&format!(
            r#"{{ "rules": [ {{ "name": "all", "effect": "allow", "actions": ["pub"],
                "subjects": ">", "max_age_ms": 1000, {limits} }},
                {{ "name": "receive", "effect": "allow", "actions": ["sub"],
                "subjects": ">" }} ] }}"#
        ));
        let scores = [("alice", 500), ("carol", 500), ("dave", 499)];
        let scores = scores.map(|(name, score)| (Party::named(name).id(), score));
        mesh.scores = Some(scores.into());
        mesh
    };
    let rest = r#""max_depth": 0, "min_score": 500, "session": true"#;
    let about = "A rule with limits on age, depth, score and session";
    book.state("order-limits", about, &limited(rest));
    let about = "A rule with limits on mode and age";
    book.state("order-mode", about, &limited(r#""modes": [2]"#));
    let old = NOW - 1_001;
    type Row = (
        &'static str,
        &'static str,
        &'static [&'static str],
        u64,
        u16,
    );
    // The receiver has a session with alice, and with nobody else.
    let rows: [Row; 4] = [
        (
            "mode-and-age",
            "order-mode",
            &["alice"],
            old,
            POLICY_DENIED_MODE,
        ),
        (
            "age-and-depth",
            "order-limits",
            &["carol", "alice"],
            old,
            POLICY_DENIED_TOO_OLD,
        ),
        (
            "depth-and-score",
            "order-limits",
            &["dave", "alice"],
            NOW,
            DEPTH_EXCEEDED_POLICY,
        ),
        (
            "score-and-session",
            "order-limits",
            &["dave"],
            NOW,
            TRUST_TOO_LOW,
        ),
    ];
    for (name, state, holders, issued, code) in rows {
        book.case(name, ABOUT, deny(code), || {
            let letter = sent(holders).set(ISSUED, Value::Uint(issued));
            Play::message(&letter).state(state).edit(|play| {
                play.sessions = Some(vec![Party::named("alice").bytes()]);
            })
        });
    }
}

fn denials(book: &mut Book) {
    let mesh = |more: &str, action: &str, sub: &str| {
        Mesh::with(&["alice", "bob"]).policy(&format!(
            r#"{{ {more} "rules": [ {{ "name": "all", "effect": "allow",
                "actions": ["pub"{sub}], "subjects": ">" }}, {{ "name": "no",
                "effect": "deny", "actions": ["{action}"], "subjects": "orders.>" }} ] }}"#
        ))
    };
    let ttl = r#""ttl": { "envelope_ms": 5000 },"#;
    let about = "Envelopes live for five seconds, and none may be sent";
    book.state("order-ttl", about, &mesh(ttl, "pub", r#", "sub""#));
    let about = "Orders may not be received, and nothing else may be either";
    book.state("order-subscription", about, &mesh("", "sub", ""));
    for (name, state, code) in [
        ("ttl-and-deny-rule", "order-ttl", POLICY_DENIED_TTL),
        (
            "subscription-denied-and-no-rule",
            "order-subscription",
            POLICY_DENIED_DENY_RULE,
        ),
    ] {
        book.case(name, ABOUT, deny(code), || {
            Play::message(&event()).state(state)
        });
    }
}

fn files(book: &mut Book) {
    let mut paper = Paper::of(&Vault::new().mesh, &Party::named("alice"));
    paper.body = paper.body.with(&[1], bin([1; 16]));
    paper.registrar = Value::Uint(1);
    state(
        book,
        "certificate-mesh-and-registrar",
        ABOUT,
        deny(UNTRUSTED_ROOT_OTHER_MESH),
        &Vault::new().papers(&[paper]),
        |_| {},
    );
    let vault = with_root(|f| {
        f.magic = b"TMSH".to_vec();
        let signature = |index| list([Value::Uint(index), bin([7; 64])]);
        f.signatures = Some(list((0..17).map(signature)));
    });
    state(
        book,
        "file-magic-and-signatures",
        ABOUT,
        deny(MALFORMED_BAD_MAGIC),
        &vault,
        |_| {},
    );
}

/// Frames of the handshake, and what a hello and a challenge say.
fn frames(book: &mut Book) {
    book.case("handshake-size-and-magic", ABOUT, deny(TOO_LARGE), || {
        let shake = Shake::new();
        let mut frame = [b"TMSH", &shake.frame(1)[4..]].concat();
        frame.resize(12_289, 0);
        shake.read(1, frame)
    });
    let transcript = deny(HANDSHAKE_FAILED_TRANSCRIPT);
    book.case("handshake-step-and-length", ABOUT, transcript, || {
        let shake = Shake::new();
        shake.read(1, shake.frame(3))
    });
    type Fault = (usize, Value);
    let mesh: Fault = (1, bin([1; 16]));
    let other: Fault = (4, text("carol"));
    let modes: Fault = (7, Value::Uint(4));
    let rows: [(&str, Claim, [Fault; 2]); 2] = [
        (
            "hello-mesh-and-not-for-me",
            deny(UNTRUSTED_ROOT_OTHER_MESH),
            [mesh, other.clone()],
        ),
        (
            "hello-not-for-me-and-modes",
            deny(HANDSHAKE_FAILED_NOT_FOR_ME),
            [other, modes],
        ),
    ];
    for (name, claim, faults) in rows {
        book.case(name, ABOUT, claim, || {
            let faulty = |hello: Value| {
                let put = |hello: Value, (at, value): Fault| hello.with(&[at], value);
                faults.into_iter().fold(hello, put)
            };
            Shake::new()
                .edit(|s| s.hello = faulty(s.hello.clone()))
                .play(1)
        });
    }
    book.case("challenge-hello-and-nonce", ABOUT, transcript, || {
        let faults = [(vec![1], bin([9; 32])), (vec![2], bin([0; 32]))];
        Shake::new().edit(|s| s.challenge.extend(faults)).play(2)
    });
}

/// What a peer is held to when it proves itself.
fn peers(book: &mut Book) {
    book.case(
        "peer-certificate-and-revoked",
        ABOUT,
        deny(KEY_MISMATCH_OTHER_CERTIFICATE),
        || {
            Shake::between("mia", "bob")
                .edit(|s| s.proof.push((vec![3], bin([9; 32]))))
                .play(3)
                .state("troubled")
        },
    );
    book.case(
        "peer-leaf-and-holder",
        ABOUT,
        deny(CHAIN_BROKEN_LEAF_MISMATCH),
        || {
            let carol = Side::of("carol").chain;
            Shake::new()
                .edit(|s| {
                    s.i.chain = carol;
                    s.proof.push((vec![4], bin([9; 32])));
                })
                .play(3)
        },
    );
    book.case(
        "peer-signature-and-session-over",
        ABOUT,
        deny(BAD_SIGNATURE),
        || {
            let end = |link: &mut LinkSpec| link.until = Value::Uint(NOW);
            let shake = Shake::new().edit(|s| s.i.chain = s.i.chain.clone().edit(0, end));
            let tree = shake.tree(3).with(&[3], bin([7; 64]));
            shake.read(3, framed(&tree))
        },
    );
}

fn audit(book: &mut Book) {
    type Change = fn(Letter) -> Letter;
    let chained = |letter: Letter| {
        let chain = ChainSpec::down(&Mesh::new(), &["alice"]).encode();
        letter.edit(|l| l.chain = chain)
    };
    let rows: [(&str, u16, Change, Change); 3] = [
        (
            "audit-kind-and-chain",
            UNEXPECTED_REPLY_NOT_A_REPLY,
            |letter| letter.set(PAYLOAD_TYPE, text("")),
            chained,
        ),
        (
            "audit-chain-and-early",
            CHAIN_BROKEN_NOT_OURS,
            chained,
            |letter| letter.set(ISSUED, Value::Uint(NOW + HOUR)),
        ),
        (
            "audit-emitter-and-signature",
            SUBJECT_MISMATCH_CONTROL,
            |letter| letter.set(SUBJECT, text("orders.eu.new")),
            |letter| letter.edit(|l| l.signature = Some(bin([1; 64]))),
        ),
    ];
    for (name, code, first, second) in rows {
        book.case(name, ABOUT, deny(code), || {
            let honest = batch("alice", &lines(&run_of("alice", 1, 1)));
            read(&second(first(honest)), "")
        });
    }
}
