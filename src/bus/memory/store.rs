//! The buckets of a [`MemoryBus`], and what a hostile bus can do to them.
//!
//! They do what JetStream's do: revisions grow with every write, an entry older than the bucket's
//! age is gone, a full bucket refuses. Time is tokio's, so a paused clock works.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::MemoryBus;
use super::MemoryConnection;
use crate::bus::BusFuture;
use crate::bus::store::BucketConfig;
use crate::bus::store::Entry;
use crate::bus::store::Expect;
use crate::bus::store::Store;
use crate::bus::store::StoreError;
use crate::bus::store::check_key;
use crate::bus::store::check_prefix;

/// What an entry costs besides its key and value, roughly what it costs JetStream.
const ENTRY_BYTES: u64 = 64;

/// The buckets of one bus, by name.
#[derive(Default)]
pub(in crate::bus) struct Buckets(HashMap<String, Arc<Mutex<Bucket>>>);

impl Buckets {
    /// The bucket of this name, as asked.
    pub(in crate::bus) fn open(
        &mut self,
        config: &BucketConfig,
    ) -> Result<Arc<Mutex<Bucket>>, StoreError> {
        if !config.create && !self.0.contains_key(&config.name) {
            return Err(StoreError::refused("no such bucket"));
        }
        let bucket = self.named(&config.name);
        lock(&bucket).take_as(config)?;
        Ok(bucket)
    }

    fn named(&mut self, name: &str) -> Arc<Mutex<Bucket>> {
        self.0.entry(name.to_owned()).or_default().clone()
    }
}

/// One bucket: what it holds, how it was made, and what ails it.
#[derive(Default)]
pub(in crate::bus) struct Bucket {
    /// How it was made; nothing while only a test has named it.
    made_as: Option<BucketConfig>,
    state: BucketState,
    unreachable: bool,
    lost_answers: usize,
    delay: Duration,
}

/// What a bucket holds at one moment, to go back to: see [`MemoryBucket::roll_back`].
#[derive(Clone, Debug, Default)]
pub struct BucketState {
    revision: u64,
    entries: BTreeMap<String, Entry>,
    /// What the entries take, keys and all, in bytes.
    held: u64,
    /// When which revision of which key was written, oldest first; those replaced or removed since
    /// as well, until they are as old as an entry gets.
    written: VecDeque<(Instant, u64, String)>,
}

impl BucketState {
    fn insert(&mut self, key: &str, value: Bytes) -> u64 {
        self.remove(key);
        self.revision += 1;
        let revision = self.revision;
        self.held += cost(key, &value);
        let entry = Entry { value, revision };
        self.entries.insert(key.to_owned(), entry);
        revision
    }

    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.held -= cost(key, &entry.value);
        }
    }

    /// Removes what was written longer than `age` ago.
    fn forget(&mut self, age: Duration) {
        while let Some((written, revision, key)) = self.written.front() {
            if written.elapsed() < age {
                break;
            }
            let newest = self.entries.get(key);
            if newest.is_some_and(|entry| entry.revision == *revision) {
                let key = key.clone();
                self.remove(&key);
            }
            self.written.pop_front();
        }
    }
}

impl Bucket {
    fn take_as(&mut self, config: &BucketConfig) -> Result<(), StoreError> {
        let made_as = self.made_as.get_or_insert_with(|| config.clone());
        let same = |config: &BucketConfig| {
            let BucketConfig {
                max_age,
                max_value_bytes,
                max_bytes,
                ..
            } = config;
            (*max_age, *max_value_bytes, *max_bytes)
        };
        match same(made_as) == same(config) {
            true => Ok(()),
            false => Err(StoreError::Config("its age or a limit".to_owned())),
        }
    }

    /// Forgets what is too old.
    fn age(&mut self) {
        if let Some(age) = self.made_as.as_ref().and_then(|config| config.max_age) {
            self.state.forget(age);
        }
    }

    fn get(&mut self, key: &str) -> Option<Entry> {
        self.age();
        self.state.entries.get(key).cloned()
    }

    fn put(
        &mut self,
        config: &BucketConfig,
        key: &str,
        value: Bytes,
        expect: Expect,
    ) -> Result<u64, StoreError> {
        self.age();
        let replaced = self.state.entries.get(key);
        let there = replaced.map(|entry| entry.revision);
        let freed = replaced.map_or(0, |entry| cost(key, &entry.value));
        let met = match expect {
            Expect::Any => true,
            Expect::Absent => there.is_none(),
            Expect::Revision(revision) => there == Some(revision),
        };
        if !met {
            return Err(StoreError::Conflict);
        }
        if (self.state.held - freed).saturating_add(cost(key, &value)) > config.max_bytes {
            return Err(StoreError::refused("the bucket is full"));
        }
        Ok(self.write(key, value))
    }

    fn write(&mut self, key: &str, value: Bytes) -> u64 {
        let revision = self.state.insert(key, value);
        if self
            .made_as
            .as_ref()
            .is_some_and(|config| config.max_age.is_some())
        {
            let written = (Instant::now(), revision, key.to_owned());
            self.state.written.push_back(written);
        }
        revision
    }
}

fn cost(key: &str, value: &[u8]) -> u64 {
    // Lossless: no allocation is larger.
    key.len() as u64 + value.len() as u64 + ENTRY_BYTES
}

