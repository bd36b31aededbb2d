//! A database with the sample shop and a gateway over it, for one test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xtask::gateway::{Gateway, Options};
use xtask::{mariadb, mysql, shop};

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_rowgate"))
}

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    MariaDb,
    MySql,
}

/// Makes two tests of a function of a [`Flavour`]: one on each database.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            #[test]
            fn on_mariadb() {
                super::$name(crate::stand::Flavour::MariaDb);
            }

            #[test]
            fn on_mysql() {
                if !xtask::mysql::is_left_out() {
                    super::$name(crate::stand::Flavour::MySql);
                }
            }
        }
    )*};
}
pub(crate) use on_both;

/// A private server of either kind.
pub(crate) enum Database {
    MariaDb(mariadb::Server),
    MySql(mysql::Server),
}

impl Database {
    /// A server with the shop and the gateway's account.
    pub(crate) fn start(flavour: Flavour, folder: &Path, extra: &[&str]) -> Self {
        match flavour {
            Flavour::MariaDb => Self::MariaDb(shop_database_with(folder, extra)),
            Flavour::MySql => {
                let server = mysql::Server::start(&folder.join("mysql"), extra).unwrap();
                server.load(&shop::write_sql(folder).unwrap()).unwrap();
                server.add_service_account().unwrap();
                Self::MySql(server)
            }
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::MariaDb(server) => server.port(),
            Self::MySql(server) => server.port(),
        }
    }

    /// The data folder, where MySQL keeps the certificates and keys that it made for itself.
    pub(crate) fn data(&self) -> PathBuf {
        match self {
            Self::MariaDb(server) => server.data(),
            Self::MySql(server) => server.data(),
        }
    }

    /// Runs SQL as root.
    pub(crate) fn sql(&self, text: &str) -> anyhow::Result<String> {
        match self {
            Self::MariaDb(server) => server.sql(text),
            Self::MySql(server) => server.sql(text),
        }
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        match self {
            Self::MariaDb(server) => server.kill().unwrap(),
            Self::MySql(server) => server.kill().unwrap(),
        }
    }

    /// Starts it again on its folder and port.
    pub(crate) fn start_again(&mut self, folder: &Path) {
        let port = self.port();
        *self = match self {
            Self::MariaDb(_) => {
                let home = folder.join("mariadb");
                Self::MariaDb(mariadb::Server::start_again(&home, port, &[]).unwrap())
            }
            Self::MySql(_) => {
                let home = folder.join("mysql");
                Self::MySql(mysql::Server::start_again(&home, port, &[]).unwrap())
            }
        };
    }
}

/// A test's world; everything in it ends when it is dropped.
pub(crate) struct Stand {
    pub(crate) gateway: Gateway,
    pub(crate) database: Database,
    pub(crate) flavour: Flavour,
    pub(crate) folder: TempDir,
}

impl Stand {
    /// The demo's set-up.
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// The demo's set-up, changed.
    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        Self::on_with(Flavour::MariaDb, change)
    }

    /// The demo's set-up over this database.
    pub(crate) fn on(flavour: Flavour) -> Self {
        Self::on_with(flavour, |_| {})
    }

    /// The demo's set-up over this database, changed.
    pub(crate) fn on_with(flavour: Flavour, change: impl FnOnce(&mut Options)) -> Self {
        Self::after(flavour, &[], |_| {}, change)
    }

    /// The demo's set-up over this database, its server's options extended, after `prepare` had it, changed.
    pub(crate) fn after(
        flavour: Flavour,
        extra: &[&str],
        prepare: impl FnOnce(&Database),
        change: impl FnOnce(&mut Options),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::start(flavour, folder.path(), extra);
        prepare(&database);
        let mut options = Options::new(database.port());
        change(&mut options);
        let dir = folder.path().join("gateway");
        let gateway = Gateway::start(&binary(), &dir, &options).unwrap();
        Self { gateway, database, flavour, folder }
    }

    /// A token for an identity in this group.
    pub(crate) fn token(&self, identity: &str, group: &str) -> String {
        self.gateway.token(identity, group).unwrap()
    }

    /// The stock client of this database; add `-e` and the rest.
    pub(crate) fn client(&self, user: &str, token: &str) -> Command {
        if self.flavour == Flavour::MariaDb {
            return self.gateway.client(user, token);
        }
        let mut client = mysql::Tree::here().unwrap().program("mysql");
        client.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1"]);
        client.arg(format!("--port={}", self.gateway.port)).arg(format!("--user={user}"));
        client.env("MYSQL_PWD", token).stdin(Stdio::null());
        client
    }

    /// Runs SQL with the stock client; what it printed.
    pub(crate) fn sql(&self, user: &str, token: &str, sql: &str) -> Output {
        let mut client = self.client(user, token);
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
        let mut client = self.client(user, token);
        client.args(["--batch", "--database=shop", "-e", sql]);
        client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// A statement whose client is killed ends at the database too.
    pub(crate) fn a_statement_dies_with_its_client(&self, token: &str) {
        // (Not SLEEP, which looks after its client by itself.)
        let endless = "SELECT BENCHMARK(1000000000000, SHA2('x', 256))";
        let mut running = self.spawn_sql("bot", token, endless);
        let runs = || self.database.sql("SHOW FULL PROCESSLIST").unwrap().contains("BENCHMARK");
        wait_for("the statement upstream", || runs().then_some(()));
        running.kill().unwrap();
        running.wait().unwrap();
        wait_for("its end upstream", || (!runs()).then_some(()));
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
pub(crate) fn shop_database(folder: &Path) -> mariadb::Server {
    shop_database_with(folder, &[])
}

fn shop_database_with(folder: &Path, extra: &[&str]) -> mariadb::Server {
    let database = mariadb::Server::start(&folder.join("mariadb"), extra).unwrap();
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
