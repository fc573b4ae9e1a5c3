//! One agent's standing, and the law it lapses by.

use std::collections::VecDeque;

use super::Cause;
use super::CauseKind;
use super::HISTORY;
use super::MILLI;
use super::Misbehaviour;
use super::Parameters;
use super::SCORE_MAX;
use super::parameters::Weights;
use crate::proto::identity::AgentId;
use crate::proto::signing::ObjectId;
use crate::proto::time::Timestamp;

/// Largest penalty, in thousandths of a point: all of a score. What lies deeper could not be seen.
pub(super) const PENALTY_MAX: u32 = SCORE_MAX as u32 * MILLI;

/// Standing that is lost again with time, in units of which one is lost a millisecond.
///
/// A point is worth `lapse_s × 1,000` units and a thousandth of one `lapse_s`, so that amounts are
/// whole numbers of units, and time takes whole numbers too.
///
/// ```
/// use trustmesh::proto::score::Standing;
///
/// let standing = Standing::from_units(10_000);
/// assert_eq!(standing.after(300).after(700), standing.after(1_000));
/// assert_eq!(standing.after(u64::MAX).units(), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Standing(u64);

impl Standing {
    /// This many units.
    pub const fn from_units(units: u64) -> Self {
        Self(units)
    }

    /// How many units there are.
    pub const fn units(self) -> u64 {
        self.0
    }

    /// What is left after `millis` milliseconds: one unit less for each, until nothing is left.
    ///
    /// `after(a).after(b) == after(a + b)` for all `a` and `b`. When neither subtraction stops at 0,
    /// both sides are `r − a − b`. When one does, `a + b ≥ r`, and both sides are 0; that holds for
    /// a sum that stops at 2^64 − 1, too, since no `r` is larger.
    #[must_use]
    pub const fn after(self, millis: u64) -> Self {
        Self(self.0.saturating_sub(millis))
    }

    /// This and `milli` thousandths of a point more, at most `points`, and never less than this.
    fn plus(self, milli: u32, points: u16, weights: &Weights) -> Self {
        let unit = u64::from(weights.lapse_s);
        let most = u64::from(points) * u64::from(MILLI) * unit;
        let sum = self.0.saturating_add(u64::from(milli) * unit);
        Self(sum.min(most).max(self.0))
    }

    /// Expressed in the units of another pace, rounded down, at most `points`.
    fn rescaled(self, from_s: u32, to_s: u32, points: u16) -> Self {
        let most = u64::from(points) * u64::from(MILLI) * u64::from(to_s);
        if from_s == to_s {
            return Self(self.0.min(most));
        }
        let milli = self.0 / u64::from(from_s.max(1));
        Self(milli.saturating_mul(u64::from(to_s)).min(most))
    }
}

/// What is known of one agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) registered: bool,
    /// What its sponsor vouched for, in points.
    pub(super) base: u16,
    /// In thousandths of a point.
    pub(super) penalty: u32,
    /// As of `at`.
    pub(super) earned: Standing,
    /// As of `at`.
    pub(super) endorsed: Standing,
    /// The latest instant known: time never goes back for an entry.
    pub(super) at: Timestamp,
    /// From when on the agent may be credited again.
    pub(super) credit_from: Timestamp,
    /// From when on it may be endorsed again.
    pub(super) endorse_from: Timestamp,
    pub(super) history: VecDeque<Cause>,
}

impl Entry {
    pub(super) fn new(base: u16, now: Timestamp, weights: &Weights) -> Self {
        Self {
            registered: true,
            base,
            penalty: 0,
            earned: Standing::default(),
            endorsed: Standing::default(),
            at: now,
            credit_from: now.plus(weights.quiet_ms),
            endorse_from: now,
            history: VecDeque::new(),
        }
    }

    /// The score at `now`. Nothing is changed by asking.
    pub(super) fn score(&self, now: Timestamp, weights: &Weights) -> u16 {
        let idle = now.since(self.at);
        self.points(self.endorsed.after(idle), idle, weights)
    }

    /// The score at `now` without what others lent: what an agent may lend of.
    pub(super) fn own_score(&self, now: Timestamp, weights: &Weights) -> u16 {
        self.points(Standing::default(), now.since(self.at), weights)
    }

    fn points(&self, endorsed: Standing, idle: u64, weights: &Weights) -> u16 {
        let unit = u64::from(weights.lapse_s);
        // At most 1,000 · 1,000 · 30 days in seconds for each part: far from overflow.
        let gained = self.earned.after(idle).0.saturating_add(endorsed.0);
        let base = u64::from(self.base) * u64::from(MILLI) * unit;
        let sum = base
            .saturating_add(gained)
            .saturating_sub(u64::from(self.penalty) * unit);
        let points = sum / (u64::from(MILLI) * unit);
        let points = u16::try_from(points).unwrap_or(SCORE_MAX);
        points.min(SCORE_MAX).max(weights.floor)
    }

    /// Moves on to `now`, when it is later than what is known, and says the score there.
    fn settle(&mut self, now: Timestamp, weights: &Weights) -> u16 {
        let idle = now.since(self.at);
        self.earned = self.earned.after(idle);
        self.endorsed = self.endorsed.after(idle);
        self.at = self.at.max(now);
        self.score(self.at, weights)
    }

