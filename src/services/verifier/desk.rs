//! Where the service decides: one frame in, at most one out.

use std::fmt;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;

use super::VerifierOptions;
use super::evidence::Dismissed;
use super::evidence::Docket;
use super::limits::Quota;
use super::limits::Rate;
use super::micro::Micro;
use super::publication::Publication;
use super::publisher::PublicationError;
use crate::bus::Delivery;
use crate::bus::Outgoing;
use crate::client::Client;
use crate::client::random::random;
use crate::proto::audit::AuditEvent;
use crate::proto::chain::Chain;
use crate::proto::control::ControlSender;
use crate::proto::control::Moment;
use crate::proto::control::OpenedRequest;
use crate::proto::control::open_request;
use crate::proto::enrol::Cookies;
use crate::proto::enrol::EnrolFrame;
use crate::proto::enrol::EnrolRefused;
use crate::proto::enrol::Hello;
use crate::proto::enrol::Offer;
use crate::proto::enrol::Proof;
use crate::proto::enrol::Refusal;
use crate::proto::enrol::Welcome;
use crate::proto::enrol::offer_frame;
use crate::proto::identity::KeyBytes;
use crate::proto::identity::PublicKey;
use crate::proto::identity::Signature;
use crate::proto::limits::SERVED_CERTIFICATE_MAX_MS;
use crate::proto::rejection::Rejection;
use crate::proto::replay::MessageId;
use crate::proto::replay::ReplayGuard;
use crate::proto::request::ControlAnswer;
use crate::proto::request::ControlRequest;
use crate::proto::request::Revoked;
use crate::proto::request::Target;
use crate::proto::request::Verb;
use crate::proto::score::Change;
use crate::proto::subject::Subject;
use crate::proto::time::Timestamp;
use crate::proto::trust::TrustState;
use crate::proto::verify::Fault;
use crate::proto::verify::in_inbox_of;
use crate::services::authority::Authority;
use crate::services::authority::AuthorityError;

/// Notices of refusals a second; the rest are counted. Anybody can cause them.
const NOTICES_PER_SECOND: u32 = 20;

/// How often scores are looked at though nothing happened: a point lapses in an hour.
const RESCORE_MS: u64 = 60_000;

/// The books, and all that deciding takes.
pub(super) struct Desk {
    authority: Authority,
    publication: Box<dyn Publication>,
    client: Client,
    options: VerifierOptions,
    cookies: Cookies,
    replay: ReplayGuard,
    hellos: Rate,
    proofs: Rate,
    requests: Rate,
    notices: Rate,
    unnoticed: u64,
    each: Quota,
    revocations: Quota,
    docket: Docket,
    reports: Rate,
    reporters: Quota,
    /// A score changed since the last publication.
    rescored: bool,
    /// When scores are next looked at though nothing happened: they lapse.
    rescore_at: Timestamp,
    micro: Micro,
    unpublished: bool,
    superseded: bool,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

impl Desk {
    pub(super) fn new(
        authority: Authority,
        publication: Box<dyn Publication>,
        client: Client,
        options: VerifierOptions,
        micro: Micro,
    ) -> Result<Self, Rejection> {
        let skew = client.shared.skew;
        Ok(Self {
            authority,
            publication,
            cookies: Cookies::new(random()?),
            // Without memory of an earlier run: what is replayed within seconds of a restart is
            // refused by its cookie, or asks for what was done already.
            replay: ReplayGuard::new(skew, None),
            hellos: Rate::per_second(options.hellos_per_second),
            proofs: Rate::per_second(options.proofs_per_second),
            requests: Rate::per_second(options.requests_per_second),
            notices: Rate::per_second(NOTICES_PER_SECOND),
            unnoticed: 0,
            each: Quota::new(options.requests_per_key, u32::MAX),
            revocations: Quota::new(options.revocations_per_second, options.revocations_per_day),
            docket: Docket::new(skew, None),
            reports: Rate::per_second(options.reports_per_second),
            reporters: Quota::new(options.reports_per_key, u32::MAX),
            rescored: false,
            rescore_at: Timestamp::default(),
            client,
            options,
            micro,
            unpublished: false,
            superseded: false,
        })
    }

