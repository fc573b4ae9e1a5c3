//! A request and its answer, both signed and both verified.
//!
//! ```text
//! cargo run --example request_reply
//! ```

use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use trustmesh::ConnectOptions;
use trustmesh::Message;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::services::authority::Authority;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut mesh = Authority::dev("request-reply")?;
    let shouter = mesh.agent("tools/shout", ["sub:tools.shout", "serve:tools.shout"])?;
    let planner = mesh.agent("planner", ["req:tools.>"])?;

    let bus = MemoryBus::new();
    let shouter = ConnectOptions::new(shouter)
        .connect_bus(bus.connect())
        .await?;
    let planner = ConnectOptions::new(planner)
        .connect_bus(bus.connect())
        .await?;

    let shout = |message: Message| async move {
        let text = std::str::from_utf8(&message.payload)?.to_uppercase();
        println!("{} asks on {}", message.sender(), message.subject);
        Ok::<_, std::str::Utf8Error>(Bytes::from(text))
    };
    let service = shouter.serve("tools.shout", shout).await?;

    // Both sides prove themselves first; a policy can demand it.
    let session = planner.handshake(shouter.id()).await?;
    let left = session.until.as_millis().saturating_sub(now_millis()?) / 1000;
    println!("session with {}, good for another {left} s", session.peer);

    let answer = planner.request("tools.shout", "hello".into()).await?;
    println!("{} answers {:?}", answer.sender(), answer.payload);

    // Nobody granted the planner anything outside tools.>.
    match planner.request("store.read", "x".into()).await {
        Ok(_) => return Err("store.read should have been refused".into()),
        Err(error) => println!("store.read: {error}"),
    }

    service.stop().await;
    planner.drain().await?;
    Ok(())
}

fn now_millis() -> Result<u64, Box<dyn std::error::Error>> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::try_from(since.as_millis())?)
}
