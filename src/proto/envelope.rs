//! The envelope: what travels on the bus around every payload (protocol §12).
//!
//! ```text
//! frame    "TMSH" [fv, mode, header bin, auth, chain bin, content bin]
//! auth     mode 1: signature bin64     mode 2: [batch bin, signature bin64, index, path bin]
//! header   [v, mode, mesh bin16, mid bin16, iat, ttl, action, subject, reply nil|str,
//!           audience nil|bin32, in_reply_to nil|bin32, leaf bin32, payload_type,
//!           content_hash bin32, content_len, ext]
//! content  [[[name, value]…], [granted chain bin…], payload bin]
//! ```
//!
//! The signature covers the header under the tag `envelope`; the header commits to the chain by
//! its leaf's id and to the content by digest and length. Whatever decides route, identity or
//! meaning is in the header; nothing is read from NATS headers.

mod content;
mod draft;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::batch::BatchProof;
use super::batch::SignedBatch;
use super::chain;
use super::identity::KeyBytes;
use super::identity::SIGNATURE_LEN;
use super::identity::Signature;
use super::identity::SigningKey;
use super::limits::EXTENSIONS_BYTES_MAX;
use super::limits::EXTENSIONS_MAX;
use super::limits::HEADER_MAX;
use super::limits::HOPS_MAX;
use super::limits::PAYLOAD_TYPE_MAX;
use super::limits::SUBJECT_MAX;
use super::limits::TTL_MAX_MS;
use super::names::EXT_APPROVAL;
use super::names::EXT_EPOCHS;
use super::names::EXT_HOPS;
use super::names::EXT_TRACEPARENT;
use super::names::FRAME_VERSION;
use super::names::MAGIC_ENVELOPE;
use super::names::MODE_BATCH;
use super::names::MODE_SINGLE;
use super::names::OBJECT_VERSION;
use super::names::Tag;
use super::rejection::DepthExceeded;
use super::rejection::Malformed;
use super::rejection::Place;
use super::rejection::Rejection;
use super::replay::MessageId;
use super::scope::Action;
use super::signing;
use super::signing::MeshId;
use super::signing::ObjectId;
use super::subject::Subject;
use super::time::ClockSkew;
use super::time::Timestamp;
use super::wire;
use super::wire::Reader;
use super::wire::bin;

pub use self::content::Content;
pub use self::draft::AppHeader;
pub use self::draft::EnvelopeDraft;

/// What a header says (protocol §12.2).
///
/// By itself it proves nothing; inside a [`VerifiedEnvelope`](super::verify::VerifiedEnvelope)
/// every field was signed by the sender.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claims {
    /// How the envelope is signed: 1, one signature, or 2, one over a batch.
    pub mode: u8,
    /// The mesh it is for.
    pub mesh: MeshId,
    /// 16 random bytes that no other message of this sender has.
    pub mid: MessageId,
    /// When it was made, by the sender's clock.
    pub issued: Timestamp,
    /// For how many milliseconds it may be accepted: 1 to [`TTL_MAX_MS`].
    pub ttl_ms: u32,
    /// Publish, Request or Serve.
    pub action: Action,
    /// The subject it was sent to.
    pub subject: Subject,
    /// Where an answer is expected; present exactly when the action is Request.
    pub reply: Option<Subject>,
    /// The one key it is meant for; always present in an answer.
    pub audience: Option<KeyBytes>,
    /// The request it answers; present exactly when the action is Serve.
    pub in_reply_to: Option<ObjectId>,
    /// The object id of the last link of the chain it is sent under.
    pub leaf: ObjectId,
    /// A media type or the like, at most [`PAYLOAD_TYPE_MAX`] bytes of UTF-8; empty by default.
    pub payload_type: Bytes,
    /// Digest of the content, under the tag `content`.
    pub content_hash: ObjectId,
    /// Length of the content in bytes.
    pub content_len: u32,
    /// What the sender said beyond that.
    pub extensions: Extensions,
}

/// The extensions of a header (protocol §12.4). What is absent here was absent there; unknown ones
/// that are not critical were skipped.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Extensions {
    /// Registry, revocation and policy epochs the sender decided under: a hint.
    pub epochs: Option<[u64; 3]>,
    /// W3C `traceparent` (Trace Context §3.2), version 00: 55 bytes.
    pub traceparent: Option<Bytes>,
    /// How often this piece of work was forwarded, 0 to [`HOPS_MAX`]; absent on the wire means 0.
    pub hops: u8,
    /// An [approval](super::approval) of the chain. It is looked at where policy asks for one, and
    /// ignored elsewhere.
    pub approval: Option<Bytes>,
}

