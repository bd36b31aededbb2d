//! What definitions tell beside types, and results that come without them: as directly to who is not governed, and never
//! a way around a mask.

use rowgate::codec::Capabilities;
use xtask::{gateway, mariadb, shop};

use crate::stand::{Flavour, Stand, errors};
use crate::wire::{Packet, Wire, text};

const SERVICE: (&str, &str) = (mariadb::SERVICE_USER, mariadb::SERVICE_PASSWORD);

/// MariaDB's extended metadata and metadata caching.
const CACHED: u64 = Capabilities::MARIADB_EXTENDED_METADATA
    | Capabilities::MARIADB_CACHE_METADATA
    | Capabilities::MULTI_RESULTS
    | Capabilities::PS_MULTI_RESULTS;

/// MySQL's metadata that a session may turn off.
const OPTIONAL: u64 = Capabilities::OPTIONAL_RESULTSET_METADATA;

/// Columns of every type that is told by extended metadata alone, each twice: as it is, and labelled.
const PROFILES: &str = "CREATE TABLE shop.profiles (id INT PRIMARY KEY, j JSON, u UUID, i INET6, p POINT,
    secret_j JSON, secret_u UUID, secret_i INET6, secret_p POINT);
  INSERT INTO shop.profiles VALUES (1, '{\"plain\": [1]}', '123e4567-e89b-12d3-a456-426655440000', '2001:db8::1', POINT(1, 2),
    '{\"hidden\": [1]}', '00112233-4455-6677-8899-aabbccddeeff', '2001:db8::ff', POINT(7, 9))";

const ALL: &str = "SELECT j, u, i, p, secret_j, secret_u, secret_i, secret_p, JSON_EXTRACT(j, '$') AS x FROM profiles";

fn profiles() -> Stand {
    let labelled = "\"shop.customers.ssn\", \"shop.profiles.secret_j\", \"shop.profiles.secret_u\", \
                    \"shop.profiles.secret_i\", \"shop.profiles.secret_p\"";
    Stand::after(
        Flavour::MariaDb,
        &[],
        |database| {
            database.sql(PROFILES).unwrap();
        },
        |options| {
            options.labels = gateway::SHOP_LABELS.replace("\"shop.customers.ssn\"", labelled);
        },
    )
}

