//! What a client has counted. Sums balance: see [`Counters`].

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::proto::rejection::Class;

/// A reading of a client's counters.
///
/// `received = allowed + denied` and, once nothing is in flight,
/// `allowed = handler_runs + withdrawn`. Every allowed or denied message is in the audit:
/// `allowed + denied = audit_decisions + audit_aggregated + audit_lost + unaudited`.
///
/// ```
/// use futures_util::StreamExt as _;
/// # use trustmesh::ConnectOptions;
/// # use trustmesh::bus::memory::MemoryBus;
/// use trustmesh::bus::Outgoing;
/// # use trustmesh::proto::rejection::Class;
/// # use trustmesh::services::authority::Authority;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let echo = Authority::dev("demo")?.agent("echo", ["pub+sub:echo"])?;
/// # let bus = MemoryBus::new();
/// # let echo = ConnectOptions::new(echo).connect_bus(bus.connect()).await?;
/// let mut messages = echo.subscribe("echo").await?;
/// bus.forge(Outgoing::new("echo", "no envelope"));
/// echo.publish("echo", "hello".into()).await?;
/// messages.next().await.ok_or("closed")?;
///
/// let counters = echo.counters();
/// assert_eq!((counters.received, counters.allowed, counters.denied_total()), (2, 1, 1));
/// assert_eq!(counters.denied_of(Class::Malformed), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Counters {
    /// Messages that reached a subscription or the answers' inbox.
    pub received: u64,
    /// Of those, accepted by verification.
    pub allowed: u64,
    /// Of those, refused, by class.
    pub denied: BTreeMap<Class, u64>,
    /// Messages given to a handler or taken from a stream.
    pub handler_runs: u64,
    /// Accepted messages withdrawn before their handler ran.
    pub withdrawn: u64,
    /// Handlers that panicked.
    pub handler_panics: u64,
    /// Control messages (audit, handshake) that reached a subscription: never handed on.
    pub control: u64,
    /// Decisions recorded one by one.
    pub audit_decisions: u64,
    /// Refusals recorded in aggregates.
    pub audit_aggregated: u64,
    /// Decisions that could only be counted into a gap.
    pub audit_lost: u64,
    /// Refused because the audit was full (strict mode): no event could be made.
    pub unaudited: u64,
    /// Records handed to the bus.
    pub audit_published: u64,
    /// Signed refusals sent.
    pub refusals_sent: u64,
}

impl Counters {
    /// Refused messages of every class: `received - allowed`.
    pub fn denied_total(&self) -> u64 {
        self.denied.values().sum()
    }

    /// Refused messages of one class.
    pub fn denied_of(&self, class: Class) -> u64 {
        self.denied.get(&class).copied().unwrap_or(0)
    }
}

/// The live counters.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) received: AtomicU64,
    pub(crate) allowed: AtomicU64,
    denied: [AtomicU64; Class::ALL.len()],
    pub(crate) handler_runs: AtomicU64,
    pub(crate) withdrawn: AtomicU64,
    pub(crate) handler_panics: AtomicU64,
    pub(crate) control: AtomicU64,
    pub(crate) audit_decisions: AtomicU64,
    pub(crate) audit_aggregated: AtomicU64,
    pub(crate) audit_lost: AtomicU64,
    pub(crate) unaudited: AtomicU64,
    pub(crate) audit_published: AtomicU64,
    pub(crate) refusals_sent: AtomicU64,
}

impl Default for Tally {
    fn default() -> Self {
        let zero = AtomicU64::default;
        Self {
            received: zero(),
            allowed: zero(),
            denied: std::array::from_fn(|_| zero()),
            handler_runs: zero(),
            withdrawn: zero(),
            handler_panics: zero(),
            control: zero(),
            audit_decisions: zero(),
            audit_aggregated: zero(),
            audit_lost: zero(),
            unaudited: zero(),
            audit_published: zero(),
            refusals_sent: zero(),
        }
    }
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Tally {
    pub(crate) fn deny(&self, class: Class) {
        count(&self.denied[class as usize - 1]);
    }

    pub(crate) fn read(&self) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let denied = Class::ALL.iter().zip(&self.denied);
        Counters {
            received: get(&self.received),
            allowed: get(&self.allowed),
            denied: denied
                .map(|(class, counter)| (*class, get(counter)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            handler_runs: get(&self.handler_runs),
            withdrawn: get(&self.withdrawn),
            handler_panics: get(&self.handler_panics),
            control: get(&self.control),
            audit_decisions: get(&self.audit_decisions),
            audit_aggregated: get(&self.audit_aggregated),
            audit_lost: get(&self.audit_lost),
            unaudited: get(&self.unaudited),
            audit_published: get(&self.audit_published),
            refusals_sent: get(&self.refusals_sent),
        }
    }
}
