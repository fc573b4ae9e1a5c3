//! What `trust show` tells of a score that has changed, by whom it is asked and where.

use std::fs;
use std::time::Duration;
use std::time::Instant;

use futures::executor::block_on;
use serde_json::Value;
use trustmesh::client::home::Home;
use trustmesh::keyfile;
use trustmesh::proto::chain::Credential;
use trustmesh::proto::envelope::EnvelopeDraft;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::replay::MessageId;
use trustmesh::proto::scope::Action;
use trustmesh::proto::signing::Budget;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::time::Timestamp;
use trustmesh::services::authority::Authority;

use crate::listening::Listening;
use crate::listening::PATIENCE;
use crate::nats::NatsServer;
use crate::place::Place;

/// Makes a token where the mesh is, and joins with it somewhere else.
fn join(place: &Place, agent: &str, capability: &str) {
    let token = format!("{agent}.token");
    let make = ["join-token", "--id", agent, "--allow", capability, "--out"];
    place.expect(0, &[&make[..], &[&token]].concat());
    let home = format!("{agent}-home");
    place.expect(
        0,
        &["enroll", agent, "--token-file", &token, "--home", &home],
    );
}

/// What an agent holds, taken from its directory.
fn credential(place: &Place, agent: &str) -> Credential {
    let (id, home) = (AgentId::parse(agent).unwrap(), format!("{agent}-home"));
    let home = Home::open(place.join(home)).unwrap();
    let key = keyfile::load(&home.agent_directory(&id).join("key.pem")).unwrap();
    let trust = Authority::saved_state(place.join("shop")).unwrap();
    let grant = home.grant(&id).unwrap();
    let chain = grant.verify(&trust, &mut Budget::message()).unwrap();
    chain.hold(std::sync::Arc::new(key)).unwrap()
}

/// A message that its sender has no authority for, signed all the same.
fn overstep(by: &Credential, subject: &str, path: &std::path::Path) -> String {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let now = Timestamp::from_millis(now.as_millis() as u64);
    let subject = Subject::parse(subject).unwrap();
    let draft = EnvelopeDraft::new(MessageId([7; 16]), now, Action::Publish, subject);
    let envelope = draft.sign(by).unwrap();
    let id = envelope.id().to_string();
    fs::write(path, envelope.into_bytes()).unwrap();
    id
}

/// What is shown of planner, as soon as its history has this many steps.
fn shown_with(place: &Place, steps: usize) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (out, _) = place.expect(0, &["trust", "show", "planner", "--json"]);
        let shown: Value = serde_json::from_str(&out).unwrap();
        if shown["history"]["steps"].as_array().unwrap().len() == steps {
            return shown;
        }
        assert!(Instant::now() < deadline, "{out}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A fault that a receiver reports is in the history: when, from what to what, why, proved by whose
/// signature, and reported by whom. The service tells, or the books it left; nobody else can.
#[test]
fn a_score_is_shown_with_what_made_it() {
    let server = block_on(NatsServer::start_jetstream());
    let place = Place::new().with("NATS_URL", server.url());
    place.expect(0, &["init", "shop", "--served"]);
    let mut serve = Listening::start(place.trustmesh(&["serve"]));
    serve.until("serving the mesh");
    join(&place, "planner", "pub:orders.>");
    join(&place, "reader", "sub:secrets.*");
    let first = &shown_with(&place, 1)["history"]["steps"][0];
    assert_eq!(
        (&first["cause"], &first["to"]),
        (&"registered".into(), &500.into())
    );
    assert!(first["from"].is_null() && first["by"].is_null(), "{first}");

    let listen = [
        "sub",
        "secrets.*",
        "--agent",
        "reader",
        "--home",
        "reader-home",
    ];
    let mut reader = Listening::start(place.trustmesh(&listen));
    reader.until("listening on");
    let frame = place.join("frame.tmsh");
    let evidence = overstep(&credential(&place, "planner"), "secrets.a", &frame);
    place.expect(0, &["pub", "secrets.a", "--frame", "frame.tmsh"]);
    reader.until("REFUSED");

    let shown = shown_with(&place, 2);
    assert_eq!(shown["history_from"], "service");
    let history = &shown["history"];
    assert_eq!(
        (&history["score"], &history["limit"]),
        (&400.into(), &Value::Null)
    );
    let step = &history["steps"][1];
    assert_eq!(
        (&step["from"], &step["to"]),
        (&500.into(), &400.into()),
        "{step}"
    );
    for (name, value) in [
        ("cause", "scope_exceeded"),
        ("class", "ScopeExceeded"),
        ("evidence", &evidence),
        ("signed_by", "planner"),
        ("by", "reader"),
    ] {
        assert_eq!(step[name], value, "{step}");
    }
    assert!(step["at"].as_u64() >= first["at"].as_u64(), "{step}");

    let (out, _) = place.expect(0, &["trust", "show", "planner"]);
    let from = format!(
        "2 steps, from the verifier service that runs on {}",
        place.join("shop").display()
    );
    let whose = format!(
        "{} signed by planner itself, reported by reader",
        &evidence[..8]
    );
    for words in [
        &from,
        "begins at 500",
        "500 → 400",
        "ScopeExceeded: signed more than it may",
        &whose,
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    // Where the agent is, the score is known, and who knows more.
    let elsewhere = ["trust", "show", "planner", "--home", "planner-home"];
    let (out, _) = place.expect(0, &elsewhere);
    assert!(
        out.contains("only the verifier has it") && !out.contains("→"),
        "{out}"
    );
    let (out, _) = place.expect(0, &[&elsewhere[..], &["--json"]].concat());
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown["history_from"], "verifier-only");
    assert!(shown["history"].is_null(), "{out}");

    assert_eq!(reader.end().0, Some(0));
    assert_eq!(serve.end().0, Some(0));
    let left = shown_with(&place, 2);
    assert_eq!(left["history_from"], "books");
    assert_eq!(left["history"]["steps"], history["steps"]);
    assert_eq!(left["score"], 400);
}
