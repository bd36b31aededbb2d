//! What becomes of gateway tokens: limited, used, rotated, revoked; and of identities, however they log in.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use xtask::gateway::Options;
use xtask::issuer::Issuer;
use xtask::{mariadb, sh};

use crate::certificates::{ca, client, uri};
use crate::relay::Relay;
use crate::stand::{Flavour, Stand, errors, on_both, wait_for};

on_both!(
    a_revoked_identity_is_out_whichever_way_it_came,
    a_revoked_token_ends_its_sessions,
    a_scope_is_what_a_token_opens,
    a_rotated_token_ends_after_the_overlap,
);

/// A token for the identity `bot` in the group `agents`: its id, and the token itself.
fn made(stand: &Stand, more: &[&str]) -> (String, String) {
    let words = ["token", "create", "--identity", "bot", "--group", "agents", "--output", "json"];
    both(&stand.gateway.cli_ok(&[&words[..], more].concat()).unwrap())
}

fn both(answer: &str) -> (String, String) {
    let word = |start: &str| answer.split('"').find(|w| w.starts_with(start)).unwrap().to_owned();
    (word("tok_"), word("rgt_"))
}

fn record(stand: &Stand) -> String {
    stand.gateway.cli_ok(&["audit", "tail", "-n", "500", "--output", "json"]).unwrap()
}

/// How a session got in.
struct Way<'a> {
    user: &'a str,
    password: &'a str,
    pair: Option<&'a Path>,
}

/// A driver's session that is logged in and then runs this, or waits where it is nothing; it prints how that ends.
fn session(stand: &Stand, way: &Way<'_>, sql: &str) -> Child {
    let port = stand.gateway.port;
    let Way { user, password, pair } = way;
    let chain = pair.map_or(String::new(), |pair| {
        let pair = pair.display();
        format!("tls.load_cert_chain('{pair}/client.crt', '{pair}/client.key')")
    });
    let script = format!(
        r#"
import pymysql, ssl
tls = ssl.create_default_context()
tls.check_hostname = False
tls.verify_mode = ssl.CERT_NONE
{chain}
c = pymysql.connect(host="127.0.0.1", port={port}, user="{user}", password="{password}", database="shop", ssl=tls)
k = c.cursor()
k.execute("SELECT COUNT(*) FROM customers")
print("ready", k.fetchone(), flush=True)
sql = "{sql}"
try:
    if sql:
        k.execute(sql)
        print("it ran", k.fetchall())
    else:
        print(c._rfile.read())
except Exception as e:
    print(repr(e))
"#
    );
    let mut python = Command::new("python3");
    python.args(["-c", &script]).env("PYTHONPATH", sh::root().join("target/python"));
    let piped = python.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("ready"), "{user}: {line}{}", stand.gateway.log());
    child
}

/// (Not SLEEP, which some databases end without an error.)
const ENDLESS: &str = "SELECT BENCHMARK(1000000000000, SHA2('x', 256))";

fn wait_until_it_runs(stand: &Stand, times: usize) {
    let runs = || stand.database.sql("SHOW FULL PROCESSLIST").unwrap().matches("BENCHMARK").count();
    wait_for("the statements upstream", || (runs() == times).then_some(()));
}

/// What a session printed at its end, which comes soon; a second on a machine of one's own.
fn end_of(what: &str, mut child: Child) -> String {
    let since = Instant::now();
    wait_for(what, || child.try_wait().unwrap());
    assert!(since.elapsed() < Duration::from_secs(10), "{what}: {:?}", since.elapsed());
    let output = child.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), errors(&output))
}

/// A gateway into which one gets by a token, an issuer's token, and a certificate.
fn three_ways(flavour: Flavour, folder: &Path, issuer: &Issuer) -> (Stand, PathBuf) {
    crate::tls::make_pair(folder);
    let ca = ca();
    fs::write(folder.join("ca.crt"), ca.pem()).unwrap();
    let pair = client(folder, "bot", &ca, uri("spiffe://prod.example/agent/etl-bot"), false);
    let tables = format!(
        r#"
[tls]
certificate = "{0}/rowgate.crt"
key = "{0}/rowgate.key"
client_ca = "{0}/ca.crt"
client_certificates = "optional"

[[certificates]]
name = "uri:spiffe://prod.example/agent/*"
groups = ["agents"]
kind = "agent"

{1}
"#,
        folder.display(),
        issuer.table("")
    );
    let change = |options: &mut Options| {
        options.more = tables;
        options.wait_s = 30;
    };
    (Stand::on_with(flavour, change), pair)
}

