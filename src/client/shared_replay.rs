//! The replay memory that the members of a queue group share, and the runs of an agent (protocol
//! §14.6).
//!
//! Whoever wants to take a message creates its claim in a bucket of the bus's store; one succeeds.
//! A claim is made after everything about the message was checked that changes nothing, and before
//! anything is consumed. Without an answer the message is refused and may come again.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::fmt;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use quick_cache::sync::Cache;
use tokio::sync::OnceCell;

use super::control::Control;
use super::guards::lock;
use crate::bus::ConnectError;
use crate::bus::store::BucketConfig;
use crate::bus::store::Expect;
use crate::bus::store::Store;
use crate::bus::store::StoreError;
use crate::proto::identity::KeyBytes;
use crate::proto::limits::SHARED_REPLAY_AGE_S;
use crate::proto::limits::SHARED_REPLAY_BYTES;
use crate::proto::limits::SHARED_REPLAY_PER_SENDER;
use crate::proto::names::REPLAY_BUCKET;
use crate::proto::rejection::Overloaded;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::Replay;
use crate::proto::replay::Sighting;
use crate::proto::replay::Takers;
use crate::proto::signing::MeshId;
use crate::proto::signing::ObjectId;
use crate::proto::time::Timestamp;

/// How long a claim may take: short beside the lifetime of a message, long beside a round trip.
const PATIENCE: Duration = Duration::from_secs(2);

/// Claims of others that are remembered, so that a flood of one replay costs the store little.
/// Forgetting one is safe: the store is asked again.
const TAKEN: usize = 8 * 1024;

/// Senders whose claims are counted at once.
const SENDERS: usize = 64 * 1024;

/// The bytes that tell the claims of one subscription from those of every other.
const TOKEN_BYTES: usize = 16;

/// A claim's value: the claimant's token, then the sender's key.
const VALUE_BYTES: usize = TOKEN_BYTES + 32;

/// What becomes of a claim: the message is this subscription's, or refused.
pub(crate) type Claim = Pin<Box<dyn Future<Output = Result<(), Rejection>> + Send>>;

/// The shared memory as one client uses it.
pub(crate) struct SharedReplay {
    store: OnceCell<Arc<dyn Store>>,
    budget: Mutex<Budget>,
    taken: Cache<ObjectId, ()>,
}

/// The shared memory cannot be used, so nothing is subscribed to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("the shared replay memory cannot be used")]
    Connect(#[from] ConnectError),
    #[error("the shared replay memory cannot be used")]
    Store(#[from] StoreError),
}

impl Default for SharedReplay {
    fn default() -> Self {
        Self {
            store: OnceCell::new(),
            budget: Mutex::new(Budget::new(SHARED_REPLAY_PER_SENDER)),
            taken: Cache::new(TAKEN),
        }
    }
}

impl SharedReplay {
    /// Opens the mesh's bucket, on the client's second connection.
    pub(crate) async fn open(
        &self,
        control: &Control,
        mesh: MeshId,
    ) -> Result<Arc<dyn Store>, OpenError> {
        let open = async || -> Result<Arc<dyn Store>, OpenError> {
            let bucket = BucketConfig::new(format!("{REPLAY_BUCKET}{mesh}"))
                .with_max_age(Duration::from_secs(SHARED_REPLAY_AGE_S))
                .with_max_value_bytes(VALUE_BYTES)
                .with_max_bytes(SHARED_REPLAY_BYTES)
                .with_timeout(PATIENCE);
            Ok(control.bus().await?.store(&bucket).await?)
        };
        self.store.get_or_try_init(open).await.cloned()
    }
}

impl fmt::Debug for SharedReplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedReplay")
            .field("open", &self.store.initialized())
            .finish_non_exhaustive()
    }
}

