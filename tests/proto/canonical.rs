//! One value, one encoding: every single-place change of every object, under valid signatures, is
//! refused.

use bytes::Bytes;

use trustmesh::proto::certificate::UnverifiedCertificate;
use trustmesh::proto::names::Tag;
use trustmesh::proto::root::Role;

use crate::forge::ChainSpec;
use crate::forge::HOUR;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Stage;
use crate::forge::Value;
use crate::forge::chain::EVERYTHING;
use crate::forge::chain::capability;
use crate::forge::letter::AUDIENCE;
use crate::forge::letter::EXT;
use crate::forge::letter::HEADER_FIELDS;
use crate::forge::letter::PAYLOAD_TYPE;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::mutants;
use crate::forge::value::text;

const SUBJ: &str = "orders.eu.new";

/// A letter with something in every field.
fn full(stage: &Stage, chain: &ChainSpec) -> Letter {
    let trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let extension = |id: u64, critical: bool, value: &[u8]| {
        list([Value::Uint(id), Value::Bool(critical), bin(value)])
    };
    let extensions = list([
        extension(1, false, &[0; 24]),
        extension(2, false, trace),
        extension(3, true, &[2]),
    ]);
    let headers = list([list([text("name"), text("value")])]);
    Letter::request(chain, SUBJ)
        .set(AUDIENCE, bin(stage.me.bytes().0))
        .set(PAYLOAD_TYPE, text("application/json"))
        .set(EXT, extensions)
        .edit(|l| l.content = list([headers, list([bin([1; 40])]), bin([2; 300])]))
}

/// Holds a stage to refusing every mutant, all of them signed by whoever signs the honest object.
fn refuse_all(
    stage: &mut Stage,
    honest: &Letter,
    mutants: Vec<crate::forge::value::Mutant>,
    build: impl Fn(Letter, Vec<u8>) -> Bytes,
) {
    assert!(mutants.len() > 100);
    let held = stage.guard.len();
    for mutant in mutants {
        let frame = build(honest.clone(), mutant.bytes);
        let result = stage.decide(&frame, SUBJ, reply(honest).as_deref()).result;
        let class = match result {
            Ok(_) => panic!("accepted: {}", mutant.label),
            Err(refused) => refused.rejection.class(),
        };
        // A valid signature was found over none of them, so none was refused for its signature.
        let name = class.name();
        assert_ne!(name, "BadSignature", "{}", mutant.label);
        assert_ne!(name, "Internal", "{}", mutant.label);
    }
    assert_eq!(stage.guard.len(), held);
}

fn reply(letter: &Letter) -> Option<String> {
    match letter.header.at(&[crate::forge::letter::REPLY]) {
        Value::Str(bytes) => Some(String::from_utf8(bytes.clone()).unwrap()),
        _ => None,
    }
}

/// Every field of the header.
#[test]
fn a_header_has_one_encoding() {
    let mut stage = Stage::default();
    let chain = stage.chain(&["carol", "alice"]);
    let honest = full(&stage, &chain);
    let tree = honest.header_tree();
    assert_eq!(
        tree.paths().iter().filter(|path| path.len() == 1).count(),
        HEADER_FIELDS.len()
    );
    // Extensions may go missing, and an audience need not be.
    let mutants = mutants(&tree, &[&[EXT]], &[&[AUDIENCE]]);
    refuse_all(&mut stage, &honest, mutants, |letter, bytes| {
        letter.edit(|l| l.header_bytes = Some(bytes)).frame()
    });
    stage.accepts(&honest.frame());
}

/// Every part of the frame.
#[test]
fn a_frame_has_one_encoding() {
    let mut stage = Stage::default();
    let chain = stage.chain(&["carol", "alice"]);
    let honest = full(&stage, &chain);
    let mutants = mutants(&honest.tree(), &[], &[]);
    refuse_all(&mut stage, &honest, mutants, |_, bytes| {
        [b"TMSH", &bytes[..]].concat().into()
    });
    let frame = honest.frame();
    for magic in [&b"TMHS"[..], b"TMTS", b"tmsh", b"TMS", b"", b"\0TMSH"] {
        let other: Bytes = [magic, &frame[4..]].concat().into();
        stage.refuses(&other, trustmesh::proto::rejection::Class::Malformed);
    }
    stage.accepts(&frame);
}

