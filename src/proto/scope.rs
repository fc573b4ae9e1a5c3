//! What may be done: actions, capabilities and the scope of one link (protocol §6).
//!
//! Two questions are asked of a scope. *Does it cover this action on this subject?*, for every
//! link of a chain, decides a message. *Is it contained in the scope above?* refuses a chain that
//! widens anything, when it is minted and when it is received. A mistake in the second cannot
//! escalate: whatever a child claims, every ancestor must cover the message as well.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::Serialize;

use super::identity::KeyBytes;
use super::limits::CAPABILITIES_MAX;
use super::limits::CONSTRAINT_VALUES_MAX;
use super::limits::QUEUE_GROUP_MAX;
use super::limits::SUBJECT_MAX;
use super::names::CONSTRAINT_GROUPS;
use super::names::CONSTRAINT_RECIPIENTS;
use super::rejection::Malformed;
use super::rejection::Rejection;
use super::rejection::ScopeExceeded;
use super::subject::Subject;
use super::subject::SubjectPattern;
use super::wire::Reader;
use super::wire::bin;

/// One thing an agent can do with a subject (protocol §6.1). The number is its bit on the wire.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
#[repr(u8)]
pub enum Action {
    /// Publish without asking for an answer.
    Publish = 1,
    /// Subscribe.
    Subscribe = 2,
    /// Publish and ask for an answer.
    Request = 4,
    /// Answer requests.
    Serve = 8,
    /// Hand the capability on, narrowed.
    Delegate = 32,
}

impl Action {
    const NAMED: [(Self, &'static str); 5] = [
        (Self::Publish, "pub"),
        (Self::Subscribe, "sub"),
        (Self::Request, "req"),
        (Self::Serve, "serve"),
        (Self::Delegate, "delegate"),
    ];

    /// The short name used in capability text and audit events: `pub`, `sub`, `req`, `serve`,
    /// `delegate`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publish => "pub",
            Self::Subscribe => "sub",
            Self::Request => "req",
            Self::Serve => "serve",
            Self::Delegate => "delegate",
        }
    }

    /// The action with this short name; `None` for any other text, in whatever case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMED
            .iter()
            .find(|(_, n)| *n == name)
            .map(|(action, _)| *action)
    }
}

/// A set of actions (protocol §6.1). Holding one tells you that it has no unassigned bit.
///
/// It prints as the names joined by `+`. The default is the empty set, which no link may hold.
///
/// ```
/// use trustmesh::proto::scope::Action;
/// use trustmesh::proto::scope::Actions;
///
/// let both = Actions::default().with(Action::Request).with(Action::Delegate);
/// assert_eq!(both.to_string(), "req+delegate");
/// assert_eq!(Actions::from_bits(16), None); // reserved
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Actions(u8);

impl Actions {
    const ALL: u8 = 1 | 2 | 4 | 8 | 32;

    /// The set with these bits, or `None` when it is empty or has an unassigned bit: 16, 64 or 128.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits != 0 && bits & !Self::ALL == 0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// The set as bits, the sum of its actions' numbers.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// This set and `action`.
    #[must_use]
    pub const fn with(self, action: Action) -> Self {
        Self(self.0 | action as u8)
    }

    /// Whether `action` is in the set.
    pub const fn has(self, action: Action) -> bool {
        self.0 & action as u8 != 0
    }

    /// Whether every action of `other` is in the set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (action, name) in Action::NAMED {
            if self.has(action) {
                f.write_str(if first { "" } else { "+" })?;
                f.write_str(name)?;
                first = false;
            }
        }
        Ok(())
    }
}

/// Actions on the subjects of a pattern, possibly constrained (protocol §6.2).
///
/// As text: `req+delegate:store.docs.>`. Constraints are not part of that text; they are added with
/// [`in_groups`](Self::in_groups) and [`to`](Self::to).
///
/// ```
/// use trustmesh::proto::scope::Capability;
///
/// let broad: Capability = "req+delegate:store.>".parse()?;
/// let narrow: Capability = "req:store.docs.*".parse()?;
/// assert!(broad.may_delegate(&narrow));
/// assert!(!narrow.may_delegate(&broad)); // wider, and without DELEGATE
/// let member = "sub:jobs".parse::<Capability>()?.in_groups(["workers"])?;
/// assert_eq!(member.to_string(), "sub:jobs in workers");
/// # Ok::<(), trustmesh::proto::scope::InvalidScope>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Capability {
    actions: Actions,
    pattern: SubjectPattern,
    groups: Option<Vec<String>>,
    recipients: Option<Vec<KeyBytes>>,
}

