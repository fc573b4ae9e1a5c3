//! Each message at most once: the memory of accepted message ids (protocol §14.4).
//!
//! An id is kept until the message could no longer be accepted anyway, `iat + ttl + 2·skew`. An
//! unexpired id is never evicted: when memory is full the message is refused, the sender's own
//! share first, so that one sender cannot silence another.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;

use super::identity::KeyBytes;
use super::limits::REPLAY_PER_SENDER;
use super::limits::REPLAY_TOTAL;
use super::names::Tag;
use super::rejection::Overloaded;
use super::rejection::Place;
use super::rejection::Rejection;
use super::rejection::Replay;
use super::signing::ObjectId;
use super::time::ClockSkew;
use super::time::Timestamp;
use super::wire;
use super::wire::bin;

/// The id of a message: 16 random bytes, chosen by its sender, which never uses one twice (protocol
/// §14.4).
///
/// Two senders may use the same; it identifies a message only together with the sender's key.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct MessageId(pub [u8; 16]);

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", data_encoding::HEXLOWER.encode_display(&self.0))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Expired ids that are forgotten whenever one comes in. More than one, so that they become fewer;
/// few, so that a stream does not stand still once a second while a hundred thousand go.
const FORGOTTEN_EACH: usize = 4;

/// What identifies a message to the guard, and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting {
    pub(crate) sender: KeyBytes,
    pub(crate) mid: MessageId,
    pub(crate) issued: Timestamp,
    pub(crate) ttl_ms: u32,
}

/// By whom a message is to be taken once in all, for the shared replay memory (protocol §14.6).
#[derive(Clone, Debug)]
pub(crate) enum Takers {
    /// The members of this queue group.
    Group(String),
    /// The agent with this key, with all its processes.
    Agent(KeyBytes),
}

impl Sighting {
    /// The id under which takers on a pattern claim the message.
    pub(crate) fn claim_id(&self, pattern: &str, takers: &Takers) -> ObjectId {
        let (group, agent) = match takers {
            Takers::Group(group) => (Some(group.as_str()), None),
            Takers::Agent(key) => (None, Some(bin(&key.0))),
        };
        let (sender, mid) = (bin(&self.sender.0), bin(&self.mid.0));
        let body = wire::encode(&(sender, mid, pattern, group, agent));
        Tag::ReplayClaim.digest(&body)
    }
}

/// What a receiver remembers, to be asked without changing it.
pub(crate) trait LookUp {
    /// Checks that nothing is remembered of a sender for which its messages are refused unread.
    fn admits(&self, _sender: &KeyBytes) -> Result<(), Rejection> {
        Ok(())
    }

    /// Checks that a message was not accepted before.
    fn look_up(&self, sighting: &Sighting) -> Result<(), Rejection>;
}

impl LookUp for ReplayGuard {
    fn look_up(&self, sighting: &Sighting) -> Result<(), Rejection> {
        ReplayGuard::look_up(self, sighting)
    }
}

/// Members of a queue group in one process share a memory; it is locked only while it is asked.
impl LookUp for std::sync::Mutex<ReplayGuard> {
    fn look_up(&self, sighting: &Sighting) -> Result<(), Rejection> {
        // A panic elsewhere leaves the memory whole: its updates are single calls.
        self.lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .look_up(sighting)
    }
}

