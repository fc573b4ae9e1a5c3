//! ID: who is who, and the certificates that say so.

use bytes::Bytes;

use trustmesh::proto::certificate::UnverifiedCertificate;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::names::Tag;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::root::Role;
use trustmesh::proto::trust::Admission;
use trustmesh::proto::trust::TrustState;
use trustmesh::proto::verify::Pending;

use crate::forge::ChainSpec;
use crate::forge::HOUR;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Stage;
use crate::forge::Value;
use crate::forge::letter::AUDIENCE;
use crate::forge::letter::LEAF;
use crate::forge::letter::MESH;
use crate::forge::mesh::window;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;

const SUBJ: &str = "orders.eu.new";

/// ID-1: a key without a certificate, with a chain an issuer signed for it all the same.
#[test]
fn an_unregistered_key_is_unknown() {
    let mut stage = Stage::default();
    let frame = Letter::publish(&stage.chain(&["mallory"]), SUBJ).frame();
    assert_eq!(stage.refuses(&frame, Class::UnknownAgent).hop(), Some(0));
}

/// EN-10: a holder in mid-chain that is nobody's key, looked up before any signature: garbage for
/// signatures changes nothing.
#[test]
fn unknown_holders_are_refused_before_any_signature() {
    let mut stage = Stage::default();
    for (index, holders) in [
        (0, ["mallory", "carol", "alice"]),
        (1, ["carol", "mallory", "alice"]),
        (2, ["carol", "alice", "mallory"]),
    ] {
        let chain = stage.chain(&holders);
        let garbage = (0..3).fold(chain.clone(), |chain, index| {
            chain.edit(index, |link| link.signature = Some(bin([1; 64])))
        });
        for chain in [chain, garbage] {
            let frame = Letter::publish(&chain, SUBJ).frame();
            assert_eq!(
                stage.refuses(&frame, Class::UnknownAgent).hop(),
                Some(index)
            );
        }
    }
    // Keys that are no keys at all are in no registry either.
    for bytes in [[0; 32], [0xff; 32]] {
        let chain = stage.chain(&["carol", "alice"]);
        let chain = chain.edit(0, |link| link.holder = bin(bytes));
        let frame = Letter::publish(&chain, SUBJ).frame();
        assert_eq!(stage.refuses(&frame, Class::UnknownAgent).hop(), Some(0));
    }
}

/// ID-2 and ID-3: signed by any key but the chain's last holder's. No key in a message is used:
/// naming the victim, or one's own key as audience, changes nothing.
#[test]
fn only_the_last_holder_signs_for_itself() {
    let mut stage = Stage::default();
    let chain = stage.chain(&["carol", "alice"]);
    for liar in ["mallory", "carol", "bob", "dave"] {
        let liar = Party::named(liar);
        let frame = Letter::publish(&chain, SUBJ)
            .edit(|l| l.signer = liar.clone())
            .frame();
        stage.refuses(&frame, Class::BadSignature);
    }
    let frame = Letter::publish(&chain, SUBJ)
        .set(AUDIENCE, bin(Party::named("mallory").bytes().0))
        .edit(|l| l.signer = Party::named("mallory"))
        .frame();
    stage.refuses(&frame, Class::WrongAudience);
}

/// ID-6: keys of every wrong length, wherever a key stands.
#[test]
fn keys_of_wrong_length_are_malformed() {
    let mut stage = Stage::default();
    for len in [0, 1, 31, 33, 64] {
        let key = bin(vec![1; len]);
        let frame = Letter::publish(&stage.chain(&["alice"]), SUBJ)
            .set(AUDIENCE, key.clone())
            .frame();
        assert_eq!(stage.refuses(&frame, Class::Malformed).code(), 105);
        for index in [0, 1] {
            let chain = stage.chain(&["carol", "alice"]);
            let chain = chain.edit(index, |link| link.holder = key.clone());
            let frame = Letter::publish(&chain, SUBJ).frame();
            assert_eq!(stage.refuses(&frame, Class::Malformed).code(), 105);
        }
        let chain = stage.chain(&["alice"]).edit(0, |link| {
            link.above = Some(vec![bin([1; 16]), key.clone()]);
        });
        let frame = Letter::publish(&chain, SUBJ).frame();
        assert_eq!(stage.refuses(&frame, Class::Malformed).code(), 105);
        let refusal = certify(&stage.mesh, |tree| tree.with(&[4], key.clone())).unwrap_err();
        assert_eq!(refusal.code(), 105);
        let listed = files_with(&stage.mesh, Role::Revoker, 4, |body| {
            body.with(&[6], list([key.clone()]))
        });
        assert_eq!(listed.unwrap_err().code(), 105);
    }
    assert!(KeyBytes::from_hex(&"0".repeat(63)).is_err());
    assert!(KeyBytes::from_hex(&"0".repeat(66)).is_err());
}

