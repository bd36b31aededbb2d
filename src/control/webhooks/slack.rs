//! Slack: a request as a message with two buttons, and who may press them.
//!
//! What others wrote is sent as plain text, which Slack shows as it stands. A button's press comes back signed; it counts
//! once, within five minutes, and for whom the configuration maps to an identity. What that identity may decide is not known
//! here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use super::Told;
use super::body::{cut, said};
use crate::approval::page_of;
use crate::config::{ApprovalEvent, StatementSent, WebhookPerson};
use crate::secret::Secret;
use crate::store::ApprovalState;

/// How old a press may be (and how far ahead Slack's clock may be): what Slack's own guide says.
const MAX_AGE_S: i64 = 300;
/// Presses that are remembered. Each is really signed, and remembered for as long as it could come again.
const MAX_SEEN: usize = 10_000;
/// Slack takes 3,000 characters in a text.
const MAX_TEXT: usize = 2_900;
/// And 150 in a header.
const MAX_HEADER: usize = 150;

/// A request, or what became of it, as a message of Block Kit.
pub(super) fn message(told: &Told, statement: StatementSent, pages: Option<&str>) -> Value {
    let approval = &told.approval;
    let what = match told.event {
        ApprovalEvent::Requested => format!(
            "{} wants to {} on {}",
            approval.identity,
            approval.verb.to_uppercase(),
            approval.target
        ),
        event => {
            let word = event.as_str().replace('_', " ");
            format!("{}: {word} by {}", approval.id, told.by)
        }
    };
    let what = cut(&what, MAX_HEADER);
    let mut blocks = vec![
        json!({ "type": "header", "text": plain(&what) }),
        json!({ "type": "section", "text": plain(&cut(&about(told), MAX_TEXT)) }),
        json!({ "type": "rich_text", "elements": [{
            "type": "rich_text_preformatted",
            "elements": [{ "type": "text", "text": cut(&said(approval, statement), MAX_TEXT) }],
        }] }),
    ];
    let mut buttons = Vec::new();
    if told.event == ApprovalEvent::Requested && approval.state == ApprovalState::Pending {
        buttons.push(button("approve", "Approve", "primary", &approval.id));
        buttons.push(button("deny", "Deny", "danger", &approval.id));
    }
    if let Some(pages) = pages {
        let url = page_of(pages, &approval.id);
        let text = plain("See all of it");
        buttons.push(json!({ "type": "button", "action_id": "open", "text": text, "url": url }));
    }
    if !buttons.is_empty() {
        blocks.push(json!({ "type": "actions", "block_id": approval.id, "elements": buttons }));
    }
    json!({ "text": what, "blocks": blocks })
}

fn about(told: &Told) -> String {
    let approval = &told.approval;
    let mut text = format!(
        "{}\n{} of {} must agree. Rule {}. Request {}.",
        approval.message,
        approval.approvers,
        approval.approver_groups.join(", "),
        approval.rule,
        approval.id
    );
    if !approval.tables.is_empty() {
        text.push_str(&format!("\nTables: {}.", approval.tables.join(", ")));
    }
    if let Some(person) = &approval.on_behalf_of {
        text.push_str(&format!("\nOn behalf of {person}."));
    }
    let last = approval.votes.last().filter(|_| told.event != ApprovalEvent::Requested);
    if let Some(vote) = last.filter(|vote| !vote.reason.is_empty()) {
        text.push_str(&format!("\n{}: {}", vote.by, vote.reason));
    }
    text
}

fn plain(text: &str) -> Value {
    json!({ "type": "plain_text", "text": text, "emoji": false })
}

fn button(action: &str, text: &str, style: &str, id: &str) -> Value {
    let text = plain(text);
    json!({ "type": "button", "action_id": action, "text": text, "style": style, "value": id })
}

/// Where presses of one webhook's buttons come in.
pub struct SlackDoor {
    key: hmac::Key,
    /// Slack's ids, and whose they are.
    people: HashMap<String, String>,
    /// The signatures that were used, and until when each could come again, in seconds.
    seen: Mutex<HashMap<String, i64>>,
}

/// Somebody pressed a button.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pressed {
    /// The identity.
    pub identity: String,
    /// The request.
    pub id: String,
    /// Yes or no.
    pub approve: bool,
}

/// Why a press does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlackRefused {
    /// Not signed by this secret.
    #[error("the signature is not Slack's")]
    Signature,
    /// Signed too long ago, or in the future.
    #[error("it is older than five minutes")]
    Stale,
    /// It came before.
    #[error("it has been used before")]
    Replayed,
    /// Signed, but not of this form.
    #[error("it is no press of these buttons")]
    Form,
    /// Signed, by somebody who is nobody here.
    #[error("Slack's member {0} is nobody here; map them with [[webhooks.people]]")]
    Nobody(String),
}

#[derive(serde::Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    user: User,
    actions: Vec<Action>,
}

#[derive(serde::Deserialize)]
struct User {
    id: String,
}

#[derive(serde::Deserialize)]
struct Action {
    action_id: String,
    #[serde(default)]
    value: String,
}

