//! How often: token buckets, one for each rule and link (protocol §10.5).

use std::collections::HashMap;

use super::Permitted;
use super::Policy;
use super::Rate;
use super::denied;
use crate::proto::chain::Chain;
use crate::proto::limits::RATE_BUCKETS;
use crate::proto::rejection::Overloaded;
use crate::proto::rejection::PolicyDenied;
use crate::proto::rejection::Rejection;
use crate::proto::signing::ObjectId;
use crate::proto::time::Timestamp;

/// The rates of one receiver (protocol §10.5), debited to every link of a chain: splitting an
/// allowance over children does not multiply it.
///
/// One serves all subscriptions of a receiver. The default holds nothing, so every allowance is
/// full. It keeps at most [`RATE_BUCKETS`] buckets; beyond that a message that needs a new one is
/// refused with [`Overloaded::Rates`].
#[derive(Debug, Default)]
pub struct RateLimiter {
    buckets: HashMap<(String, ObjectId), Bucket>,
    swept: Timestamp,
}

/// A token bucket in exact integers: a message costs `per_ms`, a millisecond earns `count`.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: u64,
    rate: Rate,
    at: Timestamp,
}

impl Bucket {
    fn refilled(&self, rate: Rate, now: Timestamp) -> u64 {
        let earned = now.since(self.at).saturating_mul(u64::from(rate.count));
        self.level.saturating_add(earned).min(capacity(rate))
    }
}

fn capacity(rate: Rate) -> u64 {
    u64::from(rate.count) * u64::from(rate.per_ms)
}

impl RateLimiter {
    /// Debits one message to every rated rule and every link, or to none.
    pub(crate) fn reserve(
        &mut self,
        policy: &Policy,
        permitted: &Permitted,
        chain: &Chain,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        let debits = debits(policy, permitted, chain);
        for (key, rate) in &debits {
            let level = match self.buckets.get(key) {
                Some(bucket) => bucket.refilled(*rate, now),
                None => capacity(*rate),
            };
            if level < u64::from(rate.per_ms) {
                return denied(PolicyDenied::Rate);
            }
        }
        self.make_room(debits.len(), now)?;
        for (key, rate) in debits {
            let full = Bucket {
                level: capacity(rate),
                rate,
                at: now,
            };
            let bucket = self.buckets.entry(key).or_insert(full);
            let level = bucket.refilled(rate, now) - u64::from(rate.per_ms);
            *bucket = Bucket {
                level,
                rate,
                at: now,
            };
        }
        Ok(())
    }

    /// Gives back what a message took that was a replay after all.
    pub(crate) fn release(&mut self, policy: &Policy, permitted: &Permitted, chain: &Chain) {
        for (key, rate) in debits(policy, permitted, chain) {
            if let Some(bucket) = self.buckets.get_mut(&key) {
                bucket.level = (bucket.level + u64::from(rate.per_ms)).min(capacity(rate));
            }
        }
    }

    /// A full bucket says nothing and can be forgotten; one that is not full never is.
    fn make_room(&mut self, wanted: usize, now: Timestamp) -> Result<(), Rejection> {
        if self.buckets.len() + wanted <= RATE_BUCKETS {
            return Ok(());
        }
        if now.since(self.swept) >= 1_000 {
            self.swept = now;
            self.buckets
                .retain(|_, b| b.refilled(b.rate, now) < capacity(b.rate));
        }
        if self.buckets.len() + wanted <= RATE_BUCKETS {
            Ok(())
        } else {
            Err(Rejection::Overloaded {
                reason: Overloaded::Rates,
            })
        }
    }
}

fn debits(
    policy: &Policy,
    permitted: &Permitted,
    chain: &Chain,
) -> Vec<((String, ObjectId), Rate)> {
    let rated = permitted
        .rates
        .iter()
        .filter_map(|index| policy.rules.get(*index));
    rated
        .filter_map(|rule| rule.limits.rate.map(|rate| (rule, rate)))
        .flat_map(|(rule, rate)| {
            chain
                .links()
                .iter()
                .map(move |link| ((rule.name.clone(), link.id()), rate))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::delegation::LinkDraft;
    use crate::proto::identity::SigningKey;
    use crate::proto::replay::MessageId;
    use crate::proto::scope::Scope;
    use crate::proto::signing::MeshId;
    use crate::proto::time::Validity;

    fn chain(nonce: u8) -> Chain {
        let [issuer, holder] = [1, 2].map(|seed| SigningKey::from_seed(&[seed; 32]).unwrap());
        let window = Validity::new(Timestamp::from_millis(0), Timestamp::from_millis(1_000));
        let draft = LinkDraft {
            holder: holder.public().bytes(),
            validity: window.unwrap(),
            remaining: 0,
            scope: Scope::default(),
            nonce: [nonce; 16],
        };
        Chain::root_grant(MeshId([0; 16]), &draft, &issuer).unwrap()
    }

    /// A memory full of buckets that are not full refuses what needs new ones, and forgets none.
    #[test]
    fn a_full_rate_memory_refuses_and_forgets_no_bucket_in_use() {
        let policy = Policy::from_json(
            r#"{ "rules": [ { "name": "r", "effect": "allow", "actions": ["pub"],
                 "subjects": ">", "rate": { "count": 2, "per_ms": 10000 } } ] }"#,
        )
        .unwrap();
        let permitted = Permitted {
            mid: MessageId([0; 16]),
            rates: vec![0],
        };
        let (known, new) = (chain(1), chain(2));
        let now = Timestamp::from_millis(100_000);
        let mut rates = RateLimiter::default();
        rates.reserve(&policy, &permitted, &known, now).unwrap();
        let used = *rates.buckets.values().next().unwrap();
        for number in 1..RATE_BUCKETS as u64 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            rates.buckets.insert(("r".to_owned(), ObjectId(id)), used);
        }
        let full = Rejection::Overloaded {
            reason: Overloaded::Rates,
        };
        let refused = rates.reserve(&policy, &permitted, &new, now);
        assert_eq!(refused, Err(full));
        assert_eq!(rates.buckets.len(), RATE_BUCKETS);
        // Full again after `per_ms / count`, the buckets say nothing and make room.
        let later = now.plus(5_000);
        rates.reserve(&policy, &permitted, &new, later).unwrap();
        assert_eq!(rates.buckets.len(), 1);
    }
}
