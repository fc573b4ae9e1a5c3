//! Each message at most once, each answer for its own request, each request for its own reply.

use std::error::Error as _;

use trustmesh::Client;
use trustmesh::bus::Outgoing;
use trustmesh::bus::PublishErrorKind;
use trustmesh::bus::RequestErrorKind;
use trustmesh::bus::faults::Fault;
use trustmesh::bus::faults::Faults;
use trustmesh::bus::faults::Rule;
use trustmesh::error::NoAnswer;
use trustmesh::proto::envelope::inbox_prefix;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::rejection::ScopeExceeded;
use trustmesh::proto::rejection::SubjectMismatch;
use trustmesh::proto::rejection::UnexpectedReply;
use trustmesh::proto::scope::Action;
use trustmesh::proto::signing::ObjectId;

use crate::support::mesh::BRIEFLY;
use crate::support::mesh::Held;
use crate::support::mesh::Mesh;
use crate::support::mesh::consume;
use crate::support::mesh::decisions;
use crate::support::mesh::draft;
use crate::support::mesh::message;
use crate::support::mesh::only;
use crate::support::mesh::sealed;
use crate::support::mesh::settled;

async fn two(mesh: &mut Mesh) -> (Client, Client) {
    let alice = mesh.join("alice", &["pub+sub+req:tools.>"]).await;
    let bob = mesh.join("bob", &["pub+sub+serve:tools.>"]).await;
    (alice, bob)
}

/// An answer signed by `by` on `reply` to the request `request` of `asker`.
fn answer(mesh: &Mesh, by: &Client, reply: &str, request: ObjectId, asker: &Client) -> Outgoing {
    let mut answer = draft(mesh.now(), Action::Serve, reply);
    answer.in_reply_to = Some(request);
    answer.audience = Some(asker.key());
    answer.payload = "forged".into();
    sealed(&answer, by)
}

/// The code of the newest decision, which is a refusal.
async fn refusal(client: &Client, audit: &mut trustmesh::client::AuditStream) -> u16 {
    let decided = decisions(client, audit).await;
    let last = decided.last().expect("a decision");
    last.code.expect("a refusal")
}

fn code(reason: UnexpectedReply) -> u16 {
    Rejection::UnexpectedReply { reason }.code()
}

/// FR-1.
#[tokio::test]
async fn the_same_bytes_are_accepted_once() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let taken = consume(bob.subscribe("tools.>").await.unwrap());
    let mut audit = bob.audit();
    let tap = mesh.bus.tap();
    alice.publish("tools.a", "once".into()).await.unwrap();
    let copy = only(tap.take(), "tools.a");
    for _ in 0..3 {
        mesh.forge(&copy);
    }
    let counters = settled(&bob, 4).await;
    assert_eq!((counters.allowed, taken.count()), (1, 1));
    assert_eq!(counters.denied_of(Class::Replay), 3);
    assert_eq!(decisions(&bob, &mut audit).await.len(), 4);
}

/// FR-5: 64 members of a group in one process race for 64 copies of one message.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_tasks_with_one_message_run_one_handler() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let mut members = Vec::new();
    for _ in 0..64 {
        let member = bob.queue_subscribe("tools.a", "g".to_owned()).await;
        members.push(member.unwrap());
    }
    let copy = sealed(&draft(mesh.now(), Action::Publish, "tools.a"), &alice);
    for _ in 0..64 {
        mesh.forge(&copy);
    }
    let taken: Vec<_> = members.into_iter().map(consume).collect();
    let counters = settled(&bob, 64).await;
    assert_eq!(counters.handler_runs, 1);
    assert_eq!(counters.denied_of(Class::Replay), 63);
    assert_eq!(taken.iter().map(|t| t.count()).sum::<u64>(), 1);
}