impl Capability {
    /// A capability without constraints. An empty set of actions is refused where the link is made.
    pub fn new(actions: Actions, pattern: SubjectPattern) -> Self {
        Self {
            actions,
            pattern,
            groups: None,
            recipients: None,
        }
    }

    /// Allows subscribing only as a member of these queue groups, in place of any given before.
    /// Order and repetitions do not matter.
    ///
    /// # Errors
    ///
    /// [`InvalidScope::Constraint`] unless there are 1 to 16 distinct names, each 1 to
    /// [`QUEUE_GROUP_MAX`] bytes of printable ASCII without blanks.
    pub fn in_groups<S: Into<String>>(
        mut self,
        groups: impl IntoIterator<Item = S>,
    ) -> Result<Self, InvalidScope> {
        let mut groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        groups.sort();
        groups.dedup();
        let named = groups.iter().all(|group| group_is_valid(group));
        if groups.is_empty() || groups.len() > CONSTRAINT_VALUES_MAX || !named {
            return Err(InvalidScope::Constraint);
        }
        self.groups = Some(groups);
        Ok(self)
    }

    /// Allows sending only messages that name one of these keys as their audience, in place of any
    /// given before (protocol §6.3). Order and repetitions do not matter.
    ///
    /// # Errors
    ///
    /// [`InvalidScope::Constraint`] unless there are 1 to 16 distinct keys.
    pub fn to(
        mut self,
        recipients: impl IntoIterator<Item = KeyBytes>,
    ) -> Result<Self, InvalidScope> {
        let mut recipients: Vec<KeyBytes> = recipients.into_iter().collect();
        recipients.sort();
        recipients.dedup();
        if recipients.is_empty() || recipients.len() > CONSTRAINT_VALUES_MAX {
            return Err(InvalidScope::Constraint);
        }
        self.recipients = Some(recipients);
        Ok(self)
    }

    /// The actions it allows.
    pub fn actions(&self) -> Actions {
        self.actions
    }

    /// The subjects it allows them on.
    pub fn pattern(&self) -> &SubjectPattern {
        &self.pattern
    }

    /// The queue groups a subscription has to join, sorted; `None` when that is left open.
    pub fn groups(&self) -> Option<&[String]> {
        self.groups.as_deref()
    }

    /// Whether all that `child` allows is allowed here too, and may be handed on (protocol §6.5):
    /// this has DELEGATE and every action of `child`, its pattern contains the child's, and `child`
    /// keeps every constraint at least as tight.
    pub fn may_delegate(&self, child: &Self) -> bool {
        self.actions.has(Action::Delegate) && self.allows(child)
    }

    /// Whether all that `child` allows is allowed here too, handing on included.
    pub(crate) fn allows(&self, child: &Self) -> bool {
        self.actions.contains(child.actions)
            && self.pattern.contains(&child.pattern)
            && narrows(self.groups.as_deref(), child.groups.as_deref())
            && narrows(self.recipients.as_deref(), child.recipients.as_deref())
    }
}

/// A constraint narrows when the values it leaves are among those the parent left. An absent
/// constraint leaves everything, so a child may add one and never drop one.
fn narrows<T: Ord>(parent: Option<&[T]>, child: Option<&[T]>) -> bool {
    match (parent, child) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(parent), Some(child)) => child.iter().all(|v| parent.binary_search(v).is_ok()),
    }
}

/// Whether `group` can name a queue group: printable ASCII, at most [`QUEUE_GROUP_MAX`] bytes.
pub(crate) fn group_is_valid(group: &str) -> bool {
    (1..=QUEUE_GROUP_MAX).contains(&group.len()) && group.bytes().all(|b| b.is_ascii_graphic())
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.actions, self.pattern.as_str())?;
        if let Some(groups) = &self.groups {
            write!(f, " in {}", groups.join(","))?;
        }
        if let Some(recipients) = &self.recipients {
            write!(f, " to {} key(s)", recipients.len())?;
        }
        Ok(())
    }
}

impl FromStr for Capability {
    type Err = InvalidScope;

    /// Reads `action[+action…]:pattern`; a comma joins actions as well.
    ///
    /// # Errors
    ///
    /// [`InvalidScope::Form`] without a colon, [`InvalidScope::Action`] or
    /// [`InvalidScope::Pattern`] for what stands before or after it.
    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        let (names, pattern) = text.split_once(':').ok_or(InvalidScope::Form)?;
        let mut actions = Actions::default();
        for name in names.split(['+', ',']) {
            actions = actions.with(Action::from_name(name).ok_or(InvalidScope::Action)?);
        }
        let pattern = SubjectPattern::parse(pattern).map_err(|_| InvalidScope::Pattern)?;
        Ok(Self::new(actions, pattern))
    }
}

