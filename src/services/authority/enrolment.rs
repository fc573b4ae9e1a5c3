//! Who may join, and what becomes of an agent's key: join tokens, certificates for keys that are
//! elsewhere, renewal, rotation, recovery.
//!
//! Races are settled by comparing: a certificate that follows another names it, and is made only
//! while that one is the agent's current one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Authority;
use super::AuthorityError;
use super::BACKDATE_MS;
use super::DEPTH_DEFAULT;
use super::ledger::Joined;
use super::ledger::Terms;
use super::window;
use crate::client::identity::Identity;
use crate::client::random::random;
use crate::proto::certificate::CertificateClaims;
use crate::proto::certificate::UnverifiedCertificate;
use crate::proto::chain::Chain;
use crate::proto::enrol::EnrolRefused;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::identity::PublicKey;
use crate::proto::identity::Signature;
use crate::proto::identity::SigningKey;
use crate::proto::join::JoinClaims;
use crate::proto::join::JoinStatement;
use crate::proto::join::JoinToken;
use crate::proto::join::UnverifiedJoin;
use crate::proto::join::is_reserved;
use crate::proto::limits::LIFETIME_MAX_MS;
use crate::proto::limits::ROOT_GRANT_TTL_MS;
use crate::proto::limits::SERVED_CERTIFICATE_MAX_MS;
use crate::proto::limits::SERVED_CERTIFICATE_MS;
use crate::proto::names::VERIFIER_ID;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::root::Role;
use crate::proto::scope::Scope;
use crate::proto::signing::ObjectId;
use crate::proto::time::Timestamp;

/// How long a rotated-away key still works by default, in milliseconds: long enough that every
/// delegator hears of the new one, far shorter than the certificate it had.
pub const ROTATION_GRACE_MS: u64 = 10 * 60_000;

/// How long a join token is good for by default, in milliseconds: one hour.
const JOIN_TTL_MS: u64 = 3_600_000;

/// What a join token gives.
#[derive(Clone, Debug)]
pub struct JoinTerms {
    /// The agent it is for; `None` lets it choose a free id.
    pub agent: Option<AgentId>,
    /// Who asked for it, for the books.
    pub sponsor: Option<AgentId>,
    /// What the agent is granted; empty for a certificate without authority.
    pub scope: Scope,
    /// How many delegations may follow, 0 to 8.
    pub depth: u8,
    /// How long each grant lasts.
    pub grant_ttl: Duration,
    /// How long the token is good for, 30 days at the most.
    pub ttl: Duration,
}

impl JoinTerms {
    /// A token for whoever gets it first: an hour long, for this scope, with grants of 24 hours
    /// less a minute and up to [`DEPTH_DEFAULT`] delegations below.
    pub fn new(scope: Scope) -> Self {
        Self {
            agent: None,
            sponsor: None,
            scope,
            depth: DEPTH_DEFAULT,
            grant_ttl: Duration::from_millis(ROOT_GRANT_TTL_MS - BACKDATE_MS),
            ttl: Duration::from_millis(JOIN_TTL_MS),
        }
    }

    /// The same for one agent alone.
    #[must_use]
    pub fn agent(mut self, agent: AgentId) -> Self {
        self.agent = Some(agent);
        self
    }
}

/// What an enrolment yields.
#[derive(Clone, Debug)]
pub struct Joining {
    /// The certificate, encoded.
    pub certificate: Bytes,
    /// The root grant, unless there is no authority to grant.
    pub grant: Option<Chain>,
}

