//! How an agent's score came about, as the books say: step by step, without a gap.

use serde::Deserialize;
use serde::Serialize;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::names::VERIFIER_ID;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::score::Cause;
use trustmesh::proto::score::CauseKind;
use trustmesh::proto::score::HISTORY;
use trustmesh::proto::score::Misbehaviour;
use trustmesh::services::authority::Authority;

/// Time took what was earned or lent.
pub const LAPSED: &str = "lapsed";

/// What the books know of a score.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct History {
    /// As it is published next.
    pub score: Option<u16>,
    /// The most that the operator lets it be.
    pub limit: Option<u16>,
    /// Whether there were steps before these, which still count.
    pub earlier: bool,
    /// Oldest first. What one leads to, the next one begins with.
    pub steps: Vec<Step>,
}

/// One step of a score.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Step {
    /// When, in milliseconds since the epoch. Of what lapsed, until when.
    pub at: u64,
    /// The score before it; none for the first.
    pub from: Option<u16>,
    /// The score after it.
    pub to: u16,
    /// What happened, in a word.
    pub cause: String,
    /// The class that misbehaviour is refused with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The signed object that proves misbehaviour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// Whose signature makes it evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// The agent that came forward: who reported it, vouched, or lent. Nobody, where it was the
    /// operator, or time.
    pub by: Option<String>,
}

impl History {
    /// What these books know.
    pub fn of(authority: &Authority, id: &AgentId) -> Self {
        let causes: Vec<&Cause> = authority.score_history(id).collect();
        let (score, limit) = (authority.score(id), authority.score_limit(id));
        Self {
            score,
            limit,
            earlier: causes.len() == HISTORY && causes[0].before.is_some(),
            steps: steps(id, &causes),
        }
    }
}

fn steps(id: &AgentId, causes: &[&Cause]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for cause in causes {
        let last = steps.last().map(|last| last.to);
        if let (Some(last), Some(before)) = (last, cause.before)
            && before != last
        {
            steps.push(Step::lapse(cause.at.as_millis(), last, before));
        }
        steps.push(Step::of(id, cause));
    }
    steps
}

impl Step {
    fn of(id: &AgentId, cause: &Cause) -> Self {
        let by = match cause.kind {
            CauseKind::Credited => Some(VERIFIER_ID.to_owned()),
            _ => cause.by.as_ref().map(AgentId::to_string),
        };
        let class = class(cause.kind);
        Self {
            at: cause.at.as_millis(),
            from: cause.before,
            to: cause.score,
            cause: cause.kind.name().to_owned(),
            evidence: cause.evidence.map(|evidence| evidence.to_string()),
            // Nothing else is evidence.
            signed_by: class.map(|_| id.to_string()),
            class: class.map(|class| class.name().to_owned()),
            by,
        }
    }

    /// What time took until then.
    pub fn lapse(until: u64, from: u16, to: u16) -> Self {
        Self {
            at: until,
            from: Some(from),
            to,
            cause: LAPSED.to_owned(),
            class: None,
            evidence: None,
            signed_by: None,
            by: None,
        }
    }
}

/// What receivers refuse such a message with.
fn class(kind: CauseKind) -> Option<Class> {
    match kind {
        CauseKind::Misbehaved(Misbehaviour::ScopeExceeded) => Some(Class::ScopeExceeded),
        CauseKind::Misbehaved(Misbehaviour::DepthExceeded) => Some(Class::DepthExceeded),
        CauseKind::Misbehaved(Misbehaviour::MalformedContent) => Some(Class::Malformed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use trustmesh::proto::score::Ledger;
    use trustmesh::proto::score::Parameters;
    use trustmesh::proto::score::Sponsor;
    use trustmesh::proto::signing::ObjectId;
    use trustmesh::proto::time::Timestamp;

    use super::*;

    const HOUR: u64 = 3_600_000;

    /// What time takes between two causes is a step of its own.
    #[test]
    fn each_step_begins_where_the_last_one_ended() {
        let id = |text| AgentId::parse(text).unwrap();
        let start = Timestamp::from_millis(1_800_000_000_000);
        let (planner, elder) = (id("planner"), id("elder"));
        let mut ledger = Ledger::new(Parameters::default());
        ledger.register(&elder, Sponsor::Operator, start).unwrap();
        ledger.register(&planner, Sponsor::Operator, start).unwrap();
        ledger.credit(&planner, start.plus(HOUR)).unwrap();
        let late = start.plus(100 * HOUR);
        let proof = (ObjectId([7; 32]), &elder);
        let kind = Misbehaviour::ScopeExceeded;
        ledger.penalise(&planner, kind, proof, late).unwrap();
        let causes: Vec<_> = ledger.history(&planner).collect();
        let steps = steps(&planner, &causes);
        let told: Vec<_> = steps
            .iter()
            .map(|step| (&*step.cause, step.from, step.to, step.by.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                ("registered", None, 500, None),
                ("credited", Some(500), 505, Some("verifier")),
                (LAPSED, Some(505), 500, None),
                ("scope_exceeded", Some(500), 400, Some("elder")),
            ]
        );
        let last = steps.last().unwrap();
        assert_eq!(last.class.as_deref(), Some("ScopeExceeded"));
        assert_eq!(last.signed_by.as_deref(), Some("planner"));
        assert!(last.evidence.is_some());
    }
}
