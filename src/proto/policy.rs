//! What a mesh permits beyond what was granted. Deny by default, and deny wins (protocol §10).
//!
//! A message is permitted when no deny rule matches it, at least one allow rule does, and it keeps
//! the limits of **every** allow rule that matches. The order of rules therefore never matters: a
//! broad rule and a narrow one both bind.

mod needs;
mod rates;
mod rule;
mod scoring;
mod source;

use std::collections::HashSet;

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
use super::limits::TTL_MAX_MS;
use super::rejection::Blocked;
use super::rejection::Malformed;
use super::rejection::Place;
use super::rejection::PolicyDenied;
use super::rejection::Rejection;
use super::rejection::ScopeExceeded;
use super::revocation::read_agent;
use super::revocation::read_set;
use super::scope::Action;
use super::score;
use super::subject::Subject;
use super::subject::SubjectPattern;
use super::wire::Reader;
use super::wire::bin;
use super::wire::encode_into;

pub use self::needs::NeedsApproval;
pub use self::rates::RateLimiter;
pub use self::rule::Effect;
pub use self::rule::Rate;
pub use self::rule::Rule;
pub use self::scoring::Scoring;
pub use self::source::InvalidPolicy;
use self::source::Source;

/// A policy: ceilings, lists, rules and what needs an approval (protocol §10.1). The default has no
/// rule and denies everything.
///
/// Holding one tells you that its names are unique, at most [`RULES_MAX`] rules are in it, and
/// every limit is in its range.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    ttl: Ceilings,
    blocked: Agents,
    allowed: Option<Agents>,
    rules: Vec<Rule>,
    /// Ascending by pattern, which no two share.
    approval: Vec<NeedsApproval>,
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

impl Policy {
    /// Reads a policy from JSON.
    ///
    /// | member | value |
    /// |---|---|
    /// | `ttl` | [`Ceilings`]: `envelope_ms`, `grant_ms`, `delegation_ms`; each has a default |
    /// | `blocked` | `{ "agents": [id…], "keys": [hexadecimal…] }`, nobody by default |
    /// | `allowed` | the same form; everybody when absent |
    /// | `rules` | at most 256 rules, required |
    /// | `approval` | at most 64 of [`NeedsApproval`], with `subjects` and `actions`; none by default |
    /// | `scores` | members of [`Weights`](score::Weights); each has a default |
    /// | `quarantine` | members of [`Settings`](breaker::Settings); each has a default |
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
    /// [`Ceiling`](InvalidPolicy::Ceiling), [`Approval`](InvalidPolicy::Approval) and
    /// [`TooMany`](InvalidPolicy::TooMany).
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

    /// The messages that need an approval of their chain, in the order of their patterns.
    pub fn approval(&self) -> &[NeedsApproval] {
        &self.approval
    }

    /// The entry that makes a message of this action on this subject need an approval of its chain.
    pub fn asks_for_approval(&self, action: Action, subject: &Subject) -> Option<&NeedsApproval> {
        let mut needs = self.approval.iter();
        needs.find(|need| need.matches(action, subject))
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

    /// Whether the lists would stop an agent under this id and key.
    pub(crate) fn blocks(&self, agent: &AgentId, key: &KeyBytes) -> bool {
        let named = |list: &Agents| list.ids.contains(agent) || list.keys.contains(key);
        named(&self.blocked) || self.allowed.as_ref().is_some_and(|allowed| !named(allowed))
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
        if !allowed {
            return denied(PolicyDenied::NoRule);
        }
        // Last, since it may cost a signature.
        let asks = self.asks_for_approval(request.action, request.subject);
        if asks.is_some() && !request.approval.holds() {
            return denied(PolicyDenied::NotApproved);
        }
        Ok(permitted)
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

    /// Writes the content of a policy file and its extensions.
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
        needs::write(self, out);
    }

    /// Reads the content of a policy file and its extensions.
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
        let mut policy = Self {
            ttl,
            blocked,
            allowed,
            rules,
            approval: Vec::new(),
            scoring: Scoring::default(),
        };
        needs::read(&mut policy, r)?;
        Ok(policy)
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

    /// Whether an agent is in it, by id or by key.
    pub fn contains(&self, id: &AgentId, key: &KeyBytes) -> bool {
        self.ids.contains(id) || self.keys.contains(key)
    }

    fn has(&self, who: &Certificate) -> bool {
        self.contains(who.agent(), &who.claims().key)
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

/// What there is of an approval where policy may ask for one.
#[derive(Clone, Copy)]
pub(crate) enum Approvals<'a> {
    /// Asked only where policy needs it, since the answer may cost a signature.
    Ask(&'a dyn Fn() -> bool),
    /// The approval is looked for when the message is made.
    Later,
}

impl Approvals<'_> {
    fn holds(self) -> bool {
        match self {
            Self::Ask(ask) => ask(),
            Self::Later => true,
        }
    }
}

/// What policy is asked about one message.
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
    pub(crate) approval: Approvals<'a>,
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