    /// Publishes what the books say, an earlier service's included, and keeps scores from now on.
    pub(super) async fn open_business(&mut self) -> Result<(), EnrolRefused> {
        self.publish().await?;
        let moment = self.client.shared.moment();
        let (now, _) = moment.map_err(|_| EnrolRefused::Unavailable)?;
        // What an earlier run counted cannot be told from its copies: only what is newer is heard.
        let before = self.authority.begin_scoring(now).then_some(now);
        self.docket = Docket::new(self.client.shared.skew, before);
        self.rescore_at = now.plus(RESCORE_MS);
        let mut changed = self.authority.rescore(now);
        // Books that were taken over do not have the certificate this service began with.
        let shared = self.client.shared.clone();
        let own = shared.standing.load().certificate_id;
        let registered = self.authority.current(&shared.identity.id);
        let mut renewed = None;
        if registered.is_none_or(|registered| registered.id() != own) {
            let identity = &shared.identity;
            let certified = self
                .authority
                .certify_verifier(&identity.id, &identity.key)
                .map_err(|_| EnrolRefused::KeyTaken)?;
            renewed = Some(certified);
            changed = true;
        }
        if changed {
            self.publish().await?;
        }
        if let Some((certificate, grant)) = renewed {
            let adopted = shared.adopt(Some(certificate), Some(grant));
            adopted.map_err(|_| EnrolRefused::Unavailable)?;
        }
        Ok(())
    }

    /// Answers an enrolment frame.
    pub(super) async fn enrol(&mut self, delivery: &Delivery) -> Option<Outgoing> {
        let began = Instant::now();
        let (now, _) = self.client.shared.moment().ok()?;
        let frame = EnrolFrame::parse(&delivery.payload).ok()?;
        let (about, key) = match &frame {
            EnrolFrame::Hello(hello) => (hello.id(), hello.key),
            EnrolFrame::Proof(proof) => {
                let claims = proof.offer.claims().ok()?;
                (proof.offer.certificate_id(), claims.key)
            }
            _ => return None,
        };
        // The answer goes below the asker's own inbox or nowhere: the reply subject is not signed,
        // and could name anything.
        let reply = delivery.reply.clone()?;
        if !in_inbox_of(&Subject::parse(&reply).ok()?, &key) {
            return None;
        }
        // Before any cryptography, and without an answer, which would cost some as well.
        let answer = match frame {
            EnrolFrame::Hello(hello) if self.hellos.take(now) => self.offer(&hello, now),
            EnrolFrame::Proof(proof) if self.proofs.take(now) => self.admit(&proof, now).await,
            _ => {
                self.note(&delivery.subject, Some(EnrolRefused::Overloaded), began);
                return None;
            }
        };
        self.note(&delivery.subject, answer.as_ref().err().copied(), began);
        let answer = answer.unwrap_or_else(|reason| {
            self.notice_refusal(now, "enrol", &format!("key {key}"), reason);
            Refusal::frame(&about, reason, self.authority.registrar())
        });
        Some(Outgoing::new(reply, answer))
    }

    fn offer(&self, hello: &Hello, now: Timestamp) -> Result<Bytes, EnrolRefused> {
        let statement = self.authority.check_statement(&hello.statement)?;
        let lifetime = self.options.certificate_ttl;
        let claims = self
            .authority
            .join_offer(&statement, &hello.agent, &hello.key, lifetime)?;
        let nonce = random().map_err(|_| EnrolRefused::Unavailable)?;
        let body = claims.body().into();
        let offer = self.cookies.offer(&statement.id(), body, nonce, now);
        Ok(offer_frame(hello, &offer))
    }

    async fn admit(&mut self, proof: &Proof, now: Timestamp) -> Result<Bytes, EnrolRefused> {
        let statement = self.authority.check_statement(&proof.statement)?;
        self.cookies.check(&statement.id(), &proof.offer, now)?;
        let claims = proof.offer.claims().map_err(|_| EnrolRefused::Offer)?;
        let proofs = (&proof.possession, &proof.token);
        let admitted = self.authority.join(&statement, &claims, proofs)?;
        // Only a proof that verified uses its offer up: nobody else can burn it.
        self.cookies.use_up(&proof.offer);
        self.publish().await?;
        let sponsor = statement.claims().sponsor.as_ref();
        let sponsor = sponsor.map_or_else(String::new, |id| format!(", sponsored by {id}"));
        let (agent, key, token) = (&claims.agent, claims.key, statement.id());
        let text = format!("{agent} joined under {key} by token {token}{sponsor}");
        self.notice(now, "enrol", text);
        let welcome = Welcome {
            certificate: admitted.certificate,
            grant: admitted.grant.map(|grant| grant.bytes().clone()),
        };
        Ok(welcome.frame())
    }

