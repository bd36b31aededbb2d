//! Connections to the database, lent from one session to the next: nothing goes with them; there are enough, and no more.

use std::io::Write as _;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::stand::{Flavour, Stand, on_both, wait_for};

on_both!(
    nothing_goes_from_one_session_to_the_next,
    nothing_is_seen_of_those_that_only_read,
    a_session_sees_its_own_last_statement,
    some_are_kept_ready
);

/// What a session leaves behind, and what the next one then sees where nothing came over; `None`: an error.
const LEFT: [(&str, &str, Option<&str>); 14] = [
    ("SET @v = 'left'", "SELECT @v IS NULL", Some("1")),
    ("CREATE TEMPORARY TABLE shop.tt (a INT)", "SELECT 1 FROM shop.tt", None),
    (
        "CREATE TEMPORARY TABLE shop.orders (a INT)",
        "SELECT COUNT(state) > 0 FROM shop.orders",
        Some("1"),
    ),
    (
        "BEGIN; UPDATE shop.payments SET amount_cents = -7 WHERE id = 1",
        "SELECT amount_cents = -7 FROM shop.payments WHERE id = 1 FOR UPDATE NOWAIT",
        Some("0"),
    ),
    ("SET autocommit = 0", "SELECT @@autocommit", Some("1")),
    ("SELECT GET_LOCK('left', 0)", "SELECT IS_FREE_LOCK('left')", Some("1")),
    ("LOCK TABLES shop.orders WRITE", "SELECT COUNT(*) > 0 FROM shop.payments", Some("1")),
    ("SET SESSION wait_timeout = 77", "SELECT @@wait_timeout = 77", Some("0")),
    (
        "SET SESSION TRANSACTION READ ONLY",
        "UPDATE shop.payments SET id = 1 WHERE id = 1; SELECT 1",
        Some("1"),
    ),
    ("SET sql_mode = 'ANSI_QUOTES'", "SELECT \"text\"", Some("text")),
    ("SET NAMES latin1", "SELECT @@character_set_client = 'latin1'", Some("0")),
    ("PREPARE p FROM 'SELECT 1'", "EXECUTE p", None),
    ("SELECT LAST_INSERT_ID(77)", "SELECT LAST_INSERT_ID()", Some("0")),
    ("HANDLER shop.orders OPEN", "HANDLER orders READ FIRST", None),
];

fn nothing_goes_from_one_session_to_the_next(flavour: Flavour) {
    let stand = one_connection(flavour, "max_upstream = 1\n");
    let token = stand.token("backup", "dumpers");
    let run = |sql: &str| {
        let mut client = stand.client("backup", &token);
        client.args(["--batch", "--skip-column-names", "--default-character-set=utf8mb4"]);
        client.args(["-e", &format!("{sql}; SELECT CONNECTION_ID()")]).output().unwrap()
    };
    for (leave, look, seen) in LEFT {
        let left = run(leave);
        assert!(left.status.success(), "{leave}: {}", String::from_utf8_lossy(&left.stderr));
        let found = run(look);
        let out = String::from_utf8_lossy(&found.stdout).into_owned();
        let lines: Vec<&str> = out.lines().collect();
        let Some(seen) = seen else {
            assert!(!found.status.success(), "{leave}: {look}: {out}");
            continue;
        };
        let before = String::from_utf8_lossy(&left.stdout);
        assert_eq!(
            lines.first(),
            Some(&seen),
            "{leave}: {look}: {}",
            String::from_utf8_lossy(&found.stderr)
        );
        assert_eq!(
            lines.last().copied(),
            before.lines().last(),
            "{leave}: not the same connection"
        );
    }
}

/// What tells of the statement before, and of those before that.
const TELLING: [(&str, &str); 5] = [
    ("SELECT FOUND_ROWS() > 1", "0"),
    ("SELECT ROW_COUNT() <= 0", "1"),
    ("SHOW WARNINGS", ""),
    ("SELECT 1; SELECT FOUND_ROWS() > 1", "1\n0"),
    (
        "SELECT COUNT(*) > 0 FROM orders WHERE id < 5; SHOW SESSION STATUS LIKE 'Select_scan'",
        "1\nSelect_scan\t0",
    ),
];

