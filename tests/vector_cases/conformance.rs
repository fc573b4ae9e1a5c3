//! `docs/protocol.md` against the vectors and the tests.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::Book;
use super::attacks::ATTACKS;
use super::covers::COVERS;
use super::covers::of;
use super::covers::selects;
use super::folder::below;

/// A requirement of the text.
#[derive(Clone, Debug)]
pub struct Requirement {
    pub id: String,
    /// The number of its section.
    section: String,
    /// Everything after the id, up to the next item.
    text: String,
}

/// The text of the protocol, without the generated example.
pub fn protocol() -> String {
    fs::read_to_string(below("docs/protocol.md")).expect("docs/protocol.md")
}

/// The paragraphs and list items of the text, with their sections; a nested item is one of its own.
fn items(text: &str) -> Vec<(String, String)> {
    let (mut out, mut section): (Vec<(String, String)>, _) = (Vec::new(), String::new());
    let mut open = false;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let begins = trimmed.starts_with("- ")
            || trimmed
                .split_once(". ")
                .is_some_and(|(number, _)| number.parse::<u8>().is_ok());
        if let Some(title) = line.trim_start_matches('#').strip_prefix(' ')
            && line.starts_with('#')
        {
            section = title
                .split(' ')
                .next()
                .unwrap()
                .trim_end_matches('.')
                .to_owned();
            open = false;
        } else if trimmed.is_empty() {
            open = false;
        } else if open && !begins {
            let item = &mut out.last_mut().unwrap().1;
            item.push(' ');
            item.push_str(trimmed);
        } else {
            out.push((section.clone(), trimmed.to_owned()));
            open = true;
        }
    }
    out
}

/// The id that an item begins with, in brackets, after its bullet or number.
fn id_of(item: &str) -> Option<&str> {
    let rest = item.strip_prefix("- ").or_else(|| {
        let (number, rest) = item.split_once(". ")?;
        number.parse::<u8>().ok().map(|_| rest)
    });
    let (id, _) = rest.unwrap_or(item).strip_prefix('[')?.split_once(']')?;
    let known = id.starts_with("M-") || id.starts_with("S-");
    (known
        && id
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-MS".contains(&b)))
    .then_some(id)
}

/// The requirements, in the order of the text.
pub fn requirements(text: &str) -> Vec<Requirement> {
    items(text)
        .into_iter()
        .filter_map(|(section, item)| {
            let id = id_of(&item)?.to_owned();
            let (_, text) = item.split_once("] ")?;
            Some(Requirement {
                id,
                section,
                text: text.to_owned(),
            })
        })
        .collect()
}

/// What is wrong with the text by itself: obligations without an id, ids given twice.
pub fn faults_of_text(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for (section, item) in items(text) {
        // Only the section on words may name the word itself.
        let obliges = item
            .split(|c: char| !c.is_ascii_alphabetic())
            .any(|word| word == "MUST");
        match id_of(&item) {
            Some(id) if !seen.insert(id.to_owned()) => faults.push(format!("{id}: given twice")),
            Some(id) if !obliges => faults.push(format!("{id}: obliges to nothing")),
            None if obliges => faults.push(format!("§{section}: a MUST without an id: {item}")),
            _ => {}
        }
    }
    faults
}

/// Where text and vectors differ.
pub fn faults_of_vectors(book: &Book, requirements: &[Requirement]) -> Vec<String> {
    let written: BTreeSet<&str> = requirements.iter().map(|r| r.id.as_str()).collect();
    let mut faults = Vec::new();
    for (id, selectors) in COVERS {
        if !written.contains(id) {
            faults.push(format!("{id}: covered, and not in the text"));
        }
        for selector in *selectors {
            if !book.cases.iter().any(|case| selects(selector, case)) {
                faults.push(format!("{id}: {selector} selects no vector"));
            }
        }
    }
    for (id, _, selectors) in ATTACKS {
        for selector in *selectors {
            if !book.cases.iter().any(|case| selects(selector, case)) {
                faults.push(format!("{id}: {selector} selects no vector"));
            }
        }
        let refused = |case: &&super::Case| {
            case.code.is_some() && selectors.iter().any(|selector| selects(selector, case))
        };
        // A table of subjects holds as a whole; what it refuses stands in its rows.
        let tables = selectors.contains(&"subjects/*");
        if !tables && !book.cases.iter().any(|case| refused(&case)) {
            faults.push(format!("{id}: nothing is refused"));
        }
    }
    let covered: BTreeSet<&str> = COVERS.iter().map(|(id, _)| *id).collect();
    for id in written.iter().filter(|id| id.starts_with("M-")) {
        if !covered.contains(*id) {
            faults.push(format!("{id}: no vector"));
        }
    }
    for case in &book.cases {
        // What every refusal exercises says nothing about this one.
        if of(case).iter().all(|id| *id == "M-reject-code") {
            faults.push(format!("{}: covers nothing", case.path()));
        }
    }
    faults
}

/// Where text and tests differ: each `S` requirement names test functions that exist.
pub fn faults_of_tests(requirements: &[Requirement]) -> Vec<String> {
    let mut names = BTreeSet::new();
    for folder in ["src", "tests"] {
        functions(&below(folder), &mut names);
    }
    let mut faults = Vec::new();
    for requirement in requirements.iter().filter(|r| r.id.starts_with("S-")) {
        let named = tests_of(&requirement.text);
        if named.is_empty() {
            faults.push(format!("{}: names no test", requirement.id));
        }
        for name in named.iter().filter(|name| !names.contains(*name)) {
            faults.push(format!("{}: no test is called {name}", requirement.id));
        }
    }
    faults
}

/// The tests named at the end of a requirement: the code in its last parentheses.
fn tests_of(text: &str) -> Vec<String> {
    let inside = text.rsplit_once('(').map_or("", |(_, inside)| inside);
    let parts = inside.split('`').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

fn functions(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let words: Vec<&str> = text.split_ascii_whitespace().collect();
            let after_fn = words.windows(2).filter(|pair| pair[0] == "fn");
            names.extend(after_fn.filter_map(|pair| {
                let end = pair[1].find(['(', '<'])?;
                Some(pair[1][..end].to_owned())
            }));
        }
    }
}

