//! A served mesh whose service can die and start again from its directory.

use std::path::Path;
use std::sync::Arc;

use trustmesh::Client;
use trustmesh::client::clock::Clock;
use trustmesh::client::clock::SystemClock;
use trustmesh::proto::identity::SigningKey;
use trustmesh::services::authority::Authority;

use super::eventually;
use super::mesh::policy;
use super::plane::Wire;
use super::plane::id;
use super::plane::key;
use super::served::Served;
use super::unique;

/// A mesh whose books are in a directory, and the key of its service.
pub struct Saved {
    pub mesh: Served,
    pub folder: tempfile::TempDir,
    verifier: Arc<SigningKey>,
    /// Of the authority alone: when nobody else holds it, the service is gone.
    held: Arc<dyn Clock>,
}

impl Saved {
    pub async fn new(wire: Wire) -> Self {
        Self::by(wire, Arc::new(SystemClock::new()), || {
            Arc::new(SystemClock::new())
        })
        .await
    }

    pub async fn by(wire: Wire, clock: Arc<dyn Clock>, own: impl Fn() -> Arc<dyn Clock>) -> Self {
        let (verifier, held) = (Arc::new(key()), own());
        let mut books = Authority::served_with_clock("test", false, held.clone()).unwrap();
        let identity = books.verifier(verifier.clone()).unwrap();
        books.set_policy(policy("")).unwrap();
        let mut this = Self {
            mesh: Served {
                wire,
                prefix: unique(),
                clock,
                mesh: books.mesh(),
                service: None,
            },
            folder: tempfile::tempdir().unwrap(),
            verifier,
            held,
        };
        let service = this.mesh.start(books, identity, Some(this.folder.path()));
        this.mesh.service = Some(service.await);
        this
    }

    /// Ends the service as a crash would, and waits until it is gone.
    pub async fn kill(&mut self) {
        drop(self.mesh.service.take());
        let held = self.held.clone();
        // Ours, and the one beside it here.
        eventually("the service is gone", || Arc::strong_count(&held) == 2).await;
    }

    /// Starts it from a directory.
    pub async fn start_from(&mut self, folder: &Path, clock: Arc<dyn Clock>, saves: bool) {
        let mut books = Authority::open_with_clock(folder, clock.clone()).unwrap();
        self.held = clock;
        let identity = books.verifier(self.verifier.clone()).unwrap();
        let service = self.mesh.start(books, identity, saves.then_some(folder));
        self.mesh.service = Some(service.await);
    }

    pub async fn start_again(&mut self) {
        let folder = self.folder.path().to_owned();
        let clock = Arc::new(SystemClock::new());
        self.start_from(&folder, clock, true).await;
    }

    pub async fn revoke(&self, agent: String) {
        let done = self.mesh.change(move |mesh| mesh.revoke_agent(&agent));
        done.await.unwrap();
    }
}

pub fn revoked(client: &Client, agent: &str) -> bool {
    client.trust().revocations().agents().contains(&id(agent))
}

pub fn enrolled(client: &Client, agent: &str) -> bool {
    !client.trust().certificates_of(&id(agent)).is_empty()
}
