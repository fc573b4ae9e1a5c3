//! What a running agent asks the verifier service: to go on, under the same key or another, and to
//! take back what it gave (protocol §22.5).
//!
//! A renewed certificate or grant is taken into use for everything from then on. Nothing is renewed
//! unless it is asked for: [`Client::keep_renewed`] asks in time, and the audit says so each time.

use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::Client;
use super::Shared;
use super::random::random;
use crate::bus::Outgoing;
use crate::bus::Subject as BusSubject;
use crate::proto::audit::AuditEvent;
use crate::proto::certificate::CertificateClaims;
use crate::proto::certificate::UnverifiedCertificate;
use crate::proto::chain::Chain;
use crate::proto::control::ControlSender;
use crate::proto::control::Moment;
use crate::proto::control::open_answer;
use crate::proto::control::open_answer_of;
use crate::proto::enrol::EnrolRefused;
use crate::proto::enrol::Offer;
use crate::proto::enrol::check_grant;
use crate::proto::enrol::check_served;
use crate::proto::envelope::inbox_prefix;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::identity::SigningKey;
use crate::proto::names::VERIFIER_ID;
use crate::proto::rejection::KeyMismatch;
use crate::proto::rejection::Malformed;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::replay::MessageId;
use crate::proto::request::ControlAnswer;
use crate::proto::request::ControlRequest;
use crate::proto::request::Target;
use crate::proto::request::Verb;
use crate::proto::request::control_subject;
use crate::proto::root::Role;
use crate::proto::signing::ObjectId;
use crate::proto::subject::Subject;
use crate::proto::time::Timestamp;
use crate::proto::time::Validity;
use crate::proto::trust::TrustState;

/// How long one of the calls here may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for an answer before asking again.
const AGAIN: Duration = Duration::from_secs(1);

/// How often the background looks whether something is to be renewed.
const LOOK: Duration = Duration::from_secs(1);

/// The longest pause after renewals that failed.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Why the verifier service did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaneError {
    /// The service refused.
    #[error("the verifier refused: {0}")]
    Refused(EnrolRefused),
    /// Nothing can be asked or believed now: the service is unknown, or what it gave does not
    /// verify.
    #[error("refused: {0}")]
    Denied(#[from] Rejection),
    /// No answer that verifies came in time.
    #[error("the verifier did not answer in time")]
    TimedOut,
    /// The bus could not be used.
    #[error("the bus failed: {0}")]
    Bus(String),
    /// What was given could not be stored in the mesh directory. It is in use all the same.
    #[error("what was renewed could not be stored: {0}")]
    Store(String),
}

/// What a rotation yields: the agent under its new key.
#[derive(Clone, Debug)]
pub struct Rotated {
    /// The certificate of the new key, encoded.
    pub certificate: Bytes,
    /// A root grant for the new key, if the agent has terms in the service's books.
    pub grant: Option<Chain>,
}

impl Client {
    /// Renews this agent's certificate, and goes on under the new one.
    ///
    /// Cancelling may leave the certificate renewed at the service alone; renewing again repairs
    /// that.
    ///
    /// # Errors
    ///
    /// [`PlaneError`].
    pub async fn renew(&self) -> Result<Timestamp, PlaneError> {
        let key = self.shared.identity.key.clone();
        let (certificate, _) = self
            .certified(Verb::Renew, &ControlRequest::Renew, &key)
            .await?;
        let shared = &self.shared;
        shared.adopt(Some(certificate.clone()), None)?;
        let until = shared.standing.load().window.until();
        shared.plane_notice("renewed", format!("certificate renewed until {until}"));
        if let Some(home) = &shared.identity.home {
            let stored = home.store_certificate(&shared.identity.id, &certificate);
            stored.map_err(|error| PlaneError::Store(error.to_string()))?;
        }
        Ok(until)
    }

    /// Renews this agent's root grant, and goes on under the new one. A grant that came by way of
    /// others cannot be renewed by the service.
    ///
    /// # Errors
    ///
    /// [`PlaneError`].
    pub async fn renew_grant(&self) -> Result<Timestamp, PlaneError> {
        let shared = &self.shared;
        let held = shared.own();
        let chain = held.chain().bytes().clone();
        let request = ControlRequest::Regrant { chain };
        let answer = self.consult(Verb::Renew, &request, TIMEOUT).await?;
        let ControlAnswer::Granted { chain } = answer else {
            return Err(unexpected());
        };
        let (now, trust) = shared.moment()?;
        let key = shared.identity.key();
        let grant = check_grant(&chain, trust.root(), &key, now, shared.skew)?;
        let until = grant.leaf().validity().until();
        shared.adopt(None, Some(grant.clone()))?;
        shared.plane_notice("renewed", format!("grant renewed until {until}"));
        if let Some(home) = &shared.identity.home {
            let stored = home.store_grant(&shared.identity.id, &grant);
            stored.map_err(|error| PlaneError::Store(error.to_string()))?;
        }
        Ok(until)
    }

