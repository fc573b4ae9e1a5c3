//! A served mesh whose broker dies, and one that changes under its traffic.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use trustmesh::Client;
use trustmesh::Message;
use trustmesh::audit::AuditEvent;
use trustmesh::audit::DecisionEvent;
use trustmesh::audit::Word;
use trustmesh::bus;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::scope::Action;
use trustmesh::proto::trust::Admission;

use crate::support::PATIENCE;
use crate::support::eventually;
use crate::support::mesh::consume;
use crate::support::mesh::draft;
use crate::support::mesh::policy;
use crate::support::mesh::sealed;
use crate::support::nats;
use crate::support::nats::NatsServer;
use crate::support::plane::Wire;
use crate::support::plane::key;
use crate::support::saved::enrolled;
use crate::support::saved::revoked;
use crate::support::served::Served;

/// Within which a receiver that is connected again knows everything (protocol §9.10).
const BOUND: Duration = Duration::from_secs(20);

const RESTARTS: usize = 50;
const AGENTS: usize = 20;

/// RV-10: the broker died; what was revoked meanwhile and afterwards is known within the bound.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_whose_broker_died_knows_within_the_bound_what_was_revoked() {
    let mut server = NatsServer::start_jetstream().await;
    let mesh = Served::new(Wire::Nats(server.url())).await;
    let alice = mesh.agent("alice", &["pub:greet.>"]).await;
    let bob = mesh.agent("bob", &["sub:greet.>"]).await;
    let _heard = consume(bob.subscribe("greet.>").await.unwrap());
    server.kill().await;
    let service = mesh.service.as_ref().unwrap();
    let meanwhile = service.change(|mesh| mesh.revoke_agent("mallory"));
    let (done, ()) = tokio::join!(meanwhile, server.restart());
    done.unwrap().outcome.unwrap();
    let began = Instant::now();
    let afterwards = service.change(|mesh| mesh.revoke_agent("alice")).await;
    afterwards.unwrap().outcome.unwrap();
    let knows = || revoked(&bob, "alice") && revoked(&bob, "mallory");
    eventually("bob knows", knows).await;
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    let bus = mesh.wire.raw().await;
    let refused = || bob.counters().denied_of(Class::Revoked);
    // Until bob listens again.
    eventually("bob is back", || {
        bob.connection_state() == trustmesh::bus::State::Connected
    })
    .await;
    let deadline = Instant::now() + PATIENCE;
    while refused() == 0 {
        assert!(Instant::now() < deadline, "bob hears nothing");
        let now = mesh.clock.now().unwrap();
        let late = sealed(&draft(now, Action::Publish, "greet.bob"), &alice);
        bus.publish(late).await.unwrap();
        crate::support::settle(&*bus).await;
    }
    assert_eq!(bob.counters().allowed, 0);
}

/// How often each request was handled, anywhere.
type Runs = Arc<Mutex<HashMap<String, u32>>>;

/// Asks until there is an answer. Each try is another request.
async fn ask(from: &Client, subject: &str, label: &str) {
    let deadline = Instant::now() + PATIENCE;
    for attempt in 0.. {
        let text = format!("{label}/{attempt}");
        let answer = from.request(subject.to_owned(), text.clone().into()).await;
        match answer {
            Ok(answer) => {
                assert_eq!(answer.payload, text);
                return;
            }
            Err(error) => assert!(Instant::now() < deadline, "{label}: {error:?}"),
        }
        tokio::task::yield_now().await;
    }
}

/// CC-4: after each of fifty restarts of the broker all twenty agents serve again, nothing ran
/// twice, and nothing panicked.
#[tokio::test(flavor = "multi_thread")]
async fn broker_restarts_lose_no_subscription_and_double_no_handler() {
    let mut server = NatsServer::start_jetstream().await;
    let mesh = Served::new(Wire::Nats(server.url())).await;
    let runs = Runs::default();
    let (mut agents, mut services) = (Vec::new(), Vec::new());
    for n in 0..AGENTS {
        let (enrolled, root) = mesh.join(&format!("a{n}"), &["req+sub+serve:work.>"]).await;
        let bus = mesh.wire.raw().await;
        let identity = enrolled.follow(root, Admission::Production, &*bus).await;
        // What is lost with the broker is asked for again soon, and nobody is away for longer than
        // the broker.
        let eager =
            bus::ConnectOptions::new().reconnect_delay_callback(|_| Duration::from_millis(20));
        let options = mesh.options(identity.unwrap()).nats(eager);
        let options = options.request_timeout(Some(Duration::from_millis(200)));
        let agent = options.connect(server.url()).await.unwrap();
        let runs = runs.clone();
        let handler = move |message: Message| {
            let text = String::from_utf8(message.payload.to_vec()).unwrap();
            *runs.lock().unwrap().entry(text).or_default() += 1;
            async move { Ok::<_, String>(message.payload) }
        };
        services.push(agent.serve(format!("work.{n}"), handler).await.unwrap());
        agents.push(agent);
    }
    let all = || {
        let known = |agent: &Client| (0..AGENTS).all(|n| enrolled(agent, &format!("a{n}")));
        agents.iter().all(known)
    };
    eventually("all know all", all).await;
    for round in 0..=RESTARTS {
        let asked = agents.iter().enumerate().map(|(n, agent)| async move {
            let next = (n + 1) % AGENTS;
            ask(agent, &format!("work.{next}"), &format!("{round}/{n}")).await;
        });
        // Some are on their way when the broker dies.
        let asked = futures::future::join_all(asked);
        if round == 0 {
            asked.await;
            continue;
        }
        tokio::join!(asked, server.restart());
        let again = agents.iter().enumerate().map(|(n, agent)| async move {
            let next = (n + 1) % AGENTS;
            ask(agent, &format!("work.{next}"), &format!("{round}+{n}")).await;
        });
        futures::future::join_all(again).await;
    }
    {
        let runs = runs.lock().unwrap();
        assert!(runs.len() >= AGENTS * (1 + 2 * RESTARTS));
        assert!(runs.values().all(|count| *count == 1));
    }
    for agent in &agents {
        assert_eq!(agent.counters().handler_panics, 0);
    }
    // And the service reaches everybody.
    let service = mesh.service.as_ref().unwrap();
    let changed = service.change(|mesh| mesh.revoke_agent("mallory")).await;
    changed.unwrap().outcome.unwrap();
    let all = || agents.iter().all(|agent| revoked(agent, "mallory"));
    eventually("all know", all).await;
}

