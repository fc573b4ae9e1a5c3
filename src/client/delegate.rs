//! Handing authority on.

use std::time::Duration;

use super::Client;
use super::random::random;
use crate::error::Denied;
use crate::proto::chain::Chain;
use crate::proto::delegation::LinkDraft;
use crate::proto::identity::AgentId;
use crate::proto::rejection::DepthExceeded;
use crate::proto::rejection::Malformed;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::scope::Scope;
use crate::proto::time::Validity;

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
        let holder = self.peer_key(peer)?;
        let (now, trust) = self.shared.moment()?;
        let parent = self.voice.credential.chain().leaf().validity();
        // Backdated by the skew, so that a peer whose clock is a little behind can use it at once.
        // Not by so much that the ceiling of policy would be exceeded for that alone.
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let room = trust.policy().ttl().delegation_ms.saturating_sub(ttl);
        let from = now
            .minus(self.shared.skew.as_millis().min(room))
            .max(parent.from());
        let until = now.plus(ttl);
        let validity = Validity::new(from, until).ok_or(Rejection::Malformed {
            place: Place::Chain,
            reason: Malformed::Lifetime,
        })?;
        let nonce = random().map_err(Rejection::from)?;
        let draft = LinkDraft {
            holder,
            validity,
            remaining: depth,
            scope,
            nonce,
        };
        let chain = self.voice.credential.delegate(&draft)?;
        trust.policy().check_lifetimes(&chain)?;
        Ok(chain)
    }
}
