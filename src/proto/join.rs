//! Join tokens: the registrar's word that whoever holds a secret may join the mesh once (protocol
//! §22.2).
//!
//! ```text
//! body       [v, mesh bin16, root bin32, token key bin32, agent nil|id, sponsor nil|id,
//!             scope, depth, grant ttl, exp, nonce bin16, ext]
//! statement  [body bin, registrar u8, signature bin64]
//! text       "tmj1" base64url( [statement bin, seed bin32] ‖ check 4 bytes )
//! ```
//!
//! The statement is public, the seed of the token key is the secret. Only signatures made with it
//! travel, so that whoever listens to an enrolment learns nothing that admits him.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::identity::AgentId;
use super::identity::KEY_LEN;
use super::identity::KeyBytes;
use super::identity::KeyGeneration;
use super::identity::PublicKey;
use super::identity::Signature;
use super::identity::SigningKey;
use super::limits::JOIN_STATEMENT_MAX;
use super::limits::JOIN_TOKEN_MAX;
use super::limits::LIFETIME_MAX_MS;
use super::limits::REMAINING_MAX;
use super::names::JOIN_TOKEN;
use super::names::OBJECT_VERSION;
use super::names::Tag;
use super::names::VERIFIER_ID;
use super::rejection::DepthExceeded;
use super::rejection::Malformed;
use super::rejection::Place;
use super::rejection::Rejection;
use super::rejection::UntrustedRoot;
use super::revocation::read_agent;
use super::scope::Scope;
use super::signing;
use super::signing::Authentic;
use super::signing::MeshId;
use super::signing::ObjectId;
use super::time::Timestamp;
use super::wire;
use super::wire::Reader;
use super::wire::bin;

const PLACE: Place = Place::Token;

