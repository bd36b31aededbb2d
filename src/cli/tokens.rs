//! `rowgate token …`. Where no gateway runs, tokens are made straight in its store, so that the first one can be.

use std::path::Path;

use super::admin::{Admin, CallError, block_on, segment};
use super::args::{Kind, NewToken, Output, TokenVerb};
use super::output::{time, time_or, visible};
use super::{CliError, Context};
use crate::clock::now_us;
use crate::control::{
    Issued, NewTokenRequest, ReasonRequest, RotateRequest, TokenAnswer, TokenInfo, TokenList,
    TokenRefused, issue, rotate,
};
use crate::identity::PrincipalKind;
use crate::store::{Store, StoreError};

/// Who made a token that no gateway vouches for.
pub(super) const OFFLINE: &str = "offline";

pub(super) fn run(context: &Context, verb: TokenVerb) -> Result<(), CliError> {
    match verb {
        TokenVerb::Create(token) => create(context, token),
        TokenVerb::List => list(context),
        TokenVerb::Rotate { id, overlap } => replace(context, &id, overlap),
        TokenVerb::Revoke { id } => revoke(context, &id),
    }
}

fn create(context: &Context, token: NewToken) -> Result<(), CliError> {
    let socket = context.socket()?;
    let request = NewTokenRequest {
        identity: token.identity,
        kind: match token.kind {
            Kind::Agent => PrincipalKind::Agent,
            Kind::Human => PrincipalKind::Human,
            Kind::Service => PrincipalKind::Service,
        },
        groups: token.groups,
        expires_s: token.expires,
        targets: token.targets,
        networks: token.networks,
    };
    let answer = match Admin::at(socket).post("/v1/tokens", &request) {
        Err(CallError::NoGateway(_)) => {
            let settings = context.settings()?;
            let known = |name: &String| settings.targets.iter().any(|target| target.name == *name);
            if let Some(bad) = request.targets.iter().find(|name| !known(name)) {
                return Err(CliError::input(format!("there is no target {bad:?}")));
            }
            let path = settings.store.path;
            block_on(offline(&path, &request)).inspect(|_| tell_offline(&path))
        }
        other => other.map_err(CliError::from),
    }?;
    show(context, &answer)
}

/// The token on standard output, so that it can be piped; what it is for beside it.
fn show(context: &Context, answer: &TokenAnswer) -> Result<(), CliError> {
    if context.output == Output::Table {
        let info = &answer.info;
        eprintln!(
            "{} for {} ({}), groups {}, scope {}, expires {}; shown this once:",
            info.id,
            visible(&info.identity),
            info.kind.as_str(),
            visible(&or_none(&info.groups)),
            visible(&scope(info)),
            time_or(info.expires_us, "never")
        );
    }
    context.one(answer, &answer.token)
}

fn replace(context: &Context, id: &str, overlap_s: u64) -> Result<(), CliError> {
    let socket = context.socket()?;
    let request = RotateRequest { overlap_s: Some(overlap_s) };
    let path = format!("/v1/tokens/{}/rotate", segment(id)?);
    let answer = match Admin::at(socket).post(&path, &request) {
        Err(CallError::NoGateway(_)) => {
            let path = context.settings()?.store.path;
            block_on(replace_offline(&path, id, &request)).inspect(|_| tell_offline(&path))
        }
        other => other.map_err(CliError::from),
    }?;
    show(context, &answer)
}

async fn replace_offline(
    path: &Path,
    id: &str,
    request: &RotateRequest,
) -> Result<TokenAnswer, CliError> {
    let store = open(path).await?;
    let now_us = now_us();
    let issued = rotate(&store, id, request, OFFLINE, now_us).await;
    store.close().await;
    issued.map(answered).map_err(refused)
}

async fn offline(path: &Path, request: &NewTokenRequest) -> Result<TokenAnswer, CliError> {
    let store = open(path).await?;
    let now_us = now_us();
    let issued = issue(&store, request, OFFLINE, now_us).await;
    store.close().await;
    issued.map(answered).map_err(refused)
}