/// Ids outlive the subscription that accepted them.
#[tokio::test]
async fn subscribing_again_forgets_no_accepted_message() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let copy = sealed(&draft(mesh.now(), Action::Publish, "tools.a"), &alice);
    for group in [None, Some("g".to_owned())] {
        let open = || async {
            match &group {
                None => bob.subscribe("tools.*").await.unwrap(),
                Some(group) => {
                    let member = bob.queue_subscribe("tools.*", group.clone()).await;
                    member.unwrap()
                }
            }
        };
        let mut first = open().await;
        mesh.forge(&copy);
        assert_eq!(message(&mut first).await.sender(), alice.id());
        drop(first);
        let before = bob.counters();
        let taken = consume(open().await);
        mesh.forge(&copy);
        let counters = settled(&bob, before.received + 1).await;
        let replays = |c: &trustmesh::client::Counters| c.denied_of(Class::Replay);
        assert_eq!(replays(&counters), replays(&before) + 1);
        assert_eq!(taken.count(), 0);
    }
}

/// FR-6.
#[tokio::test]
async fn ones_own_message_is_verified_like_any_other_and_comes_once() {
    let mut mesh = Mesh::new();
    let alice = mesh.join("alice", &["pub+sub:tools.>"]).await;
    let mut own = alice.subscribe("tools.a").await.unwrap();
    let tap = mesh.bus.tap();
    alice.publish("tools.a", "echo".into()).await.unwrap();
    assert_eq!(message(&mut own).await.payload, "echo");
    let taken = consume(own);
    mesh.forge(&only(tap.take(), "tools.a"));
    let counters = settled(&alice, 2).await;
    assert_eq!(counters.denied_of(Class::Replay), 1);
    assert_eq!(taken.count(), 0);
}

/// FR-6: what one signs oneself answers none of one's own requests.
#[tokio::test]
async fn ones_own_messages_never_answer_ones_own_request() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let held = Held::serve(&bob, "tools.a").await;
    let mut audit = alice.audit();
    let tap = mesh.bus.tap();
    let asker = alice.clone();
    let asked = tokio::spawn(async move { asker.request("tools.a", "true".into()).await });
    let request = held.begun(1).await.remove(0);
    let reply = request.reply.clone().unwrap();

    // The request itself, delivered where its answer is awaited: as it is, then relabelled.
    let sent = only(tap.take(), "tools.a");
    mesh.bus.forge_at(&reply, sent.clone());
    settled(&alice, 1).await;
    let code = refusal(&alice, &mut audit).await;
    assert_eq!(code, self::code(UnexpectedReply::NoRequest));
    let delivered = Rejection::SubjectMismatch {
        reason: SubjectMismatch::Delivered,
    };
    mesh.forge(&Outgoing {
        subject: reply.clone(),
        ..sent
    });
    settled(&alice, 2).await;
    assert_eq!(refusal(&alice, &mut audit).await, delivered.code());
    // A publication of one's own to that very subject.
    mesh.forge(&sealed(&draft(mesh.now(), Action::Publish, &reply), &alice));
    settled(&alice, 3).await;
    let code = refusal(&alice, &mut audit).await;
    assert_eq!(code, self::code(UnexpectedReply::NotAReply));
    // An answer of one's own, without authority to serve.
    mesh.forge(&answer(
        &mesh,
        &alice,
        &reply,
        request.verified().id(),
        &alice,
    ));
    settled(&alice, 4).await;
    let reason = ScopeExceeded::NotGranted;
    let place = trustmesh::proto::rejection::Place::Chain;
    let not_granted = Rejection::ScopeExceeded { place, reason };
    assert_eq!(refusal(&alice, &mut audit).await, not_granted.code());

    held.release(1);
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(
        (answer.sender(), &answer.payload[..]),
        (bob.id(), &b"true"[..])
    );
    assert_eq!(settled(&alice, 5).await.allowed, 1);
}

