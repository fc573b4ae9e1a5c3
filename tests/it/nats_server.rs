//! What a server, or somebody in its place, says of itself is not believed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use trustmesh::ConnectOptions as ClientOptions;
use trustmesh::audit::AuditEvent;
use trustmesh::bus::Bus;
use trustmesh::bus::ConnectError;
use trustmesh::bus::ConnectErrorKind;
use trustmesh::bus::ConnectOptions;
use trustmesh::bus::Outgoing;
use trustmesh::bus::State;
use trustmesh::bus::nats::Caution;
use trustmesh::bus::nats::NatsBus;
use trustmesh::bus::nats::OldServer;
use trustmesh::proto::rejection::Class;
use trustmesh::services::authority::Authority;

use crate::support::PATIENCE;
use crate::support::certificates::Ca;
use crate::support::eventually;
use crate::support::mesh::consume;
use crate::support::nats::NatsServer;
use crate::support::next;
use crate::support::settle;
use crate::support::text;

const TLS: &str = "tls { cert_file: \"server.pem\", key_file: \"server.key\" }";

/// The server of somebody who has a certificate for these hosts.
async fn tls_server(ca: &Ca, hosts: &[&str]) -> NatsServer {
    let issued = ca.server(hosts);
    let files = vec![
        ("server.pem", issued.certificate),
        ("server.key", issued.key),
    ];
    NatsServer::start_with_files(TLS, files).await
}

/// A folder with the certificate of an issuer, and options that name it.
struct Trusting(
    PathBuf,
    #[expect(dead_code, reason = "kept for its end")] tempfile::TempDir,
);

impl Trusting {
    fn new(ca: &Ca) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, ca.pem()).unwrap();
        Self(path, folder)
    }

    fn options(&self) -> ConnectOptions {
        ConnectOptions::new().add_root_certificates(self.0.clone())
    }
}

async fn refused(url: String, options: ConnectOptions) -> ConnectError {
    let connected = tokio::time::timeout(PATIENCE, NatsBus::connect(url, options));
    connected.await.unwrap().expect_err("this is refused")
}

/// A server that says whatever it is told to, as far as a client needs one.
struct Pretender {
    port: u16,
    accepted: Arc<AtomicUsize>,
    info: watch::Sender<Option<serde_json::Value>>,
    heard: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Pretender {
    /// `None` for what it says closes every connection at once.
    async fn start(info: Option<serde_json::Value>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let pretender = Self {
            port,
            accepted: Arc::default(),
            info: watch::Sender::new(info),
            heard: Arc::default(),
        };
        let (accepted, heard) = (pretender.accepted.clone(), pretender.heard.clone());
        let said = pretender.info.subscribe();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let info = said.borrow().clone();
                accepted.fetch_add(1, Ordering::SeqCst);
                if let Some(info) = info {
                    tokio::spawn(Self::speak(stream, info, said.clone(), heard.clone()));
                }
            }
        });
        pretender
    }

    /// Speaks with one client, until something else is to be said.
    async fn speak(
        mut stream: TcpStream,
        info: serde_json::Value,
        mut said: watch::Receiver<Option<serde_json::Value>>,
        heard: Arc<std::sync::Mutex<Vec<String>>>,
    ) {
        let (read, mut write) = stream.split();
        let mut lines = BufReader::new(read).lines();
        let hello = format!("INFO {info}\r\n");
        if write.write_all(hello.as_bytes()).await.is_err() {
            return;
        }
        let another = said.wait_for(|now| now.as_ref() != Some(&info));
        tokio::pin!(another);
        loop {
            let line = tokio::select! {
                _ = &mut another => return,
                line = lines.next_line() => line,
            };
            let Ok(Some(line)) = line else { return };
            let answered = match line.split(' ').next() {
                Some("PING") => write.write_all(b"PONG\r\n").await,
                // Whoever listens is sent something at once.
                Some("SUB") => {
                    let words: Vec<&str> = line.split(' ').collect();
                    let subject = words[1].replace(['*', '>'], "x");
                    let id = words[words.len() - 1];
                    let message = format!("MSG {subject} {id} 3\r\nold\r\n");
                    write.write_all(message.as_bytes()).await
                }
                _ => Ok(()),
            };
            heard.lock().unwrap().push(line);
            if answered.is_err() {
                return;
            }
        }
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    fn heard(&self, word: &str) -> bool {
        let heard = self.heard.lock().unwrap();
        heard.iter().any(|line| line.contains(word))
    }

    /// Ends what is open, and says this from now on.
    fn say(&self, info: Option<serde_json::Value>) {
        self.info.send_replace(info);
    }
}

