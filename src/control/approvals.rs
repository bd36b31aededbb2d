//! `/v1/approvals`: to see and to decide. A caller sees the requests that it made or may decide; administrators see all.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::{Extension, body::Bytes};

use super::ControlDeps;
use super::error::ErrorAnswer;
use super::operate::parsed;
use super::peer::Caller;
use super::reply::{ApprovalList, ReasonRequest, ShownApproval};
use crate::approval::Approver;
use crate::store::{Approval, ApprovalState, Details, StoreError};

/// The most requests in one list: as many as may be pending by default, and a bound on the answer.
const MAX_LISTED: u32 = 1_000;
/// A list shows the start of long statements, and no details; `show` has all of it.
const LISTED_STATEMENT_CHARS: usize = 400;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    state: Option<ApprovalState>,
    limit: Option<u32>,
}

pub(super) async fn list(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    filter: Result<Query<Filter>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<ApprovalList>, ErrorAnswer> {
    let Query(filter) = filter.map_err(|error| ErrorAnswer::bad_request(&error.body_text()))?;
    let limit = filter.limit.unwrap_or(MAX_LISTED).min(MAX_LISTED);
    let mut approvals = deps.store.approvals(filter.state, limit).await?;
    approvals.retain(|approval| may_see(&deps, &caller, approval));
    for approval in &mut approvals {
        shorten(&mut approval.statement);
        approval.details = Details::default();
    }
    Ok(Json(ApprovalList { approvals }))
}

pub(super) async fn show(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<ShownApproval>, ErrorAnswer> {
    let approval = visible(&deps, &caller, &id).await?;
    Ok(Json(shown(&deps, approval).await?))
}

/// The request with what its approver should know besides.
pub(super) async fn shown(
    deps: &ControlDeps,
    approval: Approval,
) -> Result<ShownApproval, StoreError> {
    let past = deps.store.decided_like(&approval).await?;
    let outlook = deps.desk.outlook(&approval).await;
    Ok(ShownApproval { approval, outlook, past })
}

pub(super) async fn approve(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Json<Approval>, ErrorAnswer> {
    vote(&deps, caller, &id, true, body).await
}

pub(super) async fn deny(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Json<Approval>, ErrorAnswer> {
    vote(&deps, caller, &id, false, body).await
}

/// Lets a request through at once, by one person alone.
pub(super) async fn break_glass(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Json<Approval>, ErrorAnswer> {
    let reason: ReasonRequest = parsed(body)?;
    let approver = decider(&deps, caller, &id).await?;
    Ok(Json(deps.desk.break_glass(&id, &approver, &reason.reason).await?))
}

/// Calls a request or an unused grant off: its requester and administrators may.
pub(super) async fn cancel(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Json<Approval>, ErrorAnswer> {
    let reason: ReasonRequest = parsed(body)?;
    let approval = visible(&deps, &caller, &id).await?;
    if approval.identity != caller.identity {
        caller.must_be_admin()?;
        deps.record(&caller, "approval.cancel", &id)?;
    }
    Ok(Json(deps.desk.cancel(&id, &caller.identity, &reason.reason).await?))
}

async fn vote(
    deps: &ControlDeps,
    caller: Caller,
    id: &str,
    approve: bool,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Json<Approval>, ErrorAnswer> {
    let reason: ReasonRequest = parsed(body)?;
    let approver = decider(deps, caller, id).await?;
    Ok(Json(deps.desk.vote(id, &approver, approve, &reason.reason).await?))
}

/// Who decides a request that they may see.
async fn decider(deps: &ControlDeps, caller: Caller, id: &str) -> Result<Approver, ErrorAnswer> {
    if caller.break_glass {
        return Err(ErrorAnswer::forbidden(
            "unmapped root decides nothing: every decision has a person's name; map the user id with [[admin.peers]]",
        ));
    }
    visible(deps, &caller, id).await?;
    Ok(Approver { identity: caller.identity, groups: caller.groups })
}

/// The request, if this caller may know of it. To others it isn't there.
async fn visible(deps: &ControlDeps, caller: &Caller, id: &str) -> Result<Approval, ErrorAnswer> {
    let found = deps.store.approval(id).await?.filter(|approval| may_see(deps, caller, approval));
    found.ok_or_else(|| ErrorAnswer::not_found("there is no such approval request"))
}

fn may_see(deps: &ControlDeps, caller: &Caller, approval: &Approval) -> bool {
    let mut groups = approval.approver_groups.iter().chain(deps.desk.break_glass_groups());
    caller.is_admin()
        || caller.identity == approval.identity
        || groups.any(|group| caller.is_in(group))
}

pub(super) fn shorten(statement: &mut String) {
    if let Some((end, _)) = statement.char_indices().nth(LISTED_STATEMENT_CHARS) {
        statement.truncate(end);
        statement.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_statements_are_cut_at_a_character() {
        let mut long = "é".repeat(LISTED_STATEMENT_CHARS + 1);
        shorten(&mut long);
        assert_eq!(long.chars().count(), LISTED_STATEMENT_CHARS + 1);
        assert!(long.ends_with('…'));
        let mut short = "é".repeat(LISTED_STATEMENT_CHARS);
        shorten(&mut short);
        assert!(!short.ends_with('…'));
    }
}
