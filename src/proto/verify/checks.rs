//! The checks themselves, in their one order. They change nothing but the chain cache.

use std::cell::OnceCell;
use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use quick_cache::sync::Cache;

use super::Holders;
use super::Pending;
use super::Requester;
use super::Scene;
use super::asker::Asker;
use super::asker::in_inbox_of;
use super::asker::unexpected;
use super::batches::Batches;
use super::shares::Shares;
use crate::proto::approval::Approval;
use crate::proto::audit::HeaderFacts;
use crate::proto::chain::Anchors;
use crate::proto::chain::Chain;
use crate::proto::chain::LEAF_MISMATCH;
use crate::proto::chain::VerifiedChain;
use crate::proto::envelope::Auth;
use crate::proto::envelope::Claims;
use crate::proto::envelope::Content;
use crate::proto::envelope::UnverifiedEnvelope;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::identity::PublicKey;
use crate::proto::limits::APPROVAL_CACHE;
use crate::proto::limits::CHAIN_CACHE;
use crate::proto::limits::CHAIN_SHARE;
use crate::proto::names::Tag;
use crate::proto::policy::Approvals;
use crate::proto::policy::Permitted;
use crate::proto::policy::Request;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::SubjectMismatch;
use crate::proto::rejection::UnexpectedReply;
use crate::proto::rejection::UntrustedRoot;
use crate::proto::replay::Sighting;
use crate::proto::revocation::NotRevoked;
use crate::proto::scope::Need;
use crate::proto::signing::Authentic;
use crate::proto::signing::Budget;
use crate::proto::signing::ObjectId;
use crate::proto::subject::Subject;
use crate::proto::time::ClockSkew;
use crate::proto::trust::Purpose;
use crate::proto::trust::TrustState;

/// The checks, and the chains they have met.
#[derive(Debug)]
pub(super) struct Checks {
    pub(super) skew: ClockSkew,
    /// Chains whose signatures verified, by the id of their last link. One is met again only in the
    /// very same bytes.
    chains: Shares<VerifiedChain>,
    /// Batches whose signature verified.
    batches: Batches,
    /// Approvals whose signature verified, by all their bytes.
    approvals: Cache<ObjectId, Arc<Approval>>,
}

/// What has been found out about a message by the time it is accepted or refused.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What the header says, once it was decoded.
    pub(super) header: Option<HeaderFacts>,
    /// Whether the sender's signature verified.
    pub(super) authentic: bool,
    /// The chain, once all its signatures verified.
    pub(super) chain: Option<VerifiedChain>,
}

impl Checks {
    pub(super) fn new(skew: ClockSkew) -> Self {
        Self {
            skew,
            chains: Shares::new(CHAIN_CACHE, CHAIN_SHARE),
            batches: Batches::new(),
            approvals: Cache::new(APPROVAL_CACHE),
        }
    }

