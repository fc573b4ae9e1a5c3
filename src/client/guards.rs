//! Which replay memory a subscription uses.
//!
//! A plain subscription has its own, a queue group on a pattern has one for all its members in
//! this process. Ids outlive a subscription: a later one on the same pattern begins with all that
//! earlier, closed ones had accepted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;

use crate::proto::replay::ReplayGuard;
use crate::proto::time::ClockSkew;
use crate::proto::time::Timestamp;

/// A replay memory, shared by the members of a group.
pub(crate) type SharedGuard = Arc<Mutex<ReplayGuard>>;

/// What a memory is for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct ReplayScope {
    pub(crate) pattern: String,
    pub(crate) group: Option<String>,
}

/// The replay memories of one client.
#[derive(Debug)]
pub(crate) struct Guards {
    skew: ClockSkew,
    floor: Option<Timestamp>,
    groups: Mutex<HashMap<ReplayScope, Weak<Mutex<ReplayGuard>>>>,
    retired: Mutex<HashMap<ReplayScope, ReplayGuard>>,
}

impl Guards {
    pub(crate) fn new(skew: ClockSkew, floor: Option<Timestamp>) -> Self {
        Self {
            skew,
            floor,
            groups: Mutex::default(),
            retired: Mutex::default(),
        }
    }

    /// The memory for a new subscription.
    pub(crate) fn open(&self, scope: &ReplayScope) -> SharedGuard {
        let mut groups = lock(&self.groups);
        if scope.group.is_some()
            && let Some(guard) = groups.get(scope).and_then(Weak::upgrade)
        {
            return guard;
        }
        let mut guard = ReplayGuard::new(self.skew, self.floor);
        if let Some(earlier) = lock(&self.retired).get(scope) {
            guard.absorb(earlier);
        }
        let guard = Arc::new(Mutex::new(guard));
        if scope.group.is_some() {
            groups.insert(scope.clone(), Arc::downgrade(&guard));
        }
        guard
    }

    /// Keeps what a closing subscription had accepted.
    pub(crate) fn retire(&self, scope: &ReplayScope, guard: &SharedGuard, now: Timestamp) {
        let mut retired = lock(&self.retired);
        retired.retain(|_, earlier| {
            earlier.forget_expired(now);
            !earlier.is_empty()
        });
        let mut closing = lock(guard);
        closing.forget_expired(now);
        if !closing.is_empty() {
            let fresh = || ReplayGuard::new(self.skew, self.floor);
            retired
                .entry(scope.clone())
                .or_insert_with(fresh)
                .absorb(&closing);
        }
    }
}

/// Locks, whatever happened to earlier holders: every update of the guarded values is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
