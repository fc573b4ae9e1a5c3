//! A served trust state: followed forward only, from signed parts alone (protocol §9.8 to §9.12).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use trustmesh::client::clock::Clock;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::rejection::StaleState;
use trustmesh::proto::rejection::UntrustedRoot;
use trustmesh::proto::revocation::RevocationSet;
use trustmesh::proto::root::FileKind;
use trustmesh::proto::root::Role;
use trustmesh::proto::root::RootDraft;
use trustmesh::proto::root::TrustRoot;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::time::Validity;
use trustmesh::proto::trust::Admission;
use trustmesh::proto::trust::BULLETIN_MAX;
use trustmesh::proto::trust::Bulletin;
use trustmesh::proto::trust::Edition;
use trustmesh::proto::trust::FileDraft;
use trustmesh::proto::trust::Follower;
use trustmesh::proto::trust::PartEdition;
use trustmesh::proto::trust::PartKey;
use trustmesh::proto::trust::Progress;
use trustmesh::proto::trust::Purpose;
use trustmesh::proto::trust::Snapshot;
use trustmesh::proto::trust::TrustState;
use trustmesh::proto::trust::TrustTimeDraft;
use trustmesh::proto::trust::digest_of;
use trustmesh::services::authority::Authority;

const START: u64 = 1_800_000_000_000;

#[derive(Clone)]
struct Dial(Arc<AtomicU64>);

impl Dial {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(START)))
    }

    fn forward(&self, millis: u64) {
        self.0.fetch_add(millis, Relaxed);
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Relaxed))
    }
}

impl Clock for Dial {
    fn now(&self) -> Result<Timestamp, Rejection> {
        Ok(self.at())
    }
}

/// A mesh with three agents, published once.
fn mesh(dial: &Dial) -> Authority {
    let mut mesh = Authority::served_with_clock("served", false, Arc::new(dial.clone())).unwrap();
    mesh.set_policy(Policy::default()).unwrap();
    for id in ["alice", "bob", "carol"] {
        enrol(&mut mesh, id);
    }
    mesh.publish().unwrap();
    mesh
}

fn enrol(mesh: &mut Authority, id: &str) -> SigningKey {
    let key = SigningKey::generate().unwrap();
    mesh.enrol(&AgentId::parse(id).unwrap(), &key).unwrap();
    key
}

fn follower(mesh: &Authority) -> Follower {
    let pin = Some(mesh.root_id());
    Follower::new(&mesh.roots()[0], Admission::Production, pin).unwrap()
}

fn hear(follower: &mut Follower, mesh: &Authority) -> Result<Arc<TrustState>, Rejection> {
    hear_bulletin(follower, mesh.bulletin().unwrap(), mesh)
}

fn hear_bulletin(
    follower: &mut Follower,
    bulletin: &Bulletin,
    mesh: &Authority,
) -> Result<Arc<TrustState>, Rejection> {
    let parts = mesh.parts();
    match follower.hear(bulletin, |digest| parts.get(digest).cloned())? {
        Progress::Advanced(state) => Ok(state),
        Progress::Unchanged => Ok(follower.state().unwrap().clone()),
        Progress::Missing(missing) => panic!("{missing:?}"),
    }
}

fn stale(reason: StaleState) -> Rejection {
    Rejection::StaleState { reason }
}

#[test]
fn a_state_is_composed_from_its_parts_and_goes_forward_with_them() {
    let dial = Dial::new();
    let mut mesh = mesh(&dial);
    let mut follower = follower(&mesh);
    let first = hear(&mut follower, &mesh).unwrap();
    assert_eq!((first.registered(), first.certificates().count()), (3, 3));

    dial.forward(1_000);
    let dave = enrol(&mut mesh, "dave").public().bytes();
    mesh.revoke_key(dave).unwrap();
    let second = hear(&mut follower, &mesh).unwrap();
    assert_eq!(second.registered(), 4);
    assert_eq!(second.revocations().keys(), [dave]);
    assert!(second.time().unwrap().epoch() > first.time().unwrap().epoch());

    // A timestamp alone keeps the same snapshot fresh.
    dial.forward(5_000);
    mesh.beat().unwrap();
    let third = hear(&mut follower, &mesh).unwrap();
    assert_eq!(
        third.snapshot().unwrap().edition(),
        second.snapshot().unwrap().edition()
    );
    assert_eq!(third.time().unwrap().issued(), dial.at());
}

