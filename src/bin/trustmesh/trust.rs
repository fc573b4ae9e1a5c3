//! A trust state to judge by: of a mesh directory, or of its trust folder alone.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use trustmesh::client::home::DEV_VARIABLE;
use trustmesh::client::home::HomeError;
use trustmesh::client::home::trust_in;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::rejection::UntrustedRoot;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::trust::Admission;
use trustmesh::proto::trust::TrustState;

use crate::cli::Global;
use crate::failure::Failure;
use crate::output::Output;
use crate::setting::Setting;

/// Which trust state to judge by.
#[derive(Args, Clone, Debug)]
pub struct Trust {
    /// Judge by this mesh directory, or trust folder, instead of the mesh in use.
    #[arg(long, value_name = "DIR")]
    trust: Option<PathBuf>,
    /// Accept no other mesh than that whose first trust root has this object id (64 hexadecimal
    /// digits).
    #[arg(long, value_name = "ID", value_parser = object_id)]
    pin: Option<ObjectId>,
}

impl Trust {
    /// The trust state.
    pub fn load(&self, global: &Global) -> anyhow::Result<Arc<TrustState>> {
        let setting = Setting::of(global)?;
        let trust = match &self.trust {
            None => setting.trust()?,
            Some(directory) => Arc::new(read(directory, admission(global))?),
        };
        match self.pin {
            // Whoever pinned the first root is led to the others.
            Some(pin) if pin != trust.root().first() => {
                let place = trustmesh::proto::rejection::Place::TrustFile;
                let reason = UntrustedRoot::Pin;
                let failure = Failure::refused(Rejection::UntrustedRoot { place, reason })
                    .fact("pinned", pin.to_string())
                    .fact("found", trust.root().first().to_string());
                Err(if pin == trust.root().id() {
                    failure.next("a mesh is pinned by the first root, which leads to the others")
                } else {
                    failure
                }
                .into())
            }
            _ => Ok(trust),
        }
    }

    /// The mesh directory or trust folder that the trust state is read from.
    pub fn directory(&self, global: &Global) -> anyhow::Result<PathBuf> {
        match &self.trust {
            Some(directory) => Ok(directory.clone()),
            None => Ok(Setting::of(global)?.path().to_owned()),
        }
    }

    /// The trust state, where it only helps: `None` when none was named and none can be used.
    pub fn load_if_there(
        &self,
        global: &Global,
        output: &Output,
    ) -> anyhow::Result<Option<Arc<TrustState>>> {
        let named = self.trust.is_some() || global.home.is_some() || self.pin.is_some();
        match self.load(global) {
            Ok(trust) => Ok(Some(trust)),
            Err(error) if named => Err(error),
            Err(error) => {
                if Setting::of(global)?.path().exists() {
                    output.note(format_args!("looking without the mesh in use: {error}"));
                }
                Ok(None)
            }
        }
    }
}

fn object_id(text: &str) -> Result<ObjectId, String> {
    data_encoding::HEXLOWER_PERMISSIVE
        .decode(text.trim().as_bytes())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .map(ObjectId)
        .ok_or_else(|| "an object id is 64 hexadecimal digits".to_owned())
}

fn admission(global: &Global) -> Admission {
    let set = std::env::var_os(DEV_VARIABLE).is_some_and(|value| value == "1");
    if global.dev || set {
        Admission::DangerDevelopment
    } else {
        Admission::Production
    }
}

/// Reads the files of a mesh directory or trust folder. `root.id` beside them pins the first root.
fn read(directory: &Path, admission: Admission) -> anyhow::Result<TrustState> {
    let below = directory.join("trust");
    let folder = if below.is_dir() { &below } else { directory };
    trust_in(folder, admission).map_err(|error| match &error {
        HomeError::Refused { path, why, .. } => {
            let failure = Failure::refused(*why).fact("file", path.display().to_string());
            match why {
                Rejection::UntrustedRoot {
                    reason: UntrustedRoot::DevMesh,
                    ..
                } => failure.next("add --dev, if a development mesh is acceptable as evidence"),
                _ => failure,
            }
            .into()
        }
        HomeError::Absent { .. } | HomeError::File(_) => {
            let text = format!("{} is no trust state: {error}", directory.display());
            let next = if folder.join("served").is_dir() {
                "an agent's own directory is named by --home DIR"
            } else {
                "give --trust a mesh directory, or a folder with root.tm and the other files"
            };
            Failure::config(text).next(next).into()
        }
        _ => error.into(),
    })
}
