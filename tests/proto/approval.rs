//! Approvals: every byte of one counts, and one spares nothing.

use trustmesh::proto::approval::UnverifiedApproval;
use trustmesh::proto::rejection::Class;

use crate::forge::ChainSpec;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::Stage;
use crate::forge::approval::ApprovalSpec;
use crate::forge::approval::extension;
use crate::forge::letter;
use crate::forge::value::mutants;

const SUBJ: &str = "orders.eu.new";

/// Bob, who asks for approvals of orders; there is no valid message without one.
fn stage() -> Stage {
    Stage::barren(Mesh::new().policy(
        r#"{ "rules": [ { "name": "all", "effect": "allow",
            "actions": ["pub", "sub", "req", "serve"], "subjects": ">" } ],
          "approval": [ { "subjects": "orders.>", "actions": ["pub"] } ] }"#,
    ))
}

fn approved(stage: &Stage) -> (ChainSpec, ApprovalSpec) {
    let chain = stage.chain(&["carol", "alice"]);
    let approval = ApprovalSpec::of(&stage.mesh, &chain);
    (chain, approval)
}

fn carrying(chain: &ChainSpec, approval: &[u8]) -> bytes::Bytes {
    Letter::publish(chain, SUBJ)
        .set(letter::EXT, extension(approval))
        .frame()
}

/// A verifier that has met the approval takes no other bytes for it.
#[test]
fn an_approval_with_any_bit_turned_does_not_count() {
    let mut stage = stage();
    let (chain, approval) = approved(&stage);
    let whole = approval.encode();
    stage.accepts(&carrying(&chain, &whole));
    for at in 0..whole.len() {
        let mut turned = whole.clone();
        turned[at] ^= 1 << (at % 8);
        let refusal = stage.refuses(&carrying(&chain, &turned), Class::PolicyDenied);
        assert_eq!(refusal.code(), 2008, "byte {at}");
    }
    stage.accepts(&carrying(&chain, &whole));
}

/// An approval has one encoding, also when a registrar signs another.
#[test]
fn only_the_canonical_approval_is_one() {
    let (_, approval) = approved(&stage());
    let readable = |bytes: Vec<u8>| UnverifiedApproval::parse(&bytes.into()).is_ok();
    assert!(readable(approval.encode()));
    for mutant in mutants(&approval.tree(), &[], &[]) {
        assert!(!readable(mutant.bytes), "{}", mutant.label);
    }
    for mutant in mutants(&approval.body, &[], &[]) {
        let signed = approval.clone().edit(|a| {
            a.body = crate::forge::Value::Raw(mutant.bytes.clone());
        });
        assert!(!readable(signed.encode()), "body: {}", mutant.label);
    }
}
