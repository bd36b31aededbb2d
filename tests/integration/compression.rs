//! Compression on the clients' side, with stock clients: what they get is what they get without.

use std::process::Command;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder, Row};
use xtask::{mysql, shop};

use crate::relay::Relay;
use crate::stand::{Flavour, Stand, errors, on_both};

on_both!(
    stock_clients_compress,
    long_packets_and_files,
    a_rust_driver_compresses,
    the_database_is_asked_to_compress
);

/// MySQL's own client against either database, and the word for its compression.
fn mysql_client(port: u16, token: &str, by: &str) -> Option<Command> {
    if mysql::is_left_out() {
        return None;
    }
    let mut client = mysql::Tree::here().unwrap().program("mysql");
    client.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--user=bot"]);
    client.arg(format!("--port={port}")).env("MYSQL_PWD", token);
    client.arg(format!("--compression-algorithms={by}")).arg("--max-allowed-packet=64M");
    client.args(["--batch", "-N", "--ssl-mode=DISABLED", "--database=shop"]);
    Some(client)
}

fn mariadb_client(port: u16, token: &str) -> Command {
    let mut client = Command::new("mariadb");
    client.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--user=bot"]);
    client.arg(format!("--port={port}")).env("MYSQL_PWD", token);
    client.args(["--compress", "--max-allowed-packet=64M", "--batch", "-N", "--database=shop"]);
    client
}

/// Every client that compresses, each by its ways.
fn clients(port: u16, token: &str) -> Vec<(&'static str, Command)> {
    let mut clients = vec![("mariadb", mariadb_client(port, token))];
    for by in ["zlib", "zstd", "zlib,zstd", "zstd,uncompressed"] {
        clients.extend(mysql_client(port, token, by).map(|client| (by, client)));
    }
    clients
}

fn printed(mut client: Command, sql: &str, stand: &Stand) -> Vec<u8> {
    let output = client.args(["-e", sql]).output().unwrap();
    assert!(output.status.success(), "{}\n{}", errors(&output), stand.gateway.log());
    output.stdout
}