    /// Gives this agent another key. The old one, which this client goes on with, works for the
    /// service's grace, 10 minutes by default; within it the agent connects anew under what is
    /// returned. Whoever delegated to the old key must delegate to the new one.
    ///
    /// Called again with the same key it yields the same certificate, if an answer was lost.
    ///
    /// # Errors
    ///
    /// [`PlaneError`]; [`EnrolRefused::NotCurrent`] when the key was rotated already.
    pub async fn rotate(&self, key: &SigningKey) -> Result<Rotated, PlaneError> {
        let public = key.public().bytes();
        let request = ControlRequest::Rotate { key: public };
        let (certificate, grant) = self.certified(Verb::Rotate, &request, key).await?;
        let shared = &self.shared;
        let (now, trust) = shared.moment()?;
        let check = |bytes: Bytes| check_grant(&bytes, trust.root(), &public, now, shared.skew);
        let grant = grant.map(check).transpose()?;
        shared.plane_notice("rotated", format!("rotated to the key {public}"));
        Ok(Rotated { certificate, grant })
    }

    /// [`rotate`](Self::rotate) for an agent that was loaded from a mesh directory: makes the new
    /// key there, and leaves the agent there under it. This client goes on under the old key;
    /// within the grace the agent is to be loaded and connected anew.
    ///
    /// A process that is killed at any moment leaves the old key whole or the new one, and calling
    /// this again completes what it began.
    ///
    /// # Errors
    ///
    /// [`PlaneError`]; [`PlaneError::Store`] for an agent that was not loaded from a directory.
    pub async fn rotate_stored(&self) -> Result<Rotated, PlaneError> {
        let store = |error: &dyn std::fmt::Display| PlaneError::Store(error.to_string());
        let identity = &self.shared.identity;
        let home = identity.home.as_ref();
        let home = home.ok_or_else(|| store(&"the agent was not loaded from a mesh directory"))?;
        // The key is on disk before the service hears of it: no kill loses what was certified.
        let key = home.next_key(&identity.id).map_err(|error| store(&error))?;
        let rotated = self.rotate(&key).await?;
        home.store_rotated(&identity.id, &rotated)
            .map_err(|error| store(&error))?;
        Ok(rotated)
    }

    /// Revokes a link that this agent signed, and everything below it: link `index` of a chain, 1
    /// or more. Others see it as soon as the service has published it, before this returns.
    ///
    /// # Errors
    ///
    /// [`PlaneError`]; [`EnrolRefused::NotYours`] when another key signed the link.
    pub async fn revoke_link(&self, chain: &Chain, index: usize) -> Result<(), PlaneError> {
        let links = chain.links();
        let malformed = Rejection::Malformed {
            place: Place::Chain,
            reason: Malformed::OutOfRange,
        };
        let link = links.get(index).ok_or(malformed)?;
        let parent = index.checked_sub(1).map(|above| links[above].body.clone());
        let target = Target::Link {
            body: link.body.clone(),
            signature: link.signature,
            parent,
        };
        self.revoke(target).await
    }

    /// Revokes this agent's own key, for good: nothing it signed counts any longer.
    ///
    /// # Errors
    ///
    /// [`PlaneError`].
    pub async fn revoke_own_key(&self) -> Result<(), PlaneError> {
        self.revoke(Target::OwnKey).await
    }

