//! Publication to a whole mesh, over the bus.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::publication::Publication;
use super::publisher::PublicationError;
use super::publisher::Publisher;
use crate::bus::Bus;
use crate::bus::BusFuture;
use crate::proto::names::PREFIX;
use crate::proto::trust::TIMESTAMP_EVERY_MS;
use crate::services::authority::Authority;
use crate::services::authority::AuthorityError;

/// How often a timestamp is signed.
const BEAT: Duration = Duration::from_millis(TIMESTAMP_EVERY_MS);

/// To the bus: its store, and a push to everybody who listens (protocol §9.12), with a timestamp
/// every 5 s. The authority must be that of a served mesh.
///
/// What another service of this mesh, with the same keys, published before is taken over first. Of
/// two that run, the one that began later goes on, and the other ends.
#[derive(Debug)]
pub struct ToStore {
    bus: Arc<dyn Bus>,
    prefix: String,
    directory: Option<PathBuf>,
    publisher: Option<Publisher>,
    signed: Option<Instant>,
}

impl ToStore {
    /// Over a connection of its own, which should not be that of the service.
    pub fn on(bus: impl Bus) -> Self {
        Self {
            bus: Arc::new(bus),
            prefix: PREFIX.to_owned(),
            directory: None,
            publisher: None,
            signed: None,
        }
    }

    /// First token of trustmesh's own subjects, as in
    /// [`ConnectOptions::prefix`](crate::ConnectOptions::prefix).
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// [Saves](Authority::save) the books to a mesh directory as well, before anything is
    /// published: a service that is started from it again has lost nothing, whatever the store has.
    #[must_use]
    pub fn saved_to(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Finds out where the mesh is, the first time.
    async fn open(&mut self, authority: &mut Authority) -> Result<(), PublicationError> {
        if self.publisher.is_some() {
            return Ok(());
        }
        if !authority.is_served() {
            return Err(AuthorityError::Static.into());
        }
        let mut publisher = Publisher::open(self.bus.clone(), &self.prefix, authority).await?;
        if let Some(found) = publisher.find(authority).await? {
            authority.continue_time(found.time);
            if authority.lacks(found.epoch) {
                tracing::info!(epoch = found.epoch, "taking over what the store has");
                authority.take_over(&found.bulletin, &found.parts)?;
            }
        }
        self.publisher = Some(publisher);
        Ok(())
    }

    async fn send(&mut self, authority: &Authority) -> Result<(), PublicationError> {
        self.signed = Some(Instant::now());
        match &mut self.publisher {
            Some(publisher) => publisher.publish(authority).await,
            None => Ok(()),
        }
    }
}

impl Publication for ToStore {
    fn publish<'a>(
        &'a mut self,
        authority: &'a mut Authority,
    ) -> BusFuture<'a, Result<(), PublicationError>> {
        Box::pin(async move {
            self.open(authority).await?;
            authority.publish()?;
            if let Some(directory) = &self.directory {
                authority.save(directory)?;
            }
            self.send(authority).await?;
            authority.note_shared();
            Ok(())
        })
    }

    fn beat<'a>(
        &'a mut self,
        authority: &'a mut Authority,
    ) -> BusFuture<'a, Result<(), PublicationError>> {
        Box::pin(async move {
            if self.signed.is_some_and(|signed| signed.elapsed() < BEAT) {
                return Ok(());
            }
            authority.beat()?;
            self.send(authority).await
        })
    }
}
