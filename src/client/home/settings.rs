//! What the environment says about a mesh directory.

use std::ffi::OsString;
use std::path::Path;

use super::HomeError;
use super::layout::PIN_NAME;
use super::layout::trust_directory;
use crate::files;
use crate::proto::signing::ObjectId;
use crate::proto::trust::Admission;

/// The environment variable that names the mesh directory.
pub const HOME_VARIABLE: &str = "TRUSTMESH_HOME";
/// The environment variable that names the agent, by its id.
pub const AGENT_VARIABLE: &str = "TRUSTMESH_AGENT";
/// The environment variable that pins the trust root, by its id in 64 hexadecimal digits.
pub const ROOT_VARIABLE: &str = "TRUSTMESH_ROOT";
/// The environment variable that accepts a development mesh when `1`; `0` or unset it does not.
pub const DEV_VARIABLE: &str = "TRUSTMESH_DEV";

/// Room for 64 digits and the blanks of an editor.
const PIN_FILE_MAX: usize = 128;

/// Looks up an environment variable.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The value of a variable that is set to anything.
pub(super) fn set(env: Env<'_>, variable: &str) -> Option<OsString> {
    env(variable).filter(|value| !value.is_empty())
}

pub(super) fn admission(env: Env<'_>) -> Result<Admission, HomeError> {
    let Some(value) = set(env, DEV_VARIABLE) else {
        return Ok(Admission::Production);
    };
    match value.to_str() {
        Some("1") => Ok(Admission::DangerDevelopment),
        Some("0") => Ok(Admission::Production),
        _ => Err(HomeError::DevSwitch {
            found: value.to_string_lossy().into_owned(),
        }),
    }
}

pub(super) fn pin(home: &Path, env: Env<'_>) -> Result<Option<ObjectId>, HomeError> {
    let folder = trust_directory(home);
    let from_env = set(env, ROOT_VARIABLE)
        .map(|value| parse_pin(value.as_encoded_bytes(), ROOT_VARIABLE.to_owned()))
        .transpose()?;
    let from_file = pin_in(&folder)?;
    match (from_env, from_file) {
        (Some(one), Some(other)) if one != other => {
            let path = folder.join(PIN_NAME);
            Err(HomeError::TwoPins { path })
        }
        (one, other) => Ok(one.or(other)),
    }
}

/// The pin beside the trust files of a folder.
pub(super) fn pin_in(folder: &Path) -> Result<Option<ObjectId>, HomeError> {
    let path = folder.join(PIN_NAME);
    files::read_if_there(&path, PIN_FILE_MAX)?
        .map(|bytes| parse_pin(&bytes, path.display().to_string()))
        .transpose()
}

fn parse_pin(text: &[u8], whence: String) -> Result<ObjectId, HomeError> {
    data_encoding::HEXLOWER_PERMISSIVE
        .decode(text.trim_ascii())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .map(ObjectId)
        .ok_or(HomeError::Pin { whence })
}
