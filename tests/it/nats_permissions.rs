//! A real server that was given the derived permissions refuses every step over them, and lets
//! everything through that agents need.

use std::collections::BTreeMap;
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
use trustmesh::proto::envelope::inbox_prefix;
use trustmesh::proto::scope::Capability;
use trustmesh::services::authority::Authority;
use trustmesh::services::permissions::Connection;
use trustmesh::services::permissions::Member;
use trustmesh::services::permissions::Mesh;
use trustmesh::services::permissions::VERIFIER;
use trustmesh::services::permissions::bucket;
use trustmesh::services::permissions::derive;

use crate::support::PATIENCE;
use crate::support::arrived;
use crate::support::nats::HASH;
use crate::support::nats::NatsServer;
use crate::support::nats::PASSWORD;
use crate::support::next;
use crate::support::text;

/// A server with the permissions of a mesh: `asker` asks and publishes, `worker` serves as one of
/// a group, `auditor` reads audits, `verifier` keeps the trust state.
struct Guarded {
    server: NatsServer,
    authority: Authority,
    identities: BTreeMap<&'static str, Identity>,
    _store: tempfile::TempDir,
}

impl Guarded {
    async fn start() -> Self {
        let mut authority = Authority::dev("test").unwrap();
        let mut identities = BTreeMap::new();
        for (id, scope) in [
            ("asker", vec!["req:tools.>", "pub:news.*"]),
            ("worker", vec!["sub+serve:tools.>", "sub:news.*"]),
            ("auditor", vec!["sub:trustmesh.audit.*"]),
            (VERIFIER, vec![]),
        ] {
            identities.insert(id, authority.agent(id, scope).unwrap());
        }
        let members = identities.iter().map(|(id, identity)| {
            let scope = identity.grant().leaf().scope();
            let mut capabilities = scope.capabilities().to_vec();
            if *id == "worker" {
                let grouped: Capability = "sub:jobs".parse().unwrap();
                capabilities.push(grouped.in_groups(["blue"]).unwrap());
                capabilities.push("pub:odd.\"q\\u#'{".parse().unwrap());
            }
            Member {
                agent: identity.id().clone(),
                keys: vec![identity.key()],
                capabilities,
                connection: Connection::Password {
                    user: (*id).to_owned(),
                    hash: HASH.to_owned(),
                },
            }
        });
        let mesh = Mesh {
            id: authority.mesh(),
            prefix: "trustmesh".to_owned(),
            identities: BTreeSet::new(),
            newcomers: None,
        };
        let plan = derive(&mesh, members.collect()).unwrap();
        let store = tempfile::tempdir().unwrap();
        let jetstream = format!("jetstream {{ store_dir: {:?} }}\n", store.path());
        let config = jetstream + &plan.render(None).unwrap();
        Self {
            server: NatsServer::start_with(&config).await,
            authority,
            identities,
            _store: store,
        }
    }

    fn options(&self, user: &str) -> bus::ConnectOptions {
        bus::ConnectOptions::new().user_and_password(user.to_owned(), PASSWORD.to_owned())
    }

    /// The connection of an agent, with its permissions and none of our checks.
    async fn bare(&self, user: &str) -> NatsBus {
        let bus = NatsBus::connect(self.server.url(), self.options(user)).await;
        bus.unwrap()
    }

    async fn client(&self, id: &str) -> Client {
        let options = ConnectOptions::new(self.identities[id].clone());
        let options = options.nats(self.options(id));
        options.connect(self.server.url()).await.unwrap()
    }

    fn inbox(&self, id: &str) -> String {
        inbox_prefix(&self.identities[id].key())
    }

    fn bucket(&self) -> String {
        bucket(self.authority.mesh())
    }

