//! Nothing raw reaches a governed client, in any byte of the wire; and the search would find it if it did.

use std::collections::HashMap;
use std::process::{Command, Stdio};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder, Row};
use xtask::{mariadb, mysql, shop};

use crate::relay::Relay;
use crate::stand::{Database, Flavour, Stand, on_both, wait_for};
use crate::tries::tries_of;
use crate::wire::{Wire, text};

on_both!(
    free_text_in_wide_characters_is_not_shown_unsearched,
    a_default_computed_from_free_text_is_as_labelled,
    nothing_is_written_in_bulk_in_disguise,
    nothing_raw_in_any_byte,
    a_statement_prepared_elsewhere_is_masked_all_the_same,
    a_mode_set_behind_any_space_is_followed,
    a_view_calls_what_its_functions_reach,
    procedures_are_called_in_every_form,
);

/// Statements that show labelled columns directly: each returns rows, raw or masked.
const SHOWS: [&str; 7] = [
    "SELECT * FROM customers",
    "SELECT id, email, phone, card_number, ssn, notes FROM customers ORDER BY id",
    "SELECT c.ssn AS name, c.card_number AS city FROM customers AS c",
    "SELECT x.a FROM (SELECT email AS a FROM customers) AS x",
    "WITH w (v) AS (SELECT phone FROM customers) SELECT v FROM w",
    "SELECT id, mail FROM contacts",
    "SELECT name FROM customers WHERE id = 1 UNION ALL SELECT ssn FROM customers",
];

