//! The mutual handshake: two peers prove to each other that they hold their keys, now (protocol
//! §16).
//!
//! ```text
//! I                                     R
//! │ H1 hello      both ids and keys, nonce_i ──────────────▶ │  one HMAC, no state
//! │ ◀──────── H2 challenge   nonce_r, time, cookie, instance │
//! │ H3 proof      signed over H1‖H2, certificate, chain ───▶ │  state begins here
//! │ ◀──── H4 confirm   signed over H1‖H2‖H3, certificate, chain │
//! ```
//!
//! ```text
//! frame      "TMHS" [fv, step, body bin]                                  steps 1, 2
//!            "TMHS" [fv, step, body bin, signature bin64, certificate bin, chain bin]  steps 3, 4
//! hello      [v, mesh bin16, id_i, key_i bin32, id_r, key_r bin32, nonce_i bin32, modes, ext]
//! challenge  [v, hello bin32, nonce_r bin32, time, instance bin8, cookie bin32, ext]
//! proof      [v, hello bin, challenge bin, certificate bin32, leaf bin32, ext]
//! confirm    [v, proof bin32, certificate bin32, leaf bin32, session bin16, until, ext]
//! ```
//!
//! The responder keeps nothing until a proof verifies: its challenge is recognised by a cookie,
//! an HMAC under a key of this process over the hello, its own nonce, the time and the instance.
//! Each signature has its own tag per role, so none can be reflected, and each side decides by
//! its own registry: what a peer says of itself changes nothing. Bodies commit to certificate and
//! chain by id. A handshake frame has its own magic and parser and is never an envelope.

mod frames;
mod sessions;
mod unverified;

use std::collections::BTreeMap;
use std::collections::HashSet;

use bytes::Bytes;
use hmac::Hmac;
use hmac::Mac as _;
use sha2::Sha256;

use self::frames::Challenge;
use self::frames::Hello;
use self::frames::Proof;
use self::frames::Signed;
use self::frames::check_nonce;
use self::frames::extensions;
use self::frames::failed;
use self::frames::finish_carrying;
use self::frames::read_unsigned;
use self::frames::read_version;
use self::frames::signed_frame;
use self::frames::unsigned_frame;
use super::certificate::UnverifiedCertificate;
use super::chain::Chain;
use super::chain::Credential;
use super::identity::AgentId;
use super::identity::KeyBytes;
use super::limits::CHALLENGE_TTL_MS;
use super::limits::SESSION_TTL_MS;
use super::limits::SESSIONS_MAX;
use super::names::MODE_BATCH;
use super::names::MODE_SINGLE;
use super::names::OBJECT_VERSION;
use super::names::Tag;
use super::rejection::HandshakeFailed;
use super::rejection::Overloaded;
use super::rejection::Place;
use super::rejection::Rejection;
use super::rejection::UntrustedRoot;
use super::signing::ObjectId;
use super::time::ClockSkew;
use super::time::Timestamp;
use super::trust::TrustTime;
use super::verify::Scene;
use super::wire;
use super::wire::Reader;
use super::wire::bin;

pub use self::frames::step;
pub use self::sessions::SessionTable;
pub use self::unverified::UnverifiedFrame;

const PLACE: Place = Place::Handshake;

/// Bits of the envelope modes a peer can read.
const MODES: u8 = 1 << (MODE_SINGLE - 1) | 1 << (MODE_BATCH - 1);

/// The `<instance>` of a handshake subject: 8 random bytes that name one process of one identity
/// (protocol §4.4).
pub type Instance = [u8; 8];

/// The subject of handshakes with one process of an agent, `<prefix>.handshake.<id>.<instance>`, or
/// without an instance `<prefix>.handshake.<id>`, which reaches any of them (protocol §4.4).
pub fn handshake_subject(prefix: &str, agent: &AgentId, instance: Option<&Instance>) -> String {
    let id = agent.token();
    match instance {
        Some(instance) => {
            format!(
                "{prefix}.handshake.{id}.{}",
                data_encoding::HEXLOWER.encode(instance)
            )
        }
        None => format!("{prefix}.handshake.{id}"),
    }
}

/// A live session: the peer proved to hold its key, and so did we (protocol §16.8).
///
/// Holding one tells you that a handshake with this peer completed, that its certificate and chain
/// were valid then, and that the session has an end, 15 minutes later at the most. It spares a
/// message no check but that for a session.
#[derive(Clone, Debug)]
pub struct Session {
    /// The peer.
    pub peer: AgentId,
    /// Its key, which is what the session is with.
    pub key: KeyBytes,
    /// The first instant at which the session is over.
    pub until: Timestamp,
    /// The id both sides know it by, chosen by the responder.
    pub id: [u8; 16],
    /// The newest timestamp of the served trust state that the peer knows, as it signed it: a hint
    /// to look for a newer state, or for another branch (protocol §16.9). It was not checked.
    pub newest: Option<Bytes>,
}

