//! A circuit breaker per peer: whoever sends mostly what its own key should never have signed is
//! not listened to for a while (protocol §14.7).
//!
//! A receiver counts, for each key, what the holder of that key alone can have caused: a message
//! whose signature verified, at first sight, that is outside the scope of its own chain or whose
//! content is none ([`is_signer_caused`]). What anybody else could have made of a message, by
//! delaying, repeating, misdelivering or cutting it, is not counted. Nor is what depends on the
//! state of this receiver: policy, revocation, clocks, rates.
//!
//! ```text
//! closed ──mostly bad──▶ quarantined ──time──▶ on probation ──time──▶ closed
//!                            ▲                      │
//!                            └──── fewer bad ───────┘   for twice as long
//! ```
//!
//! While a key is quarantined, every message that claims it is refused before a signature is checked
//! for it. The refused prolong nothing: they may be copies, or forgeries.

use std::collections::BTreeSet;
use std::collections::HashMap;

use serde::Deserialize;

use super::identity::KeyBytes;
use super::limits::BREAKER_KEYS;
use super::limits::BREAKER_SIGHTINGS;
use super::limits::CLOCK_SKEW_MAX_MS;
use super::limits::LIFETIME_MAX_MS;
use super::limits::TTL_MAX_MS;
use super::rejection::Blocked;
use super::rejection::DepthExceeded;
use super::rejection::Malformed;
use super::rejection::Place;
use super::rejection::Rejection;
use super::rejection::ScopeExceeded;
use super::replay::MessageId;
use super::time::Timestamp;
use super::wire::Reader;
use super::wire::encode_into;

/// How long a message can be delivered after it was first seen, whatever lifetime it has and
/// whichever way clocks differ.
const SIGHTING_MS: u64 = TTL_MAX_MS as u64 + 4 * CLOCK_SKEW_MAX_MS;

/// Longest window, in milliseconds: ten minutes.
const WINDOW_MAX_MS: u64 = 600_000;

/// Whether a refusal of a message whose signature verified is the signer's own doing, whatever
/// happened to the message since and whatever the receiver's state is.
pub fn is_signer_caused(rejection: &Rejection) -> bool {
    match rejection {
        // The digest in the signed header was checked before.
        Rejection::Malformed { place, .. } | Rejection::TooLarge { place, .. } => {
            *place == Place::Content
        }
        // The ceilings are policy's and may have been others when the message was made.
        Rejection::ScopeExceeded { place, reason } => {
            place.hop().is_some() && *reason != ScopeExceeded::Lifetime
        }
        Rejection::DepthExceeded { reason, .. } => *reason != DepthExceeded::Policy,
        _ => false,
    }
}

/// When a key is quarantined, and for how long.
///
/// Holding one tells you that every value is in range. [`new`](Self::new) makes one of
/// [`Settings`].
///
/// ```
/// use trustmesh::proto::breaker::Parameters;
/// use trustmesh::proto::breaker::Settings;
///
/// assert!(Parameters::new(Settings { bad_percent: 101, ..Settings::default() }).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Settings")]
pub struct Parameters(Settings);

/// The values of [`Parameters`], as somebody wrote them: the `quarantine` section of a policy.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Messages are counted over one to two windows of this many milliseconds: 1,000 to 600,000; ten
    /// seconds by default.
    pub window_ms: u64,
    /// Fewest bad messages that trip the breaker: 1 to 256; 20 by default.
    pub bad_least: u16,
    /// Least share of bad messages among all that were decided, in percent: 1 to 100; 50 by default.
    pub bad_percent: u8,
    /// How long the first quarantine lasts, in milliseconds; each one that follows on probation lasts
    /// twice as long as the last. 1,000 to `quarantine_max_ms`; a minute by default.
    pub quarantine_ms: u64,
    /// The longest quarantine in milliseconds, at most 30 days; an hour by default.
    pub quarantine_max_ms: u64,
    /// How long probation lasts after it, in milliseconds, at most 30 days; ten minutes by default.
    pub probation_ms: u64,
    /// Fewest bad messages that trip the breaker on probation, whatever their share: 1 to
    /// `bad_least`; 3 by default.
    pub probation_bad: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window_ms: 10_000,
            bad_least: 20,
            bad_percent: 50,
            quarantine_ms: 60_000,
            quarantine_max_ms: 3_600_000,
            probation_ms: 600_000,
            probation_bad: 3,
        }
    }
}

