//! `/v1/status`, `/v1/sessions`, `/v1/reload` and the like: to see and to run the gateway.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde::de::DeserializeOwned;

use super::ControlDeps;
use super::error::ErrorAnswer;
use super::peer::Caller;
use super::reply::{AuditStatus, ReloadAnswer, SessionList, Status, VersionList};

/// Policy versions in one answer: some months of changes.
const LISTED_VERSIONS: u32 = 100;

/// What the API is, for programs: `docs/openapi.json`, held to the routes and to what they answer by `tests/openapi.rs`.
pub(super) const OPENAPI: &str = include_str!("../../docs/openapi.json");

pub(super) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

pub(super) async fn status(State(deps): State<ControlDeps>) -> Json<Status> {
    Json(deps.gateway.status())
}

pub(super) async fn audit(State(deps): State<ControlDeps>) -> Json<AuditStatus> {
    Json(deps.gateway.status().audit)
}

pub(super) async fn policy_versions(
    State(deps): State<ControlDeps>,
) -> Result<Json<VersionList>, ErrorAnswer> {
    let versions = deps.store.policy_versions(LISTED_VERSIONS).await?;
    Ok(Json(VersionList { versions }))
}

pub(super) async fn reload(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<ReloadAnswer>, ErrorAnswer> {
    caller.must_be_admin()?;
    deps.record(&caller, "reload", "")?;
    match deps.gateway.reload(&caller.identity).await {
        Ok(policy_version) => {
            let needs_restart = deps.gateway.status().needs_restart;
            Ok(Json(ReloadAnswer { policy_version, needs_restart }))
        }
        Err(why) => Err(ErrorAnswer::conflict(&why)),
    }
}

pub(super) async fn sessions(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<SessionList>, ErrorAnswer> {
    caller.must_be_admin()?;
    Ok(Json(SessionList { sessions: deps.gateway.sessions() }))
}

pub(super) async fn kill(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<serde_json::Value>, ErrorAnswer> {
    caller.must_be_admin()?;
    let session: u64 =
        id.parse().map_err(|_| ErrorAnswer::bad_request("a session's id is a number"))?;
    kill_by(&deps, &caller, session)?;
    Ok(Json(serde_json::json!({ "killed": session })))
}

/// Ends the session that a caller who may names.
pub(super) fn kill_by(
    deps: &ControlDeps,
    caller: &Caller,
    session: u64,
) -> Result<(), ErrorAnswer> {
    deps.record(caller, "session.kill", &session.to_string())?;
    if deps.gateway.kill(session) {
        Ok(())
    } else {
        Err(ErrorAnswer::not_found("there is no such session"))
    }
}

/// The words of a form's field, with commas between them.
pub(super) fn listed(text: &str) -> Vec<String> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// A request's body. An empty one counts as an empty object, so that `POST …/approve` needs none.
pub(super) fn parsed<T: DeserializeOwned>(
    body: Result<Bytes, BytesRejection>,
) -> Result<T, ErrorAnswer> {
    let body = body.map_err(|_| ErrorAnswer::too_large())?;
    let body: &[u8] = if body.is_empty() { b"{}" } else { &body };
    serde_json::from_slice(body).map_err(|error| ErrorAnswer::bad_request(&error.to_string()))
}
