//! Handshakes over the bus: the initiator's call, and the task that answers.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::Weak;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::Client;
use super::Shared;
use super::guards::lock;
use super::random::random;
use crate::bus::Bus;
use crate::bus::BusSubscriber;
use crate::bus::Delivery;
use crate::bus::Outgoing;
use crate::bus::Subject;
use crate::error::HandshakeError;
use crate::proto::audit::AuditEvent;
use crate::proto::audit::SessionRole;
use crate::proto::envelope::inbox_prefix;
use crate::proto::handshake;
use crate::proto::handshake::AwaitingConfirm;
use crate::proto::handshake::Initiator;
use crate::proto::handshake::Instance;
use crate::proto::handshake::Party;
use crate::proto::handshake::Responder;
use crate::proto::handshake::Session;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::limits::HELLOS_PER_SECOND;
use crate::proto::limits::PROOFS_PER_SECOND;
use crate::proto::rejection::Class;
use crate::proto::rejection::HandshakeFailed;
use crate::proto::rejection::Overloaded;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::SubjectMismatch;
use crate::proto::subject;

/// How long a handshake may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait before asking a peer again that does not listen yet.
const AGAIN: Duration = Duration::from_millis(50);

/// How often a hello is sent until it is answered. It may be lost, or come when a flood has spent
/// what the peer answers in a second; the peer keeps nothing of it, so once more costs no state.
const HELLO_EVERY: Duration = Duration::from_millis(500);

/// Challenges answered in one handshake. They are unsigned, so anybody can send some; the true
/// one must still be answered.
const CHALLENGES_MAX: usize = 8;

/// Tokens that come back every second.
#[derive(Debug)]
pub(crate) struct PerSecond {
    most: u32,
    left: AtomicU32,
    since: Mutex<Instant>,
}

impl PerSecond {
    pub(crate) fn new(most: u32) -> Self {
        Self {
            most,
            left: AtomicU32::new(most),
            since: Mutex::new(Instant::now()),
        }
    }

    /// Takes a token, when there is one.
    pub(crate) fn take(&self) -> bool {
        let mut since = lock(&self.since);
        if since.elapsed() >= Duration::from_secs(1) {
            *since = Instant::now();
            self.left.store(self.most, Relaxed);
        }
        self.left
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }
}

/// What answering handshakes takes.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) responder: Mutex<Responder>,
    hellos: PerSecond,
    proofs: PerSecond,
    reported: [PerSecond; Class::ALL.len()],
}

impl Peers {
    pub(crate) fn new(responder: Responder) -> Self {
        Self {
            responder: Mutex::new(responder),
            hellos: PerSecond::new(HELLOS_PER_SECOND),
            proofs: PerSecond::new(PROOFS_PER_SECOND),
            reported: std::array::from_fn(|_| PerSecond::new(1)),
        }
    }

    pub(crate) fn instance(&self) -> Instance {
        *lock(&self.responder).instance()
    }
}

impl Shared {
    pub(crate) fn party(&self) -> Party {
        self.standing.load().party(&self.identity)
    }

    /// Begins to answer handshakes, once.
    pub(crate) async fn listen(self: &Arc<Self>) {
        let listening = self.listening.get_or_try_init(|| async {
            let bus = self
                .control
                .bus()
                .await
                .map_err(|error| error.to_string())?;
            let instance = self.peers.instance();
            for instance in [None, Some(&instance)] {
                let subject =
                    handshake::handshake_subject(&self.prefix, &self.identity.id, instance);
                let raw = bus.subscribe(Subject::from(subject), None).await;
                let raw = raw.map_err(|error| error.to_string())?;
                self.tasks
                    .spawn(answer_handshakes(raw, bus.clone(), Arc::downgrade(self)));
            }
            Ok::<_, String>(())
        });
        if let Err(error) = listening.await {
            // Peers that ask for a session get none; everything else works, and the next
            // subscription or request tries again.
            tracing::warn!(%error, "handshakes cannot be answered yet");
        }
    }

    fn session_event(&self, peer: &str, role: SessionRole, outcome: Result<&Session, Rejection>) {
        if let Err(rejection) = outcome
            && !self.peers.reported[rejection.class() as usize - 1].take()
        {
            return;
        }
        let Ok(now) = self.clock.now() else { return };
        self.audit.event(
            now,
            AuditEvent::Session {
                peer: peer.to_owned(),
                role,
                until: outcome.ok().map(|session| session.until.as_millis()),
                class: outcome
                    .err()
                    .map(|rejection| rejection.class().name().to_owned()),
                code: outcome.err().map(|rejection| rejection.code()),
            },
        );
    }

