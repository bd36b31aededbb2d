//! `cargo xtask demo people`: a person decides, a person looks back. An agent reads masked rows; what it may not do by itself
//! is held; someone approves it on a phone; it runs once; an auditor sees what the agent saw, and why; the record is verified,
//! and shown to be no longer whole when it was touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use xtask::gateway::{self, Gateway, Options};
use xtask::issuer::Issuer;
use xtask::mariadb::{self, Server};
use xtask::sh::{self, step};
use xtask::{chromium, setup, shop};

use super::Folder;

const READ: &str = "SELECT c.id, c.name, c.card_number, o.state FROM customers c JOIN orders o ON o.customer_id = c.id \
                    ORDER BY c.id, o.id LIMIT 3";

/// Not by its key: of a table of high value, so a person decides.
const WRITE: &str = "UPDATE payments SET method = 'refunded' WHERE order_id = 7";

/// On a loaded machine a browser takes its time.
const PATIENCE: Duration = Duration::from_mins(1);

/// An agent: one connection, its provider's token as the password, one statement, what came of it.
const AGENT: &str = "
import os, sys, pymysql
e = os.environ
c = pymysql.connect(
    host='127.0.0.1', port=int(e['PORT']), user='oidc;run=nightly-42', password=e['PASSWORD'], database='shop',
    ssl_ca=e['CA'], ssl_verify_identity=True, autocommit=True)
try:
    with c.cursor() as k:
        k.execute(e['SQL'])
        for row in k.fetchall():
            print(*row, sep='\\t')
        if k.description is None:
            print(k.rowcount, 'rows changed')
except pymysql.MySQLError as error:
    print('error', *error.args)
    sys.exit(1)
";

/// Runs the scenes; stays up afterwards unless `once`.
pub(crate) fn demo(once: bool) -> Result<()> {
    let start = Instant::now();
    setup::browser()?;
    let binary = super::build()?;
    let folder = Folder::new()?;
    let scene = Scene::set(&binary, &folder)?;
    scene.an_agent_reads()?;
    scene.a_person_approves()?;
    scene.another_try_is_another_request()?;
    scene.an_auditor_looks_back()?;
    scene.what_is_touched_is_found()?;
    println!();
    step(&format!("all of it took {:.0} s", start.elapsed().as_secs_f64()));
    println!("    pictures of the pages: {}", scene.pictures.display());
    if once { Ok(()) } else { scene.stay_up() }
}

struct Scene {
    gateway: Gateway,
    issuer: Issuer,
    /// Of the pages.
    url: String,
    /// For what goes with the demo.
    folder: PathBuf,
    /// The gateway's certificate.
    ca: PathBuf,
    pictures: PathBuf,
    database: Server,
}

impl Scene {
    fn set(binary: &Path, folder: &Folder) -> Result<Self> {
        let database = super::shop_database(folder)?;
        step("starting an OpenID provider (oidc-provider, from npm)");
        let issuer = Issuer::start()?;
        let url = format!("http://127.0.0.1:{}", mariadb::free_port()?);
        let folder = folder.0.clone();
        let ca = gateway::make_pair(binary, &folder)?;
        step("starting rowgate serve with the default policy bundle");
        let mut options = Options::new(database.port());
        options.more = gateway::tls_table(&folder) + &gateway::web_table(&url, "");
        options.more.push_str(&issuer.pages_table(&url, &folder.join("secret"), "")?);
        // So that this short a record is of several segments.
        "segment_bytes = 65536".clone_into(&mut options.audit);
        let gateway = Gateway::start(binary, &folder.join("gateway"), &options)?;
        println!("    pages {url}, the database on 127.0.0.1:{}", gateway.port);
        let pictures = sh::root().join("target/demo-people");
        Ok(Self { gateway, issuer, url, folder, ca, pictures, database })
    }

