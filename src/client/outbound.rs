//! Signing what goes out. Whatever a receiver would refuse is refused here, before any byte is
//! sent.

use bytes::Bytes;

use super::Client;
use super::outbox::Addressed;
use super::outbox::Post;
use super::seldom::Emptiness;
use crate::bus::HeaderMap;
use crate::bus::Outgoing;
use crate::bus::PublishError;
use crate::bus::PublishErrorKind;
use crate::bus::RequestError;
use crate::bus::RequestErrorKind;
use crate::bus::Subject as BusSubject;
use crate::error::Denied;
use crate::proto::envelope::EnvelopeDraft;
use crate::proto::envelope::Extensions;
use crate::proto::envelope::inbox_prefix;
use crate::proto::identity::KeyBytes;
use crate::proto::limits::RESERVE;
use crate::proto::names::MODE_BATCH;
use crate::proto::rejection::ChainBroken;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::scope::Action;
use crate::proto::signing::ObjectId;
use crate::proto::subject::Subject;
use crate::proto::time::Timestamp;
use crate::proto::verify;
use crate::proto::verify::Pending;
use crate::proto::verify::VerifiedEnvelope;

/// How long a received request can be answered.
const ANSWERABLE_MS: u64 = 10 * 60_000;

/// Received requests that can be answered at once; beyond it the oldest are forgotten, and
/// answering them is an error.
const ANSWERABLE_MAX: usize = 65_536;

/// A message before it is signed.
#[derive(Clone)]
pub(crate) struct Letter {
    pub(crate) subject: BusSubject,
    pub(crate) reply: Option<BusSubject>,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) payload: Bytes,
    pub(crate) audience: Option<KeyBytes>,
    pub(crate) grants: Vec<Bytes>,
    pub(crate) ttl_ms: Option<u32>,
    pub(crate) payload_type: &'static str,
}

impl Default for Letter {
    fn default() -> Self {
        Self {
            subject: BusSubject::from_static(""),
            reply: None,
            headers: None,
            payload: Bytes::new(),
            audience: None,
            grants: Vec::new(),
            ttl_ms: None,
            payload_type: "",
        }
    }
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither payload nor headers: drafts are printed into logs.
        f.debug_struct("Letter")
            .field("subject", &self.subject)
            .field("payload_len", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// A signed message.
pub(crate) struct Sealed {
    pub(crate) post: Post,
    pub(crate) subject: Subject,
    pub(crate) at: Timestamp,
}

impl Sealed {
    /// What its answer has to match.
    pub(crate) fn pending(&self, audience: Option<KeyBytes>) -> Pending {
        Pending {
            request: self.post.id(),
            subject: self.subject.clone(),
            audience,
        }
    }
}

/// Why a message was not sent.
#[derive(Debug)]
pub(crate) enum SendFault {
    Subject,
    TooLarge { size: usize, most: usize },
    Denied(Rejection),
}

impl From<Rejection> for SendFault {
    fn from(rejection: Rejection) -> Self {
        Self::Denied(rejection)
    }
}

impl From<SendFault> for PublishError {
    fn from(fault: SendFault) -> Self {
        match fault {
            SendFault::Subject => Self::new(PublishErrorKind::InvalidSubject),
            SendFault::TooLarge { size, most } => {
                Self::with_source(PublishErrorKind::MaxPayloadExceeded, too_large(size, most))
            }
            SendFault::Denied(rejection) => {
                Self::with_source(PublishErrorKind::Send, Denied(rejection))
            }
        }
    }
}

impl From<SendFault> for RequestError {
    fn from(fault: SendFault) -> Self {
        match fault {
            SendFault::Subject => Self::new(RequestErrorKind::InvalidSubject),
            SendFault::TooLarge { size, most } => {
                Self::with_source(RequestErrorKind::MaxPayloadExceeded, too_large(size, most))
            }
            SendFault::Denied(rejection) => {
                Self::with_source(RequestErrorKind::Other, Denied(rejection))
            }
        }
    }
}

fn too_large(size: usize, most: usize) -> String {
    format!("{size} bytes of payload, headers and grants; {most} fit beside the envelope")
}

/// A request that was received and can be answered.
#[derive(Clone, Debug)]
pub(crate) struct Answerable {
    request: ObjectId,
    subject: Subject,
    asker: KeyBytes,
    until: Timestamp,
}

/// Received requests, by their reply subject.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    by_reply: std::collections::HashMap<String, Answerable>,
    order: std::collections::VecDeque<String>,
}

impl Requests {
    fn remember(&mut self, envelope: &VerifiedEnvelope) {
        let claims = envelope.claims();
        let Some(reply) = &claims.reply else { return };
        while self.order.len() >= ANSWERABLE_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.by_reply.remove(&oldest);
            }
        }
        let answerable = Answerable {
            request: envelope.id(),
            subject: claims.subject.clone(),
            asker: envelope.sender_key(),
            until: claims.issued.plus(ANSWERABLE_MS),
        };
        let reply = reply.as_str().to_owned();
        if self.by_reply.insert(reply.clone(), answerable).is_none() {
            self.order.push_back(reply);
        }
    }

    fn get(&self, reply: &str, now: Timestamp) -> Option<Answerable> {
        self.by_reply
            .get(reply)
            .filter(|found| now < found.until)
            .cloned()
    }
}

