//! One request: the whole statement, all that an approver should know of it, and the forms by which it is decided.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};

use super::Web;
use super::approvals::{became, is_asked, may_break_glass, may_see};
use super::form::Sent;
use super::page::{Asked, Done, PageError, Tab, chips, csrf, notice, page, status, time};
use super::session::Visitor;
use crate::approval::Approver;
use crate::control::approvals::shown;
use crate::control::{ErrorAnswer, ShownApproval};
use crate::store::{Approval, ApprovalState, Details, Parameter, Vote};
use crate::visible::visible as plain;

pub(super) async fn show(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    done: Asked<Done>,
) -> Result<Response, PageError> {
    let all = shown(web.deps(), visible(&web, &visitor, &id).await?).await?;
    let one = &all.approval;
    let done = done.ok().and_then(|Query(done)| done.done);
    let content = html! {
        p.back { a href="/approvals" { "Approvals" } }
        h1 { (one.identity) " wants to " code { (one.verb.to_uppercase()) } " on " (one.target) " " (became(one.state)) }
        (notice(done.as_deref()))
        section.card aria-labelledby="statement" {
            h2 #statement { "The whole statement" }
            pre.sql tabindex="0" { code { (plain(&one.statement)) } }
            @if let Some(layout) = &one.details.layout {
                details {
                    summary { "Laid out over lines" }
                    pre.sql tabindex="0" { code { (plain(layout)) } }
                    p.hint { "For reading. What runs is the text above." }
                }
            }
            (values(&one.details))
            (facts(&all))
        }
        @if !one.votes.is_empty() { (votes(one)) }
        @if !all.past.is_empty() { (past(&all)) }
        @if one.state == ApprovalState::Pending {
            (deciding(&visitor, &all))
            @if may_break_glass(&web, &visitor) { (glass(&web, &visitor, one)) }
        }
    };
    Ok(page(&visitor, Tab::Approvals, "Approval", &content))
}

fn votes(one: &Approval) -> Markup {
    html! {
        section.card aria-labelledby="said" {
            h2 #said { "What was said" }
            ul.plain {
                @for vote in &one.votes { li { (said(vote)) } }
            }
        }
    }
}

fn said(vote: &Vote) -> Markup {
    html! {
        (vote.by) " "
        @if vote.break_glass { (status("warn", "broke the glass")) }
        @else if vote.approve { (status("good", "approved")) }
        @else { (status("bad", "denied")) }
        " " (time(vote.at_us))
        @if !vote.reason.is_empty() { p.quote { (vote.reason) } }
    }
}

/// What was decided before on statements of the same shape.
fn past(all: &ShownApproval) -> Markup {
    html! {
        section.card aria-labelledby="before" {
            h2 #before { "Decided before, of the same shape" }
            ul.plain {
                @for past in &all.past {
                    li {
                        p { code { (past.id) } " of " (past.identity) " " (became(past.state)) }
                        @for vote in &past.votes { (said(vote)) }
                    }
                }
            }
        }
    }
}

/// All that is known of it beside its text.
fn facts(all: &ShownApproval) -> Markup {
    let one = &all.approval;
    let details = &one.details;
    let tables = if one.tables.is_empty() { "none" } else { "" };
    html! {
        dl.facts {
            div { dt { "Held because" } dd { (one.message) " " span.muted { "(rule " (one.rule) ")" } } }
            div { dt { "Tables" } dd { (chips(&one.tables, tables)) } }
            @for (table, labels) in &details.labels {
                div { dt { "Labels of " (table) } dd { (chips(labels, "none")) } }
            }
            div {
                dt { "Rows, as the database expects" }
                dd { @match details.estimated_rows { Some(rows) => { "about " (rows) }, None => { "no estimate" } } }
            }
            div { dt { "Database" } dd { (one.schema.as_deref().unwrap_or("none chosen")) } }
            div { dt { "Who asks" } dd { (one.identity) " " (chips(&one.groups, "in no group")) } }
            @if let Some(person) = &one.on_behalf_of { div { dt { "On behalf of" } dd { (person) } } }
            @if !details.source.is_empty() { div { dt { "From" } dd { (details.source) } } }
            @for (name, value) in &details.run {
                div { dt { code { (name) } } dd { (value) } }
            }
            div { dt { "Asked" } dd { (time(one.created_us)) } }
            div { dt { "Ends" } dd { (time(one.expires_us)) } }
            div { dt { "Needs" } dd { (one.approvers) " of " (chips(&one.approver_groups, "nobody")) } }
            div { dt { "Request" } dd { code { (one.id) } } }
        }
    }
}