    /// Answers a control request; one that is not authentic gets none.
    pub(super) async fn request(&mut self, delivery: &Delivery) -> Option<Outgoing> {
        let began = Instant::now();
        let (now, trust) = self.client.shared.moment().ok()?;
        let subject = delivery.subject.clone();
        if !self.requests.take(now) {
            self.note(&subject, Some(EnrolRefused::Overloaded), began);
            return None;
        }
        let opened = match self.open(delivery, &trust, now) {
            Ok(opened) => opened,
            Err(rejection) => {
                self.note(&subject, Some(EnrolRefused::Refused), began);
                self.refused(now, "control", &rejection.to_string());
                return None;
            }
        };
        let verb = subject.rsplit('.').next().and_then(Verb::from_name)?;
        let answer = self.serve(verb, &opened, &trust, now).await;
        self.note(&subject, answer.as_ref().err().copied(), began);
        let answer = answer.unwrap_or_else(|reason| {
            let who = format!("{} under {}", opened.agent, opened.key);
            self.notice_refusal(now, verb.name(), &who, reason);
            ControlAnswer::Refused(reason)
        });
        self.seal(&opened, &answer, now)
    }

    fn open(
        &mut self,
        delivery: &Delivery,
        trust: &TrustState,
        now: Timestamp,
    ) -> Result<OpenedRequest, Rejection> {
        let (shared, skew) = (&self.client.shared, self.client.shared.skew);
        let moment = Moment { trust, now, skew };
        let reply = delivery.reply.as_ref().map(|reply| reply.as_str());
        let arrival = (delivery.subject.as_str(), reply);
        let (frame, audience) = (&delivery.payload, shared.identity.key());
        open_request(frame, arrival, &audience, &moment, &mut self.replay)
    }

    fn seal(
        &self,
        opened: &OpenedRequest,
        answer: &ControlAnswer,
        now: Timestamp,
    ) -> Option<Outgoing> {
        let shared = &self.client.shared;
        let sender = ControlSender {
            mesh: self.authority.mesh(),
            certificate: shared.standing.load().certificate_id,
            key: &shared.identity.key,
        };
        let mid = MessageId(random().ok()?);
        let sealed = sender.answer((mid, now), opened, answer.encode());
        let sealed = sealed
            .inspect_err(|rejection| tracing::warn!(%rejection, "an answer could not be signed"))
            .ok()?;
        Some(Outgoing::new(opened.reply.as_str(), sealed.into_bytes()))
    }

    async fn serve(
        &mut self,
        verb: Verb,
        asker: &OpenedRequest,
        trust: &TrustState,
        now: Timestamp,
    ) -> Result<ControlAnswer, EnrolRefused> {
        // The books may know more than what was published.
        if self.authority.is_revoked(&asker.agent, &asker.key, now) {
            return Err(EnrolRefused::Revoked);
        }
        if !self.each.take(&asker.key, now) {
            return Err(EnrolRefused::Overloaded);
        }
        let request = ControlRequest::parse(&asker.payload).map_err(|_| EnrolRefused::Malformed)?;
        if request.verb().is_some_and(|asked| asked != verb) {
            return Err(EnrolRefused::Malformed);
        }
        match (verb, request) {
            (Verb::Renew, ControlRequest::Renew) => self.next(asker, asker.key, now),
            (Verb::Rotate, ControlRequest::Rotate { key }) if key == asker.key => {
                Err(EnrolRefused::KeyTaken)
            }
            (Verb::Rotate, ControlRequest::Rotate { key }) => self.next(asker, key, now),
            (Verb::Renew | Verb::Rotate, ControlRequest::Claim { offer, possession }) => {
                self.claim(verb, asker, &offer, &possession, now).await
            }
            (Verb::Renew, ControlRequest::Regrant { chain }) => self.regrant(asker, &chain, now),
            (Verb::Revoke, ControlRequest::Revoke(target)) => {
                self.revoke(asker, &target, trust, now).await
            }
            (Verb::Approve, ControlRequest::Approve { chain }) => {
                self.approve(asker, chain, now).await
            }
            (Verb::Report, ControlRequest::Report { evidence }) => {
                self.report(asker, &evidence, trust, now)
            }
            _ => Err(EnrolRefused::Unsupported),
        }
    }

