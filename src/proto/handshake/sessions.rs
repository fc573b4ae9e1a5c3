//! The sessions that handshakes lead to.

use std::collections::HashMap;

use super::Session;
use crate::proto::identity::KeyBytes;
use crate::proto::limits::SESSIONS_MAX;
use crate::proto::rejection::Overloaded;
use crate::proto::rejection::Rejection;
use crate::proto::time::Timestamp;

/// The sessions of one process, at most one per peer key (protocol §16.8): [`SESSIONS_MAX`] that
/// count and as many that wait for a message.
///
/// ```
/// use trustmesh::proto::handshake::{Session, SessionTable};
/// use trustmesh::proto::identity::{AgentId, KeyBytes};
/// use trustmesh::proto::time::Timestamp;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (key, at) = (KeyBytes([7; 32]), Timestamp::from_millis);
/// let peer = AgentId::parse("alice")?;
/// let mut sessions = SessionTable::default();
/// let session = Session { peer, key, until: at(900_000), id: [1; 16], newest: None };
/// sessions.await_message(session, at(0))?;
/// assert!(sessions.get(&key, at(1)).is_none()); // not before alice's next message
/// sessions.heard_from(&key, at(1));
/// assert!(sessions.get(&key, at(2)).is_some());
/// assert!(sessions.get(&key, at(900_000)).is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct SessionTable {
    live: HashMap<KeyBytes, Session>,
    pending: HashMap<KeyBytes, Session>,
}

impl SessionTable {
    /// Takes in a session one initiated: it counts at once, in place of an earlier one with the
    /// key.
    ///
    /// # Errors
    ///
    /// [`Rejection::Overloaded`] with [`Sessions`](Overloaded::Sessions) when [`SESSIONS_MAX`]
    /// sessions that are not over are held.
    pub fn begin(&mut self, session: Session, now: Timestamp) -> Result<(), Rejection> {
        insert(&mut self.live, session, now)
    }

    /// Takes in a session one answered: it counts once the peer's next message arrives, which
    /// proves that it received the confirmation.
    ///
    /// # Errors
    ///
    /// [`Rejection::Overloaded`] with [`Sessions`](Overloaded::Sessions) when as many wait.
    pub fn await_message(&mut self, session: Session, now: Timestamp) -> Result<(), Rejection> {
        insert(&mut self.pending, session, now)
    }

    /// An authentic message of a peer has arrived: a session that waited for one counts from now
    /// on.
    pub fn heard_from(&mut self, key: &KeyBytes, now: Timestamp) {
        if let Some(session) = self.pending.remove(key) {
            // A full table drops the session; the peer will be asked for another.
            let _ = self.begin(session, now);
        }
    }

    /// The session with a peer, when it counts and is not over at `now`.
    pub fn get(&self, key: &KeyBytes, now: Timestamp) -> Option<&Session> {
        self.live.get(key).filter(|session| now < session.until)
    }

    /// Whether a session with the peer counts, or will with its next message. This is what the
    /// receiver of that message goes by.
    pub fn expects(&self, key: &KeyBytes, now: Timestamp) -> bool {
        let pending = self
            .pending
            .get(key)
            .is_some_and(|session| now < session.until);
        pending || self.get(key, now).is_some()
    }

    /// Ends the session with a peer, one that waits included.
    pub fn end(&mut self, key: &KeyBytes) {
        self.live.remove(key);
        self.pending.remove(key);
    }

    /// Sessions held that count, those that are over included until room is needed.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Whether nothing is held, not even a session that waits for a message.
    pub(crate) fn is_blank(&self) -> bool {
        self.live.is_empty() && self.pending.is_empty()
    }
}

fn insert(
    table: &mut HashMap<KeyBytes, Session>,
    session: Session,
    now: Timestamp,
) -> Result<(), Rejection> {
    if table.len() >= SESSIONS_MAX && !table.contains_key(&session.key) {
        table.retain(|_, other| now < other.until);
        if table.len() >= SESSIONS_MAX {
            return Err(Rejection::Overloaded {
                reason: Overloaded::Sessions,
            });
        }
    }
    table.insert(session.key, session);
    Ok(())
}
