//! Databases that are added to a running gateway, and what it logs in with there: sealed, rotated, checked, removed.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use xtask::gateway::Options;
use xtask::{mariadb, shop};

use crate::stand::{Flavour, Stand, binary, errors, on_both, wait_for};

on_both!(
    a_target_is_added_and_removed_while_others_go_on,
    a_password_is_rotated_while_clients_go_on,
    a_target_is_checked,
);

/// An account's password that nothing else here could be.
const PASSWORD: &str = "Qx7_crm'sOwn-9c1f\u{e9}";
const NEW_PASSWORD: &str = "Vb3_crm'sNext-77aa";

/// The demo's gateway, with a master key, over a database that has an account for another target.
pub(crate) fn stand(flavour: Flavour, more: &str) -> Stand {
    let more = more.to_owned();
    let change = |options: &mut Options| {
        options.more = format!("[custody]\nmaster_key = \"file:master.key\"\n{more}");
    };
    let stand = Stand::on_with(flavour, change);
    sql(&stand, &format!("CREATE USER crm@'127.0.0.1' IDENTIFIED BY {}", quoted(PASSWORD)));
    sql(&stand, "GRANT ALL ON shop.* TO crm@'127.0.0.1'");
    stand
}

pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(crate) fn sql(stand: &Stand, text: &str) {
    stand.database.sql(text).unwrap();
}

