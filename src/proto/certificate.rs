//! Agent certificates: the registrar's word that a key is an agent's (protocol §8).
//!
//! ```text
//! body  [v, mesh bin16, serial bin16, agent id, key bin32, nbf, exp, prev nil|bin32, key_epoch, ext]
//! wire  [body bin, registrar u8, signature bin64, possession bin64]
//! ```
//!
//! `registrar` is the position of the signing key among the trust root's registrar keys; it
//! selects, it never supplies. `possession` is the certified key's own signature over the
//! certificate's id: nobody can have a key certified that is not theirs.

use bytes::Bytes;

use super::delegation::read_validity;
use super::identity::AGENT_ID_MAX;
use super::identity::AgentId;
use super::identity::KeyBytes;
use super::identity::PublicKey;
use super::identity::Signature;
use super::identity::SigningKey;
use super::names::OBJECT_VERSION;
use super::names::Tag;
use super::rejection::Malformed;
use super::rejection::Place;
use super::rejection::Rejection;
use super::rejection::UntrustedRoot;
use super::scope::checked_text;
use super::signing;
use super::signing::Authentic;
use super::signing::MeshId;
use super::signing::ObjectId;
use super::time::Validity;
use super::wire;
use super::wire::Reader;
use super::wire::bin;

/// Largest encoded certificate in bytes: ids, two signatures and framing come to about 400.
pub const CERTIFICATE_MAX: usize = 512;

/// What a certificate says (protocol §8). By itself it proves nothing: see [`Certificate`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateClaims {
    /// The mesh.
    pub mesh: MeshId,
    /// 16 random bytes, so that two certificates of the same content have two ids.
    pub serial: [u8; 16],
    /// The agent.
    pub agent: AgentId,
    /// Its key.
    pub key: KeyBytes,
    /// When the certificate holds, at most [`LIFETIME_MAX_MS`](super::limits::LIFETIME_MAX_MS)
    /// long.
    pub validity: Validity,
    /// The certificate this one follows, when the key was rotated or the term renewed. It decides
    /// nothing.
    pub previous: Option<ObjectId>,
    /// How often the agent's key was rotated. A peer is looked for under the highest first; it
    /// decides nothing else.
    pub key_epoch: u32,
}

impl CertificateClaims {
    /// The canonical body of a certificate that says this: what the registrar and the certified key
    /// sign.
    pub fn body(&self) -> Vec<u8> {
        let ext: [(); 0] = [];
        wire::encode(&(
            OBJECT_VERSION,
            bin(&self.mesh.0),
            bin(&self.serial),
            self.agent.as_str(),
            bin(&self.key.0),
            self.validity.from().as_millis(),
            self.validity.until().as_millis(),
            self.previous.as_ref().map(|id| bin(&id.0)),
            self.key_epoch,
            &ext[..],
        ))
    }

    /// The object id of a certificate that says this.
    pub fn id(&self) -> ObjectId {
        Tag::Certificate.digest(&self.body())
    }

    /// The proof that the certified key is possessed: its signature over the certificate's id
    /// (protocol §8). It certifies nothing without the registrar's signature.
    ///
    /// # Errors
    ///
    /// [`Rejection::KeyMismatch`] when `key` is not the key of these claims.
    pub fn prove_possession(&self, key: &SigningKey) -> Result<Signature, Rejection> {
        if key.public().bytes() != self.key {
            return Err(Rejection::KeyMismatch {
                place: Place::Certificate,
                reason: super::rejection::KeyMismatch::OtherAgent,
            });
        }
        Ok(signing::sign(Tag::Possession, &self.id().0, key))
    }

