//! Why the authority did not do what it was asked to.

use std::path::PathBuf;

use crate::client::home::HomeError;
use crate::files::FileError;
use crate::keyfile::KeyFileError;
use crate::proto::enrol::EnrolRefused;
use crate::proto::identity::AgentId;
use crate::proto::identity::InvalidAgentId;
use crate::proto::identity::KeyGeneration;
use crate::proto::policy::InvalidPolicy;
use crate::proto::rejection::Rejection;
use crate::proto::scope::InvalidScope;

/// Why the authority did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The id or the key is enrolled already.
    #[error("this id or key is enrolled already")]
    Taken,
    /// No agent has this key.
    #[error("no enrolled agent has this key")]
    Unknown,
    /// Nothing was published yet that could be decided by.
    #[error("nothing was published yet")]
    Unpublished,
    /// Only a served mesh has this.
    #[error("the mesh is a static one: its trust root has no timestamp role")]
    Static,
    /// A score over 1000.
    #[error("a score is 0 to 1000")]
    Score,
    /// Verification would refuse it.
    #[error("verification would refuse it: {0}")]
    Refused(#[from] Rejection),
    /// The books do not admit it.
    #[error("the books do not admit it: {0}")]
    Enrolment(#[from] EnrolRefused),
    /// Not an agent id.
    #[error(transparent)]
    AgentId(#[from] InvalidAgentId),
    /// Not a scope.
    #[error(transparent)]
    Scope(#[from] InvalidScope),
    /// Not a policy.
    #[error(transparent)]
    Policy(#[from] InvalidPolicy),
    /// A file holds another key than the one to be stored or used.
    #[error("{path} holds a key of another mesh or agent: choose another directory")]
    OtherKey {
        /// The path.
        path: PathBuf,
    },
    /// The directory is another mesh's.
    #[error("{path} is the trust root of another mesh: choose another directory")]
    OtherMesh {
        /// The path.
        path: PathBuf,
    },
    /// Somebody else saved meanwhile, and would be undone.
    #[error("{path} was changed by another process: open it again and repeat the change")]
    Changed {
        /// The path.
        path: PathBuf,
    },
    /// An agent has several certificates, which these books cannot hold.
    #[error("{path} has more than one certificate of {agent}")]
    Certificates {
        /// The path.
        path: PathBuf,
        /// The agent.
        agent: AgentId,
    },
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key cannot be read or written.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The trust files cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyGeneration),
}