/// Whether an id belongs to the verifier service: `verifier` and everything below it. No token
/// gives it away.
///
/// ```
/// use trustmesh::proto::identity::AgentId;
/// use trustmesh::proto::join::is_reserved;
///
/// assert!(is_reserved(&AgentId::parse("verifier/2")?));
/// assert!(!is_reserved(&AgentId::parse("verifiers")?));
/// # Ok::<(), trustmesh::proto::identity::InvalidAgentId>(())
/// ```
pub fn is_reserved(agent: &AgentId) -> bool {
    agent
        .as_str()
        .strip_prefix(VERIFIER_ID)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a join token says (protocol §22.2). By itself it proves nothing: see [`JoinStatement`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JoinClaims {
    /// The mesh.
    pub mesh: MeshId,
    /// The trust root that the new agent pins.
    pub root: ObjectId,
    /// The public half of the token's key.
    pub key: KeyBytes,
    /// The agent it is for; `None` lets the new agent choose an id that is free.
    pub agent: Option<AgentId>,
    /// Who asked for it, for the books.
    pub sponsor: Option<AgentId>,
    /// What the agent is granted, and the most it ever is by renewal; empty for a certificate
    /// without authority.
    pub scope: Scope,
    /// How many delegations may follow its grants, 0 to [`REMAINING_MAX`].
    pub depth: u8,
    /// How long each of its grants lasts, in milliseconds.
    pub grant_ttl_ms: u64,
    /// The first instant at which the token is worth nothing.
    pub until: Timestamp,
    /// 16 random bytes, so that two tokens of the same content have two ids.
    pub nonce: [u8; 16],
}

impl JoinClaims {
    fn body(&self) -> Vec<u8> {
        let ext: [(); 0] = [];
        wire::encode(&(
            OBJECT_VERSION,
            bin(&self.mesh.0),
            bin(&self.root.0),
            bin(&self.key.0),
            self.agent.as_ref().map(AgentId::as_str),
            self.sponsor.as_ref().map(AgentId::as_str),
            &self.scope,
            self.depth,
            self.grant_ttl_ms,
            self.until.as_millis(),
            bin(&self.nonce),
            &ext[..],
        ))
    }

    fn parse(body: &Bytes) -> Result<Self, Rejection> {
        let mut r = Reader::new(body, PLACE);
        r.array_of(12)?;
        let found = r.uint()?;
        if found != OBJECT_VERSION {
            return Err(Rejection::UnsupportedVersion {
                place: PLACE,
                found,
            });
        }
        let claims = Self {
            mesh: MeshId(r.bin_of()?),
            root: r.object_id()?,
            key: r.key()?,
            agent: r.optional(read_agent)?,
            sponsor: r.optional(read_agent)?,
            scope: Scope::read(&mut r)?,
            depth: r.number_of()?,
            grant_ttl_ms: r.uint()?,
            until: Timestamp::from_millis(r.uint()?),
            nonce: r.bin_of()?,
        };
        if r.array()? != 0 {
            return Err(r.fault(Malformed::Extension));
        }
        r.finish()?;
        if claims.depth > REMAINING_MAX {
            let reason = DepthExceeded::Remaining;
            return Err(Rejection::DepthExceeded {
                place: PLACE,
                reason,
            });
        }
        if claims.grant_ttl_ms == 0 || claims.grant_ttl_ms > LIFETIME_MAX_MS {
            return Err(Rejection::Malformed {
                place: PLACE,
                reason: Malformed::Lifetime,
            });
        }
        Ok(claims)
    }
}

/// A decoded statement whose signature was not checked: anybody can have written it.
#[derive(Clone, Debug)]
pub struct UnverifiedJoin {
    claims: JoinClaims,
    id: ObjectId,
    registrar: u8,
    body: Bytes,
    signature: Signature,
    bytes: Bytes,
}

impl UnverifiedJoin {
    /// Decodes a statement of at most [`JOIN_STATEMENT_MAX`] bytes. No signature is looked at.
    ///
    /// # Errors
    ///
    /// [`Rejection::TooLarge`], [`Rejection::Malformed`], [`Rejection::UnsupportedVersion`] or
    /// [`Rejection::DepthExceeded`].
    pub fn parse(bytes: &Bytes) -> Result<Self, Rejection> {
        if bytes.len() > JOIN_STATEMENT_MAX {
            return Err(Rejection::TooLarge {
                place: PLACE,
                limit: JOIN_STATEMENT_MAX as u32,
            });
        }
        let mut r = Reader::new(bytes, PLACE);
        r.array_of(3)?;
        let body = r.bin(JOIN_STATEMENT_MAX)?;
        let registrar = r.number_of()?;
        let signature = Signature(r.bin_of()?);
        r.finish()?;
        let claims = JoinClaims::parse(&body)?;
        Ok(Self {
            id: Tag::JoinToken.digest(&body),
            claims,
            registrar,
            body,
            signature,
            bytes: bytes.clone(),
        })
    }

    /// What it claims, unchecked.
    pub fn claims(&self) -> &JoinClaims {
        &self.claims
    }

    /// Checks mesh and the registrar's signature. `registrars` are the keys of the registrar role,
    /// in the order of the trust root. Time is not looked at.
    ///
    /// # Errors
    ///
    /// [`Rejection::UntrustedRoot`] for another mesh or a position without a key,
    /// [`Rejection::BadSignature`], [`Rejection::WeakKey`] for the token's key.
    pub fn verify(
        self,
        mesh: MeshId,
        registrars: &[PublicKey],
    ) -> Result<JoinStatement, Rejection> {
        let place = PLACE;
        let untrusted = |reason| Rejection::UntrustedRoot { place, reason };
        if self.claims.mesh != mesh {
            return Err(untrusted(UntrustedRoot::OtherMesh));
        }
        let registrar = registrars
            .get(usize::from(self.registrar))
            .ok_or(untrusted(UntrustedRoot::Threshold))?;
        let key = PublicKey::import(&self.claims.key).map_err(|_| Rejection::WeakKey { place })?;
        let tag = Tag::JoinToken;
        let (body, signature) = (&self.body, &self.signature);
        let claims = Authentic::check(tag, body, self.claims, registrar, signature, place)?;
        Ok(JoinStatement {
            id: self.id,
            key,
            registrar: registrar.bytes(),
            claims,
            bytes: self.bytes,
        })
    }
}

/// A statement whose signature was checked.
///
/// Holding one tells you that a registrar of the mesh made it. It does not tell you that it is
/// still good: it may have expired, been used, or its registrar been revoked.
#[derive(Clone, Debug)]
pub struct JoinStatement {
    id: ObjectId,
    key: PublicKey,
    registrar: KeyBytes,
    claims: Authentic<JoinClaims>,
    bytes: Bytes,
}

impl JoinStatement {
    /// The token's id, by which it is used up.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// What it says.
    pub fn claims(&self) -> &JoinClaims {
        self.claims.claims()
    }

    /// The registrar that made it.
    pub fn registrar(&self) -> KeyBytes {
        self.registrar
    }

    /// The encoded statement.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Checks that whoever claims the certificate with this id holds the token.
    ///
    /// # Errors
    ///
    /// [`Rejection::BadSignature`].
    pub fn check_proof(&self, certificate: &ObjectId, proof: &Signature) -> Result<(), Rejection> {
        let tag = Tag::JoinProof;
        Authentic::check(tag, &certificate.0, (), &self.key, proof, PLACE).map(drop)
    }
}

/// A join token: the statement and its secret. It prints redacted and is wiped when dropped.
///
/// ```
/// use std::time::Duration;
///
/// use trustmesh::proto::join::JoinToken;
/// use trustmesh::proto::scope::Scope;
/// use trustmesh::services::authority::{Authority, JoinTerms};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mesh = Authority::dev("demo")?;
/// let token = mesh.join_token(&JoinTerms::new(Scope::parse(["sub:tasks.>"])?))?;
/// let text = token.to_text();
/// assert!(text.starts_with("tmj1"));
/// assert_eq!(text.parse::<JoinToken>()?.claims(), token.claims());
/// assert!(format!("{token:?}").contains("redacted"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct JoinToken {
    statement: Bytes,
    claims: JoinClaims,
    id: ObjectId,
    key: Arc<SigningKey>,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("mesh", &self.claims.mesh)
            .field("agent", &self.claims.agent)
            .field("secret", &"redacted")
            .finish_non_exhaustive()
    }
}