fn answered(issued: Issued) -> TokenAnswer {
    let token = String::from_utf8_lossy(issued.secret.expose()).into_owned();
    TokenAnswer { token, info: issued.info }
}

fn refused(refused: TokenRefused) -> CliError {
    match refused {
        TokenRefused::Store(error) => failed(&error),
        TokenRefused::NoRandomness
        | TokenRefused::Unknown
        | TokenRefused::Ended
        | TokenRefused::Replaced(_)
        | TokenRefused::TooManyTokens(_) => CliError::failed(refused.to_string()),
        _ => CliError::input(refused.to_string()),
    }
}

fn list(context: &Context) -> Result<(), CliError> {
    let socket = context.socket()?;
    let list = match Admin::at(socket).read::<TokenList>("/v1/tokens") {
        Err(CallError::NoGateway(_)) => block_on(async {
            let path = context.settings()?.store.path;
            let tokens = open(&path).await?.tokens().await.map_err(|e| failed(&e))?;
            Ok(TokenList { tokens: tokens.into_iter().map(TokenInfo::from).collect() })
        }),
        other => other.map_err(CliError::from),
    }?;
    let header = [
        "ID", "IDENTITY", "KIND", "GROUPS", "SCOPE", "CREATED", "BY", "EXPIRES", "REVOKED",
        "LAST USE",
    ];
    let rows = list.tokens.iter().map(|token| {
        [
            token.id.clone(),
            token.identity.clone(),
            token.kind.as_str().to_owned(),
            or_none(&token.groups),
            scope(token),
            time_or(Some(token.created_us), ""),
            token.created_by.clone(),
            time_or(token.expires_us, "never"),
            time_or(token.revoked_us, "-"),
            used(token),
        ]
    });
    context.list(&list, header, rows)
}

fn revoke(context: &Context, id: &str) -> Result<(), CliError> {
    let socket = context.socket()?;
    let path = format!("/v1/tokens/{}/revoke", segment(id)?);
    let answer = Admin::at(socket).post(&path, &ReasonRequest::default());
    let info: TokenInfo = match answer {
        Err(CallError::NoGateway(_)) => {
            let path = context.settings()?.store.path;
            block_on(revoke_offline(&path, id)).inspect(|_| tell_offline(&path))
        }
        other => other.map_err(CliError::from),
    }?;
    context.one(&info, &format!("{} of {} is revoked", info.id, visible(&info.identity)))
}

async fn revoke_offline(path: &Path, id: &str) -> Result<TokenInfo, CliError> {
    let store = open(path).await?;
    let now_us = now_us();
    let revoked = store.revoke_token(id, now_us).await.map_err(|error| failed(&error))?;
    let tokens = store.tokens().await.map_err(|error| failed(&error))?;
    store.close().await;
    match tokens.into_iter().find(|token| token.record.id == id) {
        Some(token) if revoked => Ok(TokenInfo::from(token)),
        Some(_) => Err(CliError::failed("the token is revoked already")),
        None => Err(CliError::failed("there is no such token")),
    }
}

pub(super) async fn open(path: &Path) -> Result<Store, CliError> {
    Store::open(path).await.map_err(|error| failed(&error))
}

pub(super) fn failed(error: &StoreError) -> CliError {
    CliError::failed(format!("store.path: {error}"))
}

pub(super) fn tell_offline(path: &Path) {
    eprintln!("rowgate: no gateway answers; written to {} for its next start", path.display());
}

/// Where it is good.
fn scope(token: &TokenInfo) -> String {
    let networks = token.networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    match (token.targets.join(","), networks) {
        (targets, from) if targets.is_empty() && from.is_empty() => "all".to_owned(),
        (targets, from) if from.is_empty() => targets,
        (targets, from) if targets.is_empty() => format!("from {from}"),
        (targets, from) => format!("{targets} from {from}"),
    }
}

/// When and from where it was used.
fn used(token: &TokenInfo) -> String {
    match (token.used_us, &token.used_from) {
        (Some(at_us), Some(from)) => format!("{} from {from}", time(at_us)),
        _ => "never".to_owned(),
    }
}

fn or_none(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(",") }
}
