//! A receiver that holds every refusal to the rules of the threat catalogue.

use std::sync::Arc;

use bytes::Bytes;
use sha2::Digest as _;

use trustmesh::proto::audit::AuditEvent;
use trustmesh::proto::audit::AuditSlot;
use trustmesh::proto::audit::Decision;
use trustmesh::proto::audit::RecordChain;
use trustmesh::proto::audit::Word;
use trustmesh::proto::chain::VerifiedChain;
use trustmesh::proto::envelope::UnverifiedEnvelope;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::policy::RateLimiter;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::replay::ReplayGuard;
use trustmesh::proto::subject::SubjectPattern;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::TrustState;
use trustmesh::proto::verify::Arrival;
use trustmesh::proto::verify::Pending;
use trustmesh::proto::verify::Refused;
use trustmesh::proto::verify::Route;
use trustmesh::proto::verify::Scene;
use trustmesh::proto::verify::VerifiedEnvelope;
use trustmesh::proto::verify::Verifier;

use super::ChainSpec;
use super::Letter;
use super::Mesh;
use super::NOW;
use super::Party;
use super::Value;
use super::letter;

/// A slot that keeps what it is filled with.
pub struct Slot<'a>(pub &'a mut Vec<Decision>);

impl AuditSlot for Slot<'_> {
    fn fill(self, decision: Decision) {
        self.0.push(decision);
    }
}

/// What became of one message.
pub struct Outcome {
    pub result: Result<VerifiedEnvelope, Refused>,
    pub decision: Decision,
}

/// Bob, subscribed to everything.
pub struct Stage {
    pub mesh: Mesh,
    pub trust: Arc<TrustState>,
    pub me: Party,
    pub own: VerifiedChain,
    pub pattern: SubjectPattern,
    pub verifier: Verifier,
    pub guard: ReplayGuard,
    pub rates: RateLimiter,
    pub now: Timestamp,
    /// The chain of the valid message that must still be accepted after each refusal; `None` on a
    /// stage where nothing is valid.
    pub probe: Option<ChainSpec>,
}

impl Default for Stage {
    fn default() -> Self {
        Self::of(Mesh::new())
    }
}

impl Stage {
    pub fn of(mesh: Mesh) -> Self {
        let me = Party::named("bob");
        let skew = ClockSkew::default();
        Self {
            trust: mesh.trust(),
            own: mesh.grant(&me, 0, &["sub:>"]).chain().clone(),
            pattern: SubjectPattern::parse(">").unwrap(),
            verifier: Verifier::new(me.bytes(), skew),
            guard: ReplayGuard::new(skew, None),
            rates: RateLimiter::default(),
            now: Timestamp::from_millis(NOW),
            probe: Some(ChainSpec::down(&mesh, &["alice"])),
            me,
            mesh,
        }
    }

    /// A stage on which nothing is valid, so that no valid message can follow a refusal.
    pub fn barren(mesh: Mesh) -> Self {
        let mut stage = Self::of(mesh);
        stage.probe = None;
        stage
    }

    /// A valid chain of this mesh.
    pub fn chain(&self, holders: &[&str]) -> ChainSpec {
        ChainSpec::down(&self.mesh, holders)
    }

    /// A receiver of the same mind that has met no chain yet.
    pub fn cold(&self) -> Verifier {
        Verifier::new(self.me.bytes(), self.verifier.skew())
    }

    pub fn decide(&mut self, frame: &Bytes, subject: &str, reply: Option<&str>) -> Outcome {
        let (pattern, own) = (self.pattern.clone(), self.own.clone());
        let route = Route::Subscription {
            pattern: &pattern,
            own: &own,
        };
        self.decide_on(
            frame,
            &Arrival {
                subject,
                reply,
                route,
            },
        )
    }

    pub fn decide_on(&mut self, frame: &Bytes, arrival: &Arrival<'_>) -> Outcome {
        let scene = Scene {
            now: self.now,
            trust: &self.trust,
            sessions: &(),
        };
        let (guard, rates) = (&mut self.guard, &mut self.rates);
        let verdict = self.verifier.verify(frame, arrival, &scene, guard, rates);
        let (accepted, refusal) = (verdict.is_accepted(), verdict.rejection());
        let mut decisions = Vec::new();
        let result = verdict.record(Slot(&mut decisions));
        assert_eq!(decisions.len(), 1, "one decision, one event");
        assert_eq!(accepted, result.is_ok());
        assert_eq!(
            refusal,
            result.as_ref().err().map(|refused| refused.rejection)
        );
        let decision = decisions.remove(0);
        check_line(&decision);
        Outcome { result, decision }
    }

    /// Delivers a frame as its header claims it was sent.
    pub fn deliver(&mut self, frame: &Bytes) -> Outcome {
        let (subject, reply) = addresses(frame);
        self.decide(frame, &subject, reply.as_deref())
    }

