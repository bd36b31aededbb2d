//! Bad input: one line that names the file, the key and the mend; exit code 2. A database that is down: up, but
//! not ready, and says so.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use xtask::gateway::{self, Gateway, Options};
use xtask::mariadb;

use crate::stand::{binary, errors, shop_database};

fn serve(dir: &Path) -> Output {
    Command::new(binary())
        .args(["serve", "--config"])
        .arg(dir.join("rowgate.toml"))
        .env("ROWGATE_DEMO_PASSWORD", "x")
        .output()
        .unwrap()
}

fn prepared(change: impl Fn(&mut Options)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(mariadb::free_port().unwrap());
    change(&mut options);
    let (port, admin) = (mariadb::free_port().unwrap(), mariadb::free_port().unwrap());
    gateway::prepare(folder.path(), port, admin, &options).unwrap();
    folder
}

/// It ends with code 2 and one line that has all these words.
fn refused(output: &Output, words: &[&str]) {
    let text = errors(output);
    let complaints: Vec<_> = text.lines().filter(|line| line.starts_with("rowgate: ")).collect();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(complaints.len(), 1, "{text}");
    for word in words {
        assert!(complaints[0].contains(word), "{word:?} is not in {:?}", complaints[0]);
    }
}

#[test]
fn a_wrong_key() {
    let folder = prepared(|options| options.more = "[approvalz]\nwait_s = 5\n".to_owned());
    refused(&serve(folder.path()), &["rowgate.toml", "approvalz", "approvals"]);
}

#[test]
fn an_unreadable_policy() {
    let folder = prepared(|_| {});
    fs::write(folder.path().join("policy.cedar"), "permit (principal, action").unwrap();
    refused(&serve(folder.path()), &["policy.cedar"]);
    fs::remove_file(folder.path().join("policy.cedar")).unwrap();
    refused(&serve(folder.path()), &["policy.cedar"]);
}

#[test]
fn a_plugin_that_is_none() {
    let folder = prepared(|options| {
        options.plugins =
            "[[plugins]]\nname = \"mask-standard\"\npath = \"nothing.wasm\"\n".to_owned();
    });
    refused(&serve(folder.path()), &["nothing.wasm"]);
    fs::write(folder.path().join("nothing.wasm"), b"\0asm\x01\0\0\0").unwrap();
    refused(&serve(folder.path()), &["nothing.wasm", "component"]);
    let other = gateway::plugin_of_another_version().unwrap();
    fs::write(folder.path().join("nothing.wasm"), other).unwrap();
    refused(&serve(folder.path()), &["nothing.wasm", "plugins.path", "@0.9.0", "wit/v1"]);
}

#[test]
fn a_port_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = Options::new(mariadb::free_port().unwrap());
    gateway::prepare(folder.path(), port, mariadb::free_port().unwrap(), &options).unwrap();
    refused(&serve(folder.path()), &["rowgate.toml", "listen", &port.to_string()]);
}

#[test]
fn check_reads_everything() {
    let folder = prepared(|_| {});
    let check = || {
        Command::new(binary())
            .args(["check", "--config"])
            .arg(folder.path().join("rowgate.toml"))
            .env("ROWGATE_DEMO_PASSWORD", "x")
            .output()
            .unwrap()
    };
    let output = check();
    assert!(output.status.success(), "{}", errors(&output));
    fs::write(folder.path().join("policy.cedar"), "forbid (principal, action, resource);").unwrap();
    refused(&check(), &["policy.cedar", "@id"]);
}

#[test]
fn check_and_serve_refuse_the_same() {
    let key = tempfile::tempdir().unwrap();
    let made = Command::new(binary())
        .args(["cert", "self-signed", "--host", "localhost", "--out"])
        .arg(key.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", errors(&made));
    let open = key.path().join("rowgate.key");
    fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let key = key.path().display();
    let tls = format!("[tls]\ncertificate = \"{key}/rowgate.crt\"\nkey = \"{key}/rowgate.key\"\n");
    let cases: [(&str, &str, &str, &[&str]); 5] = [
        ("[admin]", "[log]\nlevel = \"rowgate=loud\"\n[admin]", "", &["log.level"]),
        ("tls = \"off\"", "tls = \"off\"\nclient_tls = \"required\"", "", &["client_tls", "[tls]"]),
        ("[admin]", "[keys]\nk = \"env:NO_SUCH_VARIABLE\"\n[admin]", "", &["keys.k", "NO_SUCH"]),
        (
            "",
            "",
            "[tls]\ncertificate = \"no.pem\"\nkey = \"no.key\"\n",
            &["tls.certificate", "no.pem"],
        ),
        ("", "", &tls, &["tls.key", "chmod"]),
    ];
    for (from, to, more, words) in cases {
        let folder = prepared(|options| options.more = more.to_owned());
        let file = folder.path().join("rowgate.toml");
        let text = fs::read_to_string(&file).unwrap();
        if !from.is_empty() {
            fs::write(&file, text.replace(from, to)).unwrap();
        }
        let mut check = Command::new(binary());
        check.args(["check", "--config"]).arg(&file).env("ROWGATE_DEMO_PASSWORD", "x");
        for output in [check.output().unwrap(), serve(folder.path())] {
            refused(&output, &[&["rowgate.toml"], words].concat());
        }
    }
}

#[test]
fn a_store_that_is_none() {
    let folder = prepared(|_| {});
    fs::write(folder.path().join("rowgate.db"), "notes, not a database. ".repeat(99)).unwrap();
    refused(&serve(folder.path()), &["rowgate.toml", "store.path", "rowgate.db", "not a database"]);
}

#[test]
fn two_gateways_over_one_record() {
    let folder = prepared(|_| {});
    let (port, admin) = (mariadb::free_port().unwrap(), mariadb::free_port().unwrap());
    gateway::prepare(folder.path(), port, admin, &Options::new(1)).unwrap();
    let mut first = Gateway::start_unready(&binary(), folder.path(), port, admin).unwrap();
    first.wait_until("/healthz", Duration::from_mins(1)).unwrap();
    let other = prepared(|options| options.audit_dir = Some(folder.path().join("audit")));
    refused(&serve(other.path()), &["audit.dir", "another gateway"]);
    first.cli_ok(&["audit", "verify"]).unwrap();
}

#[test]
fn a_database_that_is_down_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = shop_database(folder.path());
    let port = database.port();
    database.kill().unwrap();
    let dir = folder.path().join("gateway");
    let (client_port, admin_port) = (mariadb::free_port().unwrap(), mariadb::free_port().unwrap());
    gateway::prepare(&dir, client_port, admin_port, &Options::new(port)).unwrap();
    let mut gateway = Gateway::start_unready(&binary(), &dir, client_port, admin_port).unwrap();
    gateway.wait_until("/healthz", Duration::from_mins(1)).unwrap();
    let (status, body) = gateway.get("/readyz").unwrap();
    assert_eq!(status, 503);
    assert!(body.contains("shop"), "/readyz says which target is down: {body}");
    let _database =
        mariadb::Server::start_again(&folder.path().join("mariadb"), port, &[]).unwrap();
    gateway.wait_until("/readyz", Duration::from_mins(1)).unwrap();
    let token = gateway.token("bot", "agents").unwrap();
    let output = gateway.client("bot", &token).args(["-e", "SELECT 1"]).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
}
