//! The authority on disk: trust files for everybody, role keys for itself.
//!
//! The trust root is written last and never again, so a directory with a root has everything. What
//! exists under another key or root is never touched.
//!
//! A root that follows another comes with files of its own, since those that lie there may be signed
//! by keys that it replaces. In this order:
//!
//! ```text
//! policy.2.pem   every role key, the ledger and every trust file, complete beside those before
//! root.2.tm      the root: from now on what has its version counts, and nothing else
//! policy.pem     takes the place of the one before; a key that was replaced is gone
//! ```
//!
//! Whoever opens the directory goes by the newest root, wherever this was interrupted; the next save
//! removes what no root came for, or completes what one did.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::Authority;
use super::AuthorityError;
use super::STATIC_ROLES;
use super::Served;
use super::ledger::Agents;
use super::ledger::Ledger;
use crate::client::clock::Clock;
use crate::client::clock::SystemClock;
use crate::client::floor::ReplayFloor;
use crate::client::home::HomeError;
use crate::client::home::Saved;
use crate::client::home::layout;
use crate::client::identity::Identity;
use crate::client::identity::Provenance;
use crate::files;
use crate::files::FileError;
use crate::files::Lock;
use crate::keyfile;
use crate::keyfile::KeyFileError;
use crate::proto::certificate::UnverifiedCertificate;
use crate::proto::chain::Chain;
use crate::proto::identity::AgentId;
use crate::proto::identity::SigningKey;
use crate::proto::rejection::Rejection;
use crate::proto::root::FileKind;
use crate::proto::root::Role;
use crate::proto::root::TrustRoot;
use crate::proto::score::Parameters;
use crate::proto::trust::Admission;
use crate::proto::trust::TrustFiles;
use crate::proto::trust::TrustState;
use crate::proto::trust::registry_entries;

/// Largest books: 512 MiB. Scores take up to two kilobytes of them for each agent.
const BOOKS_MAX: usize = 512 * 1024 * 1024;

