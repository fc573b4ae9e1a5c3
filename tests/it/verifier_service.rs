//! The verifier service between its runs, and agents in their mesh directories.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use trustmesh::ConnectOptions;
use trustmesh::Identity;
use trustmesh::audit::AuditEvent;
use trustmesh::bus::BusFuture;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::client::clock::Clock;
use trustmesh::client::enrol::EnrolError;
use trustmesh::client::enrol::Enrolled;
use trustmesh::client::enrol::Enrolment;
use trustmesh::client::home::Home;
use trustmesh::client::plane::PlaneError;
use trustmesh::proto::enrol::EnrolRefused;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::join::JoinToken;
use trustmesh::proto::trust::TrustState;
use trustmesh::services::authority::Authority;
use trustmesh::services::authority::AuthorityError;
use trustmesh::services::verifier::InProcess;
use trustmesh::services::verifier::Publication;
use trustmesh::services::verifier::PublicationError;
use trustmesh::services::verifier::ToDirectory;
use trustmesh::services::verifier::VerifierError;
use trustmesh::services::verifier::VerifierOptions;
use trustmesh::services::verifier::VerifierService;

use crate::support::mesh::recorded;
use crate::support::plane::id;
use crate::support::plane::key;
use crate::support::plane::terms;

async fn served(
    mut mesh: Authority,
    own: &Arc<SigningKey>,
    bus: &MemoryBus,
    publication: impl Publication,
) -> VerifierService {
    let identity = mesh.verifier(own.clone()).unwrap();
    let options = ConnectOptions::new(identity);
    let settings = VerifierOptions::default();
    let service = VerifierService::start(mesh, options, bus.connect(), publication, settings);
    service.await.unwrap()
}

async fn join(
    bus: &MemoryBus,
    token: &JoinToken,
    root: &bytes::Bytes,
    agent: &str,
    key: &Arc<SigningKey>,
) -> Result<Enrolled, EnrolError> {
    let enrolment = Enrolment::new(token.clone(), root.clone()).agent(id(agent));
    enrolment.join(&bus.connect(), key.clone()).await
}

fn home(path: &Path) -> Home {
    Home::open(path).unwrap().danger_allow_dev()
}

/// The books survive: who has joined stays, what was used stays used, what was revoked stays dead.
#[cfg(unix)]
#[tokio::test]
async fn a_service_goes_on_where_it_was_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let (bus, own) = (MemoryBus::new(), Arc::new(key()));
    let mut mesh = Authority::dev("test").unwrap();
    mesh.save(directory.path()).unwrap();
    let token = mesh.join_token(&terms(&["pub:x"])).unwrap();
    let (root, to) = (mesh.trust_root(), ToDirectory(directory.path().to_owned()));
    let alice = Arc::new(key());
    let service = served(mesh, &own, &bus, to.clone()).await;
    let first = join(&bus, &token, &root, "alice", &alice).await.unwrap();
    let dead = key().public().bytes();
    let revoked = service.change(move |mesh| mesh.revoke_key(dead)).await;
    revoked.unwrap().in_force().unwrap().unwrap();
    // Killed, not stopped: everything it answered for is on disk.
    drop(service);

    let mesh = Authority::open(directory.path()).unwrap();
    let service = served(mesh, &own, &bus, to).await;
    // The same token and key: the same certificate. Another key: used.
    let again = join(&bus, &token, &root, "alice", &alice).await.unwrap();
    assert_eq!(again.certificate, first.certificate);
    let other = join(&bus, &token, &root, "bob", &Arc::new(key())).await;
    assert!(matches!(
        other,
        Err(EnrolError::Refused(EnrolRefused::TokenUsed))
    ));
    let trust = home(directory.path()).trust().unwrap().current();
    assert!(trust.revocations().has_key(&dead));
    assert_eq!(trust.certificates_of(&id("alice")).len(), 1);
    assert!(service.stop().await.is_some());
}

/// Publishes to this process, when it works.
struct Flaky(Arc<AtomicBool>);

impl Publication for Flaky {
    fn publish<'a>(
        &'a mut self,
        authority: &'a mut Authority,
    ) -> BusFuture<'a, Result<(), PublicationError>> {
        Box::pin(async move {
            if self.0.load(Ordering::SeqCst) {
                InProcess.publish(authority).await
            } else {
                Err(AuthorityError::Unknown.into())
            }
        })
    }
}

