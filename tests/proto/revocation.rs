//! RV and PO-9: what was taken back stays taken back.

use std::collections::BTreeMap;

use trustmesh::proto::identity::AgentId;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::revocation::RevocationSet;
use trustmesh::proto::root::Role;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::TrustState;

use crate::forge::ChainSpec;
use crate::forge::HOUR;
use crate::forge::Letter;
use crate::forge::Mesh;
use crate::forge::NOW;
use crate::forge::Party;
use crate::forge::Stage;
use crate::forge::mesh::window;
use crate::forge::value::bin;
use crate::forge::value::list;
use crate::forge::value::text;
use crate::identity::files_with;

const SUBJ: &str = "orders.eu.new";
const LINE: [&str; 4] = ["carol", "dave", "erin", "alice"];

/// A stage on which `revoke` has been revoked, and warm for every chain met before.
fn revoke(stage: &mut Stage, revoke: impl FnOnce(&mut RevocationSet)) {
    let mut mesh = stage.mesh.clone();
    revoke(&mut mesh.revoked);
    mesh.epochs[2] += 1;
    let newer = mesh.trust();
    newer.check_replaces(&stage.trust).unwrap();
    (stage.mesh, stage.trust) = (mesh, newer);
}

/// RV-2: any link, holder key, holder or issuer of a chain revoked ends every chain through it,
/// even one whose signatures were checked and remembered a moment before.
#[test]
fn revoking_any_part_of_a_chain_ends_it() {
    type Revoke = Box<dyn Fn(&mut RevocationSet, &ChainSpec, usize)>;
    let kinds: [(Revoke, u16); 3] = [
        (
            Box::new(|set, chain, i| set.revoke_link(chain.link_id(i))),
            1801,
        ),
        (
            Box::new(|set, _, i| set.revoke_key(Party::named(LINE[i]).bytes())),
            1802,
        ),
        (
            Box::new(|set, _, i| set.revoke_agent(AgentId::parse(LINE[i]).unwrap())),
            1803,
        ),
    ];
    for (kind, code) in &kinds {
        for index in 0..4 {
            let mut stage = Stage::default();
            stage.probe = Some(stage.chain(&["frank"]));
            let chain = stage.chain(&LINE);
            stage.accepts(&Letter::publish(&chain, SUBJ).frame());
            revoke(&mut stage, |set| kind(set, &chain, index));
            let frame = Letter::publish(&chain, SUBJ).frame();
            let warm = stage.refuses(&frame, Class::Revoked);
            assert_eq!((warm.code(), warm.hop()), (*code, Some(index as u8)));
            stage.verifier = stage.cold();
            assert_eq!(stage.refuses(&frame, Class::Revoked), warm);
        }
    }
    let mut stage = Stage::default();
    let chain = stage.chain(&LINE);
    stage.accepts(&Letter::publish(&chain, SUBJ).frame());
    let issuer = stage.mesh.issuer().bytes();
    revoke(&mut stage, |set| set.revoke_key(issuer));
    stage.probe = None;
    stage.refuses(&Letter::publish(&chain, SUBJ).frame(), Class::Revoked);
}

/// RV-2: siblings of a revoked link live on.
#[test]
fn revoking_a_link_spares_its_siblings() {
    let mut stage = Stage::default();
    let root = stage.chain(&["carol", "dave"]);
    let mut sibling = root.clone();
    sibling.links.truncate(1);
    sibling
        .links
        .push(stage.chain(&["carol", "erin"]).links.remove(1));
    revoke(&mut stage, |set| set.revoke_link(root.link_id(1)));
    stage.refuses(&Letter::publish(&root, SUBJ).frame(), Class::Revoked);
    stage.accepts(&Letter::publish(&sibling, SUBJ).frame());
}