fn a_revoked_identity_is_out_whichever_way_it_came(flavour: Flavour) {
    let issuer = Issuer::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (stand, pair) = three_ways(flavour, folder.path(), &issuer);
    let token = stand.token("etl-bot", "agents");
    let signed = issuer.of_etl_bot().unwrap();
    let ways = [
        Way { user: "etl-bot", password: &token, pair: None },
        Way { user: "etl-bot", password: &signed, pair: None },
        Way { user: "oidc", password: &signed, pair: None },
        Way { user: "etl-bot;run=7", password: "", pair: Some(&pair) },
    ];
    let other_token = stand.token("other", "agents");
    let other = session(&stand, &Way { user: "other", password: &other_token, pair: None }, "");
    let mut live = Vec::new();
    for way in &ways {
        live.extend(["", ENDLESS].map(|sql| session(&stand, way, sql)));
    }
    wait_until_it_runs(&stand, ways.len());
    let words = ["identity", "revoke", "etl-bot", "--reason", "a leak"];
    stand.gateway.cli_ok(&words).unwrap();
    for (at, child) in live.into_iter().enumerate() {
        let said = end_of("the end of a revoked session", child);
        assert!(said.contains("RG-LOGIN") && said.contains("revoked"), "{at}: {said}");
    }
    wait_until_it_runs(&stand, 0);
    let sessions = stand.gateway.cli_ok(&["sessions", "list"]).unwrap();
    assert!(sessions.contains("other") && !sessions.contains("etl-bot"), "{sessions}");
    let refused = |way: &Way<'_>| {
        let mut client = stand.client(way.user, way.password);
        match stand.flavour {
            Flavour::MariaDb => client.arg("--ssl"),
            Flavour::MySql => client.arg("--ssl-mode=REQUIRED"),
        };
        if let Some(pair) = way.pair {
            client.env_remove("MYSQL_PWD");
            client.arg(format!("--ssl-cert={}", pair.join("client.crt").display()));
            client.arg(format!("--ssl-key={}", pair.join("client.key").display()));
        }
        client.args(["--batch", "-e", "SELECT 1"]).output().unwrap()
    };
    for way in &ways {
        let output = refused(way);
        let said = errors(&output);
        assert!(!output.status.success(), "{}", way.user);
        // (Without a password, MySQL's own client is asked for a token's file, and has none.)
        let has_no_file = flavour == Flavour::MySql && way.password.is_empty();
        assert!(has_no_file || said.contains("ERROR 1045 (28000): Access denied"), "{said}");
    }
    let counted = stand.gateway.metric("rowgate_logins_total{result=\"revoked\"").unwrap();
    assert!(counted.unwrap_or(0.0) >= 3.0);
    let listed = stand.gateway.cli_ok(&["identity", "list", "--revoked"]).unwrap();
    assert!(listed.contains("etl-bot") && listed.contains("a leak") && !listed.contains("other"));
    stand.gateway.cli_ok(&["identity", "restore", "etl-bot"]).unwrap();
    for way in &ways {
        let output = refused(way);
        assert!(output.status.success(), "{}: {}", way.user, errors(&output));
    }
    let record = record(&stand);
    assert!(record.contains("identity.revoke") && record.contains("identity.restore"));
    stand.gateway.cli_ok(&["identity", "revoke", "other"]).unwrap();
    assert!(end_of("the other's end", other).contains("RG-LOGIN"));
}

