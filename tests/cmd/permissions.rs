//! What `nats config` writes, given to a real nats-server: agents talk, others do not get in, and
//! each agent stays within its lines.

use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;
use std::process::Stdio;

use futures::executor::block_on;

use crate::certificates::Ca;
use crate::nats::File;
use crate::nats::NatsServer;
use crate::place::Place;
use crate::place::text;

/// A mesh whose configuration is written with these arguments.
fn configured(arguments: &[&str]) -> Place {
    let place = Place::new();
    place.expect(0, &["init", "--dev"]);
    let config = [&["nats", "config", "--quiet"], arguments].concat();
    place.expect(0, &config);
    place
}

/// The server that reads it.
fn server(place: &Place, files: Vec<File>) -> NatsServer {
    let config = place.read("trustmesh/nats.conf");
    block_on(NatsServer::start_with_files(&config, files))
}

/// Alice speaks, and bob hears it.
fn alice_talks_to_bob(alice: &Place, bob: &Place) {
    let mut listening = bob.trustmesh(&["sub", "demo.>", "--agent", "bob", "--count", "1"]);
    let listening = listening.stderr(Stdio::piped()).stdout(Stdio::piped());
    let mut listening = listening.spawn().unwrap();
    let said = BufReader::new(listening.stderr.take().unwrap()).lines();
    let mut said = said.map_while(Result::ok);
    assert!(said.any(|line| line.contains("listening")), "bob listens");
    alice.expect(0, &["pub", "demo.hello", "hi bob", "--agent", "alice"]);
    let heard = listening.wait_with_output().unwrap();
    assert!(text(&heard.stdout).contains("hi bob"), "{heard:?}");
}

/// That this agent is not let in.
fn stays_out(place: &Place, agent: &str) {
    let refused = place.run(&["pub", "demo.hello", "x", "--agent", agent]);
    assert!(!refused.status.success(), "{agent} gets in");
}

#[test]
fn agents_log_in_with_the_passwords_that_were_written_for_them() {
    let place = configured(&["--newcomers"]);
    let server = server(&place, Vec::new());
    let config = place.read("trustmesh/nats.conf");
    for file in [
        "agents/alice/nats.login",
        "agents/bob/nats.login",
        "newcomers.login",
    ] {
        let login = place.read(Path::new("trustmesh").join(file));
        let login: serde_json::Value = serde_json::from_str(&login).unwrap();
        let password = login["password"].as_str().unwrap();
        assert!(password.len() == 43 && !config.contains(password), "{file}");
    }
    let place = place.with("NATS_URL", server.url());
    alice_talks_to_bob(&place, &place);
    let (checked, _) = place.expect(0, &["check", "--agent", "alice", "--dev"]);
    assert!(checked.contains("jetstream not enabled"), "{checked}");
    fs::write(
        place.join("trustmesh/agents/alice/nats.login"),
        "{\"user\":\"alice\",\"password\":\"guessed\"}\n",
    )
    .unwrap();
    stays_out(&place, "alice");
}

#[test]
fn agents_log_in_with_client_certificates() {
    let tls = [
        "--mtls",
        "--tls-cert",
        "server.pem",
        "--tls-key",
        "server.key",
        "--tls-ca",
        "ca.pem",
    ];
    let ca = Ca::new();
    let issued = ca.server(&["127.0.0.1"]);
    let files = vec![
        ("server.pem", issued.certificate),
        ("server.key", issued.key),
        ("ca.pem", ca.pem()),
    ];
    let place = configured(&tls);
    let server = server(&place, files);
    let acts_as = |id: &str| {
        let client = ca.client(&format!("spiffe://trustmesh/agent/{id}"));
        let path = |name: &str, text: &str| {
            let path = place.join(format!("{id}.{name}"));
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        Place::new()
            .with(
                "TRUSTMESH_HOME",
                place.join("trustmesh").display().to_string(),
            )
            .with("TRUSTMESH_DEV", "1")
            .with("NATS_URL", server.url())
            .with("NATS_CA", path("ca", &ca.pem()))
            .with("NATS_CERT", path("pem", &client.certificate))
            .with("NATS_KEY", path("key", &client.key))
    };
    alice_talks_to_bob(&acts_as("alice"), &acts_as("bob"));
    stays_out(&acts_as("mallory"), "alice");
}

#[cfg(feature = "nkeys")]
#[test]
fn agents_log_in_with_connection_keys() {
    let place = configured(&["--nkeys"]);
    let server = server(&place, Vec::new());
    let place = place.with("NATS_URL", server.url());
    alice_talks_to_bob(&place, &place);
    let other = configured(&["--nkeys"]);
    let login = "trustmesh/agents/alice/nats.login";
    fs::copy(other.join(login), place.join(login)).unwrap();
    stays_out(&place, "alice");
}