impl JoinToken {
    /// Signs a statement about the public half of `key`, which the claims name. `registrar` is the
    /// signing key and its position among the trust root's registrar keys.
    ///
    /// # Errors
    ///
    /// What a reader would refuse: [`Rejection::TooLarge`], [`Rejection::Malformed`] for a grant
    /// lifetime out of range, [`Rejection::DepthExceeded`]; [`Rejection::KeyMismatch`] when the
    /// claims name another key.
    pub fn sign(
        claims: &JoinClaims,
        registrar: (u8, &SigningKey),
        key: Arc<SigningKey>,
    ) -> Result<Self, Rejection> {
        let body = claims.body();
        let signature = signing::sign(Tag::JoinToken, &body, registrar.1);
        let statement = wire::encode(&(bin(&body), registrar.0, bin(&signature.0)));
        Self::of(statement.into(), key)
    }

    fn of(statement: Bytes, key: Arc<SigningKey>) -> Result<Self, Rejection> {
        let unverified = UnverifiedJoin::parse(&statement)?;
        if unverified.claims.key != key.public().bytes() {
            return Err(Rejection::KeyMismatch {
                place: PLACE,
                reason: super::rejection::KeyMismatch::OtherAgent,
            });
        }
        Ok(Self {
            id: unverified.id,
            claims: unverified.claims,
            statement,
            key,
        })
    }

    /// What the token says. Whether a registrar of the mesh signed it is not checked here.
    pub fn claims(&self) -> &JoinClaims {
        &self.claims
    }

