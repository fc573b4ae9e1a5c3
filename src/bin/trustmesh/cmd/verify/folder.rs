//! Vectors: one, or a folder of them, each in its own state and held to its own expectation.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;

use crate::cmd::OK;
use crate::cmd::Outcome;
use crate::failure::Failure;
use crate::failure::INTERNAL;
use crate::failure::USAGE;
use crate::output::BAD;
use crate::output::Output;
use crate::output::styled;
use crate::output::table;
use crate::text::visible;
use crate::vectors::World;

/// The folder of the states, which are no cases.
const STATES: &str = "states";

/// How a group of cases came out.
#[derive(Clone, Copy, Default)]
struct Tally {
    cases: usize,
    agreed: usize,
    disagreed: usize,
    unusable: usize,
}

/// One case, for programs: how it was decided, and whether it had to be.
#[derive(Default, Serialize)]
struct Line<'a> {
    verdict: Option<&'static str>,
    class: Option<&'static str>,
    code: Option<u16>,
    hop: Option<u8>,
    case: &'a str,
    agreed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    disagreement: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unusable: Option<&'a str>,
}

/// Plays one vector.
pub fn run_one(file: &Path, output: &Output) -> Outcome {
    let tally = play(
        &mut World::default(),
        file,
        &file.display().to_string(),
        output,
    )?;
    if tally.agreed > 0 {
        output.line(format_args!("agreed  {}", file.display()))?;
    }
    Ok(exit_code(&tally))
}

/// Plays every vector below a folder.
pub fn run(folder: &Path, output: &Output) -> Outcome {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort();
    if files.is_empty() {
        let text = format!("there is no vector in {}", folder.display());
        return Err(Failure::usage(text).into());
    }
    let mut world = World::default();
    let mut groups: BTreeMap<String, Tally> = BTreeMap::new();
    let mut total = Tally::default();
    for file in &files {
        let name = file.strip_prefix(folder).unwrap_or(file);
        let group = name.parent().map(|parent| parent.display().to_string());
        let tally = play(&mut world, file, &name.display().to_string(), output)?;
        let group = group.filter(|group| !group.is_empty());
        groups
            .entry(group.unwrap_or_else(|| ".".to_owned()))
            .or_default()
            .add(&tally);
        total.add(&tally);
    }
    let rows = groups.iter().map(|(group, tally)| row(group, tally));
    let rows = rows.chain([row("all", &total)]);
    output.line(table(
        ["GROUP", "CASES", "AGREED", "DISAGREED", "UNUSABLE"],
        rows,
    ))?;
    Ok(exit_code(&total))
}

/// Plays one vector, and says so when it does not agree.
fn play(world: &mut World, file: &Path, name: &str, output: &Output) -> anyhow::Result<Tally> {
    let mut tally = Tally {
        cases: 1,
        ..Tally::default()
    };
    let mut line = Line {
        case: name,
        ..Line::default()
    };
    let played = match world.check(file) {
        Ok(played) => played,
        Err(why) => {
            tally.unusable = 1;
            let why = why.to_string();
            line.unusable = Some(&why);
            output.result(fault("unusable", name, &why), &line)?;
            return Ok(tally);
        }
    };
    line.verdict = Some(if played.allowed { "allow" } else { "deny" });
    line.class = played.rejection.map(|rejection| rejection.class().name());
    line.code = played.rejection.map(|rejection| rejection.code());
    line.hop = played.rejection.and_then(|rejection| rejection.hop());
    match &played.disagreement {
        None => {
            tally.agreed = 1;
            line.agreed = true;
            output.object(&line)?;
        }
        Some(how) => {
            tally.disagreed = 1;
            line.disagreement = Some(how);
            output.result(fault("disagreed", name, how), &line)?;
        }
    }
    Ok(tally)
}

fn fault(word: &str, name: &str, how: &str) -> String {
    format!("{}  {name}: {}", styled(BAD, word), visible(how))
}

fn exit_code(tally: &Tally) -> u8 {
    match (tally.unusable, tally.disagreed) {
        (0, 0) => OK,
        (0, _) => INTERNAL,
        _ => USAGE,
    }
}

fn row(name: &str, tally: &Tally) -> [String; 5] {
    [
        name.to_owned(),
        tally.cases.to_string(),
        tally.agreed.to_string(),
        tally.disagreed.to_string(),
        tally.unusable.to_string(),
    ]
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.cases += other.cases;
        self.agreed += other.agreed;
        self.disagreed += other.disagreed;
        self.unusable += other.unusable;
    }
}

/// Every JSON file below a folder that is no state. Links are followed to files only, so that no
/// folder is walked twice.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let unusable = |error| Failure::usage(format!("cannot read {}: {error}", folder.display()));
    for entry in std::fs::read_dir(folder).map_err(unusable)? {
        let entry = entry.map_err(unusable)?;
        let path = entry.path();
        if entry.file_type().map_err(unusable)?.is_dir() {
            if entry.file_name() != STATES {
                collect(&path, files)?;
            }
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            files.push(path);
        }
    }
    Ok(())
}
