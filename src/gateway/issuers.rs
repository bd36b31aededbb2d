//! One task an issuer keeps its keys known: at start, every few minutes, and at once when a token names a key that is
//! not there.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::GatewayError;
use crate::clock::now_us;
use crate::config;
use crate::control::{IssuerClient, IssuerClientError};
use crate::identity::IssuerKeys;
use crate::net::KeyRefresh;

/// Logins that may wait for one fetch: more than this many at once share the next one.
const WAITING: usize = 1_024;

/// Fetches because of unknown keys are at least this far apart: whoever sends tokens with made-up ones costs the issuer
/// no more than that.
const PAUSE: Duration = Duration::from_secs(30);

/// Until the next try after a failed one; twice as long after each, up to a minute.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const MAX_RETRY: Duration = Duration::from_mins(1);

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
        let client = IssuerClient::new(issuer)?;
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

impl From<IssuerClientError> for GatewayError {
    fn from(error: IssuerClientError) -> Self {
        match error {
            IssuerClientError::Ca { .. } => Self::Input(error.to_string()),
            IssuerClientError::Https { .. } => Self::Failed(error.to_string()),
        }
    }
}

struct Watch {
    issuer: config::Issuer,
    client: IssuerClient,
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
            None => self.client.discover().await?.jwks_uri,
        };
        let json = self.client.get(&place).await?;
        let now_us = now_us();
        let keep_s = i64::try_from(self.issuer.keep_keys_s).unwrap_or(i64::MAX);
        IssuerKeys::parse(&json, now_us.saturating_add(keep_s.saturating_mul(1_000_000)))
            .ok_or_else(|| {
                format!("{place}: no JWK set with a key that signatures can be checked by")
            })
    }
}
