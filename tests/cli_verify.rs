//! The commands that judge, look and explain, run as a person runs them: `verify`, `inspect` and
//! `why`.

#![cfg(feature = "cli")]

#[path = "forge/mod.rs"]
mod forge;

use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use bytes::Bytes;
use data_encoding::BASE64;
use data_encoding::HEXLOWER;
use serde_json::Value as Json;
use tempfile::TempDir;

use trustmesh::proto::handshake;
use trustmesh::proto::handshake::Initiator;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::Edition;
use trustmesh::proto::trust::Extent;
use trustmesh::proto::trust::FileDraft;
use trustmesh::services::authority::Authority;

use forge::Batch;
use forge::ChainSpec;
use forge::Letter;
use forge::Mesh;
use forge::NOW;
use forge::Party;
use forge::batch::KEY;
use forge::batch::tree_hash;
use forge::chain::PUB;
use forge::chain::SERVE;
use forge::chain::scope;
use forge::mesh::window;
use forge::value::bin;

const SUBJ: &str = "store.docs.get";

/// A mesh whose trust files lie in a folder.
struct Bench {
    mesh: Mesh,
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let (mesh, folder) = (Mesh::new(), tempfile::tempdir().unwrap());
        let (files, trust) = (mesh.files(), folder.path().join("trust"));
        std::fs::create_dir(&trust).unwrap();
        for (name, bytes) in [
            ("root.tm", &files.root),
            ("registry.tm", &files.registry),
            ("policy.tm", &files.policy),
            ("revocations.tm", &files.revocations),
        ] {
            std::fs::write(trust.join(name), bytes).unwrap();
        }
        Self { mesh, folder }
    }

    fn chain(&self, holders: &[&str]) -> ChainSpec {
        ChainSpec::down(&self.mesh, holders)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs the command with this mesh, at the time of its messages.
    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trustmesh"));
        command.args(arguments);
        if arguments[0] != "why" {
            command.arg("--trust").arg(self.folder.path());
            command.args(["--at", &NOW.to_string()]);
        }
        run(&mut command, self.folder.path(), input)
    }

    /// Judges lines of standard input; the verdicts and the exit code.
    fn stream(&self, lines: &str) -> (Vec<Json>, i32) {
        let output = self.run(&["verify", "--json"], lines);
        let text = String::from_utf8(output.stdout).unwrap();
        let verdicts = text.lines().map(|line| serde_json::from_str(line).unwrap());
        (verdicts.collect(), output.status.code().unwrap())
    }
}