/// The body of a certificate of alice's as a tree.
fn certificate_body(mesh: &Mesh) -> Value {
    let alice = Party::named("alice");
    list([
        Value::Uint(1),
        bin(mesh.id().0),
        bin([5; 16]),
        text("alice"),
        bin(alice.bytes().0),
        Value::Uint(NOW - HOUR),
        Value::Uint(NOW + HOUR),
        Value::Nil,
        Value::Uint(0),
        list([]),
    ])
}

/// Signs a certificate body as registrar and as alice; says whether it is one.
pub fn certify(mesh: &Mesh, change: impl FnOnce(Value) -> Value) -> Result<AgentId, Rejection> {
    let body = change(certificate_body(mesh)).encode();
    let (registrar, alice) = (mesh.role(Role::Registrar), Party::named("alice"));
    let id = Tag::Certificate.digest(&body);
    let bytes = list([
        bin(&body),
        Value::Uint(0),
        bin(registrar.sign(Tag::Certificate, &body)),
        bin(alice.sign(Tag::Possession, &id.0)),
    ]);
    check_certificate(mesh, bytes.encode().into())
}

fn check_certificate(mesh: &Mesh, bytes: Bytes) -> Result<AgentId, Rejection> {
    let registrar = mesh.role(Role::Registrar).key.public();
    let certificate = UnverifiedCertificate::parse(&bytes)?.verify(mesh.id(), &[registrar])?;
    Ok(certificate.agent().clone())
}

/// Assembles the mesh's files with the file of `role` (its `kind` on the wire) changed and signed
/// again by that role.
pub fn files_with(
    mesh: &Mesh,
    role: Role,
    kind: u64,
    change: impl FnOnce(Value) -> Value,
) -> Result<TrustState, Rejection> {
    let common = |epoch: u64| {
        vec![
            Value::Uint(1),
            bin(mesh.id().0),
            Value::Uint(epoch),
            Value::Uint(NOW - HOUR),
            Value::Uint(NOW + HOUR),
        ]
    };
    let mut body = common(1);
    match kind {
        2 => body.push(list([])),
        3 => body.extend([
            list([Value::Uint(120_000), Value::Uint(HOUR), Value::Uint(HOUR)]),
            list([list([]), list([])]),
            Value::Nil,
            list([]),
        ]),
        4 => body.extend([list([]), list([]), list([])]),
        _ => body.push(list([])),
    }
    body.push(list([]));
    let body = change(list(body)).encode();
    let (tag, signer) = (file_tag(kind), mesh.role(role));
    let signature = list([Value::Uint(0), bin(signer.sign(tag, &body))]);
    let tree = list([
        Value::Uint(1),
        Value::Uint(kind),
        bin(&body),
        list([signature]),
    ]);
    let file: Bytes = [b"TMTS", &tree.encode()[..]].concat().into();
    let mut files = mesh.files();
    match kind {
        2 => files.registry = file,
        3 => files.policy = file,
        4 => files.revocations = file,
        _ => files.scores = Some(file),
    }
    TrustState::assemble(&files, Admission::Production, None)
}

fn file_tag(kind: u64) -> Tag {
    match kind {
        2 => Tag::Registry,
        3 => Tag::Policy,
        4 => Tag::Revocations,
        _ => Tag::Scores,
    }
}

