//! `cargo xtask demo`: the main job end to end, on a private MariaDB, as its users would see it; `demo identity` and
//! `demo people` are beside.

pub(crate) mod identity;
pub(crate) mod people;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use xtask::gateway::{Gateway, Options};
use xtask::mariadb::Server;
use xtask::setup;
use xtask::sh::{self, step};
use xtask::shop;

use crate::plugins;

const AGENT: &str = "shop-agent;run=42;pipeline=support";

/// Runs the scenario; stays up afterwards unless `once`.
pub(crate) fn demo(once: bool) -> Result<()> {
    let start = Instant::now();
    let binary = build()?;
    let folder = Folder::new()?;
    let scene = Scene::set(&binary, &folder)?;
    scene.looks_at_customers()?;
    scene.tries_to_get_around()?;
    scene.finds_a_card_in_a_note()?;
    scene.drops_a_table()?;
    scene.swaps_the_policy()?;
    scene.reads_the_record()?;
    println!();
    step(&format!("the whole scenario took {:.0} s", start.elapsed().as_secs_f64()));
    if once {
        return Ok(());
    }
    scene.stay_up()
}

/// Builds what a demo runs: the gateway's binary.
fn build() -> Result<PathBuf> {
    setup::ensure(&setup::BUILD)?;
    setup::ensure(&setup::DATABASE)?;
    plugins::build()?;
    step("building rowgate (dev profile)");
    sh::run_words(&["cargo", "build", "--bin", "rowgate"])?;
    Ok(sh::target_dir().join("debug/rowgate"))
}

/// A private MariaDB with the shop and the gateway's account.
fn shop_database(folder: &Folder) -> Result<Server> {
    step("starting a private MariaDB with a sample shop");
    let database = Server::start(&folder.0.join("mariadb"), &[])?;
    database.load(&shop::write_sql(&folder.0)?)?;
    database.add_service_account()?;
    let rows = shop::CUSTOMERS + shop::ORDERS + shop::PAYMENTS;
    println!("    MariaDB on 127.0.0.1:{}, {rows} rows", database.port());
    Ok(database)
}

/// That nothing labelled is in what someone saw.
fn nothing_raw(raw: &[String], text: &str) -> Result<()> {
    ensure!(!raw.iter().any(|value| text.contains(value)), "a raw value was shown");
    Ok(())
}

/// Until Enter or Ctrl-C; all that was started ends with its owners then.
fn wait_for_the_end() -> Result<()> {
    println!("\nEnter (or Ctrl-C) ends it.");
    let (by_signal, end) = mpsc::channel();
    let by_line = by_signal.clone();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || signals.forever().next().map(|_| by_signal.send(())));
    thread::spawn(move || {
        let line = std::io::stdin().read_line(&mut String::new());
        // (Nothing at all is no Enter: nobody is at the terminal.)
        line.is_ok_and(|read| read > 0).then(|| by_line.send(()))
    });
    Ok(end.recv()?)
}

/// A temporary folder that goes with the demo.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("rowgate-demo-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Scene {
    gateway: Gateway,
    database: Server,
    token: String,
    raw: Vec<String>,
}

impl Scene {
    fn set(binary: &Path, folder: &Folder) -> Result<Self> {
        let database = shop_database(folder)?;
        step("starting rowgate serve with the default policy bundle");
        let gateway =
            Gateway::start(binary, &folder.0.join("gateway"), &Options::new(database.port()))?;
        println!("    agents connect to 127.0.0.1:{}", gateway.port);
        step("$ rowgate token create --identity shop-agent --group agents");
        let token = gateway.token("shop-agent", "agents")?;
        println!("    {}… (shown once; the gateway keeps a verifier only)", &token[..12]);
        Ok(Self { gateway, database, token, raw: shop::raw_values() })
    }

    /// Runs a statement as the agent, shows what came, and makes sure that nothing raw did.
    fn agent(&self, sql: &str) -> Result<(bool, String)> {
        println!("\n\x1b[36magent> {sql}\x1b[0m");
        let mut client = self.gateway.client(AGENT, &self.token);
        let output = client.args(["--table", "--database=shop", "-e", sql]).output()?;
        let text = sh::said(&output);
        print!("{text}");
        self.nothing_raw(&text)?;
        Ok((output.status.success(), text))
    }

