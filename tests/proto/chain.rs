//! CH: delegation chains.

use trustmesh::proto::chain::Chain;
use trustmesh::proto::limits::LIFETIME_MAX_MS;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::scope::Capability;
use trustmesh::proto::scope::Scope;
use trustmesh::proto::signing::Budget;

use crate::forge::ChainSpec;
use crate::forge::HOUR;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Stage;
use crate::forge::Value;
use crate::forge::chain::DELEGATE;
use crate::forge::chain::EVERYTHING;
use crate::forge::chain::PUB;
use crate::forge::chain::REQ;
use crate::forge::chain::capability;
use crate::forge::chain::scope;
use crate::forge::mesh::window;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

const SUBJ: &str = "orders.eu.new";

/// Actions and patterns.
type Capabilities<'a> = &'a [(u64, &'a str)];

#[track_caller]
fn refuses(stage: &mut Stage, chain: &ChainSpec, class: Class) -> Rejection {
    stage.refuses(&Letter::publish(chain, SUBJ).frame(), class)
}

/// A chain of two whose links have these scopes.
fn pair(stage: &Stage, parent: &[(u64, &str)], child: &[(u64, &str)]) -> ChainSpec {
    stage
        .chain(&["carol", "alice"])
        .edit(0, |link| link.scope = scope(parent))
        .edit(1, |link| link.scope = scope(child))
}

/// CH-1: a child adds an action or a subject, or is made from a capability that may not be handed
/// on; two capabilities of the parent do not add up to one of the child.
#[test]
fn a_child_that_adds_anything_is_refused() {
    let mut stage = Stage::default();
    let all = PUB | DELEGATE;
    let cases: [(Capabilities, Capabilities); 6] = [
        (&[(all, "orders.>")], &[(PUB | REQ, "orders.>")]),
        (&[(all, "orders.>")], &[(PUB, "orders.>"), (PUB, "notes.a")]),
        (&[(PUB, "orders.>")], &[(PUB, "orders.>")]),
        (&[(PUB | REQ, "orders.>")], &[(PUB | DELEGATE, "orders.>")]),
        (
            &[(all, "orders.eu.*"), (all, "orders.us.*")],
            &[(PUB, "orders.*.*")],
        ),
        (&[(PUB, ">"), (REQ | DELEGATE, ">")], &[(PUB, "orders.>")]),
    ];
    for (parent, child) in cases {
        let chain = pair(&stage, parent, child);
        let refusal = refuses(&mut stage, &chain, Class::ScopeExceeded);
        assert_eq!(
            (refusal.hop(), refusal.code()),
            (Some(1), 1502),
            "{parent:?} {child:?}"
        );
    }
    let chain = pair(&stage, &[(all, "orders.>")], &[(PUB, "orders.*.new")]);
    stage.accepts(&Letter::publish(&chain, SUBJ).frame());
}

/// CH-2: wider patterns.
#[test]
fn a_child_that_widens_a_pattern_is_refused() {
    let mut stage = Stage::default();
    for (parent, child) in [
        ("orders.*", "orders.>"),
        ("orders.eu.new", "orders.*.new"),
        ("orders.*.new", "orders.>"),
        ("orders.>", ">"),
        ("orders.>", "*.eu.new"),
        ("*.eu.new", ">"),
        ("orders.>", "orders"),
    ] {
        let (up, down) = ([(PUB | DELEGATE, parent)], [(PUB, child)]);
        let chain = pair(&stage, &up, &down);
        let refusal = refuses(&mut stage, &chain, Class::ScopeExceeded);
        assert_eq!(
            (refusal.hop(), refusal.code()),
            (Some(1), 1502),
            "{parent} {child}"
        );
    }
}

/// CH-3: a child's window is inside its parent's to the millisecond; skew plays no part.
#[test]
fn a_child_that_outlives_or_precedes_its_parent_is_refused() {
    let mut stage = Stage::default();
    let (from, until) = (NOW - HOUR / 2, NOW + HOUR / 2);
    for (nbf, exp) in [(from, until + 1), (from - 1, until), (from - 1, until + 1)] {
        let chain = stage.chain(&["carol", "alice"]).edit(1, |link| {
            (link.from, link.until) = (Value::Uint(nbf), Value::Uint(exp));
        });
        let refusal = refuses(&mut stage, &chain, Class::ScopeExceeded);
        assert_eq!((refusal.hop(), refusal.code()), (Some(1), 1503));
    }
}

const NINE: [&str; 9] = [
    "alice", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy",
];

/// CH-4 and DO-1: the deepest chain is accepted; one link more is refused before any signature is
/// looked at, which shows in that garbage for signatures changes nothing.
#[test]
fn depth_is_refused_before_any_signature() {
    let mut stage = Stage::default();
    let deepest = stage.chain(&NINE);
    stage.accepts(&Letter::publish(&deepest, SUBJ).frame());
    let ten: Vec<&str> = NINE.into_iter().chain(["mallory"]).collect();
    let garbage = |chain: ChainSpec| {
        (0..chain.links.len()).fold(chain, |chain, index| {
            chain.edit(index, |link| link.signature = Some(bin([1; 64])))
        })
    };
    for chain in [stage.chain(&ten), garbage(stage.chain(&ten))] {
        let refusal = refuses(&mut stage, &chain, Class::DepthExceeded);
        assert_eq!(refusal.code(), 1601);
    }
    // The same garbage in a chain of legal depth is what a signature check would have found.
    let chain = garbage(stage.chain(&NINE));
    refuses(&mut stage, &chain, Class::BadSignature);
    // Ten thousand links cannot even be read.
    let mut letter = Letter::publish(&stage.chain(&NINE), SUBJ);
    let (one, mut many) = (stage.chain(&["alice"]).encode(), vec![0xdc, 0x27, 0x10]);
    (0..10_000).for_each(|_| many.extend_from_slice(&one[1..]));
    letter.chain = many;
    stage.refuses(&letter.frame(), Class::TooLarge);
    // Nor do ten thousand links that are only claimed.
    let mut claimed = letter.clone();
    claimed.chain = [&[0xdc, 0x27, 0x10][..], &[0; 8000]].concat();
    stage.refuses(&claimed.frame(), Class::Malformed);
}

/// CH-4: what is counted down is the parent's allowance, and it cannot be refreshed.
#[test]
fn remaining_depth_only_falls() {
    let mut stage = Stage::default();
    for (above, below) in [(0, 0), (1, 1), (3, 5), (0, 8)] {
        let chain = stage
            .chain(&["carol", "alice"])
            .edit(0, |link| link.remaining = Value::Uint(above))
            .edit(1, |link| link.remaining = Value::Uint(below));
        let refusal = refuses(&mut stage, &chain, Class::DepthExceeded);
        assert_eq!((refusal.hop(), refusal.code()), (Some(1), 1602));
    }
    for too_many in [9, 255] {
        let chain = stage
            .chain(&["alice"])
            .edit(0, |l| l.remaining = Value::Uint(too_many));
        refuses(&mut stage, &chain, Class::DepthExceeded);
    }
    let chain = stage
        .chain(&["alice"])
        .edit(0, |l| l.remaining = Value::Uint(256));
    refuses(&mut stage, &chain, Class::Malformed);
}

/// CH-5: links dropped, swapped or repeated.
#[test]
fn links_dropped_swapped_or_repeated_are_no_chain() {
    let mut stage = Stage::default();
    let chain = stage.chain(&["carol", "dave", "erin", "alice"]);
    let mut tree = chain.tree();
    let links = tree.items().clone();
    let arrangements = [
        vec![0, 2, 3],
        vec![0, 1, 3],
        vec![0, 2, 1, 3],
        vec![0, 1, 1, 2, 3],
        vec![0, 1, 2, 3, 3],
        vec![0, 3],
    ];
    for order in arrangements {
        let chain_bytes = list(order.iter().map(|i: &usize| links[*i].clone())).encode();
        let frame = Letter::publish(&chain, SUBJ)
            .edit(|l| l.chain = chain_bytes)
            .frame();
        stage.refuses(&frame, Class::ChainBroken);
    }
    // A delegation in the root's place, or a root in a delegation's, has the wrong shape.
    for order in [vec![1, 2, 3], vec![3], vec![0, 0, 1, 2, 3]] {
        let chain_bytes = list(order.iter().map(|i: &usize| links[*i].clone())).encode();
        let frame = Letter::publish(&chain, SUBJ)
            .edit(|l| l.chain = chain_bytes)
            .frame();
        stage.refuses(&frame, Class::Malformed);
    }
    // Without its last link the chain is whole, but not the one that was signed.
    let shorter = list(links[..3].to_vec()).encode();
    let frame = Letter::publish(&chain, SUBJ)
        .edit(|l| l.chain = shorter)
        .frame();
    assert_eq!(stage.refuses(&frame, Class::ChainBroken).code(), 1403);
}

/// CH-6 and CH-16: one link signed by anybody but the holder above it, at every position of a
/// chain of nine; the refusal names the link.
#[test]
fn a_hop_signed_by_a_stranger_is_refused() {
    let mut stage = Stage::default();
    for index in 0..9 {
        for signer in [
            Party::named("mallory"),
            Party::named("bob"),
            stage.mesh.issuer(),
        ] {
            if index == 0 && signer.name == stage.mesh.issuer().name {
                continue;
            }
            let chain = stage
                .chain(&NINE)
                .edit(index, |link| link.signer = Some(signer));
            let refusal = refuses(&mut stage, &chain, Class::BadSignature);
            assert_eq!(refusal.hop(), Some(index as u8));
        }
    }
    // The link's own holder signs for itself.
    let chain = stage.chain(&["carol", "alice"]);
    let chain = chain.edit(1, |link| link.signer = Some(Party::named("alice")));
    assert_eq!(
        refuses(&mut stage, &chain, Class::BadSignature).hop(),
        Some(1)
    );
}

/// CH-6: a stolen chain is worth nothing without its last holder's key.
#[test]
fn a_stolen_chain_does_not_serve_another_signer() {
    let mut stage = Stage::default();
    let chain = stage.chain(&["carol", "alice"]);
    for thief in ["carol", "dave", "mallory"] {
        let letter = Letter::publish(&chain, SUBJ);
        let frame = letter.edit(|l| l.signer = Party::named(thief)).frame();
        stage.refuses(&frame, Class::BadSignature);
    }
    stage.accepts(&Letter::publish(&chain, SUBJ).frame());
}

/// CH-7: a root grant by anybody but an issuer of the mesh.
#[test]
fn a_self_issued_root_is_refused() {
    let mut stage = Stage::default();
    let registrar = stage.mesh.role(trustmesh::proto::root::Role::Registrar);
    for issuer in [Party::named("mallory"), Party::named("carol"), registrar] {
        let mut chain = stage.chain(&["alice"]);
        chain.issuer = issuer;
        let refusal = refuses(&mut stage, &chain, Class::UntrustedRoot);
        assert_eq!(refusal.code(), 1702);
    }
    // Naming the issuer is not being it.
    let chain = stage.chain(&["alice"]);
    let chain = chain.edit(0, |link| link.signer = Some(Party::named("alice")));
    assert_eq!(
        refuses(&mut stage, &chain, Class::BadSignature).hop(),
        Some(0)
    );
}

/// CH-8: issuer and holders are distinct.
#[test]
fn a_cycle_is_no_chain() {
    let mut stage = Stage::default();
    for holders in [
        &["alice", "alice"][..],
        &["alice", "carol", "alice"],
        &["carol", "alice", "dave", "alice"],
    ] {
        let chain = stage.chain(holders);
        let refusal = refuses(&mut stage, &chain, Class::ChainBroken);
        assert_eq!(
            (refusal.hop(), refusal.code()),
            (Some(holders.len() as u8 - 1), 1404)
        );
    }
    let issuer = stage.mesh.issuer();
    for index in [0, 1] {
        let chain = stage
            .chain(&["alice", "carol"])
            .edit(index, |link| link.give_to(&issuer));
        refuses(&mut stage, &chain, Class::ChainBroken);
    }
}

/// CH-9: an empty list, an empty pattern and an empty set of actions authorise nothing.
#[test]
fn an_empty_scope_authorises_nothing() {
    let mut stage = Stage::default();
    let alone =
        |stage: &Stage, value: Value| stage.chain(&["alice"]).edit(0, |link| link.scope = value);
    let chain = alone(&stage, list([]));
    assert_eq!(
        refuses(&mut stage, &chain, Class::ScopeExceeded).hop(),
        Some(0)
    );
    let chain = pair(&stage, &[(EVERYTHING, ">")], &[]);
    assert_eq!(
        refuses(&mut stage, &chain, Class::ScopeExceeded).hop(),
        Some(1)
    );
    let chain = alone(&stage, scope(&[(PUB, "")]));
    assert_eq!(
        refuses(&mut stage, &chain, Class::ScopeExceeded).code(),
        1506
    );
    let chain = alone(&stage, scope(&[(PUB, ">"), (PUB, "")]));
    assert_eq!(
        refuses(&mut stage, &chain, Class::ScopeExceeded).code(),
        1506
    );
    for bits in [0, 16, 17, 64, 128, 255, 256] {
        let chain = alone(&stage, scope(&[(bits, ">")]));
        assert_eq!(
            refuses(&mut stage, &chain, Class::Malformed).hop(),
            Some(0),
            "{bits}"
        );
    }
}

/// CH-10: no chain at all.
#[test]
fn no_chain_is_no_authority() {
    let mut stage = Stage::default();
    let chain = stage.chain(&["alice"]);
    let empty = Letter::publish(&chain, SUBJ).edit(|l| l.chain = vec![0x90]);
    assert_eq!(
        stage.refuses(&empty.frame(), Class::ChainBroken).code(),
        1401
    );
    let none = Letter::publish(&chain, SUBJ).edit(|l| l.chain = Vec::new());
    stage.refuses(&none.frame(), Class::Malformed);
}

/// CH-11: windows that are empty, backwards, negative, overflowing or too long.
#[test]
fn impossible_windows_are_malformed() {
    let mut stage = Stage::default();
    let cases = [
        (NOW, NOW),
        (NOW + 1, NOW),
        (NOW - HOUR, u64::MAX),
        (0, NOW + HOUR),
        (NOW - HOUR, NOW - HOUR + LIFETIME_MAX_MS + 1),
        (NOW / 1000, NOW + HOUR),
        (NOW - HOUR, (NOW + HOUR) * 1000),
        (u64::MAX, u64::MAX),
        (u64::MAX, 0),
    ];
    for (from, until) in cases {
        for index in [0, 1] {
            let chain = stage.chain(&["carol", "alice"]).edit(index, |link| {
                (link.from, link.until) = (Value::Uint(from), Value::Uint(until));
            });
            let refusal = refuses(&mut stage, &chain, Class::Malformed);
            assert_eq!((refusal.hop(), refusal.code()), (Some(index as u8), 111));
        }
    }
    let minus_one = Value::Raw(vec![0xff]);
    let chain = stage
        .chain(&["alice"])
        .edit(0, |link| link.from = minus_one);
    refuses(&mut stage, &chain, Class::Malformed);
}

/// CH-12: constraints that are unknown, empty, unordered or given twice are never skipped.
#[test]
fn odd_constraints_are_refused() {
    let mut stage = Stage::default();
    let kind = |kind: u64, values: Vec<Value>| list([Value::Uint(kind), list(values)]);
    let group = |name: &str| kind(1, vec![text(name)]);
    let key = |byte: u8| bin([byte; 32]);
    let cases = [
        vec![kind(3, vec![Value::Uint(1)])],
        vec![kind(0, vec![text("g")])],
        vec![kind(u64::MAX, vec![])],
        vec![kind(1, vec![])],
        vec![kind(2, vec![])],
        vec![group("a"), group("a")],
        vec![kind(2, vec![key(1)]), group("a")],
        vec![kind(1, vec![text("b"), text("a")])],
        vec![kind(1, vec![text("a"), text("a")])],
        vec![kind(2, vec![key(2), key(1)])],
        vec![kind(1, vec![text("")])],
        vec![kind(1, vec![text("two words")])],
        vec![kind(2, vec![bin([1; 31])])],
        vec![kind(2, vec![text("key")])],
        vec![list([Value::Uint(1)])],
        vec![list([])],
    ];
    for constraints in cases {
        let odd = list([capability(EVERYTHING, ">", constraints.clone())]);
        let chain = stage.chain(&["alice"]).edit(0, |link| link.scope = odd);
        let refusal = refuses(&mut stage, &chain, Class::Malformed);
        assert_eq!(refusal.hop(), Some(0), "{constraints:?}");
    }
    let many = kind(1, (0..17).map(|n| text(&format!("g{n:02}"))).collect());
    let odd = list([capability(EVERYTHING, ">", [many])]);
    let chain = stage.chain(&["alice"]).edit(0, |link| link.scope = odd);
    refuses(&mut stage, &chain, Class::TooLarge);
}

/// CH-12: a constraint binds, and a child may add one but not drop or widen it.
#[test]
fn recipients_bind_and_only_narrow() {
    let mut stage = Stage::default();
    let (bob, carol) = (
        Party::named("bob").bytes().0,
        Party::named("carol").bytes().0,
    );
    let to = |keys: &[[u8; 32]]| {
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        let values = list(keys.iter().map(bin));
        list([capability(
            EVERYTHING,
            ">",
            [list([Value::Uint(2), values])],
        )])
    };
    let alone = |stage: &Stage, value| stage.chain(&["alice"]).edit(0, |l| l.scope = value);
    let to_bob = alone(&stage, to(&[bob]));
    let addressed = Letter::publish(&to_bob, SUBJ).set(crate::forge::letter::AUDIENCE, bin(bob));
    stage.accepts(&addressed.frame());
    let refusal = refuses(&mut stage, &to_bob, Class::ScopeExceeded);
    assert_eq!(
        refusal.code(),
        1505,
        "an envelope for anybody is not one for bob"
    );
    let to_carol = alone(&stage, to(&[carol]));
    let addressed = Letter::publish(&to_carol, SUBJ).set(crate::forge::letter::AUDIENCE, bin(bob));
    assert_eq!(
        stage
            .refuses(&addressed.frame(), Class::ScopeExceeded)
            .code(),
        1505
    );
    for (above, below) in [
        (to(&[bob]), scope(&[(PUB, ">")])),
        (to(&[bob]), to(&[bob, carol])),
        (to(&[bob]), to(&[carol])),
    ] {
        let chain = stage
            .chain(&["dave", "alice"])
            .edit(0, |link| link.scope = above)
            .edit(1, |link| link.scope = below);
        assert_eq!(
            refuses(&mut stage, &chain, Class::ScopeExceeded).code(),
            1502
        );
    }
}

/// CH-13: subjects that are none, in links and envelopes; letters of another case; `foo.>` does
/// not cover `foo`. (Pattern algebra is compared with a naive matcher beside `subject.rs`.)
#[test]
fn subjects_that_are_none_are_refused() {
    let mut stage = Stage::default();
    for none in ["a..b", ".a", "a.", ".", "a b", "a\tb", "a.>.b", "a.b*", "ä"] {
        let chain = stage
            .chain(&["alice"])
            .edit(0, |l| l.scope = scope(&[(PUB, none)]));
        assert_eq!(
            refuses(&mut stage, &chain, Class::Malformed).code(),
            109,
            "{none}"
        );
        let frame = Letter::publish(&stage.chain(&["alice"]), none).frame();
        let refusal = stage.refuses_on(&frame, Class::Malformed, none, None);
        assert_eq!(refusal.code(), 109, "{none}");
    }
    for pattern in [
        "Orders.>",
        "ORDERS.EU.NEW",
        "orders.eu.new.>",
        "orders.eu.New",
    ] {
        let chain = stage
            .chain(&["alice"])
            .edit(0, |l| l.scope = scope(&[(PUB, pattern)]));
        assert_eq!(
            refuses(&mut stage, &chain, Class::ScopeExceeded).code(),
            1501
        );
    }
}

/// CH-14: an ancestor expired, the leaf still valid: only a chain whose windows were checked
/// against the clock at every link can tell.
#[test]
fn an_expired_ancestor_ends_the_chain() {
    let mut stage = Stage::default();
    // The leaf's window must be inside its ancestors', so all end together; the first is named.
    let chain = stage.chain(&["carol", "dave", "alice"]);
    let chain = (0..3).fold(chain, |chain, index| {
        let until = NOW + 1_000 * (3 - index as u64);
        chain.edit(index, |link| link.until = Value::Uint(until))
    });
    stage.accepts(&Letter::publish(&chain, SUBJ).frame());
    let skew = stage.verifier.skew().as_millis();
    for (after, hop) in [(1_000, 2), (2_000, 1), (3_000, 0)] {
        stage.now = trustmesh::proto::time::Timestamp::from_millis(NOW + after + skew);
        let frame = Letter::publish(&chain, SUBJ).frame();
        assert_eq!(stage.refuses(&frame, Class::Expired).hop(), Some(hop));
    }
    // And one that begins later than now, at every position.
    let mut stage = Stage::default();
    for index in 0..2 {
        let chain = (index..2).fold(stage.chain(&["carol", "alice"]), |chain, index| {
            chain.edit(index, |link| link.from = Value::Uint(NOW + skew + 1))
        });
        let refusal = refuses(&mut stage, &chain, Class::NotYetValid);
        assert_eq!(refusal.hop(), Some(index as u8));
    }
}

/// CH-14: a parent that expired while its child claims to live on is not even well-formed.
#[test]
fn a_leaf_cannot_outlive_an_expired_parent() {
    let mut stage = Stage::default();
    let chain = stage.chain(&["carol", "alice"]).edit(0, |link| {
        link.until = Value::Uint(NOW - 60_000);
    });
    assert_eq!(
        refuses(&mut stage, &chain, Class::ScopeExceeded).hop(),
        Some(1)
    );
}

const TEN_A_SECOND: &str = r#"{ "rules": [
    { "name": "all", "effect": "allow", "actions": ["pub", "sub"], "subjects": ">" },
    { "name": "slow", "effect": "allow", "actions": ["pub"], "subjects": "orders.>",
      "rate": { "count": 10, "per_ms": 1000 } } ] }"#;

