//! Who gets in, how, and what a failed login is told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use crate::stand::{Flavour, Stand, errors, on_both, wait_for};
use crate::wire::{Wire, text};

on_both!(
    a_wrong_token_says_1045_and_nothing_else,
    a_revoked_or_expired_token_runs_nothing_more,
    a_session_whose_login_ends_is_closed_where_that_is_wanted,
);

fn a_wrong_token_says_1045_and_nothing_else(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("bot", "agents");
    let wrong = stand.sql_refused("bot", "rgt_wrong", "SELECT 1");
    assert!(wrong.contains("ERROR 1045 (28000)"), "{wrong}");
    let unknown = stand.sql_refused("nobody", &token, "SELECT 1");
    assert!(unknown.contains("ERROR 1045 (28000)"), "{unknown}");
    assert_eq!(wrong.replace("'bot'", "'nobody'"), unknown, "one text for every failed login");
    assert!(!stand.gateway.log().contains(&token), "a token is in the log");
    assert!(stand.sql_ok("bot", &token, "SELECT 40 + 2").contains("42"));
    let refused = stand.gateway.metric("rowgate_logins_total{result=\"proof\"").unwrap();
    assert_eq!(refused, Some(1.0));
}

#[test]
fn failed_logins_are_limited() {
    let stand = Stand::start();
    let token = stand.token("bot", "agents");
    for _ in 0..70 {
        stand.sql_refused("bot", "rgt_wrong", "SELECT 1");
    }
    let limited = stand.sql("bot", &token, "SELECT 1");
    assert!(!limited.status.success(), "over 60 failures a minute, even the right token must wait");
    let counted = stand.gateway.metric("rowgate_logins_total{result=\"limit\"").unwrap();
    assert!(counted.unwrap_or(0.0) >= 1.0, "{}", errors(&limited));
}

#[test]
fn a_revoked_token_is_refused() {
    let stand = Stand::start();
    let token = stand.token("bot", "agents");
    stand.sql_ok("bot", &token, "SELECT 1");
    let list = stand.gateway.cli_ok(&["token", "list", "--output", "json"]).unwrap();
    assert!(!list.contains(&token), "the list shows a secret");
    let id = list.split('"').find(|word| word.starts_with("tok_")).unwrap().to_owned();
    stand.gateway.cli_ok(&["token", "revoke", &id]).unwrap();
    assert!(stand.sql_refused("bot", &token, "SELECT 1").contains("1045"));
}

fn a_revoked_or_expired_token_runs_nothing_more(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| options.wait_s = 30);
    let made = |more: &[&str]| {
        let words = ["token", "create", "--identity", "bot", "--group", "agents"];
        let words = [&words[..], more, &["--output", "json"]].concat();
        let text = stand.gateway.cli_ok(&words).unwrap();
        let word = |start: &str| text.split('"').find(|w| w.starts_with(start)).unwrap().to_owned();
        (word("tok_"), word("rgt_"))
    };
    let (id, token) = made(&[]);
    let mut client = stand.client("bot", &token);
    client.args(["--batch", "--unbuffered", "--skip-column-names", "--force", "--skip-reconnect"]);
    client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut live = client.spawn().unwrap();
    let mut input = live.stdin.take().unwrap();
    writeln!(input, "SELECT 40 + 2;").unwrap();
    let mut line = String::new();
    BufReader::new(live.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "42\n");
    let held = stand.spawn_sql("bot", &token, "DROP TABLE payments");
    let request = stand.pending();
    stand.gateway.cli_ok(&["token", "revoke", &id]).unwrap();
    writeln!(input, "SELECT id FROM shop.customers LIMIT 1;").unwrap();
    drop(input);
    let output = live.wait_with_output().unwrap();
    let said = errors(&output);
    assert!(said.contains("1045") && said.contains("RG-LOGIN"), "{said}");
    // Its session is ended, and the request with it; whoever approves before that sees the same.
    let _ = stand.gateway.cli(&["approvals", "approve", &request]).unwrap();
    let said = errors(&held.wait_with_output().unwrap());
    assert!(said.contains("RG-LOGIN"), "what was held ran for a revoked token: {said}");
    assert_eq!(stand.database.sql("SELECT COUNT(*) FROM shop.payments").unwrap().trim(), "12000");

    let (_, short) = made(&["--expires", "2s"]);
    let sql = "SELECT SLEEP(2.5); SELECT id FROM customers LIMIT 1";
    assert!(stand.sql_refused("bot", &short, sql).contains("RG-LOGIN"));
}

