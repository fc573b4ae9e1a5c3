//! `inspect`: what is in anything we sign or store, hop by hop.

mod chain;
mod envelope;
mod handshake;
mod key;
mod lens;
mod records;
mod roots;
mod sheet;
mod state;

use std::path::Path;

use bytes::Bytes;
use clap::Args;
use serde_json::Value as Json;
use trustmesh::proto::identity::SIGNATURE_LEN;
use trustmesh::proto::names::MAGIC_BULLETIN;
use trustmesh::proto::names::MAGIC_ENVELOPE;
use trustmesh::proto::names::MAGIC_HANDSHAKE;
use trustmesh::proto::names::MAGIC_TRUST;
use trustmesh::proto::rejection::Class;
use trustmesh::proto::rejection::Malformed;
use trustmesh::proto::rejection::Place;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::root::TrustRoot;
use trustmesh::proto::time::Timestamp;
use zeroize::Zeroizing;

use self::lens::Lens;
use self::sheet::Sheet;
use super::OK;
use super::Outcome;
use crate::advice;
use crate::cli::Global;
use crate::failure::Failure;
use crate::failure::class_code;
use crate::object;
use crate::output::Output;
use crate::setting;
use crate::text;
use crate::trust::Trust;
use crate::vectors::World;

/// Show what is in anything we sign or store, hop by hop, and say what was checked
#[derive(Args, Debug)]
#[command(after_help = "\
OBJECT is a file, a mesh directory, - for standard input, or the object itself in hexadecimal,
base 64 or as key text: envelope, chain, certificate, trust file, bulletin, handshake frame, audit
records, public or private key, test vector. Payloads and private keys are never printed.

It looks, and does not judge: the exit code is 0 for whatever can be read, and that of the class
for what cannot. trustmesh verify judges.

Examples:
  trustmesh inspect message.bin --trust /srv/shop
  trustmesh inspect /srv/shop/agents/planner/grant.chain --json")]
pub struct Inspect {
    /// What to look at.
    object: String,
    #[command(flatten)]
    trust: Trust,
    /// Look as of this time; now, when it is not given.
    #[arg(long, value_name = "TIME", value_parser = text::instant)]
    at: Option<Timestamp>,
}

pub fn run(args: &Inspect, global: &Global, output: &Output) -> Outcome {
    let path = Path::new(&args.object);
    let trust = args.trust.load_if_there(global, output)?;
    let lens = Lens {
        roots: roots_at_hand(args, global, trust.is_some()),
        trust,
        at: args.at.map_or_else(setting::now, Ok)?,
    };
    let sheet = if path.is_dir() {
        state::directory(path, &lens)?
    } else if args.object == "-" || path.exists() {
        file(path, &lens)?
    } else {
        literal(&args.object, &lens)?
    };
    if output.json() {
        output.object(&sheet.json())?;
    } else {
        output.line(sheet.print())?;
    }
    match sheet.fault() {
        None => Ok(OK),
        Some(why) => {
            output.note(format_args!("next: {}", next(&why)));
            Ok(class_code(why.class()))
        }
    }
}

/// The step to try first. To inspect the object, as is advised elsewhere, was just done.
fn next(why: &Rejection) -> String {
    match (why.class(), advice::next(why)) {
        // What cannot be read for its signature is a trust root, which its own keys must sign.
        (Class::BadSignature, _) => {
            "copy it again from where it was made: this is not what was signed".to_owned()
        }
        (_, next) if next.contains("trustmesh inspect") => format!("trustmesh why {}", why.code()),
        (_, next) => next.to_owned(),
    }
}

/// The trust roots of the mesh in use, if one is, and those that lie beside the object.
fn roots_at_hand(args: &Inspect, global: &Global, in_use: bool) -> Vec<TrustRoot> {
    let path = Path::new(&args.object);
    let beside = if path.is_dir() {
        Some(roots::folder_in(path))
    } else {
        let file = Some(path).filter(|path| path.is_file());
        file.and_then(roots::folder_around)
    };
    let directory = args.trust.directory(global).ok().filter(|_| in_use);
    let used = directory.map(|directory| roots::folder_in(&directory));
    let folders = used.into_iter().chain(beside);
    folders.flat_map(|folder| roots::line(&folder)).collect()
}

