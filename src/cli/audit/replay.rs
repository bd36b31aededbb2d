//! `rowgate audit replay`: a session as it went, on the terminal: at once, at its own pace, or step by step.

use std::io::{BufRead as _, IsTerminal as _};
use std::ops::ControlFlow;
use std::time::Duration;

use clap::Args;
use comfy_table::{Table, presets};

use super::shown::pairs;
use super::{READING, failed, folder};
use crate::audit::replay::{Answer, Moment, Played, replay};
use crate::cli::args::Output;
use crate::cli::output::{Sheet, say, shortened, time, visible};
use crate::cli::progress::during;
use crate::cli::{CliError, Context};
use crate::record::{Masked, Opened};

pub(in crate::cli) const REPLAY_EXAMPLES: &str = "\
Examples:
  rowgate audit replay 4611686018427387905
  rowgate audit replay 4611686018427387905 --step
  rowgate audit replay 4611686018427387905 --speed 10
  rowgate audit replay 4611686018427387905 --output json";

/// The longest pause between two moments, however long it was: nobody watches a session sleep.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Rows of a result that are printed; JSON has all that are recorded.
const MAX_ROWS: usize = 50;

#[derive(Args, Debug)]
pub(in crate::cli) struct ReplayArgs {
    /// The session's id, as `audit tail` and `sessions list` show it
    session: u64,
    /// Wait for Enter after each moment
    #[arg(long, conflicts_with = "speed")]
    step: bool,
    /// Take the time that it took, divided by this; no pause is longer than 5 s
    #[arg(long, value_name = "FACTOR", value_parser = speed)]
    speed: Option<f64>,
}

fn speed(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| "write a number, such as 10".to_owned())?;
    if factor.is_finite() && factor > 0.0 {
        Ok(factor)
    } else {
        Err("write a number above 0, such as 10".to_owned())
    }
}

pub(super) fn run(context: &Context, args: &ReplayArgs) -> Result<(), CliError> {
    if args.step && !std::io::stdin().is_terminal() {
        return Err(CliError::input("--step waits for Enter, and standard input is no terminal"));
    }
    let folder = folder(context)?;
    during(READING, || folder.index(false)).map_err(failed)?;
    let mut projector = Projector { context, args, before: None, outcome: Ok(()) };
    replay(&folder, args.session, |moment| projector.play(&moment)).map_err(failed)?;
    if projector.before.is_none() {
        return Err(CliError::failed(format!(
            "no record of session {}; `rowgate audit search` lists statements and their sessions",
            args.session
        )));
    }
    projector.outcome
}

/// Shows moment after moment, at the pace that was asked for.
struct Projector<'a> {
    context: &'a Context,
    args: &'a ReplayArgs,
    /// When the moment before was.
    before: Option<i64>,
    outcome: Result<(), CliError>,
}