/// A value of [`Settings`] is out of its range.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("quarantine: {0} is out of range")]
pub struct InvalidSettings(pub &'static str);

impl Parameters {
    /// Checks values.
    ///
    /// # Errors
    ///
    /// [`InvalidSettings`], naming the first that is out of range.
    pub fn new(settings: Settings) -> Result<Self, InvalidSettings> {
        let Settings {
            window_ms,
            bad_least,
            bad_percent,
            quarantine_ms,
            quarantine_max_ms,
            probation_ms,
            probation_bad,
        } = settings;
        let checks = [
            ("window_ms", (1_000..=WINDOW_MAX_MS).contains(&window_ms)),
            (
                "bad_least",
                (1..=BREAKER_SIGHTINGS).contains(&usize::from(bad_least)),
            ),
            ("bad_percent", (1..=100).contains(&bad_percent)),
            (
                "quarantine_max_ms",
                (1_000..=LIFETIME_MAX_MS).contains(&quarantine_max_ms),
            ),
            (
                "quarantine_ms",
                (1_000..=quarantine_max_ms).contains(&quarantine_ms),
            ),
            ("probation_ms", probation_ms <= LIFETIME_MAX_MS),
            ("probation_bad", (1..=bad_least).contains(&probation_bad)),
        ];
        match checks.iter().find(|(_, sound)| !sound) {
            Some((name, _)) => Err(InvalidSettings(name)),
            None => Ok(Self(settings)),
        }
    }

    /// The values, all in range.
    pub fn settings(&self) -> &Settings {
        &self.0
    }

    /// Encodes the parameters for a signed policy.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let Settings {
            window_ms,
            bad_least,
            bad_percent,
            quarantine_ms,
            quarantine_max_ms,
            probation_ms,
            probation_bad,
        } = self.0;
        let times = (quarantine_ms, quarantine_max_ms, probation_ms);
        encode_into(
            out,
            &(window_ms, bad_least, bad_percent, times, probation_bad),
        );
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Rejection> {
        r.array_of(5)?;
        let (window_ms, bad_least, bad_percent) = (r.uint()?, r.number_of()?, r.number_of()?);
        r.array_of(3)?;
        let settings = Settings {
            window_ms,
            bad_least,
            bad_percent,
            quarantine_ms: r.uint()?,
            quarantine_max_ms: r.uint()?,
            probation_ms: r.uint()?,
            probation_bad: r.number_of()?,
        };
        Self::new(settings).map_err(|_| r.fault(Malformed::OutOfRange))
    }
}

impl TryFrom<Settings> for Parameters {
    type Error = InvalidSettings;

    fn try_from(settings: Settings) -> Result<Self, InvalidSettings> {
        Self::new(settings)
    }
}

/// One decided message, as far as the breaker minds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Conduct {
    /// The key that signed it, as verified.
    pub key: KeyBytes,
    /// Its id.
    pub mid: MessageId,
    /// Whether it was refused for what its signer did; otherwise it was accepted.
    pub bad: bool,
}

/// What became of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    /// It is quarantined until then.
    Quarantined {
        /// The key.
        key: KeyBytes,
        /// Until when.
        until: Timestamp,
        /// How many of its messages were bad, of those counted.
        bad: u32,
        /// How many were counted.
        of: u32,
    },
    /// Its quarantine is over, and probation begins.
    Released {
        /// The key.
        key: KeyBytes,
    },
}

