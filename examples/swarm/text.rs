//! Reading a document: its figures, its words, and the sentences that say most.

use std::collections::BTreeMap;
use std::collections::HashMap;

use serde::Deserialize;
use serde::Serialize;

/// Terms reported for each document.
const TERMS: usize = 60;

/// Sentences of a summary.
const SENTENCES: usize = 2;

/// Words that say nothing about a text.
const STOP_WORDS: &str = "a about above after again all also an and any are as at be because been \
    before being below both but by can cannot could did do does doing done each either else every \
    few for from further had has have having he her here him his how however i if in into is it \
    its itself just like made make may me might more most must my neither no nor not of off on \
    once one only or other our out over own per same shall she should since so some such than \
    that the their them then there therefore these they this those through to too two under \
    until up upon us very was we were what when where whether which while who whom whose why \
    will with within without would you your";

/// What was found in one document.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Finding {
    /// Path of the document.
    pub name: String,
    /// Who researched it.
    pub by: String,
    /// Number of words: what stands between white space.
    pub words: usize,
    /// Number of lines.
    pub lines: usize,
    /// Markdown headings.
    pub headings: Vec<String>,
    /// The most frequent terms, most frequent first.
    pub terms: Vec<(String, usize)>,
    /// The sentences that say most, in the order of the text.
    pub summary: Vec<String>,
}

impl Finding {
    /// Reads a text.
    pub fn of(text: &str) -> Self {
        let prose = prose(text);
        let counts = count_terms(text);
        let mut terms: Vec<(String, usize)> = counts.clone().into_iter().collect();
        terms.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        terms.truncate(TERMS);
        Self {
            words: text.split_whitespace().count(),
            lines: text.lines().count(),
            headings: headings(text).map(str::to_owned).collect(),
            summary: summary(&prose, &counts),
            terms,
            ..Self::default()
        }
    }
}

/// The terms of each document that tell it from the others: frequent here, rare elsewhere
/// (tf–idf, over the terms the documents reported).
pub fn key_terms(findings: &[Finding], of: &Finding, most: usize) -> Vec<String> {
    let mut documents: HashMap<&str, usize> = HashMap::new();
    for (term, _) in findings.iter().flat_map(|finding| &finding.terms) {
        *documents.entry(term).or_default() += 1;
    }
    let weight = |(term, count): &(String, usize)| {
        let share = findings.len() as f64 / documents[&**term] as f64;
        *count as f64 * (1.0 + share.ln())
    };
    let mut terms: Vec<_> = of
        .terms
        .iter()
        .map(|term| (weight(term), &term.0))
        .collect();
    terms.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    terms
        .into_iter()
        .take(most)
        .map(|(_, term)| term.clone())
        .collect()
}

/// Runs of letters and digits, in lower case, that mean something.
fn count_terms(text: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let words = text
        .split(|c: char| !c.is_alphanumeric())
        .map(str::to_lowercase);
    let speaks = |word: &String| {
        word.chars().count() > 2
            && word.starts_with(char::is_alphabetic)
            && !STOP_WORDS.split_whitespace().any(|stop| stop == word)
    };
    for word in words.filter(speaks) {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

fn headings(text: &str) -> impl Iterator<Item = &str> {
    outside_code(text).filter_map(|line| {
        let title = line.trim_start_matches('#');
        let level = line.len() - title.len();
        ((1..=6).contains(&level) && title.starts_with(' ')).then(|| title.trim())
    })
}

/// The lines that are not in a fenced code block.
fn outside_code(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// Running text: no code, headings, tables or pictures; one string a paragraph.
fn prose(text: &str) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    for line in outside_code(text).map(str::trim) {
        let item = line.starts_with("- ") || line.starts_with("* ");
        if line.is_empty() || line.starts_with(['#', '|', '<', '!']) || item {
            paragraphs.push(String::new());
        }
        if line.is_empty() || line.starts_with(['#', '|', '<', '!']) {
            continue;
        }
        if let Some(paragraph) = paragraphs.last_mut() {
            paragraph.push_str(line.trim_start_matches(['-', '*', '>', ' ']));
            paragraph.push(' ');
        }
    }
    paragraphs
}

/// The sentences whose terms are the most frequent of the text.
fn summary(prose: &[String], counts: &BTreeMap<String, usize>) -> Vec<String> {
    let sentences: Vec<String> = prose
        .iter()
        .flat_map(|paragraph| sentences(paragraph))
        .collect();
    let score = |sentence: &String| {
        let terms = count_terms(sentence);
        let sum: usize = terms.keys().filter_map(|term| counts.get(term)).sum();
        // Neither the longest sentence nor the shortest, but the densest.
        sum as f64 / (terms.len() as f64 + 4.0)
    };
    let mut ranked: Vec<(usize, f64)> = sentences.iter().map(score).enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut chosen: Vec<usize> = ranked.iter().take(SENTENCES).map(|(at, _)| *at).collect();
    chosen.sort_unstable();
    chosen.into_iter().map(|at| sentences[at].clone()).collect()
}

/// Sentences of 6 to 50 words.
fn sentences(paragraph: &str) -> Vec<String> {
    let ends = [". ", "! ", "? "];
    let mut sentences = Vec::new();
    let mut rest = paragraph;
    while let Some(at) = ends.iter().filter_map(|end| rest.find(end)).min() {
        let (sentence, tail) = rest.split_at(at + 1);
        rest = tail;
        let sentence = sentence.trim();
        if (6..=50).contains(&sentence.split_whitespace().count()) {
            sentences.push(sentence.to_owned());
        }
    }
    sentences
}