    /// Starts the agent on a statement.
    fn agent(&self, sql: &str) -> Result<Child> {
        println!("\n\x1b[36magent (PyMySQL, its provider's JWT)> {sql}\x1b[0m");
        let mut python = Command::new("python3");
        python.args(["-c", AGENT]).env("PYTHONPATH", setup::pymysql()?);
        python.env("PORT", self.gateway.port.to_string()).env("CA", &self.ca).env("SQL", sql);
        python.env("PASSWORD", self.issuer.of_etl_bot()?).stdin(Stdio::null());
        Ok(python.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    fn cli(&self, who: &str, words: &[&str]) -> Result<String> {
        println!("\n\x1b[33m{who}$ rowgate {}\x1b[0m", words.join(" "));
        let said = self.gateway.cli_ok(words)?;
        print!("{said}");
        Ok(said)
    }

    fn an_agent_reads(&self) -> Result<()> {
        step("an agent reads: what is labelled is masked");
        let said = ended(self.agent(READ)?)?;
        super::nothing_raw(&shop::raw_values(), &said)?;
        ensure!(said.contains("****"), "no masked row came: {said}");
        Ok(())
    }

    /// How many of the order's payments are written to.
    fn refunded(&self) -> Result<String> {
        let sql = "SELECT COUNT(*) FROM shop.payments WHERE order_id = 7 AND method = 'refunded'";
        Ok(self.database.sql(sql)?.trim().to_owned())
    }

    /// The request that waits.
    fn waiting(&self) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let list = self.gateway.cli_ok(&["approvals", "list", "--output", "json"])?;
            if let Some(at) = list.find("\"id\"") {
                return Ok(list[at + 4..].split('"').nth(1).context("an id")?.to_owned());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("nothing waits; the gateway's log:\n{}", self.gateway.log())
    }

    /// Ben decides, on a phone.
    fn ben(&self, button: &str, says: &str, picture: &str) -> Result<()> {
        let script = format!(
            r#"[{{"as": "ben", "script": [
                ["width", "390"], ["open", "/approvals"], ["review"], ["says", "UPDATE payments"],
                ["picture", "{picture}"], ["click", "{button}"], ["says", "{says}"]
            ]}}]"#
        );
        chromium::walk(&self.url, &self.pictures, &script).map(drop)
    }

    fn a_person_approves(&self) -> Result<()> {
        step("what it may not do by itself is held; ben sees it on his phone, and approves");
        let before = self.refunded()?;
        let agent = self.agent(WRITE)?;
        let id = self.waiting()?;
        println!("    held as {id}; nothing has been sent to the database");
        ensure!(self.refunded()? == before, "it ran without an approval");
        self.ben("Approve", "Your approval counts", "approval")?;
        println!(
            "    ben signed in in Chromium, 390 pixels wide (picture approval.png), and approved"
        );
        let said = ended(agent)?;
        ensure!(
            said.contains("rows changed") && self.refunded()? != before,
            "it did not run: {said}"
        );
        Ok(())
    }

    fn another_try_is_another_request(&self) -> Result<()> {
        step("that was good for once: the same statement again is a new request, which ben denies");
        let agent = self.agent(WRITE)?;
        let id = self.waiting()?;
        println!("    held as {id}");
        self.ben("Deny", "The request is denied", "approval-again")?;
        let said = ended(agent)?;
        ensure!(
            said.contains("RG-REFUSED") && said.contains(&id),
            "the agent was not told: {said}"
        );
        Ok(())
    }

    fn an_auditor_looks_back(&self) -> Result<()> {
        step("cyd, an auditor, looks back: what the agent saw, what was masked in it, and why");
        let script = r#"[{"as": "cyd", "script": [
            ["width", "1280"], ["open", "/record"], ["says", "etl-bot"], ["picture", "record"],
            ["replay", "etl-bot", "agents-pci"], ["says", "shop.customers.card_number"], ["picture", "replay"]
        ]}]"#;
        chromium::walk(&self.url, &self.pictures, script)?;
        println!("    pictures record.png and replay.png; the same in the terminal:");
        let tail = self.gateway.cli_ok(&["audit", "tail", "-n", "1000", "--output", "json"])?;
        let opened =
            tail.lines().find(|line| line.contains("session_opened") && line.contains("etl-bot"));
        let session =
            opened.and_then(|line| line.split("\"session\":").nth(1)).context("no session")?;
        let session = session.split(',').next().unwrap_or_default();
        let said = self.cli("cyd", &["audit", "replay", session])?;
        super::nothing_raw(&shop::raw_values(), &said)?;
        ensure!(
            said.contains("card_number (masked)") && said.contains("agents-pci"),
            "no reason: {said}"
        );
        Ok(())
    }

    /// A config whose record is a copy, changed.
    fn copied(&self, name: &str, touch: impl FnOnce(&[PathBuf]) -> Result<()>) -> Result<String> {
        let (from, to) = (self.gateway.dir().join("audit"), self.folder.join(name));
        fs::create_dir_all(&to)?;
        let mut segments = Vec::new();
        for entry in fs::read_dir(&from)? {
            let path = entry?.path();
            let copy = to.join(path.file_name().unwrap_or_default());
            fs::copy(&path, &copy)?;
            if is_segment(&copy) {
                segments.push(copy);
            }
        }
        segments.sort();
        touch(&segments)?;
        let text = fs::read_to_string(self.gateway.dir().join("rowgate.toml"))?;
        let config = self.folder.join(format!("{name}.toml"));
        fs::write(&config, text.replace(&from.display().to_string(), &to.display().to_string()))?;
        Ok(config.display().to_string())
    }

    fn what_is_touched_is_found(&self) -> Result<()> {
        step("the record holds together; a copy in which something was touched does not");
        self.fill_segments()?;
        self.cli("cyd", &["audit", "verify"])?;
        let edited = self.copied("edited", |segments| {
            let mut bytes = fs::read(&segments[0])?;
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            Ok(fs::write(&segments[0], bytes)?)
        })?;
        let cut = self.copied("cut", |segments| Ok(fs::remove_file(&segments[1])?))?;
        let reordered = self.copied("reordered", |segments| {
            let (one, two) = (fs::read(&segments[0])?, fs::read(&segments[1])?);
            fs::write(&segments[0], two)?;
            Ok(fs::write(&segments[1], one)?)
        })?;
        for (what, config) in [
            ("a bit was changed", edited),
            ("a segment is gone", cut),
            ("two changed places", reordered),
        ] {
            let output = self.gateway.cli(&["audit", "verify", "--config", &config])?;
            ensure!(!output.status.success(), "{what}, and it was not found");
            println!("    {what:<20} {}", sh::said(&output).trim());
        }
        Ok(())
    }

    /// Until the record has three segments.
    fn fill_segments(&self) -> Result<()> {
        let count = || -> Result<usize> {
            let entries = fs::read_dir(self.gateway.dir().join("audit"))?;
            let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
            Ok(paths.filter(|path| is_segment(path)).count())
        };
        let token = self.gateway.token("filler", "agents")?;
        let sql = "SELECT id, name, card_number, notes FROM customers;".repeat(20);
        while count()? < 3 {
            let mut client = self.gateway.client("filler", &token);
            client.args(["--batch", "--database=shop", "-e", &sql]);
            client.arg(format!("--ssl-ca={}", self.ca.display()));
            ensure!(client.output()?.status.success(), "the filler was refused");
        }
        Ok(())
    }

    fn stay_up(mut self) -> Result<()> {
        println!("\nIt stays up. The pages: {}\n", self.url);
        println!("  Example Corp believes any name: ben approves, cyd audits, ann is an admin");
        println!("\nThe agent's token is good for 10 minutes:\n");
        println!(
            "  curl -s {}/token -d grant_type=client_credentials -d scope=sql -d client_id=etl-bot \\\n    \
             -d client_secret='a secret of the agent' -d resource=http://gateway/rowgate",
            self.issuer.url
        );
        println!(
            "  MYSQL_PWD=$TOKEN mariadb --no-defaults -h 127.0.0.1 -P {} -u oidc --ssl-ca={} shop",
            self.gateway.port,
            self.ca.display()
        );
        super::wait_for_the_end()?;
        self.gateway.terminate()?;
        Ok(())
    }
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "rgseg")
}

/// What the agent was answered.
fn ended(agent: Child) -> Result<String> {
    let output = agent.wait_with_output()?;
    let said = sh::said(&output);
    print!("{said}");
    Ok(said)
}