/// One's own side of a handshake (protocol §16.1). The credential's key is the certified one.
#[derive(Clone, Debug)]
pub struct Party {
    /// One's id.
    pub id: AgentId,
    /// One's encoded certificate, as the registry has it.
    pub certificate: Bytes,
    /// One's chain and key.
    pub credential: Credential,
}

impl Party {
    fn key(&self) -> KeyBytes {
        self.credential.key().public().bytes()
    }
}

/// The initiator before the challenge (protocol §16).
///
/// The whole exchange, without a bus:
///
/// ```
/// # use std::sync::Arc;
/// # use std::time::Duration;
/// #
/// # use trustmesh::client::clock::{Clock, SystemClock};
/// use trustmesh::proto::handshake::{Initiator, Party, Responder};
/// # use trustmesh::proto::identity::{AgentId, SigningKey};
/// # use trustmesh::proto::scope::Scope;
/// # use trustmesh::proto::signing::Budget;
/// use trustmesh::proto::time::ClockSkew;
/// use trustmesh::proto::verify::Scene;
/// use trustmesh::services::authority::Authority;
///
/// # fn party(mesh: &mut Authority, id: &str) -> Result<Party, Box<dyn std::error::Error>> {
/// #     let (id, key) = (AgentId::parse(id)?, Arc::new(SigningKey::generate()?));
/// #     let certificate = mesh.enrol(&id, &key)?;
/// #     let scope = Scope::parse(["sub:chat"])?;
/// #     let grant = mesh.grant(&key.public().bytes(), scope, 0, Duration::from_secs(3600))?;
/// #     let trust = mesh.publish()?.current();
/// #     let credential = grant.verify(&*trust, &mut Budget::message())?.hold(key)?;
/// #     Ok(Party { id, certificate, credential })
/// # }
/// #
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut mesh = Authority::dev("demo")?;
/// # let (alice, bob) = (party(&mut mesh, "alice")?, party(&mut mesh, "bob")?);
/// # let (bob_id, bob_key) = (bob.id.clone(), bob.credential.key().public().bytes());
/// # let trust = mesh.publish()?.current();
/// # let now = SystemClock::new().now()?;
/// // Nonces, secret and ids are random outside examples.
/// let (scene, skew) = (Scene { now, trust: &trust, sessions: &() }, ClockSkew::default());
/// let mut responder = Responder::new(bob, [1; 8], [2; 32]);
///
/// let (initiator, hello) = Initiator::hello(alice, bob_id, bob_key, [3; 32]);
/// let challenge = responder.challenge(&hello, [4; 32], now)?;
/// let (awaiting, _instance, proof) = initiator.answer(&challenge)?;
/// let (bobs, confirm) = responder.confirm(&proof, [5; 16], &scene, skew)?;
/// let alices = awaiting.confirm(&confirm, &scene, skew)?;
///
/// assert_eq!((alices.peer.as_str(), bobs.peer.as_str()), ("bob", "alice"));
/// assert_eq!(alices.id, bobs.id);
/// assert!(responder.confirm(&proof, [6; 16], &scene, skew).is_err()); // a challenge is used once
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Initiator {
    party: Party,
    peer: AgentId,
    peer_key: KeyBytes,
    nonce: [u8; 32],
    hello: Bytes,
}

/// The initiator before the confirmation. [`Initiator::answer`] makes one.
#[derive(Debug)]
pub struct AwaitingConfirm {
    party: Party,
    peer: AgentId,
    peer_key: KeyBytes,
    proof: ObjectId,
}

impl Initiator {
    /// Begins a handshake with `peer` under `peer_key`; the second value is H1 (protocol §16.3).
    /// `nonce` is 32 random bytes, never used twice.
    pub fn hello(
        party: Party,
        peer: AgentId,
        peer_key: KeyBytes,
        nonce: [u8; 32],
    ) -> (Self, Bytes) {
        let key = party.key();
        let ext: [(); 0] = [];
        let hello = Bytes::from(wire::encode(&(
            OBJECT_VERSION,
            bin(&party.credential.chain().mesh().0),
            party.id.as_str(),
            bin(&key.0),
            peer.as_str(),
            bin(&peer_key.0),
            bin(&nonce),
            MODES,
            &ext[..],
        )));
        let frame = unsigned_frame(1, &hello);
        (
            Self {
                party,
                peer,
                peer_key,
                nonce,
                hello,
            },
            frame,
        )
    }

