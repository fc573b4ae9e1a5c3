//! The shortest mesh: two agents, one message, and one that is never sent.
//!
//! ```text
//! cargo run --example quickstart
//! ```

use futures_util::StreamExt as _;
use trustmesh::ConnectOptions;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::services::authority::Authority;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A mesh for development: its keys live and die with this process.
    let mut mesh = Authority::dev("quickstart")?;
    let alice = mesh.agent("alice", ["pub:greet.*"])?;
    let bob = mesh.agent("bob", ["sub:greet.>"])?;

    // A bus in this process. On NATS: `.connect("127.0.0.1:4222")`.
    let bus = MemoryBus::new();
    let alice = ConnectOptions::new(alice)
        .connect_bus(bus.connect())
        .await?;
    let bob = ConnectOptions::new(bob).connect_bus(bus.connect()).await?;

    let mut greetings = bob.subscribe("greet.>").await?;
    alice.publish("greet.bob", "hello".into()).await?;
    let message = greetings.next().await.ok_or("the stream ended")?;
    println!(
        "{} says {:?} on {}",
        message.sender(),
        message.payload,
        message.subject
    );

    // Nobody granted Alice this subject, so not a byte leaves her process.
    match alice.publish("orders.new", "tea".into()).await {
        Ok(()) => return Err("orders.new should have been refused".into()),
        Err(error) => println!("orders.new: {error}"),
    }
    Ok(())
}
