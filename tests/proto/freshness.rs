//! FR: at most once, and only in time.

use std::sync::Mutex;

use bytes::Bytes;

use trustmesh::proto::limits::TTL_MAX_MS;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::replay::ReplayGuard;
use trustmesh::proto::subject::SubjectPattern;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::verify::Arrival;
use trustmesh::proto::verify::Examined;
use trustmesh::proto::verify::Route;
use trustmesh::proto::verify::Scene;

use crate::forge::ChainSpec;
use crate::forge::Letter;
use crate::forge::NOW;
use crate::forge::Stage;
use crate::forge::Value;
use crate::forge::letter::ISSUED;
use crate::forge::letter::MID;
use crate::forge::letter::TTL;
use crate::forge::stage::Slot;
use crate::forge::value::bin;

const SUBJ: &str = "orders.eu.new";

/// A sender whose chain the stage can verify, and letters under it.
fn sender(stage: &Stage) -> ChainSpec {
    stage.chain(&["carol", "alice"])
}

fn at(chain: &ChainSpec, issued: u64, ttl: u64) -> Letter {
    Letter::publish(chain, SUBJ)
        .set(ISSUED, Value::Uint(issued))
        .set(TTL, Value::Uint(ttl))
}

/// FR-1: the same bytes twice.
#[test]
fn the_same_bytes_are_accepted_once() {
    let mut stage = Stage::default();
    let frame = Letter::publish(&sender(&stage), SUBJ).frame();
    stage.accepts(&frame);
    for later in [0, 1, 5_000, 10_000] {
        stage.now = Timestamp::from_millis(NOW + later);
        assert_eq!(stage.refuses(&frame, Class::Replay).code(), 1201);
    }
}

/// FR-2 and FR-3: bounds are inclusive, widened by the skew, and a millisecond more is too much.
#[test]
fn the_window_is_exact_to_the_millisecond() {
    let mut stage = Stage::default();
    let chain = sender(&stage);
    let skew = stage.verifier.skew().as_millis();
    let ttl = 10_000;
    stage.accepts(&at(&chain, NOW + skew, ttl).frame());
    stage.accepts(&at(&chain, NOW - ttl - skew, ttl).frame());
    stage.refuses(&at(&chain, NOW + skew + 1, ttl).frame(), Class::NotYetValid);
    stage.refuses(
        &at(&chain, NOW - ttl - skew - 1, ttl).frame(),
        Class::Expired,
    );
    stage.refuses(&at(&chain, 0, ttl).frame(), Class::Expired);
    stage.refuses(&at(&chain, u64::MAX - ttl, ttl).frame(), Class::NotYetValid);
    stage.accepts(&at(&chain, NOW, 1).frame());
}

/// FR-4: no lifetime, or one of years.
#[test]
fn endless_envelopes_are_malformed() {
    let mut stage = Stage::default();
    let chain = sender(&stage);
    let most = u64::from(TTL_MAX_MS);
    for ttl in [0, most + 1, 315_360_000_000, u64::from(u32::MAX), u64::MAX] {
        stage.refuses(&at(&chain, NOW, ttl).frame(), Class::Malformed);
    }
    stage.refuses(&at(&chain, u64::MAX, 1).frame(), Class::Malformed);
    let endless = Letter::publish(&chain, SUBJ).set(TTL, Value::Nil);
    stage.refuses(&endless.frame(), Class::Malformed);
    stage.accepts(&at(&chain, NOW, most).frame());
}

/// Examines a frame against the state as it is, as a worker would.
fn examine(stage: &Stage, guard: &ReplayGuard, frame: &Bytes) -> Examined {
    let pattern = SubjectPattern::parse(">").unwrap();
    let arrival = Arrival {
        subject: SUBJ,
        reply: None,
        route: Route::Subscription {
            pattern: &pattern,
            own: &stage.own,
        },
    };
    let scene = Scene {
        now: stage.now,
        trust: &stage.trust,
        sessions: &(),
    };
    stage.verifier.examine(frame, &arrival, &scene, guard)
}

/// FR-5, CC-2: 64 threads examine the same envelope at once, before any of them concludes.
#[test]
fn of_sixty_four_at_once_one_is_accepted() {
    let mut stage = Stage::default();
    let frame = Letter::publish(&sender(&stage), SUBJ).frame();
    let guard = stage.guard.clone();
    let barrier = std::sync::Barrier::new(64);
    let state = Mutex::new((
        std::mem::replace(&mut stage.guard, guard.clone()),
        std::mem::take(&mut stage.rates),
    ));
    let run = || {
        let examined = examine(&stage, &guard, &frame);
        barrier.wait();
        let mut state = state.lock().unwrap();
        let (guard, rates) = &mut *state;
        let mut decisions = Vec::new();
        let verdict = examined.conclude(guard, rates, stage.now);
        let result = verdict.record(Slot(&mut decisions));
        assert_eq!(decisions.len(), 1);
        result
            .map(drop)
            .map_err(|refused| refused.rejection.class())
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..64).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let replays = results
        .iter()
        .filter(|result| **result == Err(Class::Replay));
    assert_eq!(replays.count(), 63);
}

