//! Which messages need an approval of their chain, and the extensions of a policy that say so
//! (protocol §10.7).

use std::fmt;

use super::Policy;
use super::Scoring;
use crate::proto::limits::APPROVAL_NEEDS_MAX;
use crate::proto::limits::POLICY_EXTENSION_MAX;
use crate::proto::limits::POLICY_EXTENSIONS_MAX;
use crate::proto::limits::SUBJECT_MAX;
use crate::proto::names::EXT_POLICY_APPROVAL;
use crate::proto::names::EXT_POLICY_SCORING;
use crate::proto::rejection::Malformed;
use crate::proto::rejection::Rejection;
use crate::proto::scope::Action;
use crate::proto::scope::Actions;
use crate::proto::subject::Subject;
use crate::proto::subject::SubjectPattern;
use crate::proto::wire;
use crate::proto::wire::Reader;
use crate::proto::wire::encode_into;

/// Actions that a message can have, and so be approved for: PUB, REQ and SERVE.
const OF_MESSAGES: u8 = 1 | 4 | 8;

/// Messages that need an [approval](crate::proto::approval) of the chain they are sent under,
/// besides everything else (protocol §10.7). It prints as the actions and the pattern.
///
/// Where no entry of the policy matches, receivers verify every hop and ask for nothing more
/// (*local*, the default). Where one does, they verify every hop and ask for an approval (*both*).
/// That an approval stands in for verifying is no choice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NeedsApproval {
    pub(super) actions: Actions,
    pub(super) subjects: SubjectPattern,
}

impl NeedsApproval {
    /// `None` for actions that no message has.
    pub(super) fn new(actions: Actions, subjects: SubjectPattern) -> Option<Self> {
        (actions.bits() != 0 && actions.bits() & !OF_MESSAGES == 0)
            .then_some(Self { actions, subjects })
    }

    /// The actions it is about, at least one of PUB, REQ and SERVE.
    pub fn actions(&self) -> Actions {
        self.actions
    }

    /// The subjects it is about.
    pub fn subjects(&self) -> &SubjectPattern {
        &self.subjects
    }

    /// Whether a message of this action on this subject needs an approval. An entry on `>` says
    /// nothing where the first token begins with `$` or `_`.
    pub fn matches(&self, action: Action, subject: &Subject) -> bool {
        self.actions.has(action) && self.subjects.matches(subject)
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Rejection> {
        r.array_of(2)?;
        let subjects = SubjectPattern::from_bytes(r.text(SUBJECT_MAX)?)
            .map_err(|_| r.fault(Malformed::BadSubject))?;
        let bits = r.number_of()?;
        Actions::from_bits(bits)
            .and_then(|actions| Self::new(actions, subjects))
            .ok_or_else(|| r.fault(Malformed::OutOfRange))
    }
}

impl fmt::Display for NeedsApproval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.actions, self.subjects)
    }
}

/// Writes the extensions that say something.
pub(super) fn write(policy: &Policy, out: &mut Vec<u8>) {
    let mut extensions: Vec<(u16, bool, serde_bytes::ByteBuf)> = Vec::new();
    if !policy.approval.is_empty() {
        let needs = policy.approval.iter();
        let needs: Vec<_> = needs
            .map(|need| (need.subjects.as_str(), need.actions.bits()))
            .collect();
        let value = wire::encode(&needs);
        extensions.push((EXT_POLICY_APPROVAL, true, value.into()));
    }
    if policy.scoring != Scoring::default() {
        let value = policy.scoring.to_bytes().to_vec();
        extensions.push((EXT_POLICY_SCORING, true, value.into()));
    }
    encode_into(out, &extensions);
}

/// Reads the extensions into a policy that has none yet. What is not understood is refused, be it
/// critical or not: nobody may be mistaken about what a policy says.
pub(super) fn read(policy: &mut Policy, r: &mut Reader<'_>) -> Result<(), Rejection> {
    let mut last = None;
    for _ in 0..r.array_up_to(POLICY_EXTENSIONS_MAX)? {
        r.array_of(3)?;
        let id: u16 = r.number_of()?;
        let critical = r.boolean()?;
        let value = r.bin(POLICY_EXTENSION_MAX)?;
        if last.is_some_and(|last| last >= id) {
            return Err(r.fault(Malformed::Extension));
        }
        last = Some(id);
        match (id, critical) {
            (EXT_POLICY_APPROVAL, true) => {
                let mut value = Reader::new(&value, r.place());
                policy.approval = read_needs(&mut value)?;
                value.finish()?;
            }
            (EXT_POLICY_SCORING, true) => {
                policy.scoring = Scoring::from_bytes(&value)?;
                // The defaults are said by saying nothing.
                if policy.scoring == Scoring::default() {
                    return Err(r.fault(Malformed::Extension));
                }
            }
            _ => return Err(r.fault(Malformed::Extension)),
        }
    }
    Ok(())
}

/// A list without entries would say what no list says.
fn read_needs(r: &mut Reader<'_>) -> Result<Vec<NeedsApproval>, Rejection> {
    let len = r.array_up_to(APPROVAL_NEEDS_MAX)?;
    if len == 0 {
        return Err(r.fault(Malformed::Extension));
    }
    let mut needs: Vec<NeedsApproval> = Vec::new();
    for _ in 0..len {
        let need = NeedsApproval::read(r)?;
        let rises = |last: &NeedsApproval| last.subjects.as_str() < need.subjects.as_str();
        if !needs.last().is_none_or(rises) {
            return Err(r.fault(Malformed::Duplicate));
        }
        needs.push(need);
    }
    Ok(needs)
}
