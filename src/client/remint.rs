//! Delegations minted again: before they end, or for the delegate's new key (protocol §22.9).
//!
//! ```text
//! delegate ── <prefix>.agent.<delegator>.renew: the chain ──▶ delegator
//!          ◀── the same delegation, for as long again ────────
//! ```
//!
//! A delegator answers only where it was told to ([`Client::keep_delegations`]), and only for links
//! that it minted itself and that still hold. What it gives is no more than it gave before, and no
//! more than it has now.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Weak;

use futures_util::StreamExt as _;

use super::Client;
use super::Shared;
use super::delegate::Terms;
use super::delegate::hand_on;
use super::guards::lock;
use super::peers::PerSecond;
use super::plane::PlaneError;
use super::plane::TIMEOUT;
use super::plane::unexpected;
use super::random::random;
use super::standing::Backing;
use crate::bus::Bus;
use crate::bus::BusSubscriber;
use crate::bus::Delivery;
use crate::bus::Outgoing;
use crate::bus::Subject as BusSubject;
use crate::proto::chain::Chain;
use crate::proto::chain::Credential;
use crate::proto::control::ControlSender;
use crate::proto::control::Moment;
use crate::proto::control::OpenedRequest;
use crate::proto::control::open_request;
use crate::proto::enrol::EnrolRefused;
use crate::proto::identity::AgentId;
use crate::proto::limits::MINTED_HELD;
use crate::proto::rejection::ChainBroken;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::ScopeExceeded;
use crate::proto::replay::MessageId;
use crate::proto::replay::ReplayGuard;
use crate::proto::request::ControlAnswer;
use crate::proto::request::ControlRequest;
use crate::proto::request::remint_subject;
use crate::proto::scope::Scope;
use crate::proto::signing::ObjectId;
use crate::proto::time::Timestamp;
use crate::proto::verify;

/// Requests opened a second, one signature each, and a chain more for those that are served.
const REQUESTS_PER_SECOND: u32 = 50;

/// The topic of the notice that a delegation was minted again, on both sides.
const NOTICE_REMINTED: &str = "reminted";

/// The links that a client minted, by their ids: those that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Minted(HashMap<ObjectId, Mint>);

/// On which terms a link was minted.
#[derive(Clone)]
struct Mint {
    peer: AgentId,
    scope: Scope,
    ttl: std::time::Duration,
    depth: u8,
    until: Timestamp,
    backing: Backing,
}

impl std::fmt::Debug for Mint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mint")
            .field("peer", &self.peer)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

impl Minted {
    /// Takes a link in. When there is no room, those that have ended go, then the one that ends
    /// first.
    fn keep(&mut self, link: ObjectId, mint: Mint, now: Timestamp) {
        if self.0.len() >= MINTED_HELD {
            self.0.retain(|_, held| now < held.until);
        }
        if self.0.len() >= MINTED_HELD {
            let first = self.0.iter().min_by_key(|(_, held)| held.until);
            if let Some(first) = first.map(|(link, _)| *link) {
                self.0.remove(&first);
            }
        }
        self.0.insert(link, mint);
    }
}

impl Client {
    /// Remembers what was handed on, in case it is asked for again.
    pub(super) fn remember_minted(&self, peer: &AgentId, terms: &Terms, chain: &Chain) {
        let mint = Mint {
            peer: peer.clone(),
            scope: terms.scope.clone(),
            ttl: terms.ttl,
            depth: terms.depth,
            until: chain.leaf().validity().until(),
            backing: self.voice.backing.clone(),
        };
        let minted = &self.shared.minted;
        lock(minted).keep(chain.leaf().id(), mint, terms.now);
    }

