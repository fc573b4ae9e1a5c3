//! Batches: one signature over many envelopes, and every envelope decided by itself.

use trustmesh::proto::envelope::EnvelopeDraft;

use trustmesh::proto::envelope::SignedEnvelope;
use trustmesh::proto::envelope::UnverifiedEnvelope;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::names::Tag;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::Place;
use trustmesh::proto::replay::MessageId;
use trustmesh::proto::revocation::RevocationSet;
use trustmesh::proto::scope::Action;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::verify::Judge;
use trustmesh::proto::verify::Testimony;

use crate::forge::Batch;
use crate::forge::Letter;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Stage;
use crate::forge::Value;
use crate::forge::batch::KEY;
use crate::forge::batch::leaf;
use crate::forge::batch::tree_hash;
use crate::forge::letter::MID;
use crate::forge::letter::MODE;
use crate::forge::unique;
use crate::forge::value::bin;
use crate::forge::value::mutants;

const SUBJ: &str = "orders.eu.new";

/// Events by alice under a chain by carol.
fn batch(stage: &Stage, count: usize) -> Batch {
    let first = Letter::publish(&stage.chain(&["carol", "alice"]), SUBJ);
    Batch::of((0..count).map(|_| first.clone().set(MID, bin(unique()))))
}

/// Forge and crate make the same tree, and each takes what the other signs.
#[test]
fn a_batch_of_the_crate_is_one_of_the_forge() {
    let mut stage = Stage::default();
    let carol = Party::named("carol");
    let credential = stage
        .mesh
        .line(&[&carol, &Party::named("alice")], &["pub+delegate:>"]);
    for count in [1, 2, 3, 7, 17, 256] {
        let draft = |_| {
            let subject = Subject::parse(SUBJ).unwrap();
            let now = Timestamp::from_millis(NOW);
            EnvelopeDraft::new(MessageId(unique()), now, Action::Publish, subject)
        };
        let drafts: Vec<_> = (0..count).map(draft).collect();
        let signed = EnvelopeDraft::sign_together(&drafts, &credential).unwrap();
        assert_eq!(signed.len(), count);
        let frames: Vec<_> = signed.into_iter().map(SignedEnvelope::into_bytes).collect();
        let headers = frames.iter().map(|frame| leaf(&header_of(frame)));
        let root = tree_hash(&headers.collect::<Vec<_>>());
        for (index, frame) in frames.iter().enumerate() {
            let parsed = UnverifiedEnvelope::parse(frame).unwrap();
            let proof = parsed.batch().unwrap();
            assert_eq!(proof.claims().root().0, root);
            assert_eq!(usize::from(proof.claims().size), count);
            assert_eq!(proof.index(), index);
            stage.accepts(frame);
        }
        let forged = batch(&stage, count);
        stage.accepts(&forged.letter(count - 1).frame());
    }
    assert!(
        EnvelopeDraft::sign_together(&[], &credential)
            .unwrap()
            .is_empty()
    );
}

/// The header of a frame: after magic, array, version and mode.
fn header_of(frame: &[u8]) -> Vec<u8> {
    assert_eq!(frame[7], 0xc4, "a header of up to 255 bytes");
    frame[9..9 + usize::from(frame[8])].to_vec()
}

/// EN-1: every bit of a frame in a batch, flipped one at a time: none is accepted, by a receiver
/// that met the batch as by one that did not.
#[test]
fn no_flipped_bit_of_a_batch_is_accepted() {
    let mut stage = Stage::default();
    let batch = batch(&stage, 3);
    let frame = batch.letter(1).frame();
    // The chain was met, so that a flip costs one signature at the most.
    let other = batch.letters[0].clone().set(MID, bin(unique()));
    stage.accepts(&Batch::of([other]).letter(0).frame());
    for met in [false, true] {
        if met {
            stage.accepts(&batch.letter(0).frame());
        }
        for bit in 0..8 * frame.len() {
            let mut bytes = frame.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let outcome = stage.decide(&bytes.into(), SUBJ, None);
            assert!(
                outcome.result.is_err(),
                "bit {} of byte {}",
                bit % 8,
                bit / 8
            );
        }
    }
    stage.accepts(&frame);
}

/// Every value of a proof and of the body in it: one encoding each, under valid signatures.
#[test]
fn a_batch_has_one_encoding() {
    let mut stage = Stage::default();
    let batch = batch(&stage, 3);
    let proofs = mutants(&batch.proof(0), &[], &[]);
    let bodies = mutants(&batch.body, &[], &[]);
    assert!(proofs.len() > 100 && bodies.len() > 100);
    let in_proof = |bytes| batch.letter_with(0, |_| Value::Raw(bytes));
    let in_body = |bytes| {
        let changed = batch.clone().edit(|b| b.body_bytes = Some(bytes));
        changed.letter(0)
    };
    let letters = proofs
        .into_iter()
        .map(|mutant| (mutant.label, in_proof(mutant.bytes)))
        .chain(
            bodies
                .into_iter()
                .map(|mutant| (mutant.label, in_body(mutant.bytes))),
        );
    for (label, letter) in letters {
        let outcome = stage.decide(&letter.frame(), SUBJ, None);
        let refused = outcome.result.err().unwrap_or_else(|| panic!("{label}"));
        // A fault of form is found before any signature.
        let class = refused.rejection.class();
        let form = [Class::Malformed, Class::TooLarge, Class::UnsupportedVersion];
        assert!(form.contains(&class), "{label}: {}", refused.rejection);
    }
    stage.accepts(&batch.letter(0).frame());
}