#[test]
fn only_what_changed_is_signed_anew() {
    let dial = Dial::new();
    let mut mesh = mesh(&dial);
    let before = mesh.parts();
    mesh.revoke_agent("alice").unwrap();
    let after = mesh.parts();
    let new: Vec<_> = after
        .keys()
        .filter(|digest| !before.contains_key(digest))
        .collect();
    assert_eq!(new.len(), 1, "the segment of revocations");
    assert_eq!(mesh.bulletin().unwrap().parts.len(), 1);
}

#[test]
fn a_bulletin_is_read_as_it_was_written_and_in_no_other_way() {
    let mesh = mesh(&Dial::new());
    let bytes = mesh.bulletin().unwrap().to_bytes();
    assert_eq!(Bulletin::parse(&bytes).unwrap(), *mesh.bulletin().unwrap());
    for len in 0..bytes.len() {
        assert!(Bulletin::parse(&bytes.slice(..len)).is_err(), "{len}");
    }
}

#[test]
fn a_bulletin_above_its_limit_is_refused_unread() {
    let bytes = Bytes::from(vec![0; BULLETIN_MAX + 1]);
    let refused = Bulletin::parse(&bytes).unwrap_err();
    assert_eq!(refused.class(), Class::TooLarge);
    let refused = Bulletin::parse(&bytes.slice(..BULLETIN_MAX)).unwrap_err();
    assert_eq!(refused.class(), Class::Malformed);
}

/// PO-9: an older signed state, replayed, is ignored.
#[test]
fn a_bulletin_of_the_past_is_refused_as_a_rollback() {
    let dial = Dial::new();
    let mut mesh = mesh(&dial);
    let old = mesh.bulletin().unwrap().clone();
    let mut follower = follower(&mesh);
    hear(&mut follower, &mesh).unwrap();
    mesh.revoke_agent("alice").unwrap();
    let held = hear(&mut follower, &mesh).unwrap();

    let refused = hear_bulletin(&mut follower, &old, &mesh).unwrap_err();
    assert_eq!(refused, stale(StaleState::Rollback));
    assert!(Arc::ptr_eq(&held, follower.state().unwrap()));
}

/// Whoever holds the timestamp role can fork; a reader that meets both branches finds out.
#[test]
fn the_same_epoch_with_other_content_is_equivocation() {
    let keys: BTreeMap<Role, SigningKey> = Role::ALL
        .into_iter()
        .map(|role| (role, SigningKey::from_seed(&[role as u8 + 1; 32]).unwrap()))
        .collect();
    let at = Timestamp::from_millis(START);
    let window = |millis| Validity::new(at, at.plus(millis)).unwrap();
    let draft = RootDraft {
        name: "forked".into(),
        roles: keys
            .iter()
            .map(|(role, key)| (*role, (1, vec![key.public().bytes()])))
            .collect(),
        validity: window(86_400_000),
        dev: false,
    };
    let root_file = draft.sign(&[(0, &keys[&Role::Root])]).unwrap();
    let root = TrustRoot::parse(&root_file).unwrap();
    // Two states of the same epochs, which differ in whom they revoke.
    let branch = |revoked: &str, time: u64, snapshot: u64| {
        let mut set = RevocationSet::default();
        set.revoke_agent(AgentId::parse(revoked).unwrap());
        let edition = Edition {
            epoch: snapshot,
            validity: window(86_400_000),
        };
        let policy = Policy::default();
        let mut parts = Vec::new();
        let mut names = BTreeMap::new();
        for (kind, draft) in [
            (FileKind::Registry, FileDraft::Registry(&[])),
            (FileKind::Policy, FileDraft::Policy(&policy)),
            (FileKind::Revocations, FileDraft::Revocations(&set)),
        ] {
            let file = draft.sign(root.mesh(), edition, &[(0, &keys[&kind.role()])]);
            let digest = digest_of(&file);
            let epoch = snapshot;
            names.insert(PartKey { kind, index: 0 }, PartEdition { epoch, digest });
            parts.push(file);
        }
        let signer = [(0, &keys[&Role::Timestamp])];
        let snapshot_file = Snapshot::sign(&root, edition, &names, &signer);
        let draft = TrustTimeDraft {
            epoch: time,
            issued: at,
            snapshot: PartEdition {
                epoch: snapshot,
                digest: digest_of(&snapshot_file),
            },
            root: (1, root.id()),
        };
        Bulletin {
            timestamp: draft.sign(&root, &signer).unwrap(),
            snapshot: snapshot_file,
            parts,
        }
    };
    let mut follower = Follower::new(&root_file, Admission::Production, None).unwrap();
    follower.hear(&branch("alice", 5, 3), |_| None).unwrap();
    for (time, snapshot) in [(5, 3), (6, 3)] {
        let refused = follower
            .hear(&branch("bob", time, snapshot), |_| None)
            .unwrap_err();
        assert_eq!(
            refused,
            stale(StaleState::Equivocation),
            "{time} {snapshot}"
        );
    }
    // A later epoch that forgets what was revoked.
    let refused = follower.hear(&branch("bob", 6, 4), |_| None).unwrap_err();
    assert_eq!(refused, stale(StaleState::Rollback));
}

