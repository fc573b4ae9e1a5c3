//! A line of messages: verified on every core, decided in the order of arrival.
//!
//! ```text
//! bus ──▶ [ waiting | working | working | waiting ] ──front──▶ decided, in order
//!                       │         │
//!                    a worker  a worker      everything that changes nothing
//! ```
//!
//! A signature of its own is what makes a message dear, some 40 µs; whoever has more than one such
//! message before him has them checked side by side. What changes state (replay, rate, audit)
//! happens at the front, where time and trust state are looked at once more. A message alone, or
//! one signed in a batch, is decided where it is: it costs less than handing it on.

use std::collections::VecDeque;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use futures_util::StreamExt as _;
use tokio::task::JoinHandle;

use super::Shared;
use super::inbound::Expect;
use super::inbound::Held;
use super::subscriber::Intake;
use super::task;
use crate::bus::BusSubscriber;
use crate::bus::Delivery;
use crate::proto::envelope;
use crate::proto::verify::VerifiedEnvelope;

/// Messages of a subscription that are taken from the bus ahead of the one that is decided.
const AHEAD: usize = 64;

/// Refused messages skipped in one poll before other tasks get a turn.
pub(super) const REFUSALS_PER_POLL: usize = 32;

/// Messages on their way to being decided.
#[derive(Default)]
pub(crate) struct Line {
    places: VecDeque<Place>,
    /// Whether the bus's subscription has ended.
    ended: bool,
}

enum Place {
    /// To be verified when its turn comes.
    Waiting(Box<Delivery>),
    /// With a worker; nothing comes of what is no message.
    Working(JoinHandle<Option<Held>>),
}

impl Line {
    /// The next message that is accepted, reading at most `most` ahead.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        raw: &mut BusSubscriber,
        shared: &Arc<Shared>,
        intake: &Arc<Intake>,
        most: u64,
    ) -> Poll<Option<VerifiedEnvelope>> {
        let most = usize::try_from(most).map_or(AHEAD, |most| most.min(AHEAD));
        for _ in 0..REFUSALS_PER_POLL {
            let next = self.fill(cx, raw, shared, intake, most);
            let accepted = match (next, self.places.front_mut()) {
                (Some(delivery), _) => shared.receive(delivery, &Expect::Subscription(intake)),
                (None, None) if self.ended => return Poll::Ready(None),
                (None, None) => return Poll::Pending,
                (None, Some(Place::Working(worker))) => {
                    let worked = ready!(Pin::new(worker).poll(cx));
                    self.places.pop_front();
                    // A worker does not panic. One that was given up ended with its runtime.
                    worked
                        .ok()
                        .flatten()
                        .and_then(|held| shared.settle(held, Ok(()), intake))
                }
                (None, Some(Place::Waiting(_))) => match self.places.pop_front() {
                    Some(Place::Waiting(delivery)) => {
                        shared.receive(*delivery, &Expect::Subscription(intake))
                    }
                    _ => None,
                },
            };
            if accepted.is_some() {
                return Poll::Ready(accepted);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes in what the bus has. Nothing is read ahead of a message that waits for its turn: where
    /// nothing is worth a worker, one message is taken at a time, and returned when its turn is now.
    fn fill(
        &mut self,
        cx: &mut Context<'_>,
        raw: &mut BusSubscriber,
        shared: &Arc<Shared>,
        intake: &Arc<Intake>,
        most: usize,
    ) -> Option<Delivery> {
        let mut alone = None;
        while !self.ended && self.places.len() + usize::from(alone.is_some()) < most {
            if matches!(self.places.back(), Some(Place::Waiting(_))) {
                break;
            }
            match raw.poll_next_unpin(cx) {
                Poll::Ready(Some(delivery)) if is_worth(&delivery) => {
                    if self.places.is_empty() && alone.is_none() {
                        // Whether it has company is not known yet.
                        alone = Some(delivery);
                        continue;
                    }
                    for delivery in alone.take().into_iter().chain([delivery]) {
                        self.places.push_back(Place::of(delivery, shared, intake));
                    }
                }
                Poll::Ready(Some(delivery)) if self.places.is_empty() && alone.is_none() => {
                    return Some(delivery);
                }
                Poll::Ready(Some(delivery)) => {
                    let waiting = alone.take().into_iter().chain([delivery]);
                    let places = waiting.map(|delivery| Place::Waiting(Box::new(delivery)));
                    self.places.extend(places);
                }
                Poll::Ready(None) => self.ended = true,
                Poll::Pending => break,
            }
        }
        if self.places.is_empty() {
            return alone;
        }
        self.places
            .extend(alone.map(|delivery| Place::Waiting(Box::new(delivery))));
        None
    }
}

impl Place {
    /// Gives a message to a worker.
    fn of(delivery: Delivery, shared: &Arc<Shared>, intake: &Arc<Intake>) -> Self {
        let (shared, intake) = (shared.clone(), intake.clone());
        Self::Working(task::spawn(async move { shared.hold(delivery, &intake) }))
    }
}

/// Whether a message is better verified by a worker: it has a signature of its own, and there are
/// cores to choose from.
fn is_worth(delivery: &Delivery) -> bool {
    envelope::is_signed_alone(&delivery.payload) && task::has_workers()
}