impl Authority {
    /// Makes a join token (protocol §22.2). It is used up by the enrolment it admits.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Enrolment`] with [`EnrolRefused::Reserved`] for an id of the service;
    /// [`AuthorityError::Refused`] for a lifetime, depth or scope out of range;
    /// [`AuthorityError::Key`].
    pub fn join_token(&self, terms: &JoinTerms) -> Result<JoinToken, AuthorityError> {
        if terms.agent.as_ref().is_some_and(is_reserved) {
            return Err(EnrolRefused::Reserved.into());
        }
        let key = Arc::new(SigningKey::generate()?);
        let ttl = millis(terms.ttl).min(LIFETIME_MAX_MS);
        let claims = JoinClaims {
            mesh: self.mesh,
            root: self.root_id,
            key: key.public().bytes(),
            agent: terms.agent.clone(),
            sponsor: terms.sponsor.clone(),
            scope: terms.scope.clone(),
            depth: terms.depth,
            grant_ttl_ms: millis(terms.grant_ttl),
            until: self.clock.now()?.plus(ttl),
            nonce: random()?,
        };
        Ok(JoinToken::sign(&claims, self.registrar(), key)?)
    }

    /// Reads a statement and checks that this authority's registrar made it. Nothing is said about
    /// what else may be wrong with it.
    ///
    /// # Errors
    ///
    /// [`EnrolRefused::Refused`].
    pub fn check_statement(&self, statement: &Bytes) -> Result<JoinStatement, EnrolRefused> {
        let registrars = [self.keys[&Role::Registrar].public()];
        UnverifiedJoin::parse(statement)
            .and_then(|statement| statement.verify(self.mesh, &registrars))
            .map_err(|_| EnrolRefused::Refused)
    }

    /// What a join token would make of a key: the claims of a certificate that lasts `lifetime`, or
    /// those of the certificate that was already given for this token, key and id, when an answer
    /// was lost.
    ///
    /// # Errors
    ///
    /// [`EnrolRefused`]: the token's faults first, then those of id and key.
    pub fn join_offer(
        &self,
        statement: &JoinStatement,
        agent: &AgentId,
        key: &KeyBytes,
        lifetime: Duration,
    ) -> Result<CertificateClaims, EnrolRefused> {
        let claims = statement.claims();
        let now = self.now()?;
        let joined = self.ledger.joined(&statement.id());
        let revoked = self.revocations.has_key(&statement.registrar())
            || claims
                .sponsor
                .as_ref()
                .is_some_and(|sponsor| self.revocations.has_agent(sponsor));
        if revoked {
            return Err(EnrolRefused::TokenRevoked);
        }
        if now >= claims.until {
            return Err(EnrolRefused::TokenExpired);
        }
        if claims.agent.as_ref().is_some_and(|named| named != agent) {
            return Err(EnrolRefused::OtherAgent);
        }
        if let Some(joined) = joined {
            let current = self
                .current(&joined.agent)
                .filter(|current| current.id() == joined.certificate)
                .map(|current| current.claims().clone());
            return current
                .filter(|current| current.agent == *agent && current.key == *key)
                .ok_or(EnrolRefused::TokenUsed);
        }
        if is_reserved(agent) {
            return Err(EnrolRefused::Reserved);
        }
        let mut new = self.claims_for(agent, key, lifetime)?;
        if let Some(current) = self.current(agent) {
            // A known id joins again only by the operator's word.
            if !self.ledger.is_recovering(agent, &statement.id()) {
                return Err(EnrolRefused::IdTaken);
            }
            new.previous = Some(current.id());
            new.key_epoch = current.claims().key_epoch.saturating_add(1);
        }
        self.check_new_key(&new)?;
        Ok(new)
    }

