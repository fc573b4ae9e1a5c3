//! `key`: key files, and the same key in other words.

use std::io::Read as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;
use trustmesh::keyfile;
use trustmesh::keyfile::KEY_FILE_MAX;
use trustmesh::keyfile::KeyFileError;
use trustmesh::proto::identity::PublicKey;
use trustmesh::proto::identity::SigningKey;
use zeroize::Zeroizing;

use super::OK;
use super::Outcome;
use crate::failure::Failure;
use crate::output::Output;
use crate::text;

/// Make, show and convert Ed25519 keys. A private key is read and written as a file only.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  trustmesh key new planner.pem
  trustmesh key show planner.pem")]
pub enum Key {
    New(New),
    Show(Show),
    Import(Import),
    Export(Export),
}

/// Make a key: PKCS#8 PEM, mode 0600, readable by OpenSSL and Python.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  trustmesh key new planner.pem
  trustmesh key new planner.pem --force    replaces it: the old key is gone")]
pub struct New {
    /// The file to write.
    file: PathBuf,
    /// Replace the file that is there.
    #[arg(long)]
    force: bool,
}

/// Show a public key in all its forms. Of a private key file the public side is shown.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  trustmesh key show planner.pem
  trustmesh key show did:key:z6Mk… --json")]
pub struct Show {
    /// A key file, or a public key as text: U…, did:key:…, hex.
    #[arg(value_name = "FILE|KEY")]
    key: String,
}

/// Bring a private key of another tool into a key file of ours.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  trustmesh key import user.nk planner.pem
  openssl genpkey -algorithm ed25519 | trustmesh key import - planner.pem")]
pub struct Import {
    /// The file that holds it: PKCS#8 PEM, or an nkey seed (SU…); - is standard input.
    from: PathBuf,
    /// The file to write.
    to: PathBuf,
    /// Replace the file that is there.
    #[arg(long)]
    force: bool,
}

/// Print the public key of a key file, or write the private one for another tool.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  trustmesh key export planner.pem --format did
  trustmesh key export planner.pem --format nkey --private user.nk")]
pub struct Export {
    /// The key file.
    file: PathBuf,
    /// In which form.
    #[arg(long, value_enum, default_value_t = Format::Pem)]
    format: Format,
    /// Write the private key to this new file, mode 0600, as pem or nkey.
    #[arg(long, value_name = "FILE")]
    private: Option<PathBuf>,
}

/// The forms of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    Pem,
    Nkey,
    Did,
    Hex,
}

pub fn run(command: Key, output: &Output) -> Outcome {
    match command {
        Key::New(args) => {
            let key = SigningKey::generate()?;
            store(&args.file, &key, args.force)?;
            tell_written("wrote", &args.file, &key.public(), output)
        }
        Key::Show(args) => show(&public(&args.key)?, output),
        Key::Import(args) => {
            let key = read_private(&args.from)?;
            store(&args.to, &key, args.force)?;
            tell_written("wrote", &args.to, &key.public(), output)
        }
        Key::Export(args) => export(&args, output),
    }
}

fn store(path: &Path, key: &SigningKey, force: bool) -> anyhow::Result<()> {
    let stored = if force {
        keyfile::replace(path, key)
    } else {
        keyfile::create(path, key)
    };
    stored.map_err(|error| match error {
        KeyFileError::Exists { path } => Failure::config(format!(
            "{} exists already: it stays as it is",
            path.display()
        ))
        .next("choose another name, or add --force to replace the key for good")
        .into(),
        other => other.into(),
    })
}

fn tell_written(verb: &str, path: &Path, key: &PublicKey, output: &Output) -> Outcome {
    let (path, nkey) = (path.display(), key.bytes().to_nkey());
    output.line(format_args!("{verb} {path}: {nkey}"))?;
    output.object(&forms(key))?;
    Ok(OK)
}

