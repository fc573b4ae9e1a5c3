//! A served mesh whose agents know nothing but their join tokens and the bus.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::Identity;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::bus::nats::NatsBus;
use trustmesh::client::clock::Clock;
use trustmesh::client::clock::SystemClock;
use trustmesh::client::enrol::Enrolled;
use trustmesh::client::enrol::Enrolment;
use trustmesh::client::join::fetch_later_roots;
use trustmesh::client::join::fetch_root;
use trustmesh::proto::signing::MeshId;
use trustmesh::proto::trust::Admission;
use trustmesh::services::authority::Authority;
use trustmesh::services::verifier::ToStore;
use trustmesh::services::verifier::VerifierOptions;
use trustmesh::services::verifier::VerifierService;

use super::mesh::policy;
use super::plane::Wire;
use super::plane::id;
use super::plane::key;
use super::plane::terms;
use super::unique;

/// A verifier service, and what its agents share.
pub struct Served {
    pub wire: Wire,
    pub prefix: String,
    pub clock: Arc<dyn Clock>,
    pub mesh: MeshId,
    pub service: Option<VerifierService>,
}

impl Served {
    pub async fn new(wire: Wire) -> Self {
        Self::by(wire, Arc::new(SystemClock::new())).await
    }

    pub async fn by(wire: Wire, clock: Arc<dyn Clock>) -> Self {
        let mesh = Authority::served_with_clock("test", false, clock.clone()).unwrap();
        Self::of(wire, clock, mesh).await
    }

    /// A service with these books.
    pub async fn of(wire: Wire, clock: Arc<dyn Clock>, mut mesh: Authority) -> Self {
        mesh.set_policy(policy("")).unwrap();
        let mut served = Self {
            wire,
            prefix: unique(),
            clock,
            mesh: mesh.mesh(),
            service: None,
        };
        served.serve(mesh).await;
        served
    }

    /// Starts a service, in place of the one that runs.
    pub async fn serve(&mut self, mut mesh: Authority) {
        let identity = mesh.verifier(Arc::new(key())).unwrap();
        self.serve_as(mesh, identity).await;
    }

    pub async fn serve_as(&mut self, mesh: Authority, identity: Identity) {
        self.service = Some(self.start(mesh, identity, None).await);
    }

    pub async fn start(
        &self,
        mesh: Authority,
        identity: Identity,
        directory: Option<&std::path::Path>,
    ) -> VerifierService {
        let settings = VerifierOptions::default();
        self.start_within(mesh, identity, directory, settings).await
    }

    pub async fn start_within(
        &self,
        mesh: Authority,
        identity: Identity,
        directory: Option<&std::path::Path>,
        settings: VerifierOptions,
    ) -> VerifierService {
        let options = self.options(identity);
        let store = |store: ToStore| {
            let store = store.prefix(self.prefix.clone());
            match directory {
                Some(directory) => store.saved_to(directory),
                None => store,
            }
        };
        let service = match &self.wire {
            Wire::Memory(bus) => {
                let to = store(ToStore::on(bus.connect()));
                VerifierService::start(mesh, options, bus.connect(), to, settings).await
            }
            Wire::Nats(url) => {
                let to = store(ToStore::on(nats(url).await));
                VerifierService::start(mesh, options, nats(url).await, to, settings).await
            }
        };
        service.unwrap()
    }

    pub fn options(&self, identity: Identity) -> ConnectOptions {
        ConnectOptions::new(identity)
            .clock(self.clock.clone())
            .prefix(self.prefix.clone())
            .request_timeout(Some(Duration::from_secs(5)))
    }

    /// A first token that no other mesh uses: tests share a server.
    pub fn topic(&self) -> String {
        format!("greet-{}", self.prefix)
    }

    /// A subject below it.
    pub fn subject(&self, last: &str) -> String {
        format!("{}.{last}", self.topic())
    }

    /// These actions on everything below it.
    pub fn may(&self, actions: &str) -> String {
        format!("{actions}:{}", self.subject(">"))
    }

    /// The operator's changes, which are published.
    pub async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Authority) -> T + Send + 'static,
    ) -> T {
        let service = self.service.as_ref().unwrap();
        let changed = service.change(change).await;
        changed.unwrap().in_force().unwrap()
    }

    /// Joins the mesh with a new token.
    pub async fn join(&self, agent: &str, capabilities: &[&str]) -> (Enrolled, Bytes) {
        let terms = terms(capabilities);
        let token = self
            .change(move |mesh| mesh.join_token(&terms))
            .await
            .unwrap();
        let bus = self.wire.raw().await;
        let root = fetch_root(&token, &*bus).await.unwrap();
        let enrolment = Enrolment::new(token, root.clone())
            .led_to(fetch_later_roots(&root, &*bus).await.unwrap())
            .agent(id(agent))
            .prefix(self.prefix.clone())
            .clock(self.clock.clone());
        (enrolment.join(&*bus, Arc::new(key())).await.unwrap(), root)
    }

    /// A new agent, which follows the mesh.
    pub async fn agent(&self, agent: &str, capabilities: &[&str]) -> Client {
        let (enrolled, root) = self.join(agent, capabilities).await;
        let bus = self.wire.raw().await;
        let identity = enrolled.follow(root, Admission::Production, &*bus).await;
        self.enter(identity.unwrap()).await
    }

    pub async fn enter(&self, identity: Identity) -> Client {
        let options = self.options(identity);
        match &self.wire {
            Wire::Memory(bus) => options.connect_bus(bus.connect()).await.unwrap(),
            Wire::Nats(url) => options.connect(url.as_str()).await.unwrap(),
        }
    }

    pub fn memory(&self) -> &MemoryBus {
        match &self.wire {
            Wire::Memory(bus) => bus,
            Wire::Nats(_) => panic!("not in this process"),
        }
    }

    /// The name of the bucket.
    pub fn bucket(&self) -> String {
        format!("TRUSTMESH_{}", self.mesh)
    }
}

async fn nats(url: &str) -> NatsBus {
    let options = trustmesh::bus::ConnectOptions::new();
    NatsBus::connect(url, options).await.unwrap()
}
