//! Scores: what the arithmetic promises, whatever happens in which order (group TS).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use proptest::prelude::*;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::policy::InvalidPolicy;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::score::CauseKind;
use trustmesh::proto::score::HISTORY;
use trustmesh::proto::score::InvalidParameters;
use trustmesh::proto::score::Ledger;
use trustmesh::proto::score::LedgerFull;
use trustmesh::proto::score::Misbehaviour;
use trustmesh::proto::score::Parameters;
use trustmesh::proto::score::Penalties;
use trustmesh::proto::score::Sponsor;
use trustmesh::proto::score::Weights;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::time::Timestamp;

const HOUR: u64 = 3_600_000;
const TEN_YEARS: u64 = 10 * 366 * 24 * HOUR;
const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn id(name: &str) -> AgentId {
    AgentId::parse(name).unwrap()
}

fn evidence() -> ObjectId {
    ObjectId([9; 32])
}

fn parameters(change: impl FnOnce(&mut Weights)) -> Result<Parameters, InvalidParameters> {
    let mut weights = Weights::default();
    change(&mut weights);
    Parameters::new(weights)
}

fn ledger() -> Ledger {
    Ledger::new(Parameters::default())
}

/// What can happen to an agent.
#[derive(Clone, Copy, Debug)]
enum Event {
    Bad(usize),
    Credit,
    Endorse,
    Return,
    Look,
}

impl Event {
    fn is_positive(self) -> bool {
        matches!(self, Self::Credit | Self::Endorse)
    }

    fn happen(self, ledger: &mut Ledger, agent: &AgentId, now: Timestamp) {
        match self {
            Self::Bad(kind) => {
                let kind = Misbehaviour::ALL[kind % Misbehaviour::ALL.len()];
                ledger
                    .penalise(agent, kind, (evidence(), &id("reporter")), now)
                    .unwrap();
            }
            Self::Credit => drop(ledger.credit(agent, now)),
            Self::Endorse => drop(ledger.endorse(&id("friend"), agent, now)),
            Self::Return => {
                ledger.deregister(agent, now);
                ledger.register(agent, Sponsor::Operator, now).unwrap();
            }
            Self::Look => drop(ledger.scores(now)),
        }
    }
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0usize..3).prop_map(Event::Bad),
        4 => Just(Event::Credit),
        2 => Just(Event::Endorse),
        1 => Just(Event::Return),
        3 => Just(Event::Look),
    ]
}

/// Pauses from none to days; most about as long as what they have to be compared with.
fn pauses() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1u64..5_000, HOUR - 5..HOUR + 5, 0..100 * HOUR]
}

/// A ledger with an agent, and a friend who stands higher.
fn two() -> (Ledger, AgentId) {
    let mut ledger = ledger();
    let agent = id("agent");
    ledger.register(&agent, Sponsor::Operator, START).unwrap();
    let friend = id("friend");
    ledger.register(&friend, Sponsor::Operator, START).unwrap();
    for hour in 1..=40 {
        ledger.credit(&friend, START.plus(hour * HOUR));
    }
    (ledger, agent)
}

