//! Circuit breakers at receivers: a peer whose own output is mostly bad is not listened to for a
//! while, and nobody else can bring a peer there.

use std::time::Duration;

use trustmesh::Client;
use trustmesh::Identity;
use trustmesh::audit::AuditEvent;
use trustmesh::audit::SessionRole;
use trustmesh::bus;
use trustmesh::bus::Bus as _;
use trustmesh::bus::Outgoing;
use trustmesh::bus::RequestErrorKind;
use trustmesh::bus::nats::NatsBus;
use trustmesh::client::AuditStream;
use trustmesh::error::HandshakeError;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::scope::Action;

use super::support::eventually;
use super::support::mesh::Mesh;
use super::support::mesh::consume;
use super::support::mesh::draft;
use super::support::mesh::recorded;
use super::support::mesh::sealed;
use super::support::mesh::with_broken_payload;
use super::support::mesh::with_broken_signature;
use super::support::nats;
use super::support::unique;

/// Where the messages travel.
enum Wire {
    Memory,
    Nats(Box<NatsBus>, String),
}

impl Wire {
    async fn nats() -> Self {
        let url = nats::shared().await.url();
        let raw = NatsBus::connect(&url, bus::ConnectOptions::new()).await;
        Self::Nats(Box::new(raw.unwrap()), url)
    }

    async fn enter(&self, mesh: &Mesh, identity: Identity) -> Client {
        let options = mesh.options(identity);
        match self {
            Self::Memory => options.connect_bus(mesh.bus.connect()).await.unwrap(),
            Self::Nats(_, url) => options.connect(url).await.unwrap(),
        }
    }

    /// Puts a message on the bus, as anybody there can.
    async fn put(&self, mesh: &Mesh, message: &Outgoing) {
        match self {
            Self::Memory => drop(mesh.forge(message)),
            Self::Nats(raw, _) => raw.publish(message.clone()).await.unwrap(),
        }
    }
}

/// Waits until the server knows of a client's subscriptions: it answers in order.
async fn listens(client: &Client, token: &str) {
    let asked = client.request(format!("{token}-nobody"), "".into()).await;
    assert_eq!(asked.unwrap_err().kind(), RequestErrorKind::NoResponders);
}

/// Waits until a client has decided so many messages.
async fn decided(client: &Client, count: u64) {
    let decided = || client.counters().allowed + client.counters().denied_total();
    eventually(&format!("{count} decisions"), || decided() >= count).await;
    assert_eq!(decided(), count);
}

/// The notices of these topics since the last look.
async fn notices(client: &Client, audit: &mut AuditStream) -> Vec<String> {
    let events = recorded(client, audit).await.into_iter();
    let topics = events.filter_map(|event| match event {
        AuditEvent::Notice { topic, .. } => Some(topic),
        _ => None,
    });
    topics.filter(|topic| topic != "dev-mesh").collect()
}

/// Alice and carol may publish on one subject, bob hears all of them.
async fn cast(wire: &Wire, mesh: &mut Mesh, token: &str) -> [Client; 3] {
    let own = format!("pub:{token}.item");
    let all = format!("sub:{token}.> req:{token}-nobody");
    let mut clients = Vec::new();
    for (id, capabilities) in [("alice", &own), ("carol", &own), ("bob", &all)] {
        let identity = mesh.authority.agent(id, capabilities.split(' ')).unwrap();
        clients.push(identity);
    }
    let [alice, carol, bob] = <[Identity; 3]>::try_from(clients).ok().unwrap();
    [
        wire.enter(mesh, alice).await,
        wire.enter(mesh, carol).await,
        wire.enter(mesh, bob).await,
    ]
}

async fn quarantine_and_release(wire: Wire) {
    let (mut mesh, token) = (Mesh::new(), unique());
    let [alice, carol, bob] = cast(&wire, &mut mesh, &token).await;
    let mut audit = bob.audit();
    let taken = consume(bob.subscribe(format!("{token}.>")).await.unwrap());
    listens(&bob, &token).await;
    let (item, secret) = (format!("{token}.item"), format!("{token}.secret"));
    let send =
        |by: &Client, subject: &str| sealed(&draft(mesh.now(), Action::Publish, subject), by);

    let mut count = 0;
    for _ in 0..20 {
        wire.put(&mesh, &send(&alice, &secret)).await;
        count += 1;
        decided(&bob, count).await;
    }
    assert_eq!(bob.counters().denied_of(Class::ScopeExceeded), 20);
    assert_eq!(notices(&bob, &mut audit).await, ["quarantined"]);

    // Everything by that key is refused now, good or bad; others are heard.
    for message in [
        send(&alice, &item),
        send(&alice, &secret),
        send(&carol, &item),
    ] {
        wire.put(&mesh, &message).await;
    }
    count += 3;
    decided(&bob, count).await;
    assert_eq!(bob.counters().denied_of(Class::Blocked), 2);
    assert_eq!(bob.counters().denied_of(Class::ScopeExceeded), 20);
    eventually("carol is heard", || taken.count() == 1).await;

    // Released on probation: three more and it is over.
    mesh.clock.advance(Duration::from_secs(60));
    let send =
        |by: &Client, subject: &str| sealed(&draft(mesh.now(), Action::Publish, subject), by);
    wire.put(&mesh, &send(&alice, &item)).await;
    eventually("alice is heard", || taken.count() == 2).await;
    assert_eq!(notices(&bob, &mut audit).await, ["released"]);
    count += 1;
    for _ in 0..4 {
        wire.put(&mesh, &send(&alice, &secret)).await;
        count += 1;
        decided(&bob, count).await;
    }
    assert_eq!(notices(&bob, &mut audit).await, ["quarantined"]);
    assert_eq!(bob.counters().denied_of(Class::ScopeExceeded), 23);
    assert_eq!(bob.counters().denied_of(Class::Blocked), 3);
}