    /// Mints delegations again, in the background and as long as this client lives, for delegates
    /// that ask: those that this client made and that neither ended nor were revoked, on the same
    /// terms and to the same agent, under its newest key. Both sides say so in their audit.
    ///
    /// Without it a delegation ends when its time is over. With it, it goes on until it is
    /// revoked, its delegator's own authority ends, or this client is gone: the last 4,096 are
    /// remembered, by this process alone.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use trustmesh::ConnectOptions;
    /// # use trustmesh::bus::memory::MemoryBus;
    /// use trustmesh::proto::scope::Scope;
    /// # use trustmesh::services::authority::Authority;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut mesh = Authority::dev("demo")?;
    /// # let planner = mesh.agent("planner", ["req+delegate:store.>"])?;
    /// # let worker = mesh.agent("worker", ["sub:work"])?;
    /// # let bus = MemoryBus::new();
    /// # let planner = ConnectOptions::new(planner).connect_bus(bus.connect()).await?;
    /// # let worker = ConnectOptions::new(worker).connect_bus(bus.connect()).await?;
    /// planner.keep_delegations().await?;
    /// let scope = Scope::parse(["req:store.docs"])?;
    /// let grant = planner.delegate(worker.id(), scope, Duration::from_secs(60))?;
    ///
    /// let again = worker.renew_delegation(&grant).await?;
    /// assert_eq!(again.chain().leaf().scope(), grant.leaf().scope());
    /// assert_ne!(again.chain().leaf().id(), grant.leaf().id());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`PlaneError::Bus`] when it cannot listen.
    pub async fn keep_delegations(&self) -> Result<(), PlaneError> {
        let shared = &self.shared;
        let begin = || async {
            let failed = |error: String| PlaneError::Bus(error);
            let bus = shared.control.bus().await;
            let bus = bus.map_err(|error| failed(error.to_string()))?;
            let subject = remint_subject(&shared.prefix, &shared.identity.id);
            let raw = bus.subscribe(BusSubject::from(subject), None).await;
            let raw = raw.map_err(|error| failed(error.to_string()))?;
            let answer = answer_delegates(raw, bus.clone(), Arc::downgrade(shared));
            shared.tasks.spawn(answer);
            Ok(())
        };
        shared.minting.get_or_try_init(begin).await.map(drop)
    }

    /// Asks the agent that made the last link of a chain for the same delegation again: for as long
    /// again, and for this client's key. The chain is this agent's, under this key or one that was
    /// rotated since; what is returned is used with [`with`](Self::with).
    ///
    /// # Errors
    ///
    /// [`PlaneError`]: a root grant is [renewed](Self::renew_grant) by the service;
    /// [`PlaneError::TimedOut`] when the delegator does not [answer](Self::keep_delegations) or
    /// does not know the link, [`PlaneError::Refused`] when it does not give it again.
    pub async fn renew_delegation(&self, chain: &Chain) -> Result<Credential, PlaneError> {
        let shared = &self.shared;
        let place = Place::Chain;
        let reason = ChainBroken::Empty;
        let above = chain.links().iter().rev().nth(1);
        let giver = above.ok_or(Rejection::ChainBroken { place, reason })?;
        let giver = giver.holder();
        let (_, trust) = shared.moment()?;
        let certificate = trust.certificate(&giver);
        let agent = certificate
            .ok_or(Rejection::UnknownAgent { place })?
            .agent();
        let subject = remint_subject(&shared.prefix, agent);
        let request = ControlRequest::Regrant {
            chain: chain.bytes().clone(),
        };
        let answer = self.consult_at(&subject, Some(giver), &request, TIMEOUT);
        let ControlAnswer::Granted { chain: again } = answer.await? else {
            return Err(unexpected());
        };
        let (now, trust) = shared.moment()?;
        let scene = shared.scene(now, &trust);
        let key = &shared.identity.key;
        let credential = verify::accept_grant(&again, &giver, key, &scene, shared.skew)?;
        let leaf = credential.chain().leaf();
        if !chain.leaf().scope().allows(leaf.scope()) {
            let reason = ScopeExceeded::Widened;
            return Err(Rejection::ScopeExceeded { place, reason }.into());
        }
        let (old, new, until) = (chain.leaf().id(), leaf.id(), leaf.validity().until());
        let text = format!("{agent} gave link {new} for {old}, until {until}");
        shared.plane_notice(NOTICE_REMINTED, text);
        Ok(credential)
    }
}

impl Shared {
    /// Mints a link again; `None` when it is not known here, and some other process may know it.
    fn remint(
        self: &Arc<Self>,
        asker: &OpenedRequest,
    ) -> Option<Result<(Chain, ObjectId), EnrolRefused>> {
        let request = ControlRequest::parse(&asker.payload).ok()?;
        let ControlRequest::Regrant { chain } = request else {
            return Some(Err(EnrolRefused::Unsupported));
        };
        let link = Chain::parse(chain).ok()?.leaf().id();
        let mint = lock(&self.minted).0.get(&link).cloned()?;
        Some(
            self.mint_again(asker, link, &mint)
                .map(|chain| (chain, link)),
        )
    }

