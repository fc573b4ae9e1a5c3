//! State that is empty most of the time: while it is, nobody takes its lock.
//!
//! Every message that comes asks whether its sender is quarantined and has a session, and every one
//! that goes whether it answers a request. In a mesh of honest peers without sessions, and for a
//! client that serves nobody, the answer is no, and what runs on many cores shall not queue for it.

use std::ops::Deref;
use std::ops::DerefMut;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use super::guards::lock;
use crate::proto::breaker::Breaker;
use crate::proto::handshake::SessionTable;

/// What can be empty.
pub(crate) trait Emptiness {
    fn is_empty(&self) -> bool;
}

impl Emptiness for Breaker {
    fn is_empty(&self) -> bool {
        Breaker::is_empty(self)
    }
}

impl Emptiness for SessionTable {
    fn is_empty(&self) -> bool {
        self.is_blank()
    }
}

/// State behind a lock, and whether there is any.
#[derive(Debug, Default)]
pub(crate) struct Seldom<T> {
    /// Written under the lock, so that it never lags behind the state.
    is_used: AtomicBool,
    state: Mutex<T>,
}

/// The state, locked.
pub(crate) struct Locked<'a, T: Emptiness> {
    state: MutexGuard<'a, T>,
    is_used: &'a AtomicBool,
}

impl<T: Emptiness> Seldom<T> {
    /// The state; nothing, and no lock, when it is empty.
    pub(crate) fn get(&self) -> Option<Locked<'_, T>> {
        self.is_used.load(Ordering::Acquire).then(|| self.lock())
    }

    /// The state, empty or not.
    pub(crate) fn lock(&self) -> Locked<'_, T> {
        Locked {
            state: lock(&self.state),
            is_used: &self.is_used,
        }
    }
}

impl<T: Emptiness> Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.state
    }
}

impl<T: Emptiness> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.state
    }
}

impl<T: Emptiness> Drop for Locked<'_, T> {
    fn drop(&mut self) {
        let is_used = !self.state.is_empty();
        self.is_used.store(is_used, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::handshake::Session;
    use crate::proto::identity::AgentId;
    use crate::proto::identity::KeyBytes;
    use crate::proto::time::Timestamp;

    #[test]
    fn what_is_held_is_found_and_what_is_empty_is_not_locked() {
        let (sessions, now) = (Seldom::<SessionTable>::default(), Timestamp::from_millis(1));
        assert!(sessions.get().is_none());
        let key = KeyBytes([7; 32]);
        let session = Session {
            peer: AgentId::parse("alice").unwrap(),
            key,
            until: Timestamp::from_millis(900_000),
            id: [1; 16],
            newest: None,
        };
        // One that only waits for a message counts too.
        sessions.lock().await_message(session, now).unwrap();
        assert!(sessions.get().is_some_and(|held| held.expects(&key, now)));
        sessions.lock().end(&key);
        assert!(sessions.get().is_none());
    }
}
