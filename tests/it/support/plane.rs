//! A mesh with a verifier service, on a bus in this process or on a real server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::Identity;
use trustmesh::bus::Bus;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::bus::nats::NatsBus;
use trustmesh::client::clock::Clock;
use trustmesh::client::clock::ManualClock;
use trustmesh::client::enrol::EnrolError;
use trustmesh::client::enrol::Enrolled;
use trustmesh::client::enrol::Enrolment;
use trustmesh::client::identity::TrustHandle;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::join::JoinToken;
use trustmesh::proto::scope::Scope;
use trustmesh::proto::time::Timestamp;
use trustmesh::services::authority::Authority;
use trustmesh::services::authority::JoinTerms;
use trustmesh::services::verifier::InProcess;
use trustmesh::services::verifier::VerifierOptions;
use trustmesh::services::verifier::VerifierService;

use super::eventually;
use super::nats;
use super::unique;

/// Some time in 2027.
const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Where the mesh lives.
#[derive(Clone)]
pub enum Wire {
    Memory(MemoryBus),
    Nats(String),
}

impl Wire {
    pub fn memory() -> Self {
        Self::Memory(MemoryBus::new())
    }

    pub async fn nats() -> Self {
        Self::Nats(nats::shared().await.url())
    }

    /// A connection without identity.
    pub async fn raw(&self) -> Arc<dyn Bus> {
        match self {
            Self::Memory(bus) => Arc::new(bus.connect()),
            Self::Nats(url) => Arc::new(nats_bus(url).await),
        }
    }
}

async fn nats_bus(url: &str) -> NatsBus {
    let options = trustmesh::bus::ConnectOptions::new();
    NatsBus::connect(url, options).await.unwrap()
}

/// A served mesh.
pub struct Plane {
    pub service: VerifierService,
    pub wire: Wire,
    pub clock: Arc<ManualClock>,
    pub root: Bytes,
    pub trust: Arc<TrustHandle>,
    pub prefix: String,
}

impl Plane {
    pub async fn new(wire: Wire) -> Self {
        Self::with(wire, VerifierOptions::default(), |_| {}).await
    }

    /// A mesh prepared by the operator, served within these limits.
    pub async fn with(
        wire: Wire,
        settings: VerifierOptions,
        prepare: impl FnOnce(&mut Authority),
    ) -> Self {
        let clock = Arc::new(ManualClock::at(START));
        let mut mesh = Authority::dev_with_clock("test", clock.clone()).unwrap();
        prepare(&mut mesh);
        let identity = mesh.verifier(Arc::new(key())).unwrap();
        let (root, trust) = (mesh.trust_root(), identity.trust().clone());
        let prefix = unique();
        let options = ConnectOptions::new(identity)
            .clock(clock.clone())
            .prefix(prefix.clone());
        let service = match &wire {
            Wire::Memory(bus) => {
                VerifierService::start(mesh, options, bus.connect(), InProcess, settings).await
            }
            Wire::Nats(url) => {
                let bus = nats_bus(url).await;
                VerifierService::start(mesh, options, bus, InProcess, settings).await
            }
        };
        Self {
            service: service.unwrap(),
            wire,
            clock,
            root,
            trust,
            prefix,
        }
    }

    pub fn memory(&self) -> &MemoryBus {
        match &self.wire {
            Wire::Memory(bus) => bus,
            Wire::Nats(_) => panic!("not in this process"),
        }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now().unwrap()
    }

    /// Lets time pass, and waits until the service has renewed itself if that was due.
    pub async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        let renewed = || {
            let trust = self.trust.current();
            let window = trust.certificates_of(&id("verifier"))[0].claims().validity;
            self.now() < window.from().plus(window.millis() / 3 * 2)
        };
        eventually("the service renews itself", renewed).await;
    }

    /// Waits until the service has decided what came before: it takes a command after that.
    pub async fn caught_up(&self) {
        let changed = self.service.change(|_| ()).await;
        changed.unwrap().in_force().unwrap();
    }

    pub async fn token(&self, terms: JoinTerms) -> JoinToken {
        let made = self.service.change(move |mesh| mesh.join_token(&terms));
        made.await.unwrap().outcome.unwrap()
    }

    /// How an agent joins by a token, here.
    pub fn enrolment(&self, token: &JoinToken) -> Enrolment {
        Enrolment::new(token.clone(), self.root.clone())
            .prefix(self.prefix.clone())
            .clock(self.clock.clone())
    }

    pub async fn join(
        &self,
        token: &JoinToken,
        agent: &str,
        key: SigningKey,
    ) -> Result<Enrolled, EnrolError> {
        let bus = self.wire.raw().await;
        let enrolment = self.enrolment(token).agent(id(agent));
        enrolment.join(&*bus, Arc::new(key)).await
    }

    /// A new agent, enrolled and connected.
    pub async fn agent(&self, agent: &str, capabilities: &[&str]) -> Client {
        let token = self.token(terms(capabilities)).await;
        let enrolled = self.join(&token, agent, key()).await.unwrap();
        self.enter(enrolled.identity(self.trust.clone()).unwrap())
            .await
    }

    pub async fn enter(&self, identity: Identity) -> Client {
        let options = ConnectOptions::new(identity)
            .clock(self.clock.clone())
            .prefix(self.prefix.clone());
        match &self.wire {
            Wire::Memory(bus) => options.connect_bus(bus.connect()).await.unwrap(),
            Wire::Nats(url) => options.connect(url.as_str()).await.unwrap(),
        }
    }
}

pub fn id(text: &str) -> AgentId {
    AgentId::parse(text).unwrap()
}

pub fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

pub fn terms(capabilities: &[&str]) -> JoinTerms {
    let mut terms = JoinTerms::new(Scope::parse(capabilities).unwrap());
    // Tests move the clock by hours.
    terms.ttl = Duration::from_secs(7 * 24 * 3600);
    terms
}
