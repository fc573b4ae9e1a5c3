//! Writing an agent into its mesh directory: after it joined, was renewed, or has another key.
//!
//! Each file is replaced whole or not at all. A rotation changes three of them; the certificate is
//! the one that decides: until it is replaced the agent has its old key, afterwards its new one,
//! and whoever loads the agent completes what was begun.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::Home;
use super::HomeError;
use super::layout;
use super::layout::CERTIFICATE_FILE;
use super::layout::FLOOR_FILE;
use super::layout::GRANT_FILE;
use super::layout::KEY_FILE;
use super::layout::NEXT_GRANT_FILE;
use super::layout::NEXT_KEY_FILE;
use super::layout::agent_directory;
use super::layout::trust_directory;
use super::layout::trust_file;
use crate::client::enrol::Enrolled;
use crate::client::floor::ReplayFloor;
use crate::client::plane::Rotated;
use crate::files;
use crate::files::FileError;
use crate::keyfile;
use crate::keyfile::KeyFileError;
use crate::proto::certificate::CERTIFICATE_MAX;
use crate::proto::certificate::UnverifiedCertificate;
use crate::proto::chain::Chain;
use crate::proto::identity::AgentId;
use crate::proto::identity::SigningKey;
use crate::proto::limits::TRUST_FILE_MAX;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::UntrustedRoot;
use crate::proto::root::FileKind;
use crate::proto::root::TrustRoot;

impl Home {
    /// Begins a mesh directory with its trust root, which is pinned; one that is there already must
    /// have the same.
    ///
    /// # Errors
    ///
    /// [`HomeError::Refused`] when the file is no trust root or the directory is another mesh's;
    /// [`HomeError::File`]; as [`open`](Self::open).
    pub fn found(path: impl AsRef<Path>, root: &Bytes) -> Result<Self, HomeError> {
        let path = path.as_ref();
        let file = trust_file(path, FileKind::Root);
        let parsed = TrustRoot::parse(root).map_err(|why| HomeError::refused(file.clone(), why))?;
        files::private_directory(&trust_directory(path))?;
        let pin = format!("{}\n", parsed.id());
        for (file, content) in [(layout::pin_file(path), pin.as_bytes()), (file, &root[..])] {
            match files::create(&file, content) {
                Ok(()) => {}
                Err(FileError::Exists { .. }) => check_same(&file, content)?,
                Err(error) => return Err(error.into()),
            }
        }
        Self::open(path)
    }

    /// Stores what an agent got by joining: its key, readable by its owner alone, certificate and
    /// grant. A key that is there already stays; another one is an error.
    ///
    /// # Errors
    ///
    /// [`HomeError::Key`] or [`HomeError::File`] when something cannot be written, or the agent has
    /// another key here.
    pub fn store_enrolled(&self, enrolled: &Enrolled) -> Result<(), HomeError> {
        let directory = agent_directory(&self.path, &enrolled.agent);
        files::private_directory(&directory)?;
        match keyfile::create(&directory.join(KEY_FILE), &enrolled.key) {
            Err(KeyFileError::Exists { path })
                if keyfile::load(&path)?.public() == enrolled.key.public() => {}
            stored => {
                stored?;
                let now = self.clock.now();
                let now = now.map_err(|why| HomeError::refused(directory.clone(), why))?;
                // The key is new: nothing was accepted under it before.
                ReplayFloor::create(&directory.join(FLOOR_FILE), now)?;
            }
        }
        self.store_certificate(&enrolled.agent, &enrolled.certificate)?;
        match &enrolled.grant {
            Some(grant) => self.store_grant(&enrolled.agent, grant),
            None => Ok(()),
        }
    }

    /// Replaces the certificate of an agent.
    ///
    /// # Errors
    ///
    /// [`HomeError::File`].
    pub fn store_certificate(&self, agent: &AgentId, bytes: &Bytes) -> Result<(), HomeError> {
        let directory = agent_directory(&self.path, agent);
        Ok(files::replace(&directory.join(CERTIFICATE_FILE), bytes)?)
    }

    /// Replaces the grant of an agent.
    ///
    /// # Errors
    ///
    /// [`HomeError::File`].
    pub fn store_grant(&self, agent: &AgentId, grant: &Chain) -> Result<(), HomeError> {
        let directory = agent_directory(&self.path, agent);
        Ok(files::replace(&directory.join(GRANT_FILE), grant.bytes())?)
    }

    /// The key an agent is about to have: made now, unless a rotation was begun before.
    ///
    /// # Errors
    ///
    /// [`HomeError::Key`] when it cannot be made, read or written.
    pub fn next_key(&self, agent: &AgentId) -> Result<Arc<SigningKey>, HomeError> {
        let directory = agent_directory(&self.path, agent);
        finish_rotation(&directory)?;
        let path = directory.join(NEXT_KEY_FILE);
        let key = SigningKey::generate().map_err(|error| {
            let why = Rejection::from(error);
            HomeError::refused(path.clone(), why)
        })?;
        match keyfile::create(&path, &key) {
            Ok(()) => Ok(Arc::new(key)),
            Err(KeyFileError::Exists { .. }) => Ok(Arc::new(keyfile::load(&path)?)),
            Err(error) => Err(error.into()),
        }
    }

    /// Leaves an agent under its [next key](Self::next_key).
    ///
    /// # Errors
    ///
    /// [`HomeError::File`]: the agent still has its old key, or its new one, and is whole.
    pub fn store_rotated(&self, agent: &AgentId, rotated: &Rotated) -> Result<(), HomeError> {
        let directory = agent_directory(&self.path, agent);
        if let Some(grant) = &rotated.grant {
            files::replace(&directory.join(NEXT_GRANT_FILE), grant.bytes())?;
        }
        self.store_certificate(agent, &rotated.certificate)?;
        finish_rotation(&directory)
    }
}

/// Gives the files of a new key their names, once the certificate is that key's.
pub(super) fn finish_rotation(directory: &Path) -> Result<(), HomeError> {
    let next = directory.join(NEXT_KEY_FILE);
    if !next.exists() {
        return Ok(());
    }
    let path = directory.join(CERTIFICATE_FILE);
    let Some(bytes) = files::read_if_there(&path, CERTIFICATE_MAX)? else {
        return Ok(());
    };
    let certificate =
        UnverifiedCertificate::parse(&bytes.into()).map_err(|why| HomeError::refused(path, why))?;
    if certificate.claims().key != keyfile::load(&next)?.public().bytes() {
        return Ok(());
    }
    // The key last: while it has its old name, this is repeated.
    files::rename_if_there(
        &directory.join(NEXT_GRANT_FILE),
        &directory.join(GRANT_FILE),
    )?;
    files::rename_if_there(&next, &directory.join(KEY_FILE))?;
    Ok(())
}

fn check_same(file: &Path, content: &[u8]) -> Result<(), HomeError> {
    let held = files::read(file, TRUST_FILE_MAX)?;
    // A pin may have been written by hand.
    let same_text = content.is_ascii() && held.trim_ascii() == content.trim_ascii();
    if held == content || same_text {
        return Ok(());
    }
    let reason = UntrustedRoot::Pin;
    let place = Place::TrustFile;
    let why = Rejection::UntrustedRoot { place, reason };
    Err(HomeError::refused(file.to_owned(), why))
}
