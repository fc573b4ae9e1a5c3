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

    /// An agent's score as it is published next; `None` when it was never met.
    pub fn score(&self, agent: &AgentId) -> Option<u16> {
        self.scores.get(agent).copied()
    }

    /// The most that an agent's score can be, when the operator [set](Self::set_score) one.
    pub fn score_limit(&self, agent: &AgentId) -> Option<u16> {
        self.ledger.standings.caps.get(agent).copied()
    }

    /// Begins to keep scores, as policy says how: of every agent in the books from now on. Returns
    /// whether faults may have been counted before.
    pub(crate) fn begin_scoring(&mut self, now: Timestamp) -> bool {
        let before = !self.ledger.standings.ledger.is_empty();
        let parameters = *self.policy.scores();
        self.ledger.standings.ledger.reconfigure(parameters, now);
        self.scoring = true;
        let mut unknown: Vec<AgentId> = self.agents.ids().cloned().collect();
        unknown.retain(|agent| !self.is_scored(agent, now));
        // Sponsors first; those that sponsor one another have nobody who stands by himself.
        loop {
            let (ready, wait): (Vec<_>, Vec<_>) = unknown.into_iter().partition(|agent| {
                let sponsor = self.sponsor(agent);
                sponsor.is_none_or(|sponsor| self.is_scored(sponsor, now))
            });
            let stuck = ready.is_empty();
            for agent in if stuck { &wait } else { &ready } {
                self.register(agent, now);
            }
            unknown = wait;
            if stuck {
                break;
            }
        }
        before
    }

    fn is_scored(&self, agent: &AgentId, now: Timestamp) -> bool {
        self.ledger.standings.ledger.score(agent, now).is_some()
    }

    fn sponsor(&self, agent: &AgentId) -> Option<&AgentId> {
        self.ledger.terms(agent)?.sponsor.as_ref()
    }

    /// Registers an agent's standing, for the first time or again, by whom its books name as its
    /// sponsor. Nothing that is known of it is forgotten.
    pub(super) fn register(&mut self, agent: &AgentId, now: Timestamp) {
        if !self.scoring || is_reserved(agent) {
            return;
        }
        let sponsor = self.sponsor(agent).cloned();
        let sponsor = sponsor.as_ref().map_or(Sponsor::Operator, Sponsor::Agent);
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
        report: (&Bytes, &AgentId),
        trust: &TrustState,
        now: Timestamp,
    ) -> Result<(Fault, Change), Dismissed> {
        let ledger = &mut self.ledger.standings.ledger;
        let heard = docket.hear(report, trust, ledger, now)?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::client::clock::ManualClock;
    use crate::proto::policy::Policy;
    use crate::proto::scope::Scope;
    use crate::services::authority::ledger::Terms;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn id(text: &str) -> AgentId {
        AgentId::parse(text).unwrap()
    }

    fn mesh() -> Authority {
        let clock = Arc::new(ManualClock::at(NOW));
        Authority::dev_with_clock("test", clock).unwrap()
    }

    fn sponsored(mesh: &mut Authority, agent: &str, sponsor: &str) {
        mesh.agent(agent, ["pub:x"]).unwrap();
        let terms = Terms {
            scope: Scope::default(),
            depth: 0,
            grant_ttl_ms: 1,
            sponsor: Some(id(sponsor)),
        };
        mesh.ledger.set_terms(&id(agent), terms);
    }

    /// Whatever the order of their ids.
    #[test]
    fn agents_from_before_scores_were_kept_begin_as_their_sponsors_stand() {
        let mut mesh = mesh();
        sponsored(&mut mesh, "a", "b");
        sponsored(&mut mesh, "b", "z");
        sponsored(&mut mesh, "one", "other");
        sponsored(&mut mesh, "other", "one");
        mesh.agent("z", ["pub:x"]).unwrap();
        assert!(!mesh.begin_scoring(NOW));
        let score = |agent: &str| mesh.scores.get(&id(agent)).copied();
        assert_eq!(
            (score("a"), score("b"), score("z")),
            (Some(500), Some(500), Some(500))
        );
        // Nobody who stands by himself vouches for these.
        assert_eq!(score("one"), Some(0));
        assert!(mesh.begin_scoring(NOW));
    }

    /// An operator's word is an upper bound, before and after scores are kept; a policy that allows
    /// less is applied at once.
    #[test]
    fn what_the_operator_sets_is_the_most_a_score_can_be() {
        let mut mesh = mesh();
        mesh.agent("a", ["pub:x"]).unwrap();
        mesh.agent("b", ["pub:x"]).unwrap();
        mesh.set_score("a", 900).unwrap();
        mesh.set_score("b", 20).unwrap();
        assert_eq!(mesh.scores.get(&id("a")), Some(&900));
        mesh.begin_scoring(NOW);
        let scores = |mesh: &Authority| (mesh.scores[&id("a")], mesh.scores[&id("b")]);
        assert_eq!(scores(&mesh), (500, 20));
        mesh.set_score("a", 400).unwrap();
        assert_eq!(scores(&mesh), (400, 20));
        mesh.set_score("a", 900).unwrap();
        let policy = r#"{ "rules": [], "scores": { "start": 300 } }"#;
        mesh.set_policy(Policy::from_json(policy).unwrap()).unwrap();
        assert_eq!(scores(&mesh), (300, 20));
    }

    /// What was written under other parameters is read back, and cut to the new ones.
    #[test]
    fn books_with_scores_survive_another_policy() {
        let mut mesh = mesh();
        mesh.agent("a", ["pub:x"]).unwrap();
        mesh.begin_scoring(NOW);
        mesh.set_score("b", 7).unwrap();
        let bytes = mesh.ledger.encode();
        let parse = |parameters| super::super::Ledger::parse(&bytes, parameters).unwrap();
        assert_eq!(parse(Parameters::default()), mesh.ledger);
        let other = Policy::from_json(r#"{ "rules": [], "scores": { "start": 300 } }"#).unwrap();
        let read = parse(*other.scores());
        assert_eq!(read.standings.score(&id("a"), NOW), Some(300));
        assert_eq!(read.standings.caps().get(&id("b")), Some(&7));
    }
}
