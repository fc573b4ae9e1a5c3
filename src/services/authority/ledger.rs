//! What the books hold besides certificates: terms, used tokens, keys on their way out.

use std::collections::BTreeMap;
use std::collections::HashMap;

use bytes::Bytes;

use super::standing::Standings;
use crate::proto::certificate::CERTIFICATE_MAX;
use crate::proto::certificate::UnverifiedCertificate;
use crate::proto::chain;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::names::OBJECT_VERSION;
use crate::proto::rejection::Malformed;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::revocation::read_agent;
use crate::proto::scope::Scope;
use crate::proto::score::Parameters;
use crate::proto::signing::ObjectId;
use crate::proto::time::Timestamp;
use crate::proto::wire;
use crate::proto::wire::Reader;
use crate::proto::wire::bin;

/// Key and certificate of each agent: the current ones.
#[derive(Debug, Default)]
pub(super) struct Agents {
    by_id: BTreeMap<AgentId, (KeyBytes, Bytes)>,
    by_key: HashMap<KeyBytes, AgentId>,
}

impl Agents {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, agent: &AgentId) -> Option<&(KeyBytes, Bytes)> {
        self.by_id.get(agent)
    }

    pub(super) fn has(&self, agent: &AgentId) -> bool {
        self.by_id.contains_key(agent)
    }

    /// The agent whose current key this is.
    pub(super) fn holder(&self, key: &KeyBytes) -> Option<&AgentId> {
        self.by_key.get(key)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &AgentId> {
        self.by_id.keys()
    }

    pub(super) fn certificates(&self) -> impl Iterator<Item = &Bytes> {
        self.by_id.values().map(|(_, certificate)| certificate)
    }

    /// Takes an entry in, and returns the one it replaces.
    pub(super) fn insert(
        &mut self,
        agent: AgentId,
        (key, certificate): (KeyBytes, Bytes),
    ) -> Option<(KeyBytes, Bytes)> {
        let old = self.remove(&agent);
        self.by_key.insert(key, agent.clone());
        self.by_id.insert(agent, (key, certificate));
        old
    }

    pub(super) fn remove(&mut self, agent: &AgentId) -> Option<(KeyBytes, Bytes)> {
        let old = self.by_id.remove(agent);
        if let Some((key, _)) = &old {
            self.by_key.remove(key);
        }
        old
    }
}

/// What an agent was enrolled for: the most that its grants ever are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Terms {
    pub(super) scope: Scope,
    pub(super) depth: u8,
    pub(super) grant_ttl_ms: u64,
    pub(super) sponsor: Option<AgentId>,
}

/// What a used token led to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Joined {
    /// When the token would have expired: until then it is remembered.
    pub(super) until: Timestamp,
    pub(super) agent: AgentId,
    pub(super) certificate: ObjectId,
    pub(super) grant: Option<Bytes>,
}

/// The books besides the certificates.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ledger {
    terms: BTreeMap<AgentId, Terms>,
    tokens: BTreeMap<ObjectId, Joined>,
    /// Certificates of keys that are no longer their agents' current ones.
    former: BTreeMap<KeyBytes, (AgentId, Bytes)>,
    retiring: BTreeMap<KeyBytes, Timestamp>,
    recovering: BTreeMap<AgentId, ObjectId>,
    pub(super) standings: Standings,
}

impl Ledger {
    pub(super) fn terms(&self, agent: &AgentId) -> Option<&Terms> {
        self.terms.get(agent)
    }

    pub(super) fn set_terms(&mut self, agent: &AgentId, terms: Terms) {
        self.terms.insert(agent.clone(), terms);
    }

    pub(super) fn joined(&self, token: &ObjectId) -> Option<&Joined> {
        self.tokens.get(token)
    }

    pub(super) fn use_token(&mut self, token: ObjectId, joined: Joined) {
        if self.is_recovering(&joined.agent, &token) {
            self.recovering.remove(&joined.agent);
        }
        self.tokens.insert(token, joined);
    }

    pub(super) fn is_recovering(&self, agent: &AgentId, token: &ObjectId) -> bool {
        self.recovering.get(agent) == Some(token)
    }

    /// Lets an agent join again by this token, and by no earlier one.
    pub(super) fn recover(&mut self, agent: AgentId, token: ObjectId) {
        self.recovering.insert(agent, token);
    }

