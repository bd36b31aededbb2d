//! `[[webhooks]]`: who is told of approvals, and who may answer from there.

use std::collections::HashSet;
use std::path::PathBuf;

use super::Config;
use super::check::{Checked, complain};
use super::custody::is_place;
use super::issuers::url;
use super::parse::Step;

/// Most of them: each has a queue and a task of its own.
const MAX_WEBHOOKS: usize = 16;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalEvent {
    /// It was made.
    Requested,
    /// An approver said yes; it may take more of them.
    Approved,
    /// An approver said no.
    Denied,
    /// One person let it through alone.
    BreakGlass,
    /// It was called off.
    Cancelled,
    /// Nobody decided, or used the grant, in time.
    Expired,
    /// The grant was used: it runs.
    Consumed,
    /// It was used, but what it was given for had changed.
    Outdated,
}

impl ApprovalEvent {
    /// The word that the record has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::BreakGlass => "break_glass",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Consumed => "consumed",
            Self::Outdated => "outdated",
        }
    }
}

/// What is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookFormat {
    /// JSON, signed.
    #[default]
    Json,
    /// A message of Slack's Block Kit.
    Slack,
}

/// What is sent of a statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatementSent {
    /// Its shape, with `?` in place of each literal.
    #[default]
    Shape,
    /// Its text, with the values that are in it.
    Text,
}

/// `[[webhooks]]`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where it is sent: HTTPS (plain HTTP to this machine only), or `env:NAME`, `file:PATH` where that is a secret.
    pub url: String,
    /// `env:NAME` or `file:PATH`: by which what is sent is signed; for Slack, by which it signs what it sends.
    pub secret: String,
    /// What is told; none named: all.
    #[serde(default)]
    pub events: Vec<ApprovalEvent>,
    /// In which form.
    #[serde(default)]
    pub format: WebhookFormat,
    /// How much of the statement.
    #[serde(default)]
    pub statement: StatementSent,
    /// PEM bundle for its HTTPS, in place of the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Who is whom there.
    #[serde(default)]
    pub people: Vec<WebhookPerson>,
}

/// `[[webhooks.people]]`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookPerson {
    /// The member's id in Slack: `U…` or `W…`.
    pub slack: String,
    /// The identity, as policies and the record name it.
    pub identity: String,
}

impl Webhook {
    /// Whether `address` is one that it may be sent to; the error is the complaint.
    pub fn check_url(address: &str) -> Result<(), String> {
        let checked = url(&[], address);
        checked.map_err(|complaint| format!("{}; {}", complaint.what, complaint.mend))
    }
}

/// Checks all of them.
pub(super) fn webhooks(config: &Config) -> Checked {
    use Step::{At, Key};
    if config.webhooks.len() > MAX_WEBHOOKS {
        let what = format!("more than {MAX_WEBHOOKS}");
        return complain(&[Key("webhooks")], what, "tell fewer, and let one of them tell the rest");
    }
    for (at, webhook) in config.webhooks.iter().enumerate() {
        let path = |key| [Key("webhooks"), At(at), Key(key)];
        if !is_place(&webhook.url) {
            url(&path("url"), &webhook.url)?;
        }
        if !is_place(&webhook.secret) {
            let mend = "write env:NAME or file:PATH; secrets don't belong in this file";
            return complain(&path("secret"), "not a reference to a secret", mend);
        }
        let is_slack = webhook.format == WebhookFormat::Slack;
        if !is_slack && !webhook.people.is_empty() {
            let mend = "write format = \"slack\", or leave them out";
            return complain(&path("people"), "have no effect with this format", mend);
        }
        if is_slack && !webhook.people.is_empty() && config.web.is_none() {
            let mend = "add [web], where Slack's answers come in, or leave the people out";
            return complain(&path("people"), "have no effect without [web]", mend);
        }
        people(webhook, at)?;
    }
    Ok(())
}

fn people(webhook: &Webhook, at: usize) -> Checked {
    use Step::{At, Key};
    let mut seen = HashSet::new();
    for (nth, person) in webhook.people.iter().enumerate() {
        let path = |key| [Key("webhooks"), At(at), Key("people"), At(nth), Key(key)];
        let id = person.slack.as_bytes();
        let is_id = matches!(id.first(), Some(b'U' | b'W'))
            && (2..=32).contains(&id.len())
            && id.iter().all(u8::is_ascii_alphanumeric);
        if !is_id {
            let what = format!("{:?} is no member's id", person.slack);
            return complain(&path("slack"), what, "write it as Slack shows it: U0123ABCD");
        }
        if !seen.insert(&person.slack) {
            let what = format!("{:?} is listed twice", person.slack);
            return complain(&path("slack"), what, "one identity for each member");
        }
        if person.identity.trim().is_empty() {
            return complain(&path("identity"), "empty", "name the identity that they decide as");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[[webhooks]]\nurl = \"https://a.example/x\"\nsecret = \"env:S\"\n";

    fn read(more: &str) -> Result<Config, String> {
        let text = format!("{}\n{more}", Config::SAMPLE);
        Config::parse(&text, "r.toml").map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_wrong_is_named() {
        let people =
            "format = \"slack\"\n[[webhooks.people]]\nslack = \"U1A\"\nidentity = \"ann\"\n";
        let config = read(&format!("{GOOD}{people}")).unwrap();
        assert_eq!(config.webhooks[0].people[0].identity, "ann");
        assert!(read(&GOOD.replace("https://a.example/x", "env:URL")).is_ok());
        assert!(read(&GOOD.replace("https://a.example", "http://127.0.0.1:9")).is_ok());
        for (text, wanted) in [
            (GOOD.replace("https://", "http://"), "webhooks.url"),
            (GOOD.replace("env:S", "hunter2"), "webhooks.secret"),
            (format!("{GOOD}events = [\"made\"]"), "webhooks"),
            (format!("{GOOD}{people}").replace("slack\"\n[[", "json\"\n[["), "webhooks.people"),
            (format!("{GOOD}{people}").replace("U1A", "ann"), "webhooks.people.slack"),
            (format!("{GOOD}{people}").replace("\"ann\"", "\" \""), "webhooks.people.identity"),
            (GOOD.repeat(MAX_WEBHOOKS + 1), "webhooks: more than 16"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(wanted) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
