//! `rowgate approvals watch`: requests as they come and change, a line each, until Ctrl-C.
//!
//! It asks the gateway every two seconds: people decide in minutes, and a script that waits for a line loses nothing.

use std::collections::HashMap;
use std::time::Duration;

use super::admin::{Admin, CallError, block_on};
use super::args::Output;
use super::output::{say, shortened, time, visible};
use super::{CliError, Context};
use crate::control::ApprovalList;
use crate::store::{Approval, ApprovalState};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(2);

pub(super) fn run(context: &Context) -> Result<(), CliError> {
    let admin = Admin::of(context)?;
    let mut watch = Watch { open: open(&admin)?, is_away: false };
    end_on_interrupt()?;
    for approval in oldest_first(watch.open.values()) {
        print(context, approval)?;
    }
    loop {
        std::thread::sleep(PAUSE);
        for approval in watch.look(&admin)? {
            print(context, &approval)?;
        }
    }
}

/// What is known.
struct Watch {
    /// The requests that may still change.
    open: HashMap<String, Approval>,
    /// The gateway did not answer last time.
    is_away: bool,
}

impl Watch {
    /// What is new or has changed since the last look. A gateway that is being restarted is waited for.
    fn look(&mut self, admin: &Admin) -> Result<Vec<Approval>, CliError> {
        let now = match open(admin) {
            Err(CallError::NoGateway(socket)) => {
                if !std::mem::replace(&mut self.is_away, true) {
                    let text = format!("{}: no gateway answers; still trying", socket.display());
                    tell(&text);
                }
                return Ok(Vec::new());
            }
            answer => answer?,
        };
        self.is_away = false;
        let mut changed: Vec<Approval> = Vec::new();
        for (id, known) in &self.open {
            if !now.contains_key(id) {
                // It has ended; or it is gone from the store, or from this caller's sight.
                match admin.read::<Approval>(&format!("/v1/approvals/{id}")) {
                    Ok(ended) if differs(known, &ended) => changed.push(ended),
                    Ok(_) | Err(CallError::Cli(CliError::Failed(_)) | CallError::NoGateway(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let is_news =
            |one: &&Approval| self.open.get(&one.id).is_none_or(|known| differs(known, one));
        changed.extend(now.values().filter(is_news).cloned());
        self.open = now;
        Ok(oldest_first(changed.iter()).cloned().collect())
    }
}

fn differs(a: &Approval, b: &Approval) -> bool {
    (a.state, a.mode, a.votes.len()) != (b.state, b.mode, b.votes.len())
}

fn oldest_first<'a>(all: impl Iterator<Item = &'a Approval>) -> impl Iterator<Item = &'a Approval> {
    let mut all: Vec<_> = all.collect();
    all.sort_by(|a, b| (a.created_us, &a.id).cmp(&(b.created_us, &b.id)));
    all.into_iter()
}

/// The requests that may still change.
fn open(admin: &Admin) -> Result<HashMap<String, Approval>, CallError> {
    let mut all = HashMap::new();
    for state in [ApprovalState::Pending, ApprovalState::Approved] {
        let list: ApprovalList = admin.read(&format!("/v1/approvals?state={}", state.as_str()))?;
        all.extend(list.approvals.into_iter().map(|approval| (approval.id.clone(), approval)));
    }
    Ok(all)
}

fn print(context: &Context, approval: &Approval) -> Result<(), CliError> {
    if context.output == Output::Json {
        let line = serde_json::to_string(approval)
            .map_err(|error| CliError::failed(format!("the answer can't be printed: {error}")))?;
        return say(&line);
    }
    let last = approval.votes.last();
    let by = last.map(|vote| format!(" by {}", vote.by)).unwrap_or_default();
    say(&visible(&format!(
        "{}  {}  {}{by}  {} on {}  {}: {}",
        time(last.map_or(approval.created_us, |vote| vote.at_us)),
        approval.id,
        approval.state.as_str(),
        approval.identity,
        approval.target,
        approval.rule,
        shortened(&approval.statement),
    )))
}

/// For whoever looks on: what is printed is for programs.
fn tell(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Ctrl-C is how this ends, and no failure; a line that is being printed is printed whole.
fn end_on_interrupt() -> Result<(), CliError> {
    let wait = || {
        let interrupted: Result<(), CliError> = block_on(async {
            tokio::signal::ctrl_c().await.map_err(|error| CliError::failed(error.to_string()))
        });
        if interrupted.is_ok() {
            let _whole = std::io::stdout().lock();
            std::process::exit(0);
        }
    };
    let started = std::thread::Builder::new().name("interrupt".to_owned()).spawn(wait);
    started.map(drop).map_err(|error| CliError::failed(format!("starting a thread: {error}")))
}
