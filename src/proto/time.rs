//! Instants and windows, in milliseconds (protocol §14.1). Nothing here reads a clock: `now` is
//! always handed in.

use std::fmt;

use super::limits::CLOCK_SKEW_MAX_MS;

/// An instant: milliseconds since the Unix epoch, UTC.
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

/// How far two honest clocks may differ.
///
/// Holding one tells you it is at most [`CLOCK_SKEW_MAX_MS`].
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

/// A window `[from, until)`.
///
/// Holding one tells you that it is not empty.
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

/// An instant is not inside a window.
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
