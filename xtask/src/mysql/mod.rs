//! A private MySQL in a temporary folder, on a free port of loopback, stopped by its pid; or a
//! turn on the server that [`ELSEWHERE`] names. The binaries come from [`tree`].

mod elsewhere;
mod tree;

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::mariadb::{SERVICE_PASSWORD, SERVICE_USER, as_root, free_port};
use crate::{sh, shop};

pub use elsewhere::ELSEWHERE;
use elsewhere::Elsewhere;
pub use tree::{Tree, fetch};

/// Set to `1`, it leaves out the tests that need MySQL, where Debian's mirror can't be reached.
pub const LEAVE_OUT: &str = "ROWGATE_WITHOUT_MYSQL";

/// How long a server may take to start on a loaded machine.
const START: Duration = Duration::from_mins(2);

/// Whether the tests that need MySQL are left out; said on the terminal.
pub fn is_left_out() -> bool {
    let left_out = std::env::var_os(LEAVE_OUT).is_some_and(|value| value == "1");
    if left_out {
        println!("{LEAVE_OUT}=1: LEFT OUT, nothing is tested on MySQL");
    }
    left_out
}

/// Whether the tests run on a server that is not theirs to stop or to look into; said on the terminal.
pub fn is_elsewhere() -> bool {
    let elsewhere = std::env::var_os(ELSEWHERE).is_some();
    if elsewhere {
        println!("{ELSEWHERE} is set: LEFT OUT, this needs a server of the test's own");
    }
    elsewhere
}

/// A running server; stopped when dropped.
#[derive(Debug)]
pub struct Server {
    tree: Tree,
    dir: PathBuf,
    port: u16,
    runs: Runs,
}

#[derive(Debug)]
enum Runs {
    Here(Child),
    Elsewhere(Elsewhere),
}

impl Server {
    /// Makes a data folder in `dir` and starts a server on it. `extra` are more options of mysqld.
    pub fn start(dir: &Path, extra: &[&str]) -> Result<Self> {
        if let Some(there) = Elsewhere::take()? {
            let (tree, port) = (Tree::here()?, there.port);
            return Ok(Self { tree, dir: dir.to_path_buf(), port, runs: Runs::Elsewhere(there) });
        }
        Self::start_on(dir, free_port()?, extra)
    }

    fn start_on(dir: &Path, port: u16, extra: &[&str]) -> Result<Self> {
        let tree = Tree::here()?;
        let data = dir.join("data");
        if !data.exists() {
            let template = template(&tree)?;
            fs::create_dir_all(dir.join("tmp"))?;
            // Most of a fresh data folder are holes.
            let mut copy = Command::new("cp");
            copy.args(["-r", "--reflink=auto", "--sparse=always"]).arg(&template).arg(&data);
            sh::capture(&mut copy).context("copying the data folder")?;
        }
        Self::start_again(dir, port, extra)
    }

    /// Starts a server on the data folder that is in `dir`, on this port.
    pub fn start_again(dir: &Path, port: u16, extra: &[&str]) -> Result<Self> {
        let tree = Tree::here()?;
        let log = fs::File::create(dir.join("mysqld.log"))?;
        let mut daemon = daemon(&tree, &dir.join("data"), &dir.join("tmp"));
        daemon.arg(format!("--socket={}", dir.join("mysqld.sock").display()));
        daemon.arg(format!("--pid-file={}", dir.join("mysqld.pid").display()));
        daemon.arg(format!("--port={port}")).args(["--bind-address=127.0.0.1", "--mysqlx=0"]);
        daemon.args(["--skip-name-resolve", "--innodb-buffer-pool-size=64M", "--disable-log-bin"]);
        daemon.args(["--innodb-flush-log-at-trx-commit=0", "--max-connections=500"]);
        // A quarter of a server's memory, and nothing of what is tested.
        daemon.arg("--performance-schema=OFF").args(extra);
        daemon.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = daemon.spawn().context("starting mysqld")?;
        let mut server = Self { tree, dir: dir.to_path_buf(), port, runs: Runs::Here(child) };
        server.wait_until_up()?;
        Ok(server)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process id, where it is this one's.
    pub fn pid(&self) -> Option<u32> {
        match &self.runs {
            Runs::Here(child) => Some(child.id()),
            Runs::Elsewhere(_) => None,
        }
    }

    /// The socket's path.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("mysqld.sock")
    }

    /// The data folder: the certificates and keys that the server made for itself are there.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Runs SQL as root over the server's socket and gives what the client printed.
    pub fn sql(&self, text: &str) -> Result<String> {
        sql(self.client(), text)
    }