    /// Answers one handshake message; `None` when nothing is to be said.
    fn answer_handshake(&self, delivery: &Delivery) -> Option<Outgoing> {
        let frame = &delivery.payload;
        let (agent, key) = Responder::asker(frame).ok()?;
        // The answer goes below the asker's own inbox or nowhere: the reply subject is not
        // signed, and could name anything.
        let reply = delivery.reply.as_ref()?;
        let parsed = subject::Subject::parse(reply).ok()?;
        if !crate::proto::verify::in_inbox_of(&parsed, &key) {
            let reason = SubjectMismatch::ReplyNotOwnInbox;
            let rejection = Rejection::SubjectMismatch { reason };
            self.session_event(agent.as_str(), SessionRole::Responder, Err(rejection));
            return None;
        }
        let answer = self.decide_handshake(frame, &key);
        match answer {
            Ok((None, answer)) => Some(Outgoing::new(reply.clone(), answer)),
            Ok((Some(session), answer)) => {
                self.session_event(agent.as_str(), SessionRole::Responder, Ok(&session));
                Some(Outgoing::new(reply.clone(), answer))
            }
            Err(rejection) => {
                self.session_event(agent.as_str(), SessionRole::Responder, Err(rejection));
                None
            }
        }
    }

    fn decide_handshake(
        &self,
        frame: &bytes::Bytes,
        asker: &KeyBytes,
    ) -> Result<(Option<Session>, bytes::Bytes), Rejection> {
        let overloaded = Rejection::Overloaded {
            reason: Overloaded::Handshakes,
        };
        let (now, trust) = self.moment()?;
        if handshake::step(frame)? == 1 {
            if !self.peers.hellos.take() {
                return Err(overloaded);
            }
            let answer = lock(&self.peers.responder).challenge(frame, random()?, now)?;
            return Ok((None, answer));
        }
        if !self.peers.proofs.take() {
            return Err(overloaded);
        }
        // Before its signature, as for a message: a key that is not listened to costs little, and
        // its challenge stays usable.
        self.breaker.admits(asker, now)?;
        let scene = self.scene(now, &trust);
        let mut responder = lock(&self.peers.responder);
        let (mut session, answer) = responder.confirm(frame, random()?, &scene, self.skew)?;
        drop(responder);
        self.hear_of(session.newest.take());
        self.sessions.lock().await_message(session.clone(), now)?;
        Ok((Some(session), answer))
    }
}

impl Shared {
    /// Takes in which timestamp a peer knows.
    fn hear_of(&self, newest: Option<Bytes>) {
        if let (Some(feed), Some(newest)) = (&self.identity.feed, newest) {
            feed.hear_of(&newest, self);
        }
    }
}

async fn answer_handshakes(mut raw: BusSubscriber, bus: Arc<dyn Bus>, shared: Weak<Shared>) {
    while let Some(delivery) = raw.next().await {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if delivery.status.is_some() {
            continue;
        }
        if let Some(answer) = shared.answer_handshake(&delivery) {
            drop(shared);
            if let Err(error) = bus.publish(answer).await {
                tracing::debug!(%error, "a handshake answer could not be sent");
            }
        }
    }
}

