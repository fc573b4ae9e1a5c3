//! Who is stopped: unknown, expired, blocked, not allowed, revoked; at every hop, and the receiver.

use super::Allow;
use super::Book;
use super::Claim;
use super::chain::NINE;
use super::codes::*;
use super::deny;
use super::deny_at;
use super::link::pair;
use super::play::Play;
use super::play::own_chain;
use crate::forge;
use crate::forge::ChainSpec;
use crate::forge::HOUR;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::chain::tag_at;
use crate::forge::mesh::window;

fn event(holders: &[&str]) -> Letter {
    Letter::publish(&ChainSpec::down(&Mesh::new(), holders), "orders.eu.new")
}

/// A chain that was made once, so that a state can name its links.
fn known() -> ChainSpec {
    forge::named("standing/known", || ChainSpec::down(&Mesh::new(), &NINE))
}

/// Everybody of the mesh, and six who are in bad standing.
fn troubled() -> Mesh {
    let mut mesh = Mesh::new();
    for (name, validity) in [
        ("kim", window(NOW - 2 * HOUR, NOW - HOUR)),
        ("leo", window(NOW + HOUR, NOW + 2 * HOUR)),
        ("mia", window(NOW - HOUR, NOW + HOUR)),
        ("nick", window(NOW - HOUR, NOW + HOUR)),
        ("olga", window(NOW - HOUR, NOW + HOUR)),
        ("pete", window(NOW - HOUR, NOW + HOUR)),
    ] {
        mesh.members.push((Party::named(name), validity));
    }
    mesh.revoked.revoke_key(Party::named("mia").bytes());
    mesh.revoked.revoke_agent(Party::named("nick").id());
    mesh.policy(&policy(&format!(
        r#""blocked": {{ "agents": ["pete"], "keys": ["{}"] }},"#,
        Party::named("olga").bytes()
    )))
}

/// The open policy, with something more.
fn policy(more: &str) -> String {
    format!(
        r#"{{ {more} "rules": [ {{ "name": "all", "effect": "allow",
            "actions": ["pub", "sub", "req", "serve"], "subjects": ">" }} ] }}"#
    )
}

pub fn write(book: &mut Book) {
    let about =
        "One certificate over, one not begun, a key and an agent revoked, a key and an id blocked";
    book.state("troubled", about, &troubled());
    book.case(
        "accepted",
        "Nobody in the chain is in bad standing",
        Allow,
        || Play::message(&event(&NINE)).state("troubled"),
    );
    let rows: [(&str, &str, u16); 6] = [
        ("expired", "kim", EXPIRED),
        ("not-yet-valid", "leo", NOT_YET_VALID),
        ("key-revoked", "mia", REVOKED_KEY),
        ("agent-revoked", "nick", REVOKED_AGENT),
        ("key-blocked", "olga", BLOCKED_KEY),
        ("agent-blocked", "pete", BLOCKED_AGENT),
    ];
    for (name, who, code) in rows {
        let windows = matches!(code, EXPIRED | NOT_YET_VALID);
        for hop in (0..9_u8).filter(|hop| !windows || hop % 4 == 0) {
            let mut holders = NINE;
            holders[usize::from(hop)] = who;
            let about = format!("One holder of nine: {name}");
            book.case(
                &format!("{name}-at-{hop}"),
                &about,
                deny_at(code, hop),
                || {
                    // Alone, since a chain is held to the same standing with and without a message.
                    Play::chain(&ChainSpec::down(&Mesh::new(), &holders)).state("troubled")
                },
            );
        }
        let about = format!("The sender itself: {name}");
        book.case(&format!("{name}-sends"), &about, deny_at(code, 1), || {
            Play::message(&event(&["carol", who])).state("troubled")
        });
    }
    allow_list(book);
    revoked_links(book);
    revoked_issuer(book);
    receiver(book);
    rotation(book);
}

