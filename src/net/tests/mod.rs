//! The data path against a real MariaDB and the stock client, on both drivers.

mod database;
mod raw;
mod stand;

use std::io::Write as _;
use std::process::Output;
use std::time::Duration;

use super::driver;
use crate::config::{Driver, UpstreamTls};
use crate::net::records::tests::certificate;
use raw::{Raw, query};
use stand::{Options, Stand, errors, wait_for};

const DRIVERS: [Driver; 2] = [Driver::Epoll, Driver::IoUring];

/// Runs a test on both drivers.
fn on_both(test: impl Fn(Stand)) {
    for driver in DRIVERS {
        if let Some(stand) = Stand::start(Options::new(driver)) {
            test(stand);
        }
    }
}

#[test]
fn statements_results_and_errors() {
    on_both(|stand| {
        assert_eq!(stand.ok("SELECT 40 + 2"), "42");
        assert_eq!(stand.ok("SELECT DATABASE()"), "shop");
        assert_eq!(stand.ok("SELECT COUNT(*) FROM item"), "2000");
        assert_eq!(stand.ok("USE mysql; SELECT DATABASE()"), "mysql");
        assert!(stand.refused("SELECT nonsense").contains("1054"));
        // an error leaves the connection usable
        let both = piped(&stand, &["--force"], "SELECT nonsense;\nSELECT 7;\n");
        assert_eq!(both, "7");
    });
}

#[test]
fn long_results_and_long_statements_arrive_whole() {
    on_both(|stand| {
        let sql = "SELECT seq, REPEAT('x', 1 + seq % 300), MD5(seq) FROM mysql.seq_1_to_60000";
        let (ours, direct) = (stand.sql(sql), stand.database.sql(sql));
        assert!(ours.status.success(), "{}", errors(&ours));
        assert!(ours.stdout == direct.stdout, "{} bytes", ours.stdout.len());
        let wide = "SELECT REPEAT('y', 12000000)";
        assert_eq!(stand.ok(wide).len(), 12_000_000);
        for len in [400, 511, 512, 600, 65_536, 120_000] {
            let sql = format!("SELECT LENGTH('{}')", "z".repeat(len));
            assert_eq!(stand.ok(&sql), len.to_string());
        }
        let input = format!("SELECT LENGTH('{}')", "z".repeat(3 << 20));
        assert_eq!(piped(&stand, &["--max-allowed-packet=64M"], &input), (3 << 20).to_string());
    });
}

fn piped(stand: &Stand, arguments: &[&str], sql: &str) -> String {
    use std::process::Stdio;
    let mut client = stand.client(&["--user=bot", "--password=rgt_test"]);
    client.args(arguments);
    let mut child =
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(sql.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

#[test]
fn a_wrong_token_is_refused_and_rate_limited() {
    let Some(stand) = Stand::start(Options::new(Driver::Epoll)) else { return };
    let login = |password: &str| -> Output {
        let password = format!("--password={password}");
        stand.client(&["--user=bot", &password, "-e", "SELECT 1"]).output().unwrap()
    };
    for _ in 0..6 {
        let error = errors(&login("wrong"));
        assert!(error.contains("1045") && error.contains("28000"), "{error}");
    }
    let right = login("rgt_test");
    assert!(errors(&right).contains("1045"), "the limit is over the address");
}

#[test]
fn both_legs_inside_tls() {
    for driver in DRIVERS {
        let mut options = Options::new(driver);
        let (config, pem) = certificate();
        let folder = tempfile::tempdir().unwrap();
        let server = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&cert, server.cert.pem()).unwrap();
        std::fs::write(&key, server.signing_key.serialize_pem()).unwrap();
        options.database = vec![
            format!("--ssl-cert={}", cert.display()),
            format!("--ssl-key={}", key.display()),
            "--require-secure-transport=ON".to_owned(),
        ];
        let ca = server.cert.pem();
        let mode = UpstreamTls::VerifyIdentity;
        options.upstream_tls =
            super::upstream_config(&mode, "localhost", Some(ca.as_bytes()), None).unwrap();
        options.client_tls = Some(config);
        let Some(stand) = Stand::start(options) else { continue };
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, pem).unwrap();
        let ca = format!("--ssl-ca={}", ca.display());
        let run = |sql: &str| {
            let arguments = ["--user=bot", "--password=rgt_test", &ca, "--ssl", "-e", sql];
            let output = stand.client(&arguments).output().unwrap();
            assert!(output.status.success(), "{}", errors(&output));
            output.stdout
        };
        assert_eq!(run("SELECT 40 + 2"), b"42\n");
        let sql = "SELECT seq, REPEAT('x', 1 + seq % 300) FROM mysql.seq_1_to_30000";
        assert!(run(sql) == stand.database.sql(sql).stdout);
        let cipher = "SHOW STATUS LIKE 'Ssl_cipher'";
        assert!(String::from_utf8_lossy(&run(cipher)).contains("TLS_"));
    }
}