    /// Answers H2 with H3 (protocol §16.6). Also says which instance of the peer answered: the
    /// proof goes there.
    ///
    /// # Errors
    ///
    /// [`Rejection::Malformed`], [`Rejection::TooLarge`] or [`Rejection::UnsupportedVersion`] for a
    /// frame that is no challenge, and for one's own certificate; [`Rejection::HandshakeFailed`]
    /// with [`Transcript`](HandshakeFailed::Transcript) when it answers another hello, or
    /// [`Nonce`](HandshakeFailed::Nonce).
    pub fn answer(&self, frame: &Bytes) -> Result<(AwaitingConfirm, Instance, Bytes), Rejection> {
        self.answer_carrying(frame, None)
    }

    /// [`answer`](Self::answer), with the newest timestamp of a served trust state that is known
    /// here (protocol §16.9).
    ///
    /// # Errors
    ///
    /// As [`answer`](Self::answer).
    pub fn answer_carrying(
        &self,
        frame: &Bytes,
        newest: Option<&Bytes>,
    ) -> Result<(AwaitingConfirm, Instance, Bytes), Rejection> {
        let body = read_unsigned(2, frame)?;
        let challenge = Challenge::parse(&body)?;
        if challenge.hello != Tag::Hello.digest(&self.hello) {
            return Err(failed(HandshakeFailed::Transcript));
        }
        check_nonce(&challenge.nonce, &self.nonce)?;
        let certificate = UnverifiedCertificate::parse(&self.party.certificate)?.id();
        let leaf = self.party.credential.chain().leaf().id();
        let ext = extensions(newest);
        let proof = wire::encode(&(
            OBJECT_VERSION,
            bin(&self.hello),
            bin(&body),
            bin(&certificate.0),
            bin(&leaf.0),
            &ext[..],
        ));
        let frame = signed_frame(3, Tag::Proof, &proof, &self.party);
        let proof = Tag::Proof.digest(&proof);
        let awaiting = AwaitingConfirm {
            party: self.party.clone(),
            peer: self.peer.clone(),
            peer_key: self.peer_key,
            proof,
        };
        Ok((awaiting, challenge.instance, frame))
    }
}

impl AwaitingConfirm {
    /// Checks H4: the peer is who we meant, in good standing by our own trust state (protocol
    /// §16.7). The session counts at once.
    ///
    /// # Errors
    ///
    /// [`Rejection::HandshakeFailed`] for a confirmation of another proof or a session that would
    /// be over, [`Rejection::KeyMismatch`] for another agent or certificate,
    /// [`Rejection::BadSignature`], and what [freshness](super::trust::TrustState::check_fresh),
    /// [standing](super::trust::TrustState::check_standing), revocation and the peer's chain are refused for.
    pub fn confirm(
        &self,
        frame: &Bytes,
        scene: &Scene<'_>,
        skew: ClockSkew,
    ) -> Result<Session, Rejection> {
        let signed = Signed::parse(4, frame)?;
        let mut r = Reader::new(&signed.body, PLACE);
        read_version(&mut r, 7)?;
        let proof = r.object_id()?;
        let certificate = r.object_id()?;
        let leaf = r.object_id()?;
        let id = r.bin_of()?;
        let until = Timestamp::from_millis(r.uint()?);
        let newest = finish_carrying(r)?;
        if proof != self.proof {
            return Err(failed(HandshakeFailed::Transcript));
        }
        let chain = signed.check_peer(
            Tag::Confirm,
            (&self.peer, &self.peer_key),
            (certificate, leaf),
            scene,
            skew,
        )?;
        let ours = self.party.credential.chain();
        let end = session_end([&chain, ours], scene, [self.peer_key, self.party.key()]);
        let until = until.min(end);
        check_session_end(until, scene.now)?;
        Ok(Session {
            peer: self.peer.clone(),
            key: self.peer_key,
            until,
            id,
            newest,
        })
    }
}

/// The responder (protocol §16). It keeps the process's cookie key and the cookies that were used,
/// nothing per hello.
///
/// [`Initiator`] has an example of both sides.
#[derive(Debug)]
pub struct Responder {
    party: Party,
    instance: Instance,
    secret: zeroize::Zeroizing<[u8; 32]>,
    used: HashSet<[u8; 32]>,
    used_by_expiry: BTreeMap<u64, Vec<[u8; 32]>>,
}

