//! Deadlines: who is gone or takes nothing holds no statement.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use crate::stand::{Flavour, Stand, errors, on_both, wait_for};

/// Far more than the sockets on the way hold.
const LONG: &str = "SELECT REPEAT('x', 1000000) FROM customers";

fn running(stand: &Stand) -> bool {
    stand.database.sql("SHOW PROCESSLIST").unwrap().contains("REPEAT('x', 1000000)")
}

fn a_client_that_reads_nothing(driver: &str, by_socket: bool) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("shop.sock");
    let stand = Stand::with(|options| {
        options.upstream_tls.push_str(&format!("\nsocket = \"{}\"", socket.display()));
        driver.clone_into(&mut options.driver);
        "write_timeout_s = 2".clone_into(&mut options.server);
    });
    // So that it is not the database that loses patience.
    stand.database.sql("SET GLOBAL net_write_timeout = 3600").unwrap();
    let token = stand.token("bot", "agents");
    let mut client = stand.gateway.client("bot", &token);
    if by_socket {
        client
            .args(["--host=localhost", "--protocol=socket"])
            .arg(format!("--socket={}", socket.display()));
    }
    client.args(["--batch", "--quick", "--database=shop", "-e", LONG]);
    // Nobody empties this pipe, so the client stops reading.
    let mut stuck = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the statement upstream", || running(&stand).then_some(()));
    wait_for("its end upstream", || (!running(&stand)).then_some(()));
    assert!(stuck.try_wait().unwrap().is_none(), "the client had gone by itself");
    wait_for("the session's end", || {
        let sessions = stand.gateway.metric("rowgate_sessions").unwrap();
        sessions.is_some_and(|open| open < 0.5).then_some(())
    });
    stuck.kill().unwrap();
    stuck.wait().unwrap();
    stand.sql_ok("bot", &token, "SELECT 1");
}

#[test]
fn a_client_that_reads_nothing_is_ended_on_epoll() {
    a_client_that_reads_nothing("epoll", false);
}

#[test]
fn a_client_that_reads_nothing_is_ended_on_the_best_driver() {
    a_client_that_reads_nothing("auto", false);
}

#[test]
fn a_client_that_reads_nothing_on_a_unix_socket_is_ended() {
    a_client_that_reads_nothing("epoll", true);
    a_client_that_reads_nothing("auto", true);
}

on_both!(an_idle_session_is_ended_with_a_word, a_statement_that_takes_too_long_is_ended);

fn an_idle_session_is_ended_with_a_word(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| {
        "idle_timeout_s = 2".clone_into(&mut options.server);
    });
    let token = stand.token("bot", "agents");
    let mut client = stand.client("bot", &token);
    client.args(["--batch", "-N", "-n", "--skip-reconnect", "--database=shop"]);
    client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = client.spawn().unwrap();
    let mut typed = client.stdin.take().unwrap();
    // A session that works is not idle, however long it takes.
    typed.write_all(b"SELECT SLEEP(4), 41;\n").unwrap();
    let sessions = || stand.gateway.metric("rowgate_sessions").unwrap().unwrap();
    wait_for("its session", || (sessions() > 0.5).then_some(()));
    wait_for("its end", || (sessions() < 0.5).then_some(()));
    typed.write_all(b"SELECT 42;\n").unwrap();
    drop(typed);
    let output = client.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\t41\n");
    let error = errors(&output);
    assert!(error.contains("4031") && error.contains("RG-IDLE"), "{error}");
    wait_for("its record", || {
        let tail = stand.gateway.cli_ok(&["audit", "tail", "--output", "json"]).unwrap();
        tail.contains("\"idle\"").then_some(())
    });
}

fn a_statement_that_takes_too_long_is_ended(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| {
        options.upstream_tls.push_str("\nstatement_timeout_s = 2");
    });
    let token = stand.token("bot", "agents");
    // One that ends before its first row (not SLEEP, which looks after its client by itself), one among its rows.
    let endless = "SELECT BENCHMARK(1000000000000, SHA2('x', 256))";
    let trickle = "SELECT name, SLEEP(0.01) FROM customers";
    for sql in [endless, trickle] {
        let mut client = stand.spawn_sql("bot", &token, sql);
        wait_for("its answer", || client.try_wait().unwrap());
        let error = errors(&client.wait_with_output().unwrap());
        assert!(error.contains("3024") && error.contains("RG-TIMEOUT"), "{error}");
        let needle = sql.split('(').next().unwrap();
        wait_for("its end upstream", || {
            let runs = stand.database.sql("SHOW FULL PROCESSLIST").unwrap();
            (!runs.contains(needle)).then_some(())
        });
    }
    // The clock is each statement's own, and stops with it.
    let mut client = stand.client("bot", &token);
    let many = "SELECT SLEEP(1); SELECT SLEEP(1); SELECT SLEEP(1); SELECT 42";
    let output = client.args(["--batch", "-N", "--database=shop", "-e", many]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n0\n0\n42\n", "{}", errors(&output));
    // While people think, nothing runs.
    let held = stand.spawn_sql("bot", &token, "DROP TABLE payments");
    let id = stand.pending();
    std::thread::sleep(Duration::from_secs(3));
    stand.gateway.cli_ok(&["approvals", "approve", &id]).unwrap();
    let output = held.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
}
