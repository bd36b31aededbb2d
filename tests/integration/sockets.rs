//! Unix sockets, towards clients and towards databases.

use std::cell::RefCell;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::{mariadb, sh, shop};

use crate::stand::{Flavour, Stand, errors, on_both};

on_both!(stock_clients_by_a_socket, the_database_by_its_socket);

fn listening(flavour: Flavour, socket: &Path, more: &str) -> Stand {
    Stand::on_with(flavour, |options| {
        let line = format!("\nsocket = \"{}\"\n{more}", socket.display());
        options.upstream_tls.push_str(&line);
    })
}

fn client(stand: &Stand, user: &str, token: &str, socket: &Path) -> Command {
    let mut client = stand.client(user, token);
    client
        .args(["--host=localhost", "--protocol=socket"])
        .arg(format!("--socket={}", socket.display()));
    client.args(["--batch", "-N", "--database=shop"]);
    client
}

fn stock_clients_by_a_socket(flavour: Flavour) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("made/shop.sock");
    let mut stand = listening(flavour, &socket, "");
    let token = stand.token("bot", "agents");
    let facts = std::fs::metadata(&socket).unwrap();
    assert!(facts.file_type().is_socket());
    assert_eq!(facts.permissions().mode() & 0o777, 0o600);

    let ask = |sql: &str| {
        let output = client(&stand, "bot", &token, &socket).args(["-e", sql]).output().unwrap();
        assert!(output.status.success(), "{}\n{}", errors(&output), stand.gateway.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let named = "SELECT name, ssn FROM customers WHERE id = 5";
    let row = ask(named);
    assert!(
        row.starts_with(&shop::customer(5).name) && !row.contains(&shop::customer(5).ssn),
        "{row}"
    );
    // More than one read, one write and one buffer.
    assert_eq!(ask("SELECT REPEAT('x', 3000000)").len(), 3_000_001);

    let script = format!(
        "import pymysql\n\
         c = pymysql.connect(unix_socket='{}', user='bot', password='{token}', database='shop')\n\
         k = c.cursor(); k.execute('SELECT COUNT(*) FROM customers'); print(k.fetchone())\n",
        socket.display()
    );
    let mut python = Command::new("python3");
    python.args(["-c", &script]).env("PYTHONPATH", sh::root().join("target/python"));
    let output = python.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("2000"), "{}", errors(&output));

    let wrong =
        client(&stand, "bot", "rgt_wrong", &socket).args(["-e", "SELECT 1"]).output().unwrap();
    assert!(errors(&wrong).contains("'bot'@'localhost'"), "{}", errors(&wrong));
    let record = stand.gateway.cli_ok(&["audit", "tail", "-n", "100", "--output", "json"]).unwrap();
    assert!(
        record.contains("\"source\":\"localhost\"") || record.contains("\"source\": \"localhost\"")
    );
    // TCP is there as well.
    stand.sql_ok("bot", &token, "SELECT 1");

    // What a crash leaves is replaced; an end in order leaves nothing.
    stand.gateway.kill().unwrap();
    assert!(socket.exists());
    stand.gateway.start_again().unwrap();
    let output = client(&stand, "bot", &token, &socket).args(["-e", "SELECT 42"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "42\n", "{}", errors(&output));
    assert!(stand.gateway.terminate().unwrap().success());
    assert!(!socket.exists());
}

fn the_database_by_its_socket(flavour: Flavour) {
    if flavour == Flavour::MySql && xtask::mysql::is_elsewhere() {
        return;
    }
    let socket: RefCell<PathBuf> = RefCell::default();
    let stand = Stand::after(
        flavour,
        &[],
        |database| {
            *socket.borrow_mut() = database.data().parent().unwrap().join("mysqld.sock");
            let (user, password) = (mariadb::SERVICE_USER, mariadb::SERVICE_PASSWORD);
            // On MySQL, caching_sha2_password with nothing in the cache: it asks for the whole password.
            let sql = format!(
                "CREATE USER {user}@localhost IDENTIFIED BY '{password}'; GRANT ALL ON *.* TO {user}@localhost"
            );
            database.sql(&sql).unwrap();
        },
        |options| options.address = Some(format!("unix:{}", socket.borrow().display())),
    );
    let token = stand.token("bot", "agents");
    assert_eq!(stand.sql_ok("bot", &token, "SELECT COUNT(*) FROM customers"), "COUNT(*)\n2000\n");
    let dumper = stand.token("backup", "dumpers");
    let user = stand.sql_ok("backup", &dumper, "SELECT USER()");
    assert!(user.ends_with("rowgate@localhost\n"), "{user}");
    assert_eq!(stand.sql_ok("bot", &token, "SELECT REPEAT('x', 3000000)").len(), 3_000_022);
    // A statement whose client goes is killed, over the socket as well.
    stand.a_statement_dies_with_its_client(&token);
}

#[test]
fn a_socket_may_be_all_there_is_and_has_the_rights_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("shop.sock");
    let stand = listening(Flavour::MariaDb, &socket, "socket_mode = 0o660\nsocket_gid = 12345");
    let facts = std::fs::metadata(&socket).unwrap();
    assert_eq!(facts.permissions().mode() & 0o777, 0o660);
    assert_eq!(std::os::unix::fs::MetadataExt::gid(&facts), 12_345);
    let token = stand.token("bot", "agents");
    // A second gateway does not take a socket on which one answers.
    let file = stand.gateway.dir().join("rowgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let listen = text.lines().find(|line| {
        line.starts_with("listen = ") && line.contains(&stand.gateway.port.to_string())
    });
    let without = text.replace(&format!("{}\n", listen.unwrap()), "");
    std::fs::write(&file, &without).unwrap();
    let mut second = Command::new(crate::stand::binary());
    let output = second
        .args(["serve", "--config"])
        .arg(&file)
        .env("ROWGATE_DEMO_PASSWORD", "x")
        .output()
        .unwrap();
    assert!(errors(&output).contains("another process answers on"), "{}", errors(&output));
    let output = client(&stand, "bot", &token, &socket).args(["-e", "SELECT 42"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "42\n", "{}", errors(&output));
    // Alone: no port is listened on.
    let mut stand = stand;
    stand.gateway.terminate().unwrap();
    stand.gateway.start_again().unwrap();
    let output = client(&stand, "bot", &token, &socket).args(["-e", "SELECT 42"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "42\n", "{}", errors(&output));
    assert!(std::net::TcpStream::connect(("127.0.0.1", stand.gateway.port)).is_err());
}