    /// Hears evidence. Whoever brings it learns whether any of it was some, and no more.
    fn report(
        &mut self,
        asker: &OpenedRequest,
        evidence: &[Bytes],
        trust: &TrustState,
        now: Timestamp,
    ) -> Result<ControlAnswer, EnrolRefused> {
        let mut outcome = Err(EnrolRefused::NotEvidence);
        for frame in evidence {
            // Each piece costs up to ten signatures.
            if !self.reporters.take(&asker.key, now) || !self.reports.take(now) {
                outcome = outcome.map_err(|_| EnrolRefused::Overloaded);
                break;
            }
            let report = (frame, &asker.agent);
            match self.authority.hear(&mut self.docket, report, trust, now) {
                Ok((fault, change)) => {
                    outcome = Ok(());
                    self.rescored |= change.before != change.after;
                    self.notice_finding(&fault, &change, now);
                }
                // What others said before is nobody's to know.
                Err(Dismissed::Known | Dismissed::Full) => outcome = Ok(()),
                Err(_) => {}
            }
        }
        let epoch = self.authority.epoch();
        outcome.map(|()| ControlAnswer::Done { epoch })
    }

    fn notice_finding(&self, fault: &Fault, change: &Change, now: Timestamp) {
        let (agent, what, evidence) = (&fault.culprit, fault.misbehaviour, fault.evidence);
        let (before, after) = (change.before, change.after);
        let text = format!("{agent}: {what} by {evidence}: score {before} to {after}");
        self.notice(now, "finding", text);
        if change.alarm {
            self.notice(now, "score-alarm", format!("{agent} is down to {after}"));
        }
    }

    /// Approves a chain of the asker's that a receiver would accept.
    async fn approve(
        &mut self,
        asker: &OpenedRequest,
        chain: Bytes,
        now: Timestamp,
    ) -> Result<ControlAnswer, EnrolRefused> {
        // What was revoked and could not be published yet counts here.
        if self.unpublished {
            self.publish().await?;
        }
        let chain = Chain::parse(chain).map_err(|_| EnrolRefused::Chain)?;
        if chain.leaf().holder() != asker.key {
            return Err(EnrolRefused::NotYours);
        }
        let approval = self
            .authority
            .approve(&chain)
            .map_err(|error| match error {
                AuthorityError::Refused(Rejection::Revoked { .. }) => EnrolRefused::Revoked,
                _ => EnrolRefused::Chain,
            })?;
        let text = format!("{}: chain {} approved", asker.agent, chain.leaf().id());
        self.notice(now, Verb::Approve.name(), text);
        Ok(ControlAnswer::Data(approval))
    }

    fn next(
        &self,
        asker: &OpenedRequest,
        key: KeyBytes,
        now: Timestamp,
    ) -> Result<ControlAnswer, EnrolRefused> {
        let lifetime = self.options.certificate_ttl;
        let claims = self
            .authority
            .next_offer(&asker.agent, &asker.certificate, &key, lifetime)?;
        let body = claims.body().into();
        let nonce = random().map_err(|_| EnrolRefused::Unavailable)?;
        let offer = self.cookies.offer(&asker.certificate, body, nonce, now);
        Ok(ControlAnswer::Offer(offer))
    }

