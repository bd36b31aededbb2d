//! Statements that want to fool the analysis, and statements that must not be refused.

mod bounds;
mod forms;
mod statements;
mod traces;

use super::*;
use crate::schema::{Column, Flavour, Labels, Routine, ServerProfile, Table, TableKind};

fn column(name: &str, labels: LabelSet) -> Column {
    let data_type = if name == "id" { "int" } else { "varchar" }.to_owned();
    Column { name: name.to_owned(), data_type, labels, computed: false, invisible: false }
}

fn table(name: &str, columns: Vec<Column>, labels: LabelSet) -> Table {
    let mut table = Table {
        schema: "shop".to_owned(),
        name: name.to_owned(),
        kind: TableKind::Base,
        columns,
        labels,
        unique_keys: vec![vec![0]],
        estimated_rows: 1_000,
        sensitive: false,
        calls_sensitive: false,
        has_triggers: false,
        generates: false,
    };
    table.sensitive = !table.all_labels().is_empty();
    table
}

fn catalog(flavour: Flavour) -> Catalog {
    let mut names = Labels::default();
    let (mut pii, mut high) = (LabelSet::EMPTY, LabelSet::EMPTY);
    pii.insert(names.intern("pii").unwrap());
    high.insert(names.intern("high-value").unwrap());
    let none = LabelSet::EMPTY;
    let customers = vec![
        column("id", none),
        column("name", none),
        column("ssn", pii),
        column("email", pii),
        column("bank", pii),
    ];
    let orders = vec![column("id", none), column("customer_id", none), column("state", none)];
    let payments = vec![column("id", none), column("amount", none), column("code", none)];
    let computed = Column { computed: true, ..column("first4", pii) };
    let hidden = Column { invisible: true, ..column("shadow", none) };
    let cards = vec![hidden, column("id", none), computed];
    let profile = ServerProfile::stock(flavour);
    let tables = vec![
        table("customers", customers, none),
        table("orders", orders, none),
        Table { unique_keys: vec![vec![0], vec![2]], ..table("payments", payments, high) },
        table("cards", cards, none),
    ];
    let routine = Routine { schema: "shop".to_owned(), name: "peek".to_owned(), sensitive: true };
    Catalog::new(1, profile, names, tables, vec![routine])
}

fn run(sql: &str, flavour: Flavour) -> Analysis {
    run_in(sql, flavour, Some("shop"), SqlMode(0))
}

fn run_in(sql: &str, flavour: Flavour, schema: Option<&str>, sql_mode: SqlMode) -> Analysis {
    let catalog = catalog(flavour);
    analyse(sql.as_bytes(), &Context { catalog: &catalog, sql_mode, schema })
}

/// What the result's columns are, one letter each: `.` free, `B` bare, `C` computed; then the uses; or `?` for unknown.
fn seen(sql: &str) -> String {
    let analysis = run(sql, Flavour::MariaDb);
    if analysis.unknown.is_some() {
        return "?".to_owned();
    }
    let letter = |output: &Output| match output.lineage {
        Lineage::Free => '.',
        Lineage::Bare(_) => 'B',
        Lineage::Computed(_) => 'C',
    };
    let mut text: String = analysis.facts.outputs.iter().flatten().map(letter).collect();
    let mut places: Vec<String> =
        analysis.facts.uses.iter().map(|used| format!(" {:?}", used.place)).collect();
    places.dedup();
    text.extend(places);
    text
}

