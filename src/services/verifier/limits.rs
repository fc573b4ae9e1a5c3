//! How much the service does for whom: rates and quotas, by the injected clock, in integers.

use std::collections::HashMap;

use crate::proto::identity::KeyBytes;
use crate::proto::time::Timestamp;

const SECOND_MS: u64 = 1_000;
const DAY_MS: u64 = 86_400_000;

/// Keys whose spending is remembered at once. Only keys that signed something are, so there are no
/// more than agents; the bound is for a mesh that grew beyond it.
const KEYS_MAX: usize = 1 << 17;

/// So many in each second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    most: u32,
    second: u64,
    spent: u32,
}

impl Rate {
    pub(super) fn per_second(most: u32) -> Self {
        Self {
            most,
            second: 0,
            spent: 0,
        }
    }

    /// Takes one, when there is one left in this second.
    pub(super) fn take(&mut self, now: Timestamp) -> bool {
        let second = now.as_millis() / SECOND_MS;
        if second != self.second {
            (self.second, self.spent) = (second, 0);
        }
        let left = self.spent < self.most;
        self.spent += u32::from(left);
        left
    }
}

/// What each key may spend: so many a second, and so many a day.
#[derive(Debug)]
pub(super) struct Quota {
    per_second: u32,
    per_day: u32,
    keys: HashMap<KeyBytes, Spent>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    second: u64,
    in_second: u32,
    day: u64,
    in_day: u32,
}

impl Quota {
    pub(super) fn new(per_second: u32, per_day: u32) -> Self {
        Self {
            per_second,
            per_day,
            keys: HashMap::new(),
        }
    }

    /// Takes one for a key, when both its second and its day have one left. Others are not
    /// affected.
    pub(super) fn take(&mut self, key: &KeyBytes, now: Timestamp) -> bool {
        let (second, day) = (now.as_millis() / SECOND_MS, now.as_millis() / DAY_MS);
        if self.keys.len() >= KEYS_MAX && !self.keys.contains_key(key) {
            self.keys.retain(|_, spent| spent.day == day);
            if self.keys.len() >= KEYS_MAX {
                return false;
            }
        }
        let spent = self.keys.entry(*key).or_default();
        if spent.second != second {
            (spent.second, spent.in_second) = (second, 0);
        }
        if spent.day != day {
            (spent.day, spent.in_day) = (day, 0);
        }
        if spent.in_second >= self.per_second || spent.in_day >= self.per_day {
            return false;
        }
        spent.in_second += 1;
        spent.in_day += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_rate_comes_back_with_the_next_second() {
        let mut rate = Rate::per_second(2);
        let taken = |rate: &mut Rate, ms| [rate.take(at(ms)), rate.take(at(ms)), rate.take(at(ms))];
        assert_eq!(taken(&mut rate, 5_000), [true, true, false]);
        assert_eq!(taken(&mut rate, 5_999), [false, false, false]);
        assert_eq!(taken(&mut rate, 6_000), [true, true, false]);
    }

    /// RV-11: one key's quota ends; another's does not.
    #[test]
    fn a_quota_is_each_keys_own() {
        let (busy, quiet) = (KeyBytes([1; 32]), KeyBytes([2; 32]));
        let mut quota = Quota::new(10, 1_000);
        let mut taken = 0;
        for millis in (0..1_000_000).step_by(50) {
            taken += u32::from(quota.take(&busy, at(millis)));
        }
        assert_eq!(taken, 1_000);
        assert!(quota.take(&quiet, at(999_999)));
        assert!(quota.take(&busy, at(DAY_MS)));
    }

    #[test]
    fn a_quota_bounds_each_second() {
        let (key, mut quota) = (KeyBytes([1; 32]), Quota::new(10, 1_000));
        let in_second =
            |quota: &mut Quota, ms| (0..50).filter(|_| quota.take(&key, at(ms))).count();
        assert_eq!(in_second(&mut quota, 1_000), 10);
        assert_eq!(in_second(&mut quota, 2_000), 10);
    }
}
