//! DO and NA: what a stranger can make us do, and the bus's own subjects.

use bytes::Bytes;
use proptest::prelude::*;

use trustmesh::proto::limits::TRUST_FILE_MAX;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::subject::SubjectPattern;
use trustmesh::proto::trust::Admission;
use trustmesh::proto::trust::TrustState;

use crate::forge::Letter;
use crate::forge::Stage;
use crate::forge::Value;
use crate::forge::chain::EVERYTHING;
use crate::forge::chain::PUB;
use crate::forge::chain::scope;
use crate::forge::letter::CONTENT_LEN;
use crate::forge::letter::EXT;
use crate::forge::letter::HEADER_FIELDS;
use crate::forge::letter::ISSUED;
use crate::forge::letter::TTL;
use crate::forge::letter::VERSION;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

const SUBJ: &str = "orders.eu.new";

fn letter(stage: &Stage) -> Letter {
    Letter::publish(&stage.chain(&["alice"]), SUBJ)
}

/// DO-2: arrays within arrays, wherever a value may stand. The reader follows the schema and never
/// recurses: on a small stack depth makes no difference. What is deep enough to be over a size
/// limit is too large before it is malformed.
#[test]
fn deep_nesting_is_refused_on_a_small_stack() {
    let run = || {
        let mut stage = Stage::default();
        for depth in [16, 600, 4_000, 100_000] {
            let nested = vec![0x91; depth];
            let whole: Bytes = [b"TMSH", &nested[..]].concat().into();
            stage.refuses(&whole, Class::Malformed);
            stage.refuses(&nested.clone().into(), Class::Malformed);
            let inside = |letter: Letter| letter.frame();
            let in_content = letter(&stage).edit(|l| l.content = Value::Raw(nested.clone()));
            stage.refuses(&inside(in_content), Class::Malformed);
            let class = |limit: usize| {
                if depth > limit {
                    Class::TooLarge
                } else {
                    Class::Malformed
                }
            };
            let in_header = letter(&stage).edit(|l| l.header_bytes = Some(nested.clone()));
            stage.refuses(&inside(in_header), class(2048));
            let in_ext = letter(&stage).set(EXT, Value::Raw(nested.clone()));
            stage.refuses(&inside(in_ext), class(1800));
            let in_chain = letter(&stage).edit(|l| l.chain = nested.clone());
            stage.refuses(&inside(in_chain), class(8192));
            let scope = stage
                .chain(&["alice"])
                .edit(0, |link| link.scope = Value::Raw(nested.clone()));
            let in_scope = Letter::publish(&scope, SUBJ);
            let class = if depth > 600 {
                Class::TooLarge
            } else {
                Class::Malformed
            };
            stage.refuses(&inside(in_scope), class);
        }
    };
    // What the test itself needs is set up on the same stack, so it is somewhat larger.
    let thread = std::thread::Builder::new()
        .stack_size(512 * 1024)
        .spawn(run);
    thread.unwrap().join().unwrap();
}

/// DO-3: claims of four gigabytes in five bytes, at every place of a frame where a length stands.
/// The reader slices and never allocates from a claim, so the proof is that each is refused for
/// ending too early (or for its type), not for lack of memory.
#[test]
fn claimed_lengths_cost_nothing() {
    let mut stage = Stage::default();
    for marker in [0xc6, 0xdb, 0xdd, 0xc9, 0xdf, 0xc5, 0xda, 0xdc, 0xde] {
        let claim = vec![marker, 0xff, 0xff, 0xff, 0xff];
        stage.refuses(&claim.clone().into(), Class::Malformed);
        stage.refuses(&[b"TMSH", &claim[..]].concat().into(), Class::Malformed);
        let honest = letter(&stage);
        let tree = honest.tree();
        for part in 0..6 {
            let tree = tree.with(&[part], Value::Raw(claim.clone()));
            let frame: Bytes = [b"TMSH", &tree.encode()[..]].concat().into();
            stage.refuses(&frame, Class::Malformed);
        }
        for field in 0..HEADER_FIELDS.len() {
            let claim = Value::Raw(claim.clone());
            let frame = honest.clone().edit(|l| {
                l.header_bytes = Some(l.header_tree().with(&[field], claim).encode());
            });
            stage.refuses(&frame.frame(), Class::Malformed);
        }
        for part in 0..3 {
            let claim = Value::Raw(claim.clone());
            let frame = honest
                .clone()
                .edit(|l| l.content = l.content.with(&[part], claim));
            stage.refuses(&frame.frame(), Class::Malformed);
        }
        let frame = honest.clone().edit(|l| l.chain = claim.clone()).frame();
        stage.refuses(&frame, Class::Malformed);
        let claim = Value::Raw(claim.clone());
        let chain = stage.chain(&["alice"]).edit(0, |link| link.scope = claim);
        stage.refuses(&Letter::publish(&chain, SUBJ).frame(), Class::Malformed);
    }
}