/// Statements that try to get around: masked or refused, whichever; raw never.
const TRIES: [&str; 87] = [
    "SELECT CONCAT(ssn, '') FROM customers",
    "SELECT UPPER(email), LOWER(email), TRIM(email), HEX(email) FROM customers",
    "SELECT REVERSE(card_number) FROM customers",
    "SELECT CASE WHEN id > 0 THEN ssn END FROM customers",
    "SELECT CAST(ssn AS CHAR) FROM customers",
    "SELECT (SELECT ssn FROM customers AS i WHERE i.id = o.id) FROM customers AS o",
    "SELECT ssn FROM customers UNION SELECT email FROM customers",
    "SELECT GROUP_CONCAT(email) FROM customers",
    "SELECT MAX(ssn), MIN(card_number) FROM customers",
    "SELECT DISTINCT phone FROM customers",
    "SELECT id FROM customers WHERE ssn LIKE '1%'",
    "SELECT name FROM customers ORDER BY ssn",
    "SELECT name FROM (SELECT ssn AS name FROM customers) AS customers",
    "SELECT /*!50000 ssn, */ /*M!100000 email, */ name FROM customers",
    "SELECT /*!99999 id */ /*M!100100 ,ssn */ name FROM customers",
    "SELECT ExtractValue('<a/>', CONCAT('//', ssn)) FROM customers",
    "SELECT id FROM customers WHERE ExtractValue('<a/>', CONCAT('\\\\', email))",
    "INSERT INTO orders SELECT id + 100000, 1, '2026-01-01', ssn, 1 FROM customers LIMIT 1",
    "SET @x = (SELECT ssn FROM customers LIMIT 1); SELECT @x",
    "SELECT ssn INTO @x FROM customers LIMIT 1",
    "HANDLER customers OPEN; HANDLER customers READ FIRST",
    "PREPARE s FROM 'SELECT ssn FROM customers'; EXECUTE s",
    // Names that the server looks up further outside, or further inside, than it seems.
    "SELECT (SELECT C.x FROM (SELECT 1 AS x) c) y FROM (SELECT ssn AS x FROM customers) C",
    "WITH customer\u{17F} AS (SELECT 1 AS ssn FROM customers) SELECT ssn FROM customers",
    "SELECT (SELECT \u{131}d FROM (SELECT 1 AS id) i) y FROM (SELECT ssn AS \u{131}d FROM customers) o",
    "SELECT (SELECT \u{17F} FROM (SELECT 1 AS s) i) y FROM (SELECT ssn AS \u{17F} FROM customers) o",
    "SELECT (SELECT x FROM (SELECT ssn AS ` x` FROM customers) v LIMIT 1) y FROM (SELECT 1 AS x) o",
    "SELECT (SELECT x FROM (SELECT ssn AS `\tx` FROM customers) v LIMIT 1) y FROM (SELECT 1 AS x) o",
    "SELECT (SELECT `UPPER(ssn)` FROM (SELECT UPPER(ssn) FROM customers) v LIMIT 1) y FROM (SELECT 1 AS `UPPER(ssn)`) o",
    "SELECT (SELECT ssn FROM (SELECT (ssn) FROM customers) v LIMIT 1) y FROM (SELECT 1 AS ssn) o",
    "SELECT (SELECT b FROM (SELECT ssn AS z, (SELECT z) AS b FROM customers LIMIT 1) d) y FROM (SELECT 1 AS z) o",
    "SELECT (SELECT _rowid FROM customers LIMIT 1) y FROM (SELECT ssn AS _rowid FROM customers) o",
    "SELECT $$ , ssn AS $$ FROM (SELECT ssn, 1 AS `$$` FROM customers) d",
    "SELECT (SELECT 1 FROM (SELECT 0 AS x) a, orders b JOIN orders c ON x LIKE '1%' LIMIT 1) y \
     FROM (SELECT ssn AS x FROM customers) o",
    "SELECT x FROM (SELECT ssn AS x FROM customers) a JOIN (SELECT '1' AS x) b USING (x)",
    "WITH orders AS (SELECT ssn AS state, id FROM customers) SELECT state FROM orders",
    "SELECT c.ssn FROM orders c JOIN customers C ON c.id = C.id",
    "SELECT notes AS ssn FROM (SELECT ssn AS notes FROM customers) customers",
    "SELECT x FROM (SELECT '' AS x UNION ALL SELECT ssn FROM customers) q",
    // Plans quote the values that a constant table gave them.
    "EXPLAIN FORMAT='JSON' SELECT 1 FROM orders o JOIN customers c WHERE c.id = 1 AND o.state = c.ssn",
    "DESCRIBE FORMAT=\"json\" SELECT 1 FROM orders o JOIN customers c WHERE c.id = 1 AND o.state = c.ssn",
    "EXPLAIN EXTENDED SELECT ssn FROM customers",
    "ANALYZE FORMAT=JSON SELECT ssn FROM customers WHERE id = 1",
    "ANALYZE FORMAT='json' SELECT ssn FROM customers WHERE id = 1",
    // Words that the parser takes for names, and the reverse.
    "SELECT SQL_CACHE ssn FROM customers",
    "SELECT HIGH_PRIORITY SQL_CALC_FOUND_ROWS ssn FROM customers",
    "SELECT ssn OVERLAPS FROM customers",
    "SELECT ssn FROM customers PARTITION (p0)",
    "SELECT ssn FROM customers FOR SYSTEM_TIME ALL",
    "SELECT ssn FROM customers LIMIT ROWS EXAMINED 10",
    "SELECT ssn FROM .customers",
    "SELECT 1e0ssn FROM customers",
    "SELECT ssn''FROM customers",
    "SELECT {d '2020-01-01'}, {fn LCASE(ssn)} FROM customers",
    // Functions.
    "SELECT LEFT(card_number, 4), SUBSTR(card_number, 5, 8), TRIM(TRAILING RIGHT(ssn, 4) FROM ssn) FROM customers",
    "SELECT ELT(1, ssn), JSON_OBJECT('a', ssn), UNHEX(HEX(ssn)), CONVERT(ssn USING ucs2) FROM customers",
    "SELECT CONVERT(notes USING ucs2) FROM customers",
    "SELECT COALESCE(NULL, ssn), IFNULL(ssn, 1) FROM customers",
    "SELECT LAG(ssn) OVER (ORDER BY id), FIRST_VALUE(ssn) OVER (ORDER BY id) FROM customers",
    "SELECT LAST_INSERT_ID(ssn), BINARY ssn, ssn COLLATE utf8mb4_bin FROM customers",
    "SELECT LOAD_FILE(CONCAT(@@datadir, 'shop/customers.ibd'))",
    // Other statements.
    "VALUES ((SELECT ssn FROM customers LIMIT 1))",
    "SELECT * FROM JSON_TABLE((SELECT JSON_ARRAY(ssn) FROM customers LIMIT 1), '$[*]' COLUMNS (a TEXT PATH '$')) t",
    "WITH RECURSIVE r AS (SELECT ssn x FROM customers UNION ALL SELECT x FROM r WHERE 0) SELECT x FROM r",
    "SELECT ssn FROM customers INTO OUTFILE '/tmp/rowgate-leaks'",
    "INSERT INTO orders VALUES (70001, 1, '2026-01-01', 'x', 1) RETURNING (SELECT ssn FROM customers LIMIT 1)",
    "INSERT INTO orders TABLE customers",
    "UPDATE customers SET name = ssn WHERE id = 1",
    "UPDATE orders o, customers c SET o.state = c.ssn WHERE o.id = 1 AND c.id = 1",
    "INSERT INTO customers (id, name, email, phone, card_number, ssn, notes, tier) \
     VALUES (1, 'a', 'a', 'a', 'a', 'a', 'a', 1) ON DUPLICATE KEY UPDATE name = ssn",
    "INSERT INTO customers SELECT * FROM customers AS s ON DUPLICATE KEY UPDATE name = s.ssn",
    "EXECUTE IMMEDIATE CONCAT('SELECT ssn FROM ', 'customers')",
    "BEGIN NOT ATOMIC SELECT ssn FROM customers; END",
    "DO (SELECT ssn FROM customers)",
    "CREATE TEMPORARY TABLE stolen SELECT ssn FROM customers",
    // Texts that another sql_mode reads otherwise.
    "SET sql_mode = 'NO_BACKSLASH_ESCAPES'; SELECT '\\', ssn FROM customers -- '",
    "SET sql_mode = 'ANSI_QUOTES'; SELECT \"ssn\" FROM \"customers\"",
    "/* a */ SET sql_mode = 'ANSI_QUOTES'; SELECT \"ssn\" FROM customers",
    "/*!40000 SET sql_mode = 'ANSI_QUOTES' */; SELECT \"ssn\" FROM customers",
    "/*!40000 SET */ sql_mode = 'ANSI_QUOTES'; SELECT \"ssn\" FROM customers",
    "SET @@session /* a */ . sql_mode := 'ansi_quotes'; SELECT \"ssn\" FROM customers",
    "SET STATEMENT sql_mode = 'ANSI_QUOTES' FOR SELECT \"ssn\" FROM customers",
    "SET @a = 1, sql_mode = 'STRICT_TRANS_TABLES, ANSI'; SELECT \"ssn\" FROM customers",
    "SET sql_mode = 'ANSI'; SELECT \"\\\" FROM orders -- \", ssn FROM customers",
    "SET sql_mode = 'ANSI_QUOTES'; SET sql_mode = ''; SELECT \"\\\" FROM orders -- \", ssn FROM customers",
    "SET sql_mode = 'NO_BACKSLASH_ESCAPES'; CREATE PROCEDURE nbe() SELECT '\\', ssn FROM customers -- '",
    "SET STATEMENT max_statement_time = 10 FOR SELECT ssn, UPPER(email) FROM customers",
];

