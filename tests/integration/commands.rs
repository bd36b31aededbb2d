//! Every command of the wire: as directly where it is let through, and never raw where it is not.

use rowgate::codec::Capabilities;
use xtask::{mariadb, shop};

use crate::stand::{Stand, errors, wait_for};
use crate::wire::{Packet, Wire, text};

const SERVICE: (&str, &str) = (mariadb::SERVICE_USER, mariadb::SERVICE_PASSWORD);

/// Texts of one statement and of several, of which the answers must be the database's own to the last byte.
const TEXTS: [&str; 23] = [
    "SELECT 1; SELECT 'a;b' AS x, 2; DO 0",
    "SELECT 1;",
    "SELECT 1 ; ;\n",
    "SELECT 1; -- a comment",
    "SELECT 1 /* ; */; SELECT 2 # ;",
    "SELECT 1;;SELECT 2",
    "; SELECT 1",
    "-- nothing",
    " ",
    "SELECT 1; SELECT no_such_column; SELECT 3",
    "SELECT 1; SELECT FROM; SELECT 3",
    "SET @a = 5; SELECT @a; SET @a = @a + 1; SELECT @a",
    "CREATE TEMPORARY TABLE t (a INT); INSERT INTO t VALUES (1), (2); SELECT a FROM t; UPDATE t SET a = a + 1; DROP TABLE t",
    "USE mysql; SELECT DATABASE(); USE shop; SELECT DATABASE()",
    "SELECT 1 /*!999999 ; SELECT 2 */",
    "CREATE OR REPLACE PROCEDURE p(OUT n INT) BEGIN SELECT 1; SELECT 2 AS two, 3; SET n = 7; END; \
     CALL p(@n); SELECT @n",
    "CALL p(@n)",
    "CALL p(@n); CALL p(@n); SELECT 'after'",
    "CREATE OR REPLACE PROCEDURE gone() DO 1; DROP PROCEDURE gone; CALL gone(); SELECT 1",
    "BEGIN; SELECT 1; COMMIT",
    "BEGIN NOT ATOMIC SELECT 1; SELECT 2; END; SELECT 3",
    "SELECT seq FROM seq_1_to_600; SELECT seq FROM seq_1_to_300",
    "SELECT IF(1, 2, 3); SELECT CASE WHEN 1 THEN 2 END; SELECT ROW_COUNT(), FOUND_ROWS()",
];

#[test]
fn several_statements_are_answered_as_the_database_answers_them() {
    let stand = Stand::start();
    let token = stand.token("backup", "dumpers");
    for more in [0, Capabilities::DEPRECATE_EOF] {
        let more = more | Capabilities::MULTI_STATEMENTS | Capabilities::MULTI_RESULTS;
        let mut direct = Wire::login(stand.database.port(), SERVICE.0, SERVICE.1, more);
        let mut through = Wire::login(stand.gateway.port, "backup", &token, more);
        for sql in TEXTS {
            let (wanted, got) = (direct.query(sql), through.query(sql));
            assert_eq!(comparable(&got), comparable(&wanted), "{sql}");
        }
    }
    let record = stand.gateway.cli_ok(&["audit", "tail", "-n", "200", "--output", "json"]).unwrap();
    assert!(record.contains("select case when ? then ? end"), "{record}");
}

/// A syntax error quotes the text up to its end, which is the statement's here and the whole command's directly; that
/// of an empty statement has another number.
fn comparable(packets: &[Packet]) -> String {
    let is_syntax = |payload: &[u8]| matches!(payload, [0xFF, 0x28 | 0x29, 0x04, ..]);
    let shown = |(seq, payload): &Packet| {
        let shown = if is_syntax(payload) { b"a syntax error" } else { payload.as_slice() };
        (*seq, shown.to_vec())
    };
    text(&packets.iter().map(shown).collect::<Vec<_>>())
}

