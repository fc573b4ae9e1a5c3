//! Every reason a message is refused, with a stable code (protocol §18).
//!
//! A code is `class × 100 + reason`. Codes are never reused or renumbered. The peer sees a
//! constant refusal; the class, the code and the place go to the audit.

use std::fmt;

use super::time::Outside;
use super::time::Timestamp;

/// Where in a message the fault lies. It stands in the audit's words and never in what a peer sees.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Place {
    /// The outer frame, or the message as a whole.
    Frame,
    /// The envelope header.
    Header,
    /// The batch an envelope was signed in.
    Batch,
    /// The content: application headers, granted chains, payload.
    Content,
    /// The chain as a whole.
    Chain,
    /// Link `n` of the chain; 0 is the root grant.
    Hop(u8),
    /// The certificate of the holder of link `n`.
    Holder(u8),
    /// The issuer of the root grant.
    Issuer,
    /// The receiver's own authority.
    Receiver,
    /// An agent certificate standing alone.
    Certificate,
    /// A trust-state file.
    TrustFile,
    /// The approval of a chain.
    Approval,
    /// A handshake message.
    Handshake,
    /// An audit batch.
    Audit,
    /// A join token.
    Token,
    /// An enrolment frame.
    Enrolment,
    /// A request to the verifier service, or its answer.
    Control,
}

impl Place {
    /// The link concerned, when the fault lies in one; 0 is the root grant. For a holder it is the
    /// link that it holds.
    pub const fn hop(self) -> Option<u8> {
        match self {
            Self::Hop(n) | Self::Holder(n) => Some(n),
            _ => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame => f.write_str("frame"),
            Self::Header => f.write_str("header"),
            Self::Batch => f.write_str("batch"),
            Self::Content => f.write_str("content"),
            Self::Chain => f.write_str("chain"),
            Self::Hop(n) => write!(f, "link {n}"),
            Self::Holder(n) => write!(f, "holder of link {n}"),
            Self::Issuer => f.write_str("issuer"),
            Self::Receiver => f.write_str("receiver's own authority"),
            Self::Certificate => f.write_str("certificate"),
            Self::TrustFile => f.write_str("trust file"),
            Self::Approval => f.write_str("approval"),
            Self::Handshake => f.write_str("handshake"),
            Self::Audit => f.write_str("audit batch"),
            Self::Token => f.write_str("join token"),
            Self::Enrolment => f.write_str("enrolment"),
            Self::Control => f.write_str("control request"),
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $n:literal $text:literal),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[non_exhaustive]
        pub enum $name { $(#[doc = $text] $variant = $n),+ }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text),+ })
            }
        }
    )+

        impl Class {
            /// Every reason of the class, in order: its number, and the same in words. What has
            /// been published here is never renumbered.
            ///
            /// ```
            /// use trustmesh::proto::rejection::Class;
            ///
            /// let (number, text) = Class::Replay.reasons()[1];
            /// assert_eq!(Class::Replay as u16 * 100 + number, 1202);
            /// assert_eq!(text, "issued before this process could remember");
            /// ```
            pub const fn reasons(self) -> &'static [(u16, &'static str)] {
                match self {
                    $(Self::$name => &[$(($n, $text)),+],)+
                    Self::TooLarge => &[(1, "above a limit of size or number")],
                    Self::UnsupportedVersion => &[(1, "of a version or mode that is not spoken")],
                    Self::BadSignature => &[(1, "a signature or digest does not verify")],
                    Self::WeakKey => &[(1, "a key that is no acceptable key")],
                    Self::UnknownAgent => &[(1, "no certificate stands for the key")],
                    Self::WrongAudience => &[(1, "meant for another key")],
                    Self::NotYetValid => &[(1, "its window has not begun")],
                    Self::Expired => &[(1, "its window is over")],
                    Self::TrustTooLow => &[(1, "the trust score is below what a rule asks for")],
                    Self::AuditUnavailable => &[(1, "the decision cannot be recorded")],
                }
            }
        }
    };
}