#[test]
fn nothing_is_left_for_the_next_session() {
    on_both(|stand| {
        let dirty = "SET @left = 1; CREATE TEMPORARY TABLE shop.t (a INT); BEGIN; \
                     SET SESSION sql_mode = 'ANSI_QUOTES'; SELECT CONNECTION_ID()";
        let first = stand.ok(dirty);
        wait_for("the same connection's return", || stand.ok("SELECT CONNECTION_ID()") == first);
        assert_eq!(stand.ok("SELECT @left IS NULL, @@in_transaction"), "1\t0");
        assert!(stand.refused("SELECT * FROM shop.t").contains("1146"));
        let names =
            "SELECT @@character_set_client, @@collation_connection, @@character_set_results";
        let fresh =
            stand.client(&["--user=bot", "--password=rgt_test", "-e", names]).output().unwrap();
        assert_eq!(stand.ok(names), String::from_utf8_lossy(&fresh.stdout).trim_end());
    });
}

#[test]
fn a_connection_given_back_in_a_database_is_not_lent_to_who_is_in_none() {
    on_both(|stand| {
        let mut raw = Raw::login(stand.port);
        let mut in_database = |sql: &str| {
            raw.0.write_all(&query(sql)).unwrap();
            raw.packet()
        };
        assert_eq!(in_database("USE shop").first(), Some(&0));
        raw.change_user();
        // the pool lends to who has the same capabilities
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(50));
            let mut next = Raw::login(stand.port);
            next.0.write_all(&query("SELECT IFNULL(DATABASE(), 'none')")).unwrap();
            assert_eq!(next.answer(), "none");
        }
    });
}

#[test]
fn a_guess_that_never_answers_counts_as_a_failed_login() {
    let mut options = Options::new(Driver::Epoll);
    let (config, pem) = certificate();
    options.client_tls = Some(config);
    let Some(stand) = Stand::start(options) else { return };
    for _ in 0..5 {
        raw::guess_over_tls(stand.port, &pem);
    }
    wait_for("the count", || stand.net.as_ref().unwrap().session_count() == 0);
    assert!(stand.refused("SELECT 1").contains("1045"), "the limit is over the address");
}

#[test]
fn a_dead_client_s_statement_is_killed() {
    on_both(|stand| {
        // not SLEEP, which looks after its client by itself
        let mut client = stand.spawn("SELECT BENCHMARK(1000000000000, MD5('x'))");
        wait_for("the query", || stand.database.processes().contains("BENCHMARK"));
        client.kill().unwrap();
        client.wait().unwrap();
        wait_for("its end", || !stand.database.processes().contains("BENCHMARK"));
    });
}

#[test]
fn sessions_are_listed_and_killed() {
    on_both(|stand| {
        let client = stand.spawn("SELECT SLEEP(300)");
        wait_for("the query", || stand.database.processes().contains("SLEEP(300)"));
        let net = stand.net.as_ref().unwrap();
        let listed = net.sessions();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].identity.as_str(), listed[0].state), ("bot", "running"));
        assert!(net.kill(listed[0].id));
        let output = client.wait_with_output().unwrap();
        assert!(errors(&output).contains("RG-KILLED"), "{}", errors(&output));
        wait_for("its end", || net.sessions().is_empty());
        wait_for("its end upstream", || !stand.database.processes().contains("SLEEP(300)"));
        assert!(!net.kill(1));
    });
}

#[test]
fn a_drain_lets_the_running_statement_finish() {
    on_both(|mut stand| {
        let client = stand.spawn("SELECT SLEEP(1), 40 + 2");
        wait_for("the query", || stand.database.processes().contains("SLEEP(1)"));
        stand.net.take().unwrap().drain(Duration::from_secs(30));
        let output = client.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "0\t42\n", "{}", errors(&output));
        assert!(stand.refused("SELECT 1").contains("2002"), "nothing listens any more");
    });
}

