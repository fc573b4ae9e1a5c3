//! What an object is looked at with: a trust state, when one is at hand, and a time.

use std::sync::Arc;

use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::root::TrustRoot;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::TrustState;
use trustmesh::proto::verify::Scene;

use super::sheet::Cell;

/// Said where only a trust state could tell more.
pub const NO_TRUST: &str = "whether it is trusted (no trust state at hand: give --trust DIR)";

/// What an object is looked at with.
pub struct Lens {
    pub trust: Option<Arc<TrustState>>,
    /// Roots that lie where the trust state comes from, or beside the object. They tell whether
    /// one root leads to another, and not which of them is trusted.
    pub roots: Vec<TrustRoot>,
    pub at: Timestamp,
}

impl Lens {
    /// A key, with the agent it is registered for.
    pub fn key(&self, key: KeyBytes) -> Cell {
        Cell::Key(key, self.agent(&key))
    }

    /// The agent a key is registered for.
    pub fn agent(&self, key: &KeyBytes) -> Option<String> {
        let certificate = self.trust.as_ref()?.certificate(key)?;
        Some(certificate.agent().to_string())
    }

    /// Who holds a key, for a heading.
    pub fn who(&self, key: &KeyBytes) -> String {
        let short = || format!("key {}", crate::text::short(&key.to_string()));
        self.agent(key).unwrap_or_else(short)
    }

    pub fn skew(&self) -> ClockSkew {
        ClockSkew::default()
    }
}

/// The scene that verification takes place in.
pub fn scene(trust: &Arc<TrustState>, at: Timestamp) -> Scene<'_> {
    Scene {
        now: at,
        trust,
        sessions: &(),
    }
}
