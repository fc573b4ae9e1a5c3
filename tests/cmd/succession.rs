//! A mesh whose trust root was followed by another, and every command that reads its directory.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use serde_json::Value;
use trustmesh::client::clock::ManualClock;
use trustmesh::client::home::Home;
use trustmesh::keyfile;
use trustmesh::proto::envelope::EnvelopeDraft;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::replay::MessageId;
use trustmesh::proto::root::Role;
use trustmesh::proto::root::TrustRoot;
use trustmesh::proto::scope::Action;
use trustmesh::proto::signing::Budget;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::time::Timestamp;
use trustmesh::services::authority::Authority;

use crate::listening::Listening;
use crate::nats::NatsServer;
use crate::place::Place;

/// The roles whose keys are replaced: all but those that certificates and grants were signed with.
const REPLACED: [Role; 5] = [
    Role::Root,
    Role::Revoker,
    Role::Policy,
    Role::Timestamp,
    Role::Scores,
];

/// Leads the mesh of a directory on to another root, and gives the roots.
fn succeed(home: &Path) -> Vec<Bytes> {
    let mut mesh = Authority::open(home).unwrap();
    let keys = REPLACED.map(|role| (role, SigningKey::generate().unwrap()));
    mesh.replace_roles(keys.into()).unwrap();
    mesh.save(home).unwrap();
    mesh.roots()
}

/// The ids of the first root and of the second.
fn ids(roots: &[Bytes]) -> [String; 2] {
    let first = TrustRoot::parse(&roots[0]).unwrap();
    let second = first.succeed(&roots[1]).unwrap();
    [first.id().to_string(), second.id().to_string()]
}

/// What is shown as JSON.
fn shown(place: &Place, arguments: &[&str]) -> Value {
    let (out, _) = place.expect(0, &[arguments, &["--json"]].concat());
    serde_json::from_str(&out).unwrap()
}

/// Whether a list of the shown has this line.
fn says(shown: &Value, list: &str, line: &str) -> bool {
    shown[list].as_array().unwrap().iter().any(|l| l == line)
}

/// A served mesh in `shop` with an agent, which went on to a second root.
fn succeeded(place: &Place) -> Vec<Bytes> {
    place.expect(0, &["init", "shop", "--served", "--no-context"]);
    let add = ["agent", "add", "planner", "--allow", "pub:orders.>"];
    place.expect(0, &[&add[..], &["--home", "shop"]].concat());
    succeed(&place.join("shop"))
}

#[test]
fn a_trust_folder_is_read_from_its_first_root_to_its_last() {
    let place = Place::new();
    succeeded(&place);
    let look = |trust| ["inspect", "shop/trust/policy.tm", "--trust", trust];
    for trust in ["shop", "shop/trust"] {
        let policy = shown(&place, &look(trust));
        let role = "signatures of the role that must sign it";
        assert!(says(&policy, "checked", role), "{policy}");
    }
    // A root that is missing or damaged is told from files that are.
    let second = place.join("shop/trust/root.2.tm");
    let mut bytes = fs::read(&second).unwrap();
    fs::remove_file(&second).unwrap();
    let (_, err) = place.expect(14, &look("shop"));
    assert!(err.contains("BadSignature 401"), "{err}");
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&second, &bytes).unwrap();
    let (_, err) = place.expect(14, &look("shop"));
    assert!(err.contains("trust/root.2.tm"), "{err}");
}

#[test]
fn a_mesh_is_pinned_by_its_first_root_whichever_is_the_newest() {
    let place = Place::new();
    let [first, second] = ids(&succeeded(&place));
    for mesh in [["--trust", "shop"], ["--home", "shop"]] {
        let look = |pin| {
            [
                &["inspect", "shop/trust/policy.tm", "--pin", pin],
                &mesh[..],
            ]
            .concat()
        };
        place.expect(0, &look(&first));
        let (_, err) = place.expect(15, &look(&second));
        for words in ["UntrustedRoot 1705", &first, "the first root"] {
            assert!(err.contains(words), "{words}: {err}");
        }
        let (_, err) = place.expect(15, &look(&"00".repeat(32)));
        assert!(err.contains("UntrustedRoot 1705"), "{err}");
    }
}

/// Joins with a token, in a directory of its own.
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

fn listen(place: &Place, agent: &str) -> Listening {
    let home = format!("{agent}-home");
    let arguments = ["sub", "orders.*", "--agent", agent, "--home", &home];
    let mut listening = Listening::start(place.trustmesh(&arguments));
    listening.until("listening on");
    listening
}

