//! Stock clients, text and prepared: the `mariadb` CLI, mariadb-dump, PyMySQL, mysql_async.

use std::process::Command;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder, Row, Value};
use xtask::{mariadb, mysql, shop};

use crate::stand::{Flavour, Stand, errors, on_both};

on_both!(a_dump_is_byte_for_byte_the_same, pymysql, a_rust_driver_text_and_prepared,);

fn a_dump_is_byte_for_byte_the_same(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("backup", "dumpers");
    let dump = |port: u16, user: &str, password: &str| {
        let mut dump = match flavour {
            Flavour::MariaDb => Command::new("mariadb-dump"),
            Flavour::MySql => mysql::Tree::here().unwrap().program("mysqldump"),
        };
        dump.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--skip-dump-date"]);
        dump.arg(format!("--port={port}")).arg(format!("--user={user}"));
        dump.env("MYSQL_PWD", password).args(["--single-transaction", "shop"]);
        let output = dump.output().unwrap();
        assert!(output.status.success(), "{}\n{}", errors(&output), stand.gateway.log());
        output.stdout
    };
    let direct = dump(stand.database.port(), mariadb::SERVICE_USER, mariadb::SERVICE_PASSWORD);
    let through = dump(stand.gateway.port, "backup", &token);
    assert!(direct.len() > 500_000);
    assert!(direct == through, "the dumps differ");
}

fn pymysql(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("py", "agents");
    let script = format!(
        r#"
import pymysql
c = pymysql.connect(host="127.0.0.1", port={port}, user="py", password="{token}", database="shop")
with c.cursor() as k:
    k.execute("SELECT id, name, ssn FROM customers WHERE id = %s", (5,))
    print(k.fetchall())
    k.execute("SELECT COUNT(*) FROM orders")
    print(k.fetchone())
    k.execute("INSERT INTO orders VALUES (%s, 1, '2026-01-01', 'new', 5)", (70001,))
    c.commit()
    k.execute("SELECT state FROM orders WHERE id = 70001")
    print(k.fetchone())
    try:
        k.execute("SELECT id FROM customers WHERE ssn = 'x'")
    except pymysql.err.MySQLError as e:
        print("refused", e.args[0])
    c.ping()
    c.select_db("shop")
    k.execute("SELECT 40 + 2")
    print(k.fetchone())
"#,
        port = stand.gateway.port
    );
    let packages = xtask::sh::root().join("target/python");
    assert!(packages.join("pymysql").exists(), "PyMySQL is missing: run `cargo xtask setup`");
    let output =
        Command::new("python3").args(["-c", &script]).env("PYTHONPATH", packages).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{}", errors(&output), stand.gateway.log());
    for wanted in [&shop::customer(5).name, "(6000,)", "('new',)", "refused 1142", "(42,)"] {
        assert!(text.contains(wanted), "{wanted} is not in {text}");
    }
    assert!(!text.contains(&shop::customer(5).ssn));
}

fn a_rust_driver_text_and_prepared(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("rust", "agents");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(stand.gateway.port)
            .user(Some("rust"))
            .pass(Some(token))
            .db_name(Some("shop"))
            .prefer_socket(Some(false));
        let mut connection = Conn::new(options).await.unwrap();
        let rows: Vec<Row> = connection.query("SELECT id, name, ssn FROM customers").await.unwrap();
        assert_eq!(rows.len(), 2_000);
        let one = "SELECT id, name, ssn, tier FROM customers WHERE id = ?";
        for id in [1_u32, 77, 2_000] {
            let row: Row = connection.exec_first(one, (id,)).await.unwrap().unwrap();
            assert_eq!(row[0], Value::Int(i64::from(id)));
            assert_eq!(row[1], Value::Bytes(shop::customer(id).name.into_bytes()));
            assert_ne!(row[2], Value::Bytes(shop::customer(id).ssn.into_bytes()));
        }
        let types = "SELECT CAST(1 AS SIGNED), 1.5e0, CAST('1.25' AS DECIMAL(5,2)), DATE '2026-01-02', NULL, x'00ff'";
        let (text, binary): (Row, Row) = (
            connection.query_first(types).await.unwrap().unwrap(),
            connection.exec_first(types, ()).await.unwrap().unwrap(),
        );
        assert_eq!(text.len(), binary.len());
        assert_eq!(binary[4], Value::NULL);
        assert_eq!(binary[5], Value::Bytes(vec![0, 255]));
        let refused = connection.exec::<Row, _, _>("SELECT id FROM customers WHERE ssn = ?", ("1",)).await;
        assert!(refused.unwrap_err().to_string().contains("RG-"));
        connection.reset().await.unwrap();
        let answer: Option<u32> = connection.query_first("SELECT 42").await.unwrap();
        assert_eq!(answer, Some(42));
        connection.disconnect().await.unwrap();
    });
}
