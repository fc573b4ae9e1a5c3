//! Reports of misbehaviour to the verifier service (protocol §22.8).
//!
//! What a sender did wrong by its own signature is sent to the service as evidence, in the
//! background and never instead of deciding. What proves nothing is not sent: the service would
//! look for the same fault and not find it. Where the mesh has no service that can be asked,
//! nothing happens.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Client;
use super::Shared;
use super::plane::PlaneError;
use super::task;
use crate::proto::identity::KeyBytes;
use crate::proto::rejection::Rejection;
use crate::proto::request::ControlAnswer;
use crate::proto::request::ControlRequest;
use crate::proto::request::Verb;
use crate::proto::verify::Fault;
use crate::proto::verify::FaultId;
use crate::proto::verify::evidence_of;
use crate::proto::verify::find_fault;

/// Frames that wait to be reported, of 64 KiB at the most; more are not reported.
const QUEUE: usize = 64;

/// Frames looked at a second, up to ten signatures each.
const LOOKS_PER_SECOND: u32 = 32;

/// Reports sent a second, of all signers.
const REPORTS_PER_SECOND: u32 = 4;

/// Reports sent a second, of one signer.
const REPORTS_PER_KEY: u32 = 2;

/// Faults that are not reported a second time.
const REPORTED: usize = 256;

/// How long one report waits for its answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The topic of the notice that somebody was reported.
const NOTICE_REPORTED: &str = "reported";

/// The queue of what is to be reported.
#[derive(Debug)]
pub(crate) struct Reporter(mpsc::Sender<Bytes>);

impl Reporter {
    pub(crate) fn start(shared: Weak<Shared>) -> Self {
        let (queue, frames) = mpsc::channel(QUEUE);
        task::spawn(report_frames(frames, shared));
        Self(queue)
    }
}

impl Shared {
    /// Puts a refused frame before the verifier service, when its signer is to blame for it.
    pub(crate) fn report(&self, why: &Rejection, frame: &Bytes) {
        // A full queue means many faults: those that wait are enough.
        if self.reporter.0.capacity() > 0
            && let Some(evidence) = evidence_of(frame, why)
            && self.has_service()
        {
            let _ = self.reporter.0.try_send(evidence);
        }
    }

    fn has_service(&self) -> bool {
        self.moment()
            .is_ok_and(|(now, trust)| self.service_key(&trust, now).is_ok())
    }
}

/// What was reported lately, and how much in this second.
struct Pace {
    since: Instant,
    looks: u32,
    reports: u32,
    by_key: HashMap<KeyBytes, u32>,
    reported: HashSet<(KeyBytes, FaultId)>,
    order: VecDeque<(KeyBytes, FaultId)>,
}

impl Pace {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            looks: 0,
            reports: 0,
            by_key: HashMap::new(),
            reported: HashSet::new(),
            order: VecDeque::new(),
        }
    }

    /// Whether one more frame may be looked at.
    fn look(&mut self) -> bool {
        if self.since.elapsed() >= Duration::from_secs(1) {
            self.since = Instant::now();
            (self.looks, self.reports) = (0, 0);
            self.by_key.clear();
        }
        self.looks += 1;
        self.looks <= LOOKS_PER_SECOND
    }

    /// Whether a fault is to be reported: it is new, and its signer and all have reports left.
    fn take(&mut self, fault: &Fault) -> bool {
        let known = (fault.key, fault.sighting);
        if self.reports >= REPORTS_PER_SECOND || self.reported.contains(&known) {
            return false;
        }
        let of_key = self.by_key.entry(fault.key).or_default();
        if *of_key >= REPORTS_PER_KEY {
            return false;
        }
        *of_key += 1;
        self.reports += 1;
        if self.order.len() >= REPORTED
            && let Some(first) = self.order.pop_front()
        {
            self.reported.remove(&first);
        }
        self.order.push_back(known);
        self.reported.insert(known)
    }
}

async fn report_frames(mut frames: mpsc::Receiver<Bytes>, shared: Weak<Shared>) {
    let mut pace = Pace::new();
    while let Some(frame) = frames.recv().await {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if !pace.look() {
            continue;
        }
        let Ok((_, trust)) = shared.moment() else {
            continue;
        };
        let Ok(fault) = find_fault(&frame, &trust) else {
            continue;
        };
        if !pace.take(&fault) {
            continue;
        }
        let client = Client::of(&shared);
        let outcome = match client.report(vec![frame], PATIENCE).await {
            Ok(()) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        let (name, what, id) = (&fault.culprit, fault.misbehaviour, fault.evidence);
        let text = format!("{name} under {}: {what}, by {id}: {outcome}", fault.key);
        shared.plane_notice(NOTICE_REPORTED, text);
    }
}

impl Client {
    /// Hands frames to the verifier service as evidence of what their signers did. It counts what
    /// it finds itself, whoever reports it; what is over its rates it leaves.
    ///
    /// Receivers do it by themselves, for what they refuse.
    ///
    /// # Errors
    ///
    /// [`PlaneError`]; [`NotEvidence`](crate::proto::enrol::EnrolRefused::NotEvidence) when none of
    /// them proves anything.
    pub async fn report_evidence(&self, frames: Vec<Bytes>) -> Result<(), PlaneError> {
        self.report(frames, super::plane::TIMEOUT).await
    }

    async fn report(&self, evidence: Vec<Bytes>, within: Duration) -> Result<(), PlaneError> {
        let request = ControlRequest::Report { evidence };
        match self.consult(Verb::Report, &request, within).await? {
            ControlAnswer::Done { .. } => Ok(()),
            _ => Err(super::plane::unexpected()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::identity::AgentId;
    use crate::proto::score::Misbehaviour;
    use crate::proto::signing::ObjectId;
    use crate::proto::time::Timestamp;

    fn fault(key: u8, link: u8) -> Fault {
        Fault {
            culprit: AgentId::parse("mallory").unwrap(),
            key: KeyBytes([key; 32]),
            misbehaviour: Misbehaviour::ScopeExceeded,
            evidence: ObjectId([link; 32]),
            sighting: FaultId::Link(ObjectId([link; 32])),
            from: Timestamp::default(),
            until: Timestamp::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reports_are_few_and_each_fault_is_reported_once() {
        let mut pace = Pace::new();
        assert!(pace.look());
        let mut taken = |key, link| pace.take(&fault(key, link));
        assert!(taken(1, 1) && !taken(1, 1));
        assert!(taken(1, 2) && !taken(1, 3), "enough of one signer");
        assert!(taken(2, 1) && taken(3, 1) && !taken(4, 1), "enough of all");
        assert_eq!((1..100).filter(|_| pace.look()).count(), 31);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(pace.look());
        assert!(!pace.take(&fault(1, 1)), "it was reported");
        assert!(pace.take(&fault(1, 3)));
        for link in 0..=255 {
            tokio::time::advance(Duration::from_secs(1)).await;
            pace.look();
            pace.take(&fault(9, link));
        }
        assert_eq!(
            (pace.order.len(), pace.reported.len()),
            (REPORTED, REPORTED)
        );
    }
}
