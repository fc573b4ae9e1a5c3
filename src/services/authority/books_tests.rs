//! Claims about authorities on disk, on a real file system.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::client::clock::ManualClock;
use crate::client::floor::ReplayFloor;
use crate::client::home::Home;
use crate::proto::policy::Policy;
use crate::proto::scope::Scope;
use crate::proto::time::ClockSkew;
use crate::proto::time::Timestamp;
use crate::services::authority::JoinTerms;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(NOW))
}

fn saved() -> (TempDir, Authority) {
    let mut authority = Authority::with_clock("test", clock()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    authority.save(&directory).unwrap();
    (directory, authority)
}

fn opened(directory: &TempDir) -> Authority {
    Authority::open_with_clock(directory, clock()).unwrap()
}

fn trust(directory: &TempDir) -> Arc<TrustState> {
    let home = Home::open(directory).unwrap();
    home.trust().unwrap().current()
}

/// Every file below, with its contents.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn an_opened_authority_goes_on_where_the_saved_one_stopped() {
    let (directory, mut authority) = saved();
    let planner = authority.agent("planner", ["pub:>"]).unwrap();
    authority.agent("worker", ["pub:>"]).unwrap();
    authority.revoke_agent("worker").unwrap();
    authority.set_score("planner", 321).unwrap();
    let rules = r#"{ "rules": [
        { "name": "r", "effect": "allow", "actions": ["pub"], "subjects": "a" } ] }"#;
    authority
        .set_policy(Policy::from_json(rules).unwrap())
        .unwrap();
    authority.save(&directory).unwrap();
    let before = trust(&directory);

    let mut again = opened(&directory);
    assert_eq!(again.root_id(), authority.root_id());
    drop(authority);
    let taken = again.agent("planner", ["pub:>"]).unwrap_err();
    assert!(matches!(taken, AuthorityError::Taken), "{taken}");
    again.agent("third", ["pub:>"]).unwrap();
    again.save(&directory).unwrap();
    let after = trust(&directory);
    after.check_replaces(&before).unwrap();
    assert!(after.latest_epoch() > before.latest_epoch());
    assert!(after.revocations().contains(before.revocations()));
    assert_eq!(after.score(planner.id()), Some(321));
    assert_eq!(after.policy().rules()[0].name(), "r");
    let certificate = after.certificate(&planner.key()).unwrap();
    assert_eq!(certificate.agent(), planner.id());
    assert_eq!(after.certificates().count(), 3);
}

