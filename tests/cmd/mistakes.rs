//! Ten typical mistakes. What is printed has to be all that is needed to understand each: what was
//! asked, what was held, which link failed, what to do next.

use std::collections::HashMap;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use trustmesh::client::clock::Clock as _;
use trustmesh::client::clock::ManualClock;
use trustmesh::client::clock::SystemClock;
use trustmesh::proto::envelope::EnvelopeDraft;
use trustmesh::proto::replay::MessageId;
use trustmesh::proto::scope::Action;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::time::Timestamp;
use trustmesh::services::authority::Authority;

use crate::conversation::play_file;
use crate::place::Place;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A development mesh made at another time, with alice in it.
fn mesh_made_at(when: Timestamp, place: &Place) {
    let clock = Arc::new(ManualClock::at(when));
    let mut mesh = Authority::dev_with_clock("trustmesh", clock).unwrap();
    let alice = mesh.agent("alice", ["pub+req+delegate:demo.>"]).unwrap();
    mesh.save(place.join("trustmesh")).unwrap();
    mesh.save_agent(place.join("trustmesh"), &alice).unwrap();
}

fn days_ago(days: u32) -> Timestamp {
    now().minus(millis(DAY * days))
}

fn now() -> Timestamp {
    SystemClock::new().now().unwrap()
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap()
}

/// Another agent's key in the directory.
#[test]
fn wrong_key() {
    play_file("mistakes/wrong-key.md", Place::new());
}

/// A grant that was not renewed.
#[test]
fn expired_grant() {
    let place = Place::new();
    mesh_made_at(days_ago(2), &place);
    play_file("mistakes/expired-grant.md", place);
}

/// More is handed on than was held: in subjects, in time, in depth.
#[test]
fn too_wide_a_scope() {
    play_file("mistakes/too-wide-a-scope.md", Place::new());
}

/// A subject nobody was granted.
#[test]
fn wrong_subject() {
    // It is refused before anything is sent, and yet after connecting.
    play_file("mistakes/wrong-subject.md", Place::new());
}

/// A machine that lives before its mesh was made.
#[test]
fn clock_off() {
    let place = Place::new();
    mesh_made_at(now().plus(millis(DAY * 2)), &place);
    play_file("mistakes/clock-off.md", place);
}

/// Another machine whose clock is ahead, as its receivers see it.
#[test]
fn message_from_the_future() {
    let place = Place::new();
    let home = place.join("trustmesh");
    let mut mesh = Authority::dev("trustmesh").unwrap();
    let alice = mesh.agent("alice", ["pub:demo.>"]).unwrap();
    let bob = mesh.agent("bob", ["sub:demo.>"]).unwrap();
    mesh.save(&home).unwrap();
    mesh.save_agent(&home, &bob).unwrap();
    let credential = alice.credential(alice.grant().clone(), now()).unwrap();
    let subject = Subject::parse("demo.hello").unwrap();
    let hence = now().plus(3_600_000);
    let draft = EnvelopeDraft::new(MessageId([7; 16]), hence, Action::Publish, subject);
    let envelope = draft.sign(&credential).unwrap();
    std::fs::write(place.join("ahead.tmsh"), envelope.into_bytes()).unwrap();
    play_file("mistakes/message-from-the-future.md", place);
}

/// A key file everybody may read.
#[test]
fn key_file_readable_by_others() {
    play_file("mistakes/key-file-readable-by-others.md", Place::new());
}

/// No server where one was expected.
#[test]
fn no_server() {
    // Nothing listens on the first of the reserved ports.
    let place = Place::new().with("NATS_URL", "127.0.0.1:1");
    play_file("mistakes/no-server.md", place);
}

/// A server from before what we need.
#[test]
fn old_server() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || pretend_to_be_old(stream));
        }
    });
    let place = Place::new().with("NATS_URL", address);
    play_file("mistakes/old-server.md", place);
}

/// Just enough of a server: it greets, answers pings, and has no JetStream.
fn pretend_to_be_old(mut stream: TcpStream) {
    let info =
        r#"{"server_id":"old","version":"2.9.10","proto":1,"headers":true,"max_payload":1048576}"#;
    write!(stream, "INFO {info}\r\n").unwrap();
    let mut subscriptions = HashMap::new();
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let Ok(line) = line else { break };
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let answered = match &words[..] {
            [word] if word == "PING" => write!(stream, "PONG\r\n"),
            [word, subject, id] if word == "SUB" => {
                subscriptions.insert(subject.clone(), id.clone());
                Ok(())
            }
            [word, subject, reply, _] if word == "PUB" && subject.starts_with("$JS.API.") => {
                let id = &subscriptions[reply];
                write!(stream, "MSG {reply} {id} 12\r\n{{\"error\":{{}}}}\r\n")
            }
            _ => Ok(()),
        };
        if answered.is_err() {
            break;
        }
    }
}

/// Trust files that were not copied along.
#[test]
fn missing_trust_root() {
    play_file("mistakes/missing-trust-root.md", Place::new());
}

/// Wildcards where there may be none, words that are none.
#[test]
fn typo_in_a_pattern() {
    play_file("mistakes/typo-in-a-pattern.md", Place::new());
}
