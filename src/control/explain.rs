//! `/v1/identities/explain`: who a token or a name is here, what was checked, where each group comes from, and what the
//! policies make of it. It tells what no client is told, so it is for administrators; and the token itself goes no further.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::{Extension, Json};

use super::ControlDeps;
use super::error::ErrorAnswer;
use super::operate::parsed;
use super::peer::Caller;
use super::reply::{ExplainAnswer, ExplainRequest, ExplainedWay, TargetAccess};
use crate::clock::now_us;
use crate::identity::{Explanation, LoginRefusal, Principal};
use crate::policy::{ControlAction, Policies, Snapshot};
use crate::secret::Secret;

pub(super) async fn explain(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ExplainAnswer>, ErrorAnswer> {
    caller.must_be_admin()?;
    let ExplainRequest { token, user } = parsed(body)?;
    let found = match (token, &user) {
        (Some(token), user) => {
            let token = Secret::new(token.into_bytes());
            vec![of_token(&deps, &token, user.as_deref()).await?]
        }
        (None, Some(user)) => snapshot(&deps)?.directory.explain_name(user, now_us()),
        (None, None) => return Err(ErrorAnswer::bad_request("give a token or a user")),
    };
    let (snapshot, status) = (snapshot(&deps)?, deps.gateway.status());
    let targets: Vec<&str> = status.targets.iter().map(|target| target.name.as_str()).collect();
    let ways = found.into_iter().map(|one| way(&snapshot.policies, &targets, one));
    Ok(Json(ExplainAnswer { ways: ways.collect() }))
}

fn snapshot(deps: &ControlDeps) -> Result<Arc<Snapshot>, ErrorAnswer> {
    let starting = || ErrorAnswer::unavailable("the gateway is starting");
    deps.gateway.snapshot().ok_or_else(starting)
}

/// As a login: where the issuer's keys lack the one that the token names, once they were fetched again.
async fn of_token(
    deps: &ControlDeps,
    token: &Secret,
    user: Option<&str>,
) -> Result<Explanation, ErrorAnswer> {
    let look = || Ok(snapshot(deps)?.directory.explain(token, user, now_us()));
    let (found, refused) = look()?;
    if let Some(LoginRefusal::Key(issuer)) = refused {
        deps.gateway.refresh_keys(issuer).await;
        return look().map(|(found, _)| found);
    }
    Ok(found)
}

/// What the policies make of who that is.
fn way(policies: &Policies, targets: &[&str], explanation: Explanation) -> ExplainedWay {
    let mut way = ExplainedWay { explanation, ..ExplainedWay::default() };
    let found = &way.explanation;
    let groups: Vec<String> = found.groups.iter().map(|origin| origin.group.clone()).collect();
    let named = |group: &&String| !policies.names_group(group);
    way.unnamed_groups = groups.iter().filter(named).cloned().collect();
    let (Some(subject), Some(kind), None) = (&found.subject, found.kind, &found.refused) else {
        return way;
    };
    let (subject, attributes) = (subject.clone(), found.attributes.clone());
    let principal = Principal { subject, kind, groups, attributes };
    let closed = |name: &str| {
        !found.only_targets.is_empty() && !found.only_targets.iter().any(|only| only == name)
    };
    let access = |name: &&str| access(policies, &principal, name, closed(name));
    way.targets = targets.iter().map(access).collect();
    let may = ControlAction::ALL.into_iter().filter(|what| policies.may(&principal, *what));
    way.may = may.map(|what| what.as_str().to_owned()).collect();
    way
}

fn access(policies: &Policies, principal: &Principal, target: &str, closed: bool) -> TargetAccess {
    let rule = policies.passthrough(principal, target).filter(|_| !closed);
    let access = match &rule {
        _ if closed => "closed",
        Some(_) => "passthrough",
        None if policies.may_use(principal, target, now_us()) => "governed",
        None => "denied",
    };
    TargetAccess { target: target.to_owned(), access: access.to_owned(), rule }
}