#[test]
fn what_comes_out() {
    for (sql, wanted) in [
        ("SELECT id, ssn FROM customers", ".B"),
        ("SELECT * FROM customers", "..BBB"),
        ("SELECT c.* FROM customers c", "..BBB"),
        ("SELECT o.*, c.ssn FROM orders o JOIN customers c ON c.id = o.customer_id", "...B"),
        ("SELECT ssn AS name FROM customers", "B"),
        ("SELECT name FROM (SELECT ssn AS name FROM customers) customers_", "B"),
        ("SELECT name FROM (SELECT ssn AS name FROM customers) AS x", "B"),
        ("WITH w AS (SELECT ssn s FROM customers) SELECT s FROM w", "B"),
        ("WITH w (a) AS (SELECT ssn FROM customers) SELECT a FROM w", "B"),
        ("SELECT CONCAT('<', ssn, '>') FROM customers", "C"),
        ("SELECT first4 FROM cards", "C"),
        ("SELECT * FROM cards", ".C"),
        ("SELECT shadow FROM cards", "."),
        ("SELECT name AS 'the name', ssn AS `SSN no.` FROM customers", ".B"),
        ("SELECT UPPER(TRIM(ssn)) FROM customers", "C"),
        ("SELECT SUBSTRING(ssn, 1, 3) FROM customers", "C"),
        ("SELECT CONCAT(name, 'x') FROM customers", "."),
        ("SELECT name FROM customers UNION ALL SELECT ssn FROM customers", "B"),
        ("SELECT COUNT(*) FROM customers", "."),
        ("SELECT BANK FROM customers", "B"),
        ("SELECT `ssn` FROM `shop`.`customers`", "B"),
        ("SELECT shop.customers.ssn FROM shop.customers", "B"),
        ("SELECT (ssn) FROM customers", "B"),
        ("SELECT id FROM customers WHERE id = 7 AND name LIKE 'a%' ORDER BY name LIMIT 5", "."),
        (
            "SELECT c.ssn FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id)",
            "B",
        ),
        ("TABLE customers", "?"),
    ] {
        assert_eq!(seen(sql), wanted, "{sql}");
    }
}

#[test]
fn what_is_used() {
    for (sql, wanted) in [
        ("SELECT id FROM customers WHERE ssn = '1'", ". Expression Where"),
        (
            "SELECT REPEAT(REPLACE(LEFT(ssn, 1), '1', ''), 2000000000) FROM customers",
            "C Expression",
        ),
        ("SELECT LEFT('x', SUBSTR(email, 1, 1)) FROM customers", "C Expression"),
        ("SELECT SUBSTRING('x', ssn) FROM customers", "C Expression"),
        (
            "SELECT (SELECT 1 FROM (SELECT 0 AS x) a, orders b JOIN orders c ON x LIKE '1%' LIMIT 1) \
             FROM (SELECT ssn AS x FROM customers) o",
            ". Expression Join",
        ),
        (
            "SELECT (SELECT shadow FROM (SELECT * FROM cards) v LIMIT 1) \
             FROM (SELECT ssn AS shadow FROM customers) o",
            "C Subquery",
        ),
        ("SELECT id FROM customers ORDER BY ssn", ". Order"),
        ("SELECT ssn AS a FROM customers ORDER BY a", "B Order"),
        ("SELECT ssn FROM customers ORDER BY 1", "B Order"),
        ("SELECT DISTINCT ssn FROM customers", "B Distinct"),
        ("SELECT ssn FROM customers UNION SELECT name FROM customers", "B Distinct"),
        ("SELECT COUNT(*) FROM customers GROUP BY ssn", ". Group"),
        ("SELECT MAX(ssn) FROM customers", "C Expression"),
        ("SELECT CASE WHEN id > 0 THEN ssn END FROM customers", "C Expression"),
        ("SELECT CAST(ssn AS CHAR) FROM customers", "C Expression"),
        ("SELECT ssn + 0 FROM customers", "C Expression"),
        ("SELECT ssn = '1' FROM customers", "C Expression"),
        ("SELECT (SELECT ssn FROM customers LIMIT 1)", "C Subquery"),
        ("SELECT id FROM orders WHERE id IN (SELECT ssn FROM customers)", ". Subquery"),
        ("SELECT o.id FROM orders o JOIN customers c ON c.ssn = o.state", ". Expression Join"),
        (
            "SELECT o.id FROM orders o JOIN customers c USING (id) WHERE c.email > ''",
            ". Expression Where",
        ),
        ("SELECT id FROM customers HAVING MAX(ssn) > ''", ". Expression Having"),
        ("SELECT ExtractValue('<a/>', CONCAT('//', ssn)) FROM customers", "C Expression"),
        ("INSERT INTO orders SELECT id, id, ssn FROM customers", " Source"),
        ("UPDATE customers SET name = ssn WHERE id = 1", " Source"),
        ("UPDATE customers SET name = 'x' WHERE ssn = 'y'", " Expression Where"),
        ("DELETE FROM customers WHERE email LIKE 'a%'", " Expression Where"),
    ] {
        assert_eq!(seen(sql), wanted, "{sql}");
    }
}