impl Emptiness for Requests {
    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl super::Shared {
    pub(crate) fn remember_request(&self, envelope: &VerifiedEnvelope) {
        self.requests.lock().remember(envelope);
    }
}

impl Client {
    /// The largest payload that can be sent, in bytes: the server's limit less [`RESERVE`] (11,264)
    /// for the envelope. Application headers and granted chains count towards it.
    pub fn max_payload(&self) -> usize {
        self.shared.bus.max_payload().saturating_sub(RESERVE)
    }

    /// Signs a message. A subject on which a received request waits makes it the answer.
    pub(crate) fn seal(&self, letter: Letter) -> Result<Sealed, SendFault> {
        let shared = &self.shared;
        let subject = Subject::parse(&letter.subject).map_err(|_| SendFault::Subject)?;
        let reply = letter.reply.as_deref().map(Subject::parse).transpose();
        let reply = reply.map_err(|_| SendFault::Subject)?;
        if reply
            .as_ref()
            .is_some_and(|reply| !self.is_own_inbox(reply))
        {
            return Err(SendFault::Subject);
        }
        let headers = app_headers(letter.headers.as_ref());
        self.check_size(&letter, &headers)?;
        let (now, trust) = shared.moment()?;
        let requests = match reply {
            None => shared.requests.get(),
            Some(_) => None,
        };
        let answers = requests.and_then(|requests| requests.get(subject.as_str(), now));
        let mut draft = self.draft(subject, now)?;
        draft.ttl_ms = letter.ttl_ms.unwrap_or(shared.ttl_ms);
        draft.audience = letter.audience;
        draft.payload_type = letter.payload_type;
        draft.headers = headers;
        draft.grants = letter.grants;
        draft.payload = letter.payload;
        if reply.is_some() {
            draft.action = Action::Request;
            draft.reply = reply;
        }
        if let Some(answers) = &answers {
            draft.action = Action::Serve;
            draft.in_reply_to = Some(answers.request);
            draft.audience = Some(answers.asker);
        }
        let duty = answers
            .as_ref()
            .map_or(&draft.subject, |answers| &answers.subject);
        let scene = shared.scene(now, &trust);
        let credential = &self.credential();
        if credential.key().public() != shared.identity.key.public() {
            // Answers could not be told to be ours, and receivers would refuse the reply subject.
            let (place, reason) = (Place::Chain, ChainBroken::NotOurs);
            return Err(Rejection::ChainBroken { place, reason }.into());
        }
        let (audience, ttl) = (draft.audience.as_ref(), draft.ttl_ms);
        verify::check_send(
            credential,
            draft.action,
            duty,
            audience,
            ttl,
            &scene,
            shared.skew,
        )?;
        let approval = self.approval_for(draft.action, duty, &scene)?;
        let policy = trust.policy();
        let busy = shared.outbox.is_busy();
        let together = busy && policy.allows_mode(draft.action, duty, MODE_BATCH);
        draft.extensions.approval = approval;
        let (subject, reply) = (letter.subject, letter.reply);
        let post = if together {
            let envelope = draft.encode_for_batch(credential)?;
            Post::Unsigned(Addressed {
                envelope,
                subject,
                reply,
            })
        } else {
            let envelope = draft.sign(credential)?;
            shared.outbox.note_signature();
            let signed = Addressed {
                envelope,
                subject,
                reply,
            };
            if busy {
                Post::Grouped(signed)
            } else {
                Post::Signed(signed)
            }
        };
        Ok(Sealed {
            post,
            subject: draft.subject,
            at: draft.issued,
        })
    }