#[test]
fn a_snapshot_of_one_moment_with_parts_of_another_is_incomplete() {
    let dial = Dial::new();
    let mut mesh = mesh(&dial);
    let old_parts = mesh.parts();
    mesh.revoke_agent("alice").unwrap();
    let mut follower = follower(&mesh);
    let mut bulletin = mesh.bulletin().unwrap().clone();
    bulletin.parts.clear();
    // The store answers with whatever it has, whatever it was asked for.
    let liar = old_parts.values().next().cloned();
    let found = follower.hear(&bulletin, |_| liar.clone()).unwrap_err();
    assert_eq!(found, stale(StaleState::Incomplete));
    let found = follower
        .hear(&bulletin, |digest| old_parts.get(digest).cloned())
        .unwrap();
    assert!(matches!(found, Progress::Missing(missing) if missing.len() == 1));
    assert!(follower.state().is_none());
}

#[test]
fn no_changed_byte_of_a_bulletin_or_part_is_believed() {
    let dial = Dial::new();
    let mesh = mesh(&dial);
    let bulletin = mesh.bulletin().unwrap();
    let change = |bytes: &Bytes, at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    for at in 0..bulletin.timestamp.len() {
        let timestamp = change(&bulletin.timestamp, at);
        let changed = Bulletin {
            timestamp,
            ..bulletin.clone()
        };
        assert!(
            hear_bulletin(&mut follower(&mesh), &changed, &mesh).is_err(),
            "{at}"
        );
    }
    for at in 0..bulletin.snapshot.len() {
        let snapshot = change(&bulletin.snapshot, at);
        let changed = Bulletin {
            snapshot,
            ..bulletin.clone()
        };
        assert!(
            hear_bulletin(&mut follower(&mesh), &changed, &mesh).is_err(),
            "{at}"
        );
    }
    let parts = mesh.parts();
    let forged = |digest: &ObjectId| parts.get(digest).map(|part| change(part, part.len() / 2));
    let mut bare = bulletin.clone();
    bare.parts.clear();
    assert!(follower(&mesh).hear(&bare, forged).is_err());
}

/// PO-10: past the bound of its purpose, what was held last no longer decides.
#[test]
fn each_purpose_goes_stale_at_its_own_bound() {
    let dial = Dial::new();
    let mesh = mesh(&dial);
    let state = hear(&mut follower(&mesh), &mesh).unwrap();
    let skew = ClockSkew::default();
    for (purpose, bound) in [
        (Purpose::Authority, 20_000),
        (Purpose::Request, 60_000),
        (Purpose::Publish, 600_000),
    ] {
        let at =
            |millis| state.check_fresh(Timestamp::from_millis(START).plus(millis), skew, purpose);
        assert_eq!(at(bound), Ok(()));
        assert_eq!(at(bound + 1), Err(stale(StaleState::Timestamp)));
    }
}

#[test]
fn a_timestamp_from_the_future_is_not_fresh() {
    let dial = Dial::new();
    let mesh = mesh(&dial);
    let state = hear(&mut follower(&mesh), &mesh).unwrap();
    let skew = ClockSkew::default();
    let before = |millis| Timestamp::from_millis(START).minus(millis);
    assert!(
        state
            .check_fresh(before(5_000), skew, Purpose::Request)
            .is_ok()
    );
    assert!(
        state
            .check_fresh(before(5_001), skew, Purpose::Request)
            .is_err()
    );
}