#[test]
fn what_is_refused() {
    for sql in [
        "SELECT ssn INTO @x FROM customers",
        "SELECT ssn INTO OUTFILE '/tmp/x' FROM customers",
        "SELECT @x := ssn FROM customers",
        "SET @x = (SELECT ssn FROM customers LIMIT 1)",
        "HANDLER customers OPEN",
        "PREPARE s FROM 'SELECT ssn FROM customers'",
        "EXECUTE IMMEDIATE 'SELECT ssn FROM customers'",
        "EXPLAIN SELECT ssn FROM customers",
        "ANALYZE SELECT ssn FROM customers",
        "CREATE TABLE copy AS SELECT ssn FROM customers",
        "CREATE VIEW v AS SELECT ssn FROM customers",
        "DO (SELECT ssn FROM customers)",
        "LOAD DATA INFILE 'x' INTO TABLE customers",
        "LOAD DATA INFILE 'x' INTO TABLE orders",
        "LOAD DATA LOCAL INFILE 'x' INTO TABLE customers",
        "LOAD DATA LOCAL INFILE 'x' INTO TABLE orders SET state = (SELECT ssn FROM customers)",
        "LOAD XML INFILE 'x' INTO TABLE orders",
        "SELECT 1; SELECT 2",
        "SELECT ssn FROM customers PROCEDURE ANALYSE()",
        "SELECT SQL_CACHE * FROM customers",
        "SELECT nothing FROM customers",
        "SELECT id FROM nowhere",
        "SELECT * FROM customers NATURAL JOIN orders",
        "SELECT * FROM customers JOIN orders USING (id)",
        "SELECT id FROM orders AS customers",
        "WITH RECURSIVE w AS (SELECT ssn FROM customers UNION ALL SELECT ssn FROM w) SELECT * FROM w",
        "SELECT id, id FROM customers a JOIN customers b",
        "SET sql_mode = 'ORACLE'",
        "SET sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')",
        "SET STATEMENT sql_mode = 'ANSI_QUOTES' FOR SELECT 1",
        "SET STATEMENT max_statement_time = (SELECT ssn FROM customers) FOR SELECT 1",
        "SET STATEMENT max_statement_time = 1, sql_mode = '' FOR SELECT 1",
        "SET STATEMENT max_statement_time = 1 FOR KILL 5",
        "SET STATEMENT max_statement_time = 1 FOR SET sql_mode = ''",
        "SET STATEMENT max_statement_time = 1 FOR LOAD DATA LOCAL INFILE 'a' INTO TABLE orders",
        "SET GLOBAL max_connections = 1",
        "SET character_set_results = 'utf16'",
        "SET NAMES gbk",
        "INSERT INTO customers (ssn) VALUES ('1') RETURNING ssn",
        "REPLACE INTO customers SET ssn = (SELECT 1 FROM nowhere)",
        "BEGIN NOT ATOMIC SELECT 1; END",
        "SELECT _gbk'x', ssn FROM customers",
        "SHOW PROCESSLIST",
        "SHOW EXPLAIN FOR 5",
        "EXPLAIN FOR CONNECTION 5",
        "DELETE FROM customers WHERE id = 1 RETURNING ssn",
        "REPLACE INTO customers (id, name) VALUES (1, 'x') RETURNING ssn",
        "SELECT {fn UCASE(ssn)} FROM customers",
        "CREATE TABLE copy LIKE customers",
        "SELECT ban\u{212A} FROM customers",
        "SELECT 'unclosed",
        "SELECT /* unclosed",
    ] {
        assert_eq!(seen(sql), "?", "{sql}");
    }
}

/// The gateway lives on what the database tells of the session.
#[test]
fn sets_by_which_the_database_would_tell_less_are_refused() {
    for sql in [
        "SET session_track_schema = 0",
        "SET session_track_schema = DEFAULT",
        "SET session_track_system_variables = NULL",
        "SET session_track_system_variables = DEFAULT",
        "SET session_track_system_variables = 'a' 'b'",
        "SET session_track_system_variables = N'a'",
        "SET session_track_system_variables = _utf8mb4'a'",
        "SET session_track_system_variables = 'a\\'",
        "SET session_track_system_variables = 'a', session_track_schema = 'OFF'",
        "SET session_track_system_variables = CONCAT('a', ',b')",
        "SET session_track_system_variables = CONCAT(@@global.session_track_system_variables, 'b')",
        "SET session_track_system_variables = CONCAT(@@global.time_zone, ',b')",
        "SET session_track_system_variables = REPLACE(@@session_track_system_variables, ',a', ',b')",
        "SET session_track_system_variables = CONCAT(@@session_track_system_variables, ',b') + 1",
        "SET GLOBAL session_track_system_variables = 'a'",
        "SET @@global.session_track_system_variables = CONCAT(@@global.session_track_system_variables, ',b')",
        "SET session_track_gtids = OWN_GTID",
        "SET STATEMENT session_track_schema = 1 FOR SELECT 1",
    ] {
        assert_eq!(seen(sql), "?", "{sql}");
    }
}

