//! The one place that reads the wall clock.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use crate::proto::rejection::Rejection;
use crate::proto::rejection::StaleState;
use crate::proto::time::Timestamp;

/// A jump of the wall clock against the monotonic clock that is no drift, in milliseconds.
const JUMP_MS: u64 = 60_000;

/// How long decisions pause after a jump: twice the largest clock tolerance, so that everything
/// in flight at the jump has expired before anything is decided by the new time.
const PAUSE: Duration = Duration::from_secs(20);

/// Tells the time to everything in this crate.
///
/// An implementation must be monotonic: replay memory forgets by it (protocol §14.1).
pub trait Clock: Send + Sync + 'static {
    /// Now. Never less than an earlier answer.
    ///
    /// # Errors
    ///
    /// [`Rejection::StaleState`] while time cannot be trusted: nothing is decided then.
    fn now(&self) -> Result<Timestamp, Rejection>;
}

/// The system's clock, guarded.
///
/// It never goes back: after a step backwards it stands still until the wall clock has caught up.
/// After a jump of more than 60 s against the monotonic clock, in either direction, decisions
/// pause for 20 s.
#[derive(Debug)]
pub struct SystemClock {
    anchor: Mutex<Anchor>,
    latest: AtomicU64,
}

/// A moment at which wall and monotonic clock were read together.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    wall: u64,
    monotonic: Instant,
    paused_until: Option<Instant>,
}

impl SystemClock {
    /// A clock that trusts the wall clock as it is now, and minds later jumps.
    pub fn new() -> Self {
        let wall = wall_clock();
        let anchor = Anchor {
            wall,
            monotonic: Instant::now(),
            paused_until: None,
        };
        Self {
            anchor: Mutex::new(anchor),
            latest: AtomicU64::new(wall),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Result<Timestamp, Rejection> {
        let (wall, monotonic) = (wall_clock(), Instant::now());
        // A poisoned lock holds a plain value that is always whole.
        let mut anchor = self
            .anchor
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        anchor.check(wall, monotonic)?;
        drop(anchor);
        let latest = self.latest.fetch_max(wall, Ordering::Relaxed).max(wall);
        Ok(Timestamp::from_millis(latest))
    }
}

impl Anchor {
    fn check(&mut self, wall: u64, monotonic: Instant) -> Result<(), Rejection> {
        let paused = Err(Rejection::StaleState {
            reason: StaleState::Clock,
        });
        if let Some(until) = self.paused_until {
            if monotonic < until {
                return paused;
            }
            *self = Self {
                wall,
                monotonic,
                paused_until: None,
            };
        }
        let elapsed = monotonic
            .saturating_duration_since(self.monotonic)
            .as_millis();
        let expected = self
            .wall
            .saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX));
        if wall.abs_diff(expected) > JUMP_MS {
            tracing::error!(wall, expected, "the wall clock jumped; decisions pause");
            self.paused_until = Some(monotonic + PAUSE);
            return paused;
        }
        Ok(())
    }
}

/// Milliseconds since the epoch; 0 for a clock before it, at which nothing is valid.
fn wall_clock() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A clock that moves only when told: for tests and simulations.
///
/// ```
/// use std::time::Duration;
///
/// use trustmesh::client::clock::{Clock, ManualClock};
/// use trustmesh::proto::time::Timestamp;
///
/// let clock = ManualClock::at(Timestamp::from_millis(1_000));
/// clock.advance(Duration::from_secs(2));
/// assert_eq!(clock.now()?, Timestamp::from_millis(3_000));
/// # Ok::<(), trustmesh::proto::rejection::Rejection>(())
/// ```
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(AtomicU64::new(now.as_millis()))
    }

    /// Moves on, by whole milliseconds.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Result<Timestamp, Rejection> {
        Ok(Timestamp::from_millis(self.0.load(Ordering::SeqCst)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_pauses_decisions_and_a_drift_does_not() {
        let start = Instant::now();
        let mut anchor = Anchor {
            wall: 1_000_000,
            monotonic: start,
            paused_until: None,
        };
        let later = start + Duration::from_secs(10);
        assert!(anchor.check(1_010_000 + JUMP_MS, later).is_ok());
        for wall in [1_010_001 + JUMP_MS, 1_009_999 - JUMP_MS] {
            let mut anchor = anchor;
            assert!(anchor.check(wall, later).is_err());
            assert!(
                anchor
                    .check(wall, later + PAUSE - Duration::from_millis(1))
                    .is_err()
            );
            // After the pause the new time is the time.
            assert!(anchor.check(wall + 20_000, later + PAUSE).is_ok());
        }
    }

    #[test]
    fn time_never_goes_back() {
        let clock = SystemClock::new();
        let ahead = wall_clock() + 30_000;
        clock.latest.store(ahead, Ordering::Relaxed);
        assert_eq!(clock.now().unwrap().as_millis(), ahead);
    }
}
