//! What a new envelope shall say, and signing it.

use std::fmt;

use bytes::Bytes;

use super::Claims;
use super::Extensions;
use super::SignedEnvelope;
use super::TOO_MUCH_CONTENT;
use super::UnsignedEnvelope;
use super::check_header_len;
use super::content_digest;
use super::header_is_valid;
use super::push_bin_header;
use crate::proto::chain::Credential;
use crate::proto::identity::KeyBytes;
use crate::proto::identity::SigningKey;
use crate::proto::limits::APP_HEADERS_BYTES_MAX;
use crate::proto::limits::APP_HEADERS_MAX;
use crate::proto::limits::CHAIN_MAX;
use crate::proto::limits::GRANTS_BYTES_MAX;
use crate::proto::limits::GRANTS_MAX;
use crate::proto::limits::TTL_DEFAULT_MS;
use crate::proto::names::MODE_BATCH;
use crate::proto::names::MODE_SINGLE;
use crate::proto::rejection::Malformed;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::replay::MessageId;
use crate::proto::scope::Action;
use crate::proto::signing::MeshId;
use crate::proto::signing::ObjectId;
use crate::proto::subject::Subject;
use crate::proto::time::Timestamp;
use crate::proto::wire;
use crate::proto::wire::bin;

/// An application header: name and value. A name is printable ASCII without colon, a value one
/// line.
pub type AppHeader = (String, String);

/// What a new envelope shall say (protocol §12). It prints without headers, grants and payload.
///
/// ```
/// use trustmesh::proto::envelope::{EnvelopeDraft, UnverifiedEnvelope};
/// use trustmesh::proto::replay::MessageId;
/// use trustmesh::proto::scope::Action;
/// use trustmesh::proto::subject::Subject;
/// # use trustmesh::client::clock::{Clock, SystemClock};
/// use trustmesh::services::authority::Authority;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut mesh = Authority::dev("demo")?;
/// let planner = mesh.agent("planner", ["pub:tasks.>"])?;
/// # let now = SystemClock::new().now()?;
/// let credential = planner.credential(planner.grant().clone(), now)?;
///
/// let subject = Subject::parse("tasks.index")?;
/// let mut draft = EnvelopeDraft::new(MessageId([1; 16]), now, Action::Publish, subject);
/// draft.payload = "docs/".into();
/// let frame = draft.sign(&credential)?.into_bytes();
/// assert_eq!(UnverifiedEnvelope::parse(&frame)?.claims().mid, draft.mid);
///
/// draft.ttl_ms = 0;
/// assert!(draft.sign(&credential).is_err()); // no receiver would take it
/// # Ok(())
/// # }
/// ```
///
/// A receiver's side is in the example of [`ReplayGuard`](crate::proto::replay::ReplayGuard).
#[derive(Clone)]
pub struct EnvelopeDraft {
    /// 16 random bytes, drawn anew for each message.
    pub mid: MessageId,
    /// Now, by the sender's clock.
    pub issued: Timestamp,
    /// For how many milliseconds it may be accepted: 1 to [`TTL_MAX_MS`](crate::proto::limits::TTL_MAX_MS), [`TTL_DEFAULT_MS`] by
    /// default.
    pub ttl_ms: u32,
    /// Publish, Request or Serve.
    pub action: Action,
    /// Where it goes.
    pub subject: Subject,
    /// Where an answer is expected, below the sender's own inbox; given exactly with Request.
    pub reply: Option<Subject>,
    /// The one key it is meant for; needed with Serve, where it is the requester's.
    pub audience: Option<KeyBytes>,
    /// The request it answers; given exactly with Serve.
    pub in_reply_to: Option<ObjectId>,
    /// A media type or the like, at most [`PAYLOAD_TYPE_MAX`](crate::proto::limits::PAYLOAD_TYPE_MAX) bytes.
    pub payload_type: &'static str,
    /// Application headers: at most [`APP_HEADERS_MAX`], of [`APP_HEADERS_BYTES_MAX`] bytes
    /// together.
    pub headers: Vec<AppHeader>,
    /// Chains handed over with the message, encoded: at most [`GRANTS_MAX`], of
    /// [`GRANTS_BYTES_MAX`] bytes together and [`CHAIN_MAX`] each.
    pub grants: Vec<Bytes>,
    /// Extensions, none by default.
    pub extensions: Extensions,
    /// The payload. Only the bus limits its size, apart from a content of 4 GiB.
    pub payload: Bytes,
}

impl fmt::Debug for EnvelopeDraft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvelopeDraft")
            .field("mid", &self.mid)
            .field("action", &self.action)
            .field("subject", &self.subject)
            .field("payload_len", &self.payload.len())
            .finish_non_exhaustive()
    }
}

impl EnvelopeDraft {
    /// A message that lives for [`TTL_DEFAULT_MS`], without reply, audience, headers, grants and
    /// payload.
    pub fn new(mid: MessageId, issued: Timestamp, action: Action, subject: Subject) -> Self {
        Self {
            mid,
            issued,
            ttl_ms: TTL_DEFAULT_MS,
            action,
            subject,
            reply: None,
            audience: None,
            in_reply_to: None,
            payload_type: "",
            headers: Vec::new(),
            grants: Vec::new(),
            extensions: Extensions::default(),
            payload: Bytes::new(),
        }
    }

