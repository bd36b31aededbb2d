//! An idle session lends its connection to others where it could not tell another one from it, and keeps it where it could.

use std::time::Duration;

use rowgate::codec::{AuthSwitch, Capabilities, write_frame};
use xtask::mariadb::{SERVICE_PASSWORD, SERVICE_USER};
use xtask::shop;

use crate::pool::one_connection;
use crate::stand::{Flavour, Stand, on_both, wait_for};
use crate::wire::{Packet, Wire, native, text};

on_both!(
    sessions_take_turns_on_one_connection,
    whoever_waits_is_lent_one_at_once,
    a_session_keeps_what_it_could_look_for,
    a_session_finds_its_own_rows_again,
    nothing_is_seen_of_whoever_had_it_between,
    found_rows_are_the_rows_that_came,
    commands_find_a_session_without_a_connection,
    a_session_without_a_connection_is_ended,
    another_identity_finds_nothing_of_the_one_before,
    a_restart_of_the_database_is_outlived,
    a_database_that_is_gone_can_be_left,
    a_mode_that_was_changed_meanwhile_is_followed,
    a_connection_made_new_under_another_mode_ends_its_session,
    spaces_are_ignored_for_those_that_log_in_so,
);

const SEVERAL: u64 = Capabilities::MULTI_STATEMENTS | Capabilities::MULTI_RESULTS;

const ONE: &str = "max_upstream = 1\nqueue_timeout_s = 1\n";

fn session(stand: &Stand, token: &str) -> Wire {
    Wire::login(stand.gateway.port, "backup", token, SEVERAL)
}

fn given_back(stand: &Stand) -> f64 {
    stand.gateway.metric("rowgate_upstream_given_back_total").unwrap().unwrap_or_default()
}

/// Waits until one more connection has gone back since `before`.
fn released(stand: &Stand, before: f64) {
    wait_for("the giving back", || (given_back(stand) > before + 0.5).then_some(()));
}

/// The rows of the last result, each with its columns behind a tab.
fn rows(packets: &[Packet]) -> Vec<String> {
    let Some(last) = packets.len().checked_sub(1) else { return Vec::new() };
    let ends = packets[..last].iter().rposition(|(_, payload)| payload.first() == Some(&0xFE));
    let rows = packets.get(ends.map_or(last, |end| end + 1)..last).unwrap_or_default();
    let shown = |(_, payload): &Packet| {
        let (mut rest, mut columns) = (payload.as_slice(), Vec::new());
        while let Some((len, behind)) = rest.split_first() {
            let (column, behind) = match *len {
                0xFB => ("NULL".into(), behind),
                len => {
                    let (column, behind) = behind.split_at(usize::from(len));
                    (String::from_utf8_lossy(column).into_owned(), behind)
                }
            };
            columns.push(column);
            rest = behind;
        }
        columns.join("\t")
    };
    rows.iter().map(shown).collect()
}

fn sessions_take_turns_on_one_connection(flavour: Flavour) {
    let stand = one_connection(flavour, "max_upstream = 1\nqueue_timeout_s = 30\n");
    let token = stand.token("backup", "dumpers");
    let mut both = [session(&stand, &token), session(&stand, &token)];
    for round in 0..4 {
        for (own, wire) in both.iter_mut().enumerate() {
            let sql = format!("SELECT id + {round} * 10 + {own} FROM orders ORDER BY id LIMIT 1");
            assert_eq!(rows(&wire.query(&sql)), [(1 + round * 10 + own).to_string()]);
        }
    }
    // The last as well.
    wait_for("all eight", || (given_back(&stand) > 7.5).then_some(()));
    // Without haste, the connection itself goes from one to the other.
    let id = || {
        let sql =
            "SELECT ID FROM information_schema.processlist WHERE USER = 'rowgate' AND DB = 'shop'";
        stand.database.sql(sql).unwrap().trim().to_owned()
    };
    let mut seen = Vec::new();
    for wire in &mut both {
        let before = given_back(&stand);
        assert_eq!(rows(&wire.query("SELECT 40 + 2 FROM orders LIMIT 1")), ["42"]);
        seen.push(id());
        released(&stand, before);
    }
    assert!(!seen[0].is_empty() && seen[0] == seen[1], "{seen:?}");
}

