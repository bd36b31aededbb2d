//! Session passwords: made for a person who has signed in, listed, revoked. The password itself is in one answer and
//! nowhere else.
//!
//! Whose it is and in which groups says the sign-in, and nothing in a request. The person may make it good for less: for a
//! shorter time, for some targets, from some networks. A seventeenth is refused and no other one ended for it: the
//! sessions of that one would end in the middle of a statement, and nobody would know why.

use std::collections::BTreeMap;

use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json, body::Bytes};

use super::ControlDeps;
use super::error::ErrorAnswer;
use super::operate::parsed;
use super::peer::Caller;
use super::tokens::MAX_SCOPE;
use crate::clock::now_us;
use crate::config;
use crate::identity::{
    MAX_LIVE_PASSWORDS, NewToken, PasswordRecord, Principal, PrincipalKind, Scope, Verifier,
    is_identity, is_name, sorted,
};
use crate::network::Network;
use crate::store::{Bounds, PasswordKept, StoredPassword};

/// All that are kept: each is read again whenever who may log in has changed.
const MAX_IN_ALL: usize = 20_000;
/// Longest name that its owner gives it.
const MAX_LABEL: usize = 64;

/// What a person asks for: `POST /v1/passwords`, a page's form, or a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PasswordRequest {
    /// The targets that it is for; none: all.
    pub targets: Vec<String>,
    /// The networks from which it is accepted; none: all, and Unix sockets.
    pub networks: Vec<Network>,
    /// Seconds until it ends; none: as the configuration says.
    pub ttl_s: Option<u64>,
    /// What it is for, in its owner's words.
    pub label: String,
}

/// A new session password: the only time that it is shown. Its `Debug` leaves the password out.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PasswordAnswer {
    /// What its owner gives a driver as the password; the user name is the identity.
    pub password: String,
    /// What is kept of it.
    #[serde(flatten)]
    pub info: PasswordInfo,
    /// Where the targets that it opens listen.
    #[serde(default)]
    pub reach: Vec<Reach>,
}

impl std::fmt::Debug for PasswordAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordAnswer").field("info", &self.info).finish_non_exhaustive()
    }
}

/// A target, and where clients connect.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reach {
    /// Its name.
    pub target: String,
    /// Addresses and paths, with a comma between.
    pub listen: String,
}

/// A session password without its secret or its verifiers.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PasswordInfo {
    /// Its public id.
    pub id: String,
    /// Whose.
    pub identity: String,
    /// What kind of principal.
    pub kind: PrincipalKind,
    /// The groups that the sign-in conferred.
    pub groups: Vec<String>,
    /// What each login with it carries.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// The targets that it is for; none: all.
    pub targets: Vec<String>,
    /// The networks from which it is accepted; none: all, and Unix sockets.
    pub networks: Vec<Network>,
    /// What it is for, in its owner's words.
    pub label: String,
    /// Microseconds since the epoch.
    pub created_us: i64,
    /// Microseconds since the epoch.
    pub expires_us: i64,
    /// Microseconds since the epoch.
    pub revoked_us: Option<i64>,
    /// Microseconds since the epoch, of its last login; a few seconds late.
    pub used_us: Option<i64>,
    /// From where that was: an address, or `localhost` for a Unix socket.
    pub used_from: Option<String>,
}

impl PasswordInfo {
    /// Whether it lets anyone in, now.
    pub fn is_live(&self, now_us: i64) -> bool {
        self.revoked_us.is_none() && self.expires_us > now_us
    }
}

/// `GET /v1/passwords`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PasswordList {
    /// Oldest first; those that ended lately included.
    pub passwords: Vec<PasswordInfo>,
}

/// How long passwords live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordRules {
    default_s: u64,
    max_s: u64,
}

impl From<&config::Passwords> for PasswordRules {
    fn from(config: &config::Passwords) -> Self {
        Self { default_s: config.ttl_s, max_s: config.max_ttl_s }
    }
}