/// A token of bot's that ends in two seconds.
fn short(stand: &Stand) -> String {
    let words = ["token", "create", "--identity", "bot", "--group", "agents", "--expires", "2s"];
    stand.gateway.cli_ok(&words).unwrap().trim().to_owned()
}

fn a_session_whose_login_ends_is_closed_where_that_is_wanted(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| {
        "close_expired = true".clone_into(&mut options.server);
    });
    let (token, lasting) = (short(&stand), stand.token("dora", "agents"));
    let mut other = Wire::login(stand.gateway.port, "dora", &lasting, 0);
    let mut idle = Wire::login(stand.gateway.port, "bot", &token, 0);
    idle.query("SELECT id FROM customers LIMIT 1");
    let mut running = Wire::login(stand.gateway.port, "bot", &token, 0);
    let answer = running.query("SELECT SLEEP(3.5), 'finished'");
    assert!(text(&answer).contains("finished"), "a running statement finishes: {}", text(&answer));
    // Nobody has asked: it is told, and then closed.
    for mut ended in [idle, running] {
        let told = text(&[ended.packet()]);
        assert!(told.contains("RG-LOGIN") && told.contains("28000"), "{told}");
        assert!(ended.try_packet().is_none(), "it is closed");
    }
    assert!(text(&other.query("SELECT 40 + 2")).contains("42"), "another's goes on");
    wait_for("the record", || {
        let tail = ["audit", "tail", "-n", "50", "--output", "json"];
        stand.gateway.cli_ok(&tail).unwrap().contains("\"expired\"").then_some(())
    });
}

/// Without a word in the configuration, an idle session stays, and its next statement is refused.
#[test]
fn a_session_whose_login_ends_stays_until_its_next_statement() {
    let stand = Stand::start();
    let mut idle = Wire::login(stand.gateway.port, "bot", &short(&stand), 0);
    idle.query("SELECT 1");
    std::thread::sleep(std::time::Duration::from_secs(4));
    let open = stand.gateway.metric("rowgate_sessions").unwrap();
    assert_eq!(open, Some(1.0), "an idle session is left alone");
    let told = text(&idle.query("SELECT 1"));
    assert!(told.contains("RG-LOGIN"), "{told}");
}

#[test]
fn tls_with_a_self_signed_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(crate::stand::binary())
        .args(["cert", "self-signed", "--host", "127.0.0.1", "--host", "localhost", "--out"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", errors(&made));
    let (certificate, key) = (folder.path().join("rowgate.crt"), folder.path().join("rowgate.key"));
    let stand = Stand::with(|options| {
        options.more.push_str(&format!(
            "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
            certificate.display(),
            key.display()
        ));
    });
    let token = stand.token("bot", "agents");
    let mut client = stand.gateway.client("bot", &token);
    client.arg("--ssl-verify-server-cert").arg(format!("--ssl-ca={}", certificate.display()));
    let output =
        client.args(["--batch", "-e", "SHOW STATUS LIKE 'none'; SELECT 1"]).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let mut clear = stand.gateway.client("bot", &token);
    clear.arg("--ssl").arg(format!("--ssl-ca={}", certificate.display()));
    clear.args([
        "--default-auth=mysql_clear_password",
        "-e",
        "SELECT name FROM shop.customers LIMIT 500",
    ]);
    let output = clear.env("LIBMYSQL_ENABLE_CLEARTEXT_PLUGIN", "1").output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 501);
}

#[test]
fn a_token_is_good_as_soon_as_it_is_shown() {
    let stand = Stand::start();
    for n in 0..10 {
        let identity = format!("bot-{n}");
        let token = stand.token(&identity, "agents");
        stand.sql_ok(&identity, &token, "SELECT 1");
    }
}
