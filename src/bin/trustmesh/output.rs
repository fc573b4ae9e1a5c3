//! Where words go: results to standard output, everything else to standard error.

use std::fmt::Display;
use std::io::Write as _;

use anstyle::AnsiColor;
use anstyle::Style;
use comfy_table::Table;

use crate::cli::Color;
use crate::cli::Global;
use crate::failure;
use crate::failure::Report;

/// Accepted.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Refused.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Worth a look.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// Beside the point.
pub const DIM: Style = Style::new().dimmed();
/// A name.
pub const NAME: Style = Style::new().bold();

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
    quiet: bool,
}

impl Output {
    /// Follows the flags, `NO_COLOR` and whether there is a terminal.
    pub fn new(global: &Global) -> Self {
        match global.color {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        }
        .write_global();
        Self {
            json: global.json,
            quiet: global.quiet,
        }
    }

    /// Whether results are JSON.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Prints a result for people, unless JSON was asked for.
    pub fn line(&self, text: impl Display) -> anyhow::Result<()> {
        if !self.json {
            write_out(text)?;
        }
        Ok(())
    }

    /// Prints a result for programs, if JSON was asked for.
    pub fn object(&self, value: &impl serde::Serialize) -> anyhow::Result<()> {
        if self.json {
            write_out(serde_json::to_string(value)?)?;
        }
        Ok(())
    }

    /// Prints a result in the form asked for.
    pub fn result(&self, text: impl Display, value: &impl serde::Serialize) -> anyhow::Result<()> {
        self.line(text)?;
        self.object(value)
    }

    /// Says something that is no result.
    pub fn note(&self, text: impl Display) {
        if !self.quiet {
            // Nobody is left to tell when standard error is gone.
            let _ = writeln!(anstream::stderr().lock(), "{text}");
        }
    }

    /// Says what went wrong, even when quiet.
    pub fn failure(&self, error: &anyhow::Error) {
        if failure::is_closed_pipe(error) {
            return;
        }
        let report = Report::of(error);
        let text = if self.json {
            serde_json::to_string(&report).unwrap_or_else(|_| report.to_string())
        } else {
            report.to_string()
        };
        let _ = writeln!(anstream::stderr().lock(), "{text}");
    }
}

fn write_out(text: impl Display) -> std::io::Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// `text` in a style.
pub fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// A table without lines, the first row its heading.
pub fn table<const N: usize>(
    heading: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(heading);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}