async fn a_victim_is_heard(wire: Wire) {
    let (mut mesh, token) = (Mesh::new(), unique());
    let [alice, carol, bob] = cast(&wire, &mut mesh, &token).await;
    let mut audit = bob.audit();
    let taken = consume(bob.subscribe(format!("{token}.>")).await.unwrap());
    listens(&bob, &token).await;
    let (item, secret) = (format!("{token}.item"), format!("{token}.secret"));
    let now = mesh.now();
    let good = sealed(&draft(now, Action::Publish, &item), &alice);
    let bad = sealed(&draft(now, Action::Publish, &secret), &alice);
    let mut for_carol = draft(now, Action::Publish, &item);
    for_carol.audience = Some(carol.key());
    let for_carol = sealed(&for_carol, &alice);

    // All that a hostile bus can do with what alice signed, again and again.
    let elsewhere = format!("{token}.elsewhere");
    let mut count = 0;
    for _ in 0..30 {
        let moved = Outgoing::new(elsewhere.as_str(), good.payload.clone());
        let broken = with_broken_signature(&good.payload);
        let swapped = with_broken_payload(&good.payload);
        let hostile = [
            good.clone(),
            bad.clone(),
            for_carol.clone(),
            moved,
            Outgoing::new(item.as_str(), broken),
            Outgoing::new(item.as_str(), swapped),
            Outgoing::new(item.as_str(), good.payload.slice(..good.payload.len() / 2)),
        ];
        for message in &hostile {
            wire.put(&mesh, message).await;
        }
        count += hostile.len() as u64;
        decided(&bob, count).await;
    }
    mesh.clock.advance(Duration::from_secs(30));
    for _ in 0..30 {
        wire.put(&mesh, &good).await;
    }
    count += 30;
    decided(&bob, count).await;

    assert_eq!(notices(&bob, &mut audit).await, [""; 0]);
    assert_eq!(bob.counters().denied_of(Class::Blocked), 0);
    let fresh = sealed(&draft(mesh.now(), Action::Publish, &item), &alice);
    wire.put(&mesh, &fresh).await;
    eventually("alice is heard", || taken.count() == 2).await;
}

/// DO-10: a peer with nothing but invalid output is quarantined, and released per policy.
#[tokio::test]
async fn a_peer_with_bad_output_is_quarantined_and_released() {
    quarantine_and_release(Wire::Memory).await;
}

/// DO-10, on NATS.
#[tokio::test]
async fn on_nats_a_peer_with_bad_output_is_quarantined_and_released() {
    quarantine_and_release(Wire::nats().await).await;
}

/// DO-10: repeating, delaying, misdelivering or damaging a peer's messages cannot quarantine it.
#[tokio::test]
async fn a_victim_of_a_hostile_bus_is_still_heard() {
    a_victim_is_heard(Wire::Memory).await;
}

/// DO-10, on NATS.
#[tokio::test]
async fn on_nats_a_victim_of_a_hostile_bus_is_still_heard() {
    a_victim_is_heard(Wire::nats().await).await;
}

/// DO-10, HS-3: while a key is quarantined it gets no session, whoever asks for one, and both audits
/// say so; afterwards it gets one again.
#[tokio::test(start_paused = true)]
async fn a_quarantined_peer_gets_no_session() {
    let (mut mesh, token) = (Mesh::new(), unique());
    let wire = Wire::Memory;
    let [alice, _, bob] = cast(&wire, &mut mesh, &token).await;
    let _heard = consume(bob.subscribe(format!("{token}.>")).await.unwrap());
    let session = alice.handshake(bob.id()).await.unwrap();
    assert_eq!(session.peer, *bob.id());
    let secret = format!("{token}.secret");
    for _ in 0..20 {
        let bad = draft(mesh.now(), Action::Publish, &secret);
        wire.put(&mesh, &sealed(&bad, &alice)).await;
    }
    decided(&bob, 20).await;
    // What was decided until now is not to be told later.
    for client in [&alice, &bob] {
        client.flush_audit().await;
    }
    let (mut hers, mut his) = (alice.audit(), bob.audit());
    let told = async |client: &Client, audit: &mut AuditStream| {
        let events = recorded(client, audit).await.into_iter();
        let sessions = events.filter_map(|event| match event {
            AuditEvent::Session { role, code, .. } => Some((role, code)),
            _ => None,
        });
        sessions.collect::<Vec<_>>()
    };

    // She asks, and learns nothing but that no answer comes.
    let refused = alice.handshake(bob.id()).await.unwrap_err();
    assert!(matches!(refused, HandshakeError::TimedOut), "{refused}");
    let expected = [(SessionRole::Responder, Some(1904))];
    assert_eq!(told(&bob, &mut his).await, expected);
    let expected = [(SessionRole::Initiator, Some(2206))];
    assert_eq!(told(&alice, &mut hers).await, expected);
    // He does not ask her.
    let refused = bob.handshake(alice.id()).await.unwrap_err();
    let blocked = |why: &HandshakeError| match why {
        HandshakeError::Refused(rejection) => rejection.class() == Class::Blocked,
        _ => false,
    };
    assert!(blocked(&refused), "{refused}");
    let expected = [(SessionRole::Initiator, Some(1904))];
    assert_eq!(told(&bob, &mut his).await, expected);
    assert!(told(&alice, &mut hers).await.is_empty());

    mesh.clock.advance(Duration::from_secs(60));
    alice.handshake(bob.id()).await.unwrap();
    let expected = [(SessionRole::Responder, None)];
    assert_eq!(told(&bob, &mut his).await, expected);
}
