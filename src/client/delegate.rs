//! Handing authority on.

use std::time::Duration;

use super::Client;
use super::Identity;
use super::random::random;
use crate::error::Denied;
use crate::proto::chain::Chain;
use crate::proto::chain::Credential;
use crate::proto::delegation::LinkDraft;
use crate::proto::identity::AgentId;
use crate::proto::rejection::DepthExceeded;
use crate::proto::rejection::Malformed;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::scope::Scope;
use crate::proto::time::ClockSkew;
use crate::proto::time::Timestamp;
use crate::proto::time::Validity;
use crate::proto::trust::Purpose;
use crate::proto::trust::TrustState;
use crate::proto::verify;
use crate::proto::verify::Scene;

impl Client {
    /// Hands some of this client's authority to an agent, for `ttl` from now, under its newest live
    /// key.
    ///
    /// The chain does nothing until it is sent: see [`Draft::grant`](super::Draft::grant). It can
    /// be delegated further as far as this credential allows. Its window begins a little before
    /// now, by the skew at the most, for a peer whose clock is behind.
    ///
    /// # Errors
    ///
    /// [`Denied`], and nothing is clipped silently: [`Rejection::UnknownAgent`], or another reason
    /// why the peer has no key of use; [`Rejection::ScopeExceeded`] for a scope or a time beyond
    /// what this client holds or policy allows; [`Rejection::DepthExceeded`] when no
    /// further delegation may follow; [`Rejection::ChainBroken`] for a peer in the chain already.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # use trustmesh::ConnectOptions;
    /// # use trustmesh::bus::memory::MemoryBus;
    /// use trustmesh::proto::scope::Scope;
    /// # use trustmesh::services::authority::Authority;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut mesh = Authority::dev("demo")?;
    /// # let planner = mesh.agent("planner", ["req+delegate:store.>"])?;
    /// # let worker = mesh.agent("worker", ["sub:work"])?.id().clone();
    /// # let planner = ConnectOptions::new(planner).connect_bus(MemoryBus::new().connect()).await?;
    /// let minute = Duration::from_secs(60);
    /// let grant = planner.delegate(&worker, Scope::parse(["req:store.docs.*"])?, minute)?;
    /// assert_eq!(grant.depth(), 1);
    ///
    /// assert!(planner.delegate(&worker, Scope::parse(["req:bank.>"])?, minute).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn delegate(&self, peer: &AgentId, scope: Scope, ttl: Duration) -> Result<Chain, Denied> {
        let depth = self.credential().chain().leaf().remaining();
        let Some(depth) = depth.checked_sub(1) else {
            let (place, reason) = (Place::Chain, DepthExceeded::Remaining);
            return Err(Denied(Rejection::DepthExceeded { place, reason }));
        };
        self.delegate_to_depth(peer, scope, ttl, depth)
    }

    /// [`delegate`](Self::delegate), for as long as policy lets a delegation live, an hour by default,
    /// and no longer than this credential does. The audit says until when.
    ///
    /// # Errors
    ///
    /// As [`delegate`](Self::delegate).
    pub fn delegate_by_default(&self, peer: &AgentId, scope: Scope) -> Result<Chain, Denied> {
        let (now, trust) = self.shared.moment()?;
        // The window begins a little before now, which counts.
        let most = trust.policy().ttl().delegation_ms;
        let most = most.saturating_sub(self.shared.skew.as_millis());
        let left = self
            .credential()
            .chain()
            .leaf()
            .validity()
            .until()
            .since(now);
        let ttl = Duration::from_millis(most.min(left));
        let chain = self.delegate(peer, scope, ttl)?;
        let (link, until) = (chain.leaf().id(), chain.leaf().validity().until());
        let text = format!("link {link} to {peer} until {until}, by default");
        self.shared.plane_notice("delegated", text);
        Ok(chain)
    }

    /// [`delegate`](Self::delegate), allowing only `depth` further delegations below, fewer than
    /// this credential's own.
    ///
    /// # Errors
    ///
    /// As [`delegate`](Self::delegate).
    pub fn delegate_to_depth(
        &self,
        peer: &AgentId,
        scope: Scope,
        ttl: Duration,
        depth: u8,
    ) -> Result<Chain, Denied> {
        let (now, trust) = self.shared.moment()?;
        let terms = Terms {
            scope,
            ttl,
            depth,
            now,
            skew: self.shared.skew,
        };
        let chain = hand_on(&self.credential(), peer, terms.clone(), &trust)?;
        self.remember_minted(peer, &terms, &chain);
        Ok(chain)
    }
}

