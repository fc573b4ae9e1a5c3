//! Who takes part, what each was granted, what policy allows, and how they reach the bus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use trustmesh::Client;
use trustmesh::Identity;
use trustmesh::Message;
use trustmesh::bus::Bus;
use trustmesh::bus::RequestErrorKind;
use trustmesh::client::Counters;
use trustmesh::client::Draft;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::scope::Scope;
use trustmesh::proto::trust::TrustState;
use trustmesh::services::authority::Authority;

use crate::Fault;
use crate::ledger::Ledger;
use crate::plane::Member;
use crate::plane::Plane;
use crate::stage::say;
use crate::venue::Venue;

/// The researchers, all members of one queue group.
pub const RESEARCHERS: [&str; 3] = ["researcher/1", "researcher/2", "researcher/3"];

/// Who keeps the books.
pub const AUDITOR: &str = "auditor";

/// Two real agents of the mesh, whose keys the adversary has.
pub const CONTRACTOR: &str = "contractor";
/// The other.
pub const ACCOMPLICE: &str = "accomplice";

/// Every agent and its root grant. Whoever serves may serve; only the planner may ask.
const GRANTS: [(&str, &[&str]); 9] = [
    (
        "planner",
        &["req:team.*", "req+delegate:tools.>", "req+delegate:store.>"],
    ),
    (RESEARCHERS[0], &["sub+serve:team.research"]),
    (RESEARCHERS[1], &["sub+serve:team.research"]),
    (RESEARCHERS[2], &["sub+serve:team.research"]),
    ("tools/summarise", &["sub+serve:tools.summarise.*"]),
    ("tools/reader", &["sub+serve:tools.read.*"]),
    ("writer", &["sub+serve:team.write"]),
    (
        "store",
        &["sub+serve:store.read.*", "sub+serve:store.write.*"],
    ),
    (AUDITOR, &["sub:trustmesh.audit.*"]),
];

/// Requests need a session and may come only so many hands down; nobody erases anything.
pub const POLICY: &str = r#"{
  "ttl": { "envelope_ms": 30000, "grant_ms": 86400000, "delegation_ms": 90000 },
  "rules": [
    { "name": "ask the team", "effect": "allow", "actions": ["req"],
      "subjects": "team.*", "session": true, "max_depth": 0 },
    { "name": "summarise", "effect": "allow", "actions": ["req"],
      "subjects": "tools.summarise.*", "session": true, "max_depth": 1 },
    { "name": "read for a tool", "effect": "allow", "actions": ["req"],
      "subjects": "tools.read.*", "session": true, "max_depth": 2 },
    { "name": "read", "effect": "allow", "actions": ["req"],
      "subjects": "store.read.*", "session": true, "max_depth": 3, "max_age_ms": 10000 },
    { "name": "write", "effect": "allow", "actions": ["req"],
      "subjects": "store.write.*", "session": true, "max_depth": 1,
      "rate": { "count": 10, "per_ms": 1000 } },
    { "name": "serve the team", "effect": "allow", "actions": ["sub", "serve"],
      "subjects": "team.*" },
    { "name": "serve tools", "effect": "allow", "actions": ["sub", "serve"],
      "subjects": "tools.>" },
    { "name": "serve files", "effect": "allow", "actions": ["sub", "serve"],
      "subjects": "store.>" },
    { "name": "audit", "effect": "allow", "actions": ["sub"],
      "subjects": "trustmesh.audit.*" },
    { "name": "nobody erases", "effect": "deny", "actions": ["pub", "req", "sub", "serve"],
      "subjects": "store.erase.>" }
  ]
}"#;

/// Who says what holds.
enum Mesh {
    /// An authority in this process, which everybody shares.
    Static(Box<Authority>),
    /// A verifier service on the bus, which everybody follows.
    Served(Plane),
}

