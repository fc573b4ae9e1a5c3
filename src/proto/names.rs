//! Every identifier the protocol fixes, in one table (protocol §2.3).
//!
//! | what | values |
//! |---|---|
//! | domain tags | [`Tag`]: 24 bytes, `0xFF`, `trustmesh/1 `, a name of at most 11 characters, NUL padding |
//! | frame magic | `TMSH` envelope, `TMHS` handshake, `TMTS` trust-state file, `TMBU` bulletin, `TMEN` enrolment |
//! | frame version | 1 |
//! | object version | 1 |
//! | envelope modes | 1 one signature; 2 one signature over a batch; 3 reserved for session MACs |
//! | actions | PUB 1, SUB 2, REQ 4, SERVE 8, 16 reserved, DELEGATE 32 |
//! | constraints | 1 queue groups, 2 recipient keys |
//! | envelope extensions | 1 trust epochs, 2 traceparent, 3 hop count (critical), 4 approval |
//! | link, certificate extensions | none |
//! | handshake extensions | of proof and confirmation 1 newest timestamp |
//! | trust-root extensions | 1 dev mesh (critical); 2 lineage (critical) |
//! | trust-file extensions | of revocations 2 retirements (critical); of parts 16 shard (critical) |
//! | policy extensions | 1 approval (critical); 2 scoring (critical) |
//! | roles of trust-root keys | 1 root, 2 issuer, 3 registrar, 4 revoker, 5 policy, 6 timestamp, 7 scores |
//! | trust-file kinds | 1 trust root, 2 registry, 3 policy, 4 revocations, 5 scores, 6 timestamp, 7 snapshot, 8 books |
//! | rejection codes | class × 100 + reason: [`Rejection`](super::rejection::Rejection) |
//! | subjects | `<prefix>.audit.<id>`, `<prefix>.handshake.<id>.<instance>`, `<prefix>.verifier.<verb>`, `<prefix>.agent.<id>.renew`; the prefix defaults to `trustmesh`, `/` in an id is written `~` |
//! | inbox | `_INBOX.<U-nkey of the identity key>` |
//! | payload types | `trustmesh/audit` (JSON lines of audit records), `trustmesh/refusal` (constant refusal), `trustmesh/control` (requests to the verifier) |
//! | join-token text | `tmj1`, then base64url without padding |
//! | buckets | `TRUSTMESH_REPLAY_<mesh>`, the shared replay memory |
//! | NATS headers out | none: application headers travel inside the envelope |
//! | NATS headers in | none are read, except the status of a message by the server itself |

/// First bytes of an envelope frame (protocol §12.1).
pub const MAGIC_ENVELOPE: [u8; 4] = *b"TMSH";
/// First bytes of a handshake frame (protocol §16.2).
pub const MAGIC_HANDSHAKE: [u8; 4] = *b"TMHS";
/// First bytes of a trust-state file (protocol §9.1).
pub const MAGIC_TRUST: [u8; 4] = *b"TMTS";
/// First bytes of a bulletin: what is new in a served trust state (protocol §9.12).
pub const MAGIC_BULLETIN: [u8; 4] = *b"TMBU";
/// First bytes of an enrolment frame (protocol §22.3).
pub const MAGIC_ENROLMENT: [u8; 4] = *b"TMEN";
/// First characters of a join token as text (protocol §22.2).
pub const JOIN_TOKEN: &str = "tmj1";
/// Version of every frame, `fv`; any other is refused as code 301 (protocol §2.6).
pub const FRAME_VERSION: u64 = 1;
/// Version of every signed object, `v` (protocol §2.6). It pins the suite: Ed25519 as in §2.2,
/// SHA-256.
pub const OBJECT_VERSION: u64 = 1;
/// Envelope mode 1: one signature over one header (protocol §19).
pub const MODE_SINGLE: u8 = 1;
/// Envelope mode 2: one signature over a batch of headers.
pub const MODE_BATCH: u8 = 2;

