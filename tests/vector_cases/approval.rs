//! Approvals of a chain: where policy asks for one, and which of them count.

use trustmesh::proto::names::Tag;
use trustmesh::proto::revocation::RevocationSet;
use trustmesh::proto::root::Role;

use super::Allow;
use super::Book;
use super::Claim;
use super::codes::*;
use super::deny;
use super::deny_at;
use super::header::answer;
use super::header::waiting;
use super::play::Play;
use crate::forge;
use crate::forge::Batch;
use crate::forge::ChainSpec;
use crate::forge::HOUR;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::approval::ApprovalSpec;
use crate::forge::approval::CHAIN;
use crate::forge::approval::EXT;
use crate::forge::approval::FROM;
use crate::forge::approval::LEAF;
use crate::forge::approval::MESH;
use crate::forge::approval::POLICY;
use crate::forge::approval::REGISTRY;
use crate::forge::approval::REVOCATIONS;
use crate::forge::approval::UNTIL;
use crate::forge::approval::VERSION;
use crate::forge::approval::extension;
use crate::forge::letter;
use crate::forge::value::bin;
use crate::forge::value::list;

const NINE: [&str; 9] = [
    "alice", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy",
];

/// Messages that need an approval, as JSON.
fn need(subjects: &str, actions: &str) -> String {
    format!(r#"{{ "subjects": "{subjects}", "actions": [{actions}] }}"#)
}

/// A mesh that permits everything, but asks for approvals.
fn asking(rules: &str, needs: &[String]) -> Mesh {
    let mut mesh = Mesh::new().policy(&format!(
        r#"{{ "rules": [ {rules}
            {{ "name": "all", "effect": "allow", "actions": ["pub", "sub", "req", "serve"],
               "subjects": ">" }} ], "approval": [{}] }}"#,
        needs.join(", ")
    ));
    // Epochs that differ, so that one cannot be taken for another.
    mesh.epochs = [5, 6, 7, 8];
    mesh
}