    /// Whether `from` can publish on `subject` what `to` receives by listening to `pattern`. Both
    /// then hear a second message on a way that is open, so that silence means refusal.
    async fn passes(
        &self,
        from: &str,
        subject: &str,
        to: &str,
        pattern: &str,
        queue: Option<&str>,
    ) -> bool {
        let (sender, receiver) = (self.bare(from).await, self.bare(to).await);
        let queue = queue.map(str::to_owned);
        let mut heard = receiver.subscribe(pattern.into(), queue).await.unwrap();
        let mut open = receiver
            .subscribe(format!("{}.open", self.inbox(to)).into(), None)
            .await
            .unwrap();
        round_trip(&receiver, &self.inbox(to)).await;
        sender.publish(Outgoing::new(subject, "x")).await.unwrap();
        round_trip(&sender, &self.inbox(from)).await;
        // Over the same server, which delivers in order: what was let through came before.
        let control = self.bare(VERIFIER).await;
        let end = format!("{}.open", self.inbox(to));
        control.publish(Outgoing::new(end, "end")).await.unwrap();
        assert_eq!(text(next(&mut open).await), "end");
        !arrived(&mut heard).is_empty()
    }
}

/// Waits until the server has seen everything this connection sent: it answers in order, also that
/// nobody listens.
async fn round_trip(bus: &NatsBus, inbox: &str) {
    let mut answers = bus
        .subscribe(format!("{inbox}.trip").into(), None)
        .await
        .unwrap();
    let ask = Outgoing::new("trustmesh.handshake.nobody", Bytes::new());
    bus.publish(ask.with_reply(format!("{inbox}.trip")))
        .await
        .unwrap();
    let answer = tokio::time::timeout(PATIENCE, answers.next()).await;
    assert!(answer.expect("the server answers").is_some());
}

/// Every agent works with its permissions: requests, answers, messages, handshakes and audit.
#[tokio::test]
async fn permitted_agents_work_end_to_end() {
    let guarded = Guarded::start().await;
    let (asker, worker) = (
        guarded.client("asker").await,
        guarded.client("worker").await,
    );
    let auditor = guarded.client("auditor").await;
    let mut records = trustmesh::audit::subscribe(&auditor).await.unwrap();
    let _service = worker
        .queue_serve("tools.echo", "workers".to_owned(), |message| async move {
            Ok::<_, String>(message.payload)
        })
        .await
        .unwrap();
    let mut news = worker.subscribe("news.*").await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, async {
        loop {
            // The subscription may still be on its way.
            if let Ok(answer) = asker.request("tools.echo", "hello".into()).await {
                return answer;
            }
        }
    });
    assert_eq!(answer.await.unwrap().payload, "hello");
    asker.publish("news.now", "tea".into()).await.unwrap();
    let message = tokio::time::timeout(PATIENCE, news.next()).await.unwrap();
    assert_eq!(message.unwrap().payload, "tea");
    let session = asker.handshake(worker.id()).await.unwrap();
    assert_eq!(session.key, worker.key());
    let session = worker.handshake(asker.id()).await.unwrap();
    assert_eq!(session.key, asker.key());
    let record = tokio::time::timeout(PATIENCE, records.next())
        .await
        .unwrap();
    assert!(record.unwrap().is_ok());
}

