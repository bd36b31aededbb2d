//! `/v1/identities`: listed, revoked, restored.

use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::{Extension, Json, body::Bytes};

use super::ControlDeps;
use super::error::ErrorAnswer;
use super::operate::parsed;
use super::peer::Caller;
use super::reply::{IdentityInfo, IdentityList, IdentityRequest};
use super::tokens::is_live;
use crate::clock::now_us;
use crate::identity::is_identity;
use crate::store::{RevokedIdentity, Store, StoreError};

/// Longest reason that is kept.
const MAX_REASON_BYTES: usize = 1_024;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum IdentityRefused {
    /// Nobody could log in by it.
    #[error("identity {0:?} can't be a user name")]
    Name(String),
    /// Too long.
    #[error("the reason is longer than {MAX_REASON_BYTES} bytes")]
    Reason,
    /// It may not log in as it is.
    #[error("the identity is revoked already")]
    Revoked,
    /// It may log in as it is.
    #[error("the identity is not revoked")]
    NotRevoked,
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl From<IdentityRefused> for ErrorAnswer {
    fn from(refused: IdentityRefused) -> Self {
        let text = refused.to_string();
        match refused {
            IdentityRefused::Store(error) => Self::from(error),
            IdentityRefused::Revoked | IdentityRefused::NotRevoked => Self::conflict(&text),
            IdentityRefused::Name(_) | IdentityRefused::Reason => Self::bad_request(&text),
        }
    }
}

/// The identities that have tokens, and those that were revoked. (Whom an issuer or a certificate names is known to those
/// who let them in.) Also what `rowgate identity list` does where no gateway runs.
pub async fn identities(store: &Store, now_us: i64) -> Result<IdentityList, StoreError> {
    let mut all = std::collections::BTreeMap::<String, IdentityInfo>::new();
    let named =
        |identity: &str| IdentityInfo { identity: identity.to_owned(), ..Default::default() };
    for token in store.tokens().await? {
        let identity = token.record.identity.clone();
        let info = all.entry(identity).or_insert_with_key(|identity| named(identity));
        info.live_tokens += usize::from(is_live(&token.record, now_us));
    }
    for revoked in store.revoked_identities().await? {
        let info = all.entry(revoked.identity).or_insert_with_key(|identity| named(identity));
        info.revoked_us = Some(revoked.revoked_us);
        info.revoked_by = Some(revoked.revoked_by);
        info.reason = Some(revoked.reason);
    }
    Ok(IdentityList { identities: all.into_values().collect() })
}

/// Revokes an identity: nobody logs in under its name any more, by a token, an issuer's or a certificate.
pub async fn revoke_identity(
    store: &Store,
    request: &IdentityRequest,
    by: &str,
    now_us: i64,
) -> Result<(), IdentityRefused> {
    check(request)?;
    let revoked = RevokedIdentity {
        identity: request.identity.clone(),
        revoked_us: now_us,
        revoked_by: by.to_owned(),
        reason: request.reason.clone(),
    };
    let is_new = store.revoke_identity(&revoked).await?;
    if is_new { Ok(()) } else { Err(IdentityRefused::Revoked) }
}

/// Lets a revoked identity log in again.
pub async fn restore_identity(
    store: &Store,
    request: &IdentityRequest,
) -> Result<(), IdentityRefused> {
    let was_revoked = store.restore_identity(&request.identity).await?;
    if was_revoked { Ok(()) } else { Err(IdentityRefused::NotRevoked) }
}

fn check(request: &IdentityRequest) -> Result<(), IdentityRefused> {
    if !is_identity(&request.identity) {
        return Err(IdentityRefused::Name(request.identity.clone()));
    }
    if request.reason.len() > MAX_REASON_BYTES {
        return Err(IdentityRefused::Reason);
    }
    Ok(())
}

/// What is recorded of a change: whom, and why where that was said.
fn subject(request: &IdentityRequest) -> String {
    match request.reason.as_str() {
        "" => request.identity.clone(),
        reason => format!("{}: {reason}", request.identity),
    }
}

pub(super) async fn list(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<IdentityList>, ErrorAnswer> {
    caller.must_be_admin()?;
    let now_us = now_us();
    Ok(Json(identities(&deps.store, now_us).await?))
}

pub(super) async fn revoke(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<serde_json::Value>, ErrorAnswer> {
    caller.must_be_admin()?;
    let request: IdentityRequest = parsed(body)?;
    revoke_by(&deps, &caller, &request).await?;
    Ok(Json(serde_json::json!({ "revoked": request.identity })))
}

pub(super) async fn restore(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<serde_json::Value>, ErrorAnswer> {
    caller.must_be_admin()?;
    let request: IdentityRequest = parsed(body)?;
    restore_by(&deps, &caller, &request).await?;
    Ok(Json(serde_json::json!({ "restored": request.identity })))
}

/// Revokes the identity that a caller who may names.
pub(super) async fn revoke_by(
    deps: &ControlDeps,
    caller: &Caller,
    request: &IdentityRequest,
) -> Result<(), ErrorAnswer> {
    check(request)?;
    deps.record(caller, "identity.revoke", &subject(request))?;
    let now_us = now_us();
    revoke_identity(&deps.store, request, &caller.identity, now_us).await?;
    deps.logins_changed().await
}

/// Restores the identity that a caller who may names.
pub(super) async fn restore_by(
    deps: &ControlDeps,
    caller: &Caller,
    request: &IdentityRequest,
) -> Result<(), ErrorAnswer> {
    check(request)?;
    deps.record(caller, "identity.restore", &subject(request))?;
    restore_identity(&deps.store, request).await?;
    deps.logins_changed().await
}
