//! The authority of a static mesh: every role key in one hand.
//!
//! It enrols agents, grants them scopes, sets policy and revokes, and turns all of it into signed
//! trust files. Agents then verify each other from those files alone; the authority need not run.
//! It can be [saved](Authority::save) to a mesh directory and [opened](Authority::open) again.

mod books;
mod enrolment;
mod error;
mod ledger;
mod press;
mod served;
mod standing;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::client::clock::Clock;
use crate::client::clock::SystemClock;
use crate::client::identity::Identity;
use crate::client::identity::TrustHandle;
use crate::client::random::random;
use crate::proto::approval::ApprovalClaims;
use crate::proto::approval::UnverifiedApproval;
use crate::proto::certificate::CertificateClaims;
use crate::proto::certificate::UnverifiedCertificate;
use crate::proto::chain::Chain;
use crate::proto::delegation::LinkDraft;
use crate::proto::identity::AgentId;
use crate::proto::identity::KeyBytes;
use crate::proto::identity::SigningKey;
use crate::proto::limits::APPROVAL_TTL_MAX_MS;
use crate::proto::limits::LIFETIME_MAX_MS;
use crate::proto::limits::ROOT_GRANT_TTL_MS;
use crate::proto::policy::Policy;
use crate::proto::rejection::Rejection;
use crate::proto::revocation::Revocation;
use crate::proto::revocation::RevocationSet;
use crate::proto::root::ROOT_LIFETIME_MAX_MS;
use crate::proto::root::Role;
use crate::proto::root::RootDraft;
use crate::proto::root::TrustRoot;
use crate::proto::scope::Scope;
use crate::proto::signing::MeshId;
use crate::proto::signing::ObjectId;
use crate::proto::time::ClockSkew;
use crate::proto::time::Timestamp;
use crate::proto::time::Validity;
use crate::proto::trust::Admission;
use crate::proto::trust::Edition;
use crate::proto::trust::FileDraft;
use crate::proto::trust::TrustFiles;
use crate::proto::trust::TrustState;
use crate::proto::verify;
use crate::proto::verify::Scene;

use self::ledger::Agents;
use self::ledger::Ledger;
use self::ledger::Terms;

pub use self::enrolment::JoinTerms;
pub use self::enrolment::Joining;
pub use self::enrolment::ROTATION_GRACE_MS;
pub use self::error::AuthorityError;
use self::served::Served;

/// The roles a static mesh has. Without the timestamp role, the files' own windows bound them.
const STATIC_ROLES: [Role; 6] = [
    Role::Root,
    Role::Issuer,
    Role::Registrar,
    Role::Revoker,
    Role::Policy,
    Role::Scores,
];

/// How far before its making a window begins, so that a peer whose clock is a little behind does
/// not find it in the future.
const BACKDATE_MS: u64 = 60_000;

/// How many delegations the grant of [`Authority::agent`] allows below it.
pub const DEPTH_DEFAULT: u8 = 3;

/// The policy of a development mesh: everything that was granted is permitted, without sessions.
const DEV_POLICY: &str = r#"{ "rules": [ { "name": "dev", "effect": "allow",
    "actions": ["pub", "sub", "req", "serve"], "subjects": ">" },
  { "name": "dev-inbox", "effect": "allow",
    "actions": ["pub", "sub", "req", "serve"], "subjects": "_INBOX.>" } ] }"#;