    async fn claim(
        &mut self,
        verb: Verb,
        asker: &OpenedRequest,
        offer: &Offer,
        possession: &Signature,
        now: Timestamp,
    ) -> Result<ControlAnswer, EnrolRefused> {
        self.cookies.check(&asker.certificate, offer, now)?;
        let claims = offer.claims().map_err(|_| EnrolRefused::Offer)?;
        let same_key = claims.key == asker.key;
        let fits = claims.agent == asker.agent
            && claims.previous == Some(asker.certificate)
            && same_key == (verb == Verb::Renew);
        if !fits {
            return Err(EnrolRefused::Offer);
        }
        let grace = self.options.rotation_grace;
        let followed = self.authority.follow(&claims, possession, grace)?;
        self.cookies.use_up(offer);
        if verb == Verb::Renew {
            // It was there, as its proof shows, and nothing was found since it was last.
            self.authority.credit(&claims.agent, now);
        }
        self.publish().await?;
        let text = format!(
            "{} under {}: certificate {} until {}",
            claims.agent,
            claims.key,
            offer.certificate_id(),
            claims.validity.until()
        );
        self.notice(now, verb.name(), text);
        Ok(ControlAnswer::Certified {
            certificate: followed.certificate,
            grant: followed.grant.map(|grant| grant.bytes().clone()),
        })
    }

    fn regrant(
        &self,
        asker: &OpenedRequest,
        chain: &Bytes,
        now: Timestamp,
    ) -> Result<ControlAnswer, EnrolRefused> {
        let grant = self.authority.regrant(&asker.key, chain)?;
        let leaf = grant.leaf();
        let until = leaf.validity().until();
        let text = format!("{}: grant {} until {until}", asker.agent, leaf.id());
        self.notice(now, "renew", text);
        Ok(ControlAnswer::Granted {
            chain: grant.bytes().clone(),
        })
    }

    async fn revoke(
        &mut self,
        asker: &OpenedRequest,
        target: &Target,
        trust: &TrustState,
        now: Timestamp,
    ) -> Result<ControlAnswer, EnrolRefused> {
        let certificate = trust.certificate(&asker.key);
        let key: &PublicKey = certificate.ok_or(EnrolRefused::Unproven)?.key();
        let what = target.prove(self.authority.mesh(), key)?;
        // What is revoked already costs nothing and changes nothing; a key's last word about
        // itself is always heard.
        if let Revoked::Link(link) = what
            && !self.authority.has_revoked_link(&link)
            && !self.revocations.take(&asker.key, now)
        {
            return Err(EnrolRefused::Quota);
        }
        let (new, text) = match what {
            Revoked::Link(link) => {
                let new = self.authority.note_revoked_link(link);
                (new, format!("{} revoked its link {link}", asker.agent))
            }
            Revoked::Key(key) => {
                let new = self.authority.note_revoked_key(key);
                (new, format!("{} revoked its own key {key}", asker.agent))
            }
        };
        if new || self.unpublished {
            self.publish().await?;
            self.notice(now, "revoke", text);
        }
        let epoch = self.authority.epoch();
        Ok(ControlAnswer::Done { epoch })
    }

    /// What `nats micro` asks.
    pub(super) fn micro(&mut self, delivery: &Delivery) -> Option<Outgoing> {
        let reply = delivery.reply.clone()?;
        let (now, _) = self.client.shared.moment().ok()?;
        if !self.requests.take(now) {
            return None;
        }
        let answer = self.micro.answer(&delivery.subject)?;
        Some(Outgoing::new(reply, answer.to_string()))
    }

    /// Does what has become due; every second.
    pub(super) async fn tick(&mut self) {
        let Ok((now, _)) = self.client.shared.moment() else {
            return;
        };
        let due = self.authority.tick().unwrap_or(false);
        let renewed = self.renew_itself(now);
        if now >= self.rescore_at {
            self.rescore_at = now.plus(RESCORE_MS);
            self.rescored |= self.authority.rescore(now);
        }
        if due || renewed.is_some() || self.rescored || self.unpublished {
            if self.publish().await.is_err() {
                return;
            }
            if due {
                self.notice(now, "rotate", "a rotated key's time is over".to_owned());
            }
        } else if let Err(error) = self.publication.beat(&mut self.authority).await {
            self.failed(&error);
        }
        if let Some((certificate, grant)) = renewed
            && let Err(rejection) = self.client.shared.adopt(Some(certificate), Some(grant))
        {
            tracing::warn!(%rejection, "the service's own certificate could not be renewed");
        }
        if self.unnoticed > 0 {
            let text = format!("{} more refusals", std::mem::take(&mut self.unnoticed));
            self.notice(now, "refused", text);
        }
    }