reasons! {
    /// Why bytes are not the object they claim to be.
    Malformed {
        Truncated = 1 "ends before its last value",
        TrailingBytes = 2 "goes on after its last value",
        WrongType = 3 "holds a value of another type than the format asks for",
        NotCanonical = 4 "holds a value that is not in its one valid encoding",
        WrongLength = 5 "holds a byte string or list of the wrong length",
        OutOfRange = 6 "holds a number outside its range",
        NotText = 7 "holds text that is not valid UTF-8 or not of the allowed characters",
        BadMagic = 8 "does not begin with the frame's magic",
        BadSubject = 9 "holds a subject or pattern that is none",
        BadAgentId = 10 "holds an agent id that is none",
        Lifetime = 11 "is valid for no time, or for longer than allowed",
        ModeMismatch = 12 "gives two different modes",
        Extension = 13 "holds an extension that is unknown, misplaced or ill-formed",
        Constraint = 14 "holds a constraint that is unknown, empty or given twice",
        FieldCombination = 15 "combines fields that exclude one another",
        ContentLength = 16 "has content of another length than signed",
        Duplicate = 17 "gives the same thing twice",
    }
    /// Why a key does not belong to whom it is used for.
    KeyMismatch {
        OtherAgent = 1 "it names another key",
        OtherCertificate = 2 "the certificate is not the registered one",
    }
    /// How the subject or reply delivered differs from the one signed.
    SubjectMismatch {
        Delivered = 1 "delivered on another subject than signed",
        NotSubscribed = 2 "delivered to a subscription that does not cover it",
        ReplyRewritten = 3 "the reply subject was changed on the way",
        ReplyNotOwnInbox = 4 "the reply subject is outside the sender's own inbox",
        Control = 5 "not addressed to the subject of its sender",
    }
    /// Why a message counts as seen before.
    Replay {
        Seen = 1 "this message id was already accepted from this sender",
        BeforeRestart = 2 "issued before this process could remember",
        Elsewhere = 3 "another member of the group or an earlier run took the message",
    }
    /// Why an answer answers nothing.
    UnexpectedReply {
        NoRequest = 1 "no request is waiting for it",
        OtherRequest = 2 "it names another request",
        NotAReply = 3 "it is not an answer",
        NotAsked = 4 "an answer on a subject where requests are expected",
        OtherResponder = 5 "it comes from another key than the request was meant for",
    }
    /// Why the links are no chain.
    ChainBroken {
        Empty = 1 "no chain",
        ParentMismatch = 2 "does not name the link above it as its parent",
        LeafMismatch = 3 "the signed leaf is not the chain's",
        RepeatedHolder = 4 "issuer and holders are not all distinct",
        NotOurs = 5 "the last holder is not the key it must be",
    }
    /// How authority was exceeded.
    ScopeExceeded {
        NotGranted = 1 "no capability covers this action on this subject",
        Widened = 2 "a capability is not contained in one delegable capability of the link above",
        Window = 3 "the window is not inside the window of the link above",
        QueueGroup = 4 "the queue group is not among those allowed",
        Recipient = 5 "the audience is not among the recipients allowed",
        EmptyPattern = 6 "a capability with an empty pattern covers nothing",
        Lifetime = 7 "the link lives longer than policy allows",
    }
    /// How depth was exceeded.
    DepthExceeded {
        Links = 1 "too many links",
        Remaining = 2 "the link above allowed no further delegation, or fewer",
        Hops = 3 "forwarded too often",
        Policy = 4 "more delegations than policy allows here",
    }
    /// Why the top of the chain is not trusted.
    UntrustedRoot {
        OtherMesh = 1 "of another mesh",
        NotIssuer = 2 "not signed by an issuer of this mesh",
        DevMesh = 3 "a development mesh outside development mode",
        Threshold = 4 "too few valid signatures of the role that must sign it",
        Pin = 5 "not the trust root that was pinned",
        Lineage = 6 "does not follow the trust root that is held",
    }
    /// What was revoked.
    Revoked {
        Link = 1 "the link is revoked",
        Key = 2 "the key is revoked",
        Agent = 3 "the agent is revoked",
        Retired = 4 "the key has retired",
    }
    /// What stops the agent: a list, or its own conduct.
    Blocked {
        Key = 1 "the key is on the block list",
        Agent = 2 "the agent is on the block list",
        NotAllowed = 3 "the agent is not on the allow list",
        Quarantined = 4 "the key is quarantined for what it signed",
    }
    /// Which rule of policy says no.
    PolicyDenied {
        NoRule = 1 "no rule allows this",
        DenyRule = 2 "a rule denies this",
        TooOld = 3 "older than the rule allows",
        Rate = 4 "above the rate the rule allows",
        NoSession = 5 "the rule asks for a session and there is none",
        Mode = 6 "the rule does not allow this envelope mode",
        Ttl = 7 "the envelope lives longer than policy allows",
        NotApproved = 8 "policy asks for an approval of the chain and none that holds came with it",
    }
    /// Why a handshake failed.
    HandshakeFailed {
        Transcript = 1 "the messages do not belong together",
        Cookie = 2 "the challenge was not ours, is too old or was used",
        Nonce = 3 "a nonce is all zero or repeats the peer's",
        Version = 4 "the offered options do not fit",
        NotForMe = 5 "meant for another agent or key",
        Refused = 6 "the peer refused",
    }
    /// What is out of date.
    StaleState {
        Registry = 1 "the registry is not in force now",
        Policy = 2 "the policy is not in force now",
        Revocations = 3 "the revocation list is not in force now",
        TrustRoot = 4 "the trust root is not in force now",
        Rollback = 5 "older than what is already held",
        Clock = 6 "the local clock jumped; decisions are paused",
        Scores = 7 "the trust scores are not in force now",
        Timestamp = 8 "no timestamp is recent enough for this",
        Equivocation = 9 "the same epoch with other content",
        Incomplete = 10 "a part of the trust state is missing",
    }
    /// What is full.
    Overloaded {
        ReplaySender = 1 "this sender's replay memory is full",
        ReplayTotal = 2 "the replay memory is full",
        Rates = 3 "the rate memory is full",
        Handshakes = 4 "too many handshakes",
        Sessions = 5 "too many sessions",
        State = 6 "the replay floor cannot be stored",
        SharedReplay = 7 "the shared replay memory does not answer",
    }
    /// What went wrong on our side.
    Internal {
        Handler = 1 "the handler panicked",
        Random = 2 "the random number generator failed",
        Verifier = 3 "the verifier panicked",
    }
}

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident = $n:literal),+ $(,)?) => {
        /// The classes of rejection (protocol §18.1). The number is the code divided by 100.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum Class { $($(#[$doc])* $name = $n),+ }

        impl Class {
            /// Every class, in the order of their numbers, 1 to 26.
            pub const ALL: [Self; 26] = [$(Self::$name),+];

            /// The class's name, stable, as it stands in audit events.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }
        }
    };
}