    pub(super) fn keep_former(&mut self, agent: AgentId, key: KeyBytes, certificate: Bytes) {
        self.former.insert(key, (agent, certificate));
    }

    /// Forgets certificates by their keys.
    pub(super) fn forget_former(&mut self, is_not: impl Fn(&KeyBytes) -> bool) {
        self.former.retain(|key, _| !is_not(key));
    }

    pub(super) fn former(&self) -> impl Iterator<Item = &Bytes> {
        self.former.values().map(|(_, certificate)| certificate)
    }

    pub(super) fn former_keys(&self, agent: &AgentId) -> Vec<KeyBytes> {
        let former = self.former.iter();
        former
            .filter(|(_, (of, _))| of == agent)
            .map(|(key, _)| *key)
            .collect()
    }

    pub(super) fn has_key(&self, key: &KeyBytes) -> bool {
        self.former.contains_key(key) || self.retiring.contains_key(key)
    }

    /// Sets the end of a key's time; an earlier one stands.
    pub(super) fn retire(&mut self, key: KeyBytes, at: Timestamp) {
        let end = self.retiring.entry(key).or_insert(at);
        *end = at.min(*end);
    }

    pub(super) fn is_retired(&self, key: &KeyBytes, now: Timestamp) -> bool {
        self.retiring.get(key).is_some_and(|at| *at <= now)
    }

    /// Keys on their way out, with the instant from which each counts as revoked.
    pub(super) fn retiring(&self) -> impl Iterator<Item = (&KeyBytes, &Timestamp)> {
        self.retiring.iter()
    }

