//! The database under test: a MariaDB with the sample shop inside a network of its own, with TLS, that can be ended and
//! started again.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use xtask::mariadb::{SERVICE_PASSWORD, SERVICE_USER, Server};
use xtask::{sh, shop};

use super::network::Network;

/// How long it may take to start on a loaded machine.
const START: Duration = Duration::from_mins(1);

/// Inside its network it has every port for itself.
const PORT: u16 = 3306;

/// A running server; ended when dropped.
pub(super) struct Database {
    folder: PathBuf,
    child: Child,
}

impl Database {
    /// Makes the shop in `folder` and starts the server inside `network`. `certificate` is a folder with
    /// `rowgate.crt` and `rowgate.key`.
    pub(super) fn start(folder: &Path, network: &Network, certificate: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        // What is loaded must outlive the server's end, which comes at once.
        let mut server = Server::start(folder, &["--innodb-flush-log-at-trx-commit=1"])?;
        server.load(&shop::write_sql(folder)?)?;
        server.sql(&format!(
            "CREATE USER {SERVICE_USER}@'%' IDENTIFIED BY '{SERVICE_PASSWORD}' REQUIRE SSL; \
             GRANT ALL ON *.* TO {SERVICE_USER}@'%';"
        ))?;
        server.kill()?;
        drop(server);
        for file in ["rowgate.crt", "rowgate.key"] {
            fs::copy(certificate.join(file), folder.join(file))?;
        }
        Self::spawn(folder, network)
    }

    fn spawn(folder: &Path, network: &Network) -> Result<Self> {
        let log = fs::File::create(folder.join("mariadbd.log"))?;
        let path = |name: &str| folder.join(name).display().to_string();
        let program = sh::find_program("mariadbd").context("mariadbd is missing")?;
        let [ip, rest @ ..] = network.inside();
        let mut daemon = Command::new(ip);
        daemon.args(rest).arg(program).args(["--no-defaults", "--user=root"]);
        daemon.arg(format!("--datadir={}", path("data"))).arg(format!("--tmpdir={}", path("tmp")));
        daemon.arg(format!("--socket={}", path("mysqld.sock")));
        daemon.arg(format!("--pid-file={}", path("mysqld.pid")));
        daemon.arg(format!("--port={PORT}")).arg("--bind-address=0.0.0.0");
        daemon.arg(format!("--ssl-cert={}", path("rowgate.crt")));
        daemon.arg(format!("--ssl-key={}", path("rowgate.key")));
        daemon.args(["--skip-name-resolve", "--innodb-buffer-pool-size=128M", "--local-infile=1"]);
        daemon.args(["--innodb-flush-log-at-trx-commit=0", "--max-connections=500"]);
        daemon.args(["--max-allowed-packet=64M", "--innodb-lock-wait-timeout=10"]);
        daemon.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = daemon.spawn().context("starting mariadbd in its network")?;
        let mut database = Self { folder: folder.to_path_buf(), child };
        database.wait_until_up()?;
        Ok(database)
    }

    /// Where it listens.
    pub(super) fn address() -> SocketAddr {
        (Network::address(), PORT).into()
    }

    /// Ends it, in good order or as a crash would, and starts it again.
    pub(super) fn restart(&mut self, network: &Network, crash: bool) -> Result<()> {
        self.end(crash)?;
        *self = Self::spawn(&self.folder.clone(), network)?;
        Ok(())
    }

    /// Ends it, in good order or as a crash would.
    pub(super) fn end(&mut self, crash: bool) -> Result<()> {
        if crash {
            self.child.kill()?;
        } else {
            let pid = self.child.id().to_string();
            sh::capture(Command::new("kill").args(["-TERM", &pid]))?;
        }
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again after [`Self::end`]; it need not be reachable.
    pub(super) fn begin(&mut self, network: &Network) -> Result<()> {
        *self = Self::spawn(&self.folder.clone(), network)?;
        Ok(())
    }

    /// Statements that it runs for the gateway now.
    pub(super) fn running(&self) -> Result<String> {
        self.sql(&format!(
            "SELECT info FROM information_schema.processlist WHERE user = '{SERVICE_USER}' AND command <> 'Sleep'"
        ))
    }

    fn sql(&self, text: &str) -> Result<String> {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "--user=root", "--batch", "--skip-column-names"]);
        client.arg(format!("--socket={}", self.folder.join("mysqld.sock").display()));
        let output = sh::capture(client.args(["-e", text]))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// By its socket: the network may be cut.
    fn wait_until_up(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.folder.join("mariadbd.log")).unwrap_or_default();
                bail!("mariadbd ended at start ({status}):\n{log}");
            }
            if self.sql("SELECT 1").is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("mariadbd did not come up in {} s", START.as_secs())
    }

    /// Whether it can be reached from here.
    pub(super) fn is_reachable() -> bool {
        TcpStream::connect_timeout(&Self::address(), Duration::from_secs(5)).is_ok()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