    /// The token's id, by which it is used up.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// The encoded statement, without the secret.
    pub fn statement(&self) -> &Bytes {
        &self.statement
    }

    /// Proves that the token is held, to claim the certificate with this id.
    pub fn prove(&self, certificate: &ObjectId) -> Signature {
        signing::sign(Tag::JoinProof, &certificate.0, &self.key)
    }

    /// The token as text, the secret included: whoever reads it can join.
    pub fn to_text(&self) -> Zeroizing<String> {
        let seed = self.key.seed();
        let mut raw = Zeroizing::new(wire::encode(&(bin(&self.statement), bin(&seed[..]))));
        let check = checksum(&raw);
        raw.extend_from_slice(&check);
        let mut text = Zeroizing::new(String::with_capacity(JOIN_TOKEN.len() + raw.len() * 2));
        text.push_str(JOIN_TOKEN);
        data_encoding::BASE64URL_NOPAD.encode_append(&raw, &mut text);
        text
    }
}

/// A text that is no join token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidJoinToken {
    /// It does not begin with `tmj1`.
    #[error("a join token begins with `tmj1`")]
    Prefix,
    /// It is longer than [`JOIN_TOKEN_MAX`].
    #[error("a join token has at most {JOIN_TOKEN_MAX} characters")]
    TooLong,
    /// A character outside base64url, or a text that no token is written as.
    #[error("the text is not base64url")]
    Encoding,
    /// It was cut off or mistyped.
    #[error("the text was cut off or mistyped: its check does not fit")]
    Check,
    /// What it holds is no statement.
    #[error("it holds no statement: {0}")]
    Statement(#[from] Rejection),
    /// It holds no acceptable secret.
    #[error("it holds no key: {0}")]
    Key(#[from] KeyGeneration),
}

impl FromStr for JoinToken {
    type Err = InvalidJoinToken;

    /// Reads a token, with blanks around it forgiven.
    fn from_str(text: &str) -> Result<Self, InvalidJoinToken> {
        let text = text.trim();
        if text.len() > JOIN_TOKEN_MAX {
            return Err(InvalidJoinToken::TooLong);
        }
        let text = text
            .strip_prefix(JOIN_TOKEN)
            .ok_or(InvalidJoinToken::Prefix)?;
        let raw = data_encoding::BASE64URL_NOPAD
            .decode(text.as_bytes())
            .map_err(|_| InvalidJoinToken::Encoding)?;
        let raw = Zeroizing::new(raw);
        let (value, check) = raw
            .split_last_chunk::<CHECK>()
            .ok_or(InvalidJoinToken::Check)?;
        if checksum(value) != *check {
            return Err(InvalidJoinToken::Check);
        }
        // The reader slices a shared buffer, which is never wiped: only the public part goes there.
        let seed_at = value
            .len()
            .checked_sub(KEY_LEN)
            .ok_or(InvalidJoinToken::Check)?;
        let (rest, seed) = value.split_at(seed_at);
        let mut shape = rest.to_vec();
        shape.extend_from_slice(&[0; KEY_LEN]);
        let shape = Bytes::from(shape);
        let mut r = Reader::new(&shape, PLACE);
        r.array_of(2)?;
        let statement = r.bin(JOIN_STATEMENT_MAX)?;
        let _: [u8; KEY_LEN] = r.bin_of()?;
        r.finish()?;
        let mut owned = Zeroizing::new([0; KEY_LEN]);
        owned.copy_from_slice(seed);
        let key = Arc::new(SigningKey::from_seed(&owned)?);
        Ok(Self::of(statement, key)?)
    }
}

/// Bytes of the check at the end of a token. It catches slips of a hand, not attacks.
const CHECK: usize = 4;

fn checksum(value: &[u8]) -> [u8; CHECK] {
    let ObjectId(digest) = Tag::JoinToken.digest(value);
    [digest[0], digest[1], digest[2], digest[3]]
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
