//! Who is signed in: made at the end of a sign-in, found by its cookie at each request, ended by its owner, by time, or
//! with its identity.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::Web;
use super::cookie::{FLOW, SESSION};
use super::flow::{hash, local, random};
use super::page::{self, PageError};
use super::roles::Roles;
use crate::clock::now_us;
use crate::control::Caller;
use crate::identity::Principal;
use crate::store::WebSession;

/// How often a session's last request is noted: each one would be a write.
const SEEN_EVERY_US: i64 = 60_000_000;

/// From where a request comes: the browser, or the proxy before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct From(pub(super) IpAddr);

/// Who is signed in, for the pages.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    pub(super) principal: Principal,
    pub(super) roles: Roles,
    pub(super) session: WebSession,
    /// What each form of this session carries. Other sites can't know it: it is made of the cookie.
    pub(super) csrf: String,
}

impl Visitor {
    pub(super) fn name(&self) -> &str {
        &self.principal.subject
    }

    /// The same for what records and decides.
    pub(super) fn caller(&self) -> Caller {
        let (identity, groups) = (self.principal.subject.clone(), self.principal.groups.clone());
        Caller { identity, groups, break_glass: false }
    }

    pub(super) fn must(&self, may: bool, role: &str) -> Result<(), PageError> {
        if may {
            return Ok(());
        }
        let text = format!("{} has not the role of {role} here.", self.name());
        let mend = "Roles come from your groups at the identity provider. Ask whoever runs this gateway for the group, then sign in again.";
        Err(PageError::new(StatusCode::FORBIDDEN, "Not for you", text, mend))
    }
}

/// Begins the session of someone who has just proven who they are, and answers with the page that leads on to `place`, a
/// path of this site. `source` says by what (`oidc:corp`, `saml:corp`); `ends_us` is when the session ends, if sooner than
/// the configuration says. A session that the browser had before ends, so that nobody can prepare one for someone else.
///
/// Policy decides whether they may come in at all; the answer is a page that says so if not.
pub(super) async fn begin(
    web: &Web,
    headers: &HeaderMap,
    who: &Principal,
    source: &str,
    from: IpAddr,
    ends_us: Option<i64>,
    place: &str,
) -> Response {
    match begun(web, headers, who, source, from, ends_us).await {
        Ok(cookie) => {
            let mut response = page::onward(&local(place)).into_response();
            let settings = web.settings();
            response.headers_mut().append(
                header::SET_COOKIE,
                SESSION.set(&settings, &cookie, settings.session_us / 1_000_000),
            );
            response.headers_mut().append(header::SET_COOKIE, FLOW.clear(&settings));
            response
        }
        Err(error) => error.into_response(),
    }
}

async fn begun(
    web: &Web,
    headers: &HeaderMap,
    who: &Principal,
    source: &str,
    from: IpAddr,
    ends_us: Option<i64>,
) -> Result<String, PageError> {
    let (settings, store) = (web.settings(), &web.deps().store);
    if Roles::of(&web.snapshot().policies, who).is_none() {
        page::refused(web, &who.subject, from, "policy");
        let text = format!("You are {}, and no policy lets you use these pages.", who.subject);
        let mend = "Ask whoever runs this gateway for the group that may, then sign in again.";
        return Err(PageError::new(StatusCode::FORBIDDEN, "Signed in, but not let in", text, mend));
    }
    let cookie = random().ok_or_else(PageError::failed)?;
    let now_us = now_us();
    let last_us = now_us.saturating_add(settings.session_us);
    let session = WebSession {
        hash: key(&cookie),
        identity: who.subject.clone(),
        kind: who.kind,
        groups: who.groups.clone(),
        source: source.to_owned(),
        address: from.to_string(),
        created_us: now_us,
        seen_us: now_us,
        expires_us: ends_us.map_or(last_us, |end| end.min(last_us)),
    };
    let caller =
        Caller { identity: who.subject.clone(), groups: who.groups.clone(), break_glass: false };
    web.deps().record(&caller, "web.sign-in", &format!("{source} from {from}"))?;
    if let Some(before) = SESSION.read(&settings, headers) {
        store.end_web_session(&key(&before)).await?;
    }
    store.begin_web_session(&session).await?;
    Ok(cookie)
}