fn whoever_waits_is_lent_one_at_once(flavour: Flavour) {
    let waits = "max_upstream = 1\nqueue_timeout_s = 5\nidle_release_s = 3600\n";
    let stand = one_connection(flavour, waits);
    let token = stand.token("backup", "dumpers");
    let mut both = [session(&stand, &token), session(&stand, &token)];
    for _ in 0..3 {
        for wire in &mut both {
            assert_eq!(rows(&wire.query("SELECT 40 + 2 FROM orders LIMIT 1")), ["42"]);
        }
    }
}

/// What a session has left, and by what it would miss it; `None`: that is refused while it is there.
const KEPT: [(&str, &str, &str); 15] = [
    ("SET @v = 'mine'", "SELECT @v", "mine"),
    ("SET time_zone = '+03:00'", "SELECT @@time_zone", "+03:00"),
    ("SET NAMES latin1", "SELECT @@character_set_client", "latin1"),
    ("SET sql_mode = 'ANSI_QUOTES'", "SELECT @@sql_mode", "ANSI_QUOTES"),
    ("SET autocommit = 0", "SELECT @@autocommit", "0"),
    ("BEGIN; SELECT id FROM orders LIMIT 1", "SELECT COUNT(*) > 0 FROM orders", "1"),
    (
        "BEGIN; UPDATE orders SET state = 'mine' WHERE id = 1; SELECT 1",
        "SELECT state FROM orders WHERE id = 1",
        "mine",
    ),
    ("SELECT GET_LOCK('mine', 0); SELECT 1", "SELECT IS_USED_LOCK('mine') = CONNECTION_ID()", "1"),
    ("LOCK TABLES orders READ; SELECT 1", "SELECT COUNT(*) > 0 FROM orders", "1"),
    ("CREATE TEMPORARY TABLE tt (a INT); SELECT 1", "SELECT COUNT(*) FROM tt", "0"),
    ("SELECT LAST_INSERT_ID(77); SELECT 1", "SELECT LAST_INSERT_ID()", "77"),
    ("DELETE FROM orders WHERE id IN (7, 8)", "SELECT ROW_COUNT()", "2"),
    ("SELECT SQL_CALC_FOUND_ROWS id FROM orders WHERE id < 10 LIMIT 1", "SELECT FOUND_ROWS()", "7"),
    ("SELECT id FROM orders WHERE id = '1x' LIMIT 1", "SELECT @@warning_count > 0", "1"),
    ("PREPARE p FROM 'SELECT 5'; SELECT 1", "EXECUTE p", "5"),
];

fn a_session_keeps_what_it_could_look_for(flavour: Flavour) {
    let stand = one_connection(flavour, ONE);
    let token = stand.token("backup", "dumpers");
    let mut other = session(&stand, &token);
    let mut keeps = |what: &str, wire: &mut Wire| {
        // Whoever waits has it asked for at each tick.
        let refused = text(&other.query("SELECT id FROM orders LIMIT 1"));
        assert!(refused.contains("RG-LIMIT"), "{what}: lent to another: {refused}");
        wire.command(14, &[]);
        wire.answer();
    };
    for (leave, look, seen) in KEPT {
        let mut wire = session(&stand, &token);
        let left = wire.query(leave);
        assert!(!text(&left).contains("#42000"), "{leave}: {}", text(&left));
        keeps(leave, &mut wire);
        assert_eq!(rows(&wire.query(look)), [seen], "{leave}: {look}");
    }
    // The database's own id of the connection, by which a lock or a list of processes names it.
    let mut wire = session(&stand, &token);
    let id = rows(&wire.query("SELECT CONNECTION_ID()"));
    wire.query("SELECT id FROM orders LIMIT 1");
    keeps("CONNECTION_ID()", &mut wire);
    assert_eq!(rows(&wire.query("SELECT CONNECTION_ID()")), id);
    drop(wire);
    // Prepared statements, with a cursor and without; long data is of one of them.
    for flags in [0, 1] {
        let mut wire = session(&stand, &token);
        let (id, _) = wire.prepare("SELECT id FROM orders ORDER BY id LIMIT 3");
        wire.execute(id, flags);
        keeps("a prepared statement", &mut wire);
        if flags == 1 {
            assert!(text(&wire.fetch(id, 2)).contains("\\x01"), "the cursor's rows");
        } else {
            assert!(text(&wire.execute(id, 0)).contains("\\x01"), "its rows");
        }
    }
    let mut wire = session(&stand, &token);
    assert!(text(&wire.query("XA START 'mine'")).starts_with("1:\\x00"));
    keeps("XA", &mut wire);
    assert!(text(&wire.query("XA END 'mine'")).starts_with("1:\\x00"));
    wire.query("XA ROLLBACK 'mine'");
    drop(wire);
    let mut wire = session(&stand, &token);
    wire.query("HANDLER orders OPEN; SELECT 1");
    keeps("HANDLER", &mut wire);
    assert_eq!(rows(&wire.query("HANDLER orders READ FIRST")).len(), 1);
    drop(wire);
    // A message of a statement that failed.
    let mut wire = session(&stand, &token);
    wire.query("SELECT nothing FROM orders");
    keeps("an error", &mut wire);
    assert!(text(&wire.query("SHOW ERRORS")).contains("1054"));
}

