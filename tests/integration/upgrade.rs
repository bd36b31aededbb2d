//! A gateway that ends, and the one after it: who is told in time, who waits, and that nobody is refused.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::SockRef;
use xtask::gateway::{Gateway, Options, prepare};
use xtask::{mariadb, setup, sh};

use crate::stand::{Flavour, Stand, binary, errors, shop_database, wait_for};

/// A `rowgate` to which this is passed on, as systemd does it, each time that it serves.
fn passing(folder: &Path, listener: &impl AsRawFd) -> PathBuf {
    let script = format!(
        "#!/bin/bash\nif [ \"$1\" = serve ]; then\n  export LISTEN_FDS=1 LISTEN_PID=$$\n  \
         exec {binary} \"$@\" 3<&{fd}\nfi\nexec {binary} \"$@\"\n",
        fd = listener.as_raw_fd(),
        binary = binary().display(),
    );
    let path = folder.join("passing.sh");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Lets children have it.
fn inherited(socket: &SockRef<'_>) {
    socket.set_cloexec(false).unwrap();
}

/// Clients of a stock driver that connect, ask, and go, all the time, until there is a file `stop`.
struct Clients {
    child: Option<Child>,
    stop: PathBuf,
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = fs::write(&self.stop, "");
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const CLIENTS: &str = r#"
import json, os, pymysql, sys, threading, time
where, user, token, stop = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
served, failed, slowest = [], [], [0.0]
def ask():
    began = time.monotonic()
    try:
        db = pymysql.connect(user=user, password=token, database="shop", connect_timeout=90, read_timeout=90, **where)
        with db.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM customers")
            served.append(cursor.fetchone()[0] == 2000)
        db.close()
    except Exception as error:
        failed.append(repr(error))
    slowest[0] = max(slowest[0], time.monotonic() - began)
def loop():
    while not os.path.exists(stop):
        ask()
        time.sleep(0.1)
threads = [threading.Thread(target=loop) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps({"served": sum(served), "failed": failed, "slowest_s": slowest[0]}))
"#;

impl Clients {
    /// Starts them. `at`: PyMySQL's words for where.
    fn start(folder: &Path, at: &str, token: &str) -> Self {
        let stop = folder.join("stop");
        let _ = fs::remove_file(&stop);
        let mut python = Command::new("python3");
        python.args(["-c", CLIENTS, at, "bot", token]).arg(&stop);
        python.env("PYTHONPATH", setup::pymysql().unwrap()).stdin(Stdio::null());
        let child = python.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { child: Some(child), stop }
    }

    /// Ends them: how many were served, and what the others were told.
    fn end(mut self) -> (u64, Vec<Value>, f64) {
        fs::write(&self.stop, "").unwrap();
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let failed = said["failed"].as_array().unwrap().clone();
        (said["served"].as_u64().unwrap(), failed, said["slowest_s"].as_f64().unwrap())
    }
}

/// A database, and a gateway over it to which its listeners are passed on.
struct Passed {
    gateway: Gateway,
    folder: tempfile::TempDir,
    _database: mariadb::Server,
}

fn start_passed(driver: &str, socket: Option<&Path>, listener: &impl AsRawFd, port: u16) -> Passed {
    let folder = tempfile::tempdir().unwrap();
    let database = shop_database(folder.path());
    let mut options = Options::new(database.port());
    driver.clone_into(&mut options.driver);
    "drain_notice_s = 10".clone_into(&mut options.server);
    if let Some(path) = socket {
        options.upstream_tls.push_str(&format!("\nsocket = \"{}\"", path.display()));
    }
    let dir = folder.path().join("gateway");
    let admin_port = mariadb::free_port().unwrap();
    prepare(&dir, port, admin_port, &options).unwrap();
    let wrapper = passing(folder.path(), listener);
    let mut gateway = Gateway::start_unready(&wrapper, &dir, port, admin_port).unwrap();
    gateway.wait_until("/readyz", Duration::from_mins(2)).unwrap();
    Passed { gateway, folder, _database: database }
}

fn nobody_is_refused_while_the_gateway_is_replaced(driver: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    inherited(&SockRef::from(&listener));
    let port = listener.local_addr().unwrap().port();
    let mut passed = start_passed(driver, None, &listener, port);
    let token = passed.gateway.token("bot", "agents").unwrap();
    let at = format!("{{\"host\": \"127.0.0.1\", \"port\": {port}}}");
    let clients = Clients::start(passed.folder.path(), &at, &token);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_secs(1));
        assert!(passed.gateway.terminate().unwrap().success(), "{}", passed.gateway.log());
        passed.gateway.start_again().unwrap();
    }
    std::thread::sleep(Duration::from_secs(1));
    let (served, failed, slowest_s) = clients.end();
    assert!(failed.is_empty(), "{failed:?}\n{}", passed.gateway.log());
    eprintln!("{driver}: {served} served, the slowest in {slowest_s:.1} s, none refused");
    assert!(served > 40, "{served}");
}