    /// Checks a message, whoever asks.
    pub(super) fn check(
        &self,
        frame: &Bytes,
        asker: &impl Asker,
        scene: &Scene<'_>,
        found: &mut Found,
    ) -> Result<Checked, Failure> {
        let (trust, now) = (scene.trust, scene.now);
        let UnverifiedEnvelope {
            claims,
            header,
            auth,
            chain,
            content,
        } = UnverifiedEnvelope::parse(frame)?;
        let facts = found.header.insert(HeaderFacts::of(&claims, &header));
        let id = facts.object;
        if claims.mesh != trust.mesh() {
            let (place, reason) = (Place::Header, UntrustedRoot::OtherMesh);
            return Err(Rejection::UntrustedRoot { place, reason }.into());
        }
        let duty = asker.check_route(&claims)?;
        claims.check_time(now, self.skew)?;
        trust.check_fresh(now, self.skew, Purpose::of(claims.action))?;
        asker.check_own(&claims, scene, self.skew)?;

        let mut budget = Budget::message();
        let known = self.find_chain(&chain, &claims.leaf)?;
        let chain = known.chain();
        if chain.leaf().id() != claims.leaf {
            return Err(LEAF_MISMATCH.into());
        }
        let sender_key = chain.leaf().holder();
        facts.sender = Some(sender_key);
        check_responder(asker.request(), &sender_key)?;
        let holders = Holders::look_up(chain, trust, now, self.skew)?;
        asker.admits(&sender_key)?;
        if claims
            .reply
            .as_ref()
            .is_some_and(|reply| !in_inbox_of(reply, &sender_key))
        {
            let reason = SubjectMismatch::ReplyNotOwnInbox;
            return Err(Rejection::SubjectMismatch { reason }.into());
        }
        chain.check_validity(now, self.skew)?;
        let (chain, is_new) = known.verify(trust, &mut budget)?;
        found.chain = Some(chain.clone());
        let not_revoked = trust
            .revocations()
            .check_chain(&chain, holders.iter(), now)?;

        let sighting = Sighting {
            sender: sender_key,
            mid: claims.mid,
            issued: claims.issued,
            ttl_ms: claims.ttl_ms,
        };
        asker.look_up(&sighting)?;
        let sender = holders.leaf();
        let key = sender.key();
        let authentic = self.authenticate(claims, &header, &auth, key, &mut budget)?;
        found.authentic = true;
        if is_new {
            // Only chains that came with an authentic message are worth remembering.
            self.chains
                .insert(&sender_key, chain.leaf().id(), chain.clone());
        }
        let mut permitted = || -> Result<_, Rejection> {
            let claims = authentic.claims();
            let content = Content::open(&content, claims)?;
            let (permitted, approval) =
                self.authorize(claims, &duty, &chain, &holders, scene, &mut budget)?;
            Ok((content, permitted, approval))
        };
        let (content, permitted, approval) = permitted().map_err(|rejection| Failure {
            rejection,
            requester: Requester::of(&authentic, id, sender_key),
        })?;
        Ok(Checked {
            id,
            sender: sender.agent().clone(),
            chain,
            not_revoked,
            authentic,
            content,
            permitted,
            approval,
            sighting,
        })
    }

    /// Checks that the sender's key signed the header, by itself or in a batch. A batch met before
    /// skips its signature, and what was hashed before, and nothing else.
    fn authenticate(
        &self,
        claims: Claims,
        header: &Bytes,
        auth: &Auth,
        key: &PublicKey,
        budget: &mut Budget,
    ) -> Result<Authentic<Claims>, Rejection> {
        match auth {
            Auth::Single(signature) => {
                let place = Place::Header;
                budget.spend_signature(place)?;
                Authentic::check(Tag::Envelope, header, claims, key, signature, place)
            }
            Auth::Batch(proof) => {
                let sender = key.bytes();
                proof.check_signer(claims.mesh, &sender)?;
                if let Some(known) = self.batches.get(proof) {
                    let root = known.root_of(proof, header)?;
                    return Authentic::in_batch(known.batch(), &root, claims);
                }
                // Before the signature: what does not stand in the batch costs none.
                let root = proof.root_of(header)?;
                budget.spend_signature(Place::Batch)?;
                let batch = proof.authenticate(key)?;
                let authentic = Authentic::in_batch(&batch, &root, claims)?;
                self.batches.insert(&sender, proof, batch, header);
                Ok(authentic)
            }
        }
    }

    /// Comparing a kibibyte costs a hundredth of hashing it.
    fn find_chain(&self, bytes: &Bytes, leaf: &ObjectId) -> Result<Known, Rejection> {
        if let Some(chain) = self.chains.get(leaf)
            && chain.bytes() == bytes
        {
            return Ok(Known::Before(chain));
        }
        let digest = Chain::digest_of(bytes)?;
        // A copy, so that a cached chain does not keep the message it came with alive.
        let bytes = Bytes::copy_from_slice(bytes);
        Chain::parse_with_digest(bytes, digest).map(|chain| Known::New(Box::new(chain)))
    }

