//! Handshakes on a hostile bus: a session comes of what the peer signed for this very exchange, once,
//! and of nothing else.
//!
//! An input that begins with a zero byte is a frame as it stands; any other is a series of frames of
//! honest exchanges with changes made to them.

#![no_main]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use arbitrary::Unstructured;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

use trustmesh::proto::handshake::AwaitingConfirm;
use trustmesh::proto::handshake::Initiator;
use trustmesh::proto::handshake::Party as Side;
use trustmesh::proto::handshake::Responder;
use trustmesh::proto::handshake::UnverifiedFrame;
use trustmesh::proto::handshake::step;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::TrustState;
use trustmesh::proto::verify::Scene;
use trustmesh_fuzz::change::Change;
use trustmesh_fuzz::change::changed;
use trustmesh_fuzz::change::pick;
use trustmesh_fuzz::forge::HOUR;
use trustmesh_fuzz::forge::NOW;
use trustmesh_fuzz::forge::Party;
use trustmesh_fuzz::forge::mesh::window;
use trustmesh_fuzz::forge::named;
use trustmesh_fuzz::pack;

const MAGIC: usize = 4;
/// Positions in a signed frame, and in the body of a proof.
const CERTIFICATE: usize = 4;
const BODY: usize = 2;
const CHALLENGE: usize = 2;

/// Who begins each exchange with bob.
const INITIATORS: [&str; 3] = ["alice", "alice", "carol"];

/// One frame on its way, at a reader of the attacker's choice.
#[derive(Arbitrary, Debug)]
struct Delivery {
    frame: u8,
    changes: Vec<Change>,
    reader: Reader,
    later: u16,
}

#[derive(Arbitrary, Debug)]
enum Reader {
    /// Whom the frame was meant for.
    Right,
    /// Bob, as a hello or as a proof.
    Hello,
    Proof,
    /// Who began the exchange, before or after the challenge.
    Challenge {
        exchange: u8,
    },
    Confirm {
        exchange: u8,
    },
}

struct World {
    trust: Arc<TrustState>,
    sides: Vec<Side>,
    bob: Side,
    /// Four frames of each exchange.
    frames: Vec<Bytes>,
}

/// One run of bob and of everybody who begins an exchange with him.
struct Run<'a> {
    world: &'a World,
    now: Timestamp,
    bob: Responder,
    initiators: Vec<Initiator>,
    awaiting: Vec<Option<(AwaitingConfirm, Bytes)>>,
    /// Bodies of challenges that bob made.
    challenges: HashSet<Vec<u8>>,
    /// Those of them that led to a session.
    used: HashSet<Vec<u8>>,
    /// Proofs that initiators made, and confirmations that bob made for proofs.
    proofs: HashSet<Bytes>,
    confirms: HashSet<(Bytes, Bytes)>,
    /// Frames made in this run, with the exchange they are of.
    made: Vec<(Bytes, u8)>,
}

fuzz_target!(|data: &[u8]| {
    static WORLD: OnceLock<World> = OnceLock::new();
    let world = WORLD.get_or_init(|| named("fuzz handshake", World::new));
    let mut run = Run::new(world);
    match data.split_first() {
        None => {}
        Some((0, frame)) => {
            let frame = Bytes::copy_from_slice(frame);
            for reader in [Reader::Hello, Reader::Proof] {
                run.deliver(&frame, &reader);
            }
            for exchange in 0..3 {
                run.deliver(&frame, &Reader::Challenge { exchange });
                run.deliver(&frame, &Reader::Confirm { exchange });
            }
        }
        Some((_, rest)) => {
            let mut input = Unstructured::new(rest);
            for _ in 0..8 {
                let Ok(mut delivery) = Delivery::arbitrary(&mut input) else {
                    break;
                };
                delivery.changes.truncate(4);
                let (honest, exchange) = run.frame(delivery.frame);
                let right = step(&honest);
                let frame = changed(&honest, &delivery.changes, &world.frames, MAGIC);
                run.now = run.now.plus(u64::from(delivery.later) % 8_000);
                let reader = match (delivery.reader, right) {
                    (Reader::Right, Ok(1)) => Reader::Hello,
                    (Reader::Right, Ok(2)) => Reader::Challenge { exchange },
                    (Reader::Right, Ok(3)) => Reader::Proof,
                    (Reader::Right, _) => Reader::Confirm { exchange },
                    (reader, _) => reader,
                };
                run.deliver(&frame, &reader);
                if input.is_empty() {
                    break;
                }
            }
        }
    }
});

