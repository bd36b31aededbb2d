//! A private MariaDB in a temporary folder, for one test.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(super) const PASSWORD: &str = "the gateway's own";

/// A running server; killed when dropped.
pub(super) struct Database {
    pub(super) port: u16,
    folder: TempDir,
    child: Child,
}

impl Database {
    /// Starts one with the gateway's account. `None` where MariaDB is not installed.
    pub(super) fn start(arguments: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let installed = Command::new("mariadb-install-db")
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .args(["--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !installed.is_ok_and(|status| status.success()) {
            eprintln!("left out: mariadb-install-db is not here");
            return None;
        }
        let port = free_port();
        let child = serve(folder.path(), port, arguments);
        let database = Self { port, folder, child };
        let deadline = Instant::now() + Duration::from_mins(1);
        while !database.sql("SELECT 1").status.success() {
            assert!(Instant::now() < deadline, "MariaDB does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        let made = database.sql(&format!(
            "CREATE USER gate@'%' IDENTIFIED BY \"{PASSWORD}\"; GRANT ALL ON *.* TO gate@'%'; \
             CREATE DATABASE shop; CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(60)); \
             INSERT INTO shop.item SELECT seq, CONCAT('item number ', seq) FROM mysql.seq_1_to_2000;"
        ));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Some(database)
    }

    /// Runs SQL as root, past the gateway.
    pub(super) fn sql(&self, sql: &str) -> Output {
        let socket = self.folder.path().join("socket");
        Command::new("mariadb")
            .args(["--no-defaults", "--user=root", "--batch", "--skip-column-names"])
            .arg(format!("--socket={}", socket.display()))
            .args(["-e", sql])
            .output()
            .unwrap()
    }

    /// What it runs now.
    pub(super) fn processes(&self) -> String {
        String::from_utf8_lossy(&self.sql("SHOW FULL PROCESSLIST").stdout).into_owned()
    }

    /// Ends it without a word.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve(folder: &Path, port: u16, arguments: &[&str]) -> Child {
    let path = |name: &str| folder.join(name).display().to_string();
    Command::new("mariadbd")
        .args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--skip-name-resolve"])
        .arg(format!("--datadir={}", path("data")))
        .arg(format!("--socket={}", path("socket")))
        .arg(format!("--pid-file={}", path("pid")))
        .arg(format!("--port={port}"))
        .args(["--innodb-buffer-pool-size=16M", "--max-allowed-packet=64M"])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
