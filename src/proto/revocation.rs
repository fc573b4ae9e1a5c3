//! What was taken back: links, keys and agents (protocol §11).

use std::collections::HashSet;

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
    links: HashSet<ObjectId>,
    keys: HashSet<KeyBytes>,
    agents: HashSet<AgentId>,
}

impl RevocationSet {
    /// Adds a link by its object id, [`Link::id`](super::delegation::Link::id). Every chain through
    /// it ends with it.
    pub fn revoke_link(&mut self, link: ObjectId) {
        self.links.insert(link);
    }

    /// Adds a key, for good: as holder of any link, as issuer, and under whatever agent id. Keys of
    /// the other roles are not looked up here (protocol §11.2).
    pub fn revoke_key(&mut self, key: KeyBytes) {
        self.keys.insert(key);
    }

    /// Adds an agent, whatever key it has or will have.
    pub fn revoke_agent(&mut self, agent: AgentId) {
        self.agents.insert(agent);
    }

    /// The revoked links, in ascending order.
    pub fn links(&self) -> Vec<ObjectId> {
        sorted(&self.links)
    }

    /// The revoked keys, in ascending order.
    pub fn keys(&self) -> Vec<KeyBytes> {
        sorted(&self.keys)
    }

    /// The revoked agents, in ascending order.
    pub fn agents(&self) -> Vec<AgentId> {
        sorted(&self.agents)
    }

    /// Whether this key is revoked.
    pub fn has_key(&self, key: &KeyBytes) -> bool {
        self.keys.contains(key)
    }

    /// Whether this agent is revoked.
    pub fn has_agent(&self, agent: &AgentId) -> bool {
        self.agents.contains(agent)
    }

    /// Whether this link is revoked.
    pub fn has_link(&self, link: &ObjectId) -> bool {
        self.links.contains(link)
    }

    /// Whether everything revoked in `older` is still revoked here, as a newer list must (protocol
    /// §9.6).
    pub fn contains(&self, older: &Self) -> bool {
        older.links.is_subset(&self.links)
            && older.keys.is_subset(&self.keys)
            && older.agents.is_subset(&self.agents)
    }

    /// Checks one agent and its key, key first (protocol §11.2).
    ///
    /// # Errors
    ///
    /// [`Rejection::Revoked`] naming `place`: [`Key`](Revoked::Key) or [`Agent`](Revoked::Agent).
    pub fn check_agent(&self, certificate: &Certificate, place: Place) -> Result<(), Rejection> {
        self.check_key(&certificate.claims().key, place)?;
        if !self.agents.is_empty() && self.agents.contains(certificate.agent()) {
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
    ) -> Result<NotRevoked, Rejection> {
        self.check_key(&chain.issuer(), Place::Issuer)?;
        if !self.links.is_empty() {
            for (index, link) in chain.links().iter().enumerate() {
                if self.links.contains(&link.id()) {
                    let place = Place::Hop(index as u8);
                    return Err(Rejection::Revoked {
                        place,
                        reason: Revoked::Link,
                    });
                }
            }
        }
        for (index, certificate) in holders.enumerate() {
            self.check_agent(certificate, Place::Holder(index as u8))?;
        }
        Ok(NotRevoked {
            chain: chain.digest(),
        })
    }

    fn check_key(&self, key: &KeyBytes, place: Place) -> Result<(), Rejection> {
        if !self.keys.is_empty() && self.keys.contains(key) {
            return Err(Rejection::Revoked {
                place,
                reason: Revoked::Key,
            });
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
        Ok(Self {
            links: read_set(r, Reader::object_id)?,
            keys: read_set(r, Reader::key)?,
            agents: read_set(r, read_agent)?,
        })
    }
}

fn sorted<T: Clone + Ord>(set: &HashSet<T>) -> Vec<T> {
    let mut list: Vec<T> = set.iter().cloned().collect();
    list.sort();
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