/// What leaves nothing, whatever the session did before it.
const NOT_KEPT: [&str; 7] = [
    "SELECT id FROM orders WHERE id < 10",
    "SELECT @@version_comment LIMIT 1",
    "SELECT 1",
    "USE shop; SELECT id FROM orders LIMIT 2",
    "BEGIN; SELECT id FROM orders LIMIT 2; COMMIT; SELECT id FROM orders LIMIT 2",
    "SELECT id FROM orders WHERE id = '1x'; SHOW WARNINGS; SELECT id FROM orders LIMIT 1",
    "SELECT nothing FROM orders",
];

fn a_session_finds_its_own_rows_again(flavour: Flavour) {
    let stand = one_connection(flavour, "max_upstream = 1\nqueue_timeout_s = 30\n");
    let token = stand.token("backup", "dumpers");
    let (mut own, mut other) = (session(&stand, &token), session(&stand, &token));
    let direct_port = stand.database.port();
    let look = "SELECT FOUND_ROWS(), ROW_COUNT(), LAST_INSERT_ID(), @@warning_count; SHOW WARNINGS";
    let reads = [
        "SELECT id FROM orders WHERE id < 0",
        "SELECT id FROM orders LIMIT 1",
        "SELECT id FROM orders LIMIT 7",
        "SELECT id FROM orders LIMIT 137",
        "SELECT id FROM orders LIMIT 1000",
    ];
    for sql in NOT_KEPT.iter().take(6).chain(&reads) {
        let mut direct = Wire::login(direct_port, SERVICE_USER, SERVICE_PASSWORD, SEVERAL);
        direct.query(sql);
        let before = given_back(&stand);
        own.query(sql);
        released(&stand, before);
        // Another reads meanwhile, and the connection is handed on as that left it.
        let before = given_back(&stand);
        assert_eq!(rows(&other.query("SELECT id FROM orders LIMIT 11")).len(), 11);
        released(&stand, before);
        assert_eq!(text(&own.query(look)), text(&direct.query(look)), "{sql}");
        // Who could look is bound from then on.
        own.command(0x1F, &[]);
        own.answer();
    }
    // And where it took the connection up again by a statement that sees nothing of it.
    let before = given_back(&stand);
    own.query("SELECT id FROM orders LIMIT 7");
    released(&stand, before);
    let before = given_back(&stand);
    other.query("SELECT id FROM orders LIMIT 11");
    released(&stand, before);
    assert_eq!(rows(&own.query("SELECT 1; SELECT FOUND_ROWS()")), ["1"]);
}

