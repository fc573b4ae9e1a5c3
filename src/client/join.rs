//! From a join token to an identity that follows its mesh, over the bus alone.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::FeedError;
use super::clock::Clock as _;
use super::clock::SystemClock;
use super::enrol::Enrolled;
use super::feed;
use super::feed::Feed;
use super::feed::Origin;
use super::floor::ReplayFloor;
use super::home::Home;
use super::home::HomeError;
use super::home::layout;
use super::identity::Identity;
use crate::bus::Bus;
use crate::files;
use crate::files::FileError;
use crate::keyfile;
use crate::keyfile::KeyFileError;
use crate::proto::identity::AgentId;
use crate::proto::identity::SigningKey;
use crate::proto::join::JoinToken;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::UntrustedRoot;
use crate::proto::root::FileKind;
use crate::proto::root::TrustRoot;
use crate::proto::trust::Admission;

/// Fetches the first trust root of the mesh that a join token is for. It is the very root that the
/// token pins, whatever the bus says.
///
/// # Errors
///
/// [`FeedError::Absent`] when the mesh's verifier service was never started on this bus,
/// [`FeedError::Refused`] when what is there is another root, [`FeedError::Store`].
pub async fn fetch_root(token: &JoinToken, bus: &dyn Bus) -> Result<Bytes, FeedError> {
    let claims = token.claims();
    let root = feed::fetch_root(bus, claims.mesh).await?;
    if TrustRoot::parse(&root)?.id() == claims.root {
        return Ok(root);
    }
    let (place, reason) = (Place::TrustFile, UntrustedRoot::Pin);
    Err(Rejection::UntrustedRoot { place, reason }.into())
}

/// Fetches the trust roots that follow the first one of a mesh, in order (protocol §9.8): what
/// [`Enrolment::led_to`](super::enrol::Enrolment::led_to) takes. Each is signed by the keys of the
/// one before, whatever the bus says.
///
/// # Errors
///
/// [`FeedError::Refused`] when `root` is no first trust root, [`FeedError::Absent`] and
/// [`FeedError::Store`] as in [`fetch_root`].
pub async fn fetch_later_roots(root: &Bytes, bus: &dyn Bus) -> Result<Vec<Bytes>, FeedError> {
    feed::fetch_later_roots(bus, TrustRoot::parse(root)?).await
}

/// The key that an agent joins under, in a mesh directory that need not be there yet: the one of an
/// earlier try, otherwise `new`, which is then stored, readable by its owner alone. It must have been
/// made just now: under it nothing was accepted before, so the agent need not refuse what is as
/// young as itself.
///
/// # Errors
///
/// [`HomeError::File`] or [`HomeError::Key`] when it cannot be read or written,
/// [`HomeError::Refused`] when the clock cannot be trusted.
pub fn joining_key(
    home: impl AsRef<Path>,
    agent: &AgentId,
    new: SigningKey,
) -> Result<Arc<SigningKey>, HomeError> {
    let directory = layout::agent_directory(home.as_ref(), agent);
    files::private_directory(&directory)?;
    let path = directory.join(layout::KEY_FILE);
    let refused = |why| HomeError::refused(path.clone(), why);
    let now = SystemClock::new().now().map_err(refused)?;
    match keyfile::create(&path, &new) {
        Ok(()) => {
            ReplayFloor::create(&directory.join(layout::FLOOR_FILE), now)?;
            Ok(Arc::new(new))
        }
        Err(KeyFileError::Exists { .. }) => Ok(Arc::new(keyfile::load(&path)?)),
        Err(error) => Err(error.into()),
    }
}

impl Enrolled {
    /// The identity to connect with, which follows the mesh's trust state on the bus and keeps
    /// nothing on disk. `root` is the trust root that [`fetch_root`] fetched.
    ///
    /// # Errors
    ///
    /// [`FeedError`] when there is no trust state; [`FeedError::NoGrant`] for an agent without
    /// authority of its own.
    pub async fn follow(
        self,
        root: Bytes,
        admission: Admission,
        bus: &dyn Bus,
    ) -> Result<Identity, FeedError> {
        let origin = Origin {
            root,
            admission,
            pin: Some(self.root),
            cache: None,
        };
        let feed = Feed::begin(origin, bus).await?;
        let trust = feed.handle().clone();
        let identity = self.identity(trust).map_err(|_| FeedError::NoGrant)?;
        Ok(Identity {
            feed: Some(feed),
            ..identity
        })
    }

    /// Writes everything the agent needs to a mesh directory: the pinned trust root, the trust
    /// state as of now, and its own key, certificate and grant. [`Home::identity`] loads it.
    ///
    /// # Errors
    ///
    /// [`FeedError`] when there is no trust state or a file cannot be written. What was written
    /// stays; saving again completes it.
    pub async fn save(
        &self,
        home: impl AsRef<Path>,
        root: Bytes,
        admission: Admission,
        bus: &dyn Bus,
    ) -> Result<(), FeedError> {
        let home = home.as_ref();
        files::private_directory(&layout::trust_directory(home))?;
        let pin = format!("{}\n", self.root);
        keep(&layout::pin_file(home), pin.as_bytes())?;
        keep(&layout::trust_file(home, FileKind::Root), &root)?;
        let origin = Origin {
            root,
            admission,
            pin: Some(self.root),
            cache: Some(layout::served_directory(home)),
        };
        Feed::begin(origin, bus).await?;
        let cache = |why: &dyn std::fmt::Display| FeedError::Cache(why.to_string());
        let home = Home::open(home).map_err(|why| cache(&why))?;
        home.store_enrolled(self).map_err(|why| cache(&why))
    }
}

/// Writes a file that is not there, or is the same.
fn keep(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    match files::create(path, bytes) {
        Err(FileError::Exists { path }) if files::read(&path, bytes.len())? == bytes => Ok(()),
        other => other,
    }
}