impl Client {
    /// Performs a mutual handshake with an agent: both prove to hold their keys now (protocol §16).
    /// The session lasts until the first of both certificates and chains ends, 15 minutes at most.
    ///
    /// Requests do this by themselves when a peer asks for a session; needing one is a rule of its
    /// policy. Cancelling leaves no session on this side.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Refused`] when the peer has no key in good standing or is quarantined here,
    /// nothing can be decided now, or 65,536 sessions are held; [`HandshakeError::TimedOut`] when no
    /// answer that proves the peer comes within 5 s, as when it refuses; [`HandshakeError::Bus`].
    ///
    /// ```
    /// # use trustmesh::ConnectOptions;
    /// # use trustmesh::bus::memory::MemoryBus;
    /// # use trustmesh::services::authority::Authority;
    /// #
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut mesh = Authority::dev("demo")?;
    /// # let (alice, bob) = (mesh.agent("alice", ["pub:chat"])?, mesh.agent("bob", ["sub:chat"])?);
    /// # let bus = MemoryBus::new();
    /// # let alice = ConnectOptions::new(alice).connect_bus(bus.connect()).await?;
    /// # let bob = ConnectOptions::new(bob).connect_bus(bus.connect()).await?;
    /// let chat = bob.subscribe("chat").await?; // from here on bob answers handshakes
    /// let session = alice.handshake(bob.id()).await?;
    /// assert_eq!(session.key, bob.key());
    /// # drop(chat);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn handshake(&self, peer: &AgentId) -> Result<Session, HandshakeError> {
        let key = self.peer_key(peer).inspect_err(|rejection| {
            self.shared
                .session_event(peer.as_str(), SessionRole::Initiator, Err(*rejection));
        })?;
        self.handshake_with(peer, key, None).await
    }

    /// The key an agent is reached under: its newest live one.
    pub(crate) fn peer_key(&self, peer: &AgentId) -> Result<KeyBytes, Rejection> {
        let (now, trust) = self.shared.moment()?;
        trust.live_key(peer, now, self.shared.skew, Place::Handshake)
    }

    pub(crate) async fn handshake_with(
        &self,
        peer: &AgentId,
        key: KeyBytes,
        instance: Option<Instance>,
    ) -> Result<Session, HandshakeError> {
        let shared = &self.shared;
        shared.listen().await;
        let attempt = async {
            let (now, _) = shared.moment()?;
            shared.breaker.admits(&key, now)?;
            self.attempt_handshake(peer, key, instance).await
        };
        let outcome = match tokio::time::timeout(TIMEOUT, attempt).await {
            Ok(outcome) => outcome,
            Err(_) => Err(HandshakeError::TimedOut),
        };
        match &outcome {
            Ok(session) => {
                let (now, _) = shared.moment()?;
                shared.sessions.lock().begin(session.clone(), now)?;
                shared.session_event(peer.as_str(), SessionRole::Initiator, Ok(session));
            }
            Err(error) => {
                let rejection = match error {
                    HandshakeError::Refused(rejection) => *rejection,
                    _ => Rejection::HandshakeFailed {
                        reason: HandshakeFailed::Refused,
                    },
                };
                shared.session_event(peer.as_str(), SessionRole::Initiator, Err(rejection));
            }
        }
        outcome
    }

    async fn attempt_handshake(
        &self,
        peer: &AgentId,
        key: KeyBytes,
        instance: Option<Instance>,
    ) -> Result<Session, HandshakeError> {
        let shared = &self.shared;
        let failed = |error: String| HandshakeError::Bus(error);
        let bus = shared
            .control
            .bus()
            .await
            .map_err(|e| failed(e.to_string()))?;
        let inbox = format!(
            "{}.hs.{}",
            inbox_prefix(&shared.identity.key()),
            shared.token()
        );
        let raw = bus.subscribe(Subject::from(inbox.clone()), None).await;
        let mut raw = raw.map_err(|e| failed(e.to_string()))?;
        let (initiator, hello) = Initiator::hello(
            shared.party(),
            peer.clone(),
            key,
            random().map_err(Rejection::from)?,
        );
        let subject = handshake::handshake_subject(&shared.prefix, peer, instance.as_ref());
        let hello = Outgoing::new(subject, hello).with_reply(inbox.clone());
        let send = |outgoing| async {
            bus.publish(outgoing)
                .await
                .map_err(|e| HandshakeError::Bus(e.to_string()))
        };
        send(hello.clone()).await?;
        let newest = shared.identity.trust.current();
        let newest = newest.time().map(|time| time.file().clone());
        let mut awaiting: Vec<AwaitingConfirm> = Vec::new();
        let mut unheard = tokio::time::interval_at(Instant::now() + HELLO_EVERY, HELLO_EVERY);
        loop {
            let delivery = tokio::select! {
                delivery = raw.next() => delivery,
                _ = unheard.tick(), if awaiting.is_empty() => {
                    send(hello.clone()).await?;
                    continue;
                }
            };
            let Some(delivery) = delivery else {
                return Err(HandshakeError::Bus("connection closed".to_owned()));
            };
            if delivery.status.is_some() {
                tokio::time::sleep(AGAIN).await;
                send(hello.clone()).await?;
                continue;
            }
            let frame = &delivery.payload;
            match handshake::step(frame) {
                Ok(2) if awaiting.len() < CHALLENGES_MAX => {
                    let Ok((next, instance, proof)) =
                        initiator.answer_carrying(frame, newest.as_ref())
                    else {
                        continue;
                    };
                    awaiting.push(next);
                    let subject =
                        handshake::handshake_subject(&shared.prefix, peer, Some(&instance));
                    send(Outgoing::new(subject, proof).with_reply(inbox.clone())).await?;
                }
                Ok(4) => {
                    let (now, trust) = shared.moment()?;
                    let scene = shared.scene(now, &trust);
                    let mut confirmed = awaiting
                        .iter()
                        .map(|state| state.confirm(frame, &scene, shared.skew));
                    if let Some(mut session) = confirmed.find_map(Result::ok) {
                        shared.hear_of(session.newest.take());
                        return Ok(session);
                    }
                }
                // Anybody can send to an inbox; what is no step of this handshake is nothing.
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CC-2, HS-2: 64 tasks take at once: together they get what a second has, and never one more.
    #[tokio::test(start_paused = true)]
    async fn tasks_at_once_get_what_a_second_has() {
        let tokens = Arc::new(PerSecond::new(HELLOS_PER_SECOND));
        for _ in 0..3 {
            let tasks = (0..64).map(|_| {
                let tokens = tokens.clone();
                tokio::task::spawn_blocking(move || (0..1_000).filter(|_| tokens.take()).count())
            });
            let taken = futures_util::future::join_all(tasks).await;
            let taken: usize = taken.into_iter().map(Result::unwrap).sum();
            assert_eq!(taken, HELLOS_PER_SECOND as usize);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }
}