/// The forge and the crate agree on what valid trust files and certificates are.
#[test]
fn forged_but_faithful_files_are_accepted() {
    let mesh = Mesh::new();
    for (role, kind) in [
        (Role::Registrar, 2),
        (Role::Policy, 3),
        (Role::Revoker, 4),
        (Role::Scores, 5),
    ] {
        files_with(&mesh, role, kind, |body| body).unwrap();
        // The same file by any other role is refused.
        let by_issuer = files_with(&mesh, Role::Issuer, kind, |body| body).unwrap_err();
        assert_eq!(by_issuer.class(), Class::BadSignature);
    }
    assert_eq!(certify(&mesh, |body| body).unwrap().as_str(), "alice");
}

/// ID-7: ids outside the grammar are refused on the wire, not normalised into another id.
#[test]
fn ids_outside_the_grammar_are_refused() {
    let mesh = Mesh::new();
    let long = "a".repeat(2049);
    let bad = [
        "",
        "Alice",
        "alice ",
        " alice",
        "al ice",
        "al%2eice",
        "..",
        ".",
        "a..b",
        "a.b",
        "al\0ice",
        "al\nice",
        "älice",
        "alice/",
        "/alice",
        "a//b",
        "../alice",
        "*",
        ">",
        "a~b",
        "-a",
        "_a",
        "alice\u{200b}",
        "a/../b",
        &long,
    ];
    for id in bad {
        assert!(AgentId::parse(id).is_err(), "{id:?}");
        let refusal = certify(&mesh, |body| body.with(&[3], text(id))).unwrap_err();
        let class = refusal.class();
        assert!(
            matches!(class, Class::Malformed | Class::TooLarge),
            "{id:?}: {refusal}"
        );
        let listed = files_with(&mesh, Role::Revoker, 4, |body| {
            body.with(&[7], list([text(id)]))
        });
        let class = listed.unwrap_err().class();
        assert!(
            matches!(class, Class::Malformed | Class::TooLarge),
            "{id:?}"
        );
        assert!(AgentId::from_token(id).is_err() || id == "a~b", "{id:?}");
    }
}

/// ID-5, as far as certificates go: nobody can have a key certified that is not theirs.
#[test]
fn a_certificate_needs_proof_of_possession() {
    let mesh = Mesh::new();
    let (registrar, mallory) = (mesh.role(Role::Registrar), Party::named("mallory"));
    let body = certificate_body(&mesh).encode();
    let id = Tag::Certificate.digest(&body);
    let good = registrar.sign(Tag::Certificate, &body);
    let alice = Party::named("alice");
    for possession in [
        mallory.sign(Tag::Possession, &id.0),
        registrar.sign(Tag::Possession, &id.0),
        alice.sign(Tag::Possession, &[0; 32]),
        alice.sign(Tag::Certificate, &id.0),
        alice.sign(Tag::Certificate, &body),
        good,
    ] {
        let tree = list([bin(&body), Value::Uint(0), bin(good), bin(possession)]);
        let refusal = check_certificate(&mesh, tree.encode().into()).unwrap_err();
        assert_eq!(refusal.class(), Class::BadSignature);
    }
    let claims = mesh.certificate_claims(&alice, window(NOW, NOW + HOUR));
    let refusal = UnverifiedCertificate::sign(&claims, (0, &registrar.key), &mallory.key);
    assert_eq!(refusal.unwrap_err().class(), Class::KeyMismatch);
    // Nor can a registrar be chosen that the root does not name.
    let proof = alice.sign(Tag::Possession, &id.0);
    for index in [1, 15, 255] {
        let tree = list([bin(&body), Value::Uint(index), bin(good), bin(proof)]);
        let refusal = check_certificate(&mesh, tree.encode().into()).unwrap_err();
        assert_eq!(refusal.class(), Class::UntrustedRoot);
    }
}

/// A weak key, or one outside the prime-order group, is certified for nobody.
#[test]
fn weak_keys_are_not_certified() {
    let mesh = Mesh::new();
    let mut neutral = [0; 32];
    neutral[0] = 1;
    // p + 1, the neutral element again in an encoding that is not canonical.
    let mut loose = [0xff; 32];
    (loose[0], loose[31]) = (0xee, 0x7f);
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    for weak in [[0; 32], neutral, loose, minus_one] {
        let refusal = certify(&mesh, |body| body.with(&[4], bin(weak))).unwrap_err();
        assert_eq!(refusal.class(), Class::WeakKey);
    }
}

