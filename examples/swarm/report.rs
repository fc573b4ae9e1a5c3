//! What the writer writes: a report of every document, and an index of their terms.

use std::collections::BTreeMap;

use crate::text::Finding;
use crate::text::key_terms;

/// Key terms named for each document.
const KEY_TERMS: usize = 8;

/// Headings named for each document.
const HEADINGS: usize = 10;

/// The report, as Markdown.
pub fn report(findings: &[Finding]) -> String {
    let sum = |figure: fn(&Finding) -> usize| findings.iter().map(figure).sum::<usize>();
    let mut lines = vec![
        "# Report".to_owned(),
        String::new(),
        "| document | words | lines | headings |".to_owned(),
        "|---|--:|--:|--:|".to_owned(),
    ];
    for finding in findings {
        let name = one_line(&finding.name);
        lines.push(row(
            &name,
            finding.words,
            finding.lines,
            finding.headings.len(),
        ));
    }
    let headings = sum(|finding| finding.headings.len());
    lines.push(row("total", sum(|f| f.words), sum(|f| f.lines), headings));
    for finding in findings {
        let terms = key_terms(findings, finding, KEY_TERMS);
        lines.push(format!("\n## {}\n", one_line(&finding.name)));
        lines.push(format!("Key terms: {}.", terms.join(", ")));
        let headings = finding.headings.iter().take(HEADINGS).map(|h| one_line(h));
        let headings: Vec<String> = headings.collect();
        if !headings.is_empty() {
            lines.push(format!("\nHeadings: {}.", headings.join("; ")));
        }
        for sentence in &finding.summary {
            lines.push(format!("\n> {}", one_line(sentence)));
        }
        lines.push(format!("\nResearched by {}.", one_line(&finding.by)));
    }
    lines.join("\n") + "\n"
}

/// The index, as Markdown: the key terms of all documents, and how often each stands where.
pub fn index(findings: &[Finding]) -> String {
    let mut entries: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for finding in findings {
        for term in key_terms(findings, finding, KEY_TERMS) {
            entries.entry(term).or_default();
        }
    }
    for (term, places) in &mut entries {
        for finding in findings {
            let count = finding.terms.iter().find(|(found, _)| found == term);
            let name = one_line(&finding.name);
            places.extend(count.map(|(_, count)| format!("{name} ({count})")));
        }
    }
    let mut lines = vec!["# Index\n".to_owned()];
    let entry =
        |(term, places): (&String, &Vec<String>)| format!("- {term}: {}", places.join(", "));
    lines.extend(entries.iter().map(entry));
    lines.join("\n") + "\n"
}

fn row(name: &str, words: usize, lines: usize, headings: usize) -> String {
    format!("| {name} | {words} | {lines} | {headings} |")
}

/// Text of a document, as part of a line of ours.
fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() || c == '|' { ' ' } else { c };
    text.chars().map(plain).collect()
}