impl Projector<'_> {
    fn play(&mut self, moment: &Moment) -> ControlFlow<()> {
        let at_us = moment.at_us();
        if let (Some(speed), Some(before)) = (self.args.speed, self.before.replace(at_us)) {
            let micros = u64::try_from(at_us.saturating_sub(before)).unwrap_or(0);
            let pause = Duration::from_micros(micros).div_f64(speed.max(1e-3));
            std::thread::sleep(pause.min(MAX_PAUSE));
        }
        self.before = Some(at_us);
        self.outcome = show(self.context, moment);
        if self.outcome.is_err() || (self.args.step && !enter()) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

/// Waits for Enter; false where none can come any more.
fn enter() -> bool {
    std::io::stdin().lock().read_line(&mut String::new()).is_ok_and(|read| read > 0)
}

fn show(context: &Context, moment: &Moment) -> Result<(), CliError> {
    match (context.output, moment) {
        (Output::Json, moment) => {
            let line = serde_json::to_string(moment);
            say(&line.map_err(|error| CliError::failed(format!("a moment: {error}")))?)
        }
        (Output::Table, Moment::Opened(opened)) => say(&opened_text(opened)),
        (Output::Table, Moment::Statement(played)) => say(&statement_text(played)),
        (Output::Table, Moment::Closed { at_us, reason }) => {
            say(&format!("{}  the session ended: {}", time(*at_us), visible(reason)))
        }
    }
}

fn opened_text(opened: &Opened) -> String {
    let mut sheet = Sheet::default();
    sheet.line("session", &opened.session.to_string());
    sheet.line("opened", &time(opened.at_us));
    sheet.line("identity", &format!("{} [{}]", opened.identity, opened.groups.join(", ")));
    sheet.line("target", &opened.target);
    sheet.line("from", &opened.source);
    if !opened.attributes.is_empty() {
        sheet.line("run", &pairs(&opened.attributes));
    }
    format!("{}\n", sheet.text())
}

fn statement_text(played: &Played) -> String {
    let mut text = visible(&format!(
        "{}  #{}  {}  {}  {}\n",
        time(played.intent.at_us),
        played.intent.statement,
        played.intent.verdict,
        played.intent.verb,
        duration(played)
    ));
    for line in visible(&played.intent.text).lines() {
        text.push_str(&format!("    {line}\n"));
    }
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("  {name:<8} {}\n", visible(value)));
        }
    };
    fact("tables", &played.intent.tables.join(", "));
    fact("rules", &played.intent.rules.join(", "));
    if !played.intent.attributes.is_empty() {
        fact("run", &pairs(&played.intent.attributes));
    }
    for masked in &played.intent.masked {
        let by: String = masked.digest.chars().take(12).collect();
        fact("masked", &format!("{masked}, plugin {} {by}", masked.plugin));
    }
    for answer in &played.answers {
        text.push_str(&answer_text(answer, &played.intent.masked));
    }
    if let Some(rest) = played.missing() {
        text.push_str(&format!("  {rest}\n"));
    }
    text
}

fn duration(played: &Played) -> String {
    let Some(ended) = &played.ended else { return "no end is recorded".to_owned() };
    let ms = |us: u64| format!("{}.{:03} ms", us / 1_000, us % 1_000);
    let held =
        if ended.hold_us > 0 { format!(", held {}", ms(ended.hold_us)) } else { String::new() };
    format!("{}{held}", ms(ended.total_us))
}

fn answer_text(answer: &Answer, masked: &[Masked]) -> String {
    match answer {
        Answer::Ok { affected, warnings } => {
            format!("  {affected} rows affected, {warnings} warnings\n")
        }
        Answer::Error { code, state, message } => {
            visible(&format!("  error {code} ({state}): {message}\n"))
        }
        Answer::File => "  a file of the client's was asked for\n".to_owned(),
        Answer::Rows { columns, rows } => {
            let is_masked = |index: usize| masked.iter().any(|m| usize::from(m.index) == index);
            let header = columns.iter().enumerate().map(|(index, column)| {
                let mark = if is_masked(index) { " (masked)" } else { "" };
                format!("{}{mark}", shortened(&column.name))
            });
            let mut table = Table::new();
            table.load_preset(presets::ASCII_BORDERS_ONLY_CONDENSED).set_header(header);
            for row in rows.iter().take(MAX_ROWS) {
                let cell = |cell: &Option<String>| cell.as_deref().map_or("NULL".into(), shortened);
                table.add_row(row.iter().map(cell));
            }
            let mut text = String::new();
            for line in table.lines() {
                text.push_str(&format!("  {line}\n"));
            }
            if rows.len() > MAX_ROWS {
                text.push_str(&format!("  and {} more rows\n", rows.len() - MAX_ROWS));
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds() {
        assert_eq!(speed("10"), Ok(10.0));
        for wrong in ["0", "-1", "NaN", "inf", "fast"] {
            assert!(speed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn masked_columns_are_marked() {
        let masked = Masked { index: 1, ..Masked::default() };
        let cell = |text: &str| Some(text.to_owned());
        let column = |name: &str| crate::audit::replay::Column::named(name);
        let columns = vec![column("id"), column("ssn")];
        let rows = vec![vec![cell("1"), cell("***-6789")], vec![None, cell("a\u{1b}b")]];
        let text = answer_text(&Answer::Rows { columns, rows }, &[masked]);
        assert!(text.contains("ssn (masked)") && !text.contains("id (masked)"), "{text}");
        assert!(text.contains("NULL") && !text.contains('\u{1b}'), "{text}");
    }
}