fn nothing_is_seen_of_whoever_had_it_between(flavour: Flavour) {
    let stand = one_connection(flavour, "max_upstream = 1\nqueue_timeout_s = 30\n");
    let token = stand.token("backup", "dumpers");
    let mut own = session(&stand, &token);
    // A password, some leave it so that the pool must make the connection nobody's, and others as it is.
    for sql in NOT_KEPT.iter().take(6) {
        let before = given_back(&stand);
        own.query(sql);
        released(&stand, before);
        let mut other = Wire::login(stand.gateway.port, "backup", &token, SEVERAL);
        for (look, seen) in [
            ("SELECT FOUND_ROWS() > 1, ROW_COUNT() > 0, LAST_INSERT_ID()", "0\t0\t0"),
            ("SELECT DATABASE(), @@autocommit, @@character_set_client", "shop\t1\tutf8mb4"),
        ] {
            assert_eq!(rows(&other.query(look)), [seen], "{sql}: {look}");
        }
        assert!(!text(&other.query("SHOW WARNINGS")).contains("1292"), "{sql}");
        drop(other);
    }
    // In another database than the next session wants.
    stand.database.sql("CREATE DATABASE other; CREATE TABLE other.orders (id INT); INSERT INTO other.orders VALUES (4711)").unwrap();
    wait_for("the schema", || {
        let mut wire = session(&stand, &token);
        text(&wire.query("SELECT id FROM other.orders")).contains("4711").then_some(())
    });
    let before = given_back(&stand);
    assert_eq!(rows(&own.query("USE other; SELECT id FROM orders")), ["4711"]);
    released(&stand, before);
    let before = given_back(&stand);
    let mut next = session(&stand, &token);
    assert_eq!(rows(&next.query("SELECT id FROM orders WHERE id = 1")), ["1"]);
    released(&stand, before);
    assert_eq!(rows(&own.query("SELECT id FROM orders")), ["4711"], "its own database again");
}

/// What a connection is told on a session's behalf is right only if the servers count so.
fn found_rows_are_the_rows_that_came(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let mut direct = Wire::login(stand.database.port(), SERVICE_USER, SERVICE_PASSWORD, SEVERAL);
    for sql in [
        "SELECT 1",
        "SELECT NOW()",
        "SELECT @@version_comment LIMIT 1",
        "SELECT @@version",
        "SELECT COUNT(*) FROM orders",
        "SELECT COUNT(*), MAX(id) FROM orders WHERE id < 0",
        "SELECT MIN(id) FROM orders",
        "SELECT id FROM orders WHERE 1 = 0",
        "SELECT id FROM orders WHERE id = 1",
        "SELECT id FROM orders WHERE id = -1",
        "SELECT id FROM orders LIMIT 0",
        "SELECT id FROM orders LIMIT 7",
        "SELECT id FROM orders ORDER BY id DESC LIMIT 7",
        "SELECT state FROM orders ORDER BY state, id LIMIT 7",
        "SELECT DISTINCT state FROM orders",
        "SELECT DISTINCT state FROM orders ORDER BY state LIMIT 2",
        "SELECT state, COUNT(*) FROM orders GROUP BY state LIMIT 2",
        "SELECT state, COUNT(*) FROM orders GROUP BY state WITH ROLLUP",
        "SELECT customer_id, COUNT(*) FROM orders GROUP BY customer_id WITH ROLLUP LIMIT 4",
        "SELECT STRAIGHT_JOIN o.id FROM orders o, payments p WHERE o.id = p.id AND o.id < 10",
        "SELECT state, COUNT(*) AS n FROM orders GROUP BY state ORDER BY n LIMIT 2",
        "SELECT state, COUNT(*) AS n FROM orders GROUP BY state HAVING n > 1000000",
        "SELECT customer_id, COUNT(*) AS n FROM orders GROUP BY customer_id HAVING n > 1 ORDER BY n DESC LIMIT 5",
        "SELECT o.id FROM orders o JOIN customers c ON c.id = o.customer_id ORDER BY c.name LIMIT 9",
        "SELECT o.id FROM orders o LEFT JOIN payments p ON p.id = o.id WHERE p.id IS NULL LIMIT 9",
        "SELECT id FROM orders WHERE id IN (SELECT id FROM payments) LIMIT 12",
        "SELECT id FROM orders WHERE EXISTS (SELECT 1 FROM payments WHERE payments.id = orders.id) LIMIT 12",
        "SELECT * FROM (SELECT id FROM orders ORDER BY id LIMIT 20) t WHERE id > 15",
        "SELECT * FROM (SELECT id FROM orders ORDER BY id LIMIT 20) t ORDER BY id DESC LIMIT 3",
        "SELECT (SELECT MAX(id) FROM payments) FROM orders LIMIT 4",
        "SELECT id, ROW_NUMBER() OVER (ORDER BY id) FROM orders LIMIT 6",
        "WITH t AS (SELECT id FROM orders LIMIT 30) SELECT id FROM t LIMIT 8",
        "SELECT id FROM orders WHERE id IN (1, 2, 3)",
    ] {
        let came = direct.query(sql);
        assert!(!text(&came).contains("#42"), "{sql}: {}", text(&came));
        let count = rows(&came).len().to_string();
        let told = rows(&direct.query("SELECT FOUND_ROWS()"));
        assert_eq!(told, [count], "{sql}");
    }
}