impl Identity {
    /// Takes a chain for this identity's key into use, without a bus: its own grant, or one that
    /// was handed over (protocol §7.5). By the default skew of 5 s.
    ///
    /// Who handed it over is not asked: [`Message::granted`](super::Message::granted) asks.
    ///
    /// # Errors
    ///
    /// [`Denied`] when the chain does not hold at `now`, or is for another key.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use trustmesh::client::Terms;
    /// # use trustmesh::client::clock::{Clock, SystemClock};
    /// use trustmesh::proto::scope::Scope;
    /// # use trustmesh::proto::time::ClockSkew;
    /// use trustmesh::services::authority::Authority;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut mesh = Authority::dev("demo")?;
    /// let planner = mesh.agent("planner", ["req+delegate:store.>"])?;
    /// let worker = mesh.agent("worker", ["sub:work"])?;
    /// # let (now, skew) = (SystemClock::new().now()?, ClockSkew::default());
    /// let own = planner.credential(planner.grant().clone(), now)?;
    ///
    /// let scope = Scope::parse(["req:store.docs"])?;
    /// let terms = Terms { scope, ttl: Duration::from_secs(60), depth: 0, now, skew };
    /// let chain = planner.delegate(&own, worker.id(), terms)?;
    /// assert_eq!(worker.credential(chain.clone(), now)?.chain().depth(), 1);
    /// assert!(planner.credential(chain, now).is_err()); // it is the worker's
    /// # Ok(())
    /// # }
    /// ```
    pub fn credential(&self, chain: Chain, now: Timestamp) -> Result<Credential, Denied> {
        let scene = Scene {
            now,
            trust: &self.trust.current(),
            sessions: &(),
        };
        let skew = ClockSkew::default();
        Ok(verify::accept_chain(chain, &self.key, &scene, skew)?)
    }

    /// Hands on some of a credential's authority, without a bus: [`Client::delegate_to_depth`].
    ///
    /// It is decided by this identity's trust state.
    ///
    /// # Errors
    ///
    /// As [`Client::delegate`].
    pub fn delegate(
        &self,
        credential: &Credential,
        peer: &AgentId,
        terms: Terms,
    ) -> Result<Chain, Denied> {
        Ok(hand_on(credential, peer, terms, &self.trust.current())?)
    }
}

/// What is handed on, and on which terms: the arguments of [`Identity::delegate`].
#[derive(Clone, Debug)]
pub struct Terms {
    /// What the delegate may do.
    pub scope: Scope,
    /// For how long, from `now`; policy allows one hour by default.
    pub ttl: Duration,
    /// How many further delegations may follow below, fewer than the credential's own.
    pub depth: u8,
    /// Now, as a [`Clock`](super::clock::Clock) says.
    pub now: Timestamp,
    /// How far the delegate's clock may be behind: the window begins that much earlier where it
    /// may.
    pub skew: ClockSkew,
}

pub(super) fn hand_on(
    credential: &Credential,
    peer: &AgentId,
    terms: Terms,
    trust: &TrustState,
) -> Result<Chain, Rejection> {
    let (now, skew) = (terms.now, terms.skew);
    trust.check_fresh(now, skew, Purpose::Authority)?;
    let holder = trust.live_key(peer, now, skew, Place::Chain)?;
    let parent = credential.chain().leaf().validity();
    // Backdated by the skew, so that a peer whose clock is a little behind can use it at once.
    // Not by so much that the ceiling of policy would be exceeded for that alone.
    let ttl = u64::try_from(terms.ttl.as_millis()).unwrap_or(u64::MAX);
    let room = trust.policy().ttl().delegation_ms.saturating_sub(ttl);
    let from = now.minus(skew.as_millis().min(room)).max(parent.from());
    let validity = Validity::new(from, now.plus(ttl)).ok_or(Rejection::Malformed {
        place: Place::Chain,
        reason: Malformed::Lifetime,
    })?;
    let draft = LinkDraft {
        holder,
        validity,
        remaining: terms.depth,
        scope: terms.scope,
        nonce: random()?,
    };
    let chain = credential.delegate(&draft)?;
    trust.policy().check_lifetimes(&chain)?;
    Ok(chain)
}