    fn nothing_raw(&self, text: &str) -> Result<()> {
        nothing_raw(&self.raw, text)
    }

    fn looks_at_customers(&self) -> Result<()> {
        step(
            "an agent selects customers with the stock mariadb client: labelled columns are masked",
        );
        let (ok, text) = self.agent(
            "SELECT id, name, email, phone, card_number, ssn FROM customers ORDER BY id LIMIT 3",
        )?;
        ensure!(ok && text.contains("Ben Abara"), "the masked select failed");
        let last_four = &shop::customer(1).card_number[12..];
        ensure!(text.contains(last_four), "the card's last four digits are missing");
        Ok(())
    }

    fn tries_to_get_around(&self) -> Result<()> {
        step(
            "the same through an alias, CONCAT, a subquery, a UNION, a prepared statement, a view",
        );
        for (sql, runs) in [
            ("SELECT ssn AS harmless FROM customers WHERE id = 1", true),
            ("SELECT CONCAT('<', email, '>') AS c FROM customers WHERE id = 1", true),
            ("SELECT x.s FROM (SELECT ssn AS s FROM customers WHERE id < 3) AS x", true),
            (
                "SELECT name FROM customers WHERE id = 1 UNION ALL SELECT ssn FROM customers WHERE id = 1",
                true,
            ),
            ("SELECT mail FROM contacts WHERE id = 1", true),
            ("SELECT id FROM customers WHERE ssn LIKE '1%'", false),
            ("SELECT name FROM customers ORDER BY card_number LIMIT 1", false),
            ("SELECT /*!50000 ssn, */ name FROM customers WHERE id = 1", true),
        ] {
            let (ok, _) = self.agent(sql)?;
            ensure!(
                ok == runs,
                "expected {sql:?} to be {}",
                if runs { "masked" } else { "refused" }
            );
        }
        let prepared = "PREPARE s FROM 'SELECT ssn FROM customers WHERE id = 1'; EXECUTE s";
        let (ok, _) = self.agent(prepared)?;
        ensure!(!ok, "SQL-level PREPARE hides its text, so it must be refused");
        println!(
            "    (drivers' binary prepared statements are masked too: the tests show PyMySQL and mysql_async)"
        );
        Ok(())
    }

    fn finds_a_card_in_a_note(&self) -> Result<()> {
        step("a card number inside free text is caught in flight by the classify-pii plugin");
        let (ok, text) = self.agent("SELECT id, notes FROM customers WHERE id IN (3, 4)")?;
        ensure!(ok && text.contains("Called on Monday"), "the note is missing");
        Ok(())
    }

    fn drops_a_table(&self) -> Result<()> {
        step("DROP TABLE payments waits for a person");
        let drop = self.held("DROP TABLE payments")?;
        println!("\n\x1b[33malice$ rowgate approvals list\x1b[0m");
        print!("{}", self.gateway.cli_ok(&["approvals", "list"])?);
        println!(
            "\x1b[33malice$ rowgate approvals deny {} --reason 'payments are kept for ten years'\x1b[0m",
            drop.id
        );
        let reason = "payments are kept for ten years";
        print!("{}", self.gateway.cli_ok(&["approvals", "deny", &drop.id, "--reason", reason])?);
        let text = drop.answer()?;
        ensure!(text.contains(reason), "the agent was not told why: {text}");
        ensure!(self.database.sql("SELECT COUNT(*) FROM shop.payments")?.trim() == "12000");
        let alter = self.held("ALTER TABLE orders ADD COLUMN gift TINYINT NOT NULL DEFAULT 0")?;
        println!("\x1b[33malice$ rowgate approvals approve {}\x1b[0m", alter.id);
        print!("{}", self.gateway.cli_ok(&["approvals", "approve", &alter.id])?);
        let text = alter.answer()?;
        ensure!(!text.contains("ERROR"), "the approved statement failed: {text}");
        let columns = self.database.sql("SHOW COLUMNS FROM shop.orders LIKE 'gift'")?;
        ensure!(columns.contains("gift"), "the approved statement did not run");
        println!("    the column is there, and payments still has its 12,000 rows");
        Ok(())
    }

