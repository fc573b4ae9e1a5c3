//! `trust show`: how an agent is rated, and how that came about.

use serde::Serialize;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::time::Timestamp;
use trustmesh::services::authority::Authority;

use super::OK;
use super::Outcome;
use super::Rated;
use crate::failure::Failure;
use crate::history::History;
use crate::history::LAPSED;
use crate::history::Step;
use crate::operator;
use crate::output::NAME;
use crate::output::Output;
use crate::output::styled;
use crate::output::table;
use crate::setting::Setting;
use crate::setting::is_served;
use crate::setting::now;
use crate::text;

/// Who told of the steps; or who could.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Source {
    /// The service that runs on the mesh directory.
    Service,
    /// The books in the mesh directory, which no service runs on.
    Books,
    /// The verifier service alone: its books are elsewhere.
    VerifierOnly,
    /// Nobody: in a static mesh scores are what its operator signed.
    NotKept,
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    rated: &'a Rated,
    history_from: Source,
    history: Option<History>,
}

pub fn run(id: &AgentId, setting: &Setting, output: &Output) -> Outcome {
    let (trust, now) = (setting.trust()?, now()?);
    if trust.certificates_of(id).is_empty() && trust.score(id).is_none() {
        let text = format!("no agent \"{id}\" in {}", setting.path().display());
        return Err(Failure::usage(text).next("trustmesh agent list").into());
    }
    let rated = Rated::of(id, &trust, now);
    let (history_from, mut history) = look(id, setting)?;
    if let Some(history) = &mut history {
        complete(history, now);
    }
    output.line(styled(NAME, &rated.id))?;
    let line = |name: &str, text: String| output.line(format_args!("  {name:<12} {text}"));
    line("standing", rated.standing.clone())?;
    line("score", score_text(&rated, history.as_ref()))?;
    if let Some(limit) = history.as_ref().and_then(|history| history.limit) {
        line("limit", format!("{limit}: the operator lets it be no more"))?;
    }
    line(
        "history",
        history_text(id, history_from, history.as_ref(), setting),
    )?;
    if let Some(history) = &history
        && !history.steps.is_empty()
    {
        let rows = history.steps.iter().map(row);
        output.line("")?;
        output.line(table(["WHEN", "SCORE", "WHY", "BY WHOM"], rows))?;
    }
    let shown = Shown {
        rated: &rated,
        history_from,
        history,
    };
    output.object(&shown)?;
    Ok(OK)
}

/// Asks the service that runs here; without one, looks at the books it left.
fn look(id: &AgentId, setting: &Setting) -> anyhow::Result<(Source, Option<History>)> {
    let home = setting.path();
    if !setting.keeps_served() {
        let source = match is_served(home) {
            true => Source::VerifierOnly,
            false => Source::NotKept,
        };
        return Ok((source, None));
    }
    if let Some(history) = operator::ask_history(home, id)? {
        return Ok((Source::Service, Some(history)));
    }
    let books = Authority::open(home)?;
    Ok((Source::Books, Some(History::of(&books, id))))
}

/// What time took since the last cause is a step as well.
fn complete(history: &mut History, now: Timestamp) {
    let Some((last, score)) = history.steps.last().map(|step| step.to).zip(history.score) else {
        return;
    };
    // Below its limit nothing tells what lapsed.
    if score < last && history.limit != Some(score) {
        let step = Step::lapse(now.as_millis(), last, score);
        history.steps.push(step);
    }
}

fn score_text(rated: &Rated, history: Option<&History>) -> String {
    let next = history.and_then(|history| history.score);
    match (rated.score, next) {
        (Some(score), Some(next)) if next != score => {
            format!("{score} of 1000, and {next} with the next publication")
        }
        (Some(score), _) => format!("{score} of 1000"),
        (None, _) => "none was published".to_owned(),
    }
}

fn history_text(
    id: &AgentId,
    source: Source,
    history: Option<&History>,
    setting: &Setting,
) -> String {
    let home = setting.path().display();
    let Some(history) = history else {
        return match source {
            Source::NotKept => {
                "none: in a static mesh, scores are what its operator signs".to_owned()
            }
            _ => format!(
                "only the verifier has it: trustmesh trust show {id}, where trustmesh serve runs"
            ),
        };
    };
    if history.steps.is_empty() {
        return "none yet: scores are kept from when trustmesh serve first runs".to_owned();
    }
    let count = match (history.steps.len(), history.earlier) {
        (n, true) => format!("the last {n} steps; those before count as well"),
        (1, false) => "1 step".to_owned(),
        (n, false) => format!("{n} steps"),
    };
    match source {
        Source::Service => format!("{count}, from the verifier service that runs on {home}"),
        _ => format!("{count}, from the books in {home}, which no service runs on"),
    }
}

fn row(step: &Step) -> [String; 4] {
    let score = match step.from {
        None => format!("begins at {}", step.to),
        Some(from) => format!("{from} → {}", step.to),
    };
    let at = text::utc(Timestamp::from_millis(step.at));
    let (why, by) = words(step);
    [at, score, why, by]
}

/// Why, and by whom. Ids in an answer of the service are what its books hold, and those hold ids.
fn words(step: &Step) -> (String, String) {
    let somebody = |by: &Option<String>| match by {
        Some(id) => text::visible(id),
        None => "the operator".to_owned(),
    };
    if let (Some(class), Some(evidence), Some(signer)) =
        (&step.class, &step.evidence, &step.signed_by)
    {
        let did = match &*step.cause {
            "scope_exceeded" => "signed more than it may",
            "depth_exceeded" => "signed a link where none may follow",
            _ => "signed content that is none",
        };
        let (class, signer) = (text::visible(class), text::visible(signer));
        let by = format!(
            "{} signed by {signer} itself, reported by {}",
            text::short(&text::visible(evidence)),
            somebody(&step.by)
        );
        return (format!("{class}: {did}"), by);
    }
    let again = step.from.is_some();
    match &*step.cause {
        "registered" if again => ("registered again".to_owned(), somebody(&step.by)),
        "registered" => (
            "registered".to_owned(),
            format!("{} vouches", somebody(&step.by)),
        ),
        "deregistered" => ("taken off the register".to_owned(), somebody(&step.by)),
        "credited" => (
            "credit: renewed, and nothing was found since".to_owned(),
            format!("{} saw it", somebody(&step.by)),
        ),
        "endorsed" => (
            "endorsement".to_owned(),
            format!("{} lends", somebody(&step.by)),
        ),
        "reconfigured" => ("policy rates otherwise".to_owned(), somebody(&step.by)),
        LAPSED => (
            "decay: what was earned or lent lapses".to_owned(),
            "time".to_owned(),
        ),
        other => (text::visible(other), somebody(&step.by)),
    }
}
