//! `why`: what a refusal means, and what to do.

use clap::Args;
use serde::Serialize;
use trustmesh::proto::enrol::EnrolRefused;
use trustmesh::proto::rejection::Class;

use super::OK;
use super::Outcome;
use crate::advice;
use crate::failure::Failure;
use crate::failure::class_code;
use crate::failure::enrol_code;
use crate::output::BAD;
use crate::output::DIM;
use crate::output::NAME;
use crate::output::Output;
use crate::output::styled;
use crate::output::table;

/// Explain a refusal: what it means, where it comes from, what to do; without one, list them
#[derive(Args, Debug)]
#[command(
    after_help = "The verifier service's own refusals are enrol-1 to enrol-24, or by name: enrol-token-used.

Examples:
  trustmesh why 1502
  trustmesh why scope-exceeded"
)]
pub struct Why {
    /// A code such as 1502, or a class: 15, ScopeExceeded, scope-exceeded.
    #[arg(value_name = "CODE|CLASS")]
    asked: Option<String>,
}

pub fn run(args: &Why, output: &Output) -> Outcome {
    match &args.asked {
        None => list(output),
        Some(asked) => match (find(asked), find_enrolment(asked)) {
            (Some((class, number)), _) => explain(class, number, output),
            (None, Some(reason)) => explain_enrolment(reason, output),
            (None, None) => Err(unknown(asked).into()),
        },
    }
}

/// The refusal of the verifier service that is meant: `enrol-3`, `enrol-token-used`.
fn find_enrolment(asked: &str) -> Option<EnrolRefused> {
    let asked = plain(asked);
    let asked = asked.strip_prefix("enrol")?;
    let named = |reason: &&EnrolRefused| plain(reason.name()) == asked;
    match asked.parse() {
        Ok(code) => EnrolRefused::from_code(code),
        Err(_) => EnrolRefused::ALL.iter().find(named).copied(),
    }
}

fn explain_enrolment(reason: EnrolRefused, output: &Output) -> Outcome {
    let (code, exit) = (reason.code(), enrol_code(reason));
    let (cause, next) = advice::enrolment::on(reason)
        .map(|advice| (advice.cause, advice.next))
        .ok_or_else(|| anyhow::anyhow!("reason {code} is newer than its advice"))?;
    let heading = styled(BAD, format!("enrol-{code} {}", reason.name()));
    output.line(format_args!("{heading}, exit code {exit}"))?;
    output.line(format_args!("The verifier service refuses: {reason}."))?;
    output.line(format_args!("\n{}\n  {cause}", styled(DIM, "Usual cause")))?;
    output.line(format_args!("\n{}\n  {next}", styled(DIM, "What to do")))?;
    output.object(&serde_json::json!({
        "enrol": code, "name": reason.name(), "exit": exit, "reason": reason.to_string(),
        "cause": cause, "next": next,
    }))?;
    Ok(OK)
}

/// A class in the list.
#[derive(Serialize)]
struct Row<'a> {
    class: &'a str,
    codes: Vec<u16>,
    exit: u8,
    means: &'a str,
}

fn list(output: &Output) -> Outcome {
    let mut rows = Vec::new();
    for class in Class::ALL {
        let means = advice::on(class).map_or("", |advice| advice.means);
        let codes: Vec<u16> = reasons(class).map(|(code, _)| code).collect();
        let span = match codes[..] {
            [first, .., last] => format!("{first}-{last}"),
            [only] => only.to_string(),
            [] => String::new(),
        };
        let exit = class_code(class);
        output.object(&Row {
            class: class.name(),
            codes,
            exit,
            means,
        })?;
        rows.push([
            class.name().to_owned(),
            span,
            exit.to_string(),
            means.to_owned(),
        ]);
    }
    output.line(table(["CLASS", "CODES", "EXIT", "MEANING"], rows))?;
    Ok(OK)
}

/// One class, or one code of it.
#[derive(Serialize)]
struct Explanation {
    class: &'static str,
    /// Absent when a class was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    exit: u8,
    means: &'static str,
    reasons: Vec<Reason>,
    causes: &'static [&'static str],
    remedies: &'static [&'static str],
    next: &'static str,
}

#[derive(Serialize)]
struct Reason {
    code: u16,
    reason: &'static str,
    hint: &'static str,
}