    /// Enrols the key of an offer, once both proofs verify: the token is used up.
    ///
    /// # Errors
    ///
    /// [`EnrolRefused`], as [`join_offer`](Self::join_offer), and for a proof that does not verify:
    /// nothing was changed. [`EnrolRefused::NoGrant`] when the token's grant would be refused by
    /// policy.
    pub fn join(
        &mut self,
        statement: &JoinStatement,
        claims: &CertificateClaims,
        (possession, token): (&Signature, &Signature),
    ) -> Result<Joining, EnrolRefused> {
        let lifetime = Duration::from_millis(claims.validity.millis());
        let due = self.join_offer(statement, &claims.agent, &claims.key, lifetime)?;
        let id = claims.id();
        statement
            .check_proof(&id, token)
            .map_err(|_| EnrolRefused::TokenProof)?;
        if let Some(joined) = self.ledger.joined(&statement.id()).cloned() {
            return self.repeat(&joined, claims, possession);
        }
        if (due.previous, due.key_epoch) != (claims.previous, claims.key_epoch) {
            return Err(EnrolRefused::NotCurrent);
        }
        let certificate = self.sign(claims, possession)?;
        let terms = Terms {
            scope: statement.claims().scope.clone(),
            depth: statement.claims().depth,
            grant_ttl_ms: statement.claims().grant_ttl_ms,
            sponsor: statement.claims().sponsor.clone(),
        };
        let grant = self.grant_by(&terms, &claims.key)?;
        let now = self.now()?;
        self.install(claims, certificate.clone());
        self.ledger.set_terms(&claims.agent, terms);
        self.register(&claims.agent, now);
        self.ledger.use_token(
            statement.id(),
            Joined {
                until: statement.claims().until,
                agent: claims.agent.clone(),
                certificate: id,
                grant: grant.as_ref().map(|grant| grant.bytes().clone()),
            },
        );
        Ok(Joining { certificate, grant })
    }

    /// The same answer again, to the same key.
    fn repeat(
        &self,
        joined: &Joined,
        claims: &CertificateClaims,
        possession: &Signature,
    ) -> Result<Joining, EnrolRefused> {
        if claims.id() != joined.certificate {
            return Err(EnrolRefused::TokenUsed);
        }
        // The registrar's signatures are deterministic: these are the bytes given before.
        let certificate = self.sign(claims, possession)?;
        let grant = joined.grant.clone().map(Chain::parse).transpose();
        let grant = grant.map_err(|_| EnrolRefused::NoGrant)?;
        Ok(Joining { certificate, grant })
    }

    /// The claims of a certificate for `key` that continues the agent's one with the id `current`:
    /// a renewal when that is for the same key, a rotation otherwise. What was certified already,
    /// and whose answer was lost, is offered again as it was.
    ///
    /// # Errors
    ///
    /// [`EnrolRefused::NotCurrent`] when that certificate is not its agent's current one, and the
    /// faults of id and key.
    pub fn next_offer(
        &self,
        agent: &AgentId,
        current: &ObjectId,
        key: &KeyBytes,
        lifetime: Duration,
    ) -> Result<CertificateClaims, EnrolRefused> {
        let held = self.current(agent).ok_or(EnrolRefused::NotCurrent)?;
        let old = held.claims();
        if held.id() != *current {
            let again = old.previous == Some(*current) && *key == old.key;
            return again.then(|| old.clone()).ok_or(EnrolRefused::NotCurrent);
        }
        let mut new = self.claims_for(agent, key, lifetime)?;
        new.previous = Some(*current);
        new.key_epoch = old.key_epoch;
        if *key != old.key {
            new.key_epoch = old.key_epoch.saturating_add(1);
            self.check_new_key(&new)?;
        }
        Ok(new)
    }