/// Makes a session password for whom a sign-in has found, and stores its verifiers. What the principal may do in the
/// gateway is what the sign-in said of it at this moment, until the password ends.
pub async fn mint(
    deps: &ControlDeps,
    principal: &Principal,
    request: &PasswordRequest,
) -> Result<PasswordAnswer, ErrorAnswer> {
    check(deps, principal, request)?;
    let revoked = deps.store.revoked_identities().await?;
    if revoked.iter().any(|one| one.identity == principal.subject) {
        return Err(ErrorAnswer::forbidden("this identity is revoked; ask who runs the gateway"));
    }
    let token = NewToken::for_session()
        .ok_or_else(|| ErrorAnswer::unavailable("the system gives no random bytes"))?;
    let now_us = now_us();
    let stored = made(deps, principal, request, (token.id, token.verifier), now_us);
    let what = format!("{} {}", stored.record.id, described(&stored));
    deps.record(&person(principal), "password.create", &what)?;
    let bounds = Bounds { of_one: MAX_LIVE_PASSWORDS, in_all: MAX_IN_ALL };
    match deps.store.insert_password(&stored, bounds, now_us).await? {
        PasswordKept::Yes => {}
        PasswordKept::TooManyOfOne => {
            let text = format!(
                "{} has {MAX_LIVE_PASSWORDS} live session passwords; revoke one first",
                principal.subject
            );
            return Err(ErrorAnswer::conflict(&text));
        }
        PasswordKept::TooManyInAll => {
            let text = "there are as many session passwords as there may be; try again later";
            return Err(ErrorAnswer::unavailable(text));
        }
    }
    // Whether it counts already or in a moment: it is shown this once.
    let _ = deps.gateway.tokens_changed().await;
    let password = String::from_utf8_lossy(token.secret.expose()).into_owned();
    let info = PasswordInfo::from(stored);
    let reach = reach(deps, &info.targets);
    Ok(PasswordAnswer { password, info, reach })
}

/// The session passwords of one identity.
pub async fn list(deps: &ControlDeps, identity: &str) -> Result<PasswordList, ErrorAnswer> {
    listed(deps, Some(identity)).await
}

/// Revokes a session password of this principal's own; its live sessions end. Another's is as one that is not there.
pub async fn revoke(
    deps: &ControlDeps,
    principal: &Principal,
    id: &str,
) -> Result<PasswordInfo, ErrorAnswer> {
    ended(deps, &person(principal), id, Some(&principal.subject)).await
}

/// Revokes the session password that this is. Whoever has it may end it.
pub async fn revoke_shown(deps: &ControlDeps, password: &str) -> Result<(), ErrorAnswer> {
    let verifier = Verifier::of(password.as_bytes());
    // (As RFC 7009 has it, one that is unknown or has ended is no error: it lets nobody in.)
    let Some(found) = deps.store.password_of(&verifier).await? else { return Ok(()) };
    let now_us = now_us();
    if found.record.revoked || found.record.expires_us <= now_us {
        return Ok(());
    }
    let owner = caller(&found.record.identity, &found.record.groups);
    ended(deps, &owner, &found.record.id, None).await.map(drop)
}

async fn listed(deps: &ControlDeps, of: Option<&str>) -> Result<PasswordList, ErrorAnswer> {
    let passwords = deps.store.passwords(of).await?.into_iter().map(PasswordInfo::from).collect();
    Ok(PasswordList { passwords })
}

async fn ended(
    deps: &ControlDeps,
    by: &Caller,
    id: &str,
    only_of: Option<&str>,
) -> Result<PasswordInfo, ErrorAnswer> {
    let unknown = || ErrorAnswer::not_found("there is no such session password");
    let found = deps.store.password(id).await?.ok_or_else(unknown)?;
    if only_of.is_some_and(|identity| identity != found.record.identity) {
        return Err(unknown());
    }
    deps.record(by, "password.revoke", &format!("{id} of {}", found.record.identity))?;
    let now_us = now_us();
    if !deps.store.revoke_password(id, now_us).await? {
        return Err(ErrorAnswer::conflict("the session password has ended already"));
    }
    deps.logins_changed().await?;
    Ok(PasswordInfo { revoked_us: Some(now_us), ..PasswordInfo::from(found) })
}