/// FR-7.
#[tokio::test]
async fn the_answer_to_one_request_answers_no_other() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let held = Held::serve(&bob, "tools.a").await;
    let mut audit = alice.audit();
    let ask = |payload: &'static str| {
        let alice = alice.clone();
        tokio::spawn(async move { alice.request("tools.a", payload.into()).await })
    };
    let first = ask("1");
    let one = held.begun(1).await.remove(0);
    let second = ask("2");
    let two = held.begun(2).await.remove(1);
    // Signed by one who may answer both, for the first, on the second's reply subject.
    let reply = two.reply.clone().unwrap();
    mesh.forge(&answer(&mesh, &bob, &reply, one.verified().id(), &alice));
    settled(&alice, 1).await;
    let other = code(UnexpectedReply::OtherRequest);
    assert_eq!(refusal(&alice, &mut audit).await, other);
    held.release(2);
    assert_eq!(first.await.unwrap().unwrap().payload, "1");
    assert_eq!(second.await.unwrap().unwrap().payload, "2");
    assert_eq!(settled(&alice, 3).await.allowed, 2);
}

/// FR-7: relabelled by the bus instead.
#[tokio::test]
async fn answers_swapped_by_the_bus_answer_nothing() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let held = Held::serve(&bob, "tools.a").await;
    let asker = alice.clone();
    let first = tokio::spawn(async move { asker.request("tools.a", "1".into()).await });
    let one = held.begun(1).await.remove(0);
    let asker = alice.clone();
    let second = tokio::spawn(async move { asker.request("tools.a", "2".into()).await });
    let two = held.begun(2).await.remove(1);
    // Both answers go to the second request's subject and say so.
    let (one, two) = (one.reply.unwrap(), two.reply.unwrap());
    let swap = Rule::on(one, Fault::Reroute(two)).times(1);
    let tap = mesh.bus.tap();
    mesh.bus.inject(Faults::seeded(1).with(swap));
    held.release(2);
    assert_eq!(second.await.unwrap().unwrap().payload, "2");
    let refused = settled(&alice, 2).await;
    assert_eq!(refused.denied_total(), 1, "{refused:?}");
    // The first is still waiting: its true answer is what it gets.
    let sent = tap.take();
    let inbox = inbox_prefix(&alice.key());
    let answers = sent.iter().filter(|m| m.subject.starts_with(&inbox));
    for answer in answers {
        mesh.forge(answer);
    }
    assert_eq!(first.await.unwrap().unwrap().payload, "1");
}

/// FR-7: twice, and late.
#[tokio::test(start_paused = true)]
async fn an_answer_nobody_waits_for_any_more_is_refused() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let held = Held::serve(&bob, "tools.a").await;
    let mut audit = alice.audit();
    let tap = mesh.bus.tap();
    held.release(1);
    let answer = alice.request("tools.a", "1".into()).await.unwrap();
    // Twice.
    mesh.forge(&only(tap.take(), &answer.subject));
    settled(&alice, 2).await;
    let no_request = code(UnexpectedReply::NoRequest);
    assert_eq!(refusal(&alice, &mut audit).await, no_request);
    // Late.
    let asked = alice.compose("tools.a").timeout(BRIEFLY).request().await;
    let error = asked.unwrap_err();
    assert_eq!(error.kind(), RequestErrorKind::TimedOut);
    let source = error.source().and_then(|s| s.downcast_ref());
    assert_eq!(source, Some(&NoAnswer { refused: 0 }));
    held.release(1);
    settled(&alice, 3).await;
    assert_eq!(refusal(&alice, &mut audit).await, no_request);
    // Cancelled.
    let mut asked = Box::pin(alice.request("tools.a", "3".into()));
    tokio::select! {
        _ = &mut asked => panic!("nobody answers yet"),
        _ = held.begun(3) => {}
    }
    drop(asked);
    held.release(1);
    settled(&alice, 4).await;
    assert_eq!(refusal(&alice, &mut audit).await, no_request);
}