/// The memory of one replay scope: a subscription, or a queue group on a pattern (protocol §14.4).
///
/// Having passed a message through it tells you that this scope accepts the message no second time,
/// as long as the memory lives. It is bounded: [`REPLAY_PER_SENDER`] ids a sender and
/// [`REPLAY_TOTAL`] in all; at capacity a new message is refused and nothing unexpired forgotten.
///
/// ```
/// use trustmesh::proto::audit::{AuditSlot, Decision};
/// use trustmesh::proto::envelope::EnvelopeDraft;
/// use trustmesh::proto::policy::RateLimiter;
/// use trustmesh::proto::rejection::Class;
/// use trustmesh::proto::replay::{MessageId, ReplayGuard};
/// use trustmesh::proto::scope::Action;
/// use trustmesh::proto::subject::{Subject, SubjectPattern};
/// use trustmesh::proto::time::ClockSkew;
/// use trustmesh::proto::verify::{Arrival, Route, Scene, Verifier};
/// # use trustmesh::client::clock::{Clock, SystemClock};
/// use trustmesh::services::authority::Authority;
///
/// /// An audit that prints.
/// struct Printed;
///
/// impl AuditSlot for Printed {
///     fn fill(self, decision: Decision) {
///         println!("{:?}", decision.event());
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut mesh = Authority::dev("demo")?;
/// let planner = mesh.agent("planner", ["pub:tasks.>"])?;
/// let worker = mesh.agent("worker", ["sub:tasks.>"])?;
/// # let now = SystemClock::new().now()?;
/// let sending = planner.credential(planner.grant().clone(), now)?;
/// let subject = Subject::parse("tasks.index")?;
/// let draft = EnvelopeDraft::new(MessageId([1; 16]), now, Action::Publish, subject);
/// let frame = draft.sign(&sending)?.into_bytes();
///
/// let own = worker.credential(worker.grant().clone(), now)?;
/// let pattern = SubjectPattern::parse("tasks.>")?;
/// let route = Route::Subscription { pattern: &pattern, own: own.chain() };
/// let arrival = Arrival { subject: "tasks.index", reply: None, route };
/// let trust = worker.trust().current();
/// let scene = Scene { now, trust: &trust, sessions: &() };
///
/// let verifier = Verifier::new(worker.key(), ClockSkew::default());
/// let mut guard = ReplayGuard::new(ClockSkew::default(), None);
/// let mut rates = RateLimiter::default();
/// let first = verifier.verify(&frame, &arrival, &scene, &mut guard, &mut rates);
/// assert_eq!(first.record(Printed).map_err(|r| r.rejection)?.sender().as_str(), "planner");
/// let again = verifier.verify(&frame, &arrival, &scene, &mut guard, &mut rates);
/// assert_eq!(again.rejection().map(|r| r.class()), Some(Class::Replay));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ReplayGuard {
    senders: HashMap<KeyBytes, Log>,
    held: usize,
    per_sender: usize,
    total: usize,
    skew: ClockSkew,
    floor: Option<Timestamp>,
}

impl ReplayGuard {
    /// An empty memory.
    ///
    /// `skew` is the receiver's: an id is kept until `iat + ttl + 2·skew`. `floor` is set after a
    /// restart without complete memory (protocol §14.5): what was issued at or before it may have
    /// been accepted already and is refused.
    pub fn new(skew: ClockSkew, floor: Option<Timestamp>) -> Self {
        Self {
            senders: HashMap::new(),
            held: 0,
            per_sender: REPLAY_PER_SENDER,
            total: REPLAY_TOTAL,
            skew,
            floor,
        }
    }

    /// The same memory with other capacities, in ids per sender and in total. Beyond them a message
    /// is refused with [`Overloaded::ReplaySender`] or [`Overloaded::ReplayTotal`].
    #[must_use]
    pub fn with_capacity(mut self, per_sender: usize, total: usize) -> Self {
        self.per_sender = per_sender;
        self.total = total;
        self
    }

    /// Ids held, expired ones included until they are [forgotten](Self::forget_expired).
    pub fn len(&self) -> usize {
        self.held
    }

    /// Whether no id is held.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Checks, without changing anything, that a message was not accepted before.
    pub(crate) fn look_up(&self, sighting: &Sighting) -> Result<(), Rejection> {
        if self.floor.is_some_and(|floor| sighting.issued <= floor) {
            return Err(Rejection::Replay {
                reason: Replay::BeforeRestart,
            });
        }
        let log = self.senders.get(&sighting.sender);
        if log.is_some_and(|log| log.ids.contains(&sighting.mid)) {
            return Err(Rejection::Replay {
                reason: Replay::Seen,
            });
        }
        Ok(())
    }