fn stock_clients_compress(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("bot", "agents");
    let many = "SELECT id, name, ssn, email FROM customers; SELECT id, name FROM customers WHERE id = 5; \
                INSERT INTO orders VALUES (70001, 1, '2026-01-01', 'new', 5); DELETE FROM orders WHERE id = 70001; \
                SELECT REPEAT('long ', 400000)";
    let plain = printed(stand.client("bot", &token), &format!("USE shop; {many}"), &stand);
    let plain = String::from_utf8(plain).unwrap();
    assert!(!plain.contains(&shop::customer(5).ssn));
    for (which, client) in clients(stand.gateway.port, &token) {
        let text = String::from_utf8(printed(client, many, &stand)).unwrap();
        // The other client prints tables' heads; the rows are what counts.
        let rows = |text: &str| text.lines().map(str::len).sum::<usize>();
        assert!(text.lines().all(|line| plain.contains(line)), "{which}");
        assert!(rows(&plain) - rows(&text) < 100, "{which}");
    }
    // It is compressed, and nothing raw is in what went by in clear.
    for at in 0..clients(1, &token).len() {
        let relay = Relay::to(stand.gateway.port);
        let (which, client) = clients(relay.port(), &token).swap_remove(at);
        let text = printed(client, "SELECT name, ssn FROM customers ORDER BY name", &stand);
        let received = relay.received();
        assert!(
            text.len() > 40_000 && received.len() < text.len() / 2,
            "{which}: {}",
            received.len()
        );
    }
    // An error in the middle, and the session goes on.
    for (which, client) in clients(stand.gateway.port, &token) {
        let mut client = client;
        let script = stand.folder.path().join("force.sql");
        let sql = "SELECT nonsense;\nSELECT id FROM customers WHERE ssn = 'x';\nSELECT 42;\n";
        std::fs::write(&script, sql).unwrap();
        let output =
            client.arg("--force").stdin(std::fs::File::open(&script).unwrap()).output().unwrap();
        let error = errors(&output);
        assert!(error.contains("1054") && error.contains("RG-"), "{which}: {error}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "42\n", "{which}");
    }
}

/// So many lines of a file for LOAD DATA.
fn rows(count: u32) -> String {
    (0..count).fold(String::new(), |rows, n| rows + &format!("{n}\tname number {n}\n"))
}

fn long_packets_and_files(flavour: Flavour) {
    let stand = Stand::after(
        flavour,
        &["--max-allowed-packet=64M", "--local-infile=1"],
        |_| {},
        |options| {
            "max_statement_bytes = 67108864".clone_into(&mut options.server);
        },
    );
    let token = stand.token("bot", "dumpers");
    let folder = stand.folder.path();
    let file = folder.join("rows.csv");
    std::fs::write(&file, rows(200_000)).unwrap();
    let long = ["mariadb", "zstd"];
    let clients = clients(stand.gateway.port, &token);
    for (which, mut client) in clients.into_iter().filter(|(which, _)| long.contains(which)) {
        let script = folder.join("long.sql");
        // 17 MB that compress well, 17 MB that don't.
        let noise: String =
            (0_u32..270_000).map(|n| blake3::hash(&n.to_le_bytes()).to_hex().to_string()).collect();
        let text = format!(
            "SELECT LENGTH('{}');\nSELECT LENGTH('{noise}');\nSELECT REPEAT('z', 17000000);\n\
             SELECT '{noise}';\nDROP TABLE IF EXISTS loaded;\nCREATE TABLE loaded (id INT, name VARCHAR(60));\n\
             LOAD DATA LOCAL INFILE '{}' INTO TABLE loaded;\nSELECT COUNT(*), MAX(id) FROM loaded;\nSELECT 42;\n",
            "y".repeat(17_000_000),
            file.display()
        );
        std::fs::write(&script, text).unwrap();
        client.arg("--local-infile=1").stdin(std::fs::File::open(&script).unwrap());
        let output = client.output().unwrap();
        assert!(output.status.success(), "{which}: {}\n{}", errors(&output), stand.gateway.log());
        let expected = format!(
            "17000000\n{}\n{}\n{noise}\n200000\t199999\n42\n",
            noise.len(),
            "z".repeat(17_000_000)
        );
        assert!(output.stdout == expected.as_bytes(), "{which}: {} bytes", output.stdout.len());
    }
}

fn a_rust_driver_compresses(flavour: Flavour) {
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
            .compression(Some(mysql_async::Compression::fast()))
            .prefer_socket(Some(false));
        let mut connection = Conn::new(options).await.unwrap();
        let rows: Vec<Row> = connection.query("SELECT id, name, ssn FROM customers").await.unwrap();
        assert_eq!(rows.len(), 2_000);
        let sql = "SELECT id, name, ssn FROM customers WHERE id = ?";
        for id in [1_u32, 77, 2_000] {
            let (found, name, ssn): (u32, String, String) =
                connection.exec_first(sql, (id,)).await.unwrap().unwrap();
            assert_eq!((found, name), (id, shop::customer(id).name));
            assert_ne!(ssn, shop::customer(id).ssn);
        }
        let long: Option<String> =
            connection.query_first("SELECT REPEAT('x', 10000000)").await.unwrap();
        assert_eq!(long.unwrap().len(), 10_000_000);
        connection.reset().await.unwrap();
        let answer: Option<u32> = connection.query_first("SELECT 42").await.unwrap();
        assert_eq!(answer, Some(42));
        connection.disconnect().await.unwrap();
    });
}