/// One subscription, as the shared memory knows it.
#[derive(Debug)]
pub(crate) struct Claimant {
    pub(crate) memory: Arc<SharedReplay>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) pattern: String,
    pub(crate) takers: Takers,
    /// Random, so that a later run does not take an earlier one's claims for its own.
    pub(crate) token: [u8; TOKEN_BYTES],
}

impl Claimant {
    /// Claims a message. Nothing is sent for one that is known to be taken, or whose sender has
    /// used up its share here.
    pub(crate) fn claim(&self, sighting: &Sighting, now: Timestamp) -> Claim {
        let id = sighting.claim_id(&self.pattern, &self.takers);
        if self.memory.taken.get(&id).is_some() {
            return Box::pin(ready(Err(TAKEN_ELSEWHERE)));
        }
        let sender = sighting.sender;
        if let Err(rejection) = lock(&self.memory.budget).check(&sender, now) {
            return Box::pin(ready(Err(rejection)));
        }
        let (memory, store) = (self.memory.clone(), self.store.clone());
        let value = Bytes::from([&self.token[..], &sender.0[..]].concat());
        Box::pin(async move {
            match create(&*store, &id, value).await {
                Ok(Outcome::Created) => {
                    lock(&memory.budget).spend(sender, now);
                    Ok(())
                }
                Ok(Outcome::OwnBefore) => Ok(()),
                Ok(Outcome::Taken) => {
                    memory.taken.insert(id, ());
                    Err(TAKEN_ELSEWHERE)
                }
                Err(error) => {
                    tracing::warn!(%error, "the shared replay memory does not answer");
                    Err(NO_ANSWER)
                }
            }
        })
    }
}

const TAKEN_ELSEWHERE: Rejection = Rejection::Replay {
    reason: Replay::Elsewhere,
};

const NO_ANSWER: Rejection = Rejection::Overloaded {
    reason: Overloaded::SharedReplay,
};

enum Outcome {
    Created,
    /// Claimed by this very subscription, which did not hear of it or refused the message since.
    /// Whether it accepted the message its own memory knows.
    OwnBefore,
    Taken,
}

async fn create(store: &dyn Store, id: &ObjectId, value: Bytes) -> Result<Outcome, StoreError> {
    let key = id.to_string();
    match store.put(&key, value.clone(), Expect::Absent).await {
        Ok(_) => return Ok(Outcome::Created),
        Err(StoreError::Conflict) => {}
        Err(error) => return Err(error),
    }
    match store.get(&key).await? {
        Some(entry) if entry.value == value => Ok(Outcome::OwnBefore),
        Some(_) => Ok(Outcome::Taken),
        // It was there a moment ago. A store that wavers decides nothing.
        None => Err(StoreError::Conflict),
    }
}

/// How many claims were made for each sender in the time a claim lives.
#[derive(Debug)]
struct Budget {
    per_sender: u64,
    senders: HashMap<KeyBytes, Spent>,
}

#[derive(Debug, Default)]
struct Spent {
    total: u64,
    /// Second, claims made in it; oldest first.
    by_second: VecDeque<(u64, u64)>,
}

impl Budget {
    fn new(per_sender: u64) -> Self {
        Self {
            per_sender,
            senders: HashMap::new(),
        }
    }

    /// Checks that one more claim may be made for a sender.
    fn check(&mut self, sender: &KeyBytes, now: Timestamp) -> Result<(), Rejection> {
        let full = |reason| Err(Rejection::Overloaded { reason });
        if let Some(spent) = self.senders.get_mut(sender) {
            spent.forget(now);
            return match spent.total < self.per_sender {
                true => Ok(()),
                false => full(Overloaded::ReplaySender),
            };
        }
        if self.senders.len() >= SENDERS {
            self.senders.retain(|_, spent| {
                spent.forget(now);
                spent.total > 0
            });
        }
        match self.senders.len() < SENDERS {
            true => Ok(()),
            false => full(Overloaded::ReplayTotal),
        }
    }

