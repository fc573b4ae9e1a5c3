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

mod credential;
mod envelope;
mod holders;

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::sync::Cache;
use sha2::Digest as _;

use super::audit::AuditSlot;
use super::audit::Decision;
use super::audit::HeaderFacts;
use super::chain::Chain;
use super::chain::LEAF_MISMATCH;
use super::chain::VerifiedChain;
use super::envelope::Claims;
use super::envelope::Content;
use super::envelope::UnverifiedEnvelope;
use super::envelope::inbox_prefix;
use super::identity::AgentId;
use super::identity::KeyBytes;
use super::limits::AUDIT_DIGEST_PREFIX;
use super::limits::CHAIN_CACHE;
use super::names::Tag;
use super::policy::Permitted;
use super::policy::RateLimiter;
use super::policy::Request;
use super::rejection::Place;
use super::rejection::PolicyDenied;
use super::rejection::Rejection;
use super::rejection::SubjectMismatch;
use super::rejection::UnexpectedReply;
use super::rejection::UntrustedRoot;
use super::replay::LookUp;
use super::replay::ReplayGuard;
use super::replay::Sighting;
use super::revocation::NotRevoked;
use super::scope::Action;
use super::scope::Need;
use super::signing::Authentic;
use super::signing::Budget;
use super::signing::ObjectId;
use super::subject::Subject;
use super::subject::SubjectPattern;
use super::time::ClockSkew;
use super::time::Timestamp;
use super::trust::TrustState;

pub(crate) use self::credential::is_for;
pub(crate) use self::holders::Holders;

pub use self::credential::accept_chain;
pub use self::credential::accept_grant;
pub use self::credential::check_send;
pub use self::credential::check_subscribe;
pub use self::envelope::VerifiedEnvelope;

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
    skew: ClockSkew,
    chains: Cache<ObjectId, VerifiedChain>,
}

impl Verifier {
    /// A verifier for the holder of `me`, with an empty chain cache.
    pub fn new(me: KeyBytes, skew: ClockSkew) -> Self {
        Self {
            me,
            skew,
            chains: Cache::new(CHAIN_CACHE),
        }
    }

    /// The clock tolerance.
    pub fn skew(&self) -> ClockSkew {
        self.skew
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
        let mut facts = Decision {
            at: scene.now,
            rejection: None,
            delivered: arrival.subject.to_owned(),
            len: frame.len(),
            digest: None,
            header: None,
            authentic: false,
            chain: None,
            trust: scene.trust.clone(),
            cost_ns: None,
        };
        let outcome = self.check(frame, arrival, scene, guard, &mut facts);
        if outcome.is_err() && !facts.authentic {
            let prefix = &frame[..frame.len().min(AUDIT_DIGEST_PREFIX)];
            facts.digest = Some(sha2::Sha256::digest(prefix).into());
        }
        Examined { outcome, facts }
    }

