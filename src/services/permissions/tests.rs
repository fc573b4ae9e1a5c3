use super::*;
use crate::proto::envelope::inbox_prefix;

fn mesh() -> Mesh {
    Mesh {
        id: MeshId([0xab; 16]),
        prefix: "trustmesh".to_owned(),
        identities: BTreeSet::new(),
        newcomers: None,
    }
}

fn member(id: &str, number: u8, capabilities: &[&str]) -> Member {
    Member {
        agent: AgentId::parse(id).unwrap(),
        keys: vec![KeyBytes([number; 32])],
        capabilities: capabilities.iter().map(|c| c.parse().unwrap()).collect(),
        connection: Connection::Password {
            user: id.to_owned(),
            hash: "$2b$04$hash".to_owned(),
        },
    }
}

fn one(capabilities: &[&str]) -> User {
    let plan = derive(&mesh(), vec![member("a", 1, capabilities)]).unwrap();
    plan.users()[0].clone()
}

fn has(rules: &[String], rule: &str) -> bool {
    rules.iter().any(|r| r == rule)
}

#[test]
fn each_action_opens_its_half_only() {
    let user = one(&["pub:p.>", "req:r", "sub:s.*", "serve:v", "delegate:d"]);
    let publish = &user.publish.allow;
    assert!(has(publish, "p.>") && has(publish, "r"));
    let subscribe = &user.subscribe.allow;
    assert!(has(subscribe, "s.*"));
    for rule in ["s.*", "v", "d"] {
        assert!(!has(publish, rule), "{rule}");
    }
    for rule in ["p.>", "r", "v", "d"] {
        assert!(!has(subscribe, rule), "{rule}");
    }
    assert!(user.omitted.is_empty());
}

#[test]
fn only_who_serves_may_answer_in_every_inbox() {
    assert!(!has(&one(&["pub:a", "sub:a"]).publish.allow, "_INBOX.*.>"));
    assert!(has(&one(&["sub+serve:a"]).publish.allow, "_INBOX.*.>"));
    for user in [one(&[]), one(&["sub+serve:a"])] {
        let inbox = format!("{}.>", inbox_prefix(&KeyBytes([1; 32])));
        let inboxes = user.subscribe.allow.iter().filter(|r| r.starts_with("_"));
        assert_eq!(inboxes.collect::<Vec<_>>(), [&inbox]);
    }
}

/// NA-2: no wildcard reaches inboxes or system subjects.
#[test]
fn a_capability_that_begins_with_a_wildcard_is_left_out_and_named() {
    for pattern in [">", "*", "*.a", "*.>"] {
        let user = one(&[&format!("pub+sub:{pattern}")]);
        assert_eq!(user.omitted.len(), 2, "{pattern}");
        assert!(user.omitted.iter().all(|o| o.why == Why::Wildcard));
        assert!(!has(&user.publish.allow, pattern) && !has(&user.subscribe.allow, pattern));
    }
}

#[test]
fn system_subjects_are_open_only_when_they_are_granted_by_name() {
    let system = |user: &User| {
        let rules = user.publish.allow.iter().chain(&user.subscribe.allow);
        rules.filter(|rule| rule.starts_with('$')).count()
    };
    let reading = system(&one(&["pub:a", "sub:a"]));
    assert_eq!(
        reading, 6,
        "what reads the trust state, and claims in the replay memory"
    );
    assert_eq!(system(&one(&["pub:a"])), 2, "what reads the trust state");
    let user = one(&["pub:$JS.API.>", "pub:$KV.>"]);
    assert!(has(&user.publish.allow, "$JS.API.>"));
    // Even then the trust state stays locked.
    let bucket = bucket(mesh().id);
    for rule in [
        format!("$KV.{bucket}.>"),
        format!("$JS.API.STREAM.PURGE.KV_{bucket}"),
        format!("$JS.API.STREAM.DELETE.KV_{bucket}"),
        format!("$JS.API.STREAM.UPDATE.KV_{bucket}"),
        format!("$KV.TRUSTMESH_REPLAY_{}.>", mesh().id),
        format!("$JS.API.STREAM.CREATE.KV_TRUSTMESH_REPLAY_{}", mesh().id),
        format!("$JS.API.STREAM.PURGE.KV_TRUSTMESH_REPLAY_{}", mesh().id),
    ] {
        assert!(has(&user.publish.deny, &rule), "{rule}");
    }
}