/// Every part of the content, with digest and length signed to match.
#[test]
fn a_content_has_one_encoding() {
    let mut stage = Stage::default();
    let chain = stage.chain(&["carol", "alice"]);
    let honest = full(&stage, &chain);
    let mutants = mutants(&honest.content, &[&[0], &[1]], &[]);
    refuse_all(&mut stage, &honest, mutants, |letter, bytes| {
        letter.edit(|l| l.content = Value::Raw(bytes)).frame()
    });
    stage.accepts(&honest.frame());
}

/// Every field of both kinds of link, with the ids below and the header's leaf made to match.
#[test]
fn a_link_has_one_encoding() {
    let mut stage = Stage::default();
    let constraints = [
        list([Value::Uint(1), list([text("g"), text("h")])]),
        list([Value::Uint(2), list([bin(stage.me.bytes().0)])]),
    ];
    let scope = list([
        capability(EVERYTHING, ">", constraints.clone()),
        capability(EVERYTHING, "orders.>", constraints),
    ]);
    let chain = stage.chain(&["carol", "alice"]);
    let chain = (0..2).fold(chain, |chain, index| {
        chain.edit(index, |link| link.scope = scope.clone())
    });
    for index in [0, 1] {
        let above = match index {
            0 => vec![bin(&chain.mesh), bin(chain.issuer.bytes().0)],
            _ => vec![bin(chain.link_id(0).0)],
        };
        let tree = chain.links[index].tree(above);
        let caps = tree.paths().iter().filter(|path| path.len() == 1).count() - 3;
        let lists: Vec<Vec<usize>> = vec![
            vec![caps],
            vec![caps, 0, 2],
            vec![caps, 1, 2],
            vec![caps, 0, 2, 0, 1],
            vec![caps, 1, 2, 0, 1],
            vec![caps, 0, 2, 1, 1],
            vec![caps, 1, 2, 1, 1],
        ];
        let lists: Vec<&[usize]> = lists.iter().map(Vec::as_slice).collect();
        let mutants = mutants(&tree, &lists, &[]);
        let honest = full(&stage, &chain);
        refuse_all(&mut stage, &honest, mutants, |letter, bytes| {
            let changed = chain.clone().edit(index, |link| link.body = Some(bytes));
            letter
                .set(crate::forge::letter::LEAF, bin(changed.leaf().0))
                .edit(|l| l.chain = changed.encode())
                .frame()
        });
        stage.accepts(&honest.frame());
    }
}

/// The list of links around their bodies.
#[test]
fn a_chain_has_one_encoding() {
    let mut stage = Stage::default();
    let chain = stage.chain(&["carol", "alice"]);
    let honest = full(&stage, &chain);
    let mutants = mutants(&chain.tree(), &[], &[]);
    refuse_all(&mut stage, &honest, mutants, |letter, bytes| {
        letter.edit(|l| l.chain = bytes).frame()
    });
    stage.accepts(&honest.frame());
}

/// Every field of a certificate and of what surrounds it.
#[test]
fn a_certificate_has_one_encoding() {
    let mesh = Mesh::new();
    let (registrar, alice) = (mesh.role(Role::Registrar), Party::named("alice"));
    let body = list([
        Value::Uint(1),
        bin(mesh.id().0),
        bin([5; 16]),
        text("alice"),
        bin(alice.bytes().0),
        Value::Uint(NOW - HOUR),
        Value::Uint(NOW + HOUR),
        bin([6; 32]),
        Value::Uint(3),
        list([]),
    ]);
    let around = |body: &[u8]| {
        let id = Tag::Certificate.digest(body);
        list([
            bin(body),
            Value::Uint(0),
            bin(registrar.sign(Tag::Certificate, body)),
            bin(alice.sign(Tag::Possession, &id.0)),
        ])
    };
    let (mesh_id, key) = (mesh.id(), registrar.key.public());
    let check =
        |bytes: Vec<u8>| UnverifiedCertificate::parse(&bytes.into())?.verify(mesh_id, &[key]);
    check(around(&body.encode()).encode()).unwrap();
    for mutant in mutants(&body, &[], &[&[7]]) {
        let refused = check(around(&mutant.bytes).encode());
        assert!(refused.is_err(), "{}", mutant.label);
    }
    for mutant in mutants(&around(&body.encode()), &[], &[]) {
        assert!(check(mutant.bytes).is_err(), "{}", mutant.label);
    }
}
