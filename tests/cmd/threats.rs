//! The threat catalogue's groups CL (command line and key files) and OB (what is shown to whom),
//! against the real binary. What needs no binary is tested beside the code: see `keyfile`,
//! `client::home`, and `client_observability` among the integration tests.

use std::collections::BTreeSet;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use data_encoding::BASE64;
use data_encoding::HEXLOWER;
use futures::executor::block_on;
use trustmesh::client::home::Home;
use trustmesh::keyfile;
use trustmesh::proto::audit::AuditEvent;
use trustmesh::proto::audit::RecordChain;
use trustmesh::proto::identity::SigningKey;
use trustmesh::services::authority::Authority;

use crate::forge;
use crate::forge::letter;
use crate::forge::value;
use crate::listening::Listening;
use crate::listening::PATIENCE;
use crate::nats::NatsServer;
use crate::place::Place;
use crate::place::text;

/// A place with a development mesh and a server.
fn with_server(server: &NatsServer) -> Place {
    let place = Place::new().with("NATS_URL", server.url());
    place.expect(0, &["init", "--dev"]);
    place
}

/// Every way the private key in this file could be written.
fn forms_of_key(path: &Path) -> Vec<String> {
    let pem = fs::read_to_string(path).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with("--")).collect();
    let der = BASE64.decode(body.as_bytes()).unwrap();
    let seed = &der[der.len() - 32..];
    let key = keyfile::load(path).unwrap();
    assert_eq!(
        SigningKey::from_seed(seed.try_into().unwrap())
            .unwrap()
            .public(),
        key.public()
    );
    vec![
        body,
        HEXLOWER.encode(seed),
        BASE64.encode(seed),
        key.to_nkey_seed().to_string(),
        format!("{seed:?}").trim_matches(['[', ']']).to_owned(),
    ]
}

fn files_below(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn holds(text: &[u8], needle: &str) -> bool {
    text.windows(needle.len())
        .any(|window| window == needle.as_bytes())
}

/// CL-1: whatever the umask, every command that writes a private key writes it for its owner.
#[cfg(unix)]
#[test]
fn private_keys_are_private_under_any_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let script = "umask 000
        trustmesh init shop -q && trustmesh agent add planner -q --allow 'pub:a'
        trustmesh key new new.pem && trustmesh key new new.pem --force
        trustmesh key export new.pem --private copy.pem
        trustmesh key export new.pem --private nkey.pem --format nkey
        trustmesh key import nkey.pem imported.pem";
    let output = place.program("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut files = Vec::new();
    files_below(place.path(), &mut files);
    files.retain(|path| path.extension().is_some_and(|e| e == "pem"));
    assert!(files.len() > 8, "{files:?}");
    for path in files {
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}

/// CL-2: what everybody on a machine can see of a running command holds no secret.
#[cfg(target_os = "linux")]
#[test]
fn no_secret_is_in_arguments_or_environment() {
    let server = block_on(NatsServer::start());
    let place = with_server(&server);
    let mut sub = Listening::start(place.trustmesh(&["sub", "demo.>", "--agent", "bob"]));
    sub.until("listening");
    let process = format!("/proc/{}", sub.child.id());
    for file in ["cmdline", "environ", "comm"] {
        let shown = fs::read(format!("{process}/{file}")).unwrap();
        assert!(!shown.is_empty(), "{file}");
        for secret in forms_of_key(&place.join("trustmesh/agents/bob/key.pem")) {
            assert!(!holds(&shown, &secret), "{file}");
        }
    }
    assert_eq!(sub.end().0, Some(0));
}

/// CL-2: no flag takes a secret, so none can be in a shell's history either.
#[test]
fn no_flag_takes_a_secret() {
    let mut flags = BTreeSet::new();
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cmd/help")).unwrap() {
        let help = fs::read_to_string(entry.unwrap().path()).unwrap();
        let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        flags.extend(words.filter(|w| w.starts_with("--")).map(str::to_owned));
    }
    assert!(flags.len() > 30, "{flags:?}");
    // A switch, without a value: which kind of login, never the login.
    assert!(flags.remove("--nkeys"));
    for word in [
        "pass", "secret", "seed", "token", "cred", "user", "auth", "nkey",
    ] {
        // The one names a file to read, the other is a switch.
        let harmless = |flag: &&String| matches!(flag.as_str(), "--token-file" | "--nkeys");
        let found = flags.iter().filter(|flag| flag.contains(word));
        let found: Vec<_> = found.filter(|flag| !harmless(flag)).collect();
        assert!(found.is_empty(), "{found:?}");
    }
    // The one that speaks of a private key names a file to write.
    let place = Place::new();
    let (help, _) = place.expect(0, &["key", "export", "--help"]);
    assert!(help.contains("--private <FILE>"), "{help}");
}

/// CL-2: a private key that was pasted where a public one belongs is not repeated.
#[test]
fn a_pasted_private_key_is_not_repeated() {
    let place = Place::new();
    place.expect(0, &["key", "new", "key.pem"]);
    let nkey = [
        "key",
        "export",
        "key.pem",
        "--format",
        "nkey",
        "--private",
        "key.nk",
    ];
    place.expect(0, &nkey);
    for file in ["key.pem", "key.nk"] {
        let secret = place.read(file);
        let secret = secret.trim();
        for command in [
            vec!["key", "show", secret],
            vec!["key", "show", "--json", secret],
        ] {
            let (out, err) = place.expect(2, &command);
            assert!(err.contains("private key"), "{err}");
            let line = secret.lines().nth(1).unwrap_or(secret);
            assert!(!out.contains(line) && !err.contains(line), "{err}");
        }
    }
}

/// CL-3: whenever `key new --force` is killed, the file holds the old key or the new one, whole.
#[cfg(unix)]
#[test]
fn a_killed_command_leaves_a_whole_key() {
    let place = Place::new();
    let path = place.join("key.pem");
    place.expect(0, &["key", "new", "key.pem"]);
    // The moments differ from run to run, and their choice does not.
    let mut dice = 0x5eed_u64;
    for round in 0..200 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let patience = dice >> 52;
        let mut command = place.trustmesh(&["key", "new", "key.pem", "--force"]);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let mut looked = 0;
        // Half of the rounds wait for the file that replaces it, the others look a while.
        while child.try_wait().unwrap().is_none() {
            let entries = fs::read_dir(place.path()).unwrap().count();
            looked += 1;
            if round % 2 == 0 && entries > 1 || round % 2 == 1 && looked > patience {
                break;
            }
        }
        let _ = child.kill();
        child.wait().unwrap();
        keyfile::load(&path).unwrap_or_else(|why| panic!("round {round}: {why}"));
        for entry in fs::read_dir(place.path()).unwrap() {
            // What a killed command was about to rename stays, and stays private.
            let other = entry.unwrap().path();
            if other != path {
                fs::remove_file(other).unwrap();
            }
        }
    }
}

