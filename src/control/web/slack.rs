//! Slack's answers: a pressed button is a vote of whom the configuration maps the presser to, with the same rules as on a page.
//! No cookie counts here, and nothing is shown: who may not, and why, is in the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use reqwest::Url;

use super::Web;
use super::roles::Roles;
use crate::approval::{Approver, VoteRefused};
use crate::clock::now_us;
use crate::control::webhooks::{Pressed, SlackRefused};
use crate::identity::Principal;
use crate::principal::PrincipalKind;

/// Where Slack sends them.
pub(super) const PATH: &str = "/slack/actions";

/// Longest form: it brings the whole message along.
const MAX_FORM_BYTES: usize = 128 << 10;

pub(super) fn routes() -> Router<Web> {
    Router::new().route(PATH, post(press).layer(DefaultBodyLimit::max(MAX_FORM_BYTES)))
}

async fn press(State(web): State<Web>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let pressed = match pressed(&web, &headers, &body) {
        Ok(Some(pressed)) => pressed,
        Ok(None) => return StatusCode::OK,
        Err(refused) => {
            tracing::warn!(%refused, "a press of a button in Slack does not count");
            return match refused {
                SlackRefused::Nobody(_) => StatusCode::FORBIDDEN,
                SlackRefused::Form => StatusCode::BAD_REQUEST,
                _ => StatusCode::UNAUTHORIZED,
            };
        }
    };
    match vote(&web, &pressed).await {
        Ok(()) => StatusCode::OK,
        Err(refused) => {
            let Pressed { identity, id, .. } = &pressed;
            tracing::warn!(refused, identity, approval = id, "a vote in Slack does not count");
            StatusCode::FORBIDDEN
        }
    }
}

fn pressed(web: &Web, headers: &HeaderMap, body: &Bytes) -> Result<Option<Pressed>, SlackRefused> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let timestamp = text("x-slack-request-timestamp").ok_or(SlackRefused::Signature)?;
    let signature = text("x-slack-signature").ok_or(SlackRefused::Signature)?;
    let now_s = now_us() / 1_000_000;
    let mut refused = SlackRefused::Signature;
    for door in &web.settings().slack {
        match door.verify(timestamp, signature, body, now_s) {
            // One app may serve several webhooks, each of which knows its own people.
            Ok(()) => match door.pressed(&payload(body).ok_or(SlackRefused::Form)?) {
                Err(nobody @ SlackRefused::Nobody(_)) => refused = nobody,
                pressed => return pressed,
            },
            Err(SlackRefused::Signature) => {}
            Err(other) => return Err(other),
        }
    }
    Err(refused)
}

/// The form's one field.
fn payload(body: &[u8]) -> Option<String> {
    let mut url = Url::parse("http://form/").ok()?;
    url.set_query(std::str::from_utf8(body).ok());
    let found = url.query_pairs().find(|(name, _)| name == "payload");
    found.map(|(_, value)| value.into_owned())
}

/// The vote of this identity, if it is let in here and may vote.
async fn vote(web: &Web, pressed: &Pressed) -> Result<(), String> {
    let snapshot = web.snapshot();
    let person = Principal {
        subject: pressed.identity.clone(),
        kind: PrincipalKind::Human,
        groups: Vec::new(),
        attributes: BTreeMap::new(),
    };
    let person = snapshot.directory.welcome(Arc::new(person));
    let person = person.map_err(|_| "the identity is revoked".to_owned())?;
    let roles = Roles::of(&snapshot.policies, &person).unwrap_or_default();
    if !roles.approve {
        return Err("no policy lets them approve".to_owned());
    }
    let approver = Approver { identity: person.subject.clone(), groups: person.groups.clone() };
    let voted = web.deps().desk.vote(&pressed.id, &approver, pressed.approve, "in Slack").await;
    voted.map(drop).map_err(|refused: VoteRefused| refused.to_string())
}