/// The keys and books of one mesh.
///
/// What it signs is backdated by a minute, for peers whose clock is a little behind. Every change
/// is published at once to the identities that it made in this process; for others it is
/// [saved](Self::save).
///
/// ```
/// use std::time::Duration;
///
/// use trustmesh::proto::identity::{AgentId, SigningKey};
/// use trustmesh::proto::policy::Policy;
/// use trustmesh::proto::scope::Scope;
/// use trustmesh::services::authority::Authority;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut mesh = Authority::new("acme")?; // denies everything, until told otherwise
/// mesh.set_policy(Policy::from_json(
///     r#"{ "rules": [ { "name": "tools", "effect": "allow", "actions": ["req", "serve", "sub"],
///                       "subjects": "tools.>" } ] }"#,
/// )?)?;
/// let planner = mesh.agent("planner", ["req:tools.>"])?;
///
/// // An agent that keeps its own key, granted less and for less.
/// let key = SigningKey::generate()?;
/// let id = AgentId::parse("tool")?;
/// let certificate = mesh.enrol(&id, &key)?;
/// let scope = Scope::parse(["sub+serve:tools.echo"])?;
/// let grant = mesh.grant(&key.public().bytes(), scope, 0, Duration::from_secs(3600))?;
///
/// mesh.revoke_link(grant.leaf().id())?;
/// let trust = planner.trust().current();
/// assert_eq!(trust.certificates_of(&id).len(), 1); // the link is revoked, not the agent
/// # let _ = certificate;
/// # Ok(())
/// # }
/// ```
pub struct Authority {
    keys: BTreeMap<Role, SigningKey>,
    root: Bytes,
    mesh: MeshId,
    root_id: ObjectId,
    dev: bool,
    agents: Agents,
    ledger: Ledger,
    policy: Policy,
    revocations: RevocationSet,
    scores: BTreeMap<AgentId, u16>,
    /// Whether scores are kept here, by a verifier service.
    scoring: bool,
    epoch: u64,
    /// The highest epoch that is on disk as far as this authority knows.
    saved: u64,
    /// The highest epoch of which these books have everything: opened, taken over or published.
    shared: u64,
    clock: Arc<dyn Clock>,
    published: Option<Arc<TrustHandle>>,
    /// Of a served mesh.
    served: Option<Served>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("mesh", &self.mesh)
            .field("dev", &self.dev)
            .field("agents", &self.agents.len())
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// A mesh for production: new keys for every role, a policy that denies everything. Its trust
    /// root holds for 400 days.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Key`] when no keys can be made, [`AuthorityError::Refused`] when the name
    /// is over 64 bytes or the clock cannot be trusted.
    pub fn new(name: &str) -> Result<Self, AuthorityError> {
        Self::create(name, false, false, Arc::new(SystemClock::new()))
    }

    /// A mesh for development, which trusts itself: its policy permits whatever was granted, and
    /// its root says what it is, so that agents outside development mode refuse it (protocol §9.3).
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn dev(name: &str) -> Result<Self, AuthorityError> {
        Self::dev_with_clock(name, Arc::new(SystemClock::new()))
    }

    /// [`dev`](Self::dev), by another clock.
    ///
    /// # Errors
    ///
    /// As [`dev`](Self::dev).
    pub fn dev_with_clock(name: &str, clock: Arc<dyn Clock>) -> Result<Self, AuthorityError> {
        tracing::warn!(
            mesh = name,
            "development mesh: all role keys lie in this process"
        );
        let mut authority = Self::create(name, true, false, clock)?;
        authority.policy = Policy::from_json(DEV_POLICY)?;
        Ok(authority)
    }