impl Claims {
    /// Decodes a header that came in a frame of this mode.
    pub(crate) fn parse(header: &Bytes, mode: u64) -> Result<Self, Rejection> {
        let place = Place::Header;
        let mut r = Reader::new(header, place);
        r.array_of(16)?;
        let found = r.uint()?;
        if found != OBJECT_VERSION {
            return Err(Rejection::UnsupportedVersion { place, found });
        }
        let claims = Self {
            mode: read_mode(&mut r, mode)?,
            mesh: MeshId(r.bin_of()?),
            mid: MessageId(r.bin_of()?),
            issued: Timestamp::from_millis(r.uint()?),
            ttl_ms: r.number_of()?,
            action: read_action(&mut r)?,
            subject: read_subject(&mut r)?,
            reply: r.optional(read_subject)?,
            audience: r.optional(Reader::key)?,
            in_reply_to: r.optional(Reader::object_id)?,
            leaf: r.object_id()?,
            payload_type: r.text(PAYLOAD_TYPE_MAX)?,
            content_hash: r.object_id()?,
            content_len: r.number_of()?,
            extensions: Extensions::read(&mut r)?,
        };
        let lifetime = check_lifetime(claims.issued, claims.ttl_ms);
        let combination = check_combination(
            claims.action,
            claims.reply.is_some(),
            claims.audience.is_some(),
            claims.in_reply_to.is_some(),
        );
        lifetime.and(combination).map_err(|why| r.fault(why))?;
        r.finish()?;
        Ok(claims)
    }

    /// Checks the envelope's own window, bounds inclusive: `iat − skew ≤ now ≤ iat + ttl + skew`.
    ///
    /// # Errors
    ///
    /// `NotYetValid` or `Expired`.
    pub(crate) fn check_time(&self, now: Timestamp, skew: ClockSkew) -> Result<(), Rejection> {
        let place = Place::Header;
        let from = self.issued;
        let until = from.plus(u64::from(self.ttl_ms));
        if now.plus(skew.as_millis()) < from {
            return Err(Rejection::NotYetValid { place, from });
        }
        if now > until.plus(skew.as_millis()) {
            return Err(Rejection::Expired { place, until });
        }
        Ok(())
    }
}

fn check_lifetime(issued: Timestamp, ttl_ms: u32) -> Result<(), Malformed> {
    let end = issued.as_millis().checked_add(u64::from(ttl_ms));
    if end.is_some() && (1..=TTL_MAX_MS).contains(&ttl_ms) {
        Ok(())
    } else {
        Err(Malformed::Lifetime)
    }
}

/// Checks that the fields that may be absent are those the action asks for.
fn check_combination(
    action: Action,
    has_reply: bool,
    has_audience: bool,
    answers: bool,
) -> Result<(), Malformed> {
    let sound = match action {
        Action::Publish => !has_reply && !answers,
        Action::Request => has_reply && !answers,
        Action::Serve => !has_reply && answers && has_audience,
        Action::Subscribe | Action::Delegate => false,
    };
    if sound {
        Ok(())
    } else {
        Err(Malformed::FieldCombination)
    }
}

fn check_hops(hops: u8) -> Result<(), Rejection> {
    if hops <= HOPS_MAX {
        return Ok(());
    }
    let (place, reason) = (Place::Header, DepthExceeded::Hops);
    Err(Rejection::DepthExceeded { place, reason })
}

fn read_mode(r: &mut Reader<'_>, frame: u64) -> Result<u8, Rejection> {
    let found = r.uint()?;
    if found != frame {
        return Err(Rejection::Malformed {
            place: Place::Frame,
            reason: Malformed::ModeMismatch,
        });
    }
    match u8::try_from(found) {
        Ok(mode @ (MODE_SINGLE | MODE_BATCH)) => Ok(mode),
        _ => Err(Rejection::UnsupportedVersion {
            place: r.place(),
            found,
        }),
    }
}

fn read_action(r: &mut Reader<'_>) -> Result<Action, Rejection> {
    match r.uint()? {
        1 => Ok(Action::Publish),
        4 => Ok(Action::Request),
        8 => Ok(Action::Serve),
        _ => Err(r.fault(Malformed::OutOfRange)),
    }
}

fn read_subject(r: &mut Reader<'_>) -> Result<Subject, Rejection> {
    let text = r.text(SUBJECT_MAX)?;
    Subject::from_bytes(text).map_err(|_| r.fault(Malformed::BadSubject))
}

/// Three numbers of 64 bits.
const EPOCHS_LEN: usize = 24;

