//! How clients prove who they are: each method by a client that has it, at login and by COM_CHANGE_USER.

use std::process::{Command, Output};

use mysql_async::prelude::Queryable as _;
use mysql_async::{ChangeUserOpts, Conn, OptsBuilder};
use xtask::mysql;

use crate::stand::{Flavour, Stand, binary, errors, on_both};

on_both!(another_user_on_the_same_connection, mysqls_python_driver_by_every_plugin);

fn another_user_on_the_same_connection(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let (first, second) = (stand.token("first", "agents"), stand.token("second", "agents"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(stand.gateway.port)
            .user(Some("first"))
            .pass(Some(first.as_str()))
            .prefer_socket(Some(false));
        let mut connection = Conn::new(options).await.unwrap();
        connection.query_drop("SET @left = 1").await.unwrap();
        let options = || ChangeUserOpts::new().with_user(Some("second".to_owned()));
        let other = options().with_pass(Some(second)).with_db_name(Some("shop".to_owned()));
        for _ in 0..3 {
            connection.change_user(other.clone()).await.unwrap();
            let seen: Option<(Option<u8>, String)> =
                connection.query_first("SELECT @left, DATABASE()").await.unwrap();
            assert_eq!(seen, Some((None, "shop".to_owned())));
        }
        // The first one's token is no good for the second.
        let refused = connection.change_user(options().with_pass(Some(first))).await.unwrap_err();
        assert!(refused.to_string().contains("1045"), "{refused}");
    });
}

/// A stand whose gateway has a certificate, and the certificate's path.
fn with_tls(flavour: Flavour) -> (Stand, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let words = ["cert", "self-signed", "--host", "127.0.0.1", "--out"];
    let made = Command::new(binary()).args(words).arg(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", errors(&made));
    let at = |name: &str| folder.path().join(name).display().to_string();
    let stand = Stand::on_with(flavour, |options| {
        let (certificate, key) = (at("rowgate.crt"), at("rowgate.key"));
        options
            .more
            .push_str(&format!("[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n"));
    });
    (stand, folder)
}

fn mysqls_python_driver_by_every_plugin(flavour: Flavour) {
    let (stand, folder) = with_tls(flavour);
    let (first, second) = (stand.token("first", "agents"), stand.token("second", "agents"));
    let script = format!(
        r#"
import mysql.connector as m
from mysql.connector.errors import Error
base = dict(host="127.0.0.1", port={port}, use_pure=True, collation="utf8mb4_general_ci")
tls = dict(ssl_ca="{ca}", ssl_verify_cert=True)
plugins = ["mysql_native_password", "caching_sha2_password", "sha256_password", "mysql_clear_password"]
for inside in (False, True):
    for plugin in plugins + [None]:
        if plugin in ("mysql_clear_password", "sha256_password") and not inside:
            continue
        how = dict(base, **(tls if inside else dict(ssl_disabled=True)))
        if plugin:
            how["auth_plugin"] = plugin
        c = m.connect(user="first", password="{first}", **how)
        k = c.cursor()
        k.execute("SELECT COUNT(*) FROM shop.orders")
        assert k.fetchone() == (6000,), plugin
        c.cmd_change_user(username="second", password="{second}", database="shop")
        k = c.cursor()
        k.execute("SELECT DATABASE()")
        assert k.fetchone() == ("shop",), plugin
        c.close()
        try:
            m.connect(user="first", password="{second}", **how)
            raise SystemExit("logged in with another's token by %s" % plugin)
        except Error as e:
            print(inside, plugin, e.errno, str(e).split(": ", 1)[1])
"#,
        port = stand.gateway.port,
        ca = folder.path().join("rowgate.crt").display(),
    );
    let packages = xtask::sh::root().join("target/python");
    assert!(packages.join("mysql/connector").exists(), "run `cargo xtask setup`");
    let output =
        Command::new("python3").args(["-c", &script]).env("PYTHONPATH", packages).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}\n{}", errors(&output), stand.gateway.log());
    let told: Vec<&str> =
        text.lines().filter_map(|line| line.split_once(" 1045 ")).map(|l| l.1).collect();
    assert_eq!(told.len(), 8, "{text}");
    assert!(told.iter().all(|said| *said == told[0]), "one text for every failed login: {text}");
}

#[test]
fn mysqls_own_client_inside_and_outside_tls() {
    if mysql::is_left_out() {
        return;
    }
    let (stand, folder) = with_tls(Flavour::MySql);
    let token = stand.token("bot", "agents");
    let ca = format!("--ssl-ca={}", folder.path().join("rowgate.crt").display());
    let run = |token: &str, more: &[&str]| -> Output {
        let mut client = stand.client("bot", token);
        client.args(more).args(["--batch", "-e", "SELECT COUNT(*) FROM shop.orders"]);
        client.output().unwrap()
    };
    for more in [
        &["--ssl-mode=DISABLED"][..],
        &["--ssl-mode=VERIFY_CA", &ca],
        &[
            "--ssl-mode=VERIFY_CA",
            &ca,
            "--enable-cleartext-plugin",
            "--default-auth=mysql_clear_password",
        ],
        // Plugins that the gateway does not have.
        &["--ssl-mode=DISABLED", "--default-auth=sha256_password", "--get-server-public-key"],
        &["--ssl-mode=VERIFY_CA", &ca, "--default-auth=sha256_password"],
    ] {
        let output = run(&token, more);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("6000"), "{more:?}: {}", errors(&output));
        let refused = errors(&run("rgt_wrong", more));
        assert!(refused.contains("ERROR 1045 (28000)"), "{more:?}: {refused}");
    }
}

/// With a key for logins, a wrong token is asked for anew, sealed; that it is wrong is told as always.
#[test]
fn secrets_sealed_outside_tls() {
    if mysql::is_left_out() {
        return;
    }
    let stand = Stand::on_with(Flavour::MySql, |options| {
        options.server = "login_key = \"generated\"".to_owned();
    });
    let token = stand.token("bot", "agents");
    let run = |token: &str, more: &[&str]| -> Output {
        let mut client = stand.client("bot", token);
        client.args(more).args(["--ssl-mode=DISABLED", "--batch", "-e", "SELECT 40 + 2"]);
        client.output().unwrap()
    };
    assert!(String::from_utf8_lossy(&run(&token, &[]).stdout).contains("42"));
    let asked = errors(&run("rgt_wrong", &["--get-server-public-key"]));
    assert!(asked.contains("ERROR 1045 (28000)"), "{asked}");
    let gave_up = errors(&run("rgt_wrong", &[]));
    assert!(gave_up.contains("ERROR 2061"), "the client wants TLS or the key: {gave_up}");
    crate::stand::wait_for("both to count", || {
        let refused = stand.gateway.metric("rowgate_logins_total{result=\"proof\"").unwrap();
        (refused == Some(2.0)).then_some(())
    });
}
