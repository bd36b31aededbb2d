//! `rowgate.toml` → validated types. Unknown keys are refused; every error names the file, the key and the mend.

mod approvals;
mod audit;
mod certificates;
mod check;
mod custody;
mod groups;
mod issuers;
mod parse;
mod paths;
mod saml;
#[cfg(test)]
mod tests;
mod web;
mod webhooks;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use approvals::{ApprovalMode, Approvals};
pub use audit::{Audit, Durability, Retention};
pub use certificates::CertificateName;
pub use check::check_stored;
pub use custody::{Custody, Reference, VaultServer};
pub use groups::Group;
pub use issuers::Issuer;
pub use parse::ConfigError;
pub use saml::{NameIdFormat, Saml};
pub use web::Web;
pub use webhooks::{ApprovalEvent, StatementSent, Webhook, WebhookFormat, WebhookPerson};

use crate::codec::Compression;
use crate::network::Network;

/// The whole configuration.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Must be 1.
    pub version: u32,
    /// Workers and limits of the data path.
    #[serde(default)]
    pub server: Server,
    /// Logs.
    #[serde(default)]
    pub log: Log,
    /// The control plane.
    #[serde(default)]
    pub admin: Admin,
    /// The pages that people sign in to.
    #[serde(default)]
    pub web: Option<Web>,
    /// Where tokens, approvals and policy versions are kept.
    pub store: Store,
    /// The record.
    pub audit: Audit,
    /// Policy files.
    pub policy: PolicyFiles,
    /// What is sensitive.
    #[serde(default)]
    pub labels: Vec<LabelRule>,
    /// WASM plugins.
    #[serde(default)]
    pub plugins: Vec<Plugin>,
    /// Keys that plugins may use by name, each `env:NAME` or `file:PATH`.
    #[serde(default)]
    pub keys: std::collections::BTreeMap<String, String>,
    /// Certificate for clients.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Whose signed tokens are a login.
    #[serde(default)]
    pub issuers: Vec<Issuer>,
    /// Whose SAML assertions sign a person in.
    #[serde(default)]
    pub saml: Vec<Saml>,
    /// Whose clients' certificates are.
    #[serde(default)]
    pub certificates: Vec<CertificateName>,
    /// Who is in which group, whoever vouches for them.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Session passwords.
    #[serde(default)]
    pub passwords: Passwords,
    /// Approval defaults.
    #[serde(default)]
    pub approvals: Approvals,
    /// Who is told of them.
    #[serde(default)]
    pub webhooks: Vec<Webhook>,
    /// The key that seals credentials, and how they are rotated.
    #[serde(default)]
    pub custody: Custody,
    /// From where `vault:` credentials are fetched.
    #[serde(default)]
    pub vault: Option<VaultServer>,
    /// The databases; more may be in the store.
    #[serde(default)]
    pub targets: Vec<Target>,
}

/// `driver`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// io_uring where the kernel allows it, epoll elsewhere.
    #[default]
    Auto,
    /// io_uring or an error.
    IoUring,
    /// epoll.
    Epoll,
}

