//! The scene that every library plays: a root hands authority down to alice, who calls bob.
//!
//! Hop 0 is the root's grant; `hops` delegations follow, each narrower than the one above, and the
//! last is alice's. Her call carries a subject, on which the bus delivers it, and a payload.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use bytes::Bytes;

/// Where an untouched call goes.
pub const SUBJECT: &str = "orders.eu.berlin.created";

/// What the root grants and the first delegation of three no longer contains.
pub const OUTSIDE: &str = "orders.us.dallas.created";

/// Every subject there is, for libraries whose scopes are sets.
pub const SUBJECTS: [&str; 4] = [
    SUBJECT,
    "orders.eu.berlin.deleted",
    "orders.eu.paris.created",
    OUTSIDE,
];

/// Bytes of a payload.
pub const PAYLOAD: usize = 256;

/// For how many seconds what is issued holds.
pub const LIFETIME: u64 = 1_800;

/// How many seconds ago an expired hop expired: more than any library's clock tolerance.
pub const EXPIRED_AGO: u64 = 600;

/// The holders of a chain of three delegations, from the root's grant down.
pub const HOLDERS: [&str; 4] = ["carol", "dave", "erin", "alice"];

/// The holders of a chain of this many delegations.
pub fn holders(hops: usize) -> &'static [&'static str] {
    &HOLDERS[HOLDERS.len() - 1 - hops..]
}

/// What each hop may reach: a prefix when it ends with a dot, otherwise one subject.
pub fn scopes(hops: usize) -> Vec<&'static str> {
    let prefixes = ["orders.", "orders.eu.", "orders.eu.berlin."];
    [&prefixes[..hops], &[SUBJECT]].concat()
}

/// Whether `scope` reaches `inner`, a subject or another scope.
pub fn reaches(scope: &str, inner: &str) -> bool {
    scope == inner || scope.ends_with('.') && inner.starts_with(scope)
}

/// Text of [`PAYLOAD`] bytes that no other payload has.
pub fn payload() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{number:0>PAYLOAD$}")
}

/// A call as a bus delivers it.
#[derive(Clone, Debug)]
pub struct Wire {
    /// Where it was delivered.
    pub subject: &'static str,
    /// Everything else: the proof of authority, the call and the payload.
    pub bytes: Bytes,
}

/// Whose code refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    /// The library's.
    Library,
    /// Code around the library that its documentation asks for, written here.
    Caller,
}

/// What became of a call.
pub type Verdict = Result<(), By>;

/// Who receives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Who {
    /// Whom every call is meant for.
    Bob,
    /// Somebody else, with the same trust.
    Frank,
}

impl Who {
    pub fn name(self) -> &'static str {
        match self {
            Self::Bob => "bob",
            Self::Frank => "frank",
        }
    }
}

/// What a receiver is and knows.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub who: Who,
    /// Whether hop 1 of alice's chain of three has been revoked.
    pub revoked: bool,
    /// Whether verified chains are kept, where the library or its user can do that.
    pub keeps: bool,
}

impl Setting {
    pub fn of(who: Who) -> Self {
        Self {
            who,
            revoked: false,
            keeps: false,
        }
    }
}

/// A chain of delegations and a call under it, perhaps with something wrong. Whatever is
/// signed is signed by whoever could: a dishonest holder, or a thief of a chain.
#[derive(Clone, Debug)]
pub struct Plan {
    pub scopes: Vec<&'static str>,
    pub subject: &'static str,
    /// The root is a stranger's.
    pub strange_root: bool,
    /// The signature of this hop is not its issuer's.
    pub bad_signature: Option<usize>,
    /// This hop, and so those below, have expired.
    pub expired: Option<usize>,
    /// Mallory calls with alice's chain, and her own key.
    pub stolen: bool,
    /// A bit of the payload changes on the way.
    pub other_payload: bool,
}

impl Plan {
    /// Nothing wrong.
    pub fn honest(hops: usize) -> Self {
        Self {
            scopes: scopes(hops),
            subject: SUBJECT,
            strange_root: false,
            bad_signature: None,
            expired: None,
            stolen: false,
            other_payload: false,
        }
    }

    /// From when until when this hop holds, in seconds since the epoch.
    pub fn window(&self, hop: usize) -> (u64, u64) {
        let start = start();
        match self.expired {
            Some(expired) if hop >= expired => (start - LIFETIME, start - EXPIRED_AGO),
            _ => (start - LIFETIME, start + LIFETIME),
        }
    }
}

/// A library, used as its documentation recommends.
pub trait Peer {
    /// Somebody who verifies calls.
    type Receiver;

    /// Its crate.
    fn name(&self) -> &'static str;

    /// Who keeps a verified chain, so that it need not be verified again; `None` where nobody can.
    fn keeper(&self) -> Option<By>;

    /// Whether callers sign.
    fn signs(&self) -> bool {
        true
    }

    fn receiver(&self, setting: Setting) -> Self::Receiver;

    /// The last delegation of a chain of this many, encoded; what it is made from is at hand.
    fn mint(&self, hops: usize) -> Vec<u8>;

    /// A call by alice to bob under an untouched chain that is at hand.
    fn call(&self, hops: usize) -> Wire;

    /// A call under a chain that is made for it.
    fn forge(&self, plan: &Plan) -> Wire;

    fn verify(&self, receiver: &mut Self::Receiver, wire: &Wire) -> Verdict;
}

/// Seconds since the epoch.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// When this program first asked. What is issued later holds no longer than what is above it.
pub fn start() -> u64 {
    static START: OnceLock<u64> = OnceLock::new();
    *START.get_or_init(now)
}

/// The seed of somebody's key.
pub fn seed(name: &str) -> [u8; 32] {
    crate::forge::Party::named(name).seed
}

/// The tightest frame for libraries that leave it to their user: each part after its length.
pub fn frame(parts: &[&[u8]]) -> Bytes {
    let mut out = Vec::new();
    for part in parts {
        let len = u16::try_from(part.len()).unwrap();
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(part);
    }
    out.into()
}

/// The parts of a frame.
pub fn unframe(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk() {
        let (part, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
        parts.push(part);
        bytes = rest;
    }
    Some(parts)
}

/// The bytes with the last bit changed: of a payload, where it comes last.
pub fn spoil_last(bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    bytes.into()
}

/// A signature with one bit of its scalar changed, so that it stays well-formed.
pub fn spoil_signature(signature: &[u8]) -> [u8; 64] {
    let mut signature: [u8; 64] = signature.try_into().unwrap();
    signature[40] ^= 1;
    signature
}