/// A mesh that asks for approvals of what is published on orders.
fn mesh() -> Mesh {
    asking("", &[need("orders.>", r#""pub""#)])
}

fn under(holders: &[&str]) -> (ChainSpec, ApprovalSpec) {
    let chain = ChainSpec::down(&mesh(), holders);
    let approval = ApprovalSpec::of(&mesh(), &chain);
    (chain, approval)
}

/// An event that carries these bytes as its approval.
fn carrying(chain: &ChainSpec, approval: impl AsRef<[u8]>) -> Letter {
    Letter::publish(chain, "orders.eu.new").set(letter::EXT, extension(approval))
}

pub fn write(book: &mut Book) {
    book.state(
        "approval",
        "A policy that asks for approvals of what is published on orders.>",
        &mesh(),
    );
    presence(book);
    fields(book);
    forms(book);
    windows(book);
    signatures(book);
    everything_else(book);
    elsewhere(book);
    order(book);
}

/// An event by alice with an approval that was changed.
fn changed(change: impl FnOnce(ApprovalSpec) -> ApprovalSpec) -> Play {
    let (chain, approval) = under(&["alice"]);
    Play::message(&carrying(&chain, change(approval).encode())).state("approval")
}

fn presence(book: &mut Book) {
    let none = deny(POLICY_DENIED_NOT_APPROVED);
    let about = "Where policy asks for an approval, a chain that is valid is not enough";
    book.case("approved", about, Allow, || changed(|a| a));
    book.case("absent", about, none, || {
        let (chain, _) = under(&["alice"]);
        Play::message(&Letter::publish(&chain, "orders.eu.new")).state("approval")
    });
    book.case("empty", about, none, || {
        let (chain, _) = under(&["alice"]);
        Play::message(&carrying(&chain, [])).state("approval")
    });
    book.case("nine-links", about, Allow, || {
        let (chain, approval) = under(&NINE);
        Play::message(&carrying(&chain, approval.encode())).state("approval")
    });
    book.case("in-a-batch", about, Allow, || {
        let (chain, approval) = under(&["alice"]);
        let letter = carrying(&chain, approval.encode());
        let other = Letter::publish(&chain, "orders.eu.new");
        Play::message(&Batch::of([letter, other]).letter(0)).state("approval")
    });
    let about = "One message of a batch lends its approval to no other";
    book.case("of-another-in-the-batch", about, none, || {
        let (chain, approval) = under(&["alice"]);
        let letter = carrying(&chain, approval.encode());
        let other = Letter::publish(&chain, "orders.eu.new");
        Play::message(&Batch::of([letter, other]).letter(1)).state("approval")
    });
}

fn fields(book: &mut Book) {
    let none = deny(POLICY_DENIED_NOT_APPROVED);
    let mut case = |name: &str, about: &str, claim: Claim, field: usize, value: Value| {
        book.case(name, about, claim, || changed(|a| a.set(field, value)));
    };
    let about = "An approval is of one mesh";
    case("other-mesh", about, none, MESH, bin([7; 16]));
    let about = "An approval is of one chain: its last link, and its bytes";
    case("other-leaf", about, none, LEAF, bin([7; 32]));
    case("other-bytes", about, none, CHAIN, bin([7; 32]));
    let about = "An approval is of one policy: an older one does not count, nor does a newer";
    case("policy-older", about, none, POLICY, Value::Uint(5));
    case("policy-newer", about, none, POLICY, Value::Uint(7));
    let about = "The epochs of registry and revocations decide nothing";
    for (name, field) in [("registry", REGISTRY), ("revocations", REVOCATIONS)] {
        for (word, epoch) in [("older", 0), ("newer", u64::MAX)] {
            let name = format!("{name}-{word}");
            case(&name, about, Allow, field, Value::Uint(epoch));
        }
    }
    let about = "An approval of the chain above is none of the chain below, nor the other way";
    for (name, approved, used) in [
        (
            "of-the-chain-above",
            &["carol"][..],
            &["carol", "alice"][..],
        ),
        ("of-the-chain-below", &["alice", "carol"], &["alice"]),
        ("of-somebody-else", &["dave"], &["alice"]),
    ] {
        book.case(name, about, none, || {
            let ((_, approval), (chain, _)) = (under(approved), under(used));
            Play::message(&carrying(&chain, approval.encode())).state("approval")
        });
    }
}

fn forms(book: &mut Book) {
    let none = deny(POLICY_DENIED_NOT_APPROVED);
    let about = "What is not an approval, byte for byte, does not count";
    let mut case = |name: &str, change: &dyn Fn(ApprovalSpec) -> ApprovalSpec| {
        book.case(name, about, none, || changed(change));
    };
    case("v-2", &|a| a.set(VERSION, Value::Uint(2)));
    case("ext", &|a| a.set(EXT, list([Value::Nil])));
    case("epoch-as-nil", &|a| a.set(POLICY, Value::Nil));
    case("mesh-15-bytes", &|a| a.set(MESH, bin([7; 15])));
    case("body-of-nine", &|a| a.edit(|a| drop(a.body.items().pop())));
    case("body-of-eleven", &|a| {
        a.edit(|a| a.body.items().push(Value::Nil))
    });
    case("epoch-longer", &|a| {
        a.set(POLICY, Value::Raw(vec![0xcc, 6]))
    });
    case("body-trailing", &|a| {
        a.edit(|a| a.body = Value::Raw([a.body.encode(), vec![0]].concat()))
    });
    for (name, tail) in [("trailing", 1), ("301-bytes", 301)] {
        book.case(name, about, none, || {
            let (chain, approval) = under(&["alice"]);
            let mut bytes = approval.encode();
            let len = if tail > 1 { tail } else { bytes.len() + tail };
            bytes.resize(len, 0);
            Play::message(&carrying(&chain, bytes)).state("approval")
        });
    }
    book.case("of-two-values", about, none, || {
        let (chain, approval) = under(&["alice"]);
        let mut tree = approval.tree();
        tree.items().pop();
        Play::message(&carrying(&chain, tree.encode())).state("approval")
    });
}

fn windows(book: &mut Book) {
    let none = deny(POLICY_DENIED_NOT_APPROVED);
    let window = |from: u64, until: u64| {
        changed(|a| {
            a.set(FROM, Value::Uint(from))
                .set(UNTIL, Value::Uint(until))
        })
    };
    let end = NOW + HOUR / 2;
    let about = "An approval lives for an hour at the most, and not beyond the chain's end";
    let mut case = |name: &str, about: &str, claim: Claim, from: u64, until: u64| {
        book.case(name, about, claim, || window(from, until));
    };
    case("an-hour", about, Allow, end - HOUR, end);
    case("an-hour-and-1-ms", about, none, end - HOUR - 1, end);
    case("no-time", about, none, end, end);
    case("1-ms-beyond-the-chain", about, none, NOW, end + 1);
    let about = "An approval holds within its window, with the skew";
    case("begins-with-the-skew", about, Allow, NOW + 5_000, end);
    case("begins-1-ms-later", about, none, NOW + 5_001, end);
    case(
        "ends-with-the-skew",
        about,
        Allow,
        1 + NOW - HOUR / 2,
        NOW - 4_999,
    );
    case(
        "ended-1-ms-earlier",
        about,
        none,
        NOW - HOUR / 2,
        NOW - 5_000,
    );
    let about = "An approval that was met before is looked at again";
    book.case("ended-meanwhile", about, none, || {
        let (chain, approval) = under(&["alice"]);
        let approval = approval.set(UNTIL, Value::Uint(NOW)).encode();
        let play = || Play::message(&carrying(&chain, &approval)).state("approval");
        play().at(NOW + 5_000).after(play(), Allow)
    });
    book.case("twice", about, Allow, || {
        let (chain, approval) = under(&["alice"]);
        let play = || Play::message(&carrying(&chain, approval.encode())).state("approval");
        play().after(play(), Allow)
    });
    book.case("twice-for-another-chain", about, none, || {
        let ((chain, approval), (other, _)) = (under(&["alice"]), under(&["carol"]));
        let play = |chain| Play::message(&carrying(chain, approval.encode())).state("approval");
        play(&other).after(play(&chain), Allow)
    });
}

fn signatures(book: &mut Book) {
    let none = deny(POLICY_DENIED_NOT_APPROVED);
    let about = "An approval is signed by a registrar, and by nobody else";
    for role in [Role::Root, Role::Issuer, Role::Revoker, Role::Policy] {
        let name = format!("signed-by-the-{}", role.name());
        book.case(&name, about, none, || {
            changed(|a| a.edit(|a| a.signer = mesh().role(role)))
        });
    }
    for name in ["alice", "bob", "mallory"] {
        book.case(&format!("signed-by-{name}"), about, none, || {
            changed(|a| a.edit(|a| a.signer = Party::named(name)))
        });
    }
    book.case("registrar-1", about, none, || {
        changed(|a| a.edit(|a| a.registrar = Value::Uint(1)))
    });
    book.case("signature-zero", about, none, || {
        changed(|a| a.edit(|a| a.signature = Some(bin([0; 64]))))
    });
    let about = "An approval is signed under its own tag";
    for tag in [Tag::Certificate, Tag::Registry, Tag::Chain, Tag::Envelope] {
        let name = format!("signed-under-{}", tag.name());
        book.case(&name, about, none, || changed(|a| a.edit(|a| a.tag = tag)));
    }
    let about = "What was found out about an approval is kept for its very bytes";
    book.case("bad-signature-after-a-good", about, none, || {
        let (chain, approval) = under(&["alice"]);
        let good = Play::message(&carrying(&chain, approval.encode())).state("approval");
        let bad = approval.edit(|a| a.signature = Some(bin([7; 64])));
        Play::message(&carrying(&chain, bad.encode()))
            .state("approval")
            .after(good, Allow)
    });
}

/// An approval spares nothing.
fn everything_else(book: &mut Book) {
    let about = "With an approval every hop is verified as without";
    book.case("bad-link", about, deny_at(BAD_SIGNATURE, 1), || {
        let chain = ChainSpec::down(&mesh(), &["carol", "alice"])
            .edit(1, |link| link.signature = Some(bin([7; 64])));
        let approval = ApprovalSpec::of(&mesh(), &chain);
        Play::message(&carrying(&chain, approval.encode())).state("approval")
    });
    let chain = forge::named("approval/revoked", || ChainSpec::down(&mesh(), &["alice"]));
    let mut revoked = RevocationSet::default();
    revoked.revoke_link(chain.leaf());
    let mut after = mesh();
    after.revoked = revoked;
    let state = "approval-revoked";
    book.state(state, "The same, and a link was revoked", &after);
    book.case("revoked", about, deny_at(REVOKED_LINK, 0), || {
        let approval = ApprovalSpec::of(&mesh(), &chain);
        Play::message(&carrying(&chain, approval.encode())).state(state)
    });
}

/// Where none is asked for.
fn elsewhere(book: &mut Book) {
    let about = "Where policy asks for no approval, what is carried as one is ignored";
    let none = deny(POLICY_DENIED_NOT_APPROVED);
    let req = r#""req""#;
    let all = r#""pub", "req", "serve""#;
    for (name, needs, claim) in [
        ("other-subject", vec![need("payments.>", all)], Allow),
        ("other-action", vec![need("orders.>", req)], Allow),
        ("narrower", vec![need("orders.*", all)], Allow),
        ("exactly", vec![need("orders.eu.new", all)], none),
        ("everything", vec![need(">", all)], none),
        (
            "one-of-three",
            vec![
                need("a", all),
                need("orders.*.new", all),
                need("payments.>", all),
            ],
            none,
        ),
    ] {
        let state = format!("approval-{name}");
        let text = format!("A policy that asks for approvals: {name}");
        book.state(&state, &text, &asking("", &needs));
        for (word, bytes) in [("without", None), ("with-garbage", Some("garbage"))] {
            let name = format!("{name}-{word}");
            book.case(&name, about, claim, || {
                let (chain, _) = under(&["alice"]);
                let letter = match bytes {
                    Some(bytes) => carrying(&chain, bytes),
                    None => Letter::publish(&chain, "orders.eu.new"),
                };
                Play::message(&letter).state(&state)
            });
        }
    }
    let about = "An answer needs an approval by the subject of its request";
    let serve = asking("", &[need("store.>", r#""serve""#)]);
    book.state("approval-serve", "A policy that asks of answers", &serve);
    book.case("answer-without", about, none, || {
        Play::answer(&answer(), Some(waiting())).state("approval-serve")
    });
    book.case("answer-with", about, Allow, || {
        let chain = ChainSpec::down(&serve, &["alice"]);
        let approval = ApprovalSpec::of(&serve, &chain);
        let letter = answer()
            .edit(|letter| letter.chain = chain.encode())
            .set(letter::LEAF, bin(chain.leaf().0))
            .set(letter::EXT, extension(approval.encode()));
        Play::answer(&letter, Some(waiting())).state("approval-serve")
    });
}

/// It is asked for last.
fn order(book: &mut Book) {
    let about = "Rules say no before an approval is asked for";
    let deny_rule = r#"{ "name": "no", "effect": "deny", "actions": ["pub"],
        "subjects": "orders.>" },"#;
    let aged = r#"{ "name": "young", "effect": "allow", "actions": ["pub"],
        "subjects": "orders.>", "max_age_ms": 10 },"#;
    let needs = [need("orders.>", r#""pub""#)];
    for (name, rules, claim) in [
        ("denied", deny_rule, deny(POLICY_DENIED_DENY_RULE)),
        ("too-old", aged, deny(POLICY_DENIED_TOO_OLD)),
    ] {
        let state = format!("approval-and-{name}");
        let text = format!("A policy that asks for approvals, and more: {name}");
        book.state(&state, &text, &asking(rules, &needs));
        book.case(&format!("{name}-and-absent"), about, claim, || {
            let (chain, _) = under(&["alice"]);
            let letter = Letter::publish(&chain, "orders.eu.new");
            Play::message(&letter.set(letter::ISSUED, Value::Uint(NOW - 11))).state(&state)
        });
    }
    let about = "No rule allows it, approved or not";
    let mut bare = Mesh::new().policy(
        r#"{ "rules": [ { "name": "hear", "effect": "allow", "actions": ["sub"],
            "subjects": ">" } ], "approval": [ { "subjects": ">", "actions": ["pub"] } ] }"#,
    );
    bare.epochs = mesh().epochs;
    book.state("approval-and-no-rule", "A policy that only asks", &bare);
    book.case(
        "no-rule-and-absent",
        about,
        deny(POLICY_DENIED_NO_RULE),
        || {
            let (chain, _) = under(&["alice"]);
            Play::message(&Letter::publish(&chain, "orders.eu.new")).state("approval-and-no-rule")
        },
    );
    book.case(
        "no-rule-and-approved",
        about,
        deny(POLICY_DENIED_NO_RULE),
        || changed(|a| a).state("approval-and-no-rule"),
    );
    let about = "A message that was refused for want of an approval may come again with one";
    let none = deny(POLICY_DENIED_NOT_APPROVED);
    book.case("after-a-refusal", about, Allow, || {
        let (chain, approval) = under(&["alice"]);
        let letter = Letter::publish(&chain, "orders.eu.new");
        let refused = Play::message(&letter).state("approval");
        let approved = letter.set(letter::EXT, extension(approval.encode()));
        Play::message(&approved)
            .state("approval")
            .after(refused, none)
    });
}
