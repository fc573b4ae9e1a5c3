//! Contexts: named sets of what would otherwise be repeated on every command line.
//!
//! They are kept in one TOML file, which holds no secret:
//!
//! ```toml
//! current = "shop"
//!
//! [contexts.shop]
//! home = "/srv/shop"
//! agent = "planner"
//! server = "127.0.0.1:4222"
//! dev = true
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::failure::Failure;

/// Names the directory of the file.
pub const CONFIG_VARIABLE: &str = "TRUSTMESH_CONFIG";

/// Every context.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// The one in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// By name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// What a context says.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The mesh directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<PathBuf>,
    /// The agent to act as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The nats-server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Who issues the server's certificate, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<PathBuf>,
    /// The client's certificate, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// The key of that, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// Whether a development mesh is accepted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dev: bool,
}

impl Contexts {
    /// Reads the file; none is the same as an empty one.
    pub fn load() -> anyhow::Result<Self> {
        let Some(path) = path() else {
            return Ok(Self::default());
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|why| {
                Failure::config(format!("{} is no list of contexts: {why}", path.display()))
                    .next("correct the file, or remove it")
                    .into()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => {
                Err(Failure::config(format!("cannot read {}: {error}", path.display())).into())
            }
        }
    }

    /// Writes the file, whole.
    pub fn save(&self) -> anyhow::Result<()> {
        let path = path().ok_or_else(|| {
            Failure::config("there is no place for contexts").next(format!(
                "set {CONFIG_VARIABLE} to a directory, or HOME to yours"
            ))
        })?;
        let directory = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)?;
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        std::fs::write(&temporary, toml::to_string(self)?)?;
        std::fs::rename(&temporary, &path)?;
        Ok(())
    }

    /// The context of this name.
    pub fn named(&self, name: &str) -> anyhow::Result<&Context> {
        self.contexts.get(name).ok_or_else(|| {
            Failure::config(format!("there is no context {name:?}"))
                .next("trustmesh context ls")
                .into()
        })
    }
}

/// `contexts.toml` in the directory the environment names, or in the user's configuration.
fn path() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let directory = set(CONFIG_VARIABLE)
        .map(PathBuf::from)
        .or_else(|| set("XDG_CONFIG_HOME").map(|path| PathBuf::from(path).join("trustmesh")))
        .or_else(|| std::env::home_dir().map(|path| path.join(".config/trustmesh")))?;
    Some(directory.join("contexts.toml"))
}
