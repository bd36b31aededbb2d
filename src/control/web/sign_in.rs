//! Where one signs in: the list of ways, the way to a provider, the way back.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::html;

use super::Web;
use super::cookie::FLOW;
use super::flow::{Flow, PATIENCE_S, local};
use super::form::{Nothing, Sent};
use super::oidc::{Provider, SignInRefused};
use super::page::{self, Asked, PageError, plain};
use super::session::{self, From, Visitor};
use crate::secret;

/// Where to go afterwards.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct To {
    to: Option<String>,
}

pub(super) async fn sign_in(
    State(web): State<Web>,
    headers: HeaderMap,
    to: Asked<To>,
) -> Result<Response, PageError> {
    let place = local(to.ok().and_then(|Query(to)| to.to).as_deref().unwrap_or("/"));
    if session::visitor(&web, &headers).await?.is_some() {
        return Ok(Redirect::to(&place).into_response());
    }
    let doors = web.settings().doors();
    let content = html! {
        div.narrow.card.welcome {
            h1 { "Sign in" }
            p { "Rowgate lets you into your databases as yourself. Your organisation’s sign-in says who you are." }
            @if doors.is_empty() {
                p.strong { "There is no way to sign in yet." }
                p { "Whoever runs this gateway can add one: an issuer with a client_id in its configuration." }
            }
            ul.doors {
                @for door in &doors {
                    li {
                        a.button.primary.wide href=(with_place(&door.path, &place)) {
                            "Continue with " (door.title)
                        }
                    }
                }
            }
        }
    };
    Ok(plain(StatusCode::OK, "Sign in", &content))
}

fn with_place(path: &str, place: &str) -> String {
    page::sign_in_at(place).replacen("/sign-in", path, 1)
}

pub(super) async fn signed_out() -> Response {
    let content = html! {
        div.narrow.card.welcome {
            h1 { "Signed out" }
            p { "This session is over. Your identity provider may still know you in this browser." }
            p { a.button.primary.wide href="/sign-in" { "Sign in again" } }
        }
    };
    plain(StatusCode::OK, "Signed out", &content)
}

pub(super) async fn sign_out(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    _sent: Sent<Nothing>,
) -> Result<Response, PageError> {
    session::end(&web, &visitor).await
}

/// To the provider.
pub(super) async fn leave(
    State(web): State<Web>,
    Path(name): Path<String>,
    to: Asked<To>,
) -> Result<Response, PageError> {
    let provider = provider(&web, &name)?;
    let place = to.ok().and_then(|Query(to)| to.to).unwrap_or_default();
    let flow = Flow::begin(&name, &place).ok_or_else(PageError::failed)?;
    let settings = web.settings();
    let url = provider.authorization(&settings.url, &flow).await;
    let url = url.map_err(|why| unanswered(&provider, &why))?;
    let mut response = Redirect::to(&url).into_response();
    let cookie = FLOW.set(&settings, &flow.cookie(), PATIENCE_S);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// A provider's answer (RFC 6749, section 4.1.2; RFC 9207).
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Answer {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

/// Back from the provider.
pub(super) async fn come_back(
    State(web): State<Web>,
    Extension(from): Extension<From>,
    Path(name): Path<String>,
    headers: HeaderMap,
    answer: Asked<Answer>,
) -> Response {
    let settings = web.settings();
    let done = answered(&web, &name, &headers, answer.ok().map(|Query(answer)| answer)).await;
    match done {
        Ok((provider, flow, who)) => {
            let source = provider.source();
            session::begin(&web, &headers, &who, &source, from.0, None, &flow.place).await
        }
        Err((error, reason)) => {
            page::refused(&web, "", from.0, reason);
            let mut response = error.into_response();
            response.headers_mut().append(header::SET_COOKIE, FLOW.clear(&settings));
            response
        }
    }
}

type Answered = (Arc<Provider>, Flow, crate::identity::Principal);

async fn answered(
    web: &Web,
    name: &str,
    headers: &HeaderMap,
    answer: Option<Answer>,
) -> Result<Answered, (PageError, &'static str)> {
    let provider = provider(web, name).map_err(|error| (error, "provider"))?;
    let answer = answer.unwrap_or_default();
    let cookie = FLOW.read(&web.settings(), headers);
    let flow = cookie.and_then(|cookie| Flow::read(name, &cookie));
    let state = answer.state.unwrap_or_default();
    let is_ours = |flow: &Flow| secret::equal(flow.state().as_bytes(), state.as_bytes());
    let flow = flow.filter(is_ours).ok_or_else(|| (not_begun(), "state"))?;
    let refuse = |why: SignInRefused| {
        let reason = match &why {
            SignInRefused::Provider(_) => "provider",
            SignInRefused::Answer(_) => "answer",
            SignInRefused::Token(refusal) => refusal.label(),
        };
        (unanswered(&provider, &why), reason)
    };
    provider.gave(answer.iss.as_deref()).await.map_err(refuse)?;
    if answer.error.is_some() {
        // (What it says besides is anyone's text: the page does not repeat it.)
        return Err((declined(&provider), "declined"));
    }
    let code = answer.code.unwrap_or_default();
    let who = provider.redeem(web, &flow, &code).await.map_err(refuse)?;
    Ok((Arc::clone(&provider), flow, who))
}

fn provider(web: &Web, name: &str) -> Result<Arc<Provider>, PageError> {
    let settings = web.settings();
    let found = settings.providers.iter().find(|provider| provider.name == name);
    found.cloned().ok_or_else(PageError::not_found)
}

fn not_begun() -> PageError {
    let text = "This answer belongs to no sign-in of this browser, or to one of more than ten minutes ago.";
    let mend = "Sign in again, from the first page.";
    PageError::new(StatusCode::BAD_REQUEST, "Sign in again", text.to_owned(), mend)
}

fn declined(provider: &Provider) -> PageError {
    let text = format!("{} did not sign you in.", provider.door().title);
    let mend =
        "Try again; if it goes on, ask whoever runs that provider whether you may use Rowgate.";
    PageError::new(StatusCode::FORBIDDEN, "Not signed in", text, mend)
}

/// What is wrong is for the log: the page tells everyone the same.
fn unanswered(provider: &Provider, why: &SignInRefused) -> PageError {
    tracing::warn!(provider = provider.name, %why, "a sign-in failed");
    let title = provider.door().title;
    let (text, mend) = match why {
        SignInRefused::Provider(_) => (
            format!("{title} can’t be reached, or does not answer as it should."),
            "Try again in a moment; the gateway’s log says more.",
        ),
        SignInRefused::Answer(_) | SignInRefused::Token(_) => (
            format!("What {title} said of you was not accepted."),
            "Sign in again; if it goes on, the gateway’s log and record say why.",
        ),
    };
    PageError::new(StatusCode::FORBIDDEN, "Not signed in", text, mend)
}
