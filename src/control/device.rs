//! The device flow (RFC 8628): a program without a browser asks for a session password, and a person who has signed in
//! elsewhere agrees.
//!
//! The three calls of a device are open to the network, and answer nothing but what RFC 8628 and RFC 7009 say. Who agrees
//! is shown by [`show`] what was asked for and from where, and then calls [`confirm`]: whoever was sent a stranger's code
//! must be able to tell. What waits is in memory only: the password is made when the device fetches it.

use std::net::IpAddr;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Form, Json, Router};

use super::codes::{Agreed, Asked, Codes, CodesFull, Poll, WrongCode, written};
use super::error::ErrorAnswer;
use super::passwords::{PasswordRequest, PasswordRules, check_request, mint, person, revoke_shown};
use super::peer::Caller;
use super::{ControlDeps, operate};
use crate::clock::now_us;
use crate::identity::Principal;
use crate::network::Network;

/// The grant of RFC 8628, 3.4.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// A session password is no access token of any API (RFC 8693, 2.2.1).
const TOKEN_TYPE: &str = "N_A";
/// Names in one parameter.
const MAX_LIST: usize = 64;

/// What people get session passwords by: the rules, and the codes that wait.
#[derive(Debug)]
pub struct People {
    pub(super) rules: PasswordRules,
    codes: Codes,
}

impl People {
    /// By these rules; nobody waits.
    pub fn new(rules: PasswordRules) -> Self {
        Self { rules, codes: Codes::default() }
    }
}

/// What the listener knows of a request, as an extension: set by whoever serves [`router`] on the network.
#[derive(Clone, Debug, Default)]
pub struct Front {
    /// The client's address, shown to who agrees. Those without one share the limits of one address.
    pub address: Option<IpAddr>,
    /// What people type into a browser: scheme, host and port.
    pub site: Option<String>,
}

/// `/device/code`, `/device/token`, `/device/revoke`: what programs call. Their bodies are forms, as OAuth has it, and
/// have no cookie, so that no page's form can stand for them.
pub fn router(deps: ControlDeps) -> Router {
    Router::new()
        .route("/device/code", post(code))
        .route("/device/token", post(token))
        .route("/device/revoke", post(revoke))
        .layer(axum::extract::DefaultBodyLimit::max(super::MAX_BODY_BYTES))
        .with_state(deps)
}

/// What the code asks for, so that it can be shown. Wrong codes are counted against who tries them.
pub fn show(
    deps: &ControlDeps,
    user_code: &str,
    principal: &Principal,
) -> Result<Asked, ErrorAnswer> {
    deps.people.codes.find(user_code, &principal.subject, now_us()).map_err(refused)
}

/// The person agrees: the device is given a session password of theirs when it next asks. Once.
pub fn confirm(
    deps: &ControlDeps,
    user_code: &str,
    principal: &Principal,
) -> Result<Asked, ErrorAnswer> {
    settle(deps, user_code, principal, true)
}

/// The person does not: the device is told so.
pub fn deny(
    deps: &ControlDeps,
    user_code: &str,
    principal: &Principal,
) -> Result<Asked, ErrorAnswer> {
    settle(deps, user_code, principal, false)
}

fn settle(
    deps: &ControlDeps,
    user_code: &str,
    principal: &Principal,
    agrees: bool,
) -> Result<Asked, ErrorAnswer> {
    let asked = show(deps, user_code, principal)?;
    let action = if agrees { "device.confirm" } else { "device.deny" };
    let from = asked.address.map_or_else(|| "nowhere".to_owned(), |address| address.to_string());
    deps.record(&person(principal), action, &format!("from {from}"))?;
    let answer = agrees.then(|| principal.clone());
    deps.people.codes.settle(user_code, answer, now_us()).map_err(refused)?;
    Ok(asked)
}

fn refused(wrong: WrongCode) -> ErrorAnswer {
    match wrong {
        WrongCode::Unknown => ErrorAnswer::not_found(
            "there is no such code; codes live ten minutes, and are used once: ask for a new one",
        ),
        WrongCode::TooMany => {
            ErrorAnswer::too_many("too many wrong codes; try again in ten minutes")
        }
    }
}

/// `POST /device/code`, beyond RFC 8628's `client_id` and `scope` what the password is to be good for.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct CodeForm {
    /// Targets, with commas between; none: all.
    target: String,
    /// Networks, with commas between; none: all.
    from: String,
    /// Seconds.
    ttl_s: Option<u64>,
    /// What it is for.
    label: String,
}

impl CodeForm {
    fn request(&self) -> Result<PasswordRequest, OauthError> {
        let list = |text: &str| {
            let mut words = operate::listed(text);
            words.truncate(MAX_LIST + 1);
            words
        };
        let networks = list(&self.from).into_iter().map(Network::try_from);
        let networks = networks.collect::<Result<_, _>>();
        let networks =
            networks.map_err(|_| OauthError::new("invalid_request", "from: networks"))?;
        let (ttl_s, label) = (self.ttl_s, self.label.clone());
        Ok(PasswordRequest { targets: list(&self.target), networks, ttl_s, label })
    }
}

/// The answer to it (RFC 8628, 3.2).
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub struct CodeAnswer {
    /// The device's secret.
    pub device_code: String,
    /// What the person types.
    pub user_code: String,
    /// Where; a path where the gateway does not know what it is called.
    pub verification_uri: String,
    /// The same with the code in it.
    pub verification_uri_complete: String,
    /// Seconds.
    pub expires_in: u64,
    /// Seconds between two looks.
    pub interval: u64,
}

