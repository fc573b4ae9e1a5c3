//! What is written as text: read, printed and read again it is the same, and what it means is what a
//! naive reading says.
//!
//! The first byte of an input says what the rest is.

#![no_main]

use arbitrary::Arbitrary;
use arbitrary::Unstructured;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

use trustmesh::proto::audit::AuditRecord;
use trustmesh::proto::audit::RecordChain;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::identity::PublicKey;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::join::JoinClaims;
use trustmesh::proto::join::JoinToken;
use trustmesh::proto::join::UnverifiedJoin;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::root::FileKind;
use trustmesh::proto::scope::Action;
use trustmesh::proto::scope::Capability;
use trustmesh::proto::scope::Scope;
use trustmesh::proto::signing::MeshId;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::subject::SubjectPattern;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::Edition;
use trustmesh::proto::trust::FileContent;
use trustmesh::proto::trust::FileDraft;
use trustmesh::proto::trust::UnverifiedFile;
use trustmesh_fuzz::forge::NOW;
use trustmesh_fuzz::forge::Party;
use trustmesh_fuzz::forge::mesh::window;
use trustmesh_fuzz::plan;
use trustmesh_fuzz::plan::CapabilityPlan;
use trustmesh_fuzz::plan::Drawn;
use trustmesh_fuzz::reference;

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    let mut input = Unstructured::new(rest);
    match (kind, std::str::from_utf8(rest)) {
        (0, Ok(text)) => subject(text),
        (1, Ok(text)) => capability(text),
        (2, Ok(text)) => agent(text),
        (3, Ok(text)) => policy(text),
        (4, Ok(text)) => token(text),
        (5, Ok(text)) => audit_line(text),
        (6, Ok(text)) => key(text),
        (7, _) => {
            let _ = small_patterns(&mut input);
        }
        (8, _) => {
            let _ = small_scopes(&mut input);
        }
        (9, Ok(text)) => {
            if let Some((pattern, subject)) = text.split_once('\n') {
                matching(pattern, subject);
            }
        }
        (10, _) => {
            let statement = Bytes::copy_from_slice(rest);
            let _ = UnverifiedJoin::parse(&statement);
        }
        (11, _) => {
            let _ = made_token(&mut input);
        }
        _ => {}
    }
});

fn subject(text: &str) {
    let (subject, pattern) = (Subject::parse(text), SubjectPattern::parse(text));
    assert_eq!(
        subject.is_ok(),
        reference::is_subject(text, false),
        "{subject:?}"
    );
    assert_eq!(
        pattern.is_ok(),
        reference::is_subject(text, true),
        "{pattern:?}"
    );
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    assert_eq!(Subject::from_bytes(bytes.clone()), subject);
    assert_eq!(SubjectPattern::from_bytes(bytes), pattern);
    if let Ok(pattern) = pattern {
        assert_eq!((pattern.as_str(), &*pattern.to_string()), (text, text));
        assert_eq!(pattern.literal(), subject.clone().ok());
        assert!(pattern.contains(&pattern) && pattern.overlaps(&pattern));
    }
    if let Ok(subject) = subject {
        assert_eq!((subject.as_str(), &*subject.to_string()), (text, text));
        let tokens: Vec<&str> = subject.tokens().collect();
        assert_eq!(tokens.join("."), text);
        assert!(SubjectPattern::from(&subject).matches(&subject));
    }
}

fn matching(pattern: &str, subject: &str) {
    let parsed = (SubjectPattern::parse(pattern), Subject::parse(subject));
    if let (Ok(set), Ok(address)) = parsed {
        let expected = reference::matches(pattern, subject);
        assert_eq!(set.matches(&address), expected);
        let one = SubjectPattern::from(&address);
        assert_eq!(set.contains(&one), expected);
        assert_eq!(set.overlaps(&one), expected);
    }
}

fn capability(text: &str) {
    let Ok(capability) = text.parse::<Capability>() else {
        return;
    };
    let printed = capability.to_string();
    assert_eq!(printed.parse(), Ok(capability.clone()));
    let (actions, pattern) = printed.split_once(':').expect("a colon");
    assert_eq!(pattern, capability.pattern().as_str());
    for name in actions.split('+') {
        let action = Action::from_name(name).expect("an action");
        assert!(capability.actions().has(action));
    }
    let scope = Scope::parse([text]).expect("a scope");
    assert_eq!(Scope::parse(scope.to_strings()), Ok(scope));
}

fn agent(text: &str) {
    let segment = |segment: &str| {
        let tail = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-');
        segment.chars().all(tail) && !segment.is_empty() && !segment.starts_with(['_', '-'])
    };
    let sound = text.len() <= 96 && text.split('/').all(segment);
    let parsed = AgentId::parse(text);
    assert_eq!(parsed.is_ok(), sound);
    if let Ok(id) = parsed {
        assert_eq!((id.as_str(), &*id.to_string()), (text, text));
        assert_eq!(AgentId::from_token(&id.token()), Ok(id.clone()));
        assert!(Subject::parse(&id.token()).is_ok());
    }
    if let Ok(id) = AgentId::from_token(text) {
        assert_eq!(id.token(), text);
    }
}

