//! How much which behaviour counts. What is out of range is a configuration error.

use serde::Deserialize;

use super::MILLI;
use super::Misbehaviour;
use super::SCORE_MAX;
use crate::proto::limits::LIFETIME_MAX_MS;
use crate::proto::rejection::Malformed;
use crate::proto::rejection::Rejection;
use crate::proto::wire::Reader;
use crate::proto::wire::encode_into;

/// Largest amount: all of a score, in thousandths of a point.
const AMOUNT_MAX: u32 = SCORE_MAX as u32 * MILLI;

/// Slowest loss of a point, in seconds: 30 days.
const LAPSE_MAX_S: u32 = (LIFETIME_MAX_MS / 1_000) as u32;

/// How scores are computed.
///
/// Holding one tells you that every value is in range, that nothing computed from them overflows,
/// and that a score falls faster than it rises: each penalty is at least twice the reward. There
/// are no fractions anywhere, hence no value that is not a number, and none that is infinite.
///
/// ```
/// use trustmesh::proto::score::InvalidParameters;
/// use trustmesh::proto::score::Parameters;
/// use trustmesh::proto::score::Weights;
///
/// let parameters = Parameters::new(Weights { start: 400, ..Weights::default() })?;
/// assert_eq!(parameters.weights().start, 400);
///
/// let never = Weights { lapse_s: 0, ..Weights::default() };
/// assert_eq!(Parameters::new(never), Err(InvalidParameters::Lapse));
/// # Ok::<(), InvalidParameters>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Weights")]
pub struct Parameters(pub(super) Weights);

/// The values of [`Parameters`], as somebody wrote them: the `scores` section of a policy.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// Highest base of a new agent, in points: [`floor`](Self::floor) to 1,000; 500 by default.
    pub start: u16,
    /// No score is lower, in points; 0 by default.
    pub floor: u16,
    /// A score that falls below it is worth telling an operator, in points; 200 by default.
    pub alarm: u16,
    /// What misbehaviour costs.
    pub penalty: Penalties,
    /// What an interval of credit brings, in thousandths of a point: at most half of the smallest
    /// penalty; 5,000 by default.
    pub reward: u32,
    /// Shortest time between two rewards, and from a finding to the next reward or endorsement, in
    /// milliseconds: 1 to 30 days; an hour by default.
    pub quiet_ms: u64,
    /// Most that can be earned, in points; 300 by default.
    pub earned_max: u16,
    /// What one endorsement lends, in thousandths of a point, up to a million; 20,000 by default.
    pub endorsement: u32,
    /// Most that all endorsements together lend, in points; 100 by default.
    pub endorsed_max: u16,
    /// How many seconds it takes to lose one point that was earned or lent: 1 to 30 days; an hour
    /// by default.
    pub lapse_s: u32,
}

/// What each kind of misbehaviour costs, in thousandths of a point: 1 to a million.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Penalties {
    /// A message or link beyond its scope; 100,000 by default.
    pub scope_exceeded: u32,
    /// A link where no further delegation was allowed; 100,000 by default.
    pub depth_exceeded: u32,
    /// Content that is none; 50,000 by default.
    pub malformed_content: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            start: 500,
            floor: 0,
            alarm: 200,
            penalty: Penalties::default(),
            reward: 5 * MILLI,
            quiet_ms: 3_600_000,
            earned_max: 300,
            endorsement: 20 * MILLI,
            endorsed_max: 100,
            lapse_s: 3_600,
        }
    }
}

impl Default for Penalties {
    fn default() -> Self {
        Self {
            scope_exceeded: 100 * MILLI,
            depth_exceeded: 100 * MILLI,
            malformed_content: 50 * MILLI,
        }
    }
}

impl Penalties {
    /// What one finding of this kind costs, in thousandths of a point.
    pub fn of(&self, misbehaviour: Misbehaviour) -> u32 {
        match misbehaviour {
            Misbehaviour::ScopeExceeded => self.scope_exceeded,
            Misbehaviour::DepthExceeded => self.depth_exceeded,
            Misbehaviour::MalformedContent => self.malformed_content,
        }
    }
}

/// Why values are no [`Parameters`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidParameters {
    /// `start`, `floor` or `alarm` is over 1,000, or `start` is below `floor`.
    #[error("scores: start, floor and alarm are 0 to 1000 points, and start is not below floor")]
    Points,
    /// What can be reached is over 1,000: the rest would be a cushion that hides a fall.
    #[error("scores: start, earned_max and endorsed_max add up to more than 1000 points")]
    Sum,
    /// A penalty is 0 or over a million.
    #[error("scores: a penalty is 1 to 1000000 thousandths of a point")]
    Penalty,
    /// A reward is more than half of a penalty: a score would rise as fast as it falls.
    #[error("scores: the reward is more than half of the smallest penalty")]
    Reward,
    /// An endorsement is over a million.
    #[error("scores: an endorsement is at most 1000000 thousandths of a point")]
    Endorsement,
    /// `quiet_ms` is 0 or over 30 days.
    #[error("scores: quiet_ms is 1 millisecond to 30 days")]
    Quiet,
    /// `lapse_s` is 0 or over 30 days.
    #[error("scores: lapse_s is 1 second to 30 days")]
    Lapse,
}