/// Compressed packets inside TLS records, on both legs.
#[test]
fn inside_tls() {
    if mysql::is_left_out() || mysql::is_elsewhere() {
        return;
    }
    let pair = tempfile::tempdir().unwrap();
    let mut make = Command::new(crate::stand::binary());
    make.args(["cert", "self-signed", "--host", "127.0.0.1", "--out"]).arg(pair.path());
    assert!(make.output().unwrap().status.success());
    let ca = std::cell::RefCell::new(std::path::PathBuf::new());
    let stand = Stand::after(
        Flavour::MySql,
        &[],
        |database| *ca.borrow_mut() = database.data().join("ca.pem"),
        |options| {
            options.upstream_tls = format!(
                "tls = \"verify-ca\"\ntls_ca = \"{}\"\ncompression = \"zstd\"",
                ca.borrow().display()
            );
            let [certificate, key] =
                ["rowgate.crt", "rowgate.key"].map(|name| pair.path().join(name));
            let (certificate, key) = (certificate.display(), key.display());
            options.more = format!("[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n");
        },
    );
    let token = stand.token("bot", "agents");
    let status = |name: &str| stand.sql_ok("bot", &token, &format!("SHOW STATUS LIKE '{name}'"));
    assert!(status("Ssl_cipher").contains("TLS_") && status("Compression").contains("ON"));
    for by in ["zlib", "zstd"] {
        let relay = Relay::to(stand.gateway.port);
        let mut client = mysql_client(relay.port(), &token, by).unwrap();
        client.arg("--ssl-mode=REQUIRED");
        let sql = "SELECT name, ssn FROM customers; SELECT REPEAT('x', 3000000)";
        let text = String::from_utf8(printed(client, sql, &stand)).unwrap();
        assert!(text.contains(&shop::customer(5).name) && !text.contains(&shop::customer(5).ssn));
        assert!(text.len() > 3_000_000 && relay.received().len() < 200_000, "{by}");
    }
}

/// Both legs compress, each by its own way; sessions that follow each other reset between.
fn the_database_is_asked_to_compress(flavour: Flavour) {
    let ways: &[&str] = if flavour == Flavour::MySql { &["zlib", "zstd"] } else { &["zlib"] };
    for by in ways {
        let stand = Stand::after(
            flavour,
            &["--max-allowed-packet=64M", "--local-infile=1"],
            |_| {},
            |options| {
                options.workers = 1;
                "max_statement_bytes = 67108864".clone_into(&mut options.server);
                options.upstream_tls.push_str(&format!("\ncompression = \"{by}\""));
            },
        );
        let token = stand.token("bot", "dumpers");
        // MariaDB counts the compressed; MySQL tells of the session.
        let on = stand.sql_ok("bot", &token, "SHOW STATUS LIKE 'Compression'");
        assert!(on.contains("ON"), "{by}: {on}");
        let file = stand.folder.path().join("rows.csv");
        std::fs::write(&file, rows(50_000)).unwrap();
        let long = stand.folder.path().join("long.sql");
        let text = format!(
            "CREATE TABLE loaded (id INT, name VARCHAR(60));\n\
             LOAD DATA LOCAL INFILE '{}' INTO TABLE loaded;\n\
             SELECT COUNT(*) FROM loaded;\nSELECT LENGTH('{}');\nSELECT LENGTH(REPEAT('z', 30000000));\n\
             SELECT REPEAT('z', 17000000);\nPREPARE p FROM 'SELECT 1 + ?';\nSET @a = 41;\nEXECUTE p USING @a;\n",
            file.display(),
            "y".repeat(17_000_000)
        );
        std::fs::write(&long, text).unwrap();
        let mut client = mariadb_client(stand.gateway.port, &token);
        client.arg("--local-infile=1").stdin(std::fs::File::open(&long).unwrap());
        let output = client.output().unwrap();
        assert!(output.status.success(), "{by}: {}\n{}", errors(&output), stand.gateway.log());
        let expected = format!("50000\n17000000\n30000000\n{}\n42\n", "z".repeat(17_000_000));
        assert!(output.stdout == expected.as_bytes(), "{by}: {} bytes", output.stdout.len());
        // Masks, on a connection that others had before.
        let agent = stand.token("agent", "agents");
        for id in [1, 5, 7] {
            let sql = format!("SELECT name, ssn FROM customers WHERE id = {id}");
            let row = stand.sql_ok("agent", &agent, &sql);
            assert!(
                row.contains(&shop::customer(id).name) && !row.contains(&shop::customer(id).ssn)
            );
        }
        assert!(stand.sql_refused("agent", &agent, "SELECT nonsense").contains("1054"));
        // One killed in the middle, by another compressed connection.
        stand.a_statement_dies_with_its_client(&token);
    }
}
