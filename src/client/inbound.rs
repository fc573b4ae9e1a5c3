//! The one place of this ring that calls the verifier. Every inbound path goes through
//! [`Shared::receive`]: subscriptions, queue groups, services and answers to requests.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Instant;

use super::Shared;
use super::counters::count;
use super::guards::SharedGuard;
use super::guards::lock;
use super::identity::TrustHandle;
use super::subscriber::Intake;
use crate::bus::Delivery;
use crate::proto::audit::AuditEvent;
use crate::proto::breaker::Breaker;
use crate::proto::breaker::Conduct;
use crate::proto::breaker::Turn;
use crate::proto::chain::VerifiedChain;
use crate::proto::handshake::SessionTable;
use crate::proto::identity::KeyBytes;
use crate::proto::rejection::Class;
use crate::proto::rejection::Rejection;
use crate::proto::replay::LookUp;
use crate::proto::replay::Sighting;
use crate::proto::scope::Action;
use crate::proto::time::Timestamp;
use crate::proto::trust::TrustState;
use crate::proto::verify::Arrival;
use crate::proto::verify::Pending;
use crate::proto::verify::Refused;
use crate::proto::verify::Route;
use crate::proto::verify::Scene;
use crate::proto::verify::Sessions;
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

/// The topic of the notice that a key was quarantined.
const NOTICE_QUARANTINED: &str = "quarantined";

/// The topic of the notice that a quarantine is over.
const NOTICE_RELEASED: &str = "released";

/// What a receiver remembers when it decides about a message.
struct Memory<'a> {
    guard: &'a SharedGuard,
    breaker: &'a Mutex<Breaker>,
    now: Timestamp,
}

impl LookUp for Memory<'_> {
    fn admits(&self, sender: &KeyBytes) -> Result<(), Rejection> {
        lock(self.breaker).check(sender, self.now)
    }

    fn look_up(&self, sighting: &Sighting) -> Result<(), Rejection> {
        self.guard.look_up(sighting)
    }
}

impl Sessions for Mutex<SessionTable> {
    fn has(&self, key: &KeyBytes, now: Timestamp) -> bool {
        lock(self).expects(key, now)
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
        // The bus speaking for itself: transport errors, neither messages nor attacks.
        if delivery.status.is_some() {
            return None;
        }
        if self.is_control(&delivery.subject) {
            count(&self.tally.control);
            return None;
        }
        count(&self.tally.received);
        let decided = self.decide(&delivery, expect);
        match &decided {
            Ok(envelope) => {
                count(&self.tally.allowed);
                self.after_accept(envelope, expect);
            }
            Err(refused) => self.after_refusal(refused, &delivery),
        }
        decided.ok()
    }

    fn decide(
        &self,
        delivery: &Delivery,
        expect: &Expect<'_>,
    ) -> Result<VerifiedEnvelope, Refused> {
        let silent = |rejection| Refused {
            rejection,
            requester: None,
        };
        let Some(slot) = self.audit.slot() else {
            // Nothing may happen that is not recorded; what cannot be recorded is only counted.
            count(&self.tally.unaudited);
            return Err(silent(Rejection::AuditUnavailable));
        };
        let started = Instant::now();
        let (now, paused) = match self.clock.now() {
            Ok(now) => (now, None),
            Err(rejection) => (Timestamp::default(), Some(rejection)),
        };
        let trust = self.identity.trust.current();
        let scene = self.scene(now, &trust);
        let pending = self.pending_at(&delivery.subject, expect);
        let (route, guard) = match expect {
            Expect::Subscription(intake) if intake.inbox => {
                (Route::Reply(pending.as_ref()), &intake.guard)
            }
            Expect::Subscription(intake) => {
                let own: &VerifiedChain = &intake.own;
                (
                    Route::Subscription {
                        pattern: &intake.pattern,
                        own,
                    },
                    &intake.guard,
                )
            }
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
        if let (Some(floor), Some(issued)) = (&self.floor, examined.issued())
            && let Err(rejection) = floor.admit(issued)
        {
            examined.refuse(rejection);
        }
        let verdict = examined.conclude(&mut lock(guard), &mut lock(&self.rates), now);
        if paused.is_none() {
            self.watch(verdict.conduct(), &trust, now);
        }
        let spent = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        verdict.with_cost_ns(spent).record(slot)
    }

    /// Lets the circuit breakers know how a sender behaved, and says what they did about it.
    fn watch(&self, conduct: Option<Conduct>, trust: &TrustState, now: Timestamp) {
        let parameters = trust.policy().quarantine();
        let mut breaker = lock(&self.breaker);
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
        lock(&self.sessions).heard_from(&envelope.sender_key(), claims.issued);
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
        if class != Class::AuditUnavailable {
            tracing::debug!(
                agent = %self.identity.id,
                subject = %delivery.subject.escape_debug(),
                code = refused.rejection.code(),
                rejection = %refused.rejection,
                "refused"
            );
        }
        self.tell(refused);
    }
}