fn free_text_in_wide_characters_is_not_shown_unsearched(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let make = "CREATE TABLE shop.wide (notes TEXT CHARACTER SET utf16); \
                INSERT INTO shop.wide VALUES ('card 4532015112830366')";
    stand.database.sql(make).unwrap();
    let token = stand.token("wide-agent", "agents");
    let look = "SELECT notes FROM wide";
    wait_for("the new table", || {
        stand.sql("wide-agent", &token, look).status.success().then_some(())
    });
    for names in ["", "SET NAMES binary;", "SET character_set_results = NULL;"] {
        let output = stand.sql("wide-agent", &token, &format!("{names} {look}"));
        let text = String::from_utf8_lossy(&output.stdout).replace(['\0', '\\'], "");
        assert!(!text.contains("4532015112830366") && !text.contains("40503020"), "{names} {text}");
    }
}

fn a_default_computed_from_free_text_is_as_labelled(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let make = "CREATE TABLE shop.kept (id INT PRIMARY KEY, notes TEXT, copy TEXT DEFAULT (CONCAT(notes, ' '))); \
                INSERT INTO shop.kept (id, notes) VALUES (1, 'SECRET NOTE')";
    stand.database.sql(make).unwrap();
    let token = stand.token("kept-agent", "agents");
    let look = "SELECT id, copy FROM kept";
    wait_for("the new table", || {
        stand.sql("kept-agent", &token, look).status.success().then_some(())
    });
    for sql in [look, "SELECT DEFAULT(copy) FROM kept"] {
        let output = stand.sql("kept-agent", &token, sql);
        assert!(!String::from_utf8_lossy(&output.stdout).contains("SECRET"), "{sql}");
    }
}

