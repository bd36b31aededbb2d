//! Records as people read them, a line each; or as JSON lines.

use crate::audit::read::Found;
use crate::audit::search::{Entry, Statement};
use crate::cli::args::Output;
use crate::cli::output::{say, time, visible};
use crate::cli::{CliError, Context};
use crate::record::Recorded;

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
        Recorded::Intent { .. } | Recorded::Completion { .. } => of_statement(event),
        Recorded::SessionOpened {
            session,
            at_us,
            identity,
            groups,
            target,
            source,
            attributes,
        } => {
            let attributes: Vec<String> =
                attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!(
                "{}  {session}  opened    {identity} [{}] on {target} from {source} {}",
                time(*at_us),
                groups.join(","),
                attributes.join(" ")
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

fn of_statement(event: &Recorded) -> String {
    match event {
        Recorded::Intent {
            session,
            statement,
            at_us,
            identity,
            verdict,
            text,
            rules,
            masked,
            attribute_count,
            attributes,
            ..
        } => {
            let mut line =
                format!("{}  {session}#{statement}  {verdict:8}  {identity}: {text}", time(*at_us));
            if !rules.is_empty() {
                line.push_str(&format!("  rules: {}", rules.join(", ")));
            }
            if !masked.is_empty() {
                let masked: Vec<String> = masked.iter().map(ToString::to_string).collect();
                line.push_str(&format!("  masked: {}", masked.join("; ")));
            }
            if *attribute_count > 0 || !attributes.is_empty() {
                let known: Vec<String> =
                    attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
                line.push_str(&format!("  attributes: {attribute_count} {}", known.join(" ")));
            }
            line
        }
        Recorded::Completion {
            session,
            statement,
            at_us,
            rows,
            bytes,
            masked_cells,
            error_code,
            hold_us,
            total_us,
            ..
        } => {
            let error =
                if *error_code == 0 { String::new() } else { format!(" error {error_code}") };
            let held =
                if *hold_us == 0 { String::new() } else { format!(" held {} ms", hold_us / 1_000) };
            format!(
                "{}  {session}#{statement}  done      {rows} rows, {bytes} bytes, {masked_cells} cells masked, {} µs{held}{error}",
                time(*at_us),
                total_us
            )
        }
        _ => String::new(),
    }
}