    /// Signs the envelope with a credential, under the tag `envelope`.
    ///
    /// # Errors
    ///
    /// What a receiver would refuse in the envelope itself: [`Rejection::Malformed`] for a lifetime
    /// out of range, fields that do not fit the action or a header that is none,
    /// [`Rejection::TooLarge`] for what is over a limit, [`Rejection::DepthExceeded`] for a hop
    /// count over [`HOPS_MAX`](crate::proto::limits::HOPS_MAX). Granted chains are not looked into.
    /// Whether the credential covers the message is [`check_send`](crate::proto::verify::check_send)'s
    /// question.
    pub fn sign(&self, credential: &Credential) -> Result<SignedEnvelope, Rejection> {
        let chain = credential.chain();
        self.sign_parts(
            chain.mesh(),
            chain.leaf().id(),
            chain.bytes(),
            credential.key(),
        )
    }

    /// Signs several envelopes with one signature (protocol §12.5), in mode 2. Each can be verified,
    /// and proved to anybody, without the others.
    ///
    /// # Errors
    ///
    /// As [`sign`](Self::sign), and [`Rejection::TooLarge`] for more than
    /// [`BATCH_MAX`](crate::proto::limits::BATCH_MAX).
    pub fn sign_together(
        drafts: &[Self],
        credential: &Credential,
    ) -> Result<Vec<SignedEnvelope>, Rejection> {
        let unsigned: Result<Vec<_>, _> = drafts
            .iter()
            .map(|draft| draft.encode_for_batch(credential))
            .collect();
        UnsignedEnvelope::sign_batch(unsigned?.iter(), credential.key())
    }

    /// Signs under a leaf id and chain bytes given separately; audit batches name a certificate
    /// and carry no chain.
    pub(crate) fn sign_parts(
        &self,
        mesh: MeshId,
        leaf: ObjectId,
        chain: &Bytes,
        key: &SigningKey,
    ) -> Result<SignedEnvelope, Rejection> {
        let unsigned = self.encode_for(MODE_SINGLE, mesh, leaf, chain)?;
        Ok(unsigned.sign(key))
    }

    /// Encodes the envelope for a credential, to be signed in a batch.
    pub(crate) fn encode_for_batch(
        &self,
        credential: &Credential,
    ) -> Result<UnsignedEnvelope, Rejection> {
        let chain = credential.chain();
        self.encode_for(MODE_BATCH, chain.mesh(), chain.leaf().id(), chain.bytes())
    }

    fn encode_for(
        &self,
        mode: u8,
        mesh: MeshId,
        leaf: ObjectId,
        chain: &Bytes,
    ) -> Result<UnsignedEnvelope, Rejection> {
        let prefix = self.content_prefix()?;
        let content_len = prefix.len() + self.payload.len();
        let claims = Claims {
            mode,
            mesh,
            mid: self.mid,
            issued: self.issued,
            ttl_ms: self.ttl_ms,
            action: self.action,
            subject: self.subject.clone(),
            reply: self.reply.clone(),
            audience: self.audience,
            in_reply_to: self.in_reply_to,
            leaf,
            payload_type: Bytes::from_static(self.payload_type.as_bytes()),
            content_hash: content_digest(&prefix, &self.payload),
            content_len: u32::try_from(content_len).map_err(|_| TOO_MUCH_CONTENT)?,
            extensions: self.extensions.clone(),
        };
        let header = Bytes::from(claims.encode());
        check_header_len(header.len())?;
        // What a receiver would refuse is refused here, by the same code.
        Claims::parse(&header, u64::from(mode))?;
        Ok(UnsignedEnvelope {
            mode,
            mesh,
            header,
            chain: chain.clone(),
            prefix,
            payload: self.payload.clone(),
        })
    }

    /// Everything of the content up to the payload's own bytes.
    fn content_prefix(&self) -> Result<Vec<u8>, Rejection> {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len());
        let too_large = |limit: usize| {
            Err(Rejection::TooLarge {
                place: Place::Content,
                limit: limit as u32,
            })
        };
        if self.headers.len() > APP_HEADERS_MAX {
            return too_large(APP_HEADERS_MAX);
        }
        if headers.sum::<usize>() > APP_HEADERS_BYTES_MAX {
            return too_large(APP_HEADERS_BYTES_MAX);
        }
        if self.grants.len() > GRANTS_MAX {
            return too_large(GRANTS_MAX);
        }
        if self.grants.iter().any(|grant| grant.len() > CHAIN_MAX) {
            return too_large(CHAIN_MAX);
        }
        if self.grants.iter().map(Bytes::len).sum::<usize>() > GRANTS_BYTES_MAX {
            return too_large(GRANTS_BYTES_MAX);
        }
        if !self
            .headers
            .iter()
            .all(|(name, value)| header_is_valid(name, value))
        {
            return Err(Rejection::Malformed {
                place: Place::Content,
                reason: Malformed::NotText,
            });
        }
        let grants: Vec<_> = self.grants.iter().map(|grant| bin(grant)).collect();
        let mut prefix = vec![0x93];
        wire::encode_into(&mut prefix, &self.headers);
        wire::encode_into(&mut prefix, &grants);
        push_bin_header(&mut prefix, self.payload.len());
        Ok(prefix)
    }
}
