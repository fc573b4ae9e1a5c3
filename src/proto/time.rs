//! Instants and windows, in milliseconds (protocol §14.1). Nothing here reads a clock: `now` is
//! always handed in.

use std::fmt;

use super::limits::CLOCK_SKEW_MAX_MS;

/// An instant: milliseconds since 1970-01-01T00:00:00Z, UTC (protocol §14.1).
///
/// Arithmetic stops at the epoch and at 2^64 − 1 instead of wrapping.
///
/// ```
/// use trustmesh::proto::time::Timestamp;
///
/// let now = Timestamp::from_millis(1_000);
/// assert_eq!(now.plus(500).since(now), 500);
/// assert_eq!(now.minus(5_000), Timestamp::from_millis(0));
/// assert_eq!(now.since(now.plus(500)), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The instant `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This instant, `millis` later; stops at the end of time instead of wrapping.
    #[must_use]
    pub const fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// This instant, `millis` earlier; stops at the epoch.
    #[must_use]
    pub const fn minus(self, millis: u64) -> Self {
        Self(self.0.saturating_sub(millis))
    }

    /// Milliseconds from `earlier` to this instant, 0 when it is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// How far two honest clocks may differ, in milliseconds (protocol §14.1). The receiver chooses it.
///
/// Holding one tells you it is at most [`CLOCK_SKEW_MAX_MS`].
///
/// ```
/// use trustmesh::proto::time::ClockSkew;
///
/// assert_eq!(ClockSkew::default().as_millis(), 5_000);
/// assert_eq!(ClockSkew::from_millis(10_001), None);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClockSkew(u64);

impl ClockSkew {
    /// A tolerance of `millis`, or `None` when it is over [`CLOCK_SKEW_MAX_MS`].
    pub const fn from_millis(millis: u64) -> Option<Self> {
        if millis <= CLOCK_SKEW_MAX_MS {
            Some(Self(millis))
        } else {
            None
        }
    }

    /// The tolerance in milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

impl Default for ClockSkew {
    /// [`CLOCK_SKEW_MS`](super::limits::CLOCK_SKEW_MS).
    fn default() -> Self {
        Self(super::limits::CLOCK_SKEW_MS)
    }
}

/// A window `[from, until)` of a link, certificate or trust file (protocol §14.2).
///
/// Holding one tells you that it is not empty. How long it may be is decided where it is signed and
/// read: [`LIFETIME_MAX_MS`](super::limits::LIFETIME_MAX_MS) for everything but a trust root.
///
/// ```
/// use trustmesh::proto::time::ClockSkew;
/// use trustmesh::proto::time::Timestamp;
/// use trustmesh::proto::time::Validity;
///
/// let at = Timestamp::from_millis;
/// let window = Validity::new(at(10_000), at(20_000)).ok_or("empty")?;
/// let skew = ClockSkew::default(); // 5 s, on both sides
/// assert!(window.check(at(5_000), skew).is_ok());
/// assert!(window.check(at(24_999), skew).is_ok());
/// assert!(window.check(at(25_000), skew).is_err());
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    from: Timestamp,
    until: Timestamp,
}

impl Validity {
    /// The window from `from` up to and excluding `until`, or `None` when it would be empty.
    pub fn new(from: Timestamp, until: Timestamp) -> Option<Self> {
        (from < until).then_some(Self { from, until })
    }

    /// The first instant inside.
    pub fn from(&self) -> Timestamp {
        self.from
    }

    /// The first instant after the end.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// Length in milliseconds, at least 1.
    pub fn millis(&self) -> u64 {
        self.until.since(self.from)
    }

    /// Whether every instant of `inner` is inside, exactly: skew plays no part between windows.
    pub fn encloses(&self, inner: &Self) -> bool {
        self.from <= inner.from && inner.until <= self.until
    }

    /// Checks that `now` is inside the window widened by `skew` on both sides.
    ///
    /// `now` is inside when `now + skew ≥ from` and `now < until + skew` (protocol §14.2).
    ///
    /// # Errors
    ///
    /// [`Outside`]: before or after it.
    pub fn check(&self, now: Timestamp, skew: ClockSkew) -> Result<(), Outside> {
        if now.plus(skew.0) < self.from {
            return Err(Outside::Before { from: self.from });
        }
        if now >= self.until.plus(skew.0) {
            return Err(Outside::After { until: self.until });
        }
        Ok(())
    }
}

/// An instant is not inside a window. [`at`](Self::at) makes the rejection of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outside {
    /// The window has not begun.
    Before {
        /// Its first instant.
        from: Timestamp,
    },
    /// The window is over.
    After {
        /// The first instant after it.
        until: Timestamp,
    },
}
