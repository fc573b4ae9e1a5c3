//! Who a client is, and what it believes: keys, certificate, grant and trust state.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::client::home::Home;
use crate::proto::chain::Chain;
use crate::proto::identity::AgentId;
use crate::proto::identity::SigningKey;
use crate::proto::rejection::Rejection;
use crate::proto::trust::TrustState;

/// The current trust state, shared by everything that decides.
#[derive(Debug)]
pub struct TrustHandle(ArcSwap<TrustState>);

impl TrustHandle {
    /// A handle on this state.
    pub fn new(state: Arc<TrustState>) -> Self {
        Self(ArcSwap::new(state))
    }

    /// The state as of now. Take it once per decision.
    pub fn current(&self) -> Arc<TrustState> {
        self.0.load_full()
    }

    /// Moves on to a newer state, as a whole.
    ///
    /// # Errors
    ///
    /// `StaleState` when it is older than the one held, `UntrustedRoot` when of another root; the
    /// one held stays.
    pub fn replace(&self, newer: Arc<TrustState>) -> Result<(), Rejection> {
        // Again when another got in between, or the older of two could come out on top.
        loop {
            let current = self.current();
            newer.check_replaces(&current)?;
            let previous = self.0.compare_and_swap(&current, newer.clone());
            if Arc::ptr_eq(&previous, &current) {
                return Ok(());
            }
        }
    }
}

/// Where replay memory may have been lost between runs of an identity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Provenance {
    /// Made in this process: nothing was ever accepted under it before.
    Fresh,
    /// Loaded; the replay floor is kept in this file.
    Stateful(std::path::PathBuf),
}

/// An agent: its id, key, certificate and grant, with the trust state it decides by.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(crate) id: AgentId,
    pub(crate) key: Arc<SigningKey>,
    pub(crate) certificate: Bytes,
    pub(crate) grant: Chain,
    pub(crate) trust: Arc<TrustHandle>,
    pub(crate) provenance: Provenance,
    /// Where the trust files lie, when they can be read again.
    pub(crate) home: Option<Home>,
}

impl Identity {
    /// An identity made in this process.
    pub(crate) fn fresh(
        id: AgentId,
        key: Arc<SigningKey>,
        certificate: Bytes,
        grant: Chain,
        trust: Arc<TrustHandle>,
    ) -> Self {
        Self {
            id,
            key,
            certificate,
            grant,
            trust,
            provenance: Provenance::Fresh,
            home: None,
        }
    }

    /// The agent's id.
    pub fn id(&self) -> &AgentId {
        &self.id
    }

    /// The agent's public key.
    pub fn key(&self) -> crate::proto::identity::KeyBytes {
        self.key.public().bytes()
    }

    /// The agent's own grant.
    pub fn grant(&self) -> &Chain {
        &self.grant
    }

    /// The trust state it decides by.
    pub fn trust(&self) -> &Arc<TrustHandle> {
        &self.trust
    }
}