impl Responder {
    /// A responder with the cookie key `secret`, 32 random bytes, which is wiped when it is
    /// dropped.
    pub fn new(party: Party, instance: Instance, secret: [u8; 32]) -> Self {
        Self {
            party,
            instance,
            secret: zeroize::Zeroizing::new(secret),
            used: HashSet::new(),
            used_by_expiry: BTreeMap::new(),
        }
    }

    /// Goes on with a renewed certificate or chain of the same agent and key.
    pub fn replace_party(&mut self, party: Party) {
        self.party = party;
    }

    /// The instance it answers for, part of its subject.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Which agent and key say to be behind an H1 or H3: the inbox of that key is the only place an
    /// answer may go (protocol §16.4). Nothing of it is verified.
    ///
    /// # Errors
    ///
    /// [`Rejection::Malformed`], [`Rejection::TooLarge`], [`Rejection::UnsupportedVersion`], or
    /// [`Rejection::HandshakeFailed`] for another step or a nonce that is not 32 bytes.
    pub fn asker(frame: &Bytes) -> Result<(AgentId, KeyBytes), Rejection> {
        let hello = match step(frame)? {
            1 => read_unsigned(1, frame)?,
            _ => Proof::parse(&Signed::parse(3, frame)?.body)?.hello,
        };
        let hello = Hello::parse(&hello)?;
        Ok((hello.id_i, hello.key_i))
    }

    /// Answers H1 with H2 (protocol §16.4). Changes nothing. `nonce` is 32 random bytes.
    ///
    /// # Errors
    ///
    /// [`Rejection::Malformed`], [`Rejection::TooLarge`] or [`Rejection::UnsupportedVersion`] for a
    /// frame that is no hello, [`Rejection::UntrustedRoot`] for another mesh,
    /// [`Rejection::HandshakeFailed`] with [`NotForMe`](HandshakeFailed::NotForMe),
    /// [`Version`](HandshakeFailed::Version) or [`Nonce`](HandshakeFailed::Nonce).
    pub fn challenge(
        &self,
        frame: &Bytes,
        nonce: [u8; 32],
        now: Timestamp,
    ) -> Result<Bytes, Rejection> {
        let body = read_unsigned(1, frame)?;
        let hello = Hello::parse(&body)?;
        self.check_hello(&hello)?;
        check_nonce(&hello.nonce, &nonce)?;
        let id = Tag::Hello.digest(&body);
        let cookie = self.cookie(&id, &nonce, now).finalize().into_bytes();
        let ext: [(); 0] = [];
        let challenge = wire::encode(&(
            OBJECT_VERSION,
            bin(&id.0),
            bin(&nonce),
            now.as_millis(),
            bin(&self.instance),
            bin(&cookie),
            &ext[..],
        ));
        Ok(unsigned_frame(2, &challenge))
    }

    /// Checks H3 and answers with H4 (protocol §16.7). `session` is 16 random bytes. The session
    /// counts once the peer's next message arrives: see [`SessionTable::await_message`].
    ///
    /// A proof that is refused leaves its challenge usable.
    ///
    /// # Errors
    ///
    /// What a hello is refused for in [`challenge`](Self::challenge) and a peer in
    /// [`AwaitingConfirm::confirm`]; [`Rejection::HandshakeFailed`] with
    /// [`Cookie`](HandshakeFailed::Cookie) for a challenge that is not this responder's, is older
    /// than [`CHALLENGE_TTL_MS`] or was used, or with [`Transcript`](HandshakeFailed::Transcript)
    /// for one that answers another hello; [`Rejection::Overloaded`] with
    /// [`Handshakes`](Overloaded::Handshakes) while [`SESSIONS_MAX`] used ones are remembered.
    pub fn confirm(
        &mut self,
        frame: &Bytes,
        session: [u8; 16],
        scene: &Scene<'_>,
        skew: ClockSkew,
    ) -> Result<(Session, Bytes), Rejection> {
        let signed = Signed::parse(3, frame)?;
        let proof = Proof::parse(&signed.body)?;
        let hello = Hello::parse(&proof.hello)?;
        let challenge = Challenge::parse(&proof.challenge)?;
        self.check_hello(&hello)?;
        check_nonce(&hello.nonce, &challenge.nonce)?;
        let hello_id = Tag::Hello.digest(&proof.hello);
        if challenge.hello != hello_id || challenge.instance != self.instance {
            return Err(failed(HandshakeFailed::Transcript));
        }
        self.check_cookie(&hello_id, &challenge, scene.now)?;
        let peer = (&hello.id_i, &hello.key_i);
        let chain = signed.check_peer(
            Tag::Proof,
            peer,
            (proof.certificate, proof.leaf),
            scene,
            skew,
        )?;
        let ours = self.party.credential.chain().clone();
        let until = session_end([&chain, &ours], scene, [hello.key_i, self.party.key()]);
        check_session_end(until, scene.now)?;
        // Only a proof that verified uses its cookie up: nobody else can burn it.
        self.use_cookie(&challenge);
        let certificate = UnverifiedCertificate::parse(&self.party.certificate)?.id();
        let ext = extensions(scene.trust.time().map(TrustTime::file));
        let confirm = wire::encode(&(
            OBJECT_VERSION,
            bin(&Tag::Proof.digest(&signed.body).0),
            bin(&certificate.0),
            bin(&ours.leaf().id().0),
            bin(&session),
            until.as_millis(),
            &ext[..],
        ));
        let answer = signed_frame(4, Tag::Confirm, &confirm, &self.party);
        let (peer, key) = (hello.id_i, hello.key_i);
        Ok((
            Session {
                peer,
                key,
                until,
                id: session,
                newest: proof.newest,
            },
            answer,
        ))
    }