/// Publishes as planner, who joined before.
fn publish(place: &Place, text: &str) {
    let publish = ["pub", "orders.new", text, "--agent", "planner"];
    place.expect(0, &[&publish[..], &["--home", "planner-home"]].concat());
}

/// Writes a message of planner's to a file.
fn write_frame(place: &Place) {
    let (id, home) = (AgentId::parse("planner").unwrap(), "planner-home");
    let home = Home::open(place.join(home)).unwrap();
    let key = keyfile::load(&home.agent_directory(&id).join("key.pem")).unwrap();
    let trust = Authority::saved_state(place.join("shop")).unwrap();
    let grant = home.grant(&id).unwrap();
    let chain = grant.verify(&trust, &mut Budget::message()).unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let now = Timestamp::from_millis(now.as_millis() as u64);
    let subject = Subject::parse("orders.new").unwrap();
    let draft = EnvelopeDraft::new(MessageId([7; 16]), now, Action::Publish, subject);
    let envelope = draft.sign(&chain.hold(Arc::new(key)).unwrap()).unwrap();
    fs::write(place.join("frame.tmsh"), envelope.into_bytes()).unwrap();
}

/// Everything goes on when the root was followed by another: for the operator, and for agents that
/// joined before, whether they run meanwhile or not, and after.
#[test]
fn a_mesh_goes_on_under_another_root() {
    let server = block_on(NatsServer::start_jetstream());
    let place = Place::new().with("NATS_URL", server.url());
    place.expect(0, &["init", "shop", "--served"]);
    let mut serve = Listening::start(place.trustmesh(&["serve"]));
    serve.until("serving the mesh");
    join(&place, "planner", "pub:orders.>");
    join(&place, "reader", "sub:orders.*");
    join(&place, "sleeper", "sub:orders.*");
    let mut reader = listen(&place, "reader");
    publish(&place, "before");
    reader.until("before");

    assert_eq!(serve.end().0, Some(0));
    let [first, second] = ids(&succeed(&place.join("shop")));
    let mut serve = Listening::start(place.trustmesh(&["serve"]));
    serve.until("serving the mesh");

    // Who runs, who slept, and who comes.
    publish(&place, "after");
    reader.until("after");
    join(&place, "newcomer", "sub:orders.*");
    let (mut sleeper, mut newcomer) = (listen(&place, "sleeper"), listen(&place, "newcomer"));
    publish(&place, "to all");
    for listening in [&mut reader, &mut sleeper, &mut newcomer] {
        listening.until("to all");
    }

    for home in ["shop", "planner-home", "newcomer-home"] {
        let status = shown(&place, &["trust", "status", "--home", home]);
        assert_eq!(status["root_version"], 2, "{status}");
        assert_eq!(status["root"], *second, "{status}");
        assert_eq!(status["pin"], *first, "{status}");
    }
    for arguments in [
        &["check"][..],
        &["check", "--home", "planner-home", "--agent", "planner"],
        &["check", "--home", "newcomer-home", "--agent", "newcomer"],
        &["trust", "list"],
        &["nats", "config"],
    ] {
        place.expect(0, arguments);
    }
    let (out, _) = place.expect(0, &["agent", "list"]);
    for agent in ["planner", "reader", "sleeper", "newcomer"] {
        assert!(out.contains(agent), "{agent}: {out}");
    }
    write_frame(&place);
    let judge = ["verify", "frame.tmsh", "--pin", &first];
    let (out, _) = place.expect(0, &[&judge[..], &["--home", "newcomer-home"]].concat());
    assert!(out.contains("planner"), "{out}");
    // The files of the authority are read, and have no timestamp to decide by.
    for mesh in [&[][..], &["--trust", "shop"]] {
        let (out, _) = place.expect(19, &[&judge[..], mesh].concat());
        assert!(out.contains("StaleState 2308"), "{out}");
    }

    // The keys of the second root are those that work.
    place.expect(0, &["revoke", "planner"]);
    place.expect(0, &["trust", "status", "--home", "newcomer-home"]);
    let (out, _) = place.expect(13, &[&judge[..], &["--home", "newcomer-home"]].concat());
    assert!(out.contains("Revoked"), "{out}");
    for listening in [reader, sleeper, newcomer] {
        assert_eq!(listening.end().0, Some(0));
    }
    assert_eq!(serve.end().0, Some(0));
    let mut serve = Listening::start(place.trustmesh(&["serve"]));
    serve.until("serving the mesh");
    assert_eq!(serve.end().0, Some(0));
}