/// Where a statement of a batch touches labelled columns: masked or refused, whatever is around it.
const BATCHES: [&str; 14] = [
    "SELECT ssn FROM customers; SELECT name FROM customers",
    "SELECT name FROM customers; SELECT ssn FROM customers",
    "SELECT 1; SELECT ssn, name FROM customers; SELECT name, ssn FROM customers",
    "CALL two(); SELECT ssn, name FROM customers LIMIT 3",
    "SELECT name AS ssn FROM customers LIMIT 3; SELECT ssn FROM customers",
    "USE other; SELECT ssn FROM customers; USE shop; SELECT ssn FROM customers",
    "USE other; USE shop; SELECT email FROM customers",
    "SET sql_mode = 'ANSI_QUOTES'; SELECT \"ssn\" FROM customers",
    "SET sql_mode = 'NO_BACKSLASH_ESCAPES'; SELECT '\\'; SELECT ssn FROM customers; -- '",
    "SELECT '\\'; SELECT ssn FROM customers; -- '",
    "SET NAMES gbk; SELECT ssn FROM customers",
    "SELECT 1 /*!50000; SELECT ssn FROM customers */; SELECT 2",
    "SELECT 5--/**/1; SELECT ssn FROM customers",
    "BEGIN NOT ATOMIC SELECT ssn FROM customers; END; SELECT 1",
];

#[test]
fn nothing_raw_in_the_results_of_several_statements() {
    let stand = Stand::start();
    stand
        .database
        .sql(
            "CREATE DATABASE other; CREATE TABLE other.customers (ssn TEXT); \
             INSERT INTO other.customers VALUES ('not labelled');\n\
             DELIMITER //\nCREATE PROCEDURE shop.two() BEGIN SELECT 1; SELECT 2; END//\n",
        )
        .unwrap();
    let token = stand.token("leak-agent", "agents");
    let mut masked = 0;
    for more in [0, Capabilities::DEPRECATE_EOF] {
        for sql in BATCHES {
            let mut wire = Wire::login(
                stand.gateway.port,
                "leak-agent",
                &token,
                more | Capabilities::MULTI_STATEMENTS,
            );
            let got = text(&wire.query(sql));
            for raw in shop::raw_values() {
                assert!(!got.contains(&raw), "{sql}: {got}");
            }
            masked += usize::from(got.contains("[redacted]"));
        }
    }
    assert!(masked >= 8, "only {masked} of the batches were answered with masked rows");
}

#[test]
fn one_refusal_refuses_all() {
    let stand = Stand::start();
    let token = stand.token("agent", "agents");
    let mut wire = Wire::login(stand.gateway.port, "agent", &token, Capabilities::MULTI_STATEMENTS);
    let count = "SELECT COUNT(*) FROM shop.orders WHERE id = 70001";
    let insert = "INSERT INTO orders VALUES (70001, 1, '2026-01-01', 'new', 5)";
    for (second, named) in [
        ("HANDLER customers OPEN", "RG-"),
        ("DROP TABLE payments", "RG-ALONE"),
        ("SELECT id FROM customers WHERE ssn = 'x'", "RG-"),
    ] {
        let got = text(&wire.query(&format!("{insert}; {second}")));
        assert!(got.starts_with("1:\\xff") && got.contains(named), "{second}: {got}");
        assert_eq!(stand.database.sql(count).unwrap().trim(), "0", "{second}");
    }
    let got = text(&wire.query(&format!("{insert}; SELECT 40 + 2")));
    assert!(got.contains("42"), "{got}");
    assert_eq!(stand.database.sql(count).unwrap().trim(), "1");
}

