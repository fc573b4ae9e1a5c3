//! Test vectors: cases in JSON with what must become of them, whatever language verifies. Their
//! form is described beside them, in `tests/vectors/README.md`.

mod fields;
mod play;
mod receiver;

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value as Json;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::rejection::StaleState;
use trustmesh::proto::root::TrustRoot;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::Admission;
use trustmesh::proto::trust::Bulletin;
use trustmesh::proto::trust::Follower;
use trustmesh::proto::trust::TrustFiles;
use trustmesh::proto::trust::TrustState;

use self::fields::Fields;
pub use self::fields::Unusable;

/// What became of an input: what `expect` says besides the verdict, or the refusal.
type Outcome = Result<Vec<(&'static str, Json)>, Rejection>;

/// A trust state, or why its files make none.
type State = Result<Arc<TrustState>, Rejection>;

/// What a reader of a served mesh begins with, from the file of a state.
#[derive(Clone, Debug)]
struct Beginning {
    root: Bytes,
    later: Vec<Bytes>,
    bulletin: Option<Bytes>,
    admission: Admission,
    pin: Option<ObjectId>,
}

impl Beginning {
    /// What a file says, when it is that of a served mesh.
    fn read(state: &Fields<'_>) -> Result<Option<Self>, Unusable> {
        if state.get("later").is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            root: state.bytes("root")?,
            later: state.bytes_list("later")?,
            bulletin: state.optional_bytes("bulletin")?,
            admission: admission(state)?,
            pin: state.optional_id("pin")?,
        }))
    }

    /// A reader that knows the roots, and heard nothing yet.
    fn reader(&self) -> Result<Follower, Rejection> {
        let mut follower = Follower::new(&self.root, self.admission, self.pin)?;
        for root in &self.later {
            follower.succeed(root)?;
        }
        Ok(follower)
    }

    fn follower(&self) -> Result<Follower, Rejection> {
        let mut follower = self.reader()?;
        if let Some(bulletin) = &self.bulletin {
            follower.hear(&Bulletin::parse(bulletin)?, |_| None)?;
        }
        Ok(follower)
    }
}

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
    states: HashMap<PathBuf, (State, Option<Beginning>)>,
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
        let (state, _) = self.state(path, case.text("state").ok()?).ok()?;
        Some((state.ok()?, case.time("now").ok()?))
    }

    /// The newest root that a case of a served mesh begins with, and the time of the case.
    pub fn root(&mut self, path: &Path) -> Option<(TrustRoot, Timestamp)> {
        let case = read(path).ok()?;
        let case = Fields::new(&case).ok()?;
        let (_, beginning) = self.state(path, case.text("state").ok()?).ok()?;
        let reader = beginning?.reader().ok()?;
        Some((reader.root().as_ref().clone(), case.time("now").ok()?))
    }

    /// The states a case names.
    fn states_of(&mut self, path: &Path, case: &Fields<'_>) -> Result<States, Unusable> {
        let mut states = States::default();
        for field in ["state", "replaces"] {
            if let Some(name) = case.optional_text(field)? {
                let (state, beginning) = self.state(path, name)?;
                states.0.push((name.to_owned(), state, beginning));
            }
        }
        Ok(states)
    }

    /// The state of this name: in the nearest folder `states` beside or above the case.
    fn state(&mut self, path: &Path, name: &str) -> Result<(State, Option<Beginning>), Unusable> {
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
        let file = read(&found)?;
        let fields = Fields::new(&file)?;
        let beginning = Beginning::read(&fields)?;
        let state = match &beginning {
            Some(beginning) => beginning.follower().and_then(|follower| {
                let held = follower.state().cloned();
                held.ok_or(Rejection::StaleState {
                    reason: StaleState::Incomplete,
                })
            }),
            None => assemble(&fields)?,
        };
        let known = (state, beginning);
        self.states.insert(found, known.clone());
        Ok(known)
    }
}

/// The states of one case, by name.
#[derive(Debug, Default)]
struct States(Vec<(String, State, Option<Beginning>)>);

impl States {
    fn named(&self, name: &str) -> Result<State, Unusable> {
        let mut states = self.0.iter();
        let found = states.find(|(known, ..)| known == name);
        found
            .map(|(_, state, _)| state.clone())
            .ok_or_else(|| Unusable::new(format!("the case does not name the state {name:?}")))
    }

    /// What a reader begins with that a state of this name describes.
    fn beginning(&self, name: &str) -> Result<&Beginning, Unusable> {
        let mut states = self.0.iter();
        let found = states.find(|(known, ..)| known == name);
        found
            .and_then(|(_, _, beginning)| beginning.as_ref())
            .ok_or_else(|| Unusable::new(format!("{name:?} is no state of a served mesh")))
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
    let pin = state.optional_id("pin")?;
    Ok(TrustState::assemble(&files, admission(state)?, pin).map(Arc::new))
}

fn admission(state: &Fields<'_>) -> Result<Admission, Unusable> {
    Ok(if state.boolean("dev")? {
        Admission::DangerDevelopment
    } else {
        Admission::Production
    })
}
