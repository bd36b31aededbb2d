//! The page on which a person agrees to what a device asks for (RFC 8628): a code from its screen, what it wants and from
//! where, and two buttons. The device's own calls are forms without a cookie, served beside it.

use axum::Extension;
use axum::extract::{Query, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use maud::{Markup, html};

use super::Web;
use super::form::Sent;
use super::page::{Asked, PageError, Tab, chips, csrf, page, time};
use super::session::{From, Visitor};
use crate::control::device::{Front, confirm, deny, show as asked_for};

/// The code as a link brings it, or a person types it.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Code {
    #[serde(default)]
    code: String,
}

pub(super) async fn show(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    code: Asked<Code>,
) -> Result<Response, PageError> {
    let code = code.ok().map(|Query(code)| code.code).unwrap_or_default();
    let content = if code.trim().is_empty() {
        typing(&visitor)
    } else {
        let asked = asked_for(web.deps(), &code, &visitor.principal)?;
        agreeing(&visitor, &code, &asked)
    };
    Ok(page(&visitor, Tab::Other, "Connect a device", &content))
}

fn typing(_visitor: &Visitor) -> Markup {
    html! {
        div.narrow.card {
            h1 { "Connect a device" }
            p { "Type the code that the device shows." }
            form method="get" action="/device" {
                label { "Code"
                    input.code name="code" required maxlength="16" autocomplete="off" autocapitalize="characters" spellcheck="false";
                }
                button.primary.wide type="submit" { "Go on" }
            }
        }
    }
}

fn agreeing(visitor: &Visitor, code: &str, asked: &crate::control::Asked) -> Markup {
    let from = asked.address.map_or_else(|| "an unknown address".to_owned(), |a| a.to_string());
    let networks: Vec<String> = asked.networks.iter().map(ToString::to_string).collect();
    html! {
        div.narrow.card {
            h1 { "Let this device connect as you?" }
            p { "It gets a password for your databases. Agree only if it is yours, and shows this very code." }
            p.device-code { code { (code) } }
            dl.facts {
                div { dt { "Asked" } dd { (time(asked.asked_us)) } }
                div { dt { "From" } dd { (from) } }
                div { dt { "Databases" } dd { (chips(&asked.targets, "every one that you may use")) } }
                @if !networks.is_empty() { div { dt { "Good from" } dd { (chips(&networks, "")) } } }
                @if let Some(ttl_s) = asked.ttl_s { div { dt { "For" } dd { (ttl_s.div_ceil(60)) " minutes" } } }
                @if !asked.label.is_empty() { div { dt { "It calls itself" } dd { (asked.label) } } }
            }
            form method="post" action="/device" {
                (csrf(visitor))
                input type="hidden" name="code" value=(code);
                p.row {
                    button.primary type="submit" name="verdict" value="agree" { "Yes, connect it" }
                    button.danger type="submit" name="verdict" value="refuse" { "No" }
                }
            }
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Agree,
    Refuse,
}

#[derive(serde::Deserialize)]
pub(super) struct Decision {
    code: String,
    verdict: Verdict,
}

pub(super) async fn decide(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    Sent(Decision { code, verdict }): Sent<Decision>,
) -> Result<Response, PageError> {
    let (title, text) = match verdict {
        Verdict::Agree => {
            confirm(web.deps(), &code, &visitor.principal)?;
            (
                "Connected",
                "The device has what it needs in a moment. You can end it under My access.",
            )
        }
        Verdict::Refuse => {
            deny(web.deps(), &code, &visitor.principal)?;
            ("Not connected", "The device is told no.")
        }
    };
    let content = html! {
        div.narrow.card {
            h1 { (title) }
            p { (text) }
            p { a.button href="/" { "My access" } }
        }
    };
    Ok(page(&visitor, Tab::Other, title, &content))
}

/// Tells the device's calls from where they come, and what this site is called.
pub(super) async fn front(State(web): State<Web>, mut request: Request, next: Next) -> Response {
    let address = request.extensions().get::<From>().map(|from| from.0);
    let site = Some(web.settings().url.clone());
    request.extensions_mut().insert(Front { address, site });
    next.run(request).await
}
