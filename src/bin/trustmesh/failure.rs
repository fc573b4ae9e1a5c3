//! What went wrong, and the exit code that says so.
//!
//! | code | |
//! |---|---|
//! | 0 | done, or accepted |
//! | 1 | a fault of ours, input or output failed, or expectations were not met |
//! | 2 | the command was used wrongly, or its input is unusable |
//! | 3 | the server cannot be reached, or did not answer in time |
//! | 4 | a configuration or key file is bad |
//! | 10–19 | refused: see [`class_code`] |
//! | 20, 21 | the audit was tampered with, or is incomplete |

use std::fmt;

use serde::Serialize;
use trustmesh::Denied;
use trustmesh::bus;
use trustmesh::client::FeedError;

use trustmesh::client::enrol::EnrolError;
use trustmesh::client::home::HomeError;
use trustmesh::client::plane::PlaneError;
use trustmesh::error::ConnectError;
use trustmesh::error::HandshakeError;
use trustmesh::error::NoAnswer;
use trustmesh::error::RefusedByPeer;
use trustmesh::keyfile::KeyFileError;
use trustmesh::proto::chain::Chain;
use trustmesh::proto::enrol::EnrolRefused;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::trust::TrustState;
use trustmesh::services::authority::AuthorityError;

use crate::output::BAD;
use crate::output::DIM;
use crate::output::styled;
use crate::text;

/// A fault of ours, or of input and output.
pub const INTERNAL: u8 = 1;
/// Used wrongly.
pub const USAGE: u8 = 2;
/// No server, or no answer.
pub const UNREACHABLE: u8 = 3;
/// A bad configuration or key file.
pub const CONFIG: u8 = 4;

/// The exit code of a refusal.
pub fn class_code(class: Class) -> u8 {
    match class {
        Class::PolicyDenied | Class::Blocked | Class::HandshakeFailed => 10,
        Class::ScopeExceeded
        | Class::DepthExceeded
        | Class::WrongAudience
        | Class::SubjectMismatch
        | Class::UnexpectedReply => 11,
        Class::Expired | Class::NotYetValid => 12,
        Class::Revoked => 13,
        Class::BadSignature | Class::ChainBroken | Class::WeakKey | Class::KeyMismatch => 14,
        Class::UntrustedRoot | Class::UnknownAgent => 15,
        Class::Replay => 16,
        Class::Malformed | Class::TooLarge | Class::UnsupportedVersion => 17,
        Class::TrustTooLow => 18,
        Class::StaleState | Class::Overloaded | Class::AuditUnavailable => 19,
        // `Class` may grow: what is not known here is a fault of ours.
        _ => INTERNAL,
    }
}

/// The exit code of a refusal by the verifier service.
pub fn enrol_code(reason: EnrolRefused) -> u8 {
    let class = match reason {
        EnrolRefused::TokenExpired => Class::Expired,
        EnrolRefused::TokenUsed => Class::Replay,
        EnrolRefused::TokenRevoked | EnrolRefused::Revoked => Class::Revoked,
        EnrolRefused::Possession | EnrolRefused::TokenProof | EnrolRefused::Unproven => {
            Class::BadSignature
        }
        EnrolRefused::WeakKey | EnrolRefused::RoleKey => Class::WeakKey,
        EnrolRefused::KeyTaken => Class::KeyMismatch,
        EnrolRefused::NoGrant | EnrolRefused::NotYours => Class::ScopeExceeded,
        EnrolRefused::Overloaded | EnrolRefused::Quota | EnrolRefused::Unavailable => {
            Class::Overloaded
        }
        EnrolRefused::Malformed | EnrolRefused::Unsupported => Class::Malformed,
        // Who asks is not admitted: no more is said, or id and token are somebody else's.
        _ => Class::PolicyDenied,
    };
    class_code(class)
}

/// What a command could not do, with everything a person needs to go on.
#[derive(Debug)]
pub struct Failure {
    what: String,
    code: u8,
    rejection: Option<Rejection>,
    facts: Vec<(&'static str, String)>,
    next: Option<String>,
}

impl Failure {
    fn new(code: u8, what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            code,
            rejection: None,
            facts: Vec::new(),
            next: None,
        }
    }

