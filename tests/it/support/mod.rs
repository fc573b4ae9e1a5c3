//! What the tests share: servers to talk to, and ways to wait without sleeping.

pub mod bucket;
pub mod certificates;
pub mod link;
pub mod mesh;
pub mod nats;
pub mod plane;
pub mod saved;
pub mod served;
pub mod traffic;

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use futures::StreamExt;
use trustmesh::bus::Bus;
use trustmesh::bus::BusSubscriber;
use trustmesh::bus::Delivery;
use trustmesh::bus::Outgoing;
use trustmesh::bus::StatusCode;

/// How long anything may take that does happen: far more than it needs on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A first token no other test uses, so that tests can share a server.
pub fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("t{}-{count}", std::process::id())
}

/// Waits until the server has dealt with all this connection asked for, and until what it sent
/// the connection before has reached the subscriptions: it answers in order.
///
/// A request to nobody makes the round trip, because it works without echo as well.
pub async fn settle(bus: &dyn Bus) {
    let (inbox, nobody) = (unique(), unique());
    let subscribed = bus.subscribe(inbox.as_str().into(), None).await;
    let mut answers = subscribed.expect("the connection is open");
    let request = Outgoing::new(nobody, "").with_reply(inbox);
    bus.publish(request).await.expect("the connection is open");
    let answer = next(&mut answers).await;
    assert_eq!(answer.status, Some(StatusCode::NO_RESPONDERS));
}

/// The next message of a stream that has one coming.
pub async fn next(subscriber: &mut BusSubscriber) -> Delivery {
    let message = tokio::time::timeout(PATIENCE, subscriber.next()).await;
    message
        .expect("a message in time")
        .expect("the stream goes on")
}

/// Waits for a stream's end and returns what came before it, as text.
pub async fn rest(subscriber: &mut BusSubscriber) -> Vec<String> {
    let rest = tokio::time::timeout(PATIENCE, subscriber.map(text).collect()).await;
    rest.expect("an end in time")
}

/// What has already arrived, as text. After [`settle`] that is all that was published before.
pub fn arrived(subscriber: &mut BusSubscriber) -> Vec<String> {
    // Unconstrained, or tokio's budget would end the loop before the messages do.
    let mut waiting = || {
        tokio::task::unconstrained(subscriber.next())
            .now_or_never()
            .flatten()
    };
    std::iter::from_fn(&mut waiting).map(text).collect()
}

/// Waits until `holds` is true.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let mut look = tokio::time::interval(Duration::from_millis(2));
    let seen = async {
        while !holds() {
            look.tick().await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, seen).await;
    assert!(seen.is_ok(), "never seen: {what}");
}

pub fn text(message: Delivery) -> String {
    String::from_utf8_lossy(&message.payload).into_owned()
}
