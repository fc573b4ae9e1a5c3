//! An agent's own certificate and grant, which are renewed while it runs.
//!
//! Both are replaced together, behind one atomic pointer: what is sent or decided goes by the old
//! ones or by the new ones, never by a mixture.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::Identity;
use super::Shared;
use super::guards::lock;
use crate::proto::certificate::UnverifiedCertificate;
use crate::proto::chain::Chain;
use crate::proto::chain::Credential;
use crate::proto::chain::VerifiedChain;
use crate::proto::handshake::Party;
use crate::proto::rejection::KeyMismatch;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::signing::ObjectId;
use crate::proto::time::Validity;
use crate::proto::verify;

/// Certificate and grant of one agent, as of some moment.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) certificate: Bytes,
    pub(crate) certificate_id: ObjectId,
    pub(crate) window: Validity,
    pub(crate) credential: Credential,
}

/// The current one.
pub(crate) type CurrentStanding = Arc<ArcSwap<Standing>>;

impl Standing {
    /// Puts a certificate and a credential together that were accepted for one key.
    pub(crate) fn new(certificate: Bytes, credential: Credential) -> Result<Self, Rejection> {
        let parsed = UnverifiedCertificate::parse(&certificate)?;
        if parsed.claims().key != credential.key().public().bytes() {
            return Err(Rejection::KeyMismatch {
                place: Place::Certificate,
                reason: KeyMismatch::OtherAgent,
            });
        }
        Ok(Self {
            certificate_id: parsed.id(),
            window: parsed.claims().validity,
            certificate,
            credential,
        })
    }

    /// One's side of a handshake.
    pub(crate) fn party(&self, identity: &Identity) -> Party {
        Party {
            id: identity.id.clone(),
            certificate: self.certificate.clone(),
            credential: self.credential.clone(),
        }
    }
}

/// On whose authority something is done: one's own as of now, or what was handed over.
#[derive(Clone)]
pub(crate) enum Backing {
    Own,
    Lent(Credential),
}

impl Backing {
    pub(crate) fn credential(&self, shared: &Shared) -> Credential {
        match self {
            Self::Own => shared.own(),
            Self::Lent(credential) => credential.clone(),
        }
    }

    pub(crate) fn chain(&self, shared: &Shared) -> VerifiedChain {
        self.credential(shared).chain().clone()
    }
}

impl Shared {
    /// One's own credential, as of now.
    pub(crate) fn own(&self) -> Credential {
        self.standing.load().credential.clone()
    }

    /// Takes a renewed certificate or grant into use, for everything from now on.
    pub(crate) fn adopt(
        &self,
        certificate: Option<Bytes>,
        grant: Option<Chain>,
    ) -> Result<(), Rejection> {
        let held = self.standing.load_full();
        let credential = match grant {
            None => held.credential.clone(),
            Some(grant) => {
                let (now, trust) = self.moment()?;
                let scene = self.scene(now, &trust);
                verify::accept_chain(grant, &self.identity.key, &scene, self.skew)?
            }
        };
        let certificate = certificate.unwrap_or_else(|| held.certificate.clone());
        let standing = Standing::new(certificate, credential)?;
        let party = standing.party(&self.identity);
        self.standing.store(Arc::new(standing));
        lock(&self.peers.responder).replace_party(party);
        Ok(())
    }
}