#[test]
fn what_is_not_as_it_seems_is_refused() {
    for sql in [
        // Names that the server looks up further outside, or further inside, than it seems.
        "SELECT (SELECT C.x FROM (SELECT 1 AS x) c) FROM (SELECT ssn AS x FROM customers) C",
        "WITH customer\u{17F} AS (SELECT 1 AS ssn FROM customers) SELECT ssn FROM customers",
        "SELECT (SELECT \u{131}d FROM (SELECT 1 AS id) i) FROM (SELECT ssn AS \u{131}d FROM customers) o",
        "SELECT (SELECT x FROM (SELECT ssn AS ` x` FROM customers) v) FROM (SELECT 1 AS x) o",
        "SELECT (SELECT x FROM (SELECT ssn AS '\\%x' FROM customers) v) FROM (SELECT 1 AS x) o",
        "SELECT (SELECT `UPPER(ssn)` FROM (SELECT UPPER(ssn) FROM customers) v) FROM (SELECT 1 AS `UPPER(ssn)`) o",
        "SELECT (SELECT ssn FROM (SELECT (ssn) FROM customers) v) FROM (SELECT 1 AS ssn) o",
        "SELECT (SELECT b FROM (SELECT ssn AS z, (SELECT z) AS b FROM customers) d) FROM (SELECT 1 AS z) o",
        "SELECT (SELECT _rowid FROM customers LIMIT 1) FROM (SELECT 1 AS _rowid) o",
        "SELECT text 'x' FROM customers",
        "SELECT uuid 'x' FROM customers",
        // Plans of statements on labelled data, in every spelling.
        "EXPLAIN FORMAT='JSON' SELECT 1 FROM customers c JOIN orders o WHERE c.id = 1 AND o.state = c.ssn",
        "DESCRIBE FORMAT=\"json\" SELECT ssn FROM customers",
        "ANALYZE FORMAT='json' SELECT ssn FROM customers",
        "EXPLAIN FORMAT=JSON FOR CONNECTION 5",
        // What reaches past the tables.
        "SELECT LOAD_FILE('/etc/passwd')",
        "SELECT `load_file` ('/etc/passwd') FROM orders",
        "SELECT SETVAL(seq, 1)",
        "SELECT @@warning_count",
        "SELECT @@session.error_count",
        "SELECT @@session . warning_count",
        "SHOW CREATE USER CURRENT_USER",
        "SET collation_connection = gbk_chinese_ci",
        "SET NAMES DEFAULT",
        "SET character_set_client = DEFAULT",
        // Tables where a list of tables goes on.
        "SELECT n.* FROM orders a JOIN orders b ON a.id = b.id, nowhere n",
        "SELECT n.* FROM orders a JOIN orders b USING (id), nowhere n",
        "SELECT n.* FROM orders USE INDEX FOR JOIN (PRIMARY), nowhere n",
        "SELECT n.* FROM orders FOR SYSTEM_TIME ALL, nowhere n",
        "SELECT n.* FROM (orders a JOIN orders b ON a.id = b.id, nowhere n)",
        "INSERT nowhere SELECT * FROM orders",
        "INSERT IGNORE nowhere SELECT * FROM orders",
        "REPLACE nowhere SELECT * FROM orders",
        "DELETE FROM orders USING orders, nowhere WHERE 1",
    ] {
        assert_eq!(seen(sql), "?", "{sql}");
    }
}