/// `[server]`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// The I/O driver.
    pub driver: Driver,
    /// Worker threads; 0: one a core.
    pub workers: usize,
    /// Seconds between the word to end, from which on `/readyz` says so, and the drain.
    pub drain_notice_s: u64,
    /// Seconds that a drain waits for running statements.
    pub drain_timeout_s: u64,
    /// Longest statement, in bytes.
    pub max_statement_bytes: usize,
    /// Longest row that can be masked, in bytes.
    pub max_row_bytes: usize,
    /// Bytes that statements and masked rows of more than 64 KiB take together, on each worker; at least one of the
    /// longest finds room.
    pub max_collected_bytes: usize,
    /// Connections at once; over it, 1040.
    pub max_connections: usize,
    /// Seconds from accept to a finished login.
    pub login_timeout_s: u64,
    /// Seconds from the first packet to a database to a connection that is ready for statements.
    pub connect_timeout_s: u64,
    /// Seconds that a client may say nothing between two commands.
    pub idle_timeout_s: u64,
    /// Seconds that a peer may be silent before it is asked whether it is there.
    pub keepalive_s: u64,
    /// Seconds that a client may take no byte of what is sent to it.
    pub write_timeout_s: u64,
    /// Failed logins per address and minute, over which more are refused unseen.
    pub failed_logins_per_minute: u32,
    /// Close a session when the token, password or certificate that it got in with ends; else its next statement is refused.
    pub close_expired: bool,
    /// The RSA key under which clients of caching_sha2_password send a whole secret outside TLS: `generated` at each
    /// start, or `file:PATH` (PKCS#8, PEM). None: only their hashes count there.
    pub login_key: Option<String>,
    /// How clients may ask for their connection to be compressed.
    pub compression: Vec<Compression>,
    /// The balancers in front, whose connections begin with a PROXY header; nobody else's may.
    pub proxy_protocol_from: Vec<Network>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            driver: Driver::Auto,
            workers: 0,
            drain_notice_s: 0,
            drain_timeout_s: 30,
            max_statement_bytes: 16 << 20,
            max_row_bytes: 16 << 20,
            max_collected_bytes: 256 << 20,
            max_connections: 9_000,
            login_timeout_s: 10,
            connect_timeout_s: 10,
            idle_timeout_s: 28_800,
            keepalive_s: 60,
            write_timeout_s: 60,
            failed_logins_per_minute: 60,
            close_expired: false,
            login_key: None,
            compression: vec![Compression::Zlib, Compression::Zstd],
            proxy_protocol_from: Vec::new(),
        }
    }
}

/// `[log]`.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// JSON lines instead of text.
    pub json: bool,
    /// A `tracing` filter; empty: `info`.
    pub level: String,
}

/// `[admin]`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// The Unix socket of the CLI.
    pub socket: PathBuf,
    /// Address of `/metrics`, `/healthz`, `/readyz`; none: not served over TCP.
    pub listen: Option<SocketAddr>,
    /// Which Unix users are whom.
    pub peers: Vec<Peer>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { socket: PathBuf::from("/run/rowgate/admin.sock"), listen: None, peers: Vec::new() }
    }
}

/// `[[admin.peers]]`: a Unix user id and who that is on the admin socket.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// The user id by SO_PEERCRED.
    pub uid: u32,
    /// The identity it acts as.
    pub identity: String,
    /// That identity's groups.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// `[store]`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// Path of the SQLite file.
    pub path: PathBuf,
}

/// `[policy]`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFiles {
    /// Cedar files, each named: with a glob, a stray file would change who may do what.
    pub files: Vec<PathBuf>,
}

/// `[[labels]]`: a label and what carries it.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelRule {
    /// Its name, such as `pci` or `pii.email`.
    pub name: String,
    /// Patterns `schema.table.column`, `*` and `?` as wildcards.
    #[serde(default)]
    pub columns: Vec<String>,
    /// Patterns `schema.table` for labels of the table as such.
    #[serde(default)]
    pub tables: Vec<String>,
}

/// `[[plugins]]`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plugin {
    /// The name that masks and metrics use.
    pub name: String,
    /// The component.
    pub path: PathBuf,
    /// Handed to its `configure` as JSON.
    #[serde(default)]
    pub config: toml::Table,
    /// Memory of one instance, in MiB.
    #[serde(default = "default_memory_mib")]
    pub memory_mib: u32,
    /// Time of one call, in ms.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u32,
}

fn default_memory_mib() -> u32 {
    16
}

fn default_timeout_ms() -> u32 {
    100
}

/// `[tls]`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM chain.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
    /// PEM bundle that clients' certificates must lead to; none: clients are not asked for one.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Whether a client must have one. Only with `client_ca`.
    #[serde(default)]
    pub client_certificates: Option<ClientCertificates>,
}

/// `client_certificates`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// Who shows one must show a good one.
    Optional,
    /// Without one, no handshake.
    Required,
}

/// `[passwords]`: what persons who have signed in are given for the drivers.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Passwords {
    /// Seconds that one lives unless its owner asks for less or more.
    pub ttl_s: u64,
    /// Seconds that one may be asked to live.
    pub max_ttl_s: u64,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { ttl_s: 28_800, max_ttl_s: 43_200 }
    }
}

/// TLS towards the database.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamTls {
    /// Chain and name are checked.
    #[default]
    VerifyIdentity,
    /// The chain is checked.
    VerifyCa,
    /// This certificate and no other: `tls_pin`.
    Pin,
    /// No TLS: loopback and Unix sockets only.
    Off,
}

