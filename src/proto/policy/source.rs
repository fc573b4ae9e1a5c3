//! The JSON form of a policy. What is not understood is an error, never ignored.

use std::collections::HashSet;

use serde::Deserialize;

use super::Agents;
use super::Ceilings;
use super::Effect;
use super::NeedsApproval;
use super::Policy;
use super::Rate;
use super::Rule;
use super::Scoring;
use super::rule::MODES_ALL;
use super::rule::RuleLimits;
use crate::proto::breaker;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::limits::APPROVAL_NEEDS_MAX;
use crate::proto::limits::RULES_MAX;
use crate::proto::scope::Action;
use crate::proto::scope::Actions;
use crate::proto::score;
use crate::proto::subject::SubjectPattern;

/// Why text is no policy. Except for [`Form`](Self::Form), [`Ceiling`](Self::Ceiling) and
/// [`TooMany`](Self::TooMany) it names the rule or the word at fault.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPolicy {
    /// Not JSON of the documented form, or with unknown keys.
    #[error("policy: {0}")]
    Form(String),
    /// No action of that name.
    #[error("policy rule {rule:?}: no action {action:?} (pub, sub, req, serve, delegate)")]
    Action {
        /// The rule.
        rule: String,
        /// The word.
        action: String,
    },
    /// No subject pattern.
    #[error("policy rule {rule:?}: {subjects:?} is no subject pattern")]
    Subjects {
        /// The rule.
        rule: String,
        /// The word.
        subjects: String,
    },
    /// No agent id or key.
    #[error("policy: {0:?} is neither an agent id nor a key")]
    Agent(String),
    /// An unusable name, or one given twice.
    #[error("policy rule {0:?}: a name is 1 to 64 bytes and unique")]
    Name(String),
    /// A deny rule with limits.
    #[error("policy rule {0:?}: a deny rule has no limits")]
    LimitedDeny(String),
    /// A limit out of range, or a rule without actions.
    #[error("policy rule {0:?}: a limit is out of range")]
    Range(String),
    /// An entry about approvals with an unusable pattern or action, or on a pattern that has one.
    #[error("policy approval on {subjects:?}: {why}")]
    Approval {
        /// The pattern.
        subjects: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A ceiling out of range: see [`Ceilings`].
    #[error("policy: a ttl ceiling is out of range")]
    Ceiling,
    /// More than [`RULES_MAX`] rules, or than [`APPROVAL_NEEDS_MAX`] entries about approvals.
    #[error("policy: more than 256 rules, or 64 entries about approvals")]
    TooMany,
}

/// The JSON form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    #[serde(default)]
    ttl: Ceilings,
    #[serde(default)]
    blocked: Names,
    allowed: Option<Names>,
    rules: Vec<RuleSource>,
    #[serde(default)]
    approval: Vec<NeedSource>,
    #[serde(default)]
    scores: score::Parameters,
    #[serde(default)]
    quarantine: breaker::Parameters,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Names {
    agents: Vec<String>,
    keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleSource {
    name: String,
    effect: Effect,
    actions: Vec<String>,
    subjects: String,
    max_age_ms: Option<u32>,
    max_depth: Option<u8>,
    rate: Option<Rate>,
    min_score: Option<u16>,
    #[serde(default)]
    session: bool,
    modes: Option<Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NeedSource {
    subjects: String,
    actions: Vec<String>,
}

impl Source {
    pub(super) fn compile(self) -> Result<Policy, InvalidPolicy> {
        if self.rules.len() > RULES_MAX || self.approval.len() > APPROVAL_NEEDS_MAX {
            return Err(InvalidPolicy::TooMany);
        }
        if !self.ttl.are_sound() {
            return Err(InvalidPolicy::Ceiling);
        }
        let mut names = HashSet::new();
        let mut rules = Vec::with_capacity(self.rules.len());
        for source in self.rules {
            if !names.insert(source.name.clone()) {
                return Err(InvalidPolicy::Name(source.name));
            }
            rules.push(source.compile()?);
        }
        let mut approval = Vec::with_capacity(self.approval.len());
        for source in self.approval {
            approval.push(source.compile()?);
        }
        approval.sort_by(|a, b| a.subjects.as_str().cmp(b.subjects.as_str()));
        let twice = |pair: &[NeedsApproval]| pair[0].subjects == pair[1].subjects;
        if let Some(pair) = approval.windows(2).find(|pair| twice(pair)) {
            return Err(InvalidPolicy::Approval {
                subjects: pair[0].subjects.to_string(),
                why: "a pattern has one entry",
            });
        }
        let allowed = self.allowed.map(Names::compile).transpose()?;
        Ok(Policy {
            ttl: self.ttl,
            blocked: self.blocked.compile()?,
            allowed,
            rules,
            approval,
            scoring: Scoring {
                scores: self.scores,
                quarantine: self.quarantine,
            },
        })
    }
}

impl Names {
    fn compile(self) -> Result<Agents, InvalidPolicy> {
        let mut agents = Agents::default();
        for text in self.agents {
            let id = AgentId::parse(&text).map_err(|_| InvalidPolicy::Agent(text))?;
            agents.ids.insert(id);
        }
        for text in self.keys {
            let key = KeyBytes::from_hex(&text).map_err(|_| InvalidPolicy::Agent(text))?;
            agents.keys.insert(key);
        }
        Ok(agents)
    }
}

impl NeedSource {
    fn compile(self) -> Result<NeedsApproval, InvalidPolicy> {
        let fault = |why| {
            let subjects = self.subjects.clone();
            InvalidPolicy::Approval { subjects, why }
        };
        let pattern = SubjectPattern::parse(&self.subjects);
        let pattern = pattern.map_err(|_| fault("no subject pattern"))?;
        let mut actions = Actions::default();
        for name in &self.actions {
            let action = Action::from_name(name);
            let action = action.ok_or_else(|| fault("its actions are pub, req and serve"))?;
            actions = actions.with(action);
        }
        NeedsApproval::new(actions, pattern)
            .ok_or_else(|| fault("its actions are pub, req and serve, at least one"))
    }
}

impl RuleSource {
    fn compile(self) -> Result<Rule, InvalidPolicy> {
        let mut actions = Actions::default();
        for action in self.actions {
            let Some(known) = Action::from_name(&action) else {
                return Err(InvalidPolicy::Action {
                    rule: self.name,
                    action,
                });
            };
            actions = actions.with(known);
        }
        if actions.bits() == 0 {
            return Err(InvalidPolicy::Range(self.name));
        }
        let Ok(subjects) = SubjectPattern::parse(&self.subjects) else {
            return Err(InvalidPolicy::Subjects {
                rule: self.name,
                subjects: self.subjects,
            });
        };
        let modes = match self.modes {
            None => MODES_ALL,
            Some(list) if list.iter().all(|mode| (1..=3).contains(mode)) => {
                list.iter().fold(0, |bits, mode| bits | 1 << (mode - 1))
            }
            Some(_) => return Err(InvalidPolicy::Range(self.name)),
        };
        let limits = RuleLimits {
            max_age_ms: self.max_age_ms,
            max_depth: self.max_depth,
            rate: self.rate,
            min_score: self.min_score,
            session: self.session,
            modes,
        };
        let rule = Rule {
            name: self.name,
            effect: self.effect,
            actions,
            subjects,
            limits,
        };
        rule.check()?;
        Ok(rule)
    }
}
