//! Who asks about a message, and what only they can say of it. Everything else is checked alike,
//! whoever asks, in [`checks`](super::checks).

use crate::proto::chain::VerifiedChain;
use crate::proto::envelope::Claims;
use crate::proto::envelope::inbox_prefix;
use crate::proto::identity::KeyBytes;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::SubjectMismatch;
use crate::proto::rejection::UnexpectedReply;
use crate::proto::replay::LookUp;
use crate::proto::replay::Sighting;
use crate::proto::scope::Action;
use crate::proto::subject::Subject;
use crate::proto::subject::SubjectPattern;
use crate::proto::time::ClockSkew;

use super::Arrival;
use super::Holders;
use super::Pending;
use super::Route;
use super::Scene;

/// Who asks about a message.
pub(super) trait Asker {
    /// Checks that the message is one that is expected where it arrived. Returns the subject
    /// authority is asked about: an answer is authorised by SERVE on the *request's* subject.
    fn check_route(&self, claims: &Claims) -> Result<Subject, Rejection>;

    /// Checks the asker's own authority to receive the message.
    fn check_own(
        &self,
        claims: &Claims,
        scene: &Scene<'_>,
        skew: ClockSkew,
    ) -> Result<(), Rejection>;

    /// The request that an answer must belong to.
    fn request(&self) -> Option<&Pending>;

    /// Checks that the asker listens to a sender at all.
    fn admits(&self, sender: &KeyBytes) -> Result<(), Rejection>;

    /// Checks that the asker did not accept the message before.
    fn look_up(&self, sighting: &Sighting) -> Result<(), Rejection>;
}

/// The receiver of a message: whoever a handler runs for.
pub(super) struct Receiver<'a> {
    pub(super) me: KeyBytes,
    pub(super) arrival: &'a Arrival<'a>,
    pub(super) guard: &'a dyn LookUp,
}

impl Asker for Receiver<'_> {
    fn check_route(&self, claims: &Claims) -> Result<Subject, Rejection> {
        let arrival = self.arrival;
        check_subject(claims, arrival.subject)?;
        if claims.reply.as_ref().map(Subject::as_str) != arrival.reply {
            let reason = SubjectMismatch::ReplyRewritten;
            return Err(Rejection::SubjectMismatch { reason });
        }
        let duty = match arrival.route {
            Route::Subscription { pattern, .. } => subscribed(claims, pattern)?,
            Route::Reply(None) => return unexpected(UnexpectedReply::NoRequest),
            Route::Reply(Some(pending)) => answered(claims, pending)?,
        };
        if claims.audience.is_some_and(|audience| audience != self.me) {
            return Err(Rejection::WrongAudience);
        }
        Ok(duty)
    }

    fn check_own(
        &self,
        claims: &Claims,
        scene: &Scene<'_>,
        skew: ClockSkew,
    ) -> Result<(), Rejection> {
        match self.arrival.route {
            Route::Subscription { own, .. } => check_receiver(own, &claims.subject, scene, skew),
            // Whoever asked may hear the answer.
            Route::Reply(_) => Ok(()),
        }
    }

    fn request(&self) -> Option<&Pending> {
        match self.arrival.route {
            Route::Reply(pending) => pending,
            Route::Subscription { .. } => None,
        }
    }

    fn admits(&self, sender: &KeyBytes) -> Result<(), Rejection> {
        self.guard.admits(sender)
    }

    fn look_up(&self, sighting: &Sighting) -> Result<(), Rejection> {
        self.guard.look_up(sighting)
    }
}

/// Checks the subject a message was delivered on.
pub(super) fn check_subject(claims: &Claims, delivered: &str) -> Result<(), Rejection> {
    if claims.subject.as_str() == delivered {
        return Ok(());
    }
    let reason = SubjectMismatch::Delivered;
    Err(Rejection::SubjectMismatch { reason })
}

/// The duty of a message that came to a subscription.
fn subscribed(claims: &Claims, pattern: &SubjectPattern) -> Result<Subject, Rejection> {
    if claims.action == Action::Serve {
        return unexpected(UnexpectedReply::NotAsked);
    }
    if !pattern.matches(&claims.subject) {
        let reason = SubjectMismatch::NotSubscribed;
        return Err(Rejection::SubjectMismatch { reason });
    }
    Ok(claims.subject.clone())
}

/// The duty of an answer to `pending`.
pub(super) fn answered(claims: &Claims, pending: &Pending) -> Result<Subject, Rejection> {
    if claims.action != Action::Serve {
        return unexpected(UnexpectedReply::NotAReply);
    }
    if claims.in_reply_to != Some(pending.request) {
        return unexpected(UnexpectedReply::OtherRequest);
    }
    Ok(pending.subject.clone())
}

pub(super) fn unexpected<T>(reason: UnexpectedReply) -> Result<T, Rejection> {
    Err(Rejection::UnexpectedReply { reason })
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
        trust.revocations().check_chain(own, holders.iter(), now)?;
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
