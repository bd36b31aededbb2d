//! `/v1/tokens`: made, listed, replaced, revoked. The token itself is in one answer and nowhere else.

use axum::extract::{Path, State};
use axum::{Extension, Json, body::Bytes};

use super::ControlDeps;
use super::error::ErrorAnswer;
use super::operate::parsed;
use super::peer::Caller;
use super::reply::{NewTokenRequest, RotateRequest, TokenAnswer, TokenInfo, TokenList};
use crate::clock::now_us;
use crate::identity::{
    MAX_LIVE_TOKENS, MAX_NAME, NewToken, Scope, TokenRecord, is_identity, is_name, sorted,
};
use crate::secret::Secret;
use crate::store::{Ending, Store, StoreError, StoredToken};

/// Groups of one token: each is a Cedar parent at every decision.
const MAX_GROUPS: usize = 64;
/// Targets and networks of one token: each is looked at by every login with it.
pub(super) const MAX_SCOPE: usize = 64;
/// How long a replaced token is good, unless it is said: its holders take over the new one meanwhile.
const OVERLAP_S: u64 = 3_600;

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
        "identity {0:?} can't be a user name: 1 to {MAX_NAME} bytes, without `;` or control characters"
    )]
    Identity(String),
    /// A name that policy could not speak of.
    #[error("group {0:?}: 1 to {MAX_NAME} bytes, without control characters")]
    Group(String),
    /// Too many.
    #[error("more than {MAX_GROUPS} groups")]
    TooManyGroups,
    /// A scope of names that no target has, or of very many.
    #[error(
        "a scope lists at most {MAX_SCOPE} targets and {MAX_SCOPE} networks, without empty names"
    )]
    Scope,
    /// Logins try no more.
    #[error("{0:?} has {MAX_LIVE_TOKENS} live tokens, and no login tries more; revoke one first")]
    TooManyTokens(String),
    /// Nothing to replace.
    #[error("there is no such token")]
    Unknown,
    /// It lets nobody in any more.
    #[error("the token was revoked, or has expired; create a new one")]
    Ended,
    /// There is a token in its place.
    #[error("the token was rotated already: {0} is in its place")]
    Replaced(String),
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
            TokenRefused::Unknown => Self::not_found(&refused.to_string()),
            TokenRefused::Ended | TokenRefused::Replaced(_) | TokenRefused::TooManyTokens(_) => {
                Self::conflict(&refused.to_string())
            }
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
    may_have_another(&store.tokens().await?, &request.identity, now_us)?;
    let token = NewToken::generate().ok_or(TokenRefused::NoRandomness)?;
    let scope =
        Scope { targets: sorted(request.targets.clone()), networks: request.networks.clone() };
    let record = TokenRecord {
        id: token.id,
        identity: request.identity.clone(),
        kind: request.kind,
        groups: sorted(request.groups.clone()),
        scope,
        verifier: token.verifier,
        expires_us,
        revoked: false,
    };
    let stored = new(record, by, now_us);
    store.insert_token(&stored).await?;
    Ok(Issued { secret: token.secret, info: TokenInfo::from(stored) })
}

/// Makes a token in the place of another, which is good for `overlap_s` longer: for the same identity, groups and scope,
/// and for as long as that one was made for. Also what `rowgate token rotate` does where no gateway runs.
pub async fn rotate(
    store: &Store,
    id: &str,
    request: &RotateRequest,
    by: &str,
    now_us: i64,
) -> Result<Issued, TokenRefused> {
    let ending = match request.overlap_s.unwrap_or(OVERLAP_S) {
        0 => Ending::At(now_us),
        overlap_s => Ending::By(expiry(overlap_s, now_us)?),
    };
    let tokens = store.tokens().await?;
    let old = tokens.iter().find(|token| token.record.id == id).ok_or(TokenRefused::Unknown)?;
    let record = &old.record;
    if let Some(new) = &old.replaced_by {
        return Err(TokenRefused::Replaced(new.clone()));
    }
    if !is_live(record, now_us) {
        return Err(TokenRefused::Ended);
    }
    // The old one counts for as long as both are good.
    let stay =
        tokens.iter().filter(|token| matches!(ending, Ending::By(_)) || token.record.id != id);
    may_have_another(stay, &record.identity, now_us)?;
    let lifetime_us = record.expires_us.map(|end| end.saturating_sub(old.created_us));
    let token = NewToken::generate().ok_or(TokenRefused::NoRandomness)?;
    let record = TokenRecord {
        id: token.id,
        verifier: token.verifier,
        expires_us: lifetime_us.map(|lifetime| now_us.saturating_add(lifetime)),
        ..record.clone()
    };
    let stored = new(record, by, now_us);
    if !store.replace_token(id, &stored, ending, now_us).await? {
        return Err(TokenRefused::Ended); // meanwhile, by someone else
    }
    Ok(Issued { secret: token.secret, info: TokenInfo::from(stored) })
}

