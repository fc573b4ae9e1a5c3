//! Does the report say the truth? The files are read once more, without agents, and counted
//! otherwise.

use std::fs;
use std::path::Path;

use crate::Fault;
use crate::documents::Library;
use crate::stage::success;

/// Checks the figures of the report and the counts of the index against the files themselves.
pub fn report(library: &Library, out: &Path) -> Result<(), Fault> {
    let report = fs::read_to_string(out.join("report.md"))?;
    let (mut words, mut lines) = (0, 0);
    for name in &library.names {
        let text = fs::read_to_string(library.root.join(name))?;
        let counted = (count_words(&text), count_lines(&text));
        expect(&report, &printable(name), counted)?;
        words += counted.0;
        lines += counted.1;
    }
    expect(&report, "total", (words, lines))?;
    let entries = check_index(library, &fs::read_to_string(out.join("index.md"))?)?;
    let documents = library.names.len();
    let told =
        format!("{documents} documents, {words} words, {lines} lines, {entries} index entries");
    success("swarm", &format!("counted again, independently: {told}"));
    Ok(())
}

fn expect(report: &str, name: &str, (words, lines): (usize, usize)) -> Result<(), Fault> {
    let row = format!("| {name} | {words} | {lines} | ");
    if report.lines().any(|line| line.starts_with(&row)) {
        Ok(())
    } else {
        Err(format!("the report should have the row {row}").into())
    }
}

/// Words begin where white space ends.
fn count_words(text: &str) -> usize {
    let mut blank = true;
    let begins = |c: char| {
        let before = std::mem::replace(&mut blank, c.is_whitespace());
        before && !c.is_whitespace()
    };
    text.chars().map(begins).filter(|begins| *begins).count()
}

/// Lines end with a line feed, the last one perhaps without.
fn count_lines(text: &str) -> usize {
    let feeds = text.bytes().filter(|byte| *byte == b'\n').count();
    feeds + usize::from(!text.is_empty() && !text.ends_with('\n'))
}

/// Checks every `- term: file (count), …`; says how many.
fn check_index(library: &Library, index: &str) -> Result<usize, Fault> {
    let mut entries = 0;
    let texts: Result<Vec<_>, _> = library
        .names
        .iter()
        .map(|name| fs::read_to_string(library.root.join(name)))
        .collect();
    let texts: Vec<String> = texts?.iter().map(|text| text.to_lowercase()).collect();
    for line in index.lines().filter_map(|line| line.strip_prefix("- ")) {
        let (term, places) = line
            .split_once(": ")
            .ok_or("an index line without places")?;
        for (name, text) in library.names.iter().zip(&texts) {
            let marker = format!("{} (", printable(name));
            let listed = places
                .split(", ")
                .find_map(|place| place.strip_prefix(&*marker));
            let Some(listed) = listed else { continue };
            let counted = count_term(text, term);
            if listed.trim_end_matches(')') != counted.to_string() {
                return Err(
                    format!("{term} stands {counted} times in {name}, not {listed}").into(),
                );
            }
            entries += 1;
        }
    }
    if entries == 0 {
        return Err("the index is empty".into());
    }
    Ok(entries)
}

/// How often `term` stands in `text` with no letter or digit on either side.
fn count_term(text: &str, term: &str) -> usize {
    let apart = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    let alone = |at: &usize| {
        apart(text[..*at].chars().next_back()) && apart(text[at + term.len()..].chars().next())
    };
    text.match_indices(term)
        .map(|(at, _)| at)
        .filter(alone)
        .count()
}

/// A name as the report shows it.
fn printable(name: &str) -> String {
    let plain = |c: char| if c.is_control() || c == '|' { ' ' } else { c };
    name.chars().map(plain).collect()
}
