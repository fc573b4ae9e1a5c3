//! A receiver on a hostile bus: it accepts what an honest key signed, byte for byte and once, and
//! nothing else, whatever it met before.
//!
//! An input that begins with a zero byte is a frame as it stands; any other is a series of honest
//! frames with changes made to them.

#![no_main]

use std::collections::HashSet;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use arbitrary::Unstructured;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

use trustmesh::proto::audit::AuditEvent;
use trustmesh::proto::audit::AuditRecord;
use trustmesh::proto::audit::Decision;
use trustmesh::proto::audit::RecordChain;
use trustmesh::proto::audit::Word;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::names::Tag;
use trustmesh::proto::policy::RateLimiter;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::replay::ReplayGuard;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::verify::Arrival;
use trustmesh::proto::verify::Route;
use trustmesh::proto::verify::Scene;
use trustmesh::proto::verify::Verifier;
use trustmesh_fuzz::change::Change;
use trustmesh_fuzz::change::changed;
use trustmesh_fuzz::change::pick;
use trustmesh_fuzz::forge::Batch;
use trustmesh_fuzz::forge::Letter;
use trustmesh_fuzz::forge::NOW;
use trustmesh_fuzz::forge::Party;
use trustmesh_fuzz::forge::Stage;
use trustmesh_fuzz::forge::Value;
use trustmesh_fuzz::forge::batch::leaf;
use trustmesh_fuzz::forge::named;
use trustmesh_fuzz::forge::stage::Slot;
use trustmesh_fuzz::forge::stage::addresses;
use trustmesh_fuzz::pack;

const SUBJECT: &str = "orders.eu.new";
const MAGIC: usize = 4;
/// Positions in a frame, in its header, and in the proof of a batch.
const HEADER: usize = 2;
const AUTH: usize = 3;
const CONTENT: usize = 5;
const CONTENT_HASH: usize = 13;
const CONTENT_LEN: usize = 14;

#[derive(Arbitrary, Debug)]
struct Delivery {
    frame: u8,
    changes: Vec<Change>,
    repair: Option<Repair>,
    elsewhere: bool,
    later: u16,
}

/// What an attacker does to make a changed frame look right.
#[derive(Arbitrary, Debug)]
enum Repair {
    /// Digest and length of the content are those of the content.
    Digest,
    /// The header is signed by somebody else, a registered agent or not.
    Sign { by: u8 },
    /// Both.
    Both { by: u8 },
    /// The header stands in a batch of somebody else.
    Batch { by: u8 },
}

/// Who is there: bob receives, the frames are alice's and dave's.
struct World {
    stage: Stage,
    frames: Vec<Bytes>,
    /// A verifier that has met every chain and batch of the frames.
    warm: Verifier,
    others: [Party; 3],
}

fuzz_target!(|data: &[u8]| {
    static WORLD: OnceLock<World> = OnceLock::new();
    let world = WORLD.get_or_init(|| named("fuzz receive", World::new));
    let mut bus = Bus::new(world);
    match data.split_first() {
        None => {}
        Some((0, frame)) => {
            let frame = Bytes::copy_from_slice(frame);
            bus.deliver(&frame, false, 0);
            bus.deliver(&frame, false, 0);
        }
        Some((_, rest)) => {
            let mut input = Unstructured::new(rest);
            for _ in 0..8 {
                let Ok(mut delivery) = Delivery::arbitrary(&mut input) else {
                    break;
                };
                delivery.changes.truncate(4);
                let frame = world.frame(&delivery);
                bus.deliver(&frame, delivery.elsewhere, delivery.later);
                if input.is_empty() {
                    break;
                }
            }
        }
    }
});

impl World {
    fn new() -> Self {
        let mut stage = Stage::of(trustmesh_fuzz::mesh());
        let (alice, deep) = (stage.chain(&["alice"]), stage.chain(&["carol", "alice"]));
        let dave = stage.chain(&["dave"]);
        let event = |chain, payload: &str| Letter::publish(chain, SUBJECT).payload(payload);
        let mut frames = vec![
            event(&alice, "one").frame(),
            event(&alice, "two").frame(),
            event(&deep, "three").frame(),
            event(&dave, "four").frame(),
            Letter::request(&alice, SUBJECT).frame(),
        ];
        for (chain, size) in [(&alice, 1), (&deep, 5), (&deep, 3), (&dave, 2)] {
            let letters = (0..size).map(|n| event(chain, &format!("batch {n}")));
            let batch = Batch::of(letters);
            frames.extend((0..size).map(|index| batch.letter(index).frame()));
        }
        for frame in &frames {
            stage.accepts(frame);
        }
        let cold = stage.cold();
        let warm = std::mem::replace(&mut stage.verifier, cold);
        let others = ["dave", "erin", "mallory"].map(Party::named);
        Self {
            stage,
            frames,
            warm,
            others,
        }
    }

    /// What the attacker makes of an honest frame.
    fn frame(&self, delivery: &Delivery) -> Bytes {
        let honest = pick(&self.frames, delivery.frame);
        let frame = changed(honest, &delivery.changes, &self.frames, MAGIC);
        let repaired = delivery.repair.as_ref().and_then(|repair| {
            let tree = pack::read(frame.get(MAGIC..)?)?;
            let tree = match repair {
                Repair::Digest => digested(&tree)?,
                Repair::Sign { by } => self.signed(&tree, *by)?,
                Repair::Both { by } => self.signed(&digested(&tree)?, *by)?,
                Repair::Batch { by } => self.batched(&tree, *by)?,
            };
            Some([&frame[..MAGIC], &tree.encode()].concat().into())
        });
        repaired.unwrap_or(frame)
    }