#[test]
fn nobody_is_refused_while_the_gateway_is_replaced_on_io_uring() {
    nobody_is_refused_while_the_gateway_is_replaced("auto");
}

#[test]
fn nobody_is_refused_while_the_gateway_is_replaced_on_epoll() {
    nobody_is_refused_while_the_gateway_is_replaced("epoll");
}

#[test]
fn a_unix_socket_is_passed_on_with_the_rights_that_the_configuration_lets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.sock");
    let listener = UnixListener::bind(&path).unwrap();
    inherited(&SockRef::from(&listener));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let port = mariadb::free_port().unwrap();
    let mut passed = start_passed("auto", Some(&path), &listener, port);
    let token = passed.gateway.token("bot", "agents").unwrap();
    let at = format!("{{\"unix_socket\": \"{}\"}}", path.display());
    let clients = Clients::start(passed.folder.path(), &at, &token);
    std::thread::sleep(Duration::from_secs(1));
    assert!(passed.gateway.terminate().unwrap().success());
    assert!(path.exists(), "the socket's file is systemd's, and went with the gateway");
    passed.gateway.start_again().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let (served, failed, _) = clients.end();
    assert!(failed.is_empty() && served > 10, "{served}: {failed:?}");

    assert!(passed.gateway.terminate().unwrap().success());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let output = serve(&passed.gateway, &passed.folder.path().join("passing.sh"));
    let error = errors(&output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("targets.shop.socket: ") && error.contains("666"), "{error}");
}

/// Serves a gateway's folder, which must end by itself.
fn serve(gateway: &Gateway, binary: &Path) -> Output {
    let mut serve = Command::new(binary);
    serve.args(["serve", "--config"]).arg(gateway.dir().join("rowgate.toml"));
    serve.env("ROWGATE_DEMO_PASSWORD", mariadb::SERVICE_PASSWORD).output().unwrap()
}

#[test]
fn what_no_target_listens_on_is_not_passed_on_in_vain() {
    let mut stand = Stand::start();
    stand.gateway.terminate().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    inherited(&SockRef::from(&listener));
    let wrapper = passing(stand.folder.path(), &listener);
    let output = serve(&stand.gateway, &wrapper);
    let error = errors(&output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    let address = listener.local_addr().unwrap();
    assert!(error.contains(&format!("targets: {address} was passed on")), "{error}");
    let file = fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let output = serve(&stand.gateway, &passing(stand.folder.path(), &file));
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("is no listener"), "{}", errors(&output));
}