/// An object given in the argument itself.
fn literal(given: &str, lens: &Lens) -> anyhow::Result<Sheet> {
    if let Some(key) = key::key(given, lens) {
        return key;
    }
    // A mistyped file name may pass for base 64; no object is as short.
    let decoded = object::decode(given.as_bytes()).filter(|d| d.len() >= SIGNATURE_LEN);
    match decoded {
        Some(decoded) => Ok(binary(&decoded, lens)),
        None => {
            // It may be a mistyped secret, so it is not repeated.
            let what = "the object is no file, nor hexadecimal, base 64 or key text";
            Err(Failure::usage(what)
                .next("trustmesh inspect FILE, or - for standard input")
                .into())
        }
    }
}

/// A file: text of some form, or the object.
fn file(path: &Path, lens: &Lens) -> anyhow::Result<Sheet> {
    // It may be a private key, which is wiped once its public side is known.
    let mut bytes = Zeroizing::new(object::read(path)?);
    if bytes.trim_ascii().is_empty() {
        return Err(Failure::usage("there is nothing to look at").into());
    }
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Ok(binary(&std::mem::take(&mut *bytes).into(), lens));
    };
    if let Some(key) = key::key(text, lens) {
        return key;
    }
    if records::are_records(text) {
        return Ok(records::lines(text.as_bytes()));
    }
    if let Ok(json) = serde_json::from_str::<Json>(text)
        && json.is_object()
    {
        // A case is looked at in its own state, at its own time.
        let own = own_lens(path);
        return vector(&json, own.as_ref().unwrap_or(lens));
    }
    Ok(match object::decode(text.as_bytes()) {
        Some(decoded) => binary(&decoded, lens),
        None => binary(&std::mem::take(&mut *bytes).into(), lens),
    })
}

/// What a case is looked at with: its state, or, before anything was heard, its newest root alone.
fn own_lens(path: &Path) -> Option<Lens> {
    let mut world = World::default();
    let (trust, root) = (world.scene(path), world.root(path));
    let at = trust.as_ref().map(|(_, at)| *at);
    Some(Lens {
        at: at.or(root.as_ref().map(|(_, at)| *at))?,
        trust: trust.map(|(trust, _)| trust),
        roots: root.map(|(root, _)| root).into_iter().collect(),
    })
}

/// A binary object, told by its first bytes.
fn binary(bytes: &Bytes, lens: &Lens) -> Sheet {
    match bytes[..] {
        _ if bytes.starts_with(&MAGIC_ENVELOPE) => envelope::envelope(bytes, lens),
        _ if bytes.starts_with(&MAGIC_HANDSHAKE) => handshake::frame(bytes, lens),
        _ if bytes.starts_with(&MAGIC_TRUST) => state::file(bytes, lens),
        _ if bytes.starts_with(&MAGIC_BULLETIN) => state::bulletin(bytes, lens),
        // A certificate is an array of four that begins with a byte string, a chain one of arrays.
        [0x94, 0xc4 | 0xc5, ..] => chain::certificate(bytes, lens),
        [0x90..=0x9f | 0xdc, ..] => chain::chain(bytes, lens),
        _ => {
            let (place, reason) = (Place::Frame, Malformed::BadMagic);
            let why = Rejection::Malformed { place, reason };
            Sheet::unreadable("unknown object", bytes.len(), why)
        }
    }
}

/// A test vector: what it says, and the object in it.
fn vector(json: &Json, lens: &Lens) -> anyhow::Result<Sheet> {
    let text = |name: &str| json[name].as_str();
    let mut sheet = Sheet::new("test vector");
    for name in ["about", "kind", "state", "bytes", "root", "bulletin"] {
        match (name, text(name)) {
            ("about", Some(about)) => sheet = sheet.text("about", about),
            ("kind", Some(kind)) => sheet = sheet.text("case", kind),
            ("state", Some(state)) => sheet = sheet.text("state", state),
            (_, Some(hex)) => {
                let decoded = object::decode(hex.as_bytes());
                let decoded = decoded.unwrap_or_default();
                sheet = sheet.part("object", binary(&decoded, lens));
            }
            _ => {}
        }
    }
    if text("about").is_none() {
        return Err(Failure::usage("JSON that is neither audit records nor a test vector").into());
    }
    let expect = &json["expect"];
    Ok(if expect.is_null() {
        sheet
    } else {
        sheet.text("expected", expect)
    })
}
