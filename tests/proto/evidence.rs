//! Evidence against an agent: what its own signature proves, and nothing else (group TS).

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::score::Ledger;
use trustmesh::proto::score::Misbehaviour;
use trustmesh::proto::score::Parameters;
use trustmesh::proto::score::Sponsor;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::TrustState;
use trustmesh::proto::verify::NotEvidence;
use trustmesh::proto::verify::find_fault;
use trustmesh::services::verifier::evidence::Dismissed;
use trustmesh::services::verifier::evidence::Docket;
use trustmesh::services::verifier::evidence::FAULTS_PER_SIGNER;
use trustmesh::services::verifier::evidence::HORIZON_MS;

use crate::forge::ChainSpec;
use crate::forge::HOUR;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Value;
use crate::forge::chain::DELEGATE;
use crate::forge::chain::PUB;
use crate::forge::chain::scope;
use crate::forge::letter;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

const SUBJ: &str = "orders.eu.new";

const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// A verifier with its books.
struct Court {
    trust: Arc<TrustState>,
    docket: Docket,
    ledger: Ledger,
}

impl Court {
    fn new(mesh: &Mesh) -> Self {
        let mut ledger = Ledger::new(Parameters::default());
        for name in NAMES {
            let now = Timestamp::from_millis(NOW);
            let agent = Party::named(name).id();
            ledger.register(&agent, Sponsor::Operator, now).unwrap();
        }
        Self {
            trust: mesh.trust(),
            docket: Docket::new(ClockSkew::default(), None),
            ledger,
        }
    }

    fn hear(&mut self, frame: &Bytes, now: u64) -> Result<(AgentId, Misbehaviour), Dismissed> {
        let now = Timestamp::from_millis(now);
        let reporter = Party::named("bob").id();
        let report = (frame, &reporter);
        let heard = self.docket.hear(report, &self.trust, &mut self.ledger, now);
        heard.map(|(fault, _)| (fault.culprit, fault.misbehaviour))
    }

    fn score(&self, name: &str) -> u16 {
        let now = Timestamp::from_millis(NOW + 2 * HOUR);
        self.ledger.score(&Party::named(name).id(), now).unwrap()
    }

    fn is_untouched(&self) -> bool {
        self.docket.is_empty() && NAMES.iter().all(|name| self.score(name) == 500)
    }
}

/// What alice may do: publish orders, and let others do so.
fn orders(mesh: &Mesh, holders: &[&str]) -> ChainSpec {
    let own = scope(&[(PUB | DELEGATE, "orders.>")]);
    (0..holders.len()).fold(ChainSpec::down(mesh, holders), |chain, index| {
        chain.edit(index, |link| link.scope = own.clone())
    })
}

/// The frame without its content, as a report may carry it.
fn without_content(letter: &Letter) -> Bytes {
    let tree = letter.tree().with(&[5], bin([]));
    [&letter.magic[..], &tree.encode()].concat().into()
}

/// What the sender itself did wrong counts against the sender, with or without the content, as far
/// as that decides.
#[test]
fn a_senders_own_fault_counts_against_it() {
    let mesh = Mesh::new();
    let chain = orders(&mesh, &["carol", "alice"]);
    let outside = Letter::publish(&chain, "secrets.eu");
    let odd = Letter::publish(&chain, SUBJ).edit(|l| l.content = list([text("no content")]));
    let alice = || Party::named("alice").id();
    for (frame, misbehaviour) in [
        (outside.frame(), Misbehaviour::ScopeExceeded),
        (without_content(&outside), Misbehaviour::ScopeExceeded),
        (odd.frame(), Misbehaviour::MalformedContent),
    ] {
        let mut court = Court::new(&mesh);
        assert_eq!(court.hear(&frame, NOW), Ok((alice(), misbehaviour)));
        assert!(court.score("alice") < 500);
        assert_eq!(court.score("carol"), 500);
    }
    let nothing = Court::new(&mesh).hear(&without_content(&odd), NOW);
    assert_eq!(nothing, Err(NotEvidence::NoFault.into()));
}

