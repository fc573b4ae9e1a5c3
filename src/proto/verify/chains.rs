//! Chains whose signatures verified, with a share for each sender.
//!
//! One sender can make as many valid chains as it likes, and use each as often as it takes to seem
//! worth keeping. It pushes out its own, not those of others.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use quick_cache::sync::Cache;

use crate::proto::identity::KeyBytes;
use crate::proto::limits::CHAIN_CACHE;
use crate::proto::limits::CHAIN_SENDERS;
use crate::proto::limits::CHAIN_SHARE;
use crate::proto::signing::ObjectId;

/// What one sender has, oldest first.
type Share = Arc<Mutex<VecDeque<ObjectId>>>;

/// A bounded memory of chains by the id of their last link.
pub(super) struct Chains<T> {
    chains: Cache<ObjectId, T>,
    /// A share that is forgotten leaves its chains to the bound of all.
    shares: Cache<KeyBytes, Share>,
}

impl<T> fmt::Debug for Chains<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chains").finish_non_exhaustive()
    }
}

impl<T: Clone> Chains<T> {
    pub(super) fn new() -> Self {
        Self {
            chains: Cache::new(CHAIN_CACHE),
            shares: Cache::new(CHAIN_SENDERS),
        }
    }

    pub(super) fn get(&self, leaf: &ObjectId) -> Option<T> {
        self.chains.get(leaf)
    }

    /// Remembers a chain of the holder of `sender`, in place of its oldest when it has its share.
    pub(super) fn insert(&self, sender: &KeyBytes, leaf: ObjectId, chain: T) {
        let share = self.shares.get(sender).unwrap_or_else(|| {
            let share = Share::default();
            self.shares.insert(*sender, share.clone());
            share
        });
        let mut share = share.lock().unwrap_or_else(PoisonError::into_inner);
        if !share.contains(&leaf) {
            if share.len() >= CHAIN_SHARE
                && let Some(oldest) = share.pop_front()
            {
                self.chains.remove(&oldest);
            }
            share.push_back(leaf);
        }
        self.chains.insert(leaf, chain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(number: u32) -> ObjectId {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        ObjectId(id)
    }

    fn sender(number: u8) -> KeyBytes {
        KeyBytes([number; 32])
    }

    /// DO-6: whatever number of chains one sender has, and however often it uses each, those of
    /// another stay, and it keeps no more than its share.
    #[test]
    fn a_sender_of_many_chains_pushes_out_its_own() {
        let chains = Chains::new();
        let others = 0..64;
        for number in others.clone() {
            chains.insert(&sender(1), leaf(number), number);
        }
        let many = 1_000..101_000;
        for number in many.clone() {
            chains.insert(&sender(2), leaf(number), number);
            for _ in 0..4 {
                assert_eq!(chains.get(&leaf(number)), Some(number));
            }
        }
        assert!(others.clone().all(|n| chains.get(&leaf(n)) == Some(n)));
        let kept = many.filter(|n| chains.get(&leaf(*n)).is_some()).count();
        assert_eq!(kept, CHAIN_SHARE);
    }

    /// DO-6: many senders are bounded by the whole.
    #[test]
    fn many_senders_are_bounded_together() {
        let chains = Chains::new();
        for number in 0..200_000u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            chains.insert(&KeyBytes(key), leaf(number), number);
        }
        assert!(chains.chains.len() <= CHAIN_CACHE);
        assert!(chains.shares.len() <= CHAIN_SENDERS);
    }

    #[test]
    fn a_chain_that_is_met_again_takes_no_second_place() {
        let chains = Chains::new();
        for _ in 0..3 * CHAIN_SHARE {
            chains.insert(&sender(1), leaf(1), 1);
        }
        chains.insert(&sender(1), leaf(2), 2);
        assert_eq!(chains.get(&leaf(1)), Some(1));
    }
}