    /// Takes a message into the memory.
    pub(crate) fn admit(
        &mut self,
        sighting: &Sighting,
        now: Timestamp,
    ) -> Result<Fresh, Rejection> {
        self.look_up(sighting)?;
        let until = sighting.issued.plus(u64::from(sighting.ttl_ms));
        let expires = until.plus(2 * self.skew.as_millis());
        if now > expires {
            // It was examined in time and waited since. Its id may already have come, been kept as
            // long as it had to be, and been forgotten.
            let place = Place::Header;
            return Err(Rejection::Expired { place, until });
        }
        if self.held >= self.total {
            self.forget_expired(now);
            if self.held >= self.total {
                return Err(Rejection::Overloaded {
                    reason: Overloaded::ReplayTotal,
                });
            }
        }
        let log = self.senders.entry(sighting.sender).or_default();
        self.held -= log.forget_expired(now, FORGOTTEN_EACH);
        if log.ids.len() >= self.per_sender {
            self.held -= log.forget_expired(now, usize::MAX);
        }
        if log.ids.len() >= self.per_sender {
            return Err(Rejection::Overloaded {
                reason: Overloaded::ReplaySender,
            });
        }
        log.remember(sighting.mid, expires);
        self.held += 1;
        Ok(Fresh { mid: sighting.mid })
    }

    /// Drops what can no longer be accepted at `now`. It is done as needed when a message is
    /// admitted; calling it only frees memory sooner.
    pub fn forget_expired(&mut self, now: Timestamp) {
        let mut held = 0;
        self.senders.retain(|_, log| {
            log.forget_expired(now, usize::MAX);
            held += log.ids.len();
            !log.ids.is_empty()
        });
        self.held = held;
    }

    /// Takes over everything another memory holds, its floor included when it is the higher one.
    /// Capacities are not looked at, so that nothing is lost.
    pub fn absorb(&mut self, other: &Self) {
        for (sender, theirs) in &other.senders {
            let ours = self.senders.entry(*sender).or_default();
            for (second, ids) in &theirs.by_expiry {
                for mid in ids {
                    if ours.ids.insert(*mid) {
                        ours.by_expiry.entry(*second).or_default().push(*mid);
                        self.held += 1;
                    }
                }
            }
        }
        self.floor = self.floor.max(other.floor);
    }
}

/// One sender's ids, also by the second in which they expire.
#[derive(Clone, Debug, Default)]
struct Log {
    ids: HashSet<MessageId>,
    by_expiry: BTreeMap<u64, Vec<MessageId>>,
}

impl Log {
    fn remember(&mut self, mid: MessageId, expires: Timestamp) {
        self.ids.insert(mid);
        self.by_expiry
            .entry(expires.as_millis() / 1000)
            .or_default()
            .push(mid);
    }

    /// Drops ids whose whole second has passed, at most so many; says how many.
    fn forget_expired(&mut self, now: Timestamp, most: usize) -> usize {
        let mut dropped = 0;
        while dropped < most
            && let Some(mut entry) = self.by_expiry.first_entry()
            && *entry.key() < now.as_millis() / 1000
        {
            match entry.get_mut().pop() {
                Some(mid) => {
                    self.ids.remove(&mid);
                    dropped += 1;
                }
                None => drop(entry.remove()),
            }
        }
        dropped
    }
}

/// Evidence that one message had not been accepted in its scope before, and now counts as accepted.
///
/// It names its message and is the last of the pieces a
/// [`VerifiedEnvelope`](super::verify::VerifiedEnvelope) is made of. Only a [`ReplayGuard`] makes
/// one:
///
/// ```compile_fail
/// use trustmesh::proto::replay::{Fresh, MessageId};
///
/// let forged = Fresh { mid: MessageId([0; 16]) }; // a private field, and no constructor
/// ```
#[derive(Debug)]
pub struct Fresh {
    mid: MessageId,
}

impl Fresh {
    /// The message this is evidence for.
    pub(crate) fn mid(&self) -> MessageId {
        self.mid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(sender: u8, mid: u32, issued: u64) -> Sighting {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&mid.to_be_bytes());
        Sighting {
            sender: KeyBytes([sender; 32]),
            mid: MessageId(id),
            issued: Timestamp::from_millis(issued),
            ttl_ms: 1_000,
        }
    }

    fn guard() -> ReplayGuard {
        ReplayGuard::new(ClockSkew::from_millis(500).unwrap(), None)
    }

    /// FR-1: the second sight of an id is a replay for as long as the message could be accepted.
    #[test]
    fn an_id_is_remembered_until_its_message_has_expired() {
        let mut guard = guard();
        let first = sighting(1, 1, 10_000);
        guard.admit(&first, Timestamp::from_millis(10_000)).unwrap();
        // iat + ttl + 2·skew = 12,000 is the last instant at which it matters.
        for now in [10_000, 11_500, 12_000] {
            let again = guard.admit(&first, Timestamp::from_millis(now));
            assert_eq!(
                again.unwrap_err(),
                Rejection::Replay {
                    reason: Replay::Seen
                }
            );
        }
        guard.forget_expired(Timestamp::from_millis(13_000));
        assert!(guard.is_empty());
    }