/// CL-3, interop: key files are those of OpenSSL and of Python's `cryptography`, where these are.
#[test]
fn key_files_are_read_by_other_tools() {
    let place = Place::new();
    place.expect(0, &["key", "new", "key.pem"]);
    let (public, _) = place.expect(0, &["key", "export", "key.pem"]);
    let (hex, _) = place.expect(0, &["key", "export", "key.pem", "--format", "hex"]);
    if let Ok(output) = place
        .program("openssl")
        .args(["pkey", "-in", "key.pem", "-pubout"])
        .output()
    {
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout).trim(), public.trim());
        let made = "openssl genpkey -algorithm ed25519 | trustmesh key import - other.pem";
        let status = place.program("sh").args(["-c", made]).status().unwrap();
        assert!(status.success());
        assert!(keyfile::load(&place.join("other.pem")).is_ok());
    }
    let script = "
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
key = load_pem_private_key(open('key.pem', 'rb').read(), None)
print(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex())";
    if let Ok(output) = place.program("python3").args(["-c", script]).output() {
        let missing = text(&output.stderr).contains("ModuleNotFoundError");
        assert!(
            missing || output.status.success(),
            "{}",
            text(&output.stderr)
        );
        assert!(missing || text(&output.stdout) == hex);
    }
}

