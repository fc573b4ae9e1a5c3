//! Honest agents that talk all the time, and what a client has to say about it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;
use trustmesh::Client;
use trustmesh::audit::AuditEvent;

use super::eventually;

/// How long to wait for a message before it is taken to be lost.
const LISTENING_WITHIN: Duration = Duration::from_secs(2);

/// A client that publishes until it is told to end.
pub struct Traffic {
    end: Arc<AtomicBool>,
    task: JoinHandle<u64>,
}

impl Traffic {
    /// Some five hundred messages a second, from when `to` hears them. Its own client refuses none.
    pub async fn of(from: &Client, subject: &str, to: &Client) -> Self {
        let (from, subject) = (from.clone(), subject.to_owned());
        let before = to.counters().received;
        let heard = || to.counters().received > before;
        // A server may know of the subscription later than of a message.
        loop {
            let published = from.publish(subject.clone(), "hello".into()).await;
            published.expect("an honest message is let out");
            let soon = eventually("the listener is there", heard);
            if tokio::time::timeout(LISTENING_WITHIN, soon).await.is_ok() {
                break;
            }
        }
        let end = Arc::new(AtomicBool::new(false));
        let told = end.clone();
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(2));
            let mut sent = 1;
            while !told.load(Ordering::SeqCst) {
                pace.tick().await;
                let published = from.publish(subject.clone(), "hello".into()).await;
                published.expect("an honest message is let out");
                sent += 1;
            }
            from.flush().await.expect("the bus is there");
            sent
        });
        Self { end, task }
    }

    /// Ends, and says how many messages there were that can have been heard.
    pub async fn end(self) -> u64 {
        self.end.store(true, Ordering::SeqCst);
        self.task.await.expect("every message was let out")
    }
}

/// The notices in a client's audit.
pub struct Notices {
    topics: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Notices {
    pub fn of(client: &Client) -> Self {
        let mut audit = client.audit();
        let topics = Arc::new(Mutex::new(Vec::new()));
        let heard = topics.clone();
        let task = tokio::spawn(async move {
            while let Some(record) = audit.next().await {
                if let AuditEvent::Notice { topic, .. } = record.event {
                    heard.lock().unwrap().push(topic);
                }
            }
        });
        Self { topics, task }
    }

    /// Those that tell of a trust state that was not believed.
    pub fn of_distrust(&self) -> Vec<String> {
        let topics = self.topics.lock().unwrap();
        let distrust = ["trust-rollback", "trust-equivocation", "trust-refused"];
        let mut found = topics.clone();
        found.retain(|topic| distrust.contains(&topic.as_str()));
        found
    }

    /// Whether there is anything about the trust state.
    pub fn any_of_trust(&self) -> bool {
        let topics = self.topics.lock().unwrap();
        topics.iter().any(|topic| topic.starts_with("trust-"))
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.task.abort();
    }
}
