//! `rowgate audit`: the record, read from its folder; no gateway need run.

pub(super) mod args;
mod prune;
mod replay;
mod shown;
mod times;
mod verify;

use std::time::Duration;

use super::progress::during;
use super::{CliError, Context};
use crate::audit::read::{Folder, ReadError};
use crate::audit::search::{Entry, Filter};
use crate::gateway::{public_key, record_of};
use args::{AuditVerb, SearchArgs};
use shown::{print, print_entries};

/// How often `--follow` looks for more.
const FOLLOW: Duration = Duration::from_millis(500);

/// Gigabytes take a while.
const READING: &str = "reading the record";

#[allow(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
fn failed(error: ReadError) -> CliError {
    CliError::failed(error.to_string())
}

/// The configuration's record, with what opens it.
fn folder(context: &Context) -> Result<Folder, CliError> {
    record_of(&context.settings()?).map_err(CliError::input)
}

pub(super) fn run(context: &Context, verb: &AuditVerb) -> Result<(), CliError> {
    match verb {
        AuditVerb::Verify { keys, chain, signed } => {
            verify::verify(context, keys, chain.as_deref(), *signed)
        }
        AuditVerb::Key => {
            let key = public_key(&context.settings()?).map_err(CliError::input)?;
            context.one(&serde_json::json!({ "public_key": key }), &key.to_string())
        }
        AuditVerb::Show { of } => show(context, *of),
        AuditVerb::Replay(args) => replay::run(context, args),
        AuditVerb::Search(search) => find(context, search),
        AuditVerb::Hold(verb) => prune::hold(context, verb),
        AuditVerb::Prune { dry_run, keys } => {
            let keys = keys.iter().map(|key| verify::known(key)).collect::<Result<_, _>>()?;
            prune::prune(context, *dry_run, keys)
        }
        AuditVerb::Index { rebuild } => index(context, *rebuild),
        AuditVerb::Tail { n, follow } => tail(context, *n, *follow),
    }
}

fn show(context: &Context, (session, statement): (u64, Option<u64>)) -> Result<(), CliError> {
    let folder = folder(context)?;
    let entries = during(READING, || folder.session(session, statement)).map_err(failed)?;
    if entries.is_empty() {
        let what = statement.map_or(String::new(), |number| format!("statement {number} of "));
        return Err(CliError::failed(format!("no record of {what}session {session}")));
    }
    print_entries(context, &entries)
}

fn find(context: &Context, search: &SearchArgs) -> Result<(), CliError> {
    if let (Some(since), Some(until)) = (search.since, search.until)
        && since >= until
    {
        return Err(CliError::input("--until: not behind --since, so that nothing can fit"));
    }
    let filter = Filter {
        identity: search.identity.clone(),
        target: search.target.clone(),
        table: search.table.clone(),
        verb: search.verb.clone(),
        digest: search.digest.clone(),
        verdict: search.verdict.clone(),
        rule: search.rule.clone(),
        run: search.run.clone(),
        session: search.session,
        since_us: search.since,
        until_us: search.until,
        error: search.error,
    };
    let folder = folder(context)?;
    let page = during(READING, || folder.search(&filter, None, search.limit)).map_err(failed)?;
    let more = page.next.is_some();
    let entries: Vec<Entry> = page.statements.into_iter().map(Entry::Statement).collect();
    print_entries(context, &entries)?;
    if more {
        eprintln!(
            "… these are the last {}; there may be more before them: --limit, or --until",
            search.limit
        );
    }
    Ok(())
}

fn index(context: &Context, rebuild: bool) -> Result<(), CliError> {
    let folder = folder(context)?;
    let (made, kept) = during(READING, || folder.index(rebuild)).map_err(failed)?;
    let text = format!("{made} indexes made, {kept} were there");
    context.one(&serde_json::json!({ "made": made, "kept": kept }), &text)
}

fn tail(context: &Context, n: usize, follow: bool) -> Result<(), CliError> {
    let folder = folder(context)?;
    let (last, mut records) = during(READING, || folder.tail(n)).map_err(failed)?;
    print(context, &last)?;
    if !follow {
        return Ok(());
    }
    loop {
        std::thread::sleep(FOLLOW);
        for found in &mut records {
            print(context, &[found.map_err(failed)?])?;
        }
    }
}