fn commands_find_a_session_without_a_connection(flavour: Flavour) {
    let stand = one_connection(flavour, ONE);
    stand.database.sql("CREATE DATABASE other; CREATE TABLE other.t (id INT)").unwrap();
    let token = stand.token("backup", "dumpers");
    let mut wire = session(&stand, &token);
    let alone = |wire: &mut Wire| {
        let before = given_back(&stand);
        assert_eq!(rows(&wire.query("SELECT id FROM shop.orders WHERE id = 5")), ["5"]);
        released(&stand, before);
    };
    alone(&mut wire);
    // PING, multi-statements on and off: the gateway's own answers.
    for (command, body) in [(14, &[][..]), (27, &[1, 0]), (27, &[0, 0])] {
        wire.command(command, body);
        let answer = text(&[wire.packet()]);
        assert!(answer.starts_with("1:\\x00") || answer.starts_with("1:\\xfe"), "{answer}");
    }
    wire.command(9, &[]);
    assert!(text(&[wire.packet()]).contains("Uptime"));
    alone(&mut wire);
    wire.command(2, b"other");
    assert!(text(&wire.answer()).starts_with("1:\\x00"));
    assert_eq!(rows(&wire.query("SELECT DATABASE()")), ["other"]);
    alone(&mut wire);
    assert_eq!(rows(&wire.query("SELECT DATABASE()")), ["other"], "after it had gone back");
    alone(&mut wire);
    let (id, _) = wire.prepare("SELECT id FROM shop.orders WHERE id = 6");
    assert!(text(&wire.execute(id, 0)).contains("\\x06"));
    // Once it is closed, nothing is left of it.
    let before = given_back(&stand);
    wire.command(25, &id.to_le_bytes());
    wire.command(14, &[]);
    wire.answer();
    released(&stand, before);
    alone(&mut wire);
    let refused = text(&{
        wire.command(0x17, &[&id.to_le_bytes()[..], &[0, 1, 0, 0, 0]].concat());
        wire.answer()
    });
    assert!(refused.contains("1243") || refused.contains("Unknown prepared"), "{refused}");
    alone(&mut wire);
    wire.command(0x1F, &[]);
    assert!(text(&wire.answer()).starts_with("1:\\x00"));
    assert_eq!(rows(&wire.query("SELECT DATABASE(), FOUND_ROWS() < 2")), ["other\t1"]);
}