/// The agents of the mesh, enrolled, and those who are connected.
pub struct Cast {
    mesh: Mesh,
    venue: Venue,
    identities: BTreeMap<&'static str, Identity>,
    members: BTreeMap<&'static str, Member>,
    connected: Mutex<BTreeMap<&'static str, Client>>,
    /// What clients counted that have left.
    left: Vec<(&'static str, Counters)>,
}

impl Cast {
    /// Enrols everyone in a development mesh.
    pub fn enrol() -> Result<Self, Fault> {
        let mut mesh = Authority::dev("swarm")?;
        mesh.set_policy(Policy::from_json(POLICY)?)?;
        let mut identities = BTreeMap::new();
        for (id, grant) in GRANTS {
            identities.insert(id, mesh.agent(id, grant)?);
            say(id, &format!("was granted {}", grant.join(", ")));
        }
        let mut cast = Self::new(Mesh::Static(Box::new(mesh)), Venue::of_this_run());
        cast.identities = identities;
        Ok(cast)
    }

    /// Starts a verifier service, by which the auditor joins: before all others, to see them come.
    pub async fn found() -> Result<Self, Fault> {
        let venue = Venue::of_this_run();
        let plane = Plane::start(&venue).await?;
        say("verifier", "serves the mesh");
        let mut cast = Self::new(Mesh::Served(plane), venue);
        cast.join(|id| id == AUDITOR).await?;
        Ok(cast)
    }

    /// Lets everyone else join who has not, in a mesh with a verifier service.
    pub async fn complete(&mut self) -> Result<(), Fault> {
        self.join(|id| id != AUDITOR).await
    }

    async fn join(&mut self, who: impl Fn(&str) -> bool) -> Result<(), Fault> {
        let Some(plane) = self.plane().cloned() else {
            return Ok(());
        };
        let bus = self.raw_bus().await?;
        let newcomers = || GRANTS.into_iter().filter(|(id, _)| who(id));
        for (id, grant) in newcomers() {
            let key = Arc::new(SigningKey::generate()?);
            let terms = (Scope::parse(grant)?, None);
            let member = plane.admit((id, key), terms, &*bus).await?;
            self.members.insert(id, member);
            let told = format!("joined by a token, granted {}", grant.join(", "));
            say(id, &told);
        }
        for (id, _) in newcomers() {
            let member = self.members.get(id).ok_or("not in the cast")?;
            self.identities.insert(id, member.follow(&*bus).await?);
        }
        let everyone = self.identities.values().map(Identity::key);
        let everyone: Vec<_> = everyone.collect();
        let known =
            |trust: &TrustState| everyone.iter().all(|key| trust.certificate(key).is_some());
        self.all_know("those who joined", known).await
    }

    fn new(mesh: Mesh, venue: Venue) -> Self {
        Self {
            mesh,
            venue,
            identities: BTreeMap::new(),
            members: BTreeMap::new(),
            connected: Mutex::default(),
            left: Vec::new(),
        }
    }

    /// The trust plane, when there is one.
    pub fn plane(&self) -> Option<&Plane> {
        match &self.mesh {
            Mesh::Static(_) => None,
            Mesh::Served(plane) => Some(plane),
        }
    }

    /// Enrols an agent whose key somebody else has too, perhaps with a grant of depth 1.
    pub async fn recruit(
        &mut self,
        id: &'static str,
        key: SigningKey,
        granted: &[&str],
    ) -> Result<Option<Chain>, Fault> {
        let (public, scope) = (key.public().bytes(), Scope::parse(granted)?);
        let plane = match &mut self.mesh {
            Mesh::Served(plane) => plane.clone(),
            Mesh::Static(mesh) => {
                mesh.enrol(&AgentId::parse(id)?, &key)?;
                let grant = || mesh.grant(&public, scope, 1, Duration::from_secs(3600));
                let grant = (!granted.is_empty()).then(grant).transpose()?;
                mesh.publish()?;
                return Ok(grant);
            }
        };
        let bus = self.raw_bus().await?;
        let member = plane
            .admit((id, Arc::new(key)), (scope, Some(1)), &*bus)
            .await?;
        let identity = member.follow(&*bus).await?;
        let grant = identity.grant().clone();
        self.identities.insert(id, identity);
        self.members.insert(id, member);
        self.all_know("a new agent", |trust| trust.certificate(&public).is_some())
            .await?;
        Ok(Some(grant))
    }