    pub(super) fn penalise(
        &mut self,
        misbehaviour: Misbehaviour,
        (evidence, reporter): (ObjectId, &AgentId),
        now: Timestamp,
        weights: &Weights,
    ) {
        let before = self.settle(now, weights);
        let milli = weights.penalty.of(misbehaviour);
        self.penalty = self.penalty.saturating_add(milli).min(PENALTY_MAX);
        self.endorsed = Standing::default();
        let quiet = self.at.plus(weights.quiet_ms);
        self.credit_from = self.credit_from.max(quiet);
        self.endorse_from = self.endorse_from.max(quiet);
        let event = Event {
            milli,
            evidence: Some(evidence),
            ..Event::by(CauseKind::Misbehaved(misbehaviour), Some(reporter))
        };
        self.note(event, Some(before), weights);
    }

    /// Gives credit, when it is due: penalties first, then what can be earned. Intervals that went
    /// by without credit are not made up for.
    pub(super) fn credit(&mut self, now: Timestamp, weights: &Weights) -> bool {
        let now = now.max(self.at);
        if !self.registered || now < self.credit_from {
            return false;
        }
        let before = self.settle(now, weights);
        let healed = weights.reward.min(self.penalty);
        self.penalty -= healed;
        let rest = weights.reward - healed;
        self.earned = self.earned.plus(rest, weights.earned_max, weights);
        self.credit_from = self.at.plus(weights.quiet_ms);
        let event = Event {
            milli: weights.reward,
            ..Event::by(CauseKind::Credited, None)
        };
        self.note(event, Some(before), weights);
        true
    }

    /// Lends standing, up to the endorser's own score; says whether there was any to lend.
    pub(super) fn endorse(
        &mut self,
        (endorser, own): (&AgentId, u16),
        now: Timestamp,
        weights: &Weights,
    ) -> bool {
        let now = now.max(self.at);
        if !self.registered || now < self.endorse_from {
            return false;
        }
        let lead = own.saturating_sub(self.own_score(now, weights));
        let before = self.settle(now, weights);
        let most = lead.min(weights.endorsed_max);
        let lent = self.endorsed.plus(weights.endorsement, most, weights);
        if lent == self.endorsed {
            return false;
        }
        self.endorsed = lent;
        let event = Event {
            milli: weights.endorsement,
            ..Event::by(CauseKind::Endorsed, Some(endorser))
        };
        self.note(event, Some(before), weights);
        true
    }

    pub(super) fn register(
        &mut self,
        (sponsor, base): (Option<&AgentId>, u16),
        now: Timestamp,
        weights: &Weights,
    ) {
        let before = self.settle(now, weights);
        // Of whom nothing was noted, nothing was known.
        let before = (!self.history.is_empty()).then_some(before);
        self.registered = true;
        self.base = self.base.min(base);
        let event = Event::by(CauseKind::Registered, sponsor);
        self.note(event, before, weights);
    }

    pub(super) fn deregister(&mut self, now: Timestamp, weights: &Weights) {
        let before = self.settle(now, weights);
        self.registered = false;
        let event = Event::by(CauseKind::Deregistered, None);
        self.note(event, Some(before), weights);
    }

    /// Takes other weights into use. No part rises by it.
    pub(super) fn rescale(&mut self, now: Timestamp, old: &Weights, new: &Weights) {
        let before = self.settle(now, old);
        self.base = self.base.min(new.start);
        let (from, to) = (old.lapse_s, new.lapse_s);
        self.earned = self.earned.rescaled(from, to, new.earned_max);
        self.endorsed = self.endorsed.rescaled(from, to, new.endorsed_max);
        if before != self.score(self.at, new) {
            let event = Event::by(CauseKind::Reconfigured, None);
            self.note(event, Some(before), new);
        }
    }

    /// Whether an agent that begins anew would begin no higher, so that nothing is lost with this.
    pub(super) fn says_nothing(&self, parameters: &Parameters) -> bool {
        !self.registered && self.penalty == 0 && self.base >= parameters.0.start
    }

    fn note(&mut self, event: Event<'_>, before: Option<u16>, weights: &Weights) {
        if self.history.len() >= HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Cause {
            kind: event.kind,
            at: self.at,
            milli: event.milli,
            before,
            score: self.score(self.at, weights),
            evidence: event.evidence,
            by: event.by.cloned(),
        });
    }
}

/// What is noted, besides when it happened and what it made of the score.
struct Event<'a> {
    kind: CauseKind,
    milli: u32,
    evidence: Option<ObjectId>,
    by: Option<&'a AgentId>,
}

impl<'a> Event<'a> {
    fn by(kind: CauseKind, by: Option<&'a AgentId>) -> Self {
        Self {
            kind,
            milli: 0,
            evidence: None,
            by,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// For every amount, and for pieces of time of any length, those that add up to more than
        /// can be counted included.
        #[test]
        fn what_is_left_does_not_depend_on_how_time_is_cut(r: u64, cuts: Vec<u64>) {
            let total = cuts.iter().fold(0u64, |sum, cut| sum.saturating_add(*cut));
            let cut = cuts.iter().fold(Standing(r), |left, cut| left.after(*cut));
            prop_assert_eq!(cut, Standing(r).after(total));
        }

        /// The same near the end of what is there, where it matters.
        #[test]
        fn nothing_is_lost_twice_near_the_end(r in 0u64..5_000, a in 0u64..5_000, b in 0u64..5_000) {
            prop_assert_eq!(Standing(r).after(a).after(b), Standing(r).after(a + b));
        }
    }
}
