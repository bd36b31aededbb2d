//! From the configuration to what the data path is started with: listeners, bounds, targets with their accounts.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::GatewayError;
use super::custody::Held;
use super::passed::Passed;
use crate::config::{ClientCertificates, ClientTls, Config, Target};
use crate::identity::LoginKey;
use crate::net::{Credentials, Limits, Listener, TargetRuntime, UpstreamTls, upstream_config};
use crate::schema::{Flavour, ServerProfile, SqlMode};
use crate::socket::{self, Access};

/// Who may open a socket of whose rights nothing is said: the gateway's own user.
const SOCKET_MODE: u32 = 0o600;

/// Binds a target's listeners, those that were not passed on.
pub(super) fn bind(target: &Target, passed: &mut Passed) -> Result<Vec<Listener>, String> {
    let mut bound = Vec::new();
    if let Some(listen) = target.listen {
        bound.extend(passed.tcp(listen));
    }
    if let Some(listen) = target.listen.filter(|_| bound.is_empty()) {
        let listener = TcpListener::bind(listen).map_err(|error| {
            format!("listen: {listen} can't be bound ({error}); choose a free address")
        })?;
        bound.push(Listener::Tcp(listener));
    }
    if let Some(path) = &target.socket {
        let access = Access {
            mode: target.socket_mode.unwrap_or(SOCKET_MODE),
            uid: target.socket_uid,
            gid: target.socket_gid,
        };
        let there = passed.unix(path, access).map_err(|error| format!("socket: {error}"))?;
        if let Some(listener) = there {
            bound.push(listener);
            return Ok(bound);
        }
        let (listener, held) = socket::listen(path, access).map_err(|error| {
            format!("socket: {error}; choose a path that is free and the gateway's to make")
        })?;
        bound.push(Listener::Unix(listener, held));
    }
    Ok(bound)
}

/// Binds those of all targets of the configuration, so that a port in use ends the start with one line.
pub(super) fn bind_all(
    file: &Path,
    config: &Config,
    mut passed: Passed,
) -> Result<Vec<(usize, Listener)>, GatewayError> {
    let mut bound = Vec::new();
    for (at, target) in config.targets.iter().enumerate() {
        let of_target = bind(target, &mut passed)
            .map_err(|error| GatewayError::in_target(file, target, error))?;
        bound.extend(of_target.into_iter().map(|listener| (at, listener)));
    }
    passed.all_claimed(file)?;
    Ok(bound)
}

pub(super) fn limits(config: &Config, durable_records: bool) -> Limits {
    let server = &config.server;
    Limits {
        max_connections: server.max_connections,
        max_statement_bytes: server.max_statement_bytes,
        max_row_bytes: server.max_row_bytes,
        max_collected_bytes: server
            .max_collected_bytes
            .max(server.max_statement_bytes)
            .max(server.max_row_bytes),
        login_timeout: Duration::from_secs(server.login_timeout_s),
        connect_timeout: Duration::from_secs(server.connect_timeout_s),
        idle_timeout: Duration::from_secs(server.idle_timeout_s),
        keepalive: Duration::from_secs(server.keepalive_s),
        compression: server.compression.iter().fold(0, |all, by| all | by.capability()),
        write_timeout: Duration::from_secs(server.write_timeout_s),
        failed_logins_per_minute: server.failed_logins_per_minute,
        close_expired: server.close_expired,
        record_literals: config.audit.literals,
        recorded_bytes: config.audit.answer_bytes,
        durable_records,
    }
}

/// What targets have in common.
pub(super) struct Common {
    client_tls: ArcSwapOption<rustls::ServerConfig>,
    /// Clients must show a certificate.
    certified: bool,
    login_key: Option<Arc<LoginKey>>,
}

impl Common {
    pub(super) fn new(
        config: &Config,
        client_tls: Option<Arc<rustls::ServerConfig>>,
        login_key: Option<Arc<LoginKey>>,
    ) -> Self {
        let certified = config.tls.as_ref().and_then(|tls| tls.client_certificates);
        Self {
            client_tls: ArcSwapOption::new(client_tls),
            certified: certified == Some(ClientCertificates::Required),
            login_key,
        }
    }

    /// Another pair of the clients' TLS.
    pub(super) fn set_client_tls(&self, renewed: &Arc<rustls::ServerConfig>) {
        self.client_tls.store(Some(Arc::clone(renewed)));
    }
}

/// TLS towards a target.
pub(super) fn upstream_tls(target: &Target) -> Result<UpstreamTls, String> {
    let ca = target.tls_ca.as_ref().map(super::pem).transpose();
    let ca = ca.map_err(|error| format!("tls_ca: {error}"))?;
    let (host, pin) = (host(&target.address), target.tls_pin.as_deref());
    upstream_config(&target.tls, host, ca.as_deref(), pin).map_err(|error| format!("tls: {error}"))
}

