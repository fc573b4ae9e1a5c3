//! Trust files that are read again while a client runs.

use super::Client;
use super::feed::NOTICE_CURRENT;
use super::feed::NOTICE_REFUSED;
use super::home::HomeError;

impl Client {
    /// Reads the trust files of this agent's mesh directory again and moves on to them, as
    /// [`Identity::reload`](super::Identity::reload), and says in the audit what came of it: an
    /// operator who copied a broken policy to a hundred hosts sees where it was refused.
    ///
    /// # Errors
    ///
    /// As [`Home::reload`](super::home::Home::reload): the last good state stays in force.
    pub fn reload_trust(&self) -> Result<(), HomeError> {
        let shared = &self.shared;
        let before = shared.identity.trust.current().epochs();
        if let Err(error) = shared.identity.reload() {
            shared.plane_notice(NOTICE_REFUSED, error.to_string());
            return Err(error);
        }
        let now = shared.identity.trust.current().epochs();
        if now != before {
            let text = format!("policy epoch {}, read from its files", now.policy);
            shared.plane_notice(NOTICE_CURRENT, text);
        }
        Ok(())
    }
}
