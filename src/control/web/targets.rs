//! The databases, and the gateway itself.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use maud::html;

use super::Web;
use super::page::{PageError, Tab, page, status, time};
use super::session::Visitor;

pub(super) async fn list(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Response, PageError> {
    visitor.must(visitor.roles.audit, "auditor")?;
    let now = web.deps().gateway.status();
    let content = html! {
        h1 { "Targets" }
        div #live data-live="10" {
            @for target in &now.targets {
                article.card {
                    h2 {
                        (target.name) " "
                        (status(if target.up { "good" } else { "bad" }, if target.up { "up" } else { "down" }))
                    }
                    dl.facts {
                        div { dt { "Clients connect to" } dd { code { (target.listen) } } }
                        div { dt { "Database" } dd { code { (target.address) } } }
                        @if !target.detail.is_empty() { div { dt { "State" } dd { (target.detail) } } }
                    }
                }
            }
            section.card aria-labelledby="gateway" {
                h2 #gateway {
                    "This gateway "
                    @match &now.not_ready {
                        None => (status("good", "ready")),
                        Some(_) => (status("bad", "not ready")),
                    }
                }
                dl.facts {
                    @if let Some(why) = &now.not_ready { div { dt { "Why not" } dd { (why) } } }
                    div { dt { "Version" } dd { (now.version) } }
                    div { dt { "Started" } dd { (time(now.started_us)) } }
                    div { dt { "Sessions" } dd { (now.sessions) } }
                    div { dt { "Policy" } dd { code.digest title=(now.policy_version) { (now.policy_version.chars().take(16).collect::<String>()) } } }
                    @if let Some(why) = &now.reload_error { div { dt { "Last reload" } dd { "failed: " (why) } } }
                    @if !now.needs_restart.is_empty() {
                        div { dt { "Waits for a restart" } dd { (now.needs_restart.join(", ")) } }
                    }
                    div { dt { "Record" } dd {
                        @if now.audit.ok { (status("good", "taken")) } @else { (status("bad", "failing")) }
                        " " (now.audit.records) " records since the start, durability " (now.audit.durability)
                        @if !now.audit.detail.is_empty() { ": " (now.audit.detail) }
                    } }
                }
            }
        }
    };
    Ok(page(&visitor, Tab::Targets, "Targets", &content))
}
