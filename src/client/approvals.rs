//! Approvals of the chains a client acts under (protocol §10.8): kept until they end, and sent
//! along where policy asks for one.

use std::collections::HashMap;

use bytes::Bytes;

use super::Client;
use super::guards::lock;
use crate::error::Denied;
use crate::proto::approval::Approval;
use crate::proto::limits::APPROVALS_HELD;
use crate::proto::rejection::PolicyDenied;
use crate::proto::rejection::Rejection;
use crate::proto::scope::Action;
use crate::proto::signing::ObjectId;
use crate::proto::subject::Subject;
use crate::proto::time::Timestamp;
use crate::proto::verify::Scene;

/// The approvals of one client, by the leaf of their chain.
#[derive(Debug, Default)]
pub(crate) struct Approvals(HashMap<ObjectId, Held>);

#[derive(Debug)]
struct Held {
    bytes: Bytes,
    approval: Approval,
}

impl Held {
    fn until(&self) -> Timestamp {
        self.approval.claims().validity.until()
    }
}

impl Approvals {
    /// Takes one in. A chain has one: the one that came last.
    fn keep(&mut self, held: Held) {
        let leaf = held.approval.claims().leaf;
        if self.0.len() >= APPROVALS_HELD && !self.0.contains_key(&leaf) {
            let first = self.0.iter().min_by_key(|(_, held)| held.until());
            if let Some(first) = first.map(|(leaf, _)| *leaf) {
                self.0.remove(&first);
            }
        }
        self.0.insert(leaf, held);
    }
}

impl Client {
    /// Takes an approval of a chain of this agent, as
    /// [`Authority::approve`](crate::services::authority::Authority::approve) makes it. All clones
    /// of this client send it along with messages under that chain that need one by the policy they
    /// know; a later approval of the same chain replaces it.
    ///
    /// # Errors
    ///
    /// [`Denied`] when it is none, is of another mesh, no registrar signed it, it is over, or was
    /// given under another policy. Nothing is kept then.
    pub fn approved(&self, approval: Bytes) -> Result<(), Denied> {
        let (now, trust) = self.shared.moment()?;
        // A copy, so that it does not keep a message it came with alive.
        let bytes = Bytes::copy_from_slice(&approval);
        let approval = Approval::open(&bytes, &trust)?;
        approval.check_now(&trust, now, self.shared.skew)?;
        lock(&self.shared.approvals).keep(Held { bytes, approval });
        Ok(())
    }

    /// What a message has to carry: nothing, or an approval that every receiver in this trust state
    /// honours.
    pub(crate) fn approval_for(
        &self,
        action: Action,
        duty: &Subject,
        scene: &Scene<'_>,
    ) -> Result<Option<Bytes>, Rejection> {
        if scene
            .trust
            .policy()
            .asks_for_approval(action, duty)
            .is_none()
        {
            return Ok(None);
        }
        let credential = self.credential();
        let (chain, skew) = (credential.chain(), self.shared.skew);
        let approvals = lock(&self.shared.approvals);
        let held = approvals.0.get(&chain.leaf().id()).filter(|held| {
            held.approval
                .check(chain, scene.trust, scene.now, skew)
                .is_ok()
        });
        match held {
            Some(held) => Ok(Some(held.bytes.clone())),
            None => Err(Rejection::PolicyDenied {
                reason: PolicyDenied::NotApproved,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::clock::Clock as _;
    use crate::client::clock::SystemClock;
    use crate::proto::approval::ApprovalClaims;
    use crate::proto::approval::UnverifiedApproval;
    use crate::proto::identity::SigningKey;
    use crate::proto::signing::MeshId;
    use crate::proto::time::Validity;

    fn held(number: u64, until: Timestamp) -> Held {
        let key = SigningKey::from_seed(&[9; 32]).unwrap();
        let mut leaf = [0; 32];
        leaf[..8].copy_from_slice(&number.to_be_bytes());
        let claims = ApprovalClaims {
            mesh: MeshId([1; 16]),
            leaf: ObjectId(leaf),
            chain: ObjectId(leaf),
            epochs: Default::default(),
            validity: Validity::new(until.minus(1_000), until).unwrap(),
        };
        let bytes = UnverifiedApproval::sign(&claims, (0, &key)).unwrap();
        let approval = UnverifiedApproval::parse(&bytes).unwrap();
        let approval = approval.verify(claims.mesh, &[key.public()]).unwrap();
        Held { bytes, approval }
    }

    #[test]
    fn the_approvals_a_client_keeps_are_bounded_and_the_first_to_end_goes() {
        let now = SystemClock::new().now().unwrap();
        let mut approvals = Approvals::default();
        for number in 0..=APPROVALS_HELD as u64 {
            approvals.keep(held(number, now.plus(10_000 - number)));
        }
        assert_eq!(approvals.0.len(), APPROVALS_HELD);
        let last = held(APPROVALS_HELD as u64, now).approval.claims().leaf;
        let first_to_end = held(APPROVALS_HELD as u64 - 1, now).approval.claims().leaf;
        assert!(approvals.0.contains_key(&last));
        assert!(!approvals.0.contains_key(&first_to_end));
    }
}
