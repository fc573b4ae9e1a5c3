//! A [`Peer`] whatever its receivers are, and its operations, ready to be timed.

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;

use serde::Deserialize;
use serde::Serialize;

use crate::scene::By;
use crate::scene::Peer;
use crate::scene::Setting;
use crate::scene::Verdict;
use crate::scene::Who;
use crate::trials::Trial;

/// Operations in a row; their median is one sample.
pub const BATCH: usize = 16;

/// What is measured, for chains of this many delegations.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum What {
    /// Verifying a call under a chain that was verified before.
    Warm(usize),
    /// Verifying a call under a chain that was never met, from bytes.
    Cold(usize),
    /// Handing authority on.
    Mint(usize),
    /// Signing a call.
    Sign(usize),
}

impl What {
    pub const ALL: [Self; 8] = [
        Self::Warm(1),
        Self::Warm(3),
        Self::Cold(1),
        Self::Cold(3),
        Self::Mint(1),
        Self::Mint(3),
        Self::Sign(1),
        Self::Sign(3),
    ];
}

/// Operations, each to be run once.
pub type Batch<'a> = Vec<Box<dyn FnMut() + 'a>>;

pub trait Contender {
    fn name(&self) -> &'static str;

    /// What is different from others of the same name.
    fn note(&self) -> &'static str {
        ""
    }

    fn keeper(&self) -> Option<By>;

    /// `None` for what the library has no notion of.
    fn batch(&self, what: What) -> Option<Batch<'_>>;

    /// Bytes of a call, the payload included.
    fn bytes(&self, hops: usize) -> usize;

    /// `None` where others of the same name were tried.
    fn attempt(&self, trial: Trial) -> Option<Verdict>;
}

impl<P: Peer> Contender for P {
    fn name(&self) -> &'static str {
        Peer::name(self)
    }

    fn keeper(&self) -> Option<By> {
        Peer::keeper(self)
    }

    fn batch(&self, what: What) -> Option<Batch<'_>> {
        match what {
            What::Warm(hops) => Peer::keeper(self).map(|_| warm(self, hops)),
            What::Cold(hops) => Some(cold(self, hops)),
            What::Mint(hops) => Some(repeat(move || drop(black_box(self.mint(hops))))),
            What::Sign(hops) => self
                .signs()
                .then(|| repeat(move || drop(black_box(self.call(hops))))),
        }
    }

    fn bytes(&self, hops: usize) -> usize {
        self.call(hops).bytes.len()
    }

    fn attempt(&self, trial: Trial) -> Option<Verdict> {
        Some(trial.attempt(self))
    }
}

/// One receiver, which has met the chain, and a new call for each operation.
fn warm<P: Peer>(peer: &P, hops: usize) -> Batch<'_> {
    let mut receiver = peer.receiver(Setting {
        keeps: true,
        ..Setting::of(Who::Bob)
    });
    peer.verify(&mut receiver, &peer.call(hops)).unwrap();
    let receiver = Rc::new(RefCell::new(receiver));
    let operation = |_| -> Box<dyn FnMut() + '_> {
        let (receiver, call) = (receiver.clone(), peer.call(hops));
        Box::new(move || peer.verify(&mut receiver.borrow_mut(), &call).unwrap())
    };
    (0..BATCH).map(operation).collect()
}

/// A new receiver and a new call for each operation.
fn cold<P: Peer>(peer: &P, hops: usize) -> Batch<'_> {
    let operation = |_| -> Box<dyn FnMut() + '_> {
        let mut receiver = peer.receiver(Setting::of(Who::Bob));
        let call = peer.call(hops);
        Box::new(move || peer.verify(&mut receiver, &call).unwrap())
    };
    (0..BATCH).map(operation).collect()
}

/// The same operation again and again.
fn repeat<'a>(operation: impl FnMut() + Copy + 'a) -> Batch<'a> {
    let operation = |_| -> Box<dyn FnMut() + 'a> { Box::new(operation) };
    (0..BATCH).map(operation).collect()
}
