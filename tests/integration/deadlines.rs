//! Deadlines: who is gone or takes nothing holds no statement.

use std::process::Stdio;

use crate::stand::{Stand, wait_for};

/// Far more than the sockets on the way hold.
const LONG: &str = "SELECT REPEAT('x', 1000000) FROM customers";

fn running(stand: &Stand) -> bool {
    stand.database.sql("SHOW PROCESSLIST").unwrap().contains("REPEAT('x', 1000000)")
}

fn a_client_that_reads_nothing(driver: &str) {
    let stand = Stand::with(|options| {
        driver.clone_into(&mut options.driver);
        "write_timeout_s = 2".clone_into(&mut options.server);
    });
    // So that it is not the database that loses patience.
    stand.database.sql("SET GLOBAL net_write_timeout = 3600").unwrap();
    let token = stand.token("bot", "agents");
    let mut client = stand.gateway.client("bot", &token);
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
    a_client_that_reads_nothing("epoll");
}

#[test]
fn a_client_that_reads_nothing_is_ended_on_the_best_driver() {
    a_client_that_reads_nothing("auto");
}