fn info(version: &str) -> serde_json::Value {
    json!({
        "server_id": "pretender", "version": version, "proto": 1, "headers": true,
        "max_payload": 1_048_576,
    })
}

/// Passes a connection on to a server, with another `INFO` in front: what a man in the middle can
/// do before TLS begins.
async fn rewriting(server: &NatsServer, rewrite: fn(&mut serde_json::Value)) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = server.port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let mut hello = Vec::new();
                while !hello.ends_with(b"\r\n") {
                    hello.push(server.read_u8().await.unwrap());
                }
                let body = hello.strip_prefix(b"INFO ").unwrap();
                let mut info = serde_json::from_slice(body).unwrap();
                rewrite(&mut info);
                let hello = format!("INFO {info}\r\n");
                client.write_all(hello.as_bytes()).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

/// NA-4: the issuer has to be the one that was named.
#[tokio::test]
async fn a_server_with_the_certificate_of_another_issuer_is_refused() {
    let (ca, other) = (Ca::new(), Ca::new());
    let server = tls_server(&ca, &["127.0.0.1"]).await;
    let right = NatsBus::connect(server.url(), Trusting::new(&ca).options()).await;
    settle(&right.unwrap()).await;
    let error = refused(server.url(), Trusting::new(&other).options()).await;
    assert!(
        format!("{error:?}").contains("InvalidCertificate"),
        "{error:?}"
    );
}

/// NA-4: the certificate has to be for the host that was dialled, whatever the server says its
/// name is before TLS begins.
#[tokio::test]
async fn a_server_with_the_certificate_of_another_host_is_refused() {
    let ca = Ca::new();
    let server = tls_server(&ca, &["elsewhere.test"]).await;
    let trusting = Trusting::new(&ca);
    let wrong_name = |error: ConnectError| {
        let error = format!("{error:?}");
        assert!(error.contains("NotValidForName"), "{error}");
    };
    wrong_name(refused(server.url(), trusting.options()).await);
    let renamed = rewriting(&server, |info| {
        info["host"] = "elsewhere.test".into();
        info["connect_urls"] = json!(["elsewhere.test:4222"]);
    });
    let url = format!("nats://127.0.0.1:{}", renamed.await);
    wrong_name(refused(url, trusting.options()).await);
}

/// NA-4: named otherwise in plain text, the server that has the certificate is still the one.
#[tokio::test]
async fn a_host_named_in_plain_text_changes_nothing() {
    let ca = Ca::new();
    let server = tls_server(&ca, &["127.0.0.1"]).await;
    let renamed = rewriting(&server, |info| info["host"] = "elsewhere.test".into());
    let url = format!("nats://127.0.0.1:{}", renamed.await);
    let bus = NatsBus::connect(url, Trusting::new(&ca).options()).await;
    settle(&bus.unwrap()).await;
}

