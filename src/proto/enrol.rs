//! Enrolment: how an agent without a certificate gets one from the verifier service (protocol §22).
//!
//! ```text
//! agent                                        verifier
//! │ hello     statement, id, key, nonce ─────────────▶ │  one signature, one HMAC, no state
//! │ ◀──────────── offer   certificate body, time, cookie │
//! │ proof     both possessions, cookie ──────────────▶ │  state begins here
//! │ ◀──────────── welcome   certificate, root grant     │
//! │ ◀──────────── refused   why, signed by the registrar │  instead of offer or welcome
//! ```
//!
//! ```text
//! frame     "TMEN" [fv, step, body bin]                             steps 1 to 4
//!           "TMEN" [fv, 5, body bin, registrar u8, signature bin64]
//! hello     [v, statement bin, agent id, key bin32, nonce bin16, ext]
//! offer     [v, hello bin32, certificate body bin, time, cookie bin32, ext]
//! proof     [v, statement bin, certificate body bin, time, cookie bin32,
//!            possession bin64, token proof bin64, ext]
//! welcome   [v, certificate bin, grant nil|bin, ext]
//! refused   [v, about bin32, reason, ext]
//! ```
//!
//! The verifier keeps nothing until a proof verifies: what it offered is recognised by a cookie, an
//! HMAC under a key of its process. The registrar chooses the body, with a random serial, so that
//! what is signed was never signed before. An enrolment frame has its own magic and parser and is
//! never an envelope.

mod cookie;
mod refused;

use bytes::Bytes;

use super::certificate::CERTIFICATE_MAX;
use super::certificate::CertificateClaims;
use super::certificate::UnverifiedCertificate;
use super::chain::Anchors;
use super::chain::Chain;
use super::chain::read_bytes;
use super::identity::AgentId;
use super::identity::KeyBytes;
use super::identity::PublicKey;
use super::identity::Signature;
use super::identity::SigningKey;
use super::join::JoinToken;
use super::limits::ENROLMENT_MAX;
use super::limits::JOIN_STATEMENT_MAX;
use super::limits::SERVED_CERTIFICATE_MAX_MS;
use super::names::FRAME_VERSION;
use super::names::MAGIC_ENROLMENT;
use super::names::OBJECT_VERSION;
use super::names::Tag;
use super::rejection::ChainBroken;
use super::rejection::HandshakeFailed;
use super::rejection::KeyMismatch;
use super::rejection::Malformed;
use super::rejection::Place;
use super::rejection::Rejection;
use super::rejection::UntrustedRoot;
use super::revocation::read_agent;
use super::root::Role;
use super::root::TrustRoot;
use super::signing;
use super::signing::Authentic;
use super::signing::Budget;
use super::signing::ObjectId;
use super::time::ClockSkew;
use super::time::Timestamp;
use super::wire;
use super::wire::Reader;
use super::wire::bin;

pub use self::cookie::Cookies;
pub use self::cookie::Offer;
pub use self::refused::EnrolRefused;

const PLACE: Place = Place::Enrolment;

/// A decoded enrolment frame (protocol §22.3). Nothing in it has been checked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EnrolFrame {
    /// Step 1: somebody asks to join.
    Hello(Hello),
    /// Step 2: a certificate is offered.
    Offer {
        /// The hello it answers, by its id.
        hello: ObjectId,
        /// What is offered.
        offer: Offer,
    },
    /// Step 3: the offer is claimed.
    Proof(Proof),
    /// Step 4: it is granted.
    Welcome(Welcome),
    /// Step 5: it is refused.
    Refused(Refusal),
}

/// Who asks to join, and by which token (protocol §22.3).
#[derive(Clone, Debug)]
pub struct Hello {
    /// The token's statement, encoded.
    pub statement: Bytes,
    /// The id asked for.
    pub agent: AgentId,
    /// The key to be certified.
    pub key: KeyBytes,
    /// 16 random bytes, never used twice.
    pub nonce: [u8; 16],
    id: ObjectId,
}