fn made(
    deps: &ControlDeps,
    principal: &Principal,
    request: &PasswordRequest,
    (id, verifier): (String, Verifier),
    now_us: i64,
) -> StoredPassword {
    let scope =
        Scope { targets: sorted(request.targets.clone()), networks: request.networks.clone() };
    let ttl_s = request.ttl_s.unwrap_or(deps.people.rules.default_s);
    let ttl_us = i64::try_from(ttl_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    StoredPassword {
        record: PasswordRecord {
            id,
            identity: principal.subject.clone(),
            kind: principal.kind,
            groups: principal.groups.clone(),
            attributes: principal.attributes.clone(),
            scope,
            verifier,
            expires_us: now_us.saturating_add(ttl_us),
            revoked: false,
        },
        label: request.label.clone(),
        created_us: now_us,
        revoked_us: None,
        used_us: None,
        used_from: None,
    }
}

/// What is asked for, before anybody is asked for it.
pub(super) fn check_request(
    deps: &ControlDeps,
    request: &PasswordRequest,
) -> Result<(), ErrorAnswer> {
    let bad = |text: &str| Err(ErrorAnswer::bad_request(text));
    let PasswordRequest { targets, networks, ttl_s, label } = request;
    if targets.len() > MAX_SCOPE || networks.len() > MAX_SCOPE {
        return bad(&format!(
            "a session password is for at most {MAX_SCOPE} targets and {MAX_SCOPE} networks"
        ));
    }
    let known = deps.gateway.status().targets;
    if let Some(name) = targets.iter().find(|name| known.iter().all(|one| one.name != **name)) {
        return bad(&format!("there is no target {name:?}"));
    }
    if label.len() > MAX_LABEL || label.chars().any(char::is_control) {
        return bad("a label has at most 64 bytes, without control characters");
    }
    let max_s = deps.people.rules.max_s;
    match ttl_s {
        Some(ttl_s) if *ttl_s == 0 || *ttl_s > max_s => {
            bad(&format!("a session password lives from a second to {max_s} s"))
        }
        _ => Ok(()),
    }
}

fn check(
    deps: &ControlDeps,
    principal: &Principal,
    request: &PasswordRequest,
) -> Result<(), ErrorAnswer> {
    check_request(deps, request)?;
    if !is_identity(&principal.subject) || !principal.groups.iter().all(|group| is_name(group)) {
        let text = "this name, or one of its groups, can't be one of a login";
        return Err(ErrorAnswer::forbidden(text));
    }
    Ok(())
}

/// Where the targets of these names listen; none are named: all of them.
fn reach(deps: &ControlDeps, names: &[String]) -> Vec<Reach> {
    let all = deps.gateway.status().targets.into_iter();
    let named = all.filter(|target| names.is_empty() || names.contains(&target.name));
    named.map(|target| Reach { target: target.name, listen: target.listen }).collect()
}

/// For the record: where it is good.
fn described(stored: &StoredPassword) -> String {
    let scope = &stored.record.scope;
    let targets = if scope.targets.is_empty() { "all".to_owned() } else { scope.targets.join(",") };
    let networks: Vec<_> = scope.networks.iter().map(ToString::to_string).collect();
    let from =
        if networks.is_empty() { String::new() } else { format!(" from {}", networks.join(",")) };
    format!("for {targets}{from}")
}

pub(super) fn person(principal: &Principal) -> Caller {
    caller(&principal.subject, &principal.groups)
}

fn caller(identity: &str, groups: &[String]) -> Caller {
    Caller { identity: identity.to_owned(), groups: groups.to_vec(), break_glass: false }
}

impl From<StoredPassword> for PasswordInfo {
    fn from(stored: StoredPassword) -> Self {
        let record = stored.record;
        Self {
            id: record.id,
            identity: record.identity,
            kind: record.kind,
            groups: record.groups,
            attributes: record.attributes,
            targets: record.scope.targets,
            networks: record.scope.networks,
            label: stored.label,
            created_us: stored.created_us,
            expires_us: record.expires_us,
            revoked_us: stored.revoked_us,
            used_us: stored.used_us,
            used_from: stored.used_from,
        }
    }
}

/// Whom a Unix user is as a person. Unmapped root is nobody in particular, and so has no password of its own.
pub(super) fn principal(caller: &Caller) -> Result<Principal, ErrorAnswer> {
    if caller.break_glass {
        let text = "root is nobody's name; map it with [[admin.peers]], or create a token";
        return Err(ErrorAnswer::forbidden(text));
    }
    Ok(Principal {
        subject: caller.identity.clone(),
        kind: PrincipalKind::Human,
        groups: sorted(caller.groups.clone()),
        attributes: BTreeMap::new(),
    })
}

/// `?all=true`: everyone's.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Which {
    all: bool,
}

pub(super) async fn list_own(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    which: axum::extract::Query<Which>,
) -> Result<Json<PasswordList>, ErrorAnswer> {
    if which.all {
        caller.must_be_admin()?;
    }
    let of = if which.all { None } else { Some(caller.identity.as_str()) };
    Ok(Json(listed(&deps, of).await?))
}

pub(super) async fn mint_own(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<PasswordAnswer>, ErrorAnswer> {
    let request: PasswordRequest = parsed(body)?;
    Ok(Json(mint(&deps, &principal(&caller)?, &request).await?))
}

pub(super) async fn revoke_one(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<PasswordInfo>, ErrorAnswer> {
    let own = caller.identity.clone();
    let only_of = if caller.is_admin() { None } else { Some(own.as_str()) };
    Ok(Json(ended(&deps, &caller, &id, only_of).await?))
}
