//! What a mesh permits beyond what was granted. Deny by default, and deny wins (protocol §10).
//!
//! A message is permitted when no deny rule matches it, at least one allow rule does, and it keeps
//! the limits of **every** allow rule that matches. The order of rules therefore never matters: a
//! broad rule and a narrow one both bind.

mod rates;
mod scoring;
mod source;

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;

use super::breaker;
use super::certificate::Certificate;
use super::chain::Chain;
use super::identity::AgentId;
use super::identity::KeyBytes;
use super::limits::DELEGATION_TTL_MS;
use super::limits::LIFETIME_MAX_MS;
use super::limits::ROOT_GRANT_TTL_MS;
use super::limits::RULES_MAX;
use super::limits::SUBJECT_MAX;
use super::limits::TTL_MAX_MS;
use super::names::MODE_SINGLE;
use super::rejection::Blocked;
use super::rejection::DepthExceeded;
use super::rejection::Malformed;
use super::rejection::Place;
use super::rejection::PolicyDenied;
use super::rejection::Rejection;
use super::rejection::ScopeExceeded;
use super::revocation::read_agent;
use super::revocation::read_set;
use super::scope::Action;
use super::scope::Actions;
use super::scope::checked_text;
use super::score;
use super::subject::Subject;
use super::subject::SubjectPattern;
use super::wire::Reader;
use super::wire::bin;
use super::wire::encode_into;

pub use self::rates::RateLimiter;
pub use self::scoring::Scoring;
pub use self::source::InvalidPolicy;
use self::source::Source;

/// Longest rule name in bytes; it stands in audit events.
const RULE_NAME_MAX: usize = 64;

/// Bits of the envelope modes that can be allowed: bit `m − 1` for mode `m`, modes 1 to 3.
const MODES_ALL: u8 = 0b111;

/// A policy: ceilings, lists and rules (protocol §10.1). The default has no rule and denies
/// everything.
///
/// Holding one tells you that its names are unique, at most [`RULES_MAX`] rules are in it, and
/// every limit is in its range.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    ttl: Ceilings,
    blocked: Agents,
    allowed: Option<Agents>,
    rules: Vec<Rule>,
    scoring: Scoring,
}

/// Longest lifetimes, in milliseconds (protocol §10.1, §10.3).
///
/// By default they are [`TTL_MAX_MS`], [`ROOT_GRANT_TTL_MS`] and [`DELEGATION_TTL_MS`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Ceilings {
    /// Of an envelope: 1 to [`TTL_MAX_MS`].
    pub envelope_ms: u32,
    /// Of a root grant: 1 to [`LIFETIME_MAX_MS`].
    pub grant_ms: u64,
    /// Of a delegation: 1 to [`LIFETIME_MAX_MS`].
    pub delegation_ms: u64,
}

impl Default for Ceilings {
    fn default() -> Self {
        Self {
            envelope_ms: TTL_MAX_MS,
            grant_ms: ROOT_GRANT_TTL_MS,
            delegation_ms: DELEGATION_TTL_MS,
        }
    }
}

/// A set of agents, by id or by key: a policy's block or allow list.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Agents {
    ids: HashSet<AgentId>,
    keys: HashSet<KeyBytes>,
}

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
    name: String,
    effect: Effect,
    actions: Actions,
    subjects: SubjectPattern,
    limits: RuleLimits,
}

/// The limits of an allow rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct RuleLimits {
    max_age_ms: Option<u32>,
    max_depth: Option<u8>,
    rate: Option<Rate>,
    min_score: Option<u16>,
    session: bool,
    modes: u8,
}

impl Policy {
    /// Reads a policy from JSON.
    ///
    /// | member | value |
    /// |---|---|
    /// | `ttl` | [`Ceilings`]: `envelope_ms`, `grant_ms`, `delegation_ms`; each has a default |
    /// | `blocked` | `{ "agents": [id…], "keys": [hexadecimal…] }`, nobody by default |
    /// | `allowed` | the same form; everybody when absent |
    /// | `rules` | at most 256 rules, required |
    ///
    /// A rule has the members `name` (1 to 64 bytes, unique), `effect` (`allow` or `deny`),
    /// `actions` (names, at least one) and `subjects` (a pattern). An allow rule may also have
    /// `max_age_ms`, `max_depth` (delegations), `rate` (`{ "count": …, "per_ms": … }`), `min_score`
    /// (0 to 1,000), `session` (`true` asks for one) and `modes` (of 1 to 3; all by default).
    ///
    /// ```
    /// use trustmesh::proto::policy::Policy;
    ///
    /// let policy = Policy::from_json(
    ///     r#"{ "rules": [ { "name": "tools", "effect": "allow", "actions": ["req", "serve", "sub"],
    ///                       "subjects": "tools.>", "max_depth": 3 } ] }"#,
    /// )?;
    /// assert_eq!(policy.rules().len(), 1);
    /// # Ok::<(), trustmesh::proto::policy::InvalidPolicy>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidPolicy`]: what is not understood is never ignored. [`Form`](InvalidPolicy::Form) for
    /// unknown or missing members and wrong types, [`Action`](InvalidPolicy::Action),
    /// [`Subjects`](InvalidPolicy::Subjects), [`Agent`](InvalidPolicy::Agent),
    /// [`Name`](InvalidPolicy::Name) for one that is unusable or given twice,
    /// [`LimitedDeny`](InvalidPolicy::LimitedDeny), [`Range`](InvalidPolicy::Range),
    /// [`Ceiling`](InvalidPolicy::Ceiling) and [`TooMany`](InvalidPolicy::TooMany).
    pub fn from_json(text: &str) -> Result<Self, InvalidPolicy> {
        let source: Source =
            serde_json::from_str(text).map_err(|e| InvalidPolicy::Form(e.to_string()))?;
        source.compile()
    }