/// Statements that write many rows, or the server's own tables, in the guise of something else: held or refused.
const BULK: [&str; 22] = [
    "DELETE FROM payments WHERE 1 || 1 AND id = 5",
    "DELETE FROM payments WHERE id = 5 AND 0 XOR 1",
    "DELETE FROM payments WHERE id = 5 OR id",
    "DELETE FROM payments WHERE NOT id = 2",
    "DELETE FROM keyed WHERE k = 0",
    "DELETE FROM all_payments WHERE id > 0",
    "DELETE HISTORY FROM payments",
    "DELETE FROM payments USING payments JOIN orders WHERE payments.id = 1",
    "UPDATE IGNORE payments SET amount_cents = 0 WHERE 1",
    "UPDATE payments SET amount_cents = 0 WHERE 1 LIMIT 1000000",
    "INSERT INTO payments SELECT * FROM payments ON DUPLICATE KEY UPDATE amount_cents = 0",
    "INSERT INTO payments VALUES (1, 1, 0, ''), (2, 1, 0, '') ON DUPLICATE KEY UPDATE amount_cents = 0",
    "INSERT INTO orders (id) (SELECT id FROM orders) ON DUPLICATE KEY UPDATE state = 'gone'",
    "REPLACE INTO orders SELECT id, 1, '2026-01-01', 'gone', 0 FROM orders",
    "REPLACE INTO payments VALUES (1, 1, 0, '')",
    "ANALYZE DELETE FROM orders",
    "SELECT wipe()",
    "USE mysql; INSERT global_priv SELECT 'x', 'x', '{}' FROM shop.orders LIMIT 1",
    "USE mysql; INSERT INTO user SELECT * FROM user WHERE User = 'root' ON DUPLICATE KEY UPDATE account_locked = 'Y'",
    "REPLACE INTO orders TABLE orders",
    "WITH p AS (SELECT id FROM payments) DELETE FROM payments WHERE id IN (SELECT id FROM p)",
    "USE mysql; DELETE FROM shop.orders USING shop.orders, global_priv WHERE 0",
];

fn nothing_is_written_in_bulk_in_disguise(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| {
        options.wait_s = 0;
        options.labels =
            options.labels.replace("\"shop.payments\"", "\"shop.payments\", \"shop.keyed\"");
    });
    let more = "CREATE TABLE shop.keyed (k VARCHAR(9) PRIMARY KEY); INSERT INTO shop.keyed VALUES ('a'), ('b'); \
                CREATE VIEW shop.all_payments AS SELECT * FROM shop.payments;\n\
                DELIMITER //\n\
                CREATE FUNCTION shop.wipe() RETURNS INT BEGIN DELETE FROM shop.orders; RETURN 1; END//\n";
    stand.database.sql(more).unwrap();
    let token = stand.token("bulk-agent", "agents");
    wait_for("the new tables", || {
        stand.sql("bulk-agent", &token, "SELECT k FROM keyed").status.success().then_some(())
    });
    let sums = || {
        let sum = |table: &str| format!("SELECT COUNT(*) FROM {table}; CHECKSUM TABLE {table};");
        let accounts = match flavour {
            Flavour::MariaDb => "mysql.global_priv",
            Flavour::MySql => "mysql.user",
        };
        let all = ["shop.orders", "shop.payments", "shop.keyed", accounts];
        stand.database.sql(&all.map(sum).concat()).unwrap()
    };
    let before = sums();
    for sql in BULK {
        stand.sql_refused("bulk-agent", &token, sql);
    }
    assert_eq!(sums(), before);
}

