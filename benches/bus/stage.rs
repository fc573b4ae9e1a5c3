//! Two clients of one kind: the first asks and publishes, the second answers and listens.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use ed25519_dalek::Signature;
use ed25519_dalek::Signer as _;
use ed25519_dalek::SigningKey;
use futures::StreamExt as _;
use futures::future;
use tokio::sync::Semaphore;
use trustmesh::AuditOptions;
use trustmesh::ConnectOptions;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::proto::policy::Policy;
use trustmesh::services::authority::Authority;

use super::Error;
use super::PATIENCE;

/// When nothing has arrived for so long, nothing more will.
const SILENCE: Duration = Duration::from_millis(300);

/// The clients that sign every message by itself.
pub const SIGNED_SINGLY: &str = "  signed one by one";

/// A policy that allows no batches.
const SINGLE: &str = r#"{ "rules": [ { "name": "single", "effect": "allow",
    "actions": ["pub", "sub", "req", "serve"], "subjects": ">", "modes": [1] } ] }"#;

/// Two clients on their own subjects.
pub struct Stage {
    pub name: &'static str,
    /// The first tokens of its subjects.
    top: &'static str,
    near: Client,
    /// Given back by the listener, one a message.
    window: Arc<Semaphore>,
    heard: Arc<AtomicUsize>,
}

#[derive(Clone)]
enum Client {
    Plain(async_nats::Client),
    /// Signs what it sends and verifies what it hears, and nothing else.
    Bare(async_nats::Client, Arc<SigningKey>),
    Signed(trustmesh::Client),
}

/// What became of messages published without waiting.
pub struct Outcome {
    /// From the first publish to the last arrival.
    pub spent: Duration,
    pub arrived: usize,
}

/// Every kind of client there is, the baseline first.
pub async fn stages(url: &str) -> Result<Vec<Stage>, Error> {
    let mut mesh = Authority::dev("bench")?;
    let mut options = |name: &str| {
        let near = mesh.agent(&format!("{name}-near"), ["pub+req:bench.>"])?;
        let far = mesh.agent(&format!("{name}-far"), ["sub+serve:bench.>"])?;
        Ok::<_, Error>((ConnectOptions::new(near), ConnectOptions::new(far)))
    };
    let quiet = AuditOptions::default().unpublished();
    let memory = MemoryBus::new();
    let plain = Stage::plain(url, "bench.plain").await?;
    let (near, far) = options("nats")?;
    let (near, far) = (near.connect(url).await?, far.connect(url).await?);
    let nats = Stage::signed("trustmesh", "bench.nats", near, far).await?;
    let (near, far) = options("quiet")?;
    let near = near.audit(quiet.clone()).connect(url).await?;
    let far = far.audit(quiet).connect(url).await?;
    let quiet = Stage::signed("  audit unpublished", "bench.quiet", near, far).await?;
    let (near, far) = options("memory")?;
    let near = near.connect_bus(memory.connect()).await?;
    let far = far.connect_bus(memory.connect()).await?;
    let memory = Stage::signed("  in process", "bench.memory", near, far).await?;
    let mut mesh = Authority::dev("single")?;
    mesh.set_policy(Policy::from_json(SINGLE)?)?;
    let near = ConnectOptions::new(mesh.agent("near", ["pub+req:bench.>"])?);
    let far = ConnectOptions::new(mesh.agent("far", ["sub+serve:bench.>"])?);
    let (near, far) = (near.connect(url).await?, far.connect(url).await?);
    let single = Stage::signed(SIGNED_SINGLY, "bench.single", near, far).await?;
    let bare = Stage::bare(url, "bench.bare").await?;
    Ok(vec![plain, bare, nats, quiet, memory, single])
}

