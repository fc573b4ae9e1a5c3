//! How far a change to the books got.

use serde::Deserialize;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::Output;
use crate::setting::Setting;

/// How far a change got: who goes by it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "reach", content = "why", rename_all = "kebab-case")]
pub enum Reach {
    /// Nowhere: it was rehearsed.
    #[default]
    Nowhere,
    /// It is signed, in the mesh directory.
    Directory,
    /// A running service has published it.
    Published,
    /// A running service has it in its books, and could not publish it yet, which is why.
    Pending(String),
}

impl Reach {
    /// Says to whom the change is known, and fails where nobody goes by it yet who should.
    ///
    /// # Errors
    ///
    /// As [`settled`](Self::settled).
    pub fn tell(&self, setting: &Setting, output: &Output) -> anyhow::Result<()> {
        match self {
            Self::Published => output.note("published: agents that hear the mesh know"),
            Self::Directory if setting.keeps_served() => {
                output.note("agents learn of it once trustmesh serve runs");
            }
            Self::Directory => output.note(format_args!(
                "agents elsewhere learn of it once they have the new {} and read it",
                setting.path().join("trust").display()
            )),
            Self::Nowhere | Self::Pending(_) => {}
        }
        self.settled()
    }

    /// Fails where the change waits to be published: whoever asked for it should not go on as if
    /// it were in force.
    ///
    /// # Errors
    ///
    /// A [`Failure`] that says why it waits.
    pub fn settled(&self) -> anyhow::Result<()> {
        match self {
            Self::Pending(why) => {
                let text = "in the books, and not yet published: agents go by what was before";
                Err(Failure::unreachable(text)
                    .fact("because", why.clone())
                    .next("look at the server; the service tries again every second, and trustmesh check says what agents see")
                    .into())
            }
            Self::Nowhere | Self::Directory | Self::Published => Ok(()),
        }
    }

    /// A word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Nowhere => "nowhere",
            Self::Directory => "directory",
            Self::Published => "published",
            Self::Pending(_) => "pending",
        }
    }
}
