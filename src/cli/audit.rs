//! `rowgate audit`: the record, read from its folder; no gateway need run.

use std::time::Duration;

use super::args::{AuditVerb, Output};
use super::output::{say, time, visible};
use super::progress::during;
use super::{CliError, Context};
use crate::audit::read;
use crate::record::{Record, Recorded};

/// How often `--follow` looks for more.
const FOLLOW: Duration = Duration::from_millis(500);

/// Gigabytes take a while.
const READING: &str = "reading the record";

pub(super) fn run(context: &Context, verb: &AuditVerb) -> Result<(), CliError> {
    let dir = context.settings()?.audit.dir;
    let failed = |error: read::VerifyError| CliError::failed(error.to_string());
    match verb {
        AuditVerb::Verify { chain } => {
            let held = chain.as_deref().map(held).transpose()?;
            let report = during(READING, || read::verify(&dir, held)).map_err(failed)?;
            context.one(&report, &verified(&report))
        }
        AuditVerb::Show { session } => {
            let mut found = Vec::new();
            let of_session = |record: &Record| record.event.session() == Some(*session);
            let keep = |record| {
                if of_session(&record) {
                    found.push(record);
                }
            };
            during(READING, || read::each(&dir, keep)).map_err(failed)?;
            if found.is_empty() {
                return Err(CliError::failed(format!("no record of session {session}")));
            }
            print(context, &found)
        }
        AuditVerb::Replay(args) => super::replay::run(context, &dir, args),
        AuditVerb::Tail { n, follow } => {
            let mut report = during(READING, || read::tail(&dir, *n)).map_err(failed)?;
            print(context, &report)?;
            let mut seen = read::count(&dir).map_err(failed)?;
            if !follow {
                return Ok(());
            }
            loop {
                std::thread::sleep(FOLLOW);
                let now = read::count(&dir).map_err(failed)?;
                let fresh = usize::try_from(now.saturating_sub(seen)).unwrap_or(usize::MAX);
                if fresh > 0 {
                    report = read::tail(&dir, fresh).map_err(failed)?;
                    print(context, &report)?;
                }
                seen = now;
            }
        }
    }
}

fn held(chain: &str) -> Result<[u8; 32], CliError> {
    let mend = "write the 64 hex digits that `audit verify` printed";
    read::chain_of(chain).ok_or_else(|| CliError::input(format!("--chain: {chain:?}: {mend}")))
}

fn verified(report: &read::Report) -> String {
    let (records, segments, chain) = (report.records, report.segments, &report.chain);
    let mut text = format!("{records} records in {segments} segments hold together; chain {chain}");
    if report.torn_bytes > 0 {
        text.push_str(&format!(
            "\n{} bytes at the end are no whole record: one that is being written, or a crash's; the next start cuts them",
            report.torn_bytes
        ));
    }
    text
}

/// A line a record: JSON lines, or a form for reading.
fn print(context: &Context, records: &[Record]) -> Result<(), CliError> {
    for record in records {
        match context.output {
            Output::Json => {
                let line = serde_json::to_string(record)
                    .map_err(|error| CliError::failed(format!("a record: {error}")))?;
                say(&line)?;
            }
            Output::Table => say(&visible(&described(&record.event)))?,
        }
    }
    Ok(())
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
        Recorded::Approval { at_us, approval, change, by, reason } => {
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
