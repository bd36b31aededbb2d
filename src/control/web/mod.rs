//! The pages that people sign in to: their access, approvals, sessions, targets, identities and tokens.
//!
//! They are rendered here, work without script, and change things by forms only, each with a token of its session. Who
//! someone is comes from an identity provider ([`oidc`]) and is kept by [`session`]; what they may do, Cedar says
//! ([`roles`]). The admin API is not served here: it stays on its Unix socket.

mod access;
mod approval;
mod approvals;
mod assets;
mod commands;
mod cookie;
mod device;
mod flow;
mod form;
mod guard;
mod identities;
mod listen;
mod oidc;
mod page;
mod record;
mod roles;
mod routes;
#[cfg(feature = "saml")]
mod saml;
pub mod session;
mod sessions;
mod sign_in;
mod slack;
mod targets;
mod tokens;

use std::sync::Arc;

use arc_swap::ArcSwap;

pub use listen::WebListener;
pub use oidc::Provider;
pub use roles::Roles;
#[cfg(feature = "saml")]
pub use saml::SamlDoor;

use super::ControlDeps;
use super::webhooks::SlackDoor;
use crate::policy::Snapshot;

/// Everything that the pages need; cloning it is cheap.
#[derive(Clone)]
pub struct Web(Arc<Inner>);

struct Inner {
    deps: ControlDeps,
    snapshot: Arc<ArcSwap<Snapshot>>,
    settings: ArcSwap<WebSettings>,
    /// The assertions that were used.
    #[cfg(feature = "saml")]
    used: saml::Used,
}

/// What the configuration says of the pages. A reload may change it, but for the address they are served on.
pub struct WebSettings {
    /// Scheme and authority, as a browser says them in `Origin`.
    pub url: String,
    /// For the certificate; none: plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// How long a session may rest.
    pub idle_us: i64,
    /// How long it lasts.
    pub session_us: i64,
    /// The OpenID issuers that people sign in by.
    pub providers: Vec<Arc<Provider>>,
    /// Ways to sign in by something else.
    pub doors: Vec<Door>,
    /// Where presses of buttons in Slack come in.
    pub slack: Vec<Arc<SlackDoor>>,
    /// What is behind those of them that are SAML identity providers.
    #[cfg(feature = "saml")]
    pub saml: Vec<Arc<SamlDoor>>,
}

/// A way to sign in, as the sign-in page lists it.
#[derive(Clone, Debug)]
pub struct Door {
    /// What it is called.
    pub title: String,
    /// The path of this site that begins it.
    pub path: String,
    /// What sessions by it are of, as [`session::begin`] is told.
    pub source: String,
}

impl WebSettings {
    /// Whether browsers come by HTTPS.
    fn is_https(&self) -> bool {
        self.url.starts_with("https://")
    }

    /// `host` or `host:port`.
    fn authority(&self) -> &str {
        self.url.split_once("://").map_or("", |(_, authority)| authority)
    }

    /// The host alone.
    fn host(&self) -> &str {
        let authority = self.authority();
        let host = authority.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        host.map_or(authority, |(host, _)| host)
    }

    fn doors(&self) -> Vec<Door> {
        let providers = self.providers.iter().map(|provider| provider.door());
        providers.chain(self.doors.iter().cloned()).collect()
    }
}

impl Web {
    /// The pages over this gateway.
    pub fn new(deps: ControlDeps, snapshot: Arc<ArcSwap<Snapshot>>, settings: WebSettings) -> Self {
        Self(Arc::new(Inner {
            deps,
            snapshot,
            settings: ArcSwap::from_pointee(settings),
            #[cfg(feature = "saml")]
            used: saml::Used::default(),
        }))
    }

    /// From now on these settings. The doors for Slack stay, since they know which presses were used.
    pub fn set(&self, mut settings: WebSettings) {
        settings.slack.clone_from(&self.settings().slack);
        self.0.settings.store(Arc::new(settings));
    }

    fn settings(&self) -> Arc<WebSettings> {
        self.0.settings.load_full()
    }

    fn deps(&self) -> &ControlDeps {
        &self.0.deps
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot.load_full()
    }
}

/// Serves the pages until `stop` is ready.
pub async fn serve(listener: WebListener, web: Web, stop: impl Future<Output = ()>) {
    let router = routes::router(web.clone());
    tokio::select! {
        () = listener.serve(web, router) => {}
        () = stop => {}
    }
}
