//! Judging a message that was not sent to oneself: evidence, for a third party.
//!
//! Whoever finds an envelope in a log can ask whether its sender signed it with authority for what
//! it says. The checks are those of a receiver, in the same order. What only the receiver can know
//! is left out and named: see [`NotChecked`].

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::Pending;
use super::Scene;
use super::Sessions;
use super::asker::Asker;
use super::asker::answered;
use super::asker::check_subject;
use super::asker::unexpected;
use super::checks::Checks;
use super::checks::Found;
use crate::proto::chain::VerifiedChain;
use crate::proto::envelope::Claims;
use crate::proto::envelope::UnverifiedEnvelope;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::UnexpectedReply;
use crate::proto::replay::Sighting;
use crate::proto::scope::Action;
use crate::proto::signing::ObjectId;
use crate::proto::subject::Subject;
use crate::proto::time::ClockSkew;
use crate::proto::time::Timestamp;
use crate::proto::trust::TrustState;

/// Judges envelopes for a third party.
///
/// ```
/// # use trustmesh::proto::time::{ClockSkew, Timestamp};
/// use trustmesh::proto::rejection::Class;
/// use trustmesh::proto::verify::{Judge, Testimony};
/// # use trustmesh::services::authority::Authority;
/// # let mut mesh = Authority::dev("demo")?;
/// # let trust = mesh.agent("planner", ["pub:tasks.>"])?.trust().current();
/// # let now = Timestamp::from_millis(0);
///
/// let judge = Judge::new(ClockSkew::default());
/// let judgement = judge.judge(&"no envelope".into(), &Testimony::default(), &trust, now);
/// let rejection = judgement.rejection.ok_or("accepted")?;
/// assert_eq!(rejection.class(), Class::Malformed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Judge {
    checks: Checks,
}

/// What is known of an envelope besides its bytes. All of it is the word of whoever kept it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Testimony<'a> {
    /// The subject it was delivered on.
    pub subject: Option<&'a str>,
    /// The request it is said to answer. Who answers needs authority over the request's subject,
    /// which an answer does not name: without its request it is refused.
    pub request: Option<&'a Pending>,
}

/// What a third party can say about one envelope.
///
/// It is no [`VerifiedEnvelope`](super::VerifiedEnvelope), and none can be made of it: handlers run
/// on what their own receiver verified.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Judgement {
    /// Why every receiver would refuse it; `None` when all that could be checked holds.
    pub rejection: Option<Rejection>,
    /// What the header says, when it could be decoded.
    pub claims: Option<Claims>,
    /// The object id of the header.
    pub object: Option<ObjectId>,
    /// Whether the sender's signature verified; if not, the rest is a claim.
    pub authentic: bool,
    /// The sender's key, from the chain.
    pub sender_key: Option<KeyBytes>,
    /// The sender, as registered for that key.
    pub sender: Option<AgentId>,
    /// The chain, when every signature of it verified.
    pub chain: Option<VerifiedChain>,
    /// Length of the payload, when all of the content is sound.
    pub payload_len: Option<usize>,
    /// What was left to the receiver.
    pub not_checked: NotChecked,
}

impl Judgement {
    /// Whether all that could be checked holds.
    pub fn holds(&self) -> bool {
        self.rejection.is_none()
    }
}

/// Which checks were left to the receiver, because only it can make them.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub struct NotChecked(u8);

impl NotChecked {
    /// The subject of delivery: it was not handed in.
    pub const DELIVERY: Self = Self(1);
    /// The reply subject of delivery: it may have been changed on the way.
    pub const REPLY: Self = Self(2);
    /// Whether the receiver was the one meant.
    pub const AUDIENCE: Self = Self(4);
    /// The receiver's own authority to receive.
    pub const RECEIVER: Self = Self(8);
    /// Whether the receiver accepted the message before.
    pub const REPLAY: Self = Self(16);
    /// The session that a rule of policy asks for.
    pub const SESSION: Self = Self(32);
    /// The rate that a rule of policy allows.
    pub const RATE: Self = Self(64);

    const NAMED: [(Self, &'static str); 7] = [
        (Self::DELIVERY, "delivery"),
        (Self::REPLY, "reply"),
        (Self::AUDIENCE, "audience"),
        (Self::RECEIVER, "receiver"),
        (Self::REPLAY, "replay"),
        (Self::SESSION, "session"),
        (Self::RATE, "rate"),
    ];

    /// Whether every check of `other` was left out.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names of the checks, in the order a receiver makes them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let named = Self::NAMED.into_iter();
        named.filter_map(move |(check, name)| self.contains(check).then_some(name))
    }