/// Leads the mesh on through the service that runs on it.
fn succeed_through_the_service(place: &Place, replace: &[&str], version: u32) {
    let replace: Vec<&str> = replace
        .iter()
        .flat_map(|role| ["--replace", role])
        .collect();
    let root = shown(place, &[&["root", "succeed"], &replace[..]].concat());
    assert_eq!(root["version"], version, "{root}");
    assert_eq!(root["reach"], "published", "{root}");
}

/// The operator prolongs the root and replaces keys while everybody is at work. Agents go on without
/// being asked, whether they run or begin anew, until the issuer of what they were granted goes.
#[test]
fn agents_keep_talking_while_the_operator_leads_the_mesh_on() {
    let server = block_on(NatsServer::start_jetstream());
    let place = Place::new().with("NATS_URL", server.url());
    place.expect(0, &["init", "shop", "--served"]);
    let mut serve = Listening::start(place.trustmesh(&["serve"]));
    serve.until("serving the mesh");
    join(&place, "planner", "pub:orders.>");
    join(&place, "reader", "sub:orders.*");
    join(&place, "sleeper", "sub:orders.*");
    let early = [
        "join-token",
        "--allow",
        "sub:orders.*",
        "--out",
        "early.token",
    ];
    place.expect(0, &early);
    let mut reader = listen(&place, "reader");

    succeed_through_the_service(&place, &[], 2);
    publish(&place, "prolonged");
    reader.until("prolonged");
    let replaced = [
        "root",
        "registrar",
        "revoker",
        "policy",
        "timestamp",
        "scores",
    ];
    succeed_through_the_service(&place, &replaced, 3);
    publish(&place, "replaced");
    reader.until("replaced");
    let mut sleeper = listen(&place, "sleeper");
    publish(&place, "to both");
    reader.until("to both");
    sleeper.until("to both");

    // Under the new registrar agents renew themselves and others come; its old tokens are void.
    let planner = ["--agent", "planner", "--home", "planner-home"];
    place.expect(0, &["renew", "planner", "--home", "planner-home"]);
    publish(&place, "renewed");
    reader.until("renewed");
    let late = [
        "enroll",
        "late",
        "--token-file",
        "early.token",
        "--home",
        "late-home",
    ];
    let (_, err) = place.expect(14, &late);
    assert!(err.contains("trustmesh join-token"), "{err}");
    join(&place, "late", "sub:orders.*");
    place.expect(0, &["agent", "add", "local", "--allow", "sub:orders.*"]);

    // What the service saved is what it goes on from, and without it the directory is led on.
    assert_eq!(serve.end().0, Some(0));
    let (out, _) = place.expect(0, &["root", "succeed", "--json"]);
    let root: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&root["version"], &root["reach"]),
        (&4.into(), &"directory".into())
    );
    let mut serve = Listening::start(place.trustmesh(&["serve"]));
    serve.until("serving the mesh");
    publish(&place, "served again");
    reader.until("served again");
    let status = shown(&place, &["trust", "status", "--home", "planner-home"]);
    assert_eq!(status["root_version"], 4, "{status}");

    // Without its issuer a grant is void, and another is made where the role keys are.
    succeed_through_the_service(&place, &["issuer"], 5);
    let text = [&["pub", "orders.new", "void"], &planner[..]].concat();
    place.expect(15, &text);
    let grant = place.join("planner-home/agents/planner/grant.chain");
    fs::remove_file(&grant).unwrap();
    let issue = [
        "token",
        "issue",
        "planner",
        "--allow",
        "pub:orders.>",
        "--out",
    ];
    place.expect(0, &[&issue[..], &[grant.to_str().unwrap()]].concat());
    place.expect(0, &text);
    for listening in [reader, sleeper] {
        assert_eq!(listening.end().0, Some(0));
    }
    assert_eq!(serve.end().0, Some(0));
}

/// A root that has ended can be followed: nothing else of the mesh is needed for that.
#[test]
fn a_mesh_whose_root_has_ended_is_led_on() {
    let place = Place::new();
    let year = 401 * 24 * 3_600 * 1_000;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let then = Timestamp::from_millis(now.as_millis() as u64 - year);
    let clock = Arc::new(ManualClock::at(then));
    let mut mesh = Authority::served_with_clock("shop", false, clock).unwrap();
    mesh.save(place.join("shop")).unwrap();
    let check = ["check", "--offline", "--home", "shop"];
    let (out, _) = place.expect(19, &check);
    assert!(
        out.contains("ended at") && out.contains("trustmesh root succeed"),
        "{out}"
    );
    place.expect(0, &["root", "succeed", "--home", "shop"]);
    place.expect(0, &check);
}
