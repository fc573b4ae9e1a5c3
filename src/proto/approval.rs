//! Approvals: the registrar's word that a chain was presented to it and held (protocol §10.8).
//!
//! ```text
//! body  [v, mesh bin16, leaf bin32, chain bin32, registry, revocations, policy, nbf, exp, ext]
//! wire  [body bin, registrar u8, signature bin64]
//! ```
//!
//! Every receiver verifies every hop itself; nothing here spares it that. What policy can ask for
//! is an approval *besides*: see [`NeedsApproval`](super::policy::NeedsApproval). An approval is of
//! one chain, byte for byte, and of one policy: a new policy asks for a new approval.
//!
//! `registrar` is the position of the signing key among the trust root's registrar keys; it
//! selects, it never supplies.

use bytes::Bytes;

use super::chain::Chain;
use super::delegation::read_validity;
use super::identity::KeyBytes;
use super::identity::PublicKey;
use super::identity::Signature;
use super::identity::SigningKey;
use super::limits::APPROVAL_MAX;
use super::limits::APPROVAL_TTL_MAX_MS;
use super::names::OBJECT_VERSION;
use super::names::Tag;
use super::rejection::ChainBroken;
use super::rejection::Malformed;
use super::rejection::Place;
use super::rejection::Rejection;
use super::rejection::ScopeExceeded;
use super::rejection::StaleState;
use super::rejection::UntrustedRoot;
use super::root::Role;
use super::signing;
use super::signing::Authentic;
use super::signing::MeshId;
use super::signing::ObjectId;
use super::time::ClockSkew;
use super::time::Timestamp;
use super::time::Validity;
use super::trust::Epochs;
use super::trust::TrustState;
use super::wire;
use super::wire::Reader;
use super::wire::bin;

const PLACE: Place = Place::Approval;

/// What an approval says (protocol §10.8). By itself it proves nothing: see [`Approval`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ApprovalClaims {
    /// The mesh.
    pub mesh: MeshId,
    /// The object id of the chain's last link.
    pub leaf: ObjectId,
    /// The digest of the chain's exact bytes.
    pub chain: ObjectId,
    /// The epochs it was approved under. It counts while the policy's is the same; the others
    /// decide nothing, since every receiver asks its own registry and revocations.
    pub epochs: Epochs,
    /// When it holds: at most [`APPROVAL_TTL_MAX_MS`], and not beyond the chain's end.
    pub validity: Validity,
}

impl ApprovalClaims {
    fn body(&self) -> Vec<u8> {
        let ext: [(); 0] = [];
        wire::encode(&(
            OBJECT_VERSION,
            bin(&self.mesh.0),
            bin(&self.leaf.0),
            bin(&self.chain.0),
            self.epochs.registry,
            self.epochs.revocations,
            self.epochs.policy,
            self.validity.from().as_millis(),
            self.validity.until().as_millis(),
            &ext[..],
        ))
    }

    fn parse(body: &Bytes) -> Result<Self, Rejection> {
        let mut r = Reader::new(body, PLACE);
        r.array_of(10)?;
        let found = r.uint()?;
        if found != OBJECT_VERSION {
            let place = PLACE;
            return Err(Rejection::UnsupportedVersion { place, found });
        }
        let claims = Self {
            mesh: MeshId(r.bin_of()?),
            leaf: r.object_id()?,
            chain: r.object_id()?,
            epochs: Epochs {
                registry: r.uint()?,
                revocations: r.uint()?,
                policy: r.uint()?,
            },
            validity: read_validity(&mut r)?,
        };
        if claims.validity.millis() > APPROVAL_TTL_MAX_MS {
            return Err(r.fault(Malformed::Lifetime));
        }
        if r.array()? != 0 {
            return Err(r.fault(Malformed::Extension));
        }
        r.finish()?;
        Ok(claims)
    }
}

/// An approval that was decoded but not checked: anybody can have written it.
#[derive(Clone, Debug)]
pub struct UnverifiedApproval {
    claims: ApprovalClaims,
    registrar: u8,
    body: Bytes,
    signature: Signature,
}

