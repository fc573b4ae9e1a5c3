//! Scores: how an agent has behaved, as a number from 0 to 1,000 (protocol §10.4).
//!
//! A score tightens and never grants: policy may ask for one, and nothing is permitted because of
//! it. It is made of four parts, kept in integers:
//!
//! ```text
//! score = base − penalty + earned + endorsed        never below the floor, never above 1,000
//!
//! base       what the sponsor vouched for; never rises
//! penalty    what misbehaviour cost; healed by credit alone, never by time
//! earned     what credit brought beyond that; lost again as time passes
//! endorsed   what others lent; lost again as time passes, and at once by misbehaviour
//! ```
//!
//! # What moves a score
//!
//! *Down*: a finding, which is misbehaviour that the culprit's own signature proves; and time, which
//! takes back what was earned and lent. *Up*: credit, at most once in
//! [`quiet_ms`](Weights::quiet_ms), and endorsement, up to a cap and to the endorser's own score;
//! neither comes within `quiet_ms` of a finding. So without positive evidence a score never rises,
//! however long nothing happens: an agent that stays away is not forgiven for it.
//!
//! Positive evidence has to be something the scorer saw for itself. What receivers say they accepted
//! is their word and counts for nothing. Credit is given for an interval without a finding in which
//! the agent proved to the scorer that it was there, as it does when it renews its certificate.
//!
//! # Why the moment of computing does not matter
//!
//! Time only ever takes from `earned` and `endorsed`, and takes evenly: one unit a millisecond until
//! nothing is left ([`Standing::after`]). For natural numbers `(r ∸ a) ∸ b = r ∸ (a + b)`, where `∸`
//! stops at 0. So however an interval is cut into pieces, the same is left at its end, to the unit;
//! nothing is rounded before the sum is shown as points, and showing it changes nothing. A clock
//! that stands before the last instant known takes nothing, and gives nothing.

mod ledger;
mod parameters;
mod standing;
mod stored;

use std::fmt;

use super::identity::AgentId;
use super::signing::ObjectId;
use super::time::Timestamp;

pub use self::ledger::Change;
pub use self::ledger::Ledger;
pub use self::ledger::LedgerFull;
pub use self::ledger::Sponsor;
pub use self::parameters::InvalidParameters;
pub use self::parameters::Parameters;
pub use self::parameters::Penalties;
pub use self::parameters::Weights;
pub use self::standing::Standing;

/// The best score.
pub const SCORE_MAX: u16 = 1_000;

/// Thousandths in a point. Penalties and rewards are counted in them, so that small ones add up
/// exactly.
pub const MILLI: u32 = 1_000;

/// Causes kept per agent. Older ones still count, but are no longer named.
pub const HISTORY: usize = 32;

/// What an agent can be proved to have done wrong by its own signature, whoever delivers it, where
/// and when.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// It signed a message that its chain does not cover, or a link wider than its own.
    ScopeExceeded,
    /// It signed a link where no further delegation was allowed.
    DepthExceeded,
    /// It signed content that is none.
    MalformedContent,
}

impl Misbehaviour {
    /// Every kind.
    pub const ALL: [Self; 3] = [
        Self::ScopeExceeded,
        Self::DepthExceeded,
        Self::MalformedContent,
    ];

    /// The word for it in configuration and audit events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScopeExceeded => "scope_exceeded",
            Self::DepthExceeded => "depth_exceeded",
            Self::MalformedContent => "malformed_content",
        }
    }
}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What changed a standing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum CauseKind {
    /// It was registered, or registered again.
    Registered,
    /// It was deregistered.
    Deregistered,
    /// It was seen to be there for an interval without a finding.
    Credited,
    /// Another agent lent it standing.
    Endorsed,
    /// It misbehaved.
    Misbehaved(Misbehaviour),
    /// Scores are computed in another way from here on, as policy says.
    Reconfigured,
}

impl CauseKind {
    const ALL: [Self; 8] = [
        Self::Registered,
        Self::Deregistered,
        Self::Credited,
        Self::Endorsed,
        Self::Misbehaved(Misbehaviour::ScopeExceeded),
        Self::Misbehaved(Misbehaviour::DepthExceeded),
        Self::Misbehaved(Misbehaviour::MalformedContent),
        Self::Reconfigured,
    ];

    /// The word for it in audit events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Deregistered => "deregistered",
            Self::Credited => "credited",
            Self::Endorsed => "endorsed",
            Self::Misbehaved(misbehaviour) => misbehaviour.name(),
            Self::Reconfigured => "reconfigured",
        }
    }
}

/// One entry of an agent's history.
///
/// What a score lost between two of them, it lost with time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cause {
    /// What happened.
    pub kind: CauseKind,
    /// When it was noted.
    pub at: Timestamp,
    /// What it was worth, in thousandths of a point.
    pub milli: u32,
    /// The score right before it; `None` when there was none.
    pub before: Option<u16>,
    /// The score right after it.
    pub score: u16,
    /// The signed object that proves it, for misbehaviour.
    pub evidence: Option<ObjectId>,
    /// Who came forward: the reporter of misbehaviour, the sponsor, the endorser. `None` where that
    /// is the operator or the scorer itself. Of misbehaviour it proves nothing: the evidence does.
    pub by: Option<AgentId>,
}