/// How the stock client describes the columns of a result, and its rows.
fn described(port: u16, user: &str, password: &str, sql: &str) -> String {
    let mut client = std::process::Command::new("mariadb");
    client.args([
        "--no-defaults",
        "--protocol=tcp",
        "--host=127.0.0.1",
        "--column-type-info",
        "--table",
    ]);
    client.arg(format!("--port={port}")).arg(format!("--user={user}")).env("MYSQL_PWD", password);
    let output = client.args(["--database=shop", "-e", sql]).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A mask writes a text: what it stands in is no JSON or UUID to a driver any more. What becomes NULL stays what it was.
#[test]
fn what_a_column_is_to_the_stock_client() {
    let stand = profiles();
    let wanted = described(stand.database.port(), SERVICE.0, SERVICE.1, ALL);
    assert_eq!(wanted.matches("format=json").count(), 3, "{wanted}");
    let backup = stand.token("backup", "dumpers");
    assert_eq!(described(stand.gateway.port, "backup", &backup, ALL), wanted);
    let agent = stand.token("agent", "agents");
    let masked = described(stand.gateway.port, "agent", &agent, ALL);
    for (name, directly, through) in
        [("format=json", 3, 2), ("type=uuid", 2, 1), ("type=inet6", 2, 1), ("type=point", 2, 2)]
    {
        assert_eq!(wanted.matches(name).count(), directly, "{name}: {wanted}");
        assert_eq!(masked.matches(name).count(), through, "{name}: {masked}");
    }
    for raw in ["hidden", "8899", "db8::ff"] {
        assert!(wanted.contains(raw) && !masked.contains(raw), "{raw}: {masked}");
    }
    for plain in ["{\"plain\": [1]}", "123e4567", "2001:db8::1"] {
        assert!(masked.contains(plain), "{plain}: {masked}");
    }
}

/// PREPARE's definitions and an EXECUTE's are told the same.
#[test]
fn masked_columns_are_texts_in_the_binary_protocol_too() {
    let stand = profiles();
    let agent = stand.token("agent", "agents");
    for eof in [0, Capabilities::DEPRECATE_EOF] {
        let more = eof | Capabilities::MARIADB_EXTENDED_METADATA;
        let mut wire = Wire::login(stand.gateway.port, "agent", &agent, more);
        let (id, prepared) = wire.prepare(ALL);
        let (executed, queried) = (wire.execute(id, 0), wire.query(ALL));
        for packets in [prepared, executed, queried] {
            let shown = text(&packets);
            let counts = ["\\x04json", "\\x04uuid", "\\x05inet6", "\\x05point"]
                .map(|name| shown.matches(name).count());
            assert_eq!(counts, [2, 1, 1, 2], "{shown}");
            assert!(!shown.contains("hidden"), "{shown}");
        }
    }
}

/// One conversation about prepared statements; what was answered.
fn prepared(wire: &mut Wire) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    let mut told = |what: &str, packets: Vec<Packet>| seen.push((what.to_owned(), text(&packets)));
    told("a table", wire.query("CREATE OR REPLACE TABLE met (a INT, j JSON)"));
    told("rows", wire.query("INSERT INTO met VALUES (1, '[1]'), (2, '{}'), (3, NULL)"));
    told("as text", wire.query("SELECT a, j FROM met"));
    let (select, packets) = wire.prepare("SELECT a, j FROM met");
    told("prepared", packets);
    for flags in [0, 0, 1, 1, 0] {
        told("executed", wire.execute(select, flags));
        if flags == 1 {
            (0..2).for_each(|_| told("fetched", wire.fetch(select, 2)));
        }
    }
    told("another character set", wire.query("SET NAMES latin1"));
    (0..2).for_each(|_| told("executed", wire.execute(select, 0)));
    told("another type", wire.query("ALTER TABLE met MODIFY a VARCHAR(10)"));
    (0..2).for_each(|_| told("executed", wire.execute(select, 0)));
    told("no such column", wire.query("ALTER TABLE met DROP j"));
    told("executed", wire.execute(select, 0));
    let (insert, packets) = wire.prepare("INSERT INTO met VALUES (7) RETURNING a");
    told("returning", packets);
    (0..2).for_each(|_| told("returned", wire.execute(insert, 0)));
    told(
        "two results",
        wire.query("CREATE OR REPLACE PROCEDURE met() BEGIN SELECT 1; SELECT a FROM met; END"),
    );
    let (call, packets) = wire.prepare("CALL met()");
    told("a call", packets);
    (0..2).for_each(|_| told("called", wire.execute(call, 0)));
    told("by text", wire.query("PREPARE s FROM 'SELECT 1'"));
    (0..2).for_each(|_| told("by text", wire.query("EXECUTE s")));
    let (show, packets) = wire.prepare("SHOW TABLES");
    told("a show", packets);
    (0..2).for_each(|_| told("shown", wire.execute(show, 0)));
    seen
}

/// Whoever asks for it is told what is new only; who does not, all of it, on connections of their own.
#[test]
fn definitions_are_left_out_as_the_database_leaves_them_out() {
    let stand = Stand::start();
    let token = stand.token("backup", "dumpers");
    let plain = Capabilities::MULTI_RESULTS | Capabilities::PS_MULTI_RESULTS;
    for more in [CACHED, plain, CACHED & !Capabilities::MARIADB_EXTENDED_METADATA, CACHED] {
        for eof in [0, Capabilities::DEPRECATE_EOF] {
            let mut direct = Wire::login(stand.database.port(), SERVICE.0, SERVICE.1, more | eof);
            let mut through = Wire::login(stand.gateway.port, "backup", &token, more | eof);
            let (wanted, got) = (prepared(&mut direct), prepared(&mut through));
            let lean = wanted.iter().filter(|(_, said)| said.starts_with("1:\\x02\\x00 ")).count();
            assert_eq!(lean > 2, more & Capabilities::MARIADB_CACHE_METADATA != 0, "{wanted:?}");
            for (wanted, got) in wanted.iter().zip(&got) {
                assert_eq!(got, wanted, "{more:#x} {eof:#x}");
            }
        }
    }
}

/// Whether definitions come with this answer to an EXECUTE of four columns.
fn defined(packets: &[Packet]) -> bool {
    match packets[0].1[..] {
        [4, flag @ 0..=1] => flag == 1,
        _ => panic!("no result of four columns: {}", text(packets)),
    }
}

fn nothing_raw(packets: &[Packet], what: &str) {
    let shown = text(packets);
    for raw in shop::raw_values() {
        assert!(!shown.contains(&raw), "{what}: {shown}");
    }
    for (at, (seq, _)) in packets.iter().enumerate() {
        assert_eq!(usize::from(*seq), at + 1, "{what}: {shown}");
    }
}

const MASKED: &str =
    "SELECT ssn, card_number, id, name FROM customers WHERE id IN (7, 8, 9) ORDER BY id";