/// FR-7: never asked for at all.
#[tokio::test]
async fn an_answer_nobody_asked_for_is_refused_everywhere() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let held = Held::serve(&bob, "tools.a").await;
    held.release(1);
    let first = alice.request("tools.a", "1".into()).await.unwrap();
    let known = first.verified().claims().in_reply_to.unwrap();
    let mut audit = alice.audit();

    let mux = format!("{}.mux.made-up", inbox_prefix(&alice.key()));
    mesh.forge(&answer(&mesh, &bob, &mux, known, &alice));
    settled(&alice, 2).await;
    let no_request = code(UnexpectedReply::NoRequest);
    assert_eq!(refusal(&alice, &mut audit).await, no_request);

    let inbox = alice.new_inbox();
    let own = consume(alice.subscribe(inbox.clone()).await.unwrap());
    mesh.forge(&answer(&mesh, &bob, &inbox, known, &alice));
    settled(&alice, 3).await;
    assert_eq!(refusal(&alice, &mut audit).await, no_request);

    let plain = consume(alice.subscribe("tools.news").await.unwrap());
    mesh.forge(&answer(&mesh, &bob, "tools.news", known, &alice));
    settled(&alice, 4).await;
    let not_asked = code(UnexpectedReply::NotAsked);
    assert_eq!(refusal(&alice, &mut audit).await, not_asked);
    assert_eq!((own.count(), plain.count()), (0, 0));
}

/// One's own inbox takes several answers, each once, and only to what was asked.
#[tokio::test]
async fn an_inbox_of_ones_own_takes_each_answer_once() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let carol = mesh.join("carol", &["sub+serve:tools.>"]).await;
    let mut services = Vec::new();
    for server in [&bob, &carol] {
        let held = Held::serve(server, "tools.a").await;
        held.release(1);
        services.push(held);
    }
    let inbox = alice.new_inbox();
    let mut answers = alice.subscribe(inbox.clone()).await.unwrap();
    let tap = mesh.bus.tap();
    let asked = alice.publish_with_reply("tools.a", inbox.clone(), "both".into());
    asked.await.unwrap();
    let mut senders = Vec::new();
    for _ in 0..2 {
        senders.push(message(&mut answers).await.sender().to_string());
    }
    senders.sort();
    assert_eq!(senders, ["bob", "carol"]);
    let taken = consume(answers);
    for copy in tap.take() {
        if copy.subject.as_str() == inbox {
            mesh.forge(&copy);
        }
    }
    let counters = settled(&alice, 4).await;
    assert_eq!(counters.denied_of(Class::Replay), 2);
    assert_eq!(taken.count(), 0);
}

/// A reply subject that the bus rewrites redirects nothing.
#[tokio::test(start_paused = true)]
async fn a_request_whose_reply_was_rewritten_runs_no_handler() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let eve = mesh.join("eve", &["sub:tools.>"]).await;
    let held = Held::serve(&bob, "tools.a").await;
    held.release(9);
    let mut audit = bob.audit();
    for reply in [
        Some(eve.new_inbox().into()),
        Some("tools.loot".into()),
        None,
    ] {
        let rewritten = Rule::on("tools.a", Fault::Reply(reply));
        mesh.bus.inject(Faults::seeded(1).with(rewritten));
        let asked = alice.compose("tools.a").timeout(BRIEFLY).request().await;
        assert_eq!(asked.unwrap_err().kind(), RequestErrorKind::TimedOut);
        let rewritten = Rejection::SubjectMismatch {
            reason: SubjectMismatch::ReplyRewritten,
        };
        assert_eq!(refusal(&bob, &mut audit).await, rewritten.code());
    }
    assert_eq!(settled(&bob, 3).await.handler_runs, 0);
}

/// A reply subject outside one's own inbox is refused before anything is sent.
#[tokio::test]
async fn a_reply_subject_outside_ones_own_inbox_is_not_sent() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    alice.flush_audit().await;
    let tap = mesh.bus.tap();
    let bare = inbox_prefix(&alice.key());
    let longer = format!("{bare}x.1");
    for reply in [bob.new_inbox(), "tools.b".to_owned(), bare, longer] {
        let sent = alice.publish_with_reply("tools.a", reply.clone(), "x".into());
        let error = sent.await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::InvalidSubject, "{reply}");
    }
    assert_eq!(tap.take().len(), 0);
    // Nor is it accepted from one who signs it anyway.
    let taken = consume(bob.subscribe("tools.a").await.unwrap());
    let mut draft = draft(mesh.now(), Action::Request, "tools.a");
    draft.reply = Some(trustmesh::proto::subject::Subject::parse(&bob.new_inbox()).unwrap());
    mesh.forge(&sealed(&draft, &alice));
    assert_eq!(settled(&bob, 1).await.denied_of(Class::SubjectMismatch), 1);
    assert_eq!(taken.count(), 0);
}