impl Authority {
    /// Writes the mesh to a directory: new trust files under the next epoch, and the role keys,
    /// readable by their owner alone. Agents copy `trust/`; `authority/` never leaves.
    ///
    /// Call it after every change that agents outside this process shall see: an epoch that was
    /// only published here is forgotten with this process.
    ///
    /// Opened again, it is the same mesh:
    ///
    /// ```
    /// use trustmesh::services::authority::Authority;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # if cfg!(not(unix)) { return Ok(()) }
    /// # let directory = tempfile::tempdir()?;
    /// # let home = directory.path();
    /// let mut mesh = Authority::dev("demo")?;
    /// mesh.save(home)?;
    ///
    /// let mut again = Authority::open(home)?;
    /// assert_eq!(again.root_id(), mesh.root_id());
    /// again.revoke_agent("planner")?;
    /// again.save(home)?;
    /// assert!(mesh.save(home).is_err()); // it would undo that
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AuthorityError::OtherKey`] or [`AuthorityError::OtherMesh`] when the directory is
    /// another mesh's, which is left as it is; [`AuthorityError::Changed`] when another process
    /// saved since this one opened the directory; [`AuthorityError::File`] or
    /// [`AuthorityError::KeyFile`] when files cannot be written.
    /// After a failure some trust files may be new and some old; both are whole, and saving again
    /// completes them. Where the trust root was followed by another, the directory is opened as it
    /// was before or as it is after, whole, wherever the saving ended: the root that makes the
    /// difference is written in one step.
    pub fn save(&mut self, home: impl AsRef<Path>) -> Result<(), AuthorityError> {
        let home = home.as_ref();
        files::private_directory(&layout::trust_directory(home))?;
        files::private_directory(&layout::authority_directory(home))?;
        let _alone = Lock::wait(&layout::authority_directory(home).join("lock"))?;
        let there = self.check_directory(home)?;
        let roots: Vec<(u32, Bytes)> = (1u32..).zip(self.roots()).collect();
        let newest = roots.last().map_or(1, |(version, _)| *version);
        if let Some(version) = there {
            settle(home, version)?;
        }
        // Under another root than the one there, everything comes with that root.
        let coming = there.filter(|version| *version < newest);
        let place = |path: PathBuf| match coming {
            Some(_) => layout::coming_with(&path, newest),
            None => path,
        };
        for (role, key) in &self.keys {
            let path = place(layout::role_file(home, *role));
            match coming {
                Some(_) => keyfile::replace(&path, key)?,
                None => drop(store_key(&path, key)?),
            }
        }
        let trust = self.trust_files()?;
        // Whoever reads these files will do the same.
        TrustState::assemble_under(self.current_root()?, &trust).map_err(|(_, why)| why)?;
        self.saved = self.epoch;
        let replace = |path, bytes: &[u8]| files::replace(&place(path), bytes);
        // A token is used up before the agent it admitted appears.
        replace(layout::ledger_file(home), &self.ledger.encode())?;
        // What was taken back goes first, what was given last.
        let file = |kind| layout::trust_file(home, kind);
        replace(file(FileKind::Revocations), &trust.revocations)?;
        replace(file(FileKind::Policy), &trust.policy)?;
        if let Some(scores) = &trust.scores {
            replace(file(FileKind::Scores), scores)?;
        }
        replace(file(FileKind::Registry), &trust.registry)?;
        // From the last to the first: those after one that is missing do not count.
        let known = there.unwrap_or(1);
        let later = roots.iter().rev().filter(|(version, _)| *version > known);
        for (version, root) in later {
            create_unless_there(&layout::later_root_file(home, *version), root)?;
        }
        let pin = format!("{}\n", self.root_id);
        create_unless_there(&layout::pin_file(home), pin.as_bytes())?;
        create_unless_there(&file(FileKind::Root), &trust.root)?;
        match coming {
            Some(_) => settle(home, newest),
            None => Ok(()),
        }
    }

    /// Opens the mesh that was [saved](Self::save) to this directory.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Home`] or [`AuthorityError::KeyFile`] when a file is missing or broken,
    /// [`AuthorityError::OtherKey`] when a role key is not the trust root's,
    /// [`AuthorityError::Certificates`] when an agent has several.
    pub fn open(home: impl AsRef<Path>) -> Result<Self, AuthorityError> {
        Self::open_with_clock(home, Arc::new(SystemClock::new()))
    }

    /// [`open`](Self::open), by another clock.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with_clock(
        home: impl AsRef<Path>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AuthorityError> {
        let home = home.as_ref();
        let folder = layout::trust_directory(home);
        loop {
            let saved = Saved::read(&folder)?;
            let version = saved.root_version();
            let opened = Self::open_saved(home, saved, clock.clone());
            if Saved::root_version_in(&folder)? == version {
                return opened;
            }
            // Saved meanwhile under another root: what was read may be of either.
        }
    }

    fn open_saved(
        home: &Path,
        saved: Saved,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AuthorityError> {
        let state = assemble(&saved)?;
        let version = saved.root_version();
        let Saved {
            files, later_roots, ..
        } = saved;
        let root = state.root();
        let mut ledger = read_ledger(home, version, *state.policy().scores())?;
        let first = TrustRoot::parse(&files.root)?;
        let served = match root.is_served() {
            true => Some(Served::resume(&files.root, later_roots)?),
            false => None,
        };
        Ok(Self {
            keys: load_keys(home, version, root)?,
            mesh: root.mesh(),
            root_id: first.id(),
            dev: root.is_dev(),
            agents: load_agents(home, root, &files, &mut ledger)?,
            ledger,
            scoring: false,
            policy: state.policy().clone(),
            revocations: state.revocations().clone(),
            scores: state
                .scores()
                .map(|(id, score)| (id.clone(), score))
                .collect(),
            epoch: state.latest_epoch(),
            saved: state.latest_epoch(),
            shared: state.latest_epoch(),
            root: files.root,
            clock,
            published: None,
            served,
        })
    }

    /// The trust state that was [saved](Self::save) to a directory, for whoever keeps it: a
    /// development mesh is accepted, and no role key is read. In a served mesh it decides nothing,
    /// since it has no timestamp.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Home`] when a file is missing or refused.
    pub fn saved_state(home: impl AsRef<Path>) -> Result<TrustState, AuthorityError> {
        read_state(home.as_ref()).map(|(_, state)| state)
    }

    /// Writes an agent of this mesh to a directory: its key, readable by its owner alone,
    /// certificate and grant. A second time, certificate and grant are replaced.
    ///
    /// Save an identity before it is used, or use the saved one: what it accepts in this process
    /// after it was saved is not remembered when it is loaded elsewhere.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Unknown`] when the agent is not enrolled here under this key,
    /// [`AuthorityError::OtherKey`] when the directory has the agent under another key, which
    /// stays; [`AuthorityError::File`] or [`AuthorityError::KeyFile`] when files cannot be written.
    pub fn save_agent(
        &self,
        home: impl AsRef<Path>,
        identity: &Identity,
    ) -> Result<(), AuthorityError> {
        let enrolled = self.agents.get(identity.id());
        let (_, certificate) = enrolled
            .filter(|(key, _)| *key == identity.key())
            .ok_or(AuthorityError::Unknown)?;
        let directory = layout::agent_directory(home.as_ref(), identity.id());
        files::private_directory(&directory)?;
        let new = store_key(&directory.join(layout::KEY_FILE), &identity.key)?;
        // Only of an identity of this process is known until when it can have accepted anything;
        // any other begins without memory, as after a loss.
        if new && identity.provenance == Provenance::Fresh {
            ReplayFloor::create(&directory.join(layout::FLOOR_FILE), self.clock.now()?)?;
        }
        files::replace(&directory.join(layout::CERTIFICATE_FILE), certificate)?;
        self.save_grant(home, identity.id().as_str(), identity.grant())
    }

    /// Writes a grant to the directory of an agent of this mesh, in place of the one there.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Unknown`] when the grant is not for the key the agent is enrolled under;
    /// [`AuthorityError::AgentId`] when the id is none, [`AuthorityError::File`] when the file
    /// cannot be written.
    pub fn save_grant(
        &self,
        home: impl AsRef<Path>,
        agent: &str,
        grant: &Chain,
    ) -> Result<(), AuthorityError> {
        let id = AgentId::parse(agent)?;
        let holder = self.agents.get(&id).map(|(key, _)| *key);
        if holder != Some(grant.leaf().holder()) || grant.mesh() != self.mesh {
            return Err(AuthorityError::Unknown);
        }
        let directory = layout::agent_directory(home.as_ref(), &id);
        files::replace(&directory.join(layout::GRANT_FILE), grant.bytes())?;
        Ok(())
    }

    /// Checks that there is no mesh in the directory, or this one as this authority knows it: then
    /// it is the version of the newest root there.
    fn check_directory(&self, home: &Path) -> Result<Option<u32>, AuthorityError> {
        let path = layout::trust_file(home, FileKind::Root);
        let pin = files::read_if_there(&layout::pin_file(home), self.root.len())?;
        let ours = self.root_id.to_string().into_bytes();
        if pin.is_some_and(|pin| !pin.trim_ascii().eq_ignore_ascii_case(&ours)) {
            return Err(AuthorityError::OtherMesh { path });
        }
        match files::read_if_there(&path, self.root.len()) {
            Ok(None) => return Ok(None),
            Ok(Some(root)) if root == self.root => {}
            Ok(Some(_)) | Err(FileError::TooLarge { .. }) => {
                return Err(AuthorityError::OtherMesh { path });
            }
            Err(error) => return Err(error.into()),
        }
        let (saved, state) = read_state(home)?;
        let led_elsewhere = !self.roots()[1..].starts_with(&saved.later_roots);
        if led_elsewhere || state.latest_epoch() > self.saved {
            let path = layout::trust_directory(home);
            return Err(AuthorityError::Changed { path });
        }
        Ok(Some(saved.root_version()))
    }
}