/// RV-9: role keys are replaced with the signatures of the root keys before and after, and in no
/// other way.
#[test]
fn another_root_is_followed_when_the_root_before_signed_it() {
    let dial = Dial::new();
    let mut mesh = mesh(&dial);
    let mut follower = follower(&mesh);
    let held = hear(&mut follower, &mesh).unwrap();

    let new = |role| (role, SigningKey::generate().unwrap());
    let keys = BTreeMap::from([new(Role::Root), new(Role::Registrar), new(Role::Timestamp)]);
    mesh.replace_roles(keys).unwrap();
    let refused = hear(&mut follower, &mesh).unwrap_err();
    assert_eq!(refused.class(), Class::BadSignature);
    let roots = mesh.roots();
    follower.succeed(&roots[1]).unwrap();
    assert_eq!(follower.root().version(), 2);
    let state = hear(&mut follower, &mesh).unwrap();
    assert_eq!(state.mesh(), mesh.mesh());
    // What is pinned stays the first root.
    let first = TrustRoot::parse(&roots[0]).unwrap();
    assert_eq!((first.first(), first.version()), (first.id(), 1));
    assert_eq!(state.root().first(), first.id());
    assert_ne!(state.root().id(), first.id());
    // The certificates are the same, signed again by the registrar that came.
    let ids =
        |state: &TrustState| -> BTreeSet<_> { state.certificates().map(|c| c.id()).collect() };
    assert!(!ids(&state).is_empty());
    assert_eq!(ids(&state), ids(&held));

    // A root of the same mesh's look that nobody of the old root signed.
    let stranger = self::mesh(&dial);
    let refused = follower.succeed(&stranger.roots()[0]).unwrap_err();
    assert_eq!(refused.class(), Class::UnsupportedVersion);
    let mut forged = self::mesh(&dial);
    forged.replace_roles(BTreeMap::new()).unwrap();
    forged.replace_roles(BTreeMap::new()).unwrap();
    let refused = follower.succeed(&forged.roots()[2]).unwrap_err();
    let lineage = UntrustedRoot::Lineage;
    assert!(matches!(refused, Rejection::UntrustedRoot { reason, .. } if reason == lineage));
}

#[test]
fn a_retired_key_is_worthless_from_its_instant_on() {
    let dial = Dial::new();
    let mut mesh = mesh(&dial);
    let key = enrol(&mut mesh, "dave").public().bytes();
    let grace = dial.at().plus(60_000);
    mesh.retire_key(key, grace);
    mesh.publish().unwrap();
    let state = hear(&mut follower(&mesh), &mesh).unwrap();
    let certificate = state.certificate(&key).unwrap();
    let check = |now| {
        let place = trustmesh::proto::rejection::Place::Certificate;
        state.revocations().check_agent(certificate, now, place)
    };
    assert_eq!(check(grace.minus(1)), Ok(()));
    assert_eq!(check(grace).unwrap_err().class(), Class::Revoked);
}

#[test]
fn revocations_and_agents_without_number_are_cut_into_parts() {
    let dial = Dial::new();
    let mut mesh = Authority::served_with_clock("big", false, Arc::new(dial.clone())).unwrap();
    for _ in 0..900 {
        let id = format!("agent-{:x}", rand_id());
        enrol(&mut mesh, &id);
    }
    let keys: Vec<[u8; 32]> = (0..4_100u32)
        .map(|n| {
            let mut key = [7; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            key
        })
        .collect();
    mesh.revoke_all(
        keys.iter()
            .map(|id| trustmesh::proto::revocation::Revocation::Link(ObjectId(*id))),
    )
    .unwrap();
    let mut follower = follower(&mesh);
    let state = hear(&mut follower, &mesh).unwrap();
    assert_eq!(state.registered(), 900);
    assert_eq!(state.revocations().links().len(), 4_100);
    let count = |kind| {
        let parts = state.snapshot().unwrap().parts();
        parts.keys().filter(|key| key.kind == kind).count()
    };
    assert_eq!(
        (count(FileKind::Registry), count(FileKind::Revocations)),
        (4, 3)
    );
    assert!(mesh.parts().values().all(|part| part.len() < 256 * 1024));

    // One more of each touches one part of each.
    let before = mesh.parts();
    enrol(&mut mesh, "one-more");
    mesh.revoke_agent("one-more").unwrap();
    let after = mesh.parts();
    assert_eq!(
        after
            .keys()
            .filter(|digest| !before.contains_key(digest))
            .count(),
        2
    );
    let state = hear(&mut follower, &mesh).unwrap();
    assert_eq!(state.registered(), 901);
    assert_eq!(state.revocations().len(), 4_101);
}

fn rand_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}
