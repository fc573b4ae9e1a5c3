//! Messages to one of many subscriptions of a client, on a bus in this process.

use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt as _;
use tokio::runtime::Builder;
use tokio::runtime::Runtime;
use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::Subscriber;
use trustmesh::bus::Bus as _;
use trustmesh::bus::BusSubscriber;
use trustmesh::bus::Outgoing;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::bus::memory::MemoryConnection;
use trustmesh::services::authority::Authority;

use super::Error;
use super::table::Case;
use super::table::Table;

const SUBSCRIPTIONS: [usize; 4] = [1, 10, 100, 1_000];

/// Messages of a round, on their way together.
const MESSAGES: usize = 250;

/// All of what a message costs, from its publisher to the subscriber it is for, on one thread; and
/// what the same bus costs without trustmesh.
pub fn by_subscriptions(table: &mut Table) -> Result<(), Error> {
    for (name, kind) in [("exact", ""), ("with wildcards", ".*")] {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let signed: Result<Vec<Signed>, Error> = SUBSCRIPTIONS
            .into_iter()
            .map(|size| runtime.block_on(Signed::new(size, kind)))
            .collect();
        let mut signed = signed?;
        let cases = signed.iter_mut().map(|stage| stage.case(&runtime));
        table.measure(&format!("subscriptions, {name}"), cases.collect())?;

        let plain: Result<Vec<Plain>, Error> = SUBSCRIPTIONS
            .into_iter()
            .map(|size| runtime.block_on(Plain::new(size, kind)))
            .collect();
        let mut plain = plain?;
        let cases = plain.iter_mut().map(|stage| stage.case(&runtime));
        table.measure(
            &format!("subscriptions of a bare bus, {name}"),
            cases.collect(),
        )?;
    }
    Ok(())
}

/// Two clients of a mesh.
struct Signed {
    subject: &'static str,
    near: Client,
    heard: Subscriber,
    quiet: Vec<Subscriber>,
    /// The receiver, which its subscriptions do not keep.
    _far: Client,
}

impl Signed {
    async fn new(size: usize, kind: &str) -> Result<Self, Error> {
        let bus = MemoryBus::new();
        let mut mesh = Authority::dev("growth")?;
        let near = ConnectOptions::new(mesh.agent("near", ["pub:flow.>"])?);
        let far = ConnectOptions::new(mesh.agent("far", ["sub:flow.>", "sub:quiet.>"])?);
        let near = near.connect_bus(bus.connect()).await?;
        let far = far.connect_bus(bus.connect()).await?;
        let mut quiet = Vec::new();
        for number in 1..size {
            quiet.push(far.subscribe(format!("quiet{kind}.{number}")).await?);
        }
        Ok(Self {
            subject: subject(kind),
            heard: far.subscribe(format!("flow{kind}.now")).await?,
            near,
            quiet,
            _far: far,
        })
    }

    fn case<'a>(&'a mut self, runtime: &'a Runtime) -> Case<'a> {
        Case {
            size: self.quiet.len() + 1,
            round: Box::new(|| runtime.block_on(self.round())),
        }
    }

    async fn round(&mut self) -> Result<Duration, Error> {
        let started = Instant::now();
        for _ in 0..MESSAGES {
            let payload = Bytes::from_static(&[0x5a; 256]);
            self.near.publish(self.subject, payload).await?;
        }
        for _ in 0..MESSAGES {
            self.heard.next().await.ok_or("the subscription ended")?;
        }
        Ok(started.elapsed() / MESSAGES as u32)
    }
}

/// The same with two connections to a bus.
struct Plain {
    subject: &'static str,
    near: MemoryConnection,
    heard: BusSubscriber,
    quiet: Vec<BusSubscriber>,
}

impl Plain {
    async fn new(size: usize, kind: &str) -> Result<Self, Error> {
        let bus = MemoryBus::new();
        let (near, far) = (bus.connect(), bus.connect());
        let mut quiet = Vec::new();
        for number in 1..size {
            let pattern = format!("quiet{kind}.{number}");
            quiet.push(far.subscribe(pattern.into(), None).await?);
        }
        let pattern = format!("flow{kind}.now");
        Ok(Self {
            subject: subject(kind),
            heard: far.subscribe(pattern.into(), None).await?,
            near,
            quiet,
        })
    }

    fn case<'a>(&'a mut self, runtime: &'a Runtime) -> Case<'a> {
        Case {
            size: self.quiet.len() + 1,
            round: Box::new(|| runtime.block_on(self.round())),
        }
    }

    async fn round(&mut self) -> Result<Duration, Error> {
        let started = Instant::now();
        for _ in 0..MESSAGES {
            let payload = Bytes::from_static(&[0x5a; 256]);
            let message = Outgoing::new(self.subject, payload);
            self.near.publish(message).await?;
        }
        for _ in 0..MESSAGES {
            self.heard.next().await.ok_or("the subscription ended")?;
        }
        Ok(started.elapsed() / MESSAGES as u32)
    }
}

/// What is published to `flow` with wildcards of this kind.
fn subject(kind: &str) -> &'static str {
    match kind {
        "" => "flow.now",
        _ => "flow.eu.now",
    }
}