impl SlackDoor {
    /// By this signing secret, for these people.
    pub fn new(secret: &Secret, people: &[WebhookPerson]) -> Self {
        let people = people.iter().map(|one| (one.slack.clone(), one.identity.clone()));
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret.expose()),
            people: people.collect(),
            seen: Mutex::default(),
        }
    }

    /// Whether Slack signed this body at this time, now, and for the first time.
    pub fn verify(
        &self,
        timestamp: &str,
        signature: &str,
        body: &[u8],
        now_s: i64,
    ) -> Result<(), SlackRefused> {
        let tag = signature.strip_prefix("v0=").and_then(unhex).ok_or(SlackRefused::Signature)?;
        let signed = [b"v0:", timestamp.as_bytes(), b":", body].concat();
        // (In constant time.)
        hmac::verify(&self.key, &signed, &tag).map_err(|_| SlackRefused::Signature)?;
        let at_s: i64 = timestamp.parse().map_err(|_| SlackRefused::Stale)?;
        if now_s.saturating_sub(at_s).saturating_abs() > MAX_AGE_S {
            return Err(SlackRefused::Stale);
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, until| *until > now_s);
        let until = at_s.saturating_add(MAX_AGE_S + 1);
        // (The tag, since its hex may be written in two ways.)
        if seen.len() >= MAX_SEEN || seen.insert(hex(&tag), until).is_some() {
            return Err(SlackRefused::Replayed);
        }
        Ok(())
    }

    /// What a verified payload asks for; `None`: nothing, such as a button that only opens a page.
    pub fn pressed(&self, payload: &str) -> Result<Option<Pressed>, SlackRefused> {
        let payload: Payload = serde_json::from_str(payload).map_err(|_| SlackRefused::Form)?;
        let [action] = payload.actions.as_slice() else { return Err(SlackRefused::Form) };
        let approve = match (payload.kind.as_str(), action.action_id.as_str()) {
            ("block_actions", "approve") => true,
            ("block_actions", "deny") => false,
            ("block_actions", "open") => return Ok(None),
            _ => return Err(SlackRefused::Form),
        };
        let identity = self.people.get(&payload.user.id);
        let identity = identity.ok_or_else(|| SlackRefused::Nobody(payload.user.id.clone()))?;
        Ok(Some(Pressed { identity: identity.clone(), id: action.value.clone(), approve }))
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let pairs = digits.as_chunks::<2>().0.iter();
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_531_420_618;

    fn door(secret: &str) -> SlackDoor {
        let people = [WebhookPerson { slack: "U2147483697".into(), identity: "ann".into() }];
        SlackDoor::new(&Secret::new(secret.as_bytes().to_vec()), &people)
    }

    fn sign(secret: &str, timestamp: &str, body: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, format!("v0:{timestamp}:{body}").as_bytes());
        format!("v0={}", hex(tag.as_ref()))
    }

    #[test]
    fn a_signature_is_slacks_recent_and_used_once() {
        let (door, body) = (door("s3cret"), "payload=%7B%7D");
        let at = NOW.to_string();
        let good = sign("s3cret", &at, body);
        let check = |at: &str, signature: &str, body: &str, now| {
            door.verify(at, signature, body.as_bytes(), now)
        };
        assert_eq!(check(&at, &good, "payload=%7B%7E", NOW), Err(SlackRefused::Signature));
        assert_eq!(check(&(NOW + 1).to_string(), &good, body, NOW), Err(SlackRefused::Signature));
        assert_eq!(check(&at, &sign("other", &at, body), body, NOW), Err(SlackRefused::Signature));
        for bad in ["", "v0=", "v0=zz", "v0=00", &good[3..], &good[..good.len() - 2]] {
            assert_eq!(check(&at, bad, body, NOW), Err(SlackRefused::Signature), "{bad}");
        }
        for late in [NOW + 301, NOW - 301] {
            assert_eq!(check(&at, &good, body, late), Err(SlackRefused::Stale));
        }
        assert_eq!(check(&at, &good, body, NOW + 300), Ok(()));
        assert_eq!(check(&at, &good, body, NOW), Err(SlackRefused::Replayed));
        let upper = format!("v0={}", good[3..].to_uppercase());
        assert_eq!(check(&at, &upper, body, NOW), Err(SlackRefused::Replayed));
    }

    #[test]
    fn a_press_is_somebodys_we_know() {
        let door = door("s3cret");
        let press = |user: &str, action: &str| {
            let actions = json!([{ "action_id": action, "value": "apr_1", "type": "button" }]);
            let user = json!({ "id": user, "name": "ann" });
            json!({ "type": "block_actions", "user": user, "actions": actions }).to_string()
        };
        let pressed = |approve| Pressed { identity: "ann".into(), id: "apr_1".into(), approve };
        assert_eq!(door.pressed(&press("U2147483697", "approve")), Ok(Some(pressed(true))));
        assert_eq!(door.pressed(&press("U2147483697", "deny")), Ok(Some(pressed(false))));
        assert_eq!(door.pressed(&press("U2147483697", "open")), Ok(None));
        assert_eq!(door.pressed(&press("U2147483697", "drop")), Err(SlackRefused::Form));
        assert_eq!(door.pressed(&press("ann", "approve")), Err(SlackRefused::Nobody("ann".into())));
        assert_eq!(door.pressed("{}"), Err(SlackRefused::Form));
    }
}
