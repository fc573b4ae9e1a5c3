//! A mesh in this process: an authority, an in-process bus, and a clock that moves when told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::Semaphore;
use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::Identity;
use trustmesh::Message;
use trustmesh::Service;
use trustmesh::Subscriber;
use trustmesh::audit::AuditEvent;
use trustmesh::audit::DecisionEvent;
use trustmesh::audit::Word;
use trustmesh::bus::Outgoing;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::client::AuditStream;
use trustmesh::client::Counters;
use trustmesh::client::clock::Clock;
use trustmesh::client::clock::ManualClock;
use trustmesh::error::Denied;
use trustmesh::proto::envelope::EnvelopeDraft;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::replay::MessageId;
use trustmesh::proto::scope::Action;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::time::Timestamp;
use trustmesh::services::authority::Authority;

use super::PATIENCE;
use super::eventually;

/// Some time in 2027.
const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// An authority, a bus and a clock.
pub struct Mesh {
    pub authority: Authority,
    pub bus: MemoryBus,
    pub clock: Arc<ManualClock>,
}

impl Mesh {
    /// A mesh that permits whatever was granted.
    pub fn new() -> Self {
        let clock = Arc::new(ManualClock::at(START));
        let authority = Authority::dev_with_clock("test", clock.clone()).unwrap();
        Self {
            authority,
            bus: MemoryBus::new(),
            clock,
        }
    }

    /// A mesh with these rules besides one that permits everything.
    pub fn ruled(rules: &str) -> Self {
        let mut mesh = Self::new();
        mesh.authority.set_policy(policy(rules)).unwrap();
        mesh
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.clock.now().unwrap()
    }

    /// A new agent, connected.
    pub async fn join(&mut self, id: &str, capabilities: &[&str]) -> Client {
        let identity = self.authority.agent(id, capabilities).unwrap();
        self.enter(identity).await
    }

    /// Connects an agent.
    pub async fn enter(&self, identity: Identity) -> Client {
        let options = self.options(identity);
        options.connect_bus(self.bus.connect()).await.unwrap()
    }

    /// Options by this mesh's clock.
    pub fn options(&self, identity: Identity) -> ConnectOptions {
        ConnectOptions::new(identity).clock(self.clock.clone())
    }

    /// Delivers what somebody recorded or made.
    pub fn forge(&self, message: &Outgoing) -> usize {
        self.bus.forge(message.clone())
    }
}

/// A policy of these rules and one that permits everything; where several match, all bind.
pub fn policy(rules: &str) -> Policy {
    let comma = if rules.is_empty() { "" } else { "," };
    let text = format!(
        r#"{{ "rules": [ {{ "name": "all", "effect": "allow",
            "actions": ["pub", "sub", "req", "serve"], "subjects": ">" }} {comma} {rules} ] }}"#
    );
    Policy::from_json(&text).unwrap()
}

/// What [`EnvelopeDraft`] needs, with an id no other draft has.
pub fn draft(now: Timestamp, action: Action, subject: &str) -> EnvelopeDraft {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let mut mid = [7; 16];
    mid[..8].copy_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let subject = Subject::parse(subject).unwrap();
    EnvelopeDraft::new(MessageId(mid), now, action, subject)
}

/// A draft signed by an agent, whatever its own client would say to it.
pub fn sealed(draft: &EnvelopeDraft, by: &Client) -> Outgoing {
    let envelope = draft.sign(&by.credential()).unwrap();
    let outgoing = Outgoing::new(draft.subject.as_str(), envelope.into_bytes());
    match &draft.reply {
        Some(reply) => outgoing.with_reply(reply.as_str()),
        None => outgoing,
    }
}

/// The same frame with one bit of its signature flipped.
pub fn with_broken_signature(frame: &Bytes) -> Bytes {
    // "TMSH", array, version and mode; then the header as a byte string; then the signature.
    let header_end = match frame[7] {
        0xc4 => 9 + usize::from(frame[8]),
        0xc5 => 10 + usize::from(u16::from_be_bytes([frame[8], frame[9]])),
        other => panic!("no byte string begins with {other:#x}"),
    };
    let mut broken = frame.to_vec();
    broken[header_end + 2] ^= 1;
    broken.into()
}

/// The same frame with one bit of its payload flipped.
pub fn with_broken_payload(frame: &Bytes) -> Bytes {
    let mut broken = frame.to_vec();
    *broken.last_mut().unwrap() ^= 1;
    broken.into()
}

/// The one message on a tap that went to `subject`.
pub fn only(recorded: Vec<Outgoing>, subject: &str) -> Outgoing {
    let mut found = recorded
        .into_iter()
        .filter(|message| message.subject.as_str() == subject);
    let message = found.next().expect("a message on that subject");
    assert!(found.next().is_none(), "one message on that subject");
    message
}

/// The next message of a subscription that has one coming.
pub async fn message(subscriber: &mut Subscriber) -> Message {
    let message = tokio::time::timeout(PATIENCE, subscriber.next()).await;
    message
        .expect("a message in time")
        .expect("the stream goes on")
}

