//! What bounds a write, and what holds beyond its statement.

use super::*;

#[test]
fn keys_and_bounds() {
    let facts = |sql: &str| run(sql, Flavour::MariaDb).facts;
    assert!(facts("DELETE FROM payments WHERE id = 5").key_pinned);
    assert!(facts("DELETE FROM payments WHERE (id = ?) AND amount > 1").key_pinned);
    assert!(facts("UPDATE payments SET amount = 1 WHERE id IN (5)").key_pinned);
    assert!(facts("DELETE FROM payments WHERE id = '5'").key_pinned);
    assert!(facts("DELETE FROM payments WHERE code = 'x'").key_pinned);
    for sql in [
        "DELETE FROM payments WHERE id = 5 OR 1 = 1",
        "DELETE FROM payments WHERE id > 5",
        "DELETE FROM payments WHERE id IN (1, 2)",
        "DELETE FROM payments WHERE id = id",
        "DELETE FROM payments WHERE amount = 5",
        // Numbers are equal to many texts, and a parameter may be a number.
        "DELETE FROM payments WHERE code = 0",
        "DELETE FROM payments WHERE code = ?",
        "DELETE FROM payments WHERE code IN (0)",
        // The servers read OR into these.
        "DELETE FROM payments WHERE 1 || 1 AND id = 5",
        "DELETE FROM payments WHERE id = 5 AND 0 XOR 1",
        "DELETE FROM payments",
    ] {
        assert!(!facts(sql).key_pinned, "{sql}");
    }
    assert!(!facts("DELETE FROM payments").has_where);
    assert_eq!(facts("SELECT id FROM orders LIMIT 5, 10").limit, Some(10));
    assert!(facts("SELECT peek(1)").calls_sensitive);
    assert_eq!(facts("USE `other`").use_database.as_deref(), Some("other"));
}

#[test]
fn what_holds_beyond_the_statement() {
    let padded = format!("SET {} GLOBAL autocommit = 1", "@a = 1,".repeat(2_000));
    for (sql, globally, locks) in [
        ("SET GLOBAL autocommit = 1", true, false),
        ("SET @@global.autocommit = 1", true, false),
        ("SET @@GLOBAL . autocommit = 1", true, false),
        ("SET PERSIST autocommit = 1", true, false),
        (padded.as_str(), true, false),
        ("SET SESSION autocommit = 1", false, false),
        ("SELECT GET_LOCK('x', 0)", false, true),
        ("SELECT `get_lock`('x', 0)", false, true),
        ("LOCK TABLES orders READ", false, true),
        ("UNLOCK TABLES", false, false),
        ("FLUSH TABLES WITH READ LOCK", false, true),
        ("SELECT 'get_lock'", false, false),
    ] {
        let facts = run(sql, Flavour::MariaDb).facts;
        assert_eq!(
            (facts.sets_globally, facts.takes_lock),
            (globally, locks),
            "{}",
            &sql[..20.min(sql.len())]
        );
    }
}

#[test]
fn rows_of_an_insert() {
    for (sql, upserts, has_where, one) in [
        ("INSERT INTO orders VALUES (1, 2, 'a')", false, true, true),
        ("INSERT INTO orders SET id = 1", false, true, true),
        ("INSERT INTO orders (id) VALUES (1), (2)", false, true, false),
        ("INSERT INTO orders (id) SELECT id FROM orders", false, false, false),
        (
            "INSERT INTO orders (id) VALUES (1) ON DUPLICATE KEY UPDATE id = 2, state = VALUES(state)",
            true,
            true,
            true,
        ),
        (
            "INSERT INTO payments SELECT * FROM payments ON DUPLICATE KEY UPDATE amount = VALUES(amount)",
            true,
            false,
            false,
        ),
        (
            "INSERT INTO orders (id) (SELECT id FROM orders) ON DUPLICATE KEY UPDATE id = VALUES(id)",
            true,
            false,
            false,
        ),
        ("INSERT INTO orders SELECT * FROM orders WHERE id = 1", false, true, false),
        ("REPLACE INTO orders SELECT * FROM orders", false, false, false),
        ("REPLACE INTO orders VALUES (1, 2, 'a')", false, true, false),
    ] {
        let facts = run(sql, Flavour::MariaDb).facts;
        assert_eq!(
            (facts.upserts, facts.has_where, facts.key_pinned),
            (upserts, has_where, one),
            "{sql}"
        );
    }
}

#[test]
fn a_blanked_comment_makes_no_comment_of_what_stands_before_it() {
    for sql in [
        "DELETE FROM payments WHERE amount > 0--/**/0 AND id = 5",
        "DELETE FROM payments WHERE amount > 0--#\n0 AND id = 5",
        "DELETE FROM payments WHERE amount > 0--/*!50000 0*/ AND id = 5",
        "SELECT 1 ----",
    ] {
        for flavour in [Flavour::MariaDb, Flavour::MySql] {
            let analysis = run(sql, flavour);
            assert!(matches!(analysis.unknown, Some(Unknown::Lex(_))), "{sql}: {analysis:?}");
            assert_eq!(analysis.canonical, None, "{sql}");
        }
    }
    for sql in ["SELECT 1 - /**/ -1", "SELECT 1-/**/-1", "SELECT 1 -- x", "SELECT /*+ x */ 1 /**/"]
    {
        assert_eq!(run(sql, Flavour::MariaDb).unknown, None, "{sql}");
    }
}
