//! The proxies beside which Rowgate is measured, each configured as a plain relay of TCP with as many threads as
//! Rowgate has workers; mysqlrouter speaks the protocol, and ends TLS.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use xtask::{mariadb, mysql, setup, sh};

/// How long a proxy may take to listen.
const START: Duration = Duration::from_secs(30);
/// More than any measurement opens.
const CONNECTIONS: u32 = 9_600;

/// One thing that a client can connect to.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub name: &'static str,
    pub port: u16,
    pub user: String,
    pub password: String,
    /// The proxy's process; none for the direct route.
    pub pid: Option<u32>,
}

/// A proxy's process, ended when dropped.
pub(super) struct Peer {
    child: Child,
    port: u16,
    name: &'static str,
}

/// What kinds there are, in the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Haproxy,
    Nginx,
    Envoy,
    Mysqlrouter,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Haproxy, Self::Nginx, Self::Envoy, Self::Mysqlrouter];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Envoy => "Envoy",
            Self::Mysqlrouter => "mysqlrouter",
        }
    }

    /// Installs it, where it is missing; nothing is installed on the machine but HAProxy.
    pub(super) fn install(self) -> Result<()> {
        match self {
            Self::Haproxy => setup::ensure(&setup::BENCH),
            Self::Nginx => setup::nginx().map(drop),
            Self::Envoy => setup::envoy().map(drop),
            Self::Mysqlrouter => mysql::fetch().map(drop),
        }
    }
}

/// What a proxy is started with.
pub(super) struct Terms<'a> {
    /// A folder that holds a folder for each.
    pub work: &'a Path,
    pub database: u16,
    pub threads: usize,
    /// Certificate and key, where TLS can be ended.
    pub tls: (&'a Path, &'a Path),
}

impl Peer {
    pub(super) fn start(kind: Kind, terms: &Terms<'_>) -> Result<Self> {
        let port = mariadb::free_port()?;
        let folder = terms.work.join(format!("{}-{port}", kind.name()));
        fs::create_dir_all(&folder)?;
        let mut command = match kind {
            Kind::Haproxy => haproxy(&folder, port, terms)?,
            Kind::Nginx => nginx(&folder, port, terms)?,
            Kind::Envoy => envoy(&folder, port, terms)?,
            Kind::Mysqlrouter => mysqlrouter(&folder, port, terms)?,
        };
        let log = fs::File::create(folder.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {}", kind.name()))?;
        let mut peer = Self { child, port, name: kind.name() };
        peer.wait_until_up(&folder)?;
        Ok(peer)
    }

    pub(super) fn route(&self) -> Route {
        Route { name: self.name, pid: Some(self.child.id()), ..direct(self.port) }
    }

    fn wait_until_up(&mut self, folder: &Path) -> Result<()> {
        let deadline = Instant::now() + START;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(folder.join("log")).unwrap_or_default();
                bail!("{} did not come up ({ended:?}): {}", self.name, said.trim());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // nginx's workers end with their parent, which must be asked.
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        for _ in 0..40 {
            if asked.is_err() || self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The database itself.
pub(super) fn direct(port: u16) -> Route {
    Route {
        name: "direct",
        port,
        user: mariadb::SERVICE_USER.to_owned(),
        password: mariadb::SERVICE_PASSWORD.to_owned(),
        pid: None,
    }
}

fn haproxy(folder: &Path, port: u16, terms: &Terms<'_>) -> Result<Command> {
    let file = folder.join("haproxy.cfg");
    let (threads, database) = (terms.threads, terms.database);
    let text = format!(
        "global\n  nbthread {threads}\n  maxconn {CONNECTIONS}\ndefaults\n  mode tcp\n  \
         timeout connect 5s\n  timeout client 600s\n  timeout server 600s\nlisten db\n  \
         bind 127.0.0.1:{port}\n  server db 127.0.0.1:{database}\n"
    );
    fs::write(&file, text)?;
    let program = sh::find_program("haproxy").context("haproxy is missing")?;
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(&file);
    Ok(command)
}

fn nginx(folder: &Path, port: u16, terms: &Terms<'_>) -> Result<Command> {
    let file = folder.join("nginx.conf");
    let root = setup::nginx()?;
    let (threads, database) = (terms.threads, terms.database);
    let module = root.join("usr/lib/nginx/modules/ngx_stream_module.so");
    let (module, folder) = (module.display(), folder.display());
    let files = 2 * CONNECTIONS + 200;
    let text = format!(
        "load_module {module};\nuser root;\ndaemon off;\nworker_processes {threads};\n\
         worker_rlimit_nofile {files};\npid {folder}/pid;\nerror_log stderr error;\n\
         events {{ worker_connections {files}; }}\nstream {{\n  server {{\n    \
         listen 127.0.0.1:{port};\n    proxy_pass 127.0.0.1:{database};\n    \
         proxy_timeout 600s;\n  }}\n}}\n"
    );
    fs::write(&file, text)?;
    let mut command = Command::new(root.join("usr/sbin/nginx"));
    command.args(["-e", "stderr", "-c"]).arg(&file);
    Ok(command)
}

fn envoy(folder: &Path, port: u16, terms: &Terms<'_>) -> Result<Command> {
    let file = folder.join("envoy.yaml");
    let address =
        |port: u16| format!("{{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}");
    let text = format!(
        "static_resources:
  listeners:
  - name: db
    address: {listen}
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: db
          cluster: db
  clusters:
  - name: db
    type: STATIC
    circuit_breakers:
      thresholds: [{{ max_connections: {CONNECTIONS}, max_pending_requests: {CONNECTIONS} }}]
    load_assignment:
      cluster_name: db
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {database} }} }}] }}]
",
        listen = address(port),
        database = address(terms.database),
    );
    fs::write(&file, text)?;
    let mut command = Command::new(setup::envoy()?);
    command.args(["--disable-hot-restart", "--log-level", "error", "--concurrency"]);
    command.arg(terms.threads.to_string()).arg("-c").arg(&file);
    Ok(command)
}

fn mysqlrouter(folder: &Path, port: u16, terms: &Terms<'_>) -> Result<Command> {
    let file = folder.join("mysqlrouter.conf");
    let tree = mysql::Tree::here()?;
    let plugins = tree.root().join("root/usr/lib/mysqlrouter/plugin");
    let (threads, database) = (terms.threads, terms.database);
    let (certificate, key) = terms.tls;
    let text = format!(
        "[DEFAULT]\nplugin_folder={}\nruntime_folder={folder}\ndata_folder={folder}\nlogging_folder=\n\
         max_total_connections={CONNECTIONS}\n[logger]\nlevel=error\n[io]\nthreads={threads}\n\
         [routing:db]\nbind_address=127.0.0.1\nbind_port={port}\n\
         destinations=127.0.0.1:{database}\nrouting_strategy=first-available\nprotocol=classic\n\
         max_connections={CONNECTIONS}\nclient_ssl_mode=PREFERRED\nclient_ssl_cert={}\n\
         client_ssl_key={}\nserver_ssl_mode=DISABLED\n",
        plugins.display(),
        certificate.display(),
        key.display(),
        folder = folder.display(),
    );
    fs::write(&file, text)?;
    let mut command = tree.program("mysqlrouter");
    command.arg("-c").arg(&file);
    Ok(command)
}