    async fn revoke(&self, target: Target) -> Result<(), PlaneError> {
        let request = ControlRequest::Revoke(target);
        match self.consult(Verb::Revoke, &request, TIMEOUT).await? {
            ControlAnswer::Done { .. } => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Renews certificate and root grant in the background, as long as this client lives: each
    /// after two thirds of its time, a twentieth more or less, so that not all agents come at once.
    /// Every renewal and every failure is a notice in the audit; what fails is tried again.
    pub fn keep_renewed(&self) {
        let shared = Arc::downgrade(&self.shared);
        self.shared.tasks.spawn(keep_renewed(shared));
    }

    /// Gets a certificate for `key`: asks, and claims what is offered, until an answer comes.
    async fn certified(
        &self,
        verb: Verb,
        request: &ControlRequest,
        key: &SigningKey,
    ) -> Result<(Bytes, Option<Bytes>), PlaneError> {
        let deadline = Instant::now() + TIMEOUT;
        let mut last = PlaneError::TimedOut;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(last);
            }
            let ControlAnswer::Offer(offer) = self.consult(verb, request, left).await? else {
                return Err(unexpected());
            };
            let claim = self.claim(&offer, key)?;
            // The offer is used once. An answer that is lost is found by asking from the start.
            match self.consult(verb, &claim, (2 * AGAIN).min(left)).await {
                Ok(ControlAnswer::Certified { certificate, grant }) => {
                    self.check_certificate(&certificate, &offer)?;
                    return Ok((certificate, grant));
                }
                Ok(_) => return Err(unexpected()),
                Err(PlaneError::Refused(reason)) if reason.is_transient() => {
                    last = PlaneError::Refused(reason);
                    tokio::time::sleep(AGAIN.min(left)).await;
                }
                Err(PlaneError::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn claim(&self, offer: &Offer, key: &SigningKey) -> Result<ControlRequest, Rejection> {
        let claims = offer.claims()?;
        let trust = self.shared.identity.trust.current();
        if claims.agent != self.shared.identity.id || claims.mesh != trust.mesh() {
            return Err(Rejection::KeyMismatch {
                place: Place::Certificate,
                reason: KeyMismatch::OtherAgent,
            });
        }
        check_served(&claims)?;
        Ok(ControlRequest::Claim {
            possession: claims.prove_possession(key)?,
            offer: offer.clone(),
        })
    }

    fn check_certificate(&self, bytes: &Bytes, offer: &Offer) -> Result<(), Rejection> {
        let trust = self.shared.identity.trust.current();
        let registrars = trust.root().keys(Role::Registrar);
        let certificate = UnverifiedCertificate::parse(bytes)?.verify(trust.mesh(), registrars)?;
        if certificate.id() == offer.certificate_id() {
            return Ok(());
        }
        Err(Rejection::KeyMismatch {
            place: Place::Certificate,
            reason: KeyMismatch::OtherCertificate,
        })
    }

    /// Asks the service, again and again until an answer verifies. A refusal is an error.
    pub(crate) async fn consult(
        &self,
        verb: Verb,
        request: &ControlRequest,
        within: Duration,
    ) -> Result<ControlAnswer, PlaneError> {
        let subject = control_subject(&self.shared.prefix, verb);
        self.consult_at(&subject, None, request, within).await
    }

    /// [`consult`](Self::consult) of another agent than the service, with the key `peer`.
    pub(crate) async fn consult_at(
        &self,
        subject: &str,
        peer: Option<KeyBytes>,
        request: &ControlRequest,
        within: Duration,
    ) -> Result<ControlAnswer, PlaneError> {
        let attempt = self.attempt_consult(subject, peer, request.encode());
        let answer = tokio::time::timeout(within, attempt).await;
        match answer.map_err(|_| PlaneError::TimedOut)?? {
            ControlAnswer::Refused(reason) => Err(PlaneError::Refused(reason)),
            answer => Ok(answer),
        }
    }

    async fn attempt_consult(
        &self,
        subject: &str,
        peer: Option<KeyBytes>,
        payload: Bytes,
    ) -> Result<ControlAnswer, PlaneError> {
        let shared = &self.shared;
        let failed = |error: &dyn std::fmt::Display| PlaneError::Bus(error.to_string());
        let bus = shared.control.bus().await.map_err(|error| failed(&error))?;
        let key = shared.identity.key();
        // Servers let every agent answer peers there, and the service anywhere.
        let below = peer.map_or("vf", |_| "rn");
        let inbox = format!("{}.{below}.{}", inbox_prefix(&key), shared.token());
        let raw = bus.subscribe(BusSubject::from(inbox.clone()), None).await;
        let mut raw = raw.map_err(|error| failed(&error))?;
        let mut asked: Vec<ObjectId> = Vec::new();
        loop {
            let (id, frame) = shared.ask_plane(subject, peer, &inbox, payload.clone())?;
            asked.push(id);
            let outgoing = Outgoing::new(subject, frame).with_reply(inbox.as_str());
            bus.publish(outgoing)
                .await
                .map_err(|error| failed(&error))?;
            let until = Instant::now() + AGAIN;
            while let Ok(delivery) = tokio::time::timeout_at(until, raw.next()).await {
                let delivery = delivery.ok_or_else(|| failed(&crate::bus::Closed))?;
                if delivery.status.is_some() {
                    continue;
                }
                let (now, trust) = shared.moment()?;
                let moment = Moment {
                    trust: &trust,
                    now,
                    skew: shared.skew,
                };
                let (frame, arrived) = (&delivery.payload, &delivery.subject);
                let opened = asked.iter().find_map(|id| match &peer {
                    None => open_answer(frame, arrived, (&key, id), &moment).ok(),
                    Some(peer) => open_answer_of(peer, frame, arrived, (&key, id), &moment).ok(),
                });
                // Anybody can send to an inbox; what is no answer to this is nothing.
                if let Some(answer) = opened {
                    return Ok(ControlAnswer::parse(&answer)?);
                }
            }
        }
    }
}

impl Shared {
    /// A request to the service, or a peer, under the certificate that the registry has now.
    fn ask_plane(
        &self,
        subject: &str,
        peer: Option<KeyBytes>,
        inbox: &str,
        payload: Bytes,
    ) -> Result<(ObjectId, Bytes), Rejection> {
        let bad = |_| Rejection::Malformed {
            place: Place::Control,
            reason: Malformed::BadSubject,
        };
        let (now, trust) = self.moment()?;
        let audience = peer.map_or_else(|| self.service_key(&trust, now), Ok)?;
        // One that was renewed, with the answer lost, is known from the registry alone; one that
        // was renewed a moment ago may not be there yet.
        let held = self.standing.load();
        let follows = |claims: &CertificateClaims| {
            claims.previous == Some(held.certificate_id)
                || claims.validity.until() > held.window.until()
        };
        let newer = trust
            .certificate(&self.identity.key())
            .filter(|registered| follows(registered.claims()));
        let sender = ControlSender {
            mesh: trust.mesh(),
            certificate: newer.map_or(held.certificate_id, |certificate| certificate.id()),
            key: &self.identity.key,
        };
        let subject = Subject::parse(subject).map_err(bad)?;
        let reply = Subject::parse(inbox).map_err(bad)?;
        let stamp = (MessageId(random()?), now);
        let envelope = sender.ask(stamp, subject, reply, audience, payload)?;
        Ok((envelope.id(), envelope.into_bytes()))
    }

    /// The key of the verifier service, when the mesh has one that can be asked now.
    pub(crate) fn service_key(
        &self,
        trust: &TrustState,
        now: Timestamp,
    ) -> Result<KeyBytes, Rejection> {
        let place = Place::Control;
        let service = AgentId::parse(VERIFIER_ID).map_err(|_| Rejection::UnknownAgent { place })?;
        trust.live_key(&service, now, self.skew, place)
    }

    pub(crate) fn plane_notice(&self, topic: &str, text: String) {
        let Ok(now) = self.clock.now() else { return };
        let topic = topic.to_owned();
        self.audit.event(now, AuditEvent::Notice { topic, text });
    }
}

/// What is renewed, and when.
struct Due {
    window: Validity,
    at: Timestamp,
}

impl Due {
    fn of(window: Validity) -> Self {
        let life = window.millis();
        // Which twentieth is a matter of spreading the load, not of security.
        let share = random::<2>().map_or(0x8000, u16::from_be_bytes);
        let jitter = life / 10 * u64::from(share) / 0xffff;
        let at = window.from().plus(life / 3 * 2 - life / 20).plus(jitter);
        Self { window, at }
    }

    /// The same, when the window is still this one.
    fn keep(self, window: Validity) -> Self {
        if self.window == window {
            self
        } else {
            Self::of(window)
        }
    }
}

async fn keep_renewed(shared: Weak<Shared>) {
    let Some(first) = shared.upgrade() else {
        return;
    };
    let mut certificate = Due::of(first.standing.load().window);
    let mut grant = Due::of(first.own().chain().leaf().validity());
    drop(first);
    let mut pause = LOOK;
    loop {
        tokio::time::sleep(pause).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        certificate = certificate.keep(shared.standing.load().window);
        grant = grant.keep(shared.own().chain().leaf().validity());
        let Ok(now) = shared.clock.now() else {
            continue;
        };
        let client = Client::of(&shared);
        let mut failed = None;
        if now >= certificate.at {
            failed = client.renew().await.err();
        }
        if now >= grant.at {
            failed = client.renew_grant().await.err().or(failed);
        }
        pause = match failed {
            None => LOOK,
            Some(error) => {
                shared.plane_notice("renewal-failed", error.to_string());
                (pause * 2).min(PAUSE_MAX)
            }
        };
    }
}

/// What an answer is that belongs to another question.
pub(crate) fn unexpected() -> PlaneError {
    PlaneError::Denied(Rejection::Malformed {
        place: Place::Control,
        reason: Malformed::FieldCombination,
    })
}
