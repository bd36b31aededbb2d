//! What runs a gateway day by day: metrics that Prometheus takes, alerts over names that exist, signals.

use std::io::Write as _;
use std::process::{Command, Stdio};

use xtask::sh;

use crate::stand::{Stand, errors, wait_for};

#[test]
fn metrics_are_well_formed_and_alerts_are_over_metrics_that_exist() {
    let stand = Stand::start();
    let token = stand.token("bot", "agents");
    stand.sql_ok("bot", &token, "SELECT ssn FROM customers LIMIT 1");
    let (_, text) = stand.gateway.get("/metrics").unwrap();
    let rules = sh::root().join("deploy/prometheus/rowgate.rules.yml");
    let alerts = std::fs::read_to_string(&rules).unwrap();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for name in alerts.split(|c| !is_name(c)).filter(|word| word.starts_with("rowgate_")) {
        let family = name.trim_end_matches("_bucket");
        assert!(text.contains(&format!("# TYPE {family} ")), "no metric is called {family}");
    }
    assert!(!text.contains("bot"), "an identity is in the metrics");
    let Some(promtool) = sh::find_program("promtool") else {
        eprintln!("left out: promtool is not installed (Debian's package prometheus has it)");
        return;
    };
    let mut check = Command::new(&promtool);
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let output = Command::new(&promtool).args(["check", "rules"]).arg(&rules).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

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