    /// Sends a statement that will be held, and waits until its request is listed.
    fn held(&self, sql: &str) -> Result<Held> {
        println!("\n\x1b[36magent> {sql}\x1b[0m   (waiting)");
        let mut client = self.gateway.client(AGENT, &self.token);
        client.args(["--database=shop", "-e", sql]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = client.spawn()?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            let words = ["approvals", "list", "--output", "json"];
            let text = self.gateway.cli_ok(&words)?;
            if let Some(at) = text.find("\"id\"") {
                let id = text[at + 4..].split('"').nth(1).context("an id")?.to_owned();
                return Ok(Held { child, id });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("{sql:?} is not listed as waiting; log:\n{}", self.gateway.log())
    }

    fn swaps_the_policy(&self) -> Result<()> {
        step(
            "the policy file changes; the next statement on the same connection is under the new one",
        );
        let mut session = Interactive::open(&self.gateway, &self.token)?;
        let sql = "SELECT card_number FROM shop.customers WHERE id = 1";
        let before = session.ask(sql)?;
        println!("\x1b[36magent> {sql}\x1b[0m\n{before}");
        self.nothing_raw(&before)?;
        let metric = "rowgate_policy_reloads_total";
        let before_it = self.gateway.metric(metric)?;
        fs::copy(
            sh::root().join("policies/open-cards.cedar"),
            self.gateway.dir().join("policy.cedar"),
        )?;
        println!("security$ cp policies/open-cards.cedar policy.cedar");
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.gateway.metric(metric)? == before_it {
            ensure!(
                Instant::now() < deadline,
                "the policy was not swapped:\n{}",
                self.gateway.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let after = session.ask(sql)?;
        println!("\x1b[36magent> {sql}\x1b[0m\n{after}");
        let card = shop::customer(1).card_number;
        ensure!(after.contains(&card), "the new policy shows cards to agents; got {after:?}");
        Ok(())
    }

    fn reads_the_record(&self) -> Result<()> {
        step("what happened, by whom, and how was it transformed: the record");
        println!("security$ rowgate audit tail -n 12");
        print!("{}", self.gateway.cli_ok(&["audit", "tail", "-n", "12"])?);
        println!("security$ rowgate audit verify");
        print!("{}", self.gateway.cli_ok(&["audit", "verify"])?);
        show_metric(&self.gateway, "rowgate_statements_total")
    }

    fn stay_up(mut self) -> Result<()> {
        println!("\nThe shop stays open. Try, in another terminal:\n");
        println!(
            "  MYSQL_PWD={} mariadb --no-defaults -h 127.0.0.1 -P {} -u shop-agent shop",
            self.token, self.gateway.port
        );
        println!("  curl http://127.0.0.1:{}/metrics", self.gateway.admin_port);
        println!("  export ROWGATE_CONFIG={}", self.gateway.dir().join("rowgate.toml").display());
        println!("  {} approvals list", sh::target_dir().join("debug/rowgate").display());
        wait_for_the_end()?;
        self.gateway.terminate()?;
        Ok(())
    }
}

/// What counts of one of the gateway's metrics, as who watches it sees it.
fn show_metric(gateway: &Gateway, name: &str) -> Result<()> {
    let (_, metrics) = gateway.get("/metrics")?;
    println!("sre$ curl http://127.0.0.1:{}/metrics", gateway.admin_port);
    let lines = metrics.lines().filter(|line| line.starts_with(name) && !line.ends_with(" 0"));
    lines.for_each(|line| println!("{line}"));
    Ok(())
}

/// A client whose statement is held.
struct Held {
    child: Child,
    id: String,
}

impl Held {
    fn answer(self) -> Result<String> {
        let output = self.child.wait_with_output()?;
        let text = sh::said(&output);
        print!("{text}");
        Ok(text)
    }
}

/// One connection that is asked several times.
struct Interactive {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Interactive {
    fn open(gateway: &Gateway, token: &str) -> Result<Self> {
        let mut client = gateway.client(AGENT, token);
        client.args(["--batch", "--unbuffered", "--skip-column-names"]);
        let mut child = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().context("the client's input")?;
        let output = BufReader::new(child.stdout.take().context("the client's output")?);
        Ok(Self { child, input, output })
    }

    /// One statement with one row of one column.
    fn ask(&mut self, sql: &str) -> Result<String> {
        writeln!(self.input, "{sql};")?;
        self.input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Interactive {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