    fn mint_again(
        self: &Arc<Self>,
        asker: &OpenedRequest,
        link: ObjectId,
        mint: &Mint,
    ) -> Result<Chain, EnrolRefused> {
        let unable = |_| EnrolRefused::NoGrant;
        let (now, trust) = self.moment().map_err(unable)?;
        if asker.agent != mint.peer {
            return Err(EnrolRefused::NotYours);
        }
        if now >= mint.until {
            return Err(EnrolRefused::NoGrant);
        }
        if trust.revocations().has_link(&link) {
            return Err(EnrolRefused::Revoked);
        }
        let place = Place::Control;
        if trust.live_key(&mint.peer, now, self.skew, place) != Ok(asker.key) {
            return Err(EnrolRefused::NotCurrent);
        }
        // One's own authority, as it is now: nothing is handed on that is not held.
        let held = mint.backing.credential(self);
        let chain: &Chain = held.chain();
        let (scene, key) = (self.scene(now, &trust), &self.identity.key);
        let held = verify::accept_chain(chain.clone(), key, &scene, self.skew);
        let held = held.map_err(|rejection| match rejection {
            Rejection::Revoked { .. } => EnrolRefused::Revoked,
            _ => EnrolRefused::NoGrant,
        })?;
        let left = held.chain().leaf().validity().until().since(now);
        let terms = Terms {
            scope: mint.scope.clone(),
            ttl: mint.ttl.min(std::time::Duration::from_millis(left)),
            depth: mint.depth,
            now,
            skew: self.skew,
        };
        let chain = hand_on(&held, &mint.peer, terms, &trust).map_err(unable)?;
        let again = Mint {
            until: chain.leaf().validity().until(),
            ..mint.clone()
        };
        lock(&self.minted).keep(chain.leaf().id(), again, now);
        Ok(chain)
    }

    fn answer_delegate(
        self: &Arc<Self>,
        delivery: &Delivery,
        guard: &mut ReplayGuard,
    ) -> Option<Outgoing> {
        let (now, trust) = self.moment().ok()?;
        let moment = Moment {
            trust: &trust,
            now,
            skew: self.skew,
        };
        let reply = delivery.reply.as_ref().map(|reply| reply.as_str());
        let arrival = (delivery.subject.as_str(), reply);
        let key = self.identity.key();
        let opened = open_request(&delivery.payload, arrival, &key, &moment, guard).ok()?;
        let answer = match self.remint(&opened)? {
            Ok((chain, old)) => {
                let leaf = chain.leaf();
                let (new, until) = (leaf.id(), leaf.validity().until());
                let text = format!("{} got link {new} for {old}, until {until}", opened.agent);
                self.plane_notice(NOTICE_REMINTED, text);
                let chain = chain.bytes().clone();
                ControlAnswer::Granted { chain }
            }
            Err(reason) => {
                let text = format!("{} was refused a link again: {reason}", opened.agent);
                self.plane_notice(NOTICE_REMINTED, text);
                ControlAnswer::Refused(reason)
            }
        };
        let registered = trust.certificate(&key);
        let held = || self.standing.load().certificate_id;
        let sender = ControlSender {
            mesh: trust.mesh(),
            certificate: registered.map_or_else(held, |certificate| certificate.id()),
            key: &self.identity.key,
        };
        let mid = MessageId(random().ok()?);
        let sealed = sender.answer((mid, now), &opened, answer.encode()).ok()?;
        Some(Outgoing::new(opened.reply.as_str(), sealed.into_bytes()))
    }
}

async fn answer_delegates(mut raw: BusSubscriber, bus: Arc<dyn Bus>, shared: Weak<Shared>) {
    let rate = PerSecond::new(REQUESTS_PER_SECOND);
    let mut guard = None;
    while let Some(delivery) = raw.next().await {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if delivery.status.is_some() || !rate.take() {
            continue;
        }
        let guard = guard.get_or_insert_with(|| ReplayGuard::new(shared.skew, None));
        let Some(answer) = shared.answer_delegate(&delivery, guard) else {
            continue;
        };
        drop(shared);
        if let Err(error) = bus.publish(answer).await {
            tracing::debug!(%error, "a delegation that was minted again could not be sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_links_that_are_remembered_are_bounded() {
        let mint = |until: u64| Mint {
            peer: AgentId::parse("worker").unwrap(),
            scope: Scope::default(),
            ttl: std::time::Duration::from_secs(1),
            depth: 0,
            until: Timestamp::from_millis(until),
            backing: Backing::Own,
        };
        let link = |number: u64| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            ObjectId(id)
        };
        let (mut minted, full) = (Minted::default(), MINTED_HELD as u64);
        for number in 0..=full {
            minted.keep(link(number), mint(1_000 + number), Timestamp::default());
        }
        assert_eq!(minted.0.len(), MINTED_HELD);
        assert!(!minted.0.contains_key(&link(0)) && minted.0.contains_key(&link(full)));
        let later = Timestamp::from_millis(1_000 + full);
        minted.keep(link(full + 1), mint(9_000_000), later);
        assert_eq!(minted.0.len(), 1);
    }
}