    /// The rules, in the order they were given; the order decides nothing.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The longest lifetimes.
    pub fn ttl(&self) -> Ceilings {
        self.ttl
    }

    /// How scores are computed.
    pub fn scores(&self) -> &score::Parameters {
        &self.scoring.scores
    }

    /// When a receiver quarantines a key.
    pub fn quarantine(&self) -> &breaker::Parameters {
        &self.scoring.quarantine
    }

    /// The agents that are stopped.
    pub fn blocked(&self) -> &Agents {
        &self.blocked
    }

    /// The only agents that are not stopped, when there is such a list.
    pub fn allowed(&self) -> Option<&Agents> {
        self.allowed.as_ref()
    }

    /// Checks an agent against the block and allow lists.
    pub(crate) fn check_lists(&self, who: &Certificate, place: Place) -> Result<(), Rejection> {
        let blocked = |reason| Err(Rejection::Blocked { place, reason });
        if self.blocked.keys.contains(&who.claims().key) {
            return blocked(Blocked::Key);
        }
        if self.blocked.ids.contains(who.agent()) {
            return blocked(Blocked::Agent);
        }
        match &self.allowed {
            Some(allowed) if !allowed.has(who) => blocked(Blocked::NotAllowed),
            _ => Ok(()),
        }
    }

    /// Checks the lifetimes of a chain's links against the ceilings.
    pub(crate) fn check_lifetimes(&self, chain: &Chain) -> Result<(), Rejection> {
        for (index, link) in chain.links().iter().enumerate() {
            let ceiling = if index == 0 {
                self.ttl.grant_ms
            } else {
                self.ttl.delegation_ms
            };
            if link.validity().millis() > ceiling {
                let place = Place::Hop(index as u8);
                return Err(Rejection::ScopeExceeded {
                    place,
                    reason: ScopeExceeded::Lifetime,
                });
            }
        }
        Ok(())
    }