fn a_session_without_a_connection_is_ended(flavour: Flavour) {
    let stand = one_connection(flavour, ONE);
    let token = stand.token("backup", "dumpers");
    let alone = || {
        let mut wire = session(&stand, &token);
        let before = given_back(&stand);
        wire.query("SELECT id FROM orders LIMIT 1");
        released(&stand, before);
        wire
    };
    // By one of its own identity, by the gateway's id.
    let (mut killed, mut killer) = (alone(), session(&stand, &token));
    let answer = text(&killer.query(&format!("KILL QUERY {}", killed.id)));
    assert!(answer.starts_with("1:\\x00"), "{answer}");
    assert_eq!(rows(&killed.query("SELECT 40 + 2 FROM orders LIMIT 1")), ["42"], "nothing ran");
    let answer = text(&killer.query(&format!("KILL {}", killed.id)));
    assert!(answer.starts_with("1:\\x00"), "{answer}");
    assert!(text(&[killed.packet()]).contains("RG-KILLED"));
    assert!(killed.try_packet().is_none());
    drop(killer);
    // By an administrator.
    let mut ended = alone();
    let list = stand.gateway.cli_ok(&["sessions", "list", "--output", "json"]).unwrap();
    let at = list.find("\"id\":").unwrap();
    let id: String = list[at + 5..].trim_start().chars().take_while(char::is_ascii_digit).collect();
    stand.gateway.cli_ok(&["sessions", "kill", &id]).unwrap();
    assert!(text(&[ended.packet()]).contains("RG-"));
    assert!(ended.try_packet().is_none());
    // By its token's end.
    let other = stand.token("leaver", "dumpers");
    let mut ended = Wire::login(stand.gateway.port, "leaver", &other, SEVERAL);
    let before = given_back(&stand);
    ended.query("SELECT id FROM orders LIMIT 1");
    released(&stand, before);
    let list = stand.gateway.cli_ok(&["token", "list", "--output", "json"]).unwrap();
    let of_leaver = list.find("leaver").unwrap();
    let at = list[..of_leaver].rfind("\"id\":").unwrap();
    let id = list[at + 5..].split('"').nth(1).unwrap();
    stand.gateway.cli_ok(&["token", "revoke", id]).unwrap();
    wait_for("the token's end", || {
        text(&ended.query("SELECT id FROM orders LIMIT 1")).contains("\\xff").then_some(())
    });
    assert!(ended.try_packet().is_none());
    // Its client leaves; the connection is there for the next.
    drop(alone());
    let mut next = alone();
    assert_eq!(rows(&next.query("SELECT 40 + 2 FROM orders LIMIT 1")), ["42"]);
}

fn another_identity_finds_nothing_of_the_one_before(flavour: Flavour) {
    let stand = one_connection(flavour, ONE);
    let (token, other) = (stand.token("backup", "dumpers"), stand.token("other", "dumpers"));
    let mut wire = session(&stand, &token);
    let before = given_back(&stand);
    wire.query("SELECT id FROM orders LIMIT 7");
    released(&stand, before);
    // Without a database, so that nothing is asked for it, and another connection is needed.
    wire.command(0x11, b"other\0\0\0\x2d\0mysql_native_password\0");
    let (seq, switch) = wire.packet();
    let scramble = AuthSwitch::parse(&switch).unwrap().data[..20].to_vec();
    let mut proof = Vec::new();
    write_frame(&mut proof, seq + 1, |out| out.extend_from_slice(&native(&other, &scramble)));
    wire.send(&proof);
    assert_eq!(wire.packet().1.first(), Some(&0));
    assert_ne!(rows(&wire.query("SELECT FOUND_ROWS()")), ["7"]);
}

fn a_restart_of_the_database_is_outlived(flavour: Flavour) {
    if flavour == Flavour::MySql && xtask::mysql::is_elsewhere() {
        return;
    }
    let mut stand = one_connection(flavour, "max_upstream = 2\n");
    let token = stand.token("backup", "dumpers");
    let (mut own, mut bound) = (session(&stand, &token), session(&stand, &token));
    let before = given_back(&stand);
    own.query("SELECT id FROM orders LIMIT 7");
    bound.query("SET @a = 1");
    released(&stand, before);
    stand.database.kill();
    stand.database.start_again(stand.folder.path());
    stand.gateway.wait_until("/readyz", Duration::from_mins(1)).unwrap();
    assert_eq!(rows(&own.query("SELECT FOUND_ROWS()")), ["7"]);
    assert_eq!(rows(&own.query("SELECT 40 + 2 FROM orders LIMIT 1")), ["42"]);
    // Who had left something is told that it is lost.
    assert!(text(&bound.query("SELECT @a")).contains("RG-UPSTREAM"));
}

