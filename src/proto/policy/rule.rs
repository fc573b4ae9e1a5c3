//! One rule of a policy: for which messages, and within which limits (protocol §10.2).

use std::fmt;

use serde::Deserialize;

use super::InvalidPolicy;
use super::Request;
use super::denied;
use crate::proto::limits::SUBJECT_MAX;
use crate::proto::names::MODE_SINGLE;
use crate::proto::rejection::DepthExceeded;
use crate::proto::rejection::Malformed;
use crate::proto::rejection::Place;
use crate::proto::rejection::PolicyDenied;
use crate::proto::rejection::Rejection;
use crate::proto::scope::Action;
use crate::proto::scope::Actions;
use crate::proto::scope::checked_text;
use crate::proto::subject::Subject;
use crate::proto::subject::SubjectPattern;
use crate::proto::wire::Reader;

/// Longest rule name in bytes; it stands in audit events.
const RULE_NAME_MAX: usize = 64;

/// Bits of the envelope modes that can be allowed: bit `m − 1` for mode `m`, modes 1 to 3.
pub(super) const MODES_ALL: u8 = 0b111;

/// What a rule does to the messages it matches (protocol §10.2).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Allows, within the rule's limits.
    Allow,
    /// Denies, whatever other rules say.
    Deny,
}

/// `count` messages per `per_ms` milliseconds in the long run, as a token bucket (protocol §10.5).
///
/// The bucket begins full and earns evenly, so that a burst of `count` may come at once and up to
/// twice that within `per_ms`. Each link of a chain has its own.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Messages, at least 1.
    pub count: u32,
    /// Milliseconds, at least 1.
    pub per_ms: u32,
}

/// A rule for some actions on some subjects (protocol §10.2). It prints as its effect, its
/// capability and its limits.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) name: String,
    pub(super) effect: Effect,
    pub(super) actions: Actions,
    pub(super) subjects: SubjectPattern,
    pub(super) limits: RuleLimits,
}

/// The limits of an allow rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RuleLimits {
    pub(super) max_age_ms: Option<u32>,
    pub(super) max_depth: Option<u8>,
    pub(super) rate: Option<Rate>,
    pub(super) min_score: Option<u16>,
    pub(super) session: bool,
    pub(super) modes: u8,
}

impl Rule {
    /// The rule's name, unique in its policy: 1 to 64 bytes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it allows or denies.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// The actions it is about, at least one.
    pub fn actions(&self) -> Actions {
        self.actions
    }

    /// The subjects it is about.
    pub fn subjects(&self) -> &SubjectPattern {
        &self.subjects
    }

    /// Whether it has a say in a message of this action on this subject (protocol §10.2). A rule on
    /// `>` has none where the first token begins with `$` or `_`.
    pub fn matches(&self, action: Action, subject: &Subject) -> bool {
        self.actions.has(action) && self.subjects.matches(subject)
    }

    /// The oldest message it allows, in milliseconds.
    pub fn max_age_ms(&self) -> Option<u32> {
        self.limits.max_age_ms
    }

    /// The most delegations it allows.
    pub fn max_depth(&self) -> Option<u8> {
        self.limits.max_depth
    }

    /// How often it allows a message.
    pub fn rate(&self) -> Option<Rate> {
        self.limits.rate
    }

    /// The lowest score it allows.
    pub fn min_score(&self) -> Option<u16> {
        self.limits.min_score
    }

    /// Whether it asks for a session.
    pub fn needs_session(&self) -> bool {
        self.limits.session
    }

    /// Whether it allows this envelope mode, 1 to 3; other modes it does not.
    pub fn allows_mode(&self, mode: u8) -> bool {
        (1..=3).contains(&mode) && self.limits.allows_mode(mode)
    }

