//! Records as people read them, a line each; or as JSON lines.

use crate::audit::read::Found;
use crate::audit::search::{Entry, Statement};
use crate::cli::args::Output;
use crate::cli::output::{say, time, visible};
use crate::cli::{CliError, Context};
use crate::record::{Completion, Opened, Recorded, RecordedIntent};

/// A line a record: JSON lines, or a form for reading.
pub(super) fn print(context: &Context, records: &[Found]) -> Result<(), CliError> {
    for found in records {
        line(context, found, || described(&found.record.event))?;
    }
    Ok(())
}

/// A line a statement, with how it ended, or whatever else it is.
pub(super) fn print_entries(context: &Context, entries: &[Entry]) -> Result<(), CliError> {
    for entry in entries {
        line(context, entry, || match entry {
            Entry::Event(found) => described(&found.record.event),
            Entry::Statement(statement) => joined(statement),
        })?;
    }
    Ok(())
}

fn line(
    context: &Context,
    data: &impl serde::Serialize,
    text: impl FnOnce() -> String,
) -> Result<(), CliError> {
    match context.output {
        Output::Json => {
            let line = serde_json::to_string(data);
            say(&line.map_err(|error| CliError::failed(format!("a record: {error}")))?)
        }
        Output::Table => say(&visible(&text())),
    }
}

fn joined(statement: &Statement) -> String {
    let mut line = described(&statement.intent.event);
    match &statement.completion {
        Some(end) => {
            let end = described(end);
            let (_, end) = end.split_once("done").unwrap_or(("", &end));
            line.push_str(&format!("  →  {}", end.trim_start()));
        }
        None => line.push_str("  →  no end is recorded"),
    }
    line
}

fn described(event: &Recorded) -> String {
    match event {
        Recorded::Intent(intent) => intended(intent),
        Recorded::Completion(end) => ended(end),
        Recorded::SessionOpened(opened) => {
            let Opened { session, at_us, identity, groups, target, source, attributes } = opened;
            let (at, groups, said) = (time(*at_us), groups.join(","), pairs(attributes));
            format!(
                "{at}  {session}  opened    {identity} [{groups}] on {target} from {source} {said}"
            )
        }
        Recorded::SessionClosed { session, at_us, reason } => {
            format!("{}  {session}  closed    {reason}", time(*at_us))
        }
        Recorded::LoginRefused { at_us, user, target, source, reason } => {
            format!(
                "{}  -  refused   login of {user} on {target} from {source}: {reason}",
                time(*at_us)
            )
        }
        Recorded::Released { session, statement, at_us, bytes, .. } => {
            let (at, len) = (time(*at_us), bytes.len());
            format!("{at}  {session}#{statement}  answered  {len} bytes are recorded")
        }
        Recorded::Approval { at_us, approval, change, by, reason, .. } => {
            format!("{}  {approval}  {change:8}  by {by} {reason}", time(*at_us))
        }
        Recorded::Admin { at_us, by, action, subject } => {
            format!("{}  -  admin     {by}: {action} ({subject})", time(*at_us))
        }
    }
}

/// `name=value`, one behind the other.
pub(super) fn pairs(pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(" ")
}

fn intended(intent: &RecordedIntent) -> String {
    let RecordedIntent { session, statement, verdict, identity, text, .. } = intent;
    let at = time(intent.at_us);
    let mut line = format!("{at}  {session}#{statement}  {verdict:8}  {identity}: {text}");
    if !intent.rules.is_empty() {
        line.push_str(&format!("  rules: {}", intent.rules.join(", ")));
    }
    if !intent.masked.is_empty() {
        let masked: Vec<String> = intent.masked.iter().map(ToString::to_string).collect();
        line.push_str(&format!("  masked: {}", masked.join("; ")));
    }
    if intent.attribute_count > 0 || !intent.attributes.is_empty() {
        let (count, known) = (intent.attribute_count, pairs(&intent.attributes));
        line.push_str(&format!("  attributes: {count} {known}"));
    }
    line
}

fn ended(end: &Completion) -> String {
    let Completion { session, statement, rows, bytes, masked_cells, total_us, .. } = end;
    let error = match end.error_code {
        0 => String::new(),
        code => format!(" error {code}"),
    };
    let held = match end.hold_us {
        0 => String::new(),
        us => format!(" held {} ms", us / 1_000),
    };
    format!(
        "{}  {session}#{statement}  done      {rows} rows, {bytes} bytes, {masked_cells} cells masked, {total_us} µs{held}{error}",
        time(end.at_us)
    )
}