#[test]
fn no_grant_opens_the_subjects_of_the_mesh_itself() {
    for pattern in [
        "trustmesh.>",
        "trustmesh.audit.b",
        "trustmesh.*.b",
        "trustmesh.trust",
    ] {
        let user = one(&[&format!("pub:{pattern}")]);
        assert_eq!(user.omitted.len(), 1, "{pattern}");
        assert!(!has(&user.publish.allow, pattern), "{pattern}");
    }
    for pattern in [
        "trustmesh.>",
        "trustmesh.handshake.b",
        "trustmesh.verifier.x",
    ] {
        let user = one(&[&format!("sub:{pattern}")]);
        assert_eq!(user.omitted.len(), 1, "{pattern}");
    }
    // An auditor reads audits, and nobody needs leave for what is its own.
    assert!(has(
        &one(&["sub:trustmesh.audit.*"]).subscribe.allow,
        "trustmesh.audit.*"
    ));
    assert!(one(&["pub:trustmesh.audit.a"]).omitted.is_empty());
}

#[test]
fn queue_groups_are_told_to_the_server() {
    let grouped = |groups: &[&str]| {
        let capability: Capability = "sub:jobs.>".parse().unwrap();
        capability.in_groups(groups.iter().copied()).unwrap()
    };
    let mut a = member("a", 1, &[]);
    a.capabilities = vec![grouped(&["blue", "green"])];
    let rules = |a: &Member| derive(&mesh(), vec![a.clone()]).unwrap().users()[0].clone();
    let subscribe = rules(&a).subscribe.allow;
    assert!(has(&subscribe, "jobs.> blue") && has(&subscribe, "jobs.> green"));
    assert!(!has(&subscribe, "jobs.>"));

    a.capabilities = vec![grouped(&["a.*"])];
    let user = rules(&a);
    assert_eq!(user.omitted[0].why, Why::Group);

    a.capabilities = vec![grouped(&["blue"]), "sub:jobs.>".parse().unwrap()];
    let subscribe = rules(&a).subscribe.allow;
    assert!(has(&subscribe, "jobs.>") && !has(&subscribe, "jobs.> blue"));
}

#[test]
fn the_verifier_alone_writes_trust_state() {
    let plan = derive(&mesh(), vec![member(VERIFIER, 1, &[]), member("a", 2, &[])]).unwrap();
    let [a, verifier] = plan.users() else {
        panic!()
    };
    let bucket = format!("$KV.{}.>", bucket(mesh().id));
    assert!(has(&verifier.publish.allow, &bucket) && !has(&verifier.publish.deny, &bucket));
    assert!(has(&a.publish.deny, &bucket) && !has(&a.publish.allow, &bucket));
    assert!(has(&verifier.publish.allow, "trustmesh.trust"));
    assert!(has(&verifier.subscribe.allow, "trustmesh.verifier.>"));
    assert!(!has(&a.subscribe.allow, "trustmesh.verifier.>"));
    let api = |what: &str| format!("$JS.API.STREAM.{what}.KV_TRUSTMESH_{}", mesh().id);
    for what in ["CREATE", "PURGE"] {
        assert!(has(&verifier.publish.allow, &api(what)), "{what}");
        assert!(has(&a.publish.deny, &api(what)), "{what}");
    }
    for what in ["UPDATE", "DELETE", "MSG.DELETE", "RESTORE"] {
        assert!(has(&verifier.publish.deny, &api(what)), "{what}");
        assert!(has(&a.publish.deny, &api(what)), "{what}");
    }
}

#[test]
fn the_shared_replay_memory_is_for_those_who_receive() {
    let claims = format!("$KV.TRUSTMESH_REPLAY_{}.>", mesh().id);
    let api = |what: &str| format!("$JS.API.STREAM.{what}.KV_TRUSTMESH_REPLAY_{}", mesh().id);
    let (receiver, sender) = (one(&["sub:a"]), one(&["pub:a"]));
    for rule in [&claims, &api("CREATE"), &api("INFO"), &api("MSG.GET")] {
        assert!(has(&receiver.publish.allow, rule), "{rule}");
        assert!(!has(&sender.publish.allow, rule), "{rule}");
    }
    assert!(has(&sender.publish.deny, &claims));
    for what in ["UPDATE", "DELETE", "PURGE", "MSG.DELETE", "RESTORE"] {
        assert!(has(&receiver.publish.deny, &api(what)), "{what}");
    }
}