    /// Notes a claim. Those under way together may go beyond the limit by their number.
    fn spend(&mut self, sender: KeyBytes, now: Timestamp) {
        let spent = self.senders.entry(sender).or_default();
        let second = now.as_millis() / 1000;
        spent.total += 1;
        match spent.by_second.back_mut() {
            Some((last, count)) if *last >= second => *count += 1,
            _ => spent.by_second.push_back((second, 1)),
        }
    }
}

impl Spent {
    fn forget(&mut self, now: Timestamp) {
        let since = (now.as_millis() / 1000).saturating_sub(SHARED_REPLAY_AGE_S);
        while let Some((second, count)) = self.by_second.front() {
            if *second >= since {
                break;
            }
            self.total -= count;
            self.by_second.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::memory::MemoryBus;
    use crate::proto::replay::MessageId;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn sighting(sender: u8, mid: u8) -> Sighting {
        Sighting {
            sender: KeyBytes([sender; 32]),
            mid: MessageId([mid; 16]),
            issued: NOW,
            ttl_ms: 10_000,
        }
    }

    async fn member(bus: &MemoryBus, token: u8) -> Claimant {
        let control = Control::beside(Arc::new(bus.connect()));
        let memory = SharedReplay::default();
        let store = memory.open(&control, MeshId([7; 16])).await.unwrap();
        Claimant {
            memory: Arc::new(memory),
            store,
            pattern: "tasks.*".to_owned(),
            takers: Takers::Group("workers".to_owned()),
            token: [token; TOKEN_BYTES],
        }
    }

    #[tokio::test]
    async fn a_sender_at_its_capacity_is_refused_and_others_are_not() {
        let bus = MemoryBus::new();
        let only = member(&bus, 1).await;
        lock(&only.memory.budget).per_sender = 2;
        let bucket = bus.bucket(&format!("{REPLAY_BUCKET}{}", MeshId([7; 16])));
        for mid in 1..=2 {
            assert_eq!(only.claim(&sighting(1, mid), NOW).await, Ok(()));
        }
        let full = Rejection::Overloaded {
            reason: Overloaded::ReplaySender,
        };
        assert_eq!(only.claim(&sighting(1, 3), NOW).await, Err(full));
        assert_eq!(bucket.len(), 2, "nothing was sent, and nothing forgotten");
        assert_eq!(only.claim(&sighting(2, 1), NOW).await, Ok(()));
        // Room comes back when the claims have aged out.
        let later = NOW.plus((SHARED_REPLAY_AGE_S + 1) * 1000);
        assert_eq!(only.claim(&sighting(1, 3), later).await, Ok(()));
    }

    /// Whoever sends copies of a message must not use up its sender's share.
    #[tokio::test]
    async fn replays_use_up_nothing_of_the_senders_share() {
        let bus = MemoryBus::new();
        let (first, second) = (member(&bus, 1).await, member(&bus, 2).await);
        lock(&second.memory.budget).per_sender = 1;
        assert_eq!(first.claim(&sighting(1, 1), NOW).await, Ok(()));
        for _ in 0..3 {
            let replay = second.claim(&sighting(1, 1), NOW).await;
            assert_eq!(replay, Err(TAKEN_ELSEWHERE));
        }
        assert_eq!(second.claim(&sighting(1, 2), NOW).await, Ok(()));
    }

    #[tokio::test]
    async fn a_claim_whose_answer_was_lost_is_ones_own_and_nobody_elses() {
        let bus = MemoryBus::new();
        let (first, second) = (member(&bus, 1).await, member(&bus, 2).await);
        bus.bucket(&format!("{REPLAY_BUCKET}{}", MeshId([7; 16])))
            .lose_answers(1);
        assert_eq!(first.claim(&sighting(1, 1), NOW).await, Err(NO_ANSWER));
        let replay = second.claim(&sighting(1, 1), NOW).await;
        assert_eq!(replay, Err(TAKEN_ELSEWHERE));
        assert_eq!(first.claim(&sighting(1, 1), NOW).await, Ok(()));
    }
}
