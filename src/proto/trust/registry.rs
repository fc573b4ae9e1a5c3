//! The registry: certificates by key, in shards that are replaced one by one (protocol §9.9).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;

use bytes::Bytes;

use super::files::read_entries;
use crate::proto::certificate::Certificate;
use crate::proto::certificate::UnverifiedCertificate;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::identity::PublicKey;
use crate::proto::rejection::Malformed;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::root::Role;
use crate::proto::root::TrustRoot;
use crate::proto::signing::MeshId;
use crate::proto::signing::ObjectId;
use crate::proto::wire::Reader;

/// Most shards of a registry, a power of two: with that many, one of 100,000 agents has 130 KiB.
pub const REGISTRY_SHARDS_MAX: u16 = 256;

/// The shard of a key, of `count`, a power of two.
pub fn shard_of(key: &KeyBytes, count: u16) -> u16 {
    u16::from(key.0[0]) & count.saturating_sub(1)
}

/// The certificates of all agents.
#[derive(Clone, Debug, Default)]
pub(super) struct Registry {
    /// A power of two.
    shards: Vec<Arc<Shard>>,
}

/// Some of the certificates.
#[derive(Debug)]
pub(super) struct Shard {
    mesh: MeshId,
    registrars: Arc<[PublicKey]>,
    by_key: HashMap<KeyBytes, Entry>,
    by_agent: HashMap<AgentId, Vec<KeyBytes>>,
    by_certificate: HashMap<ObjectId, KeyBytes>,
    /// In the order of the file.
    order: Vec<KeyBytes>,
    twice: bool,
}

/// A certificate, verified when it is first asked for.
#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    /// `None` when it does not verify: then the key is nobody's.
    certificate: OnceLock<Option<Box<Certificate>>>,
}

impl Shard {
    pub(super) fn read(r: &mut Reader<'_>, root: &TrustRoot) -> Result<Self, Rejection> {
        let mut shard = Self {
            mesh: root.mesh(),
            registrars: root.keys(Role::Registrar).into(),
            by_key: HashMap::new(),
            by_agent: HashMap::new(),
            by_certificate: HashMap::new(),
            order: Vec::new(),
            twice: false,
        };
        let mut previous = Vec::new();
        for bytes in read_entries(r)? {
            let certificate = UnverifiedCertificate::parse(&bytes)?;
            let claims = certificate.claims();
            let key = claims.key;
            shard.by_certificate.insert(certificate.id(), key);
            previous.extend(claims.previous.map(|id| (id, key)));
            let keys = shard.by_agent.entry(claims.agent.clone()).or_default();
            keys.push(key);
            shard.order.push(key);
            let certificate = OnceLock::new();
            let entry = Entry { bytes, certificate };
            // One key, one certificate: a key can neither have two owners nor two terms.
            shard.twice |= shard.by_key.insert(key, entry).is_some();
        }
        // What was signed under a certificate shortly before it was renewed is still its key's.
        for (id, key) in previous {
            shard.by_certificate.entry(id).or_insert(key);
        }
        Ok(shard)
    }

    /// Verifies every certificate, in the order of the file.
    pub(super) fn verify_all(&self) -> Result<(), Rejection> {
        for entry in self.order.iter().filter_map(|key| self.by_key.get(key)) {
            let certificate = self.verify(entry)?;
            // Nobody else has looked yet.
            let _ = entry.certificate.set(Some(Box::new(certificate)));
        }
        Ok(())
    }

    /// Checks that no key stands twice, and that every one belongs where it stands.
    pub(super) fn check_place(&self, (index, count): (u16, u16)) -> Result<(), Rejection> {
        let fault = |reason| {
            let place = Place::TrustFile;
            Rejection::Malformed { place, reason }
        };
        if !count.is_power_of_two() || count > REGISTRY_SHARDS_MAX || index >= count {
            return Err(fault(Malformed::OutOfRange));
        }
        if self.order.iter().any(|key| shard_of(key, count) != index) {
            return Err(fault(Malformed::OutOfRange));
        }
        Ok(())
    }

    /// Whether a key stands in it twice.
    pub(super) fn check_distinct(&self) -> Result<(), Rejection> {
        if self.twice {
            return Err(Rejection::Malformed {
                place: Place::TrustFile,
                reason: Malformed::Duplicate,
            });
        }
        Ok(())
    }

    /// The encoded certificates, in the order of the file.
    pub(super) fn entries(&self) -> Vec<Bytes> {
        let entries = self.order.iter().filter_map(|key| self.by_key.get(key));
        entries.map(|entry| entry.bytes.clone()).collect()
    }

    fn verify(&self, entry: &Entry) -> Result<Certificate, Rejection> {
        UnverifiedCertificate::parse(&entry.bytes)?.verify(self.mesh, &self.registrars)
    }

    fn get(&self, key: &KeyBytes) -> Option<&Certificate> {
        let entry = self.by_key.get(key)?;
        let verify = || self.verify(entry).ok().map(Box::new);
        entry.certificate.get_or_init(verify).as_deref()
    }
}

impl Registry {
    /// A registry of these shards, whose number is a power of two.
    pub(super) fn of(shards: Vec<Arc<Shard>>) -> Self {
        Self { shards }
    }

    /// The certificate of a key.
    pub(super) fn get(&self, key: &KeyBytes) -> Option<&Certificate> {
        // At most 256 shards: see `check_place`.
        let index = shard_of(key, self.shards.len() as u16);
        self.shards.get(usize::from(index))?.get(key)
    }

    /// The certificate with an id, or the one that renewed it.
    pub(super) fn with_id(&self, id: &ObjectId) -> Option<&Certificate> {
        let find = |shard: &Arc<Shard>| shard.by_certificate.get(id).copied();
        let key = self.shards.iter().find_map(find)?;
        self.get(&key)
    }

    /// The certificates of an agent, in no particular order.
    pub(super) fn of_agent(&self, agent: &AgentId) -> Vec<&Certificate> {
        let shards = self.shards.iter();
        let keys = shards
            .filter_map(|shard| shard.by_agent.get(agent))
            .flatten();
        keys.filter_map(|key| self.get(key)).collect()
    }

    /// Every key, in no particular order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &KeyBytes> {
        self.shards.iter().flat_map(|shard| shard.by_key.keys())
    }

    /// How many certificates there are.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.by_key.len()).sum()
    }
}
