//! The tools that people use on a database, each on real work: stock clients with a script, dumps and their restoring,
//! imports, sysbench, mycli, pt-show-grants. A tool passes where it ends well, and is right where it prints the same.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use xtask::{mysql, setup, sh};

use super::outcomes::Outcomes;
use super::python;
use super::stand::{Flavour, Route};

/// The programs that stock installations lack.
const NEEDS: [setup::Need; 2] = [("sysbench", "sysbench"), ("pt-show-grants", "percona-toolkit")];

/// sysbench's OLTP set.
const OLTP: [&str; 8] = [
    "oltp_read_write",
    "oltp_read_only",
    "oltp_write_only",
    "oltp_point_select",
    "oltp_update_index",
    "oltp_update_non_index",
    "oltp_insert",
    "oltp_delete",
];

/// Seconds for one tool: the slowest takes ten.
const LIMIT_S: &str = "120";

/// What each tool of the stock clients is called.
#[derive(Clone, Copy)]
enum Stock {
    Client,
    Dump,
    Import,
}

/// Runs them. `quick`: of sysbench only one.
pub(super) fn tools(route: &Route, quick: bool, log: &Path) -> Result<Outcomes> {
    setup::ensure(&NEEDS)?;
    let mut kit = Kit { route, log: fs::File::create(log)?, lines: String::new() };
    let script = fs::read(sh::root().join("tests/drivers/tools/toolbox.sql"))?;
    kit.note("client: a script", |kit| kit.stock(Stock::Client, &["--table", "toolbox"], &script));
    let options =
        ["--routines", "--triggers", "--single-transaction", "--hex-blob", "--extended-insert"];
    let mut dump = Vec::new();
    kit.note("dump", |kit| {
        dump = kit.stock(Stock::Dump, &[&options[..], &["toolbox"]].concat(), b"")?;
        Ok(digest(&dump))
    });
    kit.note("dump: restored", |kit| {
        ensure!(!dump.is_empty(), "there is no dump");
        kit.stock(Stock::Client, &["toolbox2"], &dump)?;
        let sums = b"SELECT * FROM things; SELECT * FROM counted; SELECT * FROM seen; CALL count_things(@n);";
        kit.stock(Stock::Client, &["--table", "toolbox2"], sums)
    });
    kit.note("dump: by tabs, imported", Kit::import);
    for test in OLTP.iter().filter(|test| !quick || **test == "oltp_read_write") {
        for prepared in [true, false] {
            let name = format!("sysbench: {test}, {}", if prepared { "prepared" } else { "text" });
            kit.note(&name, |kit| kit.sysbench(test, prepared));
        }
    }
    kit.note("mycli", Kit::mycli);
    kit.note("pt-show-grants", Kit::grants);
    fs::write(log.with_extension("outcomes"), &kit.lines)?;
    Ok(Outcomes::parse(&kit.lines))
}

struct Kit<'a> {
    route: &'a Route,
    log: fs::File,
    lines: String,
}