/// CH-15: an allowance split over ten children is the same allowance.
#[test]
fn splitting_a_rate_over_children_does_not_multiply_it() {
    let children: Vec<String> = (0..10).map(|n| format!("child-{n}")).collect();
    let mut members = vec!["alice", "bob", "carol"];
    members.extend(children.iter().map(String::as_str));
    let mut stage = Stage::of(Mesh::with(&members).policy(TEN_A_SECOND));
    let mut root = stage.chain(&["carol"]);
    let grown = |root: &ChainSpec, child: &str| {
        let mut chain = root.clone();
        chain.links.push(
            ChainSpec::down(&stage.mesh, &["carol", child])
                .links
                .remove(1),
        );
        chain
    };
    let family: Vec<ChainSpec> = children.iter().map(|child| grown(&root, child)).collect();
    let (mut accepted, mut denied) = (0, 0);
    for chain in family.iter().cycle().take(100) {
        let frame = Letter::publish(chain, SUBJ).frame();
        match stage.decide(&frame, SUBJ, None).result {
            Ok(_) => accepted += 1,
            Err(refused) => {
                assert_eq!(refused.rejection.code(), 2004);
                denied += 1;
            }
        }
    }
    assert_eq!((accepted, denied), (10, 90));
    // The rule's other subjects and another family are not touched.
    refuses(&mut stage, &family[3], Class::PolicyDenied);
    root = stage.chain(&["carol"]);
    stage.accepts(&Letter::publish(&root, SUBJ).frame());
    // A tenth of a second earns one message, for the family as a whole.
    stage.now = stage.now.plus(100);
    stage.accepts(&Letter::publish(&family[7], SUBJ).frame());
    refuses(&mut stage, &family[8], Class::PolicyDenied);
}

