//! CC-1 and CC-2: what is decided at once, in every order in which its steps can fall, and while the
//! registry is exchanged.
//!
//! A decision looks at the memory twice: while the message is examined, which changes nothing, and
//! when it is concluded. Each look holds the lock for all of it, so no scheduler can divide one,
//! and the orders of the looks are all there is. Here is every one of them, for four decisions.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use trustmesh::proto::policy::RateLimiter;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::replay::ReplayGuard;
use trustmesh::proto::subject::SubjectPattern;
use trustmesh::proto::trust::TrustState;
use trustmesh::proto::verify::Arrival;
use trustmesh::proto::verify::Examined;
use trustmesh::proto::verify::Route;
use trustmesh::proto::verify::Scene;

use crate::forge::Letter;
use crate::forge::Stage;
use crate::forge::stage::Slot;

const SUBJ: &str = "orders.eu.new";

/// Visits every order of the steps of tasks that have so many left.
fn every_order(left: &mut [usize], order: &mut Vec<usize>, visit: &mut impl FnMut(&[usize])) {
    if left.iter().all(|steps| *steps == 0) {
        return visit(order);
    }
    for task in 0..left.len() {
        if left[task] > 0 {
            left[task] -= 1;
            order.push(task);
            every_order(left, order, visit);
            order.pop();
            left[task] += 1;
        }
    }
}

fn examine(stage: &Stage, frame: &Bytes) -> Examined {
    examine_by(stage, &stage.trust, &stage.guard, frame)
}

/// Examines a frame by some trust state, with what the verifier remembers of all others.
fn examine_by(
    stage: &Stage,
    trust: &Arc<TrustState>,
    guard: &ReplayGuard,
    frame: &Bytes,
) -> Examined {
    let pattern = SubjectPattern::parse(">").unwrap();
    let route = Route::Subscription {
        pattern: &pattern,
        own: &stage.own,
    };
    let arrival = Arrival {
        subject: SUBJ,
        reply: None,
        route,
    };
    let scene = Scene {
        now: stage.now,
        trust,
        sessions: &(),
    };
    stage.verifier.examine(frame, &arrival, &scene, guard)
}

/// Examines and concludes the frames in this order; the class of each refusal.
fn play(stage: &mut Stage, frames: &[Bytes], order: &[usize]) -> Vec<Option<Class>> {
    let mut examined: Vec<Option<Examined>> = frames.iter().map(|_| None).collect();
    let mut outcomes = vec![None; frames.len()];
    for task in order.iter().copied() {
        match examined[task].take() {
            None => examined[task] = Some(examine(stage, &frames[task])),
            Some(examined) => {
                let verdict = examined.conclude(&mut stage.guard, &mut stage.rates, stage.now);
                let mut decisions = Vec::new();
                let result = verdict.record(Slot(&mut decisions));
                assert_eq!(decisions.len(), 1);
                outcomes[task] = result.err().map(|refused| refused.rejection.class());
            }
        }
    }
    outcomes
}

/// CC-2: three messages, one of them twice, and room for two. In each of the 2,520 orders two are
/// accepted, no message twice, and each refusal says why.
#[test]
fn in_every_order_a_message_is_accepted_once_and_the_room_is_used_exactly() {
    let mut stage = Stage::default();
    let sender = stage.chain(&["carol", "alice"]);
    let [first, second, third] = [(); 3].map(|()| Letter::publish(&sender, SUBJ).frame());
    let frames = [first.clone(), first, second, third];
    let mut orders = 0;
    every_order(&mut [2; 4], &mut Vec::new(), &mut |order| {
        stage.guard = ReplayGuard::new(stage.verifier.skew(), None).with_capacity(2, 2);
        let outcomes = play(&mut stage, &frames, order);
        let accepted = |of: &[Option<Class>]| of.iter().filter(|class| class.is_none()).count();
        assert_eq!(accepted(&outcomes), 2, "{order:?}: {outcomes:?}");
        assert!(accepted(&outcomes[..2]) <= 1, "{order:?}: {outcomes:?}");
        assert_eq!(stage.guard.len(), 2);
        for (task, class) in outcomes.iter().enumerate() {
            match class {
                None | Some(Class::Overloaded) => {}
                Some(Class::Replay) => assert!(task < 2, "{order:?}: {outcomes:?}"),
                Some(class) => panic!("{order:?}: {class:?}"),
            }
        }
        orders += 1;
    });
    assert_eq!(orders, 2_520);
}

/// CC-1: four threads decide through one verifier while the registry is exchanged ten thousand
/// times: with everybody in it, without the holder in the middle, without the sender, and with the
/// one in the middle blocked. Each decision is that of the state it was made by,
/// whatever the verifier remembers of the others.
#[test]
fn decisions_while_the_registry_is_exchanged_are_those_of_one_state() {
    const SWAPS: usize = 10_000;
    const DECISIONS: usize = 1_000;
    let mut stage = Stage::default();
    let sender = stage.chain(&["carol", "alice"]);
    let frames: Vec<Bytes> = (0..16)
        .map(|_| Letter::publish(&sender, SUBJ).frame())
        .collect();
    stage.accepts(&frames[0]);
    let without = |name: &str| {
        let mut mesh = stage.mesh.clone();
        mesh.members.retain(|(party, _)| party.name != name);
        mesh.trust()
    };
    let blocking = r#"{ "blocked": { "agents": ["carol"] }, "rules": [ { "name": "all",
        "effect": "allow", "actions": ["pub", "sub"], "subjects": ">" } ] }"#;
    let blocked = stage.mesh.clone().policy(blocking).trust();
    let states = [
        (stage.trust.clone(), None),
        (without("carol"), Some(Class::UnknownAgent)),
        (without("alice"), Some(Class::UnknownAgent)),
        (blocked, Some(Class::Blocked)),
    ];
    let (current, over) = (Mutex::new(0), AtomicBool::new(false));
    let count = AtomicUsize::new(0);
    let decided = std::thread::scope(|scope| {
        let decide = || {
            let mut met = [0u64; 4];
            while !over.load(Ordering::SeqCst) {
                let state = *current.lock().unwrap();
                let (trust, expected) = &states[state];
                let frame = &frames[met.iter().sum::<u64>() as usize % frames.len()];
                let mut guard = ReplayGuard::new(stage.verifier.skew(), None);
                let examined = examine_by(&stage, trust, &guard, frame);
                let verdict = examined.conclude(&mut guard, &mut RateLimiter::default(), stage.now);
                let result = verdict.record(Slot(&mut Vec::new()));
                let class = result.err().map(|refused| refused.rejection.class());
                assert_eq!(class, *expected, "by state {state}");
                met[state] += 1;
                count.fetch_add(1, Ordering::SeqCst);
            }
            met
        };
        let deciders: Vec<_> = (0..4).map(|_| scope.spawn(decide)).collect();
        let mut swaps = 0;
        while swaps < SWAPS || count.load(Ordering::SeqCst) < DECISIONS {
            *current.lock().unwrap() = swaps % states.len();
            swaps += 1;
            std::thread::yield_now();
            if deciders.iter().any(|decider| decider.is_finished()) {
                break;
            }
        }
        over.store(true, Ordering::SeqCst);
        let met = deciders.into_iter().map(|decider| decider.join().unwrap());
        met.fold([0; 4], |sum, met| {
            std::array::from_fn(|state| sum[state] + met[state])
        })
    });
    assert!(decided.iter().all(|count| *count > 10), "{decided:?}");
}