#[test]
fn newcomers_can_join_and_do_nothing_else() {
    let open = Mesh {
        newcomers: Some(Connection::Certificate {
            user: "CN=newcomer".to_owned(),
        }),
        ..mesh()
    };
    let plan = derive(&open, vec![member("a", 1, &[])]).unwrap();
    let newcomer = plan.users().last().unwrap();
    assert_eq!(newcomer.who, Who::Newcomers);
    let bucket = bucket(open.id);
    assert_eq!(
        newcomer.publish.allow,
        [
            format!("$JS.API.STREAM.INFO.KV_{bucket}"),
            format!("$JS.API.STREAM.MSG.GET.KV_{bucket}"),
            "trustmesh.verifier.enrol".to_owned(),
        ]
    );
    assert_eq!(newcomer.subscribe.allow, ["_INBOX.*.en.>"]);
    // Who has a certificate asks with that.
    assert!(!has(
        &plan.users()[0].publish.allow,
        "trustmesh.verifier.enrol"
    ));
    let same = Member {
        connection: open.newcomers.clone().unwrap(),
        ..member("b", 2, &[])
    };
    let error = derive(&open, vec![same]).unwrap_err();
    assert!(matches!(error, PlanError::SharedUser { .. }));
}

#[test]
fn a_connection_key_that_is_an_identity_key_is_refused() {
    let nkey = |id, number, connection| Member {
        connection: Connection::Nkey(KeyBytes([connection; 32])),
        ..member(id, number, &[])
    };
    let error = |members| derive(&mesh(), members).unwrap_err();
    let identity = |id: &str| PlanError::IdentityKey {
        who: Who::Agent(AgentId::parse(id).unwrap()),
    };
    assert_eq!(error(vec![nkey("a", 1, 1)]), identity("a"));
    assert_eq!(error(vec![nkey("a", 1, 2), nkey("b", 2, 3)]), identity("a"));
    let registered = Mesh {
        identities: [KeyBytes([9; 32])].into(),
        ..mesh()
    };
    assert!(derive(&registered, vec![nkey("a", 1, 9)]).is_err());
    let shared = error(vec![nkey("a", 1, 7), nkey("b", 2, 7)]);
    assert!(matches!(shared, PlanError::SharedUser { .. }));
    assert!(derive(&mesh(), vec![nkey("a", 1, 7), nkey("b", 2, 8)]).is_ok());
}

/// NA-1: nothing that is written down can become another line of the configuration.
#[test]
fn text_cannot_leave_its_quotation_marks() {
    let user = |name: &str| Member {
        connection: Connection::Certificate {
            user: name.to_owned(),
        },
        ..member("a", 1, &["pub:a\"b.c\\d.#{}'"])
    };
    let plan = derive(&mesh(), vec![user("CN=\"x\"")]).unwrap();
    let text = plan.render(None).unwrap();
    assert!(text.contains(r#"user: "CN=\"x\"""#), "{text}");
    assert!(text.contains(r#""a\"b.c\\d.#{}'""#), "{text}");
    for name in ["a\nb", "a\rb", "a\0b", "", "\u{85}"] {
        let plan = derive(&mesh(), vec![user(name)]).unwrap();
        let what = "connection user";
        assert_eq!(plan.render(None), Err(PlanError::Text { what }), "{name:?}");
    }
    let tls = ServerTls {
        certificate: "server.pem\n".to_owned(),
        key: "key.pem".to_owned(),
        ca: None,
    };
    assert!(plan.render(Some(&tls)).is_err());
}

#[test]
fn the_same_registry_gives_the_same_text() {
    let members = || {
        vec![
            member("b", 2, &["pub:x", "pub:w"]),
            member("a", 1, &["sub:x"]),
        ]
    };
    let mut other = members();
    other.reverse();
    let text = |members| derive(&mesh(), members).unwrap().render(None).unwrap();
    assert_eq!(text(members()), text(other));
    assert!(text(members()).starts_with(MARK));
}

#[test]
fn a_prefix_of_several_tokens_is_refused() {
    for prefix in ["a.b", "", "*", "a b"] {
        let mesh = Mesh {
            prefix: prefix.to_owned(),
            ..mesh()
        };
        assert_eq!(derive(&mesh, Vec::new()).unwrap_err(), PlanError::Prefix);
    }
}

#[test]
fn what_may_be_handed_on_is_what_has_delegate() {
    let given: Vec<Capability> = ["pub:a", "req+delegate:b"]
        .map(|c| c.parse().unwrap())
        .into();
    assert_eq!(delegable(&given), [given[1].clone()]);
}
