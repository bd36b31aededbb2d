//! A target as the data path knows it: how to reach it, how to log in there, and how it fares.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Semaphore;

use super::credentials::Credentials;
use super::tls::UpstreamTls;
use crate::codec::Compression;
use crate::fault::Fault;
use crate::identity::LoginKey;
use crate::schema::ServerProfile;

/// A database as the gateway configures it.
#[derive(Clone, Debug)]
pub struct TargetRuntime {
    /// Its name.
    pub name: String,
    /// `host:port`, or `unix:` and a path.
    pub address: String,
    /// What the gateway logs in with there.
    pub credentials: Arc<Credentials>,
    /// TLS towards the database.
    pub tls: UpstreamTls,
    /// The certificate shown to clients at first, if any.
    pub client_tls: Option<Arc<rustls::ServerConfig>>,
    /// Logins outside TLS are refused.
    pub client_tls_required: bool,
    /// Logins outside TLS are refused on this target's Unix socket, too.
    pub socket_tls_required: bool,
    /// The key for whole secrets outside TLS, if any.
    pub login_key: Option<Arc<LoginKey>>,
    /// How long a statement may take, its rows included; none: as long as it takes.
    pub statement_timeout: Option<Duration>,
    /// How connections to the database are compressed, if they are.
    pub compression: Option<Compression>,
    /// Connections to the database begin with a PROXY header.
    pub proxy_protocol: bool,
    /// Connections to the database at once, over all workers.
    pub max_upstream: usize,
    /// Idle ones that are kept ready, over all workers.
    pub min_idle: usize,
    /// After so long one is used no more.
    pub max_age: Duration,
    /// How long a session waits for one while all are in use.
    pub queue_timeout: Duration,
    /// After which an idle session's connection may go back to the pool; none: when the session ends.
    pub idle_release: Option<Duration>,
    /// What the handshake says until the server was first seen.
    pub profile: Arc<ServerProfile>,
}

/// The path of a database's Unix socket, where its address is one.
pub(super) fn socket_path(address: &str) -> Option<&Path> {
    address.strip_prefix("unix:").map(Path::new)
}

/// How a target fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetHealth {
    /// Failed attempts to connect or log in since the last success.
    pub consecutive_failures: u32,
    /// What the last failure was; empty after a success.
    pub last_error: String,
    /// Connections open now, over all workers.
    pub connections: usize,
    /// Sessions waiting for a connection.
    pub waiting: usize,
}

/// A target with its shared state.
pub(super) struct TargetState {
    pub(super) runtime: TargetRuntime,
    /// The certificate shown to clients now: a reload changes it.
    pub(super) client_tls: ArcSwapOption<rustls::ServerConfig>,
    /// What `address` resolves to now; empty where it does not.
    pub(super) addresses: ArcSwap<Vec<SocketAddr>>,
    /// The server's own `sql_mode`, once it was read: part of every connection's baseline.
    pub(super) sql_mode: ArcSwapOption<String>,
    /// A permit for every connection that may be open.
    pub(super) permits: Arc<Semaphore>,
    max_upstream: usize,
    /// Sessions that wait for a permit: idle connections are closed for them.
    pub(super) waiting: AtomicUsize,
    consecutive_failures: AtomicU32,
    last_error: Mutex<String>,
    removed: AtomicBool,
}

impl TargetState {
    pub(super) fn new(runtime: TargetRuntime) -> Self {
        let max_upstream = runtime.max_upstream.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            client_tls: ArcSwapOption::new(runtime.client_tls.clone()),
            runtime,
            addresses: ArcSwap::from_pointee(Vec::new()),
            sql_mode: ArcSwapOption::empty(),
            permits: Arc::new(Semaphore::new(max_upstream)),
            max_upstream,
            waiting: AtomicUsize::new(0),
            consecutive_failures: AtomicU32::new(0),
            last_error: Mutex::new(String::new()),
            removed: AtomicBool::new(false),
        }
    }

    /// It is no target of the gateway's any more.
    pub(super) fn remove(&self) {
        self.removed.store(true, Ordering::Release);
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// A connection was made.
    pub(super) fn succeeded(&self) {
        if self.consecutive_failures.swap(0, Ordering::Relaxed) > 0 {
            self.error().clear();
            tracing::info!(target = self.runtime.name, "the database answers again");
        }
    }

    /// A connection could not be made.
    pub(super) fn failed(&self, fault: &Fault) {
        let before = self.consecutive_failures.fetch_add(1, Ordering::Relaxed);
        let mut error = self.error();
        if before == 0 || *error != fault.message {
            tracing::warn!(target = self.runtime.name, error = fault.message, "no connection");
        }
        error.clone_from(&fault.message);
    }

    pub(super) fn health(&self) -> TargetHealth {
        TargetHealth {
            consecutive_failures: self.consecutive_failures.load(Ordering::Relaxed),
            last_error: self.error().clone(),
            connections: self.max_upstream.saturating_sub(self.permits.available_permits()),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    fn error(&self) -> std::sync::MutexGuard<'_, String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