/// DO-7: more capabilities, tokens or bytes than a link may have.
#[test]
fn oversized_scopes_are_refused() {
    let mut stage = Stage::default();
    let sixteen = vec![(PUB, "a.>"); 15];
    let with_cover = |mut caps: Vec<(u64, &'static str)>| {
        caps.push((EVERYTHING, ">"));
        caps
    };
    let chain = stage
        .chain(&["alice"])
        .edit(0, |link| link.scope = scope(&with_cover(sixteen.clone())));
    stage.accepts(&Letter::publish(&chain, SUBJ).frame());
    for count in [17, 100, 1_000, 100_000] {
        let many = vec![(PUB, "a"); count];
        let chain = stage
            .chain(&["alice"])
            .edit(0, |link| link.scope = scope(&many));
        stage.refuses(&Letter::publish(&chain, SUBJ).frame(), Class::TooLarge);
    }
    let wild = ["*"; 200].join(".");
    let chain = stage
        .chain(&["alice"])
        .edit(0, |link| link.scope = scope(&[(PUB, &wild)]));
    stage.refuses(&Letter::publish(&chain, SUBJ).frame(), Class::TooLarge);
    let frame = Letter::publish(&stage.chain(&["alice"]), &["t"; 200].join(".")).frame();
    stage.refuses(&frame, Class::TooLarge);
    // Too many tokens in few enough bytes is not a subject.
    let frame = Letter::publish(&stage.chain(&["alice"]), &["t"; 17].join(".")).frame();
    stage.refuses(&frame, Class::Malformed);
}

/// DO-9: the signed hop count stops a loop.
#[test]
fn work_forwarded_too_often_is_refused() {
    let mut stage = Stage::default();
    let hops = |hops: u8| list([list([Value::Uint(3), Value::Bool(true), bin([hops])])]);
    let frame = letter(&stage).set(EXT, hops(16)).frame();
    assert_eq!(stage.accepts(&frame).claims().extensions.hops, 16);
    for over in [17, 255] {
        let frame = letter(&stage).set(EXT, hops(over)).frame();
        assert_eq!(stage.refuses(&frame, Class::DepthExceeded).code(), 1603);
    }
}

/// DO-13: the extremes of every number of a header and a link.
#[test]
fn integer_extremes_do_not_overflow() {
    let mut stage = Stage::default();
    let extremes = [
        0,
        1,
        0x7f,
        0x80,
        0xffff_ffff,
        1 << 32,
        u64::MAX - 1,
        u64::MAX,
    ];
    for (issued, ttl) in extremes.iter().flat_map(|a| extremes.map(|b| (*a, b))) {
        let frame = letter(&stage)
            .set(ISSUED, Value::Uint(issued))
            .set(TTL, Value::Uint(ttl))
            .frame();
        let rejection = stage.deliver(&frame).result.unwrap_err().rejection;
        let class = rejection.class();
        assert!(
            matches!(
                class,
                Class::Malformed | Class::Expired | Class::NotYetValid
            ),
            "{issued} {ttl}: {rejection}"
        );
    }
    for extreme in extremes {
        for field in [VERSION, CONTENT_LEN] {
            let frame = letter(&stage)
                .edit(|l| (l.header, l.keep_digest) = (l.header_tree(), true))
                .set(field, Value::Uint(extreme));
            let accepted = stage.deliver(&frame.frame()).result.is_ok();
            assert_eq!(accepted, field == VERSION && extreme == 1);
        }
        for other in extremes {
            let chain = stage.chain(&["alice"]).edit(0, |link| {
                (link.from, link.until) = (Value::Uint(extreme), Value::Uint(other));
            });
            assert!(
                stage
                    .deliver(&Letter::publish(&chain, SUBJ).frame())
                    .result
                    .is_err()
            );
        }
    }
    assert_eq!(stage.guard.len(), 1);
}

/// NA-2: wildcards never reach the bus's own subjects; naming them does.
#[test]
fn reserved_subjects_must_be_named() {
    let mut stage = Stage::default();
    let reserved = [
        "$SYS.REQ.SERVER.PING",
        "$JS.API.STREAM.PURGE.AUDIT",
        "$KV.trust.root",
        "_INBOX.x.1",
        "$G",
        "_R_.a.b",
    ];
    for subject in reserved {
        let first = subject.split('.').next().unwrap();
        let wild = vec!["*"; subject.split('.').count()].join(".");
        // Bob's own pattern names the tree, so that only the sender's scope decides.
        let named = if subject.contains('.') {
            format!("{first}.>")
        } else {
            first.into()
        };
        stage.pattern = SubjectPattern::parse(&named).unwrap();
        for pattern in [">", &wild] {
            assert!(
                !SubjectPattern::parse(pattern)
                    .unwrap()
                    .matches(&Subject::parse(subject).unwrap())
            );
            let chain = stage
                .chain(&["alice"])
                .edit(0, |link| link.scope = scope(&[(EVERYTHING, pattern)]));
            let mut open = stage.mesh.clone();
            open.policy = policy_naming(&named);
            stage.trust = open.trust();
            let frame = Letter::publish(&chain, subject).frame();
            let refusal = stage.refuses(&frame, Class::ScopeExceeded);
            assert_eq!(refusal.code(), 1501, "{pattern} {subject}");
            // Nor may such a pattern be narrowed to the reserved name.
            let chain = stage
                .chain(&["carol", "alice"])
                .edit(0, |link| link.scope = scope(&[(EVERYTHING, pattern)]))
                .edit(1, |link| link.scope = scope(&[(EVERYTHING, subject)]));
            let frame = Letter::publish(&chain, subject).frame();
            assert_eq!(stage.refuses(&frame, Class::ScopeExceeded).code(), 1502);
        }
        let chain = stage
            .chain(&["alice"])
            .edit(0, |link| link.scope = scope(&[(EVERYTHING, subject)]));
        stage.accepts(&Letter::publish(&chain, subject).frame());
    }
}

