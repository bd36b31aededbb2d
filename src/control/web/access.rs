//! My access: who I am here, which databases I may use, and how I connect.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};

use super::Web;
use super::commands;
use super::form::{Nothing, Sent};
use super::page::{
    Asked, Done, PageError, Tab, chips, copyable, csrf, empty, notice, page, status, time, used,
};
use super::session::Visitor;
use crate::clock::now_us;
use crate::control::TargetStatus;
use crate::control::passwords::{self, PasswordAnswer, PasswordInfo, PasswordRequest};
use crate::control::way::Way;

pub(super) async fn show(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    done: Asked<Done>,
) -> Result<Response, PageError> {
    let snapshot = web.snapshot();
    let mut targets = web.deps().gateway.status().targets;
    targets.retain(|target| snapshot.policies.may_use(&visitor.principal, &target.name, now_us()));
    let passwords = passwords::list(web.deps(), visitor.name()).await?.passwords;
    let live: Vec<_> = passwords.into_iter().rev().filter(|one| one.is_live(now_us())).collect();
    let done = done.ok().and_then(|Query(done)| done.done);
    let content = html! {
        h1 { "My access" }
        (notice(done.as_deref()))
        (who(&web, &visitor))
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
        @if !targets.is_empty() { (minting(&visitor, &targets)) }
        @if !live.is_empty() { (kept(&visitor, &live)) }
    };
    Ok(page(&visitor, Tab::Access, "My access", &content))
}

fn who(web: &Web, visitor: &Visitor) -> Markup {
    let session = &visitor.session;
    let door = web.settings().doors().into_iter().find(|door| door.source == session.source);
    let by = door.map_or_else(|| session.source.clone(), |door| door.title);
    html! {
        section.card aria-labelledby="you" {
            h2 #you { (visitor.name()) }
            dl.facts {
                div { dt { "Groups" } dd { (chips(&visitor.principal.groups, "none")) } }
                div { dt { "Roles here" } dd { (chips(&visitor.roles.words(), "none")) } }
                div { dt { "Signed in" } dd { (time(session.created_us)) } }
                div { dt { "By" } dd { (by) " from " (session.address) } }
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
                        ". " code { (commands::OWN) } " signs you in by itself; the other commands ask for a password, "
                        "and programs read it from " code { "ROWGATE_PASSWORD" } "."
                    }
                    div.ways {
                        @for (name, text) in commands::all(&web.settings(), &target.name, way, visitor.name()) {
                            details name={ "way-" (target.name) } open[name == commands::OWN] {
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

fn minting(visitor: &Visitor, targets: &[TargetStatus]) -> Markup {
    html! {
        section.card.mint aria-labelledby="mint" {
            h2 #mint { "A password for me" }
            p.hint {
                "Any client and driver takes it. It opens what you may use now, until it ends; you can end it before."
            }
            form method="post" action="/passwords" {
                (csrf(visitor))
                label { "Databases"
                    select name="target" {
                        option value="" { "every database above" }
                        @for target in targets { option value=(target.name) { (target.name) } }
                    }
                }
                label { "Name it"
                    input name="label" maxlength="64" placeholder="notebook" autocomplete="off";
                }
                button.primary type="submit" { "Make a password" }
            }
        }
    }
}

fn kept(visitor: &Visitor, live: &[PasswordInfo]) -> Markup {
    html! {
        section aria-labelledby="kept" {
            h2 #kept { "My passwords" }
            table.stack {
                caption.sr { "My live session passwords" }
                thead { tr {
                    th scope="col" { "Name" }
                    th scope="col" { "Databases" }
                    th scope="col" { "Last used" }
                    th scope="col" { "Ends" }
                    th scope="col" { span.sr { "End it" } }
                } }
                tbody {
                    @for one in live {
                        tr {
                            th scope="row" {
                                @if one.label.is_empty() { span.muted { "not named" } } @else { (one.label) }
                                span.sub { code { (one.id) } }
                            }
                            td data-label="Databases" { (chips(&one.targets, "all")) }
                            td data-label="Last used" { (used(one.used_us, one.used_from.as_deref())) }
                            td data-label="Ends" { (time(one.expires_us)) }
                            td.act {
                                form method="post" action={ "/passwords/" (one.id) "/revoke" } {
                                    (csrf(visitor))
                                    button.quiet type="submit" aria-label={ "End it: password " (one.id) } { "End it" }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[derive(serde::Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    target: String,
    #[serde(default)]
    label: String,
}

/// Makes a session password, and shows it this once.
pub(super) async fn mint(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    Sent(wanted): Sent<Wanted>,
) -> Result<Response, PageError> {
    let targets = Some(wanted.target).filter(|target| !target.is_empty());
    let request = PasswordRequest {
        targets: targets.into_iter().collect(),
        label: wanted.label.trim().to_owned(),
        ..PasswordRequest::default()
    };
    let answer = passwords::mint(web.deps(), &visitor.principal, &request).await?;
    Ok(page(&visitor, Tab::Access, "A new password", &shown(&web, &visitor, &answer)))
}

fn shown(web: &Web, visitor: &Visitor, answer: &PasswordAnswer) -> Markup {
    let opens = |target: &&TargetStatus| answer.reach.iter().any(|one| one.target == target.name);
    let status = web.deps().gateway.status();
    let reached = status.targets.iter().filter(opens);
    let ways = reached.filter_map(|target| Some((target, commands::way(&web.settings(), target)?)));
    html! {
        div.card.secret {
            h1 { "A password for " (visitor.name()) }
            p.strong { "Copy it now: it is shown this once." }
            (copyable(&answer.password, "Copy the password"))
            dl.facts {
                div { dt { "Opens" } dd { (chips(&answer.info.targets, "every database that you may use")) } }
                div { dt { "Ends" } dd { (time(answer.info.expires_us)) } }
            }
        }
        @for (target, way) in ways {
            section.card {
                h2 { "Now connect to " (target.name) }
                (copyable(&commands::first(&way, visitor.name()), &format!("Copy the command for {}", target.name)))
            }
        }
        p { a.button href="/" { "Back to my access" } }
    }
}

pub(super) async fn revoke(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    _sent: Sent<Nothing>,
) -> Result<Response, PageError> {
    passwords::revoke(web.deps(), &visitor.principal, &id).await?;
    Ok(Redirect::to("/?done=password-ended").into_response())
}
