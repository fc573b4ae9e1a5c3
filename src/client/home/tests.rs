//! Claims about mesh directories, on a real file system.

use std::ffi::OsString;
use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::time::Duration;

use tempfile::TempDir;

use super::layout::pin_file;
use super::*;
use crate::client::clock::ManualClock;
use crate::proto::identity::AGENT_ID_MAX;
use crate::proto::policy::Policy;
use crate::proto::time::Timestamp;
use crate::services::authority::Authority;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A saved mesh with the agents `planner` and `team/worker`.
struct Mesh {
    directory: TempDir,
    authority: Authority,
    clock: Arc<ManualClock>,
}

impl Mesh {
    fn new() -> Self {
        Self::of(|clock| Authority::with_clock("test", clock).unwrap())
    }

    fn dev() -> Self {
        Self::of(|clock| Authority::dev_with_clock("test", clock).unwrap())
    }

    fn of(make: impl FnOnce(Arc<ManualClock>) -> Authority) -> Self {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let clock = Arc::new(ManualClock::at(now));
        let mut authority = make(clock.clone());
        let directory = tempfile::tempdir().unwrap();
        let agents = ["planner", "team/worker"].map(|id| authority.agent(id, ["pub:>"]).unwrap());
        authority.save(&directory).unwrap();
        for agent in &agents {
            authority.save_agent(&directory, agent).unwrap();
        }
        Self {
            directory,
            authority,
            clock,
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn open(&self, env: &[(&str, &str)]) -> Result<Home, HomeError> {
        let env = environment(env);
        Home::open_with(self.path(), &env).map(|home| home.with_clock(self.clock.clone()))
    }

    fn home(&self) -> Home {
        self.open(&[]).unwrap()
    }

    fn of_agent(&self, id: &str, file: &str) -> PathBuf {
        agent_directory(self.path(), &AgentId::parse(id).unwrap()).join(file)
    }

    /// The text of the error, which names `file`.
    #[track_caller]
    fn refused(&self, file: &Path) -> String {
        let error = self.home().identity("planner").unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&file.display().to_string()), "{text}");
        text
    }
}

fn environment(set: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
    let set: Vec<_> = set
        .iter()
        .map(|(name, value)| (name.to_string(), OsString::from(value)))
        .collect();
    move |asked| {
        let found = set.iter().find(|(name, _)| name == asked);
        found.map(|(_, value)| value.clone())
    }
}

#[test]
fn a_saved_agent_loads_with_all_that_belongs_to_it() {
    let mesh = Mesh::new();
    let home = mesh.home();
    let worker = home.identity("team/worker").unwrap();
    assert_eq!(worker.id().as_str(), "team/worker");
    assert_eq!(worker.grant().leaf().holder(), worker.key());
    let floor = mesh.of_agent("team/worker", "state/replay-floor");
    assert!(floor.is_file());
    assert_eq!(worker.provenance, Provenance::Stateful(floor));
    let planner = home.identity("planner").unwrap();
    assert!(Arc::ptr_eq(worker.trust(), planner.trust()));
}

/// CL-8.
#[test]
fn what_is_no_agent_id_never_becomes_a_path() {
    let mesh = Mesh::new();
    let long = "a".repeat(AGENT_ID_MAX + 1);
    for id in [
        "../agents/planner",
        "..",
        "",
        "/planner",
        "a/../b",
        "Planner",
        "team~worker",
        "a\0",
        &long,
    ] {
        let error = mesh.home().identity(id).unwrap_err();
        assert!(matches!(error, HomeError::Agent { .. }), "{id:?}: {error}");
    }
    let error = mesh.home().identity("stranger").unwrap_err();
    assert!(matches!(error, HomeError::Absent { .. }), "{error}");
}

/// CL-1, CL-4.
#[test]
fn a_key_that_is_open_linked_empty_or_no_file_is_refused() {
    let mesh = Mesh::new();
    let key = mesh.of_agent("planner", KEY_FILE);
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    assert!(mesh.refused(&key).contains("chmod 600"));
    let aside = key.with_extension("aside");
    fs::rename(&key, &aside).unwrap();
    assert!(mesh.refused(&key).contains("does not exist"));
    symlink(&aside, &key).unwrap();
    assert!(mesh.refused(&key).contains("symbolic link"));
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    assert!(mesh.refused(&key).contains("regular file"));
    fs::remove_dir(&key).unwrap();
    fs::write(&key, "").unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    assert!(mesh.refused(&key).contains("empty"));
}

