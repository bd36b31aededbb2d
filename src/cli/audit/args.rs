//! What can be typed behind `rowgate audit`: types only. The texts here are what `--help` shows.

use clap::{Args, Subcommand};

use super::replay::{REPLAY_EXAMPLES, ReplayArgs};
use super::times::time_us;
use crate::audit::search::Ending;

pub(in crate::cli) const AUDIT_EXAMPLES: &str = "\
Examples:
  rowgate audit tail -n 50
  rowgate audit tail --follow --output json
  rowgate audit search --identity support-bot --table customers --since 7d
  rowgate audit search --error any --since 2h --output json
  rowgate audit show 9223372039002259457                 a session
  rowgate audit show 9223372039002259457#12              its twelfth statement
  rowgate audit index                                    makes later searches quick
  rowgate audit prune --dry-run
  rowgate audit hold add --identity support-bot --reason 'case 4711'
  rowgate audit key
  rowgate audit verify
  rowgate audit verify --key ed25519:… --key /mnt/vault/old.pub
  rowgate audit verify --chain 6be6e06dbd204e36dd4cd1b26c13adb780accdfb7b56edf54ea54256921e9e36";

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum AuditVerb {
    /// The last records
    #[command(after_help = AUDIT_EXAMPLES)]
    Tail {
        /// How many
        #[arg(short, default_value_t = 20, value_name = "N")]
        n: usize,
        /// Go on with new ones as they come
        #[arg(long)]
        follow: bool,
    },
    /// The last statements that fit all that is said
    #[command(after_help = AUDIT_EXAMPLES)]
    Search(Box<SearchArgs>),
    /// All that is recorded of one session, or of one statement of it
    #[command(after_help = AUDIT_EXAMPLES)]
    Show {
        /// The session's id; for one statement, # and its number behind it
        #[arg(value_name = "SESSION[#STATEMENT]", value_parser = place)]
        of: (u64, Option<u64>),
    },
    /// Look back at a session: each statement, what its client saw, and what was masked in it and why
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(ReplayArgs),
    /// Check the chain over all segments and who signed it: finds an edit, a gap, and (with --chain) a cut end
    #[command(after_help = AUDIT_EXAMPLES)]
    Verify {
        /// A public key whose checkpoints are good, or the file it is in; may be given more than once; without this,
        /// the configuration's
        #[arg(long = "key", value_name = "KEY")]
        keys: Vec<String>,
        /// A chain value that an earlier verification printed: fails unless the record still leads to it
        #[arg(long, value_name = "VALUE")]
        chain: Option<String>,
        /// Fail where no checkpoint vouches for anything, as in a record that a Rowgate before checkpoints wrote
        #[arg(long)]
        signed: bool,
    },
    /// The public key that tells this gateway's checkpoints: keep it where the gateway can't write
    #[command(after_help = AUDIT_EXAMPLES)]
    Key,
    /// Legal holds: what is not pruned, whatever its retention says
    #[command(subcommand, after_help = AUDIT_EXAMPLES)]
    Hold(HoldVerb),
    /// Remove segments in which nothing is to be kept any longer (audit.retention), and leave a signed tombstone
    #[command(after_help = AUDIT_EXAMPLES)]
    Prune {
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
        /// A public key of before whose checkpoints are good, or the file it is in; may be given more than once
        #[arg(long = "key", value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Make the indexes that searches are quick by; a search makes those that are missing
    #[command(after_help = AUDIT_EXAMPLES)]
    Index {
        /// Make all of them anew, also those that are there
        #[arg(long)]
        rebuild: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum HoldVerb {
    /// Hold what an identity did, or one session, or (with neither) everything
    #[command(after_help = AUDIT_EXAMPLES)]
    Add {
        /// Whose
        #[arg(long, value_name = "NAME")]
        identity: Option<String>,
        /// Of which session
        #[arg(long, value_name = "ID")]
        session: Option<u64>,
        /// When the hold ends, such as 2027-11-29; without this, when it is removed
        #[arg(long, value_name = "TIME", value_parser = time_us)]
        until: Option<i64>,
        /// Why
        #[arg(long)]
        reason: String,
    },
    /// The holds, also those that ended
    #[command(after_help = AUDIT_EXAMPLES)]
    List,
    /// Lift a hold; it stays in the list, with who lifted it
    #[command(after_help = AUDIT_EXAMPLES)]
    Remove {
        /// Its number
        id: u64,
    },
}

#[derive(Args, Debug)]
pub(in crate::cli) struct SearchArgs {
    /// Who sent it
    #[arg(long, value_name = "NAME")]
    pub(super) identity: Option<String>,
    /// On which target
    #[arg(long, value_name = "NAME")]
    pub(super) target: Option<String>,
    /// A table that it touches, with its database or without
    #[arg(long, value_name = "[DATABASE.]TABLE")]
    pub(super) table: Option<String>,
    /// What it is, such as select or update
    #[arg(long)]
    pub(super) verb: Option<String>,
    /// Its shape, as `--output json` has it
    #[arg(long)]
    pub(super) digest: Option<String>,
    /// What was decided: allow, mask, deny or hold
    #[arg(long, value_parser = ["allow", "mask", "deny", "hold"])]
    pub(super) verdict: Option<String>,
    /// A rule that decided
    #[arg(long, value_name = "ID")]
    pub(super) rule: Option<String>,
    /// The run that its client, or its session's login, named
    #[arg(long, value_name = "ID")]
    pub(super) run: Option<String>,
    /// Its session
    #[arg(long, value_name = "ID")]
    pub(super) session: Option<u64>,
    /// Not before: a time such as 2026-11-29T08:00:00Z or 2026-11-29, or how long ago, such as 7d or 2h
    #[arg(long, value_name = "TIME", value_parser = time_us)]
    pub(super) since: Option<i64>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = time_us)]
    pub(super) until: Option<i64>,
    /// It ended with this error's number, or with any
    #[arg(long, value_name = "NUMBER|any", value_parser = ending)]
    pub(super) error: Option<Ending>,
    /// How many at the most
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = limit)]
    pub(super) limit: usize,
}

