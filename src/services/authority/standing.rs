//! How agents stand: the score ledger among the books (protocol §10.4).
//!
//! The verifier service keeps it. An authority without one publishes the scores that the operator
//! set; with one, those are the most that an agent's score can be.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Authority;
use crate::proto::identity::AgentId;
use crate::proto::join::is_reserved;
use crate::proto::rejection::Rejection;
use crate::proto::revocation::Revocation;
use crate::proto::score::Cause;
use crate::proto::score::Change;
use crate::proto::score::Ledger;
use crate::proto::score::Parameters;
use crate::proto::score::SCORE_MAX;
use crate::proto::score::Sponsor;
use crate::proto::time::Timestamp;
use crate::proto::trust::TrustState;
use crate::proto::verify::Fault;
use crate::services::verifier::evidence::Dismissed;
use crate::services::verifier::evidence::Docket;

/// The score ledger, and what the operator has set.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Standings {
    ledger: Ledger,
    caps: BTreeMap<AgentId, u16>,
}

impl Default for Standings {
    fn default() -> Self {
        Self {
            ledger: Ledger::new(Parameters::default()),
            caps: BTreeMap::new(),
        }
    }
}

impl Standings {
    pub(super) fn restore(
        bytes: &Bytes,
        caps: BTreeMap<AgentId, u16>,
        parameters: Parameters,
    ) -> Result<Self, Rejection> {
        let ledger = Ledger::restore(bytes, parameters)?;
        Ok(Self { ledger, caps })
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        self.ledger.to_bytes()
    }

    pub(super) fn caps(&self) -> &BTreeMap<AgentId, u16> {
        &self.caps
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ledger.is_empty() && self.caps.is_empty()
    }

    fn capped(&self, agent: &AgentId, score: u16) -> u16 {
        score.min(self.caps.get(agent).copied().unwrap_or(SCORE_MAX))
    }

    /// What is published of an agent: nothing when it was never met.
    fn score(&self, agent: &AgentId, now: Timestamp) -> Option<u16> {
        let score = self.ledger.score(agent, now)?;
        Some(self.capped(agent, score))
    }

    fn scores(&mut self, now: Timestamp) -> BTreeMap<AgentId, u16> {
        let mut scores = self.ledger.scores(now);
        for (agent, score) in &mut scores {
            *score = self.capped(agent, *score);
        }
        scores
    }
}

impl Authority {
    /// What moved an agent's score, oldest first: the last
    /// [`HISTORY`](crate::proto::score::HISTORY) causes.
    pub fn score_history(&self, agent: &AgentId) -> impl Iterator<Item = &Cause> {
        self.ledger.standings.ledger.history(agent)
    }

    /// Begins to keep scores, as policy says how: of every agent in the books from now on. Returns
    /// whether faults may have been counted before.
    pub(crate) fn begin_scoring(&mut self, now: Timestamp) -> bool {
        let before = !self.ledger.standings.ledger.is_empty();
        let parameters = *self.policy.scores();
        self.ledger.standings.ledger.reconfigure(parameters, now);
        self.scoring = true;
        let ledger = &self.ledger.standings.ledger;
        let unknown = |agent: &&AgentId| ledger.score(agent, now).is_none();
        let unknown: Vec<AgentId> = self.agents.ids().filter(unknown).cloned().collect();
        for agent in unknown {
            self.register(&agent, now);
        }
        before
    }

    /// Registers an agent's standing, for the first time or again, by whom its books name as its
    /// sponsor. Nothing that is known of it is forgotten.
    pub(super) fn register(&mut self, agent: &AgentId, now: Timestamp) {
        if !self.scoring || is_reserved(agent) {
            return;
        }
        let terms = self.ledger.terms(agent).cloned();
        let sponsor = terms.as_ref().and_then(|terms| terms.sponsor.as_ref());
        let sponsor = sponsor.map_or(Sponsor::Operator, Sponsor::Agent);
        let registered = self.ledger.standings.ledger.register(agent, sponsor, now);
        if let Err(full) = registered {
            // Without a score it is refused wherever policy asks for one.
            tracing::warn!(%agent, %full);
        }
        self.rescore_one(agent, now);
    }

    /// Takes an agent that is revoked off the register. What is known of it stays.
    pub(super) fn deregister_revoked(&mut self, revoked: &Revocation) {
        // While time cannot be trusted, as of the last instant known.
        let now = self.clock.now().unwrap_or_default();
        if let Revocation::Agent(agent) = revoked {
            self.ledger.standings.ledger.deregister(agent, now);
        }
    }

    /// Hears a report, and counts the fault it proves.
    pub(crate) fn hear(
        &mut self,
        docket: &mut Docket,
        frame: &Bytes,
        trust: &TrustState,
        now: Timestamp,
    ) -> Result<(Fault, Change), Dismissed> {
        let ledger = &mut self.ledger.standings.ledger;
        let heard = docket.hear(frame, trust, ledger, now)?;
        self.rescore_one(&heard.0.culprit, now);
        Ok(heard)
    }

    /// Gives an agent credit for having proved that it is there, when some is due. Publish
    /// afterwards when it changed something.
    pub(crate) fn credit(&mut self, agent: &AgentId, now: Timestamp) -> Option<Change> {
        if !self.scoring {
            return None;
        }
        let change = self.ledger.standings.ledger.credit(agent, now)?;
        self.rescore_one(agent, now);
        Some(change)
    }

    /// Brings all scores up to date, and says whether one changed.
    pub(crate) fn rescore(&mut self, now: Timestamp) -> bool {
        let scores = self.ledger.standings.scores(now);
        let old = &self.scores;
        let changed = scores
            .iter()
            .any(|(agent, score)| old.get(agent) != Some(score));
        self.scores.extend(scores);
        changed
    }

    fn rescore_one(&mut self, agent: &AgentId, now: Timestamp) {
        if let Some(score) = self.ledger.standings.score(agent, now) {
            self.scores.insert(agent.clone(), score);
        }
    }

    /// Notes what the operator set: where scores are kept, the most that an agent's can be.
    pub(super) fn cap_score(&mut self, agent: AgentId, most: u16, now: Timestamp) {
        self.scores.insert(agent.clone(), most);
        self.ledger.standings.caps.insert(agent.clone(), most);
        if self.scoring {
            self.rescore_one(&agent, now);
        }
    }

    /// Computes scores as policy now says.
    pub(super) fn reconfigure_scores(&mut self, now: Timestamp) {
        let parameters = *self.policy.scores();
        let ledger = &mut self.ledger.standings.ledger;
        if *ledger.parameters() != parameters {
            ledger.reconfigure(parameters, now);
            self.rescore(now);
        }
    }
}