    /// Takes out the keys whose time is over.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<KeyBytes> {
        let over = self.retiring.iter().filter(|(_, at)| **at <= now);
        let due: Vec<KeyBytes> = over.map(|(key, _)| *key).collect();
        for key in &due {
            self.retiring.remove(key);
        }
        due
    }

    /// Forgets tokens that have expired, and certificates that are over.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.tokens.retain(|_, joined| now < joined.until);
        self.former.retain(|_, (_, bytes)| {
            UnverifiedCertificate::parse(bytes)
                .is_ok_and(|certificate| now < certificate.claims().validity.until())
        });
    }

    /// One canonical encoding, for the authority's own directory. Scores stand in it once there are
    /// some.
    pub(super) fn encode(&self) -> Bytes {
        match self.standings.is_empty() {
            true => self.encode_with(None),
            false => self.encode_with(Some(&self.standings.to_bytes())),
        }
    }

    fn encode_with(&self, scores: Option<&[u8]>) -> Bytes {
        let id = |agent: &Option<AgentId>| agent.as_ref().map(|id| id.as_str().to_owned());
        let terms: Vec<_> = self
            .terms
            .iter()
            .map(|(agent, terms)| {
                (
                    agent.as_str(),
                    &terms.scope,
                    terms.depth,
                    terms.grant_ttl_ms,
                    id(&terms.sponsor),
                )
            })
            .collect();
        let tokens: Vec<_> = self
            .tokens
            .iter()
            .map(|(token, joined)| {
                (
                    bin(&token.0),
                    joined.until.as_millis(),
                    joined.agent.as_str(),
                    bin(&joined.certificate.0),
                    joined.grant.as_ref().map(|grant| bin(grant)),
                )
            })
            .collect();
        let former: Vec<_> = self.former().map(|bytes| bin(bytes)).collect();
        let retiring: Vec<_> = self
            .retiring
            .iter()
            .map(|(key, at)| (bin(&key.0), at.as_millis()))
            .collect();
        let recovering: Vec<_> = self
            .recovering
            .iter()
            .map(|(agent, token)| (agent.as_str(), bin(&token.0)))
            .collect();
        let v = OBJECT_VERSION;
        let Some(scores) = scores else {
            return wire::encode(&(v, terms, tokens, former, retiring, recovering)).into();
        };
        let caps = self.standings.caps().iter();
        let caps: Vec<_> = caps.map(|(agent, most)| (agent.as_str(), most)).collect();
        let scores = bin(scores);
        wire::encode(&(v, terms, tokens, former, retiring, recovering, scores, caps)).into()
    }

    /// Reads the books back. Scores go on as these parameters say.
    pub(super) fn parse(bytes: &Bytes, parameters: Parameters) -> Result<Self, Rejection> {
        let place = Place::TrustFile;
        let mut r = Reader::new(bytes, place);
        let len = r.array()?;
        if len != 6 && len != 8 {
            return Err(r.fault(Malformed::WrongLength));
        }
        let found = r.uint()?;
        if found != OBJECT_VERSION {
            return Err(Rejection::UnsupportedVersion { place, found });
        }
        let mut ledger = Self::default();
        for _ in 0..r.array()? {
            r.array_of(5)?;
            let agent = read_agent(&mut r)?;
            let terms = Terms {
                scope: Scope::read(&mut r)?,
                depth: r.number_of()?,
                grant_ttl_ms: r.uint()?,
                sponsor: r.optional(read_agent)?,
            };
            ledger.terms.insert(agent, terms);
        }
        for _ in 0..r.array()? {
            r.array_of(5)?;
            let token = r.object_id()?;
            let joined = Joined {
                until: Timestamp::from_millis(r.uint()?),
                agent: read_agent(&mut r)?,
                certificate: r.object_id()?,
                grant: r.optional(chain::read_bytes)?,
            };
            ledger.tokens.insert(token, joined);
        }
        for _ in 0..r.array()? {
            let certificate = r.bin(CERTIFICATE_MAX)?;
            let parsed = UnverifiedCertificate::parse(&certificate)?;
            let claims = parsed.claims();
            ledger.keep_former(claims.agent.clone(), claims.key, certificate);
        }
        for _ in 0..r.array()? {
            r.array_of(2)?;
            let key = r.key()?;
            ledger.retire(key, Timestamp::from_millis(r.uint()?));
        }
        for _ in 0..r.array()? {
            r.array_of(2)?;
            let agent = read_agent(&mut r)?;
            ledger.recover(agent, r.object_id()?);
        }
        let mut scores = None;
        if len == 8 {
            let ledger_of_scores = r.bin(bytes.len())?;
            let mut caps = BTreeMap::new();
            for _ in 0..r.array()? {
                r.array_of(2)?;
                caps.insert(read_agent(&mut r)?, r.number_of()?);
            }
            ledger.standings = Standings::restore(&ledger_of_scores, caps, parameters)?;
            scores = Some(ledger_of_scores);
        }
        r.finish()?;
        // The parameters may be others than those the scores were written under.
        if ledger.encode_with(scores.as_deref()) == *bytes {
            return Ok(ledger);
        }
        // Not in order, or something twice: nobody but this code writes it.
        Err(Rejection::Malformed {
            place,
            reason: Malformed::NotCanonical,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(id: &str) -> AgentId {
        AgentId::parse(id).unwrap()
    }

    #[test]
    fn the_books_survive_their_encoding() {
        let mut ledger = Ledger::default();
        let terms = Terms {
            scope: Scope::parse(["sub:tasks.>"]).unwrap(),
            depth: 2,
            grant_ttl_ms: 1000,
            sponsor: Some(agent("planner")),
        };
        ledger.set_terms(&agent("worker"), terms);
        let joined = Joined {
            until: Timestamp::from_millis(5),
            agent: agent("worker"),
            certificate: ObjectId([1; 32]),
            grant: Some(vec![0x90].into()),
        };
        ledger.use_token(ObjectId([2; 32]), joined);
        ledger.retire(KeyBytes([3; 32]), Timestamp::from_millis(9));
        ledger.recover(agent("other"), ObjectId([4; 32]));
        let bytes = ledger.encode();
        assert_eq!(
            Ledger::parse(&bytes, Parameters::default()).unwrap(),
            ledger
        );
        for cut in 0..bytes.len() {
            assert!(Ledger::parse(&bytes.slice(..cut), Parameters::default()).is_err());
        }
    }

    #[test]
    fn an_end_that_was_set_is_never_put_off() {
        let (key, at) = (KeyBytes([1; 32]), Timestamp::from_millis);
        let mut ledger = Ledger::default();
        ledger.retire(key, at(10));
        ledger.retire(key, at(20));
        assert!(!ledger.is_retired(&key, at(9)) && ledger.is_retired(&key, at(10)));
        assert_eq!(ledger.due(at(9)), []);
        assert_eq!(ledger.due(at(10)), [key]);
        assert_eq!(ledger.due(at(10)), []);
    }
}