    /// [`new`](Self::new), by another clock.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_clock(name: &str, clock: Arc<dyn Clock>) -> Result<Self, AuthorityError> {
        Self::create(name, false, false, clock)
    }

    fn create(
        name: &str,
        dev: bool,
        served: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AuthorityError> {
        let mut keys = BTreeMap::new();
        let timestamp = served.then_some(Role::Timestamp);
        for role in STATIC_ROLES.into_iter().chain(timestamp) {
            keys.insert(role, SigningKey::generate()?);
        }
        let now = clock.now()?;
        let roles = keys
            .iter()
            .map(|(role, key)| (*role, (1, vec![key.public().bytes()])))
            .collect();
        let validity = window(now, ROOT_LIFETIME_MAX_MS)?;
        let draft = RootDraft {
            name: name.to_owned(),
            roles,
            validity,
            dev,
        };
        let root = draft.sign(&[(0, &keys[&Role::Root])])?;
        let parsed = TrustRoot::parse(&root)?;
        let served = match served {
            true => Some(Served::new(&root, admission(dev), parsed.id())?),
            false => None,
        };
        Ok(Self {
            served,
            keys,
            root,
            mesh: parsed.mesh(),
            root_id: parsed.id(),
            dev,
            agents: Agents::default(),
            ledger: Ledger::default(),
            policy: Policy::default(),
            revocations: RevocationSet::default(),
            scores: BTreeMap::new(),
            scoring: false,
            epoch: 0,
            saved: 0,
            shared: 0,
            clock,
            published: None,
        })
    }

    /// The mesh: the first 16 bytes of its root's id.
    pub fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// The id of the trust root: what agents pin.
    pub fn root_id(&self) -> ObjectId {
        self.root_id
    }

    /// The trust root, encoded: what agents check everything by.
    pub fn trust_root(&self) -> Bytes {
        self.root.clone()
    }

    /// Enrols an agent under a new key and grants it a scope for 24 hours less a minute, with up to
    /// [`DEPTH_DEFAULT`] delegations below. The identity sees every later change to the mesh as
    /// long as both live in one process.
    ///
    /// After an error the agent may be enrolled all the same, without a grant.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Taken`] or [`AuthorityError::AgentId`] for the id,
    /// [`AuthorityError::Scope`] for the scope, [`AuthorityError::Refused`] for what verification
    /// would refuse, such as a lifetime beyond policy's ceiling; [`AuthorityError::Key`].
    pub fn agent<S: AsRef<str>>(
        &mut self,
        id: &str,
        capabilities: impl IntoIterator<Item = S>,
    ) -> Result<Identity, AuthorityError> {
        let id = AgentId::parse(id)?;
        let scope = Scope::parse(capabilities)?;
        let key = Arc::new(SigningKey::generate()?);
        let certificate = self.enrol(&id, &key)?;
        let grant_ttl_ms = ROOT_GRANT_TTL_MS - BACKDATE_MS;
        let terms = Terms {
            scope: scope.clone(),
            depth: DEPTH_DEFAULT,
            grant_ttl_ms,
            sponsor: None,
        };
        let ttl = Duration::from_millis(grant_ttl_ms);
        let grant = self.grant(&key.public().bytes(), scope, DEPTH_DEFAULT, ttl);
        // An agent without a grant would only be in the way of a second try.
        let grant = grant.inspect_err(|_| drop(self.agents.remove(&id)))?;
        self.ledger.set_terms(&id, terms);
        let trust = self.publish()?;
        Ok(Identity::fresh(id, key, certificate, grant, trust))
    }

    /// Certifies a key for an agent, with a window of 30 days; the result is the encoded
    /// certificate. The key is used to prove that it is possessed, and not kept. Others see the
    /// agent once the state is [published](Self::publish) or [saved](Self::save).
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Taken`] when the id or the key is enrolled already,
    /// [`AuthorityError::Refused`] when the key or id is blocked or revoked.
    pub fn enrol(&mut self, id: &AgentId, key: &SigningKey) -> Result<Bytes, AuthorityError> {
        let public = key.public().bytes();
        let taken = self.agents.has(id)
            || self.agents.holder(&public).is_some()
            || self.ledger.has_key(&public);
        if taken {
            return Err(AuthorityError::Taken);
        }
        let now = self.clock.now()?;
        let claims = CertificateClaims {
            mesh: self.mesh,
            serial: random()?,
            agent: id.clone(),
            key: public,
            validity: window(now, LIFETIME_MAX_MS)?,
            previous: None,
            key_epoch: 0,
        };
        let bytes = UnverifiedCertificate::sign(&claims, (0, &self.keys[&Role::Registrar]), key)?;
        // The registrar refuses what verifiers would: weak keys, and lists that name the agent.
        let registrar = self.keys[&Role::Registrar].public();
        let certificate = UnverifiedCertificate::parse(&bytes)?.verify(self.mesh, &[registrar])?;
        let place = crate::proto::rejection::Place::Certificate;
        self.policy.check_lists(&certificate, place)?;
        self.revocations.check_agent(&certificate, now, place)?;
        self.agents.insert(id.clone(), (public, bytes.clone()));
        self.register(id, now);
        Ok(bytes)
    }

    /// Makes a root grant for an enrolled key: `ttl` from now, with up to `depth` delegations
    /// below, 8 at the most.
    ///
    /// The minute of backdating counts: with policy's default ceiling of 24 hours `ttl` is at most
    /// 23 hours and 59 minutes.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Unknown`] for a key that is not enrolled, [`AuthorityError::Refused`] for
    /// what verification would refuse.
    pub fn grant(
        &self,
        holder: &KeyBytes,
        scope: Scope,
        depth: u8,
        ttl: Duration,
    ) -> Result<Chain, AuthorityError> {
        if self.agents.holder(holder).is_none() {
            return Err(AuthorityError::Unknown);
        }
        Ok(self.issue(holder, scope, depth, ttl)?)
    }

    /// Makes a root grant for a key, enrolled or about to be.
    fn issue(
        &self,
        holder: &KeyBytes,
        scope: Scope,
        depth: u8,
        ttl: Duration,
    ) -> Result<Chain, Rejection> {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let draft = LinkDraft {
            holder: *holder,
            validity: window(self.clock.now()?, ttl.saturating_add(BACKDATE_MS))?,
            remaining: depth,
            scope,
            nonce: random()?,
        };
        let chain = Chain::root_grant(self.mesh, &draft, &self.keys[&Role::Issuer])?;
        self.policy.check_lifetimes(&chain)?;
        Ok(chain)
    }

    /// Approves a chain, for an hour less a minute and not beyond the chain's own end (protocol
    /// §10.8). The result is given to [`Client::approved`](crate::Client::approved) of the agent
    /// that acts under the chain.
    ///
    /// It counts as long as the policy's epoch is the one that is published now. This authority
    /// gives all files a new epoch with every change, so that every change asks for new approvals.
    ///
    /// ```
    /// use trustmesh::ConnectOptions;
    /// use trustmesh::bus::memory::MemoryBus;
    /// use trustmesh::proto::policy::Policy;
    /// use trustmesh::services::authority::Authority;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut mesh = Authority::dev("demo")?;
    /// mesh.set_policy(Policy::from_json(
    ///     r#"{ "rules": [ { "name": "pay", "effect": "allow", "actions": ["pub", "sub"],
    ///                       "subjects": "payments.>" } ],
    ///          "approval": [ { "subjects": "payments.>", "actions": ["pub"] } ] }"#,
    /// )?)?;
    /// let clerk = mesh.agent("clerk", ["pub:payments.>"])?;
    /// let chain = clerk.grant().clone();
    /// let clerk = ConnectOptions::new(clerk).connect_bus(MemoryBus::new().connect()).await?;
    /// assert!(clerk.publish("payments.new", "1".into()).await.is_err());
    ///
    /// clerk.approved(mesh.approve(&chain)?)?;
    /// clerk.publish("payments.new", "1".into()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Refused`] when a receiver would refuse the chain: links, signatures,
    /// standing, revocation, lifetimes; or when the clock cannot be trusted.
    pub fn approve(&self, chain: &Chain) -> Result<Bytes, AuthorityError> {
        let (now, trust) = (self.clock.now()?, self.state_now()?);
        let scene = Scene {
            now,
            trust: &trust,
            sessions: &(),
        };
        let chain = verify::verify_chain(chain.clone(), &scene, ClockSkew::default())?;
        let longest = window(now, APPROVAL_TTL_MAX_MS)?;
        let until = longest.until().min(chain.leaf().validity().until());
        let validity = Validity::new(longest.from(), until).ok_or(NO_TIME)?;
        let claims = ApprovalClaims {
            mesh: self.mesh,
            leaf: chain.leaf().id(),
            chain: chain.digest(),
            epochs: trust.epochs(),
            validity,
        };
        let registrar = (0, &self.keys[&Role::Registrar]);
        Ok(UnverifiedApproval::sign(&claims, registrar)?)
    }

    /// The state that is published or, where this process published none, the one on disk.
    fn state_now(&self) -> Result<Arc<TrustState>, AuthorityError> {
        match (&self.published, &self.served) {
            (Some(handle), _) => Ok(handle.current()),
            (None, Some(served)) => served.state().ok_or(AuthorityError::Unpublished),
            (None, None) => self.assemble(&self.files(self.epoch)?),
        }
    }

    /// Replaces the policy, and publishes.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Refused`] when the clock cannot be trusted; the old policy stays.
    pub fn set_policy(&mut self, policy: Policy) -> Result<(), AuthorityError> {
        let now = self.clock.now()?;
        let old = std::mem::replace(&mut self.policy, policy);
        self.reconfigure_scores(now);
        let published = self.publish().map(drop);
        if published.is_err() {
            self.policy = old;
            self.reconfigure_scores(now);
        }
        published
    }

    /// Revokes a link and everything below it, and publishes (protocol §11).
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Refused`] when the clock cannot be trusted. The link stays revoked here
    /// and is published with the next change.
    pub fn revoke_link(&mut self, link: ObjectId) -> Result<(), AuthorityError> {
        self.revocations.revoke_link(link);
        self.publish().map(drop)
    }

    /// Revokes a key, for good, and publishes (protocol §11).
    ///
    /// # Errors
    ///
    /// As [`revoke_link`](Self::revoke_link).
    pub fn revoke_key(&mut self, key: KeyBytes) -> Result<(), AuthorityError> {
        self.revocations.revoke_key(key);
        self.publish().map(drop)
    }

    /// Revokes an agent, whatever key it has, and publishes (protocol §11). It need not be
    /// enrolled.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::AgentId`] when the id is none; otherwise as
    /// [`revoke_link`](Self::revoke_link).
    pub fn revoke_agent(&mut self, id: &str) -> Result<(), AuthorityError> {
        let agent = AgentId::parse(id)?;
        self.revoke_all([Revocation::Agent(agent)])
    }

    /// Revokes several things at once, and publishes (protocol §11).
    ///
    /// # Errors
    ///
    /// As [`revoke_link`](Self::revoke_link).
    pub fn revoke_all(
        &mut self,
        revocations: impl IntoIterator<Item = Revocation>,
    ) -> Result<(), AuthorityError> {
        for revocation in revocations {
            self.deregister_revoked(&revocation);
            self.revocations.revoke(revocation);
        }
        self.publish().map(drop)
    }

    /// Sets an agent's trust score, 0 to 1,000, and publishes (protocol §10.4). It need not be
    /// enrolled. Where a verifier service keeps scores, it is the most that the agent's can be.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Score`] when the score is out of range, [`AuthorityError::AgentId`] when
    /// the id is none; otherwise as [`revoke_link`](Self::revoke_link).
    pub fn set_score(&mut self, id: &str, score: u16) -> Result<(), AuthorityError> {
        if score > 1000 {
            return Err(AuthorityError::Score);
        }
        let (agent, now) = (AgentId::parse(id)?, self.clock.now()?);
        self.cap_score(agent, score, now);
        self.publish().map(drop)
    }

    /// The trust files as of now, under the next epoch, each with a window of 30 days. The
    /// identities of this process do not see them: see [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Refused`] when the clock cannot be trusted.
    pub fn trust_files(&mut self) -> Result<TrustFiles, AuthorityError> {
        self.epoch += 1;
        self.files(self.epoch)
    }

    fn files(&self, epoch: u64) -> Result<TrustFiles, AuthorityError> {
        let validity = window(self.clock.now()?, LIFETIME_MAX_MS)?;
        let edition = Edition { epoch, validity };
        let current = self.agents.certificates();
        let certificates: Vec<Bytes> = current.chain(self.ledger.former()).cloned().collect();
        let sign =
            |draft: FileDraft<'_>, role| draft.sign(self.mesh, edition, &[(0, &self.keys[&role])]);
        Ok(TrustFiles {
            root: self.root.clone(),
            registry: sign(FileDraft::Registry(&certificates), Role::Registrar),
            policy: sign(FileDraft::Policy(&self.policy), Role::Policy),
            revocations: sign(FileDraft::Revocations(&self.revocations), Role::Revoker),
            scores: Some(sign(FileDraft::Scores(&self.scores), Role::Scores)),
        })
    }

    /// The trust state every identity of this authority shares, made current under the next epoch.
    /// Every change does it; it is also how files are renewed before their 30 days are over.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Refused`] when the clock cannot be trusted. The state that was current
    /// stays.
    pub fn publish(&mut self) -> Result<Arc<TrustHandle>, AuthorityError> {
        let state = if self.is_served() {
            self.print()?
        } else {
            let files = self.trust_files()?;
            self.assemble(&files)?
        };
        match &self.published {
            Some(handle) => handle.replace(state)?,
            None => self.published = Some(Arc::new(TrustHandle::new(state))),
        }
        self.published.clone().ok_or(AuthorityError::Unknown)
    }

    fn assemble(&self, files: &TrustFiles) -> Result<Arc<TrustState>, AuthorityError> {
        let state = TrustState::assemble(files, admission(self.dev), Some(self.root_id))?;
        Ok(Arc::new(state))
    }
}

const fn admission(dev: bool) -> Admission {
    match dev {
        true => Admission::DangerDevelopment,
        false => Admission::Production,
    }
}

const NO_TIME: Rejection = Rejection::Malformed {
    place: crate::proto::rejection::Place::TrustFile,
    reason: crate::proto::rejection::Malformed::Lifetime,
};

fn window(now: Timestamp, millis: u64) -> Result<Validity, Rejection> {
    let from = now.minus(BACKDATE_MS);
    Validity::new(from, from.plus(millis)).ok_or(NO_TIME)
}