    /// Certifies these claims for a key that is elsewhere: `possession` is what
    /// [`prove_possession`](Self::prove_possession) made there. `registrar` is the signing key and
    /// its position among the trust root's registrar keys.
    ///
    /// # Errors
    ///
    /// [`Rejection::WeakKey`] for a key that may not be certified, [`Rejection::BadSignature`] when
    /// it did not make the proof. The registrar signs nothing else.
    pub fn certify(
        &self,
        registrar: (u8, &SigningKey),
        possession: &Signature,
    ) -> Result<Bytes, Rejection> {
        let place = Place::Certificate;
        let key = PublicKey::import(&self.key)
            .ok()
            .filter(PublicKey::is_torsion_free)
            .ok_or(Rejection::WeakKey { place })?;
        let body = self.body();
        let id = Tag::Certificate.digest(&body);
        Authentic::check(Tag::Possession, &id.0, (), &key, possession, place)?;
        let signature = signing::sign(Tag::Certificate, &body, registrar.1);
        let bytes = wire::encode(&(
            bin(&body),
            registrar.0,
            bin(&signature.0),
            bin(&possession.0),
        ));
        Ok(bytes.into())
    }

    /// Decodes a body.
    ///
    /// # Errors
    ///
    /// [`Rejection::Malformed`] or [`Rejection::UnsupportedVersion`].
    pub fn parse(body: &Bytes) -> Result<Self, Rejection> {
        let place = Place::Certificate;
        let mut r = Reader::new(body, place);
        r.array_of(10)?;
        let found = r.uint()?;
        if found != OBJECT_VERSION {
            return Err(Rejection::UnsupportedVersion { place, found });
        }
        let mesh = MeshId(r.bin_of()?);
        let serial = r.bin_of()?;
        let agent = AgentId::parse(checked_text(&r.text(AGENT_ID_MAX)?))
            .map_err(|_| r.fault(Malformed::BadAgentId))?;
        let key = r.key()?;
        let validity = read_validity(&mut r)?;
        let previous = r.optional(Reader::object_id)?;
        let key_epoch = r.number_of()?;
        if r.array()? != 0 {
            return Err(r.fault(Malformed::Extension));
        }
        r.finish()?;
        Ok(Self {
            mesh,
            serial,
            agent,
            key,
            validity,
            previous,
            key_epoch,
        })
    }
}

/// A certificate that was decoded but not checked: anybody can have written it.
///
/// ```
/// use trustmesh::proto::certificate::{CertificateClaims, UnverifiedCertificate};
/// use trustmesh::proto::identity::{AgentId, SigningKey};
/// use trustmesh::proto::signing::MeshId;
/// use trustmesh::proto::time::{Timestamp, Validity};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (registrar, key) = (SigningKey::generate()?, SigningKey::generate()?);
/// let (from, until) = (Timestamp::from_millis(0), Timestamp::from_millis(3_600_000));
/// let claims = CertificateClaims {
///     mesh: MeshId([1; 16]),
///     serial: [2; 16],
///     agent: AgentId::parse("planner")?,
///     key: key.public().bytes(),
///     validity: Validity::new(from, until).ok_or("empty")?,
///     previous: None,
///     key_epoch: 0,
/// };
/// let bytes = UnverifiedCertificate::sign(&claims, (0, &registrar), &key)?;
/// let unverified = UnverifiedCertificate::parse(&bytes)?;
/// let certificate = unverified.verify(claims.mesh, &[registrar.public()])?;
/// assert_eq!(certificate.agent().as_str(), "planner");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct UnverifiedCertificate {
    claims: CertificateClaims,
    id: ObjectId,
    registrar: u8,
    body: Bytes,
    signature: Signature,
    possession: Signature,
}

impl UnverifiedCertificate {
    /// Decodes a certificate of at most [`CERTIFICATE_MAX`] bytes. No signature is looked at.
    ///
    /// # Errors
    ///
    /// [`Rejection::TooLarge`], [`Rejection::Malformed`] or [`Rejection::UnsupportedVersion`], in
    /// the order of protocol §8, steps 1 to 3.
    pub fn parse(bytes: &Bytes) -> Result<Self, Rejection> {
        let place = Place::Certificate;
        if bytes.len() > CERTIFICATE_MAX {
            return Err(Rejection::TooLarge {
                place,
                limit: CERTIFICATE_MAX as u32,
            });
        }
        let mut r = Reader::new(bytes, place);
        r.array_of(4)?;
        let body = r.bin(CERTIFICATE_MAX)?;
        let registrar = r.number_of()?;
        let signature = Signature(r.bin_of()?);
        let possession = Signature(r.bin_of()?);
        r.finish()?;
        let claims = CertificateClaims::parse(&body)?;
        let id = Tag::Certificate.digest(&body);
        Ok(Self {
            claims,
            id,
            registrar,
            body,
            signature,
            possession,
        })
    }