    fn check_hello(&self, hello: &Hello) -> Result<(), Rejection> {
        if hello.mesh != self.party.credential.chain().mesh() {
            let reason = UntrustedRoot::OtherMesh;
            return Err(Rejection::UntrustedRoot {
                place: PLACE,
                reason,
            });
        }
        if hello.id_r != self.party.id || hello.key_r != self.party.key() {
            return Err(failed(HandshakeFailed::NotForMe));
        }
        if hello.modes & MODES == 0 {
            return Err(failed(HandshakeFailed::Version));
        }
        Ok(())
    }

    fn cookie(&self, hello: &ObjectId, nonce: &[u8; 32], time: Timestamp) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(self.secret.as_slice())
            // RFC 2104: HMAC takes keys of any length.
            .expect("HMAC takes keys of any length");
        mac.update(&Tag::Challenge.bytes());
        mac.update(&hello.0);
        mac.update(nonce);
        mac.update(&time.as_millis().to_be_bytes());
        mac.update(&self.instance);
        mac
    }

    fn check_cookie(
        &mut self,
        hello: &ObjectId,
        challenge: &Challenge,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        self.forget_used(now);
        // The challenge was made by this process, so no skew applies.
        let age_ok = challenge.time <= now && now.since(challenge.time) <= CHALLENGE_TTL_MS;
        let mac = self.cookie(hello, &challenge.nonce, challenge.time);
        let ours = mac.verify_slice(&challenge.cookie).is_ok();
        if !age_ok || !ours || self.used.contains(&challenge.cookie) {
            return Err(failed(HandshakeFailed::Cookie));
        }
        if self.used.len() >= SESSIONS_MAX {
            return Err(Rejection::Overloaded {
                reason: Overloaded::Handshakes,
            });
        }
        Ok(())
    }

    fn use_cookie(&mut self, challenge: &Challenge) {
        self.used.insert(challenge.cookie);
        let expiry = challenge.time.plus(CHALLENGE_TTL_MS).as_millis();
        self.used_by_expiry
            .entry(expiry)
            .or_default()
            .push(challenge.cookie);
    }

    fn forget_used(&mut self, now: Timestamp) {
        while let Some(entry) = self.used_by_expiry.first_entry() {
            if *entry.key() >= now.as_millis() {
                break;
            }
            for cookie in entry.remove() {
                self.used.remove(&cookie);
            }
        }
    }
}

/// When a session ends: with the first of both chains and certificates, after 15 minutes at most.
fn session_end(chains: [&Chain; 2], scene: &Scene<'_>, keys: [KeyBytes; 2]) -> Timestamp {
    let links = chains
        .into_iter()
        .flat_map(Chain::links)
        .map(|link| link.validity().until());
    let certificates = keys
        .iter()
        .filter_map(|key| scene.trust.certificate(key))
        .map(|certificate| certificate.claims().validity.until());
    links
        .chain(certificates)
        .fold(scene.now.plus(SESSION_TTL_MS), Timestamp::min)
}

/// A chain may be past its end and still within the clock's tolerance; a session may not.
fn check_session_end(until: Timestamp, now: Timestamp) -> Result<(), Rejection> {
    if until <= now {
        return Err(failed(HandshakeFailed::Cookie));
    }
    Ok(())
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