/// Ends what a save that was interrupted began, in a directory whose newest root has this version:
/// what came with that root takes its place, and what no root came for goes.
fn settle(home: &Path, version: u32) -> Result<(), AuthorityError> {
    let kinds = [
        FileKind::Revocations,
        FileKind::Policy,
        FileKind::Scores,
        FileKind::Registry,
    ];
    let mut settled: Vec<_> = kinds.map(|kind| layout::trust_file(home, kind)).into();
    settled.extend(Role::ALL.map(|role| layout::role_file(home, role)));
    settled.push(layout::ledger_file(home));
    for folder in [
        layout::trust_directory(home),
        layout::authority_directory(home),
    ] {
        for name in files::names(&folder)? {
            let here = |path: &&PathBuf| path.parent() == Some(&folder);
            let mut places = settled.iter().filter(here);
            let path = folder.join(&name);
            let of = places.find_map(|place| Some((place, layout::comes_with(place, &name)?)));
            match of {
                Some((place, coming)) if coming == version => {
                    files::rename_if_there(&path, place)?;
                }
                Some(_) => files::remove_if_there(&path)?,
                // A later root whose predecessor never came.
                None if layout::later_root_version(&name).is_some_and(|later| later > version) => {
                    files::remove_if_there(&path)?;
                }
                None => {}
            }
        }
    }
    Ok(())
}

