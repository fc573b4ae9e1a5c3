//! Circuit breakers: when a key is no longer listened to, and for how long (group DO).

use trustmesh::proto::breaker::Breaker;
use trustmesh::proto::breaker::Conduct;
use trustmesh::proto::breaker::Parameters;
use trustmesh::proto::breaker::Settings;
use trustmesh::proto::breaker::Turn;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::limits::BREAKER_KEYS;
use trustmesh::proto::limits::BREAKER_SIGHTINGS;
use trustmesh::proto::policy::Scoring;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::replay::MessageId;
use trustmesh::proto::time::Timestamp;

const KEY: KeyBytes = KeyBytes([1; 32]);
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// A receiver with messages of one key, each new unless said otherwise.
#[derive(Default)]
struct Desk {
    breaker: Breaker,
    parameters: Parameters,
    count: u64,
}

impl Desk {
    fn say(&mut self, bad: bool, mid: u64, now: Timestamp) -> Option<Turn> {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&mid.to_be_bytes());
        let conduct = Conduct {
            key: KEY,
            mid: MessageId(id),
            bad,
        };
        self.breaker.observe(&conduct, &self.parameters, now)
    }

    fn hear(&mut self, bad: bool, now: Timestamp) -> Option<Turn> {
        self.count += 1;
        self.say(bad, self.count, now)
    }

    fn listens(&self, now: Timestamp) -> bool {
        match self.breaker.check(&KEY, now) {
            Ok(()) => true,
            Err(rejection) => {
                assert_eq!(
                    (rejection.class(), rejection.code()),
                    (Class::Blocked, 1904)
                );
                false
            }
        }
    }

    /// So many bad messages until the key is quarantined, and until when.
    fn trip(&mut self, now: Timestamp) -> (u32, Timestamp) {
        for said in 1..1_000 {
            if let Some(Turn::Quarantined { until, .. }) = self.hear(true, now) {
                return (said, until);
            }
        }
        panic!("the breaker does not trip");
    }
}

/// DO-10: what is mostly bad is quarantined, released in time, and sooner and longer the next time.
#[test]
fn a_mostly_bad_key_is_quarantined_and_released() {
    let mut desk = Desk::default();
    assert_eq!(desk.trip(NOW), (20, NOW.plus(60_000)));
    assert!(!desk.listens(NOW) && !desk.listens(NOW.plus(59_999)));
    // What comes meanwhile prolongs nothing.
    assert_eq!(desk.hear(true, NOW.plus(30_000)), None);
    assert!(
        desk.breaker
            .release(&desk.parameters, NOW.plus(59_999))
            .is_empty()
    );
    let free = NOW.plus(60_000);
    assert!(desk.listens(free));
    let released = desk.breaker.release(&desk.parameters, free);
    assert_eq!(released, [Turn::Released { key: KEY }]);
    // On probation.
    assert_eq!(desk.trip(free), (3, free.plus(120_000)));
    let free = free.plus(120_000);
    desk.breaker.release(&desk.parameters, free);
    assert_eq!(desk.trip(free), (3, free.plus(240_000)));
    // Passed.
    let free = free.plus(240_000);
    desk.breaker.release(&desk.parameters, free);
    let later = free.plus(600_000);
    assert_eq!(desk.trip(later), (20, later.plus(60_000)));
}

/// However often it relapses, a quarantine lasts no longer than the longest.
#[test]
fn quarantine_has_a_longest() {
    let mut desk = Desk::default();
    let mut now = NOW;
    for _ in 0..100 {
        let (_, until) = desk.trip(now);
        assert!(until.since(now) <= 3_600_000);
        now = until;
        desk.breaker.release(&desk.parameters, now);
    }
}

/// Copies of a bad message count once, as long as they can be delivered.
#[test]
fn copies_count_once() {
    let mut desk = Desk::default();
    for second in 0..160 {
        for _ in 0..100 {
            assert_eq!(desk.say(true, 7, NOW.plus(second * 1_000)), None);
        }
    }
    assert!(desk.listens(NOW.plus(160_000)));
}

/// A peer that is mostly good is heard, whatever the order.
#[test]
fn mostly_good_is_heard() {
    let mut desk = Desk::default();
    for n in 0..BREAKER_SIGHTINGS as u64 {
        let now = NOW.plus(n * 10);
        assert_eq!(desk.hear(true, now), None, "{n}");
        for _ in 0..2 {
            desk.hear(false, now);
        }
    }
    // But so many within the lifetime of a message are no accident.
    let now = NOW.plus(3_000);
    assert!(matches!(
        desk.hear(true, now),
        Some(Turn::Quarantined { .. })
    ));
    // A few every now and then are.
    let mut desk = Desk::default();
    for n in 0..2_000 {
        assert_eq!(desk.hear(true, NOW.plus(n * 1_100)), None, "{n}");
    }
}

/// Good peers cost nothing, and the memory for bad ones is bounded.
#[test]
fn memory_is_bounded() {
    let mut desk = Desk::default();
    for _ in 0..1_000 {
        desk.hear(false, NOW);
    }
    assert!(desk.breaker.is_empty());
    let bad = |n: usize| {
        let mut key = [2; 32];
        key[..8].copy_from_slice(&(n as u64).to_be_bytes());
        Conduct {
            key: KeyBytes(key),
            mid: MessageId([0; 16]),
            bad: true,
        }
    };
    desk.trip(NOW);
    for n in 0..2 * BREAKER_KEYS {
        desk.breaker.observe(&bad(n), &desk.parameters, NOW);
    }
    assert_eq!(desk.breaker.len(), BREAKER_KEYS);
    assert!(!desk.listens(NOW), "what is quarantined stays");
    let later = NOW.plus(200_000);
    desk.breaker
        .observe(&bad(3 * BREAKER_KEYS), &desk.parameters, later);
    assert!(desk.breaker.len() <= 2, "what has been quiet makes room");
}

/// What is out of range cannot be configured, and what can comes back from a policy as it was.
#[test]
fn settings_are_checked() {
    type Change = fn(&mut Settings);
    let odd: [Change; 9] = [
        |s| s.window_ms = 999,
        |s| s.window_ms = u64::MAX,
        |s| s.bad_least = 0,
        |s| s.bad_least = 257,
        |s| s.bad_percent = 0,
        |s| s.bad_percent = 101,
        |s| s.quarantine_ms = 0,
        |s| s.quarantine_max_ms = u64::MAX,
        |s| s.probation_bad = 21,
    ];
    for change in odd {
        let mut settings = Settings::default();
        change(&mut settings);
        assert!(Parameters::new(settings).is_err(), "{settings:?}");
    }
    let scoring: Scoring = serde_json::from_str(
        r#"{ "scores": { "reward": 1 }, "quarantine": { "bad_percent": 90 } }"#,
    )
    .unwrap();
    let bytes = scoring.to_bytes();
    assert_eq!(Scoring::from_bytes(&bytes), Ok(scoring));
    assert!(Scoring::from_bytes(&bytes.slice(..bytes.len() - 1)).is_err());
    for odd in [
        r#"{ "quarantine": { "bad_percent": 0.5 } }"#,
        r#"{ "quarantine": { "badness": 5 } }"#,
        r#"{ "score": {} }"#,
    ] {
        assert!(serde_json::from_str::<Scoring>(odd).is_err(), "{odd}");
    }
}
