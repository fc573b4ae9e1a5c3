//! Evidence of misbehaviour, brought by anybody and believed for what it proves by itself.
//!
//! A report is a message as its receiver got it. Who brings it is noted; that, and what they say about
//! it, has no say: the verifier looks for the fault itself ([`find_fault`]), by what the culprit signed. What
//! cannot be proved so (that something came late, twice, or to the wrong place; that somebody is
//! slow, or useless; that much was accepted) counts neither against an agent nor for it.

use std::collections::HashMap;

use bytes::Bytes;

use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::score::Change;
use crate::proto::score::Ledger;
use crate::proto::score::LedgerFull;
use crate::proto::time::ClockSkew;
use crate::proto::time::Timestamp;
use crate::proto::trust::TrustState;
use crate::proto::verify::Fault;
use crate::proto::verify::FaultId;
use crate::proto::verify::NotEvidence;
use crate::proto::verify::find_fault;

/// How long after a message or link was of use its fault still counts: an hour in milliseconds.
/// Receivers report at once; what comes later was kept for a purpose.
pub const HORIZON_MS: u64 = 3_600_000;

/// Faults of one signer that are told from their copies. As many within the horizon have long
/// brought its score to the floor.
pub const FAULTS_PER_SIGNER: usize = 1 << 10;

/// Faults of all signers that are told from their copies, some 60 MB.
pub const FAULTS_TOTAL: usize = 1 << 20;

/// Why a report changes nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Dismissed {
    /// It proves nothing.
    #[error(transparent)]
    NotEvidence(#[from] NotEvidence),
    /// It was counted already, whoever brought it then.
    #[error("counted already")]
    Known,
    /// It is too old, or may have been counted before this process began.
    #[error("too old to be told from what was counted before")]
    TooOld,
    /// It says to be made in the future.
    #[error("from the future")]
    NotYet,
    /// Nothing more can be told from copies, of this signer or of all.
    #[error("too many faults are remembered")]
    Full,
    /// The ledger takes in nobody new.
    #[error(transparent)]
    Ledger(#[from] LedgerFull),
}

/// The memory of what was counted: each fault once, by whomever and however often it is reported.
///
/// It is bounded, by [`FAULTS_PER_SIGNER`] and [`FAULTS_TOTAL`], and forgets a fault only when its
/// evidence is too old to be heard.
#[derive(Debug)]
pub struct Docket {
    skew: ClockSkew,
    /// What was signed at or before it may have been counted by an earlier run.
    since: Option<Timestamp>,
    signers: HashMap<KeyBytes, HashMap<FaultId, Timestamp>>,
    held: usize,
}

impl Docket {
    /// An empty docket.
    ///
    /// `started` is when this process began, when one before it may have counted faults; what can
    /// have been signed before is then not heard.
    pub fn new(skew: ClockSkew, started: Option<Timestamp>) -> Self {
        Self {
            skew,
            since: started.map(|started| started.plus(skew.as_millis())),
            signers: HashMap::new(),
            held: 0,
        }
    }

    /// Hears a report: finds the fault in a frame, makes sure that it was not counted before, and
    /// counts it. The content of the frame may have been left out. Who reports it is noted beside.
    ///
    /// # Errors
    ///
    /// [`Dismissed`] when nothing is counted.
    pub fn hear(
        &mut self,
        (frame, reporter): (&Bytes, &AgentId),
        trust: &TrustState,
        ledger: &mut Ledger,
        now: Timestamp,
    ) -> Result<(Fault, Change), Dismissed> {
        let fault = find_fault(frame, trust)?;
        self.check(&fault, now)?;
        let (culprit, evidence) = (&fault.culprit, fault.evidence);
        let change = ledger.penalise(culprit, fault.misbehaviour, (evidence, reporter), now)?;
        let until = fault.until.plus(HORIZON_MS);
        let seen = self.signers.entry(fault.key).or_default();
        seen.insert(fault.sighting, until);
        self.held += 1;
        Ok((fault, change))
    }

    /// How many faults are remembered.
    pub fn len(&self) -> usize {
        self.held
    }

    /// Whether no fault is remembered.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    fn check(&mut self, fault: &Fault, now: Timestamp) -> Result<(), Dismissed> {
        if fault.from > now.plus(self.skew.as_millis()) {
            return Err(Dismissed::NotYet);
        }
        let too_old = now > fault.until.plus(HORIZON_MS);
        if too_old || self.since.is_some_and(|since| fault.from <= since) {
            return Err(Dismissed::TooOld);
        }
        let seen = |docket: &Self| docket.signers.get(&fault.key).map_or(0, HashMap::len);
        if seen(self) >= FAULTS_PER_SIGNER || self.held >= FAULTS_TOTAL {
            self.forget_expired(now);
        }
        let signer = self.signers.get(&fault.key);
        if signer.is_some_and(|seen| seen.contains_key(&fault.sighting)) {
            return Err(Dismissed::Known);
        }
        if seen(self) >= FAULTS_PER_SIGNER || self.held >= FAULTS_TOTAL {
            return Err(Dismissed::Full);
        }
        Ok(())
    }

    /// Forgets what would no longer be heard.
    fn forget_expired(&mut self, now: Timestamp) {
        let mut held = 0;
        self.signers.retain(|_, seen| {
            seen.retain(|_, until| *until >= now);
            held += seen.len();
            !seen.is_empty()
        });
        self.held = held;
    }
}
