//! Swapping policies: the next statement is under the new one; a bad one keeps the old and says why.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use xtask::{sh, shop};

use crate::stand::{Flavour, Stand, on_both, wait_for};

on_both!(
    a_swap_reaches_the_next_statement_of_a_live_connection,
    a_new_table_is_known_before_its_first_select,
    texts_of_errors_are_withheld_once_labelled_data_was_used,
);

fn a_swap_reaches_the_next_statement_of_a_live_connection(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("bot", "agents");
    let mut client = stand.client("bot", &token);
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

/// Even where a policy permits SHOW WARNINGS to whoever has masks: they may quote what was masked.
fn texts_of_errors_are_withheld_once_labelled_data_was_used(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let file = stand.gateway.dir().join("policy.cedar");
    let text = fs::read_to_string(&file).unwrap();
    let at = text.find("@id(\"agents-diagnostics\")").unwrap();
    let end = at + text[at..].find("resource);").unwrap() + "resource);".len();
    let permit = "@id(\"all-diagnostics\")\npermit (principal, action == Action::\"diagnostics\", resource);";
    fs::write(&file, format!("{}{permit}{}", &text[..at], &text[end..])).unwrap();
    stand.gateway.cli_ok(&["reload"]).unwrap();
    let token = stand.token("bot", "agents");
    let plain = stand.sql_ok("bot", &token, "SELECT id / 0 FROM orders LIMIT 1; SHOW WARNINGS");
    assert!(plain.contains("1365"), "{plain}");
    for asks in ["SHOW WARNINGS", "SHOW ERRORS", "SHOW COUNT(*) WARNINGS", "SHOW WARNINGS LIMIT 1"]
    {
        let sql =
            format!("SELECT ssn FROM customers LIMIT 1; SELECT id / 0 FROM orders LIMIT 1; {asks}");
        let refused = stand.sql_refused("bot", &token, &sql);
        assert!(refused.contains("withheld-diagnostics"), "{asks}: {refused}");
    }
}

fn a_new_table_is_known_before_its_first_select(flavour: Flavour) {
    let stand = Stand::on(flavour);
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

/// Polls until a reload was refused for the `count`th time, and its text is in the log.
fn refused_reloads(stand: &Stand, count: f64, text: &str) {
    let failures = || stand.gateway.metric("rowgate_policy_reload_failures_total").unwrap();
    wait_for("the metric", || (failures().unwrap_or(0.0) >= count).then_some(()));
    assert!(stand.gateway.log().contains(text), "{text} is not in {}", stand.gateway.log());
}

#[test]
fn files_that_go_missing_or_break_are_told_and_taken_up_again() {
    let stand = Stand::start();
    let dir = stand.gateway.dir().to_path_buf();
    let version = |status: &str| {
        let line = status.lines().find(|line| line.starts_with("policy")).unwrap().to_owned();
        line.split_whitespace().nth(1).map(str::to_owned)
    };
    let status = || stand.gateway.cli_ok(&["status"]).unwrap();
    let first = version(&status()).expect("the first policy has a version too");

    let policy = dir.join("policy.cedar");
    let text = fs::read(&policy).unwrap();
    fs::remove_file(&policy).unwrap();
    refused_reloads(&stand, 1.0, "policy.cedar");
    assert!(status().contains("the last reload failed"), "{}", status());
    fs::write(&policy, text).unwrap();
    wait_for("the recovery", || (!status().contains("reload failed")).then_some(()));

    let config = dir.join("rowgate.toml");
    let good = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{good}\n[approvalz]\n")).unwrap();
    refused_reloads(&stand, 2.0, "approvalz");
    // who mends it still reaches the gateway that runs
    assert!(status().contains("approvalz"), "{}", status());
    std::thread::sleep(std::time::Duration::from_secs(2));
    let failures = stand.gateway.metric("rowgate_policy_reload_failures_total").unwrap();
    assert_eq!(failures, Some(2.0), "told once, not at every look");
    fs::write(&config, &good).unwrap();
    wait_for("the recovery", || (!status().contains("reload failed")).then_some(()));
    assert_eq!(version(&status()), Some(first));
    let tail = stand.gateway.cli_ok(&["audit", "tail", "-n", "99"]).unwrap();
    assert!(tail.contains("live, by start") && tail.contains("live, by a changed file"), "{tail}");
}

#[test]
fn a_reload_takes_peers_and_keys_and_says_what_waits_for_a_restart() {
    let stand = Stand::start();
    let token = stand.token("bot", "agents");
    let config = stand.gateway.dir().join("rowgate.toml");
    let good = fs::read_to_string(&config).unwrap();
    let key = stand.folder.path().join("key");
    fs::write(&key, "0123456789abcdef").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&key, mode).unwrap();
    let changed = good
        .replace("groups = [\"approvers\", \"admins\"]", "groups = [\"admins\"]")
        .replace("wait_s = 50", "wait_s = 40");
    fs::write(&config, format!("{changed}\n[keys]\nk = \"file:{}\"\n", key.display())).unwrap();
    let policy = stand.gateway.dir().join("policy.cedar");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text.replace("@mask(\"redact\")", "@mask(\"hash:k\")")).unwrap();
    let said = stand.gateway.cli_ok(&["reload"]).unwrap();
    assert!(said.contains("approvals take effect at a restart"), "{said}");
    assert!(!said.contains("admin"), "{said}");

    let hashed = stand.sql_ok("bot", &token, "SELECT email FROM customers WHERE id = 1");
    let hash = hashed.lines().nth(1).unwrap();
    assert!(hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{hashed}");
    // a key that was rotated is taken up, too
    fs::write(&key, "another key").unwrap();
    stand.gateway.cli_ok(&["reload"]).unwrap();
    assert_ne!(stand.sql_ok("bot", &token, "SELECT email FROM customers WHERE id = 1"), hashed);

    let mut held = stand.spawn_sql("bot", &token, "DROP TABLE payments");
    let id = stand.pending();
    let refused = stand.gateway.cli(&["approvals", "approve", &id]).unwrap();
    assert!(!refused.status.success(), "who is no approver any more has approved");
    held.kill().unwrap();
    held.wait().unwrap();
}
