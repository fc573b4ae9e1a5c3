//! What the verifier service means when it refuses, and what to do: a line for every reason.

use trustmesh::proto::enrol::EnrolRefused;

/// What is known about one reason.
#[derive(Clone, Copy, Debug)]
pub struct Enrolment {
    /// Where it usually comes from.
    pub cause: &'static str,
    /// The one step to try first.
    pub next: &'static str,
}

/// The advice on a reason; only one that is newer than this table has none.
pub fn on(reason: EnrolRefused) -> Option<Enrolment> {
    use EnrolRefused as R;
    let (cause, next) = match reason {
        R::Refused => (
            "the token is of another mesh, or its registrar's signature does not verify",
            "get a token from this mesh: trustmesh join-token",
        ),
        R::TokenExpired => (
            "tokens are short-lived: an hour, unless --ttl says otherwise",
            "get another: trustmesh join-token",
        ),
        R::TokenUsed => (
            "a token admits one agent, once; another key has used it, perhaps somebody else's",
            "see who joined by it (trustmesh agent list); get another: trustmesh join-token",
        ),
        R::TokenRevoked => (
            "the registrar's key, or the agent that asked for the token, was revoked",
            "get a token from somebody in good standing: trustmesh join-token",
        ),
        R::Offer => (
            "an offer lives for ten seconds and counts once; the service may have restarted",
            "ask again",
        ),
        R::Possession => (
            "what signed is not the key to be certified",
            "join with the key that the agent has: trustmesh enroll",
        ),
        R::TokenProof => (
            "what signed is not the token's own key: the token was altered",
            "get another: trustmesh join-token",
        ),
        R::OtherAgent => (
            "the token names the one agent that it is for",
            "join under that id, or get a token for this one: trustmesh join-token --id ID",
        ),
        R::Reserved => (
            "`verifier`, and what is below it, is the service itself",
            "choose another id",
        ),
        R::IdTaken => (
            "an agent of this id has joined, under another key",
            "choose another id; if its key is lost: trustmesh rotate ID --recover --allow CAPABILITY",
        ),
        R::KeyTaken => (
            "the key is some agent's already, or was: keys are never used twice",
            "move the agent's directory away, and let trustmesh enroll make a new key",
        ),
        R::RoleKey => (
            "a role key of the mesh is no agent's key",
            "let trustmesh enroll make a key",
        ),
        R::WeakKey => (
            "the key is one that anybody can sign for",
            "let trustmesh enroll make a key",
        ),
        R::Revoked => (
            "the operator has revoked the agent or its key, for good",
            "ask the operator; another key, or another id, may join",
        ),
        R::Blocked => (
            "policy names the agent or its key in a list",
            "see the policy: trustmesh policy explain",
        ),
        R::NotCurrent => (
            "the agent was renewed or rotated meanwhile, perhaps by another process",
            "look at what is current: trustmesh agent show ID; then ask again",
        ),
        R::Overloaded => (
            "more is asked of the service than it takes",
            "wait a little, and ask again",
        ),
        R::NoGrant => (
            "the grant does not come from the issuer, has ended, or goes beyond the agent's terms",
            "a new one is the operator's to give: trustmesh token issue ID",
        ),
        R::NotYours => (
            "only the key that signed a link can take it back",
            "ask its holder, or the operator: trustmesh revoke link:ID",
        ),
        R::Unproven => (
            "the chain given does not have the link as it was signed",
            "give the chain as it was handed over: trustmesh inspect FILE",
        ),
        R::Quota => (
            "one key can take back so many links a second, and a day",
            "revoke a link further up, and all below it dies: trustmesh revoke link:ID",
        ),
        R::Unavailable => (
            "the books were changed and could not be published; the service goes on trying",
            "look at the server, then ask again: trustmesh check",
        ),
        R::Unsupported => (
            "the service is older than what asks it",
            "use one version everywhere: trustmesh --version",
        ),
        R::Malformed => (
            "what was asked is none of the service's requests",
            "use one version everywhere: trustmesh --version",
        ),
        R::Chain => (
            "a receiver would refuse the chain that was presented",
            "see which link it is: trustmesh inspect CHAIN",
        ),
        R::NotEvidence => (
            "what was reported proves nothing against whoever signed it",
            "look at what was received: trustmesh inspect FILE",
        ),
        _ => return None,
    };
    Some(Enrolment { cause, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_advice() {
        for reason in EnrolRefused::ALL {
            let advice = on(*reason);
            assert!(advice.is_some_and(|a| a.next.len() <= 90), "{reason:?}");
        }
    }
}