    /// A new certificate for the service itself, after two thirds of the old one's time.
    fn renew_itself(&mut self, now: Timestamp) -> Option<(Bytes, Chain)> {
        let shared = self.client.shared.clone();
        let window = shared.standing.load().window;
        if now < window.from().plus(window.millis() / 3 * 2) {
            return None;
        }
        let identity = &shared.identity;
        let renewed = self.authority.certify_verifier(&identity.id, &identity.key);
        renewed
            .inspect_err(|error| tracing::warn!(%error, "the service cannot renew itself"))
            .ok()
    }

    /// Lets the operator look at the books, or change them, which is published.
    pub(super) async fn command(&mut self, command: Command) {
        let change = match command {
            Command::Look(look) => return look(&self.authority),
            Command::Change(change) => change,
        };
        let tell = change(&mut self.authority);
        if let Ok((now, _)) = self.client.shared.moment() {
            self.notice(now, "operator", "the operator changed the books".to_owned());
        }
        tell(self.try_publish().await);
    }

    async fn publish(&mut self) -> Result<(), EnrolRefused> {
        let published = self.try_publish().await;
        published.map_err(|_| EnrolRefused::Unavailable)
    }

    /// Publishes the books. What fails is tried again with the next tick.
    async fn try_publish(&mut self) -> Result<(), PublicationError> {
        self.unpublished = true;
        let published = self.publication.publish(&mut self.authority).await;
        self.unpublished = published.is_err();
        self.rescored = false;
        published.inspect_err(|error| self.failed(error))
    }

    fn failed(&mut self, error: &PublicationError) {
        tracing::warn!(%error, "the books could not be published");
        self.superseded |= matches!(error, PublicationError::Superseded);
    }

    /// Whether another service of this mesh has taken over: this one must not go on.
    pub(super) fn is_superseded(&self) -> bool {
        self.superseded
    }

    fn note(&mut self, subject: &str, error: Option<EnrolRefused>, began: Instant) {
        let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.micro
            .note(subject, error.map(EnrolRefused::name), nanos);
    }

    fn notice_refusal(&mut self, now: Timestamp, topic: &str, who: &str, reason: EnrolRefused) {
        let (name, code) = (reason.name(), reason.code());
        self.refused(now, topic, &format!("{who} was refused: {name} ({code})"));
    }

    /// Notes a refusal, one by one as long as there are few.
    fn refused(&mut self, now: Timestamp, topic: &str, text: &str) {
        if self.notices.take(now) {
            self.notice(now, topic, text.to_owned());
        } else {
            self.unnoticed += 1;
        }
    }

    fn notice(&self, now: Timestamp, topic: &str, text: String) {
        let topic = topic.to_owned();
        let audit = &self.client.shared.audit;
        audit.event(now, AuditEvent::Notice { topic, text });
    }

    /// Ends the service's own client, audit included. What was counted since the last publication
    /// goes out before, so that whoever begins with these books has it.
    pub(super) async fn close(&mut self) {
        if !self.superseded && (self.rescored || self.unpublished) {
            // Whatever comes of it: there is no next time.
            let _ = self.publish().await;
        }
        // A connection that is gone needs no closing.
        let _ = self.client.drain().await;
    }

    /// Hands the books back.
    pub(super) fn into_authority(self) -> Authority {
        self.authority
    }
}

/// What an operator wants of the books.
pub(super) enum Command {
    /// To look at them.
    Look(Box<dyn FnOnce(&Authority) + Send>),
    /// To change them, and to be told what came of publishing that.
    Change(BookChange),
}

/// What an operator does to the books, and how it is told what came of publishing that.
pub(super) type BookChange = Box<dyn FnOnce(&mut Authority) -> Tell + Send>;

type Tell = Box<dyn FnOnce(Result<(), PublicationError>) + Send>;

impl VerifierOptions {
    /// The same with every number inside its bounds.
    pub(super) fn bounded(mut self) -> Self {
        let most = Duration::from_millis(SERVED_CERTIFICATE_MAX_MS);
        self.certificate_ttl = self.certificate_ttl.min(most);
        self
    }
}