async fn code(
    State(deps): State<ControlDeps>,
    front: Option<Extension<Front>>,
    form: Result<Form<CodeForm>, axum::extract::rejection::FormRejection>,
) -> Result<Response, OauthError> {
    let Form(form) = form.map_err(|_| OauthError::new("invalid_request", "no form"))?;
    let request = form.request()?;
    check_request(&deps, &request)
        .map_err(|error| OauthError::new("invalid_request", error.message()))?;
    let front = front.map(|Extension(front)| front).unwrap_or_default();
    let new = deps.people.codes.ask(request, front.address, now_us());
    let new = new.map_err(|full| match full {
        CodesFull::Address => OauthError::busy("too many codes from this address; wait a minute"),
        CodesFull::All => OauthError::busy("too many codes wait; try again later"),
        CodesFull::NoRandomness => OauthError::busy("the system gives no random bytes"),
    })?;
    let (verification_uri, user_code) =
        (format!("{}/device", front.site.unwrap_or_default()), written(new.user_code));
    let answer = CodeAnswer {
        device_code: new.device_code,
        verification_uri_complete: format!("{verification_uri}?code={user_code}"),
        verification_uri,
        user_code,
        expires_in: new.lives_s,
        interval: new.interval_s,
    };
    Ok(private(Json(answer)))
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct TokenForm {
    grant_type: String,
    device_code: String,
}

async fn token(
    State(deps): State<ControlDeps>,
    form: Result<Form<TokenForm>, axum::extract::rejection::FormRejection>,
) -> Result<Response, OauthError> {
    let Form(form) = form.map_err(|_| OauthError::new("invalid_request", "no form"))?;
    if form.grant_type != GRANT {
        return Err(OauthError::new("unsupported_grant_type", GRANT));
    }
    let Agreed { principal, request } = match deps.people.codes.poll(&form.device_code, now_us()) {
        Poll::Waits => return Err(OauthError::new("authorization_pending", "nobody agreed yet")),
        Poll::TooSoon => return Err(OauthError::new("slow_down", "wait longer between looks")),
        Poll::Denied => return Err(OauthError::new("access_denied", "the person said no")),
        Poll::Expired => return Err(OauthError::new("expired_token", "nobody agreed in time")),
        Poll::Unknown => return Err(OauthError::new("invalid_grant", "there is no such code")),
        Poll::Agreed(agreed) => *agreed,
    };
    let made = mint(&deps, &principal, &request).await;
    let made = made.map_err(|error| OauthError::new("access_denied", error.message()))?;
    let lives_us = made.info.expires_us.saturating_sub(made.info.created_us);
    let answer = serde_json::json!({
        "access_token": made.password,
        "token_type": TOKEN_TYPE,
        "expires_in": lives_us / 1_000_000,
        "session": made,
    });
    Ok(private(Json(answer)))
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct RevokeForm {
    token: String,
}

/// RFC 7009: whoever holds it may end it, and is told the same whether there was one.
async fn revoke(
    State(deps): State<ControlDeps>,
    form: Result<Form<RevokeForm>, axum::extract::rejection::FormRejection>,
) -> Result<Response, OauthError> {
    let Form(form) = form.map_err(|_| OauthError::new("invalid_request", "no form"))?;
    let ended = revoke_shown(&deps, &form.token).await;
    ended.map_err(|error| OauthError::busy(error.message()))?;
    Ok(private(StatusCode::OK))
}

fn private(answer: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")], answer).into_response()
}

/// An error of RFC 6749, 5.2.
#[derive(Debug)]
struct OauthError {
    status: StatusCode,
    error: &'static str,
    description: String,
}

impl OauthError {
    fn new(error: &'static str, description: &str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error, description: description.to_owned() }
    }

    fn busy(description: &str) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self { status, ..Self::new("temporarily_unavailable", description) }
    }
}

impl IntoResponse for OauthError {
    fn into_response(self) -> Response {
        let body =
            serde_json::json!({ "error": self.error, "error_description": self.description });
        (self.status, private(Json(body))).into_response()
    }
}

/// `POST /v1/device/…` on the admin socket: the code, and then who calls agrees as who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceRequest {
    /// What the device shows.
    pub code: String,
}

/// The same three for a person on the gateway's own machine.
pub(super) fn on_socket() -> Router<ControlDeps> {
    Router::new()
        .route("/v1/device/show", post(shown))
        .route("/v1/device/confirm", post(confirmed))
        .route("/v1/device/deny", post(denied))
}

type Body = Result<axum::body::Bytes, axum::extract::rejection::BytesRejection>;

async fn shown(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<Asked>, ErrorAnswer> {
    let request: DeviceRequest = operate::parsed(body)?;
    Ok(Json(show(&deps, &request.code, &super::passwords::principal(&caller)?)?))
}

async fn confirmed(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<Asked>, ErrorAnswer> {
    let request: DeviceRequest = operate::parsed(body)?;
    Ok(Json(confirm(&deps, &request.code, &super::passwords::principal(&caller)?)?))
}

async fn denied(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<Asked>, ErrorAnswer> {
    let request: DeviceRequest = operate::parsed(body)?;
    Ok(Json(deny(&deps, &request.code, &super::passwords::principal(&caller)?)?))
}
