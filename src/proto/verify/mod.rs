//! Where all evidence meets: bytes in, a verdict out.
//!
//! ```text
//! bytes ──Verifier::examine──▶ Examined ──conclude──▶ Verdict ──record(slot)──▶ Result<VerifiedEnvelope, Refused>
//!          pure, any thread              in order, changes state      one audit event
//! ```
//!
//! The order is fixed, cheap before dear and side effects last: parse; mesh, mode, action,
//! subject, audience, lifetime; trust state fresh; sender and holders known and on no list; chain;
//! revocation; replay look-up; the envelope's signature; content; authorization on every link;
//! policy; rate; replay insert; audit. A chain met before skips its signatures and nothing else.
//!
//! A [`Judge`] makes the same checks for a third party, as far as anybody but the receiver can.

mod asker;
mod batches;
mod checks;
mod credential;
mod envelope;
mod fault;
mod holders;
mod judge;
mod shares;

use std::sync::Arc;

use bytes::Bytes;
use sha2::Digest as _;

use super::audit::AuditSlot;
use super::audit::Decision;
use super::breaker::Conduct;
use super::breaker::is_signer_caused;
use super::chain::VerifiedChain;
use super::envelope::Claims;
use super::identity::KeyBytes;
use super::limits::AUDIT_DIGEST_PREFIX;
use super::policy::RateLimiter;
use super::rejection::Internal;
use super::rejection::PolicyDenied;
use super::rejection::Rejection;
use super::replay::LookUp;
use super::replay::ReplayGuard;
use super::replay::Sighting;
use super::signing::Authentic;
use super::signing::ObjectId;
use super::subject::Subject;
use super::subject::SubjectPattern;
use super::time::ClockSkew;
use super::time::Timestamp;
use super::trust::TrustState;

use self::asker::Receiver;
pub(crate) use self::asker::check_receiver;
pub(crate) use self::asker::in_inbox_of;
use self::checks::Checked;
use self::checks::Checks;
use self::checks::Failure;
use self::checks::Found;
pub(crate) use self::credential::begin_chain;
pub(crate) use self::credential::is_for;
pub(crate) use self::credential::load_chain;
use self::envelope::still_holds;
pub(crate) use self::holders::Holders;

pub use self::credential::accept_chain;
pub use self::credential::accept_grant;
pub use self::credential::check_send;
pub use self::credential::check_subscribe;
pub use self::credential::verify_chain;
pub use self::envelope::VerifiedEnvelope;
pub use self::fault::Fault;
pub use self::fault::FaultId;
pub use self::fault::NotEvidence;
pub(crate) use self::fault::evidence_of;
pub use self::fault::find_fault;
pub use self::judge::Judge;
pub use self::judge::Judgement;
pub use self::judge::NotChecked;
pub use self::judge::Testimony;

/// How a message reached the receiver. All of it is the bus's word.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The subject it was delivered on.
    pub subject: &'a str,
    /// The reply subject it was delivered with.
    pub reply: Option<&'a str>,
    /// What the receiver expects there.
    pub route: Route<'a>,
}

/// What a receiver expects of a message.
#[derive(Clone, Copy, Debug)]
pub enum Route<'a> {
    /// Messages and requests, on a subscription.
    Subscription {
        /// The subscription's pattern.
        pattern: &'a SubjectPattern,
        /// The chain the receiver subscribed under.
        own: &'a VerifiedChain,
    },
    /// An answer to this request; `None` when no request waits where it arrived.
    Reply(Option<&'a Pending>),
}

/// A request that waits for its answer.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The request's object id.
    pub request: ObjectId,
    /// The subject it was sent to: whoever answers needs SERVE there.
    pub subject: Subject,
    /// The one key it was meant for, when it was.
    pub audience: Option<KeyBytes>,
}

/// Which peers have proved themselves lately.
pub trait Sessions {
    /// Whether there is a live session with the holder of `key`.
    fn has(&self, key: &KeyBytes, now: Timestamp) -> bool;
}

/// A receiver that requires no sessions has none.
impl Sessions for () {
    fn has(&self, _: &KeyBytes, _: Timestamp) -> bool {
        false
    }
}

/// What a decision depends on besides the message.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// Now.
    pub now: Timestamp,
    /// The trust state; one for the whole decision.
    pub trust: &'a Arc<TrustState>,
    /// The live sessions.
    pub sessions: &'a dyn Sessions,
}

/// Verifies messages for one receiver.
#[derive(Debug)]
pub struct Verifier {
    me: KeyBytes,
    checks: Checks,
}

impl Verifier {
    /// A verifier for the holder of `me`, with an empty chain cache.
    pub fn new(me: KeyBytes, skew: ClockSkew) -> Self {
        let checks = Checks::new(skew);
        Self { me, checks }
    }

