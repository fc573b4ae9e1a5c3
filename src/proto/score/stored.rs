//! The ledger in bytes, so that it outlives its process.
//!
//! ```text
//! [v, lapse_s, latest, [[agent, registered, base, penalty, earned, endorsed, at, credit_from,
//!                endorse_from, [[kind, at, milli, before nil|u16, score, evidence nil|bin32,
//!                by nil|agent]…]]…]]
//! ```
//!
//! Agents stand in ascending order, once each. The bytes are canonical, and signed by nobody: they
//! are as trustworthy as the place they are kept in.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use bytes::Bytes;

use super::Cause;
use super::CauseKind;
use super::HISTORY;
use super::Ledger;
use super::MILLI;
use super::Parameters;
use super::SCORE_MAX;
use super::Standing;
use super::standing::Entry;
use super::standing::PENALTY_MAX;
use crate::proto::identity::AgentId;
use crate::proto::limits::SCORED_AGENTS_MAX;
use crate::proto::names::OBJECT_VERSION;
use crate::proto::rejection::Malformed;
use crate::proto::rejection::Place;
use crate::proto::rejection::Rejection;
use crate::proto::revocation::read_agent;
use crate::proto::time::Timestamp;
use crate::proto::wire::Reader;
use crate::proto::wire::bin;
use crate::proto::wire::encode;

impl Ledger {
    /// The ledger in bytes.
    pub fn to_bytes(&self) -> Bytes {
        let entries: Vec<_> = self.entries.iter().map(wire).collect();
        let (pace, latest) = (self.parameters.weights().lapse_s, self.latest);
        encode(&(OBJECT_VERSION, pace, latest.as_millis(), entries)).into()
    }

    /// Reads a ledger back and takes these parameters into use, as
    /// [`reconfigure`](Self::reconfigure) does.
    ///
    /// # Errors
    ///
    /// [`Rejection::Malformed`], [`Rejection::TooLarge`] or [`Rejection::UnsupportedVersion`].
    pub fn restore(bytes: &Bytes, parameters: Parameters) -> Result<Self, Rejection> {
        let mut r = Reader::new(bytes, Place::TrustFile);
        r.array_of(4)?;
        let found = r.uint()?;
        if found != OBJECT_VERSION {
            let place = r.place();
            return Err(Rejection::UnsupportedVersion { place, found });
        }
        let mut then = *parameters.weights();
        then.lapse_s = r.number_of()?;
        // A pace that was out of range never was in use.
        let range = |_| Rejection::Malformed {
            place: Place::TrustFile,
            reason: Malformed::OutOfRange,
        };
        let then = Parameters::new(then).map_err(range)?;
        let mut ledger = Self::new(then);
        ledger.latest = Timestamp::from_millis(r.uint()?);
        ledger.entries = read_entries(&mut r, then.weights().lapse_s)?;
        r.finish()?;
        let weights = (*then.weights(), *parameters.weights());
        for entry in ledger.entries.values_mut() {
            // No time passes by reading.
            entry.rescale(entry.at, &weights.0, &weights.1);
        }
        ledger.parameters = parameters;
        Ok(ledger)
    }
}

type WireCause<'a> = (
    u8,
    u64,
    u32,
    Option<u16>,
    u16,
    Option<&'a serde_bytes::Bytes>,
    Option<&'a str>,
);

fn wire<'a>((agent, entry): (&'a AgentId, &'a Entry)) -> impl serde::Serialize + 'a {
    let history: Vec<WireCause<'a>> = entry.history.iter().map(wire_cause).collect();
    (
        agent.as_str(),
        entry.registered,
        entry.base,
        entry.penalty,
        entry.earned.units(),
        entry.endorsed.units(),
        entry.at.as_millis(),
        entry.credit_from.as_millis(),
        entry.endorse_from.as_millis(),
        history,
    )
}

fn wire_cause(cause: &Cause) -> WireCause<'_> {
    let kinds = CauseKind::ALL.iter();
    // Every kind stands in the table, which a test holds.
    let kind = kinds.take_while(|kind| **kind != cause.kind).count() as u8;
    let evidence = cause.evidence.as_ref().map(|id| bin(&id.0));
    (
        kind,
        cause.at.as_millis(),
        cause.milli,
        cause.before,
        cause.score,
        evidence,
        cause.by.as_ref().map(AgentId::as_str),
    )
}

fn read_entries(r: &mut Reader<'_>, lapse_s: u32) -> Result<BTreeMap<AgentId, Entry>, Rejection> {
    let mut entries = BTreeMap::new();
    for _ in 0..r.array_up_to(SCORED_AGENTS_MAX)? {
        r.array_of(10)?;
        let agent = read_agent(r)?;
        let after_last = entries
            .last_key_value()
            .is_none_or(|(last, _)| *last < agent);
        if !after_last {
            return Err(r.fault(Malformed::Duplicate));
        }
        entries.insert(agent, read_entry(r, lapse_s)?);
    }
    Ok(entries)
}

fn read_entry(r: &mut Reader<'_>, lapse_s: u32) -> Result<Entry, Rejection> {
    let entry = Entry {
        registered: r.boolean()?,
        base: r.number_of()?,
        penalty: r.number_of()?,
        earned: Standing::from_units(r.uint()?),
        endorsed: Standing::from_units(r.uint()?),
        at: Timestamp::from_millis(r.uint()?),
        credit_from: Timestamp::from_millis(r.uint()?),
        endorse_from: Timestamp::from_millis(r.uint()?),
        history: read_history(r)?,
    };
    let most = u64::from(SCORE_MAX) * u64::from(MILLI) * u64::from(lapse_s);
    let sound = entry.base <= SCORE_MAX
        && entry.penalty <= PENALTY_MAX
        && entry.earned.units() <= most
        && entry.endorsed.units() <= most;
    if sound {
        Ok(entry)
    } else {
        Err(r.fault(Malformed::OutOfRange))
    }
}

fn read_history(r: &mut Reader<'_>) -> Result<VecDeque<Cause>, Rejection> {
    let mut history = VecDeque::new();
    for _ in 0..r.array_up_to(HISTORY)? {
        r.array_of(7)?;
        let kind = r.number_of::<u8>()?;
        let kind = CauseKind::ALL.get(usize::from(kind));
        history.push_back(Cause {
            kind: *kind.ok_or_else(|| r.fault(Malformed::OutOfRange))?,
            at: Timestamp::from_millis(r.uint()?),
            milli: r.number_of()?,
            before: r.optional(Reader::number_of)?,
            score: r.number_of()?,
            evidence: r.optional(Reader::object_id)?,
            by: r.optional(read_agent)?,
        });
    }
    Ok(history)
}
