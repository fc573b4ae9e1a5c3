//! A served mesh on a server that gives every connection its own permissions: from a token to
//! messages, renewal and revocation, nothing that is needed is refused, and nothing else is open.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::StreamExt;
use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::bus;
use trustmesh::bus::Bus;
use trustmesh::bus::Outgoing;
use trustmesh::bus::nats::NatsBus;
use trustmesh::client::enrol::Enrolled;
use trustmesh::client::enrol::Enrolment;
use trustmesh::client::enrol::newcomer_inbox;
use trustmesh::client::join::fetch_root;
use trustmesh::proto::envelope::inbox_prefix;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::trust::Admission;
use trustmesh::services::authority::Authority;
use trustmesh::services::permissions::Connection;
use trustmesh::services::permissions::Member;
use trustmesh::services::permissions::Mesh;
use trustmesh::services::permissions::VERIFIER;
use trustmesh::services::permissions::bucket;
use trustmesh::services::permissions::derive;
use trustmesh::services::verifier::ToStore;
use trustmesh::services::verifier::VerifierOptions;
use trustmesh::services::verifier::VerifierService;

use crate::support::PATIENCE;
use crate::support::eventually;
use crate::support::mesh::policy;
use crate::support::nats::HASH;
use crate::support::nats::NatsServer;
use crate::support::nats::PASSWORD;
use crate::support::plane::id;
use crate::support::plane::key;
use crate::support::plane::terms;

const ALICE: &[&str] = &["pub:greet.>", "req:tools.>"];
const BOB: &[&str] = &["sub:greet.>", "sub+serve:tools.>"];
const NEWCOMERS: &str = "newcomers";

fn login(user: &str) -> Connection {
    Connection::Password {
        user: user.to_owned(),
        hash: HASH.to_owned(),
    }
}

/// A server that knows the verifier, alice and bob by their keys-to-be, and newcomers.
struct Guarded {
    server: NatsServer,
    bucket: String,
    service: VerifierService,
    alice: Arc<SigningKey>,
    bob: Arc<SigningKey>,
    complaints: Arc<Mutex<Vec<String>>>,
    _store: tempfile::TempDir,
}

impl Guarded {
    async fn start() -> Self {
        let mut mesh = Authority::served("test").unwrap();
        mesh.set_policy(policy("")).unwrap();
        let bucket = bucket(mesh.mesh());
        let [verifier, alice, bob] = [key(), key(), key()].map(Arc::new);
        let member = |agent: &str, key: &SigningKey, capabilities: &[&str]| Member {
            agent: id(agent),
            keys: vec![key.public().bytes()],
            capabilities: capabilities.iter().map(|c| c.parse().unwrap()).collect(),
            connection: login(agent),
        };
        let plan = derive(
            &Mesh {
                id: mesh.mesh(),
                prefix: "trustmesh".to_owned(),
                identities: [&verifier, &alice, &bob].map(|k| k.public().bytes()).into(),
                newcomers: Some(login(NEWCOMERS)),
            },
            vec![
                member(VERIFIER, &verifier, &[]),
                member("alice", &alice, ALICE),
                member("bob", &bob, BOB),
            ],
        );
        let store = tempfile::tempdir().unwrap();
        let jetstream = format!("jetstream {{ store_dir: {:?} }}\n", store.path());
        let config = jetstream + &plan.unwrap().render(None).unwrap();
        let server = NatsServer::start_with(&config).await;
        let complaints = Arc::default();
        let inbox = inbox_prefix(&verifier.public().bytes());
        let bus = || connect(&server, VERIFIER, &inbox, &complaints);
        let to = ToStore::on(bus().await);
        let options = ConnectOptions::new(mesh.verifier(verifier).unwrap());
        let settings = VerifierOptions::default();
        let service = VerifierService::start(mesh, options, bus().await, to, settings).await;
        Self {
            service: service.unwrap(),
            server,
            bucket,
            alice,
            bob,
            complaints,
            _store: store,
        }
    }

    /// Joins as a newcomer, and comes back as the agent.
    async fn agent(&self, agent: &str, key: &Arc<SigningKey>, scope: &[&str]) -> Client {
        let terms = terms(scope);
        let token = self.service.change(move |mesh| mesh.join_token(&terms));
        let token = token.await.unwrap().outcome.unwrap();
        let bus = self.newcomer(key).await;
        let root = fetch_root(&token, &bus).await.unwrap();
        let enrolment = Enrolment::new(token, root.clone()).agent(id(agent));
        let enrolled: Enrolled = enrolment.join(&bus, key.clone()).await.unwrap();
        let identity = enrolled.follow(root, Admission::Production, &bus).await;
        ConnectOptions::new(identity.unwrap())
            .nats(options(agent, &self.complaints))
            .connect(self.server.url())
            .await
            .unwrap()
    }

