//! Delegation and a call through trustmesh and through other libraries, side by side.
//!
//! ```text
//! cd benches/peers && cargo bench
//! ```
//!
//! Prints one table in Markdown: what each operation costs, as multiples of V, one bare strict
//! verification over 200 bytes in the same round; the bytes of a call; and which faults are
//! refused, found out by trying each.

mod contender;
#[path = "../../../tests/forge/mod.rs"]
mod forge;
mod peers;
mod rounds;
mod scene;
mod table;
mod trials;

use contender::Contender;
use rounds::Rounds;

/// Asks for the rounds of one process instead of the table.
const MEASURE: &str = "measure";

fn main() {
    scene::start();
    let contenders: [Box<dyn Contender>; 8] = [
        Box::new(peers::trustmesh::Trustmesh::new()),
        Box::new(peers::first_contact::FirstContact::new()),
        Box::new(peers::tenuo::Tenuo::new()),
        Box::new(peers::biscuit::Biscuits::new()),
        Box::new(peers::jwt::Jwts::new()),
        Box::new(peers::ucan::Ucans::new()),
        Box::new(peers::agent_mesh_protocol::AgentMesh::new()),
        Box::new(peers::agentmesh::Agentmesh::new()),
    ];
    if std::env::args().any(|argument| argument == MEASURE) {
        rounds::measure(&contenders);
        return;
    }
    let verdicts = table::verdicts(&contenders);
    let rounds = Rounds::gather(MEASURE);
    table::print(&contenders, &verdicts, &rounds);
}