    /// Feeds a file of SQL to the server as root.
    pub fn load(&self, file: &Path) -> Result<()> {
        let output = self.client().stdin(fs::File::open(file)?).output().context("mysql")?;
        if !output.status.success() {
            bail!("loading {}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Makes the gateway's account.
    pub fn add_service_account(&self) -> Result<()> {
        let host = match &self.runs {
            Runs::Here(_) => "127.0.0.1",
            Runs::Elsewhere(_) => "%",
        };
        self.sql(&format!(
            "CREATE USER IF NOT EXISTS {SERVICE_USER}@'{host}' IDENTIFIED BY '{SERVICE_PASSWORD}'; \
             GRANT ALL ON *.* TO {SERVICE_USER}@'{host}' WITH GRANT OPTION;"
        ))?;
        Ok(())
    }

    /// Ends the server at once, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        let Runs::Here(child) = &mut self.runs else { bail!("{ELSEWHERE} is not ours to stop") };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    fn client(&self) -> Command {
        if let Runs::Elsewhere(there) = &self.runs {
            return there.client(&self.tree);
        }
        let mut client = self.tree.program("mysql");
        client.args(["--no-defaults", "--user=root"]);
        client.arg(format!("--socket={}", self.socket().display()));
        client
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        let log = self.dir.join("mysqld.log");
        while Instant::now() < deadline {
            let Runs::Here(child) = &mut self.runs else { return Ok(()) };
            if let Some(status) = child.try_wait()? {
                let said = fs::read_to_string(&log).unwrap_or_default();
                bail!("mysqld ended at start ({status}):\n{said}");
            }
            let reachable = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
            if reachable && self.sql("SELECT 1").is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("mysqld did not come up in {} s; see {}", START.as_secs(), log.display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Runs::Here(child) = &mut self.runs {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs SQL with this client and gives what it printed.
fn sql(mut client: Command, text: &str) -> Result<String> {
    let output = sh::capture(client.args(["--batch", "--skip-column-names", "-e", text]))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Starts a server that stays up, with the sample shop, and says how to reach it.
pub fn up(port: u16) -> Result<()> {
    let tree = fetch()?;
    let dir = home(&tree);
    if let Some(pid) = running(&dir) {
        bail!("it is up already (pid {pid}); `cargo xtask mysql down` ends it");
    }
    let is_new = !dir.join("data").exists();
    let server = Server::start_on(&dir, port, &[])?;
    if is_new {
        server.load(&shop::write_sql(&dir)?)?;
        server.add_service_account()?;
    }
    println!(
        "MySQL is up on 127.0.0.1:{port} (pid {}), with the sample shop:",
        server.pid().unwrap_or(0)
    );
    println!("  as root by its socket: {}", show(&server.client()));
    println!("  as the gateway: user {SERVICE_USER}, password {SERVICE_PASSWORD}");
    // It is meant to outlive this process.
    std::mem::forget(server);
    Ok(())
}

/// Ends the server that [`up`] started, by its pid.
pub fn down() -> Result<()> {
    let dir = home(&Tree::here()?);
    let Some(pid) = running(&dir) else {
        println!("it is not up");
        return Ok(());
    };
    sh::capture(Command::new("kill").arg(pid.to_string()))?;
    let deadline = Instant::now() + START;
    while running(&dir).is_some() {
        if Instant::now() > deadline {
            bail!("pid {pid} has not ended");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("it is down");
    Ok(())
}

fn home(tree: &Tree) -> PathBuf {
    tree.root().join("up")
}

/// The pid of the server on this folder; a number left by one that crashed may be another process's by now.
fn running(dir: &Path) -> Option<u32> {
    let pid = fs::read_to_string(dir.join("mysqld.pid")).ok()?.trim().parse().ok()?;
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let ours = dir.join("data").display().to_string();
    String::from_utf8_lossy(&words).contains(&ours).then_some(pid)
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// A data folder as `--initialize` leaves it, to be copied: making one takes ten seconds.
fn template(tree: &Tree) -> Result<PathBuf> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let template = tree.root().join("template");
    if template.exists() {
        return Ok(template);
    }
    // Other processes may be at it, too: whoever is done first wins.
    let own = tree.root().join(format!("template.{}", std::process::id()));
    let tmp = tree.root().join(format!("template.{}.tmp", std::process::id()));
    fs::create_dir_all(&tmp)?;
    let mut initialize = daemon(tree, &own, &tmp);
    initialize.arg("--initialize-insecure");
    sh::capture(&mut initialize).context("making a MySQL data folder")?;
    fs::remove_dir_all(&tmp)?;
    // A server that finds none gives itself a uuid of its own.
    fs::remove_file(own.join("auto.cnf"))?;
    if fs::rename(&own, &template).is_err() {
        fs::remove_dir_all(&own)?;
    }
    Ok(template)
}

/// mysqld with what it needs to find its own files.
fn daemon(tree: &Tree, data: &Path, tmp: &Path) -> Command {
    let mut daemon = tree.program("mysqld");
    daemon.arg("--no-defaults").args(as_root());
    let share = tree.root().join("root/usr/share/mysql");
    for (option, path) in [
        ("basedir", tree.root().join("root/usr")),
        ("datadir", data.to_path_buf()),
        ("tmpdir", tmp.to_path_buf()),
        ("lc-messages-dir", share.clone()),
        ("character-sets-dir", share.join("charsets")),
        ("plugin-dir", tree.plugins()),
    ] {
        daemon.arg(format!("--{option}={}", path.display()));
    }
    // As MariaDB does by default; Debian's folder for it is not there.
    daemon.args(["--secure-file-priv=", "--innodb-redo-log-capacity=8M"]);
    daemon
}
