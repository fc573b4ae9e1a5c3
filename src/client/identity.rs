//! Who a client is, and what it believes: keys, certificate, grant and trust state.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::client::feed::Feed;
use crate::client::home::Home;
use crate::proto::chain::Chain;
use crate::proto::identity::AgentId;
use crate::proto::identity::SigningKey;
use crate::proto::rejection::Rejection;
use crate::proto::trust::TrustState;

/// The current trust state, shared by everything that decides.
///
/// It only ever moves forward: a state that may not replace the one held leaves it in place
/// (protocol §9.6).
#[derive(Debug)]
pub struct TrustHandle(ArcSwap<TrustState>);

impl TrustHandle {
    /// A handle that begins with this state.
    pub fn new(state: Arc<TrustState>) -> Self {
        Self(ArcSwap::new(state))
    }

    /// The state as of now. Take it once per decision, so that no decision mixes two (protocol
    /// §9.6).
    pub fn current(&self) -> Arc<TrustState> {
        self.0.load_full()
    }

    /// Moves on to a newer state, as a whole. Clients that share the handle decide by it from their
    /// next decision on.
    ///
    /// # Errors
    ///
    /// [`Rejection::StaleState`] when it is older than the one held, [`Rejection::UntrustedRoot`]
    /// when of another root; the one held stays.
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
///
/// It comes from [`Home::identity`](crate::client::home::Home::identity) or
/// [`Authority::agent`](crate::services::authority::Authority::agent). Whether it holds *now* is
/// checked when a client connects with it, and again for whatever that client does.
///
/// ```
/// use trustmesh::services::authority::Authority;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut mesh = Authority::dev("demo")?;
/// let planner = mesh.agent("planner", ["req+delegate:tools.>"])?;
/// assert_eq!(planner.id().as_str(), "planner");
/// assert_eq!(planner.grant().leaf().holder(), planner.key());
/// assert_eq!(planner.trust().current().mesh(), mesh.mesh());
/// # Ok(())
/// # }
/// ```
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
    /// What keeps the trust state of a served mesh up to date.
    pub(crate) feed: Option<Arc<Feed>>,
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
            feed: None,
        }
    }

    /// The agent's id within its mesh.
    pub fn id(&self) -> &AgentId {
        &self.id
    }

    /// The agent's public key. The private one is never handed out.
    pub fn key(&self) -> crate::proto::identity::KeyBytes {
        self.key.public().bytes()
    }

    /// The agent's own grant: what it may do when nobody handed it more.
    pub fn grant(&self) -> &Chain {
        &self.grant
    }

    /// The trust state it decides by, shared with all identities of its home or authority.
    pub fn trust(&self) -> &Arc<TrustHandle> {
        &self.trust
    }
}
