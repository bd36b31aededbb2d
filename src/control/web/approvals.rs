//! What waits for an approval, and what became of it. A decision is made on the request's own page.

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};

use super::Web;
use super::page::{Asked, Done, PageError, Tab, empty, notice, page, status, time};
use super::session::Visitor;
use crate::control::approvals::shorten;
use crate::store::{Approval, ApprovalState};
use crate::visible::visible;

/// The most that are looked at for one page.
const MAX_LISTED: u32 = 1_000;
/// Of those that are over, the newest.
const RECENT: usize = 30;

pub(super) async fn list(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    done: Asked<Done>,
) -> Result<Response, PageError> {
    let store = &web.deps().store;
    let seen = |all: Vec<Approval>| all.into_iter().filter(|one| may_see(&web, &visitor, one));
    let waiting: Vec<_> =
        seen(store.approvals(Some(ApprovalState::Pending), MAX_LISTED).await?).collect();
    let over = seen(store.approvals(None, MAX_LISTED).await?);
    let over: Vec<_> =
        over.filter(|one| one.state != ApprovalState::Pending).take(RECENT).collect();
    let done = done.ok().and_then(|Query(done)| done.done);
    let content = html! {
        h1 { "Approvals" }
        (notice(done.as_deref()))
        div #live data-live="5" {
            section aria-labelledby="waiting" {
                h2 #waiting { "Waiting" }
                @if waiting.is_empty() {
                    (empty("Nothing waits.", "A statement that policy holds shows up here, for those who may decide it."))
                }
                @for one in &waiting { (summary(one)) }
            }
            @if !over.is_empty() {
                section aria-labelledby="over" {
                    h2 #over { "Before" }
                    (past(&over))
                }
            }
        }
    };
    Ok(page(&visitor, Tab::Approvals, "Approvals", &content))
}

pub(super) fn may_see(web: &Web, visitor: &Visitor, approval: &Approval) -> bool {
    visitor.roles.audit
        || visitor.name() == approval.identity
        || is_asked(visitor, approval)
        || may_break_glass(web, visitor)
}

/// Whether one is of those who may do without anybody else.
pub(super) fn may_break_glass(web: &Web, visitor: &Visitor) -> bool {
    let groups = web.deps().desk.break_glass_groups();
    groups.iter().any(|group| visitor.principal.groups.contains(group))
}

pub(super) fn is_asked(visitor: &Visitor, approval: &Approval) -> bool {
    let groups = &visitor.principal.groups;
    visitor.roles.approve && approval.approver_groups.iter().any(|group| groups.contains(group))
}

fn summary(one: &Approval) -> Markup {
    let mut statement = one.statement.clone();
    shorten(&mut statement);
    html! {
        article.card.request {
            h3 { (one.identity) " wants to " code { (one.verb.to_uppercase()) } " on " (one.target) }
            p.why { (one.message) }
            pre.sql { code { (visible(&statement)) } }
            p.row {
                a.button.primary href={ "/approvals/" (one.id) } { "Review" span.sr { " " (one.id) " of " (one.identity) } }
                span.muted { "asked " (time(one.created_us)) }
            }
        }
    }
}

fn past(over: &[Approval]) -> Markup {
    html! {
        table.stack {
            caption.sr { "Decided requests" }
            thead { tr {
                th scope="col" { "Request" }
                th scope="col" { "Became" }
                th scope="col" { "Statement" }
                th scope="col" { "Asked" }
            } }
            tbody {
                @for one in over {
                    tr {
                        th scope="row" { a href={ "/approvals/" (one.id) } { (one.identity) } span.sub { (one.target) } }
                        td data-label="Became" { (became(one.state)) }
                        td data-label="Statement" { code.cut { (visible(&one.statement.chars().take(80).collect::<String>())) } }
                        td data-label="Asked" { (time(one.created_us)) }
                    }
                }
            }
        }
    }
}

pub(super) fn became(state: ApprovalState) -> Markup {
    let kind = match state {
        ApprovalState::Pending => "warn",
        ApprovalState::Approved | ApprovalState::Consumed => "good",
        ApprovalState::Denied => "bad",
        ApprovalState::Cancelled | ApprovalState::Expired | ApprovalState::Outdated => "calm",
    };
    let word = if state == ApprovalState::Consumed { "ran" } else { state.as_str() };
    status(kind, word)
}