/// More would fill the memory.
const MAX_LIMIT: usize = 100_000;

fn limit(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MAX_LIMIT).contains(number));
    number.ok_or_else(|| format!("write a number from 1 to {MAX_LIMIT}"))
}

fn ending(text: &str) -> Result<Ending, String> {
    match text {
        "any" => Ok(Ending::Any),
        "0" => Err("0 is no error".to_owned()),
        _ => text
            .parse()
            .map(Ending::Code)
            .map_err(|_| "write an error's number, such as 1045, or any".to_owned()),
    }
}

fn place(text: &str) -> Result<(u64, Option<u64>), String> {
    let mend = "write a session's id, or that, # and a statement's number";
    let (session, statement) = match text.split_once('#') {
        Some((session, statement)) => (session, Some(statement)),
        None => (text, None),
    };
    let number = |text: &str| text.parse().map_err(|_| mend.to_owned());
    Ok((number(session)?, statement.map(number).transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_endings() {
        assert_eq!(place("7"), Ok((7, None)));
        assert_eq!(place("7#12"), Ok((7, Some(12))));
        for bad in ["", "#", "7#", "#1", "x", "7#x", "7#1#2", "-1"] {
            assert!(place(bad).is_err(), "{bad}");
        }
        assert_eq!(ending("1045"), Ok(Ending::Code(1045)));
        assert_eq!(ending("any"), Ok(Ending::Any));
        assert!(ending("0").is_err() && ending("x").is_err() && ending("70000").is_err());
        assert!(limit("0").is_err() && limit("100001").is_err() && limit("5") == Ok(5));
    }
}
