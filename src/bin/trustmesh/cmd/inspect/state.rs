//! Trust files, and the mesh directory they lie in.

use std::path::Path;

use bytes::Bytes;
use trustmesh::proto::policy::Agents;
use trustmesh::proto::policy::Policy;
use trustmesh::proto::revocation::RevocationSet;
use trustmesh::proto::root::FileKind;
use trustmesh::proto::trust::Bulletin;
use trustmesh::proto::trust::FileContent;
use trustmesh::proto::trust::PartEdition;
use trustmesh::proto::trust::UnverifiedFile;
use trustmesh::proto::trust::digest_of;

use super::chain::certificate_rows;
use super::lens::Lens;
use super::lens::NO_TRUST;
use super::roots;
use super::sheet::Cell;
use super::sheet::Sheet;
use crate::cmd::policy::conduct;
use crate::cmd::policy::conduct::Section;
use crate::failure::Failure;
use crate::object;
use crate::text::utc;
use crate::text::visible;

/// The files of a trust folder besides its roots.
const FILES: [&str; 4] = ["registry.tm", "policy.tm", "revocations.tm", "scores.tm"];

/// A mesh directory or trust folder: each of its files.
pub fn directory(path: &Path, lens: &Lens) -> anyhow::Result<Sheet> {
    let folder = roots::folder_in(path);
    let mut paths = vec![folder.join(roots::FIRST)];
    paths.extend(roots::later_files(&folder));
    paths.extend(FILES.map(|name| folder.join(name)));
    let mut files: Vec<Bytes> = Vec::new();
    for path in paths.iter().filter(|path| path.is_file()) {
        let file = object::read(path)?.into();
        // A later root may lie in two places.
        if !files.contains(&file) {
            files.push(file);
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
        .list("files", files.iter().map(|f| file(f, lens)).collect()))
}

/// A trust file of any kind.
pub fn file(bytes: &Bytes, lens: &Lens) -> Sheet {
    let kind = match FileKind::of(bytes) {
        Ok(kind) => kind,
        Err(why) => return Sheet::unreadable("trust file", bytes.len(), why),
    };
    let shown = match kind {
        FileKind::Root => roots::root(bytes, lens),
        _ => UnverifiedFile::parse(kind, bytes).map(|file| signed(kind, bytes, &file, lens)),
    };
    shown.unwrap_or_else(|why| Sheet::unreadable(kind.name(), bytes.len(), why))
}

/// A bulletin: the newest timestamp, its snapshot, and the parts that came with them.
pub fn bulletin(bytes: &Bytes, lens: &Lens) -> Sheet {
    let bulletin = match Bulletin::parse(bytes) {
        Ok(bulletin) => bulletin,
        Err(why) => return Sheet::unreadable("bulletin", bytes.len(), why),
    };
    let parts = bulletin.parts.iter().map(|part| file(part, lens));
    Sheet::new("bulletin")
        .row("bytes", Cell::Number(bytes.len() as u64))
        .part("timestamp", file(&bulletin.timestamp, lens))
        .part("snapshot", file(&bulletin.snapshot, lens))
        .list("parts", parts.collect())
}

fn signed(kind: FileKind, bytes: &Bytes, file: &UnverifiedFile, lens: &Lens) -> Sheet {
    let edition = file.edition();
    let signers = file.signers().map(|position| position.to_string());
    let sheet = Sheet::new(kind.name())
        .text("id", file.id())
        .text("mesh", file.mesh())
        .text("digest", digest_of(bytes))
        .row("epoch", Cell::Number(edition.epoch))
        .row("window", Cell::Window(edition.validity, lens.at))
        .maybe("part", file.shard().map(part))
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
                .row("retirements", Cell::List(retirements(revoked)))
        }
        FileContent::Scores(scores) => {
            let scores = scores
                .iter()
                .map(|(agent, score)| format!("{agent} {score}"));
            sheet.row("scores", Cell::List(scores.collect()))
        }
        FileContent::Timestamp { snapshot, root } => sheet
            .text("snapshot", edition(snapshot))
            .text("root", format!("version {}, {}", root.0, root.1)),
        FileContent::Snapshot(parts) => {
            let parts = parts.iter().map(|(key, named)| {
                format!("{} {}: {}", key.kind.name(), key.index, edition(named))
            });
            sheet.row("parts", Cell::List(parts.collect()))
        }
        FileContent::Books(bytes) => sheet.row("bytes", Cell::Number(bytes.len() as u64)),
        // What a later version adds is shown by its frame.
        _ => sheet,
    }
}

/// Which part of how many; of revocations there may always be more.
fn part((index, count): (u16, u16)) -> Cell {
    Cell::Text(match count {
        0 => format!("{index}"),
        _ => format!("{index} of {count}"),
    })
}

fn edition(named: &PartEdition) -> String {
    format!("epoch {}, {}", named.epoch, named.digest)
}

fn retirements(revoked: &RevocationSet) -> Vec<String> {
    let retirements = revoked.retirements().into_iter();
    retirements
        .map(|(key, from)| format!("{key} from {}", utc(from)))
        .collect()
}

fn policy(sheet: Sheet, policy: &Policy) -> Sheet {
    let ttl = policy.ttl();
    let rules = policy.rules().iter().map(|rule| {
        Sheet::new("rule")
            .titled(format!("rule {}", visible(rule.name())))
            .text("name", rule.name())
            .text("says", rule)
    });
    let sheet = sheet
        .row("envelope ttl", Cell::Number(ttl.envelope_ms.into()))
        .row("grant ttl", Cell::Number(ttl.grant_ms))
        .row("delegation ttl", Cell::Number(ttl.delegation_ms))
        .row("blocked", agents(policy.blocked()))
        .maybe("allowed", policy.allowed().map(agents))
        .maybe("needs approval", needs(policy))
        .list("rules", rules.collect());
    conduct::said(policy).fold(sheet, |sheet, section| {
        sheet.part(section.name, numbers(&section))
    })
}

/// What a policy says of conduct: all numbers of a section, when one is not its default.
fn numbers(section: &Section) -> Sheet {
    let numbers = section.numbers.iter();
    numbers.fold(Sheet::new(section.name), |sheet, number| {
        sheet.row(number.name, Cell::Number(number.value))
    })
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
