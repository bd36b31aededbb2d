//! The sessions of now: one's own, or everyone's for who may see them.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};

use super::Web;
use super::form::{Nothing, Sent};
use super::page::{Asked, Done, PageError, Tab, csrf, empty, notice, page, status, time};
use super::session::Visitor;
use crate::control::SessionInfo;
use crate::control::operate::kill_by;

/// The most in one page; above, the newest are shown.
const MAX_SHOWN: usize = 500;

/// The most of a statement's shape, in characters: enough to know it by.
const MAX_SHAPE: usize = 200;

pub(super) async fn list(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    done: Asked<Done>,
) -> Response {
    let mut sessions = web.deps().gateway.sessions();
    sessions.retain(|session| may_see(&visitor, session));
    sessions.sort_by_key(|session| std::cmp::Reverse(session.id));
    let count = sessions.len();
    sessions.truncate(MAX_SHOWN);
    let done = done.ok().and_then(|Query(done)| done.done);
    let content = html! {
        h1 { "Sessions" }
        (notice(done.as_deref()))
        div #live data-live="5" {
            @if sessions.is_empty() {
                (empty("Nobody is connected.", "Sessions show up here as soon as a client logs in."))
            } @else {
                p.count { (count) @if count == 1 { " session" } @else { " sessions" } " open now"
                    @if count > MAX_SHOWN { ", the newest " (MAX_SHOWN) " shown" } }
                (table(&visitor, &sessions))
            }
        }
    };
    page(&visitor, Tab::Sessions, "Sessions", &content)
}

fn may_see(visitor: &Visitor, session: &SessionInfo) -> bool {
    visitor.roles.audit || (!session.identity.is_empty() && session.identity == visitor.name())
}

fn may_end(visitor: &Visitor, session: &SessionInfo) -> bool {
    may_see(visitor, session) && (visitor.roles.administer || session.identity == visitor.name())
}

fn table(visitor: &Visitor, sessions: &[SessionInfo]) -> Markup {
    html! {
        table.stack {
            caption.sr { "Open sessions" }
            thead { tr {
                th scope="col" { "Who" }
                th scope="col" { "Target" }
                th scope="col" { "Does" }
                th scope="col" { "From" }
                th scope="col" { "Since" }
                th scope="col" { span.sr { "End it" } }
            } }
            tbody {
                @for session in sessions {
                    tr {
                        th scope="row" {
                            @if session.identity.is_empty() { span.muted { "logging in" } }
                            @else { (session.identity) }
                            @if !session.run.is_empty() { span.sub { "run " (session.run) } }
                        }
                        td data-label="Target" { (session.target) }
                        td data-label="Does" {
                            (activity(session))
                            @if !session.shape.is_empty() { code.shape { (cut(&session.shape)) } }
                            span.sub { (session.statements) " so far" }
                        }
                        td data-label="From" { (session.source) span.sub { "session " (session.id) } }
                        td data-label="Since" { (time(session.since_us)) }
                        td.act { @if may_end(visitor, session) { (ending(visitor, session)) } }
                    }
                }
            }
        }
    }
}

fn activity(session: &SessionInfo) -> Markup {
    let kind = match session.state.as_str() {
        "running" => "good",
        "held" => "warn",
        _ => "calm",
    };
    html! {
        (status(kind, &session.state)) " "
        @if !session.verb.is_empty() { code { (session.verb.to_uppercase()) } }
    }
}

/// The beginning of a shape: values are in none, so that all of it may be seen.
fn cut(shape: &str) -> String {
    let mut begin: String = shape.chars().take(MAX_SHAPE).collect();
    if begin.len() < shape.len() {
        begin.push('…');
    }
    begin
}

fn ending(visitor: &Visitor, session: &SessionInfo) -> Markup {
    html! {
        details.confirm {
            summary aria-label={ "End session " (session.id) " of " (session.identity) } { "End…" }
            form method="post" action={ "/sessions/" (session.id) "/kill" } {
                (csrf(visitor))
                p { "A running statement is cut off and rolled back." }
                button.danger type="submit" { "End the session" }
            }
        }
    }
}

pub(super) async fn kill(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<u64>,
    _sent: Sent<Nothing>,
) -> Result<Response, PageError> {
    let sessions = web.deps().gateway.sessions();
    let session = sessions.iter().find(|session| session.id == id);
    let Some(session) = session.filter(|session| may_see(&visitor, session)) else {
        let text = "There is no such session any more.".to_owned();
        let mend = "Go back; the list there is up to date.";
        return Err(PageError::new(StatusCode::NOT_FOUND, "It has ended", text, mend));
    };
    visitor.must(may_end(&visitor, session), "admin")?;
    kill_by(web.deps(), &visitor.caller(), id)?;
    Ok(Redirect::to("/sessions?done=killed").into_response())
}
