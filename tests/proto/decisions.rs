//! The same message, the same decision: whatever the receiver remembers, and whoever encodes.

use bytes::Bytes;
use proptest::prelude::*;

use trustmesh::proto::chain::Chain;
use trustmesh::proto::envelope::EnvelopeDraft;
use trustmesh::proto::envelope::Extensions;
use trustmesh::proto::envelope::inbox_prefix;
use trustmesh::proto::limits::TTL_MAX_MS;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::replay::MessageId;
use trustmesh::proto::scope::Action;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::verify::Scene;
use trustmesh::proto::verify::accept_grant;
use trustmesh::proto::verify::check_send;

use crate::forge::ChainSpec;
use crate::forge::HOUR;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Stage;
use crate::forge::Value;
use crate::forge::chain::PUB;
use crate::forge::chain::scope;
use crate::forge::letter;
use crate::forge::unique;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

const SUBJ: &str = "orders.eu.new";

/// Ways to spoil a valid letter, or not to.
fn variants(chain: &ChainSpec) -> Vec<Letter> {
    let base = || Letter::publish(chain, SUBJ);
    let last = chain.links.len() - 1;
    let rechained = |changed: ChainSpec| base().edit(|l| l.chain = changed.encode());
    let sent_under = |changed: ChainSpec| Letter::publish(&changed, SUBJ);
    let change = |f: fn(&mut crate::forge::chain::LinkSpec)| chain.clone().edit(last, f);
    vec![
        base(),
        Letter::request(chain, SUBJ),
        Letter::publish(chain, "notes.private"),
        base()
            .payload("other")
            .edit(|l| l.signer = Party::named("mallory")),
        base().edit(|l| l.signature = Some(bin([1; 64]))),
        base().set(letter::ISSUED, Value::Uint(NOW - HOUR)),
        base().set(letter::ISSUED, Value::Uint(NOW + HOUR)),
        base().set(letter::AUDIENCE, bin([7; 32])),
        base().set(letter::LEAF, bin([7; 32])),
        base().set(letter::MESH, bin([7; 16])),
        base().set(letter::ACTION, Value::Uint(8)),
        base().set(letter::TTL, Value::Uint(0)),
        base().set(letter::VERSION, Value::Uint(2)),
        base().edit(|l| l.content = list([])),
        base().edit(|l| l.chain.push(0)),
        base().edit(|l| l.chain.truncate(l.chain.len() - 1)),
        rechained(change(|link| link.signature = Some(bin([1; 64])))),
        rechained(change(|link| link.nonce = bin([1; 16]))),
        sent_under(change(|link| link.signature = Some(bin([1; 64])))),
        sent_under(change(|link| link.signer = Some(Party::named("mallory")))),
        sent_under(change(|link| link.scope = scope(&[(PUB, "notes.>")]))),
        sent_under(change(|link| link.until = Value::Uint(NOW - HOUR / 4))),
        sent_under(change(|link| link.from = Value::Uint(NOW + HOUR / 4))),
        sent_under(change(|link| link.give_to(&Party::named("mallory")))),
        sent_under(change(|link| link.remaining = Value::Uint(9))),
    ]
}

/// A receiver that has met every chain and one that has met none decide alike, down to the link
/// and the reason.
#[test]
fn cold_and_warm_decide_alike() {
    let deny = r#"{ "rules": [
        { "name": "all", "effect": "allow", "actions": ["pub", "sub", "req"], "subjects": ">" },
        { "name": "no", "effect": "deny", "actions": ["pub"], "subjects": "notes.private" } ] }"#;
    let mut stage = Stage::of(Mesh::new().policy(deny));
    let chains = [
        stage.chain(&["alice"]),
        stage.chain(&["carol", "alice"]),
        stage.chain(&["carol", "dave", "erin", "alice"]),
    ];
    let corpus: Vec<Bytes> = chains
        .iter()
        .flat_map(|chain| variants(chain).into_iter().map(|letter| letter.frame()))
        .collect();
    for chain in &chains {
        stage.accepts(&Letter::publish(chain, SUBJ).frame());
    }
    // The corpus itself warms the receiver for whatever chains it can be warmed for.
    let held = stage.guard.clone();
    let decide_all = |stage: &mut Stage, fresh: bool| -> Vec<_> {
        stage.guard = held.clone();
        let decide = |frame: &Bytes| {
            if fresh {
                stage.verifier = stage.cold();
            }
            let outcome = stage.deliver(frame);
            let accepted = outcome
                .result
                .ok()
                .map(|envelope| envelope.claims().clone());
            (
                outcome.decision.rejection,
                accepted,
                outcome.decision.authentic,
            )
        };
        corpus.iter().map(decide).collect()
    };
    let warming = decide_all(&mut stage, false);
    let warm = decide_all(&mut stage, false);
    let cold = decide_all(&mut stage, true);
    assert_eq!(warm, cold);
    assert_eq!(warming, warm);
    let accepted = warm
        .iter()
        .filter(|(rejection, ..)| rejection.is_none())
        .count();
    assert_eq!(accepted, 2 * chains.len());
    // Every variant but the honest ones was refused, in many different ways.
    let mut classes: Vec<Class> = warm
        .iter()
        .filter_map(|(r, ..)| r.map(|r| r.class()))
        .collect();
    classes.sort_unstable();
    classes.dedup();
    assert!(classes.len() >= 11, "{classes:?}");
}

