//! The bus of this run: in this process, or a NATS server.

use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::Identity;
use trustmesh::bus::Bus;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::bus::nats::NatsBus;
use trustmesh::services::authority::Authority;
use trustmesh::services::verifier::ToStore;
use trustmesh::services::verifier::VerifierOptions;
use trustmesh::services::verifier::VerifierService;

use crate::Fault;

/// Where everybody meets.
pub enum Venue {
    /// In this process.
    Memory(MemoryBus),
    /// On the server with this address.
    Nats(String),
}

impl Venue {
    /// The server that `NATS_URL` names, or else a bus in this process.
    pub fn of_this_run() -> Self {
        match std::env::var("NATS_URL") {
            Ok(url) => Self::Nats(url),
            Err(_) => Self::Memory(MemoryBus::new()),
        }
    }

    /// A client for an agent.
    pub async fn enter(&self, identity: Identity) -> Result<Client, Fault> {
        let options = ConnectOptions::new(identity);
        Ok(match self {
            Self::Memory(bus) => options.connect_bus(bus.connect()).await?,
            Self::Nats(url) => options.connect(url).await?,
        })
    }

    /// A connection to the bus underneath, without any of this library's rules.
    pub async fn raw_bus(&self) -> Result<Box<dyn Bus>, Fault> {
        Ok(match self {
            Self::Memory(bus) => Box::new(bus.connect()),
            Self::Nats(url) => Box::new(nats(url).await?),
        })
    }

    /// A verifier service that publishes the trust state in a bucket of this bus.
    pub async fn serve(
        &self,
        mesh: Authority,
        identity: Identity,
        settings: VerifierOptions,
    ) -> Result<VerifierService, Fault> {
        let options = ConnectOptions::new(identity);
        Ok(match self {
            Self::Memory(bus) => {
                let store = ToStore::on(bus.connect());
                VerifierService::start(mesh, options, bus.connect(), store, settings).await?
            }
            Self::Nats(url) => {
                let store = ToStore::on(nats(url).await?);
                VerifierService::start(mesh, options, nats(url).await?, store, settings).await?
            }
        })
    }
}

async fn nats(url: &str) -> Result<NatsBus, Fault> {
    Ok(NatsBus::connect(url, Default::default()).await?)
}
