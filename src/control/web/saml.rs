//! Signing in by a SAML identity provider: the gateway's metadata, the way to the provider, and its answer.
//!
//! What must be remembered of a sign-in under way is in the browser's cookie, as for OpenID: the request's id is made of it
//! and of what only this process knows. So an answer counts in the browser that asked, and in no other; answers that
//! nobody asked for count nowhere; and `RelayState` is neither sent nor read, for the place to go on to is in the cookie.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use axum::extract::{DefaultBodyLimit, Form, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use reqwest::Url;

use super::cookie::SAML;
use super::flow::{Flow, PATIENCE_S, random};
use super::page::{self, Asked, PageError};
use super::session::{self, From};
use super::{Door, Web};
use crate::clock::now_us;
use crate::identity::LoginRefusal;
use crate::identity::saml::{MAX_RESPONSE, RequestKey, ServiceProvider, SignedIn};

/// Longest form: the longest answer in base64, every other letter of it escaped.
const MAX_FORM_BYTES: usize = 3 * MAX_RESPONSE;

/// Most assertions that are remembered. Each is really signed, and remembered for as long as it is good.
const MAX_USED: usize = 10_000;

/// What only this process knows: a sign-in that was begun before it can't be ended, for whether its answer was used is
/// forgotten.
static PROCESS: LazyLock<Option<String>> = LazyLock::new(random);

/// An identity provider that people sign in by.
#[derive(Debug)]
pub struct SamlDoor {
    /// Its name in addresses, and in the record.
    pub name: String,
    /// What the sign-in page calls it.
    pub title: String,
    /// The checks.
    pub service: ServiceProvider,
}

impl SamlDoor {
    /// As the sign-in page lists it.
    pub fn door(&self) -> Door {
        let path = format!("/saml/{}/login", self.name);
        Door { title: self.title.clone(), path, source: self.source() }
    }

    fn source(&self) -> String {
        format!("saml:{}", self.name)
    }

    /// Where the browser goes to sign in (SAML 2.0 Bindings, section 3.4.4.1).
    fn redirect(&self, request: &str, now_us: i64) -> Option<String> {
        let mut deflated = DeflateEncoder::new(Vec::new(), Compression::default());
        deflated.write_all(self.service.request(request, now_us).as_bytes()).ok()?;
        let deflated = STANDARD.encode(deflated.finish().ok()?);
        // Its own query is kept as the provider wrote it; what is signed is what we add.
        let mut own = Url::parse("saml:?").ok()?;
        own.query_pairs_mut().append_pair("SAMLRequest", &deflated);
        if let Some(key) = &self.service.request_key {
            own.query_pairs_mut().append_pair("SigAlg", RequestKey::ALGORITHM);
            let signature = key.sign(own.query()?)?;
            own.query_pairs_mut().append_pair("Signature", &STANDARD.encode(signature));
        }
        let sso_url = &self.service.provider.sso_url;
        let joint = if sso_url.contains('?') { '&' } else { '?' };
        Some(format!("{sso_url}{joint}{}", own.query()?))
    }
}

/// The assertions that were used, and until when each would be good.
#[derive(Debug, Default)]
pub(super) struct Used(Mutex<HashMap<String, i64>>);

impl Used {
    /// Notes one. False when it was there, or when there is no room: it does not count then.
    fn take(&self, id: String, ends_us: i64, now_us: i64) -> bool {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, end| *end > now_us);
        used.len() < MAX_USED && used.insert(id, ends_us).is_none()
    }
}

pub(super) fn routes() -> Router<Web> {
    Router::new()
        .route("/saml/{name}/metadata", get(metadata))
        .route("/saml/{name}/login", get(leave))
        .route("/saml/{name}/acs", post(come_back).layer(DefaultBodyLimit::max(MAX_FORM_BYTES)))
}

async fn metadata(State(web): State<Web>, Path(name): Path<String>) -> Result<Response, PageError> {
    let door = door(&web, &name)?;
    let kind = [(header::CONTENT_TYPE, "application/samlmetadata+xml")];
    Ok((kind, door.service.metadata()).into_response())
}

/// Where to go afterwards.
#[derive(Debug, Default, serde::Deserialize)]
struct To {
    to: Option<String>,
}