classes! {
    /// Not the object it claims to be.
    Malformed = 1,
    /// Above a limit of size or number.
    TooLarge = 2,
    /// A version or mode this software does not speak.
    UnsupportedVersion = 3,
    /// A signature does not verify.
    BadSignature = 4,
    /// A key that is no acceptable key.
    WeakKey = 5,
    /// A key no live certificate stands for.
    UnknownAgent = 6,
    /// A key used for somebody else.
    KeyMismatch = 7,
    /// Meant for another receiver.
    WrongAudience = 8,
    /// Delivered elsewhere than signed.
    SubjectMismatch = 9,
    /// Not valid yet.
    NotYetValid = 10,
    /// No longer valid.
    Expired = 11,
    /// Seen before.
    Replay = 12,
    /// An answer nobody waits for.
    UnexpectedReply = 13,
    /// Links that are no chain.
    ChainBroken = 14,
    /// More than was granted.
    ScopeExceeded = 15,
    /// Delegated or forwarded too often.
    DepthExceeded = 16,
    /// Nothing trusted at the top.
    UntrustedRoot = 17,
    /// Authority taken back.
    Revoked = 18,
    /// Stopped by a list.
    Blocked = 19,
    /// Stopped by policy.
    PolicyDenied = 20,
    /// Trust score below what policy asks for.
    TrustTooLow = 21,
    /// A handshake that did not succeed.
    HandshakeFailed = 22,
    /// Trust state that is out of date.
    StaleState = 23,
    /// A bounded memory is full.
    Overloaded = 24,
    /// The decision could not be recorded.
    AuditUnavailable = 25,
    /// A fault on our side.
    Internal = 26,
}

