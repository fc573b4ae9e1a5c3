//! FR-7 and what else may be wrong with an answer.

use trustmesh::proto::rejection::Class;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::subject::SubjectPattern;
use trustmesh::proto::verify::Pending;

use crate::forge::ChainSpec;
use crate::forge::Letter;
use crate::forge::Party;
use crate::forge::Stage;
use crate::forge::Value;
use crate::forge::chain::PUB;
use crate::forge::chain::REQ;
use crate::forge::chain::SERVE;
use crate::forge::chain::scope;
use crate::forge::letter::ACTION;
use crate::forge::letter::AUDIENCE;
use crate::forge::letter::IN_REPLY_TO;
use crate::forge::letter::REPLY;
use crate::forge::value::bin;
use crate::forge::value::text;

const SUBJ: &str = "store.docs.get";
const REQUEST: ObjectId = ObjectId([7; 32]);

fn inbox() -> String {
    format!("_INBOX.{}.1", Party::named("bob").bytes().to_nkey())
}

fn pending() -> Pending {
    Pending {
        request: REQUEST,
        subject: Subject::parse(SUBJ).unwrap(),
        audience: None,
    }
}

/// Carol's grant to serve the subject that bob asked on, and nothing else.
fn server(stage: &Stage) -> ChainSpec {
    stage
        .chain(&["carol"])
        .edit(0, |link| link.scope = scope(&[(SERVE, "store.docs.>")]))
}

fn answer(stage: &Stage) -> Letter {
    Letter::answer(&server(stage), &inbox(), &Party::named("bob"), REQUEST)
}

/// An answer needs SERVE on the request's subject and no authority over the inbox.
#[test]
fn an_answer_to_the_open_request_is_accepted() {
    let mut stage = Stage::default();
    let frame = answer(&stage).frame();
    let outcome = stage.decide_answer(&frame, Some(&pending()));
    let accepted = outcome.result.unwrap();
    assert_eq!(accepted.claims().in_reply_to, Some(REQUEST));
    assert_eq!(accepted.sender().as_str(), "carol");
    // The same bytes again are a replay, whether the slot is still open or not.
    stage.refuses_answer(&frame, Class::Replay, Some(&pending()));
}

/// FR-7: an answer to another request, to none, or where requests are expected.
#[test]
fn an_answer_nobody_waits_for_is_refused() {
    let mut stage = Stage::default();
    let frame = answer(&stage).frame();
    let unexpected = Class::UnexpectedReply;
    assert_eq!(stage.refuses_answer(&frame, unexpected, None).code(), 1301);
    let mut other = pending();
    other.request = ObjectId([8; 32]);
    assert_eq!(
        stage
            .refuses_answer(&frame, unexpected, Some(&other))
            .code(),
        1302
    );
    assert_eq!(stage.refuses(&frame, unexpected).code(), 1304);
    let chain = stage.chain(&["carol"]);
    let event = Letter::publish(&chain, &inbox()).frame();
    assert_eq!(
        stage
            .refuses_answer(&event, unexpected, Some(&pending()))
            .code(),
        1303
    );
}

/// NA-3: an eavesdropper answers first, signed with its own key and even with authority over
/// everything but serving; the true answer is still accepted.
#[test]
fn an_answer_without_serve_on_the_subject_is_refused() {
    let mut stage = Stage::default();
    for capabilities in [
        &[(PUB | REQ, ">"), (SERVE, "notes.>")][..],
        &[(SERVE, "store.docs")],
        &[(SERVE, "_INBOX.>")],
    ] {
        let chain = stage
            .chain(&["dave"])
            .edit(0, |link| link.scope = scope(capabilities));
        let letter = Letter::answer(&chain, &inbox(), &Party::named("bob"), REQUEST);
        let refusal = stage.refuses_answer(&letter.frame(), Class::ScopeExceeded, Some(&pending()));
        assert_eq!(refusal.hop(), Some(0));
    }
    let forged = answer(&stage)
        .edit(|l| l.signer = Party::named("dave"))
        .frame();
    stage.refuses_answer(&forged, Class::BadSignature, Some(&pending()));
    let frame = answer(&stage).frame();
    assert!(stage.decide_answer(&frame, Some(&pending())).result.is_ok());
}