impl World {
    fn new() -> Self {
        let mesh = trustmesh_fuzz::mesh();
        let side = |name: &str| {
            let who = Party::named(name);
            Side {
                id: who.id(),
                certificate: mesh.certificate(&who, window(NOW - HOUR, NOW + HOUR)),
                credential: mesh.grant(&who, 0, &["pub+sub+req+serve:chat.>"]),
            }
        };
        let mut world = Self {
            trust: mesh.trust(),
            sides: INITIATORS.into_iter().map(side).collect(),
            bob: side("bob"),
            frames: Vec::new(),
        };
        let mut frames = Vec::new();
        let (now, scene) = (Timestamp::from_millis(NOW), world.scene(NOW));
        let mut bob = world.responder();
        for exchange in 0..INITIATORS.len() {
            let (initiator, hello) = world.initiator(exchange);
            let nonce = [0x40 + exchange as u8; 32];
            let challenge = bob.challenge(&hello, nonce, now).expect("a challenge");
            let (_, _, proof) = initiator.answer(&challenge).expect("a proof");
            let session = [0x50 + exchange as u8; 16];
            let confirmed = bob.confirm(&proof, session, &scene, ClockSkew::default());
            let (_, confirm) = confirmed.expect("a session");
            frames.extend([hello, challenge, proof, confirm]);
        }
        world.frames = frames;
        world
    }

    fn scene(&self, now: u64) -> Scene<'_> {
        Scene {
            now: Timestamp::from_millis(now),
            trust: &self.trust,
            sessions: &(),
        }
    }

    fn responder(&self) -> Responder {
        Responder::new(self.bob.clone(), [1; 8], [2; 32])
    }

    fn initiator(&self, exchange: usize) -> (Initiator, Bytes) {
        let (id, key) = (self.bob.id.clone(), self.bob.credential.key().public());
        let nonce = [0x30 + exchange as u8; 32];
        Initiator::hello(self.sides[exchange].clone(), id, key.bytes(), nonce)
    }
}

impl<'a> Run<'a> {
    fn new(world: &'a World) -> Self {
        let frames = world.frames.chunks(4);
        let body = |frame: &Bytes| body_of(frame, &[BODY]).expect("a body");
        Self {
            world,
            now: Timestamp::from_millis(NOW),
            bob: world.responder(),
            initiators: (0..INITIATORS.len())
                .map(|n| world.initiator(n).0)
                .collect(),
            awaiting: INITIATORS.iter().map(|_| None).collect(),
            challenges: frames.clone().map(|frames| body(&frames[1])).collect(),
            used: HashSet::new(),
            proofs: frames
                .clone()
                .map(|frames| without_seals(&frames[2]))
                .collect(),
            confirms: frames
                .map(|frames| (without_seals(&frames[2]), without_seals(&frames[3])))
                .collect(),
            made: Vec::new(),
        }
    }

    /// A frame of the honest exchanges, or one made in this run.
    fn frame(&self, index: u8) -> (Bytes, u8) {
        let honest = self.world.frames.iter().enumerate();
        let honest = honest.map(|(index, frame)| (frame.clone(), index as u8 / 4));
        let all: Vec<_> = honest.chain(self.made.iter().cloned()).collect();
        pick(&all, index).clone()
    }

    fn deliver(&mut self, frame: &Bytes, reader: &Reader) {
        if UnverifiedFrame::parse(frame).is_ok() {
            assert!((1..=4).contains(&step(frame).expect("a step")));
            assert!(pack::is_canonical(&frame[MAGIC..]));
        }
        let _ = Responder::asker(frame);
        match reader {
            Reader::Right => unreachable!("resolved before"),
            Reader::Hello => self.hello(frame),
            Reader::Proof => self.proof(frame),
            Reader::Challenge { exchange } => self.challenge(frame, *exchange),
            Reader::Confirm { exchange } => self.confirm(frame, *exchange),
        }
    }