proptest! {
    /// The decay property: whoever looks in between, and however often, finds the same scores.
    #[test]
    fn any_schedule_of_evaluations_gives_the_same_score(
        steps in proptest::collection::vec((pauses(), events()), 0..60),
        looks in proptest::collection::vec(0u64..200 * HOUR, 0..20),
        end in 0..TEN_YEARS,
    ) {
        let (mut seldom, agent) = two();
        let mut often = seldom.clone();
        let mut now = START.plus(40 * HOUR);
        for (pause, event) in steps {
            now = now.plus(pause);
            for look in &looks {
                let between = now.minus(look % (pause + 1));
                often.scores(between);
                let (agents, stored) = (often.len(), often.to_bytes());
                often = Ledger::restore(&stored, Parameters::default()).unwrap();
                prop_assert_eq!(often.len(), agents);
            }
            event.happen(&mut seldom, &agent, now);
            event.happen(&mut often, &agent, now);
        }
        for look in looks {
            often.reconfigure(Parameters::default(), now.plus(look.min(end)));
        }
        let now = now.plus(end);
        prop_assert_eq!(seldom.scores(now), often.scores(now));
    }

    /// TS-2: without positive evidence a score never rises, stays at or above the floor, and ten
    /// idle years neither underflow it nor lift it.
    #[test]
    fn a_score_does_not_rise_by_itself(
        steps in proptest::collection::vec((pauses(), events()), 0..60),
        floor in 0u16..=500,
    ) {
        let weights = Weights { floor, ..Weights::default() };
        let (mut ledger, agent) = two();
        ledger.reconfigure(Parameters::new(weights).unwrap(), START);
        let mut now = START.plus(40 * HOUR);
        let mut last = ledger.score(&agent, now).unwrap();
        for (pause, event) in steps {
            now = now.plus(pause);
            let idle = ledger.score(&agent, now).unwrap();
            prop_assert!(idle <= last);
            event.happen(&mut ledger, &agent, now);
            last = ledger.score(&agent, now).unwrap();
            prop_assert!(event.is_positive() || last <= idle, "{event:?}");
            prop_assert!((floor..=1_000).contains(&last));
        }
        let later = ledger.score(&agent, now.plus(TEN_YEARS)).unwrap();
        prop_assert!((floor..=last).contains(&later));
        prop_assert_eq!(ledger.score(&agent, Timestamp::from_millis(u64::MAX)), Some(later));
    }

    /// TS-5: whatever somebody did, leaving and coming back never helps.
    #[test]
    fn coming_back_never_raises_a_score(
        steps in proptest::collection::vec((pauses(), events()), 0..40),
        away in pauses(),
        sponsor in prop_oneof![Just(None), Just(Some("friend")), Just(Some("agent")), Just(Some("nobody"))],
    ) {
        let (mut ledger, agent) = two();
        let mut now = START.plus(40 * HOUR);
        for (pause, event) in steps {
            now = now.plus(pause);
            event.happen(&mut ledger, &agent, now);
        }
        let mut stayed = ledger.clone();
        ledger.deregister(&agent, now);
        prop_assert!(!ledger.scores(now).contains_key(&agent));
        now = now.plus(away);
        let sponsor = sponsor.map(id);
        let sponsor = sponsor.as_ref().map_or(Sponsor::Operator, Sponsor::Agent);
        let back = ledger.register(&agent, sponsor, now).unwrap();
        prop_assert!(Some(back) <= stayed.score(&agent, now));
        // Nor is credit due any sooner.
        let change = ledger.credit(&agent, now).is_some();
        prop_assert!(!change || stayed.credit(&agent, now).is_some());
    }

    /// TS-9: a finding costs more than any reward brings, down to the floor.
    #[test]
    fn a_score_falls_faster_than_it_rises(
        steps in proptest::collection::vec((pauses(), events()), 0..60),
    ) {
        let (mut ledger, agent) = two();
        let mut now = START.plus(40 * HOUR);
        for (pause, event) in steps {
            now = now.plus(pause);
            let before = ledger.score(&agent, now).unwrap();
            let bad = ledger
                .clone()
                .penalise(&agent, Misbehaviour::MalformedContent, (evidence(), &id("reporter")), now)
                .unwrap();
            prop_assert!(before - bad.after >= before.min(50));
            if let Some(change) = ledger.clone().credit(&agent, now) {
                prop_assert!(change.after - before <= 25);
            }
            event.happen(&mut ledger, &agent, now);
        }
    }

    /// TS-10: a clock that jumps ahead or back raises nothing.
    #[test]
    fn a_jump_of_the_clock_raises_no_score(
        steps in proptest::collection::vec((pauses(), events()), 0..40),
        jump in prop_oneof![Just(HOUR), 0..2 * HOUR],
        back: bool,
    ) {
        let (mut ledger, agent) = two();
        let mut now = START.plus(40 * HOUR);
        for (pause, event) in steps {
            now = now.plus(pause);
            event.happen(&mut ledger, &agent, now);
        }
        let before = ledger.scores(now)[&agent];
        let jumped = if back { now.minus(jump) } else { now.plus(jump) };
        prop_assert!(ledger.score(&agent, jumped).unwrap() <= before);
        for event in [Event::Look, Event::Return, Event::Bad(0)] {
            let mut ledger = ledger.clone();
            event.happen(&mut ledger, &agent, jumped);
            prop_assert!(ledger.score(&agent, jumped).unwrap() <= before);
            prop_assert!(ledger.score(&agent, now).unwrap() <= before);
        }
    }

    /// What is stored comes back to the unit, and nothing else is read.
    #[test]
    fn a_stored_ledger_comes_back_exactly(
        steps in proptest::collection::vec((pauses(), events()), 0..60),
        flip in any::<proptest::sample::Index>(),
        mask in 1u8..=255,
    ) {
        let (mut ledger, agent) = two();
        let mut now = START.plus(40 * HOUR);
        for (pause, event) in steps {
            now = now.plus(pause);
            event.happen(&mut ledger, &agent, now);
        }
        let bytes = ledger.to_bytes();
        let back = Ledger::restore(&bytes, Parameters::default()).unwrap();
        prop_assert_eq!(&back, &ledger);
        let mut other = bytes.to_vec();
        other[flip.index(bytes.len())] ^= mask;
        if let Ok(read) = Ledger::restore(&other.clone().into(), Parameters::default()) {
            // Whatever is read was the one encoding of it, but for parameters that are not in use.
            let score = read.score(&agent, now).unwrap_or_default();
            prop_assert!(score <= 1_000);
        }
        prop_assert!(Ledger::restore(&bytes.slice(1..), Parameters::default()).is_err());
        prop_assert!(Ledger::restore(&bytes.slice(..bytes.len() - 1), Parameters::default()).is_err());
    }
}