/// A file of the client's, by two stock clients: streamed through, counted; by the governed where a rule permits it, and never into
/// labelled tables.
#[test]
fn files_of_the_client_are_loaded() {
    let stand = Stand::start();
    stand.database.sql("CREATE TABLE shop.loaded (id INT, text VARCHAR(2000))").unwrap();
    let token = stand.token("backup", "dumpers");
    let file = stand.folder.path().join("loaded.txt");
    let line = |id: u32| format!("{id}\t{}\n", "x".repeat(1_000));
    std::fs::write(&file, (0..20_000).map(line).collect::<String>()).unwrap();
    let sql =
        format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE loaded; SELECT 40 + 2", file.display());
    let load = |user: &str, token: &str| {
        let mut client = stand.gateway.client(user, token);
        client
            .args(["--local-infile=1", "--batch", "--database=shop", "-e", &sql])
            .output()
            .unwrap()
    };
    let output = load("backup", &token);
    assert!(String::from_utf8_lossy(&output.stdout).contains("42"), "{}", errors(&output));
    let mut import = std::process::Command::new("mariadb-import");
    import.args([
        "--no-defaults",
        "--protocol=tcp",
        "--host=127.0.0.1",
        "--local",
        "--user=backup",
    ]);
    import.arg(format!("--port={}", stand.gateway.port)).env("MYSQL_PWD", &token);
    let output = import.arg("shop").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let count = "SELECT COUNT(*), SUM(LENGTH(text)) FROM shop.loaded";
    assert_eq!(stand.database.sql(count).unwrap().trim(), "40000\t40000000");
    let record = stand.gateway.cli_ok(&["audit", "tail", "-n", "50", "--output", "json"]).unwrap();
    assert!(record.contains("load data local infile"), "{record}");
    let agent = stand.token("agent", "agents");
    let refused = errors(&load("agent", &agent));
    assert!(refused.contains("RG-DENIED"), "{refused}");
    // Governed, with a permit for it: into what has no labels, from the client's own files.
    let dba = stand.token("loader", "dba");
    let output = load("loader", &dba);
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(stand.database.sql(count).unwrap().trim(), "60000\t60000000");
    let name = file.display();
    for sql in [
        format!("LOAD DATA LOCAL INFILE '{name}' INTO TABLE customers"),
        format!(
            "LOAD DATA LOCAL INFILE '{name}' INTO TABLE loaded SET text = (SELECT ssn FROM customers LIMIT 1)"
        ),
        format!("LOAD DATA INFILE '{name}' INTO TABLE loaded"),
        format!("LOAD XML INFILE '{name}' INTO TABLE loaded"),
    ] {
        stand.sql_refused("loader", &dba, &sql);
    }
}

/// Packets of 16 MiB and more, in both directions; the answer follows the last of a command's.
#[test]
fn packets_of_16_mib_and_more() {
    let stand = Stand::with(|options| {
        options.server = "max_statement_bytes = 67108864\nmax_row_bytes = 67108864".to_owned();
    });
    stand.database.sql("SET GLOBAL max_allowed_packet = 128 << 20").unwrap();
    for (user, group) in [("backup", "dumpers"), ("agent", "agents")] {
        let token = stand.token(user, group);
        let mut wire = Wire::login(stand.gateway.port, user, &token, 0);
        for len in [(16 << 20) - 30, 16 << 20, 40 << 20] {
            let got = wire.query(&format!("SELECT LENGTH('{}')", "x".repeat(len)));
            let shown = text(got.get(got.len() - 2..).unwrap_or(&got));
            assert!(
                shown.contains(&len.to_string()),
                "{user} {len}: {}",
                &shown[..shown.len().min(300)]
            );
            let expected = 1 + len / 0xFF_FFFF;
            assert_eq!(usize::from(got[0].0), expected, "{user} {len}");
        }
        wire.command(3, format!("SELECT REPEAT('y', {})", 40 << 20).as_bytes());
        let mut received = 0;
        while received < 40 << 20 {
            received += wire.packet().1.len();
        }
        wire.packet();
        assert!(text(&wire.query("SELECT 40 + 2")).contains("42"));
        let said =
            wire.try_command(3, format!("SELECT LENGTH('{}')", "x".repeat(65 << 20)).as_bytes());
        assert!(said.is_some_and(|packet| text(&[packet]).contains("RG-LIMIT")), "{user}");
    }
}