impl UnverifiedApproval {
    /// Decodes an approval of at most [`APPROVAL_MAX`] bytes. No signature is looked at.
    ///
    /// # Errors
    ///
    /// [`Rejection::TooLarge`], [`Rejection::Malformed`] or [`Rejection::UnsupportedVersion`].
    pub fn parse(bytes: &Bytes) -> Result<Self, Rejection> {
        if bytes.len() > APPROVAL_MAX {
            let (place, limit) = (PLACE, APPROVAL_MAX as u32);
            return Err(Rejection::TooLarge { place, limit });
        }
        let mut r = Reader::new(bytes, PLACE);
        r.array_of(3)?;
        let body = r.bin(APPROVAL_MAX)?;
        let registrar = r.number_of()?;
        let signature = Signature(r.bin_of()?);
        r.finish()?;
        Ok(Self {
            claims: ApprovalClaims::parse(&body)?,
            registrar,
            body,
            signature,
        })
    }

    /// Approves a chain. `registrar` is the signing key and its position among the trust root's
    /// registrar keys.
    ///
    /// # Errors
    ///
    /// What every receiver would refuse in the approval itself: [`Rejection::Malformed`] for a
    /// lifetime of more than [`APPROVAL_TTL_MAX_MS`]. Whether chain and key are of the mesh is not
    /// asked here.
    pub fn sign(claims: &ApprovalClaims, registrar: (u8, &SigningKey)) -> Result<Bytes, Rejection> {
        let body = claims.body();
        let signature = signing::sign(Tag::Approval, &body, registrar.1);
        let bytes = wire::encode(&(bin(&body), registrar.0, bin(&signature.0)));
        let bytes = Bytes::from(bytes);
        Self::parse(&bytes)?;
        Ok(bytes)
    }

    /// What it claims, unchecked.
    pub fn claims(&self) -> &ApprovalClaims {
        &self.claims
    }

    /// Checks that a registrar of the mesh signed it. `registrars` are the keys of that role, in
    /// the order of the trust root.
    ///
    /// # Errors
    ///
    /// [`Rejection::UntrustedRoot`] for another mesh or a position without a key,
    /// [`Rejection::BadSignature`].
    pub fn verify(self, mesh: MeshId, registrars: &[PublicKey]) -> Result<Approval, Rejection> {
        let untrusted = |reason| Rejection::UntrustedRoot {
            place: PLACE,
            reason,
        };
        if self.claims.mesh != mesh {
            return Err(untrusted(UntrustedRoot::OtherMesh));
        }
        let signer = registrars
            .get(usize::from(self.registrar))
            .ok_or(untrusted(UntrustedRoot::Threshold))?;
        let (tag, claims) = (Tag::Approval, self.claims);
        let claims = Authentic::check(tag, &self.body, claims, signer, &self.signature, PLACE)?;
        Ok(Approval {
            claims,
            registrar: self.registrar,
            signer: signer.bytes(),
        })
    }
}

/// An approval whose signature was checked.
///
/// Holding one tells you that a registrar of the mesh made it. Whether it counts for a chain now is
/// [asked](Self::check) for every message.
///
/// ```
/// use trustmesh::proto::approval::UnverifiedApproval;
/// use trustmesh::proto::root::Role;
/// use trustmesh::services::authority::Authority;
/// # use trustmesh::client::clock::{Clock, SystemClock};
/// # use trustmesh::proto::time::ClockSkew;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut mesh = Authority::dev("demo")?;
/// let planner = mesh.agent("planner", ["req:payments.>"])?;
/// let bytes = mesh.approve(planner.grant())?;
///
/// let trust = planner.trust().current();
/// # let (now, skew) = (SystemClock::new().now()?, ClockSkew::default());
/// let registrars = trust.root().keys(Role::Registrar);
/// let approval = UnverifiedApproval::parse(&bytes)?.verify(trust.mesh(), registrars)?;
/// approval.check(planner.grant(), &trust, now, skew)?;
///
/// mesh.set_policy(trust.policy().clone())?; // under another epoch
/// let trust = planner.trust().current();
/// assert!(approval.check(planner.grant(), &trust, now, skew).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Approval {
    claims: Authentic<ApprovalClaims>,
    registrar: u8,
    signer: KeyBytes,
}

impl Approval {
    /// Decodes an approval and checks its signature against a trust state.
    ///
    /// # Errors
    ///
    /// As [`UnverifiedApproval::parse`] and [`UnverifiedApproval::verify`].
    pub fn open(bytes: &Bytes, trust: &TrustState) -> Result<Self, Rejection> {
        let registrars = trust.root().keys(Role::Registrar);
        UnverifiedApproval::parse(bytes)?.verify(trust.mesh(), registrars)
    }

    /// What it says, signed by a registrar.
    pub fn claims(&self) -> &ApprovalClaims {
        self.claims.claims()
    }