/// TS-3: what is out of range, overflows or is no whole number cannot be configured.
#[test]
fn unsound_parameters_are_a_configuration_error() {
    use InvalidParameters as Invalid;
    type Change = fn(&mut Weights);
    let cases: [(Change, Invalid); 16] = [
        (|w| w.lapse_s = 0, Invalid::Lapse),
        (|w| w.lapse_s = u32::MAX, Invalid::Lapse),
        (|w| w.quiet_ms = 0, Invalid::Quiet),
        (|w| w.quiet_ms = u64::MAX, Invalid::Quiet),
        (|w| w.start = 1_001, Invalid::Points),
        (|w| w.start = u16::MAX, Invalid::Points),
        (|w| w.alarm = 1_001, Invalid::Points),
        (|w| w.floor = 501, Invalid::Points),
        (|w| w.earned_max = u16::MAX, Invalid::Sum),
        (|w| w.endorsed_max = 201, Invalid::Sum),
        (|w| w.penalty.scope_exceeded = 0, Invalid::Penalty),
        (|w| w.penalty.depth_exceeded = u32::MAX, Invalid::Penalty),
        (|w| w.penalty.malformed_content = 1, Invalid::Reward),
        (|w| w.reward = 25_001, Invalid::Reward),
        (|w| w.reward = u32::MAX, Invalid::Reward),
        (|w| w.endorsement = u32::MAX, Invalid::Endorsement),
    ];
    for (change, expected) in cases {
        assert_eq!(parameters(change), Err(expected));
    }
    for json in [
        r#"{ "lapse_s": 0 }"#,
        r#"{ "lapse_s": 0.5 }"#,
        r#"{ "lapse_s": 3600.0 }"#,
        r#"{ "lapse_s": 1e3 }"#,
        r#"{ "lapse_s": 1e400 }"#,
        r#"{ "lapse_s": NaN }"#,
        r#"{ "lapse_s": Infinity }"#,
        r#"{ "lapse_s": -1 }"#,
        r#"{ "lapse_s": "3600" }"#,
        r#"{ "lapse_s": null }"#,
        r#"{ "half_life": 3600 }"#,
        r#"{ "penalty": { "scope_exceeded": 18446744073709551616 } }"#,
        r#"{ "penalty": { "rudeness": 1000 } }"#,
        r#"{ "start": 400, "start": 500 }"#,
    ] {
        assert!(serde_json::from_str::<Parameters>(json).is_err(), "{json}");
    }
    let sound = r#"{ "start": 400, "penalty": { "scope_exceeded": 200000 } }"#;
    let sound: Parameters = serde_json::from_str(sound).unwrap();
    assert_eq!(sound.weights().penalty.scope_exceeded, 200_000);
}

