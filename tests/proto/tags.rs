//! A signature made for one kind of object is worth nothing for another.

use trustmesh::proto::audit::AuditReader;
use trustmesh::proto::certificate::UnverifiedCertificate;
use trustmesh::proto::names::Tag;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::root::Role;
use trustmesh::proto::root::TrustRoot;
use trustmesh::proto::trust::Admission;
use trustmesh::proto::trust::TrustState;

use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::Party;
use crate::forge::Stage;
use crate::forge::Value;
use crate::forge::value::bin;
use crate::forge::value::list;

const SUBJ: &str = "orders.eu.new";

/// Envelope headers and links of both kinds, each signed under every tag.
#[test]
fn envelopes_and_links_signed_under_another_tag_are_refused() {
    let mut stage = Stage::default();
    for tag in Tag::ALL {
        let chain = stage.chain(&["carol", "alice"]);
        let frame = Letter::publish(&chain, SUBJ).edit(|l| l.tag = tag).frame();
        match tag {
            Tag::Envelope => drop(stage.accepts(&frame)),
            _ => drop(stage.refuses(&frame, Class::BadSignature)),
        }
        for (index, natural) in [(0, Tag::RootGrant), (1, Tag::Delegation)] {
            let chain = chain.clone().edit(index, |link| link.tag = Some(tag));
            let frame = Letter::publish(&chain, SUBJ).frame();
            if tag == natural {
                stage.accepts(&frame);
            } else {
                let refusal = stage.refuses(&frame, Class::BadSignature);
                assert_eq!(refusal.hop(), Some(index as u8));
            }
        }
    }
    // Without any tag at all.
    let chain = stage.chain(&["alice"]);
    let honest = Letter::publish(&chain, SUBJ);
    let bare = honest.signer.sign_raw(&honest.header_encoded());
    let frame = honest.edit(|l| l.signature = Some(bin(bare))).frame();
    stage.refuses(&frame, Class::BadSignature);
}

/// Certificates: the registrar's signature and the proof of possession.
#[test]
fn certificates_signed_under_another_tag_are_refused() {
    let mesh = Mesh::new();
    let (registrar, alice) = (mesh.role(Role::Registrar), Party::named("alice"));
    let claims = mesh.certificate_claims(&alice, mesh.members[0].1);
    let honest = UnverifiedCertificate::sign(&claims, (0, &registrar.key), &alice.key).unwrap();
    // `[body bin, …]`: an array header, a one-byte length, the body.
    let body = honest[3..3 + usize::from(honest[2])].to_vec();
    let id = Tag::Certificate.digest(&body);
    for (first, second) in Tag::ALL.iter().flat_map(|a| Tag::ALL.map(|b| (*a, b))) {
        let tree = list([
            bin(&body),
            Value::Uint(0),
            bin(registrar.sign(first, &body)),
            bin(alice.sign(second, &id.0)),
        ]);
        let checked = UnverifiedCertificate::parse(&tree.encode().into())
            .unwrap()
            .verify(mesh.id(), &[registrar.key.public()]);
        let right = (first, second) == (Tag::Certificate, Tag::Possession);
        assert_eq!(checked.is_ok(), right, "{first:?} {second:?}");
    }
}

/// Trust files of every kind, the trust root included.
#[test]
fn trust_files_signed_under_another_tag_are_refused() {
    let mut mesh = Mesh::new();
    mesh.scores = Some(std::collections::BTreeMap::new());
    let files = mesh.files();
    let kinds = [
        (1, Role::Root, Tag::TrustRoot, &files.root),
        (2, Role::Registrar, Tag::Registry, &files.registry),
        (3, Role::Policy, Tag::Policy, &files.policy),
        (4, Role::Revoker, Tag::Revocations, &files.revocations),
        (5, Role::Scores, Tag::Scores, files.scores.as_ref().unwrap()),
    ];
    for (kind, role, natural, file) in kinds {
        let body = body_of(file);
        for tag in Tag::ALL {
            let signature = list([Value::Uint(0), bin(mesh.role(role).sign(tag, &body))]);
            let tree = list([
                Value::Uint(1),
                Value::Uint(kind),
                bin(&body),
                list([signature]),
            ]);
            let forged = [b"TMTS", &tree.encode()[..]].concat().into();
            let mut changed = files.clone();
            match kind {
                1 => {
                    assert_eq!(TrustRoot::parse(&forged).is_ok(), tag == natural, "{tag:?}");
                    continue;
                }
                2 => changed.registry = forged,
                3 => changed.policy = forged,
                4 => changed.revocations = forged,
                _ => changed.scores = Some(forged),
            }
            let state = TrustState::assemble(&changed, Admission::Production, None);
            assert_eq!(state.is_ok(), tag == natural, "kind {kind}, {tag:?}");
        }
    }
}

/// The body of a trust file: after magic, array header, version and kind.
fn body_of(file: &[u8]) -> Vec<u8> {
    let (start, len) = match file[7] {
        0xc4 => (9, usize::from(file[8])),
        0xc5 => (10, usize::from(u16::from_be_bytes([file[8], file[9]]))),
        other => panic!("marker {other:#x}"),
    };
    file[start..start + len].to_vec()
}

/// A trust file of one kind in the place of another, with valid signatures of one key that holds
/// every role: only kind and tag keep them apart.
#[test]
fn a_file_of_one_kind_is_none_of_another() {
    let mesh = Mesh::new();
    let files = mesh.files();
    let all = [&files.registry, &files.policy, &files.revocations];
    for (index, file) in all.iter().enumerate() {
        for place in (0..3).filter(|place| *place != index) {
            let mut changed = files.clone();
            let slot = [
                &mut changed.registry,
                &mut changed.policy,
                &mut changed.revocations,
            ];
            *slot.into_iter().nth(place).unwrap() = (*file).clone();
            assert!(TrustState::assemble(&changed, Admission::Production, None).is_err());
        }
    }
}

/// An ordinary event is no audit batch, and an audit batch is no event.
#[test]
fn events_and_audit_batches_are_kept_apart() {
    let mut stage = Stage::default();
    let subject = "trustmesh.audit.alice";
    let event = Letter::publish(&stage.chain(&["alice"]), subject).frame();
    let mut reader = AuditReader::new("trustmesh", stage.verifier.skew());
    let read = reader.read(&event, subject, &stage.trust, stage.now);
    assert!(read.is_err());
    let batch = crate::audit::batch(&stage.mesh, "alice", &[]).frame();
    stage.refuses(&batch, Class::ChainBroken);
}