impl Stage {
    async fn plain(url: &str, top: &'static str) -> Result<Self, Error> {
        let near = async_nats::connect(url).await?;
        let far = async_nats::connect(url).await?;
        let mut requests = far.subscribe(format!("{top}.ask")).await?;
        let mut news = far.subscribe(format!("{top}.flow")).await?;
        let stage = Self::new("async_nats", top, Client::Plain(near));
        let (window, heard) = (stage.window.clone(), stage.heard.clone());
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let Some(reply) = request.reply else { continue };
                if far.publish(reply, request.payload).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            while news.next().await.is_some() {
                heard.fetch_add(1, Relaxed);
                window.add_permits(1);
            }
        });
        stage.ready().await
    }

    /// The plain program with a signature at the end of every payload: what the two signatures and
    /// verifications of a request cost where they are made.
    async fn bare(url: &str, top: &'static str) -> Result<Self, Error> {
        let near = async_nats::connect(url).await?;
        let far = async_nats::connect(url).await?;
        let mut requests = far.subscribe(format!("{top}.ask")).await?;
        let mut news = far.subscribe(format!("{top}.flow")).await?;
        let key = Arc::new(SigningKey::from_bytes(&[7; 32]));
        let stage = Self::new("  bare signatures", top, Client::Bare(near, key.clone()));
        let (window, heard) = (stage.window.clone(), stage.heard.clone());
        let listener = key.clone();
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let Some(reply) = request.reply else { continue };
                let Ok(payload) = opened(&key, request.payload) else {
                    continue;
                };
                if far.publish(reply, signed(&key, &payload)).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            while let Some(message) = news.next().await {
                if opened(&listener, message.payload).is_ok() {
                    heard.fetch_add(1, Relaxed);
                    window.add_permits(1);
                }
            }
        });
        stage.ready().await
    }

    /// The same program with the types of trustmesh.
    async fn signed(
        name: &'static str,
        top: &'static str,
        near: trustmesh::Client,
        far: trustmesh::Client,
    ) -> Result<Self, Error> {
        let mut requests = far.subscribe(format!("{top}.ask")).await?;
        let mut news = far.subscribe(format!("{top}.flow")).await?;
        let stage = Self::new(name, top, Client::Signed(near));
        let (window, heard) = (stage.window.clone(), stage.heard.clone());
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let Some(reply) = request.reply else { continue };
                if far.publish(reply, request.payload).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            while news.next().await.is_some() {
                heard.fetch_add(1, Relaxed);
                window.add_permits(1);
            }
        });
        stage.ready().await
    }

    fn new(name: &'static str, top: &'static str, near: Client) -> Self {
        Self {
            name,
            top,
            near,
            window: Arc::new(Semaphore::new(0)),
            heard: Arc::default(),
        }
    }

    /// Waits until both subscriptions are there: subscribing is no round trip.
    async fn ready(self) -> Result<Self, Error> {
        let deadline = Instant::now() + PATIENCE;
        while self.ask(Bytes::new()).await.is_err() {
            if Instant::now() > deadline {
                return Err(format!("{} does not answer", self.name).into());
            }
        }
        Ok(self)
    }

    /// How long each of `count` requests took, of which `at_once` are on their way at any time.
    pub async fn latencies(
        &self,
        count: usize,
        size: usize,
        at_once: usize,
    ) -> Result<Vec<Duration>, Error> {
        let asker = async |share: usize| {
            let mut taken = Vec::with_capacity(count / at_once);
            for number in 0..count / at_once {
                let payload = distinct(share * count + number, size);
                let start = Instant::now();
                self.ask(payload).await?;
                taken.push(start.elapsed());
            }
            Ok::<_, Error>(taken)
        };
        let askers = (0..at_once).map(asker);
        Ok(future::try_join_all(askers).await?.concat())
    }

    /// How long `count` messages take from the first publish to the last arrival, of which at most
    /// `window` are on their way.
    pub async fn flow(&self, count: usize, size: usize, window: usize) -> Result<Duration, Error> {
        let payloads: Vec<Bytes> = (0..count).map(|number| distinct(number, size)).collect();
        let start = Instant::now();
        for (number, payload) in payloads.into_iter().enumerate() {
            if number >= window {
                self.returned(1).await?;
            }
            self.publish(payload).await?;
        }
        self.returned(count.min(window)).await?;
        Ok(start.elapsed())
    }

    /// Publishes `count` messages as fast as the client takes them.
    pub async fn pour(&self, count: usize, size: usize) -> Result<Outcome, Error> {
        let payloads: Vec<Bytes> = (0..count).map(|number| distinct(number, size)).collect();
        let before = self.heard.load(Relaxed);
        let arrived = || self.heard.load(Relaxed) - before;
        let start = Instant::now();
        for payload in payloads {
            self.publish(payload).await?;
        }
        let (mut seen, mut last) = (arrived(), Instant::now());
        while seen < count && last.elapsed() < SILENCE {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let now = arrived();
            if now > seen {
                (seen, last) = (now, Instant::now());
            }
        }
        // What was not waited for is not owed to the next round.
        if let Ok(permits) = self.window.try_acquire_many(seen as u32) {
            permits.forget();
        }
        Ok(Outcome {
            spent: last - start,
            arrived: seen,
        })
    }

    async fn returned(&self, messages: usize) -> Result<(), Error> {
        let permits = self.window.acquire_many(messages as u32);
        let permits = match self.window.try_acquire_many(messages as u32) {
            Ok(permits) => permits,
            Err(_) => tokio::time::timeout(PATIENCE, permits).await??,
        };
        permits.forget();
        Ok(())
    }

    async fn ask(&self, payload: Bytes) -> Result<(), Error> {
        let subject = format!("{}.ask", self.top);
        match &self.near {
            Client::Plain(client) => drop(client.request(subject, payload).await?),
            Client::Bare(client, key) => {
                let answer = client.request(subject, signed(key, &payload)).await?;
                opened(key, answer.payload)?;
            }
            Client::Signed(client) => drop(client.request(subject, payload).await?),
        }
        Ok(())
    }

    async fn publish(&self, payload: Bytes) -> Result<(), Error> {
        let subject = format!("{}.flow", self.top);
        match &self.near {
            Client::Plain(client) => client.publish(subject, payload).await?,
            Client::Bare(client, key) => client.publish(subject, signed(key, &payload)).await?,
            Client::Signed(client) => client.publish(subject, payload).await?,
        }
        Ok(())
    }
}

/// A payload with its signature.
fn signed(key: &SigningKey, payload: &[u8]) -> Bytes {
    [payload, &key.sign(payload).to_bytes()].concat().into()
}

/// The payload of what was signed.
fn opened(key: &SigningKey, mut message: Bytes) -> Result<Bytes, Error> {
    let at = message.len().checked_sub(64).ok_or("no signature")?;
    let signature = Signature::from_slice(&message.split_off(at))?;
    key.verifying_key().verify_strict(&message, &signature)?;
    Ok(message)
}

/// A payload unlike those before it.
fn distinct(number: usize, size: usize) -> Bytes {
    let mut payload = vec![0; size];
    let number = number.to_be_bytes();
    let len = number.len().min(size);
    payload[..len].copy_from_slice(&number[..len]);
    payload.into()
}