/// CL-4: every bad key file is refused with its reason, by whatever reads it; nothing of it is shown.
#[cfg(unix)]
#[test]
fn bad_key_files_are_refused_and_not_shown() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::fs::symlink;
    const CANARY: &str = "canary-in-a-key-file";
    let place = Place::with_dev_mesh();
    let key = place.join("trustmesh/agents/alice/key.pem");
    let good = fs::read_to_string(&key).unwrap();
    let aside = place.join("aside.pem");
    fs::rename(&key, &aside).unwrap();
    let secrets = forms_of_key(&aside);
    let write = |content: &str| {
        fs::write(&key, content).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let huge = || {
        write("");
        let file = fs::OpenOptions::new().write(true).open(&key).unwrap();
        file.set_len(1 << 30).unwrap();
    };
    let pipe = || {
        let status = Command::new("mkfifo").arg("-m600").arg(&key).status();
        assert!(status.unwrap().success());
    };
    let cases: [(&str, &dyn Fn()); 9] = [
        ("is empty", &|| write("")),
        ("holds no usable private key", &|| {
            write(&good[..good.len() / 2])
        }),
        ("holds no usable private key", &|| write(CANARY)),
        ("holds no usable private key", &|| {
            write(&good.replace("PRIVATE", "OTHER"))
        }),
        ("is larger than any key file", &huge),
        ("is not a regular file", &|| fs::create_dir(&key).unwrap()),
        ("is not a regular file", &pipe),
        ("is a symbolic link", &|| symlink(&aside, &key).unwrap()),
        ("does not exist", &|| {}),
    ];
    let show = key.to_str().unwrap().to_owned();
    for (reason, make) in cases {
        make();
        for command in [
            vec!["key", "show", &show],
            vec!["key", "export", &show],
            vec!["key", "export", &show, "--private", "out.pem"],
            vec!["key", "import", &show, "out.pem"],
            vec!["pub", "demo.a", "x", "--agent", "alice"],
            vec!["can-i", "pub", "demo.a", "--agent", "alice"],
            vec!["check", "--offline", "--agent", "alice"],
        ] {
            let output = place.run(&command);
            let code = output.status.code();
            let said = text(&output.stdout) + &text(&output.stderr);
            // A name of no file may be a key as text: that is a slip of another kind.
            let usage =
                reason == "does not exist" && matches!(command[..2], ["key", "show" | "export"]);
            assert!(
                code == Some(4) || usage && code == Some(2),
                "{command:?}: {code:?} {said}"
            );
            assert!(
                usage
                    || said.contains(reason)
                    || said.contains("cannot open")
                    || said.contains("holds no private key"),
                "{command:?}: {said}"
            );
            assert!(!said.contains(CANARY), "{command:?}: {said}");
            assert!(!said.contains("panicked"), "{command:?}: {said}");
            for secret in &secrets {
                assert!(!said.contains(&secret[..20]), "{command:?}: {said}");
            }
            assert!(!place.join("out.pem").exists(), "{command:?}");
        }
        if key.is_dir() {
            fs::remove_dir(&key).unwrap();
        } else if key.symlink_metadata().is_ok() {
            fs::remove_file(&key).unwrap();
        }
    }
}

/// CL-5: no command writes over a file, unless it is told to replace a key.
#[test]
fn nothing_is_written_over() {
    let place = Place::with_dev_mesh();
    place.expect(0, &["key", "new", "key.pem"]);
    fs::write(place.join("there"), "mine").unwrap();
    let attenuate = [
        "token",
        "attenuate",
        "bob",
        "--agent",
        "alice",
        "--allow",
        "pub:demo.a",
    ];
    let attenuate = [&attenuate[..], &["--out", "there"]].concat();
    for (code, command) in [
        (4, &["key", "new", "there"][..]),
        (4, &["key", "import", "key.pem", "there"]),
        (4, &["key", "export", "key.pem", "--private", "there"]),
        (
            4,
            &[
                "key",
                "export",
                "key.pem",
                "--private",
                "there",
                "--format",
                "nkey",
            ],
        ),
        (2, &["token", "issue", "alice", "--out", "there"]),
        (2, &attenuate),
        (2, &["init", "--dev"]),
        (2, &["init", "trustmesh"]),
        (2, &["agent", "add", "alice", "--allow", "pub:a"]),
    ] {
        place.expect(code, command);
        assert_eq!(place.read("there"), "mine", "{command:?}");
    }
    let before = place.read("key.pem");
    place.expect(0, &["key", "new", "key.pem", "--force"]);
    assert_ne!(place.read("key.pem"), before);
}

/// A private key in PKCS#8 version 2, which has its public key beside it.
fn pkcs8_v2(seed: [u8; 32], public: [u8; 32]) -> String {
    let head = HEXLOWER
        .decode(b"3051020101300506032b657004220420")
        .unwrap();
    let der = [&head[..], &seed, &[0x81, 0x21, 0x00], &public].concat();
    let body = BASE64.encode(&der);
    format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
}