fn a_revoked_token_ends_its_sessions(flavour: Flavour) {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::start().unwrap();
    let (stand, _) = three_ways(flavour, folder.path(), &issuer);
    let (id, token) = made(&stand, &[]);
    let (_, other) = made(&stand, &[]);
    let way = |password| Way { user: "bot", password, pair: None };
    let (idle, running) =
        (session(&stand, &way(&token), ""), session(&stand, &way(&token), ENDLESS));
    let mut stays = session(&stand, &way(&other), ENDLESS);
    let held = stand.spawn_sql("bot", &token, "DROP TABLE payments");
    stand.pending();
    wait_until_it_runs(&stand, 2);
    stand.gateway.cli_ok(&["token", "revoke", &id]).unwrap();
    assert!(end_of("the end of what is held", held).contains("RG-LOGIN"));
    wait_for("the request's end", || stand.nothing_pending().then_some(()));
    for child in [idle, running] {
        let said = end_of("the end of a revoked token's session", child);
        assert!(said.contains("RG-LOGIN") && said.contains("revoked"), "{said}");
    }
    // Another token of the same identity is not touched.
    wait_until_it_runs(&stand, 1);
    assert!(stays.try_wait().unwrap().is_none());
    assert!(record(&stand).contains("\"revoked\""));
    stays.kill().unwrap();
    stays.wait().unwrap();
}

#[test]
fn what_is_taken_out_of_the_configuration_ends_idle_sessions() {
    let issuer = Issuer::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (stand, pair) = three_ways(Flavour::MariaDb, folder.path(), &issuer);
    let (token, signed) = (stand.token("etl-bot", "agents"), issuer.of_etl_bot().unwrap());
    let way = |password, pair| Way { user: "etl-bot", password, pair };
    let by_token = session(&stand, &way(&token, None), "");
    let by_issuer = session(&stand, &way(&signed, None), "");
    let by_certificate = session(&stand, &way("", Some(&pair)), "");
    let file = stand.gateway.dir().join("rowgate.toml");
    let text = fs::read_to_string(&file).unwrap();
    let without = text.split("[[certificates]]").next().unwrap();
    fs::write(&file, without).unwrap();
    stand.gateway.cli_ok(&["reload"]).unwrap();
    for child in [by_issuer, by_certificate] {
        let said = end_of("the end of a withdrawn session", child);
        assert!(said.contains("RG-LOGIN") && said.contains("has ended"), "{said}");
    }
    stand.gateway.cli_ok(&["identity", "revoke", "etl-bot"]).unwrap();
    assert!(end_of("the last one's end", by_token).contains("revoked"));
}

/// COM_CHANGE_USER: the session rests on what it was changed to, and on that only.
#[test]
fn a_changed_user_s_session_ends_with_the_second_token() {
    let stand = Stand::start();
    let (first_id, first) = made(&stand, &[]);
    let (second_id, second) = made(&stand, &["--target", "shop"]);
    let (_, elsewhere) = made(&stand, &["--from", "192.0.2.0/24"]);
    let script = format!(
        r#"
import mysql.connector, time
def connect():
    return mysql.connector.connect(host="127.0.0.1", port={port}, user="bot", password="{first}", database="shop", ssl_disabled=True, use_pure=True, collation="utf8mb4_general_ci")
try:
    connect().cmd_change_user(username="bot", password="{elsewhere}", database="shop")
    print("changed to a token of elsewhere", flush=True)
except mysql.connector.Error as e:
    print("refused", e.errno, flush=True)
c = connect()
c.cmd_change_user(username="bot", password="{second}", database="shop")
print("ready", flush=True)
try:
    while True:
        c.ping(reconnect=False)
        time.sleep(0.1)
except mysql.connector.Error as e:
    print("ended", e)
"#,
        port = stand.gateway.port
    );
    let mut python = Command::new("python3");
    python.args(["-c", &script]).env("PYTHONPATH", sh::root().join("target/python"));
    let piped = python.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut line = || lines.next().unwrap_or_default();
    assert_eq!(line(), "refused 1045", "{}", stand.gateway.log());
    assert_eq!(line(), "ready", "{}", stand.gateway.log());
    stand.gateway.cli_ok(&["token", "revoke", &first_id]).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert!(child.try_wait().unwrap().is_none(), "{}", line());
    stand.gateway.cli_ok(&["token", "revoke", &second_id]).unwrap();
    let said = end_of("the end of the changed session", child);
    let last = line();
    assert!(last.starts_with("ended"), "{last}{said}");
}

/// Through something that says where the client is.
fn from(stand: &Stand, address: &str, token: &str) -> Output {
    let header = format!("PROXY TCP4 {address} 198.51.100.1 4711 3306\r\n");
    let relay = Relay::announcing(stand.gateway.port, header.as_bytes());
    at(stand, relay.port(), token)
}