/// Sessions that only read leave their connection as it is, and the next of their kind takes it so; whoever could tell
/// gets it as new.
fn nothing_is_seen_of_those_that_only_read(flavour: Flavour) {
    let stand = one_connection(flavour, "max_upstream = 1\n");
    let token = stand.token("backup", "dumpers");
    // MariaDB's client on both: MySQL's asks at its start how `$$` is read.
    let run = |sql: &str| {
        let mut client = stand.gateway.client("backup", &token);
        client.args(["--batch", "--skip-column-names", "--database=shop", "--skip-reconnect"]);
        let output = client.args(["-e", sql]).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    // A warning, rows, a scan of a table.
    let reads = "SELECT id + 'x1' FROM orders WHERE state <> 'y' LIMIT 7";
    for (look, seen) in TELLING {
        assert_eq!(run(reads).lines().count(), 7);
        assert_eq!(run(look), seen, "{look}");
    }
    let sets = || stand.counts("Com_set_option");
    run(reads);
    let before = sets();
    for _ in 0..5 {
        run(reads);
        run("SELECT 1");
    }
    assert_eq!(sets(), before, "it was made new between sessions that only read");
    run("SELECT @a");
    assert!(sets() > before, "it was not made new for one that could tell");
}

fn a_session_sees_its_own_last_statement(flavour: Flavour) {
    let stand = one_connection(flavour, "max_upstream = 1\n");
    let token = stand.token("backup", "dumpers");
    let run = |sql: &str| {
        let mut client = stand.gateway.client("backup", &token);
        client.args(["--batch", "--force", "--skip-column-names", "--database=shop"]);
        // A line each: the client gives up the rest of one that fails.
        let lines = sql.replace("; ", ";\n");
        let mut client = client
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        client.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        String::from_utf8(client.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
    };
    // On a connection that another session has read on.
    let other = "SELECT id FROM orders ORDER BY id LIMIT 9";
    for (own, seen) in [
        ("SELECT id FROM orders ORDER BY id LIMIT 2; SELECT FOUND_ROWS()", "1\n2\n2"),
        ("SELECT COUNT(*) > 0 FROM orders WHERE id = '1x'; SELECT @@warning_count > 0", "1\n1"),
        (
            "SELECT COUNT(*) > 0 FROM orders WHERE id = '1x'; SHOW WARNINGS",
            "1\nWarning\t1292\tTruncated incorrect DOUBLE value: '1x'",
        ),
        ("SELECT CAST('1x' AS UNSIGNED); SHOW WARNINGS", "1\nWarning\t1292"),
        ("SELECT (SELECT id FROM orders); SHOW WARNINGS", "Error\t1242"),
        ("SELECT nowhere FROM orders; SELECT FOUND_ROWS() > 1", "0"),
    ] {
        run(other);
        let told = run(own);
        assert!(told.replace("DECIMAL", "DOUBLE").starts_with(seen), "{own}: {told}");
    }
}

/// A stand whose gateway has one worker, and this in its target.
pub(crate) fn one_connection(flavour: Flavour, target: &str) -> Stand {
    Stand::on_with(flavour, |options| {
        options.workers = 1;
        options.more.clear();
        options.upstream_tls.push('\n');
        options.upstream_tls.push_str(target);
    })
}

impl Stand {
    /// The gateway's connections to the shop, by the database's word.
    fn lent(&self) -> Vec<u64> {
        let sql = "SELECT ID FROM information_schema.processlist WHERE USER = 'rowgate' AND DB = 'shop' ORDER BY ID";
        let ids = self.database.sql(sql).unwrap();
        ids.lines().filter_map(|line| line.trim().parse().ok()).collect()
    }

    /// One of the database's counters.
    fn counts(&self, name: &str) -> u64 {
        let told = self.database.sql(&format!("SHOW GLOBAL STATUS LIKE '{name}'")).unwrap();
        told.split_whitespace().last().unwrap().parse().unwrap()
    }

    fn spawn(&self, token: &str, sql: &str) -> Child {
        let mut client = self.client("ann", token);
        client.args(["--batch", "--skip-column-names", "--database=shop", "-e", sql]);
        client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

fn some_are_kept_ready(flavour: Flavour) {
    let stand = one_connection(flavour, "min_idle = 3\n");
    let token = stand.token("ann", "dba");
    stand.sql_ok("ann", &token, "SELECT 1");
    // (One more where they were made before the first session gave back its own.)
    let ready = wait_for("three connections", || Some(stand.lent()).filter(|ids| ids.len() >= 3));
    // The last of them may still have an answer to hear.
    std::thread::sleep(Duration::from_millis(500));
    let together: Vec<Child> =
        (0..3).map(|_| stand.spawn(&token, "SELECT CONNECTION_ID() + 0 * SLEEP(2)")).collect();
    let used: Vec<u64> = together
        .into_iter()
        .map(|client| {
            let output = client.wait_with_output().unwrap();
            String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
        })
        .collect();
    let were_ready = used.iter().all(|id| ready.contains(id));
    assert!(were_ready, "three at once had {used:?}, of {ready:?} that were ready");
}

#[test]
fn an_old_one_is_used_no_more() {
    let stand = one_connection(Flavour::MariaDb, "max_age_s = 1\n");
    let token = stand.token("ann", "dba");
    let id = || stand.sql_ok("ann", &token, "SELECT CONNECTION_ID()");
    let first = id();
    std::thread::sleep(Duration::from_millis(1_200));
    assert_ne!(id(), first);
}

/// Far more at once than there are connections: each is answered in its turn, on one that another leaves, and the database
/// sees no more than it may.
#[test]
fn a_storm_of_logins_waits_its_turn() {
    let stand = one_connection(Flavour::MariaDb, "max_upstream = 3\nqueue_timeout_s = 60\n");
    let token = stand.token("ann", "dba");
    let ask = "SELECT CONNECTION_ID() + 0 * SLEEP(0.05)";
    let storm: Vec<Child> = (0..40).map(|_| stand.spawn(&token, ask)).collect();
    let (mut most, mut used) = (0, Vec::new());
    for client in storm {
        most = most.max(stand.lent().len());
        let output = client.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.trim().parse::<u64>().is_ok(), "{told}: {:?}", output.stderr);
        used.push(told);
    }
    assert!((1..=3).contains(&most), "{most}");
    used.sort_unstable();
    used.dedup();
    assert!(used.len() <= 6, "those that came back were lent on: {used:?}");
}

#[test]
fn who_waits_too_long_is_told() {
    let stand = one_connection(Flavour::MariaDb, "max_upstream = 1\nqueue_timeout_s = 1\n");
    let token = stand.token("ann", "dba");
    let mut long = stand.spawn(&token, "SELECT SLEEP(300)");
    wait_for("the long one", || stand.lent().first().copied());
    let refused = stand.sql_refused("ann", &token, "SELECT 1");
    assert!(refused.contains("1040") && refused.contains("RG-LIMIT"), "{refused}");
    long.kill().unwrap();
    long.wait().unwrap();
    wait_for("its connection's end", || {
        stand.sql("ann", &token, "SELECT 1").status.success().then_some(())
    });
}
