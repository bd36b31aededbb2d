//! Webhooks: what happens to approvals is told elsewhere, signed, and retried for some minutes.
//!
//! Each has a bounded queue and a task of its own, so that one that is down holds up neither the others nor a vote. What
//! is told are facts of a request; no parameters, and of its statement the shape alone, unless the configuration says so.

mod body;
mod slack;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SecureRandom as _;
use reqwest::{Client, StatusCode};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::approval::Announce;
use crate::clock::now_us;
use crate::config::{ApprovalEvent, StatementSent, Webhook, WebhookFormat};
use crate::https::{self, HttpsError, Proxies, said};
use crate::secret::Secret;
use crate::store::Approval;

pub use slack::{Pressed, SlackDoor, SlackRefused};

/// What may wait for one receiver: an hour of a busy gateway's approvals. Beyond it the newest is left out, and the log says so.
const QUEUE: usize = 256;
/// How long a receiver may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often one event is tried: with the pauses between, for two minutes or so.
const TRIES: u32 = 8;
/// The first pause; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// For what is still to be told when the gateway ends.
const FAREWELL: Duration = Duration::from_secs(3);

/// Why a webhook can't be set up.
#[derive(Debug, thiserror::Error)]
#[error("webhooks[{at}].{key}: {why}")]
pub struct WebhookError {
    /// Which, from 0.
    pub at: usize,
    /// Its key.
    pub key: &'static str,
    /// Why, and the mend.
    pub why: String,
}

/// What all of them are told by.
pub struct Webhooks {
    queues: Vec<Queue>,
    tasks: Vec<JoinHandle<()>>,
}

/// The sending end of one of them.
struct Queue {
    name: String,
    events: Vec<ApprovalEvent>,
    send: mpsc::Sender<Told>,
}

/// Something that happened.
#[derive(Clone, Debug)]
struct Told {
    event: ApprovalEvent,
    by: String,
    at_us: i64,
    /// Names it among all: whoever gets it twice can tell.
    id: String,
    approval: Arc<Approval>,
}

/// One receiver.
struct Receiver {
    name: String,
    url: String,
    http: Client,
    key: hmac::Key,
    format: WebhookFormat,
    statement: StatementSent,
    pages: Option<String>,
}

impl Webhooks {
    /// Starts all of them; `secret` resolves references. Must be called within the runtime.
    pub fn start(
        all: &[Webhook],
        pages: Option<&str>,
        secret: impl Fn(&str) -> Result<Secret, String>,
    ) -> Result<Self, WebhookError> {
        let (mut queues, mut tasks) = (Vec::new(), Vec::new());
        for (at, webhook) in all.iter().enumerate() {
            let receiver = Receiver::new(at, webhook, pages, &secret)?;
            let (send, queue) = mpsc::channel(QUEUE);
            let name = receiver.name.clone();
            tasks.push(tokio::spawn(receiver.run(queue)));
            queues.push(Queue { name, events: webhook.events.clone(), send });
        }
        Ok(Self { queues, tasks })
    }

    /// Who tells them, to be handed to the desk.
    pub fn announcer(&mut self) -> Arc<dyn Announce> {
        Arc::new(Announcer(std::mem::take(&mut self.queues)))
    }