/// To the provider.
async fn leave(
    State(web): State<Web>,
    Path(name): Path<String>,
    to: Asked<To>,
) -> Result<Response, PageError> {
    let door = door(&web, &name)?;
    let place = to.ok().and_then(|Query(to)| to.to).unwrap_or_default();
    let flow = Flow::begin(&name, &place).ok_or_else(PageError::failed)?;
    let process = PROCESS.as_deref().ok_or_else(PageError::failed)?;
    let url = door.redirect(&flow.request(process), now_us()).ok_or_else(PageError::failed)?;
    let mut response = Redirect::to(&url).into_response();
    let cookie = SAML.set(&web.settings(), &flow.cookie(), PATIENCE_S);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// A provider's answer (SAML 2.0 Bindings, section 3.5.4).
#[derive(serde::Deserialize)]
struct Answer {
    #[serde(rename = "SAMLResponse")]
    response: String,
}

/// Back from the provider.
async fn come_back(
    State(web): State<Web>,
    Extension(from): Extension<From>,
    Path(name): Path<String>,
    headers: HeaderMap,
    answer: Result<Form<Answer>, axum::extract::rejection::FormRejection>,
) -> Response {
    let mut response = match door(&web, &name) {
        Err(error) => return error.into_response(),
        Ok(door) => match answered(&web, &door, &headers, answer.ok().map(|Form(form)| form)) {
            Ok((flow, who)) => {
                let (principal, end) = (&who.principal, who.session_ends_us);
                let source = door.source();
                session::begin(&web, &headers, principal, &source, from.0, end, &flow.place).await
            }
            Err(reason) => {
                page::refused(&web, "", from.0, reason);
                refused(&door, reason).into_response()
            }
        },
    };
    response.headers_mut().append(header::SET_COOKIE, SAML.clear(&web.settings()));
    response
}

/// Who signed in, or the closed word for the record.
fn answered(
    web: &Web,
    door: &SamlDoor,
    headers: &HeaderMap,
    answer: Option<Answer>,
) -> Result<(Flow, SignedIn), &'static str> {
    let now_us = now_us();
    let cookie = SAML.read(&web.settings(), headers).ok_or("cookie")?;
    let flow = Flow::read(&door.name, &cookie).ok_or("cookie")?;
    let request = flow.request(PROCESS.as_deref().ok_or("process")?);
    let answer = answer.ok_or("form")?;
    let plain: String = answer.response.split_ascii_whitespace().collect();
    let response = STANDARD.decode(plain).map_err(|_| "form")?;
    let signed_in = door.service.verify(&response, &request, now_us);
    let mut signed_in = signed_in.map_err(crate::identity::saml::SamlRefusal::label)?;
    // Neither a second assertion for one request counts, nor one assertion twice.
    let patience_us = now_us.saturating_add(PATIENCE_S.saturating_mul(1_000_000));
    let end_us = signed_in.assertion_ends_us.max(patience_us);
    let assertion = format!("{} {}", door.service.provider.entity_id, signed_in.assertion);
    if !web.0.used.take(request, end_us, now_us) || !web.0.used.take(assertion, end_us, now_us) {
        return Err("replay");
    }
    let welcome = web.snapshot().directory.welcome(Arc::new(signed_in.principal));
    signed_in.principal = Arc::unwrap_or_clone(welcome.map_err(LoginRefusal::label)?);
    Ok((flow, signed_in))
}

fn door(web: &Web, name: &str) -> Result<Arc<SamlDoor>, PageError> {
    let settings = web.settings();
    let found = settings.saml.iter().find(|door| door.name == name);
    found.cloned().ok_or_else(PageError::not_found)
}

/// What is wrong is for the log and the record: the page tells everyone the same, but for what one can mend.
fn refused(door: &SamlDoor, reason: &'static str) -> PageError {
    tracing::warn!(provider = door.name, reason, "a sign-in failed");
    let title = &door.title;
    let (status, text) = match reason {
        "cookie" | "request" | "replay" => (
            StatusCode::BAD_REQUEST,
            "This answer belongs to no sign-in of this browser, or to one that is over.".to_owned(),
        ),
        "status" => (StatusCode::FORBIDDEN, format!("{title} did not sign you in.")),
        _ => (StatusCode::FORBIDDEN, format!("What {title} said of you was not accepted.")),
    };
    let mend =
        "Sign in again, from the first page; if it goes on, the gateway’s log and record say why.";
    PageError::new(status, "Not signed in", text, mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assertion_counts_once_and_a_full_table_refuses() {
        let used = Used::default();
        assert!(used.take("a".into(), 10, 0) && !used.take("a".into(), 10, 9));
        assert!(used.take("a".into(), 20, 10), "it could not be good any more");
        for at in 1..MAX_USED {
            assert!(used.take(at.to_string(), 20, 10));
        }
        assert!(!used.take("b".into(), 20, 10), "full");
        assert!(used.take("b".into(), 40, 20));
    }
}
