//! Parsed bus addresses (protocol §5): [`Subject`] is one address, [`SubjectPattern`] a set of
//! them.
//!
//! The two are different types so that neither can stand in for the other. A server delivers a
//! publish to the literal text `tasks.*`; were such a text ever read as a pattern, a message could
//! widen the permission it is checked against.
//!
//! Tokens are compared byte for byte, as nats-server does. There is one deliberate difference: a
//! wildcard in first position never covers a first token that starts with `$` or `_`. Those name
//! the bus's own machinery (`$SYS`, `$JS`, `$KV`, `_INBOX`), so they are granted by name or not at
//! all.

use std::fmt;

use bytes::Bytes;

use super::limits::SUBJECT_MAX;
use super::limits::SUBJECT_TOKENS_MAX;

/// A concrete bus address, for example `orders.eu.created` (protocol §5.1).
///
/// Holding one tells you that the text is at most [`SUBJECT_MAX`] bytes and [`SUBJECT_TOKENS_MAX`]
/// tokens joined by `.`, each at least one byte of printable ASCII (`0x21..=0x7E`) without `*` and
/// `>`. It therefore has no blank, line break, wildcard or empty token, and is safe in a protocol
/// line and a log line. Case matters.
///
/// Cloning is cheap. One made by [`from_bytes`](Self::from_bytes) shares, and keeps alive, the
/// buffer it was sliced from.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Subject(Bytes);

impl Subject {
    /// Parses an address.
    ///
    /// # Errors
    ///
    /// [`InvalidSubject`], for the first fault in the text: [`Empty`](InvalidSubject::Empty),
    /// [`TooLong`](InvalidSubject::TooLong), [`TooManyTokens`](InvalidSubject::TooManyTokens),
    /// [`EmptyToken`](InvalidSubject::EmptyToken), [`Character`](InvalidSubject::Character), or for
    /// a wildcard anywhere [`Wildcard`](InvalidSubject::Wildcard).
    ///
    /// ```
    /// use trustmesh::proto::subject::Subject;
    ///
    /// assert_eq!(Subject::parse("orders.eu.created")?.tokens().count(), 3);
    /// assert!(Subject::parse("orders.*").is_err());
    /// # Ok::<(), trustmesh::proto::subject::InvalidSubject>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, InvalidSubject> {
        check(text.as_bytes(), Wildcards::Refused)?;
        Ok(Self(Bytes::copy_from_slice(text.as_bytes())))
    }

    /// Parses an address without copying it.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn from_bytes(bytes: Bytes) -> Result<Self, InvalidSubject> {
        check(&bytes, Wildcards::Refused)?;
        Ok(Self(bytes))
    }

    /// The address as text.
    pub fn as_str(&self) -> &str {
        ascii(&self.0)
    }

    /// The address as bytes, to be cloned rather than copied.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The tokens between the dots, at least one.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.as_str().split('.')
    }
}

/// A set of bus addresses, for example `orders.*.created` or `orders.>` (protocol §5.1).
///
/// Holding one tells you that the text obeys the grammar of [`Subject`], except that a whole token
/// may be `*` (exactly one token) and the last may be `>` (one token or more). A pattern without
/// wildcards is the set of one address.
///
/// [`contains`](Self::contains) and [`overlaps`](Self::overlaps) are exact for addresses of any
/// length. Where [`SUBJECT_MAX`] or [`SUBJECT_TOKENS_MAX`] would rule addresses out, they still
/// count: that can only refuse a containment and report an overlap, which is the safe side of both.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SubjectPattern(Bytes);

impl SubjectPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    ///
    /// As [`Subject::parse`], but [`InvalidSubject::Wildcard`] only for a wildcard that is part of
    /// a token, or a `>` before the last token.
    ///
    /// ```
    /// use trustmesh::proto::subject::Subject;
    /// use trustmesh::proto::subject::SubjectPattern;
    ///
    /// let orders = SubjectPattern::parse("orders.>")?;
    /// assert!(orders.matches(&Subject::parse("orders.eu.created")?));
    /// assert!(orders.contains(&SubjectPattern::parse("orders.*")?));
    /// assert!(!SubjectPattern::parse(">")?.matches(&Subject::parse("$SYS.ACCOUNT")?));
    /// # Ok::<(), trustmesh::proto::subject::InvalidSubject>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, InvalidSubject> {
        check(text.as_bytes(), Wildcards::Allowed)?;
        Ok(Self(Bytes::copy_from_slice(text.as_bytes())))
    }

    /// Parses a pattern without copying it.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn from_bytes(bytes: Bytes) -> Result<Self, InvalidSubject> {
        check(&bytes, Wildcards::Allowed)?;
        Ok(Self(bytes))
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        ascii(&self.0)
    }

    /// The pattern as bytes, to be cloned rather than copied.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Whether the address is in the set (protocol §5.2). A wildcard in first position covers no
    /// token that begins with `$` or `_`.
    #[must_use]
    pub fn matches(&self, subject: &Subject) -> bool {
        // An address is the pattern of just itself, so membership is containment.
        contains(&self.0, &subject.0)
    }

    /// Whether every address of `other` is in the set (protocol §5.2). This is what decides whether
    /// a delegation narrows and whether a subscription is covered.
    #[must_use]
    pub fn contains(&self, other: &SubjectPattern) -> bool {
        contains(&self.0, &other.0)
    }

    /// Whether some address is in both sets (protocol §5.2). Symmetric. This is how a deny rule
    /// meets a subscription.
    #[must_use]
    pub fn overlaps(&self, other: &SubjectPattern) -> bool {
        overlaps(&self.0, &other.0)
    }

    /// The one address of a pattern without wildcards; `None` when it has any.
    pub fn literal(&self) -> Option<Subject> {
        Subject::from_bytes(self.0.clone()).ok()
    }
}

