//! Why nothing was loaded from a mesh directory.

use std::path::PathBuf;

use super::layout::KEY_FILE;
use super::settings::DEV_VARIABLE;
use super::settings::ROOT_VARIABLE;
use crate::files::FileError;
use crate::keyfile::KeyFileError;
use crate::proto::identity::AgentId;
use crate::proto::identity::InvalidAgentId;
use crate::proto::rejection::Rejection;
use crate::proto::rejection::StaleState;
use crate::proto::rejection::UntrustedRoot;

/// Why nothing was loaded from a mesh directory. The text names the file and one thing to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// An environment variable is missing.
    #[error("{variable} is not set: set it to {meaning}")]
    Unset {
        /// Its name.
        variable: &'static str,
        /// What it stands for.
        meaning: &'static str,
    },
    /// The development switch is neither on nor off.
    #[error("{DEV_VARIABLE} is {found:?}: set it to 1 on a development machine, or unset it")]
    DevSwitch {
        /// What it says.
        found: String,
    },
    /// Not the id of a trust root.
    #[error("{whence} holds no id of a trust root: write the 64 hexadecimal digits of yours")]
    Pin {
        /// Where it stands.
        whence: String,
    },
    /// Two different trust roots are pinned.
    #[error("{ROOT_VARIABLE} and {path} name different trust roots: remove the wrong one")]
    TwoPins {
        /// The file.
        path: PathBuf,
    },
    /// The text is not an agent id.
    #[error("{given:?} names no agent: {why}")]
    Agent {
        /// What was given, as far as 120 characters.
        given: String,
        /// What an id is.
        why: InvalidAgentId,
    },
    /// A directory or file is missing.
    #[error("{path} does not exist: {next}")]
    Absent {
        /// The path.
        path: PathBuf,
        /// What to do.
        next: &'static str,
    },
    /// What was kept of a served mesh's trust state cannot be used, and may be needed to notice a
    /// rollback.
    #[error("{path}: {why}; remove the directory to begin anew from the pinned trust root")]
    Cache {
        /// The path.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The certificate is another agent's.
    #[error("{path} is the certificate of {found}: copy the one of {expected} from the authority")]
    OtherAgent {
        /// The path.
        path: PathBuf,
        /// The agent it is of.
        found: AgentId,
        /// The agent it should be of.
        expected: AgentId,
    },
    /// Certificate and key do not belong together.
    #[error(
        "{path} certifies another key than {KEY_FILE}: restore the two that were made together"
    )]
    OtherKey {
        /// The path of the certificate.
        path: PathBuf,
    },
    /// The registry has no such certificate.
    #[error("{path} is not in the registry: copy the newest trust files from the authority")]
    NotRegistered {
        /// The path of the certificate.
        path: PathBuf,
    },
    /// The file with the login to the nats-server holds none.
    #[error("{path} holds no login: have `trustmesh nats config` write it again")]
    Login {
        /// The path.
        path: PathBuf,
    },
    /// The login is a connection key, which this program cannot use.
    #[error("this program cannot log in with an nkey: build it with the feature `nkeys`")]
    NoNkeys,
    /// What a file says is refused by verification.
    #[error("{path} is refused: {why}; {next}")]
    Refused {
        /// The path.
        path: PathBuf,
        /// Why.
        why: Rejection,
        /// What to do.
        next: &'static str,
    },
}

impl HomeError {
    pub(crate) fn refused(path: PathBuf, why: Rejection) -> Self {
        let next = match why {
            Rejection::UntrustedRoot { reason, .. } => match reason {
                UntrustedRoot::DevMesh => "set TRUSTMESH_DEV=1 if this is a development machine",
                UntrustedRoot::Pin => "restore the trust root that was pinned",
                UntrustedRoot::OtherMesh => "use files of one mesh only",
                _ => "copy it from the authority again",
            },
            Rejection::StaleState { reason } => match reason {
                StaleState::Clock => "try again when the clock is steady",
                _ => "copy the newest trust files from the authority",
            },
            Rejection::NotYetValid { .. } => "compare this machine's clock with the authority's",
            Rejection::Expired { .. } => "ask the authority for a new one",
            Rejection::Revoked { .. } | Rejection::Blocked { .. } => "ask the authority why",
            Rejection::ChainBroken { .. } => "ask the authority for a grant to this agent's key",
            Rejection::ScopeExceeded { .. } => "ask the authority for a grant within policy",
            _ => "copy it from the authority again",
        };
        Self::Refused { path, why, next }
    }
}
