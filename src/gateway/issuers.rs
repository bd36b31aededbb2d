//! One task an issuer keeps its keys known: at start, every few minutes, and at once when a token names a key that is
//! not there.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Certificate, Client, Response, redirect};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::GatewayError;
use crate::config;
use crate::identity::IssuerKeys;
use crate::net::KeyRefresh;

/// Logins that may wait for one fetch: more than this many at once share the next one.
const WAITING: usize = 1_024;

/// Fetches because of unknown keys are at least this far apart: whoever sends tokens with made-up ones costs the issuer
/// no more than that.
const PAUSE: Duration = Duration::from_secs(30);

/// A document that takes longer is none: a login waits for two, the discovery document and the keys.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);

/// Until the next try after a failed one; twice as long after each, up to a minute.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const MAX_RETRY: Duration = Duration::from_mins(1);

/// Longest document: those of issuers with dozens of keys are below 64 KiB.
const MAX_DOCUMENT: usize = 256 << 10;

/// What a fetch gave; `heard` is told once it is in force.
pub(super) struct Fetched {
    /// The issuer's URL.
    pub(super) url: String,
    /// Its keys, or why they can't be had.
    pub(super) keys: Result<IssuerKeys, String>,
    /// Who waits for it.
    pub(super) heard: Vec<oneshot::Sender<()>>,
}

/// The issuers whose keys are fetched.
pub(super) struct Issuers {
    found: mpsc::Sender<Fetched>,
    tasks: Mutex<Vec<Task>>,
}

struct Task {
    issuer: config::Issuer,
    requests: mpsc::Sender<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Issuers {
    /// What they find arrives on `found`.
    pub(super) fn new(found: mpsc::Sender<Fetched>) -> Self {
        Self { found, tasks: Mutex::default() }
    }

    /// From now on these, in the order of the configuration. Those that did not change go on as they are.
    pub(super) fn set(&self, issuers: &[config::Issuer]) -> Result<(), GatewayError> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let is_running =
            |issuer: &&config::Issuer| tasks.iter().any(|task| task.issuer == **issuer);
        let new =
            issuers.iter().filter(|issuer| !is_running(issuer)).map(|issuer| self.start(issuer));
        let new = new.collect::<Result<Vec<_>, _>>()?;
        tasks.extend(new);
        tasks.retain(|task| issuers.contains(&task.issuer));
        tasks.sort_by_key(|task| issuers.iter().position(|issuer| *issuer == task.issuer));
        Ok(())
    }

    fn start(&self, issuer: &config::Issuer) -> Result<Task, GatewayError> {
        let (requests, requested) = mpsc::channel(WAITING);
        let client = client(issuer)?;
        let watch = Watch { issuer: issuer.clone(), client, found: self.found.clone() };
        Ok(Task { issuer: issuer.clone(), requests, running: tokio::spawn(watch.run(requested)) })
    }
}

impl KeyRefresh for Issuers {
    fn refresh(&self, issuer: usize) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (heard, done) = oneshot::channel();
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = tasks.get(issuer) {
            // A full queue drops the sender, which ends the wait.
            let _ = task.requests.try_send(heard);
        }
        Box::pin(async {
            let _ = done.await;
        })
    }
}

/// One client an issuer, since each may have a CA of its own. It follows no redirection: where keys come from is what
/// the operator and the issuer say.
fn client(issuer: &config::Issuer) -> Result<Client, GatewayError> {
    let refuse = |path: &Path, why: &dyn std::fmt::Display| {
        let name = &issuer.name;
        GatewayError::Input(format!(
            "{}: issuers.{name}.ca: {why}; give a PEM bundle of the issuer's CA",
            path.display()
        ))
    };
    let builder = Client::builder()
        .user_agent(concat!("rowgate/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .timeout(FETCH_TIMEOUT);
    let builder = match &issuer.ca {
        Some(path) => {
            let pem = std::fs::read(path).map_err(|error| refuse(path, &error))?;
            let bundle =
                Certificate::from_pem_bundle(&pem).map_err(|error| refuse(path, &error))?;
            builder.tls_certs_only(bundle)
        }
        None => builder,
    };
    builder.build().map_err(|error| {
        let name = &issuer.name;
        GatewayError::Failed(format!("issuers.{name}: HTTPS can't be set up: {error}"))
    })
}

struct Watch {
    issuer: config::Issuer,
    client: Client,
    found: mpsc::Sender<Fetched>,
}

impl Watch {
    async fn run(self, mut requested: mpsc::Receiver<oneshot::Sender<()>>) {
        let (mut next, mut retry) = (Instant::now(), FIRST_RETRY);
        let mut last: Option<Instant> = None;
        loop {
            let mut heard = Vec::new();
            tokio::select! {
                request = requested.recv() => {
                    let Some(request) = request else { return };
                    // What there is was fetched just now: the login that asks is answered from it.
                    if last.is_some_and(|last| last.elapsed() < PAUSE) {
                        continue;
                    }
                    heard.push(request);
                }
                () = tokio::time::sleep_until(next) => {}
            }
            let keys = self.fetch().await;
            last = Some(Instant::now());
            let pause = if keys.is_ok() {
                retry = FIRST_RETRY;
                Duration::from_secs(self.issuer.refresh_s)
            } else {
                let pause = retry;
                retry = (retry * 2).min(MAX_RETRY);
                pause
            };
            next = Instant::now() + pause;
            while let Ok(request) = requested.try_recv() {
                heard.push(request);
            }
            let fetched = Fetched { url: self.issuer.url.clone(), keys, heard };
            if self.found.send(fetched).await.is_err() {
                return;
            }
        }
    }

    async fn fetch(&self) -> Result<IssuerKeys, String> {
        let place = match &self.issuer.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let json = self.get(&place).await?;
        let now_us = jiff::Timestamp::now().as_microsecond();
        let keep_s = i64::try_from(self.issuer.keep_keys_s).unwrap_or(i64::MAX);
        IssuerKeys::parse(&json, now_us.saturating_add(keep_s.saturating_mul(1_000_000)))
            .ok_or_else(|| {
                format!("{place}: no JWK set with a key that signatures can be checked by")
            })
    }

    /// Where its discovery document says that its keys are (OpenID Connect Discovery 1.0, section 4).
    async fn discover(&self) -> Result<String, String> {
        let base = self.issuer.url.trim_end_matches('/');
        let place = format!("{base}/.well-known/openid-configuration");
        let json = self.get(&place).await?;
        let document: Discovery =
            serde_json::from_slice(&json).map_err(|error| format!("{place}: {error}"))?;
        if document.issuer != self.issuer.url {
            return Err(format!("{place}: it is that of {}", document.issuer));
        }
        // Not less private than the way to the document itself.
        if self.issuer.url.starts_with("https://") && !document.jwks_uri.starts_with("https://") {
            return Err(format!("{place}: its jwks_uri is no https URL"));
        }
        Ok(document.jwks_uri)
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, String> {
        let answer = self.client.get(url).send().await.map_err(|error| said(&error))?;
        if !answer.status().is_success() {
            return Err(format!("{url}: {}", answer.status()));
        }
        bounded(answer).await.map_err(|why| format!("{url}: {why}"))
    }
}

#[derive(serde::Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

async fn bounded(mut answer: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| said(&error))? {
        if body.len() + chunk.len() > MAX_DOCUMENT {
            return Err(format!("longer than {MAX_DOCUMENT} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error with what is behind it, which reqwest's own text leaves out.
fn said(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut inner: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = inner {
        text = format!("{text}: {error}");
        inner = error.source();
    }
    text
}
