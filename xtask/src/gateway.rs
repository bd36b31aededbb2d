//! A gateway over a private MariaDB in a temporary folder: its configuration, its process, its CLI.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::mariadb::{self, SERVICE_PASSWORD, SERVICE_USER};
use crate::{http, sh};

/// How long a gateway may take to be ready on a loaded machine, plugins compiled in the dev profile included.
const START: Duration = Duration::from_secs(90);

/// What to start; the defaults are the demo's.
#[derive(Clone, Debug)]
pub struct Options {
    /// The database's port.
    pub database_port: u16,
    /// Its address, where that is not this port of 127.0.0.1.
    pub address: Option<String>,
    /// The address that the gateway listens on.
    pub listen_host: String,
    /// `auto`, `io_uring`, `epoll`.
    pub driver: String,
    /// Worker threads.
    pub workers: usize,
    /// `sync` or `async`.
    pub durability: String,
    /// TOML appended to `[audit]`.
    pub audit: String,
    /// Seconds that a held statement waits.
    pub wait_s: u64,
    /// TOML appended to `[approvals]`.
    pub approvals: String,
    /// TOML appended to `[server]`.
    pub server: String,
    /// TOML appended to the configuration.
    pub more: String,
    /// TOML of the target's TLS towards the database.
    pub upstream_tls: String,
    /// TOML of `[[labels]]`; the shop's by default.
    pub labels: String,
    /// TOML of `[[plugins]]`; the shipped three by default.
    pub plugins: String,
    /// Where audit segments go; `audit` in the folder by default.
    pub audit_dir: Option<PathBuf>,
    /// Seconds between looks at the target's schema.
    pub catalog_refresh_s: u64,
}

impl Options {
    /// The demo's options over the database on this port.
    pub fn new(database_port: u16) -> Self {
        Self {
            database_port,
            address: None,
            listen_host: "127.0.0.1".to_owned(),
            driver: "auto".to_owned(),
            workers: 2,
            durability: "sync".to_owned(),
            audit: String::new(),
            server: String::new(),
            wait_s: 50,
            approvals: String::new(),
            more: String::new(),
            upstream_tls: "tls = \"off\"".to_owned(),
            labels: SHOP_LABELS.to_owned(),
            plugins: shipped_plugins(),
            audit_dir: None,
            catalog_refresh_s: 1,
        }
    }
}

/// What is sensitive in the sample shop.
pub const SHOP_LABELS: &str = r#"[[labels]]
name = "pci"
columns = ["shop.customers.card_number"]

[[labels]]
name = "pii"
columns = ["shop.customers.email", "shop.customers.phone", "shop.customers.ssn"]

[[labels]]
name = "free-text"
columns = ["*.*.notes"]

[[labels]]
name = "high-value"
tables = ["shop.payments"]
"#;

/// The three plugins that `cargo xtask plugins` builds.
pub fn shipped_plugins() -> String {
    let mut text = String::new();
    for (name, config) in [
        ("mask-standard", ""),
        ("classify-pii", ""),
        ("guard-risk", "config = { max_rows = 1000, groups = [\"approvers\"] }\n"),
    ] {
        let path = sh::root().join("target/plugins").join(format!("{name}.wasm"));
        let _ = write!(
            text,
            "[[plugins]]\nname = \"{name}\"\npath = \"{}\"\n{config}\n",
            path.display()
        );
    }
    text
}

/// Makes a self-signed pair for 127.0.0.1 in `folder`; its certificate.
pub fn make_pair(binary: &Path, folder: &Path) -> Result<PathBuf> {
    let mut make = Command::new(binary);
    make.args(["cert", "self-signed", "--host", "127.0.0.1", "--out"]).arg(folder);
    sh::capture(&mut make)?;
    Ok(folder.join("rowgate.crt"))
}

/// The `[tls]` table for the pair in `folder`.
pub fn tls_table(folder: &Path) -> String {
    let folder = folder.display();
    format!("[tls]\ncertificate = \"{folder}/rowgate.crt\"\nkey = \"{folder}/rowgate.key\"\n")
}

/// The `[web]` table for pages at this address of loopback; `more` is the rest of it.
pub fn web_table(url: &str, more: &str) -> String {
    let (_, listen) = url.split_once("://").unwrap_or_default();
    format!("[web]\nlisten = \"{listen}\"\nurl = \"{url}\"\n{more}\n")
}

/// A shipped plugin as it would be had it been built against version 0.9.0 of the contract.
pub fn plugin_of_another_version() -> Result<Vec<u8>> {
    let mut bytes = fs::read(sh::root().join("target/plugins/mask-standard.wasm"))?;
    let (ours, other) = (b"@0.1.0", b"@0.9.0");
    for at in 0..bytes.len().saturating_sub(ours.len()) {
        if bytes[at..].starts_with(ours) {
            bytes[at..at + other.len()].copy_from_slice(other);
        }
    }
    Ok(bytes)
}

/// A running gateway; ended when dropped.
#[derive(Debug)]
pub struct Gateway {
    dir: PathBuf,
    binary: PathBuf,
    /// The clients' port.
    pub port: u16,
    /// The port of `/metrics`.
    pub admin_port: u16,
    child: Child,
}

impl Gateway {
    /// Writes a configuration into `dir` and serves it with `binary`. Waits until it is ready.
    pub fn start(binary: &Path, dir: &Path, options: &Options) -> Result<Self> {
        let (port, admin_port) = (mariadb::free_port()?, mariadb::free_port()?);
        prepare(dir, port, admin_port, options)?;
        let mut gateway = Self::start_unready(binary, dir, port, admin_port)?;
        gateway.wait_until("/readyz", START)?;
        Ok(gateway)
    }

