//! What each library checks, found out by trying.

use crate::scene::OUTSIDE;
use crate::scene::Peer;
use crate::scene::Plan;
use crate::scene::Setting;
use crate::scene::Verdict;
use crate::scene::Who;

/// One thing that is wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trial {
    /// The signature of the second delegation is not its issuer's.
    Signature,
    /// The second delegation is wider than the first, and the call needs it to be.
    Wider,
    /// The call is outside alice's scope.
    Outside,
    /// The second delegation has expired.
    Expired,
    /// The grant is a stranger's.
    Root,
    /// The chain is alice's, the call mallory's.
    Stolen,
    /// A bit of the payload changed on the way.
    Payload,
    /// The call was meant for bob, and frank receives it.
    Elsewhere,
    /// The call was received before.
    Again,
    /// The first delegation has been revoked.
    Revoked,
}

impl Trial {
    /// Each with the question it asks.
    pub const ALL: [(Self, &str); 10] = [
        (Self::Signature, "each hop's signature"),
        (Self::Wider, "narrowing at each hop"),
        (Self::Outside, "scope of the call"),
        (Self::Expired, "expiry of each hop"),
        (Self::Root, "root"),
        (Self::Stolen, "holder's key"),
        (Self::Payload, "payload"),
        (Self::Elsewhere, "audience"),
        (Self::Again, "replay"),
        (Self::Revoked, "revocation"),
    ];

    fn plan(self) -> Plan {
        let honest = Plan::honest(3);
        match self {
            Self::Signature => Plan {
                bad_signature: Some(2),
                ..honest
            },
            Self::Wider => Plan {
                scopes: vec!["orders.", "orders.eu.", "orders.us.", OUTSIDE],
                subject: OUTSIDE,
                ..honest
            },
            Self::Outside => Plan {
                subject: OUTSIDE,
                ..honest
            },
            Self::Expired => Plan {
                expired: Some(2),
                ..honest
            },
            Self::Root => Plan {
                strange_root: true,
                ..honest
            },
            Self::Stolen => Plan {
                stolen: true,
                ..honest
            },
            Self::Payload => Plan {
                other_payload: true,
                ..honest
            },
            Self::Elsewhere | Self::Again | Self::Revoked => honest,
        }
    }

    /// What becomes of a call that is wrong in this way and in no other.
    pub fn attempt<P: Peer>(self, peer: &P) -> Verdict {
        // The same made without the fault is accepted, so the fault is what is refused.
        let mut bob = peer.receiver(Setting::of(Who::Bob));
        let honest = peer.forge(&Plan::honest(3));
        assert_eq!(peer.verify(&mut bob, &honest), Ok(()), "{}", peer.name());
        let untouched = peer.call(3);
        assert_eq!(peer.verify(&mut bob, &untouched), Ok(()), "{}", peer.name());

        // A receiver that keeps what it has verified decides like one that does not.
        let verdict = self.put(peer, false);
        assert_eq!(self.put(peer, true), verdict, "{}, {self:?}", peer.name());
        verdict
    }

    fn put<P: Peer>(self, peer: &P, keeps: bool) -> Verdict {
        let mut setting = Setting::of(Who::Bob);
        setting.keeps = keeps;
        match self {
            Self::Elsewhere => setting.who = Who::Frank,
            Self::Revoked => setting.revoked = true,
            _ => {}
        }
        let mut receiver = peer.receiver(setting);
        let wire = match self {
            Self::Elsewhere | Self::Again | Self::Revoked => peer.call(3),
            _ => peer.forge(&self.plan()),
        };
        if self == Self::Again {
            peer.verify(&mut receiver, &wire)?;
        }
        peer.verify(&mut receiver, &wire)
    }
}