impl Kit<'_> {
    fn note(&mut self, name: &str, tool: impl FnOnce(&mut Self) -> Result<Vec<u8>>) {
        let (word, text) = match tool(self) {
            Ok(printed) => ("pass", String::from_utf8_lossy(&printed).into_owned()),
            Err(error) => ("fail", format!("{error:#}")),
        };
        let text = text.trim().replace('\n', "⏎").replace('\t', " ");
        let text: String = text.chars().take(2_000).collect();
        self.lines.push_str(&format!("{word}\t{name}\t{text}\n"));
    }

    /// A program with its time limited; what it printed, or what it complained of.
    fn run(&mut self, program: &Command, input: &[u8]) -> Result<Vec<u8>> {
        let mut limited = Command::new("timeout");
        limited.arg(LIMIT_S).arg(program.get_program()).args(program.get_args());
        limited.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        limited.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = limited.spawn().context("starting it")?;
        let mut stdin = child.stdin.take().context("its input")?;
        let input = input.to_vec();
        // It may print before it has read all: what feeds it must not wait for that.
        let feeder = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output()?;
        // It may end without having read all.
        let _ = feeder.join();
        self.log.write_all(&output.stdout)?;
        self.log.write_all(&output.stderr)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let mut lines = said.lines().filter(|line| !line.contains("WARNING"));
            let line = lines.next().unwrap_or("nothing was said");
            bail!("{line}");
        }
        Ok(output.stdout)
    }

    /// A tool of the database's own, over TCP.
    fn stock(&mut self, tool: Stock, words: &[&str], input: &[u8]) -> Result<Vec<u8>> {
        let Route { port, user, password, flavour, .. } = self.route;
        let mut program = match (flavour, tool) {
            (Flavour::MariaDb, Stock::Client) => Command::new("mariadb"),
            (Flavour::MariaDb, Stock::Dump) => Command::new("mariadb-dump"),
            (Flavour::MariaDb, Stock::Import) => Command::new("mariadb-import"),
            (Flavour::MySql, Stock::Client) => mysql::Tree::here()?.program("mysql"),
            (Flavour::MySql, Stock::Dump) => mysql::Tree::here()?.program("mysqldump"),
            (Flavour::MySql, Stock::Import) => mysql::Tree::here()?.program("mysqlimport"),
        };
        program.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1"]);
        program.arg(format!("--port={port}")).arg(format!("--user={user}"));
        program.arg("--default-character-set=utf8mb4");
        match flavour {
            Flavour::MariaDb => program.arg("--skip-ssl"),
            Flavour::MySql => program.args(["--ssl-mode=DISABLED", "--get-server-public-key"]),
        };
        if matches!((flavour, tool), (Flavour::MySql, Stock::Dump)) {
            // They want a privilege on the server, or its own statistics.
            program.args(["--no-tablespaces", "--set-gtid-purged=OFF", "--column-statistics=0"]);
        }
        program.env("MYSQL_PWD", password).args(words);
        self.run(&program, input)
    }

    /// Tables as files, one line a row, and back by LOAD DATA LOCAL.
    fn import(&mut self) -> Result<Vec<u8>> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("counted.txt");
        let rows: Vec<String> = (0..5_000).map(|row| format!("{row}\trow {row}")).collect();
        fs::write(&file, rows.join("\n") + "\n")?;
        let name = file.display().to_string();
        self.stock(Stock::Import, &["--local", "--silent", "toolbox", &name], b"")?;
        let sums = b"SELECT COUNT(*), SUM(a), MIN(b), MAX(b) FROM counted";
        self.stock(Stock::Client, &["--table", "toolbox"], sums)
    }

    fn sysbench(&mut self, test: &str, prepared: bool) -> Result<Vec<u8>> {
        for phase in ["prepare", "run", "cleanup"] {
            let Route { port, user, password, .. } = self.route;
            let mut sysbench = Command::new("sysbench");
            sysbench.arg(test).args(["--mysql-host=127.0.0.1", "--mysql-db=toolbox"]);
            sysbench.arg(format!("--mysql-port={port}")).arg(format!("--mysql-user={user}"));
            sysbench.arg(format!("--mysql-password={password}")).arg("--mysql-ssl=off");
            sysbench.args(["--tables=2", "--table-size=500", "--threads=2", "--events=200"]);
            // Without waiting for ever where the two threads lock each other out.
            sysbench.args(["--time=0", "--mysql-ignore-errors=1213,1020,1205,1062"]);
            sysbench.arg(format!("--db-ps-mode={}", if prepared { "auto" } else { "disable" }));
            sysbench.arg(phase);
            let printed = self.run(&sysbench, b"")?;
            let printed = String::from_utf8_lossy(&printed);
            if let Some(fatal) = printed.lines().find(|line| line.contains("FATAL")) {
                bail!("{phase}: {fatal}");
            }
        }
        Ok(b"200 transactions".to_vec())
    }

    fn mycli(&mut self) -> Result<Vec<u8>> {
        let Route { port, user, password, .. } = self.route;
        let home = tempfile::tempdir()?;
        let mut mycli = Command::new(python::program("mycli")?);
        mycli.args(["--host", "127.0.0.1", "--user", user, "--password", password]);
        mycli.args(["--port", &port.to_string(), "--ssl-mode", "off", "--csv"]);
        mycli.args(["--execute", "SELECT id, name, price FROM things ORDER BY id", "toolbox"]);
        mycli.env("HOME", home.path());
        self.run(&mycli, b"")
    }

    /// Who may do what: of an account that the suites don't touch.
    fn grants(&mut self) -> Result<Vec<u8>> {
        let Route { port, user, password, .. } = self.route;
        // On MariaDB it complains of what it does not know, and ends so, after it has shown everything.
        let mut grants = Command::new("sh");
        grants.args(["-c", "pt-show-grants \"$@\" || true", "pt-show-grants"]);
        grants.args(["--no-header", "--no-timestamp", "--only", "root", "--host", "127.0.0.1"]);
        grants.args(["--port", &port.to_string(), "--user", user, "--password", password]);
        self.run(&grants, b"")
    }
}

/// A dump's length and hash, without its comments: they have the date.
fn digest(dump: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(dump);
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("--")).collect();
    let mut hasher = DefaultHasher::new();
    lines.hash(&mut hasher);
    format!("{} lines, hash {:016x}", lines.len(), hasher.finish()).into_bytes()
}