fn a_database_that_is_gone_can_be_left(flavour: Flavour) {
    let stand = one_connection(flavour, ONE);
    stand.database.sql("CREATE DATABASE other; CREATE TABLE other.t (id INT)").unwrap();
    let token = stand.token("backup", "dumpers");
    let mut wire = session(&stand, &token);
    let before = given_back(&stand);
    wire.query("USE other; SELECT id FROM shop.orders LIMIT 1");
    released(&stand, before);
    stand.database.sql("DROP DATABASE other").unwrap();
    // The one that was in it is gone, too.
    let list = "SELECT ID FROM information_schema.processlist WHERE USER = 'rowgate' AND COMMAND = 'Sleep'";
    for id in
        stand.database.sql(list).unwrap().lines().filter_map(|id| id.trim().parse::<u64>().ok())
    {
        let _ = stand.database.sql(&format!("KILL {id}"));
    }
    let refused = text(&wire.query("SELECT id FROM shop.orders LIMIT 1"));
    assert!(refused.contains("Unknown database") && refused.contains("other"), "{refused}");
    let refused = text(&wire.query("USE nowhere"));
    assert!(refused.contains("Unknown database") && refused.contains("nowhere"), "{refused}");
    assert!(text(&wire.query("USE shop")).starts_with("1:\\x00"));
    assert_eq!(rows(&wire.query("SELECT id FROM orders WHERE id = 1")), ["1"]);
}

/// The lexer must read a text as the connection that it goes to does.
fn a_mode_that_was_changed_meanwhile_is_followed(flavour: Flavour) {
    let stand = one_connection(flavour, "");
    let (agent, backup) = (stand.token("agent", "agents"), stand.token("backup", "dumpers"));
    let log_in = || Wire::login(stand.gateway.port, "agent", &agent, SEVERAL);
    let mut fresh = log_in();
    let mut own = log_in();
    let before = given_back(&stand);
    own.query("SELECT id FROM orders LIMIT 1");
    released(&stand, before);
    let modes = stand.database.sql("SELECT @@global.sql_mode").unwrap();
    stand.database.sql("SET GLOBAL sql_mode = 'ANSI_QUOTES,STRICT_TRANS_TABLES'").unwrap();
    wait_for("the new mode", || {
        let mut look = session(&stand, &backup);
        text(&look.query("SELECT @@sql_mode")).contains("ANSI_QUOTES").then_some(())
    });
    for wire in [&mut own, &mut fresh] {
        // A name under the new mode, and a text under the one before.
        for sql in
            ["SELECT \"ssn\" FROM \"customers\" LIMIT 3", "SELECT \"ssn\", ssn FROM customers"]
        {
            let answer = text(&wire.query(sql));
            for raw in shop::raw_values() {
                assert!(!answer.contains(&raw), "{sql}: {answer}");
            }
            let told = ["RG-ANALYSIS", "redacted", "**"];
            assert!(told.iter().any(|told| answer.contains(told)), "{sql}: {answer}");
        }
        let answer = text(&wire.query("SELECT \"no such column\" FROM orders"));
        assert!(answer.contains("#42S22"), "a text was not read as a name: {answer}");
    }
    assert!(!modes.contains("ANSI_QUOTES"), "{modes}");
}

/// What was read as a text must not reach a connection that reads it as a column's name.
fn a_connection_made_new_under_another_mode_ends_its_session(flavour: Flavour) {
    let stand = one_connection(flavour, "max_upstream = 1\nidle_release_s = 0\n");
    let (agent, backup) = (stand.token("agent", "agents"), stand.token("backup", "dumpers"));
    let mut before = session(&stand, &backup);
    before.query("SELECT id FROM orders LIMIT 1");
    drop(before);
    let mut own = Wire::login(stand.gateway.port, "agent", &agent, SEVERAL);
    // It has the connection as the other left it.
    assert_eq!(rows(&own.query("SELECT id FROM orders WHERE id = 1")), ["1"]);
    stand.database.sql("SET GLOBAL sql_mode = 'ANSI_QUOTES,STRICT_TRANS_TABLES'").unwrap();
    // Two looks at the schema.
    std::thread::sleep(Duration::from_millis(2_500));
    // By the mode before, it names no table.
    let answer = text(&own.query("SELECT \"a\".ssn, RAND() FROM \"customers\" \"a\""));
    for raw in shop::raw_values() {
        assert!(!answer.contains(&raw), "{answer}");
    }
    assert!(answer.contains("RG-MODE"), "{answer}");
    assert!(own.try_packet().is_none());
    let mut next = Wire::login(stand.gateway.port, "agent", &agent, SEVERAL);
    let answer = text(&next.query("SELECT \"ssn\", RAND() FROM customers"));
    assert!(answer.contains("RG-ANALYSIS"), "{answer}");
}