/// CL-6, CL-10: a seed beside another's public key is refused, and so is a seed of zeros.
#[test]
fn mismatched_and_all_zero_keys_are_not_imported() {
    let place = Place::new();
    let public = |seed| {
        SigningKey::from_seed(&[seed; 32])
            .unwrap()
            .public()
            .bytes()
            .0
    };
    let zero_nkey = data_encoding::BASE32_NOPAD.encode(&with_checksum(
        &[vec![18 << 3 | 5, 0], vec![0; 32]].concat(),
    ));
    for (name, content) in [
        ("mismatched", pkcs8_v2([7; 32], public(8))),
        ("zero", pkcs8_v2([0; 32], public(8))),
        ("zero-v1", {
            let head = HEXLOWER
                .decode(b"302e020100300506032b657004220420")
                .unwrap();
            let body = BASE64.encode(&[&head[..], &[0; 32]].concat());
            format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
        }),
        ("zero-nkey", zero_nkey),
    ] {
        let file = place.join(name);
        fs::write(&file, &content).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let (_, err) = place.expect(4, &["key", "import", name, "out.pem"]);
        assert!(!place.join("out.pem").exists(), "{name}");
        assert!(
            !err.contains(content.lines().nth(1).unwrap_or(&content)),
            "{err}"
        );
        place.expect(4, &["key", "show", name]);
    }
    let seed = SigningKey::from_seed(&[7; 32]).unwrap();
    assert_eq!(
        seed.to_nkey_seed().len(),
        58,
        "the nkey above has the form of one"
    );
}

/// An nkey's two bytes of CRC-16/XMODEM.
fn with_checksum(bytes: &[u8]) -> Vec<u8> {
    let mut crc = 0_u16;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                crc << 1 ^ 0x1021
            };
        }
    }
    [bytes, &crc.to_le_bytes()].concat()
}

/// CL-7: a reader of the audit that saw records missing, or contradicting one another, never ends
/// as if all were well. What `verify` says of files that hold no record belongs to that command.
#[test]
fn missing_and_contradicting_records_decide_the_exit_code() {
    let server = block_on(NatsServer::start());
    let place = Place::new().with("NATS_URL", server.url());
    let emitter = forge::Party::named("bob");
    let mut mesh = Authority::dev("trustmesh").unwrap();
    let certificate = mesh.enrol(&emitter.id(), &emitter.key).unwrap();
    assert!(!certificate.is_empty());
    let auditor = mesh.agent("auditor", ["sub:trustmesh.audit.*"]).unwrap();
    let home = place.join("trustmesh");
    mesh.save(&home).unwrap();
    mesh.save_agent(&home, &auditor).unwrap();
    let trust = Home::open(&home)
        .unwrap()
        .danger_allow_dev()
        .trust()
        .unwrap();
    let trust = trust.current();
    let certificate = trust.certificates_of(&emitter.id())[0].id();

    let any = forge::ChainSpec::down(&forge::Mesh::new(), &["alice"]);
    let batch = |lines: &[&String]| {
        let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let mut letter = forge::Letter::publish(&any, "trustmesh.audit.bob")
            .set(letter::MESH, value::bin(trust.mesh().0))
            .set(letter::ISSUED, forge::Value::Uint(now.as_millis() as u64))
            .set(letter::LEAF, value::bin(certificate.0))
            .set(letter::PAYLOAD_TYPE, value::text("trustmesh/audit"))
            .payload(lines);
        letter.signer = emitter.clone();
        letter.chain = vec![0x90];
        letter.frame()
    };
    let history = |word: &str, run| {
        let mut chain = RecordChain::new(emitter.id(), run);
        let mut next = |number| {
            let text = format!("{word} {number}");
            let event = AuditEvent::Notice {
                topic: "test".to_owned(),
                text,
            };
            chain
                .append(
                    trustmesh::proto::time::Timestamp::from_millis(number),
                    event,
                )
                .1
        };
        [next(0), next(1), next(2), next(3)]
    };
    let (one, other) = (history("one", [1; 8]), history("other", [1; 8]));
    let second_run = history("one", [2; 8]);
    for (name, batches, code, words) in [
        (
            "whole",
            vec![vec![&one[0], &one[1]], vec![&one[2], &one[3]]],
            0,
            vec!["#3 notice"],
        ),
        (
            "twice",
            vec![vec![&one[0]], vec![&one[0]], vec![&one[1]]],
            0,
            vec!["bob #0 came twice", "#1"],
        ),
        (
            "gap",
            vec![vec![&one[0]], vec![&one[3]]],
            21,
            vec!["bob #1 up to #3 are missing", "#3"],
        ),
        (
            "fork",
            vec![vec![&one[0]], vec![&other[1]]],
            20,
            vec!["bob #1 does not follow", "#1"],
        ),
        (
            "fork and gap",
            vec![
                vec![&one[0]],
                vec![&other[1]],
                vec![&second_run[0]],
                vec![&second_run[3]],
            ],
            20,
            vec![
                "bob #1 does not follow",
                "bob #1 up to #3 are missing",
                "#3",
            ],
        ),
    ] {
        let tail = [
            "audit",
            "tail",
            "--agent",
            "auditor",
            "--dev",
            "--emitter",
            "bob",
        ];
        let mut tail = Listening::start(place.trustmesh(&tail));
        tail.until("reading the audit");
        for (number, lines) in batches.iter().enumerate() {
            let file = format!("{name}-{number}");
            fs::write(place.join(&file), batch(lines)).unwrap();
            place.expect(
                0,
                &["pub", "trustmesh.audit.bob", "--frame", &file, "--dev"],
            );
        }
        for word in words {
            tail.until(word);
        }
        let (ended, said) = tail.end();
        assert_eq!(ended, Some(code), "{name}: {said}");
    }
    // Somebody else's word about bob is none.
    let mut stranger = forge::Letter::publish(&any, "trustmesh.audit.bob");
    stranger.signer = forge::Party::named("mallory");
    fs::write(place.join("stranger"), stranger.frame()).unwrap();
    let tail = ["audit", "tail", "--agent", "auditor", "--dev"];
    let mut tail = Listening::start(place.trustmesh(&tail));
    tail.until("reading the audit");
    place.expect(
        0,
        &["pub", "trustmesh.audit.bob", "--frame", "stranger", "--dev"],
    );
    tail.until("somebody sent what is no audit");
    assert_eq!(tail.end().0, Some(0));
    // Nothing at all is not what was asked for.
    let nothing = [
        "audit",
        "tail",
        "--agent",
        "auditor",
        "--dev",
        "--emitter",
        "nobody",
    ];
    let nothing = [&nothing[..], &["--count", "1", "--timeout", "10ms"]].concat();
    place.expect(3, &nothing);
}