/// TLS towards the clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientTls {
    /// Required unless the listener is on loopback.
    #[default]
    Auto,
    /// Always.
    Required,
    /// Offered.
    Optional,
}

/// What `password` says of a target whose credential is in the store itself.
pub const SEALED: &str = "sealed";

/// PEM: a file's, or the text itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(from = "String", into = "String")]
pub enum Pem {
    /// A file.
    File(PathBuf),
    /// The text, which begins with `-----BEGIN`.
    Text(String),
}

impl From<String> for Pem {
    fn from(text: String) -> Self {
        let is_text = text.trim_start().starts_with("-----BEGIN");
        if is_text { Self::Text(text) } else { Self::File(PathBuf::from(text)) }
    }
}

impl From<Pem> for String {
    fn from(pem: Pem) -> Self {
        match pem {
            Pem::File(path) => path.display().to_string(),
            Pem::Text(text) => text,
        }
    }
}

/// `[[targets]]`: a database and the listener that leads to it.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its name in policies, metrics and the record.
    pub name: String,
    /// Where clients connect over TCP.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// Where clients of this machine connect: a Unix socket.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// The rights on its file.
    #[serde(default)]
    pub socket_mode: Option<u32>,
    /// The Unix user it belongs to; none: the gateway's own.
    #[serde(default)]
    pub socket_uid: Option<u32>,
    /// The Unix group it belongs to; none: the gateway's own.
    #[serde(default)]
    pub socket_gid: Option<u32>,
    /// `host:port` of the database, or `unix:` and the path of its socket.
    pub address: String,
    /// The gateway's account there.
    pub user: String,
    /// `env:NAME`, `file:PATH` or `vault:MOUNT/PATH#FIELD`; [`SEALED`] where the store has it.
    pub password: String,
    /// TLS towards the database.
    #[serde(default)]
    pub tls: UpstreamTls,
    /// PEM bundle for `verify-identity` and `verify-ca`; none: refused with those modes.
    #[serde(default)]
    pub tls_ca: Option<Pem>,
    /// `sha256:…` of the certificate (DER), for `pin`.
    #[serde(default)]
    pub tls_pin: Option<String>,
    /// PEM of the database's RSA key (`public_key.pem` in its data folder), for accounts of caching_sha2_password
    /// and sha256_password without TLS; none: the database is asked for it.
    #[serde(default)]
    pub server_public_key: Option<Pem>,
    /// TLS towards the clients of this listener.
    #[serde(default)]
    pub client_tls: ClientTls,
    /// Seconds that a statement may take, its rows included; 0: as long as it takes.
    #[serde(default)]
    pub statement_timeout_s: u64,
    /// How connections to the database are compressed; none: they are not.
    #[serde(default)]
    pub compression: Option<Compression>,
    /// Connections to the database begin with a PROXY header (version 2) that names the client's address.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Connections to the database at once, over all workers.
    #[serde(default = "default_max_upstream")]
    pub max_upstream: usize,
    /// Idle connections to the database that are kept ready, over all workers, as the last sessions asked for them.
    #[serde(default)]
    pub min_idle: usize,
    /// Seconds after which a connection to the database is used no more.
    #[serde(default = "default_max_age_s")]
    pub max_age_s: u64,
    /// Seconds that a session waits for a connection while all are in use.
    #[serde(default = "default_queue_timeout_s")]
    pub queue_timeout_s: u64,
    /// Seconds after which the connection of an idle session that would not miss it is lent to others; 0: never.
    #[serde(default = "default_idle_release_s")]
    pub idle_release_s: u64,
    /// Seconds between looks at the target's schema.
    #[serde(default = "default_catalog_refresh_s")]
    pub catalog_refresh_s: u64,
}

impl Target {
    /// Where clients connect: an address, a socket's path, or both with a comma between.
    pub fn listens(&self) -> String {
        let tcp = self.listen.map(|listen| listen.to_string());
        let socket = self.socket.as_ref().map(|path| path.display().to_string());
        tcp.into_iter().chain(socket).collect::<Vec<_>>().join(", ")
    }
}

fn default_max_upstream() -> usize {
    200
}

fn default_max_age_s() -> u64 {
    3_600
}

fn default_queue_timeout_s() -> u64 {
    10
}

fn default_idle_release_s() -> u64 {
    1
}

fn default_catalog_refresh_s() -> u64 {
    5
}