/// The circuit breakers of one receiver.
///
/// A key is watched from its first bad message until it has been quiet for as long as it counts, so
/// that a mesh of honest peers costs nothing. At most [`BREAKER_KEYS`] are watched; only holders of
/// registered keys can be among them. No key that is quarantined or on probation is forgotten before
/// its time; when there is no room, a new one is not watched.
///
/// ```
/// use trustmesh::proto::breaker::Breaker;
/// use trustmesh::proto::breaker::Conduct;
/// use trustmesh::proto::breaker::Parameters;
/// use trustmesh::proto::identity::KeyBytes;
/// use trustmesh::proto::replay::MessageId;
/// use trustmesh::proto::time::Timestamp;
///
/// let (mut breaker, parameters) = (Breaker::default(), Parameters::default());
/// let (key, now) = (KeyBytes([1; 32]), Timestamp::from_millis(1_000_000));
/// for n in 0..20 {
///     assert!(breaker.check(&key, now).is_ok());
///     let bad = Conduct { key, mid: MessageId([n; 16]), bad: true };
///     breaker.observe(&bad, &parameters, now);
/// }
/// assert!(breaker.check(&key, now).is_err());
/// assert!(breaker.check(&key, now.plus(60_000)).is_ok());
/// ```
#[derive(Debug, Default)]
pub struct Breaker {
    watched: HashMap<KeyBytes, Watch>,
    /// Quarantines by their end.
    ends: BTreeSet<(Timestamp, KeyBytes)>,
}

/// What is known of one key.
#[derive(Debug)]
struct Watch {
    /// When the current window began.
    since: Timestamp,
    now: Count,
    before: Count,
    /// Bad messages that were seen, and until when they may come again.
    seen: HashMap<MessageId, Timestamp>,
    state: State,
    /// Quarantines since probation was last passed.
    trips: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    bad: u32,
    all: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Quarantined { until: Timestamp },
    Probation { until: Timestamp },
}

impl Breaker {
    /// Checks that a key is not quarantined at `now`.
    ///
    /// # Errors
    ///
    /// [`Rejection::Blocked`] with [`Quarantined`](Blocked::Quarantined).
    pub fn check(&self, key: &KeyBytes, now: Timestamp) -> Result<(), Rejection> {
        if self.ends.is_empty() {
            return Ok(());
        }
        match self.watched.get(key).map(|watch| watch.state) {
            Some(State::Quarantined { until }) if now < until => Err(Rejection::Blocked {
                place: Place::Header,
                reason: Blocked::Quarantined,
            }),
            _ => Ok(()),
        }
    }

    /// Counts one decided message. Says what became of its key.
    pub fn observe(
        &mut self,
        conduct: &Conduct,
        parameters: &Parameters,
        now: Timestamp,
    ) -> Option<Turn> {
        let settings = parameters.settings();
        let known = self.watched.contains_key(&conduct.key);
        if !known && (!conduct.bad || !self.make_room(settings, now)) {
            return None;
        }
        let fresh = || Watch::new(now);
        let watch = self.watched.entry(conduct.key).or_insert_with(fresh);
        watch.pass_time(settings, now);
        let count = watch.note(conduct, settings, now)?;
        let until = now.plus(watch.sentence(settings));
        watch.quarantine(until);
        self.ends.insert((until, conduct.key));
        Some(Turn::Quarantined {
            key: conduct.key,
            until,
            bad: count.bad,
            of: count.all,
        })
    }

    /// Ends the quarantines that are over at `now`; says which. Probation begins with their end.
    pub fn release(&mut self, parameters: &Parameters, now: Timestamp) -> Vec<Turn> {
        let mut released = Vec::new();
        while let Some((until, key)) = self.ends.first().copied()
            && until <= now
        {
            self.ends.pop_first();
            if let Some(watch) = self.watched.get_mut(&key) {
                let until = until.plus(parameters.settings().probation_ms);
                watch.state = State::Probation { until };
                released.push(Turn::Released { key });
            }
        }
        released
    }