/// How many vectors of one group a row names before it only counts the rest.
const NAMED: usize = 4;

/// The table from requirements to vectors and tests.
pub fn table(book: &Book, requirements: &[Requirement]) -> String {
    let mut out = String::from(
        "# Conformance\n\n\
         Which test vectors and tests show which requirement of [`protocol.md`](protocol.md). Written \
         by `cargo test --test vectors`,\nwhich fails when it is out of date, when a requirement has no \
         vector or test, and when a vector covers an unknown one.\nOf many vectors of a group the first \
         few are named.\n\n\
         | requirement | section | shown by |\n|---|---|---|\n",
    );
    let mut shown: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for case in &book.cases {
        for id in of(case) {
            let groups = shown.entry(id).or_default();
            groups.entry(case.group).or_default().push(&case.name);
        }
    }
    for requirement in requirements {
        let by = match shown.get(requirement.id.as_str()) {
            Some(groups) => listed(groups),
            None => tests_of(&requirement.text)
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", "),
        };
        let (id, section) = (&requirement.id, &requirement.section);
        writeln!(out, "| {id} | {section} | {by} |").unwrap();
    }
    out.push_str(
        "\n## Attacks\n\n\
         The attacks on identities (ID), envelopes (EN), chains (CH) and freshness (FR) that bytes, \
         state and time can express.\nTests cite the same ids.\n\n\
         | attack | | shown by |\n|---|---|---|\n",
    );
    for (id, about, selectors) in ATTACKS {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for case in &book.cases {
            if selectors.iter().any(|selector| selects(selector, case)) {
                groups.entry(case.group).or_default().push(&case.name);
            }
        }
        writeln!(out, "| {id} | {about} | {} |", listed(&groups)).unwrap();
    }
    out
}

/// The vectors of each group, the first few by name.
fn listed(groups: &BTreeMap<&str, Vec<&str>>) -> String {
    let group = |(group, names): (&&str, &Vec<&str>)| {
        let few: Vec<&str> = names.iter().take(NAMED).copied().collect();
        let more = names.len() - few.len();
        let rest = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        format!("{group}: {}{rest}", few.join(", "))
    };
    groups.iter().map(group).collect::<Vec<_>>().join("; ")
}
