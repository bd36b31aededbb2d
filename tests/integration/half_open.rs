//! Peers that vanish without a word: a link is cut between network namespaces, and nobody is told.

use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};

use xtask::{mariadb, sh};

use crate::stand::{Flavour, Stand, errors, wait_for};

/// A machine of its own at the other end of a link; taken down when dropped.
struct Apart {
    name: String,
    subnet: u32,
}

impl Apart {
    /// `None` where this process may not make one.
    fn new(subnet: u32) -> Option<Self> {
        assert!(subnet < 3, "three to a process");
        // Tests of several processes at once each have their own.
        let subnet = (std::process::id() % 80) * 3 + subnet;
        let apart = Self { name: format!("rg{}-{subnet}", std::process::id()), subnet };
        if !ip(&format!("netns add {}", apart.name)) {
            eprintln!(
                "LEFT OUT: no network namespaces here (they need root), so no link can be cut"
            );
            return None;
        }
        let Self { name, .. } = &apart;
        for line in [
            format!("link add rgh{subnet} type veth peer name rgg{subnet} netns {name}"),
            format!("addr add {}/30 dev rgh{subnet}", apart.here()),
            format!("link set rgh{subnet} up"),
            format!("-n {name} addr add {}/30 dev rgg{subnet}", apart.there()),
            format!("-n {name} link set rgg{subnet} up"),
            format!("-n {name} link set lo up"),
        ] {
            assert!(ip(&line), "ip {line}");
        }
        Some(apart)
    }

    /// This machine's address on the link.
    fn here(&self) -> String {
        format!("10.213.{}.1", self.subnet)
    }

    fn there(&self) -> String {
        format!("10.213.{}.2", self.subnet)
    }

    /// Runs a Python script there.
    fn python(&self, script: &str) -> Child {
        let mut python = Command::new("ip");
        python.args(["netns", "exec", &self.name, "python3", "-u", "-c", script]);
        python.env("PYTHONPATH", sh::root().join("target/python"));
        python.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Nothing passes any more, in either direction.
    fn cut(&self) {
        assert!(ip(&format!("-n {} link set rgg{} down", self.name, self.subnet)));
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        ip(&format!("link del rgh{}", self.subnet));
        ip(&format!("netns del {}", self.name));
    }
}

fn ip(line: &str) -> bool {
    Command::new("ip")
        .args(line.split(' '))
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn clients_that_vanish(driver: &str, subnet: u32) {
    let Some(apart) = Apart::new(subnet) else { return };
    let stand = Stand::with(|options| {
        driver.clone_into(&mut options.driver);
        "0.0.0.0".clone_into(&mut options.listen_host);
        options.upstream_tls.push_str("\nclient_tls = \"optional\"");
        "keepalive_s = 1\nwrite_timeout_s = 2".clone_into(&mut options.server);
    });
    let token = stand.token("bot", "agents");
    let connect = format!(
        "import pymysql, time\n\
         c = pymysql.connect(host='{}', port={}, user='bot', password='{token}', database='shop')\n\
         k = c.cursor()\n",
        apart.here(),
        stand.gateway.port
    );
    let idle = apart.python(&format!("{connect}k.execute('SELECT 1')\ntime.sleep(600)\n"));
    let busy = apart
        .python(&format!("{connect}k.execute(\"SELECT BENCHMARK(1000000000000, MD5('x'))\")\n"));
    let sessions = || stand.gateway.metric("rowgate_sessions").unwrap().unwrap();
    let runs = || stand.database.sql("SHOW PROCESSLIST").unwrap().contains("BENCHMARK");
    wait_for("both sessions", || (sessions() > 1.5 && runs()).then_some(()));
    // A peer that is there answers by itself: nothing ends for being silent.
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert!(sessions() > 1.5 && runs(), "{}", stand.gateway.log());
    apart.cut();
    wait_for("the end of both", || (sessions() < 0.5).then_some(()));
    wait_for("the end of the statement", || (!runs()).then_some(()));
    end(idle);
    end(busy);
}

#[test]
fn clients_that_vanish_are_found_on_epoll() {
    clients_that_vanish("epoll", 0);
}

#[test]
fn clients_that_vanish_are_found_on_the_best_driver() {
    clients_that_vanish("auto", 1);
}

/// Carries each connection to the database on this machine.
fn relay(apart: &Apart, port: u16) -> Child {
    let mut script = String::new();
    let (there, here) = (apart.there(), apart.here());
    let _ = write!(
        script,
        "import socket, threading\n\
         def carry(a, b):\n\
         \x20   try:\n\
         \x20       while data := a.recv(65536): b.sendall(data)\n\
         \x20       b.shutdown(socket.SHUT_WR)\n\
         \x20   except OSError: pass\n\
         listener = socket.create_server(('{there}', {port}))\n\
         while True:\n\
         \x20   a, _ = listener.accept()\n\
         \x20   b = socket.create_connection(('{here}', {port}))\n\
         \x20   for pair in ((a, b), (b, a)): threading.Thread(target=carry, args=pair, daemon=True).start()\n"
    );
    apart.python(&script)
}

#[test]
fn a_database_that_vanishes_is_found() {
    let Some(apart) = Apart::new(2) else { return };
    let pair = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec![apart.there()]).unwrap();
    let [certificate, key] = ["db.pem", "db.key"].map(|name| pair.path().join(name));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (certificate, key) = (certificate.display(), key.display());
    let extra = [
        "--bind-address=*".to_owned(),
        format!("--ssl-cert={certificate}"),
        format!("--ssl-key={key}"),
    ];
    let extra: Vec<&str> = extra.iter().map(String::as_str).collect();
    let mut carried = None;
    let stand = Stand::after(
        Flavour::MariaDb,
        &extra,
        |database| {
            let (user, password) = (mariadb::SERVICE_USER, mariadb::SERVICE_PASSWORD);
            let sql = format!(
                "CREATE USER {user}@'10.213.%' IDENTIFIED BY '{password}'; GRANT ALL ON *.* TO {user}@'10.213.%'"
            );
            database.sql(&sql).unwrap();
            carried = Some(relay(&apart, database.port()));
        },
        |options| {
            options.address = Some(format!("{}:{}", apart.there(), options.database_port));
            options.upstream_tls = format!("tls = \"verify-ca\"\ntls_ca = \"{certificate}\"");
            "keepalive_s = 1\nconnect_timeout_s = 2".clone_into(&mut options.server);
        },
    );
    let token = stand.token("bot", "agents");
    let mut waiting = stand.spawn_sql("bot", &token, "SELECT BENCHMARK(1000000000000, MD5('x'))");
    wait_for("the statement", || {
        stand.database.sql("SHOW PROCESSLIST").unwrap().contains("BENCHMARK").then_some(())
    });
    apart.cut();
    wait_for("the client's answer", || waiting.try_wait().unwrap());
    let output = waiting.wait_with_output().unwrap();
    assert!(errors(&output).contains("1158"), "{}", errors(&output));
    // What is down is said within connect_timeout_s, not after the kernel's two minutes.
    let error = stand.sql_refused("bot", &token, "SELECT COUNT(*) FROM customers");
    assert!(error.contains("RG-UPSTREAM"), "{error}");
    end(carried.unwrap());
}