/// A token that nobody has used yet.
fn new(record: TokenRecord, by: &str, now_us: i64) -> StoredToken {
    StoredToken {
        record,
        created_us: now_us,
        created_by: by.to_owned(),
        revoked_us: None,
        used_us: None,
        used_from: None,
        replaced_by: None,
    }
}

fn may_have_another<'t>(
    tokens: impl IntoIterator<Item = &'t StoredToken>,
    identity: &str,
    now_us: i64,
) -> Result<(), TokenRefused> {
    let records = tokens.into_iter().map(|token| &token.record);
    let live = records.filter(|record| record.identity == identity && is_live(record, now_us));
    if live.count() < MAX_LIVE_TOKENS {
        Ok(())
    } else {
        Err(TokenRefused::TooManyTokens(identity.to_owned()))
    }
}

/// Whether it lets anyone in, now.
pub(super) fn is_live(record: &TokenRecord, now_us: i64) -> bool {
    !record.revoked && record.expires_us.is_none_or(|end| end > now_us)
}

fn check(request: &NewTokenRequest) -> Result<(), TokenRefused> {
    if !is_identity(&request.identity) {
        return Err(TokenRefused::Identity(request.identity.clone()));
    }
    if request.groups.len() > MAX_GROUPS {
        return Err(TokenRefused::TooManyGroups);
    }
    if let Some(bad) = request.groups.iter().find(|group| !is_name(group)) {
        return Err(TokenRefused::Group(bad.clone()));
    }
    let (targets, networks) = (&request.targets, &request.networks);
    if targets.len() > MAX_SCOPE
        || networks.len() > MAX_SCOPE
        || !targets.iter().all(|t| is_name(t))
    {
        return Err(TokenRefused::Scope);
    }
    Ok(())
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
            targets: record.scope.targets,
            networks: record.scope.networks,
            created_us: stored.created_us,
            created_by: stored.created_by,
            expires_us: record.expires_us,
            revoked_us: stored.revoked_us,
            used_us: stored.used_us,
            used_from: stored.used_from,
            replaced_by: stored.replaced_by,
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
    create_by(&deps, &caller, &parsed(body)?).await.map(Json)
}

/// Makes the token that a caller who may asks for.
pub(super) async fn create_by(
    deps: &ControlDeps,
    caller: &Caller,
    request: &NewTokenRequest,
) -> Result<TokenAnswer, ErrorAnswer> {
    check(request)?;
    // A misspelt name would make a token that opens nothing, or a target of a later day.
    let known = deps.gateway.status().targets;
    if let Some(bad) = request.targets.iter().find(|t| known.iter().all(|known| known.name != **t))
    {
        return Err(ErrorAnswer::bad_request(&format!("there is no target {bad:?}")));
    }
    deps.record(caller, "token.create", &request.identity)?;
    let now_us = now_us();
    Ok(shown(deps, issue(&deps.store, request, &caller.identity, now_us).await?).await)
}

/// A new token's only showing. (Whether it counts already or in a moment.)
async fn shown(deps: &ControlDeps, issued: Issued) -> TokenAnswer {
    let _ = deps.gateway.tokens_changed().await;
    let token = String::from_utf8_lossy(issued.secret.expose()).into_owned();
    TokenAnswer { token, info: issued.info }
}

pub(super) async fn rotated(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Json<TokenAnswer>, ErrorAnswer> {
    caller.must_be_admin()?;
    rotate_by(&deps, &caller, &id, &parsed(body)?).await.map(Json)
}

/// Makes the token in the place of another that a caller who may asks for.
pub(super) async fn rotate_by(
    deps: &ControlDeps,
    caller: &Caller,
    id: &str,
    request: &RotateRequest,
) -> Result<TokenAnswer, ErrorAnswer> {
    deps.record(caller, "token.rotate", id)?;
    let now_us = now_us();
    Ok(shown(deps, rotate(&deps.store, id, request, &caller.identity, now_us).await?).await)
}

pub(super) async fn revoke(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<TokenInfo>, ErrorAnswer> {
    caller.must_be_admin()?;
    revoke_by(&deps, &caller, &id).await.map(Json)
}

/// Revokes the token that a caller who may names.
pub(super) async fn revoke_by(
    deps: &ControlDeps,
    caller: &Caller,
    id: &str,
) -> Result<TokenInfo, ErrorAnswer> {
    deps.record(caller, "token.revoke", id)?;
    let revoked = deps.store.revoke_token(id, now_us()).await?;
    let tokens = deps.store.tokens().await?;
    if revoked {
        deps.logins_changed().await?;
    }
    match tokens.into_iter().find(|token| token.record.id == id) {
        None => Err(ErrorAnswer::not_found("there is no such token")),
        Some(_) if !revoked => Err(ErrorAnswer::conflict("the token is revoked already")),
        Some(token) => Ok(TokenInfo::from(token)),
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
            targets: Vec::new(),
            networks: Vec::new(),
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