/// FR-7: a request meant for one key is answered by that key alone, whoever else may serve.
#[test]
fn a_request_with_an_audience_is_answered_by_its_audience() {
    let mut stage = Stage::default();
    let mut to_carol = pending();
    to_carol.audience = Some(Party::named("carol").bytes());
    let chain = stage.chain(&["dave"]);
    let by_dave = Letter::answer(&chain, &inbox(), &Party::named("bob"), REQUEST).frame();
    let refusal = stage.refuses_answer(&by_dave, Class::UnexpectedReply, Some(&to_carol));
    assert_eq!(refusal.code(), 1305);
    let by_carol = answer(&stage).frame();
    assert!(
        stage
            .decide_answer(&by_carol, Some(&to_carol))
            .result
            .is_ok()
    );
}

/// FR-6: one's own request, echoed into one's own inbox, is no answer.
#[test]
fn ones_own_request_does_not_answer_itself() {
    let mut stage = Stage::default();
    let own = stage.chain(&["bob"]);
    let request = Letter::request(&own, SUBJ);
    let waiting = Pending {
        request: request.id(),
        ..pending()
    };
    let frame = request.frame();
    let refusal = stage.refuses_answer(&frame, Class::UnexpectedReply, Some(&waiting));
    assert_eq!(refusal.code(), 1303);
}

/// An answer to somebody else, and one that names nobody or no request.
#[test]
fn an_answer_is_for_its_asker() {
    let mut stage = Stage::default();
    let base = answer(&stage);
    let waiting = pending();
    let to_dave = base
        .clone()
        .set(AUDIENCE, bin(Party::named("dave").bytes().0));
    stage.refuses_answer(&to_dave.frame(), Class::WrongAudience, Some(&waiting));
    for odd in [
        base.clone().set(AUDIENCE, Value::Nil),
        base.clone().set(IN_REPLY_TO, Value::Nil),
        base.clone().set(REPLY, text("a.b")),
        base.clone().set(ACTION, Value::Uint(REQ)),
        base.clone().set(ACTION, Value::Uint(PUB)),
    ] {
        assert_eq!(
            stage
                .refuses_answer(&odd.frame(), Class::Malformed, None)
                .code(),
            115
        );
    }
    for action in [0, 2, 3, 5, 12, 13, 16, 32, 64, 255, 256] {
        let odd = base.clone().set(ACTION, Value::Uint(action)).frame();
        stage.refuses_answer(&odd, Class::Malformed, Some(&waiting));
    }
}

/// A request names its own inbox for the answer, and nobody rewrites that on the way.
#[test]
fn a_reply_subject_is_the_senders_own_inbox() {
    let mut stage = Stage::default();
    let chain = stage.chain(&["alice"]);
    let alice = Party::named("alice").bytes().to_nkey();
    let elsewhere = [
        "$JS.API.STREAM.PURGE.AUDIT".to_owned(),
        "orders.eu.new".to_owned(),
        inbox(),
        "_INBOX.1".to_owned(),
        format!("_INBOX.{alice}"),
        format!("_INBOX.{alice}x.1"),
        format!("x._INBOX.{alice}.1"),
        format!("_inbox.{alice}.1"),
    ];
    for reply in elsewhere {
        let frame = Letter::request(&chain, SUBJ)
            .set(REPLY, text(&reply))
            .frame();
        let refusal = stage.refuses(&frame, Class::SubjectMismatch);
        assert_eq!(refusal.code(), 904, "{reply}");
    }
    let frame = Letter::request(&chain, SUBJ).frame();
    let rewritten = format!("_INBOX.{alice}.2");
    for wire in [
        None,
        Some("$JS.API.STREAM.PURGE.AUDIT"),
        Some(&rewritten[..]),
    ] {
        let refusal = stage.refuses_on(&frame, Class::SubjectMismatch, SUBJ, wire);
        assert_eq!(refusal.code(), 903);
    }
    let event = Letter::publish(&chain, SUBJ).frame();
    stage.refuses_on(&event, Class::SubjectMismatch, SUBJ, Some("orders.answers"));
    stage.accepts(&frame);
}

/// Delivered to a subscription that did not ask for it.
#[test]
fn a_subject_outside_the_subscription_is_refused() {
    let mut stage = Stage {
        pattern: SubjectPattern::parse("orders.>").unwrap(),
        ..Stage::default()
    };
    let frame = Letter::publish(&stage.chain(&["alice"]), "notes.a").frame();
    assert_eq!(stage.refuses(&frame, Class::SubjectMismatch).code(), 902);
}