    fn signed(&self, tree: &Value, by: u8) -> Option<Value> {
        let signature =
            pick(&self.others, by).sign(Tag::Envelope, &pack::bytes_at(tree, &[HEADER])?);
        pack::put(tree, &[AUTH], Value::Bin(signature.to_vec()))
    }

    fn batched(&self, tree: &Value, by: u8) -> Option<Value> {
        let (header, letter) = (pack::bytes_at(tree, &[HEADER])?, self.letter());
        let mut batch = Batch::with_leaves(vec![letter], vec![leaf(&header)]);
        batch.signer = pick(&self.others, by).clone();
        pack::put(tree, &[AUTH], batch.proof(0))
    }

    fn letter(&self) -> Letter {
        let chain = self.stage.chain(&["alice"]);
        Letter::publish(&chain, SUBJECT)
    }
}

fn digested(tree: &Value) -> Option<Value> {
    let content = pack::bytes_at(tree, &[CONTENT])?;
    let digest = Value::Bin(Tag::Content.digest(&content).0.to_vec());
    let tree = pack::put(tree, &[HEADER, CONTENT_HASH], digest)?;
    let len = Value::Uint(content.len() as u64);
    pack::put(&tree, &[HEADER, CONTENT_LEN], len)
}

/// One run of the receiver: it begins with nothing met and nothing accepted.
struct Bus<'a> {
    world: &'a World,
    verifier: Verifier,
    guard: ReplayGuard,
    now: Timestamp,
    accepted: HashSet<Bytes>,
    events: RecordChain,
    decisions: RecordChain,
}

impl<'a> Bus<'a> {
    fn new(world: &'a World) -> Self {
        let chain = || RecordChain::new(AgentId::parse("bob").expect("an id"), [3; 8]);
        Self {
            world,
            verifier: world.stage.cold(),
            guard: ReplayGuard::new(world.stage.verifier.skew(), None),
            now: Timestamp::from_millis(NOW),
            accepted: HashSet::new(),
            events: chain(),
            decisions: chain(),
        }
    }

    fn deliver(&mut self, frame: &Bytes, elsewhere: bool, later: u16) {
        self.now = self.now.plus(later.into());
        let (subject, reply) = addresses(frame);
        let subject = if elsewhere { "orders.us.new" } else { &subject };
        let arrival = Arrival {
            subject,
            reply: reply.as_deref(),
            route: Route::Subscription {
                pattern: &self.world.stage.pattern,
                own: &self.world.stage.own,
            },
        };
        // A verifier that has met nothing, one that has met everything, and that of this run.
        let (world, held) = (self.world, self.guard.len());
        let cold = world.stage.cold();
        let cold = self.verdict(&cold, frame, &arrival, &mut self.guard.clone());
        let known = self.verdict(&world.warm, frame, &arrival, &mut self.guard.clone());
        let mut guard = self.guard.clone();
        let decision = self.verdict(&self.verifier, frame, &arrival, &mut guard);
        assert_eq!(cold.rejection, known.rejection, "cold and warm differ");
        assert_eq!(
            cold.rejection, decision.rejection,
            "cold and lukewarm differ"
        );
        assert_eq!(
            (cold.authentic, &cold.digest),
            (known.authentic, &known.digest)
        );

        let is_honest = world.frames.contains(frame);
        match decision.rejection {
            None => {
                assert!(is_honest, "accepted what nobody signed");
                assert!(decision.authentic && !elsewhere);
                assert!(self.accepted.insert(frame.clone()), "accepted twice");
                assert_eq!(guard.len(), held + 1);
            }
            Some(rejection) => {
                assert_eq!(guard.len(), held, "a refused message left a trace");
                let replayed = matches!(rejection, Rejection::Replay { .. });
                let late = matches!(rejection, Rejection::Expired { .. });
                if is_honest && !elsewhere && !late {
                    assert!(replayed && self.accepted.contains(frame), "{rejection}");
                }
            }
        }
        self.guard = guard;
        self.check_audit(&decision, frame);
    }

    /// One decision makes one event.
    fn verdict(
        &self,
        verifier: &Verifier,
        frame: &Bytes,
        arrival: &Arrival<'_>,
        guard: &mut ReplayGuard,
    ) -> Decision {
        let scene = Scene {
            now: self.now,
            trust: &self.world.stage.trust,
            sessions: &(),
        };
        let mut rates = RateLimiter::default();
        let verdict = verifier.verify(frame, arrival, &scene, guard, &mut rates);
        let refused = verdict.rejection();
        let mut decisions = Vec::new();
        let result = verdict.record(Slot(&mut decisions));
        assert_eq!(decisions.len(), 1, "one decision, one event");
        assert_eq!(refused, result.err().map(|refused| refused.rejection));
        let decision = decisions.remove(0);
        assert_eq!(decision.rejection, refused);
        decision
    }

    /// However a decision is recorded, it makes one line, which a reader reads back.
    fn check_audit(&mut self, decision: &Decision, frame: &Bytes) {
        let (record, expected) = self.events.append(decision.at, decision.event());
        let mut line = String::new();
        self.decisions.append_decision(decision, &mut line);
        assert_eq!(line, expected);
        assert_eq!(AuditRecord::parse(&line).as_ref(), Some(&record));
        let AuditEvent::Decision(event) = record.event else {
            panic!("a decision makes a decision event");
        };
        assert_eq!(event.verdict == Word::Allow, decision.rejection.is_none());
        assert_eq!(event.claimed, !decision.authentic);
        assert_eq!(event.len, frame.len());
    }
}
