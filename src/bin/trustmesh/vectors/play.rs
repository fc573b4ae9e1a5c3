//! Plays a case: every input in order, to one receiver, each held to what is expected of it.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::subject::Subject;
use trustmesh::proto::subject::SubjectPattern;

use super::Outcome;
use super::Played;
use super::States;
use super::fields::Fields;
use super::fields::Unusable;
use super::receiver::Receiver;

/// Decides a case and what comes before it.
pub fn check(case: &Fields<'_>, states: &States) -> Result<Played, Unusable> {
    let kind = case.text("kind")?;
    if kind == "subjects" {
        let disagreement = tables(case)?;
        return Ok(Played {
            allowed: disagreement.is_none(),
            rejection: None,
            disagreement,
        });
    }
    let mut early = None;
    let mut receiver = Receiver::new(kind, case, states)?;
    for (index, earlier) in case.list("preceded_by")?.iter().enumerate() {
        let input = Fields::new(earlier)?;
        let outcome = receiver.decide(&input)?;
        if let Some(fault) = disagreement(&input.object("expect")?, &outcome)?
            && early.is_none()
        {
            early = Some(format!("input {} of those before: {fault}", index + 1));
        }
    }
    let outcome = receiver.decide(case)?;
    let last = disagreement(&case.object("expect")?, &outcome)?;
    Ok(Played {
        allowed: outcome.is_ok(),
        rejection: outcome.err(),
        disagreement: early.or(last),
    })
}

/// How an outcome differs from what is expected, if it does.
fn disagreement(expect: &Fields<'_>, outcome: &Outcome) -> Result<Option<String>, Unusable> {
    let allowed = match expect.text("verdict")? {
        "allow" => true,
        "deny" => false,
        other => return Err(Unusable::new(format!("{other:?} is no verdict"))),
    };
    match outcome {
        Ok(_) if !allowed => Ok(Some(format!("expected {}, was accepted", denial(expect)?))),
        Err(found) if allowed => Ok(Some(format!(
            "expected to be accepted, was {}",
            name(found)
        ))),
        Ok(facts) => Ok(difference(expect, facts)),
        Err(found) => {
            let class = expect.text("class")? == found.class().name();
            let code = expect.number("code")? == u64::from(found.code());
            let hop = expect.optional_number("hop")? == found.hop().map(u64::from);
            let fault = format!("expected {}, was {}", denial(expect)?, name(found));
            Ok((!(class && code && hop)).then_some(fault))
        }
    }
}

/// The first fact that is not as expected. Neither side may say more than the other.
fn difference(expect: &Fields<'_>, facts: &[(&'static str, Json)]) -> Option<String> {
    for (name, found) in facts {
        if expect.get(name) != Some(found) {
            let expected = expect.get(name).unwrap_or(&Json::Null);
            return Some(format!("{name}: expected {expected}, found {found}"));
        }
    }
    let known: BTreeSet<&str> = facts.iter().map(|(name, _)| *name).collect();
    let mut more = expect.names().filter(|name| *name != "verdict");
    more.find(|name| !known.contains(name))
        .map(|name| format!("{name} is expected and was not found out"))
}

fn denial(expect: &Fields<'_>) -> Result<String, Unusable> {
    let link = expect.optional_number("hop")?;
    let link = link
        .map(|hop| format!(" at link {hop}"))
        .unwrap_or_default();
    Ok(format!(
        "{} {}{link}",
        expect.text("class")?,
        expect.number("code")?
    ))
}

fn name(rejection: &Rejection) -> String {
    let link = rejection.hop();
    let link = link
        .map(|hop| format!(" at link {hop}"))
        .unwrap_or_default();
    format!(
        "{} {}{link} ({rejection})",
        rejection.class().name(),
        rejection.code()
    )
}

/// Checks tables of subjects: the first row that is not so.
fn tables(case: &Fields<'_>) -> Result<Option<String>, Unusable> {
    let mut rows = 0;
    for table in ["grammar", "matches", "contains", "overlaps"] {
        for row in case.list(table)? {
            rows += 1;
            if !row_holds(table, row)? {
                return Ok(Some(format!("{table}: not so: {row}")));
            }
        }
    }
    if rows == 0 {
        return Err(Unusable::new("its tables are empty"));
    }
    Ok(None)
}

fn row_holds(table: &str, row: &Json) -> Result<bool, Unusable> {
    let odd = || Unusable::new(format!("a row of {table:?} is not of its form: {row}"));
    let text = |index: usize| row[index].as_str().ok_or_else(odd);
    let truth = |index: usize| row[index].as_bool().ok_or_else(odd);
    let pattern = |index| SubjectPattern::parse(text(index)?).map_err(|_| odd());
    let found = match table {
        "grammar" => {
            let text = text(0)?;
            return Ok(Subject::parse(text).is_ok() == truth(1)?
                && SubjectPattern::parse(text).is_ok() == truth(2)?);
        }
        "matches" => pattern(0)?.matches(&Subject::parse(text(1)?).map_err(|_| odd())?),
        "contains" => pattern(0)?.contains(&pattern(1)?),
        _ => pattern(0)?.overlaps(&pattern(1)?),
    };
    Ok(found == truth(2)?)
}
