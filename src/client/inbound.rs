//! The one place of this ring that calls the verifier. Every inbound path goes through
//! [`Shared::receive`]: subscriptions, queue groups, services and answers to requests; or through
//! its two halves, [`Shared::hold`] and [`Shared::settle`], where a message is claimed in between.

use std::cell::Cell;
use std::panic;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use super::Shared;
use super::audit::KeptSlot;
use super::counters::count;
use super::guards::SharedGuard;
use super::guards::lock;
use super::identity::TrustHandle;
use super::seldom::Seldom;
use super::subscriber::Intake;
use crate::bus::Delivery;
use crate::proto::audit::AuditEvent;
use crate::proto::breaker::Breaker;
use crate::proto::breaker::Conduct;
use crate::proto::breaker::Turn;
use crate::proto::handshake::SessionTable;
use crate::proto::identity::KeyBytes;
use crate::proto::policy::RateLimiter;
use crate::proto::rejection::Class;
use crate::proto::rejection::Rejection;
use crate::proto::replay::LookUp;
use crate::proto::replay::Sighting;
use crate::proto::scope::Action;
use crate::proto::time::Timestamp;
use crate::proto::trust::TrustState;
use crate::proto::verify::Arrival;
use crate::proto::verify::Examined;
use crate::proto::verify::Pending;
use crate::proto::verify::Refused;
use crate::proto::verify::Route;
use crate::proto::verify::Scene;
use crate::proto::verify::Sessions;
use crate::proto::verify::Verdict;
use crate::proto::verify::VerifiedEnvelope;

/// What is expected where a message arrived.
pub(crate) enum Expect<'a> {
    /// A subscription of the user.
    Subscription(&'a Intake),
    /// The answers' inbox of the request multiplexer.
    Answer {
        /// The request that waits at this reply subject.
        pending: Option<&'a Pending>,
        /// The memory of accepted answers.
        guard: &'a SharedGuard,
    },
}

/// A message that passed, or failed, everything that changes nothing, on its way to be claimed.
pub(crate) struct Held {
    delivery: Delivery,
    /// Nothing when the audit had no place.
    look: Option<(KeptSlot, Look, Duration)>,
}

/// What was found out, and at which instant; nothing when finding out panicked.
type Look = Option<(Examined, Timestamp)>;

impl Held {
    /// What to claim, and the instant it was looked at; nothing when it is refused anyway.
    pub(crate) fn sighting(&self) -> Option<(&Sighting, Timestamp)> {
        let (_, examined, _) = self.look.as_ref()?;
        let (examined, now) = examined.as_ref()?;
        Some((examined.sighting()?, *now))
    }
}

/// The topic of the notice that a key was quarantined.
const NOTICE_QUARANTINED: &str = "quarantined";

/// The topic of the notice that a quarantine is over.
const NOTICE_RELEASED: &str = "released";

/// What a receiver remembers when it decides about a message.
struct Memory<'a> {
    guard: &'a SharedGuard,
    breaker: &'a Seldom<Breaker>,
    now: Timestamp,
}

impl LookUp for Memory<'_> {
    fn admits(&self, sender: &KeyBytes) -> Result<(), Rejection> {
        self.breaker.admits(sender, self.now)
    }

    fn look_up(&self, sighting: &Sighting) -> Result<(), Rejection> {
        self.guard.look_up(sighting)
    }
}

impl Seldom<Breaker> {
    /// Whether a key is listened to now.
    pub(crate) fn admits(&self, key: &KeyBytes, now: Timestamp) -> Result<(), Rejection> {
        self.get().map_or(Ok(()), |breaker| breaker.check(key, now))
    }
}

impl Sessions for Seldom<SessionTable> {
    fn has(&self, key: &KeyBytes, now: Timestamp) -> bool {
        self.get()
            .is_some_and(|sessions| sessions.expects(key, now))
    }
}

impl Shared {
    /// Now and the trust state, taken once per decision.
    pub(crate) fn moment(&self) -> Result<(Timestamp, Arc<TrustState>), Rejection> {
        let now = self.clock.now()?;
        let handle: &TrustHandle = &self.identity.trust;
        Ok((now, handle.current()))
    }

    pub(crate) fn scene<'a>(&'a self, now: Timestamp, trust: &'a Arc<TrustState>) -> Scene<'a> {
        Scene {
            now,
            trust,
            sessions: &self.sessions,
        }
    }

    /// Decides one message. `None` when it was refused, or is not a message.
    pub(crate) fn receive(
        &self,
        delivery: Delivery,
        expect: &Expect<'_>,
    ) -> Option<VerifiedEnvelope> {
        if !self.is_message(&delivery) {
            return None;
        }
        let decided = self.decide(&delivery, expect);
        self.tell_of(&decided, &delivery, expect);
        decided.ok()
    }

