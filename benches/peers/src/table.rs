//! The table, in Markdown.

use crate::contender::Contender;
use crate::contender::What;
use crate::rounds::Figure;
use crate::rounds::Rounds;
use crate::scene::By;
use crate::scene::PAYLOAD;
use crate::scene::Verdict;
use crate::trials::Trial;

/// What became of every trial, by library.
pub fn verdicts(contenders: &[Box<dyn Contender>]) -> Vec<Vec<Option<Verdict>>> {
    contenders
        .iter()
        .map(|contender| {
            let attempt = |(trial, _)| contender.attempt(trial);
            Trial::ALL.into_iter().map(attempt).collect()
        })
        .collect()
}

pub fn print(
    contenders: &[Box<dyn Contender>],
    verdicts: &[Vec<Option<Verdict>>],
    rounds: &Rounds,
) {
    let (sign, verify, old) = (rounds.sign(), rounds.verify(), rounds.verify_old());
    println!(
        "{} calm rounds of {}, in {} processes. V, one bare `verify_strict` by ed25519-dalek {}: \
         {:.1} µs. One bare signature: {}. V by ed25519-dalek {}: {}.\n",
        rounds.calm,
        rounds.measured,
        rounds.processes,
        version("ed25519-dalek", "3."),
        verify.time,
        show(&sign),
        version("ed25519-dalek", "2."),
        show(&old),
    );
    let questions: Vec<&str> = Trial::ALL.iter().map(|(_, question)| *question).collect();
    println!(
        "| | hops | warm verify | cold verify | mint a hop | sign a call | bytes over {PAYLOAD} \
         | {} |",
        questions.join(" | ")
    );
    println!("|{}", "---|".repeat(7 + questions.len()));
    for (index, contender) in contenders.iter().enumerate() {
        for hops in [1, 3] {
            let name = match hops {
                1 => {
                    let (name, note) = (contender.name(), contender.note());
                    format!("{name} {}{note}", version(name, ""))
                }
                _ => String::new(),
            };
            let cell = |what| match rounds.of(index, what) {
                Some(figure) => show(&figure),
                None => "–".to_owned(),
            };
            let mark = match contender.keeper() {
                Some(By::Caller) => " †",
                _ => "",
            };
            let checks: Vec<&str> = match hops {
                1 => vec![""; questions.len()],
                _ => verdicts[index].iter().map(word).collect(),
            };
            println!(
                "| {name} | {hops} | {}{mark} | {} | {} | {} | {} | {} |",
                cell(What::Warm(hops)),
                cell(What::Cold(hops)),
                cell(What::Mint(hops)),
                cell(What::Sign(hops)),
                contender.bytes(hops) - PAYLOAD,
                checks.join(" | ")
            );
        }
    }
    println!(
        "\n† kept by code around the library. \
         *yes*: a call with this fault was refused by the library; \
         *by caller*: by code that it leaves to its user, written for this; \
         *no*: it was accepted."
    );
}

/// `0.98 V (0.96–1.02), 36.9 µs`.
fn show(figure: &Figure) -> String {
    let Figure {
        time,
        ratio,
        low,
        high,
    } = figure;
    format!("{ratio:.2} V ({low:.2}–{high:.2}), {time:.1} µs")
}

/// Whether the fault was refused, and by whom.
fn word(verdict: &Option<Verdict>) -> &'static str {
    match verdict {
        Some(Err(By::Library)) => "yes",
        Some(Err(By::Caller)) => "by caller",
        Some(Ok(())) => "no",
        None => "",
    }
}

/// The version of a crate in the lock file, of those that start like this.
fn version(name: &str, start: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let packages = lock.split("[[package]]\n");
    let field = |package: &'static str, name: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.strip_prefix(" = \"")?.strip_suffix('"'))
    };
    packages
        .filter(|package| field(package, "name") == Some(name))
        .filter_map(|package| field(package, "version"))
        .find(|version| version.starts_with(start))
        .unwrap()
}