/// NA-4: a server without TLS gets nothing from somebody who named an issuer, required TLS or
/// wrote `tls://`: neither a connection nor a password in plain text.
#[tokio::test]
async fn a_server_without_tls_is_refused_and_told_nothing() {
    let trusting = Trusting::new(&Ca::new());
    let plain = NatsServer::start().await;
    let pretender = Pretender::start(Some(info("2.12.8"))).await;
    for (port, pretends) in [(plain.port(), false), (pretender.port, true)] {
        for (scheme, options) in [
            ("nats", trusting.options()),
            ("nats", ConnectOptions::new().require_tls(true)),
            ("tls", ConnectOptions::new()),
        ] {
            let options = options
                .user_and_password("me".to_owned(), "secret".to_owned())
                .connection_timeout(Duration::from_secs(2));
            refused(format!("{scheme}://127.0.0.1:{port}"), options).await;
        }
        assert!(!pretends || pretender.accepted() > 0);
    }
    assert!(!pretender.heard("secret") && !pretender.heard("CONNECT"));
}

/// NA-4: who takes "TLS required" out of what the server says gets no plain text either.
#[tokio::test]
async fn tls_cannot_be_talked_away_in_plain_text() {
    let ca = Ca::new();
    let server = tls_server(&ca, &["127.0.0.1"]).await;
    let without = rewriting(&server, |info| {
        info["tls_required"] = false.into();
        info["tls_available"] = false.into();
    });
    let url = format!("nats://127.0.0.1:{}", without.await);
    // TLS all the same, by the certificate that was named.
    let bus = NatsBus::connect(url, Trusting::new(&ca).options()).await;
    settle(&bus.unwrap()).await;
}

/// NA-5: the addresses that a server names are not dialled, not even when it is gone.
#[tokio::test]
async fn addresses_that_a_server_gossips_are_dialled_in_lenient_mode_only() {
    for caution in [Caution::Strict, Caution::DangerLenient] {
        let gossiped = Pretender::start(Some(info("2.12.8"))).await;
        let mut gossip = info("2.12.8");
        gossip["connect_urls"] = json!([format!("127.0.0.1:{}", gossiped.port)]);
        let known = Pretender::start(Some(gossip.clone())).await;
        let options = ConnectOptions::new().user_and_password("me".into(), "secret".into());
        let bus = NatsBus::connect_with(known.url(), options, caution)
            .await
            .unwrap();
        known.say(None);
        match caution {
            Caution::Strict => {
                // Each round of attempts goes through every address there is.
                let tried = || known.accepted() >= 5;
                eventually("the known address is tried again and again", tried).await;
                known.say(Some(gossip));
                let back = || bus.state() == State::Connected;
                eventually("the known server is back", back).await;
                assert_eq!(gossiped.accepted(), 0);
            }
            Caution::DangerLenient => {
                let followed = || gossiped.heard("secret");
                eventually("the gossip is followed", followed).await;
            }
        }
    }
}

/// NA-9: strictly, a server below the floor is refused; leniently, it is used and said.
#[tokio::test]
async fn an_old_server_is_refused_or_said_in_the_audit() {
    let old = Pretender::start(Some(info("2.9.25"))).await;
    let error = refused(old.url(), ConnectOptions::new()).await;
    assert_eq!(error.kind(), ConnectErrorKind::Io);
    let source = std::error::Error::source(&error).unwrap();
    let version = &source.downcast_ref::<OldServer>().unwrap().version;
    assert_eq!(version, "2.9.25");

    let mut mesh = Authority::dev("test").unwrap();
    let mut agent = |id| ClientOptions::new(mesh.agent(id, ["pub:a"]).unwrap());
    assert!(agent("strict").connect(old.url()).await.is_err());
    let lenient = agent("lenient").caution(Caution::DangerLenient);
    let client = lenient.connect(old.url()).await.unwrap();
    assert!(notice(&mut client.audit()).await.contains("2.9.25"));
}

/// The next thing that the audit says of the server.
async fn notice(audit: &mut trustmesh::AuditStream) -> String {
    let said = async {
        loop {
            match audit.next().await.unwrap().event {
                AuditEvent::Notice { topic, text } if topic == "server" => return text,
                _ => {}
            }
        }
    };
    let said = tokio::time::timeout(PATIENCE, said).await;
    said.expect("the audit says something of the server")
}

