//! Keeping up with the trust state of a served mesh (protocol §9.11, §9.12).
//!
//! ```text
//! <prefix>.trust ──bulletin──▶ Follower ──▶ TrustHandle     pushed at every change and every 5 s
//! store: head, part.<digest>, root.<n> ──▶ Follower         what a bulletin names and does not carry,
//!                                                           and everything after a silence
//! ```
//!
//! Neither push nor store is believed: see [`Follower`]. A push that is lost costs seconds, since
//! the next names what it named; a push that never comes is noticed by its silence.

mod cache;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::cache::Cache;
use super::Shared;
use super::control::Control;
use super::guards::lock;
use super::identity::TrustHandle;
use crate::bus::Bus;
use crate::bus::BusSubscriber;
use crate::bus::Subject;
use crate::bus::store::BucketConfig;
use crate::bus::store::Store;
use crate::bus::store::StoreError;
use crate::files::FileError;
use crate::proto::rejection::Class;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::StaleState;
use crate::proto::root::TrustRoot;
use crate::proto::signing::MeshId;
use crate::proto::signing::ObjectId;
use crate::proto::trust::Admission;
use crate::proto::trust::BULLETIN_MAX;
use crate::proto::trust::Bulletin;
use crate::proto::trust::Follower;
use crate::proto::trust::Progress;
use crate::proto::trust::TIMESTAMP_EVERY_MS;
use crate::proto::trust::TrustTime;

/// Silence after which everything is read from the store: two pushes were missed.
const SILENCE: Duration = Duration::from_millis(2 * TIMESTAMP_EVERY_MS + 500);

/// Least time between two full reads that hints of peers cause.
const HINT_EVERY: Duration = Duration::from_secs(1);

/// Pushes checked in a second. A verifier service makes one at each change and every 5 s; a flood of
/// forged ones costs a client half a percent of a core, and the store tells what they drown.
const CHECKS_PER_SECOND: u32 = 100;

/// The topic of the notice that a trust state was refused.
pub(super) const NOTICE_REFUSED: &str = "trust-refused";

/// The topic of the notice that the trust state is up to date.
pub(super) const NOTICE_CURRENT: &str = "trust-current";

/// Least time between two notices about the same thing going wrong and right.
const NOTICE_EVERY: Duration = Duration::from_secs(5);

/// Parts fetched at the same time.
const FETCHES: usize = 8;

/// Times a bulletin is tried: each try needs one more root, or parts of a state that was replaced
/// meanwhile.
const TRIES: usize = 16;

/// Room of the bucket: 100,000 agents and as many revocations take 50 MB.
const BUCKET_BYTES: u64 = 512 * 1024 * 1024;

/// The bucket that a served mesh keeps its trust state in.
pub(crate) fn trust_bucket(mesh: MeshId) -> BucketConfig {
    BucketConfig::new(format!("TRUSTMESH_{mesh}"))
        .with_max_value_bytes(BULLETIN_MAX)
        .with_max_bytes(BUCKET_BYTES)
}

/// The key of the newest bulletin.
pub(crate) const HEAD: &str = "head";

/// The key of a part.
pub(crate) fn part_key(digest: &ObjectId) -> String {
    format!("part.{digest}")
}

/// The key of a trust root.
pub(crate) fn root_key(version: u32) -> String {
    format!("root.{version}")
}

/// The subject bulletins are pushed on.
pub(crate) fn bulletin_subject(prefix: &str) -> String {
    format!("{prefix}.trust")
}