/// Envelope extension: registry, revocation and policy epochs the sender decided under, 24 bytes; a
/// hint (protocol §12.4).
pub const EXT_EPOCHS: u16 = 1;
/// Envelope extension: W3C `traceparent`, 55 bytes (protocol §12.4).
pub const EXT_TRACEPARENT: u16 = 2;
/// Envelope extension, critical: how often this piece of work has been forwarded, 1 to 16 in one
/// byte (protocol §12.4).
pub const EXT_HOPS: u16 = 3;
/// Envelope extension: an approval of the chain it is sent under (protocol §10.8).
pub const EXT_APPROVAL: u16 = 4;
/// Policy extension, critical: the messages that need an approval (protocol §10.7).
pub const EXT_POLICY_APPROVAL: u16 = 1;
/// Policy extension, critical: how scores are computed and when a key is quarantined (protocol
/// §10.9).
pub const EXT_POLICY_SCORING: u16 = 2;
/// Extension of a handshake's proof and confirmation: the newest timestamp of the trust state that
/// the sender knows (protocol §16.9).
pub const EXT_NEWEST: u16 = 1;
/// Trust-root extension, critical: a mesh that trusts itself, for development (protocol §9.3).
pub const EXT_DEV: u16 = 1;
/// Trust-root extension, critical, of every root but the first: mesh and id of the root before, 48
/// bytes (protocol §9.8).
pub const EXT_LINEAGE: u16 = 2;
/// Trust-file extension, critical, of every part of a served trust state: its index and how many
/// there are, 4 bytes (protocol §9.9).
pub const EXT_SHARD: u16 = 16;
/// Extension of revocations, critical: keys with the instants from which they count as revoked
/// (protocol §11.3).
pub const EXT_RETIREMENTS: u16 = 2;

/// Constraint kind: the queue groups a subscription may join (protocol §6.2).
pub const CONSTRAINT_GROUPS: u64 = 1;
/// Constraint kind: the keys an envelope may name as its audience (protocol §6.2).
pub const CONSTRAINT_RECIPIENTS: u64 = 2;

/// Default first token of the subjects trustmesh itself uses (protocol §4.4).
pub const PREFIX: &str = "trustmesh";
/// Beginning of the name of the bucket with the shared replay memory of a mesh; the mesh in
/// hexadecimal follows (protocol §14.6).
pub const REPLAY_BUCKET: &str = "TRUSTMESH_REPLAY_";
/// Payload type of audit batches (protocol §17.1).
pub const PAYLOAD_AUDIT: &str = "trustmesh/audit";
/// Payload type of signed refusals (protocol §15.3).
pub const PAYLOAD_REFUSAL: &str = "trustmesh/refusal";
/// Payload type of requests to the verifier service and of its answers (protocol §22.5).
pub const PAYLOAD_CONTROL: &str = "trustmesh/control";
/// The id of the verifier service, which no join token gives away (protocol §22.1).
pub const VERIFIER_ID: &str = "verifier";
/// First token of every inbox (protocol §4.3).
pub const INBOX: &str = "_INBOX";

/// The domain a signature or digest belongs to (protocol §2.3). One tag, one schema.
///
/// A signature is made over `tag bytes || body`, so no object can be taken for one of another kind,
/// and none for a NATS connect nonce: those are text and cannot begin with `0xFF`.
///
/// ```
/// use trustmesh::proto::names::Tag;
///
/// assert_eq!(Tag::RootGrant.bytes()[..13], *b"\xFFtrustmesh/1 ");
/// assert_ne!(Tag::RootGrant.digest(b"body"), Tag::Delegation.digest(b"body"));
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Tag {
    /// Envelope header.
    Envelope,
    /// A batch of envelope headers.
    Batch,
    /// Digest of an envelope's content.
    Content,
    /// Root grant: link 0 of a chain.
    RootGrant,
    /// Delegation: link 1 and on.
    Delegation,
    /// Digest of the exact bytes of a chain.
    Chain,
    /// Agent certificate, signed by the registrar.
    Certificate,
    /// Proof of possession, signed by the certified key over the certificate's id.
    Possession,
    /// Trust root.
    TrustRoot,
    /// Registry.
    Registry,
    /// Policy bundle.
    Policy,
    /// Revocation list.
    Revocations,
    /// Trust scores.
    Scores,
    /// Timestamp.
    Timestamp,
    /// Snapshot.
    Snapshot,
    /// Books of the verifier service.
    Books,
    /// Digest of a whole file of the trust state.
    TrustPart,
    /// Handshake hello (H1); an id only, never signed.
    Hello,
    /// Handshake challenge (H2): begins the input of its cookie's HMAC (protocol §16.5); signs
    /// nothing.
    Challenge,
    /// Handshake proof (H3), signed by the initiator.
    Proof,
    /// Handshake confirmation (H4), signed by the responder.
    Confirm,
    /// Hash chain of audit records.
    AuditRecord,
    /// Join token: the statement, signed by the registrar.
    JoinToken,
    /// Proof that a join token is possessed, signed by its key over a certificate's id.
    JoinProof,
    /// Enrolment hello; an id only, never signed.
    EnrolHello,
    /// Offer of a certificate: begins the input of its cookie's HMAC; signs nothing.
    EnrolOffer,
    /// Refusal of an enrolment, signed by the registrar.
    EnrolRefused,
    /// Key of a claimed message in the shared replay memory; an id only, never signed.
    ReplayClaim,
    /// Approval of a chain, signed by a registrar.
    Approval,
}

