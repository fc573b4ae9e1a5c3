//! PO and TS: policy, lists and scores.

use std::collections::BTreeMap;

use trustmesh::proto::identity::AgentId;
use trustmesh::proto::policy::InvalidPolicy;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::root::Role;
use trustmesh::proto::subject::SubjectPattern;
use trustmesh::proto::verify::Scene;
use trustmesh::proto::verify::check_subscribe;

use crate::forge::HOUR;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Stage;
use crate::forge::Value;
use crate::forge::chain::PUB;
use crate::forge::chain::SUB;
use crate::forge::chain::scope;
use crate::forge::letter::EXT;
use crate::forge::letter::ISSUED;
use crate::forge::letter::TTL;
use crate::forge::mesh::window;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;
use crate::identity::files_with;

const SUBJ: &str = "orders.eu.new";

fn event(stage: &Stage) -> Letter {
    Letter::publish(&stage.chain(&["carol", "alice"]), SUBJ)
}

/// A rule as JSON.
fn rule(name: &str, effect: &str, actions: &str, subjects: &str, more: &str) -> String {
    format!(
        r#"{{ "name": "{name}", "effect": "{effect}", "actions": [{actions}],
             "subjects": "{subjects}"{more} }}"#
    )
}

fn policy(rules: &[String]) -> String {
    format!(r#"{{ "rules": [{}] }}"#, rules.join(","))
}

fn open() -> String {
    rule("open", "allow", r#""pub","sub","req","serve""#, ">", "")
}

/// PO-1: nothing is permitted that no rule permits.
#[test]
fn no_rule_no_permission() {
    let mut stage = Stage::barren(Mesh::new().policy(r#"{ "rules": [] }"#));
    let frame = event(&stage).frame();
    assert_eq!(stage.refuses(&frame, Class::PolicyDenied).code(), 2001);
    let mut nothing = Mesh::new();
    nothing.policy = Policy::default();
    let mut stage = Stage::barren(nothing);
    let frame = event(&stage).frame();
    stage.refuses(&frame, Class::PolicyDenied);
    // Subscribing is permitted, publishing is not.
    let sub = rule("sub", "allow", r#""sub""#, ">", "");
    let mut stage = Stage::barren(Mesh::new().policy(&policy(&[sub])));
    let frame = event(&stage).frame();
    assert_eq!(stage.refuses(&frame, Class::PolicyDenied).code(), 2001);
    assert!(Policy::from_json("{}").is_err());
    assert!(Policy::from_json("").is_err());
}

/// PO-3: deny wins, wherever it stands.
#[test]
fn deny_wins_in_any_order() {
    let deny = || rule("no", "deny", r#""pub""#, "orders.*.new", "");
    for rules in [[open(), deny()], [deny(), open()]] {
        let mut stage = Stage::of(Mesh::new().policy(&policy(&rules)));
        let frame = event(&stage).frame();
        assert_eq!(stage.refuses(&frame, Class::PolicyDenied).code(), 2002);
    }
}

/// PO-4: what is not understood is an error, never ignored.
#[test]
fn unknown_keys_and_words_are_configuration_errors() {
    let with = |more: &str| policy(&[rule("r", "allow", r#""pub""#, "a.>", more)]);
    assert!(Policy::from_json(&with("")).is_ok());
    for more in [
        r#", "subject": "b""#,
        r#", "maxAge": 1"#,
        r#", "max_age": 1"#,
        r#", "min_score": 1001"#,
        r#", "min_score": -1"#,
        r#", "min_score": 0.5"#,
        r#", "min_score": NaN"#,
        r#", "min_score": 1e400"#,
        r#", "min_score": "500""#,
        r#", "rate": { "count": 0, "per_ms": 1 }"#,
        r#", "rate": { "count": 1, "per_ms": 0 }"#,
        r#", "rate": { "count": 1 }"#,
        r#", "rate": { "count": 1, "per_ms": 1, "burst": 9 }"#,
        r#", "rate": { "count": 4294967296, "per_ms": 1 }"#,
        r#", "modes": []"#,
        r#", "modes": [0]"#,
        r#", "modes": [4]"#,
        r#", "max_depth": 256"#,
        r#", "name": "again""#,
    ] {
        assert!(Policy::from_json(&with(more)).is_err(), "{more}");
    }
    for words in [
        r#""publish""#,
        r#""PUB""#,
        r#""""#,
        "",
        r#""pub ""#,
        r#""*""#,
    ] {
        let text = policy(&[rule("r", "allow", words, "a.>", "")]);
        assert!(Policy::from_json(&text).is_err(), "{words}");
    }
    for subjects in ["", "a..b", "a.>.b", "a b", ".a"] {
        let text = policy(&[rule("r", "allow", r#""pub""#, subjects, "")]);
        assert!(Policy::from_json(&text).is_err(), "{subjects}");
    }
    for effect in ["Allow", "permit", ""] {
        assert!(Policy::from_json(&policy(&[rule("r", effect, r#""pub""#, "a", "")])).is_err());
    }
    for top in [
        r#"{ "rules": [], "default": "allow" }"#,
        r#"{ "rules": [], "ttl": { "grant": 1 } }"#,
        r#"{ "rules": [], "ttl": { "grant_ms": 0 } }"#,
        r#"{ "rules": [], "ttl": { "envelope_ms": 120001 } }"#,
        r#"{ "rules": [], "blocked": { "ids": [] } }"#,
        r#"{ "rules": [], "blocked": { "agents": ["Not An Id"] } }"#,
        r#"{ "rules": [], "blocked": { "keys": ["00"] } }"#,
        r#"{ "rules": [] } trailing"#,
    ] {
        assert!(Policy::from_json(top).is_err(), "{top}");
    }
    let limited = rule("r", "deny", r#""pub""#, "a", r#", "max_age_ms": 5"#);
    let refused = Policy::from_json(&policy(&[limited])).unwrap_err();
    assert!(matches!(refused, InvalidPolicy::LimitedDeny(_)));
}

/// PO-4: what a policy says of approvals is understood or refused.
#[test]
fn a_misspelt_approval_is_an_error() {
    let asking = |needs: &str| {
        let text = format!(r#"{{ "rules": [], "approval": {needs} }}"#);
        Policy::from_json(&text)
    };
    let two = r#"[ { "subjects": "b.>", "actions": ["pub", "serve"] },
                   { "subjects": "a.*", "actions": ["req"] } ]"#;
    let policy = asking(two).unwrap();
    let needs: Vec<String> = policy.approval().iter().map(ToString::to_string).collect();
    assert_eq!(needs, ["req:a.*", "pub+serve:b.>"]);
    for needs in [
        r#"{ "subjects": "a", "actions": ["pub"] }"#,
        r#"[ "a" ]"#,
        r#"[ { "subjects": "a" } ]"#,
        r#"[ { "actions": ["pub"] } ]"#,
        r#"[ { "subjects": "a", "actions": [] } ]"#,
        r#"[ { "subjects": "a", "actions": ["publish"] } ]"#,
        r#"[ { "subjects": "a", "actions": ["sub"] } ]"#,
        r#"[ { "subjects": "a", "actions": ["delegate"] } ]"#,
        r#"[ { "subjects": "a..b", "actions": ["pub"] } ]"#,
        r#"[ { "subjects": "a", "actions": ["pub"], "by": "bob" } ]"#,
        r#"[ { "subjects": "a", "actions": ["pub"] }, { "subjects": "a", "actions": ["req"] } ]"#,
    ] {
        assert!(asking(needs).is_err(), "{needs}");
    }
    let many = |count: usize| {
        let need = |n| format!(r#"{{ "subjects": "s{n}", "actions": ["pub"] }}"#);
        let needs: Vec<String> = (0..count).map(need).collect();
        asking(&format!("[{}]", needs.join(",")))
    };
    assert!(many(64).is_ok());
    assert_eq!(many(65).unwrap_err(), InvalidPolicy::TooMany);
}

/// PO-8: the largest policy there can be decides in a time that is bounded by its size alone: 256
/// rules and 64 entries about approvals, each of 16 tokens, none of which matches before its last.
#[test]
fn the_largest_policy_decides_in_bounded_time() {
    let pattern = |n: usize| format!("{}.n{n}", vec!["*"; 15].join("."));
    let rules: Vec<String> = (0..256)
        .map(|n| match n {
            0 => open(),
            _ => rule(&format!("r{n}"), "deny", r#""pub""#, &pattern(n), ""),
        })
        .collect();
    let needs: Vec<String> = (0..64)
        .map(|n| format!(r#"{{ "subjects": "{}", "actions": ["pub"] }}"#, pattern(n)))
        .collect();
    let text = format!(
        r#"{{ "rules": [{}], "approval": [{}] }}"#,
        rules.join(","),
        needs.join(",")
    );
    let mut stage = Stage::of(Mesh::new().policy(&text));
    let chain = stage.chain(&["alice"]);
    let subject = vec!["a"; 16].join(".");
    let frames: Vec<_> = (0..100)
        .map(|_| Letter::publish(&chain, &subject).frame())
        .collect();
    let started = std::time::Instant::now();
    for frame in &frames {
        assert!(stage.decide(frame, &subject, None).result.is_ok());
    }
    // A decision takes less than a millisecond, a signature included. Without a bound it would take
    // as long as a peer likes, so that a factor of a hundred tells one from the other.
    let each = started.elapsed() / 100;
    assert!(each < std::time::Duration::from_millis(100), "{each:?}");
}

/// PO-4, on the wire: a policy file with anything out of place is refused as a whole.
#[test]
fn a_policy_file_with_anything_odd_is_refused() {
    let mesh = Mesh::new();
    let rule = |change: fn(Value) -> Value| {
        let rule = list([
            text("r"),
            Value::Uint(1),
            Value::Uint(1),
            text("a.>"),
            Value::Nil,
            Value::Nil,
            Value::Nil,
            Value::Nil,
            Value::Bool(false),
            Value::Uint(7),
        ]);
        files_with(&mesh, Role::Policy, 3, |body| {
            body.with(&[8], list([change(rule)]))
        })
    };
    rule(|r| r).unwrap();
    let changes: [fn(Value) -> Value; 14] = [
        |r| r.with(&[0], text("")),
        |r| r.with(&[0], text(&"n".repeat(65))),
        |r| r.with(&[1], Value::Uint(2)),
        |r| r.with(&[2], Value::Uint(0)),
        |r| r.with(&[2], Value::Uint(16)),
        |r| r.with(&[3], text("a..b")),
        |r| r.with(&[4], Value::Uint(1 << 32)),
        |r| r.with(&[6], list([Value::Uint(0), Value::Uint(1)])),
        |r| r.with(&[6], list([Value::Uint(1)])),
        |r| r.with(&[7], Value::Uint(1001)),
        |r| r.with(&[8], Value::Uint(0)),
        |r| r.with(&[9], Value::Uint(0)),
        |r| r.with(&[9], Value::Uint(8)),
        |r| r.with(&[1], Value::Uint(0)).with(&[4], Value::Uint(5)),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let class = rule(change).unwrap_err().class();
        assert!(
            matches!(class, Class::Malformed | Class::TooLarge),
            "{index}"
        );
    }
}

/// PO-6 and NA-2: a denied corner of a permitted tree, at each message and at the subscription,
/// plain or in a queue group.
#[test]
fn a_denied_corner_of_a_permitted_tree_is_denied() {
    let deny = rule("no", "deny", r#""pub","sub""#, "a.*.secret", "");
    let mut stage = Stage::of(Mesh::new().policy(&policy(&[open(), deny])));
    let chain = stage.chain(&["alice"]);
    let frame = Letter::publish(&chain, "a.b.secret").frame();
    assert_eq!(stage.refuses(&frame, Class::PolicyDenied).code(), 2002);
    stage.accepts(&Letter::publish(&chain, "a.b.open").frame());
    let bob = Party::named("bob");
    let credential = stage.mesh.grant(&bob, 0, &["sub:>"]);
    let scene = Scene {
        now: stage.now,
        trust: &stage.trust,
        sessions: &(),
    };
    for group in [None, Some("workers")] {
        for (pattern, denied) in [
            ("a.>", true),
            ("a.b.secret", true),
            ("a.*.*", true),
            (">", true),
            ("a.*.open", false),
            ("b.>", false),
        ] {
            let pattern = SubjectPattern::parse(pattern).unwrap();
            let skew = stage.verifier.skew();
            let refusal = check_subscribe(&credential, &pattern, group, &scene, skew).err();
            let class = refusal.map(|refusal| refusal.class());
            assert_eq!(class, denied.then_some(Class::PolicyDenied), "{pattern}");
        }
    }
}

/// A rule that denies receiving denies what is delivered all the same.
#[test]
fn what_may_not_be_subscribed_to_is_not_delivered() {
    let deny = rule("no", "deny", r#""sub""#, "a.*.secret", "");
    let mut stage = Stage::of(Mesh::new().policy(&policy(&[open(), deny])));
    let frame = Letter::publish(&stage.chain(&["alice"]), "a.b.secret").frame();
    assert_eq!(stage.refuses(&frame, Class::PolicyDenied).code(), 2002);
}

/// PO-11: a later rule cannot take an earlier one's name, in JSON or in a signed file.
#[test]
fn a_rule_cannot_be_replaced_by_its_name() {
    let deny = rule("orders", "deny", r#""pub""#, "orders.>", "");
    let allow = rule("orders", "allow", r#""pub""#, "orders.>", "");
    let refused = Policy::from_json(&policy(&[deny, allow])).unwrap_err();
    assert_eq!(refused, InvalidPolicy::Name("orders".into()));
    let wire = |effect| {
        list([
            text("orders"),
            Value::Uint(effect),
            Value::Uint(1),
            text("orders.>"),
            Value::Nil,
            Value::Nil,
            Value::Nil,
            Value::Nil,
            Value::Bool(false),
            Value::Uint(7),
        ])
    };
    let twice = list([wire(0), wire(1)]);
    let refused = files_with(&Mesh::new(), Role::Policy, 3, |body| body.with(&[8], twice));
    assert_eq!(refused.unwrap_err().code(), 117);
}

/// Every limit of every matching rule binds.
#[test]
fn limits_of_all_matching_rules_bind() {
    for (limits, class, code) in [
        (r#", "max_age_ms": 100"#, Class::PolicyDenied, 2003),
        (r#", "max_depth": 0"#, Class::DepthExceeded, 1604),
        (r#", "min_score": 1"#, Class::TrustTooLow, 2101),
        (r#", "session": true"#, Class::PolicyDenied, 2005),
        (r#", "modes": [2]"#, Class::PolicyDenied, 2006),
        (r#", "modes": [3]"#, Class::PolicyDenied, 2006),
    ] {
        let narrow = rule("narrow", "allow", r#""pub""#, "orders.>", limits);
        let mut stage = Stage::of(Mesh::new().policy(&policy(&[narrow, open()])));
        let frame = event(&stage).set(ISSUED, Value::Uint(NOW - 101)).frame();
        assert_eq!(stage.refuses(&frame, class).code(), code);
    }
    let ceiling = |ttl: &str| format!(r#"{{ "ttl": {{ {ttl} }}, "rules": [{}] }}"#, open());
    let mut stage = Stage::of(Mesh::new().policy(&ceiling(r#""envelope_ms": 10000"#)));
    let frame = event(&stage).set(TTL, Value::Uint(10_001)).frame();
    assert_eq!(stage.refuses(&frame, Class::PolicyDenied).code(), 2007);
    for (ttl, hop) in [
        (r#""grant_ms": 3599999"#, 0),
        (r#""delegation_ms": 3599999"#, 1),
    ] {
        let mut stage = Stage::barren(Mesh::new().policy(&ceiling(ttl)));
        let frame = event(&stage).frame();
        let refusal = stage.refuses(&frame, Class::ScopeExceeded);
        assert_eq!((refusal.code(), refusal.hop()), (1507, Some(hop)));
    }
}

fn scored(scores: &[(&str, u16)], rules: &[String]) -> Mesh {
    let mut mesh = Mesh::new().policy(&policy(rules));
    let scores = scores
        .iter()
        .map(|(id, s)| (AgentId::parse(id).unwrap(), *s));
    mesh.scores = Some(scores.collect::<BTreeMap<_, _>>());
    mesh
}

fn five_hundred() -> [String; 2] {
    let min = rule(
        "min",
        "allow",
        r#""pub""#,
        "orders.>",
        r#", "min_score": 500"#,
    );
    [open(), min]
}

/// TS-1: what a message says about its sender's score is not even read.
#[test]
fn a_self_reported_score_is_ignored() {
    let mut stage = Stage::of(scored(&[("alice", 499), ("carol", 900)], &five_hundred()));
    let headers = list([list([text("score"), text("1000")])]);
    let score = list([Value::Uint(77), Value::Bool(false), bin([3, 0xe8])]);
    let frame = event(&stage)
        .set(EXT, list([score]))
        .edit(|l| l.content.items()[0] = headers)
        .payload(r#"{"score":1000}"#)
        .frame();
    let refusal = stage.refuses(&frame, Class::TrustTooLow);
    assert_eq!(
        refusal.to_string(),
        "trust too low: 499 of the required 500"
    );
}

/// A chain is worth its least trusted holder, and no score is the lowest.
#[test]
fn the_lowest_score_of_a_chain_counts() {
    for (carol, alice, class) in [
        (Some(500), Some(500), None),
        (Some(499), Some(1000), Some(Class::TrustTooLow)),
        (Some(1000), Some(499), Some(Class::TrustTooLow)),
        (None, Some(1000), Some(Class::TrustTooLow)),
        (Some(1000), None, Some(Class::TrustTooLow)),
    ] {
        let scores: Vec<_> = [("carol", carol), ("alice", alice)]
            .into_iter()
            .filter_map(|(name, score)| score.map(|score| (name, score)))
            .collect();
        let mut stage = Stage::of(scored(&scores, &five_hundred()));
        let frame = event(&stage).frame();
        match class {
            Some(class) => drop(stage.refuses(&frame, class)),
            None => drop(stage.accepts(&frame)),
        }
    }
}

/// TS-8: the top score helps nobody who lacks the scope, is revoked or is blocked.
#[test]
fn the_top_score_overrides_nothing() {
    let top = [("alice", 1000), ("carol", 1000)];
    let mut stage = Stage::of(scored(&top, &five_hundred()));
    let chain = stage
        .chain(&["alice"])
        .edit(0, |link| link.scope = scope(&[(SUB, ">")]));
    stage.refuses(&Letter::publish(&chain, SUBJ).frame(), Class::ScopeExceeded);
    let mut revoked = scored(&top, &five_hundred());
    revoked.revoked.revoke_key(Party::named("alice").bytes());
    let mut stage = Stage::barren(revoked);
    let frame = event(&stage).frame();
    stage.refuses(&frame, Class::Revoked);
    let blocked = format!(
        r#"{{ "blocked": {{ "agents": ["alice"] }}, "rules": [{}] }}"#,
        five_hundred().join(",")
    );
    let mut stage = Stage::barren(scored(&top, &five_hundred()).policy(&blocked));
    let frame = event(&stage).frame();
    stage.refuses(&frame, Class::Blocked);
    let mut nothing = scored(&top, &[]);
    nothing.policy = Policy::default();
    let mut stage = Stage::barren(nothing);
    let frame = event(&stage).frame();
    stage.refuses(&frame, Class::PolicyDenied);
}

/// Scores out of range, out of order or given twice make no score file.
#[test]
fn odd_score_files_are_refused() {
    let mesh = Mesh::new();
    let file = |scores: &[(&str, u64)]| {
        let scores = scores
            .iter()
            .map(|(id, s)| list([text(id), Value::Uint(*s)]));
        files_with(&mesh, Role::Scores, 5, |body| body.with(&[5], list(scores)))
    };
    file(&[("alice", 0), ("bob", 1000)]).unwrap();
    for odd in [
        &[("alice", 1001)][..],
        &[("alice", u64::MAX)],
        &[("alice", 1), ("alice", 2)],
        &[("bob", 1), ("alice", 2)],
        &[("Alice", 1)],
    ] {
        assert_eq!(file(odd).unwrap_err().class(), Class::Malformed, "{odd:?}");
    }
}

/// Block and allow lists, by id and by key, bite at every position of a chain.
#[test]
fn lists_bite_in_mid_chain() {
    let key = Party::named("carol").bytes();
    for (lists, code) in [
        (r#""blocked": { "agents": ["carol"] }"#.to_owned(), 1902),
        (format!(r#""blocked": {{ "keys": ["{key}"] }}"#), 1901),
        (
            r#""allowed": { "agents": ["alice", "bob"] }"#.to_owned(),
            1903,
        ),
    ] {
        let json = format!(r#"{{ {lists}, "rules": [{}] }}"#, open());
        let mut stage = Stage::of(Mesh::new().policy(&json));
        let frame = event(&stage).frame();
        let refusal = stage.refuses(&frame, Class::Blocked);
        assert_eq!((refusal.code(), refusal.hop()), (code, Some(0)));
    }
}

/// A receiver whose own authority has ended receives nothing more.
#[test]
fn a_receiver_without_authority_receives_nothing() {
    let blocked = format!(
        r#"{{ "blocked": {{ "agents": ["bob"] }}, "rules": [{}] }}"#,
        open()
    );
    let mut revoked = Mesh::new();
    revoked.revoked.revoke_agent(AgentId::parse("bob").unwrap());
    let mut expired = Mesh::new();
    expired.members[1].1 = window(NOW - HOUR, NOW - HOUR / 2);
    let no_sub = policy(&[rule("r", "allow", r#""pub""#, ">", "")]);
    for (mesh, class) in [
        (Mesh::new().policy(&blocked), Class::Blocked),
        (revoked, Class::Revoked),
        (expired, Class::Expired),
        (Mesh::new().policy(&no_sub), Class::PolicyDenied),
    ] {
        let mut stage = Stage::barren(mesh);
        let chain = stage
            .chain(&["alice"])
            .edit(0, |l| l.scope = scope(&[(PUB, ">")]));
        stage.refuses(&Letter::publish(&chain, SUBJ).frame(), class);
    }
}
