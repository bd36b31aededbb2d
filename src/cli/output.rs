//! Lists for people and for programs. What agents wrote is shown to approvers here, so nothing of it may steer their
//! terminal.

use std::io::{ErrorKind, Write as _};

use comfy_table::{Table, presets};
use serde::Serialize;

use super::args::Output;
use super::{CliError, Context};
pub(super) use crate::visible::visible;

/// The longest cell in a table, in characters; JSON and `show` have it whole.
const MAX_CELL_CHARS: usize = 72;

impl Context {
    /// Prints `data` as JSON, or as these rows.
    pub(super) fn list<const N: usize>(
        &self,
        data: &impl Serialize,
        header: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> Result<(), CliError> {
        match self.output {
            Output::Json => print_json(data),
            Output::Table => print_table(header, rows),
        }
    }

    /// Prints `data` as JSON, or as this text.
    pub(super) fn one(&self, data: &impl Serialize, text: &str) -> Result<(), CliError> {
        match self.output {
            Output::Json => print_json(data),
            Output::Table => say(text),
        }
    }
}

fn print_json(data: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(data)
        .map_err(|error| CliError::failed(format!("the answer can't be printed: {error}")))?;
    say(&text)
}

/// Prints lines. A reader that has gone ends the verb without a word; a full disk is an error.
pub(super) fn say(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => CliError::Closed,
        _ => CliError::failed(format!("standard output: {error}")),
    })
}

fn print_table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Result<(), CliError> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| shortened(cell)));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    say(&lines.join("\n"))
}

/// What there is to say of one thing, a line each.
#[derive(Default)]
pub(super) struct Sheet(String);

impl Sheet {
    /// A named fact.
    pub(super) fn line(&mut self, name: &str, value: &str) {
        self.push(&format!("{name:<12} {}", visible(value)));
    }

    /// An empty line between two things.
    pub(super) fn gap(&mut self) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
    }

    /// A text of several lines under its name.
    pub(super) fn block(&mut self, name: &str, text: &str) {
        self.push(name);
        for line in visible(text).lines() {
            self.push(&format!("    {line}"));
        }
    }

    /// All of it, without the last line's end.
    pub(super) fn text(self) -> String {
        self.0
    }

    fn push(&mut self, line: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(line.trim_end());
    }
}

/// One line, safe to print, cut to a cell's width.
pub(super) fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut safe = visible(&line);
    if let Some((end, _)) = safe.char_indices().nth(MAX_CELL_CHARS) {
        safe.truncate(end);
        safe.push('…');
    }
    safe
}

/// A time as `2026-11-24 11:02:20Z`.
pub(super) fn time(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us)
        .map_or_else(|_| us.to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// A time that may not be.
pub(super) fn time_or(us: Option<i64>, otherwise: &str) -> String {
    us.map_or_else(|| otherwise.to_owned(), time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_one_short_line() {
        assert_eq!(shortened("SELECT 1\n  FROM t"), "SELECT 1 FROM t");
        assert_eq!(shortened(&"é".repeat(200)).chars().count(), MAX_CELL_CHARS + 1);
    }

    #[test]
    fn times() {
        assert_eq!(time(0), "1970-01-01 00:00:00Z");
        assert_eq!(time(i64::MAX), i64::MAX.to_string());
        assert_eq!(time_or(None, "never"), "never");
    }
}