/// The public key that a file or a text stands for.
fn public(given: &str) -> anyhow::Result<PublicKey> {
    let path = Path::new(given);
    if path.symlink_metadata().is_err() {
        return text::public_key(given).map_err(|why| {
            Failure::usage(why)
                .next("give a key file, or a public key: U…, did:key:z…, 64 hexadecimal digits")
                .into()
        });
    }
    // A public key may be readable by anybody, a private one must not be: that is checked once it
    // is known to be one.
    match peek(path)? {
        Some(public) => Ok(public),
        None => Ok(keyfile::load(path)?.public()),
    }
}

/// The key in a file of public keys; `None` when the file is something else.
fn peek(path: &Path) -> anyhow::Result<Option<PublicKey>> {
    if !path.metadata().is_ok_and(|m| m.is_file()) {
        return Ok(None);
    }
    let Ok(file) = std::fs::File::open(path) else {
        return Ok(None);
    };
    let mut start = Zeroizing::new(Vec::with_capacity(1_024));
    file.take(1_024).read_to_end(&mut start)?;
    Ok(std::str::from_utf8(&start)
        .ok()
        .filter(|text| !text.contains("PRIVATE KEY"))
        .and_then(|text| text::public_key(text).ok()))
}

fn show(key: &PublicKey, output: &Output) -> Outcome {
    let forms = forms(key);
    for name in ["hex", "nkey", "did"] {
        output.line(format_args!(
            "{name:<5} {}",
            forms[name].as_str().unwrap_or_default()
        ))?;
    }
    output.line(key.to_spki_pem().trim_end())?;
    output.object(&forms)?;
    Ok(OK)
}

fn forms(key: &PublicKey) -> serde_json::Value {
    serde_json::json!({
        "hex": key.bytes().to_string(),
        "nkey": key.bytes().to_nkey(),
        "did": key.to_did_key(),
        "pem": key.to_spki_pem(),
    })
}

/// Reads a private key of any form, from a file nobody else can read or from standard input.
fn read_private(from: &Path) -> anyhow::Result<SigningKey> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_MAX + 1));
    if from == Path::new("-") {
        std::io::stdin()
            .take(KEY_FILE_MAX as u64 + 1)
            .read_to_end(&mut bytes)?;
    } else {
        // Whatever the form, the file has to be a private one: the loader of key files says so.
        match keyfile::load(from) {
            Ok(key) => return Ok(key),
            Err(KeyFileError::Key { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let file = std::fs::File::open(from)?;
        file.take(KEY_FILE_MAX as u64 + 1).read_to_end(&mut bytes)?;
    }
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    SigningKey::from_pkcs8_pem(text)
        .or_else(|why| match text.starts_with("SU") {
            true => SigningKey::from_nkey_seed(text),
            false => Err(why),
        })
        .map_err(|why| {
            Failure::config(format!("{} holds no private key: {why}", from.display()))
                .next("give PKCS#8 PEM or an nkey seed of a user (SU…)")
                .into()
        })
}

fn export(args: &Export, output: &Output) -> Outcome {
    let Some(to) = &args.private else {
        let key = public(&args.file.to_string_lossy())?;
        let text = match args.format {
            Format::Pem => key.to_spki_pem(),
            Format::Nkey => key.bytes().to_nkey(),
            Format::Did => key.to_did_key(),
            Format::Hex => key.bytes().to_string(),
        };
        output.result(text.trim_end(), &forms(&key))?;
        return Ok(OK);
    };
    let key = keyfile::load(&args.file)?;
    let secret = match args.format {
        // Written whole or not at all, as any key file of ours.
        Format::Pem => {
            store(to, &key, false)?;
            return tell_written("wrote", to, &key.public(), output);
        }
        Format::Nkey => key.to_nkey_seed(),
        Format::Did | Format::Hex => {
            return Err(Failure::usage("a private key is exported as pem or nkey").into());
        }
    };
    write_private(to, &secret)?;
    tell_written("wrote", to, &key.public(), output)
}

/// Writes a new file for its owner alone.
fn write_private(path: &Path, secret: &str) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options
        .open(path)
        .map_err(|why| Failure::config(format!("cannot create {}: {why}", path.display())))?;
    let written = writeln!(file, "{secret}").and_then(|()| file.sync_all());
    if written.is_err() {
        // Nothing half-written stays.
        let _ = std::fs::remove_file(path);
    }
    Ok(written?)
}