    /// Certifies what [`next_offer`](Self::next_offer) offered, once the certified key's proof
    /// verifies. After a rotation the old key works for `grace` more, then it is revoked.
    ///
    /// # Errors
    ///
    /// [`EnrolRefused`], as [`next_offer`](Self::next_offer): nothing was changed.
    pub fn follow(
        &mut self,
        claims: &CertificateClaims,
        possession: &Signature,
        grace: Duration,
    ) -> Result<Joining, EnrolRefused> {
        let previous = claims.previous.ok_or(EnrolRefused::NotCurrent)?;
        let lifetime = Duration::from_millis(claims.validity.millis());
        let due = self.next_offer(&claims.agent, &previous, &claims.key, lifetime)?;
        if due.key_epoch != claims.key_epoch {
            return Err(EnrolRefused::NotCurrent);
        }
        let certificate = self.sign(claims, possession)?;
        let held = self.agents.get(&claims.agent).map(|(key, _)| *key);
        let rotated_before = self
            .current(&claims.agent)
            .is_some_and(|held| held.id() == claims.id());
        let rotates = held != Some(claims.key);
        let terms = self.ledger.terms(&claims.agent);
        let grant = match terms.filter(|_| rotates || rotated_before) {
            Some(terms) => self.grant_by(terms, &claims.key)?,
            None => None,
        };
        if let Some(old) = held.filter(|_| rotates) {
            let at = self.now()?.plus(millis(grace));
            self.retire_key(old, at);
        }
        self.install(claims, certificate.clone());
        Ok(Joining { certificate, grant })
    }

    /// Makes a root grant like one that its holder has and that still holds: the same scope and
    /// depth, for the same time again, as far as the agent's terms allow. Nothing is extended
    /// beyond them.
    ///
    /// # Errors
    ///
    /// [`EnrolRefused::NoGrant`] when the chain is no root grant for this key that holds now, or
    /// goes beyond the terms; [`EnrolRefused::Revoked`].
    pub fn regrant(&self, holder: &KeyBytes, grant: &Bytes) -> Result<Chain, EnrolRefused> {
        let no = |_| EnrolRefused::NoGrant;
        let now = self.now()?;
        let agent = self.agents.holder(holder).ok_or(EnrolRefused::NoGrant)?;
        let root = self.current_root().map_err(no)?;
        let skew = crate::proto::time::ClockSkew::default();
        let chain =
            crate::proto::enrol::check_grant(grant, &root, holder, now, skew).map_err(no)?;
        let link = chain.leaf();
        let terms = self.ledger.terms(agent).ok_or(EnrolRefused::NoGrant)?;
        if self.revocations.has_link(&link.id()) || self.revocations.has_key(&chain.issuer()) {
            return Err(EnrolRefused::Revoked);
        }
        let within = terms.scope.allows(link.scope())
            && link.remaining() <= terms.depth
            && link.validity().millis() <= terms.grant_ttl_ms.saturating_add(BACKDATE_MS);
        if chain.depth() != 0 || !within {
            return Err(EnrolRefused::NoGrant);
        }
        let ttl = link.validity().millis().saturating_sub(BACKDATE_MS).max(1);
        let ttl = Duration::from_millis(ttl);
        self.grant(holder, link.scope().clone(), link.remaining(), ttl)
            .map_err(|_| EnrolRefused::NoGrant)
    }

    /// Lets an agent whose key is lost join again: its old keys are revoked at once, and the token
    /// admits a new key under the id that `terms` must name. Publish afterwards.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Unknown`] when the terms name no enrolled agent; as
    /// [`join_token`](Self::join_token).
    pub fn recover(&mut self, terms: &JoinTerms) -> Result<JoinToken, AuthorityError> {
        let agent = terms.agent.clone().ok_or(AuthorityError::Unknown)?;
        let (key, _) = self.agents.get(&agent).ok_or(AuthorityError::Unknown)?;
        let mut keys = self.ledger.former_keys(&agent);
        keys.push(*key);
        let token = self.join_token(terms)?;
        for key in keys {
            self.revocations.revoke_key(key);
        }
        self.ledger.recover(agent, token.id());
        Ok(token)
    }

    /// Lets a key work until `at`, and counts it as revoked from then on. An earlier instant wins.
    /// Others learn it with the next publication (protocol §11.3).
    pub fn retire_key(&mut self, key: KeyBytes, at: Timestamp) {
        self.ledger.retire(key, at);
        // Signed ahead of time, so that it holds whether or not this authority runs by then.
        self.revocations.retire_key(key, at);
    }

    /// Keys on their way out, each with the instant from which it counts as revoked.
    pub fn retiring_keys(&self) -> impl Iterator<Item = (&KeyBytes, &Timestamp)> {
        self.ledger.retiring()
    }