/// NA-8: a bus that maps or republishes to another subject.
#[tokio::test]
async fn a_message_moved_to_another_subject_is_refused_there() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let taken = consume(bob.subscribe("tools.>").await.unwrap());
    for fault in [
        Fault::Reroute("tools.b".into()),
        Fault::Relabel("tools.b".into()),
    ] {
        mesh.bus
            .inject(Faults::seeded(1).with(Rule::on("tools.a", fault)));
        alice.publish("tools.a", "x".into()).await.unwrap();
    }
    let counters = settled(&bob, 2).await;
    assert_eq!(counters.denied_of(Class::SubjectMismatch), 2);
    mesh.bus.heal();
    // Delivered under its own name to a subscription that does not cover it.
    let narrow = consume(bob.subscribe("tools.b").await.unwrap());
    let stray = sealed(&draft(mesh.now(), Action::Publish, "tools.c"), &alice);
    mesh.bus.forge_at("tools.b", stray);
    // The wide subscription covers what it names, the narrow one does not.
    let counters = settled(&bob, 4).await;
    assert_eq!(counters.denied_of(Class::SubjectMismatch), 3);
    assert_eq!((taken.count(), narrow.count()), (1, 0));
}

/// A message for one key is refused by others.
#[tokio::test]
async fn a_message_for_somebody_else_is_refused() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let carol = mesh.join("carol", &["sub:tools.>"]).await;
    let at_bob = consume(bob.subscribe("tools.a").await.unwrap());
    let at_carol = consume(carol.subscribe("tools.a").await.unwrap());
    let message = alice.compose("tools.a").audience(bob.key());
    message.publish().await.unwrap();
    assert_eq!(settled(&bob, 1).await.allowed, 1);
    let counters = settled(&carol, 1).await;
    assert_eq!(counters.denied_of(Class::WrongAudience), 1);
    assert_eq!((at_bob.count(), at_carol.count()), (1, 0));
}

/// FR-2, FR-3 by the clients' clock.
#[tokio::test]
async fn a_message_is_fresh_within_its_lifetime_and_the_skew_to_the_millisecond() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let taken = consume(bob.subscribe("tools.a").await.unwrap());
    let (skew, ttl) = (5_000, 10_000);
    let now = mesh.now();
    let times = [
        (now.plus(skew), None),
        (now.plus(skew + 1), Some(Class::NotYetValid)),
        (now.minus(ttl + skew), None),
        (now.minus(ttl + skew + 1), Some(Class::Expired)),
    ];
    for (number, (issued, class)) in times.into_iter().enumerate() {
        mesh.forge(&sealed(&draft(issued, Action::Publish, "tools.a"), &alice));
        let counters = settled(&bob, number as u64 + 1).await;
        let refused = class.map_or(0, |class| counters.denied_of(class));
        assert_eq!(refused, u64::from(class.is_some()), "{issued:?}");
    }
    assert_eq!(taken.count(), 2);
}

/// Answers come from whoever may answer, and `respond` says when none is asked for.
#[tokio::test]
async fn a_publication_cannot_be_answered() {
    let mut mesh = Mesh::new();
    let (alice, bob) = two(&mut mesh).await;
    let mut messages = bob.subscribe("tools.a").await.unwrap();
    alice.publish("tools.a", "x".into()).await.unwrap();
    let received = message(&mut messages).await;
    let error = received.respond("y".into()).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::InvalidSubject);
}