/// TS-3: a threshold that is no whole number is no threshold; the policy is refused as a whole.
#[test]
fn a_threshold_that_is_no_whole_number_is_refused() {
    for score in ["NaN", "1e400", "0.5", "-1", "1001", "null_"] {
        let json = format!(
            r#"{{ "rules": [ {{ "name": "r", "effect": "allow", "actions": ["pub"],
                 "subjects": ">", "min_score": {score} }} ] }}"#
        );
        let refused = Policy::from_json(&json).unwrap_err();
        assert!(
            matches!(refused, InvalidPolicy::Form(_) | InvalidPolicy::Range(_)),
            "{score}"
        );
    }
}

/// TS-4: a restart of the scorer keeps every score, and an agent that keeps crashing and
/// registering anew neither gains nor loses by it.
#[test]
fn restarts_keep_scores() {
    let (mut ledger, agent) = two();
    let now = START.plus(40 * HOUR);
    ledger
        .penalise(
            &agent,
            Misbehaviour::ScopeExceeded,
            (evidence(), &id("reporter")),
            now,
        )
        .unwrap();
    let mut steady = ledger.clone();
    for crash in 0..1_000 {
        ledger = Ledger::restore(&ledger.to_bytes(), Parameters::default()).unwrap();
        let again = ledger.register(&agent, Sponsor::Operator, now.plus(crash));
        assert_eq!(again, Ok(400));
        assert!(ledger.credit(&agent, now.plus(crash)).is_none());
    }
    let later = now.plus(HOUR);
    assert_eq!(ledger.scores(later), steady.scores(later));
    assert_eq!(ledger.history(&agent).count(), HISTORY);
}

/// TS-5: a penalty outlives the registration, and comes off no sooner for having been away.
#[test]
fn a_penalty_survives_deregistration() {
    let mut ledger = ledger();
    let agent = id("agent");
    ledger.register(&agent, Sponsor::Operator, START).unwrap();
    for _ in 0..3 {
        ledger
            .penalise(
                &agent,
                Misbehaviour::DepthExceeded,
                (evidence(), &id("reporter")),
                START,
            )
            .unwrap();
    }
    ledger.deregister(&agent, START);
    assert!(ledger.credit(&agent, START.plus(TEN_YEARS)).is_none());
    let back = ledger.register(&agent, Sponsor::Operator, START.plus(TEN_YEARS));
    assert_eq!(back, Ok(200));
}

/// TS-5: memory is bounded, and a penalty is not what makes room.
#[test]
fn a_full_ledger_forgets_no_penalty() {
    let mut ledger = Ledger::new(Parameters::default()).with_capacity(3);
    let [bad, low, gone, new, more] = ["bad", "low", "gone", "new", "more"].map(id);
    for agent in [&bad, &gone] {
        ledger.register(agent, Sponsor::Operator, START).unwrap();
    }
    ledger
        .penalise(
            &bad,
            Misbehaviour::ScopeExceeded,
            (evidence(), &id("reporter")),
            START,
        )
        .unwrap();
    ledger.register(&low, Sponsor::Agent(&bad), START).unwrap();
    for agent in [&bad, &low, &gone] {
        ledger.deregister(agent, START);
    }
    let later = START.plus(TEN_YEARS);
    assert_eq!(ledger.register(&new, Sponsor::Operator, later), Ok(500));
    assert_eq!(ledger.score(&gone, later), None);
    assert_eq!(
        ledger.register(&more, Sponsor::Operator, later),
        Err(LedgerFull)
    );
    assert_eq!(ledger.register(&bad, Sponsor::Operator, later), Ok(400));
    assert_eq!(ledger.register(&low, Sponsor::Operator, later), Ok(400));
}