/// Each line of the permissions, and the step over it.
#[tokio::test]
async fn no_step_over_a_permission_gets_through() {
    let guarded = Guarded::start().await;
    let asker = guarded.inbox("asker");
    let worker = guarded.inbox("worker");
    let bucket = format!("$KV.{}.head", guarded.bucket());
    let hs = format!("{worker}.hs.x");
    let any = format!("{worker}.mux.x");
    // Who publishes where, who listens to what, in which group; and whether it gets through.
    for (from, subject, to, pattern, queue, open) in [
        (
            "asker",
            "trustmesh.agent.worker.renew",
            "worker",
            "trustmesh.agent.worker.renew",
            None,
            true,
        ),
        (
            "asker",
            "trustmesh.agent.worker.renew",
            "auditor",
            "trustmesh.agent.worker.renew",
            None,
            false,
        ),
        ("asker", "news.a", "worker", "news.*", None, true),
        ("asker", "tools.a.b", "worker", "tools.>", None, true),
        ("asker", "news.a.b", "worker", ">", None, false),
        ("worker", "news.a", "worker", "news.a", None, false),
        ("asker", "jobs", "worker", "jobs", Some("blue"), false),
        (
            "asker",
            "trustmesh.audit.asker",
            "auditor",
            "trustmesh.audit.*",
            None,
            true,
        ),
        (
            "asker",
            "trustmesh.audit.worker",
            "auditor",
            "trustmesh.audit.*",
            None,
            false,
        ),
        (
            "asker",
            "trustmesh.audit.asker",
            "worker",
            "trustmesh.audit.*",
            None,
            false,
        ),
        (
            "asker",
            "trustmesh.handshake.worker",
            "worker",
            "trustmesh.handshake.worker",
            None,
            true,
        ),
        (
            "asker",
            "trustmesh.handshake.worker.i",
            "worker",
            "trustmesh.handshake.worker.*",
            None,
            true,
        ),
        (
            "asker",
            "trustmesh.handshake.worker",
            "auditor",
            "trustmesh.handshake.worker",
            None,
            false,
        ),
        (
            "asker",
            "trustmesh.handshake.worker",
            "auditor",
            "trustmesh.handshake.*",
            None,
            false,
        ),
        (
            "asker",
            "trustmesh.trust",
            "worker",
            "trustmesh.trust",
            None,
            false,
        ),
        (
            VERIFIER,
            "trustmesh.trust",
            "worker",
            "trustmesh.trust",
            None,
            true,
        ),
        (
            "asker",
            "trustmesh.verifier.renew",
            VERIFIER,
            "trustmesh.verifier.>",
            None,
            true,
        ),
        (
            "asker",
            "trustmesh.verifier.renew",
            "worker",
            "trustmesh.verifier.>",
            None,
            false,
        ),
        ("asker", hs.as_str(), "worker", hs.as_str(), None, true),
        ("asker", any.as_str(), "worker", any.as_str(), None, false),
        (VERIFIER, any.as_str(), "worker", any.as_str(), None, true),
        (VERIFIER, asker.as_str(), "worker", "_INBOX.>", None, false),
        (VERIFIER, any.as_str(), "auditor", any.as_str(), None, false),
        ("asker", bucket.as_str(), "worker", ">", None, false),
    ] {
        let passes = guarded.passes(from, subject, to, pattern, queue).await;
        assert_eq!(
            passes, open,
            "{from} publishes {subject}, {to} listens to {pattern}"
        );
    }
}

/// A queue group that was not granted, or none, takes nothing; the one that was granted does.
#[tokio::test]
async fn only_the_granted_queue_group_may_be_joined() {
    let guarded = Guarded::start().await;
    // Nobody of this mesh may publish jobs, so what is asked is whether the server complains.
    for (queue, open) in [(Some("blue"), true), (Some("red"), false), (None, false)] {
        let complaints = guarded.complaints("worker", |bus| {
            let queue = queue.map(str::to_owned);
            Box::pin(async move {
                let subscriber = bus.subscribe("jobs".into(), queue).await.unwrap();
                // It is to stand while the server answers.
                Box::leak(Box::new(subscriber));
            })
        });
        assert_eq!(complaints.await.is_empty(), open, "{queue:?}");
    }
}

