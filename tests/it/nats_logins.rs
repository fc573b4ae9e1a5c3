//! Client certificates and connection keys: a real server takes the derived configuration, lets
//! agents in by them, and holds each to its permissions.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::StreamExt;
use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::Identity;
use trustmesh::bus;
use trustmesh::bus::Bus;
use trustmesh::bus::Outgoing;
use trustmesh::bus::nats::NatsBus;
use trustmesh::services::authority::Authority;
use trustmesh::services::permissions::Connection;
use trustmesh::services::permissions::Member;
use trustmesh::services::permissions::Mesh;
use trustmesh::services::permissions::ServerTls;
use trustmesh::services::permissions::derive;

use crate::support::PATIENCE;
use crate::support::certificates::Ca;
use crate::support::nats::File;
use crate::support::nats::NatsServer;

/// Alice, who publishes, and bob, who listens; each with how it is known and how it connects.
struct Cast {
    alice: (Identity, bus::ConnectOptions),
    bob: (Identity, bus::ConnectOptions),
    server: NatsServer,
}

impl Cast {
    async fn start(
        logins: [(Connection, bus::ConnectOptions); 2],
        tls: Option<&ServerTls>,
        files: Vec<File>,
    ) -> Self {
        let mut mesh = Authority::dev("test").unwrap();
        let alice = mesh.agent("alice", ["pub:news.>"]).unwrap();
        let bob = mesh.agent("bob", ["sub:news.>"]).unwrap();
        let [(for_alice, alices), (for_bob, bobs)] = logins;
        let member = |identity: &Identity, connection| Member {
            agent: identity.id().clone(),
            keys: vec![identity.key()],
            capabilities: identity.grant().leaf().scope().capabilities().to_vec(),
            connection,
        };
        let members = vec![member(&alice, for_alice), member(&bob, for_bob)];
        let about = Mesh {
            id: mesh.mesh(),
            prefix: "trustmesh".to_owned(),
            identities: BTreeSet::new(),
            newcomers: None,
        };
        let config = derive(&about, members).unwrap().render(tls).unwrap();
        Self {
            alice: (alice, alices),
            bob: (bob, bobs),
            server: NatsServer::start_with_files(&config, files).await,
        }
    }

    async fn client(&self, (identity, options): &(Identity, bus::ConnectOptions)) -> Client {
        let options = ConnectOptions::new(identity.clone()).nats(options.clone());
        options.connect(self.server.url()).await.unwrap()
    }

    async fn alice_talks_to_bob(&self) {
        let (alice, bob) = (self.client(&self.alice).await, self.client(&self.bob).await);
        let mut news = bob.subscribe("news.>").await.unwrap();
        let heard = async {
            loop {
                alice.publish("news.now", "tea".into()).await.unwrap();
                tokio::select! {
                    message = news.next() => return message.unwrap(),
                    // The subscription may still be on its way.
                    () = alice_waits(&alice) => {}
                }
            }
        };
        let heard = tokio::time::timeout(PATIENCE, heard).await;
        assert_eq!(heard.unwrap().payload, "tea");
        assert_eq!(alice.handshake(bob.id()).await.unwrap().key, bob.key());
    }

    /// Alice's connection, without her client's own checks, may not do what bob's may, nor more.
    async fn alice_stays_within_her_lines(&self) {
        let (said, mut complaints) = tokio::sync::mpsc::unbounded_channel();
        let options = self.alice.1.clone().event_callback(move |event| {
            let _ = said.send(event.to_string());
            async {}
        });
        let bus = NatsBus::connect(self.server.url(), options).await.unwrap();
        let _heard = bus.subscribe("news.>".into(), None).await.unwrap();
        let subjects = ["trustmesh.audit.bob", "trustmesh.trust"];
        for subject in subjects {
            let step = Outgoing::new(subject, Bytes::new());
            bus.publish(step).await.unwrap();
        }
        for what in ["news.>", subjects[0], subjects[1]] {
            let said = async {
                loop {
                    let said = complaints.recv().await.unwrap();
                    if said.to_lowercase().contains("violation") {
                        return said;
                    }
                }
            };
            let said = tokio::time::timeout(PATIENCE, said).await.unwrap();
            assert!(said.contains(what), "{what}: {said}");
        }
    }
}

/// A round trip of alice's.
async fn alice_waits(alice: &Client) {
    alice.flush().await.unwrap();
    tokio::task::yield_now().await;
}

/// By certificates that name agents by SPIFFE ids (`nats config --mtls`).
#[tokio::test]
async fn agents_with_client_certificates_talk_within_their_permissions() {
    let ca = Ca::new();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ca_file = write("ca.pem", &ca.pem());
    let options = |issued: &Ca, user: &str, name: &str| {
        let issued = issued.client(user);
        let certificate = write(&format!("{name}.pem"), &issued.certificate);
        let key = write(&format!("{name}.key"), &issued.key);
        bus::ConnectOptions::new()
            .add_root_certificates(ca_file.clone())
            .add_client_certificate(certificate, key)
    };
    let login = |agent: &str| {
        let user = format!("spiffe://test/agent/{agent}");
        let options = options(&ca, &user, agent);
        (Connection::Certificate { user }, options)
    };
    let server = ca.server(&["127.0.0.1"]);
    let tls = ServerTls {
        certificate: "server.pem".to_owned(),
        key: "server.key".to_owned(),
        ca: Some("ca.pem".to_owned()),
    };
    let files = vec![
        ("server.pem", server.certificate),
        ("server.key", server.key),
        ("ca.pem", ca.pem()),
    ];
    let cast = Cast::start([login("alice"), login("bob")], Some(&tls), files).await;
    cast.alice_talks_to_bob().await;
    cast.alice_stays_within_her_lines().await;
    let alice = "spiffe://test/agent/alice";
    for (who, options) in [
        ("an agent that is not in the file", login("mallory").1),
        (
            "alice by another issuer",
            options(&Ca::new(), alice, "forged"),
        ),
        (
            "nobody in particular",
            bus::ConnectOptions::new().add_root_certificates(ca_file.clone()),
        ),
    ] {
        let connected = NatsBus::connect(cast.server.url(), options).await;
        assert!(connected.is_err(), "{who} gets in");
    }
}

/// By connection keys (`nats config --nkeys`).
#[cfg(feature = "nkeys")]
#[tokio::test]
async fn agents_with_connection_keys_talk_within_their_permissions() {
    use trustmesh::client::home::Login;

    let login = || {
        let login = Login::new_nkey().unwrap();
        let connection = Connection::Nkey(login.nkey().unwrap());
        let options = login.apply(bus::ConnectOptions::new()).unwrap();
        (connection, options)
    };
    let cast = Cast::start([login(), login()], None, Vec::new()).await;
    cast.alice_talks_to_bob().await;
    cast.alice_stays_within_her_lines().await;
    for (who, options) in [
        ("a key that is not in the file", login().1),
        ("nobody in particular", bus::ConnectOptions::new()),
    ] {
        let connected = NatsBus::connect(cast.server.url(), options).await;
        assert!(connected.is_err(), "{who} gets in");
    }
}