/// A target as the data path has it. An error begins with the key.
pub(super) fn runtime(
    target: &Target,
    common: &Common,
    credentials: Arc<Credentials>,
) -> Result<TargetRuntime, String> {
    let client_tls = common.client_tls.load_full();
    let required = match target.client_tls {
        // Who may stay outside TLS shows no certificate either.
        _ if common.certified => true,
        ClientTls::Required => true,
        ClientTls::Optional => false,
        ClientTls::Auto => target.listen.is_some_and(|listen| !listen.ip().is_loopback()),
    };
    if required && client_tls.is_none() {
        let what = "client_tls: TLS is required for this listener, but there is no [tls]; \
                    run `rowgate cert self-signed`, or set client_tls = \"optional\"";
        return Err(what.to_owned());
    }
    Ok(TargetRuntime {
        name: target.name.clone(),
        address: target.address.clone(),
        credentials,
        tls: upstream_tls(target)?,
        client_tls,
        client_tls_required: required,
        socket_tls_required: common.certified,
        login_key: common.login_key.clone(),
        statement_timeout: (target.statement_timeout_s > 0)
            .then(|| Duration::from_secs(target.statement_timeout_s)),
        compression: target.compression,
        proxy_protocol: target.proxy_protocol,
        max_upstream: target.max_upstream,
        min_idle: target.min_idle,
        max_age: Duration::from_secs(target.max_age_s),
        queue_timeout: Duration::from_secs(target.queue_timeout_s),
        idle_release: (target.idle_release_s > 0)
            .then(|| Duration::from_secs(target.idle_release_s)),
        profile: Arc::new(unseen()),
    })
}

/// The configuration's targets as the data path has them.
pub(super) fn runtimes(
    file: &Path,
    configured: &[Held],
    common: &Common,
) -> Result<Vec<TargetRuntime>, GatewayError> {
    let runtime = |held: &Held| {
        let made = runtime(&held.target, common, Arc::clone(&held.credentials));
        made.map_err(|error| GatewayError::in_target(file, &held.target, error))
    };
    configured.iter().map(runtime).collect()
}

/// The name to ask a database's certificate for.
fn host(address: &str) -> &str {
    if address.starts_with("unix:") {
        return "localhost";
    }
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The key for whole secrets outside TLS.
pub(super) fn login_key(
    file: &Path,
    place: Option<&str>,
) -> Result<Option<Arc<LoginKey>>, GatewayError> {
    let refused = |what: &dyn std::fmt::Display| {
        GatewayError::in_file(file, format_args!("server.login_key: {what}"))
    };
    let key = match place {
        None => return Ok(None),
        Some("generated") => LoginKey::generate(),
        Some(place) => {
            let pem = crate::vault::resolve(place).map_err(|error| refused(&error))?;
            LoginKey::from_pem(pem.expose())
        }
    };
    match key {
        Some(key) => Ok(Some(Arc::new(key))),
        None => Err(refused(&"no RSA key of 2048 bits and more in PKCS#8 PEM (BEGIN PRIVATE KEY)")),
    }
}

/// What the handshake says of a server that was never seen. Every statement is refused until it has been.
fn unseen() -> ServerProfile {
    ServerProfile {
        flavour: Flavour::MariaDb,
        version: 101_100,
        version_string: "5.5.5-10.11.0-MariaDB-rowgate".to_owned(),
        lower_case_table_names: 0,
        sql_mode: SqlMode(0),
        capabilities: None,
    }
}

/// The tables of the configuration that differ from those that the gateway was started with, of those that it takes
/// over at its start only.
pub(super) fn needs_restart(started: &Config, now: &Config) -> Vec<String> {
    let text = |part: &dyn std::fmt::Debug| format!("{part:?}");
    let certificates =
        |config: &Config| config.tls.as_ref().and_then(|tls| tls.client_certificates);
    let web = |config: &Config| config.web.as_ref().map(|web| web.listen);
    let both: [(&str, String, String); 15] = [
        ("server", text(&started.server), text(&now.server)),
        ("log", text(&started.log), text(&now.log)),
        ("admin.socket", text(&started.admin.socket), text(&now.admin.socket)),
        ("admin.listen", text(&started.admin.listen), text(&now.admin.listen)),
        ("web.listen", text(&web(started)), text(&web(now))),
        ("store", text(&started.store), text(&now.store)),
        ("audit", text(&started.audit), text(&now.audit)),
        // Another pair is taken over at once.
        ("tls", text(&started.tls.is_some()), text(&now.tls.is_some())),
        ("tls.client_certificates", text(&certificates(started)), text(&certificates(now))),
        ("approvals", text(&started.approvals), text(&now.approvals)),
        ("webhooks", text(&started.webhooks), text(&now.webhooks)),
        ("custody", text(&started.custody), text(&now.custody)),
        ("vault", text(&started.vault), text(&now.vault)),
        ("passwords", text(&started.passwords), text(&now.passwords)),
        ("targets", text(&started.targets), text(&now.targets)),
    ];
    both.into_iter().filter(|(_, a, b)| a != b).map(|(name, ..)| name.to_owned()).collect()
}
