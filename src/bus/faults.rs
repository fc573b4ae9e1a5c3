//! Faults that tests inject into a [`MemoryBus`](super::memory::MemoryBus), so that it behaves
//! like the hostile bus everything above must withstand.
//!
//! A [`Fault`] is one bad thing that can happen to a message, a [`Rule`] says to which messages
//! and how often, [`Faults`] are the rules in force with the seed of their randomness: the same
//! seed and the same traffic meet the same fate.
//!
//! ```
//! use std::time::Duration;
//! use trustmesh::bus::faults::{Fault, Faults, Rule};
//! use trustmesh::bus::memory::MemoryBus;
//!
//! let bus = MemoryBus::new();
//! bus.inject(
//!     Faults::seeded(7)
//!         .with(Rule::on("orders.>", Fault::Drop).chance(0.1))
//!         .with(Rule::on("orders.new", Fault::Duplicate(1)).times(1))
//!         .with(Rule::on(">", Fault::Delay(Duration::from_millis(20)))),
//! );
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::Delivery;
use super::HeaderMap;
use super::Outgoing;
use super::Subject;

/// One bad thing that can happen to a message.
///
/// ```
/// use trustmesh::bus::faults::{Fault, Faults, Rule};
/// use trustmesh::bus::memory::MemoryBus;
/// use trustmesh::bus::{Bus, Outgoing};
/// # use futures_util::StreamExt as _;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = MemoryBus::new();
/// let shout = Fault::alter(|delivery| delivery.payload = "TEA".into());
/// bus.inject(Faults::seeded(1).with(Rule::on("orders.*", shout).times(1)));
///
/// let connection = bus.connect();
/// let mut orders = connection.subscribe("orders.>".into(), None).await?;
/// connection.publish(Outgoing::new("orders.new", "tea")).await?;
/// connection.publish(Outgoing::new("orders.new", "tea")).await?;
/// assert_eq!(orders.next().await.ok_or("closed")?.payload, "TEA");
/// assert_eq!(orders.next().await.ok_or("closed")?.payload, "tea");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub enum Fault {
    /// It never arrives.
    Drop,
    /// It arrives this many times more.
    Duplicate(usize),
    /// It arrives later, on tokio's clock. Outside a tokio runtime it arrives at once.
    Delay(Duration),
    /// It waits until this many messages wait; then all arrive, shuffled.
    Reorder(usize),
    /// One bit of the payload is flipped. An empty payload has none.
    Corrupt,
    /// It is delivered as if published on another subject: those who listen there get it, and
    /// it names that subject.
    Reroute(Subject),
    /// Those who should get it do, but it names another subject.
    Relabel(Subject),
    /// Its reply subject is replaced or removed.
    Reply(Option<Subject>),
    /// Its headers are replaced or removed.
    Headers(Option<HeaderMap>),
    /// Anything else: see [`Fault::alter`].
    Alter(Alteration),
}

impl Fault {
    /// A fault that changes the delivery in a way of the test's own. It must not use the bus, which
    /// is busy with this message.
    pub fn alter(change: impl Fn(&mut Delivery) + Send + Sync + 'static) -> Self {
        Self::Alter(Alteration(Arc::new(change)))
    }
}

/// A change to a delivery, made by [`Fault::alter`].
#[derive(Clone)]
pub struct Alteration(Arc<dyn Fn(&mut Delivery) + Send + Sync>);

impl fmt::Debug for Alteration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alteration")
    }
}

/// To which messages a fault happens, and how often. Without more: to all that match, always. A
/// message that an earlier rule multiplied or rerouted is still matched by the subject it was
/// published on.
#[derive(Clone, Debug)]
pub struct Rule {
    pattern: Subject,
    fault: Fault,
    chance: f64,
    left: u64,
    held: Vec<InFlight>,
}

impl Rule {
    /// Lets `fault` happen to messages published on subjects that match `pattern`, which may hold
    /// the wildcards `*` and `>`.
    pub fn on(pattern: impl Into<Subject>, fault: Fault) -> Self {
        Self {
            pattern: pattern.into(),
            fault,
            chance: 1.0,
            left: u64::MAX,
            held: Vec::new(),
        }
    }

    /// Only with this probability, from 0 (never) to 1 (always, the default), drawn for each
    /// message.
    pub fn chance(mut self, probability: f64) -> Self {
        self.chance = probability;
        self
    }