/// CL-8: what is no agent id becomes no path, whichever command takes it.
#[test]
fn what_is_no_agent_id_is_refused_by_every_command() {
    let place = Place::with_dev_mesh();
    let mut before = Vec::new();
    files_below(place.path(), &mut before);
    for id in [
        "../x",
        "..",
        "/etc",
        "a/../b",
        "Planner",
        "team~worker",
        "a\nb",
        "a%2e",
    ] {
        for command in [
            vec!["agent", "add", id, "--allow", "pub:a"],
            vec!["agent", "show", id],
            vec!["token", "issue", id, "--allow", "pub:a"],
            vec![
                "token",
                "attenuate",
                id,
                "--agent",
                "alice",
                "--allow",
                "pub:demo.a",
            ],
            vec![
                "token",
                "attenuate",
                "bob",
                "--agent",
                id,
                "--allow",
                "pub:demo.a",
            ],
            vec!["revoke", id],
            vec!["revoke", "--dry-run", &format!("agent:{id}")],
            vec!["can-i", "pub", "demo.a", "--agent", id],
            vec!["pub", "demo.a", "x", "--agent", id],
            vec!["sub", "demo.a", "--agent", id],
            vec!["request", "demo.a", "x", "--agent", id],
            vec!["reply", "demo.a", "x", "--agent", id],
            vec!["audit", "tail", "--agent", id],
            vec!["check", "--offline", "--agent", id],
        ] {
            let (out, err) = place.expect(2, &command);
            let said = out + &err;
            assert!(said.contains("names no agent"), "{command:?}: {said}");
        }
    }
    let mut after = Vec::new();
    files_below(place.path(), &mut after);
    after.retain(|path| !before.contains(path));
    assert!(after.is_empty(), "{after:?}");
    assert!(!place.path().parent().unwrap().join("x").exists());
}

/// CL-9: whoever trusts a development mesh is warned, by init and by every connection, and the
/// audit says it; without the switch, or the context that init made, it is refused. Payloads in
/// plain text over a network are warned of as well.
#[test]
fn what_weakens_a_guarantee_is_said_loudly() {
    let server = block_on(NatsServer::start());
    let place = Place::new().with("NATS_URL", server.url());
    let (_, err) = place.expect(0, &["init", "--dev"]);
    assert!(
        err.contains("warning: all keys of a development mesh lie together"),
        "{err}"
    );
    let mut tail = Listening::start(place.trustmesh(&["audit", "tail", "--agent", "auditor"]));
    tail.until("warning: trusting the development mesh");
    tail.until("reading the audit");
    let (_, err) = place.expect(0, &["pub", "demo.a", "x", "--agent", "alice"]);
    assert!(
        err.contains("warning: trusting the development mesh"),
        "{err}"
    );
    tail.until("alice #0 notice   dev-mesh: development mesh");
    assert_eq!(tail.end().0, Some(0));

    // The same server under a name that is not this machine's own.
    let far = format!("nats://0.0.0.0:{}", server.port());
    if cfg!(target_os = "linux") {
        let far = ["pub", "demo.a", "x", "--agent", "alice", "--server", &far];
        let (_, err) = place.expect(0, &far);
        assert!(
            err.contains("warning: payloads leave this machine in plain text"),
            "{err}"
        );
    }

    fs::remove_dir_all(place.join(".config")).unwrap();
    for command in [
        &["pub", "demo.a", "x", "--agent", "alice"][..],
        &["check", "--offline", "--agent", "alice"],
        &["agent", "list"],
    ] {
        let (out, err) = place.expect(15, command);
        assert!((out + &err).contains("a development mesh outside development mode"));
    }
}

