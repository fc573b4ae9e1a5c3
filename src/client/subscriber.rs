//! A stream of verified messages.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use futures_util::Stream;
use futures_util::StreamExt as _;

use super::Shared;
use super::counters::count;
use super::guards::ReplayScope;
use super::guards::SharedGuard;
use super::inbound::Expect;
use super::message::Message;
use super::standing::Backing;
use crate::bus::BusSubscriber;
use crate::bus::UnsubscribeError;
use crate::proto::chain::VerifiedChain;
use crate::proto::subject::SubjectPattern;

/// Refused messages skipped in one poll before other tasks get a turn.
const REFUSALS_PER_POLL: usize = 32;

/// A stream of verified messages, in the order of arrival.
///
/// Verification happens where the stream is polled: what it yields has been checked at that
/// moment, and a slow reader slows nobody else. What is refused is audited and skipped; a refused
/// message never ends the stream. Dropping it unsubscribes.
///
/// It ends after [`unsubscribe`](Self::unsubscribe), [`drain`](Self::drain) or
/// [`Client::drain`](super::Client::drain). Cancelling a read loses nothing.
/// [`Client::subscribe`](super::Client::subscribe) has an example.
pub struct Subscriber {
    raw: Option<BusSubscriber>,
    shared: Arc<Shared>,
    intake: Intake,
    /// Messages still to be yielded, when limited by `unsubscribe_after`.
    left: Option<u64>,
    yielded: u64,
    /// Whether yielding a message counts as running its handler.
    pub(crate) counts_runs: bool,
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
    pub(crate) fn new(raw: BusSubscriber, shared: Arc<Shared>, intake: Intake) -> Self {
        Self {
            raw: Some(raw),
            shared,
            intake,
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

impl Stream for Subscriber {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let this = self.get_mut();
        if this.left == Some(0) {
            // Dropping the bus's subscription unsubscribes.
            this.raw = None;
        }
        let Some(raw) = &mut this.raw else {
            return Poll::Ready(None);
        };
        for _ in 0..REFUSALS_PER_POLL {
            let Some(delivery) = ready!(raw.poll_next_unpin(cx)) else {
                return Poll::Ready(None);
            };
            let expect = Expect::Subscription(&this.intake);
            let Some(envelope) = this.shared.receive(delivery, &expect) else {
                continue;
            };
            this.yielded += 1;
            this.left = this.left.map(|left| left.saturating_sub(1));
            if this.counts_runs {
                count(&this.shared.tally.handler_runs);
            }
            return Poll::Ready(Some(Message::new(envelope, &this.shared)));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
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
