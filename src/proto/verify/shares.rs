//! What verified once, chains and batches, with a share for each sender.
//!
//! One sender can make as many valid ones as it likes, and use each as often as it takes to seem
//! worth keeping. It pushes out its own, not those of others.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use quick_cache::sync::Cache;

use crate::proto::identity::KeyBytes;
use crate::proto::limits::CACHE_SENDERS;
use crate::proto::signing::ObjectId;

/// What one sender has, oldest first.
type Share = Arc<Mutex<VecDeque<ObjectId>>>;

/// A bounded memory of what has an id.
pub(super) struct Shares<T> {
    kept: Cache<ObjectId, T>,
    /// A share that is forgotten leaves what is in it to the bound of all.
    shares: Cache<KeyBytes, Share>,
    share: usize,
}

impl<T> fmt::Debug for Shares<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shares").finish_non_exhaustive()
    }
}

impl<T: Clone> Shares<T> {
    /// A memory of `most` things, and at most `share` of each sender.
    pub(super) fn new(most: usize, share: usize) -> Self {
        Self {
            kept: Cache::new(most),
            shares: Cache::new(CACHE_SENDERS),
            share,
        }
    }

    pub(super) fn get(&self, id: &ObjectId) -> Option<T> {
        self.kept.get(id)
    }

    /// Remembers something of a sender, in place of its oldest when it has its share.
    pub(super) fn insert(&self, sender: &KeyBytes, id: ObjectId, value: T) {
        let share = self.shares.get(sender).unwrap_or_else(|| {
            let share = Share::default();
            self.shares.insert(*sender, share.clone());
            share
        });
        let mut share = share.lock().unwrap_or_else(PoisonError::into_inner);
        if !share.contains(&id) {
            if share.len() >= self.share
                && let Some(oldest) = share.pop_front()
            {
                self.kept.remove(&oldest);
            }
            share.push_back(id);
        }
        self.kept.insert(id, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::limits::CHAIN_CACHE;
    use crate::proto::limits::CHAIN_SHARE;

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
        let chains = Shares::new(CHAIN_CACHE, CHAIN_SHARE);
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
        let chains = Shares::new(CHAIN_CACHE, CHAIN_SHARE);
        for number in 0..200_000u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            chains.insert(&KeyBytes(key), leaf(number), number);
        }
        assert!(chains.kept.len() <= CHAIN_CACHE);
        assert!(chains.shares.len() <= CACHE_SENDERS);
    }

    #[test]
    fn a_chain_that_is_met_again_takes_no_second_place() {
        let chains = Shares::new(CHAIN_CACHE, CHAIN_SHARE);
        for _ in 0..3 * CHAIN_SHARE {
            chains.insert(&sender(1), leaf(1), 1);
        }
        chains.insert(&sender(1), leaf(2), 2);
        assert_eq!(chains.get(&leaf(1)), Some(1));
    }
}
