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
use crate::proto::time::ClockSkew;
use crate::proto::time::Timestamp;

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
