//! Gateway tokens: seen by auditors, made, replaced and revoked by admins. A new one is in one answer and nowhere else.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};

use super::Web;
use super::form::{Nothing, Sent};
use super::page::{
    Asked, Done, PageError, Tab, chips, copyable, csrf, empty, notice, page, status, time, used,
};
use super::session::Visitor;
use crate::clock::now_us;
use crate::control::operate::listed;
use crate::control::tokens::{create_by, revoke_by, rotate_by};
use crate::control::{NewTokenRequest, RotateRequest, TokenAnswer, TokenInfo};
use crate::identity::PrincipalKind;

pub(super) async fn list(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    done: Asked<Done>,
) -> Result<Response, PageError> {
    visitor.must(visitor.roles.audit, "auditor")?;
    let all = web.deps().store.tokens().await?.into_iter().map(TokenInfo::from);
    let (live, ended): (Vec<_>, Vec<_>) = all.rev().partition(|token| state(token).0 != "calm");
    let done = done.ok().and_then(|Query(done)| done.done);
    let content = html! {
        h1 { "Tokens" }
        p.lead { "What agents and programs log in with. Of each token only a check is kept: a new one is shown once." }
        (notice(done.as_deref()))
        @if visitor.roles.administer { (creating(&web, &visitor)) }
        @if live.is_empty() {
            (empty("No live tokens.", "Agents that come by an identity provider or a certificate need none."))
        } @else {
            (table(&visitor, &live, "Live tokens"))
        }
        @if !ended.is_empty() {
            details.older {
                summary { (ended.len()) " that ended" }
                (table(&visitor, &ended, "Ended tokens"))
            }
        }
    };
    Ok(page(&visitor, Tab::Tokens, "Tokens", &content))
}

fn state(token: &TokenInfo) -> (&'static str, &'static str) {
    if token.revoked_us.is_some() {
        ("calm", "revoked")
    } else if token.expires_us.is_some_and(|end| end <= now_us()) {
        ("calm", "expired")
    } else if token.replaced_by.is_some() {
        ("warn", "replaced")
    } else {
        ("good", "live")
    }
}

fn table(visitor: &Visitor, tokens: &[TokenInfo], caption: &str) -> Markup {
    html! {
        table.stack {
            caption.sr { (caption) }
            thead { tr {
                th scope="col" { "Whose" }
                th scope="col" { "State" }
                th scope="col" { "Groups" }
                th scope="col" { "Only for" }
                th scope="col" { "Last used" }
                th scope="col" { "Ends" }
                th scope="col" { span.sr { "Change it" } }
            } }
            tbody {
                @for token in tokens {
                    tr {
                        th scope="row" { (token.identity) span.sub { code { (token.id) } " " (token.kind.as_str()) } }
                        td data-label="State" { (status(state(token).0, state(token).1)) }
                        td data-label="Groups" { (chips(&token.groups, "none")) }
                        td data-label="Only for" { (scope(token)) }
                        td data-label="Last used" { (used(token.used_us, token.used_from.as_deref())) }
                        td data-label="Ends" {
                            @match token.expires_us { None => span.muted { "never" }, Some(at) => (time(at)) }
                        }
                        td.act {
                            @if visitor.roles.administer && state(token).0 != "calm" { (changing(visitor, token)) }
                        }
                    }
                }
            }
        }
    }
}

fn scope(token: &TokenInfo) -> Markup {
    let networks: Vec<String> = token.networks.iter().map(ToString::to_string).collect();
    html! {
        @if token.targets.is_empty() && networks.is_empty() { span.muted { "anywhere" } }
        @if !token.targets.is_empty() { (chips(&token.targets, "")) }
        @if !networks.is_empty() { (chips(&networks, "")) }
    }
}

fn changing(visitor: &Visitor, token: &TokenInfo) -> Markup {
    html! {
        details.confirm {
            summary aria-label={ "Change token " (token.id) " of " (token.identity) } { "Change…" }
            @if token.replaced_by.is_none() {
                form method="post" action={ "/tokens/" (token.id) "/rotate" } {
                    (csrf(visitor))
                    p { "A new token takes its place; this one is good for an hour longer." }
                    button.primary type="submit" { "Rotate" }
                }
            }
            form method="post" action={ "/tokens/" (token.id) "/revoke" } {
                (csrf(visitor))
                p { "Its sessions end within a second." }
                button.danger type="submit" { "Revoke" }
            }
        }
    }
}