    pub(super) fn wire(&self) -> impl serde::Serialize + '_ {
        let limits = &self.limits;
        (
            self.name.as_str(),
            u8::from(self.effect == Effect::Allow),
            self.actions.bits(),
            self.subjects.as_str(),
            limits.max_age_ms,
            limits.max_depth,
            limits.rate.map(|rate| (rate.count, rate.per_ms)),
            limits.min_score,
            limits.session,
            limits.modes,
        )
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Rejection> {
        r.array_of(10)?;
        let name = checked_text(&r.text(RULE_NAME_MAX)?).to_owned();
        let effect = match r.uint()? {
            0 => Effect::Deny,
            1 => Effect::Allow,
            _ => return Err(r.fault(Malformed::OutOfRange)),
        };
        let bits = r.number_of()?;
        let actions = Actions::from_bits(bits).ok_or_else(|| r.fault(Malformed::OutOfRange))?;
        let subjects = SubjectPattern::from_bytes(r.text(SUBJECT_MAX)?)
            .map_err(|_| r.fault(Malformed::BadSubject))?;
        let limits = RuleLimits {
            max_age_ms: r.optional(Reader::number_of)?,
            max_depth: r.optional(Reader::number_of)?,
            rate: r.optional(|r| {
                r.array_of(2)?;
                Ok(Rate {
                    count: r.number_of()?,
                    per_ms: r.number_of()?,
                })
            })?,
            min_score: r.optional(Reader::number_of)?,
            session: r.boolean()?,
            modes: r.number_of()?,
        };
        let rule = Self {
            name,
            effect,
            actions,
            subjects,
            limits,
        };
        rule.check().map_err(|_| r.fault(Malformed::OutOfRange))?;
        Ok(rule)
    }

    pub(super) fn check(&self) -> Result<(), InvalidPolicy> {
        let rule = || self.name.clone();
        if self.name.is_empty() || self.name.len() > RULE_NAME_MAX {
            return Err(InvalidPolicy::Name(rule()));
        }
        let limits = &self.limits;
        if self.effect == Effect::Deny && *limits != RuleLimits::NONE {
            return Err(InvalidPolicy::LimitedDeny(rule()));
        }
        let sound = limits.min_score.is_none_or(|score| score <= 1000)
            && limits
                .rate
                .is_none_or(|rate| rate.count > 0 && rate.per_ms > 0)
            && limits.modes != 0
            && limits.modes & !MODES_ALL == 0;
        if sound {
            Ok(())
        } else {
            Err(InvalidPolicy::Range(rule()))
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.effect {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        };
        write!(f, "{effect} {}:{}", self.actions, self.subjects)?;
        let limits = &self.limits;
        if let Some(most) = limits.max_age_ms {
            write!(f, ", at most {most} ms old")?;
        }
        if let Some(most) = limits.max_depth {
            write!(f, ", at most {most} delegations")?;
        }
        if let Some(rate) = limits.rate {
            write!(f, ", at most {} in {} ms", rate.count, rate.per_ms)?;
        }
        if let Some(least) = limits.min_score {
            write!(f, ", score {least} or more")?;
        }
        if limits.session {
            f.write_str(", with a session")?;
        }
        if limits.modes != MODES_ALL {
            let modes: Vec<_> = (1..=3)
                .filter(|mode| limits.modes & 1 << (mode - 1) != 0)
                .map(|mode: u8| mode.to_string())
                .collect();
            write!(f, ", mode {}", modes.join(" or "))?;
        }
        Ok(())
    }
}

impl RuleLimits {
    const NONE: Self = Self {
        max_age_ms: None,
        max_depth: None,
        rate: None,
        min_score: None,
        session: false,
        modes: MODES_ALL,
    };

    pub(super) fn allows_mode(&self, mode: u8) -> bool {
        self.modes & (1 << (mode - MODE_SINGLE)) != 0
    }

    pub(super) fn check(&self, request: &Request<'_>) -> Result<(), Rejection> {
        if !self.allows_mode(request.mode) {
            return denied(PolicyDenied::Mode);
        }
        if self
            .max_age_ms
            .is_some_and(|most| request.age_ms > u64::from(most))
        {
            return denied(PolicyDenied::TooOld);
        }
        if self.max_depth.is_some_and(|most| request.depth > most) {
            let place = Place::Chain;
            return Err(Rejection::DepthExceeded {
                place,
                reason: DepthExceeded::Policy,
            });
        }
        if let Some(required) = self.min_score {
            // No score is the lowest score: missing state is never permission.
            let score = request.score.unwrap_or(0);
            if score < required {
                return Err(Rejection::TrustTooLow { score, required });
            }
        }
        if self.session && !request.session {
            return denied(PolicyDenied::NoSession);
        }
        Ok(())
    }
}
