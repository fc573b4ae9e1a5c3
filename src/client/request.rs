//! Requests: one question, one verified answer, and the session in between when policy asks for
//! one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Client;
use super::Shared;
use super::answers;
use super::answers::Open;
use super::answers::Outcome;
use super::approvals::lacks_approval;
use super::guards::ReplayScope;
use super::message::Message;
use super::outbound::Letter;
use super::refusals::SessionHint;
use crate::bus::RequestError;
use crate::bus::RequestErrorKind;
use crate::bus::Subject;
use crate::bus::SubscribeError;
use crate::error::NoAnswer;
use crate::error::RefusedByPeer;
use crate::proto::audit::AuditEvent;
use crate::proto::envelope::inbox_prefix;
use crate::proto::handshake::Instance;
use crate::proto::names::PAYLOAD_REFUSAL;
use crate::proto::subject;

/// Members of a queue group a single request shakes hands with.
const MEETINGS_MAX: usize = 16;

impl Client {
    /// Sends a request and waits for its answer. An approval that policy asks for is got first. A
    /// peer that asks for a session first gets one, and the request is sent again; in a queue group
    /// several members may ask, each once.
    pub(crate) async fn ask(
        &self,
        letter: Letter,
        timeout: Option<Duration>,
    ) -> Result<Message, RequestError> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut met: Vec<Instance> = Vec::new();
        let mut presented = false;
        loop {
            let answer = match self.ask_once(letter.clone(), deadline).await {
                Err(error) if !presented && lacks_approval(&error) => {
                    presented = true;
                    if !self.get_approved(deadline).await {
                        return Err(error);
                    }
                    continue;
                }
                outcome => outcome?,
            };
            if !is_refusal(&answer) {
                return Ok(answer);
            }
            let refused = || RequestError::with_source(RequestErrorKind::Other, RefusedByPeer);
            let hint = session_hint(&answer).ok_or_else(refused)?;
            if met.contains(&hint.instance) || met.len() >= MEETINGS_MAX {
                return Err(refused());
            }
            met.push(hint.instance);
            if !self.meet(hint, deadline).await {
                return Err(refused());
            }
        }
    }

    async fn meet(&self, hint: SessionHint, deadline: Option<Instant>) -> bool {
        let meeting = self.handshake_with(&hint.agent, hint.key, Some(hint.instance));
        match deadline {
            Some(deadline) => {
                matches!(tokio::time::timeout_at(deadline, meeting).await, Ok(Ok(_)))
            }
            None => meeting.await.is_ok(),
        }
    }

    async fn ask_once(
        &self,
        mut letter: Letter,
        deadline: Option<Instant>,
    ) -> Result<Message, RequestError> {
        let shared = &self.shared;
        shared.await_answers().await?;
        let reply = format!("{}.{}", answers_prefix(shared), shared.token());
        letter.reply = Some(reply.as_str().into());
        let audience = letter.audience;
        let sealed = self.seal(letter)?;
        // The slot is open before the request leaves, so no answer can be too early.
        let mut open = shared.slots.open(&reply, sealed.pending(audience));
        shared.note_bus();
        shared.outbox.send(sealed.post).await?;
        match await_outcome(&mut open, deadline).await {
            Ok(Some(Outcome::Answer(message))) => Ok(*message),
            Ok(Some(Outcome::NoResponders)) => {
                let kind = RequestErrorKind::NoResponders;
                Err(RequestError::with_source(kind, "no responders"))
            }
            Ok(None) => Err(RequestError::with_source(
                RequestErrorKind::Other,
                crate::bus::Closed,
            )),
            Err(_) => {
                let refused = open.refused();
                shared.note_no_answer(&sealed.subject, refused);
                let source = NoAnswer { refused };
                Err(RequestError::with_source(
                    RequestErrorKind::TimedOut,
                    source,
                ))
            }
        }
    }
}

async fn await_outcome(
    open: &mut Open,
    deadline: Option<Instant>,
) -> Result<Option<Outcome>, tokio::time::error::Elapsed> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, open.outcome()).await,
        None => Ok(open.outcome().await),
    }
}

fn is_refusal(answer: &Message) -> bool {
    answer.verified().claims().payload_type[..] == *PAYLOAD_REFUSAL.as_bytes()
}

fn session_hint(answer: &Message) -> Option<SessionHint> {
    if !is_refusal(answer) {
        return None;
    }
    let payload: &Bytes = answer.verified().payload();
    // The hint must name the agent that signed it: nobody can send us to somebody else.
    SessionHint::parse(payload)
        .filter(|hint| hint.agent == *answer.sender() && hint.key == answer.verified().sender_key())
}

/// Answers to `request` arrive on one subscription, apart from the user's own inboxes.
fn answers_prefix(shared: &Shared) -> String {
    format!("{}.mux", inbox_prefix(&shared.identity.key()))
}

impl Shared {
    /// Says in the audit that a request went unanswered: somebody may have swallowed it.
    fn note_no_answer(&self, subject: &subject::Subject, refused: u32) {
        let Ok(now) = self.clock.now() else { return };
        let text = format!("no answer in time on {subject}; {refused} answer(s) were refused");
        let topic = "no-answer".to_owned();
        self.audit.event(now, AuditEvent::Notice { topic, text });
    }

    /// Begins to receive answers, once.
    async fn await_answers(self: &Arc<Self>) -> Result<(), SubscribeError> {
        let begin = || async {
            let pattern = format!("{}.*", answers_prefix(self));
            let raw = self
                .bus
                .subscribe(Subject::from(pattern.clone()), None)
                .await?;
            let guard = self.guards.open(&ReplayScope {
                pattern,
                group: None,
            });
            self.tasks
                .spawn(answers::receive_answers(raw, Arc::downgrade(self), guard));
            Ok::<(), SubscribeError>(())
        };
        self.answering.get_or_try_init(begin).await?;
        Ok(())
    }
}