/// NA-9: `async_nats` reconnects by itself, and what it finds is looked at as well: strictly, an
/// old server is left, nothing it sends comes out, and one that is new enough is used again.
#[tokio::test]
async fn an_old_server_found_when_reconnecting_is_left() {
    let server = Pretender::start(Some(info("2.12.8"))).await;
    let bus = NatsBus::connect(server.url(), ConnectOptions::new())
        .await
        .unwrap();
    let mut heard = bus.subscribe("news".into(), None).await.unwrap();
    assert_eq!(text(next(&mut heard).await), "old");
    let before = server.accepted();
    server.say(Some(info("2.9.25")));
    // To a subscription that is restored, this server sends at once.
    let silence = async {
        tokio::select! {
            delivery = heard.next() => panic!("an old server is heard: {delivery:?}"),
            () = eventually("several dials", || server.accepted() > before + 3) => {}
        }
    };
    silence.await;
    assert_ne!(bus.state(), State::Connected);
    let publish = bus.publish(Outgoing::new("secrets", "x"));
    let flushed = async {
        publish.await.unwrap();
        bus.flush().await.unwrap();
    };
    tokio::pin!(flushed);
    tokio::select! {
        () = &mut flushed => panic!("published to an old server"),
        () = eventually("more dials", || server.accepted() > before + 5) => {}
    }
    assert!(!server.heard("secrets"));
    server.say(Some(info("2.12.8")));
    tokio::time::timeout(PATIENCE, flushed).await.unwrap();
    assert_eq!(text(next(&mut heard).await), "old");
    eventually("the message is heard", || server.heard("secrets")).await;
    assert!(bus.redials() >= 1);
}

/// NA-9: leniently, the old server that a reconnect found is said in the audit.
#[tokio::test]
async fn an_old_server_found_when_reconnecting_is_said_in_the_audit() {
    let server = Pretender::start(Some(info("2.12.8"))).await;
    let mut mesh = Authority::dev("test").unwrap();
    let alice = mesh.agent("alice", ["pub:a"]).unwrap();
    let options = ClientOptions::new(alice).caution(Caution::DangerLenient);
    let client = options.connect(server.url()).await.unwrap();
    let mut audit = client.audit();
    server.say(Some(info("2.9.25")));
    let said = notice(&mut audit);
    tokio::pin!(said);
    let said = loop {
        client.publish("a", "x".into()).await.unwrap();
        client.flush().await.unwrap();
        tokio::select! {
            said = &mut said => break said,
            () = tokio::task::yield_now() => {}
        }
    };
    assert!(said.contains("2.9.25"), "{said}");
    assert_eq!(client.counters().allowed, 0);
}

/// NA-8: an operator's mapping delivers a message under a subject that its sender did not sign.
#[tokio::test]
async fn a_message_that_the_server_maps_is_refused_where_it_arrives() {
    let server = NatsServer::start_with(r#"mappings = { "orders.a": "orders.b" }"#).await;
    let mut mesh = Authority::dev("test").unwrap();
    let mut agent = |id, may| ClientOptions::new(mesh.agent(id, [may]).unwrap());
    let alice = agent("alice", "pub:orders.>");
    let alice = alice.connect(server.url()).await.unwrap();
    let bob = agent("bob", "sub:orders.>");
    let bob = bob.connect(server.url()).await.unwrap();
    let taken = consume(bob.subscribe("orders.>").await.unwrap());
    // Others arrive as they are, so that bob listens, and the mapping is all that is wrong.
    let listens = async {
        while bob.counters().allowed == 0 {
            alice.publish("orders.c", "x".into()).await.unwrap();
            alice.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, listens).await.unwrap();
    alice.publish("orders.a", "x".into()).await.unwrap();
    alice.flush().await.unwrap();
    eventually("it is refused", || bob.counters().denied_total() == 1).await;
    let counters = bob.counters();
    assert_eq!(counters.denied_of(Class::SubjectMismatch), 1);
    taken.reaches(counters.allowed).await;
}
