//! The control plane: the admin API on a Unix socket, and `/metrics`, `/healthz`, `/readyz` on TCP.
//!
//! It runs as tasks on the one control thread. What it shows and does to the rest of the gateway goes through the
//! [`Gateway`] that the composition root hands in; it reaches no worker by itself. It knows no policy: who may decide
//! an approval is the business of `approval`.

mod approvals;
mod codes;
pub mod device;
mod error;
mod explain;
mod identities;
mod issuer_client;
mod listen;
mod look_back;
mod operate;
pub mod passwords;
mod peer;
mod probe;
mod reply;
mod targets;
mod tokens;
pub mod way;
pub mod web;
pub mod webhooks;

use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

pub use codes::Asked;
pub use device::{CodeAnswer, DeviceRequest, People};
pub use error::{ControlError, ErrorAnswer, ErrorBody};
pub use identities::{IdentityRefused, identities, restore_identity, revoke_identity};
pub use issuer_client::{IssuerClient, IssuerClientError};
pub use listen::{Listeners, Peers};
pub use look_back::{LookBack, LookBackError};
pub use passwords::PasswordAnswer;
pub use peer::{ADMINS, Caller};
pub use reply::{
    ApprovalList, AuditStatus, ExplainAnswer, ExplainRequest, ExplainedWay, IdentityInfo,
    IdentityList, IdentityRequest, NewTokenRequest, ReasonRequest, ReloadAnswer, RotateRequest,
    SessionInfo, SessionList, ShownApproval, Status, TargetStatus, TokenAnswer, TokenInfo,
    TokenList, VersionList,
};
pub use targets::{
    Change, Custody, Excess, KeyAnswer, NewTarget, Password, Reach, Rotation, RotationAnswer,
    TargetInfo, TargetList, TargetRefused, TargetReport, TlsReport,
};
pub use tokens::{Issued, TokenRefused, issue, rotate};

use crate::approval::{Desk, EventSink};
use crate::clock::now_us;
use crate::policy::Snapshot;
use crate::record::Event;
use crate::store::Store;

/// Longest request body: a reason and a few names. The largest answers are lists, and those are cut.
const MAX_BODY_BYTES: usize = 64 << 10;

/// A future that a [`Gateway`] returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The running gateway as the control plane sees it. Called on the control thread: nothing here may block.
pub trait Gateway: Send + Sync {
    /// What `rowgate status` shows.
    fn status(&self) -> Status;
    /// Every session, in the order of their ids.
    fn sessions(&self) -> Vec<SessionInfo>;
    /// Ends a session. False when there is none of that id.
    fn kill(&self, session: u64) -> bool;
    /// Reads configuration and policies again. The new policy version, or one line that names the file, the key and
    /// the mend; the old snapshot stays then.
    fn reload<'a>(&'a self, by: &'a str) -> Answer<'a, Result<String, String>>;
    /// Tokens were made or revoked, or an identity was, which the store has. Ready once that is in force: who is told that
    /// a token exists, or is revoked, may rely on it. False when it could not be told within a few seconds.
    fn tokens_changed(&self) -> Answer<'_, bool>;
    /// The targets and the keys; none while it starts or drains.
    fn custody(&self) -> Option<Arc<dyn Custody>> {
        None
    }
    /// What workers decide by now; none while it starts.
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        None
    }
    /// Asks an issuer, by its place in the configuration, for its keys, if that was not done just now. Ready once they
    /// are in force.
    fn refresh_keys(&self, issuer: usize) -> Answer<'_, ()>;
    /// Whether it takes traffic; if not, why.
    fn ready(&self) -> Result<(), String>;
    /// The metrics in Prometheus' text format.
    fn metrics(&self) -> String;
    /// Root, mapped to nobody, is about to do something as an administrator: counted.
    fn broke_glass(&self) {}
}

