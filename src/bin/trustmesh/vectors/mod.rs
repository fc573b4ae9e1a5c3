//! Test vectors: cases in JSON with what must become of them, whatever language verifies. Their
//! form is described beside them, in `tests/vectors/README.md`.

mod fields;
mod play;
mod receiver;

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value as Json;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::Admission;
use trustmesh::proto::trust::TrustFiles;
use trustmesh::proto::trust::TrustState;

use self::fields::Fields;
pub use self::fields::Unusable;

/// What became of an input: what `expect` says besides the verdict, or the refusal.
type Outcome = Result<Vec<(&'static str, Json)>, Rejection>;

/// A trust state, or why its files make none.
type State = Result<Arc<TrustState>, Rejection>;

/// How this software decides a case.
#[derive(Debug)]
pub struct Played {
    /// Whether the last input is allowed, or the tables hold.
    pub allowed: bool,
    /// Why it is refused.
    pub rejection: Option<Rejection>,
    /// How that differs from what must become of the case; `None` when it agrees.
    pub disagreement: Option<String>,
}

/// The states that cases are decided in, read once.
#[derive(Debug, Default)]
pub struct World {
    states: HashMap<PathBuf, State>,
}

impl World {
    /// Decides the case in a file.
    pub fn check(&mut self, path: &Path) -> Result<Played, Unusable> {
        let case = read(path)?;
        let case = Fields::new(&case)?;
        let states = self.states_of(path, &case)?;
        play::check(&case, &states)
    }

    /// The state and the time that a case is decided in, when it has both.
    pub fn scene(&mut self, path: &Path) -> Option<(Arc<TrustState>, Timestamp)> {
        let case = read(path).ok()?;
        let case = Fields::new(&case).ok()?;
        let state = self.state(path, case.text("state").ok()?).ok()?;
        Some((state.ok()?, case.time("now").ok()?))
    }

    /// The states a case names.
    fn states_of(&mut self, path: &Path, case: &Fields<'_>) -> Result<States, Unusable> {
        let mut states = States::default();
        for field in ["state", "replaces"] {
            if let Some(name) = case.optional_text(field)? {
                states.0.push((name.to_owned(), self.state(path, name)?));
            }
        }
        Ok(states)
    }

    /// The state of this name: in the nearest folder `states` beside or above the case.
    fn state(&mut self, path: &Path, name: &str) -> Result<State, Unusable> {
        // A name is no path: a case reads nothing but states.
        if name.contains(['/', '\\']) {
            return Err(Unusable::new(format!("no state can be named {name:?}")));
        }
        let file = format!("states/{name}.json");
        let found = path
            .ancestors()
            .skip(1)
            .map(|folder| folder.join(&file))
            .find(|path| path.is_file())
            .ok_or_else(|| Unusable::new(format!("there is no {file} above it")))?;
        if let Some(state) = self.states.get(&found) {
            return Ok(state.clone());
        }
        let state = assemble(&Fields::new(&read(&found)?)?)?;
        self.states.insert(found, state.clone());
        Ok(state)
    }
}

/// The states of one case, by name.
#[derive(Debug, Default)]
struct States(Vec<(String, State)>);

impl States {
    fn named(&self, name: &str) -> Result<State, Unusable> {
        let mut states = self.0.iter();
        let found = states.find(|(known, _)| known == name);
        found
            .map(|(_, state)| state.clone())
            .ok_or_else(|| Unusable::new(format!("the case does not name the state {name:?}")))
    }
}

fn read(path: &Path) -> Result<Json, Unusable> {
    let text = std::fs::read(path).map_err(Unusable::new)?;
    serde_json::from_slice(&text).map_err(Unusable::new)
}

fn assemble(state: &Fields<'_>) -> Result<State, Unusable> {
    let files = TrustFiles {
        root: state.bytes("root")?,
        registry: state.bytes("registry")?,
        policy: state.bytes("policy")?,
        revocations: state.bytes("revocations")?,
        scores: state.optional_bytes("scores")?,
    };
    let admission = if state.boolean("dev")? {
        Admission::DangerDevelopment
    } else {
        Admission::Production
    };
    let pin = state.optional_id("pin")?;
    Ok(TrustState::assemble(&files, admission, pin).map(Arc::new))
}