fn nothing_raw_in_any_byte(flavour: Flavour) {
    // A ticket at once: what is held does not wait.
    let stand = Stand::on_with(flavour, |options| options.wait_s = 0);
    let token = stand.token("leak-agent", "agents");
    let through = Relay::to(stand.gateway.port);
    let direct = Relay::to(stand.database.port());
    let service = (mariadb::SERVICE_USER, mariadb::SERVICE_PASSWORD);
    let client = |port, login, sql| stock_client(flavour, port, login, sql);
    for sql in SHOWS {
        let masked = client(through.port(), ("leak-agent", &token), sql);
        assert!(masked.status.success(), "{sql}: {}", String::from_utf8_lossy(&masked.stderr));
        client(direct.port(), service, sql);
    }
    for sql in TRIES.iter().chain(tries_of(flavour)) {
        client(through.port(), ("leak-agent", &token), sql);
    }
    prepared(flavour, through.port(), ("leak-agent", &token), true);
    prepared(flavour, direct.port(), service, false);
    let received = through.received();
    assert!(received.len() > 100_000, "the governed client received {} bytes", received.len());
    let leaked: Vec<_> = found(&received);
    assert!(leaked.is_empty(), "{} raw values reached the client", leaked.len());
    let all = shop::raw_values().len();
    assert_eq!(found(&direct.received()).len(), all, "the search must be able to find them");
}

/// A SET behind white space of every kind that a server skips: the session's text is read by what it set.
fn a_mode_set_behind_any_space_is_followed(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("leak-agent", "agents");
    for space in ["", " ", "\t", "\n", "\x0b", "\x0c", "\r", "\x0b\x0b ", "/**/\x0b"] {
        let mut wire = Wire::login(stand.gateway.port, "leak-agent", &token, 0);
        let set = text(&wire.query(&format!("{space}SET sql_mode = 'ANSI_QUOTES'")));
        assert!(set.starts_with("1:\\x00"), "{space:?}: {set}");
        let read = text(&wire.query("SELECT \"ssn\" FROM shop.customers WHERE id = 5"));
        assert!(!read.contains(&shop::customer(5).ssn), "{space:?}: {read}");
    }
}

/// What only MySQL has: views of forms that no parser here reads, and columns of types that hold no plain text.
#[test]
fn views_and_types_that_only_mysql_has() {
    if mysql::is_left_out() {
        return;
    }
    let stand = Stand::on(Flavour::MySql);
    let make = "USE shop; \
        CREATE VIEW all_of AS TABLE customers; \
        CREATE VIEW ranked AS SELECT ssn AS s, ROW_NUMBER() OVER w AS n FROM customers WINDOW w AS (ORDER BY id); \
        CREATE VIEW sideways AS SELECT l.x FROM customers AS c, LATERAL (SELECT c.ssn AS x) AS l; \
        CREATE VIEW listed AS SELECT t.x FROM customers AS c, \
          JSON_TABLE(JSON_ARRAY(c.ssn), '$[*]' COLUMNS (x VARCHAR(20) PATH '$')) AS t; \
        CREATE VIEW rows_of AS VALUES ROW((SELECT ssn FROM customers WHERE id = 1)); \
        CREATE JSON RELATIONAL DUALITY VIEW dual_of AS \
          SELECT JSON_DUALITY_OBJECT('_id': id, 'ssn': ssn) FROM customers; \
        CREATE TABLE shaped (id INT PRIMARY KEY, \
          copy VARCHAR(20) AS (CONCAT(notes, '')) INVISIBLE, notes VARCHAR(20), KEY ((UPPER(notes)))); \
        INSERT INTO shaped (id, notes) VALUES (1, '4532015112830366'); \
        CREATE TABLE documents (id INT PRIMARY KEY, notes JSON); \
        INSERT INTO documents VALUES (1, '[\"4532015112830366\"]'); \
        CREATE TABLE vectors (id INT PRIMARY KEY, notes VECTOR(2)); \
        INSERT INTO vectors VALUES (1, STRING_TO_VECTOR('[4532015112830366,1]'));";
    stand.database.sql(make).unwrap();
    let token = stand.token("leak-agent", "agents");
    wait_for("the new tables", || {
        stand.sql("leak-agent", &token, "SELECT id FROM vectors").status.success().then_some(())
    });
    let ssn = shop::customer(1).ssn;
    for (view, column) in [
        ("all_of", "ssn"),
        ("ranked", "s"),
        ("sideways", "x"),
        ("listed", "x"),
        ("rows_of", "column_0"),
        ("dual_of", "data"),
    ] {
        let direct = stand.database.sql(&format!("SELECT * FROM shop.{view} LIMIT 1")).unwrap();
        assert!(direct.contains(&ssn), "{view} shows no number: {direct}");
        for sql in [
            format!("SELECT * FROM {view} LIMIT 1"),
            format!("SELECT {column} AS name FROM {view} LIMIT 1"),
            format!("TABLE {view} LIMIT 1"),
        ] {
            let output = stand.sql("leak-agent", &token, &sql);
            assert!(!String::from_utf8_lossy(&output.stdout).contains(&ssn), "{sql}");
        }
    }
    for sql in [
        "SELECT * FROM shaped",
        "SELECT copy FROM shaped",
        "SELECT id, copy, notes FROM shaped",
        "SELECT UPPER(notes) FROM shaped",
        "SELECT * FROM documents",
        "SELECT notes->>'$[0]' FROM documents",
        "SELECT notes FROM vectors",
        "SELECT HEX(notes), VECTOR_TO_STRING(notes) FROM vectors",
    ] {
        let output = stand.sql("leak-agent", &token, sql);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.contains("4532015112830366") && !text.contains("4.5320"), "{sql}: {text}");
    }
}