/// A bad link counts against the holder that signed it, whoever sends it on.
#[test]
fn a_bad_link_counts_against_its_minter() {
    let mesh = Mesh::new();
    let chain = || orders(&mesh, &["carol", "dave", "alice"]);
    let wider = chain().edit(1, |link| link.scope = scope(&[(PUB, ">")]));
    let deeper = chain().edit(1, |link| link.remaining = Value::Uint(8));
    let longer = chain().edit(1, |link| link.until = Value::Uint(NOW + HOUR));
    for (chain, misbehaviour) in [
        (wider, Misbehaviour::ScopeExceeded),
        (deeper, Misbehaviour::DepthExceeded),
        (longer, Misbehaviour::ScopeExceeded),
    ] {
        let mut court = Court::new(&mesh);
        let culprit = (Party::named("carol").id(), misbehaviour);
        let frame = Letter::publish(&chain, SUBJ).frame();
        assert_eq!(court.hear(&frame, NOW), Ok(culprit));
        // The same link in another message is the same fault.
        let again = court.hear(&Letter::publish(&chain, SUBJ).frame(), NOW);
        assert_eq!(again, Err(Dismissed::Known));
        assert_eq!((court.score("alice"), court.score("dave")), (500, 500));
        // Signed by anybody else it is nobody's fault.
        let forged = chain.edit(1, |link| link.signer = Some(Party::named("alice")));
        let frame = Letter::publish(&forged, SUBJ).frame();
        let refused = Court::new(&mesh).hear(&frame, NOW);
        assert!(matches!(
            refused,
            Err(Dismissed::NotEvidence(NotEvidence::Unproved(_)))
        ));
    }
}

/// TS-1: who reports, how often, and what is said of a score make no difference; a fault is counted
/// once.
#[test]
fn a_fault_counts_once_whoever_reports_it() {
    let mesh = Mesh::new();
    let mut court = Court::new(&mesh);
    let letter = Letter::publish(&orders(&mesh, &["alice"]), "secrets.eu");
    court.hear(&letter.frame(), NOW).unwrap();
    for later in 0..100 {
        let copy = court.hear(&letter.frame(), NOW + later);
        assert_eq!(copy, Err(Dismissed::Known));
        let copy = court.hear(&without_content(&letter), NOW + later);
        assert_eq!(copy, Err(Dismissed::Known));
    }
    // Another header under the same id is the same message.
    let twin = letter.clone().set(letter::TTL, Value::Uint(9_000));
    assert_eq!(court.hear(&twin.frame(), NOW), Err(Dismissed::Known));
    assert_eq!(court.score("alice"), 400);
}

/// What is old, from the future or from before a restart is not heard: it could be counted twice.
#[test]
fn evidence_has_its_time() {
    let mesh = Mesh::new();
    let letter = Letter::publish(&orders(&mesh, &["alice"]), "secrets.eu");
    let until = NOW + 10_000;
    for (now, heard) in [
        (NOW - 5_001, Err(Dismissed::NotYet)),
        (NOW - 5_000, Ok(())),
        (until + HORIZON_MS, Ok(())),
        (until + HORIZON_MS + 1, Err(Dismissed::TooOld)),
    ] {
        let mut court = Court::new(&mesh);
        assert_eq!(court.hear(&letter.frame(), now).map(drop), heard, "{now}");
    }
    let mut court = Court::new(&mesh);
    let started = Timestamp::from_millis(NOW - 5_000);
    court.docket = Docket::new(ClockSkew::default(), Some(started));
    let late = court.hear(&letter.frame(), NOW);
    assert_eq!(late, Err(Dismissed::TooOld));
    let next = letter.set(letter::ISSUED, Value::Uint(NOW + 1));
    court.hear(&next.frame(), NOW + 1).unwrap();
}

/// A key that was revoked is whoever's has it: nothing it signs counts against the agent.
#[test]
fn a_stolen_and_revoked_key_smears_nobody() {
    let mut mesh = Mesh::new();
    let frame = Letter::publish(&orders(&mesh, &["alice"]), "secrets.eu").frame();
    mesh.revoked.revoke_key(Party::named("alice").bytes());
    let mut court = Court::new(&mesh);
    let dismissed = court.hear(&frame, NOW);
    assert!(matches!(
        dismissed,
        Err(Dismissed::NotEvidence(NotEvidence::Signer(_)))
    ));
    assert!(court.is_untouched());
}

