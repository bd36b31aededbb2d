//! `/v1/tokens`: made, listed, revoked. The token itself is in one answer and nowhere else.

use axum::extract::{Path, State};
use axum::{Extension, Json, body::Bytes};

use super::ControlDeps;
use super::error::ErrorAnswer;
use super::operate::parsed;
use super::peer::Caller;
use super::reply::{NewTokenRequest, TokenAnswer, TokenInfo, TokenList};
use crate::identity::{NewToken, TokenRecord, UserName};
use crate::secret::Secret;
use crate::store::{Store, StoreError, StoredToken};

/// Groups of one token: each is a Cedar parent at every decision.
const MAX_GROUPS: usize = 64;
/// Longest name of a group, as an identity's: user names of 96 bytes and more are refused at login.
const MAX_NAME_BYTES: usize = 95;

/// A token that was made and stored.
#[derive(Debug)]
pub struct Issued {
    /// To show once.
    pub secret: Secret,
    /// What is kept.
    pub info: TokenInfo,
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum TokenRefused {
    /// A name that could never log in.
    #[error(
        "identity {0:?} can't be a user name: 1 to {MAX_NAME_BYTES} bytes, without `;` or control characters"
    )]
    Identity(String),
    /// A name that policy could not speak of.
    #[error("group {0:?}: 1 to {MAX_NAME_BYTES} bytes, without control characters")]
    Group(String),
    /// Too many.
    #[error("more than {MAX_GROUPS} groups")]
    TooManyGroups,
    /// It would end before it begins, or after the end of time.
    #[error("the expiry must be at least a second and at most 100 years away")]
    Expiry,
    /// The system has no randomness to give.
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl From<TokenRefused> for ErrorAnswer {
    fn from(refused: TokenRefused) -> Self {
        match refused {
            TokenRefused::Store(error) => Self::from(error),
            TokenRefused::NoRandomness => Self::unavailable(&refused.to_string()),
            _ => Self::bad_request(&refused.to_string()),
        }
    }
}

/// Makes a token and stores its verifiers. Also what `rowgate token create` does where no gateway runs.
pub async fn issue(
    store: &Store,
    request: &NewTokenRequest,
    by: &str,
    now_us: i64,
) -> Result<Issued, TokenRefused> {
    check(request)?;
    let expires_us = request.expires_s.map(|after| expiry(after, now_us)).transpose()?;
    let token = NewToken::generate().ok_or(TokenRefused::NoRandomness)?;
    let mut groups = request.groups.clone();
    groups.sort();
    groups.dedup();
    let stored = StoredToken {
        record: TokenRecord {
            id: token.id,
            identity: request.identity.clone(),
            kind: request.kind,
            groups,
            verifier: token.verifier,
            expires_us,
            revoked: false,
        },
        created_us: now_us,
        created_by: by.to_owned(),
        revoked_us: None,
    };
    store.insert_token(&stored).await?;
    Ok(Issued { secret: token.secret, info: TokenInfo::from(stored) })
}

fn check(request: &NewTokenRequest) -> Result<(), TokenRefused> {
    let parsed = UserName::parse(&request.identity);
    let is_plain = parsed.is_some_and(|name| name.identity == request.identity);
    if !is_plain || !is_name(&request.identity) {
        return Err(TokenRefused::Identity(request.identity.clone()));
    }
    if request.groups.len() > MAX_GROUPS {
        return Err(TokenRefused::TooManyGroups);
    }
    match request.groups.iter().find(|group| !is_name(group)) {
        Some(bad) => Err(TokenRefused::Group(bad.clone())),
        None => Ok(()),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.chars().any(char::is_control)
}

fn expiry(after_s: u64, now_us: i64) -> Result<i64, TokenRefused> {
    const CENTURY_S: u64 = 100 * 366 * 24 * 3_600;
    if after_s == 0 || after_s > CENTURY_S {
        return Err(TokenRefused::Expiry);
    }
    let after_us = i64::try_from(after_s * 1_000_000).map_err(|_| TokenRefused::Expiry)?;
    Ok(now_us.saturating_add(after_us))
}

impl From<StoredToken> for TokenInfo {
    fn from(stored: StoredToken) -> Self {
        let record = stored.record;
        Self {
            id: record.id,
            identity: record.identity,
            kind: record.kind,
            groups: record.groups,
            created_us: stored.created_us,
            created_by: stored.created_by,
            expires_us: record.expires_us,
            revoked_us: stored.revoked_us,
        }
    }
}

pub(super) async fn list(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<TokenList>, ErrorAnswer> {
    caller.must_be_admin()?;
    let tokens = deps.store.tokens().await?.into_iter().map(TokenInfo::from).collect();
    Ok(Json(TokenList { tokens }))
}

pub(super) async fn create(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Json<TokenAnswer>, ErrorAnswer> {
    caller.must_be_admin()?;
    let request: NewTokenRequest = parsed(body)?;
    check(&request)?;
    deps.record(&caller, "token.create", &request.identity)?;
    let now_us = jiff::Timestamp::now().as_microsecond();
    let issued = issue(&deps.store, &request, &caller.identity, now_us).await?;
    deps.gateway.tokens_changed().await;
    let token = String::from_utf8_lossy(issued.secret.expose()).into_owned();
    Ok(Json(TokenAnswer { token, info: issued.info }))
}

pub(super) async fn revoke(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<TokenInfo>, ErrorAnswer> {
    caller.must_be_admin()?;
    deps.record(&caller, "token.revoke", &id)?;
    let revoked = deps.store.revoke_token(&id, jiff::Timestamp::now().as_microsecond()).await?;
    let tokens = deps.store.tokens().await?;
    if revoked {
        deps.gateway.tokens_changed().await;
    }
    match tokens.into_iter().find(|token| token.record.id == id) {
        None => Err(ErrorAnswer::not_found("there is no such token")),
        Some(_) if !revoked => Err(ErrorAnswer::conflict("the token is revoked already")),
        Some(token) => Ok(Json(TokenInfo::from(token))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PrincipalKind;

    fn request(identity: &str, groups: &[&str], expires_s: Option<u64>) -> NewTokenRequest {
        NewTokenRequest {
            identity: identity.into(),
            kind: PrincipalKind::Agent,
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            expires_s,
        }
    }

    #[test]
    fn names_that_could_not_log_in_are_refused() {
        for good in ["bot", "ann+x@example.org", "spiffe://a/b", "é"] {
            assert!(check(&request(good, &["agents"], None)).is_ok(), "{good}");
        }
        for bad in ["", "a;run=1", "a;", "tab\there", &"x".repeat(96), &"x".repeat(200)] {
            assert!(check(&request(bad, &[], None)).is_err(), "{bad}");
        }
        assert!(check(&request("bot", &[""], None)).is_err());
        assert!(check(&request("bot", &["x"; MAX_GROUPS + 1], None)).is_err());
    }

    #[test]
    fn expiries() {
        assert_eq!(expiry(1, 5).unwrap(), 1_000_005);
        assert!(expiry(0, 5).is_err());
        assert!(expiry(u64::MAX, 5).is_err());
    }
}
