//! The audit of a small mesh, as it happens: every decision of every agent, verified and in order.
//!
//! ```text
//! cargo run --example audit_tail                                   # in this process
//! NATS_URL=127.0.0.1:4222 cargo run --example audit_tail           # on a NATS server
//! ```
//! Control characters are escaped: a stranger publishes on a subject that would clear the screen.

use futures_util::StreamExt as _;
use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::Identity;
use trustmesh::audit;
use trustmesh::audit::AuditEvent;
use trustmesh::audit::AuditItem;
use trustmesh::audit::AuditRecord;
use trustmesh::bus::Bus;
use trustmesh::bus::Outgoing;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::bus::nats::NatsBus;
use trustmesh::graph::visible;
use trustmesh::services::authority::Authority;

type Fault = Box<dyn std::error::Error>;

/// Decisions to wait for: two greetings accepted and a forgery refused.
const DECISIONS: usize = 3;

#[tokio::main]
async fn main() -> Result<(), Fault> {
    let server = MemoryBus::new();
    let mut mesh = Authority::dev("audit-tail")?;
    let auditor = mesh.agent("auditor", ["sub:trustmesh.audit.*"])?;
    let greeter = mesh.agent("greeter", ["pub+sub:greet.>"])?;
    let auditor = connect(&server, auditor).await?;
    let greeter = connect(&server, greeter).await?;

    let mut items = audit::subscribe(&auditor).await?;
    let mut greetings = greeter.subscribe("greet.>").await?;
    // On the connection of the audit: once it is done, the audit subscription is in force.
    auditor.handshake(greeter.id()).await?;

    for name in ["alice", "bob"] {
        let to = format!("greet.{name}");
        greeter.publish(to, "hello".into()).await?;
        greetings.next().await.ok_or("the stream ended")?;
    }
    let forgery = Outgoing::new("greet.\u{1b}[2J\u{202e}", "no envelope");
    let stranger = raw(&server).await?;
    stranger.publish(forgery).await?;
    // What is refused comes out of no stream, but only a stream that is polled refuses.
    tokio::spawn(async move { greetings.next().await });

    let mut decisions = 0;
    while decisions < DECISIONS {
        match items.next().await.ok_or("the audit ended")? {
            Ok(AuditItem::Record(record)) => {
                println!("{}", line(&record));
                decisions += usize::from(matches!(record.event, AuditEvent::Decision(_)));
            }
            Ok(other) => println!("NOT WHOLE: {}", visible(&format!("{other:?}"))),
            Err(denied) => println!("NOT AUDIT: {denied}"),
        }
    }
    Ok(())
}

fn line(record: &AuditRecord) -> String {
    let what = match &record.event {
        AuditEvent::Decision(decision) => {
            let sender = decision.sender.as_deref().unwrap_or("somebody");
            let reason = decision.reason.as_deref().unwrap_or("within its authority");
            format!(
                "{:?} {sender} on {}: {reason}",
                decision.verdict, decision.subject
            )
        }
        AuditEvent::Session {
            peer, class: None, ..
        } => format!("shook hands with {peer}"),
        AuditEvent::Notice { text, .. } => text.clone(),
        other => format!("{other:?}"),
    };
    visible(&format!("{} #{} {what}", record.emitter, record.seq))
}

async fn raw(server: &MemoryBus) -> Result<Box<dyn Bus>, Fault> {
    Ok(match std::env::var("NATS_URL") {
        Ok(url) => Box::new(NatsBus::connect(url, Default::default()).await?),
        Err(_) => Box::new(server.connect()),
    })
}

async fn connect(server: &MemoryBus, identity: Identity) -> Result<Client, Fault> {
    let options = ConnectOptions::new(identity);
    Ok(match std::env::var("NATS_URL") {
        Ok(url) => options.connect(url).await?,
        Err(_) => options.connect_bus(server.connect()).await?,
    })
}
