//! One's own side of verification: what a receiver would refuse is refused before it is sent, and
//! a chain that was handed over is verified before it is used.

use std::sync::Arc;

use bytes::Bytes;

use super::Holders;
use super::Scene;
use crate::proto::chain::Chain;
use crate::proto::chain::Credential;
use crate::proto::chain::VerifiedChain;
use crate::proto::identity::KeyBytes;
use crate::proto::identity::SigningKey;
use crate::proto::names::MODE_SINGLE;
use crate::proto::policy::Approvals;
use crate::proto::policy::Request;
use crate::proto::rejection::ChainBroken;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::UntrustedRoot;
use crate::proto::replay::MessageId;
use crate::proto::scope::Action;
use crate::proto::scope::Need;
use crate::proto::scope::SubscribeNeed;
use crate::proto::signing::Budget;
use crate::proto::subject::Subject;
use crate::proto::subject::SubjectPattern;
use crate::proto::time::ClockSkew;
use crate::proto::trust::Purpose;

/// Checks that a credential may send: what every receiver would refuse is refused here.
///
/// # Errors
///
/// Why a receiver in the same trust state would refuse. Rates and sessions are the receiver's to
/// judge and are not looked at; whether policy asks for an approval is
/// [its](crate::proto::policy::Policy::asks_for_approval) word.
pub fn check_send(
    credential: &Credential,
    action: Action,
    subject: &Subject,
    audience: Option<&KeyBytes>,
    ttl_ms: u32,
    scene: &Scene<'_>,
    skew: ClockSkew,
) -> Result<(), Rejection> {
    let (trust, now, chain) = (scene.trust, scene.now, credential.chain());
    trust.check_fresh(now, skew, Purpose::of(action))?;
    let holders = Holders::look_up(chain, trust, now, skew)?;
    chain.check_validity(now, skew)?;
    trust
        .revocations()
        .check_chain(chain, holders.iter(), now)?;
    chain.check_covers(&Need {
        action,
        subject,
        audience,
    })?;
    trust.policy().check_lifetimes(chain)?;
    let request = Request {
        mid: MessageId([0; 16]),
        action,
        subject,
        mode: MODE_SINGLE,
        age_ms: 0,
        ttl_ms,
        depth: chain.depth(),
        score: holders.lowest_score(trust),
        session: true,
        approval: Approvals::Later,
    };
    trust.policy().permit(&request).map(drop)
}

/// Checks that a credential may subscribe.
///
/// # Errors
///
/// `ScopeExceeded` naming the link, `PolicyDenied`, or why the chain does not hold.
pub fn check_subscribe(
    credential: &Credential,
    pattern: &SubjectPattern,
    group: Option<&str>,
    scene: &Scene<'_>,
    skew: ClockSkew,
) -> Result<(), Rejection> {
    let (trust, now, chain) = (scene.trust, scene.now, credential.chain());
    trust.check_fresh(now, skew, Purpose::Publish)?;
    let holders = Holders::look_up(chain, trust, now, skew)?;
    chain.check_validity(now, skew)?;
    trust
        .revocations()
        .check_chain(chain, holders.iter(), now)?;
    chain.check_covers_subscription(&SubscribeNeed { pattern, group })?;
    trust.policy().check_lifetimes(chain)?;
    trust.policy().permit_subscription(pattern)
}

/// Verifies a chain that was handed over, and takes it into use with `key`.
///
/// # Errors
///
/// Why the chain does not hold now, or is not for this key.
pub fn accept_grant(
    bytes: &Bytes,
    from: &KeyBytes,
    key: &Arc<SigningKey>,
    scene: &Scene<'_>,
    skew: ClockSkew,
) -> Result<Credential, Rejection> {
    let chain = Chain::parse(Bytes::copy_from_slice(bytes))?;
    // The giver is the holder above the leaf: a chain that a stranger passes on is not a grant.
    let giver = chain.links().iter().rev().nth(1).map(|link| link.holder());
    if giver != Some(*from) {
        let place = Place::Hop(chain.depth());
        return Err(Rejection::ChainBroken {
            place,
            reason: ChainBroken::NotOurs,
        });
    }
    verify_for(Purpose::Authority, chain, scene, skew)?.hold(key.clone())
}

/// Verifies a chain of one's own, and takes it into use with `key`.
///
/// # Errors
///
/// Why the chain does not hold now, or is not for this key.
pub fn accept_chain(
    chain: Chain,
    key: &Arc<SigningKey>,
    scene: &Scene<'_>,
    skew: ClockSkew,
) -> Result<Credential, Rejection> {
    verify_chain(chain, scene, skew)?.hold(key.clone())
}

/// [`accept_chain`], to begin with what one has: what is done under it is asked again, by what it is.
pub(crate) fn begin_chain(
    chain: Chain,
    key: &Arc<SigningKey>,
    scene: &Scene<'_>,
    skew: ClockSkew,
) -> Result<Credential, Rejection> {
    verify_for(Purpose::Publish, chain, scene, skew)?.hold(key.clone())
}

/// [`accept_chain`], as it lies on disk: in a served mesh the trust state may be an old one. It is
/// accepted again before it is used.
pub(crate) fn load_chain(
    chain: Chain,
    key: &Arc<SigningKey>,
    scene: &Scene<'_>,
    skew: ClockSkew,
) -> Result<Credential, Rejection> {
    verify_for(Purpose::Loading, chain, scene, skew)?.hold(key.clone())
}

/// Verifies a chain by itself: signatures, windows, holders, lifetimes, revocation.
///
/// # Errors
///
/// Why the chain does not hold now.
pub fn verify_chain(
    chain: Chain,
    scene: &Scene<'_>,
    skew: ClockSkew,
) -> Result<VerifiedChain, Rejection> {
    verify_for(Purpose::Authority, chain, scene, skew)
}

fn verify_for(
    purpose: Purpose,
    chain: Chain,
    scene: &Scene<'_>,
    skew: ClockSkew,
) -> Result<VerifiedChain, Rejection> {
    let (trust, now) = (scene.trust, scene.now);
    if chain.mesh() != trust.mesh() {
        let (place, reason) = (Place::Chain, UntrustedRoot::OtherMesh);
        return Err(Rejection::UntrustedRoot { place, reason });
    }
    trust.check_fresh(now, skew, purpose)?;
    Holders::look_up(&chain, trust, now, skew)?;
    chain.check_validity(now, skew)?;
    trust.policy().check_lifetimes(&chain)?;
    let chain = chain.verify(&**trust, &mut Budget::message())?;
    let holders = Holders::look_up(&chain, trust, now, skew)?;
    trust
        .revocations()
        .check_chain(&chain, holders.iter(), now)?;
    Ok(chain)
}

/// Whether a chain that was handed over ends at this key. Looks at nothing else.
pub(crate) fn is_for(bytes: &Bytes, key: &KeyBytes) -> bool {
    Chain::parse(bytes.clone()).is_ok_and(|chain| chain.leaf().holder() == *key)
}