/// A sponsor gives no more than it has, and none can be had from strangers.
#[test]
fn a_new_agent_starts_no_higher_than_its_sponsor() {
    let (mut ledger, agent) = two();
    let now = START.plus(40 * HOUR);
    ledger
        .penalise(
            &agent,
            Misbehaviour::ScopeExceeded,
            (evidence(), &id("reporter")),
            now,
        )
        .unwrap();
    let mut start = |name: &str, sponsor: &str| {
        let sponsor = id(sponsor);
        let score = ledger.register(&id(name), Sponsor::Agent(&sponsor), now);
        score.unwrap()
    };
    assert_eq!(start("child", "agent"), 400);
    assert_eq!(start("grandchild", "child"), 400);
    assert_eq!(start("protege", "friend"), 500); // the friend stands higher: the start is the start
    assert_eq!(start("orphan", "nobody"), 0);
    assert_eq!(start("self-made", "self-made"), 0);
}

/// TS-6: fifty new agents that endorse one another stay where they began, and together with an
/// elder they get no further than the cap.
#[test]
fn mutual_endorsement_lifts_nobody() {
    let (mut ledger, _) = two();
    let mut now = START.plus(40 * HOUR);
    let friend = ledger.score(&id("friend"), now).unwrap();
    let ring: Vec<_> = (0..50).map(|n| id(&format!("new-{n}"))).collect();
    for agent in &ring {
        ledger.register(agent, Sponsor::Operator, now).unwrap();
    }
    for _ in 0..10 {
        for (from, to) in ring.iter().flat_map(|a| ring.iter().map(move |b| (a, b))) {
            assert!(ledger.endorse(from, to, now).is_none());
        }
        now = now.plus(1);
    }
    for agent in &ring {
        for _ in 0..100 {
            ledger.endorse(&id("friend"), agent, now);
        }
    }
    for (from, to) in ring.iter().flat_map(|a| ring.iter().map(move |b| (a, b))) {
        ledger.endorse(from, to, now);
    }
    for agent in &ring {
        let score = ledger.score(agent, now).unwrap();
        assert_eq!(score, 600.min(friend), "the cap, and the elder's own score");
        // Lent standing is no standing to lend of, and it is gone with the first finding.
        let bad = ledger.penalise(
            agent,
            Misbehaviour::ScopeExceeded,
            (evidence(), &id("reporter")),
            now,
        );
        assert_eq!(bad.unwrap().after, 400);
        assert!(ledger.endorse(&id("friend"), agent, now).is_none());
    }
}