impl Hello {
    /// Its id: what an offer or a refusal of it names.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    fn read(body: &Bytes) -> Result<Self, Rejection> {
        let mut r = Reader::new(body, PLACE);
        read_version(&mut r, 6)?;
        let hello = Self {
            statement: r.bin(JOIN_STATEMENT_MAX)?,
            agent: read_agent(&mut r)?,
            key: r.key()?,
            nonce: r.bin_of()?,
            id: Tag::EnrolHello.digest(body),
        };
        finish(r)?;
        Ok(hello)
    }
}

/// The claim to an offered certificate (protocol §22.3).
#[derive(Clone, Debug)]
pub struct Proof {
    /// The token's statement, encoded.
    pub statement: Bytes,
    /// The offer, as it came.
    pub offer: Offer,
    /// The agent key's signature over the certificate's id.
    pub possession: Signature,
    /// The token key's signature over the certificate's id.
    pub token: Signature,
}

impl Proof {
    fn read(body: &Bytes) -> Result<Self, Rejection> {
        let mut r = Reader::new(body, PLACE);
        read_version(&mut r, 8)?;
        let proof = Self {
            statement: r.bin(JOIN_STATEMENT_MAX)?,
            offer: Offer::read(&mut r)?,
            possession: Signature(r.bin_of()?),
            token: Signature(r.bin_of()?),
        };
        finish(r)?;
        Ok(proof)
    }
}

/// What a new agent gets (protocol §22.3).
#[derive(Clone, Debug)]
pub struct Welcome {
    /// Its encoded certificate.
    pub certificate: Bytes,
    /// Its encoded root grant, unless the token gives no authority.
    pub grant: Option<Bytes>,
}

impl Welcome {
    /// The frame of step 4.
    pub fn frame(&self) -> Bytes {
        let ext: [(); 0] = [];
        let grant = self.grant.as_ref().map(|bytes| bin(bytes));
        unsigned_frame(
            4,
            &wire::encode(&(OBJECT_VERSION, bin(&self.certificate), grant, &ext[..])),
        )
    }

    fn read(body: &Bytes) -> Result<Self, Rejection> {
        let mut r = Reader::new(body, PLACE);
        read_version(&mut r, 4)?;
        let welcome = Self {
            certificate: r.bin(CERTIFICATE_MAX)?,
            grant: r.optional(read_bytes)?,
        };
        finish(r)?;
        Ok(welcome)
    }
}

/// A refusal, whose signature was not checked (protocol §22.3).
#[derive(Clone, Debug)]
pub struct Refusal {
    about: ObjectId,
    reason: EnrolRefused,
    registrar: u8,
    body: Bytes,
    signature: Signature,
}

impl Refusal {
    /// The frame of step 5 about a hello, or about a proof by the id of its certificate.
    pub fn frame(about: &ObjectId, reason: EnrolRefused, registrar: (u8, &SigningKey)) -> Bytes {
        let ext: [(); 0] = [];
        let body = wire::encode(&(OBJECT_VERSION, bin(&about.0), reason.code(), &ext[..]));
        let signature = signing::sign(Tag::EnrolRefused, &body, registrar.1);
        let mut frame = MAGIC_ENROLMENT.to_vec();
        let parts = (
            FRAME_VERSION,
            5_u8,
            bin(&body),
            registrar.0,
            bin(&signature.0),
        );
        wire::encode_into(&mut frame, &parts);
        frame.into()
    }

    /// The id of the hello it is about, or of the certificate that a proof was about.
    pub fn about(&self) -> ObjectId {
        self.about
    }