/// A token, a subject of a few of them.
fn subjects() -> impl Strategy<Value = String> {
    proptest::collection::vec("[a-zA-Z0-9_$~-]{1,12}", 1..6)
        .prop_map(|tokens| format!("orders.{}", tokens.join(".")))
}

prop_compose! {
    fn drafts()(
        request in any::<bool>(),
        subject in subjects(),
        age in 0..10_000u64,
        ttl in 10_000..=TTL_MAX_MS,
        mid: [u8; 16],
        headers in proptest::collection::vec(("[!-9;-~]{1,20}", "[^\0\r\n]{0,40}"), 0..5),
        payload in proptest::collection::vec(any::<u8>(), 0..70_000),
        epochs: Option<[u64; 3]>,
        trace in proptest::option::of("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
        hops in 0..=16u8,
        addressed in any::<bool>(),
        grants in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..4),
    ) -> EnvelopeDraft {
        let action = if request { Action::Request } else { Action::Publish };
        let issued = Timestamp::from_millis(NOW - age);
        let subject = Subject::parse(&subject).unwrap();
        let mut draft = EnvelopeDraft::new(MessageId(mid), issued, action, subject);
        let inbox = inbox_prefix(&Party::named("alice").bytes());
        draft.reply = request.then(|| Subject::parse(&format!("{inbox}.1")).unwrap());
        draft.audience = addressed.then(|| Party::named("bob").bytes());
        draft.ttl_ms = ttl;
        draft.headers = headers;
        draft.payload = payload.into();
        draft.payload_type = "application/octet-stream";
        draft.grants = grants.into_iter().map(Bytes::from).collect();
        draft.extensions = Extensions {
            epochs,
            traceparent: trace.map(Bytes::from),
            hops,
            approval: None,
        };
        draft
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// What is drafted is what is verified, field by field.
    #[test]
    fn what_is_drafted_is_what_arrives(draft in drafts()) {
        let mut stage = Stage::default();
        let (alice, carol) = (Party::named("alice"), Party::named("carol"));
        let credential = stage.mesh.line(&[&carol, &alice], &["pub+req+delegate:orders.>"]);
        let signed = draft.sign(&credential).unwrap();
        let id = signed.id();
        let accepted = stage.accepts(&signed.into_bytes());
        let claims = accepted.claims();
        prop_assert_eq!(accepted.id(), id);
        prop_assert_eq!(claims.mid, draft.mid);
        prop_assert_eq!(claims.issued, draft.issued);
        prop_assert_eq!(claims.ttl_ms, draft.ttl_ms);
        prop_assert_eq!(claims.action, draft.action);
        prop_assert_eq!(&claims.subject, &draft.subject);
        prop_assert_eq!(&claims.reply, &draft.reply);
        prop_assert_eq!(claims.audience, draft.audience);
        prop_assert_eq!(claims.in_reply_to, draft.in_reply_to);
        prop_assert_eq!(&claims.payload_type[..], draft.payload_type.as_bytes());
        prop_assert_eq!(&claims.extensions, &draft.extensions);
        prop_assert_eq!(accepted.payload(), &draft.payload);
        prop_assert_eq!(accepted.grants(), &draft.grants[..]);
        let headers: Vec<_> = accepted
            .headers()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        prop_assert_eq!(headers, draft.headers);
        prop_assert_eq!(accepted.sender_key(), alice.bytes());
        prop_assert_eq!(accepted.chain().digest(), credential.chain().digest());
    }

    /// Two encoders, written apart, write the same bytes: the crate's and the forge's.
    #[test]
    fn the_forge_writes_what_the_crate_writes(draft in drafts()) {
        let mesh = Mesh::new();
        let spec = ChainSpec::down(&mesh, &["carol", "alice"]);
        let chain = Chain::parse(spec.encode().into()).unwrap();
        let alice = Party::named("alice");
        let credential = mesh.hold(chain, &alice);
        let crate_bytes = draft.sign(&credential).unwrap().into_bytes();
        let optional = |bytes: Option<[u8; 32]>| bytes.map_or(Value::Nil, bin);
        let mut extensions = Vec::new();
        let mut extension = |id: u64, critical: bool, value: &[u8]| {
            extensions.push(list([Value::Uint(id), Value::Bool(critical), bin(value)]));
        };
        if let Some(epochs) = draft.extensions.epochs {
            extension(1, false, &epochs.map(u64::to_be_bytes).concat());
        }
        if let Some(trace) = &draft.extensions.traceparent {
            extension(2, false, trace);
        }
        if draft.extensions.hops > 0 {
            extension(3, true, &[draft.extensions.hops]);
        }
        let headers = draft.headers.iter().map(|(n, v)| list([text(n), text(v)]));
        let content = list([list(headers), list(draft.grants.iter().map(bin)), bin(&draft.payload)]);
        let reply = draft.reply.as_ref().map_or(Value::Nil, |reply| text(reply.as_str()));
        let forged = Letter::publish(&spec, draft.subject.as_str())
            .set(letter::MID, bin(draft.mid.0))
            .set(letter::ISSUED, Value::Uint(draft.issued.as_millis()))
            .set(letter::TTL, Value::Uint(u64::from(draft.ttl_ms)))
            .set(letter::ACTION, Value::Uint(draft.action as u64))
            .set(letter::REPLY, reply)
            .set(letter::AUDIENCE, optional(draft.audience.map(|key| key.0)))
            .set(letter::PAYLOAD_TYPE, text(draft.payload_type))
            .set(letter::EXT, list(extensions))
            .edit(|l| l.content = content);
        prop_assert_eq!(forged.frame(), crate_bytes);
    }
}

/// What a receiver would refuse in the envelope itself cannot be signed.
#[test]
fn signing_refuses_what_receiving_would() {
    let mesh = Mesh::new();
    let credential = mesh.grant(&Party::named("alice"), 0, &["pub:>"]);
    let draft = || {
        let subject = Subject::parse(SUBJ).unwrap();
        let now = Timestamp::from_millis(NOW);
        EnvelopeDraft::new(MessageId(unique()), now, Action::Publish, subject)
    };
    let refused = |change: &dyn Fn(&mut EnvelopeDraft)| {
        let mut draft = draft();
        change(&mut draft);
        draft.sign(&credential).unwrap_err().class()
    };
    draft().sign(&credential).unwrap();
    assert_eq!(refused(&|d| d.ttl_ms = 0), Class::Malformed);
    assert_eq!(refused(&|d| d.ttl_ms = TTL_MAX_MS + 1), Class::Malformed);
    assert_eq!(refused(&|d| d.action = Action::Request), Class::Malformed);
    assert_eq!(refused(&|d| d.action = Action::Subscribe), Class::Malformed);
    assert_eq!(refused(&|d| d.action = Action::Serve), Class::Malformed);
    assert_eq!(
        refused(&|d| d.reply = Some(d.subject.clone())),
        Class::Malformed
    );
    assert_eq!(refused(&|d| d.extensions.hops = 17), Class::DepthExceeded);
    let nul = || vec![("a\0".to_owned(), String::new())];
    assert_eq!(refused(&|d| d.headers = nul()), Class::Malformed);
    let many = || vec![(String::new(), String::new()); 65];
    assert_eq!(refused(&|d| d.headers = many()), Class::TooLarge);
    let big = || vec![Bytes::from(vec![0; 8192]); 3];
    assert_eq!(refused(&|d| d.grants = big()), Class::TooLarge);
    let trace = Some(Bytes::from_static(b"00-x"));
    assert_eq!(
        refused(&|d| d.extensions.traceparent.clone_from(&trace)),
        Class::Malformed
    );
}

/// What every receiver in the same state would refuse to let a credential do is refused to the
/// sender already.
#[test]
fn sending_checks_what_receiving_would() {
    let stage = Stage::default();
    let credential = stage
        .mesh
        .grant(&Party::named("alice"), 0, &["pub:orders.>"]);
    let check = |stage: &Stage, action, subject: &str, ttl| {
        let scene = Scene {
            now: stage.now,
            trust: &stage.trust,
            sessions: &(),
        };
        let subject = Subject::parse(subject).unwrap();
        let skew = stage.verifier.skew();
        let sent = check_send(&credential, action, &subject, None, ttl, &scene, skew);
        sent.map_err(|rejection| rejection.class())
    };
    assert_eq!(check(&stage, Action::Publish, SUBJ, 1), Ok(()));
    assert_eq!(
        check(&stage, Action::Publish, "notes.a", 1),
        Err(Class::ScopeExceeded)
    );
    assert_eq!(
        check(&stage, Action::Request, SUBJ, 1),
        Err(Class::ScopeExceeded)
    );
    let too_long = check(&stage, Action::Publish, SUBJ, TTL_MAX_MS + 1);
    assert_eq!(too_long, Err(Class::PolicyDenied));
    let mut later = Stage::default();
    later.now = later.now.plus(HOUR);
    assert_eq!(check(&later, Action::Publish, SUBJ, 1), Err(Class::Expired));
}

/// A chain handed over is taken from its giver, for one's own key, and only while it holds.
#[test]
fn a_grant_is_for_its_holder_from_its_giver() {
    let stage = Stage::default();
    let (alice, bob, carol) = (
        Party::named("alice"),
        Party::named("bob"),
        Party::named("carol"),
    );
    let giver = stage.mesh.grant(&alice, 2, &["pub+delegate:orders.>"]);
    let chain = giver
        .delegate(&Mesh::draft(&bob, 0, &["pub:orders.eu.>"]))
        .unwrap();
    let take = |bytes: &Bytes, from: &Party, key: &Party, now: u64| {
        let scene = Scene {
            now: Timestamp::from_millis(now),
            trust: &stage.trust,
            sessions: &(),
        };
        let skew = stage.verifier.skew();
        let taken = accept_grant(bytes, &from.bytes(), &key.key, &scene, skew);
        taken.map(drop).map_err(|rejection| rejection.class())
    };
    assert_eq!(take(chain.bytes(), &alice, &bob, NOW), Ok(()));
    assert_eq!(
        take(chain.bytes(), &carol, &bob, NOW),
        Err(Class::ChainBroken)
    );
    assert_eq!(
        take(chain.bytes(), &alice, &carol, NOW),
        Err(Class::ChainBroken)
    );
    assert_eq!(
        take(giver.chain().bytes(), &alice, &alice, NOW),
        Err(Class::ChainBroken)
    );
    let later = NOW + HOUR / 2 + 5_000;
    assert_eq!(
        take(chain.bytes(), &alice, &bob, later),
        Err(Class::Expired)
    );
    let spec = stage.chain(&["alice", "bob"]);
    let forged = spec.edit(1, |link| link.signer = Some(Party::named("carol")));
    let forged = Bytes::from(forged.encode());
    assert_eq!(take(&forged, &alice, &bob, NOW), Err(Class::BadSignature));
}

/// DESIGN §6: what an envelope costs in bytes, at two capabilities a link.
#[test]
fn overhead_stays_below_its_bars() {
    let mesh = Mesh::new();
    let names = ["carol", "dave", "erin", "alice"].map(Party::named);
    let capabilities = ["pub+req+delegate:orders.eu.>", "sub+delegate:prices.*.spot"];
    for (holders, bar) in [(&names[3..], 520), (&names[..], 1_250)] {
        let holders: Vec<&Party> = holders.iter().collect();
        let credential = mesh.line(&holders, &capabilities);
        let subject = Subject::parse("orders.eu.created.today").unwrap();
        let now = Timestamp::from_millis(NOW);
        let mut draft = EnvelopeDraft::new(MessageId(unique()), now, Action::Publish, subject);
        draft.payload = vec![0; 1024].into();
        let overhead = draft.sign(&credential).unwrap().into_bytes().len() - 1024;
        assert!(
            overhead <= bar,
            "{overhead} bytes over {} links",
            holders.len()
        );
        println!("{} links: {overhead} bytes", holders.len());
    }
}
