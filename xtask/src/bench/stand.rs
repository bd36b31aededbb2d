//! The database with its tables, the proxies and Rowgate, started and pinned.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use xtask::gateway::{Gateway, Options};
use xtask::mariadb::Server;
use xtask::sh::{self, step};

use super::Plan;
use super::book::{OTHER, OWN};
use super::peers::{Kind, Peer, Route, Terms, direct};

/// Rows of the table that point selects look in.
pub(super) const POINT_ROWS: u32 = 100_000;
/// Rows of the tables that are streamed, of 174 bytes each on the wire.
const STREAM_ROWS: u32 = 500_000;
/// Where a temporary file system is, if any: the disk of database and record is not what is measured, and a record
/// that waits for a disk that others keep busy refuses statements.
const MEMORY: &str = "/dev/shm";

/// A mask for the two labelled columns of the benchmark's table.
const RULE: &str = r#"
@id("bench-mask")
@mask("keep-last:4")
@message("masked for the benchmark")
forbid (principal, action == Action::"reveal", resource)
when { resource.labels.contains("bench") };
"#;
const LABEL: &str =
    "\n[[labels]]\nname = \"bench\"\ncolumns = [\"bench.labelled.c1\", \"bench.labelled.c2\"]\n";

/// Everything that a measurement needs.
pub(super) struct Stand {
    pub plan: Plan,
    pub routes: Vec<Route>,
    /// What is not measured, and why.
    pub left_out: Vec<String>,
    kinds: Vec<Kind>,
    work: PathBuf,
    binary: PathBuf,
    tls: (PathBuf, PathBuf),
    // In the order in which they end.
    proxies: Vec<Proxy>,
    database: Server,
    scratch: tempfile::TempDir,
}

/// A proxy of one kind or another.
pub(super) enum Proxy {
    Peer(Peer),
    Rowgate { route: Box<Route>, _gateway: Gateway },
}

impl Proxy {
    pub(super) fn route(&self) -> Route {
        match self {
            Self::Peer(peer) => peer.route(),
            Self::Rowgate { route, .. } => Route::clone(route),
        }
    }
}

impl Stand {
    pub(super) fn start(work: &Path, plan: Plan) -> Result<Self> {
        let mut left_out = Vec::new();
        let kinds = install(&plan, &mut left_out);
        let built = sh::target_dir().join("release/rowgate");
        let binary = plan.binary.clone().unwrap_or(built);
        raise_limit()?;
        if plan.pin {
            // Children inherit the affinity: database, proxies and clients share core 0.
            pin(std::process::id(), "0")?;
        }
        let mut words = Command::new(&binary);
        words.args(["cert", "self-signed", "--host", "localhost", "--out"]).arg(work.join("tls"));
        sh::capture(&mut words)?;
        let tls = (work.join("tls/rowgate.crt"), work.join("tls/rowgate.key"));
        let place = if Path::new(MEMORY).is_dir() { Path::new(MEMORY) } else { work };
        let scratch = tempfile::Builder::new().prefix("rowgate-bench-").tempdir_in(place)?;
        let database = start_database(scratch.path(), &tls)?;
        let mut stand = Self {
            plan,
            routes: vec![direct(database.port())],
            left_out,
            kinds,
            work: work.to_path_buf(),
            binary,
            tls,
            database,
            proxies: Vec::new(),
            scratch,
        };
        stand.start_proxies()?;
        Ok(stand)
    }