impl Parameters {
    /// Checks values.
    ///
    /// # Errors
    ///
    /// [`InvalidParameters`], naming what is out of range.
    pub fn new(weights: Weights) -> Result<Self, InvalidParameters> {
        let points = [weights.start, weights.floor, weights.alarm];
        if points.iter().any(|points| *points > SCORE_MAX) || weights.start < weights.floor {
            return Err(InvalidParameters::Points);
        }
        let reach = [weights.start, weights.earned_max, weights.endorsed_max];
        if reach.iter().map(|points| u32::from(*points)).sum::<u32>() > u32::from(SCORE_MAX) {
            return Err(InvalidParameters::Sum);
        }
        for misbehaviour in Misbehaviour::ALL {
            let penalty = weights.penalty.of(misbehaviour);
            if !(1..=AMOUNT_MAX).contains(&penalty) {
                return Err(InvalidParameters::Penalty);
            }
            if weights.reward > penalty / 2 {
                return Err(InvalidParameters::Reward);
            }
        }
        if weights.endorsement > AMOUNT_MAX {
            return Err(InvalidParameters::Endorsement);
        }
        if !(1..=LIFETIME_MAX_MS).contains(&weights.quiet_ms) {
            return Err(InvalidParameters::Quiet);
        }
        if !(1..=LAPSE_MAX_S).contains(&weights.lapse_s) {
            return Err(InvalidParameters::Lapse);
        }
        Ok(Self(weights))
    }

    /// The values, all in range.
    pub fn weights(&self) -> &Weights {
        &self.0
    }

    /// Most findings that can pass before a score at `start` with nothing earned or lent is below
    /// `threshold`, when each is followed by a reward: after one more it is.
    ///
    /// `None` when the floor keeps a score from ever falling so low.
    ///
    /// ```
    /// use trustmesh::proto::score::Parameters;
    ///
    /// // 50 points down and 5 up, six times: from 500 to 230. The next finding ends below 200.
    /// assert_eq!(Parameters::default().patience(200), Some(6));
    /// ```
    pub fn patience(&self, threshold: u16) -> Option<u32> {
        let weights = self.weights();
        if threshold <= weights.floor || threshold > SCORE_MAX {
            return None;
        }
        let penalties = Misbehaviour::ALL.map(|kind| weights.penalty.of(kind));
        // At least 1: a penalty is at least 1 and at least twice the reward.
        let loss = penalties.into_iter().min().unwrap_or(1).max(1) - weights.reward;
        let start = u32::from(weights.start) * MILLI;
        let least = u32::from(threshold) * MILLI;
        Some(start.saturating_sub(least) / loss.max(1))
    }

    /// Encodes the parameters for a signed policy.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let Weights {
            start,
            floor,
            alarm,
            penalty,
            reward,
            quiet_ms,
            earned_max,
            endorsement,
            endorsed_max,
            lapse_s,
        } = self.0;
        let penalty = (
            penalty.scope_exceeded,
            penalty.depth_exceeded,
            penalty.malformed_content,
        );
        let rates = (reward, quiet_ms, earned_max, endorsement, endorsed_max);
        encode_into(out, &(start, floor, alarm, penalty, rates, lapse_s));
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Rejection> {
        r.array_of(6)?;
        let (start, floor, alarm) = (r.number_of()?, r.number_of()?, r.number_of()?);
        r.array_of(3)?;
        let penalty = Penalties {
            scope_exceeded: r.number_of()?,
            depth_exceeded: r.number_of()?,
            malformed_content: r.number_of()?,
        };
        r.array_of(5)?;
        let weights = Weights {
            start,
            floor,
            alarm,
            penalty,
            reward: r.number_of()?,
            quiet_ms: r.uint()?,
            earned_max: r.number_of()?,
            endorsement: r.number_of()?,
            endorsed_max: r.number_of()?,
            lapse_s: r.number_of()?,
        };
        Self::new(weights).map_err(|_| r.fault(Malformed::OutOfRange))
    }
}

impl TryFrom<Weights> for Parameters {
    type Error = InvalidParameters;

    fn try_from(weights: Weights) -> Result<Self, InvalidParameters> {
        Self::new(weights)
    }
}
