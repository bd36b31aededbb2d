//! Texts of one form have one analysis.

use super::*;

/// What is said of `sql`, and whether `other` is of its form.
fn is_of_form(sql: &str, other: &str, sql_mode: SqlMode) -> bool {
    let catalog = catalog(Flavour::MariaDb);
    let cx = Context { catalog: &catalog, sql_mode, schema: Some("shop") };
    let (mut own, mut others) = (Tokens::default(), Tokens::default());
    own.read(sql.as_bytes(), &cx);
    others.read(other.as_bytes(), &cx);
    let analysis = analyse_tokens(sql.as_bytes(), &own, &cx);
    let Some(form) = own.form(sql.as_bytes(), &analysis) else { return false };
    let is_of = others.have_form(other.as_bytes()) && form.is_of(other.as_bytes(), &others);
    if is_of {
        let again = analyse(other.as_bytes(), &cx);
        assert_eq!(again.facts, analysis.facts, "{sql} | {other}");
        assert_eq!((again.unknown, again.canonical), (None, None), "{sql} | {other}");
        assert_eq!((again.digest, &again.digest_text), (analysis.digest, &analysis.digest_text));
    }
    is_of
}

fn same(sql: &str, other: &str) -> bool {
    is_of_form(sql, other, SqlMode(0))
}

#[test]
fn literals_may_differ() {
    for (sql, other) in [
        ("SELECT id FROM orders WHERE id = 5", "SELECT id FROM orders WHERE id = 77777"),
        ("SELECT id FROM orders WHERE id = 5;", "SELECT id FROM orders WHERE id = -5;"),
        ("SELECT id FROM orders WHERE state = 'a'", "SELECT id FROM orders WHERE state = 'it''s'"),
        ("SELECT 1, x'41', b'1', n'x'", "SELECT 2.5e3, 0x42, 0b0, N'it\\'s'"),
        ("INSERT INTO orders VALUES (1, 2, 'a')", "INSERT INTO orders VALUES (9, .5, 'from x')"),
        ("UPDATE orders SET state = 'x' WHERE id = 1", "UPDATE orders SET state = '' WHERE id = 2"),
        ("DELETE FROM orders WHERE id = 1 LIMIT 5", "DELETE FROM orders WHERE id = 2 LIMIT 5"),
        ("SELECT _utf8mb4 'a'", "SELECT _utf8mb4 'b'"),
        ("SELECT ssn FROM customers WHERE id = 5", "SELECT ssn FROM customers WHERE id = 6"),
        (
            "SELECT ssn FROM customers WHERE id > 5 AND name LIKE 'a' LIMIT 3",
            "SELECT ssn FROM customers WHERE id > 6 AND name LIKE 'b' LIMIT 3",
        ),
        (
            "UPDATE payments SET amount = 1 WHERE id = 5",
            "UPDATE payments SET amount = 1 WHERE id = 6",
        ),
    ] {
        // A minus sign is a token of its own.
        assert_eq!(same(sql, other), !other.contains('-'), "{sql} | {other}");
        assert!(same(sql, sql), "{sql}");
    }
}

#[test]
fn nothing_else_may_differ() {
    for (sql, other) in [
        ("SELECT id FROM orders WHERE id = 5", "SELECT id FROM cards WHERE id = 5"),
        ("SELECT id FROM orders WHERE id = 5", "SELECT ID FROM orders WHERE id = 5"),
        ("SELECT id FROM orders WHERE id = 5", "SELECT id FROM orders WHERE id = '5'"),
        ("SELECT id FROM orders WHERE id = 5", "SELECT id FROM orders WHERE id = ?"),
        ("SELECT id FROM orders WHERE id = 5", "SELECT id FROM orders WHERE id = @5"),
        ("SELECT id FROM orders WHERE id = 5", "SELECT id FROM orders WHERE id = 5 OR 1"),
        (
            "SELECT id FROM orders WHERE id = 5",
            "SELECT id FROM orders WHERE id = 5;DROP TABLE orders",
        ),
        ("SELECT id FROM orders WHERE id = 5", "SELECT id FROM orders/**/WHERE id = 5"),
        ("SELECT id FROM orders WHERE id = 5", "SELECT id FROM orders WHERE id = 5#"),
        ("SELECT _latin1 'a'", "SELECT _utf8mb4 'a'"),
        // How many rows are wanted is a fact.
        ("SELECT id FROM orders LIMIT 5", "SELECT id FROM orders LIMIT 6"),
        ("SELECT id FROM orders LIMIT 5, 9", "SELECT id FROM orders LIMIT 5, 8"),
        ("SELECT 'a' FROM orders LIMIT 99999999999999999999", "SELECT 'a' FROM orders LIMIT 9"),
        // In what is asked of labelled data, a literal may name a column.
        ("SELECT ssn FROM customers ORDER BY 1", "SELECT ssn FROM customers ORDER BY 2"),
        (
            "SELECT id, ssn FROM customers WHERE id = 5 ORDER BY 1",
            "SELECT id, ssn FROM customers WHERE id = 5 ORDER BY 2",
        ),
        (
            "SELECT id = 5, ssn FROM customers WHERE id = 5",
            "SELECT id = 6, ssn FROM customers WHERE id = 5",
        ),
        (
            "DELETE FROM customers WHERE id = 5 RETURNING id = 5",
            "DELETE FROM customers WHERE id = 5 RETURNING id = 6",
        ),
        ("SELECT ssn 'a' FROM customers WHERE 1", "SELECT ssn 'b' FROM customers WHERE 1"),
        ("SELECT id, peek(5) FROM orders", "SELECT id, peek(6) FROM orders"),
        // So are the verbs whose values say what is done.
        ("SET NAMES 'latin1'", "SET NAMES 'gbk'"),
        ("SHOW TABLES LIKE 'a'", "SHOW TABLES LIKE 'b'"),
        ("EXPLAIN SELECT 1", "EXPLAIN SELECT 2"),
        ("KILL 5", "KILL 6"),
        // And what is sent otherwise than it came.
        ("SELECT /* a */ 5", "SELECT /* a */ 6"),
        ("SELECT /*!50000 5 */", "SELECT /*!50000 6 */"),
    ] {
        assert!(!same(sql, other), "{sql} | {other}");
    }
}

#[test]
fn quotes_are_read_by_the_mode() {
    let (one, other) = ("SELECT \"id\" FROM orders", "SELECT \"no\" FROM orders");
    assert!(is_of_form(one, other, SqlMode(0)));
    assert!(!is_of_form(one, other, SqlMode(SqlMode::ANSI_QUOTES)));
}

#[test]
fn the_room_is_used_again() {
    let catalog = catalog(Flavour::MariaDb);
    let cx = Context { catalog: &catalog, sql_mode: SqlMode(0), schema: Some("shop") };
    let mut tokens = Tokens::default();
    for sql in ["SELECT /* x */ 1", "SELECT 'open", "SELECT 1"] {
        tokens.read(sql.as_bytes(), &cx);
        let again = analyse_tokens(sql.as_bytes(), &tokens, &cx);
        let fresh = analyse(sql.as_bytes(), &cx);
        assert_eq!((again.unknown, again.canonical), (fresh.unknown, fresh.canonical), "{sql}");
    }
    assert!(tokens.have_form(b"SELECT 1"));
}
