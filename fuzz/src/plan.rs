//! Capabilities to be: mostly ones that may stand below others, so that the few that may not differ
//! from them in one thing.

use arbitrary::Arbitrary;

use trustmesh::proto::scope::Actions;
use trustmesh::proto::scope::Capability;
use trustmesh::proto::scope::Scope;
use trustmesh::proto::subject::SubjectPattern;

use crate::change::pick;
use crate::forge::Value;
use crate::forge::chain::EVERYTHING;
use crate::forge::chain::capability;
use crate::forge::value::list;
use crate::forge::value::text;
use crate::reference;

/// How a capability differs from one above it.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct CapabilityPlan {
    like: u8,
    /// What differs, from 128: bit 0 the actions, bit 1 the pattern, bit 2 the groups. With bit 3
    /// the difference narrows.
    differs: u8,
    actions: u8,
    pattern: u16,
    groups: u8,
}

/// A capability to be, which may be none.
#[derive(Clone, Copy, Debug)]
pub struct Drawn {
    actions: u8,
    pattern: &'static str,
    /// Which of three groups; none at all is a constraint that nothing meets, and no scope.
    groups: Option<u8>,
}

impl CapabilityPlan {
    /// The capability below one of `above`.
    pub fn draw(&self, above: &[Drawn]) -> Drawn {
        let root = [Drawn {
            actions: EVERYTHING as u8,
            pattern: ">",
            groups: None,
        }];
        let above = if above.is_empty() { &root } else { above };
        let mut drawn = *pick(above, self.like);
        let differs = |bit: u8| self.differs >= 128 && self.differs >> bit & 1 == 1;
        let narrows = differs(3);
        if differs(0) {
            let all = if narrows { drawn.actions } else { 0xff };
            drawn.actions = self.actions & all;
        }
        if differs(1) {
            drawn.pattern = match narrows {
                true => pick(reference::narrower(drawn.pattern), self.pattern),
                false => pick(reference::patterns(), self.pattern),
            };
        }
        if differs(2) {
            drawn.groups = match (narrows, drawn.groups) {
                (true, Some(groups)) => Some(groups & self.groups),
                (true, None) => Some(self.groups & 0b111),
                (false, _) => (self.groups < 128).then_some(self.groups & 0b111),
            };
        }
        drawn
    }
}

impl Drawn {
    fn names(&self) -> Option<Vec<&'static str>> {
        let names = ["g", "h", "i"].into_iter().enumerate();
        let chosen = |set: u8| names.filter(move |(bit, _)| set >> bit & 1 == 1);
        self.groups
            .map(|set| chosen(set).map(|(_, name)| name).collect())
    }

    fn capability(&self) -> Option<Capability> {
        let pattern = SubjectPattern::parse(self.pattern).expect("a pattern");
        let capability = Capability::new(Actions::from_bits(self.actions)?, pattern);
        match self.names() {
            Some(names) => capability.in_groups(names).ok(),
            None => Some(capability),
        }
    }

    fn tree(&self) -> Value {
        let constraints = self.names().map(|names| {
            let names = names.into_iter().map(text);
            list([Value::Uint(1), list(names)])
        });
        capability(self.actions.into(), self.pattern, constraints)
    }
}

/// The scope of these capabilities; `None` when one of them is none, or there are too many.
pub fn scope(drawn: &[Drawn]) -> Option<Scope> {
    let capabilities: Option<Vec<_>> = drawn.iter().map(Drawn::capability).collect();
    Scope::new(capabilities?).ok()
}

/// The same as a tree.
pub fn tree(drawn: &[Drawn]) -> Value {
    list(drawn.iter().map(Drawn::tree))
}
