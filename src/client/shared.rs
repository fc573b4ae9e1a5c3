//! What all clones of a client, its subscriptions and its messages share.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::OnceCell;

use super::ConnectOptions;
use super::Identity;
use super::answers::Slots;
use super::approvals::Approvals;
use super::audit::AuditLog;
use super::audit::Emitter;
use super::clock::Clock;
use super::control::Control;
use super::counters::Tally;
use super::floor::ReplayFloor;
use super::guards::Guards;
use super::identity::Provenance;
use super::inbound::Expect;
use super::outbound::Requests;
use super::outbox::Outbox;
use super::peers::Peers;
use super::random::MessageIds;
use super::random::random;
use super::refusals::Refusals;
use super::remint::Minted;
use super::reporter::Reporter;
use super::seldom::Seldom;
use super::serve::Services;
use super::shared_replay::SharedReplay;
use super::standing::CurrentStanding;
use super::standing::Standing;
use super::subscriber::Intake;
use super::task::TaskSet;
use crate::bus::Bus;
use crate::error::ConnectError;
use crate::proto::audit::AuditEvent;
use crate::proto::breaker::Breaker;
use crate::proto::envelope::inbox_prefix;
use crate::proto::handshake::Responder;
use crate::proto::handshake::SessionTable;
use crate::proto::policy::RateLimiter;
use crate::proto::subject::Subject;
use crate::proto::subject::SubjectPattern;
use crate::proto::time::ClockSkew;
use crate::proto::time::Timestamp;
use crate::proto::verify;
use crate::proto::verify::Pending;
use crate::proto::verify::Verifier;

/// What all clones of a client, its subscriptions and messages share.
pub(crate) struct Shared {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) outbox: Outbox,
    pub(crate) ids: MessageIds,
    pub(crate) control: Arc<Control>,
    pub(crate) identity: Identity,
    pub(crate) standing: CurrentStanding,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) skew: ClockSkew,
    pub(crate) ttl_ms: u32,
    pub(crate) prefix: String,
    pub(crate) verifier: Verifier,
    pub(crate) rates: Mutex<RateLimiter>,
    pub(crate) breaker: Seldom<Breaker>,
    pub(crate) sessions: Seldom<SessionTable>,
    pub(crate) requests: Seldom<Requests>,
    pub(crate) approvals: Mutex<Approvals>,
    pub(crate) minted: Mutex<Minted>,
    pub(crate) minting: OnceCell<()>,
    pub(crate) presenting: tokio::sync::Mutex<()>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) audit: AuditLog,
    pub(crate) tally: Arc<Tally>,
    pub(crate) peers: Peers,
    pub(crate) listening: OnceCell<()>,
    pub(crate) tasks: TaskSet,
    pub(crate) floor: Option<ReplayFloor>,
    pub(crate) guards: Guards,
    pub(crate) shared_replay: Arc<SharedReplay>,
    pub(crate) refusals: Refusals,
    pub(crate) reporter: Reporter,
    pub(crate) answering: OnceCell<()>,
    pub(crate) services: Services,
    pub(crate) request_timeout: Option<Duration>,
    redials_seen: AtomicU64,
    warnings_seen: AtomicU64,
    tokens: AtomicU64,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.control.begin_closing();
        if let Some(floor) = &self.floor
            && let Err(error) = floor.close()
        {
            tracing::warn!(%error, "the replay floor could not be stored exactly");
        }
    }
}

/// The replay floor of an identity: what was issued at or before it may have been accepted by an
/// earlier run.
fn open_floor(
    provenance: &Provenance,
    now: Timestamp,
    skew: ClockSkew,
) -> Result<(Option<ReplayFloor>, Option<Timestamp>), ConnectError> {
    match provenance {
        Provenance::Fresh => Ok((None, None)),
        Provenance::Stateful(path) => {
            let (floor, since) = ReplayFloor::open(path, now, skew)?;
            Ok((Some(floor), Some(since)))
        }
    }
}

/// Says in the audit what an operator must know about the server.
fn note_server(audit: &AuditLog, bus: &dyn Bus, now: Timestamp) {
    if let Some(text) = bus.warning() {
        let topic = "server".to_owned();
        audit.event(now, AuditEvent::Notice { topic, text });
    }
}