/// What comes with the statement's text.
fn values(details: &Details) -> Markup {
    let bulk = details.parameters.iter().any(|parameter| parameter.row.is_some());
    html! {
        @if !details.parameters.is_empty() {
            h3 { "Its parameters" }
            @if bulk { p.hint { "It runs for each of many rows." } }
            ol.plain { @for parameter in &details.parameters { li { (value(parameter)) } } }
        }
        @if !details.attributes.is_empty() {
            h3 { "Query attributes, which it may read" }
            ul.plain {
                @for attribute in &details.attributes {
                    li { code { (plain(&attribute.name)) } " = " code { (plain(attribute.value.as_deref().unwrap_or("NULL"))) } }
                }
            }
        }
    }
}

fn value(parameter: &Parameter) -> Markup {
    html! {
        @if let Some(row) = parameter.row { "row " (row) ": " }
        @if let Some(column) = &parameter.column { code { (plain(column)) } " = " }
        @if parameter.masked.is_empty() {
            @match &parameter.value {
                Some(value) => { code { (plain(value)) } span.muted { " " (parameter.kind) } }
                None => code { "NULL" }
            }
        } @else {
            span.muted { "not shown: " } (chips(&parameter.masked, ""))
        }
    }
}

fn deciding(visitor: &Visitor, all: &ShownApproval) -> Markup {
    let one = &all.approval;
    let is_own = visitor.name() == one.identity;
    html! {
        @if may_decide(visitor, one) {
            section.card aria-labelledby="decide" {
                h2 #decide { "Your decision" }
                p { "An approval " (all.would(&at(all.outlook.grant_until_us))) "." }
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

fn at(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us)
        .map_or_else(|_| us.to_string(), |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

fn glass(web: &Web, visitor: &Visitor, one: &Approval) -> Markup {
    let least = web.deps().desk.break_glass_reason_chars();
    html! {
        details.card.tool {
            summary { "Break the glass…" }
            p { "In an emergency you may let it run at once and alone. That is recorded, counted and told to others." }
            form method="post" action={ "/approvals/" (one.id) "/decide" } {
                (csrf(visitor))
                label {
                    "Why nobody else could be asked (at least " (least) " characters)"
                    textarea name="reason" rows="2" required minlength=(least) maxlength="600" {}
                }
                label.check {
                    input type="checkbox" name="confirmed" value="yes" required;
                    " I have read the whole statement, and answer for it alone."
                }
                button.danger type="submit" name="verdict" value="break-glass" { "Break the glass" }
            }
        }
    }
}

fn unconfirmed() -> PageError {
    let text = "It takes a tick that you have read the statement. Nothing was done.".to_owned();
    let mend = "Go back, read it, and tick the box.";
    PageError::new(StatusCode::BAD_REQUEST, "Not confirmed", text, mend)
}

fn may_decide(visitor: &Visitor, approval: &Approval) -> bool {
    is_asked(visitor, approval)
        && visitor.name() != approval.identity
        && !approval.is_for(visitor.name())
        && approval.votes.iter().all(|vote| vote.by != visitor.name())
}

async fn visible(web: &Web, visitor: &Visitor, id: &str) -> Result<Approval, PageError> {
    let found = web.deps().store.approval(id).await?;
    found.filter(|approval| may_see(web, visitor, approval)).ok_or_else(PageError::not_found)
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Approve,
    Deny,
    Cancel,
    BreakGlass,
}

#[derive(serde::Deserialize)]
pub(super) struct Decision {
    verdict: Verdict,
    #[serde(default)]
    reason: String,
    /// `yes`, where it takes a second thought.
    #[serde(default)]
    confirmed: String,
}

pub(super) async fn decide(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    Sent(Decision { verdict, reason, confirmed }): Sent<Decision>,
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
        Verdict::BreakGlass if confirmed != "yes" => return Err(unconfirmed()),
        Verdict::BreakGlass => {
            let approver = Approver { identity: caller.identity, groups: caller.groups };
            let broken = deps.desk.break_glass(&id, &approver, &reason).await;
            broken.map_err(ErrorAnswer::from)?;
            "glass"
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
