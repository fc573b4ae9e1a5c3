//! Requests that wait for answers, and the one subscription that receives them.
//!
//! A slot opens before its request is published and closes with its answer, its timeout or its
//! caller. An answer that verification refuses leaves the slot open: the true one still counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::Weak;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::oneshot;

use super::Shared;
use super::guards::SharedGuard;
use super::guards::lock;
use super::inbound::Expect;
use super::message::Message;
use crate::bus::BusSubscriber;
use crate::bus::Delivery;
use crate::bus::StatusCode;
use crate::proto::time::Timestamp;
use crate::proto::verify::Pending;

/// Answers accepted at one reply subject that the user subscribed to himself.
const INBOX_ANSWERS: u32 = 128;

/// How long such a reply subject stays open.
const INBOX_OPEN: Duration = Duration::from_secs(300);

/// Reply subjects of the user's own inboxes open at once; the next is refused.
const INBOXES_MAX: usize = 16_384;

/// What became of a request.
pub(crate) enum Outcome {
    /// The verified answer.
    Answer(Box<Message>),
    /// Nobody listens.
    NoResponders,
}

struct Slot {
    pending: Pending,
    refused: u32,
    waiting: Waiting,
}

enum Waiting {
    /// A call of `request`.
    Call(oneshot::Sender<Outcome>),
    /// A subscription of the user to his own inbox.
    Inbox { left: u32, until: Timestamp },
}

/// The open slots, by reply subject.
#[derive(Default)]
pub(crate) struct Slots(Mutex<HashMap<String, Slot>>);

impl std::fmt::Debug for Slots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slots")
            .field("open", &lock(&self.0).len())
            .finish()
    }
}

impl Slots {
    /// Opens a slot for one answer.
    pub(crate) fn open(self: &Arc<Self>, reply: &str, pending: Pending) -> Open {
        let (sender, receiver) = oneshot::channel();
        let slot = Slot {
            pending,
            refused: 0,
            waiting: Waiting::Call(sender),
        };
        lock(&self.0).insert(reply.to_owned(), slot);
        Open {
            slots: self.clone(),
            reply: reply.to_owned(),
            receiver,
        }
    }

    /// Opens a slot for the answers to a message published with one's own inbox as reply. Says
    /// whether there was room.
    pub(crate) fn open_inbox(&self, reply: &str, pending: Pending, now: Timestamp) -> bool {
        let mut slots = lock(&self.0);
        if slots.len() >= INBOXES_MAX {
            slots.retain(|_, slot| match slot.waiting {
                Waiting::Call(_) => true,
                Waiting::Inbox { until, .. } => now < until,
            });
            if slots.len() >= INBOXES_MAX {
                return false;
            }
        }
        let until = now.plus(INBOX_OPEN.as_millis() as u64);
        let waiting = Waiting::Inbox {
            left: INBOX_ANSWERS,
            until,
        };
        slots.insert(
            reply.to_owned(),
            Slot {
                pending,
                refused: 0,
                waiting,
            },
        );
        true
    }

    /// The request that waits in a user's inbox.
    pub(crate) fn pending_in_inbox(&self, reply: &str, now: Timestamp) -> Option<Pending> {
        let slots = lock(&self.0);
        let slot = slots.get(reply)?;
        match slot.waiting {
            Waiting::Inbox { until, .. } if now < until => Some(slot.pending.clone()),
            _ => None,
        }
    }

    /// An answer was accepted in a user's inbox.
    pub(crate) fn answered_in_inbox(&self, reply: &str) {
        let mut slots = lock(&self.0);
        let used_up = match slots.get_mut(reply).map(|slot| &mut slot.waiting) {
            Some(Waiting::Inbox { left, .. }) => {
                *left -= 1;
                *left == 0
            }
            _ => false,
        };
        if used_up {
            slots.remove(reply);
        }
    }

    fn pending_call(&self, reply: &str) -> Option<Pending> {
        let slots = lock(&self.0);
        let slot = slots.get(reply)?;
        matches!(slot.waiting, Waiting::Call(_)).then(|| slot.pending.clone())
    }

    /// Gives up every call: no answer can come any more.
    fn end_calls(&self) {
        lock(&self.0).retain(|_, slot| !matches!(slot.waiting, Waiting::Call(_)));
    }

    fn refused(&self, reply: &str) {
        if let Some(slot) = lock(&self.0).get_mut(reply) {
            slot.refused += 1;
        }
    }

    fn close(&self, reply: &str, outcome: Outcome) {
        if let Some(Slot {
            waiting: Waiting::Call(sender),
            ..
        }) = lock(&self.0).remove(reply)
        {
            // A caller that has gone away needs no answer.
            let _ = sender.send(outcome);
        }
    }
}

/// An open slot; closes when dropped, so that a cancelled request leaves nothing behind.
pub(crate) struct Open {
    slots: Arc<Slots>,
    reply: String,
    receiver: oneshot::Receiver<Outcome>,
}

impl Open {
    /// Waits for the outcome; `None` when the connection is gone.
    pub(crate) async fn outcome(&mut self) -> Option<Outcome> {
        (&mut self.receiver).await.ok()
    }

    /// Answers refused so far.
    pub(crate) fn refused(&self) -> u32 {
        lock(&self.slots.0)
            .get(&self.reply)
            .map_or(0, |slot| slot.refused)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.slots.0).remove(&self.reply);
    }
}

/// Receives answers until the client or the connection is gone.
pub(crate) async fn receive_answers(
    mut raw: BusSubscriber,
    shared: Weak<Shared>,
    guard: SharedGuard,
) {
    while let Some(delivery) = raw.next().await {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        take_answer(&shared, delivery, &guard);
    }
    if let Some(shared) = shared.upgrade() {
        shared.slots.end_calls();
    }
}

fn take_answer(shared: &Arc<Shared>, delivery: Delivery, guard: &SharedGuard) {
    let reply = delivery.subject.to_string();
    if delivery.status == Some(StatusCode::NO_RESPONDERS) {
        shared.slots.close(&reply, Outcome::NoResponders);
        return;
    }
    let pending = shared.slots.pending_call(&reply);
    let expect = Expect::Answer {
        pending: pending.as_ref(),
        guard,
    };
    match shared.receive(delivery, &expect) {
        Some(envelope) => {
            super::counters::count(&shared.tally.handler_runs);
            let message = Message::new(envelope, shared);
            shared
                .slots
                .close(&reply, Outcome::Answer(Box::new(message)));
        }
        None => shared.slots.refused(&reply),
    }
}