/// Why a message was refused (protocol §18).
///
/// Its text is for the audit and may change; [`class`](Self::class) and [`code`](Self::code) never
/// do. It holds nothing of the message but numbers.
///
/// ```
/// use trustmesh::proto::rejection::{Class, Place, Rejection, ScopeExceeded};
///
/// let rejection = Rejection::ScopeExceeded {
///     place: Place::Hop(1),
///     reason: ScopeExceeded::NotGranted,
/// };
/// assert_eq!(rejection.class(), Class::ScopeExceeded);
/// assert_eq!(rejection.code(), 1501);
/// assert_eq!(rejection.hop(), Some(1));
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The classes are documented in `Class`, the fields by their types.
pub enum Rejection {
    /// Not the object it claims to be.
    #[error("malformed: the {place} {reason}")]
    Malformed { place: Place, reason: Malformed },
    /// Above a limit: bytes, or a number of elements, links or signature checks.
    #[error("too large: the {place} exceeds its limit of {limit}")]
    TooLarge { place: Place, limit: u32 },
    /// A version or mode that is not spoken; `found` is what the message says.
    #[error("unsupported version: the {place} says {found}")]
    UnsupportedVersion { place: Place, found: u64 },
    /// A signature or content digest that does not verify.
    #[error("bad signature: {place}")]
    BadSignature { place: Place },
    /// Bytes that are no acceptable key.
    #[error("weak key: {place}")]
    WeakKey { place: Place },
    /// A key no certificate stands for.
    #[error("unknown agent: {place}")]
    UnknownAgent { place: Place },
    /// A key used for somebody else.
    #[error("key mismatch: {place}: {reason}")]
    KeyMismatch { place: Place, reason: KeyMismatch },
    /// Meant for another receiver.
    #[error("wrong audience: meant for another key")]
    WrongAudience,
    /// Delivered elsewhere than signed.
    #[error("subject mismatch: {reason}")]
    SubjectMismatch { reason: SubjectMismatch },
    /// Not valid before `from`, even with the skew allowed for.
    #[error("not yet valid: {place}, from {from}")]
    NotYetValid { place: Place, from: Timestamp },
    /// Not valid since `until`, even with the skew allowed for.
    #[error("expired: {place}, at {until}")]
    Expired { place: Place, until: Timestamp },
    /// Seen before, or too old to know.
    #[error("replay: {reason}")]
    Replay { reason: Replay },
    /// An answer nobody waits for.
    #[error("unexpected reply: {reason}")]
    UnexpectedReply { reason: UnexpectedReply },
    /// Links that are no chain, or not the one it has to be.
    #[error("chain broken: {place}: {reason}")]
    ChainBroken { place: Place, reason: ChainBroken },
    /// More than was granted.
    #[error("scope exceeded: {place}: {reason}")]
    ScopeExceeded { place: Place, reason: ScopeExceeded },
    /// Delegated or forwarded too often.
    #[error("depth exceeded: {place}: {reason}")]
    DepthExceeded { place: Place, reason: DepthExceeded },
    /// Nothing trusted at the top.
    #[error("untrusted root: {place}: {reason}")]
    UntrustedRoot { place: Place, reason: UntrustedRoot },
    /// Authority that was taken back.
    #[error("revoked: {place}: {reason}")]
    Revoked { place: Place, reason: Revoked },
    /// Stopped by a list of the policy.
    #[error("blocked: {place}: {reason}")]
    Blocked { place: Place, reason: Blocked },
    /// Stopped by a rule of the policy.
    #[error("policy denied: {reason}")]
    PolicyDenied { reason: PolicyDenied },
    /// The lowest score of the chain's holders is below what a rule requires; both 0 to 1,000.
    #[error("trust too low: {score} of the required {required}")]
    TrustTooLow { score: u16, required: u16 },
    /// A handshake that did not succeed.
    #[error("handshake failed: {reason}")]
    HandshakeFailed { reason: HandshakeFailed },
    /// Trust state, or a clock, that decides nothing now.
    #[error("stale state: {reason}")]
    StaleState { reason: StaleState },
    /// A bounded memory is full.
    #[error("overloaded: {reason}")]
    Overloaded { reason: Overloaded },
    /// The decision could not be recorded, so nothing was decided.
    #[error("audit unavailable: the decision cannot be recorded")]
    AuditUnavailable,
    /// A fault on our side.
    #[error("internal: {reason}")]
    Internal { reason: Internal },
}

impl Outside {
    /// The rejection of something at `place` that is outside its window.
    pub const fn at(self, place: Place) -> Rejection {
        match self {
            Self::Before { from } => Rejection::NotYetValid { place, from },
            Self::After { until } => Rejection::Expired { place, until },
        }
    }
}