/// CL-1.
#[test]
fn role_keys_are_private_and_one_open_to_others_is_refused() {
    let (directory, _) = saved();
    let mut seen = 0;
    for role in STATIC_ROLES {
        let path = layout::role_file(directory.path(), role);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{}", path.display());
        seen += 1;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Authority::open(&directory).unwrap_err();
        assert!(matches!(error, AuthorityError::KeyFile(_)), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(seen, 6);
    let private = layout::authority_directory(directory.path());
    let mode = fs::metadata(private).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);
}

#[test]
fn another_meshs_directory_is_left_as_it_is() {
    let (directory, _) = saved();
    let before = contents(directory.path());
    let mut other = Authority::with_clock("other", clock()).unwrap();
    let error = other.save(&directory).unwrap_err();
    assert!(matches!(error, AuthorityError::OtherMesh { .. }), "{error}");
    assert_eq!(contents(directory.path()), before);
    // Nor are keys overwritten where the root is missing.
    fs::remove_dir_all(layout::trust_directory(directory.path())).unwrap();
    let before = contents(directory.path());
    let error = other.save(&directory).unwrap_err();
    assert!(matches!(error, AuthorityError::OtherKey { .. }), "{error}");
    assert_eq!(contents(directory.path()), before);
}

#[test]
fn of_two_that_save_the_second_does_not_undo_the_first() {
    let (directory, mut one) = saved();
    let mut two = opened(&directory);
    one.revoke_agent("planner").unwrap();
    one.save(&directory).unwrap();
    let before = contents(directory.path());
    let error = two.save(&directory).unwrap_err();
    assert!(matches!(error, AuthorityError::Changed { .. }), "{error}");
    assert_eq!(contents(directory.path()), before);
    one.save(&directory).unwrap();
    opened(&directory).save(&directory).unwrap();
}

#[test]
fn a_role_key_that_is_not_the_roots_is_refused() {
    let (directory, _) = saved();
    let (other, _) = saved();
    let path = layout::role_file(directory.path(), Role::Policy);
    fs::copy(layout::role_file(other.path(), Role::Policy), &path).unwrap();
    let error = Authority::open(&directory).unwrap_err();
    assert!(matches!(error, AuthorityError::OtherKey { .. }), "{error}");
    fs::remove_file(&path).unwrap();
    let error = Authority::open(&directory).unwrap_err();
    assert!(matches!(error, AuthorityError::KeyFile(_)), "{error}");
}

#[test]
fn an_agents_key_is_never_overwritten() {
    let (directory, mut authority) = saved();
    let planner = authority.agent("planner", ["pub:>"]).unwrap();
    authority.save_agent(&directory, &planner).unwrap();
    authority.save_agent(&directory, &planner).unwrap();

    let (_, mut other) = saved();
    let stranger = other.agent("planner", ["pub:>"]).unwrap();
    let error = authority.save_agent(&directory, &stranger).unwrap_err();
    assert!(matches!(error, AuthorityError::Unknown), "{error}");
    let error = other.save_agent(&directory, &stranger).unwrap_err();
    assert!(matches!(error, AuthorityError::OtherKey { .. }), "{error}");
    let error = authority
        .save_grant(&directory, "planner", stranger.grant())
        .unwrap_err();
    assert!(matches!(error, AuthorityError::Unknown), "{error}");
    let directory = layout::agent_directory(directory.path(), planner.id());
    let key = keyfile::load(&directory.join(layout::KEY_FILE)).unwrap();
    assert_eq!(key.public().bytes(), planner.key());
}

/// Saving again does not forget what was accepted, and gives back no floor that was lost.
#[test]
fn only_the_first_save_of_an_agent_says_that_nothing_was_accepted() {
    let (directory, mut authority) = saved();
    let planner = authority.agent("planner", ["pub:>"]).unwrap();
    authority.save_agent(&directory, &planner).unwrap();
    let path = layout::agent_directory(directory.path(), planner.id()).join(layout::FLOOR_FILE);
    let skew = ClockSkew::default();
    let (floor, initial) = ReplayFloor::open(&path, NOW, skew).unwrap();
    assert_eq!(initial, NOW);
    floor.admit(NOW.plus(1_000)).unwrap();
    drop(floor);
    authority.save_agent(&directory, &planner).unwrap();
    assert_eq!(
        ReplayFloor::open(&path, NOW, skew).unwrap().1,
        NOW.plus(3_000)
    );
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    authority.save_agent(&directory, &planner).unwrap();
    assert_eq!(
        ReplayFloor::open(&path, NOW, skew).unwrap().1,
        NOW.plus(skew.as_millis())
    );
}

/// A served mesh of a first root, with an agent, on disk.
fn served() -> (TempDir, Authority, Identity) {
    let mut mesh = Authority::served_with_clock("test", false, clock()).unwrap();
    let planner = mesh.agent("planner", ["pub:>"]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    mesh.save(&directory).unwrap();
    (directory, mesh, planner)
}

/// The same files elsewhere.
fn copy(from: &TempDir) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for (path, bytes) in contents(from.path()) {
        let path = to.path().join(path.strip_prefix(from.path()).unwrap());
        files::private_directory(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    to
}

/// Everything that tells a directory from one saved at another time.
fn state_of(directory: &TempDir) -> Vec<Bytes> {
    let mesh = opened(directory);
    let saved = Authority::saved_state(directory).unwrap();
    assert_eq!(saved.root().id(), mesh.current_root().unwrap().id());
    let read = Saved::read(&layout::trust_directory(directory.path())).unwrap();
    let files = read.files;
    let mut everything = vec![
        files.root,
        files.registry,
        files.policy,
        files.revocations,
        files.scores.unwrap(),
        mesh.ledger.encode(),
    ];
    everything.extend(read.later_roots);
    let keys = mesh.keys.values().map(|key| key.public().bytes());
    everything.extend(keys.map(|key| Bytes::copy_from_slice(&key.0)));
    everything
}

/// Saves a mesh that went on to other roots, and dies after each change to a file: whoever opens
/// the directory finds everything as it was or everything as it is, and can go on.
fn dies_everywhere(succeed: impl Fn(&mut Authority)) {
    let (directory, ..) = served();
    let before = state_of(&directory);
    let (mut changes, mut seen) = (0, [0, 0]);
    loop {
        let place = copy(&directory);
        let mut mesh = opened(&place);
        let lost = JoinTerms::new(Scope::default()).agent(AgentId::parse("planner").unwrap());
        // Changes the ledger and the revocations.
        mesh.recover(&lost).unwrap();
        succeed(&mut mesh);
        let done = files::crash::after(changes, || mesh.save(&place));
        let found = state_of(&place);
        let after = found != before;
        seen[usize::from(after)] += 1;
        assert!(done.is_err() || after);
        if after {
            let new = opened(&place);
            assert_eq!(new.roots(), mesh.roots(), "after {changes} changes");
            assert_eq!(new.ledger, mesh.ledger);
            let epochs = Authority::saved_state(&place).unwrap().epochs();
            let epochs = [epochs.registry, epochs.policy, epochs.revocations];
            assert_eq!(epochs, [mesh.epoch; 3], "after {changes} changes");
            for (role, key) in &mesh.keys {
                assert_eq!(new.keys[role].public(), key.public());
            }
        }
        goes_on(&place, |_| {});
        goes_on(&copy(&place), |mesh| {
            mesh.replace_roles(other_key(Role::Policy)).unwrap();
        });
        if done.is_ok() {
            break;
        }
        changes += 1;
    }
    assert!(seen[0] > 10 && seen[1] > 10, "{seen:?}");
}

/// Whoever comes next saves what it likes, and leaves nothing of those before behind.
fn goes_on(place: &TempDir, change: impl FnOnce(&mut Authority)) {
    let mut mesh = opened(place);
    change(&mut mesh);
    mesh.save(place).unwrap();
    assert_eq!(opened(place).roots(), mesh.roots());
    let names = contents(place.path()).into_keys();
    let names = names.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    let numbered = |name: &String| {
        name.split('.')
            .nth(1)
            .is_some_and(|n| n.parse::<u32>().is_ok())
    };
    let mut numbered: Vec<_> = names.filter(numbered).collect();
    numbered.sort();
    let roots = 2..=mesh.roots().len();
    assert_eq!(
        numbered,
        roots.map(|n| format!("root.{n}.tm")).collect::<Vec<_>>()
    );
}

fn other_key(role: Role) -> BTreeMap<Role, SigningKey> {
    [(role, SigningKey::generate().unwrap())].into()
}

#[test]
fn a_prolonged_root_is_saved_whole_or_not_at_all() {
    dies_everywhere(|mesh| mesh.replace_roles(BTreeMap::new()).unwrap());
}

#[test]
fn a_root_with_other_keys_is_saved_whole_or_not_at_all() {
    for role in [Role::Root, Role::Revoker, Role::Registrar] {
        dies_everywhere(|mesh| {
            mesh.replace_roles(other_key(role)).unwrap();
        });
    }
}

#[test]
fn several_roots_are_saved_all_or_none() {
    dies_everywhere(|mesh| {
        for role in [Role::Root, Role::Registrar, Role::Policy] {
            mesh.replace_roles(other_key(role)).unwrap();
        }
    });
}

/// The keys that a root replaced are gone with it.
#[test]
fn a_replaced_key_does_not_stay() {
    let (directory, mut mesh, _) = served();
    let old = fs::read(layout::role_file(directory.path(), Role::Root)).unwrap();
    mesh.replace_roles(other_key(Role::Root)).unwrap();
    mesh.save(&directory).unwrap();
    assert!(
        contents(directory.path())
            .into_values()
            .all(|bytes| bytes != old)
    );
}

/// Of two that lead a mesh on, the second does not undo the first.
#[test]
fn a_mesh_is_not_led_on_twice() {
    let (directory, mut one, _) = served();
    let mut two = opened(&directory);
    one.replace_roles(BTreeMap::new()).unwrap();
    one.save(&directory).unwrap();
    let before = contents(directory.path());
    for _ in 0..5 {
        two.replace_roles(BTreeMap::new()).unwrap();
    }
    let error = two.save(&directory).unwrap_err();
    assert!(matches!(error, AuthorityError::Changed { .. }), "{error}");
    assert_eq!(contents(directory.path()), before);
}

/// Under another registrar everybody's certificate is signed again, those of former keys too,
/// and stays the one it was.
#[test]
fn agents_go_on_under_another_registrar() {
    let (directory, mut mesh, planner) = served();
    // A former key, which works until its grace is over.
    let key = SigningKey::generate().unwrap();
    let current = mesh.current(planner.id()).unwrap().id();
    let day = std::time::Duration::from_secs(24 * 3_600);
    let offer = mesh.next_offer(planner.id(), &current, &key.public().bytes(), day);
    let offer = offer.unwrap();
    let proof = offer.prove_possession(&key).unwrap();
    mesh.follow(&offer, &proof, day).unwrap();
    mesh.save(&directory).unwrap();

    let mut next = opened(&directory);
    next.replace_roles(other_key(Role::Registrar)).unwrap();
    next.save(&directory).unwrap();
    let saved = Authority::saved_state(&directory).unwrap();
    assert_eq!(saved.certificate(&planner.key()).unwrap().id(), current);
    let rotated = saved.certificate(&key.public().bytes()).unwrap();
    assert_eq!(rotated.id(), offer.id());
    assert_eq!(
        opened(&directory).current(planner.id()).unwrap().id(),
        offer.id()
    );
    // Tokens that the registrar before made are void.
    let token = mesh.join_token(&JoinTerms::new(Scope::default())).unwrap();
    assert!(mesh.check_statement(token.statement()).is_ok());
    assert!(next.check_statement(token.statement()).is_err());
}

/// Saves a rotation, and dies after each change to a file: the agent has its old key or its new one,
/// and can rotate again; nobody has two certificates.
#[test]
fn a_rotation_that_was_half_saved_can_be_made_again() {
    let (directory, _, planner) = served();
    let key = SigningKey::generate().unwrap();
    let day = std::time::Duration::from_secs(24 * 3_600);
    let rotate = |mesh: &mut Authority| {
        let current = mesh.current(planner.id()).unwrap();
        if current.claims().key == key.public().bytes() {
            return;
        }
        let offer = mesh.next_offer(planner.id(), &current.id(), &key.public().bytes(), day);
        let offer = offer.unwrap();
        let proof = offer.prove_possession(&key).unwrap();
        mesh.follow(&offer, &proof, day).unwrap();
    };
    for changes in 0.. {
        let place = copy(&directory);
        let mut mesh = opened(&place);
        rotate(&mut mesh);
        let done = files::crash::after(changes, || mesh.save(&place));
        goes_on(&copy(&place), |_| {});
        goes_on(&place, rotate);
        let saved = Authority::saved_state(&place).unwrap();
        assert_eq!(saved.certificates_of(planner.id()).len(), 2);
        if done.is_ok() {
            assert!(changes > 10);
            break;
        }
    }
}

#[test]
fn an_agents_key_becomes_no_role_key() {
    let (_directory, mut mesh, _) = served();
    let (roots, key) = (mesh.roots(), SigningKey::generate().unwrap());
    mesh.enrol(&AgentId::parse("worker").unwrap(), &key)
        .unwrap();
    let error = mesh.replace_roles([(Role::Policy, key)].into());
    assert!(matches!(error, Err(AuthorityError::Taken)), "{error:?}");
    assert_eq!(mesh.roots(), roots);
}