/// The raw values in these bytes, found in one pass by their first eight bytes: there are 8,200 of them.
fn found(bytes: &[u8]) -> Vec<String> {
    let mut by_start: HashMap<[u8; 8], Vec<String>> = HashMap::new();
    for value in shop::raw_values() {
        let start = value.as_bytes()[..8].try_into().unwrap();
        by_start.entry(start).or_default().push(value);
    }
    let mut found = Vec::new();
    for (at, start) in bytes.windows(8).enumerate() {
        let values = by_start.get_mut(start);
        let is_here = |value: &String| bytes[at..].starts_with(value.as_bytes());
        found.extend(values.into_iter().flat_map(|values| values.extract_if(.., |v| is_here(v))));
    }
    found
}

fn stock_client(
    flavour: Flavour,
    port: u16,
    (user, password): (&str, &str),
    sql: &str,
) -> std::process::Output {
    let mut client = match flavour {
        Flavour::MariaDb => Command::new("mariadb"),
        Flavour::MySql => mysql::Tree::here().unwrap().program("mysql"),
    };
    client.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--batch"]);
    client.args(["--database=shop", "--force"]).arg(format!("--port={port}"));
    client.arg(format!("--user={user}")).env("MYSQL_PWD", password).stdin(Stdio::null());
    client.args(["-e", sql]).output().unwrap()
}

/// The binary protocol: the same statements prepared and executed.
fn prepared(flavour: Flavour, port: u16, (user, password): (&str, &str), governed: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(port)
            .user(Some(user))
            .pass(Some(password))
            .db_name(Some("shop"))
            .prefer_socket(Some(false));
        let mut connection = Conn::new(options).await.unwrap();
        for sql in SHOWS {
            let rows: Vec<Row> = connection.exec(sql, ()).await.unwrap();
            assert!(!rows.is_empty(), "{sql}");
        }
        let one = "SELECT ssn, name FROM customers WHERE id = ?";
        let row: Option<(String, String)> = connection.exec_first(one, (7,)).await.unwrap();
        let (ssn, name) = row.unwrap();
        assert_eq!(name, shop::customer(7).name);
        assert_eq!(ssn != shop::customer(7).ssn, governed);
        for sql in TRIES.iter().chain(tries_of(flavour)).filter(|_| governed) {
            let _ = connection.exec::<Row, _, _>(*sql, ()).await;
        }
        let _ = connection.disconnect().await;
    });
}

