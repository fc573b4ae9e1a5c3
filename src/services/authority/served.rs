//! The authority of a served mesh: what a verifier service publishes (protocol §9.9).

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Authority;
use super::AuthorityError;
use super::ledger::Ledger;
use super::press::Books;
use super::press::Press;
use super::press::Signers;
use crate::client::clock::Clock;
use crate::client::clock::SystemClock;
use crate::proto::certificate::CertificateClaims;
use crate::proto::certificate::UnverifiedCertificate;
use crate::proto::identity::KeyBytes;
use crate::proto::identity::SigningKey;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::StaleState;
use crate::proto::root::FileKind;
use crate::proto::root::Role;
use crate::proto::root::RootDraft;
use crate::proto::root::TrustRoot;
use crate::proto::signing::ObjectId;
use crate::proto::trust::Admission;
use crate::proto::trust::Bulletin;
use crate::proto::trust::Follower;
use crate::proto::trust::Part;
use crate::proto::trust::Progress;
use crate::proto::trust::TrustState;

/// Size of a chunk of the books.
const BOOK_CHUNK: usize = 128 * 1024;

/// What makes an authority that of a served mesh.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) press: Press,
    follower: Follower,
    /// The roots after the first.
    later_roots: Vec<Bytes>,
    latest: Option<Bulletin>,
}

impl Served {
    pub(super) fn new(
        root: &Bytes,
        admission: Admission,
        pin: ObjectId,
    ) -> Result<Self, Rejection> {
        Ok(Self {
            press: Press::default(),
            follower: Follower::new(root, admission, Some(pin))?,
            later_roots: Vec::new(),
            latest: None,
        })
    }
}

impl Served {
    /// The state that was published last.
    pub(super) fn state(&self) -> Option<Arc<TrustState>> {
        self.follower.state().cloned()
    }

    /// Goes on under the roots that were saved.
    pub(super) fn resume(root: &Bytes, later_roots: Vec<Bytes>) -> Result<Self, Rejection> {
        // Whoever holds the role keys may have a development mesh.
        let admission = Admission::DangerDevelopment;
        let mut follower = Follower::new(root, admission, None)?;
        for later in &later_roots {
            follower.succeed(later)?;
        }
        Ok(Self {
            press: Press::default(),
            follower,
            later_roots,
            latest: None,
        })
    }
}

impl Authority {
    /// A served mesh: as [`new`](Self::new), with a timestamp role besides. Its agents go by what
    /// [`bulletin`](Self::bulletin) says, and refuse when they hear nothing new (protocol §9.10).
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn served(name: &str) -> Result<Self, AuthorityError> {
        Self::served_with_clock(name, false, Arc::new(SystemClock::new()))
    }

    /// [`served`](Self::served), by another clock and perhaps for development.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn served_with_clock(
        name: &str,
        dev: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AuthorityError> {
        Self::create(name, dev, true, clock)
    }

    /// Whether the mesh is a served one.
    pub fn is_served(&self) -> bool {
        self.served.is_some()
    }

    /// What was published last, when the mesh is served.
    pub fn bulletin(&self) -> Option<&Bulletin> {
        self.served.as_ref()?.latest.as_ref()
    }

    /// Every part of what was published last, by digest.
    pub fn parts(&self) -> HashMap<ObjectId, Bytes> {
        let served = self.served.as_ref();
        served
            .map(|served| served.press.parts())
            .unwrap_or_default()
    }

    /// The trust roots, first to last.
    pub fn roots(&self) -> Vec<Bytes> {
        let later = self
            .served
            .iter()
            .flat_map(|served| served.later_roots.iter());
        std::iter::once(&self.root).chain(later).cloned().collect()
    }

    /// Signs a new timestamp, and what must be renewed.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Refused`] when the clock cannot be trusted.
    pub fn beat(&mut self) -> Result<(), AuthorityError> {
        let now = self.clock.now()?;
        let Some(served) = &mut self.served else {
            return Ok(());
        };
        let root = served.follower.root().clone();
        let signers = Signers {
            root: &root,
            keys: &self.keys,
        };
        match served.press.beat(&signers, now)? {
            Some(bulletin) => self.adopt(bulletin).map(drop),
            None => self.publish().map(drop),
        }
    }