#[test]
fn parts_of_different_agents_are_refused_together() {
    let mesh = Mesh::new();
    for file in [CERTIFICATE_FILE, GRANT_FILE] {
        let path = mesh.of_agent("planner", file);
        let own = fs::read(&path).unwrap();
        fs::copy(mesh.of_agent("team/worker", file), &path).unwrap();
        mesh.refused(&path);
        fs::write(&path, own).unwrap();
    }
    let key = mesh.of_agent("planner", KEY_FILE);
    fs::copy(mesh.of_agent("team/worker", KEY_FILE), &key).unwrap();
    let text = mesh.refused(&mesh.of_agent("planner", CERTIFICATE_FILE));
    assert!(text.contains("another key"), "{text}");
}

#[test]
fn parts_of_another_mesh_are_refused() {
    let (mesh, other) = (Mesh::new(), Mesh::new());
    for (file, what) in [
        (CERTIFICATE_FILE, "another key"),
        (GRANT_FILE, "of another mesh"),
    ] {
        let path = mesh.of_agent("planner", file);
        let own = fs::read(&path).unwrap();
        fs::copy(other.of_agent("planner", file), &path).unwrap();
        assert!(mesh.refused(&path).contains(what));
        fs::write(&path, own).unwrap();
    }
    assert!(mesh.home().identity("planner").is_ok());
}

#[test]
fn no_changed_byte_of_certificate_or_grant_is_accepted() {
    let mesh = Mesh::new();
    let home = mesh.home();
    for file in [CERTIFICATE_FILE, GRANT_FILE] {
        let path = mesh.of_agent("planner", file);
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(23).chain([whole.len() - 1]) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).unwrap();
            assert!(home.identity("planner").is_err(), "{file} at {at}");
        }
        fs::write(&path, [0; 100_000]).unwrap();
        mesh.refused(&path);
        fs::remove_file(&path).unwrap();
        assert!(mesh.refused(&path).contains("does not exist"));
        fs::write(&path, whole).unwrap();
    }
    assert!(home.identity("planner").is_ok());
}

/// PO-2, at start.
#[test]
fn a_broken_or_missing_trust_file_stops_everything_and_is_named() {
    let mesh = Mesh::new();
    let kinds = [
        FileKind::Root,
        FileKind::Registry,
        FileKind::Policy,
        FileKind::Revocations,
        FileKind::Scores,
    ];
    for kind in kinds {
        let path = trust_file(mesh.path(), kind);
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        for broken in [&changed[..], &whole[..whole.len() / 2], b""] {
            fs::write(&path, broken).unwrap();
            mesh.refused(&path);
        }
        fs::remove_file(&path).unwrap();
        if kind != FileKind::Scores {
            mesh.refused(&path);
        }
        fs::write(&path, whole).unwrap();
    }
    assert!(mesh.home().identity("planner").is_ok());
}

/// PO-2, at reload; PO-9.
#[test]
fn a_reload_moves_forward_and_never_back() {
    let mut mesh = Mesh::new();
    let identity = mesh.home().identity("planner").unwrap();
    let first = identity.trust().current().epochs();
    let policy = trust_file(mesh.path(), FileKind::Policy);
    let old = fs::read(&policy).unwrap();

    let rules = r#"{ "rules": [
        { "name": "all", "effect": "allow", "actions": ["pub"], "subjects": ">" } ] }"#;
    mesh.authority
        .set_policy(Policy::from_json(rules).unwrap())
        .unwrap();
    mesh.authority.save(mesh.directory.path()).unwrap();
    identity.reload().unwrap();
    let second = identity.trust().current().epochs();
    assert!(second.policy > first.policy);
    assert_eq!(identity.trust().current().policy().rules().len(), 1);

    let new = fs::read(&policy).unwrap();
    for (bad, what) in [
        (&old[..], "older than what is already held"),
        (&new[..9], "malformed"),
    ] {
        fs::write(&policy, bad).unwrap();
        let text = identity.reload().unwrap_err().to_string();
        assert!(text.contains(what), "{text}");
        assert_eq!(
            identity.trust().current().epochs(),
            second,
            "the last good one stays"
        );
    }
    fs::write(&policy, &new).unwrap();
    identity.reload().unwrap();
}

/// PO-9: scores tighten, so older ones, or none, would loosen.
#[test]
fn scores_are_not_rolled_back_either() {
    let mut mesh = Mesh::new();
    let path = trust_file(mesh.path(), FileKind::Scores);
    let old = fs::read(&path).unwrap();
    mesh.authority.set_score("planner", 7).unwrap();
    mesh.authority.save(mesh.directory.path()).unwrap();
    let identity = mesh.home().identity("planner").unwrap();
    fs::write(&path, old).unwrap();
    assert!(identity.reload().is_err());
    fs::remove_file(&path).unwrap();
    assert!(identity.reload().is_err());
    assert_eq!(identity.trust().current().score(identity.id()), Some(7));
}

