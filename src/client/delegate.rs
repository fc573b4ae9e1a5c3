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
use crate::proto::trust::TrustState;
use crate::proto::verify;
use crate::proto::verify::Scene;

impl Client {
    /// Hands some of this client's authority to an agent, for `ttl` from now.
    ///
    /// The chain does nothing until it is sent: see
    /// [`Draft::grant`](super::Draft::grant). It can be delegated further
    /// as far as this credential allows.
    ///
    /// # Errors
    ///
    /// [`Denied`] when the peer is unknown, or the scope, the time or the depth exceed what this
    /// client holds. Nothing is clipped silently.
    pub fn delegate(&self, peer: &AgentId, scope: Scope, ttl: Duration) -> Result<Chain, Denied> {
        let depth = self.voice.credential.chain().leaf().remaining();
        let Some(depth) = depth.checked_sub(1) else {
            let (place, reason) = (Place::Chain, DepthExceeded::Remaining);
            return Err(Denied(Rejection::DepthExceeded { place, reason }));
        };
        self.delegate_to_depth(peer, scope, ttl, depth)
    }

    /// [`delegate`](Self::delegate), allowing only `depth` further delegations below.
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
        Ok(hand_on(&self.voice.credential, peer, terms, &trust)?)
    }
}

impl Identity {
    /// Takes a chain for this identity's key into use, without a bus: its own grant, or one that
    /// was handed over.
    ///
    /// # Errors
    ///
    /// [`Denied`] when the chain does not hold at `now`, or is for another key.
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

/// What is handed on, and on which terms.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What the delegate may do.
    pub scope: Scope,
    /// For how long, from now.
    pub ttl: Duration,
    /// How many further delegations may follow below.
    pub depth: u8,
    /// Now.
    pub now: Timestamp,
    /// How far the delegate's clock may be behind.
    pub skew: ClockSkew,
}

fn hand_on(
    credential: &Credential,
    peer: &AgentId,
    terms: Terms,
    trust: &TrustState,
) -> Result<Chain, Rejection> {
    let (now, skew) = (terms.now, terms.skew);
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
