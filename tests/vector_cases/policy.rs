//! What policy says to one message: rules, limits, scores, sessions, rates.

use std::collections::BTreeMap;

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::play::Play;
use crate::forge;
use crate::forge::ChainSpec;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::chain::PUB;
use crate::forge::chain::scope;
use crate::forge::letter::ISSUED;
use crate::forge::letter::TTL;

const PEOPLE: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// A rule as JSON.
fn rule(name: &str, effect: &str, action: &str, subjects: &str, more: &str) -> String {
    format!(
        r#"{{ "name": "{name}", "effect": "{effect}", "actions": ["{action}"],
            "subjects": "{subjects}"{more} }}"#
    )
}

/// A mesh with these rules, besides one that lets everything be received.
fn ruled(rules: &[String]) -> Mesh {
    let receive = rule("receive", "allow", "sub", ">", "");
    let all: Vec<String> = rules.iter().cloned().chain([receive]).collect();
    Mesh::with(&PEOPLE).policy(&format!(r#"{{ "rules": [{}] }}"#, all.join(", ")))
}

fn event(holders: &[&str]) -> Letter {
    Letter::publish(&ChainSpec::down(&Mesh::new(), holders), "orders.eu.new")
}

fn all(more: &str) -> String {
    rule("all", "allow", "pub", ">", more)
}

pub fn write(book: &mut Book) {
    effects(book);
    limits(book);
    scores(book);
    sessions(book);
    both_bind(book);
    rates(book);
}

fn effects(book: &mut Book) {
    let denied = |subjects: &str| rule("no", "deny", "pub", subjects, "");
    let none = deny(POLICY_DENIED_NO_RULE);
    let no = deny(POLICY_DENIED_DENY_RULE);
    let rows: [(&str, Vec<String>, Claim); 14] = [
        ("allowed", vec![all("")], Allow),
        ("no-rule", vec![], none),
        (
            "other-action",
            vec![rule("r", "allow", "req", ">", "")],
            none,
        ),
        (
            "other-subject",
            vec![rule("r", "allow", "pub", "notes.>", "")],
            none,
        ),
        (
            "narrower-subject",
            vec![rule("r", "allow", "pub", "orders.*", "")],
            none,
        ),
        (
            "exact-subject",
            vec![rule("r", "allow", "pub", "orders.eu.new", "")],
            Allow,
        ),
        ("deny-first", vec![denied("orders.>"), all("")], no),
        ("deny-last", vec![all(""), denied("orders.>")], no),
        ("deny-alone", vec![denied(">")], no),
        ("deny-exact", vec![all(""), denied("orders.eu.new")], no),
        ("deny-elsewhere", vec![denied("orders.*"), all("")], Allow),
        (
            "deny-other-action",
            vec![rule("no", "deny", "req", ">", ""), all("")],
            Allow,
        ),
        ("deny-a-corner", vec![all(""), denied("orders.*.new")], no),
        (
            "delegate-is-no-permission",
            vec![rule("r", "allow", "delegate", ">", "")],
            none,
        ),
    ];
    for (name, rules, claim) in rows {
        let state = format!("policy-{name}");
        book.state(
            &state,
            &format!("A policy of {} rule(s): {name}", rules.len() + 1),
            &ruled(&rules),
        );
        let about = "Nothing is permitted that no rule allows, and deny wins in any order";
        book.case(name, about, claim, || {
            Play::message(&event(&["alice"])).state(&state)
        });
    }
    let about = "A rule on > says nothing about a reserved first token, be it allow or deny";
    let reserved = |rules: &[String]| {
        let rules: Vec<String> = rules
            .iter()
            .cloned()
            .chain([rule("system", "allow", "sub", "$SYS.>", "")])
            .collect();
        ruled(&rules)
    };
    let by_name = rule("named", "allow", "pub", "$SYS.>", "");
    for (name, rules, claim) in [
        ("reserved-by-arrow", vec![all("")], none),
        ("reserved-by-name", vec![by_name.clone()], Allow),
        (
            "reserved-denied-by-arrow",
            vec![by_name.clone(), denied(">")],
            Allow,
        ),
        (
            "reserved-denied-by-name",
            vec![by_name, denied("$SYS.>")],
            no,
        ),
    ] {
        let state = format!("policy-{name}");
        book.state(
            &state,
            &format!("A policy about reserved tokens: {name}"),
            &reserved(&rules),
        );
        book.case(name, about, claim, || {
            let chain = ChainSpec::down(&Mesh::new(), &["alice"])
                .edit(0, |link| link.scope = scope(&[(PUB, "$SYS.>")]));
            let play = Play::message(&Letter::publish(&chain, "$SYS.x")).state(&state);
            play.edit(|play| play.pattern = "$SYS.>".into())
        });
    }
}

fn limits(book: &mut Book) {
    book.state(
        "policy-age",
        "Messages up to a second old",
        &ruled(&[all(r#", "max_age_ms": 1000"#)]),
    );
    let about = "A message is at most as old as the rule allows; one from the future has no age";
    for (name, issued, claim) in [
        ("age-1000", NOW - 1_000, Allow),
        ("age-1001", NOW - 1_001, deny(POLICY_DENIED_TOO_OLD)),
        ("age-negative", NOW + 5_000, Allow),
    ] {
        book.case(name, about, claim, || {
            let letter = event(&["alice"]).set(ISSUED, Value::Uint(issued));
            Play::message(&letter).state("policy-age")
        });
    }
    book.state(
        "policy-depth",
        "At most one delegation",
        &ruled(&[all(r#", "max_depth": 1"#)]),
    );
    book.state(
        "policy-depth-0",
        "No delegation",
        &ruled(&[all(r#", "max_depth": 0"#)]),
    );
    let deep = deny(DEPTH_EXCEEDED_POLICY);
    for (name, state, holders, claim) in [
        (
            "depth-1-of-1",
            "policy-depth",
            &["carol", "alice"][..],
            Allow,
        ),
        (
            "depth-2-of-1",
            "policy-depth",
            &["dave", "carol", "alice"],
            deep,
        ),
        ("depth-0-of-0", "policy-depth-0", &["alice"], Allow),
        ("depth-1-of-0", "policy-depth-0", &["carol", "alice"], deep),
    ] {
        let about =
            "The depth of a chain is the number of its delegations; the fault lies in no link";
        book.case(name, about, claim, || {
            Play::message(&event(holders)).state(state)
        });
    }
    for (name, modes, claim) in [
        ("modes-1", "[1]", Allow),
        ("modes-1-2", "[1, 2]", Allow),
        ("modes-2", "[2]", deny(POLICY_DENIED_MODE)),
        ("modes-2-3", "[2, 3]", deny(POLICY_DENIED_MODE)),
    ] {
        let state = format!("policy-{name}");
        let more = format!(r#", "modes": {modes}"#);
        book.state(
            &state,
            &format!("Envelope modes {modes}"),
            &ruled(&[all(&more)]),
        );
        let about = "A rule allows the envelope modes it names";
        book.case(name, about, claim, || {
            Play::message(&event(&["alice"])).state(&state)
        });
    }
    let json = format!(
        r#"{{ "ttl": {{ "envelope_ms": 5000 }}, "rules": [{}, {}] }}"#,
        all(""),
        rule("receive", "allow", "sub", ">", "")
    );
    book.state(
        "policy-ttl",
        "Envelopes live for five seconds",
        &Mesh::with(&PEOPLE).policy(&json),
    );
    for (ttl, claim) in [(5_000, Allow), (5_001, deny(POLICY_DENIED_TTL))] {
        let about = "An envelope lives for at most as long as policy allows";
        book.case(&format!("ttl-{ttl}"), about, claim, || {
            Play::message(&event(&["alice"]).set(TTL, Value::Uint(ttl))).state("policy-ttl")
        });
    }
}

fn scores(book: &mut Book) {
    let scored = |required: u16, scores: Option<&[(&str, u16)]>| {
        let mut mesh = ruled(&[all(&format!(r#", "min_score": {required}"#))]);
        mesh.scores = scores.map(|scores| {
            let entry = |(name, score): &(&str, u16)| (Party::named(name).id(), *score);
            scores.iter().map(entry).collect::<BTreeMap<_, _>>()
        });
        mesh
    };
    let people: &[(&str, u16)] = &[("alice", 500), ("carol", 499), ("dave", 501)];
    book.state(
        "scores",
        "Scores around the 500 that are asked for",
        &scored(500, Some(people)),
    );
    book.state(
        "scores-none",
        "A score is asked for and none are kept",
        &scored(1, None),
    );
    book.state(
        "scores-zero",
        "No score is asked for in fact",
        &scored(0, None),
    );
    let top: &[(&str, u16)] = &[("alice", 1_000), ("carol", 999)];
    book.state(
        "scores-top",
        "The highest score is asked for",
        &scored(1_000, Some(top)),
    );
    let low = deny(TRUST_TOO_LOW);
    for (name, state, holders, claim) in [
        ("score-at", "scores", &["alice"][..], Allow),
        ("score-below", "scores", &["carol"], low),
        ("score-above", "scores", &["dave"], Allow),
        ("score-lowest-counts", "scores", &["carol", "alice"], low),
        (
            "score-lowest-counts-below",
            "scores",
            &["alice", "carol"],
            low,
        ),
        ("score-both-good", "scores", &["dave", "alice"], Allow),
        ("score-missing", "scores", &["bob"], low),
        ("score-missing-above", "scores", &["bob", "alice"], low),
        ("scores-missing", "scores-none", &["alice"], low),
        ("score-zero-asked", "scores-zero", &["alice"], Allow),
        ("score-1000", "scores-top", &["alice"], Allow),
        ("score-999-of-1000", "scores-top", &["carol"], low),
    ] {
        let about = "A chain is worth the lowest score of its holders, and no score is the lowest";
        book.case(name, about, claim, || {
            let play = Play::message(&event(holders)).state(state);
            // Bob cannot both send and receive with one key here, so carol receives from him.
            if holders.contains(&"bob") {
                received_by(play, "carol")
            } else {
                play
            }
        });
    }
}

/// The same message, delivered to somebody else.
fn received_by(play: Play, name: &str) -> Play {
    let chain = forge::named("policy/own", || ChainSpec::down(&Mesh::new(), &[name]));
    play.edit(|play| {
        play.me = Party::named(name);
        play.own = chain.encode();
    })
}

fn sessions(book: &mut Book) {
    let asked = ruled(&[all(r#", "session": true"#)]);
    book.state("policy-session", "Publishing takes a session", &asked);
    let none = deny(POLICY_DENIED_NO_SESSION);
    let key = |name: &str| Party::named(name).bytes();
    for (name, sessions, claim) in [
        ("session-absent", None, none),
        ("session-none", Some(vec![]), none),
        ("session-with-the-sender", Some(vec![key("alice")]), Allow),
        (
            "session-among-others",
            Some(vec![key("dave"), key("alice")]),
            Allow,
        ),
        ("session-with-another", Some(vec![key("dave")]), none),
        (
            "session-with-the-holder-above",
            Some(vec![key("carol")]),
            none,
        ),
        ("session-with-oneself", Some(vec![key("bob")]), none),
    ] {
        let about = "The session is with the sender's key";
        book.case(name, about, claim, || {
            let play = Play::message(&event(&["carol", "alice"])).state("policy-session");
            play.edit(|play| play.sessions = sessions)
        });
    }
}

/// The limits of every allow rule that matches bind.
fn both_bind(book: &mut Book) {
    let narrow = |more: &str| rule("narrow", "allow", "pub", "orders.>", more);
    let elsewhere = |more: &str| rule("elsewhere", "allow", "pub", "notes.>", more);
    let rows: [(&str, Vec<String>, Claim); 6] = [
        (
            "narrow-binds",
            vec![all(""), narrow(r#", "max_depth": 0"#)],
            deny(DEPTH_EXCEEDED_POLICY),
        ),
        (
            "broad-binds",
            vec![narrow(""), all(r#", "max_depth": 0"#)],
            deny(DEPTH_EXCEEDED_POLICY),
        ),
        (
            "neither-binds",
            vec![all(r#", "max_depth": 1"#), narrow(r#", "max_depth": 1"#)],
            Allow,
        ),
        (
            "other-does-not",
            vec![all(""), elsewhere(r#", "max_depth": 0"#)],
            Allow,
        ),
        (
            "first-rule-first",
            vec![all(r#", "session": true"#), narrow(r#", "modes": [2]"#)],
            deny(POLICY_DENIED_NO_SESSION),
        ),
        (
            "within-a-rule-mode-first",
            vec![all(
                r#", "session": true, "min_score": 9, "max_depth": 0, "modes": [2]"#,
            )],
            deny(POLICY_DENIED_MODE),
        ),
    ];
    for (name, rules, claim) in rows {
        let state = format!("policy-{name}");
        book.state(&state, &format!("Two limits: {name}"), &ruled(&rules));
        let about = "A broad rule and a narrow one both bind, each in full before the next";
        book.case(name, about, claim, || {
            Play::message(&event(&["carol", "alice"])).state(&state)
        });
    }
}

fn rates(book: &mut Book) {
    let rate = r#", "rate": { "count": 2, "per_ms": 1000 }"#;
    book.state("policy-rate", "Two messages a second", &ruled(&[all(rate)]));
    let exceeded = deny(POLICY_DENIED_RATE);
    let line = |holders: &[&str]| ChainSpec::down(&Mesh::new(), holders);
    let send = |chain: &ChainSpec, now: u64| {
        let letter = Letter::publish(chain, "orders.eu.new").set(ISSUED, Value::Uint(now));
        Play::message(&letter).state("policy-rate").at(now)
    };
    let about = "A bucket begins full, pays for each message and earns with time";
    let after_two = |name: &str, later: u64, claim: Claim, book: &mut Book| {
        book.case(name, about, claim, || {
            let chain = line(&["alice"]);
            let (first, second) = (send(&chain, NOW), send(&chain, NOW));
            send(&chain, NOW + later)
                .after(first, Allow)
                .after(second, Allow)
        });
    };
    after_two("rate-third-at-once", 0, exceeded, book);
    after_two("rate-third-after-499-ms", 499, exceeded, book);
    after_two("rate-third-after-500-ms", 500, Allow, book);
    after_two("rate-third-much-later", 60_000, Allow, book);
    book.case("rate-second", about, Allow, || {
        let chain = line(&["alice"]);
        let first = send(&chain, NOW);
        send(&chain, NOW).after(first, Allow)
    });
    let about = "Chains that share a link share its allowance";
    let children = |third: &str| {
        let root = line(&["alice"]);
        let mut other = root.clone();
        other
            .links
            .extend(line(&["alice", third]).links.into_iter().skip(1));
        (root, other)
    };
    book.case("rate-split-over-children", about, exceeded, || {
        let (root, child) = children("carol");
        let (first, second) = (send(&root, NOW), send(&root, NOW));
        send(&child, NOW).after(first, Allow).after(second, Allow)
    });
    book.case("rate-one-of-each", about, Allow, || {
        let (root, child) = children("carol");
        let first = send(&root, NOW);
        send(&child, NOW).after(first, Allow)
    });
    let about = "Another chain, even of the same sender, has an allowance of its own";
    book.case("rate-other-chain", about, Allow, || {
        let (one, other) = (line(&["alice"]), line(&["alice"]));
        let (first, second) = (send(&one, NOW), send(&one, NOW));
        send(&other, NOW).after(first, Allow).after(second, Allow)
    });
    let about = "What is refused costs nothing";
    book.case("rate-refused-is-free", about, Allow, || {
        let chain = line(&["alice"]);
        let first = send(&chain, NOW);
        let lost = send(&chain, NOW).edit(|play| play.subject = "orders.us.new".into());
        let forged = Letter::publish(&chain, "orders.eu.new")
            .edit(|l| l.signature = Some(crate::forge::value::bin([1; 64])));
        let forged = Play::message(&forged).state("policy-rate");
        let again = first.clone();
        send(&chain, NOW)
            .after(first, Allow)
            .after(lost, deny(SUBJECT_MISMATCH_DELIVERED))
            .after(forged, deny(BAD_SIGNATURE))
            .after(again, deny(REPLAY_SEEN))
    });
    book.case("rate-refused-child-is-free", about, Allow, || {
        let (root, child) = children("carol");
        let other = {
            let mut other = root.clone();
            other
                .links
                .extend(line(&["alice", "dave"]).links.into_iter().skip(1));
            other
        };
        // The child's own bucket is full, its root's is empty: neither is debited.
        let (first, second) = (send(&root, NOW), send(&other, NOW));
        let third = send(&child, NOW);
        send(&child, NOW + 500)
            .after(first, Allow)
            .after(second, Allow)
            .after(third, exceeded)
    });
}