fn explain(class: Class, number: Option<u16>, output: &Output) -> Outcome {
    let advice = advice::on(class)
        .ok_or_else(|| anyhow::anyhow!("class {} is newer than its advice", class.name()))?;
    let asked = reasons(class).filter(|(code, _)| number.is_none_or(|n| *code % 100 == n));
    let reasons = asked.map(|(code, reason)| Reason {
        code,
        reason,
        hint: advice.reason(code % 100).unwrap_or(""),
    });
    let explanation = Explanation {
        class: class.name(),
        code: number.map(|number| class as u16 * 100 + number),
        exit: class_code(class),
        means: advice.means,
        reasons: reasons.collect(),
        causes: advice.causes,
        remedies: advice.remedies,
        next: advice.next,
    };
    output.result(explanation.text(), &explanation)?;
    Ok(OK)
}

impl Explanation {
    fn text(&self) -> String {
        let code = self.code.map(|code| format!(" {code}")).unwrap_or_default();
        let mut text = format!(
            "{}{code}, exit code {}\n{}\n",
            styled(BAD, self.class),
            self.exit,
            self.means
        );
        for reason in &self.reasons {
            let code = styled(NAME, reason.code);
            text.push_str(&format!(
                "\n  {code}  {}\n        {}",
                reason.reason, reason.hint
            ));
        }
        for (heading, lines) in [("Usual causes", self.causes), ("What to do", self.remedies)] {
            text.push_str(&format!("\n\n{}", styled(DIM, heading)));
            for line in lines {
                text.push_str(&format!("\n  {line}"));
            }
        }
        text
    }
}

/// The codes of a class, with their reasons.
fn reasons(class: Class) -> impl Iterator<Item = (u16, &'static str)> {
    let codes = class.reasons().iter();
    codes.map(move |(number, text)| (class as u16 * 100 + number, *text))
}

/// The class asked for, and the number of the reason when a code was.
fn find(asked: &str) -> Option<(Class, Option<u16>)> {
    if let Ok(number) = asked.parse::<u16>() {
        let of = |n: u16| Class::ALL.into_iter().find(|class| *class as u16 == n);
        if number < 100 {
            return of(number).map(|class| (class, None));
        }
        let class = of(number / 100)?;
        let known = reasons(class).any(|(code, _)| code == number);
        return known.then_some((class, Some(number % 100)));
    }
    let asked = plain(asked);
    let class = Class::ALL
        .into_iter()
        .find(|class| plain(class.name()) == asked)?;
    Some((class, None))
}

/// A name as it is compared: letters only, lower case.
fn plain(name: &str) -> String {
    let letters = name.chars().filter(|c| !matches!(c, '-' | '_' | ' '));
    letters.flat_map(char::to_lowercase).collect()
}

/// Says which names and codes are near.
fn unknown(asked: &str) -> Failure {
    let near: Vec<String> = match asked.parse::<u16>() {
        Ok(number) => {
            let class = Class::ALL
                .into_iter()
                .find(|class| *class as u16 == number / 100);
            let codes = class.into_iter().flat_map(reasons);
            codes.map(|(code, _)| code.to_string()).collect()
        }
        Err(_) => {
            let asked = plain(asked);
            let mut ranked: Vec<_> = Class::ALL
                .into_iter()
                .map(|class| (distance(&asked, &plain(class.name())), class.name()))
                .filter(|(far, name)| *far <= name.len() / 2 || plain(name).contains(&asked))
                .collect();
            ranked.sort();
            ranked
                .into_iter()
                .take(3)
                .map(|(_, name)| name.to_owned())
                .collect()
        }
    };
    let failure = Failure::usage(format!("there is no class or code {asked:?}"));
    let failure = if near.is_empty() {
        failure
    } else {
        failure.fact("near", near.join(", "))
    };
    failure.next("trustmesh why lists them all")
}

/// How many letters have to be added, dropped or exchanged to get from one word to the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let exchanged = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_found_however_it_is_written() {
        let scope = Some((Class::ScopeExceeded, None));
        for asked in ["15", "ScopeExceeded", "scope-exceeded", "SCOPE_EXCEEDED"] {
            assert_eq!(find(asked), scope, "{asked}");
        }
        assert_eq!(find("1502"), Some((Class::ScopeExceeded, Some(2))));
        for asked in ["1599", "0", "27", "2700", "65536", "", "scope", "-1"] {
            assert_eq!(find(asked), None, "{asked}");
        }
    }

    #[test]
    fn refusals_of_the_service_are_found_by_number_and_by_name() {
        for asked in ["enrol-3", "enrol3", "enrol-token-used", "Enrol-TokenUsed"] {
            assert_eq!(
                find_enrolment(asked),
                Some(EnrolRefused::TokenUsed),
                "{asked}"
            );
        }
        for asked in ["enrol-0", "enrol-99", "enrol", "3", "token-used"] {
            assert_eq!(find_enrolment(asked), None, "{asked}");
        }
    }

    #[test]
    fn distances_count_letters() {
        assert_eq!(distance("replay", "replay"), 0);
        assert_eq!(distance("replai", "replay"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
