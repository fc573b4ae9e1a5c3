//! What is revoked in a served mesh, at receivers that are under traffic, cut off, or told nothing.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use trustmesh::Client;
use trustmesh::audit::AuditEvent;
use trustmesh::audit::DecisionEvent;
use trustmesh::audit::Word;
use trustmesh::bus;
use trustmesh::bus::faults::Fault;
use trustmesh::bus::faults::Faults;
use trustmesh::bus::faults::Rule;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::scope::Action;
use trustmesh::proto::trust::Admission;

use crate::support::eventually;
use crate::support::link::Link;
use crate::support::mesh::Taken;
use crate::support::mesh::consume;
use crate::support::mesh::draft;
use crate::support::mesh::sealed;
use crate::support::nats;
use crate::support::plane::Wire;
use crate::support::saved::enrolled;
use crate::support::saved::revoked;
use crate::support::served::Served;

/// Within which a receiver that is connected knows what was revoked (protocol §9.10).
const BOUND: Duration = Duration::from_secs(20);

/// What an agent signs, whatever its own client has heard: somebody sends it until told to end.
struct Stubborn {
    end: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Stubborn {
    async fn of(mesh: &Served, by: &Client, subject: String) -> Self {
        let (bus, clock, by) = (mesh.wire.raw().await, mesh.clock.clone(), by.clone());
        let (end, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (told, count) = (end.clone(), sent.clone());
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(3));
            while !told.load(Ordering::SeqCst) {
                pace.tick().await;
                let now = clock.now().unwrap();
                let frame = sealed(&draft(now, Action::Publish, &subject), &by);
                bus.publish(frame).await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
            }
            bus.flush().await.unwrap();
        });
        Self { end, sent, task }
    }

    async fn end(self) -> u64 {
        self.end.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
        self.sent.load(Ordering::SeqCst)
    }
}

/// A receiver, and all that it decided.
struct Receiver {
    client: Client,
    decisions: Arc<Mutex<Vec<DecisionEvent>>>,
    reader: JoinHandle<()>,
    _taken: Taken,
}

impl Receiver {
    async fn listen(client: Client, pattern: String) -> Self {
        let decisions = Arc::<Mutex<Vec<_>>>::default();
        let (heard, mut audit) = (decisions.clone(), client.audit());
        let reader = tokio::spawn(async move {
            while let Some(record) = audit.next().await {
                if let AuditEvent::Decision(decision) = record.event {
                    heard.lock().unwrap().push(decision);
                }
            }
        });
        let _taken = consume(client.subscribe(pattern).await.unwrap());
        Self {
            client,
            decisions,
            reader,
            _taken,
        }
    }

    fn allowed(&self) -> u64 {
        self.client.counters().allowed
    }

    fn refused(&self) -> u64 {
        self.client.counters().denied_of(Class::Revoked)
    }