#[test]
fn readyz_says_at_once_that_the_gateway_ends_while_statements_finish() {
    let mut stand = Stand::start();
    let token = stand.token("bot", "agents");
    let running = stand.spawn_sql("bot", &token, "SELECT SLEEP(3), COUNT(*) FROM customers");
    wait_for("the statement", || {
        let list = stand.gateway.cli_ok(&["sessions", "list", "--output", "json"]).unwrap();
        list.contains("\"running\"").then_some(())
    });
    stand.gateway.signal("-TERM").unwrap();
    let since = Instant::now();
    wait_for("503", || stand.gateway.get("/readyz").is_ok_and(|(s, _)| s == 503).then_some(()));
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    assert_eq!(stand.gateway.metric("rowgate_ready ").unwrap(), Some(0.0));
    assert!(!stand.sql("bot", &token, "SELECT 1").status.success());
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("2000"));
    assert!(since.elapsed() > Duration::from_secs(1), "the statement was over already");
    assert!(stand.gateway.terminate().unwrap().success());
}

#[test]
fn a_notice_lets_clients_in_while_readyz_says_that_it_ends() {
    let mut stand = Stand::with(|options| "drain_notice_s = 3".clone_into(&mut options.server));
    let token = stand.token("bot", "agents");
    let since = Instant::now();
    stand.gateway.signal("-TERM").unwrap();
    wait_for("503", || stand.gateway.get("/readyz").is_ok_and(|(s, _)| s == 503).then_some(()));
    stand.sql_ok("bot", &token, "SELECT COUNT(*) FROM customers");
    let status = stand.gateway.cli_ok(&["status"]).unwrap();
    assert!(status.contains("told to end"), "{status}");
    wait_for("its end", || stand.gateway.get("/readyz").is_err().then_some(()));
    assert!(since.elapsed() >= Duration::from_secs(3), "{:?}", since.elapsed());
    stand.gateway.start_again().unwrap();
    // Told twice, it has no time.
    let since = Instant::now();
    stand.gateway.signal("-TERM").unwrap();
    wait_for("503", || stand.gateway.get("/readyz").is_ok_and(|(s, _)| s == 503).then_some(()));
    assert!(stand.gateway.terminate().unwrap().success());
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
}

/// What systemd is told by a gateway of `Type=notify`.
#[test]
fn systemd_is_told_when_it_serves_and_when_it_ends() {
    let mut stand = Stand::start();
    assert!(stand.gateway.terminate().unwrap().success());
    let path = stand.folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_mins(2))).unwrap();
    let told = || {
        let mut text = [0; 256];
        let length = socket.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).trim().to_owned()
    };
    let wrapper = stand.folder.path().join("notifying.sh");
    let script =
        format!("#!/bin/sh\nNOTIFY_SOCKET={} exec {} \"$@\"\n", path.display(), binary().display());
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let (port, admin) = (stand.gateway.port, stand.gateway.admin_port);
    let dir = stand.gateway.dir().to_path_buf();
    let mut gateway = Gateway::start_unready(&wrapper, &dir, port, admin).unwrap();
    assert_eq!(told(), "READY=1");
    let token = gateway.token("bot", "agents").unwrap();
    let mut client = gateway.client("bot", &token);
    assert!(client.args(["-e", "SELECT 1"]).status().unwrap().success(), "ready, it said");
    assert!(gateway.terminate().unwrap().success());
    assert_eq!(told(), "STOPPING=1");
}

/// A process that ends with the test, however that ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const HAPROXY: &str = "deploy/haproxy/haproxy.cfg";

