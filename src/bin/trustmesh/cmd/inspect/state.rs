//! Trust files, and the mesh directory they lie in.

use std::path::Path;

use bytes::Bytes;
use trustmesh::proto::policy::Agents;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::root::FileKind;
use trustmesh::proto::root::Role;
use trustmesh::proto::root::TrustRoot;
use trustmesh::proto::trust::FileContent;
use trustmesh::proto::trust::UnverifiedFile;

use super::chain::certificate_rows;
use super::lens::Lens;
use super::lens::NO_TRUST;
use super::sheet::Cell;
use super::sheet::Sheet;
use crate::failure::Failure;
use crate::object;
use crate::text::visible;

/// The files of a trust folder.
const FILES: [&str; 5] = [
    "root.tm",
    "registry.tm",
    "policy.tm",
    "revocations.tm",
    "scores.tm",
];

/// A mesh directory or trust folder: each of its files.
pub fn directory(path: &Path, lens: &Lens) -> anyhow::Result<Sheet> {
    let below = path.join("trust");
    let folder = if below.is_dir() { &below } else { path };
    let mut files = Vec::new();
    for name in FILES {
        let file = folder.join(name);
        if file.is_file() {
            files.push(self::file(&object::read(&file)?.into(), lens));
        }
    }
    if files.is_empty() {
        let text = format!(
            "{} is neither a mesh directory nor a trust folder",
            path.display()
        );
        return Err(Failure::usage(text).into());
    }
    Ok(Sheet::new("mesh directory")
        .text("path", folder.display())
        .list("files", files))
}

/// A trust file of any kind.
pub fn file(bytes: &Bytes, lens: &Lens) -> Sheet {
    let kind = match FileKind::of(bytes) {
        Ok(kind) => kind,
        Err(why) => return Sheet::unreadable("trust file", bytes.len(), why),
    };
    let shown = match kind {
        FileKind::Root => root(bytes, lens),
        _ => UnverifiedFile::parse(kind, bytes).map(|file| signed(kind, &file, lens)),
    };
    shown.unwrap_or_else(|why| Sheet::unreadable(kind.name(), bytes.len(), why))
}

fn root(bytes: &Bytes, lens: &Lens) -> Result<Sheet, Rejection> {
    let root = TrustRoot::parse(bytes)?;
    let roles = Role::ALL
        .into_iter()
        .filter(|role| root.threshold(*role) > 0);
    let roles = roles.map(|role| {
        let keys = root.keys(role).iter().map(|key| key.bytes().to_string());
        Sheet::new("role")
            .titled(format!("role {}", role.name()))
            .text("name", role.name())
            .row("threshold", Cell::Number(root.threshold(role).into()))
            .row("keys", Cell::List(keys.collect()))
    });
    let sheet = Sheet::new("trust root")
        .titled(format!("trust root  {}", visible(root.name())))
        .text("name", root.name())
        .text("id", root.id())
        .text("mesh", root.mesh())
        .row("window", Cell::Window(root.validity(), lens.at))
        .row("development", Cell::Flag(root.is_dev()))
        .list("roles", roles.collect())
        .checked("encoding, keys, its own signatures");
    Ok(match &lens.trust {
        Some(trust) if trust.root().id() == root.id() => sheet.checked("it is the root in use"),
        Some(_) => sheet.not_checked("whether it is trusted: another root is in use"),
        None => sheet.not_checked("whether it is yours: compare the id with a pinned one"),
    })
}

fn signed(kind: FileKind, file: &UnverifiedFile, lens: &Lens) -> Sheet {
    let edition = file.edition();
    let signers = file.signers().map(|position| position.to_string());
    let sheet = Sheet::new(kind.name())
        .text("id", file.id())
        .text("mesh", file.mesh())
        .row("epoch", Cell::Number(edition.epoch))
        .row("window", Cell::Window(edition.validity, lens.at))
        .row("signed by", Cell::List(signers.collect()));
    let sheet = content(sheet, file.content(), lens).checked("encoding");
    match &lens.trust {
        None => sheet.not_checked("signatures").not_checked(NO_TRUST),
        Some(trust) => match file.check_signed(trust.root()) {
            Ok(()) => sheet.checked("signatures of the role that must sign it"),
            Err(why) => sheet.against(Some(why)),
        },
    }
}

fn content(sheet: Sheet, content: &FileContent, lens: &Lens) -> Sheet {
    match content {
        FileContent::Registry(certificates) => {
            let sheets = certificates.iter().map(|c| certificate_rows(c, lens));
            sheet.list("certificates", sheets.collect())
        }
        FileContent::Policy(policy) => self::policy(sheet, policy),
        FileContent::Revocations(revoked) => {
            let keys = revoked.keys();
            let keys = keys.iter().map(ToString::to_string).collect();
            let links = revoked.links().iter().map(ToString::to_string).collect();
            let agents = revoked.agents().iter().map(ToString::to_string).collect();
            sheet
                .row("links", Cell::List(links))
                .row("keys", Cell::List(keys))
                .row("agents", Cell::List(agents))
        }
        FileContent::Scores(scores) => {
            let scores = scores
                .iter()
                .map(|(agent, score)| format!("{agent} {score}"));
            sheet.row("scores", Cell::List(scores.collect()))
        }
        // What a later version adds is shown by its frame.
        _ => sheet,
    }
}

fn policy(sheet: Sheet, policy: &Policy) -> Sheet {
    let ttl = policy.ttl();
    let rules = policy.rules().iter().map(|rule| {
        Sheet::new("rule")
            .titled(format!("rule {}", visible(rule.name())))
            .text("name", rule.name())
            .text("says", rule)
    });
    sheet
        .row("envelope ttl", Cell::Number(ttl.envelope_ms.into()))
        .row("grant ttl", Cell::Number(ttl.grant_ms))
        .row("delegation ttl", Cell::Number(ttl.delegation_ms))
        .row("blocked", agents(policy.blocked()))
        .maybe("allowed", policy.allowed().map(agents))
        .maybe("needs approval", needs(policy))
        .list("rules", rules.collect())
}

fn needs(policy: &Policy) -> Option<Cell> {
    let needs = policy.approval().iter().map(ToString::to_string);
    let needs: Vec<String> = needs.collect();
    (!needs.is_empty()).then_some(Cell::List(needs))
}

fn agents(agents: &Agents) -> Cell {
    let ids = agents.ids().map(ToString::to_string);
    let mut names: Vec<_> = ids.chain(agents.keys().map(ToString::to_string)).collect();
    names.sort();
    Cell::List(names)
}
