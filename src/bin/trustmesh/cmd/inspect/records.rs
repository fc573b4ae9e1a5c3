//! Audit records: JSON lines, hash-linked.

use trustmesh::audit::AuditEvent;
use trustmesh::audit::AuditRecord;
use trustmesh::proto::names::Tag;
use trustmesh::proto::rejection::Malformed;
use trustmesh::proto::rejection::Place;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::time::Timestamp;

use super::sheet::Cell;
use super::sheet::Sheet;
use crate::text::visible;

/// Whether a text begins with an audit record.
pub fn are_records(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    serde_json::from_str::<AuditRecord>(first).is_ok()
}

/// Records of audit, a line each, and whether each follows from the one before.
pub fn lines(text: &[u8]) -> Sheet {
    let malformed = |reason| Rejection::Malformed {
        place: Place::Audit,
        reason,
    };
    let Ok(text_of) = std::str::from_utf8(text) else {
        return Sheet::unreadable("audit records", text.len(), malformed(Malformed::NotText));
    };
    let mut records = Vec::new();
    let mut misplaced = 0;
    let mut last: Option<(AuditRecord, String)> = None;
    for line in text_of.lines().filter(|line| !line.trim().is_empty()) {
        let Ok(record) = serde_json::from_str::<AuditRecord>(line) else {
            let why = malformed(Malformed::WrongType);
            return Sheet::unreadable("audit records", text.len(), why).list("records", records);
        };
        let place = place(last.as_ref(), &record);
        misplaced += u64::from(!matches!(place, "first" | "follows"));
        records.push(sheet(&record, place));
        last = Some((record, Tag::AuditRecord.digest(line.as_bytes()).to_string()));
    }
    Sheet::new("audit records")
        .row("count", Cell::Number(records.len() as u64))
        .row("misplaced", Cell::Number(misplaced))
        .list("records", records)
        .checked("form, hash chain between neighbours")
        .not_checked("who signed them: lines alone carry no signature")
}

/// Where a record stands, after the one before it and the digest of its line.
fn place(before: Option<&(AuditRecord, String)>, record: &AuditRecord) -> &'static str {
    match before {
        Some((last, digest)) if last.emitter == record.emitter && last.run == record.run => {
            match record.seq.checked_sub(last.seq) {
                Some(1) if *digest == record.prev => "follows",
                Some(1) => "does not follow: its predecessor was changed",
                Some(0) | None => "repeated or out of order",
                Some(_) => "after a gap",
            }
        }
        _ => "first",
    }
}

fn sheet(record: &AuditRecord, place: &str) -> Sheet {
    let sheet = Sheet::new("record")
        .titled(format!("{} #{}", visible(&record.emitter), record.seq))
        .text("emitter", &record.emitter)
        .text("run", &record.run)
        .row("seq", Cell::Number(record.seq))
        .row("time", Cell::Time(Timestamp::from_millis(record.time)))
        .text("place", place);
    match &record.event {
        AuditEvent::Decision(event) => {
            let allowed = event.class.is_none();
            sheet
                .text("verdict", if allowed { "allow" } else { "deny" })
                .text("subject", &event.subject)
                .maybe("sender", event.sender.clone().map(Cell::Text))
                .row("claimed", Cell::Flag(event.claimed))
                .maybe("class", event.class.clone().map(Cell::Text))
                .maybe("code", event.code.map(|code| Cell::Number(code.into())))
                .maybe("hop", event.hop.map(|hop| Cell::Number(hop.into())))
                .maybe("reason", event.reason.clone().map(Cell::Text))
                .maybe("object", event.object.clone().map(Cell::Text))
        }
        other => match serde_json::to_string(other) {
            Ok(text) => sheet.text("event", text),
            Err(_) => sheet,
        },
    }
}