/// What is kept of a cookie.
fn key(cookie: &str) -> [u8; 32] {
    hash(&["rowgate session", cookie])
}

/// Who sent this request, if someone that is signed in and may still be here.
pub(super) async fn visitor(web: &Web, headers: &HeaderMap) -> Result<Option<Visitor>, PageError> {
    let (settings, store, now_us) = (web.settings(), &web.deps().store, now_us());
    let Some(cookie) = SESSION.read(&settings, headers) else { return Ok(None) };
    let Some(session) = store.web_session(&key(&cookie), now_us, settings.idle_us).await? else {
        return Ok(None);
    };
    let principal = Principal {
        subject: session.identity.clone(),
        kind: session.kind,
        groups: session.groups.clone(),
        attributes: std::collections::BTreeMap::new(),
    };
    // The provider may have been taken out of the configuration since.
    let doors = settings.providers.iter().map(|provider| provider.source());
    let mut doors = doors.chain(settings.doors.iter().map(|door| door.source.clone()));
    if !doors.any(|door| door == session.source) {
        return Ok(None);
    }
    let Some(roles) = Roles::of(&web.snapshot().policies, &principal) else { return Ok(None) };
    if now_us.saturating_sub(session.seen_us) > SEEN_EVERY_US {
        store.web_session_seen(&session.hash, now_us).await?;
    }
    let csrf = data_encoding(&hash(&["rowgate form", &cookie]));
    Ok(Some(Visitor { principal, roles, session, csrf }))
}

fn data_encoding(bytes: &[u8; 32]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// Lets only those through who are signed in, and hands the [`Visitor`] on as an extension.
pub(super) async fn signed_in(
    State(web): State<Web>,
    mut request: Request,
    next: Next,
) -> Response {
    let visitor = match visitor(&web, request.headers()).await {
        Ok(visitor) => visitor,
        Err(error) => return error.into_response(),
    };
    let Some(visitor) = visitor else { return stranger(&web, &request) };
    request.extensions_mut().insert(visitor.clone());
    page::finish(next.run(request).await, Some(&visitor))
}

/// Who is not signed in goes where one can, and comes back. A link of another site does not bring the cookie, which is
/// strict: its visitor is sent on from a page of ours, which does.
fn stranger(web: &Web, request: &Request) -> Response {
    let place = request.uri().path_and_query().map_or("/", |place| place.as_str());
    let is_read = request.method().is_safe();
    let sites = request.headers().get("sec-fetch-site").and_then(|site| site.to_str().ok());
    if is_read && matches!(sites, Some("cross-site" | "same-site")) {
        return page::onward(&local(place)).into_response();
    }
    let to = if is_read { local(place) } else { "/".to_owned() };
    let mut response = Redirect::to(&page::sign_in_at(&to)).into_response();
    let settings = web.settings();
    if SESSION.read(&settings, request.headers()).is_some() {
        response.headers_mut().append(header::SET_COOKIE, SESSION.clear(&settings));
    }
    response
}

/// Signs out: the session is gone, whoever has a copy of its cookie.
pub(super) async fn end(web: &Web, visitor: &Visitor) -> Result<Response, PageError> {
    web.deps().record(&visitor.caller(), "web.sign-out", &visitor.session.source)?;
    web.deps().store.end_web_session(&visitor.session.hash).await?;
    let mut response = Redirect::to("/signed-out").into_response();
    response.headers_mut().append(header::SET_COOKIE, SESSION.clear(&web.settings()));
    Ok(response)
}
