//! The PROXY protocol: from balancers in front, HAProxy among them, and to the database behind.

use std::collections::HashSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rowgate::codec::ProxyHeader;
use xtask::gateway::Options;
use xtask::{mariadb, sh};

use crate::relay::Relay;
use crate::stand::{Flavour, Stand, errors, wait_for};

fn trusting(options: &mut Options) {
    "proxy_protocol_from = [\"10.0.0.0/8\", \"127.0.0.1\"]".clone_into(&mut options.server);
}

fn v1(source: &str) -> Vec<u8> {
    format!("PROXY TCP4 {source} 198.51.100.1 4711 3306\r\n").into_bytes()
}

fn v2(source: Option<&str>) -> Vec<u8> {
    let mut header = Vec::new();
    ProxyHeader::write(&mut header, source.map(|source| source.parse::<IpAddr>().unwrap()));
    header
}

/// `v2`, with so many bytes of TLVs.
fn v2_with(source: &str, more: u16) -> Vec<u8> {
    let mut header = v2(Some(source));
    header[14..16].copy_from_slice(&(12 + more).to_be_bytes());
    header.resize(header.len() + usize::from(more), 0xEA);
    header
}

/// Runs SQL through something in front; what came out, or the error.
fn through(port: u16, stand: &Stand, token: &str, sql: &str) -> Result<String, String> {
    let mut client = stand.client("bot", token);
    client.arg(format!("--port={port}")).args(["--batch", "-N", "--database=shop", "-e", sql]);
    let output = client.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    if output.status.success() { Ok(text) } else { Err(errors(&output)) }
}

/// Where the last session came from, by the record.
fn recorded_source(stand: &Stand) -> String {
    let tail = ["audit", "tail", "-n", "100", "--output", "json"];
    wait_for("a session in the record", || {
        let record = stand.gateway.cli_ok(&tail).unwrap();
        let at = record.rfind("\"source\"")?;
        record[at..].split('"').nth(3).map(str::to_owned)
    })
}