/// Reads a subscription in the background, so that what arrives is decided, until dropped.
pub fn consume(mut subscriber: Subscriber) -> Taken {
    let count = Arc::new(AtomicU64::new(0));
    let taken = count.clone();
    let task = tokio::spawn(async move {
        while subscriber.next().await.is_some() {
            taken.fetch_add(1, Ordering::SeqCst);
        }
    });
    Taken { count, task }
}

/// What [`consume`] has read.
pub struct Taken {
    count: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Taken {
    /// How many messages.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Waits for so many messages: a consumer on another thread may be a step behind what its
    /// client has counted. There must be no more of them.
    pub async fn reaches(&self, count: u64) {
        eventually("what was let through is taken", || self.count() >= count).await;
        assert_eq!(self.count(), count);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A service whose handlers wait until they are let go, then answer with their payload.
pub struct Held {
    gate: Arc<Semaphore>,
    seen: Arc<Mutex<Vec<Message>>>,
    /// Runs until this is dropped.
    _service: Service,
}

impl Held {
    pub async fn serve(client: &Client, subject: &str) -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (closed, kept) = (gate.clone(), seen.clone());
        let handler = move |message: Message| {
            kept.lock().unwrap().push(message.clone());
            let closed = closed.clone();
            async move {
                closed
                    .acquire()
                    .await
                    .expect("the gate is not closed")
                    .forget();
                Ok::<_, String>(message.payload)
            }
        };
        let service = client.serve(subject.to_owned(), handler).await.unwrap();
        Self {
            gate,
            seen,
            _service: service,
        }
    }

    /// Lets so many handlers go.
    pub fn release(&self, handlers: usize) {
        self.gate.add_permits(handlers);
    }

    /// Waits until so many handlers have begun; their messages.
    pub async fn begun(&self, handlers: usize) -> Vec<Message> {
        let begun = || self.seen.lock().unwrap().len() >= handlers;
        eventually("the handlers begin", begun).await;
        self.seen.lock().unwrap().clone()
    }
}

/// Whether the sums of [`Counters`] balance with nothing in flight.
pub fn balances(counters: &Counters) -> bool {
    let decided = counters.allowed + counters.denied_total();
    let recorded = counters.audit_decisions
        + counters.audit_aggregated
        + counters.audit_lost
        + counters.unaudited;
    counters.received == decided
        && counters.allowed == counters.handler_runs + counters.withdrawn
        && recorded == decided
}

/// Waits until a client has received this many messages and dealt with them; its counters then.
pub async fn settled(client: &Client, received: u64) -> Counters {
    let what = format!(
        "{received} messages received by {}, in balance",
        client.id()
    );
    let mut last = client.counters();
    eventually(&what, || {
        last = client.counters();
        last.received >= received && balances(&last)
    })
    .await;
    assert_eq!(client.counters().received, received, "{last:?}");
    last
}

/// Everything a client has recorded since the last look.
pub async fn recorded(client: &Client, stream: &mut AuditStream) -> Vec<AuditEvent> {
    client.flush_audit().await;
    let events = std::iter::from_fn(|| stream.try_next())
        .map(|record| record.event)
        .collect();
    assert_eq!(stream.missed(), 0);
    events
}

/// The decisions among the events recorded since the last look.
pub async fn decisions(client: &Client, stream: &mut AuditStream) -> Vec<DecisionEvent> {
    let events = recorded(client, stream).await.into_iter();
    events
        .filter_map(|event| match event {
            AuditEvent::Decision(decision) => Some(decision),
            _ => None,
        })
        .collect()
}

/// How many refusals of which class the events tell of, one by one or in aggregates.
pub fn refusals(events: &[AuditEvent]) -> BTreeMap<String, u64> {
    let mut refusals = BTreeMap::new();
    for event in events {
        let (class, count) = match event {
            AuditEvent::Decision(decision) if decision.verdict == Word::Deny => {
                (decision.class.clone().expect("a class"), 1)
            }
            AuditEvent::Aggregate { class, count } => (class.clone(), *count),
            _ => continue,
        };
        *refusals.entry(class).or_default() += count;
    }
    refusals
}

/// The refusals a client has counted, named as in events.
pub fn counted(counters: &Counters) -> BTreeMap<String, u64> {
    let named = |(class, count): (&Class, &u64)| (class.name().to_owned(), *count);
    counters.denied.iter().map(named).collect()
}

/// Our refusal behind a bus error.
pub fn denied(error: &(dyn std::error::Error + 'static)) -> Rejection {
    let source = error.source().and_then(|source| source.downcast_ref());
    let Some(Denied(rejection)) = source else {
        panic!("no refusal of ours is behind {error:?}");
    };
    *rejection
}

/// A short time, for requests that will not be answered. Tests that wait for it pause tokio's
/// clock.
pub const BRIEFLY: Option<Duration> = Some(Duration::from_millis(200));