fn allow_list(book: &mut Book) {
    let key = Party::named("alice").bytes();
    let others = [
        "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan",
    ];
    let listed = format!(
        r#""allowed": {{ "agents": ["{}"], "keys": ["{key}"] }},"#,
        others.join("\", \"")
    );
    let mesh = Mesh::new().policy(&policy(&listed));
    book.state(
        "allow-list",
        "An allow list with everybody but judy, alice by her key",
        &mesh,
    );
    let allowed = &NINE[..8];
    let about = "Where there is an allow list, every holder stands on it by id or by key";
    book.case("allowed", about, Allow, || {
        Play::message(&event(allowed)).state("allow-list")
    });
    for hop in 0..9_u8 {
        let claim = deny_at(BLOCKED_NOT_ALLOWED, hop);
        book.case(&format!("not-allowed-at-{hop}"), about, claim, || {
            let mut holders = allowed.to_vec();
            holders.insert(usize::from(hop), "judy");
            Play::chain(&ChainSpec::down(&Mesh::new(), &holders)).state("allow-list")
        });
    }
    let mesh = Mesh::new().policy(&policy(r#""allowed": { "agents": [], "keys": [] },"#));
    book.state(
        "nobody-allowed",
        "An allow list on which nobody stands",
        &mesh,
    );
    let about = "An empty allow list allows nobody";
    book.case(
        "nobody-allowed",
        about,
        deny_at(BLOCKED_NOT_ALLOWED, 0),
        || Play::chain(&pair()).state("nobody-allowed"),
    );
    let both = r#""allowed": { "agents": ["alice", "bob"] }, "blocked": { "agents": ["alice"] },"#;
    let mesh = Mesh::with(&["alice", "bob"]).policy(&policy(both));
    book.state(
        "blocked-and-allowed",
        "Alice stands on the block list and on the allow list",
        &mesh,
    );
    let about = "The block list wins";
    book.case(
        "blocked-and-allowed",
        about,
        deny_at(BLOCKED_AGENT, 0),
        || Play::message(&event(&["alice"])).state("blocked-and-allowed"),
    );
}

fn revoked_links(book: &mut Book) {
    // One state for all hops: the link of each is of a chain of its own.
    let chains: Vec<ChainSpec> = (0..9)
        .map(|hop| {
            let name = format!("standing/revoked-{hop}");
            forge::named(&name, || ChainSpec::down(&Mesh::new(), &NINE))
        })
        .collect();
    let mut mesh = Mesh::new();
    for (hop, chain) in chains.iter().enumerate() {
        mesh.revoked.revoke_link(chain.link_id(hop));
    }
    book.state("revoked-links", "Nine links revoked, of nine chains", &mesh);
    for (hop, chain) in chains.iter().enumerate() {
        let about = "One link of nine is revoked, and everything below it";
        let claim = deny_at(REVOKED_LINK, hop as u8);
        book.case(&format!("link-revoked-{hop}"), about, claim, || {
            Play::chain(chain).state("revoked-links")
        });
    }
    let about = "A chain none of whose links is revoked";
    book.case("link-not-revoked", about, Allow, || {
        Play::chain(&known()).state("revoked-links")
    });
    let about = "A link is revoked by its object id under its own tag, and by no other digest";
    let chain = forge::named("standing/other-digest", pair);
    let mut mesh = Mesh::with(&["alice", "carol", "bob"]);
    mesh.revoked
        .revoke_link(tag_at(1).digest(&chain.bodies()[0]));
    book.state(
        "revoked-other-digest",
        "The digest of a root grant under another tag",
        &mesh,
    );
    book.case("link-other-digest", about, Allow, || {
        Play::chain(&chain).state("revoked-other-digest")
    });
}

fn revoked_issuer(book: &mut Book) {
    let mut mesh = Mesh::with(&["alice", "carol", "bob"]);
    mesh.revoked.revoke_key(mesh.issuer().bytes());
    book.state("revoked-issuer", "The issuer's key is revoked", &mesh);
    let about = "What a revoked issuer granted is worth nothing; the fault lies in no link";
    book.case("issuer-revoked", about, deny(REVOKED_KEY), || {
        Play::chain(&pair()).state("revoked-issuer")
    });
}

/// The receiver's own authority: every refusal is without hop.
fn receiver(book: &mut Book) {
    let own = || forge::named("any", || own_chain(&Mesh::new()));
    let link = forge::named("standing/own", || {
        ChainSpec::down(&Mesh::new(), &["carol", "bob"])
    });
    let people = ["alice", "bob", "carol"];
    let plain = || Mesh::with(&people);
    let with = |change: fn(&mut Mesh)| {
        let mut mesh = plain();
        change(&mut mesh);
        mesh
    };
    let mut link_revoked = plain();
    link_revoked.revoked.revoke_link(link.link_id(1));
    let rule = |effect: &str, subjects: &str| {
        plain().policy(&format!(
            r#"{{ "rules": [ {{ "name": "send", "effect": "allow", "actions": ["pub"],
                "subjects": ">" }}, {{ "name": "receive", "effect": "{effect}",
                "actions": ["sub"], "subjects": "{subjects}" }} ] }}"#
        ))
    };
    let denied = plain().policy(
        r#"{ "rules": [ { "name": "all", "effect": "allow", "actions": ["pub", "sub"],
            "subjects": ">" }, { "name": "corner", "effect": "deny", "actions": ["sub"],
            "subjects": "orders.*.new" } ] }"#,
    );
    let blocked = plain().policy(&policy(r#""blocked": { "agents": ["bob"] },"#));
    let rows: [(&str, Mesh, Claim); 9] = [
        (
            "unknown",
            Mesh::with(&["alice", "carol"]),
            deny(UNKNOWN_AGENT),
        ),
        (
            "key-revoked",
            with(|m| m.revoked.revoke_key(Party::named("bob").bytes())),
            deny(REVOKED_KEY),
        ),
        (
            "agent-revoked",
            with(|m| m.revoked.revoke_agent(Party::named("bob").id())),
            deny(REVOKED_AGENT),
        ),
        ("link-revoked", link_revoked, deny(REVOKED_LINK)),
        ("blocked", blocked, deny(BLOCKED_AGENT)),
        (
            "policy-none",
            rule("allow", "notes.>"),
            deny(POLICY_DENIED_NO_RULE),
        ),
        (
            "policy-denies-a-corner",
            denied,
            deny(POLICY_DENIED_DENY_RULE),
        ),
        ("policy-allows", rule("allow", "orders.>"), Allow),
        (
            "holder-above-revoked",
            with(|m| m.revoked.revoke_agent(Party::named("carol").id())),
            deny(REVOKED_AGENT),
        ),
    ];
    for (name, mesh, claim) in rows {
        let state = format!("receiver-{name}");
        book.state(
            &state,
            &format!("The receiver's own authority: {name}"),
            &mesh,
        );
        let about = "Who may not receive is delivered nothing, whoever sends";
        book.case(&format!("receiver-{name}"), about, claim, || {
            let long = matches!(name, "link-revoked" | "holder-above-revoked");
            let own = if long { link.encode() } else { own() };
            Play::message(&event(&["alice"]))
                .state(&state)
                .edit(|play| play.own = own)
        });
    }
}

/// An agent with two keys at once, as while one is replaced by the other.
fn rotation(book: &mut Book) {
    let mut mesh = Mesh::with(&["bob"]);
    let (old, new) = (Party::named("rota"), rotated());
    mesh.members.push((old, window(NOW - HOUR, NOW + 1_000)));
    mesh.members.push((new, window(NOW - 1_000, NOW + HOUR)));
    book.state("rotated", "An agent with an old key and a new one", &mesh);
    let about = "An agent may have two keys while it changes from one to the other";
    for (name, who, now, claim) in [
        ("old-key", Party::named("rota"), NOW, Allow),
        ("new-key", rotated(), NOW, Allow),
        (
            "old-key-after-its-grace",
            Party::named("rota"),
            NOW + 7_000,
            deny_at(EXPIRED, 0),
        ),
        (
            "new-key-before-its-time",
            rotated(),
            NOW - 7_000,
            deny_at(NOT_YET_VALID, 0),
        ),
    ] {
        book.case(name, about, claim, || {
            let chain = ChainSpec::down(&Mesh::new(), &["alice"]).edit(0, |l| l.give_to(&who));
            let letter = Letter::publish(&chain, "orders.eu.new")
                .set(forge::letter::ISSUED, forge::Value::Uint(now));
            Play::message(&letter).state("rotated").at(now)
        });
    }
}

/// The agent `rota` with another key.
fn rotated() -> Party {
    Party {
        name: "rota".into(),
        ..Party::named("rota's new key")
    }
}
