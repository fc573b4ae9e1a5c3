//! What was taken back: links, keys and agents (protocol §11).

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::certificate::Certificate;
use super::chain::VerifiedChain;
use super::identity::AGENT_ID_MAX;
use super::identity::AgentId;
use super::identity::KeyBytes;
use super::rejection::Malformed;
use super::rejection::Place;
use super::rejection::Rejection;
use super::rejection::Revoked;
use super::scope::checked_text;
use super::signing::ObjectId;
use super::time::Timestamp;
use super::wire::Reader;
use super::wire::bin;

/// The set of revoked links, keys and agents (protocol §11). It only ever grows while what it names
/// could still be valid; revocation wins over every cache and score.
///
/// Nothing limits its size but that of a trust file, 64 MiB.
///
/// ```
/// use trustmesh::proto::identity::AgentId;
/// use trustmesh::proto::revocation::RevocationSet;
///
/// let older = RevocationSet::default();
/// let mut newer = older.clone();
/// newer.revoke_agent(AgentId::parse("worker")?);
/// assert!(newer.contains(&older));
/// assert!(!older.contains(&newer)); // would take the revocation back
/// # Ok::<(), trustmesh::proto::identity::InvalidAgentId>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct RevocationSet {
    /// What no longer changes, shared by the states that follow one another.
    settled: Arc<Names>,
    /// What came after.
    recent: Names,
}

/// One thing that was revoked.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Revocation {
    /// A link, by its object id.
    Link(ObjectId),
    /// A key, for good.
    Key(KeyBytes),
    /// An agent, whatever its key.
    Agent(AgentId),
    /// A key, from an instant on.
    Retirement(KeyBytes, Timestamp),
}

/// Names of what was revoked.
#[derive(Clone, Debug, Default)]
struct Names {
    links: HashSet<ObjectId>,
    keys: HashSet<KeyBytes>,
    agents: HashSet<AgentId>,
    retirements: HashMap<KeyBytes, Timestamp>,
}

impl RevocationSet {
    /// Adds a link by its object id, [`Link::id`](super::delegation::Link::id). Every chain through
    /// it ends with it.
    pub fn revoke_link(&mut self, link: ObjectId) {
        if !self.settled.links.contains(&link) {
            self.recent.links.insert(link);
        }
    }

    /// Adds a key, for good: as holder of any link, as issuer, and under whatever agent id. Keys of
    /// the other roles are not looked up here (protocol §11.2).
    pub fn revoke_key(&mut self, key: KeyBytes) {
        if !self.settled.keys.contains(&key) {
            self.recent.keys.insert(key);
        }
    }

    /// Adds an agent, whatever key it has or will have.
    pub fn revoke_agent(&mut self, agent: AgentId) {
        if !self.settled.agents.contains(&agent) {
            self.recent.agents.insert(agent);
        }
    }

    /// Adds a key that counts as revoked from an instant on, whatever time a message claims
    /// (protocol §11.3): what remains of a key after it was rotated. Of two instants the earlier
    /// counts.
    pub fn retire_key(&mut self, key: KeyBytes, from: Timestamp) {
        if self.retires(&key).is_none_or(|earlier| from < earlier) {
            self.recent.retirements.insert(key, from);
        }
    }

    /// Adds one thing.
    pub fn revoke(&mut self, revocation: Revocation) {
        match revocation {
            Revocation::Link(link) => self.revoke_link(link),
            Revocation::Key(key) => self.revoke_key(key),
            Revocation::Agent(agent) => self.revoke_agent(agent),
            Revocation::Retirement(key, from) => self.retire_key(key, from),
        }
    }

    /// What is revoked here and not in `older`, in a fixed order.
    pub fn beyond(&self, older: &Self) -> Vec<Revocation> {
        let links = self
            .links()
            .into_iter()
            .filter(|link| !older.has_link(link));
        let keys = self.keys().into_iter().filter(|key| !older.has_key(key));
        let agents = self.agents().into_iter().filter(|id| !older.has_agent(id));
        let later = |(key, from): &(KeyBytes, Timestamp)| {
            older.retires(key).is_none_or(|before| before > *from)
        };
        let retirements = self.retirements().into_iter().filter(later);
        let retirements = retirements.map(|(key, from)| Revocation::Retirement(key, from));
        links
            .map(Revocation::Link)
            .chain(keys.map(Revocation::Key))
            .chain(agents.map(Revocation::Agent))
            .chain(retirements)
            .collect()
    }

    /// When a key retires, if it does.
    pub fn retires(&self, key: &KeyBytes) -> Option<Timestamp> {
        self.layers()
            .filter_map(|names| names.retirements.get(key))
            .min()
            .copied()
    }