/// KILL, by the gateway's id and the database's, as a statement and as a command: one's own sessions and no others.
#[test]
fn sessions_of_ones_own_are_killed() {
    let stand = Stand::start();
    let (own, other) = (stand.token("backup", "dumpers"), stand.token("other", "dumpers"));
    let log_in = |user: &str, token: &str| Wire::login(stand.gateway.port, user, token, 0);
    let running = |what: &str| {
        let list = format!(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '{what}%'"
        );
        wait_for("the statement", || {
            (stand.database.sql(&list).unwrap().trim() == "1").then_some(())
        });
    };
    let mut victim = log_in("backup", &own);
    let shown = victim.query("SELECT CONNECTION_ID()");
    let upstream = String::from_utf8_lossy(&shown[3].1[1..]).into_owned();
    let mut stranger = log_in("other", &other);
    let mut killer = log_in("backup", &own);
    for (round, id) in [victim.id.to_string(), upstream.clone()].iter().enumerate() {
        let sleep = format!("SELECT SLEEP(300), {round}");
        victim.command(3, sleep.as_bytes());
        running(&sleep);
        for kill in [format!("KILL QUERY {id}"), format!("/* x */ KILL {id}")] {
            let got = text(&stranger.query(&kill));
            assert!(got.contains("Unknown thread id"), "{kill}: {got}");
        }
        let got = text(&killer.query(&format!("KILL QUERY {id}")));
        assert!(got.starts_with("1:\\x00"), "{got}");
        let interrupted = text(&victim.answer());
        assert!(
            interrupted.contains("interrupted") || interrupted.contains("\\x011"),
            "{interrupted}"
        );
        assert!(text(&victim.query("SELECT 40 + 2")).contains("42"), "the session goes on");
    }
    assert!(text(&killer.query("KILL USER rowgate")).contains("RG-UNSUPPORTED"));
    victim.command(3, b"SELECT SLEEP(300), 3");
    running("SELECT SLEEP(300), 3");
    killer.command(0x0C, &victim.id.to_le_bytes());
    assert!(text(&killer.answer()).starts_with("1:\\x00"));
    assert!(text(&[victim.packet()]).contains("RG-UPSTREAM"));
    assert!(victim.try_packet().is_none(), "the killed session goes on");
    let mut idle = log_in("backup", &own);
    assert!(text(&killer.query(&format!("KILL {}", idle.id))).starts_with("1:\\x00"));
    assert!(text(&[idle.packet()]).contains("RG-KILLED"), "it is told without having asked");
    assert!(idle.try_packet().is_none(), "the killed session goes on");
    let agent = stand.token("agent", "agents");
    let refused = text(&log_in("agent", &agent).query(&format!("KILL {}", killer.id)));
    assert!(refused.contains("RG-DENIED"), "{refused}");
}

/// Commands that stop servers or read their logs: refused by name, recorded by name, and not without end.
#[test]
fn refused_commands_are_recorded() {
    let stand = Stand::start();
    let token = stand.token("backup", "dumpers");
    let mut wire = Wire::login(stand.gateway.port, "backup", &token, 0);
    for command in [0x08, 0x0D, 0x12, 0x15, 0x77] {
        wire.command(command, &[0; 8]);
        assert!(text(&wire.answer()).contains("RG-COMMAND"), "{command:#x}");
    }
    for _ in 0..40 {
        wire.command(0x0A, &[]);
        wire.answer();
    }
    wire.command(0x09, &[]);
    assert!(text(&[wire.packet()]).contains("Uptime"));
    assert!(text(&wire.query("SELECT 40 + 2")).contains("42"));
    let record = stand.gateway.cli_ok(&["audit", "tail", "-n", "500", "--output", "json"]).unwrap();
    for name in
        ["COM_SHUTDOWN (0x08)", "COM_DEBUG", "COM_BINLOG_DUMP", "COM_REGISTER_SLAVE", "(0x77)"]
    {
        assert!(record.contains(name), "{name}: {record}");
    }
    assert_eq!(record.matches("COM_PROCESS_INFO").count(), 5, "{record}");
    assert!(record.contains("statistics") && record.contains("show status"), "{record}");
}