/// OB-1: at the most talkative setting, payloads and keys reach no log, no state and no audit.
/// Standard output has the payload, since to print it is what `sub` is for.
#[test]
fn payloads_and_keys_are_in_no_log_and_no_state() {
    const CANARY: &str = "canary-in-a-payload";
    let server = block_on(NatsServer::start());
    let place = with_server(&server).with("TRUSTMESH_LOG", "trace");
    let quiet = |command: &[&str]| {
        let mut command = place.trustmesh(command);
        let log = place.join(format!(
            "{}.log",
            command.get_args().next().unwrap().display()
        ));
        let log = fs::File::create(log).unwrap();
        command.stderr(log);
        command
    };
    let start = |command: &[&str]| {
        let mut command = quiet(command);
        let (reader, writer) = std::io::pipe().unwrap();
        let child = command.stdout(writer).spawn().unwrap();
        drop(command);
        (child, BufReader::new(reader).lines())
    };
    let ready = |log: &str, word: &str| {
        while !holds(&fs::read(place.join(log)).unwrap(), word) {
            std::thread::yield_now();
        }
    };
    let (mut sub, mut printed) = start(&["sub", "demo.a", "--agent", "bob", "--save", "seen"]);
    ready("sub.log", "listening on");
    let (mut reply, _answers) = start(&["reply", "demo.b", CANARY, "--agent", "bob"]);
    ready("reply.log", "answering on");
    let header = format!("Secret:{CANARY}");
    let mut outputs = Vec::new();
    for command in [
        &[
            "pub", "demo.a", CANARY, "--agent", "alice", "--header", &header,
        ][..],
        &["request", "demo.b", CANARY, "--agent", "alice"],
        &["pub", "demo.a", CANARY, "--agent", "alice", "--ttl", "1h"],
        &["pub", "other.a", CANARY, "--agent", "alice"],
    ] {
        outputs.push(place.run(command));
    }
    let shown = printed.next().unwrap().unwrap();
    assert!(shown.contains(CANARY), "{shown}");
    for (process, code) in [(&mut sub, 0), (&mut reply, 0)] {
        let id = process.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", "TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        let _rest = printed.by_ref().map_while(Result::ok).count();
        assert_eq!(process.wait().unwrap().code(), Some(code));
    }
    let mut secrets = Vec::new();
    for agent in ["alice", "bob"] {
        secrets.extend(forms_of_key(
            &place.join(format!("trustmesh/agents/{agent}/key.pem")),
        ));
    }
    let mut logs = 0;
    let mut files = Vec::new();
    files_below(place.path(), &mut files);
    for path in files {
        let content = fs::read(&path).unwrap();
        let (key, frame) = (
            path.ends_with("key.pem"),
            path.starts_with(place.join("seen")),
        );
        logs +=
            usize::from(path.extension().is_some_and(|e| e == "log") && holds(&content, "DEBUG"));
        assert!(frame || !holds(&content, CANARY), "{}", path.display());
        for secret in &secrets {
            assert!(key || !holds(&content, secret), "{}", path.display());
        }
    }
    assert_eq!(logs, 2, "both were listened to");
    for output in outputs {
        let log = text(&output.stderr);
        assert!(log.contains("DEBUG") && !log.contains(CANARY), "{log}");
        for secret in &secrets {
            assert!(!log.contains(secret) && !holds(&output.stdout, secret));
        }
    }
}