impl Extensions {
    fn wire(&self) -> Vec<(u16, bool, serde_bytes::ByteBuf)> {
        let mut out = Vec::new();
        if let Some(epochs) = self.epochs {
            let bytes: Vec<u8> = epochs
                .iter()
                .flat_map(|epoch| epoch.to_be_bytes())
                .collect();
            out.push((EXT_EPOCHS, false, bytes.into()));
        }
        if let Some(traceparent) = &self.traceparent {
            out.push((EXT_TRACEPARENT, false, traceparent.to_vec().into()));
        }
        if self.hops > 0 {
            out.push((EXT_HOPS, true, vec![self.hops].into()));
        }
        if let Some(approval) = &self.approval {
            out.push((EXT_APPROVAL, false, approval.to_vec().into()));
        }
        out
    }

    /// Checks that a receiver can read these.
    fn check(&self) -> Result<(), Rejection> {
        let place = Place::Header;
        if let Some(value) = &self.traceparent
            && !is_traceparent(value)
        {
            let reason = Malformed::Extension;
            return Err(Rejection::Malformed { place, reason });
        }
        check_hops(self.hops)?;
        let approval = self.approval.as_ref().map_or(0, Bytes::len);
        let fixed = usize::from(self.epochs.is_some()) * EPOCHS_LEN
            + self.traceparent.as_ref().map_or(0, Bytes::len)
            + usize::from(self.hops > 0);
        if fixed + approval > EXTENSIONS_BYTES_MAX {
            let limit = EXTENSIONS_BYTES_MAX as u32;
            return Err(Rejection::TooLarge { place, limit });
        }
        Ok(())
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Rejection> {
        let mut extensions = Self::default();
        let (mut last, mut total) = (None, 0);
        for _ in 0..r.array_up_to(EXTENSIONS_MAX)? {
            r.array_of(3)?;
            let id: u16 = r.number_of()?;
            let critical = r.boolean()?;
            let value = r.bin(EXTENSIONS_BYTES_MAX)?;
            total += value.len();
            if last.is_some_and(|last| last >= id) {
                return Err(r.fault(Malformed::Extension));
            }
            if total > EXTENSIONS_BYTES_MAX {
                let limit = EXTENSIONS_BYTES_MAX as u32;
                return Err(Rejection::TooLarge {
                    place: r.place(),
                    limit,
                });
            }
            last = Some(id);
            extensions.set(id, critical, value, r)?;
        }
        Ok(extensions)
    }

    fn set(
        &mut self,
        id: u16,
        critical: bool,
        value: Bytes,
        r: &Reader<'_>,
    ) -> Result<(), Rejection> {
        let fault = || r.fault(Malformed::Extension);
        match (id, critical) {
            (EXT_EPOCHS, false) => {
                let bytes = <[u8; EPOCHS_LEN]>::try_from(&value[..]).map_err(|_| fault())?;
                let mut epochs = [0; 3];
                for (epoch, chunk) in epochs.iter_mut().zip(bytes.chunks_exact(8)) {
                    *epoch = chunk
                        .iter()
                        .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
                }
                self.epochs = Some(epochs);
            }
            (EXT_TRACEPARENT, false) if is_traceparent(&value) => self.traceparent = Some(value),
            (EXT_HOPS, true) => match value[..] {
                [0] => return Err(fault()),
                [hops] => {
                    check_hops(hops)?;
                    self.hops = hops;
                }
                _ => return Err(fault()),
            },
            // Whether it is one is asked where policy needs it.
            (EXT_APPROVAL, false) => self.approval = Some(value),
            (EXT_EPOCHS | EXT_TRACEPARENT | EXT_HOPS, _) | (_, true) => return Err(fault()),
            // Unknown and not critical: the sender says it may be ignored.
            (_, false) => {}
        }
        Ok(())
    }
}

/// Whether `value` is a version-00 traceparent (W3C Trace Context §3.2).
pub(crate) fn is_traceparent(value: &[u8]) -> bool {
    let hex = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    value.len() == 55
        && value.starts_with(b"00-")
        && value[35] == b'-'
        && value[52] == b'-'
        && value[3..35].iter().all(hex)
        && value[36..52].iter().all(hex)
        && value[53..].iter().all(hex)
}

/// Whether a pair can be a NATS header: a name of printable ASCII without colon, a value on one
/// line. The bus never parses it, but applications hand headers on.
fn header_is_valid(name: &str, value: &str) -> bool {
    let name_ok = |b: u8| b.is_ascii_graphic() && b != b':';
    !name.is_empty() && name.bytes().all(name_ok) && !value.contains(['\r', '\n', '\0'])
}

const TOO_MUCH_CONTENT: Rejection = Rejection::TooLarge {
    place: Place::Content,
    limit: u32::MAX,
};

fn check_header_len(len: usize) -> Result<(), Rejection> {
    if len <= HEADER_MAX {
        Ok(())
    } else {
        Err(Rejection::TooLarge {
            place: Place::Header,
            limit: HEADER_MAX as u32,
        })
    }
}

/// The header of a byte string whose bytes follow. Lengths over 4 GiB are refused before.
fn push_bin_header(out: &mut Vec<u8>, len: usize) {
    match len {
        0..=0xff => out.extend_from_slice(&[0xc4, len as u8]),
        0x100..=0xffff => {
            out.push(0xc5);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(0xc6);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

fn content_digest(prefix: &[u8], payload: &[u8]) -> ObjectId {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    hash.update(Tag::Content.bytes());
    hash.update(prefix);
    hash.update(payload);
    ObjectId(hash.finalize().into())
}

/// Whether a frame says that it has a signature of its own, told from its first bytes.
pub(crate) fn is_signed_alone(frame: &[u8]) -> bool {
    let rest = frame.strip_prefix(&MAGIC_ENVELOPE);
    // An array of six, the frame's version, the mode.
    rest.is_some_and(|rest| rest.starts_with(&[0x96, FRAME_VERSION as u8, MODE_SINGLE]))
}

/// How a frame says that its header is the sender's. Nothing has been checked.
#[derive(Clone, Debug)]
pub(crate) enum Auth {
    /// A signature over the header.
    Single(Signature),
    /// A signature over a batch in which the header stands.
    Batch(BatchProof),
}

impl Auth {
    /// Reads what the frame's mode asks for. A mode that is unknown is told from the header, which
    /// is decoded last.
    fn read(r: &mut Reader<'_>, mode: u64) -> Result<Self, Rejection> {
        if mode == u64::from(MODE_BATCH) {
            return BatchProof::read(r).map(Self::Batch);
        }
        r.bin_of()
            .map(|signature| Self::Single(Signature(signature)))
    }
}

/// An envelope that only lacks its signature.
pub(crate) struct UnsignedEnvelope {
    mode: u8,
    mesh: MeshId,
    header: Vec<u8>,
    chain: Bytes,
    prefix: Vec<u8>,
    payload: Bytes,
}

impl UnsignedEnvelope {
    /// The object id of the header: it is known before the signature.
    pub(crate) fn id(&self) -> ObjectId {
        Tag::Envelope.digest(&self.header)
    }

    /// Length of the content in bytes.
    pub(crate) fn content_len(&self) -> usize {
        self.prefix.len() + self.payload.len()
    }

    fn sign(&self, key: &SigningKey) -> SignedEnvelope {
        let signature = signing::sign(Tag::Envelope, &self.header, key);
        self.frame(SIGNATURE_LEN, |frame| {
            wire::encode_into(frame, bin(&signature.0));
        })
    }

    /// Signs envelopes together, in their order. All were encoded for `key`, in one mesh.
    pub(crate) fn sign_batch<'a>(
        envelopes: impl Iterator<Item = &'a Self> + Clone,
        key: &SigningKey,
    ) -> Result<Vec<SignedEnvelope>, Rejection> {
        let Some(mesh) = envelopes.clone().next().map(|envelope| envelope.mesh) else {
            return Ok(Vec::new());
        };
        let headers = envelopes.clone().map(|envelope| &envelope.header[..]);
        let batch = SignedBatch::sign(headers, mesh, key)?;
        let sign = |(index, envelope): (usize, &Self)| {
            envelope.frame(SignedBatch::PROOF_MAX, |frame| {
                batch.write_proof(index, frame);
            })
        };
        Ok(envelopes.enumerate().map(sign).collect())
    }

    fn frame(&self, auth_len: usize, write_auth: impl FnOnce(&mut Vec<u8>)) -> SignedEnvelope {
        let content_len = self.content_len();
        let room = MAGIC_ENVELOPE.len() + 24 + self.header.len() + auth_len + self.chain.len();
        let mut frame = Vec::with_capacity(room + content_len);
        frame.extend_from_slice(&MAGIC_ENVELOPE);
        frame.extend_from_slice(&[0x96, FRAME_VERSION as u8, self.mode]);
        push_bin_header(&mut frame, self.header.len());
        let start = frame.len();
        frame.extend_from_slice(&self.header);
        let header = start..frame.len();
        write_auth(&mut frame);
        wire::encode_into(&mut frame, bin(&self.chain));
        push_bin_header(&mut frame, content_len);
        frame.extend_from_slice(&self.prefix);
        frame.extend_from_slice(&self.payload);
        SignedEnvelope {
            bytes: frame.into(),
            header,
        }
    }
}

/// An envelope ready for the bus. It prints as its id and length.
///
/// Holding one tells you that its header is one that receivers can read; whether they accept it is
/// theirs to decide. [`EnvelopeDraft::sign`] makes one.
#[derive(Clone)]
pub struct SignedEnvelope {
    bytes: Bytes,
    /// Where the header stands.
    header: Range<usize>,
}

impl fmt::Debug for SignedEnvelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedEnvelope")
            .field("id", &self.id())
            .field("len", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

impl SignedEnvelope {
    /// The object id of its header: what an answer names in `in_reply_to`.
    pub fn id(&self) -> ObjectId {
        Tag::Envelope.digest(&self.bytes[self.header.clone()])
    }

    /// The frame, as it goes on the bus (protocol §12.1).
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// A frame cut into its parts, with the header decoded. Nothing in it has been checked against
/// anything: it is what somebody claims. It prints as those claims, without the content.
#[derive(Clone)]
pub struct UnverifiedEnvelope {
    pub(crate) claims: Claims,
    pub(crate) header: Bytes,
    pub(crate) auth: Auth,
    pub(crate) chain: Bytes,
    pub(crate) content: Bytes,
}

impl fmt::Debug for UnverifiedEnvelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnverifiedEnvelope")
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}

impl UnverifiedEnvelope {
    /// Cuts and decodes a frame, header included (protocol §12.1, §12.2). Slices the buffer. Chain
    /// and content stay undecoded.
    ///
    /// # Errors
    ///
    /// [`Rejection::Malformed`], [`Rejection::TooLarge`], [`Rejection::UnsupportedVersion`], or
    /// [`Rejection::DepthExceeded`] for the hop count.
    pub fn parse(frame: &Bytes) -> Result<Self, Rejection> {
        let envelope = Self::cut(frame)?;
        if envelope.claims.content_len as usize != envelope.content.len() {
            let place = Place::Content;
            return Err(Rejection::Malformed {
                place,
                reason: Malformed::ContentLength,
            });
        }
        Ok(envelope)
    }

    /// [`parse`](Self::parse) for a frame whose content may have been left out since.
    pub(crate) fn cut(frame: &Bytes) -> Result<Self, Rejection> {
        let place = Place::Frame;
        if !frame.starts_with(&MAGIC_ENVELOPE) {
            return Err(Rejection::Malformed {
                place,
                reason: Malformed::BadMagic,
            });
        }
        let mut r = Reader::starting_at(frame, MAGIC_ENVELOPE.len(), place);
        r.array_of(6)?;
        let found = r.uint()?;
        if found != FRAME_VERSION {
            return Err(Rejection::UnsupportedVersion { place, found });
        }
        let mode = r.uint()?;
        let header = r.bin(frame.len())?;
        check_header_len(header.len())?;
        let auth = Auth::read(&mut r, mode)?;
        let chain = chain::read_bytes(&mut r)?;
        let content = r.bin(frame.len())?;
        r.finish()?;
        let claims = Claims::parse(&header, mode)?;
        Ok(Self {
            claims,
            header,
            auth,
            chain,
            content,
        })
    }

    /// What the header claims. Nobody has checked that it is true.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The object id of the header.
    pub fn id(&self) -> ObjectId {
        Tag::Envelope.digest(&self.header)
    }

    /// The batch it says it was signed in, unless it was signed by itself.
    pub fn batch(&self) -> Option<&BatchProof> {
        match &self.auth {
            Auth::Single(_) => None,
            Auth::Batch(proof) => Some(proof),
        }
    }

    /// The bytes of the chain that came with it.
    pub fn chain(&self) -> &Bytes {
        &self.chain
    }

    /// The content, checked against the digest the header commits to. That the header is the
    /// sender's has not been checked.
    ///
    /// # Errors
    ///
    /// `BadSignature`, `Malformed` or `TooLarge`.
    pub fn content(&self) -> Result<Content, Rejection> {
        Content::open(&self.content, &self.claims)
    }
}

/// The inbox prefix of a key: `_INBOX.<U-nkey>` (protocol §4.3). Answers to a key's requests arrive
/// below it and nowhere else.
///
/// ```
/// use trustmesh::proto::envelope::inbox_prefix;
/// use trustmesh::proto::identity::KeyBytes;
///
/// assert!(inbox_prefix(&KeyBytes([7; 32])).starts_with("_INBOX.U"));
/// ```
pub fn inbox_prefix(key: &KeyBytes) -> String {
    format!("{}.{}", super::names::INBOX, key.to_nkey())
}