    /// The reason, once it is known to be the registrar's and about one of `asked`. Anybody can
    /// send a refusal; only this one ends an enrolment.
    pub fn verify(&self, root: &TrustRoot, asked: &[ObjectId]) -> Option<EnrolRefused> {
        let key = root
            .keys(Role::Registrar)
            .get(usize::from(self.registrar))?;
        let tag = Tag::EnrolRefused;
        let ours = asked.contains(&self.about);
        let signed = Authentic::check(tag, &self.body, (), key, &self.signature, PLACE).is_ok();
        (ours && signed).then_some(self.reason)
    }
}

impl EnrolFrame {
    /// Decodes a frame of at most [`ENROLMENT_MAX`] bytes.
    ///
    /// # Errors
    ///
    /// [`Rejection::TooLarge`], [`Rejection::Malformed`] or [`Rejection::UnsupportedVersion`].
    pub fn parse(frame: &Bytes) -> Result<Self, Rejection> {
        if frame.len() > ENROLMENT_MAX {
            return Err(Rejection::TooLarge {
                place: PLACE,
                limit: ENROLMENT_MAX as u32,
            });
        }
        let malformed = |reason| Rejection::Malformed {
            place: PLACE,
            reason,
        };
        if !frame.starts_with(&MAGIC_ENROLMENT) {
            return Err(malformed(Malformed::BadMagic));
        }
        let mut r = Reader::starting_at(frame, MAGIC_ENROLMENT.len(), PLACE);
        let arity = r.array()?;
        let found = r.uint()?;
        if found != FRAME_VERSION {
            return Err(Rejection::UnsupportedVersion {
                place: PLACE,
                found,
            });
        }
        let step = r.uint()?;
        if arity != if step == 5 { 5 } else { 3 } {
            return Err(malformed(Malformed::WrongLength));
        }
        let body = r.bin(ENROLMENT_MAX)?;
        let parsed = match step {
            1 => Hello::read(&body).map(Self::Hello)?,
            2 => read_offer(&body)?,
            3 => Proof::read(&body).map(Self::Proof)?,
            4 => Welcome::read(&body).map(Self::Welcome)?,
            5 => read_refusal(&mut r, body).map(Self::Refused)?,
            _ => return Err(malformed(Malformed::OutOfRange)),
        };
        r.finish()?;
        Ok(parsed)
    }
}

fn read_offer(body: &Bytes) -> Result<EnrolFrame, Rejection> {
    let mut r = Reader::new(body, PLACE);
    read_version(&mut r, 6)?;
    let hello = r.object_id()?;
    let offer = Offer::read(&mut r)?;
    finish(r)?;
    Ok(EnrolFrame::Offer { hello, offer })
}

fn read_refusal(frame: &mut Reader<'_>, body: Bytes) -> Result<Refusal, Rejection> {
    let mut r = Reader::new(&body, PLACE);
    read_version(&mut r, 4)?;
    let about = r.object_id()?;
    let reason = EnrolRefused::read(&mut r)?;
    finish(r)?;
    Ok(Refusal {
        about,
        reason,
        registrar: frame.number_of()?,
        signature: Signature(frame.bin_of()?),
        body,
    })
}

/// The frame of step 2: an offer in answer to a hello.
pub fn offer_frame(hello: &Hello, offer: &Offer) -> Bytes {
    let ext: [(); 0] = [];
    unsigned_frame(
        2,
        &wire::encode(&(
            OBJECT_VERSION,
            bin(&hello.id.0),
            bin(&offer.body),
            offer.time.as_millis(),
            bin(&offer.cookie),
            &ext[..],
        )),
    )
}

/// The new agent's side of an enrolment, without a bus (protocol §22.4).
///
/// It answers any number of offers: they are unsigned, so anybody can send some, and the true one
/// must still be answered. What it signs can only ever certify its own key under its own id.
#[derive(Debug)]
pub struct Enrollee<'a> {
    token: &'a JoinToken,
    key: &'a SigningKey,
    agent: AgentId,
    hello: Hello,
    frame: Bytes,
}

