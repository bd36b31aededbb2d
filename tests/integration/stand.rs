//! A database with the sample shop and a gateway over it, for one test.

use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xtask::gateway::{Gateway, Options};
use xtask::mariadb::Server;
use xtask::shop;

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_rowgate"))
}

/// A test's world; everything in it ends when it is dropped.
pub(crate) struct Stand {
    pub(crate) gateway: Gateway,
    pub(crate) database: Server,
    pub(crate) folder: TempDir,
}

impl Stand {
    /// The demo's set-up.
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// The demo's set-up, changed.
    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = shop_database(folder.path());
        let mut options = Options::new(database.port());
        change(&mut options);
        let dir = folder.path().join("gateway");
        let gateway = Gateway::start(&binary(), &dir, &options).unwrap();
        Self { gateway, database, folder }
    }

    /// A token for an identity in this group.
    pub(crate) fn token(&self, identity: &str, group: &str) -> String {
        self.gateway.token(identity, group).unwrap()
    }

    /// Runs SQL with the stock client; what it printed.
    pub(crate) fn sql(&self, user: &str, token: &str, sql: &str) -> Output {
        let mut client = self.gateway.client(user, token);
        client.args(["--batch", "--database=shop", "-e", sql]).output().unwrap()
    }

    /// Runs SQL that must succeed.
    pub(crate) fn sql_ok(&self, user: &str, token: &str, sql: &str) -> String {
        let output = self.sql(user, token, sql);
        assert!(output.status.success(), "{sql}: {}\n{}", errors(&output), self.gateway.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs SQL that must fail; the error's text.
    pub(crate) fn sql_refused(&self, user: &str, token: &str, sql: &str) -> String {
        let output = self.sql(user, token, sql);
        assert!(!output.status.success(), "{sql} ran: {}", String::from_utf8_lossy(&output.stdout));
        errors(&output)
    }

    /// Starts SQL in the background.
    pub(crate) fn spawn_sql(&self, user: &str, token: &str, sql: &str) -> Child {
        let mut client = self.gateway.client(user, token);
        client.args(["--batch", "--database=shop", "-e", sql]);
        client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Waits for the one pending approval and gives its id.
    pub(crate) fn pending(&self) -> String {
        wait_for("a pending approval", || {
            let list = self.gateway.cli_ok(&["approvals", "list", "--output", "json"]).unwrap();
            let at = list.find("\"id\"")?;
            list[at + 4..].split('"').nth(1).map(str::to_owned)
        })
    }

    /// Whether no approval is pending.
    pub(crate) fn nothing_pending(&self) -> bool {
        let list = self.gateway.cli_ok(&["approvals", "list", "--output", "json"]).unwrap();
        !list.contains("\"id\"")
    }
}

/// A MariaDB with the shop and the gateway's account.
pub(crate) fn shop_database(folder: &Path) -> Server {
    let database = Server::start(&folder.join("mariadb"), &[]).unwrap();
    database.load(&shop::write_sql(folder).unwrap()).unwrap();
    database.add_service_account().unwrap();
    database
}

/// What a client wrote to its standard error.
pub(crate) fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Polls until `look` finds something; a generous limit, since machines are shared.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_mins(1);
    while Instant::now() < deadline {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what} did not happen");
}
