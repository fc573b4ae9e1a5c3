//! Measuring: every operation of every library in every round, beside bare signatures.
//!
//! The order of libraries turns around from round to round, so that whatever disturbs the machine
//! disturbs all of them. Some operations take up to a fifth longer in one process than in another,
//! for its whole life, so the rounds are those of many processes. Only calm rounds count.

use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use serde::Deserialize;
use serde::Serialize;

use crate::contender::BATCH;
use crate::contender::Batch;
use crate::contender::Contender;
use crate::contender::What;
use crate::scene::seed;

/// Rounds of one process.
const ROUNDS: usize = 4;

/// Calm rounds that are enough, and processes after which to wait for them no longer.
const ENOUGH: usize = 100;
const PROCESSES: usize = 100;

/// How far a calm round's bare signatures and verifications may be from the median of all.
const CALM: f64 = 0.10;

/// Times in microseconds.
#[derive(Default, Deserialize, Serialize)]
pub struct Round {
    /// Bare signatures and strict verifications, one sample of each before each library.
    sign: Vec<f64>,
    verify: Vec<f64>,
    /// The same verifications by ed25519-dalek 2.
    verify_old: Vec<f64>,
    /// By library and operation.
    times: Vec<(usize, What, f64)>,
}

impl Round {
    fn measure(contenders: &[Box<dyn Contender>], number: usize) -> Self {
        let mut round = Self::default();
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        if number % 2 == 1 {
            order.reverse();
        }
        for index in order {
            bare(&mut round);
            for what in What::ALL {
                if let Some(batch) = contenders[index].batch(what) {
                    round.times.push((index, what, sample(batch)));
                }
            }
        }
        round
    }

    fn is_calm(&self, sign: f64, verify: f64) -> bool {
        let near = |times: &[f64], middle: f64| {
            times.iter().all(|time| (time / middle - 1.0).abs() <= CALM)
        };
        near(&self.sign, sign) && near(&self.verify, verify)
    }
}

/// The rounds that count.
pub struct Rounds {
    rounds: Vec<Round>,
    pub processes: usize,
    pub measured: usize,
    pub calm: usize,
}

/// Measures the rounds of one process and prints them, a line each.
pub fn measure(contenders: &[Box<dyn Contender>]) {
    for number in 0..ROUNDS {
        let round = Round::measure(contenders, number);
        println!("{}", serde_json::to_string(&round).unwrap());
    }
}

impl Rounds {
    /// Runs this program again with `argument`, which is to [`measure`], until it has enough.
    pub fn gather(argument: &str) -> Self {
        let mut rounds: Vec<Round> = Vec::new();
        for process in 1.. {
            let program = std::env::current_exe().unwrap();
            let output = Command::new(program).arg(argument).output().unwrap();
            assert!(output.status.success(), "a measuring process failed");
            let text = String::from_utf8(output.stdout).unwrap();
            let read = |line| serde_json::from_str::<Round>(line).unwrap();
            rounds.extend(text.lines().map(read));

            let sign = middle(rounds.iter().flat_map(|round| &round.sign).copied());
            let verify = middle(rounds.iter().flat_map(|round| &round.verify).copied());
            let is_calm = |round: &Round| round.is_calm(sign, verify);
            let calm = rounds.iter().filter(|round| is_calm(round)).count();
            if calm >= ENOUGH || process == PROCESSES {
                let measured = rounds.len();
                // Where none was calm all count, and the table says so.
                if calm > 0 {
                    rounds.retain(is_calm);
                }
                return Self {
                    rounds,
                    processes: process,
                    measured,
                    calm,
                };
            }
        }
        unreachable!("the number of processes is bounded")
    }

    pub fn sign(&self) -> Figure {
        self.figure(|round| Some(middle(round.sign.iter().copied())))
            .unwrap()
    }

    pub fn verify(&self) -> Figure {
        self.figure(|round| Some(middle(round.verify.iter().copied())))
            .unwrap()
    }

    pub fn verify_old(&self) -> Figure {
        self.figure(|round| Some(middle(round.verify_old.iter().copied())))
            .unwrap()
    }

    pub fn of(&self, contender: usize, what: What) -> Option<Figure> {
        self.figure(|round| {
            let mut times = round.times.iter();
            let found = times.find(|(index, which, _)| (*index, *which) == (contender, what));
            found.map(|(.., time)| *time)
        })
    }

    fn figure(&self, time: impl Fn(&Round) -> Option<f64>) -> Option<Figure> {
        let pairs = |round| Some((time(round)?, middle(round.verify.iter().copied())));
        let pairs: Option<Vec<(f64, f64)>> = self.rounds.iter().map(pairs).collect();
        let pairs = pairs?;
        let mut ratios: Vec<f64> = pairs.iter().map(|(time, verify)| time / verify).collect();
        ratios.sort_by(f64::total_cmp);
        let at = |share: f64| ratios[((ratios.len() - 1) as f64 * share).round() as usize];
        Some(Figure {
            time: middle(pairs.iter().map(|(time, _)| *time)),
            ratio: at(0.5),
            low: at(0.1),
            high: at(0.9),
        })
    }
}

/// A time as the median of rounds, and its ratio to the bare verification of the same round with
/// what eight rounds of ten lie between.
pub struct Figure {
    pub time: f64,
    pub ratio: f64,
    pub low: f64,
    pub high: f64,
}

/// One sample of each bare operation, over 200 bytes.
fn bare(round: &mut Round) {
    use ed25519_dalek::Signer as _;

    let number = round.sign.len() as u64;
    let key = ed25519_dalek::SigningKey::from_bytes(&seed("alice"));
    let public = key.verifying_key();
    let old = ed25519_dalek_2::VerifyingKey::from_bytes(public.as_bytes()).unwrap();
    let messages: Vec<[u8; 200]> = (0..BATCH as u64)
        .map(|index| {
            let mut message = [0x5a; 200];
            message[..16].copy_from_slice(&[number.to_be_bytes(), index.to_be_bytes()].concat());
            message
        })
        .collect();
    let signed: Vec<_> = messages.iter().map(|message| key.sign(message)).collect();
    let pairs = || messages.iter().zip(&signed);

    let sign = |message| -> Box<dyn FnMut() + '_> {
        let (key, message): (_, &[u8; 200]) = (&key, message);
        Box::new(move || {
            black_box(key.sign(message));
        })
    };
    round.sign.push(sample(messages.iter().map(sign).collect()));

    let mut batch: Batch<'_> = Vec::new();
    for (message, signature) in pairs() {
        batch.push(Box::new(|| {
            public.verify_strict(message, signature).unwrap();
        }));
    }
    round.verify.push(sample(batch));

    let mut batch: Batch<'_> = Vec::new();
    for (message, signature) in pairs() {
        let signature = ed25519_dalek_2::Signature::from_bytes(&signature.to_bytes());
        let old = &old;
        batch.push(Box::new(move || {
            old.verify_strict(message, &signature).unwrap();
        }));
    }
    round.verify_old.push(sample(batch));
}

/// The median time of the operations, in microseconds.
fn sample(mut batch: Batch<'_>) -> f64 {
    middle(batch.iter_mut().map(|operation| {
        let start = Instant::now();
        operation();
        start.elapsed().as_secs_f64() * 1e6
    }))
}

fn middle(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