    /// Certifies `claims`. The certified key signs too, to prove that it is possessed.
    ///
    /// `registrar` is the signing key and its position among the trust root's registrar keys.
    /// Whether they are of the mesh is not asked here, but by whoever verifies.
    ///
    /// # Errors
    ///
    /// [`Rejection::KeyMismatch`] when `key` is not the key of the claims, [`Rejection::WeakKey`]
    /// when it may not be certified.
    pub fn sign(
        claims: &CertificateClaims,
        registrar: (u8, &SigningKey),
        key: &SigningKey,
    ) -> Result<Bytes, Rejection> {
        claims.certify(registrar, &claims.prove_possession(key)?)
    }

    /// The same certificate, signed by another registrar key: body and id stay, and with them the
    /// proof of possession, for which its agent is not needed again.
    ///
    /// # Errors
    ///
    /// As [`CertificateClaims::certify`].
    pub fn certified_by(&self, registrar: (u8, &SigningKey)) -> Result<Bytes, Rejection> {
        self.claims.certify(registrar, &self.possession)
    }

    /// What it claims, unchecked.
    pub fn claims(&self) -> &CertificateClaims {
        &self.claims
    }

    /// The certificate's object id.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// Checks mesh, key, registrar signature and proof of possession (protocol §8, steps 4 to 8).
    /// `registrars` are the keys of the registrar role, in the order of the trust root.
    ///
    /// # Errors
    ///
    /// [`Rejection::UntrustedRoot`] for another mesh or a position without a key,
    /// [`Rejection::WeakKey`], or [`Rejection::BadSignature`].
    pub fn verify(self, mesh: MeshId, registrars: &[PublicKey]) -> Result<Certificate, Rejection> {
        let place = Place::Certificate;
        if self.claims.mesh != mesh {
            let reason = UntrustedRoot::OtherMesh;
            return Err(Rejection::UntrustedRoot { place, reason });
        }
        let registrar =
            registrars
                .get(usize::from(self.registrar))
                .ok_or(Rejection::UntrustedRoot {
                    place,
                    reason: UntrustedRoot::Threshold,
                })?;
        let key = PublicKey::import(&self.claims.key)
            .ok()
            .filter(PublicKey::is_torsion_free)
            .ok_or(Rejection::WeakKey { place })?;
        let tag = Tag::Certificate;
        let claims = Authentic::check(
            tag,
            &self.body,
            self.claims,
            registrar,
            &self.signature,
            place,
        )?;
        Authentic::check(
            Tag::Possession,
            &self.id.0,
            (),
            &key,
            &self.possession,
            place,
        )?;
        Ok(Certificate {
            id: self.id,
            key,
            claims,
        })
    }
}

/// A checked certificate.
///
/// Holding one tells you that a registrar of the mesh certified the key for the agent, that the
/// key is an acceptable one of prime order, and that its holder proved to possess it. Whether it
/// is live at some instant is asked with its [`validity`](CertificateClaims::validity).
///
/// [`UnverifiedCertificate::verify`] makes one, as its example shows.
#[derive(Clone, Debug)]
pub struct Certificate {
    id: ObjectId,
    key: PublicKey,
    claims: Authentic<CertificateClaims>,
}

impl Certificate {
    /// The object id: what headers of audit batches and handshakes name it by.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// The certified key, imported.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// What it says, signed by the registrar.
    pub fn claims(&self) -> &CertificateClaims {
        self.claims.claims()
    }

    /// The agent.
    pub fn agent(&self) -> &AgentId {
        &self.claims().agent
    }
}