/// The server reads a prepared statement's names in the database of its PREPARE, whatever is current at EXECUTE.
fn a_statement_prepared_elsewhere_is_masked_all_the_same(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let twin = "CREATE DATABASE other; CREATE TABLE other.customers LIKE shop.customers;";
    stand.database.sql(twin).unwrap();
    let token = stand.token("leak-agent", "agents");
    let sql = "SELECT ssn, email FROM customers WHERE id = 7";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seen: Vec<Row> = runtime.block_on(async {
        let url = format!("mysql://leak-agent:{token}@127.0.0.1:{}/shop", stand.gateway.port);
        let mut connection = Conn::from_url(url).await.unwrap();
        let statement = connection.prep(sql).await.unwrap();
        connection.query_drop("USE other").await.unwrap();
        let mut seen: Vec<Row> = connection.exec(&statement, ()).await.unwrap();
        connection.query_drop("USE shop").await.unwrap();
        // a prepared USE, had it been taken for one that happened, would have moved the gateway's view alone
        let refused = connection.prep("USE other").await.unwrap_err();
        assert!(refused.to_string().contains("1295"), "{refused}");
        seen.extend(connection.query::<Row, _>(sql).await.unwrap());
        let _ = connection.disconnect().await;
        seen
    });
    let customer = shop::customer(7);
    let raw = [customer.ssn, customer.email];
    assert_eq!(seen.len(), 2);
    for row in &seen {
        let row: (String, String) = mysql_async::from_row(row.clone());
        assert!(!raw.contains(&row.0) && !raw.contains(&row.1), "{row:?}");
    }
}

/// A view that calls a function reads what that reads, whatever the view's own text names; so does a view over it.
fn a_view_calls_what_its_functions_reach(flavour: Flavour) {
    let make = "DELIMITER //\n\
        CREATE FUNCTION shop.peek(i INT) RETURNS VARCHAR(40) READS SQL DATA \
          BEGIN RETURN (SELECT ssn FROM shop.customers WHERE id = i); END//\n\
        CREATE FUNCTION shop.plain(i INT) RETURNS INT NO SQL BEGIN RETURN i; END//\n\
        CREATE VIEW shop.peeking AS SELECT id, shop.peek(id) AS seen FROM shop.orders//\n\
        CREATE VIEW shop.above AS SELECT id, seen AS again FROM shop.peeking//\n\
        CREATE VIEW shop.plainly AS SELECT id, shop.plain(id) AS seen FROM shop.orders//\n";
    let prepare = |database: &Database| drop(database.sql(make).unwrap());
    let stand = Stand::after(flavour, &[], prepare, |_| {});
    let token = stand.token("agent", "agents");
    let mut wire = Wire::login(stand.gateway.port, "agent", &token, 0);
    for sql in [
        "SELECT peek(7)",
        "SELECT seen FROM peeking WHERE id = 7",
        "SELECT again FROM above WHERE id = 7",
        "SELECT * FROM (SELECT again FROM above WHERE id = 7) AS a",
        "WITH a AS (SELECT seen AS b FROM peeking WHERE id = 7) SELECT b FROM a",
        "SELECT o.id FROM orders o JOIN peeking p ON p.id = o.id WHERE p.seen LIKE '1%'",
        "SELECT COUNT(*) FROM above",
    ] {
        let answer = text(&wire.query(sql));
        assert!(!answer.contains(&shop::customer(7).ssn), "{sql}: {answer}");
        assert!(answer.contains("[RG-DENIED]"), "{sql}: {answer}");
    }
    let answer = text(&wire.query("SELECT seen FROM plainly WHERE id = 7"));
    assert!(answer.contains("\\x017"), "{answer}");
}

/// With and without parentheses, through another one, and made a moment ago: who may call procedures sees nothing raw by them.
fn procedures_are_called_in_every_form(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| options.catalog_refresh_s = 3_600);
    stand.add_rules(
        "@id(\"agents-call\") permit (principal in Group::\"agents\", action == Action::\"call\", resource);",
    );
    let token = stand.token("bot", "agents");
    let make = |name: &str, body: &str| {
        stand.database.sql(&format!("CREATE PROCEDURE shop.{name}() {body}")).unwrap();
    };
    make("harmless", "SELECT 40 + 2");
    assert!(stand.sql_ok("bot", &token, "CALL harmless").contains("42"));
    make("peek", "SELECT ssn FROM shop.customers WHERE id = 1");
    make("through", "CALL shop.peek");
    let raw = shop::customer(1).ssn;
    for call in ["peek", "peek()", "shop.peek", "`peek`", "through", "through()"] {
        let output = stand.sql("bot", &token, &format!("CALL {call}"));
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success() && !shown.contains(&raw), "{call}: {shown}");
    }
    // (It is there.)
    let dumper = stand.token("backup", "dumpers");
    assert!(stand.sql_ok("backup", &dumper, "CALL through").contains(&raw));
}