/// What an enrolment yields: checked under the trust root that the token pins.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The agent's certificate, decoded.
    pub claims: CertificateClaims,
    /// The certificate, encoded.
    pub certificate: Bytes,
    /// The root grant, unless the token gives no authority.
    pub grant: Option<Chain>,
}

impl<'a> Enrollee<'a> {
    /// Begins an enrolment of `key` under the token's id, or under `agent` when the token leaves it
    /// open. `nonce` is 16 random bytes.
    ///
    /// # Errors
    ///
    /// [`Rejection::KeyMismatch`] when the token is for another agent or `agent` is missing though
    /// the token names none, [`Rejection::UntrustedRoot`] when it is of another mesh or not signed
    /// by a registrar of `root`, [`Rejection::BadSignature`].
    pub fn new(
        token: &'a JoinToken,
        key: &'a SigningKey,
        agent: Option<&AgentId>,
        root: &TrustRoot,
        nonce: [u8; 16],
    ) -> Result<Self, Rejection> {
        super::join::UnverifiedJoin::parse(token.statement())?
            .verify(root.mesh(), root.keys(Role::Registrar))?;
        let named = token.claims().agent.as_ref();
        let mismatch = Rejection::KeyMismatch {
            place: Place::Token,
            reason: KeyMismatch::OtherAgent,
        };
        let agent = match (named, agent) {
            (Some(named), Some(asked)) if named != asked => return Err(mismatch),
            (Some(agent), _) | (None, Some(agent)) => agent.clone(),
            (None, None) => return Err(mismatch),
        };
        let ext: [(); 0] = [];
        let public = key.public().bytes();
        let body = Bytes::from(wire::encode(&(
            OBJECT_VERSION,
            bin(token.statement()),
            agent.as_str(),
            bin(&public.0),
            bin(&nonce),
            &ext[..],
        )));
        Ok(Self {
            hello: Hello::read(&body)?,
            frame: unsigned_frame(1, &body),
            token,
            key,
            agent,
        })
    }

    /// The frame of step 1.
    pub fn hello(&self) -> Bytes {
        self.frame.clone()
    }

    /// The id of the hello, which offers and refusals name.
    pub fn hello_id(&self) -> ObjectId {
        self.hello.id
    }

    /// Answers an offer: the id of the certificate it is about, and the frame of step 3.
    ///
    /// # Errors
    ///
    /// [`Rejection::HandshakeFailed`] for the answer to another hello, [`Rejection::KeyMismatch`]
    /// when another key or agent is to be certified, [`Rejection::UntrustedRoot`] for another mesh,
    /// [`Rejection::Malformed`] for a lifetime over [`SERVED_CERTIFICATE_MAX_MS`].
    pub fn answer(&self, hello: &ObjectId, offer: &Offer) -> Result<(ObjectId, Bytes), Rejection> {
        if *hello != self.hello.id {
            return Err(Rejection::HandshakeFailed {
                reason: HandshakeFailed::Transcript,
            });
        }
        let claims = offer.claims()?;
        self.check(&claims)?;
        let possession = claims.prove_possession(self.key)?;
        let id = offer.certificate_id();
        let token = self.token.prove(&id);
        let ext: [(); 0] = [];
        let body = wire::encode(&(
            OBJECT_VERSION,
            bin(self.token.statement()),
            bin(&offer.body),
            offer.time.as_millis(),
            bin(&offer.cookie),
            bin(&possession.0),
            bin(&token.0),
            &ext[..],
        ));
        Ok((id, unsigned_frame(3, &body)))
    }