/// A policy that is understood can be published, and is read as it was written.
fn policy(text: &str) {
    let Ok(policy) = Policy::from_json(text) else {
        return;
    };
    let edition = Edition {
        epoch: 1,
        validity: window(NOW, NOW + 1),
    };
    let mesh = MeshId([7; 16]);
    let write = |policy: &Policy| FileDraft::Policy(policy).sign(mesh, edition, &[]);
    let file = write(&policy);
    let read = UnverifiedFile::parse(FileKind::Policy, &file).expect("published by the crate");
    let FileContent::Policy(again) = read.content() else {
        panic!("a policy is a policy")
    };
    assert_eq!(write(again), file);
    let printed = |policy: &Policy| {
        let rules = policy.rules().iter();
        rules.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(printed(&policy), printed(again));
}

fn token(text: &str) {
    let Ok(token) = text.parse::<JoinToken>() else {
        return;
    };
    let printed = token.to_text();
    assert_eq!(*printed, text.trim());
    let again: JoinToken = printed.parse().expect("printed by the crate");
    assert_eq!((again.claims(), again.id()), (token.claims(), token.id()));
    assert!(!format!("{token:?}").contains(&printed[4..]));
}

/// A token that can be made is read as it was written.
fn made_token(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let ids = ["alice", "team/researcher-1", "verifier"];
    let id = |input: &mut Unstructured<'_>| -> arbitrary::Result<_> {
        let text: Option<&&str> = match bool::arbitrary(input)? {
            true => Some(input.choose(&ids)?),
            false => None,
        };
        Ok(text.map(|text| AgentId::parse(text).expect("an id")))
    };
    let key = Party::named("token").key;
    let claims = JoinClaims {
        mesh: MeshId([7; 16]),
        root: ObjectId([8; 32]),
        key: key.public().bytes(),
        agent: id(input)?,
        sponsor: id(input)?,
        scope: plan::scope(&small_scope(input, &[])?).unwrap_or_default(),
        depth: u8::arbitrary(input)?,
        grant_ttl_ms: u64::arbitrary(input)?,
        until: Timestamp::from_millis(u64::arbitrary(input)?),
        nonce: <[u8; 16]>::arbitrary(input)?,
    };
    let registrar = Party::named("registrar").key;
    let sound = claims.depth <= 8 && (1..=2_592_000_000).contains(&claims.grant_ttl_ms);
    let made = JoinToken::sign(&claims, (0, &registrar), key);
    assert_eq!(made.is_ok(), sound, "{made:?}");
    if let Ok(made) = made {
        let printed = made.to_text();
        token(&printed);
        let read: JoinToken = printed.parse().expect("printed by the crate");
        assert_eq!((read.claims(), read.id()), (&claims, made.id()));
        assert_eq!(read.statement(), made.statement());
        let registrars = [registrar.public()];
        let statement = UnverifiedJoin::parse(made.statement()).expect("a statement");
        assert!(statement.verify(claims.mesh, &registrars).is_ok());
    }
    Ok(())
}

fn audit_line(text: &str) {
    let Some(record) = AuditRecord::parse(text) else {
        return;
    };
    assert_eq!(serde_json::to_string(&record).ok().as_deref(), Some(text));
    assert!(!text.contains('\n'));
    let emitter = AgentId::parse("bob").expect("an id");
    let mut chain = RecordChain::new(emitter, [3; 8]);
    let at = Timestamp::from_millis(record.time);
    let (made, line) = chain.append(at, record.event.clone());
    assert_eq!(made.event, record.event);
    assert_eq!(AuditRecord::parse(&line), Some(made));
}

fn key(text: &str) {
    if let Ok(bytes) = KeyBytes::from_hex(text) {
        assert_eq!(bytes.to_string(), text);
    }
    if let Ok(bytes) = KeyBytes::from_nkey(text) {
        assert_eq!(bytes.to_nkey(), text);
    }
    if let Ok(key) = PublicKey::from_nkey(text) {
        assert_eq!(key.to_nkey(), text);
    }
    if let Ok(key) = PublicKey::from_did_key(text) {
        assert_eq!(key.to_did_key(), text);
    }
    if let Ok(key) = PublicKey::from_spki_pem(text) {
        assert_eq!(PublicKey::from_spki_pem(&key.to_spki_pem()), Ok(key));
    }
    if let Ok(key) = SigningKey::from_nkey_seed(text) {
        assert_eq!(*key.to_nkey_seed(), text);
    }
    if let Ok(key) = SigningKey::from_pkcs8_pem(text) {
        let again = SigningKey::from_pkcs8_pem(&key.to_pkcs8_pem()).expect("printed by the crate");
        assert_eq!(again.public(), key.public());
    }
}

fn small_patterns(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let all = reference::patterns();
    while !input.is_empty() {
        let (left, right) = (input.choose(all)?, input.choose(all)?);
        let parse = |text: &str| SubjectPattern::parse(text).expect("a pattern");
        let (l, r) = (parse(left), parse(right));
        assert_eq!(
            l.contains(&r),
            reference::contains(left, right),
            "{left} {right}"
        );
        assert_eq!(
            l.overlaps(&r),
            reference::overlaps(left, right),
            "{left} {right}"
        );
        assert_eq!(r.overlaps(&l), l.overlaps(&r), "{left} {right}");
        matching(left, right);
    }
    Ok(())
}

fn small_scopes(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let parent = small_scope(input, &[])?;
    let child = small_scope(input, &parent)?;
    if let (Some(parent), Some(child)) = (plan::scope(&parent), plan::scope(&child)) {
        let expected = reference::may_delegate(&parent, &child);
        assert_eq!(
            parent.may_delegate(&child),
            expected,
            "{parent:?} {child:?}"
        );
        // Nothing at all is contained in everything.
        assert!(parent.may_delegate(&Scope::default()));
    }
    Ok(())
}

fn small_scope(input: &mut Unstructured<'_>, above: &[Drawn]) -> arbitrary::Result<Vec<Drawn>> {
    let len = input.int_in_range(0..=4)?;
    let draw = |_| Ok(CapabilityPlan::arbitrary(input)?.draw(above));
    (0..len).map(draw).collect()
}