    /// The first half of [`receive`](Self::receive) where a message is verified by a worker, or has
    /// to be claimed in the shared replay memory: what changes nothing. `None` when it is not a
    /// message.
    ///
    /// Nothing has happened yet to a message that is dropped in between.
    pub(crate) fn hold(&self, delivery: Delivery, intake: &Intake) -> Option<Held> {
        if !self.is_message(&delivery) {
            return None;
        }
        let look = self.audit.slot_to_keep().map(|slot| {
            let started = Instant::now();
            let expect = Expect::Subscription(intake);
            let examined = self.guarded(&delivery, || self.look(&delivery, &expect));
            (slot, examined, started.elapsed())
        });
        Some(Held { delivery, look })
    }

    /// The second half, once it is known whether the claim was made: time and trust state are
    /// looked at once more, then the message is decided. `None` when it was refused.
    pub(crate) fn settle(
        &self,
        held: Held,
        claimed: Result<(), Rejection>,
        intake: &Intake,
    ) -> Option<VerifiedEnvelope> {
        let Held { delivery, look } = held;
        let decided = match look {
            Some((slot, examined, before)) => {
                let started = Instant::now();
                let now = self.clock.now();
                let at = now.unwrap_or_default();
                let finish = |mut examined: Examined| {
                    let trust = self.identity.trust.current();
                    // It may have been quarantined meanwhile, for what came before this message.
                    let admitted = |now| match examined.sighting() {
                        Some(sighting) => self.breaker.admits(&sighting.sender, now),
                        None => Ok(()),
                    };
                    match claimed.and(now).and_then(|now| admitted(now).map(|()| now)) {
                        Ok(now) => {
                            let own = intake.own.chain(self);
                            examined.recheck(&self.scene(now, &trust), self.skew, &own);
                        }
                        Err(rejection) => examined.refuse(rejection),
                    }
                    self.finish(examined, &intake.guard, at)
                };
                let verdict =
                    examined.and_then(|(examined, _)| self.guarded(&delivery, || finish(examined)));
                let verdict = verdict.unwrap_or_else(|| self.failed(&delivery, at));
                let spent = before + started.elapsed();
                verdict.with_cost_ns(nanoseconds(spent)).record(slot)
            }
            None => Err(self.unrecorded()),
        };
        let expect = Expect::Subscription(intake);
        self.tell_of(&decided, &delivery, &expect);
        decided.ok()
    }

    /// Whether a delivery is a message of somebody, to be decided.
    fn is_message(&self, delivery: &Delivery) -> bool {
        // The bus speaking for itself: transport errors, neither messages nor attacks.
        if delivery.status.is_some() {
            return false;
        }
        let control = self.is_control(&delivery.subject);
        if control {
            count(&self.tally.control);
        }
        !control
    }

    /// Counts a decision, and tells those who have to know.
    fn tell_of(
        &self,
        decided: &Result<VerifiedEnvelope, Refused>,
        delivery: &Delivery,
        expect: &Expect<'_>,
    ) {
        self.note_bus();
        count(&self.tally.received);
        match decided {
            Ok(envelope) => {
                count(&self.tally.allowed);
                self.after_accept(envelope, expect);
            }
            Err(refused) => self.after_refusal(refused, delivery),
        }
    }

    /// The refusal of a message for which the audit has no place.
    fn unrecorded(&self) -> Refused {
        // Nothing may happen that is not recorded; what cannot be recorded is only counted.
        count(&self.tally.unaudited);
        Refused {
            rejection: Rejection::AuditUnavailable,
            requester: None,
        }
    }

    fn decide(
        &self,
        delivery: &Delivery,
        expect: &Expect<'_>,
    ) -> Result<VerifiedEnvelope, Refused> {
        let Some(slot) = self.audit.slot() else {
            return Err(self.unrecorded());
        };
        let started = Instant::now();
        let at = Cell::new(Timestamp::default());
        let verdict = self.guarded(delivery, || {
            let (examined, now) = self.look(delivery, expect);
            at.set(now);
            let guard = match expect {
                Expect::Subscription(intake) => &intake.guard,
                Expect::Answer { guard, .. } => *guard,
            };
            self.finish(examined, guard, now)
        });
        let verdict = verdict.unwrap_or_else(|| self.failed(delivery, at.get()));
        let spent = nanoseconds(started.elapsed());
        verdict.with_cost_ns(spent).record(slot)
    }

    /// Runs part of a decision; `None` when it panics, which is a refusal. What the panic leaves
    /// behind is whole: caches and memories are changed by one insertion each, and only in favour of
    /// what was verified.
    fn guarded<T>(&self, delivery: &Delivery, part: impl FnOnce() -> T) -> Option<T> {
        let outcome = panic::catch_unwind(AssertUnwindSafe(part));
        let subject = delivery.subject.escape_debug();
        outcome
            .inspect_err(|_| tracing::error!(%subject, "the verifier panicked"))
            .ok()
    }

    /// The verdict on a message whose decision panicked.
    fn failed(&self, delivery: &Delivery, at: Timestamp) -> Verdict {
        let trust = self.identity.trust.current();
        Verdict::failed(&delivery.payload, &delivery.subject, at, &trust)
    }

