//! Evidence for a third party: the checks of a receiver, without what only the receiver knows.

use trustmesh::proto::rejection::Class;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::verify::Judge;
use trustmesh::proto::verify::Judgement;
use trustmesh::proto::verify::NotChecked;
use trustmesh::proto::verify::Pending;
use trustmesh::proto::verify::Testimony;

use crate::forge::ChainSpec;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Stage;
use crate::forge::chain::SERVE;
use crate::forge::chain::scope;
use crate::forge::letter::AUDIENCE;
use crate::forge::value::bin;

const SUBJ: &str = "store.docs.get";
const REQUEST: ObjectId = ObjectId([7; 32]);

fn judge(stage: &Stage, letter: &Letter, testimony: &Testimony<'_>) -> Judgement {
    let judge = Judge::new(stage.verifier.skew());
    let once = judge.judge(&letter.frame(), testimony, &stage.trust, stage.now);
    // A chain met before skips its signatures and nothing else.
    let again = judge.judge(&letter.frame(), testimony, &stage.trust, stage.now);
    assert_eq!(once.rejection, again.rejection);
    once
}

fn refused(stage: &Stage, letter: &Letter, testimony: &Testimony<'_>) -> u16 {
    let judgement = judge(stage, letter, testimony);
    assert!(!judgement.holds());
    judgement.rejection.unwrap().code()
}

#[test]
fn a_sound_envelope_holds_and_says_what_was_left_out() {
    let stage = Stage::default();
    let letter = Letter::publish(&stage.chain(&["carol", "alice"]), SUBJ);
    let judgement = judge(&stage, &letter, &Testimony::default());
    assert!(judgement.holds() && judgement.authentic);
    assert_eq!(judgement.sender.unwrap().as_str(), "alice");
    assert_eq!(judgement.object, Some(letter.id()));
    assert_eq!(judgement.chain.unwrap().links().len(), 2);
    assert!(judgement.payload_len.is_some());
    let names: Vec<_> = judgement.not_checked.names().collect();
    assert_eq!(names, ["delivery", "receiver", "replay"]);
}

/// Neither the audience nor an earlier sight of it concerns a third party.
#[test]
fn what_only_the_receiver_knows_refuses_nothing() {
    let stage = Stage::default();
    let to_erin = Letter::publish(&stage.chain(&["alice"]), SUBJ)
        .set(AUDIENCE, bin(Party::named("erin").bytes().0));
    let judgement = judge(&stage, &to_erin, &Testimony::default());
    assert!(judgement.holds());
    assert!(judgement.not_checked.contains(NotChecked::AUDIENCE));
    assert!(judgement.not_checked.contains(NotChecked::REPLAY));
}

/// Sessions and rates are the receiver's: a rule that asks for them is named, not applied.
#[test]
fn a_rule_that_asks_for_a_session_or_a_rate_is_reported() {
    let stage = Stage::of(Mesh::new().policy(
        r#"{ "rules": [ { "name": "docs", "effect": "allow", "actions": ["pub", "sub"],
             "subjects": "store.>", "session": true, "rate": { "count": 1, "per_ms": 60000 } } ] }"#,
    ));
    let letter = Letter::publish(&stage.chain(&["alice"]), SUBJ);
    let judgement = judge(&stage, &letter, &Testimony::default());
    assert!(judgement.holds());
    assert!(judgement.not_checked.contains(NotChecked::SESSION));
    assert!(judgement.not_checked.contains(NotChecked::RATE));
    let elsewhere = Letter::publish(&stage.chain(&["alice"]), "orders.new");
    assert_eq!(refused(&stage, &elsewhere, &Testimony::default()), 2001);
}

#[test]
fn the_subject_of_delivery_counts_when_it_is_known() {
    let stage = Stage::default();
    let letter = Letter::publish(&stage.chain(&["alice"]), SUBJ);
    let on = |subject| Testimony {
        subject: Some(subject),
        request: None,
    };
    let judgement = judge(&stage, &letter, &on(SUBJ));
    assert!(judgement.holds());
    assert!(!judgement.not_checked.contains(NotChecked::DELIVERY));
    assert_eq!(refused(&stage, &letter, &on("store.docs.put")), 901);
}

#[test]
fn evidence_is_judged_at_a_time() {
    let stage = Stage::default();
    let frame = Letter::publish(&stage.chain(&["alice"]), SUBJ).frame();
    let judge = Judge::new(stage.verifier.skew());
    for (at, class) in [
        (NOW, None),
        (NOW + 60_000, Some(Class::Expired)),
        (NOW - 60_000, Some(Class::NotYetValid)),
    ] {
        let at = Timestamp::from_millis(at);
        let judgement = judge.judge(&frame, &Testimony::default(), &stage.trust, at);
        assert_eq!(judgement.rejection.map(|r| r.class()), class);
    }
}

/// An answer is authorised by the subject of its request, which it does not name.
#[test]
fn an_answer_is_judged_beside_its_request_or_refused() {
    let stage = Stage::default();
    let bob = Party::named("bob");
    let inbox = format!("_INBOX.{}.1", bob.bytes().to_nkey());
    let serves = |pattern| -> ChainSpec {
        stage
            .chain(&["carol"])
            .edit(0, |link| link.scope = scope(&[(SERVE, pattern)]))
    };
    let answer = |pattern| Letter::answer(&serves(pattern), &inbox, &bob, REQUEST);
    let pending = Pending {
        request: REQUEST,
        subject: Subject::parse(SUBJ).unwrap(),
        audience: None,
    };
    let beside = |pending| Testimony {
        subject: None,
        request: Some(pending),
    };
    let judgement = judge(&stage, &answer("store.>"), &beside(&pending));
    assert!(judgement.holds(), "{:?}", judgement.rejection);
    assert!(!judgement.not_checked.contains(NotChecked::RECEIVER));

    let alone = Testimony::default();
    assert_eq!(refused(&stage, &answer("store.>"), &alone), 1301);
    assert_eq!(refused(&stage, &answer("notes.>"), &beside(&pending)), 1501);
    let other = Pending {
        request: ObjectId([8; 32]),
        ..pending.clone()
    };
    assert_eq!(refused(&stage, &answer("store.>"), &beside(&other)), 1302);
    let to_dave = Pending {
        audience: Some(Party::named("dave").bytes()),
        ..pending.clone()
    };
    assert_eq!(refused(&stage, &answer("store.>"), &beside(&to_dave)), 1305);
    let event = Letter::publish(&stage.chain(&["alice"]), SUBJ);
    assert_eq!(refused(&stage, &event, &beside(&pending)), 1303);
}

/// A refusal comes with whatever was established by then, and marks what is only claimed.
#[test]
fn a_refusal_says_how_far_it_came() {
    let stage = Stage::default();
    let letter = Letter::publish(&stage.chain(&["alice"]), SUBJ);
    let forged = letter.clone().edit(|l| l.signer = Party::named("dave"));
    let judgement = judge(&stage, &forged, &Testimony::default());
    assert_eq!(judgement.rejection.unwrap().class(), Class::BadSignature);
    assert!(!judgement.authentic && judgement.chain.is_some());
    assert_eq!(judgement.claims.unwrap().subject.as_str(), SUBJ);
    assert_eq!(judgement.sender.unwrap().as_str(), "alice");
    assert_eq!(judgement.payload_len, None);
}