fn lock(bucket: &Mutex<Bucket>) -> MutexGuard<'_, Bucket> {
    // No panic can leave a bucket half-changed.
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A bucket as one connection sees it.
pub(super) struct MemoryStore {
    pub(super) connection: MemoryConnection,
    pub(super) bucket: Arc<Mutex<Bucket>>,
    pub(super) config: BucketConfig,
}

impl MemoryStore {
    /// Does `work` on the bucket as one step, if it can be reached in time.
    async fn call<T>(
        &self,
        work: impl FnOnce(&mut Bucket) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let unreachable = |how: &str| StoreError::Unreachable(how.to_owned());
        let delay = lock(&self.bucket).delay;
        if delay >= self.config.timeout {
            tokio::time::sleep(self.config.timeout).await;
            return Err(unreachable("no answer in time"));
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        // A loop of calls must let others run, as one over a socket does.
        tokio::task::consume_budget().await;
        if self.connection.open().is_err() {
            return Err(unreachable("the connection is closed"));
        }
        let mut bucket = lock(&self.bucket);
        if bucket.unreachable {
            return Err(unreachable("the bus does not answer"));
        }
        let done = work(&mut bucket);
        if bucket.lost_answers > 0 {
            bucket.lost_answers -= 1;
            return Err(unreachable("no answer in time"));
        }
        done
    }
}

impl Store for MemoryStore {
    fn get<'a>(&'a self, key: &'a str) -> BusFuture<'a, Result<Option<Entry>, StoreError>> {
        Box::pin(async move {
            check_key(key)?;
            let entry = self.call(|bucket| Ok(bucket.get(key))).await?;
            if let Some(entry) = &entry {
                self.config.fits(&entry.value)?;
            }
            Ok(entry)
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expect: Expect,
    ) -> BusFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            check_key(key)?;
            self.config.fits(&value)?;
            self.call(|bucket| bucket.put(&self.config, key, value, expect))
                .await
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> BusFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            check_key(key)?;
            self.call(|bucket| {
                bucket.state.remove(key);
                Ok(())
            })
            .await
        })
    }

    fn keys<'a>(
        &'a self,
        prefix: &'a str,
        most: usize,
    ) -> BusFuture<'a, Result<Vec<String>, StoreError>> {
        Box::pin(async move {
            check_prefix(prefix)?;
            self.call(|bucket| {
                bucket.age();
                let keys = bucket.state.entries.keys();
                let keys = keys.filter(|key| key.starts_with(prefix));
                Ok(keys.take(most).cloned().collect())
            })
            .await
        })
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("bucket", &self.config.name)
            .finish_non_exhaustive()
    }
}

/// A bucket in the hands of whoever runs the bus: what a hostile one can do to it. Made by
/// [`MemoryBus::bucket`].
#[derive(Clone)]
pub struct MemoryBucket {
    bucket: Arc<Mutex<Bucket>>,
}

impl MemoryBus {
    /// The bucket of this name, to be tampered with, whether or not anybody has opened it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use trustmesh::bus::Bus;
    /// use trustmesh::bus::memory::MemoryBus;
    /// use trustmesh::bus::store::{BucketConfig, Expect};
    ///
    /// let bus = MemoryBus::new();
    /// let connection = bus.connect();
    /// let store = connection.store(&BucketConfig::new("claims")).await?;
    /// store.put("job", "mine".into(), Expect::Absent).await?;
    /// bus.bucket("claims").wipe();
    /// assert_eq!(store.get("job").await?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn bucket(&self, name: &str) -> MemoryBucket {
        let bucket = self.exchange().buckets.named(name);
        MemoryBucket { bucket }
    }
}

impl MemoryBucket {
    /// Removes every entry. Revisions go on where they were.
    pub fn wipe(&self) {
        let state = &mut lock(&self.bucket).state;
        state.entries.clear();
        state.written.clear();
        state.held = 0;
    }

    /// What the bucket holds now.
    pub fn state(&self) -> BucketState {
        let mut bucket = lock(&self.bucket);
        bucket.age();
        bucket.state.clone()
    }

    /// Goes back to an earlier state, revisions included.
    pub fn roll_back(&self, state: BucketState) {
        lock(&self.bucket).state = state;
    }

    /// Writes what nobody wrote, of any size, and says its revision.
    pub fn overwrite(&self, key: &str, value: impl Into<Bytes>) -> u64 {
        lock(&self.bucket).write(key, value.into())
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        let mut bucket = lock(&self.bucket);
        bucket.age();
        bucket.state.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether calls fail from now on as if nobody answered. They have no effect meanwhile.
    pub fn set_unreachable(&self, unreachable: bool) {
        lock(&self.bucket).unreachable = unreachable;
    }

    /// The next `count` calls take effect, and their answers are lost.
    pub fn lose_answers(&self, count: usize) {
        lock(&self.bucket).lost_answers = count;
    }

    /// How long each call takes from now on, on tokio's clock.
    pub fn set_delay(&self, delay: Duration) {
        lock(&self.bucket).delay = delay;
    }
}

impl fmt::Debug for MemoryBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBucket")
            .field("entries", &self.len())
            .finish_non_exhaustive()
    }
}
