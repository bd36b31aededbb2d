//! What runs a gateway day by day: what is counted, and how the command line ends.

use std::process::Command;

use crate::stand::{Stand, errors, wait_for};

#[test]
fn pending_approvals_are_counted() {
    let stand = Stand::with(|options| options.wait_s = 1);
    let token = stand.token("bot", "agents");
    let pending = || stand.gateway.metric("rowgate_approvals_pending ").unwrap();
    assert_eq!(pending(), Some(0.0));
    stand.sql_refused("bot", &token, "DROP TABLE payments");
    wait_for("the count", || (pending() == Some(1.0)).then_some(()));
    let id = stand.pending();
    stand.gateway.cli_ok(&["approvals", "deny", &id, "--reason", "no"]).unwrap();
    wait_for("the count", || (pending() == Some(0.0)).then_some(()));
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let stand = Stand::start();
    // An empty record has nothing to write to a full disk.
    let tail = || stand.gateway.cli_ok(&["audit", "tail"]).unwrap();
    wait_for("a record", || (!tail().is_empty()).then_some(()));
    for verb in ["audit tail", "token list", "completions bash", "status --output json"] {
        let config = stand.gateway.dir().join("rowgate.toml");
        let line = format!(
            "{} --config {} {verb} 2>&1 >/dev/full; {0} --config {1} {verb} | true",
            crate::stand::binary().display(),
            config.display()
        );
        let output = Command::new("bash").args(["-o", "pipefail", "-c", &line]).output().unwrap();
        let full = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{verb}: {output:?}");
        assert_eq!(errors(&output), "", "{verb}");
        assert!(full.starts_with("rowgate: standard output: "), "{verb}: {full}");
    }
}
