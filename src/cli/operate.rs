//! `rowgate status`, `sessions` and `reload`.

use super::admin::Admin;
use super::args::SessionVerb;
use super::output::{Sheet, time};
use super::{CliError, Context};
use crate::control::{ReasonRequest, ReloadAnswer, SessionList, Status};

pub(super) fn status(context: &Context) -> Result<(), CliError> {
    let status: Status = Admin::of(context)?.read("/v1/status")?;
    context.one(&status, &described(&status))
}

pub(super) fn sessions(context: &Context, verb: SessionVerb) -> Result<(), CliError> {
    let admin = Admin::of(context)?;
    match verb {
        SessionVerb::List => {
            let list: SessionList = admin.read("/v1/sessions")?;
            let header =
                ["ID", "IDENTITY", "TARGET", "SOURCE", "STATE", "VERB", "SINCE", "STATEMENTS"];
            let rows = list.sessions.iter().map(|session| {
                [
                    session.id.to_string(),
                    session.identity.clone(),
                    session.target.clone(),
                    session.source.clone(),
                    session.state.clone(),
                    session.verb.clone(),
                    time(session.since_us),
                    session.statements.to_string(),
                ]
            });
            context.list(&list, header, rows)
        }
        SessionVerb::Kill { id } => {
            let path = format!("/v1/sessions/{id}/kill");
            let killed: serde_json::Value = admin.post(&path, &ReasonRequest::default())?;
            context.one(&killed, &format!("session {id} is told to end"))
        }
    }
}

pub(super) fn reload(context: &Context) -> Result<(), CliError> {
    let answer: ReloadAnswer = Admin::of(context)?.post("/v1/reload", &ReasonRequest::default())?;
    let mut text = format!("policy {} is live", answer.policy_version);
    if !answer.needs_restart.is_empty() {
        let waits = answer.needs_restart.join(", ");
        text.push_str(&format!("; changes of {waits} take effect at a restart"));
    }
    context.one(&answer, &text)
}

fn described(status: &Status) -> String {
    let mut sheet = Sheet::default();
    let mut line = |name: &str, value: &str| sheet.line(name, value);
    line("ready", status.not_ready.as_deref().map_or("yes", |_| "no"));
    if let Some(why) = &status.not_ready {
        line("", why);
    }
    line("version", &status.version);
    line("started", &time(status.started_us));
    line("driver", &format!("{}, {} workers", status.driver, status.workers));
    line("policy", &status.policy_version);
    if let Some(error) = &status.reload_error {
        line("", &format!("the last reload failed: {error}"));
    }
    if !status.needs_restart.is_empty() {
        let waits = status.needs_restart.join(", ");
        line("", &format!("changes of {waits} take effect at a restart"));
    }
    line("sessions", &status.sessions.to_string());
    let audit = &status.audit;
    let state = if audit.ok { "ok" } else { "failing" };
    let queued = audit.queued_bytes;
    line(
        "audit",
        &format!("{state}, {}, {queued} bytes queued {}", audit.durability, audit.detail),
    );
    for target in &status.targets {
        let state = if target.up { "up" } else { "down" };
        let (listen, address) = (&target.listen, &target.address);
        line("target", &format!("{} {state}, {listen} → {address} {}", target.name, target.detail));
    }
    sheet.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{AuditStatus, TargetStatus};

    #[test]
    fn a_status_says_what_is_wrong() {
        let status = Status {
            version: "0.1.0".into(),
            driver: "epoll".into(),
            workers: 2,
            policy_version: "abc".into(),
            reload_error: Some("a.cedar: line 1".into()),
            not_ready: Some("target shop is down".into()),
            targets: vec![TargetStatus {
                name: "shop".into(),
                listen: "127.0.0.1:3306".into(),
                address: "db:3306".into(),
                up: false,
                detail: "connection refused".into(),
            }],
            audit: AuditStatus { durability: "sync".into(), ..AuditStatus::default() },
            ..Status::default()
        };
        insta::assert_snapshot!(described(&status), @"
        ready        no
                     target shop is down
        version      0.1.0
        started      1970-01-01 00:00:00Z
        driver       epoll, 2 workers
        policy       abc
                     the last reload failed: a.cedar: line 1
        sessions     0
        audit        failing, sync, 0 bytes queued
        target       shop down, 127.0.0.1:3306 → db:3306 connection refused
        ");
    }
}