/// RV-5: a revocation that arrives before the delegation it names. RV-6: the same content under a
/// new id is another delegation.
#[test]
fn a_revocation_may_come_first() {
    let mut stage = Stage::default();
    let chain = stage.chain(&["carol", "alice"]);
    revoke(&mut stage, |set| set.revoke_link(chain.leaf()));
    stage.refuses(&Letter::publish(&chain, SUBJ).frame(), Class::Revoked);
    let reissued = chain.edit(1, |link| link.nonce = bin([3; 16]));
    stage.accepts(&Letter::publish(&reissued, SUBJ).frame());
}

/// A message accepted before a revocation is stopped at the handler's door.
#[test]
fn a_recheck_sees_what_changed_since() {
    let mut stage = Stage::default();
    let chain = stage.chain(&["carol", "alice"]);
    let accepted = stage.accepts(&Letter::publish(&chain, SUBJ).frame());
    let skew = stage.verifier.skew();
    let recheck = |stage: &Stage, now: Timestamp| {
        let scene = trustmesh::proto::verify::Scene {
            now,
            trust: &stage.trust,
            sessions: &(),
        };
        accepted
            .recheck(&scene, skew)
            .map_err(|rejection| rejection.class())
    };
    assert_eq!(recheck(&stage, stage.now), Ok(()));
    let expired = stage.now.plus(10_000 + skew.as_millis() + 1);
    assert_eq!(recheck(&stage, expired), Err(Class::Expired));
    revoke(&mut stage, |set| {
        set.revoke_key(Party::named("carol").bytes())
    });
    assert_eq!(recheck(&stage, stage.now), Err(Class::Revoked));
}

/// PO-9: no older registry, policy, revocation list or score file replaces a newer one; nothing is
/// un-revoked; no other mesh steps in.
#[test]
fn trust_state_only_moves_forward() {
    let mut mesh = Mesh::new();
    mesh.epochs = [5; 4];
    mesh.scores = Some(BTreeMap::from([(AgentId::parse("alice").unwrap(), 300)]));
    mesh.revoked.revoke_key(Party::named("dave").bytes());
    let held = mesh.trust();
    let replaces = |mesh: &Mesh| {
        let replaced = mesh.trust().check_replaces(&held);
        replaced.map_err(|rejection| rejection.code())
    };
    assert_eq!(replaces(&mesh), Ok(()));
    for index in 0..4 {
        let mut newer = mesh.clone();
        newer.epochs[index] = 6;
        assert_eq!(replaces(&newer), Ok(()), "file {index}");
        let mut older = mesh.clone();
        older.epochs = [9; 4];
        older.epochs[index] = 4;
        assert_eq!(replaces(&older), Err(2305), "file {index}");
    }
    let mut forgetful = mesh.clone();
    forgetful.epochs = [9; 4];
    forgetful.revoked = RevocationSet::default();
    assert_eq!(replaces(&forgetful), Err(2305));
    let mut scoreless = mesh.clone();
    scoreless.epochs = [9; 4];
    scoreless.scores = None;
    assert_eq!(replaces(&scoreless), Err(2305));
    let mut other = mesh.clone();
    (other.epochs, other.name) = ([9; 4], "elsewhere".into());
    assert_eq!(replaces(&other), Err(1701));
}

/// PO-10, as far as a static mesh goes: a file past its window is never permission.
#[test]
fn expired_trust_files_refuse_everything() {
    let skew = 5_000;
    for (index, code) in [(0, 2301), (1, 2302), (2, 2303), (3, 2307)] {
        let mut mesh = Mesh::new();
        mesh.scores = Some(BTreeMap::new());
        mesh.windows[index] = window(NOW - HOUR, NOW - skew);
        let mut stage = Stage::barren(mesh);
        let frame = Letter::publish(&stage.chain(&["alice"]), SUBJ).frame();
        assert_eq!(stage.refuses(&frame, Class::StaleState).code(), code);
        stage.now = Timestamp::from_millis(NOW - 1);
        stage.accepts(&frame);
    }
    let mut mesh = Mesh::new();
    mesh.root_window = window(NOW - HOUR, NOW - skew);
    let mut stage = Stage::barren(mesh);
    let frame = Letter::publish(&stage.chain(&["alice"]), SUBJ).frame();
    assert_eq!(stage.refuses(&frame, Class::StaleState).code(), 2304);
}

