//! The verified message.

use std::sync::Arc;

use bytes::Bytes;

use super::Holders;
use super::Scene;
use super::checks::Checked;
use crate::proto::approval::Approval;
use crate::proto::chain::VerifiedChain;
use crate::proto::envelope::Claims;
use crate::proto::envelope::Content;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::policy::Approvals;
use crate::proto::policy::Permitted;
use crate::proto::policy::Request;
use crate::proto::rejection::Internal;
use crate::proto::rejection::Rejection;
use crate::proto::replay::Fresh;
use crate::proto::revocation::NotRevoked;
use crate::proto::scope::Action;
use crate::proto::signing::ObjectId;
use crate::proto::time::ClockSkew;
use crate::proto::trust::Purpose;

/// A verified message: what handlers get, and all they get.
///
/// Holding one tells you that, at the instant it was decided and in one trust state,
///
/// - the named sender signed exactly these claims, and they commit to this content;
/// - an issuer of the mesh granted, and every holder in between handed on, authority that covers
///   this action on this subject, at every link;
/// - no link, key or holder was revoked, blocked, unknown or expired;
/// - policy permitted it, and a registrar had approved the chain where policy asks for that;
/// - this receiver had not accepted it before;
/// - and an audit event says so.
///
/// It cannot be made in any other way:
///
/// ```compile_fail
/// use trustmesh::proto::verify::VerifiedEnvelope;
///
/// fn forge(claims: trustmesh::proto::envelope::Claims) -> VerifiedEnvelope {
///     VerifiedEnvelope { claims } // private fields, and no constructor
/// }
/// ```
///
/// nor can a verdict be opened without an audit slot:
///
/// ```compile_fail
/// use trustmesh::proto::verify::Verdict;
/// use trustmesh::proto::verify::VerifiedEnvelope;
///
/// fn peek(verdict: Verdict) -> VerifiedEnvelope {
///     verdict.outcome.unwrap()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct VerifiedEnvelope {
    claims: Claims,
    id: ObjectId,
    sender: AgentId,
    chain: VerifiedChain,
    approval: Option<Arc<Approval>>,
    content: Content,
}

impl VerifiedEnvelope {
    /// Puts the evidence together, all five pieces by value. Each names what it is evidence for,
    /// and they must agree.
    pub(super) fn assemble(checked: Checked, fresh: Fresh) -> Result<Self, Rejection> {
        let Checked {
            id,
            sender,
            chain,
            not_revoked,
            authentic,
            content,
            permitted,
            approval,
            ..
        } = checked;
        let claims = authentic.claims().clone();
        let agree = fresh.mid() == claims.mid
            && permitted.mid() == claims.mid
            && not_revoked.chain() == chain.digest()
            && chain.leaf().id() == claims.leaf;
        if !agree {
            return Err(Rejection::Internal {
                reason: Internal::Handler,
            });
        }
        Ok(Self {
            claims,
            id,
            sender,
            chain,
            approval,
            content,
        })
    }

    /// What the sender signed.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The object id: what an answer names.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// The sender.
    pub fn sender(&self) -> &AgentId {
        &self.sender
    }

    /// The sender's key.
    pub fn sender_key(&self) -> KeyBytes {
        self.chain.leaf().holder()
    }

    /// The chain the message was sent under.
    pub fn chain(&self) -> &VerifiedChain {
        &self.chain
    }

    /// The approval of the chain that policy asked for; `None` where it asked for none.
    pub fn approval(&self) -> Option<&Approval> {
        self.approval.as_deref()
    }

    /// The payload, a slice of the received buffer.
    pub fn payload(&self) -> &Bytes {
        &self.content.payload
    }

    /// The application headers, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.content.headers()
    }

    /// The chains that were handed over with the message. They have not been verified.
    pub fn grants(&self) -> &[Bytes] {
        &self.content.grants
    }

    /// Checks again, right before a handler starts, what time and trust state can have changed.
    ///
    /// # Errors
    ///
    /// Why the message would be refused now.
    pub fn recheck(&self, scene: &Scene<'_>, skew: ClockSkew) -> Result<(), Rejection> {
        let approval = self.approval.as_deref();
        still_holds(&self.claims, &self.chain, approval, scene, skew).map(drop)
    }
}

/// Whether a chain is approved now. What came with the message is opened where policy did not ask
/// for it before.
fn is_approved(
    claims: &Claims,
    chain: &VerifiedChain,
    approval: Option<&Approval>,
    scene: &Scene<'_>,
    skew: ClockSkew,
) -> bool {
    let counts = |approval: &Approval| approval.check(chain, scene.trust, scene.now, skew).is_ok();
    match (approval, &claims.extensions.approval) {
        (Some(approval), _) => counts(approval),
        (None, Some(bytes)) => {
            Approval::open(bytes, scene.trust).is_ok_and(|approval| counts(&approval))
        }
        (None, None) => false,
    }
}

/// Checks what time and trust state can have changed about a message, and renews the evidence for
/// it. An answer has no new permission: it was permitted on the subject of its request, which it
/// does not name.
pub(super) fn still_holds(
    claims: &Claims,
    chain: &VerifiedChain,
    approval: Option<&Approval>,
    scene: &Scene<'_>,
    skew: ClockSkew,
) -> Result<(NotRevoked, Option<Permitted>), Rejection> {
    let (trust, now) = (scene.trust, scene.now);
    trust.check_fresh(now, skew, Purpose::of(claims.action))?;
    claims.check_time(now, skew)?;
    let holders = Holders::look_up(chain, trust, now, skew)?;
    chain.check_validity(now, skew)?;
    let not_revoked = trust
        .revocations()
        .check_chain(chain, holders.iter(), now)?;
    if claims.action == Action::Serve {
        return Ok((not_revoked, None));
    }
    let policy = trust.policy();
    policy.check_lifetimes(chain)?;
    let approved = || is_approved(claims, chain, approval, scene, skew);
    let permitted = policy.permit(&Request {
        mid: claims.mid,
        action: claims.action,
        subject: &claims.subject,
        mode: claims.mode,
        age_ms: now.since(claims.issued),
        ttl_ms: claims.ttl_ms,
        depth: chain.depth(),
        score: holders.lowest_score(trust),
        session: scene.sessions.has(&chain.leaf().holder(), now),
        approval: Approvals::Ask(&approved),
    })?;
    Ok((not_revoked, Some(permitted)))
}