    /// The revoked links, in ascending order.
    pub fn links(&self) -> Vec<ObjectId> {
        sorted(self.layers().flat_map(|names| &names.links))
    }

    /// The revoked keys, in ascending order.
    pub fn keys(&self) -> Vec<KeyBytes> {
        sorted(self.layers().flat_map(|names| &names.keys))
    }

    /// The revoked agents, in ascending order.
    pub fn agents(&self) -> Vec<AgentId> {
        sorted(self.layers().flat_map(|names| &names.agents))
    }

    /// The keys that retire, in ascending order, with the instants from which they count as
    /// revoked.
    pub fn retirements(&self) -> Vec<(KeyBytes, Timestamp)> {
        let keys = sorted(self.layers().flat_map(|names| names.retirements.keys()));
        let dated = |key| self.retires(&key).map(|from| (key, from));
        keys.into_iter().filter_map(dated).collect()
    }

    /// How many links, keys, agents and retirements there are.
    pub fn len(&self) -> usize {
        self.layers().map(Names::len).sum()
    }

    /// Whether nothing was revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this key is revoked.
    pub fn has_key(&self, key: &KeyBytes) -> bool {
        self.layers().any(|names| names.keys.contains(key))
    }

    /// Whether this agent is revoked.
    pub fn has_agent(&self, agent: &AgentId) -> bool {
        self.layers().any(|names| names.agents.contains(agent))
    }

    /// Whether this link is revoked.
    pub fn has_link(&self, link: &ObjectId) -> bool {
        self.layers().any(|names| names.links.contains(link))
    }

    /// Whether everything revoked in `older` is still revoked here, as a newer list must (protocol
    /// §9.6).
    pub fn contains(&self, older: &Self) -> bool {
        let settled = Arc::ptr_eq(&self.settled, &older.settled) || self.has(&older.settled);
        settled && self.has(&older.recent)
    }

    fn has(&self, names: &Names) -> bool {
        names.links.iter().all(|link| self.has_link(link))
            && names.keys.iter().all(|key| self.has_key(key))
            && names.agents.iter().all(|agent| self.has_agent(agent))
            && names
                .retirements
                .iter()
                .all(|(key, from)| self.retires(key).is_some_and(|now| now <= *from))
    }

    fn layers(&self) -> impl Iterator<Item = &Names> {
        [&*self.settled, &self.recent].into_iter()
    }

    /// Puts several lists together. All but the last are settled: what is made of the same ones
    /// again shares them with `before`.
    pub(crate) fn join(lists: &[Arc<Self>], shared: Option<&Self>) -> Self {
        let Some((last, settled)) = lists.split_last() else {
            return Self::default();
        };
        let settled = match shared {
            Some(shared) => shared.settled.clone(),
            None => {
                let mut all = Names::default();
                for list in settled {
                    list.layers().for_each(|names| all.extend(names));
                }
                Arc::new(all)
            }
        };
        let mut recent = Names::default();
        last.layers().for_each(|names| recent.extend(names));
        Self { settled, recent }
    }

    /// Checks one agent and its key, key first (protocol §11.2).
    ///
    /// # Errors
    ///
    /// [`Rejection::Revoked`] naming `place`: [`Key`](Revoked::Key), [`Retired`](Revoked::Retired)
    /// or [`Agent`](Revoked::Agent).
    pub fn check_agent(
        &self,
        certificate: &Certificate,
        now: Timestamp,
        place: Place,
    ) -> Result<(), Rejection> {
        self.check_key(&certificate.claims().key, now, place)?;
        if self.has_agent(certificate.agent()) {
            return Err(Rejection::Revoked {
                place,
                reason: Revoked::Agent,
            });
        }
        Ok(())
    }