    fn authorize(
        &self,
        claims: &Claims,
        duty: &Subject,
        chain: &VerifiedChain,
        holders: &Holders<'_>,
        scene: &Scene<'_>,
        budget: &mut Budget,
    ) -> Result<(Permitted, Option<Arc<Approval>>), Rejection> {
        let need = Need {
            action: claims.action,
            subject: duty,
            audience: claims.audience.as_ref(),
        };
        chain.check_covers(&need)?;
        let policy = scene.trust.policy();
        policy.check_lifetimes(chain)?;
        let (approval, budget) = (OnceCell::new(), RefCell::new(budget));
        let approved = || {
            let found = self.find_approval(claims, &mut budget.borrow_mut(), scene);
            let skew = self.skew;
            let found = found.filter(|a| a.check(chain, scene.trust, scene.now, skew).is_ok());
            found.is_some_and(|found| approval.set(found).is_ok())
        };
        let permitted = policy.permit(&Request {
            mid: claims.mid,
            action: claims.action,
            subject: duty,
            mode: claims.mode,
            age_ms: scene.now.since(claims.issued),
            ttl_ms: claims.ttl_ms,
            depth: chain.depth(),
            score: holders.lowest_score(scene.trust),
            session: scene.sessions.has(&chain.leaf().holder(), scene.now),
            approval: Approvals::Ask(&approved),
        })?;
        Ok((permitted, approval.into_inner()))
    }

    /// The approval a header carries, authentic. One met before skips its signature and nothing
    /// else.
    fn find_approval(
        &self,
        claims: &Claims,
        budget: &mut Budget,
        scene: &Scene<'_>,
    ) -> Option<Arc<Approval>> {
        let bytes = claims.extensions.approval.as_ref()?;
        let digest = Tag::Approval.digest(bytes);
        if let Some(approval) = self.approvals.get(&digest) {
            return Some(approval);
        }
        budget.spend_signature(Place::Approval).ok()?;
        let approval = Arc::new(Approval::open(bytes, scene.trust).ok()?);
        self.approvals.insert(digest, approval.clone());
        Some(approval)
    }
}

/// Checks that a request meant for one key is answered by that key, whoever else may serve.
fn check_responder(request: Option<&Pending>, sender: &KeyBytes) -> Result<(), Rejection> {
    let meant_for = request.and_then(|pending| pending.audience);
    if meant_for.is_some_and(|audience| audience != *sender) {
        return unexpected(UnexpectedReply::OtherResponder);
    }
    Ok(())
}

/// A chain on its way to being verified.
enum Known {
    Before(VerifiedChain),
    New(Box<Chain>),
}

impl Known {
    fn chain(&self) -> &Chain {
        match self {
            Self::Before(chain) => chain,
            Self::New(chain) => chain,
        }
    }

    /// Checks the signatures, unless they were checked before; says whether the chain is new.
    fn verify(
        self,
        trust: &TrustState,
        budget: &mut Budget,
    ) -> Result<(VerifiedChain, bool), Rejection> {
        match self {
            Self::Before(chain) => {
                // The issuer may have lost its role since.
                if Anchors::issuer(trust, &chain.issuer()).is_none() {
                    let (place, reason) = (Place::Issuer, UntrustedRoot::NotIssuer);
                    return Err(Rejection::UntrustedRoot { place, reason });
                }
                Ok((chain, false))
            }
            Self::New(chain) => chain.verify(trust, budget).map(|chain| (chain, true)),
        }
    }
}

/// A refusal on its way to becoming a verdict.
pub(super) struct Failure {
    pub(super) rejection: Rejection,
    pub(super) requester: Option<Box<Requester>>,
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self {
            rejection,
            requester: None,
        }
    }
}

/// The evidence gathered by the pure part.
pub(super) struct Checked {
    pub(super) id: ObjectId,
    pub(super) sender: AgentId,
    pub(super) chain: VerifiedChain,
    pub(super) not_revoked: NotRevoked,
    pub(super) authentic: Authentic<Claims>,
    pub(super) content: Content,
    pub(super) permitted: Permitted,
    /// The approval the permission rests on, where policy asks for one.
    pub(super) approval: Option<Arc<Approval>>,
    pub(super) sighting: Sighting,
}
