//! `rowgate audit prune` and `hold`: what goes, and what must not. Both work on the folder, beside a gateway that runs.

use super::args::HoldVerb;
use super::{READING, folder};
use crate::audit::holds::Hold;
use crate::audit::prune::Order;
use crate::audit::{Pruned, keys::PublicKey};
use crate::cli::output::{time, time_or};
use crate::cli::progress::during;
use crate::cli::{CliError, Context};
use crate::clock::now_us;
use crate::gateway::signing_key;

/// Who does it: the Unix user.
fn by() -> String {
    let uid = rustix::process::getuid();
    format!("user id {}", uid.as_raw())
}

pub(super) fn prune(
    context: &Context,
    dry: bool,
    mut known: Vec<PublicKey>,
) -> Result<(), CliError> {
    let config = context.settings()?;
    if config.audit.retention.is_empty() {
        return Err(CliError::input(
            "audit.retention: nothing says how long records are kept, so all are; add [[audit.retention]] with keep_days",
        ));
    }
    let signing = signing_key(&config).map_err(CliError::input)?;
    known.push(signing.public());
    let folder = folder(context)?;
    let (rules, by) = (&config.audit.retention, by());
    let order = Order { by: &by, now_us: now_us(), dry };
    let pruned = during(READING, || folder.prune(rules, (&signing, &known), &order));
    let pruned = pruned.map_err(|error| CliError::failed(error.to_string()))?;
    let row = |range: &Pruned| {
        [
            format!("{}-{}", range.first, range.last),
            range.records.to_string(),
            time(range.from_us),
            time(range.to_us),
        ]
    };
    context.list(&pruned, ["SEGMENTS", "RECORDS", "FROM", "TO"], pruned.iter().map(row))
}

pub(super) fn hold(context: &Context, verb: &HoldVerb) -> Result<(), CliError> {
    let folder = folder(context)?;
    let failed = |error: crate::audit::holds::HoldError| CliError::failed(error.to_string());
    match verb {
        HoldVerb::Add { identity, session, until, reason } => {
            if until.is_some_and(|until| until <= now_us()) {
                return Err(CliError::input("--until: in the past, so that it would hold nothing"));
            }
            let hold = Hold {
                id: 0,
                identity: identity.clone(),
                session: *session,
                until_us: *until,
                reason: reason.clone(),
                by: by(),
                at_us: 0,
                lifted: None,
            };
            let hold = folder.hold(hold).map_err(failed)?;
            context.one(&hold, &format!("hold {} is in force", hold.id))
        }
        HoldVerb::List => {
            let holds = folder.holds().map_err(failed)?;
            let rows = holds.iter().map(row);
            context.list(&holds, ["ID", "IDENTITY", "SESSION", "UNTIL", "STATE", "REASON"], rows)
        }
        HoldVerb::Remove { id } => {
            let hold = folder.lift(*id, &by()).map_err(failed)?;
            context.one(&hold, &format!("hold {} is lifted", hold.id))
        }
    }
}

fn row(hold: &Hold) -> [String; 6] {
    let any = || "any".to_owned();
    let state = match &hold.lifted {
        Some((by, at)) => format!("lifted {} by {by}", time(*at)),
        None if hold.is_in_force(now_us()) => "in force".to_owned(),
        None => "ended".to_owned(),
    };
    [
        hold.id.to_string(),
        hold.identity.clone().unwrap_or_else(any),
        hold.session.map_or_else(any, |session| session.to_string()),
        time_or(hold.until_us, "removed"),
        state,
        hold.reason.clone(),
    ]
}