impl From<&Subject> for SubjectPattern {
    fn from(subject: &Subject) -> Self {
        Self(subject.0.clone())
    }
}

impl From<Subject> for SubjectPattern {
    fn from(subject: Subject) -> Self {
        Self(subject.0)
    }
}

macro_rules! print_as_text {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}

print_as_text!(Subject, SubjectPattern);

/// Why a text is no subject, or no pattern (protocol §5.1). It never repeats the text, which a peer
/// may have chosen to confuse whoever reads the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSubject {
    /// No text at all.
    #[error("a subject is not empty")]
    Empty,
    /// More than [`SUBJECT_MAX`] bytes.
    #[error("a subject is at most {SUBJECT_MAX} bytes, not {len}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// More than [`SUBJECT_TOKENS_MAX`] tokens.
    #[error("a subject has at most {SUBJECT_TOKENS_MAX} tokens")]
    TooManyTokens,
    /// Nothing before, between or after dots.
    #[error("a token of the subject is empty")]
    EmptyToken,
    /// A byte outside printable ASCII, for example a blank or a line break.
    #[error("byte {byte:#04x} at offset {at} may not stand in a subject")]
    Character {
        /// The byte.
        byte: u8,
        /// Its offset.
        at: usize,
    },
    /// A `*` or `>` in a concrete subject, or in a pattern other than as a whole token, or a `>`
    /// that is not the last token.
    #[error("the wildcard at offset {at} may not stand there")]
    Wildcard {
        /// Its offset.
        at: usize,
    },
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Wildcards {
    Allowed,
    Refused,
}

/// Checks the grammar in one pass, after the length has bounded it.
fn check(text: &[u8], wildcards: Wildcards) -> Result<(), InvalidSubject> {
    if text.is_empty() {
        return Err(InvalidSubject::Empty);
    }
    if text.len() > SUBJECT_MAX {
        return Err(InvalidSubject::TooLong { len: text.len() });
    }
    let mut start = 0;
    for (index, token) in tokens(text).enumerate() {
        if index == SUBJECT_TOKENS_MAX {
            return Err(InvalidSubject::TooManyTokens);
        }
        let end = start + token.len();
        let whole = wildcards == Wildcards::Allowed
            && (token == b"*" || token == b">" && end == text.len());
        if !whole {
            check_literal(token, start)?;
        }
        start = end + 1;
    }
    Ok(())
}

fn check_literal(token: &[u8], start: usize) -> Result<(), InvalidSubject> {
    if token.is_empty() {
        return Err(InvalidSubject::EmptyToken);
    }
    for (offset, &byte) in token.iter().enumerate() {
        let at = start + offset;
        match byte {
            b'*' | b'>' => return Err(InvalidSubject::Wildcard { at }),
            b'!'..=b'~' => {}
            _ => return Err(InvalidSubject::Character { byte, at }),
        }
    }
    Ok(())
}

/// Whether every address of `inner` is in `outer`. Both are checked texts.
fn contains(outer: &[u8], inner: &[u8]) -> bool {
    let (mut outer, mut inner) = (tokens(outer), tokens(inner));
    let mut first = true;
    loop {
        match (outer.next(), inner.next()) {
            (None, None) => return true,
            (Some(b">"), Some(token)) => return !(first && is_reserved(token)),
            // `>` stands for one token as well as for two, and nothing that begins with `*`
            // covers both: `*` is one token only, `*.…` two or more.
            (Some(b"*"), Some(b">")) => return false,
            (Some(b"*"), Some(token)) if !(first && is_reserved(token)) => {}
            (Some(outer), Some(inner)) if outer == inner => {}
            _ => return false,
        }
        first = false;
    }
}

/// Whether some address is in both. Both are checked texts.
fn overlaps(left: &[u8], right: &[u8]) -> bool {
    let (mut left, mut right) = (tokens(left), tokens(right));
    let mut first = true;
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(b">"), Some(token)) | (Some(token), Some(b">")) => {
                return !(first && is_reserved(token));
            }
            (Some(b"*"), Some(token)) | (Some(token), Some(b"*"))
                if !(first && is_reserved(token)) => {}
            (Some(left), Some(right)) if left == right => {}
            _ => return false,
        }
        first = false;
    }
}

/// Whether a first token is one that no wildcard covers.
fn is_reserved(token: &[u8]) -> bool {
    matches!(token, [b'$' | b'_', ..])
}

fn tokens(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'.')
}

/// The text of checked bytes.
fn ascii(checked: &[u8]) -> &str {
    // `check` admits ASCII only, so the default is never taken.
    std::str::from_utf8(checked).unwrap_or_default()
}

#[cfg(test)]
#[path = "subject_tests.rs"]
mod tests;
