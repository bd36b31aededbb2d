//! When something breaks: a clear error for the client, and nothing raw released.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use xtask::shop;

use crate::stand::{Flavour, Stand, errors, on_both, wait_for};

on_both!(the_database_dies_in_mid_query, the_client_dies_and_its_statement_is_killed);

fn the_database_dies_in_mid_query(flavour: Flavour) {
    if flavour == Flavour::MySql && xtask::mysql::is_elsewhere() {
        return;
    }
    let mut stand = Stand::on(flavour);
    let token = stand.token("bot", "agents");
    let running = stand.spawn_sql("bot", &token, "SELECT SLEEP(30)");
    wait_for("the query upstream", || {
        let list = stand.database.sql("SHOW PROCESSLIST").ok()?;
        list.contains("SLEEP(30)").then_some(())
    });
    stand.database.kill();
    let error = errors(&running.wait_with_output().unwrap());
    assert!(error.contains("1158") && error.contains("RG-UPSTREAM"), "{error}");
    let down = stand.sql_refused("bot", &token, "SELECT 1");
    assert!(down.contains("RG-UPSTREAM"), "{down}");
    wait_for("not ready", || (stand.gateway.get("/readyz").unwrap().0 == 503).then_some(()));
    stand.database.start_again(stand.folder.path());
    stand.gateway.wait_until("/readyz", Duration::from_mins(1)).unwrap();
    assert!(stand.sql_ok("bot", &token, "SELECT 40 + 2").contains("42"));
}

fn the_client_dies_and_its_statement_is_killed(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("bot", "agents");
    stand.a_statement_dies_with_its_client(&token);
}

/// A small file system of its own, unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(path: &Path) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(path)
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(path.to_path_buf()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_audit_disk_refuses_and_recovers() {
    let small = tempfile::tempdir().unwrap();
    let Some(disk) = Tmpfs::mount(&small.path().join("disk")) else {
        eprintln!("left out: mounting a tmpfs needs root and a mount namespace that allows it");
        return;
    };
    let stand = Stand::with(|options| options.audit_dir = Some(disk.0.join("audit")));
    let token = stand.token("bot", "agents");
    stand.sql_ok("bot", &token, "SELECT 1");
    let ballast = disk.0.join("ballast");
    let _ = fs::write(&ballast, vec![0_u8; 1 << 20]); // takes what is left, then fails
    let refused = wait_for("the refusal", || {
        let output = stand.sql("bot", &token, "SELECT id FROM customers WHERE id = 1");
        (!output.status.success()).then(|| errors(&output))
    });
    assert!(refused.contains("RG-AUDIT"), "{refused}");
    let before = stand.database.sql("SELECT COUNT(*) FROM shop.orders").unwrap();
    let insert = "INSERT INTO orders VALUES (90001, 1, '2026-01-01', 'new', 5)";
    assert!(stand.sql_refused("bot", &token, insert).contains("RG-AUDIT"));
    assert_eq!(stand.database.sql("SELECT COUNT(*) FROM shop.orders").unwrap(), before);
    assert_eq!(stand.gateway.get("/readyz").unwrap().0, 503);
    fs::remove_file(&ballast).unwrap();
    wait_for("the recovery", || {
        stand.sql("bot", &token, "SELECT 1").status.success().then_some(())
    });
    stand.gateway.cli_ok(&["audit", "verify"]).unwrap();
}

/// A gateway whose `mask-standard` is one of the misbehaving test components.
fn with_bad_plugin(name: &str) -> (Stand, String) {
    let stand = Stand::with(|options| {
        let bad = xtask::sh::root().join(format!("target/plugins/test/{name}.wasm"));
        assert!(bad.exists(), "{} is missing: run `cargo xtask plugins`", bad.display());
        let good = xtask::sh::root().join("target/plugins/mask-standard.wasm");
        let (bad, good) = (bad.display().to_string(), good.display().to_string());
        options.plugins = options.plugins.replace(&good, &bad);
    });
    let token = stand.token("bot", "agents");
    (stand, token)
}

fn bad_plugin_ends_in_an_error(name: &str) {
    let (stand, token) = with_bad_plugin(name);
    let output = stand.sql("bot", &token, "SELECT id, ssn, card_number FROM customers");
    let (text, error) = (String::from_utf8_lossy(&output.stdout).into_owned(), errors(&output));
    assert!(!output.status.success(), "{name}: {text}");
    assert!(error.contains("RG-PLUGIN"), "{name}: {error}");
    for customer in (1..=shop::CUSTOMERS).map(shop::customer) {
        assert!(!text.contains(&customer.ssn) && !text.contains(&customer.card_number));
    }
    assert!(stand.sql_ok("bot", &token, "SELECT COUNT(*) FROM orders").contains("6000"));
}

#[test]
fn a_plugin_that_loops_for_ever() {
    bad_plugin_ends_in_an_error("loops");
}

#[test]
fn a_plugin_that_allocates_without_end() {
    bad_plugin_ends_in_an_error("allocates");
}

#[test]
fn a_plugin_that_returns_too_few_cells() {
    bad_plugin_ends_in_an_error("too-few");
}

#[test]
fn a_plugin_that_traps() {
    bad_plugin_ends_in_an_error("traps");
}

#[test]
fn a_drain_lets_the_running_statement_finish() {
    let mut stand = Stand::start();
    let token = stand.token("bot", "agents");
    let running = stand.spawn_sql("bot", &token, "SELECT SLEEP(2), 40 + 2 AS answer");
    wait_for("the query upstream", || {
        stand.database.sql("SHOW PROCESSLIST").unwrap().contains("SLEEP(2)").then_some(())
    });
    let status = stand.gateway.terminate().unwrap();
    assert!(status.success(), "{status}\n{}", stand.gateway.log());
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("42"));
}

#[test]
fn what_a_client_took_before_it_hung_up_is_in_the_record() {
    let stand = Stand::start();
    let token = stand.token("bot", "agents");
    let sql = "SELECT a.id, a.ssn FROM customers AS a JOIN orders AS b ON b.id < 500";
    let mut client = stand.gateway.client("bot", &token);
    client.args(["--batch", "--quick", "--database=shop", "-e", sql]);
    let mut client = client.stdout(Stdio::piped()).spawn().unwrap();
    let mut taken = vec![0; 1 << 20];
    std::io::Read::read_exact(client.stdout.as_mut().unwrap(), &mut taken).unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    let rows = String::from_utf8_lossy(&taken).matches('\n').count() as u64;
    let told = wait_for("the completion", || {
        let tail = stand.gateway.cli_ok(&["audit", "tail", "-n", "2", "--output", "json"]).unwrap();
        let line = tail.lines().find(|line| line.contains("\"completion\""))?.to_owned();
        tail.contains("\"lost\"").then_some(line)
    });
    let at = told.find("\"rows\":").unwrap() + 7;
    let counted: String = told[at..].chars().take_while(char::is_ascii_digit).collect();
    assert!(counted.parse::<u64>().unwrap() >= rows - 1, "{rows} rows taken: {told}");
}