fn policy_naming(pattern: &str) -> trustmesh::proto::policy::Policy {
    let json = format!(
        r#"{{ "rules": [
            {{ "name": "all", "effect": "allow", "actions": ["pub", "sub"], "subjects": ">" }},
            {{ "name": "own", "effect": "allow", "actions": ["pub", "sub"],
               "subjects": "{pattern}" }} ] }}"#
    );
    trustmesh::proto::policy::Policy::from_json(&json).unwrap()
}

/// A subject that reads like a pattern is neither matched as one nor accepted as a subject.
#[test]
fn a_concrete_subject_is_never_a_pattern() {
    let mut stage = Stage::default();
    for wild in ["orders.*", "orders.>", "*", ">", "orders.*.new"] {
        let frame = Letter::publish(&stage.chain(&["alice"]), wild).frame();
        assert_eq!(
            stage
                .refuses_on(&frame, Class::Malformed, wild, None)
                .code(),
            109
        );
        let frame = Letter::request(&stage.chain(&["alice"]), SUBJ)
            .set(crate::forge::letter::REPLY, text(wild))
            .frame();
        assert_eq!(stage.refuses(&frame, Class::Malformed).code(), 109);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

    /// Garbage of any kind, with and without the magic: refused, never a panic.
    #[test]
    fn garbage_never_panics(raw in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        thread_local!(static STAGE: std::cell::RefCell<Stage> = Stage::default().into());
        STAGE.with_borrow_mut(|stage| {
            for bytes in [raw.clone(), [b"TMSH".to_vec(), raw].concat()] {
                let outcome = stage.decide(&bytes.into(), SUBJ, None);
                prop_assert!(outcome.result.is_err());
            }
            Ok(())
        })?;
    }

    /// A valid frame with some bytes overwritten, removed or inserted, its signature made again
    /// when the header was hit: refused unless nothing changed, never a panic.
    #[test]
    fn mutated_frames_never_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..3u8, any::<u8>()), 1..6)
    ) {
        thread_local!(static STAGE: std::cell::RefCell<Stage> = Stage::default().into());
        STAGE.with_borrow_mut(|stage| {
            let honest = letter(stage);
            let edit = |mut bytes: Vec<u8>| {
                for (at, kind, byte) in &edits {
                    let at = at.index(bytes.len());
                    match kind {
                        0 => bytes[at] = *byte,
                        1 => bytes.insert(at, *byte),
                        _ => drop((bytes.len() > 1).then(|| bytes.remove(at))),
                    }
                }
                bytes
            };
            let held = stage.guard.len();
            let frame = honest.frame();
            let outer: Bytes = edit(frame.to_vec()).into();
            let changed = outer != frame;
            prop_assert_eq!(stage.deliver(&outer).result.is_err(), changed);
            prop_assert_eq!(stage.guard.len(), held + usize::from(!changed));
            // Behind a valid signature a changed header may well be a valid one: it must only be
            // decided without a panic.
            let header = edit(honest.header_encoded());
            let resigned = honest.clone().edit(|l| l.header_bytes = Some(header)).frame();
            let _ = stage.deliver(&resigned);
            let chain = edit(honest.chain.clone());
            let changed = chain != honest.chain;
            let rechained = honest.edit(|l| l.chain = chain).frame();
            let refused = stage.deliver(&rechained).result.is_err();
            prop_assert!(refused || !changed);
            Ok(())
        })?;
    }
}

/// DO-4: a trust file above its limit is refused before anything in it is read.
#[test]
fn a_trust_file_above_its_limit_is_refused_unread() {
    let files = Stage::default().mesh.files();
    for (len, class) in [
        (TRUST_FILE_MAX, Class::Malformed),
        (TRUST_FILE_MAX + 1, Class::TooLarge),
    ] {
        let mut large = files.clone();
        large.registry = vec![0; len].into();
        let refused = TrustState::assemble(&large, Admission::Production, None).unwrap_err();
        assert_eq!(refused.class(), class, "{len} bytes");
    }
}
