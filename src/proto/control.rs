//! Envelopes whose authority is a certificate, not a chain: audit batches, and requests to the
//! verifier service with their answers (protocol §17.1, §22.5).
//!
//! They are ordinary envelopes of mode 1 with an empty chain, whose `leaf` names the sender's
//! certificate. No grant gives this authority and none takes it away: it ends with the certificate.

use bytes::Bytes;

use super::certificate::Certificate;
use super::envelope::Auth;
use super::envelope::Claims;
use super::envelope::Content;
use super::envelope::EnvelopeDraft;
use super::envelope::SignedEnvelope;
use super::envelope::UnverifiedEnvelope;
use super::identity::AgentId;
use super::identity::KeyBytes;
use super::identity::SigningKey;
use super::join::is_reserved;
use super::names::PAYLOAD_CONTROL;
use super::names::Tag;
use super::rejection::ChainBroken;
use super::rejection::Place;
use super::rejection::Rejection;
use super::rejection::SubjectMismatch;
use super::rejection::UnexpectedReply;
use super::rejection::UntrustedRoot;
use super::replay::MessageId;
use super::replay::ReplayGuard;
use super::replay::Sighting;
use super::scope::Action;
use super::signing::Authentic;
use super::signing::MeshId;
use super::signing::ObjectId;
use super::subject::Subject;
use super::time::ClockSkew;
use super::time::Timestamp;
use super::trust::Purpose;
use super::trust::TrustState;
use super::verify::in_inbox_of;

/// The encoding of a chain without links.
const NO_CHAIN: [u8; 1] = [0x90];

const PLACE: Place = Place::Control;

/// The trust state, time and tolerance that one decision is made by.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The trust state.
    pub trust: &'a TrustState,
    /// Now.
    pub now: Timestamp,
    /// How far clocks may differ.
    pub skew: ClockSkew,
}

/// An envelope that a certificate was found to stand behind.
#[derive(Clone, Debug)]
pub(crate) struct Certified<'a> {
    pub(crate) claims: Claims,
    pub(crate) id: ObjectId,
    pub(crate) certificate: &'a Certificate,
    pub(crate) payload: Bytes,
}

/// Checks an envelope by its sender's live certificate, in the order of protocol §17.1. `kind` says
/// whether its action, addresses and payload type are those expected, `sender` whether the agent
/// may speak there.
pub(crate) fn open_certified<'a>(
    frame: &Bytes,
    delivered: &str,
    moment: &Moment<'a>,
    place: Place,
    kind: impl FnOnce(&Claims) -> Result<(), Rejection>,
    sender: impl FnOnce(&Certificate) -> Result<(), Rejection>,
) -> Result<Certified<'a>, Rejection> {
    let Moment { trust, now, skew } = *moment;
    let envelope = UnverifiedEnvelope::parse(frame)?;
    let claims = &envelope.claims;
    if claims.mesh != trust.mesh() {
        return Err(Rejection::UntrustedRoot {
            place,
            reason: UntrustedRoot::OtherMesh,
        });
    }
    if claims.subject.as_str() != delivered {
        return Err(Rejection::SubjectMismatch {
            reason: SubjectMismatch::Delivered,
        });
    }
    kind(claims)?;
    // What is sent like this is rare or has batches of its own.
    let Auth::Single(signature) = &envelope.auth else {
        let found = claims.mode.into();
        return Err(Rejection::UnsupportedVersion { place, found });
    };
    // The certificate is the authority: a chain has no say here, so none may come along.
    if envelope.chain[..] != NO_CHAIN {
        return Err(Rejection::ChainBroken {
            place,
            reason: ChainBroken::NotOurs,
        });
    }
    claims.check_time(now, skew)?;
    trust.check_fresh(now, skew, Purpose::Publish)?;
    let certificate = trust
        .certificate_with_id(&claims.leaf)
        .ok_or(Rejection::UnknownAgent { place })?;
    trust.check_standing(&certificate.claims().key, now, skew, place)?;
    trust.revocations().check_agent(certificate, now, place)?;
    sender(certificate)?;
    let (header, tag) = (&envelope.header, Tag::Envelope);
    Authentic::check(tag, header, (), certificate.key(), signature, place)?;
    let content = Content::open(&envelope.content, claims)?;
    Ok(Certified {
        id: envelope.id(),
        claims: envelope.claims,
        certificate,
        payload: content.payload,
    })
}

