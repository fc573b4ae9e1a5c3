//! The auditor's ledger: every audit record of the mesh, verified, and what follows from them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::time::Instant;
use trustmesh::Client;
use trustmesh::audit;
use trustmesh::audit::AuditEvent;
use trustmesh::audit::AuditItem;
use trustmesh::audit::AuditRecord;
use trustmesh::audit::DecisionEvent;
use trustmesh::audit::Word;
use trustmesh::client::Counters;
use trustmesh::graph::AuthorizationGraph;

use crate::Fault;
use crate::cast::Cast;
use crate::plane::Plane;
use crate::stage::say;
use crate::stage::success;

/// A record arrives within milliseconds; one that has not by then is missing.
const PATIENCE: Duration = Duration::from_secs(10);

/// What has arrived so far.
#[derive(Default)]
struct Book {
    records: Vec<AuditRecord>,
    /// Batches that were not an emitter's, and gaps and forks in histories.
    faults: Vec<String>,
}

/// The ledger.
pub struct Ledger {
    auditor: Client,
    book: watch::Receiver<Book>,
}

impl Ledger {
    /// Begins to keep books.
    pub async fn open(auditor: &Client) -> Result<Self, Fault> {
        let mut items = audit::subscribe(auditor).await?;
        let (sender, book) = watch::channel(Book::default());
        tokio::spawn(async move {
            while let Some(item) = items.next().await {
                sender.send_modify(|book| match item {
                    Ok(AuditItem::Record(record)) => book.records.push(record),
                    Ok(other) => book.faults.push(format!("{other:?}")),
                    Err(denied) => book.faults.push(denied.to_string()),
                });
            }
        });
        let auditor = auditor.clone();
        Ok(Self { auditor, book })
    }

    /// Waits until the subscription is in force. A handshake goes over the same connection as the
    /// audit, so when it is done the server knows of both.
    pub async fn ready(&self, peer: &Client) -> Result<(), Fault> {
        self.auditor.handshake(peer.id()).await?;
        say("auditor", "keeps the books");
        Ok(())
    }

