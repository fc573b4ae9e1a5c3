//! Where the service's changes become visible to others.

use std::path::PathBuf;

use crate::bus::BusFuture;
use crate::services::authority::Authority;
use crate::services::authority::AuthorityError;

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
    /// [`AuthorityError`]: the service then answers that it is unavailable.
    fn publish<'a>(
        &'a mut self,
        authority: &'a mut Authority,
    ) -> BusFuture<'a, Result<(), AuthorityError>>;
}

/// To the identities of this process, which share the authority's trust state.
#[derive(Clone, Copy, Debug, Default)]
pub struct InProcess;

impl Publication for InProcess {
    fn publish<'a>(
        &'a mut self,
        authority: &'a mut Authority,
    ) -> BusFuture<'a, Result<(), AuthorityError>> {
        Box::pin(async move { authority.publish().map(drop) })
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
    ) -> BusFuture<'a, Result<(), AuthorityError>> {
        Box::pin(async move {
            authority.save(&self.0)?;
            authority.publish().map(drop)
        })
    }
}
