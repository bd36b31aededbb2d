//! The world of one run: a private database with the sample shop, a gateway over it, and the three routes to the
//! database that a suite is run on.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use xtask::gateway::{Gateway, Options};
use xtask::mariadb::{self, SERVICE_PASSWORD, SERVICE_USER};
use xtask::{mysql, sh, shop};

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    MariaDb,
    MySql,
}

impl Flavour {
    pub(super) const ALL: [Self; 2] = [Self::MariaDb, Self::MySql];

    /// As `--database` and the list of known differences say it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb",
            Self::MySql => "mysql",
        }
    }
}

/// How a suite reaches the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Direct,
    Passthrough,
    Governed,
}

impl Way {
    pub(super) const ALL: [Self; 3] = [Self::Direct, Self::Passthrough, Self::Governed];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Passthrough => "passthrough",
            Self::Governed => "governed",
        }
    }
}

/// Where a suite connects to, and as whom.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) flavour: Flavour,
    pub(super) way: Way,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: String,
}

impl Route {
    /// `user:password@127.0.0.1:port`, as URLs have it.
    pub(super) fn authority(&self) -> String {
        format!("{}:{}@127.0.0.1:{}", self.user, self.password, self.port)
    }
}

/// Stopped when dropped.
enum Database {
    MariaDb(mariadb::Server),
    MySql(mysql::Server),
}

/// What suites want of a server beyond its defaults.
const OPTIONS: [&str; 3] =
    ["--local-infile=1", "--max-allowed-packet=64M", "--log-bin-trust-function-creators=1"];

impl Database {
    fn start(flavour: Flavour, dir: &Path) -> Result<Self> {
        let shop = shop::write_sql(dir)?;
        match flavour {
            Flavour::MariaDb => {
                let server = mariadb::Server::start(&dir.join("mariadb"), &OPTIONS)?;
                server.load(&shop)?;
                server.add_service_account()?;
                Ok(Self::MariaDb(server))
            }
            Flavour::MySql => {
                let server = mysql::Server::start(&dir.join("mysql"), &OPTIONS)?;
                server.load(&shop)?;
                server.add_service_account()?;
                Ok(Self::MySql(server))
            }
        }
    }

    fn port(&self) -> u16 {
        match self {
            Self::MariaDb(server) => server.port(),
            Self::MySql(server) => server.port(),
        }
    }

    fn sql(&self, text: &str) -> Result<String> {
        match self {
            Self::MariaDb(server) => server.sql(text),
            Self::MySql(server) => server.sql(text),
        }
    }
}

/// Everything in it ends when it is dropped.
pub(super) struct Stand {
    _gateway: Gateway,
    database: Database,
    routes: Vec<Route>,
    folder: TempDir,
}

impl Stand {
    pub(super) fn start(flavour: Flavour, binary: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let dir = folder.path();
        fs::create_dir_all(dir.join(flavour.name()))?;
        let database = Database::start(flavour, dir)?;
        database.sql("GRANT ALL ON *.* TO rowgate@'127.0.0.1' WITH GRANT OPTION")?;
        let mut options = Options::new(database.port());
        LABELS.clone_into(&mut options.labels);
        let mask = sh::root().join("target/plugins/mask-standard.wasm");
        options.plugins =
            format!("[[plugins]]\nname = \"mask-standard\"\npath = \"{}\"\n", mask.display());
        "max_statement_bytes = 67108864\n".clone_into(&mut options.server);
        "async".clone_into(&mut options.durability);
        options.catalog_refresh_s = 1;
        if let Database::MySql(server) = &database {
            // It offers TLS, and some drivers then count on it.
            let data = server.data();
            options.more = format!(
                "[tls]\ncertificate = \"{0}/server-cert.pem\"\nkey = \"{0}/server-key.pem\"\n",
                data.display()
            );
        }
        let home = dir.join("gateway");
        fs::create_dir_all(&home)?;
        fs::copy(sh::root().join("tests/drivers/policy.cedar"), home.join("policy.cedar"))?;
        let gateway = Gateway::start(binary, &home, &options)?;
        let mut routes = vec![Route {
            flavour,
            way: Way::Direct,
            port: database.port(),
            user: SERVICE_USER.to_owned(),
            password: SERVICE_PASSWORD.to_owned(),
        }];
        for way in [Way::Passthrough, Way::Governed] {
            let password = gateway.token(way.name(), way.name())?;
            let user = way.name().to_owned();
            routes.push(Route { flavour, way, port: gateway.port, user, password });
        }
        Ok(Self { _gateway: gateway, database, routes, folder })
    }

    pub(super) fn route(&self, way: Way) -> Result<&Route> {
        let found = self.routes.iter().find(|route| route.way == way);
        found.context("a stand has a route of each kind")
    }

    /// Runs SQL as root, past the gateway.
    pub(super) fn sql(&self, text: &str) -> Result<String> {
        self.database.sql(text)
    }

    /// A folder that goes with the stand.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Makes the governed identity governed: the suites have no business in the shop.
const LABELS: &str = r#"[[labels]]
name = "pii"
columns = ["shop.customers.email", "shop.customers.phone", "shop.customers.ssn"]

"#;