/// The trust state's bucket is read by everybody, written and swept by the verifier alone, and
/// changed or deleted by nobody; the shared replay memory is for those who receive.
#[tokio::test]
async fn the_bucket_of_the_trust_state_is_locked() {
    let guarded = Guarded::start().await;
    let bucket = guarded.bucket();
    let key = format!("$KV.{bucket}.head");
    let mesh = guarded.authority.mesh();
    let api = |what: &str| format!("$JS.API.STREAM.{what}.KV_{bucket}");
    let replay = |what: &str| format!("$JS.API.STREAM.{what}.KV_TRUSTMESH_REPLAY_{mesh}");
    for (user, subject, open) in [
        ("asker", key.clone(), false),
        (VERIFIER, key, true),
        ("asker", api("INFO"), true),
        ("asker", api("MSG.GET"), true),
        ("asker", api("CREATE"), false),
        (VERIFIER, api("CREATE"), true),
        ("asker", api("PURGE"), false),
        (VERIFIER, api("PURGE"), true),
        (VERIFIER, api("UPDATE"), false),
        ("worker", replay("CREATE"), true),
        ("worker", replay("PURGE"), false),
        ("worker", replay("DELETE"), false),
        ("worker", format!("$KV.TRUSTMESH_REPLAY_{mesh}.x"), true),
        ("asker", format!("$KV.TRUSTMESH_REPLAY_{mesh}.x"), false),
        ("asker", replay("CREATE"), false),
        (VERIFIER, api("DELETE"), false),
        ("asker", "$JS.API.STREAM.LIST".to_owned(), false),
        ("asker", "$JS.API.STREAM.INFO.OTHER".to_owned(), false),
        ("asker", "$SYS.REQ.SERVER.PING".to_owned(), false),
        ("worker", "odd.\"q\\u#'{".to_owned(), true),
        ("worker", "odd.other".to_owned(), false),
    ] {
        let complaints = guarded.complaints(user, |bus| {
            let subject = subject.clone();
            Box::pin(async move {
                bus.publish(Outgoing::new(subject, "{}")).await.unwrap();
            })
        });
        let complaints = complaints.await;
        assert_eq!(
            complaints.is_empty(),
            open,
            "{user} {subject}: {complaints:?}"
        );
    }
}

/// Who is not in the file, or does not know its password, does not get in.
#[tokio::test]
async fn strangers_do_not_get_in() {
    let guarded = Guarded::start().await;
    for (user, password) in [("asker", "wrong"), ("nobody", PASSWORD), ("asker", HASH)] {
        let options =
            bus::ConnectOptions::new().user_and_password(user.to_owned(), password.to_owned());
        let error = NatsBus::connect(guarded.server.url(), options)
            .await
            .unwrap_err();
        let kind = bus::ConnectErrorKind::AuthorizationViolation;
        assert_eq!(error.kind(), kind, "{user} {password}");
    }
    assert!(
        NatsBus::connect(guarded.server.url(), bus::ConnectOptions::new())
            .await
            .is_err()
    );
}

/// OB-3: user and password in an address count, and appear nowhere.
#[tokio::test]
async fn credentials_in_an_address_are_used_and_not_shown() {
    let guarded = Guarded::start().await;
    let at = format!("127.0.0.1:{}", guarded.server.port());
    let with = |login: &str| format!("nats://{login}@{at}");
    let client = ConnectOptions::new(guarded.identities["asker"].clone())
        .connect(with(&format!("ask%65r:{PASSWORD}")))
        .await
        .unwrap();
    let shown = format!("{client:?}");
    assert!(shown.contains(&at) && !shown.contains(PASSWORD), "{shown}");
    let error = ConnectOptions::new(guarded.identities["asker"].clone())
        .connect(with("asker:guessed"))
        .await
        .unwrap_err();
    assert!(
        !format!("{error} {error:?}").contains("guessed"),
        "{error:?}"
    );
}

type Act<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl Guarded {
    /// What the server complains of when a user does something.
    async fn complaints(
        &self,
        user: &str,
        act: impl for<'a> FnOnce(&'a NatsBus) -> Act<'a>,
    ) -> Vec<String> {
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let options = self.options(user).event_callback(move |event| {
            let _ = said.send(event.to_string());
            async {}
        });
        let bus = NatsBus::connect(self.server.url(), options).await.unwrap();
        act(&bus).await;
        // Complaints arrive in order, and about this one there is always one.
        let last = Outgoing::new("forbidden.to.everybody", Bytes::new());
        bus.publish(last).await.unwrap();
        let mut complaints = Vec::new();
        loop {
            let said = tokio::time::timeout(PATIENCE, heard.recv()).await;
            let said = said.expect("the server complains in the end").unwrap();
            if said.contains("forbidden.to.everybody") {
                return complaints;
            }
            if said.to_lowercase().contains("violation") {
                complaints.push(said);
            }
        }
    }
}
