//! A small compare-and-set store kept by the bus: named buckets of keys and values.
//!
//! The bus is believed here no more than anywhere: a [`Store`] may lose, roll back, replace or
//! invent entries, and an absent entry proves nothing. What it is good for is meeting: of many
//! honest callers of one honest bus, exactly one creates a key.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use trustmesh::bus::Bus;
//! use trustmesh::bus::memory::MemoryBus;
//! use trustmesh::bus::store::{BucketConfig, Expect, StoreError};
//!
//! let bus = MemoryBus::new().connect();
//! let config = BucketConfig::new("claims").with_max_age(Duration::from_secs(60));
//! let claims = bus.store(&config).await?;
//! let first = claims.put("job.1", "mine".into(), Expect::Absent).await?;
//! let again = claims.put("job.1", "mine too".into(), Expect::Absent).await;
//! assert_eq!(again, Err(StoreError::Conflict));
//! claims.put("job.1", "done".into(), Expect::Revision(first)).await?;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use super::BusFuture;

/// The longest key, in bytes: with its bucket's prefix it has to fit in a subject.
pub const MAX_KEY_BYTES: usize = 255;

/// The longest bucket name, in bytes.
pub const MAX_BUCKET_BYTES: usize = 64;

/// How much of a server's text an error carries, in characters.
const MAX_SAID: usize = 200;

/// One bucket of a bus, opened by [`Bus::store`](super::Bus::store).
///
/// Every call is over within [`BucketConfig::timeout`]. A call that ended in
/// [`StoreError::Unreachable`], or was dropped, may have taken effect.
pub trait Store: fmt::Debug + Send + Sync {
    /// The entry at `key`; `None` when there is none, or its last word is that it was deleted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] before anything is sent, [`StoreError::TooLarge`] for an entry
    /// beyond the bucket's limit, [`StoreError::Unreachable`] and [`StoreError::Refused`].
    fn get<'a>(&'a self, key: &'a str) -> BusFuture<'a, Result<Option<Entry>, StoreError>>;

    /// Writes `value` at `key` if what is there is as expected, atomically, and says the new
    /// revision.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] when it is not, [`StoreError::Invalid`] and
    /// [`StoreError::TooLarge`] before anything is sent, [`StoreError::Unreachable`] and
    /// [`StoreError::Refused`].
    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expect: Expect,
    ) -> BusFuture<'a, Result<u64, StoreError>>;

    /// Removes the entry at `key`, if any, and leaves nothing in its place.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] before anything is sent, [`StoreError::Unreachable`] and
    /// [`StoreError::Refused`].
    fn remove<'a>(&'a self, key: &'a str) -> BusFuture<'a, Result<(), StoreError>>;

    /// Keys that begin with `prefix`, at most `most` of them, in their order. Those whose entries
    /// say they were deleted may be among them. For tidying up, not for deciding.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] before anything is sent, [`StoreError::Unreachable`] and
    /// [`StoreError::Refused`].
    fn keys<'a>(
        &'a self,
        prefix: &'a str,
        most: usize,
    ) -> BusFuture<'a, Result<Vec<String>, StoreError>>;
}

/// A value as the bus handed it over. It prints without the value.
#[derive(Clone, Eq, PartialEq)]
pub struct Entry {
    /// The bytes last written.
    pub value: Bytes,
    /// The number of that write: it grows with every write to the bucket.
    pub revision: u64,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("value_len", &self.value.len())
            .field("revision", &self.revision)
            .finish()
    }
}

/// What has to be at a key for a write to happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expect {
    /// Anything or nothing.
    Any,
    /// No entry: of many who ask this at once, one succeeds.
    Absent,
    /// The entry with this revision.
    Revision(u64),
}

/// Which bucket to open, and what it has to be like.
///
/// A bucket keeps one entry a key, on disk where the bus has one. One that exists is used only if
/// it is configured as asked: a server that drops an option is noticed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BucketConfig {
    /// Its name: `A`–`Z`, `a`–`z`, `0`–`9`, `_` and `-`, at most [`MAX_BUCKET_BYTES`].
    pub name: String,
    /// How long an entry lives after its last write; by default until it is removed. At least
    /// 100 ms where NATS keeps the bucket.
    pub max_age: Option<Duration>,
    /// The largest value, in bytes; 64 KiB by default.
    pub max_value_bytes: usize,
    /// The most the whole bucket may hold, in bytes, 64 MiB by default. Full, it refuses writes
    /// rather than forget.
    pub max_bytes: u64,
    /// Whether a bucket that does not exist is created, the default.
    pub create: bool,
    /// How long a call may take, 5 s by default.
    pub timeout: Duration,
}

