//! Swapping policies: the next statement is under the new one; a bad one keeps the old and says why.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use xtask::{sh, shop};

use crate::stand::{Stand, wait_for};

#[test]
fn a_swap_reaches_the_next_statement_of_a_live_connection() {
    let stand = Stand::start();
    let token = stand.token("bot", "agents");
    let mut client = stand.gateway.client("bot", &token);
    client.args(["--batch", "--unbuffered", "--skip-column-names"]);
    let mut child = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut ask = || {
        writeln!(input, "SELECT card_number FROM shop.customers WHERE id = 1;").unwrap();
        input.flush().unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let card = shop::customer(1).card_number;
    assert_ne!(ask(), card);
    let serial = || stand.gateway.metric("rowgate_policy_serial").unwrap();
    let before = serial();
    let file = stand.gateway.dir().join("policy.cedar");
    fs::copy(sh::root().join("policies/open-cards.cedar"), &file).unwrap();
    wait_for("the swap", || (serial() != before).then_some(()));
    assert_eq!(ask(), card);

    let good = serial();
    fs::write(&file, "permit (principal, action").unwrap();
    stand.gateway.signal("-HUP").unwrap();
    wait_for("the refusal", || stand.gateway.log().contains("policy.cedar").then_some(()));
    let failures = || stand.gateway.metric("rowgate_policy_reload_failures_total").unwrap();
    wait_for("the metric", || (failures().unwrap_or(0.0) >= 1.0).then_some(()));
    assert_eq!(serial(), good, "a bad file must keep the old snapshot");
    assert_eq!(ask(), card);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_new_table_is_known_before_its_first_select() {
    let stand = Stand::start();
    let dba = stand.token("dora", "dba");
    let sql = "CREATE TABLE shop.fresh (id INT PRIMARY KEY); INSERT INTO shop.fresh VALUES (7); SELECT id FROM shop.fresh";
    assert!(stand.sql_ok("dora", &dba, sql).contains('7'));
}

#[test]
fn the_record_tells_who_did_what_and_holds_together() {
    let stand = Stand::start();
    let token = stand.token("bot", "agents");
    stand.sql_ok("bot;run=42", &token, "SELECT ssn FROM customers WHERE id = 9");
    let tail = stand.gateway.cli_ok(&["audit", "tail", "-n", "20", "--output", "json"]).unwrap();
    for wanted in ["\"bot\"", "42", "mask", "shop.customers"] {
        assert!(tail.contains(wanted), "{wanted} is not in the record:\n{tail}");
    }
    assert!(!tail.contains(&shop::customer(9).ssn), "a cell's value is in the record");
    stand.gateway.cli_ok(&["audit", "verify"]).unwrap();
    let dir = stand.gateway.dir().join("audit");
    let segment = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "rgseg"))
        .unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let output = stand.gateway.cli(&["audit", "verify"]).unwrap();
    assert_eq!(output.status.code(), Some(1), "an edited record must not verify");
}