    fn hello(&mut self, frame: &Bytes) {
        let nonce = [0x60; 32];
        if let Ok(challenge) = self.bob.challenge(frame, nonce, self.now) {
            assert_eq!(step(frame), Ok(1));
            let body = body_of(&challenge, &[BODY]);
            self.challenges.insert(body.expect("a body"));
            let asker = |side: &Side| Responder::asker(frame).is_ok_and(|(id, _)| id == side.id);
            let exchange = self.world.sides.iter().position(asker);
            self.made.push((challenge, exchange.unwrap_or(0) as u8));
        }
    }

    /// An initiator answers whatever answers its hello; what comes of that bob decides.
    fn challenge(&mut self, frame: &Bytes, exchange: u8) {
        let exchange = usize::from(exchange) % INITIATORS.len();
        if let Ok((awaiting, _, proof)) = self.initiators[exchange].answer(frame) {
            assert_eq!(step(frame), Ok(2));
            self.made.push((proof.clone(), exchange as u8));
            let proof = without_seals(&proof);
            self.proofs.insert(proof.clone());
            self.awaiting[exchange] = Some((awaiting, proof));
        }
    }

    fn proof(&mut self, frame: &Bytes) {
        let world = self.world;
        let scene = world.scene(self.now.as_millis());
        let confirmed = self
            .bob
            .confirm(frame, [0x70; 16], &scene, ClockSkew::default());
        let challenge = body_of(frame, &[BODY, CHALLENGE]);
        match confirmed {
            Ok((session, confirm)) => {
                let challenge = challenge.expect("a challenge");
                let proof = without_seals(frame);
                assert!(self.proofs.contains(&proof), "a proof that nobody made");
                assert!(
                    self.challenges.contains(&challenge),
                    "a challenge of nobody"
                );
                assert!(self.used.insert(challenge), "a challenge used twice");
                let mut sides = world.sides.iter();
                let side = sides.find(|side| side.id == session.peer).expect("a peer");
                assert_eq!(side.credential.key().public().bytes(), session.key);
                assert!(self.now < session.until);
                self.confirms.insert((proof, without_seals(&confirm)));
                self.made.push((confirm, 0));
            }
            Err(rejection) => {
                // An honest proof makes a session, unless it made one or came late.
                let honest = world.frames.chunks(4).any(|frames| frames[2] == *frame);
                let late = self.now.as_millis() - NOW > 10_000;
                let used = challenge.is_some_and(|challenge| self.used.contains(&challenge));
                assert!(!honest || late || used, "{rejection}");
            }
        }
    }

    fn confirm(&mut self, frame: &Bytes, exchange: u8) {
        let exchange = usize::from(exchange) % INITIATORS.len();
        if self.awaiting[exchange].is_none() {
            let challenge = self.world.frames[4 * exchange + 1].clone();
            self.challenge(&challenge, exchange as u8);
        }
        let Some((awaiting, proof)) = &self.awaiting[exchange] else {
            panic!("an honest challenge is answered")
        };
        let scene = self.world.scene(self.now.as_millis());
        if let Ok(session) = awaiting.confirm(frame, &scene, ClockSkew::default()) {
            let pair = (proof.clone(), without_seals(frame));
            assert!(self.confirms.contains(&pair), "a confirmation of nobody");
            assert_eq!(session.peer, self.world.bob.id);
            assert!(self.now < session.until);
        }
    }
}

fn body_of(frame: &[u8], path: &[usize]) -> Option<Vec<u8>> {
    pack::bytes_at(&pack::read(frame.get(MAGIC..)?)?, path)
}

/// A signed frame with the body alone of its certificate. Who reads the frame has the certificate
/// from the registry and finds it by its id, so that the signatures on the one in the frame are not
/// looked at.
fn without_seals(frame: &Bytes) -> Bytes {
    let bare = || {
        let tree = pack::read(frame.get(MAGIC..)?)?;
        let body = pack::at(&tree, &[CERTIFICATE, 0])?;
        Some(pack::put(&tree, &[CERTIFICATE], body)?.encode().into())
    };
    bare().unwrap_or_else(|| frame.clone())
}
