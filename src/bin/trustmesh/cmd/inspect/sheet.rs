//! What is known of an object, in a form that prints for people and for programs.

use std::fmt::Write as _;

use serde_json::Map;
use serde_json::Value as Json;
use serde_json::json;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::time::Validity;

use crate::failure::verdict;
use crate::output::BAD;
use crate::output::DIM;
use crate::output::GOOD;
use crate::output::NAME;
use crate::output::WARN;
use crate::output::styled;
use crate::text;

/// Width of the names before the values.
const NAMES: usize = 14;

/// One object, or a part of one.
#[derive(Debug, Default)]
pub struct Sheet {
    /// What it is.
    kind: &'static str,
    /// Its heading for people, when that says more than what it is.
    title: Option<String>,
    rows: Vec<(&'static str, Cell)>,
    parts: Vec<(&'static str, Vec<Sheet>)>,
    checked: Vec<String>,
    not_checked: Vec<String>,
    against: Vec<Rejection>,
    /// Why it is not what it says to be.
    unreadable: Option<Rejection>,
}

/// A value.
#[derive(Debug)]
pub enum Cell {
    /// A text, possibly somebody else's.
    Text(String),
    /// A key, and whose it is when the registry knows.
    Key(KeyBytes, Option<String>),
    /// A number.
    Number(u64),
    /// An instant.
    Time(Timestamp),
    /// A window, and the instant that is asked about.
    Window(Validity, Timestamp),
    /// Yes or no.
    Flag(bool),
    /// Several texts.
    List(Vec<String>),
}

impl Sheet {
    pub fn new(kind: &'static str) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }

    /// What could not be read as what it says to be.
    pub fn unreadable(kind: &'static str, len: usize, why: Rejection) -> Self {
        let mut sheet = Self::new(kind).row("bytes", Cell::Number(len as u64));
        sheet.unreadable = Some(why);
        sheet
    }

    /// Gives it a heading. What somebody else chose in it has to be escaped.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    #[must_use]
    pub fn row(mut self, name: &'static str, value: Cell) -> Self {
        self.rows.push((name, value));
        self
    }

    #[must_use]
    pub fn text(self, name: &'static str, value: impl ToString) -> Self {
        self.row(name, Cell::Text(value.to_string()))
    }

    #[must_use]
    pub fn maybe(self, name: &'static str, value: Option<Cell>) -> Self {
        match value {
            Some(value) => self.row(name, value),
            None => self,
        }
    }

    #[must_use]
    pub fn part(self, name: &'static str, part: Sheet) -> Self {
        self.list(name, vec![part])
    }

    #[must_use]
    pub fn list(mut self, name: &'static str, parts: Vec<Sheet>) -> Self {
        self.parts.push((name, parts));
        self
    }

    #[must_use]
    pub fn checked(mut self, what: impl Into<String>) -> Self {
        self.checked.push(what.into());
        self
    }

    #[must_use]
    pub fn not_checked(mut self, what: impl Into<String>) -> Self {
        self.not_checked.push(what.into());
        self
    }

    /// Notes what speaks against the object, if anything does.
    #[must_use]
    pub fn against(mut self, why: Option<Rejection>) -> Self {
        self.against.extend(why);
        self
    }

    /// Why it, or a part of it, could not be read.
    pub fn fault(&self) -> Option<Rejection> {
        let parts = self.parts.iter().flat_map(|(_, parts)| parts);
        self.unreadable
            .or_else(|| parts.into_iter().find_map(Self::fault))
    }

    /// For programs: complete.
    pub fn json(&self) -> Json {
        let mut object = Map::new();
        object.insert("kind".into(), self.kind.into());
        for (name, value) in &self.rows {
            object.insert(field(name), value.json());
        }
        for (name, parts) in &self.parts {
            object.insert(field(name), parts.iter().map(Self::json).collect());
        }
        if !self.checked.is_empty() || !self.not_checked.is_empty() {
            object.insert("checked".into(), json!(self.checked));
            object.insert("not_checked".into(), json!(self.not_checked));
            object.insert("against".into(), self.against.iter().map(refusal).collect());
        }
        if let Some(why) = &self.unreadable {
            object.insert("unreadable".into(), refusal(why));
        }
        Json::Object(object)
    }

    /// For people.
    pub fn print(&self) -> String {
        let mut out = String::new();
        self.print_at(&mut out, 0);
        out.truncate(out.trim_end().len());
        out
    }

    fn print_at(&self, out: &mut String, depth: usize) {
        let indent = "  ".repeat(depth);
        let title = self.title.as_deref().unwrap_or(self.kind);
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "{indent}{}", styled(NAME, title));
        for (name, value) in &self.rows {
            let _ = writeln!(
                out,
                "{indent}  {} {value}",
                label(name),
                value = value.print()
            );
        }
        for (_, parts) in &self.parts {
            for part in parts {
                part.print_at(out, depth + 1);
            }
        }
        if let Some(why) = &self.unreadable {
            let _ = writeln!(
                out,
                "{indent}  {} {}",
                styled(BAD, padded("unreadable")),
                verdict(why)
            );
        }
        for why in &self.against {
            let _ = writeln!(
                out,
                "{indent}  {} {}",
                styled(BAD, padded("refused")),
                verdict(why)
            );
        }
        if !self.checked.is_empty() {
            let line = self.checked.join(", ");
            let _ = writeln!(out, "{indent}  {} {line}", styled(GOOD, padded("checked")));
        }
        if !self.not_checked.is_empty() {
            let line = self.not_checked.join(", ");
            let _ = writeln!(
                out,
                "{indent}  {} {line}",
                styled(WARN, padded("not checked"))
            );
        }
    }
}

impl Cell {
    fn json(&self) -> Json {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Key(key, agent) => json!({ "key": key.to_string(), "agent": agent }),
            Self::Number(number) => (*number).into(),
            Self::Time(at) => at.as_millis().into(),
            Self::Window(window, at) => json!({
                "from": window.from().as_millis(),
                "until": window.until().as_millis(),
                "holds": holds(window, *at),
            }),
            Self::Flag(flag) => (*flag).into(),
            Self::List(list) => json!(list),
        }
    }

    fn print(&self) -> String {
        match self {
            Self::Text(text) => text::visible(text),
            Self::Key(key, Some(agent)) => {
                format!(
                    "{}, key {}",
                    text::visible(agent),
                    text::short(&key.to_string())
                )
            }
            Self::Key(key, None) => key.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Time(at) => text::utc(*at),
            Self::Window(window, at) => {
                let (from, until) = (text::utc(window.from()), text::utc(window.until()));
                format!("{from} to {until}, {}", state(window, *at))
            }
            Self::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Self::List(list) if list.is_empty() => "none".to_owned(),
            Self::List(list) => {
                let shown: Vec<_> = list.iter().map(|text| text::visible(text)).collect();
                shown.join(", ")
            }
        }
    }
}

fn holds(window: &Validity, at: Timestamp) -> bool {
    (window.from()..window.until()).contains(&at)
}

fn state(window: &Validity, at: Timestamp) -> String {
    if at < window.from() {
        let wait = text::span(window.from().since(at));
        styled(BAD, format!("begins in {wait}"))
    } else if at < window.until() {
        let left = text::span(window.until().since(at));
        format!("{}, {left} left", styled(GOOD, "holds"))
    } else {
        let ago = text::span(at.since(window.until()));
        styled(BAD, format!("ended {ago} ago"))
    }
}

fn refusal(why: &Rejection) -> Json {
    json!({
        "class": why.class().name(),
        "code": why.code(),
        "hop": why.hop(),
        "place": why.place().map(|place| place.to_string()),
        "reason": why.to_string(),
    })
}

fn field(name: &str) -> String {
    name.replace(' ', "_")
}

fn label(name: &str) -> String {
    styled(DIM, padded(name))
}

fn padded(name: &str) -> String {
    format!("{name:<NAMES$}")
}