/// Runs a verb with this on its standard input.
pub(crate) fn verb(stand: &Stand, input: &str, words: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(words).env("ROWGATE_CONFIG", stand.gateway.dir().join("rowgate.toml"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A verb that refuses at once reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

pub(crate) fn done(stand: &Stand, input: &str, words: &[&str]) -> String {
    let output = verb(stand, input, words);
    assert!(output.status.success(), "{words:?}: {}\n{}", errors(&output), stand.gateway.log());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn refused(stand: &Stand, input: &str, words: &[&str]) -> String {
    let output = verb(stand, input, words);
    assert!(!output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
    errors(&output)
}

/// Adds the target `crm` on a port of its own, with this password and these words more.
fn add(stand: &Stand, password: &str, more: &[&str]) -> u16 {
    let port = mariadb::free_port().unwrap();
    let (listen, address) =
        (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", stand.database.port()));
    let words = ["target", "add", "crm", "--listen", &listen, "--address", &address];
    let words = [&words[..], &["--user", "crm", "--tls", "off"], more].concat();
    done(stand, password, &words);
    port
}

/// A stock client of this port.
fn client(stand: &Stand, port: u16, token: &str) -> Command {
    let mut client = stand.client("bot", token);
    client.arg(format!("--port={port}")).args(["--batch", "--database=shop"]);
    client
}

pub(crate) fn query(stand: &Stand, port: u16, token: &str, text: &str) -> Output {
    client(stand, port, token).args(["-e", text]).output().unwrap()
}

pub(crate) const MASKED: &str = "SELECT name, ssn FROM customers WHERE id = 5";

pub(crate) fn is_masked(output: &Output) -> bool {
    let (text, customer) = (String::from_utf8_lossy(&output.stdout), shop::customer(5));
    text.contains(&customer.name) && !text.contains(&customer.ssn)
}

/// A session that stays, in Python: prints a line once it has run one statement, then waits for its connection's end.
fn staying(port: u16, token: &str) -> std::process::Child {
    let script = format!(
        r#"
import pymysql
c = pymysql.connect(host="127.0.0.1", port={port}, user="bot", password="{token}", database="shop")
k = c.cursor()
k.execute("SELECT COUNT(*) FROM customers")
print("ready", flush=True)
print(c._rfile.read())
"#
    );
    let mut python = Command::new("python3");
    python.args(["-c", &script]).env("PYTHONPATH", xtask::sh::root().join("target/python"));
    python.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

fn a_target_is_added_and_removed_while_others_go_on(flavour: Flavour) {
    let mut stand = stand(flavour, "");
    let token = stand.token("bot", "agents");
    let shop_goes_on =
        |stand: &Stand| assert!(is_masked(&query(stand, stand.gateway.port, &token, MASKED)));
    shop_goes_on(&stand);
    let key = stand.gateway.dir().join("master.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(stand.gateway.log().contains("a master key was made"));
    let port = add(&stand, &format!("{PASSWORD}\n"), &[]);
    // At once: the first client is served, by the server's own version and with its labels.
    let first = query(&stand, port, &token, MASKED);
    assert!(is_masked(&first), "{}\n{}", errors(&first), stand.gateway.log());
    let who = query(&stand, port, &token, "SELECT COUNT(*) FROM payments");
    assert!(who.status.success(), "{}", errors(&who));
    // A scope knows it, as the status and the metrics do.
    let scoped = ["token", "create", "--identity", "etl", "--group", "agents", "--target", "crm"];
    done(&stand, "", &scoped);
    assert!(stand.gateway.cli_ok(&["status"]).unwrap().contains("crm up"));
    assert_eq!(stand.gateway.metric("rowgate_target_up{target=\"crm\"}").unwrap(), Some(1.0));
    // One name, one target.
    let address = format!("127.0.0.1:{}", stand.database.port());
    let again = |name: &str| {
        let listen = format!("127.0.0.1:{}", mariadb::free_port().unwrap());
        let words = ["target", "add", name, "--listen", &listen, "--address", &address];
        let words = [&words[..], &["--user", "crm", "--tls", "off"]].concat();
        refused(&stand, PASSWORD, &words)
    };
    assert!(again("shop").contains("it is in the configuration"), "{}", again("shop"));
    assert!(again("crm").contains("rotate its credential"));
    assert!(refused(&stand, "", &["target", "remove", "shop"]).contains("in the configuration"));
    // It outlives a restart.
    stand.gateway.terminate().unwrap();
    stand.gateway.start_again().unwrap();
    assert!(is_masked(&query(&stand, port, &token, MASKED)), "{}", stand.gateway.log());
    // Removed: nobody comes in, whoever is in is told, and the others go on.
    let mut stays = staying(port, &token);
    let mut line = String::new();
    let out = stays.stdout.as_mut().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    assert_eq!(line.trim(), "ready");
    let mut runs = client(&stand, port, &token);
    let slow =
        "SELECT COUNT(*) FROM customers; SELECT BENCHMARK(30000000, SHA2('x', 256)); SELECT 7";
    let runs = runs.args(["--force", "-e", slow]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let runs = runs.spawn().unwrap();
    wait_for("the statement upstream", || {
        stand.database.sql("SHOW FULL PROCESSLIST").unwrap().contains("BENCHMARK").then_some(())
    });
    done(&stand, "", &["target", "remove", "crm"]);
    let since = Instant::now();
    let said = stays.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("RG-TARGET") && since.elapsed() < Duration::from_secs(5), "{said}");
    let ran = runs.wait_with_output().unwrap();
    let (rows, told) = (String::from_utf8_lossy(&ran.stdout).into_owned(), errors(&ran));
    assert!(rows.contains("BENCHMARK") && !rows.lines().any(|line| line == "7"), "{rows}");
    assert!(told.contains("RG-TARGET"), "{told}");
    assert!(!query(&stand, port, &token, "SELECT 1").status.success());
    assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_ok(), "its port is still taken");
    shop_goes_on(&stand);
    assert!(!stand.gateway.cli_ok(&["status"]).unwrap().contains("crm"));
    assert_eq!(stand.gateway.metric("rowgate_target_up{target=\"crm\"}").unwrap(), None);
    // The name is free again, and the old one's remains are not its own.
    let port = add(&stand, PASSWORD, &[]);
    assert!(is_masked(&query(&stand, port, &token, MASKED)));
    let record = stand.gateway.cli_ok(&["audit", "tail", "-n", "500", "--output", "json"]).unwrap();
    for action in ["target.add", "target.remove"] {
        assert!(record.contains(action), "{action}");
    }
}

/// Clients that connect, ask and leave, again and again; how many asked, and what went wrong.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(stand: &Stand, port: u16, token: &str, clients: usize) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let start = |_| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            let mut client = client(stand, port, token);
            client.args(["-e", MASKED]);
            std::thread::spawn(move || {
                let mut wrong = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let output = client.output().unwrap();
                    asked.fetch_add(1, Ordering::Relaxed);
                    if !is_masked(&output) {
                        wrong.push(errors(&output));
                    }
                }
                wrong
            })
        };
        Self { threads: (0..clients).map(start).collect(), stop, asked }
    }

    /// Waits until this many more have asked.
    fn wait_for(&self, more: usize) {
        let until = self.asked.load(Ordering::Relaxed) + more;
        wait_for("the clients' turns", || {
            (self.asked.load(Ordering::Relaxed) >= until).then_some(())
        });
    }

    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

fn a_password_is_rotated_while_clients_go_on(flavour: Flavour) {
    let mut stand = stand(flavour, "");
    let token = stand.token("bot", "agents");
    // Connections grow old in a second, so that new ones are made all the time.
    let port = add(&stand, PASSWORD, &["--set", "max_age_s=1"]);
    let mut stays = staying(port, &token);
    let load = Load::start(&stand, port, &token, 3);
    load.wait_for(20);
    // The gateway knows first: the database refuses the new one, and the old one is used.
    let words = ["target", "rotate", "crm", "--output", "json"];
    let answer = done(&stand, NEW_PASSWORD, &words);
    assert!(
        answer.contains("\"changed\": true") && answer.contains("credential before"),
        "{answer}"
    );
    load.wait_for(30);
    // Then the database does: from now on only the new one is good.
    sql(&stand, &format!("ALTER USER crm@'127.0.0.1' IDENTIFIED BY {}", quoted(NEW_PASSWORD)));
    wait_for("a connection by the new one", || {
        let answer = done(&stand, "", &["target", "show", "crm", "--output", "json"]);
        answer.contains("\"taken\": true").then_some(())
    });
    load.wait_for(30);
    // And back, the way MySQL allows it too: both are good for a while, and the gateway changes second.
    if flavour == Flavour::MySql {
        let back = format!(
            "ALTER USER crm@'127.0.0.1' IDENTIFIED BY {} RETAIN CURRENT PASSWORD",
            quoted(PASSWORD)
        );
        sql(&stand, &back);
        load.wait_for(20);
        let answer = done(&stand, PASSWORD, &words);
        assert!(answer.contains("\"refused\": null"), "{answer}");
        sql(&stand, "ALTER USER crm@'127.0.0.1' DISCARD OLD PASSWORD");
        load.wait_for(30);
    }
    assert_eq!(load.end(), Vec::<String>::new());
    assert!(stays.try_wait().unwrap().is_none(), "the session that stayed has ended");
    stays.kill().unwrap();
    stays.wait().unwrap();
    assert!(!stand.gateway.log().contains(PASSWORD) && !stand.gateway.log().contains(NEW_PASSWORD));
    // A mistake is mended by the next one, and the one that works is used meanwhile.
    // Two of them push it out neither now nor at a restart.
    for mistake in ["wrong\n", "wronger\n"] {
        done(&stand, mistake, &words);
        assert!(is_masked(&query(&stand, port, &token, MASKED)));
    }
    stand.gateway.terminate().unwrap();
    stand.gateway.start_again().unwrap();
    assert!(is_masked(&query(&stand, port, &token, MASKED)), "{}", stand.gateway.log());
    let good = if flavour == Flavour::MySql { PASSWORD } else { NEW_PASSWORD };
    let answer = done(&stand, good, &words);
    assert!(answer.contains("\"refused\": null"), "{answer}");
    assert!(is_masked(&query(&stand, port, &token, MASKED)));
    // The same again is nothing new.
    assert!(done(&stand, good, &words).contains("\"changed\": false"));
}

/// What sealed the store's credentials is exchanged; without it the gateway does not start.
#[test]
fn the_master_key_is_exchanged_and_can_not_be_missed() {
    let mut stand = stand(Flavour::MariaDb, "");
    let token = stand.token("bot", "agents");
    let port = add(&stand, PASSWORD, &[]);
    let file: PathBuf = stand.gateway.dir().join("master.key");
    let before = fs::read_to_string(&file).unwrap();
    let shown = |stand: &Stand| done(stand, "", &["target", "show", "crm"]);
    let old = shown(&stand);
    done(&stand, "", &["key", "rotate"]);
    let after = fs::read_to_string(&file).unwrap();
    assert_ne!(before, after);
    assert_ne!(old, shown(&stand), "it is sealed under the old key");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!stand.gateway.dir().join("master.key.new").exists());
    assert!(is_masked(&query(&stand, port, &token, MASKED)));
    stand.gateway.terminate().unwrap();
    stand.gateway.start_again().unwrap();
    assert!(is_masked(&query(&stand, port, &token, MASKED)));
    assert!(!stand.gateway.log().contains(after.trim()));
    // With the old key, or none, or another's: no start, and the reason.
    stand.gateway.terminate().unwrap();
    let start = || {
        let config = stand.gateway.dir().join("rowgate.toml");
        let mut serve = Command::new(binary());
        serve.args(["serve", "--config"]).arg(config).env("ROWGATE_DEMO_PASSWORD", "x");
        let output = serve.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
        errors(&output)
    };
    fs::write(&file, &before).unwrap();
    assert!(start().contains("sealed under"), "{}", start());
    fs::remove_file(&file).unwrap();
    let said = start();
    assert!(
        said.contains("master.key is missing") && said.contains("bring the file back"),
        "{said}"
    );
    assert!(!file.exists(), "a new key was made beside a store that has another");
    // Where no gateway runs, a target can still be taken out.
    assert!(done(&stand, "", &["target", "list"]).contains("crm"));
    done(&stand, "", &["target", "remove", "crm"]);
    stand.gateway.start_again().unwrap();
    assert!(file.exists());
}

/// What the account may do too much, what reaches labelled columns, and the grants that the database itself keeps.
fn a_target_is_checked(flavour: Flavour) {
    let stand = stand(flavour, "");
    sql(&stand, "GRANT FILE ON *.* TO crm@'127.0.0.1'");
    sql(
        &stand,
        "USE shop; CREATE FUNCTION leak(n INT) RETURNS TEXT READS SQL DATA RETURN (SELECT ssn FROM customers WHERE id = n)",
    );
    sql(
        &stand,
        "USE shop; CREATE VIEW totals AS SELECT customer_id, COUNT(*) AS n FROM orders GROUP BY customer_id",
    );
    let tls = match flavour {
        Flavour::MariaDb => vec!["--tls".to_owned(), "off".to_owned()],
        Flavour::MySql => {
            let ca = stand.database.data().join("ca.pem").display().to_string();
            vec!["--tls".to_owned(), "verify-ca".to_owned(), "--tls-ca".to_owned(), ca]
        }
    };
    let (listen, address) = (
        format!("127.0.0.1:{}", mariadb::free_port().unwrap()),
        format!("127.0.0.1:{}", stand.database.port()),
    );
    let words =
        ["target", "add", "crm", "--listen", &listen, "--address", &address, "--user", "crm"];
    let tls: Vec<&str> = tls.iter().map(String::as_str).collect();
    done(&stand, PASSWORD, &[&words[..], &tls].concat());
    let table = done(&stand, "", &["target", "check", "crm"]);
    let json = done(&stand, "", &["target", "check", "crm", "--output", "json"]);
    for part in
        ["FILE", "shop.contacts", "shop.leak", "crm@127.0.0.1", "shop.customers", "ssn: pii"]
    {
        assert!(table.contains(part) && json.contains(part), "{part}: {table}");
    }
    assert!(
        !json.contains("shop.totals (") && !json.contains("IDENTIFIED") && !json.contains(PASSWORD)
    );
    let has_tls = json.contains("\"version\": \"TLSv1.3\"") && json.contains("sha256:");
    assert_eq!(has_tls, flavour == Flavour::MySql, "{json}");
    assert!(table.contains("GRANT SELECT (`id`, `name`"), "{table}");
    // The second wall, built for another account: what it lets through is what is not labelled.
    sql(&stand, &format!("CREATE USER wall@'127.0.0.1' IDENTIFIED BY {}", quoted(PASSWORD)));
    let wall = table
        .lines()
        .map(str::trim)
        .filter(|l| l.starts_with("GRANT SELECT ") || l.starts_with("REVOKE ALL"));
    let mut statements = 0;
    for statement in wall.filter(|line| line.ends_with(';')) {
        sql(&stand, &statement.replace("'crm'@", "'wall'@"));
        statements += 1;
    }
    assert!(statements >= 3, "{table}");
    let direct = |text: &str| {
        let mut client = stand.client("wall", PASSWORD);
        client.arg(format!("--port={}", stand.database.port()));
        if flavour == Flavour::MySql {
            client.arg("--ssl-mode=REQUIRED");
        }
        client.args(["--batch", "--database=shop", "-e", text]).output().unwrap()
    };
    for good in ["SELECT id, name FROM customers LIMIT 1", "SELECT * FROM totals LIMIT 1"] {
        let output = direct(good);
        assert!(output.status.success(), "{good}: {}", errors(&output));
    }
    for bad in [
        "SELECT ssn FROM customers",
        "SELECT * FROM customers",
        "SELECT mail FROM contacts",
        "SELECT leak(1)",
    ] {
        let output = direct(bad);
        assert!(!output.status.success(), "{bad}: {}", String::from_utf8_lossy(&output.stdout));
    }
    // A target of the configuration is checked, too; what can't be logged in to is an error.
    assert!(
        done(&stand, "", &["target", "check", "shop"]).contains("ALL PRIVILEGES on *.*")
            || flavour == Flavour::MySql
    );
    sql(&stand, &format!("ALTER USER crm@'127.0.0.1' IDENTIFIED BY {}", quoted(NEW_PASSWORD)));
    let output = verb(&stand, "", &["target", "check", "crm"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("1045"), "{}", errors(&output));
}
