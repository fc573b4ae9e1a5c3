//! Authority that travels with a task: handed on, narrowed, used, and taken back.
//!
//! ```text
//! cargo run --example delegation
//!
//! issuer ──req+delegate:store.>──▶ planner ──req:store.read.plan──▶ worker ──▶ store
//! ```

use std::time::Duration;

use bytes::Bytes;
use trustmesh::Client;
use trustmesh::ConnectOptions;
use trustmesh::Identity;
use trustmesh::Message;
use trustmesh::bus::memory::MemoryBus;
use trustmesh::proto::scope::Scope;
use trustmesh::services::authority::Authority;

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// The worker owns nothing: it asks the store in the planner's name, and says what came of it.
async fn work(task: Message) -> Result<Bytes, Fault> {
    let lent = task.acting()?;
    let plan = lent.request("store.read.plan", Bytes::new()).await?;
    let told = match lent.request("store.read.payroll", Bytes::new()).await {
        Ok(_) => "and the payroll",
        Err(_) => "and nothing else",
    };
    Ok(format!("{} {told}", String::from_utf8(plan.payload.to_vec())?).into())
}

/// The store sees every hand the authority went through.
async fn read(request: Message) -> Result<Bytes, Fault> {
    let chain = request.verified().chain();
    for (depth, link) in chain.links().iter().enumerate() {
        let scope = link.scope().capabilities().iter();
        let scope: Vec<String> = scope.map(ToString::to_string).collect();
        let key = link.holder().to_string();
        println!(
            "  {} key {:.8}…: {}",
            "─".repeat(depth + 1),
            key,
            scope.join(", ")
        );
    }
    Ok("the plan".into())
}

#[tokio::main]
async fn main() -> Result<(), Fault> {
    let mut mesh = Authority::dev("delegation")?;
    let bus = MemoryBus::new();
    let planner = mesh.agent("planner", ["req:work", "req+delegate:store.>"])?;
    let planner = connect(&bus, planner).await?;
    let worker = connect(&bus, mesh.agent("worker", ["sub+serve:work"])?).await?;
    let store = connect(&bus, mesh.agent("store", ["sub+serve:store.>"])?).await?;
    let _services = [
        worker.serve("work", work).await?,
        store.serve("store.>", read).await?,
    ];

    println!("the store reads, on the authority of");
    let scope = Scope::parse(["req:store.read.plan"])?;
    let grant = planner.delegate(worker.id(), scope, Duration::from_secs(30))?;
    let answer = planner.compose("work").grant(&grant).request().await?;
    println!("the worker got {:?}", answer.payload);

    // Nobody hands on more than they have, not even by mistake.
    let wider = Scope::parse(["pub:store.>"])?;
    match planner.delegate(worker.id(), wider, Duration::from_secs(30)) {
        Ok(_) => return Err("a wider scope should have been refused".into()),
        Err(denied) => println!("wider: {denied}"),
    }

    // What was handed on can be taken back; the worker then has nothing to act with.
    mesh.revoke_link(grant.leaf().id())?;
    let answer = planner.compose("work").grant(&grant).request().await?;
    let error = answer
        .headers
        .as_ref()
        .and_then(|h| h.get("Nats-Service-Error"));
    println!(
        "after revoking: {}",
        error.ok_or("the grant should be gone")?
    );
    Ok(())
}

async fn connect(bus: &MemoryBus, identity: Identity) -> Result<Client, Fault> {
    let options = ConnectOptions::new(identity);
    Ok(options.connect_bus(bus.connect()).await?)
}