    async fn newcomer(&self, key: &SigningKey) -> NatsBus {
        let inbox = newcomer_inbox(&key.public().bytes());
        connect(&self.server, NEWCOMERS, &inbox, &self.complaints).await
    }
}

fn options(user: &str, complaints: &Arc<Mutex<Vec<String>>>) -> bus::ConnectOptions {
    let (complaints, who) = (complaints.clone(), user.to_owned());
    bus::ConnectOptions::new()
        .user_and_password(user.to_owned(), PASSWORD.to_owned())
        .event_callback(move |event| {
            let event = format!("{who}: {event}");
            if event.to_lowercase().contains("violation") {
                complaints.lock().unwrap().push(event);
            }
            async {}
        })
}

async fn connect(
    server: &NatsServer,
    user: &str,
    inbox: &str,
    complaints: &Arc<Mutex<Vec<String>>>,
) -> NatsBus {
    let options = options(user, complaints).custom_inbox_prefix(inbox);
    NatsBus::connect(server.url(), options).await.unwrap()
}

/// Every part of a served mesh works, each connection with its own permissions, and the server has
/// nothing to complain of.
#[tokio::test(flavor = "multi_thread")]
async fn a_served_mesh_lives_on_a_server_with_its_permissions() {
    let guarded = Guarded::start().await;
    let alice = guarded.agent("alice", &guarded.alice, ALICE).await;
    let bob = guarded.agent("bob", &guarded.bob, BOB).await;

    let mut greetings = bob
        .subscription("greet.>")
        .queue("greeters")
        .shared_replay()
        .subscribe()
        .await
        .unwrap();
    let _service = bob
        .serve("tools.echo", |message| async move {
            Ok::<_, String>(message.payload)
        })
        .await
        .unwrap();
    let talk = async {
        // Bob's subscriptions, and what each has to hear of the other, may be on their way.
        while alice.request("tools.echo", "hello".into()).await.is_err() {}
        loop {
            alice.publish("greet.bob", "tea".into()).await.unwrap();
            let heard = tokio::time::timeout(Duration::from_millis(300), greetings.next());
            if let Ok(Some(message)) = heard.await {
                assert_eq!(message.payload, "tea");
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, talk).await.unwrap();
    assert_eq!(alice.handshake(bob.id()).await.unwrap().key, bob.key());
    alice.renew().await.unwrap();

    let revoked = guarded.service.change(|mesh| mesh.revoke_agent("alice"));
    revoked.await.unwrap().in_force().unwrap().unwrap();
    let knows = || bob.trust().revocations().agents().contains(alice.id());
    eventually("bob knows", knows).await;
    assert_eq!(*guarded.complaints.lock().unwrap(), [""; 0]);
}

/// What a newcomer's user may do ends with joining.
#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_can_do_nothing_but_join() {
    let guarded = Guarded::start().await;
    let bus = guarded.newcomer(&key()).await;
    let bucket = &guarded.bucket;
    let head = format!("$KV.{bucket}.head");
    let purge = format!("$JS.API.STREAM.PURGE.KV_{bucket}");
    for subject in [
        "greet.bob",
        "trustmesh.verifier.renew",
        "trustmesh.trust",
        "trustmesh.audit.alice",
        "trustmesh.handshake.bob",
        "_INBOX.somebody.en.x",
        head.as_str(),
        purge.as_str(),
    ] {
        bus.publish(Outgoing::new(subject, Bytes::new()))
            .await
            .unwrap();
        let said = || complained(&guarded, subject);
        eventually(&format!("a complaint about {subject}"), said).await;
    }
    let bobs = format!("{}.>", inbox_prefix(&guarded.bob.public().bytes()));
    for pattern in ["greet.>", "trustmesh.>", "_INBOX.>", bobs.as_str(), ">"] {
        let mut heard = bus.subscribe(pattern.into(), None).await.unwrap();
        let said = || complained(&guarded, &format!("\"{pattern}\""));
        eventually(&format!("a complaint about {pattern}"), said).await;
        assert!(heard.next().now_or_never().is_none());
    }
}

fn complained(guarded: &Guarded, what: &str) -> bool {
    let complaints = guarded.complaints.lock().unwrap();
    complaints.iter().any(|said| said.contains(what))
}