    /// The command was used wrongly, or its input is unusable.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(USAGE, what)
    }

    /// A configuration or key file is bad.
    pub fn config(what: impl Into<String>) -> Self {
        Self::new(CONFIG, what)
    }

    /// The server cannot be reached, or nothing came in time.
    pub fn unreachable(what: impl Into<String>) -> Self {
        Self::new(UNREACHABLE, what)
    }

    /// What another process, which did the work, could not do.
    pub fn relayed(code: u8, what: impl Into<String>) -> Self {
        Self::new(code, what)
    }

    /// The verifier service refuses.
    pub fn enrolment(reason: EnrolRefused) -> Self {
        let what = format!("the verifier refuses: {reason}");
        Self::new(enrol_code(reason), what).next(format!("trustmesh why enrol-{}", reason.code()))
    }

    /// Verification refuses, or would.
    pub fn refused(rejection: Rejection) -> Self {
        Self {
            rejection: Some(rejection),
            next: Some(format!("trustmesh why {}", rejection.code())),
            ..Self::new(class_code(rejection.class()), verdict(&rejection))
        }
    }

    /// Verification refuses an agent somebody named: it may not even exist.
    pub fn about_agent(rejection: Rejection, asked: impl Into<String>) -> Self {
        let mut failure = Self::refused(rejection).fact("asked", asked);
        if matches!(rejection, Rejection::UnknownAgent { .. }) {
            let (class, code) = (rejection.class().name(), rejection.code());
            failure.what = format!("{class} {code}: no agent of this name is enrolled");
            failure.next = Some("trustmesh agent list".to_owned());
        }
        failure
    }

    /// Adds a fact: what was asked, what was held.
    #[must_use]
    pub fn fact(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.facts.push((name, text.into()));
        self
    }

    /// Adds what a chain holds, link by link.
    #[must_use]
    pub fn holding(mut self, chain: &Chain, trust: &TrustState) -> Self {
        for (index, link) in chain.links().iter().enumerate() {
            let holder = link.holder();
            let who = trust.name_of(&holder);
            let scope = link.scope().to_strings();
            let until = text::utc(link.validity().until());
            let (scope, below) = (scope.join(" "), text::may_follow(link.remaining()));
            let text = format!("link {index}, {who}: {scope}, until {until}, {below}");
            self.facts.push(("held", text));
        }
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn next(mut self, command: impl Into<String>) -> Self {
        self.next = Some(command.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

/// Class, code and reason of a refusal, in one line.
pub fn verdict(rejection: &Rejection) -> String {
    let text = rejection.to_string();
    let reason = text.split_once(": ").map_or("", |(_, reason)| reason);
    format!(
        "{} {}: {}",
        rejection.class().name(),
        rejection.code(),
        text::readable(reason)
    )
}

/// The exit code for an error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if is_closed_pipe(error) {
        // Whoever read the output has seen enough.
        return 0;
    }
    error.chain().find_map(code_of).unwrap_or(INTERNAL)
}

/// Whether the reader of our output went away, as `head` does.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(failure.code);
    }
    if let Some(rejection) = rejection_of(cause) {
        return Some(class_code(rejection.class()));
    }
    if cause.is::<HomeError>() || cause.is::<KeyFileError>() {
        return Some(CONFIG);
    }
    if cause.is::<NoAnswer>() || matches!(cause.downcast_ref(), Some(HandshakeError::TimedOut)) {
        return Some(UNREACHABLE);
    }
    if cause.is::<RefusedByPeer>() {
        return Some(class_code(Class::PolicyDenied));
    }
    if let Some(code) = code_of_service(cause) {
        return Some(code);
    }
    match cause.downcast_ref::<AuthorityError>() {
        Some(AuthorityError::Enrolment(reason)) => return Some(enrol_code(*reason)),
        Some(
            AuthorityError::Taken
            | AuthorityError::Unknown
            | AuthorityError::Score
            | AuthorityError::AgentId(_)
            | AuthorityError::Scope(_)
            | AuthorityError::Policy(_),
        ) => return Some(USAGE),
        Some(_) => return Some(CONFIG),
        None => {}
    }
    let from_bus = cause.is::<bus::ConnectError>()
        || cause.is::<bus::RequestError>()
        || cause.is::<bus::PublishError>()
        || cause.is::<bus::SubscribeError>()
        || cause.is::<bus::FlushError>();
    from_bus
        .then_some(UNREACHABLE)
        // A refusal of ours inside says more.
        .filter(|_| !has_refusal_below(cause))
}

/// The exit code for what the verifier service and the trust state on the bus did not give.
fn code_of_service(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    match cause.downcast_ref::<PlaneError>() {
        Some(PlaneError::Refused(reason)) => return Some(enrol_code(*reason)),
        Some(PlaneError::Denied(rejection)) => return Some(class_code(rejection.class())),
        Some(PlaneError::Store(_)) => return Some(CONFIG),
        Some(_) => return Some(UNREACHABLE),
        None => {}
    }
    match cause.downcast_ref::<EnrolError>() {
        Some(EnrolError::Refused(reason)) => return Some(enrol_code(*reason)),
        Some(EnrolError::Token(rejection)) => return Some(class_code(rejection.class())),
        Some(EnrolError::Root) => return Some(class_code(Class::UntrustedRoot)),
        Some(_) => return Some(UNREACHABLE),
        None => {}
    }
    match cause.downcast_ref::<FeedError>()? {
        FeedError::Refused(rejection) => Some(class_code(rejection.class())),
        FeedError::Cache(_) => Some(CONFIG),
        FeedError::NoGrant => Some(class_code(Class::ScopeExceeded)),
        _ => Some(UNREACHABLE),
    }
}