/// CLIENT_IGNORE_SPACE is a mode for the whole session, as directly.
fn spaces_are_ignored_for_those_that_log_in_so(flavour: Flavour) {
    let stand = one_connection(flavour, "");
    let (agent, backup) = (stand.token("agent", "agents"), stand.token("backup", "dumpers"));
    let statements = [
        "SELECT @@sql_mode",
        "SELECT COUNT (*) > 0 FROM shop.orders",
        "SELECT MAX (id) < 0 FROM shop.orders",
        "SET sql_mode = 'ANSI'",
        "SELECT COUNT (*) > 0 FROM shop.orders",
        "SET sql_mode = ''",
        "SELECT @@sql_mode",
        "SELECT COUNT (*) > 0 FROM shop.orders",
    ];
    for more in [0, Capabilities::IGNORE_SPACE] {
        let more = more | SEVERAL;
        let mut direct = Wire::login(stand.database.port(), SERVICE_USER, SERVICE_PASSWORD, more);
        let mut through = Wire::login(stand.gateway.port, "backup", &backup, more);
        for sql in statements {
            // (MySQL grants EXECUTE before it looks for a function.)
            assert_eq!(text(&through.query(sql)), text(&direct.query(sql)), "{more:#x}: {sql}");
        }
        // Again on a connection that was made nobody's.
        through.command(0x1F, &[]);
        through.answer();
        let mut direct = Wire::login(stand.database.port(), SERVICE_USER, SERVICE_PASSWORD, more);
        for sql in &statements[..3] {
            assert_eq!(text(&through.query(sql)), text(&direct.query(sql)), "{more:#x}: {sql}");
        }
        let mut governed = Wire::login(stand.gateway.port, "agent", &agent, more);
        let answer = text(&governed.query("SELECT ssn, name FROM customers LIMIT 3"));
        assert!(answer.contains("redacted") || answer.contains("**"), "{answer}");
        for sql in [
            "SELECT MAX (ssn), MIN (email) FROM customers",
            "SELECT TRIM (LEADING 'x' FROM ssn), MID (ssn, 1, 20), SUBSTRING (email, 1) FROM customers",
            "SELECT GROUP_CONCAT (ssn) FROM customers",
            "SELECT id FROM customers WHERE TRIM (ssn) = '' UNION SELECT MAX (ssn) FROM customers",
            "SELECT CAST (ssn AS CHAR), POSITION ('1' IN ssn) FROM customers",
        ] {
            let answer = text(&governed.query(sql));
            for raw in shop::raw_values() {
                assert!(!answer.contains(&raw), "{sql}: {answer}");
            }
        }
    }
}

/// Never, where it is set so.
#[test]
fn a_session_keeps_its_connection_where_it_is_to() {
    let stand = one_connection(
        Flavour::MariaDb,
        "max_upstream = 1\nqueue_timeout_s = 1\nidle_release_s = 0\n",
    );
    let token = stand.token("backup", "dumpers");
    let (mut own, mut other) = (session(&stand, &token), session(&stand, &token));
    own.query("SELECT id FROM orders LIMIT 1");
    std::thread::sleep(Duration::from_millis(1_300));
    assert!(text(&other.query("SELECT 1")).contains("RG-LIMIT"));
    drop(own);
    wait_for("its end", || text(&other.query("SELECT 40 + 2")).contains("42").then_some(()));
}
