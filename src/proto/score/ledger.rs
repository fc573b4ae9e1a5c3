//! The ledger: the standing of every agent the scorer has met.

use std::collections::BTreeMap;

use super::Cause;
use super::Misbehaviour;
use super::Parameters;
use super::standing::Entry;
use crate::proto::identity::AgentId;
use crate::proto::limits::SCORED_AGENTS_MAX;
use crate::proto::signing::ObjectId;
use crate::proto::time::Timestamp;

/// Who answers for a new agent.
#[derive(Clone, Copy, Debug)]
pub enum Sponsor<'a> {
    /// Whoever runs the mesh: the agent begins with what the parameters say.
    Operator,
    /// Another agent: the new one begins no higher than that one stands by itself, and at the floor
    /// when that one is not registered.
    Agent(&'a AgentId),
}

/// What one event did to a score.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Change {
    /// The score before it.
    pub before: u16,
    /// The score after it.
    pub after: u16,
    /// Whether the score fell below the alarm by it.
    pub alarm: bool,
}

/// [`SCORED_AGENTS_MAX`] agents are held, and none can be forgotten.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("scores: the ledger is full of agents that cannot be forgotten")]
pub struct LedgerFull;

/// The standing of every agent, by id.
///
/// An entry outlives the agent's registration, so that leaving and coming back changes nothing. It
/// holds [`SCORED_AGENTS_MAX`] agents. When it is full it forgets those that are not registered,
/// have no penalty, and would begin no higher if they came back; when there are none it takes in
/// nobody new. A penalty is never forgotten.
///
/// Every event is exact: the same events at the same instants yield the same scores, however often
/// somebody looks in between. The score itself follows from the laws that [`score`](super) states.
///
/// ```
/// use trustmesh::proto::identity::AgentId;
/// use trustmesh::proto::score::Ledger;
/// use trustmesh::proto::score::Misbehaviour;
/// use trustmesh::proto::score::Parameters;
/// use trustmesh::proto::score::Sponsor;
/// use trustmesh::proto::signing::ObjectId;
/// use trustmesh::proto::time::Timestamp;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let now = Timestamp::from_millis(1_000_000);
/// let (planner, helper) = (AgentId::parse("planner")?, AgentId::parse("helper")?);
/// let reader = AgentId::parse("reader")?;
/// let mut ledger = Ledger::new(Parameters::default());
/// assert_eq!(ledger.register(&planner, Sponsor::Operator, now)?, 500);
///
/// let evidence = ObjectId([7; 32]); // the message that proves it
/// ledger.penalise(&planner, Misbehaviour::ScopeExceeded, (evidence, &reader), now)?;
/// assert_eq!(ledger.score(&planner, now), Some(400));
/// assert_eq!(ledger.register(&planner, Sponsor::Operator, now)?, 400);
/// assert_eq!(ledger.register(&helper, Sponsor::Agent(&planner), now)?, 400);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ledger {
    pub(super) parameters: Parameters,
    pub(super) entries: BTreeMap<AgentId, Entry>,
    /// The latest instant it was told: an earlier one is taken for it, so that a clock which goes
    /// back, over a restart too, brings no score back.
    pub(super) latest: Timestamp,
    capacity: usize,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(parameters: Parameters) -> Self {
        Self {
            parameters,
            entries: BTreeMap::new(),
            latest: Timestamp::default(),
            capacity: SCORED_AGENTS_MAX,
        }
    }

    /// The same ledger for at most `capacity` agents.
    #[must_use]
    pub fn with_capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// The parameters in use.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Takes other parameters into use. Bases, what was earned and what was lent are cut to what
    /// they allow; no part of any standing rises. Penalties stay as they are.
    pub fn reconfigure(&mut self, parameters: Parameters, now: Timestamp) {
        let now = self.move_on(now);
        let (old, new) = (*self.parameters.weights(), *parameters.weights());
        for entry in self.entries.values_mut() {
            entry.rescale(now, &old, &new);
        }
        self.parameters = parameters;
    }

    /// Registers an agent, for the first time or again, and says its score. An agent that was known
    /// keeps its penalties and begins no higher than it stood.
    ///
    /// # Errors
    ///
    /// [`LedgerFull`] for an agent that is new.
    pub fn register(
        &mut self,
        agent: &AgentId,
        sponsor: Sponsor<'_>,
        now: Timestamp,
    ) -> Result<u16, LedgerFull> {
        let now = self.move_on(now);
        let weights = *self.parameters.weights();
        let vouched = match sponsor {
            Sponsor::Operator => weights.start,
            // Nobody vouches for itself: coming back on its own changes nothing.
            Sponsor::Agent(sponsor) if sponsor == agent => self
                .entries
                .get(agent)
                .map_or(weights.floor, |entry| entry.base),
            Sponsor::Agent(sponsor) => self
                .entries
                .get(sponsor)
                .filter(|entry| entry.registered)
                .map_or(weights.floor, |entry| entry.own_score(now, &weights)),
        };
        let base = vouched.min(weights.start);
        let entry = self.entry(agent, base, now)?;
        let sponsor = match sponsor {
            Sponsor::Operator => None,
            Sponsor::Agent(sponsor) => Some(sponsor),
        };
        entry.register((sponsor, base), now, &weights);
        Ok(entry.score(now, &weights))
    }

    /// Takes an agent off the register. What is known of it stays.
    pub fn deregister(&mut self, agent: &AgentId, now: Timestamp) {
        let now = self.move_on(now);
        let weights = *self.parameters.weights();
        if let Some(entry) = self.entries.get_mut(agent) {
            entry.deregister(now, &weights);
        }
    }

    /// Counts a finding against an agent. The evidence names the signed object that proves it: the
    /// caller has verified it, and counts none twice. Who brought it is noted, and counts for nothing.
    ///
    /// # Errors
    ///
    /// [`LedgerFull`] for an agent that is new.
    pub fn penalise(
        &mut self,
        agent: &AgentId,
        misbehaviour: Misbehaviour,
        (evidence, reporter): (ObjectId, &AgentId),
        now: Timestamp,
    ) -> Result<Change, LedgerFull> {
        let now = self.move_on(now);
        let weights = *self.parameters.weights();
        let entry = self.entry(agent, weights.start, now)?;
        let before = entry.score(now, &weights);
        entry.penalise(misbehaviour, (evidence, reporter), now, &weights);
        let after = entry.score(now, &weights);
        Ok(Change {
            before,
            after,
            alarm: before >= weights.alarm && after < weights.alarm,
        })
    }

    /// Gives an agent credit for having been there, without a finding, as the caller saw for
    /// itself. `None` when none is due: it is not registered, or was credited or found at fault
    /// within [`quiet_ms`](super::Weights::quiet_ms).
    pub fn credit(&mut self, agent: &AgentId, now: Timestamp) -> Option<Change> {
        let now = self.move_on(now);
        let weights = *self.parameters.weights();
        let entry = self.entries.get_mut(agent)?;
        let before = entry.score(now, &weights);
        let given = entry.credit(now, &weights);
        given.then(|| Change::up(before, entry.score(now, &weights)))
    }

    /// Lends an agent standing on the word of another. It lifts nobody above the endorser's own
    /// score, in which nothing lent counts: agents that endorse one another gain nothing. `None`
    /// when nothing is lent.
    pub fn endorse(
        &mut self,
        endorser: &AgentId,
        agent: &AgentId,
        now: Timestamp,
    ) -> Option<Change> {
        let now = self.move_on(now);
        let weights = *self.parameters.weights();
        let lender = self
            .entries
            .get(endorser)
            .filter(|entry| entry.registered)?;
        let own = lender.own_score(now, &weights);
        let entry = self.entries.get_mut(agent)?;
        let before = entry.score(now, &weights);
        let lent = entry.endorse((endorser, own), now, &weights);
        lent.then(|| Change::up(before, entry.score(now, &weights)))
    }

    /// The score of an agent, registered or not; `None` when it was never met.
    pub fn score(&self, agent: &AgentId, now: Timestamp) -> Option<u16> {
        let entry = self.entries.get(agent)?;
        Some(entry.score(now.max(self.latest), self.parameters.weights()))
    }

    /// The scores of all registered agents, as they are published. What was published once does
    /// not come back when the clock does.
    pub fn scores(&mut self, now: Timestamp) -> BTreeMap<AgentId, u16> {
        let now = self.move_on(now);
        let weights = self.parameters.weights();
        let registered = self.entries.iter().filter(|(_, entry)| entry.registered);
        registered
            .map(|(agent, entry)| (agent.clone(), entry.score(now, weights)))
            .collect()
    }

    /// What moved an agent's score, oldest first: the last [`HISTORY`](super::HISTORY) causes.
    pub fn history(&self, agent: &AgentId) -> impl Iterator<Item = &Cause> {
        let entry = self.entries.get(agent);
        entry.into_iter().flat_map(|entry| &entry.history)
    }

    /// How many agents are known, registered or not.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn move_on(&mut self, now: Timestamp) -> Timestamp {
        self.latest = self.latest.max(now);
        self.latest
    }

    fn entry(
        &mut self,
        agent: &AgentId,
        base: u16,
        now: Timestamp,
    ) -> Result<&mut Entry, LedgerFull> {
        if !self.entries.contains_key(agent) && self.entries.len() >= self.capacity {
            let parameters = self.parameters;
            self.entries
                .retain(|_, entry| !entry.says_nothing(&parameters));
            if self.entries.len() >= self.capacity {
                return Err(LedgerFull);
            }
        }
        let fresh = || Entry::new(base, now, self.parameters.weights());
        Ok(self.entries.entry(agent.clone()).or_insert_with(fresh))
    }
}

impl Change {
    fn up(before: u16, after: u16) -> Self {
        Self {
            before,
            after,
            alarm: false,
        }
    }
}