/// Executed again and again without definitions, under one policy after the other, with a cursor and without: no row is
/// raw, and the client has the definitions that fit.
#[test]
fn rows_without_definitions_are_masked() {
    let stand = Stand::with(|options| {
        // A guard's time is short, and runs out on a loaded machine; this test makes it start anew often.
        let guard = options.plugins.find("[[plugins]]\nname = \"guard-risk\"").unwrap();
        options.plugins.truncate(guard);
    });
    let token = stand.token("leak-agent", "agents");
    let policy = stand.gateway.dir().join("policy.cedar");
    let closed = std::fs::read_to_string(&policy).unwrap();
    let open =
        std::fs::read_to_string(xtask::sh::root().join("policies/open-cards.cedar")).unwrap();
    let other = closed.replace("@mask(\"redact\")", "@mask(\"null\")");
    let apply = |text: &str| {
        std::fs::write(&policy, text).unwrap();
        stand.gateway.cli_ok(&["reload"]).unwrap();
    };
    let card = shop::customer(7).card_number;
    for eof in [0, Capabilities::DEPRECATE_EOF] {
        apply(&open);
        let mut wire = Wire::login(stand.gateway.port, "leak-agent", &token, CACHED | eof);
        let (id, _) = wire.prepare(MASKED);
        // Cards are open: their columns are as the database told them, and SSNs masked.
        let first = wire.execute(id, 0);
        assert!(!defined(&first) && text(&first).contains(&card), "{}", text(&first));
        apply(&closed);
        let again = wire.execute(id, 0);
        assert!(defined(&again), "another plan: {}", text(&again));
        nothing_raw(&again, "closed");
        for _ in 0..3 {
            let again = wire.execute(id, 0);
            assert!(!defined(&again) && text(&again).contains("[redacted]"), "{}", text(&again));
            nothing_raw(&again, "closed, again");
        }
        apply(&other);
        for told in [true, false] {
            let again = wire.execute(id, 0);
            assert_eq!(defined(&again), told, "{}", text(&again));
            assert!(!text(&again).contains("[redacted]"), "{}", text(&again));
            nothing_raw(&again, "null");
        }
        // A cursor keeps its EXECUTE's plan, whatever comes between.
        let opened = wire.execute(id, 1);
        nothing_raw(&opened, "opened");
        apply(&open);
        for rows in [1, 5] {
            nothing_raw(&wire.fetch(id, rows), "fetched");
        }
        let last = wire.execute(id, 0);
        assert!(defined(&last) && text(&last).contains(&card), "{}", text(&last));
        // A statement that had nothing to mask when it was prepared.
        let (id, _) =
            wire.prepare("SELECT card_number, id, name, tier FROM customers WHERE id = 7");
        assert!(text(&wire.execute(id, 0)).contains(&card));
        apply(&closed);
        for told in [true, false] {
            let now = wire.execute(id, 0);
            assert_eq!(defined(&now), told, "{}", text(&now));
            nothing_raw(&now, "masked since");
        }
        stand.database.sql("ALTER TABLE shop.customers MODIFY tier BIGINT NOT NULL").unwrap();
        for told in [true, false] {
            let now = wire.execute(id, 0);
            assert_eq!(defined(&now), told, "{}", text(&now));
            nothing_raw(&now, "altered");
        }
        stand.database.sql("ALTER TABLE shop.customers MODIFY tier TINYINT NOT NULL").unwrap();
    }
}

/// What is kept of definitions has a bound; beyond it a masked EXECUTE is refused before it is sent.
#[test]
fn definitions_that_take_too_much_room_are_not_kept() {
    let stand = Stand::with(|options| options.server = "max_statement_bytes = 65536".to_owned());
    let token = stand.token("leak-agent", "agents");
    let mut wire = Wire::login(stand.gateway.port, "leak-agent", &token, CACHED);
    let columns = vec!["ssn, name"; 400].join(", ");
    let wide = format!("SELECT {columns} FROM customers WHERE id = 7");
    let (kept, _) = wire.prepare(&wide);
    let (beyond, _) = wire.prepare(&wide);
    let masked = wire.execute(kept, 0);
    assert!(text(&masked).contains("[redacted]"), "{}", text(&masked));
    nothing_raw(&masked, "kept");
    let refused = text(&wire.execute(beyond, 0));
    assert!(refused.contains("RG-LIMIT"), "{refused}");
    assert!(text(&wire.query("SELECT 40 + 2")).contains("42"), "the session goes on");
}

