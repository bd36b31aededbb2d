//! A private MariaDB in a temporary folder, for one test.

use std::process::{Command, Output};

use tempfile::TempDir;
use xtask::mariadb::Server;
use xtask::sh;

pub(super) const PASSWORD: &str = "the gateway's own";

/// A running server; killed when dropped.
pub(super) struct Database {
    server: Server,
    folder: TempDir,
}

impl Database {
    /// Starts one with the gateway's account. `None` where MariaDB is not installed.
    pub(super) fn start(arguments: &[&str]) -> Option<Self> {
        if sh::find_program("mariadbd").is_none() {
            eprintln!("left out: mariadbd is not here; `cargo xtask setup` installs it");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut options = vec!["--innodb-buffer-pool-size=16M", "--max-allowed-packet=64M"];
        options.extend(arguments);
        let server = Server::start(folder.path(), &options).unwrap();
        let made = format!(
            "CREATE USER gate@'%' IDENTIFIED BY \"{PASSWORD}\"; GRANT ALL ON *.* TO gate@'%'; \
             CREATE DATABASE shop; CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(60)); \
             INSERT INTO shop.item SELECT seq, CONCAT('item number ', seq) FROM mysql.seq_1_to_2000;"
        );
        server.sql(&made).unwrap();
        Some(Self { server, folder })
    }

    /// The port on 127.0.0.1.
    pub(super) fn port(&self) -> u16 {
        self.server.port()
    }

    /// Runs SQL as root, past the gateway.
    pub(super) fn sql(&self, sql: &str) -> Output {
        let socket = self.folder.path().join("mysqld.sock");
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
        self.server.kill().unwrap();
    }
}
