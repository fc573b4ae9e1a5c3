//! One judgement as one line, for programs or for people.

use std::fmt::Display;
use std::io::Write;

use serde::Serialize;
use serde::Serializer;
use trustmesh::proto::identity::AgentId;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::verify::Judgement;
use trustmesh::proto::verify::NotChecked;

use crate::failure::verdict;
use crate::output::BAD;
use crate::output::DIM;
use crate::output::GOOD;
use crate::text::short;

/// The names and their order are stable. What could not be read is `null`.
#[derive(Serialize)]
struct Line<'a> {
    /// Number of the line in a stream, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    verdict: &'static str,
    class: Option<&'static str>,
    code: Option<u16>,
    hop: Option<u8>,
    reason: Option<Text<&'a Rejection>>,
    sender: Option<&'a str>,
    sender_key: Option<Text<&'a dyn Display>>,
    /// Whether sender, subject and the rest are claims: the signature did not verify, or was not
    /// looked at.
    claimed: bool,
    action: Option<&'static str>,
    subject: Option<&'a str>,
    object: Option<Text<&'a dyn Display>>,
    /// Links of the chain, when all their signatures verified.
    links: Option<usize>,
    payload_len: Option<usize>,
    not_checked: Names,
}

/// Writes a judgement as JSON.
pub fn write_json(
    out: &mut impl Write,
    number: Option<u64>,
    judged: &Judgement,
) -> anyhow::Result<()> {
    let rejection = judged.rejection.as_ref();
    let claims = judged.claims.as_ref();
    let line = Line {
        line: number,
        verdict: if judged.holds() { "allow" } else { "deny" },
        class: rejection.map(|r| r.class().name()),
        code: rejection.map(Rejection::code),
        hop: rejection.and_then(Rejection::hop),
        reason: rejection.map(Text),
        sender: judged.sender.as_ref().map(AgentId::as_str),
        sender_key: judged
            .sender_key
            .as_ref()
            .map(|key| Text(key as &dyn Display)),
        claimed: !judged.authentic,
        action: claims.map(|claims| claims.action.name()),
        subject: claims.map(|claims| claims.subject.as_str()),
        object: judged.object.as_ref().map(|id| Text(id as &dyn Display)),
        links: judged.chain.as_ref().map(|chain| chain.links().len()),
        payload_len: judged.payload_len,
        not_checked: Names(judged.not_checked),
    };
    // As an error of input and output, so that a reader who went away is known as one.
    serde_json::to_writer(&mut *out, &line).map_err(std::io::Error::from)?;
    out.write_all(b"\n")?;
    Ok(())
}

/// Writes a judgement for people.
pub fn write_text(
    out: &mut impl Write,
    number: Option<u64>,
    judged: &Judgement,
) -> std::io::Result<()> {
    if let Some(number) = number {
        write!(out, "{DIM}{number:>6}{DIM:#}  ")?;
    }
    match &judged.rejection {
        None => write!(out, "{GOOD}allow{GOOD:#}")?,
        Some(rejection) => write!(out, "{BAD}deny{BAD:#}   {}", verdict(rejection))?,
    }
    if let Some(rejection) = &judged.rejection
        && let Some(hop) = rejection.hop()
    {
        write!(out, " (link {hop})")?;
    }
    if let Some(claims) = &judged.claims {
        let said = if judged.authentic { "" } else { ", claimed" };
        match (&judged.sender, &judged.sender_key) {
            (Some(sender), _) => write!(out, "  {sender}")?,
            (None, Some(key)) => write!(out, "  {}", short(&key.to_string()))?,
            (None, None) => write!(out, "  ?")?,
        }
        write!(out, "  {} {}{said}", claims.action.name(), claims.subject)?;
    }
    if let Some(object) = &judged.object {
        write!(out, "  {DIM}{}{DIM:#}", short(&object.to_string()))?;
    }
    if judged.holds() {
        let names: Vec<_> = judged.not_checked.names().collect();
        write!(out, "  {DIM}not checked: {}{DIM:#}", names.join(", "))?;
    }
    writeln!(out)
}

/// A value as the text it prints as, without a copy in between.
struct Text<T>(T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

struct Names(NotChecked);

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.names())
    }
}
