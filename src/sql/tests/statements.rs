//! Statements of more than one kind: what is not there, other modes, limits of time, stored programs.

use super::*;

#[test]
fn what_need_not_be_there_may_be_dropped() {
    let missing = |sql: &str| {
        let analysis = run(sql, Flavour::MariaDb);
        (analysis.unknown, analysis.facts.misses)
    };
    assert_eq!(missing("DROP TABLE IF EXISTS nowhere, orders"), (None, true));
    assert_eq!(missing("DROP TABLE nowhere, orders"), (None, true));
    assert_eq!(missing("DROP TABLE IF EXISTS orders"), (None, false));
    let both = run("DROP TABLE IF EXISTS nowhere, customers", Flavour::MariaDb);
    let names: Vec<_> = both.facts.tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["nowhere", "customers"]);
    assert!(both.facts.is_sensitive());
}

#[test]
fn what_is_not_there_is_told_as_the_server_tells_it() {
    let told = |sql: &str, schema| {
        let unknown = run_in(sql, Flavour::MariaDb, schema, SqlMode(0)).unknown;
        unknown.map(|unknown| (unknown.fault().code, unknown.is_a_name()))
    };
    for sql in [
        "SELECT * FROM nowhere",
        "SELECT ssn FROM customers, nowhere",
        "UPDATE elsewhere.customers SET id = 1",
        "INSERT INTO nowhere VALUES (1)",
        "TRUNCATE TABLE nowhere",
    ] {
        assert_eq!(told(sql, Some("shop")), Some((1146, true)), "{sql}");
    }
    assert_eq!(told("SELECT nothing FROM customers", Some("shop")), Some((1054, true)));
    assert_eq!(told("SELECT id FROM customers, cards", Some("shop")), Some((1064, true)));
    assert_eq!(told("SELECT * FROM customers", None), Some((1046, false)));
    assert_eq!(told("SELECT * FROM shop.orders", None), None);
    // Two parts that are a column's, or a table's.
    assert_eq!(told("SELECT shop.nowhere FROM shop.customers", None), Some((1054, true)));
}

#[test]
fn under_another_mode_nothing_labelled_is_read_and_no_program_is_stored() {
    let unknown = |sql: &str, bits: u8| {
        run_in(sql, Flavour::MySql, Some("shop"), SqlMode(bits)).unknown.is_some()
    };
    for bits in [1, 2, 4] {
        assert!(!unknown("SELECT * FROM orders", bits));
        assert!(!unknown("CREATE TABLE other (id INT)", bits));
        assert!(unknown("SELECT id FROM customers", bits));
        assert!(unknown("CREATE PROCEDURE p() SELECT id FROM orders", bits));
        assert!(unknown("CREATE OR REPLACE VIEW v AS SELECT id FROM orders", bits));
    }
    // A name in double quotes is a table's, and a backslash ends no string and begins none.
    assert!(unknown("SELECT 1 FROM \"customers\"", SqlMode::ANSI_QUOTES));
    assert!(unknown("SELECT '\\', ssn FROM customers -- '", SqlMode::NO_BACKSLASH_ESCAPES));
}

/// A server may take `name (` for a function of its own or for a stored one: what is said of it holds for both.
#[test]
fn a_space_before_a_parenthesis_makes_no_difference() {
    for sql in [
        "SELECT COUNT (*), MAX (ssn) FROM customers",
        "SELECT trim (LEADING '1' FROM ssn), mid (ssn, 1, 2) FROM customers",
        "SELECT extract (year FROM notes) FROM customers c",
        "SELECT peek (1), shop.peek (id) FROM customers",
        "INSERT INTO orders (id) VALUES (1)",
        "CREATE PROCEDURE p() SELECT id FROM orders",
        "CREATE OR REPLACE VIEW v AS SELECT count (id) FROM orders",
        "DELETE FROM orders WHERE id = (SELECT MIN (id) FROM customers)",
    ] {
        let read = |sql: &str, bits: u8| {
            let read = run_in(sql, Flavour::MySql, Some("shop"), SqlMode(bits));
            (read.facts, read.unknown)
        };
        let (with, without) = (read(sql, SqlMode::IGNORE_SPACE), read(sql, 0));
        assert_eq!(with, without, "{sql}");
        let close = read(&sql.replace(" (", "("), 0);
        assert_eq!(close.0.uses, without.0.uses, "{sql}");
        assert_eq!(close.0.tables, without.0.tables, "{sql}");
        assert_eq!(close.0.calls_sensitive, without.0.calls_sensitive, "{sql}");
    }
}