    /// The clock tolerance.
    pub fn skew(&self) -> ClockSkew {
        self.checks.skew
    }

    /// Verifies one message, start to end.
    pub fn verify(
        &self,
        frame: &Bytes,
        arrival: &Arrival<'_>,
        scene: &Scene<'_>,
        guard: &mut ReplayGuard,
        rates: &mut RateLimiter,
    ) -> Verdict {
        self.examine(frame, arrival, scene, guard)
            .conclude(guard, rates, scene.now)
    }

    /// The pure part: everything that changes nothing, so it may run on any thread.
    pub fn examine(
        &self,
        frame: &Bytes,
        arrival: &Arrival<'_>,
        scene: &Scene<'_>,
        guard: &ReplayGuard,
    ) -> Examined {
        self.examine_beside(frame, arrival, scene, guard)
    }

    /// [`examine`](Self::examine), beside others who use the same memory.
    pub(crate) fn examine_beside(
        &self,
        frame: &Bytes,
        arrival: &Arrival<'_>,
        scene: &Scene<'_>,
        guard: &dyn LookUp,
    ) -> Examined {
        let me = self.me;
        let receiver = Receiver { me, arrival, guard };
        let mut found = Found::default();
        let outcome = self.checks.check(frame, &receiver, scene, &mut found);
        let prefix = &frame[..frame.len().min(AUDIT_DIGEST_PREFIX)];
        let digest =
            (outcome.is_err() && !found.authentic).then(|| sha2::Sha256::digest(prefix).into());
        let facts = Decision {
            at: scene.now,
            rejection: None,
            delivered: arrival.subject.to_owned(),
            len: frame.len(),
            digest,
            header: found.header,
            authentic: found.authentic,
            chain: found.chain,
            trust: scene.trust.clone(),
            cost_ns: None,
        };
        Examined { outcome, facts }
    }
}

/// Who may be told that a request was refused: its authenticated sender.
#[derive(Clone, Debug)]
pub struct Requester {
    /// The sender's key.
    pub key: KeyBytes,
    /// Where it waits for an answer, below its own inbox.
    pub reply: Subject,
    /// The subject of the request.
    pub subject: Subject,
    /// The request's object id.
    pub request: ObjectId,
}

impl Requester {
    fn of(authentic: &Authentic<Claims>, request: ObjectId, key: KeyBytes) -> Option<Box<Self>> {
        let claims = authentic.claims();
        let reply = claims.reply.clone()?;
        Some(Box::new(Self {
            key,
            reply,
            subject: claims.subject.clone(),
            request,
        }))
    }
}

/// A message whose pure checks are done. Conclude it in the order of arrival.
pub struct Examined {
    outcome: Result<Checked, Failure>,
    facts: Decision,
}

impl Examined {
    /// The part that changes state: rate, then replay. What is refused leaves no trace in either.
    pub fn conclude(
        mut self,
        guard: &mut ReplayGuard,
        rates: &mut RateLimiter,
        now: Timestamp,
    ) -> Verdict {
        let trust = self.facts.trust.clone();
        let outcome = self.outcome.and_then(|checked| {
            let policy = trust.policy();
            let asker = Requester::of(&checked.authentic, checked.id, checked.sighting.sender);
            rates
                .reserve(policy, &checked.permitted, &checked.chain, now)
                .map_err(|rejection| Failure {
                    rejection,
                    requester: asker,
                })?;
            match guard.admit(&checked.sighting, now) {
                Ok(fresh) => VerifiedEnvelope::assemble(checked, fresh).map_err(Failure::from),
                Err(rejection) => {
                    rates.release(policy, &checked.permitted, &checked.chain);
                    Err(rejection.into())
                }
            }
        });
        self.facts.rejection = outcome.as_ref().err().map(|failure| failure.rejection);
        Verdict {
            outcome,
            decision: self.facts,
        }
    }

    /// Whether a rule that permits it has a rate; if not, concluding leaves the rates alone.
    pub(crate) fn is_rated(&self) -> bool {
        let checked = self.outcome.as_ref().ok();
        checked.is_some_and(|checked| checked.permitted.is_rated())
    }

    /// When the message was issued, if it is still to be accepted.
    pub(crate) fn issued(&self) -> Option<Timestamp> {
        self.sighting().map(|sighting| sighting.issued)
    }

    /// By what a replay memory knows the message, if it is still to be accepted.
    pub(crate) fn sighting(&self) -> Option<&Sighting> {
        self.outcome.as_ref().ok().map(|checked| &checked.sighting)
    }

