//! Identities that have tokens or were revoked: seen by auditors, changed by admins.

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};

use super::Web;
use super::form::Sent;
use super::page::{Asked, Done, PageError, Tab, csrf, empty, notice, page, status, time};
use super::session::Visitor;
use crate::clock::now_us;
use crate::control::identities::{identities, restore_by, revoke_by};
use crate::control::{IdentityInfo, IdentityRequest};

pub(super) async fn list(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    done: Asked<Done>,
) -> Result<Response, PageError> {
    visitor.must(visitor.roles.audit, "auditor")?;
    let all = identities(&web.deps().store, now_us()).await?.identities;
    let done = done.ok().and_then(|Query(done)| done.done);
    let content = html! {
        h1 { "Identities" }
        p.lead {
            "Who has a gateway token, and who was revoked. People and programs that come by an identity "
            "provider or a certificate show up here once they are revoked."
        }
        (notice(done.as_deref()))
        @if visitor.roles.administer { (revoke_anyone(&visitor)) }
        @if all.is_empty() {
            (empty("No identities yet.", "Make a token, and its identity is listed here."))
        } @else {
            (table(&visitor, &all))
        }
    };
    Ok(page(&visitor, Tab::Identities, "Identities", &content))
}

fn table(visitor: &Visitor, all: &[IdentityInfo]) -> Markup {
    html! {
        table.stack {
            caption.sr { "Identities" }
            thead { tr {
                th scope="col" { "Identity" }
                th scope="col" { "May log in" }
                th scope="col" { "Live tokens" }
                th scope="col" { "Revoked" }
                th scope="col" { span.sr { "Change it" } }
            } }
            tbody {
                @for one in all {
                    tr {
                        th scope="row" { (one.identity) }
                        td data-label="May log in" {
                            @if one.revoked_us.is_some() { (status("bad", "revoked")) }
                            @else { (status("good", "yes")) }
                        }
                        td data-label="Live tokens" { (one.live_tokens) }
                        td data-label="Revoked" {
                            @match one.revoked_us {
                                None => span.muted { "—" },
                                Some(at) => {
                                    (time(at))
                                    span.sub {
                                        "by " (one.revoked_by.as_deref().unwrap_or("?"))
                                        @if let Some(reason) = one.reason.as_deref().filter(|r| !r.is_empty()) { ": " (reason) }
                                    }
                                }
                            }
                        }
                        td.act {
                            @if visitor.roles.administer {
                                @if one.revoked_us.is_some() { (restoring(visitor, &one.identity)) }
                                @else { (revoking(visitor, &one.identity)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn revoke_anyone(visitor: &Visitor) -> Markup {
    html! {
        details.card.tool {
            summary { "Revoke someone who is not in the list…" }
            form method="post" action="/identities/revoke" {
                (csrf(visitor))
                label { "Identity" input name="identity" required maxlength="95" autocomplete="off" spellcheck="false"; }
                label { "Reason, for the record" input name="reason" maxlength="200"; }
                p.hint { "Whichever way it comes, it is out: its sessions end within a second, these pages included." }
                button.danger type="submit" { "Revoke" }
            }
        }
    }
}

fn revoking(visitor: &Visitor, identity: &str) -> Markup {
    html! {
        details.confirm {
            summary aria-label={ "Revoke " (identity) } { "Revoke…" }
            form method="post" action="/identities/revoke" {
                (csrf(visitor))
                input type="hidden" name="identity" value=(identity);
                label { "Reason, for the record" input name="reason" maxlength="200"; }
                p { "Its sessions end within a second, whichever way it came." }
                button.danger type="submit" { "Revoke the identity" }
            }
        }
    }
}

fn restoring(visitor: &Visitor, identity: &str) -> Markup {
    html! {
        details.confirm {
            summary aria-label={ "Restore " (identity) } { "Restore…" }
            form method="post" action="/identities/restore" {
                (csrf(visitor))
                input type="hidden" name="identity" value=(identity);
                label { "Reason, for the record" input name="reason" maxlength="200"; }
                button.primary type="submit" { "Let it log in again" }
            }
        }
    }
}

#[derive(serde::Deserialize)]
pub(super) struct Change {
    identity: String,
    #[serde(default)]
    reason: String,
}

pub(super) async fn revoke(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    Sent(Change { identity, reason }): Sent<Change>,
) -> Result<Response, PageError> {
    visitor.must(visitor.roles.administer, "admin")?;
    revoke_by(web.deps(), &visitor.caller(), &IdentityRequest { identity, reason }).await?;
    Ok(Redirect::to("/identities?done=revoked").into_response())
}

pub(super) async fn restore(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    Sent(Change { identity, reason }): Sent<Change>,
) -> Result<Response, PageError> {
    visitor.must(visitor.roles.administer, "admin")?;
    restore_by(web.deps(), &visitor.caller(), &IdentityRequest { identity, reason }).await?;
    Ok(Redirect::to("/identities?done=restored").into_response())
}