/// ID-2: a batch of one key says nothing about a message of another.
#[test]
fn a_batch_of_another_key_is_refused() {
    let mut stage = Stage::default();
    for liar in ["mallory", "carol", "bob", "dave"] {
        let liar = Party::named(liar);
        let other = batch(&stage, 3).set(KEY, bin(liar.bytes().0));
        let as_alice = |l: &mut Letter| l.signer = Party::named("alice");
        // Whoever signs it: the liar, or alice herself.
        let frame = other.clone().edit(|b| b.signer = liar.clone());
        let frame = frame.letter(1).edit(as_alice).frame();
        let refusal = stage.refuses(&frame, Class::KeyMismatch);
        assert_eq!((refusal.code(), refusal.place()), (701, Some(Place::Batch)));
        stage.refuses(&other.letter(1).frame(), Class::KeyMismatch);
        // Alice's batch, signed by the liar.
        let forged = batch(&stage, 3).edit(|b| b.signer = liar);
        stage.refuses(&forged.letter(1).frame(), Class::BadSignature);
    }
}

/// EN-14: a header says how it is signed, so neither form is passed off as the other.
#[test]
fn a_header_is_proved_in_the_form_that_it_names() {
    let mut stage = Stage::default();
    let in_batch = batch(&stage, 1).letter(0);
    for mode in [0, 1, 3, 255] {
        let other = in_batch.clone().edit(|l| l.frame_mode = Value::Uint(mode));
        assert_eq!(stage.refuses(&other.frame(), Class::Malformed).code(), 103);
    }
    let alone = Letter::publish(&stage.chain(&["alice"]), SUBJ);
    let leaves = vec![leaf(&alone.header_encoded())];
    let passed_off = Batch::with_leaves(vec![alone], leaves).letter(0);
    let passed_off = passed_off.edit(|l| l.frame_mode = Value::Uint(2));
    assert_eq!(
        stage.refuses(&passed_off.frame(), Class::Malformed).code(),
        112
    );
    // Signed by itself, as a header of mode 2.
    let alone = Letter::publish(&stage.chain(&["alice"]), SUBJ).set(MODE, Value::Uint(2));
    assert_eq!(stage.refuses(&alone.frame(), Class::Malformed).code(), 112);
}

/// Between two messages of one batch its signer is revoked.
#[test]
fn revocation_between_two_messages_of_a_batch_counts() {
    type Revoke = fn(&mut RevocationSet, &Batch);
    let kinds: [(Revoke, u16); 2] = [
        (|set, _| set.revoke_key(Party::named("alice").bytes()), 1802),
        (
            |set, _| set.revoke_agent(AgentId::parse("carol").unwrap()),
            1803,
        ),
    ];
    for (revoke, code) in kinds {
        let mut stage = Stage::barren(crate::forge::Mesh::new());
        let batch = batch(&stage, 3);
        stage.accepts(&batch.letter(0).frame());
        stage.accepts(&batch.letter(2).frame());
        let mut mesh = stage.mesh.clone();
        revoke(&mut mesh.revoked, &batch);
        mesh.epochs[2] += 1;
        stage.trust = mesh.trust();
        let refusal = stage.refuses(&batch.letter(1).frame(), Class::Revoked);
        assert_eq!(refusal.code(), code);
    }
}

/// One message of a batch, and nothing else of it, is evidence for a third party.
#[test]
fn one_message_of_a_batch_is_evidence() {
    let stage = Stage::default();
    let batch = batch(&stage, 9);
    let judge = Judge::new(stage.verifier.skew());
    let found = |letter: &Letter| {
        let frame = letter.frame();
        judge.judge(&frame, &Testimony::default(), &stage.trust, stage.now)
    };
    let held = found(&batch.letter(4));
    assert!(held.holds() && held.authentic);
    assert_eq!(held.sender.unwrap().as_str(), "alice");
    assert_eq!(held.object, Some(batch.letters[4].id()));
    let proof = batch.proof(5);
    let moved = found(&batch.letter_with(4, |_| proof));
    assert!(!moved.authentic && moved.rejection.unwrap().code() == 401);
}

/// A batch is signed under a tag of its own.
#[test]
fn batches_signed_under_another_tag_are_refused() {
    let mut stage = Stage::default();
    for tag in Tag::ALL {
        let frame = batch(&stage, 2).edit(|b| b.tag = tag).letter(1).frame();
        match tag {
            Tag::Batch => drop(stage.accepts(&frame)),
            _ => drop(stage.refuses(&frame, Class::BadSignature)),
        }
    }
}