/// Why text or values are no capability.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidScope {
    /// Not of the form `action[+action…]:pattern`.
    #[error("a capability is written action[+action…]:pattern, for example req+delegate:store.>")]
    Form,
    /// Not the name of an action.
    #[error("the actions are pub, sub, req, serve and delegate")]
    Action,
    /// Not a subject pattern.
    #[error("not a subject pattern")]
    Pattern,
    /// An empty, over-long or unusable constraint.
    #[error("a constraint names 1 to 16 printable values")]
    Constraint,
    /// More than 16 capabilities.
    #[error("a link holds at most 16 capabilities")]
    TooMany,
}

/// What a message needs a chain to cover.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need<'a> {
    pub(crate) action: Action,
    pub(crate) subject: &'a Subject,
    pub(crate) audience: Option<&'a KeyBytes>,
}

/// What a subscription needs a chain to cover.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SubscribeNeed<'a> {
    pub(crate) pattern: &'a SubjectPattern,
    pub(crate) group: Option<&'a str>,
}

/// The capabilities of one link (protocol §6.2), at most [`CAPABILITIES_MAX`]. An empty scope
/// authorises nothing.
///
/// ```
/// use trustmesh::proto::scope::Scope;
///
/// let planner = Scope::parse(["req+delegate:store.docs.>", "pub:log.planner"])?;
/// let reader = Scope::parse(["req:store.docs.read"])?;
/// assert!(planner.may_delegate(&reader));
/// assert!(!planner.may_delegate(&Scope::parse(["pub:log.planner"])?)); // may not be handed on
/// # Ok::<(), trustmesh::proto::scope::InvalidScope>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Scope(Vec<Capability>);

impl Scope {
    /// A scope of these capabilities, in this order.
    ///
    /// # Errors
    ///
    /// [`InvalidScope::TooMany`] for more than [`CAPABILITIES_MAX`].
    pub fn new(capabilities: Vec<Capability>) -> Result<Self, InvalidScope> {
        if capabilities.len() > CAPABILITIES_MAX {
            return Err(InvalidScope::TooMany);
        }
        Ok(Self(capabilities))
    }

    /// Reads capabilities as text.
    ///
    /// # Errors
    ///
    /// As the parsing of [`Capability`], and [`InvalidScope::TooMany`].
    ///
    /// ```
    /// use trustmesh::proto::scope::Scope;
    ///
    /// let scope = Scope::parse(["req+delegate:store.docs.>", "pub:log.planner"])?;
    /// assert_eq!(scope.capabilities().len(), 2);
    /// # Ok::<(), trustmesh::proto::scope::InvalidScope>(())
    /// ```
    pub fn parse<S: AsRef<str>>(
        capabilities: impl IntoIterator<Item = S>,
    ) -> Result<Self, InvalidScope> {
        let parsed: Result<Vec<_>, _> = capabilities
            .into_iter()
            .map(|text| text.as_ref().parse())
            .collect();
        Self::new(parsed?)
    }

    /// The capabilities, in the order they were given or signed in.
    pub fn capabilities(&self) -> &[Capability] {
        &self.0
    }