fn run(command: &mut Command, config: &Path, input: &str) -> Output {
    for variable in [
        "TRUSTMESH_HOME",
        "TRUSTMESH_CONTEXT",
        "TRUSTMESH_DEV",
        "TRUSTMESH_ROOT",
    ] {
        command.env_remove(variable);
    }
    let mut child = command
        .env("TRUSTMESH_CONFIG", config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // Whoever is refused early stops reading.
    let writer = std::thread::spawn(move || {
        let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Json {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn hex(frame: &Bytes) -> String {
    HEXLOWER.encode(frame)
}

#[test]
fn a_sound_envelope_is_accepted_in_every_form() {
    let bench = Bench::new();
    let frame = Letter::publish(&bench.chain(&["carol", "alice"]), SUBJ).frame();
    let wrapped: Vec<_> = hex(&frame)
        .as_bytes()
        .chunks(60)
        .map(<[u8]>::to_vec)
        .collect();
    for (name, bytes) in [
        ("binary", frame.to_vec()),
        ("hex", hex(&frame).into_bytes()),
        ("wrapped", wrapped.join(&b'\n')),
        ("base64", BASE64.encode(&frame).into_bytes()),
    ] {
        let path = bench.write(name, bytes);
        let output = bench.run(&["verify", &path, "--json"], "");
        assert_eq!(code(&output), 0, "{name}: {}", stderr(&output));
        let verdict = json(&output);
        assert_eq!(verdict["verdict"], "allow", "{name}");
        assert_eq!(verdict["sender"], "alice");
        assert_eq!(verdict["subject"], SUBJ);
        assert_eq!(verdict["links"], 2);
        assert_eq!(verdict["claimed"], false);
        assert!(verdict["class"].is_null() && verdict["code"].is_null());
        let left = serde_json::json!(["delivery", "receiver", "replay"]);
        assert_eq!(verdict["not_checked"], left);
    }
}

/// One message of a batch is evidence without the others.
#[test]
fn a_message_of_a_batch_is_proved_by_itself() {
    let bench = Bench::new();
    let chain = bench.chain(&["carol", "alice"]);
    let batch = Batch::of((0..5).map(|_| Letter::publish(&chain, SUBJ)));
    let path = bench.write("object", batch.letter(4).frame());
    let output = bench.run(&["verify", &path, "--json"], "");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let verdict = json(&output);
    assert_eq!(verdict["verdict"], "allow");
    assert_eq!(verdict["sender"], "alice");
    assert_eq!(verdict["claimed"], false);

    let proof = batch.proof(3);
    let moved = bench.write("moved", batch.letter_with(2, |_| proof).frame());
    let refused = json(&bench.run(&["verify", &moved, "--json"], ""));
    assert_eq!(refused["code"], 401);
    let foreign = batch.clone().edit(|b| b.signer = Party::named("dave"));
    let foreign = foreign.set(KEY, bin(Party::named("dave").bytes().0));
    let foreign = bench.write("foreign", foreign.letter(2).frame());
    let refused = json(&bench.run(&["verify", &foreign, "--json"], ""));
    assert_eq!(refused["code"], 701);
    assert_eq!(refused["claimed"], true);

    let shown = json(&bench.run(&["inspect", &path, "--json"], ""));
    assert_eq!(shown["mode"], 2);
    assert_eq!(shown["authentic"], true);
    let inside = &shown["batch"][0];
    assert_eq!(inside["size"], 5);
    assert_eq!(inside["index"], 4);
    assert_eq!(inside["path_hashes"], 1);
    assert_eq!(inside["key"]["agent"], "alice");
    assert_eq!(inside["root"], HEXLOWER.encode(&tree_hash(&batch.leaves)));
    let text = stdout(&bench.run(&["inspect", &path], ""));
    assert!(text.contains("batch  5 of 5"), "{text}");
    let alone = Letter::publish(&chain, SUBJ).frame();
    let shown = json(&bench.run(&["inspect", &hex(&alone), "--json"], ""));
    assert_eq!(shown["mode"], 1);
    assert!(shown["batch"].is_null());
}

#[test]
fn a_refused_envelope_ends_with_the_code_of_its_class() {
    let bench = Bench::new();
    let narrow = bench
        .chain(&["alice"])
        .edit(0, |link| link.scope = scope(&[(PUB, "notes.>")]));
    let path = bench.write("object", Letter::publish(&narrow, SUBJ).frame());
    let output = bench.run(&["verify", &path, "--json"], "");
    assert_eq!(code(&output), 11);
    let verdict = json(&output);
    assert_eq!(verdict["verdict"], "deny");
    assert_eq!(verdict["class"], "ScopeExceeded");
    assert_eq!(verdict["code"], 1501);
    assert_eq!(verdict["hop"], 0);
    assert!(stderr(&output).starts_with("next: "));

    let alice = Letter::publish(&bench.chain(&["alice"]), SUBJ);
    let forged = bench.write(
        "forged",
        alice
            .clone()
            .edit(|l| l.signer = Party::named("dave"))
            .frame(),
    );
    assert_eq!(code(&bench.run(&["verify", &forged], "")), 14);
    let sound = bench.write("sound", alice.frame());
    let elsewhere = bench.run(&["verify", &sound, "--subject", "store.docs.put"], "");
    assert_eq!(code(&elsewhere), 11);
    assert!(stdout(&elsewhere).contains("SubjectMismatch 901"));
    let pinned = bench.run(&["verify", &sound, "--pin", &"0".repeat(64)], "");
    assert_eq!(code(&pinned), 15);
}

#[test]
fn a_stream_is_judged_line_by_line() {
    let bench = Bench::new();
    let chain = bench.chain(&["carol", "alice"]);
    let sound = || Letter::publish(&chain, SUBJ).frame();
    let forged = Letter::publish(&chain, SUBJ).edit(|l| l.signer = Party::named("dave"));
    let late = serde_json::json!({ "bytes": hex(&sound()), "at": NOW + 60_000 });
    let there = serde_json::json!({ "bytes": BASE64.encode(&sound()), "subject": SUBJ });
    let lines = [
        hex(&sound()),
        String::new(),
        hex(&forged.frame()),
        late.to_string(),
        there.to_string(),
        "no envelope at all".to_owned(),
    ];
    let (verdicts, code) = bench.stream(&lines.join("\n"));
    let codes: Vec<_> = verdicts.iter().map(|v| v["code"].as_u64()).collect();
    assert_eq!(codes, [None, Some(401), Some(1101), None, Some(108)]);
    let numbers: Vec<_> = verdicts
        .iter()
        .map(|v| v["line"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [1, 3, 4, 5, 6]);
    assert_eq!(
        verdicts[3]["not_checked"],
        serde_json::json!(["receiver", "replay"])
    );
    assert_eq!(code, 14, "the class of the first refusal");
    let twice = format!("{0}\n{0}\n", hex(&sound()));
    assert_eq!(bench.stream(&twice).1, 0, "each line is judged by itself");
}

#[test]
fn nothing_to_judge_is_never_fine() {
    let bench = Bench::new();
    for input in ["", "\n \n"] {
        assert_eq!(bench.stream(input).1, 2, "{input:?}");
    }
    let unusable = "{\"bytes\": \"00\", \"subjct\": \"a\"}\n";
    assert_eq!(
        bench.stream(unusable).1,
        2,
        "an unknown field is not ignored"
    );
    let empty = bench.write("empty", "");
    let folder = bench.folder.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    let missing = bench.folder.path().join("missing");
    for path in [&empty, folder.to_str().unwrap(), missing.to_str().unwrap()] {
        let output = bench.run(&["verify", path], "");
        assert_eq!(code(&output), 2, "{path}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn an_answer_is_judged_beside_its_request() {
    let bench = Bench::new();
    let request = Letter::request(&bench.chain(&["bob"]), SUBJ);
    let server = bench
        .chain(&["carol"])
        .edit(0, |link| link.scope = scope(&[(SERVE, "store.docs.>")]));
    let bob = Party::named("bob");
    let inbox = format!("_INBOX.{}.1", bob.bytes().to_nkey());
    let answer = Letter::answer(&server, &inbox, &bob, request.id());
    let (request, answer) = (request.frame(), answer.frame());
    let path = bench.write("answer", &answer);
    let beside = bench.write("request", &request);
    assert_eq!(code(&bench.run(&["verify", &path], "")), 11);
    let output = bench.run(&["verify", &path, "--request", &beside], "");
    assert_eq!(code(&output), 0, "{}", stdout(&output));
    let line = serde_json::json!({ "bytes": hex(&answer), "request": hex(&request) });
    assert_eq!(bench.stream(&line.to_string()).1, 0);
    // What is no request cannot stand for one.
    assert_eq!(
        code(&bench.run(&["verify", &path, "--request", &path], "")),
        11
    );
}

/// A small folder of vectors, written as `tests/vectors/README.md` says.
#[test]
fn vectors_are_held_to_their_own_expectations() {
    let bench = Bench::new();
    let vectors = bench.folder.path().join("vectors");
    std::fs::create_dir_all(vectors.join("states")).unwrap();
    std::fs::create_dir_all(vectors.join("frame")).unwrap();
    let files = bench.mesh.files();
    let state = serde_json::json!({
        "about": "a mesh", "root": hex(&files.root), "registry": hex(&files.registry),
        "policy": hex(&files.policy), "revocations": hex(&files.revocations),
        "scores": null, "dev": false, "pin": null,
    });
    std::fs::write(vectors.join("states/mesh.json"), state.to_string()).unwrap();
    let bob = Party::named("bob");
    let own = bench.mesh.grant(&bob, 0, &["sub:>"]);
    let letter = Letter::publish(&bench.chain(&["alice"]), SUBJ);
    let case = |expect: Json| {
        serde_json::json!({
            "about": "a message", "covers": [], "kind": "message", "state": "mesh", "now": NOW,
            "skew": 5000, "expect": expect, "bytes": hex(&letter.frame()),
            "delivered": { "subject": SUBJ, "reply": null },
            "receiver": { "key": bob.bytes().to_string(), "pattern": ">",
                          "chain": hex(own.chain().bytes()) },
        })
    };
    let write = |name: &str, case: &Json| {
        std::fs::write(vectors.join(name), case.to_string()).unwrap();
    };
    let denied = serde_json::json!(
        { "verdict": "deny", "class": "Expired", "code": 1101, "hop": null });
    let path = vectors.to_str().unwrap();
    write("frame/late.json", &case(denied));
    let output = bench.run(&["verify", path], "");
    assert_eq!(code(&output), 1, "an expectation is not met");
    assert!(stdout(&output).contains("expected Expired 1101, was accepted"));

    let payload = "7061796c6f6164";
    let allowed = serde_json::json!({ "verdict": "allow", "id": letter.id().to_string(),
                                      "sender": "alice", "payload": payload });
    write("frame/late.json", &case(allowed.clone()));
    let output = bench.run(&["verify", path], "");
    assert_eq!(code(&output), 0, "{}", stdout(&output));
    assert!(stdout(&output).contains("frame  1      1       0"));
    let one = vectors.join("frame/late.json");
    assert_eq!(code(&bench.run(&["verify", one.to_str().unwrap()], "")), 0);

    // The same message once more, to the same receiver, is a replay.
    let replay = serde_json::json!(
        { "verdict": "deny", "class": "Replay", "code": 1201, "hop": null });
    let mut again = case(replay);
    again["preceded_by"] = Json::Array(vec![case(allowed)]);
    write("frame/again.json", &again);
    assert_eq!(code(&bench.run(&["verify", path], "")), 0);
    again["kind"] = "riddle".into();
    write("frame/again.json", &again);
    assert_eq!(code(&bench.run(&["verify", path], "")), 2, "not a vector");
}

/// The vectors published with the protocol.
#[test]
fn every_published_vector_agrees() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let bench = Bench::new();
    let output = bench.run(&["verify", folder.to_str().unwrap(), "--json"], "");
    assert_eq!(code(&output), 0, "{}", stdout(&output));
    let mut cases = 0;
    for line in stdout(&output).lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let case = std::fs::read(folder.join(line["case"].as_str().unwrap())).unwrap();
        let case: serde_json::Value = serde_json::from_slice(&case).unwrap();
        for field in ["verdict", "class", "code", "hop"] {
            assert_eq!(line[field], case["expect"][field], "{}", line["case"]);
        }
        cases += 1;
    }
    assert!(cases >= 400, "{cases}");
}

#[test]
fn inspect_shows_a_chain_hop_by_hop() {
    let bench = Bench::new();
    let frame = Letter::publish(&bench.chain(&["carol", "dave", "alice"]), SUBJ).frame();
    let path = bench.write("object", &frame);
    let output = bench.run(&["inspect", &path], "");
    let text = stdout(&output);
    assert_eq!(code(&output), 0, "{text}");
    for part in [
        "→ link 0  carol",
        "→ link 1  dave",
        "→ link 2  alice",
        "in good standing",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("checked"));
    assert!(!text.contains("payload\n"), "payloads are not shown");
    let shown = json(&bench.run(&["inspect", &hex(&frame), "--json"], ""));
    assert_eq!(shown["kind"], "envelope");
    assert_eq!(shown["chain"][0]["links"][2]["holder"]["agent"], "alice");
    assert_eq!(shown["authentic"], true);
}

/// Timestamp, snapshot, books, a part with its place, and the bulletin that carries them.
#[test]
fn inspect_shows_a_served_trust_state() {
    let bench = Bench::new();
    let mut mesh = Authority::served("served").unwrap();
    mesh.enrol(&Party::named("alice").id(), &Party::named("alice").key)
        .unwrap();
    let retired = Party::named("bob").bytes();
    mesh.retire_key(retired, Timestamp::from_millis(NOW));
    mesh.publish().unwrap();
    mesh.publish().unwrap();
    let bulletin = mesh.bulletin().unwrap();
    let show = |object: &Bytes| {
        let path = bench.write("object", object);
        let output = bench.run(&["inspect", &path, "--json"], "");
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        json(&output)
    };
    let shown = show(&bulletin.to_bytes());
    assert_eq!(shown["kind"], "bulletin");
    let (time, snapshot) = (&shown["timestamp"][0], &shown["snapshot"][0]);
    assert_eq!(time["kind"], "timestamp");
    assert_eq!(snapshot["kind"], "snapshot");
    let digest = snapshot["digest"].as_str().unwrap();
    assert!(time["snapshot"].as_str().unwrap().ends_with(digest));
    assert!(time["root"].as_str().unwrap().starts_with("version 1, "));
    let named = snapshot["parts"].as_array().unwrap().len();
    assert_eq!(named, mesh.parts().len());
    let parts = mesh.parts();
    let shown: Vec<_> = parts.values().map(show).collect();
    let list = shown.iter().find(|part| part["kind"] == "revocations");
    let list = list.unwrap();
    assert_eq!(list["part"], "0");
    let retirement = list["retirements"][0].as_str().unwrap();
    assert!(retirement.starts_with(&retired.to_string()), "{retirement}");

    let edition = Edition {
        epoch: 1,
        validity: window(NOW, NOW + 1),
    };
    let extent = Extent::Shard { index: 2, count: 5 };
    let books = FileDraft::Books(b"kept").sign_part(mesh.mesh(), edition, extent, &[]);
    let shown = show(&books);
    assert_eq!(
        (&shown["kind"], &shown["part"]),
        (&"books".into(), &"2 of 5".into())
    );
    assert_eq!(shown["bytes"], 4);
}

#[test]
fn inspect_knows_everything_that_is_signed_or_stored() {
    let bench = Bench::new();
    let (mesh, alice) = (&bench.mesh, Party::named("alice"));
    let files = mesh.files();
    let certificate = mesh.certificate(&alice, mesh.members[0].1);
    let credential = mesh.grant(&alice, 1, &["pub:>"]);
    let party = handshake::Party {
        id: alice.id(),
        certificate: certificate.clone(),
        credential: credential.clone(),
    };
    let bob = AgentId::parse("bob").unwrap();
    let (_, hello) = Initiator::hello(party, bob, Party::named("bob").bytes(), [7; 32]);
    for (kind, object) in [
        ("trust root", files.root.clone()),
        ("registry", files.registry.clone()),
        ("policy", files.policy.clone()),
        ("revocations", files.revocations.clone()),
        ("chain", credential.chain().bytes().clone()),
        ("certificate", certificate),
        ("handshake", hello),
    ] {
        let path = bench.write("object", &object);
        let output = bench.run(&["inspect", &path, "--json"], "");
        assert_eq!(code(&output), 0, "{kind}: {}", stderr(&output));
        let shown = json(&output);
        assert_eq!(shown["kind"], kind);
        assert_eq!(shown["against"], serde_json::json!([]), "{kind}");
        // Whatever is cut off is refused, and its place is named.
        let cut = bench.write("object", &object[..object.len() - 1]);
        let output = bench.run(&["inspect", &cut, "--json"], "");
        assert_eq!(code(&output), 17, "{kind}");
        assert_eq!(json(&output)["unreadable"]["class"], "Malformed", "{kind}");
    }
    let home = bench.folder.path().to_str().unwrap();
    let shown = json(&bench.run(&["inspect", home, "--json"], ""));
    assert_eq!(shown["files"].as_array().map(Vec::len), Some(4));
    for text in [
        alice.key.public().to_nkey(),
        alice.key.public().to_did_key(),
        alice.key.public().to_spki_pem(),
        alice.bytes().to_string(),
    ] {
        let path = bench.write("key", &text);
        let shown = json(&bench.run(&["inspect", &path, "--json"], ""));
        assert_eq!(
            (&shown["kind"], &shown["agent"]),
            (&"public key".into(), &"alice".into())
        );
    }
}

/// OB-3: what somebody else wrote cannot reach the terminal as it is.
#[test]
fn inspect_escapes_what_others_chose() {
    let bench = Bench::new();
    let line = concat!(
        r#"{"v":1,"emitter":"al\u001b[31mice","run":"00","seq":0,"prev":"00","time":0,"#,
        r#""kind":"notice","topic":"t","text":"\u001b]0;x\u0007"}"#
    );
    let path = bench.write("records", format!("{line}\n{line}\n"));
    let output = bench.run(&["inspect", &path, "--color", "never"], "");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        !text.contains('\u{1b}') && text.contains("\\u{1b}[31mice"),
        "{text}"
    );
    let shown = json(&bench.run(&["inspect", &path, "--json"], ""));
    assert_eq!(
        (&shown["count"], &shown["misplaced"]),
        (&2.into(), &1.into())
    );
}

/// KE-4: a private key is named as such, and nothing of it is printed.
#[test]
fn inspect_shows_only_the_public_side_of_a_private_key() {
    let bench = Bench::new();
    let alice = Party::named("alice");
    for text in [alice.key.to_pkcs8_pem(), alice.key.to_nkey_seed()] {
        let path = bench.write("key", text.as_bytes());
        for form in ["--json", "--quiet"] {
            let output = bench.run(&["inspect", &path, form], "");
            assert_eq!(code(&output), 0);
            let said = stdout(&output) + &stderr(&output);
            assert!(said.contains(&alice.key.public().to_nkey()) && said.contains("rivate"));
            let secret = text.lines().find(|line| !line.starts_with('-')).unwrap();
            assert!(!said.contains(secret));
            assert!(!said.contains(&HEXLOWER.encode(&alice.seed)));
        }
        let broken = text.replace('A', "B");
        let path = bench.write("key", &broken);
        let output = bench.run(&["inspect", &path], "");
        assert_ne!(code(&output), 0);
        assert!(
            !stderr(&output).contains(&broken[30..50]),
            "an error repeats no secret"
        );
    }
}

/// What was widened is refused, and shown all the same.
#[test]
fn inspect_shows_the_links_of_a_chain_that_is_none() {
    let bench = Bench::new();
    let widened = bench
        .chain(&["carol", "alice"])
        .edit(0, |link| link.scope = scope(&[(PUB, "notes.>")]));
    let path = bench.write("object", Letter::publish(&widened, SUBJ).frame());
    let output = bench.run(&["inspect", &path], "");
    let text = stdout(&output);
    assert_eq!(code(&output), 11, "{text}");
    assert!(
        text.contains("ScopeExceeded 1502") && text.contains("→ link 1  alice"),
        "{text}"
    );
}

#[test]
fn why_explains_every_class_and_code() {
    let bench = Bench::new();
    let all = stdout(&bench.run(&["why", "--json"], ""));
    assert_eq!(all.lines().count(), Class::ALL.len());
    for class in Class::ALL {
        let by_name = bench.run(&["why", class.name(), "--json"], "");
        let shown = json(&by_name);
        assert_eq!(shown["class"], class.name());
        let reasons = shown["reasons"].as_array().unwrap();
        assert_eq!(reasons.len(), class.reasons().len());
        for (number, text) in class.reasons() {
            let code = (class as u16 * 100 + number).to_string();
            let shown = json(&bench.run(&["why", &code, "--json"], ""));
            assert_eq!(shown["reasons"][0]["reason"], *text, "{code}");
        }
    }
    for asked in ["15", "scope-exceeded", "SCOPEEXCEEDED"] {
        assert!(stdout(&bench.run(&["why", asked], "")).contains("1502"));
    }
    let unknown = bench.run(&["why", "scope-exeeded"], "");
    assert_eq!(code(&unknown), 2);
    assert!(stderr(&unknown).contains("ScopeExceeded"));
}

#[test]
fn every_help_ends_with_two_examples() {
    for command in ["verify", "inspect", "why"] {
        let output = Command::new(env!("CARGO_BIN_EXE_trustmesh"))
            .args([command, "--help"])
            .output()
            .unwrap();
        let text = stdout(&output);
        let examples = text
            .split_once("Examples:\n")
            .expect("there are examples")
            .1;
        let own = format!("  trustmesh {command} ");
        assert_eq!(examples.trim_end().lines().count(), 2, "{text}");
        assert!(
            examples.lines().all(|line| line.starts_with(&own)),
            "{text}"
        );
    }
}