#[test]
fn what_must_not_be_refused() {
    for sql in [
        "SELECT 1",
        "SELECT @@version_comment LIMIT 1",
        "SELECT * FROM orders",
        "SELECT state, COUNT(*) FROM orders GROUP BY state HAVING COUNT(*) > 1 ORDER BY 2 DESC",
        "SELECT SQL_NO_CACHE id FROM orders FORCE INDEX (PRIMARY) WHERE id BETWEEN 1 AND 2",
        "SET NAMES utf8mb4",
        "SET autocommit=0, time_zone = '+00:00'",
        "SET sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET @a = 1",
        "SET session_track_schema=1,session_track_system_variables='autocommit,tx_isolation'",
        "set autocommit=1, session_track_system_variables = CONCAT(@@global.session_track_system_variables,',tx_isolation')",
        "SET @@session.session_track_state_change = ON, session_track_system_variables = ''",
        "USE shop",
        "SHOW TABLES",
        "SHOW FULL COLUMNS FROM customers",
        "SHOW CREATE TABLE customers",
        "SHOW VARIABLES LIKE 'sql_mode'",
        "DESCRIBE customers",
        "BEGIN",
        "START TRANSACTION READ ONLY",
        "COMMIT",
        "INSERT INTO orders (id, customer_id, state) VALUES (1, 2, 'new') ON DUPLICATE KEY UPDATE state = VALUES(state)",
        "INSERT INTO customers (id, name) VALUES (1, 'x'), (2, 'y')",
        "UPDATE orders SET state = 'x' WHERE id = 1",
        "DELETE FROM payments WHERE id = 1",
        "SELECT EXTRACT(YEAR FROM state) FROM orders",
        "SELECT * FROM information_schema.tables",
        "DROP TABLE payments",
        "ALTER TABLE orders ADD COLUMN gift TINYINT",
        "TRUNCATE TABLE payments",
        "SELECT a.id FROM (SELECT id FROM orders) a, orders b WHERE a.id = b.id",
        "SELECT id FROM orders WHERE state IS NOT NULL -- why\n",
        "SELECT id FROM orders USE INDEX (PRIMARY, state) WHERE id = 1",
        "SELECT id, SUM(id) OVER w FROM orders WINDOW w AS (ORDER BY id), w2 AS (ORDER BY state)",
        "SELECT COUNT(*) FROM orders a JOIN orders b ON a.id = GREATEST(b.id, a.id)",
        "ALTER TABLE orders ADD COLUMN gift TINYINT, ADD KEY (gift)",
        "INSERT orders VALUES (1, 2, 'x'), (2, 3, 'y')",
        "INSERT INTO orders SELECT id, id, name FROM customers ON DUPLICATE KEY UPDATE id = 1, state = 'x'",
        "INSERT INTO customers (id, ssn) VALUES (1, 'x') ON DUPLICATE KEY UPDATE ssn = VALUES(ssn)",
        "SELECT id, name FROM customers WHERE id = 1 LOCK IN SHARE MODE",
        "SET character_set_results = NULL",
        "SET collation_connection = utf8mb4_unicode_ci",
        "EXPLAIN FORMAT='JSON' SELECT id FROM orders",
        "select c.id from customers as c left join orders as o on o.customer_id = c.id where o.id is null",
    ] {
        let analysis = run(sql, Flavour::MariaDb);
        assert_eq!(analysis.unknown, None, "{sql}");
    }
}

#[test]
fn executable_comments_are_read_as_the_server_reads_them() {
    let lineage = |sql: &str, flavour| {
        let analysis = run(sql, flavour);
        (analysis.unknown.is_none(), analysis.facts.outputs.map_or(0, |outputs| outputs.len()))
    };
    for (sql, mariadb, mysql) in [
        ("SELECT id /*!50000 ,ssn */ FROM customers", 2, 2),
        ("SELECT id /*!99999 ,ssn */ FROM customers", 1, 1),
        ("SELECT id /*! ,ssn */ FROM customers", 2, 2),
        ("SELECT id /*M! ,ssn */ FROM customers", 2, 1),
        ("SELECT id /*M!100100 ,ssn */ FROM customers", 2, 1),
        ("SELECT id /* ,ssn */ FROM customers", 1, 1),
    ] {
        assert_eq!(lineage(sql, Flavour::MariaDb), (true, mariadb), "{sql}");
        assert_eq!(lineage(sql, Flavour::MySql), (true, mysql), "{sql}");
    }
}

#[test]
fn the_canonical_text_keeps_its_length() {
    let sql = "SELECT /* a */ id, /*!50000 name */ FROM orders -- end";
    let analysis = run("SELECT /* a */ id /*!50000 ,state */ FROM orders -- end", Flavour::MariaDb);
    let canonical = analysis.canonical.unwrap();
    assert_eq!(canonical.len(), "SELECT /* a */ id /*!50000 ,state */ FROM orders -- end".len());
    assert_eq!(
        String::from_utf8_lossy(&canonical).split_whitespace().collect::<Vec<_>>().join(" "),
        "SELECT id ,state FROM orders"
    );
    let _ = sql;
    assert_eq!(run("SELECT id FROM orders", Flavour::MariaDb).canonical, None);
}