#[test]
fn a_drain_s_deadline_ends_what_still_runs() {
    on_both(|mut stand| {
        let client = stand.spawn("SELECT SLEEP(300)");
        wait_for("the query", || stand.database.processes().contains("SLEEP(300)"));
        stand.net.take().unwrap().drain(Duration::from_millis(200));
        let output = client.wait_with_output().unwrap();
        assert!(errors(&output).contains("1053"), "{}", errors(&output));
        wait_for("its end upstream", || !stand.database.processes().contains("SLEEP(300)"));
    });
}

#[test]
fn a_database_that_dies_or_is_down_is_named() {
    on_both(|mut stand| {
        let client = stand.spawn("SELECT SLEEP(300)");
        wait_for("the query", || stand.database.processes().contains("SLEEP(300)"));
        stand.database.kill();
        let output = client.wait_with_output().unwrap();
        assert!(errors(&output).contains("1158"), "{}", errors(&output));
        assert!(stand.refused("SELECT 1").contains("RG-UPSTREAM"));
        let health = stand.net.as_ref().unwrap().health();
        assert!(health[0].consecutive_failures > 0 && !health[0].last_error.is_empty());
    });
}

#[test]
fn one_connection_serves_many_sessions_in_turn() {
    for driver in DRIVERS {
        let mut options = Options::new(driver);
        options.max_upstream = 1;
        let Some(stand) = Stand::start(options) else { continue };
        let clients: Vec<_> = (0..6).map(|_| stand.spawn("SELECT SLEEP(0.05), 7")).collect();
        for client in clients {
            let output = client.wait_with_output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), "0\t7\n", "{}", errors(&output));
        }
    }
}

#[test]
fn too_many_connections_and_slow_logins_are_ended() {
    let mut options = Options::new(Driver::Auto);
    options.limits.max_connections = 1;
    options.limits.login_timeout = Duration::from_millis(300);
    let Some(stand) = Stand::start(options) else { return };
    let silent = std::net::TcpStream::connect(("127.0.0.1", stand.port)).unwrap();
    wait_for("its session", || stand.net.as_ref().unwrap().session_count() == 1);
    assert!(stand.refused("SELECT 1").contains("1040"));
    wait_for("the end of its patience", || stand.net.as_ref().unwrap().session_count() == 0);
    drop(silent);
    assert_eq!(stand.ok("SELECT 1"), "1");
}

#[test]
fn prepared_statements_of_many_drivers_at_once() {
    use mysql_async::prelude::Queryable as _;
    on_both(|stand| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = format!("mysql://bot:{}@127.0.0.1:{}/shop", stand::TOKEN, stand.port);
        let one = |n: usize| {
            let url = url.clone();
            async move {
                let mut client = mysql_async::Conn::from_url(url).await.unwrap();
                for id in n + 1..n + 40 {
                    let sql = "SELECT name FROM item WHERE id = ?";
                    let name: Option<String> = client.exec_first(sql, (id,)).await.unwrap();
                    assert_eq!(name.unwrap(), format!("item number {id}"));
                    let sql = format!("SELECT REPEAT('x', {})", id * 37);
                    let text: Option<String> = client.query_first(sql).await.unwrap();
                    assert_eq!(text.unwrap(), "x".repeat(id * 37));
                }
                client.disconnect().await.unwrap();
            }
        };
        runtime.block_on(async {
            let clients: Vec<_> = (0..15).map(|n| tokio::spawn(one(n * 7))).collect();
            for client in clients {
                client.await.unwrap();
            }
        });
    });
}

#[test]
fn every_intent_has_its_completion_in_the_record() {
    use crate::audit::read::Folder;
    use crate::record::{Completion, Recorded, RecordedIntent};
    let Some(mut stand) = Stand::start(Options::new(Driver::Auto)) else { return };
    stand.ok("SELECT 1; SELECT 2; INSERT INTO item VALUES (5000, 'x'); SELECT COUNT(*) FROM item");
    stand.refused("SELECT nonsense");
    let mut client = stand.spawn("SELECT SLEEP(300)");
    wait_for("the query", || stand.database.processes().contains("SLEEP(300)"));
    client.kill().unwrap();
    client.wait().unwrap();
    wait_for("its end", || stand.net.as_ref().unwrap().session_count() == 0);
    let dir = stand.end();
    let (mut opened, mut closed, mut intents, mut completions) = (0, 0, Vec::new(), Vec::new());
    for found in Folder::new(dir.path().join("audit")).records().unwrap() {
        match found.unwrap().record.event {
            Recorded::SessionOpened(_) => opened += 1,
            Recorded::SessionClosed { .. } => closed += 1,
            Recorded::Intent(RecordedIntent { session, statement, .. }) => {
                intents.push((session, statement));
            }
            Recorded::Completion(Completion { session, statement, .. }) => {
                completions.push((session, statement));
            }
            _ => {}
        }
    }
    assert_eq!((opened, closed), (3, 3));
    // each of the three sessions chose its database at the login, which is a statement too
    assert_eq!(intents.len(), 3 + 4 + 1 + 1);
    assert_eq!(intents, completions);
}