    /// The identity of the verifier service under this key: enrolled when it was not, with a new
    /// certificate of 12 hours when it was. It has a grant of nothing.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Taken`] when the service is enrolled under another key,
    /// [`AuthorityError::Enrolment`] when the key cannot be, [`AuthorityError::Refused`].
    pub fn verifier(&mut self, key: Arc<SigningKey>) -> Result<Identity, AuthorityError> {
        let id = AgentId::parse(VERIFIER_ID)?;
        let (certificate, grant) = self.certify_verifier(&id, &key)?;
        let trust = self.publish()?;
        Ok(Identity::fresh(id, key, certificate, grant, trust))
    }

    /// A certificate and a grant of nothing for the service itself. Publish afterwards.
    pub(crate) fn certify_verifier(
        &mut self,
        id: &AgentId,
        key: &SigningKey,
    ) -> Result<(Bytes, Chain), AuthorityError> {
        let lifetime = Duration::from_millis(SERVED_CERTIFICATE_MS);
        let public = key.public().bytes();
        let claims = match self.current(id) {
            Some(current) if current.claims().key != public => return Err(AuthorityError::Taken),
            Some(current) => self.next_offer(id, &current.id(), &public, lifetime)?,
            None => {
                let claims = self.claims_for(id, &public, lifetime)?;
                self.check_new_key(&claims)?;
                claims
            }
        };
        let certificate = self.sign(&claims, &claims.prove_possession(key)?)?;
        let ttl = Duration::from_millis(SERVED_CERTIFICATE_MS);
        let grant = self.issue(&public, Scope::default(), 0, ttl)?;
        self.install(&claims, certificate.clone());
        Ok((certificate, grant))
    }

    /// Does what has become due: keys whose time is over are revoked, and what the books need no
    /// longer is forgotten. Says whether anything changed that must be published.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Refused`] when the clock cannot be trusted.
    pub fn tick(&mut self) -> Result<bool, AuthorityError> {
        let now = self.clock.now()?;
        let due = self.ledger.due(now);
        for key in &due {
            self.revocations.revoke_key(*key);
        }
        self.ledger.forget(now);
        Ok(!due.is_empty())
    }

    /// The agent's current certificate.
    pub(crate) fn current(&self, agent: &AgentId) -> Option<UnverifiedCertificate> {
        let (_, bytes) = self.agents.get(agent)?;
        // The books hold what was checked when it was made.
        UnverifiedCertificate::parse(bytes).ok()
    }

    /// Whether a key was revoked, or its time is over.
    pub(crate) fn is_revoked(&self, agent: &AgentId, key: &KeyBytes, now: Timestamp) -> bool {
        self.revocations.has_key(key)
            || self.revocations.has_agent(agent)
            || self.ledger.is_retired(key, now)
    }

    pub(crate) fn has_revoked_link(&self, link: &ObjectId) -> bool {
        self.revocations.has_link(link)
    }

    /// Revokes a link, to be published by the caller. Says whether it was not revoked before.
    pub(crate) fn note_revoked_link(&mut self, link: ObjectId) -> bool {
        let new = !self.revocations.has_link(&link);
        self.revocations.revoke_link(link);
        new
    }

    /// Revokes a key, to be published by the caller. Says whether it was not revoked before.
    pub(crate) fn note_revoked_key(&mut self, key: KeyBytes) -> bool {
        let new = !self.revocations.has_key(&key);
        self.revocations.revoke_key(key);
        new
    }