/// What could not be published is not answered for; asking again finds it once it is.
#[tokio::test]
async fn nobody_is_told_of_a_change_that_was_not_published() {
    let (bus, own, works) = (
        MemoryBus::new(),
        Arc::new(key()),
        Arc::new(AtomicBool::new(true)),
    );
    let mut mesh = Authority::dev("test").unwrap();
    let token = mesh.join_token(&terms(&["pub:x"])).unwrap();
    let (root, trust) = (mesh.trust_root(), mesh.publish().unwrap());
    let service = served(mesh, &own, &bus, Flaky(works.clone())).await;
    works.store(false, Ordering::SeqCst);
    let alice = Arc::new(key());
    let enrolment = Enrolment::new(token.clone(), root.clone()).agent(id("alice"));
    let enrolment = enrolment.timeout(Duration::from_millis(300));
    let outcome = enrolment.join(&bus.connect(), alice.clone()).await;
    assert!(matches!(outcome, Err(EnrolError::TimedOut)));
    assert!(trust.current().certificates_of(&id("alice")).is_empty());
    works.store(true, Ordering::SeqCst);
    join(&bus, &token, &root, "alice", &alice).await.unwrap();
    assert_eq!(trust.current().certificates_of(&id("alice")).len(), 1);
    drop(service);
}

#[tokio::test]
async fn the_service_runs_under_its_own_identity_only() {
    let mut mesh = Authority::dev("test").unwrap();
    let other = mesh.agent("alice", ["pub:x"]).unwrap();
    let mesh_of_another = Authority::dev("other").unwrap();
    let stranger = Authority::dev("third")
        .unwrap()
        .verifier(Arc::new(key()))
        .unwrap();
    for (mesh, identity) in [(mesh, other), (mesh_of_another, stranger)] {
        let options = ConnectOptions::new(identity);
        let settings = VerifierOptions::default();
        let bus = MemoryBus::new().connect();
        let outcome = VerifierService::start(mesh, options, bus, InProcess, settings).await;
        assert!(matches!(outcome, Err(VerifierError::Identity)));
    }
}

/// RV-3: who is refused stands in the service's audit.
#[tokio::test]
async fn refusals_and_changes_are_in_the_services_audit() {
    let bus = MemoryBus::new();
    let mut mesh = Authority::dev("test").unwrap();
    let watcher = mesh.agent("watcher", ["sub:trustmesh.audit.*"]).unwrap();
    let alice = mesh.agent("alice", ["pub+delegate:x"]).unwrap();
    let bob = mesh.agent("bob", ["pub:y"]).unwrap();
    let own = Arc::new(key());
    let service = served(mesh, &own, &bus, InProcess).await;
    let enter = |identity: Identity| ConnectOptions::new(identity).connect_bus(bus.connect());
    let watcher = enter(watcher).await.unwrap();
    let mut audit = trustmesh::audit::subscribe(&watcher).await.unwrap();
    let (alice, bob) = (enter(alice).await.unwrap(), enter(bob).await.unwrap());
    let scope = "pub:x".parse().unwrap();
    let scope = trustmesh::proto::scope::Scope::new(vec![scope]).unwrap();
    let link = alice
        .delegate(bob.id(), scope, Duration::from_secs(60))
        .unwrap();
    let outcome = bob.revoke_link(&link, 1).await;
    assert!(matches!(
        outcome,
        Err(PlaneError::Refused(EnrolRefused::NotYours))
    ));
    alice.revoke_link(&link, 1).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 2 {
        let item = tokio::time::timeout(crate::support::PATIENCE, audit.next()).await;
        let item = item.unwrap().unwrap();
        if let Ok(trustmesh::audit::AuditItem::Record(record)) = item
            && let AuditEvent::Notice { topic, text } = record.event
            && topic == "revoke"
        {
            told.push((record.emitter, text));
        }
    }
    assert!(told.iter().all(|(emitter, _)| emitter == "verifier"));
    assert!(told[0].1.starts_with("bob ") && told[0].1.contains("NotYours"));
    assert!(told[1].1.starts_with("alice revoked its link "));
    let mut own_audit = alice.audit();
    assert!(recorded(&alice, &mut own_audit).await.is_empty());
    drop(service);
}

/// A mesh directory of an agent that joined, beside the books of the service.
#[cfg(unix)]
mod on_disk {
    use super::*;

    struct Disk {
        directory: tempfile::TempDir,
        service: VerifierService,
        bus: MemoryBus,
    }