/// Who sends control envelopes: a key and the certificate that stands for it.
#[derive(Clone, Copy, Debug)]
pub struct ControlSender<'a> {
    /// The mesh.
    pub mesh: MeshId,
    /// The object id of the certificate.
    pub certificate: ObjectId,
    /// The certified key.
    pub key: &'a SigningKey,
}

impl ControlSender<'_> {
    /// Asks the service with the key `audience` on `subject`; the answer is expected at `reply`,
    /// below the sender's own inbox.
    ///
    /// # Errors
    ///
    /// What [`EnvelopeDraft::sign`] refuses.
    pub fn ask(
        &self,
        (mid, now): (MessageId, Timestamp),
        subject: Subject,
        reply: Subject,
        audience: KeyBytes,
        payload: Bytes,
    ) -> Result<SignedEnvelope, Rejection> {
        let mut draft = EnvelopeDraft::new(mid, now, Action::Request, subject);
        draft.reply = Some(reply);
        draft.audience = Some(audience);
        self.sign(draft, payload)
    }

    /// Answers a request.
    ///
    /// # Errors
    ///
    /// What [`EnvelopeDraft::sign`] refuses.
    pub fn answer(
        &self,
        (mid, now): (MessageId, Timestamp),
        request: &OpenedRequest,
        payload: Bytes,
    ) -> Result<SignedEnvelope, Rejection> {
        let mut draft = EnvelopeDraft::new(mid, now, Action::Serve, request.reply.clone());
        draft.audience = Some(request.key);
        draft.in_reply_to = Some(request.id);
        self.sign(draft, payload)
    }

    fn sign(&self, mut draft: EnvelopeDraft, payload: Bytes) -> Result<SignedEnvelope, Rejection> {
        draft.payload_type = PAYLOAD_CONTROL;
        draft.payload = payload;
        draft.sign_parts(
            self.mesh,
            self.certificate,
            &Bytes::from_static(&NO_CHAIN),
            self.key,
        )
    }
}

/// A request that was checked.
///
/// Holding one tells you that the agent's live certificate stands behind it, that it was meant for
/// the service's key, arrived where it was sent to, and came for the first time.
#[derive(Clone, Debug)]
pub struct OpenedRequest {
    /// The agent, as registered.
    pub agent: AgentId,
    /// Its key.
    pub key: KeyBytes,
    /// The certificate it asked under.
    pub certificate: ObjectId,
    /// The request's object id, which the answer names.
    pub id: ObjectId,
    /// Where the answer goes.
    pub reply: Subject,
    /// The payload.
    pub payload: Bytes,
}