    /// The pure checks, and the instant they were made at.
    fn look(&self, delivery: &Delivery, expect: &Expect<'_>) -> (Examined, Timestamp) {
        let (now, paused) = match self.clock.now() {
            Ok(now) => (now, None),
            Err(rejection) => (Timestamp::default(), Some(rejection)),
        };
        let trust = self.identity.trust.current();
        let scene = self.scene(now, &trust);
        let pending = self.pending_at(&delivery.subject, expect);
        let own = match expect {
            Expect::Subscription(intake) => intake.own.chain(self),
            Expect::Answer { .. } => self.own().chain().clone(),
        };
        let (route, guard) = match expect {
            Expect::Subscription(intake) if intake.inbox => {
                (Route::Reply(pending.as_ref()), &intake.guard)
            }
            Expect::Subscription(intake) => (
                Route::Subscription {
                    pattern: &intake.pattern,
                    own: &own,
                },
                &intake.guard,
            ),
            Expect::Answer { pending, guard } => (Route::Reply(*pending), *guard),
        };
        let arrival = Arrival {
            subject: &delivery.subject,
            reply: delivery.reply.as_ref().map(|reply| reply.as_str()),
            route,
        };
        let memory = Memory {
            guard,
            breaker: &self.breaker,
            now,
        };
        let mut examined =
            self.verifier
                .examine_beside(&delivery.payload, &arrival, &scene, &memory);
        if let Some(rejection) = paused {
            examined.refuse(rejection);
        }
        (examined, now)
    }

    /// What changes state: the floor, then rate and memory.
    fn finish(&self, mut examined: Examined, guard: &SharedGuard, now: Timestamp) -> Verdict {
        if let (Some(floor), Some(issued)) = (&self.floor, examined.issued())
            && let Err(rejection) = floor.admit(issued)
        {
            examined.refuse(rejection);
        }
        let verdict = if examined.is_rated() {
            examined.conclude(&mut lock(guard), &mut lock(&self.rates), now)
        } else {
            examined.conclude(&mut lock(guard), &mut RateLimiter::default(), now)
        };
        // While time cannot be trusted, nobody is judged by it.
        if now != Timestamp::default() {
            self.watch(verdict.conduct(), &self.identity.trust.current(), now);
        }
        verdict
    }

    /// Lets the circuit breakers know how a sender behaved, and says what they did about it.
    fn watch(&self, conduct: Option<Conduct>, trust: &TrustState, now: Timestamp) {
        let parameters = trust.policy().quarantine();
        let is_bad = conduct.as_ref().is_some_and(|conduct| conduct.bad);
        let breaker = self.breaker.get();
        // Nobody is watched, and nobody gives a reason to.
        if breaker.is_none() && !is_bad {
            return;
        }
        let mut breaker = breaker.unwrap_or_else(|| self.breaker.lock());
        let mut turns = breaker.release(parameters, now);
        turns.extend(conduct.and_then(|conduct| breaker.observe(&conduct, parameters, now)));
        drop(breaker);
        for turn in turns {
            let (topic, text) = match turn {
                Turn::Quarantined {
                    key,
                    until,
                    bad,
                    of,
                } => {
                    let name = trust.name_of(&key);
                    let text = format!(
                        "{name} (key {key}) is quarantined until {until}: \
                         {bad} of its last {of} messages should never have been signed"
                    );
                    (NOTICE_QUARANTINED, text)
                }
                Turn::Released { key } => {
                    let name = trust.name_of(&key);
                    let text = format!("{name} (key {key}) is released, on probation");
                    (NOTICE_RELEASED, text)
                }
            };
            tracing::warn!(agent = %self.identity.id, topic, "{text}");
            let topic = topic.to_owned();
            self.audit.event(now, AuditEvent::Notice { topic, text });
        }
    }

    /// Whether a subject is one of trustmesh's own: such messages never reach handlers.
    fn is_control(&self, subject: &str) -> bool {
        subject
            .strip_prefix(self.prefix.as_str())
            .is_some_and(|rest| rest.starts_with('.'))
    }

    fn after_accept(&self, envelope: &VerifiedEnvelope, expect: &Expect<'_>) {
        let claims = envelope.claims();
        if matches!(expect, Expect::Subscription(intake) if intake.inbox) {
            self.slots.answered_in_inbox(claims.subject.as_str());
        }
        if let Some(mut sessions) = self.sessions.get() {
            sessions.heard_from(&envelope.sender_key(), claims.issued);
        }
        if claims.action == Action::Request {
            self.remember_request(envelope);
        }
        tracing::debug!(
            agent = %self.identity.id,
            subject = %claims.subject,
            sender = %envelope.sender(),
            mid = %claims.mid,
            "accepted"
        );
    }

    fn after_refusal(&self, refused: &Refused, delivery: &Delivery) {
        let class = refused.rejection.class();
        self.tally.deny(class);
        if class == Class::UnknownAgent
            && let Some(feed) = &self.identity.feed
        {
            feed.hint();
        }
        if class != Class::AuditUnavailable {
            tracing::debug!(
                agent = %self.identity.id,
                subject = %delivery.subject.escape_debug(),
                code = refused.rejection.code(),
                rejection = %refused.rejection,
                "refused"
            );
        }
        self.report(&refused.rejection, &delivery.payload);
        self.tell(refused);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