    /// A: accepted once, with one allow event.
    pub fn accepts(&mut self, frame: &Bytes) -> VerifiedEnvelope {
        let held = self.guard.len();
        let Outcome { result, decision } = self.deliver(frame);
        let envelope = result.unwrap_or_else(|refused| panic!("refused: {}", refused.rejection));
        assert!(decision.rejection.is_none() && decision.authentic);
        assert_eq!(self.guard.len(), held + 1);
        envelope
    }

    /// R(class): see [`held_to_the_rules`](Self::held_to_the_rules).
    #[track_caller]
    pub fn refuses(&mut self, frame: &Bytes, class: Class) -> Rejection {
        let (subject, reply) = addresses(frame);
        self.refuses_on(frame, class, &subject, reply.as_deref())
    }

    /// R(class), delivered on another subject or with another reply than claimed.
    #[track_caller]
    pub fn refuses_on(
        &mut self,
        frame: &Bytes,
        class: Class,
        subject: &str,
        reply: Option<&str>,
    ) -> Rejection {
        self.held_to_the_rules(frame, class, |stage| stage.decide(frame, subject, reply))
    }

    /// R(class) of an answer.
    #[track_caller]
    pub fn refuses_answer(
        &mut self,
        frame: &Bytes,
        class: Class,
        pending: Option<&Pending>,
    ) -> Rejection {
        self.held_to_the_rules(frame, class, |stage| stage.decide_answer(frame, pending))
    }

    pub fn decide_answer(&mut self, frame: &Bytes, pending: Option<&Pending>) -> Outcome {
        let (subject, reply) = addresses(frame);
        let arrival = Arrival {
            subject: &subject,
            reply: reply.as_deref(),
            route: Route::Reply(pending),
        };
        self.decide_on(frame, &arrival)
    }

    /// R(class): exactly one deny event, with the digest of the first 256 bytes when the sender
    /// is not authentic; no state consumed; the next valid message accepted.
    #[track_caller]
    fn held_to_the_rules(
        &mut self,
        frame: &Bytes,
        class: Class,
        decide: impl FnOnce(&mut Self) -> Outcome,
    ) -> Rejection {
        let before = (self.guard.len(), format!("{:?}", self.rates));
        let Outcome { result, decision } = decide(self);
        let rejection = result.expect_err("accepted").rejection;
        assert_eq!(rejection.class(), class, "{rejection}");
        assert_eq!(rejection.code() / 100, class as u16);
        let after = (self.guard.len(), format!("{:?}", self.rates));
        assert_eq!(before, after, "a refused message left a trace: {rejection}");
        self.check_event(frame, &rejection, &decision);
        if let Some(chain) = self.probe.clone() {
            let now = Value::Uint(self.now.as_millis());
            let probe = Letter::publish(&chain, "probe.next").set(letter::ISSUED, now);
            let (pattern, own) = (SubjectPattern::parse(">").unwrap(), self.own.clone());
            let arrival = Arrival {
                subject: "probe.next",
                reply: None,
                route: Route::Subscription {
                    pattern: &pattern,
                    own: &own,
                },
            };
            let next = self.decide_on(&probe.frame(), &arrival);
            assert!(next.result.is_ok(), "the next valid message was refused");
        }
        rejection
    }

    fn check_event(&self, frame: &Bytes, rejection: &Rejection, decision: &Decision) {
        assert_eq!(decision.rejection, Some(*rejection));
        assert_eq!(decision.len, frame.len());
        let prefix: [u8; 32] = sha2::Sha256::digest(&frame[..frame.len().min(256)]).into();
        let digest = (!decision.authentic).then_some(prefix);
        assert_eq!(decision.digest, digest);
        let AuditEvent::Decision(event) = decision.event() else {
            panic!("a decision makes a decision event");
        };
        assert_eq!(event.verdict, Word::Deny);
        assert_eq!(event.class.as_deref(), Some(rejection.class().name()));
        assert_eq!(event.code, Some(rejection.code()));
        assert_eq!(event.hop, rejection.hop());
        assert_eq!(event.claimed, !decision.authentic);
        let epochs = self.trust.epochs();
        let named = (event.registry, event.revocations, event.policy);
        assert_eq!(named, (epochs.registry, epochs.revocations, epochs.policy));
    }
}

/// Checks that a decision is recorded in the line that its event has.
fn check_line(decision: &Decision) {
    let chain = || RecordChain::new(AgentId::parse("bob").unwrap(), [3; 8]);
    let (mut events, mut decisions) = (chain(), chain());
    // Twice: what was written once may be remembered.
    for _ in 0..2 {
        let (_, expected) = events.append(decision.at, decision.event());
        let mut line = String::new();
        decisions.append_decision(decision, &mut line);
        assert_eq!(line, expected);
    }
}

/// Where a frame says it was sent, and where it wants its answer; a default when it cannot be read.
pub fn addresses(frame: &Bytes) -> (String, Option<String>) {
    match UnverifiedEnvelope::parse(frame) {
        Ok(envelope) => {
            let claims = envelope.claims();
            let reply = claims.reply.as_ref().map(ToString::to_string);
            (claims.subject.to_string(), reply)
        }
        Err(_) => ("orders.eu.new".to_owned(), None),
    }
}
