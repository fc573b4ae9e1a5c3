//! Where the service's changes become visible to others.

use std::path::PathBuf;

use super::publisher::PublicationError;
use crate::bus::BusFuture;
use crate::services::authority::Authority;

/// Makes the books' state visible. Called after each change, before the answer is sent, and once
/// when the service starts: whoever is answered can rely on it that others will see the change.
///
/// A publication that fails leaves the books changed; it is tried again with the next change and
/// every second.
pub trait Publication: Send + 'static {
    /// Publishes everything.
    ///
    /// # Errors
    ///
    /// [`PublicationError`]: the service then answers that it is unavailable, tells its operator
    /// why, and after [`Superseded`](PublicationError::Superseded) it ends.
    fn publish<'a>(
        &'a mut self,
        authority: &'a mut Authority,
    ) -> BusFuture<'a, Result<(), PublicationError>>;

    /// Called every second, between publications: keeps what was published fresh where that takes
    /// something.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish).
    fn beat<'a>(
        &'a mut self,
        _authority: &'a mut Authority,
    ) -> BusFuture<'a, Result<(), PublicationError>> {
        Box::pin(async { Ok(()) })
    }
}

/// To the identities of this process, which share the authority's trust state.
#[derive(Clone, Copy, Debug, Default)]
pub struct InProcess;

impl Publication for InProcess {
    fn publish<'a>(
        &'a mut self,
        authority: &'a mut Authority,
    ) -> BusFuture<'a, Result<(), PublicationError>> {
        Box::pin(async move { Ok(authority.publish().map(drop)?) })
    }
}

/// To a mesh directory as well, whose trust files agents copy. A service that is started from it
/// again goes on where it ended.
#[derive(Clone, Debug)]
pub struct ToDirectory(pub PathBuf);

impl Publication for ToDirectory {
    fn publish<'a>(
        &'a mut self,
        authority: &'a mut Authority,
    ) -> BusFuture<'a, Result<(), PublicationError>> {
        Box::pin(async move {
            authority.save(&self.0)?;
            Ok(authority.publish().map(drop)?)
        })
    }
}