/// OB-2: who asks and is not known here, is revoked, or is of another mesh, sees the same to the
/// byte: that no answer came. A bad signature is no different, and no command can make one: see
/// `an_unauthenticated_requester_is_told_nothing` among the integration tests.
#[test]
fn a_refused_requester_sees_nothing_of_the_reason() {
    let server = block_on(NatsServer::start());
    let place = with_server(&server);
    // What alice's directory says of her, and carol's of her, is not, or not yet, what bob's says.
    for home in ["alice", "carol"] {
        let copy = place.program("cp").args(["-r", "trustmesh", home]).status();
        assert!(copy.unwrap().success());
    }
    let enrol = [
        "agent",
        "add",
        "carol",
        "--allow",
        "req:demo.>",
        "--home",
        "carol",
        "--dev",
    ];
    place.expect(0, &enrol);
    place.expect(0, &["revoke", "alice"]);
    let stranger = [
        "init",
        "stranger",
        "--dev",
        "--no-context",
        "--name",
        "trustmesh",
    ];
    place.expect(0, &stranger);
    let mut reply =
        Listening::start(place.trustmesh(&["reply", "demo.>", "yes", "--agent", "bob"]));
    reply.until("answering on");
    let mut seen = BTreeSet::new();
    for (home, agent, class) in [
        ("alice", "alice", "Revoked"),
        ("carol", "carol", "UnknownAgent"),
        ("stranger", "alice", "UntrustedRoot"),
    ] {
        let request = [
            "request", "demo.a", "x", "--agent", agent, "--home", home, "--dev",
        ];
        let request = [&request[..], &["--timeout", "200ms", "-q"]].concat();
        seen.insert(place.expect(3, &request));
        reply.until(class);
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    let (out, err) = seen.first().unwrap();
    assert!(out.is_empty(), "{out}");
    for word in ["evoked", "ntrusted", "nknown", "ignature", "alice", "carol"] {
        assert!(!err.contains(word), "{err}");
    }
    assert_eq!(reply.end().0, Some(0));
}

/// OB-3: an address with a password is not used, nor shown; the environment's variables work.
#[test]
fn a_password_in_the_address_is_refused_and_never_shown() {
    const PASSWORD: &str = "canary-of-a-password";
    let config = format!("authorization {{ user: me, password: \"{PASSWORD}\" }}");
    let server = block_on(NatsServer::start_with(&config));
    let address = format!("nats://me:{PASSWORD}@127.0.0.1:{}", server.port());
    let place = Place::with_dev_mesh().with("TRUSTMESH_LOG", "trace");
    let commands = [
        &["pub", "demo.a", "x", "--agent", "alice"][..],
        &["pub", "demo.a", "--frame", ".config/contexts.toml"],
        &["sub", "demo.a", "--agent", "bob"],
        &["request", "demo.a", "x", "--agent", "alice"],
        &["reply", "demo.a", "x", "--agent", "bob"],
        &["audit", "tail", "--agent", "auditor"],
        &["check", "--agent", "alice"],
        &["check", "--agent", "alice", "--json"],
    ];
    for command in commands {
        let flag = [command, &["--server", &address]].concat();
        let mut variable = place.trustmesh(command);
        variable.env("NATS_URL", &address);
        for output in [place.run(&flag), variable.output().unwrap()] {
            let said = text(&output.stdout) + &text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command:?}: {said}");
            assert!(said.contains("NATS_USER and NATS_PASSWORD"), "{said}");
            assert!(!said.contains(PASSWORD), "{said}");
        }
    }
    let (out, err) = place.expect(2, &["context", "use", "a", "--server", &address]);
    assert!(!out.contains(PASSWORD) && !err.contains(PASSWORD), "{err}");
    // What needs no server does not mind, and does not show it.
    let (out, err) = place.expect(0, &["agent", "list", "--server", &address]);
    assert!(!out.contains(PASSWORD) && !err.contains(PASSWORD), "{err}");

    let url = server.url();
    for (password, code) in [(PASSWORD, 0), ("wrong", 3)] {
        let mut command = place.trustmesh(&["pub", "demo.a", "x", "--agent", "alice"]);
        command.env("NATS_URL", &url).env("NATS_USER", "me");
        let output = command.env("NATS_PASSWORD", password).output().unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(!said.contains(PASSWORD), "{said}");
    }
    let mut half = place.trustmesh(&["pub", "demo.a", "x", "--agent", "alice"]);
    half.env("NATS_URL", &url).env("NATS_PASSWORD", PASSWORD);
    assert_eq!(half.status().unwrap().code(), Some(2));
}

/// OB-4: there is no metrics listener in this binary: what runs long listens on no port.
#[cfg(target_os = "linux")]
#[test]
fn a_running_command_listens_on_no_port() {
    let server = block_on(NatsServer::start());
    let place = with_server(&server);
    let mut sub = Listening::start(place.trustmesh(&["sub", "demo.>", "--agent", "bob"]));
    sub.until("listening");
    let process = format!("/proc/{}", sub.child.id());
    let mut sockets = Vec::new();
    for entry in fs::read_dir(format!("{process}/fd")).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap_or_default();
        let target = target.display().to_string();
        sockets.extend(
            target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'))
                .map(str::to_owned),
        );
    }
    let mut connections = 0;
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let table = fs::read_to_string(format!("{process}/net/{table}")).unwrap_or_default();
        for line in table.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            if sockets.iter().any(|socket| socket == fields[9]) {
                connections += 1;
                assert_eq!(fields[3], "01", "established, and nothing else: {line}");
            }
        }
    }
    assert!(connections > 0, "its connection to the server is there");
    assert_eq!(sub.end().0, Some(0));
}

