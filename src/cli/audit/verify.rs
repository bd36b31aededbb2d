//! `rowgate audit verify`: whether the record holds together, and whose signature is on it.

use super::{READING, failed, folder};
use crate::audit::keys::PublicKey;
use crate::audit::read::chain_of;
use crate::audit::verify::Report;
use crate::cli::output::time;
use crate::cli::progress::during;
use crate::cli::{CliError, Context};
use crate::gateway::public_key;

pub(super) fn verify(
    context: &Context,
    keys: &[String],
    chain: Option<&str>,
    signed: bool,
) -> Result<(), CliError> {
    let held = chain.map(held).transpose()?;
    let named = keys.iter().map(|key| known(key)).collect::<Result<Vec<_>, _>>()?;
    // A record of before has no signature, so that a missing key is told where one is met.
    let own = || public_key(&context.settings().ok()?).ok();
    let keys = if named.is_empty() { own().into_iter().collect() } else { named };
    let folder = folder(context)?;
    let report = during(READING, || folder.verify(&keys, held)).map_err(failed)?;
    if signed && report.last_checkpoint.is_none() {
        return Err(CliError::failed("no checkpoint vouches for anything in this record"));
    }
    context.one(&report, &verified(&report))
}

/// A public key, or the file that has it.
pub(super) fn known(text: &str) -> Result<PublicKey, CliError> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let wrong = |why: &dyn std::fmt::Display| {
        let mend = "write what `rowgate audit key` prints, or the path of a file that has it";
        CliError::input(format!("--key: {text:?}: {why}; {mend}"))
    };
    let there = std::fs::read_to_string(text).map_err(|error| wrong(&error))?;
    there.parse().map_err(|()| wrong(&"there is no public key in it"))
}

fn held(chain: &str) -> Result<[u8; 32], CliError> {
    let mend = "write the 64 hex digits that `audit verify` printed";
    chain_of(chain).ok_or_else(|| CliError::input(format!("--chain: {chain:?}: {mend}")))
}

fn verified(report: &Report) -> String {
    let (records, segments, chain) = (report.records, report.segments, &report.chain);
    let mut text = format!("{records} records in {segments} segments hold together; chain {chain}");
    let unsigned = report.unsigned_records;
    match &report.last_checkpoint {
        Some(last) => text.push_str(&format!(
            "\n{} checkpoints; the last of {} by {}, {unsigned} records behind it",
            report.checkpoints,
            time(last.at_us),
            last.key
        )),
        None => text.push_str("\nno checkpoint vouches for any of them"),
    }
    if !report.pruned.is_empty() {
        let segments: u64 = report.pruned.iter().map(|range| range.last - range.first + 1).sum();
        let records: u64 = report.pruned.iter().map(|range| range.records).sum();
        text.push_str(&format!("\n{records} records in {segments} segments were pruned before"));
    }
    if report.torn_bytes > 0 {
        text.push_str(&format!(
            "\n{} bytes at the end are no whole record: one that is being written, or a crash's; the next start cuts them",
            report.torn_bytes
        ));
    }
    text
}
