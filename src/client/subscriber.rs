//! A stream of verified messages.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use futures_util::Stream;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;

use super::Shared;
use super::counters::count;
use super::guards::ReplayScope;
use super::guards::SharedGuard;
use super::inbound::Held;
use super::line::Line;
use super::line::REFUSALS_PER_POLL;
use super::message::Message;
use super::shared_replay::Claimant;
use super::standing::Backing;
use crate::bus::BusSubscriber;
use crate::bus::UnsubscribeError;
use crate::proto::chain::VerifiedChain;
use crate::proto::rejection::Rejection;
use crate::proto::subject::SubjectPattern;
use crate::proto::verify::VerifiedEnvelope;

/// Messages of a subscription that are claimed at once in the shared replay memory: enough that a
/// round trip of a millisecond allows tens of thousands a second.
const CLAIMS_AHEAD: usize = 64;

/// A stream of verified messages, in the order of arrival.
///
/// What it yields has been checked at that moment. Messages with a signature of their own are
/// verified up to 64 ahead, on every core of a multi-threaded runtime, and looked at once more when
/// their turn comes; all others where the stream is polled. A slow reader slows nobody else. What is refused is audited and skipped; a refused
/// message never ends the stream. Dropping it unsubscribes.
///
/// It ends after [`unsubscribe`](Self::unsubscribe), [`drain`](Self::drain) or
/// [`Client::drain`](super::Client::drain). Cancelling a read loses nothing.
/// [`Client::subscribe`](super::Client::subscribe) has an example.
pub struct Subscriber {
    raw: Option<BusSubscriber>,
    shared: Arc<Shared>,
    intake: Arc<Intake>,
    line: Line,
    /// Where messages wait for the shared replay memory, when it is used.
    ahead: Option<Ahead>,
    /// Messages still to be yielded, when limited by `unsubscribe_after`.
    left: Option<u64>,
    yielded: u64,
    /// Whether yielding a message counts as running its handler.
    pub(crate) counts_runs: bool,
}

/// Messages on their way through the shared replay memory, in the order of arrival.
struct Ahead {
    claimant: Claimant,
    held: FuturesOrdered<Pin<Box<dyn Future<Output = Settling> + Send>>>,
    /// Whether the bus's subscription has ended.
    ended: bool,
}

/// A message, and whether it was claimed.
type Settling = (Held, Result<(), Rejection>);

impl Ahead {
    fn push(&mut self, held: Held) {
        let claim = held
            .sighting()
            .map(|(sighting, now)| self.claimant.claim(sighting, now));
        self.held.push_back(Box::pin(async move {
            let claimed = match claim {
                Some(claim) => claim.await,
                // It is refused already.
                None => Ok(()),
            };
            (held, claimed)
        }));
    }
}

/// Under which authority and memory messages are taken in.
pub(crate) struct Intake {
    pub(crate) pattern: SubjectPattern,
    pub(crate) own: Backing,
    pub(crate) scope: ReplayScope,
    pub(crate) guard: SharedGuard,
    /// Whether it is a subscription to one's own inbox: only answers are expected there.
    pub(crate) inbox: bool,
}

impl Subscriber {
    pub(crate) fn new(
        raw: BusSubscriber,
        shared: Arc<Shared>,
        intake: Intake,
        claimant: Option<Claimant>,
    ) -> Self {
        let ahead = |claimant| Ahead {
            claimant,
            held: FuturesOrdered::new(),
            ended: false,
        };
        Self {
            ahead: claimant.map(ahead),
            raw: Some(raw),
            shared,
            intake: Arc::new(intake),
            line: Line::default(),
            left: None,
            yielded: 0,
            counts_runs: true,
        }
    }

    /// The chain it receives under, as of now.
    pub(crate) fn authority(&self) -> VerifiedChain {
        self.intake.own.chain(&self.shared)
    }

