//! `rowgate audit replay`: a session as it went, on the terminal: at once, at its own pace, or step by step.

use std::io::{BufRead as _, IsTerminal as _};
use std::time::Duration;

use clap::Args;
use comfy_table::{Table, presets};

use super::{READING, failed, folder};
use crate::audit::replay::{Answer, Moment, Opened, Played, replay};
use crate::cli::args::Output;
use crate::cli::output::{Sheet, say, shortened, time, visible};
use crate::cli::progress::during;
use crate::cli::{CliError, Context};
use crate::record::Masked;

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
    let mut moments = Vec::new();
    during(READING, || replay(&folder, args.session, |moment| moments.push(moment)))
        .map_err(failed)?;
    if moments.is_empty() {
        return Err(CliError::failed(format!(
            "no record of session {}; `rowgate audit search` lists statements and their sessions",
            args.session
        )));
    }
    let mut before = None;
    for moment in &moments {
        let at_us = at(moment);
        if let (Some(speed), Some(before)) = (args.speed, before.replace(at_us)) {
            let micros = u64::try_from(at_us.saturating_sub(before)).unwrap_or(0);
            let pause = Duration::from_micros(micros).div_f64(speed.max(1e-3));
            std::thread::sleep(pause.min(MAX_PAUSE));
        }
        show(context, moment)?;
        if args.step && std::io::stdin().lock().read_line(&mut String::new()).is_ok_and(|n| n == 0)
        {
            return Ok(());
        }
    }
    Ok(())
}

fn at(moment: &Moment) -> i64 {
    match moment {
        Moment::Opened(opened) => opened.at_us,
        Moment::Statement(played) => played.at_us,
        Moment::Closed { at_us, .. } => *at_us,
    }
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
    sheet.line("run", &pairs(&opened.attributes));
    format!("{}\n", sheet.text())
}

fn pairs(pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if pairs.is_empty() { "-".to_owned() } else { pairs.join(" ") }
}

fn statement_text(played: &Played) -> String {
    let mut text = visible(&format!(
        "{}  #{}  {}  {}  {}\n",
        time(played.at_us),
        played.statement,
        played.verdict,
        played.verb,
        duration(played)
    ));
    for line in visible(&played.text).lines() {
        text.push_str(&format!("    {line}\n"));
    }
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("  {name:<8} {}\n", visible(value)));
        }
    };
    fact("tables", &played.tables.join(", "));
    fact("rules", &played.rules.join(", "));
    if !played.attributes.is_empty() {
        fact("run", &pairs(&played.attributes));
    }
    for masked in &played.masked {
        let by: String = masked.digest.chars().take(12).collect();
        fact("masked", &format!("{masked}, plugin {} {by}", masked.plugin));
    }
    for answer in &played.answers {
        text.push_str(&answer_text(answer, &played.masked));
    }
    if let Some(rest) = what_is_missing(played) {
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

/// What the client saw and the record has not.
fn what_is_missing(played: &Played) -> Option<String> {
    let rows = played.ended.as_ref().map_or(0, |ended| ended.rows);
    let shown: usize = played.answers.iter().map(rows_of).sum();
    if played.unrecorded {
        return (rows > 0)
            .then(|| format!("{rows} rows were answered; no policy had them recorded"));
    }
    if !played.cut {
        return None;
    }
    Some(format!("{shown} of {rows} rows are recorded: audit.answer_bytes ends there"))
}

fn rows_of(answer: &Answer) -> usize {
    match answer {
        Answer::Rows { rows, .. } => rows.len(),
        _ => 0,
    }
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