    fn draft(&self, subject: Subject, now: Timestamp) -> Result<EnvelopeDraft, Rejection> {
        let mid = self.shared.ids.next()?;
        let mut draft = EnvelopeDraft::new(mid, now, Action::Publish, subject);
        let traceparent = self.voice.traceparent.clone();
        draft.extensions = Extensions {
            epochs: None,
            traceparent,
            hops: self.voice.hops,
            approval: None,
        };
        Ok(draft)
    }

    /// The envelope of a refusal. It says nothing but that, and who refused when a session is
    /// asked for.
    pub(crate) fn seal_refusal(
        &self,
        requester: &verify::Requester,
        payload: Bytes,
    ) -> Result<Outgoing, SendFault> {
        let (now, trust) = self.shared.moment()?;
        let mut draft = self.draft(requester.reply.clone(), now)?;
        draft.action = Action::Serve;
        draft.in_reply_to = Some(requester.request);
        draft.audience = Some(requester.key);
        draft.payload_type = crate::proto::names::PAYLOAD_REFUSAL;
        draft.payload = payload;
        let scene = self.shared.scene(now, &trust);
        let credential = &self.credential();
        verify::check_send(
            credential,
            Action::Serve,
            &requester.subject,
            draft.audience.as_ref(),
            draft.ttl_ms,
            &scene,
            self.shared.skew,
        )?;
        draft.extensions.approval = self.approval_for(Action::Serve, &requester.subject, &scene)?;
        Ok(Addressed::to(&draft, draft.sign(credential)?).into())
    }

    fn check_size(&self, letter: &Letter, headers: &[(String, String)]) -> Result<(), SendFault> {
        let headers: usize = headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        let grants: usize = letter.grants.iter().map(Bytes::len).sum();
        let size = letter.payload.len() + headers + grants;
        let most = self.max_payload();
        if size <= most {
            Ok(())
        } else {
            Err(SendFault::TooLarge { size, most })
        }
    }

    pub(crate) fn is_own_inbox(&self, reply: &Subject) -> bool {
        verify::in_inbox_of(reply, &self.shared.identity.key())
    }

    /// A new random subject below this agent's own inbox, for answers (protocol §4.3). Two calls
    /// never give the same.
    pub fn new_inbox(&self) -> String {
        format!(
            "{}.{}",
            inbox_prefix(&self.shared.identity.key()),
            self.shared.token()
        )
    }
}

/// Application headers travel inside the envelope, every value of every name.
fn app_headers(map: Option<&HeaderMap>) -> Vec<(String, String)> {
    let Some(map) = map else { return Vec::new() };
    let mut headers: Vec<(String, String)> = map
        .iter()
        .flat_map(|(name, values)| {
            let name: &str = name.as_ref();
            values
                .iter()
                .map(move |value| (name.to_owned(), value.as_str().to_owned()))
        })
        .collect();
    // The map has no order among names; a fixed one makes equal messages equal. The sort is
    // stable, so the values of a name keep theirs.
    headers.sort_by(|(a, _), (b, _)| a.cmp(b));
    headers
}