fn creating(web: &Web, visitor: &Visitor) -> Markup {
    let targets = web.deps().gateway.status().targets;
    html! {
        details.card.tool {
            summary { "New token…" }
            form method="post" action="/tokens" {
                (csrf(visitor))
                label { "Identity" input name="identity" required maxlength="95" autocomplete="off" spellcheck="false"; }
                label { "Groups, with commas between" input name="groups" placeholder="agents" autocomplete="off" spellcheck="false"; }
                label { "Kind"
                    select name="kind" {
                        option value="agent" selected { "agent" }
                        option value="service" { "service" }
                        option value="human" { "human" }
                    }
                }
                label { "Good for"
                    select name="days" {
                        option value="1" { "a day" }
                        option value="7" { "a week" }
                        option value="30" selected { "30 days" }
                        option value="90" { "90 days" }
                        option value="365" { "a year" }
                        option value="" { "as long as it is not revoked" }
                    }
                }
                label { "Target"
                    select name="target" {
                        option value="" { "every target" }
                        @for target in &targets { option value=(target.name) { (target.name) } }
                    }
                }
                label { "Only from these networks, with commas between" input name="networks" placeholder="10.0.0.0/8" autocomplete="off" spellcheck="false"; }
                button.primary type="submit" { "Make the token" }
            }
        }
    }
}

#[derive(serde::Deserialize)]
pub(super) struct New {
    identity: String,
    #[serde(default)]
    groups: String,
    kind: PrincipalKind,
    #[serde(default)]
    days: String,
    #[serde(default)]
    target: String,
    #[serde(default)]
    networks: String,
}

impl New {
    fn request(self) -> Result<NewTokenRequest, PageError> {
        let networks =
            listed(&self.networks).iter().map(|text| text.parse()).collect::<Result<_, _>>();
        let networks = networks.map_err(|_| {
            let text = "The networks are not understood. No token was made.".to_owned();
            let mend = "Write them as 10.0.0.0/8 or 2001:db8::/32, with commas between.";
            PageError::new(StatusCode::BAD_REQUEST, "Not accepted", text, mend)
        })?;
        Ok(NewTokenRequest {
            identity: self.identity.trim().to_owned(),
            kind: self.kind,
            groups: listed(&self.groups),
            expires_s: self.days.parse::<u64>().ok().map(|days| days.saturating_mul(86_400)),
            targets: listed(&self.target),
            networks,
        })
    }
}

pub(super) async fn create(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    Sent(new): Sent<New>,
) -> Result<Response, PageError> {
    visitor.must(visitor.roles.administer, "admin")?;
    let answer = create_by(web.deps(), &visitor.caller(), &new.request()?).await?;
    Ok(shown(&visitor, &answer))
}

pub(super) async fn rotate(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    _sent: Sent<Nothing>,
) -> Result<Response, PageError> {
    visitor.must(visitor.roles.administer, "admin")?;
    let request = RotateRequest { overlap_s: None };
    let answer = rotate_by(web.deps(), &visitor.caller(), &id, &request).await?;
    Ok(shown(&visitor, &answer))
}

pub(super) async fn revoke(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    _sent: Sent<Nothing>,
) -> Result<Response, PageError> {
    visitor.must(visitor.roles.administer, "admin")?;
    revoke_by(web.deps(), &visitor.caller(), &id).await?;
    Ok(Redirect::to("/tokens?done=token-revoked").into_response())
}

fn shown(visitor: &Visitor, answer: &TokenAnswer) -> Response {
    let content = html! {
        div.card.secret {
            h1 { "A token for " (answer.info.identity) }
            p.strong { "Copy it now: it is shown this once." }
            (copyable(&answer.token, "Copy the token"))
            dl.facts {
                div { dt { "Id" } dd { code { (answer.info.id) } } }
                div { dt { "Groups" } dd { (chips(&answer.info.groups, "none")) } }
                div { dt { "Ends" } dd { @match answer.info.expires_us { None => "never", Some(at) => (time(at)) } } }
            }
            p { a.button href="/tokens" { "Back to the tokens" } }
        }
    };
    page(visitor, Tab::Tokens, "A new token", &content)
}