impl Rejection {
    /// The class, which is what counters and audit aggregates are kept by.
    pub const fn class(&self) -> Class {
        match self {
            Self::Malformed { .. } => Class::Malformed,
            Self::TooLarge { .. } => Class::TooLarge,
            Self::UnsupportedVersion { .. } => Class::UnsupportedVersion,
            Self::BadSignature { .. } => Class::BadSignature,
            Self::WeakKey { .. } => Class::WeakKey,
            Self::UnknownAgent { .. } => Class::UnknownAgent,
            Self::KeyMismatch { .. } => Class::KeyMismatch,
            Self::WrongAudience => Class::WrongAudience,
            Self::SubjectMismatch { .. } => Class::SubjectMismatch,
            Self::NotYetValid { .. } => Class::NotYetValid,
            Self::Expired { .. } => Class::Expired,
            Self::Replay { .. } => Class::Replay,
            Self::UnexpectedReply { .. } => Class::UnexpectedReply,
            Self::ChainBroken { .. } => Class::ChainBroken,
            Self::ScopeExceeded { .. } => Class::ScopeExceeded,
            Self::DepthExceeded { .. } => Class::DepthExceeded,
            Self::UntrustedRoot { .. } => Class::UntrustedRoot,
            Self::Revoked { .. } => Class::Revoked,
            Self::Blocked { .. } => Class::Blocked,
            Self::PolicyDenied { .. } => Class::PolicyDenied,
            Self::TrustTooLow { .. } => Class::TrustTooLow,
            Self::HandshakeFailed { .. } => Class::HandshakeFailed,
            Self::StaleState { .. } => Class::StaleState,
            Self::Overloaded { .. } => Class::Overloaded,
            Self::AuditUnavailable => Class::AuditUnavailable,
            Self::Internal { .. } => Class::Internal,
        }
    }

    /// The stable code (protocol §18.1): class × 100 + reason, reason 1 where a class has only one.
    pub const fn code(&self) -> u16 {
        let reason = match self {
            Self::Malformed { reason, .. } => *reason as u16,
            Self::KeyMismatch { reason, .. } => *reason as u16,
            Self::SubjectMismatch { reason } => *reason as u16,
            Self::Replay { reason } => *reason as u16,
            Self::UnexpectedReply { reason } => *reason as u16,
            Self::ChainBroken { reason, .. } => *reason as u16,
            Self::ScopeExceeded { reason, .. } => *reason as u16,
            Self::DepthExceeded { reason, .. } => *reason as u16,
            Self::UntrustedRoot { reason, .. } => *reason as u16,
            Self::Revoked { reason, .. } => *reason as u16,
            Self::Blocked { reason, .. } => *reason as u16,
            Self::PolicyDenied { reason } => *reason as u16,
            Self::HandshakeFailed { reason } => *reason as u16,
            Self::StaleState { reason } => *reason as u16,
            Self::Overloaded { reason } => *reason as u16,
            Self::Internal { reason } => *reason as u16,
            _ => 1,
        };
        self.class() as u16 * 100 + reason
    }

    /// Where the fault lies; `None` for classes whose fault has no place.
    pub const fn place(&self) -> Option<Place> {
        match self {
            Self::Malformed { place, .. }
            | Self::TooLarge { place, .. }
            | Self::UnsupportedVersion { place, .. }
            | Self::BadSignature { place }
            | Self::WeakKey { place }
            | Self::UnknownAgent { place }
            | Self::KeyMismatch { place, .. }
            | Self::NotYetValid { place, .. }
            | Self::Expired { place, .. }
            | Self::ChainBroken { place, .. }
            | Self::ScopeExceeded { place, .. }
            | Self::DepthExceeded { place, .. }
            | Self::UntrustedRoot { place, .. }
            | Self::Revoked { place, .. }
            | Self::Blocked { place, .. } => Some(*place),
            _ => None,
        }
    }

    /// The link the fault lies in, when it lies in one; 0 is the root grant.
    pub const fn hop(&self) -> Option<u8> {
        match self.place() {
            Some(place) => place.hop(),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_class_times_hundred_plus_reason() {
        let late = Rejection::Replay {
            reason: Replay::BeforeRestart,
        };
        assert_eq!(late.code(), 1202);
        assert_eq!(Rejection::WrongAudience.code(), 801);
        let hop = Rejection::BadSignature {
            place: Place::Hop(3),
        };
        assert_eq!((hop.code(), hop.hop()), (401, Some(3)));
        for (i, class) in Class::ALL.iter().enumerate() {
            assert_eq!(*class as usize, i + 1);
        }
    }
}
