//! What a policy says of conduct, number by number, under the names of the policy file.

use trustmesh::proto::breaker::Settings;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::score::Penalties;
use trustmesh::proto::score::Weights;

/// A section of a policy file.
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// Its numbers, all of them.
    pub numbers: Vec<Number>,
}

/// A number of a section.
pub struct Number {
    /// Its name.
    pub name: &'static str,
    /// What the policy says.
    pub value: u64,
    /// What a policy says that says nothing.
    pub default: u64,
}

/// How scores are computed.
pub fn scores(policy: &Policy) -> Section {
    let values = weights(policy.scores().weights());
    Section::new("scores", values, weights(&Weights::default()))
}

/// When a key is quarantined.
pub fn quarantine(policy: &Policy) -> Section {
    let values = settings(policy.quarantine().settings());
    Section::new("quarantine", values, settings(&Settings::default()))
}

/// The sections that say something other than the defaults.
pub fn said(policy: &Policy) -> impl Iterator<Item = Section> {
    let sections = [scores(policy), quarantine(policy)];
    let says = |section: &Section| section.changed().next().is_some();
    sections.into_iter().filter(says)
}

impl Section {
    fn new<const N: usize>(name: &'static str, values: Named<N>, defaults: Named<N>) -> Self {
        let pairs = values.into_iter().zip(defaults);
        let numbers = pairs.map(|((name, value), (_, default))| Number {
            name,
            value,
            default,
        });
        Self {
            name,
            numbers: numbers.collect(),
        }
    }

    /// The numbers that are not the defaults.
    pub fn changed(&self) -> impl Iterator<Item = &Number> {
        let numbers = self.numbers.iter();
        numbers.filter(|number| number.value != number.default)
    }

    /// The numbers that are not the defaults, for people.
    pub fn told(&self) -> String {
        let told = self.changed().map(|number| {
            let Number {
                name,
                value,
                default,
            } = number;
            format!("{name} {value} instead of {default}")
        });
        told.collect::<Vec<_>>().join(", ")
    }

    /// The numbers that are not the defaults, for programs.
    pub fn json(&self) -> serde_json::Value {
        let changed = self.changed();
        let members = changed.map(|number| (number.name.to_owned(), number.value.into()));
        serde_json::Value::Object(members.collect())
    }
}

type Named<const N: usize> = [(&'static str, u64); N];

fn weights(weights: &Weights) -> Named<12> {
    let Weights {
        start,
        floor,
        alarm,
        penalty:
            Penalties {
                scope_exceeded,
                depth_exceeded,
                malformed_content,
            },
        reward,
        quiet_ms,
        earned_max,
        endorsement,
        endorsed_max,
        lapse_s,
    } = *weights;
    [
        ("start", start.into()),
        ("floor", floor.into()),
        ("alarm", alarm.into()),
        ("penalty.scope_exceeded", scope_exceeded.into()),
        ("penalty.depth_exceeded", depth_exceeded.into()),
        ("penalty.malformed_content", malformed_content.into()),
        ("reward", reward.into()),
        ("quiet_ms", quiet_ms),
        ("earned_max", earned_max.into()),
        ("endorsement", endorsement.into()),
        ("endorsed_max", endorsed_max.into()),
        ("lapse_s", lapse_s.into()),
    ]
}

fn settings(settings: &Settings) -> Named<7> {
    let Settings {
        window_ms,
        bad_least,
        bad_percent,
        quarantine_ms,
        quarantine_max_ms,
        probation_ms,
        probation_bad,
    } = *settings;
    [
        ("window_ms", window_ms),
        ("bad_least", bad_least.into()),
        ("bad_percent", bad_percent.into()),
        ("quarantine_ms", quarantine_ms),
        ("quarantine_max_ms", quarantine_max_ms),
        ("probation_ms", probation_ms),
        ("probation_bad", probation_bad.into()),
    ]
}