    /// That no decision by a state since that epoch of revocations was in favour, and none before it
    /// against.
    async fn decided_by(&self, since: u64) {
        self.client.flush_audit().await;
        let recorded = |verdict| {
            let decisions = self.decisions.lock().unwrap();
            decisions.iter().filter(|d| d.verdict == verdict).count() as u64
        };
        eventually("all that was allowed is recorded", || {
            recorded(Word::Allow) == self.allowed()
        })
        .await;
        for decision in self.decisions.lock().unwrap().iter() {
            let denied = decision.verdict == Word::Deny;
            assert_eq!(denied, decision.revocations >= since, "{decision:?}");
            let expected = denied.then_some("Revoked");
            assert_eq!(decision.class.as_deref(), expected);
        }
        assert!(recorded(Word::Deny) > 0);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Waits until a receiver has the revocation of an agent's key; the epoch from which on it has.
async fn learns(receiver: &Client, of: &Client) -> u64 {
    let (key, mut since) = (of.key(), 0);
    eventually("the receiver knows", || {
        let trust = receiver.trust();
        since = trust.epochs().revocations;
        trust.revocations().has_key(&key)
    })
    .await;
    since
}

/// RV-1: a key is revoked under traffic. Every receiver knows within the bound, from the epoch of
/// the revocation on none accepts anything of it, and none refused anything before.
async fn a_key_revoked_under_traffic_is_refused_by_every_receiver(wire: Wire) {
    let mesh = Served::new(wire).await;
    let alice = mesh.agent("alice", &[&mesh.may("pub")]).await;
    let mut receivers = Vec::new();
    for n in 0..4 {
        let may = mesh.may("sub");
        let client = mesh.agent(&format!("bob{n}"), &[&may]).await;
        eventually("it knows alice", || enrolled(&client, "alice")).await;
        receivers.push(Receiver::listen(client, mesh.subject(">")).await);
    }
    let traffic = Stubborn::of(&mesh, &alice, mesh.subject("all")).await;
    for receiver in &receivers {
        eventually("traffic", || receiver.allowed() > 50).await;
    }
    let (key, began) = (alice.key(), Instant::now());
    mesh.change(move |mesh| mesh.revoke_key(key)).await.unwrap();
    let mut since = Vec::new();
    for receiver in &receivers {
        since.push(learns(&receiver.client, &alice).await);
    }
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    // What is said of one state is said of all: it is the same one.
    assert!(since.iter().all(|epoch| *epoch == since[0]), "{since:?}");
    for receiver in &receivers {
        eventually("it is refused", || receiver.refused() > 50).await;
    }
    traffic.end().await;
    for receiver in &receivers {
        receiver.decided_by(since[0]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_revoked_under_traffic_is_refused_by_every_receiver_in_process() {
    a_key_revoked_under_traffic_is_refused_by_every_receiver(Wire::memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_revoked_under_traffic_is_refused_by_every_receiver_over_nats() {
    let wire = Wire::Nats(nats::jetstream().await.url());
    a_key_revoked_under_traffic_is_refused_by_every_receiver(wire).await;
}

/// RV-10: a receiver is cut off from the server while a key is revoked and everybody else is told.
/// It comes back under traffic of that key, and knows within the bound.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_was_cut_off_knows_within_the_bound_what_was_revoked() {
    let server = nats::jetstream().await;
    let mesh = Served::new(Wire::Nats(server.url())).await;
    let alice = mesh.agent("alice", &[&mesh.may("pub")]).await;
    let may = mesh.may("sub");
    let carol = mesh.agent("carol", &[&may]).await;
    let (bob, root) = mesh.join("bob", &[&may]).await;
    let raw = mesh.wire.raw().await;
    let bob = bob.follow(root, Admission::Production, &*raw).await;
    let link = Link::to(server.port()).await;
    // Away for as long as the way is cut, and not much longer.
    let eager = bus::ConnectOptions::new().reconnect_delay_callback(|_| Duration::from_millis(20));
    let options = mesh.options(bob.unwrap()).nats(eager);
    let bob = options.connect(link.url()).await.unwrap();
    let bob = Receiver::listen(bob, mesh.subject(">")).await;
    let traffic = Stubborn::of(&mesh, &alice, mesh.subject("bob")).await;
    eventually("traffic", || bob.allowed() > 20).await;

    link.cut();
    let is_away = || bob.client.connection_state() != bus::State::Connected;
    eventually("bob is away", is_away).await;
    let key = alice.key();
    mesh.change(move |mesh| mesh.revoke_key(key)).await.unwrap();
    learns(&carol, &alice).await;
    // The push that told carol has passed bob by.
    assert!(!bob.client.trust().revocations().has_key(&key));

    link.mend();
    let began = Instant::now();
    let since = learns(&bob.client, &alice).await;
    eventually("bob hears and refuses", || bob.refused() > 20).await;
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    traffic.end().await;
    bob.decided_by(since).await;
}

/// RV-10: a bus that loses every push hides no revocation for longer than the bound.
#[tokio::test(start_paused = true)]
async fn a_receiver_that_no_push_reaches_knows_within_the_bound() {
    let mesh = Served::new(Wire::memory()).await;
    let bob = mesh.agent("bob", &["sub:greet.>"]).await;
    let lost = Rule::on(format!("{}.trust", mesh.prefix), Fault::Drop);
    mesh.memory().inject(Faults::seeded(1).with(lost));
    mesh.change(|mesh| mesh.revoke_agent("mallory"))
        .await
        .unwrap();
    assert!(!revoked(&bob, "mallory"));
    let began = Instant::now();
    eventually("bob knows", || revoked(&bob, "mallory")).await;
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
}