    /// Decides one message. Rates are not debited here: see [`RateLimiter`].
    pub(crate) fn permit(&self, request: &Request<'_>) -> Result<Permitted, Rejection> {
        if request.ttl_ms > self.ttl.envelope_ms {
            return denied(PolicyDenied::Ttl);
        }
        let matching = |rule: &&Rule| rule.matches(request.action, request.subject);
        if self
            .rules
            .iter()
            .filter(matching)
            .any(|rule| rule.effect == Effect::Deny)
        {
            return denied(PolicyDenied::DenyRule);
        }
        let mut permitted = Permitted {
            mid: request.mid,
            rates: Vec::new(),
        };
        let mut allowed = false;
        for (index, rule) in self
            .rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| matching(rule))
        {
            rule.limits.check(request)?;
            allowed = true;
            if rule.limits.rate.is_some() {
                permitted.rates.push(index);
            }
        }
        if allowed {
            Ok(permitted)
        } else {
            denied(PolicyDenied::NoRule)
        }
    }

    /// Whether a rule permits messages of this action on this subject only within a session.
    pub(crate) fn asks_for_session(&self, action: Action, subject: &Subject) -> bool {
        let mut rules = self.rules.iter();
        rules.any(|rule| rule.limits.session && rule.matches(action, subject))
    }

    /// Whether policy lets an envelope of this mode through, as far as its mode decides.
    pub(crate) fn allows_mode(&self, action: Action, subject: &Subject, mode: u8) -> bool {
        self.rules
            .iter()
            .filter(|rule| rule.effect == Effect::Allow && rule.matches(action, subject))
            .all(|rule| rule.limits.allows_mode(mode))
    }

    /// Decides a subscription. A deny rule that overlaps the pattern denies it as a whole: an
    /// overlap could deliver what is denied.
    pub(crate) fn permit_subscription(&self, pattern: &SubjectPattern) -> Result<(), Rejection> {
        let of = |effect| {
            self.rules
                .iter()
                .filter(move |rule| rule.effect == effect && rule.actions.has(Action::Subscribe))
        };
        if of(Effect::Deny).any(|rule| rule.subjects.overlaps(pattern)) {
            return denied(PolicyDenied::DenyRule);
        }
        if of(Effect::Allow).any(|rule| rule.subjects.contains(pattern)) {
            Ok(())
        } else {
            denied(PolicyDenied::NoRule)
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let ttl = (
            self.ttl.envelope_ms,
            self.ttl.grant_ms,
            self.ttl.delegation_ms,
        );
        encode_into(out, &ttl);
        self.blocked.write(out);
        match &self.allowed {
            Some(allowed) => allowed.write(out),
            None => encode_into(out, &()),
        }
        encode_into(out, &self.rules.iter().map(Rule::wire).collect::<Vec<_>>());
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Rejection> {
        r.array_of(3)?;
        let ttl = Ceilings {
            envelope_ms: r.number_of()?,
            grant_ms: r.uint()?,
            delegation_ms: r.uint()?,
        };
        if !ttl.are_sound() {
            return Err(r.fault(Malformed::OutOfRange));
        }
        let blocked = Agents::read(r)?;
        let allowed = r.optional(Agents::read)?;
        let len = r.array_up_to(RULES_MAX)?;
        let rules: Result<Vec<_>, _> = (0..len).map(|_| Rule::read(r)).collect();
        let rules = rules?;
        let mut names = HashSet::new();
        if !rules.iter().all(|rule| names.insert(rule.name.as_str())) {
            return Err(r.fault(Malformed::Duplicate));
        }
        Ok(Self {
            ttl,
            blocked,
            allowed,
            rules,
            scoring: Scoring::default(),
        })
    }
}

fn denied<T>(reason: PolicyDenied) -> Result<T, Rejection> {
    Err(Rejection::PolicyDenied { reason })
}

impl Ceilings {
    fn are_sound(&self) -> bool {
        (1..=TTL_MAX_MS).contains(&self.envelope_ms)
            && (1..=LIFETIME_MAX_MS).contains(&self.grant_ms)
            && (1..=LIFETIME_MAX_MS).contains(&self.delegation_ms)
    }
}

impl Agents {
    /// The ids, in no particular order.
    pub fn ids(&self) -> impl Iterator<Item = &AgentId> {
        self.ids.iter()
    }

    /// The keys, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = &KeyBytes> {
        self.keys.iter()
    }

    fn has(&self, who: &Certificate) -> bool {
        self.ids.contains(who.agent()) || self.keys.contains(&who.claims().key)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut ids: Vec<_> = self.ids.iter().map(AgentId::as_str).collect();
        ids.sort_unstable();
        let mut keys: Vec<_> = self.keys.iter().collect();
        keys.sort();
        encode_into(
            out,
            &(ids, keys.iter().map(|key| bin(&key.0)).collect::<Vec<_>>()),
        );
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Rejection> {
        r.array_of(2)?;
        Ok(Self {
            ids: read_set(r, read_agent)?,
            keys: read_set(r, Reader::key)?,
        })
    }
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

    fn wire(&self) -> impl serde::Serialize + '_ {
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

    fn read(r: &mut Reader<'_>) -> Result<Self, Rejection> {
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

    fn check(&self) -> Result<(), InvalidPolicy> {
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

    fn allows_mode(&self, mode: u8) -> bool {
        self.modes & (1 << (mode - MODE_SINGLE)) != 0
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Rejection> {
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

/// What policy is asked about one message.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) mid: super::replay::MessageId,
    pub(crate) action: Action,
    pub(crate) subject: &'a Subject,
    pub(crate) mode: u8,
    pub(crate) age_ms: u64,
    pub(crate) ttl_ms: u32,
    pub(crate) depth: u8,
    pub(crate) score: Option<u16>,
    pub(crate) session: bool,
}

/// Evidence that policy permits one message, apart from the rates of the rules it names (protocol
/// §10.4).
///
/// It names its message and is one of the pieces a
/// [`VerifiedEnvelope`](super::verify::VerifiedEnvelope) is made of. Only a [`Policy`] makes one:
///
/// ```compile_fail
/// use trustmesh::proto::policy::Permitted;
/// use trustmesh::proto::replay::MessageId;
///
/// let forged = Permitted { mid: MessageId([0; 16]), rates: Vec::new() }; // private fields
/// ```
#[derive(Debug)]
pub struct Permitted {
    mid: super::replay::MessageId,
    rates: Vec<usize>,
}

impl Permitted {
    /// The message this is evidence for.
    pub(crate) fn mid(&self) -> super::replay::MessageId {
        self.mid
    }

    /// Whether a rule it rests on has a rate.
    pub(crate) fn is_rated(&self) -> bool {
        !self.rates.is_empty()
    }
}