    /// The capabilities as text (protocol §6.6), in their order.
    ///
    /// ```
    /// use trustmesh::proto::scope::Scope;
    ///
    /// let scope = Scope::parse(["delegate+req:store.>"])?;
    /// assert_eq!(scope.to_strings(), ["req+delegate:store.>"]);
    /// # Ok::<(), trustmesh::proto::scope::InvalidScope>(())
    /// ```
    pub fn to_strings(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// Whether `child` is contained in this scope (protocol §6.5): each of its capabilities [may be
    /// handed on](Capability::may_delegate) under one of these. An empty child is contained in
    /// everything.
    pub fn may_delegate(&self, child: &Self) -> bool {
        child
            .0
            .iter()
            .all(|c| self.0.iter().any(|parent| parent.may_delegate(c)))
    }

    /// Whether each capability of `child` is contained in one of these.
    pub(crate) fn allows(&self, child: &Self) -> bool {
        let contained = |c| self.0.iter().any(|parent| parent.allows(c));
        child.0.iter().all(contained)
    }

    /// Checks that one capability covers what a message needs.
    pub(crate) fn covers(&self, need: &Need<'_>) -> Result<(), ScopeExceeded> {
        let mut missing = ScopeExceeded::NotGranted;
        for capability in &self.0 {
            if !capability.actions.has(need.action) || !capability.pattern.matches(need.subject) {
                continue;
            }
            match (&capability.recipients, need.audience) {
                (None, _) => return Ok(()),
                (Some(allowed), Some(audience)) if allowed.binary_search(audience).is_ok() => {
                    return Ok(());
                }
                _ => missing = ScopeExceeded::Recipient,
            }
        }
        Err(missing)
    }

    /// Checks that one capability covers a whole subscription.
    pub(crate) fn covers_subscription(
        &self,
        need: &SubscribeNeed<'_>,
    ) -> Result<(), ScopeExceeded> {
        let mut missing = ScopeExceeded::NotGranted;
        for capability in &self.0 {
            if !capability.actions.has(Action::Subscribe)
                || !capability.pattern.contains(need.pattern)
            {
                continue;
            }
            match (&capability.groups, need.group) {
                (None, _) => return Ok(()),
                (Some(allowed), Some(group)) if allowed.iter().any(|g| g == group) => {
                    return Ok(());
                }
                _ => missing = ScopeExceeded::QueueGroup,
            }
        }
        Err(missing)
    }

    /// Reads `[[actions, pattern, [[kind, [value…]]…]]…]`.
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Rejection> {
        let len = r.array_up_to(CAPABILITIES_MAX)?;
        let mut capabilities = Vec::with_capacity(len);
        for _ in 0..len {
            capabilities.push(read_capability(r)?);
        }
        Ok(Self(capabilities))
    }
}

fn read_capability(r: &mut Reader<'_>) -> Result<Capability, Rejection> {
    r.array_of(3)?;
    let bits = r.number_of::<u8>()?;
    let actions = Actions::from_bits(bits).ok_or_else(|| r.fault(Malformed::OutOfRange))?;
    let text = r.text(SUBJECT_MAX)?;
    if text.is_empty() {
        let place = r.place();
        return Err(Rejection::ScopeExceeded {
            place,
            reason: ScopeExceeded::EmptyPattern,
        });
    }
    let pattern = SubjectPattern::from_bytes(text).map_err(|_| r.fault(Malformed::BadSubject))?;
    let mut capability = Capability::new(actions, pattern);
    let kinds = r.array()?;
    let mut last = 0;
    for _ in 0..kinds {
        r.array_of(2)?;
        let kind = r.uint()?;
        // Ascending order makes a constraint that is given twice impossible to express.
        if kind <= last {
            return Err(r.fault(Malformed::Constraint));
        }
        last = kind;
        match kind {
            CONSTRAINT_GROUPS => {
                capability.groups = Some(read_values(r, |r| {
                    let text = r.text(QUEUE_GROUP_MAX)?;
                    let group = checked_text(&text);
                    if group_is_valid(group) {
                        Ok(group.to_owned())
                    } else {
                        Err(r.fault(Malformed::Constraint))
                    }
                })?);
            }
            CONSTRAINT_RECIPIENTS => capability.recipients = Some(read_values(r, Reader::key)?),
            _ => return Err(r.fault(Malformed::Constraint)),
        }
    }
    Ok(capability)
}

fn read_values<'a, T: Ord>(
    r: &mut Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Result<T, Rejection>,
) -> Result<Vec<T>, Rejection> {
    let len = r.array_up_to(CONSTRAINT_VALUES_MAX)?;
    let mut values: Vec<T> = Vec::with_capacity(len);
    for _ in 0..len {
        let value = read(r)?;
        if values.last().is_some_and(|last| *last >= value) {
            return Err(r.fault(Malformed::Constraint));
        }
        values.push(value);
    }
    if values.is_empty() {
        Err(r.fault(Malformed::Constraint))
    } else {
        Ok(values)
    }
}

impl Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|capability| {
            let groups = capability
                .groups
                .as_ref()
                .map(|groups| Constraint::Groups(groups));
            let recipients = capability
                .recipients
                .as_ref()
                .map(|keys| Constraint::Recipients(keys.iter().map(|key| bin(&key.0)).collect()));
            let constraints: Vec<_> = groups.into_iter().chain(recipients).collect();
            (
                capability.actions.0,
                capability.pattern.as_str(),
                constraints,
            )
        }))
    }
}

enum Constraint<'a> {
    Groups(&'a [String]),
    Recipients(Vec<&'a serde_bytes::Bytes>),
}

impl Serialize for Constraint<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Groups(groups) => (CONSTRAINT_GROUPS, groups).serialize(serializer),
            Self::Recipients(keys) => (CONSTRAINT_RECIPIENTS, keys).serialize(serializer),
        }
    }
}

/// Text read from a body, which [`Reader::text`] has already checked.
pub(crate) fn checked_text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
