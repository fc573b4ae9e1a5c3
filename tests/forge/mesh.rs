//! A mesh from fixed seeds: the same keys, ids and files in every run.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ed25519_dalek::Signer as _;
use sha2::Digest as _;

use trustmesh::proto::certificate::CertificateClaims;
use trustmesh::proto::certificate::UnverifiedCertificate;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::chain::Credential;
use trustmesh::proto::delegation::LinkDraft;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::identity::SigningKey;
use trustmesh::proto::names::Tag;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::revocation::RevocationSet;
use trustmesh::proto::root::Role;
use trustmesh::proto::root::RootDraft;
use trustmesh::proto::root::TrustRoot;
use trustmesh::proto::scope::Scope;
use trustmesh::proto::signing::Budget;
use trustmesh::proto::signing::MeshId;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::time::Validity;
use trustmesh::proto::trust::Admission;
use trustmesh::proto::trust::Edition;
use trustmesh::proto::trust::FileDraft;
use trustmesh::proto::trust::TrustFiles;
use trustmesh::proto::trust::TrustState;

use super::HOUR;
use super::NOW;
use super::unique;

/// Somebody with a key: an agent, a role of the mesh, or a stranger.
#[derive(Clone, Debug)]
pub struct Party {
    pub name: String,
    pub seed: [u8; 32],
    pub key: Arc<SigningKey>,
}

impl Party {
    /// The party of this name; its seed is the name's digest.
    pub fn named(name: &str) -> Self {
        let seed: [u8; 32] = sha2::Sha256::digest(name.as_bytes()).into();
        Self {
            name: name.to_owned(),
            seed,
            key: Arc::new(SigningKey::from_seed(&seed).unwrap()),
        }
    }

    pub fn bytes(&self) -> KeyBytes {
        self.key.public().bytes()
    }

    pub fn id(&self) -> AgentId {
        AgentId::parse(&self.name).unwrap()
    }

    /// Signs exactly `message`.
    pub fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        ed25519_dalek::SigningKey::from_bytes(&self.seed)
            .sign(message)
            .to_bytes()
    }

    /// Signs `tag || body`.
    pub fn sign(&self, tag: Tag, body: &[u8]) -> [u8; 64] {
        self.sign_raw(&[&tag.bytes()[..], body].concat())
    }
}

/// `[from, until)` in milliseconds.
pub fn window(from: u64, until: u64) -> Validity {
    let (from, until) = (Timestamp::from_millis(from), Timestamp::from_millis(until));
    Validity::new(from, until).unwrap()
}

/// The policy that permits whatever was granted.
pub const OPEN_POLICY: &str = r#"{ "rules": [
    { "name": "all", "effect": "allow", "actions": ["pub", "sub", "req", "serve"],
      "subjects": ">" },
    { "name": "inbox", "effect": "allow", "actions": ["pub", "sub"], "subjects": "_INBOX.>" } ] }"#;

/// A mesh whose keys are all in hand.
#[derive(Clone, Debug)]
pub struct Mesh {
    pub name: String,
    pub members: Vec<(Party, Validity)>,
    pub policy: Policy,
    pub revoked: RevocationSet,
    pub scores: Option<BTreeMap<AgentId, u16>>,
    /// Of registry, policy, revocations and scores.
    pub epochs: [u64; 4],
    /// Of registry, policy, revocations and scores.
    pub windows: [Validity; 4],
    pub root_window: Validity,
    pub dev: bool,
    /// Whether its root has a timestamp role.
    pub served: bool,
}

impl Mesh {
    /// A mesh with these agents, certified from an hour ago to in an hour.
    pub fn with(members: &[&str]) -> Self {
        let member = |name: &&str| (Party::named(name), window(NOW - HOUR, NOW + HOUR));
        Self {
            name: "forge".into(),
            members: members.iter().map(member).collect(),
            policy: Policy::from_json(OPEN_POLICY).unwrap(),
            revoked: RevocationSet::default(),
            scores: None,
            epochs: [1; 4],
            windows: [window(NOW - HOUR, NOW + HOUR); 4],
            root_window: window(NOW - HOUR, NOW + 24 * HOUR),
            dev: false,
            served: false,
        }
    }

    /// The mesh most tests play in.
    pub fn new() -> Self {
        Self::with(&[
            "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy",
        ])
    }

    pub fn policy(mut self, json: &str) -> Self {
        self.policy = Policy::from_json(json).unwrap();
        self
    }