/// Opens a request to the verifier service (protocol §22.5). `delivered` and `reply` are the bus's
/// word, `audience` is the service's key.
///
/// # Errors
///
/// What an audit batch is refused for (protocol §17.1); [`Rejection::WrongAudience`],
/// [`Rejection::SubjectMismatch`] for a reply subject that was rewritten or is not the sender's
/// own, and last [`Rejection::Replay`] or [`Rejection::Overloaded`].
pub fn open_request(
    frame: &Bytes,
    (delivered, reply): (&str, Option<&str>),
    audience: &KeyBytes,
    moment: &Moment<'_>,
    guard: &mut ReplayGuard,
) -> Result<OpenedRequest, Rejection> {
    let mismatch = |reason| Rejection::SubjectMismatch { reason };
    let kind = |claims: &Claims| {
        if claims.action != Action::Request || !is_control(claims) {
            let reason = UnexpectedReply::NotAReply;
            return Err(Rejection::UnexpectedReply { reason });
        }
        if claims.reply.as_ref().map(Subject::as_str) != reply {
            return Err(mismatch(SubjectMismatch::ReplyRewritten));
        }
        if claims.audience.as_ref() != Some(audience) {
            return Err(Rejection::WrongAudience);
        }
        Ok(())
    };
    let own_inbox = |certificate: &Certificate| {
        let key = &certificate.claims().key;
        let inside = reply
            .and_then(|reply| Subject::parse(reply).ok())
            .is_some_and(|reply| in_inbox_of(&reply, key));
        if inside {
            Ok(())
        } else {
            Err(mismatch(SubjectMismatch::ReplyNotOwnInbox))
        }
    };
    let opened = open_certified(frame, delivered, moment, PLACE, kind, own_inbox)?;
    let Certified {
        claims,
        id,
        certificate,
        payload,
    } = opened;
    let key = certificate.claims().key;
    let sighting = Sighting {
        sender: key,
        mid: claims.mid,
        issued: claims.issued,
        ttl_ms: claims.ttl_ms,
    };
    guard.admit(&sighting, moment.now)?;
    let reply = claims
        .reply
        .ok_or(mismatch(SubjectMismatch::ReplyRewritten))?;
    Ok(OpenedRequest {
        agent: certificate.agent().clone(),
        key,
        certificate: certificate.id(),
        id,
        reply,
        payload,
    })
}

/// Opens an answer of the verifier service to the request with the id `request` by the key `asker`:
/// its payload. An answer is waited for once, so there is no replay check.
///
/// # Errors
///
/// As [`open_request`]; [`Rejection::UnexpectedReply`] for another request's answer or one by
/// another agent than the service.
pub fn open_answer(
    frame: &Bytes,
    delivered: &str,
    (asker, request): (&KeyBytes, &ObjectId),
    moment: &Moment<'_>,
) -> Result<Bytes, Rejection> {
    let service = |certificate: &Certificate| is_reserved(certificate.agent());
    open_answer_by(service, frame, delivered, (asker, request), moment)
}

/// [`open_answer`] of another agent than the service: the one with the key `responder`.
///
/// # Errors
///
/// As [`open_answer`].
pub fn open_answer_of(
    responder: &KeyBytes,
    frame: &Bytes,
    delivered: &str,
    (asker, request): (&KeyBytes, &ObjectId),
    moment: &Moment<'_>,
) -> Result<Bytes, Rejection> {
    let peer = |certificate: &Certificate| certificate.claims().key == *responder;
    open_answer_by(peer, frame, delivered, (asker, request), moment)
}

fn open_answer_by(
    is_responder: impl FnOnce(&Certificate) -> bool,
    frame: &Bytes,
    delivered: &str,
    (asker, request): (&KeyBytes, &ObjectId),
    moment: &Moment<'_>,
) -> Result<Bytes, Rejection> {
    let unexpected = |reason| Rejection::UnexpectedReply { reason };
    let kind = |claims: &Claims| {
        if claims.action != Action::Serve || !is_control(claims) {
            return Err(unexpected(UnexpectedReply::NotAReply));
        }
        if claims.in_reply_to.as_ref() != Some(request) {
            return Err(unexpected(UnexpectedReply::OtherRequest));
        }
        if claims.audience.as_ref() != Some(asker) {
            return Err(Rejection::WrongAudience);
        }
        Ok(())
    };
    let responder = |certificate: &Certificate| {
        if is_responder(certificate) {
            Ok(())
        } else {
            Err(unexpected(UnexpectedReply::OtherResponder))
        }
    };
    open_certified(frame, delivered, moment, PLACE, kind, responder).map(|opened| opened.payload)
}

fn is_control(claims: &Claims) -> bool {
    claims.payload_type[..] == *PAYLOAD_CONTROL.as_bytes()
}