    /// Only to the first `count` messages that match and are drawn; by default to all.
    pub fn times(mut self, count: u64) -> Self {
        self.left = count;
        self
    }

    fn apply(&mut self, dice: &mut Dice, messages: Vec<InFlight>) -> Vec<InFlight> {
        match &self.fault {
            Fault::Drop => return Vec::new(),
            Fault::Duplicate(more) => {
                let copies = messages
                    .iter()
                    .flat_map(|m| std::iter::repeat_n(m, more + 1));
                return copies.cloned().collect();
            }
            Fault::Reorder(window) => {
                self.held.extend(messages);
                if self.held.len() < *window {
                    return Vec::new();
                }
                dice.shuffle(&mut self.held);
                return std::mem::take(&mut self.held);
            }
            _ => {}
        }
        let change = |mut message: InFlight| {
            self.fault.change(dice, &mut message);
            message
        };
        messages.into_iter().map(change).collect()
    }
}

impl Fault {
    /// The faults that turn one message into one other.
    fn change(&self, dice: &mut Dice, message: &mut InFlight) {
        let delivery = &mut message.delivery;
        match self {
            Self::Drop | Self::Duplicate(_) | Self::Reorder(_) => {}
            Self::Delay(by) => message.delay += *by,
            Self::Corrupt if delivery.payload.is_empty() => {}
            Self::Corrupt => {
                let mut bytes = BytesMut::from(&delivery.payload[..]);
                let place = dice.below(bytes.len());
                bytes[place] ^= 1 << dice.below(8);
                delivery.payload = bytes.freeze();
            }
            Self::Reroute(subject) => {
                message.route = subject.clone();
                delivery.subject = subject.clone();
            }
            Self::Relabel(subject) => delivery.subject = subject.clone(),
            Self::Reply(reply) => delivery.reply = reply.clone(),
            Self::Headers(headers) => delivery.headers = headers.clone(),
            Self::Alter(Alteration(change)) => change(delivery),
        }
    }
}

/// The rules in force, applied in order, each to what the one before left.
#[derive(Clone, Debug)]
pub struct Faults {
    dice: Dice,
    rules: Vec<Rule>,
}

impl Faults {
    /// No faults yet; chances, shuffles and flipped bits will follow from `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self {
            dice: Dice::seeded(seed),
            rules: Vec::new(),
        }
    }

    /// These faults and one more rule.
    pub fn with(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// What becomes of a published message on its way.
    pub(super) fn strike(&mut self, message: Outgoing) -> Vec<InFlight> {
        let published = message.subject.clone();
        let mut messages = vec![InFlight {
            route: published.clone(),
            delivery: message.into(),
            delay: Duration::ZERO,
        }];
        for rule in &mut self.rules {
            let meant = rule.left > 0 && matches(&rule.pattern, &published);
            if meant && self.dice.unit() < rule.chance {
                rule.left -= 1;
                messages = rule.apply(&mut self.dice, messages);
            }
        }
        messages
    }

    /// What [`Fault::Reorder`] still holds back, in the order it was published.
    pub(super) fn release(self) -> impl Iterator<Item = InFlight> {
        self.rules.into_iter().flat_map(|rule| rule.held)
    }
}

/// A message between publisher and subscribers.
#[derive(Clone, Debug)]
pub(super) struct InFlight {
    /// The subject by which the bus chooses who gets it.
    pub(super) route: Subject,
    pub(super) delivery: Delivery,
    pub(super) delay: Duration,
}

/// Whether a subscription to `pattern` gets what is published on `subject`, as nats-server
/// decides it: a subject is taken literally even if it looks like a pattern, one with an empty
/// token reaches nobody, and `>` means something only at the end.
pub(super) fn matches(pattern: &str, subject: &str) -> bool {
    let mut wanted = pattern.split('.');
    let mut tokens = subject.split('.');
    if tokens.clone().any(str::is_empty) {
        return false;
    }
    loop {
        match (wanted.next(), tokens.next()) {
            (Some(">"), Some(_)) => return wanted.next().is_none(),
            (Some("*"), Some(_)) => {}
            (Some(want), Some(token)) if want == token => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// Repeatable randomness (SplitMix64), for tests and for picking queue members. Not for secrets.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        // The remainder fits, being below a usize.
        (self.next() % bound as u64) as usize
    }

    /// A number in `[0, 1)`: 53 bits, what an f64 holds exactly.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
