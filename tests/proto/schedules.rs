//! CC-2, model checked: what is decided at once, in every order in which its steps can fall.
//!
//! A decision looks at the memory twice: while the message is examined, which changes nothing, and
//! when it is concluded. Each look holds the lock for all of it, so no scheduler can divide one,
//! and the orders of the looks are all there is. Here is every one of them, for four decisions.

use bytes::Bytes;

use trustmesh::proto::rejection::Class;
use trustmesh::proto::replay::ReplayGuard;
use trustmesh::proto::subject::SubjectPattern;
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
        trust: &stage.trust,
        sessions: &(),
    };
    stage
        .verifier
        .examine(frame, &arrival, &scene, &stage.guard)
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