    /// Ends the subscription. Messages already received still come out.
    ///
    /// # Errors
    ///
    /// [`UnsubscribeError`] when the connection is gone; the stream ends all the same.
    pub async fn unsubscribe(&mut self) -> Result<(), UnsubscribeError> {
        match &mut self.raw {
            Some(raw) => raw.unsubscribe().await,
            None => Ok(()),
        }
    }

    /// Ends the subscription after `count` messages in total, counting those already yielded.
    ///
    /// Only verified messages count: forged ones cannot use the number up. More than `count` never
    /// come out, even when they have been received already.
    ///
    /// # Errors
    ///
    /// [`UnsubscribeError`] when the number is reached and the connection is gone.
    pub async fn unsubscribe_after(&mut self, count: u64) -> Result<(), UnsubscribeError> {
        self.left = Some(count.saturating_sub(self.yielded));
        if self.left == Some(0) {
            self.unsubscribe().await
        } else {
            Ok(())
        }
    }

    /// Ends the subscription; what the server had already sent still comes out.
    ///
    /// # Errors
    ///
    /// [`UnsubscribeError`] when the connection is gone; the stream ends all the same.
    pub async fn drain(&mut self) -> Result<(), UnsubscribeError> {
        match &mut self.raw {
            Some(raw) => raw.drain().await,
            None => Ok(()),
        }
    }
}

impl Subscriber {
    /// Counts a message that comes out now.
    fn yielding(&mut self, envelope: VerifiedEnvelope) -> Message {
        self.yielded += 1;
        self.left = self.left.map(|left| left.saturating_sub(1));
        if self.counts_runs {
            count(&self.shared.tally.handler_runs);
        }
        Message::new(envelope, &self.shared)
    }
}

impl Ahead {
    /// Takes messages in until `most` are under way, and gives out the oldest once it is settled.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        raw: &mut BusSubscriber,
        shared: &Shared,
        intake: &Intake,
        most: usize,
    ) -> Poll<Option<VerifiedEnvelope>> {
        let mut turns = REFUSALS_PER_POLL;
        loop {
            while !self.ended && self.held.len() < most && turns > 0 {
                match raw.poll_next_unpin(cx) {
                    Poll::Ready(Some(delivery)) => {
                        turns -= 1;
                        if let Some(held) = shared.hold(delivery, intake) {
                            self.push(held);
                        }
                    }
                    Poll::Ready(None) => self.ended = true,
                    Poll::Pending => break,
                }
            }
            match self.held.poll_next_unpin(cx) {
                Poll::Ready(Some((held, claimed))) => {
                    if let Some(envelope) = shared.settle(held, claimed, intake) {
                        return Poll::Ready(Some(envelope));
                    }
                }
                Poll::Ready(None) if self.ended => return Poll::Ready(None),
                Poll::Ready(None) | Poll::Pending => {
                    if turns == 0 {
                        // The bus may have more, and has not been asked to wake this task.
                        cx.waker().wake_by_ref();
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

impl Stream for Subscriber {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let this = self.get_mut();
        if this.left == Some(0) {
            // Dropping the bus's subscription unsubscribes.
            this.raw = None;
        }
        let Some(raw) = &mut this.raw else {
            this.ahead = None;
            this.line = Line::default();
            return Poll::Ready(None);
        };
        if let Some(ahead) = &mut this.ahead {
            let most = this.left.map_or(CLAIMS_AHEAD, |left| {
                usize::try_from(left).map_or(CLAIMS_AHEAD, |left| left.min(CLAIMS_AHEAD))
            });
            let envelope = ready!(ahead.poll_next(cx, raw, &this.shared, &this.intake, most));
            return Poll::Ready(envelope.map(|envelope| this.yielding(envelope)));
        }
        let most = this.left.unwrap_or(u64::MAX);
        let next = this
            .line
            .poll_next(cx, raw, &this.shared, &this.intake, most);
        let envelope = ready!(next);
        Poll::Ready(envelope.map(|envelope| this.yielding(envelope)))
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shared.retire(&self.intake);
    }
}

impl std::fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscriber")
            .field("pattern", &self.intake.pattern)
            .field("group", &self.intake.scope.group)
            .finish_non_exhaustive()
    }
}
