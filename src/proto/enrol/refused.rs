//! Why the verifier service refuses, with stable numbers.

use crate::proto::rejection::Malformed;
use crate::proto::rejection::Rejection;
use crate::proto::wire::Reader;

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $n:literal $text:literal),+ $(,)?) => {
        /// Why the verifier service refuses an enrolment or a request (protocol §22.7). The numbers
        /// are never reused.
        ///
        /// Until a token is known to be genuine the answer is [`Refused`](Self::Refused) whatever
        /// the reason, so that nobody without a token can find out which agents exist.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
        #[non_exhaustive]
        pub enum EnrolRefused { $($(#[$doc])* #[error($text)] $name = $n),+ }

        impl EnrolRefused {
            /// Every reason, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// A stable word for it, as in the audit.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }
        }
    };
}

refusals! {
    /// No more is said: the asker has not shown a genuine token.
    Refused = 1 "refused",
    /// The token has expired.
    TokenExpired = 2 "the join token has expired",
    /// The token was used.
    TokenUsed = 3 "the join token was used already",
    /// The token was taken back, with the key that signed it or the agent that asked for it.
    TokenRevoked = 4 "the join token was taken back",
    /// The offer is not the service's, is too old or was used.
    Offer = 5 "the offer is not ours, too old, or used",
    /// The key to be certified did not sign.
    Possession = 6 "the proof of possession does not verify",
    /// The token's key did not sign.
    TokenProof = 7 "the proof of the join token does not verify",
    /// The token is for another agent.
    OtherAgent = 8 "the join token is for another agent",
    /// The id belongs to the service.
    Reserved = 9 "the id is reserved",
    /// The id has a key already.
    IdTaken = 10 "the id is enrolled already",
    /// The key has an id already.
    KeyTaken = 11 "the key is enrolled already",
    /// The key is one of the trust root's.
    RoleKey = 12 "the key is a role key of the mesh",
    /// The key is none that may be certified.
    WeakKey = 13 "the key is not acceptable",
    /// Id or key were revoked.
    Revoked = 14 "the id or the key was revoked",
    /// Policy's lists stop id or key.
    Blocked = 15 "policy stops the id or the key",
    /// The certificate named is no longer the agent's current one.
    NotCurrent = 16 "the certificate is no longer the current one",
    /// Too much is asked at once.
    Overloaded = 17 "too many requests",
    /// There is no such grant to renew, or it does not hold.
    NoGrant = 18 "the grant cannot be renewed",
    /// What is to be revoked was not given by the asker.
    NotYours = 19 "not issued by the asker",
    /// The bodies given do not prove it.
    Unproven = 20 "the bodies do not prove it",
    /// The asker has used its quota up.
    Quota = 21 "the quota of revocations is used up",
    /// The change could not be published; asking again may help.
    Unavailable = 22 "the change could not be published",
    /// This service does not do that.
    Unsupported = 23 "not served here",
    /// The request is no request.
    Malformed = 24 "the request is malformed",
    /// A receiver would refuse the chain that was presented.
    Chain = 25 "the chain does not hold",
    /// What was reported proves nothing against anybody.
    NotEvidence = 26 "no evidence of misbehaviour",
}

impl EnrolRefused {
    /// Its number.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The reason with this number.
    pub fn from_code(code: u16) -> Option<Self> {
        let mut all = Self::ALL.iter();
        all.find(|reason| reason.code() == code).copied()
    }

    /// Whether asking again, a little later, may help.
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Overloaded | Self::Unavailable | Self::Offer)
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Rejection> {
        let code = r.number_of()?;
        Self::from_code(code).ok_or_else(|| r.fault(Malformed::OutOfRange))
    }
}
