//! Approvals of the chains a client acts under (protocol §10.8): asked for, kept until they end,
//! and sent along where policy asks for one.

use std::collections::HashMap;
use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Client;
use super::guards::lock;
use super::plane::PlaneError;
use super::plane::TIMEOUT;
use super::plane::unexpected;
use crate::bus::RequestError;
use crate::error::Denied;
use crate::proto::approval::Approval;
use crate::proto::limits::APPROVALS_HELD;
use crate::proto::rejection::ChainBroken;
use crate::proto::rejection::Place;
use crate::proto::rejection::PolicyDenied;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::StaleState;
use crate::proto::request::ControlAnswer;
use crate::proto::request::ControlRequest;
use crate::proto::request::Verb;
use crate::proto::scope::Action;
use crate::proto::signing::ObjectId;
use crate::proto::subject::Subject;
use crate::proto::time::Timestamp;
use crate::proto::verify::Scene;

/// How often an approval under a policy that this client does not have yet is tried again: its own
/// trust state is on its way.
const POLICY_COMES: Duration = Duration::from_millis(50);

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

    /// Presents this client's chain to the verifier service, its own or that of
    /// [`with`](Self::with), and [takes](Self::approved) the approval, which is returned with its
    /// end.
    ///
    /// Requests whose approval is missing do it by themselves, once and within their timeout.
    /// Publishing does not: an approval that is needed is asked for before.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use trustmesh::ConnectOptions;
    /// # use trustmesh::bus::memory::MemoryBus;
    /// # use trustmesh::proto::identity::SigningKey;
    /// use trustmesh::proto::policy::Policy;
    /// use trustmesh::services::authority::Authority;
    /// # use trustmesh::services::verifier::{InProcess, VerifierOptions, VerifierService};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut mesh = Authority::dev("demo")?;
    /// mesh.set_policy(Policy::from_json(
    ///     r#"{ "rules": [ { "name": "pay", "effect": "allow", "actions": ["pub", "sub"],
    ///                       "subjects": "payments.>" } ],
    ///          "approval": [ { "subjects": "payments.>", "actions": ["pub"] } ] }"#,
    /// )?)?;
    /// let clerk = mesh.agent("clerk", ["pub:payments.>"])?;
    /// # let options = ConnectOptions::new(mesh.verifier(Arc::new(SigningKey::generate()?))?);
    /// # let (bus, settings) = (MemoryBus::new(), VerifierOptions::default());
    /// # let service = VerifierService::start(mesh, options, bus.connect(), InProcess, settings);
    /// # let _service = service.await?;
    /// let clerk = ConnectOptions::new(clerk).connect_bus(bus.connect()).await?;
    /// assert!(clerk.publish("payments.new", "1".into()).await.is_err());
    ///
    /// clerk.present().await?;
    /// clerk.publish("payments.new", "1".into()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`PlaneError`]: the service found that a receiver would refuse the chain, or there is none
    /// that answers.
    pub async fn present(&self) -> Result<Timestamp, PlaneError> {
        let deadline = Instant::now() + TIMEOUT;
        let credential = self.credential();
        let chain = credential.chain();
        if credential.key().public() != self.shared.identity.key.public() {
            let (place, reason) = (Place::Chain, ChainBroken::NotOurs);
            return Err(Rejection::ChainBroken { place, reason }.into());
        }
        let chain = chain.bytes().clone();
        let request = ControlRequest::Approve { chain };
        let answer = self.consult(Verb::Approve, &request, TIMEOUT).await?;
        let ControlAnswer::Data(approval) = answer else {
            return Err(unexpected());
        };
        loop {
            match self.approved(approval.clone()) {
                Ok(()) => break,
                // Given under a policy that was published a moment ago.
                Err(Denied(Rejection::StaleState {
                    reason: StaleState::Policy,
                })) if Instant::now() < deadline => {
                    if let Some(feed) = &self.shared.identity.feed {
                        feed.hint();
                    }
                    tokio::time::sleep(POLICY_COMES).await;
                }
                Err(Denied(rejection)) => return Err(rejection.into()),
            }
        }
        let until = self.held_until().ok_or_else(unexpected)?;
        let leaf = credential.chain().leaf().id();
        let text = format!("chain {leaf} is approved until {until}");
        self.shared.plane_notice("approved", text);
        Ok(until)
    }

    /// Gets the approval that a request lacks, from the service, before the deadline. Says whether
    /// there is one now.
    pub(crate) async fn get_approved(&self, deadline: Option<Instant>) -> bool {
        let Ok((now, trust)) = self.shared.moment() else {
            return false;
        };
        if self.shared.service_key(&trust, now).is_err() {
            return false;
        }
        let before = self.held_until();
        let present = async {
            // Of many requests that wait, one presents the chain.
            let _one = self.shared.presenting.lock().await;
            self.held_until() != before || self.present().await.is_ok()
        };
        let deadline = deadline.unwrap_or_else(|| Instant::now() + TIMEOUT);
        tokio::time::timeout_at(deadline, present)
            .await
            .unwrap_or(false)
    }

    /// Until when the approval of this client's chain lasts, if there is one.
    fn held_until(&self) -> Option<Timestamp> {
        let leaf = self.credential().chain().leaf().id();
        let approvals = lock(&self.shared.approvals);
        approvals.0.get(&leaf).map(Held::until)
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

/// Whether a request was not sent for want of an approval.
pub(crate) fn lacks_approval(error: &RequestError) -> bool {
    let denied = error.source().and_then(|source| source.downcast_ref());
    matches!(
        denied,
        Some(Denied(Rejection::PolicyDenied {
            reason: PolicyDenied::NotApproved
        }))
    )
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