    fn check(
        &self,
        frame: &Bytes,
        arrival: &Arrival<'_>,
        scene: &Scene<'_>,
        guard: &dyn LookUp,
        facts: &mut Decision,
    ) -> Result<Checked, Failure> {
        let (trust, now) = (scene.trust, scene.now);
        let envelope = UnverifiedEnvelope::parse(frame)?;
        let claims = &envelope.claims;
        let header = facts
            .header
            .insert(HeaderFacts::of(claims, &envelope.header));
        let id = header.object;
        if claims.mesh != trust.mesh() {
            let (place, reason) = (Place::Header, UntrustedRoot::OtherMesh);
            return Err(Rejection::UntrustedRoot { place, reason }.into());
        }
        let duty = self.check_route(claims, arrival)?;
        claims.check_time(now, self.skew)?;
        trust.check_fresh(now, self.skew)?;
        if let Route::Subscription { own, .. } = arrival.route {
            check_receiver(own, &claims.subject, scene, self.skew)?;
        }

        let mut budget = Budget::message();
        let known = self.find_chain(&envelope.chain)?;
        let chain = known.chain();
        if chain.leaf().id() != claims.leaf {
            return Err(LEAF_MISMATCH.into());
        }
        let sender_key = chain.leaf().holder();
        header.sender = Some(sender_key);
        check_responder(arrival, &sender_key)?;
        let holders = Holders::look_up(chain, trust, now, self.skew)?;
        if claims
            .reply
            .as_ref()
            .is_some_and(|reply| !in_inbox_of(reply, &sender_key))
        {
            let reason = SubjectMismatch::ReplyNotOwnInbox;
            return Err(Rejection::SubjectMismatch { reason }.into());
        }
        chain.check_validity(now, self.skew)?;
        let (chain, is_new) = known.verify(trust, &mut budget)?;
        facts.chain = Some(chain.clone());
        let not_revoked = trust.revocations().check_chain(&chain, holders.iter())?;

        let sighting = Sighting {
            sender: sender_key,
            mid: claims.mid,
            issued: claims.issued,
            ttl_ms: claims.ttl_ms,
        };
        guard.look_up(&sighting)?;
        let (place, tag) = (Place::Header, Tag::Envelope);
        budget.spend_signature(place)?;
        let sender = holders.leaf();
        let authentic = Authentic::check(
            tag,
            &envelope.header,
            claims.clone(),
            sender.key(),
            &envelope.signature,
            place,
        )?;
        facts.authentic = true;
        if is_new {
            // Only chains that came with an authentic message are worth remembering.
            self.chains.insert(chain.digest(), chain.clone());
        }
        let asker = Requester::of(&authentic, id, sender_key);
        let checked = || -> Result<Checked, Rejection> {
            let content = Content::open(&envelope.content, claims)?;
            let permitted = self.authorize(claims, &duty, &chain, &holders, scene)?;
            let sender = sender.agent().clone();
            Ok(Checked {
                id,
                sender,
                chain: chain.clone(),
                not_revoked,
                authentic,
                content,
                permitted,
                sighting,
            })
        };
        checked().map_err(|rejection| Failure {
            rejection,
            requester: asker,
        })
    }

    /// Checks that the message is one this receiver expects where it arrived. Returns the subject
    /// authority is asked about: an answer is authorised by SERVE on the *request's* subject.
    fn check_route(&self, claims: &Claims, arrival: &Arrival<'_>) -> Result<Subject, Rejection> {
        let mismatch = |reason| Err(Rejection::SubjectMismatch { reason });
        let unexpected = |reason| Err(Rejection::UnexpectedReply { reason });
        if claims.subject.as_str() != arrival.subject {
            return mismatch(SubjectMismatch::Delivered);
        }
        if claims.reply.as_ref().map(Subject::as_str) != arrival.reply {
            return mismatch(SubjectMismatch::ReplyRewritten);
        }
        let duty = match (arrival.route, claims.action) {
            (Route::Subscription { .. }, Action::Serve) => {
                return unexpected(UnexpectedReply::NotAsked);
            }
            (Route::Subscription { pattern, .. }, _) => {
                if !pattern.matches(&claims.subject) {
                    return mismatch(SubjectMismatch::NotSubscribed);
                }
                claims.subject.clone()
            }
            (Route::Reply(None), _) => return unexpected(UnexpectedReply::NoRequest),
            (Route::Reply(Some(pending)), Action::Serve) => {
                if claims.in_reply_to != Some(pending.request) {
                    return unexpected(UnexpectedReply::OtherRequest);
                }
                pending.subject.clone()
            }
            (Route::Reply(Some(_)), _) => return unexpected(UnexpectedReply::NotAReply),
        };
        if claims.audience.is_some_and(|audience| audience != self.me) {
            return Err(Rejection::WrongAudience);
        }
        Ok(duty)
    }

    fn find_chain(&self, bytes: &Bytes) -> Result<Known, Rejection> {
        let digest = Chain::digest_of(bytes)?;
        if let Some(chain) = self.chains.get(&digest) {
            return Ok(Known::Before(chain));
        }
        // A copy, so that a cached chain does not keep the message it came with alive.
        let bytes = Bytes::copy_from_slice(bytes);
        Chain::parse_with_digest(bytes, digest).map(|chain| Known::New(Box::new(chain)))
    }

    fn authorize(
        &self,
        claims: &Claims,
        duty: &Subject,
        chain: &VerifiedChain,
        holders: &Holders<'_>,
        scene: &Scene<'_>,
    ) -> Result<Permitted, Rejection> {
        let need = Need {
            action: claims.action,
            subject: duty,
            audience: claims.audience.as_ref(),
        };
        chain.check_covers(&need)?;
        let policy = scene.trust.policy();
        policy.check_lifetimes(chain)?;
        policy.permit(&Request {
            mid: claims.mid,
            action: claims.action,
            subject: duty,
            mode: claims.mode,
            age_ms: scene.now.since(claims.issued),
            ttl_ms: claims.ttl_ms,
            depth: chain.depth(),
            score: holders.lowest_score(scene.trust),
            session: scene.sessions.has(&chain.leaf().holder(), scene.now),
        })
    }
}