/// RV-3, as far as files go: a revocation list is signed by the revoker, in order, without
/// repetition; anything else is no list.
#[test]
fn odd_revocation_lists_are_refused() {
    let mesh = Mesh::new();
    let set = |index: usize, values: Vec<crate::forge::Value>| -> Result<TrustState, u16> {
        let changed = files_with(&mesh, Role::Revoker, 4, |body| {
            body.with(&[index], list(values))
        });
        changed.map_err(|rejection| rejection.code())
    };
    for index in [5, 6] {
        let (one, two) = (bin([1; 32]), bin([2; 32]));
        assert!(set(index, vec![one.clone(), two.clone()]).is_ok());
        assert_eq!(set(index, vec![two.clone(), one.clone()]).unwrap_err(), 117);
        assert_eq!(set(index, vec![one.clone(), one]).unwrap_err(), 117);
        assert_eq!(set(index, vec![bin([1; 31])]).unwrap_err(), 105);
    }
    assert_eq!(set(7, vec![text("b"), text("a")]).unwrap_err(), 117);
    assert_eq!(set(7, vec![text("a"), text("a")]).unwrap_err(), 117);
    for signer in [Role::Root, Role::Issuer, Role::Registrar, Role::Policy] {
        let forged = files_with(&mesh, signer, 4, |body| body).unwrap_err();
        assert_eq!(forged.class(), Class::BadSignature);
    }
}

/// DO-14: what is remembered of a chain decides nothing but its signatures: the same sender under
/// another chain, policy or epoch gets another decision.
#[test]
fn nothing_but_signatures_is_remembered() {
    use crate::forge::chain::PUB;
    use crate::forge::chain::scope;

    let mut stage = Stage::default();
    let wide = stage.chain(&["carol", "alice"]);
    let narrow = stage
        .chain(&["carol", "alice"])
        .edit(1, |link| link.scope = scope(&[(PUB, "notes.>")]));
    let send = |stage: &mut Stage, chain: &ChainSpec| {
        let frame = Letter::publish(chain, SUBJ).frame();
        let result = stage.decide(&frame, SUBJ, None).result;
        result
            .map(drop)
            .map_err(|refused| refused.rejection.class())
    };
    for _ in 0..2 {
        assert_eq!(send(&mut stage, &wide), Ok(()));
        assert_eq!(send(&mut stage, &narrow), Err(Class::ScopeExceeded));
    }
    let open = stage.trust.clone();
    let mut closed = stage.mesh.clone();
    closed.policy = Policy::default();
    stage.trust = closed.trust();
    assert_eq!(send(&mut stage, &wide), Err(Class::PolicyDenied));
    let mut without_carol = stage.mesh.clone();
    without_carol
        .members
        .retain(|(party, _)| party.name != "carol");
    stage.trust = without_carol.trust();
    assert_eq!(send(&mut stage, &wide), Err(Class::UnknownAgent));
    stage.trust = open;
    assert_eq!(send(&mut stage, &wide), Ok(()));
    // The same links with another signature are another chain, checked from the start.
    let tampered = wide
        .clone()
        .edit(0, |link| link.signature = Some(bin([1; 64])));
    let frame = Letter::publish(&wide, SUBJ)
        .edit(|l| l.chain = tampered.encode())
        .frame();
    assert_eq!(stage.refuses(&frame, Class::BadSignature).hop(), Some(0));
    let unknown = ObjectId([9; 32]);
    revoke(&mut stage, |set| set.revoke_link(unknown));
    assert_eq!(send(&mut stage, &wide), Ok(()));
}