/// Memory is bounded for each signer, and nothing in it makes room for more before its time.
#[test]
fn a_full_docket_forgets_nothing_that_can_be_heard() {
    let mesh = Mesh::new();
    let mut court = Court::new(&mesh);
    let chain = orders(&mesh, &["alice"]);
    let first = Letter::publish(&chain, "secrets.eu").frame();
    court.hear(&first, NOW).unwrap();
    for _ in 1..FAULTS_PER_SIGNER {
        let frame = without_content(&Letter::publish(&chain, "secrets.eu"));
        court.hear(&frame, NOW).unwrap();
    }
    let more = Letter::publish(&chain, "secrets.eu");
    assert_eq!(court.hear(&more.frame(), NOW), Err(Dismissed::Full));
    assert_eq!(court.hear(&first, NOW), Err(Dismissed::Known));
    assert_eq!(court.score("alice"), 0);
    let other = Letter::publish(&orders(&mesh, &["bob"]), "secrets.eu");
    court.hear(&other.frame(), NOW).unwrap();
    let later = NOW + 10_000 + HORIZON_MS + 1;
    let late = more.set(letter::ISSUED, Value::Uint(later));
    court.hear(&late.frame(), later).unwrap();
    assert_eq!(court.docket.len(), 1);
}

/// Honest messages, and what a hostile bus can make of them.
fn honest(mesh: &Mesh) -> Vec<Letter> {
    let alice = orders(mesh, &["carol", "alice"]);
    let bob = ChainSpec::down(mesh, &["bob"]);
    vec![
        Letter::publish(&alice, SUBJ),
        Letter::publish(&alice, SUBJ).set(letter::AUDIENCE, bin(Party::named("dave").bytes().0)),
        Letter::publish(&alice, SUBJ).set(letter::ISSUED, Value::Uint(NOW - HOUR / 3)),
        Letter::request(&bob, "tools.add"),
        Letter::answer(
            &orders(mesh, &["dave"]),
            "_INBOX.any",
            &Party::named("bob"),
            Letter::request(&bob, "tools.add").id(),
        ),
    ]
}

/// A victim cannot be framed: with other content, another chain, another signature or another
/// header attached, or cut short, an honest message proves nothing.
#[test]
fn parts_of_honest_messages_frame_nobody() {
    let mesh = Mesh::new();
    let letters = honest(&mesh);
    let mut court = Court::new(&mesh);
    let narrow =
        orders(&mesh, &["carol", "alice"]).edit(1, |l| l.scope = scope(&[(PUB, "orders.x")]));
    let other_mesh = ChainSpec::down(
        &Mesh {
            name: "other".into(),
            ..Mesh::new()
        },
        &["alice"],
    );
    let mut frames: Vec<Bytes> = letters.iter().map(Letter::frame).collect();
    frames.extend(letters.iter().map(without_content));
    for a in &letters {
        for b in &letters {
            for part in 2..6 {
                let tree = a.tree().with(&[part], b.tree().items()[part].clone());
                frames.push([&a.magic[..], &tree.encode()].concat().into());
            }
        }
        for chain in [&narrow, &other_mesh] {
            let swapped = a.tree().with(&[4], bin(chain.encode()));
            frames.push([&a.magic[..], &swapped.encode()].concat().into());
        }
        let odd = a.tree().with(&[5], bin(b"\x91\xc0"));
        frames.push([&a.magic[..], &odd.encode()].concat().into());
    }
    for frame in frames.clone() {
        frames.extend((0..frame.len()).step_by(37).map(|len| frame.slice(..len)));
    }
    for frame in &frames {
        for now in [NOW, NOW + HOUR / 2, NOW + 2 * HOUR] {
            assert!(court.hear(frame, now).is_err());
        }
    }
    assert!(court.is_untouched());
}

proptest! {
    /// No byte string frames anybody.
    #[test]
    fn no_bytes_frame_anybody(bytes: Vec<u8>, magic: bool) {
        let mesh = Mesh::new();
        let prefix: &[u8] = if magic { b"TMSH\x96\x01\x01" } else { b"" };
        let frame = [prefix, &bytes].concat().into();
        prop_assert!(find_fault(&frame, &mesh.trust()).is_err());
    }

    /// Nor does an honest message with bytes changed, wherever and however many.
    #[test]
    fn no_changed_message_frames_anybody(
        which in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<Option<proptest::sample::Index>>(),
    ) {
        let mesh = Mesh::new();
        let letters = honest(&mesh);
        let mut frame = which.get(&letters).frame().to_vec();
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len()));
        }
        let mut court = Court::new(&mesh);
        prop_assert!(court.hear(&frame.into(), NOW).is_err());
        prop_assert!(court.is_untouched());
    }
}