    /// Checks again, after a wait, what time and trust state can have changed, the authority of the
    /// receiver, `own`, included. The decision is then one of this later moment; what was refused
    /// already stays a refusal of the earlier one, by the state that refused it.
    pub(crate) fn recheck(&mut self, scene: &Scene<'_>, skew: ClockSkew, own: &VerifiedChain) {
        let Ok(checked) = &mut self.outcome else {
            return;
        };
        self.facts.at = scene.now;
        self.facts.trust = scene.trust.clone();
        let claims = checked.authentic.claims();
        let asker = Requester::of(&checked.authentic, checked.id, checked.sighting.sender);
        let approval = checked.approval.as_deref();
        let renewed = still_holds(claims, &checked.chain, approval, scene, skew);
        let renewed = renewed.and_then(|renewed| {
            check_receiver(own, &claims.subject, scene, skew)?;
            Ok(renewed)
        });
        match renewed {
            Ok((not_revoked, permitted)) => {
                checked.not_revoked = not_revoked;
                if let Some(permitted) = permitted {
                    checked.permitted = permitted;
                }
            }
            Err(rejection) => {
                self.outcome = Err(Failure {
                    rejection,
                    requester: asker,
                });
            }
        }
    }

    /// Refuses the message for a reason found outside.
    pub(crate) fn refuse(&mut self, rejection: Rejection) {
        self.outcome = Err(rejection.into());
    }
}

/// A decision that has been made and not yet recorded.
///
/// It opens only by being recorded: there is no acceptance and no refusal without its audit event.
#[must_use = "a verdict opens only by being recorded"]
pub struct Verdict {
    outcome: Result<VerifiedEnvelope, Failure>,
    decision: Decision,
}

impl Verdict {
    /// The verdict on a message about which nothing was found out, because deciding it failed: it is
    /// refused.
    pub(crate) fn failed(
        frame: &Bytes,
        delivered: &str,
        at: Timestamp,
        trust: &Arc<TrustState>,
    ) -> Self {
        let reason = Internal::Verifier;
        let rejection = Rejection::Internal { reason };
        let prefix = &frame[..frame.len().min(AUDIT_DIGEST_PREFIX)];
        Self {
            outcome: Err(rejection.into()),
            decision: Decision {
                at,
                rejection: Some(rejection),
                delivered: delivered.to_owned(),
                len: frame.len(),
                digest: Some(sha2::Sha256::digest(prefix).into()),
                header: None,
                authentic: false,
                chain: None,
                trust: trust.clone(),
                cost_ns: None,
            },
        }
    }

    /// Whether the message is accepted.
    pub fn is_accepted(&self) -> bool {
        self.outcome.is_ok()
    }

    /// Why the message is refused, when it is.
    pub fn rejection(&self) -> Option<Rejection> {
        self.decision.rejection
    }

    /// What the message says about the conduct of its sender: nothing, unless its signature verified
    /// and it was accepted, or refused for what the sender alone can have done.
    pub(crate) fn conduct(&self) -> Option<Conduct> {
        let decision = &self.decision;
        let bad = match &decision.rejection {
            None => false,
            Some(rejection) if decision.authentic && is_signer_caused(rejection) => true,
            Some(_) => return None,
        };
        let header = decision.header.as_ref()?;
        Some(Conduct {
            key: header.sender?,
            mid: header.mid,
            bad,
        })
    }

    /// Notes what verifying cost.
    pub fn with_cost_ns(mut self, nanoseconds: u64) -> Self {
        self.decision.cost_ns = Some(nanoseconds);
        self
    }

    /// Records the decision and opens the verdict.
    ///
    /// # Errors
    ///
    /// The refusal, when the message is refused.
    pub fn record(self, slot: impl AuditSlot) -> Result<VerifiedEnvelope, Refused> {
        slot.fill(self.decision);
        self.outcome.map_err(
            |Failure {
                 rejection,
                 requester,
             }| Refused {
                rejection,
                requester,
            },
        )
    }
}

/// A refusal that has been recorded.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Why.
    pub rejection: Rejection,
    /// Who may be told, when the sender was authentic and waits for an answer. Absent for replays:
    /// the sender of a replay is not the sender of the message.
    pub requester: Option<Box<Requester>>,
}

/// Whether a refusal may be told to its requester: never for what somebody else could have caused,
/// as a copy sent once more, or one with other content under the same signed header, can be.
pub(crate) fn may_be_told(rejection: &Rejection) -> bool {
    !matches!(
        rejection,
        Rejection::BadSignature { .. } | Rejection::Replay { .. } | Rejection::Overloaded { .. }
    )
}

/// Whether a refusal asks for a session first.
pub(crate) fn asks_for_session(rejection: &Rejection) -> bool {
    matches!(
        rejection,
        Rejection::PolicyDenied {
            reason: PolicyDenied::NoSession
        }
    )
}
