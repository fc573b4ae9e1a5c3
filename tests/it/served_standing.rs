//! Scores in a served mesh, when the service dies, when agents do, and when many report at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use trustmesh::Client;
use trustmesh::bus::Outgoing;
use trustmesh::client::clock::ManualClock;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::scope::Action;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::Admission;
use trustmesh::services::authority::Authority;
use trustmesh::services::verifier::VerifierOptions;

use crate::support::eventually;
use crate::support::mesh::consume;
use crate::support::mesh::draft;
use crate::support::mesh::sealed;
use crate::support::nats;
use crate::support::plane::Wire;
use crate::support::plane::id;
use crate::support::plane::key;
use crate::support::saved::Saved;
use crate::support::saved::enrolled;
use crate::support::served::Served;
use crate::support::traffic::Traffic;
use crate::support::unique;

const RESTARTS: usize = 20;

fn score(client: &Client, agent: &str) -> Option<u16> {
    client.trust().score(&id(agent))
}

/// A message that its sender has no authority for, signed all the same.
fn beyond(mesh: &Served, by: &Client, subject: &str) -> Bytes {
    let Outgoing { payload, .. } = sealed(
        &draft(mesh.clock.now().unwrap(), Action::Publish, subject),
        by,
    );
    payload
}

/// How often something was found against an agent, and what its score is, in the books.
async fn books(mesh: &Served, agent: &str) -> (usize, Option<u16>) {
    let agent = id(agent);
    mesh.change(move |mesh| {
        let causes = mesh.score_history(&agent);
        let found = causes.filter(|cause| cause.evidence.is_some()).count();
        (found, mesh.score(&agent))
    })
    .await
}

/// TS-4: the service is killed again and again under traffic, and an agent that lost points crashes
/// and begins again as often: its score stays, in the books, at receivers, and for who is new.
async fn a_score_outlives_the_crashes_of_its_keeper_and_of_its_agent(wire: Wire) {
    let mut mesh = Saved::new(wire).await;
    let (own, secret) = (mesh.mesh.subject("a"), mesh.mesh.subject("secret"));
    let may = format!("pub:{own}");
    let (enrolled_as, root) = mesh.mesh.join("alice", &[&may]).await;
    let bus = mesh.mesh.wire.raw().await;
    let identity = enrolled_as
        .follow(root, Admission::Production, &*bus)
        .await
        .unwrap();
    let alice = mesh.mesh.enter(identity.clone()).await;
    let bob = mesh.mesh.agent("bob", &[&mesh.mesh.may("sub")]).await;
    eventually("bob knows alice", || enrolled(&bob, "alice")).await;
    let _heard = consume(bob.subscribe(mesh.mesh.subject(">")).await.unwrap());
    let fault = beyond(&mesh.mesh, &alice, &secret);
    bob.report_evidence(vec![fault.clone()]).await.unwrap();
    eventually("it is known", || score(&bob, "alice") == Some(400)).await;
    let traffic = Traffic::of(&alice, &own, &bob).await;
    for _ in 0..RESTARTS {
        mesh.kill().await;
        mesh.start_again().await;
        // The agent too ends and begins again.
        let again = mesh.mesh.enter(identity.clone()).await;
        let hello = again.publish(own.clone(), "hello".into());
        hello.await.unwrap();
        drop(again);
        assert_eq!(books(&mesh.mesh, "alice").await, (1, Some(400)));
        assert_eq!(score(&bob, "alice"), Some(400));
    }
    assert!(traffic.end().await > 0);
    // Nor does what was counted count again, or the score come back by the next that is published.
    let _ = bob.report_evidence(vec![fault]).await;
    let carol = mesh.mesh.agent("carol", &[&may]).await;
    assert_eq!(score(&carol, "alice"), Some(400));
    assert_eq!(books(&mesh.mesh, "alice").await, (1, Some(400)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_score_outlives_the_crashes_of_its_keeper_and_of_its_agent_in_process() {
    a_score_outlives_the_crashes_of_its_keeper_and_of_its_agent(Wire::memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_score_outlives_the_crashes_of_its_keeper_and_of_its_agent_over_nats() {
    let wire = Wire::Nats(nats::jetstream().await.url());
    a_score_outlives_the_crashes_of_its_keeper_and_of_its_agent(wire).await;
}

/// TS-7: 64 agents report at once, each what no other does and what all others do. Each finding
/// costs its points once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reports_of_64_agents_at_once_add_up_exactly() {
    const AGENTS: usize = 64;
    const EACH: usize = 5;
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_800_000_000_000)));
    let mut books_of = Authority::served_with_clock("test", false, clock.clone()).unwrap();
    // A point each.
    let one = r#"{ "rules": [ { "name": "all", "effect": "allow", "actions": ["pub", "sub"],
        "subjects": ">" } ], "scores": { "reward": 0, "penalty": { "scope_exceeded": 1000 } } }"#;
    books_of
        .set_policy(Policy::from_json(one).unwrap())
        .unwrap();
    let identity = books_of.verifier(Arc::new(key())).unwrap();
    let mut mesh = Served {
        wire: Wire::memory(),
        prefix: unique(),
        clock: clock.clone(),
        mesh: books_of.mesh(),
        service: None,
    };
    let mut settings = VerifierOptions::default();
    (settings.reports_per_second, settings.reports_per_key) = (1_000_000, 1_000);
    (settings.requests_per_second, settings.requests_per_key) = (1_000_000, 1_000);
    let service = mesh.start_within(books_of, identity, None, settings);
    mesh.service = Some(service.await);
    let alice = mesh.agent("alice", &["pub:notes"]).await;
    let mut reporters = Vec::new();
    for n in 0..AGENTS {
        reporters.push(mesh.agent(&format!("r{n}"), &["sub:notes"]).await);
    }
    let fault = |_| beyond(&mesh, &alice, "secrets");
    let shared: Vec<Bytes> = (0..EACH).map(fault).collect();
    let reports = reporters.iter().map(|reporter| {
        let (reporter, shared) = (reporter.clone(), shared.clone());
        let own: Vec<Bytes> = (0..EACH).map(fault).collect();
        tokio::spawn(async move {
            for (n, own) in own.into_iter().enumerate() {
                let both = [own, shared[n].clone()];
                reporter.report_evidence(both.into()).await.unwrap();
            }
        })
    });
    for reported in join_all(reports.collect::<Vec<_>>()).await {
        reported.unwrap();
    }
    let expected = 500 - ((AGENTS + 1) * EACH) as u16;
    let (_, kept) = books(&mesh, "alice").await;
    assert_eq!(kept, Some(expected));
    clock.advance(Duration::from_secs(6));
    eventually("it is published", || {
        reporters
            .iter()
            .all(|reporter| score(reporter, "alice") == Some(expected))
    })
    .await;
}