    /// Makes the next trust root with other keys for some roles (protocol §9.8), signed by the
    /// root keys before and after, and publishes everything anew under it. It holds for 400 days;
    /// without other keys, that is all that changes.
    ///
    /// Under another registrar key every certificate in the books is signed again: agents go on
    /// under those they have. What the replaced key signed besides is void: join tokens and
    /// approvals of the registrar's, grants of the issuer's.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Static`] in a static mesh, [`AuthorityError::Taken`] when an agent has one
    /// of the keys, [`AuthorityError::Refused`] when verification would refuse the root or a
    /// certificate: nothing changed. `Refused` also when the clock fails once the root is made,
    /// which is then published with the next change.
    pub fn replace_roles(
        &mut self,
        mut keys: BTreeMap<Role, SigningKey>,
    ) -> Result<(), AuthorityError> {
        let now = self.clock.now()?;
        let before = self.current_root()?;
        if self.served.is_none() {
            return Err(AuthorityError::Static);
        }
        let taken = |key: &SigningKey| {
            let key = key.public().bytes();
            self.agents.holder(&key).is_some() || self.ledger.has_key(&key)
        };
        if keys.values().any(taken) {
            return Err(AuthorityError::Taken);
        }
        let roles = self.keys.iter().map(|(role, old)| {
            let key = keys.get(role).unwrap_or(old);
            (*role, (1, vec![key.public().bytes()]))
        });
        let draft = RootDraft {
            name: before.name().to_owned(),
            roles: roles.collect(),
            validity: super::window(now, crate::proto::root::ROOT_LIFETIME_MAX_MS)?,
            dev: self.dev,
        };
        let old = &self.keys[&Role::Root];
        let own = keys.get(&Role::Root).unwrap_or(old);
        let root = draft.sign_after(&before, &[(0, own)], &[(0, old)])?;
        // What can be refused, before anything changes.
        before.succeed(&root)?;
        let certificates = match keys.get(&Role::Registrar) {
            Some(registrar) => self.certified_by(registrar, &before)?,
            None => Vec::new(),
        };
        if let Some(served) = &mut self.served {
            served.follower.succeed(&root)?;
            served.later_roots.push(root);
        }
        for (claims, bytes) in certificates {
            let (agent, key) = (claims.agent, claims.key);
            match self.agents.holder(&key).is_some() {
                true => drop(self.agents.insert(agent, (key, bytes))),
                false => self.ledger.keep_former(agent, key, bytes),
            }
        }
        self.keys.append(&mut keys);
        self.publish().map(drop)
    }

    /// Every certificate in the books, signed by another registrar key.
    fn certified_by(
        &self,
        registrar: &SigningKey,
        before: &TrustRoot,
    ) -> Result<Vec<(CertificateClaims, Bytes)>, Rejection> {
        let again = |bytes| {
            let certificate = UnverifiedCertificate::parse(bytes)?;
            // Of what the one before signed, and of nothing else.
            let held = certificate.clone();
            held.verify(self.mesh, before.keys(Role::Registrar))?;
            let bytes = certificate.certified_by((0, registrar))?;
            Ok((certificate.claims().clone(), bytes))
        };
        self.certificates().map(again).collect()
    }

    /// Takes the books over from what another authority of this mesh, with the same keys, has
    /// published: certificates, policy, revocations, scores and its own books. What was known here
    /// and not there is lost; what was revoked here stays so.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Refused`] when it is not sound or complete;
    /// [`AuthorityError::Static`] in a static mesh. Nothing changed.
    pub fn take_over(
        &mut self,
        bulletin: &Bulletin,
        parts: &HashMap<ObjectId, Bytes>,
    ) -> Result<(), AuthorityError> {
        let Some(served) = &mut self.served else {
            return Err(AuthorityError::Static);
        };
        let root = served.follower.root().clone();
        // What this process signed in the meantime, nobody else has seen.
        let mut follower = Served::resume(&self.root, served.later_roots.clone())?.follower;
        follower.hear(bulletin, |digest| parts.get(digest).cloned())?;
        let state = follower.state().ok_or(AuthorityError::Static)?.clone();
        let (Some(snapshot), Some(time)) = (state.snapshot(), state.time()) else {
            return Err(AuthorityError::Static);
        };
        let (mut certificates, mut books) = (Vec::new(), Vec::new());
        for (key, named) in snapshot.parts() {
            let wanted = matches!(key.kind, FileKind::Registry | FileKind::Books);
            let Some(file) = parts.get(&named.digest).filter(|_| wanted) else {
                continue;
            };
            let part = Part::open(&root, *key, *named, file)?;
            books.extend_from_slice(part.books().map_or(&[], |bytes| bytes));
            certificates.extend(part.certificates());
        }
        let mut ledger = match books.is_empty() {
            true => Ledger::default(),
            false => Ledger::parse(&books.into(), *state.policy().scores())?,
        };
        let agents = super::books::sort_certificates(certificates, &mut ledger).map_err(|_| {
            Rejection::StaleState {
                reason: StaleState::Incomplete,
            }
        })?;
        let mut revocations = state.revocations().clone();
        for revocation in self.revocations.beyond(&revocations) {
            revocations.revoke(revocation);
        }
        served.follower = follower;
        served
            .press
            .continue_after(snapshot.edition().epoch, time.epoch());
        self.epoch = self.epoch.max(snapshot.edition().epoch);
        self.shared = self.shared.max(snapshot.edition().epoch);
        self.agents = agents;
        self.ledger = ledger;
        self.policy = state.policy().clone();
        self.revocations = revocations;
        self.scores = state
            .scores()
            .map(|(id, score)| (id.clone(), score))
            .collect();
        Ok(())
    }