    /// Waits a little for what is still to be told. The announcer must be gone.
    pub async fn finish(self) {
        let deadline = tokio::time::Instant::now() + FAREWELL;
        for mut task in self.tasks {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

struct Announcer(Vec<Queue>);

impl Announce for Announcer {
    fn announce(&self, event: ApprovalEvent, by: &str, approval: &Approval) {
        let mut told = None;
        for queue in &self.0 {
            if !queue.events.is_empty() && !queue.events.contains(&event) {
                continue;
            }
            let told = told.get_or_insert_with(|| Told {
                event,
                by: by.to_owned(),
                at_us: now_us(),
                id: format!("{}-{}-{}", approval.id, event.as_str(), now_us()),
                approval: Arc::new(to_tell(approval)),
            });
            if queue.send.try_send(told.clone()).is_err() {
                let (webhook, approval) = (&queue.name, &told.approval.id);
                tracing::warn!(
                    webhook,
                    approval,
                    "too much waits for this webhook; it is not told"
                );
            }
        }
    }
}

/// What of a request may be told: up to thousands of them wait.
fn to_tell(approval: &Approval) -> Approval {
    let mut told = approval.clone();
    told.statement = body::cut(&told.statement, body::MAX_STATEMENT);
    told.details.shape = body::cut(&told.details.shape, body::MAX_STATEMENT);
    told.details.layout = None;
    told.details.parameters.clear();
    told.details.attributes.clear();
    told
}

impl Receiver {
    fn new(
        at: usize,
        webhook: &Webhook,
        pages: Option<&str>,
        secret: &impl Fn(&str) -> Result<Secret, String>,
    ) -> Result<Self, WebhookError> {
        let refused = |key: &'static str| move |why: String| WebhookError { at, key, why };
        let url = match webhook.url.split_once(':') {
            Some(("env" | "file", _)) => {
                let url = secret(&webhook.url).map_err(refused("url"))?;
                let url = String::from_utf8(url.expose().to_vec());
                let url =
                    url.map_err(|_| refused("url")("not a URL; write https://…".to_owned()))?;
                Webhook::check_url(&url).map_err(|_| {
                    refused("url")("what it names is no URL; write https://…".to_owned())
                })?;
                url
            }
            _ => webhook.url.clone(),
        };
        let key = secret(&webhook.secret).map_err(refused("secret"))?;
        let http = https::client(webhook.ca.as_deref(), TIMEOUT, Proxies::AsSaid);
        let http = http.map_err(|error| match error {
            HttpsError::Ca(why) => refused("ca")(format!("{why}; give a PEM bundle")),
            HttpsError::SetUp(why) => refused("url")(why),
        })?;
        Ok(Self {
            name: format!("webhooks[{at}]"),
            url,
            http,
            key: hmac::Key::new(hmac::HMAC_SHA256, key.expose()),
            format: webhook.format,
            statement: webhook.statement,
            pages: pages.map(str::to_owned),
        })
    }

    async fn run(self, mut queue: mpsc::Receiver<Told>) {
        while let Some(told) = queue.recv().await {
            self.deliver(&told).await;
        }
    }

    async fn deliver(&self, told: &Told) {
        let body = match self.format {
            WebhookFormat::Json => body::json(told, self.statement, self.pages.as_deref()),
            WebhookFormat::Slack => slack::message(told, self.statement, self.pages.as_deref()),
        }
        .to_string();
        let mut pause = FIRST_PAUSE;
        for left in (0..TRIES).rev() {
            let why = match self.post(&body, told).await {
                Ok(()) => return,
                Err(Failed::ForGood(why)) => {
                    self.gave_up(told, &why);
                    return;
                }
                Err(Failed::ForNow(why)) => why,
            };
            if left == 0 {
                self.gave_up(told, &why);
                return;
            }
            tracing::debug!(webhook = self.name, why, "will be tried again");
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn gave_up(&self, told: &Told, why: &str) {
        let (webhook, event, approval) = (&self.name, told.event.as_str(), &told.approval.id);
        tracing::warn!(webhook, approval, event, why, "a webhook could not be told");
    }

    async fn post(&self, body: &str, told: &Told) -> Result<(), Failed> {
        let mut request = self.http.post(&self.url).header("Content-Type", "application/json");
        if self.format == WebhookFormat::Json {
            let timestamp = now_us() / 1_000_000;
            request = request
                .header("X-Rowgate-Timestamp", timestamp)
                .header("X-Rowgate-Event-Id", &told.id)
                .header("X-Rowgate-Signature", signature(&self.key, timestamp, body));
        }
        let answer = request.body(body.to_owned()).send().await;
        let answer = answer.map_err(|error| Failed::ForNow(said(error)))?;
        let status = answer.status();
        let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
        if status.is_success() {
            Ok(())
        } else if status.is_server_error() || later {
            Err(Failed::ForNow(status.to_string()))
        } else {
            Err(Failed::ForGood(status.to_string()))
        }
    }
}

/// Why an event was not taken.
enum Failed {
    ForNow(String),
    /// The receiver does not want it, now or later.
    ForGood(String),
}

/// `v1=` and the hex of HMAC-SHA256 over the time, a dot and the body.
fn signature(key: &hmac::Key, timestamp: i64, body: &str) -> String {
    let tag = hmac::sign(key, format!("{timestamp}.{body}").as_bytes());
    format!("v1={}", slack::hex(tag.as_ref()))
}

/// From half of it to all of it, so that gateways that failed together don't come back together.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    let _ = aws_lc_rs::rand::SystemRandom::new().fill(&mut byte);
    pause.mul_f64(0.5 + f64::from(byte[0]) / 512.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_what_openssl_says() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        let wanted = "v1=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686";
        assert_eq!(signature(&key, 1_700_000_000, "{\"a\":1}"), wanted);
    }

    #[test]
    fn pauses_differ_within_bounds() {
        for _ in 0..100 {
            let pause = jittered(Duration::from_secs(8));
            assert!((4.0..=8.0).contains(&pause.as_secs_f64()), "{pause:?}");
        }
    }
}