fn read_state(home: &Path) -> Result<(Saved, TrustState), AuthorityError> {
    let saved = Saved::read(&layout::trust_directory(home))?;
    let state = assemble(&saved)?;
    Ok((saved, state))
}

fn assemble(saved: &Saved) -> Result<TrustState, HomeError> {
    // Whoever holds the role keys may have a development mesh.
    saved.assemble(Admission::DangerDevelopment, None)
}

fn load_keys(
    home: &Path,
    version: u32,
    root: &TrustRoot,
) -> Result<BTreeMap<Role, SigningKey>, AuthorityError> {
    let mut keys = BTreeMap::new();
    let timestamp = root.is_served().then_some(Role::Timestamp);
    for role in STATIC_ROLES.into_iter().chain(timestamp) {
        let settled = layout::role_file(home, role);
        let coming = layout::coming_with(&settled, version);
        let (path, key) = match keyfile::load(&coming) {
            Err(KeyFileError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                let key = keyfile::load(&settled)?;
                (settled, key)
            }
            loaded => (coming, loaded?),
        };
        if root.keys(role) != [key.public()] {
            return Err(AuthorityError::OtherKey { path });
        }
        keys.insert(role, key);
    }
    Ok(keys)
}

fn load_agents(
    home: &Path,
    root: &TrustRoot,
    files: &TrustFiles,
    ledger: &mut Ledger,
) -> Result<Agents, AuthorityError> {
    let entries = registry_entries(root, &files.registry)?;
    let agents = sort_certificates(entries, ledger).map_err(|agent| match agent {
        Ok(agent) => {
            let path = layout::trust_file(home, FileKind::Registry);
            AuthorityError::Certificates { path, agent }
        }
        Err(why) => why.into(),
    })?;
    // A save that ended between the two said so of a key whose successor it did not come to.
    ledger.forget_former(|key| agents.holder(key).is_some());
    Ok(agents)
}

/// Tells each agent's current certificate from those of its former keys, which go to the ledger.
///
/// # Errors
///
/// The agent that has two certificates of the same rank, or what cannot be read.
pub(super) fn sort_certificates(
    certificates: Vec<Bytes>,
    ledger: &mut Ledger,
) -> Result<Agents, Result<AgentId, Rejection>> {
    let mut agents = Agents::default();
    let mut entries = Vec::new();
    for bytes in certificates {
        let certificate = UnverifiedCertificate::parse(&bytes).map_err(Err)?;
        entries.push((certificate.claims().clone(), bytes));
    }
    // The key that came last is an agent's current one.
    entries.sort_by_key(|(claims, _)| claims.key_epoch);
    for (claims, bytes) in entries {
        let agent = claims.agent.clone();
        let old = agents.insert(agent.clone(), (claims.key, bytes));
        let Some((key, former)) = old else { continue };
        let rank = UnverifiedCertificate::parse(&former).map_err(Err)?;
        if rank.claims().key_epoch == claims.key_epoch {
            return Err(Ok(agent));
        }
        ledger.keep_former(agent, key, former);
    }
    Ok(agents)
}

/// Books from before there was a ledger have none.
fn read_ledger(
    home: &Path,
    version: u32,
    parameters: Parameters,
) -> Result<Ledger, AuthorityError> {
    let mut path = layout::ledger_file(home);
    let coming = layout::coming_with(&path, version);
    let mut found = files::read_if_there(&coming, BOOKS_MAX)?;
    if found.is_some() {
        path = coming;
    } else {
        found = files::read_if_there(&path, BOOKS_MAX)?;
    }
    match found {
        None => Ok(Ledger::default()),
        Some(bytes) => Ledger::parse(&bytes.into(), parameters)
            .map_err(|why| HomeError::refused(path, why).into()),
    }
}

/// Writes what was found to be missing or the same.
fn create_unless_there(path: &Path, bytes: &[u8]) -> Result<(), AuthorityError> {
    match files::create(path, bytes) {
        Ok(()) | Err(FileError::Exists { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Stores a key where there is none, and says whether there was none.
fn store_key(path: &Path, key: &SigningKey) -> Result<bool, AuthorityError> {
    match keyfile::create(path, key) {
        Ok(()) => Ok(true),
        Err(KeyFileError::Exists { .. }) if keyfile::load(path)?.public() == key.public() => {
            Ok(false)
        }
        Err(KeyFileError::Exists { path }) => Err(AuthorityError::OtherKey { path }),
        Err(error) => Err(error.into()),
    }
}

#[cfg(all(test, unix))]
#[path = "books_tests.rs"]
mod tests;