#[test]
fn system_tables_are_seen_in_their_own_database() {
    let catalog = catalog(Flavour::MariaDb);
    let cx = Context { catalog: &catalog, sql_mode: SqlMode(0), schema: Some("mysql") };
    for sql in [
        "SELECT u.* FROM shop.orders a JOIN shop.orders b ON a.id = b.id, user u",
        "INSERT user SELECT * FROM shop.orders",
        "DELETE FROM shop.orders USING shop.orders, user WHERE 0",
    ] {
        let tables = analyse(sql.as_bytes(), &cx).facts.tables;
        assert!(
            tables.iter().any(|t| t.schema == "mysql" && t.name == "user"),
            "{sql}: {tables:?}"
        );
    }
}

/// A procedure needs no parentheses; one that is not known may have been made a moment ago.
#[test]
fn calls() {
    for (sql, sensitive, misses) in [
        ("CALL peek()", true, false),
        ("CALL peek", true, false),
        ("call `shop`.`peek`", true, false),
        ("CALL shop . peek ;", true, false),
        ("CALL PEEK -- x", true, false),
        ("CALL made_just_now", false, true),
        ("CALL made_just_now(1)", false, true),
        ("CALL elsewhere.peek", false, true),
        ("CALL sys.version_major()", false, false),
        ("SELECT o.call, peek FROM orders o", false, false),
    ] {
        let facts = run(sql, Flavour::MySql).facts;
        assert_eq!((facts.calls_sensitive, facts.misses), (sensitive, misses), "{sql}");
    }
    let catalog = catalog(Flavour::MariaDb);
    let cx = Context { catalog: &catalog, sql_mode: SqlMode(0), schema: Some("shop") };
    assert!(touches("BEGIN CALL peek; END", &cx), "through another");
    assert!(touches("IF a THEN CALL shop.peek; END IF", &cx));
    assert!(!touches("BEGIN SELECT peek.a FROM orders peek; END", &cx));
}

#[test]
fn texts_of_routines() {
    let catalog = catalog(Flavour::MariaDb);
    let cx = Context { catalog: &catalog, sql_mode: SqlMode(0), schema: Some("shop") };
    assert!(touches("RETURN (SELECT ssn FROM customers LIMIT 1)", &cx));
    assert!(touches("RETURN (SELECT \"ssn\" FROM \"customers\" LIMIT 1)", &cx), "ANSI_QUOTES");
    assert!(!touches("RETURN CONCAT(\"a\", \"\")", &cx));
    assert!(writes("BEGIN DELETE FROM orders; RETURN 1; END", &catalog));
    assert!(!writes("RETURN REPLACE(INSERT(a, 1, 1, 'x'), 'a', 'b')", &catalog));
    assert!(!table_labels("select `id` from `shop`.`payments`", &cx).is_empty());
}

#[test]
fn shapes() {
    let shape = |sql: &str| run(sql, Flavour::MariaDb).digest_text;
    assert_eq!(
        shape("SELECT  id FROM orders WHERE id IN (1, 2,3) -- x"),
        "select id from orders where id in ( ? )"
    );
    let digest = |sql: &str| run(sql, Flavour::MariaDb).digest;
    assert_eq!(digest("SELECT 1"), digest("select   2"));
    assert_ne!(digest("SELECT id FROM orders"), digest("SELECT id FROM payments"));
}

#[test]
fn repetition_does_not_break_it() {
    for piece in [
        "(",
        "/*!",
        "'",
        "a.",
        "select ",
        "and 1 ",
        "`",
        "@",
        "((select ",
        "-",
        "union select 1 ",
        "a,",
    ] {
        for prefix in ["SELECT ssn FROM customers WHERE 1 = ", ""] {
            let sql = format!("{prefix}{}", piece.repeat(100_000));
            let _ = run(&sql, Flavour::MariaDb);
        }
    }
    let ands = "SELECT ssn FROM customers WHERE 1".to_owned() + &" AND 1".repeat(4_900);
    assert_eq!(run(&ands, Flavour::MariaDb).unknown, None);
    let joins = "SELECT c.ssn FROM customers c".to_owned() + &" JOIN orders".repeat(400);
    assert!(run(&joins, Flavour::MariaDb).unknown.is_some());
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "[ -~\u{80}-\u{ff}]{0,200}") {
        let analysis = run(&text, Flavour::MySql);
        if let Some(canonical) = analysis.canonical {
            proptest::prop_assert_eq!(canonical.len(), text.len());
        }
    }
}
