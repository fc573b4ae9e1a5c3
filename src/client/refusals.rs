//! Signed refusals: an authenticated requester learns that it was refused, and nothing else.
//!
//! The body is empty, with one exception: a request refused for want of a session gets the name of
//! the responder, so that the requester knows with whom to shake hands. Whoever is not
//! authenticated gets nothing.

use std::collections::HashMap;
use std::sync::Weak;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Duration;
use tokio::time::Instant;

use super::Client;
use super::Shared;
use super::Voice;
use super::counters::count;
use super::standing::Backing;
use super::task;
use crate::proto::handshake::Instance;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::limits::REFUSALS_PER_SECOND;
use crate::proto::names::OBJECT_VERSION;
use crate::proto::rejection::Place;
use crate::proto::revocation::read_agent;
use crate::proto::verify;
use crate::proto::verify::Refused;
use crate::proto::wire;
use crate::proto::wire::Reader;

/// Refusals waiting to be signed; more are not sent.
const QUEUE: usize = 256;

/// With whom to shake hands: `[v, agent id, key bin32, instance bin8]`.
pub(crate) struct SessionHint {
    pub(crate) agent: AgentId,
    pub(crate) key: KeyBytes,
    pub(crate) instance: Instance,
}

impl SessionHint {
    pub(crate) fn parse(payload: &Bytes) -> Option<Self> {
        let mut r = Reader::new(payload, Place::Content);
        r.array_of(4).ok()?;
        if r.uint().ok()? != OBJECT_VERSION {
            return None;
        }
        let agent = read_agent(&mut r).ok()?;
        let hint = Self {
            agent,
            key: r.key().ok()?,
            instance: r.bin_of().ok()?,
        };
        r.finish().ok()?;
        Some(hint)
    }

    fn encode(&self) -> Bytes {
        let (key, instance) = (wire::bin(&self.key.0), wire::bin(&self.instance));
        wire::encode(&(OBJECT_VERSION, self.agent.as_str(), key, instance)).into()
    }
}

/// The queue of refusals to sign.
#[derive(Debug)]
pub(crate) struct Refusals(mpsc::Sender<Refused>);

impl Refusals {
    pub(crate) fn start(shared: Weak<Shared>) -> Self {
        let (queue, refused) = mpsc::channel(QUEUE);
        task::spawn(send_refusals(refused, shared));
        Self(queue)
    }
}

impl Shared {
    /// Tells the requester that it was refused, when it is one who may be told.
    pub(crate) fn tell(&self, refused: &Refused) {
        if refused.requester.is_some() && verify::may_be_told(&refused.rejection) {
            // A full queue means many refusals: requesters then time out instead.
            let _ = self.refusals.0.try_send(refused.clone());
        }
    }
}

async fn send_refusals(mut queue: mpsc::Receiver<Refused>, shared: Weak<Shared>) {
    let mut told: HashMap<KeyBytes, u32> = HashMap::new();
    let mut since = Instant::now();
    while let Some(refused) = queue.recv().await {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let Some(requester) = &refused.requester else {
            continue;
        };
        if since.elapsed() >= Duration::from_secs(1) {
            told.clear();
            since = Instant::now();
        }
        let count_told = told.entry(requester.key).or_default();
        *count_told += 1;
        if *count_told > REFUSALS_PER_SECOND {
            continue;
        }
        let payload = if verify::asks_for_session(&refused.rejection) {
            let (agent, key) = (shared.identity.id.clone(), shared.identity.key());
            SessionHint {
                agent,
                key,
                instance: shared.peers.instance(),
            }
            .encode()
        } else {
            Bytes::new()
        };
        let voice = Voice {
            backing: Backing::Own,
            traceparent: None,
            hops: 0,
        };
        let client = Client { shared, voice };
        // Without SERVE on the subject no refusal can be signed, and none is sent.
        let Ok(outgoing) = client.seal_refusal(requester, payload) else {
            continue;
        };
        if client.shared.bus.publish(outgoing).await.is_ok() {
            count(&client.shared.tally.refusals_sent);
        }
    }
}