impl BucketConfig {
    /// A bucket with the defaults of its fields, created if it does not exist.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            max_age: None,
            max_value_bytes: 64 * 1024,
            max_bytes: 64 * 1024 * 1024,
            create: true,
            timeout: Duration::from_secs(5),
        }
    }

    /// The same with entries that live only so long.
    pub fn with_max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// The same with another limit for one value, in bytes.
    pub fn with_max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    /// The same with another limit for the whole bucket, in bytes.
    pub fn with_max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The same with calls that may take only so long.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same, but an error if the bucket does not exist.
    pub fn existing(mut self) -> Self {
        self.create = false;
        self
    }

    /// Refuses what no bucket can be.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-');
        let name = self.name.as_bytes();
        if name.is_empty() || name.len() > MAX_BUCKET_BYTES || !name.iter().all(|c| plain(*c)) {
            return Err(StoreError::Invalid("the bucket name"));
        }
        if self.max_age.is_some_and(|age| age.is_zero()) {
            return Err(StoreError::Invalid("a maximum age of nothing"));
        }
        // Beyond these a server's own integers end.
        if i64::try_from(self.max_bytes).is_err() || i32::try_from(self.max_value_bytes).is_err() {
            return Err(StoreError::Invalid("a limit beyond every server's"));
        }
        if self
            .max_age
            .is_some_and(|age| i64::try_from(age.as_nanos()).is_err())
        {
            return Err(StoreError::Invalid("a limit beyond every server's"));
        }
        Ok(())
    }

    /// Refuses a value beyond the limit, on its way in or out.
    pub(super) fn fits(&self, value: &[u8]) -> Result<(), StoreError> {
        let (bytes, most) = (value.len(), self.max_value_bytes);
        if bytes > most {
            return Err(StoreError::TooLarge { bytes, most });
        }
        Ok(())
    }
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum StoreError {
    /// What is at the key is not what was expected there.
    #[error("the entry is not the one expected")]
    Conflict,
    /// Nobody answered in time, or at all; a write may have happened. It says how that was noticed.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// No such name can be: it breaks the grammar of keys or buckets. Nothing was sent.
    #[error("not a name or limit that a store can have: {0}")]
    Invalid(&'static str),
    /// The value is larger than the bucket's values may be.
    #[error("a value of {bytes} bytes, of which the bucket holds {most}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bucket's limit.
        most: usize,
    },
    /// The server refused, in its own words, or answered what no server should.
    #[error("the store refuses: {0}")]
    Refused(String),
    /// The bucket exists and is not configured as asked.
    #[error("the bucket is not configured as asked: {0}")]
    Config(String),
}

impl StoreError {
    /// A refusal with the server's text, which may hold anything, made short and printable.
    pub(super) fn refused(said: &str) -> Self {
        Self::Refused(printable(said))
    }
}

/// A server's text, short and printable.
pub(super) fn printable(said: &str) -> String {
    let start: String = said.chars().take(MAX_SAID).collect();
    start.escape_debug().to_string()
}

/// Refuses a key outside the grammar: tokens of `A`–`Z`, `a`–`z`, `0`–`9`, `_`, `=` and `-`, joined
/// by single dots, at most [`MAX_KEY_BYTES`].
pub(super) fn check_key(key: &str) -> Result<(), StoreError> {
    if key.len() > MAX_KEY_BYTES || !key.split('.').all(is_token) {
        return Err(StoreError::Invalid("the key"));
    }
    Ok(())
}

/// Refuses what no key can begin with. Nothing and a last dot are fine.
pub(super) fn check_prefix(prefix: &str) -> Result<(), StoreError> {
    match prefix.strip_suffix('.').unwrap_or(prefix) {
        "" if prefix.is_empty() => Ok(()),
        rest => check_key(rest),
    }
}

fn is_token(token: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'=' | b'-');
    !token.is_empty() && token.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_dotted_tokens_of_plain_characters() {
        for key in ["a", "part.00ff", "A_b=.c-", &"k".repeat(MAX_KEY_BYTES)] {
            assert_eq!(check_key(key), Ok(()), "{key}");
        }
        let long = "k".repeat(MAX_KEY_BYTES + 1);
        let not = [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "a\r\nPUB x 0",
            "a/b",
            "*",
            "a.>",
            "é",
            &long,
        ];
        for key in not {
            assert!(check_key(key).is_err(), "{key:?}");
        }
    }

    #[test]
    fn a_prefix_is_nothing_or_the_beginning_of_a_key() {
        for prefix in ["", "part.", "pa", "a.b"] {
            assert_eq!(check_prefix(prefix), Ok(()), "{prefix}");
        }
        for prefix in [".", "a..", "*", "a.>", " "] {
            assert!(check_prefix(prefix).is_err(), "{prefix:?}");
        }
    }

    #[test]
    fn what_a_server_says_is_made_short_and_printable() {
        let refused = StoreError::refused(&format!("no\x1b[2J\r\n{}", "x".repeat(1000)));
        let text = refused.to_string();
        assert!(text.len() < 300 && !text.contains(['\x1b', '\r', '\n']));
    }
}