    /// The holder of a role key.
    pub fn role(&self, role: Role) -> Party {
        Party::named(&format!("{}/{}", self.name, role.name()))
    }

    pub fn issuer(&self) -> Party {
        self.role(Role::Issuer)
    }

    pub fn root(&self) -> Bytes {
        let roles = Role::ALL
            .into_iter()
            .filter(|role| self.served || *role != Role::Timestamp)
            .map(|role| (role, (1, vec![self.role(role).bytes()])))
            .collect();
        let draft = RootDraft {
            name: self.name.clone(),
            roles,
            validity: self.root_window,
            dev: self.dev,
        };
        draft.sign(&[(0, &self.role(Role::Root).key)]).unwrap()
    }

    pub fn id(&self) -> MeshId {
        TrustRoot::parse(&self.root()).unwrap().mesh()
    }

    pub fn certificate_claims(&self, party: &Party, validity: Validity) -> CertificateClaims {
        let mut serial = [0; 16];
        serial.copy_from_slice(&party.seed[..16]);
        CertificateClaims {
            mesh: self.id(),
            serial,
            agent: party.id(),
            key: party.bytes(),
            validity,
            previous: None,
            key_epoch: 0,
        }
    }

    pub fn certificate(&self, party: &Party, validity: Validity) -> Bytes {
        let claims = self.certificate_claims(party, validity);
        let registrar = self.role(Role::Registrar);
        UnverifiedCertificate::sign(&claims, (0, &registrar.key), &party.key).unwrap()
    }

    pub fn files(&self) -> TrustFiles {
        let certificates: Vec<Bytes> = self
            .members
            .iter()
            .map(|(party, validity)| self.certificate(party, *validity))
            .collect();
        let sign = |draft: FileDraft<'_>, role: Role, index: usize| {
            let edition = Edition {
                epoch: self.epochs[index],
                validity: self.windows[index],
            };
            draft.sign(self.id(), edition, &[(0, &self.role(role).key)])
        };
        TrustFiles {
            root: self.root(),
            registry: sign(FileDraft::Registry(&certificates), Role::Registrar, 0),
            policy: sign(FileDraft::Policy(&self.policy), Role::Policy, 1),
            revocations: sign(FileDraft::Revocations(&self.revoked), Role::Revoker, 2),
            scores: self
                .scores
                .as_ref()
                .map(|scores| sign(FileDraft::Scores(scores), Role::Scores, 3)),
        }
    }

    pub fn trust(&self) -> Arc<TrustState> {
        let files = self.files();
        let state = TrustState::assemble(&files, Admission::DangerDevelopment, None);
        Arc::new(state.unwrap())
    }

    /// What a link with these capabilities says by default: from half an hour ago to in half an
    /// hour.
    pub fn draft(holder: &Party, remaining: u8, capabilities: &[&str]) -> LinkDraft {
        LinkDraft {
            holder: holder.bytes(),
            validity: window(NOW - HOUR / 2, NOW + HOUR / 2),
            remaining,
            scope: Scope::parse(capabilities).unwrap(),
            nonce: unique(),
        }
    }

    /// A root grant in use.
    pub fn grant(&self, holder: &Party, remaining: u8, capabilities: &[&str]) -> Credential {
        let draft = Self::draft(holder, remaining, capabilities);
        let chain = Chain::root_grant(self.id(), &draft, &self.issuer().key).unwrap();
        self.hold(chain, holder)
    }

    /// A chain in use by its last holder.
    pub fn hold(&self, chain: Chain, holder: &Party) -> Credential {
        let trust = self.trust();
        let chain = chain.verify(&*trust, &mut Budget::message()).unwrap();
        chain.hold(holder.key.clone()).unwrap()
    }

    /// A credential of `holders.len() - 1` delegations, all of the same capabilities.
    pub fn line(&self, holders: &[&Party], capabilities: &[&str]) -> Credential {
        let mut left = 8;
        let mut credential = self.grant(holders[0], left, capabilities);
        for holder in &holders[1..] {
            left -= 1;
            let draft = Self::draft(holder, left, capabilities);
            credential = self.hold(credential.delegate(&draft).unwrap(), holder);
        }
        credential
    }

    /// The object id of the certificate of a member.
    pub fn certificate_id(&self, party: &Party) -> ObjectId {
        let trust = self.trust();
        trust.certificate(&party.bytes()).unwrap().id()
    }
}