    /// The epoch of the last publication.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn registrar(&self) -> (u8, &SigningKey) {
        (0, &self.keys[&Role::Registrar])
    }

    fn now(&self) -> Result<Timestamp, EnrolRefused> {
        self.clock.now().map_err(|_| EnrolRefused::Unavailable)
    }

    fn claims_for(
        &self,
        agent: &AgentId,
        key: &KeyBytes,
        lifetime: Duration,
    ) -> Result<CertificateClaims, EnrolRefused> {
        let millis = millis(lifetime).min(SERVED_CERTIFICATE_MAX_MS);
        let claims = CertificateClaims {
            mesh: self.mesh,
            serial: random().map_err(|_| EnrolRefused::Unavailable)?,
            agent: agent.clone(),
            key: *key,
            validity: window(self.now()?, millis).map_err(|_| EnrolRefused::Malformed)?,
            previous: None,
            key_epoch: 0,
        };
        if self.is_revoked(agent, key, self.now()?) {
            return Err(EnrolRefused::Revoked);
        }
        Ok(claims)
    }

    /// Checks a key that was never certified here.
    fn check_new_key(&self, claims: &CertificateClaims) -> Result<(), EnrolRefused> {
        let acceptable = PublicKey::import(&claims.key).is_ok_and(|key| key.is_torsion_free());
        if !acceptable {
            return Err(EnrolRefused::WeakKey);
        }
        // Of every role, those whose private keys are kept elsewhere included.
        let root = self.current_root().map_err(|_| EnrolRefused::Unavailable)?;
        let mut roles = Role::ALL.iter().flat_map(|role| root.keys(*role));
        if roles.any(|key| key.bytes() == claims.key) {
            return Err(EnrolRefused::RoleKey);
        }
        if self.agents.holder(&claims.key).is_some() || self.ledger.has_key(&claims.key) {
            return Err(EnrolRefused::KeyTaken);
        }
        if self.policy.blocks(&claims.agent, &claims.key) {
            return Err(EnrolRefused::Blocked);
        }
        Ok(())
    }

    /// Signs a certificate and checks it as receivers do.
    fn sign(
        &self,
        claims: &CertificateClaims,
        possession: &Signature,
    ) -> Result<Bytes, EnrolRefused> {
        let window = claims.validity;
        let sound = claims.mesh == self.mesh
            && window.millis() <= SERVED_CERTIFICATE_MAX_MS
            && window.from() <= self.now()?;
        if !sound {
            return Err(EnrolRefused::Offer);
        }
        let refused = |rejection: Rejection| match rejection {
            Rejection::WeakKey { .. } => EnrolRefused::WeakKey,
            Rejection::Blocked { .. } => EnrolRefused::Blocked,
            Rejection::Revoked { .. } => EnrolRefused::Revoked,
            _ => EnrolRefused::Possession,
        };
        let bytes = claims
            .certify(self.registrar(), possession)
            .map_err(refused)?;
        let registrars = [self.keys[&Role::Registrar].public()];
        let certificate = UnverifiedCertificate::parse(&bytes)
            .and_then(|certificate| certificate.verify(self.mesh, &registrars))
            .map_err(refused)?;
        let (place, now) = (Place::Certificate, self.now()?);
        self.policy
            .check_lists(&certificate, place)
            .and_then(|()| self.revocations.check_agent(&certificate, now, place))
            .map_err(refused)?;
        Ok(bytes)
    }

    /// Makes a certificate its agent's current one. One for another key stays beside it.
    fn install(&mut self, claims: &CertificateClaims, certificate: Bytes) {
        let entry = (claims.key, certificate);
        if let Some((key, old)) = self.agents.insert(claims.agent.clone(), entry)
            && key != claims.key
        {
            self.ledger.keep_former(claims.agent.clone(), key, old);
        }
    }

    fn grant_by(&self, terms: &Terms, key: &KeyBytes) -> Result<Option<Chain>, EnrolRefused> {
        if terms.scope.capabilities().is_empty() {
            return Ok(None);
        }
        let ttl = Duration::from_millis(terms.grant_ttl_ms);
        self.issue(key, terms.scope.clone(), terms.depth, ttl)
            .map(Some)
            .map_err(|_| EnrolRefused::NoGrant)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "enrolment_tests.rs"]
mod tests;