/// The shipped configuration in front of two gateways: one is replaced, and nobody notices.
#[test]
fn behind_haproxy_nobody_is_refused_while_one_of_two_gateways_is_replaced() {
    let notice = "drain_notice_s = 2\nproxy_protocol_from = [\"127.0.0.1\"]";
    let mut one = Stand::with(|options| notice.clone_into(&mut options.server));
    let token = one.token("bot", "agents");
    let two = two_over(&one, notice);
    let port = mariadb::free_port().unwrap();
    let config = fs::read_to_string(sh::root().join(HAPROXY)).unwrap();
    let ours = config
        .replace("10.0.0.11:3307 check port 9307", &at(&one.gateway))
        .replace("10.0.0.12:3307 check port 9307", &at(&two))
        .replace("bind :3306", &format!("bind 127.0.0.1:{port}"));
    assert!(ours.matches("127.0.0.1").count() >= 3, "{ours}");
    let file = one.folder.path().join("haproxy.cfg");
    fs::write(&file, ours).unwrap();
    let haproxy = sh::find_program("haproxy").unwrap();
    let output = Command::new(&haproxy).arg("-c").arg("-f").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", sh::said(&output));
    let mut balancer = Command::new(&haproxy);
    balancer.arg("-db").arg("-f").arg(&file).stdin(Stdio::null());
    let log = fs::File::create(one.folder.path().join("haproxy.log")).unwrap();
    balancer.stdout(log.try_clone().unwrap()).stderr(log);
    let balancer = Ended(balancer.spawn().unwrap());
    let through = || {
        let mut client = one.client("bot", &token);
        client.arg(format!("--port={port}")).args(["-e", "SELECT 1"]).output().unwrap()
    };
    wait_for("a gateway", || through().status.success().then_some(()));
    let place = format!("{{\"host\": \"127.0.0.1\", \"port\": {port}}}");
    let clients = Clients::start(one.folder.path(), &place, &token);
    for _ in 0..2 {
        std::thread::sleep(Duration::from_secs(2));
        assert!(one.gateway.terminate().unwrap().success());
        std::thread::sleep(Duration::from_secs(1));
        one.gateway.start_again().unwrap();
    }
    std::thread::sleep(Duration::from_secs(2));
    let (served, failed, slowest_s) = clients.end();
    drop(balancer);
    assert!(failed.is_empty(), "{failed:?}\n{}", one.gateway.log());
    eprintln!("{served} served, the slowest in {slowest_s:.1} s, none refused");
    assert!(served > 80 && slowest_s < 10.0, "{served} {slowest_s}");
    let both =
        [&one.gateway, &two].map(|g| g.metric("rowgate_logins_total{result=\"ok\"}").unwrap());
    assert!(both.iter().all(|logins| logins.is_some_and(|n| n > 10.0)), "{both:?}");
}

/// Where HAProxy finds a gateway, as the shipped file has it.
fn at(gateway: &Gateway) -> String {
    format!("127.0.0.1:{} check port {}", gateway.port, gateway.admin_port)
}

/// A second gateway over the database of the first, which knows the same token: its store begins as a copy.
fn two_over(one: &Stand, server: &str) -> Gateway {
    let mut options = Options::new(one.database.port());
    server.clone_into(&mut options.server);
    let dir = one.folder.path().join("two");
    let (port, admin_port) = (mariadb::free_port().unwrap(), mariadb::free_port().unwrap());
    prepare(&dir, port, admin_port, &options).unwrap();
    for name in ["rowgate.db", "rowgate.db-wal"] {
        let _ = fs::copy(one.gateway.dir().join(name), dir.join(name));
    }
    let mut two = Gateway::start_unready(&binary(), &dir, port, admin_port).unwrap();
    two.wait_until("/readyz", Duration::from_mins(2)).unwrap();
    two
}

#[test]
fn mysql_s_python_driver_goes_to_the_second_host_where_the_first_is_gone() {
    let mut one = Stand::on(Flavour::MariaDb);
    let token = one.token("bot", "agents");
    let two = two_over(&one, "");
    let script = format!(
        "import mysql.connector as m\n\
         hosts = [{{'host': '127.0.0.1', 'port': {}, 'priority': 2}}, {{'host': '127.0.0.1', 'port': {}, 'priority': 1}}]\n\
         db = m.connect(user='bot', password='{token}', database='shop', failover=hosts)\n\
         c = db.cursor()\nc.execute('SELECT COUNT(*) FROM customers')\nprint(c.fetchone()[0], db.server_port)\n",
        one.gateway.port, two.port
    );
    let ask = || {
        let mut python = Command::new("python3");
        python.args(["-c", &script]).env("PYTHONPATH", setup::connector().unwrap());
        let output = python.output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(ask(), format!("2000 {}", one.gateway.port));
    one.gateway.terminate().unwrap();
    assert_eq!(ask(), format!("2000 {}", two.port));
}