/// What the control plane needs of the rest.
#[derive(Clone)]
pub struct ControlDeps {
    /// Tokens and approvals, to read.
    pub store: Store,
    /// Where approvals are decided.
    pub desk: Desk,
    /// Where what administrators do is recorded.
    pub events: Arc<dyn EventSink>,
    /// The rest.
    pub gateway: Arc<dyn Gateway>,
    /// Session passwords, and the codes by which devices ask for them.
    pub people: Arc<People>,
    /// The record, to look back.
    pub look_back: LookBack,
}

impl ControlDeps {
    /// Records what an administrator is about to do. An error means: don't.
    fn record(&self, caller: &Caller, action: &str, subject: &str) -> Result<(), ErrorAnswer> {
        let at_us = now_us();
        let action = if caller.break_glass {
            self.gateway.broke_glass();
            format!("break-glass {action}")
        } else {
            action.to_owned()
        };
        let event = Event::Admin { at_us, by: &caller.identity, action: &action, subject };
        self.events.record(&event).map_err(|error| ErrorAnswer::unavailable(&error.to_string()))
    }
}

impl ControlDeps {
    /// Brings a change of who may log in into force. An error says that it is kept and not yet in force: whoever revokes
    /// in an emergency must know.
    async fn logins_changed(&self) -> Result<(), ErrorAnswer> {
        if self.gateway.tokens_changed().await {
            return Ok(());
        }
        let text =
            "it is in the store, but the gateway is busy or drains, and has not taken it over yet";
        Err(ErrorAnswer::unavailable(text))
    }
}

/// Serves until `stop` is ready. The listeners were bound before, so that a port in use ends the start with one line.
pub async fn serve(listeners: Listeners, deps: ControlDeps, stop: impl Future<Output = ()>) {
    let (api, probes) = (api(deps.clone()), probe::router(deps.gateway));
    tokio::select! {
        () = listeners.serve(api, probes) => {}
        () = stop => {}
    }
}

/// The admin API. Every route is behind the peer's mapping to an identity.
fn api(deps: ControlDeps) -> Router {
    Router::new()
        .route("/v1/status", get(operate::status))
        .route("/v1/openapi.json", get(operate::openapi))
        .route("/v1/audit", get(operate::audit))
        .route("/v1/policy/versions", get(operate::policy_versions))
        .route("/v1/reload", post(operate::reload))
        .route("/v1/sessions", get(operate::sessions))
        .route("/v1/sessions/{id}/kill", post(operate::kill))
        .route("/v1/approvals", get(approvals::list))
        .route("/v1/approvals/{id}", get(approvals::show))
        .route("/v1/approvals/{id}/approve", post(approvals::approve))
        .route("/v1/approvals/{id}/deny", post(approvals::deny))
        .route("/v1/approvals/{id}/break-glass", post(approvals::break_glass))
        .route("/v1/approvals/{id}/cancel", post(approvals::cancel))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{id}/rotate", post(tokens::rotated))
        .route("/v1/tokens/{id}/revoke", post(tokens::revoke))
        .route("/v1/targets", get(targets::list).post(targets::add))
        .route("/v1/targets/{name}", get(targets::show))
        .route("/v1/targets/{name}/check", post(targets::check))
        .route("/v1/targets/{name}/rotate", post(targets::rotate))
        .route("/v1/targets/{name}/remove", post(targets::remove))
        .route("/v1/key/rotate", post(targets::rotate_key))
        .route("/v1/passwords", get(passwords::list_own).post(passwords::mint_own))
        .route("/v1/passwords/{id}/revoke", post(passwords::revoke_one))
        .merge(device::on_socket())
        .route("/v1/identities", get(identities::list))
        .route("/v1/identities/explain", post(explain::explain))
        .route("/v1/identities/revoke", post(identities::revoke))
        .route("/v1/identities/restore", post(identities::restore))
        .fallback(async || ErrorAnswer::not_found("no such path in the admin API"))
        .method_not_allowed_fallback(async || ErrorAnswer::method_not_allowed())
        .layer(axum::middleware::from_fn(peer::known_only))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(deps)
}

#[cfg(test)]
mod tests;
