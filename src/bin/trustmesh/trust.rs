//! A trust state to judge by: of a mesh directory, or of its trust folder alone.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use trustmesh::client::home::DEV_VARIABLE;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::rejection::UntrustedRoot;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::trust::Admission;
use trustmesh::proto::trust::TrustFiles;
use trustmesh::proto::trust::TrustState;

use crate::cli::Global;
use crate::failure::Failure;
use crate::object;
use crate::output::Output;
use crate::setting::Setting;

/// Which trust state to judge by.
#[derive(Args, Clone, Debug)]
pub struct Trust {
    /// Judge by this mesh directory, or trust folder, instead of the mesh in use.
    #[arg(long, value_name = "DIR")]
    trust: Option<PathBuf>,
    /// Accept no other trust root than the one with this object id (64 hexadecimal digits).
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
            Some(pin) if pin != trust.root().id() => {
                let place = trustmesh::proto::rejection::Place::TrustFile;
                let reason = UntrustedRoot::Pin;
                Err(Failure::refused(Rejection::UntrustedRoot { place, reason })
                    .fact("pinned", pin.to_string())
                    .fact("found", trust.root().id().to_string())
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

/// Reads the files of a mesh directory or trust folder. `root.id` beside them pins the root.
fn read(directory: &Path, admission: Admission) -> anyhow::Result<TrustState> {
    let below = directory.join("trust");
    let folder = if below.is_dir() { &below } else { directory };
    let file = |name: &str| object::read(&folder.join(name)).map_err(absent(directory));
    let scores = folder.join("scores.tm").exists();
    let files = TrustFiles {
        root: file("root.tm")?.into(),
        registry: file("registry.tm")?.into(),
        policy: file("policy.tm")?.into(),
        revocations: file("revocations.tm")?.into(),
        scores: scores
            .then(|| file("scores.tm"))
            .transpose()?
            .map(Into::into),
    };
    let pin = match std::fs::read_to_string(folder.join("root.id")) {
        Ok(text) => Some(object_id(&text).map_err(Failure::config)?),
        Err(_) => None,
    };
    TrustState::assemble(&files, admission, pin).map_err(|rejection| {
        let failure = Failure::refused(rejection).fact("state", folder.display().to_string());
        match rejection {
            Rejection::UntrustedRoot {
                reason: UntrustedRoot::DevMesh,
                ..
            } => failure.next("add --dev, if a development mesh is acceptable as evidence"),
            _ => failure,
        }
        .into()
    })
}

fn absent(directory: &Path) -> impl Fn(anyhow::Error) -> anyhow::Error {
    move |error| {
        let text = format!("{} is no trust state: {error}", directory.display());
        Failure::config(text)
            .next("give --trust a mesh directory, or a folder with root.tm and the other files")
            .into()
    }
}