    #[test]
    fn everything_that_tells_messages_and_takers_apart_changes_the_claim() {
        let group = |name: &str| Takers::Group(name.to_owned());
        let agent = |byte| Takers::Agent(KeyBytes([byte; 32]));
        let first = sighting(1, 1, 10_000);
        let ids = [
            first.claim_id("a.*", &group("g")),
            sighting(2, 1, 10_000).claim_id("a.*", &group("g")),
            sighting(1, 2, 10_000).claim_id("a.*", &group("g")),
            first.claim_id("a.b", &group("g")),
            first.claim_id("a.*g", &group("")),
            first.claim_id("a.*", &group("h")),
            first.claim_id("a.*", &agent(1)),
            first.claim_id("a.*", &agent(2)),
        ];
        let distinct: HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        // What the message says besides does not.
        let later = sighting(1, 1, 11_000).claim_id("a.*", &group("g"));
        assert_eq!(later, ids[0]);
    }

    #[test]
    fn a_full_sender_is_refused_and_others_are_not() {
        let mut guard = guard().with_capacity(2, 3);
        let now = Timestamp::from_millis(10_000);
        for mid in 0..2 {
            guard.admit(&sighting(1, mid, 10_000), now).unwrap();
        }
        let full = Rejection::Overloaded {
            reason: Overloaded::ReplaySender,
        };
        assert_eq!(guard.admit(&sighting(1, 9, 10_000), now).unwrap_err(), full);
        guard.admit(&sighting(2, 0, 10_000), now).unwrap();
        let full = Rejection::Overloaded {
            reason: Overloaded::ReplayTotal,
        };
        assert_eq!(guard.admit(&sighting(3, 0, 10_000), now).unwrap_err(), full);
        // Nothing unexpired was given up for the refused.
        assert!(guard.look_up(&sighting(1, 0, 10_000)).is_err());
        // Room comes back with time.
        guard
            .admit(&sighting(1, 9, 14_000), Timestamp::from_millis(14_000))
            .unwrap();
    }

    /// What has expired goes a few at a time as others come, and at once where room is needed.
    #[test]
    fn expired_ids_make_room_without_being_waited_for() {
        const IDS: u32 = 100;
        let mut guard = guard().with_capacity(IDS as usize, IDS as usize);
        let now = Timestamp::from_millis(10_000);
        for mid in 0..IDS {
            guard.admit(&sighting(1, mid, 10_000), now).unwrap();
        }
        let later = Timestamp::from_millis(14_000);
        let first = guard.admit(&sighting(1, IDS, 14_000), later);
        first.unwrap();
        assert_eq!(guard.len(), 1, "the memory was full");
        for mid in 0..IDS - 1 {
            guard.admit(&sighting(2, mid, 14_000), later).unwrap();
        }
        let after = Timestamp::from_millis(18_000);
        guard.forget_expired(after);
        assert!(guard.is_empty());
        for mid in 0..10 {
            guard.admit(&sighting(1, mid, 14_000), later).unwrap();
        }
        guard.admit(&sighting(1, 10, 18_000), after).unwrap();
        assert_eq!(guard.len(), 10 - FORGOTTEN_EACH + 1);
    }

    #[test]
    fn what_was_issued_before_a_restart_is_refused() {
        let floor = Timestamp::from_millis(10_000);
        let mut guard = ReplayGuard::new(ClockSkew::default(), Some(floor));
        let late = guard.admit(&sighting(1, 1, 10_000), floor).unwrap_err();
        assert_eq!(
            late,
            Rejection::Replay {
                reason: Replay::BeforeRestart
            }
        );
        guard.admit(&sighting(1, 1, 10_001), floor).unwrap();
    }

    #[test]
    fn a_later_scope_inherits_the_ids_of_an_earlier_one() {
        let mut earlier = guard();
        let now = Timestamp::from_millis(10_000);
        earlier.admit(&sighting(1, 1, 10_000), now).unwrap();
        let mut later = guard();
        later.absorb(&earlier);
        assert_eq!(later.len(), 1);
        assert!(later.admit(&sighting(1, 1, 10_000), now).is_err());
    }
}
