//! The trust plane of the swarm: a verifier service on the bus, by which everybody joins, and which
//! changes what holds while they work.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use serde_json::json;
use trustmesh::Client;
use trustmesh::Identity;
use trustmesh::bus::Bus;
use trustmesh::client::clock::SystemClock;
use trustmesh::client::enrol::Enrolled;
use trustmesh::client::enrol::Enrolment;
use trustmesh::client::join::fetch_root;
use trustmesh::client::plane::Rotated;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::scope::Scope;
use trustmesh::proto::trust::Admission;
use trustmesh::services::authority::Authority;
use trustmesh::services::authority::JoinTerms;
use trustmesh::services::verifier::VerifierOptions;
use trustmesh::services::verifier::VerifierService;

use crate::Fault;
use crate::cast::POLICY;
use crate::venue::Venue;

/// How long a key works after it was rotated away. Ten minutes are the default; nobody waits as
/// long for the end of a play.
const GRACE: Duration = Duration::from_secs(3);

/// The score below which nobody's hand may be in a request to read.
const LEAST: u16 = 450;

/// The verifier service of this run. Clones are the same one.
#[derive(Clone)]
pub struct Plane {
    service: Arc<VerifierService>,
}

impl Plane {
    /// Founds a served mesh for development and starts its service.
    pub async fn start(venue: &Venue) -> Result<Self, Fault> {
        let clock = Arc::new(SystemClock::new());
        let mut mesh = Authority::served_with_clock("swarm", true, clock)?;
        mesh.set_policy(guarded_policy()?)?;
        let identity = mesh.verifier(Arc::new(SigningKey::generate()?))?;
        let mut settings = VerifierOptions::default();
        settings.rotation_grace = GRACE;
        let service = venue.serve(mesh, identity, settings).await?;
        let service = Arc::new(service);
        Ok(Self { service })
    }

    /// An operator's change of the books. It is published when this returns.
    pub async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Authority) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let changed = self.service.change(change).await;
        let changed = changed.ok_or("the verifier service has ended")?;
        Ok(changed.in_force()?)
    }

    /// Enrols a key: the operator makes a join token, and all else goes over the bus. Who joins
    /// knows the token and the bus, and nothing more.
    pub async fn admit(
        &self,
        (id, key): (&str, Arc<SigningKey>),
        (scope, depth): (Scope, Option<u8>),
        bus: &dyn Bus,
    ) -> Result<Member, Fault> {
        let mut terms = JoinTerms::new(scope).agent(AgentId::parse(id)?);
        terms.depth = depth.unwrap_or(terms.depth);
        let token = self.change(move |mesh| mesh.join_token(&terms)).await??;
        let root = fetch_root(&token, bus).await?;
        let enrolled = Enrolment::new(token, root.clone()).join(bus, key).await?;
        Ok(Member { enrolled, root })
    }

    /// Has the chain under which `client` acts approved, and keeps the approval with it.
    pub async fn present(&self, client: &Client) -> Result<(), Fault> {
        let chain = client.credential().chain().clone();
        let approval = self.change(move |mesh| mesh.approve(&chain)).await??;
        Ok(client.approved(approval)?)
    }
}

/// An agent that was enrolled, with the trust root that its join token pins.
#[derive(Clone)]
pub struct Member {
    enrolled: Enrolled,
    root: Bytes,
}

impl Member {
    /// The same agent after a rotation.
    pub fn rotated(&self, key: SigningKey, rotated: Rotated) -> Self {
        let enrolled = Enrolled {
            key: Arc::new(key),
            certificate: rotated.certificate,
            grant: rotated.grant,
            ..self.enrolled.clone()
        };
        let root = self.root.clone();
        Self { enrolled, root }
    }

    /// An identity that follows the mesh's trust state on the bus.
    pub async fn follow(&self, bus: &dyn Bus) -> Result<Identity, Fault> {
        // The keys of its roles lie together in this process.
        let admission = Admission::DangerDevelopment;
        let (enrolled, root) = (self.enrolled.clone(), self.root.clone());
        Ok(enrolled.follow(root, admission, bus).await?)
    }
}

/// The swarm's policy, with a score asked of everybody in whose name something is read.
fn guarded_policy() -> Result<Policy, Fault> {
    policy(|_| ())
}

/// The same, and what is written needs an approval of the chain it is written under.
pub fn stricter_policy() -> Result<Policy, Fault> {
    policy(|policy| {
        policy["approval"] = json!([{ "subjects": "store.write.*", "actions": ["req"] }]);
    })
}

fn policy(amend: impl FnOnce(&mut Value)) -> Result<Policy, Fault> {
    let mut policy: Value = serde_json::from_str(POLICY)?;
    let rules = policy["rules"].as_array_mut().ok_or("no rules")?;
    let read = rules.iter_mut().find(|rule| rule["name"] == "read");
    read.ok_or("no rule for reading")?["min_score"] = LEAST.into();
    amend(&mut policy);
    Ok(Policy::from_json(&policy.to_string())?)
}
