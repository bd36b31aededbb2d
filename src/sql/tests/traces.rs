//! What a statement sees and leaves on its connection.

use super::*;

fn trace(sql: &str) -> Trace {
    run(sql, Flavour::MariaDb).facts.trace
}

#[test]
fn reading_tables_leaves_nothing() {
    for sql in [
        "SELECT 1",
        "SELECT ssn FROM customers WHERE id = 5",
        "SELECT COUNT(*), MAX(o.id) FROM orders o JOIN payments p ON (p.id = o.id) GROUP BY 1",
        "SELECT id FROM orders WHERE id IN (1, 2) AND EXISTS (SELECT 1 FROM payments) LIMIT 3",
        "SELECT id FROM orders UNION (SELECT id FROM payments)",
        "SELECT NOW()",
        "SELECT DATABASE()",
    ] {
        assert_eq!(trace(sql), Trace::None, "{sql}");
    }
}

#[test]
fn what_tells_of_the_last_statement_is_told_apart() {
    for sql in [
        "SELECT FOUND_ROWS()",
        "SELECT ROW_COUNT(), LAST_INSERT_ID()",
        "SELECT @@identity",
        "SET @n = FOUND_ROWS()",
        "DO LAST_INSERT_ID(5)",
    ] {
        assert_eq!(trace(sql), Trace::Last, "{sql}");
    }
}

#[test]
fn messages_are_told_apart_from_what_else_tells() {
    for sql in ["SHOW WARNINGS", "SHOW ERRORS LIMIT 1", "SHOW COUNT(*) ERRORS"] {
        assert_eq!(trace(sql), Trace::Messages, "{sql}");
    }
}

#[test]
fn everything_else_may_see_and_leave_anything() {
    for sql in [
        "SELECT @a",
        "SELECT CAST('1x' AS UNSIGNED)",
        "SELECT '1x' + 1",
        "SELECT 1, 2",
        "SELECT @@timestamp",
        "SELECT @a := 5",
        "SELECT GET_LOCK('a', 0)",
        "SELECT RAND()",
        "SELECT SLEEP(1)",
        "SELECT SQL_CALC_FOUND_ROWS id FROM orders",
        "SELECT id FROM orders FOR UPDATE",
        "SELECT id FROM orders LOCK IN SHARE MODE",
        "SELECT NEXT VALUE FOR orders",
        "SELECT peek(1)",
        "SELECT `peek` (1)",
        "SELECT shop.count(1)",
        "SELECT other.now()",
        "SELECT FOUND_ROWS(), peek(1)",
        "SELECT FOUND_ROWS() FROM performance_schema.session_status",
        "SELECT * FROM performance_schema.session_status",
        "SELECT * FROM information_schema.session_variables",
        "SHOW STATUS",
        "SHOW STATUS WHERE Variable_name = warnings",
        "SHOW VARIABLES",
        "EXPLAIN SELECT 1",
        "SET NAMES utf8mb4",
        "BEGIN",
        "USE shop",
        "INSERT INTO orders VALUES (1, 2, 'a')",
        "UPDATE orders SET state = 'a' WHERE id = 1",
        "CREATE TEMPORARY TABLE t (a INT)",
        "CALL peek()",
        "SELECT id FROM nowhere",
        "SELECT 1; SELECT 2",
        "SELECT 1 INTO @a",
    ] {
        assert_eq!(trace(sql), Trace::Any, "{sql}");
    }
}

fn leaves(sql: &str) -> Leaves {
    run(sql, Flavour::MySql).facts.leaves
}

#[test]
fn what_a_session_could_look_for_later() {
    for sql in [
        "SELECT ssn FROM customers WHERE id = 5",
        "SELECT id FROM orders ORDER BY id LIMIT 3",
        "SELECT DISTINCT state FROM orders GROUP BY state HAVING COUNT(*) > 1",
        "SELECT id FROM orders WHERE id IN (SELECT id FROM payments)",
        "SELECT 1",
        "SELECT @@version_comment LIMIT 1",
        "select @@max_allowed_packet,@@session.wait_timeout AS w, @@GLOBAL . socket",
    ] {
        assert_eq!(leaves(sql), Leaves::Rows, "{sql}");
    }
    for sql in [
        "SELECT id FROM orders LIMIT 5, 3",
        "SELECT id FROM orders LIMIT 3 OFFSET 5",
        "SELECT id FROM orders UNION ALL SELECT id FROM payments",
        "SHOW WARNINGS",
        "USE shop",
        "BEGIN",
        "begin work",
        "START TRANSACTION",
        "COMMIT",
        "ROLLBACK",
    ] {
        assert_eq!(leaves(sql), Leaves::Last, "{sql}");
    }
    for sql in [
        "SELECT FOUND_ROWS()",
        "SELECT SQL_CALC_FOUND_ROWS id FROM orders",
        "SELECT @@last_insert_id",
        "SELECT @@pseudo_thread_id",
        "SELECT @@session.timestamp, @@version",
        "SELECT @@version, @a",
        "SELECT @@version, CONNECTION_ID()",
        "SELECT @@version INTO @a",
        "SELECT @@version FROM orders",
        "SELECT @@version LIMIT 1, 2",
        "EXPLAIN SELECT @@version",
        "SELECT CONNECTION_ID()",
        "SELECT id FROM orders FOR UPDATE",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT",
        "SET TRANSACTION READ ONLY",
        "COMMIT AND CHAIN",
        "ROLLBACK TO a",
        "SAVEPOINT a",
        "SET NAMES utf8mb4",
        "INSERT INTO orders VALUES (1, 2, 'a')",
        "UPDATE orders SET state = 'a' WHERE id = 1",
        "KILL 5",
        "LOCK TABLES orders READ",
        "DO GET_LOCK('a', 0)",
        "CREATE TEMPORARY TABLE t (a INT)",
        "CALL peek()",
        "SELECT 1; SELECT 2",
        "PREPARE p FROM 'SELECT 1'",
        "HANDLER orders OPEN",
        "XA START 'a'",
    ] {
        assert_eq!(leaves(sql), Leaves::More, "{sql}");
    }
}

#[test]
fn views_and_generated_columns_run_what_they_like() {
    let mut tables = Vec::new();
    for (kind, generates) in
        [(TableKind::Base, false), (TableKind::View, false), (TableKind::Base, true)]
    {
        let columns = vec![column("id", LabelSet::EMPTY)];
        let name = format!("t{}", tables.len());
        tables.push(Table { kind, generates, ..table(&name, columns, LabelSet::EMPTY) });
    }
    let of = catalog(Flavour::MariaDb);
    let names = of.labels.clone();
    let catalog = Catalog::new(1, ServerProfile::clone(&of.profile), names, tables, Vec::new());
    let cx = Context { catalog: &catalog, sql_mode: SqlMode(0), schema: Some("shop") };
    let trace = |sql: &str| analyse(sql.as_bytes(), &cx).facts.trace;
    assert_eq!(trace("SELECT id FROM t0"), Trace::None);
    assert_eq!(trace("SELECT id FROM t1"), Trace::Any);
    assert_eq!(trace("SELECT id FROM t2"), Trace::Any);
    assert_eq!(trace("SELECT id FROM t0 JOIN t1 USING (id)"), Trace::Any);
}