    /// Whether somebody else published an epoch that these books were not made from. What was
    /// signed here since they were opened has an epoch as well, and says nothing about that.
    pub(crate) fn lacks(&self, epoch: u64) -> bool {
        epoch > self.shared
    }

    /// What was signed last is what everybody has.
    pub(crate) fn note_shared(&mut self) {
        self.shared = self.epoch;
    }

    /// Signs timestamps above one that others may have seen, even if the clock was set back.
    pub(crate) fn continue_time(&mut self, time: u64) {
        if let Some(served) = &mut self.served {
            served.press.continue_after(0, time);
        }
    }

    /// The newest trust root.
    pub fn current_root(&self) -> Result<TrustRoot, Rejection> {
        match &self.served {
            Some(served) => Ok((**served.follower.root()).clone()),
            None => TrustRoot::parse(&self.root),
        }
    }

    /// Prints what the books say, and takes it up as the state of this process.
    pub(super) fn print(&mut self) -> Result<Arc<TrustState>, AuthorityError> {
        let now = self.clock.now()?;
        let certificates = self.certificates_by_key()?;
        let chunks = self.book_chunks();
        let Some(served) = &mut self.served else {
            return Err(AuthorityError::Static);
        };
        served.press.continue_after(self.epoch, 0);
        let root = served.follower.root().clone();
        let signers = Signers {
            root: &root,
            keys: &self.keys,
        };
        let books = Books {
            certificates: &certificates,
            policy: &self.policy,
            revocations: &self.revocations,
            scores: &self.scores,
            chunks,
        };
        let bulletin = served.press.print(&books, &signers, now)?;
        self.epoch = served.press.epoch();
        self.adopt(bulletin)
    }

    fn adopt(&mut self, bulletin: Bulletin) -> Result<Arc<TrustState>, AuthorityError> {
        let Some(served) = &mut self.served else {
            return Err(AuthorityError::Static);
        };
        let parts = served.press.parts();
        let progress = served
            .follower
            .hear(&bulletin, |digest| parts.get(digest).cloned())?;
        served.latest = Some(bulletin);
        let state = match progress {
            Progress::Advanced(state) => state,
            // Our own parts are all there, and every timestamp is a new one.
            Progress::Unchanged | Progress::Missing(_) => return Err(AuthorityError::Static),
        };
        if let Some(handle) = &self.published {
            handle.replace(state.clone())?;
        }
        Ok(state)
    }

    fn certificates_by_key(&self) -> Result<BTreeMap<KeyBytes, Bytes>, Rejection> {
        let mut certificates = BTreeMap::new();
        for bytes in self.certificates() {
            let key = UnverifiedCertificate::parse(bytes)?.claims().key;
            certificates.insert(key, bytes.clone());
        }
        Ok(certificates)
    }

    fn certificates(&self) -> impl Iterator<Item = &Bytes> {
        self.agents.certificates().chain(self.ledger.former())
    }

    /// What else a successor must know, in parts of a size that a store takes.
    fn book_chunks(&self) -> Vec<Vec<u8>> {
        let books = self.ledger.encode();
        books.chunks(BOOK_CHUNK).map(<[u8]>::to_vec).collect()
    }
}