#[test]
fn a_development_mesh_is_accepted_only_on_request() {
    let mesh = Mesh::dev();
    assert!(
        mesh.refused(&trust_file(mesh.path(), FileKind::Root))
            .contains(DEV_VARIABLE)
    );
    let home = mesh.home();
    assert!(home.clone().danger_allow_dev().identity("planner").is_ok());
    assert!(home.identity("planner").is_err(), "asking is not catching");
    assert!(
        mesh.open(&[(DEV_VARIABLE, "1")])
            .unwrap()
            .identity("planner")
            .is_ok()
    );
    for off in ["0", ""] {
        assert!(
            mesh.open(&[(DEV_VARIABLE, off)])
                .unwrap()
                .identity("planner")
                .is_err()
        );
    }
    let error = mesh.open(&[(DEV_VARIABLE, "yes")]).unwrap_err();
    assert!(matches!(error, HomeError::DevSwitch { .. }), "{error}");
}

#[test]
fn a_pinned_root_is_the_only_one_accepted() {
    let (mesh, other) = (Mesh::new(), Mesh::new());
    let (ours, theirs) = [&mesh, &other]
        .map(|mesh| mesh.authority.root_id().to_string())
        .into();
    // Saving pinned it.
    let error = mesh.open(&[(ROOT_VARIABLE, &theirs)]).unwrap_err();
    assert!(matches!(error, HomeError::TwoPins { .. }), "{error}");
    assert!(
        mesh.open(&[(ROOT_VARIABLE, &ours)])
            .unwrap()
            .identity("planner")
            .is_ok()
    );
    // All of another mesh's files change nothing.
    for kind in ["root", "registry", "policy", "revocations", "scores"] {
        let name = format!("trust/{kind}.tm");
        fs::copy(other.path().join(&name), mesh.path().join(&name)).unwrap();
    }
    assert!(
        mesh.refused(&trust_file(mesh.path(), FileKind::Root))
            .contains("pinned")
    );
    fs::write(
        pin_file(mesh.path()),
        format!(" {} \r\n", theirs.to_uppercase()),
    )
    .unwrap();
    assert!(mesh.home().trust().is_ok());
    for garbage in [
        "",
        "abc",
        &ours[1..],
        &format!("{ours}00"),
        &"x".repeat(64),
        &" ".repeat(999),
    ] {
        fs::write(pin_file(mesh.path()), garbage).unwrap();
        assert!(mesh.open(&[]).is_err(), "{garbage:?}");
    }
    fs::remove_file(pin_file(mesh.path())).unwrap();
    assert!(mesh.open(&[(ROOT_VARIABLE, "abc")]).is_err());
    assert!(
        mesh.open(&[(ROOT_VARIABLE, &ours)])
            .unwrap()
            .trust()
            .is_err()
    );
}

#[test]
fn the_environment_names_home_and_agent() {
    let mesh = Mesh::new();
    let path = mesh.path().to_str().unwrap();
    for (env, variable) in [
        (vec![], HOME_VARIABLE),
        (vec![(HOME_VARIABLE, "")], HOME_VARIABLE),
        (vec![(HOME_VARIABLE, path)], AGENT_VARIABLE),
    ] {
        let error = Identity::from_env_with(&environment(&env)).unwrap_err();
        assert!(error.to_string().contains(variable), "{error}");
    }
    let env = [(HOME_VARIABLE, path), (AGENT_VARIABLE, "../x")];
    let error = Identity::from_env_with(&environment(&env)).unwrap_err();
    assert!(matches!(error, HomeError::Agent { .. }), "{error}");
    let error = Home::open(mesh.path().join("nowhere")).unwrap_err();
    assert!(matches!(error, HomeError::Absent { .. }), "{error}");
}

#[test]
fn what_has_expired_or_was_revoked_is_named() {
    let mut mesh = Mesh::new();
    let grant = mesh.of_agent("planner", GRANT_FILE);
    mesh.clock.advance(DAY + Duration::from_secs(10));
    assert!(mesh.refused(&grant).contains("expired"));
    let planner = mesh.home().identity("planner");
    assert!(planner.is_err());

    // The authority grants anew, and the same home works again.
    let key = keyfile::load(&mesh.of_agent("planner", KEY_FILE)).unwrap();
    let scope = crate::proto::scope::Scope::parse(["pub:>"]).unwrap();
    let renewed = mesh
        .authority
        .grant(&key.public().bytes(), scope, 0, DAY / 2)
        .unwrap();
    mesh.authority
        .save_grant(mesh.directory.path(), "planner", &renewed)
        .unwrap();
    assert!(mesh.home().identity("planner").is_ok());

    mesh.authority.revoke_agent("planner").unwrap();
    mesh.authority.save(mesh.directory.path()).unwrap();
    assert!(
        mesh.refused(&mesh.of_agent("planner", CERTIFICATE_FILE))
            .contains("revoked")
    );

    mesh.clock.advance(30 * DAY);
    mesh.refused(&trust_file(mesh.path(), FileKind::Registry));
}