/// A session that has turned definitions off gets its rows without, as directly, as long as none is to be masked.
#[test]
fn definitions_that_are_turned_off() {
    if xtask::mysql::is_left_out() {
        return;
    }
    let stand = Stand::on(Flavour::MySql);
    let token = stand.token("backup", "dumpers");
    for eof in [0, Capabilities::DEPRECATE_EOF] {
        let mut wire = Wire::login(stand.gateway.port, "backup", &token, OPTIONAL | eof);
        let sql = "SELECT id, ssn FROM customers WHERE id = 7";
        let full = wire.query(sql);
        assert!(full[0].1 == [2, 1] && text(&full).contains("customers"), "{}", text(&full));
        let (id, definitions) = wire.prepare(sql);
        assert!(definitions.len() >= 2, "{}", text(&definitions));
        assert_eq!(wire.execute(id, 0)[0].1, [2, 1]);
        wire.query("SET resultset_metadata = NONE");
        let (again, definitions) = wire.prepare(sql);
        assert_eq!(definitions.len(), usize::from(eof == 0), "{}", text(&definitions));
        for packets in [wire.query(sql), wire.execute(id, 0), wire.execute(again, 0)] {
            let shown = text(&packets);
            assert!(packets[0].1 == [2, 0] && !shown.contains("customers"), "{shown}");
            assert!(shown.contains(&shop::customer(7).ssn), "{shown}");
        }
        wire.execute(id, 1);
        assert!(text(&wire.fetch(id, 1)).contains(&shop::customer(7).ssn));
        wire.query("SET resultset_metadata = FULL");
        assert_eq!(wire.query(sql)[0].1, [2, 1]);
    }
}

/// The governed may not turn them off; and who had when it came to be governed gets nothing that a mask is on.
#[test]
fn masks_are_not_lost_with_definitions() {
    if xtask::mysql::is_left_out() {
        return;
    }
    let stand = Stand::on(Flavour::MySql);
    let token = stand.token("leak-agent", "agents");
    let mut wire = Wire::login(stand.gateway.port, "leak-agent", &token, OPTIONAL);
    for sql in [
        "SET resultset_metadata = NONE",
        "SET SESSION resultset_metadata = 'NONE'",
        "SET @@resultset_metadata = 0",
        "SET sql_safe_updates = 1, resultset_metadata = NONE",
    ] {
        let refused = text(&wire.query(sql));
        assert!(refused.contains("RG-"), "{sql}: {refused}");
    }
    let hinted =
        "SELECT /*+ SET_VAR(resultset_metadata = NONE) */ ssn, id FROM customers WHERE id = 7";
    for sql in ["SELECT ssn, id FROM customers WHERE id = 7", hinted] {
        let masked = wire.query(sql);
        nothing_raw(&masked, sql);
        let (id, _) = wire.prepare(sql);
        nothing_raw(&wire.execute(id, 0), sql);
    }
    let backup = stand.token("backup", "dumpers");
    let policy = stand.gateway.dir().join("policy.cedar");
    let ungoverned = std::fs::read_to_string(&policy).unwrap();
    let governed = ungoverned
        .replace("Group::\"dumpers\"", "Group::\"nobody\"")
        .replace("Group::\"agents\"", "Group::\"dumpers\"");
    for how in ["queried", "prepared", "executed"] {
        for eof in [0, Capabilities::DEPRECATE_EOF] {
            std::fs::write(&policy, &ungoverned).unwrap();
            stand.gateway.cli_ok(&["reload"]).unwrap();
            let mut wire = Wire::login(stand.gateway.port, "backup", &backup, OPTIONAL | eof);
            let sql = "SELECT ssn, id FROM customers WHERE id = 7";
            let (id, _) = wire.prepare(sql);
            wire.query("SET resultset_metadata = NONE");
            std::fs::write(&policy, &governed).unwrap();
            stand.gateway.cli_ok(&["reload"]).unwrap();
            assert!(text(&wire.query("SELECT 40 + 2")).contains("42"), "nothing is to be masked");
            match how {
                "queried" => wire.command(3, sql.as_bytes()),
                "prepared" => wire.command(0x16, sql.as_bytes()),
                _ => wire.command(0x17, &[&id.to_le_bytes()[..], &[0, 1, 0, 0, 0]].concat()),
            }
            let said: Vec<Packet> = std::iter::from_fn(|| wire.try_packet()).collect();
            nothing_raw(&said, how);
            assert!(text(&said).contains("RG-ANALYSIS"), "{how}: {}", text(&said));
            assert_eq!(said.len(), 1, "{how}: {}", text(&said));
        }
    }
}