fn at(stand: &Stand, port: u16, token: &str) -> Output {
    let mut client = stand.client("bot", token);
    client.arg(format!("--port={port}")).args(["--batch", "-N", "-e", "SELECT 40 + 2"]);
    client.output().unwrap()
}

fn a_scope_is_what_a_token_opens(flavour: Flavour) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("shop.sock");
    let second = mariadb::free_port().unwrap();
    let stand = Stand::on_with(flavour, |options| {
        "proxy_protocol_from = [\"127.0.0.1\"]".clone_into(&mut options.server);
        let (database, tls) = (options.database_port, options.upstream_tls.clone());
        options.upstream_tls.push_str(&format!("\nsocket = \"{}\"\n", socket.display()));
        options.more = format!(
            "[[targets]]\nname = \"crm\"\nlisten = \"127.0.0.1:{second}\"\naddress = \"127.0.0.1:{database}\"\n\
             user = \"rowgate\"\npassword = \"env:ROWGATE_DEMO_PASSWORD\"\n{tls}\n"
        );
    });
    let by_socket = |token: &str| {
        let mut client = stand.client("bot", token);
        client.args(["--host=localhost", "--protocol=socket"]);
        client.arg(format!("--socket={}", socket.display()));
        client.args(["--batch", "-N", "-e", "SELECT 40 + 2"]).output().unwrap()
    };
    let at_crm = |token: &str| {
        let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 3306\r\n";
        at(&stand, Relay::announcing(second, header).port(), token)
    };
    let ok = |output: &Output| output.status.success() && output.stdout == b"42\n";
    let (_, all) = made(&stand, &[]);
    let (_, shop) = made(&stand, &["--target", "shop"]);
    let (_, two) = made(&stand, &["--target", "shop", "crm"]);
    let (_, near) = made(&stand, &["--from", "192.0.2.0/24", "2001:db8::/32"]);
    let (_, balancer) = made(&stand, &["--from", "127.0.0.1"]);
    let inside = |token: &str| from(&stand, "192.0.2.7", token);
    for (what, output) in [
        ("all", inside(&all)),
        ("all, socket", by_socket(&all)),
        ("all, crm", at_crm(&all)),
        ("shop", inside(&shop)),
        ("shop, socket", by_socket(&shop)),
        ("two, crm", at_crm(&two)),
        ("near", inside(&near)),
        ("near, crm", at_crm(&near)),
    ] {
        assert!(ok(&output), "{what}: {}\n{}", errors(&output), stand.gateway.log());
    }
    let wrong = errors(&inside("rgt_wrong"));
    assert!(wrong.contains("ERROR 1045 (28000)"), "{wrong}");
    for (what, output, host) in [
        ("shop's token at crm", at_crm(&shop), "192.0.2.7"),
        ("from elsewhere", from(&stand, "198.51.100.9", &near), "198.51.100.9"),
        // The balancer's own address is not the client's.
        ("from behind the balancer", inside(&balancer), "192.0.2.7"),
        ("a socket has no address", by_socket(&near), "localhost"),
        ("not this machine's either", by_socket(&balancer), "localhost"),
    ] {
        assert!(!output.status.success(), "{what}");
        assert_eq!(errors(&output), wrong.replace("192.0.2.7", host), "{what}");
    }
    let counted = stand.gateway.metric("rowgate_logins_total{result=\"scope\"").unwrap();
    assert_eq!(counted, Some(5.0));
    assert!(record(&stand).contains("\"scope\""));
    let listed = stand.gateway.cli_ok(&["token", "list"]).unwrap();
    assert!(listed.contains("crm,shop") && listed.contains("from 192.0.2.0/24,2001:db8::/32"));
    let json = stand.gateway.cli_ok(&["token", "list", "--output", "json"]).unwrap();
    assert!(json.contains("\"2001:db8::/32\"") && json.contains("\"crm\""), "{json}");
    for bad in [["--target", "shp"], ["--from", "192.0.2.7/24"], ["--from", "anywhere"]] {
        let words = [&["token", "create", "--identity", "bot"][..], &bad].concat();
        assert_eq!(stand.gateway.cli(&words).unwrap().status.code(), Some(2), "{bad:?}");
    }
}

