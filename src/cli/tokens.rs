//! `rowgate token …`. Where no gateway runs, tokens are made straight in its store, so that the first one can be.

use std::path::Path;

use super::admin::{Admin, CallError, block_on, segment};
use super::args::{Kind, NewToken, Output, TokenVerb};
use super::output::{time_or, visible};
use super::{CliError, Context};
use crate::control::{
    NewTokenRequest, ReasonRequest, TokenAnswer, TokenInfo, TokenList, TokenRefused, issue,
};
use crate::identity::PrincipalKind;
use crate::store::{Store, StoreError};

/// Who made a token that no gateway vouches for.
const OFFLINE: &str = "offline";

pub(super) fn run(context: &Context, verb: TokenVerb) -> Result<(), CliError> {
    match verb {
        TokenVerb::Create(token) => create(context, token),
        TokenVerb::List => list(context),
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
    };
    let answer = match Admin::at(socket).post("/v1/tokens", &request) {
        Err(CallError::NoGateway(_)) => {
            let path = context.settings()?.store.path;
            block_on(offline(&path, &request)).inspect(|_| tell_offline(&path))
        }
        other => other.map_err(CliError::from),
    }?;
    if context.output == Output::Table {
        let info = &answer.info;
        eprintln!(
            "{} for {} ({}), groups {}, expires {}; shown this once:",
            info.id,
            visible(&info.identity),
            info.kind.as_str(),
            visible(&or_none(&info.groups)),
            time_or(info.expires_us, "never")
        );
    }
    context.one(&answer, &answer.token)
}

async fn offline(path: &Path, request: &NewTokenRequest) -> Result<TokenAnswer, CliError> {
    let store = open(path).await?;
    let now_us = jiff::Timestamp::now().as_microsecond();
    let issued = issue(&store, request, OFFLINE, now_us).await.map_err(|error| match error {
        TokenRefused::Store(error) => failed(&error),
        TokenRefused::NoRandomness => CliError::failed(error.to_string()),
        _ => CliError::input(error.to_string()),
    })?;
    store.close().await;
    let token = String::from_utf8_lossy(issued.secret.expose()).into_owned();
    Ok(TokenAnswer { token, info: issued.info })
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
    let header = ["ID", "IDENTITY", "KIND", "GROUPS", "CREATED", "BY", "EXPIRES", "REVOKED"];
    let rows = list.tokens.iter().map(|token| {
        [
            token.id.clone(),
            token.identity.clone(),
            token.kind.as_str().to_owned(),
            or_none(&token.groups),
            time_or(Some(token.created_us), ""),
            token.created_by.clone(),
            time_or(token.expires_us, "never"),
            time_or(token.revoked_us, "-"),
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
    let now_us = jiff::Timestamp::now().as_microsecond();
    let revoked = store.revoke_token(id, now_us).await.map_err(|error| failed(&error))?;
    let tokens = store.tokens().await.map_err(|error| failed(&error))?;
    store.close().await;
    match tokens.into_iter().find(|token| token.record.id == id) {
        Some(token) if revoked => Ok(TokenInfo::from(token)),
        Some(_) => Err(CliError::failed("the token is revoked already")),
        None => Err(CliError::failed("there is no such token")),
    }
}

async fn open(path: &Path) -> Result<Store, CliError> {
    Store::open(path).await.map_err(|error| failed(&error))
}

fn failed(error: &StoreError) -> CliError {
    CliError::failed(format!("store.path: {error}"))
}

fn tell_offline(path: &Path) {
    eprintln!("rowgate: no gateway answers; written to {} for its next start", path.display());
}

fn or_none(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(",") }
}