/// Why a trust state could not be brought up to date.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The store has no trust state.
    #[error("the store has no trust state: has the verifier service been started?")]
    Absent,
    /// The store cannot be used.
    #[error("the store of the trust state: {0}")]
    Store(#[from] StoreError),
    /// What the store or a push has is not the mesh's, or goes back.
    #[error("what the bus has is not a newer trust state of this mesh: {0}")]
    Refused(#[from] Rejection),
    /// The cache cannot be used; what it says may be needed to notice a rollback.
    #[error("the cache of the trust state: {0}")]
    Cache(String),
    /// The bus cannot be used.
    #[error("the bus: {0}")]
    Bus(String),
    /// The agent has no grant of its own, and nothing to connect under.
    #[error("the agent has no authority of its own to connect under")]
    NoGrant,
    /// It took too long.
    #[error("the trust state did not come in time")]
    TimedOut,
}

impl From<FileError> for FeedError {
    fn from(error: FileError) -> Self {
        Self::Cache(error.to_string())
    }
}

/// What a mesh's trust state is followed by.
#[derive(Debug)]
pub(crate) struct Feed {
    mesh: MeshId,
    follower: Mutex<Follower>,
    cache: Option<Cache>,
    handle: Arc<TrustHandle>,
    /// A message came from an agent that we do not know, perhaps not yet.
    hint: Notify,
}

/// Where a feed begins.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) root: Bytes,
    pub(crate) admission: Admission,
    pub(crate) pin: Option<ObjectId>,
    /// Where the newest state is kept between runs.
    pub(crate) cache: Option<PathBuf>,
}

impl Feed {
    /// Goes on from what the cache has.
    ///
    /// # Errors
    ///
    /// [`FeedError::Absent`] when there is nothing; [`FeedError::Cache`] and
    /// [`FeedError::Refused`] when it is broken.
    pub(crate) fn resume(origin: Origin) -> Result<Arc<Self>, FeedError> {
        let mut follower = Follower::new(&origin.root, origin.admission, origin.pin)?;
        let cache = origin.cache.map(Cache::at);
        if let Some(cache) = &cache {
            cache.load(&mut follower)?;
        }
        Self::of(follower, cache)
    }

    /// Reads the trust state from the bus for the first time.
    ///
    /// # Errors
    ///
    /// [`FeedError`].
    pub(crate) async fn begin(origin: Origin, bus: &dyn Bus) -> Result<Arc<Self>, FeedError> {
        let mut follower = Follower::new(&origin.root, origin.admission, origin.pin)?;
        let cache = origin.cache.map(Cache::at);
        if let Some(cache) = &cache {
            cache.load(&mut follower)?;
        }
        let store = open_store(bus, follower.root().mesh()).await?;
        let follower = Mutex::new(follower);
        read_head(&store, &follower).await?;
        let follower = follower
            .into_inner()
            .unwrap_or_else(|poison| poison.into_inner());
        if let Some(cache) = &cache {
            cache.store(&follower)?;
        }
        Self::of(follower, cache)
    }

    fn of(follower: Follower, cache: Option<Cache>) -> Result<Arc<Self>, FeedError> {
        let state = follower.state().ok_or(FeedError::Absent)?.clone();
        Ok(Arc::new(Self {
            mesh: state.mesh(),
            handle: Arc::new(TrustHandle::new(state)),
            follower: Mutex::new(follower),
            cache,
            hint: Notify::new(),
        }))
    }

    /// The trust state that is kept up to date.
    pub(crate) fn handle(&self) -> &Arc<TrustHandle> {
        &self.handle
    }

    /// An unknown agent: a reason to look whether there is a newer state, and no more.
    pub(crate) fn hint(&self) {
        self.hint.notify_one();
    }

    /// Takes in a timestamp that a peer carried. It moves nothing: one that is newer is a reason to
    /// look, and one that contradicts what is held shows that the timestamp role signed two
    /// branches.
    pub(crate) fn hear_of(&self, timestamp: &Bytes, shared: &Shared) {
        let held = self.handle.current();
        let theirs = TrustTime::open(held.root(), timestamp);
        let (Ok(theirs), Some(ours)) = (theirs, held.time()) else {
            // Perhaps made under a root that follows ours.
            self.hint();
            return;
        };
        match theirs.check_follows(ours) {
            Ok(()) if theirs.epoch() > ours.epoch() => self.hint(),
            Err(Rejection::StaleState {
                reason: StaleState::Equivocation,
            }) => {
                let text = "a peer knows another trust state of the same epoch".to_owned();
                tracing::warn!(agent = %shared.identity.id, "{text}");
                shared.plane_notice("trust-equivocation", text);
            }
            // A peer that is behind will find out by itself.
            _ => {}
        }
    }