#[test]
fn a_held_statement_runs_once_approved_and_not_when_denied() {
    on_both(|stand| {
        let dropping = stand.ask("DROP TABLE item");
        let id = stand.pending();
        assert_eq!(stand.net.as_ref().unwrap().sessions()[0].state, "held");
        assert_eq!(stand.ok("SELECT COUNT(*) FROM item"), "2000");
        stand.vote(&id, false);
        let output = dropping.wait_with_output().unwrap();
        assert!(errors(&output).contains("RG-REFUSED"), "{}", errors(&output));
        let dropping = stand.ask("DROP TABLE item");
        stand.vote(&stand.pending(), true);
        let output = dropping.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        assert!(stand.refused("SELECT COUNT(*) FROM item").contains("1146"));
    });
}

#[test]
fn a_client_that_dies_while_it_waits_calls_its_request_off() {
    on_both(|stand| {
        let mut dropping = stand.ask("DROP TABLE item");
        stand.pending();
        dropping.kill().unwrap();
        dropping.wait().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        wait_for("the request's end", || {
            runtime.block_on(stand.store.pending_approvals()).unwrap() == 0
        });
        assert_eq!(stand.ok("SELECT COUNT(*) FROM item"), "2000");
    });
}

#[test]
fn inside_a_transaction_or_with_a_lock_there_is_a_ticket_instead_of_a_wait() {
    on_both(|stand| {
        for holding in ["BEGIN", "SELECT GET_LOCK('x', 0)", "LOCK TABLES item WRITE"] {
            let sql = format!("{holding}; DROP TABLE item");
            let asked = std::time::Instant::now();
            let output = stand.ask(&sql).wait_with_output().unwrap();
            assert!(errors(&output).contains("RG-TICKET"), "{holding}: {}", errors(&output));
            assert!(asked.elapsed() < Duration::from_secs(30), "{holding}: it waited");
        }
        assert_eq!(stand.ok("SELECT COUNT(*) FROM item"), "2000");
    });
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    on_both(|stand| {
        let mut raw = Raw::login(stand.port);
        let many: Vec<u8> = (0..20).flat_map(|n| query(&format!("SELECT {n}"))).collect();
        raw.0.write_all(&[query("SELECT SLEEP(0.1)"), many].concat()).unwrap();
        assert_eq!(raw.answer(), "0");
        for n in 0..20 {
            assert_eq!(raw.answer(), n.to_string());
        }
        // more than a session takes in while it waits for the database
        let long = query(&format!("SELECT LENGTH('{}')", "q".repeat(200_000))).repeat(4);
        let mut sender = raw.0.try_clone().unwrap();
        raw.0.write_all(&query("SELECT SLEEP(0.1)")).unwrap();
        let sending = std::thread::spawn(move || sender.write_all(&long).unwrap());
        assert_eq!(raw.answer(), "0");
        for _ in 0..4 {
            assert_eq!(raw.answer(), "200000");
        }
        sending.join().unwrap();
    });
}

#[test]
fn commands_in_any_chunking() {
    on_both(|stand| {
        let mut raw = Raw::login(stand.port);
        raw.0.set_nodelay(true).unwrap();
        for byte in query("SELECT 40 + 2") {
            raw.0.write_all(&[byte]).unwrap();
        }
        assert_eq!(raw.answer(), "42");
        // around the sizes of the buffers
        for len in [507, 508, 509, 1_024, 65_531, 65_532, 65_533] {
            let mut sql = "SELECT 7 -- ".to_owned();
            sql.push_str(&"x".repeat(len - sql.len()));
            raw.0.write_all(&query(&sql).repeat(2)).unwrap();
            assert_eq!((raw.answer(), raw.answer()), ("7".to_owned(), "7".to_owned()), "{len}");
        }
    });
}