    /// How many keys are watched, quarantined ones included.
    pub fn len(&self) -> usize {
        self.watched.len()
    }

    /// Whether no key is watched.
    pub fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// Makes room for one more key, by forgetting those that would begin as they are.
    fn make_room(&mut self, settings: &Settings, now: Timestamp) -> bool {
        if self.watched.len() < BREAKER_KEYS {
            return true;
        }
        self.watched.retain(|_, watch| {
            watch.pass_time(settings, now);
            !watch.says_nothing(now)
        });
        self.watched.len() < BREAKER_KEYS
    }
}

impl Watch {
    fn new(now: Timestamp) -> Self {
        Self {
            since: now,
            now: Count::default(),
            before: Count::default(),
            seen: HashMap::new(),
            state: State::Closed,
            trips: 0,
        }
    }

    /// Turns windows over, and ends probation.
    fn pass_time(&mut self, settings: &Settings, now: Timestamp) {
        let windows = now.since(self.since) / settings.window_ms;
        if windows > 0 {
            self.before = if windows == 1 {
                self.now
            } else {
                Count::default()
            };
            self.now = Count::default();
            self.since = self.since.plus(windows * settings.window_ms);
        }
        if let State::Probation { until } = self.state
            && now >= until
        {
            self.state = State::Closed;
            self.trips = 0;
        }
    }

    /// Counts a message; the count, when it is one too many.
    fn note(&mut self, conduct: &Conduct, settings: &Settings, now: Timestamp) -> Option<Count> {
        if let State::Quarantined { until } = self.state
            && now < until
        {
            // Decided side by side with the message that tripped the breaker.
            return None;
        }
        if !conduct.bad {
            self.now.all = self.now.all.saturating_add(1);
            return None;
        }
        if self.seen.len() >= BREAKER_SIGHTINGS {
            self.seen.retain(|_, until| *until > now);
        }
        // What fills the memory ends in quarantine, so it grows past that by one a quarantine.
        let full = self.seen.len() >= BREAKER_SIGHTINGS;
        if self.seen.contains_key(&conduct.mid) {
            return None;
        }
        self.seen.insert(conduct.mid, now.plus(SIGHTING_MS));
        self.now.bad = self.now.bad.saturating_add(1);
        self.now.all = self.now.all.saturating_add(1);
        let count = Count {
            bad: self.now.bad.saturating_add(self.before.bad),
            all: self.now.all.saturating_add(self.before.all),
        };
        let most = u64::from(count.all) * u64::from(settings.bad_percent);
        let mostly =
            count.bad >= u32::from(settings.bad_least) && u64::from(count.bad) * 100 >= most;
        let relapsed = matches!(self.state, State::Probation { .. })
            && count.bad >= u32::from(settings.probation_bad);
        // As many within the lifetime of a message are no accident, whatever else came.
        (mostly || relapsed || full).then_some(count)
    }

    /// How long the quarantine that begins now lasts.
    fn sentence(&self, settings: &Settings) -> u64 {
        let factor = 1u64.checked_shl(self.trips).unwrap_or(u64::MAX);
        let longest = settings.quarantine_max_ms;
        settings.quarantine_ms.saturating_mul(factor).min(longest)
    }

    fn quarantine(&mut self, until: Timestamp) {
        self.state = State::Quarantined { until };
        self.trips = self.trips.saturating_add(1);
        // The counts have had their effect. What was seen may come again, and stays.
        (self.now, self.before) = (Count::default(), Count::default());
    }

    fn says_nothing(&self, now: Timestamp) -> bool {
        matches!(self.state, State::Closed)
            && self.now.bad == 0
            && self.before.bad == 0
            && self.seen.values().all(|until| *until <= now)
    }
}