    /// Reads the newest state from the store.
    ///
    /// # Errors
    ///
    /// [`FeedError`]; what was held stays.
    pub(crate) async fn catch_up(&self, bus: &dyn Bus) -> Result<(), FeedError> {
        let store = open_store(bus, self.mesh).await?;
        let read = read_head(&store, &self.follower).await;
        self.publish()?;
        read
    }

    /// [`catch_up`](Self::catch_up) on a client's second connection.
    ///
    /// # Errors
    ///
    /// [`FeedError`]; what was held stays.
    pub(crate) async fn refresh(&self, control: &Control) -> Result<(), FeedError> {
        let bus = control.bus().await;
        let bus = bus.map_err(|error| FeedError::Bus(error.to_string()))?;
        self.catch_up(&**bus).await
    }

    /// Takes in what was pushed, and says whether it was new.
    async fn hear(
        &self,
        payload: &Bytes,
        bus: &dyn Bus,
        pace: &mut Pace,
    ) -> Result<bool, FeedError> {
        let bulletin = Bulletin::parse(payload)?;
        // Most bulletins carry all that is new, and the store is not needed.
        let progress = lock(&self.follower).hear(&bulletin, |_| None);
        match progress {
            // It may be the newest there is, or somebody repeats it to hide the newest.
            Ok(Progress::Unchanged) => return Ok(false),
            Ok(Progress::Advanced(_)) => {}
            Ok(Progress::Missing(_)) => {
                let store = open_store(bus, self.mesh).await?;
                take(&bulletin, &store, &self.follower).await?;
            }
            // Made under another root, or by nobody: anybody can send this, so it costs little.
            Err(why) if may_be_another_root(&why) && pace.may_look() => {
                pace.looked = Instant::now();
                let version = || lock(&self.follower).root().version();
                let known = version();
                self.catch_up(bus).await?;
                // Were it made under the next root, that would be in the store.
                return match version() > known {
                    true => Ok(true),
                    false => Err(why.into()),
                };
            }
            Err(why) => return Err(why.into()),
        }
        self.publish()?;
        Ok(true)
    }

    /// Hands the newest state to those who decide, and keeps it.
    fn publish(&self) -> Result<(), FeedError> {
        let follower = lock(&self.follower);
        let Some(state) = follower.state() else {
            return Ok(());
        };
        self.handle.replace(state.clone())?;
        match &self.cache {
            Some(cache) => Ok(cache.store(&follower)?),
            None => Ok(()),
        }
    }

    /// Follows until the client is gone.
    pub(crate) async fn run(self: Arc<Self>, client: Weak<Shared>) {
        let mut alarms = Alarms::default();
        loop {
            let Some(shared) = client.upgrade() else {
                return;
            };
            let bus = shared.control.bus().await.cloned();
            let subject = Subject::from(bulletin_subject(&shared.prefix));
            drop(shared);
            let failed = match bus {
                Ok(bus) => self
                    .follow(&*bus, subject, &client, &mut alarms)
                    .await
                    .err(),
                Err(error) => Some(FeedError::Bus(error.to_string())),
            };
            let Some(shared) = client.upgrade() else {
                return;
            };
            if let Some(error) = failed {
                alarms.raise(&error, &shared);
            }
            drop(shared);
            tokio::time::sleep(HINT_EVERY).await;
        }
    }

