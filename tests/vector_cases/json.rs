//! JSON with the order of its fields kept, so that one case has one text.

use std::fmt::Write as _;

/// A JSON value.
#[derive(Clone, Debug)]
pub enum Json {
    Null,
    Bool(bool),
    Number(u64),
    Text(String),
    List(Vec<Json>),
    /// A list with one element a line.
    Table(Vec<Json>),
    Map(Vec<(&'static str, Json)>),
}

/// Bytes, as lower-case hex.
pub fn hex(bytes: impl AsRef<[u8]>) -> Json {
    Json::Text(data_encoding::HEXLOWER.encode(bytes.as_ref()))
}

/// Text.
pub fn words(text: impl Into<String>) -> Json {
    Json::Text(text.into())
}

/// A value, or `null`.
pub fn or_null<T>(value: Option<T>, write: impl FnOnce(T) -> Json) -> Json {
    value.map_or(Json::Null, write)
}

impl Json {
    /// A file: the fields of the outermost map stand on a line each.
    pub fn file(&self) -> String {
        let Self::Map(fields) = self else {
            panic!("a file is a map");
        };
        let lines: Vec<String> = fields
            .iter()
            .map(|(name, value)| match value {
                Self::Table(rows) => {
                    let rows: Vec<String> = rows
                        .iter()
                        .map(|row| format!("    {}", row.line()))
                        .collect();
                    format!("  \"{name}\": [\n{}\n  ]", rows.join(",\n"))
                }
                other => format!("  \"{name}\": {}", other.line()),
            })
            .collect();
        format!("{{\n{}\n}}\n", lines.join(",\n"))
    }

    fn line(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => write!(out, "{value}").unwrap(),
            Self::Number(value) => write!(out, "{value}").unwrap(),
            Self::Text(text) => out.push_str(&serde_json::to_string(text).unwrap()),
            Self::List(items) | Self::Table(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { ", " });
                    item.write(out);
                }
                out.push(']');
            }
            Self::Map(fields) => {
                out.push('{');
                for (index, (name, value)) in fields.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { ", " });
                    write!(out, "\"{name}\": ").unwrap();
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}