#[test]
fn a_limit_of_time_changes_nothing_else() {
    for (sql, with_limit) in [
        (
            "SELECT id, ssn FROM customers",
            "SET STATEMENT max_statement_time=1.5 FOR SELECT id, ssn FROM customers",
        ),
        (
            "SELECT UPPER(ssn) FROM customers LOCK IN SHARE MODE",
            "SET STATEMENT max_statement_time = 1, lock_wait_timeout = 2 FOR SELECT UPPER(ssn) FROM customers LOCK IN SHARE MODE",
        ),
        (
            "WITH w AS (SELECT ssn FROM customers) SELECT * FROM w",
            "SET STATEMENT max_statement_time=1 FOR WITH w AS (SELECT ssn FROM customers) SELECT * FROM w",
        ),
    ] {
        assert_eq!(seen(with_limit), seen(sql), "{sql}");
        assert_ne!(seen(sql), "?", "{sql}");
        let (bare, limited) = (run(sql, Flavour::MariaDb), run(with_limit, Flavour::MariaDb));
        // But that it is no plain read to the pool any more.
        let (trace, leaves) = (bare.facts.trace, bare.facts.leaves);
        let limited = Facts { trace, leaves, ..limited.facts };
        assert_eq!(limited, bare.facts, "{sql}");
    }
}

#[test]
fn a_table_may_be_called_user() {
    let verb = |sql: &str| run(sql, Flavour::MariaDb).facts.verb;
    assert_eq!(verb("CREATE TABLE user (id INT, role INT)"), Verb::Create);
    assert_eq!(verb("CREATE TABLE IF NOT EXISTS role (id INT)"), Verb::Create);
    assert_eq!(verb("ALTER TABLE user ADD x INT"), Verb::Alter);
    assert_eq!(verb("DROP TABLE user"), Verb::Drop);
    for sql in [
        "CREATE USER user",
        "CREATE OR REPLACE USER a",
        "CREATE ROLE IF NOT EXISTS a",
        "CREATE OR REPLACE ROLE a",
        "ALTER USER a IDENTIFIED BY 'b'",
        "DROP USER IF EXISTS a",
        "DROP ROLE a",
    ] {
        assert_eq!(verb(sql), Verb::Grant, "{sql}");
    }
}

#[test]
fn an_insert_may_define_what_it_reads() {
    let unknown = |sql: &str| run(sql, Flavour::MySql).unknown;
    assert_eq!(unknown("INSERT INTO orders WITH w AS (SELECT 1 AS id) SELECT id FROM w"), None);
    for sql in [
        "INSERT INTO orders WITH w AS (SELECT 1 AS id) SELECT id FROM nowhere",
        "INSERT INTO orders SELECT id FROM nowhere, (WITH nowhere AS (SELECT 1) SELECT 1 FROM nowhere) x",
    ] {
        assert!(unknown(sql).is_some(), "{sql}");
    }
    let both = run(
        "INSERT INTO orders WITH w AS (SELECT ssn FROM customers) SELECT * FROM w",
        Flavour::MySql,
    );
    assert!(both.facts.is_sensitive());
}

#[test]
fn a_program_is_one_statement() {
    let loads = run("LOAD DATA LOCAL INFILE 'x' INTO TABLE orders (id, @a)", Flavour::MariaDb);
    assert_eq!((loads.unknown, loads.facts.verb), (None, Verb::Load));
    for nothing in ["", " ", "-- nothing", "/* a */ # b"] {
        let analysis = run(nothing, Flavour::MariaDb);
        assert_eq!((analysis.unknown, analysis.facts.verb), (None, Verb::Do), "{nothing}");
    }
    for sql in [
        "CREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2; END",
        "CREATE DEFINER = a@b TRIGGER t BEFORE INSERT ON orders FOR EACH ROW BEGIN SET NEW.id = 1; END",
    ] {
        assert_eq!(run(sql, Flavour::MariaDb).unknown, None, "{sql}");
    }
    for sql in [
        "CREATE PROCEDURE p() BEGIN SELECT 1; END; SELECT 2",
        "CREATE PROCEDURE p() SELECT 1; SELECT 2",
        "CREATE TABLE event (a INT); SELECT 1",
        "BEGIN NOT ATOMIC SELECT 1; END",
        "SELECT 1; SELECT 2",
    ] {
        assert_eq!(run(sql, Flavour::MariaDb).unknown, Some(Unknown::MultiStatement), "{sql}");
    }
    for sql in [
        "CREATE PROCEDURE p() BEGIN SELECT ssn FROM customers; END",
        "CREATE PROCEDURE p() BEGIN UPDATE orders SET id = 1; DELETE FROM customers; END",
    ] {
        assert!(matches!(run(sql, Flavour::MariaDb).unknown, Some(Unknown::Construct(_))), "{sql}");
    }
}