    fn add(&mut self, other: Self, when: bool) {
        if when {
            self.0 |= other.0;
        }
    }
}

impl fmt::Debug for NotChecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl Judge {
    /// A judge with an empty chain cache.
    pub fn new(skew: ClockSkew) -> Self {
        let checks = Checks::new(skew);
        Self { checks }
    }

    /// Judges one envelope: would a receiver with this trust state have accepted it at `at`, as far
    /// as anybody else can tell?
    pub fn judge(
        &self,
        frame: &Bytes,
        testimony: &Testimony<'_>,
        trust: &Arc<TrustState>,
        at: Timestamp,
    ) -> Judgement {
        let scene = Scene {
            now: at,
            trust,
            sessions: &Unknown,
        };
        let third_party = ThirdParty(testimony);
        let mut found = Found::default();
        let outcome = self.checks.check(frame, &third_party, &scene, &mut found);
        let mut judgement = Judgement {
            rejection: None,
            claims: None,
            object: found.header.as_ref().map(|header| header.object),
            authentic: found.authentic,
            sender_key: found.header.as_ref().and_then(|header| header.sender),
            sender: None,
            chain: found.chain,
            payload_len: None,
            not_checked: NotChecked::default(),
        };
        match outcome {
            Ok(checked) => {
                judgement.payload_len = Some(checked.content.payload.len());
                let claims = checked.authentic.claims();
                judgement.not_checked = testimony.leaves_out(claims);
                let duty = testimony.request.map_or(&claims.subject, |r| &r.subject);
                let asks = trust.policy().asks_for_session(claims.action, duty);
                judgement.not_checked.add(NotChecked::SESSION, asks);
                let rated = checked.permitted.is_rated();
                judgement.not_checked.add(NotChecked::RATE, rated);
                judgement.sender = Some(checked.sender.clone());
                judgement.claims = Some(claims.clone());
            }
            Err(failure) => {
                judgement.rejection = Some(failure.rejection);
                // Decoding costs little, and only what is refused is decoded twice.
                let claims = UnverifiedEnvelope::parse(frame).ok().map(|e| e.claims);
                if let Some(claims) = &claims {
                    judgement.not_checked = testimony.leaves_out(claims);
                }
                judgement.claims = claims;
                let key = judgement.sender_key.as_ref();
                let certificate = key.and_then(|key| trust.certificate(key));
                judgement.sender = certificate.map(|c| c.agent().clone());
            }
        }
        judgement
    }
}

impl Testimony<'_> {
    /// What nobody but the receiver can check of a message that says this.
    fn leaves_out(&self, claims: &Claims) -> NotChecked {
        let mut out = NotChecked::REPLAY;
        out.add(NotChecked::DELIVERY, self.subject.is_none());
        out.add(NotChecked::REPLY, claims.reply.is_some());
        out.add(NotChecked::AUDIENCE, claims.audience.is_some());
        // Whoever asked may hear the answer.
        out.add(NotChecked::RECEIVER, claims.action != Action::Serve);
        out
    }
}

/// Nobody but the receiver knows its sessions: no rule refuses for want of one.
struct Unknown;

impl Sessions for Unknown {
    fn has(&self, _: &KeyBytes, _: Timestamp) -> bool {
        true
    }
}

/// A third party says what it was told, and has neither authority nor memory of its own.
struct ThirdParty<'a>(&'a Testimony<'a>);

impl Asker for ThirdParty<'_> {
    fn check_route(&self, claims: &Claims) -> Result<Subject, Rejection> {
        if let Some(delivered) = self.0.subject {
            check_subject(claims, delivered)?;
        }
        match (self.0.request, claims.action) {
            (Some(request), _) => answered(claims, request),
            (None, Action::Serve) => unexpected(UnexpectedReply::NoRequest),
            (None, _) => Ok(claims.subject.clone()),
        }
    }

    fn check_own(&self, _: &Claims, _: &Scene<'_>, _: ClockSkew) -> Result<(), Rejection> {
        Ok(())
    }

    fn request(&self) -> Option<&Pending> {
        self.0.request
    }

    fn admits(&self, _: &KeyBytes) -> Result<(), Rejection> {
        Ok(())
    }

    fn look_up(&self, _: &Sighting) -> Result<(), Rejection> {
        Ok(())
    }
}