fn has_refusal_below(cause: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = cause.source();
    while let Some(source) = next {
        if rejection_of(source).is_some() || source.is::<RefusedByPeer>() {
            return true;
        }
        next = source.source();
    }
    false
}

/// The refusal an error stands for by itself.
fn rejection_of(cause: &(dyn std::error::Error + 'static)) -> Option<Rejection> {
    if let Some(Denied(rejection)) = cause.downcast_ref() {
        return Some(*rejection);
    }
    if let Some(HomeError::Refused { why, .. }) = cause.downcast_ref() {
        return Some(*why);
    }
    if let Some(ConnectError::Identity(rejection)) = cause.downcast_ref() {
        return Some(*rejection);
    }
    cause.downcast_ref::<Rejection>().copied()
}

/// An error as it is printed.
#[derive(Debug, Serialize)]
pub struct Report {
    pub error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hop: Option<u8>,
    facts: Vec<(&'static str, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Report {
    /// Everything known about an error.
    pub fn of(error: &anyhow::Error) -> Self {
        let failure = error.chain().find_map(|c| c.downcast_ref::<Failure>());
        let rejection = failure
            .and_then(|failure| failure.rejection)
            .or_else(|| error.chain().find_map(rejection_of));
        let (said, remedy) = said_and_remedy(error);
        let next = failure
            .and_then(|failure| failure.next.clone())
            .or(remedy)
            .or_else(|| rejection.map(|r| format!("trustmesh why {}", r.code())))
            .or_else(|| refused_enrolment(error))
            .or_else(|| advice(error));
        Self {
            error: said,
            class: rejection.map(|r| r.class().name()),
            code: rejection.map(|r| r.code()),
            hop: rejection.and_then(|r| r.hop()),
            facts: failure.map(|f| f.facts.clone()).unwrap_or_default(),
            next,
        }
    }
}

/// The messages of an error and its causes, without those that repeat the one before.
fn said_once(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let said = cause.to_string();
        if text.is_empty() {
            text = said;
        } else if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
    }
    text
}

/// What an error says, and what it says to do. The library's errors about files say both.
fn said_and_remedy(error: &anyhow::Error) -> (String, Option<String>) {
    let said = said_once(error);
    let of_key =
        |error: &KeyFileError| !matches!(error, KeyFileError::Io { .. } | KeyFileError::Key { .. });
    let says_both = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref() {
        Some(HomeError::Absent { .. } | HomeError::OtherAgent { .. }) => true,
        Some(HomeError::Key(error)) => of_key(error),
        _ => cause.downcast_ref().is_some_and(of_key),
    };
    if error.chain().any(says_both)
        && let Some((said, remedy)) = said.split_once(": ")
    {
        return (said.to_owned(), Some(remedy.to_owned()));
    }
    (said, None)
}

/// The command that explains what the books do not admit.
fn refused_enrolment(error: &anyhow::Error) -> Option<String> {
    let mut causes = error.chain();
    let reason = causes.find_map(|cause| match cause.downcast_ref() {
        Some(AuthorityError::Enrolment(reason)) => Some(*reason),
        _ => cause.downcast_ref::<EnrolRefused>().copied(),
    })?;
    Some(format!("trustmesh why enrol-{}", reason.code()))
}

fn advice(error: &anyhow::Error) -> Option<String> {
    (exit_code(error) == UNREACHABLE)
        .then(|| "trustmesh check tells what can be reached".to_owned())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", styled(BAD, "error:"), self.error)?;
        let mut line = |name: &str, text: &str| {
            let name = styled(DIM, format!("{name:>8}:"));
            write!(f, "\n{name} {text}")
        };
        for (name, text) in &self.facts {
            line(name, text)?;
        }
        if let Some(hop) = self.hop {
            line("failed", &format!("link {hop}"))?;
        }
        if let Some(next) = &self.next {
            line("next", next)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_an_exit_code_of_its_own_kind() {
        for class in Class::ALL {
            let code = class_code(class);
            let internal = class == Class::Internal;
            assert_eq!(code == INTERNAL, internal, "{class:?}");
            assert!(internal || (10..=19).contains(&code), "{class:?}");
        }
    }
}