    /// Checks that it counts for this chain, in this trust state, at `now`.
    ///
    /// # Errors
    ///
    /// [`Rejection::UntrustedRoot`] when mesh or registrar are not those of the trust state,
    /// [`Rejection::ChainBroken`] for another chain, [`Rejection::ScopeExceeded`] when it ends
    /// after the chain, [`Rejection::StaleState`] when it was given under another policy,
    /// [`Rejection::NotYetValid`] or [`Rejection::Expired`].
    pub fn check(
        &self,
        chain: &Chain,
        trust: &TrustState,
        now: Timestamp,
        skew: ClockSkew,
    ) -> Result<(), Rejection> {
        let (place, claims) = (PLACE, self.claims());
        if claims.leaf != chain.leaf().id() || claims.chain != chain.digest() {
            let reason = ChainBroken::LeafMismatch;
            return Err(Rejection::ChainBroken { place, reason });
        }
        if claims.validity.until() > chain.leaf().validity().until() {
            let reason = ScopeExceeded::Window;
            return Err(Rejection::ScopeExceeded { place, reason });
        }
        self.check_now(trust, now, skew)
    }

    /// Checks that it counts in this trust state at `now`, for whatever chain it is.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check), apart from what is of the chain.
    pub fn check_now(
        &self,
        trust: &TrustState,
        now: Timestamp,
        skew: ClockSkew,
    ) -> Result<(), Rejection> {
        let (place, claims) = (PLACE, self.claims());
        if claims.mesh != trust.mesh() {
            let reason = UntrustedRoot::OtherMesh;
            return Err(Rejection::UntrustedRoot { place, reason });
        }
        // The key may have lost its place since the signature was checked.
        let registrars = trust.root().keys(Role::Registrar);
        let registrar = registrars.get(usize::from(self.registrar));
        if registrar.map(PublicKey::bytes) != Some(self.signer) {
            let reason = UntrustedRoot::Threshold;
            return Err(Rejection::UntrustedRoot { place, reason });
        }
        if claims.epochs.policy != trust.epochs().policy {
            let reason = StaleState::Policy;
            return Err(Rejection::StaleState { reason });
        }
        claims
            .validity
            .check(now, skew)
            .map_err(|outside| outside.at(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> ApprovalClaims {
        let (from, until) = (Timestamp::from_millis(1), Timestamp::from_millis(3_600_001));
        ApprovalClaims {
            mesh: MeshId([1; 16]),
            leaf: ObjectId([2; 32]),
            chain: ObjectId([3; 32]),
            epochs: Epochs {
                registry: u64::MAX,
                revocations: u64::MAX,
                policy: u64::MAX,
            },
            // Not empty: the first is less than the second.
            validity: Validity::new(from, until).unwrap(),
        }
    }

    fn registrar() -> SigningKey {
        SigningKey::from_seed(&[9; 32]).unwrap()
    }

    #[test]
    fn an_approval_is_read_back_and_fits_a_header() {
        let (claims, key) = (claims(), registrar());
        let bytes = UnverifiedApproval::sign(&claims, (0, &key)).unwrap();
        assert!(bytes.len() <= 220, "{} bytes", bytes.len());
        let approval = UnverifiedApproval::parse(&bytes).unwrap();
        let approval = approval.verify(claims.mesh, &[key.public()]).unwrap();
        assert_eq!(*approval.claims(), claims);
    }

    #[test]
    fn an_approval_of_more_than_an_hour_is_not_made() {
        let mut claims = claims();
        let until = claims.validity.until().plus(1);
        claims.validity = Validity::new(claims.validity.from(), until).unwrap();
        let made = UnverifiedApproval::sign(&claims, (0, &registrar()));
        let (place, reason) = (PLACE, Malformed::Lifetime);
        assert_eq!(made, Err(Rejection::Malformed { place, reason }));
    }

    #[test]
    fn an_approval_by_another_key_position_or_mesh_is_refused() {
        let (claims, key) = (claims(), registrar());
        let bytes = UnverifiedApproval::sign(&claims, (0, &key)).unwrap();
        let opened = |mesh, keys: &[PublicKey]| {
            let approval = UnverifiedApproval::parse(&bytes).unwrap();
            approval.verify(mesh, keys).map(drop).map_err(|r| r.code())
        };
        let other = SigningKey::from_seed(&[8; 32]).unwrap().public();
        assert_eq!(opened(claims.mesh, &[other, key.public()]), Err(401));
        assert_eq!(opened(claims.mesh, &[]), Err(1704));
        assert_eq!(opened(MeshId([4; 16]), &[key.public()]), Err(1701));
    }
}
