//! The inside of the in-process bus: who listens where, and who gets what.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::faults::{Dice, Faults, matches};
use super::memory::Buckets;
use super::memory::MemoryOptions;
use super::{Delivery, HeaderMap, HeaderValue, Outgoing, Statistics, StatusCode, Subject};

/// What the server knows of a client.
pub(super) struct Endpoint {
    pub(super) id: u64,
    pub(super) options: MemoryOptions,
    pub(super) closed: AtomicBool,
    pub(super) dropped: AtomicU64,
    pub(super) statistics: Arc<Statistics>,
}

/// One subscription, seen from the server.
pub(super) struct Route {
    pub(super) owner: Arc<Endpoint>,
    pub(super) pattern: Subject,
    pub(super) queue: Option<String>,
    pub(super) sender: mpsc::Sender<Delivery>,
}

/// The inside of the server: who listens where, and what stands between them and publishers.
pub(super) struct Exchange {
    numbers: u64,
    routes: BTreeMap<u64, Route>,
    /// Patterns without wildcards, of which inboxes make many, are looked up; the rest is tried.
    literal: HashMap<String, BTreeSet<u64>>,
    wild: BTreeSet<u64>,
    pub(super) dice: Dice,
    pub(super) faults: Option<Faults>,
    pub(super) buckets: Buckets,
    taps: Vec<Weak<Mutex<Vec<Outgoing>>>>,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            numbers: 0,
            routes: BTreeMap::new(),
            literal: HashMap::new(),
            wild: BTreeSet::new(),
            dice: Dice::seeded(0),
            faults: None,
            buckets: Buckets::default(),
            taps: Vec::new(),
        }
    }
}

impl Exchange {
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn add(&mut self, route: Route) -> u64 {
        let id = self.number();
        match is_wild(&route.pattern) {
            true => self.wild.insert(id),
            false => self
                .literal
                .entry(route.pattern.to_string())
                .or_default()
                .insert(id),
        };
        self.routes.insert(id, route);
        id
    }

    pub(super) fn remove(&mut self, id: u64) {
        let Some(route) = self.routes.remove(&id) else {
            return;
        };
        self.wild.remove(&id);
        if let Some(ids) = self.literal.get_mut(route.pattern.as_str()) {
            ids.remove(&id);
            if ids.is_empty() {
                self.literal.remove(route.pattern.as_str());
            }
        }
    }

    /// Removes every subscription of one client.
    pub(super) fn remove_all(&mut self, owner: u64) {
        let routes = self.routes.iter();
        let own = routes.filter(|(_, route)| route.owner.id == owner);
        let own: Vec<u64> = own.map(|(id, _)| *id).collect();
        for id in own {
            self.remove(id);
        }
    }

    pub(super) fn subscriptions(&self) -> usize {
        self.routes.len()
    }

    /// Has [`record`](Self::record) fill `tap` for as long as somebody else holds it.
    pub(super) fn listen_in(&mut self, tap: &Arc<Mutex<Vec<Outgoing>>>) {
        self.taps.push(Arc::downgrade(tap));
    }

    pub(super) fn record(&mut self, message: &Outgoing) {
        self.taps.retain(|tap| {
            let Some(tap) = tap.upgrade() else {
                return false;
            };
            let mut recorded = tap.lock().unwrap_or_else(PoisonError::into_inner);
            recorded.push(message.clone());
            true
        });
    }

    /// Routes what `from` published, and tells it when a request found nobody.
    pub(super) fn carry(&mut self, route: &str, delivery: Delivery, from: &Arc<Endpoint>) {
        let reply = delivery.reply.clone();
        if self.route(route, delivery, Some(from)) > 0 {
            return;
        }
        // Like nats-server: to one plain subscription of the asking connection, nobody else.
        let asker = reply.and_then(|reply| {
            let ids = self.interested(&reply);
            let own = |id: &u64| {
                let route = &self.routes[id];
                route.queue.is_none() && route.owner.id == from.id
            };
            ids.into_iter().find(own).map(|id| (id, reply))
        });
        if let Some((id, reply)) = asker {
            self.hand(id, no_responders(reply, route));
        }
    }

    /// Hands a message to everyone who listens on `route`: each plain subscription, and one
    /// member of each queue group by name, whatever its members' patterns. Counts them.
    pub(super) fn route(
        &mut self,
        route: &str,
        delivery: Delivery,
        from: Option<&Arc<Endpoint>>,
    ) -> usize {
        let silent = from.filter(|from| from.options.no_echo).map(|from| from.id);
        let mut chosen = Vec::new();
        let mut groups: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for id in self.interested(route) {
            let route = &self.routes[&id];
            match &route.queue {
                _ if silent == Some(route.owner.id) => {}
                None => chosen.push(id),
                Some(queue) => groups.entry(queue.clone()).or_default().push(id),
            }
        }
        for members in groups.values() {
            chosen.push(members[self.dice.below(members.len())]);
        }
        for id in &chosen {
            self.hand(*id, delivery.clone());
        }
        chosen.len()
    }

    fn interested(&self, subject: &str) -> Vec<u64> {
        let literal = self.literal.get(subject).into_iter().flatten();
        let ids = literal.chain(&self.wild).copied();
        ids.filter(|id| matches(&self.routes[id].pattern, subject))
            .collect()
    }

    fn hand(&mut self, id: u64, delivery: Delivery) {
        let Some(route) = self.routes.get(&id) else {
            return;
        };
        let owner = &route.owner;
        let size = delivery.payload.len() + delivery.subject.len();
        owner.statistics.in_messages.fetch_add(1, Ordering::Relaxed);
        owner
            .statistics
            .in_bytes
            .fetch_add(size as u64, Ordering::Relaxed);
        // A closed receiver is one being dropped, whose route is about to go.
        if let Err(mpsc::error::TrySendError::Full(_)) = route.sender.try_send(delivery) {
            owner.dropped.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(pattern = %route.pattern, "subscription full, message dropped");
        }
    }
}

fn is_wild(pattern: &str) -> bool {
    pattern.split('.').any(|token| token == "*" || token == ">")
}

/// The status message nats-server answers with when a request on `subject` found nobody.
fn no_responders(reply: Subject, subject: &str) -> Delivery {
    let mut headers = HeaderMap::new();
    if let Ok(subject) = subject.parse::<HeaderValue>() {
        headers.insert("Nats-Subject", subject);
    }
    Delivery {
        subject: reply,
        reply: None,
        payload: Bytes::new(),
        headers: Some(headers),
        status: Some(StatusCode::NO_RESPONDERS),
        description: None,
    }
}
