//! What an operator is told while nothing can be published.

use std::time::Instant;

use futures::executor::block_on;
use serde_json::Value;

use crate::listening::Listening;
use crate::listening::PATIENCE;
use crate::nats::NatsServer;
use crate::place::Place;

/// Without its server the service keeps what its operator changes, and says that nobody goes by it
/// yet; a script that revokes sees it by the exit code.
#[test]
fn a_change_that_is_not_published_is_not_called_so() {
    let mut server = block_on(NatsServer::start_jetstream());
    let place = Place::new().with("NATS_URL", server.url());
    place.expect(0, &["init", "shop", "--served"]);
    let mut serve = Listening::start(place.trustmesh(&["serve"]));
    serve.until("serving the mesh");
    place.expect(0, &["agent", "add", "reader", "--allow", "sub:secrets.*"]);
    block_on(server.kill());

    let (out, err) = place.expect(3, &["revoke", "reader"]);
    assert!(out.starts_with("revoked the agent reader"), "{out}");
    for words in ["not yet published", "the store cannot be reached"] {
        assert!(err.contains(words), "{words}: {err}");
    }
    assert!(!err.contains("agents that hear the mesh know"), "{err}");
    let (out, _) = place.expect(3, &["revoke", "reader", "--json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&told["id"], &told["reach"]),
        (&"reader".into(), &"pending".into())
    );
    // A key that was made is not lost for that.
    place.expect(3, &["agent", "add", "writer", "--allow", "pub:secrets.*"]);
    assert!(place.join("shop/agents/writer/key.pem").exists());

    block_on(server.restart());
    let deadline = Instant::now() + PATIENCE;
    let published = loop {
        let output = place.run(&["revoke", "reader", "--json"]);
        if output.status.success() {
            break output.stdout;
        }
        assert!(Instant::now() < deadline, "{output:?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let told: Value = serde_json::from_slice(&published).unwrap();
    assert_eq!(told["reach"], "published");
    assert_eq!(serve.end().0, Some(0));
}