    /// Follows until the subscription ends.
    async fn follow(
        &self,
        bus: &dyn Bus,
        subject: Subject,
        client: &Weak<Shared>,
        alarms: &mut Alarms,
    ) -> Result<(), FeedError> {
        let pushes = bus.subscribe(subject, None).await;
        let mut pushes = pushes.map_err(|error| FeedError::Bus(error.to_string()))?;
        // What was pushed before the subscription is in the store.
        let mut outcome = self.catch_up(bus).await;
        let mut pace = Pace::new();
        loop {
            let Some(shared) = client.upgrade() else {
                return Ok(());
            };
            match &outcome {
                Ok(()) => alarms.clear(&shared),
                Err(error) => alarms.raise(error, &shared),
            }
            drop(shared);
            outcome = match self.next(&mut pushes, &mut pace).await {
                Next::Push(payload) => match self.hear(&payload, bus, &mut pace).await {
                    Ok(new) => {
                        if new {
                            pace.heard = Instant::now();
                        }
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                Next::Look => {
                    pace.looked = Instant::now();
                    pace.skipped = false;
                    self.catch_up(bus).await
                }
                Next::Ended => return Ok(()),
            };
        }
    }

    async fn next(&self, pushes: &mut BusSubscriber, pace: &mut Pace) -> Next {
        loop {
            tokio::select! {
                push = pushes.next() => match push {
                    Some(delivery) if delivery.status.is_some() => return Next::Look,
                    Some(delivery) if pace.may_check() => return Next::Push(delivery.payload),
                    // What was in it is in the store as well.
                    Some(_) => pace.skipped = true,
                    None => return Next::Ended,
                },
                // Anybody can cause hints, so they cause little.
                () = self.hint.notified() => if pace.may_look() {
                    return Next::Look;
                },
                () = tokio::time::sleep_until(pace.due()) => return Next::Look,
            }
        }
    }
}

/// How often something is done that others can cause.
#[derive(Debug)]
struct Pace {
    /// When the store was read last.
    looked: Instant,
    /// When something new was pushed last.
    heard: Instant,
    /// Pushes that may still be checked in this second, and when it began.
    checks: (u32, Instant),
    /// Whether pushes were not looked at.
    skipped: bool,
}

impl Pace {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            looked: now,
            heard: now,
            checks: (CHECKS_PER_SECOND, now),
            skipped: false,
        }
    }

    /// Whether the store may be read because somebody said so.
    fn may_look(&self) -> bool {
        self.looked.elapsed() >= HINT_EVERY
    }

    /// Whether another push may be checked: each can cost a signature.
    fn may_check(&mut self) -> bool {
        if self.checks.1.elapsed() >= Duration::from_secs(1) {
            self.checks = (CHECKS_PER_SECOND, Instant::now());
        }
        let left = self.checks.0.checked_sub(1);
        self.checks.0 = left.unwrap_or(0);
        left.is_some()
    }

    /// When the store is to be read whatever is pushed.
    fn due(&self) -> Instant {
        if self.skipped {
            self.looked + HINT_EVERY
        } else {
            self.heard.max(self.looked) + SILENCE
        }
    }
}

enum Next {
    Push(Bytes),
    Look,
    Ended,
}

async fn open_store(bus: &dyn Bus, mesh: MeshId) -> Result<Arc<dyn Store>, FeedError> {
    let config = trust_bucket(mesh).existing();
    Ok(bus.store(&config).await?)
}

/// The trust roots that the store has after the first, each signed by the one before (protocol
/// §9.8). What is not is as if it were not there: anybody may have written it.
pub(crate) async fn fetch_later_roots(
    bus: &dyn Bus,
    first: TrustRoot,
) -> Result<Vec<Bytes>, FeedError> {
    let store = open_store(bus, first.mesh()).await?;
    let (mut root, mut later) = (first, Vec::new());
    while let Some(entry) = store
        .get(&root_key(root.version().saturating_add(1)))
        .await?
    {
        let Ok(next) = root.succeed(&entry.value) else {
            break;
        };
        root = next;
        later.push(entry.value);
    }
    Ok(later)
}

/// The first trust root of a mesh as the store has it; whoever calls compares it with a pin.
pub(crate) async fn fetch_root(bus: &dyn Bus, mesh: MeshId) -> Result<Bytes, FeedError> {
    let store = open_store(bus, mesh).await?;
    let entry = store.get(&root_key(1)).await?;
    Ok(entry.ok_or(FeedError::Absent)?.value)
}