    /// Trust files and agents lie in one directory, as on one machine.
    async fn disk() -> Disk {
        let directory = tempfile::tempdir().unwrap();
        let (bus, own) = (MemoryBus::new(), Arc::new(key()));
        let mut mesh = Authority::dev("test").unwrap();
        mesh.save(directory.path()).unwrap();
        let token = mesh.join_token(&terms(&["pub:x"])).unwrap();
        let root = mesh.trust_root();
        let to = ToDirectory(directory.path().to_owned());
        let service = served(mesh, &own, &bus, to).await;
        let enrolled = join(&bus, &token, &root, "alice", &Arc::new(key()))
            .await
            .unwrap();
        let home = Home::found(directory.path(), &root).unwrap();
        home.store_enrolled(&enrolled).unwrap();
        home.store_enrolled(&enrolled).unwrap();
        Disk {
            directory,
            service,
            bus,
        }
    }

    impl Disk {
        fn home(&self) -> Home {
            home(self.directory.path())
        }

        fn file(&self, name: &str) -> std::path::PathBuf {
            self.home().agent_directory(&id("alice")).join(name)
        }
    }

    /// CL-1: what joins is written for its owner alone, and loads again.
    #[tokio::test]
    async fn an_agent_that_joined_is_loaded_from_its_directory() {
        use std::os::unix::fs::PermissionsExt as _;

        let disk = disk().await;
        let identity = disk.home().identity("alice").unwrap();
        let mode = std::fs::metadata(disk.file("key.pem"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let client = ConnectOptions::new(identity);
        let client = client.connect_bus(disk.bus.connect()).await.unwrap();
        client.renew().await.unwrap();
        client.renew_grant().await.unwrap();
        let again = disk.home().identity("alice").unwrap();
        assert_eq!(
            again.grant().leaf().id(),
            client.credential().chain().leaf().id()
        );
        assert!(disk.service.stop().await.is_some());
    }

    #[tokio::test]
    async fn a_directory_of_another_mesh_is_left_as_it_is() {
        let disk = disk().await;
        let other = Authority::dev("other").unwrap().trust_root();
        assert!(Home::found(disk.directory.path(), &other).is_err());
        assert!(disk.home().identity("alice").is_ok());
    }

    /// CL-3: whenever the process is killed, the agent has its old key or its new one.
    #[tokio::test]
    async fn a_rotation_that_is_cut_off_anywhere_leaves_a_whole_agent() {
        let disk = disk().await;
        let old = disk.home().identity("alice").unwrap();
        let old_key = old.key();
        // Killed before the service answered: the next key is there, the agent has its old one.
        let next = disk.home().next_key(&id("alice")).unwrap();
        assert_eq!(disk.home().identity("alice").unwrap().key(), old_key);
        let client = ConnectOptions::new(old)
            .connect_bus(disk.bus.connect())
            .await
            .unwrap();
        let rotated = client.rotate(&next).await.unwrap();
        // Killed between the certificate, which decides, and the other files.
        let keep = |name: &str| std::fs::read(disk.file(name)).unwrap();
        let (key_pem, grant) = (keep("next-key.pem"), rotated.grant.clone().unwrap());
        std::fs::write(disk.file("next-grant.chain"), grant.bytes()).unwrap();
        assert_eq!(disk.home().identity("alice").unwrap().key(), old_key);
        disk.home()
            .store_certificate(&id("alice"), &rotated.certificate)
            .unwrap();
        let new = disk.home().identity("alice").unwrap();
        assert_eq!(new.key(), next.public().bytes());
        assert_eq!(new.grant().leaf().id(), grant.leaf().id());
        assert!(!disk.file("next-key.pem").exists());
        assert_eq!(keep("key.pem"), key_pem);
    }

    #[tokio::test]
    async fn a_key_is_rotated_where_the_agent_lies() {
        let disk = disk().await;
        let old = disk.home().identity("alice").unwrap();
        let client = ConnectOptions::new(old.clone());
        let client = client.connect_bus(disk.bus.connect()).await.unwrap();
        client.rotate_stored().await.unwrap();
        let new = disk.home().identity("alice").unwrap();
        assert_ne!(new.key(), old.key());
        let new = ConnectOptions::new(new);
        let new = new.connect_bus(disk.bus.connect()).await.unwrap();
        new.publish("x", "hello".into()).await.unwrap();
        let now = trustmesh::client::clock::SystemClock::new().now().unwrap();
        let trust: Arc<TrustState> = disk.home().trust().unwrap().current();
        assert_eq!(trust.certificates_of(&id("alice"))[0].claims().key_epoch, 1);
        assert!(
            trust.certificates_of(&id("alice"))[1]
                .claims()
                .validity
                .until()
                > now
        );
    }
}