    /// Checks a welcome: certificate and grant are for this key, signed by the mesh's registrar and
    /// issuer, and hold at `now`.
    ///
    /// # Errors
    ///
    /// What certificate or grant are refused for; [`Rejection::ChainBroken`] when the token
    /// promises a grant and none came.
    pub fn admit(
        &self,
        welcome: &Welcome,
        root: &TrustRoot,
        now: Timestamp,
        skew: ClockSkew,
    ) -> Result<Admitted, Rejection> {
        let certificate = UnverifiedCertificate::parse(&welcome.certificate)?
            .verify(root.mesh(), root.keys(Role::Registrar))?;
        let claims = certificate.claims().clone();
        self.check(&claims)?;
        claims
            .validity
            .check(now, skew)
            .map_err(|outside| outside.at(Place::Certificate))?;
        let promised = !self.token.claims().scope.capabilities().is_empty();
        let grant = match (&welcome.grant, promised) {
            (Some(bytes), _) => Some(check_grant(bytes, root, &claims.key, now, skew)?),
            (None, false) => None,
            (None, true) => {
                return Err(Rejection::ChainBroken {
                    place: PLACE,
                    reason: ChainBroken::Empty,
                });
            }
        };
        Ok(Admitted {
            claims,
            certificate: welcome.certificate.clone(),
            grant,
        })
    }

    fn check(&self, claims: &CertificateClaims) -> Result<(), Rejection> {
        let place = Place::Certificate;
        if claims.mesh != self.token.claims().mesh {
            let reason = UntrustedRoot::OtherMesh;
            return Err(Rejection::UntrustedRoot { place, reason });
        }
        if claims.agent != self.agent || claims.key != self.hello.key {
            let reason = KeyMismatch::OtherAgent;
            return Err(Rejection::KeyMismatch { place, reason });
        }
        check_served(claims)
    }
}

/// Checks that a certificate is no longer than a verifier service gives.
pub(crate) fn check_served(claims: &CertificateClaims) -> Result<(), Rejection> {
    if claims.validity.millis() <= SERVED_CERTIFICATE_MAX_MS {
        return Ok(());
    }
    Err(Rejection::Malformed {
        place: Place::Certificate,
        reason: Malformed::Lifetime,
    })
}

/// Checks a root grant for a key, under a trust root alone.
pub(crate) fn check_grant(
    bytes: &Bytes,
    root: &TrustRoot,
    holder: &KeyBytes,
    now: Timestamp,
    skew: ClockSkew,
) -> Result<Chain, Rejection> {
    let chain = Chain::parse(bytes.clone())?;
    if chain.mesh() != root.mesh() {
        return Err(Rejection::UntrustedRoot {
            place: Place::Chain,
            reason: UntrustedRoot::OtherMesh,
        });
    }
    chain.check_validity(now, skew)?;
    let verified = chain.verify(&RootAlone(root), &mut Budget::message())?;
    verified.check_held_by(holder)?;
    Ok((*verified).clone())
}

/// Verifies root grants only: there are no holders above their own.
pub(crate) struct RootAlone<'a>(pub(crate) &'a TrustRoot);

impl Anchors for RootAlone<'_> {
    fn issuer(&self, key: &KeyBytes) -> Option<PublicKey> {
        let mut issuers = self.0.keys(Role::Issuer).iter();
        issuers.find(|issuer| issuer.bytes() == *key).copied()
    }

    fn holder(&self, _: &KeyBytes) -> Option<PublicKey> {
        None
    }
}

fn unsigned_frame(step: u8, body: &[u8]) -> Bytes {
    let mut frame = MAGIC_ENROLMENT.to_vec();
    wire::encode_into(&mut frame, &(FRAME_VERSION, step, bin(body)));
    frame.into()
}

fn read_version(r: &mut Reader<'_>, arity: usize) -> Result<(), Rejection> {
    r.array_of(arity)?;
    match r.uint()? {
        OBJECT_VERSION => Ok(()),
        found => Err(Rejection::UnsupportedVersion {
            place: r.place(),
            found,
        }),
    }
}

/// Reads the (empty) extensions and the end.
fn finish(mut r: Reader<'_>) -> Result<(), Rejection> {
    if r.array()? != 0 {
        return Err(r.fault(Malformed::Extension));
    }
    r.finish()
}