async fn read_head(store: &Arc<dyn Store>, follower: &Mutex<Follower>) -> Result<(), FeedError> {
    let entry = store.get(HEAD).await?.ok_or(FeedError::Absent)?;
    let bulletin = Bulletin::parse(&entry.value)?;
    take(&bulletin, store, follower).await
}

/// Takes in a bulletin with what the store adds to it.
async fn take(
    bulletin: &Bulletin,
    store: &Arc<dyn Store>,
    follower: &Mutex<Follower>,
) -> Result<(), FeedError> {
    let mut found: HashMap<ObjectId, Bytes> = HashMap::new();
    for _ in 0..TRIES {
        let heard = lock(follower).hear(bulletin, |digest| found.get(digest).cloned());
        match heard {
            Ok(Progress::Advanced(_) | Progress::Unchanged) => return Ok(()),
            Ok(Progress::Missing(digests)) => {
                if digests.iter().any(|digest| found.contains_key(digest)) {
                    return Err(incomplete());
                }
                for (digest, part) in fetch(store, digests).await? {
                    found.insert(digest, part);
                }
            }
            // It may have been made under a root that follows the one we know.
            Err(why) if may_be_another_root(&why) => {
                let next = lock(follower).root().version().saturating_add(1);
                let Some(entry) = store.get(&root_key(next)).await? else {
                    return Err(why.into());
                };
                lock(follower).succeed(&entry.value)?;
            }
            Err(why) => return Err(why.into()),
        }
    }
    Err(incomplete())
}

fn may_be_another_root(why: &Rejection) -> bool {
    matches!(why.class(), Class::BadSignature | Class::UntrustedRoot)
}

fn incomplete() -> FeedError {
    FeedError::Refused(Rejection::StaleState {
        reason: StaleState::Incomplete,
    })
}

/// Fetches parts by digest, all or nothing.
async fn fetch(
    store: &Arc<dyn Store>,
    digests: Vec<ObjectId>,
) -> Result<Vec<(ObjectId, Bytes)>, FeedError> {
    let fetches = digests.into_iter().map(|digest| async move {
        let entry = store.get(&part_key(&digest)).await?;
        let entry = entry.ok_or_else(incomplete)?;
        Ok::<_, FeedError>((digest, entry.value))
    });
    let mut fetched = futures_util::stream::iter(fetches).buffer_unordered(FETCHES);
    let mut parts = Vec::new();
    while let Some(part) = fetched.next().await {
        parts.push(part?);
    }
    Ok(parts)
}

/// What went wrong last, said once, and not too often: others can cause it.
#[derive(Debug, Default)]
struct Alarms {
    raised: Option<String>,
    said: Option<Instant>,
}

impl Alarms {
    fn raise(&mut self, error: &FeedError, shared: &Shared) {
        let text = error.to_string();
        if self.raised.as_ref() == Some(&text) || !self.may_say() {
            return;
        }
        let topic = match error {
            FeedError::Refused(Rejection::StaleState { reason }) => match reason {
                StaleState::Rollback => "trust-rollback",
                StaleState::Equivocation => "trust-equivocation",
                _ => NOTICE_REFUSED,
            },
            FeedError::Refused(_) => NOTICE_REFUSED,
            _ => "trust-unreachable",
        };
        tracing::warn!(agent = %shared.identity.id, %error, "the trust state is not up to date");
        self.raised = Some(text.clone());
        shared.plane_notice(topic, text);
    }

    fn clear(&mut self, shared: &Shared) {
        if self.raised.is_some() && self.may_say() {
            self.raised = None;
            let text = "the trust state is up to date again".to_owned();
            shared.plane_notice(NOTICE_CURRENT, text);
        }
    }

    fn may_say(&mut self) -> bool {
        let may = self.said.is_none_or(|said| said.elapsed() >= NOTICE_EVERY);
        if may {
            self.said = Some(Instant::now());
        }
        may
    }
}