/// CC-1, CC-5: while the mesh revokes, rotates and changes its policy, each decision names the
/// epochs of one state that was published, and is that state's.
#[tokio::test(flavor = "multi_thread")]
async fn every_decision_is_by_one_published_state() {
    every_decision_is_by_one_state(Wire::memory()).await;
}

/// The same on a real server.
#[tokio::test(flavor = "multi_thread")]
async fn every_decision_is_by_one_published_state_on_a_server() {
    every_decision_is_by_one_state(Wire::Nats(nats::jetstream().await.url())).await;
}

const CHANGES: usize = 60;

async fn every_decision_is_by_one_state(wire: Wire) {
    let mesh = Served::new(wire).await;
    let (send, all, to_bob) = (mesh.may("pub"), mesh.subject(">"), mesh.subject("bob"));
    let deny = format!(
        r#"{{ "name": "no", "effect": "deny", "actions": ["pub", "sub"], "subjects": "{all}" }}"#
    );
    let alice = mesh.agent("alice", &[&send]).await;
    let mut others = Vec::new();
    for n in 0..CHANGES / 3 {
        others.push(mesh.agent(&format!("r{n}"), &[&send]).await);
    }
    let bob = mesh.agent("bob", &[&mesh.may("sub")]).await;
    let decisions = Arc::new(Mutex::new(Vec::<DecisionEvent>::new()));
    let (heard, mut audit) = (decisions.clone(), bob.audit());
    let reader = tokio::spawn(async move {
        while let Some(record) = audit.next().await {
            if let AuditEvent::Decision(decision) = record.event {
                heard.lock().unwrap().push(decision);
            }
        }
    });
    let _heard = consume(bob.subscribe(all).await.unwrap());
    let epochs = || async {
        let published = mesh.change(|mesh| mesh.publish().map(|handle| handle.current().epochs()));
        let epochs = published.await.unwrap();
        (epochs.registry, epochs.revocations, epochs.policy)
    };
    let mut states = BTreeMap::from([(epochs().await, false)]);
    let bus = mesh.wire.raw().await;
    let clock = mesh.clock.clone();
    let sender = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(1));
        loop {
            pace.tick().await;
            let now = clock.now().unwrap();
            let frame = sealed(&draft(now, Action::Publish, &to_bob), &alice);
            bus.publish(frame).await.unwrap();
        }
    });
    let mut denies = false;
    for change in 0..CHANGES {
        match change % 3 {
            0 => {
                denies = !denies;
                let rules = policy(if denies { &deny } else { "" });
                mesh.change(|mesh| mesh.set_policy(rules)).await.unwrap();
            }
            1 => {
                let gone = format!("gone{change}");
                let done = mesh.change(move |mesh| mesh.revoke_agent(&gone));
                done.await.unwrap();
            }
            _ => {
                others[change / 3].rotate(&key()).await.unwrap();
            }
        }
        states.insert(epochs().await, denies);
        let (before, last) = (bob.counters().received, states.last_key_value());
        let policy = last.map(|((_, _, policy), _)| *policy);
        eventually("traffic under it", || {
            bob.counters().received > before + 5 && Some(bob.trust().epochs().policy) == policy
        })
        .await;
    }
    sender.abort();
    bob.flush_audit().await;
    reader.abort();
    let decisions = std::mem::take(&mut *decisions.lock().unwrap());
    assert!(decisions.len() > CHANGES);
    let mut met = std::collections::BTreeSet::new();
    for decision in &decisions {
        let by = (decision.registry, decision.revocations, decision.policy);
        let denies = states.get(&by);
        let denies = denies.unwrap_or_else(|| panic!("no state has the epochs {by:?}"));
        let denied = decision.verdict == Word::Deny;
        assert_eq!(denied, *denies, "{decision:?}");
        met.insert(by);
    }
    assert!(met.len() > CHANGES / 3, "{} states", met.len());
}