/// CH-17: what a receiver would refuse cannot be issued.
#[test]
fn issuing_refuses_what_receiving_would() {
    let mesh = Mesh::new();
    let (alice, carol) = (Party::named("alice"), Party::named("carol"));
    let parent = mesh.grant(&alice, 1, &["pub+delegate:orders.>"]);
    let draft = |caps: &[&str]| Mesh::draft(&carol, 0, caps);
    let refused = |draft| parent.delegate(&draft).unwrap_err().class();
    assert_eq!(refused(draft(&["pub+req:orders.>"])), Class::ScopeExceeded);
    assert_eq!(refused(draft(&["pub:>"])), Class::ScopeExceeded);
    let mut longer = draft(&["pub:orders.eu.new"]);
    longer.validity = window(NOW - HOUR / 2, NOW + HOUR / 2 + 1);
    assert_eq!(refused(longer), Class::ScopeExceeded);
    let mut deeper = draft(&["pub:orders.eu.new"]);
    deeper.remaining = 1;
    assert_eq!(refused(deeper), Class::DepthExceeded);
    let mut to_self = draft(&["pub:orders.eu.new"]);
    to_self.holder = alice.bytes();
    assert_eq!(refused(to_self), Class::ChainBroken);
    let mut to_issuer = draft(&["pub:orders.eu.new"]);
    to_issuer.holder = mesh.issuer().bytes();
    assert_eq!(refused(to_issuer), Class::ChainBroken);
    let child = parent.delegate(&draft(&["pub:orders.eu.new"])).unwrap();
    let child = mesh.hold(child, &carol);
    let grandchild = child.delegate(&Mesh::draft(&alice, 0, &[])).unwrap_err();
    assert_eq!(grandchild.class(), Class::ChainBroken);
    let dave = Party::named("dave");
    let grandchild = child.delegate(&Mesh::draft(&dave, 0, &[])).unwrap_err();
    assert_eq!(grandchild.class(), Class::DepthExceeded);
    // Nor can a root grant that lives too long, or a scope that has too much in it.
    let mut forever = Mesh::draft(&alice, 8, &[]);
    forever.validity = window(NOW, NOW + LIFETIME_MAX_MS + 1);
    let issuer = mesh.issuer();
    let refused = Chain::root_grant(mesh.id(), &forever, &issuer.key).unwrap_err();
    assert_eq!(refused.class(), Class::Malformed);
    assert!(Scope::parse(["pub:a"; 17]).is_err());
    let capability: Capability = "sub:a".parse().unwrap();
    assert!(capability.clone().in_groups(Vec::<String>::new()).is_err());
    assert!(capability.to(Vec::new()).is_err());
}

/// A chain costs as many signature checks as it has links, and the budget of a message holds the
/// longest chain, the envelope and an approval.
#[test]
fn work_is_counted() {
    let mesh = Mesh::new();
    let trust = mesh.trust();
    let bytes = ChainSpec::down(&mesh, &NINE).encode();
    let mut budget = Budget::message();
    let chain = || Chain::parse(bytes.clone().into()).unwrap();
    chain().verify(&*trust, &mut budget).unwrap();
    assert_eq!(budget.spent(), 9);
    let second = chain().verify(&*trust, &mut budget).unwrap_err();
    assert_eq!((second.class(), budget.spent()), (Class::TooLarge, 11));
}