#[test]
fn the_header_s_address_is_the_client_s() {
    let stand = Stand::with(trusting);
    let token = stand.token("bot", "agents");
    let policy = stand.gateway.dir().join("policy.cedar");
    let text = fs::read_to_string(&policy).unwrap();
    let rule = "@id(\"not-from-there\") forbid (principal, action, resource) \
                when { context has source && context.source == \"192.0.2.66\" };";
    fs::write(&policy, format!("{text}\n{rule}\n")).unwrap();
    stand.gateway.cli_ok(&["reload"]).unwrap();
    for (header, source) in [
        (v1("192.0.2.7"), "192.0.2.7"),
        (v2(Some("192.0.2.8")), "192.0.2.8"),
        (v2(Some("2001:db8::9")), "2001:db8::9"),
        (v2(Some("::ffff:192.0.2.10")), "192.0.2.10"),
        (v2_with("192.0.2.11", 3_000), "192.0.2.11"),
        (v2(None), "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
    ] {
        let relay = Relay::announcing(stand.gateway.port, &header);
        let answer = through(relay.port(), &stand, &token, "SELECT COUNT(*) FROM customers");
        assert_eq!(answer.as_deref(), Ok("2000"), "{source}: {}", stand.gateway.log());
        assert_eq!(recorded_source(&stand), source);
    }
    let relay = Relay::announcing(stand.gateway.port, &v1("192.0.2.66"));
    let refused = through(relay.port(), &stand, &token, "SELECT COUNT(*) FROM customers");
    assert!(refused.unwrap_err().contains("not-from-there"));
    // An error that names a host names this one.
    let refused = through(relay.port(), &stand, "rgt_wrong", "SELECT 1");
    assert!(refused.unwrap_err().contains("'bot'@'192.0.2.66'"));
}

/// Connects, sends and hears what comes until the end.
fn heard(port: u16, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    stream.write_all(sent).unwrap();
    // A reset is an end as well, and may be here already: what was sent last is not read by who
    // refuses. What was answered before it is read all the same.
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn says(answer: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(answer).contains(text)
}

#[test]
fn who_is_not_listed_may_not_bring_a_header() {
    let stand = Stand::with(|options| {
        "proxy_protocol_from = [\"10.0.0.0/8\"]".clone_into(&mut options.server);
    });
    let token = stand.token("bot", "agents");
    for header in [v1("192.0.2.7"), v2(Some("192.0.2.7")), v2(None)] {
        let answer = heard(stand.gateway.port, &header);
        assert!(says(&answer, "RG-PROTOCOL"), "{}", answer.escape_ascii());
        let relay = Relay::announcing(stand.gateway.port, &header);
        through(relay.port(), &stand, &token, "SELECT 1").unwrap_err();
    }
    stand.sql_ok("bot", &token, "SELECT 1");
    assert!(
        !stand
            .gateway
            .cli_ok(&["audit", "tail", "--output", "json"])
            .unwrap()
            .contains("192.0.2.7")
    );
}

#[test]
fn who_is_listed_must_bring_one_whole_one() {
    let stand = Stand::with(|options| {
        "proxy_protocol_from = [\"127.0.0.0/8\"]\nlogin_timeout_s = 1"
            .clone_into(&mut options.server);
    });
    let token = stand.token("bot", "agents");
    let missing = "begins with a PROXY header";
    // A server speaks first, so a client that brings none is told so when its time is over.
    let error = through(stand.gateway.port, &stand, &token, "SELECT 1").unwrap_err();
    assert!(error.contains("1156") && error.contains(missing), "{error}");
    let too_long = v2_with("192.0.2.7", 5_000);
    for bad in [&b"\x20\0\0\x01\x85\xa6\xff\x19"[..], b"PROXY TCP4 192.0.2.7\r\n", &too_long] {
        let answer = heard(stand.gateway.port, bad);
        assert!(says(&answer, missing), "{}", answer.escape_ascii());
    }
    // Nothing but the greeting follows half a header, and that not.
    assert!(heard(stand.gateway.port, &v1("192.0.2.7")[..20]).is_empty());
    let refused = stand.gateway.metric("rowgate_logins_total{result=\"proxy\"}").unwrap();
    assert_eq!(refused, Some(4.0));
    assert!(says(&heard(stand.gateway.port, &v1("192.0.2.7")), "mysql_native_password"));
}

#[test]
fn failed_logins_are_counted_by_the_header_s_address() {
    let stand = Stand::with(|options| {
        trusting(options);
        options.server.push_str("\nfailed_logins_per_minute = 2");
    });
    let token = stand.token("bot", "agents");
    let [bad, good] =
        ["192.0.2.7", "192.0.2.8"].map(|a| Relay::announcing(stand.gateway.port, &v1(a)));
    for _ in 0..2 {
        through(bad.port(), &stand, "rgt_wrong", "SELECT 1").unwrap_err();
    }
    through(bad.port(), &stand, &token, "SELECT 1").unwrap_err();
    through(good.port(), &stand, &token, "SELECT 1").unwrap();
}

/// A name that many addresses try is answered later and later, whether it is anybody's or not; with the right token its owner
/// is let in all the same, from wherever, and waits for nothing.
#[test]
fn a_name_is_not_guessed_from_many_addresses_at_once() {
    let stand = Stand::with(trusting);
    let token = stand.token("bot", "agents");
    let from = |n: u8| Relay::announcing(stand.gateway.port, &v1(&format!("192.0.2.{n}")));
    let delays = |by: &str| {
        let name = format!("rowgate_login_delays_total{{by=\"{by}\"}}");
        stand.gateway.metric(&name).unwrap().unwrap()
    };
    let wrong = |user: &str, n: u8| {
        let mut client = stand.client(user, "rgt_wrong");
        client.arg(format!("--port={}", from(n).port())).args(["--batch", "-e", "SELECT 1"]);
        errors(&client.output().unwrap())
    };
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for n in 1..=5 {
        known.push(wrong("bot", n).replace("'bot'", "USER"));
    }
    assert_eq!((delays("address"), delays("name")), (1.0, 4.0), "of a known name");
    for n in 11..=15 {
        unknown
            .push(wrong("nobody", n).replace("'nobody'", "USER").replace("192.0.2.1", "192.0.2."));
    }
    assert_eq!((delays("address"), delays("name")), (2.0, 8.0), "of an unknown one");
    assert!(known[0].contains("ERROR 1045") && known == unknown, "{known:?} {unknown:?}");
    through(from(9).port(), &stand, &token, "SELECT 1").unwrap();
    through(from(1).port(), &stand, &token, "SELECT 1").unwrap();
    assert_eq!(
        (delays("address"), delays("name")),
        (2.0, 8.0),
        "the right token waits for nothing"
    );
}

/// HAProxy in front of a port, with this option on its server; ended when dropped.
struct Haproxy {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Haproxy {
    fn start(option: &str, to: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = mariadb::free_port().unwrap();
        let file = folder.path().join("haproxy.cfg");
        let config = format!(
            "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
             listen front\n  bind 127.0.0.1:{port}\n  server gateway 127.0.0.1:{to} {option} check inter 200\n"
        );
        fs::write(&file, config).unwrap();
        let mut haproxy = Command::new(
            sh::find_program("haproxy").expect("haproxy is missing: run `cargo xtask setup`"),
        );
        haproxy.arg("-db").arg("-f").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let child = haproxy.spawn().unwrap();
        wait_for("HAProxy", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
        Self { child, port, _folder: folder }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn haproxy_in_front_with_tls_behind_the_header() {
    let pair = tempfile::tempdir().unwrap();
    let mut make = Command::new(crate::stand::binary());
    make.args(["cert", "self-signed", "--host", "127.0.0.1", "--out"]).arg(pair.path());
    assert!(make.output().unwrap().status.success());
    let stand = Stand::with(|options| {
        trusting(options);
        let [certificate, key] = ["rowgate.crt", "rowgate.key"].map(|name| pair.path().join(name));
        options.more = format!(
            "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
            certificate.display(),
            key.display()
        );
    });
    let token = stand.token("bot", "agents");
    for option in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id"] {
        let haproxy = Haproxy::start(option, stand.gateway.port);
        // From another address of loopback, which the header must bring.
        let script = format!(
            "import pymysql, ssl\n\
             c = pymysql.connect(host='127.0.0.1', port={}, user='bot', password='{token}', database='shop',\n\
             \x20   bind_address='127.0.0.77', ssl={{'ca': '{}', 'check_hostname': False}})\n\
             k = c.cursor(); k.execute('SELECT COUNT(*) FROM customers'); print(k.fetchone())\n",
            haproxy.port,
            pair.path().join("rowgate.crt").display(),
        );
        let mut python = Command::new("python3");
        python.args(["-c", &script]).env("PYTHONPATH", sh::root().join("target/python"));
        let output = python.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("2000"), "{option}: {}\n{}", errors(&output), stand.gateway.log());
        assert_eq!(recorded_source(&stand), "127.0.0.77");
    }
    // Its health checks come with a header as well, and are nobody's failed login.
    assert!(!stand.gateway.log().contains("without a PROXY header"));
}

#[test]
fn the_database_is_told_the_client_s_address_and_no_other_s() {
    let stand = Stand::after(
        Flavour::MariaDb,
        &["--proxy-protocol-networks=127.0.0.1"],
        |database| {
            let (user, password) = (mariadb::SERVICE_USER, mariadb::SERVICE_PASSWORD);
            let sql = format!(
                "CREATE USER {user}@'192.0.2.%' IDENTIFIED BY '{password}'; \
                 GRANT ALL ON *.* TO {user}@'192.0.2.%'"
            );
            database.sql(&sql).unwrap();
        },
        |options| {
            trusting(options);
            options.workers = 1;
            options.upstream_tls = "tls = \"off\"\nproxy_protocol = true".to_owned();
        },
    );
    let token = stand.token("bot", "dumpers");
    let ask = |source: &str| {
        let relay = Relay::announcing(stand.gateway.port, &v1(source));
        let answer =
            through(relay.port(), &stand, &token, "SELECT USER(), CONNECTION_ID()").unwrap();
        let (user, id) = answer.split_once('\t').unwrap();
        (user.to_owned(), id.to_owned())
    };
    // Its own is kept for it: sooner or later one comes again.
    let mut kept = HashSet::new();
    wait_for("a connection lent again", || {
        let (user, id) = ask("192.0.2.7");
        assert_eq!(user, "rowgate@192.0.2.7");
        (!kept.insert(id)).then_some(())
    });
    // Whether or not they are back in the pool by now, another client gets none of them.
    std::thread::sleep(Duration::from_millis(300));
    let (user, id) = ask("192.0.2.8");
    assert_eq!(user, "rowgate@192.0.2.8");
    assert!(!kept.contains(&id), "a connection of another client was lent");
    // The database decides by that address, and the gateway's own connections are its own.
    let relay = Relay::announcing(stand.gateway.port, &v1("203.0.113.5"));
    let refused = through(relay.port(), &stand, &token, "SELECT USER()").unwrap_err();
    assert!(refused.contains("RG-UPSTREAM"), "{refused}");
    let own = stand
        .database
        .sql("SELECT COUNT(*) FROM information_schema.processlist WHERE host LIKE '127.0.0.1%'");
    assert_ne!(own.unwrap().trim(), "0");
}
