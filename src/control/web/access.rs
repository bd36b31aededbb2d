//! My access: who I am here, which databases I may use, and how I connect.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};

use super::commands::{self, Way};
use super::page::{PageError, Tab, chips, copyable, empty, page, status, time};
use super::session::Visitor;
use super::{Web, now_us};
use crate::control::TargetStatus;

pub(super) async fn show(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Response, PageError> {
    let snapshot = web.snapshot();
    let mut targets = web.deps().gateway.status().targets;
    targets.retain(|target| snapshot.policies.may_use(&visitor.principal, &target.name, now_us()));
    let content = html! {
        h1 { "My access" }
        (who(&visitor))
        section aria-labelledby="databases" {
            h2 #databases { "Databases" }
            @if targets.is_empty() {
                (empty(
                    "No database is open to you yet.",
                    "Policy opens them to groups. Ask whoever runs this gateway which group you need, then sign in again.",
                ))
            } @else {
                @for target in &targets { (database(&web, &visitor, target)) }
            }
        }
    };
    Ok(page(&visitor, Tab::Access, "My access", &content))
}

fn who(visitor: &Visitor) -> Markup {
    let session = &visitor.session;
    html! {
        section.card aria-labelledby="you" {
            h2 #you { (visitor.name()) }
            dl.facts {
                div { dt { "Groups" } dd { (chips(&visitor.principal.groups, "none")) } }
                div { dt { "Roles here" } dd { (chips(&visitor.roles.words(), "none")) } }
                div { dt { "Signed in" } dd { (time(session.created_us)) } }
                div { dt { "By" } dd { (session.source) " from " (session.address) } }
                div { dt { "Until" } dd { (time(session.expires_us)) } }
            }
        }
    }
}

fn database(web: &Web, visitor: &Visitor, target: &TargetStatus) -> Markup {
    let way = commands::way(&web.settings(), target);
    html! {
        article.card.database {
            h3 {
                (target.name) " "
                (status(if target.up { "good" } else { "bad" }, if target.up { "up" } else { "down" }))
            }
            @match &way {
                None => p { "It has no address for clients." },
                Some(way) => {
                    p.where { (address(way)) }
                    p.hint {
                        "Your user name is " code { (visitor.name()) }
                        ". Commands ask for the password; programs read it from "
                        code { "ROWGATE_PASSWORD" } "."
                    }
                    div.ways {
                        @for (name, text) in commands::all(way, visitor.name()) {
                            details name={ "way-" (target.name) } open[name == "mysql"] {
                                summary { (name) }
                                (copyable(&text, &format!("Copy the {name} command for {}", target.name)))
                            }
                        }
                    }
                    @if matches!(way, Way::Tcp { tls: true, .. }) {
                        p.hint {
                            "The gateway’s certificate is checked against this machine’s authorities. "
                            "If yours is another, name its file instead."
                        }
                    }
                }
            }
        }
    }
}

fn address(way: &Way) -> Markup {
    match way {
        Way::Tcp { host, port, tls } => html! {
            code { (host) ":" (port) } " " @if *tls { "with TLS" } @else { "on the gateway’s own machine" }
        },
        Way::Socket(path) => html! { code { (path) } " on the gateway’s own machine" },
    }
}
