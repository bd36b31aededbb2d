//! What holds for every request and every answer of the pages, before any of them is asked: the right host, no form of
//! another site, a bound on time, and headers that keep others from framing, sniffing, caching and scripting.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::page::{self, PageError};
use super::{Web, WebSettings};

/// From a request's head to its answer. A sign-in waits for the provider twice.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything from this site, and nothing written into the page: no script, no style, no frame, no other form target.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                   connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 8] = [
    (header::CONTENT_SECURITY_POLICY, CSP),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // (With `no-referrer`, browsers would say `Origin: null` with our own forms.)
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
    (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
];

/// What programs call: no cookie is looked at there.
const DEVICES: [&str; 3] = ["/device/code", "/device/token", "/device/revoke"];

/// Two years, as browsers' preload lists ask for.
const HSTS: &str = "max-age=63072000";

pub(super) async fn guard(State(web): State<Web>, request: Request, next: Next) -> Response {
    let settings = web.settings();
    let mut response = match refusal(&settings, &request) {
        Some(error) => error.into_response(),
        None => match tokio::time::timeout(PATIENCE, next.run(request)).await {
            Ok(response) => response,
            Err(_) => PageError::slow().into_response(),
        },
    };
    response = page::finish(response, None);
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if settings.is_https() {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Whether forms of other sites are meant to come here: a SAML provider's answer, which a cookie of its own ties to the
/// browser that asked.
fn is_answer(path: &str) -> bool {
    let name = path.strip_prefix("/saml/").and_then(|rest| rest.strip_suffix("/acs"));
    cfg!(feature = "saml") && name.is_some_and(|name| !name.contains('/'))
}

/// Why a request goes no further.
fn refusal(settings: &WebSettings, request: &Request) -> Option<PageError> {
    let headers = request.headers();
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    // Another name that leads here (DNS rebinding) would make this its own site.
    if !text(header::HOST).is_some_and(|host| host.eq_ignore_ascii_case(settings.authority())) {
        let what = "This address is not the one that these pages are served at.".to_owned();
        let mend = format!("Go to {}.", settings.url);
        return Some(PageError::new(StatusCode::MISDIRECTED_REQUEST, "Wrong address", what, &mend));
    }
    // (A device's calls are no browser's, and no cookie counts for them.)
    let path = request.uri().path();
    // (What Slack sends is signed.)
    let is_signed = path == super::slack::PATH;
    if request.method().is_safe() || DEVICES.contains(&path) || is_signed || is_answer(path) {
        return None;
    }
    // Every browser says one of them with a form; who says neither is none.
    let site = text(HeaderName::from_static("sec-fetch-site"));
    let is_own = match text(header::ORIGIN) {
        Some(origin) => origin == settings.url && site.is_none_or(|site| site == "same-origin"),
        None => site == Some("same-origin"),
    };
    (!is_own).then(|| {
        let what = "The form came from another site. Nothing was done.".to_owned();
        let mend = "Open the page here, and send the form from there.";
        PageError::new(StatusCode::FORBIDDEN, "Not from here", what, mend)
    })
}