impl Shared {
    /// Takes a bus connection into use for an identity, once the identity holds.
    pub(crate) fn start(
        options: ConnectOptions,
        bus: Arc<dyn Bus>,
        control: Arc<Control>,
    ) -> Result<Arc<Self>, ConnectError> {
        let ConnectOptions {
            identity,
            skew,
            clock,
            prefix,
            ..
        } = options;
        if Subject::parse(&prefix).is_err() || prefix.contains('.') {
            return Err(ConnectError::Prefix);
        }
        let trust = identity.trust.current();
        let now = clock.now()?;
        let scene = verify::Scene {
            now,
            trust: &trust,
            sessions: &(),
        };
        let own = verify::begin_chain(identity.grant.clone(), &identity.key, &scene, skew)?;
        let standing = Standing::new(identity.certificate.clone(), own)?;
        let party = standing.party(&identity);
        let standing: CurrentStanding = Arc::new(ArcSwap::from_pointee(standing));
        let (floor, since) = open_floor(&identity.provenance, now, skew)?;

        let tally = Arc::new(Tally::default());
        let emitter = Emitter {
            id: identity.id.clone(),
            key: identity.key.clone(),
            standing: standing.clone(),
            mesh: trust.mesh(),
            prefix: prefix.clone(),
            run: random()?,
        };
        let audit = AuditLog::start(
            emitter,
            options.audit,
            control.clone(),
            clock.clone(),
            tally.clone(),
        );
        if trust.root().is_dev() {
            let text = "development mesh: its role keys lie together in one place".to_owned();
            audit.event(
                now,
                AuditEvent::Notice {
                    topic: "dev-mesh".to_owned(),
                    text,
                },
            );
        }
        note_server(&audit, &*bus, now);
        let responder = Responder::new(party, random()?, random()?);
        Ok(Arc::new_cyclic(|weak| Self {
            verifier: Verifier::new(identity.key.public().bytes(), skew),
            rates: Mutex::default(),
            breaker: Seldom::default(),
            sessions: Seldom::default(),
            requests: Seldom::default(),
            approvals: Mutex::default(),
            minted: Mutex::default(),
            minting: OnceCell::new(),
            presenting: tokio::sync::Mutex::default(),
            slots: Arc::default(),
            guards: Guards::new(skew, since),
            shared_replay: Arc::default(),
            peers: Peers::new(responder),
            refusals: Refusals::start(weak.clone()),
            reporter: Reporter::start(weak.clone()),
            redials_seen: AtomicU64::new(bus.redials()),
            warnings_seen: AtomicU64::new(bus.warnings()),
            outbox: Outbox::start(bus.clone(), identity.key.clone()),
            ids: MessageIds::default(),
            tokens: AtomicU64::new(0),
            bus,
            control,
            identity,
            standing,
            clock,
            skew,
            ttl_ms: options.ttl_ms,
            prefix,
            audit,
            tally,
            listening: OnceCell::new(),
            answering: OnceCell::new(),
            tasks: TaskSet::default(),
            floor,
            services: Services::default(),
            request_timeout: options.request_timeout,
        }))
    }

    /// A random subject token.
    pub(crate) fn token(&self) -> String {
        let mut bytes = [0u8; 12];
        match getrandom::fill(&mut bytes) {
            Ok(()) => data_encoding::HEXLOWER.encode(&bytes),
            // Uniqueness within the process is all a token is for; authenticity never rests on it.
            Err(_) => format!("n{}", self.tokens.fetch_add(1, Relaxed)),
        }
    }

    /// Whether a pattern lies below this agent's own inbox, to which it needs no grant.
    pub(crate) fn is_own_inbox_pattern(&self, pattern: &SubjectPattern) -> bool {
        let prefix = inbox_prefix(&self.identity.key());
        pattern
            .as_str()
            .strip_prefix(prefix.as_str())
            .is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'))
    }

    /// Keeps what a closing subscription had accepted.
    pub(crate) fn retire(&self, intake: &Intake) {
        // While time cannot be trusted nothing is forgotten: the epoch expires nothing.
        let now = self.clock.now().unwrap_or_default();
        self.guards.retire(&intake.scope, &intake.guard, now);
    }

    /// The request an answer in a user's own inbox can be to.
    pub(crate) fn pending_at(&self, subject: &str, expect: &Expect<'_>) -> Option<Pending> {
        match expect {
            Expect::Subscription(intake) if intake.inbox => {
                self.slots.pending_in_inbox(subject, self.clock.now().ok()?)
            }
            _ => None,
        }
    }

    /// Says in the audit that a dead connection was replaced, and what is new about the server.
    pub(crate) fn note_bus(&self) {
        let warnings = self.bus.warnings();
        if self.warnings_seen.swap(warnings, Relaxed) != warnings {
            let Ok(now) = self.clock.now() else { return };
            note_server(&self.audit, &*self.bus, now);
        }
        let redials = self.bus.redials();
        if self.redials_seen.swap(redials, Relaxed) != redials {
            let Ok(now) = self.clock.now() else { return };
            note_server(&self.audit, &*self.bus, now);
            let text = format!("the bus connection died and was replaced ({redials} in all)");
            self.audit.event(
                now,
                AuditEvent::Notice {
                    topic: "redial".to_owned(),
                    text,
                },
            );
        }
    }
}