    fn start_proxies(&mut self) -> Result<()> {
        for name in self.names() {
            step(&format!("starting {name}"));
            match self.proxy(name, 1) {
                Ok(proxy) => {
                    self.routes.push(proxy.route());
                    self.proxies.push(proxy);
                }
                Err(error) if self.is_peer(name) => {
                    println!("    {name} is left out: {error:#}");
                    self.left_out.push(format!("{name}: {error:#}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn is_peer(&self, name: &str) -> bool {
        self.kinds.iter().any(|kind| kind.name() == name)
    }

    /// The proxies that are measured, Rowgate last.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let other = self.plan.other.as_ref().map(|_| OTHER);
        self.kinds.iter().map(|kind| kind.name()).chain([OWN]).chain(other).collect()
    }

    /// A proxy of its own for one measurement.
    pub(super) fn proxy(&self, name: &str, threads: usize) -> Result<Proxy> {
        match self.kinds.iter().find(|kind| kind.name() == name) {
            Some(kind) => {
                let terms = Terms {
                    work: &self.work,
                    database: self.database.port(),
                    threads,
                    tls: (&self.tls.0, &self.tls.1),
                };
                Ok(Proxy::Peer(Peer::start(*kind, &terms)?))
            }
            None => self.rowgate(name, threads),
        }
    }

    fn rowgate(&self, name: &str, threads: usize) -> Result<Proxy> {
        let (name, binary) = match &self.plan.other {
            Some(other) if name == OTHER => (OTHER, other),
            _ => (OWN, &self.binary),
        };
        let mut options = Options::new(self.database.port());
        options.workers = threads;
        self.plan.driver.clone_into(&mut options.driver);
        "async".clone_into(&mut options.durability);
        options.labels.push_str(LABEL);
        "max_connections = 9600".clone_into(&mut options.server);
        options.upstream_tls.push_str("\nmax_upstream = 4000");
        options.more = format!(
            "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
            self.tls.0.display(),
            self.tls.1.display()
        );
        let folder =
            tempfile::Builder::new().prefix("rowgate-").tempdir_in(self.scratch.path())?.keep();
        let policy = fs::read_to_string(sh::root().join("policies/default.cedar"))?;
        fs::write(folder.join("policy.cedar"), policy + RULE)?;
        let gateway = Gateway::start(binary, &folder, &options)?;
        let route = Route {
            name,
            port: gateway.port,
            user: "bench".to_owned(),
            password: gateway.token("bench", "agents")?,
            pid: Some(gateway.pid()),
        };
        Ok(Proxy::Rowgate { route: Box::new(route), _gateway: gateway })
    }

    pub(super) fn wants(&self, heading: &str) -> bool {
        heading.contains(&self.plan.only)
    }

    /// Runs with nothing pinned, what is started meanwhile included.
    pub(super) fn unpinned<T>(&self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let all = format!("0-{}", cores() - 1);
        for pid in [std::process::id(), self.database.pid()] {
            pin(pid, &all)?;
        }
        let outcome = run();
        if self.plan.pin {
            for pid in [std::process::id(), self.database.pid()] {
                pin(pid, "0")?;
            }
        }
        outcome
    }
}

pub(super) fn cores() -> usize {
    fs::read_to_string("/proc/cpuinfo")
        .map_or(1, |text| text.lines().filter(|line| line.starts_with("processor")).count().max(1))
}

fn install(plan: &Plan, left_out: &mut Vec<String>) -> Vec<Kind> {
    left_out.push("ProxySQL: in no package registry that is used here".to_owned());
    let mut kinds = Vec::new();
    for kind in Kind::ALL {
        if !plan.peers.is_empty() && !plan.peers.split(',').any(|name| name == kind.name()) {
            continue;
        }
        match kind.install() {
            Ok(()) => kinds.push(kind),
            Err(error) => {
                println!("    {} is left out: {error:#}", kind.name());
                left_out.push(format!("{}: {error:#}", kind.name()));
            }
        }
    }
    kinds
}

fn start_database(scratch: &Path, tls: &(PathBuf, PathBuf)) -> Result<Server> {
    step("starting MariaDB and filling its tables");
    let certificate = format!("--ssl-cert={}", tls.0.display());
    let key = format!("--ssl-key={}", tls.1.display());
    let files = ["--max-connections=9600", "--open-files-limit=20000", "--back-log=1000"];
    let mut options = vec![certificate.as_str(), key.as_str(), "--innodb-buffer-pool-size=512M"];
    options.extend(files);
    let database = Server::start(&scratch.join("mariadb"), &options)?;
    database.add_service_account()?;
    let columns: Vec<String> = (0..10).map(|at| format!("c{at} VARCHAR(32) NOT NULL")).collect();
    let values: Vec<String> =
        (0..10).map(|at| format!("CONCAT('value-{at}-', LPAD(seq, 8, '0'))")).collect();
    // The first is sysbench's.
    database.sql(&format!(
        "CREATE DATABASE bench; USE bench; \
         CREATE TABLE sbtest1 (id INT PRIMARY KEY AUTO_INCREMENT, k INT NOT NULL DEFAULT 0, \
           c CHAR(120) NOT NULL DEFAULT '', pad CHAR(60) NOT NULL DEFAULT '', KEY k_1 (k)); \
         INSERT INTO sbtest1 SELECT seq, seq * 7919 % {POINT_ROWS}, \
           CONCAT_WS('-', MD5(seq), MD5(seq + 1), MD5(seq + 2)), MD5(seq) FROM seq_1_to_{POINT_ROWS}; \
         CREATE TABLE plain ({}); CREATE TABLE labelled LIKE plain; \
         INSERT INTO plain SELECT {} FROM seq_1_to_{STREAM_ROWS}; \
         INSERT INTO labelled SELECT * FROM plain",
        columns.join(", "),
        values.join(", "),
    ))?;
    Ok(database)
}

/// As many descriptors as this process may have, for it and all that it starts.
fn raise_limit() -> Result<()> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(4)).context("no limit of files")?;
    let mut prlimit = Command::new("prlimit");
    prlimit.arg(format!("--pid={}", std::process::id())).arg(format!("--nofile={hard}:{hard}"));
    sh::capture(&mut prlimit).map(drop)
}

fn pin(pid: u32, cores: &str) -> Result<()> {
    let mut taskset = Command::new("taskset");
    sh::capture(taskset.args(["-a", "-p", "-c", cores]).arg(pid.to_string())).map(drop)
}