/// OB-5: trace headers of a sender change no decision, and nothing in how it is recorded.
#[test]
fn a_senders_trace_headers_change_no_decision_and_no_record() {
    let server = block_on(NatsServer::start());
    let place = with_server(&server);
    let tail = [
        "audit",
        "tail",
        "--agent",
        "auditor",
        "--emitter",
        "bob",
        "--json",
    ];
    let tail = [&tail[..], &["--subject", "demo.a"]].concat();
    let mut tail = Listening::start(place.trustmesh(&tail));
    tail.until("reading the audit");
    let mut sub = Listening::start(place.trustmesh(&["sub", "demo.a", "--agent", "bob"]));
    sub.until("listening on");
    let headers = [
        "Other:value",
        "traceparent:00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        "traceparent:00-00000000000000000000000000000000-0000000000000000-00",
        "tracestate:seq=0,emitter=alice,verdict=deny",
    ];
    let mut shapes = BTreeSet::new();
    for (number, header) in (1..).zip(headers) {
        let publish = ["pub", "demo.a", "x", "--agent", "alice", "--header", header];
        place.expect(0, &publish);
        sub.until("verified demo.a from alice");
        let line = tail.until("decision");
        let record: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(record["verdict"], "allow", "{line}");
        assert_eq!(record["sender"], "alice", "{line}");
        assert_eq!(record["seq"], number, "{line}");
        let (name, value) = header.split_once(':').unwrap();
        assert!(!line.contains(name) && !line.contains(value), "{line}");
        let fields = record.as_object().unwrap().keys();
        shapes.insert(fields.cloned().collect::<Vec<_>>());
    }
    assert_eq!(shapes.len(), 1, "{shapes:?}");
    assert_eq!((sub.end().0, tail.end().0), (Some(0), Some(0)));
}

/// FR-5 across processes: of three members of a queue group, each a process of its own, one takes a
/// message, however often and to whomever it is sent.
#[test]
fn three_processes_take_a_replayed_message_once() {
    let server = block_on(NatsServer::start_jetstream());
    let place = with_server(&server);
    let mut members = Vec::new();
    for agent in ["w1", "w2", "w3"] {
        place.expect(0, &["agent", "add", agent, "--allow", "sub:demo.>"]);
        let listen = ["sub", "demo.>", "--queue", "workers", "--shared-replay"];
        let mut member =
            Listening::start(place.trustmesh(&[&listen[..], &["--agent", agent]].concat()));
        member.until("listening");
        members.push(member);
    }
    let save = ["sub", "demo.>", "--agent", "bob", "--save", "frames"];
    let mut recorder = Listening::start(place.trustmesh(&save));
    recorder.until("listening");
    place.expect(0, &["pub", "demo.a", "only-once", "--agent", "alice"]);
    recorder.until("only-once");
    let frame = place.join("frames/1.tmsh");
    let deadline = Instant::now() + PATIENCE;
    while fs::metadata(&frame).map_or(0, |file| file.len()) == 0 {
        assert!(Instant::now() < deadline, "nothing is recorded");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(recorder);
    let replays = 20;
    for _ in 0..replays {
        place.expect(0, &["pub", "demo.a", "--frame", "frames/1.tmsh", "--dev"]);
    }
    let deadline = Instant::now() + PATIENCE;
    let decided = |members: &mut [Listening]| {
        let mut decided = Vec::new();
        for member in members {
            member.seen.extend(member.lines.try_iter());
            let lines = member.seen.iter();
            let taken = lines
                .clone()
                .filter(|line| line.contains("only-once"))
                .count();
            let refused = lines.filter(|line| line.contains("Replay 120")).count();
            decided.push((taken, refused));
        }
        decided
    };
    let all = loop {
        let all = decided(&mut members);
        if all
            .iter()
            .map(|(taken, refused)| taken + refused)
            .sum::<usize>()
            > replays
        {
            break all;
        }
        assert!(Instant::now() < deadline, "{all:?}");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(
        all.iter().map(|(taken, _)| taken).sum::<usize>(),
        1,
        "{all:?}"
    );
    let others = all
        .iter()
        .filter(|(taken, refused)| *taken == 0 && *refused > 0);
    assert!(others.count() > 0, "the members were asked: {all:?}");
    for member in members {
        assert_eq!(member.end().0, Some(0));
    }
}
