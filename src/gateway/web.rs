//! What the pages are made of: the configuration's `[web]`, and the issuers that people sign in by.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::config::{Config, WebhookFormat};
use crate::control::web::{Provider, Web, WebListener, WebSettings, serve};
use crate::control::webhooks::SlackDoor;
use crate::control::{ControlDeps, IssuerClient};
use crate::net::server_config;
use crate::policy::Snapshot;

use super::GatewayError;

/// The settings; `None` where no pages are served.
pub(super) fn settings(file: &Path, config: &Config) -> Result<Option<WebSettings>, GatewayError> {
    let Some(web) = &config.web else { return Ok(None) };
    let refused = |key: &str, what: &dyn std::fmt::Display| {
        GatewayError::in_file(file, format_args!("{key}: {what}"))
    };
    let tls = match (&web.certificate, &web.key) {
        (Some(certificate), Some(key)) => {
            let chain = std::fs::read(certificate).map_err(|error| {
                let what = format!("{}: {error}", certificate.display());
                refused("web.certificate", &what)
            })?;
            // As any credential: not for every user of this machine to read.
            let key = crate::vault::resolve(&format!("file:{}", key.display()));
            let key = key.map_err(|error| refused("web.key", &error))?;
            let made = server_config(&chain, key.expose(), None);
            Some(made.map_err(|error| refused("web.certificate", &error))?)
        }
        _ => None,
    };
    let mut providers = Vec::new();
    for issuer in config.issuers.iter().filter(|issuer| issuer.client_id.is_some()) {
        let secret = issuer.client_secret.as_deref().map(crate::vault::resolve).transpose();
        let key = format!("issuers.{}.client_secret", issuer.name);
        let secret = secret.map_err(|error| refused(&key, &error))?;
        let provider = Provider::new(issuer, IssuerClient::new(issuer)?, secret);
        providers.extend(provider.map(Arc::new));
    }
    #[cfg(feature = "saml")]
    let saml = super::saml::doors(file, config, &web.url)?;
    let us = |seconds: u64| i64::try_from(seconds.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    Ok(Some(WebSettings {
        url: web.url.clone(),
        tls,
        idle_us: us(web.idle_s),
        session_us: us(web.session_s),
        providers,
        slack: slack(file, config)?,
        #[cfg(not(feature = "saml"))]
        doors: Vec::new(),
        #[cfg(feature = "saml")]
        doors: saml.iter().map(|door| door.door()).collect(),
        #[cfg(feature = "saml")]
        saml,
    }))
}

/// Where presses of buttons in Slack come in: for each webhook that knows people there.
fn slack(file: &Path, config: &Config) -> Result<Vec<Arc<SlackDoor>>, GatewayError> {
    let all = config.webhooks.iter().enumerate();
    let doors = all.filter(|(_, webhook)| {
        webhook.format == WebhookFormat::Slack && !webhook.people.is_empty()
    });
    doors
        .map(|(at, webhook)| {
            let secret = crate::vault::resolve(&webhook.secret).map_err(|error| {
                GatewayError::in_file(file, format_args!("webhooks[{at}].secret: {error}"))
            })?;
            Ok(Arc::new(SlackDoor::new(&secret, &webhook.people)))
        })
        .collect()
}

/// The pages: bound, then served, then ended.
pub(super) struct Pages {
    bound: Option<(WebListener, WebSettings)>,
    served: Option<Served>,
}

struct Served {
    web: Web,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Pages {
    /// Binds their listener, so that a port in use ends the start with one line.
    pub(super) fn bind(file: &Path, config: &Config) -> Result<Self, GatewayError> {
        let listen = config.web.as_ref().map(|web| web.listen);
        let bound = match (listen, settings(file, config)?) {
            (Some(listen), Some(settings)) => {
                let listener = WebListener::bind(listen);
                let listener = listener.map_err(|error| GatewayError::in_file(file, error))?;
                Some((listener, settings))
            }
            _ => None,
        };
        Ok(Self { bound, served: None })
    }

    /// Serves them, if there are any.
    pub(super) fn start(&mut self, deps: &ControlDeps, snapshot: Arc<ArcSwap<Snapshot>>) {
        let Some((listener, settings)) = self.bound.take() else { return };
        let web = Web::new(deps.clone(), snapshot, settings);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(listener, web.clone(), async {
            let _ = stopped.await;
        }));
        self.served = Some(Served { web, stop, task });
    }

    /// From now on as these settings say. (Whether there are pages at all, and where, waits for a restart.)
    pub(super) fn set(&self, settings: Option<WebSettings>) {
        if let (Some(served), Some(settings)) = (&self.served, settings) {
            served.web.set(settings);
        }
    }

    /// Ends them.
    pub(super) async fn stop(&mut self) {
        if let Some(Served { stop, task, .. }) = self.served.take() {
            let _ = stop.send(());
            let _ = task.await;
        }
    }
}