    /// Checks the issuer, every link, every holder's key and every holder.
    ///
    /// # Errors
    ///
    /// `Revoked`, naming the link or holder.
    pub(crate) fn check_chain<'a>(
        &self,
        chain: &VerifiedChain,
        holders: impl Iterator<Item = &'a Certificate>,
        now: Timestamp,
    ) -> Result<NotRevoked, Rejection> {
        self.check_key(&chain.issuer(), now, Place::Issuer)?;
        for (index, link) in chain.links().iter().enumerate() {
            if self.has_link(&link.id()) {
                let place = Place::Hop(index as u8);
                return Err(Rejection::Revoked {
                    place,
                    reason: Revoked::Link,
                });
            }
        }
        for (index, certificate) in holders.enumerate() {
            self.check_agent(certificate, now, Place::Holder(index as u8))?;
        }
        Ok(NotRevoked {
            chain: chain.digest(),
        })
    }

    fn check_key(&self, key: &KeyBytes, now: Timestamp, place: Place) -> Result<(), Rejection> {
        if self.has_key(key) {
            let reason = Revoked::Key;
            return Err(Rejection::Revoked { place, reason });
        }
        if self.retires(key).is_some_and(|from| from <= now) {
            let reason = Revoked::Retired;
            return Err(Rejection::Revoked { place, reason });
        }
        Ok(())
    }

    /// Encodes `links, keys, agents`, each sorted.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let (links, keys, agents) = (self.links(), self.keys(), self.agents());
        let agents: Vec<_> = agents.iter().map(AgentId::as_str).collect();
        super::wire::encode_into(out, &links.iter().map(|id| bin(&id.0)).collect::<Vec<_>>());
        super::wire::encode_into(out, &keys.iter().map(|key| bin(&key.0)).collect::<Vec<_>>());
        super::wire::encode_into(out, &agents);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Rejection> {
        let recent = Names {
            links: read_set(r, Reader::object_id)?,
            keys: read_set(r, Reader::key)?,
            agents: read_set(r, read_agent)?,
            retirements: HashMap::new(),
        };
        let settled = Arc::default();
        Ok(Self { settled, recent })
    }

    /// Encodes the retirements, `[[key, from]…]` by key (protocol §11.3); `None` when there are
    /// none.
    pub(crate) fn write_retirements(&self) -> Option<Vec<u8>> {
        let list = self.retirements();
        let list: Vec<_> = list
            .iter()
            .map(|(key, from)| (bin(&key.0), from.as_millis()))
            .collect();
        (!list.is_empty()).then(|| super::wire::encode(&list))
    }

    /// Takes in what [`write_retirements`](Self::write_retirements) wrote.
    pub(crate) fn read_retirements(
        &mut self,
        value: &Bytes,
        place: Place,
    ) -> Result<(), Rejection> {
        let mut r = Reader::new(value, place);
        let mut last: Option<KeyBytes> = None;
        let len = r.array()?;
        if len == 0 {
            return Err(r.fault(Malformed::Extension));
        }
        for _ in 0..len {
            r.array_of(2)?;
            let key = r.key()?;
            if last.is_some_and(|last| last >= key) {
                return Err(r.fault(Malformed::Duplicate));
            }
            last = Some(key);
            let from = Timestamp::from_millis(r.uint()?);
            self.recent.retirements.insert(key, from);
        }
        r.finish()
    }
}

impl Names {
    fn len(&self) -> usize {
        self.links.len() + self.keys.len() + self.agents.len() + self.retirements.len()
    }

    fn extend(&mut self, other: &Self) {
        self.links.extend(&other.links);
        self.keys.extend(&other.keys);
        self.agents.extend(other.agents.iter().cloned());
        for (key, from) in &other.retirements {
            let entry = self.retirements.entry(*key).or_insert(*from);
            *entry = (*entry).min(*from);
        }
    }
}

fn sorted<'a, T: Clone + Ord + 'a>(set: impl Iterator<Item = &'a T>) -> Vec<T> {
    let mut list: Vec<T> = set.cloned().collect();
    list.sort();
    list.dedup();
    list
}

/// Reads an agent id.
pub(crate) fn read_agent(r: &mut Reader<'_>) -> Result<AgentId, Rejection> {
    let text = r.text(AGENT_ID_MAX)?;
    AgentId::parse(checked_text(&text)).map_err(|_| r.fault(Malformed::BadAgentId))
}

/// Reads a strictly ascending list into a set.
pub(crate) fn read_set<'a, T: Clone + Eq + Ord + std::hash::Hash>(
    r: &mut Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Result<T, Rejection>,
) -> Result<HashSet<T>, Rejection> {
    let mut set = HashSet::new();
    let mut last: Option<T> = None;
    for _ in 0..r.array()? {
        let value = read(r)?;
        if last.as_ref().is_some_and(|last| *last >= value) {
            return Err(r.fault(Malformed::Duplicate));
        }
        set.insert(value.clone());
        last = Some(value);
    }
    Ok(set)
}

/// Evidence that nothing in one chain was revoked in the trust state it was checked against.
///
/// It names the chain by digest and is one of the pieces a
/// [`VerifiedEnvelope`](super::verify::VerifiedEnvelope) is made of. Only the check of protocol
/// §11.2 makes one:
///
/// ```compile_fail
/// use trustmesh::proto::revocation::NotRevoked;
/// use trustmesh::proto::signing::ObjectId;
///
/// let forged = NotRevoked { chain: ObjectId([0; 32]) }; // a private field, and no constructor
/// ```
#[derive(Debug)]
pub struct NotRevoked {
    chain: ObjectId,
}

impl NotRevoked {
    /// The digest of the chain this is evidence for.
    pub(crate) fn chain(&self) -> ObjectId {
        self.chain
    }
}