/// Checks that a request meant for one key is answered by that key, whoever else may serve.
fn check_responder(arrival: &Arrival<'_>, sender: &KeyBytes) -> Result<(), Rejection> {
    match arrival.route {
        Route::Reply(Some(Pending {
            audience: Some(audience),
            ..
        })) if audience != sender => {
            let reason = UnexpectedReply::OtherResponder;
            Err(Rejection::UnexpectedReply { reason })
        }
        _ => Ok(()),
    }
}

/// Checks the receiver's own authority to receive: it ends when its chain does.
pub(crate) fn check_receiver(
    own: &VerifiedChain,
    subject: &Subject,
    scene: &Scene<'_>,
    skew: ClockSkew,
) -> Result<(), Rejection> {
    let (trust, now) = (scene.trust, scene.now);
    let place = Place::Receiver;
    let receiver = |rejection: Rejection| match rejection {
        Rejection::Expired { until, .. } => Rejection::Expired { place, until },
        Rejection::NotYetValid { from, .. } => Rejection::NotYetValid { place, from },
        Rejection::UnknownAgent { .. } => Rejection::UnknownAgent { place },
        Rejection::Revoked { reason, .. } => Rejection::Revoked { place, reason },
        Rejection::Blocked { reason, .. } => Rejection::Blocked { place, reason },
        other => other,
    };
    let check = || -> Result<(), Rejection> {
        own.check_validity(now, skew)?;
        let holders = Holders::look_up(own, trust, now, skew)?;
        trust.revocations().check_chain(own, holders.iter())?;
        trust
            .policy()
            .permit_subscription(&SubjectPattern::from(subject))
    };
    check().map_err(receiver)
}

/// Whether `reply` is a subject below the inbox prefix of `key`.
pub(crate) fn in_inbox_of(reply: &Subject, key: &KeyBytes) -> bool {
    reply
        .as_str()
        .strip_prefix(inbox_prefix(key).as_str())
        .is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'))
}

/// A chain on its way to being verified.
enum Known {
    Before(VerifiedChain),
    New(Box<Chain>),
}

impl Known {
    fn chain(&self) -> &Chain {
        match self {
            Self::Before(chain) => chain,
            Self::New(chain) => chain,
        }
    }

    /// Checks the signatures, unless they were checked before; says whether the chain is new.
    fn verify(
        self,
        trust: &TrustState,
        budget: &mut Budget,
    ) -> Result<(VerifiedChain, bool), Rejection> {
        match self {
            Self::Before(chain) => {
                // The issuer may have lost its role since.
                if super::chain::Anchors::issuer(trust, &chain.issuer()).is_none() {
                    let (place, reason) = (Place::Issuer, UntrustedRoot::NotIssuer);
                    return Err(Rejection::UntrustedRoot { place, reason });
                }
                Ok((chain, false))
            }
            Self::New(chain) => chain.verify(trust, budget).map(|chain| (chain, true)),
        }
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

/// A refusal on its way to becoming a verdict.
struct Failure {
    rejection: Rejection,
    requester: Option<Box<Requester>>,
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self {
            rejection,
            requester: None,
        }
    }
}

/// The evidence gathered by the pure part.
struct Checked {
    id: ObjectId,
    sender: AgentId,
    chain: VerifiedChain,
    not_revoked: NotRevoked,
    authentic: Authentic<Claims>,
    content: Content,
    permitted: Permitted,
    sighting: Sighting,
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

    /// When the message was issued, if it is still to be accepted.
    pub(crate) fn issued(&self) -> Option<Timestamp> {
        let checked = self.outcome.as_ref().ok()?;
        Some(checked.sighting.issued)
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
    /// Whether the message is accepted.
    pub fn is_accepted(&self) -> bool {
        self.outcome.is_ok()
    }

    /// Why the message is refused, when it is.
    pub fn rejection(&self) -> Option<Rejection> {
        self.decision.rejection
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