/// A key belongs to one agent: a registry in which it has two certificates is no registry.
#[test]
fn a_key_has_one_certificate() {
    let mut mesh = Mesh::new();
    let twice = mesh.members[0].clone();
    mesh.members.push(twice);
    let files = mesh.files();
    let refusal = TrustState::assemble(&files, Admission::Production, None).unwrap_err();
    assert_eq!(refusal.code(), 117);
}

/// ID-9: chains, envelopes and certificates of another mesh.
#[test]
fn another_mesh_has_no_authority_here() {
    let mut stage = Stage::default();
    let mut other = Mesh::new();
    other.name = "elsewhere".into();
    let foreign = ChainSpec::down(&other, &["alice"]);
    let letter = Letter::publish(&foreign, SUBJ);
    assert_eq!(
        stage.refuses(&letter.frame(), Class::UntrustedRoot).code(),
        1701
    );
    // Claimed to be of this mesh, with a chain of the other.
    let ours = letter.set(MESH, bin(stage.mesh.id().0));
    assert_eq!(
        stage.refuses(&ours.frame(), Class::UntrustedRoot).code(),
        1701
    );
    // A root grant that names this mesh, by the other's issuer.
    let mut crossed = stage.chain(&["alice"]);
    crossed.issuer = other.issuer();
    let letter = Letter::publish(&crossed, SUBJ);
    assert_eq!(
        stage.refuses(&letter.frame(), Class::UntrustedRoot).code(),
        1702
    );
    // The other's registrar, and a certificate for the other mesh by this one's.
    let window = window(NOW - HOUR, NOW + HOUR);
    let alice = Party::named("alice");
    let theirs = other.certificate(&alice, window);
    let refusal = check_certificate(&stage.mesh, theirs).unwrap_err();
    assert_eq!(refusal.code(), 1701);
    let refusal = certify(&stage.mesh, |body| body.with(&[1], bin(other.id().0)));
    assert_eq!(refusal.unwrap_err().code(), 1701);
    let mut files = stage.mesh.files();
    files.policy = other.files().policy;
    let mixed = TrustState::assemble(&files, Admission::Production, None).unwrap_err();
    assert_eq!(mixed.class(), Class::BadSignature);
    let pin = TrustState::assemble(
        &stage.mesh.files(),
        Admission::Production,
        Some(other.trust().root().id()),
    );
    assert_eq!(pin.unwrap_err().code(), 1705);
}

/// A development mesh is refused outside development mode.
#[test]
fn a_development_mesh_is_refused_in_production() {
    let mut mesh = Mesh::new();
    mesh.dev = true;
    let refusal = TrustState::assemble(&mesh.files(), Admission::Production, None).unwrap_err();
    assert_eq!(refusal.code(), 1703);
    assert!(mesh.trust().root().is_dev());
}

/// A certificate's own window bites, in mid-chain too.
#[test]
fn an_expired_certificate_ends_every_chain_through_it() {
    let mut mesh = Mesh::new();
    mesh.members[2].1 = window(NOW - HOUR, NOW - HOUR / 2);
    mesh.members[3].1 = window(NOW + HOUR / 2, NOW + HOUR);
    let mut stage = Stage::of(mesh);
    for (holders, class) in [
        (["carol", "alice"], Class::Expired),
        (["dave", "alice"], Class::NotYetValid),
    ] {
        let frame = Letter::publish(&stage.chain(&holders), SUBJ).frame();
        assert_eq!(stage.refuses(&frame, class).hop(), Some(0));
    }
}

/// The leaf named in the header is a hint that must be true, never a way in.
#[test]
fn naming_another_leaf_is_refused() {
    let mut stage = Stage::default();
    let chain = stage.chain(&["carol", "alice"]);
    let certificate = stage.mesh.certificate_id(&Party::named("alice"));
    for leaf in [[0; 32], chain.link_id(0).0, certificate.0] {
        let frame = Letter::publish(&chain, SUBJ).set(LEAF, bin(leaf)).frame();
        assert_eq!(stage.refuses(&frame, Class::ChainBroken).code(), 1403);
    }
    let none: Option<&Pending> = None;
    let frame = Letter::publish(&chain, SUBJ).frame();
    stage.refuses_answer(&frame, Class::UnexpectedReply, none);
}
