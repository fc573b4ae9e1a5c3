//! What a new envelope shall say, and signing it.

use std::fmt;

use bytes::Bytes;

use super::Extensions;
use super::SignedEnvelope;
use super::TOO_MUCH_CONTENT;
use super::UnsignedEnvelope;
use super::check_combination;
use super::check_header_len;
use super::check_lifetime;
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
use crate::proto::limits::PAYLOAD_TYPE_MAX;
use crate::proto::limits::TTL_DEFAULT_MS;
use crate::proto::names::MODE_BATCH;
use crate::proto::names::MODE_SINGLE;
use crate::proto::names::OBJECT_VERSION;
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

/// What most headers have room in, in bytes.
const HEADER_ROOM: usize = 320;

/// What a content without application headers and grants has before its payload, in bytes.
const PREFIX_ROOM: usize = 8;

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
        let content_len = u32::try_from(content_len).map_err(|_| TOO_MUCH_CONTENT)?;
        self.check()?;
        let content_hash = content_digest(&prefix, &self.payload);
        let header = self.header(mode, mesh, leaf, (content_hash, content_len));
        check_header_len(header.len())?;
        Ok(UnsignedEnvelope {
            mode,
            mesh,
            header,
            chain: chain.clone(),
            prefix,
            payload: self.payload.clone(),
        })
    }

    /// The header, whether or not anybody would take it.
    fn header(
        &self,
        mode: u8,
        mesh: MeshId,
        leaf: ObjectId,
        (content_hash, content_len): (ObjectId, u32),
    ) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_ROOM);
        wire::encode_into(
            &mut header,
            &(
                OBJECT_VERSION,
                mode,
                bin(&mesh.0),
                bin(&self.mid.0),
                self.issued.as_millis(),
                self.ttl_ms,
                self.action as u8,
                self.subject.as_str(),
                self.reply.as_ref().map(Subject::as_str),
                self.audience.as_ref().map(|key| bin(&key.0)),
                self.in_reply_to.as_ref().map(|id| bin(&id.0)),
                bin(&leaf.0),
                self.payload_type,
                bin(&content_hash.0),
                content_len,
                self.extensions.wire(),
            ),
        );
        header
    }

    /// Checks what a receiver would refuse in the header: here it costs nothing yet.
    fn check(&self) -> Result<(), Rejection> {
        let place = Place::Header;
        if self.payload_type.len() > PAYLOAD_TYPE_MAX {
            let limit = PAYLOAD_TYPE_MAX as u32;
            return Err(Rejection::TooLarge { place, limit });
        }
        let is_text = !self.payload_type.contains('\0');
        let text = is_text.then_some(()).ok_or(Malformed::NotText);
        self.extensions.check()?;
        let lifetime = check_lifetime(self.issued, self.ttl_ms);
        let combination = check_combination(
            self.action,
            self.reply.is_some(),
            self.audience.is_some(),
            self.in_reply_to.is_some(),
        );
        text.and(lifetime)
            .and(combination)
            .map_err(|reason| Rejection::Malformed { place, reason })
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
        let mut prefix = Vec::with_capacity(PREFIX_ROOM);
        prefix.push(0x93);
        wire::encode_into(&mut prefix, &self.headers);
        wire::encode_into(&mut prefix, &grants);
        push_bin_header(&mut prefix, self.payload.len());
        Ok(prefix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Claims;
    use super::*;
    use crate::proto::limits::TTL_MAX_MS;

    /// Values on both sides of every limit.
    fn drafts() -> impl Strategy<Value = EnvelopeDraft> {
        let texts = ["", "text/plain", "a\0b", LONG_TYPE, TOO_LONG_TYPE];
        let actions = prop::sample::select(vec![
            Action::Publish,
            Action::Subscribe,
            Action::Request,
            Action::Serve,
            Action::Delegate,
        ]);
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let traces = [None, Some(traceparent), Some("00-nonsense")];
        let approvals = prop::option::of(prop::sample::select(vec![0usize, 1, 500, 1_024, 2_048]));
        let present = (any::<bool>(), any::<bool>(), any::<bool>());
        let ttl = prop::sample::select(vec![0, 1, 10_000, TTL_MAX_MS, TTL_MAX_MS + 1]);
        let issued = prop::sample::select(vec![0, 1_800_000_000_000, u64::MAX - 5, u64::MAX]);
        let hops = prop::sample::select(vec![0u8, 1, 16, 17, 255]);
        let fixed = (ttl, issued, hops, prop::sample::select(texts.to_vec()));
        let more = (
            prop::sample::select(traces.to_vec()),
            approvals,
            any::<bool>(),
        );
        (actions, present, fixed, more).prop_map(
            |(action, present, (ttl, issued, hops, text), (trace, approval, epochs))| {
                let subject = Subject::parse("orders.eu").unwrap();
                let issued = Timestamp::from_millis(issued);
                let mut draft = EnvelopeDraft::new(MessageId([1; 16]), issued, action, subject);
                draft.ttl_ms = ttl;
                draft.payload_type = text;
                draft.reply = present.0.then(|| Subject::parse("_INBOX.a").unwrap());
                draft.audience = present.1.then_some(KeyBytes([2; 32]));
                draft.in_reply_to = present.2.then_some(ObjectId([3; 32]));
                draft.extensions = Extensions {
                    epochs: epochs.then_some([1, 2, 3]),
                    traceparent: trace.map(Bytes::from),
                    hops,
                    approval: approval.map(|len| Bytes::from(vec![7; len])),
                };
                draft
            },
        )
    }

    const LONG_TYPE: &str = str_of::<PAYLOAD_TYPE_MAX>();
    const TOO_LONG_TYPE: &str = str_of::<{ PAYLOAD_TYPE_MAX + 1 }>();

    const fn str_of<const N: usize>() -> &'static str {
        match std::str::from_utf8(&[b'a'; N]) {
            Ok(text) => text,
            Err(_) => "",
        }
    }

    proptest! {
        /// What is refused here is what a receiver would refuse, and nothing else.
        #[test]
        fn a_sender_refuses_what_a_receiver_cannot_read(draft in drafts()) {
            let parts = (ObjectId([5; 32]), 9);
            let header = Bytes::from(draft.header(MODE_SINGLE, MeshId([4; 16]), ObjectId([6; 32]), parts));
            let ours = draft.check().and(check_header_len(header.len()));
            let theirs = check_header_len(header.len())
                .and(Claims::parse(&header, u64::from(MODE_SINGLE)).map(drop));
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?}", ours, theirs);
        }
    }
}
