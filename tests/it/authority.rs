//! What the authority of a mesh refuses to enrol.

use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::rejection::Class;
use trustmesh::services::authority::Authority;
use trustmesh::services::authority::AuthorityError;

fn id(text: &str) -> AgentId {
    AgentId::parse(text).unwrap()
}

/// ID-4: an id that is taken cannot be enrolled again under a new key, and stays whose it was.
#[test]
fn a_taken_id_is_not_enrolled_again() {
    let mut mesh = Authority::dev("taken").unwrap();
    let alice = mesh.agent("alice", ["pub:a"]).unwrap();
    let other = SigningKey::generate().unwrap();
    let again = mesh.enrol(&id("alice"), &other);
    assert!(matches!(again, Err(AuthorityError::Taken)), "{again:?}");
    let trust = mesh.publish().unwrap().current();
    let certificates = trust.certificates_of(&id("alice"));
    assert_eq!(certificates.len(), 1);
    assert_eq!(certificates[0].claims().key, alice.key());
}

/// ID-5: one key cannot be enrolled under two ids.
#[test]
fn a_key_belongs_to_one_id() {
    let mut mesh = Authority::dev("shared").unwrap();
    let key = SigningKey::generate().unwrap();
    mesh.enrol(&id("alice"), &key).unwrap();
    let again = mesh.enrol(&id("bob"), &key);
    assert!(matches!(again, Err(AuthorityError::Taken)), "{again:?}");
    assert!(
        mesh.publish()
            .unwrap()
            .current()
            .certificates_of(&id("bob"))
            .is_empty()
    );
}

/// ID-11: a blocked key is not enrolled under a new name; neither is a revoked one (RV-7).
#[test]
fn a_blocked_or_revoked_key_gets_no_new_name() {
    let mut mesh = Authority::dev("blocked").unwrap();
    let key = SigningKey::generate().unwrap();
    let list = format!(
        r#"{{ "blocked": {{ "keys": ["{}"] }}, "rules": [] }}"#,
        key.public().bytes()
    );
    mesh.set_policy(Policy::from_json(&list).unwrap()).unwrap();
    let refused = |outcome: Result<_, AuthorityError>| match outcome {
        Err(AuthorityError::Refused(rejection)) => rejection.class(),
        other => panic!("{:?}", other.map(|_| ())),
    };
    assert_eq!(refused(mesh.enrol(&id("fresh"), &key)), Class::Blocked);

    let revoked = SigningKey::generate().unwrap();
    mesh.revoke_key(revoked.public().bytes()).unwrap();
    assert_eq!(refused(mesh.enrol(&id("fresh"), &revoked)), Class::Revoked);
    assert!(
        mesh.publish()
            .unwrap()
            .current()
            .certificates_of(&id("fresh"))
            .is_empty()
    );
}

/// CL-10: an all-zero seed, the mark of a failed generator, is no key.
#[test]
fn an_all_zero_seed_is_no_key() {
    assert!(SigningKey::from_seed(&[0; 32]).is_err());
}

/// What cannot be granted leaves nobody enrolled, so that a second try finds the id free.
#[test]
fn a_grant_that_is_refused_enrols_nobody() {
    let mut mesh = Authority::dev("again").unwrap();
    assert!(mesh.agent("alice", ["publish:a"]).is_err());
    let brief = r#"{ "ttl": { "grant_ms": 1000 }, "rules": [] }"#;
    let open = r#"{ "rules": [] }"#;
    mesh.set_policy(Policy::from_json(brief).unwrap()).unwrap();
    let refused = mesh.agent("alice", ["pub:a"]).unwrap_err();
    assert!(matches!(refused, AuthorityError::Refused(_)), "{refused}");
    mesh.set_policy(Policy::from_json(open).unwrap()).unwrap();
    mesh.agent("alice", ["pub:a"]).unwrap();
}
