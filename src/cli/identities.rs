//! `rowgate identity …`. As with tokens, the store is written itself where no gateway runs.

mod explain;

use std::path::Path;

use super::admin::{Admin, CallError, block_on};
use super::args::IdentityVerb;
use super::output::{time_or, visible};
use super::tokens::{OFFLINE, failed, open, tell_offline};
use super::{CliError, Context};
use crate::clock::now_us;
use crate::control::{
    IdentityList, IdentityRefused, IdentityRequest, identities, restore_identity, revoke_identity,
};

pub(super) fn run(context: &Context, verb: IdentityVerb) -> Result<(), CliError> {
    match verb {
        IdentityVerb::List { revoked } => list(context, revoked),
        IdentityVerb::Revoke { name, reason } => {
            change(context, &IdentityRequest { identity: name, reason }, true)
        }
        IdentityVerb::Explain { token, user } => explain::run(context, token.as_deref(), user),
        IdentityVerb::Restore { name, reason } => {
            change(context, &IdentityRequest { identity: name, reason }, false)
        }
    }
}

fn list(context: &Context, revoked: bool) -> Result<(), CliError> {
    let socket = context.socket()?;
    let mut list = match Admin::at(socket).read::<IdentityList>("/v1/identities") {
        Err(CallError::NoGateway(_)) => block_on(async {
            let store = open(&context.settings()?.store.path).await?;
            identities(&store, now_us()).await.map_err(|error| failed(&error))
        }),
        other => other.map_err(CliError::from),
    }?;
    if revoked {
        list.identities.retain(|identity| identity.revoked_us.is_some());
    }
    let rows = list.identities.iter().map(|identity| {
        [
            identity.identity.clone(),
            identity.live_tokens.to_string(),
            time_or(identity.revoked_us, "-"),
            identity.revoked_by.clone().unwrap_or_default(),
            identity.reason.clone().unwrap_or_default(),
        ]
    });
    context.list(&list, ["IDENTITY", "TOKENS", "REVOKED", "BY", "REASON"], rows)
}

fn change(context: &Context, request: &IdentityRequest, revoke: bool) -> Result<(), CliError> {
    let socket = context.socket()?;
    let (path, done) = if revoke {
        ("/v1/identities/revoke", "revoked")
    } else {
        ("/v1/identities/restore", "restored")
    };
    let answer: serde_json::Value = match Admin::at(socket).post(path, request) {
        Err(CallError::NoGateway(_)) => {
            let path = context.settings()?.store.path;
            block_on(offline(&path, request, revoke)).inspect(|()| tell_offline(&path))?;
            Ok(serde_json::json!({ done: request.identity }))
        }
        other => other.map_err(CliError::from),
    }?;
    context.one(&answer, &format!("{} is {done}", visible(&request.identity)))
}

async fn offline(path: &Path, request: &IdentityRequest, revoke: bool) -> Result<(), CliError> {
    let store = open(path).await?;
    let changed = if revoke {
        revoke_identity(&store, request, OFFLINE, now_us()).await
    } else {
        restore_identity(&store, request).await
    };
    store.close().await;
    changed.map_err(|refused| match refused {
        IdentityRefused::Store(error) => failed(&error),
        IdentityRefused::Name(_) | IdentityRefused::Reason => CliError::input(refused.to_string()),
        IdentityRefused::Revoked | IdentityRefused::NotRevoked => {
            CliError::failed(refused.to_string())
        }
    })
}
