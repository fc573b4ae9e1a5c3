//! One suite for every client: `async_nats::Client` itself on a real server, and ours on NATS and
//! in this process. A program written for the first has to find the same in the other two.
//!
//! The claims are written once and compiled against each client; only the type imports and the
//! making of a client differ, as they do for a program that changes over. Where we differ on
//! purpose, the claim says so in its name and asks for `VERIFIED`.

#[macro_use]
mod claims;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::StreamExt;
use trustmesh::bus::FlushErrorKind;
use trustmesh::bus::HeaderMap;
use trustmesh::bus::PublishErrorKind;
use trustmesh::bus::Request;
use trustmesh::bus::RequestErrorKind;
use trustmesh::bus::State;
use trustmesh::bus::StatusCode;
use trustmesh::bus::SubscribeErrorKind;

use crate::support::eventually;
use crate::support::unique;

/// How long anything may take that does happen: far more than it needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Short enough to wait for, in the claims about time running out.
const SOON: Duration = Duration::from_millis(50);

/// How a client is made where the default will not do.
#[derive(Clone, Copy)]
struct Setup {
    capacity: usize,
    timeout: Option<Duration>,
}

impl Default for Setup {
    fn default() -> Self {
        let (capacity, timeout) = (65_536, Some(PATIENCE));
        Self { capacity, timeout }
    }
}

impl Setup {
    fn nats(self) -> async_nats::ConnectOptions {
        async_nats::ConnectOptions::new().subscription_capacity(self.capacity)
    }
}

mod async_nats_itself {
    use async_nats::Client;
    use async_nats::Message;
    use async_nats::Subscriber;

    use super::*;
    use crate::support::nats;

    /// Whether this client signs and verifies, and so refuses what the other lets pass.
    const VERIFIED: bool = false;

    /// Bytes of a message this client keeps for itself.
    const RESERVED: usize = 0;

    struct World {
        top: String,
    }

    impl World {
        async fn open() -> Self {
            Self { top: unique() }
        }

        async fn connect(&mut self, setup: Setup) -> Client {
            let options = setup.nats().request_timeout(setup.timeout);
            let client = options.connect(nats::shared().await.url()).await;
            client.expect("the server is up")
        }

        /// The default of the options themselves.
        async fn connect_plainly(&mut self) -> Client {
            let client = async_nats::connect(nats::shared().await.url()).await;
            client.expect("the server is up")
        }
    }

    claims!();
}

mod trustmesh_on_nats {
    use trustmesh::Client;
    use trustmesh::ConnectOptions;
    use trustmesh::Message;
    use trustmesh::Subscriber;
    use trustmesh::proto::limits::RESERVE;
    use trustmesh::services::authority::Authority;

    use super::*;
    use crate::support::nats;

    const VERIFIED: bool = true;
    const RESERVED: usize = RESERVE;

    struct World {
        top: String,
        mesh: Authority,
    }

    impl World {
        async fn open() -> Self {
            let (top, mesh) = (unique(), Authority::dev("conformance").expect("a mesh"));
            Self { top, mesh }
        }

        async fn connect(&mut self, setup: Setup) -> Client {
            let options = ConnectOptions::new(enrol(&mut self.mesh, &self.top))
                .nats(setup.nats())
                .request_timeout(setup.timeout);
            let client = options.connect(nats::shared().await.url()).await;
            client.expect("the server is up")
        }

        async fn connect_plainly(&mut self) -> Client {
            let options = ConnectOptions::new(enrol(&mut self.mesh, &self.top));
            let client = options.connect(nats::shared().await.url()).await;
            client.expect("the server is up")
        }
    }

    claims!();
}

mod trustmesh_in_memory {
    use trustmesh::Client;
    use trustmesh::ConnectOptions;
    use trustmesh::Message;
    use trustmesh::Subscriber;
    use trustmesh::bus::memory::MemoryBus;
    use trustmesh::bus::memory::MemoryOptions;
    use trustmesh::proto::limits::RESERVE;
    use trustmesh::services::authority::Authority;

    use super::*;

    const VERIFIED: bool = true;
    const RESERVED: usize = RESERVE;

    struct World {
        top: String,
        mesh: Authority,
        bus: MemoryBus,
    }

    impl World {
        async fn open() -> Self {
            let (top, mesh) = (unique(), Authority::dev("conformance").expect("a mesh"));
            let bus = MemoryBus::new();
            Self { top, mesh, bus }
        }

        async fn connect(&mut self, setup: Setup) -> Client {
            let bus = MemoryOptions::default().subscription_capacity(setup.capacity);
            let options = ConnectOptions::new(enrol(&mut self.mesh, &self.top))
                .request_timeout(setup.timeout);
            let client = options.connect_bus(self.bus.connect_with(bus)).await;
            client.expect("the identity holds")
        }

        async fn connect_plainly(&mut self) -> Client {
            let options = ConnectOptions::new(enrol(&mut self.mesh, &self.top));
            let client = options.connect_bus(self.bus.connect()).await;
            client.expect("the identity holds")
        }
    }

    claims!();
}

/// A new agent that may do everything below `top`, and ask where nobody answers.
fn enrol(mesh: &mut trustmesh::services::authority::Authority, top: &str) -> trustmesh::Identity {
    let scope = [
        format!("pub+sub+req+serve:{top}.>"),
        format!("req:{top}-nobody.>"),
    ];
    mesh.agent(&unique(), scope).expect("a new agent")
}

fn headers<const N: usize>(lines: [(&str, &str); N]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name, value);
    }
    headers
}

/// The values of one header, in order.
fn values<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Vec<&'a str> {
    let headers = headers.expect("the message has headers");
    headers.get_all(name).map(|value| value.as_str()).collect()
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}