/// Procedures by prepared statements: several results, and the OUT parameters as a result of their own.
#[test]
fn prepared_calls_are_answered_as_the_database_answers_them() {
    let stand = Stand::start();
    stand
        .database
        .sql("DELIMITER //\nCREATE PROCEDURE shop.p(IN a INT, OUT n INT) BEGIN SELECT a; SELECT 'x' AS x, 3; SET n = a + 1; END//\n")
        .unwrap();
    let token = stand.token("backup", "dumpers");
    for eof in [0, Capabilities::DEPRECATE_EOF] {
        let more = eof | Capabilities::MULTI_RESULTS | Capabilities::PS_MULTI_RESULTS;
        let mut direct = Wire::login(stand.database.port(), SERVICE.0, SERVICE.1, more);
        let mut through = Wire::login(stand.gateway.port, "backup", &token, more);
        let [wanted, got] = [&mut direct, &mut through].map(|wire| {
            let (id, mut answers) = wire.prepare("CALL p(?, ?)");
            // NULL bitmap, types, values; then once more without the types.
            for bound in [&b"\x02\x01\x03\0\x06\0\x05\0\0\0"[..], b"\x02\0\x06\0\0\0"] {
                let execute = [&id.to_le_bytes()[..], b"\0\x01\0\0\0", bound].concat();
                wire.command(0x17, &execute);
                answers.extend(wire.answer());
            }
            text(&answers)
        });
        assert_eq!(got, wanted);
        assert!(got.contains("\\x06\\x00\\x00\\x00"), "the OUT parameter: {got}");
    }
}

/// A stock driver over all of it: several statements, procedures, a file, a statement of 20 MiB, KILL.
#[test]
fn pymysql_uses_the_whole_of_it() {
    let stand = Stand::with(|options| options.server = "max_statement_bytes = 67108864".to_owned());
    stand
        .database
        .sql(
            "SET GLOBAL max_allowed_packet = 128 << 20; CREATE TABLE shop.loaded (a INT, b LONGTEXT);\n\
             DELIMITER //\nCREATE PROCEDURE shop.two(IN a INT) BEGIN SELECT a; SELECT a + 1; END//\n",
        )
        .unwrap();
    let token = stand.token("backup", "dumpers");
    let file = stand.folder.path().join("rows.txt");
    std::fs::write(&file, "1\tx\n2\ty\n").unwrap();
    let script = format!(
        r#"
import pymysql
from pymysql.constants import CLIENT
def connect():
    return pymysql.connect(host="127.0.0.1", port={port}, user="backup", password="{token}", database="shop",
        local_infile=True, client_flag=CLIENT.MULTI_STATEMENTS, autocommit=True, max_allowed_packet=128 << 20)
c = connect()
k = c.cursor()
k.execute("SELECT 1; INSERT INTO loaded VALUES (0, 'z'); SELECT a, b FROM loaded; SELECT ';'")
sets = [k.fetchall()]
while k.nextset():
    sets.append(k.fetchall())
print(sets)
k.callproc("two", (5,))
print(k.fetchall(), k.nextset(), k.fetchall(), k.nextset())
print(k.execute("LOAD DATA LOCAL INFILE '{file}' INTO TABLE loaded"))
k.execute("INSERT INTO loaded VALUES (3, %s)", ("q" * (20 << 20),))
k.execute("SELECT LENGTH(b) FROM loaded WHERE a = 3")
print(k.fetchall())
k.execute("SELECT b FROM loaded WHERE a = 3")
print(len(k.fetchone()[0]))
other = connect()
c.kill(other.thread_id())
try:
    other.cursor().execute("SELECT 1")
except pymysql.err.MySQLError as e:
    print("killed", e.args[0])
"#,
        port = stand.gateway.port,
        file = file.display(),
    );
    let packages = xtask::sh::root().join("target/python");
    let output = std::process::Command::new("python3")
        .args(["-c", &script])
        .env("PYTHONPATH", packages)
        .output()
        .unwrap();
    // It is told why where it speaks before it is ended, which an idle session is by a tick of its worker.
    let said = String::from_utf8_lossy(&output.stdout).replace("killed 2013", "killed 1317");
    let wanted = "[((1,),), [], ((0, 'z'),), ((';',),)]\n((5,),) True ((6,),) True\n2\n((20971520,),)\n20971520\nkilled 1317\n";
    assert_eq!(said, wanted, "{}", errors(&output));
}
