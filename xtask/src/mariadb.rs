//! A private MariaDB in a temporary folder: made in a second, on a free port of loopback, stopped by its pid.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::sh;

/// The account that the gateway logs in with, and its password: of these throw-away servers only.
pub const SERVICE_USER: &str = "rowgate";
pub const SERVICE_PASSWORD: &str = "only-the-gateway-knows";

/// How long a server may take to start on a loaded machine.
const START: Duration = Duration::from_mins(1);

/// A running server; stopped when dropped.
#[derive(Debug)]
pub struct Server {
    dir: PathBuf,
    port: u16,
    child: Child,
}

impl Server {
    /// Makes a data folder in `dir` and starts a server on it. `extra` are more options of mariadbd.
    pub fn start(dir: &Path, extra: &[&str]) -> Result<Self> {
        let data = dir.join("data");
        if !data.exists() {
            fs::create_dir_all(temporary(dir))?;
            let mut install = Command::new(program("mariadb-install-db")?);
            install.args(["--no-defaults", "--skip-test-db"]);
            install.arg("--auth-root-authentication-method=normal");
            install.arg(format!("--datadir={}", data.display())).args(as_root());
            install.env("TMPDIR", temporary(dir));
            sh::capture(&mut install).context("making a MariaDB data folder")?;
        }
        Self::start_again(dir, free_port()?, extra)
    }

    /// Starts a server on the data folder that is in `dir`, on this port.
    pub fn start_again(dir: &Path, port: u16, extra: &[&str]) -> Result<Self> {
        let log = fs::File::create(dir.join("mariadbd.log"))?;
        let mut daemon = Command::new(program("mariadbd")?);
        daemon.arg("--no-defaults").args(as_root());
        daemon.arg(format!("--datadir={}", dir.join("data").display()));
        daemon.arg(format!("--tmpdir={}", temporary(dir).display()));
        daemon.arg(format!("--socket={}", dir.join("mysqld.sock").display()));
        daemon.arg(format!("--pid-file={}", dir.join("mysqld.pid").display()));
        daemon.arg(format!("--port={port}")).arg("--bind-address=127.0.0.1");
        daemon.args(["--skip-name-resolve", "--innodb-buffer-pool-size=128M"]);
        daemon.args(["--innodb-flush-log-at-trx-commit=0", "--max-connections=500"]).args(extra);
        daemon.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = daemon.spawn().context("starting mariadbd")?;
        let mut server = Self { dir: dir.to_path_buf(), port, child };
        server.wait_until_up()?;
        Ok(server)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Runs SQL as root over the server's socket and gives what the client printed.
    pub fn sql(&self, text: &str) -> Result<String> {
        let mut client = Command::new(program("mariadb")?);
        client.args(["--no-defaults", "--user=root", "--batch", "--skip-column-names"]);
        client.arg(format!("--socket={}", self.dir.join("mysqld.sock").display()));
        client.args(["-e", text]);
        let output = sh::capture(&mut client)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Feeds a file of SQL to the server as root.
    pub fn load(&self, file: &Path) -> Result<()> {
        let mut client = Command::new(program("mariadb")?);
        client.args(["--no-defaults", "--user=root"]);
        client.arg(format!("--socket={}", self.dir.join("mysqld.sock").display()));
        client.stdin(fs::File::open(file)?);
        let output = client.output().context("starting mariadb")?;
        if !output.status.success() {
            bail!("loading {}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Makes the gateway's account.
    pub fn add_service_account(&self) -> Result<()> {
        self.sql(&format!(
            "CREATE USER IF NOT EXISTS {SERVICE_USER}@'127.0.0.1' IDENTIFIED BY '{SERVICE_PASSWORD}'; \
             GRANT ALL ON *.* TO {SERVICE_USER}@'127.0.0.1';"
        ))?;
        Ok(())
    }

    /// Ends the server at once, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("mariadbd ended at start ({status}); see {}", self.log().display());
            }
            let reachable = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
            if reachable && self.sql("SELECT 1").is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("mariadbd did not come up in {} s; see {}", START.as_secs(), self.log().display())
    }

    fn log(&self) -> PathBuf {
        self.dir.join("mariadbd.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ports for servers: below those that the kernel gives to outgoing connections, any of which could take a free port
/// before its server does.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port of loopback that nothing listens on, given once only in this process.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    // Processes side by side begin at different places.
    let begin = std::process::id().wrapping_mul(7_919);
    for _ in 0..count {
        let at = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        let port = PORTS.start + u16::try_from(at)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of {PORTS:?} is free")
}

/// Where a server keeps its temporary tables: its own, since one that starts deletes what it takes for leftovers.
fn temporary(dir: &Path) -> PathBuf {
    dir.join("tmp")
}

fn program(name: &str) -> Result<PathBuf> {
    sh::find_program(name).with_context(|| format!("{name} is missing: run `cargo xtask setup`"))
}

/// mariadbd refuses to run as root unless told to.
pub(crate) fn as_root() -> Option<&'static str> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|meta| {
        use std::os::unix::fs::MetadataExt as _;
        meta.uid() == 0
    });
    is_root.then_some("--user=root")
}
