//! Sizes measured in turn, and their ratios to the smallest.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::Error;

/// One size of what grows, and a way to measure it once more: what one message cost in a round.
pub struct Case<'a> {
    pub size: usize,
    pub round: Box<dyn FnMut() -> Result<Duration, Error> + 'a>,
}

/// Measures cases and prints them.
pub struct Table {
    rounds: usize,
    only: Option<usize>,
    csv: Option<PathBuf>,
}

impl Table {
    /// A table of so many rounds, perhaps of one size only, which adds its ratios to a file.
    pub fn new(rounds: usize, only: Option<usize>, csv: Option<PathBuf>) -> Self {
        Self { rounds, only, csv }
    }

    /// Measures one table, the smallest size first in `cases`.
    pub fn measure(&mut self, title: &str, mut cases: Vec<Case<'_>>) -> Result<(), Error> {
        cases.retain(|case| self.only.is_none_or(|only| only == case.size));
        if cases.is_empty() {
            return Ok(());
        }
        let mut taken: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
        // Once unmeasured: what is met for the first time is not what is asked here.
        for case in &mut cases {
            (case.round)()?;
        }
        for round in 0..self.rounds {
            // Each begins as often as any other.
            for step in 0..cases.len() {
                let index = (round + step) % cases.len();
                taken[index].push((cases[index].round)()?.as_secs_f64() * 1e9);
            }
        }
        println!("{title}, {} rounds, a message", self.rounds);
        for (case, times) in cases.iter().zip(&taken) {
            let ratios = times.iter().zip(&taken[0]).map(|(time, base)| time / base);
            let ratios = quartiles(ratios.collect());
            let times = quartiles(times.clone());
            println!(
                "{:>8} {:>9.0} ns {:>19}   {:.3} ({:.3}–{:.3})",
                case.size,
                times[1],
                format!("({:.0}–{:.0})", times[0], times[2]),
                ratios[1],
                ratios[0],
                ratios[2],
            );
            self.note(title, case.size, ratios)?;
        }
        println!();
        Ok(())
    }

    fn note(&self, title: &str, size: usize, [low, middle, high]: [f64; 3]) -> Result<(), Error> {
        let Some(path) = &self.csv else {
            return Ok(());
        };
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        if file.metadata()?.len() == 0 {
            writeln!(file, "what,how,size,ratio,low,high")?;
        }
        let title = title.replace(", ", ",");
        writeln!(file, "{title},{size},{middle:.3},{low:.3},{high:.3}")?;
        Ok(())
    }
}

/// The quartiles of what is not empty.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    [last / 4, last / 2, last - last / 4].map(|index| values[index])
}