    /// An agent's client; the same one each time.
    pub async fn connect(&self, id: &'static str) -> Result<Client, Fault> {
        if let Some(client) = self.lock().get(id) {
            return Ok(client.clone());
        }
        let identity = self.identity(id)?.clone();
        let client = self.venue.enter(identity).await?;
        self.lock().insert(id, client.clone());
        Ok(client)
    }

    /// An agent's identity.
    pub fn identity(&self, id: &str) -> Result<&Identity, Fault> {
        Ok(self.identities.get(id).ok_or("not in the cast")?)
    }

    /// Everyone who was enrolled with a grant.
    pub fn ids(&self) -> Vec<&'static str> {
        self.identities.keys().copied().collect()
    }

    /// Gives an agent another key. Its client leaves; connecting again makes another.
    pub async fn rotate(&mut self, id: &'static str, ledger: &Ledger) -> Result<KeyBytes, Fault> {
        let key = SigningKey::generate()?;
        let public = key.public().bytes();
        let rotated = self.connect(id).await?.rotate(&key).await?;
        self.leave(id, ledger).await?;
        let member = self.members.get(id).ok_or("not in the cast")?;
        let member = member.rotated(key, rotated);
        self.all_know("a new key", |trust| trust.certificate(&public).is_some())
            .await?;
        let identity = member.follow(&*self.raw_bus().await?).await?;
        self.identities.insert(id, identity);
        self.members.insert(id, member);
        Ok(public)
    }

    /// An agent's client leaves, and everything it decided is in the ledger.
    pub async fn leave(&mut self, id: &'static str, ledger: &Ledger) -> Result<(), Fault> {
        let client = self.lock().remove(id).ok_or("not connected")?;
        client.drain().await?;
        let counters = client.counters();
        ledger.has_all_of(id, &counters).await?;
        self.left.push((id, counters));
        Ok(())
    }

    /// Waits until the trust state of everyone who is connected is as said.
    pub async fn all_know(
        &self,
        what: &str,
        known: impl Fn(&TrustState) -> bool,
    ) -> Result<(), Fault> {
        let deadline = Instant::now() + Duration::from_secs(20);
        for (id, client) in self.clients() {
            while !known(&client.trust()) {
                if Instant::now() > deadline {
                    return Err(format!("{id} should have learnt of {what}").into());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }

    /// A connection to the bus underneath, without any of this library's rules.
    pub async fn raw_bus(&self) -> Result<Box<dyn Bus>, Fault> {
        self.venue.raw_bus().await
    }

    /// Everyone who is connected.
    pub fn clients(&self) -> Vec<(&'static str, Client)> {
        self.lock()
            .iter()
            .map(|(id, client)| (*id, client.clone()))
            .collect()
    }

    /// What the clients of each agent counted, of those who are connected and those who left.
    pub fn counters(&self) -> BTreeMap<&'static str, Vec<Counters>> {
        let mut counters: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let present = self.clients().into_iter();
        let present = present.map(|(id, client)| (id, client.counters()));
        for (id, counted) in self.left.iter().cloned().chain(present) {
            counters.entry(id).or_default().push(counted);
        }
        counters
    }

    /// Closes every connection.
    pub async fn dismiss(&self) {
        for (id, client) in self.clients() {
            if let Err(error) = client.drain().await {
                say(id, &format!("could not drain: {error}"));
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Client>> {
        self.connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a request and returns the payload of its answer. A service that answers with an error
/// makes an error; one that does not listen yet is asked again.
pub async fn ask(draft: Draft) -> Result<Bytes, Fault> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let answer: Message = loop {
        match draft.clone().request().await {
            Err(error)
                if error.kind() == RequestErrorKind::NoResponders && Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other => break other?,
        }
    };
    let error = answer
        .headers
        .as_ref()
        .and_then(|h| h.get("Nats-Service-Error"));
    match error {
        Some(error) => Err(format!("{} answers: {error}", answer.sender()).into()),
        None => Ok(answer.payload),
    }
}