impl Tag {
    /// Every tag, for tests that try each against each.
    pub const ALL: [Self; 29] = [
        Self::Envelope,
        Self::Batch,
        Self::Content,
        Self::RootGrant,
        Self::Delegation,
        Self::Chain,
        Self::Certificate,
        Self::Possession,
        Self::TrustRoot,
        Self::Registry,
        Self::Policy,
        Self::Revocations,
        Self::Scores,
        Self::Timestamp,
        Self::Snapshot,
        Self::Books,
        Self::TrustPart,
        Self::Hello,
        Self::Challenge,
        Self::Proof,
        Self::Confirm,
        Self::AuditRecord,
        Self::JoinToken,
        Self::JoinProof,
        Self::EnrolHello,
        Self::EnrolOffer,
        Self::EnrolRefused,
        Self::ReplayClaim,
        Self::Approval,
    ];

    /// The tag's name, 1 to 11 ASCII characters, as in the table of protocol §2.3.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Envelope => "envelope",
            Self::Batch => "batch",
            Self::Content => "content",
            Self::RootGrant => "root-grant",
            Self::Delegation => "delegation",
            Self::Chain => "chain",
            Self::Certificate => "agent-cert",
            Self::Possession => "cert-pop",
            Self::TrustRoot => "trust-root",
            Self::Registry => "registry",
            Self::Policy => "policy",
            Self::Revocations => "revocations",
            Self::Scores => "scores",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Books => "books",
            Self::TrustPart => "trust-part",
            Self::Hello => "hs-hello",
            Self::Challenge => "hs-challeng",
            Self::Proof => "hs-proof",
            Self::Confirm => "hs-confirm",
            Self::AuditRecord => "audit-rec",
            Self::JoinToken => "join-token",
            Self::JoinProof => "join-proof",
            Self::EnrolHello => "enrol-hello",
            Self::EnrolOffer => "enrol-offer",
            Self::EnrolRefused => "enrol-deny",
            Self::ReplayClaim => "replay-id",
            Self::Approval => "approval",
        }
    }

    /// The 24 bytes that stand before a body when it is signed or hashed: `0xFF`, `trustmesh/1 `,
    /// the name, and NUL up to the end.
    pub const fn bytes(self) -> [u8; 24] {
        let mut out = [0u8; 24];
        out[0] = 0xFF;
        let prefix = b"trustmesh/1 ";
        let name = self.name().as_bytes();
        let mut i = 0;
        while i < prefix.len() {
            out[1 + i] = prefix[i];
            i += 1;
        }
        let mut j = 0;
        while j < name.len() {
            out[1 + prefix.len() + j] = name[j];
            j += 1;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_distinct_and_never_start_a_connect_nonce() {
        for (i, a) in Tag::ALL.iter().enumerate() {
            assert!(a.name().len() <= 11, "{a:?}");
            assert_eq!(a.bytes()[0], 0xFF);
            assert_eq!(&a.bytes()[1..13], b"trustmesh/1 ");
            for b in &Tag::ALL[i + 1..] {
                assert_ne!(a.bytes(), b.bytes(), "{a:?} {b:?}");
            }
        }
    }
}
