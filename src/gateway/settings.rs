//! From the configuration to what the data path is started with: listeners, bounds, targets with their accounts.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{GatewayError, account};
use crate::config::{ClientCertificates, ClientTls, Config, Target};
use crate::identity::LoginKey;
use crate::net::{Limits, Listener, TargetRuntime, upstream_config};
use crate::schema::{Flavour, ServerProfile, SqlMode};
use crate::socket::{self, Access};

/// Who may open a socket of whose rights nothing is said: the gateway's own user.
const SOCKET_MODE: u32 = 0o600;

/// Binds every target's listeners, so that a port in use ends the start with one line.
pub(super) fn bind(file: &Path, config: &Config) -> Result<Vec<(usize, Listener)>, GatewayError> {
    let mut bound = Vec::new();
    for (at, target) in config.targets.iter().enumerate() {
        let (file, name) = (file.display(), &target.name);
        if let Some(listen) = target.listen {
            let listener = TcpListener::bind(listen).map_err(|error| {
                GatewayError::Input(format!(
                    "{file}: targets.{name}.listen: {listen} can't be bound ({error}); choose a free address"
                ))
            })?;
            bound.push((at, Listener::Tcp(listener)));
        }
        if let Some(path) = &target.socket {
            let access = Access {
                mode: target.socket_mode.unwrap_or(SOCKET_MODE),
                uid: target.socket_uid,
                gid: target.socket_gid,
            };
            let (listener, held) = socket::listen(path, access).map_err(|error| {
                GatewayError::Input(format!(
                    "{file}: targets.{name}.socket: {error}; choose a path that is free and the gateway's to make"
                ))
            })?;
            bound.push((at, Listener::Unix(listener, held)));
        }
    }
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
        record_literals: config.audit.literals,
        durable_records,
    }
}

pub(super) fn targets(
    file: &Path,
    config: &Config,
    client_tls: Option<&Arc<rustls::ServerConfig>>,
) -> Result<Vec<TargetRuntime>, GatewayError> {
    let input = |key: String, what: &dyn std::fmt::Display| {
        GatewayError::Input(format!("{}: {key}: {what}", file.display()))
    };
    let login_key = login_key(file, config.server.login_key.as_deref())?;
    let target = |target: &Target| {
        let key = format!("targets.{}", target.name);
        let ca = match &target.tls_ca {
            None => None,
            Some(path) => Some(std::fs::read(path).map_err(|error| {
                input(format!("{key}.tls_ca"), &format!("{}: {error}", path.display()))
            })?),
        };
        let tls = upstream_config(
            &target.tls,
            host(&target.address),
            ca.as_deref(),
            target.tls_pin.as_deref(),
        )
        .map_err(|error| input(format!("{key}.tls"), &error))?;
        // Who may stay outside TLS shows no certificate either.
        let certified = config.tls.as_ref().and_then(|tls| tls.client_certificates);
        let certified = certified == Some(ClientCertificates::Required);
        let required = match target.client_tls {
            _ if certified => true,
            ClientTls::Required => true,
            ClientTls::Optional => false,
            ClientTls::Auto => target.listen.is_some_and(|listen| !listen.ip().is_loopback()),
        };
        if required && client_tls.is_none() {
            let what = "TLS is required for this listener, but there is no [tls]; \
                        run `rowgate cert self-signed`, or set client_tls = \"optional\"";
            return Err(input(format!("{key}.client_tls"), &what));
        }
        Ok(TargetRuntime {
            name: target.name.clone(),
            address: target.address.clone(),
            account: account(file, target)?,
            tls,
            client_tls: client_tls.cloned(),
            client_tls_required: required,
            socket_tls_required: certified,
            login_key: login_key.clone(),
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
    };
    config.targets.iter().map(target).collect()
}

/// The name to ask a database's certificate for.
pub(super) fn host(address: &str) -> &str {
    if address.starts_with("unix:") {
        return "localhost";
    }
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The key for whole secrets outside TLS.
fn login_key(file: &Path, place: Option<&str>) -> Result<Option<Arc<LoginKey>>, GatewayError> {
    let refused = |what: &dyn std::fmt::Display| {
        GatewayError::Input(format!("{}: server.login_key: {what}", file.display()))
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
    let both: [(&str, String, String); 12] = [
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
        ("passwords", text(&started.passwords), text(&now.passwords)),
        ("targets", text(&started.targets), text(&now.targets)),
    ];
    both.into_iter().filter(|(_, a, b)| a != b).map(|(name, ..)| name.to_owned()).collect()
}
