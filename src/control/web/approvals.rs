//! What waits for an approval, and what became of it. A decision is made on a page that shows the whole statement.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};

use super::Web;
use super::form::Sent;
use super::page::{Asked, Done, PageError, Tab, chips, csrf, empty, notice, page, status, time};
use super::session::Visitor;
use crate::approval::Approver;
use crate::control::ErrorAnswer;
use crate::control::approvals::shorten;
use crate::store::{Approval, ApprovalState};

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
    let seen = |all: Vec<Approval>| all.into_iter().filter(|one| may_see(&visitor, one));
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

fn may_see(visitor: &Visitor, approval: &Approval) -> bool {
    visitor.roles.audit || visitor.name() == approval.identity || is_asked(visitor, approval)
}

fn is_asked(visitor: &Visitor, approval: &Approval) -> bool {
    let groups = &visitor.principal.groups;
    visitor.roles.approve && approval.approver_groups.iter().any(|group| groups.contains(group))
}

fn may_decide(visitor: &Visitor, approval: &Approval) -> bool {
    is_asked(visitor, approval)
        && visitor.name() != approval.identity
        && !approval.is_for(visitor.name())
        && approval.votes.iter().all(|vote| vote.by != visitor.name())
}

fn summary(one: &Approval) -> Markup {
    let mut statement = one.statement.clone();
    shorten(&mut statement);
    html! {
        article.card.request {
            h3 { (one.identity) " wants to " code { (one.verb.to_uppercase()) } " on " (one.target) }
            p.why { (one.message) }
            pre.sql { code { (statement) } }
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
                        td data-label="Statement" { code.cut { (one.statement.chars().take(80).collect::<String>()) } }
                        td data-label="Asked" { (time(one.created_us)) }
                    }
                }
            }
        }
    }
}

fn became(state: ApprovalState) -> Markup {
    let kind = match state {
        ApprovalState::Pending => "warn",
        ApprovalState::Approved | ApprovalState::Consumed => "good",
        ApprovalState::Denied => "bad",
        ApprovalState::Cancelled | ApprovalState::Expired => "calm",
    };
    let word = if state == ApprovalState::Consumed { "ran" } else { state.as_str() };
    status(kind, word)
}

pub(super) async fn show(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    done: Asked<Done>,
) -> Result<Response, PageError> {
    let one = visible(&web, &visitor, &id).await?;
    let done = done.ok().and_then(|Query(done)| done.done);
    let tables = if one.tables.is_empty() { "none" } else { "" };
    let content = html! {
        p.back { a href="/approvals" { "Approvals" } }
        h1 { (one.identity) " wants to " code { (one.verb.to_uppercase()) } " on " (one.target) " " (became(one.state)) }
        (notice(done.as_deref()))
        section.card aria-labelledby="statement" {
            h2 #statement { "The whole statement" }
            pre.sql tabindex="0" { code { (one.statement) } }
            dl.facts {
                div { dt { "Held because" } dd { (one.message) " " span.muted { "(rule " (one.rule) ")" } } }
                div { dt { "Tables" } dd { (chips(&one.tables, tables)) } }
                div { dt { "Database" } dd { (one.schema.as_deref().unwrap_or("none chosen")) } }
                div { dt { "Who asks" } dd { (one.identity) " " (chips(&one.groups, "in no group")) } }
                @if let Some(person) = &one.on_behalf_of { div { dt { "On behalf of" } dd { (person) } } }
                div { dt { "Asked" } dd { (time(one.created_us)) } }
                div { dt { "Ends" } dd { (time(one.expires_us)) } }
                div { dt { "Needs" } dd { (one.approvers) " of " (chips(&one.approver_groups, "nobody")) } }
                div { dt { "Request" } dd { code { (one.id) } } }
            }
        }
        @if !one.votes.is_empty() { (votes(&one)) }
        @if one.state == ApprovalState::Pending { (deciding(&visitor, &one)) }
    };
    Ok(page(&visitor, Tab::Approvals, "Approval", &content))
}

fn votes(one: &Approval) -> Markup {
    html! {
        section.card aria-labelledby="said" {
            h2 #said { "What was said" }
            ul.plain {
                @for vote in &one.votes {
                    li {
                        (vote.by) " " @if vote.approve { (status("good", "approved")) } @else { (status("bad", "denied")) }
                        " " (time(vote.at_us))
                        @if !vote.reason.is_empty() { p.quote { (vote.reason) } }
                    }
                }
            }
        }
    }
}

fn deciding(visitor: &Visitor, one: &Approval) -> Markup {
    let is_own = visitor.name() == one.identity;
    html! {
        @if may_decide(visitor, one) {
            section.card aria-labelledby="decide" {
                h2 #decide { "Your decision" }
                form method="post" action={ "/approvals/" (one.id) "/decide" } {
                    (csrf(visitor))
                    label { "Reason, for the requester and the record" textarea name="reason" rows="2" maxlength="600" {} }
                    p.row {
                        button.primary type="submit" name="verdict" value="approve" { "Approve" }
                        button.danger type="submit" name="verdict" value="deny" { "Deny" }
                    }
                }
            }
        } @else if is_own {
            p.notice { "You asked for this, and nobody decides their own request." }
        } @else if one.is_for(visitor.name()) {
            p.notice { "This was asked for on your behalf, and nobody decides what is for themselves." }
        }
        @if is_own || visitor.roles.administer {
            details.card.tool {
                summary { "Call it off…" }
                form method="post" action={ "/approvals/" (one.id) "/decide" } {
                    (csrf(visitor))
                    label { "Reason, for the record" input name="reason" maxlength="200"; }
                    button.danger type="submit" name="verdict" value="cancel" { "Call it off" }
                }
            }
        }
    }
}

async fn visible(web: &Web, visitor: &Visitor, id: &str) -> Result<Approval, PageError> {
    let found = web.deps().store.approval(id).await?;
    found.filter(|approval| may_see(visitor, approval)).ok_or_else(PageError::not_found)
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Approve,
    Deny,
    Cancel,
}

#[derive(serde::Deserialize)]
pub(super) struct Decision {
    verdict: Verdict,
    #[serde(default)]
    reason: String,
}

pub(super) async fn decide(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    Sent(Decision { verdict, reason }): Sent<Decision>,
) -> Result<Response, PageError> {
    let deps = web.deps();
    let approval = visible(&web, &visitor, &id).await?;
    let caller = visitor.caller();
    let done = match verdict {
        Verdict::Cancel => {
            if approval.identity != caller.identity {
                visitor.must(visitor.roles.administer, "admin")?;
                deps.record(&caller, "approval.cancel", &id)?;
            }
            let cancelled = deps.desk.cancel(&id, &caller.identity, &reason).await;
            cancelled.map_err(ErrorAnswer::from)?;
            "cancelled"
        }
        Verdict::Approve | Verdict::Deny => {
            visitor.must(visitor.roles.approve, "approver")?;
            let approve = matches!(verdict, Verdict::Approve);
            let approver = Approver { identity: caller.identity, groups: caller.groups };
            let voted = deps.desk.vote(&id, &approver, approve, &reason).await;
            voted.map_err(ErrorAnswer::from)?;
            if approve { "approved" } else { "denied" }
        }
    };
    Ok(Redirect::to(&format!("/approvals?done={done}")).into_response())
}