/// FR-5: what was examined in time and concluded too late is refused: the memory of it would
/// already be gone, and a second copy with it.
#[test]
fn what_is_concluded_too_late_is_refused() {
    let mut stage = Stage::default();
    let chain = sender(&stage);
    let frame = Letter::publish(&chain, SUBJ).frame();
    let copies = [(); 2].map(|()| examine(&stage, &stage.guard, &frame));
    let late = stage.now.plus(60_000);
    let mut accepted = 0;
    for copy in copies {
        let mut decisions = Vec::new();
        let verdict = copy.conclude(&mut stage.guard, &mut stage.rates, late);
        let result = verdict.record(Slot(&mut decisions));
        accepted += usize::from(result.is_ok());
        // Another message of the same sender lets the guard forget what has expired.
        stage.now = late;
        stage.accepts(&at(&chain, late.as_millis(), 10_000).frame());
        stage.guard.forget_expired(late);
    }
    assert_eq!(accepted, 0);
}

/// A shuffled order from a fixed seed (xorshift64*).
fn shuffled(len: usize, mut seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    for last in (1..len).rev() {
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        let random = seed.wrapping_mul(0x2545_f491_4f6c_dd1d);
        order.swap(last, (random % (last as u64 + 1)) as usize);
    }
    order
}

/// FR-8: 1e5 deliveries in legal random orders, none taken for a replay; and each of them is one
/// the second time. 2,000 messages issued over 20 s, which is ttl and both skews, arrive in 50
/// orders at 50 receivers.
#[test]
fn legal_reordering_is_no_replay() {
    let stage = Stage::default();
    let chain = sender(&stage);
    let skew = stage.verifier.skew().as_millis();
    let frames: Vec<Bytes> = (0..2_000)
        .map(|n| at(&chain, NOW - 10_000 - skew + n * 10, 10_000).frame())
        .collect();
    let deliver = |seeds: std::ops::Range<u64>| {
        let mut count = 0;
        for seed in seeds {
            let mut stage = Stage::of(stage.mesh.clone());
            for index in shuffled(frames.len(), seed + 1) {
                let outcome = stage.decide(&frames[index], SUBJ, None);
                assert!(outcome.result.is_ok(), "{:?}", outcome.decision.rejection);
                count += 1;
            }
            assert_eq!(stage.guard.len(), frames.len());
            for frame in frames.iter().step_by(100) {
                let again = stage.decide(frame, SUBJ, None).decision.rejection;
                assert_eq!(again.unwrap().class(), Class::Replay);
            }
        }
        count
    };
    let total: usize = std::thread::scope(|scope| {
        let half = scope.spawn(|| deliver(0..25));
        deliver(25..50) + half.join().unwrap()
    });
    assert_eq!(total, 100_000);
}

/// FR-9: a message id of another length is malformed; one used again with other content, subject,
/// chain or lifetime is a replay; another sender may use it.
#[test]
fn a_message_id_is_used_once_by_each_sender() {
    let mut stage = Stage::default();
    let chain = sender(&stage);
    for len in [0, 1, 8, 15, 17, 32] {
        let letter = Letter::publish(&chain, SUBJ).set(MID, bin(vec![9; len]));
        assert_eq!(stage.refuses(&letter.frame(), Class::Malformed).code(), 105);
    }
    let mid = bin([9; 16]);
    stage.accepts(&Letter::publish(&chain, SUBJ).set(MID, mid.clone()).frame());
    let other_chain = stage.chain(&["alice"]);
    for again in [
        Letter::publish(&chain, SUBJ).payload("other"),
        Letter::publish(&chain, "orders.us.new"),
        Letter::publish(&other_chain, SUBJ),
        at(&chain, NOW - 1, 20_000),
        Letter::request(&chain, SUBJ),
    ] {
        let frame = again.set(MID, mid.clone()).frame();
        assert_eq!(stage.refuses(&frame, Class::Replay).code(), 1201);
    }
    let carol = stage.chain(&["carol"]);
    stage.accepts(&Letter::publish(&carol, SUBJ).set(MID, mid).frame());
}

/// After a restart without memory, what could have been accepted before it is refused.
#[test]
fn what_may_have_been_accepted_before_a_restart_is_refused() {
    let mut stage = Stage::default();
    let chain = sender(&stage);
    stage.guard = ReplayGuard::new(stage.verifier.skew(), Some(Timestamp::from_millis(NOW - 1)));
    let refusal = stage.refuses(&at(&chain, NOW - 1, 10_000).frame(), Class::Replay);
    assert_eq!(refusal.code(), 1202);
    stage.accepts(&at(&chain, NOW, 10_000).frame());
}

/// DO-5, in small: a sender who fills its share is refused, and nobody else is.
#[test]
fn a_full_memory_refuses_and_forgets_nothing() {
    let mut stage = Stage::default();
    stage.guard = ReplayGuard::new(stage.verifier.skew(), None).with_capacity(3, 100);
    let (alice, carol) = (sender(&stage), stage.chain(&["carol"]));
    stage.probe = None;
    let first = Letter::publish(&alice, SUBJ).frame();
    stage.accepts(&first);
    stage.accepts(&Letter::publish(&alice, SUBJ).frame());
    stage.accepts(&Letter::publish(&alice, SUBJ).frame());
    let frame = Letter::publish(&alice, SUBJ).frame();
    assert_eq!(stage.refuses(&frame, Class::Overloaded).code(), 2401);
    stage.accepts(&Letter::publish(&carol, SUBJ).frame());
    stage.refuses(&first, Class::Replay);
}