    /// Serves a folder that [`prepare`] made, without waiting for readiness.
    pub fn start_unready(binary: &Path, dir: &Path, port: u16, admin_port: u16) -> Result<Self> {
        let child = spawn(binary, dir)?;
        let (dir, binary) = (dir.to_path_buf(), binary.to_path_buf());
        Ok(Self { dir, binary, port, admin_port, child })
    }

    /// Starts the process again over the same folder, after [`Self::kill`] or [`Self::terminate`].
    pub fn start_again(&mut self) -> Result<()> {
        self.child = spawn(&self.binary, &self.dir)?;
        self.wait_until("/readyz", START)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder with configuration, policies, record and log.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs a verb of the CLI against this gateway.
    pub fn cli(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.binary);
        command.args(words).env("ROWGATE_CONFIG", self.dir.join("rowgate.toml"));
        command.stdin(Stdio::null()).output().with_context(|| format!("running rowgate {words:?}"))
    }

    /// Runs a verb that must succeed, and gives what it printed.
    pub fn cli_ok(&self, words: &[&str]) -> Result<String> {
        let output = self.cli(words)?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("`rowgate {}` failed ({}): {}", words.join(" "), output.status, error.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Makes a token and gives it.
    pub fn token(&self, identity: &str, group: &str) -> Result<String> {
        let words =
            ["token", "create", "--identity", identity, "--group", group, "--output", "json"];
        let text = self.cli_ok(&words)?;
        let at = text.find("rgt_").with_context(|| format!("no token in {text:?}"))?;
        let token: String = text[at..]
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || "_-".contains(*c))
            .collect();
        Ok(token)
    }

    /// GETs a path of the admin port: status and body.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        http::ask(self.admin_port, "GET", path, None)
    }

    /// The value of a metric line that starts with `name` (labels and all), if it is there.
    pub fn metric(&self, name: &str) -> Result<Option<f64>> {
        let (_, text) = self.get("/metrics")?;
        let line = text.lines().find(|line| line.starts_with(name));
        Ok(line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok()))
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("rowgate.log")).unwrap_or_default()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to drain (SIGTERM) and waits for its end.
    pub fn terminate(&mut self) -> Result<std::process::ExitStatus> {
        self.signal("-TERM")?;
        Ok(self.child.wait()?)
    }

    /// Sends a signal by its name, such as `-HUP`.
    pub fn signal(&self, name: &str) -> Result<()> {
        sh::capture(Command::new("kill").arg(name).arg(self.child.id().to_string()))?;
        Ok(())
    }

    /// Waits until a path of the admin port answers 200.
    pub fn wait_until(&mut self, path: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("rowgate ended at start ({status}):\n{}", self.log());
            }
            if self.get(path).is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let (status, body) = self.get(path).unwrap_or((0, "no answer".to_owned()));
        bail!(
            "{path} still says {status} {body:?} after {} s; log:\n{}",
            limit.as_secs(),
            self.log()
        )
    }

    /// A `mariadb` client as this identity; add `-e` and the rest.
    pub fn client(&self, user: &str, token: &str) -> Command {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1"]);
        client.arg(format!("--port={}", self.port)).arg(format!("--user={user}"));
        client.env("MYSQL_PWD", token).stdin(Stdio::null());
        client
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(binary: &Path, dir: &Path) -> Result<Child> {
    let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("rowgate.log"))?;
    let mut serve = Command::new(binary);
    serve.args(["serve", "--config"]).arg(dir.join("rowgate.toml"));
    serve.env("ROWGATE_DEMO_PASSWORD", SERVICE_PASSWORD);
    serve.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    serve.spawn().with_context(|| format!("starting {}", binary.display()))
}

/// Writes configuration and policy into `dir`.
pub fn prepare(dir: &Path, port: u16, admin_port: u16, options: &Options) -> Result<()> {
    fs::create_dir_all(dir)?;
    let policy = dir.join("policy.cedar");
    if !policy.exists() {
        fs::copy(sh::root().join("policies/default.cedar"), &policy)?;
    }
    fs::write(dir.join("rowgate.toml"), config(dir, port, admin_port, options))?;
    Ok(())
}

fn config(dir: &Path, port: u16, admin_port: u16, options: &Options) -> String {
    let here = || format!("127.0.0.1:{}", options.database_port);
    let address = options.address.clone().unwrap_or_else(here);
    let audit = options.audit_dir.clone().unwrap_or_else(|| dir.join("audit"));
    format!(
        r#"version = 1

[server]
driver = "{driver}"
workers = {workers}
{server}

[admin]
socket = "{dir}/admin.sock"
listen = "127.0.0.1:{admin_port}"

[[admin.peers]]
uid = 0
identity = "alice"
groups = ["approvers", "admins"]

[store]
path = "{dir}/rowgate.db"

[audit]
dir = "{audit}"
durability = "{durability}"
{of_audit}

[policy]
files = ["{dir}/policy.cedar"]

[approvals]
wait_s = {wait_s}
{approvals}

{labels}
[[targets]]
name = "shop"
listen = "{listen_host}:{port}"
address = "{address}"
user = "{SERVICE_USER}"
password = "env:ROWGATE_DEMO_PASSWORD"
{upstream_tls}
catalog_refresh_s = {refresh}

{plugins}
{more}
"#,
        driver = options.driver,
        workers = options.workers,
        server = options.server,
        dir = dir.display(),
        audit = audit.display(),
        durability = options.durability,
        of_audit = options.audit,
        wait_s = options.wait_s,
        approvals = options.approvals,
        listen_host = options.listen_host,
        address = address,
        refresh = options.catalog_refresh_s,
        upstream_tls = options.upstream_tls,
        labels = options.labels,
        plugins = options.plugins,
        more = options.more,
    )
}
