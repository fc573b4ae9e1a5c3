//! Every class of rejection, with the case that hits it.

use trustmesh::proto::policy::Policy;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::replay::ReplayGuard;
use trustmesh::proto::root::Role;

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
use crate::forge::mesh::window;
use crate::forge::value::bin;

const SUBJ: &str = "orders.eu.new";

/// How a class is hit at this level.
enum Hit {
    /// This makes it.
    By(fn() -> Rejection),
    /// It is another ring's, for this reason.
    Elsewhere(&'static str),
}

/// The refusal of one letter on a stage of this mesh.
fn refusal(mesh: Mesh, change: impl FnOnce(&mut Stage) -> Letter) -> Rejection {
    let mut stage = Stage::of(mesh);
    let frame = change(&mut stage).frame();
    stage.deliver(&frame).result.unwrap_err().rejection
}

fn event(stage: &Stage) -> Letter {
    Letter::publish(&stage.chain(&["carol", "alice"]), SUBJ)
}

fn of(change: fn(Letter) -> Letter) -> Rejection {
    refusal(Mesh::new(), |stage| change(event(stage)))
}

fn hit(class: Class) -> Hit {
    match class {
        Class::Malformed => Hit::By(|| of(|l| l.set(letter::TTL, Value::Uint(0)))),
        Class::TooLarge => Hit::By(|| of(|l| l.edit(|l| l.chain = vec![0; 8193]))),
        Class::UnsupportedVersion => Hit::By(|| of(|l| l.set(letter::VERSION, Value::Uint(0)))),
        Class::BadSignature => Hit::By(|| of(|l| l.edit(|l| l.signer = Party::named("bob")))),
        Class::WeakKey => Hit::By(weak_key),
        Class::UnknownAgent => Hit::By(|| {
            refusal(Mesh::new(), |stage| {
                Letter::publish(&stage.chain(&["mallory"]), SUBJ)
            })
        }),
        Class::KeyMismatch => Hit::By(key_mismatch),
        Class::WrongAudience => Hit::By(|| of(|l| l.set(letter::AUDIENCE, bin([1; 32])))),
        Class::SubjectMismatch => Hit::By(|| {
            let mut stage = Stage::default();
            let frame = event(&stage).frame();
            stage
                .decide(&frame, "orders.us.new", None)
                .result
                .unwrap_err()
                .rejection
        }),
        Class::NotYetValid => Hit::By(|| of(|l| l.set(letter::ISSUED, Value::Uint(NOW + HOUR)))),
        Class::Expired => Hit::By(|| of(|l| l.set(letter::ISSUED, Value::Uint(NOW - HOUR)))),
        Class::Replay => Hit::By(|| {
            refusal(Mesh::new(), |stage| {
                let letter = event(stage);
                stage.accepts(&letter.frame());
                letter
            })
        }),
        Class::UnexpectedReply => Hit::By(|| {
            let mut stage = Stage::default();
            let frame = event(&stage).frame();
            stage
                .decide_answer(&frame, None)
                .result
                .unwrap_err()
                .rejection
        }),
        Class::ChainBroken => Hit::By(|| of(|l| l.edit(|l| l.chain = vec![0x90]))),
        Class::ScopeExceeded => Hit::By(|| {
            refusal(Mesh::new(), |stage| {
                let chain = stage.chain(&["alice"]);
                Letter::publish(
                    &chain.edit(0, |l| l.scope = scope(&[(PUB, "notes.a")])),
                    SUBJ,
                )
            })
        }),
        Class::DepthExceeded => Hit::By(|| {
            refusal(Mesh::new(), |stage| {
                let chain = stage.chain(&["alice"]);
                Letter::publish(&chain.edit(0, |l| l.remaining = Value::Uint(9)), SUBJ)
            })
        }),
        Class::UntrustedRoot => Hit::By(|| of(|l| l.set(letter::MESH, bin([1; 16])))),
        Class::Revoked => Hit::By(|| {
            let mut mesh = Mesh::new();
            mesh.revoked.revoke_key(Party::named("carol").bytes());
            refusal(mesh, |stage| event(stage))
        }),
        Class::Blocked => Hit::By(|| {
            let json = r#"{ "blocked": { "agents": ["carol"] }, "rules": [
                { "name": "r", "effect": "allow", "actions": ["sub"], "subjects": ">" } ] }"#;
            refusal(Mesh::new().policy(json), |stage| event(stage))
        }),
        Class::PolicyDenied => Hit::By(|| {
            let mut mesh = Mesh::new();
            mesh.policy = Policy::default();
            refusal(mesh, |stage| event(stage))
        }),
        Class::TrustTooLow => Hit::By(|| {
            let json = r#"{ "rules": [ { "name": "r", "effect": "allow",
                "actions": ["pub", "sub"], "subjects": ">", "min_score": 1 } ] }"#;
            refusal(Mesh::new().policy(json), |stage| event(stage))
        }),
        Class::StaleState => Hit::By(|| {
            let mut mesh = Mesh::new();
            mesh.windows[1] = window(NOW - HOUR, NOW - HOUR / 2);
            refusal(mesh, |stage| event(stage))
        }),
        Class::Overloaded => Hit::By(|| {
            refusal(Mesh::new(), |stage| {
                stage.guard = ReplayGuard::new(stage.verifier.skew(), None).with_capacity(0, 0);
                event(stage)
            })
        }),
        Class::HandshakeFailed => Hit::Elsewhere("only handshake messages are refused so"),
        Class::AuditUnavailable => Hit::Elsewhere("made where the audit slot is taken"),
        Class::Internal => Hit::Elsewhere("made where handlers run and random numbers are drawn"),
        other => panic!("a new class needs a case here: {}", other.name()),
    }
}

fn weak_key() -> Rejection {
    // The neutral element.
    let mesh = Mesh::new();
    let mut weak = [0; 32];
    weak[0] = 1;
    crate::identity::certify(&mesh, |body| body.with(&[4], bin(weak))).unwrap_err()
}

fn key_mismatch() -> Rejection {
    let mesh = Mesh::new();
    let (alice, carol) = (Party::named("alice"), Party::named("carol"));
    let claims = mesh.certificate_claims(&alice, window(NOW, NOW + HOUR));
    let registrar = mesh.role(Role::Registrar);
    trustmesh::proto::certificate::UnverifiedCertificate::sign(
        &claims,
        (0, &registrar.key),
        &carol.key,
    )
    .unwrap_err()
}

/// Every class is hit by a case here, or named with the reason why it cannot be.
#[test]
fn every_class_is_hit_or_excused() {
    let mut elsewhere = Vec::new();
    for class in Class::ALL {
        match hit(class) {
            Hit::By(make) => {
                let rejection = make();
                assert_eq!(rejection.class(), class, "{rejection}");
                assert_eq!(rejection.code() / 100, class as u16);
            }
            Hit::Elsewhere(reason) => {
                assert!(!reason.is_empty());
                elsewhere.push(class);
            }
        }
    }
    let excused = [
        Class::HandshakeFailed,
        Class::AuditUnavailable,
        Class::Internal,
    ];
    assert_eq!(elsewhere, excused);
}

/// An overload refuses; it never takes an old id's place.
#[test]
fn overloads_consume_nothing() {
    let mut stage = Stage::barren(Mesh::new());
    stage.guard = ReplayGuard::new(stage.verifier.skew(), None).with_capacity(9, 0);
    let frame = event(&stage).frame();
    assert_eq!(stage.refuses(&frame, Class::Overloaded).code(), 2402);
}
