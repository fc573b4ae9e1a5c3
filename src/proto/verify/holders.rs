//! The agents behind a chain: the certificate of every holder, each in good standing.

use crate::proto::certificate::Certificate;
use crate::proto::chain::Anchors;
use crate::proto::chain::Chain;
use crate::proto::limits::LINKS_MAX;
use crate::proto::rejection::ChainBroken;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::UntrustedRoot;
use crate::proto::time::ClockSkew;
use crate::proto::time::Timestamp;
use crate::proto::trust::TrustState;

/// The certificates of every holder of a chain, each in good standing.
pub(crate) struct Holders<'a> {
    certificates: [Option<&'a Certificate>; LINKS_MAX],
    leaf: &'a Certificate,
}

impl<'a> Holders<'a> {
    pub(crate) fn look_up(
        chain: &Chain,
        trust: &'a TrustState,
        now: Timestamp,
        skew: ClockSkew,
    ) -> Result<Self, Rejection> {
        if chain.mesh() != trust.mesh() {
            let (place, reason) = (Place::Chain, UntrustedRoot::OtherMesh);
            return Err(Rejection::UntrustedRoot { place, reason });
        }
        if Anchors::issuer(trust, &chain.issuer()).is_none() {
            let (place, reason) = (Place::Issuer, UntrustedRoot::NotIssuer);
            return Err(Rejection::UntrustedRoot { place, reason });
        }
        let mut certificates = [None; LINKS_MAX];
        let mut leaf = Err(Rejection::ChainBroken {
            place: Place::Chain,
            reason: ChainBroken::Empty,
        });
        for (index, (slot, link)) in certificates.iter_mut().zip(chain.links()).enumerate() {
            let place = Place::Holder(index as u8);
            let certificate = trust.check_standing(&link.holder(), now, skew, place)?;
            *slot = Some(certificate);
            leaf = Ok(certificate);
        }
        Ok(Self {
            certificates,
            leaf: leaf?,
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a Certificate> {
        self.certificates.iter().copied().flatten()
    }

    pub(crate) fn leaf(&self) -> &'a Certificate {
        self.leaf
    }

    /// The lowest score among all holders: a chain is worth its least trusted hand. `None` when
    /// one of them has no score.
    pub(crate) fn lowest_score(&self, trust: &TrustState) -> Option<u16> {
        self.iter()
            .map(|certificate| trust.score(certificate.agent()))
            .min()
            .flatten()
    }
}