/// TS-7: 64 tasks of 10,000 updates each leave exactly what they add up to.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_updates_add_up_exactly() {
    let fine = parameters(|w| {
        w.penalty = Penalties {
            scope_exceeded: 1,
            depth_exceeded: 2,
            malformed_content: 1,
        };
        w.reward = 0;
        w.start = 1_000;
        (w.earned_max, w.endorsed_max) = (0, 0);
    });
    let ledger = Arc::new(Mutex::new(Ledger::new(fine.unwrap())));
    let agents = [id("first"), id("second")];
    for agent in &agents {
        let mut ledger = ledger.lock().unwrap();
        ledger.register(agent, Sponsor::Operator, START).unwrap();
    }
    let tasks: Vec<_> = (0..64)
        .map(|task: u64| {
            let (ledger, agents) = (ledger.clone(), agents.clone());
            tokio::spawn(async move {
                for update in 0..10_000 {
                    let agent = &agents[(update % 2) as usize];
                    let kind = Misbehaviour::ALL[(update / 2 % 2) as usize];
                    let now = START.plus(task * 10_000 + update);
                    let mut ledger = ledger.lock().unwrap();
                    ledger
                        .penalise(agent, kind, (evidence(), &id("reporter")), now)
                        .unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    // 320,000 findings each, half at one thousandth and half at two: 480 points.
    let expected = BTreeMap::from(agents.map(|agent| (agent, 520)));
    assert_eq!(ledger.lock().unwrap().scores(START), expected);
}

/// TS-9: who misbehaves between good deeds is below the threshold after as many findings as stated.
#[test]
fn alternation_ends_below_the_threshold() {
    let threshold = 200;
    let most = Parameters::default().patience(threshold).unwrap();
    let mut ledger = ledger();
    let agent = id("agent");
    ledger.register(&agent, Sponsor::Operator, START).unwrap();
    let mut now = START;
    let mut findings = 0;
    while ledger.score(&agent, now).unwrap() >= threshold {
        let kind = Misbehaviour::MalformedContent;
        ledger
            .penalise(&agent, kind, (evidence(), &id("reporter")), now)
            .unwrap();
        findings += 1;
        // A good deed right after it is worth nothing; one after the quiet time is.
        assert!(ledger.credit(&agent, now.plus(HOUR - 1)).is_none());
        now = now.plus(HOUR);
        if ledger.score(&agent, now).unwrap() >= threshold {
            assert!(ledger.credit(&agent, now).is_some());
        }
    }
    assert!(findings <= most + 1, "{findings} of {most}");
    assert_eq!((most, findings), (6, 7));
}

/// TS-10: a clock that is an hour ahead for a moment brings no more credit than the hour would have.
#[test]
fn a_jump_ahead_brings_no_more_than_time_does() {
    let run = |jumps: bool| {
        let mut ledger = ledger();
        let agent = id("agent");
        ledger.register(&agent, Sponsor::Operator, START).unwrap();
        for minute in 0..60 * 48u64 {
            let now = START.plus(minute * 60_000);
            let ahead = jumps && minute % 7 == 0;
            let shown = if ahead { now.plus(HOUR) } else { now };
            ledger.credit(&agent, shown);
            ledger.credit(&agent, shown.minus(2 * HOUR));
        }
        ledger.score(&agent, START.plus(49 * HOUR)).unwrap()
    };
    // One reward may come an hour early; none comes twice.
    let (steady, jumping) = (run(false), run(true));
    assert!(
        jumping <= steady + 5,
        "{jumping} after jumps, {steady} without"
    );
}

/// Credit heals penalties before anything is earned, never beyond the cap, and at most once in a
/// quiet time, however long nothing came.
#[test]
fn credit_heals_first_and_is_rationed() {
    let mut ledger = ledger();
    let agent = id("agent");
    ledger.register(&agent, Sponsor::Operator, START).unwrap();
    ledger
        .penalise(
            &agent,
            Misbehaviour::MalformedContent,
            (evidence(), &id("reporter")),
            START,
        )
        .unwrap();
    let mut now = START.plus(1_000 * HOUR);
    assert_eq!(ledger.credit(&agent, now).unwrap().after, 455);
    assert!(ledger.credit(&agent, now).is_none());
    for _ in 0..9 {
        now = now.plus(HOUR);
        ledger.credit(&agent, now).unwrap();
    }
    assert_eq!(ledger.score(&agent, now), Some(500));
    for _ in 0..1_000 {
        now = now.plus(HOUR);
        ledger.credit(&agent, now).unwrap();
    }
    assert_eq!(ledger.score(&agent, now), Some(800));
    assert_eq!(ledger.score(&agent, now.plus(300 * HOUR)), Some(500));
    let causes: Vec<_> = ledger.history(&agent).collect();
    assert_eq!(causes.len(), HISTORY);
    assert!(causes.iter().all(|cause| cause.kind == CauseKind::Credited));
}

/// A finding is told apart from others in the history, with what proves it, and the first fall
/// below the alarm is told.
#[test]
fn history_names_causes_and_evidence() {
    let mut ledger = ledger();
    let agent = id("agent");
    let reporter = id("reporter");
    ledger.register(&agent, Sponsor::Operator, START).unwrap();
    let mut alarms = 0;
    for n in 1..=5 {
        let proof = ObjectId([n; 32]);
        let kind = Misbehaviour::ScopeExceeded;
        let change = ledger
            .penalise(&agent, kind, (proof, &reporter), START)
            .unwrap();
        alarms += u32::from(change.alarm);
        let last = ledger.history(&agent).last().unwrap();
        assert_eq!(last.kind, CauseKind::Misbehaved(kind));
        assert_eq!(last.evidence, Some(proof));
        assert_eq!((last.milli, last.score), (100_000, change.after));
        assert_eq!(last.before, Some(change.before));
        assert_eq!(last.by, Some(reporter.clone()));
    }
    assert_eq!(alarms, 1);
    let first = ledger.history(&agent).next().unwrap();
    assert_eq!(first.kind, CauseKind::Registered);
    assert_eq!((first.before, &first.by), (None, &None));
    let read = Ledger::restore(&ledger.to_bytes(), Parameters::default());
    assert_eq!(read.unwrap(), ledger);
}

/// Every step of a score is there: what is missing between one cause and the next, time took.
#[test]
fn a_history_leaves_no_step_out() {
    let (mut ledger, agent) = two();
    let (friend, child) = (id("friend"), id("child"));
    let now = START.plus(40 * HOUR);
    ledger
        .register(&child, Sponsor::Agent(&friend), now)
        .unwrap();
    assert!(ledger.endorse(&friend, &child, now).is_some());
    let parameters = parameters(|w| w.start = 300).unwrap();
    ledger.reconfigure(parameters, now.plus(2 * HOUR));
    ledger.reconfigure(parameters, now.plus(3 * HOUR));
    let last = ledger.history(&agent).last().unwrap();
    assert_eq!((last.kind, &last.by), (CauseKind::Reconfigured, &None));
    let causes: Vec<_> = ledger.history(&child).collect();
    let kinds: Vec<_> = causes.iter().map(|cause| cause.kind).collect();
    let expected = [
        CauseKind::Registered,
        CauseKind::Endorsed,
        CauseKind::Reconfigured,
    ];
    assert_eq!(kinds, expected);
    assert_eq!(causes[0].by, Some(friend.clone()));
    assert_eq!(causes[1].by, Some(friend));
    for pair in causes.windows(2) {
        assert!(pair[1].before.unwrap() <= pair[0].score, "{pair:?}");
    }
}

/// Other parameters lift nobody, whatever they make of the pace at which standing lapses.
#[test]
fn new_parameters_lift_nobody() {
    let (mut ledger, agent) = two();
    let now = START.plus(40 * HOUR);
    ledger
        .penalise(
            &agent,
            Misbehaviour::ScopeExceeded,
            (evidence(), &id("reporter")),
            now,
        )
        .unwrap();
    let before = ledger.scores(now);
    for (start, lapse_s, earned_max) in [(600, 1, 300), (500, 2_592_000, 300), (700, 7, 100)] {
        let other = parameters(|w| {
            (w.start, w.lapse_s, w.earned_max) = (start, lapse_s, earned_max);
        });
        ledger.reconfigure(other.unwrap(), now);
        for (agent, score) in &before {
            assert!(ledger.score(agent, now).unwrap() <= *score);
        }
    }
}

/// A ledger of another version, or with anything out of order, is not read.
#[test]
fn odd_ledgers_are_refused() {
    let (ledger, _) = two();
    let good = ledger.to_bytes();
    let restore = |bytes: Vec<u8>| Ledger::restore(&bytes.into(), Parameters::default());
    let mut version = good.to_vec();
    version[1] = 2;
    let refused = restore(version).unwrap_err();
    assert_eq!(refused.class(), Class::UnsupportedVersion);
    let mut trailing = good.to_vec();
    trailing.push(0);
    assert_eq!(restore(trailing).unwrap_err().class(), Class::Malformed);
}
