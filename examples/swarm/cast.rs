//! Who takes part, what each was granted, what policy allows, and how they reach the bus.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::Identity;
use trustmesh::Message;
use trustmesh::bus::Bus;
use trustmesh::bus::RequestErrorKind;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::bus::nats::NatsBus;
use trustmesh::client::Draft;
use trustmesh::proto::policy::Policy;
use trustmesh::services::authority::Authority;

use crate::Fault;
use crate::stage::say;

/// The researchers, all members of one queue group.
pub const RESEARCHERS: [&str; 3] = ["researcher/1", "researcher/2", "researcher/3"];

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
    ("auditor", &["sub:trustmesh.audit.*"]),
];

/// Requests need a session and may come only so many hands down; nobody erases anything.
const POLICY: &str = r#"{
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

/// The bus of this run.
enum Venue {
    Memory(MemoryBus),
    Nats(String),
}

/// The agents of the mesh, enrolled, and those who are connected.
pub struct Cast {
    /// The authority, which the adversary's own agents need as well.
    pub mesh: Authority,
    venue: Venue,
    identities: BTreeMap<&'static str, Identity>,
    connected: Mutex<BTreeMap<&'static str, Client>>,
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
        let venue = match std::env::var("NATS_URL") {
            Ok(url) => Venue::Nats(url),
            Err(_) => Venue::Memory(MemoryBus::new()),
        };
        let connected = Mutex::default();
        Ok(Self {
            mesh,
            venue,
            identities,
            connected,
        })
    }

    /// An agent's client; the same one each time.
    pub async fn connect(&self, id: &'static str) -> Result<Client, Fault> {
        if let Some(client) = self.lock().get(id) {
            return Ok(client.clone());
        }
        let identity = self.identities.get(id).ok_or("not in the cast")?.clone();
        let options = ConnectOptions::new(identity);
        let client = match &self.venue {
            Venue::Memory(bus) => options.connect_bus(bus.connect()).await?,
            Venue::Nats(url) => options.connect(url).await?,
        };
        self.lock().insert(id, client.clone());
        Ok(client)
    }

    /// A connection to the bus underneath, without any of this library's rules.
    pub async fn raw_bus(&self) -> Result<Box<dyn Bus>, Fault> {
        Ok(match &self.venue {
            Venue::Memory(bus) => Box::new(bus.connect()),
            Venue::Nats(url) => Box::new(NatsBus::connect(url, Default::default()).await?),
        })
    }

    /// Everyone who is connected.
    pub fn clients(&self) -> Vec<(&'static str, Client)> {
        self.lock()
            .iter()
            .map(|(id, client)| (*id, client.clone()))
            .collect()
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