#[test]
fn the_last_use_of_a_token_outlives_the_gateway() {
    let mut stand = Stand::start();
    let (id, token) = made(&stand, &[]);
    let list = |stand: &Stand| stand.gateway.cli_ok(&["token", "list"]).unwrap();
    assert!(list(&stand).contains("never"));
    assert!(!stand.sql("bot", "rgt_wrong", "SELECT 1").status.success());
    stand.sql_ok("bot", &token, "SELECT 1");
    wait_for("the use in the list", || list(&stand).contains("Z from 127.0.0.1").then_some(()));
    // What ends a gateway in an orderly way takes along what was used last; a crash, what was flushed.
    let json =
        |stand: &Stand| stand.gateway.cli_ok(&["token", "list", "--output", "json"]).unwrap();
    let used = |text: &str| {
        let rest = text.split("\"used_us\": ").nth(1).unwrap();
        rest.split(',').next().unwrap().parse::<i64>().unwrap()
    };
    let first = used(&json(&stand));
    stand.gateway.kill().unwrap();
    assert_eq!(used(&json(&stand)), first, "without a gateway, from the store");
    stand.gateway.start_again().unwrap();
    stand.sql_ok("bot", &token, "SELECT 1");
    stand.gateway.terminate().unwrap();
    let last = used(&json(&stand));
    assert!(last > first);
    // Without a gateway, tokens are rotated and identities revoked all the same.
    let (_, new) =
        both(&stand.gateway.cli_ok(&["token", "rotate", &id, "--output", "json"]).unwrap());
    let other = stand.token("other", "agents");
    stand.gateway.cli_ok(&["identity", "revoke", "other"]).unwrap();
    assert!(!stand.gateway.cli(&["identity", "revoke", "other"]).unwrap().status.success());
    stand.gateway.start_again().unwrap();
    assert!(json(&stand).contains(&last.to_string()));
    stand.sql_ok("bot", &new, "SELECT 1");
    assert!(stand.sql_refused("other", &other, "SELECT 1").contains("1045"));
}

fn a_rotated_token_ends_after_the_overlap(flavour: Flavour) {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::start().unwrap();
    let (stand, _) = three_ways(flavour, folder.path(), &issuer);
    let way = |password| Way { user: "bot", password, pair: None };
    let (id, old) = made(&stand, &["--target", "shop"]);
    let rotate = |id: &str, overlap: &str| {
        let words = ["token", "rotate", id, "--overlap", overlap, "--output", "json"];
        both(&stand.gateway.cli_ok(&words).unwrap())
    };
    // A session of the old one, which waits for the end of the overlap within a statement, and is then refused another.
    let begun = Instant::now();
    let sql = "SELECT SLEEP(8); SELECT id FROM customers LIMIT 1";
    let live = stand.spawn_sql("bot", &old, sql);
    wait_for("the statement upstream", || {
        stand.database.sql("SHOW FULL PROCESSLIST").unwrap().contains("SLEEP(8)").then_some(())
    });
    let (second_id, second) = rotate(&id, "4s");
    stand.sql_ok("bot", &old, "SELECT 1");
    stand.sql_ok("bot", &second, "SELECT 1");
    let output = live.wait_with_output().unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(8));
    assert!(String::from_utf8_lossy(&output.stdout).contains("SLEEP(8)\n0"), "it was let finish");
    assert!(errors(&output).contains("RG-LOGIN"), "{}", errors(&output));
    assert!(stand.sql_refused("bot", &old, "SELECT 1").contains("1045"));
    assert!(!stand.gateway.cli(&["token", "rotate", &id]).unwrap().status.success());
    // At once.
    let idle = session(&stand, &way(&second), "");
    let (_, third) = rotate(&second_id, "0s");
    assert!(end_of("the end of a rotated token's session", idle).contains("revoked"));
    assert!(stand.sql_refused("bot", &second, "SELECT 1").contains("1045"));
    stand.sql_ok("bot", &third, "SELECT 1");
    let listed = stand.gateway.cli_ok(&["token", "list", "--output", "json"]).unwrap();
    assert_eq!(listed.matches("\"shop\"").count(), 3, "the scope goes along");
    assert!(record(&stand).contains("token.rotate"));
}
