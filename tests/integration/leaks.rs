//! Nothing raw reaches a governed client, in any byte of the wire; and the search would find it if it did.

use std::process::{Command, Stdio};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder, Row};
use xtask::{mariadb, shop};

use crate::relay::Relay;
use crate::stand::Stand;

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
const TRIES: [&str; 22] = [
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
];

#[test]
fn nothing_raw_in_any_byte() {
    let stand = Stand::start();
    let token = stand.token("leak-agent", "agents");
    let through = Relay::to(stand.gateway.port);
    let direct = Relay::to(stand.database.port());
    let service = (mariadb::SERVICE_USER, mariadb::SERVICE_PASSWORD);
    for sql in SHOWS {
        let masked = stock_client(through.port(), ("leak-agent", &token), sql);
        assert!(masked.status.success(), "{sql}: {}", String::from_utf8_lossy(&masked.stderr));
        stock_client(direct.port(), service, sql);
    }
    for sql in TRIES {
        stock_client(through.port(), ("leak-agent", &token), sql);
    }
    prepared(through.port(), ("leak-agent", &token), true);
    prepared(direct.port(), service, false);
    let received = through.received();
    assert!(received.len() > 100_000, "the governed client received {} bytes", received.len());
    let leaked: Vec<_> = found(&received);
    assert!(leaked.is_empty(), "{} raw values reached the client", leaked.len());
    let all = shop::raw_values().len();
    assert_eq!(found(&direct.received()).len(), all, "the search must be able to find them");
}

fn found(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    shop::raw_values().into_iter().filter(|value| text.contains(value.as_str())).collect()
}

fn stock_client(port: u16, (user, password): (&str, &str), sql: &str) -> std::process::Output {
    let mut client = Command::new("mariadb");
    client.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--batch"]);
    client.args(["--database=shop", "--force"]).arg(format!("--port={port}"));
    client.arg(format!("--user={user}")).env("MYSQL_PWD", password).stdin(Stdio::null());
    client.args(["-e", sql]).output().unwrap()
}

/// The binary protocol: the same statements prepared and executed.
fn prepared(port: u16, (user, password): (&str, &str), governed: bool) {
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
        for sql in TRIES.iter().filter(|_| governed) {
            let _ = connection.exec::<Row, _, _>(*sql, ()).await;
        }
        let _ = connection.disconnect().await;
    });
}
