//! Connections to the database, lent from one session to the next: nothing goes with them; there are enough, and no more.

use std::process::{Child, Stdio};
use std::time::Duration;

use crate::stand::{Flavour, Stand, on_both, wait_for};

on_both!(nothing_goes_from_one_session_to_the_next, some_are_kept_ready);

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

/// A stand whose gateway has one worker, and this in its target.
fn one_connection(flavour: Flavour, target: &str) -> Stand {
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
    let ready = wait_for("three connections", || Some(stand.lent()).filter(|ids| ids.len() == 3));
    let together: Vec<Child> =
        (0..3).map(|_| stand.spawn(&token, "SELECT CONNECTION_ID() + 0 * SLEEP(2)")).collect();
    let mut used: Vec<u64> = together
        .into_iter()
        .map(|client| {
            let output = client.wait_with_output().unwrap();
            String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
        })
        .collect();
    used.sort_unstable();
    assert_eq!(used, ready, "three at once had the three that were ready");
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

/// Far more at once than there are connections: each is answered in its turn, and the database sees no more than it may.
#[test]
fn a_storm_of_logins_waits_its_turn() {
    let stand = one_connection(Flavour::MariaDb, "max_upstream = 3\nqueue_timeout_s = 60\n");
    let token = stand.token("ann", "dba");
    let storm: Vec<Child> = (0..40).map(|_| stand.spawn(&token, "SELECT 40 + 2")).collect();
    let mut most = 0;
    for client in storm {
        most = most.max(stand.lent().len());
        let output = client.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "42\n", "{:?}", output.stderr);
    }
    assert!((1..=3).contains(&most), "{most}");
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
