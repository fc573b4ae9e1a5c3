//! A received message: verified, or it would not exist.

use std::sync::Arc;

use bytes::Bytes;

use super::Client;
use super::Shared;
use crate::bus::HeaderMap;
use crate::bus::HeaderName;
use crate::bus::HeaderValue;
use crate::bus::PublishError;
use crate::bus::PublishErrorKind;
use crate::bus::StatusCode;
use crate::bus::Subject;
use crate::error::Denied;
use crate::proto::chain::Credential;
use crate::proto::identity::AgentId;
use crate::proto::verify;
use crate::proto::verify::VerifiedEnvelope;

/// A verified message, with the fields of `async_nats::Message`.
///
/// Every field comes from what the sender signed; nothing is taken from NATS headers. Holding one
/// tells you what holding its [`VerifiedEnvelope`] tells you. It cannot be made by anybody else:
///
/// ```compile_fail
/// fn forge(payload: bytes::Bytes) -> trustmesh::Message {
///     trustmesh::Message {
///         subject: "tools.search".into(),
///         reply: None,
///         payload,
///         headers: None,
///         status: None,
///         description: None,
///         length: 0,
///     } // a private field is missing, and nothing public makes it
/// }
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Message {
    /// The subject it was sent to.
    pub subject: Subject,
    /// Where the sender waits for an answer, below its own inbox; present exactly in a request.
    pub reply: Option<Subject>,
    /// The payload, a slice of the received buffer.
    pub payload: Bytes,
    /// The sender's application headers, signed; `None` when there are none.
    pub headers: Option<HeaderMap>,
    /// Always `None`: status lines never become messages.
    pub status: Option<StatusCode>,
    /// Always `None`.
    pub description: Option<String>,
    /// Length of subject, reply, headers and payload as NATS counts them, in bytes.
    pub length: usize,
    verified: Arc<VerifiedEnvelope>,
    shared: Arc<Shared>,
}

impl Message {
    pub(crate) fn new(verified: VerifiedEnvelope, shared: &Arc<Shared>) -> Self {
        let claims = verified.claims();
        let headers = headers_of(&verified);
        let lines: usize = verified.headers().map(|(n, v)| n.len() + v.len() + 4).sum();
        // As a block of NATS headers, whose first and last line come with any other.
        let block = if lines == 0 {
            0
        } else {
            lines + "NATS/1.0\r\n\r\n".len()
        };
        let subject = bus_subject(&claims.subject);
        let reply = claims.reply.as_ref().map(bus_subject);
        let payload = verified.payload().clone();
        let length = subject.len() + reply.as_ref().map_or(0, |r| r.len()) + block + payload.len();
        Self {
            subject,
            reply,
            payload,
            headers,
            status: None,
            description: None,
            length,
            verified: Arc::new(verified),
            shared: shared.clone(),
        }
    }

    /// The agent that sent it, as the registry names the key that signed.
    pub fn sender(&self) -> &AgentId {
        self.verified.sender()
    }

    /// The verified envelope. It does not change when the public fields are changed.
    pub fn verified(&self) -> &VerifiedEnvelope {
        &self.verified
    }

    /// The authority the sender handed over with this message, verified now and ready for use
    /// (protocol §15.5).
    ///
    /// Of the chains attached, the one for this agent counts; it must come from the sender.
    /// [`Client::with`] has an example.
    ///
    /// # Errors
    ///
    /// [`Denied`] with [`Rejection::ChainBroken`](crate::proto::rejection::Rejection::ChainBroken)
    /// when none is for this agent or the sender did not give it, otherwise why the one that is
    /// does not hold.
    pub fn granted(&self) -> Result<Credential, Denied> {
        let me = self.shared.identity.key();
        let (now, trust) = self.shared.moment().map_err(Denied)?;
        let scene = self.shared.scene(now, &trust);
        let mut fault = Denied(crate::proto::rejection::Rejection::ChainBroken {
            place: crate::proto::rejection::Place::Content,
            reason: crate::proto::rejection::ChainBroken::Empty,
        });
        // A chain for another member of the group is not a fault, and not worth a signature.
        let ours = |grant: &&Bytes| verify::is_for(grant, &me);
        for grant in self.verified.grants().iter().filter(ours) {
            let giver = self.verified.sender_key();
            let key = &self.shared.identity.key;
            match verify::accept_grant(grant, &giver, key, &scene, self.shared.skew) {
                Ok(credential) => return Ok(credential),
                Err(rejection) => fault = Denied(rejection),
            }
        }
        Err(fault)
    }

    /// A client that acts with the authority handed over with this message, as part of the same
    /// work: trace context and hop count carry on.
    ///
    /// # Errors
    ///
    /// As [`granted`](Self::granted).
    pub fn acting(&self) -> Result<Client, Denied> {
        Ok(self.client().with(self.granted()?))
    }

    /// A client with this agent's own authority that acts as part of the same work: trace context
    /// and hop count carry on (protocol §15.4). After 16 hops nothing more is sent.
    pub fn client(&self) -> Client {
        Client::following(&self.shared, self.verified.claims())
    }

    /// Answers the request.
    ///
    /// What a handler of [`Client::serve`] returns is sent without it.
    ///
    /// # Errors
    ///
    /// [`PublishErrorKind::InvalidSubject`] when no answer is asked for; otherwise as
    /// [`Client::publish`].
    pub async fn respond(&self, payload: Bytes) -> Result<(), PublishError> {
        let Some(reply) = self.reply.clone() else {
            return Err(PublishError::new(PublishErrorKind::InvalidSubject));
        };
        self.client().publish(reply, payload).await
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The payload is left out: messages are printed into logs.
        f.debug_struct("Message")
            .field("subject", &self.subject)
            .field("sender", self.sender())
            .field("mid", &self.verified.claims().mid)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// The application headers as a NATS header map. Names and values were checked when the content
/// was opened.
fn headers_of(verified: &VerifiedEnvelope) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in verified.headers() {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            map.append(name, value);
        }
    }
    if map.is_empty() { None } else { Some(map) }
}

/// The same subject in the bus's type, without copying.
pub(crate) fn bus_subject(subject: &crate::proto::subject::Subject) -> Subject {
    // A parsed subject is ASCII, so the conversion cannot fail; an empty subject is refused by
    // every bus.
    Subject::from_utf8(subject.as_bytes().clone()).unwrap_or_else(|_| Subject::from_static(""))
}