    /// Waits until what the verifier service says is heard: it notes each change of its books, of
    /// nothing too.
    pub async fn hears(&self, plane: &Plane) -> Result<(), Fault> {
        let deadline = Instant::now() + PATIENCE;
        let heard = || notice(&self.book.borrow().records, "operator", "");
        while !heard() {
            if Instant::now() > deadline {
                return Err("the audit should show what the verifier does".into());
            }
            plane.change(|_| ()).await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Waits for the refusal of a message, with this class.
    pub async fn refused(&self, by: &str, mid: &str, class: &str) -> Result<DecisionEvent, Fault> {
        let what = format!("{by} to refuse {mid} as {class}");
        self.decision(by, &what, |decision| {
            decision.mid.as_deref() == Some(mid) && decision.class.as_deref() == Some(class)
        })
        .await
    }

    /// Waits for the acceptance of a request.
    pub async fn accepted(&self, by: &str, sender: &str) -> Result<DecisionEvent, Fault> {
        let what = format!("{by} to accept a request of {sender}");
        self.decision(by, &what, |decision| {
            let request = decision.action.as_deref() == Some("req");
            request && decision.verdict == Word::Allow && decision.sender.as_deref() == Some(sender)
        })
        .await
    }

    /// Waits until the verifier service has said this of an agent: the beginning of a notice.
    pub async fn noticed(&self, topic: &str, beginning: &str) -> Result<(), Fault> {
        let what = format!("the verifier's notice, {topic}: {beginning} …");
        self.wait(&what, |book| notice(&book.records, topic, beginning))
            .await
    }

    /// Waits until everything that an agent's client decided has arrived.
    pub async fn has_all_of(&self, id: &str, counters: &Counters) -> Result<(), Fault> {
        let expected = counters.allowed + counters.denied_total();
        let what = format!("{expected} decisions of {id}");
        let own = |book: &Book| {
            let own = book.records.iter().filter(|r| r.emitter == id);
            own.filter_map(decided).count() as u64
        };
        self.wait(&what, |book| own(book) >= expected).await
    }

    async fn wait(&self, what: &str, arrived: impl Fn(&Book) -> bool) -> Result<(), Fault> {
        let mut book = self.book.clone();
        let arrived = book.wait_for(|book| arrived(book));
        let late = |_| format!("the audit should show {what}");
        tokio::time::timeout(PATIENCE, arrived)
            .await
            .map_err(late)??;
        Ok(())
    }

    async fn decision(
        &self,
        by: &str,
        what: &str,
        wanted: impl Fn(&DecisionEvent) -> bool,
    ) -> Result<DecisionEvent, Fault> {
        let find = |book: &Book| {
            let mut decisions = book
                .records
                .iter()
                .filter(|r| r.emitter == by)
                .filter_map(decided);
            decisions.find(|decision| wanted(decision)).cloned()
        };
        let mut book = self.book.clone();
        let arrived = book.wait_for(|book| find(book).is_some());
        let late = || format!("the audit should show {what}");
        let book = tokio::time::timeout(PATIENCE, arrived)
            .await
            .map_err(|_| late())??;
        Ok(find(&book).ok_or_else(late)?)
    }

    /// Waits until the record of every decision has arrived. Nothing may be in flight.
    pub async fn complete(&self, cast: &Cast) -> Result<Vec<AuditRecord>, Fault> {
        for (_, client) in cast.clients() {
            client.flush_audit().await;
        }
        let counters = cast.counters().into_values().flatten();
        let expected: u64 = counters
            .map(|counters| counters.allowed + counters.denied_total())
            .sum();
        let mut book = self.book.clone();
        let count = |book: &Book| book.records.iter().filter_map(decided).count() as u64;
        let arrived = book.wait_for(|book| count(book) >= expected);
        let late = |_| format!("the audit should show {expected} decisions");
        let book = tokio::time::timeout(PATIENCE, arrived)
            .await
            .map_err(late)??;
        if let Some(fault) = book.faults.first() {
            return Err(format!("the audit is not whole: {fault}").into());
        }
        Ok(book.records.clone())
    }
}

/// Whether the verifier service has said this.
pub fn notice(records: &[AuditRecord], topic: &str, beginning: &str) -> bool {
    let mut said = records.iter().filter(|r| r.emitter == "verifier");
    said.any(|record| match &record.event {
        AuditEvent::Notice { topic: of, text } => of == topic && text.starts_with(beginning),
        _ => false,
    })
}

/// The decision in a record.
pub fn decided(record: &AuditRecord) -> Option<&DecisionEvent> {
    match &record.event {
        AuditEvent::Decision(decision) => Some(decision),
        _ => None,
    }
}

/// Prints what each agent decided, and checks that audit and counters agree about it and that the
/// attacks alone were refused.
pub fn summary(records: &[AuditRecord], cast: &Cast, attacks: &[&str]) -> Result<(), Fault> {
    println!();
    println!("{:>19}  accepted  refused   p50 µs   p99 µs", "verified by");
    let (mut costs, mut refused) = (Vec::new(), Vec::new());
    for (id, counters) in cast.counters() {
        let mine = || {
            records
                .iter()
                .filter(|r| r.emitter == id)
                .filter_map(decided)
        };
        let allowed = mine()
            .filter(|decision| decision.verdict == Word::Allow)
            .count() as u64;
        let denied = mine().filter_map(|decision| decision.class.as_deref());
        let denied: Vec<&str> = denied.collect();
        conserved(id, &counters, allowed, denied.len() as u64)?;
        let mut own: Vec<u64> = mine().filter_map(|decision| decision.cost_ns).collect();
        row(id, allowed, denied.len(), &mut own);
        costs.extend(own);
        refused.extend(denied);
    }
    let all = costs.len() - refused.len();
    row("all", all as u64, refused.len(), &mut costs);
    let mut classes: BTreeMap<&str, u32> = BTreeMap::new();
    for class in &refused {
        *classes.entry(class).or_default() += 1;
    }
    println!();
    let told: Vec<_> = classes
        .iter()
        .map(|(class, n)| format!("{class} {n}"))
        .collect();
    say(
        "auditor",
        &format!("refused, by class: {}", told.join(", ")),
    );
    let mut expected = attacks.to_vec();
    expected.sort_unstable();
    refused.sort_unstable();
    if refused != expected {
        return Err(format!("refused {refused:?}, attacked {expected:?}").into());
    }
    success(
        "auditor",
        "every message received is accepted or refused, and in the audit once",
    );
    Ok(())
}

/// What came in must have gone somewhere, and the audit must say the same.
fn conserved(id: &str, counters: &[Counters], allowed: u64, denied: u64) -> Result<(), Fault> {
    let kept = |counters: &Counters| {
        counters.received == counters.allowed + counters.denied_total()
            && counters.allowed == counters.handler_runs + counters.withdrawn
            && counters.audit_decisions == counters.allowed + counters.denied_total()
            && counters.handler_panics + counters.audit_lost + counters.unaudited == 0
    };
    let accepted: u64 = counters.iter().map(|counters| counters.allowed).sum();
    let refused: u64 = counters.iter().map(Counters::denied_total).sum();
    if counters.iter().all(kept) && (accepted, refused) == (allowed, denied) {
        Ok(())
    } else {
        Err(format!("{id}: the audit has {allowed} + {denied}, the counters {counters:?}").into())
    }
}

fn row(who: &str, allowed: u64, refused: usize, costs: &mut [u64]) {
    costs.sort_unstable();
    let at = |percent: usize| {
        let cost = costs.get(costs.len().saturating_sub(1) * percent / 100);
        cost.map_or_else(|| "–".to_owned(), |ns| (ns / 1000).to_string())
    };
    println!(
        "{who:>19}  {allowed:>8}  {refused:>7}  {:>7}  {:>7}",
        at(50),
        at(99)
    );
}

/// Draws the authorization graph from the audit alone.
pub fn draw(records: &[AuditRecord], out: &Path) -> Result<AuthorizationGraph, Fault> {
    let mut graph = AuthorizationGraph::new();
    records.iter().for_each(|record| graph.add(record));
    if graph.unfounded() + graph.contradictions() > 0 {
        return Err("the audit shows acceptances without authority".into());
    }
    let longest = graph.paths().map(|path| path.len()).max().unwrap_or(0);
    if longest != 4 {
        return Err(format!("three delegations make chains of 4 links, not {longest}").into());
    }
    std::fs::write(out.join("graph.mmd"), graph.to_mermaid())?;
    std::fs::write(out.join("graph.dot"), graph.to_dot())?;
    let (nodes, links) = (graph.nodes().len(), graph.grants().count());
    let told = format!(
        "{nodes} nodes, {links} links, from {} audit records",
        records.len()
    );
    success("auditor", &format!("drew the graph: {told}"));
    Ok(graph)
}
